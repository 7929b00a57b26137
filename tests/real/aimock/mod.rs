//! aimock, a mock of OpenAI and Anthropic that keeps a journal of what it was asked and fails on request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::direct;
use crate::scratch::{Scratch, until};
use crate::server::{self, Server, free_port};

const KEY: &str = "sk-canary-5ca1ab1e-mock";

/// A mock that runs.
struct Mock {
    server: Server,
    home: PathBuf,
    options: String,
}

impl Mock {
    /// Starts one with these options; says that the test is left out where there is none.
    fn start(test: &str, options: &str) -> Option<Self> {
        let home = server::installed("aimock", test)?;
        let server = serve(&home, options, free_port());
        Some(Self {
            server,
            home,
            options: options.to_owned(),
        })
    }

    /// Starts it anew where it was.
    fn comes_back(&mut self) {
        self.server = serve(&self.home, &self.options, self.server.port());
    }

    fn scratch(&self) -> Scratch {
        Scratch::new()
            .without_env("OPENAI_API_KEY")
            .env("MOCK_KEY", KEY)
    }

    /// A backend of the mock.
    fn backend(&self, name: &str, kind: &str) -> String {
        let port = self.server.port();
        let base = if kind.contains("anthropic") {
            ""
        } else {
            "/v1"
        };
        format!(
            "  {name}: {{ type: {kind}, url: 'http://127.0.0.1:{port}{base}', model: gpt-4o-mini, api_key_env: MOCK_KEY, \
             max_tokens: 16, price: {{ input: 3, output: 7 }} }}\n"
        )
    }

    /// Every request that it was sent.
    fn journal(&self) -> Vec<Value> {
        let page = direct::get(self.server.port(), "/__aimock/journal", KEY).expect("it answers");
        page.json().as_array().expect("a list").clone()
    }
}

fn serve(home: &Path, options: &str, port: u16) -> Server {
    let mut command = Command::new("node");
    command
        .arg(home.join("node_modules/@copilotkit/aimock/dist/cli.js"))
        .args(["--port", &port.to_string(), "--fixtures"])
        .arg(server::source("aimock", "answers.json"))
        .args(["--strict", "--journal-max", "0"])
        .args(options.split_whitespace())
        .env("AIMOCK_API_KEYS", KEY);
    Server::start(command, port).answers("/health")
}

/// How often each value comes.
fn histogram<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    values.fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

