//! The rate that a server stands, learned from its refusals.
//!
//! Between two moments at which the server's own bucket was empty it admitted exactly what flowed into it:
//! what was answered from one episode of refusals to the next, divided by the time between them, is its
//! rate, whatever its burst. After that the pace rises slowly, and faster the longer nothing is refused.

use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;

/// The pace is this share of what was measured.
const SHARE: (u128, u128) = (98, 100);
/// How often the pace rises while nothing is refused …
const RAISE_EVERY: Duration = Duration::from_secs(10);
/// … at first by this many percent, each time by twice as many, at most by …
const FIRST_RAISE: u64 = 2;
/// … this many.
const LAST_RAISE: u64 = 64;
/// What is measured in so short a time is mostly the burst that the server allowed …
const SHORT: Duration = Duration::from_secs(10);
/// … so the first guess is this part of it.
const FIRST_GUESS: u64 = 3;
/// The slowest pace: a request in 10 seconds.
const SLOWEST: u64 = 6;

/// What was learned from refusals.
#[derive(Debug)]
pub(super) struct LearnedRate {
    pace: Option<Bucket>,
    since: Instant,
    answered: u64,
    raise: u64,
    raised: Instant,
    held_back: bool,
}

impl LearnedRate {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            pace: None,
            since: now,
            answered: 0,
            raise: FIRST_RAISE,
            raised: now,
            held_back: false,
        }
    }

    /// Requests a minute, if refusals have taught a rate.
    pub(super) fn per_minute(&self) -> Option<u64> {
        self.pace.as_ref().map(Bucket::per_minute)
    }

    /// How long until a request may be made.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self
            .pace
            .as_mut()
            .map_or(Duration::ZERO, |pace| pace.wait_for(1));
        self.held_back |= !wait.is_zero();
        wait
    }

    /// A request is made.
    pub(super) fn sent(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.take(1);
        }
    }

    /// A request was not refused.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
        let Some(pace) = &mut self.pace else { return };
        // A pace that holds nobody back says nothing about the server.
        if self.raised.elapsed() >= RAISE_EVERY && std::mem::take(&mut self.held_back) {
            let more = (pace.per_minute() * self.raise / 100).max(1);
            pace.rate(pace.per_minute().saturating_add(more));
            self.raise = (self.raise * 2).min(LAST_RAISE);
            self.raised = Instant::now();
        }
    }

    /// What was answered so far says nothing about the rate: the server was closed for a while.
    pub(super) fn start_over(&mut self) {
        (self.since, self.answered) = (Instant::now(), 0);
    }

    /// An episode of refusals began.
    pub(super) fn refused(&mut self) {
        let now = Instant::now();
        let elapsed = (now - self.since).as_millis().max(1);
        let measured = u128::from(self.answered) * 60_000 * SHARE.0 / (SHARE.1 * elapsed);
        let measured = u64::try_from(measured).unwrap_or(u64::MAX);
        let asked = std::mem::take(&mut self.answered) > 0;
        self.since = now;
        (self.raise, self.raised, self.held_back) = (FIRST_RAISE, now, false);
        match &mut self.pace {
            // One bad moment is not worth more than three quarters of the pace.
            Some(pace) => {
                let rate = measured.clamp(pace.per_minute() / 4, pace.per_minute());
                pace.rate(rate.max(SLOWEST));
                pace.lower(0);
            }
            None if asked => {
                let short = elapsed < SHORT.as_millis();
                let guess = measured / if short { FIRST_GUESS } else { 1 };
                let mut pace = Bucket::new(guess.max(SLOWEST));
                pace.lower(0);
                self.pace = Some(pace);
            }
            None => {}
        }
    }
}
