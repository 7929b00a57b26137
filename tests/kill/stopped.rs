//! A runner that is stopped for a while and goes on.

use std::thread;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::trial::{Reference, Shape, Trial};

/// How long it is stopped.
const PAUSE: Duration = Duration::from_millis(1500);

#[test]
fn a_runner_that_was_stopped_for_a_while_goes_on_where_it_was() {
    let server = Ledger::new(Manners {
        thinks: Duration::from_millis(8),
        fails: false,
    });
    let shape = Shape {
        rows: 120,
        concurrency: 4,
    };
    let reference = Reference::of(&server, shape);
    let mut trial = Trial::new(&server, shape);
    let run = trial.start();
    assert!(
        server.asked(shape.rows / 3, PAUSE),
        "the run does not get on"
    );
    run.signal("STOP");
    thread::sleep(PAUSE / 2);
    let asked = server.received();
    thread::sleep(PAUSE / 2);
    assert_eq!(server.received(), asked, "it was not stopped");
    assert!((asked as usize) < shape.rows, "it was stopped too late");
    run.signal("CONT");
    trial.ended(&run.wait(), &reference);
    assert_eq!(server.received() as usize, shape.rows);
}

#[test]
fn what_was_not_asked_while_it_was_stopped_is_not_asked_all_at_once() {
    let server = Ledger::new(Manners {
        thinks: Duration::ZERO,
        fails: false,
    });
    let per_minute = 1200;
    let shape = Shape {
        rows: 60,
        concurrency: 16,
    };
    let trial = Trial::new(&server, shape);
    trial.backend_with(&format!(
        ", limits: {{ requests_per_minute: {per_minute} }}"
    ));
    let run = trial.start();
    assert!(
        server.asked(shape.rows / 3, PAUSE * 2),
        "the run does not get on"
    );
    run.signal("STOP");
    thread::sleep(PAUSE);
    run.signal("CONT");
    run.wait().exits(0);
    // Half a second's worth at once is what the limit allows, wherever the half second begins.
    let window = Duration::from_millis(500);
    let arrivals = server.arrivals();
    let most = arrivals.iter().map(|from| {
        let within = |at: &&std::time::Instant| *at >= from && at.duration_since(*from) < window;
        arrivals.iter().filter(within).count()
    });
    let (most, allowed) = (most.max().unwrap_or(0), per_minute / 60);
    assert!(
        most <= allowed + 2,
        "{most} requests within {window:?}, of {allowed}"
    );
}
