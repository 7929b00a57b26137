//! How many tokens a request will be counted with, before anybody knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::job::{Backend, BackendKind};
use crate::words::{Request, Usage};

/// Bytes of English text in a token, roughly: where to begin.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Tokens that the message format adds to each message, roughly.
const TOKENS_PER_MESSAGE: u64 = 4;
/// How much a new observation counts against all earlier ones.
const WEIGHT: f64 = 0.1;
/// What is expected is raised by this, so that half of the requests are not too large.
const MARGIN: f64 = 1.2;

/// Tokens of one request, estimated or real.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Input that counts.
    pub(super) input: u64,
    /// Output that counts.
    pub(super) output: u64,
    /// Whether the output is only expected: a request is not too large for that.
    pub(super) is_guess: bool,
}

/// What a provider counts, and what was seen so far.
#[derive(Debug)]
pub(super) struct Accounting {
    cap: Option<u64>,
    /// Whether the whole output cap is counted when the request comes in.
    counts_cap: bool,
    /// Whether input that is read from the provider's cache is free of the limit (Anthropic:
    /// <https://docs.anthropic.com/en/api/rate-limits>).
    cached_is_free: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    tokens_per_byte: f64,
    output: Option<f64>,
}

impl Accounting {
    /// The accounting of a backend's provider.
    pub(super) fn of(backend: &Backend) -> Self {
        Self {
            cap: backend.max_tokens().map(u64::from),
            counts_cap: backend.counts_cap(),
            cached_is_free: matches!(backend.kind, BackendKind::Anthropic(..)),
            seen: Mutex::new(Seen {
                tokens_per_byte: 1.0 / BYTES_PER_TOKEN,
                output: None,
            }),
        }
    }

    /// What a request will be counted with.
    pub(super) fn estimate(&self, request: &Request) -> Tokens {
        let seen = self.seen();
        let cap = self.cap.unwrap_or(u64::MAX);
        let input = request.bytes() as f64 * seen.tokens_per_byte;
        let output = match (self.counts_cap, self.cap, seen.output) {
            (true, Some(cap), _) | (false, Some(cap), None) => cap,
            (_, None, None) => 0,
            (_, _, Some(output)) => ((output * MARGIN) as u64).min(cap),
        };
        Tokens {
            input: input as u64 + request.messages.len() as u64 * TOKENS_PER_MESSAGE,
            output,
            is_guess: !self.counts_cap,
        }
    }

    /// What was really counted, and a lesson for the next estimates.
    pub(super) fn counted(&self, request: &Request, usage: &Usage) -> Option<Tokens> {
        let (input, output) = usage.input_tokens.zip(usage.output_tokens)?;
        let mut seen = self.seen();
        let text = input.saturating_sub(request.messages.len() as u64 * TOKENS_PER_MESSAGE);
        let per_byte = text as f64 / (request.bytes().max(1)) as f64;
        // No tokenizer makes more than a token of a byte; a server's odd word must not spoil the rest.
        seen.tokens_per_byte += (per_byte.clamp(0.01, 1.0) - seen.tokens_per_byte) * WEIGHT;
        let most = self.cap.unwrap_or(u64::MAX);
        let last = output.min(most) as f64;
        let before = seen.output.unwrap_or(last);
        seen.output = Some(before + (last - before) * WEIGHT);
        let cached = match self.cached_is_free {
            true => usage.cache_read_input_tokens.unwrap_or(0),
            false => 0,
        };
        Some(Tokens {
            input: input.saturating_sub(cached),
            output,
            is_guess: false,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while holding it; if something did, the averages are still numbers.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
