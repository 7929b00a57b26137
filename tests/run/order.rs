use serde_json::Value;

use crate::published::{Published, read_jsonl, units};
use crate::scratch::Scratch;

const FAILING: &str = "type: echo, delay: 0ms, failures: { server: 100% }";

/// Three priced echoes that answer with their own names.
const NAMED: &str = "backends:\n\
    \x20 a: { type: echo, delay: 0ms, reply: a, usage: { input_tokens: 10, output_tokens: 1 }, \
    price: { input: 1, output: 2 } }\n\
    \x20 b: { type: echo, delay: 0ms, reply: b, usage: { input_tokens: 10, output_tokens: 1 }, \
    price: { input: 3, output: 4 } }\n\
    \x20 c: { type: echo, delay: 0ms, reply: c }\n";

/// `a:1 b:1 …`: the backend and the repeat of each line.
fn asked(published: &Published) -> Vec<String> {
    let line = |line: &Value| {
        format!(
            "{}:{}",
            line["backend"].as_str().unwrap_or("nobody"),
            line["repeat"]
        )
    };
    published.lines.iter().map(line).collect()
}

#[test]
fn every_row_goes_to_every_entry_of_the_matrix_and_each_is_paid_for() {
    let scratch = Scratch::new();
    scratch.rows(3).job(&format!("{NAMED}matrix: [b, a]"));
    let (ran, published) = scratch.run(0);
    assert_eq!(
        asked(&published),
        ["b:1", "a:1", "b:1", "a:1", "b:1", "a:1"]
    );
    let rows = ["row 1", "row 1", "row 2", "row 2", "row 3", "row 3"];
    assert_eq!(published.column("text"), rows);
    assert_eq!(published.column("run_entry"), ["b", "a"].repeat(3));
    assert_eq!(published.header.last().unwrap(), "run_entry");
    let report = &published.report;
    assert_eq!(report["rows"]["total"], 6);
    assert_eq!(report["rows"]["inputs"], 3);
    assert_eq!(report["rows"]["fell_back"], 0);
    // Three times 10 and 1 tokens: 12 and 34 millionths of a dollar each.
    let by_backend = &report["cost"]["by_backend"];
    assert_eq!(
        (&by_backend["a"], &by_backend["b"]),
        (&"0.000036".into(), &"0.000102".into())
    );
    assert!(by_backend.get("c").is_none());
    let mut costs: Vec<i128> = entries(&published)
        .map(|entry| units(entry["cost_usd"].as_str().unwrap()))
        .collect();
    costs.sort_unstable();
    assert_eq!(costs, [units("0.000036"), units("0.000102")]);
    for entry in entries(&published) {
        assert_eq!(entry["rows"]["by_status"]["answered"], 3);
        assert!(entry["latency_ms"]["p50"].is_u64(), "{entry}");
    }
    ran.says("job: 6 of 6 results for 3 rows answered in ")
        .says(" entry  answered  rows  p50 ms       USD\n")
        .says(" 3     3 ");
    let markdown = std::fs::read_to_string(scratch.path().join("out/report.md")).unwrap();
    assert!(
        markdown.contains("6 of 6 results for 3 rows answered"),
        "{markdown}"
    );
    assert!(
        markdown.contains("| entry | answered | rows |"),
        "{markdown}"
    );
}

fn entries(published: &Published) -> impl Iterator<Item = &Value> {
    let entries = published.report["entries"].as_object();
    entries.expect("a line for each entry").values()
}

