//! The columns of a file: is it what it is said to be at all, and what does it name?

use super::bytes::{MAX_SHOWN, first_line, place, reader};
use super::files::Found;
use super::json_lines;
use super::scan::AS_UTF8;
use crate::job::{InputFormat, OnBadEncoding, Problem};
use crate::words::Columns;

/// How much of a file is looked at to tell what it is.
const LOOKED_AT: usize = 64;

/// The names of a file's columns.
pub(super) fn column_names(found: &Found) -> Result<Vec<String>, Box<Problem>> {
    let unreadable = |error: &dyn std::fmt::Display| found.unreadable(error);
    if found.delimiter_is_said && found.format != InputFormat::Csv {
        let message = format!("`delimiter` is for CSV, and {} is none", found.name);
        return Err(Box::new(
            Problem::new(message).help("remove it, or say `format: csv` if it is CSV after all"),
        ));
    }
    let start = found.origin.start(LOOKED_AT);
    let start = start.map_err(|error| unreadable(&error))?;
    if let Some(problem) = not_as_said(found, &start) {
        return Err(Box::new(problem));
    }
    match found.format {
        InputFormat::Csv | InputFormat::Tsv => csv_names(found),
        InputFormat::Jsonl => {
            let replace = found.on_bad_encoding == OnBadEncoding::Replace;
            let bytes = found.origin.open_at(0);
            let names = bytes.and_then(|bytes| json_lines::keys(bytes, replace));
            let names = names.map_err(|error| unreadable(&error))?;
            // Without a key there is no sound line but of `{}`; without a name a column cannot be meant.
            if names.is_empty() {
                let message = format!("input {} has no object with a key", found.name);
                let problem = Problem::new(message)
                    .help("JSON Lines has an object on each line, such as {\"text\": \"hello\"}");
                return Err(Box::new(problem));
            }
            unique(found, &names)?;
            Ok(names)
        }
        #[cfg(feature = "parquet")]
        InputFormat::Parquet => {
            let names = super::parquet_file::column_names(found)?;
            if names.is_empty() {
                let message = format!("input {} has no columns", found.name);
                return Err(Box::new(Problem::new(message)));
            }
            unique(found, &names)?;
            Ok(names)
        }
        #[cfg(not(feature = "parquet"))]
        InputFormat::Parquet => {
            let message = format!(
                "input {} is Parquet, which this runner cannot read",
                found.name
            );
            Err(Box::new(Problem::new(message).help(crate::job::NO_PARQUET)))
        }
    }
}

/// Why a file that starts so is not of the form that it should be, if it is not.
fn not_as_said(found: &Found, start: &[u8]) -> Option<Problem> {
    let name = &found.name;
    let is_parquet = start.starts_with(b"PAR1");
    if found.format == InputFormat::Parquet {
        return (!is_parquet).then(|| {
            let problem = Problem::new(format!("input {name} is not a Parquet file"));
            problem.help("say what it is: `format: csv`, `tsv` or `jsonl`")
        });
    }
    let (what, help) = match start {
        [0xff, 0xfe, ..] => ("is UTF-16 (little-endian) text", FROM_UTF16),
        [0xfe, 0xff, ..] => ("is UTF-16 (big-endian) text", FROM_UTF16),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ("is compressed twice", "unpack it once or twice")
        }
        [b'P', b'K', 3, 4, ..] => (
            "is a zip archive (or a spreadsheet)",
            "unpack it, or save the spreadsheet as CSV in UTF-8",
        ),
        _ if is_parquet => ("is a Parquet file", "say `format: parquet`"),
        [b'[', b'{' | b'\n' | b' ' | b'\r', ..] => (
            "is a JSON array",
            "write an object a line, for example: jq -c '.[]' in.json > out.jsonl",
        ),
        [b'{', b'"', ..] if found.format != InputFormat::Jsonl => {
            ("is JSON Lines", "say `format: jsonl`")
        }
        _ => match zeros(start)? {
            (0, _) => ("is UTF-16 (big-endian) text", FROM_UTF16BE),
            _ => ("is UTF-16 (little-endian) text", FROM_UTF16LE),
        },
    };
    Some(Problem::new(format!("input {name} {what}")).help(help))
}

const FROM_UTF16: &str = "inputs are UTF-8; convert it: iconv -f UTF-16 -t UTF-8 in.csv > out.csv";
const FROM_UTF16BE: &str =
    "inputs are UTF-8; convert it: iconv -f UTF-16BE -t UTF-8 in.csv > out.csv";
const FROM_UTF16LE: &str =
    "inputs are UTF-8; convert it: iconv -f UTF-16LE -t UTF-8 in.csv > out.csv";

