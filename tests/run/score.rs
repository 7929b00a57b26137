//! How good answers are: what needs nobody's opinion, and what a program says of them.

use std::fs;

use serde_json::{Value, json};

use crate::published::Published;
use crate::scratch::Scratch;
use crate::served::{Served, prompt, says};

/// The rows `text,gold`, answered by an echo of `text`, scored so.
fn scored(scratch: &Scratch, rows: &[(&str, &str)], more: &str) {
    let mut csv = csv::Writer::from_writer(Vec::new());
    for (text, gold) in [("text", "gold")].iter().chain(rows) {
        let added = csv.write_record([text, gold]);
        added.expect("a vector takes every byte");
    }
    scratch.write("rows.csv", csv.into_inner().expect("it is whole"));
    scratch.job(&format!(
        "backends: {{ a: {{ type: echo, delay: 0ms, reply: \"{{{{ text }}}}\" }} }}\n{more}"
    ));
}

/// What a scorer of this name gives each row.
fn scores(published: &Published, name: &str) -> Vec<Value> {
    let lines = published.lines.iter();
    lines.map(|line| line["scores"][name].clone()).collect()
}

/// A figure and of how many it is.
#[track_caller]
fn figure(published: &Published, name: &str) -> (f64, u64) {
    let found = &published.report["scores"][name];
    let value = found["value"].as_f64();
    let n = found["n"].as_u64();
    (
        value.unwrap_or_else(|| panic!("no {name}: {}", published.report["scores"])),
        n.expect("every figure says of how many it is"),
    )
}

