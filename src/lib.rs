//! A declarative batch job runner for language models.
//!
//! A YAML job says what to ask for each row of a CSV file, whom to ask, whom to ask next and how fast.
//! The `runner` command runs it; this library is all of the command but its printing. Use it to run
//! a job with backends of your own, or to ask one worker directly.
//!
//! # Run a job
//!
//! [`Runner::load`] reads the job and its inputs and finds every problem before anything is sent;
//! [`Runner::run`] runs it to its end, tells of every [`Event`](words::Event), and returns a [`Summary`];
//! [`Runner::with_on_attempt`] makes it tell of every single request as well.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use tokio_prompt_orchestrator::{ModelWorker, Options, OrchestratorError, Runner, Stop};
//!
//! /// Answers in capitals.
//! struct Shouter;
//!
//! #[async_trait]
//! impl ModelWorker for Shouter {
//!     async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
//!         Ok(prompt.split_whitespace().map(str::to_uppercase).collect())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let job = dir.path().join("greetings.yaml");
//! std::fs::write(dir.path().join("greetings.csv"), "text\nhello\ngood morning\n")?;
//! std::fs::write(&job, "
//! inputs: greetings.csv
//! prompt: '{{ text }}'
//! backends:
//!   mine: { type: custom }
//! ")?;
//!
//! let options = Options { out: Some(dir.path().join("out")), ..Options::default() };
//! let summary = Runner::load(&job, &options)?
//!     .with_worker("mine", Arc::new(Shouter))
//!     .run(Stop::new(), |_event| {})
//!     .await?;
//!
//! assert_eq!(summary.exit_code.code(), 0);
//! let results = std::fs::read_to_string(dir.path().join("out/results.csv"))?;
//! assert!(results.contains("good morning,GOOD MORNING,answered,mine,"));
//! # Ok(())
//! # }
//! ```
//!
//! # Ask a worker
//!
//! A worker sends one request per call and never retries: retries, limits and fallbacks are the
//! dispatcher's. [`ModelWorker::infer`] takes a plain prompt; [`ModelWorker::complete`] takes messages
//! and says why the model stopped and what was used.
//!
//! ```
//! use tokio_prompt_orchestrator::words::Request;
//! use tokio_prompt_orchestrator::{EchoWorker, ModelWorker, OrchestratorError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), OrchestratorError> {
//! let worker = EchoWorker::with_delay(1);
//! assert_eq!(worker.infer("hello world").await?, ["hello", "world"]);
//!
//! let completion = worker.complete(&Request::user("hello").with_system("Be kind.")).await?;
//! assert_eq!(completion.text, "hello");
//! assert_eq!(completion.usage.unwrap().input_tokens, Some(3));
//! # Ok(())
//! # }
//! ```
//!
//! # Look at a run
//!
//! [`status`] tells how far a job is, also while another process runs it; [`export`] writes its results and
//! reports again from its store; [`diff`] compares two runs, [`noise`] several that should be alike, and [`baseline`] keeps the
//! scores of one for later runs; [`report`] makes its report again, also by other prices; [`verify`] recomputes everything and tells what does not agree.
//!
//! # Look ahead
//!
//! [`Runner::forecast`] tells what a run would ask, take and cost, and sends no prompt; [`Runner::explain`] tells what the job says and
//! what it leaves to defaults, and what its first request is; [`Runner::probe`] asks each backend for one row. [`starter`] writes a
//! first job for an input, [`job::schema`] what a job file may hold.
//!
//! # The layers
//!
//! Imports point down only, and siblings do not meet; `tests/layers.rs` checks it.
//!
//! | layer | module | what it does |
//! |---|---|---|
//! | 5 | `cli`, in the binary | one file a subcommand; the only place that prints |
//! | 4 | `engine` | rows in, bounded fan-out, one store writer, drain on stop |
//! | 3 | `dispatch`, `score` | limits, retries, fallback, the health of each backend; how good the answers are |
//! | 2 | `input`, [`worker`], `store`, [`output`] | CSV; the providers' protocols; `run.db`; results and reports |
//! | 1 | [`job`], `template`, `answer` | YAML as written → [`job::Plan`] as run, or every problem; prompts over cells; whether a text is an answer |
//! | 0 | [`words`] | plain data, no I/O |
//!
//! # The path of a row
//!
//! `Row → Request → Attempt+ → Outcome → stored → result line`. `FanOut::run` in `engine/fan_out.rs` is the
//! loop that moves rows along it; `Asking::ask`, beside it, is the way of one row. The arrows:
//!
//! | from | to | function | file |
//! |---|---|---|---|
//! | file | [`Row`](words::Row) | `Inputs::rows` | `input/mod.rs` |
//! | `Row` | known, or new | `Register::row` | `store/sqlite/register.rs` |
//! | stored rows | [`Due`](words::Due) | `Reader::due` | `store/sqlite/read.rs` |
//! | `Due` | [`Request`](words::Request) | `render` | `engine/fan_out.rs` |
//! | `Request` | [`Attempt`](words::Attempt) | `Lane::send`, which calls [`ModelWorker::complete`] | `dispatch/lane.rs` |
//! | a failed `Attempt` | what to do next | `Tries::after` | `dispatch/tries.rs` |
//! | `Attempt`s | [`Outcome`](words::Outcome) | `Dispatcher::call` | `dispatch/mod.rs` |
//! | intents, ends, `Outcome` | stored | `Database::write` | `store/sqlite/write.rs` |
//! | answers | what is asked about them | `FollowUps::about`, read by `read_round` | `engine/follow_up.rs` |
//! | stored | what it is worth | `Marker::marks` | `engine/marks.rs` |
//! | stored | result line | `Lines::for_each_row` into [`output::Publication::add`] | `store/mod.rs`, `output/publication.rs` |
//!
//! The job file, the files that a run writes and the exit codes are described in `docs/reference.md`.

mod answer;
mod dispatch;
mod engine;
mod input;
pub mod job;
pub mod output;
#[doc(hidden)]
pub mod parts;
mod score;
mod store;
mod template;
pub mod words;
pub mod worker;

pub use dispatch::{Interrupt, Stop};
pub use engine::{
    BackendForecast, BaselineError, Because, Check, CostRange, Counted, Difference, Ended,
    ExitCode, Explained, ExplainedBackend, Exported, Flip, FlipKind, Forecast, ForecastOptions,
    Gap, JobStatus, Missing, Noise, NoiseOf, Options, OutputFrom, Pace, Probe, ProbeEnd, Probed,
    Reported, RowSeen, RunError, RunSide, RunState, Runner, Starter, StarterError, StarterOptions,
    Summary, Unsendable, Verified, WrittenBaseline, baseline, diff, export, noise, price_list,
    prices, report, starter, status, verify,
};
pub use store::{BackendTally, RunLine, Tally};
pub use words::OrchestratorError;
pub use worker::{
    AnthropicWorker, EchoWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};

/// The documents' snippets compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/workers.md")]
    struct Workers;
}
