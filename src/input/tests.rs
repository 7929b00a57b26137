//! What rows are known by, wherever they stand, and what tells that a file is another.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::job::Take;
use crate::words::Digest;

/// CSV files in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            std::fs::write(dir.path(name), text).unwrap();
        }
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An entry that uses every row.
    fn entry(&self, name: &str) -> InputPlan {
        InputPlan {
            written: name.to_owned(),
            ..InputPlan::of(self.path(name))
        }
    }

    /// An entry whose rows are named by a column.
    fn with_ids(&self, name: &str, column: &str) -> InputPlan {
        InputPlan {
            id: Some((column.to_owned(), None)),
            ..self.entry(name)
        }
    }

    fn take(&self, name: &str, take: Take) -> InputPlan {
        InputPlan {
            take,
            ..self.entry(name)
        }
    }
}

fn scan(plans: &[InputPlan]) -> Inputs {
    let mut problems = Vec::new();
    let (inputs, _) = Inputs::scan(plans, &mut problems);
    assert_eq!(problems, []);
    inputs.unwrap()
}

fn keys(inputs: &Inputs) -> Vec<Digest> {
    inputs.rows().map(|row| row.unwrap().key).collect()
}

/// The keys of the only file that has this text.
fn keys_of(text: &str) -> Vec<Digest> {
    let files = Files::new(&[("rows.csv", text)]);
    keys(&scan(&[files.entry("rows.csv")]))
}

fn sorted(mut keys: Vec<Digest>) -> Vec<Digest> {
    keys.sort_unstable();
    keys
}

/// The key of the row with these cells, in the order of their columns' names, before which so many have the same.
fn key(cells: &[&str], occurrence: u64) -> Digest {
    Row::key_of_content(Digest::of(cells), occurrence)
}

#[test]
fn equal_rows_are_told_apart_by_how_many_came_before() {
    let keys = keys_of("text\na\nb\na\nc\na\nb\n");
    let expected = [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("a", 2), ("b", 1)];
    assert_eq!(keys, expected.map(|(cell, before)| key(&[cell], before)));
}

#[test]
fn cells_are_compared_and_not_how_they_are_written() {
    let keys = keys_of("n,text\r\n1,a\r\n\"1\",\"a\"\n\n1, a\n");
    let expected = [(["1", "a"], 0), (["1", "a"], 1), (["1", " a"], 0)];
    assert_eq!(keys, expected.map(|(cells, before)| key(&cells, before)));
}

#[test]
fn equal_rows_are_counted_over_all_files_and_entries() {
    let files = Files::new(&[
        ("a1.csv", "text\na\nb\n"),
        ("a2.csv", "text\nb\n"),
        ("c.csv", "text\na\nb\n"),
    ]);
    let keys = keys(&scan(&[files.entry("a*.csv"), files.entry("c.csv")]));
    let expected = [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("b", 2)];
    assert_eq!(keys, expected.map(|(cell, before)| key(&[cell], before)));
}

#[test]
fn a_file_that_is_named_twice_has_each_row_twice() {
    let files = Files::new(&[("a.csv", "text\na\nb\n")]);
    let keys = keys(&scan(&[files.entry("a.csv"), files.entry("a.csv")]));
    let expected = [("a", 0), ("b", 0), ("a", 1), ("b", 1)];
    assert_eq!(keys, expected.map(|(cell, before)| key(&[cell], before)));
}

#[test]
fn a_row_with_a_declared_id_is_not_counted_among_those_without() {
    let files = Files::new(&[
        ("a.csv", "id,text\n1,a\n"),
        ("b.csv", "id,text\n1,a\n2,b\n"),
        ("c.csv", "id,text\n1,a\n2,b\n"),
    ]);
    let keys = keys(&scan(&[
        files.entry("a.csv"),
        files.with_ids("b.csv", "id"),
        files.entry("c.csv"),
    ]));
    assert_eq!(
        keys,
        [
            key(&["1", "a"], 0),
            Row::key_of_id("1"),
            Row::key_of_id("2"),
            key(&["1", "a"], 1),
            key(&["2", "b"], 0),
        ]
    );
}

#[test]
fn a_row_keeps_its_key_in_another_place_of_another_file() {
    let before = keys_of("text\na\nb\nb\nc\n");
    let files = Files::new(&[("x.csv", "text\nc\nb\n"), ("y.csv", "text\nb\na\n")]);
    let after = keys(&scan(&[files.entry("y.csv"), files.entry("x.csv")]));
    assert_ne!(before, after);
    assert_eq!(sorted(before), sorted(after));
}

#[test]
fn the_order_of_the_columns_is_no_part_of_a_key() {
    let files = ("n,text\n1,a\n2,b\n", "text,n\na,1\nc,3\n");
    let keys = |first: &str, second: &str| {
        let files = Files::new(&[("1.csv", first), ("2.csv", second)]);
        sorted(keys(&scan(&[files.entry("*.csv")])))
    };
    // The columns of the first file are those of the job.
    assert_eq!(keys(files.0, files.1), keys(files.1, files.0));
    // A cell still belongs to its column.
    assert_ne!(keys_of("a,b\n1,2\n"), keys_of("a,b\n2,1\n"));
    assert_eq!(keys_of("a,b\n1,2\n"), keys_of("b,a\n2,1\n"));
}

