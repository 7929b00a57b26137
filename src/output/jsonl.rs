//! `results.jsonl`: a line a row, with every attempt.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::job::OutputPlan;
use crate::words::{Attempt, Cost, ErrorClass, FinishReason, ResultLine};

/// The file's name.
pub(super) const NAME: &str = "results.jsonl";

/// The lines of `results.jsonl`.
pub(super) struct Jsonl {
    entries: Vec<Arc<str>>,
    parts: Vec<String>,
    scorers: Vec<String>,
}

impl Jsonl {
    /// As the job wants them.
    pub(super) fn new(plan: &OutputPlan) -> Self {
        Self {
            entries: plan.entries.clone(),
            parts: plan.parts.clone(),
            scorers: plan.scorers.clone(),
        }
    }

    /// A row's line.
    pub(super) fn line(&self, line: &ResultLine<'_>, out: &mut Vec<u8>) {
        let line = self.render(line);
        serde_json::to_writer(&mut *out, &line).expect("a vector takes every byte");
        out.push(b'\n');
    }

    fn render(&self, line: &ResultLine<'_>) -> Value {
        let (outcome, marks) = (line.outcome, line.marks);
        let row = outcome.item.row.columns.names().iter().cloned();
        let row: Map<String, Value> = row
            .zip(outcome.item.row.cells.iter().map(|cell| json!(cell)))
            .collect();
        let said = outcome.answer.as_ref();
        let last = outcome.deciding();
        let entry = self.entries.get(outcome.item.entry as usize);
        let scores = named(&self.scorers, |at| json!(marks.scores.get(at)));
        let mut value = json!({
            "id": outcome.item.row.id,
            "row": row,
            "entry": entry.map(|name| &**name),
            "repeat": u64::from(outcome.item.repeat) + 1,
            "answer": line.answer(),
            "status": outcome.status.as_str(),
            "backend": last.map(|attempt| &*attempt.backend),
            "model": last.and_then(|attempt| attempt.model.as_ref()),
            "finish_reason": said
                .and_then(|answer| answer.finish_reason.as_ref())
                .map(FinishReason::as_str),
            "usage": outcome.usage(),
            "cost_usd": outcome.paid().map(|amount| amount.to_string()),
            "latency_ms": last.map(milliseconds),
            "scores": scores,
            "error": outcome.failure().map(|(kind, message)| json!({ "kind": kind, "message": message })),
            "attempts": outcome.attempts.iter().map(attempt).collect::<Vec<_>>(),
        });
        let said = said.map(|answer| &*answer.text);
        if said != line.answer() {
            value["answer_text"] = json!(said);
        }
        let remarks = self.scorers.iter().cloned().zip(&marks.remarks);
        let remarks: Map<String, Value> = remarks
            .filter_map(|(name, remark)| Some((name, json!(remark.as_ref()?))))
            .collect();
        if !remarks.is_empty() {
            value["remarks"] = Value::Object(remarks);
        }
        if !self.parts.is_empty() {
            let parts = named(&self.parts, |at| json!(marks.parts.get(at)));
            value["parts"] = Value::Object(parts);
        }
        value
    }
}

/// Each name with the value at its position.
fn named(names: &[String], value: impl Fn(usize) -> Value) -> Map<String, Value> {
    let names = names.iter().cloned().enumerate();
    names.map(|(at, name)| (name, value(at))).collect()
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
