//! How the program reaches people: the action does what it says, and every file names the same versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[test]
fn the_oldest_rust_is_the_same_in_every_file() {
    let manifest = read("Cargo.toml");
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""));
    let version = line.expect("a rust-version").trim_end_matches('"');
    for (file, named) in [
        ("README.md", format!("({version} or newer)")),
        ("Dockerfile", format!("FROM rust:{version}-")),
        (
            ".github/workflows/ci.yml",
            format!("rustup toolchain install {version} "),
        ),
        (
            ".github/workflows/release.yml",
            format!("rustup toolchain install {version} "),
        ),
        ("docs/versions.md", format!("Rust {version}")),
    ] {
        assert!(read(file).contains(&named), "{file} lacks `{named}`");
    }
}

#[test]
fn workflows_are_yaml_and_ask_for_no_more_than_they_need() {
    for file in [".github/workflows/ci.yml", ".github/workflows/release.yml"] {
        let workflow = yaml(file);
        assert_eq!(workflow["permissions"]["contents"], "read", "{file}");
        let jobs = workflow["jobs"].as_object().expect("jobs");
        assert!(!jobs.is_empty());
        for step in jobs
            .values()
            .flat_map(|job| job["steps"].as_array().expect("steps"))
        {
            // What somebody else can choose, such as the title of a pull request, must not become part of a script.
            let script = step["run"].as_str().unwrap_or_default();
            assert!(!script.contains("${{"), "{file}: {script}");
        }
    }
}

#[test]
fn the_action_gets_a_released_program_and_runs_the_job() {
    let Some(place) = released() else { return };
    let installed = step(&place, "install", &[("VERSION", "1.2.3")]);
    assert!(installed.status.success(), "{}", text(&installed));
    let path = fs::read_to_string(place.path().join("path")).expect("GITHUB_PATH");
    assert_eq!(
        path.trim_end(),
        place.path().join("temp/runner-bin").to_str().expect("text")
    );
    let job = [
        ("JOB", "job.yaml"),
        ("ARGS", "--limit\n2\n\n--set\nname=two words\n"),
        ("DIRECTORY", "results"),
    ];
    let ran = step(&place, "run", &job);
    assert_eq!(ran.status.code(), Some(7), "{}", text(&ran));
    let told = fs::read_to_string(place.path().join("output")).expect("GITHUB_OUTPUT");
    assert_eq!(told, "exit-code=7\n");
    let report = fs::read_to_string(place.path().join("results/report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["job"], "two words");
    assert_eq!(report["rows"]["total"], 2);
    let summary = fs::read_to_string(place.path().join("summary")).expect("a step summary");
    assert!(summary.contains("two words"), "{summary}");
}

#[test]
fn the_action_refuses_a_program_that_is_not_what_was_released() {
    let Some(place) = released() else { return };
    let sum = format!("downloads/v1.2.3/runner-{TARGET}.tar.gz.sha256");
    let sum = place.path().join(sum);
    let right = fs::read_to_string(&sum).expect("a checksum");
    let wrong = right.replacen(|digit| digit != '0', "0", 1);
    fs::write(&sum, wrong).expect("a checksum");
    let installed = step(&place, "install", &[("VERSION", "v1.2.3")]);
    assert!(!installed.status.success(), "{}", text(&installed));
    assert!(!place.path().join("temp/runner-bin/runner").exists());
    assert!(!place.path().join("path").exists());
}

/// A place with this very program as a release, and a job whose gate is not met; `None` where what the action needs
/// of a runner of GitHub's is not here.
fn released() -> Option<TempDir> {
    for tool in ["bash", "curl", "shasum", "tar"] {
        let found = Command::new(tool).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let line = format!("SKIPPED the tests of the action: they need {tool}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            return None;
        }
    }
    let place = TempDir::new().expect("there is room");
    let path = |name: &str| place.path().join(name);
    let release = path("downloads/v1.2.3");
    for folder in [&path("temp"), &release] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
    let archive = format!("runner-{TARGET}.tar.gz");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(program.parent().expect("a folder"))
        .args(["--use-compress-program=gzip -1", "-cf"])
        .arg(release.join(&archive))
        .arg("runner")
        .status();
    assert!(packed.expect("tar runs").success());
    let sum = Command::new("shasum")
        .args(["-a", "256", &archive])
        .current_dir(&release)
        .output();
    let sum = sum.expect("shasum runs").stdout;
    fs::write(release.join(format!("{archive}.sha256")), sum).expect("a file");
    fs::write(path("rows.csv"), "text\none\ntwo\nthree\n").expect("a file");
    let job = "inputs: rows.csv\nprompt: \"{{ text }}\"\nbackends: { dry: { type: echo, delay: 0ms } }\n\
               gate: { answered: \"< 50%\" }\n";
    fs::write(path("job.yaml"), job).expect("a file");
    Some(place)
}

/// Runs a step of the action as GitHub would.
fn step(place: &TempDir, id: &str, env: &[(&str, &str)]) -> Output {
    let action = yaml("action.yml");
    let steps = action["runs"]["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["id"] == id).expect("a step");
    assert_eq!(step["shell"], "bash");
    let given = step["env"].as_object().expect("variables");
    for (name, _) in env {
        assert!(given.contains_key(*name), "{name} is not given to the step");
    }
    let path = |name: &str| place.path().join(name);
    // As GitHub starts it.
    Command::new("bash")
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c"])
        .arg(step["run"].as_str().expect("a script"))
        .current_dir(place.path())
        .env("RUNNER_TEMP", path("temp"))
        .env("RUNNER_OS", "Linux")
        .env("RUNNER_ARCH", "X64")
        .env("GITHUB_PATH", path("path"))
        .env("GITHUB_OUTPUT", path("output"))
        .env("GITHUB_STEP_SUMMARY", path("summary"))
        .env(
            "DOWNLOADS",
            format!("file://{}", path("downloads").display()),
        )
        .envs(env.iter().copied())
        .output()
        .expect("bash runs")
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|part| String::from_utf8_lossy(part))
        .concat()
}
