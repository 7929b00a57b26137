use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio_prompt_orchestrator::OpenAiWorker;
use tokio_prompt_orchestrator::job::{Backend, BackendKind, Limits, LlamaCppApi, Server};
use tokio_prompt_orchestrator::words::{CallError, Completion, ErrorClass, Provider, Sampling};
use tokio_prompt_orchestrator::worker::{Http, build};

use crate::loopback::{Act, Loopback, head, reply};
use crate::{PROTOCOLS, ask, worker};

const ANSWER: &[u8] = br#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#;

/// What a call with a time-out of 400 ms ends in.
async fn call(url: &str) -> Result<Completion, CallError> {
    let worker = OpenAiWorker::new("m").with_url(url).with_api_key("k");
    ask(&worker.with_timeout(Duration::from_millis(400))).await
}

#[track_caller]
fn check(result: Result<Completion, CallError>, class: ErrorClass, message: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.class, class, "{error}");
    assert!(error.message.contains(message), "{error}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_refused_connection_was_not_sent_and_says_what_to_do() {
    for protocol in PROTOCOLS {
        let url = format!("http://127.0.0.1:{}", closed_port());
        let error = ask(worker(protocol, &url).as_ref()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::NotSent, "{protocol}: {error}");
        let expected =
            format!("cannot connect to {url}: connection refused (is the server running?)");
        assert_eq!(error.message, expected);
        assert_eq!(error.usage, None);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_was_not_sent() {
    let worker = OpenAiWorker::new("m").with_url("http://no-such-host.invalid/v1");
    check(
        ask(&worker.with_api_key("k")).await,
        ErrorClass::NotSent,
        "cannot connect to http://no-such-host.invalid: ",
    );
}

#[tokio::test]
async fn what_is_no_address_is_a_mistake_in_the_set_up() {
    for url in [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "not a url",
    ] {
        check(
            call(url).await,
            ErrorClass::Config,
            "is not an http or https address",
        );
    }
}

#[tokio::test]
async fn https_with_a_server_that_speaks_none_is_a_mistake_in_the_set_up() {
    let server = Loopback::always(Act::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        std::thread::sleep(Duration::from_millis(200));
    });
    check(
        call(&url).await,
        ErrorClass::Config,
        "is it an https address?",
    );
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn silence_and_dripping_end_at_the_timeout_with_an_unknown_outcome() {
    let mut half = head(200, &[]);
    half.extend(b"content-length: 1000\r\n\r\n{\"choices\"");
    for act in [Act::Hang(Vec::new()), Act::Hang(half)] {
        let server = Loopback::always(act);
        let started = Instant::now();
        check(
            call(&server.url).await,
            ErrorClass::Ambiguous,
            "no complete reply from http://127.0.0.1:",
        );
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(server.seen().len(), 1, "one request, no retry");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_has_an_unknown_outcome() {
    let mut short = head(200, &[]);
    short.extend(b"content-length: 1000\r\n\r\n");
    short.extend(ANSWER);
    let mut unfinished = head(200, &[("transfer-encoding", "chunked")]);
    unfinished.extend(format!("\r\n{:x}\r\n", ANSWER.len()).bytes());
    unfinished.extend(ANSWER);
    unfinished.extend(b"\r\n");
    let packed = gzip(&ANSWER.repeat(100));
    let mut cut = head(200, &[("content-encoding", "gzip")]);
    cut.extend(format!("content-length: {}\r\n\r\n", packed.len()).bytes());
    cut.extend(&packed[..packed.len() / 2]);
    for bytes in [Vec::new(), b"HTTP/1.1 200".to_vec(), short, unfinished, cut] {
        let server = Loopback::always(Act::Write(bytes));
        check(
            call(&server.url).await,
            ErrorClass::Ambiguous,
            "http://127.0.0.1:",
        );
        assert_eq!(server.seen().len(), 1, "one request, no retry");
    }
}

#[tokio::test]
async fn compressed_replies_are_read_and_undecodable_ones_are_invalid() {
    let zipped = [("content-encoding", "gzip")];
    let server = Loopback::always(reply(200, &zipped, &gzip(ANSWER), 0));
    assert_eq!(call(&server.url).await.unwrap().text, "yes");
    let server = Loopback::always(reply(200, &zipped, ANSWER, 0));
    check(
        call(&server.url).await,
        ErrorClass::Invalid,
        "cannot be decoded",
    );
    // Of an error the status is enough.
    let server = Loopback::always(reply(429, &zipped, ANSWER, 0));
    check(
        call(&server.url).await,
        ErrorClass::Throttled,
        "answered 429",
    );
}

#[tokio::test]
async fn a_body_beyond_the_cap_is_cut_off_counted_after_decompression() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let zipped = [("content-encoding", "gzip")];
    let server = Loopback::always(reply(200, &zipped, &bomb, 0));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key("k");
    check(
        ask(&worker).await,
        ErrorClass::Invalid,
        "is larger than 8 MiB",
    );

    for (status, class) in [(200, ErrorClass::Invalid), (500, ErrorClass::Server)] {
        let mut start = head(status, &[]);
        start.extend(b"\r\n");
        let server = Loopback::always(Act::Flood(start, vec![b' '; 1 << 16]));
        let worker = OpenAiWorker::new("m")
            .with_url(&server.url)
            .with_api_key("k");
        check(ask(&worker).await, class, "http://127.0.0.1:");
    }
}

#[tokio::test]
async fn redirects_are_never_followed_and_the_target_sees_nothing() {
    for status in [301, 302, 303, 307, 308] {
        let target = Loopback::always(reply(200, &[], ANSWER, 0));
        let location = format!("{}/v1/chat/completions", target.url);
        let server = Loopback::always(reply(status, &[("location", &location)], b"", 0));
        for protocol in PROTOCOLS {
            let error = ask(worker(protocol, &server.url).as_ref())
                .await
                .unwrap_err();
            assert_eq!(error.class, ErrorClass::Config, "{error}");
            assert!(
                error.message.contains("redirects are not followed"),
                "{error}"
            );
        }
        assert_eq!(target.seen().len(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_declared_proxy_is_used_but_never_for_this_machine() {
    let server = Loopback::json(200, &json!({"content": "direct", "stop_type": "eos"}));
    let proxy = Loopback::json(200, &json!({"content": "proxied", "stop_type": "eos"}));
    let http = Http::new(4);
    let local = server.url.replace("127.0.0.1", "localhost");
    for (url, text) in [
        (server.url.as_str(), "direct"),
        (local.as_str(), "direct"),
        ("http://llama.invalid:8080", "proxied"),
    ] {
        let backend = Backend {
            name: "b".into(),
            kind: BackendKind::LlamaCpp(
                LlamaCppApi::Completion,
                Server {
                    url: url.to_owned(),
                    model: None,
                    api_key_env: None,
                    sampling: Sampling::defaults(Provider::LlamaCpp, ""),
                    timeout: Duration::from_secs(5),
                    idle_timeout: Duration::from_secs(5),
                    stream: false,
                    proxy: Some(proxy.url.clone()),
                },
            ),
            timeout: None,
            limits: Limits::default(),
            tariff: None,
            batch: None,
            account: None,
        };
        let worker = build(&backend, &http).unwrap();
        assert_eq!(ask(worker.as_ref()).await.unwrap().text, text, "{url}");
    }
    assert_eq!(
        proxy.only().line,
        "POST http://llama.invalid:8080/completion"
    );
}

#[tokio::test]
async fn an_answer_is_not_lost_to_bytes_that_are_no_utf_8() {
    let body = b"\xef\xbb\xbf{\"choices\":[{\"message\":{\"content\":\"caf\xe9\"},\"x\":NaN}]}";
    let server = Loopback::always(reply(200, &[], body, 0));
    assert_eq!(call(&server.url).await.unwrap().text, "caf\u{fffd}");
}

#[tokio::test]
async fn what_a_provider_says_is_cut_and_escaped_in_messages() {
    let shout = format!("\u{1b}[2J\n{}", "x".repeat(10_000));
    let server = Loopback::json(400, &json!({"error": {"message": shout, "code": shout}}));
    let error = call(&server.url).await.unwrap_err();
    assert!(error.message.chars().count() < 500, "{error}");
    assert!(!error.message.contains(['\u{1b}', '\n']), "{error}");
    let code = error.code.unwrap();
    assert!(
        code.chars().count() <= 101 && !code.contains('\u{1b}'),
        "{code}"
    );
}

#[tokio::test]
async fn a_wait_is_counted_from_the_servers_own_clock_and_bounded() {
    let date = [("date", "Sun, 22 Nov 2020 20:00:00 GMT")];
    for (header, class, wait) in [
        (
            ("retry-after", "Sun, 22 Nov 2020 20:00:30 GMT"),
            ErrorClass::Throttled,
            Some(30),
        ),
        (("retry-after", "1e9"), ErrorClass::Throttled, None),
        (("retry-after", "-1"), ErrorClass::Throttled, None),
        (("retry-after-ms", "2000"), ErrorClass::Throttled, Some(2)),
        (("retry-after", "7200"), ErrorClass::Exhausted, Some(7200)),
    ] {
        let server = Loopback::always(reply(429, &[date[0], header], b"{}", 0));
        let error = call(&server.url).await.unwrap_err();
        assert_eq!(
            (error.class, error.retry_after),
            (class, wait.map(Duration::from_secs))
        );
    }
    let server = Loopback::always(reply(503, &[("retry-after", "7200")], b"{}", 0));
    let error = call(&server.url).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(900)));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_costs_no_call() {
    // It does not announce that it closes.
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        ANSWER.len()
    )
    .into_bytes();
    bytes.extend(ANSWER);
    let server = Loopback::always(Act::Write(bytes));
    let worker = OpenAiWorker::new("m")
        .with_url(&server.url)
        .with_api_key("k");
    for _ in 0..5 {
        assert_eq!(ask(&worker).await.unwrap().text, "yes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.seen().len(), 5);
}
