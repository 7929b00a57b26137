//! The board on which the lines of the results are marked up, row by row, until they are figures.

use indexmap::IndexMap;

use crate::words::{Group, Metric, Scores};

use super::agreement::{Alpha, Kappa};
use super::labels::{self, Labels};
use super::matrix::{Cell, Matrix, NONE};
use super::ratio::Ratio;
use super::votes;

/// What a job's lines can be marked by.
#[derive(Debug, Clone, Default)]
pub struct BoardPlan {
    /// The entries of the matrix; one without a matrix.
    pub entries: Vec<String>,
    /// How often each entry is asked the same.
    pub repeat: u32,
    /// The names of the scorers, in the order of the job.
    pub scorers: Vec<String>,
    /// The labels that the job names; where it names none, those that are seen, if they are few.
    pub labels: Option<Vec<String>>,
    /// The label by which a model says that it cannot tell.
    pub abstain: Option<String>,
    /// Whether rows say which label they should have.
    pub has_gold: bool,
}

/// A line of the results, as far as it is marked.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The position of its entry of the matrix.
    pub entry: usize,
    /// Whether it was answered, validly or not.
    pub answered: bool,
    /// The answer as the job wants it; `None` where it is not valid.
    pub label: Option<&'a str>,
    /// The label that it should have.
    pub gold: Option<&'a str>,
    /// What each scorer gives, from 0 to 1; `None` where it cannot tell.
    pub scores: &'a [Option<f64>],
}

/// The lines so far. It grows with labels and scorers, not with rows.
#[derive(Debug)]
pub struct Board {
    plan: BoardPlan,
    labels: Labels,
    overall: Tally,
    by_entry: Vec<Tally>,
    kappas: Vec<(usize, usize, Kappa)>,
    alpha: Alpha,
    /// Lines whose gold label is none of the job's.
    strangers: u64,
}

impl Board {
    /// An empty board.
    pub fn new(mut plan: BoardPlan) -> Self {
        let entries = plan.entries.len();
        let pairs = (0..entries).flat_map(|one| (one + 1..entries).map(move |other| (one, other)));
        Self {
            labels: Labels::new(plan.labels.take()),
            overall: Tally::new(&plan),
            by_entry: match entries {
                0 | 1 => Vec::new(),
                _ => (0..entries).map(|_| Tally::new(&plan)).collect(),
            },
            kappas: pairs
                .map(|(one, other)| (one, other, Kappa::new()))
                .collect(),
            alpha: Alpha::new(),
            strangers: 0,
            plan,
        }
    }

