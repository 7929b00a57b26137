//! `runner explain JOB`: the job as it is run.

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::worker::UnsentRequest;
use tokio_prompt_orchestrator::{ExitCode, Explained, ExplainedBackend, Options};

use super::args::ExplainArgs;
use super::display::thousands;
use super::reader::Reader;
use super::terminal::{self, escape, out};
use super::{check, runtime};

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const SCHEMA: &str = "runner.explain/1";

/// Prints the job.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let reader = Reader::of(args.json);
    let options = Options {
        set: args.set.clone(),
        out: args.out.clone(),
        prices: args.prices.clone(),
        // Who sends nothing needs no key.
        offline: true,
        ..Options::default()
    };
    let runner = match check::load(&args.job, &options, reader) {
        Ok(runner) => runner,
        Err(code) => return code,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let explained = match runtime.block_on(runner.explain()) {
        Ok(explained) => explained,
        Err(problems) => {
            reader.problems(&problems);
            return ExitCode::Usage;
        }
    };
    match args.json {
        true => terminal::json(&object(&explained)),
        false => print(&explained, args.request),
    }
    ExitCode::Success
}

/// A job file, and what is no part of one as comments.
fn print(explained: &Explained, with_requests: bool) {
    for line in explained.yaml().lines() {
        out(&escape(line));
    }
    let Explained {
        files,
        columns,
        rows,
        ..
    } = explained;
    remark("");
    remark(&format!(
        "{} rows in {}",
        thousands(*rows),
        files.join(", ")
    ));
    remark(&format!("columns: {}", columns.join(", ")));
    if let Some((row, messages)) = &explained.first {
        remark("");
        remark(&format!("what is asked about the first row, {row}:"));
        for message in messages {
            remark(&format!("  {}:", message.role.as_str()));
            for line in message.content.lines() {
                remark(&format!("    {line}"));
            }
        }
    }
    if explained.first.is_none() {
        return remark("there is no row to ask about");
    }
    match with_requests {
        true => explained.backends.iter().for_each(requests),
        false => remark("--request shows what each backend would be sent for it"),
    }
}

fn requests(backend: &ExplainedBackend) {
    for request in &backend.requests {
        remark("");
        remark(&format!(
            "{}: {} {}",
            backend.name, request.method, request.url
        ));
        for (name, value) in &request.headers {
            remark(&format!("  {name}: {value}"));
        }
        if let Some(body) = &request.body {
            for line in format!("{body:#}").lines() {
                remark(&format!("  {line}"));
            }
        }
    }
    if backend.requests.is_empty() {
        remark("");
        remark(&format!(
            "{}: a backend of type {} sends nothing",
            backend.name, backend.kind
        ));
    }
}

fn remark(text: &str) {
    out(format!("# {}", escape(text)).trim_end());
}

fn object(explained: &Explained) -> Value {
    let settings = explained.settings.iter().map(|setting| {
        let from = setting.from.to_string();
        (
            setting.key(),
            json!({ "value": setting.value, "from": from }),
        )
    });
    let first = explained.first.as_ref().map(|(row, messages)| {
        let messages = messages.iter();
        let messages = messages
            .map(|message| json!({ "role": message.role.as_str(), "content": message.content }));
        json!({ "row": row, "messages": messages.collect::<Vec<_>>() })
    });
    let backends = explained.backends.iter();
    let backends = backends.map(|backend| (backend.name.clone(), of_backend(backend)));
    json!({
        "schema": SCHEMA,
        "job": explained.job,
        "settings": settings.collect::<Map<_, _>>(),
        "inputs": { "files": explained.files, "columns": explained.columns, "rows": explained.rows },
        "first": first,
        "backends": backends.collect::<Map<_, _>>(),
    })
}

fn of_backend(backend: &ExplainedBackend) -> Value {
    let keys = backend.keys.iter();
    let keys = keys.map(|(variable, is_set)| json!({ "variable": variable, "is_set": is_set }));
    let price = backend.price.as_ref();
    json!({
        "type": backend.kind,
        "is_asked": backend.is_asked,
        "keys": keys.collect::<Vec<_>>(),
        "not_sent": backend.not_sent,
        "price": price.map(|(input, output, source)| json!({ "input": input, "output": output, "source": source })),
        "requests": backend.requests.iter().map(request).collect::<Vec<_>>(),
    })
}

fn request(request: &UnsentRequest) -> Value {
    let headers: Map<_, _> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({ "method": request.method, "url": request.url, "headers": headers, "body": request.body })
}
