//! The limits of a backend without a backend, for `benches/parts.rs`.

use std::sync::Arc;

use super::breaker::Breaker;
use super::limiter::{Heard, Limiter, Patience};
use super::tokens::Tokens;
use crate::job::{Limits, RetryPolicy};

/// What stands between a request and its backend.
pub struct Turnstile {
    limiter: Arc<Limiter>,
    breaker: Breaker,
}

impl Turnstile {
    /// These limits, under this ceiling of requests in flight.
    pub fn new(limits: &Limits, ceiling: usize) -> Self {
        let policy = RetryPolicy::default();
        Self {
            limiter: Arc::new(Limiter::new(limits, ceiling, policy, 1)),
            breaker: Breaker::new(policy.max_outage),
        }
    }

    /// Lets one request of so many tokens through, which is answered as soon as others had their turn. `false` if it
    /// never fits.
    pub async fn pass(&self, input: u64, output: u64) -> bool {
        let tokens = Tokens {
            input,
            output,
            is_guess: false,
        };
        let admitted = self
            .limiter
            .acquire(tokens, Patience::default(), &self.breaker);
        let Ok((mut permit, _probe)) = admitted.await else {
            return false;
        };
        permit.place().await;
        permit.sent();
        tokio::task::yield_now().await;
        permit.settle(Heard {
            counted: Some(tokens),
            ..Heard::default()
        });
        true
    }
}
