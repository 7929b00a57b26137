//! A backend that is declared as data: where to post what, and where the answer stands in the reply.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Context, positive};
use super::body::{HttpBody, Reader};
use super::decode::{At, Named};
use super::prompt::Names;
use super::resolve::in_range;
use super::source::Span;
use super::{Problem, parameters, server, url};
use crate::template::{Extras, TemplateError};
use crate::words::{Columns, Digest, Request, Row};

/// How long a reply may take where nobody says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a body sees besides the columns.
const NAMES: [&str; 5] = ["prompt", "system", "messages", "model", "max_tokens"];

/// Headers that belong to the client; a second one would only contradict it.
const OWN_HEADERS: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A backend of type `http`.
#[derive(Debug, Clone)]
pub struct HttpBackend {
    /// The whole address.
    pub url: String,
    /// The model's name, where the job says one.
    pub model: Option<String>,
    /// The most output tokens of an answer, where the job says so.
    pub max_tokens: Option<u32>,
    /// The *name* of the environment variable whose value is sent as `Authorization: Bearer`.
    pub api_key_env: Option<String>,
    /// Headers that anyone may see, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Headers, and the *names* of the environment variables that hold their values.
    pub headers_env: Vec<(String, String)>,
    /// From sending to the last byte of the reply.
    pub timeout: Duration,
    /// The longest silence within a reply.
    pub idle_timeout: Duration,
    /// The proxy that requests go through.
    pub proxy: Option<String>,
    /// What is posted.
    pub body: HttpBody,
    /// Where to look in the reply.
    pub pointers: HttpPointers,
}

/// JSON pointers (RFC 6901) into a reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpPointers {
    /// The text of the answer.
    pub text: String,
    /// How many tokens went in.
    pub input_tokens: Option<String>,
    /// How many tokens came out.
    pub output_tokens: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Why it stopped.
    pub finish_reason: Option<String>,
    /// What says that a reply with a good status is an error all the same.
    pub error: Option<String>,
}

impl HttpBackend {
    /// What is posted for a request.
    pub fn body(&self, request: &Request) -> Result<serde_json::Value, TemplateError> {
        let messages: Vec<serde_json::Value> = request
            .messages
            .iter()
            .map(|message| {
                serde_json::json!({"role": message.role.as_str(), "content": message.content})
            })
            .collect();
        let mut extras = Extras::default()
            .with("prompt", request.last_turn())
            .with("system", request.system().unwrap_or_default())
            .with("messages", messages);
        if let Some(model) = &self.model {
            extras = extras.with("model", model);
        }
        if let Some(max_tokens) = self.max_tokens {
            extras = extras.with("max_tokens", max_tokens);
        }
        match &request.row {
            Some(row) => self.body.render(row, &extras),
            None => self.body.render(&Arc::new(no_row()), &extras),
        }
    }
}

/// For a request that comes from no input.
fn no_row() -> Row {
    Row {
        index: 0,
        id: String::new(),
        columns: Arc::new(Columns::new(Vec::new())),
        cells: Vec::new(),
        key: Digest::default(),
    }
}

/// The backend that the keys declare.
pub fn resolve(context: &Context<'_>, problems: &mut Vec<Problem>) -> HttpBackend {
    let keys = context.keys;
    parameters::check(keys, "http", "", problems);
    for (key, example) in [
        ("url", "url: https://..."),
        ("body", "body: { question: \"{{ prompt }}\" }"),
        ("pointers", "pointers: { text: /answer }"),
    ] {
        if keys.written.key(key).is_none() {
            let problem = context
                .name
                .problem(format!("an http backend needs `{key}`"));
            problems.push(problem.help(format!("add `{example}`")));
        }
    }
    let model = keys.model.as_ref().map(|model| model.value.clone());
    let max_tokens = keys.max_tokens.as_ref();
    let max_tokens = in_range(max_tokens, "max_tokens", 1..=u32::MAX, problems);
    let api_key_env = keys.api_key_env.as_ref().and_then(|written| {
        let At { value, span } = written;
        server::variable(context, "api_key_env", value, span, problems)
    });
    let mut sent: Vec<String> = Vec::new();
    if api_key_env.is_some() {
        sent.push("authorization".to_owned());
    }
    let headers_env = headers_env(context, &mut sent, problems);
    let headers = headers(context, &mut sent, problems);
    let with_key = api_key_env.is_some() || !headers_env.is_empty();
    HttpBackend {
        url: address(context, with_key, problems),
        body: body(context, problems),
        model,
        max_tokens,
        api_key_env,
        headers,
        headers_env,
        timeout: positive(keys.timeout.as_ref(), "timeout", problems)
            .or(context.timeout)
            .unwrap_or(DEFAULT_TIMEOUT),
        idle_timeout: server::idle_timeout(context, problems),
        proxy: server::proxy(context, problems),
        pointers: pointers(context, problems),
    }
}

