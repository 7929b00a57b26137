use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::loopback::reply;
use crate::published::units;
use crate::scratch::Scratch;
use crate::served::{self, Served};

const FAST: &str = "retry: { attempts: 3, initial: 1ms, max: 2ms }";
const ECHO: &str = "last: { type: echo, delay: 0ms }";

/// An address that nobody listens at.
fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

#[test]
fn a_server_error_is_asked_again_as_often_as_attempts_says() {
    let scratch = Scratch::new();
    let server = Served::always(served::fails(500, "server_error"));
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (ran, published) = scratch.run(3);
    assert_eq!(server.requests(), 3);
    let attempts = ["a first server", "a retry server", "a retry server"];
    assert_eq!(published.attempts(0), attempts);
    assert_eq!(published.statuses(), ["failed"]);
    assert_eq!(published.lines[0]["error"]["kind"], "server");
    ran.says("first server: row rows.csv:1: ")
        .says("answered 500 (server_error): as scripted");
}

#[test]
fn a_server_that_recovers_is_answered_with_a_retry() {
    let scratch = Scratch::new();
    let server = Served::new(|number, _| match number {
        0 => served::fails(500, "server_error"),
        _ => served::says("done"),
    });
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.attempts(0), ["a first server", "a retry ok"]);
    assert_eq!(published.answers(), ["done"]);
}

#[test]
fn a_throttled_request_waits_as_long_as_the_server_asks() {
    let scratch = Scratch::new();
    let server = Served::new(|number, _| match number {
        0 => served::fails_with(429, "rate_limit_exceeded", &[("retry-after", "1")]),
        _ => served::says("done"),
    });
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.attempts(0), ["a first throttled", "a retry ok"]);
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), 2);
    let wait = arrivals[1] - arrivals[0];
    assert!(
        wait >= Duration::from_millis(990) && wait < Duration::from_secs(3),
        "{wait:?}"
    );
}

#[test]
fn a_throttled_backend_pauses_for_all_its_rows() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        3 => served::fails_with(429, "rate_limit_exceeded", &[("retry-after", "1")]),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(20).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", ", limits: { concurrency: 1 }")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 20);
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), 21);
    // The fourth request was told to wait a second, and so did whoever came next.
    let wait = arrivals[4] - arrivals[3];
    assert!(wait >= Duration::from_millis(990), "{wait:?}");
}

#[test]
fn a_spent_quota_costs_one_request_and_falls_back() {
    let scratch = Scratch::new();
    let server = Served::always(served::fails(429, "insufficient_quota"));
    scratch.rows(10).job(&format!(
        "backends: {{ {}, {ECHO} }}\n{FAST}",
        server.backend("a", ", limits: { concurrency: 1 }")
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(server.requests(), 1);
    assert_eq!(published.count("answered"), 10);
    let attempts: Vec<_> = (0..10).map(|row| published.attempts(row)).collect();
    let asked_both = ["a first exhausted", "last fallback ok"];
    assert_eq!(attempts.iter().filter(|a| **a == asked_both).count(), 1);
    // The others never asked the first one; their attempt on the second is a fallback all the same.
    let asked_last = ["last fallback ok"];
    assert_eq!(attempts.iter().filter(|a| **a == asked_last).count(), 9);
    ran.says("warning: backend a is not asked any more (exhausted): ")
        .says("insufficient_quota")
        .says("10 of the answers came from a fallback");
}

#[test]
fn a_spent_quota_without_a_fallback_ends_the_run_with_5() {
    let scratch = Scratch::new();
    let server = Served::always(served::fails(429, "insufficient_quota"));
    scratch.rows(10).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", ", limits: { concurrency: 1 }")
    ));
    let (ran, published) = scratch.run(5);
    assert_eq!(server.requests(), 1);
    assert_eq!(
        (published.count("failed"), published.count("not_run")),
        (1, 9)
    );
    ran.says("exit 5: ");
}

#[test]
fn a_refused_key_costs_one_request_and_names_its_variable() {
    let scratch = Scratch::new();
    let server = Served::always(served::fails(401, "invalid_api_key"));
    scratch.rows(5).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", ", limits: { concurrency: 1 }")
    ));
    let (ran, published) = scratch.run(5);
    assert_eq!(server.requests(), 1);
    assert_eq!(published.report["attempts"]["by_class"]["config"], 1);
    ran.says("check the key in OPENAI_API_KEY")
        .never_says("test-key");
}

#[test]
fn a_request_that_is_refused_fails_its_row_and_is_asked_of_nobody_else() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "row 2" => served::fails(400, "context_length_exceeded"),
        prompt => served::says(prompt),
    });
    scratch.rows(4).job(&format!(
        "backends: {{ {}, {ECHO} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(
        published.statuses(),
        ["answered", "failed", "answered", "answered"]
    );
    assert_eq!(published.attempts(1), ["a first row_fatal"]);
    assert_eq!(server.requests(), 4);
}

