//! Chooses the worker by the session: premium ones go to Anthropic, the others to OpenAI.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::sync::Arc;

use tokio_prompt_orchestrator::{AnthropicWorker, ModelWorker, OpenAiWorker, OrchestratorError};

fn select_worker(session: &str) -> Arc<dyn ModelWorker> {
    if session.starts_with("premium-") {
        Arc::new(AnthropicWorker::new("claude-3-5-haiku-20241022").with_max_tokens(64))
    } else {
        Arc::new(OpenAiWorker::new("gpt-4o-mini").with_max_tokens(64))
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    let missing = |name| std::env::var_os(name).is_none();
    if missing("OPENAI_API_KEY") || missing("ANTHROPIC_API_KEY") {
        eprintln!(
            "this example asks OpenAI and Anthropic: set OPENAI_API_KEY and ANTHROPIC_API_KEY"
        );
        return Ok(ExitCode::from(2));
    }
    for session in ["premium-1", "free-1"] {
        let tokens = select_worker(session).infer("What is a monad?").await?;
        println!("{session}: {}", tokens.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
