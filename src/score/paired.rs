//! Two runs of the same rows: whether the later one is worse.

use crate::words::{Comparison, Interval, Method, Metric, Verdict};

use super::binomial;
use super::bootstrap::{Histogram, Spread};
use super::interval;

/// The scores of the same rows before and after, pair by pair.
#[derive(Debug)]
pub struct Pairs {
    n: u64,
    before: f64,
    after: f64,
    squares: f64,
    better: u64,
    worse: u64,
    /// Whether every score was 0 or 1.
    are_shares: bool,
    /// Rows by how much higher the later score is, as bits.
    differences: Histogram<u64>,
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            n: 0,
            before: 0.0,
            after: 0.0,
            squares: 0.0,
            better: 0,
            worse: 0,
            are_shares: true,
            differences: Histogram::new(),
        }
    }
}

impl Pairs {
    /// The scores of a row, from 0 to 1.
    pub fn add(&mut self, before: f64, after: f64) {
        let difference = after - before;
        self.n += 1;
        self.before += before;
        self.after += after;
        self.squares += difference * difference;
        self.better += u64::from(difference > 0.0);
        self.worse += u64::from(difference < 0.0);
        self.are_shares &= [before, after]
            .iter()
            .all(|score| [0.0, 1.0].contains(score));
        // Minus nothing is nothing.
        self.differences.add(&(difference + 0.0).to_bits());
    }

    /// What the rows say together; `None` without any.
    pub fn comparison(&self, confidence: f64) -> Option<Comparison> {
        let n = (self.n > 0).then_some(self.n as f64)?;
        Some(Comparison {
            n: self.n,
            before: self.before / n,
            after: self.after / n,
            difference: Metric {
                value: (self.after - self.before) / n,
                n: self.n,
                interval: self.interval(confidence),
            },
            better: self.better,
            worse: self.worse,
            p: self
                .are_shares
                .then(|| binomial::evenness(self.better, self.worse)),
        })
    }

    fn interval(&self, confidence: f64) -> Option<Interval> {
        if self.are_shares {
            let (better, worse) = (self.better, self.worse);
            return Some(interval::bonett_price(better, worse, self.n, confidence));
        }
        let sum = self.after - self.before;
        let Some(rows) = self.differences.patterns() else {
            return interval::mean(self.n, sum, self.squares, confidence);
        };
        if rows.are_one() {
            return Some(self.of_equals(confidence));
        }
        let mut spread = Spread::default();
        rows.draw(|draw| {
            let sum: f64 = draw.map(|(bits, n)| f64::from_bits(*bits) * n as f64).sum();
            spread.add(Some(sum / self.n as f64));
        });
        spread.interval(sum / self.n as f64, confidence)
    }

    /// Rows that all changed by as much show no spread: as much doubt is left as where none of as many shares changed.
    fn of_equals(&self, confidence: f64) -> Interval {
        let change = (self.after - self.before) / self.n as f64;
        let doubt = interval::bonett_price(0, 0, self.n, confidence);
        Interval {
            low: (change + doubt.low).max(-1.0),
            high: (change + doubt.high).min(1.0),
            method: Method::BonettPrice,
        }
    }
}

/// Whether what came after is worse by no more than a margin: certainly not, certainly, or nobody can say.
pub fn verdict(difference: &Metric, not_worse_than: f64) -> Verdict {
    match difference.interval {
        Some(interval) if interval.low >= -not_worse_than => Verdict::Pass,
        Some(interval) if interval.high < -not_worse_than => Verdict::Fail,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Comparison {
        let mut found = Pairs::default();
        pairs
            .into_iter()
            .for_each(|(one, other)| found.add(one, other));
        found.comparison(0.95).expect("there are pairs")
    }

    #[test]
    fn the_same_scores_twice_pass_whatever_they_are() {
        for score in [0.0, 1.0, 0.25, 1.0 / 3.0] {
            let found = of((0..300).map(|_| (score, score)));
            assert_eq!((found.better, found.worse), (0, 0));
            assert_eq!(verdict(&found.difference, 0.02), Verdict::Pass, "{found:?}");
            assert_eq!(
                verdict(&found.difference, 0.0),
                Verdict::Inconclusive,
                "{found:?}"
            );
        }
        assert!(Pairs::default().comparison(0.95).is_none());
    }

    #[test]
    fn a_row_says_little_and_many_rows_much() {
        assert_eq!(
            verdict(&of([(1.0, 1.0)]).difference, 0.02),
            Verdict::Inconclusive
        );
        assert_eq!(
            verdict(&of([(0.5, 0.4)]).difference, 0.02),
            Verdict::Inconclusive
        );
        let all_worse = of((0..100).map(|_| (0.75, 0.5)));
        assert_eq!(verdict(&all_worse.difference, 0.02), Verdict::Fail);
        let better = of((0..100).map(|row| (0.0, f64::from(row % 2))));
        assert_eq!(verdict(&better.difference, 0.0), Verdict::Pass);
        assert_eq!((better.better, better.worse), (50, 0));
    }

    #[test]
    fn scores_between_nothing_and_one_are_drawn_anew() {
        let mut random = fastrand::Rng::with_seed(5);
        let scores: Vec<(f64, f64)> = (0..500)
            .map(|_| {
                (
                    f64::from(random.u8(..5)) / 4.0,
                    f64::from(random.u8(..5)) / 4.0,
                )
            })
            .collect();
        let found = of(scores.iter().copied());
        let drawn = found.difference.interval.expect("it has one");
        assert_eq!(drawn.method, Method::Bootstrap);
        assert_eq!(found.p, None);
        let differences = scores.iter().map(|(one, other)| other - one);
        let (sum, squares) = differences.fold((0.0, 0.0), |(s, q), d| (s + d, q + d * d));
        let normal = interval::mean(500, sum, squares, 0.95).expect("there are many");
        assert!((drawn.low - normal.low).abs() < 0.005 && (drawn.high - normal.high).abs() < 0.005);
    }

    #[test]
    fn scores_of_many_kinds_have_the_normal_interval() {
        let mut random = fastrand::Rng::with_seed(6);
        let found = of((0..10_000).map(|_| (random.f64(), random.f64())));
        let interval = found.difference.interval.expect("it has one");
        assert_eq!(interval.method, Method::Normal);
        assert!(interval.low < 0.0 && interval.high > 0.0);
    }
}
