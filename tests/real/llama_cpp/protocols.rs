//! The nine ways in which the runner can ask the server, and what it is asked without the runner.

use serde_json::{Value, json};

use super::{KEY, Llama};
use crate::direct;

/// The most tokens of an answer.
pub const MOST: u32 = 24;

/// A way to ask.
pub struct Protocol {
    /// The name of its backend.
    pub name: &'static str,
    /// What its backend has beside its address, key and price.
    backend: &'static str,
    /// What is posted for a prompt, and where.
    path: &'static str,
    body: fn(&str) -> Value,
    /// Where in the reply the answer stands, how many tokens the prompt and the answer have, and why it ended.
    text: &'static str,
    input: &'static [&'static str],
    output: &'static str,
    end: &'static str,
}

/// What the server says to a prompt.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    pub input: u64,
    pub output: u64,
    /// Whether the answer was cut at the cap.
    pub cut: bool,
}

impl Protocol {
    /// Its backend, as a job names it.
    pub fn backend(&self, llama: &Llama, more: &str) -> String {
        self.backend_at(llama.port(), more)
    }

    /// The same with what stands before the server at this port.
    pub fn backend_at(&self, port: u16, more: &str) -> String {
        let (name, backend) = (self.name, self.backend.replace("PORT", &port.to_string()));
        let key = "api_key_env: LLAMA_KEY, price: { input: 3, output: 7 }";
        format!("  {name}: {{ {backend}, max_tokens: {MOST}, {key}, {more} }}\n")
    }

    /// Puts the prompt to the server without the runner.
    #[track_caller]
    pub fn ask(&self, llama: &Llama, prompt: &str) -> Said {
        let reply = direct::post(llama.port(), self.path, KEY, &(self.body)(prompt));
        let at = |pointer: &str| {
            reply
                .pointer(pointer)
                .unwrap_or_else(|| panic!("no {pointer} in {reply}"))
        };
        let count = |pointer: &str| at(pointer).as_u64().expect("a count");
        Said {
            text: at(self.text).as_str().expect("a text").to_owned(),
            input: self.input.iter().map(|pointer| count(pointer)).sum(),
            output: count(self.output),
            // Responses are called completed, cut or not.
            cut: ["length", "max_tokens", "limit"]
                .iter()
                .any(|word| at(self.end) == word)
                || at(self.end) == "completed" && count(self.output) >= u64::from(MOST),
        }
    }
}

fn chat(prompt: &str) -> Value {
    let messages = [json!({"role": "user", "content": prompt})];
    json!({"model": "tiny", "messages": messages, "max_tokens": MOST, "temperature": 1.0, "seed": 7})
}

fn completion(prompt: &str) -> Value {
    json!({"model": "tiny", "prompt": prompt, "max_tokens": MOST, "temperature": 1.0, "seed": 7})
}

const CHAT: Protocol = Protocol {
    name: "",
    backend: "",
    path: "/v1/chat/completions",
    body: chat,
    text: "/choices/0/message/content",
    input: &["/usage/prompt_tokens"],
    output: "/usage/completion_tokens",
    end: "/choices/0/finish_reason",
};

const COMPLETIONS: Protocol = Protocol {
    path: "/v1/completions",
    body: completion,
    text: "/choices/0/text",
    ..CHAT
};

const NATIVE: Protocol = Protocol {
    path: "/completion",
    body: |prompt| json!({"prompt": prompt, "n_predict": MOST, "temperature": 1.0, "seed": 7}),
    text: "/content",
    input: &["/tokens_evaluated"],
    output: "/tokens_predicted",
    end: "/stop_type",
    ..CHAT
};

/// All of them.
pub const PROTOCOLS: [Protocol; 9] = [
    Protocol {
        name: "openai_chat",
        backend: "type: openai, url: 'http://127.0.0.1:PORT/v1', model: tiny, temperature: 1.0, seed: 7",
        ..CHAT
    },
    Protocol {
        name: "openai_completions",
        backend: "type: openai, api: completions, url: 'http://127.0.0.1:PORT/v1', model: tiny, temperature: 1.0, seed: 7",
        ..COMPLETIONS
    },
    Protocol {
        name: "openai_responses",
        backend: "type: openai, api: responses, url: 'http://127.0.0.1:PORT/v1', model: tiny, temperature: 0",
        path: "/v1/responses",
        body: |prompt| json!({"model": "tiny", "input": prompt, "max_output_tokens": MOST, "temperature": 0.0}),
        text: "/output/0/content/0/text",
        input: &["/usage/input_tokens"],
        output: "/usage/output_tokens",
        end: "/status",
    },
    Protocol {
        name: "anthropic_messages",
        backend: "type: anthropic, url: 'http://127.0.0.1:PORT', model: tiny, temperature: 0",
        path: "/v1/messages",
        body: |prompt| {
            let messages = [json!({"role": "user", "content": prompt})];
            json!({"model": "tiny", "messages": messages, "max_tokens": MOST, "temperature": 0.0})
        },
        text: "/content/0/text",
        input: &["/usage/input_tokens", "/usage/cache_read_input_tokens"],
        output: "/usage/output_tokens",
        end: "/stop_reason",
    },
    Protocol {
        name: "llama_cpp_chat",
        backend: "type: llama_cpp, url: 'http://127.0.0.1:PORT', temperature: 1.0, seed: 7",
        ..CHAT
    },
    Protocol {
        name: "llama_cpp_completion",
        backend: "type: llama_cpp, api: completion, url: 'http://127.0.0.1:PORT', temperature: 1.0, seed: 7",
        ..NATIVE
    },
    Protocol {
        name: "vllm_chat",
        backend: "type: vllm, url: 'http://127.0.0.1:PORT', temperature: 1.0, top_p: 1.0, seed: 7",
        body: |prompt| {
            let mut body = chat(prompt);
            body["top_p"] = json!(1.0);
            body
        },
        ..CHAT
    },
    Protocol {
        name: "vllm_completions",
        backend: "type: vllm, api: completions, url: 'http://127.0.0.1:PORT', temperature: 1.0, top_p: 1.0, seed: 7",
        body: |prompt| {
            let mut body = completion(prompt);
            body["top_p"] = json!(1.0);
            body
        },
        ..COMPLETIONS
    },
    Protocol {
        name: "http",
        backend: "type: http, url: 'http://127.0.0.1:PORT/completion', \
                  body: { prompt: '{{ prompt }}', n_predict: '{{ max_tokens }}', temperature: 1.0, seed: 7 }, \
                  pointers: { text: /content, input_tokens: /tokens_evaluated, output_tokens: /tokens_predicted, \
                  finish_reason: /stop_type, error: /error/message }",
        ..NATIVE
    },
];
