use std::time::Duration;

use serde_json::Value;

use crate::loopback::{Act, Seen, head};
use crate::protocols::Protocol;
use crate::served::{Served, in_its_protocol};
use crate::streamed::{self, stream};
use crate::trial::{ONCE, Trial, all_answered, all_say};

/// The events of the answer to a request that asks for a stream.
fn events(seen: &Seen) -> Vec<String> {
    assert_eq!(seen.json()["stream"], true);
    streamed::events(Protocol::of(seen).name, &in_its_protocol(seen))
}

/// The head of a stream of which nobody knows how long it is.
fn open() -> Vec<u8> {
    let mut open = head(200, &[("content-type", "text/event-stream")]);
    open.extend(b"\r\n");
    open
}

#[test]
fn n9_a_stream_of_nothing_but_signs_of_life() {
    for sign in [": ping\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n"] {
        let pause = Duration::from_millis(50);
        let server = Served::always(Act::Drip(open(), sign.into(), pause));
        let silent = "stream: true, timeout: 30s, idle_timeout: 1s";
        let trial = Trial::of("N9").over(Protocol::streams);
        let trial = trial.asks(1, server.url(), silent, ONCE);
        let (_, published) = trial.ends(3);
        all_say(&published, 1, "said nothing of the answer for 1s");
    }
}

#[test]
fn n13_a_stream_without_its_last_event() {
    let server = Served::new(|_, seen| {
        let mut events = events(seen);
        events.pop();
        stream(&events.concat())
    });
    let trial = Trial::of("N13").over(Protocol::streams);
    let trial = trial.asks(1, server.url(), "stream: true", ONCE);
    let (_, published) = trial.ends(3);
    all_say(&published, 1, "http://127.0.0.1:");
    assert!(published.answers().iter().all(|answer| *answer == "(none)"));
}

/// An event with its data on as many lines as JSON may have.
fn over_lines(event: &str) -> String {
    let lines = event.lines().filter(|line| !line.is_empty());
    let spread = lines.map(|line| {
        let data = line
            .strip_prefix("data: ")
            .map(serde_json::from_str::<Value>);
        match data {
            Some(Ok(json)) => {
                let pretty = serde_json::to_string_pretty(&json).expect("JSON");
                pretty
                    .lines()
                    .map(|line| format!("data: {line}\n"))
                    .collect()
            }
            _ => format!("{line}\n"),
        }
    });
    spread.collect::<String>() + "\n"
}

#[test]
fn n15_a_stream_in_any_pieces_with_any_line_ends() {
    for (ends, spread) in [
        ("\n", false),
        ("\r\n", false),
        ("\r", false),
        ("\r\n", true),
    ] {
        let server = Served::new(move |_, seen| {
            let events = events(seen).into_iter();
            let events = events.map(|event| if spread { over_lines(&event) } else { event });
            let text = events.collect::<String>().replace('\n', ends);
            let mut pieces = vec![open()];
            pieces.extend(text.bytes().map(|byte| vec![byte]));
            Act::Slowly(pieces, Duration::ZERO)
        });
        let trial = Trial::of("N15").over(Protocol::streams);
        let trial = trial.asks(1, server.url(), "stream: true, timeout: 15s", ONCE);
        trial
            .scratch
            .write("rows.csv", "text\n\"Ärger, 10 € und 😀\"\n");
        let (_, published) = trial.ends(0);
        all_answered(&published);
    }
}
