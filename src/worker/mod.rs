//! Layer 2: the workers. One request in, one classified result out.
//!
//! What this folder promises: a worker speaks exactly one protocol, a provider's or a declared one, sends one HTTP request
//! per call and never retries; whatever the provider says is turned into a [`Completion`] or an
//! [`OrchestratorError`] here, once. Keys come from the environment by name, cannot be printed and go
//! only to their own backend's origin. Only `http.rs` names the HTTP client.

mod declared;
mod echo;

mod anthropic;
mod llama_cpp;
mod openai;
mod vllm;

mod allowances;
mod builders;
mod causes;
mod classify;
mod fault;
mod http;
mod json;
mod key;
pub(crate) mod parts;
mod remote;
mod retry_after;
mod served;
mod stream;
mod text;
mod unsent;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;

pub use anthropic::AnthropicWorker;
pub use echo::EchoWorker;
pub use http::Http;
pub use llama_cpp::LlamaCppWorker;
pub use openai::OpenAiWorker;
pub use served::served;
pub use unsent::{UnsentRequest, unsent};
pub use vllm::VllmWorker;

use self::declared::DeclaredWorker;
use crate::job::{Backend, BackendKind};
use crate::words::{Completion, Load, OrchestratorError, Request};

/// A backend that can be asked.
///
/// A custom worker needs only [`infer`](ModelWorker::infer); the built-in ones also implement
/// [`complete`](ModelWorker::complete), which carries what `infer` cannot: system messages, usage,
/// finish reason, request id.
#[async_trait]
pub trait ModelWorker: Send + Sync {
    /// Answers a plain prompt with tokens. Their texts joined by single spaces are the answer.
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError>;

    /// Answers a request. The default asks [`infer`](ModelWorker::infer) with all messages as one
    /// text and joins the tokens with single spaces.
    async fn complete(&self, request: &Request) -> Result<Completion, OrchestratorError> {
        let tokens = self.infer(&request.as_prompt()).await?;
        Ok(Completion::text(tokens.join(" ")))
    }

    /// How busy the server says that it is; `None` where it does not say. Costs nothing.
    async fn load(&self) -> Option<Load> {
        None
    }

    /// How many input tokens the request has, as the server counts them; `None` where it has no way to count without
    /// being asked. Costs nothing.
    async fn count_tokens(&self, _request: &Request) -> Option<Result<u64, OrchestratorError>> {
        None
    }
}

/// Makes a backend live; `None` for one that the program supplies itself.
pub fn build(backend: &Backend, http: &Http) -> Option<Arc<dyn ModelWorker>> {
    Some(match &backend.kind {
        BackendKind::Echo(script) => Arc::new(EchoWorker::scripted(script.clone())),
        BackendKind::OpenAi(api, server) => Arc::new(OpenAiWorker::planned(*api, server, http)),
        BackendKind::Anthropic(api, server) => {
            Arc::new(AnthropicWorker::planned(*api, server, http))
        }
        BackendKind::LlamaCpp(api, server) => Arc::new(LlamaCppWorker::planned(*api, server, http)),
        BackendKind::Vllm(api, server) => Arc::new(VllmWorker::planned(*api, server, http)),
        BackendKind::Http(backend) => Arc::new(DeclaredWorker::planned(backend, http)),
        BackendKind::Custom => return None,
    })
}
