use std::time::Duration;

use crate::scratch::{Ran, Scratch};
use crate::served::{self, Served};

/// How late this machine may be, by the server's clock.
const LATE: Duration = Duration::from_millis(70);

#[test]
fn requests_per_minute_spaces_the_requests_evenly_but_for_half_a_second() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(15).job(&format!(
        "backends: {{ {} }}",
        server.backend("a", ", limits: { requests_per_minute: 600 }")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 15);
    let arrivals = server.arrivals();
    assert_eq!(arrivals.len(), 15);
    for (number, early) in arrivals.iter().enumerate() {
        for (gaps, late) in (1..).zip(&arrivals[number + 1..]) {
            // Ten a second, of which five may come at once.
            let least = Duration::from_millis(100) * u32::saturating_sub(gaps, 4);
            assert!(
                *late - *early + LATE >= least,
                "{gaps} gaps in {:?}",
                *late - *early
            );
        }
    }
}

#[test]
fn a_backend_never_has_more_requests_at_once_than_its_limit() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(20), |_, _| served::says("x"));
    scratch.rows(14).job(&format!(
        "backends: {{ {} }}",
        server.backend("a", ", limits: { concurrency: 2 }")
    ));
    scratch.run(0);
    assert_eq!((server.most_at_once(), server.requests()), (2, 14));
}

#[test]
fn the_job_never_has_more_requests_at_once_than_its_concurrency() {
    let scratch = Scratch::new();
    let thinks = Duration::from_millis(20);
    // A first backend that fails half of the rows, so that both are busy at once.
    let first = Served::slowly(thinks, |number, _| match number % 2 {
        0 => served::fails(500, "server_error"),
        _ => served::says("first"),
    });
    let second = Served::slowly(thinks, |_, _| served::says("second"));
    scratch.rows(20).job(&format!(
        "backends: {{ {}, {} }}\nconcurrency: 3\nretry: {{ attempts: 1 }}",
        first.backend("a", ""),
        second.backend("b", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(
        published
            .answers()
            .iter()
            .filter(|a| **a == "second")
            .count(),
        10
    );
    assert_eq!(first.most_at_once(), 3);
    assert!(second.most_at_once() <= 3);
}

#[test]
fn a_row_that_never_fits_a_limit_fails_at_once_and_does_not_wait() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch
        .write(
            "rows.csv",
            format!("text\n{}\nshort\n", "word ".repeat(400)),
        )
        .job(&format!(
            "backends: {{ {} }}",
            server.backend("a", ", limits: { tokens_per_minute: 100 }")
        ));
    let (ran, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["failed", "answered"]);
    assert_eq!(server.requests(), 1);
    assert_eq!(
        published.lines[0]["error"]["message"],
        "the request needs about 520 tokens, more than the limit of 100 a minute"
    );
    assert_eq!(published.report["cost"]["possibly_billed_usd"], "0.00");
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

/// A shell that allows what it starts so many open files.
fn with_open_files(scratch: &Scratch, limit: &str, args: &[&str]) -> Ran {
    let shell = format!("ulimit {limit} && exec \"$@\"");
    scratch.under("sh", &["-c", &shell, "sh"], args)
}

#[test]
fn a_run_that_may_open_too_few_files_says_so_and_has_fewer_rows_in_flight() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(60), |_, _| served::says("x"));
    scratch.rows(300).job(&format!(
        "backends: {{ {} }}\nconcurrency: 1000",
        server.backend("a", "")
    ));
    let told = "warning: 1,000 rows in flight may need 1,040 open files, and this process is allowed 64: no more than 24 are \
                in flight at once; allow more (`ulimit -n 1040`), or lower `concurrency`";
    with_open_files(&scratch, "-n 64", &["check", "job.yaml"])
        .exits(0)
        .says(told);
    with_open_files(&scratch, "-n 64", &["plan", "job.yaml"])
        .exits(0)
        .says(told);
    with_open_files(&scratch, "-n 64", &["job.yaml"])
        .exits(0)
        .says(told);
    let published = scratch.published("out", 0);
    assert_eq!(published.count("answered"), 300);
    // None failed for want of a file.
    assert_eq!(server.requests(), 300);
    assert_eq!(server.most_at_once(), 24);
}

#[test]
fn the_limit_on_open_files_is_raised_where_that_is_allowed() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(50), |_, _| served::says("x"));
    scratch.rows(800).job(&format!(
        "backends: {{ {} }}\nconcurrency: 100",
        server.backend("a", "")
    ));
    with_open_files(&scratch, "-S -n 64", &["job.yaml"])
        .exits(0)
        .never_says("warning");
    assert_eq!(server.requests(), 800);
    // With 64 files there would not be so many connections.
    assert!(server.most_at_once() > 50, "{}", server.most_at_once());
}

#[test]
fn a_job_without_connections_needs_no_open_files_for_its_rows() {
    let scratch = Scratch::new();
    scratch
        .rows(100)
        .job("backends: { a: { type: echo, delay: 1ms } }\nconcurrency: 1000");
    with_open_files(&scratch, "-n 64", &["job.yaml"])
        .exits(0)
        .never_says("warning");
    assert_eq!(scratch.published("out", 0).count("answered"), 100);
}

#[test]
fn no_more_rows_are_in_flight_over_all_backends_than_the_job_says_also_while_answers_are_stored() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(100), |_, _| served::says("x"));
    scratch.rows(300).job(&format!(
        "backends: {{ {}, {} }}\nmatrix: [a, b]\nconcurrency: 40",
        server.backend("a", ", limits: { concurrency: 40 }"),
        server.backend("b", ", limits: { concurrency: 40 }"),
    ));
    scratch.run(0);
    assert_eq!(server.requests(), 600);
    let most = server.most_at_once();
    assert!((30..=40).contains(&most), "{most}");
}
