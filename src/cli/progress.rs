//! How far a run is: a bar on a terminal, a line now and then elsewhere.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio_prompt_orchestrator::words::{Changes, ErrorClass, Event, Status, Usd};

use super::terminal;
use super::waits::{Waits, Why, seconds};

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);
/// How often the bar is drawn though nothing happens: what is waited for runs down.
const TICK: Duration = Duration::from_millis(250);
/// How long the word of a retry that was put off holds.
const DEFERRED: Duration = Duration::from_secs(5);
const BAR: &str = "{bar:24} {pos}/{len} rows  {rate}  eta {eta}  {msg}  {waits}";

/// The display of one run.
pub struct Progress {
    quiet: bool,
    bar: ProgressBar,
    state: Mutex<State>,
    /// Read whenever the bar is drawn: never held while it is told anything.
    waits: Arc<Mutex<Waits>>,
}

struct State {
    rows: u64,
    done: u64,
    unanswered: u64,
    paid: Usd,
    /// The cap, and what earlier runs have spent of it.
    budget: Option<(Usd, Usd)>,
    printed: Instant,
}

impl Progress {
    /// A display that has nothing to show yet.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let target = match terminal {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(BAR).expect("the template is sound");
        let waits = Arc::<Mutex<Waits>>::default();
        let shown = Arc::clone(&waits);
        // Writing into the line that is drawn cannot fail.
        let style = style
            .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec());
            })
            .with_key("waits", move |_: &ProgressState, out: &mut dyn Write| {
                let _ = out.write_str(&lock(&shown).text(Instant::now()));
            });
        bar.set_style(style);
        if terminal {
            bar.enable_steady_tick(TICK);
        }
        let state = State {
            rows: 0,
            done: 0,
            unanswered: 0,
            paid: Usd::ZERO,
            budget: None,
            printed: Instant::now(),
        };
        Self {
            quiet,
            bar,
            state: Mutex::new(state),
            waits,
        }
    }

    /// Shows what happened.
    pub fn on(&self, event: &Event) {
        let mut state = lock(&self.state);
        match event {
            Event::DirectoryIsRemote { filesystem } => self.say(&format!(
                "warning: the output directory is on {filesystem}, where a crash of the server may lose \
                 answers and two machines may not see each other's lock; a local disk is safer"
            )),
            Event::Planned(changes) => self.note(&plan(changes)),
            Event::BudgetOpened {
                cap,
                spent,
                overshoot,
                unbounded,
            } => self.open_budget(&mut state, *cap, *spent, *overshoot, *unbounded),
            Event::BudgetReached { cap, spent, needed } => self.note(&format!(
                "the budget of ${cap} has no room for a request of up to ${needed}: ${spent} is spent; rows that do not \
                 fit are skipped"
            )),
            Event::CostWasHigher {
                backend,
                most,
                paid,
            } => self.note(&format!(
                "{} charged ${paid} for a request that could cost ${most} at most; from now on more is reserved for it",
                terminal::escape(backend)
            )),
            Event::WasteReached { wasted, paid, rows } => self.note(&format!(
                "${wasted} of the ${paid} paid for {rows} rows was wasted, more than `max_waste` allows: nothing more \
                 is asked"
            )),
            Event::RunStarted { rows, done } => {
                state.rows = *rows;
                state.done = *done;
                self.bar.set_length(*rows);
                self.bar.set_position(*done);
                // Rows that were done before say nothing about how fast this run is.
                self.bar.reset_eta();
            }
            Event::RowFinished { status, paid } => {
                state.done += 1;
                state.unanswered += u64::from(*status != Status::Answered);
                state.paid += *paid;
                lock(&self.waits).row_ended(Instant::now());
                self.bar.set_position(state.done);
                self.show_paid(&state);
                self.line_now_and_then(&mut state);
            }
            Event::FollowUpFinished { paid, .. } => {
                state.paid += *paid;
                self.show_paid(&state);
            }
            Event::AttemptFailedWillRetry {
                row,
                backend,
                class,
                error,
                wait,
            } => {
                let (row, error) = (terminal::escape(row), terminal::escape(error));
                let (name, wait) = (class.as_str(), format!("{wait:.1?}"));
                tracing::debug!(
                    row,
                    backend = &**backend,
                    class = name,
                    wait,
                    "attempt failed: {error}"
                );
                if *class == ErrorClass::Throttled
                    && lock(&self.waits).refused(Instant::now(), backend)
                {
                    self.tell(backend, "refusing", &format!("is still throttled: {error}"));
                }
            }
            Event::RowFellBack {
                row,
                from,
                to,
                error,
            } => {
                let (row, error) = (terminal::escape(row), terminal::escape(error));
                tracing::info!(row, from = &**from, to = &**to, "row falls back: {error}");
            }
            Event::AnswerWasInvalid {
                row,
                backend,
                error,
            } => {
                let (row, error) = (terminal::escape(row), terminal::escape(error));
                tracing::info!(row, backend = &**backend, "answer is not valid: {error}");
            }
            Event::BackendPaused {
                backend,
                wait,
                error,
            } => {
                let (left, error) = (seconds(*wait), terminal::escape(error));
                tracing::debug!(backend = &**backend, wait = left, "paused: {error}");
                if self.begin(backend, Why::Paused, *wait) {
                    self.tell(
                        backend,
                        "paused",
                        &format!("is paused for {left}, throttled: {error}"),
                    );
                }
            }
            Event::BreakerOpened {
                backend,
                wait,
                error,
            } => {
                let (left, error) = (seconds(*wait), terminal::escape(error));
                tracing::debug!(backend = &**backend, wait = left, "left alone: {error}");
                if self.begin(backend, Why::Down, *wait) {
                    self.tell(
                        backend,
                        "down",
                        &format!("is down, next try in {left}: {error}"),
                    );
                }
            }
            Event::BreakerClosed { backend } => {
                tracing::debug!(backend = &**backend, "answers again");
                lock(&self.waits).end(backend);
                self.tell(backend, "back", "answers again");
            }
            Event::RowDeferred {
                row,
                backend,
                error,
            } => {
                let (row, error) = (terminal::escape(row), terminal::escape(error));
                tracing::debug!(row, backend = &**backend, "retry put off: {error}");
                if self.begin(backend, Why::Deferred, DEFERRED) {
                    self.tell(
                        backend,
                        "deferred",
                        &format!("fails too often, retries are put off: {error}"),
                    );
                }
            }
            Event::AnswersRestated { rows } => self.note(&format!(
                "what an answer must be has changed: {rows} stored answers are valid now, or are not any more"
            )),
            Event::FollowUpsStarted { what } => {
                tracing::debug!("{what}");
                self.line(what);
            }
            Event::ScorerFailed { scorer, error } => {
                let error = terminal::escape(error);
                self.say(&format!(
                    "warning: the program of the scorer {scorer} cannot go on, what is left is not scored: {error}"
                ));
            }
            Event::SweepStarted { rows } => {
                tracing::debug!(rows, "asking rows without an answer once more");
                self.line(&format!("asking rows without an answer once more: {rows}"));
            }
            Event::BackendStopped {
                backend,
                class,
                error,
            } => {
                lock(&self.waits).end(backend);
                let (class, error) = (class.as_str(), terminal::escape(error));
                self.say(&format!(
                    "warning: backend {backend} is not asked any more ({class}): {error}"
                ));
            }
            Event::CacheLost { error } => {
                let error = terminal::escape(error);
                self.say(&format!(
                    "warning: the run goes on without the cache: {error}"
                ));
            }
            Event::CacheNotFilled { error } => {
                let error = terminal::escape(error);
                self.say(&format!(
                    "warning: no more answers are added to the cache: {error}"
                ));
            }
            Event::CacheEntryDamaged => self.say(
                "warning: an entry of the cache is damaged; it is thrown away and its row asked \
                 (further ones are not told)",
            ),
            Event::DrainStarted { is_asked_for, .. } => self.say(match is_asked_for {
                true => "stopping: waiting for requests in flight; once more to give them up",
                false => "stopping: waiting for requests in flight",
            }),
            _ => {}
        }
    }

    /// Takes the display away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints a line without tearing the bar.
    fn say(&self, text: &str) {
        self.bar.suspend(|| terminal::err(text));
    }

    /// Says what a run may still spend.
    fn open_budget(
        &self,
        state: &mut State,
        cap: Usd,
        spent: Usd,
        overshoot: Option<Usd>,
        unbounded: u64,
    ) {
        state.budget = Some((cap, spent));
        if spent != Usd::ZERO {
            self.note(&format!(
                "${spent} of the budget of ${cap} is spent, or may have been billed, by earlier runs"
            ));
        }
        if let Some(overshoot) = overshoot {
            self.note(&format!(
                "the budget is calibrated: it may be passed, by at most ${overshoot} as far as the first rows tell"
            ));
        }
        if unbounded > 0 {
            self.note(&format!(
                "warning: nobody knows what {unbounded} attempts of earlier runs cost; the budget leaves them out"
            ));
        }
    }

    /// Notes what is waited for; `false` if that is nothing to speak of.
    fn begin(&self, backend: &Arc<str>, why: Why, wait: Duration) -> bool {
        lock(&self.waits).begin(Instant::now(), backend, why, wait)
    }

    /// Says such a thing about a backend where there is no bar to show it, now and then.
    fn tell(&self, backend: &Arc<str>, what: &'static str, text: &str) {
        if lock(&self.waits).is_to_be_told(Instant::now(), backend, what) {
            self.line(&format!("{} {text}", terminal::escape(backend)));
        }
    }

    /// Prints a line above the bar, or alone.
    fn note(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Prints a line where there is no bar.
    fn line(&self, text: &str) {
        if !self.quiet && self.bar.is_hidden() {
            terminal::err(text);
        }
    }

    fn show_paid(&self, state: &State) {
        if !self.bar.is_hidden() {
            self.bar.set_message(state.message());
        }
    }

    fn line_now_and_then(&self, state: &mut State) {
        if state.printed.elapsed() < EVERY {
            return;
        }
        state.printed = Instant::now();
        self.line(&format!(
            "{}/{} rows  {}",
            state.done,
            state.rows,
            state.message()
        ));
    }
}

