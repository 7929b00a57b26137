//! `runner probe JOB`: one row to each backend, before thousands go there.

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::job::Backend;
use tokio_prompt_orchestrator::words::{
    Allowance, Allowances, CallError, Completion, Cost, Status,
};
use tokio_prompt_orchestrator::{ExitCode, Options, Probe, ProbeEnd, Probed, Runner};

use super::args::ProbeArgs;
use super::display::thousands;
use super::reader::Reader;
use super::terminal::{self, escape, out};
use super::{check, runtime};

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const SCHEMA: &str = "runner.probe/1";
/// So many characters of an answer are shown.
const SHOWN: usize = 200;

/// Asks, and prints what came of it.
pub fn probe(args: &ProbeArgs) -> ExitCode {
    let reader = Reader::of(args.json);
    let options = Options {
        set: args.set.clone(),
        prices: args.prices.clone(),
        // A key that is missing is what somebody who asks wants to be told of each backend.
        offline: true,
        ..Options::default()
    };
    let runner = match check::load(&args.job, &options, reader) {
        Ok(runner) => runner,
        Err(code) => return code,
    };
    let backends = match chosen(args, &runner, reader) {
        Ok(backends) => backends,
        Err(code) => return code,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let probe = match runtime.block_on(runner.probe(&backends)) {
        Ok(probe) => probe,
        Err(error) => {
            reader.error(&error);
            return error.exit_code();
        }
    };
    if probe.row.is_none() {
        reader.refusal("the inputs have no row to ask about");
        return ExitCode::Usage;
    }
    match args.json {
        true => terminal::json(&object(&runner.plan().name, &probe)),
        false => print(&probe),
    }
    probe.exit_code()
}

/// Who is asked: those of the job's order, all of the job, or those that are named.
fn chosen(args: &ProbeArgs, runner: &Runner, reader: Reader) -> Result<Vec<Backend>, ExitCode> {
    if !args.all && args.backend.is_empty() {
        return Ok(runner.plan().backends.clone());
    }
    let all = runner.declared().map_err(|problems| {
        reader.problems(&problems);
        ExitCode::Usage
    })?;
    if args.all {
        return Ok(all);
    }
    let unknown = args
        .backend
        .iter()
        .find(|name| all.iter().all(|known| *known.name != ***name));
    if let Some(name) = unknown {
        let names: Vec<String> = all.iter().map(|backend| escape(&backend.name)).collect();
        let (name, names) = (escape(name), names.join(", "));
        reader.refusal(&format!(
            "the job has no backend `{name}`; there are {names}"
        ));
        return Err(ExitCode::Usage);
    }
    let is_named = |backend: &Backend| args.backend.iter().any(|name| *backend.name == **name);
    Ok(all.into_iter().filter(is_named).collect())
}

fn print(probe: &Probe) {
    for probed in &probe.backends {
        let asked = match &probed.model {
            Some(model) => format!("{}, {}", probed.kind, escape(model)),
            None => probed.kind.to_owned(),
        };
        out(&format!(
            "{} ({asked}): {}",
            escape(&probed.backend),
            ending(probed)
        ));
        for line in details(probed) {
            out(&format!("  {line}"));
        }
    }
    let row = escape(probe.row.as_deref().unwrap_or_default());
    let (cost, is_whole) = probe.cost();
    let more = if is_whole {
        ""
    } else {
        ", and what nobody knows"
    };
    out(&format!(
        "\n{} of {} answered row {row}; it cost ${}{more}",
        probe.answered(),
        match probe.backends.len() {
            1 => "1 backend".to_owned(),
            count => format!("{count} backends"),
        },
        cost.about()
    ));
}

/// How it ended, in a few words.
fn ending(probed: &Probed) -> String {
    let time = format!(
        "{} ms",
        thousands(u64::try_from(probed.latency.as_millis()).unwrap_or(u64::MAX))
    );
    match &probed.end {
        ProbeEnd::Replied { status, .. } => format!("{} in {time}", status.as_str()),
        ProbeEnd::Failed(error) => format!("failed after {time} ({})", error.class.as_str()),
        ProbeEnd::TooDear(_) => "not asked".to_owned(),
    }
}

fn details(probed: &Probed) -> Vec<String> {
    let mut lines = Vec::new();
    match &probed.end {
        ProbeEnd::Replied { status, completion } => {
            lines.push(format!("answer: {}", first_line(&said(completion))));
            if let Some(advice) = advice(*status, completion) {
                lines.push(advice);
            }
            if let Some(model) = &completion.model {
                lines.push(format!("model: {}", escape(model)));
            }
        }
        ProbeEnd::Failed(error) => lines.push(escape(&error.message)),
        ProbeEnd::TooDear(why) => lines.push(escape(why)),
    }
    if let Some(usage) = &probed.usage {
        let shown = |tokens: Option<u64>| tokens.map_or("?".to_owned(), thousands);
        let (input, output) = (shown(usage.input_tokens), shown(usage.output_tokens));
        lines.push(format!(
            "tokens: {input} in, {output} out; cost: {}",
            cost(probed.cost)
        ));
    }
    if let Some(limits) = probed.allowances.as_deref() {
        lines.push(format!("limits: {}", told(limits)));
    }
    lines
}

/// The words of the model, also where it declines.
fn said(completion: &Completion) -> String {
    let refusal = completion.refusal.clone();
    refusal.unwrap_or_else(|| completion.text.clone())
}

/// The first line that says something, harmless and not too long.
fn first_line(text: &str) -> String {
    let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) else {
        return "(empty)".to_owned();
    };
    let cut: String = line.chars().take(SHOWN).collect();
    let more = if cut.len() < text.trim().len() {
        " …"
    } else {
        ""
    };
    format!("{}{more}", escape(&cut))
}

