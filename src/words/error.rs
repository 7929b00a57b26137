//! What can go wrong in a call, classified once, by the worker that saw the reply.

use std::time::Duration;

use super::{Allowances, Usage};

/// The longest wait that is a matter of pace. A provider that asks for more is out of quota.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// The ten classes of a failed (or flagged) attempt. Everything above the workers asks the class
/// questions; nobody matches on status numbers or message text again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// Nothing reached the server: name lookup, connect, TLS handshake. Costs nothing.
    NotSent,
    /// The set-up is wrong: key, address, model, certificate. Every row would fail alike.
    Config,
    /// This row's request is refused (400, 413, 422, context length). Other rows are fine.
    RowFatal,
    /// Money or quota is used up. Waiting a moment does not help.
    Exhausted,
    /// Too fast or too busy (429, 529). Waiting helps.
    Throttled,
    /// The server failed (500, 503).
    Server,
    /// Nobody knows whether it ran: a time-out or a cut after the request was sent, 502, 504.
    Ambiguous,
    /// A reply came and was billed, but it is no valid answer.
    Invalid,
    /// A valid reply that is cut, refused or filtered.
    Flagged,
    /// Given up by this program: stopped by the user.
    Cancelled,
}

impl ErrorClass {
    /// Every class, in the order of the contract's table.
    pub const ALL: [ErrorClass; 10] = [
        ErrorClass::NotSent,
        ErrorClass::Config,
        ErrorClass::RowFatal,
        ErrorClass::Exhausted,
        ErrorClass::Throttled,
        ErrorClass::Server,
        ErrorClass::Ambiguous,
        ErrorClass::Invalid,
        ErrorClass::Flagged,
        ErrorClass::Cancelled,
    ];

    /// The name in results and job files.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::NotSent => "not_sent",
            ErrorClass::Config => "config",
            ErrorClass::RowFatal => "row_fatal",
            ErrorClass::Exhausted => "exhausted",
            ErrorClass::Throttled => "throttled",
            ErrorClass::Server => "server",
            ErrorClass::Ambiguous => "ambiguous",
            ErrorClass::Invalid => "invalid",
            ErrorClass::Flagged => "flagged",
            ErrorClass::Cancelled => "cancelled",
        }
    }

    /// The reverse of [`ErrorClass::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Whether the backend is of no use for the rest of the run.
    pub fn stops_backend(self) -> bool {
        matches!(self, ErrorClass::Config | ErrorClass::Exhausted)
    }

    /// Whether the provider may have billed the attempt although no usable reply came.
    pub fn possibly_billed(self) -> bool {
        matches!(
            self,
            ErrorClass::Ambiguous | ErrorClass::Cancelled | ErrorClass::Invalid
        )
    }
}

/// A classified failure of one call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct CallError {
    /// What it means for the row and the backend.
    pub class: ErrorClass,
    /// What happened, for a person: a lowercase fragment without secrets.
    pub message: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The provider's own code or type, where there was one.
    pub code: Option<String>,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// What was used, where a reply that is no answer still says so.
    pub usage: Option<Box<Usage>>,
    /// Whether an answer had begun when it failed: tokens were made of which nobody knows how many.
    pub has_begun: bool,
    /// Whether the server says that the same request should be sent again, where it says so.
    pub should_retry: Option<bool>,
    /// What the server says of its limits, where it does.
    pub allowances: Option<Box<Allowances>>,
}

impl CallError {
    /// A failure of this class; the other fields start empty.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            status: None,
            code: None,
            retry_after: None,
            request_id: None,
            usage: None,
            has_begun: false,
            should_retry: None,
            allowances: None,
        }
    }

    /// Whether the server is too busy for anybody, which is no limit of ours (Anthropic's 529).
    pub fn is_overload(&self) -> bool {
        self.class == ErrorClass::Throttled && self.status == Some(529)
    }

    /// Whether the server says that it is still loading its model (llama.cpp's 503).
    pub fn is_loading(&self) -> bool {
        self.status == Some(503) && self.code.as_deref() == Some("unavailable_error")
    }
}

/// An error and its causes, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What a worker's call ends in when it does not end in a reply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OrchestratorError {
    /// A custom worker failed, for the reason it gives. Treated as a server failure: retried, then
    /// the next backend.
    #[error("inference failed: {0}")]
    Inference(String),
    /// A classified failure of a call.
    #[error(transparent)]
    Call(Box<CallError>),
}

impl From<CallError> for OrchestratorError {
    fn from(error: CallError) -> Self {
        OrchestratorError::Call(Box::new(error))
    }
}

impl OrchestratorError {
    /// The class that decides what happens next.
    pub fn class(&self) -> ErrorClass {
        match self {
            OrchestratorError::Inference(_) => ErrorClass::Server,
            OrchestratorError::Call(error) => error.class,
        }
    }

    /// The same failure as a [`CallError`].
    pub fn into_call_error(self) -> CallError {
        match self {
            OrchestratorError::Inference(_) => CallError::new(ErrorClass::Server, self.to_string()),
            OrchestratorError::Call(error) => *error,
        }
    }
}
