//! `results.csv`: the input's columns unchanged, then what the run adds.

use std::path::PathBuf;
use std::sync::Arc;

use super::OutputError;
use super::publish::Pending;
use crate::job::OutputPlan;
use crate::words::{Columns, Outcome};

/// The file's name.
pub(super) const NAME: &str = "results.csv";

/// `results.csv` while it is written.
pub(super) struct CsvResults {
    file: Pending,
    /// The names of the matrix's entries, where lines say which one they are from.
    entries: Option<Vec<Arc<str>>>,
    /// Whether lines say which answer of a row they are.
    repeats: bool,
}

impl CsvResults {
    /// Starts the file with its header.
    pub(super) fn create(plan: &OutputPlan, columns: &Columns) -> Result<Self, OutputError> {
        let mut results = Self {
            file: Pending::create(&plan.dir, NAME)?,
            entries: plan.has_entries().then(|| plan.entries.clone()),
            repeats: plan.has_repeats(),
        };
        let added = plan.result_columns();
        let header = columns.names().iter().chain(&added);
        results.line(header.map(String::as_bytes))?;
        Ok(results)
    }

    /// Adds a row's line.
    pub(super) fn write(&mut self, outcome: &Outcome) -> Result<(), OutputError> {
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
        self.line(cells.map(String::as_bytes))
    }

    /// Puts the file in its place.
    pub(super) fn publish(self) -> Result<PathBuf, OutputError> {
        self.file.publish()
    }

    fn line<'a>(&mut self, cells: impl Iterator<Item = &'a [u8]>) -> Result<(), OutputError> {
        let mut bytes = Vec::new();
        {
            let mut writer = csv::Writer::from_writer(&mut bytes);
            writer
                .write_record(cells)
                .expect("a vector takes every byte");
            writer.flush().expect("a vector takes every byte");
        }
        self.file.write(&bytes)
    }
}
