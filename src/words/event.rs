//! What happened, in the past tense. The core emits events and never prints.

use std::sync::Arc;
use std::time::Duration;

use super::{BackendNow, Changes, ErrorClass, Status, Usd};

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The output directory is on a network file system, where a lock or a sync may mean less.
    DirectoryIsRemote {
        /// The file system.
        filesystem: &'static str,
    },
    /// The job was compared with the store; nothing has been sent yet.
    Planned(Changes),
    /// The job has a budget.
    BudgetOpened {
        /// The cap.
        cap: Usd,
        /// What earlier runs of the job have paid, and what may have been billed to them at most.
        spent: Usd,
        /// By how much the cap may be passed at most, as far as the job's first rows tell; `None` if by nothing.
        overshoot: Option<Usd>,
        /// Attempts of earlier runs of whose cost nothing is known, not even a bound: they are not counted.
        unbounded: u64,
    },
    /// A row could not be asked for want of money. Told once in a run.
    BudgetReached {
        /// The cap.
        cap: Usd,
        /// What was paid so far, and what may have been billed at most.
        spent: Usd,
        /// What it would have taken.
        needed: Usd,
    },
    /// A backend charged for more than could be expected of a request. Told once of each backend.
    CostWasHigher {
        /// The backend.
        backend: Arc<str>,
        /// The most that the request could cost.
        most: Usd,
        /// What it cost.
        paid: Usd,
    },
    /// More was wasted than the job allows: nothing more is asked.
    WasteReached {
        /// What was paid for nothing.
        wasted: Usd,
        /// What was paid.
        paid: Usd,
        /// How many rows have ended.
        rows: u64,
    },
    /// What an answer must be has changed: so many answers that were there are valid now, or are not any more. Nothing is
    /// asked for it.
    AnswersRestated {
        /// How many.
        rows: u64,
    },
    /// Rows are about to be asked.
    RunStarted {
        /// How many rows the job has, each counted once for each entry of the matrix and repeat.
        rows: u64,
        /// How many of them are done already.
        done: u64,
    },
    /// What each backend does at this moment, in the order of the job. Told a few times a second while rows are asked.
    BackendsSeen(Vec<BackendNow>),
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
    /// An answer is not what the job says that one must be: the same backend is asked again, and told why.
    AnswerWasInvalid {
        /// The row's id.
        row: String,
        /// The backend.
        backend: Arc<str>,
        /// Why it is none.
        error: String,
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
    /// A backend refused because it is asked too much; nothing is sent to it for a while.
    BackendPaused {
        /// The backend.
        backend: Arc<str>,
        /// For how long.
        wait: Duration,
        /// What it said.
        error: String,
    },
    /// A backend failed again and again; nothing is sent to it for a while, then one request.
    BreakerOpened {
        /// The backend.
        backend: Arc<str>,
        /// For how long.
        wait: Duration,
        /// The last failure.
        error: String,
    },
    /// A backend that had failed again and again answers again.
    BreakerClosed {
        /// The backend.
        backend: Arc<str>,
    },
    /// A row was put off: its backend has used up its retries for now.
    RowDeferred {
        /// The row's id.
        row: String,
        /// The backend.
        backend: Arc<str>,
        /// What went wrong last.
        error: String,
    },
    /// Rows that have no answer yet are asked once more.
    SweepStarted {
        /// How many.
        rows: u64,
    },
    /// The cache cannot be used, or not any more: the run goes on without it.
    CacheLost {
        /// What happened to it.
        error: String,
    },
    /// Nothing is added to the cache, or nothing more; what it has is used.
    CacheNotFilled {
        /// What happened to it.
        error: String,
    },
    /// An entry of the cache is not what was stored: it is no answer, and thrown away. Told once in a run.
    CacheEntryDamaged,
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
    /// Something is asked about the answers: who decides where they disagree, or what they are worth.
    FollowUpsStarted {
        /// What is done, as `answers are judged`.
        what: String,
        /// How many answers that concerns at most; `None` where nobody knows.
        about: Option<u64>,
    },
    /// A scorer's program cannot go on: the answers that it said nothing of are not scored.
    ScorerFailed {
        /// The scorer.
        scorer: String,
        /// What happened.
        error: String,
    },
    /// What was asked about an answer has its end, and that is durable.
    FollowUpFinished {
        /// How it ended.
        status: Status,
        /// What is known to have been paid for it.
        paid: Usd,
    },
    /// The run was asked to stop: no new rows, those in flight may end.
    DrainStarted {
        /// How many requests are in flight: what is only noted down is not sent any more.
        in_flight: u64,
        /// Whether somebody asked for it.
        is_asked_for: bool,
    },
}
