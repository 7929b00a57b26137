//! The same command again: what is asked again, what is not, and what is said before.

use std::fs;
use std::time::Duration;

use tokio_prompt_orchestrator::{ExitCode, Options, RunError, Runner, Stop};

use crate::loopback::Act;
use crate::published::{read_jsonl, read_report, units};
use crate::scratch::{Running, Scratch, until};
use crate::served::{self, Served};

/// Kills a runner without mercy, and waits until it is gone.
fn kill(running: Running) {
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
}

/// A job of one backend that asks this server, and further keys.
fn asks(server: &Server, more: &str) -> String {
    format!("backends: {{ {} }}\n{more}", server.backend("a", ""))
}

type Server = Served;

/// The prompts that a server was sent, in the order in which they came.
fn prompts(server: &Server) -> Vec<String> {
    server.seen().iter().map(served::prompt).collect()
}

/// How many attempts are in the store with their ends.
fn ended(scratch: &Scratch) -> u32 {
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db"));
    let count = "SELECT count(*) FROM attempts WHERE latency_us IS NOT NULL";
    let ended = store.and_then(|store| store.query_row(count, [], |line| line.get(0)));
    ended.unwrap_or(0)
}

#[test]
fn finished_rows_are_not_asked_again() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(30).job(&asks(&server, ""));
    let (ran, first) = scratch.run(0);
    assert!(
        ran.stderr
            .starts_with("unchanged 0 | changed 0 | new 30 | removed 0 | unknown 0\n")
    );
    let results = fs::read(scratch.path().join("out/results.jsonl")).unwrap();
    let (ran, again) = scratch.run(0);
    assert_eq!(server.requests(), 30);
    assert_eq!(
        ran.stderr,
        "unchanged 30 | changed 0 | new 0 | removed 0 | unknown 0\n"
    );
    assert_eq!(first.report["cost"], again.report["cost"]);
    let now = fs::read(scratch.path().join("out/results.jsonl")).unwrap();
    assert!(results == now, "the results are the same, byte for byte");
}

#[test]
fn failed_rows_are_asked_again_and_every_attempt_is_paid_for_once() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match (number, &*served::prompt(seen)) {
        (0..8, "row 3" | "row 5") => served::fails(500, "server_error"),
        _ => served::says(&served::prompt(seen)),
    });
    scratch
        .rows(8)
        .job(&asks(&server, "retry: { attempts: 1 }\nconcurrency: 1"));
    let (ran, published) = scratch.run(3);
    assert_eq!(published.count("failed"), 2);
    ran.says("exit 3: 2 rows have no answer");
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 6 | changed 0 | new 0 | removed 0 | unknown 0 | failed 2\n");
    assert_eq!(server.requests(), 10);
    assert_eq!(published.attempts(2), ["a first server", "a retry ok"]);
    let total = published.report["cost"]["total_usd"].as_str().unwrap();
    assert_eq!(units(total), 8 * units("0.00002"));
}

#[test]
fn a_run_that_was_killed_goes_on_and_tells_what_may_have_been_billed() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        8..11 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(20).job(&asks(&server, "concurrency: 3"));
    let running = scratch.start(&["job.yaml"]);
    until("three requests that hang", || server.requests() == 11);
    kill(running);
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 8 | changed 0 | new 9 | removed 0 | unknown 3\n");
    assert_eq!(server.requests(), 20 + 3);
    assert_eq!(published.answers()[19], "row 20");
    // Those that were cut are in the report, and in no line of the results.
    assert_eq!(published.report["attempts"]["interrupted"], 3);
    assert_eq!(published.report["attempts"]["total"], 20);
    let possibly = published.report["cost"]["possibly_billed_usd"].as_str();
    assert!(units(possibly.unwrap()) >= 3 * units("0.00002"));
}

#[test]
fn unknown_rows_can_be_left_alone() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        4 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(8).job(&asks(&server, "concurrency: 1"));
    let running = scratch.start(&["job.yaml"]);
    until("the request that hangs", || server.requests() == 5);
    kill(running);
    scratch.job(&asks(&server, "concurrency: 1\non_unknown: skip"));
    for _ in 0..2 {
        let (ran, published) = scratch.run(3);
        ran.says("| unknown 1\n");
        assert_eq!(
            (published.count("answered"), published.count("failed")),
            (7, 1)
        );
        let error = published.column("run_error")[4];
        assert!(
            error.starts_with("cancelled: the runner ended before"),
            "{error}"
        );
        assert_eq!(server.requests(), 8);
    }
    scratch.job(&asks(&server, "on_unknown: resend"));
    scratch.run(0);
    assert_eq!(server.requests(), 9);
}

