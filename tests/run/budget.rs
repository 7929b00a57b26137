//! A budget holds over all runs of a job, whatever happens; and rows that it has no room for say so.

use std::time::Duration;

use serde_json::Value;

use crate::published::{Published, units};
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

/// What an answer of [`Served`] costs: 10 tokens at 1 and 5 at 2 dollars a million.
const ANSWER: i128 = 20_000_000_000;

fn amount(value: &Value) -> i128 {
    units(value.as_str().expect("a decimal string"))
}

/// What the report says that was spent, at most.
fn spent(published: &Published) -> i128 {
    let cost = &published.report["cost"];
    amount(&cost["total_usd"]) + amount(&cost["possibly_billed_usd"])
}

#[test]
fn a_budget_is_never_passed_and_a_higher_one_goes_on() {
    let scratch = Scratch::new();
    let server = Served::echo();
    // Each answer costs 20 millionths of a dollar, and may cost about a hundred.
    scratch.rows(40).job(&format!(
        "backends: {{ {} }}\nbudget: 0.0005",
        server.backend("a", "")
    ));
    let (ran, published) = scratch.run(4);
    let answered = published.count("answered");
    assert_eq!(published.count("skipped_budget"), 40 - answered);
    assert_eq!(server.requests(), answered);
    let cap = units("0.0005");
    assert_eq!(spent(&published), answered as i128 * ANSWER);
    assert!(spent(&published) <= cap);
    // Less is left than one more request may cost.
    assert!(
        spent(&published) + units("0.000104") > cap,
        "{answered} answered"
    );
    let report = &published.report["budget"];
    assert_eq!(amount(&report["usd"]), cap);
    assert_eq!(
        amount(&report["spent_usd"]) + amount(&report["left_usd"]),
        cap
    );
    assert_eq!(
        (&report["mode"], &report["passed_by_usd"]),
        (&"strict".into(), &"0.00".into())
    );
    let skipped = |line: &&Value| line["status"] == "skipped_budget";
    let skipped = published.lines.iter().find(skipped).expect("one");
    assert_eq!(skipped["error"]["kind"], "budget");
    assert!(
        skipped["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("it may cost up to $0.0001")
    );
    ran.says("of the budget of $0.0005 spent, the $0.0")
        .says(&format!(
            "exit 4: the budget has no room for {} rows",
            40 - answered
        ));

    let status = scratch.runner(&["status", "out"]).exits(0);
    status.says(" of the budget of $0.0005 is spent, or may have been billed");
    let higher = scratch
        .runner(&["job.yaml", "--set", "budget=0.0006"])
        .exits(4);
    higher.says("of the budget of $0.0006 is spent");
    let published = scratch.published("out", 4);
    assert!(published.count("answered") > answered);
    assert_eq!(
        server.requests(),
        published.count("answered"),
        "none is asked twice"
    );
    assert!(spent(&published) <= units("0.0006"));

    scratch.runner(&["job.yaml", "--set", "budget=1"]).exits(0);
    let published = scratch.published("out", 0);
    assert_eq!((published.count("answered"), server.requests()), (40, 40));
}

#[test]
fn a_budget_counts_what_a_killed_run_may_have_been_billed_for() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(300), |_, seen| {
        served::says(&served::prompt(seen))
    });
    scratch.rows(30).job(&format!(
        "backends: {{ {} }}\nbudget: 0.0012\nconcurrency: 8",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a full house", || server.arrivals().len() == 8);
    running.signal("KILL");
    running.wait();
    let ran = scratch.runner(&["job.yaml"]).exits(4);
    ran.says("of the budget of $0.0012 is spent, or may have been billed, by earlier runs");
    let published = scratch.published("out", 4);
    let cap = units("0.0012");
    assert!(spent(&published) <= cap);
    // Eight were cut, and each of them counts as dear as it can be.
    assert!(amount(&published.report["cost"]["possibly_billed_usd"]) > units("0.0008"));
    assert!(server.requests() as i128 * ANSWER <= cap);
    assert!((1..=15).contains(&published.count("answered")));
}

#[test]
fn an_answer_that_is_not_wanted_gives_back_what_was_reserved_before_the_next_one_is_asked_for() {
    let scratch = Scratch::new();
    let cut = Served::new(|_, _| served::ends("cu", "length"));
    let whole = Served::echo();
    // Room for one request at a time, and for both answers of all rows.
    scratch.rows(3).job(&format!(
        "backends: {{ {}, {} }}\nfallback: [a, b]\nfallback_on: [truncated]\nbudget: 0.000205",
        cut.backend("a", ""),
        whole.backend("b", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["row 1", "row 2", "row 3"]);
    assert_eq!(spent(&published), 6 * ANSWER);
}

#[test]
fn what_the_cache_or_another_row_has_needs_no_money() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch
        .write("rows.csv", "text\nsame\nsame\nsame\n")
        .job(&format!(
            "backends: {{ {} }}\nbudget: 0.0001\ndedupe: true\ncache: answers.db",
            server.backend("a", "")
        ));
    scratch.run(0);
    scratch
        .runner(&["job.yaml", "--set", "budget=0", "--out", "other"])
        .exits(0);
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_fresh_start_has_the_whole_budget_again() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.rows(4).job(&format!(
        "backends: {{ {} }}\nbudget: 0.00017",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(spent(&published), 4 * ANSWER);
    let (_, published) = scratch.run_fresh(0);
    assert_eq!(spent(&published), 4 * ANSWER);
}

#[test]
fn a_strict_budget_refuses_what_earlier_runs_spent_without_a_bound() {
    let scratch = Scratch::new();
    let server = Served::echo();
    let job = |more: &str| {
        format!(
            "backends: {{ a: {{ type: openai, url: \"{}/v1\", model: unheard-of, max_tokens: 16{more} }} }}",
            server.url()
        )
    };
    scratch.rows(2).job(&job(""));
    scratch.run(0);
    let priced = job(", price: { input: 1, output: 2 }");
    scratch.rows(3).job(&format!("{priced}\nbudget: 1"));
    scratch
        .runner(&["job.yaml"])
        .exits(2)
        .says(
            "the budget of $1.00 cannot be kept: nobody knows what 2 attempts of earlier runs cost",
        )
        .says("--fresh");
    assert_eq!(server.requests(), 2);
    scratch.job(&format!("{priced}\nbudget: {{ usd: 1, mode: calibrated }}"));
    scratch
        .runner(&["job.yaml"])
        .exits(0)
        .says("nobody knows what 2 attempts of earlier runs cost; the budget leaves them out")
        .says("the budget is calibrated: it may be passed, by at most $0.00");
    assert_eq!(server.requests(), 3);
}

#[test]
fn one_row_costs_no_more_than_it_may() {
    let scratch = Scratch::new();
    let server = Served::echo();
    let long = "long ".repeat(40);
    scratch
        .write("rows.csv", format!("text\nshort\n{long}\nshort too\n"))
        .job(&format!(
            "backends: {{ {} }}\nmax_cost_per_row: 0.00012",
            server.backend("a", "")
        ));
    // It is a row without an answer, and no end of the budget.
    let (ran, published) = scratch.run(3);
    assert_eq!(
        published.statuses(),
        ["answered", "skipped_budget", "answered"]
    );
    ran.says("first budget: row rows.csv:2: it may cost up to $0.000296 on a, and $0.00012 of the $0.00012 of");
}

#[test]
fn what_a_killed_run_may_have_been_billed_for_a_row_counts_for_that_row() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(300), |_, seen| {
        served::says(&served::prompt(seen))
    });
    scratch.rows(4).job(&format!(
        "backends: {{ {} }}\nmax_cost_per_row: 0.00012\nconcurrency: 2",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("two requests", || server.arrivals().len() == 2);
    running.signal("KILL");
    running.wait();
    scratch.runner(&["job.yaml"]).exits(3);
    let published = scratch.published("out", 3);
    let (skipped, answered) = ("skipped_budget", "answered");
    assert_eq!(published.statuses(), [skipped, skipped, answered, answered]);
    assert_eq!(server.requests(), 4);
}

#[test]
fn a_run_that_wastes_too_much_ends_early() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number % 2 {
        0 => served::ends("cu", "length"),
        _ => served::says(&served::prompt(seen)),
    });
    let job = |more: &str| {
        format!(
            "backends: {{ {} }}\nconcurrency: 1\nmax_failures: 100%\n{more}",
            server.backend("a", "")
        )
    };
    scratch
        .rows(60)
        .job(&job("max_waste: { share: 40%, after: 10 }"));
    let (ran, published) = scratch.run(4);
    assert!(
        (10..=12).contains(&server.requests()),
        "{}",
        server.requests()
    );
    assert_eq!(published.count("not_run"), 60 - server.requests());
    ran.says("of the $0.0002 paid for 10 rows was wasted, more than `max_waste` allows")
        .says("exit 4: more was wasted than max_waste allows");
    // What was wasted before is not held against the next run; half is less than allowed then.
    scratch.job(&job("max_waste: 60%"));
    scratch.runner(&["job.yaml"]).exits(0);
    scratch.published("out", 0);
}
