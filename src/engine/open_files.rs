//! How many files a run has open at once: its connections, and what it needs itself.

use crate::job::{Backend, BackendKind, Plan};

/// The store and its cache, inputs, results, name look-ups, the pipes of a scorer's program: about twenty are seen.
const OWN: u64 = 40;

/// The most files that a run of this plan has open.
pub(super) fn needed(plan: &Plan) -> u64 {
    OWN + connections(plan, plan.concurrency)
}

/// Lowers the concurrency of the plan until so many open files are enough for it, or it is 1.
pub(super) fn keep_to(plan: &mut Plan, most: u64) {
    let room = most.saturating_sub(OWN);
    let fits = |concurrency: &usize| connections(plan, *concurrency) <= room;
    plan.concurrency = (1..=plan.concurrency).rev().find(fits).unwrap_or(1);
}

/// The most connections with so many rows in flight. A connection that is not in use is kept for a while: the next
/// backend of a route comes on top of the one before.
fn connections(plan: &Plan, concurrency: usize) -> u64 {
    let remote = plan.backends.iter().filter(|backend| is_remote(backend));
    let ceilings = remote.map(|backend| backend.limits.concurrency.unwrap_or(concurrency));
    ceilings
        .map(|ceiling| ceiling.min(concurrency) as u64)
        .sum()
}

fn is_remote(backend: &Backend) -> bool {
    !matches!(backend.kind, BackendKind::Echo(_) | BackendKind::Custom)
}
