//! Backends that are servers: address, key, model, sampling.

use std::time::Duration;

use super::backend::{Context, positive};
use super::decode::At;
use super::plan::{DEFAULT_IDLE_TIMEOUT, Server};
use super::resolve::in_range;
use super::source::Span;
use super::{Problem, parameters, suggest, url};
use crate::words::{Provider, Sampling, refuses_sampling};

/// What differs between the four kinds of server.
pub struct Spec {
    kind: &'static str,
    api: &'static str,
    provider: Provider,
    max_temperature: f64,
}

impl Spec {
    /// OpenAI's API through this endpoint.
    pub fn openai(api: &'static str) -> Self {
        Self {
            kind: "openai",
            api,
            provider: Provider::OpenAi,
            max_temperature: 2.0,
        }
    }

    /// Anthropic's API through this endpoint.
    pub fn anthropic(api: &'static str) -> Self {
        Self {
            kind: "anthropic",
            api,
            provider: Provider::Anthropic,
            max_temperature: 1.0,
        }
    }

    /// llama.cpp's server through this endpoint.
    pub fn llama_cpp(api: &'static str) -> Self {
        Self {
            kind: "llama_cpp",
            api,
            provider: Provider::LlamaCpp,
            max_temperature: 2.0,
        }
    }

    /// vLLM's server through this endpoint.
    pub fn vllm(api: &'static str) -> Self {
        Self {
            kind: "vllm",
            api,
            provider: Provider::Vllm,
            max_temperature: 2.0,
        }
    }
}

