//! Tries a local vLLM server first and OpenAI when that fails.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::sync::Arc;

use tokio_prompt_orchestrator::{ModelWorker, OpenAiWorker, OrchestratorError, VllmWorker};

async fn infer_with_fallback(prompt: &str) -> Result<Vec<String>, OrchestratorError> {
    let workers: Vec<Arc<dyn ModelWorker>> = vec![
        Arc::new(VllmWorker::new()),
        Arc::new(OpenAiWorker::new("gpt-4o-mini").with_max_tokens(64)),
    ];
    let mut failure = OrchestratorError::Inference("no worker".to_owned());
    for worker in workers {
        match worker.infer(prompt).await {
            Ok(tokens) => return Ok(tokens),
            Err(error) => {
                eprintln!("worker failed: {error}");
                failure = error;
            }
        }
    }
    Err(failure)
}

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    if std::env::var_os("OPENAI_API_KEY").is_none() {
        eprintln!(
            "this example falls back to OpenAI: set OPENAI_API_KEY (and VLLM_URL for the server that is tried first)"
        );
        return Ok(ExitCode::from(2));
    }
    let tokens = infer_with_fallback("What is a monad?").await?;
    println!("{}", tokens.join(" "));
    Ok(ExitCode::SUCCESS)
}
