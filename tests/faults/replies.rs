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
fn n24_what_an_answer_holds_is_kept_as_far_as_it_can_be() {
    for (written, read) in [
        (&b"caf\xe9 row 1"[..], "caf\u{fffd} row 1"),
        (b"half \\ud835 row 1", "half \u{fffd} row 1"),
        (b"null \\u0000 row 1", "null \0 row 1"),
        (b"null \0 row 1", "null \0 row 1"),
        (
            b"row 1\", \"odd\": NaN, \"more\": -Infinity, \"x\": \"",
            "row 1",
        ),
    ] {
        let server = Served::new(move |_, seen| {
            let body = in_its_protocol(seen).to_string();
            // The legacy server repeats the prompt before the answer.
            let (before, after) = body.rsplit_once("row 1").unwrap_or((&body, ""));
            let in_a_list = Protocol::of(seen).name == "vllm_generate" && written.contains(&b'"');
            let written = if in_a_list { &b"row 1"[..] } else { written };
            reply(
                200,
                &[],
                &[before.as_bytes(), written, after.as_bytes()].concat(),
                0,
            )
        });
        let trial = Trial::of("N24").asks(1, server.url(), "", ONCE);
        let (_, published) = trial.ends(0);
        for line in &published.lines {
            assert_eq!(line["answer"], *read, "{line}");
        }
    }
}

/// Bodies that no server should write.
fn strange(number: usize, body: &Value) -> Vec<u8> {
    let text = body.to_string();
    let inner = text.trim_start_matches('{');
    match number {
        // All of its keys twice, the first time as something else.
        0 => {
            let keys = body
                .as_object()
                .into_iter()
                .flat_map(|fields| fields.keys());
            let twice: String = keys.map(|key| format!("{}: [7],", json!(key))).collect();
            format!("{{{twice}{inner}").into_bytes()
        }
        1 => b"{}".to_vec(),
        2 => b"[]".to_vec(),
        3 => b"7".to_vec(),
        4 => text
            .replace("\"stop\"", "\"sideways\"")
            .replace("end_turn", "sideways")
            .into_bytes(),
        5 => text
            .replace(":10", ":100000000000000000000000000")
            .replace(":5", ":1e308")
            .into_bytes(),
        6 => text
            .replace(":10", ":-10")
            .replace(":5", ":0.5")
            .into_bytes(),
        7 => format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
        8 => format!(
            "{{\"x\":{}1{},{inner}",
            "{\"a\":".repeat(100_000),
            "}".repeat(100_000)
        )
        .into_bytes(),
        9 => text.replace("\"row", "[\"row").into_bytes(),
        _ => text.into_bytes(),
    }
}

#[test]
fn n25_strange_replies_are_answers_or_invalid() {
    let server = Served::new(|_, seen| {
        let body = in_its_protocol(seen);
        let text = body.to_string();
        let (_, row) = text.rsplit_once("row ").unwrap_or_default();
        let digits: String = row.chars().take_while(char::is_ascii_digit).collect();
        reply(
            200,
            &[],
            &strange(digits.parse::<usize>().unwrap_or(99) - 1, &body),
            0,
        )
    });
    let trial = Trial::of("N25").asks(11, server.url(), "timeout: 10s", ONCE);
    let (_, published) = trial.ends(3);
    assert_eq!(server.requests(), 11 * PROTOCOLS.len());
    for protocol in &PROTOCOLS {
        let came: Vec<&str> = attempts(&published, protocol.name)
            .into_iter()
            .map(class)
            .collect();
        // What is not there, and what has no end; what is strange beside the answer does not harm it.
        assert_eq!(&came[1..4], ["invalid"; 3], "{}", protocol.name);
        assert_eq!(&came[7..9], ["invalid"; 2], "{}", protocol.name);
        assert_eq!(&came[4..7], ["ok"; 3], "{}", protocol.name);
        assert_eq!(came[10], "ok", "{}", protocol.name);
    }
}

/// Numbers that look drawn by lot, the same ones every time.
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The recorded replies of every protocol with status 200.
fn recorded() -> Vec<(String, Vec<Vec<u8>>)> {
    let replies = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replies");
    let read = |name: &str| {
        let mut files: Vec<_> = std::fs::read_dir(replies.join(name))
            .map(|files| files.flatten().map(|file| file.path()).collect())
            .unwrap_or_default();
        files.sort();
        let bodies = files.into_iter().filter_map(|file| {
            let file: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
            let json = (file["status"] == 200).then_some(&file["json"])?;
            json.is_object().then(|| json.to_string().into_bytes())
        });
        (name.to_owned(), bodies.collect())
    };
    let names = PROTOCOLS
        .iter()
        .filter(|protocol| protocol.name != "declared");
    let mut all: Vec<(String, Vec<Vec<u8>>)> = names.map(|protocol| read(protocol.name)).collect();
    let declared =
        json!({ "out": "yes", "in": 10, "used": 5, "model": "m", "more": [1, { "a": null }] });
    all.push((
        "declared".to_owned(),
        vec![declared.to_string().into_bytes()],
    ));
    all
}

#[test]
fn n25_recorded_replies_with_some_bytes_changed_stop_no_run() {
    const ROWS: usize = 60;
    let recorded = recorded();
    assert!(recorded.iter().all(|(_, bodies)| !bodies.is_empty()));
    let server = Served::new(move |number, seen| {
        let name = Protocol::of(seen).name;
        let bodies = &recorded
            .iter()
            .find(|(of, _)| of == name)
            .expect("recorded")
            .1;
        let mut lot = Lot(0x9e37_79b9 ^ ((number as u64 + 1) << 20));
        let mut body = bodies[lot.below(bodies.len())].clone();
        for _ in 0..=lot.below(4) {
            let at = lot.below(body.len());
            match lot.below(5) {
                0 => body[at] = b"\"\\{}[]:,0-e\0\xff\x1b"[lot.below(14)],
                1 => body[at] ^= 1 << lot.below(8),
                2 => drop(body.remove(at)),
                3 => body.truncate(at.max(1)),
                _ => {
                    let end = (at + lot.below(40)).min(body.len());
                    let again = body[at..end].to_vec();
                    body.splice(at..at, again);
                }
            }
        }
        reply(200, &[], &body, 0)
    });
    let all = &[
        "ok",
        "invalid",
        "server",
        "row_fatal",
        "flagged",
        "throttled",
        "exhausted",
        "config",
    ];
    let trial = Trial::new(all, crate::table::row("N25").deadline());
    let trial = trial.asks(
        ROWS,
        server.url(),
        "timeout: 10s",
        "retry: { attempts: 1, max_throttle_wait: 1s }",
    );
    let ran = trial.scratch.runner(&["job.yaml"]);
    let code = ran.code.filter(|code| [0, 3, 5].contains(code));
    let code = code.expect("the run ended in order");
    trial.holds(ran, code);
    assert!(
        server.requests() >= 20 * PROTOCOLS.len(),
        "{}",
        server.requests()
    );
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
