//! `/v1/completions`, as OpenAI, vLLM and llama.cpp speak it: a plain prompt, no chat template.

use super::chunks;
use super::usage::usage;
use crate::words::{Completion, FinishReason, Request, Sampling};
use crate::worker::json::Json;
use crate::worker::remote::Endpoint;
use crate::worker::wire::Body;

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

fn read(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let choices = reply["choices"].as_objects().unwrap_or_default();
    let choice = choices.first().ok_or("no choices")?;
    let mut completion = Completion::text(choice["text"].as_str().unwrap_or_default());
    completion.finish_reason = choice["finish_reason"]
        .as_str()
        .map(FinishReason::from_name);
    completion.usage = usage(reply);
    completion.model = reply["model"].to_text();
    Ok(completion)
}
