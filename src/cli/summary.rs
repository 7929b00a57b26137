//! What a run came to, on the terminal.

use std::time::Duration;

use comfy_table::{CellAlignment, Row, Table, TableStyle};
use tokio_prompt_orchestrator::job::MaxFailures;
use tokio_prompt_orchestrator::output::{
    BackendLine, Hint, Report, notes, price_changes, savings, spendings,
};
use tokio_prompt_orchestrator::words::{GateReport, Status, Verdict};
use tokio_prompt_orchestrator::{Ended, ExitCode, Summary};

use super::display::many;
use super::scores;
use super::terminal::{escape, out};

/// Prints the summary of a run.
pub fn print(run: &Summary, took: Duration, most: MaxFailures) {
    let report = &run.report;
    out(&format!(
        "{}: {} of {} answered in {:.1} s",
        escape(&report.job),
        report.rows_with(Status::Answered),
        report.asked(),
        took.as_secs_f64()
    ));
    body(report);
    for file in &run.files {
        out(&format!("wrote {}", file.display()));
    }
    if let Some(why) = why(run, most) {
        out(&format!("exit {}: {why}", run.exit_code.code()));
    }
}

/// Prints what a report says below its headline.
pub fn body(report: &Report) {
    let total = report.total();
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
    for line in report.budget_in_words().into_iter().chain(savings(report)) {
        out(&format!("  {line}"));
    }
    for (class, (row, error)) in &report.examples {
        out(&format!(
            "  first {class}: row {}: {}",
            escape(row),
            escape(error)
        ));
    }
    for line in limits(report) {
        out(&line);
    }
    out("");
    let header = [
        "backend",
        "answered",
        "attempts",
        "failed",
        "tokens in",
        "tokens out",
        "USD",
    ];
    let mut rows: Vec<_> = report
        .by_backend
        .iter()
        .map(|(name, line)| cells(&escape(name), line))
        .collect();
    if rows.len() > 1 {
        rows.push(cells("total", &total));
    }
    table(header, rows);
    let entries = entries(report);
    if !entries.is_empty() {
        table(["entry", "answered", "rows", "p50 ms", "USD"], entries);
    }
    for line in spendings(report) {
        out(&line);
    }
    for line in price_changes(report) {
        out(&escape(&line));
    }
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
    let scored = report.scores.iter().flat_map(scores::lines);
    for line in scored.chain(report.gate.iter().flat_map(gate)) {
        out(&line);
    }
}

/// A line for each backend that something happened to, and what the job could say the next time. Limits
/// that held nobody up are for the report.
fn limits(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for remarks in report.remarks() {
        if remarks.happened.is_empty() && remarks.hint.is_none() {
            continue;
        }
        let texts = [remarks.happened, remarks.limits].concat().join("; ");
        let name = escape(&remarks.backend);
        lines.push(format!("  {name}: {}", escape(&texts)));
        if let Some(Hint { yaml, place }) = &remarks.hint {
            let place = escape(place);
            lines.push(format!(
                "    to start the next run at this pace, put `{yaml}` into {place}"
            ));
        }
    }
    lines
}

/// Prints a table, the first column to the left, numbers to the right, and an empty line.
pub fn table(header: impl Into<Row>, rows: Vec<impl Into<Row>>) {
    table_of(1, header, rows);
}

/// The same with so many columns of text, to the left.
pub fn table_of(texts: usize, header: impl Into<Row>, rows: Vec<impl Into<Row>>) {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    out(&table.trim_fmt());
    out("");
}

