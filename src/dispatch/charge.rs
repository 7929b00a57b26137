//! What an attempt cost.

use crate::job::Backend;
use crate::words::{CallError, Completion, Cost, Price, Request, Usd};

/// Tokens that a provider's message format may add to each message, generously.
const OVERHEAD_PER_MESSAGE: u64 = 64;

/// What a reply cost. Without reported usage nobody knows, unless the model is free.
pub(super) fn reply(backend: &Backend, request: &Request, completion: &Completion) -> Cost {
    match (backend.price, completion.usage) {
        (None, _) => Cost::Unpriced,
        (Some(Price::FREE), _) => Cost::Known(Usd::ZERO),
        (Some(price), usage) => match usage.and_then(|usage| price.cost(&usage)) {
            Some(amount) => Cost::Known(amount),
            None => unknown(backend, request),
        },
    }
}

/// What a failure cost: nothing where the provider did no work, the reported usage where it says so,
/// else nobody knows.
pub(super) fn failure(backend: &Backend, request: &Request, error: &CallError) -> Cost {
    if backend.price == Some(Price::FREE) {
        return Cost::Known(Usd::ZERO);
    }
    match (error.usage, backend.price) {
        (Some(_), None) => Cost::Unpriced,
        (Some(usage), Some(price)) => match price.cost(&usage) {
            Some(amount) => Cost::Known(amount),
            None => unknown(backend, request),
        },
        (None, _) if error.class.possibly_billed() => unknown(backend, request),
        (None, _) => Cost::Known(Usd::ZERO),
    }
}

/// What a request costs at most of which nothing is known but that it was sent.
pub(super) fn unknown(backend: &Backend, request: &Request) -> Cost {
    if backend.price == Some(Price::FREE) {
        return Cost::Known(Usd::ZERO);
    }
    let messages = request.messages.len() as u64;
    let input = request.bytes() as u64 + messages * OVERHEAD_PER_MESSAGE;
    Cost::Unknown {
        at_most: backend
            .price
            .zip(backend.max_tokens())
            .map(|(price, max_tokens)| price.most(input, max_tokens.into())),
    }
}
