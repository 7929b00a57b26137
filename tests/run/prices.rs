//! Prices: whose hold, how they are listed, and what a finished run comes to by others.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::loopback::Act;
use crate::published::units;
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

/// What `runner prices … --json` prints.
#[track_caller]
fn listed(scratch: &Scratch, args: &[&str]) -> Vec<Value> {
    let args = [&["prices"], args, &["--json"]].concat();
    let ran = scratch.runner(&args).exits(0);
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(all["schema"], "runner.prices/1");
    all["prices"].as_array().expect("a list").clone()
}

/// The rate for input and the source of each backend of `job.yaml`.
#[track_caller]
fn inputs(scratch: &Scratch, args: &[&str]) -> Vec<(Value, Value)> {
    let lines = listed(scratch, &[&["job.yaml"], args].concat());
    let input = |line: Value| (line["price"]["input"].clone(), line["source"].clone());
    lines.into_iter().map(input).collect()
}

const FIVE: &str = "backends: { own: { type: openai, model: gpt-4o, price: { input: 9, output: 9 } }, \
     gpt: { type: openai, model: gpt-4o }, mini: { type: openai, model: gpt-4o-mini }, \
     local: { type: llama_cpp }, odd: { type: openai, model: nobody-knows } }";

#[test]
fn the_job_comes_before_the_command_before_the_jobs_files_before_the_table() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    // The input is not there, nor is a key: neither is needed.
    scratch
        .job(&format!("{FIVE}\nprices: lists/job.csv"))
        .write(
            "lists/job.csv",
            "models,provider,output,input\ngpt-4o,openai,2,1.5\n",
        )
        .write(
            "cli.csv",
            "provider,models,input,output,source\n*,gpt-4o-mini|*know*,3,4,us\n",
        )
        .write("late.csv", "provider,models,input,output\n*,*,7,7\n");
    let table = json!("https://developers.openai.com/api/docs/pricing");
    let expected = [
        (json!("9.00"), json!("the job")),
        (json!("1.50"), json!("job.csv")),
        (json!("0.15"), table),
        (json!("0.00"), json!("local")),
        (Value::Null, Value::Null),
    ];
    assert_eq!(inputs(&scratch, &[]), expected);
    let mut with = expected.clone();
    with[2] = (json!("3.00"), json!("us"));
    with[4] = with[2].clone();
    assert_eq!(inputs(&scratch, &["--prices", "cli.csv"]), with);
    // The first file that has a line counts, and its line is asked before those of the job's files.
    let both = ["--prices", "cli.csv", "--prices", "late.csv"];
    let late = (json!("7.00"), json!("late.csv"));
    (with[1], with[3]) = (late.clone(), late);
    assert_eq!(inputs(&scratch, &both), with);
    let ran = scratch.runner(&["prices", "job.yaml"]).exits(0);
    ran.says("no price is known for odd: set `price`")
        .says("job.csv")
        .says("unknown");
}

#[test]
fn the_latest_line_that_holds_counts_and_of_several_the_first() {
    let scratch = Scratch::new();
    scratch.job("backends: { a: { type: vllm, model: m/x }, b: { type: vllm } }\nprices: p.csv");
    scratch.write(
        "p.csv",
        "provider,models,valid_from,input,output\n\
         vllm,*,,1,1\nvllm,m/*,,2,2\nvllm,m*,2020-01-02,3,3\nvllm,m/?,2020-01-02,4,4\nvllm,*,9999-01-01,5,5\n",
    );
    let file = json!("p.csv");
    let expected = [(json!("3.00"), file.clone()), (json!("1.00"), file)];
    assert_eq!(inputs(&scratch, &[]), expected);
}

