//! A job as it is run: that it is all there, whose word each value is, and that the requests are those that are sent.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::scratch::Scratch;
use crate::served::{Served, fails};

fn explained(scratch: &Scratch, arguments: &[&str]) -> Value {
    let printed = scratch.runner(arguments).exits(0).stdout;
    serde_json::from_str(&printed).expect("it is JSON")
}

#[test]
fn every_value_says_whose_word_it_is() {
    let scratch = Scratch::new()
        .env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        .env("UNUSED_KEY", "canary-1");
    scratch.rows(3).job(
        "backends:\n  gpt: { type: openai, model: gpt-4o-mini, max_tokens: 5 }\n  thinks:\n    type: openai\n    model: o3\n    \
         api_key_env: UNUSED_KEY\nfallback: [gpt]\nretry: {}",
    );
    let job = explained(
        &scratch,
        &[
            "explain",
            "job.yaml",
            "--json",
            "--set",
            "concurrency=7",
            "--out",
            "else",
        ],
    );
    for (key, value, from) in [
        ("name", json!("job"), "default"),
        ("inputs", json!("rows.csv"), "line 1"),
        ("prompt", json!("{{ text }}"), "line 2"),
        ("output.dir", json!("else"), "--out"),
        ("output.formats", json!(["csv", "jsonl"]), "default"),
        ("backends.gpt.max_tokens", json!(5), "line 5"),
        ("backends.gpt.temperature", json!(0.7), "default"),
        (
            "backends.gpt.url",
            json!("http://127.0.0.1:9/v1"),
            "OPENAI_BASE_URL",
        ),
        ("backends.gpt.api", json!("chat"), "default"),
        ("backends.thinks.model", json!("o3"), "line 8"),
        ("fallback", json!(["gpt"]), "line 10"),
        ("retry.attempts", json!(3), "default"),
        ("retry.max_outage", json!("15m"), "default"),
        ("concurrency", json!(7), "--set"),
    ] {
        assert_eq!(
            job["settings"][key],
            json!({ "value": value, "from": from }),
            "{key}"
        );
    }
    assert!(job["settings"].get("retry").is_none());
    let thinks = &job["backends"]["thinks"];
    assert_eq!(thinks["not_sent"], json!(["temperature"]));
    assert_eq!(
        (&thinks["is_asked"], &job["backends"]["gpt"]["is_asked"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        job["inputs"],
        json!({ "files": ["rows.csv"], "columns": ["text"], "rows": 3 })
    );

    let text = scratch
        .runner(&["explain", "job.yaml", "--request"])
        .exits(0);
    text.says("# temperature is not sent: the model refuses it")
        .says("# not asked: the order does not name it")
        .says("# its key is from OPENAI_API_KEY (set)")
        .says("USD per million tokens: 0.15 in, 0.60 out")
        .says("#     row 1\n")
        .says("# gpt: POST http://127.0.0.1:9/v1/chat/completions")
        .says("authorization: Bearer (OPENAI_API_KEY)")
        .never_says("canary-1")
        .never_says("test-key");
}

#[test]
fn what_is_explained_is_a_job_that_means_the_same() {
    let scratch = Scratch::new()
        .env("ANTHROPIC_API_KEY", "x")
        .env("HTTP_KEY", "x");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["notes.jsonl", "tickets.csv", "tickets_baseline.json"] {
        scratch.write(
            &format!("fixtures/{file}"),
            fs::read(root.join("fixtures").join(file)).unwrap(),
        );
    }
    let mut jobs = 0;
    for entry in fs::read_dir(root.join("jobs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        jobs += 1;
        scratch.write("jobs/a.yaml", fs::read(&path).unwrap());
        let text = scratch
            .runner(&["explain", "jobs/a.yaml", "--request"])
            .exits(0)
            .stdout;
        scratch.write("jobs/b.yaml", text);
        scratch.runner(&["check", "jobs/b.yaml"]).exits(0);
        let values = |job: &str| {
            let job = explained(&scratch, &["explain", job, "--json"]);
            let settings = job["settings"].as_object().unwrap().clone();
            let values = settings
                .into_iter()
                .map(|(key, setting)| (key, setting["value"].clone()));
            let mut values: Vec<_> = values.collect();
            values.sort_by(|(a, _), (b, _)| a.cmp(b));
            (values, job["first"].clone(), job["backends"].clone())
        };
        assert_eq!(
            values("jobs/a.yaml"),
            values("jobs/b.yaml"),
            "{}",
            path.display()
        );
    }
    assert!(jobs >= 10, "the jobs were not found");
}

#[test]
fn the_requests_are_those_that_a_run_sends() {
    for (kind, more) in [
        ("openai", "model: gpt-4o-mini, seed: 3, stop: [x]"),
        ("openai", "model: gpt-3.5-turbo-instruct"),
        ("openai", "model: o3, api: responses"),
        ("anthropic", "model: claude-3-5-haiku-20241022, top_k: 3"),
        ("anthropic", "model: claude-2.1, api: complete"),
        ("llama_cpp", "api_key_env: OPENAI_API_KEY"),
        ("llama_cpp", "api: completion"),
        ("vllm", "model: m, min_p: 0.1"),
        ("vllm", "model: m, api: generate"),
        (
            "http",
            "model: m, body: { ask: \"{{ prompt }}\" }, headers: { x-a: b }, pointers: { text: /a }",
        ),
    ] {
        let served = Served::always(fails(400, "as_scripted"));
        let base = if kind == "openai" { "/v1" } else { "" };
        let path = if kind == "http" { "/ask" } else { "" };
        let scratch = Scratch::new().env("ANTHROPIC_API_KEY", "other-key");
        scratch.rows(1).job(&format!(
            "backends:\n  a: {{ type: {kind}, url: \"{}{base}{path}\", {more} }}\nretry: {{ attempts: 1 }}",
            served.url()
        ));
        let job = explained(&scratch, &["explain", "job.yaml", "--json"]);
        assert_eq!(served.requests(), 0, "{kind} {more}");
        scratch.runner(&["job.yaml"]);
        let posted: Vec<_> = served
            .seen()
            .into_iter()
            .filter(|seen| seen.line.starts_with("POST"))
            .collect();
        let [sent] = &posted[..] else {
            panic!("{kind} {more}: {posted:?}")
        };
        let [told] = &job["backends"]["a"]["requests"].as_array().unwrap()[..] else {
            panic!("{kind} {more}: {job}")
        };
        assert_eq!(told["body"], sent.json(), "{kind} {more}");
        let url = told["url"].as_str().unwrap();
        assert_eq!(
            sent.line,
            format!("POST {}", url.strip_prefix(served.url()).unwrap())
        );
        for (name, value) in told["headers"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            let value = value
                .replace("(OPENAI_API_KEY)", "test-key")
                .replace("(ANTHROPIC_API_KEY)", "other-key");
            assert_eq!(
                sent.header(name),
                Some(value.as_str()),
                "{kind} {more}: {name}"
            );
        }
        let is_key = |(_, value): &&(String, String)| value.contains("-key");
        assert_eq!(
            sent.headers.iter().filter(is_key).count(),
            told["headers"].to_string().matches("_KEY)").count(),
            "{kind} {more}"
        );
    }
}

#[test]
fn nothing_needs_a_key_or_reaches_the_terminal_unescaped() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    scratch.write("rows.csv", "text\n\"a\u{1b}[31m\u{202e}b\nc\"\n").job(
        "name: \"a: b\"\nbackends:\n  \"g \u{e9}\": { type: openai, model: \"x\\e[1m\", price: { input: 1, output: 2 } }",
    );
    let ran = scratch
        .runner(&["explain", "job.yaml", "--request"])
        .exits(0);
    let ran = ran
        .says("(not set)")
        .says("a\\u{1b}[31m\\u{202e}b")
        .never_says("\u{1b}")
        .never_says("\u{202e}");
    scratch.write("again.yaml", &ran.stdout);
    let again = scratch
        .runner(&["explain", "again.yaml", "--request"])
        .exits(0);
    assert!(again.stdout.contains("\\U0000001B"), "{}", again.stdout);
    scratch.runner(&["explain", "none.yaml"]).exits(2);
}
