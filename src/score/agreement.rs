//! How far raters agree beyond what chance would have: Cohen's kappa of two, Krippendorff's alpha of any number.

use crate::words::Metric;

use super::bootstrap::{Histogram, Spread};
use super::interval::CONFIDENCE;

/// Cohen's kappa: how two raters labelled the rows that both labelled.
#[derive(Debug)]
pub(super) struct Kappa {
    rows: Histogram<(u32, u32)>,
    table: Table,
}

impl Kappa {
    pub(super) fn new() -> Self {
        Self {
            rows: Histogram::new(),
            table: Table::default(),
        }
    }

    /// A row by the numbers of its labels.
    pub(super) fn add(&mut self, one: u32, other: u32) {
        self.rows.add(&(one, other));
        self.table.add((one, other), 1);
    }

    /// `None` where chance alone would have them agree always, or without a row.
    pub(super) fn metric(&self) -> Option<Metric> {
        let value = self.table.kappa()?;
        let mut spread = Spread::default();
        if let Some(rows) = self.rows.patterns() {
            let mut table = Table::default();
            rows.draw(|draw| {
                table.clear();
                draw.for_each(|(row, n)| table.add(*row, n));
                spread.add(table.kappa());
            });
        }
        Some(Metric {
            value,
            n: self.table.rows,
            interval: spread.interval(value, CONFIDENCE),
        })
    }
}

/// How often each rater used each label, and how often both the same.
#[derive(Debug, Default)]
struct Table {
    rows: u64,
    alike: u64,
    labels: Vec<[u64; 2]>,
}

impl Table {
    fn clear(&mut self) {
        (self.rows, self.alike) = (0, 0);
        self.labels.fill([0; 2]);
    }

    fn add(&mut self, row: (u32, u32), rows: u64) {
        self.rows += rows;
        self.alike += if row.0 == row.1 { rows } else { 0 };
        let (one, other) = (row.0 as usize, row.1 as usize);
        let needed = self.labels.len().max(one.max(other) + 1);
        self.labels.resize(needed, [0; 2]);
        self.labels[one][0] += rows;
        self.labels[other][1] += rows;
    }

    fn kappa(&self) -> Option<f64> {
        let rows = self.rows as f64;
        let both = |[one, other]: &[u64; 2]| *one as f64 * *other as f64;
        let by_chance = self.labels.iter().map(both).sum::<f64>() / (rows * rows);
        let alike = self.alike as f64 / rows;
        (by_chance < 1.0).then(|| (alike - by_chance) / (1.0 - by_chance))
    }
}

/// Krippendorff's alpha for labels: raters may have left rows out.
#[derive(Debug)]
pub(super) struct Alpha {
    rows: Histogram<Vec<u32>>,
    values: Values,
}

impl Alpha {
    pub(super) fn new() -> Self {
        Self {
            rows: Histogram::new(),
            values: Values::default(),
        }
    }

    /// The numbers of the labels of a row, of those raters who labelled it. A row with one label has nobody to agree with.
    pub(super) fn add(&mut self, mut row: Vec<u32>) {
        if row.len() > 1 {
            row.sort_unstable();
            self.rows.add(row.as_slice());
            self.values.add(&row, 1);
        }
    }

    /// `None` where all labels are the same one, or without a row.
    pub(super) fn metric(&self) -> Option<Metric> {
        let value = self.values.alpha()?;
        let mut spread = Spread::default();
        if let Some(rows) = self.rows.patterns() {
            let mut values = Values::default();
            rows.draw(|draw| {
                values.clear();
                draw.for_each(|(row, n)| values.add(row, n));
                spread.add(values.alpha());
            });
        }
        Some(Metric {
            value,
            n: self.values.rows,
            interval: spread.interval(value, CONFIDENCE),
        })
    }
}

/// The labels of rows that have several.
#[derive(Debug, Default)]
struct Values {
    rows: u64,
    values: u64,
    /// Of each row, the pairs of labels that agree, shared out over its labels.
    agreeing: f64,
    labels: Vec<u64>,
}

impl Values {
    fn clear(&mut self) {
        (self.rows, self.values, self.agreeing) = (0, 0, 0.0);
        self.labels.fill(0);
    }

    /// So many rows with these labels, which are sorted.
    fn add(&mut self, row: &[u32], rows: u64) {
        self.rows += rows;
        self.values += row.len() as u64 * rows;
        let mut pairs = 0;
        for run in row.chunk_by(|one, next| one == next) {
            let label = run[0] as usize;
            self.labels.resize(self.labels.len().max(label + 1), 0);
            self.labels[label] += run.len() as u64 * rows;
            pairs += run.len() * (run.len() - 1);
        }
        self.agreeing += pairs as f64 / (row.len() - 1) as f64 * rows as f64;
    }

    fn alpha(&self) -> Option<f64> {
        let values = self.values as f64;
        let differing = values - self.agreeing;
        let squares: f64 = self.labels.iter().map(|n| (*n as f64).powi(2)).sum();
        let by_chance = (values * values - squares) / (values - 1.0);
        (by_chance > 0.0).then(|| 1.0 - differing / by_chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raters_who_know_one_label_only_say_nothing() {
        let (mut kappa, mut alpha) = (Kappa::new(), Alpha::new());
        assert!(kappa.metric().is_none() && alpha.metric().is_none());
        for _ in 0..5 {
            kappa.add(1, 1);
            alpha.add(vec![1, 1]);
            alpha.add(vec![0]);
        }
        assert!(kappa.metric().is_none() && alpha.metric().is_none());
        kappa.add(0, 0);
        alpha.add(vec![0, 0]);
        let (kappa, alpha) = (kappa.metric(), alpha.metric());
        assert_eq!(kappa.map(|found| (found.value, found.n)), Some((1.0, 6)));
        assert_eq!(alpha.map(|found| (found.value, found.n)), Some((1.0, 6)));
    }

    #[test]
    fn the_interval_is_about_as_wide_as_the_formula_of_fleiss_has_it() {
        let mut kappa = Kappa::new();
        // 20, 5, 10, 15: agreement 0.7, chance 0.5.
        for (row, count) in [((0, 0), 200), ((0, 1), 50), ((1, 0), 100), ((1, 1), 150)] {
            (0..count).for_each(|_| kappa.add(row.0, row.1));
        }
        let found = kappa.metric().expect("there is one");
        assert!((found.value - 0.4).abs() < 1e-12);
        let interval = found.interval.expect("there is one");
        // statsmodels cohens_kappa: standard error 0.039984.
        let half = (interval.high - interval.low) / 2.0;
        assert!((half / (1.96 * 0.04) - 1.0).abs() < 0.1, "{interval:?}");
    }
}
