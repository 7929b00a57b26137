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