#[test]
fn a_killed_run_leaves_its_answers_where_they_can_be_read() {
    let scratch = Scratch::new();
    let server = Served::new(|request, _| match request {
        0..8 => served::says("x"),
        _ => Act::Hang(Vec::new()),
    });
    scratch.rows(20).job(&asks(&server, "concurrency: 2"));
    let stored = |name: &str| {
        let connection = rusqlite::Connection::open(scratch.path().join("out").join(name));
        let count = "SELECT count(*) FROM outcomes WHERE status = 'answered'";
        let rows = connection.and_then(|db| db.query_row(count, [], |row| row.get::<_, u64>(0)));
        rows.unwrap_or(0)
    };
    let running = scratch.start(&["job.yaml"]);
    until("eight answers in the store", || stored("run.db") == 8);
    kill(running);
    assert_eq!(stored("run.db"), 8);
    // Who starts anew loses nothing either.
    scratch.job("backends: { a: { type: echo, delay: 0ms } }");
    scratch.run_fresh(0);
    assert_eq!((stored("run.db.previous"), stored("run.db")), (8, 20));
}

#[test]
fn a_row_that_was_cut_between_its_attempts_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        0 | 1 => served::fails(500, "server_error"),
        _ => served::says(&served::prompt(seen)),
    });
    let job = "retry: { attempts: 3, initial: 60s, max: 60s }";
    scratch.rows(1).job(&asks(&server, job));
    for requests in [1, 2] {
        let running = scratch.start(&["job.yaml"]);
        until("a stored failure", || ended(&scratch) == requests);
        kill(running);
    }
    let (_, published) = scratch.run(0);
    let way = ["a first server", "a retry server", "a retry ok"];
    assert_eq!(published.attempts(0), way);
    assert_eq!(published.report["attempts"]["interrupted"], 0);
}

