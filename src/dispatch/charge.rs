//! What an attempt used and cost.

use std::time::Duration;

use crate::job::Backend;
use crate::words::{CallError, Completion, Cost, ErrorClass, Request, Usage, Usd};

/// What an attempt used and cost.
#[derive(Debug)]
pub struct Charge {
    /// What it used; `None` where nobody said.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Cost,
}

impl Charge {
    /// That of an attempt which ended so. `time`: its share of the server's time, where that is paid.
    pub fn of(
        backend: &Backend,
        request: &Request,
        result: &Result<Completion, CallError>,
        time: Option<Duration>,
    ) -> Self {
        match result {
            Ok(completion) => reply(backend, request, completion.usage, time),
            Err(error) => failure(backend, request, error, time),
        }
    }
}

/// What a reply cost. Without reported usage nobody knows, unless tokens are free.
pub(super) fn reply(
    backend: &Backend,
    request: &Request,
    usage: Option<Usage>,
    time: Option<Duration>,
) -> Charge {
    let usage = seen(backend, request, usage, time);
    let cost = match backend.price() {
        None => Cost::Unpriced,
        Some(price) => match price.bill(&usage.unwrap_or_default()) {
            Some(bill) => Cost::Known(bill.total()),
            None => unknown(backend, request),
        },
    };
    Charge { usage, cost }
}

/// What a failure cost: nothing but its time where the provider did no work, the reported usage where it says
/// so, else nobody knows.
pub(super) fn failure(
    backend: &Backend,
    request: &Request,
    error: &CallError,
    time: Option<Duration>,
) -> Charge {
    let reported = error.usage.as_deref().copied();
    // A worker may also tell of a reply that is cut, refused or filtered by an error.
    if error.class == ErrorClass::Flagged || reported.is_some_and(|usage| usage.names_tokens()) {
        return reply(backend, request, reported, time);
    }
    let usage = seen(backend, request, None, time);
    let possibly_billed = error.class.possibly_billed() || error.has_begun;
    let cost = match backend.price() {
        Some(price) if !possibly_billed || price.is_free_of_requests() => {
            let bill = price.bill_of_time(&usage.unwrap_or_default());
            bill.map_or_else(
                || unknown(backend, request),
                |bill| Cost::Known(bill.total()),
            )
        }
        None if !possibly_billed => Cost::Known(Usd::ZERO),
        _ => unknown(backend, request),
    };
    Charge { usage, cost }
}

/// What a request costs at most of which nothing is known but that it was sent.
pub(super) fn unknown(backend: &Backend, request: &Request) -> Cost {
    match backend.price() {
        Some(price) if price.is_free() => Cost::Known(Usd::ZERO),
        _ => Cost::Unknown {
            at_most: backend.most(request),
        },
    }
}

/// The usage as it goes into the ledger: flagged where its counts contradict each other or what was asked for,
/// and with the time where that is paid.
fn seen(
    backend: &Backend,
    request: &Request,
    usage: Option<Usage>,
    time: Option<Duration>,
) -> Option<Usage> {
    let mut usage = usage.and_then(|usage| usage.checked(None));
    if let Some(usage) = &mut usage
        && backend
            .price()
            .is_some_and(|price| !price.is_free_of_tokens())
    {
        let bounds = backend.bounds(request);
        let over = |used: Option<u64>, most: Option<u64>| used > most && most.is_some();
        usage.inconsistent |= over(usage.input_tokens, Some(bounds.input_bytes))
            || over(usage.output_tokens, bounds.max_tokens);
    }
    if let Some(time) = time {
        // What lies beyond is not the server's time: nobody listened to it any more.
        let longest = backend.bounds(request).timeout.unwrap_or(time);
        let time = time.min(longest);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        usage.get_or_insert_default().server_time_us = Some(time);
    }
    usage
}

#[cfg(test)]
mod tests;
