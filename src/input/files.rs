//! Paths, glob patterns and standard input → files.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use super::bytes::UTF8_MARK;
use super::json_lines::none_is_utf8;
use super::origin::{Origin, skip_mark};
use crate::job::{InputFormat, InputPlan, OnBadEncoding, OnRagged, Problem, STDIN};

/// A file of an input.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where its bytes are.
    pub(super) origin: Origin,
    /// What it is called in messages and row ids: the path as the job file would write it.
    pub(super) name: String,
    /// Its form.
    pub(super) format: InputFormat,
    /// What stands between the cells of CSV, and whether the job says so.
    pub(super) delimiter: u8,
    pub(super) delimiter_is_said: bool,
    /// What is done about a record that is not UTF-8 text.
    pub(super) on_bad_encoding: OnBadEncoding,
    /// What is done about a record that has not as many cells as the header.
    pub(super) on_ragged: OnRagged,
}

impl Found {
    /// Why there is nothing in it, if there is nothing. (A Parquet file always has its marks; what cannot be read is
    /// found out later.)
    pub(super) fn nothing(&self) -> Option<&'static str> {
        let is_line_break = |byte: &u8| match self.format {
            InputFormat::Jsonl => byte.is_ascii_whitespace(),
            _ => matches!(byte, b'\r' | b'\n'),
        };
        if self.format == InputFormat::Parquet {
            return None;
        }
        if self.is_all(is_line_break).unwrap_or(false) {
            return Some("is empty");
        }
        let skips =
            self.format == InputFormat::Jsonl && self.on_bad_encoding == OnBadEncoding::Skip;
        let none_is_utf8 = || self.origin.open_at(0).and_then(none_is_utf8);
        (skips && none_is_utf8().unwrap_or(false))
            .then_some("has no line that is UTF-8 text (`on_bad_encoding`)")
    }

    /// Whether all bytes are so, but for a byte order mark.
    fn is_all(&self, is_so: impl Fn(&u8) -> bool) -> std::io::Result<bool> {
        let mut bytes = self.origin.open_at(0)?;
        skip_mark(&mut bytes, UTF8_MARK)?;
        loop {
            let some = bytes.fill_buf()?;
            if some.is_empty() || !some.iter().all(&is_so) {
                return Ok(some.is_empty());
            }
            let length = some.len();
            bytes.consume(length);
        }
    }

    /// As its entry says, and its name where the entry does not.
    fn of(plan: &InputPlan, origin: Origin, name: String) -> Self {
        let format = plan.format.unwrap_or_else(|| InputFormat::of_name(&name));
        let usual = match format {
            InputFormat::Tsv => b'\t',
            _ => b',',
        };
        Self {
            origin,
            name,
            format,
            delimiter: plan.delimiter.unwrap_or(usual),
            delimiter_is_said: plan.delimiter.is_some(),
            on_bad_encoding: plan.on_bad_encoding,
            on_ragged: plan.on_ragged,
        }
    }

    /// Whether it is text, in which a problem can be shown.
    pub(super) fn has_lines(&self) -> bool {
        self.format != InputFormat::Parquet
    }

    /// The problem that it cannot be read.
    pub(super) fn unreadable(&self, error: &dyn std::fmt::Display) -> Box<Problem> {
        let name = &self.name;
        Box::new(Problem::new(format!("cannot read input {name}: {error}")))
    }
}

/// The files that a path or a pattern means, sorted by name; at least one.
pub(super) fn find(plan: &InputPlan) -> Result<Vec<Found>, Problem> {
    let problem = |message: String| match &plan.place {
        Some(place) => Problem::new(message).at(place.clone()),
        None => Problem::new(message),
    };
    if plan.written == STDIN {
        if std::io::stdin().is_terminal() {
            return Err(problem("nothing is piped into standard input".to_owned())
                .help("give it rows, for example: runner job.yaml < rows.csv"));
        }
        let origin = Origin::spool_stdin().map_err(|error| {
            problem(format!(
                "cannot copy standard input to a temporary file: {error}"
            ))
            .help("inputs are read twice; TMPDIR says where such files are made")
        })?;
        return Ok(vec![Found::of(plan, origin, "stdin".to_owned())]);
    }
    let metadata = std::fs::metadata(&plan.path);
    match metadata {
        Ok(metadata) if metadata.is_dir() => {
            return Err(
                problem(format!("input {} is a directory", plan.written)).help(format!(
                    "name the files in it: `{}/*.csv`",
                    plan.written.trim_end_matches('/')
                )),
            );
        }
        Ok(metadata) if !metadata.is_file() => {
            return Err(
                problem(format!("input {} is not a regular file", plan.written)).help(
                    "inputs are read twice; give a pipe to standard input (`path: \"-\"`), or write it to a file",
                ),
            );
        }
        Ok(_) => {
            let origin = Origin::File(plan.path.clone());
            return Ok(vec![Found::of(plan, origin, plan.written.clone())]);
        }
        Err(_) if plan.written.contains(['*', '?', '[']) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let missing = problem(format!("input {} does not exist", plan.written));
            return Err(match closest(&plan.path) {
                Some(name) => missing.help(format!("did you mean `{name}`?")),
                None => missing.help(format!(
                    "paths are relative to the job file; looked for {}",
                    plan.path.display()
                )),
            });
        }
        Err(error) => {
            return Err(problem(format!(
                "cannot read input {}: {error}",
                plan.written
            )));
        }
    }
    let whole = plan.path.to_string_lossy();
    let (base, pattern) = match whole.strip_suffix(plan.written.as_str()) {
        // The folder of the job file is a name, not a pattern.
        Some(base) => (
            base,
            format!("{}{}", glob::Pattern::escape(base), plan.written),
        ),
        None => ("", whole.clone().into_owned()),
    };
    let matches = glob::glob(&pattern).map_err(|error| {
        problem(format!(
            "input {} is not a pattern: {}",
            plan.written, error.msg
        ))
    })?;
    let mut found = Vec::new();
    for path in matches {
        let path = path.map_err(|error| {
            let source = error.error();
            problem(format!("cannot read {}: {source}", error.path().display()))
        })?;
        if path.is_file() {
            let name = path.to_string_lossy();
            let name = name.strip_prefix(base).unwrap_or(&name).to_owned();
            found.push(Found::of(plan, Origin::File(path), name));
        }
    }
    if found.is_empty() {
        return Err(problem(format!("no file matches input {}", plan.written))
            .help("patterns are relative to the job file"));
    }
    Ok(found)
}

/// The file beside a missing one whose name is most like it.
fn closest(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_string_lossy().into_owned();
    let folder = match path.parent()? {
        // What a job in the working directory names.
        here if here.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .map(|name| (strsim::jaro_winkler(&wanted, &name), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
