use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use twox_hash::XxHash3_64;

use crate::loopback::Act;
use crate::scratch::{Scratch, until};
use crate::served::{self, Served};

/// Harms a directory.
type Edit<'a> = &'a dyn Fn(&Path);

/// A directory with a run that has ended, and a copy of it to harm.
struct Sound {
    scratch: Scratch,
}

impl Sound {
    /// Two entries, two repeats, failures, fallbacks, and a row that is not in the job any more.
    fn new() -> Self {
        let scratch = Scratch::new();
        let server = Served::new(|_, seen| match served::prompt(seen).as_str() {
            "row 2" => served::fails(500, "server_error"),
            prompt => served::says(prompt),
        });
        scratch.rows(13).job(&format!(
            "backends: {{ {}, b: {{ type: echo, price: {{ input: 1, output: 1 }} }} }}\n\
             matrix: [a, [a, b]]\nrepeat: 2\nretry: {{ initial: 1ms }}\nmax_failures: 2",
            server.backend("a", "")
        ));
        scratch.runner(&["job.yaml"]).exits(0);
        scratch.runner(&["job.yaml", "--limit", "12"]).exits(0);
        Self { scratch }
    }

    /// A copy of the directory.
    fn copy(&self) -> PathBuf {
        let copy = self.scratch.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).expect("it is new");
        for entry in fs::read_dir(self.scratch.path().join("out")).expect("it can be read") {
            let entry = entry.expect("it can be read");
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("it can be copied");
        }
        copy
    }
}

fn sql(dir: &Path, text: &str) {
    let connection = rusqlite::Connection::open(dir.join("run.db")).expect("a database");
    connection.execute_batch(text).expect("the edit is sound");
}

/// Edits a line of the ledger as somebody would who knows how its sum is made.
fn sql_with_the_sum(dir: &Path, change: &str) {
    const LINE: &str = "row = 3 AND entry = 0 AND repeat = 1 AND attempt = 1";
    sql(dir, &format!("UPDATE attempts SET {change} WHERE {LINE}"));
    let connection = rusqlite::Connection::open(dir.join("run.db")).expect("a database");
    let columns = "row, entry, repeat, attempt, backend, kind, fingerprint, model, class, error, \
                   http_status, request_id, usage, price, cost, cost_usd, saved_usd, latency_us, run";
    let query = format!("SELECT {columns} FROM attempts WHERE {LINE}");
    let mut sum = Vec::new();
    let read = connection.query_row(&query, [], |line| {
        for column in 0..columns.split(", ").count() {
            let (tag, bytes) = match line.get_ref(column)? {
                ValueRef::Null => (0, Vec::new()),
                ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
                ValueRef::Real(number) => (2, number.to_le_bytes().to_vec()),
                ValueRef::Text(text) => (3, text.to_vec()),
                ValueRef::Blob(bytes) => (4, bytes.to_vec()),
            };
            sum.push(tag);
            sum.extend((bytes.len() as u64).to_le_bytes());
            sum.extend(bytes);
        }
        Ok(())
    });
    read.expect("the line is there");
    let sum = XxHash3_64::oneshot(&sum).cast_signed();
    sql(
        dir,
        &format!("UPDATE attempts SET sum = {sum} WHERE {LINE}"),
    );
}

fn replace(dir: &Path, file: &str, old: &str, new: &str) {
    let text = fs::read_to_string(dir.join(file)).expect("it is text");
    assert!(text.contains(old), "{file} lacks {old}");
    fs::write(dir.join(file), text.replacen(old, new, 1)).expect("it can be written");
}

#[test]
fn a_run_that_nobody_has_touched_agrees() {
    let sound = Sound::new();
    let ran = sound.scratch.runner(&["verify", "out"]).exits(0);
    ran.says("ok      the database is sound")
        .says("every line is as it was written: 13 rows, 52 outcomes, 0 superseded, ")
        .says("ok      every outcome has the attempt that decided it")
        .says("ok      the attempts of every row are numbered without gaps")
        .says("by row, backend, model, kind, token class and use: $0.00")
        .says("ok      results.csv is what the store says")
        .says("ok      every cost is what its usage comes to at its price")
        .says("ok      report.md is what the store says")
        .says("ok      report.html is what the store says\nok      junit.xml is what the store says\neverything agrees\n");
    // A copy elsewhere is as good.
    sound.copy();
    sound.scratch.runner(&["verify", "copy"]).exits(0);
}

