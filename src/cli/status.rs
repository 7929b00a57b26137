//! `runner status DIR`: how far a job is.

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::words::{Status, Usd};
use tokio_prompt_orchestrator::{BackendTally, ExitCode, JobStatus, RunState};

use super::args::StatusArgs;
use super::display::{many, thousands};
use super::reader::Reader;
use super::summary::table;
use super::terminal;

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const SCHEMA: &str = "runner.status/1";

/// Prints how far a job is, for people or for programs.
pub fn status(args: &StatusArgs) -> ExitCode {
    let status = match tokio_prompt_orchestrator::status(&args.dir) {
        Ok(status) => status,
        Err(error) => {
            Reader::of(args.json).error(&error);
            return error.exit_code();
        }
    };
    match args.json {
        true => terminal::json(&json(&status)),
        false => print(&status, &args.dir.display().to_string()),
    }
    ExitCode::Success
}

/// What each backend did, in the order of the job; then those that the job does not name any more.
fn backends(status: &JobStatus) -> Vec<(&str, BackendTally)> {
    let tally = &status.tally.by_backend;
    let named = status.backends.iter().map(String::as_str);
    let others = tally.keys().map(String::as_str);
    let others = others.filter(|name| !status.backends.iter().any(|named| named == name));
    let line = |name| (name, tally.get(name).copied().unwrap_or_default());
    named.chain(others).map(line).collect()
}

fn total(backends: &[(&str, BackendTally)]) -> BackendTally {
    let mut total = BackendTally::default();
    for (_, line) in backends {
        total.attempts += line.attempts;
        total.failed += line.failed;
        total.reused += line.reused;
        total.open += line.open;
        total.unknown += line.unknown;
        total.paid += line.paid;
        total.unpriced += line.unpriced;
        total.possible += line.possible;
        total.unbounded += line.unbounded;
    }
    total
}

/// Attempts without an end.
struct Open {
    in_flight: u64,
    unknown: u64,
}

impl Open {
    /// How many attempts have no end: those in flight, and those of which nobody will know.
    fn of(status: &JobStatus, line: &BackendTally) -> Self {
        match status.state {
            RunState::Running => Self {
                in_flight: line.open,
                unknown: line.unknown,
            },
            _ => Self {
                in_flight: 0,
                unknown: line.open + line.unknown,
            },
        }
    }
}

fn json(status: &JobStatus) -> Value {
    let backends = backends(status);
    let total = total(&backends);
    let rows = |ended: &Status| status.tally.by_status.get(ended).copied().unwrap_or(0);
    let by_status: Map<String, Value> = Status::ALL
        .iter()
        .map(|ended| (ended.as_str().to_owned(), json!(rows(ended))))
        .collect();
    let by_backend: Map<String, Value> = backends
        .iter()
        .map(|(name, line)| ((*name).to_owned(), numbers(status, line)))
        .collect();
    let run = &status.run;
    let mut value = json!({
        "schema": SCHEMA,
        "job": status.job,
        "state": status.state.as_str(),
        "process": status.process,
        "run": {
            "number": run.number,
            "started": run.started,
            "ended": run.ended,
            "exit_code": run.exit_code,
            "published": run.published,
            "version": run.version,
        },
        "rows": {
            "total": status.tally.rows,
            "inputs": status.tally.inputs,
            "by_status": by_status,
            "left": status.left(),
            "left_to_score": status.left_to_score(),
        },
    });
    if let (Value::Object(value), Value::Object(numbers)) = (&mut value, numbers(status, &total)) {
        value.extend(numbers);
    }
    value["budget"] = json!(status.budget.map(|budget| budget.to_json()));
    value["by_backend"] = Value::Object(by_backend);
    value
}

fn numbers(status: &JobStatus, line: &BackendTally) -> Value {
    let open = Open::of(status, line);
    json!({
        "attempts": {
            "total": line.attempts,
            "failed": line.failed,
            "reused": line.reused,
            "in_flight": open.in_flight,
            "unknown": open.unknown,
        },
        "cost": {
            "total_usd": line.paid.to_string(),
            "possibly_billed_usd": line.possible.to_string(),
            "unpriced_attempts": line.unpriced,
            "unbounded_attempts": line.unbounded,
        },
    })
}

