//! HTTP: the only file that names the client crates. One request, one reply, no cleverness.
//!
//! No redirects, no retries, no proxy but a declared one, every time-out set, the reply's body capped
//! in *decompressed* bytes. Transport failures are classified by the typed chain of their causes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Proxy, Response, Url};
use tokio::time::{Instant, timeout};

use super::allowances;
use super::causes::{find, root};
use super::retry_after;
use super::stream::{Gathered, Heard, Stream};
use super::text::{clip, origin};
use super::unsent::Unsent;
use crate::words::{Allowances, CallError, ErrorClass};

/// How long a connection may take to come up at most, name lookup and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a reply, counted after decompression.
const BODY_CAP: usize = 8 << 20;
/// The same of a stream, of which most is what stands around each token: enough for some 160,000 of them.
const STREAM_CAP: usize = 32 << 20;
/// How long the end of a stream may take whose last event has come: a connection that was read to its end is used again.
const DRAIN: Duration = Duration::from_millis(100);
/// How long a connection without TLS is kept idle at most. A new one costs next to nothing, and a server with a thread per
/// connection (llama.cpp has a handful) answers no one else while idle ones hold them.
const PLAIN_IDLE: Duration = Duration::from_millis(500);
/// How often an idle HTTP/2 connection is asked whether it still lives, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// The connections of a process. Cheap to clone; a client is built when it is first needed.
#[derive(Clone)]
pub struct Http {
    shared: Arc<Shared>,
}

struct Shared {
    idle_per_host: usize,
    known: Mutex<Known>,
    /// Where requests are kept that are not sent; `None` where they are.
    unsent: Option<Unsent>,
}

/// What need not be found out anew for every request.
#[derive(Default)]
struct Known {
    clients: HashMap<ClientKey, Client>,
    /// By their addresses, which may be asked in several ways.
    targets: HashMap<String, Vec<(Way, Arc<Target>)>>,
}

/// An address that is asked, and by what.
struct Target {
    url: Url,
    /// What of it a message may show.
    origin: String,
    client: Client,
}

/// What makes two requests need two clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    way: Way,
    tls: bool,
}

/// How a connection is made and kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    proxy: Option<String>,
    http1: bool,
    idle: Duration,
    connect: Duration,
}

impl Way {
    fn of(call: &Call<'_>) -> Self {
        Self {
            proxy: call.proxy.map(str::to_owned),
            http1: call.http1,
            idle: call.idle,
            connect: connect_timeout(call),
        }
    }

    /// Whether it is that of a call.
    fn is_of(&self, call: &Call<'_>) -> bool {
        self.proxy.as_deref() == call.proxy
            && (self.http1, self.idle, self.connect)
                == (call.http1, call.idle, connect_timeout(call))
    }
}

/// One request.
pub(super) struct Call<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// The headers that anyone may see.
    pub headers: &'a [(&'a str, &'a str)],
    /// The headers that hold keys.
    pub secrets: &'a [(&'a str, SecretValue)],
    /// What is posted; `None` is a GET.
    pub body: Option<Vec<u8>>,
    /// From sending to the last byte of the reply.
    pub timeout: Duration,
    /// The longest silence within the reply.
    pub idle_timeout: Duration,
    /// How a reply is put together that comes as a stream.
    pub stream: Option<Stream>,
    /// The declared proxy.
    pub proxy: Option<&'a str>,
    /// Whether HTTP/2 is out of the question.
    pub http1: bool,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

/// The value of a header that holds a key; it is never shown.
#[derive(Clone)]
pub(super) struct SecretValue(HeaderValue);

impl SecretValue {
    /// This text as the value of this header.
    pub(super) fn new(header: &str, text: &str) -> Result<Self, CallError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            config(format!(
                "the key holds a character that the header `{header}` cannot carry"
            ))
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status.
    pub status: u16,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider says that the same request should be sent again.
    pub should_retry: Option<bool>,
    /// What the provider says of its limits.
    pub allowances: Option<Box<Allowances>>,
    /// The decompressed body; of a reply that is an error anyway, what could be read of it. Of a stream the body that
    /// the same reply has without one.
    pub body: Vec<u8>,
    /// Whether it came as a stream.
    pub is_stream: bool,
    /// Why there is no more of a stream than that.
    pub broken: Option<CallError>,
}

