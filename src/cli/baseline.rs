//! `runner baseline DIR`: the scores of a run, for later runs to be compared with.

use tokio_prompt_orchestrator::ExitCode;

use super::args::BaselineArgs;
use super::terminal;

/// Writes or prints the file.
pub fn baseline(args: &BaselineArgs) -> ExitCode {
    match tokio_prompt_orchestrator::baseline(&args.dir, args.to.as_deref()) {
        Ok(written) => {
            match &args.to {
                Some(path) => terminal::out(&format!(
                    "wrote {}: {} rows, scores of {}",
                    path.display(),
                    written.rows,
                    terminal::escape(&written.scorers.join(", "))
                )),
                None => terminal::json_text(&written.text),
            }
            ExitCode::Success
        }
        Err(error) => {
            terminal::error(&error);
            error.exit_code()
        }
    }
}
