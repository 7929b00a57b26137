//! Asks OpenAI one question: `OPENAI_API_KEY=… cargo run --example openai_example`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use tokio_prompt_orchestrator::words::Request;
use tokio_prompt_orchestrator::{ModelWorker, OpenAiWorker, OrchestratorError};

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    if std::env::var_os("OPENAI_API_KEY").is_none() {
        eprintln!(
            "this example asks OpenAI: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server)"
        );
        return Ok(ExitCode::from(2));
    }
    let worker = OpenAiWorker::new("gpt-4o-mini")
        .with_max_tokens(64)
        .with_temperature(0.7)
        .with_timeout(Duration::from_secs(30));
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
