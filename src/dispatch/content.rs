//! What is asked and answered, for a log that wants it; nobody looks at it otherwise.

use crate::words::{Completion, Item, Request};

/// The target of these events. Whoever subscribes to others should leave it out.
const TARGET: &str = "tokio_prompt_orchestrator::content";

/// A request is about to be sent.
pub(super) fn asked(item: &Item, backend: &str, request: &Request) {
    let row = &*item.row.id;
    tracing::debug!(target: TARGET, row, backend, "asked: {}", request.as_prompt());
}

/// A reply came.
pub(super) fn answered(item: &Item, backend: &str, reply: &Completion) {
    let row = &*item.row.id;
    tracing::debug!(target: TARGET, row, backend, "answered: {}", reply.text);
}
