//! The bytes of an input file: where a record starts, what its line looks like, how CSV is read.

use std::io::Read;

use csv::{Position, Reader, ReaderBuilder};

use super::files::Found;
use super::origin::{BUFFER, Unpacked, skip_mark};
use crate::job::Place;

/// How much of a line is shown.
pub(super) const MAX_SHOWN: usize = 400;
/// The largest record, in bytes of the file.
pub(super) const MAX_RECORD: usize = 64 << 20;
/// The most cells of a record: each takes more memory than the delimiter that makes it.
const MAX_CELLS: usize = 1_000_000;
const UNCLOSED: &str = " (is a quote never closed?)";
/// What some editors put before UTF-8 text.
pub(super) const UTF8_MARK: &[u8; 3] = b"\xef\xbb\xbf";

impl Found {
    /// The length of the byte order mark, which offsets do not count.
    pub(super) fn mark(&self) -> u64 {
        let start = self.origin.start(UTF8_MARK.len()).unwrap_or_default();
        match start == *UTF8_MARK {
            true => UTF8_MARK.len() as u64,
            false => 0,
        }
    }

    /// At most so many bytes from an offset, which does not count the mark.
    pub(super) fn bytes_at(&self, offset: u64, most: usize) -> std::io::Result<Vec<u8>> {
        let bytes = self.origin.open_at(offset + self.mark())?;
        let mut read = Vec::new();
        bytes.take(most as u64).read_to_end(&mut read)?;
        Ok(read)
    }

    /// The line that a record starts on, as a place.
    pub(super) fn place(&self, position: &Position) -> Place {
        let (line, text) = self.line_at(position);
        place(&self.name, line, &text, None)
    }

    /// The number and the text of the line that a record starts on. The reader's position may point
    /// before the line breaks that stand in front of the record.
    pub(super) fn line_at(&self, position: &Position) -> (u64, Vec<u8>) {
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

/// A CSV reader over a file whose records are of bounded size.
pub(super) type CsvReader = Reader<Capped>;

/// A file that fails when too much of it is read without the end of a record: the CSV reader keeps a
/// whole record in memory, and a quote that is never closed makes the rest of the file one record.
pub(super) struct Capped {
    bytes: Unpacked,
    delimiter: u8,
    since: usize,
    /// How many delimiters there were since then.
    cells: usize,
}

impl Capped {
    /// A record has ended.
    pub(super) fn record_ended(&mut self) {
        (self.since, self.cells) = (0, 0);
    }
}

impl Read for Capped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.since += read;
        if self.since > MAX_RECORD {
            return Err(too_large(UNCLOSED));
        }
        let is_delimiter = |byte: &&u8| **byte == self.delimiter;
        self.cells += buffer[..read].iter().filter(is_delimiter).count();
        if self.cells > MAX_CELLS {
            let message = format!("a record has more than {MAX_CELLS} cells{UNCLOSED}");
            return Err(std::io::Error::other(message));
        }
        Ok(read)
    }
}

/// The error of a record that is larger than any may be.
pub(super) fn too_large(question: &str) -> std::io::Error {
    let most = MAX_RECORD >> 20;
    std::io::Error::other(format!("a record is larger than {most} MiB{question}"))
}

/// A reader that starts behind the byte order mark, if there is one.
pub(super) fn reader(mut bytes: Unpacked, delimiter: u8) -> std::io::Result<CsvReader> {
    skip_mark(&mut bytes, UTF8_MARK)?;
    let capped = Capped {
        bytes,
        delimiter,
        since: 0,
        cells: 0,
    };
    Ok(ReaderBuilder::new()
        .flexible(true)
        .delimiter(delimiter)
        .buffer_capacity(BUFFER)
        .from_reader(capped))
}

/// The bytes before the first line break.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default()
}

/// A line as a place: the whole of it, or what stands at this byte.
pub(super) fn place(name: &str, line: u64, text: &[u8], at: Option<usize>) -> Place {
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

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;

    fn open(file: &tempfile::NamedTempFile) -> CsvReader {
        let origin = Origin::File(file.path().to_owned());
        reader(origin.open_at(0).unwrap(), b',').unwrap()
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_take_all_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut text = b"text\n\"".to_vec();
        text.resize(MAX_RECORD + 2 * BUFFER, b'x');
        std::fs::write(file.path(), text).unwrap();
        let mut record = csv::ByteRecord::new();
        let error = open(&file).read_byte_record(&mut record).unwrap_err();
        assert!(error.to_string().contains("never closed"), "{error}");
    }

    #[test]
    fn many_records_together_may_be_larger_than_one() {
        let line = vec![b'x'; 4 << 20];
        let text = [&line[..], b"\n"].concat().repeat(20);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut reader = open(&file);
        let mut record = csv::ByteRecord::new();
        let mut records = 0;
        while reader.read_byte_record(&mut record).unwrap() {
            reader.get_mut().record_ended();
            records += 1;
        }
        assert_eq!(records, 19, "the first is the header");
    }
}
