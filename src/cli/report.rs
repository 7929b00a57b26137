//! `runner report DIR`: the report of a run again, from its store, by the prices of then or by others.

use tokio_prompt_orchestrator::output::repriced_lines;
use tokio_prompt_orchestrator::words::Status;
use tokio_prompt_orchestrator::{ExitCode, Reported, RunError, RunState};

use super::args::{ReportArgs, ReportFormat};
use super::terminal::{escape, out};
use super::{summary, terminal};

/// Prints the report of the last run.
pub fn report(args: &ReportArgs) -> ExitCode {
    match tokio_prompt_orchestrator::report(&args.dir, &args.prices) {
        Ok(reported) => {
            match args.format {
                ReportFormat::Text => print(&reported, !args.prices.is_empty()),
                ReportFormat::Md => out(reported.markdown.trim_end()),
                ReportFormat::Json => terminal::json_text(&reported.json),
            }
            ExitCode::Success
        }
        Err(error) => {
            let reader = args.format.reader();
            match &error {
                RunError::Prices(problems) => reader.problems(problems),
                error => reader.error(error),
            }
            error.exit_code()
        }
    }
}

fn print(reported: &Reported, anew: bool) {
    let report = &reported.report;
    let state = match reported.state {
        RunState::Finished => String::new(),
        state => format!(", {} ({})", state.as_str(), so_far(state)),
    };
    out(&format!(
        "{}: {} of {} answered{state}",
        escape(&report.job),
        report.rows_with(Status::Answered),
        report.asked()
    ));
    summary::body(report);
    if report.repriced.is_empty() {
        if anew {
            out(
                "the prices have no line for any backend of this run: everything is as it was charged",
            );
        }
        return;
    }
    out("\npriced anew from the stored usage; the ledger is as it was:");
    let rows = repriced_lines(report).into_iter();
    let rows = rows.map(|row| row.map(|cell| escape(&cell)));
    let header = [
        "backend",
        "by",
        "attempts",
        "USD as charged",
        "USD by these",
    ];
    summary::table_of(2, header, rows.collect());
}

fn so_far(state: RunState) -> &'static str {
    match state {
        RunState::Running | RunState::Busy => "this is what there is so far",
        _ => "the same command again goes on",
    }
}
