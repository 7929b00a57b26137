//! Reading a job: file, overrides, secrets, keys.

use std::path::{Path, PathBuf};

use super::decode::Decode;
use super::source::{Source, Span, is_secret_key, is_secret_value};
use super::written::JobKeys;
use super::yaml::{Node, Value};
use super::{Problem, Problems, set, suggest, yaml};

/// The largest job file and prompt file, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// A job as it is written, together with everything that was wrong in reading it.
#[derive(Debug, Clone)]
pub struct Job {
    pub(super) path: PathBuf,
    /// The start of the file: the place of what is not there at all.
    pub(super) start: Span,
    pub(super) keys: JobKeys,
    /// The same as it is written, without secrets.
    pub(super) root: Node,
    pub(super) problems: Vec<Problem>,
}

impl Job {
    /// Reads a job file, with overrides of the form `key=value` on top, where a key is a dotted path
    /// such as `backends.gpt.model`.
    ///
    /// Fails only where there is nothing to go on with: a file that cannot be read or is not YAML.
    /// Every other problem is kept for [`Job::resolve`].
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, Problems> {
        let kind = path
            .extension()
            .and_then(|kind| kind.to_str())
            .unwrap_or_default();
        if ["csv", "tsv", "jsonl", "parquet"].contains(&kind) && path.is_file() {
            let shown = path.display();
            let problem = Problem::new(format!("{shown} is a table, and a job is a YAML file"));
            return Err(problem
                .help(format!("`runner init {shown}` writes a job for it"))
                .into());
        }
        let text = read_text(path)?;
        Self::parse(path, text, overrides)
    }

    /// Reads the text of a job file as if it stood at this path.
    pub fn parse(
        path: &Path,
        text: impl Into<String>,
        overrides: &[String],
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let source = Source::new(path.display().to_string(), text);
        let mut root = yaml::parse(&source, &mut problems)?;
        if matches!(root.value, Value::Null) {
            root.value = Value::Mapping(Vec::new());
        }
        for text in overrides {
            set::apply(&mut root, text, &mut problems);
        }
        remove_secrets(&mut root, &mut problems);
        let Some(keys) = JobKeys::decode(&root, &mut problems) else {
            return Err(Problems(problems));
        };
        Ok(Self {
            path: path.to_owned(),
            start: source.span(0, 0),
            keys,
            root,
            problems,
        })
    }

    /// The folder that paths in the job file are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Reads a small text file; the problem names it as the user would.
pub fn read_text(path: &Path) -> Result<String, Problems> {
    read_up_to(path, MAX_FILE, "rows belong in an input")
}

/// Reads a text file of at most so many bytes; `help` says what to do about one that is larger.
pub fn read_up_to(path: &Path, most: u64, help: &str) -> Result<String, Problems> {
    let shown = path.display();
    let fail = |error: std::io::Error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let problem = Problem::new(format!("cannot read {shown}: {error}"));
        Problems::from(match closest_file(path).filter(|_| is_missing) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None => problem,
        })
    };
    let size = std::fs::metadata(path).map_err(fail)?.len();
    let too_large = || {
        let limit = most >> 20;
        Problem::new(format!("{shown} is larger than {limit} MiB")).help(help)
    };
    if size > most {
        return Err(too_large().into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    // Not every file knows its size: a pipe has none.
    std::io::Read::read_to_end(&mut std::io::Read::take(file, most + 1), &mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > most {
        return Err(too_large().into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let good = String::from_utf8_lossy(&bytes[..valid]).into_owned();
        let line_end = bytes[valid..].iter().position(|byte| *byte == b'\n');
        let rest = &bytes[valid..line_end.map_or(bytes.len(), |end| valid + end)];
        let source = Source::new(
            shown.to_string(),
            format!("{good}{}", String::from_utf8_lossy(rest)),
        );
        let problem = source.span(valid, valid + '\u{fffd}'.len_utf8());
        let problem = problem.problem(format!("byte {:#04x} is not UTF-8", bytes[valid]));
        problem.help("save the file as UTF-8").into()
    })
}

/// The file beside a missing one whose name was probably meant.
fn closest_file(path: &Path) -> Option<String> {
    let folder = match path.parent()? {
        // Of a file in the working directory.
        here if here.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let close = suggest::closest(path.file_name()?.to_str()?, &names)?;
    Some(path.with_file_name(close).display().to_string())
}

/// Takes every key of a provider out of the backends, so that nothing can show it later.
fn remove_secrets(root: &mut Node, problems: &mut Vec<Problem>) {
    let Value::Mapping(entries) = &mut root.value else {
        return;
    };
    for (key, backends) in entries {
        let Value::Mapping(backends) = &mut backends.value else {
            continue;
        };
        if key.name == "backends" {
            for (_, backend) in backends {
                remove_backend_secrets(backend, problems);
            }
        }
    }
}

fn remove_backend_secrets(backend: &mut Node, problems: &mut Vec<Problem>) {
    let Value::Mapping(entries) = &mut backend.value else {
        return;
    };
    let help = "put it into an environment variable and name that: `api_key_env: NAME`";
    entries.retain(|(key, _)| {
        let secret = is_secret_key(&key.name);
        if secret {
            let problem = key.span.problem("a key must not stand in a job file");
            problems.push(problem.help(help));
        }
        !secret
    });
    for (key, node) in entries {
        match key.name.as_str() {
            "headers" => remove_named_secrets(node, false, problems),
            "body" => remove_named_secrets(node, true, problems),
            _ => {}
        }
        remove_secret_values(node, help, problems);
    }
}

/// Takes the literal values of secret names out of headers and bodies. What a template of a body puts
/// in is data of the row.
fn remove_named_secrets(node: &mut Node, templates: bool, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::List(items) => {
            for item in items {
                remove_named_secrets(item, templates, problems);
            }
        }
        Value::Mapping(entries) => entries.retain_mut(|(key, node)| {
            let literal = match &node.value {
                Value::Text(text) => !(templates && text.contains("{{")),
                Value::Number(_) => true,
                _ => false,
            };
            let secret = literal && is_secret_key(&key.name);
            if secret {
                let message = format!("the value of `{}` must not stand in a job file", key.name);
                let help = match templates {
                    true => "a key can only be sent as a header, from `headers_env`",
                    false => "name the variable that holds it: `headers_env: { name: VARIABLE }`",
                };
                problems.push(key.span.problem(message).help(help));
            }
            remove_named_secrets(node, templates, problems);
            !secret
        }),
        _ => {}
    }
}

/// Takes everything that looks like a key out of a value, however deep it stands.
fn remove_secret_values(node: &mut Node, help: &str, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Text(text) if is_secret_value(text) => {
            let problem = node
                .span
                .problem("this looks like a key, and a job file must not hold one");
            problems.push(problem.help(help));
            node.value = Value::Refused;
        }
        Value::List(items) => {
            for item in items {
                remove_secret_values(item, help, problems);
            }
        }
        Value::Mapping(entries) => {
            for (_, item) in entries {
                remove_secret_values(item, help, problems);
            }
        }
        _ => {}
    }
}
