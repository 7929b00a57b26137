//! What a job does not say, and what it is then.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::path;
use crate::job::{
    AnthropicApi, Backend, BackendKind, CsvSafe, Durability, LlamaCppApi, OnUnknown, OpenAiApi,
    Origin, OutputFormat, Plan, Server, Setting, Step, VllmApi,
};
use crate::words::{Provider, Sampling};

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Adds to what the job says what it does not say.
pub(super) fn fill_in(
    settings: &mut Vec<Setting>,
    plan: &Plan,
    backends: &[Backend],
    env: Env<'_>,
) {
    let mut defaults = of_job(settings, plan);
    for backend in backends {
        defaults.extend(of_backend(backend, env));
    }
    for setting in defaults {
        add(settings, setting);
    }
}

/// Adds a value beside those that it belongs to, unless the job says it.
fn add(settings: &mut Vec<Setting>, setting: Setting) {
    let (_, parents) = setting.path.split_last().expect("a setting has a key");
    let is_said = |said: &Setting| {
        // `retry` as a whole, or just this.
        said.path == setting.path
            || (said.path == parents && !parents.is_empty() && said.value != json!({}))
    };
    if settings.iter().any(is_said) {
        return;
    }
    // What was said to be empty is not any more.
    settings.retain(|said| said.path != parents || parents.is_empty());
    let at = match parents {
        [] if setting.path == path(&["name"]) => 0,
        [] => settings.len(),
        _ => {
            let mut beside = settings.iter();
            let beside = beside.rposition(|said| said.path.starts_with(parents));
            beside.map_or(settings.len(), |at| at + 1)
        }
    };
    settings.insert(at, setting);
}

fn default(keys: &[&str], value: impl Into<Json>) -> Setting {
    Setting {
        path: path(keys),
        value: value.into(),
        from: Origin::Default,
    }
}

fn of_job(settings: &[Setting], plan: &Plan) -> Vec<Setting> {
    let says = |key: &str| {
        let first = |said: &Setting| {
            said.path
                .first()
                .is_some_and(|step| *step == Step::Key(key.to_owned()))
        };
        settings.iter().any(first)
    };
    let mut defaults = vec![default(&["name"], plan.name.as_str())];
    if !["fallback", "matrix", "route"].into_iter().any(says) {
        let route = plan.entries.first().and_then(|entry| entry.rules.first());
        let names = route.into_iter().flat_map(|rule| &rule.to);
        let names = names.filter_map(|at| plan.backends.get(*at));
        let names: Vec<&str> = names.map(|backend| &*backend.name).collect();
        defaults.push(default(&["fallback"], names));
    }
    if let Some(answer) = &plan.answer {
        defaults.push(default(&["answer", "reask"], answer.reask));
        defaults.push(default(&["answer", "structured"], answer.structured));
    }
    let retry = &plan.retry;
    defaults.extend([
        default(&["repeat"], plan.repeat),
        default(&["concurrency"], plan.concurrency),
        default(&["retry", "attempts"], retry.attempts),
        default(&["retry", "initial"], duration(retry.initial)),
        default(&["retry", "max"], duration(retry.max)),
        default(
            &["retry", "max_throttle_wait"],
            duration(retry.max_throttle_wait),
        ),
        default(&["retry", "max_outage"], duration(retry.max_outage)),
        default(&["max_failures"], 0),
        default(&["dedupe"], plan.dedupe),
        default(
            &["durability"],
            match plan.durability {
                Durability::Full => "full",
                Durability::Process => "process",
            },
        ),
        default(
            &["on_unknown"],
            match plan.on_unknown {
                OnUnknown::Resend => "resend",
                OnUnknown::Skip => "skip",
            },
        ),
        default(&["output", "dir"], plan.output.dir.to_string_lossy()),
        default(
            &["output", "formats"],
            plan.output
                .formats
                .iter()
                .map(|format| OutputFormat::as_str(*format))
                .collect::<Vec<_>>(),
        ),
        default(
            &["output", "csv_safe"],
            CsvSafe::NAMES
                .iter()
                .find(|(_, safe)| *safe == plan.output.csv_safe)
                .map(|(name, _)| *name),
        ),
    ]);
    defaults
}

