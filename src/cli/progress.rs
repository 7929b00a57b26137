//! How far a run is: a bar on a terminal, a line now and then elsewhere.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tokio_prompt_orchestrator::words::{Event, Status, Usd};

use super::terminal;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "{bar:24} {pos}/{len} rows  {rate}  eta {eta}  {msg}";

/// The display of one run.
pub struct Progress {
    quiet: bool,
    bar: ProgressBar,
    state: Mutex<State>,
}

struct State {
    rows: u64,
    done: u64,
    unanswered: u64,
    paid: Usd,
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
        bar.set_style(
            style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                // Writing into the line that is drawn cannot fail.
                let _ = write!(out, "{:.0}/s", state.per_sec());
            }),
        );
        let state = State {
            rows: 0,
            done: 0,
            unanswered: 0,
            paid: Usd::ZERO,
            printed: Instant::now(),
        };
        Self {
            quiet,
            bar,
            state: Mutex::new(state),
        }
    }

    /// Shows what happened.
    pub fn on(&self, event: &Event) {
        // Nothing is left half done by a panic while the lock is held.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { rows } => {
                state.rows = *rows;
                self.bar.set_length(*rows);
            }
            Event::RowFinished { status, paid } => {
                state.done += 1;
                state.unanswered += u64::from(*status != Status::Answered);
                state.paid += *paid;
                self.bar.set_position(state.done);
                self.bar.set_message(state.message());
                self.line_now_and_then(&mut state);
            }
            Event::AttemptFailedWillRetry {
                row,
                backend,
                class,
                error,
                wait,
            } => {
                let (class, wait) = (class.as_str(), format!("{wait:.1?}"));
                let (row, error) = (terminal::escape(row), terminal::escape(error));
                tracing::debug!(
                    row,
                    backend = &**backend,
                    class,
                    wait,
                    "attempt failed: {error}"
                );
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
            Event::BackendStopped {
                backend,
                class,
                error,
            } => {
                let (class, error) = (class.as_str(), terminal::escape(error));
                self.say(&format!(
                    "warning: backend {backend} is not asked any more ({class}): {error}"
                ));
            }
            Event::DrainStarted { .. } => {
                self.say("stopping: waiting for requests in flight; once more to give them up")
            }
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

    fn line_now_and_then(&self, state: &mut State) {
        if self.quiet || !self.bar.is_hidden() || state.printed.elapsed() < EVERY {
            return;
        }
        state.printed = Instant::now();
        terminal::err(&format!(
            "{}/{} rows  {}",
            state.done,
            state.rows,
            state.message()
        ));
    }
}

impl State {
    fn message(&self) -> String {
        let paid = self.paid.rounded(4);
        match self.unanswered {
            0 => format!("${paid}"),
            unanswered => format!("${paid}  {unanswered} unanswered"),
        }
    }
}
