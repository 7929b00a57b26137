//! What a request may cost at most, before it is made.

use std::time::Duration;

use super::plan::{Backend, BackendKind, EchoScript};
use crate::words::{Bounds, Request, Usd};

/// Tokens that a provider's message format may add to each message, generously.
const OVERHEAD_PER_MESSAGE: u64 = 64;

impl Backend {
    /// The most that a request can cost; `None` where something is not bounded that makes a difference, or no
    /// price is known.
    pub fn most(&self, request: &Request) -> Option<Usd> {
        self.tariff.as_ref()?.price.most(&self.bounds(request))
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