#[test]
fn a_backend_that_had_used_up_its_attempts_before_the_kill_is_not_asked_again() {
    let scratch = Scratch::new();
    let failing = Served::new(|_, _| served::fails(500, "server_error"));
    let hanging = Served::new(|number, seen| match number {
        0 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    let (a, b) = (failing.backend("a", ""), hanging.backend("b", ""));
    scratch.rows(1).job(&format!(
        "backends: {{ {a}, {b} }}\nfallback: [a, b]\nretry: {{ attempts: 1 }}\n"
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a stored failure, and a request that hangs", || {
        ended(&scratch) == 1 && hanging.requests() == 1
    });
    kill(running);
    let (_, published) = scratch.run(0);
    assert_eq!(published.attempts(0), ["a first server", "b fallback ok"]);
    assert_eq!((failing.requests(), hanging.requests()), (1, 2));
}

#[test]
fn rows_that_move_or_appear_twice_keep_their_answers() {
    let scratch = Scratch::new();
    let server =
        Served::new(|number, seen| served::says(&format!("{} {number}", served::prompt(seen))));
    scratch
        .write("rows.csv", "text,n\na,1\nb,1\na,1\nc,1\n")
        .job(&asks(&server, "concurrency: 1"));
    let (_, before) = scratch.run(0);
    assert_eq!(before.answers(), ["a 0", "b 1", "a 2", "c 3"]);
    scratch.write("rows.csv", "text,n\nc,1\na,1\nd,1\na,1\nb,1\na,1\n");
    let (ran, after) = scratch.run(0);
    ran.says("unchanged 4 | changed 0 | new 2 | removed 0 | unknown 0\n");
    assert_eq!(after.answers(), ["c 3", "a 0", "d 4", "a 2", "b 1", "a 5"]);
    assert_eq!(after.field("id")[1], "rows.csv:2");
}

#[test]
fn a_cell_that_is_not_asked_costs_nothing_and_one_that_is_does() {
    for id in ["", ", id: n"] {
        let scratch = Scratch::new();
        let server = Served::echo();
        let job = |more: &str| {
            let backend = server.backend("a", more);
            scratch.write(
                "job.yaml",
                format!(
                    "inputs: {{ path: rows.csv{id} }}\nprompt: \"{{{{ text }}}}\"\n\
                     output: {{ dir: out }}\nbackends: {{ {backend} }}\n"
                ),
            );
        };
        job("");
        scratch.write("rows.csv", "n,text,label\n1,a,x\n2,b,x\n3,c,x\n");
        scratch.run(0);
        scratch.write("rows.csv", "n,text,label\n1,a,y\n2,b,x\n3,cc,x\n");
        let (ran, published) = scratch.run(0);
        assert_eq!(prompts(&server)[3..], ["cc"]);
        assert_eq!(published.answers(), ["a", "b", "cc"]);
        assert_eq!(published.column("label"), ["y", "x", "x"]);
        ran.says(match id {
            "" => "unchanged 2 | changed 0 | new 1 | removed 1 | unknown 0\n",
            _ => "unchanged 2 | changed 1 | new 0 | removed 0 | unknown 0\n",
        });
    }
}

#[test]
fn a_cell_that_is_not_asked_costs_nothing_after_another_prompt_either() {
    for id in ["", ", id: n"] {
        let scratch = Scratch::new();
        let server = Served::echo();
        let job = |prompt: &str| {
            let backend = server.backend("a", "");
            scratch.write(
                "job.yaml",
                format!(
                    "inputs: {{ path: rows.csv{id} }}\nprompt: \"{prompt}\"\n\
                     output: {{ dir: out }}\nbackends: {{ {backend} }}\n"
                ),
            );
        };
        scratch.write("rows.csv", "n,text,label\n1,a,x\n2,b,x\n");
        for (prompt, answers) in [
            ("{{ text }}", ["a", "b"]),
            ("Say {{ text }}", ["Say a", "Say b"]),
        ] {
            job(prompt);
            assert_eq!(scratch.run(0).1.answers(), answers);
        }
        scratch.write("rows.csv", "n,text,label\n1,a,y\n2,b,z\n");
        let (ran, published) = scratch.run(0);
        ran.says("unchanged 2 | changed 0 | new 0 | removed 0 | unknown 0\n");
        assert_eq!(published.answers(), ["Say a", "Say b"]);
        assert_eq!(server.requests(), 4);
    }
}

#[test]
fn what_the_answer_does_not_depend_on_is_changed_for_nothing() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(5).job(&asks(&server, ""));
    scratch.run(0);
    for set in [
        "backends.a.price={ input: 7, output: 9 }",
        "backends.a.limits={ requests_per_minute: 600, concurrency: 2 }",
        "backends.a.timeout=7s",
        "concurrency=3",
        "retry.attempts=5",
        "max_failures=2",
        "durability=process",
        "output.formats=[jsonl]",
        "output.prefix=x_",
        "inputs={ path: rows.csv, limit: 5 }",
        "fallback_after=2s",
        "hedge_after=2s",
    ] {
        let ran = scratch.runner(&["job.yaml", "--set", set]).exits(0);
        ran.says("unchanged 5 | changed 0 | new 0 | removed 0 | unknown 0\n");
    }
    assert_eq!(server.requests(), 5);
}

#[test]
fn whatever_the_answer_depends_on_is_asked_again_and_the_old_answers_come_back_with_the_old_request()
 {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(2).job(&asks(&server, ""));
    scratch.run(0);
    let changes = [
        "prompt=Say {{ text }}",
        "prompt={ system: Be kind., user: '{{ text }}' }",
        "backends.a.model=m2",
        "backends.a.max_tokens=17",
        "backends.a.temperature=0.1",
        "backends.a.top_p=0.5",
        "backends.a.seed=3",
        "backends.a.stop=[x]",
    ];
    for (number, set) in (1..).zip(changes) {
        let ran = scratch.runner(&["job.yaml", "--set", set]).exits(0);
        ran.says("unchanged 0 | changed 2 | new 0 | removed 0 | unknown 0\n");
        assert_eq!(server.requests(), 2 + 2 * number, "{set}");
    }
    for set in ["name=job", changes[0], changes[4]] {
        let ran = scratch.runner(&["job.yaml", "--set", set]).exits(0);
        ran.says("unchanged 2 | changed 0 | new 0 | removed 0 | unknown 0\n");
    }
    assert_eq!(server.requests(), 2 + 2 * changes.len());
    // What was paid for all of them stays told.
    scratch.runner(&["job.yaml"]).exits(0);
    let lines = read_jsonl(&scratch.path().join("out/results.jsonl"));
    assert_eq!(lines[1]["answer"], "row 2");
    assert_eq!(lines[1]["model"], "m-2026");
    let attempts = &read_report(&scratch.path().join("out"))["attempts"];
    assert_eq!(attempts["total"], 2 + 2 * changes.len());
}

#[test]
fn another_route_keeps_the_answers_of_backends_that_are_still_on_it() {
    let scratch = Scratch::new();
    let (one, other) = (Served::echo(), Served::new(|_, _| served::says("other")));
    let backends = format!(
        "backends: {{ {}, {} }}",
        one.backend("a", ""),
        other.backend("b", ", temperature: 0.5")
    );
    scratch.rows(3).job(&backends);
    let with = |sets: &[&str], says: &str| {
        let mut args = vec!["job.yaml"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        scratch.runner(&args).exits(0).says(says);
    };
    let same = "unchanged 3 | changed 0 | new 0 | removed 0 | unknown 0\n";
    with(&["fallback=[a]"], "new 3");
    with(&["fallback=[a, b]"], same);
    with(&["fallback=[b, a]"], same);
    with(&["fallback=[b]"], "unchanged 0 | changed 3 |");
    with(&["fallback=[a]"], same);
    // The new entry was never asked, whatever another one was asked before.
    with(&["matrix=[a, b]"], "unchanged 3 | changed 0 | new 3 |");
    with(&["matrix=[b, a]"], "unchanged 6 | changed 0 | new 0 |");
    assert_eq!((one.requests(), other.requests()), (3, 6));
    let lines = read_jsonl(&scratch.path().join("out/results.jsonl"));
    assert_eq!(
        (&lines[0]["answer"], &lines[1]["answer"]),
        (&"other".into(), &"row 1".into())
    );
    with(
        &["matrix=[b, a]", "repeat=2"],
        "unchanged 6 | changed 0 | new 6 |",
    );
    with(&["matrix=[a]", "repeat=1"], same);
    assert_eq!((one.requests(), other.requests()), (6, 9));
}

#[test]
fn rows_that_are_gone_leave_the_results_and_come_back_with_their_answers() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(5).job(&asks(&server, ""));
    scratch.run(0);
    let few = scratch.runner(&["job.yaml", "--limit", "2"]).exits(0);
    few.says("unchanged 2 | changed 0 | new 0 | removed 3 | unknown 0\n");
    let published = scratch.published("out", 0);
    assert_eq!(published.lines.len(), 2);
    assert_eq!(published.report["attempts"]["removed_rows"], 3);
    let paid = |which: &str| units(published.report["cost"][which].as_str().unwrap());
    assert_eq!(paid("total_usd"), 5 * units("0.00002"));
    assert_eq!(paid("removed_rows_usd"), 3 * units("0.00002"));
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 5 | changed 0 | new 0 | removed 0 | unknown 0\n");
    assert_eq!(published.report["attempts"]["removed_rows"], 0);
    assert_eq!(server.requests(), 5);
}

#[test]
fn fresh_asks_everything_again() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(3).job(&asks(&server, ""));
    scratch.run(0);
    let (ran, _) = scratch.run_fresh(0);
    ran.says("unchanged 0 | changed 0 | new 3 | removed 0 | unknown 0\n");
    assert_eq!(server.requests(), 6);
    assert!(scratch.path().join("out/run.db.previous").is_file());
}

