//! The bootstrap: how much a figure would differ if other rows of the same kind had been asked.
//!
//! Rows are drawn anew by what they amount to, not one by one: rows that count alike are one pattern, and a draw says
//! how often each pattern comes. So neither time nor memory grows with the rows.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::words::{Interval, Method};

use super::binomial;
use super::interval::{normal_below, z_of};

/// How many times the rows are drawn anew.
pub(super) const DRAWS: usize = 2_000;

/// How many patterns are kept. Beyond them a figure has no bootstrap.
pub(super) const PATTERNS: usize = 4_000;

/// Figures that differ by less are the same.
const SAME: f64 = 1e-12;

/// Always the same, so that the same rows have the same interval.
const SEED: u64 = 0x5eed_0fb0_0075;

/// How many rows there are of each pattern, as long as the patterns are few.
#[derive(Debug)]
pub(super) struct Histogram<P> {
    /// In the order of the patterns, so that draws do not depend on the order of the rows; `None` once there are too many.
    counts: Option<BTreeMap<P, u64>>,
}

impl<P: Ord> Histogram<P> {
    pub(super) fn new() -> Self {
        Self {
            counts: Some(BTreeMap::new()),
        }
    }

    /// Counts a row.
    pub(super) fn add<Q>(&mut self, pattern: &Q)
    where
        P: Borrow<Q>,
        Q: Ord + ToOwned<Owned = P> + ?Sized,
    {
        let Some(counts) = &mut self.counts else {
            return;
        };
        if let Some(count) = counts.get_mut(pattern) {
            *count += 1;
        } else if counts.len() < PATTERNS {
            counts.insert(pattern.to_owned(), 1);
        } else {
            self.counts = None;
        }
    }

    /// The patterns; `None` where there were too many.
    pub(super) fn patterns(&self) -> Option<Patterns<'_, P>> {
        let counts = self.counts.as_ref()?;
        Some(Patterns {
            patterns: counts.keys().collect(),
            counts: counts.values().copied().collect(),
        })
    }
}

/// Rows by their patterns.
#[derive(Debug)]
pub(super) struct Patterns<'a, P> {
    patterns: Vec<&'a P>,
    counts: Vec<u64>,
}

impl<P> Patterns<'_, P> {
    /// Whether all rows are alike, so that no draw differs from another.
    pub(super) fn are_one(&self) -> bool {
        self.patterns.len() < 2
    }

    /// Draws the rows anew, again and again, and tells of each draw how often it has each pattern.
    pub(super) fn draw(&self, mut each: impl FnMut(&mut dyn Iterator<Item = (&P, u64)>)) {
        let mut random = fastrand::Rng::with_seed(SEED);
        let owners = self.owners();
        let mut drawn = vec![0; self.counts.len()];
        for _ in 0..DRAWS {
            match &owners {
                Some(owners) => one_by_one(&mut random, owners, &mut drawn),
                None => by_pattern(&mut random, &self.counts, &mut drawn),
            }
            let present = self.patterns.iter().copied().zip(drawn.iter().copied());
            each(&mut present.filter(|(_, count)| *count > 0));
        }
    }

    /// The pattern of each row, where there are so few rows that drawing them one by one is quicker.
    fn owners(&self) -> Option<Vec<usize>> {
        let rows: u64 = self.counts.iter().sum();
        let few = rows < self.counts.len() as u64 * 16;
        few.then(|| {
            let copies = |(pattern, count): (usize, &u64)| (0..*count).map(move |_| pattern);
            self.counts.iter().enumerate().flat_map(copies).collect()
        })
    }
}

fn one_by_one(random: &mut fastrand::Rng, owners: &[usize], drawn: &mut [u64]) {
    drawn.fill(0);
    for _ in 0..owners.len() {
        drawn[owners[random.usize(..owners.len())]] += 1;
    }
}

/// A multinomial draw: how many rows go to the first pattern, how many of the rest to the second, and so on.
fn by_pattern(random: &mut fastrand::Rng, counts: &[u64], drawn: &mut [u64]) {
    let mut rows: u64 = counts.iter().sum();
    let mut to_draw = rows;
    for (drawn, count) in drawn.iter_mut().zip(counts) {
        *drawn = if to_draw == 0 {
            0
        } else {
            binomial::draw(random, to_draw, *count as f64 / rows as f64)
        };
        rows -= count;
        to_draw -= *drawn;
    }
}

/// What a figure was in each draw.
#[derive(Debug, Default)]
pub(super) struct Spread(Vec<f64>);

impl Spread {
    /// The figure of a draw; left out where the draw has none.
    pub(super) fn add(&mut self, figure: Option<f64>) {
        self.0.extend(figure);
    }

