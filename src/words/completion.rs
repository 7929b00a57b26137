//! What came back: text, why it ended.

use super::{Allowances, Usage};

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
    /// Why it is not what the job says that an answer must be; `None` where it is, or where the job does not say.
    pub invalid: Option<String>,
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
            invalid: None,
            allowances: None,
        }
    }
}
