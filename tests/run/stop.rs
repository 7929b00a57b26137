use std::time::Duration;

use serde_json::Value;

use crate::loopback::Act;
use crate::published::units;
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

#[test]
fn an_interrupt_lets_requests_in_flight_end_and_starts_no_others() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let scratch = Scratch::new();
        let server = Served::slowly(Duration::from_millis(300), |_, seen| {
            served::says(&served::prompt(seen))
        });
        scratch.rows(30).job(&format!(
            "backends: {{ {} }}\nconcurrency: 4",
            server.backend("a", "")
        ));
        let running = scratch.start(&["job.yaml"]);
        until("a full house", || server.arrivals().len() == 4);
        running.signal(signal);
        let ran = running.wait().exits(code);
        let published = scratch.published("out", code);
        assert_eq!(server.requests(), 4);
        assert_eq!(published.statuses()[..4], ["answered"; 4]);
        assert_eq!(published.statuses()[4..], ["not_run"; 26]);
        assert_eq!(
            published.answers()[..4],
            ["row 1", "row 2", "row 3", "row 4"]
        );
        ran.says("stopping: waiting for requests in flight; once more to give them up")
            .says(&format!("exit {code}: stopped with 26 rows not answered"));
    }
}

#[test]
fn what_was_noted_down_ahead_and_not_sent_is_as_if_it_had_not_been_asked() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(600), |_, _| served::says("x"));
    scratch.rows(600).job(&format!(
        "backends: {{ {} }}\nconcurrency: 64",
        server.backend("a", ", limits: { concurrency: 64 }")
    ));
    let running = scratch.start(&["job.yaml", "--json"]);
    until("a full house", || server.arrivals().len() > 16 + 32 + 64);
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db")).unwrap();
    let count = |which: &str| -> usize {
        let query = format!("SELECT count(*) FROM attempts WHERE {which}");
        store.query_row(&query, [], |line| line.get(0)).unwrap()
    };
    until("more are noted down than there are places", || {
        count("latency_us IS NULL") > 64
    });
    running.signal("INT");
    let ran = running.wait().exits(130);
    let mut told = ran.stdout.lines();
    let stopping = told.find(|line| line.contains("\"stopping\""));
    let stopping: Value = serde_json::from_str(stopping.expect("it says so")).unwrap();
    let in_flight = stopping["in_flight"].as_u64().expect("a count");
    assert!(
        in_flight <= 64,
        "what is only noted down is not: {in_flight}"
    );
    let published = scratch.published("out", 130);
    let answered = published.count("answered");
    assert_eq!(answered + published.count("not_run"), 600);
    assert_eq!(server.requests(), answered);
    assert_eq!(count("true"), answered);
    assert_eq!(count("latency_us IS NULL"), 0);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn an_interrupt_counts_when_every_row_is_already_in_flight() {
    let scratch = Scratch::new();
    // The limit lets one through; the other rows stand in its queue.
    let server = Served::slowly(Duration::from_millis(300), |_, _| served::says("x"));
    scratch.rows(5).job(&format!(
        "backends: {{ {} }}",
        server.backend("a", ", limits: { concurrency: 1 }")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("the first request", || server.arrivals().len() == 1);
    running.signal("INT");
    running.wait().exits(130);
    let published = scratch.published("out", 130);
    assert_eq!(
        (published.count("answered"), published.count("not_run")),
        (1, 4)
    );
    assert_eq!(server.requests(), 1);
}

#[test]
fn an_interrupt_does_not_wait_for_a_retry_or_a_pause() {
    for (status, code) in [(500, "server_error"), (429, "rate_limit_exceeded")] {
        let scratch = Scratch::new();
        let server = Served::always(served::fails_with(status, code, &[("retry-after", "60")]));
        scratch.rows(3).job(&format!(
            "backends: {{ {} }}\nretry: {{ initial: 60s, max: 60s }}",
            server.backend("a", "")
        ));
        let running = scratch.start(&["job.yaml"]);
        until("the first request", || !server.arrivals().is_empty());
        std::thread::sleep(Duration::from_millis(200));
        running.signal("INT");
        let ran = running.wait().exits(130);
        assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
        let published = scratch.published("out", 130);
        assert_eq!(published.lines.len(), 3);
        assert_eq!(published.count("answered"), 0);
    }
}

#[test]
fn a_second_interrupt_gives_up_what_is_in_flight() {
    let scratch = Scratch::new();
    let server = Served::always(Act::Hang(Vec::new()));
    scratch.rows(30).job(&format!(
        "backends: {{ {} }}\nconcurrency: 3",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a full house", || server.arrivals().len() == 3);
    running.signal("INT");
    running.says("stopping: ");
    let asked = std::time::Instant::now();
    running.signal("INT");
    running.wait().exits(130);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    let published = scratch.published("out", 130);
    assert_eq!(
        (published.count("failed"), published.count("not_run")),
        (3, 27)
    );
    assert_eq!(published.report["attempts"]["by_class"]["cancelled"], 3);
    // What was given up may have been billed.
    let at_most = published.report["cost"]["possibly_billed_usd"]
        .as_str()
        .unwrap();
    assert!(units(at_most) > 0, "{at_most}");
}

#[test]
fn a_second_runner_in_the_same_directory_is_turned_away() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(500), |_, _| served::says("x"));
    scratch
        .rows(2)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let first = scratch.start(&["job.yaml"]);
    until("the first request", || !server.arrivals().is_empty());
    let second = scratch.runner(&["job.yaml"]).exits(75);
    assert!(second.took < Duration::from_secs(1), "{:?}", second.took);
    let holder = format!("error: another runner (process {}) holds out\n", first.id());
    assert_eq!(second.stderr, holder);
    first.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("answered"), 2);
    assert_eq!(server.requests(), 2);
    // The lock goes with its holder.
    scratch.run(0);
}

#[test]
fn a_killed_runner_leaves_no_lock_behind() {
    let scratch = Scratch::new();
    let server = Served::always(Act::Hang(Vec::new()));
    scratch
        .rows(1)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let running = scratch.start(&["job.yaml"]);
    until("the first request", || !server.arrivals().is_empty());
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
    scratch.job("backends: { a: { type: echo } }");
    scratch.run_fresh(0);
}

#[test]
fn a_reader_of_stdout_that_leaves_does_not_end_the_run() {
    let scratch = Scratch::new();
    scratch
        .rows(50)
        .job("backends: { a: { type: echo, delay: 20ms } }");
    for more in [&["--fresh"][..], &["--fresh", "--json"]] {
        let mut running = scratch.start_piped(&[&["job.yaml"], more].concat());
        drop(running.stdout());
        running.wait().exits(0);
        let published = scratch.published("out", 0);
        assert_eq!(published.count("answered"), 50);
        assert!(scratch.path().join("out/report.md").is_file());
    }
}

#[test]
fn a_second_interrupt_ends_within_a_second_however_much_there_is_to_publish() {
    for signal in ["INT", "TERM"] {
        let scratch = Scratch::new();
        let server = Served::new(|number, seen| match number {
            0..5 => served::says(&served::prompt(seen)),
            _ => Act::Hang(Vec::new()),
        });
        // Enough rows that writing all of them down takes longer than that.
        scratch.rows(60_000).job(&format!(
            "backends: {{ {} }}\nconcurrency: 2",
            server.backend("a", "")
        ));
        let running = scratch.start(&["job.yaml"]);
        until("two requests that hang", || server.arrivals().len() == 7);
        running.signal(signal);
        running.says("stopping: ");
        let asked = std::time::Instant::now();
        running.signal(signal);
        let ran = running
            .wait()
            .exits(if signal == "INT" { 130 } else { 143 });
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        ran.says("left without results; the answers are in out/run.db");
        assert!(!scratch.path().join("out/results.csv").exists());
        let store = rusqlite::Connection::open(scratch.path().join("out/run.db")).unwrap();
        let answered = "SELECT count(*) FROM outcomes WHERE status = 'answered'";
        let answered: u32 = store.query_row(answered, [], |row| row.get(0)).unwrap();
        assert_eq!(answered, 5);
    }
}

#[test]
fn a_run_that_was_interrupted_goes_on_with_the_same_command() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(200), |_, seen| {
        served::says(&served::prompt(seen))
    });
    scratch.rows(12).job(&format!(
        "backends: {{ {} }}\nconcurrency: 4",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a full house", || server.arrivals().len() == 4);
    running.signal("INT");
    running
        .wait()
        .exits(130)
        .says("8 rows not answered; run the same command again to go on");
    let (ran, published) = scratch.run(0);
    ran.says("unchanged 4 | changed 0 | new 8 | removed 0 | unknown 0\n");
    assert_eq!(published.count("answered"), 12);
    assert_eq!(server.requests(), 12);
}

#[test]
fn a_run_that_was_held_up_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(50), |_, seen| {
        served::says(&served::prompt(seen))
    });
    scratch.rows(40).job(&format!(
        "backends: {{ {} }}\nconcurrency: 4",
        server.backend("a", ", limits: { requests_per_minute: 3000, burst: 4 }")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a few requests", || server.arrivals().len() >= 8);
    running.signal("STOP");
    std::thread::sleep(Duration::from_millis(1_500));
    running.signal("CONT");
    running.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("answered"), 40);
    assert_eq!(server.requests(), 40);
    assert!(server.most_at_once() <= 4);
}

#[test]
fn a_closed_stderr_does_not_end_the_run() {
    let scratch = Scratch::new();
    scratch
        .rows(50)
        .job("backends: { a: { type: echo, delay: 5ms, failures: { server: 10% } } }\nretry: { initial: 1ms }");
    let command = format!(
        "{} job.yaml 2>&- >&-; echo $? > code",
        env!("CARGO_BIN_EXE_runner")
    );
    let shell = std::process::Command::new("sh")
        .args(["-c", &command])
        .current_dir(scratch.path())
        .status();
    assert!(shell.expect("a shell").success());
    let code = std::fs::read_to_string(scratch.path().join("code")).unwrap();
    assert_eq!(code, "0\n");
    assert_eq!(scratch.published("out", 0).count("answered"), 50);
}
