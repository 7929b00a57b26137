use std::time::Duration;

use serde_json::json;
use tokio_prompt_orchestrator::words::steers;

use crate::loopback::reply;
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};
use crate::tty;

/// A run of about two seconds: 24 rows, a backend that takes one request in 80 ms, and one that is idle.
fn slow(scratch: &Scratch) -> Served {
    let server = Served::slowly(Duration::from_millis(80), |number, seen| match number {
        3 => served::fails(400, "bad_request"),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(24).job(&format!(
        "backends: {{ {}, spare: {{ type: echo }} }}\nmax_failures: 1\nbudget: 5.00",
        server.backend("gpt", ", limits: { concurrency: 1 }")
    ));
    server
}

#[test]
fn a_terminal_shows_how_far_the_run_is_in_lines_that_fit_it() {
    for columns in [20, 40, 80, 200] {
        let scratch = Scratch::new().env("TERM", "xterm");
        let _server = slow(&scratch);
        let screen = tty::start(scratch.command(&["job.yaml"]), columns).wait();
        assert_eq!(screen.code, Some(0));
        let text = screen.text();
        let has = |part: &str| assert!(text.contains(part), "{columns}: {part}\n{text}");
        // Each line of a frame is padded to the width: one that went over it would be found in the last column.
        let rows = screen.frames("/24 ", columns.into());
        let frames = rows.iter().filter(|row| row.len() == usize::from(columns));
        let mut last_columns = frames.map(|row| row.chars().last());
        assert!(last_columns.clone().count() > 8, "{rows:#?}");
        assert!(last_columns.all(|last| last == Some(' ')), "{rows:#?}");
        assert!(text.contains("/24"), "{text}");
        if columns >= 40 {
            has("1 failed  $0.0");
            has(" of $5.00 ");
            has("  gpt  1/1 in flight");
            has("  spare  0/16 in flight");
            has("eta ");
        }
        if columns >= 80 {
            has("answered  1 failed");
            has("[##");
        }
    }
}

#[test]
fn what_a_backend_waits_for_is_shown() {
    let scratch = Scratch::new().env("TERM", "xterm");
    let server = Served::new(|number, seen| match number {
        0 => served::fails_with(429, "rate_limit_exceeded", &[("retry-after", "1")]),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(2).job(&format!(
        "backends: {{ {}, paced: {{ type: echo, delay: 0ms, limits: {{ requests_per_minute: 90 }} }} }}\n\
         matrix: [gpt, paced]",
        server.backend("gpt", "")
    ));
    let screen = tty::start(scratch.command(&["job.yaml"]), 100).wait();
    assert_eq!(screen.code, Some(0));
    let text = screen.text();
    assert!(text.contains("paused 1 s: throttled"), "{text}");
    assert!(text.contains("waits for its request limit"), "{text}");
}

#[test]
fn where_lines_cannot_be_drawn_again_each_is_whole() {
    for (name, value) in [("TERM", "dumb"), ("CI", "true")] {
        let scratch = Scratch::new().env("TERM", "xterm").env(name, value);
        let server = Served::slowly(Duration::from_millis(300), |_, seen| {
            served::says(&served::prompt(seen))
        });
        scratch.rows(10).job(&format!(
            "backends: {{ {} }}",
            server.backend("gpt", ", limits: { concurrency: 1 }")
        ));
        let screen = tty::start(scratch.command(&["job.yaml"]), 80).wait();
        assert!(!screen.bytes.contains(&0x1b), "{:?}", screen.text());
        let text = screen.text();
        let told: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("/10 rows ("))
            .collect();
        assert_eq!(told.len(), 1, "once in two seconds at first: {text}");
        assert!(
            told[0].contains("%), 3.") && told[0].contains("/s, eta "),
            "{told:?}"
        );
        assert!(told[0].contains(" answered, $0.000"), "{told:?}");
    }
}

#[test]
fn nothing_that_servers_rows_and_names_say_commands_the_terminal() {
    let hostile = "\u{1b}[2J\u{1b}]52;c;x\u{7}\u{1b}P1q\r\n::set-env name=X::y\n##vso[task.setvariable]z\
                   \u{202e}txt\u{9b}31m\u{2028}\u{200d}\u{7f}";
    let error = json!({ "error": { "message": hostile, "code": hostile } }).to_string();
    let scratch = Scratch::new()
        .env("TERM", "xterm")
        .env("RUNNER_LOG", "trace");
    let server = Served::slowly(Duration::from_millis(100), move |number, _| match number {
        0 => reply(429, &[("retry-after", "1")], error.as_bytes(), 0),
        1 => reply(500, &[], error.as_bytes(), 0),
        2 => reply(400, &[("x-request-id", "a\u{9b}b")], error.as_bytes(), 0),
        3 => reply(401, &[], error.as_bytes(), 0),
        _ => served::says(hostile),
    });
    let cell = hostile.replace('"', "\"\"");
    scratch
        .write("rows.csv", format!("key,text\n\"{cell}\",one\ntwo,two\nthree,three\n"))
        .write(
            "job.yaml",
            format!(
                "name: {}\ninputs: {{ path: rows.csv, id: key }}\nprompt: \"{{{{ text }}}}\"\n\
                 output: {{ dir: out }}\nbackends: {{ {}, ::set-env: {{ type: echo, delay: 10ms }} }}\n\
                 matrix: [b, \"::set-env\"]\nretry: {{ initial: 10ms }}\nmax_failures: 100%\n",
                // YAML takes no such character.
                json!(hostile.replace(['\u{9b}', '\u{7f}'], "")),
                server.backend("b", "")
            ),
        );
    let commands: [&[&str]; 12] = [
        &["job.yaml"],
        &["status", "out"],
        &["report", "out"],
        &["report", "out", "--format", "md"],
        &["report", "out", "--format", "json"],
        &["export", "out", "--stdout", "csv"],
        &["export", "out", "--stdout", "jsonl"],
        &["plan", "job.yaml"],
        &["explain", "job.yaml", "--request"],
        &["probe", "job.yaml"],
        &["check", "job.yaml", "--json"],
        &["job.yaml", "--fresh", "--json"],
    ];
    for command in commands {
        let text = tty::start(scratch.command(command), 200).wait().text();
        assert!(!text.is_empty(), "{command:?}");
        let steering = text
            .chars()
            .find(|c| steers(*c) && !['\r', '\n'].contains(c));
        assert_eq!(steering, None, "{command:?}: {text:?}");
        assert!(!text.contains("##vso["), "{command:?}: {text}");
        let starts = text.lines().map(str::trim_start);
        let orders: Vec<&str> = starts.filter(|line| line.starts_with("::")).collect();
        assert!(orders.is_empty(), "{command:?}: {orders:?}");
    }
}

#[test]
fn a_log_does_not_tear_what_is_drawn() {
    let scratch = Scratch::new()
        .env("TERM", "xterm")
        .env("RUNNER_LOG", "debug");
    let server = Served::slowly(Duration::from_millis(60), |number, seen| match number % 2 {
        0 => served::fails(500, "server_error"),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(12).job(&format!(
        "backends: {{ {} }}\nretry: {{ initial: 1ms, attempts: 9 }}",
        server.backend("gpt", ", limits: { concurrency: 1 }")
    ));
    let screen = tty::start(scratch.command(&["job.yaml"]), 300).wait();
    assert_eq!(screen.code, Some(0));
    let text = screen.text();
    let logged: Vec<&str> = text
        .split(['\r', '\n'])
        .filter(|line| line.contains("attempt failed"))
        .collect();
    assert_eq!(logged.len(), 12, "{text}");
    for line in logged {
        assert!(
            line.starts_with("20") && !line.contains("/12  "),
            "{line:?}"
        );
    }
}

#[test]
fn a_terminal_that_goes_away_does_not_end_the_run() {
    let scratch = Scratch::new().env("TERM", "xterm");
    let server = Served::slowly(Duration::from_millis(60), |_, _| served::says("x"));
    scratch.rows(10).job(&format!(
        "backends: {{ {} }}",
        server.backend("gpt", ", limits: { concurrency: 1 }")
    ));
    for signal in ["HUP", "PIPE"] {
        let running = scratch.start(&["job.yaml", "--fresh"]);
        let before = server.arrivals().len();
        until("a request", || server.arrivals().len() > before);
        running.signal(signal);
        running.wait().exits(0);
        let answered = scratch.published("out", 0).count("answered");
        assert_eq!(answered, 10, "{signal}");
    }
    let command = scratch.command(&["job.yaml", "--fresh"]);
    let ended = tty::start_and_leave(command).wait();
    assert_eq!(ended.expect("it ends").code(), Some(0));
    assert_eq!(scratch.published("out", 0).count("answered"), 10);
}

#[test]
fn a_summary_for_which_there_is_no_room_is_no_success() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let scratch = Scratch::new();
    for (job, code) in [("", 1), (", failures: { row_fatal: 100% }", 3)] {
        scratch.rows(2).job(&format!(
            "backends: {{ a: {{ type: echo, delay: 0ms {job} }} }}"
        ));
        for more in [&["--fresh"][..], &["--fresh", "--json"]] {
            let mut command = scratch.command(&[&["job.yaml"], more].concat());
            let ran = command.stdout(full().expect("Linux has it")).output();
            let ran = ran.expect("the runner starts");
            assert_eq!(ran.status.code(), Some(code));
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(
                said.contains("error: cannot write to stdout: No space left on device"),
                "{said}"
            );
        }
    }
}
