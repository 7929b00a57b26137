use std::fs;

use serde_json::json;

use crate::loopback::reply;
use crate::payloads::{assert_inert_markdown, assert_inert_page};
use crate::scratch::Scratch;
use crate::served::{self, Served};

const KEY: &str = "canary-0123456789abcdef";

#[test]
fn the_key_is_in_nothing_that_a_run_writes_or_prints() {
    // A server that repeats the key wherever it can.
    for status in [200, 400, 401, 429, 500] {
        let scratch = Scratch::new().env("CANARY", KEY).env("RUNNER_LOG", "trace");
        let server = Served::new(move |number, _| {
            let said = format!("you sent {KEY}");
            let body = match status {
                200 => json!({ "nonsense": said }),
                _ => json!({ "error": { "message": said, "type": "x", "code": said } }),
            };
            match number {
                0..3 => reply(
                    status,
                    &[("x-request-id", "r-1")],
                    body.to_string().as_bytes(),
                    0,
                ),
                _ => served::says("fine"),
            }
        });
        scratch.rows(2).job(&format!(
            "backends: {{ {}, b: {{ type: echo }} }}\nretry: {{ attempts: 2, initial: 1ms }}\n\
             max_failures: 100%",
            server.backend("a", ", api_key_env: CANARY")
        ));
        let ran = scratch.runner(&["job.yaml"]);
        let bearer = format!("Bearer {KEY}");
        let seen = server.seen();
        assert!(!seen.is_empty());
        assert!(
            seen.iter()
                .all(|seen| seen.header("authorization") == Some(&bearer))
        );
        ran.exits(0).never_says(KEY);
        for entry in fs::read_dir(scratch.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            assert!(!found, "{} after {status}", path.display());
        }
    }
}

#[test]
fn what_a_server_says_cannot_command_the_terminal() {
    let scratch = Scratch::new();
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n::set-env name=X::y \u{202e}txt\u{9b}31m";
    let body = json!({ "error": { "message": hostile, "code": hostile } }).to_string();
    let server = Served::always(reply(401, &[], body.as_bytes(), 0));
    scratch
        .rows(1)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (ran, _) = scratch.run(5);
    for text in [&ran.stdout, &ran.stderr] {
        let commands = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(commands), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("::")), "{text:?}");
    }
}

#[test]
fn what_a_row_says_cannot_command_the_terminal() {
    let scratch = Scratch::new();
    scratch
        .write(
            "rows.csv",
            "key,text\n\"\u{1b}[2J\n::set-env \u{202e}x\",hello\n",
        )
        .write(
            "job.yaml",
            "inputs: { path: rows.csv, id: key }\nprompt: \"{{ text }}\"\noutput: { dir: out }\n\
         backends: { a: { type: echo, delay: 0ms, failures: { row_fatal: 100% } } }\n",
        );
    let (ran, _) = scratch.run(3);
    let commands = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!ran.stdout.contains(commands), "{:?}", ran.stdout);
    ran.says("first row_fatal: row \\u{1b}[2J\\u{a}::set-env \\u{202e}x: ");
}

#[test]
fn a_reply_without_end_fails_its_row_and_not_the_machine() {
    let scratch = Scratch::new();
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    let body = vec![b' '; 1 << 16];
    let server = Served::always(crate::loopback::Act::Flood(head, body));
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nretry: {{ attempts: 1 }}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(3);
    assert_eq!(published.attempts(0), ["a first invalid"]);
    let error = published.lines[0]["error"]["message"].as_str().unwrap();
    assert!(error.contains("is larger than 8 MiB"), "{error}");
}

#[test]
fn a_cell_and_an_answer_of_a_megabyte_pass_through() {
    let scratch = Scratch::new();
    let server = Served::echo();
    let long = "long \"quoted\", cell\n".repeat(50_000);
    let cell = long.replace('"', "\"\"");
    scratch
        .write("rows.csv", format!("text\n\"{cell}\"\n"))
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(0);
    assert!(published.answers() == [&*long] && published.column("text") == [&*long]);
}

#[test]
fn what_servers_and_rows_say_is_text_in_the_reports_and_nothing_else() {
    let hostile = "</style><script>alert(1)</script><img src=x onerror=alert(1)> \"'> & \
                   [x](javascript:alert(1)) `|` \u{1b}[2J\r\n# owned \u{202e}txt\u{9b}31m";
    let scratch = Scratch::new();
    let server = Served::new(move |_, seen| match served::prompt(seen).as_str() {
        "one" => {
            let message = json!({ "role": "assistant", "content": "x" });
            let mut body = served::completion(message, "stop");
            body["model"] = json!(hostile);
            served::ok(&body)
        }
        _ => {
            let body = json!({ "error": { "message": hostile, "code": hostile } });
            reply(400, &[], body.to_string().as_bytes(), 0)
        }
    });
    let cell = hostile.replace('"', "\"\"");
    scratch
        .write("rows.csv", format!("key,text\nfirst,one\n\"{cell}\",two\n"))
        .write(
            "job.yaml",
            format!(
                "name: {}\ninputs: {{ path: rows.csv, id: key }}\nprompt: \"{{{{ text }}}}\"\n\
                 output: {{ dir: out }}\nbackends: {{ {} }}\nmax_failures: 1\n",
                // YAML takes no such character.
                json!(hostile.replace('\u{9b}', "")),
                server.backend("a", "")
            ),
        );
    scratch.run(0);
    let read = |name: &str| fs::read_to_string(scratch.path().join("out").join(name)).unwrap();
    let (page, markdown) = (read("report.html"), read("report.md"));
    for text in [&page, &markdown] {
        let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(steers), "{text:?}");
        assert!(text.contains("alert(1)"), "it is shown");
    }
    assert_inert_page(&page);
    assert_inert_markdown(&markdown);
    assert!(
        !markdown.lines().any(|line| line.starts_with("# owned")),
        "{markdown}"
    );
}

#[test]
fn what_files_are_called_and_hold_cannot_command_the_terminal_either() {
    let scratch = Scratch::new().env("FORCE_COLOR", "1");
    let hostile = "\u{1b}[2J\u{202e}\u{9b}31m\u{2028}\u{200d}\u{feff}";
    let name = format!("in/{hostile}.csv");
    scratch
        .write(&name, format!("text\n\"{hostile}\"x,\n\"open\n"))
        .write(
            "job.yaml",
            format!(
                "inputs: in/*.csv\nprompt: \"{{{{ text }}}}\"\nbackends: {{ a: {{ type: {} }} }}\n",
                hostile.replace(['\u{1b}', '\u{9b}'], "")
            ),
        );
    for args in [&["check", "job.yaml"][..], &["job.yaml", "--json"]] {
        let ran = scratch.runner(args).exits(2);
        let said = ran.stderr.replace("\u{1b}[", "<");
        let steers = |c: char| c != '\n' && tokio_prompt_orchestrator::words::steers(c);
        assert!(
            !said.contains(steers) && !ran.stdout.contains(steers),
            "{said:?} {:?}",
            ran.stdout
        );
        assert!(!said.contains("<2J"), "{said:?}");
        assert!(
            args[0] != "check" || said.contains("<1m"),
            "our own colors: {said:?}"
        );
    }
}
