//! Layer 3: one row's way through the backends, under their limits.
//!
//! What this folder promises: attempts are made in the order of the route, each counted and kept;
//! the class of a failure alone decides whether to wait and retry, to go on to the next backend, or
//! to give up; there is no other retry layer. A throttled backend pauses for all its rows, a backend
//! whose key, model or money is at fault is not asked again. Every wait ends when the run is stopped.
//! All time is tokio's, so a test can pause it.

mod backoff;
mod bucket;
mod charge;
mod health;
mod lane;
mod limiter;
mod stop;
#[cfg(test)]
mod tests;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use lane::Lane;
pub use stop::{Interrupt, Stop};

use backoff::Backoff;
use lane::Sent;
use limiter::Refused;
use tries::{Next, Tries};

use crate::job::{FallbackPolicy, Plan, RetryPolicy};
use crate::words::{
    Answer, Attempt, AttemptKind, CallError, Completion, ErrorClass, Event, Item, MAX_RETRY_AFTER,
    Outcome, Request, Row, Status,
};

/// What is told of every event; called from many tasks at once.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// How rows are dispatched.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// How often and how patiently a backend is tried.
    pub retry: RetryPolicy,
    /// When the next backend of a route is asked.
    pub fallback: FallbackPolicy,
    /// After this long without an answer a second request is made beside the first.
    pub hedge_after: Option<Duration>,
}

impl Policy {
    /// The policy of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            retry: plan.retry,
            fallback: plan.fallback.clone(),
            hedge_after: plan.hedge_after,
        }
    }
}

/// The backends of a run, live.
pub struct Dispatcher {
    lanes: Vec<Lane>,
    policy: Policy,
    stop: Stop,
    on_event: OnEvent,
}

/// How asking one backend ended.
enum Asked {
    /// A reply came.
    Replied(Completion),
    /// The backend has no answer for this row; the next one may.
    NoAnswer(String),
    /// The request is larger than the backend's limits; the next one's may be wider.
    Unfit(String),
    /// No backend would answer this request.
    Refused,
    /// The run was stopped.
    Stopped,
}

impl Dispatcher {
    /// A dispatcher over these backends; routes name them by their positions.
    pub fn new(lanes: Vec<Lane>, policy: Policy, stop: Stop, on_event: OnEvent) -> Self {
        Self {
            lanes,
            policy,
            stop,
            on_event,
        }
    }

