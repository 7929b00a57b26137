//! What an echo backend does: what it answers, what it reports, which attempts fail.

use super::plan::{EchoFailure, EchoScript, EchoUsage};
use crate::template::{Extras, TemplateError};
use crate::words::{ErrorClass, Request, Usage};

impl EchoScript {
    /// The answer to a request: what the job says, or the prompt.
    pub fn answer(&self, request: &Request) -> Result<String, TemplateError> {
        let prompt = request.last_turn();
        match (&self.reply, &request.row) {
            (Some(reply), Some(row)) => {
                reply.render_with(row, &Extras::default().with("prompt", prompt))
            }
            _ => Ok(prompt),
        }
    }

    /// The usage that it reports for this answer: what the job says, or the words.
    pub fn used(&self, request: &Request, answer: &str) -> Usage {
        match self.usage {
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

    /// The class this attempt fails with. The draw depends on the seed, the row, the attempt
    /// and the repeat alone, so a run gives the same failures however its rows are scheduled.
    pub fn failure(&self, request: &Request) -> Option<ErrorClass> {
        if self.failures.is_empty() {
            return None;
        }
        let row = match &request.row {
            Some(row) => row.index,
            None => hash(0, request.as_prompt().as_bytes()),
        };
        let mut drawn = hash(self.seed, &row.to_le_bytes());
        drawn = hash(drawn, &request.attempt.to_le_bytes());
        if request.repeat > 0 {
            drawn = hash(drawn, &request.repeat.to_le_bytes());
        }
        drawn %= 1_000_000;
        for EchoFailure { class, per_million } in &self.failures {
            let share = u64::from(*per_million);
            if drawn < share {
                return Some(*class);
            }
            drawn -= share;
        }
        None
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
