use std::fs;

use serde_json::{Value, json};

use crate::published::{ADDED, read_csv, read_jsonl, read_report, units};
use crate::scratch::Scratch;
use crate::served::{self, Served};

/// Cells that something on the way might want to change.
const HOSTILE: [&str; 16] = [
    "plain",
    " spaces around ",
    "",
    "comma, and \"quotes\"",
    "\"",
    "line\nbreak",
    "carriage\r\nreturn",
    "lone\rreturn",
    "emoji 👩‍👩‍👧 ß e\u{301}",
    "{{7*7}} {% include 'x' %} {{ env.PATH }}",
    "=HYPERLINK(\"http://x\",\"y\")",
    "@SUM(1+1)\t-1",
    "\u{feff}mark inside",
    "nul \0 and bell \u{7}",
    "right to left \u{202e} \u{2028} separator",
    "{% endraw %}{{",
];

fn hostile_csv() -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["text", "n"]).expect("a header");
    for (number, cell) in HOSTILE.iter().enumerate() {
        let record = [(*cell).to_owned(), number.to_string()];
        writer.write_record(record).expect("a record");
    }
    writer.into_inner().expect("the CSV")
}

#[test]
fn cells_come_back_byte_for_byte_and_reach_the_prompt_unchanged() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", hostile_csv()).write(
        "job.yaml",
        "inputs: rows.csv\nprompt: \"[{{ text }}]\"\noutput: { dir: out }\n\
         backends: { a: { type: echo, delay: 0ms } }\n",
    );
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("text"), HOSTILE);
    let prompts = HOSTILE.map(|cell| format!("[{cell}]"));
    assert_eq!(published.answers(), prompts);
    assert_eq!(published.column("answer"), prompts);
}

#[test]
fn cells_reach_a_server_unchanged_as_well() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch.write("rows.csv", hostile_csv()).write(
        "job.yaml",
        format!(
            "inputs: rows.csv\nprompt: \"[{{{{ text }}}}]\"\noutput: {{ dir: out }}\n\
             backends: {{ {} }}\n",
            server.backend("a", "")
        ),
    );
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), HOSTILE.map(|cell| format!("[{cell}]")));
    assert_eq!(server.requests(), HOSTILE.len());
}

#[test]
fn rows_stand_in_input_order_whatever_order_they_end_in() {
    let scratch = Scratch::new();
    // The first rows take longest.
    let server = Served::new(|_, seen| {
        let prompt = served::prompt(seen);
        let number: u64 = prompt.trim_start_matches("row ").parse().unwrap_or(0);
        std::thread::sleep(std::time::Duration::from_millis(
            30_u64.saturating_sub(number),
        ));
        served::says(&prompt)
    });
    scratch
        .rows(40)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(0);
    let rows: Vec<String> = (1..=40).map(|row| format!("row {row}")).collect();
    assert_eq!(published.column("text"), rows);
    assert_eq!(published.answers(), rows);
    let ids: Vec<String> = (1..=40).map(|row| format!("rows.csv:{row}")).collect();
    assert_eq!(published.field("id"), ids);
}

#[test]
fn a_line_of_jsonl_has_the_fields_of_the_contract() {
    let scratch = Scratch::new();
    let server = Served::new(|number, _| match number {
        0 => served::fails(500, "server_error"),
        _ => served::says("yes"),
    });
    scratch.rows(1).job(&format!(
        "backends: {{ {} }}\nretry: {{ initial: 1ms }}",
        server.backend("a", "")
    ));
    let (_, published) = scratch.run(0);
    let mut line = published.lines[0].clone();
    let latency = line["latency_ms"].take();
    assert!(latency.is_u64());
    assert!(line["attempts"][0]["latency_ms"].take().is_u64());
    assert_eq!(line["attempts"][1]["latency_ms"].take(), latency);
    let error = line["attempts"][0]["error"].take();
    let error = error.as_str().unwrap();
    assert!(
        error.contains("answered 500 (server_error): as scripted"),
        "{error}"
    );
    let usage = json!({ "input_tokens": 10, "output_tokens": 5 });
    let expected = json!({
        "id": "rows.csv:1", "row": { "text": "row 1" }, "entry": "a", "repeat": 1, "answer": "yes", "status": "answered",
        "backend": "a", "model": "m-2026", "finish_reason": "stop", "usage": usage,
        "cost_usd": "0.00002", "latency_ms": null, "scores": {}, "error": null,
        "attempts": [
            { "backend": "a", "model": "m", "kind": "first", "class": "server", "error": null,
              "http_status": 500, "request_id": null, "usage": null, "cost_usd": "0.00",
              "latency_ms": null },
            { "backend": "a", "model": "m-2026", "kind": "retry", "class": null, "error": null,
              "http_status": null, "request_id": null, "usage": usage, "cost_usd": "0.00002",
              "latency_ms": null },
        ],
    });
    assert_eq!(line, expected);
}

