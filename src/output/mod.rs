//! Layer 2: what is left when a run ends. Outcomes in row order → results and reports.
//!
//! What this folder promises: every row of the input appears exactly once (for each entry of the matrix
//! and repeat), in order, whatever happened to it; money is printed exactly; a file appears whole or not at all (written beside its
//! place, synced, renamed). Outcomes pass through one at a time: memory does not grow with them.

mod csv;
mod jsonl;
mod latency;
mod markdown;
mod publish;
mod remarks;
mod report;
mod report_json;

use std::path::{Path, PathBuf};

pub use markdown::notes;
pub use remarks::{Hint, Remarks};
pub use report::{BackendLine, EntryLine, Report, Spent};

use crate::job::{OutputFormat, OutputPlan};
use crate::words::{Columns, Outcome};

use publish::Pending;

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

/// The results files while they are written.
pub struct Results {
    csv: Option<csv::CsvResults>,
    jsonl: Option<jsonl::JsonlResults>,
}

impl Results {
    /// Starts the files that the job asks for.
    pub fn create(plan: &OutputPlan, columns: &Columns) -> Result<Self, OutputError> {
        let wanted = |format| plan.formats.contains(&format);
        Ok(Self {
            csv: match wanted(OutputFormat::Csv) {
                true => Some(csv::CsvResults::create(plan, columns)?),
                false => None,
            },
            jsonl: match wanted(OutputFormat::Jsonl) {
                true => Some(jsonl::JsonlResults::create(plan)?),
                false => None,
            },
        })
    }

    /// Writes a row's line to each file. Rows must come in order.
    pub fn write(&mut self, outcome: &Outcome) -> Result<(), OutputError> {
        if let Some(csv) = &mut self.csv {
            csv.write(outcome)?;
        }
        if let Some(jsonl) = &mut self.jsonl {
            jsonl.write(outcome)?;
        }
        Ok(())
    }

    /// Puts the files in their places. Returns their paths.
    pub fn publish(self) -> Result<Vec<PathBuf>, OutputError> {
        let mut paths = Vec::new();
        if let Some(csv) = self.csv {
            paths.push(csv.publish()?);
        }
        if let Some(jsonl) = self.jsonl {
            paths.push(jsonl.publish()?);
        }
        Ok(paths)
    }
}

/// The first file in a directory that a run would write over.
pub fn published(dir: &Path) -> Option<PathBuf> {
    let names = [csv::NAME, jsonl::NAME, report_json::NAME, markdown::NAME];
    let mut paths = names.into_iter().map(|name| dir.join(name));
    paths.find(|path| path.is_file())
}

/// Removes what runners that were killed have left half-written in a directory. Its lock must be held.
pub fn remove_leftovers(dir: &Path) {
    let names = [csv::NAME, jsonl::NAME, report_json::NAME, markdown::NAME];
    publish::remove_leftovers(dir, &names);
}

/// Writes `report.json` and `report.md`. Returns their paths.
pub fn publish_report(
    dir: &Path,
    report: &Report,
    exit_code: u8,
) -> Result<Vec<PathBuf>, OutputError> {
    let files = [
        (report_json::NAME, report_json::render(report, exit_code)),
        (markdown::NAME, markdown::render(report)),
    ];
    files
        .into_iter()
        .map(|(name, text)| {
            let mut file = Pending::create(dir, name)?;
            file.write(text.as_bytes())?;
            file.publish()
        })
        .collect()
}
