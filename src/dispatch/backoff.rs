//! How long to wait before an attempt: exponential, with full jitter.

use std::time::Duration;

use crate::job::RetryPolicy;

/// The waits of one row on one backend, without end: each is drawn evenly between zero and a ceiling
/// that doubles from `initial` to `max`.
#[derive(Debug)]
pub(super) struct Backoff {
    random: fastrand::Rng,
    ceiling: Duration,
    max: Duration,
}

impl Backoff {
    /// The waits of this row on the backend at this position; the same for the same row.
    pub(super) fn new(policy: RetryPolicy, row: u64, position: usize) -> Self {
        let seed = row
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(position as u64);
        Self {
            random: fastrand::Rng::with_seed(seed),
            ceiling: policy.initial.min(policy.max),
            max: policy.max,
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let ceiling = u64::try_from(self.ceiling.as_micros()).unwrap_or(u64::MAX - 1);
        // From nothing too, so that a policy which starts at zero does not spin.
        let doubled = self.ceiling.saturating_mul(2).max(Duration::from_millis(1));
        self.ceiling = doubled.min(self.max);
        Some(Duration::from_micros(self.random.u64(0..=ceiling)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_ceiling_that_doubles_up_to_the_longest() {
        let policy = RetryPolicy {
            attempts: 9,
            initial: Duration::from_millis(100),
            max: Duration::from_millis(350),
            ..RetryPolicy::default()
        };
        let mut longest = [Duration::ZERO; 4];
        for row in 0..2_000 {
            for (longest, wait) in longest.iter_mut().zip(Backoff::new(policy, row, 0)) {
                *longest = wait.max(*longest);
            }
        }
        let ceilings = [100, 200, 350, 350].map(Duration::from_millis);
        for (longest, ceiling) in longest.into_iter().zip(ceilings) {
            assert!(
                longest <= ceiling && longest > ceiling * 9 / 10,
                "{longest:?} of {ceiling:?}"
            );
        }
    }

    #[test]
    fn rows_do_not_wait_in_step() {
        let wait = |row| Backoff::new(RetryPolicy::default(), row, 0).next();
        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }
}
