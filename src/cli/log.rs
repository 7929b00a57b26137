//! The log: what happens, for who looks for the reason. On stderr, or in a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_prompt_orchestrator::Runner;
use tokio_prompt_orchestrator::words::{Event, spellings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::progress::Screen;
use super::terminal::{self, escape};

/// The target of what prompts and answers say, which is no part of a log unless it is asked for.
const CONTENT: &str = "tokio_prompt_orchestrator::content";
/// A shorter secret would hide words that are none.
const SHORTEST: usize = 4;

/// What of a run goes to which log.
#[derive(Debug, Default)]
pub struct Settings {
    /// The file; stderr without one.
    pub file: Option<PathBuf>,
    /// Whether prompts and answers go there.
    pub content: bool,
}

/// A log under way.
#[derive(Clone, Default)]
pub struct Log {
    secrets: Secrets,
    #[cfg(feature = "otlp")]
    content: bool,
}

/// What nobody may read, once a job is known.
#[derive(Clone, Default)]
struct Secrets(Arc<OnceLock<Vec<String>>>);

impl Secrets {
    fn mask(&self, text: &str) -> String {
        let secrets = self.0.get().into_iter().flatten();
        secrets.fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "[key]")
        })
    }
}

impl Settings {
    /// What the environment says where the command line says nothing.
    pub fn or_from_environment(self) -> Self {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            file: self
                .file
                .or_else(|| named("RUNNER_LOG_FILE").map(PathBuf::from)),
            content: self.content || named("RUNNER_LOG_CONTENT").is_some_and(|value| value != "0"),
        }
    }
}

impl Log {
    /// Begins to log, if anybody wants it. An error says why that cannot be.
    pub fn start(settings: &Settings, screen: &Screen) -> Result<Self, String> {
        let log = Self {
            #[cfg(feature = "otlp")]
            content: settings.content,
            ..Self::default()
        };
        let wanted = std::env::var("RUNNER_LOG").unwrap_or_default();
        let wanted = match (wanted.trim(), &settings.file) {
            ("", None) => {
                // A collector may get it (`otlp`); else nobody does. The variable may be there for other runs.
                let asked = settings.content && std::env::var_os("RUNNER_LOG_CONTENT").is_none();
                if asked && cfg!(not(feature = "otlp")) {
                    terminal::warn(
                        "what is asked and answered is logged nowhere: name a file with --log, or set RUNNER_LOG",
                    );
                }
                return Ok(log);
            }
            ("", Some(_)) if settings.content => "debug",
            ("", Some(_)) => "info",
            (wanted, _) => wanted,
        };
        let Some(filter) = filter(wanted, settings.content) else {
            terminal::warn(&format!(
                "RUNNER_LOG is not obeyed: `{}` is no level and no filter",
                escape(wanted)
            ));
            return Ok(log);
        };
        let to = match &settings.file {
            Some(path) => To::File(Arc::new(Mutex::new(open(path)?))),
            None => To::Screen(screen.clone()),
        };
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(Sink {
                to,
                secrets: log.secrets.clone(),
            })
            .init();
        Ok(log)
    }

    /// From now on none of the secrets of this job is written, whoever repeats it.
    pub fn hide_secrets_of(&self, runner: &Runner) {
        let backends = runner.plan().backends.iter();
        let names = backends.flat_map(|backend| backend.secret_variables());
        let values = names.filter_map(|name| std::env::var(name).ok());
        let secrets = values.flat_map(|value| {
            // A header's whole value may be `Basic <key>`.
            let last = value
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            [value.trim().to_owned(), last]
        });
        let secrets = secrets.filter(|secret| secret.len() >= SHORTEST);
        let secrets = secrets.flat_map(|secret| spellings(&secret)).collect();
        // There is one job in a process.
        let _ = self.secrets.0.set(secrets);
    }
}

#[cfg(feature = "otlp")]
impl Log {
    /// Whether prompts and answers may be shown.
    pub fn shows_content(&self) -> bool {
        self.content
    }

    /// The text without the secrets of the job.
    pub fn mask(&self, text: &str) -> String {
        self.secrets.mask(text)
    }
}

