use std::path::Path;
use std::time::Duration;

use crate::published::read_csv;
use crate::scratch::Scratch;

fn shipped(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).display().to_string()
}

#[test]
fn the_shipped_job_answers_every_row_with_more_than_one_backend() {
    let scratch = Scratch::new();
    let job = shipped("jobs/eval.yaml");
    let ran = scratch.runner(&[&job, "--out", "out"]).exits(0);
    let published = scratch.published("out", 0);

    assert_eq!(published.statuses(), ["answered"; 300]);
    let fast = published
        .field("backend")
        .iter()
        .filter(|b| **b == "fast")
        .count();
    let careful = published
        .field("backend")
        .iter()
        .filter(|b| **b == "careful")
        .count();
    assert!(fast > 250, "{fast}");
    assert!(careful > 0, "{careful}");
    let asked_careful = |row: &usize| {
        let attempts = published.attempts(*row);
        attempts
            .iter()
            .any(|attempt| attempt.starts_with("careful fallback "))
    };
    let fell_back = (0..300).filter(asked_careful).count();
    assert_eq!(published.report["rows"]["fell_back"], fell_back);
    // The backends answer with the label that the fixture says is right.
    assert_eq!(published.answers(), published.column("label"));

    for said in [
        "eval: 300 of 300 rows answered in ",
        " of the answers came from a fallback",
        " backend      answered  attempts  failed  tokens in  tokens out       USD",
        " fast ",
        " careful ",
        " total  ",
        "latency: p50 ",
        "wrote out/results.csv",
        "wrote out/results.jsonl",
        "wrote out/report.json",
        "wrote out/report.md",
        "wrote out/report.html",
    ] {
        assert!(ran.stdout.contains(said), "{said}");
    }
    let plan = "unchanged 0 | changed 0 | new 300 | removed 0 | unknown 0\n";
    assert_eq!(ran.stderr, plan);
    for file in [
        "results.csv",
        "results.jsonl",
        "report.json",
        "report.md",
        "report.html",
        "run.db",
    ] {
        assert!(scratch.path().join("out").join(file).is_file(), "{file}");
    }
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
}

#[test]
fn the_shipped_job_gives_the_same_answers_and_costs_every_time() {
    let scratch = Scratch::new();
    let job = shipped("jobs/eval.yaml");
    scratch.runner(&[&job, "--out", "one"]).exits(0);
    scratch
        .runner(&[&job, "--out", "two", "--set", "concurrency=1", "--quiet"])
        .exits(0);
    let (one, two) = (scratch.published("one", 0), scratch.published("two", 0));
    let same = |published: &crate::published::Published| {
        let mut lines = published.lines.clone();
        for line in &mut lines {
            line["latency_ms"].take();
            for attempt in line["attempts"].as_array_mut().unwrap() {
                attempt["latency_ms"].take();
            }
        }
        lines
    };
    // Failures are drawn per row and attempt, so the schedule must not matter.
    assert_eq!(same(&one), same(&two));
    assert_eq!(one.report["cost"], two.report["cost"]);
}

#[test]
fn check_finds_nothing_wrong_with_the_shipped_job_and_writes_nothing() {
    let scratch = Scratch::new();
    let job = shipped("jobs/eval.yaml");
    let ran = scratch.runner(&["check", &job]).exits(0);
    let said = ": no problems; 300 rows for fast, then careful, then last_resort\n";
    assert!(ran.stdout.ends_with(said), "{}", ran.stdout);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn quiet_prints_nothing() {
    let scratch = Scratch::new();
    let job = shipped("jobs/eval.yaml");
    let ran = scratch
        .runner(&[&job, "--out", "out", "--quiet", "--limit", "5"])
        .exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert_eq!(scratch.published("out", 0).lines.len(), 5);
}

#[test]
fn the_shipped_job_that_evaluates_scores_two_models_and_has_them_judged() {
    let scratch = Scratch::new();
    let job = shipped("jobs/evaluate.yaml");
    scratch.runner(&[&job, "--out", "out"]).exits(0);
    let published = scratch.published("out", 0);
    let scores = &published.report["scores"];
    assert_eq!(published.count("invalid"), 10);
    assert_eq!(scores["accuracy"]["n"], 200);
    assert_eq!(scores["accuracy_answered"]["n"], 190);
    // The judge sees what the labels say, and is half content with one of them.
    let of = |name: &str| scores["by_entry"]["small"][name]["value"].as_f64();
    assert!(of("fits") > of("accuracy"), "{scores}");
    assert_eq!(published.report["attempts"]["by_kind"]["judge"], 190);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn the_shipped_job_that_labels_asks_a_third_model_where_two_do_not_agree() {
    let scratch = Scratch::new();
    let job = shipped("jobs/label.yaml");
    scratch.runner(&[&job, "--out", "out"]).exits(0);
    let published = scratch.published("out", 0);
    let (header, labels) = read_csv(&scratch.path().join("out/labels.csv"));
    let column = |name: &str| {
        let at = header.iter().position(|column| column == name);
        let at = at.expect("the column is there");
        labels
            .iter()
            .map(|row| row[at].as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("run_label"), column("label"));
    let by = column("run_label_by");
    let escalated = by.iter().filter(|by| **by == "escalated").count();
    // As docs/label.md says.
    assert_eq!((labels.len(), escalated), (100, 11));
    assert_eq!(published.lines.len(), 211);
    scratch.runner(&["verify", "out"]).exits(0);
}
