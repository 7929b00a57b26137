//! A backend of your own: `CUSTOM_WORKER_URL=http://localhost:9000 cargo run --example custom_worker`.
//!
//! The server is asked with `GET /generate?prompt=…` and answers with plain text.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints"
)]

use std::process::ExitCode;

use async_trait::async_trait;
use tokio_prompt_orchestrator::{ModelWorker, OrchestratorError};

struct MyCustomWorker {
    endpoint: reqwest::Url,
}

#[async_trait]
impl ModelWorker for MyCustomWorker {
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        let failed = |error: reqwest::Error| OrchestratorError::Inference(error.to_string());
        let mut url = self.endpoint.clone();
        url.set_path("/generate");
        url.query_pairs_mut().append_pair("prompt", prompt);
        let response = reqwest::get(url).await.map_err(failed)?;
        let response = response.error_for_status().map_err(failed)?;
        let text = response.text().await.map_err(failed)?;
        Ok(text.split_whitespace().map(String::from).collect())
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, OrchestratorError> {
    let url = std::env::var("CUSTOM_WORKER_URL").unwrap_or_default();
    let Ok(endpoint) = url.parse() else {
        eprintln!(
            "this example asks a server of your own: set CUSTOM_WORKER_URL, as in http://localhost:9000"
        );
        return Ok(ExitCode::from(2));
    };
    let worker = MyCustomWorker { endpoint };
    let tokens = worker.infer("What is a monad?").await?;
    println!("{}", tokens.join(" "));
    Ok(ExitCode::SUCCESS)
}
