//! OpenAI's protocol: three endpoints. vLLM and llama.cpp speak the first two as well.

pub(super) mod chat;
mod chunks;
pub(super) mod completions;
mod responses;
mod usage;

use std::time::Duration;

use super::builders::remote_builders;
use super::http::Http;
use super::remote::{Auth, Dialect, Remote};
use crate::job::{OpenAiApi, Server};
use crate::words::{CallError, Completion, Provider, Request, takes_schema};

static DIALECT: Dialect = Dialect {
    provider: Provider::OpenAi,
    auth: Auth::Bearer,
    headers: &[],
    http1: false,
    idle: Duration::from_secs(30),
};

/// Asks OpenAI's API, or a server that speaks it.
#[derive(Debug, Clone)]
pub struct OpenAiWorker {
    remote: Remote,
    api: OpenAiApi,
}

impl OpenAiWorker {
    /// Asks this model, with the key in `OPENAI_API_KEY`, at `OPENAI_BASE_URL` if that is set.
    pub fn new(model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            api: OpenAiApi::default_for(&model),
            remote: Remote::new(&DIALECT, Some(model)),
        }
    }

    /// Asks through this endpoint.
    pub fn with_api(mut self, api: OpenAiApi) -> Self {
        self.api = api;
        self
    }

    /// Caps an answer at so many tokens.
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.remote.server.sampling.max_tokens = max_tokens;
        self
    }

    pub(super) fn planned(api: OpenAiApi, server: &Server, http: &Http) -> Self {
        let remote = Remote::planned(&DIALECT, server, http);
        Self { remote, api }
    }

    async fn answer(&self, request: &Request) -> Result<Completion, CallError> {
        let server = &self.remote.server;
        let (model, sampling) = (server.model.as_deref(), &server.sampling);
        let schema = request.schema.as_deref();
        let schema = schema.filter(|_| takes_schema(Provider::OpenAi, model));
        let (endpoint, body) = match self.api {
            OpenAiApi::Chat => (
                chat::endpoint("/chat/completions"),
                chat::body(model, request, sampling)
                    .with("max_completion_tokens", sampling.max_tokens)
                    .maybe("response_format", schema.map(chat::strict_format)),
            ),
            OpenAiApi::Completions => (
                completions::endpoint("/completions"),
                completions::body(model, request, sampling),
            ),
            OpenAiApi::Responses => (
                responses::ENDPOINT,
                responses::body(model, request, sampling)
                    .maybe("text", schema.map(responses::format)),
            ),
        };
        let completion = self.remote.ask(endpoint, body).await?;
        Ok(match self.api {
            OpenAiApi::Responses => responses::judged_by_length(completion, sampling.max_tokens),
            OpenAiApi::Chat | OpenAiApi::Completions => completion,
        })
    }
}

remote_builders!(OpenAiWorker);
