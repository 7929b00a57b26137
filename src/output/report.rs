//! What a run came to: a fold over its outcomes, in constant memory.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Sum;
use std::sync::Arc;

use indexmap::IndexMap;

use super::backend_line::BackendLine;
use super::frame::Frame;
use super::latency::{Histogram, Latency};
use super::prices::{Charged, Repriced};
use super::remarks::{Remarks, Stated, remarks};
use super::samples::Samples;
use super::spending::Spending;
use crate::job::{Backend, BudgetPlan};
use crate::words::{
    Attempt, AttemptKind, BackendSeen, Cost, ErrorClass, GateReport, Outcome, ResultLine, Scores,
    Status, Usd,
};

/// Everything that the reports say about a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// How many rows of the input there were, however often each was asked.
    pub inputs: u64,
    /// How many rows ended in each status; a row counts once for each entry of the matrix and repeat.
    pub by_status: BTreeMap<Status, u64>,
    /// What each backend did, in the order of the job; also those that did nothing.
    pub by_backend: IndexMap<String, BackendLine>,
    /// What is known to have been paid, by the model that answered (or was asked for).
    pub by_model: BTreeMap<String, Spent>,
    /// What is known to have been paid, by the kind of attempt, and how many there were.
    pub by_kind: BTreeMap<AttemptKind, (u64, Spent)>,
    /// What was bought with it, and what it was good for.
    pub spending: Spending,
    /// What was charged by which price, by the name of the price.
    pub by_tariff: BTreeMap<String, Charged>,
    /// What is in this report by another price than it was charged by: by backend and name of the price.
    pub repriced: BTreeMap<(String, String), Repriced>,
    /// What was not paid because no request was made, by the kind of attempt.
    pub saved: BTreeMap<AttemptKind, Saved>,
    /// Result lines whose answer is from the cache.
    pub from_cache: u64,
    /// Result lines that took over what another row had that asked the same.
    pub duplicates: u64,
    /// How many attempts failed, by class.
    pub by_class: BTreeMap<ErrorClass, u64>,
    /// Attempts whose end is not known, because a runner was killed, and that no line of the results shows.
    pub interrupted: u64,
    /// Attempts for rows and entries of the matrix that are not in the job any more, and what was paid for
    /// them. They are part of every total, but no line of the results shows them.
    pub removed: (u64, Spent),
    /// Rows that were answered by a later backend of the route than the first.
    pub fell_back: u64,
    /// The first row of each class of failure: its id and what went wrong.
    pub examples: BTreeMap<&'static str, (String, String)>,
    /// What was paid for the word of those who decide, where it is needed no more. It is part of every total, but no line
    /// of the results shows it.
    pub set_aside: Spent,
    /// What was to be asked about answers and was not, for want of money.
    pub unaffordable: u64,
    /// Answers that somebody was to score who did not.
    pub unscored: u64,
    /// What each entry of the matrix came to, by its position.
    by_entry: BTreeMap<u32, EntryLine>,
    entry_names: Vec<Arc<str>>,
    latency: Latency,
    /// What was learned of each backend's limits and moods.
    pub seen: Vec<BackendSeen>,
    stated: Vec<Stated>,
    /// The job's budget.
    pub(super) budget_plan: Option<BudgetPlan>,
    /// Lines of the results to look at.
    pub(super) samples: Samples,
    /// How good the answers are; `None` of a job that does not say how that is seen.
    pub scores: Option<Scores>,
    /// What became of the job's gate; `None` of a job without one.
    pub gate: Option<GateReport>,
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

    pub(super) fn add(&mut self, cost: Cost) {
        match cost {
            Cost::Known(amount) => self.paid += amount,
            Cost::Unpriced => self.unpriced += 1,
            Cost::Unknown { .. } => {}
        }
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Spent>>(all: I) -> Spent {
        all.fold(Spent::default(), |sum, spent| Spent {
            paid: sum.paid + spent.paid,
            unpriced: sum.unpriced + spent.unpriced,
        })
    }
}

/// What did not have to be paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// As far as it is known.
    pub amount: Usd,
    /// How many requests were spared of which nobody knows what they would have cost.
    pub unknown: u64,
}

/// What one entry of the matrix came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryLine {
    /// How many of its rows ended in each status.
    pub by_status: BTreeMap<Status, u64>,
    /// What is known to have been paid.
    pub spent: Spent,
    /// What may have been billed on top, at most.
    pub possibly_billed: Usd,
    /// Attempts that may have been billed without any known bound.
    pub unbounded: u64,
    latency: Latency,
}

