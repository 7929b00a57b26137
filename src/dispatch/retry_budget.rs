//! Retries are a share of the traffic: when everything fails, they must not be most of what is sent.

use std::sync::{Mutex, PoisonError};

use super::limiter::window::Window;

/// A tenth of the requests of the last minute may be retries …
const SHARE: u64 = 10;
/// … and at least one a second.
const LEAST: u64 = 60;

/// The retries that one backend may still get.
#[derive(Debug)]
pub(super) struct RetryBudget {
    last_minute: Mutex<(Window, Window)>,
}

impl RetryBudget {
    /// Nothing sent yet.
    pub(super) fn new() -> Self {
        Self {
            last_minute: Mutex::new((Window::new(), Window::new())),
        }
    }

    /// A request is sent.
    pub(super) fn sent(&self) {
        self.with(|(requests, _)| requests.add(1));
    }

    /// Takes a retry, if there is one.
    pub(super) fn take(&self) -> bool {
        self.with(|(requests, retries)| {
            let allowed = retries.sum() < LEAST.max(requests.sum() / SHARE);
            if allowed {
                retries.add(1);
            }
            allowed
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut (Window, Window)) -> T) -> T {
        // Nothing panics while holding it; if something did, the sums are still sound.
        let mut last_minute = self
            .last_minute
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        f(&mut last_minute)
    }
}
