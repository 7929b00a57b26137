//! A disk that is full, broken or slow.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::start::{STARTS, Start};
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
    let shape = Shape {
        rows: 24,
        concurrency: 4,
    };
    Faults::new(&strace, shape).one_for_each_site();
}

#[test]
#[ignore = "takes many minutes: cargo test --release --test kill -- --ignored"]
fn a_disk_that_fails_at_any_write_or_sync_costs_nothing_that_was_finished() {
    let test = "a_disk_that_fails_at_any_write_or_sync_costs_nothing_that_was_finished";
    let Some(strace) = strace::find(test) else {
        return;
    };
    let shape = Shape {
        rows: 60,
        concurrency: 4,
    };
    Faults::new(&strace, shape).all_everywhere();
}

/// Runs whose disk fails.
struct Faults<'a> {
    strace: &'a Path,
    server: Ledger,
    reference: Reference,
    random: fastrand::Rng,
    /// Which fault came where, and how the run ended.
    hits: Hits,
}

impl<'a> Faults<'a> {
    fn new(strace: &'a Path, shape: Shape) -> Self {
        let server = Ledger::new(PROMPT);
        let reference = Reference::of(&server, shape);
        Self {
            strace,
            server,
            reference,
            random: fastrand::Rng::with_seed(seed::get()),
            hits: Hits::default(),
        }
    }

    /// One fault at one call of each sort, from each start.
    fn one_for_each_site(mut self) {
        for start in STARTS {
            let points = self.points(start);
            let sites: BTreeSet<&String> = points.iter().map(|(_, site)| site).collect();
            for site in sites {
                let of_site = points.iter().filter(|(_, of)| of == site);
                let of_site: Vec<&Point> = of_site.map(|(point, _)| point).collect();
                let point = self.random.choice(of_site);
                let fault = self.random.choice(FAULTS);
                if let (Some(point), Some(fault)) = (point, fault) {
                    self.fail(start, point, fault, is_needed(&points, point));
                }
            }
        }
        self.sync_once();
        self.tell();
    }

    /// A sync of the log that fails once: what it was to make durable is lost, whatever the next one says.
    fn sync_once(&mut self) {
        let points = self.points(Start::Nothing);
        let syncs = points.iter().map(|(point, _)| point);
        let syncs = syncs.filter(|point| point.name.ends_with("sync") && is_needed(&points, point));
        // The later ones are the writer's.
        for point in syncs.collect::<Vec<_>>().into_iter().rev().take(4) {
            self.fail(Start::Nothing, point, "error=EIO", true);
        }
    }

    fn all_everywhere(mut self) {
        for start in STARTS {
            let points = self.points(start);
            for (point, _) in &points {
                for fault in FAULTS {
                    self.fail(start, point, fault, is_needed(&points, point));
                }
            }
        }
        self.tell();
    }

    /// The writes and syncs in the output directory of a run that nobody disturbs.
    fn points(&self, start: Start) -> Vec<(Point, String)> {
        let mut found = BTreeSet::new();
        let calls = start.calls(self.strace, &self.server, &self.reference);
        calls
            .into_iter()
            .filter(|call| call.point.name.contains("write") || call.point.name.ends_with("sync"))
            .filter(|call| found.insert(call.point.clone()))
            .map(|call| (call.point, call.site))
            .collect()
    }

    /// Lets one call fail, and runs the job to its end afterwards.
    fn fail(&mut self, start: Start, point: &Point, fault: &str, mut must_be_told: bool) {
        // Sockets are written to as well.
        let fault = match point.name.as_str() {
            "write" => fault.trim_end_matches('+'),
            _ => fault,
        };
        let mut trial = start.prepare(&self.server, &self.reference);
        let options = point.inject(fault, trial.scratch.path());
        let mut run = trial.start_traced(self.strace, &options);
        let hangs = !run.ends_within(PATIENCE);
        let ended = run.kill_whatever();
        match point.hit(&trial.log()) {
            // A wake-up, which no disk can break: what this does is no matter of this test.
            Some(site) if !is_on_disk(&site) => return,
            Some(site) => self
                .hits
                .add(site, &format!("{fault} exit {:?}", ended.code)),
            // It had fewer calls of this name than the run that was counted.
            None => must_be_told = false,
        }
        let what = format!("{point:?} {fault} {start:?}\n{}", ended.stderr);
        assert!(!hangs, "the run does not end: {what}");
        assert!(!ended.panics(), "{what}");
        match ended.code {
            // The call was not needed, such as one that copies the log into the database at the end.
            Some(0) if !must_be_told => trial.ended(&ended, &self.reference),
            code => {
                assert_eq!(code, Some(6), "{what}");
                assert!(ended.stderr.contains("again"), "what is to be done? {what}");
                trial.cut_short(&ended);
                let ended = trial.start().wait();
                trial.ended(&ended, &self.reference);
            }
        }
    }

    fn tell(&self) {
        seed::tell(&format!(
            "{} faults\n{}",
            self.hits.count(),
            self.hits.table()
        ));
    }
}

/// Whether nothing can be acknowledged any more once this call has failed: it is about the log, and not one of
/// the last calls, which copy the log into the database.
fn is_needed(points: &[(Point, String)], point: &Point) -> bool {
    let same = |(of, _): &&(Point, String)| of.name == point.name;
    let last = points.iter().filter(same).map(|(of, _)| of.nth).max();
    let is_log = |(of, site): &(Point, String)| of == point && site.ends_with(" run.db-wal");
    points.iter().any(is_log) && point.nth * 2 < last.unwrap_or_default()
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
    let syncs = strace::calls(&trial.log());
    let syncs = syncs
        .iter()
        .filter(|call| call.site.ends_with(" run.db-wal"));
    let (syncs, least) = (syncs.count(), 2 * shape.rows / shape.concurrency);
    assert!(syncs >= least, "{syncs} syncs, not {least}");
    assert!(ended.took > SLOW * least as u32, "{:?}", ended.took);
}
