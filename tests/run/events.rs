use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::loopback::Act;
use crate::scratch::{Ran, Scratch, until};
use crate::served::{self, Served};

/// The events of a run, each line of which must be one that `docs/events.md` describes.
#[track_caller]
fn events(ran: &Ran) -> Vec<Value> {
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    events.iter().for_each(is_described);
    let with_version = events.iter().filter(|event| event["version"] == 1).count();
    assert_eq!((with_version, &events[0]["version"]), (1, &1.into()));
    let times: Vec<&str> = events
        .iter()
        .filter_map(|event| event["time"].as_str())
        .collect();
    assert!(
        times.len() == events.len() && times.is_sorted(),
        "{times:?}"
    );
    assert!(times[0].ends_with('Z') && times[0].len() == 24, "{times:?}");
    let last = events.last().expect("there are events");
    assert_eq!(last["event"], "run_finished");
    assert_eq!(last["exit_code"].as_i64(), ran.code.map(i64::from));
    events
}

/// Its name and each of its fields stand in their line of the table; those of `progress` in the tables below.
#[track_caller]
fn is_described(event: &Value) {
    let document = include_str!("../../docs/events.md");
    let (table, below) = document.split_once("\n## progress\n").expect("its part");
    let name = event["event"].as_str().expect("it has a name");
    let start = format!("| `{name}` |");
    let line = table.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("docs/events.md lacks {name}"));
    let place = if name == "progress" { below } else { line };
    let fields = event.as_object().expect("an object").keys();
    let inner = ["budget", "backends"].map(|field| &event[field]);
    let inner = inner.into_iter().map(|value| match value {
        Value::Array(items) => &items[0],
        value => value,
    });
    let inner = inner
        .filter_map(Value::as_object)
        .flat_map(|inner| inner.keys());
    for field in fields.chain(inner) {
        let is_of_all = ["event", "time", "version"].contains(&&**field);
        assert!(
            is_of_all || place.contains(&format!("`{field}`")),
            "docs/events.md lacks {name}.{field}"
        );
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect()
}

fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(events)))
}

#[test]
fn a_run_tells_programs_what_happens_and_nothing_else() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(200), |number, seen| match number {
        0 => served::fails_with(429, "rate_limit_exceeded", &[("retry-after", "1")]),
        1 => served::fails(400, "bad_request"),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(8).job(&format!(
        "backends: {{ {} }}\nmax_failures: 1\nbudget: 5.00",
        server.backend("gpt", ", limits: { concurrency: 1 }")
    ));
    let ran = scratch.runner(&["job.yaml", "--json"]).exits(0);
    assert_eq!(ran.stderr, "");
    let events = events(&ran);
    let told: Vec<&str> = names(&events)
        .into_iter()
        .filter(|name| *name != "progress")
        .collect();
    assert_eq!(
        told,
        [
            "run_started",
            "planned",
            "budget_opened",
            "asking_started",
            "backend_paused",
            "run_finished"
        ]
    );
    assert_eq!(find(&events, "run_started")["job"], "job");
    assert_eq!(find(&events, "planned")["new"], 8);
    assert_eq!(
        find(&events, "backend_paused")["wait_ms"]
            .as_u64()
            .map(|wait| wait / 100),
        Some(9)
    );
    let progress: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "progress")
        .collect();
    // At a quarter of a second, then once a second.
    assert!((2..=4).contains(&progress.len()), "{progress:#?}");
    let paused = &progress[0]["backends"][0];
    assert_eq!(
        (&paused["waits_for"], &paused["sent"]),
        (&"throttled".into(), &1.into())
    );
    let last = progress[progress.len() - 1];
    assert_eq!(
        (&last["rows"], &last["by_status"]["failed"]),
        (&8.into(), &1.into())
    );
    let end = find(&events, "run_finished");
    assert_eq!(
        (&end["by_status"]["answered"], &end["by_status"]["failed"]),
        (&7.into(), &1.into())
    );
    assert_eq!((&end["rows"], &end["why"]), (&8.into(), &Value::Null));
    // Seven answers of 10 and 5 tokens at 1 and 2 dollars a million.
    assert_eq!(end["cost_usd"], "0.00014");
    let files = end["files"].as_array().expect("a list");
    assert!(files.contains(&"out/results.csv".into()), "{files:?}");
    // What was asked and answered is nobody's business here.
    ran.never_says("row 3");
}

