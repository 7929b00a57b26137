//! How far a run is, and how fast it goes: what the displays show.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio_prompt_orchestrator::words::{BackendNow, Event, Status, Usd, WaitsFor};

/// The rate is that of so long a time.
const RECENT: Duration = Duration::from_secs(10);
/// What is left is reckoned from so long a time in which requests could be sent.
const LONG: Duration = Duration::from_secs(60);
/// A run that is younger says nothing about how long it takes.
const YOUNG: Duration = Duration::from_secs(1);
/// Between two looks at the backends no more time than this counts: the machine may have slept.
const MOST_BETWEEN: Duration = Duration::from_secs(1);

/// How far a run is.
#[derive(Debug, Default)]
pub struct Course {
    /// How many rows the job has, each once for each entry of the matrix and repeat.
    pub rows: u64,
    /// How many of them are done.
    pub done: u64,
    /// How many of these were done by earlier runs.
    pub before: u64,
    /// How the rows of this run ended.
    by_status: [u64; Status::ALL.len()],
    /// How many answers were judged, scored or decided.
    pub followed_up: u64,
    /// Whether something is asked about the answers; and what comes of how many of them is to be known at the end.
    pub following_up: bool,
    pub to_follow_up: Option<u64>,
    /// What this run has paid.
    pub paid: Usd,
    /// The cap, and what earlier runs have spent of it.
    pub budget: Option<(Usd, Usd)>,
    /// What each backend does.
    pub backends: Vec<Lane>,
    /// Whether nothing new is asked any more.
    pub is_stopping: bool,
    looks: VecDeque<Look>,
}

/// What a backend does, and how fast.
#[derive(Debug)]
pub struct Lane {
    /// What it does.
    pub now: BackendNow,
    /// How many requests a second were sent to it lately.
    pub per_second: f64,
    sent: VecDeque<(Instant, u64)>,
}

/// How far the run was when the backends were looked at.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// How long requests could be sent until then.
    active: Duration,
    /// How many rows, judgements and decisions had come to an end.
    ends: u64,
}

impl Course {
    /// Takes note of what happened.
    pub fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::BudgetOpened { cap, spent, .. } => self.budget = Some((*cap, *spent)),
            Event::RunStarted { rows, done } => {
                (self.rows, self.done, self.before) = (*rows, *done, *done);
            }
            Event::RowFinished { status, paid } => {
                self.done += 1;
                self.by_status[*status as usize] += 1;
                self.paid += *paid;
            }
            Event::FollowUpsStarted { about, .. } => {
                self.following_up = true;
                self.to_follow_up = about.map(|about| self.followed_up + about);
                // How fast rows were asked says nothing about this.
                self.looks.clear();
            }
            Event::FollowUpFinished { paid, .. } => {
                self.followed_up += 1;
                self.paid += *paid;
            }
            Event::BackendsSeen(seen) => self.look(seen, now),
            Event::DrainStarted { .. } => self.is_stopping = true,
            _ => {}
        }
    }

    /// How the rows of this run ended, in the order of reports.
    pub fn by_status(&self) -> impl Iterator<Item = (Status, u64)> {
        let all = Status::ALL.into_iter().zip(self.by_status);
        all.filter(|(_, rows)| *rows > 0)
    }

    /// What has been spent of the budget, or paid by this run where there is none.
    pub fn spent(&self) -> Usd {
        self.budget.map_or(Usd::ZERO, |(_, before)| before) + self.paid
    }

    /// How many rows (or judgements) come to an end in a second, lately; `None` until that is known.
    pub fn per_second(&self) -> Option<f64> {
        let last = self.looks.back()?;
        let first = self
            .looks
            .iter()
            .find(|look| last.at.duration_since(look.at) <= RECENT)?;
        let time = last.at.duration_since(first.at);
        (time >= YOUNG).then(|| (last.ends - first.ends) as f64 / time.as_secs_f64())
    }

    /// How long what is left will take, if it goes on as it went while requests could be sent; `None` until that is
    /// known, and where it cannot be.
    pub fn time_left(&self) -> Option<Duration> {
        let left = match (self.following_up, self.to_follow_up) {
            (false, _) => self.rows.saturating_sub(self.done),
            (true, all) => all?.saturating_sub(self.followed_up),
        };
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let (time, ends) = (last.active - first.active, last.ends - first.ends);
        if self.is_stopping || time < YOUNG || ends == 0 {
            return None;
        }
        let seconds = time.as_secs_f64() * left as f64 / ends as f64;
        let going = Duration::try_from_secs_f64(seconds).ok()?;
        Some(going + self.held_up().unwrap_or_default())
    }

    fn look(&mut self, seen: &[BackendNow], now: Instant) {
        let active = self.looks.back().map_or(Duration::ZERO, |last| {
            let passed = now.duration_since(last.at).min(MOST_BETWEEN);
            match self.held_up() {
                Some(_) => last.active,
                None => last.active + passed,
            }
        });
        self.backends
            .resize_with(seen.len(), || Lane::of(&seen[0], now));
        for (lane, seen) in self.backends.iter_mut().zip(seen) {
            lane.look(seen, now);
        }
        self.looks.push_back(Look {
            at: now,
            active,
            ends: self.done - self.before + self.followed_up,
        });
        while self
            .looks
            .front()
            .is_some_and(|look| active - look.active > LONG)
        {
            self.looks.pop_front();
        }
    }

    /// How much longer nothing can be sent, because every backend is paused or down.
    fn held_up(&self) -> Option<Duration> {
        let holds = |lane: &Lane| match lane.now.waits_for {
            WaitsFor::Throttled(left) | WaitsFor::Down(left) => Some(left),
            _ => None,
        };
        let asked = |lane: &&Lane| lane.now.waits_for != WaitsFor::Stopped;
        let held: Option<Vec<Duration>> = self.backends.iter().filter(asked).map(holds).collect();
        held?.into_iter().min()
    }
}