    /// All lines of one row of the input.
    pub fn add_row(&mut self, lines: &[Judged<'_>]) {
        let lines: Vec<Line<'_>> = lines.iter().map(|judged| self.line(judged)).collect();
        let entries = 0..self.plan.entries.len().max(1);
        let votes: Vec<Vote<'_>> = entries.map(|entry| Vote::of(entry, &lines)).collect();
        self.overall.add(lines.iter(), &votes);
        for (entry, tally) in self.by_entry.iter_mut().enumerate() {
            let own = lines.iter().filter(|line| line.entry == entry);
            tally.add(own, &votes[entry..=entry]);
        }
        self.agree(&lines, &votes);
    }

    fn line<'a>(&mut self, judged: &Judged<'a>) -> Line<'a> {
        let abstain = self.plan.abstain.as_deref();
        let gold = judged.gold.filter(|_| self.plan.has_gold);
        let right = match judged.scores.first() {
            Some(score) => score.map(|score| score >= 1.0),
            None => gold.map(|gold| judged.label == Some(gold)),
        };
        // To abstain may be right; it is no label for all that.
        let label = judged.label.filter(|label| Some(*label) != abstain);
        let gold_label = gold.filter(|gold| Some(*gold) != abstain);
        let given = label.and_then(|label| self.labels.number(label));
        let has = gold_label.and_then(|label| self.labels.number(label));
        self.strangers += u64::from(gold_label.is_some() && has.is_none());
        Line {
            entry: judged.entry,
            answered: judged.answered,
            has_abstained: judged.label.is_some() && label.is_none(),
            label,
            number: given,
            gold: gold_label,
            right,
            scores: judged.scores,
            cell: gold.map(|_| (has.unwrap_or(NONE), given.unwrap_or(NONE))),
        }
    }

    /// What the entries say of the row, or the repeats where there is one entry.
    fn agree(&mut self, lines: &[Line<'_>], votes: &[Vote<'_>]) {
        if votes.len() == 1 {
            let repeats = lines.iter().filter_map(|line| line.number);
            return self.alpha.add(repeats.collect());
        }
        let of_entry = votes.iter().map(|vote| self.labels.number(vote.label?));
        let of_entry: Vec<Option<u32>> = of_entry.collect();
        for (one, other, kappa) in &mut self.kappas {
            if let (Some(one), Some(other)) = (of_entry[*one], of_entry[*other]) {
                kappa.add(one, other);
            }
        }
        self.alpha.add(of_entry.into_iter().flatten().collect());
    }

    /// The figures.
    pub fn finish(self) -> Scores {
        let labels = (!self.labels.are_too_many()).then_some(&self.labels);
        let mut lacks_intervals = false;
        let mut group = |tally: &Tally| {
            let (group, lacks) = tally.group(&self.plan, labels);
            lacks_intervals |= lacks;
            group
        };
        let overall = group(&self.overall);
        let names = self.plan.entries.iter().cloned();
        let by_entry: IndexMap<_, _> = names.zip(self.by_entry.iter().map(&mut group)).collect();
        let alpha = labels.and_then(|_| self.alpha.metric());
        let name = |entry: &usize| self.plan.entries[*entry].clone();
        let pairs = self.kappas.iter().filter(|_| labels.is_some());
        Scores {
            notes: self.notes(lacks_intervals, alpha.is_some()),
            kappas: pairs
                .filter_map(|(one, other, kappa)| Some((name(one), name(other), kappa.metric()?)))
                .collect(),
            overall,
            by_entry,
            alpha,
        }
    }

    fn notes(&self, lacks_intervals: bool, has_alpha: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let plan = &self.plan;
        let wants_labels = plan.has_gold || plan.repeat > 1 || plan.entries.len() > 1;
        if self.labels.are_too_many() && wants_labels {
            notes.push(format!(
                "There are more than {} different labels and answers: no confusion matrix, no figures by label and \
                 no agreement beyond chance.",
                labels::MOST
            ));
        } else if self.strangers > 0 {
            notes.push(format!(
                "The gold label of {} is none of the job's labels: {} in no row of the confusion matrix.",
                counted(self.strangers, "line"),
                if self.strangers == 1 { "it is" } else { "they are" }
            ));
        }
        if lacks_intervals {
            notes.push(
                "The rows differ in too many ways to draw them anew: some figures by label have no interval."
                    .to_owned(),
            );
        }
        if has_alpha && self.by_entry.is_empty() {
            notes.push("Krippendorff's alpha is over the repeats of each row.".to_owned());
        }
        notes
    }
}

fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A line, made out.
#[derive(Debug)]
struct Line<'a> {
    entry: usize,
    answered: bool,
    has_abstained: bool,
    /// The valid answer, unless it is to abstain.
    label: Option<&'a str>,
    number: Option<u32>,
    /// The label that it should have, unless it is to abstain.
    gold: Option<&'a str>,
    /// Whether it counts as right; `None` where nobody can tell.
    right: Option<bool>,
    scores: &'a [Option<f64>],
    cell: Option<Cell>,
}

/// What the repeats of an entry say of a row.
#[derive(Debug)]
struct Vote<'a> {
    /// The label of the majority.
    label: Option<&'a str>,
    agreeing: Option<f64>,
    /// Whether the majority is right; `None` without a gold label.
    is_right: Option<bool>,
}

