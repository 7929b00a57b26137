//! Whether a run is good enough.

use serde::{Deserialize, Serialize};

use super::{Interval, Metric};

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    Pass,
    /// The rows do not suffice to say.
    Inconclusive,
    /// It is not as it should be.
    Fail,
}

impl Verdict {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Fail => "fail",
        }
    }
}

/// What became of a job's `gate`.
#[derive(Debug, Clone, PartialEq)]
pub struct GateReport {
    /// Whether the gate is met.
    pub is_met: bool,
    /// One check after the other, in the order of the job.
    pub checks: Vec<GateCheck>,
}

/// One check of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateCheck {
    /// What is looked at, as the job writes it: `accuracy`, `cost_usd`, `baseline`.
    pub name: String,
    /// What is wanted of it: `>= 0.9`, `not worse than runs/main by more than 0.02`.
    pub wanted: String,
    /// What was found; `None` where there is nothing to look at.
    pub found: Option<Metric>,
    /// The difference to the baseline, where that is what was found.
    pub difference: Option<Interval>,
    /// What follows.
    pub verdict: Verdict,
    /// Whether the gate is met as far as this check goes: what `inconclusive` means is the job's to say.
    pub is_met: bool,
    /// The same for a person, in a sentence.
    pub text: String,
}
