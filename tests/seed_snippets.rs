//! The Rust snippets of the seed document, word for word; only what they leave out is added: the
//! imports, and functions around statements.

#![allow(
    unused_imports,
    unused_variables,
    dead_code,
    reason = "the snippets stand as the seed wrote them"
)]

use std::time::Duration;

#[rustfmt::skip]
#[test]
fn echo_worker() {
    use tokio_prompt_orchestrator::{EchoWorker, ModelWorker};
    use std::sync::Arc;

    let worker: Arc<dyn ModelWorker> = Arc::new(
        EchoWorker::with_delay(10) // 10ms simulated latency
    );
}

#[rustfmt::skip]
#[test]
fn openai_worker() {
    use tokio_prompt_orchestrator::OpenAiWorker;
    use std::sync::Arc;

    let worker = Arc::new(
        OpenAiWorker::new("gpt-3.5-turbo-instruct")
            .with_max_tokens(512)
            .with_temperature(0.7)
            .with_timeout(Duration::from_secs(30))
    );
}

#[rustfmt::skip]
#[test]
fn anthropic_worker() {
    use tokio_prompt_orchestrator::AnthropicWorker;
    use std::sync::Arc;

    let worker = Arc::new(
        AnthropicWorker::new("claude-3-5-sonnet-20241022")
            .with_max_tokens(1024)
            .with_temperature(1.0)
            .with_timeout(Duration::from_secs(60))
    );
}

#[rustfmt::skip]
#[test]
fn llama_cpp_worker() {
    use tokio_prompt_orchestrator::LlamaCppWorker;
    use std::sync::Arc;

    let worker = Arc::new(
        LlamaCppWorker::new()
            .with_url("http://localhost:8080")
            .with_max_tokens(256)
            .with_temperature(0.8)
    );
}

#[rustfmt::skip]
#[test]
fn vllm_worker() {
    use tokio_prompt_orchestrator::VllmWorker;
    use std::sync::Arc;

    let worker = Arc::new(
        VllmWorker::new()
            .with_url("http://localhost:8000")
            .with_max_tokens(512)
            .with_temperature(0.7)
            .with_top_p(0.95)
    );
}

#[rustfmt::skip]
#[test]
fn choosing_a_worker() {
    use std::sync::Arc;
    use tokio_prompt_orchestrator::{AnthropicWorker, EchoWorker, OpenAiWorker, VllmWorker};

    // Quick testing
    let worker = Arc::new(EchoWorker::new());

    // API prototyping
    let worker = Arc::new(OpenAiWorker::new("gpt-3.5-turbo-instruct"));

    // Cloud deployment (managed scaling)
    let worker = Arc::new(
        AnthropicWorker::new("claude-3-5-sonnet-20241022")
            .with_max_tokens(2048)
    );

    // On-premise (privacy, control)
    let worker = Arc::new(
        VllmWorker::new()
            .with_url("http://vllm-cluster:8000")
            .with_max_tokens(1024)
    );
}

#[rustfmt::skip]
mod worker_pool {
    use std::sync::Arc;
    use tokio_prompt_orchestrator::{ModelWorker, OpenAiWorker, AnthropicWorker};

    // Route by session or priority
    fn select_worker(session: &str) -> Arc<dyn ModelWorker> {
        if session.starts_with("premium-") {
            Arc::new(AnthropicWorker::new("claude-3-opus-20240229"))
        } else {
            Arc::new(OpenAiWorker::new("gpt-3.5-turbo-instruct"))
        }
    }

    #[test]
    fn selects() {
        select_worker("premium-1");
        select_worker("1");
    }
}

#[rustfmt::skip]
mod fallback_chain {
    use std::sync::Arc;

    // The seed's `Error::msg` is anyhow's.
    use anyhow::Error;
    use tokio_prompt_orchestrator::{ModelWorker, OpenAiWorker, VllmWorker};

    async fn infer_with_fallback(prompt: &str) -> Result<Vec<String>, Error> {
        let workers: Vec<Arc<dyn ModelWorker>> = vec![
            Arc::new(VllmWorker::new()), // Try local first
            Arc::new(OpenAiWorker::new("gpt-3.5-turbo-instruct")), // Fallback to API
        ];
        
        for worker in workers {
            match worker.infer(prompt).await {
                Ok(tokens) => return Ok(tokens),
                Err(e) => tracing::warn!("Worker failed: {}", e),
            }
        }
        
        Err(Error::msg("All workers failed"))
    }
}

#[rustfmt::skip]
mod custom_worker {
    use async_trait::async_trait;
    use tokio_prompt_orchestrator::{ModelWorker, OrchestratorError};

    struct MyCustomWorker {
        endpoint: String,
    }

    #[async_trait]
    impl ModelWorker for MyCustomWorker {
        async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
            // Your custom inference logic
            let response = reqwest::get(&format!("{}/generate?prompt={}", self.endpoint, prompt))
                .await
                .map_err(|e| OrchestratorError::Inference(e.to_string()))?;
            
            let text: String = response.text().await
                .map_err(|e| OrchestratorError::Inference(e.to_string()))?;
            
            Ok(text.split_whitespace().map(String::from).collect())
        }
    }

    #[tokio::test]
    async fn a_worker_that_only_infers_can_complete() {
        let worker = MyCustomWorker { endpoint: "http://127.0.0.1:1".to_owned() };
        let request = tokio_prompt_orchestrator::words::Request::user("x");
        let error = worker.complete(&request).await.unwrap_err();
        assert!(error.to_string().starts_with("inference failed: "), "{error}");
    }
}
