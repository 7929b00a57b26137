//! What an answer must be: what is understood, what is refused, what is asked again and what that costs.

use serde_json::{Value, json};

use crate::loopback::Act;
use crate::scratch::Scratch;
use crate::served::{self, Served, prompt, says};

const LABELS: &str = "answer: { labels: [bug, question] }";

/// A server that gives these replies one after the other, and the last one for ever.
fn replies(all: &[Act]) -> Served {
    let all = all.to_vec();
    Served::new(move |number, _| all[number.min(all.len() - 1)].clone())
}

/// `rows.csv` with a column `text` that holds these cells.
fn texts(scratch: &Scratch, cells: &[&str]) {
    let mut csv = csv::Writer::from_writer(Vec::new());
    for cell in ["text"].iter().chain(cells) {
        csv.write_record([cell]).expect("a vector takes every byte");
    }
    scratch.write("rows.csv", csv.into_inner().expect("it is whole"));
}

/// What becomes of texts that must be this: the answer, or nothing and why.
fn read(answer: &str, cells: &[&str]) -> Vec<Result<String, String>> {
    let scratch = Scratch::new();
    texts(&scratch, cells);
    scratch.job(&format!(
        "backends: {{ a: {{ type: echo, delay: 0ms, reply: \"{{{{ text }}}}\" }} }}\n\
         answer: {{ {answer}, reask: 0 }}\nmax_failures: 100%"
    ));
    let (_, published) = scratch.run(0);
    let lines = published.lines.iter().zip(cells);
    lines
        .map(|(line, cell)| {
            let answer = line["answer"].as_str().expect("an answer").to_owned();
            let said = line["answer_text"].as_str().unwrap_or(&answer);
            assert_eq!(said, *cell, "what the model said is kept");
            assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1));
            match line["status"].as_str() {
                Some("answered") => Ok(answer),
                _ => {
                    assert_eq!(line["status"], "invalid");
                    assert_eq!(line["error"]["kind"], "invalid");
                    Err(line["error"]["message"].as_str().expect("why").to_owned())
                }
            }
        })
        .collect()
}

