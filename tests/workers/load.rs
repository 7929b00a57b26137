use std::time::{Duration, Instant};

use serde_json::json;
use tokio_prompt_orchestrator::job::VllmApi;
use tokio_prompt_orchestrator::words::Load;
use tokio_prompt_orchestrator::{EchoWorker, LlamaCppWorker, ModelWorker, VllmWorker};

use crate::loopback::{Act, Loopback, reply};
use crate::{CANARY, PROTOCOLS, worker};

/// The part of vLLM's page that counts, as a server with two engines writes it.
const METRICS: &str = r#"# HELP python_info Python platform information
# TYPE python_info gauge
python_info{implementation="CPython",major="3"} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="a } b"} 3.0 1795377600000
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting{engine="1",model_name="tiny"} 1e1
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 70.0
vllm:num_requests_running_total 70.0
"#;

fn page(status: u16, body: &str) -> Loopback {
    Loopback::always(reply(status, &[], body.as_bytes(), 0))
}

async fn llama_cpp(status: u16, body: &str) -> Option<Load> {
    let server = page(status, body);
    let load = LlamaCppWorker::new().with_url(&server.url).load().await;
    assert_eq!(server.only().line, "GET /props");
    load
}

async fn vllm(status: u16, body: &str) -> Option<Load> {
    let server = page(status, body);
    let url = format!("{}/v1", server.url);
    let load = VllmWorker::new().with_url(url).load().await;
    // Not below /v1, and without a look at the list of models.
    assert_eq!(server.only().line, "GET /metrics");
    load
}

#[tokio::test]
async fn llama_cpp_says_how_many_slots_it_has() {
    let load = llama_cpp(200, r#"{"total_slots": 4, "is_sleeping": false}"#).await;
    assert_eq!(load.unwrap().slots, Some(4));
    for (status, body) in [
        (200, json!({"total_slots": 0})),
        (200, json!({"total_slots": -1})),
        (200, json!({"total_slots": 1.5})),
        (200, json!({"total_slots": "4"})),
        (200, json!({"total_slots": null})),
        (200, json!({})),
        (200, json!([4])),
        (200, json!(4)),
        (201, json!({"total_slots": 4})),
        (302, json!({"total_slots": 4})),
        (401, json!({"total_slots": 4})),
        (501, json!({"error": {"type": "not_supported_error"}})),
        (503, json!({"total_slots": 4})),
    ] {
        let load = llama_cpp(status, &body.to_string()).await;
        assert_eq!(load, None, "{status} {body}");
    }
    assert_eq!(llama_cpp(200, "<html>").await, None);
    assert_eq!(llama_cpp(200, "").await, None);
}

#[tokio::test]
async fn vllm_says_how_many_requests_run_and_wait_on_all_its_engines() {
    let load = vllm(200, METRICS).await;
    let expected = Load {
        slots: None,
        running: Some(5),
        waiting: Some(10),
    };
    assert_eq!(load, Some(expected));
    for (body, running, waiting) in [
        ("vllm:num_requests_running 3", Some(3), None),
        ("vllm:num_requests_waiting\t7\r\n", None, Some(7)),
        (
            "vllm:num_requests_running 1\nvllm:num_requests_running{a=\"b\"} NaN",
            Some(1),
            None,
        ),
    ] {
        let load = vllm(200, body).await.unwrap();
        assert_eq!((load.running, load.waiting), (running, waiting), "{body}");
    }
    for body in [
        "",
        "# vllm:num_requests_running 3",
        "vllm:num_requests_running",
        "vllm:num_requests_running{",
        "vllm:num_requests_running{} ",
        "vllm:num_requests_running NaN",
        "vllm:num_requests_running -1",
        "vllm:num_requests_running +Inf",
        "vllm:num_requests_running 1e300",
        "vllm:num_requests_running2 3",
        "{\"detail\":\"Not Found\"}",
    ] {
        assert_eq!(vllm(200, body).await, None, "{body}");
    }
    assert_eq!(vllm(404, METRICS).await, None);
    assert_eq!(vllm(206, METRICS).await, None);
}

#[tokio::test]
async fn the_key_goes_with_the_question_and_no_other_server_is_asked() {
    for protocol in PROTOCOLS {
        let server = page(200, METRICS);
        let load = worker(protocol, &server.url).load().await;
        let asked = match protocol {
            "llama_cpp_chat" | "llama_cpp_completion" => Some("GET /props"),
            "vllm_chat" | "vllm_completions" => Some("GET /metrics"),
            _ => None,
        };
        let seen = server.seen();
        let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
        assert_eq!(lines, asked.into_iter().collect::<Vec<_>>(), "{protocol}");
        for seen in &seen {
            let bearer = format!("Bearer {CANARY}");
            assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
        }
        assert_eq!(
            load.is_some(),
            protocol.starts_with("vllm") && asked.is_some()
        );
    }
    assert_eq!(EchoWorker::new().load().await, None);
    let server = page(200, METRICS);
    let legacy = VllmWorker::new().with_api(VllmApi::Generate);
    assert_eq!(legacy.with_url(&server.url).load().await, None);
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_say_is_not_waited_for() {
    assert_eq!(
        LlamaCppWorker::new()
            .with_url("http://127.0.0.1:1")
            .load()
            .await,
        None
    );
    let keyless = VllmWorker::new().with_api_key_env("NO_SUCH_VARIABLE");
    assert_eq!(keyless.load().await, None);

    let server = Loopback::always(Act::Hang(Vec::new()));
    let worker = LlamaCppWorker::new().with_timeout(Duration::from_secs(600));
    let started = Instant::now();
    assert_eq!(worker.with_url(&server.url).load().await, None);
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}
