use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use serde_json::json;
use tokio_prompt_orchestrator::{ModelWorker, Options, OrchestratorError, Runner, Stop};

use crate::published::{Published, units};
use crate::scratch::{Ran, Scratch};
use crate::served::{self, Served};

/// A job of so many rows for this server, with a cache.
pub fn cached(rows: usize, server: &Served, more: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.rows(rows).job(&job(&server.backend("a", ""), more));
    scratch
}

fn job(backends: &str, more: &str) -> String {
    format!("cache: answers.db\nbackends: {{ {backends} }}\n{more}")
}

/// Runs the job into this directory with these options; it must end with 0.
#[track_caller]
pub fn into(scratch: &Scratch, out: &str, options: &[&str]) -> (Ran, Published) {
    let arguments = [&["job.yaml", "--out", out], options].concat();
    let ran = scratch.runner(&arguments).exits(0);
    (ran, scratch.published(out, 0))
}

pub fn file(scratch: &Scratch) -> PathBuf {
    scratch.path().join("answers.db")
}

/// How many answers are in the cache.
pub fn entries(scratch: &Scratch) -> u64 {
    let cache = Connection::open(file(scratch)).expect("the cache is there");
    let count = "SELECT count(*) FROM answers";
    cache
        .query_row(count, [], |line| line.get(0))
        .expect("it has a table of answers")
}

#[test]
fn a_second_job_with_the_same_requests_sends_nothing_and_says_what_it_saved() {
    let server = Served::echo();
    let scratch = cached(5, &server, "");
    let (ran, first) = into(&scratch, "first", &[]);
    ran.never_says("cache");
    assert_eq!(server.requests(), 5);
    assert_eq!(first.report["cost"]["saved_usd"], "0.00");
    assert_eq!(first.report["rows"]["from_cache"], 0);

    let (ran, again) = into(&scratch, "again", &[]);
    assert_eq!(server.requests(), 5);
    assert_eq!(again.answers(), first.answers());
    assert_eq!(again.attempts(0), ["a cache ok"]);
    let report = &again.report;
    assert_eq!(report["rows"]["from_cache"], 5);
    assert_eq!(report["cost"]["total_usd"], "0.00");
    assert_eq!(report["cost"]["saved_usd"], "0.0001");
    assert_eq!(report["cost"]["saved_by_kind"]["cache"], "0.0001");
    assert_eq!(report["attempts"]["total"], 0);
    assert_eq!(report["attempts"]["by_kind"], json!({ "cache": 5 }));
    let by_backend = json!({ "total": 0, "failed": 0, "answered": 5, "reused": 5 });
    assert_eq!(report["attempts"]["by_backend"]["a"], by_backend);
    assert_eq!(report["tokens"]["unreported_attempts"], 0);
    assert!(report["latency_ms"]["p50"].is_null());
    assert_eq!(again.column("run_attempts"), ["0"; 5]);
    assert_eq!(again.column("run_cost_usd"), ["0.00"; 5]);
    // Who answered, and how to find that request at the provider's.
    assert_eq!(again.field("model"), ["m-2026"; 5]);
    assert_eq!(again.field("finish_reason"), ["stop"; 5]);
    let said = "5 answers from the cache saved $0.0001";
    ran.says(&format!("  {said}\n"));
    let markdown = fs::read_to_string(scratch.path().join("again/report.md")).unwrap();
    assert!(markdown.contains(&format!("\n{said}.\n")), "{markdown}");
    scratch
        .runner(&["verify", "again"])
        .exits(0)
        .says("everything agrees");
}

