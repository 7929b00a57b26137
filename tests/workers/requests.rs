use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{
    AnthropicApi, Backend, BackendKind, Limits, LlamaCppApi, OpenAiApi, Server, VllmApi,
};
use tokio_prompt_orchestrator::words::{ErrorClass, Message, Request, Role, Sampling};
use tokio_prompt_orchestrator::worker::{Http, build};
use tokio_prompt_orchestrator::{
    AnthropicWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};

use crate::loopback::{Loopback, Seen, reply};
use crate::{CANARY, PROTOCOLS, ask, worker};

/// Everything that can be set.
fn sampling() -> Sampling {
    Sampling {
        max_tokens: 64,
        temperature: Some(0.0),
        top_p: Some(0.9),
        top_k: Some(40),
        min_p: Some(0.05),
        stop: vec!["\n".to_owned()],
        seed: Some(7),
        frequency_penalty: Some(0.5),
        presence_penalty: Some(-0.5),
        reasoning_effort: Some("low".to_owned()),
    }
}

fn conversation() -> Request {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    Request::new(vec![
        message(Role::System, "Label it."),
        message(Role::User, "It \"fails\"\u{0}\n"),
        message(Role::Assistant, "bug"),
        message(Role::User, "Sure?"),
    ])
}

/// The request that a backend of a plan sends.
async fn sent(kind: impl Fn(Server) -> BackendKind, path: &str, model: Option<&str>) -> Seen {
    let server = Loopback::json(500, &json!({}));
    let kind = kind(Server {
        url: format!("{}{path}", server.url),
        model: model.map(str::to_owned),
        api_key_env: None,
        sampling: sampling(),
        timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        stream: false,
        proxy: None,
    });
    let worker = build(&backend(kind), &Http::new(1)).unwrap();
    let error = worker.complete(&conversation()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Server);
    server.only()
}

fn backend(kind: BackendKind) -> Backend {
    Backend {
        name: "b".into(),
        kind,
        timeout: None,
        limits: Limits::default(),
        tariff: None,
        batch: None,
        account: None,
    }
}

