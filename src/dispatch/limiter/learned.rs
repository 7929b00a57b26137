//! The rate that a server stands, learned from its refusals.
//!
//! Between two moments at which the server's own bucket was empty it admitted exactly what flowed into it:
//! what was answered from one episode of refusals to a later one, divided by the time between them, is its
//! rate, whatever its burst. After that the pace rises slowly, and faster the longer nothing is refused.
//! A server whose refusals do not get fewer by that does not mind the pace: then there is none for a while.

use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;

/// The pace is this share of what was measured.
const SHARE: (u128, u128) = (98, 100);
/// So many answers make a measure; fewer are chance.
const ENOUGH: u64 = 20;
/// What is measured in so short a time is mostly the burst that the server allowed …
const SHORT: Duration = Duration::from_secs(10);
/// … so the first guess is this part of it.
const FIRST_GUESS: u64 = 3;
/// How often the pace rises while nothing is refused …
const RAISE_EVERY: Duration = Duration::from_secs(5);
/// … at first by this many percent, each time by twice as many, at most by …
const FIRST_RAISE: u64 = 2;
/// … this many.
const LAST_RAISE: u64 = 64;
/// The slowest pace: a request in 10 seconds.
const SLOWEST: u64 = 6;
/// So many episodes without a raise between them mean that the pace is in vain …
const UNRAISED: usize = 8;
/// … and so do so many in a row …
const EPISODES: usize = 5;
/// … with fewer answers than this between all of them. Then there is none, …
const FEW: u64 = 100;
/// … and nothing is learned, for so long, and twice as long the next time.
const LET_GO: Duration = Duration::from_secs(60);

/// What was learned from refusals.
#[derive(Debug)]
pub(super) struct LearnedRate {
    pace: Option<Bucket>,
    since: Instant,
    answered: u64,
    raise: u64,
    raised: Instant,
    /// Whether the pace has held a request back since it was raised.
    held_back: bool,
    /// How many were answered before each of the last episodes under the pace.
    episodes: [u64; EPISODES],
    answered_since_episode: u64,
    /// How many there were since the pace was raised.
    since_raise: usize,
    /// Whether the pace is only a first guess.
    is_guess: bool,
    let_go: Duration,
    free_until: Instant,
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
            episodes: [FEW; EPISODES],
            answered_since_episode: 0,
            since_raise: 0,
            is_guess: true,
            let_go: LET_GO,
            free_until: now,
        }
    }

    /// Requests a minute, if refusals have taught a rate.
    pub(super) fn per_minute(&self) -> Option<u64> {
        let measured = self.pace.as_ref().filter(|_| !self.is_guess);
        measured.map(Bucket::per_minute)
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
        self.answered_since_episode += 1;
        let Some(pace) = &mut self.pace else { return };
        // A pace that holds nobody back says nothing about the server.
        if self.raised.elapsed() >= RAISE_EVERY && std::mem::take(&mut self.held_back) {
            let more = (pace.per_minute() * self.raise / 100).max(1);
            pace.rate(pace.per_minute().saturating_add(more));
            self.raise = (self.raise * 2).min(LAST_RAISE);
            self.raised = Instant::now();
            self.since_raise = 0;
        }
    }

    /// What was answered so far says nothing about the rate: the server was closed for a while.
    pub(super) fn start_over(&mut self) {
        (self.since, self.answered) = (Instant::now(), 0);
    }

    /// An episode of refusals began.
    pub(super) fn refused(&mut self) {
        let now = Instant::now();
        if self.is_in_vain() {
            self.pace = None;
            self.free_until = now + self.let_go;
            self.let_go *= 2;
            self.start_over();
        }
        if now < self.free_until {
            return self.start_over();
        }
        // From an earlier episode to a later one says as much as from one to the next.
        if self.answered < ENOUGH {
            return;
        }
        let elapsed = now - self.since;
        let milliseconds = elapsed.as_millis().max(1);
        let measured = u128::from(self.answered) * 60_000 * SHARE.0 / (SHARE.1 * milliseconds);
        let measured = u64::try_from(measured).unwrap_or(u64::MAX);
        let rate = match &self.pace {
            Some(pace) => measured.min(pace.per_minute()),
            None if elapsed < SHORT => measured / FIRST_GUESS,
            None => measured,
        };
        self.is_guess = self.pace.is_none() && elapsed < SHORT;
        let rate = rate.max(SLOWEST);
        let pace = self.pace.get_or_insert_with(|| Bucket::new(rate));
        pace.rate(rate);
        pace.lower(0);
        self.start_over();
        (self.raise, self.raised, self.held_back) = (FIRST_RAISE, now, false);
    }

    /// Whether there have been many episodes of late although there is a pace.
    fn is_in_vain(&mut self) -> bool {
        let answered = std::mem::take(&mut self.answered_since_episode);
        if self.pace.is_none() {
            (self.episodes, self.since_raise) = ([FEW; EPISODES], 0);
            return false;
        }
        self.episodes.rotate_left(1);
        self.episodes[EPISODES - 1] = answered;
        self.since_raise += 1;
        self.since_raise >= UNRAISED || self.episodes.iter().sum::<u64>() < FEW
    }
}
