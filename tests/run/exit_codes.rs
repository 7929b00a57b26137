use crate::scratch::Scratch;
use crate::served::Served;

#[test]
fn an_output_directory_that_cannot_be_is_found_before_anything_is_sent() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch
        .rows(3)
        .write("out", "a file stands where the directory should be")
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let ran = scratch.runner(&["job.yaml"]).exits(6);
    assert_eq!(
        ran.stderr,
        "error: cannot make the output directory out: File exists (os error 17)\n\
         when that is mended, run the same command again: it goes on from there\n"
    );
    scratch.runner(&["job.yaml", "--out", "out/below"]).exits(6);
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_results_file_that_cannot_be_published_is_a_storage_fault() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    // A directory with something in it cannot be replaced by a file.
    scratch.write("out/results.csv/in_the_way", "");
    let ran = scratch.runner(&["job.yaml"]).exits(6);
    ran.says("error: cannot write out/results.csv: ")
        .says("every answer so far is in out/run.db");
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    let scratch = Scratch::new();
    scratch.runner(&[]).exits(2).says("Usage: runner");
    scratch.runner(&["--nonsense"]).exits(2).says("--nonsense");
    scratch.rows(1).job("backends: { a: { type: echo } }");
    scratch
        .runner(&["job.yaml", "--limit", "many"])
        .exits(2)
        .says("--limit");
    let help = scratch.runner(&["--help"]).exits(0);
    for code in ["0 ", "1 ", "2 ", "3 ", "5 ", "6 ", "75 ", "130 "] {
        assert!(
            help.stdout
                .lines()
                .any(|line| line.trim().starts_with(code)),
            "{code}"
        );
    }
    let version = scratch.runner(&["--version"]).exits(0);
    assert_eq!(
        version.stdout,
        format!("runner {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[cfg(unix)]
#[test]
fn a_planted_link_does_not_have_another_file_written() {
    let scratch = Scratch::new();
    scratch.rows(1).job("backends: { a: { type: echo } }");
    scratch.write("victim", "precious").write("out/x", "");
    let link = scratch.path().join("out/run.lock");
    std::os::unix::fs::symlink(scratch.path().join("victim"), link).unwrap();
    let ran = scratch.runner(&["job.yaml"]).exits(6);
    ran.says("cannot lock out/run.lock: it is a link or no regular file; remove it");
    let victim = std::fs::read_to_string(scratch.path().join("victim")).unwrap();
    assert_eq!(victim, "precious");
}
