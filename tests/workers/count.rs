use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{AnthropicApi, LlamaCppApi, VllmApi};
use tokio_prompt_orchestrator::words::{ErrorClass, Message, Request, Role};
use tokio_prompt_orchestrator::{
    AnthropicWorker, EchoWorker, LlamaCppWorker, ModelWorker, VllmWorker,
};

use crate::loopback::{Act, Loopback, reply};
use crate::{CANARY, PROTOCOLS, worker};

fn conversation() -> Request {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    Request::new(vec![
        message(Role::System, "Label it."),
        message(Role::User, "It fails"),
    ])
}

/// Answers each path with its own status and JSON; what is not named is not there.
fn pages(pages: &'static [(&'static str, u16, &'static str)]) -> Loopback {
    Loopback::new(move |seen| {
        let found = pages
            .iter()
            .find(|(path, _, _)| seen.line == format!("POST {path}"));
        match found {
            Some((_, status, body)) => reply(*status, &[], body.as_bytes(), 0),
            None => reply(404, &[], br#"{"error":{"message":"no such page"}}"#, 0),
        }
    })
}

/// What a worker of this protocol is told, and what it asked: paths and bodies.
async fn counted(
    protocol: &str,
    server: &Loopback,
) -> (Option<Result<u64, ErrorClass>>, Vec<(String, Value)>) {
    let counted = worker(protocol, &server.url)
        .count_tokens(&conversation())
        .await;
    let counted = counted.map(|counted| counted.map_err(|error| error.class()));
    let asked = server.seen();
    let asked = asked.iter().map(|seen| (seen.line.clone(), seen.json()));
    (counted, asked.collect())
}

fn turns() -> Value {
    json!([
        { "role": "system", "content": "Label it." },
        { "role": "user", "content": "It fails" },
    ])
}

#[tokio::test]
async fn anthropic_counts_the_messages_as_they_would_be_sent() {
    let server = pages(&[("/v1/messages/count_tokens", 200, r#"{"input_tokens":2095}"#)]);
    let (count, asked) = counted("anthropic_messages", &server).await;
    assert_eq!(count, Some(Ok(2095)));
    let body = json!({
        "model": "claude-3-5-haiku-20241022",
        "system": "Label it.",
        "messages": [{ "role": "user", "content": "It fails" }],
    });
    let line = "POST /v1/messages/count_tokens".to_owned();
    assert_eq!(asked, [(line, body)]);
    let seen = server.only();
    assert_eq!(seen.header("x-api-key"), Some(CANARY));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
}

#[tokio::test]
async fn llama_cpp_counts_a_chat_after_the_models_template() {
    let server = pages(&[(
        "/v1/chat/completions/input_tokens",
        200,
        r#"{"object":"response.input_tokens","input_tokens":31}"#,
    )]);
    let (count, asked) = counted("llama_cpp_chat", &server).await;
    assert_eq!(count, Some(Ok(31)));
    assert_eq!(asked[0].1, json!({ "messages": turns() }));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn an_older_llama_cpp_applies_its_template_and_counts_the_text() {
    for status in [404, 501] {
        let first: &[_] = match status {
            404 => &[
                ("/apply-template", 200, r#"{"prompt":"<s>It fails"}"#),
                ("/tokenize", 200, r#"{"tokens":[1,306,8465]}"#),
            ],
            _ => &[
                ("/v1/chat/completions/input_tokens", 501, "{}"),
                ("/apply-template", 200, r#"{"prompt":"<s>It fails"}"#),
                ("/tokenize", 200, r#"{"tokens":[1,306,8465]}"#),
            ],
        };
        let server = pages(first);
        let (count, asked) = counted("llama_cpp_chat", &server).await;
        assert_eq!(count, Some(Ok(3)), "{status}");
        let paths: Vec<&str> = asked.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(
            paths,
            [
                "POST /v1/chat/completions/input_tokens",
                "POST /apply-template",
                "POST /tokenize",
            ]
        );
        assert_eq!(asked[1].1, json!({ "messages": turns() }));
        let text = json!({ "content": "<s>It fails", "add_special": true, "parse_special": true });
        assert_eq!(asked[2].1, text);
    }
}

#[tokio::test]
async fn a_plain_prompt_is_counted_as_a_text() {
    let server = pages(&[("/tokenize", 200, r#"{"tokens":[1,2,3,4]}"#)]);
    let (count, asked) = counted("llama_cpp_completion", &server).await;
    assert_eq!(count, Some(Ok(4)));
    assert_eq!(asked[0].1["content"], "Label it.\n\nIt fails");

    let server = pages(&[(
        "/tokenize",
        200,
        r#"{"count":9,"max_model_len":1024,"tokens":[1]}"#,
    )]);
    let (count, asked) = counted("vllm_completions", &server).await;
    assert_eq!(count, Some(Ok(9)));
    let body = json!({ "model": "tiny", "prompt": "Label it.\n\nIt fails" });
    assert_eq!(asked[0].1, body);
}

#[tokio::test]
async fn vllm_counts_a_chat_after_the_models_template() {
    let server = pages(&[(
        "/tokenize",
        200,
        r#"{"count":17,"max_model_len":1024,"tokens":[1,2]}"#,
    )]);
    let (count, asked) = counted("vllm_chat", &server).await;
    assert_eq!(count, Some(Ok(17)));
    assert_eq!(asked[0].1, json!({ "model": "tiny", "messages": turns() }));
}

#[tokio::test]
async fn no_server_is_asked_that_has_no_way_to_count() {
    for protocol in PROTOCOLS {
        let counts = matches!(
            protocol,
            "anthropic_messages"
                | "llama_cpp_chat"
                | "llama_cpp_completion"
                | "vllm_chat"
                | "vllm_completions"
        );
        let server = Loopback::json(500, &json!({}));
        let (count, asked) = counted(protocol, &server).await;
        assert_eq!(count.is_some(), counts, "{protocol}");
        assert_eq!(!asked.is_empty(), counts, "{protocol}");
    }
    assert!(
        EchoWorker::new()
            .count_tokens(&conversation())
            .await
            .is_none()
    );
}

#[tokio::test]
async fn what_is_no_count_is_an_error_and_never_a_number() {
    for protocol in ["anthropic_messages", "llama_cpp_chat", "vllm_chat"] {
        for (status, body, class) in [
            (
                404,
                r#"{"error":{"message":"no such page"}}"#,
                ErrorClass::Config,
            ),
            (401, r#"{"error":{"message":"no key"}}"#, ErrorClass::Config),
            (
                200,
                r#"{"input_tokens":-1,"count":"many"}"#,
                ErrorClass::Invalid,
            ),
            (200, "[]", ErrorClass::Invalid),
            (200, "<html>", ErrorClass::Invalid),
        ] {
            let server = Loopback::always(reply(status, &[], body.as_bytes(), 0));
            let (count, _) = counted(protocol, &server).await;
            assert_eq!(count, Some(Err(class)), "{protocol}: {status} {body}");
        }
    }
    let server = Loopback::always(Act::Write(Vec::new()));
    let claude = AnthropicWorker::new("m").with_api(AnthropicApi::Messages);
    let claude = claude.with_url(&server.url).with_api_key(CANARY);
    let error = claude.count_tokens(&conversation()).await;
    let error = error.and_then(Result::err).unwrap().to_string();
    assert!(!error.contains(CANARY), "{error}");
    let llama = LlamaCppWorker::new().with_api(LlamaCppApi::Chat);
    let vllm = VllmWorker::new().with_api(VllmApi::Chat).with_model("m");
    for worker in [
        &llama.with_url("http://127.0.0.1:1") as &dyn ModelWorker,
        &vllm.with_url("http://127.0.0.1:1"),
    ] {
        let error = worker.count_tokens(&conversation()).await;
        let error = error.and_then(Result::err).unwrap();
        assert_eq!(error.class(), ErrorClass::NotSent);
    }
}
