//! What earlier runs of the job teach: how much its backends had to read, how much they wrote, how long they took,
//! and what was paid in vain.

use std::time::Duration;

use super::mean::Mean;
use crate::engine::fan_out::render;
use crate::job::{Backend, Identity, Plan};
use crate::store::{Reader, StoreError, Stored};
use crate::words::{Attempt, Cost, Request, Usd};

/// How many items are looked at.
const ENOUGH: u64 = 10_000;
/// With fewer attempts than that nothing is said of what was paid in vain.
const FEW: u64 = 100;

/// What is known of a backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    /// Output tokens of its replies.
    pub(super) output: Mean,
    /// Input tokens over the bytes of the requests, of requests that would be the same today.
    pub(super) input: Mean,
    /// How many requests that were.
    pub(super) compared: u64,
    /// Microseconds that its replies took.
    latency: Mean,
    attempts: u64,
    paid: Usd,
    useful: Usd,
}

enum Halt {
    Enough,
    Failed(StoreError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Halt::Failed(error)
    }
}

/// What the store knows of each backend of the plan.
pub(super) fn learn(
    reader: &Reader,
    plan: &Plan,
    identities: &[Identity],
) -> Result<Vec<Past>, StoreError> {
    let mut past = vec![Past::default(); plan.backends.len()];
    let mut seen = 0;
    let lines = reader.lines();
    let asked = |stored: &&Stored| {
        let outcome = &stored.outcome;
        !outcome.attempts.is_empty() && (outcome.item.entry as usize) < plan.entries.len()
    };
    let read = lines.for_each_row(&lines.columns()?, |all| {
        for stored in all.iter().filter(asked) {
            if seen == ENOUGH {
                return Err(Halt::Enough);
            }
            seen += 1;
            add(&mut past, plan, identities, stored);
        }
        Ok(())
    });
    match read {
        Err(Halt::Failed(error)) => Err(error),
        Ok(()) | Err(Halt::Enough) => Ok(past),
    }
}

fn add(past: &mut [Past], plan: &Plan, identities: &[Identity], stored: &Stored) {
    let outcome = &stored.outcome;
    let request = render(&plan.prompt, &outcome.item).ok();
    let decided = outcome.answered_by.unwrap_or(outcome.attempts.len() - 1);
    for (at, attempt) in outcome.attempts.iter().enumerate() {
        let named = |backend: &Backend| backend.name == attempt.backend;
        let Some(position) = plan.backends.iter().position(named) else {
            continue;
        };
        if attempt.kind.is_request() {
            let decides = at == decided && outcome.status.is_final();
            let same = |request: &&Request| {
                identities[position].fingerprint(request) == attempt.fingerprint
            };
            past[position].add(attempt, decides, request.as_ref().filter(same));
        }
    }
}

impl Past {
    fn add(&mut self, attempt: &Attempt, decides: bool, request: Option<&Request>) {
        self.attempts += 1;
        if let Cost::Known(amount) = attempt.cost {
            self.paid += amount;
            if decides {
                self.useful += amount;
            }
        }
        if !attempt.is_reply() {
            return;
        }
        self.latency.add(
            u64::try_from(attempt.latency.as_micros()).unwrap_or(u64::MAX),
            1,
        );
        let usage = attempt.usage.unwrap_or_default();
        if let Some(output) = usage.output_tokens {
            self.output.add(output, 1);
        }
        if let (Some(input), Some(request)) = (usage.input_tokens, request) {
            self.input.add(input, request.bytes() as u64);
            self.compared += 1;
        }
    }

    /// How long a reply took on the mean.
    pub(super) fn latency(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.latency.of(1)?))
    }

    /// What was paid, and how much of it for what rows ended with: where attempts enough were made to say so.
    pub(super) fn in_vain(&self) -> Option<(Usd, Usd)> {
        let says = self.attempts > FEW && self.useful > Usd::ZERO && self.paid > self.useful;
        says.then_some((self.paid, self.useful))
    }
}
