//! What the job says of how rows are dispatched.

use std::time::Duration;

use crate::job::{FallbackPolicy, Plan, RetryPolicy};
use crate::words::Usd;

/// How rows are dispatched.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// How often and how patiently a backend is tried.
    pub retry: RetryPolicy,
    /// When the next backend of a route is asked.
    pub fallback: FallbackPolicy,
    /// After this long without an answer a second request is made beside the first.
    pub hedge_after: Option<Duration>,
    /// The most requests in flight on one backend.
    pub concurrency: usize,
    /// What one item may cost, over all its attempts.
    pub max_cost_per_row: Option<Usd>,
    /// Nobody is asked: what the cache has is all there is.
    pub offline: bool,
}

impl Policy {
    /// The policy of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            retry: plan.retry,
            fallback: plan.fallback.clone(),
            hedge_after: plan.hedge_after,
            concurrency: plan.concurrency,
            max_cost_per_row: plan.spending.max_cost_per_row,
            offline: false,
        }
    }
}
