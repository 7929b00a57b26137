//! Whether a backend is worth asking.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::words::{CallError, ErrorClass};

/// How many attempts in a row must fail to reach a backend before it counts as lost …
const LOST_AFTER: u32 = 10;
/// … and for how long, if it has not answered in this run: its address is probably wrong …
const LOST_FOR: Duration = Duration::from_secs(5);
/// … or if it has: it may be restarting, or the network may come back.
const LOST_FOR_AFTER_ANSWERS: Duration = Duration::from_secs(10 * 60);

/// What is known of a backend's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    stopped: OnceLock<CallError>,
    told: CancellationToken,
    reached: AtomicBool,
    unreached: Mutex<Option<Unreached>>,
}

/// A streak of attempts that did not reach the backend.
#[derive(Debug, Clone, Copy)]
struct Unreached {
    since: Instant,
    attempts: u32,
}

impl Health {
    /// Why the backend is not asked any more, if so.
    pub(super) fn stopped(&self) -> Option<&CallError> {
        self.stopped.get()
    }

    /// Asks the backend nothing more; `false` if it was stopped before.
    pub(super) fn stop(&self, error: &CallError) -> bool {
        let first = self.stopped.set(error.clone()).is_ok();
        self.told.cancel();
        first
    }

    /// Waits until the backend is stopped.
    pub(super) async fn until_stopped(&self) {
        self.told.cancelled().await;
    }

    /// Takes note of how an attempt ended.
    pub(super) fn observe(&self, class: Option<ErrorClass>) {
        if class != Some(ErrorClass::NotSent) {
            self.reached.store(true, Ordering::Relaxed);
        }
        let mut unreached = self.unreached();
        *unreached = match (class, *unreached) {
            (Some(ErrorClass::NotSent), Some(streak)) => Some(Unreached {
                attempts: streak.attempts + 1,
                ..streak
            }),
            (Some(ErrorClass::NotSent), None) => Some(Unreached {
                since: Instant::now(),
                attempts: 1,
            }),
            _ => None,
        };
    }

    /// Whether the backend has not been reached so often and for so long that it should be stopped.
    pub(super) fn lost(&self) -> bool {
        let bound = match self.reached() {
            true => LOST_FOR_AFTER_ANSWERS,
            false => LOST_FOR,
        };
        self.unreached()
            .is_some_and(|streak| streak.attempts >= LOST_AFTER && streak.since.elapsed() >= bound)
    }

    /// Whether it has answered in this run and is not reached now: it may be restarting.
    pub(super) fn away(&self) -> bool {
        self.reached() && self.streak() >= LOST_AFTER
    }

    fn reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Whether it is stopped, was never reached, or has not been reached many times in a row.
    pub(super) fn down(&self) -> bool {
        let streak = self.streak();
        self.stopped().is_some() || streak >= LOST_AFTER || (streak > 0 && !self.reached())
    }

    /// How many attempts in a row have not reached it.
    fn streak(&self) -> u32 {
        self.unreached().map_or(0, |streak| streak.attempts)
    }

    fn unreached(&self) -> MutexGuard<'_, Option<Unreached>> {
        // The value is replaced whole, so it is sound even if a holder panicked.
        self.unreached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
