use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_prompt_orchestrator::ModelWorker;
use tokio_prompt_orchestrator::job::{Job, Surroundings};
use tokio_prompt_orchestrator::words::{
    CallError, Columns, Completion, Digest, ErrorClass, FinishReason, Request, Row, Usage,
};
use tokio_prompt_orchestrator::worker::{Http, build};

use crate::ask;
use crate::loopback::{Act, Loopback, head, reply};

const BODY: &str = "body: { q: \"{{ prompt }}\" }";
const ANSWER: &str = "pointers: { text: /a }";

fn columns() -> Arc<Columns> {
    Arc::new(Columns::new(vec!["note".to_owned()]))
}

/// The worker of a backend that a job declares with these keys, one or more a line.
fn worker(url: &str, keys: &[&str]) -> Arc<dyn ModelWorker> {
    let keys = keys.join("\n    ");
    let text = format!(
        "inputs: rows.csv\nprompt: x\nbackends:\n  mine:\n    type: http\n    url: {url}\n    {keys}\n"
    );
    let columns = columns();
    let surroundings = Surroundings {
        columns: Some(&columns),
        env: &|name| std::env::var(name).ok(),
        today: jiff::civil::date(2026, 11, 22),
        prices: &[],
        sends: true,
    };
    let plan = Job::parse(Path::new("job.yaml"), text, &[])
        .and_then(|job| job.resolve(&surroundings, Vec::new()))
        .unwrap_or_else(|problems| panic!("{problems}"));
    build(&plan.backends[0], &Http::new(1)).unwrap()
}

fn request() -> Request {
    Request::user("It \"fails\"\u{0}\n")
        .with_system("Label it.")
        .with_row(Arc::new(Row {
            index: 0,
            id: "r".to_owned(),
            columns: columns(),
            cells: vec!["{{ prompt }}\\".to_owned()],
            key: Digest::default(),
        }))
}

/// What becomes of this reply.
async fn read(status: u16, body: &Value, pointers: &str) -> Result<Completion, CallError> {
    let server = Loopback::json(status, body);
    ask(worker(&server.url, &[BODY, pointers]).as_ref()).await
}

