//! An item on its way: what it has been through so far, so that it can be put off and taken up again.

use tokio::time::Instant;

use super::tries::Tries;
use crate::job::RetryPolicy;
use crate::words::{
    Answer, Attempt, AttemptKind, Completion, ErrorClass, Item, Outcome, Request, Status,
};

/// An item that has no outcome yet.
#[derive(Debug)]
pub struct Pending {
    pub(super) item: Item,
    pub(super) request: Request,
    /// Who is asked, in this order: positions of the dispatcher's backends.
    pub(super) route: Vec<usize>,
    /// Who is next, as a position in the route.
    pub(super) at: usize,
    /// What was tried on each backend of the route.
    pub(super) tries: Vec<Tries>,
    pub(super) attempts: Vec<Attempt>,
    /// An answer that the job would rather have from another backend.
    kept: Option<(usize, Completion)>,
    /// Why no backend could even be asked.
    pub(super) unfit: Option<String>,
    /// Who did not answer last, and why.
    pub(super) left: Option<(usize, String)>,
    pub(super) sweeps: u32,
    /// Backends of the route that were passed over because they would have taken too long, as positions
    /// in it.
    pub(super) passed_over: Vec<usize>,
    /// Whether nobody else is left to ask: what was passed over is waited for.
    pub(super) patient: bool,
    /// Before this time nothing is asked.
    pub(super) not_before: Option<Instant>,
}

impl Pending {
    /// An item that nobody has been asked about. The route is not empty.
    pub fn new(item: Item, mut request: Request, route: &[usize], policy: RetryPolicy) -> Self {
        request.attempt = 0;
        let row = item.row.index;
        let tries = (0..route.len()).map(|position| Tries::new(policy, row, position));
        Self {
            tries: tries.collect(),
            route: route.to_vec(),
            item,
            request,
            at: 0,
            attempts: Vec::new(),
            kept: None,
            unfit: None,
            left: None,
            sweeps: 0,
            passed_over: Vec::new(),
            patient: false,
            not_before: None,
        }
    }

    /// Starts over at the front of the route, with one more attempt on each backend.
    pub fn sweep(&mut self) {
        self.sweeps += 1;
        self.at = 0;
        self.request.attempt = self.request.attempt.max(1);
        self.left = None;
        self.patient = false;
        self.passed_over.clear();
        self.tries.iter_mut().for_each(Tries::once_more);
        // What has just failed may be about to come back.
        let wait = self.tries.first_mut().map(Tries::wait);
        self.not_before = wait.map(|wait| Instant::now() + wait);
    }

    /// The item itself.
    pub fn item(&self) -> &Item {
        &self.item
    }

    /// The row's id.
    pub(super) fn id(&self) -> &str {
        &self.item.row.id
    }

    /// The kind of the next attempt.
    pub(super) fn kind(&self) -> AttemptKind {
        match (self.at, self.request.attempt) {
            (_, 2..) => AttemptKind::Retry,
            (0, _) => AttemptKind::First,
            _ => AttemptKind::Fallback,
        }
    }

    /// Whether the last failure may pass by itself and costs nothing to try again.
    pub(super) fn failed_in_passing(&self) -> bool {
        let class = self.attempts.last().and_then(|attempt| attempt.class);
        let passing = matches!(class, Some(ErrorClass::NotSent | ErrorClass::Server));
        let billed = |attempt: &&Attempt| attempt.class.is_some_and(ErrorClass::possibly_billed);
        let billed = self.attempts.iter().filter(billed).count();
        self.kept.is_none() && passing && billed <= 1
    }

    /// Keeps an answer in case that nobody gives a better one.
    pub(super) fn keep(&mut self, attempt: usize, completion: Completion) {
        self.kept = Some((attempt, completion));
    }

    /// Ends with this reply of this attempt.
    pub(super) fn answered(self, attempt: usize, completion: Completion) -> Outcome {
        let status = Status::of(&completion);
        let text = match completion.refusal {
            Some(refusal) if completion.text.is_empty() => refusal,
            _ => completion.text,
        };
        let answered_by = (attempt + 1 < self.attempts.len()).then_some(attempt);
        Outcome {
            item: self.item,
            status,
            answer: Some(Answer {
                text,
                finish_reason: completion.finish_reason,
            }),
            error: None,
            attempts: self.attempts,
            answered_by,
        }
    }

    /// Ends without a further attempt: with the answer that was kept, or why there is none.
    pub fn given_up(mut self) -> Outcome {
        if let Some((attempt, completion)) = self.kept.take() {
            return self.answered(attempt, completion);
        }
        if !self.attempts.is_empty() {
            return Outcome {
                item: self.item,
                status: Status::Failed,
                answer: None,
                error: None,
                attempts: self.attempts,
                answered_by: None,
            };
        }
        match self.unfit {
            Some(error) => Outcome::unsendable(self.item, error),
            None => Outcome::not_run(self.item),
        }
    }
}