#[test]
fn what_is_listed_as_csv_is_a_price_file_that_says_the_same() {
    let scratch = Scratch::new();
    let list = scratch.runner(&["prices", "--csv"]).exits(0).stdout;
    scratch.write("list.csv", &list);
    let again = ["prices", "--csv", "--prices", "list.csv"];
    assert_eq!(scratch.runner(&again).exits(0).stdout, list);
    assert!(list.lines().count() > 90, "{list}");

    let backends = |price: &str| {
        format!(
            "backends: {{ luna: {{ type: openai, model: gpt-5.6-luna }}, \
             odd: {{ type: http, url: 'http://localhost/', body: {{}}, pointers: {{ text: '' }}, \
             model: 'a*[b]?|c, \"d\"'{price} }}, none: {{ type: vllm }} }}"
        )
    };
    let price = ", price: { input: 0.000000001, output: 2, cache_write_1h: 0, per_request: 0.01, per_hour: 3 }";
    scratch.job(&backends(price));
    let own = listed(&scratch, &["job.yaml"]);
    let csv = scratch
        .runner(&["prices", "job.yaml", "--csv"])
        .exits(0)
        .stdout;
    scratch.job(&backends("")).write("own.csv", csv);
    let read = listed(&scratch, &["job.yaml", "--prices", "own.csv"]);
    assert_eq!(read, own);
    assert_eq!(own[0]["price"]["above"]["tokens"], 272_000);
    assert_eq!(own[0]["batch"]["above"]["rates"]["input"], "0.20");
}

#[test]
fn models_are_found_by_their_name_and_by_a_pattern() {
    let scratch = Scratch::new();
    let found = |model: &str| listed(&scratch, &["--model", model]).len();
    assert_eq!(found("gpt-4o-mini-2024-07-18"), 1);
    assert_eq!(found("claude-3-5-haiku-20241022"), 1);
    assert!(found("claude-*") > 15);
    assert_eq!(found("nobody-knows"), 0);
    scratch
        .runner(&["prices", "--model", "gpt-4o-mini"])
        .exits(0)
        .says("https://developers.openai.com/api/docs/pricing, 2026-08-21")
        .says("0.075");
    scratch.runner(&["prices", "--model", "["]).exits(2);
}

#[test]
fn prices_that_nobody_has_looked_at_for_long_are_warned_of() {
    let scratch = Scratch::new();
    let today = jiff::Zoned::now().date();
    scratch.job("backends: { a: { type: echo } }").write(
        "old.csv",
        "provider,models,input,output,as_of\necho,*,1,1,2020-01-01\n",
    );
    let new = format!("provider,models,input,output,as_of\necho,*,1,1,{today}\n");
    scratch.write("new.csv", new);
    let prices = |file| {
        scratch
            .runner(&["prices", "job.yaml", "--prices", file])
            .exits(0)
    };
    prices("old.csv").says("warning: prices of 2020-01-01 are ");
    prices("new.csv").never_says("warning");
}

#[test]
fn a_file_cannot_command_the_terminal() {
    let scratch = Scratch::new();
    scratch.job("backends: { a: { type: echo } }").write(
        "p.csv",
        "provider,models,input,output,source\necho,\u{1b}c|echo,1,1,\u{1b}]0;x\u{7}\n",
    );
    scratch
        .runner(&["prices", "job.yaml", "--prices", "p.csv"])
        .exits(0)
        .never_says("\u{1b}")
        .says("\\u{1b}]0;x");
    let list = ["prices", "--prices", "p.csv"];
    scratch.runner(&list).exits(0).never_says("\u{1b}");
}

#[test]
fn a_price_file_that_cannot_be_read_is_a_problem_before_anything_is_sent() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    scratch.write(
        "bad.csv",
        "provider,models,input,output\nopenai,gpt-4o,1,two\n",
    );
    scratch.write("large.csv", vec![b'#'; (10 << 20) + 1]);
    for command in [
        &["job.yaml"][..],
        &["check", "job.yaml"],
        &["prices", "job.yaml"],
        &["prices"],
    ] {
        for (file, problem) in [
            ("bad.csv", " --> bad.csv:2:17"),
            ("none.csv", "cannot read none.csv"),
            ("large.csv", "large.csv is larger than 10 MiB"),
        ] {
            let args = [command, &["--prices", file]].concat();
            scratch.runner(&args).exits(2).says(problem);
        }
    }
    assert!(!scratch.path().join("out").exists());
}