#[track_caller]
fn refused(found: &Result<String, String>, why: &str) {
    let error = found.as_ref().expect_err("it is not valid");
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_label_is_known_in_fences_in_quotes_and_in_any_case_and_nothing_else_is_one() {
    let cells = [
        "Needs Help",
        " needs  HELP\n",
        "```\nneeds help\n```",
        "```text\nNeeds Help.\n```",
        "\"needs help\"",
        "**Needs Help**",
        "`UNSURE`.",
        "{\"answer\": \"needs help\"}",
        "no needs help",
        "needs",
        "Needs Help, fine",
    ];
    let found = read("labels: [Needs Help, fine], abstain: unsure", &cells);
    for (found, cell) in found[..8].iter().zip(cells) {
        let expected = if cell.contains("UNSURE") {
            "unsure"
        } else {
            "Needs Help"
        };
        assert_eq!(found.as_deref(), Ok(expected), "{cell}");
    }
    for found in &found[8..] {
        refused(found, "is not one of the labels");
    }
}

#[test]
fn patterns_and_numbers_are_checked_and_numbers_come_in_digits() {
    let found = read("pattern: '^[A-Z]{3}$'", &["CHF", "\"EUR\"", "francs"]);
    assert_eq!(found[..2], [Ok("CHF".to_owned()), Ok("EUR".to_owned())]);
    refused(&found[2], "\"francs\" does not match");

    let cells = [
        "42",
        "**1,000**",
        "```\n7.\n```",
        "0",
        "1001",
        "2.5",
        "about 7",
    ];
    let found = read("number: { min: 1, max: 1000, whole: true }", &cells);
    let numbers = ["42", "1000", "7"].map(|digits| Ok(digits.to_owned()));
    assert_eq!(found[..3], numbers);
    refused(&found[3], "at least 1");
    refused(&found[4], "at most 1000");
    refused(&found[5], "a whole number");
    refused(&found[6], "is no number");
    assert_eq!(
        read("number: true", &["-2.5e3"])[0].as_deref(),
        Ok("-2.5e3")
    );
}

#[test]
fn json_is_held_to_its_schema_and_spread_over_columns() {
    let scratch = Scratch::new();
    let schema = json!({
        "type": "object",
        "properties": {
            "label": { "enum": ["bug", "question"] },
            "place": { "type": "object", "properties": { "city": { "type": ["string", "null"] } } },
            "certain": { "type": "number", "maximum": 1 },
        },
        "required": ["label"],
    });
    scratch.write("schema.json", schema.to_string());
    let inline = format!("json_schema: {schema}");
    let cells = [
        r#"{"label": "bug", "place": {"city": "=Bern"}, "certain": 0.5}"#,
        "Sure:\n```json\n{\"label\": \"question\", \"place\": {\"city\": null}}\n```\nDone.",
        r#"{"label": "other", "certain": 7}"#,
        r#"{"label": "bug""#,
    ];
    texts(&scratch, &cells);
    for schema in ["json_schema: schema.json", &inline] {
        scratch.job(&format!(
            "backends: {{ a: {{ type: echo, delay: 0ms, reply: \"{{{{ text }}}}\" }} }}\nmax_failures: 2\n\
             answer: {{ {schema}, reask: 0, columns: {{ label: /label, city: /place/city, certain: /certain }} }}"
        ));
        let (_, published) = scratch.run_fresh(0);
        assert_eq!(
            published.statuses(),
            ["answered", "answered", "invalid", "invalid"]
        );
        assert_eq!(published.column("label"), ["bug", "question", "", ""]);
        // Which a spreadsheet would take for a formula.
        assert_eq!(published.column("city"), ["'=Bern", "", "", ""]);
        assert_eq!(published.column("certain"), ["0.5", "", "", ""]);
        assert_eq!(
            published.lines[0]["parts"],
            json!({ "label": "bug", "city": "=Bern", "certain": "0.5" })
        );
        assert!(published.lines[0].get("answer_text").is_none());
        let object = r#"{"label": "question", "place": {"city": null}}"#;
        assert_eq!(published.lines[1]["answer"], object);
        assert_eq!(published.lines[1]["answer_text"], cells[1]);
        let errors = published.column("run_error");
        assert!(errors[2].starts_with("invalid: "), "{}", errors[2]);
        assert!(errors[2].contains("/label: "), "{}", errors[2]);
        assert!(errors[2].contains("/certain: "), "{}", errors[2]);
        assert!(errors[3].contains("is no JSON"), "{}", errors[3]);
    }
}

#[test]
fn an_answer_that_is_not_valid_is_asked_for_again_with_the_reason_and_both_are_paid() {
    let scratch = Scratch::new();
    let server = replies(&[says("It seems to be a bug"), says("Bug.")]);
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{LABELS}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.statuses(), ["answered"]);
    assert_eq!(published.answers(), ["bug"]);
    assert_eq!(published.lines[0]["answer_text"], "Bug.");
    assert_eq!(published.attempts(0), ["a first invalid", "a re-ask ok"]);
    let first = published.lines[0]["attempts"][0]["error"].as_str();
    assert_eq!(
        first,
        Some("\"It seems to be a bug\" is not one of the labels")
    );

    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    let messages = &seen[1].json()["messages"];
    let turns: Vec<&str> = messages.as_array().map_or(Vec::new(), |all| {
        all.iter()
            .filter_map(|turn| turn["content"].as_str())
            .collect()
    });
    assert_eq!(turns[..2], ["row 1", "It seems to be a bug"]);
    assert_eq!(messages[1]["role"], "assistant");
    assert_eq!(messages[2]["role"], "user");
    assert!(turns[2].contains("\"It seems to be a bug\" is not one of the labels"));
    assert!(turns[2].contains("exactly one of these labels, and nothing else: bug, question"));

    let cost = &published.report["cost"];
    assert_eq!(cost["by_kind"]["re-ask"], "0.00002");
    assert_eq!(cost["by_kind"]["first"], "0.00002");
    assert_eq!(cost["by_use"]["invalid"], "0.00002");
    assert_eq!(cost["wasted_usd"], "0.00002");
    assert_eq!(cost["total_usd"], "0.00004");
    assert_eq!(published.report["attempts"]["by_kind"]["re-ask"], 1);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn nobody_is_asked_more_often_than_reask_says() {
    for (reask, requests) in [(0, 1), (1, 2), (3, 4)] {
        let scratch = Scratch::new();
        let server = Served::always(says("perhaps"));
        scratch.rows(1).job(&format!(
            "backends: {{ {} }}\nanswer: {{ labels: [bug], reask: {reask} }}",
            server.backend("a", "")
        ));
        let (ran, published) = scratch.run(3);
        assert_eq!(server.requests(), requests);
        assert_eq!(published.statuses(), ["invalid"]);
        assert_eq!(published.answers(), ["perhaps"]);
        let error = "invalid: \"perhaps\" is not one of the labels";
        assert_eq!(published.column("run_error"), [error]);
        ran.says("exit 3: 1 row has no answer");
        // It is done: the next run would only buy the same again.
        scratch.run(3);
        assert_eq!(server.requests(), requests);
    }
}

#[test]
fn an_empty_answer_is_asked_for_again_without_a_turn_in_which_nothing_is_said() {
    let scratch = Scratch::new();
    let server = replies(&[says(" "), says("bug")]);
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{LABELS}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["bug"]);
    let messages = &server.seen()[1].json()["messages"];
    assert_eq!(messages.as_array().map(Vec::len), Some(1));
    let asked = messages[0]["content"].as_str().expect("a text");
    assert!(
        asked.starts_with("row 1\n\nYour answer is not valid"),
        "{asked}"
    );
}