#[test]
fn every_way_a_reply_can_be_no_answer_has_its_status() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "length" => served::ends("half an ans", "length"),
        "filter" => served::ends("", "content_filter"),
        "refusal" => served::message(
            json!({ "role": "assistant", "content": null, "refusal": "I will not" }),
            "stop",
        ),
        "empty" => served::says(" \n"),
        "broken" => served::fails(400, "invalid_request_error"),
        prompt => served::says(prompt),
    });
    scratch
        .write(
            "rows.csv",
            "text\nfine\nlength\nfilter\nrefusal\nempty\nbroken\n",
        )
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (ran, published) = scratch.run(3);
    let statuses = [
        "answered",
        "truncated",
        "filtered",
        "refused",
        "empty",
        "failed",
    ];
    assert_eq!(published.statuses(), statuses);
    let answers = ["fine", "half an ans", "", "I will not", " \n", "(none)"];
    assert_eq!(published.answers(), answers);
    // What was billed is in the books, answer or not.
    let costs = [
        "0.00002", "0.00002", "0.00002", "0.00002", "0.00002", "0.00",
    ];
    assert_eq!(published.field("cost_usd"), costs);
    assert_eq!(published.report["cost"]["total_usd"], "0.0001");
    let kinds: Vec<&Value> = published
        .lines
        .iter()
        .map(|line| &line["error"]["kind"])
        .collect();
    assert_eq!(kinds[0], &Value::Null);
    for kind in &kinds[1..4] {
        assert_eq!(*kind, "flagged");
    }
    assert_eq!(
        (kinds[4], kinds[5]),
        (&json!("invalid"), &json!("row_fatal"))
    );
    ran.says("job: 1 of 6 rows answered")
        .says("  1 truncated\n  1 refused\n  1 filtered\n  1 empty\n  1 failed\n")
        .says("exit 3: 5 rows have no answer, max_failures allows 0");
    // A flagged reply is not asked for again.
    assert_eq!(server.requests(), 6);
}

#[test]
fn the_echo_backend_reaches_the_statuses_without_a_network() {
    let scratch = Scratch::new();
    let job = |backend: &str| {
        scratch.rows(3).job(&format!(
            "backends: {{ a: {{ type: echo, delay: 0ms, {backend} }} }}\n\
             retry: {{ attempts: 2, initial: 1ms }}"
        ));
    };
    job("failures: { flagged: 100% }");
    let (_, published) = scratch.run_fresh(3);
    assert_eq!(published.statuses(), ["truncated"; 3]);
    job("reply: \"\"");
    let (_, published) = scratch.run_fresh(3);
    assert_eq!(published.statuses(), ["empty"; 3]);
    job("failures: { server: 100% }");
    let (_, published) = scratch.run_fresh(3);
    assert_eq!(published.statuses(), ["failed"; 3]);
    assert_eq!(published.attempts(0), ["a first server", "a retry server"]);
    job("failures: { config: 100% }, limits: { concurrency: 1 }");
    let (_, published) = scratch.run_fresh(5);
    assert_eq!(
        (published.count("failed"), published.count("not_run")),
        (1, 2)
    );
    let not_asked = published
        .lines
        .iter()
        .filter(|line| line["backend"].is_null());
    assert_eq!(not_asked.count(), 2);
}