#[test]
fn answers_that_count_no_more_are_kept_and_checked_too() {
    let scratch = Scratch::new();
    scratch.rows(3).job("backends: { a: { type: echo } }");
    scratch.run(0);
    scratch.job("backends: { a: { type: echo, model: other } }");
    scratch.runner(&["job.yaml"]).exits(0);
    let ran = scratch.runner(&["verify", "out"]).exits(0);
    ran.says("3 rows, 3 outcomes, 3 superseded, 6 attempts");
    sql(
        &scratch.path().join("out"),
        "UPDATE superseded SET answer = 'x' WHERE row = 2",
    );
    let ran = scratch.runner(&["verify", "out"]).exits(6);
    ran.says("the line of superseded with row 2, entry 0, repeat 1 is damaged or was edited");
}

#[test]
fn answers_that_rows_take_over_are_checked_and_told_like_others() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text\nx\ny\nx\nx\n")
        .job("backends: { a: { type: echo, price: { input: 1, output: 1 } } }\ndedupe: true");
    scratch.run(0);
    scratch.runner(&["verify", "out"]).exits(0);
    let told = scratch.runner(&["status", "out", "--json"]).exits(0);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["attempts"]["total"], 2);
    assert_eq!(told["attempts"]["reused"], 2);
    assert_eq!(told["rows"]["left"], 0);
    let published = fs::read(scratch.path().join("out/results.jsonl")).unwrap();
    scratch.runner(&["export", "out"]).exits(0);
    let exported = fs::read(scratch.path().join("out/results.jsonl")).unwrap();
    assert_eq!(exported, published);
}

#[test]
fn an_edit_of_the_store_is_found() {
    let sound = Sound::new();
    for (edit, says) in [
        (
            "UPDATE attempts SET cost_usd = '0.5' WHERE row = 3 AND cost = 'known'",
            "the line of attempts with row 3, entry 0, repeat 1, attempt 1 is damaged or was edited",
        ),
        (
            "UPDATE outcomes SET answer = answer || ' ' WHERE row = 5",
            "the line of outcomes with row 5, entry 0, repeat 1 is damaged or was edited",
        ),
        (
            "UPDATE rows SET cells = '[\"row 99\"]' WHERE row = 7",
            "the line of rows with row 7 is damaged or was edited",
        ),
        (
            "DELETE FROM attempts WHERE row = 4 AND entry = 0 AND repeat = 1",
            "row 4, entry 0, repeat 1 was decided by attempt",
        ),
        (
            "UPDATE attempts SET attempt = attempt + 1 WHERE row = 4 AND entry = 0 AND repeat = 1",
            "row 4, entry 0, repeat 1 has 1 attempts, with the numbers 2 to 2",
        ),
        (
            "DELETE FROM outcomes WHERE row = 6 AND entry = 1",
            "results.csv: line 24 is another (",
        ),
        (
            "DELETE FROM rows WHERE position = 5",
            "11 rows have the places 0 to 11",
        ),
        (
            "DELETE FROM rows WHERE row = 9",
            "the line of outcomes with row 9, entry 0, repeat 1 belongs to no row",
        ),
        ("DELETE FROM entries WHERE entry = 1", "belongs to no entry"),
        (
            "DELETE FROM runs WHERE run = 1",
            "the line of outcomes with row 1, entry 0, repeat 1 belongs to no run",
        ),
        (
            "UPDATE rows SET position = 100 WHERE position = 3;
             UPDATE rows SET position = 3 WHERE position = 4;
             UPDATE rows SET position = 4 WHERE position = 100",
            "results.csv: line 14 is another (8 of 49 records differ)",
        ),
        (
            "UPDATE runs SET settings = replace(settings, '\"job\":\"job\"', '\"job\":\"jab\"')",
            "report.json: job is \"job\", but the store says \"jab\"",
        ),
        (
            "UPDATE meta SET value = '1' WHERE key = 'repeat'",
            "the last run had 48 items, but the store has 24",
        ),
    ] {
        let copy = sound.copy();
        sql(&copy, edit);
        let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
        assert!(ran.stdout.contains(says), "{edit}\n{}", ran.stdout);
        assert!(!ran.stdout.contains("everything agrees"), "{}", ran.stdout);
    }
}

