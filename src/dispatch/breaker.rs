//! The breaker of one backend: who fails again and again is left alone, and asked by one request at a
//! time whether it is back.
//!
//! Failures are what the error contract counts: nothing reached the server, it failed, or nobody knows.
//! Refusals for pace (429) say nothing here, nor does a row that is at fault itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::words::{ErrorClass, MAX_RETRY_AFTER};

/// So many failures in a row open the breaker if another backend can answer instead, or the server is loading …
const IN_A_ROW: u32 = 5;
/// … and in any case more than half of the last so many requests.
const RECENT: u32 = 20;
/// How long it stays open at first, and after each probe that fails.
const OPEN_FOR: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
];
/// A backend that has answered nothing yet is probably set up wrongly: how long it is waited for if
/// nothing can be reached …
const NEVER_REACHED: Duration = Duration::from_secs(5);
/// … and if it answers with nothing but failures.
const NEVER_ANSWERED: Duration = Duration::from_secs(15);

/// Open or closed, and what was seen of the backend.
#[derive(Debug)]
pub(super) struct Breaker {
    max_outage: Duration,
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One bit a request, the last one lowest; 1 is a failure.
    recent: u32,
    seen: u32,
    in_a_row: u32,
    open: Option<Open>,
    /// How long it opens for the next time: it opens again soon after it closed.
    step: usize,
    since_closed: u32,
    reached: bool,
    answers: u64,
    loading: bool,
    /// When the failures in a row began.
    failing_since: Option<Instant>,
    opened: u64,
    probes: u64,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    until: Instant,
    probing: bool,
}

/// How an attempt ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// What went wrong.
    pub(super) class: Option<ErrorClass>,
    /// Whether it was the probe of an open breaker.
    pub(super) probe: bool,
    /// Whether the server says that it will be ready.
    pub(super) loading: bool,
    /// Whether another backend could answer instead.
    pub(super) elsewhere: bool,
    /// How many answers the backend had given when this row failed first.
    pub(super) answers_then: Option<u64>,
    /// How long the server asks to wait.
    pub(super) wait: Option<Duration>,
}

/// What an attempt did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing that anybody should be told.
    None,
    /// It opened, or a probe failed: for so long nothing is sent.
    Opened(Duration),
    /// It closed.
    Closed,
    /// The outage has lasted too long: the backend should be given up.
    Lost,
}

/// The right to find out whether the backend is back; gives the turn to another one when dropped.
#[derive(Debug)]
pub(super) struct Probe<'a>(&'a Breaker);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(open) = &mut self.0.state().open {
            open.probing = false;
        }
        self.0.changed.notify_waiters();
    }
}

impl Breaker {
    /// A closed breaker of a backend that nothing has been asked yet.
    pub(super) fn new(max_outage: Duration) -> Self {
        Self {
            max_outage,
            changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Whether a request may be sent; else when one may try.
    pub(super) fn check(&self) -> Result<(), Option<Instant>> {
        match &self.state().open {
            None => Ok(()),
            Some(open) if open.probing => Err(None),
            Some(open) if open.until > Instant::now() => Err(Some(open.until)),
            Some(_) => Ok(()),
        }
    }

    /// Waits until a request may be sent.
    pub(super) async fn admits(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listen first: what changes after the look is not missed.
            changed.as_mut().enable();
            match self.check() {
                Ok(()) => return,
                Err(until) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                },
            }
        }
    }

