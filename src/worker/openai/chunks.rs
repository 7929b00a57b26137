//! The events of chat and completions: pieces of a choice, then the usage, then `[DONE]`.

use serde_json::{Value, json};

use super::chat::text;
use crate::worker::json::Json;
use crate::worker::stream::{DONE, Heard, Stream, append, field, overlay, says};

/// How they are put together.
pub(super) const STREAM: Stream = Stream {
    add,
    last: DONE,
    asks_for_usage: true,
};

fn add(reply: &mut Value, chunk: &Json<'_>) -> Heard {
    let used = says(&chunk["usage"]);
    overlay(reply, chunk, Some("choices"));
    let choices = chunk["choices"].as_array().unwrap_or_default().iter();
    // One was asked for; a server that sends more is not to mix them.
    let firsts = choices.filter(|choice| choice["index"].as_count().unwrap_or(0) == 0);
    let mut heard = if used { Heard::More } else { Heard::Nothing };
    for piece in firsts {
        let choices = field(reply, "choices");
        if !choices.is_array() {
            *choices = json!([{}]);
        }
        heard = heard.max(add_piece(&mut choices[0], piece));
    }
    heard
}

fn add_piece(choice: &mut Value, piece: &Json<'_>) -> Heard {
    let mut heard = Heard::Nothing;
    // Chat has a message, completions a text.
    if piece["delta"].is_object() {
        let message = field(choice, "message");
        append(field(message, "content"), &text(&piece["delta"]["content"]));
        append(field(message, "refusal"), &text(&piece["delta"]["refusal"]));
        let mut delta = piece["delta"].fields().iter();
        if delta.any(|(name, value)| name != "role" && says(value)) {
            heard = Heard::More;
        }
    }
    if let Some(text) = piece["text"].as_str() {
        append(field(choice, "text"), text);
        heard = heard.max(if text.is_empty() {
            Heard::Nothing
        } else {
            Heard::More
        });
    }
    if says(&piece["finish_reason"]) {
        *field(choice, "finish_reason") = (&piece["finish_reason"]).into();
        heard = Heard::More;
    }
    heard
}
