//! `runner JOB`: run it.

use std::sync::Arc;
use std::time::Instant;

use tokio_prompt_orchestrator::{ExitCode, Options, RunError, Runner, Stop, Summary};

use super::progress::Progress;
use super::{RunArgs, check, signals, summary, terminal};

/// Runs a job and prints what it came to.
pub fn run(args: &RunArgs) -> ExitCode {
    let options = Options {
        out: args.out.clone(),
        limit: args.limit,
        set: args.set.clone(),
    };
    let runner = match check::load(&args.job, &options) {
        Ok(runner) => runner,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::error(&error);
            return ExitCode::Unexpected;
        }
    };
    let dir = runner.plan().output.dir.clone();
    let most = runner.plan().max_failures;
    let started = Instant::now();
    match runtime.block_on(execute(runner, args.quiet)) {
        Ok(run) => {
            if !args.quiet {
                summary::print(&run, started.elapsed(), most);
            }
            run.exit_code
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
            error.exit_code()
        }
    }
}

async fn execute(runner: Runner, quiet: bool) -> Result<Summary, RunError> {
    let stop = Stop::new();
    let signals = tokio::spawn(signals::obey(stop.clone()));
    let progress = Arc::new(Progress::new(quiet));
    let ended = {
        let progress = Arc::clone(&progress);
        runner.run(stop, move |event| progress.on(&event)).await
    };
    signals.abort();
    progress.finish();
    ended
}
