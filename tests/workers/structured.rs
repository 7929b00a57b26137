//! The form of an answer as each provider wants to be told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{
    AnthropicApi, Backend, BackendKind, Limits, LlamaCppApi, OpenAiApi, Server, VllmApi,
};
use tokio_prompt_orchestrator::words::{OutputSchema, Provider, Request, Sampling};
use tokio_prompt_orchestrator::worker::{Http, build};

use crate::loopback::Loopback;

/// The keys by which any provider is told of a form.
const KEYS: [&str; 4] = ["response_format", "text", "output_config", "json_schema"];

/// What a backend says of the form when it is asked for an answer of this one.
async fn told(kind: impl Fn(Server) -> BackendKind, model: &str, schema: Option<Value>) -> Value {
    let server = Loopback::json(500, &json!({}));
    let kind = kind(Server {
        url: server.url.clone(),
        model: Some(model.to_owned()),
        api_key_env: None,
        sampling: Sampling::defaults(Provider::Vllm, model),
        timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        stream: false,
        proxy: None,
    });
    let backend = Backend {
        name: "b".into(),
        kind,
        timeout: None,
        limits: Limits::default(),
        tariff: None,
        batch: None,
        account: None,
    };
    let mut request = Request::user("Which?");
    request.schema = schema.map(|schema| Arc::new(OutputSchema::new(schema)));
    let worker = build(&backend, &Http::new(1)).unwrap();
    worker.complete(&request).await.unwrap_err();
    let body = server.only().json();
    let keys = KEYS.iter().filter(|key| body.get(**key).is_some());
    let keys = keys.map(|key| ((*key).to_owned(), body[*key].clone()));
    Value::Object(keys.collect())
}

fn openai(api: OpenAiApi) -> impl Fn(Server) -> BackendKind {
    move |server| BackendKind::OpenAi(api, server)
}

fn anthropic(api: AnthropicApi) -> impl Fn(Server) -> BackendKind {
    move |server| BackendKind::Anthropic(api, server)
}

fn llama_cpp(api: LlamaCppApi) -> impl Fn(Server) -> BackendKind {
    move |server| BackendKind::LlamaCpp(api, server)
}

fn vllm(api: VllmApi) -> impl Fn(Server) -> BackendKind {
    move |server| BackendKind::Vllm(api, server)
}

fn labels() -> Value {
    json!({"type": "string", "enum": ["bug", "question"]})
}

/// An object that is open, with a bound.
fn open() -> Value {
    json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})
}

fn wrapped(schema: Value) -> Value {
    json!({
        "type": "object", "properties": {"answer": schema}, "required": ["answer"],
        "additionalProperties": false,
    })
}

#[tokio::test]
async fn each_protocol_is_told_of_a_label_in_its_own_words() {
    let (model, form) = ("m", || Some(labels()));
    assert_eq!(
        told(openai(OpenAiApi::Chat), model, form()).await,
        json!({"response_format": {"type": "json_schema", "json_schema": {
            "name": "answer", "strict": true, "schema": wrapped(labels()),
        }}})
    );
    assert_eq!(
        told(openai(OpenAiApi::Responses), model, form()).await,
        json!({"text": {"format": {
            "type": "json_schema", "name": "answer", "strict": true, "schema": wrapped(labels()),
        }}})
    );
    assert_eq!(
        told(
            anthropic(AnthropicApi::Messages),
            "claude-sonnet-4-5",
            form()
        )
        .await,
        json!({"output_config": {"format": {"type": "json_schema", "schema": wrapped(labels())}}})
    );
    let bare = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "answer", "schema": labels(),
    }}});
    assert_eq!(
        told(llama_cpp(LlamaCppApi::Chat), model, form()).await,
        bare
    );
    assert_eq!(told(vllm(VllmApi::Chat), model, form()).await, bare);
    assert_eq!(told(vllm(VllmApi::Completions), model, form()).await, bare);
    assert_eq!(
        told(llama_cpp(LlamaCppApi::Completion), model, form()).await,
        json!({"json_schema": labels()})
    );
}

#[tokio::test]
async fn an_open_object_is_a_hint_to_openai_and_closed_for_anthropic() {
    let seen = told(openai(OpenAiApi::Chat), "m", Some(open())).await;
    let format = &seen["response_format"]["json_schema"];
    assert_eq!(
        (&format["strict"], &format["schema"]),
        (&json!(false), &open())
    );
    let seen = told(openai(OpenAiApi::Responses), "m", Some(open())).await;
    assert_eq!(seen["text"]["format"]["strict"], false);
    let seen = told(anthropic(AnthropicApi::Messages), "m", Some(open())).await;
    let closed = json!({
        "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false,
    });
    assert_eq!(seen["output_config"]["format"]["schema"], closed);
    let seen = told(vllm(VllmApi::Chat), "m", Some(open())).await;
    assert_eq!(seen["response_format"]["json_schema"]["schema"], open());
}

#[tokio::test]
async fn who_takes_no_form_is_told_of_none() {
    for (kind, model) in [
        (openai(OpenAiApi::Completions), "m"),
        (openai(OpenAiApi::Chat), "gpt-4"),
        (openai(OpenAiApi::Chat), "ft:gpt-3.5-turbo-0125:me::1"),
        (openai(OpenAiApi::Responses), "gpt-4-turbo"),
    ] {
        assert_eq!(
            told(kind, model, Some(labels())).await,
            json!({}),
            "{model}"
        );
    }
    for (api, model) in [
        (AnthropicApi::Complete, "m"),
        (AnthropicApi::Messages, "claude-3-5-haiku-20241022"),
        (AnthropicApi::Messages, "claude-sonnet-4-20250514"),
    ] {
        let seen = told(anthropic(api), model, Some(labels())).await;
        assert_eq!(seen, json!({}), "{model}");
    }
    assert_eq!(
        told(vllm(VllmApi::Generate), "m", Some(labels())).await,
        json!({})
    );
    // What says nothing but that it is a text.
    let pattern = json!({"type": "string", "pattern": "^a"});
    let seen = told(anthropic(AnthropicApi::Messages), "m", Some(pattern)).await;
    assert_eq!(seen, json!({}));
}

#[tokio::test]
async fn without_a_form_nobody_is_told_of_one() {
    assert_eq!(told(openai(OpenAiApi::Chat), "m", None).await, json!({}));
    assert_eq!(
        told(openai(OpenAiApi::Responses), "m", None).await,
        json!({})
    );
    assert_eq!(
        told(anthropic(AnthropicApi::Messages), "m", None).await,
        json!({})
    );
    assert_eq!(
        told(llama_cpp(LlamaCppApi::Chat), "m", None).await,
        json!({})
    );
    assert_eq!(
        told(llama_cpp(LlamaCppApi::Completion), "m", None).await,
        json!({})
    );
    assert_eq!(told(vllm(VllmApi::Chat), "m", None).await, json!({}));
}
