use std::time::Duration;

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
    scratch.run(0);
}

#[test]
fn a_reader_of_stdout_that_leaves_does_not_end_the_run() {
    let scratch = Scratch::new();
    scratch
        .rows(50)
        .job("backends: { a: { type: echo, delay: 20ms } }");
    let mut running = scratch.start_piped(&["job.yaml"]);
    drop(running.stdout());
    running.wait().exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("answered"), 50);
    assert!(scratch.path().join("out/report.md").is_file());
}

#[test]
fn a_third_interrupt_does_not_even_wait_for_the_results() {
    let scratch = Scratch::new();
    let server = Served::always(Act::Hang(Vec::new()));
    // Enough rows that writing all of them down as not run takes a while.
    scratch.rows(300_000).job(&format!(
        "backends: {{ {} }}\nconcurrency: 1",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("the first request", || !server.arrivals().is_empty());
    running.signal("INT");
    running.says("stopping: ");
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    let asked = std::time::Instant::now();
    running.signal("INT");
    let ran = running.wait().exits(130);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    ran.says("left without results; the answers are in out/run.db");
    assert!(!scratch.path().join("out/results.csv").exists());
}

#[test]
fn the_store_of_a_killed_run_is_kept_with_every_answer_that_was_committed() {
    let scratch = Scratch::new();
    let server = Served::new(|request, _| match request {
        0..8 => served::says("x"),
        _ => Act::Hang(Vec::new()),
    });
    let hanging = format!(
        "backends: {{ {} }}\nconcurrency: 2",
        server.backend("a", "")
    );
    scratch.rows(20).job(&hanging);
    let stored = |name: &str| {
        let connection = rusqlite::Connection::open(scratch.path().join("out").join(name));
        let count = "SELECT count(*) FROM outcomes WHERE status = 'answered'";
        let rows = connection.and_then(|db| db.query_row(count, [], |row| row.get::<_, u64>(0)));
        rows.unwrap_or(0)
    };
    let running = scratch.start(&["job.yaml"]);
    until("eight answers in the store", || stored("run.db") == 8);
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
    scratch.job("backends: { a: { type: echo, delay: 0ms } }");
    scratch.run(0);
    assert_eq!(stored("run.db.previous"), 8);
    assert_eq!(stored("run.db"), 20);
}
