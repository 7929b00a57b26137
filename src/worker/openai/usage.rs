//! The usage object of chat and completions.

use serde::Deserialize;
use serde_json::Value;

use crate::words::Usage;
use crate::worker::wire::{count, maybe, read};

#[derive(Debug, Deserialize)]
struct WireUsage {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    total_tokens: Option<u64>,
    #[serde(default, deserialize_with = "maybe")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "maybe")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Default, Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_write_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    audio_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    image_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    audio_tokens: Option<u64>,
}

/// The usage in a reply; cached and reasoning tokens are already inside the totals.
pub(super) fn usage(reply: &Value) -> Option<Usage> {
    let wire: WireUsage = read(&reply["usage"])?;
    let input = wire.prompt_tokens_details.unwrap_or_default();
    let output = wire.completion_tokens_details.unwrap_or_default();
    let usage = Usage {
        input_tokens: wire.prompt_tokens,
        output_tokens: wire.completion_tokens,
        cache_read_input_tokens: input.cached_tokens,
        cache_write_5m_input_tokens: input.cache_write_tokens,
        reasoning_output_tokens: output.reasoning_tokens,
        audio_input_tokens: input.audio_tokens,
        audio_output_tokens: output.audio_tokens,
        image_input_tokens: input.image_tokens,
        ..Usage::default()
    };
    usage.checked(wire.total_tokens)
}
