//! One CSV file: opened, scanned for everything that is wrong with it, read again as rows.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::job::{Place, Problem};
use crate::words::{Columns, Row};

use super::InputError;
use super::files::Found;
use super::ids::Ids;

/// How many problems of one file are shown before the rest is only counted.
pub(super) const MAX_PROBLEMS: usize = 10;
/// How much of a line is shown.
const MAX_SHOWN: usize = 400;
const BUFFER: usize = 1 << 16;

/// A file that was scanned: where it is, what it was like, and where each column stands in it.
#[derive(Debug, Clone)]
pub(super) struct CsvFile {
    found: Found,
    stamp: Stamp,
    positions: Vec<usize>,
}

/// What tells that a file is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl CsvFile {
    /// Where it is, and what messages call it.
    pub(super) fn path_and_name(&self) -> (&Path, &str) {
        (&self.found.path, &self.found.name)
    }

    /// The rows of the file in order; their indexes are still 0.
    pub(super) fn rows<'a>(
        &'a self,
        columns: &'a Arc<Columns>,
        id: Option<usize>,
    ) -> impl Iterator<Item = Result<Row, InputError>> + Send + 'a {
        let mut reader = self.reader();
        let mut record = ByteRecord::new();
        let mut number = 0_u64;
        std::iter::from_fn(move || {
            let reader = match &mut reader {
                Ok(reader) => reader,
                Err(error) => return error.take().map(Err),
            };
            match reader.read_byte_record(&mut record) {
                Ok(true) => {
                    number += 1;
                    Some(self.row(&record, number, columns, id))
                }
                Ok(false) => None,
                Err(source) => Some(Err(self.io(source))),
            }
        })
    }

    /// The position and the cell of a column (counted in the job's columns) of each record; stops at what
    /// cannot be read.
    pub(super) fn column(
        &self,
        column: usize,
    ) -> impl Iterator<Item = (csv::Position, String)> + '_ {
        let mut reader = self.reader().ok();
        let position = self.positions[column];
        let mut record = ByteRecord::new();
        std::iter::from_fn(move || {
            let reader = reader.as_mut()?;
            reader
                .read_byte_record(&mut record)
                .ok()
                .filter(|more| *more)?;
            let cell = String::from_utf8_lossy(record.get(position).unwrap_or_default());
            Some((record.position().cloned()?, cell.into_owned()))
        })
    }

    /// The line that a record starts on, as a place.
    pub(super) fn place(&self, position: &csv::Position) -> Place {
        let (line, text) = self.found.line_at(position);
        place(&self.found.name, line, &text, None)
    }

    /// The error that the file is not what it was when it was scanned, if so.
    pub(super) fn changed(&self) -> Option<InputError> {
        let now = std::fs::metadata(&self.found.path).map(|metadata| Stamp::of(&metadata));
        (now.ok().as_ref() != Some(&self.stamp)).then(|| self.changed_error())
    }

    fn row(
        &self,
        record: &ByteRecord,
        number: u64,
        columns: &Arc<Columns>,
        id: Option<usize>,
    ) -> Result<Row, InputError> {
        let cells: Option<Vec<String>> = self
            .positions
            .iter()
            .map(|position| {
                let bytes = record.get(*position)?;
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            })
            .collect();
        // The scan found every record sound, so a bad one means that the file is another now.
        let cells = cells.filter(|_| record.len() == self.positions.len());
        let cells = cells.ok_or_else(|| self.changed_error())?;
        Ok(Row {
            index: 0,
            id: match id {
                Some(column) => cells[column].clone(),
                None => format!("{}:{number}", self.found.name),
            },
            columns: Arc::clone(columns),
            cells,
        })
    }

    fn reader(&self) -> Result<Reader<Box<dyn Read + Send>>, Option<InputError>> {
        let io = |error: std::io::Error| Some(self.io(error.into()));
        let file = self.found.open().map_err(io)?;
        // Before the first row is asked: another file of the same shape would be paid for in vain.
        let now = Stamp::of(&file.get_ref().metadata().map_err(io)?);
        if now != self.stamp {
            return Err(Some(self.changed_error()));
        }
        Ok(reader(file))
    }

    fn changed_error(&self) -> InputError {
        InputError::Changed {
            path: self.found.name.clone(),
        }
    }

    fn io(&self, source: csv::Error) -> InputError {
        InputError::Io {
            path: self.found.name.clone(),
            source,
        }
    }
}

