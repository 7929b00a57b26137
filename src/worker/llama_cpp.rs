//! llama.cpp's server: OpenAI's chat, and its own `/completion`.

use std::time::Duration;

use serde_json::Value;

use super::builders::remote_builders;
use super::http::Http;
use super::json::Json;
use super::openai::chat;
use super::remote::{Auth, Dialect, Endpoint, Remote};
use super::stream::{Heard, Stream, append, field, overlay};
use super::wire::{self, Body};
use crate::job::{LlamaCppApi, Server};
use crate::words::{CallError, Completion, FinishReason, Load, Provider, Request, Sampling, Usage};

pub(super) static DIALECT: Dialect = Dialect {
    provider: Provider::LlamaCpp,
    auth: Auth::Bearer,
    headers: &[],
    http1: true,
    // The server closes an idle connection after 5 s; a request must not meet it on its way out.
    idle: Duration::from_secs(3),
};

pub(super) const COMPLETION: Endpoint = Endpoint {
    path: "/completion",
    read,
    usage,
    stream: Some(Stream {
        add,
        last: "stop: true",
        asks_for_usage: false,
    }),
};

/// Asks llama.cpp's `llama-server`.
#[derive(Debug, Clone)]
pub struct LlamaCppWorker {
    remote: Remote,
    api: LlamaCppApi,
    unlimited: bool,
}

impl LlamaCppWorker {
    /// Asks the server at `LLAMA_CPP_URL`, by default `http://localhost:8080`.
    pub fn new() -> Self {
        Self {
            remote: Remote::new(&DIALECT, None),
            api: LlamaCppApi::Chat,
            unlimited: false,
        }
    }

    /// Asks through this endpoint.
    pub fn with_api(mut self, api: LlamaCppApi) -> Self {
        self.api = api;
        self
    }

    /// Caps an answer at so many tokens; below 0 there is no cap, as the server has it.
    pub fn with_max_tokens(mut self, max_tokens: i32) -> Self {
        self.unlimited = max_tokens < 0;
        self.remote.server.sampling.max_tokens = max_tokens.max(0).unsigned_abs();
        self
    }

    pub(super) fn planned(api: LlamaCppApi, server: &Server, http: &Http) -> Self {
        Self {
            remote: Remote::planned(&DIALECT, server, http),
            api,
            unlimited: false,
        }
    }

    async fn answer(&self, request: &Request) -> Result<Completion, CallError> {
        let server = &self.remote.server;
        let (model, sampling) = (server.model.as_deref(), &server.sampling);
        let cap = match self.unlimited {
            true => -1,
            false => i64::from(sampling.max_tokens),
        };
        let (endpoint, body) = match self.api {
            LlamaCppApi::Chat => (
                chat::endpoint("/v1/chat/completions"),
                chat::body(model, request, sampling)
                    .with("max_tokens", cap)
                    .maybe("top_k", sampling.top_k)
                    .maybe("min_p", sampling.min_p)
                    .maybe("response_format", chat::format(request)),
            ),
            LlamaCppApi::Completion => (
                COMPLETION,
                body(model, request, sampling).with("n_predict", cap),
            ),
        };
        self.remote.ask(endpoint, body).await
    }

    async fn counted(&self, request: &Request) -> Option<Result<u64, CallError>> {
        Some(match self.api {
            LlamaCppApi::Chat => self.count_chat(request).await,
            LlamaCppApi::Completion => self.tokenize(&request.as_prompt()).await,
        })
    }

    /// An older server does not count chats, but puts them into the model's form, and counts texts.
    async fn count_chat(&self, request: &Request) -> Result<u64, CallError> {
        let messages: Vec<_> = request.messages.iter().map(chat::message).collect();
        let model = self.remote.server.model.as_deref();
        let body = Body::default()
            .maybe("model", model)
            .with("messages", messages)
            .json();
        let read = |json: &Json<'_>| json["input_tokens"].as_count();
        let counted = self
            .remote
            .count("/v1/chat/completions/input_tokens", body.clone(), read)
            .await;
        match counted {
            Err(error) if matches!(error.status, Some(404 | 405 | 501)) => {
                let read = |json: &Json<'_>| json["prompt"].to_text();
                let prompt = self.remote.exchange("/apply-template", Some(body), read);
                match prompt.await? {
                    Some(prompt) => self.tokenize(&prompt).await,
                    None => Err(error),
                }
            }
            counted => counted,
        }
    }

