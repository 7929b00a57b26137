use std::time::Duration;

use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{EchoFailure, EchoScript, LlamaCppApi, OpenAiApi, VllmApi};
use tokio_prompt_orchestrator::words::{ErrorClass, Provider, Request, Sampling};
use tokio_prompt_orchestrator::{
    EchoWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};

use crate::loopback::Loopback;
use crate::{PROTOCOLS, worker};

fn repeated(repeat: u32) -> Request {
    let mut request = Request::user("The question is");
    request.repeat = repeat;
    request
}

/// The body that a worker with this seed sends for this repeat.
async fn sent(protocol: &str, seed: Option<u64>, repeat: u32) -> Value {
    let server = Loopback::json(500, &json!({}));
    let url = server.url.clone();
    let mut sampling = Sampling::defaults(Provider::OpenAi, "m");
    sampling.seed = seed;
    let openai = |api| {
        let worker = OpenAiWorker::new("m").with_api(api).with_url(&url);
        worker.with_api_key("k").with_sampling(sampling.clone())
    };
    let llama_cpp = |api| {
        let worker = LlamaCppWorker::new().with_api(api).with_url(&url);
        worker.with_sampling(sampling.clone())
    };
    let vllm = |api| {
        let worker = VllmWorker::new().with_api(api).with_url(&url);
        worker.with_model("m").with_sampling(sampling.clone())
    };
    let worker: Box<dyn ModelWorker> = match protocol {
        "openai_chat" => Box::new(openai(OpenAiApi::Chat)),
        "openai_completions" => Box::new(openai(OpenAiApi::Completions)),
        "llama_cpp_chat" => Box::new(llama_cpp(LlamaCppApi::Chat)),
        "llama_cpp_completion" => Box::new(llama_cpp(LlamaCppApi::Completion)),
        "vllm_chat" => Box::new(vllm(VllmApi::Chat)),
        "vllm_completions" => Box::new(vllm(VllmApi::Completions)),
        "vllm_generate" => Box::new(vllm(VllmApi::Generate)),
        other => panic!("{other} knows no seed"),
    };
    worker.complete(&repeated(repeat)).await.unwrap_err();
    server.only().json()
}

#[tokio::test]
async fn a_seed_is_raised_by_the_repeat_and_begins_again_where_servers_integers_end() {
    for protocol in [
        "openai_chat",
        "openai_completions",
        "llama_cpp_chat",
        "llama_cpp_completion",
        "vllm_chat",
        "vllm_completions",
        "vllm_generate",
    ] {
        for (seed, repeat, expected) in [
            (7, 0, 7),
            (7, 1, 8),
            (0, u32::MAX, 4_294_967_295),
            (i64::MAX as u64, 0, i64::MAX as u64),
            (i64::MAX as u64, 2, 1),
            (u64::MAX, 0, u64::MAX),
            (u64::MAX, 2, 1),
        ] {
            let body = sent(protocol, Some(seed), repeat).await;
            assert_eq!(body["seed"], json!(expected), "{protocol} {seed} {repeat}");
        }
        let body = sent(protocol, None, 3).await;
        assert_eq!(body.get("seed"), None, "{protocol}: no seed is made up");
    }
}

#[tokio::test]
async fn without_a_seed_every_repeat_is_the_same_request() {
    for protocol in PROTOCOLS {
        let server = Loopback::json(500, &json!({}));
        let worker = worker(protocol, &server.url);
        for repeat in [0, 1] {
            worker.complete(&repeated(repeat)).await.unwrap_err();
        }
        let seen = server.seen();
        assert_eq!(seen[0].json(), seen[1].json(), "{protocol}");
    }
}

/// Which of the first 48 attempts at a repeat fail, by a script in which every second one does.
async fn failures(repeat: u32) -> String {
    let worker = EchoWorker::scripted(EchoScript {
        delay: Duration::ZERO,
        reply: None,
        usage: None,
        model: "echo".to_owned(),
        failures: vec![EchoFailure {
            class: ErrorClass::Server,
            per_million: 500_000,
        }],
        seed: 7,
    });
    let mut drawn = String::new();
    for attempt in 1..=48 {
        let mut request = repeated(repeat);
        request.attempt = attempt;
        let failed = worker.complete(&request).await.is_err();
        drawn.push(if failed { 'x' } else { '.' });
    }
    drawn
}

#[tokio::test]
async fn echo_draws_its_failures_anew_for_each_repeat_and_as_ever_for_the_first() {
    let first = ".x.xx.xxx.xxxx...x.xxxx.xxx.xx..xx..x...x.xx..x.";
    assert_eq!(failures(0).await, first);
    let second = failures(1).await;
    assert_ne!(second, first);
    assert_ne!(second, failures(2).await);
    assert_eq!(second, failures(1).await, "and always the same ones");
}
