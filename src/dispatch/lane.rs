//! A backend that is live in a run: its worker, its limits, its breaker.

mod admission;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::breaker::{Breaker, Ending, Turn};
use super::budget::Likely;
use super::charge::{self, Charge};
use super::content;
use super::demand::Demand;
use super::limiter::{Heard, Limiter};
use super::load::LoadWatch;
use super::meter::Meter;
use super::pending::Pending;
use super::retry_budget::RetryBudget;
use super::stop::Stop;
use super::stopped::Stopped;
use super::tokens::Accounting;
use crate::job::{Backend, BudgetMode, Identity, RetryPolicy};
use crate::store::{Cache, Intent, Journal};
use crate::words::{
    Attempt, AttemptKind, BackendNow, BackendSeen, CallError, Completion, Cost, Digest, ErrorClass,
    Item, MAX_RETRY_AFTER, OrchestratorError, Request, Status, Usd, WaitsFor,
};
use crate::worker::ModelWorker;

pub(super) use admission::Admission;

/// A backend that has answered nothing is given up after so many replies that are no answers.
const INVALID_IN_VAIN: u64 = 10;

/// A backend with all that it takes to ask it.
pub(super) struct Lane {
    backend: Backend,
    identity: Identity,
    worker: Arc<dyn ModelWorker>,
    limiter: Arc<Limiter>,
    accounting: Accounting,
    breaker: Breaker,
    waits_for_loading: bool,
    retries: RetryBudget,
    load: LoadWatch,
    /// Where the server is paid by the hour.
    meter: Option<Meter>,
    likely: Likely,
    told_dear: AtomicBool,
    stopped: Stopped,
    /// Requests that were sent, and those of them that have come back or were given up.
    sent: AtomicU64,
    over: AtomicU64,
    deferred: AtomicU64,
    invalid: AtomicU64,
}

/// What came of one attempt: its line in the ledger, and the reply or the failure.
pub(super) struct Sent {
    pub(super) attempt: Attempt,
    /// Whether anything was sent.
    pub(super) is_sent: bool,
    /// Whether it was noted down and then not sent, because it is not to be sent now.
    pub(super) is_held_back: bool,
    pub(super) result: Result<Completion, CallError>,
    /// What it did to the breaker.
    pub(super) turn: Turn,
    /// Whether it was refused and that began a pause.
    pub(super) refused: bool,
}

/// What a run has for all its attempts.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) journal: &'a Journal,
    pub(super) stop: &'a Stop,
    /// The places of all requests in flight, whichever backend they go to.
    pub(super) places: &'a Semaphore,
}