#[test]
fn frozen_refuses_any_change_and_leaves_everything_as_it_was() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(3).job(&asks(&server, ""));
    let frozen = |more: &[&str]| scratch.runner(&[&["job.yaml", "--frozen"], more].concat());
    frozen(&[]).exits(2).says("3 unseen rows");
    scratch.run(0);
    frozen(&[]).exits(0);
    frozen(&["--set", "backends.a.timeout=9s"]).exits(0);
    for more in [&["--set", "prompt=x {{ text }}"][..], &["--limit", "2"]] {
        frozen(more)
            .exits(2)
            .says("error: out is frozen, and the job is not what was run there: ");
    }
    scratch.rows(4);
    frozen(&[])
        .exits(2)
        .says("0 changed, 0 removed, 1 unseen rows");
    scratch.rows(3);
    frozen(&[]).exits(0).says("unchanged 3 |");
    // One is left of three, and one more may find out whether the backend is back; three anew would make five.
    assert!(server.requests() <= 4, "{}", server.requests());
}

#[test]
fn frozen_lets_a_run_go_on_that_was_cut() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        2 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(4).job(&asks(&server, "concurrency: 1"));
    let running = scratch.start(&["job.yaml"]);
    until("the request that hangs", || server.requests() == 3);
    kill(running);
    let ran = scratch.runner(&["job.yaml", "--frozen"]).exits(0);
    ran.says("unchanged 2 | changed 0 | new 1 | removed 0 | unknown 1\n");
}

