use crate::scratch::Scratch;
use crate::served::{self, Served};

const FAILING: &str = "type: echo, delay: 0ms, failures: { server: 100% }";

#[test]
fn a_request_too_large_for_one_backends_limit_is_asked_of_the_next() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(3).job(&format!(
        "backends:\n\
         \x20 {}\n\
         \x20 wide: {{ type: echo, delay: 0ms }}",
        server.backend("narrow", ", limits: { input_tokens_per_minute: 1 }")
    ));
    let (_, published) = scratch.run(0);
    for row in 0..3 {
        assert_eq!(published.attempts(row), ["wide fallback ok"]);
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn backends_are_tried_in_the_order_of_fallback_and_no_others() {
    let scratch = Scratch::new();
    scratch.rows(2).job(&format!(
        "backends:\n\
         \x20 never: {{ type: echo }}\n\
         \x20 third: {{ type: echo, delay: 0ms }}\n\
         \x20 second: {{ {FAILING} }}\n\
         \x20 first: {{ {FAILING} }}\n\
         fallback: [first, second, third]\nretry: {{ attempts: 2, initial: 1ms }}"
    ));
    let (_, published) = scratch.run(0);
    let attempts = [
        "first first server",
        "first retry server",
        "second fallback server",
        "second retry server",
        "third fallback ok",
    ];
    for row in 0..2 {
        assert_eq!(published.attempts(row), attempts);
    }
    assert_eq!(published.report["rows"]["fell_back"], 2);
    // A backend outside the order has no part in the run.
    let report = &published.report;
    assert!(report["attempts"]["by_backend"].get("never").is_none());
    assert!(report["cost"]["by_backend"].get("never").is_none());
}

#[test]
fn without_fallback_the_order_is_that_of_the_backends() {
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!(
        "backends: {{ z: {{ {FAILING} }}, a: {{ type: echo, delay: 0ms }} }}\n\
         retry: {{ attempts: 1 }}"
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.attempts(0), ["z first server", "a fallback ok"]);
}

#[test]
fn a_reply_that_was_billed_is_kept_and_nobody_else_is_asked() {
    let scratch = Scratch::new();
    let second = Served::echo();
    for (reply, status) in [
        (served::ends("half", "length"), "truncated"),
        (served::ends("", "content_filter"), "filtered"),
        (served::says(""), "empty"),
    ] {
        let first = Served::always(reply);
        scratch.rows(2).job(&format!(
            "backends: {{ {}, {} }}",
            first.backend("a", ""),
            second.backend("b", "")
        ));
        let (_, published) = scratch.run(3);
        assert_eq!(published.statuses(), [status; 2]);
        assert_eq!((first.requests(), second.requests()), (2, 0));
    }
}

#[test]
fn a_row_that_every_backend_fails_keeps_all_its_attempts() {
    let scratch = Scratch::new();
    let first = Served::always(served::fails(503, "overloaded"));
    let second = Served::always(served::fails(500, "server_error"));
    scratch.rows(2).job(&format!(
        "backends: {{ {}, {} }}\nretry: {{ attempts: 2, initial: 1ms }}",
        first.backend("a", ""),
        second.backend("b", "")
    ));
    let (ran, published) = scratch.run(3);
    let attempts = [
        "a first server",
        "a retry server",
        "b fallback server",
        "b retry server",
    ];
    assert_eq!(published.attempts(1), attempts);
    assert_eq!((first.requests(), second.requests()), (4, 4));
    // The last failure is the row's.
    let error = published.lines[0]["error"]["message"].as_str().unwrap();
    assert!(error.contains("answered 500"), "{error}");
    ran.says("exit 3: 2 rows have no answer");
}

#[test]
fn two_backends_that_are_stopped_end_the_run_with_5() {
    let scratch = Scratch::new();
    let first = Served::always(served::fails(401, "invalid_api_key"));
    let second = Served::always(served::fails(404, "model_not_found"));
    scratch.rows(20).job(&format!(
        "backends: {{ {}, {} }}\nconcurrency: 1",
        first.backend("a", ""),
        second.backend("b", "")
    ));
    let (ran, published) = scratch.run(5);
    assert_eq!(
        published.attempts(0),
        ["a first config", "b fallback config"]
    );
    assert_eq!(
        (published.count("failed"), published.count("not_run")),
        (1, 19)
    );
    assert_eq!((first.requests(), second.requests()), (1, 1));
    ran.says("warning: backend a is not asked any more (config): ")
        .says("warning: backend b is not asked any more (config): ")
        .says("exit 5: no backend is left that could be asked");
}

#[test]
fn rows_that_wait_for_a_backend_leave_it_when_it_is_stopped() {
    let scratch = Scratch::new();
    let first = Served::always(served::fails(401, "invalid_api_key"));
    // At this pace the queue would be a minute and a half long.
    scratch.rows(10).job(&format!(
        "backends: {{ {}, b: {{ type: echo, delay: 0ms }} }}",
        first.backend("a", ", limits: { requests_per_minute: 6 }")
    ));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 10);
    assert_eq!(first.requests(), 1);
    assert!(
        ran.took < std::time::Duration::from_secs(5),
        "{:?}",
        ran.took
    );
}
