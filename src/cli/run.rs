//! `runner JOB`: run it.

use std::sync::Arc;
use std::time::Instant;

use tokio_prompt_orchestrator::words::with_causes;
use tokio_prompt_orchestrator::{ExitCode, Interrupt, Options, RunError, Runner, Stop, Summary};

use super::args::RunArgs;
use super::json_lines::JsonLines;
use super::log::Log;
use super::progress::{Form, Progress, Screen};
use super::reader::Reader;
#[cfg(feature = "otlp")]
use super::telemetry::Telemetry;
use super::{check, open_files, runtime, signals, stdout, step_summary, summary, terminal};

/// Runs a job and prints what it came to.
pub fn run(args: &RunArgs, screen: &Screen, log: &Log) -> ExitCode {
    stdout::reserve(args.stdout);
    let listener = match (args.json, args.quiet) {
        (true, _) => Listener::Program(Arc::default()),
        (false, true) => Listener::Hardly,
        (false, false) => Listener::Person,
    };
    let code = match load(args, &listener) {
        Ok(runner) => {
            listener.run_started(&runner);
            listener.notices(&runner);
            finish(runner, args, screen, log, &listener)
        }
        Err(code) => Err(code),
    };
    code.unwrap_or_else(|code| {
        listener.ended(code);
        code
    })
}

/// Who listens.
enum Listener {
    Person,
    /// Somebody who wants to hear of errors and nothing else.
    Hardly,
    Program(Arc<JsonLines>),
}

impl Listener {
    fn form(&self) -> Form {
        match self {
            Listener::Person => Form::People,
            Listener::Hardly => Form::Quiet,
            Listener::Program(lines) => Form::Json(Arc::clone(lines)),
        }
    }

    fn run_started(&self, runner: &Runner) {
        if let Listener::Program(lines) = self {
            lines.run_started(runner);
        }
    }

    /// Says what one should know of the inputs.
    fn notices(&self, runner: &Runner) {
        match self {
            Listener::Person => check::tell(runner),
            Listener::Hardly => {}
            Listener::Program(lines) => {
                let notices = runner.notices();
                notices.iter().for_each(|notice| lines.warning(notice));
            }
        }
    }

    fn warn(&self, message: &str) {
        match self {
            Listener::Program(lines) => lines.warning(message),
            _ => terminal::warn(message),
        }
    }

    /// An error, and what to do about it.
    fn error(&self, message: &str, help: &[String]) {
        match self {
            Listener::Program(lines) => lines.error(message, help),
            _ => {
                terminal::err(&format!("error: {}", terminal::escape(message)));
                help.iter().for_each(|line| terminal::err(line));
            }
        }
    }

    /// The run has no end that could be told in numbers.
    fn ended(&self, code: ExitCode) {
        if let Listener::Program(lines) = self {
            lines.ended(code);
        }
    }
}

fn load(args: &RunArgs, listener: &Listener) -> Result<Runner, ExitCode> {
    let options = Options {
        out: args.out.clone(),
        prices: args.prices.clone(),
        limit: args.limit,
        require_rows: args.require_rows,
        set: args.set.clone(),
        fresh: args.fresh,
        frozen: args.frozen,
        offline: args.offline,
        no_cache: args.no_cache,
    };
    let runner = match listener {
        Listener::Program(lines) => check::read(&args.job, &options).map_err(|problems| {
            lines.problems(&problems);
            ExitCode::Usage
        })?,
        _ => check::load(&args.job, &options, Reader::Person)?,
    };
    if let Some(code) = stdout::missing(args.stdout, &runner.plan().output.formats) {
        return Err(code);
    }
    Ok(match args.offline {
        true => runner,
        false => open_files::allow(runner, |message| listener.warn(message)),
    })
}

/// Runs a job that was loaded. An error is an exit code whose reason was told.
fn finish(
    runner: Runner,
    args: &RunArgs,
    screen: &Screen,
    log: &Log,
    listener: &Listener,
) -> Result<ExitCode, ExitCode> {
    let runtime = runtime()?;
    log.hide_secrets_of(&runner);
    #[cfg(feature = "otlp")]
    let (runner, telemetry) = Telemetry::of(runner, log, |message| listener.warn(message));
    let dir = runner.plan().output.dir.clone();
    let most = runner.plan().max_failures;
    let started = Instant::now();
    let stop = Stop::new();
    let progress = Progress::new(listener.form(), screen);
    let ended = runtime.block_on(execute(runner, progress, stop.clone()));
    // What a second signal left behind must not be waited for.
    runtime.shutdown_background();
    #[cfg(feature = "otlp")]
    if let Some(telemetry) = telemetry {
        match &ended {
            Some(Ok(run)) => telemetry.finish(run.exit_code, |message| listener.warn(message)),
            Some(Err(error)) => {
                telemetry.finish(error.exit_code(), |message| listener.warn(message))
            }
            None => telemetry.abandon(),
        }
    }
    let Some(ended) = ended else {
        let (kept, dir) = (dir.join("run.db"), dir.display());
        let kept = kept.display();
        let message = format!(
            "left without results; the answers are in {kept}; `runner export {dir}` writes them out, and the same \
             command again goes on"
        );
        match listener {
            Listener::Program(lines) => lines.error(&message, &[]),
            _ => terminal::err(&message),
        }
        return Err(match stop.interrupt() {
            Some(Interrupt::Terminated) => ExitCode::Terminated,
            _ => ExitCode::Interrupted,
        });
    };
    let run = ended.map_err(|error| {
        let mut help = Vec::new();
        let kept = match error {
            RunError::Output(_) => Some(dir.join("run.db")),
            RunError::Input(_) => Some(dir),
            _ => None,
        };
        help.extend(kept.map(|kept| format!("every answer so far is in {}", kept.display())));
        if error.may_pass() {
            let again = "when that is mended, run the same command again: it goes on from there";
            help.push(again.to_owned());
        }
        listener.error(&with_causes(&error), &help);
        error.exit_code()
    })?;
    step_summary::append(&run.files, |message| listener.warn(message));
    match listener {
        Listener::Person => summary::print(&run, started.elapsed(), most),
        // Why it is no success is an error like others.
        Listener::Hardly => {
            if let Some(why) = summary::why(&run, most) {
                terminal::err(&format!("exit {}: {why}", run.exit_code.code()));
            }
        }
        Listener::Program(lines) => {
            let why = summary::why(&run, most);
            lines.run_finished(&run, why.as_deref(), started.elapsed());
        }
    }
    Ok(stdout::copy(args.stdout, &run.files, run.exit_code))
}

/// Runs the job; `None` if the user would not even wait for the results.
async fn execute(
    runner: Runner,
    progress: Progress,
    stop: Stop,
) -> Option<Result<Summary, RunError>> {
    let progress = Arc::new(progress);
    let shown = Arc::clone(&progress);
    // As a task of its own, for writing the results does not yield.
    let run = tokio::spawn(runner.run(stop.clone(), move |event| shown.on(&event)));
    let ended = tokio::select! {
        ended = run => Some(ended.expect("a run neither panics nor is cancelled")),
        () = signals::obey(stop) => None,
    };
    progress.finish();
    ended
}
