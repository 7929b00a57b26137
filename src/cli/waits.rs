//! What a run waits for at the moment: which backends are paused or down, and for how much longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::terminal;

/// How often at most one thing is told of one backend where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// A pause that is shorter is over before anybody has read of it.
const BRIEF: Duration = Duration::from_millis(500);
/// After so long without an end of any row, a backend that refuses does so for good.
const PERSISTENT: Duration = Duration::from_secs(5);
/// How long the word of a refusal holds: until the next one is due.
const REFUSED: Duration = Duration::from_secs(12);

/// Why a backend, or its rows, have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It refused because it was asked too much.
    Paused,
    /// It refuses still, after the pause.
    Refusing,
    /// It failed again and again.
    Down,
    /// It has used up its retries for now.
    Deferred,
}

/// What is waited for.
#[derive(Debug, Default)]
pub struct Waits {
    now: Vec<Wait>,
    /// Backends that have refused, and since when no row has ended.
    refused: HashMap<Arc<str>, Instant>,
    told: HashMap<(Arc<str>, &'static str), Instant>,
}

#[derive(Debug)]
struct Wait {
    backend: Arc<str>,
    why: Why,
    until: Instant,
}

impl Waits {
    /// A backend is waited for, for so long from now. `false` if that is nothing to speak of.
    pub fn begin(&mut self, now: Instant, backend: &Arc<str>, why: Why, wait: Duration) -> bool {
        if why == Why::Paused {
            self.refused.entry(Arc::clone(backend)).or_insert(now);
        }
        if wait < BRIEF {
            return false;
        }
        // What is known now replaces the vague word of a refusal.
        let replaced = |known: &Wait| known.is(backend, why) || known.is(backend, Why::Refusing);
        self.now
            .retain(|known| known.until > now && !replaced(known));
        self.now.push(Wait {
            backend: Arc::clone(backend),
            why,
            until: now + wait,
        });
        true
    }

    /// A request was refused. `true` if nothing else has happened for a while, and no pause is under way
    /// of which more is known.
    pub fn refused(&mut self, now: Instant, backend: &Arc<str>) -> bool {
        let since = self.refused.get(backend).copied();
        let pausing = |known: &Wait| known.until > now && known.is(backend, Why::Paused);
        since.is_some_and(|since| now - since >= PERSISTENT)
            && !self.now.iter().any(pausing)
            && self.begin(now, backend, Why::Refusing, REFUSED)
    }

    /// A backend is not waited for any more.
    pub fn end(&mut self, backend: &str) {
        self.now.retain(|known| &*known.backend != backend);
    }

    /// A row has ended: not everything is refused.
    pub fn row_ended(&mut self, now: Instant) {
        self.refused.values_mut().for_each(|since| *since = now);
        self.now.retain(|known| known.why != Why::Refusing);
    }

    /// What is waited for now, on one line; empty for nothing.
    pub fn text(&self, now: Instant) -> String {
        let waits = self.now.iter().filter(|wait| wait.until > now);
        let texts: Vec<_> = waits.map(|wait| wait.text(now)).collect();
        texts.join("; ")
    }

    /// Whether it is time to tell such a thing of a backend; if so, the time is taken.
    pub fn is_to_be_told(&mut self, now: Instant, backend: &Arc<str>, what: &'static str) -> bool {
        let told = self.told.get(&(Arc::clone(backend), what));
        let due = told.is_none_or(|told| now.saturating_duration_since(*told) >= EVERY);
        if due {
            self.told.insert((Arc::clone(backend), what), now);
        }
        due
    }
}

impl Wait {
    fn is(&self, backend: &str, why: Why) -> bool {
        &*self.backend == backend && self.why == why
    }

    fn text(&self, now: Instant) -> String {
        let backend = terminal::escape(&self.backend);
        let left = seconds(self.until - now);
        match self.why {
            Why::Paused => format!("{backend} paused {left}: throttled"),
            Why::Refusing => format!("{backend} still throttled"),
            Why::Down => format!("{backend} down, next try in {left}"),
            Why::Deferred => format!("{backend}: retries put off"),
        }
    }
}

/// Whole seconds, as on a clock that runs down.
pub fn seconds(time: Duration) -> String {
    format!("{} s", time.as_millis().div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_wait_is_shown_while_it_lasts_and_no_longer() {
        let (start, gpt, local) = (Instant::now(), Arc::from("gpt"), Arc::from("local"));
        let mut waits = Waits::default();
        assert_eq!(waits.text(start), "");
        waits.begin(start, &gpt, Why::Paused, s(12));
        waits.begin(start, &local, Why::Down, s(4));
        let both = "gpt paused 12 s: throttled; local down, next try in 4 s";
        assert_eq!(waits.text(start), both);
        assert_eq!(waits.text(start + s(5)), "gpt paused 7 s: throttled");
        assert_eq!(waits.text(start + s(12)), "");
        // It is told anew, not twice.
        waits.begin(start + s(4), &local, Why::Down, s(10));
        let again = "gpt paused 8 s: throttled; local down, next try in 10 s";
        assert_eq!(waits.text(start + s(4)), again);
        waits.end("local");
        assert_eq!(waits.text(start + s(4)), "gpt paused 8 s: throttled");
    }

    #[test]
    fn who_refuses_for_good_is_said_to_until_a_row_ends() {
        let (start, gpt) = (Instant::now(), Arc::from("gpt"));
        let mut waits = Waits::default();
        assert!(!waits.refused(start, &gpt));
        // Too short to be shown, and yet the beginning.
        assert!(!waits.begin(start, &gpt, Why::Paused, s(0)));
        assert!(!waits.refused(start + s(1), &gpt));
        assert!(waits.refused(start + s(10), &gpt));
        assert_eq!(waits.text(start + s(20)), "gpt still throttled");
        waits.begin(start + s(15), &gpt, Why::Down, s(4));
        let down = "gpt down, next try in 4 s";
        assert_eq!(waits.text(start + s(15)), down);
        assert!(waits.refused(start + s(20), &gpt));
        waits.row_ended(start + s(20));
        assert_eq!(waits.text(start + s(20)), "");
        assert!(!waits.refused(start + s(21), &gpt));
        assert!(waits.refused(start + s(30), &gpt));
    }

    #[test]
    fn a_pause_lasts_though_requests_in_flight_come_back() {
        let (start, gpt) = (Instant::now(), Arc::from("gpt"));
        let mut waits = Waits::default();
        waits.begin(start, &gpt, Why::Paused, s(60));
        assert!(!waits.refused(start + s(10), &gpt));
        waits.row_ended(start + s(10));
        assert_eq!(waits.text(start + s(10)), "gpt paused 50 s: throttled");
    }

    #[test]
    fn one_thing_is_told_of_one_backend_once_in_ten_seconds() {
        let (start, gpt, local) = (Instant::now(), Arc::from("gpt"), Arc::from("local"));
        let mut waits = Waits::default();
        assert!(waits.is_to_be_told(start, &gpt, "paused"));
        assert!(!waits.is_to_be_told(start + s(9), &gpt, "paused"));
        assert!(waits.is_to_be_told(start + s(9), &gpt, "down"));
        assert!(waits.is_to_be_told(start + s(9), &local, "paused"));
        assert!(waits.is_to_be_told(start + s(10), &gpt, "paused"));
        assert!(!waits.is_to_be_told(start + s(19), &gpt, "paused"));
    }
}
