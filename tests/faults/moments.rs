//! Each way of harming an exchange, at each moment of it, over each protocol.

use std::time::Duration;

use crate::protocols::PROTOCOLS;
use crate::proxy::{Harm, Proxy, When};
use crate::served::Served;
use crate::trial::{ONCE, Trial, all_say};

/// How long an attempt may take in these jobs, and then a run, on a machine that is busy.
const TIMEOUT: &str = "timeout: 1s";
const DEADLINE: Duration = Duration::from_secs(5);

/// What an attempt may end in that was harmed so at this moment.
fn required(when: When, harm: Harm) -> &'static [&'static str] {
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

#[track_caller]
fn ends_as_required(harm: Harm) {
    let server = Served::every_protocol();
    for when in When::ALL {
        let proxy = Proxy::before(server.addr(), move |_| Some((when, harm)));
        let trial = Trial::new(required(when, harm), DEADLINE);
        let trial = trial.asks(1, proxy.url(), TIMEOUT, ONCE);
        let fine = required(when, harm) == ["ok"];
        let (_, published) = if fine { trial.ends(0) } else { trial.fails() };
        all_say(&published, 1, if fine { "" } else { proxy.url() });
        // Never is anything sent anew behind the runner's back.
        assert_eq!(proxy.connections(), PROTOCOLS.len(), "{when:?} {harm:?}");
        assert!(proxy.requests() <= PROTOCOLS.len(), "{when:?} {harm:?}");
    }
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
