//! A disk that is full, broken or slow.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::strace::{self, Hits, Point};
use crate::trial::{Reference, Shape, Trial};

const PROMPT: Manners = Manners {
    thinks: Duration::from_millis(1),
    fails: false,
};
/// Once, and from then on. `write` is spared the latter: sockets are written to with it as well.
const FAULTS: [&str; 4] = ["error=ENOSPC", "error=EIO", "error=ENOSPC+", "error=EIO+"];
/// How long a run may take whose disk fails.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a sync takes on the slow disk.
const SLOW: Duration = Duration::from_millis(40);

#[test]
fn a_full_or_broken_disk_stops_the_run_and_costs_nothing_that_was_finished() {
    let test = "a_full_or_broken_disk_stops_the_run_and_costs_nothing_that_was_finished";
    let Some(strace) = strace::find(test) else {
        return;
    };
    fail_at(
        &strace,
        Shape {
            rows: 24,
            concurrency: 4,
        },
        24,
    );
}

#[test]
#[ignore = "takes many minutes: cargo test --release --test kill -- --ignored"]
fn a_disk_that_fails_at_any_write_or_sync_costs_nothing_that_was_finished() {
    let test = "a_disk_that_fails_at_any_write_or_sync_costs_nothing_that_was_finished";
    let Some(strace) = strace::find(test) else {
        return;
    };
    fail_at(
        &strace,
        Shape {
            rows: 60,
            concurrency: 4,
        },
        usize::MAX,
    );
}

/// Lets so many writes and syncs fail, each in a run of its own.
fn fail_at(strace: &Path, shape: Shape, most: usize) {
    let server = Ledger::new(PROMPT);
    let reference = Reference::of(&server, shape);
    let mut random = fastrand::Rng::with_seed(seed::get());
    let mut hits = Hits::default();
    let mut chosen: Vec<(Point, &str)> = Vec::new();
    let points = points(strace, &server, shape, &reference);
    // One of every sort for certain, the rest by chance.
    for fault in FAULTS {
        let mut seen = BTreeSet::new();
        let one_of_each = points.iter().filter(|(_, site)| seen.insert(site.clone()));
        chosen.extend(one_of_each.map(|(point, _)| (point.clone(), fault)));
        let rest: Vec<&(Point, String)> = points.iter().collect();
        let rest = random.choose_multiple(rest, (most / FAULTS.len()).min(points.len()));
        chosen.extend(rest.into_iter().map(|(point, _)| (point.clone(), fault)));
    }
    chosen.retain(|(point, fault)| point.name != "write" || !fault.ends_with('+'));
    for (point, fault) in chosen {
        let mut trial = Trial::new(&server, shape);
        let mut run = trial.start_traced(strace, &point.inject(fault, trial.scratch.path()));
        let hangs = !run.ends_within(PATIENCE);
        let ended = run.kill();
        match point.hit(&trial.log()) {
            // A socket or a wake-up, which no disk can break: what this does is no matter of this test.
            Some(site) if !is_on_disk(&site) => continue,
            Some(site) => hits.add(site, &format!("{fault} exit {:?}", ended.code)),
            None => {}
        }
        assert!(
            !hangs,
            "{point:?} {fault}: the run does not end\n{}",
            ended.stderr
        );
        assert!(!ended.panics(), "{}", ended.stderr);
        match ended.code {
            // The call was not needed: a hint, or one that is made again.
            Some(0) => trial.ended(&ended, &reference),
            code => {
                assert_eq!(code, Some(6), "{point:?} {fault}\n{}", ended.stderr);
                let says = ended.stderr.contains("again");
                assert!(says, "it does not say what to do:\n{}", ended.stderr);
                trial.cut_short(&ended);
                let ended = trial.start().wait();
                trial.ended(&ended, &reference);
            }
        }
    }
    seed::tell(&format!("{} faults\n{}", hits.count(), hits.table()));
}

/// The writes and syncs in the output directory of a run that nobody disturbs.
fn points(
    strace: &Path,
    server: &Ledger,
    shape: Shape,
    reference: &Reference,
) -> Vec<(Point, String)> {
    let mut trial = Trial::new(server, shape);
    let ended = trial.start_traced(strace, &strace::logging()).wait();
    trial.ended(&ended, reference);
    let mut found = BTreeSet::new();
    let calls = strace::calls(&trial.log());
    let calls = calls.into_iter().filter(|call| call.output);
    calls
        .filter(|call| call.point.name.contains("write") || call.point.name.ends_with("sync"))
        .filter(|call| found.insert(call.point.clone()))
        .map(|call| (call.point, call.site))
        .collect()
}

fn is_on_disk(site: &str) -> bool {
    site.contains("run.")
        || site.contains("results.")
        || site.contains("report.")
        || site.ends_with(" out")
}

#[test]
fn a_slow_disk_slows_the_asking_down() {
    let Some(strace) = strace::find("a_slow_disk_slows_the_asking_down") else {
        return;
    };
    let shape = Shape {
        rows: 60,
        concurrency: 4,
    };
    let server = Ledger::new(PROMPT);
    let reference = Reference::of(&server, shape);
    let mut trial = Trial::new(&server, shape);
    let delay = format!("inject=fsync,fdatasync:delay_enter={}", SLOW.as_micros());
    let options = ["-e", "trace=fsync,fdatasync", "-e", &delay].map(str::to_owned);
    let ended = trial.start_traced(&strace, &options).wait();
    trial.ended(&ended, &reference);
    assert!(server.most_in_flight() <= shape.concurrency);
    // A row's place is free for the next one only once its end is on the disk, and its intent before that.
    let least = SLOW * 2 * (shape.rows / shape.concurrency) as u32;
    assert!(
        ended.took > least,
        "{:?} for at least {least:?}",
        ended.took
    );
}
