use serde_json::Value;

use crate::scratch::Scratch;

/// A job whose answers are its rows, but for `row 3` and `row 7` of the run into `new`.
fn two_runs() -> Scratch {
    let scratch = Scratch::new();
    scratch.rows(20).job(
        "backends: { a: { type: echo, delay: 0ms, usage: { input_tokens: 100, output_tokens: 0 }, \
         price: { input: 1, output: 1 } } }",
    );
    let reply = "backends.a.reply='{{ \"other\" if text in (\"row 3\", \"row 7\") else text }}'";
    scratch.runner(&["job.yaml", "--out", "main"]).exits(0);
    let new = ["job.yaml", "--out", "new", "--limit", "19", "--set", reply];
    scratch.runner(&new).exits(0);
    scratch
}

#[test]
fn a_diff_lists_the_rows_that_flipped_with_both_answers() {
    let scratch = two_runs();
    let ran = scratch.runner(&["diff", "main", "new"]).exits(0);
    ran.says("main → new\n19 rows in both\n1 only in main\n")
        .says("\n19 of them were asked something else")
        .says("\nanswers that differ: 10.5 % of 19 (95 %: 2.9 % to 31.4 %)\n")
        .says("\ncost: $0.002 → $0.0019\n")
        .says("changed  rows.csv:3  row 3   other")
        .says("changed  rows.csv:7  row 7   other")
        .never_says("row 4");
    let ran = scratch
        .runner(&["diff", "main", "new", "--limit", "1"])
        .exits(0);
    ran.says("and 0 more that are worse, 0 that are better, 1 with another answer (--limit)");
    let ran = scratch.runner(&["diff", "main", "main"]).exits(0);
    ran.says("20 rows in both\nanswers that differ: 0.0 % of 20")
        .never_says("flip");
}

#[test]
fn a_diff_is_markdown_for_people_and_json_for_programs() {
    let scratch = two_runs();
    let markdown = ["diff", "main", "new", "--format", "markdown"];
    let ran = scratch.runner(&markdown).exits(0);
    assert!(
        ran.stdout
            .starts_with("## main → new\n\n- 19 rows in both\n"),
        "{}",
        ran.stdout
    );
    ran.says("| flip | row | before | after |\n|---|---|---|---|\n| changed | rows.csv:3 | row 3 | other |\n");
    let ran = scratch
        .runner(&["diff", "main", "new", "--format", "json"])
        .exits(0);
    let json: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(json["schema"], "runner.diff/1");
    assert_eq!(json["rows"]["both"], 19);
    assert_eq!(json["rows"]["only_before"], 1);
    assert_eq!(json["answers_changed"]["n"], 19);
    assert_eq!(json["flips"][1]["id"], "rows.csv:7");
    assert_eq!(json["flips"][1]["after"]["answer"], "other");
    assert_eq!(json["before"]["cost_usd"], "0.002");
}

#[test]
fn an_entry_alone_is_compared_with_an_entry_alone_and_others_by_name() {
    let scratch = Scratch::new();
    let backends = "backends: { a: { type: echo, delay: 0ms }, b: { type: echo, delay: 0ms, reply: no }, c: \
                    { type: echo, delay: 0ms } }";
    scratch.rows(5).job(backends);
    for (out, order) in [
        ("one", "fallback=[a]"),
        ("two", "fallback=[b]"),
        ("three", "matrix=[a, b]"),
        ("four", "matrix=[b, c]"),
    ] {
        scratch
            .runner(&["job.yaml", "--out", out, "--set", order])
            .exits(0);
    }
    let ran = scratch.runner(&["diff", "one", "two"]).exits(0);
    ran.says("5 rows in both\n")
        .says("answers that differ: 100.0 % of 5");
    let ran = scratch.runner(&["diff", "three", "four"]).exits(0);
    ran.says("5 rows in both\n5 only in three\n5 only in four\nanswers that differ: 0.0 % of 5");
}

#[test]
fn what_a_model_said_commands_neither_the_terminal_nor_the_page() {
    let scratch = Scratch::new();
    let hostile = "<img src=x onerror=alert(1)> | [x](javascript:1) \u{1b}]0;owned\u{7} \u{202e}";
    scratch
        .write("rows.csv", format!("text\n\"{hostile}\"\n"))
        .write(
            "job.yaml",
            "inputs: rows.csv\nprompt: \"{{ text }}\"\noutput: { dir: out }\nbackends: { a: { type: echo, delay: 0ms } }\n",
        );
    scratch.runner(&["job.yaml", "--out", "main"]).exits(0);
    let other = "backends.a.reply='{{ text }} again'";
    scratch
        .runner(&["job.yaml", "--out", "new", "--set", other])
        .exits(0);
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    let ran = scratch.runner(&["diff", "main", "new"]).exits(0);
    assert!(!ran.stdout.contains(steers), "{:?}", ran.stdout);
    let ran = scratch
        .runner(&["diff", "main", "new", "--format", "md"])
        .exits(0);
    assert!(!ran.stdout.contains(steers), "{:?}", ran.stdout);
    let row = ran.stdout.lines().last().expect("a row of the table");
    let open = |at: usize| !row[..at].ends_with('\\');
    for mark in ['<', '[', '`'] {
        assert!(
            row.match_indices(mark).all(|(at, _)| !open(at)),
            "{mark}: {row}"
        );
    }
    let cells = row.match_indices('|').filter(|(at, _)| open(*at)).count();
    assert_eq!(cells, 5, "{row}");
}

#[test]
fn the_noise_between_runs_is_told_and_what_makes_it_something_else() {
    let scratch = two_runs();
    scratch.runner(&["job.yaml", "--out", "again"]).exits(0);
    let ran = scratch.runner(&["aa", "main", "again"]).exits(0);
    ran.says("main and again\n  answers that differ: 0.0 % of 20")
        .says("noise: without a `score` that all runs have no margin can be told")
        .never_says("warning");
    let ran = scratch.runner(&["aa", "main", "again", "new"]).exits(0);
    ran.says("again and new\n  answers that differ: 10.5 % of 19")
        .says("  warning: 1 row is in one of the two only")
        .says("  warning: 19 rows were asked something else");
    let cached = ["cache=answers.db", "cache=answers.db"]
        .map(|set| ["--set", set])
        .concat();
    for out in ["cached", "cached_again"] {
        let args = [&["job.yaml", "--out", out][..], &cached].concat();
        scratch.runner(&args).exits(0);
    }
    let ran = scratch.runner(&["aa", "cached", "cached_again"]).exits(0);
    ran.says("warning: 20 answers of cached_again were not asked for there");
    let ran = scratch.runner(&["aa", "main", "again", "--json"]).exits(0);
    let json: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(json["pairs"][0]["answers_changed"]["n"], 20);
    assert_eq!(json["not_worse_than"], Value::Null);
}

#[test]
fn what_is_no_run_cannot_be_compared() {
    let scratch = two_runs();
    scratch.write("empty/file", "");
    scratch
        .runner(&["diff", "main", "empty"])
        .exits(2)
        .says("empty holds no run");
    scratch.runner(&["aa", "main"]).exits(2);
    let ran = scratch.runner(&["aa", "main", "./main"]).exits(2);
    ran.says("error: ./main is named twice");
    let ran = scratch.runner(&["baseline", "main"]).exits(2);
    ran.says("error: main has no scores: its job says nothing of how good its answers are");
}
