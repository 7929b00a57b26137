//! Rows on which the entries of a matrix do not agree go to those who decide; what the answers come to together.

use crate::published::{Published, read_csv};
use crate::scratch::Scratch;
use crate::served::{self, Served, prompt, says};

const ANSWER: &str = "answer: { labels: [bug, question], abstain: unsure, reask: 0 }";

/// A server that answers the rows, in order, with these texts; with a bad request where there is none.
fn server(answers: &'static [&'static str]) -> Served {
    Served::new(move |_, seen| {
        let row = prompt(seen);
        let row = row.strip_prefix("row ").and_then(|row| row.parse().ok());
        match row.and_then(|row: usize| answers.get(row - 1)) {
            Some(answer) if !answer.is_empty() => says(answer),
            _ => served::fails(400, "bad_request"),
        }
    })
}

fn job(scratch: &Scratch, servers: [&Served; 3], rows: usize, more: &str) {
    let [a, b, c] = servers;
    scratch.rows(rows).job(&format!(
        "backends: {{ {}, {}, {} }}\n{ANSWER}\nmatrix: [a, b]\nescalate: c\n{more}",
        a.backend("a", ""),
        b.backend("b", ""),
        c.backend("c", "")
    ));
}

/// `labels.csv`: label, by whom, and agreement of each row.
fn labels(scratch: &Scratch) -> Vec<String> {
    let (header, records) = read_csv(&scratch.path().join("out/labels.csv"));
    let names = ["text", "run_label", "run_label_by", "run_agreement"];
    assert_eq!(header, names);
    records.iter().map(|record| record[1..].join(" ")).collect()
}

fn entries(published: &Published, row: &str) -> Vec<String> {
    let lines = published.lines.iter();
    let lines = lines.filter(|line| line["row"]["text"] == row);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .map(|line| format!("{} {}", text(&line["entry"]), text(&line["answer"])))
        .collect()
}

#[test]
fn only_rows_without_agreement_are_asked_of_who_decides_and_only_once() {
    let scratch = Scratch::new();
    let a = server(&["bug", "bug", "unsure", "maybe", "unsure", "question"]);
    let b = server(&["Bug.", "question", "bug", "bug", "unsure", "question"]);
    let c = server(&["bug", "question", "question", "bug", "unsure", "bug"]);
    job(&scratch, [&a, &b, &c], 6, "max_failures: 1");
    let (ran, published) = scratch.run(0);
    assert_eq!((a.requests(), b.requests()), (6, 6));
    let mut asked: Vec<String> = c.seen().iter().map(prompt).collect();
    asked.sort();
    assert_eq!(asked, ["row 2", "row 3", "row 4", "row 5"]);
    assert_eq!(published.lines.len(), 16);
    assert_eq!(entries(&published, "row 1"), ["a bug", "b bug"]);
    assert_eq!(
        entries(&published, "row 2"),
        ["a bug", "b question", "escalated question"]
    );
    let expected = [
        "bug unanimous 1.000",
        "question escalated 0.500",
        "question escalated 0.000",
        "bug escalated 0.500",
        // Who decides cannot tell either: that is what they agree on.
        "unsure unanimous 1.000",
        "question unanimous 1.000",
    ];
    assert_eq!(labels(&scratch), expected);
    ran.says("rows without agreement are escalated");

    let cost = &published.report["cost"];
    assert_eq!(cost["by_backend"]["c"], "0.00008");
    assert_eq!(cost["total_usd"], "0.00032");
    let escalated = &published.report["entries"]["escalated"];
    assert_eq!(escalated["cost_usd"], "0.00008");
    assert_eq!(escalated["rows"]["total"], 4);
    scratch.runner(&["verify", "out"]).exits(0);

    // Nothing is asked twice, and what is published stays what it is.
    let before = std::fs::read(scratch.path().join("out/labels.csv")).expect("it is there");
    let (ran, _) = scratch.run(0);
    ran.never_says("rows without agreement are escalated");
    assert_eq!([&a, &b, &c].map(Served::requests), [6, 6, 4]);
    scratch.runner(&["export", "out"]).exits(0);
    let after = std::fs::read(scratch.path().join("out/labels.csv")).expect("it is there");
    assert_eq!(before, after);
}

