//! What a backend does at this moment.

use std::sync::Arc;
use std::time::Duration;

/// A backend as it is while a run asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendNow {
    /// Its name in the job.
    pub backend: Arc<str>,
    /// How many requests are on their way to it.
    pub in_flight: u64,
    /// How many may be; backends of one account share that number.
    pub allowed: usize,
    /// How many requests were sent to it in this run.
    pub sent: u64,
    /// What its next request waits for.
    pub waits_for: WaitsFor,
}

/// What holds up the next request to a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitsFor {
    /// Nothing, or there is no next request.
    #[default]
    Nothing,
    /// For one of those in flight to come back.
    Place,
    /// For its limit of requests.
    Requests,
    /// For a limit of tokens.
    Tokens,
    /// For the pace that its refusals have taught.
    Pace,
    /// It refused because it was asked too much: so much longer nothing is sent, or, with nothing left of that, one
    /// request at a time.
    Throttled(Duration),
    /// It failed again and again: so much longer nothing is sent, then one request.
    Down(Duration),
    /// It is not asked any more.
    Stopped,
}

impl WaitsFor {
    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitsFor::Nothing => "nothing",
            WaitsFor::Place => "place",
            WaitsFor::Requests => "requests",
            WaitsFor::Tokens => "tokens",
            WaitsFor::Pace => "pace",
            WaitsFor::Throttled(_) => "throttled",
            WaitsFor::Down(_) => "down",
            WaitsFor::Stopped => "stopped",
        }
    }
}