impl Reply {
    /// A reply of which only the head is there.
    fn new(status: u16, headers: &HeaderMap) -> Self {
        // Not `to_str`: Go writes microseconds with a letter that is no ASCII.
        let text = |value| std::str::from_utf8(HeaderValue::as_bytes(value)).ok();
        let first = |name: &str| headers.get(name).and_then(text);
        let mut reply = Self {
            status,
            request_id: first("x-request-id")
                .or_else(|| first("request-id"))
                .map(str::to_owned),
            retry_after: None,
            should_retry: first("x-should-retry").and_then(|value| value.trim().parse().ok()),
            allowances: None,
            body: Vec::new(),
            is_stream: false,
            broken: None,
        };
        let of_limits = |name: &HeaderName| {
            let name = name.as_str();
            name.contains("ratelimit") || name.starts_with("retry-after")
        };
        // Most servers say nothing of that, and each of many names would be looked for.
        if headers.keys().any(of_limits) {
            let all = |name: &str| -> Vec<&str> {
                headers.get_all(name).into_iter().filter_map(text).collect()
            };
            // Times are counted from the server's own clock where it shows one.
            let now = first("date")
                .and_then(retry_after::http_date)
                .unwrap_or_else(Timestamp::now);
            reply.retry_after = retry_after::wait(&all("retry-after"), &all("retry-after-ms"), now);
            reply.allowances = allowances::read(&all, now).map(Box::new);
        }
        reply
    }

    /// The error with everything that the reply's head says but how long to wait.
    pub(super) fn stamp(&self, error: CallError) -> CallError {
        CallError {
            status: Some(self.status),
            request_id: self.request_id.clone(),
            should_retry: self.should_retry,
            allowances: self.allowances.clone(),
            ..error
        }
    }
}

impl Http {
    /// Connections of which this many may stay idle per host.
    pub fn new(idle_per_host: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                idle_per_host,
                known: Mutex::default(),
                unsent: None,
            }),
        }
    }

    /// Connections over which nothing is sent: every request is kept.
    pub(super) fn keeping(unsent: Unsent) -> Self {
        Self {
            shared: Arc::new(Shared {
                idle_per_host: 0,
                known: Mutex::default(),
                unsent: Some(unsent),
            }),
        }
    }

    /// Where requests are kept that are not sent.
    pub(super) fn unsent(&self) -> Option<&Unsent> {
        self.shared.unsent.as_ref()
    }

    /// Sends one request and reads its reply.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Reply, CallError> {
        let target = self.target(&call)?;
        let Target {
            url,
            origin: to,
            client,
        } = &*target;
        let mut request = match call.body {
            Some(body) => client
                .post(url.clone())
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body),
            None => client.get(url.clone()),
        };
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        for (name, value) in call.secrets {
            request = request.header(*name, value.0.clone());
        }
        // Not the client's own time-out, which is another timer and goes through each of its layers.
        let sent = Instant::now();
        let response = timeout(call.timeout, request.send())
            .await
            .map_err(|_| timed_out(to, call.timeout))?
            .map_err(|error| transport(&error, to))?;
        let is_stream = response.status().is_success() && is_event_stream(response.headers());
        let stream = call.stream.filter(|_| is_stream);
        let bounds = Bounds {
            sent,
            whole: call.timeout,
            silence: call.idle_timeout,
            bytes: if stream.is_some() {
                STREAM_CAP
            } else {
                BODY_CAP
            },
        };
        match stream {
            Some(stream) => Ok(gather(response, to, bounds, stream).await),
            None => read(response, to, bounds).await,
        }
    }

    fn target(&self, call: &Call<'_>) -> Result<Arc<Target>, CallError> {
        let known = self.shared.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let mut there = known.targets.get(call.url).into_iter().flatten();
        if let Some((_, target)) = there.find(|(way, _)| way.is_of(call)) {
            return Ok(Arc::clone(target));
        }
        let origin = origin(call.url);
        let url = Url::parse(call.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            // The parser would take the path of an address without a host for one.
            .filter(|url| url.has_host() && call.url.contains("://"))
            .ok_or_else(|| config(format!("`{origin}` is not an http or https address")))?;
        // A proxy never stands between this process and its own machine.
        let proxy = call.proxy.filter(|_| !is_loopback(&url));
        let tls = url.scheme() == "https" || proxy.is_some_and(|proxy| proxy.starts_with("https"));
        let key = ClientKey {
            way: Way {
                proxy: proxy.map(str::to_owned),
                idle: if tls {
                    call.idle
                } else {
                    call.idle.min(PLAIN_IDLE)
                },
                ..Way::of(call)
            },
            tls,
        };
        let client = match known.clients.get(&key) {
            Some(client) => client.clone(),
            None => {
                let client = build(&key, self.shared.idle_per_host)?;
                known.clients.insert(key.clone(), client.clone());
                client
            }
        };
        let target = Arc::new(Target {
            url,
            origin,
            client,
        });
        let ways = known.targets.entry(call.url.to_owned()).or_default();
        ways.push((Way::of(call), Arc::clone(&target)));
        Ok(target)
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new(32)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("idle_per_host", &self.shared.idle_per_host)
            .finish_non_exhaustive()
    }
}

