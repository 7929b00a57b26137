//! The echo backend: no network, no key; scripted, seeded, deterministic.

use std::time::Duration;

use async_trait::async_trait;

use super::ModelWorker;
use crate::job::{EchoFailure, EchoScript, EchoUsage};
use crate::words::{
    CallError, Completion, ErrorClass, FinishReason, OrchestratorError, Request, Usage,
};

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

    /// The class this attempt fails with. The draw depends on the seed, the row, the attempt
    /// and the repeat alone, so a run gives the same failures however its rows are scheduled.
    fn failure(&self, request: &Request) -> Option<ErrorClass> {
        if self.script.failures.is_empty() {
            return None;
        }
        let row = match &request.row {
            Some(row) => row.index,
            None => hash(0, request.as_prompt().as_bytes()),
        };
        let mut drawn = hash(self.script.seed, &row.to_le_bytes());
        drawn = hash(drawn, &request.attempt.to_le_bytes());
        if request.repeat > 0 {
            drawn = hash(drawn, &request.repeat.to_le_bytes());
        }
        drawn %= 1_000_000;
        for EchoFailure { class, per_million } in &self.script.failures {
            let share = u64::from(*per_million);
            if drawn < share {
                return Some(*class);
            }
            drawn -= share;
        }
        None
    }

    fn answer(&self, request: &Request) -> Result<String, OrchestratorError> {
        self.script.answer(request).map_err(|error| {
            let message = format!("the reply of the echo backend cannot be rendered: {error}");
            CallError::new(ErrorClass::RowFatal, message).into()
        })
    }

    fn usage(&self, request: &Request, answer: &str) -> Usage {
        match self.script.usage {
            Some(EchoUsage {
                input_tokens,
                output_tokens,
            }) => Usage::new(input_tokens, output_tokens),
            None => {
                let words = |text: &str| text.split_whitespace().count() as u64;
                let input = request.messages.iter().map(|m| words(&m.content)).sum();
                Usage::new(input, words(answer))
            }
        }
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
        let class = self.failure(request);
        if let Some(class) = class.filter(|class| *class != ErrorClass::Flagged) {
            let message = format!("scripted failure of the echo backend ({})", class.as_str());
            return Err(CallError::new(class, message).into());
        }
        let mut completion = Completion::text(self.answer(request)?);
        completion.finish_reason = Some(match class {
            Some(_) => FinishReason::Length,
            None => FinishReason::Stop,
        });
        completion.usage = Some(self.usage(request, &completion.text));
        completion.model = Some(self.script.model.clone());
        Ok(completion)
    }
}

/// FNV-1a, finished with a multiply-shift so that close inputs give far results.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}
