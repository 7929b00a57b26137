use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_prompt_orchestrator::words::{Allowance, Allowances, CallError, Completion, Usage};

use crate::loopback::{Act, Loopback, reply};
use crate::{PROTOCOLS, ask, worker};

/// What must be there for every protocol.
const CASES: [&str; 10] = [
    "success",
    "bad_request",
    "unauthorized",
    "throttled",
    "quota",
    "server_error",
    "site_overloaded",
    "broken_json",
    "empty_body",
    "cut_body",
];

#[tokio::test]
async fn every_reply_becomes_the_whole_completion_or_the_whole_error_that_is_expected() {
    let mut table = String::new();
    for protocol in PROTOCOLS {
        for file in cases(protocol) {
            let case = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let server = Loopback::always(recorded(&file));
            let result = ask(worker(protocol, &server.url).as_ref()).await;
            assert_eq!(
                server.seen().len(),
                1,
                "{protocol}/{case} asks exactly once"
            );
            let line = match result {
                Ok(completion) => answered(&completion),
                Err(error) => failed(&error),
            };
            let line = line.replace(&server.url, "http://server");
            table.push_str(&format!("{protocol}/{case}: {line}\n"));
        }
    }
    let expected = folder().join("EXPECTED.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected, &table).unwrap();
    }
    let expected = fs::read_to_string(expected).unwrap();
    for (line, expected) in table.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(table, expected);
}

#[test]
fn every_protocol_has_its_fixtures() {
    for protocol in PROTOCOLS {
        for case in CASES {
            let file = folder().join(protocol).join(format!("{case}.json"));
            assert!(file.exists(), "{}", file.display());
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replies")
}

pub fn cases(protocol: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(protocol)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What the file of a recorded reply says.
pub fn read(protocol: &str, case: &str) -> Value {
    let file = folder().join(protocol).join(format!("{case}.json"));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

pub fn recorded(file: &Path) -> Act {
    let fixture: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let headers: Vec<(&str, &str)> = fixture["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let body = match &fixture["text"] {
        Value::String(text) => text.clone(),
        _ => fixture["json"].to_string(),
    };
    let missing = fixture["missing_bytes"].as_u64().unwrap_or(0);
    let status = fixture["status"].as_u64().unwrap();
    reply(status as u16, &headers, body.as_bytes(), missing as usize)
}

fn answered(completion: &Completion) -> String {
    let mut text = completion.text.clone();
    if text.len() > 60 {
        text = format!("{}… {} bytes", &text[..60], text.len());
    }
    let finish = completion.finish_reason.as_ref();
    format!(
        "answered {text:?} finish={finish} refusal={refusal} model={model} id={id} usage={usage}",
        finish = shown(finish.map(|reason| reason.as_str())),
        refusal = shown(completion.refusal.as_deref()),
        model = shown(completion.model.as_deref()),
        id = shown(completion.request_id.as_deref()),
        usage = used(completion.usage.as_ref()),
    ) + &limited(completion.allowances.as_deref())
}

fn failed(error: &CallError) -> String {
    format!(
        "{class} status={status} code={code} wait={wait} id={id} usage={usage} message={message:?}",
        class = error.class.as_str(),
        status = shown(error.status),
        code = shown(error.code.as_deref()),
        wait = shown(error.retry_after),
        id = shown(error.request_id.as_deref()),
        usage = used(error.usage.as_deref()),
        message = error.message,
    ) + &limited(error.allowances.as_deref())
        + &error
            .should_retry
            .map_or(String::new(), |again| format!(" again={again}"))
}

/// The limits that a reply tells of, as `remaining/limit in reset`; nothing where it tells of none.
fn limited(allowances: Option<&Allowances>) -> String {
    let Some(allowances) = allowances else {
        return String::new();
    };
    let Allowances {
        requests,
        tokens,
        input_tokens,
        output_tokens,
    } = allowances;
    let named = [
        ("requests", requests),
        ("tokens", tokens),
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
    ];
    let told = named
        .into_iter()
        .filter(|(_, allowance)| **allowance != Allowance::default());
    told.map(|(name, allowance)| {
        format!(
            " {name}={remaining}/{limit} in {reset}",
            remaining = shown(allowance.remaining),
            limit = shown(allowance.limit),
            reset = shown(allowance.reset),
        )
    })
    .collect()
}

fn shown(value: Option<impl Debug>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:?}"))
}

fn used(usage: Option<&Usage>) -> String {
    usage.map_or("-".to_owned(), |usage| {
        serde_json::to_string(usage).unwrap()
    })
}
