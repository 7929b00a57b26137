//! Each way of harming an exchange, at each moment of it, over each protocol.

use std::thread;
use std::time::Duration;

use crate::protocols::PROTOCOLS;
use crate::proxy::{Harm, Proxy, When};
use crate::served::Served;
use crate::trial::{ONCE, Trial, all_say};

/// When a run has ended, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(10);

/// What an attempt may end in that was harmed so at this moment.
pub fn required(when: When, harm: Harm) -> &'static [&'static str] {
    match (when, harm) {
        // It came late, or nothing was wrong with it.
        (When::Request | When::LastByte, Harm::Drip(_)) => &["ok"],
        (When::Replied, Harm::Giant) => &["invalid"],
        (When::Replied, _) => &["ok"],
        // Nothing may have been handed to the socket yet; a reply to nothing is no reply.
        (When::Accepted, Harm::Reset) => &["not_sent", "ambiguous"],
        (When::Accepted, Harm::Giant) => &["invalid", "ambiguous"],
        (_, Harm::Cut | Harm::Reset | Harm::Stall | Harm::Drip(_)) => &["ambiguous"],
        (When::ReplyHeadHalf, _) => &["ambiguous"],
        (When::ReplyHead | When::ReplyHalf | When::LastByte, _) => &["invalid"],
        (_, Harm::Twice) => &["ok"],
        (_, Harm::Garbage) => &["ambiguous"],
        (_, Harm::Giant) => &["invalid"],
    }
}

fn ends_as_required(harm: Harm) {
    let server = Served::every_protocol();
    // Those that are waited for can be waited for together.
    let (together, timeout) = match harm {
        Harm::Stall | Harm::Drip(_) => (5, "timeout: 1s"),
        _ => (1, "timeout: 9s"),
    };
    for moments in When::ALL.chunks(together) {
        thread::scope(|scope| {
            for when in moments {
                scope.spawn(|| one_ends_as_required(&server, *when, harm, timeout));
            }
        });
    }
}

fn one_ends_as_required(server: &Served, when: When, harm: Harm, timeout: &str) {
    let proxy = Proxy::before(server.addr(), move |_| Some((when, harm)));
    let trial = Trial::new(required(when, harm), DEADLINE);
    let trial = trial.asks(1, proxy.url(), timeout, ONCE);
    let fine = required(when, harm) == ["ok"];
    let (_, published) = if fine { trial.ends(0) } else { trial.fails() };
    all_say(&published, 1, if fine { "" } else { proxy.url() });
    // Never is anything sent anew behind the runner's back.
    let protocols = PROTOCOLS.len();
    assert_eq!(proxy.connections(), protocols, "{when:?} {harm:?}");
    assert!(proxy.requests() <= protocols, "{when:?} {harm:?}");
}

#[test]
fn a_connection_that_is_closed_at_any_moment() {
    ends_as_required(Harm::Cut);
}

#[test]
fn a_connection_that_is_reset_at_any_moment() {
    ends_as_required(Harm::Reset);
}

#[test]
fn silence_from_any_moment_on() {
    ends_as_required(Harm::Stall);
}

#[test]
fn a_byte_now_and_then_from_any_moment_on() {
    ends_as_required(Harm::Drip(Duration::from_millis(150)));
}

#[test]
fn noise_from_any_moment_on() {
    ends_as_required(Harm::Garbage);
}

#[test]
fn what_has_no_end_from_any_moment_on() {
    ends_as_required(Harm::Giant);
}

#[test]
fn what_comes_twice_up_to_any_moment() {
    ends_as_required(Harm::Twice);
}
