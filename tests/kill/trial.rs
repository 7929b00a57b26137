//! One job, run again and again until it is done, and what must hold however often it is cut short.
//!
//! The server's books and the store are read after every run. What is checked there:
//!
//! 1. what was finished is still finished, with the same answer, and is never asked again;
//! 2. what was asked and has no outcome is no more than what was in flight;
//! 3. every request that the server saw stands in the journal, and was sent once (but for the retry of a
//!    failure that the server made);
//! 4. the next run knows all this, and says so before it sends anything.
//!
//! And at the end: the results of a run that nobody cut short, and the server's bill within the report's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, Line, answer, price};
use crate::published::{read_report, units};
use crate::results::Results;
use crate::runs::{Ended, Run};
use crate::scratch::Scratch;
use crate::stored::Stored;

/// A job: how much is asked, and how.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub rows: usize,
    pub concurrency: usize,
}

/// What a run that nobody cut short publishes, but for latencies.
pub struct Reference {
    pub shape: Shape,
    results: Results,
    /// How long it took.
    pub took: Duration,
}

/// A job on its way through kills.
pub struct Trial<'a> {
    pub scratch: Scratch,
    server: &'a Ledger,
    shape: Shape,
    /// What the store held after the run before.
    stored: Stored,
    /// The server's books after the run before.
    books: BTreeMap<String, Line>,
    /// How many prompts were in flight at the kills so far.
    cut: usize,
    story: Vec<String>,
}

impl Reference {
    /// Runs the job undisturbed.
    pub fn of(server: &Ledger, shape: Shape) -> Self {
        let mut trial = Trial::new(server, shape);
        let ended = trial.start().wait();
        ended.exits(0);
        let published = trial.scratch.published("out", 0);
        let prompts: Vec<String> = (1..=shape.rows).map(|row| format!("row {row}")).collect();
        let answers: Vec<String> = prompts.iter().map(|prompt| answer(prompt)).collect();
        assert_eq!(published.column("text"), prompts);
        assert_eq!(published.answers(), answers);
        let results = Results::read(&trial.out(), server.fails());
        let took = ended.took;
        let reference = Self {
            shape,
            results,
            took,
        };
        trial.ended(&ended, &reference);
        reference
    }
}

impl Reference {
    /// How the results in this directory differ from these, if they do.
    pub fn differs(&self, out: &Path) -> Option<String> {
        let results = Results::read(out, self.results.fails);
        results.difference(&self.results)
    }
}

impl<'a> Trial<'a> {
    /// A new directory and new books.
    pub fn new(server: &'a Ledger, shape: Shape) -> Self {
        server.forget();
        let trial = Self {
            scratch: Scratch::new(),
            server,
            shape,
            stored: Stored::default(),
            books: BTreeMap::new(),
            cut: 0,
            story: Vec::new(),
        };
        trial.scratch.rows(shape.rows);
        trial.backend_with("");
        trial
    }

    /// Writes the job with further keys of the backend, such as `, limits: { … }`.
    pub fn backend_with(&self, more: &str) {
        self.scratch.job(&format!(
            "backends: {{ {} }}\nconcurrency: {}\nretry: {{ initial: 1ms, max: 5ms }}",
            self.server.backend("a", more),
            self.shape.concurrency
        ));
    }

    /// The output directory.
    pub fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    /// Starts the next run.
    pub fn start(&self) -> Run {
        Run::start(&self.scratch)
    }

    /// Starts this command for the next run.
    pub fn start_as(&self, command: Command) -> Run {
        Run::command(&self.scratch, command)
    }

    /// Starts the next run under `strace`.
    pub fn start_traced(&self, strace: &Path, options: &[String]) -> Run {
        Run::traced(&self.scratch, strace, &self.log(), options)
    }

