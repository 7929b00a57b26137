use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::loopback::Act;
use crate::published::units;
use crate::scratch::{Ran, Scratch, skipped, until};
use crate::served::{self, Served};

fn json(scratch: &Scratch) -> Value {
    let ran = scratch.runner(&["status", "out", "--json"]).exits(0);
    serde_json::from_str(&ran.stdout).expect("it prints JSON")
}

/// Answers eight requests and leaves the others hanging.
fn eight() -> Served {
    Served::new(|request, seen| match request {
        0..8 => served::says(&served::prompt(seen)),
        _ => Act::Hang(Vec::new()),
    })
}

#[test]
fn a_run_is_told_of_while_it_runs_after_it_was_killed_and_when_it_has_ended() {
    let scratch = Scratch::new();
    let server = eight();
    scratch.rows(20).job(&format!(
        "backends: {{ {}, spare: {{ type: echo }} }}\nconcurrency: 2",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("two that hang", || server.arrivals().len() == 10);
    let ran = scratch.runner(&["status", "out"]).exits(0);
    ran.says("job: running since 2")
        .says(&format!(" (process {}), run 1\n", running.id()))
        .says("8 of 20 rows done, 12 left\n  8 answered\n")
        .never_says("export");
    let told = json(&scratch);
    assert_eq!(told["schema"], "runner.status/1");
    assert_eq!(told["state"], "running");
    assert_eq!(told["process"], running.id());
    assert_eq!(told["run"]["ended"], Value::Null);
    assert_eq!(told["rows"]["total"], 20);
    assert_eq!(told["rows"]["left"], 12);
    assert_eq!(told["rows"]["by_status"]["answered"], 8);
    assert_eq!(told["attempts"]["total"], 8);
    assert_eq!(told["attempts"]["in_flight"], 2);
    assert_eq!(told["attempts"]["unknown"], 0);
    // Eight answers of 10 and 5 tokens at 1 and 2 dollars a million.
    assert_eq!(told["cost"]["total_usd"], "0.00016");
    assert_eq!(told["by_backend"]["a"]["cost"]["total_usd"], "0.00016");
    assert_eq!(told["by_backend"]["spare"]["attempts"]["total"], 0);

    running.signal("KILL");
    running.wait();
    let ran = scratch.runner(&["status", "out"]).exits(0);
    ran.says("job: killed; run 1 began at 2")
        .says("8 of 20 rows done, 12 left")
        .says("unknown: a runner ended before the answer came")
        .says(
            "the same command again asks the 12 rows that are left; `runner export out` writes results and \
             reports of what there is",
        );
    let told = json(&scratch);
    assert_eq!(told["state"], "killed");
    assert_eq!(told["process"], Value::Null);
    assert_eq!(told["attempts"]["in_flight"], 0);
    assert_eq!(told["attempts"]["unknown"], 2);
    let possibly = told["cost"]["possibly_billed_usd"].as_str().unwrap();
    assert!(units(possibly) > 0);

    let answers = Served::echo();
    scratch.job(&format!("backends: {{ {} }}", answers.backend("a", "")));
    scratch.runner(&["job.yaml"]).exits(0);
    let told = json(&scratch);
    assert_eq!(told["state"], "finished");
    assert_eq!(told["run"]["number"], 2);
    assert_eq!(told["run"]["exit_code"], 0);
    assert_eq!(told["rows"]["left"], 0);
    // What was in flight when the first run was killed stays unknown.
    assert_eq!(told["attempts"]["unknown"], 2);
    let ran = scratch.runner(&["status", "out"]).exits(0);
    ran.says("job: finished; run 2 ended at 2")
        .says(" with exit code 0\n20 of 20 rows done, 0 left\n  20 answered\n")
        .never_says("same command");
}

#[test]
fn an_interrupted_run_says_what_is_left() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(100), |_, _| served::says("x"));
    scratch.rows(50).job(&format!(
        "backends: {{ {} }}\nconcurrency: 2",
        server.backend("a", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("a few requests", || server.arrivals().len() > 3);
    running.signal("INT");
    running.wait().exits(130);
    let told = json(&scratch);
    assert_eq!(told["state"], "interrupted");
    assert_eq!(told["run"]["exit_code"], 130);
    let left = told["rows"]["left"].as_u64().unwrap();
    assert!((1..50).contains(&left), "{left}");
    let ran = scratch.runner(&["status", "out"]).exits(0);
    ran.says("job: interrupted; run 1 ended at ")
        .says(&format!(
            "the same command again asks the {left} rows that are left\n"
        ))
        .never_says("runner export");
}

#[test]
fn rows_that_failed_are_left_and_rows_that_were_removed_are_not() {
    let scratch = Scratch::new();
    let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
        "row 2" | "row 9" => served::fails(400, "invalid_request_error"),
        prompt => served::says(prompt),
    });
    scratch
        .rows(10)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    scratch.run(3);
    let told = json(&scratch);
    assert_eq!(told["rows"]["by_status"]["failed"], 2);
    assert_eq!(told["rows"]["left"], 2);
    assert_eq!(told["attempts"]["failed"], 2);
    scratch.runner(&["job.yaml", "--limit", "5"]).exits(3);
    let told = json(&scratch);
    assert_eq!(told["rows"]["total"], 5);
    assert_eq!(told["rows"]["by_status"]["answered"], 4);
    assert_eq!(told["rows"]["left"], 1);
    // What was paid for rows that are not in the job any more was paid all the same.
    assert_eq!(told["cost"]["total_usd"], "0.00016");
    assert_eq!(told["attempts"]["total"], 11);
    let ran = scratch.runner(&["status", "out"]).exits(0);
    ran.says("asks the row that is left");
}

#[test]
fn looking_again_and_again_disturbs_no_run_and_keeps_none_from_starting() {
    let scratch = Scratch::new();
    scratch
        .rows(200)
        .job("backends: { a: { type: echo, delay: 10ms } }\nconcurrency: 4");
    for _ in 0..3 {
        let running = scratch.start(&["job.yaml"]);
        let mut looks = 0;
        // A runner that has not made its store yet has nothing to tell.
        while !scratch.path().join("out/report.json").exists() && looks < 200 {
            let ran = scratch.runner(&["status", "out"]);
            assert!(matches!(ran.code, Some(0 | 2)), "{}", ran.stderr);
            looks += 1;
        }
        running.wait().exits(0);
        let published = scratch.published("out", 0);
        assert_eq!(published.count("answered"), 200);
        fs::remove_dir_all(scratch.path().join("out")).unwrap();
    }
}

#[test]
fn whoever_looks_for_an_instant_keeps_no_runner_from_starting() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    // As `status` does, but for longer.
    let lock = fs::File::open(scratch.path().join("out/run.lock")).unwrap();
    lock.lock_shared().unwrap();
    let running = scratch.start(&["job.yaml"]);
    std::thread::sleep(Duration::from_millis(60));
    lock.unlock().unwrap();
    running.wait().exits(0);
}

