//! `report.json`, for programs. Keys are only ever added; what changes meaning changes `schema`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::backend_line::BackendLine;
use super::publication::Written;
use super::report::{EntryLine, Report, Spent};
use super::spending::Fallback;
use super::{prices, score_json};
use crate::words::{BackendSeen, LimitSource, Status, Usd, steers};

/// The file's name.
pub(super) const NAME: &str = "report.json";

/// Names the form of the file.
const SCHEMA: &str = "runner.report/1";

/// The whole file.
pub(super) fn render(report: &Report, exit_code: u8, files: &[Written]) -> String {
    let total = report.total();
    let by_status = statuses(|status| report.rows_with(status));
    let mut value = json!({
        "schema": SCHEMA,
        "job": report.job,
        "rows": {
            "total": report.rows(),
            "inputs": report.inputs,
            "by_status": by_status,
            "fell_back": report.fell_back,
            "from_cache": report.from_cache,
            "duplicates": report.duplicates,
        },
        "cost": cost(report, &total),
        "prices": prices::json(report),
        "budget": report.budget().map(|budget| budget.to_json()),
        "tokens": tokens(report, &total),
        "latency_ms": {
            "p50": report.latency_ms(50),
            "p90": report.latency_ms(90),
            "p99": report.latency_ms(99),
        },
        "attempts": attempts(report, &total),
        "limits": limits(report),
        "scores": score_json::scores(report.scores.as_ref()),
        "gate": score_json::gate(report.gate.as_ref()),
        "exit_code": exit_code,
        "files": contents(files),
    });
    let entries: Map<String, Value> = report
        .entries()
        .map(|(name, line)| (name, entry(&line)))
        .collect();
    if !entries.is_empty() {
        value["entries"] = Value::Object(entries);
    }
    if let Some(repriced) = prices::repriced_json(report) {
        value["repriced"] = repriced;
    }
    harmless(&format!("{value:#}\n"))
}

/// The same values, but nothing that a terminal would obey or hide is in the file itself.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character != '\n' && steers(character) {
            // Such a character only stands in a text, and there this is how JSON writes it.
            true => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => text.push(character),
        }
    }
    text
}

fn cost(report: &Report, total: &BackendLine) -> Value {
    let spending = &report.spending;
    let lines = report.by_backend.iter();
    let by_backend = lines.map(|(name, line)| (name.clone(), line.spent));
    let models = report.by_model.iter();
    let by_model = models.map(|(name, spent)| (name.clone(), *spent));
    let kinds = report.by_kind.iter();
    let by_kind = kinds.map(|(kind, (_, spent))| (kind.as_str().to_owned(), *spent));
    let by_class = spending.classes();
    let by_class: Map<String, Value> = by_class
        .map(|(class, paid)| (class.as_str().to_owned(), json!(paid)))
        .collect();
    let by_use = spending.uses();
    let by_use = by_use.map(|(benefit, (_, spent))| (benefit.as_str().to_owned(), spent));
    let saved_by_kind: Map<String, Value> = report
        .saved
        .iter()
        .map(|(kind, saved)| (kind.as_str().to_owned(), json!(saved.amount)))
        .collect();
    json!({
        "total_usd": amount(total.spent),
        "possibly_billed_usd": total.possibly_billed,
        "by_backend": amounts(by_backend),
        "by_model": amounts(by_model),
        "by_kind": amounts(by_kind),
        "by_token_class": by_class,
        "unexplained_usd": spending.unexplained,
        "by_use": amounts(by_use),
        "wasted_usd": spending.wasted(),
        "per_answered_row_usd": report.per_answered_row(),
        "per_asked_row_usd": report.per_asked_row(),
        "rows_left": spending.rows_left,
        "projected_rest_usd": spending.projection().map(|projection| projection.amount),
        "saved_usd": report.saved.values().map(|saved| saved.amount).sum::<Usd>(),
        "saved_by_kind": saved_by_kind,
        "prompt_cache_saved_usd": spending.prompt_cache_saved,
        "fallback": fallback(spending.fallback),
        "set_aside_usd": report.set_aside.paid,
        "removed_rows_usd": amount(report.removed.1),
        "unpriced_attempts": total.spent.unpriced,
        "unbounded_attempts": total.unbounded,
    })
}

fn fallback(fallback: Fallback) -> Value {
    let known = fallback.rows > fallback.unknown;
    json!({
        "rows": fallback.rows,
        "unknown_rows": fallback.unknown,
        "paid_usd": known.then_some(fallback.paid),
        "at_first_price_usd": known.then_some(fallback.at_first_price),
    })
}