#[test]
fn what_was_cut_refused_or_filtered_is_bought_once() {
    for (reply, status) in [
        (served::ends("It seems to", "length"), "truncated"),
        (served::ends("", "content_filter"), "filtered"),
        (
            served::message(json!({ "content": null, "refusal": "No." }), "stop"),
            "refused",
        ),
    ] {
        let scratch = Scratch::new();
        let server = Served::always(reply);
        scratch.rows(2).job(&format!(
            "backends: {{ {} }}\nanswer: {{ labels: [bug], reask: 5 }}",
            server.backend("a", "")
        ));
        let (_, published) = scratch.run(3);
        assert_eq!(published.statuses(), [status; 2]);
        assert_eq!(server.requests(), 2);
    }
}

#[test]
fn a_cut_answer_to_a_re_ask_ends_the_asking() {
    let scratch = Scratch::new();
    let server = replies(&[says("perhaps"), served::ends("bu", "length")]);
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nanswer: {{ labels: [bug], reask: 5 }}",
        server.backend("a", "")
    ));
    scratch.run(3);
    assert_eq!(server.requests(), 2);
}

#[test]
fn the_next_backend_is_asked_what_the_first_one_was_if_the_job_says_so() {
    let scratch = Scratch::new();
    let first = Served::always(says("perhaps"));
    let second = Served::always(says("question"));
    let backends = format!(
        "backends: {{ {}, {} }}\n{LABELS}",
        first.backend("a", ""),
        second.backend("b", "")
    );
    scratch.rows(1).job(&backends);
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["invalid"]);
    assert_eq!((first.requests(), second.requests()), (2, 0));

    scratch.job(&format!("{backends}\nfallback_on: [invalid]"));
    let (_, published) = scratch.run_fresh(0);
    let attempts = ["a first invalid", "a re-ask invalid", "b fallback ok"];
    assert_eq!(published.attempts(0), attempts);
    let seen = second.seen();
    assert_eq!(
        seen[0].json()["messages"],
        json!([{ "role": "user", "content": "row 1" }])
    );
}

#[test]
fn a_failure_of_the_re_ask_leaves_the_answer_that_is_not_valid() {
    let scratch = Scratch::new();
    let server = replies(&[says("perhaps"), served::fails(500, "server_error")]);
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\n{LABELS}\nretry: {{ attempts: 2, initial: 1ms }}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["invalid"]);
    assert_eq!(published.answers(), ["perhaps"]);
    let attempts = published.attempts(0);
    assert_eq!(attempts[..2], ["a first invalid", "a re-ask server"]);
    let error = "invalid: \"perhaps\" is not one of the labels";
    assert_eq!(published.column("run_error"), [error]);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn an_answer_to_a_re_ask_is_not_shared_with_others_who_were_not_told() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match prompt(seen).as_str() {
        "row 1" => says("bug"),
        "row 2" => says("perhaps"),
        _ => says("question"),
    });
    scratch.rows(2).job(&format!(
        "backends: {{ {} }}\n{LABELS}\ncache: answers.db",
        server.backend("a", "")
    ));
    scratch.run(0);
    assert_eq!(server.requests(), 3);
    scratch.runner(&["job.yaml", "--out", "other"]).exits(0);
    let published = scratch.published("other", 0);
    assert_eq!(published.attempts(0), ["a cache ok"]);
    assert_eq!(published.attempts(1), ["a first invalid", "a re-ask ok"]);
    assert_eq!(server.requests(), 5);
}

#[test]
fn the_next_run_asks_no_row_again_that_has_an_answer_by_a_re_ask() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| {
        says(match prompt(seen).starts_with("row ") {
            true => "perhaps",
            false => "bug",
        })
    });
    scratch.rows(4).job(&format!(
        "backends: {{ {} }}\n{LABELS}",
        server.backend("a", "")
    ));
    scratch.runner(&["job.yaml", "--limit", "2"]).exits(0);
    assert_eq!(server.requests(), 4);
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["bug"; 4]);
    assert_eq!(server.requests(), 8);
    let (ran, _) = scratch.run(0);
    ran.says("unchanged 4 |");
    assert_eq!(server.requests(), 8);
}

