//! Which backend takes which key of the job file. What a backend has no use for is a problem.

use super::Problem;
use super::suggest;
use super::written::BackendKeys;

/// A key and who takes it: every api of a type, or one (`openai chat`).
type Takers = (&'static str, &'static [&'static str]);

const SERVERS: &[&str] = &["openai", "anthropic", "llama_cpp", "vllm"];
const ADDRESSED: &[&str] = &["openai", "anthropic", "llama_cpp", "vllm", "http"];
const OPEN_SERVERS: &[&str] = &["llama_cpp", "vllm"];
const CLASSIC: &[&str] = &["openai chat", "openai completions", "llama_cpp", "vllm"];

/// The table. A key that is not here is taken by every type.
const TABLE: &[Takers] = &[
    ("url", ADDRESSED),
    ("api", SERVERS),
    ("api_key_env", ADDRESSED),
    ("proxy", ADDRESSED),
    ("idle_timeout", ADDRESSED),
    (
        "stream",
        &[
            "openai",
            "anthropic",
            "llama_cpp",
            "vllm chat",
            "vllm completions",
        ],
    ),
    ("max_tokens", ADDRESSED),
    ("temperature", SERVERS),
    ("top_p", SERVERS),
    (
        "model",
        &["openai", "anthropic", "llama_cpp", "vllm", "http", "echo"],
    ),
    (
        "stop",
        &[
            "openai chat",
            "openai completions",
            "anthropic",
            "llama_cpp",
            "vllm",
        ],
    ),
    ("top_k", &["anthropic", "llama_cpp", "vllm"]),
    ("min_p", OPEN_SERVERS),
    (
        "seed",
        &[
            "openai chat",
            "openai completions",
            "llama_cpp",
            "vllm",
            "echo",
        ],
    ),
    ("frequency_penalty", CLASSIC),
    ("presence_penalty", CLASSIC),
    ("reasoning_effort", &["openai chat", "openai responses"]),
    ("delay", &["echo"]),
    ("reply", &["echo"]),
    ("usage", &["echo"]),
    ("failures", &["echo"]),
    ("headers", &["http"]),
    ("headers_env", &["http"]),
    ("body", &["http"]),
    ("pointers", &["http"]),
];

/// The keys that a model without sampling parameters refuses.
pub const SAMPLING: [&str; 5] = [
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
];

/// Records every written key that this type and api have no use for.
pub fn check(keys: &BackendKeys, kind: &str, api: &str, problems: &mut Vec<Problem>) {
    let asked = format!("{kind} {api}");
    for (key, span) in keys.written.iter() {
        let Some((_, takers)) = TABLE.iter().find(|(name, _)| *name == key) else {
            continue;
        };
        if !takers.iter().any(|taker| *taker == kind || *taker == asked) {
            let problem = span.problem(format!("`{key}` means nothing to {}", asked.trim_end()));
            let takers = suggest::list(takers).replace('`', "");
            problems.push(problem.help(format!("remove it; it is for {takers}")));
        }
    }
}