    /// Where `strace` logs.
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("strace.log")
    }

    /// Waits until every prompt was asked, by this run or an earlier one; or until the run has ended.
    pub fn all_are_asked(&self, run: &mut Run) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) && run.is_running() {
            if self.server.asked(self.shape.rows, Duration::from_millis(5)) {
                return;
            }
        }
    }

    /// How many rows are finished.
    pub fn finished(&self) -> usize {
        self.stored.answers.len()
    }

    /// Checks what a run left that was cut short, and notes it for the next one.
    #[track_caller]
    pub fn cut_short(&mut self, ended: &Ended) {
        self.server.settle();
        let (stored, books) = (Stored::read(&self.out()), self.server.lines());
        self.story.push(format!(
            "run {}: {:?} {:?} after {:?}, {} finished, {} unknown, {} asked, {} requests; {}",
            self.story.len() + 1,
            ended.code,
            ended.signal,
            ended.took,
            stored.answers.len(),
            stored.unknown(),
            books.len(),
            self.server.received(),
            ended.stderr.lines().next().unwrap_or_default(),
        ));
        self.nothing_is_lost(&stored);
        self.nothing_is_asked_in_vain(&stored, &books);
        self.the_plan_is_right(ended);
        let in_flight = books
            .keys()
            .filter(|prompt| !stored.answers.contains_key(*prompt));
        self.cut += in_flight.count();
        (self.stored, self.books) = (stored, books);
    }

    /// Checks what a run left that went through to its end.
    #[track_caller]
    pub fn ended(&mut self, ended: &Ended, reference: &Reference) {
        ended.exits(0);
        let cut_before = self.cut;
        self.cut_short(ended);
        assert_eq!(
            self.cut, cut_before,
            "rows without an outcome after the end"
        );
        assert_eq!(self.finished(), self.shape.rows);
        assert_eq!(reference.differs(&self.out()), None);
        self.the_bill_is_right();
        let failures = self
            .books
            .values()
            .map(|line| line.received - line.billed)
            .sum::<u32>();
        let most = self.shape.rows + self.cut + failures as usize;
        assert!(
            self.server.received() as usize <= most,
            "more than {most} requests"
        );
        self.nothing_is_left_over();
    }

    /// Promise 1, and that answers are those of the server.
    #[track_caller]
    fn nothing_is_lost(&self, stored: &Stored) {
        for (prompt, text) in &self.stored.answers {
            assert_eq!(
                stored.answers.get(prompt),
                Some(text),
                "{prompt} was finished"
            );
        }
        for (prompt, text) in &stored.answers {
            assert_eq!(*text, answer(prompt), "{prompt}");
        }
        assert!(stored.unanswered.is_empty(), "{:?}", stored.unanswered);
    }

    /// Promises 2 and 3, and the half of 1 that is about asking.
    #[track_caller]
    fn nothing_is_asked_in_vain(&self, stored: &Stored, books: &BTreeMap<String, Line>) {
        let mut open = 0;
        for (prompt, line) in books {
            let before = self.books.get(prompt).copied().unwrap_or_default();
            let (sent, billed) = (line.received - before.received, line.billed - before.billed);
            if self.stored.answers.contains_key(prompt) {
                assert_eq!(sent, 0, "{prompt} was finished and asked again");
            }
            assert!(
                billed <= 1,
                "{prompt} was answered {billed} times in one run"
            );
            assert!(sent <= 2, "{prompt} was sent {sent} times in one run");
            let journalled = stored
                .attempts
                .get(prompt)
                .map_or(0, |attempts| attempts.made);
            assert!(
                journalled >= line.received,
                "{prompt} was sent {} times and stands in the journal {journalled} times",
                line.received
            );
            open += usize::from(!stored.answers.contains_key(prompt));
        }
        let most = self.shape.concurrency;
        assert!(
            open <= most,
            "{open} prompts were asked and have no outcome, of {most} in flight"
        );
        assert!(
            stored.unknown() <= most,
            "{} unknown of {most}",
            stored.unknown()
        );
        let at_once = self.server.most_in_flight();
        assert!(at_once <= most, "{at_once} requests at once");
    }

    /// Promise 4.
    #[track_caller]
    fn the_plan_is_right(&self, ended: &Ended) {
        // A run that was killed early has said nothing yet.
        let Some(unchanged) = ended.plan("unchanged") else {
            assert!(
                ended.code != Some(0),
                "no plan was printed\n{}",
                ended.stderr
            );
            return;
        };
        let said = |sort| {
            ended
                .plan(sort)
                .unwrap_or_else(|| panic!("no {sort}: {}", ended.stderr))
        };
        let (finished, unknown) = (self.finished() as u64, self.stored.unknown() as u64);
        assert_eq!(unchanged, finished, "{}", ended.stderr);
        assert_eq!(said("unknown"), unknown, "{}", ended.stderr);
        assert_eq!(
            said("new"),
            self.shape.rows as u64 - finished - unknown,
            "{}",
            ended.stderr
        );
        assert_eq!(
            (said("changed"), said("removed")),
            (0, 0),
            "{}",
            ended.stderr
        );
    }

    /// What the server billed lies between what the report knows and what it says may have been billed
    /// besides; and the answers that were kept are all among what it knows.
    #[track_caller]
    fn the_bill_is_right(&self) {
        let report = read_report(&self.out());
        let amount = |key: &str| units(report["cost"][key].as_str().unwrap_or("none.0"));
        let (known, possibly) = (amount("total_usd"), amount("possibly_billed_usd"));
        let billed = self.server.billed();
        let kept: i128 = self.stored.answers.keys().map(|prompt| price(prompt)).sum();
        assert!(
            kept <= known,
            "{kept} was paid for the answers, the report knows {known}"
        );
        assert!(known <= billed, "{known} is known, {billed} was billed");
        assert!(
            billed <= known + possibly,
            "{billed} was billed, not {known} + {possibly}"
        );
        if self.story.len() == 1 {
            assert_eq!((known, possibly), (billed, 0));
        }
    }

    /// No file of an earlier run lies about.
    #[track_caller]
    fn nothing_is_left_over(&self) {
        let listed = fs::read_dir(self.out()).expect("the output directory can be listed");
        let names = listed
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let stray = |name: &String| name.starts_with('.') || name.contains("previous");
        let strays: Vec<String> = names.filter(stray).collect();
        assert!(strays.is_empty(), "{strays:?}");
    }
}

impl Drop for Trial<'_> {
    #[allow(clippy::print_stderr, reason = "this is how a failed test speaks")]
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("{}", self.story.join("\n"));
        // The scratch directory goes away; its store is the evidence.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kill");
        let copied = fs::create_dir_all(&kept).and_then(|()| {
            for name in ["run.db", "run.db-wal"] {
                let _ = fs::remove_file(kept.join(name));
                if self.out().join(name).exists() {
                    fs::copy(self.out().join(name), kept.join(name))?;
                }
            }
            Ok(())
        });
        eprintln!("the store is kept in {}: {copied:?}", kept.display());
    }
}
