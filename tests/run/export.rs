use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::loopback::Act;
use crate::published::{read_csv, read_report};
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

const FILES: [&str; 5] = [
    "results.csv",
    "results.jsonl",
    "report.json",
    "report.md",
    "report.html",
];

/// What is in the files of a run.
fn files(dir: &Path) -> Vec<Option<String>> {
    FILES
        .map(|name| fs::read_to_string(dir.join(name)).ok())
        .into()
}

#[test]
fn an_export_of_a_run_that_has_ended_writes_the_same_bytes() {
    let flaky = "a: { type: echo, delay: 1ms, failures: { server: 30%, flagged: 10% }, price: { input: 1, output: 3 } }";
    for (backends, exit) in [
        (format!("backends: {{ {flaky} }}\nmax_failures: 100%"), 0),
        (
            format!("backends: {{ {flaky} }}\nretry: {{ attempts: 1 }}"),
            3,
        ),
        (
            format!(
                "backends: {{ {flaky}, b: {{ type: echo }} }}\nmatrix: [a, [a, b]]\nrepeat: 2\nmax_failures: 10"
            ),
            0,
        ),
    ] {
        let scratch = Scratch::new();
        scratch.rows(20).job(&backends);
        scratch.run(exit);
        let out = scratch.path().join("out");
        let published = files(&out);
        // Nothing but the store is needed.
        fs::remove_file(scratch.path().join("job.yaml")).unwrap();
        fs::remove_file(scratch.path().join("rows.csv")).unwrap();
        fs::remove_file(out.join("results.csv")).unwrap();
        fs::write(out.join("report.json"), "{}").unwrap();
        fs::write(out.join(".results.csv.leftover"), "half").unwrap();
        let ran = scratch.runner(&["export", "out"]).exits(0);
        assert_eq!(files(&out), published, "{backends}");
        for name in FILES {
            assert!(
                ran.stdout.contains(&format!("wrote out/{name}\n")),
                "{}",
                ran.stdout
            );
        }
        assert!(!out.join(".results.csv.leftover").exists());
        scratch.runner(&["verify", "out"]).exits(0);
    }
}

#[test]
fn an_export_keeps_what_was_learned_of_the_servers_and_how_the_run_ended() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(20), |number, seen| match number {
        0 => served::fails_with(429, "rate_limit_exceeded", &[("retry-after", "1")]),
        1..10 => served::says(&served::prompt(seen)),
        _ => Act::Hang(Vec::new()),
    });
    let backend = server.backend(
        "a",
        ", account: acme, limits: { requests_per_minute: 6000 }",
    );
    scratch
        .rows(30)
        .job(&format!("backends: {{ {backend} }}\nconcurrency: 2"));
    let running = scratch.start(&["job.yaml"]);
    until("requests that hang", || server.arrivals().len() >= 11);
    running.signal("TERM");
    running.says("stopping: ");
    running.signal("TERM");
    running.wait().exits(143);
    let out = scratch.path().join("out");
    let published = files(&out);
    let report = read_report(&out);
    assert_eq!(report["limits"]["a"]["refusals"], 1);
    assert_eq!(report["limits"]["a"]["account"], "acme");
    for name in FILES {
        fs::remove_file(out.join(name)).unwrap();
    }
    scratch.runner(&["export", "out"]).exits(0);
    assert_eq!(files(&out), published);
    assert_eq!(read_report(&out)["exit_code"], 143);
}

