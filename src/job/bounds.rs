//! What a request may cost at most, before it is made.

use std::time::Duration;

use super::plan::{Backend, BackendKind, EchoScript};
use crate::words::{Bounds, Request, Usd};

/// Tokens that a provider's message format may add to each message, generously.
const OVERHEAD_PER_MESSAGE: u64 = 64;
/// An answer that nothing caps is supposed to be no longer, and to take no longer, until it is known better.
const ORDINARY_TOKENS: u64 = 4_096;
const ORDINARY_TIME: Duration = Duration::from_secs(60);

impl Backend {
    /// The most that a request can cost; `None` where something is not bounded that makes a difference, or no
    /// price is known.
    pub fn most(&self, request: &Request) -> Option<Usd> {
        self.tariff.as_ref()?.price.most(&self.bounds(request))
    }

    /// What must be known before the cost of a request has a bound, as a key of the backend; `None` if it has one.
    pub fn unbounded(&self) -> Option<&'static str> {
        let Some(price) = self.price() else {
            return Some("price");
        };
        let is_echo = matches!(self.kind, BackendKind::Echo(_));
        let tokens = Bounds {
            input_bytes: 0,
            max_tokens: self.max_tokens().map(u64::from).or(is_echo.then_some(0)),
            timeout: Some(Duration::ZERO),
        };
        let time = Bounds {
            max_tokens: Some(0),
            timeout: self.longest().or(is_echo.then_some(Duration::ZERO)),
            ..tokens
        };
        match (price.most(&tokens), price.most(&time)) {
            (Some(_), Some(_)) => None,
            (None, _) => Some("max_tokens"),
            (_, None) => Some("timeout"),
        }
    }

    /// What a request may cost at most, as far as that can be said: where nothing caps an answer or its time, one of
    /// an ordinary length. `None` where no price is known.
    pub fn guess(&self, request: &Request) -> Option<Usd> {
        let bounds = self.bounds(request);
        self.price()?.most(&Bounds {
            max_tokens: bounds.max_tokens.or(Some(ORDINARY_TOKENS)),
            timeout: bounds.timeout.or(Some(ORDINARY_TIME)),
            ..bounds
        })
    }

    /// What bounds the cost of a request. A token of a byte-level vocabulary stands for at least one byte.
    pub fn bounds(&self, request: &Request) -> Bounds {
        let messages = request.messages.len() as u64;
        let bounds = Bounds {
            input_bytes: request.bytes() as u64 + messages * OVERHEAD_PER_MESSAGE,
            max_tokens: self.max_tokens().map(u64::from),
            timeout: self.longest(),
        };
        match &self.kind {
            BackendKind::Echo(script) => script.bounds(bounds, request),
            _ => bounds,
        }
    }

    /// How long a request may take, where that is limited.
    fn longest(&self) -> Option<Duration> {
        match &self.kind {
            BackendKind::OpenAi(_, server)
            | BackendKind::Anthropic(_, server)
            | BackendKind::LlamaCpp(_, server)
            | BackendKind::Vllm(_, server) => Some(server.timeout),
            BackendKind::Http(http) => Some(http.timeout),
            BackendKind::Echo(_) | BackendKind::Custom => self.timeout,
        }
    }
}

impl EchoScript {
    /// It reports what the job says, or counts words.
    fn bounds(&self, bounds: Bounds, request: &Request) -> Bounds {
        let (input_bytes, output) = match self.usage {
            Some(usage) => (usage.input_tokens, usage.output_tokens),
            None => {
                // One that cannot be rendered is none.
                let answer = self.answer(request).unwrap_or_default();
                (bounds.input_bytes, answer.len() as u64)
            }
        };
        Bounds {
            input_bytes,
            max_tokens: Some(output),
            timeout: bounds.timeout.or(Some(self.delay * 2)),
        }
    }
}
