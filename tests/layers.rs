//! The architecture as a test: imports point down only, siblings do not meet, and what belongs to one
//! file stays in it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. Modules of one floor are siblings.
const FLOORS: &[&[&str]] = &[
    &["words"],
    &["template", "answer"],
    &["job"],
    &["input", "worker", "store", "output"],
    &["dispatch", "score"],
    &["engine"],
    &["cli", "parts"],
];

/// A crate that only these files may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("reqwest", &["src/worker/http.rs"]),
    ("serde_yaml", &["src/job/yaml.rs"]),
    ("rusqlite", &["src/store/sqlite/", "src/store/tests.rs"]),
    ("governor", &["src/dispatch/limiter/pacer.rs"]),
    ("minijinja", &["src/template.rs"]),
    ("flate2", &["src/input/origin.rs"]),
    ("zstd", &["src/input/origin.rs"]),
    (
        "parquet",
        &["src/input/parquet_file.rs", "src/output/parquet_file.rs"],
    ),
    ("tiktoken_rs", &["src/engine/forecast/tokenizer.rs"]),
    ("clap", &["src/cli/args.rs", "src/cli/mod.rs"]),
    ("clap_complete", &["src/cli/args.rs", "src/cli/shell.rs"]),
    ("clap_mangen", &["src/cli/shell.rs"]),
    ("indicatif", &["src/cli/progress.rs"]),
    ("opentelemetry", &["src/cli/telemetry/"]),
    ("opentelemetry_otlp", &["src/cli/telemetry/"]),
    ("opentelemetry_sdk", &["src/cli/telemetry/"]),
    ("std::process::exit", &[]),
];

#[test]
fn imports_point_down_and_siblings_do_not_meet() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let Some(floor) = module(&path).and_then(floor_of) else {
            continue;
        };
        let own = module(&path);
        for (number, line) in code.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                assert!(
                    !used.starts_with('{'),
                    "{}: write one `use` a module, this test reads no groups",
                    path.display()
                );
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let down = floor_of(&name).is_none_or(|other| other < floor);
                if !down && own != Some(name.as_str()) {
                    wrong.push(format!(
                        "{}:{}: {}",
                        path.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that do not point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_module_has_its_floor() {
    let unknown: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("lib.rs") && !path.ends_with("main.rs"))
        .filter(|(path, _)| module(path).and_then(floor_of).is_none())
        .map(|(path, _)| path)
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_technology_is_named_in_its_own_file_alone() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, owners) in OWNERS {
            let uses = code.lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                code.contains(&format!("{name}::"))
                    || code.contains(&format!("{name}("))
                    || code.contains(&format!("use {name};"))
            });
            if uses && !owners.iter().any(|owner| path.starts_with(owner)) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small_and_folders_say_what_they_promise() {
    for (path, code) in sources() {
        assert!(
            code.lines().count() <= 600,
            "{} is longer than 600 lines",
            path.display()
        );
        assert!(
            code.starts_with("//!"),
            "{} does not say what it is for",
            path.display()
        );
        if path.ends_with("mod.rs") && path.iter().count() == 3 {
            let essay = code
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .count();
            assert!(
                essay >= 3,
                "{} does not say what the folder promises",
                path.display()
            );
        }
    }
}

/// Every source file, relative to the project, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let path = path
                    .strip_prefix(root)
                    .expect("the path starts with the root");
                found.push((path.to_owned(), text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> Option<&str> {
    let first = path.iter().nth(1)?.to_str()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}