#[test]
fn each_scorer_says_what_it_is_named_after() {
    let scratch = Scratch::new();
    let rows = [
        ("The answer is 1,234.5 apples", "1234"),
        ("{\"a\": {\"b\": [\"x\", 1234]}}", "1234"),
        ("1234", "1234"),
        ("apples, pears", "APPLES  pears"),
    ];
    scored(
        &scratch,
        &rows,
        "score:\n\
         - equals: '{{ gold }}'\n\
         - { name: loose, equals: '{{ gold }}', ignore: [case, space, punctuation] }\n\
         - { contains: ['app', 'pears'] }\n\
         - { regex: '^\\d+$' }\n\
         - { name: exactly, number: '{{ gold if gold != \"APPLES  pears\" }}' }\n\
         - { name: nearly, number: '{{ gold if gold != \"APPLES  pears\" }}', tolerance: 1% }\n\
         - { name: place, json_path: '$.a.b[1]', equals: '1234' }\n\
         - { json_path: /a/b }",
    );
    let (_, published) = scratch.run(0);
    let none = Value::Null;
    let [no, yes] = [json!(0.0), json!(1.0)];
    for (name, expected) in [
        ("equals", [&no, &no, &yes, &no]),
        ("loose", [&no, &no, &yes, &yes]),
        ("contains", [&no, &no, &no, &yes]),
        ("regex", [&no, &no, &yes, &no]),
        ("exactly", [&no, &yes, &yes, &none]),
        ("nearly", [&yes, &yes, &yes, &none]),
        ("place", [&no, &yes, &no, &no]),
        ("json_path", [&no, &yes, &no, &no]),
    ] {
        let found = scores(&published, name);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{name}");
        let known = expected.iter().filter(|score| !score.is_null()).count();
        assert_eq!(figure(&published, name).1, known as u64, "{name}");
    }
    assert_eq!(published.column("run_score_loose"), ["0", "0", "1", "1"]);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn rows_without_a_gold_label_are_in_no_denominator_and_missing_answers_are_wrong() {
    let scratch = Scratch::new();
    let rows = [
        ("BUG", "bug"),
        ("question", "Bug"),
        ("perhaps", "bug"),
        ("unsure", "bug"),
        ("question", "question"),
        ("bug", ""),
        ("unsure", " "),
    ];
    scored(
        &scratch,
        &rows,
        "answer: { labels: [bug, question], abstain: unsure, reask: 0 }\n\
         score: { equals: '{{ gold }}' }\nmax_failures: 1",
    );
    let (_, published) = scratch.run(0);
    let cells = ["1", "0", "0", "0", "1", "", ""];
    assert_eq!(published.column("run_score"), cells);
    assert_eq!(figure(&published, "answered"), (6.0 / 7.0, 7));
    assert_eq!(figure(&published, "abstained"), (2.0 / 7.0, 7));
    // Two of the five whose label is known; of these three have one.
    assert_eq!(figure(&published, "accuracy"), (0.4, 5));
    assert_eq!(figure(&published, "accuracy_answered"), (2.0 / 3.0, 3));
    let scores = &published.report["scores"];
    let confusion = &scores["confusion"];
    assert_eq!(confusion["labels"], json!(["bug", "question"]));
    // The last column is of those without a label.
    assert_eq!(confusion["counts"], json!([[1, 1, 2], [0, 1, 0]]));
    assert_eq!(scores["labels"]["bug"]["recall"]["value"], 0.25);
    assert_eq!(scores["labels"]["bug"]["recall"]["n"], 4);
    for (name, found) in scores.as_object().expect("an object") {
        if found.get("value").is_some() {
            assert!(found["n"].as_u64() > Some(0), "{name} has no denominator");
        }
    }
}

#[test]
fn a_failed_row_is_wrong_and_one_that_was_never_asked_is_not_known() {
    let scratch = Scratch::new();
    let score = "score: { equals: '{{ gold }}' }\nmax_failures: 100%";
    scored(&scratch, &[("bug", "bug"), ("bug", "")], score);
    scratch
        .runner(&["job.yaml", "--offline", "--out", "never"])
        .exits(0);
    let never = scratch.published("never", 0);
    assert_eq!(never.statuses(), ["not_run"; 2]);
    assert_eq!(never.column("run_score"), ["", ""]);
    assert_eq!(figure(&never, "answered"), (0.0, 2));
    assert!(never.report["scores"].get("accuracy").is_none());
    let failing = "backends.a.failures.row_fatal=100%";
    scratch.runner(&["job.yaml", "--set", failing]).exits(0);
    let failed = scratch.published("out", 0);
    assert_eq!(failed.statuses(), ["failed"; 2]);
    assert_eq!(failed.column("run_score"), ["0", ""]);
    assert_eq!(figure(&failed, "accuracy"), (0.0, 1));
}

#[test]
fn other_scorers_ask_nobody_and_export_says_what_the_last_run_said() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| says(&prompt(seen).replace("row ", "")));
    let job = |score: &str| {
        scratch.rows(3).job(&format!(
            "backends: {{ {} }}\nscore: {score}",
            server.backend("a", "")
        ));
        scratch.run(0).1
    };
    let first = job("{ equals: '1' }");
    assert_eq!(first.column("run_score"), ["1", "0", "0"]);
    let second = job("{ number: '3', tolerance: 1 }");
    assert_eq!(second.column("run_score"), ["0", "1", "1"]);
    assert_eq!(second.report["scores"]["number"]["n"], 3);
    assert!(second.report["scores"].get("equals").is_none());
    assert_eq!(server.requests(), 3);
    for row in 0..3 {
        assert_eq!(first.attempts(row), second.attempts(row));
    }
    let files = [
        "results.csv",
        "results.jsonl",
        "report.json",
        "report.md",
        "report.html",
    ];
    let read = || files.map(|name| fs::read(scratch.path().join("out").join(name)).ok());
    let before = read();
    for name in files {
        fs::remove_file(scratch.path().join("out").join(name)).expect("it was written");
    }
    scratch.runner(&["export", "out"]).exits(0);
    assert_eq!(before, read());
    scratch.runner(&["verify", "out"]).exits(0);
}

/// Notes down that it was started and what it was told.
const PROGRAM: &str = "echo started >> starts\n\
    while read -r line; do\n\
    printf '%s\\n' \"$line\" >> told\n\
    case \"$line\" in\n\
    *'\"answer\":\"bug\"'*) echo '{\"score\": true, \"remark\": \"it is\"}';;\n\
    *) echo '{\"score\": 0.25}';;\n\
    esac\ndone\n";