#[cfg(unix)]
#[test]
fn the_cache_can_be_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Served::echo();
    let scratch = cached(1, &server, "");
    into(&scratch, "out", &[]);
    let mode = fs::metadata(file(&scratch)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn whatever_the_answer_depends_on_makes_it_another_request_and_nothing_else_does() {
    let server = Served::echo();
    let scratch = cached(2, &server, "");
    into(&scratch, "out", &[]);
    let mut sent = 2;
    let changed = [
        "backends.a.model=m2",
        "backends.a.temperature=0.1",
        "backends.a.top_p=0.5",
        "backends.a.max_tokens=17",
        "backends.a.stop=x",
        "backends.a.seed=7",
        "backends.a.frequency_penalty=0.5",
        "backends.a.presence_penalty=0.5",
        "backends.a.api=completions",
        "prompt.system=Be kind.",
        "prompt.user={{ text }}!",
    ];
    scratch.write("job.yaml", long_prompt(&scratch));
    into(&scratch, "long", &[]);
    assert_eq!(server.requests(), sent, "the form of the prompt");
    for (number, set) in changed.into_iter().enumerate() {
        // The first time it is asked; the second time it is known as well.
        sent += 2;
        for time in 0..2 {
            let out = format!("changed-{number}-{time}");
            let arguments = ["job.yaml", "--out", &out, "--set", set];
            // The server answers completions as chats: no answer, but a request.
            scratch.runner(&arguments);
            if set.contains("completions") {
                sent = server.requests();
                continue;
            }
            scratch.published(&out, 0);
            assert_eq!(server.requests(), sent, "{set}");
        }
    }
    for (number, set) in [
        "backends.a.timeout=7s",
        "backends.a.limits={ requests_per_minute: 100000, concurrency: 3 }",
        "backends.a.price={ input: 7, output: 9 }",
        "backends.a.account=x",
        "concurrency=2",
        "retry.attempts=1",
        "max_failures=1",
        "durability=process",
        "name=another",
    ]
    .into_iter()
    .enumerate()
    {
        let (_, published) = into(&scratch, &format!("same-{number}"), &["--set", set]);
        assert_eq!(published.report["cost"]["saved_usd"], "0.00004", "{set}");
    }
    scratch.job(&job(&server.backend("another-name", ""), ""));
    let (_, published) = into(&scratch, "renamed", &[]);
    assert_eq!(published.field("backend"), ["another-name"; 2]);
    assert_eq!(server.requests(), sent);
}

/// The job, with its prompt as a mapping.
fn long_prompt(scratch: &Scratch) -> String {
    let job = fs::read_to_string(scratch.path().join("job.yaml")).expect("the job is there");
    job.replace("prompt: \"", "prompt:\n  user: \"")
}

#[test]
fn another_server_is_another_request() {
    let (one, other) = (Served::echo(), Served::echo());
    let scratch = cached(2, &one, "");
    into(&scratch, "one", &[]);
    scratch.job(&job(&other.backend("a", ""), ""));
    into(&scratch, "other", &[]);
    assert_eq!((one.requests(), other.requests()), (2, 2));
}

#[test]
fn every_repeat_has_an_answer_of_its_own() {
    let server = Served::new(|number, _| served::says(&format!("answer {number}")));
    let scratch = cached(1, &server, "concurrency: 1");
    let (_, first) = into(&scratch, "two", &["--set", "repeat=2"]);
    assert_eq!(first.answers(), ["answer 0", "answer 1"]);
    let (_, more) = into(&scratch, "three", &["--set", "repeat=3"]);
    assert_eq!(more.answers(), ["answer 0", "answer 1", "answer 2"]);
    assert_eq!(server.requests(), 3);
    assert_eq!(more.report["rows"]["from_cache"], 2);
}

#[test]
fn what_is_not_a_whole_answer_is_never_kept() {
    let refusal = json!({ "role": "assistant", "content": null, "refusal": "I will not." });
    for (name, act, code) in [
        ("truncated", served::ends("cut", "length"), 3),
        ("filtered", served::ends("hm", "content_filter"), 3),
        ("refused", served::message(refusal, "stop"), 3),
        ("empty", served::says(" \n "), 3),
        ("failed", served::fails(400, "invalid_request_error"), 3),
        // It ended as nobody expected.
        ("answered", served::ends("use a tool", "tool_calls"), 0),
    ] {
        let server = Served::always(act);
        let scratch = cached(2, &server, "");
        for out in ["first", "again"] {
            let arguments = ["job.yaml", "--out", out];
            scratch.runner(&arguments).exits(code);
            let published = scratch.published(out, code);
            assert_eq!(published.statuses(), [name; 2]);
        }
        assert_eq!(server.requests(), 4, "{name}");
        assert_eq!(entries(&scratch), 0, "{name}");
    }
}

#[test]
fn a_run_is_whole_without_the_cache_it_was_answered_from() {
    let server = Served::echo();
    let scratch = cached(4, &server, "");
    into(&scratch, "first", &[]);
    let (_, before) = into(&scratch, "again", &[]);
    fs::remove_file(file(&scratch)).unwrap();
    let (ran, offline) = into(&scratch, "again", &["--offline"]);
    ran.says("unchanged 4 | changed 0 | new 0");
    assert_eq!(offline.lines, before.lines);
    let (_, after) = into(&scratch, "again", &[]);
    assert_eq!(after.lines, before.lines);
    assert_eq!(server.requests(), 4);
}

#[test]
fn answers_from_the_cache_count_as_long_as_the_job_asks_the_same() {
    let server = Served::echo();
    let scratch = cached(3, &server, "");
    into(&scratch, "first", &[]);
    into(&scratch, "again", &[]);
    let (ran, _) = into(&scratch, "again", &["--set", "concurrency=3"]);
    ran.says("unchanged 3 | changed 0 | new 0");
    let (ran, _) = into(&scratch, "again", &["--set", "backends.a.max_tokens=17"]);
    ran.says("unchanged 0 | changed 3 | new 0");
    assert_eq!(server.requests(), 6);
    // And back: what was set aside counts again, the cache is not even needed.
    let back = ["job.yaml", "--out", "again", "--no-cache"];
    let ran = scratch.runner(&back).exits(0);
    ran.says("unchanged 3 | changed 0 | new 0");
    assert_eq!(server.requests(), 6);
    let report = crate::published::read_report(&scratch.path().join("again"));
    assert_eq!(report["rows"]["from_cache"], 3);
}

#[test]
fn fresh_forgets_the_runs_before_and_not_the_cache_and_no_cache_the_other_way_round() {
    let answer = Arc::new(AtomicUsize::new(1));
    let shared = Arc::clone(&answer);
    let server =
        Served::new(move |_, _| served::says(&format!("answer {}", shared.load(Ordering::SeqCst))));
    let scratch = cached(3, &server, "");
    into(&scratch, "out", &[]);
    answer.store(2, Ordering::SeqCst);
    let (_, fresh) = into(&scratch, "out", &["--fresh"]);
    assert_eq!(
        (server.requests(), fresh.answers()),
        (3, vec!["answer 1"; 3])
    );
    let (_, anew) = into(&scratch, "out", &["--fresh", "--no-cache"]);
    assert_eq!(
        (server.requests(), anew.answers()),
        (6, vec!["answer 2"; 3])
    );
    // What was asked anew is what the cache has now.
    let (_, fresh) = into(&scratch, "out", &["--fresh"]);
    assert_eq!(
        (server.requests(), fresh.answers()),
        (6, vec!["answer 2"; 3])
    );
}

#[test]
fn an_offline_run_answers_what_the_cache_has_and_leaves_the_rest() {
    let server = Served::echo();
    let scratch = cached(3, &server, "").without_env("OPENAI_API_KEY");
    let online = Scratch::new();
    online.rows(2).write("job.yaml", {
        let job = fs::read_to_string(scratch.path().join("job.yaml")).unwrap();
        let cache = file(&scratch).display().to_string();
        job.replace("answers.db", &cache)
    });
    online.run(0);
    assert_eq!(server.requests(), 2);

    let ran = scratch.runner(&["job.yaml", "--offline"]).exits(3);
    let published = scratch.published("out", 3);
    assert_eq!(published.statuses(), ["answered", "answered", "not_run"]);
    assert_eq!(published.report["rows"]["from_cache"], 2);
    ran.says("2 answers from the cache saved $0.00004");
    // They are in the store now.
    let ran = scratch
        .runner(&["job.yaml", "--offline", "--no-cache"])
        .exits(3);
    ran.says("unchanged 2 | changed 0 | new 1");
    assert_eq!(server.requests(), 2);
    let scratch = scratch.env("OPENAI_API_KEY", "test-key");
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["row 1", "row 2", "row 3"]);
    assert_eq!(server.requests(), 3);
}