impl EntryLine {
    fn add(&mut self, outcome: &Outcome) {
        *self.by_status.entry(outcome.status).or_default() += 1;
        for attempt in &outcome.attempts {
            self.spent.add(attempt.cost);
            match attempt.cost {
                Cost::Unknown {
                    at_most: Some(amount),
                } => self.possibly_billed += amount,
                Cost::Unknown { at_most: None } => self.unbounded += 1,
                Cost::Known(_) | Cost::Unpriced => {}
            }
        }
        self.latency.add(outcome);
    }

    /// How many of its rows ended so.
    pub fn rows_with(&self, status: Status) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    /// All its rows.
    pub fn rows(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// As [`Report::latency_ms`].
    pub fn latency_ms(&self, percent: u64) -> Option<u64> {
        self.latency.percentile(percent)
    }
}

impl Report {
    /// The report of a run in which nothing has happened yet.
    pub fn new(job: &str, backends: impl IntoIterator<Item = String>) -> Self {
        Self {
            job: job.to_owned(),
            inputs: 0,
            by_status: Status::ALL.into_iter().map(|status| (status, 0)).collect(),
            by_backend: backends
                .into_iter()
                .map(|name| (name, BackendLine::default()))
                .collect(),
            by_model: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            spending: Spending::default(),
            by_tariff: BTreeMap::new(),
            repriced: BTreeMap::new(),
            saved: BTreeMap::new(),
            from_cache: 0,
            duplicates: 0,
            by_class: BTreeMap::new(),
            interrupted: 0,
            removed: (0, Spent::default()),
            fell_back: 0,
            seen: Vec::new(),
            stated: Vec::new(),
            budget_plan: None,
            samples: Samples::default(),
            scores: None,
            gate: None,
            examples: BTreeMap::new(),
            set_aside: Spent::default(),
            unaffordable: 0,
            unscored: 0,
            by_entry: BTreeMap::new(),
            entry_names: Vec::new(),
            latency: Latency::default(),
        }
    }

    /// The report of a run of which the store has not been read yet.
    pub fn of(frame: &Frame) -> Self {
        let backends = frame.backends.iter().map(|stated| stated.backend.clone());
        Self {
            entry_names: frame
                .entries
                .iter()
                .map(|name| Arc::from(&**name))
                .collect(),
            seen: frame.seen.clone(),
            stated: frame.backends.clone(),
            budget_plan: frame.budget,
            samples: Samples::new(frame.entries.len() > 1 || frame.repeat > 1),
            ..Self::new(&frame.job, backends)
        }
    }

    /// The same, with the names of the matrix's entries; without, their numbers stand for them.
    pub fn with_entries(mut self, names: impl IntoIterator<Item = Arc<str>>) -> Self {
        self.entry_names = names.into_iter().collect();
        self
    }

    /// The same, with what was learned of the backends' limits beside what the job says of them.
    pub fn with_seen(mut self, seen: Vec<BackendSeen>, backends: &[Backend]) -> Self {
        self.seen = seen;
        self.stated = backends.iter().map(Stated::of).collect();
        self
    }

    /// What is worth saying of the backends: their limits, outages, and models that nobody asked for.
    pub fn remarks(&self) -> Vec<Remarks> {
        remarks(&self.seen, &self.stated, &self.by_backend)
    }

    /// The account whose limits a backend shares, where the job names one.
    pub fn account(&self, backend: &str) -> Option<&str> {
        let mut stated = self.stated.iter();
        let stated = stated.find(|stated| stated.backend == backend)?;
        stated.account.as_deref()
    }

    /// Adds a line of the results.
    pub fn add(&mut self, line: &ResultLine<'_>) {
        self.samples.add(line);
        let outcome = line.outcome;
        let item = &outcome.item;
        self.inputs += u64::from(item.entry == 0 && item.repeat == 0);
        self.by_entry.entry(item.entry).or_default().add(outcome);
        self.latency.add(outcome);
        self.spending.add(outcome);
        *self.by_status.entry(outcome.status).or_default() += 1;
        for attempt in &outcome.attempts {
            self.add_attempt(attempt);
        }
        if let Some((class, error)) = outcome.failure() {
            let example = || (outcome.item.row.id.clone(), error.to_owned());
            self.examples.entry(class).or_insert_with(example);
        }
        let Some(deciding) = outcome.deciding() else {
            return;
        };
        if outcome.status != Status::NotRun {
            self.from_cache += u64::from(deciding.kind == AttemptKind::Cache);
            self.duplicates += u64::from(deciding.kind == AttemptKind::Duplicate);
        }
        if outcome.status == Status::Answered {
            let line = self.by_backend.entry(deciding.backend.to_string());
            let line = line.or_default();
            line.answered += 1;
            line.reused += u64::from(!deciding.kind.is_request());
            self.fell_back += u64::from(is_fallback(deciding, &outcome.attempts));
        }
    }