impl<'a> Vote<'a> {
    fn of(entry: usize, lines: &[Line<'a>]) -> Self {
        let own = || lines.iter().filter(|line| line.entry == entry);
        let labels: Vec<&str> = own().filter_map(|line| line.label).collect();
        let label = votes::majority(&labels);
        let gold = own().find_map(|line| line.gold);
        Self {
            label,
            agreeing: votes::agreeing(&labels),
            is_right: gold.map(|gold| label == Some(gold)),
        }
    }
}

/// The lines of all entries, or of one.
#[derive(Debug)]
struct Tally {
    answered: Ratio,
    abstained: Ratio,
    right: Ratio,
    right_if_valid: Ratio,
    scores: Vec<Ratio>,
    matrix: Matrix,
    majority: Ratio,
    agreeing: Ratio,
}

impl Tally {
    fn new(plan: &BoardPlan) -> Self {
        Self {
            answered: Ratio::new(),
            abstained: Ratio::new(),
            right: Ratio::new(),
            right_if_valid: Ratio::new(),
            scores: plan.scorers.iter().map(|_| Ratio::new()).collect(),
            matrix: Matrix::new(),
            majority: Ratio::new(),
            agreeing: Ratio::new(),
        }
    }

    /// The lines of a row, and what the repeats of each entry say.
    fn add<'a>(&mut self, lines: impl Iterator<Item = &'a Line<'a>> + Clone, votes: &[Vote<'_>]) {
        let share = |is: bool| f64::from(u8::from(is));
        let all = || lines.clone();
        let valid = || all().filter(|line| line.label.is_some());
        self.answered.add(all().map(|line| share(line.answered)));
        self.abstained
            .add(all().map(|line| share(line.has_abstained)));
        self.right
            .add(all().filter_map(|line| line.right.map(share)));
        self.right_if_valid
            .add(valid().filter_map(|line| line.right.map(share)));
        for (at, ratio) in self.scores.iter_mut().enumerate() {
            ratio.add(all().filter_map(|line| line.scores.get(at).copied().flatten()));
        }
        self.matrix
            .add(all().filter_map(|line| line.cell).collect());
        self.majority
            .add(votes.iter().filter_map(|vote| vote.is_right.map(share)));
        self.agreeing
            .add(votes.iter().filter_map(|vote| vote.agreeing));
    }

    /// The figures, and whether some lack an interval because the rows differ in too many ways.
    fn group(&self, plan: &BoardPlan, labels: Option<&Labels>) -> (Group, bool) {
        let found = labels.and_then(|labels| self.matrix.found(labels));
        let [precision, recall, f1] = found.as_ref().map_or([None; 3], |found| found.macros);
        let abstained = plan.abstain.as_ref().and_then(|_| self.abstained.metric());
        let of_repeats = |ratio: &Ratio| (plan.repeat > 1).then(|| ratio.metric()).flatten();
        let scorers = plan.scorers.iter().map(String::as_str);
        let metrics = [
            ("answered", self.answered.metric()),
            ("abstained", abstained),
            ("accuracy", self.right.metric()),
            ("accuracy_answered", self.right_if_valid.metric()),
        ]
        .into_iter()
        .chain(scorers.zip(self.scores.iter().map(Ratio::metric)))
        .chain([
            ("precision_macro", precision),
            ("recall_macro", recall),
            ("f1_macro", f1),
            ("majority_accuracy", of_repeats(&self.majority)),
            ("self_agreement", of_repeats(&self.agreeing)),
        ]);
        let known = |(name, metric): (&str, Option<Metric>)| Some((name.to_owned(), metric?));
        let lacks_intervals = found.as_ref().is_some_and(|found| found.lacks_intervals);
        let (labels, confusion) = found
            .map(|found| (found.labels, Some(found.confusion)))
            .unwrap_or_default();
        let group = Group {
            metrics: metrics.filter_map(known).collect(),
            labels,
            confusion,
        };
        (group, lacks_intervals)
    }
}
