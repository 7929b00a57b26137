use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_prompt_orchestrator::words::{Event, Request, Status};
use tokio_prompt_orchestrator::worker::ModelWorker;
use tokio_prompt_orchestrator::{Options, OrchestratorError, Runner, Stop};

use crate::published::{Published, units};
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

/// So many rows that hold three texts in turn.
fn three(rows: usize) -> String {
    let texts = (0..rows).map(|row| format!("{}\n", ["one", "two", "three"][row % 3]));
    format!("text\n{}", texts.collect::<String>())
}

/// A job of such rows for this server.
fn once(rows: usize, server: &Served, more: &str) -> Scratch {
    let scratch = Scratch::new();
    let backends = server.backend("a", "");
    let job = format!("dedupe: true\nbackends: {{ {backends} }}\n{more}");
    scratch.write("rows.csv", three(rows)).job(&job);
    scratch
}

/// How many attempts there were of each kind.
fn kinds(published: &Published) -> BTreeMap<String, u64> {
    let kinds = published.report["attempts"]["by_kind"].as_object();
    let kinds = kinds.into_iter().flatten();
    kinds
        .map(|(kind, count)| (kind.clone(), count.as_u64().expect("a count")))
        .collect()
}

#[test]
fn three_requests_in_thirty_rows_are_three_requests() {
    let server =
        Served::new(|number, seen| served::says(&format!("{} {number}", served::prompt(seen))));
    let scratch = once(30, &server, "");
    let (ran, published) = scratch.run(0);
    assert_eq!(server.requests(), 3);
    assert_eq!(published.count("answered"), 30);
    let answers = published.answers();
    for (row, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, answers[row % 3]);
        assert!(answer.starts_with(["one", "two", "three"][row % 3]));
    }
    assert_eq!(published.attempts(2), ["a first ok"]);
    assert_eq!(published.attempts(3), ["a duplicate ok"]);
    assert_eq!(published.column("run_attempts")[..4], ["1", "1", "1", "0"]);
    assert_eq!(published.field("finish_reason"), ["stop"; 30]);
    assert_eq!(published.field("model"), ["m-2026"; 30]);
    let report = &published.report;
    assert_eq!(report["rows"]["duplicates"], 27);
    assert_eq!(report["rows"]["from_cache"], 0);
    assert_eq!(report["cost"]["total_usd"], "0.00006");
    assert_eq!(report["cost"]["saved_usd"], "0.00054");
    assert_eq!(report["cost"]["saved_by_kind"]["duplicate"], "0.00054");
    assert_eq!(report["attempts"]["total"], 3);
    ran.says("  27 duplicates of other rows saved $0.00054\n");

    // They are answers of their own: nothing is to be done.
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.says("unchanged 30 | changed 0 | new 0");
    let ran = scratch.runner(&[
        "job.yaml",
        "--set",
        "concurrency=2",
        "--set",
        "dedupe=false",
    ]);
    ran.exits(0).says("unchanged 30 | changed 0 | new 0");
    assert_eq!(server.requests(), 3);
    let ran = scratch.runner(&["job.yaml", "--set", "backends.a.max_tokens=17"]);
    ran.exits(0).says("unchanged 0 | changed 30 | new 0");
    assert_eq!(server.requests(), 6);
}

#[test]
fn without_the_key_every_row_is_asked() {
    let server = Served::echo();
    let scratch = once(12, &server, "");
    let ran = scratch.runner(&["job.yaml", "--set", "dedupe=false"]);
    ran.exits(0).never_says("duplicate");
    assert_eq!(server.requests(), 12);
}