#[test]
fn a_run_is_charged_by_the_file_and_says_so() {
    let scratch = Scratch::new();
    scratch.rows(10).job(
        "backends: { a: { type: echo, usage: { input_tokens: 1000, output_tokens: 10 } } }\nprices: [p.csv]",
    );
    scratch.write(
        "p.csv",
        "provider,models,above_tokens,input,output,as_of\necho,echo,,1,2,2026-11-01\necho,echo,999,3,4,2026-11-01\n",
    );
    let (_, published) = scratch.run(0);
    let report = &published.report;
    // 1000 tokens are more than 999.
    assert_eq!(report["cost"]["total_usd"], "0.0304");
    let [price] = &report["prices"].as_array().unwrap()[..] else {
        panic!("{}", report["prices"]);
    };
    let told = json!({
        "id": price["id"], "source": "p.csv", "as_of": "2026-11-01", "backends": ["a"], "attempts": 10,
        "usd": "0.0304",
    });
    assert_eq!(*price, told);
    let report = fs::read_to_string(scratch.path().join("out/report.md")).unwrap();
    assert!(
        report.contains("| p.csv, 2026-11-01 | a | 10 | 0.0304 |"),
        "{report}"
    );
}

#[test]
fn a_price_that_changes_between_runs_changes_nothing_that_was_paid() {
    let scratch = Scratch::new();
    let usage = "usage: { input_tokens: 1000, output_tokens: 0 }";
    let priced = |price: &str| {
        scratch.job(&format!(
            "backends: {{ a: {{ type: echo, {usage}, price: {{ input: {price}, output: 0 }} }} }}"
        ));
    };
    scratch.rows(4);
    priced("1");
    scratch.run(0);
    scratch.rows(10);
    priced("5");
    let (ran, published) = scratch.run(0);
    let mut paid: Vec<&str> = published.report["prices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|price| price["usd"].as_str().unwrap())
        .collect();
    paid.sort_unstable();
    assert_eq!(paid, ["0.004", "0.03"]);
    assert_eq!(published.report["cost"]["total_usd"], "0.034");
    ran.says("a was charged by 2 prices: ")
        .says("$0.004 for 4 attempts by the job")
        .says("$0.03 for 6 attempts by the job");
    scratch.runner(&["verify", "out"]).exits(0);
}

/// The bytes of every file in a directory.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("it can be read"))
        })
        .filter(|(name, _)| !name.ends_with("-shm") && !name.ends_with("-wal"))
        .collect();
    files.sort();
    files
}

/// Failures of every kind, a fallback, a matrix, duplicates, a row that has gone.
fn eventful() -> Scratch {
    let scratch = Scratch::new();
    let failures = "failures: { server: 20%, ambiguous: 10%, invalid: 10%, flagged: 5% }";
    scratch.rows(121).job(&format!(
        "backends:\n  a: {{ type: echo, model: small, delay: 0ms, seed: 3, {failures}, price: {{ input: 1, output: 2 }} }}\n  \
         b: {{ type: echo, model: large, delay: 0ms, price: {{ input: 3, output: 4, per_request: 0.001 }} }}\n  \
         c: {{ type: echo, model: other, delay: 0ms }}\n\
         matrix: [[a, b], c]\nretry: {{ initial: 1ms, max: 2ms }}\nmax_failures: 100%\nbudget: 100"
    ));
    scratch.runner(&["job.yaml"]).exits(0);
    scratch.runner(&["job.yaml", "--limit", "120"]).exits(0);
    scratch
}

#[test]
fn a_report_is_printed_again_as_it_was_published_and_nothing_is_written() {
    let scratch = eventful();
    let out = scratch.path().join("out");
    let before = files(&out);
    for (format, file) in [("json", "report.json"), ("md", "report.md")] {
        let args = ["report", "out", "--format", format];
        let printed = scratch.runner(&args).exits(0).stdout;
        let published = fs::read_to_string(out.join(file)).unwrap();
        assert_eq!(printed, published, "{file}");
    }
    let text = scratch.runner(&["report", "out"]).exits(0);
    text.says("240 results for 120 rows")
        .never_says("priced anew");
    scratch.write("p.csv", "provider,models,input,output\necho,*,1,1\n");
    scratch
        .runner(&["report", "out", "--prices", "p.csv"])
        .exits(0);
    assert!(files(&out) == before, "something was written");
    scratch
        .runner(&["report", "."])
        .exits(2)
        .says("holds no run");
    let bad = ["report", "out", "--prices", "none.csv"];
    scratch.runner(&bad).exits(2).says("cannot read none.csv");
}

