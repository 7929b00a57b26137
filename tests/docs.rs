//! The documents as a test: what they list is all there is, their jobs are sound, their commands print
//! what they show.

// Helpers, shared with other test binaries.
#[path = "common/loopback.rs"]
#[allow(clippy::unwrap_used, reason = "a test's helper may panic")]
mod loopback;

#[path = "common/picture.rs"]
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loopback::{Act, Loopback, Seen, reply};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_prompt_orchestrator::job::{ENTRY_COLUMN, REPEAT_COLUMN, RESULT_COLUMNS, SCORE_COLUMN};
use tokio_prompt_orchestrator::words::{
    AttemptKind, Benefit, ErrorClass, Provider, Sampling, Status, TokenClass,
};

const README: &str = "README.md";
const PICTURE: &str = "docs/terminal.svg";
const MIGRATING: &str = "docs/migrating.md";
/// Where the classes of failure are explained.
const LIMITS: &str = "docs/limits.md";
const REFERENCE: &str = "docs/reference.md";
const STORE: &str = "docs/store.md";
/// Programs of others that the documents start.
const OTHERS: [&str; 9] = [
    "cargo",
    "curl",
    "docker",
    "git",
    "jq",
    "llama-server",
    "pip",
    "python3",
    "vllm",
];
/// Variables that would change what a job does.
const SERVERS: [&str; 4] = [
    "OPENAI_BASE_URL",
    "ANTHROPIC_BASE_URL",
    "LLAMA_CPP_URL",
    "VLLM_URL",
];

#[test]
fn every_key_of_the_job_file_has_its_line_in_the_reference() {
    let reference = read(REFERENCE);
    let keys = keys();
    assert!(keys.len() > 50, "the keys were not found: {keys:?}");
    for key in &keys {
        let needed = keys.iter().filter(|other| *other == key).count();
        let line = format!("| `{key}` |");
        let found = reference
            .lines()
            .filter(|text| text.starts_with(&line))
            .count();
        assert!(
            found >= needed,
            "{REFERENCE} has {found} of {needed} lines that start with {line}"
        );
    }
}

