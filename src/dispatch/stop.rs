//! How a run is told to end early.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Who asked a run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interrupt {
    /// Ctrl-C, SIGINT, or the program that runs the job.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// A request to end a run, in two steps: [`drain`](Stop::drain) starts nothing new and lets requests
/// in flight end; [`abort`](Stop::abort) gives those up too. Clones share the request.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    abort: CancellationToken,
    interrupt: Arc<OnceLock<Interrupt>>,
}

impl Stop {
    /// A request that has not been made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Start nothing new. The first one to ask is remembered.
    pub fn drain(&self, interrupt: Interrupt) {
        let _ = self.interrupt.set(interrupt);
        self.drain.cancel();
    }

    /// Give up what is in flight as well.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Who asked the run to end, if anybody did.
    pub fn interrupt(&self) -> Option<Interrupt> {
        self.interrupt.get().copied()
    }

    /// Start nothing new, although nobody asked for it.
    pub fn halt(&self) {
        self.drain.cancel();
    }

    /// Whether the run is asked to end.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until the run is asked to end.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until the run is asked to give up what is in flight.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}
