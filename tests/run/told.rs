//! What people are told, case by case: each folder of `fixtures/told` holds a job, its files, perhaps what the
//! server `SERVER` replies to everything (`reply.http`) and variables (`env`), and in `told.txt` a command with all
//! that it prints. `UPDATE_GOLDEN=1 cargo test --test run told` writes these anew; read the diff before a commit.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::loopback::{Act, Loopback};
use crate::scratch::Scratch;

const FOLDER: &str = "fixtures/told";
/// What stands for the server in a job.
const SERVER: &str = "SERVER";

#[test]
fn every_case_is_told_as_its_file_says() {
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    // A server that is not there is waited for: all at once, then.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let told: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(move || (case, told(case))))
            .collect();
        told.into_iter()
            .map(|case| case.join().expect("a case is told"))
            .filter_map(|(case, told)| {
                let golden = case.join("told.txt");
                if bless {
                    fs::write(&golden, &told).expect("the file of the case");
                }
                let expected = fs::read_to_string(&golden).expect("the file of the case");
                (told != expected).then(|| {
                    format!(
                        "{}\n--- expected\n{expected}--- told\n{told}",
                        case.display()
                    )
                })
            })
            .collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_fault_of_an_input_and_every_threat_of_a_job_has_a_case() {
    let names: Vec<String> = cases()
        .iter()
        .filter_map(|case| Some(case.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let inputs = (1..=15).map(|number| format!("I{number:02}_"));
    let threats = (1..=5).map(|number| format!("T{number:02}_"));
    for wanted in inputs.chain(threats) {
        assert!(
            names.iter().any(|name| name.starts_with(&wanted)),
            "{wanted}"
        );
    }
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("the cases");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    cases
}

/// The command of a case, what it prints, and its exit code.
fn told(case: &Path) -> String {
    let golden = fs::read_to_string(case.join("told.txt")).expect("the file of the case");
    let command = golden.lines().next().expect("a command");
    let args: Vec<&str> = command
        .strip_prefix("$ runner ")
        .expect("a command of the runner")
        .split(' ')
        .collect();
    let server = fs::read(case.join("reply.http"))
        .ok()
        .map(|reply| Loopback::always(Act::Write(reply)));
    let address = server
        .as_ref()
        .and_then(|server| server.url.strip_prefix("http://"));
    let mut scratch = Scratch::new();
    for line in read(&case.join("env")).lines() {
        let (name, value) = line.split_once('=').expect("NAME=VALUE");
        scratch = scratch.env(name, &value.replace("\\n", "\n"));
    }
    for entry in fs::read_dir(case).expect("the files of the case") {
        let path = entry.expect("a file of the case").path();
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let bytes = fs::read(&path).expect("a file of the case");
        match (name.as_str(), address) {
            ("told.txt" | "reply.http" | "env", _) => continue,
            ("job.yaml", Some(address)) => {
                let job = String::from_utf8(bytes).expect("a job");
                scratch.write(&name, job.replace(SERVER, address))
            }
            _ => scratch.write(&name, bytes),
        };
    }
    let ran = scratch.runner(&args);
    let mut text = format!("{command}\n{}{}", ran.stdout, ran.stderr);
    if let Some(address) = address {
        text = text.replace(address, SERVER);
    }
    let code = ran.code.map_or("none".to_owned(), |code| code.to_string());
    format!("{}[exit {code}]\n", steady(&text))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The text without what is another time in each run.
fn steady(text: &str) -> String {
    let time = Regex::new(r"\b\d+(\.\d+)? (ms|s)\b").expect("a pattern");
    time.replace_all(text, "N $2").into_owned()
}