fn print(status: &JobStatus, dir: &str) {
    terminal::out(&format!(
        "{}: {}",
        terminal::escape(&status.job),
        state(status)
    ));
    let (rows, left) = (status.tally.rows, status.left());
    terminal::out(&format!(
        "{} of {} rows done, {} left",
        thousands(rows - left),
        thousands(rows),
        thousands(left)
    ));
    if status.left_to_score() > 0 {
        let answers = many(status.left_to_score(), "answer");
        terminal::out(&format!("about {answers} left to judge or score"));
    }
    for (status, rows) in &status.tally.by_status {
        terminal::out(&format!("  {} {}", thousands(*rows), status.as_str()));
    }
    terminal::out("");
    let backends = backends(status);
    let total = total(&backends);
    let mut lines: Vec<_> = backends
        .iter()
        .map(|(name, line)| cells(&terminal::escape(name), status, line))
        .collect();
    if lines.len() > 1 {
        lines.push(cells("total", status, &total));
    }
    let header = [
        "backend",
        "attempts",
        "failed",
        "in flight",
        "unknown",
        "USD",
        "at most more",
    ];
    table(header, lines);
    if let Some(budget) = &status.budget {
        terminal::out(&format!(
            "${} of the budget of ${} is spent, or may have been billed",
            budget.spent, budget.plan.usd
        ));
    }
    for note in notes(status, &total) {
        terminal::out(&note);
    }
    if let Some(advice) = advice(status, dir) {
        terminal::out(&advice);
    }
}

fn cells(name: &str, status: &JobStatus, line: &BackendTally) -> [String; 7] {
    let open = Open::of(status, line);
    let unpriced_only = line.unpriced > 0 && line.paid == Usd::ZERO;
    [
        name.to_owned(),
        thousands(line.attempts),
        thousands(line.failed),
        thousands(open.in_flight),
        thousands(open.unknown),
        match unpriced_only {
            true => "unknown".to_owned(),
            false => line.paid.rounded(6),
        },
        line.possible.rounded(6),
    ]
}

/// In a few words, with when and how.
fn state(status: &JobStatus) -> String {
    let run = &status.run;
    let process = status
        .process
        .map(|process| format!(" (process {process})"));
    let process = process.unwrap_or_default();
    let number = run.number;
    let ended = || {
        let code = run.exit_code.map(|code| format!(" with exit code {code}"));
        let when = run.ended.as_deref().unwrap_or("an unknown time");
        format!("run {number} ended at {when}{}", code.unwrap_or_default())
    };
    match status.state {
        RunState::Running => format!("running since {}{process}, run {number}", run.started),
        RunState::Busy => format!(
            "held by another runner{process}, which begins or writes files; {}",
            ended()
        ),
        RunState::Killed => format!(
            "killed; run {number} began at {} and has no end",
            run.started
        ),
        RunState::Interrupted => format!("interrupted; {}", ended()),
        RunState::Finished => format!("finished; {}", ended()),
    }
}

/// What the numbers do not say.
fn notes(status: &JobStatus, total: &BackendTally) -> Vec<String> {
    let mut notes = Vec::new();
    if Open::of(status, total).unknown > 0 {
        notes.push(
            "unknown: a runner ended before the answer came; what it may have cost is in the last column"
                .to_owned(),
        );
    }
    if total.reused > 0 {
        let reused = thousands(total.reused);
        notes.push(format!(
            "{reused} requests were spared: their answers were in the cache, or another row had them"
        ));
    }
    // What is in flight will say what it cost.
    if total.unbounded > 0 && status.state != RunState::Running {
        let attempts = thousands(total.unbounded);
        notes.push(format!(
            "{attempts} attempts may have been billed for an unknown amount"
        ));
    }
    if total.unpriced > 0 {
        let attempts = thousands(total.unpriced);
        notes.push(format!("no price is known for {attempts} attempts"));
    }
    notes
}

/// How to go on.
fn advice(status: &JobStatus, dir: &str) -> Option<String> {
    let export = format!("`runner export {dir}` writes results and reports");
    let again = match status.left() {
        0 => None,
        1 => Some("the same command again asks the row that is left".to_owned()),
        left => Some(format!(
            "the same command again asks the {} rows that are left",
            thousands(left)
        )),
    };
    let export = match (status.state, &status.run.published) {
        (RunState::Running, _) if status.left() == 0 => {
            return Some("every row is done: results and reports are being written".to_owned());
        }
        (RunState::Running | RunState::Busy, _) => return None,
        (_, Some(_)) => None,
        (RunState::Killed, None) => Some(format!("{export} of what there is")),
        (_, None) => Some(format!("{export}, which the run could not")),
    };
    let advice: Vec<String> = [again, export].into_iter().flatten().collect();
    (!advice.is_empty()).then(|| advice.join("; "))
}
