//! `runner check JOB...`: every problem, nothing sent.

use std::path::Path;

use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{Entry, Plan, Problem, Problems};
use tokio_prompt_orchestrator::{ExitCode, Options, Runner};

use super::args::CheckArgs;
use super::display::many;
use super::json_lines::problem;
use super::reader::Reader;
use super::{open_files, terminal};

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const VERSION: u32 = 1;

/// Prints every problem of every job, or that there is none.
pub fn check(args: &CheckArgs) -> ExitCode {
    let options = Options {
        set: args.set.clone(),
        out: args.out.clone(),
        prices: args.prices.clone(),
        limit: args.limit,
        require_rows: args.require_rows,
        offline: args.offline,
        ..Options::default()
    };
    let mut code = ExitCode::Success;
    let mut jobs = Vec::new();
    for job in &args.jobs {
        let checked = read(job, &options);
        if checked.is_err() {
            code = ExitCode::Usage;
        }
        match args.json {
            true => jobs.push(in_json(job, &checked)),
            false => print(job, checked),
        }
    }
    if args.json {
        terminal::json(&document(jobs));
    }
    code
}

fn print(job: &Path, checked: Result<Runner, Problems>) {
    match checked.map(|runner| open_files::allow(runner, terminal::warn)) {
        Ok(runner) => {
            tell(&runner);
            let asks = asks(&runner);
            terminal::out(&format!("{}: no problems; {asks}", job.display()));
        }
        Err(problems) => terminal::problems(&problems),
    }
}

/// How many rows are asked of whom.
fn asks(runner: &Runner) -> String {
    let plan = runner.plan();
    let rows = many(runner.rows(), "row");
    let rows = match plan.repeat {
        1 => rows,
        repeat => format!("{rows}, {repeat} times each,"),
    };
    let entries: Vec<String> = plan.entries.iter().map(|entry| who(entry, plan)).collect();
    format!("{rows} for {}", terminal::escape(&entries.join(" and ")))
}

fn in_json(job: &Path, checked: &Result<Runner, Problems>) -> Value {
    let found = checked.as_ref().err().map(|problems| &*problems.0);
    let found = found.unwrap_or_default().iter().map(problem);
    json!({
        "job": job.display().to_string(),
        "rows": checked.as_ref().ok().map(Runner::rows),
        "problems": found.collect::<Vec<_>>(),
        "notes": checked.as_ref().map(Runner::notices).unwrap_or_default(),
    })
}

/// What was found in all jobs together, and in each.
fn document(jobs: Vec<Value>) -> Value {
    let problems = jobs.iter().filter_map(|job| job["problems"].as_array());
    let problems: Vec<&Value> = problems.flatten().collect();
    let rows: u64 = jobs.iter().filter_map(|job| job["rows"].as_u64()).sum();
    json!({ "version": VERSION, "problems": problems, "rows": rows, "jobs": jobs })
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

/// Loads a job for this program; tells the reader why it cannot be.
pub fn load(job: &Path, options: &Options, reader: Reader) -> Result<Runner, ExitCode> {
    read(job, options).map_err(|problems| {
        reader.problems(&problems);
        ExitCode::Usage
    })
}

/// Loads a job for this program, which has no workers but those that a job can declare.
pub fn read(job: &Path, options: &Options) -> Result<Runner, Problems> {
    let runner = Runner::load(job, options)?;
    match runner.missing_worker() {
        Some(name) => {
            let problem = Problem::new(format!(
                "backend `{name}` is of type custom, which needs a program of your own that supplies its worker"
            ));
            Err(problem.help("see examples/custom_worker.rs").into())
        }
        None => Ok(runner),
    }
}
