//! SIGKILL at every call that changes what is on the disk; at one in recovery; and at one in the recovery
//! of that.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::strace::{self, Hits, Point};
use crate::trial::{Reference, Shape, Trial};

/// Next to no thinking: what the runner does decides what happens when.
const PROMPT: Manners = Manners {
    thinks: Duration::from_millis(1),
    fails: false,
};
const KILL: &str = "signal=KILL";

#[test]
fn every_write_sync_and_rename_can_be_the_last_one() {
    let Some(strace) = strace::find("every_write_sync_and_rename_can_be_the_last_one") else {
        return;
    };
    let shape = Shape {
        rows: 24,
        concurrency: 4,
    };
    let mut crashes = Crashes::new(&strace, shape);
    crashes.at_every_site();
    crashes.at_sample(20);
    crashes.in_recovery(12);
    crashes.tell();
}

#[test]
#[ignore = "takes an hour: cargo test --release --test kill -- --ignored"]
fn every_write_sync_and_rename_of_200_rows_can_be_the_last_one() {
    let Some(strace) = strace::find("every_write_sync_and_rename_of_200_rows_can_be_the_last_one")
    else {
        return;
    };
    let shape = Shape {
        rows: 200,
        concurrency: 4,
    };
    let mut crashes = Crashes::new(&strace, shape);
    crashes.at_every_site();
    crashes.at_sample(usize::MAX);
    crashes.in_recovery(usize::MAX);
    crashes.tell();
}

/// Runs that are killed at a call each.
struct Crashes<'a> {
    strace: &'a Path,
    server: Ledger,
    shape: Shape,
    reference: Reference,
    random: fastrand::Rng,
    /// The calls of a run that nobody disturbed, of one that went on after a kill, and where they are.
    first: Vec<strace::Call>,
    resumed: Vec<strace::Call>,
    hits: [Hits; 3],
}

impl<'a> Crashes<'a> {
    fn new(strace: &'a Path, shape: Shape) -> Self {
        let server = Ledger::new(PROMPT);
        let reference = Reference::of(&server, shape);
        let mut crashes = Self {
            strace,
            server,
            shape,
            reference,
            random: fastrand::Rng::with_seed(seed::get()),
            first: Vec::new(),
            resumed: Vec::new(),
            hits: Default::default(),
        };
        crashes.first = crashes.count(false);
        crashes.resumed = crashes.count(true);
        crashes
    }

    /// The calls in the output directory of a run that nobody disturbs, started anew or after a kill.
    fn count(&self, resumed: bool) -> Vec<strace::Call> {
        let mut trial = Trial::new(&self.server, self.shape);
        if resumed {
            let mut run = trial.start();
            self.server
                .asked(self.shape.rows / 4, Duration::from_secs(5));
            let _ = run.is_running();
            let ended = run.kill();
            trial.cut_short(&ended);
        }
        let ended = trial.start_traced(self.strace, &strace::logging()).wait();
        trial.ended(&ended, &self.reference);
        let mut calls = strace::calls(&trial.log());
        calls.retain(|call| call.output);
        assert!(
            calls.len() > 20,
            "the log of strace is not understood: {calls:?}"
        );
        calls
    }

    /// Hits every sort of call once, such as the `fsync` of `results.csv` before it gets its name.
    fn at_every_site(&mut self) {
        let sites: BTreeSet<String> = self.first.iter().map(|call| call.site.clone()).collect();
        let mut missed = Vec::new();
        for site in sites {
            let of_site = |call: &&strace::Call| call.site == site;
            let points: Vec<Point> = self
                .first
                .iter()
                .filter(of_site)
                .map(|c| c.point.clone())
                .collect();
            // Which call is the nth depends a little on chance where several threads write.
            for attempt in 0..8 {
                if self.hits[0].contains(&site) {
                    break;
                }
                let point = match attempt {
                    0..4 => self.random.choice(&points).cloned(),
                    _ => points.last().cloned().map(|point| Point {
                        nth: point.nth.saturating_sub(self.random.usize(0..6)).max(1),
                        ..point
                    }),
                };
                if let Some(point) = point {
                    self.crash(&[point]);
                }
            }
            if !self.hits[0].contains(&site) {
                missed.push(site);
            }
        }
        // The names of these are random, and the libraries' come before them.
        missed.retain(|site| !site.starts_with("openat ."));
        assert!(missed.is_empty(), "never killed at {missed:?}");
    }

    /// Kills a run at each of so many points.
    fn at_sample(&mut self, most: usize) {
        for point in self.sample(most) {
            self.crash(&[point]);
        }
    }

    /// Kills a run, the one that goes on, and the one that goes on from there; the points of the first are
    /// all there are, or so many, and each of the others is anywhere in a run that goes on.
    fn in_recovery(&mut self, most: usize) {
        for point in self.sample(most) {
            let mut points = vec![point];
            for _ in 0..2 {
                let call = self.random.choice(&self.resumed);
                points.extend(call.map(|call| call.point.clone()));
            }
            self.crash(&points);
        }
    }

    fn sample(&mut self, most: usize) -> Vec<Point> {
        let points: BTreeSet<Point> = self.first.iter().map(|call| call.point.clone()).collect();
        let most = most.min(points.len());
        let mut chosen = self.random.choose_multiple(points, most);
        chosen.sort();
        chosen
    }

    /// Kills one run after the other at these points, lets the last one finish, and checks all along.
    fn crash(&mut self, points: &[Point]) {
        let mut trial = Trial::new(&self.server, self.shape);
        for (point, hits) in points.iter().zip(&mut self.hits) {
            let ended = trial
                .start_traced(self.strace, &point.inject(KILL, trial.scratch.path()))
                .wait();
            if !ended.was_killed() {
                // It had fewer calls of this name than the run that was counted.
                trial.ended(&ended, &self.reference);
                return;
            }
            if let Some(site) = point.hit(&trial.log()) {
                hits.add(site, "killed");
            }
            trial.cut_short(&ended);
        }
        let ended = trial.start().wait();
        trial.ended(&ended, &self.reference);
    }

    fn tell(&self) {
        let [first, second, third] = &self.hits;
        seed::tell(&format!(
            "killed at {} calls, at {} in recovery, at {} in the recovery of that; a run of {} rows \
             makes {} and one that goes on {}\n{}",
            first.count(),
            second.count(),
            third.count(),
            self.shape.rows,
            self.first.len(),
            self.resumed.len(),
            first.table()
        ));
    }
}