    /// To be called before a request is sent, right after `check` said yes: while the breaker is open
    /// the request is the probe.
    pub(super) fn probe(&self) -> Option<Probe<'_>> {
        let mut state = self.state();
        let open = state.open.as_mut()?;
        if open.until > Instant::now() {
            return None;
        }
        open.probing = true;
        state.probes += 1;
        Some(Probe(self))
    }

    /// Takes note of how an attempt ended.
    pub(super) fn observe(&self, ending: Ending) -> Turn {
        let mut state = self.state();
        let turn = state.observe(ending, self.max_outage);
        drop(state);
        if turn != Turn::None {
            self.changed.notify_waiters();
        }
        turn
    }

    /// Whether nothing but probes is sent.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// How much longer nothing is sent while it is open; nothing is left of that while a probe is on its way.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let state = self.state();
        let open = state.open.as_ref()?;
        Some(open.until.saturating_duration_since(Instant::now()))
    }

    /// Whether it has answered anything in this run.
    pub(super) fn has_answered(&self) -> bool {
        self.state().answers > 0
    }

    /// Whether it fails and has never answered, or has not answered for a while.
    pub(super) fn is_down(&self) -> bool {
        let state = self.state();
        let failing_for = state.failing_since.map(|since| since.elapsed());
        match state.answers > 0 {
            true => state.open.is_some() && failing_for >= Some(NEVER_REACHED),
            false => state.open.is_some() || (!state.reached && failing_for.is_some()),
        }
    }

    /// How many requests it has answered.
    pub(super) fn answers(&self) -> u64 {
        self.state().answers
    }

    /// How often it opened, and how many probes were sent.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.opened, state.probes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; if something did, the counters are still sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn observe(&mut self, ending: Ending, max_outage: Duration) -> Turn {
        let Ending { class, probe, .. } = ending;
        self.loading = ending.loading;
        if class != Some(ErrorClass::NotSent) && class != Some(ErrorClass::Cancelled) {
            self.reached = true;
        }
        match class {
            Some(ErrorClass::Throttled | ErrorClass::Cancelled) => Turn::None,
            Some(ErrorClass::NotSent | ErrorClass::Server | ErrorClass::Ambiguous) => {
                // Others were answered since the row failed first: this says more of the row.
                if !probe && ending.answers_then.is_some_and(|then| self.answers > then) {
                    return Turn::None;
                }
                self.note(true);
                self.failed_attempt(ending, max_outage)
            }
            None => {
                self.answers += 1;
                self.note(false);
                self.answer(probe)
            }
            // The server is there, whatever it says about this row.
            Some(_) => self.answer(probe),
        }
    }

    fn failed_attempt(&mut self, ending: Ending, max_outage: Duration) -> Turn {
        let unreached = ending.class == Some(ErrorClass::NotSent);
        let asked_for = ending.wait.unwrap_or_default().min(MAX_RETRY_AFTER);
        let now = Instant::now();
        self.failing_since.get_or_insert(now);
        if let Some(open) = &mut self.open {
            if !ending.probe {
                open.until = open.until.max(now + asked_for);
                // Sent before it opened: nothing new.
                return Turn::None;
            }
            self.step = (self.step + 1).min(OPEN_FOR.len() - 1);
            let pause = OPEN_FOR[self.step].max(asked_for);
            open.until = now + pause;
            let since = open.since;
            return match now - since >= self.patience(unreached, max_outage) {
                true => Turn::Lost,
                false => Turn::Opened(pause),
            };
        }
        let many = self.seen >= RECENT && self.failed() * 2 > RECENT;
        let in_a_row = ending.elsewhere && self.in_a_row >= IN_A_ROW;
        // It says itself that everybody would hear the same; unless others are answered, by a neighbour of the one that loads.
        let loading =
            ending.loading && !ending.elsewhere && (self.answers == 0 || self.in_a_row >= IN_A_ROW);
        if !(many || in_a_row || loading) {
            return Turn::None;
        }
        // Opened again before it had answered anything to speak of: it flaps.
        self.step = match self.opened > 0 && self.since_closed < RECENT {
            true => (self.step + 1).min(OPEN_FOR.len() - 1),
            false => 0,
        };
        self.opened += 1;
        let pause = OPEN_FOR[self.step].max(asked_for);
        self.open = Some(Open {
            since: now,
            until: now + pause,
            probing: false,
        });
        Turn::Opened(pause)
    }

    fn answer(&mut self, probe: bool) -> Turn {
        self.in_a_row = 0;
        self.failing_since = None;
        self.since_closed = self.since_closed.saturating_add(1);
        if !probe || self.open.is_none() {
            return Turn::None;
        }
        self.open = None;
        (self.recent, self.seen, self.since_closed) = (0, 0, 0);
        Turn::Closed
    }

    fn note(&mut self, failed: bool) {
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << RECENT) - 1);
        self.seen = (self.seen + 1).min(RECENT);
        self.in_a_row = match failed {
            true => self.in_a_row.saturating_add(1),
            false => 0,
        };
    }

    fn failed(&self) -> u32 {
        self.recent.count_ones()
    }

    fn patience(&self, unreached: bool, max_outage: Duration) -> Duration {
        match (self.answers > 0 || self.loading, unreached) {
            (true, _) => max_outage,
            (false, true) if !self.reached => NEVER_REACHED.min(max_outage),
            (false, _) => NEVER_ANSWERED.min(max_outage),
        }
    }
}