fn address(context: &Context<'_>, with_key: bool, problems: &mut Vec<Problem>) -> String {
    let Some(At { value, span }) = &context.keys.url else {
        return String::new();
    };
    match url::parse_whole(value) {
        Ok(url) => {
            if with_key && !url.may_carry_key {
                problems.push(server::unencrypted(span));
            }
            url.text
        }
        Err((message, advice)) => {
            problems.push(span.problem(message).help(advice));
            String::new()
        }
    }
}

fn body(context: &Context<'_>, problems: &mut Vec<Problem>) -> HttpBody {
    let keys = context.keys;
    let mut missing = Vec::new();
    // A key that was written and could not be read is not missing.
    for name in ["model", "max_tokens"] {
        if keys.written.key(name).is_none() {
            missing.push(name);
        }
    }
    let reader = Reader {
        names: Names {
            columns: context.around.known(),
            also: &NAMES,
        },
        missing: &missing,
    };
    match &keys.body {
        Some(At { value, .. }) => reader.body(value, problems),
        None => HttpBody::nothing(),
    }
}

/// The headers that anyone may see. Those that look like a secret never come here: see `read`.
fn headers(
    context: &Context<'_>,
    sent: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for (name, at, value) in entries(&context.keys.headers) {
        let Some(name) = header(name, at, sent, problems) else {
            continue;
        };
        let fits = |c: char| c == '\t' || c == ' ' || c.is_ascii_graphic();
        match value.chars().all(fits) {
            true => kept.push((name, value.to_owned())),
            false => {
                let problem = at.problem(format!("the value of `{name}` cannot be sent"));
                problems.push(problem.help("a header is one line of plain ASCII"));
            }
        }
    }
    kept
}

fn headers_env(
    context: &Context<'_>,
    sent: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for (name, at, variable) in entries(&context.keys.headers_env) {
        let variable = server::variable(context, "headers_env", variable, at, problems);
        let name = header(name, at, sent, problems);
        kept.extend(name.zip(variable));
    }
    kept
}

/// Name, place and value of each header.
fn entries(headers: &Option<At<Named<String>>>) -> impl Iterator<Item = (&str, &Span, &str)> {
    let entries = headers.iter().flat_map(|headers| &headers.value.entries);
    entries.map(|(key, value)| (key.name.as_str(), &key.span, value.as_str()))
}

/// The name in lower case, if a header may have it and no other has.
fn header(
    name: &str,
    place: &Span,
    sent: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let in_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let problem = if lower.is_empty() || !lower.chars().all(in_name) {
        let problem = place.problem(format!("`{name}` is not the name of a header"));
        problem.help("write it like `x-api-version`")
    } else if OWN_HEADERS.contains(&lower.as_str()) {
        let problem = place.problem(format!("the program itself sends `{lower}`"));
        problem.help("remove it; what is posted is JSON")
    } else if sent.contains(&lower) {
        let problem = place.problem(format!("the header `{lower}` is sent twice"));
        problem.help(match lower.as_str() {
            "authorization" => "keep one; `api_key_env` sends it too",
            _ => "keep one of the two",
        })
    } else {
        sent.push(lower.clone());
        return Some(lower);
    };
    problems.push(problem);
    None
}

fn pointers(context: &Context<'_>, problems: &mut Vec<Problem>) -> HttpPointers {
    let Some(At { value: keys, span }) = &context.keys.pointers else {
        return HttpPointers::default();
    };
    if keys.written.key("text").is_none() {
        let place = context.keys.written.key("pointers").unwrap_or(span);
        let problem = place.problem("`pointers` does not say where the `text` is");
        problems.push(problem.help("add where the answer stands in the reply: `text: /answer`"));
    }
    let mut read = |written: &Option<At<String>>| {
        let At { value, span } = written.as_ref()?;
        if !is_pointer(value) {
            let problem = span.problem(format!("`{value}` is not a JSON pointer"));
            let help = "write it like /choices/0/text, with ~1 for a / and ~0 for a ~ in a name";
            problems.push(problem.help(help));
        }
        Some(value.clone())
    };
    HttpPointers {
        text: read(&keys.text).unwrap_or_default(),
        input_tokens: read(&keys.input_tokens),
        output_tokens: read(&keys.output_tokens),
        model: read(&keys.model),
        finish_reason: read(&keys.finish_reason),
        error: read(&keys.error),
    }
}

/// RFC 6901: nothing, for the whole reply, or names that each follow a slash.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1);
    (text.is_empty() || text.starts_with('/'))
        && escapes.into_iter().all(|rest| rest.starts_with(['0', '1']))
}
