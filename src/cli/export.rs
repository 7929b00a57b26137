//! `runner export DIR`: results and reports again, from the store.

use tokio_prompt_orchestrator::ExitCode;
use tokio_prompt_orchestrator::words::Status;

use super::args::ExportArgs;
use super::terminal;

/// Writes the files of the last run again and says which.
pub fn export(args: &ExportArgs) -> ExitCode {
    let exported = tokio_prompt_orchestrator::export(&args.dir, args.formats.as_deref());
    let exported = match exported {
        Ok(exported) => exported,
        Err(error) => {
            terminal::error(&error);
            return error.exit_code();
        }
    };
    let report = &exported.summary.report;
    terminal::out(&format!(
        "{}: {} of {} answered",
        terminal::escape(&report.job),
        report.rows_with(Status::Answered),
        report.asked()
    ));
    let others = report.by_status.iter();
    for (status, rows) in others.filter(|(status, rows)| **status != Status::Answered && **rows > 0)
    {
        terminal::out(&format!("  {rows} {}", status.as_str()));
    }
    if exported.killed {
        terminal::out("the run was killed before its end: the same command again goes on");
    }
    for file in &exported.summary.files {
        terminal::out(&format!("wrote {}", file.display()));
    }
    ExitCode::Success
}