#[tokio::test]
async fn a_body_of_yaml_is_sent_with_every_text_filled_in_and_every_type_kept() {
    let server = Loopback::json(200, &json!({"a": "yes"}));
    let url = format!("{}/v1/answer/?api-version=2", server.url);
    let worker = worker(
        &url,
        &[
            "model: small-1",
            "max_tokens: 16",
            "headers: { X-Api-Version: \"2\", accept: application/json }",
            "body:",
            "  question: \"{{ prompt }}\"",
            "  whole: \"{{ system }} | {{ note }}\"",
            "  messages: \"{{ messages }}\"",
            "  options: { n: 1, stream: false, cap: \"{{ max_tokens }}\", model: \"{{ model }}\" }",
            ANSWER,
        ],
    );
    let completion = worker.complete(&request()).await.unwrap();
    assert_eq!(completion, Completion::text("yes"));
    let seen = server.only();
    assert_eq!(seen.line, "POST /v1/answer/?api-version=2");
    let prompt = "It \"fails\"\u{0}\n";
    let expected = json!({
        "question": prompt,
        "whole": "Label it. | {{ prompt }}\\",
        "messages": [
            {"role": "system", "content": "Label it."}, {"role": "user", "content": prompt},
        ],
        "options": {"n": 1, "stream": false, "cap": 16, "model": "small-1"},
    });
    assert_eq!(seen.json(), expected);
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("x-api-version", Some("2")),
        ("accept", Some("application/json")),
        ("authorization", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_body_of_one_template_is_sent_as_the_json_that_it_renders_to() {
    let server = Loopback::json(200, &json!({"a": "yes"}));
    let worker = worker(
        &server.url,
        &[
            "body: |",
            "  [{% for message in messages %}{{ message.content | tojson }},{% endfor %} 7]",
            ANSWER,
        ],
    );
    worker.complete(&request()).await.unwrap();
    let expected = json!(["Label it.", "It \"fails\"\u{0}\n", 7]);
    assert_eq!(server.only().json(), expected);
}

#[tokio::test]
async fn a_row_whose_body_cannot_be_rendered_fails_alone_and_is_not_sent() {
    let server = Loopback::json(200, &json!({"a": "yes"}));
    let body = "body: \"{ \\\"q\\\": \\\"{{ prompt }}\\\" }\"";
    let worker = worker(&server.url, &[body, ANSWER]);
    let error = worker.complete(&request()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RowFatal);
    assert_eq!(server.seen().len(), 0);
    assert_eq!(ask(worker.as_ref()).await.unwrap().text, "yes");
}

#[tokio::test]
async fn keys_go_into_their_headers_and_come_back_in_no_error() {
    // Cargo sets these for every test: variables that are sure to be there, with values that stand
    // nowhere else.
    let (one, two) = ("CARGO_PKG_DESCRIPTION", "CARGO_MANIFEST_DIR");
    let values = [one, two].map(|name| std::env::var(name).unwrap());
    let bearer = format!("Bearer {}", values[0]);
    let keys = [
        format!("api_key_env: {one}"),
        format!("headers_env: {{ X-Api-Key: {two} }}"),
        BODY.to_owned(),
        "pointers: { text: /a, error: /e }".to_owned(),
    ];
    let keys = keys.each_ref().map(String::as_str);
    for (status, place) in [
        (401, "e"),
        (400, "error"),
        (500, "z"),
        (200, "e"),
        (200, "z"),
        (200, "a"),
    ] {
        let server = Loopback::new(move |seen| {
            // What it was sent, it says; the cut at 300 characters falls into it.
            let sent: Vec<&str> = ["authorization", "x-api-key"]
                .iter()
                .filter_map(|name| seen.header(name))
                .collect();
            let said = format!("{} {}", "x".repeat(250), sent.join(" and "));
            let value = match place {
                "a" => json!({ "said": said }),
                _ => json!(said),
            };
            let body = json!({ place: value });
            let headers = [("x-request-id", sent[1])];
            reply(status, &headers, body.to_string().as_bytes(), 0)
        });
        let worker = worker(&server.url, &keys);
        let error = ask(worker.as_ref()).await.unwrap_err();
        let seen = server.only();
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
        assert_eq!(seen.header("x-api-key"), Some(values[1].as_str()));
        let shown = format!("{error} {error:?}");
        for value in &values {
            assert!(
                !shown.contains(value.get(..8).unwrap_or(value)),
                "{status} {place}: {shown}"
            );
        }
        if status == 401 {
            let advice = format!("check the key in {one}, check the key in {two}");
            assert!(error.message.contains(&advice), "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_from_where_the_job_says() {
    let pointers = "pointers: { text: /out/0/text, input_tokens: /usage/in, output_tokens: /usage/out, \
                    model: /model, finish_reason: /out/0/stop }";
    let body = json!({
        "out": [{"text": "yes", "stop": "max_tokens"}], "usage": {"in": 12.0, "out": 3}, "model": "small-2",
    });
    let completion = read(200, &body, pointers).await.unwrap();
    let mut expected = Completion::text("yes");
    expected.finish_reason = Some(FinishReason::Length);
    expected.usage = Some(Usage::new(12, 3));
    expected.model = Some("small-2".to_owned());
    assert_eq!(completion, expected);

    // What is not there is not known, and never 0.
    let body = json!({"out": [{"text": "", "stop": null}], "usage": {"in": "12"}});
    assert_eq!(
        read(200, &body, pointers).await.unwrap(),
        Completion::text("")
    );
}

#[tokio::test]
async fn a_text_may_be_several_or_a_number() {
    for (body, text) in [
        (json!({"a": ["y", "", "es"]}), "yes"),
        (json!({"a": 0.5}), "0.5"),
        (json!({"a": true}), "true"),
    ] {
        assert_eq!(read(200, &body, ANSWER).await.unwrap().text, text);
    }
    let whole = read(200, &json!("yes"), "pointers: { text: \"\" }").await;
    assert_eq!(whole.unwrap().text, "yes");
    let escaped = read(
        200,
        &json!({"a/b": {"~": "yes"}}),
        "pointers: { text: /a~1b/~0 }",
    )
    .await;
    assert_eq!(escaped.unwrap().text, "yes");
}

#[tokio::test]
async fn a_reply_without_a_text_is_invalid_and_says_what_was_there_instead() {
    let pointers = "pointers: { text: /a, output_tokens: /n, finish_reason: /why }";
    for (body, part) in [
        (json!({"n": 3}), "no text at /a: {\"n\":3}"),
        (json!({"n": 3, "a": null}), "no text at /a but null: {"),
        (
            json!({"n": 3, "a": {"x": "\u{1b}[2J"}}),
            "no text at /a but an object: {",
        ),
        (
            json!({"n": 3, "a": []}),
            "no text at /a but an empty list: {",
        ),
        (
            json!({"n": 3, "a": ["x", 1]}),
            "no text at /a but a list of other things: {",
        ),
    ] {
        let error = read(200, &body, pointers).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.message.contains(part), "{error}");
        assert!(!error.message.contains('\u{1b}'), "{error}");
        // It was paid for.
        let output = error.usage.and_then(|usage| usage.output_tokens);
        assert_eq!(output, Some(3));
    }
    // A filter that took the answer says so, and nothing is missing.
    let body = json!({"why": "SAFETY"});
    let withheld = read(200, &body, pointers).await.unwrap();
    assert_eq!(withheld.text, "");
    assert_eq!(withheld.finish_reason, Some(FinishReason::ContentFilter));
}

#[tokio::test]
async fn reasons_to_stop_are_understood_in_every_language() {
    for (word, reason) in [
        ("stop", FinishReason::Stop),
        ("END_TURN", FinishReason::Stop),
        ("eos_token", FinishReason::Stop),
        ("length", FinishReason::Length),
        ("MAX_TOKENS", FinishReason::Length),
        ("content_filter", FinishReason::ContentFilter),
        ("refusal", FinishReason::Refusal),
        ("Weekend", FinishReason::Other("Weekend".to_owned())),
    ] {
        let body = json!({"a": "yes", "why": word});
        let completion = read(200, &body, "pointers: { text: /a, finish_reason: /why }").await;
        assert_eq!(completion.unwrap().finish_reason, Some(reason));
    }
}

#[tokio::test]
async fn a_good_status_with_an_error_in_it_is_an_error() {
    let pointers = "pointers: { text: /a, error: /e, input_tokens: /n }";
    for (said, class, code, part) in [
        (
            json!("no such voice"),
            ErrorClass::Server,
            None,
            ": no such voice",
        ),
        (
            json!("rate_limit_exceeded"),
            ErrorClass::Throttled,
            Some("rate_limit_exceeded"),
            "(rate",
        ),
        (json!(429), ErrorClass::Throttled, Some("429"), "(429)"),
        (json!(17), ErrorClass::Server, Some("17"), "(17)"),
        (
            json!({"code": "invalid_api_key", "message": "who?"}),
            ErrorClass::Config,
            Some("invalid_api_key"),
            ": who?",
        ),
        (
            json!({"reason": "tired"}),
            ErrorClass::Server,
            None,
            "{\"reason\":\"tired\"}",
        ),
        (json!(["tired"]), ErrorClass::Server, None, "[\"tired\"]"),
        (json!(true), ErrorClass::Server, None, ": true"),
    ] {
        let error = read(200, &json!({"a": "yes", "e": said, "n": 5}), pointers)
            .await
            .unwrap_err();
        assert_eq!(
            (error.class, error.code.as_deref()),
            (class, code),
            "{error}"
        );
        assert!(error.message.contains(part), "{error}");
        assert_eq!(error.usage.and_then(|usage| usage.input_tokens), Some(5));
    }
    // What services send with a good answer.
    for nothing in [
        json!(null),
        json!(false),
        json!(0),
        json!(""),
        json!([]),
        json!({}),
    ] {
        let completion = read(200, &json!({"a": "yes", "e": nothing}), pointers).await;
        assert_eq!(completion.unwrap().text, "yes");
    }
    // Where errors usually stand one counts, but only if there is no answer.
    let error = read(200, &json!({"error": {"code": 503}}), ANSWER)
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Server);
    let fine = read(200, &json!({"a": "yes", "error": {"code": 503}}), ANSWER).await;
    assert_eq!(fine.unwrap().text, "yes");
}

#[tokio::test]
async fn each_failure_has_its_class() {
    for (status, class) in [
        (302, ErrorClass::Config),
        (400, ErrorClass::RowFatal),
        (401, ErrorClass::Config),
        (402, ErrorClass::Exhausted),
        (404, ErrorClass::Config),
        (429, ErrorClass::Throttled),
        (500, ErrorClass::Server),
        (502, ErrorClass::Ambiguous),
    ] {
        let pointers = "pointers: { text: /a, error: /e/text }";
        let body = json!({"e": {"text": "as it says"}});
        let error = read(status, &body, pointers).await.unwrap_err();
        assert_eq!(
            (error.class, error.status),
            (class, Some(status)),
            "{error}"
        );
        assert!(error.message.contains(": as it says"), "{error}");
        assert!(!error.message.contains("`api`"), "{error}");
    }
    // Wherever the reason stands, it is shown.
    let error = read(422, &json!({"why": "no"}), ANSWER).await.unwrap_err();
    assert!(
        error.message.ends_with("answered 422: {\"why\":\"no\"}"),
        "{error}"
    );

    let headers = [("retry-after", "7"), ("x-request-id", "r-1")];
    for (act, class) in [
        (reply(429, &headers, b"{}", 0), ErrorClass::Throttled),
        (reply(200, &headers, b"<html>", 0), ErrorClass::Invalid),
        (reply(200, &headers, b"", 0), ErrorClass::Invalid),
        (
            reply(200, &headers, b"{\"a\": 1}", 3),
            ErrorClass::Ambiguous,
        ),
        (Act::Hang(head(200, &headers)), ErrorClass::Ambiguous),
    ] {
        let server = Loopback::always(act);
        let worker = worker(&server.url, &[BODY, ANSWER, "timeout: 1s"]);
        let error = ask(worker.as_ref()).await.unwrap_err();
        assert_eq!(error.class, class, "{error}");
        if class == ErrorClass::Throttled {
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
            assert_eq!(error.request_id.as_deref(), Some("r-1"));
        }
    }
    let refused = ask(worker("http://127.0.0.1:1", &[BODY, ANSWER]).as_ref()).await;
    assert_eq!(refused.unwrap_err().class, ErrorClass::NotSent);
}