/// Shorter than the whole time: what runs out while connecting is known not to be sent.
fn connect_timeout(call: &Call<'_>) -> Duration {
    CONNECT_TIMEOUT.min(call.timeout / 10 * 9)
}

fn build(key: &ClientKey, idle_per_host: usize) -> Result<Client, CallError> {
    let mut builder = Client::builder()
        .user_agent(concat!(
            "tokio-prompt-orchestrator/",
            env!("CARGO_PKG_VERSION")
        ))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(key.way.connect)
        .pool_idle_timeout(key.way.idle)
        .pool_max_idle_per_host(idle_per_host)
        .http2_keep_alive_interval(PING.0)
        .http2_keep_alive_timeout(PING.1)
        .http2_keep_alive_while_idle(true);
    if key.way.http1 {
        builder = builder.http1_only();
    }
    if !key.tls {
        // Without TLS the system's certificates are not needed, and a slim image may have none.
        builder = builder.tls_certs_only([]);
    }
    if let Some(proxy) = &key.way.proxy {
        let declared = Proxy::all(proxy.as_str())
            .map_err(|_| config(format!("the proxy `{}` is not an address", origin(proxy))))?;
        builder = builder.proxy(declared);
    }
    builder.build().map_err(|error| {
        let cause = clip(&root(&error).to_string());
        config(format!(
            "cannot set up the HTTP client: {cause} (certificates are those of the system: install \
             `ca-certificates`, or name a file of them in SSL_CERT_FILE)"
        ))
    })
}

/// How long a reply is waited for, and how much is taken of it.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// When the request was sent.
    sent: Instant,
    /// From then to its last byte.
    whole: Duration,
    /// Between any two things that it says.
    silence: Duration,
    /// All of it, after decompression.
    bytes: usize,
}

async fn read(mut response: Response, to: &str, bounds: Bounds) -> Result<Reply, CallError> {
    let mut reply = Reply::new(response.status().as_u16(), response.headers());
    // What a reply with another status means does not hang on its last byte.
    let success = response.status().is_success();
    loop {
        match next(&mut response, reply.body.len(), Instant::now(), to, bounds).await {
            Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
            Err(error) if success => return Err(reply.stamp(error)),
            Ok(None) | Err(_) => return Ok(reply),
        }
    }
}

/// A stream put together. What breaks it off does not make what came of it unknown.
async fn gather(mut response: Response, to: &str, bounds: Bounds, stream: Stream) -> Reply {
    let mut reply = Reply::new(response.status().as_u16(), response.headers());
    let mut gathered = Gathered::new(stream);
    let (mut taken, mut heard) = (0, Instant::now());
    let broken = loop {
        let chunk = match next(&mut response, taken, heard, to, bounds).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                let last = gathered.last();
                let message = format!("the stream of {to} ended without `{last}`");
                break Some(CallError::new(ErrorClass::Ambiguous, message));
            }
            Err(error) => break Some(error),
        };
        taken += chunk.len();
        match gathered.take(&chunk) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::More) => heard = Instant::now(),
            Ok(Heard::End) => break None,
            Err(what) => {
                let message = format!("the stream of {to} has {what}");
                break Some(CallError::new(ErrorClass::Invalid, message));
            }
        }
    };
    if broken.is_none() {
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _ = timeout(DRAIN, rest).await;
    }
    reply.is_stream = true;
    reply.broken = broken.map(|error| reply.stamp(error));
    reply.body = gathered.body();
    reply
}

