//! What follows upon answers beside everything else that a job can say.

use std::fs;

use serde_json::Value;

use crate::published::Published;
use crate::scratch::Scratch;

fn rows(scratch: &Scratch) {
    scratch.write("rows.csv", "text,label\nsame,a\nother,b\nsame,a\n");
}

fn figure(published: &Published, name: &str) -> Value {
    published.report["scores"][name]["value"].clone()
}

#[test]
fn the_only_backend_answers_although_it_judges_too() {
    let scratch = Scratch::new();
    rows(&scratch);
    scratch.job(
        "backends: { one: { type: echo, reply: pass } }\n\
         score: { judge: { backend: one, rubric: Is it so? } }",
    );
    let (_, published) = scratch.run(0);
    assert_eq!(published.count("answered"), 3);
    assert_eq!(figure(&published, "judge"), 1.0);
}

#[test]
fn rows_that_take_an_answer_over_are_judged_and_escalated_in_the_same_run() {
    let scratch = Scratch::new();
    rows(&scratch);
    scratch.job(
        "backends:\n\
         \x20 x: { type: echo, reply: a }\n\
         \x20 y: { type: echo, reply: b }\n\
         \x20 z: { type: echo, reply: b }\n\
         \x20 jury: { type: echo, reply: pass }\n\
         matrix: [x, y]\n\
         escalate: z\n\
         dedupe: true\n\
         answer: { labels: [a, b] }\n\
         score: { judge: { backend: jury, rubric: Is it so? } }",
    );
    // Every answer has its verdict, else the run ends with 3.
    scratch.run(0);
    let labels = fs::read_to_string(scratch.path().join("out/labels.csv")).unwrap();
    assert_eq!(labels.matches(",b,escalated,0.500").count(), 3, "{labels}");
}

#[test]
fn whichever_scorer_comes_first_the_labels_are_those_that_were_given() {
    let scratch = Scratch::new();
    rows(&scratch);
    scratch.job(
        "backends:\n\
         \x20 x: { type: echo, reply: a }\n\
         \x20 y: { type: echo, reply: b }\n\
         matrix: [x, y]\n\
         answer: { labels: [a, b] }\n\
         score: [{ regex: \"^[ab]$\" }, { equals: \"{{ label }}\" }]",
    );
    let (_, published) = scratch.run(0);
    let scores = &published.report["scores"];
    assert_eq!(
        (figure(&published, "regex"), figure(&published, "equals")),
        (1.0.into(), 0.5.into())
    );
    // By gold label: a twice, b once; each asked of both.
    assert_eq!(
        scores["confusion"]["counts"],
        serde_json::json!([[2, 2, 0], [1, 1, 0]])
    );
    assert_eq!(scores["kappa"][0]["value"], 0.0, "{}", scores["kappa"]);
}

#[test]
fn a_frozen_run_refuses_another_rule_for_answers_and_their_worth() {
    let scratch = Scratch::new();
    rows(&scratch);
    let job = |labels: &str, gold: &str| {
        scratch.job(&format!(
            "backends: {{ x: {{ type: echo, reply: a }} }}\n\
             answer: {{ labels: [{labels}] }}\n\
             score: {{ equals: \"{gold}\" }}"
        ));
    };
    job("a, b", "{{ label }}");
    scratch.run(0);
    scratch.runner(&["job.yaml", "--frozen"]).exits(0);
    let database = scratch.path().join("out/run.db");
    for (labels, gold) in [("a, b, c", "{{ label }}"), ("a, b", "a")] {
        job(labels, gold);
        let before = fs::read(&database).unwrap();
        let ran = scratch.runner(&["job.yaml", "--frozen"]).exits(2);
        ran.says("out is frozen")
            .says("`answer`, `score` or `escalate` changed");
        assert_eq!(fs::read(&database).unwrap(), before);
    }
}

#[test]
fn a_judge_that_gave_no_verdict_is_asked_again_and_the_first_reason_is_told() {
    let scratch = Scratch::new();
    rows(&scratch);
    let job = |reply: &str| {
        scratch.job(&format!(
            "backends: {{ x: {{ type: echo, reply: a }}, jury: {{ type: echo, reply: {reply} }} }}\n\
             score: {{ judge: {{ backend: jury, rubric: Is it so? }} }}"
        ));
    };
    job("hm");
    for runs in 1..=2 {
        let (ran, published) = scratch.run(3);
        ran.says("3 answers have no score")
            .says("The first, of row rows.csv:1: ");
        // Each time twice for each of three rows.
        assert_eq!(published.report["attempts"]["by_kind"]["judge"], 6 * runs);
    }
    job("pass");
    scratch.run(0);
}

#[test]
fn a_matrix_has_no_entry_that_is_called_as_what_its_answers_come_to() {
    let scratch = Scratch::new();
    rows(&scratch);
    scratch.job(
        "backends: { final: { type: echo }, escalated: { type: echo } }\n\
         matrix: [final, escalated]",
    );
    let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
    ran.says("`final` cannot be an entry")
        .says("`escalated` cannot be an entry");
}

#[test]
fn without_money_for_the_judge_the_budget_is_what_is_wrong() {
    let scratch = Scratch::new();
    rows(&scratch);
    scratch.job(
        "backends:\n\
         \x20 x: { type: echo, reply: a }\n\
         \x20 jury: { type: echo, reply: pass, price: { input: 0, output: 0, per_request: 1 } }\n\
         score: { judge: { backend: jury, rubric: Is it so? } }\n\
         budget: 2",
    );
    let (ran, _) = scratch.run(4);
    ran.says("the budget has no room for judging 1 answer;");
}
