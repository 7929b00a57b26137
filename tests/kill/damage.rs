//! A store that was cut or changed on the disk: the next run goes on from what is sound, or refuses and
//! names the file. It never publishes anything wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::ledger::{Ledger, Manners};
use crate::runs::Ended;
use crate::seed;
use crate::trial::{Reference, Shape, Trial};

const SHAPE: Shape = Shape {
    rows: 60,
    concurrency: 4,
};
const PAGE: usize = 4096;

/// A store as its files' bytes.
#[derive(Debug, Clone)]
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

/// What became of damaged stores.
#[derive(Debug, Default)]
struct Count {
    went_on: usize,
    refused: usize,
    wrong: Vec<String>,
}

#[test]
fn a_store_that_was_cut_is_gone_on_with_or_refused() {
    let patient = Patient::new();
    let mut count = Count::default();
    for files in [&patient.killed, &patient.complete] {
        for length in cuts(files.database.len()) {
            let mut cut = files.clone();
            cut.database.truncate(length);
            let what = format!("run.db cut to {length} of {} bytes", files.database.len());
            patient.treat(&cut, &what, &mut count);
        }
        for length in cuts(files.log.len()) {
            let mut cut = files.clone();
            cut.log.truncate(length);
            let what = format!("run.db-wal cut to {length} of {} bytes", files.log.len());
            patient.treat(&cut, &what, &mut count);
        }
    }
    count.tell("cuts");
}

#[test]
fn a_store_with_a_byte_that_changed_is_gone_on_with_or_refused() {
    flip(60);
}

#[test]
#[ignore = "takes many minutes: cargo test --release --test kill -- --ignored"]
fn a_store_with_any_byte_that_changed_is_gone_on_with_or_refused() {
    flip(2000);
}

/// Flips so many bits, each in a copy of its own.
fn flip(flips: usize) {
    let patient = Patient::new();
    let mut random = fastrand::Rng::with_seed(seed::get());
    let mut count = Count::default();
    for number in 0..flips {
        // The log of a killed run is checked by SQLite itself; the database is not.
        let mut files = match number % 4 {
            0 => patient.killed.clone(),
            _ => patient.complete.clone(),
        };
        let in_log = number % 8 == 0 && !files.log.is_empty();
        let (bytes, name) = match in_log {
            true => (&mut files.log, "run.db-wal"),
            false => (&mut files.database, "run.db"),
        };
        if bytes.is_empty() {
            continue;
        }
        let mut at = random.usize(0..bytes.len());
        match random.u32(0..3) {
            // The start of a page says what is in it.
            0 => at = at / PAGE * PAGE + random.usize(0..100),
            // An answer is a text like any other: only its sum tells.
            1 => at = text(bytes, b"answer to row", at) + random.usize(0..16),
            _ => {}
        }
        let at = at.min(bytes.len() - 1);
        let bit = 1 << random.u32(0..8);
        bytes[at] ^= bit;
        let what = format!("{name} with bit {bit:#x} of byte {at} flipped ({number})");
        patient.treat(&files, &what, &mut count);
    }
    count.tell("flips");
}

/// Stores to damage, and where the runner finds them.
struct Patient {
    server: Ledger,
    reference: Reference,
    /// Of a run that was killed in the middle.
    killed: Files,
    /// Of one that went through to its end.
    complete: Files,
}

impl Patient {
    fn new() -> Self {
        let server = Ledger::new(Manners {
            thinks: Duration::from_millis(2),
            fails: false,
        });
        let reference = Reference::of(&server, SHAPE);
        let mut trial = Trial::new(&server, SHAPE);
        let run = trial.start();
        assert!(
            server.asked(SHAPE.rows * 2 / 3, Duration::from_secs(10)),
            "the run does not get on"
        );
        trial.cut_short(&run.kill());
        let killed = Files::read(&trial.out());
        let ended = trial.start().wait();
        trial.ended(&ended, &reference);
        let complete = Files::read(&trial.out());
        drop(trial);
        Self {
            server,
            reference,
            killed,
            complete,
        }
    }

    /// Runs the job on a damaged store.
    fn treat(&self, files: &Files, what: &str, count: &mut Count) {
        let trial = Trial::new(&self.server, SHAPE);
        files.write(&trial.out());
        let ended: Ended = trial.start().wait_whatever();
        let wrong = match ended.code {
            _ if ended.panics() => "a panic".to_owned(),
            Some(0) => match self.reference.differs(&trial.out()) {
                None => {
                    count.went_on += 1;
                    return;
                }
                Some(difference) => difference,
            },
            Some(6) if ended.stderr.contains("run.db") => {
                count.refused += 1;
                return;
            }
            code => format!("exit {code:?}"),
        };
        count
            .wrong
            .push(format!("{what}: {wrong}\n{}", ended.stderr));
    }
}

impl Files {
    fn read(out: &Path) -> Self {
        Self {
            database: fs::read(out.join("run.db")).expect("the store is there"),
            log: fs::read(out.join("run.db-wal")).unwrap_or_default(),
        }
    }

    fn write(&self, out: &Path) {
        fs::create_dir_all(out).expect("a directory for the store");
        fs::write(out.join("run.db"), &self.database).expect("the store can be written");
        if !self.log.is_empty() {
            fs::write(out.join("run.db-wal"), &self.log).expect("the log can be written");
        }
    }
}

impl Count {
    #[track_caller]
    fn tell(&self, damages: &str) {
        let Self {
            went_on,
            refused,
            wrong,
        } = self;
        seed::tell(&format!("{damages}: {went_on} went on, {refused} refused"));
        assert!(
            wrong.is_empty(),
            "{} went wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        assert!(
            *went_on > 0 && *refused > 0,
            "damage is told from soundness"
        );
    }
}

/// Where a text stands next after this place, or before it.
fn text(bytes: &[u8], text: &[u8], from: usize) -> usize {
    let find = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    let after = find(&bytes[from..]).map(|at| from + at);
    after.or_else(|| find(bytes)).unwrap_or(from)
}

/// Lengths to cut a file to: nothing, the boundaries of pages, and in between.
fn cuts(length: usize) -> Vec<usize> {
    let pages = length.div_ceil(PAGE);
    let step = pages.div_ceil(8).max(1);
    let boundaries = (0..pages).step_by(step).map(|page| page * PAGE);
    let cuts = boundaries.flat_map(|at| [at, at + 1, at + 24, at + 1777]);
    cuts.filter(|at| *at < length).collect()
}
