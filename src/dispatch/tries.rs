//! What follows a failed attempt: the retry table of the error contract.

use std::time::Duration;

use super::backoff::Backoff;
use crate::job::RetryPolicy;
use crate::words::{CallError, ErrorClass};

/// The longest wait that a provider may ask for before it counts as out of quota.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// How often an attempt that may have been billed is made again.
const MAX_BILLED_RETRIES: u32 = 1;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the same backend again after this wait.
    Retry(Duration),
    /// Ask the next backend of the route.
    OtherBackend,
    /// Ask this backend nothing more in this run, and the next one of the route.
    StopBackend,
    /// No backend would take this request.
    GiveUp,
}

impl Next {
    /// How long to wait before the next attempt on the same backend.
    pub(super) fn wait(self) -> Option<Duration> {
        match self {
            Next::Retry(wait) => Some(wait),
            Next::OtherBackend | Next::StopBackend | Next::GiveUp => None,
        }
    }
}

/// The attempts that one row has made on one backend.
#[derive(Debug)]
pub(super) struct Tries {
    policy: RetryPolicy,
    has_fallback: bool,
    counted: u32,
    billed: u32,
    throttled: Duration,
}

impl Tries {
    /// No attempts yet. `has_fallback`: another backend could answer instead.
    pub(super) fn new(policy: RetryPolicy, has_fallback: bool) -> Self {
        Self {
            policy,
            has_fallback,
            counted: 0,
            billed: 0,
            throttled: Duration::ZERO,
        }
    }

    /// What to do after this failure.
    pub(super) fn after(&mut self, error: &CallError, backoff: &mut Backoff) -> Next {
        match error.class {
            ErrorClass::NotSent | ErrorClass::Server => self.retry(error, backoff),
            ErrorClass::Ambiguous | ErrorClass::Invalid => {
                self.billed += 1;
                match self.billed <= MAX_BILLED_RETRIES {
                    true => self.retry(error, backoff),
                    false => Next::OtherBackend,
                }
            }
            ErrorClass::Throttled => self.throttled(error, backoff),
            ErrorClass::Config | ErrorClass::Exhausted => Next::StopBackend,
            ErrorClass::RowFatal | ErrorClass::Flagged | ErrorClass::Cancelled => Next::GiveUp,
        }
    }

    fn retry(&mut self, error: &CallError, backoff: &mut Backoff) -> Next {
        self.counted += 1;
        if self.counted >= self.policy.attempts {
            return Next::OtherBackend;
        }
        match wait(error, backoff) {
            Some(wait) => Next::Retry(wait),
            None => Next::StopBackend,
        }
    }

    /// Being throttled is no fault of the row: it does not use up the row's attempts unless another
    /// backend could answer, or it has waited as long as all its attempts' longest waits.
    fn throttled(&mut self, error: &CallError, backoff: &mut Backoff) -> Next {
        let patience = self.policy.max.saturating_mul(self.policy.attempts);
        if self.has_fallback || self.throttled >= patience {
            self.counted += 1;
        }
        if self.counted >= self.policy.attempts {
            return Next::OtherBackend;
        }
        match wait(error, backoff) {
            Some(wait) => {
                self.throttled += wait;
                Next::Retry(wait)
            }
            None => Next::StopBackend,
        }
    }
}

/// The longer of what the provider asks for and the backoff; `None` if that is longer than a batch
/// should wait.
fn wait(error: &CallError, backoff: &mut Backoff) -> Option<Duration> {
    let wait = backoff
        .next()
        .unwrap_or_default()
        .max(error.retry_after.unwrap_or_default());
    (wait <= MAX_RETRY_AFTER).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attempts that a row makes on a backend which always fails so, and what it does then.
    fn fail(class: ErrorClass, has_fallback: bool) -> (u32, Next) {
        let policy = RetryPolicy::default();
        let mut tries = Tries::new(policy, has_fallback);
        let mut backoff = Backoff::new(policy, 1, 0);
        let error = CallError::new(class, "failed");
        for attempt in 1..1000 {
            let next = tries.after(&error, &mut backoff);
            if !matches!(next, Next::Retry(_)) {
                return (attempt, next);
            }
        }
        panic!("{class:?} is retried without end");
    }

    #[test]
    fn each_class_of_failure_ends_as_the_contract_says() {
        for (class, attempts, next) in [
            (ErrorClass::NotSent, 3, Next::OtherBackend),
            (ErrorClass::Config, 1, Next::StopBackend),
            (ErrorClass::RowFatal, 1, Next::GiveUp),
            (ErrorClass::Exhausted, 1, Next::StopBackend),
            (ErrorClass::Throttled, 3, Next::OtherBackend),
            (ErrorClass::Server, 3, Next::OtherBackend),
            (ErrorClass::Ambiguous, 2, Next::OtherBackend),
            (ErrorClass::Invalid, 2, Next::OtherBackend),
            (ErrorClass::Flagged, 1, Next::GiveUp),
            (ErrorClass::Cancelled, 1, Next::GiveUp),
        ] {
            assert_eq!(fail(class, true), (attempts, next), "{class:?}");
        }
    }

    #[test]
    fn a_throttled_row_waits_longer_than_its_attempts_when_nobody_else_can_answer() {
        let (attempts, next) = fail(ErrorClass::Throttled, false);
        assert!(attempts > 6, "{attempts}");
        assert_eq!(next, Next::OtherBackend);
    }

    #[test]
    fn the_wait_is_never_shorter_than_the_provider_asks() {
        let policy = RetryPolicy::default();
        let mut error = CallError::new(ErrorClass::Throttled, "slow down");
        error.retry_after = Some(Duration::from_secs(60));
        let after = |error: &CallError| {
            Tries::new(policy, false).after(error, &mut Backoff::new(policy, 1, 0))
        };
        assert_eq!(after(&error), Next::Retry(Duration::from_secs(60)));
        error.retry_after = Some(MAX_RETRY_AFTER + Duration::from_secs(1));
        assert_eq!(after(&error), Next::StopBackend);
    }
}
