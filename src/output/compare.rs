//! Files that are there, compared with what they should hold, without holding either.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use super::publication::Sink;
use super::{OutputError, parquet_file, report_json};

const BUFFER: usize = 1 << 16;

/// A file beside what it should hold.
pub struct Comparison {
    name: &'static str,
    file: Result<BufReader<File>, std::io::Error>,
    found: Vec<u8>,
    unit: Unit,
    /// How many lines (or bytes) were expected so far.
    lines: u64,
    records: u64,
    differing: u64,
    /// The first line that is another.
    first: Option<u64>,
    /// After which line the file ends too early.
    cut: Option<u64>,
    /// `report.json`, expected and found.
    report: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a place in a file is told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Line,
    Byte,
}

impl Unit {
    fn of(name: &str) -> Self {
        match name {
            parquet_file::NAME => Self::Byte,
            _ => Self::Line,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Byte => "byte",
        }
    }

    /// How many of them there are.
    fn count(self, bytes: &[u8]) -> u64 {
        match self {
            Self::Line => bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
            Self::Byte => bytes.len() as u64,
        }
    }
}

impl Sink for Comparison {
    fn begin(dir: &Path, name: &'static str) -> Result<Self, OutputError> {
        let file = File::open(dir.join(name));
        Ok(Self {
            name,
            file: file.map(|file| BufReader::with_capacity(BUFFER, file)),
            found: Vec::new(),
            unit: Unit::of(name),
            lines: 0,
            records: 0,
            differing: 0,
            first: None,
            cut: None,
            report: None,
        })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.records += 1;
        let mut length = 0;
        if let Ok(file) = &mut self.file {
            self.found.resize(bytes.len(), 0);
            match fill(file, &mut self.found) {
                Ok(filled) => length = filled,
                Err(error) => self.file = Err(error),
            }
        }
        let found = &self.found[..length];
        if found != bytes {
            self.differing += 1;
            let same = found.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            let line = self.lines + self.unit.count(&bytes[..same]) + 1;
            match found.len() < bytes.len() && same == found.len() {
                true => self.cut = self.cut.or(Some(line - 1)),
                false => self.first = self.first.or(Some(line)),
            }
        }
        if self.name == report_json::NAME {
            self.report = Some((bytes.to_owned(), found.to_owned()));
        }
        self.lines += self.unit.count(bytes);
        Ok(())
    }
}

impl Comparison {
    /// The name of the file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How the file differs, in words, once everything was added that it should hold; nothing if it does not.
    pub fn verdict(mut self) -> Vec<String> {
        let name = self.name;
        let mut rest = Vec::new();
        let error = match &mut self.file {
            // As much of a report as there is; of results it is enough that there is more.
            Ok(file) => file.take(BUFFER as u64).read_to_end(&mut rest).err(),
            Err(error) => Some(std::io::Error::new(error.kind(), error.to_string())),
        };
        match error {
            Some(error) if error.kind() == ErrorKind::NotFound => {
                return vec![format!("{name} is not there")];
            }
            Some(error) => return vec![format!("{name} cannot be read: {error}")],
            None => {}
        }
        if let Some((expected, mut found)) = self.report.take() {
            found.extend(&rest);
            if let Some(texts) = values(name, &expected, &found) {
                return texts;
            }
        }
        self.lines_that_differ(!rest.is_empty())
    }

    fn lines_that_differ(&self, goes_on: bool) -> Vec<String> {
        let Self { name, records, .. } = self;
        let unit = self.unit.as_str();
        let mut texts = Vec::new();
        if let Some(line) = self.first {
            let differing = self.differing;
            texts.push(match records {
                // A report is compared as a whole.
                1 => format!("{name}: line {line} is another"),
                // A record is many rows there.
                _ if self.unit == Unit::Byte => format!("{name}: byte {line} is another"),
                _ => format!(
                    "{name}: line {line} is another ({differing} of {records} records differ)"
                ),
            });
        } else if let Some(line) = self.cut {
            texts.push(format!("{name} ends too early, in {unit} {}", line + 1));
        }
        if goes_on {
            let last = self.lines;
            texts.push(format!("{name} goes on after {unit} {last}, its last one"));
        }
        texts
    }
}

