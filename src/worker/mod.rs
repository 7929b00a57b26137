//! Layer 2: the workers. One request in, one classified result out.
//!
//! What this folder promises: a worker speaks exactly one provider's protocol, sends one HTTP request
//! per call and never retries; whatever the provider says is turned into a [`Completion`] or an
//! [`OrchestratorError`] here, once. Keys come from the environment by name, cannot be printed and go
//! only to their own backend's origin. Only `http.rs` names the HTTP client.

mod echo;

use async_trait::async_trait;

pub use echo::EchoWorker;

use crate::words::{Completion, OrchestratorError, Request};

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
}
