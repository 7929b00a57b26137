//! What a run would ask, take and cost, told before; and that nothing is sent or written for it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::loopback::Seen;
use crate::published::units;
use crate::scratch::Scratch;
use crate::served::{self, Served, ok};

/// What `runner plan` says to programs.
#[track_caller]
fn plan(scratch: &Scratch, args: &[&str]) -> Value {
    let args = [&["plan"], args, &["--json"]].concat();
    let ran = scratch.runner(&args).exits(0);
    serde_json::from_str(&ran.stdout).expect("it prints JSON")
}

fn expected(plan: &Value) -> i128 {
    units(plan["cost"]["expected_usd"].as_str().expect("it is known"))
}

/// Whether one amount is within a tenth of the other.
#[track_caller]
fn is_near(planned: i128, real: i128) {
    let off = (planned - real).abs() * 10;
    assert!(off <= real, "planned {planned}, real {real}");
}

fn shipped(job: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("jobs").join(job).display().to_string()
}

/// Plans a job and runs it; what was planned must be what it cost. Returns the plan.
#[track_caller]
fn costs_what_was_planned(scratch: &Scratch, job: &str) -> Value {
    let planned = plan(scratch, &[job, "--out", "out"]);
    scratch.runner(&[job, "--out", "out"]);
    let report = fs::read_to_string(scratch.path().join("out/report.json")).expect("it ran");
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let real = units(report["cost"]["total_usd"].as_str().expect("an amount"));
    is_near(expected(&planned), real);
    let bound = |name: &str| units(planned["cost"][name].as_str().expect("it is known"));
    assert!(
        bound("low_usd") <= expected(&planned) && real <= bound("at_most_usd"),
        "{planned}"
    );
    assert_eq!(planned["rows"]["total"], report["rows"]["total"]);
    planned
}

#[test]
fn a_file_of_prices_holds_for_a_plan_too() {
    let scratch = Scratch::new();
    scratch
        .write("half.csv", "provider,models,input,output\nopenai,m,0.5,1\n")
        .rows(10)
        .job("backends: { a: { type: openai, model: m, max_tokens: 16 } }");
    let unknown = plan(&scratch, &["job.yaml"]);
    assert_eq!(unknown["cost"]["gaps"][0]["missing"], "price", "{unknown}");
    let priced = plan(&scratch, &["job.yaml", "--prices", "half.csv"]);
    assert!(expected(&priced) > 0, "{priced}");
    assert_eq!(priced["by_backend"]["a"]["price"]["source"], "half.csv");
}

#[test]
fn the_jobs_that_are_shipped_cost_what_was_planned() {
    for job in ["eval.yaml", "flaky.yaml", "matrix.yaml", "route.yaml"] {
        let scratch = Scratch::new();
        let planned = costs_what_was_planned(&scratch, &shipped(job));
        let free = ["flaky.yaml", "route.yaml"].contains(&job);
        assert_eq!(expected(&planned) == 0, free, "{job}");
    }
}

#[test]
fn what_follows_a_script_costs_what_was_planned() {
    for (backends, more) in [
        // Some fail, and the next one is sixteen times as dear.
        (
            "a: { type: echo, delay: 0ms, failures: { server: 12% }, price: { input: 1, output: 2 } },
             b: { type: echo, delay: 0ms, reply: a long answer, price: { input: 16, output: 32 } }",
            "retry: { attempts: 1 }",
        ),
        // Taken up once more at the end; cut; refused.
        (
            "a: { type: echo, delay: 0ms, seed: 4, failures: { not_sent: 15%, flagged: 5%, row_fatal: 5% },
                  price: { input: 1, output: 2, per_request: 0.01 } }",
            "retry: { attempts: 2, initial: 1ms, max: 2ms }\nmax_failures: 100%",
        ),
        // A cut answer is paid, and so is the one that is taken instead.
        (
            "a: { type: echo, delay: 0ms, failures: { flagged: 50% }, price: { per_request: 1 } },
             b: { type: echo, delay: 0ms, price: { per_request: 10 } }",
            "fallback_on: [truncated]",
        ),
        // What the script reports, whatever the words are.
        (
            "a: { type: echo, delay: 0ms, usage: { input_tokens: 900, output_tokens: 30 },
                  price: { input: 2.5, output: 10 } }",
            "repeat: 3",
        ),
    ] {
        let scratch = Scratch::new();
        scratch
            .rows(200)
            .job(&format!("backends: {{ {backends} }}\n{more}"));
        costs_what_was_planned(&scratch, "job.yaml");
    }
}