    /// Adds what those said who decide, where the others agree by now.
    pub fn add_set_aside(&mut self, outcome: &Outcome) {
        self.add_side(outcome);
        for attempt in &outcome.attempts {
            self.set_aside.add(attempt.cost);
        }
    }

    /// Adds what was asked about the answer to a row: it was paid for, but no line of the results shows it.
    pub fn add_side(&mut self, outcome: &Outcome) {
        self.unaffordable += u64::from(outcome.status == Status::SkippedBudget);
        self.spending.add_side(outcome);
        for attempt in &outcome.attempts {
            self.add_attempt(attempt);
        }
    }

    /// Adds an attempt on the way of a row whose end is not known, because a runner was killed. No line of
    /// the results shows it.
    pub fn add_interrupted(&mut self, attempt: &Attempt) {
        self.interrupted += 1;
        let line = self.by_backend.entry(attempt.backend.to_string());
        line.or_default().add_possible(attempt.cost);
    }

    /// Adds an attempt for a row, or an entry of the matrix, that is not in the job any more. It was paid for
    /// all the same, but no line of the results shows it.
    pub fn add_outside(&mut self, attempt: &Attempt, ended: bool) {
        if !attempt.kind.is_request() {
            // What it saved, it saved for a job that is not this one any more.
            return;
        }
        match ended {
            true => {
                let (attempts, spent) = &mut self.removed;
                *attempts += 1;
                spent.add(attempt.cost);
                self.spending.add_removed(attempt);
                self.add_attempt(attempt);
            }
            false => self.add_interrupted(attempt),
        }
    }

    fn add_attempt(&mut self, attempt: &Attempt) {
        let (attempts, spent) = self.by_kind.entry(attempt.kind).or_default();
        *attempts += 1;
        spent.add(attempt.cost);
        if attempt.kind == AttemptKind::Command {
            return;
        }
        if !attempt.kind.is_request() {
            let saved = self.saved.entry(attempt.kind).or_default();
            match attempt.saved {
                Some(amount) => saved.amount += amount,
                None => saved.unknown += u64::from(attempt.is_reply()),
            }
            return;
        }
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
        if let Some(model) = attempt.model.as_deref() {
            line.add_model(model);
        }
        line.spent.add(attempt.cost);
        line.add_possible(attempt.cost);
        self.add_charge(attempt);
        let model = attempt.model.as_deref().unwrap_or("(not named)");
        self.by_model
            .entry(model.to_owned())
            .or_default()
            .add(attempt.cost);
    }

    /// The time in milliseconds within which this many percent of the replies came; `None` without
    /// any. (The nearest rank, over the attempt of each row that decided.)
    pub fn latency_ms(&self, percent: u64) -> Option<u64> {
        self.latency.percentile(percent)
    }

    /// How many replies took how long; `None` without any.
    pub(super) fn histogram(&self) -> Option<Histogram> {
        self.latency.histogram()
    }

    /// What each entry of the matrix came to, also those that were never asked; none where there is only
    /// one.
    pub fn entries(&self) -> impl Iterator<Item = (String, EntryLine)> {
        let named = 0..u32::try_from(self.entry_names.len()).unwrap_or(u32::MAX);
        let positions: BTreeSet<u32> = named.chain(self.by_entry.keys().copied()).collect();
        let several = positions.len() > 1;
        let positions = positions.into_iter().filter(move |_| several);
        positions.map(|entry| {
            let line = self.by_entry.get(&entry).cloned();
            (self.entry_name(entry), line.unwrap_or_default())
        })
    }

    /// The name of an entry of the matrix; its number, counted from 1, stands for one without.
    pub(super) fn entry_name(&self, entry: u32) -> String {
        let name = self.entry_names.get(entry as usize);
        name.map_or_else(|| (u64::from(entry) + 1).to_string(), ToString::to_string)
    }

    /// What each entry of the matrix came to that was asked; also where there is only one.
    pub(super) fn entry_lines(&self) -> impl Iterator<Item = &EntryLine> {
        self.by_entry.values()
    }

    /// How many rows ended so.
    pub fn rows_with(&self, status: Status) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.by_status.values().sum()
    }

