use std::time::Duration;

use tokio_prompt_orchestrator::OpenAiWorker;
use tokio_prompt_orchestrator::words::{
    Allowance, Allowances, CallError, Completion, ErrorClass, Request,
};

use crate::loopback::{Loopback, reply};
use crate::{PROTOCOLS, ask, worker};

/// The clock of the server, years behind this machine's.
const DATE: (&str, &str) = ("date", "Sun, 22 Nov 2020 20:00:00 GMT");
const ANSWER: &str = r#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#;

/// What a reply with these headers ends in.
async fn call(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Completion, CallError> {
    let headers = [&[DATE], headers].concat();
    let server = Loopback::always(reply(status, &headers, body.as_bytes(), 0));
    let worker = OpenAiWorker::new("m").with_url(&server.url);
    ask(&worker.with_api_key("k")).await
}

/// The failure that a reply with these headers is.
async fn failure(status: u16, headers: &[(&str, &str)]) -> CallError {
    call(status, headers, "{}").await.unwrap_err()
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[tokio::test]
async fn every_worker_reads_the_limits_of_both_providers_whatever_the_reply() {
    let openai = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-tokens", "1m30s"),
    ];
    let anthropic = [
        ("anthropic-ratelimit-requests-limit", "60"),
        ("anthropic-ratelimit-requests-remaining", "59"),
        ("anthropic-ratelimit-requests-reset", "2020-11-22T20:00:01Z"),
        ("anthropic-ratelimit-tokens-limit", "150000"),
        ("anthropic-ratelimit-tokens-remaining", "149984"),
        ("anthropic-ratelimit-tokens-reset", "2020-11-22T20:01:30Z"),
    ];
    let expected = Allowances {
        requests: Allowance {
            limit: Some(60),
            remaining: Some(59),
            reset: seconds(1),
        },
        tokens: Allowance {
            limit: Some(150_000),
            remaining: Some(149_984),
            reset: seconds(90),
        },
        ..Allowances::default()
    };
    let answer = r#"{
        "choices": [{"message": {"content": "yes"}, "text": "yes"}], "content": "yes",
        "completion": "yes", "text": ["yes"], "stop_type": "eos",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]
    }"#;
    let message = answer.replace(r#""content": "yes","#, r#""content": [{"type": "text"}],"#);
    for protocol in PROTOCOLS {
        for headers in [openai, anthropic] {
            let headers = [&[DATE][..], &headers].concat();
            // Answered, refused, failed, an error inside a 200, no JSON, cut.
            for (status, body, missing) in [
                (200, "answer", 0),
                (429, "{}", 0),
                (400, "{}", 0),
                (500, "{}", 0),
                (200, r#"{"error": {"message": "no"}}"#, 0),
                (200, "<html>", 0),
                (200, "<html>", 3),
            ] {
                let body = match (body, protocol) {
                    ("answer", "anthropic_messages") => &message,
                    ("answer", _) => answer,
                    (body, _) => body,
                };
                let act = reply(status, &headers, body.as_bytes(), missing);
                let server = Loopback::always(act);
                let told = match ask(worker(protocol, &server.url).as_ref()).await {
                    Ok(completion) => completion.allowances,
                    Err(error) => error.allowances,
                };
                let told = told.as_deref();
                assert_eq!(told, Some(&expected), "{protocol} {status} {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_without_such_headers_tells_of_no_limits() {
    assert_eq!(call(200, &[], ANSWER).await.unwrap().allowances, None);
    assert_eq!(failure(429, &[]).await.allowances, None);
    let nonsense = [
        ("x-ratelimit-limit-requests", "0"),
        ("x-ratelimit-remaining-requests", "-1"),
        ("x-ratelimit-reset-requests", "-1"),
        ("ratelimit-reset", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("x-ratelimit-limit", "\u{fffd}"),
    ];
    assert_eq!(failure(429, &nonsense).await.allowances, None);
}

#[tokio::test]
async fn a_throttled_call_waits_for_the_longest_of_all_that_is_used_up() {
    let requests_left = ("x-ratelimit-remaining-requests", "9");
    let no_tokens = ("x-ratelimit-remaining-tokens", "0");
    for (headers, wait) in [
        (&[("x-ratelimit-reset-tokens", "7s"), no_tokens][..], 7),
        (&[("x-ratelimit-reset-tokens", "7s")], 7),
        (
            &[("x-ratelimit-reset-tokens", "7s"), ("retry-after", "3")],
            7,
        ),
        (
            &[("x-ratelimit-reset-tokens", "7s"), ("retry-after", "9")],
            9,
        ),
        (
            &[
                ("x-ratelimit-reset-tokens", "7s"),
                ("retry-after-ms", "8000"),
                ("retry-after", "3"),
            ],
            8,
        ),
        (
            &[
                ("x-ratelimit-reset-tokens", "7s"),
                no_tokens,
                ("x-ratelimit-reset-requests", "8m"),
                requests_left,
            ],
            7,
        ),
        (
            &[
                ("x-ratelimit-reset-requests", "8m"),
                requests_left,
                ("retry-after", "3"),
            ],
            3,
        ),
        (
            &[(
                "anthropic-ratelimit-output-tokens-reset",
                "2020-11-22T20:00:45Z",
            )],
            45,
        ),
        (&[("x-ratelimit-reset", "1606075220")], 20),
        (&[("x-ratelimit-reset", "1606075220000")], 20),
        (&[("ratelimit-reset", "Sun, 22 Nov 2020 20:00:20 GMT")], 20),
        (&[("x-ratelimit-reset-tokens", "15m")], 900),
    ] {
        let error = failure(429, headers).await;
        let told = (error.class, error.retry_after);
        assert_eq!(told, (ErrorClass::Throttled, seconds(wait)), "{headers:?}");
    }
    let error = failure(429, &[("x-ratelimit-reset-tokens", "500µs")]).await;
    assert_eq!(error.retry_after, Some(Duration::from_micros(500)));
    let left = [("x-ratelimit-reset-requests", "8m"), requests_left];
    assert_eq!(failure(429, &left).await.retry_after, None);
}

#[tokio::test]
async fn a_limit_that_is_used_up_for_longer_than_the_longest_wait_is_out_of_quota() {
    let daily = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "15m0.001s"),
    ];
    // A server that says how long to wait means that: a far window does not overrule it, a near one does.
    for (reset, seconds) in [("8m", 3), ("10s", 10)] {
        let waits = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", reset),
            ("retry-after", "3"),
        ];
        let error = failure(429, &waits).await;
        assert_eq!(error.class, ErrorClass::Throttled);
        assert_eq!(error.retry_after, Some(Duration::from_secs(seconds)));
    }
    let error = failure(429, &daily).await;
    assert_eq!(error.class, ErrorClass::Exhausted);
    assert_eq!(error.retry_after, Some(Duration::from_millis(900_001)));

    let throttled = r#"{"error": {"code": "rate_limit_exceeded"}}"#;
    let error = call(200, &daily, throttled).await.unwrap_err();
    assert_eq!(
        error.class,
        ErrorClass::Exhausted,
        "an error inside a 200 is what it stands for"
    );
}

#[tokio::test]
async fn only_a_throttled_reply_waits_for_a_limit() {
    let spent = [
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "5h"),
    ];
    assert_eq!(call(200, &spent, ANSWER).await.unwrap().text, "yes");
    for (status, class) in [
        (400, ErrorClass::RowFatal),
        (500, ErrorClass::Server),
        (502, ErrorClass::Ambiguous),
        (503, ErrorClass::Server),
        (529, ErrorClass::Throttled),
    ] {
        let error = failure(status, &spent).await;
        assert_eq!((error.class, error.retry_after), (class, None), "{status}");
        let headers = [&spent[..], &[("retry-after", "4")]].concat();
        let error = failure(status, &headers).await;
        assert_eq!((error.class, error.retry_after), (class, seconds(4)));
    }
}

#[tokio::test]
async fn what_the_server_says_of_sending_again_is_passed_on() {
    for (value, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        (" false ", Some(false)),
        ("", None),
        ("1", None),
        ("maybe", None),
    ] {
        for status in [400, 429, 503] {
            let error = failure(status, &[("x-should-retry", value)]).await;
            assert_eq!(error.should_retry, expected, "{status} {value:?}");
        }
        let broken = call(200, &[("x-should-retry", value)], "<html>").await;
        assert_eq!(broken.unwrap_err().should_retry, expected, "{value:?}");
    }
    assert_eq!(failure(500, &[]).await.should_retry, None);
}

#[tokio::test]
async fn a_refusal_that_infer_makes_an_error_keeps_the_limits() {
    let refusal = r#"{"choices":[{"message":{"refusal":"No."}}]}"#;
    let headers = [("x-ratelimit-limit-requests", "60")];
    let server = Loopback::always(reply(200, &headers, refusal.as_bytes(), 0));
    let worker = worker("openai_chat", &server.url);
    let asked = worker.complete(&Request::user("x")).await.unwrap();
    let error = worker.infer("x").await.unwrap_err().into_call_error();
    assert!(error.allowances.is_some());
    assert_eq!(error.allowances, asked.allowances);
}
