//! Layer 3: one item's way through the backends, under their limits.
//!
//! What this folder promises: backends are asked in the order of the route, and every attempt is counted
//! and kept; the class of a failure alone decides whether to wait and retry, to go on to the next backend,
//! or to give up; there is no other retry layer. Limits are never exceeded, whoever gave them. A backend
//! that refuses pauses for all, one that fails is left alone until a probe finds it back, one whose key,
//! model or money is at fault is not asked again. A row that has to wait for its retry is put off, not
//! failed. An answer that is not what the job wants is asked for again, and told why, so often and no more. What the
//! cache has is not asked, and costs no limit, no permit and no retry. Every wait ends when the
//! run is stopped. No attempt is made that there might be no money for. All time is tokio's, so a test can pause it.
//!
//! From the outside in: `pending` (an item on its way; `demand`: what its answer must be), `tries` and `backoff` (its attempts on one
//! backend), `lane` (a backend: `lane::admission`, `limiter`, `breaker`, `retry_budget`, `tokens`, `load`, `stopped`, `meter`), `hedge`; the money for
//! each: `spend`, `budget`, `charge`. Beside it `rehearsal`: what becomes of an item whose backends follow a script.

mod backoff;
mod breaker;
mod budget;
mod charge;
mod content;
mod demand;
mod hedge;
mod lane;
mod limiter;
mod load;
mod meter;
pub(crate) mod parts;
mod pending;
mod policy;
mod rehearsal;
mod retry_budget;
mod spend;
mod stop;
mod stopped;
mod tokens;
mod tries;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

pub use budget::Budget;
pub use charge::Charge;
pub use demand::{Demand, Rejected};
pub use limiter::default_burst;
pub use pending::Pending;
pub use policy::Policy;
pub use rehearsal::rehearse;
pub use stop::{Interrupt, Stop};

use breaker::Turn;
use hedge::Tried;
use lane::{Admission, Lane};
use limiter::{Limiter, Patience, Refused};
use tries::Next;

use crate::job::Backend;
use crate::store::{Cache, Journal};
use crate::words::{
    Attempt, AttemptEnded, BackendNow, BackendSeen, CallError, Completion, Due, ErrorClass, Event,
    Outcome, Request, Status,
};
use crate::worker::ModelWorker;

/// How often at most a row is taken up again at the end of the run.
const MAX_SWEEPS: u32 = 10;

