//! A file read for the first time: everything that is wrong with it.

use std::io::Read;
use std::sync::Arc;

use csv::{ByteRecord, Position, ReaderBuilder};

use super::bytes::{first_line, place};
use super::contents::Contents;
use super::files::Found;
use super::header::{column_names, positions};
use super::ids::Ids;
use super::origin::{BUFFER, Stamp};
use super::records::{Fault, Records};
use super::scanned::Scanned;
use crate::job::{InputFormat, Problem};
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
pub(super) struct Scanning {
    found: Found,
    stamp: Stamp,
    records: Records,
    columns: Arc<Columns>,
    names: Arc<[String]>,
    positions: Vec<usize>,
}

impl Scanning {
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
        let stamp = found
            .origin
            .stamp()
            .map_err(|error| found.unreadable(&error))?;
        let names = column_names(&found)?;
        let columns = match columns {
            Some(columns) => Arc::clone(columns),
            None => Arc::new(Columns::new(names.clone())),
        };
        let positions = positions(&found, &names, &columns)?;
        let records = Records::open(&found, &names).map_err(|error| found.unreadable(&error))?;
        Ok(Self {
            stamp,
            found,
            records,
            columns,
            names: names.into(),
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
    ) -> (Scanned, u64) {
        let mut record = ByteRecord::new();
        let mut records = 0;
        let mut unsound = 0;
        let mut last = None;
        while records < most {
            let start = self.records.position();
            let read = match self.records.read(&mut record) {
                Ok(Some(read)) => read,
                Ok(None) => {
                    problems.extend(last.and_then(|last| self.unclosed(&last)));
                    break;
                }
                Err(error) => {
                    let problem = *self.found.unreadable(&error);
                    problems.push(match self.found.has_lines() {
                        true => problem.at(self.found.place(&start)),
                        false => problem,
                    });
                    break;
                }
            };
            records += 1;
            last = record.position().cloned();
            let fault = match (read, &told) {
                (Err(fault), _) => Some(Some(fault)),
                (Ok(()), Told::ById(column, _)) => {
                    record[self.positions[*column]].is_empty().then_some(None)
                }
                (Ok(()), Told::ByContent(_)) => None,
            };
            let Some(fault) = fault else {
                self.note(&record, &mut told);
                continue;
            };
            unsound += 1;
            if unsound <= MAX_PROBLEMS {
                problems.push(self.problem(&record, fault));
            }
        }
        if unsound > MAX_PROBLEMS {
            problems.push(Problem::new(format!(
                "{} more records of {} are not sound",
                unsound - MAX_PROBLEMS,
                self.found.name
            )));
        }
        let file = Scanned {
            mended: self.records.mended(),
            found: self.found,
            stamp: self.stamp,
            names: self.names,
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

    /// What is wrong with a record: a fault, or that it has no id.
    fn problem(&self, record: &ByteRecord, fault: Option<Fault>) -> Problem {
        match fault {
            None => self
                .at(record, "a record has no id".to_owned())
                .help("fill the cell, or leave `id` out: rows are then known by their content"),
            Some(Fault::Ragged(cells)) => {
                let expected = self.positions.len();
                let verb = if cells < expected { "only " } else { "" };
                let message = format!("a record has {verb}{cells} of {expected} cells");
                let delimiter = match self.found.delimiter {
                    b',' => "a comma",
                    b'\t' => "a tab",
                    _ => "the delimiter",
                };
                self.at(record, message).help(format!(
                    "a cell that holds {delimiter}, a quote or a line break must be quoted"
                ))
            }
            Some(Fault::NotUtf8(cell)) if self.found.has_lines() => self.not_utf8(record, cell),
            Some(Fault::NotUtf8(cell)) => {
                let name = self.names.get(cell).map_or("", String::as_str);
                self.at(record, format!("the cell `{name}` is not UTF-8 text"))
            }
            Some(Fault::LineNotUtf8(at)) => {
                self.byte_problem(record, "the line is not UTF-8 text".to_owned(), at)
            }
            Some(Fault::Line { message, at, help }) => self.line(record, message, at).help(help),
            Some(Fault::NoText(cell, why)) => {
                let name = self.names.get(cell).map_or("", String::as_str);
                self.at(record, format!("the cell `{name}` {why}"))
            }
        }
    }

    /// The problem of a last record whose quote is never closed, so that it swallowed the rest of
    /// the file: it would swallow one more record as well.
    fn unclosed(&self, last: &Position) -> Option<Problem> {
        if !matches!(self.found.format, InputFormat::Csv | InputFormat::Tsv) {
            return None;
        }
        let offset = last.byte() + self.found.mark();
        let rest = self.found.origin.open_at(offset).ok()?;
        let mut records = ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .delimiter(self.found.delimiter)
            .from_reader(rest.chain(&b"\none more"[..]))
            .into_byte_records();
        if records.nth(1).is_some() {
            return None;
        }
        let problem = Problem::new("a quote is opened and never closed").at(self.found.place(last));
        Some(problem.help("a quote inside a quoted cell must be doubled"))
    }

    /// A problem with a record. One without lines is named by its number.
    fn at(&self, record: &ByteRecord, message: String) -> Problem {
        match record.position() {
            Some(position) if self.found.has_lines() => {
                Problem::new(message).at(self.found.place(position))
            }
            _ => {
                let Found { name, .. } = &self.found;
                let number = self.records.number();
                Problem::new(format!("{name}, record {number}: {message}"))
            }
        }
    }

    /// A problem with a line, at this byte of it.
    fn line(&self, record: &ByteRecord, message: String, at: Option<usize>) -> Problem {
        let Some(position) = record.position() else {
            return Problem::new(message);
        };
        let (line, text) = self.found.line_at(position);
        Problem::new(message).at(place(&self.found.name, line, &text, at))
    }

    fn byte_problem(&self, record: &ByteRecord, message: String, at: usize) -> Problem {
        let start = record.position().map_or(0, Position::byte) + self.found.mark();
        self.line(record, message, Some(at))
            .labelled(format!("byte {} of the file", start + at as u64))
            .help(AS_UTF8)
    }

    fn not_utf8(&self, record: &ByteRecord, column: usize) -> Problem {
        let start = record.position().map_or(0, Position::byte);
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
        let line = record.position().map_or(0, Position::line) + line_breaks;
        let text = first_line(&bytes[line_start..]);
        let name = self.names.get(column).map_or("", String::as_str);
        let offset = start + bad as u64 + self.found.mark();
        Problem::new(format!("the cell `{name}` is not UTF-8 text"))
            .at(place(&self.found.name, line, text, Some(bad - line_start)))
            .labelled(format!("byte {offset} of the file"))
            .help(AS_UTF8)
    }
}

/// What to do about text of another encoding.
pub(super) const AS_UTF8: &str =
    "save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 in.csv > out.csv";
