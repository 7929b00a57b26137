use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{AnthropicApi, LlamaCppApi, OpenAiApi, VllmApi};
use tokio_prompt_orchestrator::words::{CallError, Completion, ErrorClass};
use tokio_prompt_orchestrator::{
    AnthropicWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};

use crate::loopback::{Act, Loopback, Seen, head, receive, reply};
use crate::replies::{cases, read, recorded};
use crate::streamed::{events, stream};
use crate::{CANARY, PROTOCOLS, ask, worker};

/// How long a server may be silent: longer than a busy machine makes it.
const IDLE: Duration = Duration::from_secs(4);

/// The same where it is silent on purpose.
const SHORT: Duration = Duration::from_millis(300);

/// The protocols that have streams, and what comes last in them.
const STREAMS: [(&str, &str); 9] = [
    ("openai_chat", "[DONE]"),
    ("openai_completions", "[DONE]"),
    ("openai_responses", "response.completed"),
    ("anthropic_messages", "message_stop"),
    ("anthropic_complete", "stop_reason"),
    ("llama_cpp_chat", "[DONE]"),
    ("llama_cpp_completion", "stop: true"),
    ("vllm_chat", "[DONE]"),
    ("vllm_completions", "[DONE]"),
];

/// A worker that asks for a stream, or for none, and waits so long in a silence.
fn streaming(protocol: &str, url: &str, stream: bool, idle: Duration) -> Arc<dyn ModelWorker> {
    macro_rules! with {
        ($worker:expr) => {
            Arc::new(
                $worker
                    .with_url(url)
                    .with_api_key(CANARY)
                    .with_timeout(Duration::from_secs(5))
                    .with_idle_timeout(idle)
                    .with_stream(stream),
            )
        };
    }
    let openai = |api| OpenAiWorker::new("gpt-4o-mini").with_api(api);
    let anthropic = |api| AnthropicWorker::new("claude-3-5-haiku-20241022").with_api(api);
    let vllm = |api| VllmWorker::new().with_model("tiny").with_api(api);
    match protocol {
        "openai_chat" => with!(openai(OpenAiApi::Chat)),
        "openai_completions" => with!(openai(OpenAiApi::Completions)),
        "openai_responses" => with!(openai(OpenAiApi::Responses)),
        "anthropic_messages" => with!(anthropic(AnthropicApi::Messages)),
        "anthropic_complete" => with!(anthropic(AnthropicApi::Complete)),
        "llama_cpp_chat" => with!(LlamaCppWorker::new().with_api(LlamaCppApi::Chat)),
        "llama_cpp_completion" => with!(LlamaCppWorker::new().with_api(LlamaCppApi::Completion)),
        "vllm_chat" => with!(vllm(VllmApi::Chat)),
        "vllm_completions" => with!(vllm(VllmApi::Completions)),
        "vllm_generate" => with!(vllm(VllmApi::Generate)),
        other => panic!("no protocol {other}"),
    }
}

/// What comes of a server that does this.
async fn after(protocol: &str, act: Act) -> Result<Completion, CallError> {
    waiting(IDLE, protocol, act).await
}

/// What comes of it for who waits so long in a silence.
async fn waiting(idle: Duration, protocol: &str, act: Act) -> Result<Completion, CallError> {
    let server = Loopback::always(act);
    let answer = ask(streaming(protocol, &server.url, true, idle).as_ref()).await;
    assert_eq!(server.seen().len(), 1, "{protocol}: one request, no retry");
    answer.map_err(|mut error| {
        error.message = error.message.replace(&server.url, "http://server");
        error
    })
}

/// The recorded success of a protocol as a stream, event by event.
fn success(protocol: &str) -> Vec<String> {
    events(protocol, &read(protocol, "success")["json"])
}

#[track_caller]
fn ambiguous(result: Result<Completion, CallError>, message: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Ambiguous, "{error}");
    assert_eq!(error.message, message);
    assert_eq!((error.status, error.usage), (Some(200), None));
}

#[tokio::test]
async fn every_recorded_answer_is_the_same_one_as_a_stream() {
    let mut compared = 0;
    for (protocol, _) in STREAMS {
        for file in cases(protocol) {
            let server = Loopback::always(recorded(&file));
            let Ok(whole) = ask(worker(protocol, &server.url).as_ref()).await else {
                continue;
            };
            let case = file.file_stem().unwrap().to_str().unwrap();
            let fixture = read(protocol, case);
            // A completion of several choices would be cut into events that no server sends.
            if !fixture["json"].is_object() || case == "odd_fields" {
                continue;
            }
            let text = events(protocol, &fixture["json"]).concat();
            let mut streamed = after(protocol, stream(&text)).await.unwrap();
            // What the head of the reply says is not part of the stream.
            streamed.request_id = whole.request_id.clone();
            streamed.allowances = whole.allowances.clone();
            assert_eq!(streamed, whole, "{protocol}/{case}");
            compared += 1;
        }
    }
    assert!(compared >= 25, "{compared}");
}

