//! Parquet: flat columns, read a record at a time.

use std::io::{BufReader, Read};

use bytes::Bytes;
use csv::ByteRecord;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;

use super::bytes::{MAX_RECORD, too_large};
use super::files::Found;
use super::guard::guarded;
use super::origin::{BUFFER, Origin, Stored};
use super::parquet_text::{Kind, Unit};
use super::records::{Fault, sound};
use crate::job::Problem;

/// The largest piece that is read at once: a page of a column, packed or not, or what stands at the end of the file.
const MAX_PIECE: usize = 256 << 20;
/// More than the fields of a page's header take that tell its size.
const PAGE_START: u64 = 24;

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
}

impl ParquetRecords {
    /// Opens a file.
    pub(super) fn open(origin: &Origin) -> std::io::Result<Self> {
        Ok(Self {
            file: open(origin).map_err(damaged)?,
            next_group: 0,
            left: 0,
            columns: Vec::new(),
        })
    }

    /// Reads the next record; `None` at the end.
    pub(super) fn read(
        &mut self,
        record: &mut ByteRecord,
    ) -> std::io::Result<Option<Result<(), Fault>>> {
        record.clear();
        record.set_position(None);
        let read = guarded(|| self.cells());
        let cells = read.unwrap_or_else(|| Err(broken())).map_err(damaged)?;
        let Some(cells) = cells else {
            return Ok(None);
        };
        let lengths = cells.iter().flatten().map(Vec::len);
        if lengths.sum::<usize>() > MAX_RECORD {
            return Err(too_large(""));
        }
        let mut fault = None;
        for (position, cell) in cells.iter().enumerate() {
            match cell {
                Ok(text) => record.push_field(text),
                Err(why) => {
                    record.push_field(b"");
                    fault = Some(Fault::NoText(position, why));
                }
            }
        }
        Ok(Some(match fault {
            Some(fault) => Err(fault),
            None => sound(record, cells.len()),
        }))
    }

    /// Reads the cells of the next record; `None` at the end of the file. Never more than one record: how much memory
    /// the next ones take cannot be known, and a small file may have a dictionary of large values that each of them names.
    fn cells(&mut self) -> Result<Option<Vec<Cell>>, ParquetError> {
        while self.left == 0 {
            if self.next_group == self.file.num_row_groups() {
                return Ok(None);
            }
            self.open_group()?;
        }
        self.left -= 1;
        let columns = self.columns.iter_mut();
        let cells = columns.map(|(kind, column)| cell(column, kind));
        cells.collect::<Result<_, _>>().map(Some)
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        self.left = usize::try_from(group.metadata().num_rows())?;
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
    let file = guarded(|| SerializedFileReader::new(stored)).unwrap_or_else(|| Err(broken()))?;
    match agrees(&file) {
        true => Ok(file),
        false => Err(broken()),
    }
}

/// Whether what the end of the file says of its rows agrees: a damaged number must not make a shorter file of it.
fn agrees(file: &SerializedFileReader<Stored>) -> bool {
    let mut left = file.metadata().file_metadata().num_rows();
    for group in file.metadata().row_groups() {
        let rows = group.num_rows();
        let mut columns = group.columns().iter();
        let is_whole = columns
            .all(|column| column.num_values() == rows || column.column_descr().max_rep_level() > 0);
        if !is_whole || !(0..=left).contains(&rows) {
            return false;
        }
        left -= rows;
    }
    left == 0
}

/// The error of a file over which its reader panics.
fn broken() -> ParquetError {
    ParquetError::General("the file is cut or damaged".to_owned())
}

fn damaged(error: ParquetError) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// Reads the next cell of a column.
fn cell(column: &mut ColumnReader, kind: &Kind) -> Result<Cell, ParquetError> {
    let bytes = |text: Option<String>| text.map(String::into_bytes).ok_or("is out of range");
    match column {
        ColumnReader::BoolColumnReader(column) => {
            value(column, |value| Ok(value.to_string().into_bytes()))
        }
        ColumnReader::Int32ColumnReader(column) => {
            value(column, |value| bytes(kind.whole(i64::from(*value))))
        }
        ColumnReader::Int64ColumnReader(column) => value(column, |value| bytes(kind.whole(*value))),
        ColumnReader::Int96ColumnReader(column) => value(column, |value| {
            // Nanoseconds of a day, and a day by the count of astronomers.
            let [low, high, day] = [0, 1, 2].map(|at| i128::from(value.data()[at]));
            let nanoseconds = (day - 2_440_588) * 86_400_000_000_000 + (high << 32) + low;
            bytes(kind.instant(nanoseconds))
        }),
        ColumnReader::FloatColumnReader(column) => {
            value(column, |value| Ok(format!("{value:?}").into_bytes()))
        }
        ColumnReader::DoubleColumnReader(column) => {
            value(column, |value| Ok(format!("{value:?}").into_bytes()))
        }
        ColumnReader::ByteArrayColumnReader(column) => {
            value(column, |value| kind.bytes(value.data()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(column) => {
            value(column, |value| kind.bytes(value.as_bytes()))
        }
    }
}

fn value<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    text: impl Fn(&T::T) -> Cell,
) -> Result<Cell, ParquetError> {
    let (mut levels, mut values) = (Vec::with_capacity(1), Vec::with_capacity(1));
    let (records, _, _) = column.read_records(1, Some(&mut levels), None, &mut values)?;
    // Of a flat column: 1 where there is a value, or nothing if there always is one.
    match (records, values.first(), levels.first()) {
        (1, Some(value), _) => Ok(text(value)),
        (1, None, Some(0)) => Ok(Ok(Vec::new())),
        _ => Err(ParquetError::EOF("a column ends too early".to_owned())),
    }
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

/// What a page's header says that the page takes when it is unpacked: the second of its fields, in Thrift's compact
/// form. The reader of pages believes it and tells nobody.
fn unpacked_size(header: &[u8]) -> Option<u64> {
    // A field that follows the one before and holds a whole number.
    const NEXT: u8 = 0x15;
    let after_kind = header.strip_prefix(&[NEXT])?.get(1..)?;
    let size = after_kind.strip_prefix(&[NEXT])?;
    let end = size.iter().position(|byte| byte & 0x80 == 0)?;
    let digits = size[..=end.min(9)].iter().rev();
    let twice = digits.fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some(twice >> 1)
}

impl Length for Stored {
    fn len(&self) -> u64 {
        self.length().unwrap_or(0)
    }
}

impl ChunkReader for Stored {
    type T = BufReader<Stored>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut first = Vec::new();
        self.from(start).take(PAGE_START).read_to_end(&mut first)?;
        if unpacked_size(&first).is_some_and(|size| size > MAX_PIECE as u64) {
            let most = MAX_PIECE >> 20;
            let message = format!("a page of a column is larger than {most} MiB");
            return Err(ParquetError::General(message));
        }
        Ok(BufReader::with_capacity(BUFFER, self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        // A damaged file may ask for any amount of memory.
        if length > MAX_PIECE || end.is_none_or(|end| end > self.len()) {
            return Err(broken());
        }
        let mut bytes = vec![0; length];
        self.from(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