#[test]
fn a_prefix_renames_the_added_columns_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", "answer,run_status\nx,y\n").write(
        "job.yaml",
        "inputs: rows.csv\nprompt: \"{{ answer }}\"\nbackends: { a: { type: echo } }\n\
         output: { dir: out }\n",
    );
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    ran.says("the input has columns `answer` and `run_status`, and the results add them too")
        .says("help: give the added columns a prefix: `output: { prefix: result_ }`")
        .says("nothing was sent");
    scratch
        .runner(&["job.yaml", "--set", "output.prefix=my_"])
        .exits(0);
    let (header, records) = read_csv(&scratch.path().join("out/results.csv"));
    assert_eq!(header[..2], ["answer", "run_status"]);
    assert_eq!(header[2..], ADDED.map(|name| format!("my_{name}")));
    assert_eq!(records[0][..4], ["x", "y", "x", "answered"]);
    // JSONL needs no prefix: the row has its own place.
    let lines = read_jsonl(&scratch.path().join("out/results.jsonl"));
    assert_eq!(lines[0]["row"], json!({ "answer": "x", "run_status": "y" }));
    assert_eq!(lines[0]["answer"], "x");
}

#[test]
fn only_the_formats_that_are_asked_for_are_written() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    let out = scratch.path().join("out");
    for (formats, csv, jsonl) in [("[csv]", true, false), ("[jsonl]", false, true)] {
        let formats = format!("output.formats={formats}");
        scratch.runner(&["job.yaml", "--set", &formats]).exits(0);
        assert_eq!(out.join("results.csv").exists(), csv);
        assert_eq!(out.join("results.jsonl").exists(), jsonl);
        assert!(out.join("report.json").exists());
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn every_total_is_the_exact_sum_of_the_attempts() {
    let scratch = Scratch::new();
    // Prices and counts with which floating point goes wrong at once. Who fails depends on the row alone; who is asked
    // depends on the breaker, too, and with it on who fails one after the other: so both fail in every way.
    scratch.rows(200).job(
        "backends:\n\
         \x20 a: { type: echo, model: small, delay: 0ms, failures: { server: 30%, flagged: 5%, row_fatal: 3% },\n\
         \x20      seed: 3, usage: { input_tokens: 1234567, output_tokens: 7 }, price: { input: 0.1, output: 0.3 } }\n\
         \x20 b: { type: echo, model: large, delay: 0ms, failures: { ambiguous: 10%, invalid: 10%, flagged: 5%, row_fatal: 5% },\n\
         \x20      seed: 5, usage: { input_tokens: 3, output_tokens: 999999999 }, price: { input: 0.000000001, output: 12.345678901 } }\n\
         retry: { attempts: 2, initial: 1ms, max: 1ms }",
    );
    let (_, published) = scratch.run(3);
    assert!(published.count("answered") > 150);
    assert!(published.count("truncated") > 0);
    assert!(published.count("failed") > 0);
    let a = 1_234_567 * 100_000_000 + 7 * 300_000_000_i128;
    let b = 3 + 999_999_999 * 12_345_678_901_i128;
    let paid = |backend: &str| {
        let lines = published.lines.iter();
        lines
            .filter(|line| line["backend"] == backend && !line["answer"].is_null())
            .count() as i128
    };
    assert!(paid("a") > 0 && paid("b") > 0);
    let total = published.report["cost"]["total_usd"].as_str().unwrap();
    assert_eq!(units(total), paid("a") * a + paid("b") * b);
    let by_class = &published.report["attempts"]["by_class"];
    let doubtful = ["ambiguous", "invalid"].map(|class| by_class[class].as_u64().unwrap_or(0));
    let doubtful: u64 = doubtful.iter().sum();
    assert!(doubtful > 0);
    let possibly = published.report["cost"]["possibly_billed_usd"].as_str();
    assert_eq!(units(possibly.unwrap()), i128::from(doubtful) * b);
    assert_eq!(published.report["cost"]["unbounded_attempts"], 0);
}

#[test]
fn a_model_without_a_price_costs_unknown_and_not_nothing() {
    let scratch = Scratch::new();
    let server = Served::echo();
    let backend = server
        .backend("a", "")
        .replace("price: { input: 1, output: 2 }", "");
    scratch
        .rows(2)
        .job(&format!("backends: {{ {backend} }}").replace(",  }", " }"));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.field("cost_usd"), ["(none)"; 2]);
    assert_eq!(published.column("run_cost_usd"), [""; 2]);
    assert_eq!(published.report["cost"]["unpriced_attempts"], 2);
    ran.says("unknown").says("No price is known for 2 attempts");
}