#[test]
fn whole_cut_and_refused_answers_of_a_mock_are_told_as_such_in_every_protocol() {
    let Some(mock) = Mock::start("whole_cut_and_refused_answers_of_a_mock", "") else {
        return;
    };
    let scratch = mock.scratch().env("WRONG", "sk-wrong-c0ffee");
    let backends = [
        mock.backend("chat", "openai"),
        mock.backend("responses", "openai, api: responses"),
        mock.backend("messages", "anthropic"),
    ]
    .concat();
    scratch
        .write("rows.csv", "text\nwhole\ncut\n")
        .job(&format!(
            "backends:\n{backends}matrix: [chat, responses, messages]\nmax_failures: 100%"
        ));
    let (_, published) = scratch.run(0);
    for (place, line) in published.lines.iter().enumerate() {
        let (answer, status, input, output, cost) = match place / 3 {
            0 => ("positive", "answered", 11, 3, "0.000054"),
            _ => ("posi", "truncated", 12, 8, "0.000092"),
        };
        assert_eq!(line["answer"], answer, "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["usage"]["input_tokens"], input, "{line}");
        assert_eq!(line["usage"]["output_tokens"], output, "{line}");
        assert_eq!(line["cost_usd"], cost, "{line}");
    }
    assert_eq!(mock.journal().len(), 6);
    let ran = scratch.runner(&["probe", "job.yaml"]);
    ran.says("3 of 3 backends answered")
        .never_says("canary-5ca1ab1e");
    assert_eq!(mock.journal().len(), 9);

    let wrong = backends.replace("MOCK_KEY", "WRONG");
    scratch.rows(1).job(&format!(
        "backends:\n{wrong}matrix: [chat, responses, messages]\nmax_failures: 100%"
    ));
    let ran = scratch.runner(&["job.yaml", "--fresh"]);
    let published = scratch.published("out", ran.code.unwrap());
    ran.never_says("c0ffee");
    for line in &published.lines {
        let message = line["error"]["message"].as_str().unwrap();
        assert_eq!(line["attempts"][0]["class"], "config", "{line}");
        assert!(message.contains("check the key in WRONG"), "{line}");
    }

    let spent = mock.backend("chat", "openai");
    scratch
        .write("rows.csv", "text\nspent\n")
        .job(&format!("backends:\n{spent}"));
    let (_, published) = scratch.run_fresh(5);
    assert_eq!(published.attempts(0), ["chat first exhausted"]);
    scratch.holds_nowhere("canary-5ca1ab1e");
}

#[test]
fn the_attempts_of_a_run_are_those_in_the_journal_of_a_mock_that_fails_at_random() {
    let chaos = "--chaos-drop 0.15 --chaos-disconnect 0.1 --chaos-malformed 0.1";
    let Some(mock) = Mock::start("the_attempts_of_a_run_are_those_in_the_journal", chaos) else {
        return;
    };
    let scratch = mock.scratch();
    let backend = mock.backend("chat", "openai");
    scratch.rows(60).job(&format!(
        "backends:\n{backend}retry: {{ initial: 10ms, max: 100ms }}\nmax_failures: 100%"
    ));
    let (_, published) = scratch.run(0);
    let attempts = published
        .lines
        .iter()
        .flat_map(|line| line["attempts"].as_array().unwrap());
    let told = attempts.map(|attempt| attempt["class"].as_str().unwrap_or("ok").to_owned());
    let journal = mock.journal();
    let kept = journal.iter().map(|entry| {
        let chaos = entry["response"]["chaosAction"].as_str();
        let class = match chaos {
            None => "ok",
            Some("drop") => "server",
            Some("disconnect") => "ambiguous",
            Some("malformed") => "invalid",
            Some(other) => other,
        };
        class.to_owned()
    });
    let (told, kept) = (histogram(told), histogram(kept));
    assert_eq!(told, kept);
    assert!(told.len() > 2, "{told:?}");
}

#[test]
fn a_mock_that_asks_for_a_second_is_left_alone_for_a_second_and_not_for_its_whole_window() {
    let Some(mock) = Mock::start("a_mock_that_asks_for_a_second", "") else {
        return;
    };
    let set = |rate: f64| {
        let body = json!({"rateLimitRate": rate});
        direct::post(mock.server.port(), "/__aimock/chaos", KEY, &body);
    };
    set(1.0);
    let scratch = mock.scratch();
    let backend = mock.backend("chat", "openai");
    scratch.rows(6).job(&format!("backends:\n{backend}"));
    let running = scratch.start(&["job.yaml"]);
    // It says Retry-After: 1, and that the window of its tokens is full again in six minutes.
    running.says("is paused for 1 s, throttled");
    set(0.0);
    let ran = running.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("answered"), 6);
    assert!(ran.took.as_secs_f64() > 1.0, "{:?}", ran.took);
}

#[test]
fn after_a_kill_a_mock_is_asked_for_no_row_that_it_has_answered() {
    let Some(mock) = Mock::start(
        "after_a_kill_a_mock_is_asked_for_no_row",
        "--chaos-latency 50",
    ) else {
        return;
    };
    let scratch = mock.scratch();
    let backend = mock.backend("chat", "openai");
    scratch
        .rows(80)
        .job(&format!("backends:\n{backend}concurrency: 4"));
    let running = scratch.start(&["job.yaml"]);
    until("half of the requests", || mock.journal().len() > 40);
    running.signal("KILL");
    running.wait();
    let before = mock.journal().len();
    let (ran, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 80);
    // `unchanged 41 | …`
    let words: Vec<&str> = ran.stderr.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "unchanged").unwrap();
    let unchanged: usize = words[at + 1].parse().unwrap();
    assert!(
        (before - 4..=before).contains(&unchanged),
        "{unchanged} of {before}"
    );
    let journal = mock.journal();
    assert_eq!(journal.len(), before + 80 - unchanged);
    let asked = histogram(
        journal
            .iter()
            .map(|entry| entry["body"]["messages"].to_string()),
    );
    assert_eq!(asked.len(), 80);
    let twice = asked.values().filter(|count| **count > 1).count();
    assert_eq!(twice, before - unchanged);
}

#[test]
fn a_mock_that_dies_and_comes_back_answers_every_row() {
    let Some(mut mock) = Mock::start("a_mock_that_dies_and_comes_back", "--chaos-latency 50")
    else {
        return;
    };
    let scratch = mock.scratch();
    let backend = mock.backend("chat", "openai");
    scratch
        .rows(80)
        .job(&format!("backends:\n{backend}concurrency: 4"));
    let running = scratch.start(&["job.yaml"]);
    until("some requests", || mock.journal().len() > 20);
    mock.server.kill();
    running.says("is down");
    mock.comes_back();
    running.wait().exits(0);
    assert_eq!(scratch.published("out", 0).count("answered"), 80);
}
