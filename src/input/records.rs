//! The records of a file one after the other, whatever its form, and what the job wants done about unsound ones.

use csv::ByteRecord;

use super::bytes::{CsvReader, reader};
use super::files::Found;
use super::json_lines::JsonLines;
#[cfg(feature = "parquet")]
use super::parquet_file::ParquetRecords;
use crate::job::{InputFormat, OnBadEncoding, OnRagged};

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has so many cells, and not as many as the header.
    Ragged(usize),
    /// The cell at this position is not UTF-8 text.
    NotUtf8(usize),
    /// The line is not UTF-8 text from this byte on.
    LineNotUtf8(usize),
    /// The line is not the object that it should be.
    Line {
        message: String,
        /// The byte where that shows.
        at: Option<usize>,
        help: &'static str,
    },
    /// The cell at this position holds what has no text.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code))]
    NoText(usize, &'static str),
}

/// Records that were left out or changed, because the job wants it so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Left out: too few or too many cells.
    pub(super) ragged: u64,
    /// Left out: not UTF-8.
    pub(super) not_utf8: u64,
    /// What is not UTF-8 was replaced.
    pub(super) replaced: u64,
}

impl Mended {
    /// The same in words, of a file of this name.
    pub(super) fn notices(&self, name: &str) -> Vec<String> {
        let records = |count: u64| match count {
            1 => "1 record".to_owned(),
            count => format!("{count} records"),
        };
        let counts = [
            (
                self.ragged,
                "left out: too few or too many cells (`on_ragged`)",
            ),
            (
                self.not_utf8,
                "left out: not UTF-8 text (`on_bad_encoding`)",
            ),
            (
                self.replaced,
                "changed: \u{fffd} stands for what is not UTF-8 text (`on_bad_encoding`)",
            ),
        ];
        let told = counts.into_iter().filter(|(count, _)| *count > 0);
        told.map(|(count, what)| format!("{name}: {} {what}", records(count)))
            .collect()
    }
}

/// A file that is read record by record.
pub(super) struct Records {
    form: Form,
    on_bad_encoding: OnBadEncoding,
    on_ragged: OnRagged,
    /// How many cells a record has.
    width: usize,
    number: u64,
    mended: Mended,
}

enum Form {
    Csv(CsvReader),
    JsonLines(JsonLines),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRecords>),
}

impl Records {
    /// Opens a file whose columns have these names.
    pub(super) fn open(found: &Found, names: &[String]) -> std::io::Result<Self> {
        let bytes = || found.origin.open_at(0);
        let form = match found.format {
            InputFormat::Csv | InputFormat::Tsv => Form::Csv(reader(bytes()?, found.delimiter)?),
            InputFormat::Jsonl => Form::JsonLines(JsonLines::new(bytes()?, names)?),
            #[cfg(feature = "parquet")]
            InputFormat::Parquet => Form::Parquet(Box::new(ParquetRecords::open(&found.origin)?)),
            #[cfg(not(feature = "parquet"))]
            InputFormat::Parquet => return Err(std::io::ErrorKind::Unsupported.into()),
        };
        Ok(Self {
            form,
            on_bad_encoding: found.on_bad_encoding,
            on_ragged: found.on_ragged,
            width: names.len(),
            number: 0,
            mended: Mended::default(),
        })
    }

    /// Reads the next record, or what is wrong with it; `None` at the end.
    pub(super) fn read(
        &mut self,
        record: &mut ByteRecord,
    ) -> std::io::Result<Option<Result<(), Fault>>> {
        loop {
            let Some(read) = self.read_any(record)? else {
                return Ok(None);
            };
            self.number += 1;
            let Err(fault) = read else {
                return Ok(Some(read));
            };
            match (&fault, self.on_ragged, self.on_bad_encoding) {
                (Fault::Ragged(_), OnRagged::Skip, _) => self.mended.ragged += 1,
                (Fault::NotUtf8(_) | Fault::LineNotUtf8(_), _, OnBadEncoding::Skip) => {
                    self.mended.not_utf8 += 1;
                }
                (Fault::NotUtf8(_), _, OnBadEncoding::Replace) => {
                    self.mended.replaced += 1;
                    *record = replaced(record);
                    return Ok(Some(Ok(())));
                }
                (Fault::LineNotUtf8(_), _, OnBadEncoding::Replace) => {
                    self.mended.replaced += 1;
                    return Ok(Some(self.reread_line(record)));
                }
                _ => return Ok(Some(Err(fault))),
            }
        }
    }

    /// The number of the record that was read last, counted from 1 over all of the file.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What was left out or changed so far.
    pub(super) fn mended(&self) -> Mended {
        self.mended
    }

    /// Where the reader stands.
    pub(super) fn position(&self) -> csv::Position {
        match &self.form {
            Form::Csv(reader) => reader.position().clone(),
            Form::JsonLines(lines) => lines.position(),
            #[cfg(feature = "parquet")]
            Form::Parquet(_) => csv::Position::new(),
        }
    }

    fn read_any(&mut self, record: &mut ByteRecord) -> std::io::Result<Option<Result<(), Fault>>> {
        match &mut self.form {
            Form::Csv(reader) => {
                if !reader.read_byte_record(record)? {
                    return Ok(None);
                }
                reader.get_mut().record_ended();
                Ok(Some(sound(record, self.width)))
            }
            Form::JsonLines(lines) => lines.read(record),
            #[cfg(feature = "parquet")]
            Form::Parquet(records) => records.read(record),
        }
    }

    fn reread_line(&mut self, record: &mut ByteRecord) -> Result<(), Fault> {
        match &mut self.form {
            Form::JsonLines(lines) => lines.replaced(record),
            _ => Ok(()),
        }
    }
}

pub(super) fn sound(record: &ByteRecord, width: usize) -> Result<(), Fault> {
    if record.len() != width {
        return Err(Fault::Ragged(record.len()));
    }
    if record.as_slice().is_ascii() {
        return Ok(());
    }
    match record
        .iter()
        .position(|cell| std::str::from_utf8(cell).is_err())
    {
        Some(cell) => Err(Fault::NotUtf8(cell)),
        None => Ok(()),
    }
}

fn replaced(record: &ByteRecord) -> ByteRecord {
    let mut replaced = ByteRecord::new();
    replaced.set_position(record.position().cloned());
    for cell in record {
        replaced.push_field(String::from_utf8_lossy(cell).as_bytes());
    }
    replaced
}
