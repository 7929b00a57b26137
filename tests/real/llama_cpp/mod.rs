//! llama.cpp's server: the one that `LLAMA_SERVER` names, with the model of `LLAMA_MODEL`, or the installed one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::direct;
use crate::scratch::{Scratch, skipped};
use crate::server::{self, Server, free_port};

/// Answers, usage, order, status, cost.
mod answers;
/// Limits, slots and connections.
mod limits;
/// A network that fails, and replies that come as streams.
mod network;
/// A server that loads, dies and comes back, and a runner that dies.
mod outages;
/// Every way to ask it.
mod protocols;
/// A wrong key, an unknown model, a prompt that is too long.
mod refusals;

/// A key that must never be seen but in its header.
pub const KEY: &str = "sk-canary-5ca1ab1e-llama";

/// How many requests the server works on at once.
pub const SLOTS: usize = 4;

/// The most tokens of a prompt and its answer together.
pub const CONTEXT: usize = 1024;

/// A server that runs.
pub struct Llama {
    server: Server,
    command: Box<dyn Fn(u16) -> Command>,
}

impl Llama {
    /// Starts one; says that the test is left out where there is none.
    pub fn start(test: &str) -> Option<Self> {
        Self::begin(test, Vec::new()).map(|llama| Self {
            server: llama.server.answers("/health"),
            ..llama
        })
    }

    /// Starts one that takes so long to find its model, and does not wait for it.
    pub fn loading(test: &str, takes: Duration) -> Option<Self> {
        let (_, model) = program(test)?;
        let micros = takes.as_micros();
        let traced = [
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=openat",
            "-P",
        ];
        let mut before: Vec<String> = traced.map(str::to_owned).to_vec();
        before.insert(0, "strace".to_owned());
        before.push(model.display().to_string());
        before.extend([
            "-e".to_owned(),
            format!("inject=openat:delay_enter={micros}"),
        ]);
        let mut may = Command::new("strace");
        may.args(["-D", "-qq", "-o", "/dev/null", "true"]);
        if !may
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            skipped(
                test,
                "strace is not installed, or may not trace (install strace to run it)",
            );
            return None;
        }
        Self::begin(test, before)
    }

    fn begin(test: &str, before: Vec<String>) -> Option<Self> {
        let (program, model) = program(test)?;
        let command = move |port: u16| {
            let words = before.iter().chain(&program);
            let mut words = words.cloned();
            let mut command = Command::new(words.next().expect("a command has a program"));
            command.args(words);
            command.arg("-m").arg(&model);
            command.args([
                "--alias",
                "tiny",
                "--port",
                &port.to_string(),
                "--api-key",
                KEY,
            ]);
            command.args([
                "-c",
                &(SLOTS * CONTEXT).to_string(),
                "-np",
                &SLOTS.to_string(),
            ]);
            command
        };
        let port = free_port();
        Some(Self {
            server: Server::start(command(port), port),
            command: Box::new(command),
        })
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it anew where it was.
    #[track_caller]
    pub fn comes_back(&mut self) {
        let port = self.port();
        self.server.kill();
        self.server = Server::start((self.command)(port), port).answers("/health");
    }

    /// What it counts, by Prometheus' names without `llamacpp:`.
    #[track_caller]
    pub fn counts(&self, name: &str) -> usize {
        let page = direct::get(self.port(), "/metrics", KEY)
            .expect("it answers")
            .body;
        let prefix = format!("llamacpp:{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
        let value: f64 = line
            .unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .expect("a number");
        value as usize
    }

    /// How many requests it is working on.
    pub fn working_on(&self) -> usize {
        let slots = direct::get(self.port(), "/slots", KEY)
            .expect("it answers")
            .json();
        let slots = slots.as_array().expect("a list of slots");
        slots
            .iter()
            .filter(|slot| slot["is_processing"] == Value::Bool(true))
            .count()
    }

    /// A directory whose jobs ask this server: the key is in its environment.
    pub fn scratch(&self) -> Scratch {
        Scratch::new()
            .without_env("OPENAI_API_KEY")
            .env("LLAMA_KEY", KEY)
    }
}

/// The command that starts the server, and its model.
fn program(test: &str) -> Option<(Vec<String>, PathBuf)> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    if let (Some(program), Some(model)) = (set("LLAMA_SERVER"), set("LLAMA_MODEL")) {
        let options = "--host 127.0.0.1 --offline --no-ui -t 1 -tb 1 --metrics --slots -ctk f32 -ctv f32 -fa off";
        let program = program.into_string().expect("LLAMA_SERVER is UTF-8");
        let words = std::iter::once(program).chain(options.split(' ').map(str::to_owned));
        return Some((words.collect(), model.into()));
    }
    let home = server::installed("llama_cpp", test)?;
    let python = home.join("venv/bin/python").display().to_string();
    let serve = server::source("llama_cpp", "serve.py")
        .display()
        .to_string();
    Some((vec![python, serve], home.join("tiny.gguf")))
}
