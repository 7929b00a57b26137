//! How a row ended: its attempts, and the status that follows from them.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Bill, Completion, Cost, Digest, ErrorClass, FinishReason, Item, Price, Tariff, Usage, Usd,
};

/// How a row ended. Nothing is ever silently empty: each ending has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// A whole answer.
    Answered,
    /// The output cap or the context window cut the answer.
    Truncated,
    /// The model declined.
    Refused,
    /// The provider's filter cut or withheld the answer.
    Filtered,
    /// An answer came, but it is not what the job says an answer must be.
    Invalid,
    /// The model answered with nothing but white space.
    Empty,
    /// No backend gave an answer; the error says why.
    Failed,
    /// Not asked: the budget had no room for it.
    SkippedBudget,
    /// Not asked: the run ended first.
    NotRun,
}

impl Status {
    /// Every status, in the order of reports.
    pub const ALL: [Status; 9] = [
        Status::Answered,
        Status::Truncated,
        Status::Refused,
        Status::Filtered,
        Status::Invalid,
        Status::Empty,
        Status::Failed,
        Status::SkippedBudget,
        Status::NotRun,
    ];

    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Answered => "answered",
            Status::Truncated => "truncated",
            Status::Refused => "refused",
            Status::Filtered => "filtered",
            Status::Invalid => "invalid",
            Status::Empty => "empty",
            Status::Failed => "failed",
            Status::SkippedBudget => "skipped_budget",
            Status::NotRun => "not_run",
        }
    }

    /// The reverse of [`Status::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether a row that ended so is done: it has what the model had to say, and asking again would only
    /// buy it again.
    pub fn is_final(self) -> bool {
        match self {
            Status::Answered
            | Status::Truncated
            | Status::Refused
            | Status::Filtered
            | Status::Invalid
            | Status::Empty => true,
            Status::Failed | Status::SkippedBudget | Status::NotRun => false,
        }
    }

    /// What a reply that was understood means for its row.
    pub fn of(completion: &Completion) -> Status {
        match &completion.finish_reason {
            Some(FinishReason::Refusal) => Status::Refused,
            Some(FinishReason::ContentFilter) => Status::Filtered,
            _ if completion.refusal.is_some() => Status::Refused,
            Some(FinishReason::Length) => Status::Truncated,
            _ if completion.text.trim().is_empty() => Status::Empty,
            _ if completion.invalid.is_some() => Status::Invalid,
            _ => Status::Answered,
        }
    }

    /// The class of an attempt that ended so; `None` for a clean answer.
    pub fn class(self) -> Option<ErrorClass> {
        match self {
            Status::Answered => None,
            Status::Truncated | Status::Refused | Status::Filtered => Some(ErrorClass::Flagged),
            Status::Invalid | Status::Empty => Some(ErrorClass::Invalid),
            Status::Failed => Some(ErrorClass::Server),
            Status::SkippedBudget | Status::NotRun => Some(ErrorClass::Cancelled),
        }
    }
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptKind {
    /// The row's first.
    First,
    /// The same backend again.
    Retry,
    /// The first on a later backend of the route.
    Fallback,
    /// A second one beside an attempt that took long.
    Hedge,
    /// The same backend again, with the reason why its answer was not valid.
    ReAsk,
    /// One that judges an answer.
    Judge,
    /// None was made: a program said what an answer is worth.
    Command,
    /// None was made: the answer was in the cache.
    Cache,
    /// None was made: another row of the job asked the same.
    Duplicate,
}

