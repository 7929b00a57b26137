//! Portkey's gateway in front of llama.cpp's server. It wants headers of its own: a declared backend has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::llama_cpp::Llama;
use crate::scratch::{Scratch, until};
use crate::server::{self, Server, free_port};

/// A gateway that runs, and the server behind it.
struct Gateway {
    llama: Llama,
    server: Server,
    home: PathBuf,
}

impl Gateway {
    /// Starts one; says that the test is left out where there is none.
    fn start(test: &str) -> Option<Self> {
        let home = server::installed("portkey", test)?;
        let llama = Llama::start(test)?;
        let server = serve(&home, free_port());
        Some(Self {
            llama,
            server,
            home,
        })
    }

    /// Starts it anew where it was.
    fn comes_back(&mut self) {
        self.server = serve(&self.home, self.server.port());
    }

    /// A backend that asks the gateway for the server at this port.
    fn backend(&self, name: &str, headers: &str) -> String {
        let port = self.server.port();
        format!(
            r#"  {name}:
    type: http
    url: http://127.0.0.1:{port}/v1/chat/completions
    model: tiny
    max_tokens: 24
    api_key_env: LLAMA_KEY
    headers: {{ {headers} }}
    body:
      model: "{{{{ model }}}}"
      messages: [{{ role: user, content: "{{{{ prompt }}}}" }}]
      max_tokens: "{{{{ max_tokens }}}}"
      temperature: 0.0
    pointers:
      text: /choices/0/message/content
      finish_reason: /choices/0/finish_reason
      input_tokens: /usage/prompt_tokens
      output_tokens: /usage/completion_tokens
      model: /model
    price: {{ input: 3, output: 7 }}
"#
        )
    }

    /// The headers that name the provider and its address.
    fn to(port: u16) -> String {
        format!("x-portkey-provider: openai, x-portkey-custom-host: 'http://127.0.0.1:{port}/v1'")
    }

    fn scratch(&self) -> Scratch {
        self.llama.scratch()
    }
}

fn serve(home: &Path, port: u16) -> Server {
    let mut command = Command::new("node");
    command
        .arg(home.join("node_modules/@portkey-ai/gateway/build/start-server.js"))
        .args([&format!("--port={port}"), "--headless"]);
    Server::start(command, port).answers("/")
}

#[test]
fn a_declared_backend_brings_through_a_gateway_what_the_server_behind_it_says() {
    let Some(gateway) = Gateway::start("a_declared_backend_brings_through_a_gateway") else {
        return;
    };
    let scratch = gateway.scratch();
    let port = gateway.llama.port();
    let direct = format!(
        "  direct: {{ type: llama_cpp, url: 'http://127.0.0.1:{port}', max_tokens: 24, temperature: 0, \
         api_key_env: LLAMA_KEY, price: {{ input: 3, output: 7 }} }}\n"
    );
    let declared = gateway.backend("gateway", &Gateway::to(port));
    scratch.rows(30).job(&format!(
        "backends:\n{direct}{declared}matrix: [direct, gateway]\nmax_failures: 100%"
    ));
    let (_, published) = scratch.run(0);
    for row in published.lines.chunks(2) {
        for field in ["answer", "status", "model", "cost_usd"] {
            assert_eq!(row[0][field], row[1][field], "{} and {}", row[0], row[1]);
        }
        assert_eq!(
            row[0]["usage"]["output_tokens"],
            row[1]["usage"]["output_tokens"]
        );
    }
    let ran = scratch.runner(&["probe", "job.yaml"]);
    ran.says("2 of 2 backends answered")
        .never_says("canary-5ca1ab1e");
    scratch.holds_nowhere("canary-5ca1ab1e");
}

#[test]
fn a_gateway_that_dies_and_comes_back_answers_every_row() {
    let Some(mut gateway) = Gateway::start("a_gateway_that_dies_and_comes_back") else {
        return;
    };
    let scratch = gateway.scratch();
    let backend = gateway.backend("gateway", &Gateway::to(gateway.llama.port()));
    scratch.rows(150).job(&format!(
        "backends:\n{}concurrency: 4\nmax_failures: 100%",
        backend.replace("max_tokens: 24", "max_tokens: 200")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("the first answers", || {
        gateway.llama.counts("tokens_predicted_total") > 500
    });
    gateway.server.kill();
    running.says("is down");
    gateway.comes_back();
    running.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("failed") + published.count("not_run"), 0);
}

#[test]
fn a_prompt_that_is_too_long_for_the_server_behind_a_gateway_fails_its_row_and_no_other() {
    let Some(gateway) = Gateway::start("a_prompt_that_is_too_long_for_the_server_behind") else {
        return;
    };
    let scratch = gateway.scratch();
    let backend = gateway.backend("gateway", &Gateway::to(gateway.llama.port()));
    let long = "why? ".repeat(1200);
    scratch
        .job(&format!("backends:\n{backend}max_failures: 100%"))
        .write("rows.csv", format!("text\nshort one\n{long}\nshort two\n"));
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("failed"), 1);
    assert_eq!(published.attempts(1), ["gateway first row_fatal"]);
    let message = published.lines[1]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("exceeds the available context size"),
        "{message}"
    );
}

#[test]
fn what_a_gateway_refuses_ends_in_its_class_and_says_why() {
    let Some(gateway) = Gateway::start("what_a_gateway_refuses_ends_in_its_class") else {
        return;
    };
    let scratch = gateway.scratch().env("WRONG", "sk-wrong-c0ffee");
    let to = Gateway::to(gateway.llama.port());
    let wrong = gateway.backend("wrong", &to).replace("LLAMA_KEY", "WRONG");
    let late = gateway.backend("late", &format!("{to}, x-portkey-request-timeout: '1'"));
    let late = late.replace("max_tokens: 24", "max_tokens: 900");
    let backends = [
        wrong,
        gateway.backend("nobody", &Gateway::to(free_port())),
        gateway.backend("unsaid", "x-portkey-debug: 'false'"),
        late,
    ];
    scratch.rows(1).job(&format!(
        "backends:\n{}matrix: [wrong, nobody, unsaid, late]\nretry: {{ attempts: 1 }}",
        backends.concat()
    ));
    let ran = scratch.runner(&["job.yaml"]).never_says("c0ffee");
    let published = scratch.published("out", ran.code.unwrap());
    let expected = [
        ("config", "Invalid API Key"),
        ("server", "ECONNREFUSED"),
        ("row_fatal", "x-portkey-provider header is required"),
        ("ambiguous", "exceeded the timeout"),
    ];
    for (line, (class, says)) in published.lines.iter().zip(expected) {
        assert_eq!(line["attempts"][0]["class"], class, "{line}");
        let message = line["attempts"][0]["error"].as_str().unwrap();
        assert!(message.contains(says), "{line}");
    }
}
