//! LiteLLM's proxy in front of llama.cpp's server: keys, budgets and limits of its own, and replies in translation.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::llama_cpp::{self, Llama};
use crate::scratch::{Scratch, until};
use crate::server::{self, Server, free_port};

/// The keys that `servers/litellm/keys.py` knows.
const KEYS: [&str; 3] = ["plain", "narrow", "spent"];

/// A proxy that runs, and the server behind it.
struct Proxy {
    llama: Llama,
    server: Server,
    venv: PathBuf,
}

impl Proxy {
    /// Starts one; says that the test is left out where there is none.
    fn start(test: &str) -> Option<Self> {
        let venv = server::installed("litellm", test)?.join("venv");
        let llama = Llama::start(test)?;
        let server = serve(&venv, &llama, free_port());
        Some(Self {
            llama,
            server,
            venv,
        })
    }

    /// Ends it without a warning and starts it anew where it was.
    fn comes_back(&mut self) {
        let port = self.server.port();
        self.server.kill();
        self.server = serve(&self.venv, &self.llama, port);
    }

    /// A directory whose jobs ask this proxy: its keys are in the environment as `PLAIN`, `NARROW` and so on.
    fn scratch(&self) -> Scratch {
        let named = |name: &str| (name.to_uppercase(), format!("sk-canary-5ca1ab1e-{name}"));
        let keys = KEYS.map(named).into_iter();
        keys.fold(self.llama.scratch(), |scratch, (name, key)| {
            scratch.env(&name, &key)
        })
    }

    /// A backend that asks the proxy in OpenAI's protocol.
    fn backend(&self, name: &str, key: &str, model: &str, more: &str) -> String {
        let port = self.server.port();
        format!(
            "  {name}: {{ type: openai, url: 'http://127.0.0.1:{port}/v1', model: {model}, api_key_env: {key}, {SAME}{more} }}\n"
        )
    }

    /// A backend that asks the server behind it.
    fn direct(&self) -> String {
        let port = self.llama.port();
        format!(
            "  direct: {{ type: openai, url: 'http://127.0.0.1:{port}/v1', model: tiny, api_key_env: LLAMA_KEY, {SAME} }}\n"
        )
    }
}

/// What all backends have in common.
const SAME: &str = "max_tokens: 24, temperature: 0, price: { input: 3, output: 7 }";

fn serve(venv: &Path, llama: &Llama, port: u16) -> Server {
    let mut command = Command::new(venv.join("bin/litellm"));
    command
        .arg("--config")
        .arg(server::source("litellm", "config.yaml"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .env("UPSTREAM", format!("http://127.0.0.1:{}/v1", llama.port()))
        .env("UPSTREAM_KEY", llama_cpp::KEY)
        // Its prices are its own, not those of the day; nothing is written beside the configuration.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Server::start(command, port).answers("/health/liveliness")
}

#[test]
fn every_protocol_brings_through_a_proxy_what_the_server_behind_it_says() {
    let Some(proxy) = Proxy::start("every_protocol_brings_through_a_proxy") else {
        return;
    };
    let scratch = proxy.scratch();
    let chat = proxy.backend("chat", "PLAIN", "tiny", "");
    let responses = proxy.backend("responses", "PLAIN", "tiny", ", api: responses");
    let port = proxy.server.port();
    let messages = format!(
        "  messages: {{ type: anthropic, url: 'http://127.0.0.1:{port}', model: tiny, api_key_env: PLAIN, {SAME} }}\n"
    );
    let direct = proxy.direct();
    scratch.rows(15).job(&format!(
        "backends:\n{direct}{chat}{responses}{messages}matrix: [direct, chat, responses, messages]\nmax_failures: 100%"
    ));
    let before = proxy.llama.counts("tokens_predicted_total");
    let (_, published) = scratch.run(0);
    for row in published.lines.chunks(4) {
        for line in row {
            assert_eq!(line["answer"], row[0]["answer"], "{line} is not {}", row[0]);
            for count in ["input_tokens", "output_tokens"] {
                assert_eq!(line["usage"][count], row[0]["usage"][count], "{line}");
            }
            assert_eq!(line["cost_usd"], row[0]["cost_usd"], "{line}");
            assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1), "{line}");
        }
        assert_eq!(row[1]["status"], row[0]["status"]);
    }
    let counted = proxy.llama.counts("tokens_predicted_total") - before;
    assert_eq!(published.report["tokens"]["output_tokens"], counted);
    let ran = scratch.runner(&["probe", "job.yaml"]);
    ran.says("4 of 4 backends answered")
        .never_says("canary-5ca1ab1e");
    scratch.holds_nowhere("canary-5ca1ab1e");
}

