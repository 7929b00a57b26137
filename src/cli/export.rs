//! `runner export DIR`: results and reports again, from the store.

use tokio_prompt_orchestrator::ExitCode;
use tokio_prompt_orchestrator::output::file_name;
use tokio_prompt_orchestrator::words::Status;

use super::args::ExportArgs;
use super::{stdout, terminal};

/// Writes the files of the last run again and says which.
pub fn export(args: &ExportArgs) -> ExitCode {
    stdout::reserve(args.stdout);
    if let Some(formats) = &args.formats
        && let Some(code) = stdout::missing(args.stdout, formats)
    {
        return code;
    }
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
    let files = &exported.summary.files;
    let written = args.stdout.filter(|format| {
        let name = file_name(*format);
        files.iter().any(|file| file.ends_with(name))
    });
    match stdout::missing(args.stdout, written.as_slice()) {
        Some(code) => code,
        None => stdout::copy(args.stdout, files, ExitCode::Success),
    }
}
