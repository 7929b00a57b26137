//! `runner schema`: what a job file may hold, for editors.

use tokio_prompt_orchestrator::{ExitCode, job};

use super::terminal;

/// Prints the JSON Schema of the job file.
pub fn schema() -> ExitCode {
    terminal::json(&job::schema());
    ExitCode::Success
}