impl AttemptKind {
    /// Every kind, in the order of reports.
    pub const ALL: [AttemptKind; 9] = [
        AttemptKind::First,
        AttemptKind::Retry,
        AttemptKind::Fallback,
        AttemptKind::Hedge,
        AttemptKind::ReAsk,
        AttemptKind::Judge,
        AttemptKind::Command,
        AttemptKind::Cache,
        AttemptKind::Duplicate,
    ];

    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptKind::First => "first",
            AttemptKind::Retry => "retry",
            AttemptKind::Fallback => "fallback",
            AttemptKind::Hedge => "hedge",
            AttemptKind::ReAsk => "re-ask",
            AttemptKind::Judge => "judge",
            AttemptKind::Command => "command",
            AttemptKind::Cache => "cache",
            AttemptKind::Duplicate => "duplicate",
        }
    }

    /// Whether a request was made. The others are lines of the ledger too, but nothing was sent, used or
    /// paid.
    pub fn is_request(self) -> bool {
        !matches!(
            self,
            AttemptKind::Command | AttemptKind::Cache | AttemptKind::Duplicate
        )
    }

    /// Whether it is about the answer to another one.
    pub fn is_about_an_answer(self) -> bool {
        matches!(self, AttemptKind::Judge | AttemptKind::Command)
    }

    /// The reverse of [`AttemptKind::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One request that was made for a row, or was spared: a line of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number among the item's attempts over all runs, counted from 1. Attempts whose end is not known
    /// have a number too, so that these may skip.
    pub number: u32,
    /// The backend's name in the job.
    pub backend: Arc<str>,
    /// The model that answered, else the one that was asked for, where either is known.
    pub model: Option<String>,
    /// Why it was made.
    pub kind: AttemptKind,
    /// What it asked: equal where the same would be asked again.
    pub fingerprint: Digest,
    /// What went wrong; `None` for a clean answer.
    pub class: Option<ErrorClass>,
    /// What went wrong, for a person.
    pub error: Option<String>,
    /// The HTTP status of a failure.
    pub http_status: Option<u16>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// What was used; `None` where nobody said.
    pub usage: Option<Usage>,
    /// What it is charged by; `None` where no price is known, or nothing was sent.
    pub tariff: Option<Arc<Tariff>>,
    /// What it cost.
    pub cost: Cost,
    /// What the request cost that did not have to be made again, where that is known.
    pub saved: Option<Usd>,
    /// From sending to the end of the reply, or to the failure.
    pub latency: Duration,
}

impl Attempt {
    /// A clean attempt of which nothing else is known, and which cost nothing.
    pub fn new(number: u32, backend: Arc<str>, kind: AttemptKind, fingerprint: Digest) -> Self {
        Self {
            number,
            backend,
            model: None,
            kind,
            fingerprint,
            class: None,
            error: None,
            http_status: None,
            request_id: None,
            usage: None,
            tariff: None,
            cost: Cost::Known(Usd::ZERO),
            saved: None,
            latency: Duration::ZERO,
        }
    }

    /// Whether it brought what the model had to say, whole or not.
    pub fn is_reply(&self) -> bool {
        matches!(self.class, None | Some(ErrorClass::Flagged))
    }

    /// What its usage comes to by this price: of a reply, valid or not, and of what reports tokens, all of it; of
    /// another failure nothing but its time. `None` where the usage is not known that makes a difference.
    pub fn bill(&self, price: &Price) -> Option<Bill> {
        let usage = self.usage.unwrap_or_default();
        let replied = self.is_reply() || self.class == Some(ErrorClass::Invalid);
        match replied || usage.names_tokens() {
            true => price.bill(&usage),
            false => price.bill_of_time(&usage),
        }
    }

    /// Charges a request by this price instead, as far as its stored usage says what it comes to. What it costs at
    /// most where nobody knows was reckoned by the other price.
    pub fn reprice(&mut self, tariff: Arc<Tariff>) {
        let price = &tariff.price;
        let is_unknown = match self.class {
            _ if matches!(self.cost, Cost::Unknown { .. }) => !price.is_free(),
            Some(class) if !self.is_reply() && !self.names_tokens() => {
                class.possibly_billed() && !price.is_free_of_requests()
            }
            _ => false,
        };
        let bill = self.bill(price).filter(|_| !is_unknown);
        self.cost = bill.map_or(Cost::Unknown { at_most: None }, |bill| {
            Cost::Known(bill.total())
        });
        self.tariff = Some(tariff);
    }