/// What is logged. What the HTTP client says of itself would bury the rest; a filter may ask for it by name.
fn filter(wanted: &str, content: bool) -> Option<EnvFilter> {
    let content = match content {
        true => "debug",
        false => "off",
    };
    let all = |wanted: &str| EnvFilter::try_new(format!("{wanted},{CONTENT}={content}")).ok();
    let is_level = wanted.parse::<tracing::Level>().is_ok() || wanted.eq_ignore_ascii_case("off");
    match is_level {
        true => all(&format!(
            "warn,runner={wanted},tokio_prompt_orchestrator={wanted}"
        )),
        // `debug,hyper=info` means the level of this program first.
        false => all(&format!("warn,runner={wanted}")).or_else(|| all(wanted)),
    }
}

fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path);
    opened.map_err(|error| format!("cannot open the log {}: {error}", path.display()))
}

/// Notes down what happened.
pub fn event(event: &Event) {
    match event {
        Event::AttemptFailedWillRetry {
            row,
            backend,
            class,
            error,
            wait,
        } => {
            let (row, error) = (escape(row), escape(error));
            let (name, wait) = (class.as_str(), format!("{wait:.1?}"));
            tracing::debug!(
                row,
                backend = &**backend,
                class = name,
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
            let (row, error) = (escape(row), escape(error));
            tracing::info!(row, from = &**from, to = &**to, "row falls back: {error}");
        }
        Event::AnswerWasInvalid {
            row,
            backend,
            error,
        } => {
            // Why it is not holds some of it.
            let (row, error) = (escape(row), escape(error));
            tracing::info!(row, backend = &**backend, "answer is not valid");
            tracing::debug!(target: CONTENT, row, backend = &**backend, "answer is not valid: {error}");
        }
        Event::BackendPaused {
            backend,
            wait,
            error,
        } => {
            let (wait, error) = (format!("{wait:.1?}"), escape(error));
            tracing::debug!(backend = &**backend, wait, "paused: {error}");
        }
        Event::BreakerOpened {
            backend,
            wait,
            error,
        } => {
            let (wait, error) = (format!("{wait:.1?}"), escape(error));
            tracing::debug!(backend = &**backend, wait, "left alone: {error}");
        }
        Event::BreakerClosed { backend } => {
            tracing::debug!(backend = &**backend, "answers again");
        }
        Event::RowDeferred {
            row,
            backend,
            error,
        } => {
            let (row, error) = (escape(row), escape(error));
            tracing::debug!(row, backend = &**backend, "retry put off: {error}");
        }
        Event::BackendStopped {
            backend,
            class,
            error,
        } => {
            let (class, error) = (class.as_str(), escape(error));
            tracing::warn!(backend = &**backend, class, "not asked any more: {error}");
        }
        Event::RunStarted { rows, done } => tracing::info!(rows, done, "rows are asked"),
        Event::BudgetReached { cap, spent, needed } => {
            let (cap, spent, needed) = (cap.to_string(), spent.to_string(), needed.to_string());
            tracing::info!(cap, spent, needed, "the budget is reached");
        }
        Event::FollowUpsStarted { what, .. } => tracing::info!("{what}"),
        Event::ScorerFailed { scorer, error } => {
            let error = escape(error);
            tracing::warn!(scorer, "the scorer's program cannot go on: {error}");
        }
        Event::SweepStarted { rows } => {
            tracing::debug!(rows, "asking rows without an answer once more");
        }
        Event::DrainStarted { in_flight, .. } => tracing::info!(in_flight, "stopping"),
        _ => {}
    }
}

/// Where lines of the log go.
#[derive(Clone)]
enum To {
    File(Arc<Mutex<File>>),
    Screen(Screen),
}

/// Makes the lines harmless on their way.
struct Sink {
    to: To,
    secrets: Secrets,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> &'a Sink {
        self
    }
}

impl Write for &Sink {
    /// Gets one event as a whole.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        // One event is one line.
        let line = escape(&self.secrets.mask(text));
        match &self.to {
            To::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                // Nobody reads an error of the log; the run goes on.
                let _ = file.write_all(format!("{line}\n").as_bytes());
            }
            To::Screen(screen) => screen.above(|| terminal::err(&line)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
