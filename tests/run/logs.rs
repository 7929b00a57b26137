use std::fs;

use serde_json::json;

use crate::loopback::reply;
use crate::scratch::Scratch;
use crate::served::{self, Served};

const KEY: &str = "canary-0123456789abcdef";
const PROMPT: &str = "what the prompt says";
const ANSWER: &str = "what the answer says";

/// Two rows: the server refuses the first request, with the key and what should not be seen in its words, and answers
/// the others so.
fn job(scratch: &Scratch) -> Served {
    let said = format!("you sent {KEY}\u{1b}[2J\n::set-env");
    let error = json!({ "error": { "message": said } }).to_string();
    let server = Served::new(move |number, _| match number {
        0 => reply(500, &[], error.as_bytes(), 0),
        _ => served::says(&format!("{ANSWER} {KEY}\n\u{202e}second line")),
    });
    scratch
        .write("rows.csv", format!("text\n{PROMPT} 1\n{PROMPT} 2\n"))
        .job(&format!(
            "backends: {{ {}, b: {{ type: echo }} }}\nretry: {{ initial: 1ms }}",
            server.backend("a", ", api_key_env: CANARY")
        ));
    server
}

fn read(scratch: &Scratch, name: &str) -> String {
    fs::read_to_string(scratch.path().join(name)).expect("the log")
}

#[test]
fn a_log_in_a_file_says_what_happened_and_nothing_of_what_was_said() {
    let scratch = Scratch::new().env("CANARY", KEY).env("RUNNER_LOG", "trace");
    let _server = job(&scratch);
    let ran = scratch.runner(&["job.yaml", "--log", "run.log"]).exits(0);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let log = read(&scratch, "run.log");
    assert!(
        log.contains("DEBUG runner::cli::log: attempt failed: "),
        "{log}"
    );
    for hidden in [KEY, PROMPT, ANSWER] {
        assert!(!log.contains(hidden), "{hidden}: {log}");
    }
    let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!log.contains(steers), "{log:?}");
    // One event is one line.
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
}

#[test]
fn a_log_is_for_its_owner_and_goes_on_where_it_was() {
    let scratch = Scratch::new().env("RUNNER_LOG_FILE", "run.log");
    scratch.rows(1).job("backends: { a: { type: echo } }");
    scratch.runner(&["job.yaml"]).exits(0);
    let first = read(&scratch, "run.log");
    assert!(
        first.contains(" INFO ") && !first.contains(" DEBUG "),
        "{first}"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let about = fs::metadata(scratch.path().join("run.log")).expect("the log");
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
    scratch.runner(&["job.yaml", "--fresh"]).exits(0);
    let both = read(&scratch, "run.log");
    assert!(
        both.starts_with(&first) && both.len() > first.len(),
        "{both}"
    );
}

#[test]
fn what_was_asked_and_answered_is_logged_where_somebody_wants_it_without_the_key() {
    for (more, variable) in [
        (&["--log-content"][..], "NOTHING"),
        (&[], "RUNNER_LOG_CONTENT"),
    ] {
        let scratch = Scratch::new().env("CANARY", KEY).env(variable, "1");
        let _server = job(&scratch);
        let args = [&["job.yaml", "--log", "run.log"], more].concat();
        scratch.runner(&args).exits(0);
        let log = read(&scratch, "run.log");
        let asked = log
            .lines()
            .filter(|line| line.contains(&format!("{PROMPT} 1")));
        assert!(asked.count() >= 1, "{log}");
        let answered = log.lines().filter(|line| line.contains(ANSWER));
        assert_eq!(answered.count(), 2, "{log}");
        assert!(log.contains(&format!("{ANSWER} [key]")), "{log}");
        assert!(!log.contains(KEY), "{log}");
        let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!log.contains(steers), "{log:?}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_a_wrong_use() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    let ran = scratch
        .runner(&["job.yaml", "--log", "no/such/dir.log"])
        .exits(2);
    ran.says("error: cannot open the log no/such/dir.log: No such file or directory");
    assert!(!scratch.path().join("out").exists());
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_log_of_content_that_goes_nowhere_is_told() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    let ran = scratch.runner(&["job.yaml", "--log-content"]).exits(0);
    ran.says("warning: what is asked and answered is logged nowhere");
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.never_says("logged nowhere");
}

#[test]
fn why_an_answer_is_not_valid_is_in_the_log_of_content_alone() {
    let scratch = Scratch::new();
    let server = Served::always(served::says(ANSWER));
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nanswer: {{ labels: [yes, no], reask: 1 }}",
        server.backend("a", "")
    ));
    scratch.runner(&["job.yaml", "--log", "plain.log"]).exits(3);
    let log = read(&scratch, "plain.log");
    assert!(log.contains("answer is not valid"), "{log}");
    assert!(!log.contains(ANSWER), "{log}");
    let args = ["job.yaml", "--fresh", "--log", "whole.log", "--log-content"];
    scratch.runner(&args).exits(3);
    assert!(read(&scratch, "whole.log").contains(ANSWER));
}
