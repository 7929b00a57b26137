//! What came back: text, why it ended, what it used.

use serde::{Deserialize, Serialize};

use super::Allowances;

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done, or a stop sequence was met.
    Stop,
    /// The output cap or the context window ended it: the text is cut.
    Length,
    /// The provider's filter cut it.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// A reason that this program does not know, as the provider wrote it.
    Other(String),
}

impl FinishReason {
    /// The name in results: `stop`, `length`, `content_filter`, `refusal`, or the provider's own.
    pub fn as_str(&self) -> &str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::Refusal => "refusal",
            FinishReason::Other(reason) => reason,
        }
    }

    /// The reverse of [`FinishReason::as_str`].
    pub fn from_name(name: &str) -> Self {
        match name {
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            "refusal" => FinishReason::Refusal,
            other => FinishReason::Other(other.to_owned()),
        }
    }
}

/// Token counts in OpenTelemetry's names. A class the provider did not report is `None`, never 0.
///
/// `input_tokens` is *all* input, cached tokens included, and `output_tokens` all output, reasoning
/// included, whatever the provider's own convention; the other counts are parts of those two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// All output tokens, reasoning included.
    pub output_tokens: Option<u64>,
    /// Of the input: read from the provider's prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_input_tokens: Option<u64>,
    /// Of the input: written to the prompt cache, short lifetime (Anthropic: 5 minutes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_5m_input_tokens: Option<u64>,
    /// Of the input: written to the prompt cache for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_input_tokens: Option<u64>,
    /// Of the output: thinking that is not part of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_output_tokens: Option<u64>,
    /// Of the input: audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input_tokens: Option<u64>,
    /// Of the output: audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output_tokens: Option<u64>,
    /// Of the input: images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input_tokens: Option<u64>,
}

impl Usage {
    /// Usage with only the two totals known.
    pub fn new(input_tokens: u64, output_tokens: u64) -> Self {
        Self {
            input_tokens: Some(input_tokens),
            output_tokens: Some(output_tokens),
            ..Self::default()
        }
    }

    /// Adds another usage class by class; a class stays `None` only while neither side has it.
    pub fn add(&mut self, other: &Usage) {
        fn sum(into: &mut Option<u64>, value: Option<u64>) {
            if let Some(value) = value {
                *into = Some(into.unwrap_or(0).saturating_add(value));
            }
        }
        sum(&mut self.input_tokens, other.input_tokens);
        sum(&mut self.output_tokens, other.output_tokens);
        sum(
            &mut self.cache_read_input_tokens,
            other.cache_read_input_tokens,
        );
        sum(
            &mut self.cache_write_5m_input_tokens,
            other.cache_write_5m_input_tokens,
        );
        sum(
            &mut self.cache_write_1h_input_tokens,
            other.cache_write_1h_input_tokens,
        );
        sum(
            &mut self.reasoning_output_tokens,
            other.reasoning_output_tokens,
        );
        sum(&mut self.audio_input_tokens, other.audio_input_tokens);
        sum(&mut self.audio_output_tokens, other.audio_output_tokens);
        sum(&mut self.image_input_tokens, other.image_input_tokens);
    }
}

/// A reply that a worker understood.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The text, byte for byte; empty when there is none.
    pub text: String,
    /// Why the model stopped; `None` where the endpoint does not say.
    pub finish_reason: Option<FinishReason>,
    /// The words of a refusal, where the provider sends them apart from the text.
    pub refusal: Option<String>,
    /// What was used; `None` where the endpoint does not say.
    pub usage: Option<Usage>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// The provider's id of the request, for its support.
    pub request_id: Option<String>,
    /// What the server says of its limits, where it does.
    pub allowances: Option<Box<Allowances>>,
}

impl Completion {
    /// A completion that is only text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            finish_reason: None,
            refusal: None,
            usage: None,
            model: None,
            request_id: None,
            allowances: None,
        }
    }
}
