//! Which model a server on this machine has, without a worker that asks it.

use std::time::Duration;

use super::remote::Remote;
use super::{llama_cpp, vllm};
use crate::words::Provider;

/// The first model that a llama.cpp or vLLM server at this address lists; `None` unless it does so soon. Costs nothing.
pub async fn served(provider: Provider, url: &str, within: Duration) -> Option<String> {
    let dialect = match provider {
        Provider::LlamaCpp => &llama_cpp::DIALECT,
        Provider::Vllm => &vllm::DIALECT,
        // They have many, and want a key.
        Provider::OpenAi | Provider::Anthropic => return None,
    };
    let mut remote = Remote::new(dialect, None);
    url.clone_into(&mut remote.server.url);
    let listed = tokio::time::timeout(within, remote.first_model()).await;
    listed.ok()?.ok()?
}
