use std::fs;
use std::time::Duration;

use rusqlite::Connection;

use crate::cache::{cached, entries, file, into};
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

#[test]
fn two_runners_share_a_cache() {
    let server = Served::slowly(Duration::from_millis(5), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = cached(150, &server, "concurrency: 16");
    scratch.runner(&["check", "job.yaml"]).exits(0);
    // They make the file at the same time, too.
    let runs = ["one", "two", "three"].map(|out| scratch.start(&["job.yaml", "--out", out]));
    for run in runs {
        run.wait().exits(0).never_says("warning");
    }
    for out in ["one", "two", "three"] {
        assert_eq!(scratch.published(out, 0).count("answered"), 150);
    }
    assert!(server.requests() <= 450, "{}", server.requests());
    let sent = server.requests();
    let (_, published) = into(&scratch, "four", &[]);
    assert_eq!(published.report["rows"]["from_cache"], 150);
    assert_eq!(server.requests(), sent);
}

#[test]
fn a_runner_that_was_killed_leaves_a_sound_cache() {
    let server = Served::slowly(Duration::from_millis(20), |_, seen| {
        served::says(&served::prompt(seen))
    });
    let scratch = cached(60, &server, "concurrency: 4");
    let running = scratch.start(&["job.yaml", "--out", "killed"]);
    until("half of the requests", || server.arrivals().len() >= 30);
    running.signal("KILL");
    drop(running);
    // What was on its way then is still coming in.
    std::thread::sleep(Duration::from_millis(300));
    let kept = entries(&scratch);
    assert!(kept > 0);
    let sent = server.requests() as u64;
    let (ran, published) = into(&scratch, "another", &[]);
    ran.never_says("warning");
    assert_eq!(published.answers().len(), 60);
    let asked = server.requests() as u64 - sent;
    assert_eq!(
        asked,
        60 - published.report["rows"]["from_cache"].as_u64().unwrap()
    );
    assert!(asked <= 60 - kept, "{asked} {kept}");
}

#[test]
fn a_damaged_entry_is_no_answer_and_is_replaced() {
    let server = Served::echo();
    let scratch = cached(3, &server, "");
    into(&scratch, "first", &[]);
    let sound = fs::read(file(&scratch)).unwrap();
    let at = |text: &[u8]| sound.windows(text.len()).position(|bytes| bytes == text);
    let text = at(b"row 2").expect("the answer stands in the file");
    let mut sent = 3;
    let model = at(b"m-2026").expect("the model stands in the file");
    for position in [text, text + 4, model] {
        let mut bytes = sound.clone();
        bytes[position] ^= 1;
        fs::write(file(&scratch), &bytes).unwrap();
        let (ran, published) = into(&scratch, &format!("at-{position}"), &[]);
        ran.says("warning: an entry of the cache is damaged");
        assert_eq!(published.answers(), ["row 1", "row 2", "row 3"]);
        sent += 1;
        assert_eq!(server.requests(), sent);
        let (ran, _) = into(&scratch, &format!("mended-{position}"), &[]);
        ran.never_says("warning");
        assert_eq!(server.requests(), sent);
    }
}

#[test]
fn a_flipped_byte_anywhere_costs_a_request_at_most() {
    let server = Served::echo();
    let scratch = cached(3, &server, "");
    into(&scratch, "first", &[]);
    let sound = fs::read(file(&scratch)).unwrap();
    let out = scratch.path().join("flipped");
    let header = (0..100).step_by(9);
    let rest = (100..sound.len()).step_by(311);
    for position in header.chain(rest) {
        let mut bytes = sound.clone();
        bytes[position] ^= 0xff;
        fs::write(file(&scratch), &bytes).unwrap();
        let ran = scratch.runner(&["job.yaml", "--out", "flipped"]).exits(0);
        let published = scratch.published("flipped", 0);
        assert_eq!(
            published.answers(),
            ["row 1", "row 2", "row 3"],
            "{position}"
        );
        drop(ran);
        fs::remove_dir_all(&out).unwrap();
        for log in ["answers.db-wal", "answers.db-shm"] {
            let _ = fs::remove_file(scratch.path().join(log));
        }
    }
}

#[test]
fn what_is_no_cache_is_left_alone_and_the_run_goes_on() {
    let server = Served::echo();
    let scratch = cached(2, &server, "");
    let foreign = |scratch: &Scratch, statements: &str| {
        let database = Connection::open(file(scratch)).expect("a database");
        database.execute_batch(statements).expect("statements");
    };
    type Make<'a> = &'a dyn Fn(&Scratch);
    let make: [(&str, Make<'_>); 4] = [
        ("file is not a database", &|scratch| {
            scratch.write("answers.db", "garbage, ".repeat(100));
        }),
        ("is no cache, or one of another version", &|scratch| {
            foreign(
                scratch,
                "CREATE TABLE answers (fingerprint, text); INSERT INTO answers VALUES (1, 2)",
            );
        }),
        ("is no cache, or one of another version", &|scratch| {
            into(scratch, "a-cache", &[]);
            foreign(scratch, "PRAGMA user_version = 99");
        }),
        ("is a link or no regular file", &|scratch| {
            scratch.write("elsewhere", "something else");
            #[cfg(unix)]
            std::os::unix::fs::symlink(scratch.path().join("elsewhere"), file(scratch)).unwrap();
            #[cfg(not(unix))]
            fs::create_dir(file(scratch)).unwrap();
        }),
    ];
    for (number, (says, make)) in make.into_iter().enumerate() {
        let _ = fs::remove_file(file(&scratch));
        make(&scratch);
        let before = fs::read(file(&scratch)).unwrap();
        let (ran, published) = into(&scratch, &format!("out-{number}"), &[]);
        ran.says("warning: the run goes on without the cache: ")
            .says(says);
        assert_eq!(published.answers(), ["row 1", "row 2"]);
        assert_eq!(fs::read(file(&scratch)).unwrap(), before, "{says}");
    }
}

#[test]
fn a_cache_that_somebody_keeps_locked_costs_a_while_and_no_more() {
    let server = Served::echo();
    let scratch = cached(2, &server, "");
    into(&scratch, "first", &[]);
    let holder = Connection::open(file(&scratch)).unwrap();
    let hold = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;";
    holder.execute_batch(hold).unwrap();
    let (ran, published) = into(&scratch, "again", &[]);
    ran.says("warning: the run goes on without the cache: ")
        .says("locked");
    assert_eq!(published.answers(), ["row 1", "row 2"]);
    drop(holder);
    // A writer that does not end is no hindrance to those who look.
    let holder = Connection::open(file(&scratch)).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    scratch.rows(3);
    let (ran, published) = into(&scratch, "third", &[]);
    ran.says("warning: no more answers are added to the cache: ");
    assert_eq!(published.report["rows"]["from_cache"], 2);
    assert_eq!(server.requests(), 5);
}

#[test]
fn a_cache_that_cannot_be_written_is_read() {
    use std::fs::Permissions;
    let server = Served::echo();
    let scratch = cached(2, &server, "");
    into(&scratch, "first", &[]);
    let mut permissions: Permissions = fs::metadata(file(&scratch)).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(file(&scratch), permissions).unwrap();
    scratch.rows(3);
    let (_, published) = into(&scratch, "again", &[]);
    assert_eq!(published.answers(), ["row 1", "row 2", "row 3"]);
    assert_eq!(published.report["rows"]["from_cache"], 2);
    assert_eq!(server.requests(), 3);
}

#[test]
fn a_cache_that_is_a_file_of_the_run_is_refused() {
    let scratch = Scratch::new();
    scratch
        .rows(1)
        .job("backends: { e: { type: echo, delay: 0ms } }");
    scratch.run(0);
    for (cache, says) in [
        ("out/run.db", "the cache would be run.db of the run itself"),
        (
            "out/results.csv",
            "the cache would be results.csv of the run itself",
        ),
        ("rows.csv", "the cache would be the input rows.csv"),
    ] {
        let set = format!("cache={cache}");
        let before = fs::read(scratch.path().join(cache)).unwrap();
        scratch
            .runner(&["job.yaml", "--set", &set])
            .exits(2)
            .says(says);
        scratch
            .runner(&["check", "job.yaml", "--set", &set])
            .exits(2);
        assert_eq!(fs::read(scratch.path().join(cache)).unwrap(), before);
    }
}
