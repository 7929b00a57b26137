//! What results and reports are made from besides the store's lines.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::remarks::Stated;
use crate::job::{BudgetPlan, CsvSafe, OutputFormat, OutputPlan, Plan};
use crate::words::BackendSeen;

/// What the files of a run depend on besides what was asked and answered. It is stored with the run, so that
/// they can be written again without the job file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The job's name.
    pub job: String,
    /// The results files that are written.
    pub formats: Vec<OutputFormat>,
    /// What stands before the name of each column that the runner adds.
    pub prefix: String,
    /// The names of the matrix's entries; one without a matrix.
    pub entries: Vec<String>,
    /// How often every row is asked of each entry.
    pub repeat: u32,
    /// The columns that a JSON answer is spread over.
    #[serde(default)]
    pub parts: Vec<String>,
    /// The names of the scorers, in the order of the job.
    #[serde(default)]
    pub scorers: Vec<String>,
    /// Those of them who have to be asked, such as judges: positions among the scorers.
    #[serde(default)]
    pub asking: Vec<usize>,
    /// Whether `labels.csv` says what the answers to a row come to together.
    #[serde(default)]
    pub decides: bool,
    /// What `results.csv` does about text that a spreadsheet would take for a formula.
    #[serde(default)]
    pub csv_safe: CsvSafe,
    /// What the job says of its backends, in its order.
    pub backends: Vec<Stated>,
    /// What the job may cost.
    #[serde(default)]
    pub budget: Option<BudgetPlan>,
    /// What the run has learned of them; nothing before its end.
    pub seen: Vec<BackendSeen>,
}

impl Frame {
    /// Of a job of which nothing has been asked yet.
    pub fn of(plan: &Plan) -> Self {
        let entries = plan.output.entries.iter();
        Self {
            job: plan.name.clone(),
            formats: plan.output.formats.clone(),
            prefix: plan.output.prefix.clone(),
            entries: entries.map(ToString::to_string).collect(),
            repeat: plan.output.repeat,
            parts: plan.output.parts.clone(),
            scorers: plan.output.scorers.clone(),
            asking: (0..)
                .zip(&plan.score)
                .filter(|(_, scorer)| scorer.kind.is_asked())
                .map(|(at, _)| at)
                .collect(),
            decides: plan.output.decides,
            csv_safe: plan.output.csv_safe,
            backends: plan.backends.iter().map(Stated::of).collect(),
            budget: plan.spending.budget,
            seen: Vec::new(),
        }
    }

    /// The results files, in this directory.
    pub(super) fn output(&self, dir: &Path) -> OutputPlan {
        let entries = self.entries.iter();
        OutputPlan {
            dir: dir.to_owned(),
            formats: self.formats.clone(),
            prefix: self.prefix.clone(),
            entries: entries.map(|name| Arc::from(&**name)).collect(),
            repeat: self.repeat,
            parts: self.parts.clone(),
            scorers: self.scorers.clone(),
            decides: self.decides,
            csv_safe: self.csv_safe,
        }
    }
}