/// A server that counts as OpenAI does, and answers with one to eight words.
#[cfg(feature = "tokenizer")]
fn counting() -> Served {
    use tiktoken_rs::o200k_base_singleton;
    let tokens = |text: &str| o200k_base_singleton().encode_ordinary(text).len() as u64;
    Served::new(move |_, seen| {
        let prompt = served::prompt(seen);
        let words = 1 + prompt.bytes().map(usize::from).sum::<usize>() % 8;
        let answer = vec!["word"; words].join(" ");
        let body = seen.json();
        let messages = body["messages"].as_array().expect("a chat");
        let input: u64 = messages
            .iter()
            .map(|message| 3 + 1 + tokens(message["content"].as_str().expect("a text")))
            .sum();
        let mut reply =
            served::completion(json!({ "role": "assistant", "content": answer }), "stop");
        let (input, output) = (input + 3, tokens(&answer));
        reply["usage"] = json!({ "prompt_tokens": input, "completion_tokens": output });
        ok(&reply)
    })
}

/// A job of labelled tickets for a server.
#[cfg(feature = "tokenizer")]
fn tickets(server: &Served) -> Scratch {
    let scratch = Scratch::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tickets = fs::read(root.join("fixtures/tickets.csv")).expect("it is there");
    scratch.write("tickets.csv", tickets).write(
        "job.yaml",
        format!(
            "inputs: {{ path: tickets.csv, id: ticket_id }}\n\
             prompt: {{ system: You label tickets., user: '{{{{ body }}}}' }}\n\
             output: {{ dir: out }}\n\
             backends: {{ {} }}",
            server
                .backend("gpt", "")
                .replace("model: m,", "model: gpt-4o,")
        ),
    );
    scratch
}

#[cfg(feature = "tokenizer")]
#[test]
fn the_rest_of_a_job_costs_what_was_planned_after_its_first_rows() {
    let server = counting();
    let scratch = tickets(&server);
    scratch.runner(&["job.yaml", "--limit", "50"]).exits(0);
    let first = server.requests();
    let planned = plan(&scratch, &["job.yaml"]);
    assert_eq!(server.requests(), first, "a plan asks nobody");
    assert_eq!(planned["rows"]["answered"], 50);
    assert_eq!(planned["rows"]["to_ask"], 250);
    let gpt = &planned["by_backend"]["gpt"];
    assert_eq!(gpt["input_counted"]["vocabulary"], "o200k_base");
    assert_eq!(
        gpt["output_expected"],
        json!({ "by": "history", "replies": 50 })
    );

    let total = || {
        let (_, published) = scratch.run(0);
        let lines = published.lines.iter().skip(50);
        let input: u64 = lines
            .map(|line| {
                line["usage"]["input_tokens"]
                    .as_u64()
                    .expect("it is counted")
            })
            .sum();
        (
            units(
                published.report["cost"]["total_usd"]
                    .as_str()
                    .expect("an amount"),
            ),
            input,
        )
    };
    let report = fs::read_to_string(scratch.path().join("out/report.json")).expect("it ran");
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let before = units(report["cost"]["total_usd"].as_str().expect("an amount"));
    let (after, input) = total();
    is_near(expected(&planned), after - before);
    assert_eq!(gpt["input_tokens"], input, "to the token");
}

#[cfg(feature = "tokenizer")]
#[test]
fn a_job_that_never_ran_costs_what_was_planned_if_the_length_of_its_answers_is_given() {
    let server = counting();
    let scratch = tickets(&server);
    let planned = plan(&scratch, &["job.yaml", "--output-tokens", "5"]);
    let (_, published) = scratch.run(0);
    let real = units(
        published.report["cost"]["total_usd"]
            .as_str()
            .expect("an amount"),
    );
    is_near(expected(&planned), real);
    // A guess is told as one.
    scratch
        .runner(&["plan", "job.yaml", "--out", "elsewhere"])
        .exits(0)
        .says("gpt: input tiktoken o200k_base; output 8 an answer, assumed; price from the job");
}

