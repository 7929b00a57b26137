//! Whose protocol a backend speaks, and what is known of that provider before any job says more.

use std::time::Duration;

/// Whose protocol and whose rules a backend follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI's API or a server that speaks it.
    OpenAi,
    /// Anthropic's API or a server that speaks it.
    Anthropic,
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// `vllm serve`, or vLLM's legacy api_server.
    Vllm,
}

impl Provider {
    /// The environment variable that may hold the server's address.
    pub fn url_env(self) -> &'static str {
        match self {
            Provider::OpenAi => "OPENAI_BASE_URL",
            Provider::Anthropic => "ANTHROPIC_BASE_URL",
            Provider::LlamaCpp => "LLAMA_CPP_URL",
            Provider::Vllm => "VLLM_URL",
        }
    }

    /// The address where nobody names another: OpenAI's with the API's version, the others' the root.
    pub fn default_url(self) -> &'static str {
        match self {
            Provider::OpenAi => "https://api.openai.com/v1",
            Provider::Anthropic => "https://api.anthropic.com",
            Provider::LlamaCpp => "http://localhost:8080",
            Provider::Vllm => "http://localhost:8000",
        }
    }

    /// The environment variable that holds the key, where one is required.
    pub fn key_env(self) -> Option<&'static str> {
        match self {
            Provider::OpenAi => Some("OPENAI_API_KEY"),
            Provider::Anthropic => Some("ANTHROPIC_API_KEY"),
            Provider::LlamaCpp | Provider::Vllm => None,
        }
    }

    /// How long a reply may take where nobody says otherwise.
    pub fn default_timeout(self) -> Duration {
        match self {
            Provider::OpenAi | Provider::LlamaCpp => Duration::from_secs(30),
            Provider::Anthropic | Provider::Vllm => Duration::from_secs(60),
        }
    }

    /// The base address in the form that paths are added to: no slash at the end, and the API's
    /// version only where the provider's address is written with it.
    pub fn base_url(self, url: &str) -> &str {
        let url = url.trim().trim_end_matches('/');
        match self {
            Provider::OpenAi => url,
            _ => url.strip_suffix("/v1").unwrap_or(url).trim_end_matches('/'),
        }
    }
}
