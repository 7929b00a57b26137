//! What follows a failed attempt: the retry table of the error contract.

use std::time::Duration;

use super::backoff::Backoff;
use crate::job::RetryPolicy;
use crate::words::{CallError, ErrorClass, MAX_RETRY_AFTER};

/// How often an attempt that may have been billed is made again.
const MAX_BILLED_RETRIES: u32 = 1;
/// How often one row may be refused for pace: a request that is larger than any allowance is refused
/// for ever while others pass.
const MAX_REFUSALS: u32 = 100;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the same backend again after this wait.
    Retry(Duration),
    /// Ask the same backend again as soon as it takes requests: this failure was not the row's.
    Wait,
    /// Ask the next backend of the route.
    OtherBackend,
    /// Ask this backend nothing more in this run, and the next one of the route.
    StopBackend,
    /// No backend would take this request.
    GiveUp,
}

/// The attempts that one row has made on one backend.
#[derive(Debug)]
pub(super) struct Tries {
    backoff: Backoff,
    allowed: u32,
    counted: u32,
    billed: u32,
    refused: u32,
    /// How many of the backend's answers others had got when the row failed first.
    pub(super) answers_then: Option<u64>,
}

impl Tries {
    /// No attempts yet of this row on the backend at this position of its route.
    pub(super) fn new(policy: RetryPolicy, row: u64, position: usize) -> Self {
        Self {
            backoff: Backoff::new(policy, row, position),
            allowed: policy.attempts,
            counted: 0,
            billed: 0,
            refused: 0,
            answers_then: None,
        }
    }

    /// One more attempt than were made, for the late sweep.
    pub(super) fn once_more(&mut self) {
        self.allowed = self.counted + 1;
    }

    /// What to do after this failure. `outage`: the attempt found out whether a backend is back that has
    /// been failing for everybody, or the server said that it is loading, and nobody else can answer.
    pub(super) fn after(&mut self, error: &CallError, outage: bool) -> Next {
        let retried = matches!(
            error.class,
            ErrorClass::NotSent
                | ErrorClass::Server
                | ErrorClass::Throttled
                | ErrorClass::Ambiguous
                | ErrorClass::Invalid
        );
        if retried && error.should_retry == Some(false) {
            return Next::OtherBackend;
        }
        match error.class {
            ErrorClass::NotSent | ErrorClass::Server if outage => Next::Wait,
            ErrorClass::NotSent | ErrorClass::Server => self.retry(error),
            ErrorClass::Ambiguous | ErrorClass::Invalid => {
                self.billed += 1;
                match self.billed <= MAX_BILLED_RETRIES {
                    true => self.retry(error),
                    false => Next::OtherBackend,
                }
            }
            ErrorClass::Throttled => self.throttled(error),
            ErrorClass::Config | ErrorClass::Exhausted => Next::StopBackend,
            ErrorClass::RowFatal if error.should_retry == Some(true) => self.retry(error),
            ErrorClass::RowFatal | ErrorClass::Flagged | ErrorClass::Cancelled => Next::GiveUp,
        }
    }

    fn retry(&mut self, error: &CallError) -> Next {
        self.counted += 1;
        if self.counted >= self.allowed {
            return Next::OtherBackend;
        }
        let asked_for = error.retry_after.unwrap_or_default();
        match asked_for > MAX_RETRY_AFTER {
            true => Next::StopBackend,
            false => Next::Retry(self.wait().max(asked_for)),
        }
    }

    /// Being throttled is no fault of the row: the backend pauses for everybody, and no attempt is used
    /// up.
    fn throttled(&mut self, error: &CallError) -> Next {
        self.refused += 1;
        if error.retry_after > Some(MAX_RETRY_AFTER) {
            Next::StopBackend
        } else if self.refused > MAX_REFUSALS {
            Next::OtherBackend
        } else {
            Next::Wait
        }
    }

    /// How long to wait before the attempt that follows the last one.
    pub(super) fn wait(&mut self) -> Duration {
        self.backoff.next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attempts that a row makes on a backend which always fails so, and what it does then.
    fn fail(class: ErrorClass, should_retry: Option<bool>) -> (u32, Next) {
        let mut tries = Tries::new(RetryPolicy::default(), 1, 0);
        let mut error = CallError::new(class, "failed");
        error.should_retry = should_retry;
        for attempt in 1..1000 {
            let next = tries.after(&error, false);
            if !matches!(next, Next::Retry(_) | Next::Wait) {
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
            (ErrorClass::Throttled, 101, Next::OtherBackend),
            (ErrorClass::Server, 3, Next::OtherBackend),
            (ErrorClass::Ambiguous, 2, Next::OtherBackend),
            (ErrorClass::Invalid, 2, Next::OtherBackend),
            (ErrorClass::Flagged, 1, Next::GiveUp),
            (ErrorClass::Cancelled, 1, Next::GiveUp),
        ] {
            assert_eq!(fail(class, None), (attempts, next), "{class:?}");
        }
    }

    #[test]
    fn the_servers_word_on_retrying_counts() {
        for class in [
            ErrorClass::Server,
            ErrorClass::Throttled,
            ErrorClass::Ambiguous,
        ] {
            assert_eq!(fail(class, Some(false)), (1, Next::OtherBackend));
        }
        assert_eq!(
            fail(ErrorClass::Config, Some(false)),
            (1, Next::StopBackend)
        );
        assert_eq!(
            fail(ErrorClass::RowFatal, Some(true)),
            (3, Next::OtherBackend)
        );
    }

    #[test]
    fn the_wait_is_never_shorter_than_the_provider_asks() {
        let after = |class, wait| {
            let mut error = CallError::new(class, "slow down");
            error.retry_after = Some(wait);
            Tries::new(RetryPolicy::default(), 1, 0).after(&error, false)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(after(ErrorClass::Server, minute), Next::Retry(minute));
        let too_long = MAX_RETRY_AFTER + Duration::from_secs(1);
        assert_eq!(after(ErrorClass::Server, too_long), Next::StopBackend);
        assert_eq!(after(ErrorClass::Throttled, too_long), Next::StopBackend);
    }

    #[test]
    fn a_long_backoff_of_the_jobs_own_is_a_wait_and_not_a_lack_of_quota() {
        let hour = Duration::from_secs(3600);
        let policy = RetryPolicy {
            initial: hour,
            max: hour,
            ..RetryPolicy::default()
        };
        let error = CallError::new(ErrorClass::Server, "failed");
        for row in 0..20 {
            let next = Tries::new(policy, row, 0).after(&error, false);
            assert!(matches!(next, Next::Retry(_)), "{next:?}");
        }
    }

    #[test]
    fn an_outage_costs_the_rows_that_look_after_it_nothing() {
        let mut tries = Tries::new(RetryPolicy::default(), 1, 0);
        for class in [ErrorClass::NotSent, ErrorClass::Server] {
            let error = CallError::new(class, "connection refused");
            for _ in 0..50 {
                assert_eq!(tries.after(&error, true), Next::Wait);
            }
        }
        let error = CallError::new(ErrorClass::Ambiguous, "timed out");
        assert!(matches!(tries.after(&error, true), Next::Retry(_)));
        assert_eq!(tries.after(&error, true), Next::OtherBackend);
    }

    #[test]
    fn the_late_sweep_makes_one_attempt_more() {
        let mut tries = Tries::new(RetryPolicy::default(), 1, 0);
        let error = CallError::new(ErrorClass::Server, "failed");
        while tries.after(&error, false) != Next::OtherBackend {}
        tries.once_more();
        assert_eq!(tries.after(&error, false), Next::OtherBackend);
    }
}
