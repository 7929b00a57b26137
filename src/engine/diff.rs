//! Two runs side by side: which rows have another score or another answer, and what that comes to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::graded::{Graded, Pair};
use super::marked;
use super::publish::Settings;
use super::summary::RunError;
use crate::score::{Pairs, interval};
use crate::store::{Reader, StoreError};
use crate::words::{Comparison, Digest, Metric, ResultLine, Status, Usd};

/// How sure an interval is.
const CONFIDENCE: f64 = 0.95;
/// What is kept of an answer, in characters.
const LONGEST: usize = 300;

/// How two runs differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The earlier run.
    pub before: RunSide,
    /// The later run.
    pub after: RunSide,
    /// How many rows (of an entry of the matrix) both have.
    pub both: u64,
    /// How many only the earlier run has.
    pub only_before: u64,
    /// How many only the later run has.
    pub only_after: u64,
    /// How the scores differ, by the name of the scorer: of those that both runs have.
    pub scorers: Vec<(String, Comparison)>,
    /// The share of rows with another answer or another status.
    pub changed: Metric,
    /// How many rows were asked something else: another prompt, model or parameter.
    pub asked_differently: u64,
    /// Rows that flipped: those that are worse first, then those that are better, then those with another answer.
    pub flips: Vec<Flip>,
    /// How many more of each kind are not listed: worse, better, another answer.
    pub not_listed: [u64; 3],
}

/// One of two runs.
#[derive(Debug, Clone)]
pub struct RunSide {
    /// Its directory.
    pub dir: PathBuf,
    /// Its job.
    pub job: String,
    /// How many rows (of an entry of the matrix) it has.
    pub rows: u64,
    /// What it is known to have cost; `None` where that is not all of it.
    pub cost: Option<Usd>,
    /// The times within which half, 90 % and 99 % of the replies came.
    pub latency_ms: [Option<u64>; 3],
    /// How many lines of its results were answered without a request.
    pub reused: u64,
}

/// A row that flipped.
#[derive(Debug, Clone)]
pub struct Flip {
    /// What names the row.
    pub id: String,
    /// The entry of the later run's matrix, if that has several.
    pub entry: Option<String>,
    /// In what way.
    pub kind: FlipKind,
    /// What it was.
    pub before: RowSeen,
    /// What it is.
    pub after: RowSeen,
}

/// In what way a row flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlipKind {
    /// The score is lower.
    Worse,
    /// The score is higher.
    Better,
    /// The score is the same, the answer or the status is another.
    Changed,
}

impl FlipKind {
    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            FlipKind::Worse => "worse",
            FlipKind::Better => "better",
            FlipKind::Changed => "changed",
        }
    }
}

/// A row in one of the runs.
#[derive(Debug, Clone, Default)]
pub struct RowSeen {
    /// The mean of the first common scorer.
    pub score: Option<f64>,
    /// How its first repeat ended.
    pub status: Option<Status>,
    /// The answer, or its beginning; of several repeats, one after the other.
    pub answer: String,
}

/// Compares the last runs of two directories; at most so many flips are listed.
pub fn diff(before: &Path, after: &Path, limit: usize) -> Result<Difference, RunError> {
    let (one, other) = (Graded::of_run(before)?, Graded::of_run(after)?);
    let scorers = common(&one, &other);
    let (flipped, found) = flips(&one, &other, scorers.first(), limit);
    let shown = |dir: &Path, run: &Graded, unit: fn(&Pair) -> usize| {
        let wanted = flipped.iter().map(|(_, pair)| run.place(unit(pair)));
        look_up(dir, wanted.collect())
    };
    let was = shown(before, &one, |pair| pair.before)?;
    let is = shown(after, &other, |pair| pair.after)?;
    let first = scorers.first();
    let flips = flipped.iter().map(|(kind, pair)| {
        let seen = |run: &Graded, texts: &Texts, unit, scorer: Option<usize>| {
            let (id, mut seen) = texts.get(&run.place(unit)).cloned().unwrap_or_default();
            seen.score = scorer.and_then(|scorer| run.score(unit, scorer));
            (id, seen)
        };
        let (_, before) = seen(&one, &was, pair.before, first.map(|at| at.0));
        let (id, after) = seen(&other, &is, pair.after, first.map(|at| at.1));
        let (_, entry) = other.place(pair.after);
        Flip {
            id,
            entry: (other.entries.len() > 1).then(|| other.entries[entry].clone()),
            kind: *kind,
            before,
            after,
        }
    });
    let listed = |kind: FlipKind| flipped.iter().filter(|(flip, _)| *flip == kind).count() as u64;
    let kinds = [FlipKind::Worse, FlipKind::Better, FlipKind::Changed];
    let both = one.pairs(&other).count() as u64;
    Ok(Difference {
        flips: flips.collect(),
        not_listed: [0, 1, 2].map(|kind| found[kind] - listed(kinds[kind])),
        both,
        only_before: one.units() as u64 - both,
        only_after: other.units() as u64 - both,
        scorers: compared(&one, &other, &scorers),
        changed: changed(&one, &other),
        asked_differently: asked_differently(&one, &other),
        before: RunSide::of(before, &one),
        after: RunSide::of(after, &other),
    })
}

