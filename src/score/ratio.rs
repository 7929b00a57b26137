//! A share or a mean over lines, where the lines of a row are not independent of each other.

use crate::words::{Interval, Metric};

use super::bootstrap::{Histogram, Spread};
use super::interval::{self, CONFIDENCE};

/// The mean of values from 0 to 1 of lines, row by row.
#[derive(Debug)]
pub(super) struct Ratio {
    rows: u64,
    lines: u64,
    sum: f64,
    /// Sums over rows of what the values of a row add up to, squared; that times the lines of the row; these squared.
    moments: [f64; 3],
    /// Whether each value was 0 or 1, and alone in its row: then they are a share.
    is_share: bool,
    /// Rows by what their values add up to, as bits, and by their lines.
    histogram: Histogram<(u64, u64)>,
}

impl Ratio {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            lines: 0,
            sum: 0.0,
            moments: [0.0; 3],
            is_share: true,
            histogram: Histogram::new(),
        }
    }

    /// The values of the lines of a row; none where the row has no say.
    pub(super) fn add(&mut self, values: impl Iterator<Item = f64>) {
        let (mut sum, mut lines) = (0.0, 0_u64);
        values.for_each(|value| (sum, lines) = (sum + value, lines + 1));
        if lines == 0 {
            return;
        }
        let size = lines as f64;
        self.rows += 1;
        self.lines += lines;
        self.sum += sum;
        self.moments[0] += sum * sum;
        self.moments[1] += sum * size;
        self.moments[2] += size * size;
        self.is_share &= lines == 1 && (sum == 0.0 || sum == 1.0);
        self.histogram.add(&(sum.to_bits(), lines));
    }

    /// The mean over all lines; `None` without any.
    pub(super) fn metric(&self) -> Option<Metric> {
        (self.lines > 0).then(|| Metric {
            value: self.value(),
            n: self.lines,
            interval: self.interval(),
        })
    }

    fn value(&self) -> f64 {
        self.sum / self.lines as f64
    }

    fn interval(&self) -> Option<Interval> {
        let Some(patterns) = self.histogram.patterns() else {
            return self.normal();
        };
        // Rows that are all alike show no spread; as a share of as many rows they have more than any mean has.
        if self.is_share || patterns.are_one() {
            let successes = self.value() * self.rows as f64;
            return Some(interval::wilson(successes, self.rows, CONFIDENCE));
        }
        let mut spread = Spread::default();
        patterns.draw(|draw| {
            let (mut sum, mut lines) = (0.0, 0);
            for ((bits, of_row), count) in draw {
                sum += f64::from_bits(*bits) * count as f64;
                lines += of_row * count;
            }
            spread.add(Some(sum / lines as f64));
        });
        spread.interval(self.value(), CONFIDENCE)
    }

    /// Where the rows differ in too many ways to draw them by pattern there are so many that the curve is normal.
    fn normal(&self) -> Option<Interval> {
        let rows = (self.rows > 1).then_some(self.rows as f64)?;
        let value = self.value();
        let [squares, products, sizes] = self.moments;
        let rest = (squares - 2.0 * value * products + value * value * sizes).max(0.0);
        let error = (rest * rows / (rows - 1.0)).sqrt() / self.lines as f64;
        let around = interval::normal(value, error, CONFIDENCE);
        Some(Interval {
            low: around.low.clamp(0.0, 1.0),
            high: around.high.clamp(0.0, 1.0),
            ..around
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::words::Method;

    use super::*;

    fn of(rows: &[&[f64]]) -> Metric {
        let mut ratio = Ratio::new();
        rows.iter().for_each(|row| ratio.add(row.iter().copied()));
        ratio.metric().expect("there are lines")
    }

    #[test]
    fn one_line_a_row_is_a_share_and_has_wilsons_interval() {
        let found = of(&[&[1.0], &[0.0], &[], &[1.0], &[1.0]]);
        assert_eq!((found.value, found.n), (0.75, 4));
        let wanted = interval::wilson(3.0, 4, 0.95);
        assert_eq!(found.interval, Some(wanted));
    }

    #[test]
    fn lines_of_a_row_that_always_agree_count_as_one() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut alone, mut five) = (Ratio::new(), Ratio::new());
        for _ in 0..200 {
            let value = f64::from(random.u8(..10) < 7);
            alone.add([value].into_iter());
            five.add([value; 5].into_iter());
        }
        let (alone, five) = (alone.metric(), five.metric());
        let (alone, five) = (alone.expect("lines"), five.expect("lines"));
        assert_eq!((alone.n, five.n), (200, 1_000));
        let width = |metric: Metric| metric.interval.map_or(0.0, |found| found.high - found.low);
        assert_eq!(
            five.interval.map(|found| found.method),
            Some(Method::Bootstrap)
        );
        assert!((width(five) / width(alone) - 1.0).abs() < 0.1);
    }

    #[test]
    fn several_lines_a_row_are_no_share_even_if_one_of_them_counts_at_most() {
        let found = of(&[&[1.0, 0.0], &[0.0, 0.0], &[1.0, 0.0], &[0.0]]);
        let method = found.interval.map(|found| found.method);
        assert_eq!(method, Some(Method::Bootstrap));
    }

    #[test]
    fn rows_that_are_all_alike_are_not_therefore_sure() {
        let found = of(&[&[1.0, 1.0], &[1.0, 1.0], &[1.0, 1.0]]);
        assert_eq!(found.interval, Some(interval::wilson(3.0, 3, 0.95)));
        let found = of(&[&[0.5]]).interval.expect("it has one");
        assert!(found.low < 0.1 && found.high > 0.9);
    }

    #[test]
    fn means_of_many_different_scores_are_normal_and_agree_with_the_bootstrap() {
        let mut random = fastrand::Rng::with_seed(4);
        let (mut fine, mut coarse) = (Ratio::new(), Ratio::new());
        for _ in 0..20_000 {
            let values = [random.f64(), random.f64()];
            fine.add(values.into_iter());
            coarse.add(
                values
                    .into_iter()
                    .map(|value| (value * 30.0).round() / 30.0),
            );
        }
        let fine = fine.metric().and_then(|metric| metric.interval);
        let coarse = coarse.metric().and_then(|metric| metric.interval);
        let (fine, coarse) = (fine.expect("there is one"), coarse.expect("there is one"));
        assert_eq!(
            (fine.method, coarse.method),
            (Method::Normal, Method::Bootstrap)
        );
        assert!((fine.low - coarse.low).abs() < 4e-4 && (fine.high - coarse.high).abs() < 4e-4);
    }
}
