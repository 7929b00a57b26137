//! How long replies took: a histogram, in memory that does not grow with the number of rows.

use std::collections::BTreeMap;

use crate::words::Outcome;

/// Milliseconds → how many replies took so long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Latency(BTreeMap<u64, u64>);

impl Latency {
    /// Adds the time of the attempt that decided, if it brought a reply. What was not sent took no time.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        if let (Some(attempt), Some(_)) = (outcome.deciding(), &outcome.answer)
            && attempt.kind.is_request()
        {
            let milliseconds = u64::try_from(attempt.latency.as_millis()).unwrap_or(u64::MAX);
            *self.0.entry(milliseconds).or_default() += 1;
        }
    }

    /// The time within which this many percent of the replies came; `None` without any. (The nearest
    /// rank.)
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let rows: u64 = self.0.values().sum();
        let rank = (rows * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(milliseconds, count)| {
            seen += count;
            (seen >= rank).then_some(*milliseconds)
        })
    }
}

/// How many replies took how long, in steps of the same width from nothing on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Histogram {
    /// How wide a step is, in milliseconds.
    pub(super) width: u64,
    /// How many replies there are in each; in the last one all that took longer, too.
    pub(super) counts: Vec<u64>,
}

impl Latency {
    /// As few steps as show the shape; `None` without replies. The slowest in a hundred are not told apart.
    pub(super) fn histogram(&self) -> Option<Histogram> {
        const STEPS: u64 = 24;
        let slow = self.percentile(99)?;
        let tens = (0..19).map(|power| 10_u64.pow(power));
        let mut widths = tens.flat_map(|ten| [1, 2, 5].map(|of| of * ten));
        let width = widths.find(|width| slow / width < STEPS)?;
        let mut counts = vec![0; usize::try_from(slow / width + 1).ok()?];
        let last = counts.len() - 1;
        for (milliseconds, count) in &self.0 {
            let step = usize::try_from(milliseconds / width).unwrap_or(last);
            counts[step.min(last)] += count;
        }
        Some(Histogram { width, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let latency = |values: &[u64]| {
            let mut counts = Latency::default();
            for value in values {
                *counts.0.entry(*value).or_default() += 1;
            }
            counts
        };
        let hundred: Vec<u64> = (1..=100).collect();
        for percent in [1, 50, 90, 99, 100] {
            assert_eq!(latency(&hundred).percentile(percent), Some(percent));
        }
        assert_eq!(latency(&[7]).percentile(50), Some(7));
        assert_eq!(latency(&[1, 9]).percentile(50), Some(1));
        assert_eq!(latency(&[]).percentile(50), None);
    }

    #[test]
    fn a_histogram_counts_every_reply_in_at_most_24_steps() {
        for (times, width, counts) in [
            (vec![0], 1, vec![1]),
            (vec![3, 3, 5], 1, vec![0, 0, 0, 2, 0, 1]),
            (
                vec![10, 119],
                5,
                [vec![0, 0, 1], vec![0; 20], vec![1]].concat(),
            ),
            (
                vec![u64::MAX],
                1_000_000_000_000_000_000,
                [vec![0; 18], vec![1]].concat(),
            ),
        ] {
            let mut latency = Latency::default();
            for time in times {
                *latency.0.entry(time).or_default() += 1;
            }
            assert_eq!(latency.histogram(), Some(Histogram { width, counts }));
        }
        assert_eq!(Latency::default().histogram(), None);
        let many = Latency((0..10_000).map(|time| (time, 1)).collect());
        let many = many.histogram().unwrap();
        assert!(many.counts.len() <= 24);
        assert_eq!(many.counts.iter().sum::<u64>(), 10_000);
    }
}
