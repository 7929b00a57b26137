//! One request as a span and in the metrics, in the words of the GenAI conventions
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>).

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::json;
use tokio_prompt_orchestrator::job::{
    AnthropicApi, Backend, BackendKind, LlamaCppApi, OpenAiApi, VllmApi,
};
use tokio_prompt_orchestrator::words::{AttemptEnded, ErrorClass, Message};

use super::delivery::Delivery;
use crate::cli::log::Log;

/// Seconds, as the conventions draw the line.
const DURATIONS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Tokens, likewise.
const TOKENS: [f64; 14] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];
/// The most bytes of a name that a server or a row gives.
const NAME: usize = 256;
/// The most bytes of what is asked, and of what is answered. The queue holds many of them.
const CONTENT: usize = 16 * 1024;

/// Tells of requests.
pub struct Attempts {
    backends: HashMap<Arc<str>, Known>,
    spans: Option<Spans>,
    instruments: Option<Instruments>,
}

/// Where spans go.
pub struct Spans {
    pub tracer: SdkTracer,
    /// The run that they belong to.
    pub run: Context,
    pub log: Log,
    pub delivery: Delivery,
}

/// What is measured.
pub struct Instruments {
    duration: Histogram<f64>,
    tokens: Histogram<u64>,
}

/// What is the same for all requests of a backend.
#[derive(Default)]
struct Known {
    /// The name of its spans.
    span: String,
    attributes: Vec<KeyValue>,
}

impl Attempts {
    pub fn new(
        backends: &[Backend],
        spans: Option<Spans>,
        instruments: Option<Instruments>,
    ) -> Self {
        let known = backends
            .iter()
            .map(|backend| (Arc::clone(&backend.name), Known::of(backend)));
        Self {
            backends: known.collect(),
            spans,
            instruments,
        }
    }

    /// Tells of one that has ended.
    pub fn tell(&self, ended: &AttemptEnded<'_>) {
        let Some(known) = self.backends.get(&ended.attempt.backend) else {
            return;
        };
        let mut attributes = known.attributes.clone();
        attributes.extend(error(ended).map(|class| KeyValue::new("error.type", class.as_str())));
        if let Some(model) = ended.reply.and_then(|reply| reply.model.as_deref()) {
            let model = match &self.spans {
                Some(spans) => spans.name(model),
                None => cut(model, NAME).to_owned(),
            };
            attributes.push(KeyValue::new("gen_ai.response.model", model));
        }
        if let Some(instruments) = &self.instruments {
            instruments.record(ended, &attributes);
        }
        if let Some(spans) = &self.spans {
            spans.add(ended, &known.span, attributes);
        }
    }
}

impl Known {
    fn of(backend: &Backend) -> Self {
        let operation = operation(&backend.kind);
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", operation),
            KeyValue::new("gen_ai.provider.name", backend.kind.type_name()),
        ];
        let model = backend.model();
        attributes
            .extend(model.map(|model| KeyValue::new("gen_ai.request.model", model.to_owned())));
        if let Some((host, port)) = address(&backend.kind) {
            attributes.push(KeyValue::new("server.address", host));
            attributes.push(KeyValue::new("server.port", port));
        }
        Self {
            span: model.map_or(operation.to_owned(), |model| format!("{operation} {model}")),
            attributes,
        }
    }
}

impl Instruments {
    pub fn new(meter: &Meter) -> Self {
        Self {
            duration: meter
                .f64_histogram("gen_ai.client.operation.duration")
                .with_description("How long requests took")
                .with_unit("s")
                .with_boundaries(DURATIONS.to_vec())
                .build(),
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_description("How many tokens requests used")
                .with_unit("{token}")
                .with_boundaries(TOKENS.to_vec())
                .build(),
        }
    }

    fn record(&self, ended: &AttemptEnded<'_>, attributes: &[KeyValue]) {
        let seconds = ended.attempt.latency.as_secs_f64();
        self.duration.record(seconds, attributes);
        let usage = ended.attempt.usage.unwrap_or_default();
        for (kind, tokens) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
        ] {
            if let Some(tokens) = tokens {
                let kind = KeyValue::new("gen_ai.token.type", kind);
                self.tokens.record(tokens, &[attributes, &[kind]].concat());
            }
        }
    }
}