impl RunSide {
    fn of(dir: &Path, run: &Graded) -> Self {
        Self {
            dir: dir.to_owned(),
            job: run.job.clone(),
            rows: run.units() as u64,
            cost: run.cost,
            latency_ms: run.latency_ms,
            reused: run.reused,
        }
    }
}

/// The scorers that both runs have, by their positions in each.
fn common(before: &Graded, after: &Graded) -> Vec<(usize, usize)> {
    let names = after.scorers.iter().enumerate();
    names
        .filter_map(|(at, name)| Some((before.scorer(name)?, at)))
        .collect()
}

fn compared(
    before: &Graded,
    after: &Graded,
    scorers: &[(usize, usize)],
) -> Vec<(String, Comparison)> {
    let compare = |(one, other): &(usize, usize)| {
        let comparison = paired(before, after, *one, *other)
            .0
            .comparison(CONFIDENCE)?;
        Some((after.scorers[*other].clone(), comparison))
    };
    scorers.iter().filter_map(compare).collect()
}

/// The scores of the rows that both runs have, and of how many rows of an entry. The entries of a row are not
/// independent of each other: their mean counts once. One that is asked only where others disagree is left out, since
/// it would count in some rows and not in others.
pub(super) fn paired(before: &Graded, after: &Graded, one: usize, other: usize) -> (Pairs, u64) {
    let (mut pairs, mut units) = (Pairs::default(), 0);
    let mut row: Option<(Digest, [f64; 2], u32)> = None;
    let add = |pairs: &mut Pairs, row: Option<(Digest, [f64; 2], u32)>| {
        if let Some((_, [before, after], entries)) = row {
            pairs.add(before / f64::from(entries), after / f64::from(entries));
        }
    };
    for pair in before
        .pairs(after)
        .filter(|pair| after.is_of_all(pair.after))
    {
        let scores = before
            .score(pair.before, one)
            .zip(after.score(pair.after, other));
        let Some((before, now)) = scores else {
            continue;
        };
        units += 1;
        let (key, _) = after.place(pair.after);
        row = match row {
            Some((same, [sum, sum_now], entries)) if same == key => {
                Some((key, [sum + before, sum_now + now], entries + 1))
            }
            done => {
                add(&mut pairs, done);
                Some((key, [before, now], 1))
            }
        };
    }
    add(&mut pairs, row);
    (pairs, units)
}

/// How many rows of an entry have a score in one of the runs only. What neither has a score of is not missing.
pub(super) fn missing(before: &Graded, after: &Graded, one: usize, other: usize) -> u64 {
    let (then, now) = (after.partners(before), before.partners(after));
    let was = |unit| before.score(unit, one).is_some();
    let is = |unit| after.score(unit, other).is_some();
    let only_now = after
        .of_all()
        .filter(|unit| is(*unit) && !then(*unit).is_some_and(was));
    let only_then = before
        .of_all()
        .filter(|unit| was(*unit) && !now(*unit).is_some_and(is));
    (only_now.count() + only_then.count()) as u64
}

/// The share of the rows that both have in which the answer or the status is another.
pub(super) fn changed(before: &Graded, after: &Graded) -> Metric {
    let (mut changed, mut n) = (0, 0);
    for pair in before.pairs(after) {
        if let Some(differ) = before.answers_differ(after, pair) {
            n += 1;
            changed += u64::from(differ);
        }
    }
    Metric {
        value: if n == 0 {
            0.0
        } else {
            changed as f64 / n as f64
        },
        n,
        interval: (n > 0).then(|| interval::wilson(changed as f64, n, CONFIDENCE)),
    }
}

/// How many rows were asked something else.
pub(super) fn asked_differently(before: &Graded, after: &Graded) -> u64 {
    let pairs = before.pairs(after);
    let others = pairs.filter(|pair| before.asked_differ(after, *pair) == Some(true));
    others.count() as u64
}

/// The flips that are listed, worse ones first, and how many there are of each kind.
fn flips(
    before: &Graded,
    after: &Graded,
    scorer: Option<&(usize, usize)>,
    limit: usize,
) -> (Vec<(FlipKind, Pair)>, [u64; 3]) {
    let mut listed: [Vec<(FlipKind, Pair)>; 3] = Default::default();
    let mut found = [0; 3];
    for pair in before.pairs(after) {
        let scores = scorer.and_then(|(one, other)| {
            before
                .score(pair.before, *one)
                .zip(after.score(pair.after, *other))
        });
        let kind = match scores {
            Some((before, after)) if after < before => FlipKind::Worse,
            Some((before, after)) if after > before => FlipKind::Better,
            _ if before.answers_differ(after, pair) == Some(true) => FlipKind::Changed,
            _ => continue,
        };
        found[kind as usize] += 1;
        let list = &mut listed[kind as usize];
        if list.len() < limit {
            list.push((kind, pair));
        }
    }
    let mut listed: Vec<_> = listed.into_iter().flatten().collect();
    listed.truncate(limit);
    (listed, found)
}

