//! A run for programs: events as lines of JSON on stdout. `docs/events.md` says what they hold.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::job::{Problem, Problems};
use tokio_prompt_orchestrator::words::{BackendNow, Event, Status, WaitsFor};
use tokio_prompt_orchestrator::{ExitCode, Runner, Summary};

use super::course::{Course, Lane};
use super::terminal;

/// Names the form of the lines. Events and fields are only ever added; what changes meaning changes this.
const VERSION: u32 = 1;

/// The lines of one command.
#[derive(Debug, Default)]
pub struct JsonLines {
    has_begun: Mutex<bool>,
}

impl JsonLines {
    /// A run is about to begin.
    pub fn run_started(&self, runner: &Runner) {
        let plan = runner.plan();
        let fields = json!({
            "job": plan.name,
            "dir": plan.output.dir.display().to_string(),
            "inputs": runner.rows(),
            "runner": env!("CARGO_PKG_VERSION"),
        });
        self.line("run_started", fields);
    }

    /// Something happened that is told as it happens.
    pub fn event(&self, event: &Event) {
        if let Some((name, fields)) = told(event) {
            self.line(name, fields);
        }
    }

    /// How far the run is.
    pub fn progress(&self, course: &Course) {
        self.line("progress", progress(course));
    }

    /// What is wrong with the job.
    pub fn problems(&self, problems: &Problems) {
        for found in &problems.0 {
            self.line("problem", problem(found));
        }
    }

    /// Something that should be looked at, and is no reason to stop.
    pub fn warning(&self, message: &str) {
        self.line("warning", json!({ "message": message }));
    }

    /// Why there is no run, or not to its end, and what to do.
    pub fn error(&self, message: &str, help: &[String]) {
        self.line("error", json!({ "message": message, "help": help }));
    }

    /// What the run came to.
    pub fn run_finished(&self, run: &Summary, why: Option<&str>, took: Duration) {
        self.line("run_finished", finished(run, why, took));
    }

    /// The end of a run that came to nothing.
    pub fn ended(&self, code: ExitCode) {
        self.line("run_finished", json!({ "exit_code": code.code() }));
    }

    fn line(&self, name: &str, fields: Value) {
        let mut line = Map::new();
        line.insert("event".to_owned(), name.into());
        let mut begun = self
            .has_begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *begun, true) {
            line.insert("version".to_owned(), VERSION.into());
        }
        let now = jiff::Timestamp::now();
        line.insert("time".to_owned(), format!("{now:.3}").into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        // Printed while nobody else may: the lines are in the order of their times.
        terminal::json_text(&Value::Object(line).to_string());
    }
}

/// A problem of a job, also in `runner check --json`.
pub fn problem(problem: &Problem) -> Value {
    let place = problem.place.as_ref();
    json!({
        "message": problem.message,
        "file": place.map(|place| &place.path),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "length": place.map(|place| place.width),
        "label": problem.label,
        "help": problem.help,
    })
}

fn progress(course: &Course) -> Value {
    let by_status: Map<String, Value> = course
        .by_status()
        .map(|(status, rows)| (status.as_str().to_owned(), rows.into()))
        .collect();
    let seconds = |time: Duration| time.as_secs_f64().ceil() as u64;
    json!({
        "rows": course.rows,
        "done": course.done,
        "done_before": course.before,
        "by_status": by_status,
        "followed_up": course.followed_up,
        "to_follow_up": course.to_follow_up,
        "rows_per_second": course.per_second().map(hundredths),
        "seconds_left": course.time_left().map(seconds),
        "paid_usd": course.paid.to_string(),
        "budget": course.budget.map(|(cap, _)| json!({
            "cap_usd": cap.to_string(),
            "spent_usd": course.spent().to_string(),
        })),
        "backends": course.backends.iter().map(backend).collect::<Vec<_>>(),
    })
}

fn backend(lane: &Lane) -> Value {
    let BackendNow {
        backend,
        in_flight,
        allowed,
        sent,
        waits_for,
    } = &lane.now;
    let wait = match waits_for {
        WaitsFor::Throttled(left) | WaitsFor::Down(left) => Some(milliseconds(*left)),
        _ => None,
    };
    json!({
        "backend": &**backend,
        "in_flight": in_flight,
        "allowed": allowed,
        "sent": sent,
        "requests_per_second": hundredths(lane.per_second),
        "waits_for": waits_for.as_str(),
        "wait_ms": wait,
    })
}