/// What to do about a reply that is no answer.
fn advice(status: Status, completion: &Completion) -> Option<String> {
    match status {
        Status::Truncated => Some("it was cut: raise `max_tokens`".to_owned()),
        Status::Invalid => {
            let why = completion.invalid.as_deref().unwrap_or_default();
            Some(format!(
                "that is not what `answer` asks for: {}",
                escape(why)
            ))
        }
        Status::Empty => {
            Some("a run would ask again; a model that thinks may need more `max_tokens`".to_owned())
        }
        Status::Refused | Status::Filtered => {
            Some("the model would not answer this row; others it may".to_owned())
        }
        _ => None,
    }
}

fn cost(cost: Cost) -> String {
    match cost {
        Cost::Known(amount) => format!("${}", amount.about()),
        Cost::Unknown {
            at_most: Some(most),
        } => format!("unknown, at most ${}", most.about()),
        Cost::Unknown { at_most: None } => "unknown".to_owned(),
        Cost::Unpriced => "no price is known for the model".to_owned(),
    }
}

/// The limits that a reply told of.
fn told(limits: &Allowances) -> String {
    let parts = parts(limits).into_iter().filter_map(|(what, allowance)| {
        let limit = thousands(allowance.limit?);
        let left = allowance
            .remaining
            .map(|left| format!(" ({} left)", thousands(left)));
        Some(format!(
            "{limit} {what} a minute{}",
            left.unwrap_or_default()
        ))
    });
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => "the server says what is left, but not of how much".to_owned(),
        false => parts.join(", "),
    }
}

fn parts(limits: &Allowances) -> [(&'static str, Allowance); 4] {
    [
        ("requests", limits.requests),
        ("tokens", limits.tokens),
        ("input tokens", limits.input_tokens),
        ("output tokens", limits.output_tokens),
    ]
}

fn object(job: &str, probe: &Probe) -> Value {
    let (cost, is_whole) = probe.cost();
    let backends = probe.backends.iter().map(backend);
    json!({
        "schema": SCHEMA,
        "job": job,
        "row": probe.row,
        "answered": probe.answered(),
        "cost_usd": cost,
        "cost_is_whole": is_whole,
        "exit_code": probe.exit_code().code(),
        "backends": backends.collect::<Vec<_>>(),
    })
}

fn backend(probed: &Probed) -> Value {
    let (status, error, reply) = match &probed.end {
        ProbeEnd::Replied { status, completion } => {
            (status.as_str(), Value::Null, reply(completion))
        }
        ProbeEnd::Failed(failed) => ("failed", error(failed), Value::Null),
        ProbeEnd::TooDear(why) => ("skipped_budget", json!({ "message": why }), Value::Null),
    };
    let limits = probed.allowances.as_deref().map(|limits| {
        let told = parts(limits)
            .into_iter()
            .filter(|(_, told)| *told != Allowance::default());
        let told = told.map(|(what, told)| {
            let limit = json!({ "limit": told.limit, "remaining": told.remaining });
            (what.replace(' ', "_"), limit)
        });
        told.collect::<Map<_, _>>()
    });
    json!({
        "backend": &*probed.backend,
        "type": probed.kind,
        "model": probed.model,
        "status": status,
        "error": error,
        "reply": reply,
        "latency_ms": u64::try_from(probed.latency.as_millis()).unwrap_or(u64::MAX),
        "usage": probed.usage,
        "cost_usd": match probed.cost {
            Cost::Known(amount) => json!(amount),
            _ => Value::Null,
        },
        "cost_at_most_usd": probed.cost.most(),
        "limits": limits,
    })
}

fn reply(completion: &Completion) -> Value {
    json!({
        "text": said(completion),
        "model": completion.model,
        "finish_reason": completion.finish_reason.as_ref().map(|reason| reason.as_str()),
        "invalid": completion.invalid,
        "request_id": completion.request_id,
    })
}

fn error(failed: &CallError) -> Value {
    json!({
        "class": failed.class.as_str(),
        "message": failed.message,
        "status": failed.status,
        "code": failed.code,
        "request_id": failed.request_id,
    })
}