#[test]
fn duplicates_of_a_row_that_fails_fail_with_it_and_are_asked_again_through_it() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let server = Served::new(move |_, seen| match served::prompt(seen).as_str() {
        "two" if !is_well.load(Ordering::SeqCst) => served::fails(400, "invalid_request_error"),
        text => served::says(text),
    });
    let scratch = once(9, &server, "");
    let (_, published) = scratch.run(3);
    assert_eq!(server.requests(), 3);
    assert_eq!(published.count("failed"), 3);
    let errors = published.column("run_error");
    assert!(errors[1].starts_with("row_fatal: "), "{errors:?}");
    assert!(!errors[1].contains("asks the same"), "{errors:?}");
    for row in [4, 7] {
        let expected = "row_fatal: row rows.csv:2 asks the same and failed: ";
        assert!(errors[row].starts_with(expected), "{errors:?}");
    }
    // Only requests that were made count as failed.
    assert_eq!(published.report["attempts"]["failed"], 1);
    assert_eq!(published.report["rows"]["duplicates"], 6);
    assert_eq!(published.report["cost"]["saved_usd"], "0.00008");
    scratch
        .runner(&["verify", "out"])
        .exits(0)
        .says("everything agrees");

    let ran = scratch.runner(&["job.yaml"]).exits(3);
    ran.says("unchanged 6 | changed 0 | new 0 | removed 0 | unknown 0 | failed 3");
    assert_eq!(server.requests(), 4);
    well.store(true, Ordering::SeqCst);
    let (_, published) = scratch.run(0);
    assert_eq!(server.requests(), 5);
    assert_eq!(published.answers(), ["one", "two", "three"].repeat(3));
    assert_eq!(published.attempts(1)[2], "a retry ok");
    assert_eq!(published.attempts(4).last().unwrap(), "a duplicate ok");
}

#[test]
fn an_answer_that_is_not_whole_is_shared_as_it_is() {
    let server = Served::always(served::ends("cut", "length"));
    let scratch = once(6, &server, "");
    let (_, published) = scratch.run(3);
    assert_eq!(server.requests(), 3);
    assert_eq!(published.statuses(), ["truncated"; 6]);
    assert_eq!(published.answers(), ["cut"; 6]);
    assert_eq!(published.attempts(5), ["a duplicate flagged"]);
    let errors = published.column("run_error");
    assert_eq!(errors[5], errors[2]);
}

#[test]
fn a_runner_that_was_killed_goes_on_without_asking_twice() {
    let server = Served::slowly(Duration::from_millis(60), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = Scratch::new();
    let texts: Vec<String> = (0..200).map(|row| format!("text {}\n", row % 20)).collect();
    scratch
        .write("rows.csv", format!("text\n{}", texts.concat()))
        .job(&format!(
            "dedupe: true\nconcurrency: 2\nbackends: {{ {} }}",
            server.backend("a", "")
        ));
    let running = scratch.start(&["job.yaml"]);
    until("half of the requests", || server.arrivals().len() >= 10);
    running.signal("KILL");
    drop(running);
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    // What was on its way when it was killed is asked again.
    assert!(server.requests() <= 22, "{}", server.requests());
    assert!(server.requests() >= 20);
    ran.says(" | new 19");
    let lines = crate::published::read_jsonl(&scratch.path().join("out/results.jsonl"));
    assert_eq!(lines.len(), 200);
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(line["answer"], format!("text {}", row % 20));
    }
    scratch
        .runner(&["verify", "out"])
        .exits(0)
        .says("everything agrees");
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.says("unchanged 200 | ");
}

#[test]
fn what_was_answered_before_an_interrupt_is_shared_before_the_results_are_written() {
    let server = Served::slowly(Duration::from_millis(300), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = once(30, &server, "concurrency: 1");
    let running = scratch.start(&["job.yaml"]);
    until("the second request", || server.arrivals().len() == 2);
    running.signal("INT");
    running.wait().exits(130);
    let published = scratch.published("out", 130);
    assert_eq!(published.count("answered"), 20);
    assert_eq!(published.count("not_run"), 10);
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 30);
    assert_eq!(server.requests(), 3);
}

