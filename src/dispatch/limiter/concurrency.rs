//! How many requests may be in flight: found by trying, under a ceiling.
//!
//! Slow start, then additive growth, both only while what is allowed is really used; one cut for all the
//! refusals of an episode. A server that fails (5xx) stops the growth for a while and nothing else.

use std::time::Duration;

use tokio::time::Instant;

/// How many are tried at first.
const START: usize = 16;
/// The share of them where the job says how much the server stands: not all at once, since what a server stands and how
/// fast it may come to that are two things.
const DECLARED_START: usize = 4;
/// What each answer adds at first: faster, and a server that tells no limit refuses too many before one is learned.
const GROWTH: f64 = 1.0 / 6.0;
/// The same where the job says how much the server stands: twice as many with each round of answers.
const DECLARED_GROWTH: f64 = 1.0;
/// What is left after a cut.
const CUT: f64 = 0.8;
/// So many answers after a failure of the server add nothing. Where a fifth or more fails nothing grows,
/// where little fails it hardly matters.
const FAILURE_COSTS: usize = 4;
/// A cut so long ago says nothing about the server of now.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// A server that takes longer than this to answer must not keep the start slow: so much is added each time.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENT_GROWTH: f64 = 1.0 / 3.0;

/// So many requests at once are many.
const MANY: usize = 32;

/// How many more may be got ready than may be in flight: an eighth, if they are many. What is noted down before it is sent
/// waits some milliseconds for the disk, and that time would be lost in every place.
pub(in crate::dispatch) fn ahead_of(places: usize) -> usize {
    match places {
        0..MANY => 0,
        many => many / 8,
    }
}

/// The number of requests that may be in flight, and that are.
#[derive(Debug)]
pub(super) struct Concurrency {
    ceiling: usize,
    growth: f64,
    allowed: f64,
    /// Those that are being got ready, and those in flight.
    admitted: usize,
    in_flight: usize,
    /// Up to here it grows fast: what was stood before a cut, or everything.
    threshold: f64,
    cut_at: Option<Instant>,
    grown: Instant,
    /// When every place was taken last.
    full_at: Option<Instant>,
    without_growth: usize,
    peak: usize,
    cuts: u64,
}

impl Concurrency {
    /// Nothing in flight, and few allowed. `is_declared`: the ceiling is one that the job declares for this server.
    pub(super) fn new(ceiling: usize, is_declared: bool) -> Self {
        let now = Instant::now();
        let (start, growth) = match is_declared {
            true => (START.max(ceiling / DECLARED_START), DECLARED_GROWTH),
            false => (START, GROWTH),
        };
        Self {
            ceiling,
            growth,
            allowed: start.min(ceiling) as f64,
            admitted: 0,
            in_flight: 0,
            threshold: f64::INFINITY,
            cut_at: None,
            grown: now,
            full_at: None,
            without_growth: 0,
            peak: 0,
            cuts: 0,
        }
    }

    /// How many are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many may be in flight now.
    pub(super) fn allowed(&self) -> usize {
        (self.allowed as usize).max(1)
    }

    /// The most that ever were in flight.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// How often it was cut.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// No more than this at any time.
    pub(super) fn lower_ceiling(&mut self, most: usize) {
        self.ceiling = self.ceiling.min(most.max(1));
        self.allowed = self.allowed.min(self.ceiling as f64);
    }

    /// Admits a request, which is got ready, and for which there is a place if it is to be sent `at_once`; else says when
    /// there may be room although nothing came back.
    pub(super) fn admit(&mut self, at_once: bool) -> Result<(), Option<Instant>> {
        let allowed = self.allowed();
        let ahead = match at_once {
            true => 0,
            false => ahead_of(allowed),
        };
        if self.admitted < allowed + ahead {
            self.admitted += 1;
            if self.admitted >= allowed {
                self.full_at = Some(Instant::now());
            }
            return Ok(());
        }
        if !self.is_starting() || self.allowed() >= self.ceiling {
            return Err(None);
        }
        if self.without_growth > 0 {
            return Err(None);
        }
        let next = self.grown + PATIENCE;
        if Instant::now() < next {
            return Err(Some(next));
        }
        self.grow_to(self.allowed * (1.0 + PATIENT_GROWTH));
        self.admit(at_once)
    }

    /// Takes a place for a request that was admitted, if there is one.
    pub(super) fn take(&mut self) -> bool {
        if self.in_flight >= self.allowed() {
            return false;
        }
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
        if self.in_flight >= self.allowed() {
            self.full_at = Some(Instant::now());
        }
        true
    }

    /// A request that was admitted is over, and gives back its place if it had one.
    pub(super) fn release(&mut self, had_place: bool) {
        self.admitted -= 1;
        self.in_flight -= usize::from(had_place);
    }

    /// A request was answered that has had its place since then. If all places were taken at some time of it, more are
    /// of use.
    pub(super) fn answered(&mut self, since: Instant) {
        if self.full_at.is_none_or(|full| full < since) {
            return;
        }
        if self.without_growth > 0 {
            self.without_growth -= 1;
            return;
        }
        // A share more with each round of answers at first, one more with each round later.
        let more = match self.is_starting() {
            true => self.growth,
            false => 1.0 / self.allowed.max(1.0),
        };
        self.grow_to(self.allowed + more);
    }

    /// The server failed: no growth for now.
    pub(super) fn pause_growth(&mut self) {
        self.without_growth = (self.without_growth + FAILURE_COSTS).min(self.allowed());
    }

    /// The server refused because we ask too much: less from now on. `paced`: the rate is kept to anyway,
    /// so what is in flight may grow as fast as before.
    pub(super) fn cut(&mut self, paced: bool) {
        self.cuts += 1;
        self.cut_at = Some(Instant::now());
        self.threshold = match paced {
            true => f64::INFINITY,
            false => self.allowed * CUT,
        };
        // What was allowed but never used says nothing about what the server stands.
        let used = self.allowed.min(self.in_flight.max(1) as f64);
        self.allowed = (used * CUT).max(1.0);
    }

    /// So many of ours wait in the server's own queue: they are of no use there.
    pub(super) fn queued(&mut self, waiting: u64) {
        self.threshold = 0.0;
        self.cut_at = None;
        let waiting = waiting.min(self.in_flight as u64) as f64;
        self.allowed = self.allowed.min(self.in_flight as f64 - waiting).max(1.0);
        self.pause_growth();
    }

    /// Whether it grows fast: until it has been as large as before the last cut, and again when that was
    /// long ago.
    fn is_starting(&self) -> bool {
        self.allowed < self.threshold || self.cut_at.is_some_and(|at| at.elapsed() >= FORGOTTEN)
    }

    fn grow_to(&mut self, allowed: f64) {
        self.allowed = allowed.min(self.ceiling as f64);
        self.grown = Instant::now();
    }
}
