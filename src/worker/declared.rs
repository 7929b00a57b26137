//! A service that the job declares: its body is a template, its replies are read by JSON pointers.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::ModelWorker;
use super::builders::infer;
use super::fault::{Fault, is_error};
use super::http::Http;
use super::json::Json;
use super::key::Key;
use super::remote::{Auth, Line, Reading};
use super::text::{clip_to, origin};
use super::wire;
use crate::job::{HttpBackend, HttpPointers};
use crate::words::{
    CallError, Completion, ErrorClass, FinishReason, OrchestratorError, Request, Usage,
};

/// Many servers close an idle connection after 5 s; a request must not meet that on its way out.
const IDLE: Duration = Duration::from_secs(3);

/// Asks a service that the job declares.
pub(super) struct DeclaredWorker {
    backend: HttpBackend,
    http: Http,
    key: Key,
    /// Names of headers and what they hold.
    secrets: Vec<(String, Key)>,
}

impl DeclaredWorker {
    pub(super) fn planned(backend: &HttpBackend, http: &Http) -> Self {
        let secrets = backend.headers_env.iter();
        Self {
            http: http.clone(),
            key: backend.api_key_env.as_deref().map_or(Key::None, Key::env),
            secrets: secrets
                .map(|(header, variable)| (header.clone(), Key::env(variable)))
                .collect(),
            backend: backend.clone(),
        }
    }

    fn line(&self) -> Line<'_> {
        let secrets = self.secrets.iter();
        let mut keys = vec![(Auth::Bearer, &self.key)];
        keys.extend(secrets.map(|(header, key)| (Auth::Header(header), key)));
        let headers = self.backend.headers.iter();
        Line {
            http: &self.http,
            url: &self.backend.url,
            model: self.backend.model.as_deref(),
            has_apis: false,
            headers: headers
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            keys,
            timeout: self.backend.timeout,
            idle_timeout: self.backend.idle_timeout,
            // Nobody knows its events.
            stream: None,
            proxy: self.backend.proxy.as_deref(),
            http1: false,
            idle: IDLE,
        }
    }

    async fn answer(&self, request: &Request) -> Result<Completion, CallError> {
        let body = self.backend.body(request).map_err(|error| {
            let message = format!("the body of the request cannot be rendered: {error}");
            CallError::new(ErrorClass::RowFatal, message)
        })?;
        let body = body.to_string().into_bytes();
        self.line().ask(&self.backend.pointers, body).await
    }
}

#[async_trait]
impl ModelWorker for DeclaredWorker {
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        infer(self, prompt).await
    }

    async fn complete(&self, request: &Request) -> Result<Completion, OrchestratorError> {
        Ok(self.answer(request).await?)
    }
}

impl fmt::Debug for DeclaredWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeclaredWorker")
            .field("url", &origin(&self.backend.url))
            .field("key", &self.key)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

impl Reading for HttpPointers {
    /// What the job's `error` points to. An error in its usual place counts only if there is no answer:
    /// what the job declares comes first.
    fn error(&self, json: &Json<'_>) -> Option<Fault> {
        let declared = self.error.as_deref().and_then(|at| json.pointer(at));
        declared
            .and_then(said)
            .or_else(|| (is_error(json) && self.answer(json).is_err()).then(|| Fault::of(json)))
    }

    fn answer(&self, json: &Json<'_>) -> Result<Completion, String> {
        let at = |pointer: &Option<String>| json.pointer(pointer.as_deref()?);
        let finish_reason = at(&self.finish_reason).and_then(Json::as_str).map(meaning);
        let withheld = matches!(
            finish_reason,
            Some(FinishReason::ContentFilter | FinishReason::Refusal)
        );
        let text = match json.pointer(&self.text) {
            None => Err(format!("no text at {}", shown(&self.text))),
            Some(found) => text(found)
                .ok_or_else(|| format!("no text at {} but {}", shown(&self.text), kind(found))),
        };
        let mut completion = Completion::text(match text {
            Ok(text) => text,
            // The reason is the answer: there is no other.
            Err(_) if withheld => String::new(),
            Err(missing) => return Err(missing),
        });
        completion.finish_reason = finish_reason;
        completion.usage = self.usage(json);
        completion.model = at(&self.model).and_then(Json::to_text);
        Ok(completion)
    }

