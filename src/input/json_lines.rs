//! JSON Lines: an object on each line. The keys of all of them are the columns.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Read};

use csv::{ByteRecord, Position};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::bytes::{MAX_RECORD, UTF8_MARK, too_large};
use super::origin::{Unpacked, skip_mark};
use super::records::Fault;

/// How many different keys the objects of a file may have.
const MAX_KEYS: usize = 4096;
/// How deep a value may be nested: what other readers of JSON allow.
const MAX_DEPTH: usize = 128;

const ONE_A_LINE: &str =
    "JSON Lines has one whole object on each line; for example: jq -c . in.json > out.jsonl";
const NO_ARRAY: &str =
    "this is a JSON array; make lines of it, for example: jq -c '.[]' in.json > out.jsonl";

/// The lines of a file, one after the other.
pub(super) struct JsonLines {
    bytes: Unpacked,
    line: Vec<u8>,
    /// Where the line starts, and its number.
    start: (u64, u64),
    /// Where the next one starts, and how many there were.
    next: (u64, u64),
    columns: Keys,
    /// The text of each column on this line.
    cells: Vec<Option<String>>,
}

/// The keys that are known, and where their cells stand.
#[derive(Default)]
struct Keys {
    names: Vec<String>,
    positions: HashMap<String, usize>,
    /// Whether a key that is not known becomes one.
    grow: bool,
}

/// Reads every line and returns the keys of the objects in the order in which they are seen first. What is wrong with a
/// line is for a later look; what is not UTF-8 text is replaced if the records will be read so.
pub(super) fn keys(bytes: Unpacked, replace: bool) -> std::io::Result<Vec<String>> {
    let mut lines = JsonLines::new(bytes, &[])?;
    lines.columns.grow = true;
    while lines.next_line()? {
        let text = String::from_utf8_lossy(&lines.line);
        if replace || matches!(text, Cow::Borrowed(_)) {
            let _ = object(&text, &mut lines.columns, &mut lines.cells);
        }
        if lines.columns.names.len() > MAX_KEYS {
            let line = lines.start.1;
            let message =
                format!("up to line {line} there are more than {MAX_KEYS} different keys");
            return Err(std::io::Error::other(message));
        }
    }
    Ok(lines.columns.names)
}

/// Whether there are lines, and none that is UTF-8 text.
pub(super) fn none_is_utf8(bytes: Unpacked) -> std::io::Result<bool> {
    let mut lines = JsonLines::new(bytes, &[])?;
    let mut some = false;
    while lines.next_line()? {
        if std::str::from_utf8(&lines.line).is_ok() {
            return Ok(false);
        }
        some = true;
    }
    Ok(some)
}

impl JsonLines {
    /// The lines of a file whose objects have at most these keys.
    pub(super) fn new(mut bytes: Unpacked, names: &[String]) -> std::io::Result<Self> {
        skip_mark(&mut bytes, UTF8_MARK)?;
        let mut columns = Keys::default();
        names.iter().for_each(|name| columns.add(name.clone()));
        Ok(Self {
            bytes,
            line: Vec::new(),
            start: (0, 1),
            next: (0, 1),
            columns,
            cells: Vec::new(),
        })
    }

    /// Reads the next line that is not blank; `None` at the end.
    pub(super) fn read(
        &mut self,
        record: &mut ByteRecord,
    ) -> std::io::Result<Option<Result<(), Fault>>> {
        record.clear();
        if !self.next_line()? {
            return Ok(None);
        }
        record.set_position(Some(self.position()));
        let Self {
            line,
            columns,
            cells,
            ..
        } = self;
        let read = match std::str::from_utf8(line) {
            Ok(text) => object(text, columns, cells),
            Err(error) => Err(Fault::LineNotUtf8(error.valid_up_to())),
        };
        Ok(Some(read.map(|()| fill(record, cells))))
    }

    /// The line that was read last, with `\u{fffd}` for what is not UTF-8.
    pub(super) fn replaced(&mut self, record: &mut ByteRecord) -> Result<(), Fault> {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        object(&text, &mut self.columns, &mut self.cells)?;
        fill(record, &self.cells);
        Ok(())
    }

    /// Where the line starts that was read last.
    pub(super) fn position(&self) -> Position {
        let (byte, line) = self.start;
        let mut position = Position::new();
        position.set_byte(byte).set_line(line);
        position
    }

