//! A backend that is live in a run: its worker, its limiter, its health.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::charge;
use super::health::Health;
use super::limiter::Limiter;
use super::stop::Stop;
use crate::job::Backend;
use crate::words::{
    Attempt, AttemptKind, CallError, Completion, ErrorClass, OrchestratorError, Request, Status,
};
use crate::worker::ModelWorker;

/// A backend with all that it takes to ask it.
pub struct Lane {
    backend: Backend,
    worker: Arc<dyn ModelWorker>,
    limiter: Limiter,
    health: Health,
}

/// What came of one attempt: its line in the ledger, and the reply or the failure.
pub(super) struct Sent {
    pub(super) attempt: Attempt,
    pub(super) result: Result<Completion, CallError>,
}

impl Lane {
    /// A live backend that nothing has been asked yet.
    pub fn new(backend: Backend, worker: Arc<dyn ModelWorker>) -> Self {
        Self {
            limiter: Limiter::new(&backend),
            backend,
            worker,
            health: Health::default(),
        }
    }

    /// The backend as data.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Makes one attempt, once. Gives it up if the run is aborted.
    pub(super) async fn send(&self, request: &Request, kind: AttemptKind, stop: &Stop) -> Sent {
        let started = Instant::now();
        // A custom worker that panics must cost its row, not the run.
        let call = AssertUnwindSafe(self.worker.complete(request)).catch_unwind();
        let result = tokio::select! {
            biased;
            result = call => result.unwrap_or_else(|_| Err(panicked())),
            limit = out_of_time(self.backend.timeout) => Err(timed_out(limit)),
            () = stop.aborted() => Err(cancelled()),
        };
        let result = result.map_err(OrchestratorError::into_call_error);
        let class = match &result {
            Ok(completion) => Status::of(completion).class(),
            Err(error) => Some(error.class),
        };
        self.health.observe(class);
        let latency = started.elapsed();
        let asked_for = self.backend.model().map(str::to_owned);
        let attempt = match &result {
            Ok(completion) => Attempt {
                backend: Arc::clone(&self.backend.name),
                model: completion.model.clone().or(asked_for),
                kind,
                class,
                error: class.map(|_| describe(completion)),
                http_status: None,
                request_id: completion.request_id.clone(),
                usage: completion.usage,
                cost: charge::reply(&self.backend, request, completion),
                latency,
            },
            Err(error) => Attempt {
                backend: Arc::clone(&self.backend.name),
                model: asked_for,
                kind,
                class,
                error: Some(error.message.clone()),
                http_status: error.status,
                request_id: error.request_id.clone(),
                usage: error.usage,
                cost: charge::failure(&self.backend, request, error),
                latency,
            },
        };
        Sent { attempt, result }
    }
}

fn describe(completion: &Completion) -> String {
    match Status::of(completion) {
        Status::Truncated => "the answer was cut at the output cap (max_tokens) or context window",
        Status::Filtered => "the provider's filter cut or withheld the answer",
        Status::Refused => "the model declined to answer",
        Status::Empty => "the answer is empty",
        other => other.as_str(),
    }
    .to_owned()
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

fn cancelled() -> OrchestratorError {
    CallError::new(
        ErrorClass::Cancelled,
        "given up because the run was stopped",
    )
    .into()
}