#[test]
fn offline_answers_from_the_store_without_a_key_and_sends_nothing() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    let server = Served::echo();
    scratch.rows(3).job(&asks(&server, ""));
    scratch
        .runner(&["job.yaml"])
        .exits(2)
        .says("OPENAI_API_KEY is not set");
    let ran = scratch.runner(&["job.yaml", "--offline"]).exits(3);
    ran.says("0 of 3 rows answered").says("3 not_run");
    assert_eq!(server.requests(), 0);

    let scratch = Scratch::new();
    scratch.rows(3).job(&asks(&server, ""));
    scratch.run(0);
    scratch.rows(4);
    let ran = scratch.runner(&["job.yaml", "--offline"]).exits(3);
    ran.says("unchanged 3 | changed 0 | new 1 |");
    let published = scratch.published("out", 3);
    assert_eq!(
        published.statuses(),
        ["answered", "answered", "answered", "not_run"]
    );
    scratch.rows(3);
    scratch
        .runner(&["job.yaml", "--offline", "--frozen"])
        .exits(2);
    scratch.runner(&["job.yaml", "--offline"]).exits(0);
    scratch
        .runner(&["job.yaml", "--offline", "--frozen"])
        .exits(0);
    // One is left of three, and one more may find out whether the backend is back; three anew would make five.
    assert!(server.requests() <= 4, "{}", server.requests());
}

#[test]
fn the_directory_of_another_job_is_left_alone() {
    let scratch = Scratch::new();
    scratch.rows(2).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let before = fs::read(scratch.path().join("out/results.csv")).unwrap();
    let ran = scratch
        .runner(&["job.yaml", "--set", "name=other"])
        .exits(2);
    ran.says("error: out holds the run of another job, `job`; write to another directory");
    assert_eq!(
        fs::read(scratch.path().join("out/results.csv")).unwrap(),
        before
    );
    scratch
        .runner(&["job.yaml", "--set", "name=other", "--fresh"])
        .exits(0);
    // And results that nobody knows where they are from.
    scratch.write("theirs/results.csv", "precious\n");
    let ran = scratch.runner(&["job.yaml", "--out", "theirs"]).exits(2);
    ran.says("error: theirs/results.csv is there, and no run.db that it could be from");
    let kept = fs::read_to_string(scratch.path().join("theirs/results.csv")).unwrap();
    assert_eq!(kept, "precious\n");
}

#[test]
fn a_store_of_another_format_is_refused_and_kept() {
    let scratch = Scratch::new();
    scratch.rows(2).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let path = scratch.path().join("out/run.db");
    let store = rusqlite::Connection::open(&path).unwrap();
    store
        .execute("UPDATE meta SET value = '99' WHERE key = 'format'", [])
        .unwrap();
    drop(store);
    let ran = scratch.runner(&["job.yaml"]).exits(6);
    ran.says("error: out/run.db was written by another version of this program (its format is 99");
    scratch.write("out/run.db", "this is no database, and never was one");
    let ran = scratch.runner(&["job.yaml"]).exits(6);
    ran.says("error: out/run.db is damaged: file is not a database");
    scratch.run_fresh(0);
}

#[test]
fn an_input_that_changes_while_it_runs_changes_the_next_run_and_not_this_one() {
    let scratch = Scratch::new();
    let path = scratch.path().join("rows.csv");
    let server = Served::new(move |number, seen| {
        if number == 0 {
            fs::write(&path, "text\nanother\nrow 2\nrow 3\n").expect("the input is changed");
        }
        served::says(&served::prompt(seen))
    });
    scratch.rows(3).job(&asks(&server, ""));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["row 1", "row 2", "row 3"]);
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 2 | changed 0 | new 1 | removed 1 | unknown 0\n");
    assert_eq!(published.answers(), ["another", "row 2", "row 3"]);
}

