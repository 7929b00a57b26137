//! The ceilings of one backend, or of all backends of one account: requests and tokens a minute, requests
//! in flight, pauses. Some the job declares, some the server tells, some its refusals teach.
//!
//! One waiter at a time stands at the head of the queue and is served before the next is looked at, so a
//! large request is not starved by small ones. What a waiter needs is taken all at once or not at all, so
//! one that goes away leaves nothing behind.

mod bucket;
mod concurrency;
mod learned;
mod pacer;
mod permit;
#[cfg(test)]
mod tests;
mod throttle;
pub(super) mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::breaker::{Breaker, Probe};
use super::tokens::Tokens;
use crate::job::{Limits, RetryPolicy};
use crate::words::{Allowance, Allowances, ErrorClass, LimitSource, LimitsSeen, WaitsFor};

pub use bucket::default_burst;
pub(super) use concurrency::ahead_of;
pub(super) use permit::Permit;

use bucket::Bucket;
use concurrency::Concurrency;
use learned::LearnedRate;
use pacer::Pacer;
use throttle::{Refusal, Throttle};
use window::Slot;

/// A pause longer than this is no matter of pace: the rate before it says nothing about the rate after.
const CLOSED: Duration = Duration::from_secs(70);
/// How long a request may take from being admitted to being sent: it waits for the disk in between.
const STALE: Duration = Duration::from_secs(1);

/// Admits requests.
#[derive(Debug)]
pub(super) struct Limiter {
    head: tokio::sync::Mutex<()>,
    changed: Notify,
    /// Where requests wait that are ready, for a place among those in flight.
    gate: tokio::sync::Mutex<()>,
    left: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    concurrency: Concurrency,
    throttle: Throttle,
    requests: Option<Limited<Pacer>>,
    tokens: Vec<(Counts, Limited<Bucket>)>,
    learned: LearnedRate,
    /// Whether output that was reserved and not used stays taken, because the server counts it so.
    keeps_cap: bool,
    gave_back: bool,
    waited: Duration,
    /// What the head of the queue was found to wait for.
    waits_for: WaitsFor,
}

/// A limit and whose word it is.
#[derive(Debug)]
struct Limited<T> {
    by: T,
    declared: Option<u64>,
    source: LimitSource,
}

/// Which tokens a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    All,
    Input,
    Output,
}

impl Counts {
    fn of(self, tokens: Tokens) -> u64 {
        match self {
            Counts::All => tokens.input.saturating_add(tokens.output),
            Counts::Input => tokens.input,
            Counts::Output => tokens.output,
        }
    }

    fn allowance(self, told: &Allowances) -> Allowance {
        match self {
            Counts::All => told.tokens,
            Counts::Input => told.input_tokens,
            Counts::Output => told.output_tokens,
        }
    }
}

/// How long a request would wait here rather than elsewhere; `None` is as long as it takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    /// For a pause to end, or for a server that refuses everything.
    pub(super) pause: Option<Duration>,
    /// For everything together.
    pub(super) whole: Option<Duration>,
    /// Whether it is to be sent as soon as it is admitted, rather than got ready before there is a place for it.
    pub(super) at_once: bool,
}

/// Why a request is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is larger than the limit itself.
    TooLarge(String),
    /// It would have to wait longer than it wants.
    TooLong(String),
    /// The breaker has opened.
    Open,
}

/// What came of a request, as far as limits are concerned.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard<'a> {
    /// What went wrong.
    pub(super) class: Option<ErrorClass>,
    /// How long the server asks to wait.
    pub(super) wait: Option<Duration>,
    /// The server is too busy for anybody; that is no limit of ours.
    pub(super) overload: bool,
    /// The tokens that were counted, where they are known.
    pub(super) counted: Option<Tokens>,
    /// What the server says of its limits.
    pub(super) told: Option<&'a Allowances>,
}

