//! What a server says of its own limits.

use std::time::Duration;

/// One limit as a reply's headers tell it. Any part may be missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How much a minute may hold.
    pub limit: Option<u64>,
    /// How much of that was left when the server took the request.
    pub remaining: Option<u64>,
    /// How long until all of it is there again.
    pub reset: Option<Duration>,
}

/// The limits that a reply's headers tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowances {
    /// Requests.
    pub requests: Allowance,
    /// Input and output tokens together.
    pub tokens: Allowance,
    /// Input tokens.
    pub input_tokens: Allowance,
    /// Output tokens.
    pub output_tokens: Allowance,
}

/// How busy a server says that it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// How many requests it works on at once (llama.cpp's slots).
    pub slots: Option<usize>,
    /// How many it works on now.
    pub running: Option<u64>,
    /// How many wait in its own queue (vLLM).
    pub waiting: Option<u64>,
}