/// What comes next of a body of which so many bytes were taken and then something was heard, if it comes before the
/// silence is too long.
async fn next(
    response: &mut Response,
    taken: usize,
    heard: Instant,
    to: &str,
    bounds: Bounds,
) -> Result<Option<impl Deref<Target = [u8]>>, CallError> {
    let silence = bounds.silence.saturating_sub(heard.elapsed());
    let whole = bounds.whole.saturating_sub(bounds.sent.elapsed());
    let chunk = match timeout(silence.min(whole), response.chunk()).await {
        Ok(chunk) => chunk.map_err(|error| broken_body(&error, to))?,
        Err(_) if silence < whole => return Err(fell_silent(to, bounds.silence)),
        Err(_) => return Err(timed_out(to, bounds.whole)),
    };
    match chunk {
        Some(chunk) if taken + chunk.len() > bounds.bytes => Err(CallError::new(
            ErrorClass::Invalid,
            format!(
                "the reply of {to} is larger than {} MiB",
                bounds.bytes >> 20
            ),
        )),
        chunk => Ok(chunk),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let name = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// What a failure before the reply's head means. A request that met no connection was not sent;
/// after that nobody knows.
fn transport(error: &reqwest::Error, to: &str) -> CallError {
    if error.is_builder() {
        return config(format!("cannot put together a request to {to}"));
    }
    if error.is_connect() {
        return no_connection(error, to);
    }
    CallError::new(
        ErrorClass::Ambiguous,
        format!(
            "the connection to {to} broke before a reply came: {}",
            clip(&root(error).to_string())
        ),
    )
}

fn no_connection(error: &reqwest::Error, to: &str) -> CallError {
    let not_sent = |why: String| {
        CallError::new(
            ErrorClass::NotSent,
            format!("cannot connect to {to}: {why}"),
        )
    };
    if let Some(tls) = find::<rustls::Error>(error) {
        let why = clip(&tls.to_string());
        return match tls {
            // The peer's trouble of the moment, not a set-up that can never work.
            rustls::Error::AlertReceived(rustls::AlertDescription::InternalError) => {
                not_sent(format!("TLS handshake: {why}"))
            }
            rustls::Error::InvalidCertificate(_) => config(format!(
                "cannot trust {to}: {why} (check the url and this machine's certificates)"
            )),
            _ => config(format!(
                "cannot speak TLS with {to}: {why} (is it an https address?)"
            )),
        };
    }
    if error.is_dns() {
        return not_sent("its name cannot be resolved (check the url)".to_owned());
    }
    if error.is_timeout() {
        let doubt = match to.starts_with("https") {
            true => "is it reachable from here, and an https address?",
            false => "is it reachable from here?",
        };
        return not_sent(format!("no connection in time ({doubt})"));
    }
    // Its type is private; the words are the client's own, not the proxy's.
    if root(error).to_string() == "tunnel error: proxy authorization required" {
        return config(format!(
            "cannot reach {to}: the proxy answered 407 (check `proxy`)"
        ));
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            not_sent("connection refused (is the server running?)".to_owned())
        }
        _ => not_sent(clip(&root(error).to_string())),
    }
}

fn broken_body(error: &reqwest::Error, to: &str) -> CallError {
    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
    let why = clip(&root(error).to_string());
    match find::<io::Error>(error) {
        Some(cause) if kinds.contains(&cause.kind()) => CallError::new(
            ErrorClass::Invalid,
            format!("the reply of {to} cannot be decoded: {why}"),
        ),
        _ => CallError::new(
            ErrorClass::Ambiguous,
            format!("the reply of {to} was cut: {why}"),
        ),
    }
}

fn timed_out(to: &str, limit: Duration) -> CallError {
    CallError::new(
        ErrorClass::Ambiguous,
        format!(
            "no complete reply from {to} within {limit:?} (raise `timeout` if it needs longer)"
        ),
    )
}

fn fell_silent(to: &str, limit: Duration) -> CallError {
    CallError::new(
        ErrorClass::Ambiguous,
        format!(
            "{to} began to answer and then said nothing of the answer for {limit:?} (raise `idle_timeout` if it needs \
             longer)"
        ),
    )
}

fn config(message: String) -> CallError {
    CallError::new(ErrorClass::Config, message)
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
