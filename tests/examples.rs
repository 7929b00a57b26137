//! The examples as a user runs them, against a loopback server.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "common/loopback.rs"]
mod loopback;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::json;

use loopback::{Act, Loopback, Seen, reply};

/// Every example, the variables it needs, and the variables that lead it to a loopback server.
const EXAMPLES: [(&str, &[&str], &[&str]); 7] = [
    ("openai_example", &["OPENAI_API_KEY"], &["OPENAI_BASE_URL"]),
    (
        "anthropic_example",
        &["ANTHROPIC_API_KEY"],
        &["ANTHROPIC_BASE_URL"],
    ),
    ("llama_cpp_example", &["LLAMA_CPP_URL"], &["LLAMA_CPP_URL"]),
    ("vllm_example", &["VLLM_URL"], &["VLLM_URL"]),
    (
        "worker_pool",
        &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"],
        &["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"],
    ),
    (
        "fallback_chain",
        &["OPENAI_API_KEY"],
        &["OPENAI_BASE_URL", "VLLM_URL"],
    ),
    (
        "custom_worker",
        &["CUSTOM_WORKER_URL"],
        &["CUSTOM_WORKER_URL"],
    ),
];

const KEY: &str = "sk-canary-5ca1ab1e";

/// Where cargo puts the examples. `cargo test` alone builds them, a run of this file alone does not.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    // …/<profile>/deps/examples-<hash> → …/<profile>
    let exe = std::env::current_exe().unwrap();
    let profile = exe.parent().and_then(Path::parent).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples", "--target-dir"]);
    cargo.arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let built = cargo.arg("--manifest-path").arg(manifest).status();
    assert!(built.unwrap().success(), "the examples build");
    profile.join("examples")
});

/// An example without any variable but these.
fn run(example: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(FOLDER.join(example));
    command.env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Speaks every protocol.
fn backend(seen: &Seen) -> Act {
    let path = seen.line.split(['?', ' ']).nth(1).unwrap_or_default();
    let body = match path {
        "/v1/models" => json!({"data": [{"id": "tiny"}]}),
        "/v1/chat/completions" | "/chat/completions" => {
            json!({"choices": [{"message": {"content": "forty two"}, "finish_reason": "stop"}]})
        }
        "/v1/messages" => {
            json!({"content": [{"type": "text", "text": "forty two"}], "stop_reason": "end_turn"})
        }
        "/generate" => return reply(200, &[], b"forty two", 0),
        _ => return reply(404, &[], b"", 0),
    };
    reply(200, &[], body.to_string().as_bytes(), 0)
}

#[test]
fn an_example_without_its_variables_says_in_one_line_what_it_needs() {
    for (example, needed, _) in EXAMPLES {
        let output = run(example, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{example}: {said}");
        assert_eq!(said.lines().count(), 1, "{example}: {said}");
        assert_eq!(text(&output.stdout), "", "{example}");
        for name in needed {
            assert!(said.contains(name), "{example}: {said}");
        }
    }
}

#[test]
fn an_example_with_its_variables_prints_the_answer_and_never_the_key() {
    // The proxy of the environment is never asked: neither with a key nor for this machine.
    let proxy = Loopback::always(reply(500, &[], b"", 0));
    for (example, needed, urls) in EXAMPLES {
        let server = Loopback::new(backend);
        let mut variables: Vec<(&str, &str)> = needed.iter().map(|name| (*name, KEY)).collect();
        variables.retain(|(name, _)| !urls.contains(name));
        variables.extend(urls.iter().map(|name| (*name, server.url.as_str())));
        if example != "custom_worker" {
            let names = [
                "HTTP_PROXY",
                "http_proxy",
                "HTTPS_PROXY",
                "ALL_PROXY",
                "all_proxy",
            ];
            variables.extend(names.map(|name| (name, proxy.url.as_str())));
        }
        let output = run(example, &variables);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{example}: {err}");
        assert!(out.contains("forty two"), "{example}: {out}");
        assert!(
            !out.contains(KEY) && !err.contains(KEY),
            "{example}: {out}{err}"
        );
        let keys = server
            .seen()
            .iter()
            .filter(|seen| format!("{seen:?}").contains(KEY))
            .count();
        let sends_key = needed.iter().any(|name| name.ends_with("_KEY"));
        assert_eq!(
            keys > 0,
            sends_key && example != "fallback_chain",
            "{example}"
        );
    }
    assert_eq!(proxy.seen().len(), 0);
}

#[test]
fn the_fallback_chain_reaches_its_second_worker() {
    let broken = Loopback::always(reply(500, &[], b"", 0));
    let server = Loopback::new(backend);
    let output = run(
        "fallback_chain",
        &[
            ("VLLM_URL", &broken.url),
            ("OPENAI_API_KEY", KEY),
            ("OPENAI_BASE_URL", &server.url),
        ],
    );
    assert_eq!(text(&output.stdout), "forty two\n");
    assert!(text(&output.stderr).starts_with("worker failed: http://127.0.0.1:"));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(server.only().header("authorization"), Some(bearer.as_str()));
    assert!(
        broken
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}
