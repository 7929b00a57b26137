//! SIGKILL at every call that changes what is on the disk; at one in recovery; and at one in the recovery
//! of that.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::seed;
use crate::start::{STARTS, Start};
use crate::strace::{self, Call, Hits, Point};
use crate::trial::{Reference, Shape};

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
    crashes.at_sample(12);
    crashes.in_recovery(12);
    crashes.tell();
}

#[test]
#[ignore = "takes half an hour: cargo test --release --test kill -- --ignored"]
fn every_write_sync_and_rename_of_200_rows_can_be_the_last_one() {
    let test = "every_write_sync_and_rename_of_200_rows_can_be_the_last_one";
    let Some(strace) = strace::find(test) else {
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

/// What a loss of power would show and no kill does: the kernel keeps what was written and not synced.
#[test]
fn outputs_are_synced_before_they_get_their_names_and_their_directory_after() {
    let test = "outputs_are_synced_before_they_get_their_names_and_their_directory_after";
    let Some(strace) = strace::find(test) else {
        return;
    };
    let server = Ledger::new(PROMPT);
    let shape = Shape {
        rows: 8,
        concurrency: 4,
    };
    let calls = Start::Nothing.calls(&strace, &server, &Reference::of(&server, shape));
    let sites: Vec<&str> = calls.iter().map(|call| call.site.as_str()).collect();
    for name in [
        "results.csv",
        "results.jsonl",
        "report.json",
        "report.md",
        "report.html",
    ] {
        let named = |site: &&str| site.starts_with("rename") && site.ends_with(&format!(" {name}"));
        let renamed = sites.iter().position(named);
        let renamed =
            renamed.unwrap_or_else(|| panic!("{name} is not put in its place: {sites:?}"));
        let before = sites[..renamed].iter().rev();
        let last = before
            .clone()
            .find(|site| site.contains(&format!(" .{name}.")));
        let synced = last.is_some_and(|site| site.contains("sync "));
        assert!(
            synced,
            "{name} is not synced before it is put in its place: {last:?}"
        );
        let mut after = sites[renamed..].iter();
        let synced = after.any(|site| site.contains("sync ") && site.ends_with(" out"));
        assert!(synced, "the directory is not synced after {name}");
    }
}

/// Runs that are killed at a call each.
struct Crashes<'a> {
    strace: &'a Path,
    server: Ledger,
    reference: Reference,
    random: fastrand::Rng,
    /// The calls in the output directory of a run that nobody disturbs, for each start.
    calls: [Vec<Call>; 3],
    /// Where the first kill was, the second and the third.
    hits: [Hits; 3],
}

impl<'a> Crashes<'a> {
    fn new(strace: &'a Path, shape: Shape) -> Self {
        let server = Ledger::new(PROMPT);
        let reference = Reference::of(&server, shape);
        let mut crashes = Self {
            strace,
            server,
            reference,
            random: fastrand::Rng::with_seed(seed::get()),
            calls: Default::default(),
            hits: Default::default(),
        };
        crashes.calls =
            STARTS.map(|start| start.calls(strace, &crashes.server, &crashes.reference));
        crashes
    }

    /// Hits every sort of call once, such as the `fsync` of `results.csv` before it gets its name.
    fn at_every_site(&mut self) {
        let all = self.calls.iter().flatten();
        let sites: BTreeSet<String> = all.map(|call| call.site.clone()).collect();
        // Another thread may be the first to make the nth call of the name: then another start may help,
        // and some luck.
        for (site, attempt) in sites
            .iter()
            .flat_map(|site| (0..60).map(move |n| (site, n)))
        {
            let start = attempt % STARTS.len();
            let of_site = self.calls[start].iter().filter(|call| call.site == *site);
            let points: Vec<Point> = of_site.map(|call| call.point.clone()).collect();
            if !self.hits[0].contains(site)
                && let Some(point) = self.random.choice(points)
            {
                self.crash(STARTS[start], &[point]);
            }
        }
        let missed: Vec<&String> = sites
            .iter()
            .filter(|site| !self.hits[0].contains(site))
            // The names of these are random, and the libraries' come before them.
            .filter(|site| !site.starts_with("openat ."))
            .collect();
        assert!(missed.is_empty(), "never killed at {missed:?}");
    }

    /// Kills a run at each of so many points, from each start.
    fn at_sample(&mut self, most: usize) {
        for (number, start) in STARTS.into_iter().enumerate() {
            for point in self.sample(number, most) {
                self.crash(start, &[point]);
            }
        }
    }

    /// Kills a run, the one that goes on, and the one that goes on from there; the points of the first are
    /// all there are, or so many, and each of the others is anywhere in a run that goes on.
    fn in_recovery(&mut self, most: usize) {
        for point in self.sample(0, most) {
            let mut points = vec![point];
            for _ in 0..2 {
                let resumed = self.random.choice([1, 1, 2]).unwrap_or_default();
                let call = self.random.choice(&self.calls[resumed]);
                points.extend(call.map(|call| call.point.clone()));
            }
            self.crash(Start::Nothing, &points);
        }
    }

    fn sample(&mut self, start: usize, most: usize) -> Vec<Point> {
        let points = self.calls[start].iter().map(|call| call.point.clone());
        let points: BTreeSet<Point> = points.collect();
        let most = most.min(points.len());
        self.random.choose_multiple(points, most)
    }

    /// Kills one run after the other at these points, lets the last one finish, and checks all along.
    fn crash(&mut self, start: Start, points: &[Point]) {
        let mut hits = Vec::new();
        let mut trial = start.prepare(&self.server, &self.reference);
        for point in points {
            let options = point.inject(KILL, trial.scratch.path());
            let ended = trial.start_traced(self.strace, &options).wait();
            if !ended.was_killed() {
                // It had fewer calls of this name than the run that was counted.
                trial.ended(&ended, &self.reference);
                break;
            }
            hits.push(point.hit(&trial.log()));
            trial.cut_short(&ended);
        }
        if hits.len() == points.len() {
            let ended = trial.start().wait();
            trial.ended(&ended, &self.reference);
        }
        drop(trial);
        for (site, hits) in hits.into_iter().zip(&mut self.hits) {
            hits.add(site.unwrap_or_else(|| "elsewhere".to_owned()), "killed");
        }
    }

    fn tell(&self) {
        let [first, second, third] = &self.hits;
        let [anew, resumed, again] = self.calls.each_ref().map(Vec::len);
        seed::tell(&format!(
            "killed at {} calls, at {} in recovery, at {} in the recovery of that\n\
             {} rows take {anew} calls, {resumed} after a kill, {again} when they are done\n{}",
            first.count(),
            second.count(),
            third.count(),
            self.reference.shape.rows,
            first.table()
        ));
    }
}
