//! `/v1/responses`: the output is a list of items, of which the messages are the answer.

use serde_json::{Value, json};

use super::chat::message;
use crate::words::{Completion, FinishReason, OutputSchema, Request, Role, Sampling, Usage};
use crate::worker::json::Json;
use crate::worker::remote::Endpoint;
use crate::worker::stream::{Heard, Stream, append, says};
use crate::worker::wire::Body;

/// The endpoint.
pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/responses",
    read,
    usage,
    stream: Some(Stream {
        add,
        last: "response.completed",
        asks_for_usage: false,
    }),
};

/// The request.
pub(super) fn body(model: Option<&str>, request: &Request, sampling: &Sampling) -> Body {
    let turns: Vec<_> = request.turns().collect();
    let input = match turns.as_slice() {
        [only] if only.role == Role::User => Value::from(only.content.as_str()),
        turns => json!(turns.iter().map(|turn| message(turn)).collect::<Vec<_>>()),
    };
    let effort = sampling.reasoning_effort.as_deref();
    Body::default()
        .maybe("model", model)
        .maybe("instructions", request.system())
        .with("input", input)
        .with("max_output_tokens", sampling.max_tokens)
        .maybe("temperature", sampling.temperature)
        .maybe("top_p", sampling.top_p)
        .maybe("reasoning", effort.map(|effort| json!({"effort": effort})))
        // The provider would keep the conversation otherwise.
        .with("store", false)
}

/// The form of the answer, flat where chat has it nested.
pub(super) fn format(schema: &OutputSchema) -> Value {
    let strict = schema.is_strict();
    json!({"format": {"type": "json_schema", "name": "answer", "strict": strict, "schema": schema.object()}})
}

fn read(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let (mut text, mut refusal) = (String::new(), String::new());
    let is_message = |item: &&Json<'_>| item["type"].as_str() == Some("message");
    let items = reply["output"].as_objects().ok_or("no output")?.iter();
    for part in items
        .filter(is_message)
        .flat_map(|item| item["content"].as_objects().unwrap_or_default())
    {
        match part["type"].as_str() {
            Some("output_text") => text.push_str(part["text"].as_str().unwrap_or_default()),
            Some("refusal") => refusal.push_str(part["refusal"].as_str().unwrap_or_default()),
            _ => {}
        }
    }
    let reason = reply["incomplete_details"]["reason"].as_str();
    let finish_reason = match (reply["status"].as_str(), reason) {
        (Some("incomplete"), Some("content_filter")) => Some(FinishReason::ContentFilter),
        // Whatever the reason is, and where none is given: it is not whole.
        (Some("incomplete"), _) => Some(FinishReason::Length),
        // A server without this field, such as llama.cpp's, calls answers completed that were cut.
        (Some("completed"), _) if reply.get("incomplete_details").is_none() => None,
        (Some("completed"), _) => Some(FinishReason::Stop),
        (None, _) => None,
        (Some(status), _) => return Err(format!("a response that is `{status}`, not completed")),
    };
    let mut completion = Completion::text(text);
    completion.refusal = Some(refusal).filter(|words| !words.is_empty());
    completion.finish_reason = match &completion.refusal {
        Some(_) => Some(FinishReason::Refusal),
        None => finish_reason,
    };
    completion.usage = usage(reply);
    completion.model = reply["model"].to_text();
    Ok(completion)
}

/// Why the answer stopped where the server does not say: one that is as long as it might be was cut.
pub(super) fn judged_by_length(mut completion: Completion, max_tokens: u32) -> Completion {
    let used = completion
        .usage
        .as_ref()
        .and_then(|usage| usage.output_tokens);
    let cut = used.is_some_and(|used| used >= u64::from(max_tokens));
    completion.finish_reason.get_or_insert(match cut {
        true => FinishReason::Length,
        false => FinishReason::Stop,
    });
    completion
}

/// The last event holds the whole response; those before it are only its parts.
fn add(reply: &mut Value, event: &Json<'_>) -> Heard {
    match event["type"].as_str() {
        Some(
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled",
        ) => {
            let whole = &event["response"];
            let parts = reply["output"].take();
            *reply = whole.into();
            // Some gateways send its parts alone.
            if whole.is_object() && !says(&whole["output"]) && !parts.is_null() {
                reply["output"] = parts;
            }
            Heard::End
        }
        Some("response.output_text.delta") => {
            if reply["output"].is_null() {
                let part = json!({"type": "output_text", "text": ""});
                reply["output"] = json!([{"type": "message", "content": [part]}]);
            }
            let delta = event["delta"].as_str().unwrap_or_default();
            append(&mut reply["output"][0]["content"][0]["text"], delta);
            match delta {
                "" => Heard::Nothing,
                _ => Heard::More,
            }
        }
        // Thinking, tools, and what begins or is done: all of it belongs to an answer.
        Some(kind)
            if says(&event["delta"]) || kind.ends_with(".added") || kind.ends_with(".done") =>
        {
            Heard::More
        }
        _ => Heard::Nothing,
    }
}

fn usage(reply: &Json<'_>) -> Option<Usage> {
    let wire = reply["usage"].as_object()?;
    let input = &wire["input_tokens_details"];
    let usage = Usage {
        input_tokens: wire["input_tokens"].as_count(),
        output_tokens: wire["output_tokens"].as_count(),
        cache_read_input_tokens: input["cached_tokens"].as_count(),
        cache_write_5m_input_tokens: input["cache_write_tokens"].as_count(),
        reasoning_output_tokens: wire["output_tokens_details"]["reasoning_tokens"].as_count(),
        ..Usage::default()
    };
    usage.checked(wire["total_tokens"].as_count())
}