impl Lane {
    fn of(now: &BackendNow, at: Instant) -> Self {
        Self {
            now: now.clone(),
            per_second: 0.0,
            sent: VecDeque::from([(at, now.sent)]),
        }
    }

    fn look(&mut self, seen: &BackendNow, at: Instant) {
        if self.now.backend != seen.backend {
            *self = Self::of(seen, at);
        }
        self.now = seen.clone();
        self.sent.push_back((at, seen.sent));
        let is_old = |(then, _): &(Instant, u64)| at.duration_since(*then) > RECENT;
        while self.sent.front().is_some_and(is_old) {
            self.sent.pop_front();
        }
        let (then, sent) = self.sent[0];
        let time = at.duration_since(then);
        if time >= YOUNG {
            self.per_second = (seen.sent - sent) as f64 / time.as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: Duration = Duration::from_millis(250);

    fn seen(waits_for: WaitsFor) -> Event {
        Event::BackendsSeen(vec![BackendNow {
            backend: "a".into(),
            in_flight: 1,
            allowed: 16,
            sent: 0,
            waits_for,
        }])
    }

    fn ended() -> Event {
        Event::RowFinished {
            status: Status::Answered,
            paid: Usd::ZERO,
        }
    }

    /// A run of so many rows, some of them done, that goes at four rows a second for so many seconds.
    fn run(rows: u64, done: u64, seconds: u64) -> (Course, Instant) {
        let (mut course, mut now) = (Course::default(), Instant::now());
        course.note(&Event::RunStarted { rows, done }, now);
        course.note(&seen(WaitsFor::Nothing), now);
        for _ in 0..4 * seconds {
            now += QUARTER;
            course.note(&ended(), now);
            course.note(&seen(WaitsFor::Nothing), now);
        }
        (course, now)
    }

    #[test]
    fn nothing_is_known_of_a_young_run() {
        let (course, _) = run(100, 0, 0);
        assert_eq!((course.per_second(), course.time_left()), (None, None));
    }

    #[test]
    fn rows_of_earlier_runs_say_nothing_about_the_pace() {
        let (course, _) = run(1_000_000, 999_900, 10);
        assert_eq!(course.per_second(), Some(4.0));
        assert_eq!(course.time_left(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_pause_adds_its_own_time_to_what_is_left_and_no_more() {
        let (mut course, mut now) = run(100, 0, 10);
        for left in (0..=120).rev() {
            let paused = WaitsFor::Throttled(Duration::from_secs(left));
            course.note(&seen(paused), now);
            now += Duration::from_secs(1);
            let expected = Duration::from_secs(15 + left);
            assert_eq!(course.time_left(), Some(expected), "{left}");
        }
        assert_eq!(course.per_second(), Some(0.0));
        course.note(&seen(WaitsFor::Nothing), now);
        assert_eq!(course.time_left(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_machine_that_slept_has_lost_a_second() {
        let (mut course, now) = run(100, 0, 10);
        course.note(&seen(WaitsFor::Nothing), now + Duration::from_secs(3600));
        assert_eq!(course.time_left(), Some(Duration::from_millis(16_500)));
    }

    #[test]
    fn the_pace_of_an_hour_ago_is_forgotten() {
        let (mut course, mut now) = run(10_000, 0, 100);
        for _ in 0..70 {
            now += Duration::from_secs(1);
            course.note(&ended(), now);
            course.note(&seen(WaitsFor::Nothing), now);
        }
        assert_eq!(course.per_second(), Some(1.0));
        let left = course.time_left().unwrap().as_secs();
        assert_eq!(left, 10_000 - 400 - 70);
    }

    #[test]
    fn what_is_left_to_judge_takes_its_own_time() {
        for (about, left) in [(Some(50), Some(Duration::from_secs(10))), (None, None)] {
            let (mut course, mut now) = run(100, 60, 10);
            let what = "answers are judged".to_owned();
            course.note(&Event::FollowUpsStarted { what, about }, now);
            course.note(&seen(WaitsFor::Nothing), now);
            for _ in 0..10 {
                now += Duration::from_secs(1);
                for _ in 0..3 {
                    let (status, paid) = (Status::Answered, Usd::ZERO);
                    course.note(&Event::FollowUpFinished { status, paid }, now);
                }
                course.note(&seen(WaitsFor::Nothing), now);
            }
            // 30 of 50 in ten seconds.
            let left = left.map(|left: Duration| left * 2 / 3);
            assert_eq!(
                course.time_left().map(|time| time.as_millis() / 10),
                left.map(|left| left.as_millis() / 10)
            );
        }
    }
}