    fn usage(&self, json: &Json<'_>) -> Option<Usage> {
        let count = |pointer: &Option<String>| json.pointer(pointer.as_deref()?)?.as_count();
        let usage = Usage {
            input_tokens: count(&self.input_tokens),
            output_tokens: count(&self.output_tokens),
            ..Usage::default()
        };
        usage.checked(None)
    }

    fn fault(&self, body: &[u8]) -> Fault {
        let json = self.error.as_ref().and_then(|_| wire::parse(body).ok());
        let at = self.error.as_deref().unwrap_or_default();
        let declared = json.as_ref().and_then(|json| said(json.pointer(at)?));
        let mut fault = declared.unwrap_or_else(|| Fault::read(body));
        if fault.name().is_none() && fault.message.is_none() {
            // Nobody knows where this service puts its reasons: all of it, then.
            let text = String::from_utf8_lossy(body);
            fault.message = Some(text.into_owned()).filter(|text| !text.trim().is_empty());
        }
        fault
    }
}

/// A text, the texts of a list, or a number or truth value as it is written.
fn text(found: &Json<'_>) -> Option<String> {
    match found {
        Json::String(text) => Some(text.clone().into_owned()),
        Json::Number(_) | Json::Bool(_) => Some(found.to_string()),
        Json::Array(parts) if !parts.is_empty() => parts.iter().map(Json::as_str).collect(),
        _ => None,
    }
}

/// What the value at `error` says; nothing where it is what services send with a good answer: null,
/// false, 0 or empty.
fn said(found: &Json<'_>) -> Option<Fault> {
    let code = |code: String| Fault {
        code: Some(code),
        ..Fault::default()
    };
    let message = |message: String| Fault {
        message: Some(message),
        ..Fault::default()
    };
    Some(match found {
        Json::Null | Json::Bool(false) => return None,
        Json::String(text) if text.trim().is_empty() => return None,
        Json::Number(number) if number.as_f64() == Some(0.0) => return None,
        Json::Array(items) if items.is_empty() => return None,
        Json::Object(fields) if fields.is_empty() => return None,
        Json::Number(number) => code(number.to_string()),
        // One word is a code, more are a message.
        Json::String(text) if !text.contains(char::is_whitespace) => {
            code(text.clone().into_owned())
        }
        Json::String(text) => message(text.clone().into_owned()),
        Json::Object(_) => match Fault::of(&Json::Object(vec![("error".into(), found.clone())])) {
            fault if fault.name().is_none() && fault.message.is_none() => {
                message(found.to_string())
            }
            fault => fault,
        },
        _ => message(found.to_string()),
    })
}

/// What a value is. What it says stands in the message anyway, as far as the reply is shown.
fn kind(value: &Json<'_>) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Array(items) if items.is_empty() => "an empty list",
        Json::Array(_) => "a list of other things",
        Json::Object(_) => "an object",
        _ => "something else",
    }
}

/// The place for a message: the empty pointer is the whole reply.
fn shown(pointer: &str) -> String {
    match pointer {
        "" => "the top of the reply".to_owned(),
        pointer => clip_to(pointer, 100),
    }
}

/// The reason that a word means, in whichever service's language.
fn meaning(word: &str) -> FinishReason {
    match word.to_ascii_lowercase().as_str() {
        "stop" | "stop_sequence" | "word" | "end_turn" | "eos" | "eos_token" | "end_of_text"
        | "complete" | "completed" | "done" | "finished" => FinishReason::Stop,
        "length" | "max_tokens" | "max_output_tokens" | "max_length" | "model_length" | "limit" => {
            FinishReason::Length
        }
        "content_filter" | "content_filtered" | "safety" | "guardrail_intervened" => {
            FinishReason::ContentFilter
        }
        "refusal" => FinishReason::Refusal,
        _ => FinishReason::Other(word.to_owned()),
    }
}