/// What the results files hold, so that anybody can see whether they belong to this report.
fn contents(files: &[Written]) -> Map<String, Value> {
    let line = |file: &Written| {
        let line = json!({ "bytes": file.bytes, "sha256": file.sha256 });
        (file.name.to_owned(), line)
    };
    files.iter().map(line).collect()
}

/// Every status with its number of rows.
fn statuses(rows: impl Fn(Status) -> u64) -> Map<String, Value> {
    let line = |status: Status| (status.as_str().to_owned(), json!(rows(status)));
    Status::ALL.into_iter().map(line).collect()
}

fn entry(line: &EntryLine) -> Value {
    json!({
        "rows": { "total": line.rows(), "by_status": statuses(|status| line.rows_with(status)) },
        "cost_usd": amount(line.spent),
        "latency_ms": {
            "p50": line.latency_ms(50),
            "p90": line.latency_ms(90),
            "p99": line.latency_ms(99),
        },
    })
}

fn amounts(amounts: impl Iterator<Item = (String, Spent)>) -> Map<String, Value> {
    amounts.map(|(name, spent)| (name, amount(spent))).collect()
}

/// What is known to have been paid, as an exact decimal; `unpriced_attempts` says what it lacks.
fn amount(spent: Spent) -> Value {
    json!(spent.paid)
}

fn tokens(report: &Report, total: &BackendLine) -> Value {
    let mut tokens = json!(total.usage);
    tokens["unreported_attempts"] = json!(total.unreported);
    tokens["by_backend"] = report
        .by_backend
        .iter()
        .map(|(name, line)| (name.clone(), json!(line.usage)))
        .collect();
    tokens
}

fn attempts(report: &Report, total: &BackendLine) -> Value {
    let by_kind: Map<String, Value> = report
        .by_kind
        .iter()
        .map(|(kind, (attempts, _))| (kind.as_str().to_owned(), json!(attempts)))
        .collect();
    let by_use: Map<String, Value> = report
        .spending
        .uses()
        .map(|(benefit, (attempts, _))| (benefit.as_str().to_owned(), json!(attempts)))
        .collect();
    let by_class: Map<String, Value> = report
        .by_class
        .iter()
        .map(|(class, attempts)| (class.as_str().to_owned(), json!(attempts)))
        .collect();
    let by_backend: Map<String, Value> = report
        .by_backend
        .iter()
        .map(|(name, line)| {
            let line = json!({
                "total": line.attempts, "failed": line.failed, "answered": line.answered,
                "reused": line.reused,
            });
            (name.clone(), line)
        })
        .collect();
    json!({
        "total": total.attempts,
        "failed": total.failed,
        "interrupted": report.interrupted,
        "removed_rows": report.removed.0,
        "by_kind": by_kind,
        "by_use": by_use,
        "by_class": by_class,
        "by_backend": by_backend,
    })
}

/// What was learned of each backend. Backends of one account share a limiter, and so its numbers.
fn limits(report: &Report) -> Map<String, Value> {
    let line = |seen: &BackendSeen| {
        let limits = &seen.limits;
        let line = json!({
            "account": report.account(&seen.backend),
            "requests_per_minute": limit(limits.requests_per_minute),
            "tokens_per_minute": limit(limits.tokens_per_minute),
            "input_tokens_per_minute": limit(limits.input_tokens_per_minute),
            "output_tokens_per_minute": limit(limits.output_tokens_per_minute),
            "learned_requests_per_minute": limits.learned_requests_per_minute,
            "concurrency": {
                "allowed": limits.concurrency,
                "most_in_flight": limits.most_in_flight,
                "cuts": limits.concurrency_cuts,
            },
            "refusals": limits.refusals,
            "refusal_episodes": limits.refusal_episodes,
            "paused_ms": milliseconds(limits.paused),
            "waited_ms": milliseconds(limits.waited),
            "breaker_opened": seen.breaker_opened,
            "probes": seen.probes,
            "deferred": seen.deferred,
            "stopped": seen.stopped,
        });
        (seen.backend.clone(), line)
    };
    report.seen.iter().map(line).collect()
}

fn limit(limit: Option<(u64, LimitSource)>) -> Option<Value> {
    limit.map(|(limit, source)| json!({ "limit": limit, "source": source.as_str() }))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