/// A line for each entry of the matrix, where there are several.
fn entries(report: &Report) -> Vec<[String; 5]> {
    let entries = report.entries();
    let cells = entries.map(|(name, line)| {
        [
            escape(&name),
            line.rows_with(Status::Answered).to_string(),
            line.rows().to_string(),
            line.latency_ms(50)
                .map_or("-".to_owned(), |milliseconds| milliseconds.to_string()),
            line.spent
                .amount()
                .map_or("unknown".to_owned(), |amount| amount.rounded(6)),
        ]
    });
    cells.collect()
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

/// What became of the gate: a line for each check.
fn gate(gate: &GateReport) -> Vec<String> {
    let head = match gate.is_met {
        true => "gate: met",
        false => "gate: not met",
    };
    let lines = gate.checks.iter().map(|check| {
        let verdict = match (check.verdict, check.is_met) {
            (Verdict::Pass, _) => "ok",
            (Verdict::Fail, _) => "not so",
            (Verdict::Inconclusive, true) => "unsure",
            (Verdict::Inconclusive, false) => "unsure, which does not do",
        };
        format!("  {verdict:6}  {}", escape(&check.text))
    });
    [head.to_owned()].into_iter().chain(lines).collect()
}

/// The checks that are not met, by their names.
fn unmet(report: &Report) -> String {
    let checks = report.gate.iter().flat_map(|gate| &gate.checks);
    let unmet = checks.filter(|check| !check.is_met);
    let names: Vec<String> = unmet.map(|check| escape(&check.name)).collect();
    names.join(", ")
}

/// What there was no money for.
fn no_room(report: &Report) -> String {
    let rows = many(report.rows_with(Status::SkippedBudget), "row");
    let judged = |about| format!("judging {}", many(about, "answer"));
    match (report.rows_with(Status::SkippedBudget), report.unaffordable) {
        (_, 0) => rows,
        (0, about) => judged(about),
        (_, about) => format!("{rows}, nor for {}", judged(about)),
    }
}

/// Why the exit code is not 0, in words.
pub fn why(run: &Summary, most: MaxFailures) -> Option<String> {
    let (unanswered, unscored) = (run.report.unanswered(), run.report.unscored);
    let have = |number, one: &str| match number {
        1 => format!("1 {one} has"),
        _ => format!("{} have", many(number, one)),
    };
    let rows = have(unanswered, "row");
    Some(match (run.exit_code, run.ended) {
        (ExitCode::Success, _) => return None,
        (ExitCode::Backends, Ended::BackendsDown) => {
            "no backend is left that could be asked; mend it and run the job again".to_owned()
        }
        (ExitCode::Backends, _) => {
            format!("{rows} no answer, and every backend is exhausted or down")
        }
        (ExitCode::Budget, Ended::Wasteful) => format!(
            "more was wasted than max_waste allows; {rows} no answer; mend the job, and run it again"
        ),
        (ExitCode::Budget, _) => format!(
            "the budget has no room for {}; run the job again with a higher `budget` to go on",
            no_room(&run.report)
        ),
        (ExitCode::Failures, _) if unanswered == 0 => format!(
            "{} no score, max_failures allows {most}; run the job again to have them scored",
            have(unscored, "answer")
        ),
        (ExitCode::Failures, _) => format!("{rows} no answer, max_failures allows {most}"),
        (ExitCode::Gate, _) => format!("the gate is not met: {}", unmet(&run.report)),
        _ => {
            let left = match (unanswered, unscored) {
                (rows, 0) => format!("{} not answered", many(rows, "row")),
                (0, scores) => format!("{} not scored", many(scores, "answer")),
                (rows, scores) => format!(
                    "{} not answered and {} not scored",
                    many(rows, "row"),
                    many(scores, "answer")
                ),
            };
            format!("stopped with {left}; run the same command again to go on")
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio_prompt_orchestrator::words::{BackendSeen, LimitSource, LimitsSeen};

    use super::*;

    fn said(limits: LimitsSeen, deferred: u64) -> Vec<String> {
        let seen = BackendSeen {
            backend: "gpt\u{1b}[2J".to_owned(),
            limits,
            deferred,
            ..BackendSeen::default()
        };
        super::limits(&Report::new("job", []).with_seen(vec![seen], &[]))
    }

    #[test]
    fn limits_are_told_where_something_happened() {
        let told = LimitsSeen {
            requests_per_minute: Some((500, LimitSource::Server)),
            ..LimitsSeen::default()
        };
        assert_eq!(said(LimitsSeen::default(), 0), Vec::<String>::new());
        assert_eq!(said(told.clone(), 0), Vec::<String>::new());
        assert_eq!(
            said(LimitsSeen::default(), 41),
            ["  gpt\\u{1b}[2J: 41 retries put off"]
        );
        let refused = LimitsSeen {
            refusals: 1,
            refusal_episodes: 1,
            concurrency_cuts: 1,
            paused: Duration::from_millis(700),
            ..told
        };
        assert_eq!(
            said(refused, 0),
            [
                "  gpt\\u{1b}[2J: 1 request throttled, paused 0.7 s; the server allows 500 requests/min",
                "    to start the next run at this pace, put `limits: { requests_per_minute: 500 }` into \
                 backend gpt\\u{1b}[2J"
            ]
        );
    }
}