    /// Whether any backend is left that can be asked.
    pub fn usable(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.health().stopped().is_none())
    }

    /// Whether every backend is stopped or has not been reached lately.
    pub fn down(&self) -> bool {
        self.lanes.iter().all(|lane| lane.health().down())
    }

    /// Asks the backends of the route in order until one replies. Always ends in an outcome.
    pub async fn call(&self, item: Item, mut request: Request, route: &[usize]) -> Outcome {
        let row = Arc::clone(&item.row);
        let mut attempts = Vec::new();
        let mut unfit = None;
        let mut asked_before: Option<(&Lane, String)> = None;
        for (position, lane) in route.iter().map(|at| &self.lanes[*at]).enumerate() {
            if lane.health().stopped().is_some() {
                continue;
            }
            if let Some((from, error)) = asked_before.take() {
                (self.on_event)(Event::RowFellBack {
                    row: row.id.clone(),
                    from: Arc::clone(lane_name(from)),
                    to: Arc::clone(lane_name(lane)),
                    error,
                });
            }
            match self
                .ask(route, position, &row, &mut request, &mut attempts)
                .await
            {
                Asked::Replied(completion) => return replied(item, completion, attempts),
                Asked::NoAnswer(error) => asked_before = Some((lane, error)),
                Asked::Unfit(error) => {
                    unfit = Some(error.clone());
                    asked_before = Some((lane, error));
                }
                Asked::Refused | Asked::Stopped => break,
            }
        }
        match unfit {
            Some(error) if attempts.is_empty() => Outcome::unsendable(item, error),
            _ => Outcome {
                item,
                status: if attempts.is_empty() {
                    Status::NotRun
                } else {
                    Status::Failed
                },
                answer: None,
                error: None,
                attempts,
                answered_by: None,
            },
        }
    }

    /// Asks one backend until it replies or there is no use in asking it again.
    async fn ask(
        &self,
        route: &[usize],
        position: usize,
        row: &Row,
        request: &mut Request,
        attempts: &mut Vec<Attempt>,
    ) -> Asked {
        let lane = &self.lanes[route[position]];
        let mut backoff = Backoff::new(self.policy.retry, row.index, position);
        let has_fallback = self.has_usable(&route[position + 1..]);
        let mut tries = Tries::new(self.policy.retry, has_fallback);
        let patience = has_fallback.then_some(self.policy.retry.max);
        request.attempt = 0;
        loop {
            let permit = tokio::select! {
                biased;
                () = self.stop.draining() => return Asked::Stopped,
                // Nobody stands in the queue of a backend that answers no more.
                () = lane.health().until_stopped() => None,
                permit = lane.limiter().acquire(request, patience) => Some(permit),
            };
            if let Some(stopped) = lane.health().stopped() {
                return Asked::NoAnswer(stopped.message.clone());
            }
            let permit = match permit.expect("a backend that is not stopped admits or refuses") {
                Ok(permit) => permit,
                Err(Refused::TooLarge(error)) => return Asked::Unfit(error),
                Err(Refused::Paused(pause)) => {
                    return Asked::NoAnswer(format!("throttled for another {}", seconds(pause)));
                }
            };
            request.attempt += 1;
            let kind = kind_of(position, request.attempt);
            let Sent { attempt, result } = lane.send(request, kind, &self.stop).await;
            let usage = attempt.usage;
            attempts.push(attempt);
            let error = match result {
                Ok(completion) => {
                    permit.settle(usage);
                    return Asked::Replied(completion);
                }
                Err(error) => error,
            };
            let away = lane.health().away();
            let next = match tries.after(&error, away, &mut backoff) {
                Next::Retry(_) if lane.health().lost() => Next::StopBackend,
                next => next,
            };
            // A limit or an outage is the backend's and not the row's: everybody waits in the limiter's
            // queue, whatever becomes of this row.
            let throttled = error.class == ErrorClass::Throttled;
            let pauses = throttled || (away && !has_fallback);
            if next == Next::StopBackend {
                self.stop_backend(lane, &error);
            } else if pauses {
                let asked_for = error.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
                let pause = next.wait().unwrap_or_default().max(asked_for);
                lane.limiter().pause_until(Instant::now() + pause);
            }
            // Not before: the next request in the queue would slip out before the stop or the pause.
            permit.settle(usage);
            let wait = match next {
                Next::Retry(wait) => wait,
                Next::OtherBackend | Next::StopBackend => return Asked::NoAnswer(error.message),
                Next::GiveUp => return Asked::Refused,
            };
            (self.on_event)(Event::AttemptFailedWillRetry {
                row: row.id.clone(),
                backend: Arc::clone(lane_name(lane)),
                class: error.class,
                error: error.message,
                wait,
            });
            if !pauses && !self.slept(lane, wait).await {
                return Asked::Stopped;
            }
        }
    }

    fn stop_backend(&self, lane: &Lane, error: &CallError) {
        if lane.health().stop(error) {
            (self.on_event)(Event::BackendStopped {
                backend: Arc::clone(lane_name(lane)),
                class: error.class,
                error: error.message.clone(),
            });
        }
    }

    fn has_usable(&self, lanes: &[usize]) -> bool {
        lanes
            .iter()
            .any(|at| self.lanes[*at].health().stopped().is_none())
    }

    /// Waits, but not for a backend that is stopped; `false` if the run was stopped first.
    async fn slept(&self, lane: &Lane, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.draining() => false,
            () = lane.health().until_stopped() => true,
            () = sleep(wait) => true,
        }
    }
}

/// A wait as a person would say it.
fn seconds(wait: Duration) -> String {
    format!("{} s", wait.as_secs().max(1))
}

fn lane_name(lane: &Lane) -> &Arc<str> {
    &lane.backend().name
}

fn kind_of(position: usize, attempt: u32) -> AttemptKind {
    match (position, attempt) {
        (_, 2..) => AttemptKind::Retry,
        (0, _) => AttemptKind::First,
        _ => AttemptKind::Fallback,
    }
}

fn replied(item: Item, completion: Completion, attempts: Vec<Attempt>) -> Outcome {
    let status = Status::of(&completion);
    let text = match completion.refusal {
        Some(refusal) if completion.text.is_empty() => refusal,
        _ => completion.text,
    };
    Outcome {
        item,
        status,
        answer: Some(Answer {
            text,
            finish_reason: completion.finish_reason,
        }),
        error: None,
        attempts,
        answered_by: None,
    }
}
