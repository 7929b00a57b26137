//! Who can be asked: whose key is in the environment, which server on this machine answers.

use std::time::Duration;

use futures::future::join_all;

use crate::words::Provider;
use crate::worker::served;

/// How long a server on this machine may take to name its model.
const SOON: Duration = Duration::from_millis(300);

/// A backend that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whose API it speaks.
    pub(super) provider: Provider,
    /// The model to ask for, where one has to be named.
    pub(super) model: Option<String>,
}

/// What a provider's backend is called in the job, its type, and the model that is asked first: one that is cheap.
pub(super) fn names(provider: Provider) -> (&'static str, &'static str, &'static str) {
    match provider {
        Provider::OpenAi => ("gpt", "openai", "gpt-4o-mini"),
        Provider::Anthropic => ("claude", "anthropic", "claude-haiku-4-5"),
        Provider::LlamaCpp => ("local", "llama_cpp", ""),
        Provider::Vllm => ("vllm", "vllm", "meta-llama/Llama-3.1-8B-Instruct"),
    }
}

/// Those that can be asked, the ones that cost nothing first.
pub(super) async fn find(env: &dyn Fn(&str) -> Option<String>) -> Vec<Found> {
    let value = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let local = [Provider::LlamaCpp, Provider::Vllm].map(|provider| {
        let url = value(provider.url_env());
        let url = url.unwrap_or_else(|| provider.default_url().to_owned());
        async move {
            let model = served(provider, &url, SOON).await?;
            // llama.cpp serves one model, whatever it is asked for.
            let model = Some(model).filter(|_| provider != Provider::LlamaCpp);
            Some(Found { provider, model })
        }
    });
    let mut found: Vec<Found> = join_all(local).await.into_iter().flatten().collect();
    for provider in [Provider::OpenAi, Provider::Anthropic] {
        if provider.key_env().and_then(value).is_some() {
            let (_, _, model) = names(provider);
            let model = Some(model.to_owned());
            found.push(Found { provider, model });
        }
    }
    found
}
