//! An item on its way: what it has been through so far, so that it can be put off and taken up again.

use tokio::time::Instant;

use super::demand::Demand;
use super::tries::{Next, Tries};
use crate::job::RetryPolicy;
use crate::words::{
    Answer, Attempt, AttemptKind, CallError, Completion, Due, ErrorClass, Item, Message, Outcome,
    Request, Role, Status, Usd,
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
    /// What was tried in all, runs before this one included.
    pub(super) attempts: Vec<Attempt>,
    /// How many of these are for a request that is made no more.
    superseded: usize,
    last_number: u32,
    /// An answer that the job would rather have from another backend.
    kept: Option<(usize, Completion)>,
    /// Why no backend could even be asked.
    pub(super) unfit: Option<String>,
    /// What attempts may have cost whose end is not known.
    unknown: Usd,
    /// Backends of the route that there is no money for, as positions in it, and how that is said of the last one.
    too_dear: Vec<usize>,
    no_money: Option<String>,
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
    /// What its answer must be.
    pub(super) demand: Demand,
    /// The request without the demands to mend an answer, where there are any.
    plain: Option<Box<Request>>,
    /// How often the backend whose turn it is was asked to mend its answer.
    demanded: u32,
    /// Whether the next attempt is the first that says how.
    demands: bool,
}

impl Pending {
    /// An item that is due. The route is not empty.
    pub(super) fn new(due: Due, request: Request, route: &[usize], policy: RetryPolicy) -> Self {
        let row = due.item.row.index;
        let tries = (0..route.len()).map(|position| Tries::new(policy, row, position));
        Self {
            tries: tries.collect(),
            route: route.to_vec(),
            item: due.item,
            request,
            at: 0,
            attempts: due.attempts,
            superseded: due.superseded,
            unknown: due.unknown,
            too_dear: Vec::new(),
            no_money: None,
            last_number: due.last_number,
            kept: None,
            unfit: None,
            left: None,
            sweeps: 0,
            passed_over: Vec::new(),
            patient: false,
            not_before: None,
            demand: Demand::default(),
            plain: None,
            demanded: 0,
            demands: false,
        }
    }

    /// What the item asks, whatever was said since to mend its answer.
    pub(super) fn plain(&self) -> &Request {
        self.plain.as_deref().unwrap_or(&self.request)
    }

    /// What the backend is told whose turn it is, if it is asked again for this answer.
    pub(super) fn mends(&self, reply: &Completion) -> Option<String> {
        let may_ask = self.demanded < self.demand.reask;
        may_ask.then(|| self.demand.mends(reply)).flatten()
    }

    /// The same backend is asked again, and told what was wrong with its answer, which stays the answer if there is no
    /// better one.
    pub(super) fn ask_again(&mut self, attempt: usize, reply: Completion, demand: String) {
        let plain = || Box::new(self.request.clone());
        self.plain.get_or_insert_with(plain);
        self.demanded += 1;
        self.demands = true;
        let messages = &mut self.request.messages;
        // Nobody takes a turn in which nothing is said.
        if !reply.text.trim().is_empty() {
            let (role, content) = (Role::Assistant, reply.text.clone());
            messages.push(Message { role, content });
        }
        match messages.last_mut() {
            Some(last) if last.role == Role::User => {
                last.content = format!("{}\n\n{demand}", last.content);
            }
            _ => messages.push(Message {
                role: Role::User,
                content: demand,
            }),
        }
        self.keep(attempt, reply);
    }

    /// The next backend hears nothing of what was wrong with another one's answer.
    pub(super) fn forget_demands(&mut self) {
        if let Some(plain) = self.plain.take() {
            self.request = *plain;
        }
        (self.demanded, self.demands) = (0, false);
    }

    /// Goes on where a run before was cut, whose attempts these are: what was used up is not given again.
    /// What stopped a backend then may have been mended since. `places`: where in the route each of them was
    /// made, if the same would be asked there now.
    pub(super) fn go_on(&mut self, cut: usize, places: &[Option<usize>]) {
        for (attempt, place) in self.attempts[cut..].iter().zip(places) {
            let (Some(at), Some(class)) = (*place, attempt.class) else {
                continue;
            };
            let error = CallError::new(class, "");
            match self.tries[at].after(&error, false) {
                Next::OtherBackend => self.at = at + 1,
                Next::Retry(_) | Next::Wait => self.at = at,
                Next::StopBackend | Next::GiveUp => {}
            }
        }
    }

