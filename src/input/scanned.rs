//! A file that was found sound, read as rows.

use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, Position};

use super::InputError;
use super::files::Found;
use super::origin::Stamp;
use super::records::{Mended, Records};
use crate::job::Place;
use crate::words::{Columns, Digest, Row};

/// A file that was scanned: where it is, what it was like, and where each column stands in it.
#[derive(Debug, Clone)]
pub(super) struct Scanned {
    pub(super) found: Found,
    pub(super) stamp: Stamp,
    /// The columns of the file.
    pub(super) names: Arc<[String]>,
    /// Where each column of the job stands in it.
    pub(super) positions: Vec<usize>,
    /// What was left out or changed.
    pub(super) mended: Mended,
}

impl Scanned {
    /// Where it is, if that has a name, and what messages call it.
    pub(super) fn path_and_name(&self) -> Option<(&Path, &str)> {
        Some((self.found.origin.path()?, &self.found.name))
    }

    /// The rows of the file in order; their indexes and keys are still to come.
    pub(super) fn rows<'a>(
        &'a self,
        columns: &'a Arc<Columns>,
        id: Option<usize>,
    ) -> impl Iterator<Item = Result<Row, InputError>> + Send + 'a {
        let mut records = self.records().map_err(Some);
        let mut record = ByteRecord::new();
        std::iter::from_fn(move || {
            let records = match &mut records {
                Ok(records) => records,
                Err(error) => return error.take().map(Err),
            };
            match records.read(&mut record) {
                Ok(Some(Ok(()))) => Some(self.row(&record, records.number(), columns, id)),
                // The scan found every record sound, so a bad one means that the file is another now.
                Ok(Some(Err(_))) => Some(Err(self.changed_error())),
                Ok(None) => None,
                Err(source) => Some(Err(self.io(source))),
            }
        })
    }

    /// The position and the cell of a column (counted in the job's columns) of each record; stops at what
    /// cannot be read.
    pub(super) fn column(&self, column: usize) -> impl Iterator<Item = (Position, String)> + '_ {
        let mut records = self.records().ok();
        let position = self.positions[column];
        let mut record = ByteRecord::new();
        std::iter::from_fn(move || {
            let records = records.as_mut()?;
            records.read(&mut record).ok()??.ok();
            let cell = String::from_utf8_lossy(record.get(position).unwrap_or_default());
            let mut at = record.position().cloned().unwrap_or_else(Position::new);
            at.set_record(records.number());
            Some((at, cell.into_owned()))
        })
    }

    /// Where a record is, in one line.
    pub(super) fn named(&self, position: &Position) -> String {
        match self.found.has_lines() {
            true => {
                let place = self.place(position);
                format!("{}:{}", place.path, place.line)
            }
            false => format!("{}, record {}", self.found.name, position.record()),
        }
    }

    /// The line that a record starts on, as a place.
    pub(super) fn place(&self, position: &Position) -> Place {
        self.found.place(position)
    }

    /// The error that the file is not what it was when it was scanned, if so.
    pub(super) fn changed(&self) -> Option<InputError> {
        let now = self.found.origin.stamp();
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

    fn records(&self) -> Result<Records, InputError> {
        // Before the first row is asked: another file of the same shape would be paid for in vain.
        let now = self.found.origin.stored().and_then(|file| file.stamp());
        if now.map_err(|error| self.io(error))? != self.stamp {
            return Err(self.changed_error());
        }
        Records::open(&self.found, &self.names).map_err(|error| self.io(error))
    }

    fn changed_error(&self) -> InputError {
        InputError::Changed {
            path: self.found.name.clone(),
        }
    }

    fn io(&self, source: std::io::Error) -> InputError {
        InputError::Io {
            path: self.found.name.clone(),
            source,
        }
    }
}