    async fn tokenize(&self, text: &str) -> Result<u64, CallError> {
        let body = Body::default()
            .with("content", text)
            .with("add_special", true)
            .with("parse_special", true);
        let read = |json: &Json<'_>| Some(json["tokens"].as_array()?.len() as u64);
        self.remote.count("/tokenize", body.json(), read).await
    }

    /// How many requests the server works on at once.
    async fn slots(&self) -> Option<Load> {
        let page = self.remote.glance("/props").await?;
        let slots = wire::parse(&page).ok()?["total_slots"].as_count()?;
        let slots = usize::try_from(slots).ok();
        Some(Load {
            slots: Some(slots.filter(|slots| *slots > 0)?),
            ..Load::default()
        })
    }
}

impl Default for LlamaCppWorker {
    fn default() -> Self {
        Self::new()
    }
}

remote_builders!(LlamaCppWorker, load: slots, count: counted);

fn body(model: Option<&str>, request: &Request, sampling: &Sampling) -> Body {
    Body::default()
        .maybe("model", model)
        .with("prompt", request.as_prompt())
        .maybe("temperature", sampling.temperature)
        .maybe("top_p", sampling.top_p)
        .maybe("top_k", sampling.top_k)
        .maybe("min_p", sampling.min_p)
        .maybe(
            "json_schema",
            request.schema.as_ref().map(|schema| schema.bare().clone()),
        )
        .list("stop", &sampling.stop)
        .seed(sampling.seed, request.repeat)
        .maybe("frequency_penalty", sampling.frequency_penalty)
        .maybe("presence_penalty", sampling.presence_penalty)
}

fn read(reply: &Json<'_>) -> Result<Completion, String> {
    let reply = reply.as_object().ok_or("no JSON object")?;
    let (text, stop) = (reply["content"].as_str(), reply["stop_type"].as_str());
    if text.or(stop).is_none() {
        return Err("no content".to_owned());
    }
    let mut completion = Completion::text(text.unwrap_or_default());
    completion.finish_reason = match (reply["truncated"].as_bool(), stop) {
        // The context was full: something was dropped, of the prompt or of the answer.
        (Some(true), _) | (_, Some("limit")) => Some(FinishReason::Length),
        (_, Some("eos" | "word")) => Some(FinishReason::Stop),
        (_, None | Some("none")) => None,
        (_, Some(other)) => Some(FinishReason::Other(other.to_owned())),
    };
    completion.usage = usage(reply);
    completion.model = reply["model"].to_text();
    Ok(completion)
}

/// Every event has the next piece of the text; the last has everything else as well.
fn add(reply: &mut Value, event: &Json<'_>) -> Heard {
    let content = event["content"].as_str().unwrap_or_default();
    overlay(reply, event, Some("content"));
    append(field(reply, "content"), content);
    match (event["stop"].as_bool() == Some(true), content) {
        (true, _) => Heard::End,
        (false, "") => Heard::Nothing,
        (false, _) => Heard::More,
    }
}

/// `tokens_evaluated` is the whole prompt; `tokens_cached` is not what was read from the cache but
/// what the slot holds afterwards, so the timings say what was read.
fn usage(reply: &Json<'_>) -> Option<Usage> {
    let timings = &reply["timings"];
    let predicted = reply["tokens_predicted"].as_count();
    let usage = Usage {
        input_tokens: reply["tokens_evaluated"].as_count(),
        output_tokens: predicted.or_else(|| timings["predicted_n"].as_count()),
        cache_read_input_tokens: timings["cache_n"].as_count(),
        ..Usage::default()
    };
    usage.checked(None)
}
