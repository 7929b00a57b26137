//! Anthropic's protocol: messages, and the old completions with their wrapper.

use std::time::Duration;

use serde_json::{Value, json};

use super::builders::remote_builders;
use super::http::Http;
use super::json::Json;
use super::openai::chat::message;
use super::remote::{Auth, Dialect, Endpoint, Remote};
use super::stream::{Heard, Stream, append, field, overlay, raise, says};
use super::wire::Body;
use crate::job::{AnthropicApi, Server};
use crate::words::{
    CallError, Completion, FinishReason, Provider, Request, Role, Sampling, Usage, takes_schema,
};

static DIALECT: Dialect = Dialect {
    provider: Provider::Anthropic,
    auth: Auth::Header("x-api-key"),
    headers: &[("anthropic-version", "2023-06-01")],
    http1: false,
    idle: Duration::from_secs(30),
};

pub(super) const MESSAGES: Endpoint = Endpoint {
    path: "/v1/messages",
    read: read_message,
    usage,
    stream: Some(Stream {
        add: add_to_message,
        last: "message_stop",
        asks_for_usage: false,
    }),
};

const COMPLETE: Endpoint = Endpoint {
    path: "/v1/complete",
    read: read_completion,
    usage: |_| None,
    stream: Some(Stream {
        add: add_to_completion,
        last: "stop_reason",
        asks_for_usage: false,
    }),
};

/// Asks Anthropic's API, or a server that speaks it.
#[derive(Debug, Clone)]
pub struct AnthropicWorker {
    remote: Remote,
    api: AnthropicApi,
}

impl AnthropicWorker {
    /// Asks this model, with the key in `ANTHROPIC_API_KEY`, at `ANTHROPIC_BASE_URL` if that is set.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            remote: Remote::new(&DIALECT, Some(model.into())),
            api: AnthropicApi::Messages,
        }
    }

    /// Asks through this endpoint.
    pub fn with_api(mut self, api: AnthropicApi) -> Self {
        self.api = api;
        self
    }

    /// Caps an answer at so many tokens.
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.remote.server.sampling.max_tokens = max_tokens;
        self
    }

    pub(super) fn planned(api: AnthropicApi, server: &Server, http: &Http) -> Self {
        let remote = Remote::planned(&DIALECT, server, http);
        Self { remote, api }
    }

    async fn answer(&self, request: &Request) -> Result<Completion, CallError> {
        let sampling = &self.remote.server.sampling;
        let (endpoint, body) = match self.api {
            AnthropicApi::Messages => (
                MESSAGES,
                self.messages(request)
                    .with("max_tokens", sampling.max_tokens)
                    .maybe("output_config", self.format(request)),
            ),
            AnthropicApi::Complete => (
                COMPLETE,
                self.body()
                    .with("max_tokens_to_sample", sampling.max_tokens)
                    .with("prompt", wrapped(request)),
            ),
        };
        self.remote.ask(endpoint, sampled(body, sampling)).await
    }

    /// What the messages endpoint is asked, and the one that counts.
    fn messages(&self, request: &Request) -> Body {
        self.body()
            .maybe("system", request.system())
            .with("messages", request.turns().map(message).collect::<Vec<_>>())
    }

    /// The form of the answer, for models that take one.
    fn format(&self, request: &Request) -> Option<Value> {
        let model = self.remote.server.model.as_deref();
        let takes = takes_schema(Provider::Anthropic, model);
        let schema = request.schema.as_ref().filter(|_| takes)?;
        let schema = schema.for_anthropic()?;
        Some(json!({"format": {"type": "json_schema", "schema": schema}}))
    }

    fn body(&self) -> Body {
        Body::default().maybe("model", self.remote.server.model.as_deref())
    }

    /// The old endpoint has none that counts.
    async fn counted(&self, request: &Request) -> Option<Result<u64, CallError>> {
        let counts = self.api == AnthropicApi::Messages;
        let body = counts.then(|| self.messages(request).json())?;
        let read = |json: &Json<'_>| json["input_tokens"].as_count();
        Some(
            self.remote
                .count("/v1/messages/count_tokens", body, read)
                .await,
        )
    }
}

remote_builders!(AnthropicWorker, count: counted);

fn sampled(body: Body, sampling: &Sampling) -> Body {
    body.maybe("temperature", sampling.temperature)
        .maybe("top_p", sampling.top_p)
        .maybe("top_k", sampling.top_k)
        .list("stop_sequences", &sampling.stop)
}

