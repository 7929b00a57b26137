//! What a run came to: a fold over its outcomes, in constant memory.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::words::{Attempt, AttemptKind, Cost, ErrorClass, Outcome, Status, Usage, Usd};

/// Everything that the reports say about a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// How many rows ended in each status.
    pub by_status: BTreeMap<Status, u64>,
    /// What each backend did, in the order of the job; also those that did nothing.
    pub by_backend: IndexMap<String, BackendLine>,
    /// What is known to have been paid, by the model that answered (or was asked for).
    pub by_model: BTreeMap<String, Spent>,
    /// What is known to have been paid, by the kind of attempt, and how many there were.
    pub by_kind: BTreeMap<AttemptKind, (u64, Spent)>,
    /// How many attempts failed, by class.
    pub by_class: BTreeMap<ErrorClass, u64>,
    /// Rows that were answered by a later backend of the route than the first.
    pub fell_back: u64,
    /// The first row of each class of failure: its id and what went wrong.
    pub examples: BTreeMap<&'static str, (String, String)>,
    /// The time of each row's last attempt that brought a reply: milliseconds → how many rows.
    latency_ms: BTreeMap<u64, u64>,
}

/// What is known to have been paid, and how many attempts on top have no known price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// What is known to have been paid.
    pub paid: Usd,
    /// Attempts that used tokens of a model without a known price.
    pub unpriced: u64,
}

impl Spent {
    /// The amount; `None` where that is nothing only because no price is known. Unknown is never zero.
    pub fn amount(&self) -> Option<Usd> {
        (self.unpriced == 0 || self.paid != Usd::ZERO).then_some(self.paid)
    }

    fn add(&mut self, cost: Cost) {
        match cost {
            Cost::Known(amount) => self.paid += amount,
            Cost::Unpriced => self.unpriced += 1,
            Cost::Unknown { .. } => {}
        }
    }
}

/// What one backend did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendLine {
    /// Rows that it gave the answer to.
    pub answered: u64,
    /// Attempts on it.
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
}

impl Report {
    /// The report of a run in which nothing has happened yet.
    pub fn new(job: &str, backends: impl IntoIterator<Item = String>) -> Self {
        Self {
            job: job.to_owned(),
            by_status: Status::ALL.into_iter().map(|status| (status, 0)).collect(),
            by_backend: backends
                .into_iter()
                .map(|name| (name, BackendLine::default()))
                .collect(),
            by_model: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            by_class: BTreeMap::new(),
            fell_back: 0,
            examples: BTreeMap::new(),
            latency_ms: BTreeMap::new(),
        }
    }

    /// Adds a row.
    pub fn add(&mut self, outcome: &Outcome) {
        *self.by_status.entry(outcome.status).or_default() += 1;
        for attempt in &outcome.attempts {
            self.add_attempt(attempt);
        }
        if let Some((class, error)) = outcome.failure() {
            let example = || (outcome.item.row.id.clone(), error.to_owned());
            self.examples.entry(class).or_insert_with(example);
        }
        let Some(last) = outcome.deciding() else {
            return;
        };
        if outcome.status == Status::Answered {
            self.by_backend
                .entry(last.backend.to_string())
                .or_default()
                .answered += 1;
            let fell_back = outcome
                .attempts
                .iter()
                .any(|attempt| attempt.kind == AttemptKind::Fallback);
            self.fell_back += u64::from(fell_back);
        }
        if outcome.answer.is_some() {
            let milliseconds = u64::try_from(last.latency.as_millis()).unwrap_or(u64::MAX);
            *self.latency_ms.entry(milliseconds).or_default() += 1;
        }
    }

    fn add_attempt(&mut self, attempt: &Attempt) {
        let line = self
            .by_backend
            .entry(attempt.backend.to_string())
            .or_default();
        line.attempts += 1;
        if let Some(class) = attempt.class {
            line.failed += 1;
            *self.by_class.entry(class).or_default() += 1;
        }
        match attempt.usage {
            Some(usage) => line.usage.add(&usage),
            None => line.unreported += u64::from(attempt.class.is_none()),
        }
        line.spent.add(attempt.cost);
        match attempt.cost {
            Cost::Unknown {
                at_most: Some(amount),
            } => line.possibly_billed += amount,
            Cost::Unknown { at_most: None } => line.unbounded += 1,
            Cost::Known(_) | Cost::Unpriced => {}
        }
        let model = attempt.model.as_deref().unwrap_or("(not named)");
        self.by_model
            .entry(model.to_owned())
            .or_default()
            .add(attempt.cost);
        let (attempts, spent) = self.by_kind.entry(attempt.kind).or_default();
        *attempts += 1;
        spent.add(attempt.cost);
    }

    /// The time in milliseconds within which this many percent of the replies came; `None` without
    /// any. (The nearest rank, over the last attempt of each row that brought a reply.)
    pub fn latency_ms(&self, percent: u64) -> Option<u64> {
        percentile(&self.latency_ms, percent)
    }

    /// How many rows ended so.
    pub fn rows_with(&self, status: Status) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// Rows without an answer.
    pub fn unanswered(&self) -> u64 {
        self.rows() - self.rows_with(Status::Answered)
    }

    /// The sum over all backends.
    pub fn total(&self) -> BackendLine {
        self.by_backend
            .values()
            .fold(BackendLine::default(), |mut total, line| {
                total.answered += line.answered;
                total.attempts += line.attempts;
                total.failed += line.failed;
                total.usage.add(&line.usage);
                total.unreported += line.unreported;
                total.spent.paid += line.spent.paid;
                total.spent.unpriced += line.spent.unpriced;
                total.possibly_billed += line.possibly_billed;
                total.unbounded += line.unbounded;
                total
            })
    }
}

fn percentile(latency_ms: &BTreeMap<u64, u64>, percent: u64) -> Option<u64> {
    let rows: u64 = latency_ms.values().sum();
    let rank = (rows * percent).div_ceil(100).max(1);
    let mut seen = 0;
    latency_ms.iter().find_map(|(milliseconds, count)| {
        seen += count;
        (seen >= rank).then_some(*milliseconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let latency = |values: &[u64]| {
            let mut counts = BTreeMap::new();
            values
                .iter()
                .for_each(|value| *counts.entry(*value).or_default() += 1);
            counts
        };
        let hundred: Vec<u64> = (1..=100).collect();
        for percent in [1, 50, 90, 99, 100] {
            assert_eq!(percentile(&latency(&hundred), percent), Some(percent));
        }
        assert_eq!(percentile(&latency(&[7]), 50), Some(7));
        assert_eq!(percentile(&latency(&[1, 9]), 50), Some(1));
        assert_eq!(percentile(&latency(&[]), 50), None);
    }
}
