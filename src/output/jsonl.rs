//! `results.jsonl`: a line a row, with every attempt.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::job::OutputPlan;
use crate::words::{Attempt, Cost, ErrorClass, FinishReason, Outcome};

/// The file's name.
pub(super) const NAME: &str = "results.jsonl";

/// The lines of `results.jsonl`.
pub(super) struct Jsonl {
    entries: Vec<Arc<str>>,
}

impl Jsonl {
    /// As the job wants them.
    pub(super) fn new(plan: &OutputPlan) -> Self {
        Self {
            entries: plan.entries.clone(),
        }
    }

    /// A row's line.
    pub(super) fn line(&self, outcome: &Outcome, out: &mut Vec<u8>) {
        let line = render(outcome, &self.entries);
        serde_json::to_writer(&mut *out, &line).expect("a vector takes every byte");
        out.push(b'\n');
    }
}

fn render(outcome: &Outcome, entries: &[Arc<str>]) -> Value {
    let row: Map<String, Value> = outcome
        .item
        .row
        .columns
        .names()
        .iter()
        .cloned()
        .zip(outcome.item.row.cells.iter().map(|cell| json!(cell)))
        .collect();
    let answer = outcome.answer.as_ref();
    let last = outcome.deciding();
    json!({
        "id": outcome.item.row.id,
        "row": row,
        "entry": entries.get(outcome.item.entry as usize).map(|name| &**name),
        "repeat": u64::from(outcome.item.repeat) + 1,
        "answer": answer.map(|answer| &answer.text),
        "status": outcome.status.as_str(),
        "backend": last.map(|attempt| &*attempt.backend),
        "model": last.and_then(|attempt| attempt.model.as_ref()),
        "finish_reason": answer
            .and_then(|answer| answer.finish_reason.as_ref())
            .map(FinishReason::as_str),
        "usage": outcome.usage(),
        "cost_usd": outcome.paid().map(|amount| amount.to_string()),
        "latency_ms": last.map(milliseconds),
        "scores": {},
        "error": outcome.failure().map(|(kind, message)| json!({ "kind": kind, "message": message })),
        "attempts": outcome.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}

fn attempt(attempt: &Attempt) -> Value {
    let mut line = json!({
        "backend": &*attempt.backend,
        "model": attempt.model,
        "kind": attempt.kind.as_str(),
        "class": attempt.class.map(ErrorClass::as_str),
        "error": attempt.error,
        "http_status": attempt.http_status,
        "request_id": attempt.request_id,
        "usage": attempt.usage,
        "cost_usd": match attempt.cost {
            Cost::Known(amount) => Some(amount.to_string()),
            Cost::Unknown { .. } | Cost::Unpriced => None,
        },
        "latency_ms": milliseconds(attempt),
    });
    if let Some(saved) = attempt.saved {
        line["saved_usd"] = json!(saved.to_string());
    }
    if let Cost::Unknown { at_most } = attempt.cost {
        line["possibly_billed_usd"] = json!(at_most.map(|amount| amount.to_string()));
    }
    line
}

fn milliseconds(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.latency.as_millis()).unwrap_or(u64::MAX)
}