#[test]
fn a_killed_run_is_exported_as_far_as_it_came() {
    let scratch = Scratch::new();
    let server = Served::new(|request, seen| match request {
        0..8 => served::says(&served::prompt(seen)),
        8..10 => Act::Hang(Vec::new()),
        _ => served::says(&served::prompt(seen)),
    });
    scratch.rows(20).job(&format!(
        "backends: {{ {} }}\nconcurrency: 2",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("eight answers and two that hang", || {
        server.arrivals().len() == 10
    });
    running.signal("KILL");
    running.wait();
    assert!(!scratch.path().join("out/report.json").exists());
    let ran = scratch.runner(&["export", "out"]).exits(0);
    ran.says("job: 8 of 20 rows answered\n  2 failed\n  10 not_run\n")
        .says("the run was killed before its end: the same command again goes on");
    // Its exit code is what the rows say.
    let published = scratch.published("out", 3);
    assert_eq!(published.count("answered"), 8);
    assert_eq!(published.count("not_run"), 10);
    let cut: Vec<_> = published.column("run_error");
    let cut = cut.iter().filter(|error| error.starts_with("cancelled: "));
    let why = "cancelled: the runner ended before the answer came; it may have been billed";
    assert_eq!(cut.collect::<Vec<_>>(), [&why; 2]);
    scratch.runner(&["verify", "out"]).exits(0);
    // An export is in nobody's way.
    scratch.runner(&["job.yaml"]).exits(0);
    assert_eq!(server.requests(), 22);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn results_that_could_not_be_written_are_exported_later() {
    for in_the_way in ["results.csv", "report.json"] {
        let scratch = Scratch::new();
        scratch
            .rows(3)
            .job("backends: { a: { type: echo } }\nmax_failures: 1")
            // A directory with something in it cannot be replaced by a file.
            .write(&format!("out/{in_the_way}/in_the_way"), "");
        scratch.runner(&["job.yaml"]).exits(6);
        let ran = scratch.runner(&["status", "out"]).exits(0);
        ran.says("with exit code 6")
            .says("3 of 3 rows done, 0 left")
            .says("`runner export out` writes results and reports, which the run could not");
        let ran = scratch.runner(&["verify", "out"]).exits(6);
        ran.says("`runner export out` renews them");
        scratch
            .runner(&["export", "out"])
            .exits(6)
            .says("cannot write out/");
        fs::remove_dir_all(scratch.path().join("out").join(in_the_way)).unwrap();
        scratch.runner(&["export", "out"]).exits(0);
        let published = scratch.published("out", 0);
        assert_eq!(published.count("answered"), 3);
        scratch
            .runner(&["verify", "out"])
            .exits(0)
            .says("everything agrees");
    }
}

#[test]
fn an_export_writes_the_formats_that_it_is_asked_for() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let out = scratch.path().join("out");
    let before = files(&out);
    fs::remove_file(out.join("results.csv")).unwrap();
    let ran = scratch
        .runner(&["export", "out", "--formats", "csv"])
        .exits(0);
    ran.never_says("results.jsonl");
    assert_eq!(files(&out)[..2], before[..2]);
    let report = read_report(&out);
    let listed: Vec<_> = report["files"].as_object().unwrap().keys().collect();
    assert_eq!(listed, ["results.csv"]);
    let ran = scratch.runner(&["verify", "out"]).exits(0);
    ran.says("note: results.jsonl is from an earlier run");
    scratch
        .runner(&["export", "out", "--formats", "jsonl,csv"])
        .exits(0);
    assert_eq!(files(&out), before);
    let ran = scratch
        .runner(&["export", "out", "--formats", "xml"])
        .exits(2);
    ran.says("expected csv or jsonl or parquet");
}

#[test]
fn a_directory_that_a_runner_holds_is_left_to_it() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(700), |_, _| served::says("x"));
    scratch
        .rows(2)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let running = scratch.start(&["job.yaml"]);
    until("the first request", || !server.arrivals().is_empty());
    let holder = format!(
        "error: another runner (process {}) holds out\n",
        running.id()
    );
    for command in ["export", "verify"] {
        let ran = scratch.runner(&[command, "out"]).exits(75);
        assert_eq!(ran.stderr, holder);
    }
    running.wait().exits(0);
    scratch.runner(&["export", "out"]).exits(0);
}

#[test]
fn a_directory_without_a_run_is_left_as_it_is() {
    let scratch = Scratch::new();
    scratch.write("empty/a_file", "").write("early/run.db", "");
    for command in ["status", "export", "verify"] {
        let wanted = "what a job wrote to is its `output.dir`, by default runs/<its name>";
        let holds_none = "holds no run: there is no run.db in it, or nothing in that";
        for (dir, why) in [
            ("nowhere", "there is no directory nowhere".to_owned()),
            ("empty", format!("empty {holds_none}")),
            ("early", format!("early {holds_none}")),
            ("empty/a_file", "empty/a_file is a file".to_owned()),
        ] {
            let ran = scratch.runner(&[command, dir]).exits(2);
            let error = format!("error: {why}; {wanted}\n");
            assert_eq!(ran.stderr, error);
            assert!(!scratch.path().join(dir).join("run.lock").exists());
        }
        assert!(!scratch.path().join("nowhere").exists());
    }
}

#[test]
fn a_store_that_cannot_be_read_is_refused_with_a_word_on_what_to_do() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let out = scratch.path().join("out");
    let database = out.join("run.db");
    let sound = fs::read(&database).unwrap();
    let sql = |text: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.execute_batch(text).unwrap();
    };
    let older = || sql("UPDATE meta SET value = '2' WHERE key = 'format'");
    let foreign = || sql("DROP TABLE meta");
    let unsettled = || sql("UPDATE runs SET settings = '{}'");
    let text = || {
        fs::write(
            &database,
            "no database, but long enough to be taken for one",
        )
        .unwrap()
    };
    let cases: [(&dyn Fn(), &str); 4] = [
        (&older, "its format is 2, this version's 6"),
        (&foreign, "out/run.db is no run store: it has other tables"),
        (&unsettled, "run the same command again, which writes them"),
        (
            &text,
            "out/run.db is damaged: file is not a database; docs/store.md says what can be saved",
        ),
    ];
    for (harm, says) in cases {
        fs::write(&database, &sound).unwrap();
        harm();
        let before = files(&out);
        for command in ["status", "export", "verify"] {
            scratch.runner(&[command, "out"]).exits(6).says(says);
        }
        assert_eq!(files(&out), before);
    }
}

#[test]
fn cells_follow_their_columns_when_the_header_has_another_order() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text,label\nrow 1,bug\nrow 2,question\n")
        .job("backends: { a: { type: echo } }");
    scratch.run(0);
    scratch.write("rows.csv", "label,text\nbug,row 1\nquestion,row 2\n");
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.says("unchanged 2 | changed 0 | new 0");
    let (header, records) = read_csv(&scratch.path().join("out/results.csv"));
    assert_eq!(header[..3], ["label", "text", "answer"]);
    assert_eq!(records[0][..3], ["bug", "row 1", "row 1"]);
    assert_eq!(records[1][..3], ["question", "row 2", "row 2"]);
}
