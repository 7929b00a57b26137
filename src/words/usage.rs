//! What a request used, in disjoint classes.

use serde::{Deserialize, Serialize};

/// Token counts in OpenTelemetry's names. A class the provider did not report is `None`, never 0.
///
/// `input_tokens` is *all* input, cached tokens included, and `output_tokens` all output, reasoning
/// included, whatever the provider's own convention; the other counts are parts of those two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input_tokens: Option<u64>,
    /// All output tokens, reasoning included.
    pub output_tokens: Option<u64>,
    /// Of the input: read from the provider's prompt cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_input_tokens: Option<u64>,
    /// Of the input: written to the prompt cache, short lifetime (Anthropic: 5 minutes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_5m_input_tokens: Option<u64>,
    /// Of the input: written to the prompt cache for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_input_tokens: Option<u64>,
    /// Of the output: thinking that is not part of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_output_tokens: Option<u64>,
    /// Of the input: audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input_tokens: Option<u64>,
    /// Of the output: audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output_tokens: Option<u64>,
    /// Of the input: images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input_tokens: Option<u64>,
    /// Tokens in the provider's own total that are in none of its classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unclassified_tokens: Option<u64>,
    /// Microseconds of the server's time: this request's share, where a server is paid by the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_time_us: Option<u64>,
    /// Whether the counts contradict each other or what was asked for. The dearer reading is charged.
    #[serde(skip_serializing_if = "is_false")]
    pub inconsistent: bool,
}

/// The classes of a request's tokens. No token is in two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) input: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write_5m: u64,
    pub(super) cache_write_1h: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
    pub(super) unclassified: u64,
}

impl Usage {
    /// Usage with only the two totals known.
    pub fn new(input_tokens: u64, output_tokens: u64) -> Self {
        Self {
            input_tokens: Some(input_tokens),
            output_tokens: Some(output_tokens),
            ..Self::default()
        }
    }

    /// The same after a look at whether its counts agree with each other and with the total that the provider
    /// states, if it does: `inconsistent` if they do not, and what only the total knows of is
    /// `unclassified_tokens`. `None` if nothing was reported at all.
    pub fn checked(mut self, total: Option<u64>) -> Option<Self> {
        if self == Self::default() {
            return None;
        }
        if let Some((classes, agree)) = self.read() {
            let known = classes.all();
            self.inconsistent |= !agree;
            if let Some(total) = total
                && total != self.input_tokens?.saturating_add(self.output_tokens?)
            {
                self.inconsistent = true;
                let more = total.saturating_sub(known);
                self.unclassified_tokens = Some(more).filter(|more| *more > 0);
            }
        }
        Some(self)
    }

    /// Whether it says anything of tokens.
    pub fn names_tokens(&self) -> bool {
        let others = Usage {
            server_time_us: None,
            inconsistent: false,
            ..*self
        };
        others != Usage::default()
    }

    /// Each class by itself; `None` where input or output tokens are not known.
    pub(super) fn classes(&self) -> Option<Classes> {
        self.read().map(|(classes, _)| classes)
    }

    /// Each class by itself, and whether no part exceeds its whole. A part that does is no part of it but comes
    /// on top: that is the dearer reading.
    fn read(&self) -> Option<(Classes, bool)> {
        let (input, output) = (self.input_tokens?, self.output_tokens?);
        let cache_read = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write_5m = self.cache_write_5m_input_tokens.unwrap_or(0);
        let cache_write_1h = self.cache_write_1h_input_tokens.unwrap_or(0);
        let reasoning = self.reasoning_output_tokens.unwrap_or(0);
        let written = cache_write_5m.saturating_add(cache_write_1h);
        let uncached = input.checked_sub(cache_read.saturating_add(written));
        let text = output.checked_sub(reasoning);
        let classes = Classes {
            input: uncached.unwrap_or(input),
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output: text.unwrap_or(output),
            reasoning,
            unclassified: self.unclassified_tokens.unwrap_or(0),
        };
        Some((classes, uncached.is_some() && text.is_some()))
    }

    /// Adds another usage class by class; a class stays `None` only while neither side has it.
    pub fn add(&mut self, other: &Usage) {
        fn sum(into: &mut Option<u64>, value: Option<u64>) {
            if let Some(value) = value {
                *into = Some(into.unwrap_or(0).saturating_add(value));
            }
        }
        sum(&mut self.input_tokens, other.input_tokens);
        sum(&mut self.output_tokens, other.output_tokens);
        sum(
            &mut self.cache_read_input_tokens,
            other.cache_read_input_tokens,
        );
        sum(
            &mut self.cache_write_5m_input_tokens,
            other.cache_write_5m_input_tokens,
        );
        sum(
            &mut self.cache_write_1h_input_tokens,
            other.cache_write_1h_input_tokens,
        );
        sum(
            &mut self.reasoning_output_tokens,
            other.reasoning_output_tokens,
        );
        sum(&mut self.audio_input_tokens, other.audio_input_tokens);
        sum(&mut self.audio_output_tokens, other.audio_output_tokens);
        sum(&mut self.image_input_tokens, other.image_input_tokens);
        sum(&mut self.unclassified_tokens, other.unclassified_tokens);
        sum(&mut self.server_time_us, other.server_time_us);
        self.inconsistent |= other.inconsistent;
    }
}

impl Classes {
    /// All of a request's tokens.
    fn all(&self) -> u64 {
        let all = [
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.unclassified,
        ];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_agree_are_left_as_they_are() {
        let usage = Usage {
            cache_read_input_tokens: Some(60),
            reasoning_output_tokens: Some(5),
            ..Usage::new(100, 20)
        };
        for total in [None, Some(120)] {
            assert_eq!(usage.checked(total), Some(usage));
        }
        let classes = usage.classes().unwrap();
        assert_eq!((classes.input, classes.cache_read), (40, 60));
        assert_eq!((classes.output, classes.reasoning), (15, 5));
        assert_eq!(Usage::default().checked(None), None);
    }

    #[test]
    fn counts_that_contradict_each_other_are_flagged_and_read_the_dearer_way() {
        let cached = Usage {
            cache_read_input_tokens: Some(150),
            ..Usage::new(100, 20)
        };
        let checked = cached.checked(None).unwrap();
        assert!(checked.inconsistent);
        assert_eq!(checked.classes().unwrap().all(), 270);
        let thought = Usage {
            reasoning_output_tokens: Some(30),
            ..Usage::new(100, 20)
        };
        let checked = thought.checked(None).unwrap();
        assert!(checked.inconsistent);
        assert_eq!(checked.classes().unwrap().all(), 150);
        // A total that counts the reasoning on top says the same: nothing is missing.
        assert_eq!(thought.checked(Some(150)), Some(checked));
    }

    #[test]
    fn what_only_the_total_knows_of_is_kept_apart() {
        let checked = Usage::new(100, 20).checked(Some(130)).unwrap();
        assert!(checked.inconsistent);
        assert_eq!(checked.unclassified_tokens, Some(10));
        // A total that knows of less takes nothing away.
        let checked = Usage::new(100, 20).checked(Some(90)).unwrap();
        assert!(checked.inconsistent);
        assert_eq!(checked.classes().unwrap().all(), 120);
    }

    #[test]
    fn half_a_report_stays_one() {
        let usage = Usage {
            input_tokens: Some(1),
            ..Usage::default()
        };
        assert_eq!(usage.checked(Some(100)), Some(usage));
        assert_eq!(usage.classes(), None);
    }
}