    /// The percentile interval around this estimate, corrected for bias: where more than half of the draws lie on one
    /// side of it, they lie too far on that side, and the interval is moved back. It is never so far off that it leaves
    /// the estimate out. `None` where the draws do not differ, which says nothing, or where most have no figure.
    pub(super) fn interval(mut self, estimate: f64, confidence: f64) -> Option<Interval> {
        self.0.sort_by(f64::total_cmp);
        let (first, last) = (*self.0.first()?, *self.0.last()?);
        if self.0.len() * 2 < DRAWS || last - first < SAME {
            return None;
        }
        let lean = 2.0 * self.share_below(estimate) - 1.0;
        let bias = 2.0 * z_of(lean.abs()).copysign(lean);
        let z = z_of(confidence);
        Some(Interval {
            low: self.quantile(normal_below(bias - z)).min(estimate),
            high: self.quantile(normal_below(bias + z)).max(estimate),
            method: Method::Bootstrap,
        })
    }

    /// Which share of the draws is below a figure. Those that are the same count half.
    fn share_below(&self, figure: f64) -> f64 {
        let until = |end: f64| self.0.partition_point(|drawn| *drawn < end) as f64;
        let share = (until(figure - SAME) + until(figure + SAME)) / 2.0 / self.0.len() as f64;
        // Where all are on one side nothing tells how far off they are.
        let least = 0.5 / self.0.len() as f64;
        share.clamp(least, 1.0 - least)
    }

    /// Between the two nearest, as NumPy has it.
    fn quantile(&self, share: f64) -> f64 {
        let place = share.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let below = self.0[place.floor() as usize];
        let above = self.0[place.ceil() as usize];
        below + (above - below) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interval of the share of ones, of so many zeros and ones.
    fn share(zeros: u64, ones: u64) -> Option<Interval> {
        let mut rows = Histogram::new();
        (0..zeros).for_each(|_| rows.add(&0_u64));
        (0..ones).for_each(|_| rows.add(&1_u64));
        let mut spread = Spread::default();
        rows.patterns()?.draw(|draw| {
            let (mut sum, mut n) = (0, 0);
            draw.for_each(|(value, count)| (sum, n) = (sum + value * count, n + count));
            assert_eq!(n, zeros + ones, "a draw is as large as the rows are many");
            spread.add((n > 0).then(|| sum as f64 / n as f64));
        });
        spread.interval(ones as f64 / (zeros + ones) as f64, 0.95)
    }

    #[test]
    fn rows_drawn_one_by_one_and_by_pattern_spread_as_the_formula_says() {
        for (zeros, ones) in [(10, 20), (3_000, 7_000)] {
            let n = (zeros + ones) as f64;
            let p = ones as f64 / n;
            let half = 1.96 * (p * (1.0 - p) / n).sqrt();
            let found = share(zeros, ones).expect("the draws differ");
            assert!(((p - found.low) / half - 1.0).abs() < 0.1, "{found:?}");
            assert!(((found.high - p) / half - 1.0).abs() < 0.1, "{found:?}");
        }
    }

    #[test]
    fn the_same_rows_have_the_same_interval_and_rows_that_are_alike_have_none() {
        assert_eq!(share(30, 70), share(30, 70));
        assert!(share(0, 9).is_none() && share(0, 0).is_none());
    }

    #[test]
    fn an_interval_is_moved_to_its_estimate_and_never_leaves_it_out() {
        let interval = |estimate| {
            let mut spread = Spread::default();
            (0..DRAWS).for_each(|draw| spread.add(Some(draw as f64 / DRAWS as f64)));
            spread.interval(estimate, 0.95).expect("the draws differ")
        };
        let close = |found: Interval, low: f64, high: f64| {
            let far = (found.low - low).abs().max((found.high - high).abs());
            assert!(far < 1e-3, "{found:?}");
        };
        close(interval(0.5), 0.025, 0.975);
        // Φ(2 Φ⁻¹(0.6) ∓ 1.96)
        close(interval(0.6), 0.0731, 0.9932);
        close(interval(0.4), 0.0068, 0.9269);
        for estimate in [-0.5, 0.0, 0.001, 0.01, 0.99, 1.5] {
            let found = interval(estimate);
            assert!(found.low <= estimate && estimate <= found.high, "{found:?}");
        }
    }

    #[test]
    fn patterns_beyond_the_most_that_are_kept_are_given_up() {
        let mut rows = Histogram::new();
        (0..PATTERNS as u64).for_each(|row| rows.add(&row));
        assert!(rows.patterns().is_some());
        rows.add(&7);
        assert!(rows.patterns().is_some());
        rows.add(&u64::MAX);
        rows.add(&7);
        assert!(rows.patterns().is_none());
    }
}