/// What is told of every event; called from many tasks at once.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// Who is told of every attempt that was sent and has ended, if anybody is; called from many tasks at once.
pub type OnAttempt = Option<Arc<dyn Fn(&AttemptEnded<'_>) + Send + Sync>>;

/// The backends of a run, live.
pub struct Dispatcher {
    lanes: Vec<Lane>,
    policy: Policy,
    budget: Option<Arc<Budget>>,
    journal: Journal,
    cache: Option<Cache>,
    stop: Stop,
    /// The places of all requests in flight.
    places: Semaphore,
    on_event: OnEvent,
    on_attempt: OnAttempt,
}

/// What became of an item.
#[derive(Debug)]
pub enum Called {
    /// It has its outcome.
    Ended(Outcome),
    /// It has attempts left, but its backend has no retries to give, or fails everybody: later, when others
    /// are done.
    Deferred(Box<Pending>),
    /// It has no attempts left, but its failure may pass: once more at the end of the run, if its backend
    /// answers others by then.
    Late(Box<Pending>),
}

/// How the way along a route ended.
enum End {
    Replied(usize, Box<Completion>),
    Deferred,
    Stopped,
}

impl End {
    fn called(self, pending: Box<Pending>) -> Called {
        match self {
            End::Replied(attempt, completion) => {
                Called::Ended(pending.answered(attempt, *completion))
            }
            End::Deferred => Called::Deferred(pending),
            End::Stopped => Called::Ended(pending.given_up()),
        }
    }
}

/// How asking one backend ended.
enum Asked {
    /// This attempt brought a reply.
    Replied(usize, Completion),
    /// A reply came that the job would rather have from the next backend.
    Unwanted(usize, Completion),
    /// The backend has no answer for this row; the next one may.
    NoAnswer(String),
    /// The backend would take too long; the next one may be quicker.
    PassedOver(String),
    /// The request is larger than the backend's limits; the next one's may be wider.
    Unfit(String),
    /// There is no money for the request here; the next one may be cheaper.
    TooDear(String),
    /// No backend would answer this request.
    Refused,
    /// There are no retries to be had now, or nobody is answered.
    Deferred,
    /// The run was stopped.
    Stopped,
}

impl Dispatcher {
    /// A dispatcher over these backends; routes name them by their positions.
    pub fn new(
        backends: Vec<(Backend, Arc<dyn ModelWorker>)>,
        policy: Policy,
        budget: Option<Arc<Budget>>,
        journal: Journal,
        cache: Option<Cache>,
        stop: Stop,
        on_event: OnEvent,
    ) -> Self {
        let mut accounts: HashMap<Arc<str>, Arc<Limiter>> = HashMap::new();
        let lanes = (0..).zip(backends).map(|(seed, (backend, worker))| {
            let new = || {
                let ceiling = policy.concurrency.max(1);
                Arc::new(Limiter::new(&backend.limits, ceiling, policy.retry, seed))
            };
            let limiter = match &backend.account {
                Some(account) => {
                    Arc::clone(accounts.entry(Arc::clone(account)).or_insert_with(new))
                }
                None => new(),
            };
            let mode = budget.as_ref().map(|budget| budget.plan().mode);
            Lane::new(
                backend,
                worker,
                limiter,
                &policy.retry,
                mode.unwrap_or_default(),
            )
        });
        Self {
            lanes: lanes.collect(),
            places: Semaphore::new(policy.concurrency.max(1)),
            policy,
            budget,
            journal,
            cache,
            stop,
            on_event,
            on_attempt: None,
        }
    }

    /// The same, which tells of every attempt.
    pub fn telling_of_attempts(self, on_attempt: OnAttempt) -> Self {
        Self { on_attempt, ..self }
    }

    /// The same, which notes down what it does in this journal.
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Whether any backend is left that can be asked.
    pub fn usable(&self) -> bool {
        self.lanes.iter().any(is_usable)
    }

    /// Whether every backend is stopped or does not answer.
    pub fn down(&self) -> bool {
        let down = |lane: &Lane| !is_usable(lane) || lane.breaker().is_down();
        self.lanes.iter().all(down)
    }

    /// What each backend does at this moment.
    pub fn now(&self) -> Vec<BackendNow> {
        self.lanes.iter().map(Lane::now).collect()
    }

    /// What was seen of each backend.
    pub fn seen(&self) -> Vec<BackendSeen> {
        self.lanes.iter().map(Lane::seen).collect()
    }

    /// An item that is to be asked along a route.
    pub fn pending(
        &self,
        due: Due,
        request: Request,
        route: &[usize],
        demand: Demand,
    ) -> Box<Pending> {
        let cut = due.ended.min(due.attempts.len());
        let place = |attempt: &Attempt| {
            route.iter().position(|lane| {
                let lane = &self.lanes[*lane];
                *lane.name() == attempt.backend && lane.fingerprint(&request) == attempt.fingerprint
            })
        };
        let places: Vec<_> = due.attempts[cut..].iter().map(place).collect();
        let mut pending = Box::new(Pending::new(due, request, route, self.policy.retry));
        pending.demand = demand;
        pending.go_on(cut, &places);
        pending
    }

    /// Asks the backends of the item's route in order until one replies. Those that were passed over
    /// because they would have taken too long are waited for if no other has an answer.
    pub async fn call(&self, mut pending: Box<Pending>) -> Called {
        if self.policy.offline {
            return Called::Ended(self.only_cached(pending).await);
        }
        if let Some(time) = pending.not_before.take() {
            tokio::select! {
                biased;
                () = self.stop.draining() => return Called::Ended(pending.given_up()),
                () = sleep_until(time) => {}
            }
        }
        loop {
            if let Some(end) = self.go_along(&mut pending).await {
                return end.called(pending);
            }
            let usable = |at: &usize| is_usable(&self.lanes[pending.route[*at]]);
            let Some(found) = pending.passed_over.iter().position(usable) else {
                break;
            };
            pending.at = pending.passed_over.remove(found);
            pending.patient = true;
        }
        let again = self.policy.retry.attempts > 1
            && !pending.is_unaffordable()
            && pending.sweeps < MAX_SWEEPS
            && pending.failed_in_passing();
        match again {
            true => Called::Late(pending),
            false => Called::Ended(pending.given_up()),
        }
    }

    /// The outcome that the cache has for an item; without one nothing happens to it.
    async fn only_cached(&self, mut pending: Box<Pending>) -> Outcome {
        for position in pending.route.clone() {
            if let Some((attempt, completion)) = self.cached(position, &mut pending).await {
                return pending.answered(attempt, completion);
            }
        }
        Outcome::not_run(pending.item)
    }

    /// What the cache has of this backend, as an attempt of the item (by its position) and a reply.
    async fn cached(&self, position: usize, pending: &mut Pending) -> Option<(usize, Completion)> {
        let cache = self.cache.as_ref()?;
        let (attempt, completion) = self.lanes[position].cached(cache, pending).await?;
        pending.attempts.push(attempt);
        Some((pending.attempts.len() - 1, completion))
    }

    /// Whether there is any use in asking an item once more: a backend of its route answers others.
    pub fn may_answer(&self, pending: &Pending) -> bool {
        pending.route.iter().any(|position| {
            let lane = &self.lanes[*position];
            is_usable(lane) && lane.breaker().has_answered()
        })
    }

    /// Asks one backend of the route after the other. `None` if none has an answer.
    async fn go_along(&self, pending: &mut Pending) -> Option<End> {
        while pending.at < pending.route.len() {
            let position = pending.route[pending.at];
            let lane = &self.lanes[position];
            // In its turn, so that no backend answers in the place of one that would be asked before it; but
            // whether it can be asked now makes no difference, nor how much it has to do.
            let cached = self.cached(position, pending).await;
            if cached.is_none() && !is_usable(lane) {
                pending.at += 1;
                continue;
            }
            if let Some((from, error)) = pending.left.take() {
                (self.on_event)(Event::RowFellBack {
                    row: pending.id().to_owned(),
                    from: Arc::clone(self.lanes[from].name()),
                    to: Arc::clone(lane.name()),
                    error,
                });
            }
            if let Some((attempt, completion)) = cached {
                return Some(End::Replied(attempt, Box::new(completion)));
            }
            match self.ask(lane, pending).await {
                Asked::Replied(attempt, completion) => {
                    return Some(End::Replied(attempt, Box::new(completion)));
                }
                Asked::Unwanted(attempt, completion) => {
                    let error = Status::of(&completion).as_str().to_owned();
                    pending.keep(attempt, completion);
                    pending.left = Some((position, error));
                }
                Asked::NoAnswer(error) => pending.left = Some((position, error)),
                Asked::PassedOver(error) => {
                    pending.passed_over.push(pending.at);
                    pending.left = Some((position, error));
                }
                Asked::Unfit(error) => {
                    pending.unfit = Some(error.clone());
                    pending.left = Some((position, error));
                }
                Asked::TooDear(error) => {
                    pending.unaffordable(error.clone());
                    pending.left = Some((position, error));
                }
                Asked::Deferred => {
                    lane.count_deferred();
                    return Some(End::Deferred);
                }
                Asked::Stopped => return Some(End::Stopped),
                // Nobody else that was not asked is asked now; but who was passed over may think otherwise.
                Asked::Refused => {
                    pending.at = pending.route.len();
                    break;
                }
            }
            pending.forget_demands();
            if pending.patient {
                break;
            }
            pending.at += 1;
        }
        None
    }

    /// Asks one backend until it replies or there is no use in asking it again.
    async fn ask(&self, lane: &Lane, pending: &mut Pending) -> Asked {
        loop {
            let elsewhere = !pending.patient && self.has_usable(&pending.route[pending.at + 1..]);
            let reserved = match self.reserve(lane, pending).await {
                Ok(reserved) => reserved,
                Err(asked) => return asked,
            };
            let admission = match self.admit(lane, pending, elsewhere).await {
                Ok(admission) => admission,
                Err(asked) => return asked,
            };
            pending.request.attempt = pending.made_on(lane.name()) + 1;
            let alone = admission.is_lone_probe();
            let tried = hedge::send(self, lane, admission, reserved, pending).await;
            let Tried {
                made,
                attempt,
                result,
                turn,
                refused,
                other,
            } = match tried {
                Ok(tried) => tried,
                Err(made) => {
                    self.hold_back(pending, made).await;
                    continue;
                }
            };
            let on = &self.policy.fallback.on;
            let unwanted = |reply: &Completion| elsewhere && on.contains(&Status::of(reply));
            let demand = result.as_ref().ok().and_then(|reply| pending.mends(reply));
            let goes_on = demand.is_some() || result.as_ref().is_ok_and(unwanted);
            self.note(lane, pending, made, goes_on).await;
            if let Some(other) = other {
                self.tell(lane, other.turn, other.refused, &other.error);
                if other.error.class.stops_backend() || other.turn == Turn::Lost {
                    self.stop_backend(lane, &other.error);
                }
            }
            let error = match result {
                Ok(completion) => {
                    self.tell_turn(lane, turn, "");
                    if let Some(demand) = demand {
                        (self.on_event)(Event::AnswerWasInvalid {
                            row: pending.id().to_owned(),
                            backend: Arc::clone(lane.name()),
                            error: completion.invalid.clone().unwrap_or_default(),
                        });
                        pending.ask_again(attempt, completion, demand);
                        continue;
                    }
                    return match goes_on {
                        true => Asked::Unwanted(attempt, completion),
                        false => Asked::Replied(attempt, completion),
                    };
                }
                Err(error) => error,
            };
            self.tell(lane, turn, refused, &error);
            let tries = &mut pending.tries[pending.at];
            let answers = lane.breaker().answers();
            // It found out for all that the server is away, or is loading its model; but a row that fails while others
            // are answered looks after nobody but itself.
            let outage = (alone || (lane.is_loading(&error) && !elsewhere))
                && tries.answers_then.is_none_or(|then| answers <= then);
            tries.answers_then.get_or_insert(answers);
            let mut next = tries.after(&error, outage);
            let patience = self.policy.retry.max_throttle_wait;
            if turn == Turn::Lost || lane.limiter().refusing_for() > patience {
                next = Next::StopBackend;
            }
            let mut error = error;
            if error.class == ErrorClass::Invalid && lane.answers_nothing() {
                // Each of them is paid for: the set-up is wrong, not the rows.
                error.class = ErrorClass::Config;
                error.message =
                    format!("none of its first replies is an answer: {}", error.message);
                next = Next::StopBackend;
            }
            let wait = match next {
                Next::Retry(wait) if elsewhere && wait > self.patience() => {
                    return Asked::PassedOver(error.message);
                }
                Next::Retry(wait) => wait,
                Next::Wait => Duration::ZERO,
                Next::OtherBackend => return Asked::NoAnswer(error.message),
                Next::StopBackend => {
                    self.stop_backend(lane, &error);
                    return Asked::NoAnswer(error.message);
                }
                Next::GiveUp if error.class == ErrorClass::RowFatal => {
                    return match self.policy.fallback.on_row_fatal {
                        true => Asked::NoAnswer(error.message),
                        false => Asked::Refused,
                    };
                }
                Next::GiveUp => return Asked::Refused,
            };
            // A row that fails while everything does makes room for others to find out if it is over.
            let open = !elsewhere && lane.breaker().is_open();
            if open || (next != Next::Wait && !lane.retries().take()) {
                pending.not_before = Some(Instant::now() + wait);
                (self.on_event)(Event::RowDeferred {
                    row: pending.id().to_owned(),
                    backend: Arc::clone(lane.name()),
                    error: error.message,
                });
                return Asked::Deferred;
            }
            (self.on_event)(Event::AttemptFailedWillRetry {
                row: pending.id().to_owned(),
                backend: Arc::clone(lane.name()),
                class: error.class,
                error: error.message,
                wait,
            });
            if !self.slept(lane, wait).await {
                return Asked::Stopped;
            }
        }
    }

    /// Waits until the next attempt may be made, or says why it will not.
    async fn admit<'a>(
        &self,
        lane: &'a Lane,
        pending: &Pending,
        elsewhere: bool,
    ) -> Result<Admission<'a>, Asked> {
        let fallback = &self.policy.fallback;
        let whole = fallback.after.filter(|_| elsewhere);
        let patience = Patience {
            pause: elsewhere.then(|| self.patience()),
            whole,
            // Whoever counts the time of a request counts from when it is admitted.
            at_once: whole.is_some() || self.policy.hedge_after.is_some(),
        };
        let answers_then = pending.tries[pending.at].answers_then;
        let stopped = |lane: &Lane| lane.stopped().why().map(|error| error.message.clone());
        let admitted = tokio::select! {
            biased;
            () = self.stop.draining() => return Err(Asked::Stopped),
            // Nobody stands in the queue of a backend that answers no more.
            () = lane.stopped().wait() => None,
            admitted = lane.admit(&pending.request, patience, elsewhere, answers_then) => Some(admitted),
        };
        if let Some(why) = stopped(lane) {
            return Err(Asked::NoAnswer(why));
        }
        match admitted.expect("a backend that is not stopped admits or refuses") {
            Ok(admission) => Ok(admission),
            Err(Refused::TooLarge(error)) => Err(Asked::Unfit(error)),
            Err(Refused::TooLong(error)) => Err(Asked::PassedOver(error)),
            Err(Refused::Open) => {
                let error = "it has failed again and again and is left alone for a while";
                Err(Asked::PassedOver(error.to_owned()))
            }
        }
    }

    /// The longest pause or retry to wait for on a backend while another one could answer.
    fn patience(&self) -> Duration {
        self.policy.fallback.after.unwrap_or(self.policy.retry.max)
    }

    fn tell(&self, lane: &Lane, turn: Turn, refused: bool, error: &CallError) {
        self.tell_turn(lane, turn, &error.message);
        if refused {
            (self.on_event)(Event::BackendPaused {
                backend: Arc::clone(lane.name()),
                wait: lane.limiter().pause_left(),
                error: error.message.clone(),
            });
        }
    }

    fn tell_turn(&self, lane: &Lane, turn: Turn, error: &str) {
        let backend = Arc::clone(lane.name());
        match turn {
            Turn::None | Turn::Lost => {}
            Turn::Opened(wait) => (self.on_event)(Event::BreakerOpened {
                backend,
                wait,
                error: error.to_owned(),
            }),
            Turn::Closed => (self.on_event)(Event::BreakerClosed { backend }),
        }
    }

    /// Takes a backend out of the run, and with it, where the money is gone, all of its account.
    fn stop_backend(&self, lane: &Lane, error: &CallError) {
        let same_account = |other: &&Lane| {
            std::ptr::eq(*other, lane)
                || (error.class == ErrorClass::Exhausted
                    && Arc::ptr_eq(other.limiter(), lane.limiter()))
        };
        for other in self.lanes.iter().filter(same_account) {
            let mut error = error.clone();
            if !std::ptr::eq(other, lane) {
                let name = lane.name();
                error.message = format!("it shares the account of {name}: {}", error.message);
            }
            other.stopped().stop(&error);
            if other.stopped().is_to_be_told() {
                (self.on_event)(Event::BackendStopped {
                    backend: Arc::clone(other.name()),
                    class: error.class,
                    error: error.message.clone(),
                });
            }
        }
    }

    fn has_usable(&self, lanes: &[usize]) -> bool {
        lanes.iter().any(|at| is_usable(&self.lanes[*at]))
    }

    /// Waits, but not for a backend that is stopped; `false` if the run was stopped first.
    async fn slept(&self, lane: &Lane, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.draining() => false,
            () = lane.stopped().wait() => true,
            () = sleep(wait) => true,
        }
    }
}

fn is_usable(lane: &Lane) -> bool {
    lane.stopped().why().is_none()
}
