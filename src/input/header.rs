//! The first line of a CSV file: is it text at all, and which columns does it name?

use csv::ByteRecord;

use super::bytes::{MAX_SHOWN, first_line, place};
use super::files::Found;
use crate::job::Problem;
use crate::words::Columns;

/// Why a file that starts so is no CSV text, if it is none.
pub(super) fn not_text(name: &str, start: &[u8]) -> Option<Problem> {
    let what = match start {
        [] => {
            return Some(
                Problem::new(format!("input {name} is empty"))
                    .help("a CSV input starts with a line that names its columns"),
            );
        }
        [0xff, 0xfe, ..] => "is UTF-16 (little-endian) text",
        [0xfe, 0xff, ..] => "is UTF-16 (big-endian) text",
        [0x1f, 0x8b, ..] => "is compressed with gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed with zstd",
        [b'P', b'K', 3, 4, ..] => "is a zip archive (or a spreadsheet)",
        [b'P', b'A', b'R', b'1', ..] => "is a Parquet file",
        _ => return None,
    };
    Some(
        Problem::new(format!("input {name} {what}"))
            .help("inputs are CSV files in UTF-8; unpack or convert it first"),
    )
}

pub(super) fn column_names(
    found: &Found,
    header: &ByteRecord,
) -> Result<Vec<String>, Box<Problem>> {
    let bytes = found.bytes_at(0, MAX_SHOWN).unwrap_or_default();
    let text = first_line(&bytes);
    let at = |problem: Problem, from: Option<usize>| {
        Box::new(problem.at(place(&found.name, 1, text, from)))
    };
    let separators = [(b';', "semicolons", ';'), (b'\t', "tabs", '\t')];
    for (byte, plural, separator) in separators {
        if header.len() == 1 && header[0].contains(&byte) {
            let message = format!("{} separates its columns with {plural}", found.name);
            let help = format!(
                "inputs are separated with commas; convert it, for example: python3 -c \"import csv, sys; \
                 csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter={separator:?}))\" < in.csv > out.csv"
            );
            return Err(at(Problem::new(message).help(help), None));
        }
    }
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (position, cell) in header.iter().enumerate() {
        let Ok(name) = std::str::from_utf8(cell) else {
            let bad = std::str::from_utf8(text)
                .err()
                .map(|error| error.valid_up_to());
            return Err(at(Problem::new("the header is not UTF-8 text"), bad));
        };
        if name.trim().is_empty() {
            let message = format!("column {} of {} has no name", position + 1, found.name);
            return Err(at(Problem::new(message), None));
        }
        if let Some(earlier) = names.iter().position(|earlier| earlier == name) {
            let message = format!("the header names `{}` twice", name.escape_debug());
            let problem = Problem::new(message).help(format!(
                "it stands in columns {} and {}; rename one of them",
                earlier + 1,
                position + 1
            ));
            return Err(at(problem, None));
        }
        names.push(name.to_owned());
    }
    Ok(names)
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
