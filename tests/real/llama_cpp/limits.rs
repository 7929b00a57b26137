use std::time::Duration;

use super::protocols::PROTOCOLS;
use super::{Llama, SLOTS};

/// A job of one way to ask, with these limits.
fn job(llama: &Llama, protocol: usize, limits: &str, more: &str) -> String {
    let backend = PROTOCOLS[protocol].backend(llama, limits);
    format!("backends:\n{backend}max_failures: 100%\n{more}")
}

#[test]
fn the_server_never_works_on_more_than_the_limit_allows() {
    let Some(llama) = Llama::start("the_server_never_works_on_more_than_the_limit_allows") else {
        return;
    };
    let scratch = llama.scratch();
    let job = job(&llama, 0, "limits: { concurrency: 2 }", "concurrency: 64")
        .replace("max_tokens: 24", "max_tokens: 300");
    scratch.rows(80).job(&job);
    let mut running = scratch.start(&["job.yaml"]);
    let mut most = 0;
    while !running.has_ended() {
        most = most.max(llama.working_on());
    }
    running.wait().exits(0);
    assert!((1..=2).contains(&most), "{most} at once");
}

#[test]
fn without_a_limit_a_job_keeps_to_the_slots_of_the_server() {
    let Some(llama) = Llama::start("without_a_limit_a_job_keeps_to_the_slots_of_the_server") else {
        return;
    };
    let scratch = llama.scratch();
    let job = job(&llama, 4, "", "concurrency: 64").replace("max_tokens: 24", "max_tokens: 300");
    scratch.rows(120).job(&job);
    let mut running = scratch.start(&["job.yaml"]);
    let (mut most, mut waiting) = (0, 0);
    while !running.has_ended() {
        most = most.max(llama.counts("requests_processing"));
        waiting = waiting.max(llama.counts("requests_deferred"));
    }
    running.wait().exits(0);
    assert!((2..=SLOTS).contains(&most), "{most} at once");
    assert!(waiting <= SLOTS, "{waiting} requests waited in the server");
}

#[test]
fn requests_per_minute_are_kept_to() {
    let Some(llama) = Llama::start("requests_per_minute_are_kept_to") else {
        return;
    };
    let scratch = llama.scratch();
    scratch.rows(40).job(&job(
        &llama,
        0,
        "limits: { requests_per_minute: 600 }",
        "concurrency: 64",
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.report["attempts"]["total"], 40);
    // Ten a second, the first second's at once.
    assert!(
        ran.took > Duration::from_millis(2500),
        "40 requests took {:?}",
        ran.took
    );
}

#[test]
fn connections_that_the_server_closes_after_a_hundred_requests_cost_no_attempt() {
    let Some(llama) = Llama::start("connections_that_the_server_closes_cost_no_attempt") else {
        return;
    };
    let scratch = llama.scratch();
    scratch
        .rows(450)
        .job(&job(&llama, 0, "limits: { concurrency: 2 }", ""));
    let (_, published) = scratch.run(0);
    assert!(
        published
            .column("run_attempts")
            .iter()
            .all(|attempts| *attempts == "1")
    );
}

#[test]
fn more_connections_than_the_server_has_threads_hold_no_row_up() {
    let Some(llama) = Llama::start("more_connections_than_the_server_has_threads_hold_no_row_up")
    else {
        return;
    };
    let scratch = llama.scratch();
    let limits = "limits: { concurrency: 64 }";
    scratch
        .rows(500)
        .job(&job(&llama, 0, limits, "concurrency: 64"));
    // Not every run leaves somebody waiting behind idle connections.
    for _ in 0..3 {
        let (_, published) = scratch.run_fresh(0);
        let lines = published.lines.iter();
        let slowest = lines.map(|line| line["latency_ms"].as_u64().unwrap()).max();
        // An idle connection holds one of its threads for five seconds.
        assert!(slowest < Some(4500), "the slowest took {slowest:?} ms");
    }
}