#[test]
fn a_sample_stands_for_the_whole_and_the_whole_is_counted() {
    let scratch = Scratch::new();
    let mut csv = "text\n".to_owned();
    for row in 0..20_000 {
        csv.push_str(&format!("{}\n", "word ".repeat(1 + row % 40)));
    }
    scratch
        .write("rows.csv", csv)
        .job("backends: { a: { type: echo, delay: 0ms, price: { input: 1, output: 2 } } }");
    let whole = plan(&scratch, &["job.yaml", "--sample", "20000"]);
    let part = plan(&scratch, &["job.yaml", "--sample", "2000"]);
    assert_eq!(whole["by_backend"]["a"]["input_tokens"], 410_000);
    assert_eq!(part["rows"]["to_ask"], 20_000);
    assert_eq!(part["by_backend"]["a"]["sampled"], 2_000);
    is_near(expected(&part), expected(&whole));
    assert_ne!(expected(&part), expected(&whole));
    assert_eq!(
        part,
        plan(&scratch, &["job.yaml", "--sample", "2000"]),
        "the same draw"
    );
    scratch
        .runner(&["plan", "job.yaml"])
        .exits(0)
        .says("a: input exact, on a sample of 5,000 of 20,000 requests; output exact");
}

/// Every file below a directory and what is in it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        let bytes = fs::read(&path).expect("it can be read");
        // Who reads a database whose log may be written to needs the log's index, and an empty log.
        let is_index = name.ends_with("-shm") || (name.ends_with("-wal") && bytes.is_empty());
        if !is_index {
            found.insert(name, bytes);
        }
    }
    found
}

#[test]
fn what_a_plan_says_is_due_is_what_the_run_asks_and_the_plan_writes_nothing() {
    let scratch = Scratch::new();
    let job = |prompt: &str, more: &str| {
        scratch.write(
            "job.yaml",
            format!(
                "inputs: rows.csv\nprompt: \"{prompt}\"\noutput: {{ dir: out }}\n\
                 backends: {{ a: {{ type: echo, delay: 0ms, price: {{ per_request: 1 }} }},
                              b: {{ type: echo, delay: 0ms, price: {{ per_request: 1 }} }} }}\n{more}"
            ),
        );
    };
    let rows = |texts: &[u32], more: &str| {
        let line = |text: &u32| format!("row {},{more}\n", text % 100);
        let lines: String = texts.iter().map(line).collect();
        scratch.write("rows.csv", format!("text,more\n{lines}"));
    };
    let all: Vec<u32> = (0..30).collect();
    let backwards: Vec<u32> = (0..30).rev().collect();
    let more: Vec<u32> = (0..40).collect();
    let other: Vec<u32> = (10..25).chain(40..45).collect();
    // The texts of the last ten are those of the first.
    let doubled: Vec<u32> = (0..30).chain(100..110).collect();
    let steps: [(&str, &[u32], &str, &str); 12] = [
        ("nothing is there", &all, "{{ text }}", ""),
        ("nothing is new", &all, "{{ text }}", ""),
        ("another order", &backwards, "{{ text }}", ""),
        ("more of them", &more, "{{ text }}", ""),
        ("some others", &other, "{{ text }}", ""),
        ("another prompt", &more, "Say {{ text }}", ""),
        ("the prompt of before", &more, "{{ text }}", ""),
        (
            "another column that is not asked",
            &backwards,
            "{{ text }}",
            "",
        ),
        ("the same texts again", &doubled, "{{ text }}", ""),
        ("other columns and fewer texts", &other, "{{ text }}", ""),
        ("a matrix", &more, "{{ text }}", "matrix: [a, b]"),
        ("twice", &all, "{{ text }}", "matrix: [b, a]\nrepeat: 2"),
    ];
    for (step, texts, prompt, more) in steps {
        rows(texts, if step.contains("column") { step } else { "x" });
        job(prompt, more);
        let before = files(&scratch.path().join("out"));
        let planned = plan(&scratch, &["job.yaml"]);
        assert!(files(&scratch.path().join("out")) == before, "{step}");
        let ran = scratch.runner(&["job.yaml"]).exits(0);
        let unchanged = ran
            .stderr
            .split([' ', '\n'])
            .nth(1)
            .map(|rows| rows.replace(',', ""));
        let (answered, asked) = (&planned["rows"]["answered"], &planned["rows"]["to_ask"]);
        assert_eq!(Some(answered.to_string()), unchanged, "{step}");
        let total = planned["rows"]["total"].as_u64();
        assert_eq!(
            Some(answered.as_u64().unwrap_or(0) + asked.as_u64().unwrap_or(0)),
            total,
            "{step}"
        );
        let amount = format!("{}.00", asked);
        assert_eq!(planned["cost"]["expected_usd"], amount.as_str(), "{step}");
    }
    assert!(!scratch.path().join("elsewhere").exists());
    plan(&scratch, &["job.yaml", "--out", "elsewhere"]);
    assert!(
        !scratch.path().join("elsewhere").exists(),
        "a plan makes no directory"
    );
}