/// Runs `runner` as somebody to whom the rights of a directory mean something.
fn without_privileges(scratch: &Scratch, args: &[&str]) -> Option<Ran> {
    let is_root = Command::new("id").arg("-u").output().ok()?.stdout == b"0\n";
    match is_root {
        false => Some(scratch.runner(args)),
        // Root without the capability to write where it must not.
        true => {
            let drop = "-dac_override,-dac_read_search";
            let wrapped = ["--bounding-set", drop, "--inh-caps", drop];
            Command::new("setpriv").arg("--version").output().ok()?;
            Some(scratch.under("setpriv", &wrapped, args))
        }
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its rights can be set");
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_to_is_told_of() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let out = scratch.path().join("out");
    set_mode(&out, 0o500);
    let told = without_privileges(&scratch, &["status", "out"]);
    let verified = without_privileges(&scratch, &["verify", "out"]);
    let exported = without_privileges(&scratch, &["export", "out"]);
    set_mode(&out, 0o700);
    let (Some(told), Some(verified), Some(exported)) = (told, verified, exported) else {
        let test = "a_directory_that_cannot_be_written_to_is_told_of";
        skipped(test, "root without setpriv (install util-linux to run it)");
        return;
    };
    told.exits(0).says("3 of 3 rows done, 0 left");
    verified.exits(0).says("everything agrees");
    exported.exits(6).says("cannot open out/run.db");

    // What is still in the log needs the log's index to be read, which cannot be made there.
    let log = out.join("run.db-wal");
    fs::write(&log, "what a runner that was killed has left").unwrap();
    set_mode(&out, 0o500);
    let told = without_privileges(&scratch, &["status", "out"]);
    set_mode(&out, 0o700);
    let told = told.expect("as before").exits(6);
    told.says("out/run.db cannot be read here")
        .says("copy all of it");
}

#[test]
fn what_is_left_to_judge_is_told_of_and_shown() {
    let scratch = Scratch::new();
    // Three verdicts, then nothing.
    let judge = Served::new(|number, _| match number {
        0..3 => served::says("pass"),
        _ => Act::Hang(Vec::new()),
    });
    scratch.rows(10).job(&format!(
        "backends: {{ a: {{ type: echo, delay: 0ms }}, {} }}\nfallback: [a]\n\
         score: {{ judge: {{ backend: judge, rubric: It is right. }} }}\nconcurrency: 1",
        judge.backend("judge", "")
    ));
    let running = scratch.start(&["job.yaml"]);
    until("one that hangs", || judge.arrivals().len() == 4);
    running.says("/10 judged, ");
    scratch
        .runner(&["status", "out"])
        .exits(0)
        .says("10 of 10 rows done, 0 left\nabout 7 answers left to judge or score\n");
    assert_eq!(json(&scratch)["rows"]["left_to_score"], 7);
    running.signal("INT");
    running.says("stopping: ");
    running.signal("INT");
    running
        .wait()
        .exits(130)
        .says("exit 130: stopped with 7 answers not scored; run the same command again to go on");
}
