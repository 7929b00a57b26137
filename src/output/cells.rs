//! What the results say of a row besides the input's columns: one list for every form that has columns.

use std::borrow::Cow;

use crate::job::OutputPlan;
use crate::words::{Attempt, Item, Marks, Outcome, ResultLine, Usd};

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Money,
    Score,
}

/// What a row has in a column; nothing where it has nothing to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Text(Option<Cow<'a, str>>),
    Whole(Option<u64>),
    Money(Option<Usd>),
    Score(Option<f64>),
}

/// What stands in each added column, in the order of [`OutputPlan::result_columns`].
#[cfg_attr(not(feature = "parquet"), allow(dead_code))]
pub(super) fn kinds(plan: &OutputPlan) -> Vec<Kind> {
    use Kind::{Money, Score, Text, Whole};
    let mut kinds = vec![Text];
    kinds.extend(plan.parts.iter().map(|_| Text));
    kinds.extend([Text, Text, Text, Whole, Whole, Whole, Money, Whole, Text]);
    let scores = match plan.scorers.len() {
        0 => 0,
        1 => 1,
        several => several + 1,
    };
    kinds.extend((0..scores).map(|_| Score));
    kinds.extend(plan.has_entries().then_some(Text));
    kinds.extend(plan.has_repeats().then_some(Whole));
    kinds
}

/// The cells of a row in these columns.
pub(super) fn added<'a>(plan: &'a OutputPlan, line: &'a ResultLine<'a>) -> Vec<Cell<'a>> {
    let (outcome, marks) = (line.outcome, line.marks);
    let mut cells = vec![text(line.answer())];
    cells.extend(parts(plan, marks));
    cells.extend(about(outcome));
    cells.extend(scores(plan, marks));
    cells.extend(place(plan, &outcome.item));
    cells
}

fn text(text: Option<&str>) -> Cell<'_> {
    Cell::Text(text.map(Cow::from))
}

fn parts<'a>(plan: &OutputPlan, marks: &'a Marks) -> impl Iterator<Item = Cell<'a>> {
    let parts = (0..plan.parts.len()).map(|at| marks.parts.get(at)?.as_deref());
    parts.map(text)
}

/// How it came to the answer: what every job's results say.
fn about(outcome: &Outcome) -> [Cell<'_>; 9] {
    let usage = outcome.usage().unwrap_or_default();
    let last = outcome.deciding();
    let of = |of: fn(&Attempt) -> Option<&str>| text(last.and_then(of));
    let latency = last.map(|attempt| attempt.latency.as_millis());
    let failure = outcome.failure();
    let failure = failure.map(|(kind, text)| format!("{kind}: {text}").into());
    [
        text(Some(outcome.status.as_str())),
        of(|attempt| Some(&attempt.backend)),
        of(|attempt| attempt.model.as_deref()),
        Cell::Whole(Some(outcome.requests() as u64)),
        Cell::Whole(usage.input_tokens),
        Cell::Whole(usage.output_tokens),
        Cell::Money(outcome.paid()),
        Cell::Whole(latency.and_then(|latency| u64::try_from(latency).ok())),
        Cell::Text(failure),
    ]
}

/// The mean of the scores, and each of them where there are several.
fn scores(plan: &OutputPlan, marks: &Marks) -> Vec<Cell<'static>> {
    let mut scores = Vec::new();
    if plan.has_scores() {
        scores.push(marks.score());
    }
    if plan.has_several_scores() {
        let each = (0..plan.scorers.len()).map(|at| marks.scores.get(at));
        scores.extend(each.map(|score| score.copied().flatten()));
    }
    scores.into_iter().map(Cell::Score).collect()
}

/// Which answer to the row it is, where there are several.
fn place<'a>(plan: &'a OutputPlan, item: &Item) -> impl Iterator<Item = Cell<'a>> {
    let name = plan.entries.get(item.entry as usize);
    let entry = plan.has_entries().then(|| text(name.map(|name| &**name)));
    let repeat = Cell::Whole(Some(u64::from(item.repeat) + 1));
    let repeat = plan.has_repeats().then_some(repeat);
    entry.into_iter().chain(repeat)
}