/// Where the zeros stand in text of two bytes a character that is mostly English: at even or at odd bytes, and how many.
fn zeros(start: &[u8]) -> Option<(usize, usize)> {
    let count = |odd: usize| {
        let bytes = start.iter().skip(odd).step_by(2);
        bytes.filter(|byte| **byte == 0).count()
    };
    let (even, odd) = (count(0), count(1));
    let most = start.len() / 2;
    match start.len() >= 4 {
        true if even == 0 && odd * 4 >= most * 3 => Some((1, odd)),
        true if odd == 0 && even * 4 >= most * 3 => Some((0, even)),
        _ => None,
    }
}

fn csv_names(found: &Found) -> Result<Vec<String>, Box<Problem>> {
    let bytes = found.origin.open_at(0);
    let reader = bytes.and_then(|bytes| reader(bytes, found.delimiter));
    let mut reader = reader.map_err(|error| found.unreadable(&error))?;
    let header = reader.byte_headers();
    let header = header.map_err(|error| found.unreadable(&error))?;
    let bytes = found.bytes_at(0, MAX_SHOWN).unwrap_or_default();
    let text = first_line(&bytes);
    let at = |problem: Problem, from: Option<usize>| {
        Box::new(problem.at(place(&found.name, 1, text, from)))
    };
    let others = [
        (b';', "semicolons", "\";\""),
        (b'\t', "tabs", "tab"),
        (b'|', "bars", "\"|\""),
    ];
    for (byte, plural, written) in others {
        let is_usual = found.format == InputFormat::Csv && !found.delimiter_is_said;
        if is_usual && header.len() == 1 && header[0].contains(&byte) {
            let message = format!("{} separates its columns with {plural}", found.name);
            let help = format!(
                "say so: `inputs: {{ path: {}, delimiter: {written} }}`; if it has but one column, `delimiter: \",\"`",
                found.name
            );
            return Err(at(Problem::new(message).help(help), None));
        }
    }
    let names: Result<Vec<String>, _> = header
        .iter()
        .map(|cell| std::str::from_utf8(cell).map(str::to_owned))
        .collect();
    let Ok(names) = names else {
        let bad = std::str::from_utf8(text)
            .err()
            .map(|error| error.valid_up_to());
        let problem = Problem::new("the header is not UTF-8 text").help(AS_UTF8);
        return Err(at(problem, bad));
    };
    match unique(found, &names) {
        Ok(()) => Ok(names),
        Err(problem) => Err(at(*problem, None)),
    }
}

/// Finds a column without a name, and a name of two columns.
fn unique(found: &Found, names: &[String]) -> Result<(), Box<Problem>> {
    let mut seen = std::collections::HashMap::new();
    for (position, name) in names.iter().enumerate() {
        if name.trim().is_empty() {
            let message = format!("column {} of {} has no name", position + 1, found.name);
            let help = "name it in the first line, or take the column out";
            return Err(Box::new(Problem::new(message).help(help)));
        }
        if let Some(earlier) = seen.insert(name, position) {
            let message = format!("the header names `{}` twice", name.escape_debug());
            return Err(Box::new(Problem::new(message).help(format!(
                "it stands in columns {} and {}; rename one of them",
                earlier + 1,
                position + 1
            ))));
        }
    }
    Ok(())
}

/// Where each column of the job stands in this file.
pub(super) fn positions(
    found: &Found,
    names: &[String],
    columns: &Columns,
) -> Result<Vec<usize>, Box<Problem>> {
    let missing: Vec<&str> = columns
        .names()
        .iter()
        .filter(|name| !names.contains(name))
        .map(String::as_str)
        .collect();
    let extra: Vec<&str> = names
        .iter()
        .filter(|name| columns.position(name).is_none())
        .map(String::as_str)
        .collect();
    if missing.is_empty() && extra.is_empty() {
        let position = |name: &String| names.iter().position(|other| other == name);
        return Ok(columns.names().iter().filter_map(position).collect());
    }
    let mut differences = Vec::new();
    let meant = extra.iter().find_map(|name| {
        let missing = missing.iter().copied();
        let (likeness, meant) = missing
            .map(|other| (strsim::jaro_winkler(name, other), other))
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        (likeness > 0.85).then(|| format!("did you mean `{meant}` by `{name}`?"))
    });
    differences.extend(meant);
    if !missing.is_empty() {
        differences.push(format!("it lacks {}", missing.join(", ")));
    }
    if !extra.is_empty() {
        differences.push(format!("it also has {}", extra.join(", ")));
    }
    Err(Box::new(
        Problem::new(format!(
            "input {} has other columns than the inputs before it",
            found.name
        ))
        .help(differences.join("; ")),
    ))
}
