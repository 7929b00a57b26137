//! What is shown of a run while it goes on: lines that are drawn again and again on a terminal, a line now and then
//! elsewhere, events for programs, or nothing.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_prompt_orchestrator::words::Event;

use super::course::Course;
use super::json_lines::JsonLines;
use super::sentences::{Said, Seldom, sentence};
use super::{display, log, terminal};

/// How often the display is drawn at most.
const DRAWN_PER_SECOND: u8 = 8;
/// Where there is no terminal, a line comes after a tenth of the time that the run has taken, but neither sooner …
const LINE_AFTER: Duration = Duration::from_secs(2);
/// … nor later than this.
const LINE_WITHIN: Duration = Duration::from_secs(60);
/// How often programs are told how far the run is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The width of a terminal that does not say.
const COLUMNS: usize = 80;

/// Where a run is drawn. What is printed meanwhile goes above.
#[derive(Clone, Default)]
pub struct Screen(Arc<Mutex<Option<ProgressBar>>>);

impl Screen {
    /// Prints without tearing what is drawn.
    pub fn above(&self, print: impl FnOnce()) {
        match &*lock(&self.0) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn draw(&self, lines: &[String]) {
        if let Some(bar) = &*lock(&self.0) {
            bar.set_message(lines.join("\n"));
        }
    }

    fn open(&self) {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is sound"));
        *lock(&self.0) = Some(bar);
    }

    fn close(&self) {
        if let Some(bar) = lock(&self.0).take() {
            bar.finish_and_clear();
        }
    }
}

/// Who is told, and how.
pub enum Form {
    /// Nobody, but of warnings.
    Quiet,
    /// People; on a terminal it is drawn.
    People,
    /// Programs.
    Json(Arc<JsonLines>),
}

/// How it is told.
enum Face {
    Quiet,
    Drawn,
    Lines,
    Json(Arc<JsonLines>),
}

/// The display of one run.
pub struct Progress {
    face: Face,
    screen: Screen,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    course: Course,
    seldom: Seldom,
    told: Option<Instant>,
}

impl Progress {
    /// A display that has nothing to show yet.
    pub fn new(form: Form, screen: &Screen) -> Self {
        let face = match form {
            Form::Quiet => Face::Quiet,
            Form::Json(lines) => Face::Json(lines),
            Form::People if is_drawn_on() => Face::Drawn,
            Form::People => Face::Lines,
        };
        if matches!(face, Face::Drawn) {
            screen.open();
        }
        Self {
            face,
            screen: screen.clone(),
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Shows what happened.
    pub fn on(&self, event: &Event) {
        log::event(event);
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.course.note(event, now);
        match event {
            // A million of them must cost nothing.
            Event::RowFinished { .. } | Event::FollowUpFinished { .. } => {}
            Event::BackendsSeen(_) => self.show(&mut state, now),
            event if state.seldom.lets(event, now) => self.tell(&state.course, event),
            _ => {}
        }
    }

    /// Takes the display away.
    pub fn finish(&self) {
        self.screen.close();
    }

    /// How far the run is, if it is time to say so.
    fn show(&self, state: &mut State, now: Instant) {
        let passed = now.duration_since(state.told.unwrap_or(self.began));
        match &self.face {
            Face::Quiet => {}
            Face::Drawn => self.draw(&state.course),
            Face::Lines => {
                let due = (now - self.began) / 10;
                if passed >= due.clamp(LINE_AFTER, LINE_WITHIN) {
                    state.told = Some(now);
                    terminal::err(&display::line(&state.course));
                }
            }
            Face::Json(lines) => {
                if state.told.is_none() || passed >= PROGRESS_EVERY {
                    state.told = Some(now);
                    lines.progress(&state.course);
                }
            }
        }
    }

    fn tell(&self, course: &Course, event: &Event) {
        if let Face::Json(lines) = &self.face {
            return lines.event(event);
        }
        let text = match (sentence(event), &self.face) {
            (Said::Always(text), _) => text,
            (Said::Note(text), Face::Drawn | Face::Lines) => text,
            (Said::Aside(text), Face::Lines) => text,
            _ => String::new(),
        };
        if !text.is_empty() {
            self.screen.above(|| terminal::err(&text));
        }
        if matches!(event, Event::RunStarted { .. }) {
            self.draw(course);
        }
    }

    fn draw(&self, course: &Course) {
        // The last column stays free: a terminal may break the line there.
        self.screen
            .draw(&display::lines(course, columns().saturating_sub(1)));
    }
}

/// Whether stderr is a terminal on which lines can be drawn again, and somebody looks.
fn is_drawn_on() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let term = std::env::var_os("TERM");
    let is_dumb = cfg!(unix) && term.is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stderr().is_terminal() && !is_dumb && !is_set("CI")
}

#[cfg(unix)]
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    match size.map(|size| size.ws_col.into()) {
        Ok(0) | Err(_) => COLUMNS,
        Ok(columns) => columns,
    }
}

#[cfg(not(unix))]
fn columns() -> usize {
    COLUMNS
}

/// Nothing is left half done by a panic while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
