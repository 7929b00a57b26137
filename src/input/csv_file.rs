//! A CSV file that was found sound, read as rows.

use std::fs::Metadata;
#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use csv::ByteRecord;

use super::InputError;
use super::bytes::{CsvReader, place, reader};
use super::files::Found;
use crate::job::Place;
use crate::words::{Columns, Digest, Row};

/// A file that was scanned: where it is, what it was like, and where each column stands in it.
#[derive(Debug, Clone)]
pub(super) struct CsvFile {
    pub(super) found: Found,
    pub(super) stamp: Stamp,
    pub(super) positions: Vec<usize>,
}

/// What tells that a file is still the same. Not when its inode changed last: a link made or removed
/// elsewhere changes that too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Its device and inode: another file may have the name, with the same length and time.
    #[cfg(unix)]
    file: (u64, u64),
}

impl Stamp {
    /// What a file is like now.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

impl CsvFile {
    /// Where it is, and what messages call it.
    pub(super) fn path_and_name(&self) -> (&Path, &str) {
        (&self.found.path, &self.found.name)
    }

    /// The rows of the file in order; their indexes and keys are still to come.
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
                    reader.get_mut().record_ended();
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
            reader.get_mut().record_ended();
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
        let id = match id {
            Some(column) => cells[column].clone(),
            None => format!("{}:{number}", self.found.name),
        };
        Ok(Row {
            index: 0,
            id,
            columns: Arc::clone(columns),
            cells,
            key: Digest::default(),
        })
    }

    fn reader(&self) -> Result<CsvReader, Option<InputError>> {
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