fn of_backend(backend: &Backend, env: Env<'_>) -> Vec<Setting> {
    let name = &*backend.name;
    let own = |key: &str, value: Json| default(&["backends", name, key], value);
    match &backend.kind {
        BackendKind::Echo(script) => vec![
            own("model", json!(script.model)),
            own("delay", json!(duration(script.delay))),
        ],
        BackendKind::Http(http) => vec![
            own("timeout", json!(duration(http.timeout))),
            own("idle_timeout", json!(duration(http.idle_timeout))),
        ],
        BackendKind::Custom => Vec::new(),
        _ => {
            let Some((provider, api, server)) = served(&backend.kind) else {
                return Vec::new();
            };
            let variable = provider.url_env();
            let is_set = env(variable).is_some_and(|url| !url.trim().is_empty());
            let mut url = own("url", json!(server.url));
            if is_set {
                url.from = Origin::Environment(variable.to_owned());
            }
            let Sampling {
                max_tokens,
                temperature,
                top_p,
                ..
            } = &server.sampling;
            let mut settings = vec![url, own("api", json!(api))];
            settings.extend(
                server
                    .api_key_env
                    .as_ref()
                    .map(|key| own("api_key_env", json!(key))),
            );
            settings.push(own("max_tokens", json!(max_tokens)));
            settings.extend(temperature.map(|value| own("temperature", json!(value))));
            settings.extend(top_p.map(|value| own("top_p", json!(value))));
            settings.push(own("timeout", json!(duration(server.timeout))));
            settings.push(own("idle_timeout", json!(duration(server.idle_timeout))));
            settings.push(own("stream", json!(server.stream)));
            settings
        }
    }
}

/// The parameters that the provider has a default for and that this model refuses.
pub(super) fn not_sent(backend: &Backend) -> Vec<&'static str> {
    let Some((provider, _, server)) = served(&backend.kind) else {
        return Vec::new();
    };
    let usual = Sampling::defaults(provider, "");
    let sent = &server.sampling;
    let lacks = |usual: Option<f64>, sent: Option<f64>| usual.is_some() && sent.is_none();
    let all = [
        ("temperature", lacks(usual.temperature, sent.temperature)),
        ("top_p", lacks(usual.top_p, sent.top_p)),
    ];
    all.into_iter()
        .filter(|(_, lacks)| *lacks)
        .map(|(name, _)| name)
        .collect()
}

/// Whose protocol a server speaks, and through which endpoint.
fn served(kind: &BackendKind) -> Option<(Provider, &'static str, &Server)> {
    Some(match kind {
        BackendKind::OpenAi(api, server) => {
            let api = match api {
                OpenAiApi::Chat => "chat",
                OpenAiApi::Completions => "completions",
                OpenAiApi::Responses => "responses",
            };
            (Provider::OpenAi, api, server)
        }
        BackendKind::Anthropic(api, server) => {
            let api = match api {
                AnthropicApi::Messages => "messages",
                AnthropicApi::Complete => "complete",
            };
            (Provider::Anthropic, api, server)
        }
        BackendKind::LlamaCpp(api, server) => {
            let api = match api {
                LlamaCppApi::Chat => "chat",
                LlamaCppApi::Completion => "completion",
            };
            (Provider::LlamaCpp, api, server)
        }
        BackendKind::Vllm(api, server) => {
            let api = match api {
                VllmApi::Chat => "chat",
                VllmApi::Completions => "completions",
                VllmApi::Generate => "generate",
            };
            (Provider::Vllm, api, server)
        }
        BackendKind::Echo(_) | BackendKind::Http(_) | BackendKind::Custom => return None,
    })
}

/// A duration as a job file writes it.
fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if !millis.is_multiple_of(1_000) {
        format!("{millis}ms")
    } else if millis == 0 || !millis.is_multiple_of(60_000) {
        format!("{}s", millis / 1_000)
    } else {
        format!("{}m", millis / 60_000)
    }
}
