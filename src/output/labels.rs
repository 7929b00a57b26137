//! `labels.csv`: a line a row, with the one answer that counts where several were asked.

use std::borrow::Cow;

use super::csv::record;
use super::formula::inert;
use crate::job::{CsvSafe, LABEL_COLUMNS, OutputPlan};
use crate::words::{Columns, Decided};

/// The file's name.
pub(super) const NAME: &str = "labels.csv";

/// The lines of `labels.csv`.
pub(super) struct Labels {
    prefix: String,
    csv_safe: CsvSafe,
}

impl Labels {
    /// As the job wants them.
    pub(super) fn new(plan: &OutputPlan) -> Self {
        Self {
            prefix: plan.prefix.clone(),
            csv_safe: plan.csv_safe,
        }
    }

    /// The first line.
    pub(super) fn header(&self, columns: &Columns, out: &mut Vec<u8>) {
        let added = LABEL_COLUMNS.map(|column| format!("{}{column}", self.prefix));
        let header = columns.names().iter().chain(&added);
        record(header.map(String::as_str), out);
    }

    /// A row's line.
    pub(super) fn line(&self, decided: &Decided, out: &mut Vec<u8>) {
        let label = Cow::from(decided.label.as_deref().unwrap_or_default());
        let label = match self.csv_safe {
            CsvSafe::Prefix => inert(label),
            CsvSafe::Off => label,
        };
        let share = format!("{:.3}", decided.agreement);
        let added = [&*label, decided.by.as_str(), &share];
        let cells = decided.row.cells.iter().map(String::as_str);
        record(cells.chain(added), out);
    }
}
