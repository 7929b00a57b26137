//! Parquet: flat columns, read a few records at a time.

use std::io::BufReader;

use bytes::Bytes;
use csv::ByteRecord;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;

use super::files::Found;
use super::guard::guarded;
use super::origin::{BUFFER, Origin, Stored};
use super::parquet_text::{Kind, Unit};
use super::records::{Fault, sound};
use crate::job::Problem;

/// How many records are read at once.
const AT_ONCE: usize = 256;
/// The largest piece that is read at once: a page of a column, or what stands at the end of the file.
const MAX_PIECE: usize = 1 << 30;

type Cell = Result<Vec<u8>, &'static str>;

/// The names of a file's columns, all of which can be read.
pub(super) fn column_names(found: &Found) -> Result<Vec<String>, Box<Problem>> {
    let file = open(&found.origin).map_err(|error| found.unreadable(&error))?;
    let schema = file.metadata().file_metadata().schema_descr();
    let is_nested =
        |column: &ColumnDescriptor| column.path().parts().len() > 1 || column.max_rep_level() > 0;
    let mut names = Vec::new();
    for column in schema.columns() {
        let name = column.path().parts().first().cloned().unwrap_or_default();
        let shown = name.escape_debug();
        if is_nested(column) {
            let message = format!("column `{shown}` of {} is nested", found.name);
            return Err(Box::new(Problem::new(message).help(
                "a cell is one value: leave the column out, or write it as JSON text, for example with DuckDB's to_json",
            )));
        }
        if kind(column).is_none() {
            let message = format!(
                "column `{shown}` of {} holds values of a type that has no text",
                found.name
            );
            return Err(Box::new(
                Problem::new(message).help("leave the column out, or write it as text"),
            ));
        }
        names.push(name);
    }
    Ok(names)
}

/// A file that is read record by record.
pub(super) struct ParquetRecords {
    file: SerializedFileReader<Stored>,
    /// The part of the file that comes next.
    next_group: usize,
    /// How many records of the part are still to be read.
    left: usize,
    columns: Vec<(Kind, ColumnReader)>,
    /// The cells of the columns of the records that were read ahead.
    ahead: Vec<Vec<Cell>>,
    at: usize,
}

impl ParquetRecords {
    /// Opens a file.
    pub(super) fn open(origin: &Origin) -> std::io::Result<Self> {
        Ok(Self {
            file: open(origin).map_err(damaged)?,
            next_group: 0,
            left: 0,
            columns: Vec::new(),
            ahead: Vec::new(),
            at: 0,
        })
    }

    /// Reads the next record; `None` at the end.
    pub(super) fn read(
        &mut self,
        record: &mut ByteRecord,
    ) -> std::io::Result<Option<Result<(), Fault>>> {
        record.clear();
        record.set_position(None);
        if self
            .ahead
            .first()
            .is_none_or(|cells| self.at == cells.len())
            && !self.read_ahead()?
        {
            return Ok(None);
        }
        let mut fault = None;
        for (position, cells) in self.ahead.iter().enumerate() {
            match &cells[self.at] {
                Ok(text) => record.push_field(text),
                Err(why) => {
                    record.push_field(b"");
                    fault = Some(Fault::NoText(position, why));
                }
            }
        }
        self.at += 1;
        Ok(Some(match fault {
            Some(fault) => Err(fault),
            None => sound(record, self.ahead.len()),
        }))
    }

    /// Reads records ahead; `false` at the end of the file.
    fn read_ahead(&mut self) -> std::io::Result<bool> {
        let read = guarded(|| self.try_read_ahead());
        read.unwrap_or_else(|| Err(broken())).map_err(damaged)
    }

    fn try_read_ahead(&mut self) -> Result<bool, ParquetError> {
        self.at = 0;
        while self.left == 0 {
            if self.next_group == self.file.num_row_groups() {
                return Ok(false);
            }
            self.open_group()?;
        }
        let count = self.left.min(AT_ONCE);
        self.ahead.clear();
        for (kind, column) in &mut self.columns {
            let cells = cells(column, kind, count)?;
            if cells.len() != count {
                return Err(ParquetError::EOF("a column ends too early".to_owned()));
            }
            self.ahead.push(cells);
        }
        self.left -= count;
        Ok(!self.ahead.is_empty())
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        self.left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let schema = self.file.metadata().file_metadata().schema_descr();
        self.columns.clear();
        for (position, column) in schema.columns().iter().enumerate() {
            let kind = kind(column);
            let kind = kind.ok_or_else(|| ParquetError::NYI("another type".to_owned()))?;
            self.columns
                .push((kind, group.get_column_reader(position)?));
        }
        Ok(())
    }
}

fn open(origin: &Origin) -> Result<SerializedFileReader<Stored>, ParquetError> {
    let stored = origin.stored().map_err(ParquetError::from)?;
    guarded(|| SerializedFileReader::new(stored)).unwrap_or_else(|| Err(broken()))
}

/// The error of a file over which its reader panics.
fn broken() -> ParquetError {
    ParquetError::General("the file is cut or damaged".to_owned())
}