#[test]
fn an_entry_of_the_matrix_may_be_a_fallback_list() {
    let scratch = Scratch::new();
    scratch.rows(2).job(&format!(
        "{NAMED}\x20 down: {{ {FAILING} }}\nmatrix: [a, [down, b]]\n\
         retry: {{ attempts: 1 }}"
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["a", "b", "a", "b"]);
    assert_eq!(published.field("entry"), ["a", "down>b", "a", "down>b"]);
    assert_eq!(published.attempts(0), ["a first ok"]);
    assert_eq!(
        published.attempts(1),
        ["down first server", "b fallback ok"]
    );
    assert_eq!(published.report["rows"]["fell_back"], 2);
}

#[test]
fn an_entry_that_fails_leaves_the_others_alone() {
    let scratch = Scratch::new();
    scratch.rows(2).job(&format!(
        "{NAMED}\x20 down: {{ {FAILING} }}\nmatrix: [down, a]\n\
         retry: {{ attempts: 1 }}\nmax_failures: 1"
    ));
    let (ran, published) = scratch.run(3);
    assert_eq!(
        published.statuses(),
        ["failed", "answered", "failed", "answered"]
    );
    ran.says("exit 3: 2 rows have no answer, max_failures allows 1");
}

#[test]
fn a_matrix_of_one_entry_is_a_fallback_list() {
    let scratch = Scratch::new();
    scratch.rows(1).job(&format!("{NAMED}matrix: [[b, a]]"));
    let (ran, published) = scratch.run(0);
    assert_eq!(published.answers(), ["b"]);
    assert_eq!(published.header.last().unwrap(), "run_error");
    ran.says("job: 1 of 1 row answered").never_says("entry");
    scratch
        .runner(&["check", "job.yaml"])
        .says("no problems; 1 row for b, then a\n");
}

const SESSIONS: &str = "session,priority,text\n\
    premium-7,1,one\n\
    basic-1,5,two\n\
    basic-2,3,three\n\
    xpremium-,10,four\n";

#[test]
fn a_row_goes_where_the_first_rule_sends_it_that_matches() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", SESSIONS).job(&format!(
        "{NAMED}\x20 down: {{ {FAILING} }}\nretry: {{ attempts: 1 }}\n\
         route:\n\
         \x20 - {{ when: 'session is startingwith(\"premium-\")', to: [down, c] }}\n\
         \x20 - when: |\n\
         \x20     priority | int >\n\
         \x20       3\n\
         \x20   to: b\n\
         \x20 - {{ to: [a, b] }}"
    ));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["c", "b", "a", "b"]);
    assert_eq!(
        published.attempts(0),
        ["down first server", "c fallback ok"]
    );
    assert_eq!(published.attempts(1), ["b first ok"]);
    assert_eq!(published.field("entry"), ["route"; 4]);
    assert_eq!(published.header.last().unwrap(), "run_error");
    assert_eq!(published.report["rows"]["fell_back"], 1);
    let said = "no problems; 4 rows for down, then c if session is startingwith(\"premium-\"); \
                b if priority | int > 3; a, then b otherwise\n";
    scratch.runner(&["check", "job.yaml"]).exits(0).says(said);
}

#[test]
fn a_row_that_no_rule_matches_fails_and_says_so_and_nobody_is_asked() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", SESSIONS).job(&format!(
        "{NAMED}max_failures: 3\n\
         route: [{{ when: \"priority | int > 5\", to: a }}]"
    ));
    let (ran, published) = scratch.run(0);
    let expected = ["failed", "failed", "failed", "answered"];
    assert_eq!(published.statuses(), expected);
    assert_eq!(
        published.column("run_error")[0],
        "row_fatal: no rule of the job's `route` matches the row"
    );
    assert_eq!(published.column("run_attempts"), ["0", "0", "0", "1"]);
    ran.says("first row_fatal: row rows.csv:1: no rule of the job's `route` matches the row");
}

#[test]
fn a_rule_that_cannot_be_decided_is_found_on_the_first_row_and_costs_only_a_later_one() {
    let scratch = Scratch::new();
    let route = "route: [{ when: \"row['nope'] == 'x'\", to: a }, { to: b }]";
    scratch
        .write("rows.csv", SESSIONS)
        .job(&format!("{NAMED}{route}"));
    let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
    ran.says("`when` cannot be decided for the first row, rows.csv:1: there is no column `nope`")
        .says("the input's columns are session, priority, text");

    let route = "route: [{ when: priority | int > 3, to: a }, { to: b }]";
    scratch
        .write("rows.csv", "text,priority\nx,1\ny,high\nz,4\n")
        .job(&format!("{NAMED}{route}"));
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["answered", "failed", "answered"]);
    let error = published.column("run_error")[1];
    assert!(
        error.starts_with("row_fatal: `when` cannot be decided for the row"),
        "{error}"
    );
}