#[test]
fn other_prices_are_the_exact_sum_over_the_stored_usage() {
    let scratch = eventful();
    let published = scratch.published("out", 0);
    scratch.write(
        "p.csv",
        "provider,models,input,output,source,as_of\n*,small,0.007,11,us,2026-11-01\nopenai,*,1,1,,\necho,large,5,6,,\n",
    );
    let report = |args: &[&str]| -> Value {
        let args = [&["report", "out", "--format", "json"], args].concat();
        serde_json::from_str(&scratch.runner(&args).exits(0).stdout).expect("JSON")
    };
    let (stored, anew) = (report(&[]), report(&["--prices", "p.csv"]));
    // What the lines of the results say that was used; of what was removed the totals know.
    let rates = |backend: &str| match backend {
        "a" => Some((units("0.000000007"), units("0.000011"))),
        "b" => Some((units("0.000005"), units("0.000006"))),
        _ => None,
    };
    let mut sums = std::collections::BTreeMap::<&str, i128>::new();
    let mut unknown = 0;
    for attempt in published
        .lines
        .iter()
        .flat_map(|line| line["attempts"].as_array().unwrap())
    {
        let backend = attempt["backend"].as_str().unwrap();
        let Some((input, output)) = rates(backend) else {
            continue;
        };
        let usage = &attempt["usage"];
        let tokens = |class: &str| i128::from(usage[class].as_u64().unwrap_or(0));
        *sums.entry(backend).or_default() +=
            tokens("input_tokens") * input + tokens("output_tokens") * output;
        unknown += u64::from(attempt["cost_usd"].is_null());
    }
    assert!(unknown > 5, "{unknown}");
    let cost =
        |report: &Value, key: &str| units(report["cost"]["by_backend"][key].as_str().unwrap());
    let removed = units(anew["cost"]["removed_rows_usd"].as_str().unwrap());
    let both = cost(&anew, "a") + cost(&anew, "b");
    assert_eq!(both, sums["a"] + sums["b"] + removed);
    assert_ne!(anew["attempts"]["removed_rows"], 0);
    // No line is for this one: it is as it was charged.
    assert_eq!(cost(&anew, "c"), cost(&stored, "c"));
    // What nobody knew before, nobody knows now; the bound was that of the other price.
    assert_eq!(anew["cost"]["unbounded_attempts"], unknown);
    assert_eq!(anew["cost"]["possibly_billed_usd"], "0.00");
    let repriced = &anew["repriced"];
    assert_eq!(repriced["before_usd"], stored["cost"]["total_usd"]);
    assert_eq!(repriced["after_usd"], anew["cost"]["total_usd"]);
    let [a, b] = &repriced["backends"].as_array().unwrap()[..] else {
        panic!("{repriced}");
    };
    assert_eq!(
        (&a["backend"], &a["source"], &a["as_of"]),
        (&json!("a"), &json!("us"), &json!("2026-11-01"))
    );
    assert_eq!(
        (&b["backend"], &b["source"]),
        (&json!("b"), &json!("p.csv"))
    );
    for line in [a, b] {
        let name = line["backend"].as_str().unwrap();
        assert_eq!(
            units(line["before_usd"].as_str().unwrap()),
            cost(&stored, name)
        );
        assert_eq!(
            units(line["after_usd"].as_str().unwrap()),
            cost(&anew, name)
        );
        assert_eq!(
            line["attempts"],
            anew["attempts"]["by_backend"][name]["total"]
        );
    }
    // What was left of the budget was left by the prices of then.
    assert!(stored["budget"].is_object() && anew["budget"].is_null());
    // But for the money it is the same report.
    for field in ["rows", "attempts", "tokens", "files", "exit_code"] {
        assert_eq!(anew[field], stored[field], "{field}");
    }
}

#[test]
fn the_prices_it_was_charged_by_change_nothing() {
    let scratch = eventful();
    let csv = scratch
        .runner(&["prices", "job.yaml", "--csv"])
        .exits(0)
        .stdout;
    scratch.write("same.csv", csv);
    let args = ["report", "out", "--format", "json", "--prices", "same.csv"];
    let anew: Value = serde_json::from_str(&scratch.runner(&args).exits(0).stdout).unwrap();
    let stored = scratch.published("out", 0).report;
    for field in [
        "total_usd",
        "by_backend",
        "by_model",
        "by_kind",
        "removed_rows_usd",
    ] {
        assert_eq!(anew["cost"][field], stored["cost"][field], "{field}");
    }
    assert_eq!(anew["prices"], stored["prices"]);
    scratch.write("other.csv", "provider,models,input,output\nopenai,*,1,1\n");
    scratch
        .runner(&["report", "out", "--prices", "other.csv"])
        .exits(0)
        .says("no line for any backend");
}