impl Limiter {
    /// A limiter with what the job says, under this ceiling of requests in flight. The seed draws the
    /// jitter of its pauses.
    pub(super) fn new(limits: &Limits, ceiling: usize, policy: RetryPolicy, seed: u64) -> Self {
        let buckets = [
            (Counts::All, limits.tokens_per_minute),
            (Counts::Input, limits.input_tokens_per_minute),
            (Counts::Output, limits.output_tokens_per_minute),
        ];
        let declared = |(counts, limit): (Counts, Option<u64>)| {
            let by = Bucket::new(limit?);
            let source = LimitSource::Job;
            Some((
                counts,
                Limited {
                    by,
                    declared: limit,
                    source,
                },
            ))
        };
        let requests = limits.requests_per_minute.map(|limit| Limited {
            by: Pacer::new(limit, limits.burst),
            declared: Some(limit.into()),
            source: LimitSource::Job,
        });
        Self {
            head: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            gate: tokio::sync::Mutex::new(()),
            left: Notify::new(),
            state: Mutex::new(State {
                concurrency: Concurrency::new(
                    limits.concurrency.unwrap_or(ceiling).min(ceiling),
                    limits.concurrency.is_some(),
                ),
                throttle: Throttle::new(policy, seed),
                requests,
                tokens: buckets.into_iter().filter_map(declared).collect(),
                learned: LearnedRate::new(),
                keeps_cap: false,
                gave_back: false,
                waited: Duration::ZERO,
                waits_for: WaitsFor::Nothing,
            }),
        }
    }

