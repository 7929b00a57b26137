//! Who is asked for which row, in which order: the plan's part.

use std::sync::Arc;
use std::time::Duration;

use crate::template::{Condition, TemplateError};
use crate::words::{Row, Status};

/// One entry of the matrix: who answers which row, in which order.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in the results: its backends, joined by `>`.
    pub name: Arc<str>,
    /// The rules; the first that matches a row decides.
    pub rules: Vec<Rule>,
}

impl Entry {
    /// One that asks these backends, by their positions in the plan, for every row.
    pub fn always(name: &str, to: &[usize]) -> Self {
        Self {
            name: Arc::from(name),
            rules: vec![Rule {
                when: None,
                to: to.to_vec(),
            }],
        }
    }

    /// Who is asked for this row, in this order: positions in the plan's backends. `None` where no rule
    /// matches.
    pub fn route(&self, row: &Arc<Row>) -> Result<Option<&[usize]>, TemplateError> {
        for rule in &self.rules {
            let matches = match &rule.when {
                Some(condition) => condition.holds(row)?,
                None => true,
            };
            if matches {
                return Ok(Some(&rule.to));
            }
        }
        Ok(None)
    }
}

/// Which rows go to which backends.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The rows that it is for; `None` is every row.
    pub when: Option<Condition>,
    /// Who is asked, in this order: positions in the plan's backends, not empty, each once.
    pub to: Vec<usize>,
}

/// When the next backend of a route is asked, besides on errors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FallbackPolicy {
    /// After so long a wait for a backend's limits or for the end of its pause; `None`: a pause may last
    /// as long as the retry policy's longest wait, and limits are waited for.
    pub after: Option<Duration>,
    /// On answers that ended so.
    pub on: Vec<Status>,
    /// On a request that the backend refuses.
    pub on_row_fatal: bool,
}
