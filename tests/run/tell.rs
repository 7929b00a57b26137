use std::time::Duration;

use serde_json::Value;

use crate::loopback::reply;
use crate::scratch::Scratch;
use crate::served::{self, Served};

/// What a server says of its limits with every reply.
const LIMIT: (&str, &str) = ("x-ratelimit-limit-requests", "600");

/// Gives every prompt back and says its limit; refuses the request of this number.
fn limited(refused: Option<usize>) -> Served {
    Served::new(move |number, seen| match Some(number) == refused {
        true => {
            let headers = [("retry-after", "1"), LIMIT];
            served::fails_with(429, "rate_limit_exceeded", &headers)
        }
        false => {
            let message =
                serde_json::json!({ "role": "assistant", "content": served::prompt(seen) });
            let body = served::completion(message, "stop").to_string();
            reply(200, &[LIMIT], body.as_bytes(), 0)
        }
    })
}

#[test]
fn a_run_that_was_throttled_says_so_and_what_the_server_allows() {
    let scratch = Scratch::new();
    let server = limited(Some(0));
    scratch
        .rows(5)
        .job(&format!("backends: {{ {} }}", server.backend("gpt", "")));
    let (ran, published) = scratch.run(0);
    let limits = &published.report["limits"]["gpt"];
    assert_eq!(limits["requests_per_minute"]["limit"], 600);
    assert_eq!(limits["requests_per_minute"]["source"], "server");
    assert_eq!(limits["tokens_per_minute"], Value::Null);
    assert_eq!(
        (&limits["refusals"], &limits["refusal_episodes"]),
        (&1.into(), &1.into())
    );
    assert!(limits["paused_ms"].as_u64() >= Some(1000), "{limits}");
    assert_eq!(limits["concurrency"]["cuts"], 1);
    let paused = "gpt is paused for 1 s, throttled: http://127.0.0.1:";
    let told: Vec<&str> = ran.stderr.lines().collect();
    assert!(told[0].starts_with("unchanged 0 | "), "{told:?}");
    assert!(told.len() == 2 && told[1].starts_with(paused), "{told:?}");
    let ran = ran
        .says("  gpt: 1 request throttled, paused 1.0 s; the server allows 600 requests/min\n")
        .says("put `limits: { requests_per_minute: 600 }` into backend gpt\n");
    let markdown = std::fs::read_to_string(scratch.path().join("out/report.md"));
    let markdown = markdown.expect("the report for people");
    assert!(markdown.contains("| gpt | 1 request throttled, paused 1.0 s; "));
    assert!(ran.took >= Duration::from_secs(1));
}

#[test]
fn nothing_is_said_of_a_run_in_which_nothing_happened() {
    let scratch = Scratch::new();
    let server = limited(None);
    scratch
        .rows(5)
        .job(&format!("backends: {{ {} }}", server.backend("gpt", "")));
    let (ran, published) = scratch.run(0);
    let limits = &published.report["limits"]["gpt"];
    assert_eq!(limits["requests_per_minute"]["limit"], 600);
    assert_eq!(
        (&limits["refusals"], &limits["paused_ms"]),
        (&0.into(), &0.into())
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    ran.never_says("gpt:").never_says("limits:");
}

#[test]
fn quiet_is_quiet_about_pauses_too() {
    let scratch = Scratch::new();
    let server = limited(Some(0));
    scratch
        .rows(2)
        .job(&format!("backends: {{ {} }}", server.backend("gpt", "")));
    let ran = scratch.runner(&["job.yaml", "--quiet"]).exits(0);
    assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""));
    assert_eq!(server.requests(), 3);
}

#[test]
fn a_job_that_says_more_than_the_server_allows_is_told() {
    let scratch = Scratch::new();
    let server = limited(None);
    scratch.rows(2).job(&format!(
        "backends: {{ {} }}",
        server.backend("gpt", ", limits: { requests_per_minute: 6000 }")
    ));
    let (ran, _) = scratch.run(0);
    ran.says("  gpt: the server allows 600 requests/min (the job says 6000)\n")
        .says("put `limits: { requests_per_minute: 600 }` into backend gpt\n");
}

#[test]
fn a_backend_that_is_down_is_told_of_when_it_goes_and_when_it_is_back() {
    let scratch = Scratch::new().env("RUNNER_LOG", "debug");
    // Every row fails once, in whatever order the replies come.
    let down = Served::new(|number, seen| match number < 30 {
        true => served::fails(500, "server_error"),
        false => served::says(&served::prompt(seen)),
    });
    scratch.rows(30).job(&format!(
        "backends: {{ {} }}\nretry: {{ attempts: 3, initial: 1ms, max: 2ms }}",
        down.backend("a", "")
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.report["limits"]["a"]["breaker_opened"], 1);
    ran.says("a is down, next try in 1 s: http://127.0.0.1:")
        .says("a answers again\n")
        .says("answers again backend=\"a\"")
        .says("  a: failed again and again, left alone once");
}
