//! What happened in a run, in words for people.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_prompt_orchestrator::words::{Changes, Event, Usd};

use super::display::{many, seconds, thousands};
use super::terminal::escape;

/// How often at most one thing is told of one backend.
const SELDOM: Duration = Duration::from_secs(10);
/// A pause that is shorter is over before anybody has read of it.
const BRIEF: Duration = Duration::from_millis(500);

/// What is said of an event, and to whom.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// A warning, or an answer to somebody who asked: also to who wants to hear nothing but errors.
    Always(String),
    /// What everybody should know.
    Note(String),
    /// What the display of a terminal shows anyway.
    Aside(String),
}

/// Says what happened; the event is one that is told.
pub fn sentence(event: &Event) -> Said {
    match event {
        Event::DirectoryIsRemote { filesystem } => Said::Always(format!(
            "warning: the output directory is on {filesystem}, where a crash of the server may lose \
             answers and two machines may not see each other's lock; a local disk is safer"
        )),
        Event::Planned(changes) => Said::Note(plan(changes)),
        Event::BudgetOpened {
            spent,
            cap,
            overshoot,
            unbounded,
        } => {
            let mut lines = Vec::new();
            if *spent != Usd::ZERO {
                lines.push(format!(
                    "${spent} of the budget of ${cap} is spent, or may have been billed, by earlier runs"
                ));
            }
            if let Some(overshoot) = overshoot {
                lines.push(format!(
                    "the budget is calibrated: it may be passed, by at most ${overshoot} as far as the first rows tell"
                ));
            }
            if *unbounded > 0 {
                let attempts = many(*unbounded, "attempt");
                lines.push(format!(
                    "warning: nobody knows what {attempts} of earlier runs cost; the budget leaves them out"
                ));
            }
            match lines.is_empty() {
                true => Said::Nothing,
                false => Said::Note(lines.join("\n")),
            }
        }
        Event::BudgetReached { cap, spent, needed } => Said::Note(format!(
            "the budget of ${cap} has no room for a request of up to ${needed}: ${spent} is spent; rows that do not \
             fit are skipped"
        )),
        Event::CostWasHigher {
            backend,
            most,
            paid,
        } => Said::Note(format!(
            "{} charged ${paid} for a request that could cost ${most} at most; from now on more is reserved for it",
            escape(backend)
        )),
        Event::WasteReached { wasted, paid, rows } => Said::Note(format!(
            "${wasted} of the ${paid} paid for {} was wasted, more than `max_waste` allows: nothing more \
             is asked",
            many(*rows, "row")
        )),
        Event::BackendPaused {
            backend,
            wait,
            error,
        } => Said::Aside(format!(
            "{} is paused for {}, throttled: {}",
            escape(backend),
            seconds(*wait),
            escape(error)
        )),
        Event::BreakerOpened {
            backend,
            wait,
            error,
        } => Said::Aside(format!(
            "{} is down, next try in {}: {}",
            escape(backend),
            seconds(*wait),
            escape(error)
        )),
        Event::BreakerClosed { backend } => {
            Said::Aside(format!("{} answers again", escape(backend)))
        }
        Event::RowDeferred { backend, error, .. } => Said::Aside(format!(
            "{} fails too often, retries are put off: {}",
            escape(backend),
            escape(error)
        )),
        Event::AnswersRestated { rows } => Said::Note(match rows {
            1 => "what an answer must be has changed: 1 stored answer is valid now, or is not any more"
                .to_owned(),
            _ => format!(
                "what an answer must be has changed: {} stored answers are valid now, or are not any more",
                thousands(*rows)
            ),
        }),
        Event::FollowUpsStarted { what, .. } => Said::Aside(what.clone()),
        Event::ScorerFailed { scorer, error } => Said::Always(format!(
            "warning: the program of the scorer {} cannot go on, what is left is not scored: {}",
            escape(scorer),
            escape(error)
        )),
        Event::SweepStarted { rows } => Said::Aside(format!(
            "asking {} without an answer once more",
            many(*rows, "row")
        )),
        Event::BackendStopped {
            backend,
            class,
            error,
        } => Said::Always(format!(
            "warning: backend {} is not asked any more ({}): {}",
            escape(backend),
            class.as_str(),
            escape(error)
        )),
        Event::CacheLost { error } => Said::Always(format!(
            "warning: the run goes on without the cache: {}",
            escape(error)
        )),
        Event::CacheNotFilled { error } => Said::Always(format!(
            "warning: no more answers are added to the cache: {}",
            escape(error)
        )),
        Event::CacheEntryDamaged => Said::Always(
            "warning: an entry of the cache is damaged; it is thrown away and its row asked \
             (further ones are not told)"
                .to_owned(),
        ),
        Event::DrainStarted { is_asked_for, .. } => Said::Always(match is_asked_for {
            true => "stopping: waiting for requests in flight; once more to give them up".to_owned(),
            false => "stopping: waiting for requests in flight".to_owned(),
        }),
        _ => Said::Nothing,
    }
}

/// Tells what happens again and again only now and then, and what is over at once not at all.
#[derive(Debug, Default)]
pub struct Seldom {
    told: HashMap<(Arc<str>, &'static str), Instant>,
}

impl Seldom {
    /// Whether this is to be told now; if so, the time is taken.
    pub fn lets(&mut self, event: &Event, now: Instant) -> bool {
        let (backend, what) = match event {
            Event::BackendPaused { wait, .. } | Event::BreakerOpened { wait, .. }
                if *wait < BRIEF =>
            {
                return false;
            }
            Event::BackendPaused { backend, .. } => (backend, "paused"),
            Event::BreakerOpened { backend, .. } => (backend, "down"),
            Event::BreakerClosed { backend } => (backend, "back"),
            Event::RowDeferred { backend, .. } => (backend, "deferred"),
            _ => return true,
        };
        let told = self.told.get(&(Arc::clone(backend), what));
        let is_due = told.is_none_or(|told| now.saturating_duration_since(*told) >= SELDOM);
        if is_due {
            self.told.insert((Arc::clone(backend), what), now);
        }
        is_due
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
        line.push_str(&format!(" | failed {}", thousands(changes.failed)));
    }
    line
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

    #[test]
    fn one_thing_is_told_of_one_backend_once_in_ten_seconds() {
        let paused = |backend: &str, seconds| Event::BackendPaused {
            backend: backend.into(),
            wait: Duration::from_secs(seconds),
            error: String::new(),
        };
        let back = Event::BreakerClosed {
            backend: "gpt".into(),
        };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut seldom = Seldom::default();
        assert!(!seldom.lets(&paused("gpt", 0), start), "it is over at once");
        assert!(seldom.lets(&paused("gpt", 1), start));
        assert!(!seldom.lets(&paused("gpt", 1), start + 9 * second));
        assert!(seldom.lets(&paused("local", 1), start + 9 * second));
        assert!(seldom.lets(&back, start + 9 * second));
        assert!(seldom.lets(&paused("gpt", 1), start + 10 * second));
        assert!(!seldom.lets(&paused("gpt", 1), start + 19 * second));
        for _ in 0..2 {
            assert!(seldom.lets(&Event::SweepStarted { rows: 1 }, start));
        }
    }
}