#[test]
fn an_offline_run_leaves_what_failed_before_as_it_is() {
    let server = Served::always(served::fails(400, "invalid_request_error"));
    let scratch = cached(2, &server, "");
    let (_, before) = scratch.run(3);
    scratch.runner(&["job.yaml", "--offline"]).exits(3);
    let after = scratch.published("out", 3);
    assert_eq!(after.lines, before.lines);
    assert_eq!(server.requests(), 2);
}

#[test]
fn the_order_of_the_route_keeps_its_meaning() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let first = Served::new(move |_, _| match is_up.load(Ordering::SeqCst) {
        true => served::says("first"),
        false => served::fails(500, "server_error"),
    });
    let second = Served::always(served::says("second"));
    let scratch = Scratch::new();
    let backends = format!("{}, {}", first.backend("a", ""), second.backend("b", ""));
    let route = "retry: { attempts: 1 }\nfallback: [a, b]";
    scratch.rows(2).job(&job(&backends, route));
    into(&scratch, "only-b", &["--set", "fallback=[b]"]);
    assert_eq!((first.requests(), second.requests()), (0, 2));
    // What the cache has of the second one does not stand in for the first one.
    let (_, published) = into(&scratch, "both", &["--no-cache"]);
    assert_eq!(published.answers(), ["first"; 2]);
    let (_, published) = into(&scratch, "cached", &[]);
    assert_eq!(published.attempts(0), ["a cache ok"]);
    assert_eq!((first.requests(), second.requests()), (2, 2));
    // But in its turn.
    up.store(false, Ordering::SeqCst);
    let (_, published) = into(&scratch, "down", &["--set", "backends.a.seed=1"]);
    assert_eq!(published.answers(), ["second"; 2]);
    assert_eq!(published.attempts(0), ["a first server", "b cache ok"]);
    assert_eq!(published.report["rows"]["fell_back"], 2);
    assert_eq!((first.requests(), second.requests()), (4, 2));
}