impl State {
    fn message(&self) -> String {
        let paid = match self.budget {
            Some((cap, before)) => {
                let paid = (before + self.paid).rounded(4);
                format!("${paid} of ${cap}")
            }
            None => format!("${}", self.paid.rounded(4)),
        };
        match self.unanswered {
            0 => paid,
            unanswered => format!("{paid}  {unanswered} unanswered"),
        }
    }
}

/// What a run is going to do, before it does it: rows that will be asked and rows that will not.
fn plan(changes: &Changes) -> String {
    let mut line = format!(
        "unchanged {} | changed {} | new {} | removed {} | unknown {}",
        thousands(changes.unchanged),
        thousands(changes.changed),
        thousands(changes.new),
        thousands(changes.removed),
        thousands(changes.unknown)
    );
    if changes.failed > 0 {
        let _ = write!(line, " | failed {}", thousands(changes.failed));
    }
    line
}

/// A number as people write it: 981,204.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nothing is left half done by a panic while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_one_line() {
        let changes = Changes {
            unchanged: 981_204,
            changed: 12,
            new: 1_000_040,
            removed: 3,
            unknown: 16,
            ..Changes::default()
        };
        let line = "unchanged 981,204 | changed 12 | new 1,000,040 | removed 3 | unknown 16";
        assert_eq!(plan(&changes), line);
        let changes = Changes {
            failed: 999,
            ..changes
        };
        assert_eq!(plan(&changes), format!("{line} | failed 999"));
    }
}
