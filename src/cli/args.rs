//! The arguments: every command, its options and their help.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use tokio_prompt_orchestrator::job::{NO_PARQUET, OutputFormat};

use super::reader::Reader;

/// Runs batch jobs on language models: a YAML job in, results and a cost report out.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: Option<RunArgs>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every row answered (but for max_failures)
  1    unexpected error
  2    wrong usage, or a problem in the job file or its inputs
  3    more rows than max_failures ended without an answer
  4    the budget had no room for some rows, or more than max_waste was wasted
  5    every backend is exhausted or down
  6    the output directory failed, or what it holds does not agree
  7    the gate of the job is not met
  75   another runner holds the output directory
  130  interrupted (143: terminated); what was answered is in the results

RUNNER_LOG=info (or debug) writes what happens to stderr, or to the file in RUNNER_LOG_FILE.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first job for a CSV file, with everything that can be found out filled in
    Init(InitArgs),
    /// Find every problem of a job, or of several; send nothing
    Check(CheckArgs),
    /// Print a job as it is run: every value and where it is from, and its first request; send nothing
    Explain(ExplainArgs),
    /// Tell what a run would ask, take and cost; send no prompt, write nothing
    Plan(PlanArgs),
    /// Ask each backend of a job for the first row, once: who answers, how fast, at what price; write nothing
    Probe(ProbeArgs),
    /// List the prices that apply to the backends of a job, or every price that is known
    Prices(PricesArgs),
    /// Tell how far a job is: one that runs, one that was killed, one that has ended
    Status(StatusArgs),
    /// Print the report of a run again, from run.db alone; with --prices, by other prices
    Report(ReportArgs),
    /// Write results and reports again, from run.db alone
    Export(ExportArgs),
    /// Compare two runs: which rows flipped, what that comes to, and how sure it is
    Diff(DiffArgs),
    /// Tell how much runs differ that should be alike: the noise that a gate has to live with
    Aa(AaArgs),
    /// Write the scores of a run to a small file that later runs are compared with (`gate.baseline`)
    Baseline(BaselineArgs),
    /// Recompute every total and every published file from run.db, and tell what does not agree
    Verify(VerifyArgs),
    /// Print the JSON Schema of the job file, by which editors complete and check it
    Schema,
    /// Print the completions of a shell: `runner completions bash > ~/.local/share/bash-completion/completions/runner`
    Completions(CompletionsArgs),
    /// Print the manual page of this program, or write one for each command to a folder
    Man(ManArgs),
}

impl Cli {
    /// Every command and option, for those who describe them.
    pub fn whole() -> clap::Command {
        let mut whole = <Self as clap::CommandFactory>::command();
        whole.build();
        whole
    }
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The input; without one, the only CSV, TSV or JSONL file here, or an example that is written
    #[arg(value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Write this job file [default: named after the input]
    #[arg(long, value_name = "JOB")]
    pub to: Option<PathBuf>,
    /// Replace a job file that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages to this folder: runner.1, runner-check.1, …
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The job file
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB")]
    pub job: PathBuf,
    /// Override a key of the job file, for example retry.attempts=5 (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Explain a run that writes to this directory
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// Print also what each backend would be sent for the first row
    #[arg(long)]
    pub request: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The job file
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB")]
    pub job: PathBuf,
    /// Override a key of the job file, for example backends.gpt.model=gpt-4o (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// Ask only this backend, whether the job's order names it or not (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub backend: Vec<String>,
    /// Ask also the backends that the job's order does not name
    #[arg(long, conflicts_with = "backend")]
    pub all: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PricesArgs {
    /// The job file; without one, every price that is known is listed
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB")]
    pub job: Option<PathBuf>,
    /// Override a key of the job file, for example backends.gpt.model=gpt-4o (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", requires = "job")]
    pub set: Vec<String>,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// List only the prices of this model, or of these: gpt-4o-mini, 'claude-*'
    #[arg(long, value_name = "GLOB", conflicts_with = "job")]
    pub model: Option<glob::Pattern>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Print a file of prices, to be changed and given to --prices
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The output directory of a job
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The output directory of a job
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: PathBuf,
    /// Price every request anew by this file, from its stored usage (can be repeated); nothing is written
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// As on the terminal, as in report.md, or as in report.json
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
}

/// A form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    #[value(alias = "markdown")]
    Md,
    Json,
}