    /// Waits until the request may be sent, in order of arrival; not at all for one that never may, nor
    /// longer than `patience`, nor while the breaker is open. Cancelling the wait leaves nothing behind.
    pub(super) async fn acquire<'a>(
        self: &Arc<Self>,
        tokens: Tokens,
        patience: Patience,
        breaker: &'a Breaker,
    ) -> Result<(Permit, Option<Probe<'a>>), Refused> {
        let began = Instant::now();
        let admitted = self.wait_in_line(tokens, patience, breaker);
        let admitted = match patience.whole {
            Some(longest) => tokio::time::timeout(longest, admitted)
                .await
                .unwrap_or_else(|_| {
                    let what = format!("its limits leave no room within {longest:?}");
                    Err(Refused::TooLong(what))
                }),
            None => admitted.await,
        };
        self.state().waited += began.elapsed();
        admitted
    }

    async fn wait_in_line<'a>(
        self: &Arc<Self>,
        tokens: Tokens,
        patience: Patience,
        breaker: &'a Breaker,
    ) -> Result<(Permit, Option<Probe<'a>>), Refused> {
        let _head = self.head.lock().await;
        loop {
            if breaker.check().is_err() {
                return Err(Refused::Open);
            }
            self.fits(tokens)?;
            let until = match self.try_take(tokens, patience.at_once) {
                // Still at the head: nobody else can become the probe meanwhile.
                Ok(permit) => return Ok((permit, breaker.probe())),
                Err(until) => until,
            };
            self.is_worth_it(patience)?;
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            }
        }
    }

    /// Admits the request if nothing speaks against it at this moment.
    pub(super) fn try_acquire(self: &Arc<Self>, tokens: Tokens) -> Option<Permit> {
        let _head = self.head.try_lock().ok()?;
        self.fits(tokens).ok()?;
        self.try_take(tokens, true).ok()
    }

    /// No more than this in flight at any time.
    pub(super) fn lower_ceiling(&self, most: usize) {
        self.state().concurrency.lower_ceiling(most);
    }

    /// So many requests wait in the server's own queue.
    pub(super) fn queued(&self, waiting: u64) {
        self.state().concurrency.queued(waiting);
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.state().concurrency.in_flight()
    }

    /// How long the server has been refusing everything.
    pub(super) fn refusing_for(&self) -> Duration {
        self.state().throttle.refusing_for()
    }

    /// How much longer nothing is admitted because the server refuses.
    pub(super) fn pause_left(&self) -> Duration {
        self.state().throttle.pause_left()
    }

    /// How many requests may be in flight now, and what the next one waits for.
    pub(super) fn now(&self) -> (usize, WaitsFor) {
        // Somebody stands at the head of the queue, though perhaps only in passing.
        let is_waited_for = self.head.try_lock().is_err();
        let state = self.state();
        let pause = state.throttle.pause_left();
        let waits_for = match is_waited_for {
            _ if !pause.is_zero() => WaitsFor::Throttled(pause),
            true => state.waits_for,
            false => WaitsFor::Nothing,
        };
        (state.concurrency.allowed(), waits_for)
    }

    /// What was declared, told and learned.
    pub(super) fn seen(&self) -> LimitsSeen {
        self.state().seen()
    }

    /// Wakes the heads of the queues: something has changed.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
        self.left.notify_one();
    }

    /// Takes the request's share of every ceiling, or says when to try again; `None` for when something
    /// comes back.
    fn try_take(
        self: &Arc<Self>,
        tokens: Tokens,
        at_once: bool,
    ) -> Result<Permit, Option<Instant>> {
        let mut state = self.state();
        let now = Instant::now();
        let request_slot = match state.make_room(tokens, now, at_once) {
            Ok(slot) => slot,
            Err((waits_for, until)) => {
                state.waits_for = waits_for;
                return Err(until);
            }
        };
        let mut token_slots = [None; 3];
        for (slot, (counts, bucket)) in token_slots.iter_mut().zip(&mut state.tokens) {
            let most = bucket.by.per_minute();
            *slot = Some(bucket.by.take(counts.of(tokens).min(most)));
        }
        state.learned.sent();
        // There may be more places than before.
        self.left.notify_one();
        Ok(Permit {
            limiter: Arc::clone(self),
            taken_at: now,
            tokens,
            token_slots,
            request_slot,
            probe: state.throttle.sent(),
            placed: false,
            sent: false,
            settled: false,
        })
    }

    fn fits(&self, tokens: Tokens) -> Result<(), Refused> {
        for (counts, bucket) in &self.state().tokens {
            let certain = match tokens.is_guess {
                true => Tokens {
                    output: 0,
                    ..tokens
                },
                false => tokens,
            };
            let (wanted, limit) = (counts.of(certain), bucket.by.per_minute());
            if wanted > limit {
                return Err(Refused::TooLarge(format!(
                    "the request needs about {wanted} tokens, more than the limit of {limit} a minute"
                )));
            }
        }
        Ok(())
    }

    fn is_worth_it(&self, patience: Patience) -> Result<(), Refused> {
        let Some(longest) = patience.pause else {
            return Ok(());
        };
        let state = self.state();
        let (left, refusing) = (state.throttle.pause_left(), state.throttle.refusing_for());
        if left > longest {
            let left = left.as_secs().max(1);
            return Err(Refused::TooLong(format!("throttled for another {left} s")));
        }
        if refusing > longest {
            let refusing = refusing.as_secs();
            return Err(Refused::TooLong(format!("throttled for {refusing} s")));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if something did, the levels are still sound numbers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Admits a request and takes a slot among the requests if every ceiling has room; else says what is waited for, and
    /// when to try again.
    fn make_room(
        &mut self,
        tokens: Tokens,
        now: Instant,
        at_once: bool,
    ) -> Result<Option<Slot>, (WaitsFor, Option<Instant>)> {
        let refused = |until| (WaitsFor::Throttled(Duration::ZERO), until);
        self.throttle.check().map_err(refused)?;
        let waits = self.tokens.iter_mut();
        let waits = waits.map(|(counts, bucket)| bucket.by.wait_for(counts.of(tokens)));
        let (wait, pace) = (waits.max().unwrap_or_default(), self.learned.wait());
        if !wait.max(pace).is_zero() {
            let waits_for = match pace > wait {
                true => WaitsFor::Pace,
                false => WaitsFor::Tokens,
            };
            return Err((waits_for, Some(now + wait.max(pace))));
        }
        let full = |until| (WaitsFor::Place, until);
        // What is spaced is sent when its time has come, not when there is a place.
        let paced = self.requests.is_some() || !self.tokens.is_empty();
        let at_once = at_once || paced || self.learned.per_minute().is_some();
        self.concurrency.admit(at_once).map_err(full)?;
        let Some(requests) = &mut self.requests else {
            return Ok(None);
        };
        requests.by.take().map(Some).map_err(|wait| {
            self.concurrency.release(false);
            (WaitsFor::Requests, Some(now + wait))
        })
    }

    /// Takes note of what came of a request. `true` if it began a pause.
    fn hear(&mut self, permit: &Permit, heard: Heard<'_>) -> bool {
        let mut pauses = false;
        match heard.class {
            Some(ErrorClass::Throttled) => {
                let refusal = self.throttle.refused(permit.taken_at, heard.wait);
                pauses = refusal != Refusal::Known;
                if refusal == Refusal::Began && !heard.overload {
                    let paced = self.requests.is_some() || self.learned.per_minute().is_some();
                    self.concurrency.cut(paced);
                    self.learned.refused();
                    self.keeps_cap |= self.gave_back && self.lacks_tokens(permit, heard.told);
                }
            }
            Some(ErrorClass::NotSent) => self.correct(permit, Tokens::default()),
            Some(ErrorClass::Cancelled) => {}
            class => {
                if self.throttle.refusing_for() > CLOSED {
                    self.learned.start_over();
                }
                self.throttle.answered(permit.taken_at);
                self.learned.answered();
                match class {
                    Some(ErrorClass::Server | ErrorClass::Ambiguous) => {
                        self.concurrency.pause_growth();
                    }
                    _ => self.concurrency.answered(permit.taken_at),
                }
            }
        }
        if let Some(mut counted) = heard.counted {
            self.gave_back |= counted.output < permit.tokens.output;
            if self.keeps_cap {
                counted.output = counted.output.max(permit.tokens.output);
            }
            self.correct(permit, counted);
        }
        pauses
    }

    /// Whether it was tokens that the server had too few of. Without its word they are blamed only
    /// where the number of requests cannot be.
    fn lacks_tokens(&self, permit: &Permit, told: Option<&Allowances>) -> bool {
        match told.and_then(|told| told.tokens.remaining) {
            Some(remaining) => remaining < Counts::All.of(permit.tokens),
            None => self.requests.is_some() && !self.tokens.is_empty(),
        }
    }

    /// Corrects what a request has taken.
    fn correct(&mut self, permit: &Permit, counted: Tokens) {
        let slots = permit.token_slots.iter();
        for ((counts, bucket), slot) in self.tokens.iter_mut().zip(slots) {
            let Some(slot) = slot else { continue };
            // A server's word for what it used is not good for more than a minute's wait.
            let most = bucket.by.per_minute();
            let (reserved, counted) = (
                counts.of(permit.tokens).min(most),
                counts.of(counted).min(most),
            );
            bucket.by.correct(*slot, reserved, counted);
        }
    }

    /// Takes the limits that the server tells, as far as they are lower than the job's.
    fn learn(&mut self, told: &Allowances) {
        if let Some(limit) = told.requests.limit {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX).max(1);
            match &mut self.requests {
                Some(requests) => {
                    let (limit, source) = requests.lower(limit.into());
                    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                    if differs(requests.by.per_minute().into(), limit.into()) {
                        requests.by.rate(limit);
                        requests.source = source;
                    }
                }
                None => {
                    let mut by = Pacer::new(limit, None);
                    by.rate(limit);
                    self.requests = Some(Limited {
                        by,
                        declared: None,
                        source: LimitSource::Server,
                    });
                }
            }
        }
        for counts in [Counts::All, Counts::Input, Counts::Output] {
            let Allowance {
                limit, remaining, ..
            } = counts.allowance(told);
            let Some(limit) = limit else { continue };
            match self.tokens.iter_mut().find(|(known, _)| *known == counts) {
                Some((_, bucket)) => {
                    let (limit, source) = bucket.lower(limit.max(1));
                    if differs(bucket.by.per_minute(), limit) {
                        bucket.by.rate(limit);
                        bucket.source = source;
                    }
                }
                None => {
                    let mut by = Bucket::new(limit.max(1));
                    by.lower(remaining.unwrap_or(u64::MAX));
                    let limited = Limited {
                        by,
                        declared: None,
                        source: LimitSource::Server,
                    };
                    self.tokens.push((counts, limited));
                }
            }
        }
    }

    fn seen(&self) -> LimitsSeen {
        let tokens = |counts| {
            let found = self.tokens.iter().find(|(known, _)| *known == counts);
            found.map(|(_, bucket)| (bucket.by.per_minute(), bucket.source))
        };
        let requests = self.requests.as_ref();
        let learned = self.learned.per_minute();
        LimitsSeen {
            requests_per_minute: requests
                .map(|requests| (requests.by.per_minute().into(), requests.source)),
            tokens_per_minute: tokens(Counts::All),
            input_tokens_per_minute: tokens(Counts::Input),
            output_tokens_per_minute: tokens(Counts::Output),
            learned_requests_per_minute: learned,
            concurrency: self.concurrency.allowed(),
            most_in_flight: self.concurrency.peak(),
            concurrency_cuts: self.concurrency.cuts(),
            refusals: self.throttle.refusals(),
            refusal_episodes: self.throttle.episodes(),
            paused: self.throttle.paused(),
            waited: self.waited,
        }
    }
}

/// Whether a limit is told that is another one, and not the same within a twentieth: some servers tell
/// two in turn.
fn differs(known: u64, told: u64) -> bool {
    known.abs_diff(told) > known / 20
}

impl<T> Limited<T> {
    /// The limit that holds if the server tells this one, and whose word that is.
    fn lower(&self, told: u64) -> (u64, LimitSource) {
        match self.declared {
            Some(declared) if declared <= told => (declared, LimitSource::Job),
            _ => (told, LimitSource::Server),
        }
    }
}
