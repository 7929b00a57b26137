use serde_json::{Value, json};

use crate::loopback::{Act, Seen};
use crate::scratch::Scratch;
use crate::served::{self, Served};
use crate::streamed::{events, stream};

/// The protocols as a job asks for them: name, type, api and path after the server's address.
const PROTOCOLS: [(&str, &str, &str, &str); 9] = [
    ("openai_chat", "openai", "chat", "/v1"),
    ("openai_completions", "openai", "completions", "/v1"),
    ("openai_responses", "openai", "responses", "/v1"),
    ("anthropic_messages", "anthropic", "messages", ""),
    ("anthropic_complete", "anthropic", "complete", ""),
    ("llama_cpp_chat", "llama_cpp", "chat", ""),
    ("llama_cpp_completion", "llama_cpp", "completion", ""),
    ("vllm_chat", "vllm", "chat", ""),
    ("vllm_completions", "vllm", "completions", ""),
];

/// What a protocol's server answers, with 10 input and 5 output tokens.
fn answer(protocol: &str) -> Value {
    let text = format!("Är {protocol}");
    let used = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    match protocol {
        "openai_responses" => json!({
            "object": "response", "status": "completed", "model": "m-2026",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}],
            "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        }),
        "anthropic_messages" => json!({
            "type": "message", "model": "m-2026", "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 5},
        }),
        "anthropic_complete" => json!({
            "type": "completion", "model": "m-2026", "completion": text, "stop_reason": "stop_sequence",
        }),
        "llama_cpp_completion" => json!({
            "content": text, "stop": true, "stop_type": "eos", "model": "m-2026",
            "tokens_evaluated": 10, "tokens_predicted": 5,
        }),
        chat if chat.ends_with("chat") => json!({
            "object": "chat.completion", "model": "m-2026", "usage": used,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        }),
        _ => json!({
            "object": "text_completion", "model": "m-2026", "usage": used,
            "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
        }),
    }
}

/// A server that streams where a stream is asked for.
fn server(protocol: &'static str) -> Served {
    Served::new(move |_, seen: &Seen| {
        let answer = answer(protocol);
        let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        match asked["stream"] == true {
            true => stream(&events(protocol, &answer).concat()),
            false => served::ok(&answer),
        }
    })
}

/// What differs between two runs of anything.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains("latency") && name != "started_at");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

#[test]
fn a_run_comes_to_the_same_with_streams_and_asks_no_row_again_for_them() {
    for (protocol, kind, api, path) in PROTOCOLS {
        let [whole, streamed] = [false, true].map(|stream| {
            let (scratch, server) = (Scratch::new(), server(protocol));
            let scratch = scratch.env("OPENAI_API_KEY", "k");
            let scratch = scratch.env("ANTHROPIC_API_KEY", "k");
            scratch.rows(3).job(&format!(
                "backends: {{ a: {{ type: {kind}, api: {api}, url: \"{}{path}\", model: m, \
                 max_tokens: 16, price: {{ input: 1, output: 2 }}, stream: {stream} }} }}",
                server.url()
            ));
            let (_, published) = scratch.run(0);
            let asked = || {
                let posts = server.seen().into_iter();
                let posts = posts.filter(|seen| seen.line.starts_with("POST"));
                let wants = posts.map(|seen| seen.json()["stream"] == true);
                wants.collect::<Vec<_>>()
            };
            assert_eq!(asked(), [stream; 3], "{protocol}");
            for set in ["stream=true", "stream=false", "idle_timeout=9s"] {
                let set = format!("backends.a.{set}");
                let ran = scratch.runner(&["job.yaml", "--set", &set]).exits(0);
                ran.says("unchanged 3 | changed 0 | new 0 | removed 0 | unknown 0\n");
            }
            assert_eq!(asked().len(), 3);
            let mut lines = published.lines;
            lines.iter_mut().for_each(without_times);
            lines
        });
        assert_eq!(whole, streamed, "{protocol}");
        assert_eq!(streamed[0]["answer"], format!("Är {protocol}"));
        // 10 tokens and 5, where the server counts them.
        let cost = (protocol != "anthropic_complete").then_some("0.00002");
        assert_eq!(streamed[0]["attempts"][0]["cost_usd"], json!(cost));
    }
}

#[test]
fn a_server_that_only_says_that_it_lives_is_given_up_and_the_next_backend_asked() {
    let silent = Served::always(Act::Drip(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec(),
        b": keep-alive\n\n".to_vec(),
        std::time::Duration::from_millis(20),
    ));
    let other = Served::echo();
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!(
        "backends: {{ {}, {} }}\nfallback: [a, b]\nretry: {{ attempts: 1 }}",
        silent.backend("a", ", stream: true, idle_timeout: 200ms"),
        other.backend("b", ""),
    ));
    let (_, published) = scratch.run(0);
    let way = ["a first ambiguous", "b fallback ok"];
    assert_eq!(published.attempts(0), way);
    let error = published.lines[0]["attempts"][0]["error"].as_str();
    let silent = "then said nothing of the answer for 200ms (raise `idle_timeout`";
    assert!(
        error.is_some_and(|error| error.contains(silent)),
        "{error:?}"
    );
}

#[test]
fn an_answer_that_an_error_cuts_off_may_have_been_billed_whatever_its_class() {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": "hel"}}]});
    let error = json!({"error": {"message": "out of memory", "type": "server_error"}});
    for (events, begun) in [
        (format!("data: {error}\n\n"), false),
        (format!("data: {chunk}\n\ndata: {error}\n\n"), true),
    ] {
        let server = Served::always(stream(&events));
        let scratch = Scratch::new();
        scratch.rows(1).job(&format!(
            "backends: {{ {} }}\nretry: {{ attempts: 1 }}",
            server.backend("a", ", stream: true")
        ));
        let (_, published) = scratch.run(3);
        let attempt = &published.lines[0]["attempts"][0];
        assert_eq!(attempt["class"], "server", "{attempt}");
        let billed = attempt.get("possibly_billed_usd").is_some();
        assert_eq!(billed, begun, "{attempt}");
    }
}