#[test]
fn a_cost_that_is_not_what_its_usage_comes_to_is_found_even_where_all_sums_are_mended() {
    let sound = Sound::new();
    let line = "the line of attempts with row 3, entry 0, repeat 1, attempt 1";
    for (change, says) in [
        ("cost_usd = '0.00002'", None),
        (
            "cost_usd = '0.5'",
            Some("cost $0.50, but its usage comes to $0.00002"),
        ),
        (
            "usage = '{\"input_tokens\":9,\"output_tokens\":5}'",
            Some("cost $0.00002, but its usage comes to $0.000019"),
        ),
        (
            "price = NULL",
            Some("cost $0.00002, but its usage comes to $0.00"),
        ),
        (
            "usage = NULL",
            Some("cost $0.00002, but its usage comes to $0.00"),
        ),
        (
            "cost = 'unpriced', cost_usd = NULL",
            Some("is unpriced, but it names a price"),
        ),
    ] {
        let copy = sound.copy();
        sql_with_the_sum(&copy, change);
        // The files say so too.
        sound.scratch.runner(&["export", "copy"]).exits(0);
        let Some(says) = says else {
            sound.scratch.runner(&["verify", "copy"]).exits(0);
            continue;
        };
        let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
        ran.says(&format!(
            "not so  every cost is what its usage comes to at its price\n          {line} {says}\n"
        ))
        .says("ok      every line is as it was written")
        .says("ok      the totals are the sums of the attempts")
        .says("1 thing does not agree\n");
    }
}

#[test]
fn an_edit_of_a_price_is_found() {
    let sound = Sound::new();
    for (edit, says) in [
        (
            "UPDATE prices SET terms = replace(terms, '\"input\":\"1.00\"', '\"input\":\"0.50\"')",
            "of `prices` is damaged or was edited",
        ),
        ("DELETE FROM prices", "is not in `prices`"),
    ] {
        let copy = sound.copy();
        sql(&copy, edit);
        let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains(says), "{edit}\n{told}");
    }
}

