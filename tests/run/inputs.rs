use std::fs;

use crate::scratch::Scratch;
use crate::served::Served;

const ECHO: &str = "backends: { a: { type: echo, delay: 0ms } }";

/// What `runner job.yaml` says about these files before it sends anything.
fn refused(inputs: &str, files: &[(&str, &[u8])]) -> String {
    let scratch = Scratch::new();
    let server = Served::echo();
    for (name, bytes) in files {
        scratch.write(name, bytes);
    }
    scratch.write(
        "job.yaml",
        format!(
            "inputs: {inputs}\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n\
             backends: {{ {} }}\n",
            server.backend("a", "")
        ),
    );
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    assert_eq!(ran.stdout, "");
    assert_eq!(server.requests(), 0);
    assert!(!scratch.path().join("out").exists());
    ran.stderr
}

/// What it says about `rows.csv` with these bytes.
fn refused_rows(bytes: &[u8]) -> String {
    refused("rows.csv", &[("rows.csv", bytes)])
}

#[test]
fn a_mistyped_key_is_found_with_its_place_and_a_suggestion() {
    let scratch = Scratch::new();
    scratch.rows(1).write(
        "job.yaml",
        "inputs: rows.csv\nprompt: \"{{ text }}\"\nbackends: { a: { type: echo } }\nfalback: [a]\n",
    );
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    let expected = "\
error: unknown key `falback`
 --> job.yaml:4:1
  |
4 | falback: [a]
  | ^^^^^^^
  |
  = help: did you mean `fallback`?

1 problem found; nothing was sent
";
    assert_eq!(ran.stderr, expected);
    assert!(!scratch.path().join("runs").exists());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    scratch.write("rows.csv", "text,text\n1,2\n").write(
        "job.yaml",
        "inputs: rows.csv\nprompt: \"{{ text }}\"\nretry: { attempts: 0 }\n\
         backends: { a: { type: openai, model: m }, b: { type: ehco } }\n",
    );
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    ran.says("the header names `text` twice")
        .says("`attempts`")
        .says("OPENAI_API_KEY is not set")
        .says("did you mean `echo`?")
        .says("4 problems found; nothing was sent");
}

#[test]
fn a_missing_column_is_found_with_its_place_in_the_template() {
    let stderr = refused_rows(b"txet\nx\n");
    let expected = "\
error: there is no column `text`
 --> job.yaml:2:13
  |
2 | prompt: \"{{ text }}\"
  |             ^^^^
  |
  = help: did you mean `txet`?

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
}

#[test]
fn a_missing_key_variable_is_found_before_anything_is_sent() {
    let scratch = Scratch::new().without_env("OPENAI_API_KEY");
    scratch
        .rows(1)
        .job("backends:\n  a: { type: openai, model: m }");
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    let expected = "\
error: the environment variable OPENAI_API_KEY is not set
 --> job.yaml:5:3
  |
5 |   a: { type: openai, model: m }
  |   ^
  |
  = help: set it before the run: export OPENAI_API_KEY=...

1 problem found; nothing was sent
";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn a_cell_that_is_not_utf8_is_shown_with_its_row_column_and_byte() {
    let stderr = refused_rows(b"n,text\n1,fine\n2,\"two\nlines \xff\"\n");
    let expected = "\
error: the cell `text` is not UTF-8 text
 --> rows.csv:4:7
  |
4 | lines \u{fffd}\"
  |       ^ byte 27 of the file
  |
  = help: save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 in.csv > out.csv

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
}

#[test]
fn a_ragged_record_is_shown_with_its_line() {
    let stderr = refused_rows(b"text,n\n\"two\nlines\",1\nshort\na,b,c\n");
    let expected = "\
error: a record has only 1 of 2 cells
 --> rows.csv:4:1
  |
4 | short
  | ^^^^^
  |
  = help: a cell that holds a comma, a quote or a line break must be quoted

error: a record has 3 of 2 cells
 --> rows.csv:5:1
  |
5 | a,b,c
  | ^^^^^
  |
  = help: a cell that holds a comma, a quote or a line break must be quoted

2 problems found; nothing was sent
";
    assert_eq!(stderr, expected);
}