#[test]
fn what_follows_upon_answers_is_planned() {
    let scratch = Scratch::new();
    scratch
        .write(
            "rows.csv",
            "text,gold,said\nrefund me,billing,Billing\nit crashes,bug,bug\n\
             how to,question,it is a question\nodd,other,bug\n",
        )
        .job(
            r#"
answer: { labels: [billing, bug, question, other], reask: 2 }
backends:
  one: { type: echo, reply: "{{ said }}", price: { input: 1, output: 2 } }
  two: { type: echo, reply: "{{ gold }}", price: { input: 3, output: 4 } }
  boss: { type: echo, reply: "{{ gold }}", price: { input: 5, output: 6 } }
  strict: { type: echo, reply: '{"reason": "no", "verdict": "fail"}', price: { input: 7, output: 8 } }
matrix: [one, two]
escalate: boss
score: { judge: { backend: strict, rubric: "It is {{ gold }}." } }
max_failures: 9
"#,
        );
    let planned = plan(&scratch, &["job.yaml", "--out", "out"]);
    scratch.runner(&["job.yaml"]).exits(0);
    let report = fs::read_to_string(scratch.path().join("out/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(planned["cost"]["expected_usd"], report["cost"]["total_usd"]);
    for (backend, replies) in [("one", 6), ("two", 4), ("boss", 2), ("strict", 9)] {
        assert_eq!(
            planned["by_backend"][backend]["replies"], replies,
            "{planned}"
        );
    }
    let most = units(planned["cost"]["at_most_usd"].as_str().unwrap());
    assert!(most > expected(&planned));
    // Where nobody knows the answers beforehand it is said what is taken for granted.
    scratch.job(
        r#"backends: { gpt: { type: vllm, model: m, max_tokens: 5 }, other: { type: vllm, model: n } }
answer: { labels: [a, b] }
matrix: [gpt, other]
escalate: gpt
"#,
    );
    let said = plan(&scratch, &["job.yaml", "--out", "elsewhere"])["assumptions"].clone();
    assert_eq!(said.as_array().map(Vec::len), Some(2), "{said}");
}

#[test]
fn rows_that_failed_are_due_again() {
    let scratch = Scratch::new();
    scratch.rows(40).job(
        "backends: { a: { type: echo, delay: 0ms, failures: { row_fatal: 30% } } }\nmax_failures: 40",
    );
    let (_, published) = scratch.run(0);
    let answered = published.count("answered");
    assert!(answered < 40);
    assert_eq!(plan(&scratch, &["job.yaml"])["rows"]["answered"], answered);
}

#[test]
fn the_store_of_another_job_is_not_planned_with() {
    let scratch = Scratch::new();
    scratch
        .rows(1)
        .job("backends: { a: { type: echo } }\nname: one");
    scratch.run(0);
    scratch.job("backends: { a: { type: echo } }\nname: other");
    scratch
        .runner(&["plan", "job.yaml"])
        .exits(2)
        .says("out holds the run of another job, `one`");
}

#[test]
fn rows_that_ask_the_same_and_answers_of_the_cache_are_not_paid() {
    let server = Served::echo();
    let scratch = Scratch::new();
    let backends = server.backend("a", "");
    let job = format!("cache: answers.db\ndedupe: true\nbackends: {{ {backends} }}");
    scratch
        .write("rows.csv", "text\none\ntwo\none\none\nthree\n")
        .job(&job);
    let planned = plan(&scratch, &["job.yaml"]);
    assert_eq!(planned["rows"]["duplicates"], 2);
    assert_eq!(planned["rows"]["to_ask"], 3);
    assert!(
        !scratch.path().join("answers.db").exists(),
        "a plan makes no cache"
    );
    scratch.run(0);
    assert_eq!(server.requests(), 3);

    scratch.write("rows.csv", "text\none\nfour\none\n");
    let rows = plan(&scratch, &["job.yaml", "--out", "elsewhere"])["rows"].clone();
    assert_eq!(
        (&rows["from_cache"], &rows["to_ask"]),
        (&json!(1), &json!(1)),
        "{rows}"
    );
    let rows = plan(&scratch, &["job.yaml", "--out", "elsewhere", "--no-cache"])["rows"].clone();
    assert_eq!(
        (&rows["from_cache"], &rows["to_ask"]),
        (&json!(0), &json!(2)),
        "{rows}"
    );
    scratch
        .runner(&["plan", "job.yaml", "--out", "elsewhere"])
        .exits(0)
        .says("1 ask what another row asks, and take its answer over")
        .says("1 are answered by the cache");
    assert_eq!(server.requests(), 3);
}

#[test]
fn what_is_not_known_is_never_told_as_nothing() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    scratch.rows(10).job(
        "backends:\n\
         \x20 a: { type: openai, model: no-such-model, max_tokens: 8 }\n\
         \x20 b: { type: http, url: \"http://127.0.0.1:9/x\", body: { p: \"{{ prompt }}\" }, pointers: { text: /t },\n\
         \x20      price: { input: 1, output: 1 } }\n\
         \x20 c: { type: openai, model: m, price: { per_hour: 3 } }",
    );
    // No key is needed: nothing is sent.
    let planned = plan(&scratch, &["job.yaml"]);
    let a = &planned["by_backend"]["a"]["cost"];
    assert_eq!(a["expected_usd"], Value::Null);
    let gaps = json!([
        { "backend": "a", "missing": "price" },
        { "backend": "a", "missing": "bound" },
        { "backend": "b", "missing": "bound" },
    ]);
    assert_eq!(planned["cost"]["gaps"], gaps);
    scratch
        .runner(&["plan", "job.yaml"])
        .exits(0)
        .says("the cost of a is unknown and in no sum: no price is known for no-such-model; set `price`")
        .says("no limit says how long it takes");
    let only = plan(&scratch, &["job.yaml", "--set", "fallback=[c]"]);
    assert_eq!(
        only["cost"]["gaps"],
        json!([{ "backend": "c", "missing": "time" }])
    );
    assert_eq!(only["cost"]["expected_usd"], Value::Null);
}

#[test]
fn rows_that_cannot_be_asked_are_told() {
    let scratch = Scratch::new();
    let long = "long ".repeat(100);
    scratch
        .write(
            "rows.csv",
            format!("text,to\nfine,a\n ,a\nfine,b\n{long},a\n"),
        )
        .write(
            "job.yaml",
            "inputs: rows.csv\nprompt: \"{{ text }}\"\noutput: { dir: out }\n\
         backends: { a: { type: echo, limits: { tokens_per_minute: 50 } } }\n\
         route: [{ when: to == 'a', to: a }]",
        );
    let planned = plan(&scratch, &["job.yaml"]);
    assert_eq!(planned["rows"]["unsendable"], 2);
    assert_eq!(planned["rows"]["to_ask"], 2);
    assert_eq!(planned["by_backend"]["a"]["too_large"], 1);
    let why = &planned["rows"]["first_unsendable"];
    assert_eq!(
        why,
        &json!({ "row": "rows.csv:2", "why": "the rendered prompt is empty" })
    );
    scratch
        .runner(&["plan", "job.yaml"])
        .exits(0)
        .says("2 cannot be asked; first: row rows.csv:2: the rendered prompt is empty")
        .says("1 of its requests are larger than its limits allow in a minute");
}

#[test]
fn the_time_is_that_of_the_limit_that_binds() {
    let time = |limits: &str, more: &str| {
        let scratch = Scratch::new();
        let usage = "usage: { input_tokens: 100, output_tokens: 20 }";
        scratch.rows(601).job(&format!(
            "backends: {{ a: {{ type: echo, delay: 100ms, {usage}, limits: {{ {limits} }}, account: x }},
                          b: {{ type: echo, delay: 100ms, {usage}, account: x }} }}\n{more}"
        ));
        let planned = plan(&scratch, &["job.yaml"]);
        let because = &planned["time"]["because"];
        let milliseconds = planned["time"]["at_least_ms"]
            .as_u64()
            .expect("it is known");
        (
            milliseconds,
            because["limit"].as_str().expect("it is told").to_owned(),
        )
    };
    let says = |milliseconds, limit: &str| (milliseconds, limit.to_owned());
    // Half a second's worth may be had at once.
    assert_eq!(
        time("requests_per_minute: 120", ""),
        says(300_000, "requests_per_minute")
    );
    assert_eq!(
        time("requests_per_minute: 60, burst: 301", ""),
        says(300_000, "requests_per_minute")
    );
    assert_eq!(
        time("tokens_per_minute: 12000", ""),
        says((601 * 120 - 100) * 5, "tokens_per_minute")
    );
    assert_eq!(
        time(
            "requests_per_minute: 100000, output_tokens_per_minute: 1200",
            ""
        ),
        says((601 * 20 - 10) * 50, "output_tokens_per_minute")
    );
    assert_eq!(time("concurrency: 6", ""), says(10_100, "concurrency"));
    assert_eq!(
        time("concurrency: 60", "concurrency: 2"),
        says(30_100, "concurrency")
    );
    // Two backends of one account share what it allows.
    assert_eq!(
        time("requests_per_minute: 120", "matrix: [a, b]"),
        says(600_500, "requests_per_minute")
    );
}

