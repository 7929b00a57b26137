//! Asks Anthropic one question: `ANTHROPIC_API_KEY=… cargo run --example anthropic_example`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use tokio_prompt_orchestrator::words::Request;
use tokio_prompt_orchestrator::{AnthropicWorker, ModelWorker, OrchestratorError};

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    if std::env::var_os("ANTHROPIC_API_KEY").is_none() {
        eprintln!(
            "this example asks Anthropic: set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL for another server)"
        );
        return Ok(ExitCode::from(2));
    }
    let worker = AnthropicWorker::new("claude-3-5-haiku-20241022")
        .with_max_tokens(64)
        .with_temperature(1.0)
        .with_timeout(Duration::from_secs(60));
    let question = Request::user("What is a monad?").with_system("Answer in one sentence.");
    let completion = worker.complete(&question).await?;
    println!("{}", completion.text);
    if let Some(usage) = completion.usage {
        eprintln!(
            "tokens: {:?} in, {:?} out",
            usage.input_tokens, usage.output_tokens
        );
    }
    Ok(ExitCode::SUCCESS)
}
