//! Layer 5: the command line. One file a subcommand; the only place that prints.
//!
//! What this folder promises: results and summaries go to stdout, everything else to stderr; a closed
//! stdout or stderr never ends a run; text that came from a model or a server is escaped before it
//! reaches the terminal; the process ends with an [`ExitCode`] and nothing else.

mod aa;
mod args;
mod baseline;
mod check;
mod diff;
mod explain;
mod export;
mod init;
mod open_files;
mod plan;
mod prices;
mod probe;
mod progress;
mod report;
mod run;
mod schema;
mod scores;
mod shell;
mod signals;
mod status;
mod step_summary;
mod summary;
mod terminal;
mod verify;
mod waits;

use clap::Parser;
use tokio_prompt_orchestrator::ExitCode;

use args::{Cli, Command};

/// The whole command: parses the arguments, does what they say, picks the exit code.
pub fn main() -> std::process::ExitCode {
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
    start_log();
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
        (None, Some(args)) => run::run(&args),
        (None, None) => unreachable!("clap asks for a job or a command"),
    })
}

/// What requests run on; prints why there is none.
fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Runtime::new().map_err(|error| {
        terminal::error(&error);
        ExitCode::Unexpected
    })
}

fn exit(code: ExitCode) -> std::process::ExitCode {
    code.code().into()
}

fn start_log() {
    let wanted = std::env::var("RUNNER_LOG").unwrap_or_default();
    if wanted.trim().is_empty() {
        return;
    }
    // What the HTTP client says of itself would bury the rest; a filter may ask for it by name.
    match tracing_subscriber::EnvFilter::try_new(format!("warn,runner={wanted}"))
        .or_else(|_| tracing_subscriber::EnvFilter::try_new(&wanted))
    {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(terminal::stderr_is_colorful())
            .with_writer(std::io::stderr)
            .init(),
        Err(error) => terminal::err(&format!("warning: RUNNER_LOG is not obeyed: {error}")),
    }
}
