//! What one backend did in a run.

use std::collections::BTreeMap;

use super::report::Spent;
use crate::words::{Cost, Usage, Usd};

/// How many models of a backend are remembered.
const MODELS: usize = 8;

/// What one backend did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendLine {
    /// Rows that it gave the answer to.
    pub answered: u64,
    /// How many of these answers are from the cache or from another row: nothing was sent for them.
    pub reused: u64,
    /// Attempts on it: requests that were made.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Tokens of all its attempts that reported any.
    pub usage: Usage,
    /// Attempts with a reply that did not report tokens.
    pub unreported: u64,
    /// What is known to have been paid.
    pub spent: Spent,
    /// What may have been billed on top, at most.
    pub possibly_billed: Usd,
    /// Attempts that may have been billed without any known bound.
    pub unbounded: u64,
    /// How many replies named which model; of more models than anybody would read only the first.
    pub models: BTreeMap<String, u64>,
}

impl BackendLine {
    pub(super) fn add_model(&mut self, model: &str) {
        if let Some(replies) = self.models.get_mut(model) {
            *replies += 1;
        } else if self.models.len() < MODELS {
            self.models.insert(model.to_owned(), 1);
        }
    }

    pub(super) fn add_possible(&mut self, cost: Cost) {
        match cost {
            Cost::Unknown {
                at_most: Some(amount),
            } => self.possibly_billed += amount,
            Cost::Unknown { at_most: None } => self.unbounded += 1,
            Cost::Known(_) | Cost::Unpriced => {}
        }
    }
}
