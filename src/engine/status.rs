//! How far a job is, told by its store: also of a run that is under way, which is not disturbed.

use std::path::Path;

use super::money::budget_line;
use super::publish::Settings;
use super::shape::Shape;
use super::summary::{ExitCode, RunError};
use crate::output::BudgetLine;
use crate::store::{Reader, RunLine, StoreError, Tally};
use crate::words::Status;

/// How often it is looked again if a runner has come or gone meanwhile.
const LOOKS: usize = 3;

/// How far a job is.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// The job's name.
    pub job: String,
    /// What becomes of it now.
    pub state: RunState,
    /// The process that holds the directory, where there is one that says so.
    pub process: Option<u32>,
    /// The last run.
    pub run: RunLine,
    /// What was asked so far.
    pub tally: Tally,
    /// What is spent of the budget of the last run, if it had one.
    pub budget: Option<BudgetLine>,
    /// The backends of the last run, in the order of the job.
    pub backends: Vec<String>,
    /// What is asked, and what is asked about answers.
    shape: Shape,
}

/// How many answers these scorers have still to look at.
pub(super) fn left_to_score(shape: &Shape, scorers: &[usize], tally: &Tally) -> u64 {
    let left = |scorer: &usize, of: usize| -> Option<u64> {
        let side = tally.by_entry.get(shape.side(*scorer, of)?)?.iter();
        let said: u64 = side
            .filter(|(status, _)| status.is_final())
            .map(|(_, items)| items)
            .sum();
        let answered = tally.by_entry.get(of)?.get(&Status::Answered).copied();
        Some(answered.unwrap_or(0).saturating_sub(said))
    };
    let of_scorer = |scorer| (0..shape.lines()).filter_map(move |of| left(scorer, of));
    scorers.iter().flat_map(of_scorer).sum()
}

/// What becomes of a job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// A runner is asking.
    Running,
    /// The last run has ended, and the directory is held all the same: a run begins, or its files are being
    /// written or checked.
    Busy,
    /// The last run has no end, and nobody holds the directory: it was killed, or its disk failed.
    Killed,
    /// The last run was told to end.
    Interrupted,
    /// The last run came to its end.
    Finished,
}

impl RunState {
    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Busy => "busy",
            RunState::Killed => "killed",
            RunState::Interrupted => "interrupted",
            RunState::Finished => "finished",
        }
    }

    fn of(run: &RunLine, is_held: bool) -> Self {
        let told_to_end = [ExitCode::Interrupted, ExitCode::Terminated].map(ExitCode::code);
        match (&run.ended, is_held) {
            (None, true) => RunState::Running,
            (Some(_), true) => RunState::Busy,
            (None, false) => RunState::Killed,
            (Some(_), false)
                if run
                    .exit_code
                    .is_some_and(|code| told_to_end.contains(&code)) =>
            {
                RunState::Interrupted
            }
            (Some(_), false) => RunState::Finished,
        }
    }
}

impl JobStatus {
    /// How many answers are still to be judged or scored, as far as that is known: nobody has looked yet whether all of
    /// them are what the job wants.
    pub fn left_to_score(&self) -> u64 {
        left_to_score(&self.shape, self.shape.asking(), &self.tally)
    }

    /// How many rows are to be asked, by this run or the next one.
    pub fn left(&self) -> u64 {
        let done = self.tally.by_status.iter();
        let done: u64 = done
            .filter(|(status, _)| status.is_final())
            .map(|(_, rows)| rows)
            .sum();
        self.tally.rows.saturating_sub(done)
    }
}

/// How far the job in this directory is. Nothing is written, no lock is kept, and whoever runs it is not
/// disturbed.
pub fn status(dir: &Path) -> Result<JobStatus, RunError> {
    let reader = Reader::open(dir)?;
    let mut holder = Reader::holder(dir)?;
    for _ in 0..LOOKS {
        let run = reader.last_run()?;
        let before = std::mem::replace(&mut holder, Reader::holder(dir)?);
        if before != holder {
            // Whether the run has an end depends on when it was looked.
            continue;
        }
        let Some(run) = run else { break };
        let settings = Settings::read(dir, &run)?;
        let tally = reader.tally()?;
        let shape = settings.marker(None).shape;
        let stated = settings.frame.backends.into_iter();
        return Ok(JobStatus {
            job: settings.frame.job,
            state: RunState::of(&run, holder.is_some()),
            process: holder.and_then(|holder| holder.process),
            budget: budget_line(settings.frame.budget, &tally),
            tally,
            backends: stated.map(|stated| stated.backend).collect(),
            run,
            shape,
        });
    }
    Err(StoreError::NoRun {
        dir: dir.to_owned(),
    }
    .into())
}