#[test]
fn whatever_happens_in_a_run_is_an_event_that_is_described() {
    let mut seen = BTreeSet::new();
    let mut run = |scratch: &Scratch, more: &[&str], code| {
        let ran = scratch
            .runner(&[&["job.yaml", "--json"], more].concat())
            .exits(code);
        seen.extend(
            events(&ran)
                .iter()
                .filter_map(|event| event["event"].as_str().map(str::to_owned)),
        );
    };
    let scratch = Scratch::new();
    let down = Served::new(|number, seen| match number < 30 {
        true => served::fails(500, "server_error"),
        false => served::says(&served::prompt(seen)),
    });
    scratch.rows(30).job(&format!(
        "backends: {{ {} }}\nretry: {{ attempts: 3, initial: 1ms, max: 2ms }}\ncache: cache.db\nmax_waste: 1%",
        down.backend("a", "")
    ));
    scratch.write("cache.db", "no cache");
    run(&scratch, &[], 0);
    let refused = Served::always(served::fails(401, "invalid_api_key"));
    scratch.job(&format!("backends: {{ {} }}", refused.backend("a", "")));
    run(&scratch, &["--fresh"], 5);
    let scratch = Scratch::new();
    let dear = Served::echo();
    scratch.rows(3).job(&format!(
        "backends: {{ {} }}\nbudget: 0.000001",
        dear.backend("a", "")
    ));
    run(&scratch, &[], 4);
    scratch
        .job("backends: { a: { type: echo, reply: yes } }\nscore: { command: [sh, -c, exit 1] }");
    run(&scratch, &["--fresh"], 3);
    scratch.job("backends: { a: { type: echo, reply: yes } }\nanswer: { labels: [no] }");
    run(&scratch, &[], 3);
    scratch.job("backends: { a: { type: echo, replay: yes } }\nretries: 3");
    run(&scratch, &[], 2);
    scratch
        .rows(1)
        .job("backends: { a: { type: echo } }")
        .write("other", "");
    run(&scratch, &["--out", "other"], 6);
    let told: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "answers_restated",
            "asking_started",
            "backend_stopped",
            "breaker_closed",
            "breaker_opened",
            "budget_opened",
            "budget_reached",
            "cache_lost",
            "error",
            "follow_ups_started",
            "planned",
            "problem",
            "progress",
            "retries_put_off",
            "run_finished",
            "run_started",
            "scorer_failed",
        ]
    );
}

#[test]
fn a_run_that_is_stopped_says_so_and_ends() {
    let scratch = Scratch::new();
    let server = Served::new(|number, _| match number {
        0..3 => served::says("x"),
        _ => Act::Hang(Vec::new()),
    });
    scratch.rows(9).job(&format!(
        "backends: {{ {} }}\nconcurrency: 2",
        server.backend("a", "")
    ));
    for code in [130, 143] {
        let before = server.arrivals().len();
        let running = scratch.start(&["job.yaml", "--json"]);
        until("some that hang", || server.arrivals().len() >= before + 2);
        std::thread::sleep(Duration::from_millis(300));
        let signal = if code == 130 { "INT" } else { "TERM" };
        running.signal(signal);
        std::thread::sleep(Duration::from_millis(300));
        running.signal(signal);
        let ran = running.wait().exits(code);
        let events = events(&ran);
        let stopping = find(&events, "stopping");
        assert_eq!(stopping["is_asked_for"], true);
        assert_eq!(stopping["in_flight"], 2);
        let why = events[events.len() - 1]["why"]
            .as_str()
            .expect("it says why");
        assert!(why.starts_with("stopped with 6 rows not answered"), "{why}");
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn problems_are_told_with_their_places() {
    let scratch = Scratch::new();
    scratch
        .rows(1)
        .job("backends: { a: { type: ecko } }\nretrys: 3");
    let ran = scratch.runner(&["job.yaml", "--json"]).exits(2);
    assert_eq!(ran.stderr, "");
    let events = events(&ran);
    assert_eq!(names(&events), ["problem", "problem", "run_finished"]);
    let problem = &events[0];
    assert_eq!(
        (
            &problem["file"],
            &problem["line"],
            &problem["column"],
            &problem["length"]
        ),
        (&"job.yaml".into(), &4.into(), &24.into(), &4.into())
    );
    let help = problem["help"].as_str().expect("advice");
    assert!(help.contains("echo"), "{help}");
}

#[test]
fn several_jobs_are_checked_at_once() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    let sound = fs::read_to_string(scratch.path().join("job.yaml")).expect("the job");
    scratch
        .write("good.yaml", &sound)
        .write("bad.yaml", sound.replace("echo", "ecko"))
        .write("worse.yaml", sound.replace("echo", "") + "retrys: 3\n");
    let all = ["check", "good.yaml", "bad.yaml", "job.yaml", "worse.yaml"];
    let ran = scratch.runner(&all).exits(2);
    assert_eq!(
        ran.stdout,
        "good.yaml: no problems; 3 rows for a\njob.yaml: no problems; 3 rows for a\n"
    );
    let ran = ran
        .says("--> bad.yaml:4:")
        .says("--> worse.yaml:4:")
        .says("1 problem found; nothing was sent")
        .says("2 problems found; nothing was sent");
    drop(ran);
    scratch.runner(&["check", "good.yaml", "job.yaml"]).exits(0);
    let ran = scratch.runner(&[&all[..], &["--json"]].concat()).exits(2);
    assert_eq!(ran.stderr, "");
    let told: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!((&told["version"], &told["rows"]), (&1.into(), &6.into()));
    let jobs = told["jobs"].as_array().expect("a list");
    let found: Vec<usize> = jobs
        .iter()
        .map(|job| job["problems"].as_array().map_or(9, Vec::len))
        .collect();
    assert_eq!(found, [0, 1, 0, 2]);
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        (&jobs[0]["rows"], &jobs[1]["rows"]),
        (&3.into(), &Value::Null)
    );
    assert_eq!(told["problems"][0]["file"], "bad.yaml");
}