#[tokio::test]
async fn a_stream_is_asked_for_where_it_is_wanted_and_the_endpoint_has_one() {
    for protocol in PROTOCOLS {
        let sent = |stream: bool| async move {
            let server = Loopback::json(500, &json!({}));
            ask(streaming(protocol, &server.url, stream, IDLE).as_ref())
                .await
                .unwrap_err();
            let seen = server.only();
            // Over plain http some servers hang up after a stream without having said so.
            let closes = seen.header("connection") == Some("close");
            assert_eq!(closes, stream && protocol != "vllm_generate");
            seen.json()
        };
        let (mut with, without) = (sent(true).await, sent(false).await);
        if protocol == "vllm_generate" {
            assert_eq!((&with, &with["stream"]), (&without, &json!(false)));
            continue;
        }
        let fields = with.as_object_mut().unwrap();
        let asked = (fields.remove("stream"), fields.remove("stream_options"));
        let ends_in_done = STREAMS.contains(&(protocol, "[DONE]"));
        let options = ends_in_done.then(|| json!({"include_usage": true}));
        assert_eq!(asked, (Some(json!(true)), options), "{protocol}");
        assert_eq!(with, without, "nothing else differs");
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_last_event_has_an_unknown_outcome_and_tells_how_far_it_came()
{
    for (protocol, last) in STREAMS {
        let mut events = success(protocol);
        events.pop();
        let whole = stream(&success(protocol).concat());
        let text = after(protocol, whole).await.unwrap().text;
        let partial = text.chars().count();
        ambiguous(
            after(protocol, stream(&events.concat())).await,
            &format!(
                "the stream of http://server ended without `{last}` after {} characters of an answer",
                partial
            ),
        );
        ambiguous(
            after(protocol, stream("")).await,
            &format!("the stream of http://server ended without `{last}`"),
        );
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_stream_leaves_an_unknown_outcome() {
    for (protocol, _) in STREAMS {
        let text = success(protocol).concat();
        let (half, kind) = (text.len() / 2, [("content-type", "text/event-stream")]);
        let error = after(protocol, reply(200, &kind, text.as_bytes(), half))
            .await
            .unwrap_err();
        assert_eq!(error.class, ErrorClass::Ambiguous, "{protocol}: {error}");
        assert!(
            error
                .message
                .starts_with("the reply of http://server was cut: "),
            "{error}"
        );
        assert_eq!(error.usage, None);
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_what_its_type_says_and_costs_what_was_told_before_it() {
    for (protocol, _) in STREAMS {
        for (data, class) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                ErrorClass::Throttled,
            ),
            (
                r#"{"error":{"code":"insufficient_quota","message":"m"}}"#,
                ErrorClass::Exhausted,
            ),
            (
                r#"{"error":{"code":400,"message":"m"}}"#,
                ErrorClass::RowFatal,
            ),
            (r#"{"error":{"message":"m"}}"#, ErrorClass::Server),
            (r#"{"error":"m"}"#, ErrorClass::Server),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
                ErrorClass::Throttled,
            ),
            (
                r#"{"object":"error","code":404,"message":"m"}"#,
                ErrorClass::Config,
            ),
        ] {
            let events = success(protocol);
            let begun = &events[0];
            let text = format!("{begun}event: error\ndata: {data}\n\n{}", events.concat());
            let error = after(protocol, stream(&text)).await.unwrap_err();
            assert_eq!(error.class, class, "{protocol} {data}: {error}");
            assert!(error.message.contains(": m"), "{error}");
            let used = protocol.starts_with("anthropic_messages");
            assert_eq!(error.usage.is_some(), used, "{protocol} {data}");
            let unnamed = format!("{begun}data: {data}\n\n");
            assert_eq!(
                after(protocol, stream(&unnamed)).await.unwrap_err().class,
                class
            );
        }
        // Of an answer that was on its way nobody knows how much was made of it.
        let events = success(protocol);
        let most = events[..events.len() - 1].concat();
        let text = format!("{most}event: error\ndata: {{\"error\":{{\"message\":\"m\"}}}}\n\n");
        let error = after(protocol, stream(&text)).await.unwrap_err();
        assert!(
            error.has_begun && error.usage.is_none(),
            "{protocol}: {error:?}"
        );
        for data in [
            "out of memory",
            r#"{"message":"out of memory"}"#,
            r#""out of memory""#,
        ] {
            let text = format!("event: error\ndata: {data}\n\n");
            let error = after(protocol, stream(&text)).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::Server);
            assert_eq!(error.message, "http://server answered 200: out of memory");
        }
    }
}

#[tokio::test]
async fn of_anthropics_counts_the_highest_hold_and_blocks_may_be_numbered_anyhow() {
    let events = [
        r#"{"type":"message_start","message":{"type":"message","content":[],"usage":{"input_tokens":100,"cache_creation_input_tokens":5000,"cache_read_input_tokens":700,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"y"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"es"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":7}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let text: String = events
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect();
    let completion = after("anthropic_messages", stream(&text)).await.unwrap();
    assert_eq!(completion.text, "yes");
    let usage = completion.usage.unwrap();
    assert_eq!(usage.input_tokens, Some(5800));
    assert_eq!(usage.output_tokens, Some(7));
}

#[tokio::test]
async fn what_is_no_event_of_a_reply_is_invalid() {
    for (protocol, _) in STREAMS {
        for (data, what) in [
            ("{\"half\": ", "no JSON ("),
            ("<html>", "no JSON ("),
            ("[1]", "no JSON object"),
            ("7", "no JSON object"),
        ] {
            let text = format!("{}data: {data}\n\n", success(protocol)[0]);
            let error = after(protocol, stream(&text)).await.unwrap_err();
            assert_eq!(
                error.class,
                ErrorClass::Invalid,
                "{protocol} {data}: {error}"
            );
            assert!(error.message.contains(what), "{error}");
        }
        // Nothing was said, but in the right form.
        let (_, last) = STREAMS
            .into_iter()
            .find(|(name, _)| *name == protocol)
            .unwrap();
        if last == "[DONE]" || last == "message_stop" {
            let end = success(protocol).pop().unwrap();
            let error = after(protocol, stream(&end)).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::Invalid, "{protocol}: {error}");
        }
    }
}

/// Events whose every field is of another type than it should be, out of their order.
#[tokio::test]
async fn events_that_make_no_sense_do_no_harm() {
    let values = [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"x": 1}),
    ];
    for (protocol, _) in STREAMS {
        for events in [
            success(protocol),
            success(protocol).into_iter().rev().collect(),
        ] {
            for number in 0..events.len() {
                let data = events[number].split_once("data: ").unwrap().1;
                let Ok(Value::Object(fields)) = serde_json::from_str(data) else {
                    continue;
                };
                let mut text = String::new();
                for (name, value) in values
                    .iter()
                    .flat_map(|value| fields.keys().map(move |name| (name, value)))
                {
                    let mut changed = Value::Object(fields.clone());
                    changed[name] = value.clone();
                    if name != "stop" && !(name == "stop_reason" && value.is_string()) {
                        text.push_str(&format!("data: {changed}\n\n"));
                    }
                }
                text.push_str(&events.concat());
                // Whatever it is, it is not a panic.
                let _ = after(protocol, stream(&text)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_only_says_that_it_lives_is_given_up_at_the_idle_timeout() {
    let calls = STREAMS.into_iter().flat_map(|(protocol, _)| {
        let of_protocol = [
            (false, ": ping\n\n"),
            (false, "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
            (false, "data:\n\n"),
            (false, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
            (true, ": OPENROUTER PROCESSING\n\n"),
        ];
        of_protocol.map(|(begun, alive)| async move {
            let mut start = head(200, &[("content-type", "text/event-stream")]);
            start.extend(b"\r\n");
            start.extend(success(protocol)[0].bytes().filter(|_| begun));
            let pause = Duration::from_millis(20);
            let act = Act::Drip(start, alive.as_bytes().to_vec(), pause);
            let error = waiting(SHORT, protocol, act).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::Ambiguous, "{protocol}: {error}");
            let message = "http://server began to answer and then said nothing of the answer for 300ms (raise \
                           `idle_timeout` if it needs longer)";
            assert!(error.message.starts_with(message), "{error}");
        })
    });
    let began = Instant::now();
    join_all(calls).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reply_that_begins_and_falls_silent_is_given_up_at_the_idle_timeout() {
    let began = Instant::now();
    let calls = PROTOCOLS.map(|protocol| async move {
        let mut half = head(200, &[("content-type", "application/json")]);
        half.extend(b"content-length: 1000\r\n\r\n{\"choices\"");
        ambiguous(
            waiting(SHORT, protocol, Act::Hang(half)).await,
            "http://server began to answer and then said nothing of the answer for 300ms (raise `idle_timeout` if \
             it needs longer)",
        );
    });
    join_all(calls).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_reply_that_keeps_coming_slowly_is_waited_for() {
    let calls = STREAMS.map(|(protocol, _)| async move {
        let expected = after(protocol, stream(&success(protocol).concat())).await;
        let mut parts = vec![head(200, &[("content-type", "text/event-stream")])];
        parts[0].extend(b"\r\n");
        for event in success(protocol) {
            let (first, second) = event.as_bytes().split_at(event.len() / 2);
            parts.extend([first.to_vec(), second.to_vec()]);
        }
        // Longer in all than a silence may be.
        let (silence, all) = (Duration::from_secs(2), Duration::from_millis(2500));
        let pause = all / u32::try_from(parts.len()).unwrap();
        let streamed = waiting(silence, protocol, Act::Slowly(parts, pause)).await;
        assert_eq!(streamed.unwrap(), expected.unwrap(), "{protocol}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_stream_has_a_largest_size_like_any_other_reply() {
    let mut start = head(200, &[("content-type", "text/event-stream")]);
    start.extend(b"\r\n");
    let comment = format!(": {}\n", "x".repeat(64 << 10));
    let mut floods = STREAMS
        .map(|(protocol, _)| (protocol, success(protocol)[0].clone() + &comment))
        .to_vec();
    floods.push(("openai_chat", "x".repeat(64 << 10)));
    floods.push(("openai_chat", "data: x\n".repeat(8 << 10)));
    for (protocol, flood) in floods {
        let act = Act::Flood(start.clone(), flood.into_bytes());
        let error = after(protocol, act).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{protocol}: {error}");
        let messages = [
            "the reply of http://server is larger than 32 MiB",
            "the stream of http://server has an event of more than 8 MiB",
        ];
        let told = messages
            .iter()
            .any(|message| error.message.starts_with(message));
        assert!(told, "{error}");
    }
    let padded = |mebibytes: usize| {
        let text = comment.repeat(16 * mebibytes) + &success("openai_chat").concat();
        after("openai_chat", stream(&text))
    };
    assert!(padded(31).await.is_ok());
    assert!(padded(32).await.is_err());
}

#[tokio::test]
async fn after_the_last_event_nobody_waits_for_more() {
    for (protocol, _) in STREAMS {
        let mut whole = head(200, &[("content-type", "text/event-stream")]);
        whole.extend(b"\r\n");
        whole.extend(success(protocol).concat().bytes());
        after(protocol, Act::Hang(whole)).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_a_stream_gives_back_is_not_told() {
    for (protocol, _) in STREAMS {
        let mut json = read(protocol, "success")["json"].clone();
        for place in [
            "/choices/0/message/content",
            "/choices/0/text",
            "/completion",
            "/content/1/text",
            "/content",
            "/output/1/content/0/text",
        ] {
            if let Some(text) = json.pointer_mut(place).filter(|text| text.is_string()) {
                *text = CANARY.into();
            }
        }
        let mut events = events(protocol, &json);
        events.pop();
        let error = after(protocol, stream(&events.concat())).await.unwrap_err();
        assert!(!error.message.contains("canary"), "{error}");
        assert!(
            error.message.contains(" characters of an answer"),
            "{protocol}: {error}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_is_read_and_a_whole_reply_to_who_asked_for_one_too() {
    for (protocol, _) in STREAMS {
        let text = success(protocol).concat();
        let server = Loopback::new(move |seen: &Seen| match seen.json()["stream"] == true {
            true => Act::Hang(Vec::new()),
            false => stream(&text),
        });
        let unasked = ask(worker(protocol, &server.url).as_ref()).await.unwrap();
        let whole = reply(
            200,
            &[],
            read(protocol, "success")["json"].to_string().as_bytes(),
            0,
        );
        assert_eq!(after(protocol, whole).await.unwrap(), unasked, "{protocol}");
    }
}

#[tokio::test]
async fn the_connection_of_a_stream_that_was_read_to_its_end_is_used_again() {
    let server = KeepAlive::new(success("openai_chat"));
    let worker = worker("openai_chat", &server.url);
    for _ in 0..4 {
        ask(worker.as_ref()).await.unwrap();
    }
    // One, unless the machine is very busy.
    assert!(server.connections.load(Ordering::SeqCst) < 4);
}

/// A server that streams these events, a chunk each, for as long as it is asked on a connection.
struct KeepAlive {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl KeepAlive {
    fn new(events: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (mut stream, events) = (stream.unwrap(), events.clone());
                thread::spawn(move || {
                    while receive(&mut stream).is_ok() {
                        let kind = "content-type: text/event-stream";
                        let head = format!(
                            "HTTP/1.1 200 OK\r\n{kind}\r\ntransfer-encoding: chunked\r\n\r\n"
                        );
                        stream.write_all(head.as_bytes()).unwrap();
                        for event in &events {
                            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                            stream.write_all(chunk.as_bytes()).unwrap();
                        }
                        // The end of the body comes by itself.
                        thread::sleep(Duration::from_millis(10));
                        stream.write_all(b"0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        Self { url, connections }
    }
}