fn damaged(error: ParquetError) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// Reads so many cells of a column.
fn cells(column: &mut ColumnReader, kind: &Kind, count: usize) -> Result<Vec<Cell>, ParquetError> {
    let bytes = |text: Option<String>| text.map(String::into_bytes).ok_or("is out of range");
    match column {
        ColumnReader::BoolColumnReader(column) => {
            values(column, count, |value| Ok(value.to_string().into_bytes()))
        }
        ColumnReader::Int32ColumnReader(column) => {
            values(column, count, |value| bytes(kind.whole(i64::from(*value))))
        }
        ColumnReader::Int64ColumnReader(column) => {
            values(column, count, |value| bytes(kind.whole(*value)))
        }
        ColumnReader::Int96ColumnReader(column) => values(column, count, |value| {
            // Nanoseconds of a day, and a day by the count of astronomers.
            let [low, high, day] = [0, 1, 2].map(|at| i128::from(value.data()[at]));
            let nanoseconds = (day - 2_440_588) * 86_400_000_000_000 + (high << 32) + low;
            bytes(kind.instant(nanoseconds))
        }),
        ColumnReader::FloatColumnReader(column) => {
            values(column, count, |value| Ok(format!("{value:?}").into_bytes()))
        }
        ColumnReader::DoubleColumnReader(column) => {
            values(column, count, |value| Ok(format!("{value:?}").into_bytes()))
        }
        ColumnReader::ByteArrayColumnReader(column) => {
            values(column, count, |value| kind.bytes(value.data()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(column) => {
            values(column, count, |value| kind.bytes(value.as_bytes()))
        }
    }
}

fn values<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    count: usize,
    text: impl Fn(&T::T) -> Cell,
) -> Result<Vec<Cell>, ParquetError> {
    let (mut levels, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (records, _, _) = column.read_records(count, Some(&mut levels), None, &mut values)?;
    if levels.is_empty() {
        return Ok(values.iter().map(text).collect());
    }
    // Of a flat column: 1 where there is a value.
    let mut values = values.iter();
    let cells = levels.iter().take(records).map(|level| match level {
        0 => Ok(Vec::new()),
        _ => values.next().map_or(Err("is missing"), &text),
    });
    Ok(cells.collect())
}

/// What the values of a column mean; `None` for what has no text.
fn kind(column: &ColumnDescriptor) -> Option<Kind> {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => Unit::Milli,
        TimeUnit::MICROS => Unit::Micro,
        TimeUnit::NANOS => Unit::Nano,
    };
    // As many places as a decimal of 16 bytes can have.
    let decimal = |scale: i32| {
        (0..=38)
            .contains(&scale)
            .then_some(Kind::Decimal(scale as usize))
    };
    let physical = column.physical_type();
    let is_whole = matches!(physical, Physical::INT32 | Physical::INT64);
    let is_text = physical == Physical::BYTE_ARRAY;
    let kind = match column.logical_type_ref() {
        Some(LogicalType::Decimal(of)) => return decimal(of.scale),
        Some(LogicalType::Date) => Kind::Date,
        Some(LogicalType::Time(of)) => Kind::Time(unit(&of.unit)),
        Some(LogicalType::Timestamp(of)) => {
            Kind::Timestamp(unit(&of.unit), of.is_adjusted_to_u_t_c)
        }
        Some(LogicalType::Integer(of)) if !of.is_signed && physical == Physical::INT32 => {
            Kind::Unsigned32
        }
        Some(LogicalType::Integer(of)) if !of.is_signed => Kind::Unsigned64,
        Some(LogicalType::Uuid) => Kind::Uuid,
        Some(LogicalType::Float16) => return None,
        _ => match column.converted_type() {
            ConvertedType::DECIMAL => return decimal(column.type_scale()),
            ConvertedType::DATE => Kind::Date,
            ConvertedType::TIME_MILLIS => Kind::Time(Unit::Milli),
            ConvertedType::TIME_MICROS => Kind::Time(Unit::Micro),
            ConvertedType::TIMESTAMP_MILLIS => Kind::Timestamp(Unit::Milli, true),
            ConvertedType::TIMESTAMP_MICROS => Kind::Timestamp(Unit::Micro, true),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 => {
                Kind::Unsigned32
            }
            ConvertedType::UINT_64 => Kind::Unsigned64,
            ConvertedType::INTERVAL => return None,
            _ => Kind::Plain,
        },
    };
    let fits = match kind {
        Kind::Plain => true,
        Kind::Uuid => !is_text && !is_whole,
        _ => is_whole,
    };
    fits.then_some(kind)
}

impl Length for Stored {
    fn len(&self) -> u64 {
        self.length().unwrap_or(0)
    }
}

impl ChunkReader for Stored {
    type T = BufReader<Stored>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::with_capacity(BUFFER, self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        // A damaged file may ask for any amount of memory.
        if length > MAX_PIECE || end.is_none_or(|end| end > self.len()) {
            return Err(broken());
        }
        let mut bytes = vec![0; length];
        std::io::Read::read_exact(&mut self.from(start), &mut bytes)?;
        Ok(bytes.into())
    }
}