#[tokio::test]
async fn an_input_that_changed_since_it_was_checked_stops_the_run_before_anything_is_sent() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(3).job(&asks(&server, ""));
    let options = Options {
        out: Some(scratch.path().join("out")),
        offline: true,
        ..Options::default()
    };
    let runner = Runner::load(scratch.path().join("job.yaml"), &options).unwrap();
    scratch.rows(4);
    let error = runner.run(Stop::new(), |_| ()).await.unwrap_err();
    assert!(matches!(error, RunError::Input(_)), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Unexpected);
    assert!(
        error
            .to_string()
            .contains("rows.csv changed while it was read")
    );
}

#[test]
fn a_runner_that_makes_one_row_of_progress_each_time_finishes() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number % 2 {
        1 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(12).job(&asks(&server, "concurrency: 1"));
    for crash in 1..=11 {
        let running = scratch.start(&["job.yaml"]);
        until("the request that hangs", || server.requests() == 2 * crash);
        kill(running);
    }
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 12);
    assert_eq!(server.requests(), 12 + 11);
    assert_eq!(published.report["attempts"]["interrupted"], 11);
}

#[test]
fn a_changed_row_that_is_not_reached_before_the_stop_has_not_failed() {
    let server = Served::slowly(Duration::from_millis(300), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = Scratch::new();
    // The limit lets one through; the other rows stand in its queue.
    let limits = ", limits: { concurrency: 1 }";
    let backends = server.backend("a", limits);
    scratch
        .rows(3)
        .job(&format!("backends: {{ {backends} }}\nconcurrency: 3"));
    scratch.run(0);
    let running = scratch.start(&["job.yaml", "--set", "backends.a.max_tokens=17"]);
    until("the fourth request", || server.arrivals().len() == 4);
    running.signal("INT");
    running.wait().exits(130);
    let published = scratch.published("out", 130);
    let counts = ["answered", "not_run", "failed"].map(|status| published.count(status));
    assert_eq!(counts, [1, 2, 0]);
}

#[test]
fn rows_that_were_left_out_when_the_request_changed_are_asked_when_they_come_back() {
    for changed in ["prompt=New {{ text }}", "backends.a.model=m2"] {
        let scratch = Scratch::new();
        let server = Served::echo();
        scratch.rows(5).job(&asks(&server, ""));
        scratch.run(0);
        let few = ["job.yaml", "--set", changed, "--limit", "2"];
        scratch.runner(&few).exits(0).says("changed 2 |");
        let all = scratch.runner(&few[..3]).exits(0);
        all.says("unchanged 2 | changed 3 | new 0 | removed 0 | unknown 0\n");
        assert_eq!(server.requests(), 10, "{changed}");
    }
}

#[test]
fn repeats_that_were_left_out_when_the_request_changed_are_asked_when_they_come_back() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(2).job(&asks(&server, ""));
    let run = |prompt: &str, repeat: &str| {
        let (prompt, repeat) = (
            format!("prompt={prompt} {{{{ text }}}}"),
            format!("repeat={repeat}"),
        );
        let ran = scratch.runner(&["job.yaml", "--set", &prompt, "--set", &repeat]);
        ran.exits(0)
    };
    run("Old", "2");
    run("New", "1");
    run("New", "2").says("unchanged 2 | changed 2 | new 0 |");
    let published = scratch.published("out", 0);
    assert!(
        published
            .answers()
            .iter()
            .all(|answer| answer.starts_with("New"))
    );
}

#[test]
fn a_new_row_does_not_take_the_answer_of_one_that_is_still_there() {
    let scratch = Scratch::new();
    let server =
        Served::new(|number, seen| served::says(&format!("{} {number}", served::prompt(seen))));
    let backend = server.backend("a", "");
    scratch.write(
        "job.yaml",
        format!(
            "inputs: {{ path: rows.csv, id: n }}\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n\
             backends: {{ {backend} }}\nconcurrency: 1\n"
        ),
    );
    scratch.write("rows.csv", "n,text\n1,hello\n2,bye\n");
    scratch.run(0);
    scratch.write("rows.csv", "n,text\n3,hello\n1,hello\n2,bye\n");
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 2 | changed 0 | new 1 | removed 0 | unknown 0\n");
    assert_eq!(published.answers(), ["hello 2", "hello 0", "bye 1"]);
    // One that takes the place of a row that is gone does.
    scratch.write("rows.csv", "n,text\n3,hello\n4,hello\n2,bye\n");
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 3 | changed 0 | new 0 | removed 0 | unknown 0\n");
    assert_eq!(published.answers(), ["hello 2", "hello 0", "bye 1"]);
}

