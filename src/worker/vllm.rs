//! vLLM's server: OpenAI's chat and completions, and the legacy api_server's `/generate`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::builders::remote_builders;
use super::http::Http;
use super::json::Json;
use super::openai::{chat, completions};
use super::remote::{Auth, Dialect, Endpoint, Remote};
use super::text::origin;
use super::wire::Body;
use crate::job::{Server, VllmApi};
use crate::words::{CallError, Completion, ErrorClass, Load, Provider, Request, Sampling};

pub(super) static DIALECT: Dialect = Dialect {
    provider: Provider::Vllm,
    auth: Auth::Bearer,
    headers: &[],
    http1: true,
    // Its HTTP server closes an idle connection after 5 s.
    idle: Duration::from_secs(3),
};

const GENERATE: Endpoint = Endpoint {
    path: "/generate",
    read: read_generated,
    usage: |_| None,
    stream: None,
};

/// Asks `vllm serve`, or vLLM's legacy api_server.
#[derive(Debug, Clone)]
pub struct VllmWorker {
    remote: Remote,
    api: VllmApi,
    /// The model that the server names first, where none was given.
    served: Arc<OnceCell<String>>,
}

impl VllmWorker {
    /// Asks the server at `VLLM_URL`, by default `http://localhost:8000`, for the model it serves.
    pub fn new() -> Self {
        Self {
            remote: Remote::new(&DIALECT, None),
            api: VllmApi::Chat,
            served: Arc::default(),
        }
    }

    /// Asks through this endpoint.
    pub fn with_api(mut self, api: VllmApi) -> Self {
        self.api = api;
        self
    }

    /// Caps an answer at so many tokens.
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.remote.server.sampling.max_tokens = max_tokens;
        self
    }

    pub(super) fn planned(api: VllmApi, server: &Server, http: &Http) -> Self {
        Self {
            remote: Remote::planned(&DIALECT, server, http),
            api,
            served: Arc::default(),
        }
    }

    async fn answer(&self, request: &Request) -> Result<Completion, CallError> {
        let sampling = &self.remote.server.sampling;
        match self.api {
            VllmApi::Chat => {
                let body = chat::body(Some(self.model().await?), request, sampling)
                    .with("max_tokens", sampling.max_tokens)
                    .maybe("response_format", chat::format(request));
                let endpoint = chat::endpoint("/v1/chat/completions");
                self.remote.ask(endpoint, more(body, sampling)).await
            }
            VllmApi::Completions => {
                let body = completions::body(Some(self.model().await?), request, sampling)
                    .maybe("response_format", chat::format(request));
                let endpoint = completions::endpoint("/v1/completions");
                self.remote.ask(endpoint, more(body, sampling)).await
            }
            VllmApi::Generate => {
                // Its parameters are those of the completions; it knows no model and refuses one.
                let body = completions::body(None, request, sampling);
                let body = more(body, sampling).with("stream", false);
                let mut completion = self.remote.ask(GENERATE, body).await?;
                // The prompt stands in front of the answer, unless the server has decoded it
                // differently: then all of it is kept rather than some of it lost.
                if let Some(answer) = completion.text.strip_prefix(&request.as_prompt()) {
                    completion.text = answer.to_owned();
                }
                Ok(completion)
            }
        }
    }

    /// The legacy server has no endpoint that counts.
    async fn counted(&self, request: &Request) -> Option<Result<u64, CallError>> {
        match self.api {
            VllmApi::Generate => None,
            api => Some(self.tokenize(api, request).await),
        }
    }

    async fn tokenize(&self, api: VllmApi, request: &Request) -> Result<u64, CallError> {
        let body = Body::default().with("model", self.model().await?);
        let body = match api {
            VllmApi::Chat => {
                let messages: Vec<_> = request.messages.iter().map(chat::message).collect();
                body.with("messages", messages)
            }
            VllmApi::Completions | VllmApi::Generate => body.with("prompt", request.as_prompt()),
        };
        let read = |json: &Json<'_>| json["count"].as_count();
        self.remote.count("/tokenize", body.json(), read).await
    }

    /// How many requests the server works on and how many wait.
    async fn queue(&self) -> Option<Load> {
        if self.api == VllmApi::Generate {
            // The legacy server has no such page.
            return None;
        }
        let page = self.remote.glance("/metrics").await?;
        let page = String::from_utf8_lossy(&page);
        let load = Load {
            slots: None,
            running: gauge(&page, "vllm:num_requests_running"),
            waiting: gauge(&page, "vllm:num_requests_waiting"),
        };
        Some(load).filter(|load| *load != Load::default())
    }

    async fn model(&self) -> Result<&str, CallError> {
        match &self.remote.server.model {
            Some(model) => Ok(model),
            None => {
                let served = self.served.get_or_try_init(|| self.first_model()).await?;
                Ok(served)
            }
        }
    }

    async fn first_model(&self) -> Result<String, CallError> {
        let listed = self.remote.first_model().await;
        let first = listed.map_err(|error| match error.class {
            // Nothing was generated, so nothing can have been billed.
            ErrorClass::Ambiguous | ErrorClass::Invalid => CallError {
                class: ErrorClass::Server,
                ..error
            },
            _ => error,
        })?;
        first.ok_or_else(|| {
            let server = origin(&self.remote.server.url);
            let message = format!("{server} lists no model (name one as `model`)");
            CallError::new(ErrorClass::Config, message)
        })
    }
}

impl Default for VllmWorker {
    fn default() -> Self {
        Self::new()
    }
}

remote_builders!(VllmWorker, load: queue, count: counted);

/// What vLLM has beyond OpenAI's parameters.
fn more(body: Body, sampling: &Sampling) -> Body {
    body.maybe("top_k", sampling.top_k)
        .maybe("min_p", sampling.min_p)
}

/// A gauge in Prometheus' text, summed over its labels (the engines of a server with several).
fn gauge(page: &str, name: &str) -> Option<u64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix(name)?;
        // Not a longer name that begins like this one; a label may hold a space or a brace.
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix([' ', '\t'])?,
        };
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        (0.0..=9e15).contains(&value).then_some(value as u64)
    });
    values.fold(None, |sum: Option<u64>, value| {
        Some(sum.unwrap_or(0).saturating_add(value))
    })
}

fn read_generated(reply: &Json<'_>) -> Result<Completion, String> {
    let text = match &reply["text"] {
        Json::Array(texts) => texts.first().and_then(Json::as_str),
        text => text.as_str(),
    };
    text.map(Completion::text)
        .ok_or_else(|| "no text".to_owned())
}