/// Where two reports differ; `None` if that cannot be told.
fn values(name: &str, expected: &[u8], found: &[u8]) -> Option<Vec<String>> {
    let expected: Value = serde_json::from_slice(expected).ok()?;
    let found: Value = serde_json::from_slice(found).ok()?;
    let mut texts = Vec::new();
    differing(&expected, &found, "", &mut |place, expected, found| {
        texts.push(match (expected, found) {
            (Some(expected), Some(found)) => {
                format!("{name}: {place} is {found}, but the store says {expected}")
            }
            (Some(expected), None) => {
                format!("{name}: {place} is missing; the store says {expected}")
            }
            (None, _) => format!("{name}: {place} is nothing that the store says"),
        });
    });
    // Equal values, written differently.
    (!texts.is_empty()).then_some(texts)
}

fn differing(
    expected: &Value,
    found: &Value,
    place: &str,
    tell: &mut impl FnMut(&str, Option<&Value>, Option<&Value>),
) {
    let (Value::Object(expected), Value::Object(found)) = (expected, found) else {
        if expected != found {
            tell(place, Some(expected), Some(found));
        }
        return;
    };
    let below = |key: &str| match place {
        "" => key.to_owned(),
        place => format!("{place}.{key}"),
    };
    for (key, value) in expected {
        match found.get(key) {
            Some(found) => differing(value, found, &below(key), tell),
            None => tell(&below(key), Some(value), None),
        }
    }
    for (key, value) in found {
        if !expected.contains_key(key) {
            tell(&below(key), None, Some(value));
        }
    }
}

/// Reads until the buffer is full or the file ends. Returns how much was read.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file that should hold these records.
    fn said(name: &'static str, holds: Option<&str>, records: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        if let Some(text) = holds {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let mut comparison = Comparison::begin(dir.path(), name).expect("it never fails");
        for record in records {
            comparison.add(record.as_bytes()).expect("it never fails");
        }
        comparison.verdict()
    }

    #[test]
    fn a_file_is_what_it_should_be_or_it_is_said_where_it_is_not() {
        let expected = ["a,b\n", "1,\"x\ny\"\n", "2,z\n"];
        for (holds, texts) in [
            (Some("a,b\n1,\"x\ny\"\n2,z\n"), &[][..]),
            (None, &["results.csv is not there"]),
            (
                Some("a,b\n1,\"x\nY\"\n2,z\n"),
                &["results.csv: line 3 is another (1 of 3 records differ)"],
            ),
            (
                Some("a,c\n1,\"x\ny\"\n2,Z\n"),
                &["results.csv: line 1 is another (2 of 3 records differ)"],
            ),
            (
                Some("a,b\n1,\"x\ny\"\n2,z\nmore"),
                &["results.csv goes on after line 4, its last one"],
            ),
            (
                Some("a,b\n1,\"x\ny\"\n2"),
                &["results.csv ends too early, in line 4"],
            ),
            (Some(""), &["results.csv ends too early, in line 1"]),
        ] {
            assert_eq!(said("results.csv", holds, &expected), texts, "{holds:?}");
        }
        for (holds, text) in [
            ("PAR1\nab", "results.parquet: byte 6 is another"),
            ("PAR1\n", "results.parquet ends too early, in byte 6"),
            (
                "PAR1\nxb ",
                "results.parquet goes on after byte 7, its last one",
            ),
        ] {
            let said = said("results.parquet", Some(holds), &["PAR1", "\nxb"]);
            assert_eq!(said, [text]);
        }
    }

    #[test]
    fn of_a_report_it_is_said_which_value_is_another() {
        let expected = r#"{"rows":{"total":3,"inputs":3},"job":"a"}"#;
        for (holds, texts) in [
            (expected, &[][..]),
            (
                r#"{"rows":{"total":4,"inputs":3},"job":"a"}"#,
                &["report.json: rows.total is 4, but the store says 3"],
            ),
            (
                r#"{"rows":{"total":3},"job":"a","more":{"x":1}}"#,
                &[
                    "report.json: rows.inputs is missing; the store says 3",
                    "report.json: more is nothing that the store says",
                ],
            ),
            (
                r#"{"rows":{"total":3,"inputs":3},"job":"a" }"#,
                &["report.json: line 1 is another"],
            ),
        ] {
            let mut found = said("report.json", Some(holds), &[expected]);
            found.retain(|text| !text.contains("goes on"));
            assert_eq!(found, texts, "{holds}");
        }
    }
}
