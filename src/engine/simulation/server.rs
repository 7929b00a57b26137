//! A scripted backend with a ledger of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::words::{
    Allowance, Allowances, CallError, Completion, ErrorClass, FinishReason, Load,
    OrchestratorError, Price, Request, Usage, Usd,
};
use crate::worker::ModelWorker;

/// What becomes of a request: how long it takes in milliseconds, and how it ends. `None` leaves that to the
/// other rules. Told are the row, how many requests came before, and the time.
type Script = dyn Fn(u64, usize, Duration) -> Option<(u64, Result<Option<Allowances>, CallError>)>
    + Send
    + Sync;

/// How a server behaves.
#[derive(Clone)]
pub(super) struct Rules {
    /// How long an answer takes, in milliseconds.
    pub(super) latency: Range<u64>,
    /// How long a refusal takes, in milliseconds.
    pub(super) refusal: u64,
    /// The requests a minute that it takes, and how many at once.
    pub(super) requests: Option<(u64, u64)>,
    /// The tokens a minute that it takes, and how many at once; what it counts of each request.
    pub(super) tokens: Option<(u64, u64)>,
    /// What it counts of each request against its tokens, in advance.
    pub(super) counts: u64,
    /// Whether its replies tell its limits.
    pub(super) tells: bool,
    /// Whether refusals say how long to wait, in whole seconds.
    pub(super) retry_after: bool,
    /// Shares of requests that fail, in percent.
    pub(super) failures: Vec<(ErrorClass, u32)>,
    /// When everything fails, and how.
    pub(super) outages: Vec<(Range<u64>, ErrorClass)>,
    /// What an answer uses.
    pub(super) usage: (u64, u64),
    /// How many it works on at once, if it says so; the others wait in its own queue.
    pub(super) slots: Option<usize>,
    /// How answers end.
    pub(super) finish: FinishReason,
    pub(super) seed: u64,
    /// What goes before all this.
    pub(super) script: Option<Arc<Script>>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            latency: 45..55,
            refusal: 1,
            requests: None,
            tokens: None,
            counts: 0,
            tells: false,
            retry_after: true,
            failures: Vec::new(),
            outages: Vec::new(),
            usage: (10, 10),
            slots: None,
            finish: FinishReason::Stop,
            seed: 1,
            script: None,
        }
    }
}

/// A request as the server saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// When it came, from the start of the run.
    pub(super) at: Duration,
    /// Whether it was refused for pace.
    pub(super) refused: bool,
}

/// What a server charges, and what requests use up at most.
#[derive(Debug, Clone)]
pub(super) struct Billing {
    pub(super) price: Price,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) seed: u64,
}

impl Billing {
    /// What a request used, and whether that is reported.
    fn draw(&self, number: usize) -> (Usage, bool) {
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(number as u64));
        let input = random.u64(0..=self.input);
        let cached = random.u64(0..=input);
        let usage = Usage {
            cache_read_input_tokens: Some(cached),
            cache_write_5m_input_tokens: Some(random.u64(0..=input - cached)),
            ..Usage::new(input, random.u64(0..=self.output))
        };
        (usage, random.u8(0..20) != 0)
    }
}

pub(super) struct Server {
    rules: Rules,
    billing: Option<Billing>,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    seen: Vec<Seen>,
    answered: u64,
    billed: Usd,
    in_flight: usize,
    most_in_flight: usize,
    asked_for_load: usize,
    requests: Level,
    tokens: Level,
}

/// What is left of a bucket, as a number of units.
#[derive(Debug)]
struct Level {
    left: f64,
    at: Duration,
}

