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
}
