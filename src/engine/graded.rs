//! A run as far as another is compared with it: the score and the answer of each row, in a few bytes a row.

use std::path::Path;

use indexmap::IndexSet;

use super::marked;
use super::publish::Settings;
use super::summary::RunError;
use crate::job::ESCALATED;
use crate::output::Report;
use crate::store::{Lines, Reader, StoreError};
use crate::words::{Digest, Outcome, ResultLine, Usd};

/// The scores and answers of a run. A unit is a row of one entry of the matrix, all its repeats together.
#[derive(Debug, Clone, Default)]
pub(super) struct Graded {
    /// The job's name.
    pub(super) job: String,
    /// The names of the scorers.
    pub(super) scorers: Vec<String>,
    /// The names of the matrix's entries; one without a matrix.
    pub(super) entries: Vec<String>,
    /// The one that is asked only where the others disagree.
    last: Option<usize>,
    /// What the run is known to have cost; `None` where that is not all of it.
    pub(super) cost: Option<Usd>,
    /// The times within which half, 90 % and 99 % of the replies came.
    pub(super) latency_ms: [Option<u64>; 3],
    /// How many lines were answered without a request.
    pub(super) reused: u64,
    /// The rows, by their keys.
    pub(super) rows: IndexSet<Digest>,
    /// The mean scores: for each unit as many as there are scorers. Not a number where there is none.
    scores: Vec<f64>,
    /// How many lines of the last row have been added up in `scores` so far.
    counts: Vec<u32>,
    /// What was answered, and what was asked, for each unit; 0 where that is not known.
    answers: Vec<u64>,
    asked: Vec<u64>,
}