#[test]
fn what_was_free_is_not_free_by_another_price_where_nobody_knows_what_was_used() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number % 2 {
        0 => served::fails(504, "gateway_timeout"),
        _ => served::says(&served::prompt(seen)),
    });
    let backend = server.backend("a", "");
    scratch.rows(5).job(&format!(
        "backends: {{ {backend} }}\nretry: {{ initial: 1ms }}\nconcurrency: 1"
    ));
    let free = [
        "--set",
        "backends.a.price.input=0",
        "--set",
        "backends.a.price.output=0",
    ];
    scratch
        .runner(&[&["job.yaml"], &free[..]].concat())
        .exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(published.report["cost"]["total_usd"], "0.00");
    assert_eq!(published.report["cost"]["unbounded_attempts"], 0);
    scratch.write("p.csv", "provider,models,input,output\nopenai,*,1,1\n");
    let args = ["report", "out", "--format", "json", "--prices", "p.csv"];
    let anew: Value = serde_json::from_str(&scratch.runner(&args).exits(0).stdout).unwrap();
    assert_eq!(anew["cost"]["unbounded_attempts"], 5);
    assert_ne!(anew["cost"]["total_usd"], "0.00");
}

#[test]
fn a_run_that_is_under_way_or_was_killed_has_a_report_too() {
    let scratch = Scratch::new();
    let server = Served::new(|number, seen| match number {
        3 | 4 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(10).job(&format!(
        "backends: {{ {} }}\nconcurrency: 2",
        server.backend("a", "")
    ));
    let free = "--set=backends.a.price.input=0 --set=backends.a.price.output=0";
    let free: Vec<&str> = free.split(' ').collect();
    let running = scratch.start(&[&["job.yaml"], &free[..]].concat());
    until("three answers", || {
        let ran = scratch.runner(&["report", "out"]);
        ran.stdout
            .contains(": 3 of 10 rows answered, running (this is what there is so far)")
    });
    running.signal("KILL");
    running.wait();
    let killed = scratch.runner(&["report", "out"]).exits(0);
    killed.says(": 3 of 10 rows answered, killed (");
    let json = ["report", "out", "--format", "json"];
    let printed = scratch.runner(&json).exits(0).stdout;
    scratch.runner(&["export", "out"]).exits(0);
    let published = fs::read_to_string(scratch.path().join("out/report.json")).unwrap();
    assert_eq!(printed, published);
    // What was free then, and whose end nobody knows, may not be by another price.
    let by_request = "provider,models,input,output,per_request\nopenai,*,0,0,1\n";
    scratch.write("p.csv", by_request);
    for rows in ["10", "4"] {
        let again = [&["job.yaml", "--limit", rows], &free[..]].concat();
        scratch.runner(&again).exits(0);
        let anew = scratch.runner(&[&json[..], &["--prices", "p.csv"]].concat());
        let anew: Value = serde_json::from_str(&anew.exits(0).stdout).unwrap();
        assert_eq!(anew["attempts"]["interrupted"], 2, "{rows}");
        assert_eq!(anew["cost"]["unbounded_attempts"], 2, "{rows}");
        assert_eq!(anew["cost"]["total_usd"], "10.00", "{rows}");
    }
}

#[test]
fn a_store_that_does_not_say_what_its_backends_were_is_priced_by_lines_for_every_type() {
    let scratch = Scratch::new();
    scratch
        .rows(3)
        .job("backends: { a: { type: echo, model: m } }");
    scratch.run(0);
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db")).unwrap();
    let forget = "UPDATE runs SET settings = \
         json_remove(settings, '$.frame.backends[0].kind', '$.frame.backends[0].model')";
    store.execute_batch(forget).unwrap();
    drop(store);
    scratch.write("typed.csv", "provider,models,input,output\necho,*,1,1\n");
    scratch.write("any.csv", "provider,models,input,output\n*,m,1,1\n");
    let report = |file| {
        scratch
            .runner(&["report", "out", "--prices", file])
            .exits(0)
    };
    report("typed.csv").says("no line for any backend");
    report("any.csv").says("any.csv").says("priced anew");
}
