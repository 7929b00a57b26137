//! The ceilings of one backend: requests and tokens a minute, requests in flight, pauses.
//!
//! One waiter at a time stands at the head of the queue and is served before the next is looked at,
//! so a large request is not starved by small ones. `governor` paces the requests (one at a time,
//! without a burst: no 60 seconds ever hold more than the limit plus one), on tokio's clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::bucket::Bucket;
use crate::job::Backend;
use crate::words::{Request, Usage};

/// Bytes of English text in a token, roughly; the usage that comes back corrects it.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that the message format adds to each message, roughly.
const TOKENS_PER_MESSAGE: u64 = 4;

/// tokio's clock for governor, so that a test which pauses time pauses the pacing too.
#[derive(Debug, Clone)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

type Pacer = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// Admits requests to one backend.
pub(super) struct Limiter {
    in_flight: Option<Arc<Semaphore>>,
    head: tokio::sync::Mutex<()>,
    clock: TokioClock,
    requests: Option<Pacer>,
    state: Arc<Mutex<State>>,
    max_tokens: u64,
}

#[derive(Debug)]
struct State {
    paused_until: Option<Instant>,
    buckets: Vec<(Counts, Bucket)>,
}

/// Which tokens a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    All,
    Input,
    Output,
}

/// Tokens of one request, estimated or real.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    input: u64,
    output: u64,
}

impl Tokens {
    fn counted(self, counts: Counts) -> u64 {
        match counts {
            Counts::All => self.input.saturating_add(self.output),
            Counts::Input => self.input,
            Counts::Output => self.output,
        }
    }
}

/// Why a request is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is larger than the limit itself.
    TooLarge(String),
    /// The backend is paused for longer than the caller would wait.
    Paused(Duration),
}

/// The right to send one request; held until its reply is there.
pub(super) struct Permit {
    _in_flight: Option<OwnedSemaphorePermit>,
    reserved: Tokens,
    state: Arc<Mutex<State>>,
}

impl Limiter {
    /// A limiter with the ceilings that the job gives.
    pub(super) fn new(backend: &Backend) -> Self {
        let limits = &backend.limits;
        let clock = TokioClock {
            start: Instant::now(),
        };
        let quota = limits.requests_per_minute.and_then(|requests| {
            Quota::with_period(Duration::from_secs(60).checked_div(requests)?)
        });
        let buckets = [
            (Counts::All, limits.tokens_per_minute),
            (Counts::Input, limits.input_tokens_per_minute),
            (Counts::Output, limits.output_tokens_per_minute),
        ];
        Self {
            in_flight: limits
                .concurrency
                .map(|most| Arc::new(Semaphore::new(most))),
            head: tokio::sync::Mutex::new(()),
            requests: quota
                .map(|quota| RateLimiter::new(quota, InMemoryState::default(), clock.clone())),
            clock,
            state: Arc::new(Mutex::new(State {
                paused_until: None,
                buckets: buckets
                    .into_iter()
                    .filter_map(|(counts, limit)| Some((counts, Bucket::new(limit?))))
                    .collect(),
            })),
            max_tokens: backend.max_tokens().map_or(0, u64::from),
        }
    }

    /// Waits until the request may be sent, in order of arrival; not at all for one that never may, nor
    /// for the end of a pause of more than `patience`. Cancelling the wait leaves nothing behind.
    pub(super) async fn acquire(
        &self,
        request: &Request,
        patience: Option<Duration>,
    ) -> Result<Permit, Refused> {
        let reserved = self.estimate(request);
        self.fits(reserved).map_err(Refused::TooLarge)?;
        let in_flight = match &self.in_flight {
            Some(semaphore) => {
                let permit = Arc::clone(semaphore).acquire_owned().await;
                Some(permit.expect("the semaphore is never closed"))
            }
            None => None,
        };
        let _head = self.head.lock().await;
        while let Err(until) = self.try_take(reserved) {
            let pause = self.paused_for();
            if patience.is_some_and(|patience| pause > patience) {
                return Err(Refused::Paused(pause));
            }
            sleep_until(until).await;
        }
        Ok(Permit {
            _in_flight: in_flight,
            reserved,
            state: Arc::clone(&self.state),
        })
    }

    /// Admits nothing before this time.
    pub(super) fn pause_until(&self, until: Instant) {
        let mut state = lock(&self.state);
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// How much longer nothing is admitted.
    fn paused_for(&self) -> Duration {
        let until = lock(&self.state).paused_until;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Takes the request's share of every ceiling, or says when to try again.
    fn try_take(&self, tokens: Tokens) -> Result<(), Instant> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        if let Some(until) = state.paused_until.filter(|until| *until > now) {
            return Err(until);
        }
        let wait = state
            .buckets
            .iter_mut()
            .map(|(counts, bucket)| bucket.wait_for(tokens.counted(*counts)))
            .max()
            .unwrap_or_default();
        if !wait.is_zero() {
            return Err(now + wait);
        }
        if let Some(requests) = &self.requests
            && let Err(not_until) = requests.check()
        {
            return Err(now + not_until.wait_time_from(self.clock.now()));
        }
        for (counts, bucket) in &mut state.buckets {
            bucket.take(tokens.counted(*counts).into());
        }
        Ok(())
    }

    fn estimate(&self, request: &Request) -> Tokens {
        let messages = request.messages.len() as u64;
        Tokens {
            input: request.bytes() as u64 / BYTES_PER_TOKEN + messages * TOKENS_PER_MESSAGE,
            output: self.max_tokens,
        }
    }

    fn fits(&self, tokens: Tokens) -> Result<(), String> {
        for (counts, bucket) in &lock(&self.state).buckets {
            let (wanted, limit) = (tokens.counted(*counts), bucket.per_minute());
            if wanted > limit {
                return Err(format!(
                    "the request needs about {wanted} tokens, more than the limit of {limit} a minute"
                ));
            }
        }
        Ok(())
    }
}

impl Permit {
    /// Corrects the reservation by what was really used.
    pub(super) fn settle(self, usage: Option<Usage>) {
        let Some((input, output)) =
            usage.and_then(|used| used.input_tokens.zip(used.output_tokens))
        else {
            return;
        };
        let used = Tokens { input, output };
        for (counts, bucket) in &mut lock(&self.state).buckets {
            // A server's word for what it used is not good for more than a minute's wait.
            let used = used.counted(*counts).min(bucket.per_minute());
            bucket.take(i128::from(used) - i128::from(self.reserved.counted(*counts)));
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing panics while holding it; if something did, the levels are still sound numbers.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
