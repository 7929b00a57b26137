//! The echo backend: no network, no key; scripted, seeded, deterministic.

use std::time::Duration;

use async_trait::async_trait;

use super::ModelWorker;
use crate::job::EchoScript;
use crate::words::{CallError, Completion, ErrorClass, FinishReason, OrchestratorError, Request};

/// Answers every prompt by itself: with the prompt, or with what its script says.
#[derive(Debug, Clone)]
pub struct EchoWorker {
    script: EchoScript,
}

impl EchoWorker {
    /// Gives the prompt back after 10 ms.
    pub fn new() -> Self {
        Self::with_delay(10)
    }

    /// Gives the prompt back after this many milliseconds.
    pub fn with_delay(milliseconds: u64) -> Self {
        Self::scripted(EchoScript {
            delay: Duration::from_millis(milliseconds),
            reply: None,
            usage: None,
            model: "echo".to_owned(),
            failures: Vec::new(),
            seed: 0,
        })
    }

    /// Does what the script says.
    pub fn scripted(script: EchoScript) -> Self {
        Self { script }
    }

    fn answer(&self, request: &Request) -> Result<String, OrchestratorError> {
        self.script.answer(request).map_err(|error| {
            let message = format!("the reply of the echo backend cannot be rendered: {error}");
            CallError::new(ErrorClass::RowFatal, message).into()
        })
    }
}

impl Default for EchoWorker {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ModelWorker for EchoWorker {
    async fn infer(&self, prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        let completion = self.complete(&Request::user(prompt)).await?;
        Ok(completion
            .text
            .split_whitespace()
            .map(String::from)
            .collect())
    }

    async fn complete(&self, request: &Request) -> Result<Completion, OrchestratorError> {
        if !self.script.delay.is_zero() {
            tokio::time::sleep(self.script.delay).await;
        }
        let class = self.script.failure(request);
        if let Some(class) = class.filter(|class| *class != ErrorClass::Flagged) {
            let message = format!("scripted failure of the echo backend ({})", class.as_str());
            return Err(CallError::new(class, message).into());
        }
        let mut completion = Completion::text(self.answer(request)?);
        completion.finish_reason = Some(match class {
            Some(_) => FinishReason::Length,
            None => FinishReason::Stop,
        });
        completion.usage = Some(self.script.used(request, &completion.text));
        completion.model = Some(self.script.model.clone());
        Ok(completion)
    }
}
