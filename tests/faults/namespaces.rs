//! Faults of the machine's network: tests that have one of their own, in which nothing but they can be harmed.
//! Each is two: one that makes the network, and an ignored one that the first runs there.

use std::fs;
use std::io;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::protocols::PROTOCOLS;
use crate::proxy::Proxy;
use crate::scratch::{skipped, until};
use crate::served::{Served, in_its_protocol, ok};
use crate::trial::{ONCE, Trial, all_answered, all_say, attempts, class};

/// Says to a test that it runs in a network of its own.
const APART: &str = "FAULTS_APART";
/// With the rights of the user on that network alone, or with those of root.
const WAYS: [&[&str]; 2] = [
    &["--user", "--map-root-user", "--net", "--mount"],
    &["--net", "--mount"],
];
/// Two ends of a cable.
const HOLE: &str = "link add hole type veth peer name bottom";
/// A name that keys are sent to without TLS, since it is of a private network.
const NAME: &str = "model.internal";

/// Runs the ignored test of this name in a network of its own, which has nothing but a loopback interface.
#[track_caller]
fn apart(name: &str) {
    let can = |way: &&&[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(**way).arg("ip").args(HOLE.split(' '));
        probe.output().is_ok_and(|output| output.status.success())
    };
    let Some(way) = WAYS.iter().find(can) else {
        let why = "it needs a network of its own: `unshare` (util-linux), `ip` (iproute2) and the right to use them \
                   (root, or user namespaces; in Docker --privileged)";
        return skipped(name, why);
    };
    let this = std::env::current_exe().expect("this program");
    let mut inner = Command::new("unshare");
    inner
        .args(*way)
        .arg(this)
        .args(["--exact", &format!("namespaces::{name}")]);
    let output = inner
        .args(["--ignored", "--nocapture"])
        .env(APART, "1")
        .output();
    let output = output.expect("unshare can be run");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}\n{err}"
    );
}

/// Whether this is the network of the test. Elsewhere it must not be touched.
fn is_apart() -> bool {
    let apart = std::env::var_os(APART).is_some();
    if apart {
        ip("link set lo up");
    }
    apart
}

#[track_caller]
fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {args}");
}

/// Addresses that swallow every packet: `10.9.8.7` and `fd00:9::7`.
fn a_hole() {
    ip(HOLE);
    for end in ["hole", "bottom"] {
        ip(&format!("link set {end} arp off up"));
    }
    ip("addr add 10.9.8.1/24 dev hole");
    ip("addr add fd00:9::1/64 dev hole nodad");
}

/// A file of the system with these contents, in this test alone.
#[track_caller]
fn replace(trial: &Trial, path: &str, contents: &str) {
    trial.scratch.write("replaced", contents);
    let replaced = trial.scratch.path().join("replaced");
    let status = Command::new("mount")
        .arg("--bind")
        .arg(replaced)
        .arg(path)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{path}");
}

/// What a name server says.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    /// An error of this number.
    Error(u8),
    /// The address `127.0.0.` and this, whatever the name.
    Address(u8),
}

/// The name server of this network, which decides anew for each question.
fn names(trial: &Trial, says: impl Fn() -> Says + Send + 'static) {
    replace(trial, "/etc/resolv.conf", "nameserver 127.0.0.1\n");
    let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..count];
            let reply = match says() {
                Says::Nothing => continue,
                Says::Error(number) => replies(question, number, None),
                Says::Address(last) => replies(question, 0, Some([127, 0, 0, last])),
            };
            // Whoever asked may be gone.
            let _ = socket.send_to(&reply, from);
        }
    });
}

