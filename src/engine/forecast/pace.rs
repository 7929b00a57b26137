//! How long the limits make it take: whatever else happens, it cannot be done sooner.

use std::sync::Arc;
use std::time::Duration;

use super::{Because, Pace};
use crate::dispatch::default_burst;
use crate::job::{Backend, Plan};

const NANOS_PER_MINUTE: u128 = 60_000_000_000;

/// What will be asked of a backend.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) input: u64,
    pub(super) output: u64,
    /// How long a reply takes, where that is known.
    pub(super) latency: Option<Duration>,
}

/// How long each backend takes at least; those of one account share its limits, and its time.
pub(super) fn of_backends(plan: &Plan, loads: &[Load]) -> Vec<Option<Pace>> {
    let alone = plan.backends.iter().zip(loads);
    let alone = alone.map(|(backend, load)| match load.requests {
        0 => None,
        _ => longest([
            of_limits(backend, plan, loads),
            in_flight(plan, backend, load),
        ]),
    });
    alone.collect()
}

/// How long all of it takes at least: as long as the slowest backend, and as all requests in flight together.
pub(super) fn of_all(plan: &Plan, loads: &[Load], backends: &[Option<Pace>]) -> Option<Pace> {
    let asked = loads.iter().filter(|load| load.requests > 0);
    let work: u128 = asked
        .map(|load| u128::from(load.requests) * load.latency.unwrap_or_default().as_nanos())
        .sum();
    let together = (work > 0).then(|| Pace {
        at_least: duration(work.div_ceil(plan.concurrency as u128)),
        because: Because::InFlight {
            of: None,
            requests: plan.concurrency as u64,
        },
    });
    longest(backends.iter().cloned().chain([together]))
}

/// How long something is in flight at a backend: the time that is paid by the hour.
pub(super) fn busy(load: &Load, pace: Option<&Pace>) -> Option<Duration> {
    let wall = pace?.at_least;
    let work = load
        .latency
        .map(|latency| duration(latency.as_nanos() * u128::from(load.requests)));
    Some(work.map_or(wall, |work| work.min(wall)))
}

fn longest(paces: impl IntoIterator<Item = Option<Pace>>) -> Option<Pace> {
    // The first one of those that are as long.
    paces
        .into_iter()
        .flatten()
        .reduce(|longest, pace| match pace.at_least > longest.at_least {
            true => pace,
            false => longest,
        })
}

fn of_limits(backend: &Backend, plan: &Plan, loads: &[Load]) -> Option<Pace> {
    let mut all = Load::default();
    for (other, load) in plan.backends.iter().zip(loads) {
        let shares = other.account.is_some() && other.account == backend.account;
        if shares || other.name == backend.name {
            all.requests += load.requests;
            all.input += load.input;
            all.output += load.output;
        }
    }
    let limits = &backend.limits;
    let requests = limits.requests_per_minute.map(u64::from);
    let burst = limits.burst.map(u64::from);
    let tokens = all.input.saturating_add(all.output);
    let limits = [
        ("requests_per_minute", all.requests, requests, burst),
        ("tokens_per_minute", tokens, limits.tokens_per_minute, None),
        (
            "input_tokens_per_minute",
            all.input,
            limits.input_tokens_per_minute,
            None,
        ),
        (
            "output_tokens_per_minute",
            all.output,
            limits.output_tokens_per_minute,
            None,
        ),
    ];
    longest(limits.map(|(key, needed, allows, burst)| {
        let allows = allows?;
        let at_once = burst.unwrap_or(default_burst(allows));
        let later = u128::from(needed.saturating_sub(at_once));
        Some(Pace {
            at_least: duration(later * NANOS_PER_MINUTE / u128::from(allows.max(1))),
            because: Because::Limit {
                of: backend.account.clone().unwrap_or(Arc::clone(&backend.name)),
                key,
                allows,
            },
        })
    }))
}

fn in_flight(plan: &Plan, backend: &Backend, load: &Load) -> Option<Pace> {
    let at_once = backend
        .limits
        .concurrency
        .unwrap_or(usize::MAX)
        .min(plan.concurrency);
    let rounds = load.requests.div_ceil(at_once as u64);
    Some(Pace {
        at_least: duration(load.latency?.as_nanos() * u128::from(rounds)),
        because: Because::InFlight {
            of: Some(Arc::clone(&backend.name)),
            requests: at_once as u64,
        },
    })
}

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