#[test]
fn an_hour_of_a_server_is_planned() {
    let scratch = Scratch::new();
    scratch.rows(40).job(
        "backends: { a: { type: echo, delay: 500ms, price: { per_hour: 3600 } } }\nconcurrency: 20",
    );
    let planned = plan(&scratch, &["job.yaml"]);
    assert_eq!(planned["cost"]["expected_usd"], "1.00");
}

#[test]
fn it_is_told_whether_the_budget_will_do() {
    let scratch = Scratch::new();
    let usage = "usage: { input_tokens: 10, output_tokens: 5 }";
    scratch.rows(20).job(&format!(
        "backends: {{ a: {{ type: echo, delay: 0ms, {usage}, price: {{ per_request: 1 }} }} }}\nbudget: 15"
    ));
    let says = |budget: &str, said: &str| {
        let budget = format!("budget={budget}");
        let ran = scratch.runner(&["plan", "job.yaml", "--set", &budget]);
        ran.exits(0).says(said);
    };
    says(
        "15",
        "the budget of $15.00 will not do: $20.00 is expected, and rows that do not fit are skipped",
    );
    says("20", "the budget of $20.00 is expected to do");
    says("60", "the budget of $60.00 will do");
    scratch.runner(&["job.yaml", "--limit", "10"]).exits(0);
    says(
        "15",
        "the $5.00 left of the budget of $15.00 will not do: $10.00 is expected",
    );
    let planned = plan(&scratch, &["job.yaml"]);
    assert_eq!(planned["budget"]["left_usd"], "5.00");
    let (_, published) = scratch.run(4);
    assert_eq!(published.count("skipped_budget"), 5);
}