#[test]
fn answers_of_a_backend_that_is_out_of_the_run_count_too() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let server = Served::new(move |_, seen| match is_dead.load(Ordering::SeqCst) {
        true => served::fails(401, "invalid_api_key"),
        false => served::says(&served::prompt(seen)),
    });
    let scratch = cached(3, &server, "concurrency: 1");
    into(&scratch, "first", &[]);
    dead.store(true, Ordering::SeqCst);
    // A row that is not known comes first and takes the backend out of the run.
    let rows = "text\nunknown\nrow 1\nrow 2\nrow 3\n";
    scratch.write("rows.csv", rows);
    let set = ["job.yaml", "--out", "again", "--set", "max_failures=1"];
    scratch.runner(&set);
    let published = crate::published::read_jsonl(&scratch.path().join("again/results.jsonl"));
    let statuses: Vec<_> = published.iter().map(|line| &line["status"]).collect();
    assert_eq!(statuses[0], "failed");
    assert_eq!(server.requests(), 4);
    // The run ends when no backend is left; what was not reached is in the cache for the next one.
    scratch
        .runner(&[&set[..], &["--offline"]].concat())
        .exits(0);
    let published = scratch.published("again", 0);
    assert_eq!(published.answers()[1..], ["row 1", "row 2", "row 3"]);
}

#[test]
fn what_the_cache_has_waits_for_no_limit() {
    let server = Served::echo();
    let scratch = cached(20, &server, "");
    into(&scratch, "first", &[]);
    let limits = "backends.a.limits={ requests_per_minute: 1, concurrency: 1 }";
    let (ran, published) = into(&scratch, "again", &["--set", limits]);
    assert_eq!(published.count("answered"), 20);
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    assert_eq!(server.requests(), 20);
}

#[test]
fn equal_rows_of_a_job_are_each_asked_for_themselves() {
    let server = Served::new(|number, _| served::says(&format!("answer {number}")));
    let scratch = cached(1, &server, "concurrency: 1");
    scratch.write("rows.csv", "text\nx\nx\nx\n");
    let (_, first) = into(&scratch, "out", &[]);
    assert_eq!(first.answers(), ["answer 0", "answer 1", "answer 2"]);
    // Also a run that goes on asks for itself; a new one takes what there is.
    scratch.write("rows.csv", "text\nx\nx\nx\nx\n");
    let (_, more) = into(&scratch, "out", &[]);
    assert_eq!((server.requests(), more.answers()[3]), (4, "answer 3"));
    let (_, fresh) = into(&scratch, "out", &["--fresh"]);
    assert_eq!(
        (server.requests(), fresh.answers()),
        (4, vec!["answer 3"; 4])
    );
}

