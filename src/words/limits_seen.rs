//! What a run learned of a backend's limits and moods.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whose word a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// The job's.
    Job,
    /// The server's, from the headers of its replies.
    Server,
}

impl LimitSource {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitSource::Job => "job",
            LimitSource::Server => "server",
        }
    }
}

/// A limiter at the end of a run. Backends of one account share one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsSeen {
    /// Requests a minute, and whose word that is.
    pub requests_per_minute: Option<(u64, LimitSource)>,
    /// Input and output tokens a minute.
    pub tokens_per_minute: Option<(u64, LimitSource)>,
    /// Input tokens a minute.
    pub input_tokens_per_minute: Option<(u64, LimitSource)>,
    /// Output tokens a minute.
    pub output_tokens_per_minute: Option<(u64, LimitSource)>,
    /// The pace in requests a minute that refusals have taught.
    pub learned_requests_per_minute: Option<u64>,
    /// How many requests were allowed in flight at the end.
    pub concurrency: usize,
    /// The most that ever were.
    pub most_in_flight: usize,
    /// How often what was allowed was cut.
    pub concurrency_cuts: u64,
    /// Requests that the server refused because it was too many (429) or too busy (529).
    pub refusals: u64,
    /// In how many episodes.
    pub refusal_episodes: u64,
    /// How long nothing was sent because of them.
    pub paused: Duration,
    /// How long requests waited for limits, all of them together.
    pub waited: Duration,
}

/// What a run learned of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendSeen {
    /// Its name in the job.
    pub backend: String,
    /// Its limits.
    pub limits: LimitsSeen,
    /// How often its breaker opened.
    pub breaker_opened: u64,
    /// Requests that tried whether it is back while the breaker was open.
    pub probes: u64,
    /// Rows that were put off because it had used up its retries.
    pub deferred: u64,
    /// Why it was not asked any more, if so.
    pub stopped: Option<String>,
}