#[test]
fn rows_are_counted_anew_each_time_they_are_read() {
    let files = Files::new(&[("rows.csv", "text\na\na\n")]);
    let inputs = scan(&[files.entry("rows.csv")]);
    assert_eq!(keys(&inputs), keys(&inputs));
    assert_eq!(keys(&inputs), [key(&["a"], 0), key(&["a"], 1)]);
    assert_eq!(inputs.first().unwrap().key, key(&["a"], 0));
}

#[test]
fn of_a_limit_only_the_rows_that_are_used_are_counted_and_read() {
    let files = Files::new(&[
        ("a.csv", "text\na\nb\na\nnot,sound\n"),
        ("b.csv", "text\na\n"),
    ]);
    let inputs = scan(&[
        files.take("a.csv", Take::First(2)),
        files.take("a.csv", Take::First(1)),
        files.entry("b.csv"),
    ]);
    let expected = [("a", 0), ("b", 0), ("a", 1), ("a", 2)];
    let expected = expected.map(|(cell, before)| key(&[cell], before));
    assert_eq!(keys(&inputs), expected);
}

#[test]
fn fewer_rows_of_a_job_have_the_keys_they_have_in_the_whole() {
    let files = Files::new(&[("rows.csv", "text\na\nb\na\na\n")]);
    let mut inputs = scan(&[files.entry("rows.csv")]);
    let all = keys(&inputs);
    inputs.truncate(3);
    assert_eq!(keys(&inputs), all[..3]);
}

#[test]
fn rows_that_a_sample_leaves_out_are_not_counted() {
    let text = format!("text\n{}", "a\nb\n".repeat(50));
    let files = Files::new(&[("rows.csv", &text)]);
    for seed in 0..20 {
        let sample = Take::Sample { rows: 10, seed };
        let inputs = scan(&[files.take("rows.csv", sample)]);
        let (mut a, mut b) = (0, 0);
        for row in inputs.rows() {
            let row = row.unwrap();
            let before = match row.cells[0].as_str() {
                "a" => &mut a,
                _ => &mut b,
            };
            assert_eq!(row.key, key(&[&row.cells[0]], *before));
            *before += 1;
        }
        assert_eq!(a + b, 10);
    }
}

#[test]
fn the_same_rows_in_any_order_and_any_files_have_the_same_keys() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let kinds = random.u32(1..40);
        let mut rows: Vec<String> = (0..random.usize(0..60))
            .map(|_| format!("t{},{}", random.u32(0..kinds), random.u32(0..3)))
            .collect();
        let mut seen = Vec::new();
        for _ in 0..3 {
            random.shuffle(&mut rows);
            let (one, two) = rows.split_at(random.usize(0..=rows.len()));
            let csv = |rows: &[String]| format!("text,n\n{}\n", rows.join("\n"));
            let files = Files::new(&[("1.csv", &csv(one)), ("2.csv", &csv(two))]);
            let keys = keys(&scan(&[files.entry("1.csv"), files.entry("2.csv")]));
            assert_eq!(keys.len(), rows.len(), "seed {seed}");
            seen.push(sorted(keys));
        }
        assert!(seen.iter().all(|keys| *keys == seen[0]), "seed {seed}");
        seen[0].dedup();
        assert_eq!(seen[0].len(), rows.len(), "seed {seed}: no key twice");
    }
}

/// What the inputs say of a file that is now another.
#[track_caller]
fn assert_changed(inputs: &Inputs) {
    let message = "rows.csv changed while it was read; run the job again";
    assert_eq!(inputs.changed().unwrap().to_string(), message);
    let mut rows = inputs.rows();
    assert_eq!(rows.next().unwrap().unwrap_err().to_string(), message);
    assert!(rows.next().is_none());
}

#[cfg(unix)]
#[test]
fn another_file_of_the_same_name_length_and_time_is_noticed() {
    let files = Files::new(&[("rows.csv", "text\na\n"), ("other.csv", "text\nb\n")]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["rows.csv", "other.csv"] {
        let file = File::options().write(true).open(files.path(name));
        file.unwrap().set_modified(time).unwrap();
    }
    let inputs = scan(&[files.entry("rows.csv")]);
    assert!(inputs.changed().is_none());
    std::fs::rename(files.path("other.csv"), files.path("rows.csv")).unwrap();
    assert_changed(&inputs);
}

#[test]
fn a_file_that_is_written_again_at_once_is_noticed() {
    let files = Files::new(&[("rows.csv", "text\na\n")]);
    let file = File::options().write(true).open(files.path("rows.csv"));
    let file = file.unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    file.set_modified(time).unwrap();
    let inputs = scan(&[files.entry("rows.csv")]);
    // The least difference that every system can store.
    file.set_modified(time + Duration::from_micros(1)).unwrap();
    assert_changed(&inputs);
}

#[cfg(unix)]
#[test]
fn a_link_made_to_a_file_is_no_change_of_it() {
    let files = Files::new(&[("rows.csv", "text\na\n")]);
    let inputs = scan(&[files.entry("rows.csv")]);
    std::fs::hard_link(files.path("rows.csv"), files.path("link.csv")).unwrap();
    assert!(inputs.changed().is_none());
    assert_eq!(keys(&inputs), [key(&["a"], 0)]);
}
