//! What follows a failed attempt: the retry table of the error contract.

use std::time::Duration;

use super::backoff::Backoff;
use crate::job::RetryPolicy;
use crate::words::{CallError, ErrorClass, MAX_RETRY_AFTER};

/// How often an attempt that may have been billed is made again.
const MAX_BILLED_RETRIES: u32 = 1;
/// How often a row is throttled, or misses a server that was there before, without using up attempts.
const MAX_FREE_RETRIES: u32 = 300;
/// The shortest pause for a server that was there before and cannot be reached now.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

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
    free: u32,
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
            free: 0,
            throttled: Duration::ZERO,
        }
    }

    /// What to do after this failure. `away`: the backend was there before and is not reached now.
    pub(super) fn after(&mut self, error: &CallError, away: bool, backoff: &mut Backoff) -> Next {
        match error.class {
            ErrorClass::NotSent if away && !self.has_fallback => self.wait_for_restart(backoff),
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
        self.wait(error, backoff)
    }

    /// Being throttled is no fault of the row: it does not use up the row's attempts unless another
    /// backend could answer, or it has waited as long as all its attempts' longest waits.
    fn throttled(&mut self, error: &CallError, backoff: &mut Backoff) -> Next {
        let patience = self.policy.max.saturating_mul(self.policy.attempts);
        self.free += 1;
        if self.has_fallback || self.throttled >= patience || self.free > MAX_FREE_RETRIES {
            self.counted += 1;
        }
        if self.counted >= self.policy.attempts {
            return Next::OtherBackend;
        }
        let next = self.wait(error, backoff);
        self.throttled += next.wait().unwrap_or_default();
        next
    }

    /// A server that was there before is restarting, or the network is gone: the row's attempts are
    /// kept, for nothing was sent. The backend's health says when that has lasted too long.
    fn wait_for_restart(&mut self, backoff: &mut Backoff) -> Next {
        self.free += 1;
        match self.free > MAX_FREE_RETRIES {
            true => Next::OtherBackend,
            false => Next::Retry(backoff.next().unwrap_or_default().max(RESTART_PAUSE)),
        }
    }

    /// The longer of what the provider asks for and the backoff. Nobody waits longer for a provider
    /// than a batch should, nor longer than the policy's longest wait if another backend could answer.
    fn wait(&self, error: &CallError, backoff: &mut Backoff) -> Next {
        let asked_for = error.retry_after.unwrap_or_default();
        if asked_for > MAX_RETRY_AFTER {
            Next::StopBackend
        } else if self.has_fallback && asked_for > self.policy.max {
            Next::OtherBackend
        } else {
            Next::Retry(backoff.next().unwrap_or_default().max(asked_for))
        }
    }
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
            let next = tries.after(&error, false, &mut backoff);
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
            Tries::new(policy, false).after(error, false, &mut Backoff::new(policy, 1, 0))
        };
        assert_eq!(after(&error), Next::Retry(Duration::from_secs(60)));
        error.retry_after = Some(MAX_RETRY_AFTER + Duration::from_secs(1));
        assert_eq!(after(&error), Next::StopBackend);
    }

    #[test]
    fn nobody_waits_longer_for_a_provider_than_the_policy_says_if_another_can_answer() {
        let policy = RetryPolicy::default();
        let mut error = CallError::new(ErrorClass::Throttled, "slow down");
        error.retry_after = Some(policy.max + Duration::from_secs(1));
        let mut backoff = Backoff::new(policy, 1, 0);
        let next = Tries::new(policy, true).after(&error, false, &mut backoff);
        assert_eq!(next, Next::OtherBackend);
    }

    #[test]
    fn a_policy_of_no_wait_at_all_ends_nevertheless() {
        let policy = RetryPolicy {
            attempts: 3,
            initial: Duration::ZERO,
            max: Duration::from_secs(30),
            ..RetryPolicy::default()
        };
        let mut tries = Tries::new(policy, false);
        let mut backoff = Backoff::new(policy, 1, 0);
        let error = CallError::new(ErrorClass::Throttled, "slow down");
        let retries = (0..2_000)
            .take_while(|_| matches!(tries.after(&error, false, &mut backoff), Next::Retry(_)))
            .count();
        assert!(retries < 100, "{retries}");
    }

    #[test]
    fn a_long_backoff_of_the_jobs_own_is_a_wait_and_not_a_lack_of_quota() {
        let hour = Duration::from_secs(3600);
        let policy = RetryPolicy {
            attempts: 3,
            initial: hour,
            max: hour,
            ..RetryPolicy::default()
        };
        let error = CallError::new(ErrorClass::Server, "failed");
        for row in 0..20 {
            let next =
                Tries::new(policy, true).after(&error, false, &mut Backoff::new(policy, row, 0));
            assert!(matches!(next, Next::Retry(_)), "{next:?}");
        }
    }

    #[test]
    fn a_server_that_was_there_before_costs_no_attempts_while_it_is_away() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(policy, 1, 0);
        let error = CallError::new(ErrorClass::NotSent, "connection refused");
        let mut alone = Tries::new(policy, false);
        for _ in 0..50 {
            let next = alone.after(&error, true, &mut backoff);
            assert!(next.wait() >= Some(RESTART_PAUSE), "{next:?}");
        }
        let mut with_fallback = Tries::new(policy, true);
        let retries = (0..50)
            .take_while(|_| {
                matches!(
                    with_fallback.after(&error, true, &mut backoff),
                    Next::Retry(_)
                )
            })
            .count();
        assert_eq!(retries, 2);
    }
}
