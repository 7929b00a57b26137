//! Asks a llama.cpp server: `LLAMA_CPP_URL=http://localhost:8080 cargo run --example llama_cpp_example`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use tokio_prompt_orchestrator::{LlamaCppWorker, ModelWorker, OrchestratorError};

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    if std::env::var_os("LLAMA_CPP_URL").is_none() {
        eprintln!(
            "this example asks a llama.cpp server: set LLAMA_CPP_URL, as in http://localhost:8080"
        );
        return Ok(ExitCode::from(2));
    }
    let worker = LlamaCppWorker::new()
        .with_max_tokens(64)
        .with_temperature(0.8)
        .with_timeout(Duration::from_secs(120));
    let tokens = worker.infer("What is a monad?").await?;
    println!("{}", tokens.join(" "));
    Ok(ExitCode::SUCCESS)
}
