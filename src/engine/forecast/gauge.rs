//! The tokens of a request on one backend, before it is asked.

use std::time::Duration;

use super::history::Past;
use super::mean::Mean;
use super::tokenizer::{Vocabulary, vocabulary};
use super::{Counted, OutputFrom};
use crate::job::{Backend, BackendKind, EchoScript, OpenAiApi};
use crate::words::{Request, Usage, Usd};

/// Bytes of English text for so many tokens, where nothing better is known: what OpenAI says of its models
/// (<https://help.openai.com/en/articles/4936856>), and about what the vocabularies of open models come to.
const RULE_OF_THUMB: (u64, u64) = (4, 1);
/// What Anthropic says of its own (<https://docs.anthropic.com/en/docs/about-claude/glossary>).
const ANTHROPICS_RULE: (u64, u64) = (7, 2);
/// Tokens that the message format adds to each message, roughly.
const PER_MESSAGE: u64 = 4;
/// An answer is taken to be half as long as its cap, but no longer than this.
const LONGEST_GUESS: u64 = 128;

/// What is known of a backend's tokens.
pub(super) struct Gauge<'a> {
    pub(super) backend: &'a Backend,
    pub(super) past: Past,
    input: Input,
    output: Output,
    /// How many replies were drawn up so far.
    drawn: u64,
    /// What the server counted of its sample, in order; or why it did not.
    pub(super) by_server: Option<Result<Vec<u64>, String>>,
}

enum Input {
    Exactly,
    Tokenizer(OpenAiApi, Vocabulary),
    AsBefore(Mean),
    Estimate { bytes: u64, tokens: u64 },
}

enum Output {
    Exactly,
    Given(u64),
    AsBefore(Mean),
    Assumed(u64),
}

impl<'a> Gauge<'a> {
    /// What is known of a backend and its past; `given` are the output tokens of an answer, if somebody said so.
    pub(super) fn of(backend: &'a Backend, past: Past, given: Option<u64>) -> Self {
        let cap = backend.max_tokens().map_or(u64::MAX, u64::from);
        let output = match (&backend.kind, given) {
            (BackendKind::Echo(_), _) => Output::Exactly,
            (_, Some(tokens)) => Output::Given(tokens.min(cap)),
            _ if past.output.over() > 0 => Output::AsBefore(past.output),
            _ => Output::Assumed((cap / 2).clamp(1, LONGEST_GUESS)),
        };
        Self {
            input: Input::of(backend, &past),
            output,
            backend,
            past,
            drawn: 0,
            by_server: None,
        }
    }

    /// What the server counted of its sample, or why it did not.
    pub(super) fn counted_by_server(&mut self, counted: Option<Result<Vec<u64>, String>>) {
        self.by_server = counted;
    }

    /// The input tokens of a request.
    pub(super) fn input(&self, request: &Request) -> u64 {
        match &self.input {
            Input::Exactly => self.scripted(request).input_tokens.unwrap_or(0),
            Input::Tokenizer(api, vocabulary) => vocabulary.tokens(*api, request),
            Input::AsBefore(mean) => mean.of(request.bytes() as u64).unwrap_or(0),
            Input::Estimate { bytes, tokens } => {
                let text = (request.bytes() as u64).saturating_mul(*tokens);
                text.div_ceil(*bytes) + request.messages.len() as u64 * PER_MESSAGE
            }
        }
    }

    /// The output tokens of the next reply: the expected ones, and the fewest that can be.
    pub(super) fn output(&mut self, request: &Request) -> (u64, u64) {
        let place = self.drawn;
        self.drawn += 1;
        match &self.output {
            Output::Exactly => {
                let exactly = self.scripted(request).output_tokens.unwrap_or(0);
                (exactly, exactly)
            }
            Output::Given(tokens) | Output::Assumed(tokens) => (*tokens, 1.min(*tokens)),
            Output::AsBefore(mean) => {
                let expected = mean.at(place).unwrap_or(0);
                (expected, 1.min(expected))
            }
        }
    }

    /// Whether its limits ever let a request with so much input pass.
    pub(super) fn fits(&self, input: u64) -> bool {
        let limits = &self.backend.limits;
        let cap = self.backend.max_tokens().map(u64::from);
        let reserved = cap.filter(|_| self.backend.counts_cap()).unwrap_or(0);
        let all = input.saturating_add(reserved);
        limits.tokens_per_minute.is_none_or(|most| all <= most)
            && limits
                .input_tokens_per_minute
                .is_none_or(|most| input <= most)
    }

    /// How long a reply takes, where that is known.
    pub(super) fn latency(&self) -> Option<Duration> {
        match &self.backend.kind {
            BackendKind::Echo(script) => Some(script.delay),
            _ => self.past.latency(),
        }
    }

    /// What was paid before, and how much of it was of use; of a script everything is known without that.
    pub(super) fn in_vain(&self) -> Option<(Usd, Usd)> {
        match &self.backend.kind {
            BackendKind::Echo(_) => None,
            _ => self.past.in_vain(),
        }
    }

    /// How input is counted.
    pub(super) fn counted(&self) -> Counted {
        if let Some(Ok(_)) = &self.by_server {
            return Counted::ByTheServer;
        }
        match &self.input {
            Input::Exactly => Counted::Exactly,
            Input::Tokenizer(_, vocabulary) => vocabulary.counted.clone(),
            Input::AsBefore(_) => Counted::AsBefore(self.past.compared),
            Input::Estimate { bytes, tokens } => Counted::Estimate {
                bytes: *bytes,
                tokens: *tokens,
            },
        }
    }

    /// Where the output is from.
    pub(super) fn expected_from(&self) -> OutputFrom {
        match &self.output {
            Output::Exactly => OutputFrom::Exactly,
            Output::Given(tokens) => OutputFrom::Given(*tokens),
            Output::AsBefore(mean) => OutputFrom::AsBefore(mean.over()),
            Output::Assumed(tokens) => OutputFrom::Assumed(*tokens),
        }
    }

    /// What the script reports of an answer; one that cannot be rendered is none.
    fn scripted(&self, request: &Request) -> Usage {
        let BackendKind::Echo(script) = &self.backend.kind else {
            return Usage::default();
        };
        let used = |script: &EchoScript| Some(script.used(request, &script.answer(request).ok()?));
        used(script).unwrap_or_default()
    }
}

impl Input {
    fn of(backend: &Backend, past: &Past) -> Self {
        let openai = match &backend.kind {
            BackendKind::Echo(_) => return Input::Exactly,
            BackendKind::OpenAi(api, server) => {
                let vocabulary = vocabulary(server.model.as_deref().unwrap_or_default());
                vocabulary.map(|vocabulary| (*api, vocabulary))
            }
            _ => None,
        };
        let rule = match &backend.kind {
            BackendKind::Anthropic(..) => ANTHROPICS_RULE,
            _ => RULE_OF_THUMB,
        };
        match openai {
            Some((api, vocabulary)) if past.compared == 0 || vocabulary.is_the_models() => {
                Input::Tokenizer(api, vocabulary)
            }
            _ if past.compared > 0 => Input::AsBefore(past.input),
            _ => Input::Estimate {
                bytes: rule.0,
                tokens: rule.1,
            },
        }
    }
}
