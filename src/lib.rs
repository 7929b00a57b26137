//! A declarative batch job runner for language models.

pub mod job;
mod template;
pub mod words;
pub mod worker;

pub use words::OrchestratorError;
pub use worker::{
    AnthropicWorker, EchoWorker, LlamaCppWorker, ModelWorker, OpenAiWorker, VllmWorker,
};
