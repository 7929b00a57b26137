//! What the sample comes to, and all that it stands for.

use std::sync::Arc;
use std::time::Duration;

use super::follow::FollowUps;
use super::gauge::Gauge;
use super::mean::scaled;
use super::pace::{self, Load};
use super::survey::{Found, Sampled, Stratum};
use super::{BackendForecast, CostRange, Forecast, Gap, Missing};
use crate::dispatch::rehearse;
use crate::engine::fan_out::render;
use crate::job::Plan;
use crate::words::{Price, Request, Usage, Usd};

/// What is expected of a backend. Sums of a sample first, then what they stand for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) replies: i128,
    pub(super) input: i128,
    pub(super) output: i128,
    too_large: i128,
    pub(super) low: Usd,
    pub(super) expected: Usd,
    pub(super) at_most: Usd,
    /// Whether a request may be made whose cost has no bound.
    pub(super) unbounded: bool,
    /// How many were weighed of which only some are asked.
    pub(super) asked_in_parts: i128,
}

impl Sums {
    /// What they come to over all of which the sample was drawn.
    fn scaled(self, all: u64, sampled: u64) -> Self {
        let count = |sum| scaled(sum, all, sampled);
        let money = |sum: Usd| Usd::from_units(scaled(sum.units(), all, sampled));
        Self {
            replies: count(self.replies),
            input: count(self.input),
            output: count(self.output),
            too_large: count(self.too_large),
            low: money(self.low),
            expected: money(self.expected),
            at_most: money(self.at_most),
            unbounded: self.unbounded,
            asked_in_parts: 0,
        }
    }

    fn add(&mut self, other: Self) {
        self.replies += other.replies;
        self.input += other.input;
        self.output += other.output;
        self.too_large += other.too_large;
        self.low += other.low;
        self.expected += other.expected;
        self.at_most += other.at_most;
        self.unbounded |= other.unbounded;
    }
}

/// Weighs everything that was found.
pub(super) fn weigh(plan: &Plan, found: Found, mut gauges: Vec<Gauge<'_>>) -> Forecast {
    let mut sums = vec![Sums::default(); gauges.len()];
    let follow_ups = FollowUps::of(plan);
    for (first, stratum) in found.strata.iter().enumerate() {
        let sampled = stratum.sample.len() as u64;
        for (sum, part) in
            sums.iter_mut()
                .zip(sample(plan, &follow_ups, first, stratum, &mut gauges))
        {
            sum.add(part.scaled(stratum.due, sampled));
        }
    }
    let loads: Vec<Load> = sums
        .iter()
        .zip(&gauges)
        .map(|(sums, gauge)| Load {
            requests: whole(sums.replies),
            input: whole(sums.input),
            output: whole(sums.output),
            latency: gauge.latency(),
        })
        .collect();
    let paces = pace::of_backends(plan, &loads);
    let mut forecast = Forecast {
        inputs: found.inputs,
        rows: found.rows,
        answered: found.answered,
        duplicates: found.duplicates,
        from_cache: found.from_cache,
        unsendable: found.unsendable,
        backends: Vec::with_capacity(gauges.len()),
        cost: CostRange::default(),
        gaps: Vec::new(),
        assumptions: follow_ups.assumptions(found.answered),
        budget: None,
        pace: pace::of_all(plan, &loads, &paces),
    };
    for (at, gauge) in gauges.iter().enumerate() {
        let busy = pace::busy(&loads[at], paces[at].as_ref());
        let (cost, missing) = cost(gauge, &sums[at], busy);
        let backend = Arc::clone(&gauge.backend.name);
        let gap = |missing| Gap {
            backend: Arc::clone(&backend),
            missing,
        };
        forecast.gaps.extend(missing.into_iter().map(gap));
        let stratum = &found.strata[at];
        forecast.backends.push(BackendForecast {
            model: gauge.backend.model().map(str::to_owned),
            first_asked: stratum.due,
            sampled: stratum.sample.len() as u64,
            replies: loads[at].requests,
            too_large: whole(sums[at].too_large),
            input_tokens: loads[at].input,
            output_tokens: loads[at].output,
            counted: gauge.counted(),
            not_counted: gauge
                .by_server
                .as_ref()
                .and_then(|counted| counted.as_ref().err().cloned()),
            expected_from: gauge.expected_from(),
            cost,
            tariff: gauge.backend.tariff.clone(),
            in_vain: gauge.in_vain(),
            pace: paces[at].clone(),
            backend,
        });
    }
    forecast.cost = total(&forecast.backends);
    forecast
}