    /// How many rows, for people: `300 rows`, `600 results for 300 rows`.
    pub fn asked(&self) -> String {
        match self.rows() {
            1 if self.inputs == 1 => "1 row".to_owned(),
            rows if rows == self.inputs => format!("{rows} rows"),
            rows if self.inputs == 1 => format!("{rows} results for 1 row"),
            rows => format!("{rows} results for {} rows", self.inputs),
        }
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
                total.reused += line.reused;
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

/// Whether the attempt that decided was made on a later backend of the route than the first.
pub(super) fn is_fallback(deciding: &Attempt, attempts: &[Attempt]) -> bool {
    let elsewhere = attempts
        .first()
        .is_some_and(|a| a.backend != deciding.backend);
    // The first backend may have been passed over without an attempt.
    let mut there = attempts.iter().filter(|a| a.backend == deciding.backend);
    elsewhere || there.any(|attempt| attempt.kind == AttemptKind::Fallback)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::{Answer, Columns, Digest, Item, Marks, Row};

    fn attempt(backend: &str, kind: AttemptKind, milliseconds: u64) -> Attempt {
        Attempt {
            latency: Duration::from_millis(milliseconds),
            ..Attempt::new(1, backend.into(), kind, Digest::default())
        }
    }

    fn answered(attempts: Vec<Attempt>, answered_by: Option<usize>) -> Outcome {
        let row = Row {
            index: 0,
            id: "1".to_owned(),
            columns: Columns::new(Vec::new()).into(),
            cells: Vec::new(),
            key: Digest::default(),
        };
        Outcome {
            item: Item::of(row.into()),
            status: Status::Answered,
            answer: Some(Answer {
                text: "yes".to_owned(),
                finish_reason: None,
            }),
            error: None,
            attempts,
            answered_by,
        }
    }

    fn report(outcome: &Outcome) -> Report {
        let mut report = Report::new("job", ["a", "b"].map(str::to_owned));
        add(&mut report, outcome);
        report
    }

    fn add(report: &mut Report, outcome: &Outcome) {
        let marks = &Marks::default();
        report.add(&ResultLine { outcome, marks });
    }

    #[test]
    fn the_attempt_that_answered_decides_and_not_the_last_one() {
        use AttemptKind::{Fallback, First, Hedge, Retry};
        let attempts = |kinds: &[(&str, AttemptKind)]| -> Vec<Attempt> {
            let numbered = kinds.iter().zip(1..);
            numbered
                .map(|((backend, kind), number)| attempt(backend, *kind, number))
                .collect()
        };
        // (attempts, which answered, which backend that is, whether it is a fallback)
        for (kinds, answered_by, backend, fell_back) in [
            (&[("a", First), ("b", Fallback)][..], None, "b", 1),
            (&[("a", First), ("b", Fallback)], Some(0), "a", 0),
            (&[("a", First), ("b", Fallback), ("b", Retry)], None, "b", 1),
            (&[("a", First), ("b", Hedge)], Some(1), "b", 1),
            (&[("a", First), ("b", Hedge)], Some(0), "a", 0),
            (&[("a", First), ("a", Hedge)], Some(1), "a", 0),
            // The first backend of the route was passed over.
            (&[("b", Fallback)], Some(0), "b", 1),
        ] {
            let outcome = answered(attempts(kinds), answered_by);
            let report = report(&outcome);
            assert_eq!(report.by_backend[backend].answered, 1, "{outcome:?}");
            assert_eq!(report.fell_back, fell_back, "{outcome:?}");
            let number = answered_by.unwrap_or(kinds.len() - 1) as u64 + 1;
            assert_eq!(report.latency_ms(50), Some(number), "{outcome:?}");
        }
    }

    #[test]
    fn an_attempt_that_is_not_there_is_no_reason_to_panic() {
        let outcome = answered(vec![attempt("a", AttemptKind::First, 1)], Some(7));
        let report = report(&outcome);
        assert_eq!((report.rows(), report.fell_back), (1, 0));
        assert_eq!(report.latency_ms(50), None);
    }

    #[test]
    fn entries_are_told_apart_by_name_and_rows_are_counted_once() {
        let names = ["a", "a>b", "b"].map(Arc::from);
        let mut report = Report::new("job", []).with_entries(names);
        for (entry, repeat) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut outcome = answered(vec![attempt("a", AttemptKind::First, 5)], None);
            outcome.item.entry = entry;
            outcome.item.repeat = repeat;
            add(&mut report, &outcome);
        }
        assert_eq!((report.rows(), report.inputs), (4, 1));
        let shown: Vec<_> = report
            .entries()
            .map(|(name, line)| (name, line.rows()))
            .collect();
        let expected = [("a", 2), ("a>b", 2), ("b", 0)];
        assert_eq!(shown, expected.map(|(name, rows)| (name.to_owned(), rows)));
        // One entry is no matrix.
        assert_eq!(
            self::report(&answered(Vec::new(), None)).entries().count(),
            0
        );
    }
}