/// A unit of one run, and the unit of the other that it is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Graded {
    /// A run of which no line has been seen.
    pub(super) fn new(job: &str, scorers: &[String], entries: &[String]) -> Self {
        Self {
            job: job.to_owned(),
            scorers: scorers.to_vec(),
            entries: entries.to_vec(),
            last: entries
                .iter()
                .position(|name| name == ESCALATED && entries.len() > 1),
            ..Self::default()
        }
    }

    /// The last run of a directory, whoever writes to it.
    pub(super) fn of_run(dir: &Path) -> Result<Self, RunError> {
        let reader = Reader::open(dir)?;
        let run = reader.last_run()?.ok_or_else(|| StoreError::NoRun {
            dir: dir.to_owned(),
        })?;
        let settings = Settings::read(dir, &run)?;
        Self::of(reader.lines(), &settings)
    }

    /// A run with these lines.
    pub(super) fn of(lines: Lines<'_>, settings: &Settings) -> Result<Self, RunError> {
        let frame = &settings.frame;
        let mut graded = Self::new(&frame.job, &frame.scorers, &frame.entries);
        let escalates = settings.marking.escalates;
        graded.last = graded.last.filter(|_| escalates);
        let mut report = Report::of(frame);
        marked::for_each(lines, settings, |outcome, marks| match marks {
            Some(marks) => {
                let line = ResultLine { outcome, marks };
                graded.add(&line);
                report.add(&line);
            }
            None => report.add_side(outcome),
        })?;
        graded.settle();
        lines.for_each_outside(|outside| {
            report.add_outside(&outside.attempt, outside.ended);
        })?;
        graded.reused = report.from_cache + report.duplicates;
        let spent = report.total().spent;
        graded.cost = (spent.unpriced == 0).then_some(spent.paid);
        graded.latency_ms = [50, 90, 99].map(|percent| report.latency_ms(percent));
        Ok(graded)
    }

    /// Adds a line; they come by row, entry and repeat.
    pub(super) fn add(&mut self, line: &ResultLine<'_>) {
        let item = &line.outcome.item;
        let unit = self.unit(item.row.key, item.entry as usize);
        let scorers = self.scorers.len();
        for (scorer, score) in line.marks.scores.iter().take(scorers).enumerate() {
            let Some(score) = score else { continue };
            let at = unit * scorers + scorer;
            let count = &mut self.counts[item.entry as usize * scorers + scorer];
            match count {
                0 => self.scores[at] = *score,
                _ => self.scores[at] += score,
            }
            *count += 1;
        }
        let answer = [
            line.outcome.status.as_str().as_bytes(),
            line.answer().unwrap_or_default().as_bytes(),
        ];
        mix(&mut self.answers[unit], &answer);
        mix(&mut self.asked[unit], &[fingerprint(line.outcome).as_ref()]);
    }

    /// Adds a row with a score for each entry and scorer.
    pub(super) fn add_scores(
        &mut self,
        row: Digest,
        scores: impl IntoIterator<Item = Option<f64>>,
    ) {
        let first = self.unit(row, 0) * self.scorers.len();
        let of_row = self.entries.len() * self.scorers.len();
        for (at, score) in scores.into_iter().take(of_row).enumerate() {
            self.scores[first + at] = score.unwrap_or(f64::NAN);
        }
    }

    /// The unit of a row and entry; that of a new row is made.
    fn unit(&mut self, row: Digest, entry: usize) -> usize {
        let entries = self.entries.len();
        let (at, is_new) = self.rows.insert_full(row);
        if is_new {
            self.settle();
            let units = self.rows.len() * entries;
            self.scores.resize(units * self.scorers.len(), f64::NAN);
            self.answers.resize(units, 0);
            self.asked.resize(units, 0);
        }
        at * entries + entry
    }

    /// Makes means of the sums of the last row.
    fn settle(&mut self) {
        let cells = self.entries.len() * self.scorers.len();
        let first = self.scores.len().saturating_sub(cells);
        for (score, count) in self.scores[first..].iter_mut().zip(&self.counts) {
            if *count > 1 {
                *score /= f64::from(*count);
            }
        }
        self.counts.clear();
        self.counts.resize(cells, 0);
    }

    /// How many units there are. Not every row has one of an entry that is asked where others disagree.
    pub(super) fn units(&self) -> usize {
        (0..self.answers.len())
            .filter(|unit| self.has(*unit))
            .count()
    }

    fn has(&self, unit: usize) -> bool {
        let scored = (0..self.scorers.len()).any(|scorer| self.score(unit, scorer).is_some());
        self.answers[unit] != 0 || scored
    }

    /// The row and the entry of a unit.
    pub(super) fn place(&self, unit: usize) -> (Digest, usize) {
        let entries = self.entries.len();
        (self.rows[unit / entries], unit % entries)
    }

    /// Whether every row has a unit of this one's entry.
    pub(super) fn is_of_all(&self, unit: usize) -> bool {
        self.last != Some(unit % self.entries.len())
    }

    /// The units of the entries that every row is asked of.
    pub(super) fn of_all(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.answers.len()).filter(|unit| self.is_of_all(*unit) && self.has(*unit))
    }

    /// The mean score of a unit.
    pub(super) fn score(&self, unit: usize, scorer: usize) -> Option<f64> {
        let score = self.scores[unit * self.scorers.len() + scorer];
        (!score.is_nan()).then_some(score)
    }

    /// Where a scorer stands.
    pub(super) fn scorer(&self, name: &str) -> Option<usize> {
        self.scorers.iter().position(|scorer| scorer == name)
    }

    /// The units that both runs have, in the order of the later one. Where both have one entry these are compared,
    /// whatever they are called.
    pub(super) fn pairs<'a>(&'a self, after: &'a Graded) -> impl Iterator<Item = Pair> + 'a {
        let partner = after.partners(self);
        let units = (0..after.answers.len()).filter(|unit| after.has(*unit));
        units.filter_map(move |after| {
            let before = partner(after)?;
            self.has(before).then_some(Pair { before, after })
        })
    }

    /// What finds the unit of another run that stands where a unit of this one does.
    pub(super) fn partners<'a>(
        &'a self,
        other: &'a Graded,
    ) -> impl Fn(usize) -> Option<usize> + 'a {
        let is_alone = self.entries.len() == 1 && other.entries.len() == 1;
        let entry = move |name: &String| match is_alone {
            true => Some(0),
            false => other.entries.iter().position(|entry| entry == name),
        };
        let entries: Vec<Option<usize>> = self.entries.iter().map(entry).collect();
        move |unit| {
            let (row, entry) = self.place(unit);
            let row = other.rows.get_index_of(&row)?;
            Some(row * other.entries.len() + entries[entry]?)
        }
    }

    /// Whether a unit has another answer in the other run; `None` where that is not known.
    pub(super) fn answers_differ(&self, after: &Graded, pair: Pair) -> Option<bool> {
        differ(self.answers[pair.before], after.answers[pair.after])
    }

    /// Whether something else was asked for a unit in the other run; `None` where that is not known.
    pub(super) fn asked_differ(&self, after: &Graded, pair: Pair) -> Option<bool> {
        differ(self.asked[pair.before], after.asked[pair.after])
    }
}

