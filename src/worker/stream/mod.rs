//! Replies that come as a stream of events: put together, they are the JSON that the same reply is without one.
//!
//! So nothing else knows of streams: an endpoint says what its events add to the reply, and answer, usage and errors are
//! read from the whole as they always are.

mod events;

use serde_json::{Map, Value, json};

use self::events::{Event, Events};
use super::fault::is_error;
use super::json::Json;
use super::text::clip_to;
use super::wire;

/// The largest event: it is as much as a whole reply may be that comes in one piece.
const LARGEST: usize = 8 << 20;

/// What chat and completions say when there is no more.
pub(super) const DONE: &str = "[DONE]";

/// How the events of an endpoint are put together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// Adds an event to what there is of the reply.
    pub add: fn(&mut Value, &Json<'_>) -> Heard,
    /// What comes last: without it the reply is not whole.
    pub last: &'static str,
    /// Whether usage comes only if it is asked for.
    pub asks_for_usage: bool,
}

/// What an event, or some of them, brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    /// Nothing of the answer: the server only says that it is there.
    Nothing,
    /// Something of the answer.
    More,
    /// The last of it.
    End,
}

/// A reply of which some events have come.
#[derive(Debug)]
pub(super) struct Gathered {
    stream: Stream,
    events: Events,
    reply: Value,
}

impl Gathered {
    /// A reply of which nothing has come.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            events: Events::default(),
            reply: json!({}),
        }
    }

    /// Takes in what came; a message says why it is no event of a reply.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Heard, String> {
        let mut heard = Heard::Nothing;
        if self.events.begun() + bytes.len() > LARGEST {
            return Err(format!("an event of more than {} MiB", LARGEST >> 20));
        }
        for event in self.events.take(bytes) {
            heard = heard.max(self.event(event)?);
            if heard == Heard::End {
                break;
            }
        }
        Ok(heard)
    }

    /// What came, as the body that a reply without a stream has.
    pub(super) fn body(&self) -> Vec<u8> {
        self.reply.to_string().into_bytes()
    }

    /// What had to come last.
    pub(super) fn last(&self) -> &'static str {
        self.stream.last
    }

    fn event(&mut self, event: Event) -> Result<Heard, String> {
        let data = event.data.trim_ascii();
        if data == DONE.as_bytes() && self.stream.last == DONE {
            return Ok(Heard::End);
        }
        let named_error = event.name == b"error";
        match wire::parse(data) {
            Ok(json) if named_error || is_error(&json) => Ok(self.fail(&json)),
            Ok(json) if json.is_object() => Ok((self.stream.add)(&mut self.reply, &json)),
            Ok(_) => Err("an event that is no JSON object".to_owned()),
            Err(_) if named_error => Ok(self.fail(&Json::String(String::from_utf8_lossy(data)))),
            // Some gateways end every stream like this.
            Err(_) if data.is_empty() || data == DONE.as_bytes() => Ok(Heard::Nothing),
            Err(error) => {
                let why = clip_to(&error.to_string(), 100);
                Err(format!("an event that is no JSON ({why})"))
            }
        }
    }

    /// An error is the end of a reply: what came of it before tells only what it has cost.
    fn fail(&mut self, error: &Json<'_>) -> Heard {
        if is_error(error) {
            overlay(&mut self.reply, error, None);
            return Heard::End;
        }
        *field(&mut self.reply, "error") = match error {
            Json::Object(_) => error.into(),
            Json::String(text) => json!({ "message": text }),
            said => json!({ "message": said.to_string() }),
        };
        Heard::End
    }
}

/// The field of an object; what is none becomes an empty one, for nobody knows what a server sends.
pub(super) fn field<'a>(of: &'a mut Value, name: &str) -> &'a mut Value {
    fields(of).entry(name).or_insert(Value::Null)
}

/// Puts what an object says over what another says, all but one field of it; `null` says nothing.
pub(super) fn overlay(over: &mut Value, said: &Json<'_>, but: Option<&str>) {
    for (name, value) in said.fields() {
        if !matches!(value, Json::Null) && but != Some(name) {
            *field(over, name) = value.into();
        }
    }
}

/// Raises the counts of an object to those that another says: what is counted only grows, and some servers say 0 at the end.
pub(super) fn raise(over: &mut Value, said: &Value) {
    match said {
        Value::Object(said) => {
            for (name, value) in said {
                raise(field(over, name), value);
            }
        }
        Value::Number(count) if over.as_f64() >= count.as_f64() => {}
        Value::Null => {}
        said => *over = said.clone(),
    }
}

/// Adds to a text.
pub(super) fn append(to: &mut Value, text: &str) {
    match to {
        Value::String(to) => to.push_str(text),
        to => *to = text.into(),
    }
}

/// Whether a value says anything.
pub(super) fn says(value: &Json<'_>) -> bool {
    match value {
        Json::Null => false,
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        Json::Bool(_) | Json::Number(_) => true,
    }
}

fn fields(of: &mut Value) -> &mut Map<String, Value> {
    if !of.is_object() {
        *of = json!({});
    }
    of.as_object_mut().expect("it was made an object")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::openai::chat;
    use super::super::{anthropic, llama_cpp};
    use super::*;

    fn gathered(stream: Stream, parts: [&[u8]; 3]) -> (Vec<u8>, bool) {
        let mut gathered = Gathered::new(stream);
        let mut ended = false;
        for part in parts {
            ended = ended || gathered.take(part).unwrap() == Heard::End;
        }
        (gathered.body(), ended)
    }

    #[test]
    fn a_recorded_stream_is_the_same_reply_wherever_the_network_cuts_it() {
        let mut random = fastrand::Rng::with_seed(7);
        for (name, stream) in [
            ("vllm_chat", chat::endpoint("").stream),
            ("anthropic_messages", anthropic::MESSAGES.stream),
            ("llama_cpp_completion", llama_cpp::COMPLETION.stream),
        ] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let file = root.join(format!("fixtures/replies/{name}/stream.json"));
            let fixture: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            let text = fixture["text"].as_str().unwrap();
            for text in [text.to_owned(), text.replace('\n', "\r\n")] {
                let (bytes, stream) = (text.as_bytes(), stream.unwrap());
                let whole = gathered(stream, [bytes, b"", b""]);
                assert!(whole.1, "{name}");
                for first in 0..bytes.len() {
                    let second = random.usize(first..=bytes.len());
                    let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(gathered(stream, parts), whole, "{name} {first} {second}");
                }
            }
        }
    }
}