impl Spans {
    fn add(&self, ended: &AttemptEnded<'_>, name: &str, mut attributes: Vec<KeyValue>) {
        let attempt = ended.attempt;
        attributes.extend([
            KeyValue::new("runner.row", cut(&ended.item.row.id, NAME).to_owned()),
            KeyValue::new("runner.backend", attempt.backend.to_string()),
            KeyValue::new("runner.attempt", i64::from(attempt.number)),
            KeyValue::new("runner.kind", attempt.kind.as_str()),
        ]);
        let status = attempt.http_status.map(i64::from);
        attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", status)));
        let usage = attempt.usage.unwrap_or_default();
        for (name, tokens) in [
            ("gen_ai.usage.input_tokens", usage.input_tokens),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
            (
                "gen_ai.usage.cache_read.input_tokens",
                usage.cache_read_input_tokens,
            ),
            (
                "gen_ai.usage.reasoning.output_tokens",
                usage.reasoning_output_tokens,
            ),
        ] {
            let tokens = tokens.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX));
            attributes.extend(tokens.map(|tokens| KeyValue::new(name, tokens)));
        }
        let reason = ended.reply.and_then(|reply| reply.finish_reason.as_ref());
        let reason = reason.map(|reason| self.name(reason.as_str()));
        if let Some(reason) = &reason {
            let reasons = Array::String(vec![StringValue::from(reason.clone())]);
            attributes.push(KeyValue::new(
                "gen_ai.response.finish_reasons",
                Value::Array(reasons),
            ));
        }
        if self.log.shows_content() {
            attributes.extend(self.content(ended, reason.as_deref()));
        }
        let span = self.tracer.span_builder(name.to_owned());
        let mut span = span
            .with_kind(SpanKind::Client)
            .with_start_time(ended.began())
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &self.run);
        self.delivery.expect(&span);
        if error(ended).is_some() {
            // What a server says of an error may repeat what it was asked.
            let said = attempt
                .error
                .as_deref()
                .filter(|_| self.log.shows_content());
            let said = said.map_or_else(String::new, |said| self.text(said));
            span.set_status(Status::error(said));
        }
        span.end_with_timestamp(ended.ended);
    }

    /// What was asked and answered.
    fn content(&self, ended: &AttemptEnded<'_>, reason: Option<&str>) -> Vec<KeyValue> {
        let mut left = CONTENT;
        let mut said = |message: &Message| {
            let content = self.log.mask(&message.content);
            let content = cut(&content, left);
            left -= content.len();
            json!({
                "role": message.role.as_str(),
                "parts": [{ "type": "text", "content": content }],
            })
        };
        let asked: Vec<_> = ended.request.messages.iter().map(&mut said).collect();
        let asked = KeyValue::new("gen_ai.input.messages", json!(asked).to_string());
        let answered = ended.reply.map(|reply| {
            let content = self.text(&reply.text);
            let answer = json!([{
                "role": "assistant",
                "parts": [{ "type": "text", "content": content }],
                "finish_reason": reason,
            }]);
            KeyValue::new("gen_ai.output.messages", answer.to_string())
        });
        [Some(asked), answered].into_iter().flatten().collect()
    }

    /// A name that a server gives, without the secrets of the job.
    fn name(&self, name: &str) -> String {
        cut(&self.log.mask(name), NAME).to_owned()
    }

    /// A text that a server gives, likewise.
    fn text(&self, text: &str) -> String {
        cut(&self.log.mask(text), CONTENT).to_owned()
    }
}

/// The class of the failure. A reply that is cut or refused is none.
fn error(ended: &AttemptEnded<'_>) -> Option<ErrorClass> {
    let class = ended.attempt.class;
    class.filter(|_| !ended.attempt.is_reply())
}

/// What is done, in the words of the conventions.
fn operation(kind: &BackendKind) -> &'static str {
    match kind {
        BackendKind::OpenAi(OpenAiApi::Completions, _)
        | BackendKind::Anthropic(AnthropicApi::Complete, _)
        | BackendKind::LlamaCpp(LlamaCppApi::Completion, _)
        | BackendKind::Vllm(VllmApi::Completions | VllmApi::Generate, _) => "text_completion",
        _ => "chat",
    }
}

/// The host and the port that are asked, where there are any.
fn address(kind: &BackendKind) -> Option<(String, i64)> {
    let url = match kind {
        BackendKind::OpenAi(_, server)
        | BackendKind::Anthropic(_, server)
        | BackendKind::LlamaCpp(_, server)
        | BackendKind::Vllm(_, server) => &server.url,
        BackendKind::Http(http) => &http.url,
        BackendKind::Echo(_) | BackendKind::Custom => return None,
    };
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let standard = match scheme.eq_ignore_ascii_case("https") {
        true => 443,
        false => 80,
    };
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, standard),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port))
}

/// The beginning of a text, so many bytes at most.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
