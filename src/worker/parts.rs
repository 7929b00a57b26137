//! Requests and replies as bytes, without a connection, for `benches/parts.rs`.

use super::openai::chat;
use super::remote::Reading;
use super::wire;
use crate::words::{Completion, Request, Sampling};

/// The body of a request to OpenAI's chat endpoint.
pub fn chat_request(model: &str, request: &Request, sampling: &Sampling) -> Vec<u8> {
    let body = chat::body(Some(model), request, sampling);
    let body = body.with("max_completion_tokens", sampling.max_tokens);
    body.json()
}

/// What the body of its reply says; `None` if that is no answer.
pub fn chat_reply(body: &[u8]) -> Option<Completion> {
    let reply = wire::parse(body).ok()?;
    let endpoint = chat::endpoint("/chat/completions");
    match endpoint.error(&reply) {
        Some(_) => None,
        None => endpoint.answer(&reply).ok(),
    }
}
