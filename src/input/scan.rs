//! A CSV file read for the first time: everything that is wrong with it.

use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder};

use super::bytes::{BUFFER, CsvReader, first_line, place, reader};
use super::contents::Contents;
use super::csv_file::{CsvFile, Stamp};
use super::files::Found;
use super::header::{column_names, not_text, positions};
use super::ids::Ids;
use crate::job::Problem;
use crate::words::Columns;

/// How many problems of one file are shown before the rest is only counted.
pub(super) const MAX_PROBLEMS: usize = 10;

/// What tells the rows of a file from each other, and what was seen of it so far.
pub(super) enum Told<'a> {
    /// The ids in this column.
    ById(usize, &'a mut Ids),
    /// All their cells.
    ByContent(&'a mut Contents),
}

/// A file that is being scanned: its header is read and sound.
pub(super) struct Records {
    found: Found,
    stamp: Stamp,
    reader: CsvReader,
    columns: Arc<Columns>,
    positions: Vec<usize>,
}

impl Records {
    /// Opens a file and reads its header, which must name the same columns as the files before.
    pub(super) fn open(
        found: Found,
        columns: Option<&Arc<Columns>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        match Self::try_open(found, columns) {
            Ok(records) => Some(records),
            Err(problem) => {
                problems.push(*problem);
                None
            }
        }
    }

    fn try_open(found: Found, columns: Option<&Arc<Columns>>) -> Result<Self, Box<Problem>> {
        let cannot_read = |error: &dyn std::fmt::Display| {
            Box::new(Problem::new(format!(
                "cannot read input {}: {error}",
                found.name
            )))
        };
        let metadata = std::fs::metadata(&found.path).map_err(|error| cannot_read(&error))?;
        let mut file = found.open().map_err(|error| cannot_read(&error))?;
        let start = file.fill_buf().map_err(|error| cannot_read(&error))?;
        if let Some(problem) = not_text(&found.name, start) {
            return Err(Box::new(problem));
        }
        let mut reader = reader(file);
        let header = reader
            .byte_headers()
            .map_err(|error| cannot_read(&error))?
            .clone();
        let names = column_names(&found, &header)?;
        let columns = match columns {
            Some(columns) => Arc::clone(columns),
            None => Arc::new(Columns::new(names.clone())),
        };
        let positions = positions(&found, &names, &columns)?;
        Ok(Self {
            stamp: Stamp::of(&metadata),
            found,
            reader,
            columns,
            positions,
        })
    }

    /// The columns of the job.
    pub(super) fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// Reads at most this many records and adds a problem for each that is not sound. Returns the
    /// file and how many records were read.
    pub(super) fn scan(
        mut self,
        most: u64,
        mut told: Told<'_>,
        problems: &mut Vec<Problem>,
    ) -> (CsvFile, u64) {
        let mut record = ByteRecord::new();
        let mut records = 0;
        let mut unsound = 0;
        let mut last = None;
        while records < most {
            let start = self.reader.position().clone();
            match self.reader.read_byte_record(&mut record) {
                Ok(true) => {
                    self.reader.get_mut().record_ended();
                    records += 1;
                    last = record.position().cloned();
                }
                Ok(false) => {
                    problems.extend(last.and_then(|last| self.unclosed(&last)));
                    break;
                }
                Err(error) => {
                    let message = format!("cannot read input {}: {error}", self.found.name);
                    let (line, text) = self.found.line_at(&start);
                    let place = place(&self.found.name, line, &text, None);
                    problems.push(Problem::new(message).at(place));
                    break;
                }
            }
            let id = match told {
                Told::ById(column, _) => Some(self.positions[column]),
                Told::ByContent(_) => None,
            };
            let Some(problem) = self.problem(&record, id) else {
                self.note(&record, &mut told);
                continue;
            };
            unsound += 1;
            if unsound <= MAX_PROBLEMS {
                problems.push(problem);
            }
        }
        if unsound > MAX_PROBLEMS {
            problems.push(Problem::new(format!(
                "{} more records of {} are not sound",
                unsound - MAX_PROBLEMS,
                self.found.name
            )));
        }
        let file = CsvFile {
            found: self.found,
            stamp: self.stamp,
            positions: self.positions,
        };
        if let Told::ById(column, ids) = told {
            ids.add_file(file.clone(), column);
        }
        (file, records)
    }

    /// Takes note of a record that is sound.
    fn note(&self, record: &ByteRecord, told: &mut Told<'_>) {
        match told {
            Told::ById(column, ids) => {
                ids.add(&String::from_utf8_lossy(&record[self.positions[*column]]));
            }
            Told::ByContent(contents) => {
                let cell = |column: usize| &record[self.positions[column]];
                contents.add(self.columns.content(cell));
            }
        }
    }

    /// What is wrong with a record, if anything.
    fn problem(&self, record: &ByteRecord, id: Option<usize>) -> Option<Problem> {
        let expected = self.positions.len();
        if record.len() != expected {
            let verb = if record.len() < expected { "only " } else { "" };
            return Some(
                self.at(
                    record,
                    format!("a record has {verb}{} of {expected} cells", record.len()),
                )
                .help("a cell that holds a comma, a quote or a line break must be quoted"),
            );
        }
        if let Some(bad) = record
            .iter()
            .position(|cell| std::str::from_utf8(cell).is_err())
        {
            return Some(self.not_utf8(record, bad));
        }
        if id.is_some_and(|position| record[position].is_empty()) {
            return Some(self.at(record, "a record has no id".to_owned()));
        }
        None
    }

    /// The problem of a last record whose quote is never closed, so that it swallowed the rest of
    /// the file: it would swallow one more record as well.
    fn unclosed(&self, last: &csv::Position) -> Option<Problem> {
        let mut file = File::open(&self.found.path).ok()?;
        let start = SeekFrom::Start(last.byte() + self.found.mark());
        file.seek(start).ok()?;
        let mut records = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .from_reader(file.chain(&b"\none more"[..]))
            .into_byte_records();
        if records.nth(1).is_some() {
            return None;
        }
        let (line, text) = self.found.line_at(last);
        let place = place(&self.found.name, line, &text, None);
        let problem = Problem::new("a quote is opened and never closed").at(place);
        Some(problem.help("a quote inside a quoted cell must be doubled"))
    }

    fn at(&self, record: &ByteRecord, message: String) -> Problem {
        let problem = Problem::new(message);
        match record.position() {
            Some(position) => {
                let (line, text) = self.found.line_at(position);
                problem.at(place(&self.found.name, line, &text, None))
            }
            None => problem,
        }
    }

    fn not_utf8(&self, record: &ByteRecord, column: usize) -> Problem {
        let start = record.position().map_or(0, csv::Position::byte);
        // Quotes may be doubled in the file, so a record takes at most twice its cells' bytes.
        let most = record.as_slice().len() * 2 + BUFFER;
        let bytes = self.found.bytes_at(start, most).unwrap_or_default();
        let bad = match std::str::from_utf8(&bytes) {
            Ok(_) => 0,
            Err(error) => error.valid_up_to(),
        };
        // A quoted cell may span lines: the line that is shown is the one with the bad byte.
        let line_start = bytes[..bad]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |i| i + 1);
        let line_breaks = bytes[..bad].iter().filter(|byte| **byte == b'\n').count() as u64;
        let line = record.position().map_or(0, csv::Position::line) + line_breaks;
        let text = first_line(&bytes[line_start..]);
        let column = self
            .positions
            .iter()
            .position(|position| *position == column);
        let name = column.map_or("", |column| &self.columns.names()[column]);
        let offset = start + bad as u64 + self.found.mark();
        Problem::new(format!("the cell `{name}` is not UTF-8 text"))
            .at(place(&self.found.name, line, text, Some(bad - line_start)))
            .labelled(format!("byte {offset} of the file"))
            .help("save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 in.csv > out.csv")
    }
}
