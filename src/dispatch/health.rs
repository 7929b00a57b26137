//! Whether a backend is worth asking.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::words::{CallError, ErrorClass};

/// How many attempts in a row must fail to reach a backend before it counts as lost …
const LOST_AFTER: u32 = 10;
/// … and for how long, so that a server which restarts is waited for.
const LOST_FOR: Duration = Duration::from_secs(5);

/// What is known of a backend's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    stopped: OnceLock<CallError>,
    told: CancellationToken,
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
        self.unreached().is_some_and(|streak| {
            streak.attempts >= LOST_AFTER && streak.since.elapsed() >= LOST_FOR
        })
    }

    /// Whether it is stopped, or the last attempt did not reach it.
    pub(super) fn down(&self) -> bool {
        self.stopped().is_some() || self.unreached().is_some()
    }

    fn unreached(&self) -> MutexGuard<'_, Option<Unreached>> {
        // The value is replaced whole, so it is sound even if a holder panicked.
        self.unreached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
