//! A model server on the loopback: speaks OpenAI's chat, follows a script, keeps its own clock.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::loopback::{Act, Loopback, Seen, reply};

/// What a server has seen.
#[derive(Debug, Default)]
pub struct Log {
    arrivals: Mutex<Vec<Instant>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A scripted server.
pub struct Served {
    server: Loopback,
    log: Arc<Log>,
}

impl Served {
    /// Answers the request of each number, counted from 0, as the script says; first it thinks for
    /// this long.
    pub fn slowly(
        thinks: Duration,
        script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let server = Loopback::new(move |seen| {
            let number = {
                let mut arrivals = shared.arrivals.lock().expect("no script panics");
                arrivals.push(Instant::now());
                arrivals.len() - 1
            };
            let now = shared.now.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most.fetch_max(now, Ordering::SeqCst);
            thread::sleep(thinks);
            shared.now.fetch_sub(1, Ordering::SeqCst);
            script(number, seen)
        });
        Self { server, log }
    }

    pub fn new(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::slowly(Duration::ZERO, script)
    }

    /// Gives every prompt back.
    pub fn echo() -> Self {
        Self::new(|_, seen| says(&prompt(seen)))
    }

    /// Gives every prompt back, in the protocol in which it was asked.
    pub fn every_protocol() -> Self {
        Self::new(|_, seen| ok(&in_its_protocol(seen)))
    }

    /// Does the same with every request.
    pub fn always(act: Act) -> Self {
        Self::new(move |_, _| act.clone())
    }

    /// An entry of `backends` that asks this server, priced at 1 and 2 dollars a million tokens.
    pub fn backend(&self, name: &str, more: &str) -> String {
        format!(
            "{name}: {{ type: openai, url: \"{}/v1\", model: m, max_tokens: 16, \
             price: {{ input: 1, output: 2 }} {more} }}",
            self.server.url
        )
    }

    /// Its address, for a job that says everything else itself.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// The same, for a proxy before it.
    pub fn addr(&self) -> SocketAddr {
        let addr = self.url().trim_start_matches("http://").parse();
        addr.expect("an address and a port")
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.seen().len()
    }

    /// How many connections were made, whatever came over them.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }

    /// When each request came, by the server's clock.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.log.arrivals.lock().expect("no script panics").clone()
    }

    /// The most requests that were with the server at once.
    pub fn most_at_once(&self) -> usize {
        self.log.most.load(Ordering::SeqCst)
    }
}

/// The last message of a request.
pub fn prompt(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.last().map(|message| message["content"].clone());
    last.and_then(|content| content.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The last words of a prompt, with 10 input and 5 output tokens, as the endpoint that was asked says it.
pub fn in_its_protocol(seen: &Seen) -> Value {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let asked = [&body["prompt"], &body["input"], &body["question"]];
    let asked = asked
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default();
    let plain = asked.trim_end_matches("Assistant:").trim();
    let plain = plain.rsplit(": ").next().unwrap_or_default();
    let tokens = json!({ "input_tokens": 10, "output_tokens": 5 });
    let path = seen.line.rsplit(' ').next().unwrap_or_default();
    let ends = |end: &str| path.ends_with(end);
    match path {
        _ if ends("/chat/completions") => {
            let message = json!({ "role": "assistant", "content": prompt(seen) });
            completion(message, "stop")
        }
        _ if ends("/completions") => json!({
            "id": "cmpl-1", "object": "text_completion", "model": "m-2026",
            "choices": [{ "index": 0, "text": plain, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 },
        }),
        _ if ends("/responses") => {
            let input = body["input"].as_array().cloned().unwrap_or_default();
            let said = input.last().map(|item| item["content"].clone());
            let said = said.as_ref().and_then(Value::as_str).unwrap_or(plain);
            json!({
                "id": "resp_1", "object": "response", "status": "completed", "model": "m-2026",
                "output": [{ "type": "message", "role": "assistant",
                    "content": [{ "type": "output_text", "text": said, "annotations": [] }] }],
                "usage": tokens,
            })
        }
        _ if ends("/messages") => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m-2026",
            "content": [{ "type": "text", "text": prompt(seen) }],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": tokens,
        }),
        _ if ends("/complete") => json!({
            "type": "completion", "id": "compl_1", "model": "m-2026",
            "completion": plain, "stop_reason": "stop_sequence", "stop": "\n\nHuman:",
        }),
        _ if ends("/completion") => json!({
            "content": plain, "stop": true, "stop_type": "eos", "model": "m-2026",
            "tokens_predicted": 5, "tokens_evaluated": 10, "truncated": false,
        }),
        _ if ends("/generate") => json!({ "text": [format!("{asked}{plain}")] }),
        _ => json!({ "out": plain, "in": 10, "used": 5, "model": "m-2026" }),
    }
}

/// An answer with 10 input and 5 output tokens.
pub fn says(text: &str) -> Act {
    ends(text, "stop")
}

/// An answer that ended for this reason.
pub fn ends(text: &str, finish_reason: &str) -> Act {
    message(
        json!({ "role": "assistant", "content": text }),
        finish_reason,
    )
}

/// This message, ended for this reason.
pub fn message(message: Value, finish_reason: &str) -> Act {
    ok(&completion(message, finish_reason))
}

/// The body of an answer.
pub fn completion(message: Value, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "m-2026",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 },
    })
}

pub fn ok(body: &Value) -> Act {
    reply(200, &[], body.to_string().as_bytes(), 0)
}

/// An error with this status and code.
pub fn fails(status: u16, code: &str) -> Act {
    fails_with(status, code, &[])
}

pub fn fails_with(status: u16, code: &str, headers: &[(&str, &str)]) -> Act {
    let body = json!({ "error": { "message": "as scripted", "type": code, "code": code } });
    reply(status, headers, body.to_string().as_bytes(), 0)
}