/// The conversation in the form that the old models were trained on.
fn wrapped(request: &Request) -> String {
    let mut prompt = request.system().unwrap_or_default();
    for turn in request.turns() {
        let name = match turn.role {
            Role::Assistant => "Assistant",
            Role::System | Role::User => "Human",
        };
        prompt.push_str(&format!("\n\n{name}: {}", turn.content));
    }
    // The model goes on with an answer that was begun for it.
    let begun = request
        .turns()
        .last()
        .is_some_and(|turn| turn.role == Role::Assistant);
    if !begun {
        prompt.push_str("\n\nAssistant:");
    }
    prompt
}

fn read_message(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let blocks = reply["content"].as_objects().ok_or("no content")?.iter();
    let text = blocks
        .filter(|block| block["type"].as_str() == Some("text"))
        .filter_map(|block| block["text"].as_str())
        .collect::<String>();
    let mut completion = Completion::text(text);
    completion.finish_reason = reply["stop_reason"].as_str().map(finish_reason);
    completion.refusal = reply["stop_details"]["explanation"].to_text();
    completion
        .refusal
        .take_if(|_| completion.finish_reason != Some(FinishReason::Refusal));
    completion.usage = usage(reply);
    completion.model = reply["model"].to_text();
    Ok(completion)
}

fn read_completion(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let text = reply["completion"].as_str();
    if text.or(reply["stop_reason"].as_str()).is_none() {
        return Err("no completion".to_owned());
    }
    let mut completion = Completion::text(text.unwrap_or_default());
    completion.finish_reason = reply["stop_reason"].as_str().map(finish_reason);
    completion.model = reply["model"].to_text();
    Ok(completion)
}

/// A message begins, its blocks grow one after the other, and what is known at its end is put over it.
fn add_to_message(reply: &mut Value, event: &Json<'_>) -> Heard {
    match event["type"].as_str() {
        Some("message_start") => overlay(reply, &event["message"], None),
        Some("content_block_start") => blocks(reply).push((&event["content_block"]).into()),
        Some("content_block_delta") => return add_to_block(reply, &event["delta"]),
        Some("message_delta") => {
            overlay(reply, &event["delta"], None);
            raise(field(reply, "usage"), &(&event["usage"]).into());
        }
        Some("message_stop") => return Heard::End,
        _ => return Heard::Nothing,
    }
    Heard::More
}

/// The block that grows is the last that began: a gateway that leaves some out need not number the others anew.
fn add_to_block(reply: &mut Value, delta: &Json<'_>) -> Heard {
    if let Some(text) = delta["text"].as_str() {
        let blocks = blocks(reply);
        if blocks.is_empty() {
            blocks.push(json!({"type": "text"}));
        }
        let last = blocks.last_mut().expect("there is one");
        append(field(last, "text"), text);
    }
    let mut fields = delta.fields().iter();
    match fields.any(|(name, value)| name != "type" && says(value)) {
        true => Heard::More,
        false => Heard::Nothing,
    }
}

fn blocks(message: &mut Value) -> &mut Vec<Value> {
    let content = field(message, "content");
    if !content.is_array() {
        *content = json!([]);
    }
    content.as_array_mut().expect("it was made an array")
}

fn add_to_completion(reply: &mut Value, event: &Json<'_>) -> Heard {
    let text = event["completion"].as_str().unwrap_or_default();
    overlay(reply, event, Some("completion"));
    append(field(reply, "completion"), text);
    match (says(&event["stop_reason"]), text) {
        (true, _) => Heard::End,
        (false, "") => Heard::Nothing,
        (false, _) => Heard::More,
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        reason => FinishReason::from_name(reason),
    }
}

/// Anthropic counts cached input beside `input_tokens`; here it is part of the input.
fn usage(reply: &Json<'_>) -> Option<Usage> {
    let wire = reply["usage"].as_object()?;
    let written = wire["cache_creation_input_tokens"].as_count();
    let details = &wire["cache_creation"];
    let hour = details["ephemeral_1h_input_tokens"].as_count();
    // What the details leave open is taken for the short lifetime, which is the default.
    let short = match written {
        Some(written) => Some(written.saturating_sub(hour.unwrap_or(0))),
        None => details["ephemeral_5m_input_tokens"].as_count(),
    };
    let read = wire["cache_read_input_tokens"].as_count();
    let cached = [short, hour, read];
    let cached: u64 = cached.into_iter().flatten().fold(0, u64::saturating_add);
    let input = wire["input_tokens"].as_count();
    let usage = Usage {
        input_tokens: input.map(|input| input.saturating_add(cached)),
        output_tokens: wire["output_tokens"].as_count(),
        cache_read_input_tokens: read,
        cache_write_5m_input_tokens: short,
        cache_write_1h_input_tokens: hour,
        reasoning_output_tokens: wire["output_tokens_details"]["thinking_tokens"].as_count(),
        ..Usage::default()
    };
    usage.checked(None)
}