#[test]
fn what_a_proxy_refuses_ends_in_its_class_and_says_what_to_do() {
    let Some(proxy) = Proxy::start("what_a_proxy_refuses_ends_in_its_class") else {
        return;
    };
    let scratch = proxy.scratch().env("WRONG", "sk-wrong-c0ffee");
    let backends = [
        proxy.backend("wrong", "WRONG", "tiny", ""),
        proxy.backend("spent", "SPENT", "tiny", ""),
        proxy.backend("unknown", "PLAIN", "nope", ""),
        proxy.backend("locked", "PLAIN", "locked", ""),
        proxy.backend("broken", "PLAIN", "broken", ""),
    ];
    scratch.rows(1).job(&format!(
        "backends:\n{}matrix: [wrong, spent, unknown, locked, broken]\nretry: {{ attempts: 1 }}",
        backends.concat()
    ));
    let ran = scratch.runner(&["job.yaml"]).never_says("c0ffee");
    let published = scratch.published("out", ran.code.unwrap());
    let expected = [
        ("config", "check the key in WRONG"),
        ("exhausted", "top up or raise the limit"),
        ("row_fatal", "Invalid model name passed in model=nope"),
        ("config", "Invalid API Key"),
        ("server", "mock internal server error"),
    ];
    for (line, (class, says)) in published.lines.iter().zip(expected) {
        assert_eq!(line["attempts"][0]["class"], class, "{line}");
        let message = line["attempts"][0]["error"].as_str().unwrap();
        assert!(message.contains(says), "{line}");
        assert_eq!(line["cost_usd"], "0.00", "{line}");
    }
    assert_eq!(proxy.llama.counts("tokens_predicted_total"), 0);

    // Neither is a reason to leave rows without an answer, nor is a prompt that is too long one to stop.
    let spent = proxy.backend("spent", "SPENT", "tiny", "");
    let long = "why? ".repeat(1200);
    scratch
        .write("rows.csv", format!("text\nshort one\n{long}\nshort two\n"))
        .job(&format!(
            "backends:\n{spent}{}{}fallback: [spent, proxied]\nconcurrency: 1",
            proxy.backend("proxied", "PLAIN", "tiny", ""),
            proxy.direct(),
        ));
    let (_, published) = scratch.run_fresh(3);
    assert_eq!(published.statuses()[1], "failed");
    assert_eq!(
        published.attempts(0),
        ["spent first exhausted", "proxied fallback ok"]
    );
    assert_eq!(published.attempts(1), ["proxied fallback row_fatal"]);
    assert_eq!(published.attempts(2), ["proxied fallback ok"]);
    let message = published.lines[1]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("exceeds the available context size"),
        "{message}"
    );
}

#[test]
fn the_limits_of_a_proxys_key_and_of_the_job_are_kept_to() {
    let Some(proxy) = Proxy::start("the_limits_of_a_proxys_key_and_of_the_job_are_kept_to") else {
        return;
    };
    let scratch = proxy.scratch();
    let narrow = proxy.backend("narrow", "NARROW", "tiny", "");
    scratch.rows(40).job(&format!(
        "backends:\n{narrow}{}fallback: [narrow, direct]\nfallback_after: 1s\nconcurrency: 4\nmax_failures: 100%",
        proxy.direct()
    ));
    let (_, published) = scratch.run(0);
    let asked = published.field("backend");
    let through = asked.iter().filter(|name| **name == "narrow").count();
    // It allows 20 a minute, and had not to say so with a refusal; the other rows went elsewhere.
    assert!((1..=20).contains(&through), "{asked:?}");
    assert_eq!(published.report["attempts"]["total"], 40);
    assert!(!proxy.server.said().contains("\" 429"), "it refused");

    // Nor does the server behind it see more than the job allows.
    let limited = proxy.backend("limited", "PLAIN", "tiny", ", limits: { concurrency: 2 }");
    scratch.rows(60).job(&format!(
        "backends:\n{}max_failures: 100%",
        limited.replace("max_tokens: 24", "max_tokens: 300")
    ));
    let mut running = scratch.start(&["job.yaml", "--fresh"]);
    let mut most = 0;
    while !running.has_ended() {
        most = most.max(proxy.llama.working_on());
    }
    running.wait().exits(0);
    assert_eq!(most, 2);
}

#[test]
fn a_proxy_that_is_killed_and_started_again_is_asked_for_the_rest() {
    let Some(mut proxy) = Proxy::start("a_proxy_that_is_killed_and_started_again") else {
        return;
    };
    let scratch = proxy.scratch();
    let proxied = proxy
        .backend("proxied", "PLAIN", "tiny", "")
        .replace("max_tokens: 24", "max_tokens: 200");
    scratch.rows(120).job(&format!(
        "backends:\n{proxied}concurrency: 4\nretry: {{ max_outage: 3s }}\nmax_failures: 100%"
    ));
    let running = scratch.start(&["job.yaml"]);
    until("the first answers", || {
        proxy.llama.counts("tokens_predicted_total") > 500
    });
    proxy.server.kill();
    running.wait().exits(5).says("is the server running?");
    let before = scratch.published("out", 5);
    let done = before.count("answered") + before.count("truncated");
    assert!((1..120).contains(&done), "{done} rows were done");

    proxy.comes_back();
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("failed") + published.count("not_run"), 0);
    let answered = "\"POST /v1/chat/completions HTTP/1.1\" 200";
    assert_eq!(proxy.server.said().matches(answered).count(), 120 - done);
}
