//! Which label was given for which: the confusion matrix, and precision, recall and F1 out of it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::words::{Confusion, Interval, LabelScores, Metric};

use super::bootstrap::{Histogram, Spread};
use super::interval::{self, CONFIDENCE};
use super::labels::Labels;

/// A line that has a label: the number of the label it has, and of the one it was given; [`NONE`] for any other and for
/// none.
pub(super) type Cell = (u32, u32);

/// The number of no label.
pub(super) const NONE: u32 = u32::MAX;

/// The lines that have a label.
#[derive(Debug)]
pub(super) struct Matrix {
    cells: BTreeMap<Cell, u64>,
    rows: Histogram<Vec<Cell>>,
    lines: u64,
    /// Whether some row has several lines: then lines are not independent.
    is_clustered: bool,
}

/// What a matrix says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) labels: IndexMap<String, LabelScores>,
    pub(super) confusion: Confusion,
    /// The means of precision, recall and F1 over the labels that some line has or was given, where an unknown figure
    /// counts as nothing: scikit-learn's own choice.
    pub(super) macros: [Option<Metric>; 3],
    /// Whether rows differ in too many ways to draw them anew.
    pub(super) lacks_intervals: bool,
}

impl Matrix {
    pub(super) fn new() -> Self {
        Self {
            cells: BTreeMap::new(),
            rows: Histogram::new(),
            lines: 0,
            is_clustered: false,
        }
    }

    /// The lines of a row.
    pub(super) fn add(&mut self, mut row: Vec<Cell>) {
        if row.is_empty() {
            return;
        }
        row.sort_unstable();
        self.lines += row.len() as u64;
        self.is_clustered |= row.len() > 1;
        for cell in &row {
            *self.cells.entry(*cell).or_default() += 1;
        }
        self.rows.add(row.as_slice());
    }

    /// What the lines say of these labels; `None` where none of them has a label.
    pub(super) fn found(&self, labels: &Labels) -> Option<Found> {
        (self.lines > 0).then(|| {
            let counts = Counts::of(labels.len(), self.cells.iter().map(|(&cell, &n)| (cell, n)));
            let drawn = self.drawn(labels.len());
            let of_labels = drawn.labels.into_iter().enumerate();
            let scores: Vec<LabelScores> = of_labels
                .map(|(label, spreads)| self.scores(&counts, label, spreads))
                .collect();
            let listed = labels.listed().into_iter();
            Found {
                labels: listed
                    .map(|(number, name)| (name.to_owned(), scores[number as usize]))
                    .collect(),
                confusion: self.confusion(labels),
                macros: self.macros(&counts, drawn.macros),
                lacks_intervals: self.rows.patterns().is_none(),
            }
        })
    }

    /// The figures of labels in rows drawn anew.
    fn drawn(&self, labels: usize) -> Drawn {
        let mut drawn = Drawn {
            labels: (0..labels).map(|_| <[Spread; 3]>::default()).collect(),
            macros: <[Spread; 3]>::default(),
        };
        let Some(rows) = self.rows.patterns() else {
            return drawn;
        };
        rows.draw(|draw| {
            let cells = draw.flat_map(|(row, n)| row.iter().map(move |cell| (*cell, n)));
            let counts = Counts::of(labels, cells);
            for (at, kind) in KINDS.into_iter().enumerate() {
                for (label, spreads) in drawn.labels.iter_mut().enumerate() {
                    spreads[at].add(counts.figure(kind, label));
                }
                drawn.macros[at].add(counts.mean(kind));
            }
        });
        drawn
    }

    fn scores(&self, counts: &Counts, label: usize, drawn: [Spread; 3]) -> LabelScores {
        let [by_precision, by_recall, by_f1] = drawn;
        let share = |kind, spread: Spread| {
            let (part, whole) = counts.parts(kind, label);
            let figure = counts.figure(kind, label);
            let interval = if self.is_clustered {
                figure.and_then(|figure| spread.interval(figure, CONFIDENCE))
            } else {
                Some(interval::wilson(part as f64, whole, CONFIDENCE))
            };
            metric(figure, whole, interval)
        };
        let f1 = counts.figure(Kind::F1, label);
        let lines = counts.has[label] + counts.given[label] - counts.right[label];
        LabelScores {
            precision: share(Kind::Precision, by_precision),
            recall: share(Kind::Recall, by_recall),
            f1: metric(f1, lines, f1.and_then(|f1| by_f1.interval(f1, CONFIDENCE))),
        }
    }

    fn macros(&self, counts: &Counts, drawn: [Spread; 3]) -> [Option<Metric>; 3] {
        let mut drawn = drawn.into_iter();
        KINDS.map(|kind| {
            let mean = counts.mean(kind);
            let spread = drawn.next().zip(mean);
            let interval = spread.and_then(|(spread, mean)| spread.interval(mean, CONFIDENCE));
            metric(mean, self.lines, interval)
        })
    }

    fn confusion(&self, labels: &Labels) -> Confusion {
        let listed = labels.listed();
        let columns = || listed.iter().map(|(number, _)| *number).chain([NONE]);
        let count = |cell| self.cells.get(&cell).copied().unwrap_or(0);
        Confusion {
            labels: listed.iter().map(|(_, name)| (*name).to_owned()).collect(),
            counts: listed
                .iter()
                .map(|(row, _)| columns().map(|column| count((*row, column))).collect())
                .collect(),
        }
    }
}

/// The figures of draws: precision, recall and F1 of each label, and their means.
#[derive(Debug)]
struct Drawn {
    labels: Vec<[Spread; 3]>,
    macros: [Spread; 3],
}

/// A figure of a label.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Precision,
    Recall,
    F1,
}

const KINDS: [Kind; 3] = [Kind::Precision, Kind::Recall, Kind::F1];

/// How many lines have each label, were given it, and both.
#[derive(Debug)]
struct Counts {
    has: Vec<u64>,
    given: Vec<u64>,
    right: Vec<u64>,
}

impl Counts {
    fn of(labels: usize, cells: impl Iterator<Item = (Cell, u64)>) -> Self {
        let mut counts = Self {
            has: vec![0; labels],
            given: vec![0; labels],
            right: vec![0; labels],
        };
        for ((has, given), lines) in cells {
            // No label is a number that no label has.
            if let Some(n) = counts.has.get_mut(has as usize) {
                *n += lines;
            }
            if let Some(n) = counts.given.get_mut(given as usize) {
                *n += lines;
                counts.right[given as usize] += if has == given { lines } else { 0 };
            }
        }
        counts
    }

    /// A figure as a fraction.
    fn parts(&self, kind: Kind, label: usize) -> (u64, u64) {
        let (has, given, right) = (self.has[label], self.given[label], self.right[label]);
        match kind {
            Kind::Precision => (right, given),
            Kind::Recall => (right, has),
            Kind::F1 => (2 * right, has + given),
        }
    }

    fn figure(&self, kind: Kind, label: usize) -> Option<f64> {
        let (part, whole) = self.parts(kind, label);
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// The mean over the labels that some line has or was given.
    fn mean(&self, kind: Kind) -> Option<f64> {
        let present = (0..self.has.len()).filter(|label| self.has[*label] + self.given[*label] > 0);
        let figures = present.map(|label| self.figure(kind, label).unwrap_or(0.0));
        let (sum, labels) = figures.fold((0.0, 0), |(sum, n), figure| (sum + figure, n + 1));
        (labels > 0).then(|| sum / f64::from(labels))
    }
}

fn metric(value: Option<f64>, n: u64, interval: Option<Interval>) -> Option<Metric> {
    value.map(|value| Metric { value, n, interval })
}