#[test]
fn rows_are_told_apart_by_everything_that_is_asked_for_them() {
    let scratch = Scratch::new();
    // The same prompt; but the echo's answer and the way differ.
    scratch
        .write("rows.csv", "text,label,tier\nx,a,1\nx,b,1\nx,a,1\nx,a,2\n")
        .job(
            "dedupe: true\n\
             backends:\n\
             \x20 e: { type: echo, delay: 0ms, reply: '{{ label }}' }\n\
             \x20 f: { type: echo, delay: 0ms }\n\
             route: [{ when: tier == '1', to: e }, { to: f }]",
        );
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["a", "b", "a", "x"]);
    let expected = ["first", "first", "duplicate", "first"];
    let found: Vec<_> = (0..4)
        .map(|row| published.attempts(row)[0].clone())
        .collect();
    for (found, kind) in found.iter().zip(expected) {
        assert!(found.contains(kind), "{found}");
    }
}

#[test]
fn rows_that_cannot_be_asked_fail_each_for_itself() {
    let scratch = Scratch::new();
    let rows = "text,n\nx,1\ny,no\nz,none\n";
    scratch.write("rows.csv", rows).write(
        "job.yaml",
        "inputs: rows.csv\nprompt: '{{ text }} {{ n | int }}'\ndedupe: true\noutput: { dir: out }\n\
         backends: { e: { type: echo, delay: 0ms } }\n",
    );
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["answered", "failed", "failed"]);
    for error in &published.column("run_error")[1..] {
        assert!(
            error.starts_with("row_fatal: the prompt cannot be rendered"),
            "{error}"
        );
    }
    assert_eq!(published.report["rows"]["duplicates"], 0);
}