#[test]
fn a_quote_that_is_never_closed_does_not_swallow_the_rest_of_the_file() {
    let stderr = refused_rows(b"n,text\n1,fine\n2,\"never closed\n3,lost\n4,lost\n");
    let expected = "\
error: a quote is opened and never closed
 --> rows.csv:3:1
  |
3 | 2,\"never closed
  | ^^^^^^^^^^^^^^^
  |
  = help: a quote inside a quoted cell must be doubled

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
    // Quotes that are all right.
    for (cell, text) in [
        ("\"closed\"", "closed"),
        ("\"two\nlines\"", "two\nlines"),
        ("\"a \"\"b\"\"\"", "a \"b\""),
        ("5\" disk", "5\" disk"),
        ("\"\"\"\"", "\""),
    ] {
        for end in ["", "\n", "\r\n", "\n\n"] {
            let scratch = Scratch::new();
            scratch
                .write("rows.csv", format!("text\n{cell}{end}"))
                .job(ECHO);
            let (_, published) = scratch.run(0);
            assert_eq!(published.answers(), [text], "{cell:?} {end:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_input_and_nobody_waits_for_it() {
    let scratch = Scratch::new();
    let made = std::process::Command::new("mkfifo")
        .arg(scratch.path().join("rows.csv"))
        .status();
    assert!(made.expect("mkfifo can be run").success());
    scratch.job(ECHO);
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    ran.says("error: input rows.csv is not a regular file");
}

#[test]
fn of_very_many_bad_records_ten_are_shown_and_the_rest_is_counted() {
    let stderr = refused_rows(format!("text\n{}", "a,b\n".repeat(1000)).as_bytes());
    assert_eq!(stderr.matches("a record has 2 of 1 cells").count(), 10);
    assert!(
        stderr.contains("error: 990 more records of rows.csv are not sound"),
        "{stderr}"
    );
}

#[test]
fn a_header_must_name_every_column_once() {
    let stderr = refused_rows(b"text,n,text\n1,2,3\n");
    let expected = "\
error: the header names `text` twice
 --> rows.csv:1:1
  |
1 | text,n,text
  | ^^^^^^^^^^^
  |
  = help: it stands in columns 1 and 3; rename one of them

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
    let stderr = refused_rows(b"text,,n\n1,2,3\n");
    let expected = "\
error: column 2 of rows.csv has no name
 --> rows.csv:1:1
  |
1 | text,,n
  | ^^^^^^^
  |
  = help: name it in the first line, or take the column out

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
    let stderr = refused_rows(b"text, \t,n\n1,2,3\n");
    assert!(
        stderr.contains("error: column 2 of rows.csv has no name"),
        "{stderr}"
    );
}

#[test]
fn a_file_that_is_no_csv_text_is_called_what_it_is() {
    for (bytes, what, help) in [
        (
            &b"\xff\xfet\0e\0x\0t\0"[..],
            "is UTF-16 (little-endian) text",
            "iconv -f UTF-16 -t UTF-8 in.csv > out.csv",
        ),
        (
            b"\xfe\xff\0t\0e\0x\0t",
            "is UTF-16 (big-endian) text",
            "iconv -f UTF-16 -t UTF-8 in.csv > out.csv",
        ),
        (
            b"t\0e\0x\0t\0\n\0a\0\n\0",
            "is UTF-16 (little-endian) text",
            "iconv -f UTF-16LE -t UTF-8 in.csv > out.csv",
        ),
        (
            b"\0t\0e\0x\0t\0\n\0a\0\n",
            "is UTF-16 (big-endian) text",
            "iconv -f UTF-16BE -t UTF-8 in.csv > out.csv",
        ),
        (
            b"PK\x03\x04\0\0",
            "is a zip archive (or a spreadsheet)",
            "save the spreadsheet as CSV in UTF-8",
        ),
        (b"PAR1\0\0", "is a Parquet file", "say `format: parquet`"),
    ] {
        let stderr = refused_rows(bytes);
        assert!(
            stderr.starts_with(&format!("error: input rows.csv {what}\n")),
            "{stderr}"
        );
        assert!(stderr.contains(help), "{stderr}");
    }
}

#[test]
fn an_empty_file_is_a_run_of_nothing_whatever_the_job_asks() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", "").job(
        "backends: { a: { type: echo, reply: \"{{ text }}\" }, b: { type: echo } }\n\
         matrix: [a, b]\n\
         answer: { labels: [x, y] }\n\
         score: { equals: \"{{ label }}\" }\n\
         dedupe: true",
    );
    let ran = scratch.runner(&["job.yaml"]).exits(0);
    ran.says("note: 0 rows: rows.csv is empty\n");
    let report = fs::read_to_string(scratch.path().join("out/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["rows"]["total"], 0);
    scratch.runner(&["check", "job.yaml"]).exits(0);
    scratch.runner(&["plan", "job.yaml"]).exits(0);
    scratch.runner(&["explain", "job.yaml"]).exits(0);
    for args in [
        &["job.yaml", "--require-rows"][..],
        &["check", "job.yaml", "--require-rows"],
    ] {
        let ran = scratch.runner(args).exits(2);
        ran.says("error: the inputs have no rows")
            .says("help: 0 rows: rows.csv is empty");
    }
    // Beside a file with rows it is no more than a note.
    scratch.write("more.csv", "text,label\nx,x\n");
    let args = ["check", "job.yaml", "--set", "inputs=[rows.csv, more.csv]"];
    let ran = scratch.runner(&args).exits(0);
    ran.says("note: rows.csv is empty\n")
        .says("no problems; 1 row for");
}

#[test]
fn a_header_without_rows_is_a_run_of_nothing() {
    let scratch = Scratch::new();
    for header in ["text\n", "text", "text\r\n", "\u{feff}text\n"] {
        scratch.write("rows.csv", header).job(ECHO);
        let (ran, published) = scratch.run(0);
        assert_eq!(published.lines.len(), 0);
        assert_eq!(published.report["cost"]["total_usd"], "0.00");
        ran.says("job: 0 of 0 rows answered")
            .says("there are no rows to ask");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_column() {
    let scratch = Scratch::new();
    scratch.write("rows.csv", "\u{feff}text,n\nx,1\n").job(ECHO);
    let (_, published) = scratch.run(0);
    assert_eq!(published.header[0], "text");
    assert_eq!(published.answers(), ["x"]);
}

#[test]
fn line_ends_of_every_kind_end_a_record_and_the_last_may_lack_one() {
    for csv in [
        "text,n\nx,1\ny,2\n",
        "text,n\r\nx,1\r\ny,2\r\n",
        "text,n\nx,1\r\n\ny,2",
    ] {
        let scratch = Scratch::new();
        scratch.write("rows.csv", csv).job(ECHO);
        let (_, published) = scratch.run(0);
        assert_eq!(published.answers(), ["x", "y"], "{csv:?}");
        assert_eq!(published.column("n"), ["1", "2"], "{csv:?}");
    }
}

#[test]
fn a_missing_file_is_named_with_the_one_that_was_meant() {
    let stderr = refused("row.csv", &[("rows.csv", b"text\nx\n")]);
    let expected = "\
error: input row.csv does not exist
 --> job.yaml:1:9
  |
1 | inputs: row.csv
  |         ^^^^^^^
  |
  = help: did you mean `rows.csv`?

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
    let stderr = refused("nowhere/rows.csv", &[]);
    assert!(stderr.contains("looked for nowhere/rows.csv"), "{stderr}");
}

#[test]
fn a_directory_or_a_pattern_without_files_is_no_input() {
    let stderr = refused("data", &[("data/rows.csv", b"text\nx\n")]);
    assert!(
        stderr.starts_with("error: input data is a directory\n"),
        "{stderr}"
    );
    assert!(
        stderr.contains("help: name the files in it: `data/*.csv`"),
        "{stderr}"
    );
    let stderr = refused("\"data/*.csv\"", &[]);
    assert!(
        stderr.starts_with("error: no file matches input data/*.csv\n"),
        "{stderr}"
    );
}

#[test]
fn a_job_file_that_is_not_there_is_a_problem() {
    let scratch = Scratch::new();
    let ran = scratch.runner(&["nowhere.yaml"]).exits(2);
    ran.says("error: cannot read nowhere.yaml: ");
}

#[test]
fn a_pattern_reads_its_files_in_the_order_of_their_names_and_matches_their_columns() {
    let scratch = Scratch::new();
    scratch
        .write("data/b.csv", "text,n\nb1,1\n")
        .write("data/a.csv", "n,text\n2,a1\n3,a2\n")
        .write("data/c.txt", "not an input")
        .write(
            "job.yaml",
            format!("inputs: \"data/*.csv\"\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n{ECHO}\n"),
        );
    let (_, published) = scratch.run(0);
    assert_eq!(published.header[..2], ["n", "text"]);
    assert_eq!(published.column("text"), ["a1", "a2", "b1"]);
    assert_eq!(published.column("n"), ["2", "3", "1"]);
    assert_eq!(
        published.field("id"),
        ["data/a.csv:1", "data/a.csv:2", "data/b.csv:1"]
    );
}

#[test]
fn inputs_with_other_columns_are_refused() {
    let stderr = refused(
        "[a.csv, b.csv]",
        &[("a.csv", b"text,n\nx,1\n"), ("b.csv", b"text,m\nx,1\n")],
    );
    let expected = "\
error: input b.csv has other columns than the inputs before it
 |
 = help: it lacks n; it also has m

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
}

#[test]
fn a_limit_takes_the_first_rows_of_each_input() {
    let scratch = Scratch::new();
    scratch
        .write("a.csv", "text\na1\na2\na3\n")
        .write("b.csv", "text\nb1\nb2\n")
        .write(
            "job.yaml",
            format!(
                "inputs: [{{ path: a.csv, limit: 2 }}, b.csv]\nprompt: \"{{{{ text }}}}\"\n\
                 output: {{ dir: out }}\n{ECHO}\n"
            ),
        );
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["a1", "a2", "b1", "b2"]);
    // The option counts over all inputs.
    scratch.runner(&["job.yaml", "--limit", "3"]).exits(0);
    assert_eq!(scratch.published("out", 0).answers(), ["a1", "a2", "b1"]);
    // Nothing is no run: it would replace the results of one.
    scratch.runner(&["job.yaml", "--limit", "0"]).exits(2);
    assert_eq!(scratch.published("out", 0).lines.len(), 3);
    scratch.runner(&["job.yaml", "--limit", "99"]).exits(0);
    assert_eq!(scratch.published("out", 0).lines.len(), 4);
}

#[test]
fn a_sample_is_the_same_for_the_same_seed_and_another_for_another() {
    let scratch = Scratch::new();
    scratch.rows(200).write(
        "job.yaml",
        format!(
            "inputs: {{ path: rows.csv, sample: {{ rows: 20, seed: 7 }} }}\n\
             prompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n{ECHO}\n"
        ),
    );
    let sample = |seed: &str| -> Vec<String> {
        let set = format!("inputs.sample.seed={seed}");
        scratch.runner(&["job.yaml", "--set", &set]).exits(0);
        let published = scratch.published("out", 0);
        published.answers().into_iter().map(str::to_owned).collect()
    };
    let (one, again, other) = (sample("7"), sample("7"), sample("8"));
    assert_eq!(one.len(), 20);
    assert_eq!(one, again);
    assert_ne!(one, other);
    // The rows keep the order of the input.
    let number = |row: &String| -> u32 { row.trim_start_matches("row ").parse().unwrap() };
    assert!(one.iter().map(number).is_sorted());
}

#[test]
fn an_id_column_names_the_rows() {
    let scratch = Scratch::new();
    scratch
        .write("rows.csv", "key,text\nß-1,x\n../2,y\n")
        .write(
            "job.yaml",
            format!(
                "inputs: {{ path: rows.csv, id: key }}\nprompt: \"{{{{ text }}}}\"\n\
             output: {{ dir: out }}\n{ECHO}\n"
            ),
        );
    let (_, published) = scratch.run(0);
    assert_eq!(published.field("id"), ["ß-1", "../2"]);
}

#[test]
fn an_id_that_occurs_twice_is_shown_with_both_places() {
    let stderr = refused(
        "{ path: rows.csv, id: key }",
        &[("rows.csv", b"key,text\nA,1\nB,2\nA,3\n")],
    );
    let expected = "\
error: the id `A` occurs twice
 --> rows.csv:4:1
  |
4 | A,3
  | ^^^ again here
  |
  = help: it names the row at rows.csv:2 too; an id must be unique over the job

1 problem found; nothing was sent
";
    assert_eq!(stderr, expected);
    let stderr = refused(
        "[{ path: a.csv, id: key }, { path: b.csv, id: key }]",
        &[
            ("a.csv", b"key,text\nA,1\n"),
            ("b.csv", b"key,text\nB,1\nA,2\n"),
        ],
    );
    assert!(stderr.contains(" --> b.csv:3:1\n"), "{stderr}");
    assert!(
        stderr.contains("it names the row at a.csv:2 too"),
        "{stderr}"
    );
}

#[test]
fn an_id_column_must_exist_and_be_filled() {
    let rows: (&str, &[u8]) = ("rows.csv", b"key,text\nA,1\n,2\n");
    let stderr = refused("{ path: rows.csv, id: kye }", &[rows]);
    assert!(
        stderr.contains("error: the input has no column `kye`\n"),
        "{stderr}"
    );
    assert!(
        stderr.contains("help: its columns are key, text"),
        "{stderr}"
    );
    let stderr = refused("{ path: rows.csv, id: key }", &[rows]);
    assert!(
        stderr.contains("error: a record has no id\n --> rows.csv:3:1\n"),
        "{stderr}"
    );
}

#[test]
fn the_results_of_one_run_can_be_the_input_of_another_but_not_be_written_over() {
    let scratch = Scratch::new();
    scratch.rows(2).job(ECHO);
    scratch.run(0);
    let before = fs::read(scratch.path().join("out/results.csv")).unwrap();
    scratch.write(
        "job.yaml",
        format!(
            "inputs: out/results.csv\nprompt: \"{{{{ text }}}}\"\n\
             output: {{ dir: ./out, prefix: again_ }}\n{ECHO}\n"
        ),
    );
    let ran = scratch.runner(&["job.yaml"]).exits(2);
    let expected = "\
error: the run would write over its input out/results.csv
 |
 = help: write to another directory: `output: { dir: ... }` or `--out`

1 problem found; nothing was sent
";
    assert_eq!(ran.stderr, expected);
    assert_eq!(
        fs::read(scratch.path().join("out/results.csv")).unwrap(),
        before
    );
    scratch
        .runner(&["job.yaml", "--out", "out/again"])
        .exits(0)
        .says("2 of 2 rows answered");
}

#[cfg(unix)]
#[test]
fn an_input_that_is_a_link_to_an_output_is_not_written_over_either() {
    let scratch = Scratch::new();
    scratch.rows(2).job(ECHO);
    scratch.run(0);
    let results = scratch.path().join("out/results.csv");
    let before = fs::read(&results).unwrap();
    std::os::unix::fs::symlink("out/results.csv", scratch.path().join("link.csv")).unwrap();
    std::os::unix::fs::symlink("out", scratch.path().join("folder")).unwrap();
    for input in ["link.csv", "folder/results.csv"] {
        let set = format!("inputs={input}");
        let ran = scratch
            .runner(&["job.yaml", "--set", &set, "--set", "output.prefix=again_"])
            .exits(2);
        ran.says(&format!("the run would write over its input {input}"));
        assert_eq!(fs::read(&results).unwrap(), before);
    }
}

/// Outputs are put in their place whole, so what stood there is unlinked and not written into.
#[cfg(unix)]
#[test]
fn an_output_that_is_a_link_to_an_input_is_replaced_and_the_input_is_kept() {
    for name in [
        "results.csv",
        "results.jsonl",
        "report.json",
        "report.md",
        "report.html",
    ] {
        for symbolic in [false, true] {
            let scratch = Scratch::new();
            scratch.rows(2).write("out/notes.txt", "").job(ECHO);
            let input = scratch.path().join("rows.csv");
            let output = scratch.path().join("out").join(name);
            let before = fs::read(&input).unwrap();
            match symbolic {
                true => std::os::unix::fs::symlink("../rows.csv", &output).unwrap(),
                false => fs::hard_link(&input, &output).unwrap(),
            }
            // They are somebody's results: only who says so writes over them.
            scratch.runner(&["job.yaml"]).exits(2);
            let (_, published) = scratch.run_fresh(0);
            assert_eq!(published.answers(), ["row 1", "row 2"]);
            assert_eq!(fs::read(&input).unwrap(), before, "{name}");
            assert!(!fs::symlink_metadata(&output).unwrap().is_symlink());
            assert_ne!(fs::read(&output).unwrap(), before, "{name}");
        }
    }
}

#[test]
fn equal_rows_are_each_asked() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch
        .write("rows.csv", "text\nsame\nsame\nsame\n")
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(0);
    assert_eq!(published.answers(), ["same"; 3]);
    assert_eq!(server.requests(), 3);
}

#[test]
fn an_option_overrides_the_job_and_a_wrong_one_is_shown_as_it_was_written() {
    let scratch = Scratch::new();
    scratch.rows(2).job(ECHO);
    let reply = "backends.a.reply=got {{ text }}";
    scratch
        .runner(&["job.yaml", "--set", reply, "--out", "else/where"])
        .exits(0);
    assert_eq!(
        scratch.published("else/where", 0).answers(),
        ["got row 1", "got row 2"]
    );
    assert!(!scratch.path().join("out").exists());
    let ran = scratch
        .runner(&["job.yaml", "--set", "concurency=4"])
        .exits(2);
    let expected = "\
error: unknown key `concurency`
 --> --set:1:1
  |
1 | concurency=4
  | ^^^^^^^^^^
  |
  = help: did you mean `concurrency`?

1 problem found; nothing was sent
";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn an_empty_prompt_fails_its_row_before_it_is_sent() {
    let scratch = Scratch::new();
    let server = Served::echo();
    scratch
        .write("rows.csv", "text\n\"\"\n\" \"\nx\n")
        .job(&format!("backends: {{ {} }}", server.backend("a", "")));
    let (_, published) = scratch.run(3);
    assert_eq!(published.statuses(), ["failed", "failed", "answered"]);
    assert_eq!(
        published.lines[0]["error"]["message"],
        "the rendered prompt is empty"
    );
    assert_eq!(server.requests(), 1);
}

#[test]
fn inputs_are_found_from_the_job_and_results_from_the_working_directory() {
    let scratch = Scratch::new();
    scratch.write("data/rows.csv", "text\nx\n").write(
        "jobs/mine.yaml",
        format!("inputs: ../data/rows.csv\nprompt: \"{{{{ text }}}}\"\n{ECHO}\n"),
    );
    scratch.runner(&["jobs/mine.yaml"]).exits(0);
    assert_eq!(
        scratch.published("runs/mine", 0).field("id"),
        ["../data/rows.csv:1"]
    );
    let top = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(top, 3);
}

#[test]
fn a_pattern_is_found_whatever_the_folder_of_the_job_is_called() {
    let scratch = Scratch::new();
    scratch
        .write("x[old]*/a.csv", "text\na\n")
        .write("x[old]*/b.csv", "text\nb\n")
        .write(
            "x[old]*/job.yaml",
            format!(
                "inputs: \"*.csv\"\nprompt: \"{{{{ text }}}}\"\noutput: {{ dir: out }}\n{ECHO}\n"
            ),
        );
    scratch.runner(&["x[old]*/job.yaml"]).exits(0);
    assert_eq!(scratch.published("out", 0).answers(), ["a", "b"]);
}
