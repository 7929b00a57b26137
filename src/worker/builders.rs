//! What a program that uses the library sees of every worker with a server behind it.

use super::ModelWorker;
use super::text::clip;
use crate::words::{CallError, ErrorClass, FinishReason, OrchestratorError, Request};

/// A plain prompt's answer split at white space. What is no answer is an error.
pub(super) async fn infer(
    worker: &dyn ModelWorker,
    prompt: &str,
) -> Result<Vec<String>, OrchestratorError> {
    let completion = worker.complete(&Request::user(prompt)).await?;
    let flagged = |message: String| {
        let mut error = CallError::new(ErrorClass::Flagged, message);
        error.request_id = completion.request_id.clone();
        error.usage = completion.usage.map(Box::new);
        error.allowances = completion.allowances.clone();
        error
    };
    match (&completion.finish_reason, &completion.refusal) {
        (_, Some(words)) => Err(flagged(format!("the model declined: {}", clip(words))).into()),
        (Some(FinishReason::Refusal), None) => Err(flagged("the model declined".to_owned()).into()),
        (Some(FinishReason::ContentFilter), None) if completion.text.is_empty() => {
            Err(flagged("the provider's filter took the answer".to_owned()).into())
        }
        _ => Ok(completion
            .text
            .split_whitespace()
            .map(String::from)
            .collect()),
    }
}

/// The number as a person wrote it: 0.7, not the 0.699999988… that an `f32` holds.
pub(super) fn as_written(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

/// The builder methods that every worker with a server behind it has. A worker whose server says how
/// busy it is, or counts tokens for nothing, names the method that asks it:
/// `remote_builders!(Worker, load: method, count: method)`.
macro_rules! remote_builders {
    ($worker:ty $(, load: $load:ident)? $(, count: $count:ident)?) => {
        impl $worker {
            /// Asks the server at this address.
            pub fn with_url(mut self, url: impl Into<String>) -> Self {
                self.remote.server.url = url.into();
                self
            }

            /// Asks for this model.
            pub fn with_model(mut self, model: impl Into<String>) -> Self {
                self.remote.server.model = Some(model.into());
                self
            }

            /// Sends this key, and only to the worker's own address.
            pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
                self.remote.key = crate::worker::key::Key::given(key.into());
                self
            }

            /// Sends the key that the environment variable of this name holds.
            pub fn with_api_key_env(mut self, name: impl Into<String>) -> Self {
                self.remote.key = crate::worker::key::Key::env(name);
                self
            }

            /// Samples at this temperature.
            pub fn with_temperature(mut self, temperature: f32) -> Self {
                let temperature = crate::worker::builders::as_written(temperature);
                self.remote.server.sampling.temperature = Some(temperature);
                self
            }

            /// Samples from this share of the probability.
            pub fn with_top_p(mut self, top_p: f32) -> Self {
                let top_p = crate::worker::builders::as_written(top_p);
                self.remote.server.sampling.top_p = Some(top_p);
                self
            }

            /// Samples with these parameters and no others.
            pub fn with_sampling(mut self, sampling: crate::words::Sampling) -> Self {
                self.remote.server.sampling = sampling;
                self
            }

            /// Gives up on a reply that is not complete after this time.
            pub fn with_timeout(mut self, timeout: std::time::Duration) -> Self {
                self.remote.server.timeout = timeout;
                self
            }

            /// Gives up on a reply that has begun and then says nothing for this time.
            pub fn with_idle_timeout(mut self, idle_timeout: std::time::Duration) -> Self {
                self.remote.server.idle_timeout = idle_timeout;
                self
            }

            /// Asks for the answer as a stream, where the endpoint has them: a dead server shows sooner, and
            /// nothing in between takes a long answer for a dead connection. The completion is the same.
            pub fn with_stream(mut self, stream: bool) -> Self {
                self.remote.server.stream = stream;
                self
            }
        }

        #[async_trait::async_trait]
        impl crate::worker::ModelWorker for $worker {
            async fn infer(
                &self,
                prompt: &str,
            ) -> Result<Vec<String>, crate::words::OrchestratorError> {
                crate::worker::builders::infer(self, prompt).await
            }

            async fn complete(
                &self,
                request: &crate::words::Request,
            ) -> Result<crate::words::Completion, crate::words::OrchestratorError> {
                Ok(self.answer(request).await?)
            }
            $(
                async fn load(&self) -> Option<crate::words::Load> {
                    self.$load().await
                }
            )?
            $(
                async fn count_tokens(
                    &self,
                    request: &crate::words::Request,
                ) -> Option<Result<u64, crate::words::OrchestratorError>> {
                    let counted = self.$count(request).await?;
                    Some(counted.map_err(crate::words::OrchestratorError::from))
                }
            )?
        }
    };
}
pub(super) use remote_builders;