#[test]
fn a_row_that_failed_waits_for_its_answer_before_it_is_escalated() {
    let scratch = Scratch::new();
    let a = server(&["bug", "bug"]);
    let failing = server(&["bug", ""]);
    let c = server(&["question", "question"]);
    job(&scratch, [&a, &failing, &c], 2, "");
    let (_, published) = scratch.run(3);
    assert_eq!(c.requests(), 0);
    assert_eq!(published.count("failed"), 1);
    // One of two is more than none.
    assert_eq!(labels(&scratch)[1], "bug majority 0.500");

    let back = server(&["bug", "question"]);
    job(&scratch, [&a, &back, &c], 2, "");
    // Another address is another question.
    let (_, published) = scratch.run(0);
    assert_eq!((a.requests(), c.requests()), (2, 1));
    assert_eq!(labels(&scratch)[1], "question escalated 0.500");
    assert_eq!(published.lines.len(), 5);
}

#[test]
fn who_was_asked_while_the_others_disagreed_has_no_say_when_they_agree() {
    let scratch = Scratch::new();
    let (a, b) = (server(&["bug"]), server(&["question"]));
    let (c, agrees) = (server(&["question"]), server(&["bug"]));
    job(&scratch, [&a, &b, &c], 1, "");
    scratch.run(0);
    assert_eq!(c.requests(), 1);
    job(&scratch, [&a, &agrees, &c], 1, "");
    let (_, published) = scratch.run(0);
    assert_eq!(labels(&scratch), ["bug unanimous 1.000"]);
    assert_eq!(c.requests(), 1);
    // What it cost stays; what it said does not.
    assert_eq!(published.lines.len(), 2);
    assert_eq!(published.report["cost"]["total_usd"], "0.00008");
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn the_figures_say_what_the_answers_come_to_beside_those_of_each_entry() {
    let scratch = Scratch::new();
    scratch
        .write(
            "rows.csv",
            "text,gold\n1,bug\n2,bug\n3,question\n4,question\n",
        )
        .job(
            "backends:\n\
             \x20 a: { type: echo, delay: 0ms, reply: '{{ gold }}' }\n\
             \x20 b: { type: echo, delay: 0ms, reply: \"{{ 'question' if text == '2' else gold }}\" }\n\
             \x20 c: { type: echo, delay: 0ms, reply: \"{{ 'bug' if text == '2' else 'none' }}\" }\n\
             answer: { labels: [bug, question] }\nscore: { equals: '{{ gold }}' }\n\
             matrix: [a, b]\nescalate: c",
        );
    let (_, published) = scratch.run(0);
    let scores = &published.report["scores"];
    let accuracy = |entry: &str| {
        let found = &scores["by_entry"][entry]["accuracy"];
        (found["value"].as_f64(), found["n"].as_u64())
    };
    assert_eq!(accuracy("a"), (Some(1.0), Some(4)));
    assert_eq!(accuracy("b"), (Some(0.75), Some(4)));
    assert_eq!(accuracy("escalated"), (Some(1.0), Some(1)));
    assert_eq!(accuracy("final"), (Some(1.0), Some(4)));
    // Who is asked last is not in the figures over all.
    assert_eq!(scores["accuracy"]["value"], 0.875);
    assert_eq!(scores["accuracy"]["n"], 8);
    assert_eq!(scores["kappa"][0]["entries"], serde_json::json!(["a", "b"]));
    assert_eq!(scores["kappa"][0]["value"], 0.5);
}

#[test]
fn repeats_of_one_backend_come_to_one_answer_too() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| {
        says(match (prompt(seen).as_str(), number % 3) {
            ("row 1", _) => "bug",
            (_, 0) => "question",
            _ => "unsure",
        })
    });
    scratch.rows(2).job(&format!(
        "backends: {{ {} }}\n{ANSWER}\nrepeat: 3\nconcurrency: 1",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    let expected = ["bug unanimous 1.000", "question majority 0.333"];
    assert_eq!(labels(&scratch), expected);
    assert_eq!(published.report["scores"]["self_agreement"]["n"], 1);
}

#[test]
fn escalation_needs_a_matrix_an_answer_and_a_backend() {
    let scratch = Scratch::new();
    let backends = "backends: { a: { type: echo }, b: { type: echo } }";
    scratch.rows(1);
    for (more, problem) in [
        (
            "escalate: a",
            "`escalate` is for rows on which the entries of a `matrix`",
        ),
        (
            "matrix: [a, b]\nescalate: a",
            "`escalate` needs an `answer`",
        ),
        (
            "matrix: [a, b]\nescalate: z\nanswer: { number: true }",
            "there is no backend `z`",
        ),
    ] {
        scratch.job(&format!("{backends}\n{more}"));
        scratch
            .runner(&["check", "job.yaml"])
            .exits(2)
            .says(problem);
    }
}
