use std::fs;

use serde_json::json;

use crate::loopback::reply;
use crate::scratch::Scratch;
use crate::served::{self, Served};

const KEY: &str = "canary-0123456789abcdef";

/// A service of nobody's protocol, priced at 1 and 2 dollars a million tokens.
fn backend(server: &Served, more: &str) -> String {
    format!(
        "mine:\n\
         \x20   type: http\n\
         \x20   url: {}/answer?version=2\n\
         \x20   model: small-1\n\
         \x20   max_tokens: 16\n\
         \x20   headers_env: {{ x-api-key: MINE_KEY }}\n\
         \x20   body: {{ question: \"{{{{ prompt }}}}\", cap: \"{{{{ max_tokens }}}}\", row: \"{{{{ text }}}}\" }}\n\
         \x20   pointers: {{ text: /out, input_tokens: /in, output_tokens: /used, finish_reason: /why, error: /oops }}\n\
         \x20   {more}",
        server.url()
    )
}

#[test]
fn a_declared_backend_answers_where_the_one_before_it_fails() {
    let scratch = Scratch::new().env("MINE_KEY", KEY);
    let mine = Served::new(|_, seen| {
        let body = seen.json();
        let long = body["row"] == "row 3";
        served::ok(&json!({
            "out": format!("{}, at most {}", body["question"].as_str().unwrap_or("?"), body["cap"]),
            "in": 10, "used": 5, "why": if long { "max_length" } else { "eos" },
        }))
    });
    scratch.rows(3).job(&format!(
        "backends:\n\
         \x20 first: {{ type: echo, delay: 0ms, failures: {{ server: 100% }} }}\n\
         \x20 {}\n\
         retry: {{ attempts: 1 }}",
        backend(&mine, "price: { input: 1, output: 2 }")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["answered", "answered", "truncated"]);
    assert_eq!(published.answers()[1], "row 2, at most 16");
    assert_eq!(
        published.attempts(0),
        ["first first server", "mine fallback ok"]
    );
    assert_eq!(published.column("run_model"), ["small-1"; 3]);
    assert_eq!(published.column("run_cost_usd"), ["0.00002"; 3]);
    for seen in mine.seen() {
        assert_eq!(seen.line, "POST /answer?version=2");
        assert_eq!(seen.header("x-api-key"), Some(KEY));
    }
}

#[test]
fn what_an_unknown_service_costs_is_not_taken_for_nothing() {
    let scratch = Scratch::new().env("MINE_KEY", KEY);
    let mine = Served::always(served::ok(&json!({ "out": "yes", "in": 10, "used": 5 })));
    scratch
        .rows(2)
        .job(&format!("backends:\n\x20 {}", backend(&mine, "")));
    let (_, published) = scratch.run(0);
    assert_eq!(published.report["cost"]["unpriced_attempts"], 2);
    assert_eq!(published.column("run_cost_usd"), [""; 2]);
}

#[test]
fn a_service_that_repeats_its_secret_header_brings_it_nowhere() {
    for (status, place) in [
        (200, "oops"),
        (200, "else"),
        (400, "oops"),
        (401, "error"),
        (500, "x"),
    ] {
        let scratch = Scratch::new()
            .env("MINE_KEY", KEY)
            .env("RUNNER_LOG", "trace");
        let mine = Served::new(move |_, seen| {
            let said = format!("you sent {}", seen.header("x-api-key").unwrap_or_default());
            let body = json!({ place: said }).to_string();
            reply(status, &[("x-request-id", KEY)], body.as_bytes(), 0)
        });
        scratch.rows(2).job(&format!(
            "backends:\n\x20 {}\nretry: {{ attempts: 2, initial: 1ms }}\nmax_failures: 100%",
            backend(&mine, "")
        ));
        let ran = scratch.runner(&["job.yaml"]);
        assert!(mine.requests() > 0);
        ran.says("[key]").never_says(KEY);
        for entry in fs::read_dir(scratch.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            assert!(!found, "{} after {status}", path.display());
        }
    }
}

#[test]
fn what_is_wrong_with_a_body_or_a_key_is_found_before_anything_is_sent() {
    let mine = Served::echo();
    let job = |more: &str| {
        let scratch = Scratch::new();
        scratch.rows(1).job(&format!(
            "backends:\n\x20 mine: {{ type: http, url: \"{}\", pointers: {{ text: /a }}, {more} }}",
            mine.url()
        ));
        let ran = scratch.runner(&["job.yaml"]).exits(2);
        assert!(!scratch.path().join("out").exists());
        ran
    };
    job("body: { q: \"{{ prompt }}\" }, headers_env: { x-api-key: MINE_KEY }")
        .says("the environment variable MINE_KEY is not set");
    job("body: '{ \"q\": \"{{ row.nothing }}\" }'")
        .says("the body of `mine` cannot be rendered for the first row, rows.csv:1: ")
        .says("there is no column `nothing`");
    job("body: '{ \"q\": {{ prompt }} }'")
        .says("the body of `mine` cannot be rendered for the first row, rows.csv:1: ")
        .says("no JSON");
    assert_eq!(mine.requests(), 0);
}

#[test]
fn the_example_job_understands_a_server_that_speaks_like_ollama() {
    let scratch = Scratch::new();
    let ollama = Served::new(|number, seen| {
        let body = seen.json();
        let asked = body["prompt"]
            .as_str()
            .is_some_and(|text| text.starts_with("Ticket: "));
        let options = json!({ "num_predict": 16, "temperature": 0.0, "seed": 1 });
        let sound = asked
            && body["model"] == "llama3.2"
            && body["system"] == "You label support tickets."
            && body["stream"] == false
            && body["options"] == options;
        match (sound, number) {
            (false, _) => served::ok(&json!({ "error": "not what Ollama takes" })),
            (true, 0) => reply(500, &[], br#"{"error":"model is loading"}"#, 0),
            _ => served::ok(&json!({
                "model": "llama3.2", "created_at": "2026-11-22T10:00:00Z", "response": "bug", "done": true,
                "done_reason": "stop", "context": [1, 2], "prompt_eval_count": 26, "eval_count": 2,
            })),
        }
    });
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/jobs/http.yaml");
    let url = format!("backends.ollama.url={}/api/generate", ollama.url());
    let more = [
        "--set",
        &url,
        "--set",
        "retry.initial=1ms",
        "--limit",
        "3",
        "--out",
        "out",
    ];
    scratch.runner(&[&[job], &more[..]].concat()).exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.answers(), ["bug"; 3]);
    assert_eq!(published.report["tokens"]["input_tokens"], 78);
    assert_eq!(published.report["attempts"]["failed"], 1);
    assert_eq!(published.report["cost"]["total_usd"], "0.00");
    assert_eq!(ollama.seen()[0].line, "POST /api/generate");
}
