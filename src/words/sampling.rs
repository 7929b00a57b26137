//! How a model is asked to sample, the defaults of each worker, and who refuses what.

use super::Provider;

/// The sampling parameters of a backend. `None` is not sent: the server's own default holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The most tokens of output. Always sent: providers' own defaults are 16 or unlimited.
    pub max_tokens: u32,
    /// Randomness; 0 is as deterministic as the server can be.
    pub temperature: Option<f64>,
    /// Nucleus sampling: the share of probability that is kept.
    pub top_p: Option<f64>,
    /// How many tokens are kept.
    pub top_k: Option<u32>,
    /// The least share of the best token's probability that is kept.
    pub min_p: Option<f64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The server's own seed.
    pub seed: Option<u64>,
    /// Penalty on tokens that occurred, by count.
    pub frequency_penalty: Option<f64>,
    /// Penalty on tokens that occurred at all.
    pub presence_penalty: Option<f64>,
    /// How much a reasoning model thinks (OpenAI): `minimal`, `low`, `medium`, `high`, …
    pub reasoning_effort: Option<String>,
}

impl Sampling {
    /// The defaults of this provider's worker (the seed document's table). A parameter that the
    /// model refuses is left out.
    pub fn defaults(provider: Provider, model: &str) -> Self {
        let (max_tokens, temperature, top_p) = match provider {
            Provider::OpenAi => (256, 0.7, None),
            Provider::Anthropic => (1024, 1.0, None),
            Provider::LlamaCpp => (256, 0.8, None),
            Provider::Vllm => (512, 0.7, Some(0.95)),
        };
        let refused = refuses_sampling(provider, model);
        Self {
            max_tokens,
            temperature: (!refused).then_some(temperature),
            top_p: top_p.filter(|_| !refused),
            top_k: None,
            min_p: None,
            stop: Vec::new(),
            seed: None,
            frequency_penalty: None,
            presence_penalty: None,
            reasoning_effort: None,
        }
    }
}

/// Whether this model answers 400 to `temperature`, `top_p` and their like.
///
/// OpenAI's reasoning models (o-series, gpt-5 and later, not their `chat` variants) and Anthropic's
/// models from Claude 4.7 on do. Sources: the providers' API references as of 2026-08.
pub fn refuses_sampling(provider: Provider, model: &str) -> bool {
    match provider {
        Provider::OpenAi => openai_reasons(model),
        Provider::Anthropic => claude_version(model).is_some_and(|version| version >= (4, 7)),
        Provider::LlamaCpp | Provider::Vllm => false,
    }
}

fn openai_reasons(model: &str) -> bool {
    let series = |letter: &str| {
        model
            .strip_prefix(letter)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let gpt = model
        .strip_prefix("gpt-")
        .and_then(|rest| rest.split(['.', '-']).next())
        .and_then(|major| major.parse::<u32>().ok());
    series("o") || (gpt.is_some_and(|major| major >= 5) && !model.contains("-chat"))
}

/// The version in a Claude model's name: `claude-opus-4-7-20260416` is (4, 7), `claude-sonnet-5` is
/// (5, 0), `claude-3-5-haiku-20241022` is (3, 5).
pub(super) fn claude_version(model: &str) -> Option<(u32, u32)> {
    let rest = model.strip_prefix("claude-")?;
    let mut numbers = rest
        .split(['-', '.', '@'])
        .skip_while(|part| part.parse::<u32>().is_err())
        .take_while(|part| part.len() <= 2)
        .map_while(|part| part.parse::<u32>().ok());
    let major = numbers.next()?;
    Some((major, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_refuses_sampling_parameters_is_known_by_its_name() {
        for (provider, model, refuses) in [
            (Provider::OpenAi, "gpt-4o-mini", false),
            (Provider::OpenAi, "gpt-4.1", false),
            (Provider::OpenAi, "gpt-3.5-turbo-instruct", false),
            (Provider::OpenAi, "omni-moderation", false),
            (Provider::OpenAi, "o3", true),
            (Provider::OpenAi, "o4-mini-2025-04-16", true),
            (Provider::OpenAi, "gpt-5-mini", true),
            (Provider::OpenAi, "gpt-5.4", true),
            (Provider::OpenAi, "gpt-5-chat-latest", false),
            (Provider::Anthropic, "claude-3-5-haiku-20241022", false),
            (Provider::Anthropic, "claude-opus-4-20250514", false),
            (Provider::Anthropic, "claude-opus-4-6", false),
            (Provider::Anthropic, "claude-opus-4-7-20260416", true),
            (Provider::Anthropic, "claude-sonnet-5", true),
            (Provider::Anthropic, "claude-fable-5", true),
            (Provider::Vllm, "gpt-5", false),
        ] {
            assert_eq!(refuses_sampling(provider, model), refuses, "{model}");
        }
    }
}