fn lines(scratch: &Scratch, name: &str) -> Vec<String> {
    let text = fs::read_to_string(scratch.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_is_started_once_is_told_each_valid_answer_and_never_the_same_again() {
    let scratch = Scratch::new();
    scratch.write("score.sh", PROGRAM);
    let rows = [
        ("Bug", "a"),
        ("question", "b \"q\"\nline"),
        ("perhaps", "c"),
    ];
    let more = "answer: { labels: [bug, question], reask: 0 }\n\
                score: [{ command: [sh, score.sh] }, { name: again, command: 'sh score.sh' }]\n\
                max_failures: 1";
    scored(&scratch, &rows, more);
    let (_, published) = scratch.run(0);
    for name in ["command", "again"] {
        // What is not valid is worth nothing, and nobody has to be asked.
        let expected = [json!(1.0), json!(0.25), json!(0.0)];
        assert_eq!(scores(&published, name), expected);
    }
    assert_eq!(lines(&scratch, "starts").len(), 2);
    let told = lines(&scratch, "told");
    assert_eq!(told.len(), 4);
    let first: Value = serde_json::from_str(&told[0]).expect("a line is JSON");
    let id = published.lines[0]["id"].clone();
    let row = json!({ "text": "Bug", "gold": "a" });
    let expected = json!({ "id": id, "repeat": 1, "row": row, "answer": "bug" });
    assert_eq!(first, expected);
    let second: Value = serde_json::from_str(&told[1]).expect("a line is JSON");
    assert_eq!(second["row"]["gold"], "b \"q\"\nline");
    // It costs nothing, and is in the ledger.
    assert_eq!(published.report["attempts"]["by_kind"]["command"], 4);
    assert_eq!(published.report["attempts"]["total"], 3);
    assert_eq!(published.report["cost"]["total_usd"], "0.00");
    scratch.runner(&["verify", "out"]).exits(0);

    scratch.run(0);
    assert_eq!(lines(&scratch, "starts").len(), 2);
    // A new row is told, and those that were told are not.
    let mut more_rows = rows.to_vec();
    more_rows.push(("bug", "d"));
    scored(&scratch, &more_rows, more);
    let (_, published) = scratch.run(0);
    assert_eq!(scores(&published, "command")[3], json!(1.0));
    assert_eq!(lines(&scratch, "told").len(), 6);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn a_program_that_fails_leaves_the_rest_without_a_score_and_the_run_is_not_lost() {
    for (program, why) in [
        ("[no-such-program-anywhere]", "cannot be started"),
        ("'read line; exit 3'", "it ended (exit status: 3)"),
        ("'read line; echo rubbish; cat > /dev/null'", "is no score"),
        (
            "'read line; echo \"{\\\"score\\\": 7}\"; cat > /dev/null'",
            "`score` is 7 and not from 0 to 1",
        ),
        ("'read line; exec sleep 20'", "has to flush each line"),
    ] {
        let scratch = Scratch::new();
        // It is right about the first answer.
        let program = program.replacen(
            "read line;",
            "read line; echo \"{\\\"score\\\": 1}\"; read line;",
            1,
        );
        let works = program.contains("score") || program.contains("read");
        scored(
            &scratch,
            &[("x", "x"), ("y", "y"), ("z", "y")],
            &format!(
                "concurrency: 1\nscore:\n- equals: '{{{{ gold }}}}'\n\
                 - {{ name: program, command: {program}, timeout: 500ms }}"
            ),
        );
        let (ran, published) = scratch.run(3);
        assert_eq!(published.statuses(), ["answered"; 3], "{program}");
        assert_eq!(published.column("run_score_equals"), ["1", "1", "0"]);
        let first = if works { "1" } else { "" };
        let cells = published.column("run_score_program");
        assert_eq!(cells, [first, "", ""], "{program}");
        let ran = ran.says(why).says("program");
        assert!(ran.took.as_secs() < 10, "{:?}", ran.took);
        let notes = published.report["scores"]["notes"].to_string();
        assert!(notes.contains("Answers without a score"), "{notes}");
        scratch.runner(&["verify", "out"]).exits(0);
        // A better one is told of what has no score.
        scratch.write("score.sh", PROGRAM);
    }
}

#[test]
fn a_pattern_that_is_none_is_told_before_or_named_with_its_row() {
    let scratch = Scratch::new();
    scored(&scratch, &[("x", "a")], "score: { regex: '[a-z]{2,}(' }");
    let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
    ran.says("the pattern is no regular expression: unclosed group\n");
    scored(&scratch, &[("x", "a")], "score: [{ equal: x }]");
    let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
    let ran = ran.says("unknown key `equal`");
    assert!(!ran.stderr.contains("does nothing"), "{}", ran.stderr);
    let rows = [("a", ""), ("a", "a("), ("a", "a"), ("a", "b(")];
    scored(&scratch, &rows, "score: { regex: '{{ gold }}' }");
    let (ran, published) = scratch.run(0);
    assert_eq!(published.column("run_score"), ["", "", "1", ""]);
    let note = "Lines without a score of regex, because what their row wants cannot be looked for: 2. First row \
                rows.csv:2: the pattern is no regular expression: unclosed group.";
    ran.says(note);
    assert_eq!(published.report["scores"]["notes"][0], note);
}

#[test]
fn a_program_is_told_not_to_keep_what_it_has_to_say() {
    let scratch = Scratch::new();
    let command = "while read line; do echo \"{\\\"score\\\": $PYTHONUNBUFFERED}\"; done";
    let more = format!("score: {{ command: '{command}' }}");
    scored(&scratch, &[("bug", "a")], &more);
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("run_score"), ["1"]);
    assert_eq!(published.lines[0].get("remarks"), None);
}

#[test]
fn a_program_that_is_mended_scores_what_has_no_score() {
    let scratch = Scratch::new();
    let more = "score: { command: [sh, score.sh] }";
    scratch.write("score.sh", "read -r line\necho '{\"score\": 1}'\n");
    let rows = [("bug", "a"), ("bug", "b"), ("x", "c")];
    scored(&scratch, &rows, more);
    scratch.run(3);
    scratch.write("score.sh", PROGRAM);
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("run_score"), ["1", "1", "0.25"]);
    assert_eq!(lines(&scratch, "told").len(), 2);
}

#[test]
fn scorers_that_make_no_sense_are_problems() {
    let scratch = Scratch::new();
    for (score, problem) in [
        ("[]", "`score` has no scorer"),
        ("{}", "the scorer does nothing"),
        ("{ equals: a, regex: b }", "are two scorers"),
        ("{ equals: '{{ nowhere }}' }", "nowhere"),
        ("{ regex: '(' }", "no regular expression"),
        ("{ equals: a, tolerance: 1 }", "`tolerance` has no use here"),
        ("{ number: '1', tolerance: -1 }", "a number of at least 0"),
        ("{ regex: a, ignore: [case] }", "`ignore` has no use here"),
        ("{ equals: a, timeout: 1s }", "`timeout` has no use here"),
        ("{ json_path: a.b }", "no place in JSON"),
        ("{ equals: a, name: 'a b' }", "a scorer's name is of"),
        (
            "{ equals: a, name: accuracy }",
            "the name of another figure",
        ),
        (
            "[{ equals: a, name: x }, { equals: b, name: x }]",
            "there are two scorers `x`",
        ),
        ("{ command: [] }", "`command` names no program"),
        ("{ judge: { backend: a } }", "rubric"),
        (
            "{ judge: { backend: z, rubric: a } }",
            "there is no backend `z`",
        ),
        (
            "{ judge: { backend: a, rubric: a, choices: { x: 1 } } }",
            "at least two `choices`",
        ),
        (
            "{ judge: { backend: a, rubric: a, choices: { x: 1, y: 2 } } }",
            "must be worth from 0 to 1",
        ),
    ] {
        scored(&scratch, &[("x", "y")], &format!("score: {score}"));
        scratch
            .runner(&["check", "job.yaml"])
            .exits(2)
            .says(problem);
    }
}
