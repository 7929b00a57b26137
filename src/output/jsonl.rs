//! `results.jsonl`: a line a row, with every attempt.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::job::OutputPlan;
use crate::words::{Attempt, Cost, ErrorClass, FinishReason, ResultLine, Usage, Usd};

/// The file's name.
pub(super) const NAME: &str = "results.jsonl";

/// The lines of `results.jsonl`.
pub(super) struct Jsonl {
    entries: Vec<Arc<str>>,
    parts: Vec<String>,
    scorers: Vec<String>,
}

/// A line as it is written.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    row: Object<'a, &'a str>,
    entry: Option<&'a str>,
    repeat: u64,
    answer: Option<&'a str>,
    status: &'static str,
    backend: Option<&'a str>,
    model: Option<&'a str>,
    finish_reason: Option<&'a str>,
    usage: Option<Usage>,
    cost_usd: Option<Usd>,
    latency_ms: Option<u64>,
    scores: Object<'a, Option<f64>>,
    error: Option<Failure<'a>>,
    attempts: Vec<AttemptLine<'a>>,
    /// What the model said, where the answer is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_text: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    remarks: Object<'a, &'a str>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    parts: Object<'a, Option<&'a str>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    backend: &'a str,
    model: Option<&'a str>,
    kind: &'static str,
    class: Option<&'static str>,
    error: Option<&'a str>,
    http_status: Option<u16>,
    request_id: Option<&'a str>,
    usage: Option<Usage>,
    cost_usd: Option<Usd>,
    latency_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_usd: Option<Usd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    possibly_billed_usd: Option<Option<Usd>>,
}

/// Names, and what each has.
struct Object<'a, V>(Vec<(&'a str, V)>);

impl<V> Object<'_, V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Object<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
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

    fn render<'a>(&'a self, line: &'a ResultLine<'_>) -> Line<'a> {
        let (outcome, marks) = (line.outcome, line.marks);
        let row = outcome.item.row.columns.names().iter().map(String::as_str);
        let cells = outcome.item.row.cells.iter().map(String::as_str);
        let said = outcome.answer.as_ref();
        let last = outcome.deciding();
        let entry = self.entries.get(outcome.item.entry as usize);
        let remarks = self.scorers.iter().zip(&marks.remarks);
        let text = said.map(|answer| &*answer.text);
        Line {
            id: &outcome.item.row.id,
            row: Object(row.zip(cells).collect()),
            entry: entry.map(|name| &**name),
            repeat: u64::from(outcome.item.repeat) + 1,
            answer: line.answer(),
            status: outcome.status.as_str(),
            backend: last.map(|attempt| &*attempt.backend),
            model: last.and_then(|attempt| attempt.model.as_deref()),
            finish_reason: said
                .and_then(|answer| answer.finish_reason.as_ref())
                .map(FinishReason::as_str),
            usage: outcome.usage(),
            cost_usd: outcome.paid(),
            latency_ms: last.map(milliseconds),
            scores: named(&self.scorers, |at| marks.scores.get(at).copied().flatten()),
            error: outcome
                .failure()
                .map(|(kind, message)| Failure { kind, message }),
            attempts: outcome.attempts.iter().map(attempt).collect(),
            answer_text: (text != line.answer()).then_some(text),
            remarks: Object(
                remarks
                    .filter_map(|(name, remark)| Some((&**name, remark.as_deref()?)))
                    .collect(),
            ),
            parts: named(&self.parts, |at| marks.parts.get(at)?.as_deref()),
        }
    }
}

/// Each name with the value at its position.
fn named<V>(names: &[String], value: impl Fn(usize) -> V) -> Object<'_, V> {
    let names = names.iter().enumerate();
    Object(names.map(|(at, name)| (&**name, value(at))).collect())
}

fn attempt(attempt: &Attempt) -> AttemptLine<'_> {
    let (cost_usd, possibly_billed_usd) = match attempt.cost {
        Cost::Known(amount) => (Some(amount), None),
        Cost::Unknown { at_most } => (None, Some(at_most)),
        Cost::Unpriced => (None, None),
    };
    AttemptLine {
        backend: &attempt.backend,
        model: attempt.model.as_deref(),
        kind: attempt.kind.as_str(),
        class: attempt.class.map(ErrorClass::as_str),
        error: attempt.error.as_deref(),
        http_status: attempt.http_status,
        request_id: attempt.request_id.as_deref(),
        usage: attempt.usage,
        cost_usd,
        latency_ms: milliseconds(attempt),
        saved_usd: attempt.saved,
        possibly_billed_usd,
    }
}

fn milliseconds(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.latency.as_millis()).unwrap_or(u64::MAX)
}
