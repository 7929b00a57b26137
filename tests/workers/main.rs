//! The workers against a loopback server: no network, no keys.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/loopback.rs"]
mod loopback;
#[path = "../common/streamed.rs"]
mod streamed;

/// What a server says of how many tokens a request has.
mod count;
/// Backends that a job declares.
mod declared;
/// What a server says of its limits.
mod limits;
/// What a server says of how busy it is.
mod load;
/// Repeats of a request.
mod repeats;
/// What every recorded reply is turned into.
mod replies;
/// What exactly is sent.
mod requests;
/// Servers and networks that misbehave.
mod rude;
/// Keys and where they must not appear.
mod secrets;
/// Replies that come as streams of events.
mod streams;
/// The form of an answer, as each provider is told of it.
mod structured;

use std::sync::Arc;
use std::time::Duration;

use tokio_prompt_orchestrator::job::{AnthropicApi, LlamaCppApi, OpenAiApi, VllmApi};
use tokio_prompt_orchestrator::words::{CallError, Completion, Request};
use tokio_prompt_orchestrator::{
    AnthropicWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};

/// A key that must never be seen but in its header.
const CANARY: &str = "sk-canary-5ca1ab1e";

/// Every protocol, as the folders of the fixtures are named.
const PROTOCOLS: [&str; 10] = [
    "openai_chat",
    "openai_completions",
    "openai_responses",
    "anthropic_messages",
    "anthropic_complete",
    "llama_cpp_chat",
    "llama_cpp_completion",
    "vllm_chat",
    "vllm_completions",
    "vllm_generate",
];

/// A worker that speaks this protocol with the server at this address.
fn worker(protocol: &str, url: &str) -> Arc<dyn ModelWorker> {
    let timeout = Duration::from_secs(5);
    let openai = |api| -> Arc<dyn ModelWorker> {
        let worker = OpenAiWorker::new("gpt-4o-mini")
            .with_api(api)
            .with_url(format!("{url}/v1"));
        Arc::new(worker.with_api_key(CANARY).with_timeout(timeout))
    };
    let anthropic = |api| -> Arc<dyn ModelWorker> {
        let worker = AnthropicWorker::new("claude-3-5-haiku-20241022")
            .with_api(api)
            .with_url(url);
        Arc::new(worker.with_api_key(CANARY).with_timeout(timeout))
    };
    let llama_cpp = |api| -> Arc<dyn ModelWorker> {
        let worker = LlamaCppWorker::new().with_api(api).with_url(url);
        Arc::new(worker.with_api_key(CANARY).with_timeout(timeout))
    };
    let vllm = |api| -> Arc<dyn ModelWorker> {
        let worker = VllmWorker::new()
            .with_api(api)
            .with_url(url)
            .with_model("tiny");
        Arc::new(worker.with_api_key(CANARY).with_timeout(timeout))
    };
    match protocol {
        "openai_chat" => openai(OpenAiApi::Chat),
        "openai_completions" => openai(OpenAiApi::Completions),
        "openai_responses" => openai(OpenAiApi::Responses),
        "anthropic_messages" => anthropic(AnthropicApi::Messages),
        "anthropic_complete" => anthropic(AnthropicApi::Complete),
        "llama_cpp_chat" => llama_cpp(LlamaCppApi::Chat),
        "llama_cpp_completion" => llama_cpp(LlamaCppApi::Completion),
        "vllm_chat" => vllm(VllmApi::Chat),
        "vllm_completions" => vllm(VllmApi::Completions),
        "vllm_generate" => vllm(VllmApi::Generate),
        other => panic!("no protocol {other}"),
    }
}

/// Asks a worker the question that the recorded replies answer.
async fn ask(worker: &dyn ModelWorker) -> Result<Completion, CallError> {
    let request = Request::user("The question is");
    worker
        .complete(&request)
        .await
        .map_err(|error| error.into_call_error())
}
