use serde_json::json;
use tokio_prompt_orchestrator::words::ErrorClass;
use tokio_prompt_orchestrator::{AnthropicWorker, LlamaCppWorker, OpenAiWorker, VllmWorker};

use crate::loopback::{Loopback, reply};
use crate::{CANARY, PROTOCOLS, ask, worker};

#[test]
fn workers_do_not_show_their_keys_or_what_stands_in_their_addresses() {
    let url = format!("https://me:{CANARY}@host:1/v1?key={CANARY}");
    let shown = [
        format!(
            "{:?}",
            OpenAiWorker::new("m").with_url(&url).with_api_key(CANARY)
        ),
        format!(
            "{:?}",
            AnthropicWorker::new("m")
                .with_url(&url)
                .with_api_key(CANARY)
        ),
        format!(
            "{:?}",
            LlamaCppWorker::new().with_url(&url).with_api_key(CANARY)
        ),
        format!(
            "{:#?}",
            VllmWorker::new().with_url(&url).with_api_key(CANARY)
        ),
    ];
    for shown in shown {
        assert!(
            !shown.contains(CANARY) && shown.contains("https://host:1"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_bring_it_into_an_error() {
    let long = "x".repeat(290);
    for (status, body) in [
        (
            401,
            json!({"error": {"message": CANARY, "code": CANARY, "type": CANARY}}),
        ),
        // The cut at 300 characters falls into the key.
        (
            400,
            json!({"error": {"message": format!("{long}{CANARY}")}}),
        ),
        (
            400,
            json!({"error": {"message": "m", "code": format!("{}{CANARY}", "x".repeat(90))}}),
        ),
        (
            400,
            json!({"request_id": CANARY, "error": {"message": "m"}}),
        ),
        (500, json!(CANARY)),
        (200, json!({"unexpected": CANARY})),
        // The cut of an id falls into the key.
        (
            400,
            json!({"request_id": format!("{long}{CANARY}"), "error": {"message": "m"}}),
        ),
        (
            200,
            json!({"status": format!("\u{1b}{CANARY}"), "output": []}),
        ),
        (200, json!({"error": {"message": CANARY, "code": CANARY}})),
    ] {
        for protocol in PROTOCOLS {
            let server = Loopback::json(status, &body);
            let error = ask(worker(protocol, &server.url).as_ref())
                .await
                .unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&CANARY[..8]), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_key_in_an_answer_does_not_bring_it_into_the_results() {
    let said = format!("you sent {CANARY}");
    for protocol in PROTOCOLS {
        let body = json!({
            "id": said, "model": said, "stop_type": said, "stop_reason": said, "type": "message", "object": "response",
            "status": "completed", "completion": said, "text": [said],
            "choices": [{"message": {"content": said}, "text": said, "finish_reason": said}],
            "content": match protocol {
                "anthropic_messages" => json!([{"type": "text", "text": said}]),
                _ => json!(said),
            },
            "output": [{"type": "message", "content": [{"type": "output_text", "text": said}]}],
        });
        let long = format!("{}{CANARY}", "x".repeat(290));
        let server = Loopback::always(reply(
            200,
            &[("x-request-id", &long)],
            body.to_string().as_bytes(),
            0,
        ));
        let answer = ask(worker(protocol, &server.url).as_ref()).await.unwrap();
        let shown = format!("{answer:?}");
        assert!(shown.contains("you sent [key]"), "{protocol}: {shown}");
        assert!(!shown.contains(&CANARY[..8]), "{protocol}: {shown}");
    }
}

#[tokio::test]
async fn an_address_with_a_password_is_shown_without_it() {
    let worker = OpenAiWorker::new("m").with_url(format!("http://me:{CANARY}@127.0.0.1:1/v1"));
    let error = ask(&worker.with_api_key("k")).await.unwrap_err();
    assert!(error.message.contains("http://127.0.0.1:1:"), "{error}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
}

#[tokio::test]
async fn a_missing_key_is_named_before_anything_is_sent() {
    let server = Loopback::json(200, &json!({}));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key_env("NO_SUCH_VARIABLE");
    let error = ask(&worker).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Config);
    assert!(error.message.contains("NO_SUCH_VARIABLE"), "{error}");
    assert_eq!(server.seen().len(), 0);

    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key("a\nb");
    let error = ask(&worker).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Config, "{error}");
    assert_eq!(server.seen().len(), 0);
}
