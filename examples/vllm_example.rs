//! Asks a vLLM server: `VLLM_URL=http://localhost:8000 cargo run --example vllm_example`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use tokio_prompt_orchestrator::{ModelWorker, OrchestratorError, VllmWorker};

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    if std::env::var_os("VLLM_URL").is_none() {
        eprintln!("this example asks a vLLM server: set VLLM_URL, as in http://localhost:8000");
        return Ok(ExitCode::from(2));
    }
    // Without a model of its own the worker asks for the one that the server serves.
    let worker = VllmWorker::new()
        .with_max_tokens(64)
        .with_temperature(0.7)
        .with_top_p(0.95)
        .with_timeout(Duration::from_secs(60));
    let tokens = worker.infer("What is a monad?").await?;
    println!("{}", tokens.join(" "));
    Ok(ExitCode::SUCCESS)
}