/// The endpoint that `api` names, else the default.
pub fn api<T: Copy>(
    context: &Context<'_>,
    apis: &[(&'static str, T)],
    default: &str,
    problems: &mut Vec<Problem>,
) -> Option<(&'static str, T)> {
    let name = context.keys.api.as_ref().map_or(default, |api| &api.value);
    let found = apis.iter().find(|(api, _)| *api == name);
    if let (None, Some(written)) = (found, &context.keys.api) {
        let names: Vec<&str> = apis.iter().map(|(api, _)| *api).collect();
        let problem = written.span.problem(format!("unknown api `{name}`"));
        problems.push(suggest::among(problem, name, &names));
    }
    found.copied()
}

/// The server and how it is asked.
pub fn resolve(context: &Context<'_>, spec: Spec, problems: &mut Vec<Problem>) -> Server {
    let keys = context.keys;
    parameters::check(keys, spec.kind, spec.api, problems);
    let model = keys.model.as_ref().map(|model| model.value.clone());
    if let (None, Some(_), None) = (&model, spec.provider.key_env(), keys.written.key("model")) {
        let problem = context.name.problem(format!("{} needs a model", spec.kind));
        problems.push(problem.help("add `model: ...`"));
    }
    if let Some(model) = &keys.model
        && model.value.trim().is_empty()
    {
        problems.push(model.span.problem("the model has no name"));
    }
    let api_key_env = api_key_env(context, &spec, problems);
    Server {
        url: base_url(context, &spec, api_key_env.is_some(), problems),
        api_key_env,
        sampling: sampling(
            context,
            &spec,
            model.as_deref().unwrap_or_default(),
            problems,
        ),
        model,
        timeout: positive(keys.timeout.as_ref(), "timeout", problems)
            .or(context.timeout)
            .unwrap_or(spec.provider.default_timeout()),
        idle_timeout: idle_timeout(context, problems),
        stream: keys.stream.as_ref().is_some_and(|stream| stream.value),
        proxy: proxy(context, problems),
    }
}

/// The longest silence within a reply.
pub fn idle_timeout(context: &Context<'_>, problems: &mut Vec<Problem>) -> Duration {
    positive(context.keys.idle_timeout.as_ref(), "idle_timeout", problems)
        .unwrap_or(DEFAULT_IDLE_TIMEOUT)
}

/// The declared proxy.
pub fn proxy(context: &Context<'_>, problems: &mut Vec<Problem>) -> Option<String> {
    let At { value, span } = context.keys.proxy.as_ref()?;
    check_url(value, span, problems);
    Some(value.clone())
}

/// The problem of an address that a key must not be sent to.
pub fn unencrypted(place: &Span) -> Problem {
    let problem = place.problem("the key would travel over the internet unencrypted");
    problem.help("use https://")
}

fn base_url(
    context: &Context<'_>,
    spec: &Spec,
    with_key: bool,
    problems: &mut Vec<Problem>,
) -> String {
    let from_env =
        (context.around.env)(spec.provider.url_env()).filter(|url| !url.trim().is_empty());
    let (text, place) = match (&context.keys.url, from_env) {
        (Some(At { value, span }), _) => (value.clone(), span),
        (None, Some(url)) => (url, context.name),
        (None, None) => (spec.provider.default_url().to_owned(), context.name),
    };
    let before = problems.len();
    let parsed = check_url(&text, place, problems);
    if let Some(url) = &parsed
        && with_key
        && !url.may_carry_key
    {
        problems.push(unencrypted(place));
    }
    if context.keys.url.is_none() {
        for problem in &mut problems[before..] {
            problem.message = format!("{}: {}", spec.provider.url_env(), problem.message);
        }
    }
    let url = parsed.map_or(text, |url| url.text);
    spec.provider.base_url(&url).to_owned()
}

fn check_url(text: &str, place: &Span, problems: &mut Vec<Problem>) -> Option<url::Url> {
    match url::parse(text) {
        Ok(url) => Some(url),
        Err((message, advice)) => {
            problems.push(place.problem(message).help(advice));
            None
        }
    }
}

fn api_key_env(context: &Context<'_>, spec: &Spec, problems: &mut Vec<Problem>) -> Option<String> {
    let written = context.keys.api_key_env.as_ref();
    if written.is_none() && context.keys.written.key("api_key_env").is_some() {
        // It was written and could not be read: that is enough to say.
        return None;
    }
    let name = match (written, spec.provider.key_env()) {
        (Some(written), _) => written.value.as_str(),
        (None, Some(default)) => default,
        (None, None) => return None,
    };
    let place = written.map_or(context.name, |written| &written.span);
    variable(context, "api_key_env", name, place, problems)
}

/// The name of a variable that holds a secret. It must be set if the backend is used.
pub fn variable(
    context: &Context<'_>,
    key: &str,
    name: &str,
    place: &Span,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !is_name {
        let problem = place.problem("this is not the name of an environment variable");
        problems.push(problem.help(format!("`{key}` names the variable that holds the key")));
        return None;
    }
    if context.used && context.around.sends {
        let value = (context.around.env)(name);
        let wrong = match value.as_deref().map(str::trim) {
            None => Some("is not set"),
            Some("") => Some("is empty"),
            Some(key) if !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
                Some("holds a line break, or what is no plain ASCII: no header can carry it")
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let problem = place.problem(format!("the environment variable {name} {wrong}"));
            problems.push(problem.help(format!("set it before the run: export {name}=...")));
        }
    }
    Some(name.to_owned())
}

fn sampling(
    context: &Context<'_>,
    spec: &Spec,
    model: &str,
    problems: &mut Vec<Problem>,
) -> Sampling {
    let keys = context.keys;
    if refuses_sampling(spec.provider, model) {
        for key in parameters::SAMPLING {
            if let Some(place) = keys.written.key(key) {
                let problem = place.problem(format!("{model} refuses `{key}`"));
                problems.push(problem.help("remove it; the model answers 400 to it"));
            }
        }
    }
    let least = if spec.api == "responses" { 16 } else { 1 };
    let max_tokens = in_range(
        keys.max_tokens.as_ref(),
        "max_tokens",
        least..=u32::MAX,
        problems,
    );
    let mut number = |written: &Option<At<f64>>, name: &str, least: f64, most: f64| {
        in_range(written.as_ref(), name, least..=most, problems)
    };
    let default = Sampling::defaults(spec.provider, model);
    Sampling {
        max_tokens: max_tokens.unwrap_or(default.max_tokens),
        temperature: number(&keys.temperature, "temperature", 0.0, spec.max_temperature)
            .or(default.temperature),
        top_p: number(&keys.top_p, "top_p", 0.0, 1.0).or(default.top_p),
        top_k: keys.top_k.as_ref().map(|top_k| top_k.value),
        min_p: number(&keys.min_p, "min_p", 0.0, 1.0),
        stop: keys.stop.as_ref().map_or(Vec::new(), |stop| {
            let texts = stop.value.0.iter();
            texts.map(|text| text.value.clone()).collect()
        }),
        seed: keys.seed.as_ref().map(|seed| seed.value),
        frequency_penalty: number(&keys.frequency_penalty, "frequency_penalty", -2.0, 2.0),
        presence_penalty: number(&keys.presence_penalty, "presence_penalty", -2.0, 2.0),
        reasoning_effort: keys
            .reasoning_effort
            .as_ref()
            .map(|effort| effort.value.clone()),
    }
}
