//! What every worker with a server behind it shares: address, key, one call, one classified result.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::allowances;
use super::classify::{Facts, classify, implied_status};
use super::fault::{Fault, is_error};
use super::http::{Call, Http, Reply};
use super::json::Json;
use super::key::Key;
use super::stream::Stream;
use super::text::{clip, clip_to, origin};
use super::wire::{self, Body};
use crate::job::{DEFAULT_IDLE_TIMEOUT, Server};
use crate::words::{
    CallError, Completion, ErrorClass, FinishReason, MAX_RETRY_AFTER, Provider, Sampling, Usage,
};

/// How long a server may take to say how busy it is.
const GLANCE: Duration = Duration::from_secs(5);

/// The window of the limits that this program keeps to.
const MINUTE: Duration = Duration::from_secs(60);

/// What is the same for all servers of one provider.
#[derive(Debug)]
pub(super) struct Dialect {
    /// Whose defaults hold.
    pub provider: Provider,
    /// How the key is sent.
    pub auth: Auth<'static>,
    /// Headers of every request.
    pub headers: &'static [(&'static str, &'static str)],
    /// Whether to keep to HTTP/1.1.
    pub http1: bool,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Auth<'a> {
    /// `Authorization: Bearer <key>`
    Bearer,
    /// As this header.
    Header(&'a str),
}

/// How the replies of an endpoint are read.
pub(super) trait Reading {
    /// The error in a reply with a good status, if it is one.
    fn error(&self, json: &Json<'_>) -> Option<Fault>;
    /// The answer; a message says what is missing.
    fn answer(&self, json: &Json<'_>) -> Result<Completion, String>;
    /// The usage, whatever else the reply is.
    fn usage(&self, json: &Json<'_>) -> Option<Usage>;
    /// What a reply with an error status says.
    fn fault(&self, body: &[u8]) -> Fault {
        Fault::read(body)
    }
}

/// An endpoint and how its replies are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    /// Its path, after the base address.
    pub path: &'static str,
    /// Reads a reply; a message says what is missing in it.
    pub read: fn(&Json<'_>) -> Result<Completion, String>,
    /// Reads the usage of a reply, whatever else it is.
    pub usage: fn(&Json<'_>) -> Option<Usage>,
    /// How a reply is put together that comes as a stream; `None` where there are no streams.
    pub stream: Option<Stream>,
}

impl Reading for Endpoint {
    fn error(&self, json: &Json<'_>) -> Option<Fault> {
        is_error(json).then(|| Fault::of(json))
    }

    fn answer(&self, json: &Json<'_>) -> Result<Completion, String> {
        (self.read)(json)
    }

    fn usage(&self, json: &Json<'_>) -> Option<Usage> {
        (self.usage)(json)
    }
}

/// A server and everything needed to ask it.
#[derive(Clone)]
pub(super) struct Remote {
    /// What its provider has in common.
    pub dialect: &'static Dialect,
    /// Its connections.
    pub http: Http,
    /// The server and how it is asked.
    pub server: Server,
    /// Its key.
    pub key: Key,
}

impl Remote {
    /// The provider's default server, with this model.
    pub(super) fn new(dialect: &'static Dialect, model: Option<String>) -> Self {
        let provider = dialect.provider;
        let sampling = Sampling::defaults(provider, model.as_deref().unwrap_or_default());
        let url = std::env::var(provider.url_env()).unwrap_or_default();
        let url = match url.trim() {
            "" => provider.default_url(),
            url => url,
        };
        Self {
            dialect,
            http: Http::default(),
            server: Server {
                url: url.to_owned(),
                model,
                api_key_env: provider.key_env().map(str::to_owned),
                sampling,
                timeout: provider.default_timeout(),
                idle_timeout: DEFAULT_IDLE_TIMEOUT,
                stream: false,
                proxy: None,
            },
            key: provider.key_env().map_or(Key::None, Key::env),
        }
    }

    /// The server of a plan.
    pub(super) fn planned(dialect: &'static Dialect, server: &Server, http: &Http) -> Self {
        Self {
            dialect,
            http: http.clone(),
            server: server.clone(),
            key: server.api_key_env.as_deref().map_or(Key::None, Key::env),
        }
    }

    /// Asks an endpoint.
    pub(super) async fn ask(
        &self,
        endpoint: Endpoint,
        body: Body,
    ) -> Result<Completion, CallError> {
        let address = self.address(endpoint.path);
        let mut line = Line {
            stream: endpoint.stream,
            ..self.line(&address)
        };
        let Some(stream) = endpoint.stream.filter(|_| self.server.stream) else {
            return line.ask(&endpoint, body.json()).await;
        };
        // llama.cpp's server hangs up after each stream without having said so, and the next request would go down
        // with the connection. Where there is no TLS, a new one costs next to nothing.
        if address.starts_with("http://") {
            line.headers.push(("connection", "close"));
        }
        let usage = json!({"include_usage": true});
        let body = body
            .with("stream", true)
            .maybe("stream_options", stream.asks_for_usage.then_some(usage));
        line.ask(&endpoint, body.json()).await
    }

    /// One request, and what is read of a reply with a good status.
    pub(super) async fn exchange<T>(
        &self,
        path: &str,
        body: Option<Vec<u8>>,
        read: impl Fn(&Json<'_>) -> T,
    ) -> Result<T, CallError> {
        let address = self.address(path);
        let line = self.line(&address);
        let reply = line.fetch(body, Fault::read).await?;
        Ok(read(&line.json(&reply)?))
    }

    /// The first model that the server lists, if it lists any.
    pub(super) async fn first_model(&self) -> Result<Option<String>, CallError> {
        let read = |json: &Json<'_>| json["data"][0]["id"].to_text();
        self.exchange("/v1/models", None, read).await
    }

    /// One request to an endpoint that counts, and the count in its reply.
    pub(super) async fn count(
        &self,
        path: &str,
        body: Vec<u8>,
        read: impl Fn(&Json<'_>) -> Option<u64>,
    ) -> Result<u64, CallError> {
        let address = self.address(path);
        let line = self.line(&address);
        let reply = line.fetch(Some(body), Fault::read).await?;
        let count = read(&line.json(&reply)?);
        count.ok_or_else(|| line.invalid(&reply, "no count of tokens"))
    }

    /// The body of a page that costs nothing; `None` unless it comes soon and with status 200.
    pub(super) async fn glance(&self, path: &str) -> Option<Vec<u8>> {
        let address = self.address(path);
        let line = Line {
            timeout: GLANCE,
            ..self.line(&address)
        };
        let reply = line.fetch(None, Fault::read).await.ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    fn address(&self, path: &str) -> String {
        let base = self.dialect.provider.base_url(&self.server.url);
        format!("{base}{path}")
    }

    fn line<'a>(&'a self, url: &'a str) -> Line<'a> {
        Line {
            http: &self.http,
            url,
            model: self.server.model.as_deref(),
            has_apis: true,
            headers: self.dialect.headers.to_vec(),
            keys: vec![(self.dialect.auth, &self.key)],
            timeout: self.server.timeout,
            idle_timeout: self.server.idle_timeout,
            stream: None,
            proxy: self.server.proxy.as_deref(),
            http1: self.dialect.http1,
            idle: self.dialect.idle,
        }
    }
}

/// Whom a call goes to and with what, whoever has declared it.
pub(super) struct Line<'a> {
    /// The connections.
    pub http: &'a Http,
    /// The whole address.
    pub url: &'a str,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// Whether the job chose among endpoints with `api`.
    pub has_apis: bool,
    /// The headers that anyone may see.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The keys and how each is sent.
    pub keys: Vec<(Auth<'a>, &'a Key)>,
    /// From sending to the last byte of the reply.
    pub timeout: Duration,
    /// The longest silence within a reply.
    pub idle_timeout: Duration,
    /// How a reply is put together that comes as a stream.
    pub stream: Option<Stream>,
    /// The declared proxy.
    pub proxy: Option<&'a str>,
    /// Whether to keep to HTTP/1.1.
    pub http1: bool,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

impl Line<'_> {
    /// One request, and the answer in its reply.
    pub(super) async fn ask(
        &self,
        reading: &(dyn Reading + Sync),
        body: Vec<u8>,
    ) -> Result<Completion, CallError> {
        let mut reply = self.fetch(Some(body), |body| reading.fault(body)).await?;
        let broken = reply.broken.take();
        let json = self.json(&reply)?;
        if let Some(error) = broken {
            return Err(self.broken(error, reading.answer(&json).ok()));
        }
        let request_id = || reply.request_id.clone();
        if let Some(fault) = reading.error(&json) {
            let status = implied_status(fault.code.as_deref(), fault.kind.as_deref());
            let mut error = self.failure(status, &reply, fault);
            let partial = reading.answer(&json).ok().filter(|_| reply.is_stream);
            error.has_begun = partial.is_some_and(|partial| !partial.text.is_empty());
            // What is reported of an answer that was cut off is not all of it.
            let reported = reading.usage(&json).filter(|_| !error.has_begun);
            error.usage = reported.map(Box::new);
            return Err(error);
        }
        match reading.answer(&json) {
            Ok(mut completion) => {
                completion.text = self.scrub_answer(completion.text);
                completion.refusal = completion.refusal.map(|text| self.scrub_answer(text));
                completion.model = completion.model.map(|model| self.scrub_answer(model));
                completion.finish_reason = completion.finish_reason.map(|reason| match reason {
                    FinishReason::Other(word) => {
                        FinishReason::Other(clip_to(&self.scrub(word), 100))
                    }
                    known => known,
                });
                let own_id = completion.request_id.map(|id| clip(&self.scrub(id)));
                completion.request_id = own_id.or_else(request_id);
                completion.allowances = reply.allowances.clone();
                Ok(completion)
            }
            Err(missing) => {
                let mut error = self.invalid(&reply, &missing);
                error.usage = reading.usage(&json).map(Box::new);
                Err(error)
            }
        }
    }

    fn json<'a>(&self, reply: &'a Reply) -> Result<Json<'a>, CallError> {
        wire::parse(&reply.body).map_err(|error| match reply.body.is_empty() {
            true => self.invalid(reply, "an empty body"),
            false => self.invalid(reply, &format!("no JSON ({})", clip(&error.to_string()))),
        })
    }

    /// The error of a stream that broke off, and how far it had come.
    fn broken(&self, mut error: CallError, partial: Option<Completion>) -> CallError {
        error.message = self.scrub(error.message);
        // Not the text itself: errors are logged, and answers only where that is wanted.
        let length = partial.map_or(0, |partial| partial.text.chars().count());
        if length > 0 {
            error
                .message
                .push_str(&format!(" after {length} characters of an answer"));
        }
        error
    }

    /// One request, and a reply with a good status.
    async fn fetch(
        &self,
        body: Option<Vec<u8>>,
        fault: impl Fn(&[u8]) -> Fault,
    ) -> Result<Reply, CallError> {
        if let Some(unsent) = self.http.unsent() {
            return Err(unsent.keep(self, body.as_deref()));
        }
        let mut secrets = Vec::with_capacity(self.keys.len());
        for (auth, key) in &self.keys {
            let (name, before) = auth.around();
            secrets.extend(key.sent(name, before)?.map(|value| (name, value)));
        }
        let call = Call {
            url: self.url,
            headers: &self.headers,
            secrets: &secrets,
            body,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            stream: self.stream,
            proxy: self.proxy,
            http1: self.http1,
            idle: self.idle,
        };
        let mut reply = self.http.send(call).await?;
        // Before anything is cut: half a key is no longer found.
        reply.request_id = reply.request_id.map(|id| clip(&self.scrub(id)));
        if !(200..300).contains(&reply.status) {
            let fault = fault(&reply.body);
            return Err(self.failure(reply.status, &reply, fault));
        }
        Ok(reply)
    }

    /// The text without any of the keys.
    fn scrub(&self, text: String) -> String {
        let keys = self.keys.iter();
        keys.fold(text, |text, (_, key)| key.scrub(text))
    }

    /// The words of an answer without any of the keys.
    fn scrub_answer(&self, text: String) -> String {
        let keys = self.keys.iter();
        keys.fold(text, |text, (_, key)| key.scrub_answer(text))
    }

    /// The error that a status (or what stands for one) and a body amount to.
    fn failure(&self, status: u16, reply: &Reply, fault: Fault) -> CallError {
        // Before anything is cut: half a key is no longer found.
        let fault = fault.map(|text| self.scrub(text));
        let exhausted = reply.allowances.as_deref().and_then(allowances::wait);
        // A server that says how long to wait means that; the reset of a far window (a day's) must not
        // overrule it.
        let exhausted = exhausted.filter(|wait| reply.retry_after.is_none() || *wait <= MINUTE);
        let retry_after = match status {
            429 => reply.retry_after.max(exhausted),
            _ => reply.retry_after,
        };
        let class = classify(Facts {
            status,
            code: fault.code.as_deref(),
            kind: fault.kind.as_deref(),
            detail: fault.detail.as_deref(),
            message: fault.message.as_deref(),
            retry_after,
        });
        let mut message = format!("{} answered {}", origin(self.url), reply.status);
        if let Some(name) = fault.name() {
            message.push_str(&format!(" ({})", clip_to(name, 100)));
        }
        if let Some(said) = &fault.message {
            message.push_str(&format!(": {}", clip(said)));
        }
        if let Some(advice) = self.advice(class, status, retry_after) {
            message.push_str(&format!(" ({advice})"));
        }
        let mut error = reply.stamp(CallError::new(class, message));
        error.code = fault.name().map(|name| clip_to(name, 100));
        error.retry_after = match class {
            ErrorClass::Exhausted => retry_after,
            _ => retry_after.map(|wait| wait.min(MAX_RETRY_AFTER)),
        };
        error.request_id = error.request_id.or(fault.request_id.map(|id| clip(&id)));
        error
    }

    fn advice(&self, class: ErrorClass, status: u16, wait: Option<Duration>) -> Option<String> {
        let model = match self.model {
            Some(model) => format!("the model `{}`", clip_to(model, 100)),
            None => "the model".to_owned(),
        };
        match (class, status) {
            (ErrorClass::Config, 300..=399) => {
                Some("redirects are not followed: write the final address as `url`".to_owned())
            }
            (ErrorClass::Config, 400 | 401) => Some(self.key_advice()),
            (ErrorClass::Config, 403) => Some(format!("this key may not use {model}")),
            (ErrorClass::Config, 404) if lacks_version(self.url) => Some(format!(
                "check the name of {model}, and whether `url` should end in /v1"
            )),
            (ErrorClass::Config, 404) if self.has_apis => {
                Some(format!("check the name of {model}, `api` and `url`"))
            }
            (ErrorClass::Config, 404) if self.model.is_some() => {
                Some(format!("check the name of {model} and `url`"))
            }
            (ErrorClass::Config, 405 | 501) if self.has_apis => {
                Some("check `api` and `url`".to_owned())
            }
            (ErrorClass::Config, 404 | 405 | 501) => Some("check `url`".to_owned()),
            (ErrorClass::Config, 407) => Some("check `proxy`".to_owned()),
            (ErrorClass::Exhausted, 429) if wait > Some(MAX_RETRY_AFTER) => {
                let seconds = wait.unwrap_or_default().as_secs();
                Some(format!(
                    "it asks to wait {seconds} s, longer than a run waits"
                ))
            }
            (ErrorClass::Exhausted, _) => {
                Some("top up or raise the limit at the provider".to_owned())
            }
            _ => None,
        }
    }

    fn key_advice(&self) -> String {
        let sent = self.keys.iter().map(|(_, key)| *key);
        let sent: Vec<&Key> = sent.filter(|key| !matches!(key, Key::None)).collect();
        match sent[..] {
            [] => Key::None.advice(),
            _ => sent
                .into_iter()
                .map(Key::advice)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    fn invalid(&self, reply: &Reply, what: &str) -> CallError {
        // Enough of it to know what it was; scrubbed whole, so that the cut cannot hide a key.
        let body = self.scrub(String::from_utf8_lossy(&reply.body).into_owned());
        let what = clip(&self.scrub(what.to_owned()));
        let mut message = format!("{} answered {} with {what}", origin(self.url), reply.status);
        if !body.is_empty() {
            message.push_str(&format!(": {}", clip_to(&body, 200)));
        }
        reply.stamp(CallError::new(ErrorClass::Invalid, message))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &origin(&self.server.url))
            .field("model", &self.server.model)
            .field("key", &self.key)
            .field("sampling", &self.server.sampling)
            .field("timeout", &self.server.timeout)
            .field("idle_timeout", &self.server.idle_timeout)
            .field("stream", &self.server.stream)
            .field("proxy", &self.server.proxy.as_deref().map(origin))
            .finish_non_exhaustive()
    }
}

impl<'a> Auth<'a> {
    /// The header that holds the key, and what stands before it there.
    pub(super) fn around(self) -> (&'a str, &'static str) {
        match self {
            Auth::Bearer => ("authorization", "Bearer "),
            Auth::Header(name) => (name, ""),
        }
    }
}

/// Whether an address of OpenAI's protocol has nothing between its host and the endpoint.
fn lacks_version(url: &str) -> bool {
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let path = path.map(|(_, path)| path.split('?').next().unwrap_or(path));
    matches!(path, Some("chat/completions" | "completions" | "responses"))
}