#[tokio::test]
async fn each_protocol_sends_exactly_its_own_fields() {
    let messages = json!([
        {"role": "system", "content": "Label it."},
        {"role": "user", "content": "It \"fails\"\u{0}\n"},
        {"role": "assistant", "content": "bug"},
        {"role": "user", "content": "Sure?"},
    ]);
    let turns = Value::from(messages.as_array().unwrap()[1..].to_vec());
    let prompt = "Label it.\n\nIt \"fails\"\u{0}\n\n\nbug\n\nSure?";

    let check = |seen: Seen, line: &str, body: Value| {
        assert_eq!(seen.line, line);
        assert_eq!(seen.json(), body, "{line}");
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("authorization"), None, "no key is declared");
        assert_eq!(seen.header("x-api-key"), None, "no key is declared");
        let anthropic = line.contains("/v1/messages") || line.contains("/v1/complete");
        let version = (anthropic && !line.contains("completions")).then_some("2023-06-01");
        assert_eq!(seen.header("anthropic-version"), version, "{line}");
    };

    let openai = |api| move |server| BackendKind::OpenAi(api, server);
    let model = Some("m");
    check(
        sent(openai(OpenAiApi::Chat), "/v1/", model).await,
        "POST /v1/chat/completions",
        json!({
            "model": "m", "messages": messages, "max_completion_tokens": 64,
            "temperature": 0.0, "top_p": 0.9, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5, "reasoning_effort": "low",
        }),
    );
    check(
        sent(openai(OpenAiApi::Completions), "/v1", model).await,
        "POST /v1/completions",
        json!({
            "model": "m", "prompt": prompt, "max_tokens": 64,
            "temperature": 0.0, "top_p": 0.9, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5,
        }),
    );
    check(
        sent(openai(OpenAiApi::Responses), "/v1", model).await,
        "POST /v1/responses",
        json!({
            "model": "m", "instructions": "Label it.", "input": turns, "max_output_tokens": 64,
            "temperature": 0.0, "top_p": 0.9, "reasoning": {"effort": "low"}, "store": false,
        }),
    );

    let anthropic = |api| move |server| BackendKind::Anthropic(api, server);
    check(
        sent(anthropic(AnthropicApi::Messages), "", model).await,
        "POST /v1/messages",
        json!({
            "model": "m", "system": "Label it.", "messages": turns, "max_tokens": 64,
            "temperature": 0.0, "top_p": 0.9, "top_k": 40, "stop_sequences": ["\n"],
        }),
    );
    check(
        sent(anthropic(AnthropicApi::Complete), "/v1/", model).await,
        "POST /v1/complete",
        json!({
            "model": "m", "max_tokens_to_sample": 64,
            "prompt": "Label it.\n\nHuman: It \"fails\"\u{0}\n\n\nAssistant: bug\n\nHuman: Sure?\n\nAssistant:",
            "temperature": 0.0, "top_p": 0.9, "top_k": 40, "stop_sequences": ["\n"],
        }),
    );

    let llama_cpp = |api| move |server| BackendKind::LlamaCpp(api, server);
    check(
        sent(llama_cpp(LlamaCppApi::Chat), "/v1", None).await,
        "POST /v1/chat/completions",
        json!({
            "messages": messages, "max_tokens": 64, "temperature": 0.0, "top_p": 0.9,
            "top_k": 40, "min_p": 0.05, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5, "reasoning_effort": "low",
        }),
    );
    check(
        sent(llama_cpp(LlamaCppApi::Completion), "/", None).await,
        "POST /completion",
        json!({
            "prompt": prompt, "n_predict": 64, "temperature": 0.0, "top_p": 0.9,
            "top_k": 40, "min_p": 0.05, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5,
        }),
    );

    let vllm = |api| move |server| BackendKind::Vllm(api, server);
    check(
        sent(vllm(VllmApi::Chat), "/v1", model).await,
        "POST /v1/chat/completions",
        json!({
            "model": "m", "messages": messages, "max_tokens": 64, "temperature": 0.0,
            "top_p": 0.9, "top_k": 40, "min_p": 0.05, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5, "reasoning_effort": "low",
        }),
    );
    check(
        sent(vllm(VllmApi::Completions), "", model).await,
        "POST /v1/completions",
        json!({
            "model": "m", "prompt": prompt, "max_tokens": 64, "temperature": 0.0,
            "top_p": 0.9, "top_k": 40, "min_p": 0.05, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5,
        }),
    );
    check(
        sent(vllm(VllmApi::Generate), "/", model).await,
        "POST /generate",
        json!({
            "prompt": prompt, "stream": false, "max_tokens": 64, "temperature": 0.0,
            "top_p": 0.9, "top_k": 40, "min_p": 0.05, "stop": ["\n"], "seed": 7,
            "frequency_penalty": 0.5, "presence_penalty": -0.5,
        }),
    );
}

#[tokio::test]
async fn the_key_goes_into_its_providers_header_with_its_line_end_trimmed() {
    for protocol in PROTOCOLS {
        let server = Loopback::json(500, &json!({}));
        ask(worker(protocol, &server.url).as_ref())
            .await
            .unwrap_err();
        let seen = server.only();
        let bearer = format!("Bearer {CANARY}");
        let expected = match protocol.starts_with("anthropic") {
            true => (None, Some(CANARY)),
            false => (Some(bearer.as_str()), None),
        };
        assert_eq!(
            (seen.header("authorization"), seen.header("x-api-key")),
            expected
        );
    }
    let server = Loopback::json(500, &json!({}));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key(format!("{CANARY} \r\n"));
    ask(&worker).await.unwrap_err();
    let expected = format!("Bearer {CANARY}");
    assert_eq!(
        server.only().header("authorization"),
        Some(expected.as_str())
    );
}

