//! What happened, in the past tense. The core emits events and never prints.

use std::sync::Arc;
use std::time::Duration;

use super::{ErrorClass, Status, Usd};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Rows are about to be asked.
    RunStarted {
        /// How many rows the job has.
        rows: u64,
    },
    /// An attempt failed and the same backend will be asked again.
    AttemptFailedWillRetry {
        /// The row's id.
        row: String,
        /// The backend.
        backend: Arc<str>,
        /// The class of the failure.
        class: ErrorClass,
        /// What went wrong.
        error: String,
        /// How long until the next attempt.
        wait: Duration,
    },
    /// A row left a backend for the next one of its route.
    RowFellBack {
        /// The row's id.
        row: String,
        /// The backend that did not answer.
        from: Arc<str>,
        /// The backend that is asked next.
        to: Arc<str>,
        /// Why.
        error: String,
    },
    /// A backend will not be asked again in this run.
    BackendStopped {
        /// The backend.
        backend: Arc<str>,
        /// The class of the failure that stopped it.
        class: ErrorClass,
        /// What went wrong.
        error: String,
    },
    /// A row's outcome is durable.
    RowFinished {
        /// How it ended.
        status: Status,
        /// What is known to have been paid for it.
        paid: Usd,
    },
    /// The run was asked to stop: no new rows, those in flight may end.
    DrainStarted {
        /// How many rows are in flight.
        in_flight: u64,
    },
}
