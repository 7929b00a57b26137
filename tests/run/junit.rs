use std::fs;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::scratch::Scratch;

/// Reads `out/junit.xml`.
fn junit(scratch: &Scratch) -> Report {
    let text = fs::read_to_string(scratch.path().join("out/junit.xml")).expect("a file");
    Report::deserialize_from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn suite<'a>(report: &'a Report, name: &str) -> &'a TestSuite {
    let mut suites = report.test_suites.iter();
    let suite = suites.find(|suite| suite.name.as_str() == name);
    suite.unwrap_or_else(|| panic!("no suite {name}"))
}

/// What became of a case, and what it says.
fn end(case: &TestCase) -> (&'static str, &str) {
    match &case.status {
        TestCaseStatus::Success { .. } => ("ok", ""),
        TestCaseStatus::NonSuccess { kind, message, .. } => {
            assert_eq!(*kind, NonSuccessKind::Failure);
            ("failure", message.as_ref().map_or("", |text| text.as_str()))
        }
        TestCaseStatus::Skipped { message, .. } => {
            ("skipped", message.as_ref().map_or("", |text| text.as_str()))
        }
    }
}

const FAILING: &str = "backends: { a: { type: echo, delay: 0ms, failures: { row_fatal: 1 } } }\nretry: { attempts: 1 }";

#[test]
fn the_file_for_ci_has_a_case_for_each_check_and_each_row_without_an_answer() {
    let scratch = Scratch::new();
    scratch.rows(3).job(&format!(
        "{FAILING}\ngate: {{ failed: \"<= 50%\", unanswered: \"<= 3\" }}"
    ));
    scratch.run(3);
    let report = junit(&scratch);
    let gate = suite(&report, "gate");
    let ends: Vec<_> = gate
        .test_cases
        .iter()
        .map(|case| (case.name.as_str(), end(case)))
        .collect();
    assert_eq!(ends[0].0, "failed");
    assert_eq!(ends[0].1.0, "failure");
    assert!(
        ends[0]
            .1
            .1
            .starts_with("failed is 1.000 of 3; wanted <= 0.5"),
        "{ends:?}"
    );
    assert_eq!(ends[1], ("unanswered", ("ok", "")));
    let rows = suite(&report, "rows");
    let names: Vec<_> = rows
        .test_cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["0 rows as wanted", "rows.csv:1", "rows.csv:2", "rows.csv:3"]
    );
    let (kind, why) = end(&rows.test_cases[1]);
    assert_eq!(kind, "failure");
    assert!(why.starts_with("failed: row_fatal: "), "{why}");
    assert_eq!((rows.tests, rows.failures), (4, 3));
}

#[test]
fn rows_that_the_run_puts_up_with_are_no_failures() {
    let scratch = Scratch::new();
    scratch.rows(3).job(&format!("{FAILING}\nmax_failures: 3"));
    scratch.run(0);
    let report = junit(&scratch);
    assert_eq!((report.tests, report.failures, report.skipped), (4, 0, 3));
    // A gate that is not met does not make them worse.
    let ran = scratch.runner(&["job.yaml", "--set", "gate.failed=\"== 0\""]);
    ran.exits(7);
    let report = junit(&scratch);
    assert_eq!((report.tests, report.failures, report.skipped), (5, 1, 3));
}

#[test]
fn an_answer_that_nobody_scored_is_as_red_as_the_exit_code() {
    let scratch = Scratch::new();
    scratch.rows(3).job(
        "backends: { a: { type: echo, delay: 0ms } }\nconcurrency: 1\n\
         score: { name: program, command: 'read line; echo \"{\\\"score\\\": 1}\"' }",
    );
    scratch.run(3);
    let report = junit(&scratch);
    assert_eq!((report.tests, report.failures, report.skipped), (3, 2, 0));
    let rows = suite(&report, "rows");
    assert_eq!(rows.test_cases[0].name.as_str(), "1 row as wanted");
    assert_eq!(end(&rows.test_cases[1]), ("failure", "no score of program"));
    scratch
        .runner(&["job.yaml", "--set", "max_failures=2"])
        .exits(0);
    let report = junit(&scratch);
    assert_eq!((report.tests, report.failures, report.skipped), (2, 0, 1));
}

#[test]
fn the_file_for_ci_stays_small_and_counts_what_it_does_not_show() {
    let scratch = Scratch::new();
    scratch.rows(700).job(FAILING);
    scratch.run(3);
    let report = junit(&scratch);
    let rows = suite(&report, "rows");
    assert_eq!(rows.test_cases.len(), 502);
    let last = rows.test_cases.last().expect("a case");
    assert_eq!(last.name.as_str(), "200 more rows without an answer");
}

#[test]
fn no_text_of_a_row_or_a_model_breaks_the_file_for_ci() {
    let scratch = Scratch::new();
    let hostile =
        "]]></failure><testcase name='x'/>\u{1b}[31m \u{0} \u{b} \u{202e}&amp;\u{ffff}<![CDATA[\"";
    let ids = ["a", "b\u{1b}]0;x\u{7}", "<c>&\"'", "d\u{fffe}"];
    let mut rows = "id,text\n".to_owned();
    for id in ids {
        let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        rows.push_str(&format!("{},{}\n", cell(id), cell(hostile)));
    }
    scratch.write("rows.csv", rows).write(
        "job.yaml",
        "inputs: { path: rows.csv, id: id }\nprompt: \"{{ text }}\"\noutput: { dir: out }\n\
         backends: { a: { type: echo, delay: 0ms, failures: { flagged: 1 } } }\nretry: { attempts: 1 }\n",
    );
    scratch.run(3);
    let report = junit(&scratch);
    let rows = suite(&report, "rows");
    assert_eq!(rows.test_cases.len(), 1 + ids.len());
    let bytes = fs::read_to_string(scratch.path().join("out/junit.xml")).expect("a file");
    let steers = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{ffff}\u{fffe}".contains(c);
    assert!(!bytes.contains(steers), "{bytes}");
    assert_eq!(bytes.matches("<testcase").count(), 1 + ids.len());
}

#[test]
fn the_report_goes_to_the_summary_of_the_step() {
    let scratch = Scratch::new();
    let summary = scratch.path().join("summary.md");
    fs::write(&summary, "before\n").expect("a file");
    let path = summary.display().to_string();
    let scratch = scratch.env("GITHUB_STEP_SUMMARY", &path);
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, delay: 0ms } }");
    scratch.runner(&["job.yaml", "--quiet"]).exits(0);
    let report = fs::read_to_string(scratch.path().join("out/report.md")).expect("a report");
    let text = fs::read_to_string(&summary).expect("a summary");
    assert_eq!(text, format!("before\n{report}\n"));
    // What has no room is left out.
    fs::write(&summary, vec![b'x'; 1 << 20]).expect("a file");
    scratch.runner(&["job.yaml"]).exits(0);
    assert_eq!(fs::metadata(&summary).expect("a summary").len(), 1 << 20);
}

#[test]
fn a_step_summary_that_cannot_be_written_is_a_warning() {
    let scratch = Scratch::new();
    scratch.write("summary/in_the_way", "");
    let path = scratch.path().join("summary").display().to_string();
    let scratch = scratch.env("GITHUB_STEP_SUMMARY", &path);
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, delay: 0ms } }");
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.says("warning: out/report.md cannot be added to the step summary");
}
