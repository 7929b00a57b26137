use std::fs;

use crate::scratch::Scratch;

/// The answer of most rows is right; so many in a hundred are not.
fn wrong(percent: u32) -> String {
    format!("backends.a.reply='{{{{ \"no\" if n | int % 100 < {percent} else \"yes\" }}}}'")
}

/// A job with so many rows, whose right answer is `yes`, and a run of it in `main` with ten wrong in a hundred.
fn scratch(rows: u32) -> Scratch {
    let scratch = Scratch::new();
    let lines: String = (0..rows).map(|n| format!("r{n},{n}\n")).collect();
    scratch.write("rows.csv", format!("id,n\n{lines}")).write(
        "job.yaml",
        "inputs: { path: rows.csv, id: id }\nprompt: \"{{ n }}\"\noutput: { dir: out }\n\
         backends: { a: { type: echo, delay: 0ms } }\nscore: [{ equals: \"yes\" }]\n",
    );
    let main = ["job.yaml", "--out", "main", "--set", &wrong(10)];
    scratch.runner(&main).exits(0);
    scratch
}

/// The arguments of a run into `out` that is compared with this.
fn against<'a>(path: &'a str, reply: &'a str) -> Vec<&'a str> {
    vec!["job.yaml", "--set", path, "--set", reply]
}

const FILE: &str = "gate.baseline.path=baseline.json";

fn with_file(scratch: &Scratch) {
    let ran = scratch
        .runner(&["baseline", "main", "--to", "baseline.json"])
        .exits(0);
    ran.says("wrote baseline.json: 300 rows, scores of equals");
    let size = fs::metadata(scratch.path().join("baseline.json"))
        .expect("a file")
        .len();
    assert!(size < 20_000, "{size}");
}

#[test]
fn a_run_as_good_as_its_baseline_passes_and_a_worse_one_ends_with_7() {
    let scratch = scratch(300);
    with_file(&scratch);
    let ran = scratch.runner(&against(FILE, &wrong(10))).exits(0);
    ran.says("gate: met\n  ok      equals is 0.900 and was 0.900 on 300 rows: +0.000 (with 95 % confidence -0.009 to +0.009)")
        .says("; wanted not worse than baseline.json by more than 0.02");
    // Another reply is another request: every row is asked again.
    let ran = scratch.runner(&against(FILE, &wrong(20))).exits(7);
    ran.says(
        "  not so  equals is 0.800 and was 0.900 on 300 rows: -0.100 (with 95 % confidence -0.1",
    )
    .says("0 better, 30 worse, cost $0.00 and was $0.00; wanted not worse")
    .says("exit 7: the gate is not met: baseline");
    let ran = scratch.runner(&["diff", "main", "out"]).exits(0);
    ran.says("equals: 0.900 → 0.800, -0.100 (95 %: -0.1")
        .says("0 better, 30 worse of 300, p < 0.001")
        .says("worse  r10   1.00 yes  0.00 no")
        .says("and 10 more that are worse, 0 that are better, 0 with another answer");
    let ran = scratch
        .runner(&against("gate.baseline.path=main", &wrong(5)))
        .exits(0);
    ran.says("  ok      equals is 0.950 and was 0.900");
}

#[test]
fn what_too_few_rows_mean_is_for_the_job_to_say() {
    let scratch = scratch(20);
    let (path, reply) = ("gate.baseline.path=main", wrong(10));
    let ran = scratch.runner(&against(path, &reply)).exits(0);
    ran.says("gate: met\n  unsure  equals is 0.500 and was 0.500 on 20 rows");
    let mut strict = against(path, &reply);
    strict.extend(["--set", "gate.inconclusive=fail"]);
    scratch
        .runner(&strict)
        .exits(7)
        .says("  unsure, which does not do  equals is");
    let mut wide = against(path, &reply);
    wide.extend(["--set", "gate.baseline.not_worse_than=0.2"]);
    scratch.runner(&wide).exits(0).says("  ok      equals is");
}

#[test]
fn the_comparison_is_kept_with_the_run_whatever_becomes_of_the_baseline() {
    let scratch = scratch(300);
    with_file(&scratch);
    scratch.runner(&against(FILE, &wrong(20))).exits(7);
    let files = ["report.json", "report.md", "junit.xml"];
    let read = || files.map(|name| fs::read(scratch.path().join("out").join(name)).expect(name));
    let before = read();
    fs::remove_file(scratch.path().join("baseline.json")).expect("it is there");
    fs::remove_file(scratch.path().join("job.yaml")).expect("it is there");
    scratch.runner(&["verify", "out"]).exits(0);
    scratch.runner(&["export", "out"]).exits(0);
    assert!(read() == before, "the files differ");
}

#[test]
fn rows_without_a_partner_fail_the_gate_unless_the_job_allows_them() {
    let scratch = scratch(300);
    with_file(&scratch);
    let reply = wrong(10);
    let mut fewer = against(FILE, &reply);
    fewer.extend(["--limit", "290"]);
    let ran = scratch.runner(&fewer).exits(7);
    ran.says("  not so  10 of 300 rows are only here or only in baseline.json, more than `max_missing` allows");
    fewer.extend(["--set", "gate.baseline.max_missing=5%"]);
    scratch
        .runner(&fewer)
        .exits(0)
        .says("on 290 rows, 10 left out: ");
}

#[test]
fn a_scorer_that_the_baseline_lacks_is_found_before_anything_is_sent() {
    let scratch = scratch(300);
    with_file(&scratch);
    let two = "score=[{ equals: \"yes\" }, { name: short, regex: \"^.{1,3}$\" }]";
    let mut args = against(FILE, two);
    args.extend(["--set", "gate.baseline.metric=short"]);
    let ran = scratch.runner(&args).exits(2);
    ran.says("error: baseline.json has no scores of `short`")
        .says("it has equals; choose one with `metric`");
}

#[test]
fn a_run_that_was_stopped_before_it_was_compared_is_judged_as_unsure() {
    let scratch = scratch(300);
    with_file(&scratch);
    let slow = "backends.a.delay=100ms";
    let reply = wrong(10);
    let mut args = against(FILE, &reply);
    args.extend(["--set", slow, "--set", "concurrency=1"]);
    let running = scratch.start(&args);
    crate::scratch::until("a row is stored", || {
        let ran = scratch.runner(&["status", "out"]);
        ran.code == Some(0) && ran.stdout.contains("answered")
    });
    drop(running);
    let ran = scratch.runner(&["report", "out"]).exits(0);
    ran.says("  unsure  the run has not ended, and was not compared; wanted not worse than baseline.json");
}

#[test]
fn runs_that_are_alike_suggest_a_margin_at_which_they_pass() {
    let scratch = scratch(300);
    scratch
        .runner(&["job.yaml", "--out", "again", "--set", &wrong(12)])
        .exits(0);
    let ran = scratch.runner(&["aa", "main", "again"]).exits(0);
    ran.says("  equals: 0.900 → 0.880, -0.020 (95 %: -0.0")
        .says("noise: the score of a row differs by 0.141 (standard deviation); with 300 rows `not_worse_than: 0.0");
}
