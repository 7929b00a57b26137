//! Layer 2: what is left when a run ends. Outcomes in row order → results and reports.
//!
//! What this folder promises: every row of the input appears exactly once (for each entry of the matrix
//! and repeat), in order, whatever happened to it; money is printed exactly; a file appears whole or not at all (written beside its
//! place, synced, renamed). Outcomes pass through one at a time: memory does not grow with them. The same store
//! and the same [`Frame`] make the same bytes, whenever they are written.

mod backend_line;
mod budget;
mod cells;
mod compare;
mod csv;
mod figures;
mod formula;
mod frame;
mod html;
mod jsonl;
mod junit;
mod labels;
mod latency;
mod markdown;
mod parquet_file;
mod prices;
mod publication;
mod publish;
mod remarks;
mod report;
mod report_json;
mod samples;
mod score_json;
mod score_markdown;
mod sentences;
mod spending;

use std::path::{Path, PathBuf};

pub use backend_line::BackendLine;
pub use budget::BudgetLine;
pub use compare::Comparison;
pub use frame::Frame;
pub use markdown::escape as escape_markdown;
pub use prices::{Charged, Repriced, origin, price_changes, repriced_lines};
pub use publication::{Publication, Sink, file_name};
pub use publish::Pending;
pub use remarks::{Hint, Remarks, Stated};
pub use report::{EntryLine, Report, Saved, Spent};
pub use sentences::{notes, savings, spendings};
pub use spending::{Fallback, Projection, Spending};

/// Why results or reports cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct OutputError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: std::io::Error,
}

/// Everything that a run may publish.
const NAMES: [&str; 8] = [
    csv::NAME,
    jsonl::NAME,
    parquet_file::NAME,
    labels::NAME,
    report_json::NAME,
    markdown::NAME,
    html::NAME,
    junit::NAME,
];

/// The first file in a directory that a run would write over.
pub fn published(dir: &Path) -> Option<PathBuf> {
    let mut paths = NAMES.into_iter().map(|name| dir.join(name));
    paths.find(|path| path.is_file())
}

/// Removes what runners that were killed have left half-written in a directory. Its lock must be held.
pub fn remove_leftovers(dir: &Path) {
    publish::remove_leftovers(dir, &NAMES);
}