#[test]
fn the_cache_lies_beside_the_job_file() {
    let scratch = Scratch::new();
    let job = "inputs: rows.csv\nprompt: '{{ text }}'\ncache: answers.db\n\
               backends: { e: { type: echo, delay: 0ms } }\n";
    scratch
        .write("jobs/job.yaml", job)
        .write("jobs/rows.csv", "text\nx\n");
    scratch.runner(&["jobs/job.yaml", "--out", "out"]).exits(0);
    assert!(scratch.path().join("jobs/answers.db").is_file());
    // An echo has answers like any other backend.
    scratch
        .runner(&["jobs/job.yaml", "--out", "again"])
        .exits(0);
    assert_eq!(
        scratch.published("again", 0).report["rows"]["from_cache"],
        1
    );
}

#[test]
fn whatever_model_a_server_has_loaded_is_nobody_elses_answer() {
    let server = Served::echo();
    let scratch = Scratch::new();
    let backend = format!("a: {{ type: llama_cpp, url: \"{}\" }}", server.url());
    scratch.rows(2).job(&job(&backend, ""));
    into(&scratch, "first", &[]);
    let asked = chats(&server);
    into(&scratch, "again", &[]);
    assert_eq!((asked, chats(&server)), (2, 4));
    assert_eq!(entries(&scratch), 0);
    let named = ["--set", "backends.a.model=m"];
    into(&scratch, "named", &named);
    into(&scratch, "named-again", &named);
    assert_eq!((chats(&server), entries(&scratch)), (6, 2));
}

/// How many of a server's requests ask something: it is asked for its slots too.
fn chats(server: &Served) -> usize {
    let seen = server.seen();
    seen.iter()
        .filter(|seen| seen.line.starts_with("POST"))
        .count()
}

/// Counts how often it is asked.
struct Counting(AtomicUsize);

#[async_trait]
impl ModelWorker for Counting {
    async fn infer(&self, _prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(vec![format!("answer {number}")])
    }
}

#[tokio::test]
async fn answers_of_a_worker_of_the_programs_own_are_not_shared() {
    let scratch = Scratch::new();
    scratch.rows(2).job(&job("mine: { type: custom }", ""));
    let job = scratch.path().join("job.yaml");
    let worker = Arc::new(Counting(AtomicUsize::new(0)));
    for out in ["first", "again"] {
        let options = Options {
            out: Some(scratch.path().join(out)),
            ..Options::default()
        };
        let runner = Runner::load(&job, &options).unwrap();
        let runner = runner.with_worker("mine", Arc::clone(&worker) as Arc<dyn ModelWorker>);
        runner.run(Stop::new(), |_| {}).await.unwrap();
    }
    assert_eq!(worker.0.load(Ordering::SeqCst), 4);
    assert_eq!(entries(&scratch), 0);
}

#[test]
fn what_was_spared_is_in_the_store() {
    let server = Served::echo();
    let scratch = cached(2, &server, "");
    into(&scratch, "first", &[]);
    into(&scratch, "out", &[]);
    let store = Connection::open(scratch.path().join("out/run.db")).unwrap();
    let query = "SELECT kind || ' ' || cost || ' ' || cost_usd || ' ' || saved_usd || ' ' || answer
                 FROM attempts JOIN outcomes USING (row, entry, repeat) ORDER BY row";
    let mut query = store.prepare(query).unwrap();
    let lines = query
        .query_map([], |line| line.get::<_, String>(0))
        .unwrap();
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    let expected = ["row 1", "row 2"].map(|row| format!("cache known 0.00 0.00002 {row}"));
    assert_eq!(lines, expected);
    let total = scratch.published("out", 0).report["cost"]["saved_usd"].clone();
    assert_eq!(units(total.as_str().unwrap()), units("0.00004"));
}