#[test]
fn every_entry_and_every_repeat_is_asked_once() {
    let (one, other) = (
        Served::new(|number, _| served::says(&format!("one {number}"))),
        Served::new(|number, _| served::says(&format!("other {number}"))),
    );
    let scratch = Scratch::new();
    scratch.write("rows.csv", three(12)).job(&format!(
        "dedupe: true\nrepeat: 2\nmatrix: [a, b]\nbackends: {{ {}, {} }}",
        one.backend("a", ""),
        other.backend("b", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!((one.requests(), other.requests()), (6, 6));
    assert_eq!(published.lines.len(), 48);
    let answers = published.answers();
    for (line, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, answers[line % 12], "line {line}");
    }
    let distinct: std::collections::BTreeSet<_> = answers[..12].iter().collect();
    assert_eq!(distinct.len(), 12);
    assert_eq!(kinds(&published)["duplicate"], 36);
    scratch
        .runner(&["verify", "out"])
        .exits(0)
        .says("everything agrees");
    // One more repeat: only that is asked, and shared.
    scratch.runner(&["job.yaml", "--set", "repeat=3"]).exits(0);
    assert_eq!((one.requests(), other.requests()), (9, 9));
}

#[test]
fn answers_stay_when_the_row_goes_that_was_asked() {
    let server = Served::new(|number, _| served::says(&format!("answer {number}")));
    let scratch = Scratch::new();
    scratch.write(
        "job.yaml",
        format!(
            "inputs: {{ path: rows.csv, id: id }}\nprompt: '{{{{ text }}}}'\nconcurrency: 1\n\
             dedupe: true\noutput: {{ dir: out }}\nbackends: {{ {} }}\n",
            server.backend("a", "")
        ),
    );
    let run = |rows: &str, says: &str| -> Vec<String> {
        scratch.write("rows.csv", format!("id,text\n{rows}"));
        scratch.runner(&["job.yaml"]).exits(0).says(says);
        let lines = crate::published::read_jsonl(&scratch.path().join("out/results.jsonl"));
        let answers = lines.iter().map(|line| line["answer"].as_str());
        answers.map(|answer| answer.unwrap().to_owned()).collect()
    };
    let answers = run("a,x\nb,x\nc,x\nd,y\n", " | new 4 | ");
    assert_eq!(answers, ["answer 0", "answer 0", "answer 0", "answer 1"]);
    // The one that was asked is gone; the others have what they had.
    let answers = run(
        "b,x\nc,x\nd,y\n",
        "unchanged 3 | changed 0 | new 0 | removed 1",
    );
    assert_eq!(answers, ["answer 0", "answer 0", "answer 1"]);
    // It changed; and what it asks now is known of another.
    let answers = run("b,y\nc,x\nd,y\n", "unchanged 2 | changed 1 | new 0");
    assert_eq!(answers, ["answer 1", "answer 0", "answer 1"]);
    // A new row takes the place of the one that is gone.
    let answers = run("b,y\nc,x\nd,y\ne,x\n", "unchanged 4 | changed 0 | new 0");
    assert_eq!(answers, ["answer 1", "answer 0", "answer 1", "answer 0"]);
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_run_that_began_without_the_key_goes_on_with_it() {
    let server = Served::slowly(Duration::from_millis(200), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = once(12, &server, "concurrency: 2");
    let running = scratch.start(&["job.yaml", "--set", "dedupe=false"]);
    until("the fifth request", || server.arrivals().len() >= 5);
    running.signal("INT");
    running.wait().exits(130);
    let sent = server.requests();
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["one", "two", "three"].repeat(4));
    assert_eq!(server.requests(), sent);
}

#[test]
fn an_offline_run_shares_what_there_is() {
    let server = Served::slowly(Duration::from_millis(200), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = once(9, &server, "concurrency: 1");
    let running = scratch.start(&["job.yaml"]);
    until("the second request", || server.arrivals().len() == 2);
    running.signal("KILL");
    drop(running);
    scratch.runner(&["job.yaml", "--offline"]).exits(3);
    let lines = crate::published::read_jsonl(&scratch.path().join("out/results.jsonl"));
    for row in [0, 3, 6] {
        assert_eq!(lines[row]["answer"], "one");
    }
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_duplicate_of_an_answer_from_the_cache_saves_as_much() {
    let server = Served::echo();
    let scratch = once(9, &server, "cache: answers.db");
    scratch.runner(&["job.yaml", "--out", "first"]).exits(0);
    let (ran, published) = scratch.run(0);
    assert_eq!(server.requests(), 3);
    ran.says("3 answers from the cache saved $0.00006")
        .says("6 duplicates of other rows saved $0.00012");
    let saved = published.report["cost"]["saved_usd"].as_str().unwrap();
    assert_eq!(units(saved), units("0.00018"));
}

/// Answers with the row's second cell, whatever the prompt.
struct Peeking(AtomicUsize);

#[async_trait]
impl ModelWorker for Peeking {
    async fn infer(&self, _prompt: &str) -> Result<Vec<String>, OrchestratorError> {
        unreachable!("it is asked with its row")
    }

    async fn complete(
        &self,
        request: &Request,
    ) -> Result<tokio_prompt_orchestrator::words::Completion, OrchestratorError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let row = request.row.as_ref().expect("a row");
        Ok(tokio_prompt_orchestrator::words::Completion::text(
            row.cells[1].clone(),
        ))
    }
}

#[tokio::test]
async fn a_worker_of_the_programs_own_may_look_at_the_whole_row_and_every_row_is_told_of() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text,label\nx,a\nx,b\nx,a\nx,a\n")
        .job("dedupe: true\nbackends: { mine: { type: custom } }");
    let options = Options {
        out: Some(scratch.path().join("out")),
        ..Options::default()
    };
    let worker = Arc::new(Peeking(AtomicUsize::new(0)));
    let told = Arc::new(Mutex::new((0, Vec::new())));
    let events = Arc::clone(&told);
    Runner::load(scratch.path().join("job.yaml"), &options)
        .unwrap()
        .with_worker("mine", Arc::clone(&worker) as Arc<dyn ModelWorker>)
        .run(Stop::new(), move |event| {
            let mut told = events.lock().unwrap();
            match event {
                Event::RunStarted { rows, done } => told.0 = rows - done,
                Event::RowFinished { status, .. } => told.1.push(status),
                _ => {}
            }
        })
        .await
        .unwrap();
    assert_eq!(worker.0.load(Ordering::SeqCst), 2);
    let published = scratch.published("out", 0);
    assert_eq!(published.answers(), ["a", "b", "a", "a"]);
    assert_eq!(*told.lock().unwrap(), (4, vec![Status::Answered; 4]));
}
