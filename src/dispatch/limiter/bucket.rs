//! A token bucket that can be corrected and re-rated while it is in use.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Slot, Window};

/// Nanoseconds in a minute: levels are kept in units times this, so that refilling is exact.
const MINUTE: i128 = 60_000_000_000;
/// Half a second's worth may be taken at once: less than what a server that allows a second's worth
/// stands, whatever the network does to the spacing.
const BURSTS_PER_MINUTE: u64 = 120;

/// How much may be taken at once where nobody says.
pub fn default_burst(per_minute: u64) -> u64 {
    (per_minute / BURSTS_PER_MINUTE).max(1)
}

/// A bucket that refills evenly with a limit's worth of units a minute and starts full. What is larger
/// than the bucket is taken from a full one and overdraws it. Besides, no 60 seconds hold more than the
/// limit.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: u64,
    level: i128,
    at: Instant,
    window: Window,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_minute: u64) -> Self {
        let mut bucket = Self {
            per_minute,
            level: 0,
            at: Instant::now(),
            window: Window::new(),
        };
        bucket.level = bucket.capacity();
        bucket
    }

    /// The limit.
    pub(super) fn per_minute(&self) -> u64 {
        self.per_minute
    }

    /// Another limit from now on; what was taken stays taken.
    pub(super) fn rate(&mut self, per_minute: u64) {
        self.refill();
        self.per_minute = per_minute.max(1);
        self.level = self.level.min(self.capacity());
    }

    /// No more than this is there, whatever we thought.
    pub(super) fn lower(&mut self, remaining: u64) {
        self.refill();
        self.level = self.level.min(i128::from(remaining) * MINUTE);
    }

    /// How long until so much may be taken.
    pub(super) fn wait_for(&mut self, amount: u64) -> Duration {
        self.refill();
        let needed = (i128::from(amount) * MINUTE).min(self.capacity());
        let missing = needed - self.level;
        let per_minute = i128::from(self.per_minute);
        let nanoseconds = ((missing + per_minute - 1) / per_minute).max(0);
        let refilled = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        refilled.max(self.window.wait_for(amount, self.per_minute))
    }

    /// Takes so much.
    pub(super) fn take(&mut self, amount: u64) -> Slot {
        self.refill();
        self.level -= i128::from(amount) * MINUTE;
        self.window.add(amount)
    }

    /// What was taken before is only really taken now.
    pub(super) fn postpone(&mut self, slot: Slot, amount: u64) -> Slot {
        self.window.postpone(slot, amount)
    }

    /// Corrects what was taken.
    pub(super) fn correct(&mut self, slot: Slot, from: u64, to: u64) {
        self.refill();
        let more = (i128::from(to) - i128::from(from)) * MINUTE;
        self.level = (self.level - more).min(self.capacity());
        self.window.correct(slot, from, to);
    }

    fn capacity(&self) -> i128 {
        i128::from(default_burst(self.per_minute)) * MINUTE
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        let refill = i128::try_from(elapsed)
            .unwrap_or(i128::MAX)
            .saturating_mul(self.per_minute.into());
        self.level = self.level.saturating_add(refill).min(self.capacity());
        self.at = now;
    }
}
