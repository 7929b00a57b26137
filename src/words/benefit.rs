//! What the money for an attempt was good for.

use super::{Attempt, AttemptKind, ErrorClass, Outcome, Status};

/// What the money for an attempt was good for. Every attempt has exactly one, so that what was paid is the sum
/// over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Benefit {
    /// The answer of a row.
    Useful,
    /// What an answer is worth.
    Overhead,
    /// A row's only answer, which was cut.
    Truncated,
    /// A row's only answer, in which the model declined.
    Refused,
    /// A row's only answer, which the provider's filter cut or withheld.
    Filtered,
    /// A reply that is no answer, or not what the job says that an answer must be.
    Invalid,
    /// No reply came.
    Failed,
    /// Another attempt's answer was taken.
    Superseded,
    /// The row, or the entry of the matrix, is not in the job any more.
    Removed,
}

impl Benefit {
    /// Every one, in the order of reports.
    pub const ALL: [Benefit; 9] = [
        Benefit::Useful,
        Benefit::Overhead,
        Benefit::Truncated,
        Benefit::Refused,
        Benefit::Filtered,
        Benefit::Invalid,
        Benefit::Failed,
        Benefit::Superseded,
        Benefit::Removed,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Benefit::Useful => "useful",
            Benefit::Overhead => "overhead",
            Benefit::Truncated => "truncated",
            Benefit::Refused => "refused",
            Benefit::Filtered => "filtered",
            Benefit::Invalid => "invalid",
            Benefit::Failed => "failed",
            Benefit::Superseded => "superseded",
            Benefit::Removed => "removed",
        }
    }

    /// Whether the money is lost to the job.
    pub fn is_wasted(self) -> bool {
        !matches!(self, Benefit::Useful | Benefit::Overhead)
    }

    /// That of an attempt which ended in this class, for a row with this status. `decided`: the status follows
    /// from this attempt; `answered`: the row has something to show, from whichever attempt.
    pub fn of(
        status: Status,
        kind: AttemptKind,
        class: Option<ErrorClass>,
        decided: bool,
        answered: bool,
    ) -> Self {
        match (status, class) {
            _ if kind.is_about_an_answer() => Benefit::Overhead,
            (Status::Answered, _) if decided => Benefit::Useful,
            (Status::Truncated, _) if decided => Benefit::Truncated,
            (Status::Refused, _) if decided => Benefit::Refused,
            (Status::Filtered, _) if decided => Benefit::Filtered,
            (Status::Empty | Status::Invalid, _) if decided => Benefit::Invalid,
            (_, Some(ErrorClass::Invalid)) => Benefit::Invalid,
            // An answer to a request that is made no more, or one that was not wanted.
            (_, None | Some(ErrorClass::Flagged)) => Benefit::Superseded,
            // Given up because the other one of a pair had answered.
            (_, Some(ErrorClass::Cancelled)) if answered => Benefit::Superseded,
            _ => Benefit::Failed,
        }
    }
}

impl Outcome {
    /// Every attempt, with what its money was good for.
    pub fn benefits(&self) -> impl Iterator<Item = (&Attempt, Benefit)> {
        let last = self.attempts.len().saturating_sub(1);
        let decided_by = self.answered_by.unwrap_or(last);
        let attempts = self.attempts.iter().enumerate();
        attempts.map(move |(at, attempt)| {
            let decided = at == decided_by;
            let Attempt { kind, class, .. } = attempt;
            let answered = self.answer.is_some();
            let benefit = Benefit::of(self.status, *kind, *class, decided, answered);
            (attempt, benefit)
        })
    }
}
