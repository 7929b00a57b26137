use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};

use crate::loopback::{Act, head, reply};
use crate::protocols::{PROTOCOLS, Protocol};
use crate::served::{Served, in_its_protocol, ok};
use crate::trial::{ONCE, Trial, all_answered, all_say, attempts, class, forms};

/// An error in the form of a protocol: OpenAI's code, Anthropic's type, the number and the type of servers.
fn error(name: &str, code: &str, kind: &str, number: u16, word: &str) -> Value {
    let message = "as injected";
    match name.split('_').next() {
        _ if name == "openai_responses" => json!({
            "id": "resp_1", "object": "response", "status": "failed", "output": [],
            "error": { "code": code, "message": message },
        }),
        Some("anthropic") => json!({
            "type": "error", "request_id": "req_1", "error": { "type": kind, "message": message },
        }),
        Some("llama") => json!({ "error": { "code": number, "message": message, "type": kind } }),
        _ if name == "vllm_generate" => json!({
            "object": "error", "message": message, "type": word, "param": null, "code": number,
        }),
        Some("vllm") => json!({
            "error": { "message": message, "type": word, "param": null, "code": number },
        }),
        _ => json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }),
    }
}

#[test]
fn n14_an_error_with_status_200_is_what_it_says() {
    for (class, code, kind, number, word) in [
        (
            "server",
            "server_error",
            "api_error",
            500,
            "InternalServerError",
        ),
        (
            "row_fatal",
            "context_length_exceeded",
            "invalid_request_error",
            400,
            "BadRequestError",
        ),
        (
            "config",
            "invalid_api_key",
            "authentication_error",
            401,
            "Unauthorized",
        ),
        (
            "throttled",
            "rate_limit_exceeded",
            "rate_limit_error",
            429,
            "TooManyRequests",
        ),
        (
            "exhausted",
            "insufficient_quota",
            "billing_error",
            402,
            "PaymentRequired",
        ),
    ] {
        let server = Served::new(move |_, seen| {
            ok(&error(Protocol::of(seen).name, code, kind, number, word))
        });
        let all = Trial::of("N14");
        let patience = "retry: { attempts: 1, max_throttle_wait: 1s }";
        let trial = all.asks(1, server.url(), "", patience);
        let (_, published) = trial.fails();
        for protocol in &PROTOCOLS {
            let made = attempts(&published, protocol.name);
            assert!(
                made.iter().all(|made| self::class(made) == class),
                "{class}: {made:?}"
            );
            let said = made[0]["error"].as_str().unwrap_or_default();
            assert!(
                said.contains("answered 200 (") && said.contains("as injected"),
                "{said}"
            );
            assert!(made.len() == 1 || class == "throttled", "{made:?}");
        }
    }
}

/// A gzip stream that unpacks to so many times these bytes; nobody should read as far as its sum.
fn gzip(bytes: &[u8], times: usize) -> Vec<u8> {
    let mut once = Vec::with_capacity(1 << 16);
    let mut deflate = Compress::new(Compression::best(), false);
    let done = deflate.compress_vec(bytes, &mut once, FlushCompress::Full);
    done.expect("memory takes it");
    assert_eq!(deflate.total_in(), bytes.len() as u64);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [&head[..], &once.repeat(times)].concat()
}

fn zstd(bytes: &[u8], times: usize) -> Vec<u8> {
    zstd::encode_all(bytes, 1)
        .expect("memory takes it")
        .repeat(times)
}

#[test]
fn n22_a_reply_without_end_or_bounds_takes_no_memory() {
    let megabyte = vec![b' '; 1 << 20];
    let bomb = |name: &str, bytes: Vec<u8>| reply(200, &[("content-encoding", name)], &bytes, 0);
    let mut open = head(200, &[]);
    open.extend(b"\r\n");
    let headers = format!("x-{}: y\r\n", "h".repeat(20))
        .repeat(1000)
        .into_bytes();
    let large = "is larger than 8 MiB";
    for (act, says) in [
        (bomb("gzip", gzip(&megabyte, 1024)), large),
        (bomb("zstd", zstd(&megabyte, 1024)), large),
        (Act::Flood(open, megabyte.clone()), large),
        (Act::Flood(head(200, &[]), headers), "http://127.0.0.1:"),
    ] {
        let server = Served::always(act);
        // One after the other: what is measured is what one reply takes.
        let trial = Trial::of("N22").asks(
            1,
            server.url(),
            "timeout: 10s",
            &format!("{ONCE}\nconcurrency: 1"),
        );
        let running = trial.scratch.start(&["job.yaml"]);
        let most = running.most_memory();
        let (_, published) = trial.holds(running.wait(), 3);
        all_say(&published, 1, says);
        let most = most.join().expect("it was looked at");
        assert!(most < 192 << 10, "{most} KiB");
    }
}