#[test]
fn what_was_paid_in_vain_before_is_expected_again() {
    // The first answer to each fourth prompt is none, and is paid all the same.
    let seen_before = Mutex::new(HashSet::new());
    let server = Served::new(move |_, seen| {
        let prompt = served::prompt(seen);
        let mut seen_before = seen_before.lock().expect("no script panics");
        match prompt.ends_with(['3', '7']) && seen_before.insert(prompt.clone()) {
            true => ok(&json!({ "usage": { "prompt_tokens": 10, "completion_tokens": 5 } })),
            false => served::says(&prompt),
        }
    });
    let scratch = Scratch::new();
    scratch.rows(200).job(&format!(
        "backends: {{ {} }}\nretry: {{ initial: 1ms, max: 1ms }}",
        server.backend("a", "")
    ));
    scratch.runner(&["job.yaml", "--limit", "100"]).exits(0);
    let planned = plan(&scratch, &["job.yaml"]);
    let a = &planned["by_backend"]["a"];
    assert_eq!(a["paid_before_usd"], "0.0024");
    assert_eq!(a["useful_before_usd"], "0.002");
    scratch
        .runner(&["plan", "job.yaml"])
        .exits(0)
        .says("raised as earlier attempts were: 0.002400 USD were paid for answers worth 0.002000");
    let (_, published) = scratch.run(0);
    let real = published.report["cost"]["total_usd"].as_str();
    assert_eq!(real, Some("0.0048"));
    is_near(expected(&planned), units("0.0024"));
}

/// A server of three kinds that counts, and answers nothing else.
fn counts(status: u16) -> Served {
    Served::new(move |_, seen| {
        let body = match seen.line.as_str() {
            "POST /v1/messages/count_tokens" | "POST /v1/chat/completions/input_tokens" => {
                json!({ "input_tokens": 1000 })
            }
            "POST /tokenize" => json!({ "count": 1000, "max_model_len": 1024, "tokens": [1] }),
            _ => return served::fails(500, "a_prompt_was_sent"),
        };
        match status {
            200 => ok(&body),
            _ => served::fails(status, "no_such_page"),
        }
    })
}