impl ReportFormat {
    /// Who wants it.
    pub fn reader(self) -> Reader {
        match self {
            ReportFormat::Json => Reader::Program,
            ReportFormat::Text | ReportFormat::Md => Reader::Person,
        }
    }
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The output directory of a job
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: PathBuf,
    /// Write these results files, instead of those that the job names: csv, jsonl, parquet
    #[arg(long, value_name = "FORMAT,...", value_delimiter = ',', value_parser = format)]
    pub formats: Option<Vec<OutputFormat>>,
    /// Print these results, too; what else is to say goes to stderr
    #[arg(long, value_name = "FORMAT", value_parser = printed())]
    pub stdout: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The output directory of the earlier run
    #[arg(value_hint = ValueHint::DirPath, value_name = "BEFORE")]
    pub before: PathBuf,
    /// The output directory of the later run
    #[arg(value_hint = ValueHint::DirPath, value_name = "AFTER")]
    pub after: PathBuf,
    /// As on the terminal, as Markdown for a pull request, or as JSON for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// List at most so many rows that flipped
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct AaArgs {
    /// The output directories of runs of the same job
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR", num_args = 2.., required = true)]
    pub dirs: Vec<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BaselineArgs {
    /// The output directory of a job with `score`
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: PathBuf,
    /// Write to this file; without it the file is printed
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The output directory of a job
    #[arg(value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub dir: PathBuf,
}

fn format(name: &str) -> Result<OutputFormat, String> {
    let names = OutputFormat::ALL.map(OutputFormat::as_str).join(" or ");
    match OutputFormat::from_name(name) {
        Some(OutputFormat::Parquet) if cfg!(not(feature = "parquet")) => {
            Err(format!("this runner cannot write Parquet; {NO_PARQUET}"))
        }
        Some(format) => Ok(format),
        None => Err(format!("expected {names}")),
    }
}

/// The forms of the results that are text.
fn printed() -> impl TypedValueParser<Value = OutputFormat> {
    let texts = [OutputFormat::Csv, OutputFormat::Jsonl];
    PossibleValuesParser::new(texts.map(OutputFormat::as_str))
        .map(|name| OutputFormat::from_name(&name).expect("it is one of them"))
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The job file, or several of them
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB", required = true)]
    pub jobs: Vec<PathBuf>,
    /// Override a key of the job file, for example retry.attempts=5 (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Check for a run that writes to this directory
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// Check a run of only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Refuse inputs without a row, instead of doing nothing
    #[arg(long)]
    pub require_rows: bool,
    /// Check for a run that sends nothing: no key has to be set
    #[arg(long)]
    pub offline: bool,
}

/// What [`CheckArgs`] holds, and how tokens are counted.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job file
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB")]
    pub job: PathBuf,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// Override a key of the job file, for example retry.attempts=5 (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Plan a run that writes to this directory: what is answered there is not asked
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Plan a run of only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Plan a run that looks for no answers in the job's cache
    #[arg(long)]
    pub no_cache: bool,
    /// Who counts input tokens: this program, or the servers that do it for nothing (needs their keys)
    #[arg(long, value_name = "WHERE", default_value = "local", value_parser = ["local", "remote"])]
    pub count: String,
    /// Count so many requests of each backend, and take the others to be like them [default: 5000, remote 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Expect answers of so many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub output_tokens: Option<u64>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// What [`CheckArgs`] holds, and more (clap cannot tell whether a nested group is there).
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file
    #[arg(value_hint = ValueHint::FilePath, value_name = "JOB")]
    pub job: PathBuf,
    /// Override a key of the job file, for example retry.attempts=5 (can be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Write to this directory instead of the job's
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Take prices from this file first (can be repeated)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub prices: Vec<PathBuf>,
    /// Run only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Start anew: ask every row, whatever was answered before (which is kept as run.db.previous)
    #[arg(long, conflicts_with_all = ["frozen", "offline"])]
    pub fresh: bool,
    /// Refuse to run if the job or its input is not what was run here before
    #[arg(long)]
    pub frozen: bool,
    /// Send nothing: answer only from what was stored before, and from the cache; needs no key
    #[arg(long)]
    pub offline: bool,
    /// Look for no answers in the job's cache; new ones are added to it all the same
    #[arg(long)]
    pub no_cache: bool,
    /// Refuse inputs without a row, instead of doing nothing
    #[arg(long)]
    pub require_rows: bool,
    /// Print the results, too, when they are in their files; what else is to say goes to stderr
    #[arg(long, value_name = "FORMAT", value_parser = printed())]
    pub stdout: Option<OutputFormat>,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Print what happens as lines of JSON, for programs
    #[arg(long, conflicts_with_all = ["quiet", "stdout"])]
    pub json: bool,
    /// Write what happens to this file, as RUNNER_LOG says (else `info`)
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Write what is asked and answered to the log, too
    #[arg(long)]
    pub log_content: bool,
}