#[test]
fn n23_a_page_is_no_answer() {
    let page = "<html><body>\u{1b}[2JPlease log in</body></html>";
    let server = Served::always(reply(
        200,
        &[("content-type", "text/html")],
        page.as_bytes(),
        0,
    ));
    let trial = Trial::of("N23")
        .only(&["invalid"])
        .asks(1, server.url(), "", ONCE);
    let (_, published) = trial.ends(3);
    all_say(
        &published,
        1,
        "<html><body>\\u{1b}[2JPlease log in</body></html>",
    );
}

#[test]
fn n23_what_reads_as_an_answer_is_one() {
    for (kind, mark) in [
        ("text/plain", ""),
        ("application/json; charset=utf-8", "\u{feff}"),
    ] {
        let server = Served::new(move |_, seen| {
            let body = format!("{mark}{}", in_its_protocol(seen));
            reply(200, &[("content-type", kind)], body.as_bytes(), 0)
        });
        let trial = Trial::of("N23")
            .only(&["ok"])
            .asks(1, server.url(), "", ONCE);
        let (_, published) = trial.ends(0);
        all_answered(&published);
    }
}

#[test]
fn n27_another_model_than_was_asked() {
    let server = Served::new(|_, seen| {
        let body = in_its_protocol(seen).to_string();
        reply(200, &[], body.replace("m-2026", "other-9").as_bytes(), 0)
    });
    let trial = Trial::of("N27").asks(1, server.url(), "", ONCE);
    let (ran, published) = trial.ends(0);
    for line in &published.lines {
        let names = line["entry"] != "vllm_generate";
        assert_eq!(line["model"], if names { "other-9" } else { "m" }, "{line}");
    }
    let by_model = &published.report["cost"]["by_model"];
    assert!(by_model["other-9"].is_string(), "{by_model}");
    ran.says("openai_chat: asked for m, 1 reply from other-9");
}

/// What a server repeats of its key comes nowhere, in whatever form it repeats it.
#[test]
fn no_key_is_written_that_a_server_repeats() {
    for status in [200, 201, 400, 401, 500] {
        let server = Served::new(move |_, seen| {
            let key = Protocol::of(seen).key();
            let said = format!("you sent {key} or {}", forms(&key).join(" or "));
            let body = match status {
                200 => json!({ "nonsense": said }).to_string(),
                // An answer that holds it, from a model that is called so.
                201 => {
                    let body = in_its_protocol(seen).to_string().replace("m-2026", "row 1");
                    let said = json!(said).to_string();
                    body.replace("row 1", said.trim_matches('"'))
                }
                _ => {
                    json!({ "error": { "message": said, "type": said, "code": said } }).to_string()
                }
            };
            reply(status, &[("x-request-id", &said)], body.as_bytes(), 0)
        });
        for args in [
            &["job.yaml", "--fresh", "--log", "run.log"][..],
            &["job.yaml", "--fresh", "--json"],
            &["job.yaml", "--fresh", "--log", "run.log", "--log-content"],
        ] {
            let any = &["ok", "invalid", "row_fatal", "config", "server"];
            let trial = Trial::new(any, Duration::from_secs(5)).env("RUNNER_LOG", "trace");
            let trial = trial.asks(1, server.url(), "", ONCE);
            let ran = trial.scratch.runner(args);
            let code = ran.code.filter(|code| [0, 3, 5].contains(code));
            trial.holds(ran, code.expect("the run ended in order"));
        }
    }
}
