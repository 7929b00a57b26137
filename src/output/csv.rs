//! `results.csv`: the input's columns unchanged, then what the run adds.

use std::sync::Arc;

use crate::job::OutputPlan;
use crate::words::{Columns, Outcome};

/// The file's name.
pub(super) const NAME: &str = "results.csv";

/// The lines of `results.csv`.
pub(super) struct Csv {
    /// The names of the matrix's entries, where lines say which one they are from.
    entries: Option<Vec<Arc<str>>>,
    /// Whether lines say which answer of a row they are.
    repeats: bool,
}

impl Csv {
    /// As the job wants them.
    pub(super) fn new(plan: &OutputPlan) -> Self {
        Self {
            entries: plan.has_entries().then(|| plan.entries.clone()),
            repeats: plan.has_repeats(),
        }
    }

    /// The first line.
    pub(super) fn header(plan: &OutputPlan, columns: &Columns, out: &mut Vec<u8>) {
        let added = plan.result_columns();
        let header = columns.names().iter().chain(&added);
        record(header.map(String::as_bytes), out);
    }

    /// A row's line.
    pub(super) fn line(&self, outcome: &Outcome, out: &mut Vec<u8>) {
        let usage = outcome.usage().unwrap_or_default();
        let last = outcome.deciding();
        let number = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
        let added = [
            outcome
                .answer
                .as_ref()
                .map(|answer| answer.text.clone())
                .unwrap_or_default(),
            outcome.status.as_str().to_owned(),
            last.map(|attempt| attempt.backend.to_string())
                .unwrap_or_default(),
            last.and_then(|attempt| attempt.model.clone())
                .unwrap_or_default(),
            outcome.requests().to_string(),
            number(usage.input_tokens),
            number(usage.output_tokens),
            outcome
                .paid()
                .map(|amount| amount.to_string())
                .unwrap_or_default(),
            last.map(|attempt| attempt.latency.as_millis().to_string())
                .unwrap_or_default(),
            outcome
                .failure()
                .map(|(kind, text)| format!("{kind}: {text}"))
                .unwrap_or_default(),
        ];
        let item = &outcome.item;
        let entry = self.entries.as_ref().map(|names| {
            let name = names.get(item.entry as usize);
            name.map(ToString::to_string).unwrap_or_default()
        });
        let repeat = self
            .repeats
            .then(|| (u64::from(item.repeat) + 1).to_string());
        let cells = item.row.cells.iter().chain(&added);
        let cells = cells.chain(&entry).chain(&repeat);
        record(cells.map(String::as_bytes), out);
    }
}

fn record<'a>(cells: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut writer = csv::Writer::from_writer(out);
    writer
        .write_record(cells)
        .expect("a vector takes every byte");
    writer.flush().expect("a vector takes every byte");
}
