//! docs/faults.md: what it lists is what the tests require.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::moments::required;
use crate::proxy::{Harm, When};
use crate::table::{Row, TABLE};

const PAGE: &str = "docs/faults.md";
/// The lines around what is written from the tests.
const BEGIN: &str =
    "<!-- from tests/faults, by UPDATE_GOLDEN=1 cargo test --test faults page -->\n";
const END: &str = "<!-- end -->\n";

/// `UPDATE_GOLDEN=1 cargo test --test faults page` writes the tables anew; read the diff before a commit.
#[test]
fn the_page_says_what_the_tests_require() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).expect(PAGE);
    let mut parts = page.split(BEGIN);
    let mut written = parts.next().expect("a start").to_owned();
    for table in [faults(), moments()] {
        let part = parts.next().expect("two tables");
        let (_, after) = part.split_once(END).expect("an end");
        written.push_str(&format!("{BEGIN}\n{table}\n{END}{after}"));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &written).expect(PAGE);
    }
    let page = fs::read_to_string(&path).expect(PAGE);
    assert!(
        page == written,
        "{PAGE} is not what the tests require: write it anew with UPDATE_GOLDEN=1"
    );
}

/// Every fault of the table is one that a test asks for.
#[test]
fn every_fault_has_its_test() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults");
    let mut tests = String::new();
    for file in fs::read_dir(dir).expect("the tests").flatten() {
        tests.push_str(&fs::read_to_string(file.path()).expect("a test"));
    }
    for (number, row) in (1..).zip(&TABLE) {
        assert_eq!(row.id, format!("N{number}"));
        let test = format!("fn n{number}_");
        let uses = format!("\"{}\"", row.id);
        assert!(tests.contains(&test), "no test is named {test}");
        // Once in the table, and where it is asked for what is required.
        assert!(
            tests.matches(&uses).count() >= 2,
            "no test goes by {}",
            row.id
        );
    }
}

fn faults() -> String {
    let mut table = "| | what goes wrong | what the tests do | ends as | when | protocols | what the runner does |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in &TABLE {
        let Row {
            id,
            fault,
            injected,
            within,
            over,
            then,
            seconds,
            ..
        } = row;
        table.push_str(&format!(
            "| {id} | {fault} | {injected} | {} | {within}; the test's run: {seconds} s | {over} | {then} |\n",
            classes(row.ends)
        ));
    }
    table
}

fn moments() -> String {
    const DRIP: Harm = Harm::Drip(Duration::ZERO);
    let harms = [
        (Harm::Cut, "closed"),
        (Harm::Reset, "reset"),
        (Harm::Stall, "silent"),
        (DRIP, "dripping"),
        (Harm::Garbage, "noise"),
        (Harm::Giant, "endless"),
        (Harm::Twice, "twice"),
    ];
    let mut table = "| after |".to_owned();
    harms
        .iter()
        .for_each(|(_, name)| table.push_str(&format!(" {name} |")));
    table.push_str(&format!("\n|---|{}\n", "---|".repeat(harms.len())));
    for when in When::ALL {
        table.push_str(&format!("| {} |", moment(when)));
        for (harm, _) in harms {
            table.push_str(&format!(" {} |", classes(required(when, harm))));
        }
        table.push('\n');
    }
    table
}

fn classes(classes: &[&str]) -> String {
    let shown = classes.iter().map(|class| match *class {
        "ok" => "an answer".to_owned(),
        class => format!("`{class}`"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn moment(when: When) -> &'static str {
    match when {
        When::Accepted => "the connection",
        When::RequestHead => "the head of the request",
        When::RequestHalf => "half of its body",
        When::Request => "the whole request",
        When::Answered => "the server's answer, of which nothing was passed on",
        When::ReplyHeadHalf => "half of the reply's head",
        When::ReplyHead => "its head",
        When::ReplyHalf => "half of its body",
        When::LastByte => "all but its last byte",
        When::Replied => "the whole reply",
    }
}