/// What a sample comes to, by backend.
fn sample(
    plan: &Plan,
    follow_ups: &FollowUps<'_>,
    first: usize,
    stratum: &Stratum,
    gauges: &mut [Gauge<'_>],
) -> Vec<Sums> {
    let mut sums = vec![Sums::default(); gauges.len()];
    let counts = match &gauges[first].by_server {
        Some(Ok(counts)) => counts.clone(),
        _ => Vec::new(),
    };
    for (at, Sampled { item, route }) in stratum.sample.iter().enumerate() {
        let Ok(request) = render(&plan.prompt, item) else {
            continue;
        };
        at_most(plan, &request, route, &mut sums);
        for backend in route {
            follow_ups.reasks_at_most(*backend, &request, &mut sums);
        }
        let input = |gauges: &[Gauge<'_>], backend: usize| match counts.get(at) {
            Some(tokens) if backend == first => *tokens,
            _ => gauges[backend].input(&request),
        };
        let own = input(gauges, first);
        sums[first].too_large += i128::from(!gauges[first].fits(own));
        let paid = rehearse(plan, request.clone(), route);
        let mut expected = Usd::ZERO;
        let mut least = None;
        for backend in &paid {
            let input = input(gauges, *backend);
            let (output, fewest) = gauges[*backend].output(&request);
            let price = gauges[*backend].backend.price();
            let amount = bill(price, input, output);
            let sum = &mut sums[*backend];
            sum.replies += 1;
            sum.input += i128::from(input);
            sum.output += i128::from(output);
            sum.expected += amount;
            expected += amount;
            if *backend == first {
                least = Some(fewest);
            }
        }
        let low = bill(gauges[first].backend.price(), own, least.unwrap_or(1));
        sums[first].low += low.min(expected);
        if let Some(last) = paid.last() {
            follow_ups.add(item, &request, *last, gauges, &mut sums);
        }
        follow_ups.escalate(item, &request, gauges, &mut sums);
    }
    sums
}

/// The dearest way that a request may take.
fn at_most(plan: &Plan, request: &Request, route: &[usize], sums: &mut [Sums]) {
    let beside = 1 + u64::from(plan.hedge_after.is_some());
    let attempts = u64::from(plan.retry.attempts) * beside;
    for backend in route {
        match plan.backends[*backend].most(request) {
            Some(most) => sums[*backend].at_most += most.times(attempts),
            None => sums[*backend].unbounded = true,
        }
    }
}

/// What a reply costs but for the time of a server that is paid by the hour. Nothing, where no price is known.
pub(super) fn bill(price: Option<&Price>, input: u64, output: u64) -> Usd {
    let usage = Usage {
        server_time_us: Some(0),
        ..Usage::new(input, output)
    };
    let bill = price.and_then(|price| price.bill(&usage));
    bill.map_or(Usd::ZERO, |bill| bill.total())
}

/// What a backend costs, and what must be known to know it.
fn cost(gauge: &Gauge<'_>, sums: &Sums, busy: Option<Duration>) -> (CostRange, Vec<Missing>) {
    let is_asked = sums.replies > 0;
    let hours = gauge.backend.price().map(|price| hours(price, busy));
    let (hours, gap) = match hours {
        None if is_asked => (None, Some(Missing::Price)),
        Some(None) if is_asked => (None, Some(Missing::Time)),
        hours => (Some(hours.flatten().unwrap_or_default()), None),
    };
    let expected = match gauge.in_vain() {
        Some((paid, useful)) => {
            let share = paid.millionths_of(useful).unwrap_or(1_000_000);
            sums.expected.millionths(share)
        }
        None => sums.expected,
    };
    let cost = CostRange {
        low: hours.map(|hours| sums.low + hours),
        expected: hours.map(|hours| expected + hours),
        at_most: (!sums.unbounded).then_some(sums.at_most),
    };
    let bound = sums.unbounded.then_some(Missing::Bound);
    (cost, gap.into_iter().chain(bound).collect())
}

/// What the time costs in which a server is busy; `None` where that is not known and makes a difference.
fn hours(price: &Price, busy: Option<Duration>) -> Option<Usd> {
    let time = Usage {
        server_time_us: busy.map(|busy| u64::try_from(busy.as_micros()).unwrap_or(u64::MAX)),
        ..Usage::default()
    };
    Some(price.bill_of_time(&time)?.total())
}

/// What all backends cost together, as far as that is known; `None` where nothing is.
fn total(backends: &[BackendForecast]) -> CostRange {
    let sum = |of: fn(&CostRange) -> Option<Usd>| {
        let known: Vec<Usd> = backends.iter().filter_map(|line| of(&line.cost)).collect();
        let is_known = !known.is_empty() || backends.is_empty();
        is_known.then(|| known.into_iter().sum())
    };
    CostRange {
        low: sum(|cost| cost.low),
        expected: sum(|cost| cost.expected),
        at_most: sum(|cost| cost.at_most),
    }
}

/// No sum of counts is below nothing.
fn whole(sum: i128) -> u64 {
    u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
}