impl Level {
    /// Takes so many, or says how long until they are there.
    fn take(&mut self, limit: Option<(u64, u64)>, amount: u64, now: Duration) -> Option<Duration> {
        let (per_minute, burst) = limit?;
        let per_second = per_minute as f64 / 60.0;
        let refill = (now - self.at).as_secs_f64() * per_second;
        self.left = (self.left + refill).min(burst as f64);
        self.at = now;
        let missing = amount as f64 - self.left;
        if missing <= 0.0 {
            self.left -= amount as f64;
            return None;
        }
        Some(Duration::from_secs_f64(missing / per_second))
    }
}

impl Server {
    pub(super) fn new(rules: Rules) -> Arc<Self> {
        let level = |limit: Option<(u64, u64)>| Level {
            left: limit.map_or(0.0, |(_, burst)| burst as f64),
            at: Duration::ZERO,
        };
        let state = State {
            random: fastrand::Rng::with_seed(rules.seed),
            seen: Vec::new(),
            answered: 0,
            billed: Usd::ZERO,
            in_flight: 0,
            most_in_flight: 0,
            asked_for_load: 0,
            requests: level(rules.requests),
            tokens: level(rules.tokens),
        };
        Arc::new(Self {
            rules,
            billing: None,
            started: Instant::now(),
            state: Mutex::new(state),
        })
    }

    /// The same server, which has not been asked yet, but writes bills.
    pub(super) fn billing(&self, billing: Billing) -> Arc<Self> {
        let server = Self::new(self.rules.clone());
        let mut server = Arc::into_inner(server).expect("nobody else has it");
        server.billing = Some(billing);
        Arc::new(server)
    }

    /// What it has charged.
    pub(super) fn billed(&self) -> Usd {
        self.state.lock().unwrap().billed
    }

    /// Charges for the request that has just come, unless it is refused. Returns what it used, if that is told.
    fn charge(&self, refused: Option<ErrorClass>) -> Option<Usage> {
        let Some(billing) = &self.billing else {
            return Some(Usage::new(self.rules.usage.0, self.rules.usage.1));
        };
        let mut state = self.state.lock().unwrap();
        let (usage, told) = billing.draw(state.seen.len());
        let charged = match refused {
            None | Some(ErrorClass::Invalid) => true,
            // A request that took too long may have been worked on.
            Some(ErrorClass::Ambiguous) => state.random.bool(),
            Some(_) => false,
        };
        if charged {
            let timeless = Price {
                per_hour: Usd::ZERO,
                ..billing.price
            };
            state.billed += timeless.bill(&usage).expect("a bill").total();
        }
        told.then_some(usage)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub(super) fn refusals(&self) -> usize {
        self.seen().iter().filter(|seen| seen.refused).count()
    }

    pub(super) fn answered(&self) -> u64 {
        self.state.lock().unwrap().answered
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.state.lock().unwrap().most_in_flight
    }

    pub(super) fn asked_for_load(&self) -> usize {
        self.state.lock().unwrap().asked_for_load
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.lock().unwrap().in_flight
    }

    /// The most requests that any window of this length held.
    pub(super) fn most_in(&self, window: Duration) -> usize {
        let seen = self.seen();
        let mut first = 0;
        let mut most = 0;
        for (number, one) in seen.iter().enumerate() {
            while one.at - seen[first].at >= window {
                first += 1;
            }
            most = most.max(number + 1 - first);
        }
        most
    }

    fn told(&self) -> Option<Box<Allowances>> {
        let limit = |limit: Option<(u64, u64)>, left: f64| Allowance {
            limit: limit.map(|(per_minute, _)| per_minute),
            remaining: limit.map(|_| left as u64),
            reset: None,
        };
        let state = self.state.lock().unwrap();
        self.rules.tells.then(|| {
            Box::new(Allowances {
                requests: limit(self.rules.requests, state.requests.left),
                tokens: limit(self.rules.tokens, state.tokens.left),
                ..Allowances::default()
            })
        })
    }

    /// Writes down a request that came now.
    fn note(&self, error: Option<&CallError>) {
        let refused = error.is_some_and(|error| error.class == ErrorClass::Throttled);
        let at = self.started.elapsed();
        self.state.lock().unwrap().seen.push(Seen { at, refused });
    }

    /// What becomes of a request that comes now, and how long that takes.
    fn decide(&self) -> (Duration, Result<(), CallError>) {
        let rules = &self.rules;
        let now = self.started.elapsed();
        let mut state = self.state.lock().unwrap();
        let takes = Duration::from_millis(state.random.u64(rules.latency.clone()));
        let drawn = state.random.u32(0..100);
        let over = state
            .requests
            .take(rules.requests, 1, now)
            .max(state.tokens.take(rules.tokens, rules.counts, now));
        let outage = rules.outages.iter().find(|(when, _)| {
            let when = Duration::from_millis(when.start)..Duration::from_millis(when.end);
            when.contains(&now)
        });
        let error = match (over, outage) {
            (Some(wait), _) => {
                let mut error = CallError::new(ErrorClass::Throttled, "too many requests");
                let wait = Duration::from_secs(wait.as_secs_f64().ceil() as u64);
                error.retry_after = rules.retry_after.then_some(wait);
                Some(error)
            }
            (None, Some((_, class))) => Some(CallError::new(*class, "outage")),
            (None, None) => {
                let mut left = drawn;
                let failed = rules.failures.iter().find(|(_, share)| {
                    let hit = left < *share;
                    left = left.saturating_sub(*share);
                    hit
                });
                failed.map(|(class, _)| CallError::new(*class, "failed"))
            }
        };
        let refused = error
            .as_ref()
            .is_some_and(|error| error.class == ErrorClass::Throttled);
        state.seen.push(Seen { at: now, refused });
        match error {
            Some(error) if refused => (Duration::from_millis(rules.refusal), Err(error)),
            Some(error) => (takes, Err(error)),
            None => (takes, Ok(())),
        }
    }
}

/// Counts a request out again, also one that is given up.
struct InFlight<'a>(&'a Server);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().in_flight -= 1;
    }
}