/// A file that is being scanned: its header is read and sound.
pub(super) struct Records {
    found: Found,
    stamp: Stamp,
    reader: Reader<Box<dyn Read + Send>>,
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
        mut ids: Option<(usize, &mut Ids)>,
        problems: &mut Vec<Problem>,
    ) -> (CsvFile, u64) {
        let mut record = ByteRecord::new();
        let mut records = 0;
        let mut unsound = 0;
        let mut last = None;
        while records < most {
            match self.reader.read_byte_record(&mut record) {
                Ok(true) => {
                    records += 1;
                    last = record.position().cloned();
                }
                Ok(false) => {
                    problems.extend(last.and_then(|last| self.unclosed(&last)));
                    break;
                }
                Err(error) => {
                    problems.push(Problem::new(format!(
                        "cannot read input {}: {error}",
                        self.found.name
                    )));
                    break;
                }
            }
            let id = ids.as_ref().map(|(column, _)| self.positions[*column]);
            let problem = match self.problem(&record, id) {
                None => {
                    if let (Some((_, ids)), Some(position)) = (&mut ids, id) {
                        ids.add(&String::from_utf8_lossy(&record[position]));
                    }
                    continue;
                }
                Some(problem) => problem,
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
        if let Some((column, ids)) = ids {
            ids.add_file(file.clone(), column);
        }
        (file, records)
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

impl Found {
    fn open(&self) -> std::io::Result<BufReader<File>> {
        Ok(BufReader::with_capacity(BUFFER, File::open(&self.path)?))
    }

    /// The length of the byte order mark, which the CSV reader does not count in its offsets.
    fn mark(&self) -> u64 {
        let mut start = [0; UTF8_MARK.len()];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut start));
        if read.is_ok() && start == *UTF8_MARK {
            start.len() as u64
        } else {
            0
        }
    }

    /// At most so many bytes from an offset of the CSV reader.
    fn bytes_at(&self, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset + self.mark()))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The number and the text of the line that a record starts on. The reader's position may point
    /// before the line breaks that stand in front of the record.
    fn line_at(&self, position: &csv::Position) -> (u64, Vec<u8>) {
        let bytes = self
            .bytes_at(position.byte(), MAX_SHOWN)
            .unwrap_or_default();
        let skip = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let breaks = bytes[..skip].iter().filter(|byte| **byte == b'\n').count() as u64;
        (
            position.line() + breaks,
            first_line(&bytes[skip..]).to_vec(),
        )
    }
}

const UTF8_MARK: &[u8; 3] = b"\xef\xbb\xbf";

fn reader(mut file: BufReader<File>) -> Reader<Box<dyn Read + Send>> {
    if file
        .fill_buf()
        .is_ok_and(|start| start.starts_with(UTF8_MARK))
    {
        file.consume(UTF8_MARK.len());
    }
    ReaderBuilder::new()
        .flexible(true)
        .buffer_capacity(BUFFER)
        .from_reader(Box::new(file))
}

/// Why a file that starts so is no CSV text, if it is none.
fn not_text(name: &str, start: &[u8]) -> Option<Problem> {
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

fn column_names(found: &Found, header: &ByteRecord) -> Result<Vec<String>, Box<Problem>> {
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
fn positions(
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

/// The bytes before the first line break.
fn first_line(bytes: &[u8]) -> &[u8] {
    bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default()
}

/// A line as a place: the whole of it, or what stands at this byte.
fn place(name: &str, line: u64, text: &[u8], at: Option<usize>) -> Place {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let shown = &text[..text.len().min(MAX_SHOWN)];
    let source = String::from_utf8_lossy(shown).into_owned();
    let (column, width) = match at {
        Some(at) => (
            String::from_utf8_lossy(&shown[..at.min(shown.len())])
                .chars()
                .count()
                + 1,
            1,
        ),
        None => (1, source.chars().count().max(1)),
    };
    Place {
        path: name.to_owned(),
        line: usize::try_from(line).unwrap_or(usize::MAX),
        column,
        width,
        source,
    }
}
