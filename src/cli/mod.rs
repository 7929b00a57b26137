//! Layer 5: the command line. One file a subcommand; the only place that prints.
//!
//! What this folder promises: results and summaries go to stdout, everything else to stderr; a closed
//! stdout or stderr never ends a run; text that came from a model or a server is escaped before it
//! reaches the terminal; the process ends with an [`ExitCode`] and nothing else.

mod aa;
mod args;
mod baseline;
mod check;
mod course;
mod diff;
mod display;
mod explain;
mod export;
mod init;
mod json_lines;
mod log;
mod open_files;
mod plan;
mod prices;
mod probe;
mod progress;
mod reader;
mod report;
mod run;
mod schema;
mod scores;
mod sentences;
mod shell;
mod signals;
mod status;
mod stdout;
mod step_summary;
mod summary;
#[cfg(feature = "otlp")]
mod telemetry;
mod terminal;
mod verify;

use std::path::Path;

use clap::{CommandFactory, Parser};
use tokio_prompt_orchestrator::ExitCode;

use args::{Cli, Command};
use log::{Log, Settings};
use progress::Screen;

/// The whole command: parses the arguments, does what they say, picks the exit code.
pub fn main() -> std::process::ExitCode {
    if let Some(problem) = mistyped() {
        terminal::err(&problem);
        return exit(ExitCode::Usage);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed by the same door; both are success.
            let _ = error.print();
            let failed = error.use_stderr();
            return exit(if failed {
                ExitCode::Usage
            } else {
                ExitCode::Success
            });
        }
    };
    let wanted = match &cli.run {
        Some(args) => Settings {
            file: args.log.clone(),
            content: args.log_content,
        },
        None => Settings::default(),
    };
    let screen = Screen::default();
    let log = match Log::start(&wanted.or_from_environment(), &screen) {
        Ok(log) => log,
        Err(why) => {
            terminal::err(&format!("error: {why}"));
            return exit(ExitCode::Usage);
        }
    };
    exit(match (cli.command, cli.run) {
        (Some(Command::Check(args)), _) => check::check(&args),
        (Some(Command::Explain(args)), _) => explain::explain(&args),
        (Some(Command::Plan(args)), _) => plan::plan(&args),
        (Some(Command::Probe(args)), _) => probe::probe(&args),
        (Some(Command::Prices(args)), _) => prices::prices(&args),
        (Some(Command::Status(args)), _) => status::status(&args),
        (Some(Command::Report(args)), _) => report::report(&args),
        (Some(Command::Export(args)), _) => export::export(&args),
        (Some(Command::Diff(args)), _) => diff::diff(&args),
        (Some(Command::Aa(args)), _) => aa::aa(&args),
        (Some(Command::Baseline(args)), _) => baseline::baseline(&args),
        (Some(Command::Verify(args)), _) => verify::verify(&args),
        (Some(Command::Init(args)), _) => init::init(&args),
        (Some(Command::Completions(args)), _) => shell::completions(&args),
        (Some(Command::Man(args)), _) => shell::man(&args),
        (Some(Command::Schema), _) => schema::schema(),
        (None, Some(args)) => run::run(&args, &screen, &log),
        (None, None) => unreachable!("clap asks for a job or a command"),
    })
}

/// What to say of a first word that is no command and no file, but nearly a command: it would be taken for a job.
fn mistyped() -> Option<String> {
    let first = std::env::args_os().nth(1)?.into_string().ok()?;
    let cli = Cli::command();
    let is_command = cli.find_subcommand(&first).is_some() || first == "help";
    if first.starts_with('-') || is_command || Path::new(&first).exists() {
        return None;
    }
    let names = cli.get_subcommands().map(clap::Command::get_name);
    let close = names
        .map(|name| (strsim::damerau_levenshtein(&first, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1.max(name.len() / 3))?;
    let first = terminal::escape(&first);
    Some(format!(
        "error: there is no command `{first}`, and no job file of this name; did you mean `{}`?",
        close.1
    ))
}

/// What requests run on; prints why there is none.
fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Runtime::new().map_err(|error| {
        terminal::error(&error);
        ExitCode::Unexpected
    })
}

fn exit(code: ExitCode) -> std::process::ExitCode {
    terminal::judged(code).code().into()
}