#[test]
fn an_edit_of_a_published_file_is_found() {
    let sound = Sound::new();
    let edits: [(Edit<'_>, &str); 8] = [
        (
            &|dir| replace(dir, "results.csv", "\nrow 3,row 3,", "\nrow 3,row 4,"),
            "results.csv: line 10 is another (1 of 49 records differ)",
        ),
        (
            &|dir| {
                replace(
                    dir,
                    "results.jsonl",
                    "\"answer\":\"row 3\"",
                    "\"answer\":\"row 9\"",
                )
            },
            "results.jsonl: line 9 is another (1 of 48 records differ)",
        ),
        (
            &|dir| replace(dir, "report.json", "\"total\": 48", "\"total\": 47"),
            "report.json: rows.total is 47, but the store says 48",
        ),
        (
            &|dir| {
                replace(
                    dir,
                    "report.md",
                    "48 results for 12 rows",
                    "48 results for 13 rows",
                )
            },
            "report.md: line 3 is another\n",
        ),
        (
            &|dir| {
                let text = fs::read_to_string(dir.join("results.csv")).unwrap();
                fs::write(dir.join("results.csv"), &text[..text.len() - 1]).unwrap();
            },
            "results.csv ends too early, in line 49",
        ),
        (
            &|dir| {
                let text = fs::read_to_string(dir.join("results.jsonl")).unwrap();
                let last = text.lines().last().unwrap();
                fs::write(dir.join("results.jsonl"), format!("{text}{last}\n")).unwrap();
            },
            "results.jsonl goes on after line 48, its last one",
        ),
        (
            &|dir| fs::remove_file(dir.join("report.md")).unwrap(),
            "report.md is not there",
        ),
        (
            &|dir| fs::write(dir.join("report.json"), "").unwrap(),
            "report.json ends too early, in line 1",
        ),
    ];
    for (edit, says) in edits {
        let copy = sound.copy();
        edit(&copy);
        let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
        assert!(ran.stdout.contains(says), "{says}\n{}", ran.stdout);
        assert!(
            ran.stdout.ends_with("1 thing does not agree\n"),
            "{}",
            ran.stdout
        );
        // And an export mends it.
        sound.scratch.runner(&["export", "copy"]).exits(0);
        sound.scratch.runner(&["verify", "copy"]).exits(0);
    }
}

#[test]
fn of_many_disagreements_the_first_ones_are_told() {
    let sound = Sound::new();
    sql(&sound.copy(), "UPDATE outcomes SET answer = 'x'");
    let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
    assert_eq!(
        ran.stdout
            .matches("\n          the line of outcomes with")
            .count(),
        20
    );
    ran.says("          and 32 more\n")
        .says("53 things do not agree\n");
}

#[test]
fn files_of_an_earlier_run_are_told_from_files_that_were_edited() {
    let scratch = Scratch::new();
    let server = Served::new(|request, seen| match request {
        0..4 => served::says(&served::prompt(seen)),
        _ => Act::Hang(Vec::new()),
    });
    scratch
        .rows(4)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    scratch.run(0);
    scratch.runner(&["verify", "out"]).exits(0);
    scratch.rows(6);
    let running = scratch.start(&["job.yaml"]);
    until("a request that hangs", || server.arrivals().len() == 6);
    running.signal("KILL");
    running.wait();
    let ran = scratch.runner(&["verify", "out"]).exits(6);
    ran.says("ok      every line is as it was written: 6 rows, 4 outcomes, 0 superseded, 6 attempts")
        .says("not so  results.csv is what the store says")
        .says("results.csv ends too early, in line 6")
        .says("report.json: rows.total is 4, but the store says 6")
        .says("published files are from an earlier run, or not all of them are from this one; `runner export out` renews them");
    scratch.runner(&["export", "out"]).exits(0);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn results_and_a_report_of_two_runs_are_told_apart_and_the_next_run_mends_them() {
    let scratch = Scratch::new();
    scratch.rows(4).job("backends: { a: { type: echo } }");
    scratch.run(0);
    let old = fs::read(scratch.path().join("out/report.json")).unwrap();
    scratch.rows(6);
    // As after a kill between the two: new results, no new report.
    fs::remove_file(scratch.path().join("out/report.json")).unwrap();
    scratch.write("out/report.json/in_the_way", "");
    scratch.runner(&["job.yaml"]).exits(6);
    fs::remove_dir_all(scratch.path().join("out/report.json")).unwrap();
    scratch.write("out/report.json", old);
    let ran = scratch.runner(&["verify", "out"]).exits(6);
    ran.says("ok      results.csv is what the store says")
        .says("not so  report.json is what the store says")
        .says("report.json: rows.total is 4, but the store says 6")
        .says("report.json: files.results.csv.sha256 is ")
        .says("not all of them are from this one; `runner export out` renews them");
    scratch.run(0);
    scratch.runner(&["verify", "out"]).exits(0);
}

#[test]
fn a_store_that_was_cut_anywhere_is_refused() {
    let sound = Sound::new();
    let whole = fs::read(sound.copy().join("run.db")).unwrap();
    let page = 4096;
    assert_eq!(whole.len() % page, 0);
    for pages in 1..whole.len() / page {
        let copy = sound.copy();
        // At the end of a page, and in the middle of the next one.
        for length in [pages * page, pages * page + page / 2] {
            fs::write(copy.join("run.db"), &whole[..length]).unwrap();
            let ran = sound.scratch.runner(&["verify", "copy"]).exits(6);
            ran.never_says("panicked").never_says("everything agrees");
        }
        let ran = sound.scratch.runner(&["export", "copy"]);
        assert!(matches!(ran.code, Some(0 | 6)), "{pages}: {}", ran.stderr);
        ran.never_says("panicked");
    }
}

#[test]
fn a_byte_that_was_flipped_never_goes_unnoticed_where_it_matters() {
    let sound = Sound::new();
    let copy = sound.copy();
    // Without the remains of lines that were written twice.
    sql(&copy, "VACUUM");
    let whole = fs::read(copy.join("run.db")).unwrap();
    let verified = |offset: usize| {
        let copy = sound.copy();
        let mut flipped = whole.clone();
        flipped[offset] ^= 0x55;
        fs::write(copy.join("run.db"), flipped).unwrap();
        let ran = sound.scratch.runner(&["verify", "copy"]);
        ran.never_says("panicked")
    };
    // Cells and answers.
    let mut texts = 0;
    for text in ["[\"row 7\"]", "answeredrow 7"] {
        let text = text.as_bytes();
        let starts = (0..whole.len() - text.len()).filter(|at| whole[*at..].starts_with(text));
        for start in starts {
            let around = String::from_utf8_lossy(&whole[start - 20..start + 40]);
            assert_eq!(verified(start + text.len() - 3).code, Some(6), "{around:?}");
            texts += 1;
        }
    }
    assert!(texts >= 5, "{texts}");
    // Elsewhere there is also room that holds nothing, and what no file depends on.
    for offset in (0..whole.len()).step_by(1531) {
        let code = verified(offset).code;
        assert!(matches!(code, Some(0 | 6)), "byte {offset}: {code:?}");
    }
}

#[test]
fn a_run_is_verified_when_it_has_ended() {
    let scratch = Scratch::new();
    let server = Served::slowly(Duration::from_millis(500), |_, _| served::says("x"));
    scratch
        .rows(1)
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let running = scratch.start(&["job.yaml"]);
    until("the first request", || !server.arrivals().is_empty());
    scratch.runner(&["verify", "out"]).exits(75);
    running.wait().exits(0);
    scratch.runner(&["verify", "out"]).exits(0);
}
