//! `runner check JOB`: every problem, nothing sent.

use std::path::Path;

use tokio_prompt_orchestrator::job::{Entry, Plan};
use tokio_prompt_orchestrator::{ExitCode, Options, Runner};

use super::args::JobArgs;
use super::{open_files, terminal};

/// Prints every problem, or that there is none.
pub fn check(args: &JobArgs) -> ExitCode {
    let options = Options {
        set: args.set.clone(),
        out: args.out.clone(),
        prices: args.prices.clone(),
        limit: args.limit,
        ..Options::default()
    };
    match load(&args.job, &options).map(open_files::allow) {
        Ok(runner) => {
            tell(&runner);
            let plan = runner.plan();
            let rows = match plan.repeat {
                1 => format!("{} rows", runner.rows()),
                repeat => format!("{} rows, {repeat} times each,", runner.rows()),
            };
            let entries: Vec<String> = plan.entries.iter().map(|entry| who(entry, plan)).collect();
            terminal::out(&format!(
                "{}: no problems; {rows} for {}",
                args.job.display(),
                terminal::escape(&entries.join(" and "))
            ));
            ExitCode::Success
        }
        Err(code) => code,
    }
}

/// Who is asked for which row: `a, then b`, or `a if tier == "premium"; b otherwise`.
fn who(entry: &Entry, plan: &Plan) -> String {
    let rules = entry.rules.iter().enumerate().map(|(position, rule)| {
        let names = rule.to.iter().filter_map(|at| plan.backends.get(*at));
        let names: Vec<&str> = names.map(|backend| &*backend.name).collect();
        let names = names.join(", then ");
        match &rule.when {
            // An expression may be folded over several lines.
            Some(when) => {
                let words: Vec<&str> = when.expression().split_whitespace().collect();
                format!("{names} if {}", words.join(" "))
            }
            None if position == 0 => names,
            None => format!("{names} otherwise"),
        }
    });
    rules.collect::<Vec<_>>().join("; ")
}

/// Prints what people should know of the inputs.
pub fn tell(runner: &Runner) {
    for notice in runner.notices() {
        terminal::err(&format!("note: {}", terminal::escape(&notice)));
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