#[test]
fn a_re_ask_for_which_there_is_no_money_is_not_made() {
    let scratch = Scratch::new();
    let server = Served::always(says("perhaps"));
    // Enough for a request of one message, and not for one of three on top.
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nanswer: {{ labels: [bug], structured: false }}\nbudget: 0.00025",
        server.backend("a", "")
    ));
    let ran = scratch.runner(&["job.yaml"]);
    assert_eq!(server.requests(), 1, "{}{}", ran.stdout, ran.stderr);
    let code = ran.code.expect("it ends by itself");
    let published = scratch.published("out", code);
    assert_ne!(published.statuses(), ["answered"]);
    assert_eq!(published.report["budget"]["spent_usd"], "0.00002");
    // With more money the same job is asked what it was not.
    scratch.job(&format!(
        "backends: {{ {} }}\nanswer: {{ labels: [bug], structured: false }}\nbudget: 1",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["invalid"]);
}

#[test]
fn a_form_is_part_of_the_request_only_where_it_is_sent() {
    for (more, told) in [
        ("", "unchanged 0 | changed 2 |"),
        (", api: completions", "unchanged 2 | changed 0 |"),
    ] {
        let scratch = Scratch::new();
        let server = Served::new(|_, seen| match prompt(seen).is_empty() {
            true => served::ok(&json!({ "choices": [{ "text": "bug", "finish_reason": "stop" }] })),
            false => served::says("bug"),
        });
        let job = |labels: &str| {
            scratch.rows(2).job(&format!(
                "backends: {{ {} }}\nanswer: {{ labels: [{labels}] }}",
                server.backend("a", more)
            ));
        };
        job("bug, question");
        scratch.run(0);
        job("bug, question, other");
        let (ran, _) = scratch.run(0);
        ran.says(told);
    }
}

#[test]
fn what_is_there_is_read_anew_when_the_form_changes_and_nothing_is_sent() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| says(if prompt(seen) == "row 1" { "7" } else { "bug" }));
    let job = |answer: &str| {
        scratch.rows(2).job(&format!(
            "backends: {{ {} }}\nanswer: {{ {answer}, reask: 0, structured: false }}\nmax_failures: 1",
            server.backend("a", "")
        ));
        scratch.run(0).1
    };
    assert_eq!(job("number: true").statuses(), ["answered", "invalid"]);
    assert_eq!(job("labels: [bug]").statuses(), ["invalid", "answered"]);
    assert_eq!(job("pattern: .").statuses(), ["answered", "answered"]);
    assert_eq!(server.requests(), 2);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn a_form_that_is_none_is_a_problem_before_anything_is_sent() {
    let scratch = Scratch::new();
    scratch
        .rows(1)
        .write("broken.json", "{")
        .write("list.json", "[]");
    for (answer, problem) in [
        ("{}", "the answer has no form"),
        ("{ labels: [] }", "`labels` names no label"),
        ("{ labels: [a, a] }", "the label `a` is named twice"),
        (
            "{ labels: [a], abstain: a }",
            "the label `a` is named twice",
        ),
        ("{ labels: [a], number: true }", "exclude each other"),
        ("{ number: true, abstain: x }", "there are no `labels`"),
        (
            "{ number: { min: 2, max: 1 } }",
            "`min` is greater than `max`",
        ),
        ("{ pattern: '(' }", "no regular expression"),
        ("{ json_schema: { type: 7 } }", "no JSON schema"),
        ("{ json_schema: nowhere.json }", "nowhere.json"),
        ("{ json_schema: broken.json }", "broken.json"),
        ("{ labels: [a], columns: [b] }", "parts of a JSON answer"),
        ("{ labels: [a], reask: 11 }", "reask"),
        (
            "{ json_schema: { type: object }, columns: [text] }",
            "the input has a column `text`",
        ),
    ] {
        scratch.job(&format!(
            "backends: {{ a: {{ type: echo }} }}\nanswer: {answer}"
        ));
        scratch.runner(&["job.yaml"]).exits(2).says(problem);
    }
    assert!(!scratch.path().join("out").exists());
}

#[test]
fn an_answer_of_a_thousand_pages_is_refused_in_a_few_words() {
    let scratch = Scratch::new();
    texts(&scratch, &[&"perhaps ".repeat(40_000)]);
    scratch.job(&format!(
        "backends: {{ a: {{ type: echo, delay: 0ms, reply: \"{{{{ text }}}}\" }} }}\n{LABELS}"
    ));
    let (_, published) = scratch.run(3);
    let error = &published.lines[0]["error"]["message"];
    assert!(error.as_str().is_some_and(|why| why.len() < 300), "{error}");
    assert_eq!(published.attempts(0).len(), 2);
    let last = &published.lines[0]["attempts"][1];
    assert_ne!(last["usage"], Value::Null);
}
