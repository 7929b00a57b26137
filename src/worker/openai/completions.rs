//! `/v1/completions`, as OpenAI, vLLM and llama.cpp speak it: a plain prompt, no chat template.

use serde::Deserialize;
use serde_json::Value;

use super::chunks;
use super::usage::usage;
use crate::words::{Completion, FinishReason, Request, Sampling};
use crate::worker::remote::Endpoint;
use crate::worker::wire::{Body, maybe, read as read_wire};

#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default, deserialize_with = "maybe")]
    model: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    choices: Option<Vec<Choice>>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default, deserialize_with = "maybe")]
    text: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    finish_reason: Option<String>,
}

/// The endpoint at this path.
pub(in crate::worker) fn endpoint(path: &'static str) -> Endpoint {
    Endpoint {
        path,
        read,
        usage,
        stream: Some(chunks::STREAM),
    }
}

/// The request.
pub(in crate::worker) fn body(model: Option<&str>, request: &Request, sampling: &Sampling) -> Body {
    Body::default()
        .maybe("model", model)
        .with("prompt", request.as_prompt())
        // Always: the default is 16.
        .with("max_tokens", sampling.max_tokens)
        .maybe("temperature", sampling.temperature)
        .maybe("top_p", sampling.top_p)
        .list("stop", &sampling.stop)
        .seed(sampling.seed, request.repeat)
        .maybe("frequency_penalty", sampling.frequency_penalty)
        .maybe("presence_penalty", sampling.presence_penalty)
}

fn read(reply: &Value) -> Result<Completion, String> {
    let wire: Reply = read_wire(reply).ok_or("no JSON object")?;
    let choice = wire.choices.and_then(|choices| choices.into_iter().next());
    let choice = choice.ok_or("no choices")?;
    let mut completion = Completion::text(choice.text.unwrap_or_default());
    completion.finish_reason = choice.finish_reason.as_deref().map(FinishReason::from_name);
    completion.usage = usage(reply);
    completion.model = wire.model;
    Ok(completion)
}