    /// How many attempts were made on a backend.
    pub(super) fn made_on(&self, backend: &str) -> u32 {
        let attempts = self.attempts[self.superseded.min(self.attempts.len())..].iter();
        let on = attempts.filter(|on| on.kind.is_request() && *on.backend == *backend);
        u32::try_from(on.count()).unwrap_or(u32::MAX)
    }

    /// The number of the next attempt.
    pub(super) fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// The attempt with the last number is not made, for now.
    pub(super) fn hold_back(&mut self, kind: AttemptKind) {
        self.last_number -= 1;
        self.demands |= kind == AttemptKind::ReAsk;
    }

    /// What was paid for the item, and what may have been billed at most: of the request that is made now.
    pub(super) fn spent(&self) -> Usd {
        let attempts = self.attempts[self.superseded.min(self.attempts.len())..].iter();
        let costs = attempts.filter_map(|attempt| attempt.cost.most());
        costs.sum::<Usd>() + self.unknown
    }

    /// There is no money to ask the backend whose turn it is.
    pub(super) fn unaffordable(&mut self, error: String) {
        self.too_dear.push(self.at);
        self.no_money = Some(error);
    }

    /// Whether no backend of the route is left that there is money for.
    pub(super) fn is_unaffordable(&self) -> bool {
        (0..self.route.len()).all(|at| self.too_dear.contains(&at))
    }

    /// Starts over at the front of the route, with one more attempt on each backend.
    pub fn sweep(&mut self) {
        self.sweeps += 1;
        self.at = 0;
        self.left = None;
        self.patient = false;
        self.passed_over.clear();
        self.too_dear.clear();
        self.forget_demands();
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
    pub(super) fn kind(&mut self) -> AttemptKind {
        if self.demand.judges {
            return AttemptKind::Judge;
        }
        if std::mem::take(&mut self.demands) {
            return AttemptKind::ReAsk;
        }
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
        if let Some(error) = self.no_money.take() {
            return Outcome {
                attempts: self.attempts,
                ..Outcome::skipped(self.item, error)
            };
        }
        // Those for a request that is made no more say nothing of this one.
        if self.attempts.len() > self.superseded {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Columns, Digest, Row};
    use ErrorClass::{Ambiguous, Config, RowFatal, Server, Throttled};

    /// Where a row is asked next on a route of two backends with two attempts each, if these attempts were
    /// made before it was cut, each where on the route and with what end.
    fn goes_on_at(made: &[(Option<usize>, Option<ErrorClass>)]) -> usize {
        let attempt = |class| Attempt {
            class,
            ..Attempt::new(1, "a".into(), AttemptKind::First, Digest::default())
        };
        let columns = Columns::new(Vec::new()).into();
        let row = Row {
            index: 0,
            id: "rows.csv:1".to_owned(),
            columns,
            cells: Vec::new(),
            key: Digest::of([""]),
        };
        let due = Due {
            item: Item::of(row.into()),
            attempts: made.iter().map(|(_, class)| attempt(*class)).collect(),
            last_number: 0,
            superseded: 0,
            ended: 0,
            unknown: Usd::ZERO,
            about: None,
        };
        let policy = RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        };
        let mut pending = Pending::new(due, Request::user(""), &[0, 1], policy);
        let places: Vec<_> = made.iter().map(|(place, _)| *place).collect();
        pending.go_on(0, &places);
        pending.at
    }

    #[test]
    fn a_row_that_was_cut_goes_on_with_what_it_has_not_used_up() {
        let first = |class| (Some(0), Some(class));
        assert_eq!(goes_on_at(&[]), 0);
        assert_eq!(goes_on_at(&[first(Server)]), 0);
        assert_eq!(goes_on_at(&[first(Server), first(Server)]), 1);
        // What may have been billed is made again once.
        assert_eq!(goes_on_at(&[first(Ambiguous), first(Ambiguous)]), 1);
        // Being refused for pace uses up nothing, and whatever stopped a backend may have been mended.
        assert_eq!(goes_on_at(&[first(Throttled); 5]), 0);
        assert_eq!(goes_on_at(&[first(Config), first(RowFatal)]), 0);
        // All was used up, or was spent on others than would be asked now.
        let second = (Some(1), Some(Server));
        assert_eq!(
            goes_on_at(&[first(Server), first(Server), second, second]),
            2
        );
        assert_eq!(goes_on_at(&[(None, Some(Server)), (None, Some(Server))]), 0);
        // An answer is no failure.
        assert_eq!(goes_on_at(&[(Some(0), None), (Some(0), None)]), 0);
    }
}
