//! What a model, a server or a row may hold to harm those who look at the results, in every output.

use std::fs;
use std::path::Path;

use crate::scratch::Scratch;

/// The payloads of a file below `fixtures/payloads`: one a line, as JSON texts.
#[track_caller]
fn payloads(name: &str, at_least: usize) -> Vec<String> {
    let path = Path::new("fixtures/payloads").join(name);
    let text = fs::read_to_string(&path).expect("the payloads are there");
    let payload = |line: &str| serde_json::from_str(line).expect("a line is a JSON text");
    let payloads: Vec<String> = text.lines().map(payload).collect();
    assert!(payloads.len() >= at_least, "{}", payloads.len());
    payloads
}

/// `rows.csv` with a column `x` of these cells.
fn cells(payloads: &[String]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["n", "x"]).expect("a header");
    for (number, payload) in payloads.iter().enumerate() {
        let record = [number.to_string(), payload.clone()];
        writer.write_record(record).expect("a record");
    }
    writer.into_inner().expect("the CSV")
}

/// A job whose model answers what the row says.
fn repeated(scratch: &Scratch, payloads: &[String], more: &str) {
    scratch.write("rows.csv", cells(payloads)).write(
        "job.yaml",
        format!(
            "inputs: rows.csv\nprompt: \"[{{{{ x }}}}]\"\noutput: {{ dir: out{more} }}\n\
             backends: {{ a: {{ type: echo, reply: \"{{{{ x }}}}\" }} }}\nmax_failures: 100%\n"
        ),
    );
}

/// Whether a spreadsheet may take it for a formula, whatever it looks past.
fn may_be_a_formula(cell: &str) -> bool {
    let seen = |c: &char| {
        c.is_alphanumeric()
            || c.is_ascii_punctuation()
            || ('\u{fe50}'..='\u{ff5f}').contains(c) && *c != '\u{feff}'
    };
    cell.chars()
        .find(seen)
        .is_some_and(|first| "=+-@|%＝＋－＠｜％﹦﹢﹣﹫".contains(first))
}

#[test]
fn no_answer_is_a_formula_to_a_spreadsheet_and_no_input_is_changed() {
    let formulas = payloads("formulas.txt", 60);
    assert!(formulas.iter().all(|text| may_be_a_formula(text)));
    for (more, safe) in [
        ("", true),
        (", csv_safe: prefix", true),
        (", csv_safe: off", false),
    ] {
        let scratch = Scratch::new();
        repeated(&scratch, &formulas, more);
        let (_, published) = scratch.run(0);
        let read = |cells: Vec<&str>| cells.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(published.column("x"), formulas);
        assert_eq!(read(published.answers()), formulas, "JSONL is lossless");
        let answers = read(published.column("answer"));
        match safe {
            true => {
                assert!(!answers.iter().any(|answer| may_be_a_formula(answer)));
                let behind = |text: &String| format!("'{text}");
                assert_eq!(answers, formulas.iter().map(behind).collect::<Vec<_>>());
            }
            false => assert_eq!(answers, formulas),
        }
        scratch.runner(&["verify", "out"]).exits(0);
        let file = scratch.path().join("out/results.csv");
        let before = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        scratch.runner(&["export", "out"]).exits(0);
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn numbers_stay_numbers() {
    let numbers = [
        "-5", "+1.5", "1e3", "-1,234.5", "-0", "+2.5E-7", " -4", "-5%", "0.1",
    ];
    let numbers = numbers.map(str::to_owned);
    let scratch = Scratch::new();
    repeated(&scratch, &numbers, "");
    let (_, published) = scratch.run(0);
    assert_eq!(published.column("answer"), numbers);
}