#[test]
fn a_free_failure_before_an_answer_without_a_price_does_not_make_it_free() {
    let scratch = Scratch::new();
    let server = Served::new(|request, _| match request {
        0 => served::fails(503, "server_error"),
        _ => served::says("x"),
    });
    let backend = server
        .backend("a", "")
        .replace("price: { input: 1, output: 2 }", "");
    let job = format!("backends: {{ {backend} }}\nretry: {{ initial: 1ms }}");
    scratch.rows(1).job(&job.replace(",  }", " }"));
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("run_cost_usd"), [""]);
}

#[test]
fn a_reply_without_usage_is_possibly_billed_and_never_free() {
    let scratch = Scratch::new();
    let mut body = served::completion(json!({ "role": "assistant", "content": "x" }), "stop");
    body["usage"].take();
    let server = Served::always(served::ok(&body));
    scratch
        .rows(1)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(0);
    assert_eq!(published.lines[0]["usage"], Value::Null);
    assert_eq!(published.column("run_input_tokens"), [""]);
    assert_eq!(published.report["cost"]["total_usd"], "0.00");
    let at_most = published.report["cost"]["possibly_billed_usd"]
        .as_str()
        .unwrap();
    // At least the prompt at a token a byte and the whole output cap.
    assert!(units(at_most) >= (5 + 16 * 2) * 1_000_000_000, "{at_most}");
    assert_eq!(published.report["tokens"]["unreported_attempts"], 1);
}

#[cfg(unix)]
#[test]
fn results_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let mode = |path: &str| {
        let path = scratch.path().join(path);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("out"), 0o700);
    for file in [
        "results.csv",
        "results.jsonl",
        "report.json",
        "report.md",
        "report.html",
        "junit.xml",
        "run.db",
    ] {
        assert_eq!(mode(&format!("out/{file}")), 0o600, "{file}");
    }
}

#[test]
fn a_second_run_replaces_the_files_and_leaves_nothing_half_done() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    scratch.rows(2);
    let (_, published) = scratch.run(0);
    assert_eq!(published.lines.len(), 2);
    let names = fs::read_dir(scratch.path().join("out")).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("run."))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "junit.xml",
            "report.html",
            "report.json",
            "report.md",
            "results.csv",
            "results.jsonl"
        ]
    );
}

#[test]
fn what_a_killed_runner_left_half_written_is_removed_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    let half_written = [".results.csv.Ab3", ".results.jsonl.x", ".report.json.1"];
    let not_ours = [".results", "results.csv.bak", ".notes.txt"];
    for command in ["run", "export"] {
        for name in half_written.iter().chain(&not_ours) {
            scratch.write(&format!("out/{name}"), "half");
        }
        match command {
            "run" => scratch.runner(&["job.yaml"]),
            _ => scratch.runner(&["export", "out"]),
        }
        .exits(0);
        let there = |name: &&&str| scratch.path().join("out").join(name).exists();
        assert_eq!(half_written.iter().filter(there).count(), 0, "{command}");
        assert_eq!(not_ours.iter().filter(there).count(), 3, "{command}");
    }
}

#[test]
fn twenty_thousand_rows_come_out_complete_and_in_order() {
    let scratch = Scratch::new();
    scratch
        .rows(20_000)
        .job("backends: { a: { type: echo, delay: 0ms } }");
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    let lines = read_jsonl(&scratch.path().join("out/results.jsonl"));
    assert_eq!(lines.len(), 20_000);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["answer"], format!("row {}", number + 1));
    }
    assert_eq!(
        read_report(&scratch.path().join("out"))["rows"]["by_status"]["answered"],
        20_000
    );
    assert!(ran.took.as_secs() < 25, "{:?}", ran.took);
}
