use serde_json::{Value, json};

use crate::loopback::reply;
use crate::protocols::{PROTOCOLS, Protocol};
use crate::served::{Served, in_its_protocol};
use crate::trial::{ONCE, Trial, attempts, class};

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
    let server = Served::new(move |_, seen| {
        let name = Protocol::of(seen).name;
        let bodies = &recorded
            .iter()
            .find(|(of, _)| of == name)
            .expect("recorded")
            .1;
        // The same of each request, in whatever order they come.
        let bytes = seen.body.iter().chain(name.as_bytes());
        let seed = bytes.fold(0_u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let mut lot = fastrand::Rng::with_seed(seed);
        let mut body = bodies[lot.usize(..bodies.len())].clone();
        for _ in 0..=lot.usize(..4) {
            if body.is_empty() {
                break;
            }
            let at = lot.usize(..body.len());
            match lot.usize(..5) {
                0 => body[at] = b"\"\\{}[]:,0-e\0\xff\x1b"[lot.usize(..14)],
                1 => body[at] ^= 1 << lot.usize(..8),
                2 => drop(body.remove(at)),
                3 => body.truncate(at.max(1)),
                _ => {
                    let end = (at + lot.usize(..40)).min(body.len());
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
