//! How good a run's answers are.

use indexmap::IndexMap;

use super::Metric;

/// How good the answers of a run are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// All lines of the results together.
    pub overall: Group,
    /// The lines of each entry of the matrix, by its name; nothing without a matrix.
    pub by_entry: IndexMap<String, Group>,
    /// Cohen's kappa of each pair of entries, by their names.
    pub kappas: Vec<(String, String, Metric)>,
    /// Krippendorff's alpha (nominal) over the entries of the matrix.
    pub alpha: Option<Metric>,
    /// What could not be reckoned, and why: sentences for a person.
    pub notes: Vec<String>,
}

/// How good some lines of the results are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Figures by name, in the order of reports: `answered`, `accuracy`, `accuracy_answered`, the mean of each scorer under its
    /// name, `precision_macro`, `recall_macro`, `f1_macro`, `majority_accuracy`, `self_agreement`; those that apply.
    pub metrics: IndexMap<String, Metric>,
    /// Precision, recall and F1 of each label, in the order of the labels.
    pub labels: IndexMap<String, LabelScores>,
    /// Which label was given for which, if there are labels.
    pub confusion: Option<Confusion>,
}

/// How well one label was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelScores {
    /// Of the lines that were given the label, how many have it; `None` where none was given it.
    pub precision: Option<Metric>,
    /// Of the lines that have the label, how many were given it; `None` where none has it.
    pub recall: Option<Metric>,
    /// The harmonic mean of the two; `None` where neither is known.
    pub f1: Option<Metric>,
}

/// Which label was given for which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusion {
    /// The labels, in the order of rows and columns.
    pub labels: Vec<String>,
    /// How many lines have the label of the row and were given the label of the column. The last column is of those
    /// without a valid label.
    pub counts: Vec<Vec<u64>>,
}