#[tokio::test]
async fn workers_without_settings_send_the_defaults_of_the_seed() {
    let server = Loopback::json(500, &json!({}));
    let prompt = json!([{"role": "user", "content": "The question is"}]);
    let url = server.url.as_str();
    let workers: [(Arc<dyn ModelWorker>, &str, Value); 7] = [
        (
            Arc::new(OpenAiWorker::new("gpt-4").with_url(url).with_api_key("k")),
            "POST /chat/completions",
            json!({"model": "gpt-4", "messages": prompt, "max_completion_tokens": 256, "temperature": 0.7}),
        ),
        (
            Arc::new(
                OpenAiWorker::new("gpt-3.5-turbo-instruct")
                    .with_url(url)
                    .with_api_key("k"),
            ),
            "POST /completions",
            json!({"model": "gpt-3.5-turbo-instruct", "prompt": "The question is", "max_tokens": 256, "temperature": 0.7}),
        ),
        (
            Arc::new(
                OpenAiWorker::new("text-davinci-003")
                    .with_url(url)
                    .with_api_key("k"),
            ),
            "POST /completions",
            json!({"model": "text-davinci-003", "prompt": "The question is", "max_tokens": 256, "temperature": 0.7}),
        ),
        (
            Arc::new(
                OpenAiWorker::new("o3")
                    .with_url(url)
                    .with_api_key("k")
                    .with_max_tokens(99)
                    .with_temperature(0.7),
            ),
            "POST /chat/completions",
            json!({"model": "o3", "messages": prompt, "max_completion_tokens": 99, "temperature": 0.7}),
        ),
        (
            Arc::new(
                AnthropicWorker::new("claude-opus-4-7")
                    .with_url(url)
                    .with_api_key("k"),
            ),
            "POST /v1/messages",
            json!({"model": "claude-opus-4-7", "messages": prompt, "max_tokens": 1024}),
        ),
        (
            Arc::new(LlamaCppWorker::new().with_url(url).with_max_tokens(-1)),
            "POST /v1/chat/completions",
            json!({"messages": prompt, "max_tokens": -1, "temperature": 0.8}),
        ),
        (
            Arc::new(
                VllmWorker::new()
                    .with_url(url)
                    .with_model("m")
                    .with_temperature(0.1)
                    .with_top_p(0.3),
            ),
            "POST /v1/chat/completions",
            json!({"model": "m", "messages": prompt, "max_tokens": 512, "temperature": 0.1, "top_p": 0.3}),
        ),
    ];
    for (worker, line, body) in workers {
        ask(worker.as_ref()).await.unwrap_err();
        let seen = server.seen().pop().unwrap();
        assert_eq!((seen.line.as_str(), seen.json()), (line, body));
    }
}

#[tokio::test]
async fn a_vllm_worker_without_a_model_asks_once_which_one_is_served() {
    let server = Loopback::new(|seen| {
        let body = match seen.line.as_str() {
            "GET /v1/models" => {
                json!({"object": "list", "data": [{"id": "tiny"}, {"id": "other"}]})
            }
            _ => json!({"choices": [{"text": "yes"}]}),
        };
        reply(200, &[], body.to_string().as_bytes(), 0)
    });
    let worker = VllmWorker::new()
        .with_url(&server.url)
        .with_api(VllmApi::Completions);
    for _ in 0..3 {
        assert_eq!(ask(&worker).await.unwrap().text, "yes");
    }
    let seen = server.seen();
    let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
    let post = "POST /v1/completions";
    assert_eq!(lines, ["GET /v1/models", post, post, post]);
    assert_eq!(seen[3].json()["model"], "tiny");

    let server = Loopback::json(200, &json!({"object": "list", "data": []}));
    let error = ask(&VllmWorker::new().with_url(&server.url))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Config);
}

#[tokio::test]
async fn infer_gives_the_text_split_at_white_space_and_refusals_as_errors() {
    let chat = |message: Value| json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let server = Loopback::json(200, &chat(json!({"content": " a\n b\tc "})));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key("k");
    assert_eq!(worker.infer("x").await.unwrap(), ["a", "b", "c"]);

    let server = Loopback::json(200, &chat(json!({"content": null, "refusal": "No."})));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key("k");
    let error = worker.infer("x").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Flagged);
    assert_eq!(error.to_string(), "the model declined: No.");
}