/// What is told of an event, under which name. Rows are told of in `progress`.
fn told(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::DirectoryIsRemote { filesystem } => {
            ("directory_is_remote", json!({ "filesystem": filesystem }))
        }
        Event::Planned(changes) => (
            "planned",
            json!({
                "unchanged": changes.unchanged,
                "changed": changes.changed,
                "new": changes.new,
                "removed": changes.removed,
                "unknown": changes.unknown,
                "failed": changes.failed,
            }),
        ),
        Event::BudgetOpened {
            cap,
            spent,
            overshoot,
            unbounded,
        } => (
            "budget_opened",
            json!({
                "cap_usd": cap.to_string(),
                "spent_usd": spent.to_string(),
                "overshoot_usd": overshoot.map(|overshoot| overshoot.to_string()),
                "unbounded_attempts": unbounded,
            }),
        ),
        Event::BudgetReached { cap, spent, needed } => (
            "budget_reached",
            json!({
                "cap_usd": cap.to_string(),
                "spent_usd": spent.to_string(),
                "needed_usd": needed.to_string(),
            }),
        ),
        Event::CostWasHigher {
            backend,
            most,
            paid,
        } => (
            "cost_was_higher",
            json!({
                "backend": &**backend,
                "most_usd": most.to_string(),
                "paid_usd": paid.to_string(),
            }),
        ),
        Event::WasteReached { wasted, paid, rows } => (
            "waste_reached",
            json!({ "wasted_usd": wasted.to_string(), "paid_usd": paid.to_string(), "rows": rows }),
        ),
        Event::AnswersRestated { rows } => ("answers_restated", json!({ "rows": rows })),
        Event::RunStarted { rows, done } => {
            ("asking_started", json!({ "rows": rows, "done": done }))
        }
        Event::BackendPaused {
            backend,
            wait,
            error,
        } => ("backend_paused", held(backend, *wait, error)),
        Event::BreakerOpened {
            backend,
            wait,
            error,
        } => ("breaker_opened", held(backend, *wait, error)),
        Event::BreakerClosed { backend } => ("breaker_closed", json!({ "backend": &**backend })),
        Event::RowDeferred { backend, error, .. } => (
            "retries_put_off",
            json!({ "backend": &**backend, "error": error }),
        ),
        Event::SweepStarted { rows } => ("sweep_started", json!({ "rows": rows })),
        Event::CacheLost { error } => ("cache_lost", json!({ "error": error })),
        Event::CacheNotFilled { error } => ("cache_not_filled", json!({ "error": error })),
        Event::CacheEntryDamaged => ("cache_entry_damaged", json!({})),
        Event::BackendStopped {
            backend,
            class,
            error,
        } => (
            "backend_stopped",
            json!({ "backend": &**backend, "class": class.as_str(), "error": error }),
        ),
        Event::FollowUpsStarted { what, about } => (
            "follow_ups_started",
            json!({ "what": what, "answers": about }),
        ),
        Event::ScorerFailed { scorer, error } => {
            ("scorer_failed", json!({ "scorer": scorer, "error": error }))
        }
        Event::DrainStarted {
            in_flight,
            is_asked_for,
        } => (
            "stopping",
            json!({ "in_flight": in_flight, "is_asked_for": is_asked_for }),
        ),
        _ => return None,
    })
}

fn held(backend: &str, wait: Duration, error: &str) -> Value {
    json!({ "backend": backend, "wait_ms": milliseconds(wait), "error": error })
}

fn finished(run: &Summary, why: Option<&str>, took: Duration) -> Value {
    let report = &run.report;
    let by_status: Map<String, Value> = Status::ALL
        .iter()
        .map(|status| (status.as_str().to_owned(), report.rows_with(*status).into()))
        .collect();
    let files = run.files.iter().map(|file| file.display().to_string());
    json!({
        "exit_code": run.exit_code.code(),
        "why": why,
        "took_ms": milliseconds(took),
        "rows": report.rows(),
        "by_status": by_status,
        "without_score": report.unscored,
        "cost_usd": report.total().spent.amount().map(|amount| amount.to_string()),
        "files": files.collect::<Vec<_>>(),
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_prompt_orchestrator::words::{Changes, ErrorClass, Usd};

    use super::*;

    /// One of each kind that is told.
    fn all() -> Vec<Event> {
        let backend: Arc<str> = "a".into();
        let (error, wait) = (String::new(), Duration::ZERO);
        let usd = Usd::ZERO;
        vec![
            Event::DirectoryIsRemote { filesystem: "nfs" },
            Event::Planned(Changes::default()),
            Event::BudgetOpened {
                cap: usd,
                spent: usd,
                overshoot: None,
                unbounded: 0,
            },
            Event::RunStarted { rows: 1, done: 0 },
            Event::BackendPaused {
                backend: Arc::clone(&backend),
                wait,
                error: error.clone(),
            },
            Event::BreakerOpened {
                backend: Arc::clone(&backend),
                wait,
                error: error.clone(),
            },
            Event::BreakerClosed {
                backend: Arc::clone(&backend),
            },
            Event::RowDeferred {
                row: "1".to_owned(),
                backend: Arc::clone(&backend),
                error: error.clone(),
            },
            Event::BackendStopped {
                backend: Arc::clone(&backend),
                class: ErrorClass::Config,
                error: error.clone(),
            },
            Event::SweepStarted { rows: 1 },
            Event::BudgetReached {
                cap: usd,
                spent: usd,
                needed: usd,
            },
            Event::CostWasHigher {
                backend,
                most: usd,
                paid: usd,
            },
            Event::WasteReached {
                wasted: usd,
                paid: usd,
                rows: 1,
            },
            Event::AnswersRestated { rows: 1 },
            Event::CacheLost {
                error: error.clone(),
            },
            Event::CacheNotFilled {
                error: error.clone(),
            },
            Event::CacheEntryDamaged,
            Event::FollowUpsStarted {
                what: error.clone(),
                about: None,
            },
            Event::ScorerFailed {
                scorer: String::new(),
                error,
            },
            Event::DrainStarted {
                in_flight: 1,
                is_asked_for: true,
            },
        ]
    }

    /// Told by other functions, or of problems and errors.
    const OTHERS: [&str; 6] = [
        "run_started",
        "problem",
        "warning",
        "progress",
        "error",
        "run_finished",
    ];

    #[test]
    fn the_document_lists_every_event_with_its_fields_and_no_other() {
        let document = include_str!("../../docs/events.md");
        let (table, _) = document.split_once("\n## progress\n").expect("its part");
        let mut listed: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let mut told_of = OTHERS.to_vec();
        for event in all() {
            let (name, fields) = told(&event).expect("it is told");
            let start = format!("| `{name}` |");
            let line = table.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("docs/events.md lacks {name}"));
            for field in fields.as_object().expect("an object").keys() {
                assert!(line.contains(&format!("`{field}`")), "{name}.{field}");
            }
            told_of.push(name);
        }
        listed.sort_unstable();
        told_of.sort_unstable();
        assert_eq!(listed, told_of);
    }
}
