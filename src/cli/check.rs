//! `runner check JOB`: every problem, nothing sent.

use std::path::Path;

use tokio_prompt_orchestrator::{ExitCode, Options, Runner};

use super::{JobArgs, terminal};

/// Prints every problem, or that there is none.
pub fn check(args: &JobArgs) -> ExitCode {
    let options = Options {
        set: args.set.clone(),
        out: args.out.clone(),
        limit: args.limit,
    };
    match load(&args.job, &options) {
        Ok(runner) => {
            let plan = runner.plan();
            let route: Vec<&str> = plan.backends.iter().map(|backend| &*backend.name).collect();
            terminal::out(&format!(
                "{}: no problems; {} rows for {}",
                args.job.display(),
                runner.rows(),
                route.join(", then ")
            ));
            ExitCode::Success
        }
        Err(code) => code,
    }
}

/// Loads a job for this program; prints why it cannot be.
pub fn load(job: &Path, options: &Options) -> Result<Runner, ExitCode> {
    let runner = Runner::load(job, options).map_err(|problems| {
        terminal::problems(&problems);
        ExitCode::Usage
    })?;
    if let Some(name) = runner.missing_worker() {
        terminal::err(&format!(
            "error: backend `{name}` is of type custom, which needs a program of your own that \
             supplies its worker (see examples/custom_worker.rs)"
        ));
        return Err(ExitCode::Usage);
    }
    Ok(runner)
}
