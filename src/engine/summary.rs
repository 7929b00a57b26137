//! How a run ended, and the exit code that follows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::publish::End;
use crate::dispatch::Interrupt;
use crate::input::InputError;
use crate::job::{BudgetPlan, MaxFailures, Problems};
use crate::output::{OutputError, Report};
use crate::store::StoreError;
use crate::words::{Changes, Status};

/// The exit codes of the `runner` command: the one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Every row answered (but for `max_failures`).
    Success = 0,
    /// Something unexpected.
    Unexpected = 1,
    /// Wrong usage, or a problem in the job file or its inputs.
    Usage = 2,
    /// More rows than `max_failures` ended without an answer.
    Failures = 3,
    /// The budget had no room for some rows, or more was wasted than the job allows.
    Budget = 4,
    /// Every backend is exhausted or down.
    Backends = 5,
    /// The run store or the output directory failed.
    Storage = 6,
    /// The gate of the job is not met.
    Gate = 7,
    /// Another runner holds the output directory.
    Locked = 75,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
    /// Terminated by SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why no more rows were asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// There were no more.
    #[default]
    Complete,
    /// No backend was left.
    BackendsDown,
    /// More was wasted than the job allows.
    Wasteful,
    /// The run was stopped.
    Stopped,
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// Rows, tokens, cost, latency.
    pub report: Report,
    /// Why it ended.
    pub ended: Ended,
    /// The exit code that follows.
    pub exit_code: ExitCode,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

/// Why a run could not be made or not be finished.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A backend of type `custom` that the program supplied no worker for.
    #[error(
        "backend `{name}` is of type custom: the program that runs this job must supply its worker"
    )]
    NoWorker {
        /// The backend.
        name: String,
    },
    /// Files of prices cannot be read.
    #[error(transparent)]
    Prices(Problems),
    /// The input cannot be read on.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Something changed since the last run, and the run was to be refused then.
    #[error(
        "{dir} is frozen, and the job is not what was run there: {} changed, {} removed, {} unseen rows",
        changes.changed, changes.removed, changes.unseen
    )]
    Frozen {
        /// The directory.
        dir: PathBuf,
        /// What changed.
        changes: Changes,
    },
    /// What the job says of answers or their worth has changed, and the run was to be refused then.
    #[error(
        "{dir} is frozen, and the job says something else of answers than it did there: `answer`, `score` or `escalate` changed"
    )]
    FrozenRules {
        /// The directory.
        dir: PathBuf,
    },
    /// The output directory has results and no store that they could be from.
    #[error(
        "{path} is there, and no run.db that it could be from: it is not written over; choose another \
         directory (`--out`), or write over it with `--fresh`"
    )]
    ForeignResults {
        /// One of the results.
        path: PathBuf,
    },
    /// The budget is to be kept exactly, and nobody knows what runs before have spent.
    #[error(
        "the budget of ${} cannot be kept: nobody knows what {attempts} attempts of earlier runs cost, not even at \
         most (their backend had no price or no cap then); a budget with `mode: calibrated` leaves them out, and \
         `--fresh` starts anew",
        budget.usd
    )]
    Unbounded {
        /// The budget.
        budget: BudgetPlan,
        /// How many attempts.
        attempts: u64,
    },
    /// The run was stopped before anything was asked.
    #[error("stopped before anything was sent")]
    Stopped(Option<Interrupt>),
    /// The run store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Results or reports cannot be written; the answers are in the store.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl RunError {
    /// Whether the disk is at fault, and the run goes on once that is mended. Other errors say what to do.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            RunError::Output(_)
                | RunError::Store(StoreError::Io { .. } | StoreError::Database { .. })
        )
    }

    /// The exit code that says so.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RunError::NoWorker { .. }
            | RunError::Prices(_)
            | RunError::Unbounded { .. }
            | RunError::Frozen { .. }
            | RunError::FrozenRules { .. }
            | RunError::ForeignResults { .. } => ExitCode::Usage,
            RunError::Input(_) => ExitCode::Unexpected,
            RunError::Stopped(Some(Interrupt::Terminated)) => ExitCode::Terminated,
            RunError::Stopped(_) => ExitCode::Interrupted,
            RunError::Store(StoreError::Locked { .. }) => ExitCode::Locked,
            RunError::Store(StoreError::OtherJob { .. } | StoreError::NoRun { .. }) => {
                ExitCode::Usage
            }
            RunError::Store(_) | RunError::Output(_) => ExitCode::Storage,
        }
    }
}

/// The exit code of a run that could be finished: the one function.
pub(super) fn exit_code(end: &End, report: &Report, most: MaxFailures) -> ExitCode {
    let without = report.unanswered() + report.unscored;
    let too_many = most.exceeded(without, report.rows());
    let without_money = report.rows_with(Status::SkippedBudget) + report.unaffordable;
    let skipped = end.budget_reached && without_money > 0;
    let is_unmet = report.gate.as_ref().is_some_and(|gate| !gate.is_met);
    match (end.ended, end.interrupt) {
        (Ended::Stopped, Some(Interrupt::Terminated)) => ExitCode::Terminated,
        (Ended::Stopped, _) => ExitCode::Interrupted,
        (Ended::BackendsDown, _) => ExitCode::Backends,
        (Ended::Wasteful, _) => ExitCode::Budget,
        (Ended::Complete, _) if skipped => ExitCode::Budget,
        (Ended::Complete, _) if too_many && end.backends_down => ExitCode::Backends,
        (Ended::Complete, _) if too_many => ExitCode::Failures,
        (Ended::Complete, _) if is_unmet => ExitCode::Gate,
        (Ended::Complete, _) => ExitCode::Success,
    }
}
