//! Two runs of the same rows, side by side.

use super::Metric;

/// How the scores of the same rows differ between two runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// How many rows have a score in both.
    pub n: u64,
    /// The mean score before.
    pub before: f64,
    /// The mean score after.
    pub after: f64,
    /// How much higher the mean is after than before.
    pub difference: Metric,
    /// How many rows have a higher score after.
    pub better: u64,
    /// How many rows have a lower score after.
    pub worse: u64,
    /// How likely chance alone makes better and worse differ as much: McNemar's exact test, for scores of 0 and 1 only.
    pub p: Option<f64>,
}
