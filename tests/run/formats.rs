use std::fs::{self, File};
use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio_prompt_orchestrator::{Options, Runner};

use crate::scratch::Scratch;

/// A job over these inputs that answers with `{{ text }}`.
pub(crate) fn job(scratch: &Scratch, inputs: &str, more: &str) {
    scratch.write(
        "job.yaml",
        format!(
            "inputs: {inputs}\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n\
             backends: {{ a: {{ type: echo, delay: 0ms }} }}\n{more}\n"
        ),
    );
}

/// What each row was asked, and its id.
pub(crate) fn asked(inputs: &str, files: &[(&str, &[u8])]) -> Vec<(String, String)> {
    let scratch = Scratch::new();
    for (name, bytes) in files {
        scratch.write(name, bytes);
    }
    job(&scratch, inputs, "");
    let (_, published) = scratch.run(0);
    let ids = published.field("id").into_iter().map(str::to_owned);
    ids.zip(published.answers().into_iter().map(str::to_owned))
        .collect()
}

/// What is said about these files before anything is sent.
pub(crate) fn refused(inputs: &str, files: &[(&str, &[u8])]) -> String {
    let scratch = Scratch::new();
    for (name, bytes) in files {
        scratch.write(name, bytes);
    }
    job(&scratch, inputs, "");
    let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
    assert_eq!(ran.stdout, "");
    ran.stderr
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).expect("memory is there");
    packed.finish().expect("memory is there")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory is there")
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(id, text): &(&str, &str)| ((*id).to_owned(), (*text).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn json_lines_are_rows_and_the_keys_of_all_are_the_columns() {
    let scratch = Scratch::new();
    let lines = "\u{feff}{\"text\": \"a \\\"é\\\"\\n\", \"n\": 0.10}\n\n\
                 {\"tags\": [1.0, {\"x\" : null}], \"text\": \"b\"}\r\n  \n{}\n{\"n\":null,\"text\":true}";
    scratch.write("rows.jsonl", lines);
    job(&scratch, "rows.jsonl", "");
    let (_, published) = scratch.run(3);
    assert_eq!(published.header[..3], ["text", "n", "tags"]);
    assert_eq!(published.column("text"), ["a \"é\"\n", "b", "", "true"]);
    assert_eq!(published.column("n"), ["0.10", "", "", ""]);
    assert_eq!(published.column("tags"), ["", "[1.0,{\"x\":null}]", "", ""]);
    // An empty prompt is asked of nobody.
    assert_eq!(published.answers()[..2], ["a \"é\"\n", "b"]);
    let ids = [
        "rows.jsonl:1",
        "rows.jsonl:2",
        "rows.jsonl:3",
        "rows.jsonl:4",
    ];
    assert_eq!(published.field("id"), ids);
    assert_eq!(published.lines[1]["row"]["tags"], "[1.0,{\"x\":null}]");
}

#[test]
fn what_is_no_json_line_is_shown_with_its_place() {
    let bytes = b"{\"text\": \"fine\"}\n{\"text\": \"x\" \"n\": 1}\n3\n{\"text\": 1, \"text\": 2}\n{\"text\": \"\xff\"}\n";
    let expected = "\
error: a line is not a JSON object: expected `,` or `}`
 --> rows.jsonl:2:14
  |
2 | {\"text\": \"x\" \"n\": 1}
  |              ^
  |
  = help: JSON Lines has one whole object on each line; for example: jq -c . in.json > out.jsonl

error: a line is not a JSON object
 --> rows.jsonl:3:1
  |
3 | 3
  | ^
  |
  = help: JSON Lines has one whole object on each line; for example: jq -c . in.json > out.jsonl

error: the object has the key `text` twice
 --> rows.jsonl:4:1
  |
4 | {\"text\": 1, \"text\": 2}
  | ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: rename or remove it

error: the line is not UTF-8 text
 --> rows.jsonl:5:11
  |
5 | {\"text\": \"\u{fffd}\"}
  |           ^ byte 73 of the file
  |
  = help: save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 in.csv > out.csv

4 problems found; nothing was sent
";
    assert_eq!(refused("rows.jsonl", &[("rows.jsonl", bytes)]), expected);
    let array = refused("rows.jsonl", &[("rows.jsonl", b"[{\"text\": \"x\"}]\n")]);
    assert!(array.contains("is a JSON array"), "{array}");
    let array = b"{\"text\": 1}\n[{\"text\": \"x\"}]\n";
    let array = refused("rows.jsonl", &[("rows.jsonl", array)]);
    assert!(
        array.contains("a line is an array and no object"),
        "{array}"
    );
    assert!(array.contains("jq -c '.[]' in.json > out.jsonl"), "{array}");
}

#[test]
fn a_delimiter_is_what_the_job_or_the_name_says() {
    let tabs = b"text\tn\na,b\t1\n\"c\td\"\t2\n";
    let expected = |name: &str| {
        pairs(&[
            (&format!("{name}:1"), "a,b"),
            (&format!("{name}:2"), "c\td"),
        ])
    };
    assert_eq!(
        asked("rows.tsv", &[("rows.tsv", tabs)]),
        expected("rows.tsv")
    );
    for inputs in [
        "{ path: rows.txt, delimiter: tab }",
        "{ path: rows.txt, delimiter: \"\\t\" }",
        "{ path: rows.txt, format: tsv }",
    ] {
        assert_eq!(
            asked(inputs, &[("rows.txt", tabs)]),
            expected("rows.txt"),
            "{inputs}"
        );
    }
    let semicolons = b"text;n\na,b;1\n\"c;\"\"d\";2\n";
    let rows = asked(
        "{ path: rows.csv, delimiter: \";\" }",
        &[("rows.csv", semicolons)],
    );
    assert_eq!(
        rows,
        pairs(&[("rows.csv:1", "a,b"), ("rows.csv:2", "c;\"d")])
    );
    // The one column is one, if the job says that it is.
    let rows = asked(
        "{ path: rows.csv, delimiter: \",\" }",
        &[("rows.csv", b"text;\na;b\n")].map(|(name, _)| (name, &b"text\na;b\n"[..])),
    );
    assert_eq!(rows, pairs(&[("rows.csv:1", "a;b")]));
    for (inputs, said) in [
        (
            "{ path: rows.csv, delimiter: \";;\" }",
            "expected a text of one sign",
        ),
        (
            "{ path: rows.csv, delimiter: \"\\\"\" }",
            "expected a text of one sign",
        ),
        (
            "{ path: rows.csv, delimiter: a }",
            "expected a text of one sign",
        ),
        ("{ path: rows.csv, format: cvs }", "did you mean `csv`?"),
        (
            "{ path: rows.csv, format: jsonl, delimiter: \";\" }",
            "`delimiter` is for CSV",
        ),
    ] {
        let stderr = refused(inputs, &[("rows.csv", b"text\nx\n")]);
        assert!(stderr.contains(said), "{inputs}: {stderr}");
    }
}

#[test]
fn another_delimiter_than_a_comma_is_recognised_and_told() {
    let stderr = refused("rows.csv", &[("rows.csv", b"text;n\nx;1\n")]);
    let expected = "\
error: rows.csv separates its columns with semicolons
 --> rows.csv:1:1
  |
1 | text;n
  | ^^^^^^
  |
  = help: say so: `inputs: { path: rows.csv, delimiter: \";\" }`; if it has but one column, `delimiter: \",\"`
";
    assert!(stderr.starts_with(expected), "{stderr}");
    let stderr = refused("rows.csv", &[("rows.csv", b"text|n\nx|1\n")]);
    assert!(
        stderr.contains("with bars") && stderr.contains("delimiter: \"|\""),
        "{stderr}"
    );
}

#[test]
fn packed_files_are_unpacked_whatever_they_are_called() {
    let csv = "text,n\nrow é,1\n\"two\nlines\",2\n".as_bytes();
    let (first, second) = csv.split_at(15);
    let several = [gzip(first), gzip(second)].concat();
    let frames = [zstd(first), zstd(second)].concat();
    for (name, bytes) in [
        ("rows.csv.gz", gzip(csv)),
        ("rows.csv", gzip(csv)),
        ("rows.csv.gz", several),
        ("rows.csv.zst", zstd(csv)),
        ("rows.csv", frames),
        // Called what it is not.
        ("rows.csv.gz", csv.to_owned()),
    ] {
        let expected = [
            (format!("{name}:1"), "row é".to_owned()),
            (format!("{name}:2"), "two\nlines".to_owned()),
        ];
        assert_eq!(asked(name, &[(name, &bytes)]), expected);
    }
    let lines = gzip(b"{\"text\":\"x\"}\n");
    let rows = asked("rows.jsonl.gz", &[("rows.jsonl.gz", &lines)]);
    assert_eq!(rows, pairs(&[("rows.jsonl.gz:1", "x")]));
}

#[test]
fn what_is_wrong_in_a_packed_file_is_shown_as_in_any_other() {
    let csv = format!("text,n\n{}short\n", "a,b\n".repeat(50_000));
    for packed in [gzip(csv.as_bytes()), zstd(csv.as_bytes())] {
        let stderr = refused("rows.csv", &[("rows.csv", &packed)]);
        assert!(stderr.contains("--> rows.csv:50002:1\n"), "{stderr}");
        assert!(stderr.contains("| short\n"), "{stderr}");
    }
}

#[test]
fn a_packed_file_that_is_cut_or_damaged_is_no_shorter_file() {
    let csv = b"text\n"
        .iter()
        .chain(&b"some row\n".repeat(3000))
        .copied()
        .collect::<Vec<u8>>();
    let (gz, zst) = (gzip(&csv), zstd(&csv));
    for (packed, by) in [(&gz, "gzip"), (&zst, "zstd")] {
        for keep in [12, packed.len() / 2, packed.len() - 9, packed.len() - 1] {
            let stderr = refused("rows.csv", &[("rows.csv", &packed[..keep])]);
            let said = format!("cannot read input rows.csv: what {by} packed is cut or damaged");
            assert!(stderr.contains(&said), "{by} {keep}: {stderr}");
        }
    }
    let mut damaged = gz.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    let stderr = refused("rows.csv", &[("rows.csv", &damaged)]);
    assert!(
        stderr.contains("what gzip packed is cut or damaged"),
        "{stderr}"
    );
    let twice = refused("rows.csv", &[("rows.csv", &gzip(&gz))]);
    assert!(twice.contains("is compressed twice"), "{twice}");
}

#[test]
fn a_zstd_file_cannot_ask_for_any_amount_of_memory() {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packed.window_log(28).unwrap();
    packed.write_all(b"text\nx\n").unwrap();
    let stderr = refused("rows.csv", &[("rows.csv", &packed.finish().unwrap())]);
    assert!(
        stderr.contains("what zstd packed is cut or damaged"),
        "{stderr}"
    );
}

#[test]
fn unsound_records_are_left_out_or_mended_where_the_job_says_so_and_that_is_told() {
    let csv = b"text,n\na,1\nshort\n\"b\xff\",2\nc,3,4\nd,5\n";
    let scratch = Scratch::new();
    scratch.write("rows.csv", csv);
    let run = |options: &str| {
        job(&scratch, &format!("{{ path: rows.csv, {options} }}"), "");
        let (ran, published) = scratch.run_fresh(0);
        let ids: Vec<String> = published
            .field("id")
            .into_iter()
            .map(str::to_owned)
            .collect();
        let answers: Vec<String> = published.answers().into_iter().map(str::to_owned).collect();
        (ran.stderr, ids, answers)
    };
    let (stderr, ids, answers) = run("on_ragged: skip, on_bad_encoding: skip");
    // A row is called by its place in the file, whatever is left out.
    assert_eq!(ids, ["rows.csv:1", "rows.csv:5"]);
    assert_eq!(answers, ["a", "d"]);
    for said in [
        "note: rows.csv: 2 records left out: too few or too many cells (`on_ragged`)",
        "note: rows.csv: 1 record left out: not UTF-8 text (`on_bad_encoding`)",
    ] {
        assert!(stderr.contains(said), "{stderr}");
    }
    let (stderr, ids, answers) = run("on_ragged: skip, on_bad_encoding: replace");
    assert_eq!(ids, ["rows.csv:1", "rows.csv:3", "rows.csv:5"]);
    assert_eq!(answers, ["a", "b\u{fffd}", "d"]);
    assert!(
        stderr.contains("1 record changed: \u{fffd} stands for what is not UTF-8"),
        "{stderr}"
    );
    let (_, ids, _) = run("on_ragged: skip, on_bad_encoding: skip, limit: 2");
    assert_eq!(
        ids,
        ["rows.csv:1", "rows.csv:5"],
        "a limit is of rows that are used"
    );
    // Each of the two leaves the other as it is.
    for (options, said) in [
        ("on_ragged: skip", "is not UTF-8 text"),
        ("on_bad_encoding: skip", "a record has only 1 of 2 cells"),
    ] {
        let inputs = format!("{{ path: rows.csv, {options} }}");
        let stderr = refused(&inputs, &[("rows.csv", csv)]);
        assert!(stderr.contains(said), "{stderr}");
    }
    let lines = b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n{\"text\": \"b\"}\n";
    let files: &[(&str, &[u8])] = &[("rows.jsonl", lines)];
    let rows = asked("{ path: rows.jsonl, on_bad_encoding: skip }", files);
    assert_eq!(rows, pairs(&[("rows.jsonl:1", "a"), ("rows.jsonl:3", "b")]));
    let rows = asked("{ path: rows.jsonl, on_bad_encoding: replace }", files);
    assert_eq!(rows[1].1, "\u{fffd}");
}

#[test]
fn files_of_one_input_have_the_same_columns_in_any_order() {
    let files: &[(&str, &[u8])] = &[
        ("a.csv", b"text,n\na,1\n"),
        ("b.tsv", b"n\ttext\n2\tb\n"),
        ("c.jsonl", b"{\"n\": 3, \"text\": \"c\"}\n"),
    ];
    let rows = asked("[a.csv, b.tsv, c.jsonl]", files);
    assert_eq!(
        rows,
        pairs(&[("a.csv:1", "a"), ("b.tsv:1", "b"), ("c.jsonl:1", "c")])
    );
    let stderr = refused("[a.csv, d.csv]", &[files[0], ("d.csv", b"txet,n\na,1\n")]);
    assert!(
        stderr.contains("input d.csv has other columns than the inputs before it"),
        "{stderr}"
    );
    assert!(
        stderr.contains("did you mean `text` by `txet`?; it lacks text; it also has txet"),
        "{stderr}"
    );
}

#[test]
fn rows_may_come_from_standard_input_and_go_to_standard_output() {
    let scratch = Scratch::new();
    job(&scratch, "{ path: \"-\", format: jsonl }", "");
    let lines = b"{\"text\": \"a,b\"}\n{\"text\": \"c\"}\n";
    let ran = scratch
        .runner_reading(&["job.yaml", "--stdout", "csv"], lines)
        .exits(0);
    let csv = fs::read_to_string(scratch.path().join("out/results.csv")).unwrap();
    assert_eq!(ran.stdout, csv);
    assert!(csv.contains("\n\"a,b\",\"a,b\",answered,"), "{csv}");
    assert!(
        ran.stderr.contains("job: 2 of 2 rows answered"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        scratch.published("out", 0).field("id"),
        ["stdin:1", "stdin:2"]
    );
    // The same rows are known again.
    let more = [&lines[..], b"{\"text\": \"d\"}\n"].concat();
    let ran = scratch
        .runner_reading(&["job.yaml", "--stdout", "jsonl"], &gzip(&more))
        .exits(0);
    assert_eq!(
        ran.stdout,
        fs::read_to_string(scratch.path().join("out/results.jsonl")).unwrap()
    );
    assert!(
        ran.stderr.contains("unchanged 2 | changed 0 | new 1 "),
        "{}",
        ran.stderr
    );
    let ran = scratch
        .runner(&["export", "out", "--stdout", "csv"])
        .exits(0);
    assert_eq!(ran.stdout.lines().count(), 4);
    assert!(
        ran.stderr.contains("wrote out/results.csv"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_file_of_the_job_may_give_way_to_standard_input() {
    let scratch = Scratch::new();
    scratch.rows(2);
    job(&scratch, "rows.csv", "");
    let args = ["job.yaml", "--set", "inputs=-", "--stdout", "jsonl"];
    let ran = scratch.runner_reading(&args, b"text\npiped\n").exits(0);
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(ran.stdout.contains("\"id\":\"stdin:1\""), "{}", ran.stdout);
    let ran = scratch
        .runner_reading(&["check", "job.yaml", "--set", "inputs=-"], b"")
        .exits(0);
    assert_eq!(ran.stderr, "note: 0 rows: stdin is empty\n");
    for bare in ["-", "{ path: - }"] {
        job(&scratch, bare, "");
        let ran = scratch.runner(&["check", "job.yaml"]).exits(2);
        ran.says("where standard input is meant, put it in quotes");
    }
    job(&scratch, "[\"-\", { path: \"-\" }]", "");
    let ran = scratch
        .runner_reading(&["check", "job.yaml"], b"text\nx\n")
        .exits(2);
    ran.says("standard input is named twice");
}

#[test]
fn results_that_are_not_written_cannot_be_printed() {
    let scratch = Scratch::new();
    scratch.rows(1);
    job(&scratch, "rows.csv", "");
    let args = [
        "job.yaml",
        "--set",
        "output.formats=[jsonl]",
        "--stdout",
        "csv",
    ];
    let ran = scratch.runner(&args).exits(2);
    ran.says("error: --stdout csv needs results.csv, which is not written");
    assert!(!scratch.path().join("out").exists());
    scratch.runner(&args[..3]).exits(0);
    scratch
        .runner(&["export", "out", "--stdout", "csv"])
        .exits(2);
    let args = ["export", "out", "--formats", "csv", "--stdout", "csv"];
    let ran = scratch.runner(&args).exits(0);
    assert!(ran.stdout.starts_with("text,answer,"), "{}", ran.stdout);
    let ran = scratch
        .runner(&["job.yaml", "--stdout", "parquet"])
        .exits(2);
    ran.says("possible values: csv, jsonl");
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_disk_is() {
    let scratch = Scratch::new();
    scratch.rows(20_000);
    job(&scratch, "rows.csv", "durability: process");
    let mut running = scratch.start_piped(&["job.yaml", "--stdout", "csv"]);
    let mut start = [0; 5];
    running.stdout().read_exact(&mut start).unwrap();
    assert_eq!(&start, b"text,");
    // It is dropped here: a closed pipe.
    running.wait().exits(0);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = scratch
        .start_printing(&["job.yaml", "--stdout", "csv"], full.into())
        .wait();
    ran.exits(1)
        .says("cannot write the results to stdout")
        .says("they are in out/results.csv");
}

#[test]
fn an_input_without_rows_is_told_and_no_error() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "text\n")
        .write("more.csv", "text\n");
    job(&scratch, "[rows.csv, more.csv]", "");
    for args in [
        &["check", "job.yaml"][..],
        &["job.yaml"],
        &["plan", "job.yaml"],
    ] {
        let ran = scratch.runner(args).exits(0);
        let said = "note: 0 rows: rows.csv, more.csv have a header and no rows\n";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let ran = scratch.runner(&["job.yaml", "--quiet"]).exits(0);
    assert_eq!((ran.stdout, ran.stderr), (String::new(), String::new()));
}

#[test]
fn damaged_inputs_of_any_form_are_problems_and_nothing_worse() {
    let scratch = Scratch::new();
    let csv = b"text,n\n\"a \"\"b\"\"\",1\nc\xc3\xa9,2\r\n\"two\nlines\",3\n";
    let lines =
        b"{\"text\":\"a\",\"n\":[1,{\"x\":null}]}\n{\"text\":\"\\ud83d\\ude00\",\"n\":0.1}\n";
    let mut forms: Vec<(&str, Vec<u8>)> = vec![
        ("rows.csv", csv.to_vec()),
        ("rows.tsv", b"text\tn\na\t1\n\"b\tc\"\t2\n".to_vec()),
        ("rows.jsonl", lines.to_vec()),
        ("rows.csv.gz", gzip(csv)),
        ("rows.jsonl.zst", zstd(lines)),
    ];
    forms.extend(parquet_file().map(|bytes| ("rows.parquet", bytes)));
    for (name, sound) in &forms {
        job(&scratch, name, "");
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..40 {
            let mut bytes = sound.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                match random.u8(0..4) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes[at] ^= 1 << random.u8(0..8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, *random.choice(b"\"\n\r,\0{[\xff").unwrap()),
                }
            }
            scratch.write(name, &bytes);
            // It is sound after all, or it is told what is not; a panic would end the test.
            match Runner::load(scratch.path().join("job.yaml"), &Options::default()) {
                Ok(runner) => assert!(runner.rows() < 30),
                Err(problems) => assert!(!problems.0.is_empty()),
            }
        }
    }
}

#[cfg(not(feature = "parquet"))]
fn parquet_file() -> Option<Vec<u8>> {
    None
}

/// A small results file, which is a Parquet file like any other.
#[cfg(feature = "parquet")]
fn parquet_file() -> Option<Vec<u8>> {
    let scratch = Scratch::new();
    scratch.rows(20);
    job(&scratch, "rows.csv", "");
    scratch
        .runner(&["job.yaml", "--set", "output.formats=[parquet]"])
        .exits(0);
    Some(fs::read(scratch.path().join("out/results.parquet")).expect("the run wrote it"))
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_runner_without_parquet_says_so() {
    let stderr = refused("rows.parquet", &[("rows.parquet", b"PAR1")]);
    assert!(stderr.contains("--features parquet"), "{stderr}");
    let stderr = refused(
        "rows.csv\noutput: { formats: [parquet] }",
        &[("rows.csv", b"text\nx\n")],
    );
    assert!(stderr.contains("--features parquet"), "{stderr}");
}

#[cfg(feature = "parquet")]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
pub(crate) mod with_parquet {
    use std::path::Path;
    use std::sync::Arc;

    use parquet::data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type,
    };
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
    use parquet::record::Field;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Writes the cells of a column.
    pub(crate) type Fill<'a> = &'a dyn Fn(&mut SerializedColumnWriter<'_>);

    /// A file of so many equal groups of rows, its columns filled in turn.
    pub(crate) fn written(schema: &str, groups: usize, fill: &[Fill<'_>]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::default());
        let mut file = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
        for _ in 0..groups {
            let mut group = file.next_row_group().unwrap();
            for fill in fill {
                let mut column = group.next_column().unwrap().unwrap();
                fill(&mut column);
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        file.into_inner().unwrap()
    }

    pub(crate) fn texts(column: &mut SerializedColumnWriter<'_>, texts: &[Option<&[u8]>]) {
        let values: Vec<ByteArray> = texts
            .iter()
            .flatten()
            .map(|text| text.to_vec().into())
            .collect();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let column = column.typed::<ByteArrayType>();
        column.write_batch(&values, Some(&levels), None).unwrap();
    }

    #[test]
    fn parquet_columns_are_text_as_a_person_would_write_it() {
        let schema = "message rows {
            optional byte_array text (utf8);
            required int32 day (date);
            required int64 at (timestamp(micros, true));
            required int64 price (decimal(10, 2));
            required boolean good;
            required double share;
            required int32 small (integer(8, false));
        }";
        let bytes = written(
            schema,
            3,
            &[
                &|column| texts(column, &[Some("a é".as_bytes()), None]),
                &|column| {
                    column
                        .typed::<Int32Type>()
                        .write_batch(&[0, 19_782], None, None)
                        .unwrap();
                },
                &|column| {
                    let values = [0, 1_700_000_000_000_001];
                    column
                        .typed::<Int64Type>()
                        .write_batch(&values, None, None)
                        .unwrap();
                },
                &|column| {
                    column
                        .typed::<Int64Type>()
                        .write_batch(&[5, -12_345], None, None)
                        .unwrap();
                },
                &|column| {
                    column
                        .typed::<BoolType>()
                        .write_batch(&[true, false], None, None)
                        .unwrap();
                },
                &|column| {
                    column
                        .typed::<DoubleType>()
                        .write_batch(&[0.1, 1e300], None, None)
                        .unwrap();
                },
                &|column| {
                    column
                        .typed::<Int32Type>()
                        .write_batch(&[255, 0], None, None)
                        .unwrap();
                },
            ],
        );
        let scratch = Scratch::new();
        scratch.write("rows.parquet", bytes);
        job(&scratch, "rows.parquet", "max_failures: 3");
        let (_, published) = scratch.run(0);
        assert_eq!(
            published.header[..7],
            ["text", "day", "at", "price", "good", "share", "small"]
        );
        assert_eq!(published.csv.len(), 6);
        let row = |at: usize| published.csv[at][..7].to_vec();
        let first = [
            "a é",
            "1970-01-01",
            "1970-01-01T00:00:00Z",
            "0.05",
            "true",
            "0.1",
            "255",
        ];
        let second = [
            "",
            "2024-02-29",
            "2023-11-14T22:13:20.000001Z",
            "-123.45",
            "false",
            "1e300",
            "0",
        ];
        assert_eq!(
            (row(0), row(1)),
            (
                first.map(str::to_owned).to_vec(),
                second.map(str::to_owned).to_vec()
            )
        );
        assert_eq!((row(4), row(5)), (row(0), row(1)));
        assert_eq!(published.field("id")[5], "rows.parquet:6");
    }

    #[test]
    fn a_parquet_file_that_has_no_text_for_a_cell_is_told_where() {
        let schema = "message rows { optional byte_array text; }";
        let fill: Fill<'_> = &|column| texts(column, &[Some(b"fine"), Some(b"\xff")]);
        let bytes = written(schema, 1, &[fill]);
        let files: &[(&str, &[u8])] = &[("rows.parquet", &bytes)];
        let stderr = refused("rows.parquet", files);
        assert!(
            stderr.contains("rows.parquet, record 2: the cell `text` is not UTF-8 text"),
            "{stderr}"
        );
        let rows = asked("{ path: rows.parquet, on_bad_encoding: replace }", files);
        assert_eq!(
            rows,
            pairs(&[("rows.parquet:1", "fine"), ("rows.parquet:2", "\u{fffd}")])
        );
        let schema = "message rows { required group who { optional byte_array text; } }";
        let bytes = written(schema, 1, &[fill]);
        let stderr = refused("rows.parquet", &[("rows.parquet", &bytes)]);
        assert!(
            stderr.contains("column `who` of rows.parquet is nested"),
            "{stderr}"
        );
        let stderr = refused("rows.parquet", &[("rows.parquet", b"text\nx\n")]);
        assert!(
            stderr.contains("input rows.parquet is not a Parquet file"),
            "{stderr}"
        );
        let stderr = refused(
            "{ path: rows.parquet, id: text }",
            &[(
                "rows.parquet",
                &written(
                    "message rows { optional byte_array text; }",
                    2,
                    &[&|column| texts(column, &[Some(b"same")])],
                ),
            )],
        );
        assert!(
            stderr.contains("the id `same` occurs twice, again in rows.parquet, record 2"),
            "{stderr}"
        );
        assert!(
            stderr.contains("it names the row at rows.parquet, record 1 too"),
            "{stderr}"
        );
    }

    fn fields(path: &Path) -> (Vec<String>, Vec<Vec<Field>>) {
        let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let schema = file.metadata().file_metadata().schema_descr();
        let names = schema
            .columns()
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        let rows = file.get_row_iter(None).unwrap();
        let rows = rows.map(|row| {
            let row = row.unwrap();
            row.get_column_iter()
                .map(|(_, field)| field.clone())
                .collect()
        });
        (names, rows.collect())
    }

    #[test]
    fn results_parquet_says_with_types_what_results_csv_says() {
        let scratch = Scratch::new();
        // More rows than are written at once.
        let rows: String = (1..=10_003)
            .map(|row| format!("row {row},{}\n", row % 2))
            .collect();
        scratch.write("rows.csv", format!("text,label\n{rows}"));
        scratch.write(
            "job.yaml",
            "inputs: rows.csv\nprompt: \"{{ text }}\"\ndurability: process\nmax_failures: 100%\n\
             output: { dir: out, formats: [csv, jsonl, parquet] }\nscore: { equals: \"{{ label }}\" }\n\
             retry: { attempts: 1 }\nconcurrency: 512\n\
             backends: { a: { type: echo, delay: 0ms, price: { input: 1, output: 3 }, \
             reply: \"{{ label }}\", failures: { server: 10% }, seed: 3 } }\n",
        );
        let (_, published) = scratch.run(0);
        let (names, rows) = fields(&scratch.path().join("out/results.parquet"));
        assert_eq!(names, published.header);
        assert_eq!(rows.len(), 10_003);
        let mut nulls = 0;
        for (row, csv) in rows.iter().zip(&published.csv) {
            for ((name, field), cell) in names.iter().zip(row).zip(csv) {
                let text = match field {
                    Field::Null => {
                        nulls += 1;
                        String::new()
                    }
                    Field::Str(text) => text.clone(),
                    Field::Long(number) => number.to_string(),
                    Field::Double(number) => number.to_string(),
                    Field::Decimal(_) => {
                        let exact = field.to_string();
                        let cents = exact.trim_end_matches('0');
                        let places = cents.split_once('.').map_or(0, |(_, part)| part.len());
                        exact[..exact.len() - 15 + places.max(2)].to_owned()
                    }
                    other => panic!("{name}: {other:?}"),
                };
                assert_eq!(&text, cell, "{name}");
            }
        }
        assert!(nulls > 1000, "rows that failed have no answer");
        let is = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert!(matches!(rows[0][is("run_attempts")], Field::Long(1)));
        assert!(matches!(rows[0][is("run_score")], Field::Double(_)));
        assert!(matches!(rows[0][is("run_cost_usd")], Field::Decimal(_)));
        // It is written again byte for byte, listed, and audited.
        let path = scratch.path().join("out/results.parquet");
        let before = fs::read(&path).unwrap();
        assert!(published.report["files"]["results.parquet"]["sha256"].is_string());
        scratch.runner(&["export", "out"]).exits(0);
        assert!(fs::read(&path).unwrap() == before);
        scratch
            .runner(&["verify", "out"])
            .exits(0)
            .says("results.parquet is what the store says");
        let mut edited = before.clone();
        let middle = edited.len() / 2;
        edited[middle] ^= 1;
        fs::write(&path, edited).unwrap();
        let ran = scratch.runner(&["verify", "out"]).exits(6);
        ran.says(&format!("results.parquet: byte {} is another", middle + 1));
        // What was written can be read: the answers of one job are the rows of another.
        fs::write(&path, before).unwrap();
        scratch.write(
            "next.yaml",
            "inputs: { path: out/results.parquet, limit: 3 }\nprompt: \"{{ run_cost_usd }}\"\n\
             output: { dir: next, prefix: next_ }\nbackends: { a: { type: echo, delay: 0ms } }\n",
        );
        scratch.runner(&["next.yaml"]).exits(0);
        let next = fs::read_to_string(scratch.path().join("next/results.csv")).unwrap();
        assert!(next.contains("row 1,1,"), "{next}");
    }
}