#[test]
fn every_word_of_the_results_is_in_the_reference() {
    let reference = read(REFERENCE);
    let words = RESULT_COLUMNS
        .into_iter()
        .chain([SCORE_COLUMN, ENTRY_COLUMN, REPEAT_COLUMN])
        .chain(Status::ALL.map(Status::as_str))
        .chain(AttemptKind::ALL.map(AttemptKind::as_str))
        .chain(ErrorClass::ALL.map(ErrorClass::as_str))
        .chain(TokenClass::ALL.map(TokenClass::as_str))
        .chain(Benefit::ALL.map(Benefit::as_str));
    let missing: Vec<_> = words
        .filter(|word| !reference.contains(&format!("`{word}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let classes = read(LIMITS);
    for class in ErrorClass::ALL.map(ErrorClass::as_str) {
        assert!(classes.contains(&format!("| `{class}` |")), "{class}");
    }
}

#[test]
fn every_field_of_the_report_is_in_the_reference() {
    let place = place();
    assert!(
        runner(place.path(), &["jobs/eval.yaml"]).status.success(),
        "the job runs"
    );
    let report = fs::read_to_string(place.path().join("runs/eval/report.json"));
    let report: Value = serde_json::from_str(&report.expect("a report")).expect("it is JSON");
    let reference = read(REFERENCE);
    let (_, fields) = reference
        .split_once("\n## report.json\n")
        .expect("its part");
    for (field, value) in report.as_object().expect("an object") {
        let line = fields
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{field}`")))
            .unwrap_or_else(|| panic!("{REFERENCE} lacks {field}"));
        // By backend or by token class: these are described elsewhere.
        if !["limits", "tokens", "files"].contains(&field.as_str()) {
            for inner in value.as_object().into_iter().flat_map(|inner| inner.keys()) {
                assert!(
                    line.contains(&format!("`{inner}`")),
                    "{field}.{inner}: {line}"
                );
            }
        }
    }
}

#[test]
fn every_field_of_a_plan_is_in_the_reference() {
    let place = place();
    let printed = runner(place.path(), &["plan", "jobs/eval.yaml", "--json"]).stdout;
    let plan: Value = serde_json::from_slice(&printed).expect("it is JSON");
    let reference = read(REFERENCE);
    let (_, part) = reference.split_once("\n## Plan\n").expect("its part");
    let (part, _) = part.split_once("\n## ").expect("it ends");
    let mut fields = Vec::new();
    for inner in [
        &plan,
        &plan["rows"],
        &plan["cost"],
        &plan["time"],
        &plan["by_backend"]["fast"],
    ] {
        fields.extend(inner.as_object().expect("an object").keys().cloned());
    }
    assert!(fields.len() > 30, "{fields:?}");
    for field in fields {
        assert!(
            part.contains(&format!("`{field}`")),
            "{REFERENCE} lacks {field}"
        );
    }
}

#[test]
fn the_defaults_of_the_servers_are_those_of_the_program() {
    let reference = read(REFERENCE);
    for (name, provider) in [
        ("openai", Provider::OpenAi),
        ("anthropic", Provider::Anthropic),
        ("llama_cpp", Provider::LlamaCpp),
        ("vllm", Provider::Vllm),
    ] {
        let sampling = Sampling::defaults(provider, "");
        let temperature = sampling.temperature.expect("it has a default");
        let cells = format!("| {} | {temperature:?} |", sampling.max_tokens);
        let found = reference
            .lines()
            .any(|line| line.starts_with(&format!("| {name} |")) && line.contains(&cells));
        assert!(found, "{name}: {cells}");
    }
}

#[test]
fn every_exit_code_of_the_help_is_in_the_documents() {
    let help = text(&runner(Path::new("."), &["--help"]));
    let (_, table) = help.split_once("Exit codes:").expect("the help lists them");
    let (table, _) = table.split_once("\n\n").expect("the list ends");
    let codes: Vec<&str> = table
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .collect();
    assert!(codes.len() >= 9, "{codes:?}");
    for document in [README, REFERENCE] {
        let document_text = read(document);
        for code in &codes {
            let line = format!("\n| {code} |");
            assert!(
                document_text.contains(&line),
                "{document} lacks exit code {code}"
            );
        }
    }
}

#[test]
fn the_readme_shows_the_two_commands() {
    let readme = read(README);
    for command in ["cargo run --release -- jobs/eval.yaml", "cargo test"] {
        let shown = readme
            .lines()
            .any(|line| line.split('#').next().map(str::trim) == Some(command));
        assert!(shown, "{command}");
    }
}

#[test]
fn every_complete_job_of_the_documents_is_sound() {
    let place = place();
    let schema = tokio_prompt_orchestrator::job::schema();
    let mut jobs = 0;
    for document in documents() {
        for block in blocks(&read(&document), "yaml") {
            let Some(name) = job_name(&block) else {
                continue;
            };
            jobs += 1;
            fs::write(place.path().join(name), &block).expect("the job can be written");
            let checked = runner(place.path(), &["check", name]);
            assert!(
                checked.status.success(),
                "{document}: {name}: {}",
                text(&checked)
            );
            if let Err(error) = jsonschema::validate(&schema, &as_json(&block)) {
                panic!("{document}: {name}: {error} at {}", error.instance_path());
            }
        }
    }
    assert!(jobs >= 2, "the jobs were not found");
}

#[test]
fn every_example_job_is_sound() {
    let place = place();
    let mut jobs = 0;
    for job in folder("jobs") {
        if !job.ends_with(".yaml") {
            continue;
        }
        jobs += 1;
        let checked = runner(place.path(), &["check", &job]);
        assert!(checked.status.success(), "{job}: {}", text(&checked));
    }
    assert!(jobs >= 7, "the jobs were not found");
}

#[test]
fn every_command_with_what_it_prints_prints_that() {
    let mut commands = 0;
    for document in documents() {
        // Its commands are queries of a database.
        if document == STORE {
            continue;
        }
        let place = place();
        for block in blocks(&read(&document), "console") {
            for (command, shown) in commands_of(&block) {
                let arguments = command.strip_prefix("runner ").expect("it is ours");
                let arguments: Vec<&str> = arguments.split_whitespace().collect();
                let ran = runner(place.path(), &arguments);
                let printed = text(&ran);
                commands += 1;
                let lines: Vec<_> = printed.lines().map(without_times).collect();
                let expected: Vec<_> = shown.lines().map(without_times).collect();
                assert_eq!(lines, expected, "{document}: {command}\n{printed}");
                let code = shown
                    .lines()
                    .find_map(|line| line.strip_prefix("exit ")?.split(':').next()?.parse().ok());
                assert_eq!(ran.status.code(), Some(code.unwrap_or(0)), "{command}");
            }
        }
    }
    assert!(commands >= 10, "the commands were not found: {commands}");
}

/// Blocks of shell are run as they stand, each document in a place of its own, against a server that answers
/// everything; programs of others do nothing there.
#[test]
fn every_other_command_of_the_documents_runs() {
    let server = Loopback::new(anything);
    let mut commands = 0;
    for document in documents() {
        let place = place();
        for block in blocks(&read(&document), "yaml") {
            if let Some(name) = job_name(&block) {
                // A job that names a server itself means one that is not here.
                let block = block.replace("http://localhost:8000", &server.url);
                fs::write(place.path().join(name), block).expect("it can be written");
            }
        }
        if document == README {
            // Its first command writes it.
            fs::remove_file(place.path().join("reviews.yaml")).expect("it was there");
        }
        let tools = tools(place.path());
        for block in blocks(&read(&document), "sh") {
            // How to get the program: what the gate itself does.
            if block.starts_with("git clone") {
                continue;
            }
            commands += block.matches("runner ").count();
            let ran = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &block])
                .current_dir(place.path())
                .env_clear()
                .env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
                .env("HOME", place.path())
                .env("OPENAI_API_KEY", "dummy")
                .env("ANTHROPIC_API_KEY", "dummy")
                .env("OPENAI_BASE_URL", format!("{}/v1", server.url))
                .env("ANTHROPIC_BASE_URL", &server.url)
                .env("LLAMA_CPP_URL", &server.url)
                .env("VLLM_URL", &server.url)
                .output()
                .expect("bash starts");
            assert!(ran.status.success(), "{document}:\n{block}\n{}", text(&ran));
        }
    }
    assert!(commands >= 10, "the commands were not found: {commands}");
}

/// A folder for the path of a shell with this program in it, and nothing in place of the programs of others.
fn tools(place: &Path) -> PathBuf {
    let folder = place.join(".tools");
    fs::create_dir(&folder).expect("it is new");
    let ours = Path::new(env!("CARGO_BIN_EXE_runner"));
    std::os::unix::fs::symlink(ours, folder.join("runner")).expect("a link");
    for name in OTHERS {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\nexit 0\n").expect("a file");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("it can be run");
    }
    folder
}

/// What a server of any kind would say: the first label of the documents.
fn anything(seen: &Seen) -> Act {
    let text = "positive";
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10 });
    let answer = match seen.line.split_whitespace().nth(1).unwrap_or_default() {
        "/v1/chat/completions" => json!({
            "id": "1", "object": "chat.completion", "model": "m", "usage": usage,
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": text },
            }],
        }),
        "/v1/messages" => json!({
            "id": "1", "type": "message", "role": "assistant", "model": "m",
            "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn",
            "usage": { "input_tokens": 9, "output_tokens": 1 },
        }),
        "/v1/models" => json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }),
        "/props" => json!({ "total_slots": 4 }),
        _ => return reply(404, &[], b"{}", 0),
    };
    reply(200, &[], answer.to_string().as_bytes(), 0)
}

/// `UPDATE_GOLDEN=1 cargo test --test docs picture` draws it anew.
#[test]
fn the_picture_of_the_terminal_shows_what_the_command_prints() {
    let place = place();
    let ran = runner(place.path(), &["jobs/evaluate.yaml"]);
    assert!(ran.status.success(), "{}", text(&ran));
    let drawn = picture::terminal("runner jobs/evaluate.yaml", &text(&ran));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join(PICTURE), &drawn).expect("it can be written");
    }
    // Times are others in each run, also those in the table of the entries.
    let steady = |svg: &str| -> Vec<String> {
        let mut in_entries = false;
        let texts = svg.lines().filter(|line| line.starts_with("<text"));
        let words = texts.map(|line| {
            let text = without_times(line.split_once('>').map_or(line, |(_, text)| text));
            let words: Vec<&str> = text.split_whitespace().collect();
            in_entries = words.first() == Some(&"entry") || (in_entries && words.len() > 1);
            let kept = if in_entries { 3 } else { words.len() };
            words[..kept].join(" ")
        });
        words.collect()
    };
    assert_eq!(steady(&read(PICTURE)), steady(&drawn));
}

#[test]
fn every_query_of_the_store_finds_what_is_shown() {
    let place = place();
    assert!(
        runner(place.path(), &["jobs/eval.yaml"]).status.success(),
        "the job runs"
    );
    let mut queries = 0;
    for block in blocks(&read(STORE), "console") {
        let (command, shown) = block.split_once('\n').expect("a command and its output");
        let (command, query) = command.split_once(" \"").expect("a quoted query");
        let database = command.split_whitespace().last().expect("a database");
        let query = query.trim_end_matches('"');
        let found = rows(&place.path().join(database), query);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let expected: Vec<Vec<String>> = shown.lines().skip(2).map(words).collect();
        assert_eq!(found, expected, "{query}");
        queries += 1;
    }
    assert_eq!(queries, 6);
}

#[test]
fn every_table_and_column_of_the_store_is_documented() {
    let place = place();
    assert!(
        runner(place.path(), &["jobs/eval.yaml"]).status.success(),
        "the job runs"
    );
    let document = read(STORE);
    let columns = rows(
        &place.path().join("runs/eval/run.db"),
        "SELECT t.name, c.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c
         WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite_%'",
    );
    assert!(columns.len() > 40, "{columns:?}");
    for column in columns {
        for name in column {
            assert!(document.contains(&format!("`{name}`")), "{STORE}: {name}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = Path::new(&document).parent().expect("it is a file");
        for link in read(&document).split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => PathBuf::from(&document),
                file => folder.join(file),
            };
            assert!(root().join(&path).exists(), "{document}: {link}");
            if !anchor.is_empty() {
                let target = fs::read_to_string(root().join(&path)).expect("it is text");
                assert!(
                    anchors(&target).contains(&anchor.to_owned()),
                    "{document}: {link}"
                );
            }
        }
    }
}

#[test]
fn every_page_is_on_the_first_one() {
    let readme = read(README);
    for page in folder("docs").iter().filter(|page| page.ends_with(".md")) {
        assert!(
            readme.contains(&format!("]({page})")),
            "{README} lacks {page}"
        );
    }
}

/// The keys of every mapping of the job file, as `src/job/written.rs` lists them.
fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    let mut inside = false;
    for line in read("src/job/written.rs").lines() {
        match line {
            "keys! {" => inside = true,
            "}" => inside = false,
            line if inside && !line.trim_start().starts_with("//") => {
                if let Some((key, _)) = line.trim().split_once(": ") {
                    keys.push(key.trim_start_matches("r#").to_owned());
                }
            }
            _ => {}
        }
    }
    keys
}

/// A folder as the documents assume it: the jobs, their input, and the CSV file of the README.
fn place() -> TempDir {
    let place = TempDir::new().expect("there is room");
    let path = |name: &str| place.path().join(name);
    for name in ["jobs", "fixtures"] {
        fs::create_dir(path(name)).expect("it is new");
    }
    for file in folder("jobs").into_iter().chain(
        ["notes.jsonl", "tickets.csv", "tickets_baseline.json"]
            .map(|name| format!("fixtures/{name}")),
    ) {
        fs::copy(root().join(&file), path(&file)).expect("it can be copied");
    }
    let readme = read(README);
    for (name, document) in [("reviews.csv", README), ("expected.csv", MIGRATING)] {
        let rows = blocks(&read(document), "csv").remove(0);
        fs::write(path(name), rows).expect("it can be written");
    }
    for block in blocks(&readme, "yaml") {
        if let Some(name) = job_name(&block) {
            fs::write(path(name), &block).expect("it can be written");
        }
    }
    place
}

/// Runs the program with keys that open nothing.
fn runner(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    for variable in SERVERS {
        command.env_remove(variable);
    }
    command
        .current_dir(folder)
        .args(arguments)
        .env("OPENAI_API_KEY", "dummy")
        .env("ANTHROPIC_API_KEY", "dummy")
        .env_remove("RUNNER_LOG")
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    // As a terminal shows it: what will be done, then what came of it.
    let parts = [&output.stderr, &output.stdout];
    parts.map(|part| String::from_utf8_lossy(part)).concat()
}

/// The insides of the fenced blocks of a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info == language, String::new())),
            (Some(_), Some(_)) => {
                let closed = open.take().filter(|(wanted, _)| *wanted);
                blocks.extend(closed.map(|(_, text)| text));
            }
            (None, Some((_, text))) => text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The name of a complete job: its first line is a comment with it.
fn job_name(block: &str) -> Option<&str> {
    let name = block.lines().next()?.strip_prefix("# ")?;
    name.ends_with(".yaml").then_some(name)
}

/// A job as editors see it, who check it against the schema.
fn as_json(job: &str) -> Value {
    serde_yaml::from_str(job).expect("it is YAML")
}

/// The commands of a console block and what each prints.
fn commands_of(block: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, shown))) => shown.push_str(&format!("{line}\n")),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    commands
}

/// The line without what differs from run to run.
fn without_times(line: &str) -> String {
    match (line.split_once(" answered in "), line.split_once("p50 ")) {
        (Some((before, _)), _) | (_, Some((before, _))) => before.to_owned(),
        _ => line.to_owned(),
    }
}

/// What a query finds, row by row, without what is null.
fn rows(database: &Path, query: &str) -> Vec<Vec<String>> {
    use rusqlite::types::Value;
    let connection = rusqlite::Connection::open(database).expect("it is a database");
    let mut statement = connection.prepare(query).expect("the query is sound");
    let columns = statement.column_count();
    let cells = |row: &rusqlite::Row<'_>| {
        let cells = (0..columns).filter_map(|column| match row.get_unwrap(column) {
            Value::Null => None,
            Value::Integer(number) => Some(number.to_string()),
            Value::Text(text) => Some(text),
            other => panic!("{other:?}"),
        });
        Ok(cells.collect())
    };
    let rows = statement.query_map([], cells).expect("the query runs");
    rows.map(|row| row.expect("the row can be read")).collect()
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(document: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for heading in document.lines().filter(|line| line.starts_with('#')) {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(match again {
            0 => anchor,
            number => format!("{anchor}-{number}"),
        });
    }
    anchors
}

fn documents() -> Vec<String> {
    let mut documents = folder("docs");
    documents.extend([README.to_owned(), "CHANGELOG.md".to_owned()]);
    documents
}

/// The files in a folder of the project, as paths relative to it.
fn folder(name: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(name)).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    let mut files: Vec<String> = names
        .map(|file| format!("{name}/{}", file.to_string_lossy()))
        .collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