    fn names_tokens(&self) -> bool {
        self.usage.is_some_and(|usage| usage.names_tokens())
    }

    /// What whoever takes its answer over need not pay.
    pub fn worth(&self) -> Option<Usd> {
        match (self.kind.is_request(), self.cost) {
            (true, Cost::Known(amount)) => Some(amount),
            (true, Cost::Unknown { .. } | Cost::Unpriced) => None,
            (false, _) => self.saved,
        }
    }
}

/// What the model said, for the row's result line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text; for a refusal without text, the words of the refusal.
    pub text: String,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
}

/// The end of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What ended.
    pub item: Item,
    /// How it ended.
    pub status: Status,
    /// What the model said, where a reply came.
    pub answer: Option<Answer>,
    /// Why there is no answer although no attempt says so: the request could not be made.
    pub error: Option<String>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// Which attempt the answer is from, counted from 0; without an answer the last one decides.
    pub answered_by: Option<usize>,
}

impl Outcome {
    /// The end of a row that was never asked.
    pub fn not_run(item: Item) -> Self {
        Self {
            item,
            status: Status::NotRun,
            answer: None,
            error: None,
            attempts: Vec::new(),
            answered_by: None,
        }
    }

    /// The end of a row that there was no money for.
    pub fn skipped(item: Item, error: impl Into<String>) -> Self {
        Self {
            status: Status::SkippedBudget,
            ..Self::unsendable(item, error)
        }
    }

    /// The end of a row whose request could not be made; nothing was sent.
    pub fn unsendable(item: Item, error: impl Into<String>) -> Self {
        Self {
            item,
            status: Status::Failed,
            answer: None,
            error: Some(error.into()),
            attempts: Vec::new(),
            answered_by: None,
        }
    }

    /// The attempt that decided, where there was one.
    pub fn deciding(&self) -> Option<&Attempt> {
        match self.answered_by {
            Some(position) => self.attempts.get(position),
            None => self.attempts.last(),
        }
    }

    /// How many requests were made for it.
    pub fn requests(&self) -> usize {
        let requests = self.attempts.iter().filter(|a| a.kind.is_request());
        requests.count()
    }

    /// Whether an attempt failed in a way that may pass by itself and costs nothing to try again.
    pub fn was_failing(&self) -> bool {
        let passing = |attempt: &Attempt| {
            matches!(
                attempt.class,
                Some(ErrorClass::NotSent | ErrorClass::Server)
            )
        };
        self.attempts.iter().any(passing)
    }

    /// The class and the text of the error that the row ended in; `None` for an answered row.
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        // Whatever it was taken for when it came.
        if self.status == Status::Answered {
            return None;
        }
        if let Some(error) = &self.error {
            let kind = match self.status {
                Status::SkippedBudget => "budget",
                Status::Invalid => ErrorClass::Invalid.as_str(),
                _ => ErrorClass::RowFatal.as_str(),
            };
            return Some((kind, error));
        }
        let last = self.deciding()?;
        let class = last.class?;
        Some((
            class.as_str(),
            last.error
                .as_deref()
                .unwrap_or_else(|| self.status.as_str()),
        ))
    }

    /// What is known to have been paid for the row, over all attempts. `None` where that is nothing, but
    /// the cost of an attempt is not known: unknown is never zero.
    pub fn paid(&self) -> Option<Usd> {
        let known = |attempt: &Attempt| match attempt.cost {
            Cost::Known(amount) => Some(amount),
            Cost::Unknown { .. } | Cost::Unpriced => None,
        };
        let sum: Usd = self.attempts.iter().filter_map(known).sum();
        let all_known = self.attempts.iter().all(|attempt| known(attempt).is_some());
        (all_known || sum != Usd::ZERO).then_some(sum)
    }

    /// Tokens over all attempts; `None` if no attempt reported any.
    pub fn usage(&self) -> Option<Usage> {
        self.attempts
            .iter()
            .filter_map(|attempt| attempt.usage)
            .reduce(|mut total, usage| {
                total.add(&usage);
                total
            })
    }
}
