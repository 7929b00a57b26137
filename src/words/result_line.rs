//! A line of the results: an outcome, and what the job makes of it.

use super::Outcome;

/// A line of the results.
#[derive(Debug, Clone, Copy)]
pub struct ResultLine<'a> {
    /// How the item ended. Its answer is what the model said, byte for byte.
    pub outcome: &'a Outcome,
    /// What the job makes of it.
    pub marks: &'a Marks,
}

/// What the job makes of an outcome: the answer as the job wants it, and how good it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marks {
    /// The answer as the job wants it, such as a label in its own spelling; `None` where the model's text is all there
    /// is, or no valid answer.
    pub value: Option<String>,
    /// The parts of a JSON answer that have columns of their own, in their order; `None` for what is not there.
    pub parts: Vec<Option<String>>,
    /// The label that the row should have, where the job says so.
    pub gold: Option<String>,
    /// What each scorer gives, from 0 to 1, in the order of the job; `None` where it cannot tell.
    pub scores: Vec<Option<f64>>,
    /// What a scorer says of its score, in words.
    pub remarks: Vec<Option<String>>,
}

impl Marks {
    /// The mean of the scores; `None` without any.
    pub fn score(&self) -> Option<f64> {
        let known: Vec<f64> = self.scores.iter().copied().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

impl ResultLine<'_> {
    /// The answer as results show it: as the job wants it, else what the model said.
    pub fn answer(&self) -> Option<&str> {
        let said = || {
            self.outcome
                .answer
                .as_ref()
                .map(|answer| answer.text.as_str())
        };
        self.marks.value.as_deref().or_else(said)
    }
}
