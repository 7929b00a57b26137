//! Tokens of OpenAI's models, counted with the vocabularies that OpenAI publishes. They are loaded when something
//! is counted for the first time.

use super::Counted;
use crate::job::OpenAiApi;
use crate::words::Request;

/// Tokens that stand around each message of a chat, and in front of the answer, as OpenAI's cookbook counts them
/// (<https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>).
const PER_MESSAGE: u64 = 3;
const PER_ANSWER: u64 = 3;
/// The longest text that is split into words in one go. Of a longer one of nothing but white space the splitting panics.
const PIECE: usize = 16 * 1024;

/// Counts the tokens of texts.
pub(super) struct Vocabulary {
    /// How the tokens are counted, for people.
    pub(super) counted: Counted,
    count: fn(&str) -> usize,
}

impl Vocabulary {
    /// Whether it is known to be the model's own.
    pub(super) fn is_the_models(&self) -> bool {
        matches!(
            self.counted,
            Counted::Tokenizer {
                is_the_models: true,
                ..
            }
        )
    }

    /// The tokens of a request.
    pub(super) fn tokens(&self, api: OpenAiApi, request: &Request) -> u64 {
        if api == OpenAiApi::Completions {
            return self.of(&request.as_prompt());
        }
        let message = |role: &str, content: &str| PER_MESSAGE + self.of(role) + self.of(content);
        let messages = request.messages.iter();
        let messages = messages.map(|m| message(m.role.as_str(), &m.content));
        messages.sum::<u64>() + PER_ANSWER
    }

    fn of(&self, text: &str) -> u64 {
        let mut rest = text;
        let mut tokens = 0;
        while !rest.is_empty() {
            let mut end = rest.len().min(PIECE);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (piece, others) = rest.split_at(end);
            tokens += (self.count)(piece) as u64;
            rest = others;
        }
        tokens
    }
}

/// The vocabulary of a model; of one that nobody knows, that of today's models. `None` where this program was built
/// without them.
#[cfg(feature = "tokenizer")]
pub(super) fn vocabulary(model: &str) -> Option<Vocabulary> {
    use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
    use tiktoken_rs::{cl100k_base_singleton, o200k_base_singleton, o200k_harmony_singleton};
    use tiktoken_rs::{p50k_base_singleton, p50k_edit_singleton, r50k_base_singleton};

    let known = get_tokenizer(model);
    let (name, count): (_, fn(&str) -> usize) = match known.unwrap_or(Tokenizer::O200kBase) {
        Tokenizer::O200kHarmony => ("o200k_harmony", |text| {
            o200k_harmony_singleton().encode_ordinary(text).len()
        }),
        Tokenizer::O200kBase => ("o200k_base", |text| {
            o200k_base_singleton().encode_ordinary(text).len()
        }),
        Tokenizer::Cl100kBase => ("cl100k_base", |text| {
            cl100k_base_singleton().encode_ordinary(text).len()
        }),
        Tokenizer::P50kBase => ("p50k_base", |text| {
            p50k_base_singleton().encode_ordinary(text).len()
        }),
        Tokenizer::P50kEdit => ("p50k_edit", |text| {
            p50k_edit_singleton().encode_ordinary(text).len()
        }),
        Tokenizer::R50kBase | Tokenizer::Gpt2 => ("r50k_base", |text| {
            r50k_base_singleton().encode_ordinary(text).len()
        }),
    };
    Some(Vocabulary {
        counted: Counted::Tokenizer {
            vocabulary: name,
            is_the_models: known.is_some(),
        },
        count,
    })
}

/// The vocabulary of a model: this program was built without any.
#[cfg(not(feature = "tokenizer"))]
pub(super) fn vocabulary(_model: &str) -> Option<Vocabulary> {
    None
}

#[cfg(all(test, feature = "tokenizer"))]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_that_openai_counts() {
        for (model, text, tokens) in [
            ("gpt-4o-mini", "hello world", 2),
            ("gpt-4", "hello world", 2),
            // From OpenAI's cookbook: the same words in two vocabularies.
            ("gpt-4", "antidisestablishmentarianism", 6),
            ("gpt-4o", "antidisestablishmentarianism", 6),
            ("gpt-4", "お誕生日おめでとう", 9),
            ("gpt-4o", "お誕生日おめでとう", 8),
            ("text-davinci-003", "お誕生日おめでとう", 14),
            // What looks like a control token in a prompt is text.
            ("gpt-4o", "<|endoftext|>", 7),
            ("gpt-4o", "", 0),
        ] {
            let vocabulary = vocabulary(model).unwrap();
            assert_eq!(vocabulary.of(text), tokens, "{model}: {text}");
        }
    }

    #[test]
    fn a_chat_takes_some_tokens_more_than_its_texts() {
        // The cookbook's example of a chat, and what the API counted.
        let messages = [
            (
                "system",
                "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
            ),
            (
                "user",
                "This late pivot means we don't have time to boil the ocean for the client deliverable.",
            ),
        ];
        let request = Request::user(messages[1].1).with_system(messages[0].1);
        let vocabulary = vocabulary("gpt-4").unwrap();
        let texts = vocabulary.of(messages[0].1) + vocabulary.of(messages[1].1);
        assert_eq!(
            vocabulary.tokens(OpenAiApi::Chat, &request),
            texts + 2 * 4 + 3
        );
        let plain = vocabulary.tokens(OpenAiApi::Completions, &request);
        assert!(plain <= texts + 1, "{plain} {texts}");
    }

    #[test]
    fn no_text_is_too_odd_to_be_counted() {
        let vocabulary = vocabulary("gpt-4o").unwrap();
        let short = ["\n", "a", "é", "🦀", "\u{0}", " \n", "a "].map(|text| (text, 50_000));
        for (text, times) in short.into_iter().chain([(" ", 4_000_000)]) {
            let long = text.repeat(times);
            let tokens = vocabulary.of(&long);
            assert!(
                (1..=long.len() as u64).contains(&tokens),
                "{text:?}: {tokens}"
            );
        }
    }

    #[test]
    fn a_model_that_nobody_knows_is_counted_as_those_of_today() {
        let counted = |model| vocabulary(model).unwrap().counted.to_string();
        assert_eq!(counted("gpt-4o-2024-08-06"), "tiktoken o200k_base");
        assert_eq!(counted("gpt-3.5-turbo"), "tiktoken cl100k_base");
        assert_eq!(counted("ft:gpt-4o:me::1"), "tiktoken o200k_base");
        assert_eq!(
            counted("my-model"),
            "tiktoken o200k_base, for want of the model's own"
        );
    }
}