/// A request that was sent; over when dropped, for one that is given up is not polled to its end.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begins(sent: &AtomicU64, over: &'a AtomicU64) -> Self {
        sent.fetch_add(1, Ordering::Relaxed);
        Self(over)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Lane {
    /// A live backend that nothing has been asked yet.
    pub(super) fn new(
        backend: Backend,
        worker: Arc<dyn ModelWorker>,
        limiter: Arc<Limiter>,
        retry: &RetryPolicy,
        budget: BudgetMode,
    ) -> Self {
        Self {
            identity: backend.identity(),
            accounting: Accounting::of(&backend),
            breaker: Breaker::new(retry.max_outage),
            // Who wants one attempt gets one.
            waits_for_loading: retry.attempts > 1,
            retries: RetryBudget::new(),
            load: LoadWatch::of(&backend),
            meter: is_paid_by_the_hour(&backend).then(Meter::default),
            likely: Likely::new(budget),
            told_dear: AtomicBool::new(false),
            stopped: Stopped::default(),
            sent: AtomicU64::new(0),
            over: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            invalid: AtomicU64::new(0),
            backend,
            worker,
            limiter,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.backend.name
    }

    pub(super) fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) fn retries(&self) -> &RetryBudget {
        &self.retries
    }

    pub(super) fn stopped(&self) -> &Stopped {
        &self.stopped
    }

    /// Whether so many of its replies are no answers, and none is one, that the set-up must be wrong.
    pub(super) fn answers_nothing(&self) -> bool {
        !self.breaker.has_answered() && self.invalid.load(Ordering::Relaxed) >= INVALID_IN_VAIN
    }

    /// A row was put off.
    pub(super) fn count_deferred(&self) {
        self.deferred.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer that the cache has to the item's request on this backend: its line in the ledger, and the reply.
    pub(super) async fn cached(
        &self,
        cache: &Cache,
        pending: &mut Pending,
    ) -> Option<(Attempt, Completion)> {
        if !self.backend.is_shared() {
            return None;
        }
        let fingerprint = self.identity.fingerprint(&pending.request);
        let found = cache.find(fingerprint).await?;
        let mut completion = Completion::text(found.text);
        completion.finish_reason = found.finish_reason;
        if pending.demand.look_at(completion.clone()).invalid.is_some() {
            // It was the answer to another question: what an answer must be is not part of one.
            return None;
        }
        let (number, backend) = (pending.next_number(), Arc::clone(&self.backend.name));
        let attempt = Attempt {
            model: found.model,
            request_id: found.request_id,
            saved: found.cost,
            ..Attempt::new(number, backend, AttemptKind::Cache, fingerprint)
        };
        Some((attempt, completion))
    }

    /// What a request may cost here at most, as far as that can be said; `None` where no price is known.
    pub(super) fn most(&self, request: &Request) -> Option<Usd> {
        self.backend.guess(request)
    }

    /// What requests are likely to cost.
    pub(super) fn likely(&self) -> &Likely {
        &self.likely
    }

    /// Whether it is to be told that it charged more than could be expected: the first time.
    pub(super) fn is_dear_to_be_told(&self) -> bool {
        !self.told_dear.swap(true, Ordering::Relaxed)
    }

    /// What a request asks of it.
    pub(super) fn fingerprint(&self, request: &Request) -> Digest {
        self.identity.fingerprint(request)
    }

    /// An attempt that is about to be made.
    ///
    /// It is known by what the item asks in any case (`plain`): whatever is added to mend an answer follows from that.
    pub(super) fn intent(
        &self,
        plain: &Request,
        request: &Request,
        number: u32,
        kind: AttemptKind,
    ) -> Intent {
        Intent {
            number,
            backend: Arc::clone(&self.backend.name),
            kind,
            fingerprint: self.identity.fingerprint(plain),
            tariff: self.backend.tariff.clone(),
            reserved: charge::unknown(&self.backend, request),
        }
    }

    /// Makes one attempt, once, after it is in the journal that it is made. Gives it up if the run is
    /// aborted.
    pub(super) async fn send<'a>(
        &'a self,
        admission: Admission<'a>,
        item: &Item,
        intent: &Intent,
        (request, demand): (&Request, &Demand),
        Run {
            journal,
            stop,
            places,
        }: Run<'a>,
    ) -> Sent {
        if journal.intend(item, intent.clone()).await.is_err() {
            return self.not_sent(intent, request, "the run store failed");
        }
        let held_back = || Sent {
            is_held_back: true,
            ..self.not_sent(intent, request, "it is not to be sent now")
        };
        let Some(mut admission) = self.renewed(admission, request, stop).await else {
            return held_back();
        };
        let Some(place) = self.place(&mut admission, places, stop).await else {
            return held_back();
        };
        let Admission {
            mut permit,
            probe,
            elsewhere,
            answers_then,
            ..
        } = admission;
        let started = Instant::now();
        self.retries.sent();
        permit.sent();
        content::asked(item, self.name(), request);
        let under_way = UnderWay::begins(&self.sent, &self.over);
        let metered = self.meter.as_ref().map(Meter::start);
        // A custom worker that panics must cost its row, not the run.
        let call = AssertUnwindSafe(self.worker.complete(request)).catch_unwind();
        let result = tokio::select! {
            biased;
            result = call => result.unwrap_or_else(|_| Err(panicked())),
            limit = out_of_time(self.backend.timeout) => Err(timed_out(limit)),
            () = stop.aborted() => Err(given_up("the run was stopped")),
        };
        drop(under_way);
        drop(place);
        if let Ok(reply) = &result {
            content::answered(item, self.name(), reply);
        }
        let result = result.map(|reply| demand.look_at(reply));
        let result = result.map_err(|error| sane(error.into_call_error()));
        let time = metered.map(|metered| metered.share());
        let attempt = self.line(intent, request, &result, started.elapsed(), time);
        let error = result.as_ref().err();
        let usage = attempt.usage.as_ref();
        let told = match &result {
            Ok(completion) => completion.allowances.as_deref(),
            Err(error) => error.allowances.as_deref(),
        };
        // The backend is well, whatever the job wants of its answers.
        let is_rejected = matches!(&result, Ok(reply) if reply.invalid.is_some());
        let class = attempt.class.filter(|_| !is_rejected);
        let heard = Heard {
            class,
            wait: error.and_then(|error| error.retry_after),
            overload: error.is_some_and(CallError::is_overload),
            counted: usage.and_then(|usage| self.accounting.counted(request, usage)),
            told,
        };
        if error.is_some_and(|error| error.class == ErrorClass::Invalid) {
            self.invalid.fetch_add(1, Ordering::Relaxed);
        }
        let loading = error.is_some_and(|error| self.is_loading(error));
        // Before the place is given back: the next request in the queue would slip out before the
        // breaker opens.
        let turn = self.breaker.observe(Ending {
            class,
            probe: probe.is_some(),
            loading,
            elsewhere,
            answers_then,
            wait: error.and_then(|error| error.retry_after),
        });
        if let Some(error) = error.filter(|error| error.class.stops_backend()) {
            self.stopped.stop(error);
        }
        let refused = permit.settle(heard);
        Sent {
            attempt,
            is_sent: true,
            is_held_back: false,
            result,
            turn,
            refused,
        }
    }

    /// Whether the server is loading its model, which is waited for.
    pub(super) fn is_loading(&self, error: &CallError) -> bool {
        self.waits_for_loading && error.is_loading()
    }

    /// The ledger's line of an attempt that was given up because another one had answered.
    pub(super) fn superseded(
        &self,
        intent: &Intent,
        request: &Request,
        latency: Duration,
    ) -> Attempt {
        let error = given_up("another attempt had answered").into_call_error();
        // Its share of the server's time went with it: it had at most all of it.
        let time = self.meter.as_ref().map(|_| latency);
        self.line(intent, request, &Err(error), latency, time)
    }

    /// What comes of an attempt that was noted down, or could not be, and then was not made.
    fn not_sent(&self, intent: &Intent, request: &Request, why: &str) -> Sent {
        let error = given_up(why).into_call_error();
        let mut attempt = self.line(intent, request, &Err(error.clone()), Duration::ZERO, None);
        attempt.cost = Cost::Known(Usd::ZERO);
        Sent {
            attempt,
            is_sent: false,
            is_held_back: false,
            result: Err(error),
            turn: Turn::None,
            refused: false,
        }
    }

    /// What it does at this moment.
    pub(super) fn now(&self) -> BackendNow {
        let (allowed, waits_for) = self.limiter.now();
        // In this order: nothing is over that was not sent.
        let over = self.over.load(Ordering::Acquire);
        let sent = self.sent.load(Ordering::Relaxed);
        BackendNow {
            backend: Arc::clone(&self.backend.name),
            in_flight: sent.saturating_sub(over),
            allowed,
            sent,
            waits_for: match self.breaker.closed_for() {
                _ if self.stopped.why().is_some() => WaitsFor::Stopped,
                Some(left) => WaitsFor::Down(left),
                None => waits_for,
            },
        }
    }

    /// What was seen of the backend.
    pub(super) fn seen(&self) -> BackendSeen {
        let (breaker_opened, probes) = self.breaker.counts();
        BackendSeen {
            backend: self.backend.name.to_string(),
            limits: self.limiter.seen(),
            breaker_opened,
            probes,
            deferred: self.deferred.load(Ordering::Relaxed),
            stopped: self.stopped.why().map(|error| error.message.clone()),
        }
    }

    fn line(
        &self,
        intent: &Intent,
        request: &Request,
        result: &Result<Completion, CallError>,
        latency: Duration,
        time: Option<Duration>,
    ) -> Attempt {
        let Charge { usage, cost } = Charge::of(&self.backend, request, result, time);
        let backend = Arc::clone(&intent.backend);
        let attempt = Attempt {
            model: self.backend.model().map(str::to_owned),
            usage,
            tariff: intent.tariff.clone(),
            cost,
            latency,
            ..Attempt::new(intent.number, backend, intent.kind, intent.fingerprint)
        };
        match result {
            Ok(completion) => {
                let class = Status::of(completion).class();
                Attempt {
                    model: completion.model.clone().or(attempt.model),
                    class,
                    error: class.map(|_| describe(completion)),
                    request_id: completion.request_id.clone(),
                    ..attempt
                }
            }
            Err(error) => Attempt {
                class: Some(error.class),
                error: Some(error.message.clone()),
                http_status: error.status,
                request_id: error.request_id.clone(),
                ..attempt
            },
        }
    }
}

