use std::net::TcpListener;

use serde_json::Value;

use crate::loopback::{Act, head};
use crate::protocols::{PROTOCOLS, Protocol};
use crate::proxy::{Harm, Proxy, When};
use crate::served::{Served, in_its_protocol};
use crate::table::row;
use crate::trial::{ONCE, Trial, all_answered, all_say, attempts, class};

/// Where the time-out is what ends an attempt.
const SHORT: &str = "timeout: 1s";

/// Where something else does, however busy the machine is.
const LONG: &str = "timeout: 9s";

/// An address that nobody listens at.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

/// A server that keeps its connections as long as the proxy before it does.
fn keeping() -> Served {
    Served::new(|_, seen| {
        let body = in_its_protocol(seen).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Act::Write((head + &body).into_bytes())
    })
}

/// Each request is harmed so; what its one attempt then says.
#[track_caller]
fn harmed(id: &str, when: When, harm: Harm, says: &str) {
    let server = Served::every_protocol();
    let proxy = Proxy::before(server.addr(), move |_| Some((when, harm)));
    let timeout = match harm {
        Harm::Stall | Harm::Drip(_) => SHORT,
        _ => LONG,
    };
    let trial = Trial::of(id).asks(1, proxy.url(), timeout, ONCE);
    let (_, published) = trial.ends(3);
    all_say(&published, 1, says);
    assert_eq!(proxy.requests(), PROTOCOLS.len());
}

#[test]
fn n3_nobody_listens() {
    let url = nobody();
    let trial = Trial::of("N3").asks(1, &url, "", ONCE);
    let (_, published) = trial.ends(5);
    let says = format!("cannot connect to {url}: connection refused (is the server running?)");
    all_say(&published, 1, &says);
}

#[test]
fn n3_where_nobody_listens_the_next_backend_is_asked() {
    let url = nobody();
    let trial = Trial::of("N3");
    let entries = PROTOCOLS
        .iter()
        .map(|protocol| format!("[{}, spare]", protocol.name));
    let entries: Vec<String> = entries.collect();
    let backends = PROTOCOLS.iter().map(|protocol| protocol.backend(&url, ""));
    let backends: String = backends.collect();
    trial.scratch.rows(2).job(&format!(
        "backends:\n{backends}  spare: {{ type: echo, delay: 0ms }}\nmatrix: [{}]\n\
         retry: {{ attempts: 2, initial: 10ms }}",
        entries.join(", ")
    ));
    let (ran, published) = trial.scratch.run(0);
    assert!(ran.took < row("N3").deadline(), "{:?}", ran.took);
    all_answered(&published);
    assert_eq!(
        published.field("backend"),
        vec!["spare"; 2 * PROTOCOLS.len()]
    );
}

#[test]
fn n6_a_request_without_a_reply() {
    harmed(
        "N6",
        When::Request,
        Harm::Stall,
        "no complete reply from http://127.0.0.1:",
    );
}

#[test]
fn n7_a_reply_that_ends_after_its_head() {
    harmed(
        "N7",
        When::ReplyHead,
        Harm::Stall,
        "no complete reply from http://127.0.0.1:",
    );
}

#[test]
fn n8_a_reply_that_drips() {
    let drip = Harm::Drip(std::time::Duration::from_millis(150));
    harmed(
        "N8",
        When::Answered,
        drip,
        "no complete reply from http://127.0.0.1:",
    );
}

#[test]
fn n10_a_connection_that_is_reset_before_during_and_after_the_request() {
    for when in [When::Accepted, When::RequestHalf, When::Request] {
        let server = Served::every_protocol();
        let proxy = Proxy::before(server.addr(), move |_| Some((when, Harm::Reset)));
        let trial = Trial::of("N10").asks(1, proxy.url(), LONG, ONCE);
        trial
            .scratch
            .write("rows.csv", format!("text\n{}\n", "long ".repeat(100_000)));
        let (_, published) = trial.fails();
        all_say(&published, 1, "http://127.0.0.1:");
        for protocol in &PROTOCOLS {
            let attempt = attempts(&published, protocol.name)[0];
            let sent = class(attempt) != "not_sent";
            assert!(sent || when == When::Accepted, "{when:?}: {attempt}");
        }
        assert_eq!(server.requests(), 0);
        assert_eq!(proxy.connections(), PROTOCOLS.len(), "nothing is sent anew");
    }
}

#[test]
fn n11_a_connection_that_is_closed_in_the_middle_of_the_reply() {
    harmed(
        "N11",
        When::ReplyHalf,
        Harm::Cut,
        "the reply of http://127.0.0.1:",
    );
}

