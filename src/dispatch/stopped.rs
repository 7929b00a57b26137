//! Whether a backend is out of the run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::words::CallError;

/// The end of a backend, once and for all.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    why: OnceLock<CallError>,
    signal: CancellationToken,
    told: AtomicBool,
}

impl Stopped {
    /// Why the backend is not asked any more, if so.
    pub(super) fn why(&self) -> Option<&CallError> {
        self.why.get()
    }

    /// Asks the backend nothing more. The first reason is kept.
    pub(super) fn stop(&self, error: &CallError) {
        let _ = self.why.set(error.clone());
        self.signal.cancel();
    }

    /// Whether it is still to be told that the backend is stopped; yes only once.
    pub(super) fn is_to_be_told(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Waits until the backend is stopped.
    pub(super) async fn wait(&self) {
        self.signal.cancelled().await;
    }
}