#[test]
fn who_asks_for_json_gets_json_also_of_an_error() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: ecko } }");
    let json = |args: &[&str], code| -> Value {
        let ran = scratch.runner(args).exits(code);
        assert_eq!(ran.stderr, "", "{args:?}");
        serde_json::from_str(&ran.stdout).expect("one object")
    };
    let commands: [&[&str]; 4] = [
        &["status", "none", "--json"],
        &["report", "none", "--format", "json"],
        &["diff", "none", "nor", "--format", "json"],
        &["aa", "none", "nor", "--json"],
    ];
    for command in commands {
        let said = json(command, 2);
        let message = said["error"]["message"].as_str().expect("a message");
        assert!(message.contains("none"), "{command:?}: {message}");
        assert_eq!(said["version"], 1);
    }
    let twice = json(&["aa", ".", ".", "--json"], 2);
    assert!(
        twice["error"]["message"]
            .as_str()
            .is_some_and(|said| said.contains("twice"))
    );
    for command in [
        &["plan", "job.yaml", "--json"],
        &["prices", "job.yaml", "--json"],
    ] {
        let said = json(command, 2);
        assert_eq!(said["problems"][0]["line"], 4, "{said}");
    }
}

#[test]
fn quiet_and_json_are_no_pair() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    let ran = scratch.runner(&["job.yaml", "--quiet", "--json"]).exits(2);
    ran.says("cannot be used with");
}

#[test]
fn what_is_printed_for_programs_is_json_whatever_it_holds() {
    let scratch = Scratch::new();
    let hostile = "ab\u{202e}cd\u{7f}\u{9b}##vso[x]##[y]\u{2028}";
    scratch
        .write("rows.csv", format!("text\n{hostile}\n"))
        .job("backends: { a: { type: echo, delay: 0ms } }\nscore: { equals: \"{{ text }}\" }");
    scratch.runner(&["job.yaml"]).exits(0);
    scratch.runner(&["job.yaml", "--out", "two"]).exits(0);
    for args in [
        &["check", "job.yaml", "--json"][..],
        &["plan", "job.yaml", "--json"],
        &["explain", "job.yaml", "--json"],
        &["probe", "job.yaml", "--json"],
        &["prices", "job.yaml", "--json"],
        &["status", "out", "--json"],
        &["report", "out", "--format", "json"],
        &["diff", "out", "two", "--format", "json"],
        &["aa", "out", "two", "--json"],
        &["schema"],
    ] {
        let ran = scratch.runner(args).exits(0);
        let printed: Result<serde_json::Value, _> = serde_json::from_str(&ran.stdout);
        assert!(printed.is_ok(), "{args:?}: {printed:?}\n{}", ran.stdout);
        assert!(!ran.stdout.contains("##vso["), "{args:?}: {}", ran.stdout);
    }
    let args = ["probe", "job.yaml", "--backend", "nope", "--json"];
    let ran = scratch.runner(&args).exits(2);
    let printed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(printed["error"]["message"].is_string(), "{printed}");
}
