//! Backends: from flat keys to what a worker is built from.

use std::sync::Arc;
use std::time::Duration;

use super::decode::{At, need};
use super::named::BackendType;
use super::plan::{
    AnthropicApi, Backend, BackendKind, EchoFailure, EchoScript, EchoUsage, LlamaCppApi, OpenAiApi,
    VllmApi,
};
use super::prompt::{Names, template};
use super::read::Job;
use super::resolve::Surroundings;
use super::server::{self, Spec};
use super::source::Span;
use super::written::{BackendKeys, PriceKeys};
use super::{Prices, Problem, declared, limits, parameters, suggest};
use crate::words::{ErrorClass, Price, Rate, Rates, Tariff, Usd};

/// One backend while it is resolved.
pub struct Context<'a> {
    /// What the job says about it.
    pub keys: &'a BackendKeys,
    /// Its name, for problems about what it lacks.
    pub name: &'a Span,
    /// Whether any row may be asked of it; only then its key is needed.
    pub used: bool,
    /// The job's default time-out.
    pub timeout: Option<Duration>,
    /// Columns, environment, day.
    pub around: &'a Surroundings<'a>,
}

/// Every backend that could be read, in the order of the file.
pub fn resolve(
    job: &Job,
    used: &[String],
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Backend> {
    let timeout = positive(job.keys.timeout.as_ref(), "timeout", problems);
    let entries = job
        .keys
        .backends
        .iter()
        .flat_map(|named| &named.value.entries);
    let limits = limits::resolve(job, problems);
    let prices = Prices::of_job(job, around, problems);
    let backends = entries.zip(limits).filter_map(|((key, keys), limits)| {
        let context = Context {
            keys,
            name: &key.span,
            used: used.contains(&key.name),
            timeout,
            around,
        };
        let kind = kind(&context, problems);
        let (tariff, batch) = charges(&context, kind.as_ref(), &prices, problems);
        let backend = Backend {
            name: Arc::from(key.name.as_str()),
            timeout: kind
                .as_ref()
                .and_then(|kind| own_timeout(kind, &context, problems)),
            kind: kind?,
            limits,
            tariff: tariff.map(Arc::new),
            batch,
            account: keys.account.as_ref().map(|at| Arc::from(at.value.as_str())),
        };
        limits::check_fit(keys, &backend, problems);
        Some(backend)
    });
    backends.collect()
}

/// The time-out of a worker that keeps none itself. (A server's was read with the server.)
fn own_timeout(
    kind: &BackendKind,
    context: &Context<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Duration> {
    match kind {
        BackendKind::Echo(_) | BackendKind::Custom => {
            positive(context.keys.timeout.as_ref(), "timeout", problems).or(context.timeout)
        }
        _ => None,
    }
}

/// The only place where the type decides.
fn kind(context: &Context<'_>, problems: &mut Vec<Problem>) -> Option<BackendKind> {
    let Some(kind) = &context.keys.r#type else {
        if context.keys.written.key("type").is_none() {
            let problem = context.name.problem("the backend has no `type`");
            let types = BackendType::NAMES.map(|(name, _)| name);
            problems.push(problem.help(suggest::there_are(&types)));
        }
        return None;
    };
    match kind.value {
        BackendType::Echo => {
            parameters::check(context.keys, "echo", "", problems);
            Some(BackendKind::Echo(echo(context, problems)))
        }
        BackendType::Custom => {
            parameters::check(context.keys, "custom", "", problems);
            Some(BackendKind::Custom)
        }
        BackendType::OpenAi => {
            let apis = [
                ("chat", OpenAiApi::Chat),
                ("completions", OpenAiApi::Completions),
                ("responses", OpenAiApi::Responses),
            ];
            let model = context.keys.model.as_ref().map_or("", |model| &model.value);
            let default = OpenAiApi::default_for(model);
            let default = apis
                .iter()
                .find(|(_, api)| *api == default)
                .map_or("chat", |api| api.0);
            let (name, api) = server::api(context, &apis, default, problems)?;
            let server = server::resolve(context, Spec::openai(name), problems);
            Some(BackendKind::OpenAi(api, server))
        }
        BackendType::Anthropic => {
            let apis = [
                ("messages", AnthropicApi::Messages),
                ("complete", AnthropicApi::Complete),
            ];
            let (name, api) = server::api(context, &apis, "messages", problems)?;
            let server = server::resolve(context, Spec::anthropic(name), problems);
            Some(BackendKind::Anthropic(api, server))
        }
        BackendType::LlamaCpp => {
            let apis = [
                ("chat", LlamaCppApi::Chat),
                ("completion", LlamaCppApi::Completion),
            ];
            let (name, api) = server::api(context, &apis, "chat", problems)?;
            let server = server::resolve(context, Spec::llama_cpp(name), problems);
            Some(BackendKind::LlamaCpp(api, server))
        }
        BackendType::Vllm => {
            let apis = [
                ("chat", VllmApi::Chat),
                ("completions", VllmApi::Completions),
                ("generate", VllmApi::Generate),
            ];
            let (name, api) = server::api(context, &apis, "chat", problems)?;
            let server = server::resolve(context, Spec::vllm(name), problems);
            Some(BackendKind::Vllm(api, server))
        }
        BackendType::Http => {
            let http = declared::resolve(context, problems);
            Some(BackendKind::Http(Box::new(http)))
        }
    }
}

fn echo(context: &Context<'_>, problems: &mut Vec<Problem>) -> EchoScript {
    let keys = context.keys;
    let names = Names {
        columns: context.around.known(),
        also: &["prompt"],
    };
    let reply = keys.reply.as_ref();
    let usage = keys.usage.as_ref().and_then(|usage| {
        need(usage, "usage", &["input_tokens", "output_tokens"], problems);
        Some(EchoUsage {
            input_tokens: usage.value.input_tokens.as_ref()?.value,
            output_tokens: usage.value.output_tokens.as_ref()?.value,
        })
    });
    EchoScript {
        delay: keys
            .delay
            .as_ref()
            .map_or(Duration::from_millis(10), |delay| delay.value),
        reply: reply.and_then(|reply| template(&reply.value, &reply.span, names, problems)),
        usage,
        model: keys
            .model
            .as_ref()
            .map_or("echo", |model| &model.value)
            .to_owned(),
        failures: failures(keys, problems),
        seed: keys.seed.as_ref().map_or(0, |seed| seed.value),
    }
}

fn failures(keys: &BackendKeys, problems: &mut Vec<Problem>) -> Vec<EchoFailure> {
    let Some(failures) = &keys.failures else {
        return Vec::new();
    };
    let mut read = Vec::new();
    for (key, share) in &failures.value.entries {
        match ErrorClass::from_name(&key.name) {
            Some(class) => read.push(EchoFailure {
                class,
                per_million: share.0,
            }),
            None => {
                let problem = key
                    .span
                    .problem(format!("there is no error class `{}`", key.name));
                let classes = ErrorClass::ALL.map(ErrorClass::as_str);
                problems.push(suggest::among(problem, &key.name, &classes));
            }
        }
    }
    if read
        .iter()
        .map(|failure| u64::from(failure.per_million))
        .sum::<u64>()
        > 1_000_000
    {
        let place = keys.written.key("failures").unwrap_or(&failures.span);
        problems.push(place.problem("the shares of failures are more than the whole"));
    }
    read
}

/// What it charges, and what its provider's batch service would: as the job says, else as the lists of prices do.
fn charges(
    context: &Context<'_>,
    kind: Option<&BackendKind>,
    prices: &Prices,
    problems: &mut Vec<Problem>,
) -> (Option<Tariff>, Option<Price>) {
    if let Some(price) = &context.keys.price {
        let price = written(price, problems);
        return (price.map(|price| Tariff::new(price, "the job", None)), None);
    }
    let Some(kind) = kind else {
        return (None, None);
    };
    let today = context.around.today;
    match (prices.find(kind.type_name(), kind.model(), today), kind) {
        (Some(line), _) => (Some(line.tariff.clone()), line.batch),
        // Whose service it is and what it asks for, nobody knows here.
        (None, BackendKind::OpenAi(..) | BackendKind::Anthropic(..) | BackendKind::Http(_)) => {
            (None, None)
        }
        (None, _) => (Some(Tariff::local()), None),
    }
}

/// A price as the job writes it. What is paid by the request or by the hour may do without prices of tokens.
fn written(price: &At<PriceKeys>, problems: &mut Vec<Problem>) -> Option<Price> {
    let keys = &price.value;
    let written = |name: &str| keys.written.key(name).is_some();
    if !written("per_request") && !written("per_hour") {
        need(price, "price", &["input", "output"], problems);
    }
    let rate = |rate: &Option<At<Rate>>, name: &str| match (rate, written(name)) {
        (Some(rate), _) => Some(rate.value),
        (None, true) => None,
        (None, false) => Some(Rate::ZERO),
    };
    let fee = |fee: &Option<At<Usd>>| fee.as_ref().map_or(Usd::ZERO, |fee| fee.value);
    let rates = Rates {
        input: rate(&keys.input, "input")?,
        output: rate(&keys.output, "output")?,
        cache_read: keys.cache_read.as_ref().map(|rate| rate.value),
        cache_write_5m: keys.cache_write_5m.as_ref().map(|rate| rate.value),
        cache_write_1h: keys.cache_write_1h.as_ref().map(|rate| rate.value),
    };
    Some(Price {
        rates,
        above: None,
        per_request: fee(&keys.per_request),
        per_hour: fee(&keys.per_hour),
    })
}

/// The duration, if it was written; zero is a problem.
pub fn positive(
    written: Option<&At<Duration>>,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<Duration> {
    let At { value, span } = written?;
    if value.is_zero() {
        problems.push(span.problem(format!("`{name}` must be more than nothing")));
    }
    Some(*value)
}