/// A job that asks each row of each of the three.
fn three(server: &Served) -> Scratch {
    let scratch = Scratch::new().env("ANTHROPIC_API_KEY", "sk-test");
    let url = server.url();
    let price = "price: { input: 1, output: 1 }, max_tokens: 8";
    scratch.rows(12).job(&format!(
        "backends:\n\
         \x20 claude: {{ type: anthropic, url: \"{url}\", model: claude-3-5-haiku-20241022, {price} }}\n\
         \x20 llama: {{ type: llama_cpp, url: \"{url}\", {price} }}\n\
         \x20 vllm: {{ type: vllm, url: \"{url}\", model: m, {price} }}\n\
         matrix: [claude, llama, vllm]"
    ));
    scratch
}

fn lines(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for seen in seen {
        *lines.entry(seen.line.clone()).or_default() += 1;
    }
    lines
}

#[test]
fn servers_count_where_they_are_asked_to_and_no_prompt_is_sent() {
    let server = counts(200);
    let scratch = three(&server);
    plan(&scratch, &["job.yaml"]);
    assert_eq!(server.requests(), 0, "a plan sends nothing");
    let planned = plan(
        &scratch,
        &["job.yaml", "--count", "remote", "--sample", "10"],
    );
    let asked = BTreeMap::from([
        ("POST /tokenize".to_owned(), 10),
        ("POST /v1/chat/completions/input_tokens".to_owned(), 10),
        ("POST /v1/messages/count_tokens".to_owned(), 10),
    ]);
    assert_eq!(lines(&server.seen()), asked);
    for name in ["claude", "llama", "vllm"] {
        let line = &planned["by_backend"][name];
        assert_eq!(line["input_counted"], json!({ "by": "server" }), "{name}");
        assert_eq!(line["input_tokens"], 12_000, "{name}");
    }
    scratch
        .runner(&["plan", "job.yaml", "--count", "remote"])
        .exits(0)
        .says("claude: input counted by the server; output 4 an answer, assumed");
}

#[test]
fn a_server_that_does_not_count_is_told_and_estimated() {
    let server = counts(404);
    let scratch = three(&server);
    let planned = plan(&scratch, &["job.yaml", "--count", "remote"]);
    let claude = &planned["by_backend"]["claude"];
    assert_eq!(
        claude["input_counted"],
        json!({ "by": "estimate", "bytes": 7, "tokens": 2 })
    );
    let llama = &planned["by_backend"]["llama"];
    assert_eq!(
        llama["input_counted"],
        json!({ "by": "estimate", "bytes": 4, "tokens": 1 })
    );
    let why = claude["input_not_counted"].as_str().expect("it is told");
    assert!(why.contains(" answered 404"), "{why}");
    scratch
        .runner(&["plan", "job.yaml", "--count", "remote"])
        .exits(0)
        .says("  the server did not count: ");
    assert!(
        lines(&server.seen())
            .keys()
            .all(|line| line.contains("token") || line.contains("template"))
    );
}

#[test]
fn counting_by_a_server_needs_its_key() {
    let scratch = Scratch::new();
    scratch
        .rows(1)
        .job("backends: { claude: { type: anthropic, model: claude-3-5-haiku-20241022 } }");
    plan(&scratch, &["job.yaml"]);
    scratch
        .runner(&["plan", "job.yaml", "--count", "remote"])
        .exits(2)
        .says("ANTHROPIC_API_KEY");
}

#[test]
fn text_of_rows_and_servers_cannot_command_the_terminal() {
    let server = Served::new(|_, _| served::fails(404, "\u{1b}[2Jgone"));
    let scratch = three(&server);
    scratch
        .write("rows.csv", "text,id\nfine,1\n ,\u{1b}[2J\n")
        .write(
            "more.yaml",
            format!(
                "inputs: {{ path: rows.csv, id: id }}\nprompt: \"{{{{ text }}}}\"\n\
             backends: {{ llama: {{ type: llama_cpp, url: \"{}\" }} }}",
                server.url()
            ),
        );
    let ran = scratch
        .runner(&["plan", "more.yaml", "--count", "remote"])
        .exits(0);
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
}
