//! One row to each backend: what is told of each, what it costs at most, and that nothing is written.

use std::fs;

use serde_json::Value;

use crate::scratch::Scratch;
use crate::served::{Served, ends, fails, fails_with, says};

#[test]
fn each_backend_of_the_order_is_asked_once_for_the_first_row() {
    let good = Served::echo();
    let bad = Served::always(fails(401, "invalid_api_key"));
    let spare = Served::echo();
    let scratch = Scratch::new();
    scratch.rows(3).job(&format!(
        "backends:\n  {}\n  {}\n  {}\nfallback: [bad, good]",
        good.backend("good", ""),
        bad.backend("bad", ""),
        spare.backend("spare", "")
    ));
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(3)
        .says("good (openai, m): answered in ")
        .says("answer: row 1")
        .says("model: m-2026")
        .says("tokens: 10 in, 5 out; cost: $0.00002")
        .says("bad (openai, m): failed after ")
        .says("answered 401 (invalid_api_key)")
        .says("check the key in OPENAI_API_KEY")
        .says("1 of 2 backends answered row rows.csv:1; it cost $0.00002");
    assert_eq!(
        [good.requests(), bad.requests(), spare.requests()],
        [1, 1, 0]
    );
    // Neither a store nor results.
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");

    scratch
        .runner(&["probe", "job.yaml", "--backend", "spare"])
        .exits(0)
        .never_says("good");
    scratch
        .runner(&["probe", "job.yaml", "--backend", "bad"])
        .exits(5);
    assert_eq!(
        [good.requests(), bad.requests(), spare.requests()],
        [1, 2, 1]
    );
    scratch
        .runner(&["probe", "job.yaml", "--all"])
        .exits(3)
        .says("2 of 3 backends");
    assert_eq!(
        [good.requests(), bad.requests(), spare.requests()],
        [2, 3, 2]
    );
    scratch
        .runner(&["probe", "job.yaml", "--backend", "god"])
        .exits(2)
        .says("no backend `god`");
}

#[test]
fn a_failure_that_would_pass_is_not_asked_again() {
    let busy = Served::always(fails_with(
        429,
        "rate_limit_exceeded",
        &[("retry-after", "0")],
    ));
    let broken = Served::always(fails(500, "server_error"));
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!(
        "backends:\n  {}\n  {}",
        busy.backend("busy", ""),
        broken.backend("broken", "")
    ));
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(5)
        .says("(throttled)")
        .says("(server)");
    assert_eq!([busy.requests(), broken.requests()], [1, 1]);
}

#[test]
fn a_reply_that_is_no_answer_says_what_to_do() {
    let wordy = Served::always(says("a ticket about \u{1b}[31mmoney"));
    let cut = Served::always(ends("bill", "length"));
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!(
        "answer: {{ labels: [billing, bug] }}\nbackends:\n  {}\n  {}",
        wordy.backend("wordy", ""),
        cut.backend("cut", "")
    ));
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(3)
        .says("wordy (openai, m): invalid in ")
        .says("answer: a ticket about \\u{1b}[31mmoney")
        .says("that is not what `answer` asks for: ")
        .says("cut (openai, m): truncated in ")
        .says("raise `max_tokens`")
        .never_says("\u{1b}");
    assert_eq!([wordy.requests(), cut.requests()], [1, 1]);
}

#[test]
fn no_more_is_spent_than_the_budget_has_left() {
    let served = Served::echo();
    let scratch = Scratch::new();
    let job = |budget: &str| {
        scratch.rows(1).job(&format!(
            "{budget}\nbackends:\n  {}\n  {}",
            served.backend("a", ""),
            served.backend("b", "")
        ));
    };
    // Each costs 0.00002, and may cost 0.000101.
    job("budget: 0.00015");
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(4)
        .says("b (openai, m): not asked")
        .says("of the budget is left");
    assert_eq!(served.requests(), 1);
    job("max_cost_per_row: 0.00001");
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(4)
        .says("max_cost_per_row is $0.00001");
    assert_eq!(served.requests(), 1);

    // What runs have spent is gone.
    job("budget: 0.00021");
    scratch.runner(&["job.yaml"]).exits(0);
    assert_eq!(served.requests(), 2);
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(4)
        .says("1 of 2 backends");
    assert_eq!(served.requests(), 3);
}

#[test]
fn programs_are_told_the_same() {
    let headers = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "499"),
    ];
    let served = Served::always(fails_with(400, "context_length_exceeded", &headers));
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!(
        "backends:\n  {}\n  dry: {{ type: echo, reply: hello }}",
        served.backend("a", "")
    ));
    let printed = scratch
        .runner(&["probe", "job.yaml", "--json"])
        .exits(3)
        .stdout;
    let probe: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&probe["schema"], &probe["row"]),
        (&"runner.probe/1".into(), &"rows.csv:1".into())
    );
    let [a, dry] = &probe["backends"].as_array().unwrap()[..] else {
        panic!("{probe}")
    };
    assert_eq!(
        (&a["status"], &a["error"]["class"]),
        (&"failed".into(), &"row_fatal".into())
    );
    assert_eq!(a["limits"]["requests"]["limit"], 500);
    assert_eq!(
        (&dry["status"], &dry["reply"]["text"]),
        (&"answered".into(), &"hello".into())
    );
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(3)
        .says("limits: 500 requests a minute (499 left)");
}

#[test]
fn a_key_that_is_missing_is_told_of_its_backend_alone() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    scratch
        .rows(1)
        .job("backends:\n  gpt: { type: openai, model: gpt-4o-mini }\n  dry: { type: echo }");
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(3)
        .says("the environment variable OPENAI_API_KEY, which must hold the key, is not set")
        .says("dry (echo, echo): answered");
    scratch.write("rows.csv", "text\n");
    scratch
        .runner(&["probe", "job.yaml"])
        .exits(2)
        .says("no row to ask about");
}
