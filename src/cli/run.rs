//! `runner JOB`: run it.

use std::sync::Arc;
use std::time::Instant;

use tokio_prompt_orchestrator::{ExitCode, Interrupt, Options, RunError, Runner, Stop, Summary};

use super::args::RunArgs;
use super::progress::Progress;
use super::{check, open_files, runtime, signals, stdout, step_summary, summary, terminal};

/// Runs a job and prints what it came to.
pub fn run(args: &RunArgs) -> ExitCode {
    stdout::reserve(args.stdout);
    let options = Options {
        out: args.out.clone(),
        prices: args.prices.clone(),
        limit: args.limit,
        set: args.set.clone(),
        fresh: args.fresh,
        frozen: args.frozen,
        offline: args.offline,
        no_cache: args.no_cache,
    };
    let runner = match check::load(&args.job, &options) {
        Ok(runner) => runner,
        Err(code) => return code,
    };
    if let Some(code) = stdout::missing(args.stdout, &runner.plan().output.formats) {
        return code;
    }
    if !args.quiet {
        check::tell(&runner);
    }
    let runner = match args.offline {
        true => runner,
        false => open_files::allow(runner),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let dir = runner.plan().output.dir.clone();
    let most = runner.plan().max_failures;
    let started = Instant::now();
    let stop = Stop::new();
    let ended = runtime.block_on(execute(runner, args.quiet, stop.clone()));
    // What a second signal left behind must not be waited for.
    runtime.shutdown_background();
    let Some(ended) = ended else {
        let kept = dir.join("run.db");
        terminal::err(&format!(
            "left without results; the answers are in {}; `runner export {}` writes them out, and the same \
             command again goes on",
            kept.display(),
            dir.display()
        ));
        return match stop.interrupt() {
            Some(Interrupt::Terminated) => ExitCode::Terminated,
            _ => ExitCode::Interrupted,
        };
    };
    match ended {
        Ok(run) => {
            if !args.quiet {
                summary::print(&run, started.elapsed(), most);
            }
            step_summary::append(&run.files);
            stdout::copy(args.stdout, &run.files, run.exit_code)
        }
        Err(error) => {
            terminal::error(&error);
            let kept = match error {
                RunError::Output(_) => Some(dir.join("run.db")),
                RunError::Input(_) => Some(dir),
                _ => None,
            };
            if let Some(kept) = kept {
                terminal::err(&format!("every answer so far is in {}", kept.display()));
            }
            if error.may_pass() {
                terminal::err(
                    "when that is mended, run the same command again: it goes on from there",
                );
            }
            error.exit_code()
        }
    }
}

/// Runs the job; `None` if the user would not even wait for the results.
async fn execute(runner: Runner, quiet: bool, stop: Stop) -> Option<Result<Summary, RunError>> {
    let progress = Arc::new(Progress::new(quiet));
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