/// What was asked last for an item, as far as anything was.
fn fingerprint(outcome: &Outcome) -> Digest {
    outcome
        .deciding()
        .map(|attempt| attempt.fingerprint)
        .unwrap_or_default()
}

fn differ(before: u64, after: u64) -> Option<bool> {
    (before != 0 && after != 0).then_some(before != after)
}

/// Takes more into what stands for it; never 0.
fn mix(into: &mut u64, parts: &[&[u8]]) {
    let before = into.to_le_bytes();
    let parts = [&before[..]].into_iter().chain(parts.iter().copied());
    let digest = Digest::of(parts);
    let mut half = [0; 8];
    half.copy_from_slice(&digest.as_bytes()[..8]);
    *into = u64::from_le_bytes(half).max(1);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::words::{Answer, Columns, Item, Marks, Row, Status};

    /// Adds a line with this answer and score.
    fn add(
        run: &mut Graded,
        row: u64,
        (entry, repeat): (u32, u32),
        answer: &str,
        score: Option<f64>,
    ) {
        let columns = Arc::new(Columns::new(vec!["id".to_owned()]));
        let id = row.to_string();
        let row = Row {
            index: row,
            key: Row::key_of_id(&id),
            columns,
            cells: vec![id.clone()],
            id,
        };
        let outcome = Outcome {
            status: Status::Answered,
            answer: Some(Answer {
                text: answer.to_owned(),
                finish_reason: None,
            }),
            ..Outcome::not_run(Item {
                row: Arc::new(row),
                entry,
                repeat,
            })
        };
        let marks = Marks {
            scores: vec![score],
            ..Marks::default()
        };
        let (outcome, marks) = (&outcome, &marks);
        run.add(&ResultLine { outcome, marks });
    }

    fn run(entries: &[&str]) -> Graded {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        Graded::new("job", &names(&["equals"]), &names(entries))
    }

    #[test]
    fn the_score_of_a_row_is_the_mean_of_its_repeats() {
        let mut graded = run(&["a", "b"]);
        for row in [1, 2] {
            for (repeat, score) in [(0, Some(1.0)), (1, None), (2, Some(0.5))] {
                add(&mut graded, row, (0, repeat), "x", score);
            }
            add(&mut graded, row, (1, 0), "x", None);
        }
        graded.settle();
        let scores: Vec<_> = (0..graded.units())
            .map(|unit| graded.score(unit, 0))
            .collect();
        assert_eq!(scores, [Some(0.75), None, Some(0.75), None]);
    }

    #[test]
    fn units_are_paired_by_row_and_entry_wherever_they_stand() {
        let (mut before, mut after) = (run(&["a", "b"]), run(&["b", "c"]));
        for row in [1, 2, 3] {
            for entry in [0, 1] {
                add(&mut before, row, (entry, 0), &format!("{row}"), Some(1.0));
            }
        }
        for row in [3, 1, 4] {
            for entry in [0, 1] {
                let answer = if row == 3 { "another" } else { "1" };
                add(&mut after, row, (entry, 0), answer, Some(1.0));
            }
        }
        let pairs: Vec<Pair> = before.pairs(&after).collect();
        let units: Vec<_> = pairs.iter().map(|pair| (pair.before, pair.after)).collect();
        assert_eq!(units, [(5, 0), (1, 2)]);
        let differ = pairs
            .iter()
            .map(|pair| before.answers_differ(&after, *pair));
        assert_eq!(differ.collect::<Vec<_>>(), [Some(true), Some(false)]);
    }
}
