//! The spacing of requests, by `governor`, on tokio's clock.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::bucket::default_burst;
use super::window::{Slot, Window};

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

type Governor = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// Spaces requests evenly but for a burst. No 60 seconds hold more than the limit, plus the burst if the
/// job declares one.
#[derive(Debug)]
pub(super) struct Pacer {
    governor: Governor,
    clock: TokioClock,
    per_minute: u32,
    burst: Option<u32>,
    most: u64,
    window: Window,
}

impl Pacer {
    /// A pacer that has not admitted anything yet.
    pub(super) fn new(per_minute: u32, burst: Option<u32>) -> Self {
        let clock = TokioClock {
            start: Instant::now(),
        };
        Self {
            governor: governor(per_minute, burst, &clock),
            clock,
            per_minute,
            burst,
            most: u64::from(per_minute) + burst.map_or(0, u64::from),
            window: Window::new(),
        }
    }

    /// The limit.
    pub(super) fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Another limit from now on, without a burst until one has been saved up again.
    pub(super) fn rate(&mut self, per_minute: u32) {
        self.governor = governor(per_minute, self.burst, &self.clock);
        let burst = NonZeroU32::new(burst_of(per_minute, self.burst));
        if let Some(burst) = burst {
            // Of a new governor the whole burst can be had at once; what it says is therefore known.
            let _ = self.governor.check_n(burst);
        }
        self.per_minute = per_minute;
        self.most = u64::from(per_minute) + self.burst.map_or(0, u64::from);
    }

    /// Admits one request, or says how long not.
    pub(super) fn take(&mut self) -> Result<Slot, Duration> {
        let wait = self.window.wait_for(1, self.most);
        if !wait.is_zero() {
            return Err(wait);
        }
        match self.governor.check() {
            Ok(()) => Ok(self.window.add(1)),
            Err(not_until) => Err(not_until.wait_time_from(self.clock.now())),
        }
    }

    /// A request that was admitted before is only made now.
    pub(super) fn postpone(&mut self, slot: Slot) -> Slot {
        self.window.postpone(slot, 1)
    }

    /// Gives back a request that was not made. Its place in the spacing stays empty.
    pub(super) fn give_back(&mut self, slot: Slot) {
        self.window.correct(slot, 1, 0);
    }
}

fn burst_of(per_minute: u32, declared: Option<u32>) -> u32 {
    let default = u32::try_from(default_burst(per_minute.into())).unwrap_or(u32::MAX);
    declared.unwrap_or(default)
}

fn governor(per_minute: u32, burst: Option<u32>, clock: &TokioClock) -> Governor {
    let period = Duration::from_secs(60) / per_minute.max(1);
    let burst = NonZeroU32::new(burst_of(per_minute, burst)).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(period.max(Duration::from_nanos(1)))
        .expect("the period is not zero")
        .allow_burst(burst);
    RateLimiter::new(quota, InMemoryState::default(), clock.clone())
}