#[test]
fn n12_a_body_in_chunks_without_the_last_one() {
    for within in [false, true] {
        let server = Served::new(move |_, seen| {
            let body = in_its_protocol(seen).to_string();
            let announced = body.len() + usize::from(within);
            let mut bytes = head(200, &[("transfer-encoding", "chunked")]);
            bytes.extend(format!("\r\n{announced:x}\r\n{body}").bytes());
            bytes.extend(if within { &b""[..] } else { b"\r\n" });
            Act::Write(bytes)
        });
        let trial = Trial::of("N12").asks(1, server.url(), LONG, ONCE);
        let (_, published) = trial.ends(3);
        all_say(&published, 1, "the reply of http://127.0.0.1:");
        assert!(published.answers().iter().all(|answer| *answer == "(none)"));
    }
}

/// After each reply its connection is harmed so, unannounced, before the next request is made.
#[track_caller]
fn harmed_while_idle(harm: Harm) {
    let server = keeping();
    // Each protocol has its own, so that a connection is idle for as long as its backend waits.
    let proxy = |_| Proxy::before(server.addr(), move |_| Some((When::Replied, harm)));
    let proxies: Vec<Proxy> = PROTOCOLS.iter().map(proxy).collect();
    let place = |name| PROTOCOLS.iter().position(|protocol| protocol.name == name);
    let url = |protocol: &Protocol| proxies[place(protocol.name).expect("one")].url().to_owned();
    let calm = "timeout: 5s, limits: { concurrency: 1, requests_per_minute: 140 }";
    let trial = Trial::of("N17").asks_each(4, url, calm, "");
    let (_, published) = trial.ends(0);
    all_answered(&published);
    all_say(&published, 4, "");
    assert_eq!(server.requests(), 4 * PROTOCOLS.len());
    for proxy in &proxies {
        assert_eq!((proxy.connections(), proxy.requests()), (4, 4));
    }
}

#[test]
fn n17_a_kept_connection_that_is_closed_while_idle() {
    harmed_while_idle(Harm::Cut);
}

#[test]
fn n17_a_kept_connection_that_is_reset_while_idle() {
    harmed_while_idle(Harm::Reset);
}

#[test]
fn n17_a_kept_connection_with_noise_while_idle() {
    harmed_while_idle(Harm::Garbage);
}

#[test]
fn n18_rows_that_wait_for_their_turn_do_not_run_out_of_time() {
    let thinks = std::time::Duration::from_millis(300);
    let server = Served::slowly(thinks, |_, seen| crate::served::ok(&in_its_protocol(seen)));
    let few = "timeout: 2s, limits: { concurrency: 5 }";
    let trial = Trial::of("N18").asks(50, server.url(), few, "concurrency: 550");
    let (ran, published) = trial.ends(0);
    all_answered(&published);
    all_say(&published, 50, "");
    assert!(server.most_at_once() <= 5 * PROTOCOLS.len());
    assert!(
        ran.took > std::time::Duration::from_secs(2),
        "some waited longer than that"
    );
}

/// A reply that nobody asked for, on a connection that is kept, is not the next one's.
#[test]
fn n26_a_reply_that_comes_twice_is_not_taken_for_the_next_one() {
    for when in [When::Answered, When::Replied] {
        let server = keeping();
        let proxy = Proxy::before(server.addr(), move |_| Some((when, Harm::Twice)));
        let one = "timeout: 5s, limits: { concurrency: 1 }";
        let trial =
            Trial::of("N26").asks(20, proxy.url(), one, "retry: { attempts: 2, initial: 1ms }");
        let (_, published) = trial.ends(0);
        all_answered(&published);
        let made: usize = published.lines.iter().map(made).sum();
        assert!(made >= 20 * PROTOCOLS.len());
    }
}

fn made(line: &Value) -> usize {
    line["attempts"].as_array().map_or(0, Vec::len)
}

#[test]
fn n28_fewer_open_files_than_rows_in_flight() {
    let server = Served::every_protocol();
    let trial = Trial::of("N28").asks(30, server.url(), "timeout: 10s", "concurrency: 500");
    let ran = trial
        .scratch
        .under("prlimit", &["--nofile=64:64"], &["job.yaml"]);
    let (ran, published) = trial.holds(ran, 0);
    ran.says("rows in flight may need")
        .says("this process is allowed 64");
    all_answered(&published);
    all_say(&published, 30, "");
}