#[async_trait]
impl ModelWorker for Server {
    async fn infer(&self, _: &str) -> Result<Vec<String>, OrchestratorError> {
        unreachable!("the dispatcher completes")
    }

    async fn complete(&self, request: &Request) -> Result<Completion, OrchestratorError> {
        {
            let mut state = self.state.lock().unwrap();
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
        }
        let _in_flight = InFlight(self);
        let scripted = self.rules.script.as_ref().and_then(|script| {
            let row = request.row.as_ref().unwrap().index;
            script(row, self.seen().len(), self.started.elapsed())
        });
        let (takes, decided, told) = match scripted {
            Some((takes, said)) => {
                let told = said.as_ref().ok().copied().flatten().map(Box::new);
                let decided = said.map(|_| ());
                self.note(decided.as_ref().err());
                (Duration::from_millis(takes), decided, told)
            }
            None => {
                let (takes, decided) = self.decide();
                (takes, decided, self.told())
            }
        };
        let usage = self.charge(decided.as_ref().err().map(|error| error.class));
        sleep(takes).await;
        if let Err(mut error) = decided {
            if error.class == ErrorClass::Invalid && self.billing.is_some() {
                error.usage = usage.map(Box::new);
            }
            error.allowances = error.allowances.or(told);
            return Err(error.into());
        }
        self.state.lock().unwrap().answered += 1;
        let mut completion = Completion::text("yes");
        completion.finish_reason = Some(self.rules.finish.clone());
        completion.usage = usage;
        completion.allowances = told;
        Ok(completion)
    }

    async fn load(&self) -> Option<Load> {
        self.state.lock().unwrap().asked_for_load += 1;
        let in_flight = self.in_flight();
        self.rules.slots.map(|slots| Load {
            slots: Some(slots),
            running: Some(in_flight.min(slots) as u64),
            waiting: Some(in_flight.saturating_sub(slots) as u64),
        })
    }
}
