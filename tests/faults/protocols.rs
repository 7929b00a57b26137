//! Every protocol that a job can speak.

use crate::loopback::Seen;

/// What every key begins with.
pub const CANARY: &str = "5ca1ab1e";

/// A protocol.
pub struct Protocol {
    /// Names its backend, and so its entry of the matrix.
    pub name: &'static str,
    /// What else its backend says.
    says: &'static str,
    /// What its address has after the server's.
    path: &'static str,
}

/// The ten protocols of providers, and one that the job declares.
pub const PROTOCOLS: [Protocol; 11] = [
    of("openai_chat", "type: openai, api: chat", "/v1"),
    of(
        "openai_completions",
        "type: openai, api: completions",
        "/v1",
    ),
    of("openai_responses", "type: openai, api: responses", "/v1"),
    of("anthropic_messages", "type: anthropic, api: messages", ""),
    of("anthropic_complete", "type: anthropic, api: complete", ""),
    of("llama_cpp_chat", "type: llama_cpp, api: chat", ""),
    of(
        "llama_cpp_completion",
        "type: llama_cpp, api: completion",
        "",
    ),
    of("vllm_chat", "type: vllm, api: chat", ""),
    of("vllm_completions", "type: vllm, api: completions", ""),
    of("vllm_generate", "type: vllm, api: generate", ""),
    of(
        "declared",
        "type: http, body: { question: \"{{ prompt }}\" }, pointers: { text: /out, input_tokens: /in, \
         output_tokens: /used, model: /model }",
        "/answer",
    ),
];

const fn of(name: &'static str, says: &'static str, path: &'static str) -> Protocol {
    Protocol { name, says, path }
}

impl Protocol {
    /// The protocol in which a request came: it has that protocol's key.
    #[track_caller]
    pub fn of(seen: &Seen) -> &'static Self {
        let key = seen
            .header("authorization")
            .or_else(|| seen.header("x-api-key"));
        let key = key.unwrap_or_default();
        let of = PROTOCOLS
            .iter()
            .find(|protocol| key.ends_with(&protocol.key()));
        of.expect("each has its own key and no other")
    }

    /// Whether it has event streams.
    pub fn streams(&self) -> bool {
        !["vllm_generate", "declared"].contains(&self.name)
    }

    /// The variable that holds its key.
    pub fn variable(&self) -> String {
        format!("CANARY_{}", self.name.to_uppercase())
    }

    /// A key of its own, with characters that every form of writing texts writes in another way.
    pub fn key(&self) -> String {
        format!("{CANARY}/{}+\"\\==", self.name)
    }

    /// Its entry of `backends`, priced at 1 and 2 dollars a million tokens.
    pub fn backend(&self, server: &str, more: &str) -> String {
        let Self { name, says, path } = self;
        // A server that has a limit is not asked how busy it is.
        let limits = match more.contains("limits:") {
            true => "",
            false => "limits: { concurrency: 8 },",
        };
        format!(
            "  {name}: {{ {says}, model: m, url: \"{server}{path}\", api_key_env: {}, max_tokens: 16, \
             price: {{ input: 1, output: 2 }}, {limits} {more} }}\n",
            self.variable()
        )
    }
}
