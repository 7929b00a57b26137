//! Whose time a server's time is: requests in flight together share it, so that all shares together are the
//! time in which anything was in flight.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds are shared in parts of this size, so that little is lost by rounding.
const PARTS: u32 = 16;

/// The clock of one server.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_flight: u32,
    /// What somebody has had who was in flight all the time, in parts of a nanosecond.
    share: u128,
    /// Up to when that was counted.
    at: Option<Instant>,
}

/// A request in flight. Its share goes on until it is dropped.
#[derive(Debug)]
pub(super) struct Metered<'a> {
    meter: &'a Meter,
    share_before: u128,
}

impl Meter {
    /// A request is sent.
    pub(super) fn start(&self) -> Metered<'_> {
        let mut state = self.counted();
        state.in_flight += 1;
        Metered {
            meter: self,
            share_before: state.share,
        }
    }

    /// The state as it is now.
    fn counted(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = state.at.replace(now).map_or(0, |at| (now - at).as_nanos());
        if state.in_flight > 0 {
            state.share += (since << PARTS) / u128::from(state.in_flight);
        }
        state
    }
}

impl Metered<'_> {
    /// Its share of the time so far.
    pub(super) fn share(&self) -> Duration {
        let parts = self.meter.counted().share - self.share_before;
        Duration::from_nanos(u64::try_from(parts >> PARTS).unwrap_or(u64::MAX))
    }
}

impl Drop for Metered<'_> {
    fn drop(&mut self) {
        self.meter.counted().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_together_share_the_time() {
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let meter = Meter::default();
        let first = meter.start();
        pass(3).await;
        let second = meter.start();
        pass(4).await;
        assert_eq!(first.share(), Duration::from_secs(3 + 2));
        drop(first);
        pass(5).await;
        assert_eq!(second.share(), Duration::from_secs(2 + 5));
        drop(second);
        // Nobody pays for a time in which nothing was asked.
        pass(100).await;
        let third = meter.start();
        pass(1).await;
        assert_eq!(third.share(), Duration::from_secs(1));
    }
}