fn is_paid_by_the_hour(backend: &Backend) -> bool {
    backend
        .price()
        .is_some_and(|price| price.per_hour != Usd::ZERO)
}

fn describe(completion: &Completion) -> String {
    match Status::of(completion) {
        Status::Truncated => "the answer was cut at the output cap (max_tokens) or context window",
        Status::Filtered => "the provider's filter cut or withheld the answer",
        Status::Refused => "the model declined to answer",
        Status::Empty => "the answer is empty",
        Status::Invalid => completion.invalid.as_deref().unwrap_or("invalid"),
        other => other.as_str(),
    }
    .to_owned()
}

/// A provider that asks for a longer wait than a batch has is out of quota, whatever it calls that.
fn sane(mut error: CallError) -> CallError {
    if error.retry_after > Some(MAX_RETRY_AFTER) {
        if error.class == ErrorClass::Throttled {
            error.class = ErrorClass::Exhausted;
        }
        error.retry_after = error.retry_after.min(Some(MAX_RETRY_AFTER * 2));
    }
    error
}

/// Waits until the time is over and says how long that was; for ever where there is no limit.
async fn out_of_time(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

fn timed_out(limit: Duration) -> OrchestratorError {
    let message = format!("no answer within {limit:?} (raise `timeout` if it needs longer)");
    CallError::new(ErrorClass::Ambiguous, message).into()
}

fn panicked() -> OrchestratorError {
    CallError::new(ErrorClass::Server, "the worker panicked").into()
}

fn given_up(why: &str) -> OrchestratorError {
    CallError::new(ErrorClass::Cancelled, format!("given up because {why}")).into()
}