#[test]
fn max_failures_decides_between_0_and_3() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "row 2" => served::fails(400, "bad"),
        prompt => served::says(prompt),
    });
    scratch
        .rows(4)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    for (allowed, code) in [("0", 3), ("1", 0), ("24.9%", 3), ("25%", 0)] {
        let set = format!("max_failures={allowed}");
        scratch.runner(&["job.yaml", "--set", &set]).exits(code);
    }
}

#[test]
fn a_reply_that_breaks_off_is_asked_for_once_more_and_possibly_billed() {
    let scratch = Scratch::new();
    let body = served::completion(json!({ "role": "assistant", "content": "x" }), "stop");
    let server = Served::always(reply(200, &[], body.to_string().as_bytes(), 10));
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(server.requests(), 2);
    assert_eq!(
        published.attempts(0),
        ["a first ambiguous", "a retry ambiguous"]
    );
    assert_eq!(published.report["cost"]["total_usd"], "0.00");
    let at_most = published.report["cost"]["possibly_billed_usd"]
        .as_str()
        .unwrap();
    assert!(units(at_most) > 0, "{at_most}");
    assert_eq!(published.lines[0]["attempts"][0]["cost_usd"], json!(null));
}

#[test]
fn a_reply_that_never_comes_ends_with_the_time_out() {
    let scratch = Scratch::new();
    let server = Served::new(|number, _| match number {
        0 => crate::loopback::Act::Hang(Vec::new()),
        _ => served::says("done"),
    });
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", ", timeout: 200ms")
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.attempts(0), ["a first ambiguous", "a retry ok"]);
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn a_good_status_with_something_else_than_json_is_invalid_and_not_an_answer() {
    let scratch = Scratch::new();
    let server = Served::always(reply(
        200,
        &[],
        b"<html>Log in to the hotel's network</html>",
        0,
    ));
    scratch.rows(1).job(&format!(
        "backends: {{ {}, {ECHO} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    let attempts = ["a first invalid", "a retry invalid", "last fallback ok"];
    assert_eq!(published.attempts(0), attempts);
}

#[test]
fn nobody_listening_fails_the_rows_clearly_and_soon() {
    let scratch = Scratch::new();
    scratch.rows(5).job(&format!(
        "backends: {{ a: {{ type: vllm, url: \"{}\", model: m }} }}\n{FAST}",
        dead()
    ));
    let (ran, published) = scratch.run(5);
    assert_eq!(published.statuses(), ["failed"; 5]);
    assert_eq!(
        published.attempts(0),
        ["a first not_sent", "a retry not_sent", "a retry not_sent"]
    );
    assert_eq!(published.report["cost"]["possibly_billed_usd"], "0.00");
    let ran = ran
        .says("connection refused (is the server running?)")
        .says("exit 5: ");
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn a_dead_first_backend_and_a_healthy_second_answer_every_row() {
    let scratch = Scratch::new();
    scratch.rows(50).job(&format!(
        "backends: {{ a: {{ type: vllm, url: \"{}\", model: m }}, {ECHO} }}\n{FAST}",
        dead()
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 50);
    assert_eq!(published.field("backend"), ["last"; 50]);
    ran.says("50 of the answers came from a fallback");
}

#[test]
fn a_redirect_is_not_followed_and_the_key_goes_nowhere_else() {
    let scratch = Scratch::new();
    let elsewhere = Served::echo();
    let address = elsewhere.backend("x", "");
    let address = address.split('"').nth(1).unwrap_or_default().to_owned();
    let location = format!("{address}/chat/completions");
    let server = Served::always(reply(307, &[("location", &location)], b"", 0));
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{FAST}",
        server.backend("a", "")
    ));
    let (ran, published) = scratch.run(5);
    assert_eq!(published.attempts(0), ["a first config"]);
    assert_eq!((server.requests(), elsewhere.requests()), (1, 0));
    ran.says("redirects are not followed");
}

#[test]
fn every_attempt_in_the_results_was_one_request_to_the_server() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number % 10 {
        1 => served::fails(500, "server_error"),
        4 => served::fails(503, "overloaded"),
        6 => served::fails_with(429, "rate_limit_exceeded", &[]),
        8 => served::fails(502, "bad_gateway"),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(100).job(&format!(
        "backends: {{ {} }}\nretry: {{ attempts: 9, initial: 1ms, max: 2ms }}\nmax_failures: 100%",
        server.backend("a", ", limits: { concurrency: 8 }")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.report["attempts"]["total"], server.requests());
    let answered = published.count("answered");
    assert!(answered >= 95, "{answered}");
    // The server's own ledger: 10 tokens in at $1 and 5 out at $2 a million, for each reply.
    let billed = answered as i128 * 20_000_000_000;
    let total = published.report["cost"]["total_usd"].as_str().unwrap();
    assert_eq!(units(total), billed);
}
