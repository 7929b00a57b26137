//! `/v1/chat/completions`, as OpenAI, vLLM and llama.cpp speak it.

use serde::Serialize;
use serde_json::{Value, json};

use super::chunks;
use super::usage::usage;
use crate::words::{Completion, FinishReason, Message, OutputSchema, Request, Sampling};
use crate::worker::json::Json;
use crate::worker::remote::Endpoint;
use crate::worker::wire::Body;

/// A message in the form that all providers share.
#[derive(Debug, Serialize)]
pub(in crate::worker) struct WireMessage<'a> {
    role: &'a str,
    content: &'a str,
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

/// The request without its output cap, which every server names in its own way.
pub(in crate::worker) fn body(model: Option<&str>, request: &Request, sampling: &Sampling) -> Body {
    let messages: Vec<WireMessage<'_>> = request.messages.iter().map(message).collect();
    Body::default()
        .maybe("model", model)
        .with("messages", messages)
        .maybe("temperature", sampling.temperature)
        .maybe("top_p", sampling.top_p)
        .list("stop", &sampling.stop)
        .seed(sampling.seed, request.repeat)
        .maybe("frequency_penalty", sampling.frequency_penalty)
        .maybe("presence_penalty", sampling.presence_penalty)
        .maybe("reasoning_effort", sampling.reasoning_effort.as_deref())
}

/// The form of the answer, for OpenAI's own models: they take objects alone.
pub(super) fn strict_format(schema: &OutputSchema) -> Value {
    let strict = schema.is_strict();
    json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": strict, "schema": schema.object()}})
}

/// The form of the answer, for servers that take any schema.
pub(in crate::worker) fn format(request: &Request) -> Option<Value> {
    let schema = request.schema.as_ref()?.bare();
    Some(json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}))
}

/// A message as it is sent.
pub(in crate::worker) fn message(message: &Message) -> WireMessage<'_> {
    WireMessage {
        role: message.role.as_str(),
        content: &message.content,
    }
}

fn read(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let choice = &reply["choices"][0];
    if !choice.is_object() {
        return Err("no choices".to_owned());
    }
    let message = &choice["message"];
    let mut completion = Completion::text(text(&message["content"]));
    completion.refusal = message["refusal"]
        .to_text()
        .filter(|words| !words.is_empty());
    completion.finish_reason = match &completion.refusal {
        Some(_) => Some(FinishReason::Refusal),
        None => choice["finish_reason"]
            .as_str()
            .map(FinishReason::from_name),
    };
    completion.usage = usage(reply);
    completion.model = reply["model"].to_text();
    Ok(completion)
}

/// A text, or the texts of a list of parts, as some compatible servers send it.
pub(super) fn text(content: &Json<'_>) -> String {
    match content {
        Json::String(text) => text.clone().into_owned(),
        Json::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}