    fn next_line(&mut self) -> std::io::Result<bool> {
        loop {
            self.line.clear();
            self.start = self.next;
            let most = MAX_RECORD as u64 + 1;
            let read = (&mut self.bytes)
                .take(most)
                .read_until(b'\n', &mut self.line)?;
            if read > MAX_RECORD {
                return Err(too_large(""));
            }
            self.next = (self.start.0 + read as u64, self.start.1 + 1);
            if read == 0 {
                return Ok(false);
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

impl Keys {
    fn add(&mut self, name: String) {
        self.positions.insert(name.clone(), self.names.len());
        self.names.push(name);
    }
}

fn fill(record: &mut ByteRecord, cells: &[Option<String>]) {
    for cell in cells {
        record.push_field(cell.as_deref().unwrap_or_default().as_bytes());
    }
}

/// Reads an object: the text of each column, of the keys that it has.
fn object(text: &str, columns: &mut Keys, cells: &mut Vec<Option<String>>) -> Result<(), Fault> {
    cells.clear();
    cells.resize(columns.names.len(), None);
    let mut wrong = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let entries = Entries {
        columns,
        cells,
        wrong: &mut wrong,
    };
    let read = entries.deserialize(&mut json).and_then(|()| json.end());
    match (wrong, read) {
        (Some(message), _) => Err(Fault::Line {
            message,
            at: None,
            help: "rename or remove it",
        }),
        (None, Err(error)) => Err(not_json(text, &error)),
        (None, Ok(())) => Ok(()),
    }
}

fn not_json(text: &str, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let (message, help) = match text.trim_ascii_start().bytes().next() {
        Some(b'[') => ("a line is an array and no object".to_owned(), NO_ARRAY),
        Some(b'{') => (format!("a line is not a JSON object: {said}"), ONE_A_LINE),
        _ => ("a line is not a JSON object".to_owned(), ONE_A_LINE),
    };
    let at = error.column().saturating_sub(1);
    let at = message.contains(':').then_some(at.min(text.len()));
    Fault::Line { message, at, help }
}

/// Reads the entries of an object into the cells of their columns.
struct Entries<'a> {
    columns: &'a mut Keys,
    cells: &'a mut Vec<Option<String>>,
    /// What is wrong although it is JSON.
    wrong: &'a mut Option<String>,
}

impl Entries<'_> {
    fn entry(&mut self, key: String, value: &RawValue) -> Result<(), serde_json::Error> {
        let position = match self.columns.positions.get(&key) {
            Some(position) => *position,
            // Enough to be told; a line may hold millions.
            None if self.columns.grow && self.columns.names.len() > MAX_KEYS => {
                return Err(serde::de::Error::custom("too many keys"));
            }
            None if self.columns.grow => {
                self.columns.add(key.clone());
                self.cells.push(None);
                self.cells.len() - 1
            }
            None => {
                *self.wrong = Some(format!("the key `{}` is new", key.escape_debug()));
                return Ok(());
            }
        };
        if self.cells[position].is_some() {
            let message = format!("the object has the key `{}` twice", key.escape_debug());
            *self.wrong = Some(message);
        }
        let Some(text) = text_of(value.get())? else {
            let key = key.escape_debug();
            *self.wrong = Some(format!(
                "the value of `{key}` is nested more than {MAX_DEPTH} deep"
            ));
            return Ok(());
        };
        self.cells[position] = Some(text);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            let read = self.entry(key, value);
            read.map_err(|error| {
                let said = error.to_string();
                let said = said.split(" at line ").next().unwrap_or_default();
                serde::de::Error::custom(said)
            })?;
        }
        Ok(())
    }
}

/// A value as a cell: a text as it is, `null` as nothing, everything else as it is written, without what only
/// lays it out. `None` if it is nested too deep.
fn text_of(value: &str) -> Result<Option<String>, serde_json::Error> {
    match value.bytes().next() {
        Some(b'"') => serde_json::from_str(value).map(Some),
        Some(b'n') => Ok(Some(String::new())),
        Some(b'{' | b'[') => Ok(compact(value)),
        _ => Ok(Some(value.to_owned())),
    }
}

/// The value without white space between its parts. Its texts and numbers stay as they are written.
fn compact(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let (mut in_text, mut is_escaped, mut depth) = (false, false, 0_usize);
    for character in value.chars() {
        if in_text {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            in_text = !ends;
        } else {
            match character {
                ' ' | '\t' | '\r' | '\n' => continue,
                '"' => in_text = true,
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return None;
            }
        }
        out.push(character);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Result<Vec<(String, String)>, String> {
        let mut columns = Keys {
            grow: true,
            ..Keys::default()
        };
        let mut cells = Vec::new();
        match object(line, &mut columns, &mut cells) {
            Ok(()) => Ok(columns
                .names
                .into_iter()
                .zip(cells.into_iter().map(Option::unwrap_or_default))
                .collect()),
            Err(Fault::Line { message, .. }) => Err(message),
            Err(fault) => Err(format!("{fault:?}")),
        }
    }

    #[test]
    fn a_value_is_the_text_that_a_person_would_copy() {
        for (value, text) in [
            (r#""a\n\"é\u00e9\ud83d\ude00""#, "a\n\"éé😀"),
            ("0.10", "0.10"),
            ("-1e-400", "-1e-400"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("true", "true"),
            ("null", ""),
            ("\"\"", ""),
            (
                r#"{ "b" : [ 1.0, null ], "a" : " { \" [ \\" }"#,
                r#"{"b":[1.0,null],"a":" { \" [ \\"}"#,
            ),
        ] {
            let read = texts(&format!("{{\"x\": {value} }}"));
            assert_eq!(read, Ok(vec![("x".to_owned(), text.to_owned())]), "{value}");
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        let nested =
            |depth: usize| format!("{{\"x\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(texts(&nested(MAX_DEPTH)).is_ok());
        for (line, message) in [
            ("[{}]", "a line is an array and no object"),
            ("3", "a line is not a JSON object"),
            ("{\"x\": 01}", "a line is not a JSON object: invalid number"),
            (
                "{\"x\": 1} {}",
                "a line is not a JSON object: trailing characters",
            ),
            (
                "{",
                "a line is not a JSON object: EOF while parsing an object",
            ),
            (
                r#"{"x": 1, "y": 2, "x": 3}"#,
                "the object has the key `x` twice",
            ),
            (
                r#"{"x": 1, "\u0078": 2}"#,
                "the object has the key `x` twice",
            ),
            (
                r#"{"x": "\ud800"}"#,
                "a line is not a JSON object: unexpected end of hex escape",
            ),
            (
                &nested(MAX_DEPTH + 1),
                "the value of `x` is nested more than 128 deep",
            ),
            (
                &nested(1_000_000),
                "the value of `x` is nested more than 128 deep",
            ),
        ] {
            let start: String = line.chars().take(40).collect();
            assert_eq!(texts(line), Err(message.to_owned()), "{start}");
        }
    }
}
