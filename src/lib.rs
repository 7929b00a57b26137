//! A declarative batch job runner for language models.

mod dispatch;
mod engine;
mod input;
pub mod job;
pub mod output;
mod store;
mod template;
pub mod words;
pub mod worker;

pub use dispatch::{Interrupt, Stop};
pub use engine::{Ended, ExitCode, Options, RunError, Runner, Summary};
pub use words::OrchestratorError;
pub use worker::{
    AnthropicWorker, EchoWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};
