//! What a run came to, on the terminal.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, TableStyle};
use tokio_prompt_orchestrator::job::MaxFailures;
use tokio_prompt_orchestrator::output::{BackendLine, notes};
use tokio_prompt_orchestrator::words::Status;
use tokio_prompt_orchestrator::{Ended, ExitCode, Summary};

use super::terminal::{escape, out};

/// Prints the summary of a run.
pub fn print(run: &Summary, took: Duration, most: MaxFailures) {
    let report = &run.report;
    let total = report.total();
    out(&format!(
        "{}: {} of {} rows answered in {:.1} s",
        escape(&report.job),
        report.rows_with(Status::Answered),
        report.rows(),
        took.as_secs_f64()
    ));
    if report.rows() == 0 {
        out("there are no rows to ask");
    }
    let others = report
        .by_status
        .iter()
        .filter(|(status, rows)| **status != Status::Answered && **rows > 0);
    for (status, rows) in others {
        out(&format!("  {rows} {}", status.as_str()));
    }
    if report.fell_back > 0 {
        out(&format!(
            "  {} of the answers came from a fallback",
            report.fell_back
        ));
    }
    for (class, (row, error)) in &report.examples {
        out(&format!(
            "  first {class}: row {}: {}",
            escape(row),
            escape(error)
        ));
    }
    out("");
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header([
        "backend",
        "answered",
        "attempts",
        "failed",
        "tokens in",
        "tokens out",
        "USD",
    ]);
    for (name, line) in &report.by_backend {
        table.add_row(cells(&escape(name), line));
    }
    if report.by_backend.len() > 1 {
        table.add_row(cells("total", &total));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out(&table.trim_fmt());
    out("");
    for note in notes(&total) {
        out(&note);
    }
    if let (Some(p50), Some(p90), Some(p99)) = (
        report.latency_ms(50),
        report.latency_ms(90),
        report.latency_ms(99),
    ) {
        out(&format!(
            "latency: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms"
        ));
    }
    for file in &run.files {
        out(&format!("wrote {}", file.display()));
    }
    if let Some(why) = why(run, most) {
        out(&format!("exit {}: {why}", run.exit_code.code()));
    }
}

fn cells(name: &str, line: &BackendLine) -> [String; 7] {
    let tokens = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    [
        name.to_owned(),
        line.answered.to_string(),
        line.attempts.to_string(),
        line.failed.to_string(),
        tokens(line.usage.input_tokens),
        tokens(line.usage.output_tokens),
        line.spent
            .amount()
            .map_or("unknown".to_owned(), |amount| amount.rounded(6)),
    ]
}

/// Why the exit code is not 0.
fn why(run: &Summary, most: MaxFailures) -> Option<String> {
    let unanswered = run.report.unanswered();
    match (run.exit_code, run.ended) {
        (ExitCode::Success, _) => None,
        (ExitCode::Backends, Ended::BackendsDown) => {
            Some("no backend is left that could be asked; mend it and run the job again".to_owned())
        }
        (ExitCode::Backends, _) => Some(format!(
            "{unanswered} rows have no answer, and every backend is exhausted or down"
        )),
        (ExitCode::Failures, _) if unanswered == 1 => {
            Some(format!("1 row has no answer, max_failures allows {most}"))
        }
        (ExitCode::Failures, _) => Some(format!(
            "{unanswered} rows have no answer, max_failures allows {most}"
        )),
        _ => Some(format!(
            "stopped with {unanswered} rows not answered; the answers so far are in the results"
        )),
    }
}
