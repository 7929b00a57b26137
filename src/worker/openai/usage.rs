//! The usage object of chat and completions.

use crate::words::Usage;
use crate::worker::json::Json;

/// The usage in a reply; cached and reasoning tokens are already inside the totals.
pub(super) fn usage(reply: &Json<'_>) -> Option<Usage> {
    let wire = reply["usage"].as_object()?;
    let count = |name: &str| wire[name].as_count();
    let input = |name: &str| wire["prompt_tokens_details"][name].as_count();
    let output = |name: &str| wire["completion_tokens_details"][name].as_count();
    let usage = Usage {
        input_tokens: count("prompt_tokens"),
        output_tokens: count("completion_tokens"),
        cache_read_input_tokens: input("cached_tokens"),
        cache_write_5m_input_tokens: input("cache_write_tokens"),
        reasoning_output_tokens: output("reasoning_tokens"),
        audio_input_tokens: input("audio_tokens"),
        audio_output_tokens: output("audio_tokens"),
        image_input_tokens: input("image_tokens"),
        ..Usage::default()
    };
    usage.checked(count("total_tokens"))
}
