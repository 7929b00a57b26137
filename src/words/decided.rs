//! What a row's answers come to together.

use std::sync::Arc;

use super::Row;

/// What the answers to a row come to, where there are several.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The row.
    pub row: Arc<Row>,
    /// The answer that counts; `None` where none does.
    pub label: Option<String>,
    /// How it came to count.
    pub by: DecidedBy,
    /// Which share of the row's answers it is, of those who were asked first: every line counts, valid or not.
    pub agreement: f64,
}

/// How an answer came to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// All gave it.
    Unanimous,
    /// More gave it than any other.
    Majority,
    /// Those gave it who are asked where the others disagree.
    Escalation,
    /// No answer counts: two were given as often, or none was valid.
    Nobody,
}

impl DecidedBy {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            DecidedBy::Unanimous => "unanimous",
            DecidedBy::Majority => "majority",
            DecidedBy::Escalation => "escalated",
            DecidedBy::Nobody => "nobody",
        }
    }
}