/// The reply to a question; of addresses there are only those of IPv4.
fn replies(question: &[u8], error: u8, address: Option<[u8; 4]>) -> Vec<u8> {
    let name = question[12..]
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(0);
    let end = 12 + name + 5;
    let is_ipv4 = question[end - 4..end - 2] == [0, 1];
    let address = address.filter(|_| is_ipv4);
    let mut reply = question[..2].to_vec();
    reply.extend([
        0x81,
        0x80 | error,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    reply.extend(&question[12..end]);
    if let Some(address) = address {
        // The name is the one above; an address; good for no time.
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address);
    }
    reply
}

#[test]
fn n1_a_name_that_does_not_resolve() {
    apart("n1_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n1_apart() {
    if !is_apart() {
        return;
    }
    let number = Arc::new(AtomicUsize::new(0));
    let said = [Says::Error(3), Says::Error(2), Says::Nothing];
    let place = Trial::of("N1");
    let now = Arc::clone(&number);
    names(&place, move || said[now.load(Ordering::SeqCst)]);
    for (at, says) in said.into_iter().enumerate() {
        number.store(at, Ordering::SeqCst);
        let url = format!("http://{NAME}:8080");
        let trial = Trial::of("N1").asks(1, &url, "timeout: 3s", ONCE);
        let (ran, published) = trial.ends(5);
        all_say(
            &published,
            1,
            "cannot connect to http://model.internal:8080: ",
        );
        let silent = matches!(says, Says::Nothing);
        assert!(
            silent || ran.took < Duration::from_secs(2),
            "{:?}",
            ran.took
        );
    }
}

#[test]
fn n2_an_address_that_changes_during_the_run() {
    apart("n2_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n2_apart() {
    if !is_apart() {
        return;
    }
    let server = Served::every_protocol();
    let before = Arc::new(Proxy::at("127.0.0.2:8080", server.addr(), |_| None));
    let after = Proxy::at("127.0.0.3:8080", server.addr(), |_| None);
    let trial = Trial::of("N2");
    let seen = Arc::clone(&before);
    names(&trial, move || {
        Says::Address(if seen.requests() < 50 { 2 } else { 3 })
    });
    let url = format!("http://{NAME}:8080");
    let trial = trial.asks(10, &url, "timeout: 5s", &format!("{ONCE}\nconcurrency: 4"));
    let (_, published) = trial.ends(0);
    all_answered(&published);
    let (before, after) = (before.requests(), after.requests());
    assert_eq!(before + after, 10 * PROTOCOLS.len());
    // Those whose look-ups were under way come on top.
    assert!((50..=58).contains(&before), "{before} and {after}");
}

#[test]
fn n4_a_network_from_which_nothing_comes_back() {
    apart("n4_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n4_apart() {
    if !is_apart() {
        return;
    }
    a_hole();
    let trial = Trial::of("N4").asks(1, "http://10.9.8.7:8080", "timeout: 60s", ONCE);
    let (ran, published) = trial.ends(5);
    all_say(
        &published,
        1,
        "no connection in time (is it reachable from here?)",
    );
    assert!(ran.took >= Duration::from_secs(10), "{:?}", ran.took);
}

#[test]
fn n5_an_address_of_ipv6_that_leads_nowhere() {
    apart("n5_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n5_apart() {
    if !is_apart() {
        return;
    }
    a_hole();
    let server = Served::every_protocol();
    let port = server.addr().port();
    let trial = Trial::of("N5");
    replace(
        &trial,
        "/etc/hosts",
        &format!("fd00:9::7 {NAME}\n127.0.0.1 {NAME}\n"),
    );
    let mut addresses = (NAME, port).to_socket_addrs().expect("the name is known");
    assert!(addresses.next().is_some_and(|address| address.is_ipv6()));
    let trial = trial.asks(1, &format!("http://{NAME}:{port}"), "timeout: 5s", ONCE);
    let (_, published) = trial.ends(0);
    all_answered(&published);
    for line in &published.lines {
        assert!(line["latency_ms"].as_u64() < Some(1000), "{line}");
    }
}

#[test]
fn n29_a_machine_without_a_free_port() {
    apart("n29_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n29_apart() {
    if !is_apart() {
        return;
    }
    let server = Served::every_protocol();
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    fs::write(range, "20000 20099").expect("100 ports");
    let mut held = Vec::new();
    let full = loop {
        match TcpStream::connect(server.addr()) {
            Ok(stream) => held.push(stream),
            Err(error) => break error.kind(),
        }
    };
    assert_eq!((full, held.len()), (io::ErrorKind::AddrNotAvailable, 100));
    let trial = Trial::of("N29").asks(40, server.url(), "timeout: 5s", "");
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        drop(held);
    });
    let (_, published) = trial.ends(0);
    release.join().expect("they were released");
    all_answered(&published);
    let made = PROTOCOLS
        .iter()
        .flat_map(|protocol| attempts(&published, protocol.name));
    let failed = made.filter(|attempt| class(attempt) == "not_sent").count();
    // Some were refused, and nobody tried again and again.
    assert!((1..=3 * 40 * PROTOCOLS.len()).contains(&failed), "{failed}");
    assert_eq!(server.requests(), 40 * PROTOCOLS.len());
}

#[test]
fn n30_a_network_that_is_away_and_comes_back() {
    apart("n30_apart");
}

#[test]
#[ignore = "in a network of its own"]
fn n30_apart() {
    if !is_apart() {
        return;
    }
    let thinks = Duration::from_millis(40);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = Served::slowly(thinks, move |_, seen| {
        counted.fetch_add(1, Ordering::SeqCst);
        ok(&in_its_protocol(seen))
    });
    let away = thread::spawn(move || {
        until("the run is under way", || asked.load(Ordering::SeqCst) > 60);
        ip("link set lo down");
        thread::sleep(Duration::from_secs(3));
        ip("link set lo up");
    });
    let calm = "timeout: 1s, limits: { concurrency: 2 }";
    let trial = Trial::of("N30").asks(20, server.url(), calm, "concurrency: 6");
    let (ran, published) = trial.ends(0);
    away.join().expect("the network is back");
    all_answered(&published);
    let made = PROTOCOLS
        .iter()
        .flat_map(|protocol| attempts(&published, protocol.name));
    let failed = made.filter(|attempt| class(attempt) != "ok").count();
    // Who found it away waited, and nobody knocked all the time.
    assert!((1..=60).contains(&failed), "{failed}");
    assert!(ran.took > Duration::from_secs(3), "{:?}", ran.took);
}