#[test]
fn what_was_tried_for_another_request_uses_up_nothing() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match &*served::prompt(seen) {
        "row 1" => served::says(""),
        _ => served::says("yes"),
    });
    scratch
        .rows(1)
        .job(&asks(&server, "retry: { attempts: 1 }"));
    scratch.run(3);
    let new = ["job.yaml", "--set", "prompt=New {{ text }}"];
    scratch.runner(&new).exits(0);
    assert_eq!(server.requests(), 2);
}

#[test]
fn many_rows_that_ask_the_same_are_compared_in_linear_time() {
    let took = |rows: usize| {
        let scratch = Scratch::new();
        scratch.job("backends: { a: { type: echo, delay: 0ms } }\ndurability: process");
        let csv = |label: &str| {
            let rows = (0..rows).map(|row| format!("ok,{row}{label}\n"));
            format!("text,label\n{}", rows.collect::<String>())
        };
        scratch.write("rows.csv", csv("a"));
        scratch.runner(&["job.yaml", "--offline"]).exits(3);
        scratch.write("rows.csv", csv("b"));
        let ran = scratch.runner(&["job.yaml", "--offline"]).exits(3);
        ran.took
    };
    let (few, many) = (took(2_000), took(16_000));
    // Eight times as many, with room for a busy machine; of a square it would be 64 times.
    assert!(many < few * 32, "{few:?} and {many:?}");
}

#[cfg(unix)]
#[test]
fn a_planted_link_in_the_place_of_the_log_is_refused() {
    for name in ["run.db", "run.db-wal", "run.db-shm"] {
        let scratch = Scratch::new();
        scratch.rows(1).job("backends: { a: { type: echo } }");
        scratch.write("victim", "").write("out/x", "");
        let link = scratch.path().join("out").join(name);
        std::os::unix::fs::symlink("../victim", link).unwrap();
        let ran = scratch.runner(&["job.yaml"]).exits(6);
        ran.says(&format!(
            "out/{name} is a link or no regular file; remove it"
        ));
        let victim = fs::read(scratch.path().join("victim")).unwrap();
        assert!(victim.is_empty(), "{name}");
    }
}

#[test]
fn backends_that_are_tried_one_by_one_keep_their_answers_when_they_are_compared() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(2).job(&format!(
        "backends: {{ {}, {} }}",
        server.backend("a", ""),
        server.backend("b", ", temperature: 0.5")
    ));
    for (matrix, requests) in [("[a]", 2), ("[b]", 4), ("[a, b]", 4), ("[[b, a], a]", 4)] {
        let matrix = format!("matrix={matrix}");
        scratch.runner(&["job.yaml", "--set", &matrix]).exits(0);
        assert_eq!(server.requests(), requests, "{matrix}");
    }
}

#[test]
fn columns_that_change_places_while_rows_are_left_out_are_put_right_when_they_come_back() {
    let scratch = Scratch::new();
    scratch.job("backends: { a: { type: echo, delay: 0ms } }");
    scratch.write("rows.csv", "n,text\n1,one\n2,two\n3,three\n");
    scratch.run(0);
    scratch.write("rows.csv", "text,n\none,1\ntwo,2\nthree,3\n");
    scratch.runner(&["job.yaml", "--limit", "1"]).exits(0);
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("text"), ["one", "two", "three"]);
    assert_eq!(published.answers(), ["one", "two", "three"]);
}

#[test]
fn starting_anew_twice_does_not_lose_what_was_answered() {
    let scratch = Scratch::new();
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, delay: 0ms } }");
    scratch.run(0);
    // Killed, as it were, before anything was asked.
    scratch
        .runner(&["job.yaml", "--fresh", "--set", "prompt={{ text[9] }}"])
        .exits(2);
    let failing = "backends={ a: { type: echo, failures: { server: 100% } } }";
    scratch.write("rows.csv", "text\n");
    scratch
        .runner(&["job.yaml", "--fresh", "--set", failing])
        .exits(0);
    scratch
        .runner(&["job.yaml", "--fresh", "--set", failing])
        .exits(0);
    let previous = scratch.path().join("out/run.db.previous");
    let previous = rusqlite::Connection::open(previous).unwrap();
    let count = "SELECT count(*) FROM outcomes";
    let answers: u32 = previous.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(answers, 3);
}
