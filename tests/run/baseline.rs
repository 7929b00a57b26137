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
    ran.says("  not so  10 of 300 rows have a score only here or only in baseline.json, more than `max_missing` allows");
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

/// Copies a file of the run in `main` to where nothing says what it is.
fn copy(scratch: &Scratch, name: &str) {
    let bytes = fs::read(scratch.path().join("main").join(name)).expect(name);
    scratch.write("old", bytes);
}

const OLD: &str = "gate.baseline.path=old";

#[test]
fn a_copy_of_the_results_is_paired_by_row_whatever_it_is_called() {
    let scratch = scratch(300);
    copy(&scratch, "results.jsonl");
    let results = fs::read_to_string(scratch.path().join("old")).expect("a file");
    let reversed: Vec<&str> = results.lines().rev().collect();
    scratch.write("old", reversed.join("\n"));
    let ran = scratch.runner(&against(OLD, &wrong(10))).exits(0);
    ran.says("  ok      equals is 0.900 and was 0.900 on 300 rows: +0.000 (with 95 % confidence -0.009 to +0.009), 0 better, 0 worse; wanted not worse than old");
    let ran = scratch.runner(&against(OLD, &wrong(20))).exits(7);
    ran.says("  not so  equals is 0.800 and was 0.900 on 300 rows: -0.100")
        .says("0 better, 30 worse; wanted");
    let reply = wrong(10);
    let mut few = against(OLD, &reply);
    few.extend(["--limit", "20", "--set", "gate.baseline.max_missing=100%"]);
    scratch
        .runner(&few)
        .exits(0)
        .says("  unsure  equals is 0.500 and was 0.500 on 20 rows, 280 left out");
}

#[test]
fn a_copy_of_the_results_has_the_means_of_repeats_by_entry() {
    let scratch = scratch(60);
    let by_entry = |right: &str| {
        format!("backends.b.reply='{{{{ \"yes\" if n | int % 3 < {right} else \"no\" }}}}'")
    };
    let all = by_entry("2");
    let common = |set: &'static str| ["--set", "matrix=[a, b]", "--set", "repeat=2", "--set", set];
    let echo = "backends.b={ type: echo, delay: 0ms }";
    let mut args = vec!["job.yaml", "--out", "two", "--set", "backends.a.reply=yes"];
    args.extend(common(echo));
    args.extend(["--set", &all]);
    scratch.runner(&args).exits(0);
    let results = fs::read(scratch.path().join("two/results.jsonl")).expect("a file");
    scratch.write("old", results);
    args.splice(1..3, ["--set", OLD]);
    let ran = scratch.runner(&args).exits(0);
    ran.says("equals is 0.833 and was 0.833 on 60 rows: +0.000");
    let worse = by_entry("0");
    *args.last_mut().expect("a reply") = &worse;
    let ran = scratch.runner(&args).exits(7);
    ran.says("equals is 0.500 and was 0.833 on 60 rows: -0.333")
        .says("0 better, 40 worse");
}

#[test]
fn rows_without_an_id_are_found_in_a_copy_of_the_results_by_what_they_hold() {
    let scratch = scratch(300);
    // Each content is there twice, and stands elsewhere the next time.
    let rows = |numbers: &mut dyn Iterator<Item = u32>| {
        let lines: String = numbers.map(|n| format!("{}\n", n % 150)).collect();
        scratch.write("rows.csv", format!("n\n{lines}"));
    };
    let no_id = ["--set", "inputs=rows.csv"];
    let reply = wrong(10);
    rows(&mut (0..300));
    let mut old = vec!["job.yaml", "--out", "other", "--set", &reply];
    old.extend(no_id);
    scratch.runner(&old).exits(0);
    let results = fs::read(scratch.path().join("other/results.jsonl")).expect("a file");
    scratch.write("old", results);
    rows(&mut (0..300).rev());
    let mut new = against(OLD, &reply);
    new.extend(no_id);
    let ran = scratch.runner(&new).exits(0);
    ran.says("  ok      equals is 0.867 and was 0.867 on 300 rows: +0.000")
        .says("0 better, 0 worse");
}

#[test]
fn a_copy_of_the_report_is_compared_as_figures_that_know_nothing_of_each_other() {
    let scratch = scratch(300);
    copy(&scratch, "report.json");
    let ran = scratch.runner(&against(OLD, &wrong(1))).exits(0);
    ran.says(
        "  ok      equals is 0.990 of 300 and was 0.900 of 300: +0.090 (with 95 % confidence +0.0",
    )
    .says("not paired by row as a file of `runner baseline` would be, cost $0.00 and was $0.00");
    // The same rows with the same scores: row by row they are enough, and so they are not.
    let ran = scratch.runner(&against(OLD, &wrong(10))).exits(0);
    ran.says(
        "  unsure  equals is 0.900 of 300 and was 0.900 of 300: +0.000 (with 95 % confidence -0.04",
    );
    let ran = scratch.runner(&against(OLD, &wrong(20))).exits(7);
    ran.says(
        "  not so  equals is 0.800 of 300 and was 0.900 of 300: -0.100 (with 95 % confidence -0.1",
    );
    let report = fs::read_to_string(scratch.path().join("out/report.json")).expect("a report");
    assert!(report.contains("\"method\": \"newcombe\""), "{report}");
    let reply = wrong(10);
    let mut fewer = against(OLD, &reply);
    fewer.extend(["--limit", "290"]);
    let ran = scratch.runner(&fewer).exits(7);
    ran.says(
        "  not so  10 of 300 rows have a score only here or only in old, more than `max_missing` allows",
    );
}

