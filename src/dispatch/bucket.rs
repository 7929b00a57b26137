//! A token bucket that can be corrected afterwards.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds in a minute: levels are kept in tokens times this, so that refilling is exact.
const MINUTE: i128 = 60_000_000_000;
/// The share of a minute's tokens that may be used at once.
const BURST_SHARE: u64 = 10;

/// A bucket that refills evenly with a limit's worth of tokens a minute and holds a tenth of that.
/// It starts full. It can be overdrawn by one request, which later ones then wait for.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: u64,
    level: i128,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_minute: u64) -> Self {
        let mut bucket = Self {
            per_minute,
            level: 0,
            at: Instant::now(),
        };
        bucket.level = bucket.capacity();
        bucket
    }

    /// The limit.
    pub(super) fn per_minute(&self) -> u64 {
        self.per_minute
    }

    /// How long until so many tokens may be taken.
    pub(super) fn wait_for(&mut self, tokens: u64) -> Duration {
        self.refill();
        let needed = (i128::from(tokens) * MINUTE).min(self.capacity());
        let missing = needed - self.level;
        if missing <= 0 {
            return Duration::ZERO;
        }
        let nanoseconds = (missing + i128::from(self.per_minute) - 1) / i128::from(self.per_minute);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Takes tokens, or gives them back where negative.
    pub(super) fn take(&mut self, tokens: i128) {
        self.refill();
        self.level = (self.level - tokens * MINUTE).min(self.capacity());
    }

    fn capacity(&self) -> i128 {
        i128::from((self.per_minute / BURST_SHARE).max(1)) * MINUTE
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let elapsed = (now - self.at).as_nanos();
        let refill = i128::try_from(elapsed)
            .unwrap_or(i128::MAX)
            .saturating_mul(self.per_minute.into());
        self.level = self.level.saturating_add(refill).min(self.capacity());
        self.at = now;
    }
}