#[test]
fn every_row_is_asked_as_often_as_repeat_says_also_of_every_entry() {
    let scratch = Scratch::new();
    scratch.rows(2).job(NAMED);
    scratch.runner(&["job.yaml", "--set", "repeat=3"]).exits(0);
    let published = scratch.published("out", 0);
    assert_eq!(
        asked(&published),
        ["a:1", "a:2", "a:3", "a:1", "a:2", "a:3"]
    );
    assert_eq!(
        published.column("run_repeat"),
        ["1", "2", "3", "1", "2", "3"]
    );
    assert!(!published.header.contains(&"run_entry".to_owned()));
    assert_eq!(published.report["rows"]["inputs"], 2);

    let set = [
        "job.yaml",
        "--set",
        "repeat=2",
        "--set",
        "matrix=[c, [a, b]]",
    ];
    let ran = scratch.runner(&set).exits(0);
    let published = scratch.published("out", 0);
    let row = ["c:1", "c:2", "a:1", "a:2"];
    assert_eq!(asked(&published), row.repeat(2));
    assert_eq!(published.column("run_repeat"), ["1", "2"].repeat(4));
    ran.says("8 of 8 results for 2 rows answered");
    let check = [&["check"][..], &set].concat();
    scratch
        .runner(&check)
        .says("no problems; 2 rows, 2 times each, for c and a, then b\n");
}

#[test]
fn the_columns_of_entries_and_repeats_clash_and_take_the_prefix_only_where_they_are() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text,run_entry,run_repeat\nx,1,2\n")
        .job(NAMED);
    scratch.runner(&["check", "job.yaml"]).exits(0);
    let matrix = ["job.yaml", "--set", "matrix=[a, b]"];
    scratch
        .runner(&[&["check"][..], &matrix].concat())
        .exits(2)
        .says("the input has a column `run_entry`, and the results add one too");
    scratch
        .runner(&[
            "check",
            "job.yaml",
            "--set",
            "repeat=2",
            "--set",
            "matrix=[a, b]",
        ])
        .exits(2)
        .says("the input has columns `run_entry` and `run_repeat`, and the results add them too");
    scratch
        .runner(
            &[
                &matrix[..],
                &["--set", "repeat=2", "--set", "output.prefix=x_"],
            ]
            .concat(),
        )
        .exits(0);
    let (header, records) = crate::published::read_csv(&scratch.path().join("out/results.csv"));
    assert_eq!(header[header.len() - 2..], ["x_run_entry", "x_run_repeat"]);
    assert_eq!(records.len(), 4);
    assert_eq!(
        read_jsonl(&scratch.path().join("out/results.jsonl"))[3]["entry"],
        "b"
    );
}

#[test]
fn the_store_keeps_a_line_for_each_entry_and_repeat() {
    let scratch = Scratch::new();
    scratch
        .rows(2)
        .job(&format!("{NAMED}matrix: [a, b]\nrepeat: 2"));
    scratch.run(0);
    let store = rusqlite::Connection::open(scratch.path().join("out/run.db")).unwrap();
    let lines = |query: &str| -> Vec<String> {
        let mut query = store.prepare(query).unwrap();
        let lines = query.query_map([], |line| line.get(0)).unwrap();
        lines.map(Result::unwrap).collect()
    };
    let outcomes = "SELECT (row - 1) || ' ' || entry || ' ' || repeat || ' ' || answer || ' ' || \
                    answered_by FROM outcomes ORDER BY row, entry, repeat";
    let found = lines(outcomes);
    assert_eq!(found.len(), 8);
    for (line, expected) in found.iter().zip([
        "0 0 1 a 1",
        "0 0 2 a 1",
        "0 1 1 b 1",
        "0 1 2 b 1",
        "1 0 1 a 1",
    ]) {
        assert!(line.starts_with(expected), "{found:?}");
    }
    let attempts = "SELECT backend || ' ' || count(*) FROM attempts \
                    JOIN outcomes USING (row, entry, repeat) GROUP BY backend ORDER BY 1";
    assert_eq!(lines(attempts), ["a 4", "b 4"]);
    assert_eq!(lines("SELECT value FROM meta WHERE key = 'format'"), ["6"]);
}

#[test]
fn the_shipped_matrix_and_route_run_to_their_end() {
    let scratch = Scratch::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |name: &str| {
        let job = root.join(name).display().to_string();
        scratch.runner(&[&job, "--out", name]).exits(0);
        scratch.published(name, 0)
    };
    let matrix = run("jobs/matrix.yaml");
    assert_eq!((matrix.lines.len(), matrix.count("answered")), (200, 200));
    let route = run("jobs/route.yaml");
    for (tier, backend) in route.column("tier").iter().zip(route.field("backend")) {
        assert_eq!(*tier == "premium", backend == "careful");
    }
    for backend in ["careful", "long", "cheap"] {
        assert!(route.field("backend").contains(&backend), "{backend}");
    }
}