#[test]
fn figures_that_are_no_shares_of_rows_are_not_compared_without_rows() {
    let scratch = scratch(60);
    let reply = wrong(10);
    copy(&scratch, "report.json");
    let help = "`runner baseline DIR --to FILE` writes the scores of a run to a file, row by row";
    let mut repeated = against(OLD, &reply);
    repeated.extend(["--set", "repeat=2"]);
    let ran = scratch.runner(&repeated).exits(2);
    ran.says("error: old has no rows, and this job has several lines for each row")
        .says(help);
    repeated.extend(["--out", "main"]);
    repeated.drain(1..3);
    scratch.runner(&repeated).exits(0);
    copy(&scratch, "report.json");
    let ran = scratch.runner(&against(OLD, &reply)).exits(2);
    ran.says("error: old has no rows, and its figure of `equals` is no share of rows")
        .says(help);
    // Nor are they where all are alike, which would look like a share of twice as many rows.
    let all_right = wrong(0);
    *repeated.last_mut().expect("a directory") = "alike";
    repeated.extend(["--set", &all_right]);
    scratch.runner(&repeated).exits(0);
    let report = fs::read(scratch.path().join("alike/report.json")).expect("a report");
    scratch.write("old", report);
    let ran = scratch.runner(&against(OLD, &reply)).exits(2);
    ran.says("error: old has no rows, and its figure of `equals` is no share of rows");
    let other = [
        "job.yaml",
        "--set",
        OLD,
        "--set",
        "score=[{ name: x, equals: \"no\" }]",
    ];
    let ran = scratch.runner(&other).exits(2);
    ran.says("error: old has no scores of `x`")
        .says("it is of a job with other scorers");
}

#[test]
fn results_that_are_not_whole_are_found_before_anything_is_sent() {
    let scratch = scratch(20);
    copy(&scratch, "results.jsonl");
    let results = fs::read_to_string(scratch.path().join("old")).expect("a file");
    let told = "error: there is nothing to compare with: old is no baseline file: ";
    let reply = wrong(10);
    for (text, why) in [
        (
            format!("{results}{results}"),
            "its line 21 is not as it should be: the row `r0` is there twice",
        ),
        (
            results[..results.len() - 9].to_owned(),
            "its line 20 is not as it should be: EOF while parsing",
        ),
        (
            results
                .replace("{\"equals\":1.0}", "{}")
                .replace("{\"equals\":0.0}", "{}"),
            "it has no scores",
        ),
    ] {
        scratch.write("old", text);
        let ran = scratch.runner(&against(OLD, &reply)).exits(2);
        ran.says(&format!("{told}{why}"));
    }
}

#[test]
fn identical_runs_pass_though_some_rows_have_no_gold_value_and_some_are_escalated() {
    let scratch = Scratch::new();
    let gold = |n: u32| if n.is_multiple_of(10) { "" } else { "yes" };
    let lines: String = (0..300)
        .map(|n| format!("r{n},{n},{}\n", gold(n)))
        .collect();
    scratch.write("rows.csv", format!("id,n,gold\n{lines}")).write(
        "job.yaml",
        "inputs: { path: rows.csv, id: id }\nprompt: \"{{ n }}\"\noutput: { dir: out }\n\
         answer: { labels: [yes, no] }\nmatrix: [a, b]\nescalate: c\n\
         score: [{ equals: \"{{ gold }}\" }]\nbackends:\n  a: { type: echo, delay: 0ms, reply: \"yes\" }\n  \
         b: { type: echo, delay: 0ms, reply: '{{ \"no\" if n | int % 7 == 0 else \"yes\" }}' }\n  \
         c: { type: echo, delay: 0ms, reply: \"no\" }\n",
    );
    scratch.runner(&["job.yaml", "--out", "main"]).exits(0);
    scratch
        .runner(&["baseline", "main", "--to", "baseline.json"])
        .exits(0);
    copy(&scratch, "results.jsonl");
    for path in ["main", "baseline.json", "old"] {
        let path = format!("gate.baseline.path={path}");
        let ran = scratch.runner(&["job.yaml", "--set", &path]).exits(0);
        ran.says("gate: met\n  ok      equals is 0.930 and was 0.930 on 270 rows: +0.000");
    }
    // Another answer of who is asked last is another flip, and not another mean.
    let reply = ["job.yaml", "--set", "gate.baseline.path=main", "--set"];
    let ran = scratch.runner(&[&reply[..], &["backends.c.reply=yes"]].concat());
    ran.exits(0).says("on 270 rows: +0.000");
}