/// Rows by key and entry, with their ids.
type Texts = HashMap<(Digest, usize), (String, RowSeen)>;

/// Reads again what is shown of some rows.
fn look_up(dir: &Path, wanted: Vec<(Digest, usize)>) -> Result<Texts, RunError> {
    let mut texts: Texts = wanted
        .into_iter()
        .map(|place| (place, Default::default()))
        .collect();
    let reader = Reader::open(dir)?;
    let run = reader.last_run()?.ok_or_else(|| StoreError::NoRun {
        dir: dir.to_owned(),
    })?;
    let settings = Settings::read(dir, &run)?;
    marked::for_each(reader.lines(), &settings, |outcome, marks| {
        let Some(marks) = marks else { return };
        let line = ResultLine { outcome, marks };
        let item = &outcome.item;
        let Some((id, seen)) = texts.get_mut(&(item.row.key, item.entry as usize)) else {
            return;
        };
        id.clone_from(&item.row.id);
        seen.status.get_or_insert(outcome.status);
        if item.repeat > 0 {
            seen.answer.push_str(" | ");
        }
        let room = LONGEST.saturating_sub(seen.answer.chars().count());
        let answer = line.answer().unwrap_or_default();
        seen.answer.extend(answer.chars().take(room));
        if answer.chars().nth(room).is_some() {
            seen.answer.push('…');
        }
    })?;
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with these entries, of which a row is the scores of the entries.
    fn run(entries: &[&str], rows: &[&[Option<f64>]]) -> Graded {
        let entries: Vec<String> = entries.iter().map(|name| (*name).to_owned()).collect();
        let mut graded = Graded::new("job", &["equals".to_owned()], &entries);
        for (row, scores) in (0_u64..).zip(rows) {
            graded.add_scores(Digest::of([row.to_le_bytes()]), scores.iter().copied());
        }
        graded
    }

    #[test]
    fn worse_rows_are_listed_first_and_the_rest_is_counted() {
        let [zero, one] = [Some(0.0), Some(1.0)];
        let before = run(&["a"], &[&[zero], &[one], &[one], &[one], &[None]]);
        let after = run(&["b"], &[&[one], &[one], &[zero], &[Some(0.5)], &[one]]);
        let kinds = |limit| {
            let (listed, found) = flips(&before, &after, Some(&(0, 0)), limit);
            let listed: Vec<_> = listed
                .iter()
                .map(|(kind, pair)| (*kind, pair.after))
                .collect();
            (listed, found)
        };
        let (worse, better) = (FlipKind::Worse, FlipKind::Better);
        assert_eq!(
            kinds(9),
            (vec![(worse, 2), (worse, 3), (better, 0)], [2, 1, 0])
        );
        assert_eq!(kinds(1), (vec![(worse, 2)], [2, 1, 0]));
    }

    #[test]
    fn the_entries_of_a_row_count_once_together() {
        let [zero, one] = [Some(0.0), Some(1.0)];
        let before = run(&["a", "b"], &[&[one, one], &[one, one], &[one, None]]);
        let after = run(&["a", "b"], &[&[zero, zero], &[zero, one], &[one, zero]]);
        let (pairs, units) = paired(&before, &after, 0, 0);
        let comparison = pairs.comparison(CONFIDENCE).expect("there are pairs");
        assert_eq!((comparison.n, units), (3, 5));
        assert_eq!((comparison.before, comparison.after), (1.0, 0.5));
        assert_eq!((comparison.better, comparison.worse), (0, 2));
        assert_eq!(missing(&before, &after, 0, 0), 1);
    }

    #[test]
    fn who_is_asked_only_where_the_others_disagree_is_not_in_the_mean_of_a_row() {
        let [zero, one] = [Some(0.0), Some(1.0)];
        let entries = ["a", "b", "escalated"];
        let before = run(&entries, &[&[one, zero, zero], &[one, one, None]]);
        let after = run(&entries, &[&[one, zero, one], &[one, zero, one]]);
        let (pairs, units) = paired(&before, &after, 0, 0);
        let comparison = pairs.comparison(CONFIDENCE).expect("there are pairs");
        assert_eq!((comparison.n, units), (2, 4));
        assert_eq!((comparison.before, comparison.after), (0.75, 0.5));
        assert_eq!((comparison.better, comparison.worse), (0, 1));
        assert_eq!(missing(&before, &after, 0, 0), 0);
    }

    #[test]
    fn what_has_no_score_in_either_run_is_not_missing() {
        let one = Some(1.0);
        let before = run(&["a"], &[&[one], &[None], &[one], &[None]]);
        let after = run(&["a"], &[&[one], &[None], &[None], &[one], &[None]]);
        assert_eq!(missing(&before, &before, 0, 0), 0);
        assert_eq!(missing(&before, &after, 0, 0), 2);
        assert_eq!(missing(&after, &before, 0, 0), 2);
    }
}
