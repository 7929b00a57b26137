//! From words to the lines of the tables and back. A line carries a sum over its columns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Error, Row as Record, Statement, params};
use serde::de::DeserializeOwned;

use crate::words::{Attempt, AttemptKind, Cost, Digest, ErrorClass, Tariff, Usage, Usd};

/// Binds the columns that have no part in the sum, those that do, and the sum; runs the statement.
pub(super) fn put(
    statement: &mut Statement<'_>,
    free: &[&dyn ToSql],
    summed: &[&dyn ToSql],
) -> Result<(), Error> {
    let mut sum = Sum::new();
    let all = free.iter().map(|value| (value, false));
    let all = all.chain(summed.iter().map(|value| (value, true)));
    for (position, (value, counts)) in (1..).zip(all) {
        let value = value.to_sql()?;
        if counts {
            sum.add(match &value {
                ToSqlOutput::Borrowed(value) => *value,
                ToSqlOutput::Owned(value) => ValueRef::from(value),
                _ => unreachable!("only plain values are bound"),
            });
        }
        statement.raw_bind_parameter(position, value)?;
    }
    statement.raw_bind_parameter(free.len() + summed.len() + 1, sum.value())?;
    statement.raw_execute().map(drop)
}

/// Makes sure that the columns from one on, up to the sum's, are as they were stored in this table.
pub(super) fn check(
    record: &Record<'_>,
    table: &str,
    from: usize,
    sum: usize,
) -> Result<(), Error> {
    let mut found = Sum::new();
    for column in from..sum {
        found.add(record.get_ref(column)?);
    }
    match record.get::<_, i64>(sum)? == found.value() {
        true => Ok(()),
        false => {
            let what = format!(
                "{} is damaged or was edited: its sum is another",
                name(record, table)
            );
            Err(unreadable(sum, &what))
        }
    }
}

/// What a line is called: `the line of attempts with row 3, entry 1, repeat 1, attempt 2`.
fn name(record: &Record<'_>, table: &str) -> String {
    let statement: &Statement<'_> = record.as_ref();
    let mut keys = Vec::new();
    for (position, column) in statement.column_names().enumerate() {
        if let ("row" | "entry" | "repeat" | "attempt", Ok(ValueRef::Integer(value))) =
            (column, record.get_ref(position))
        {
            keys.push(format!("{column} {value}"));
        }
    }
    format!("the line of {table} with {}", keys.join(", "))
}

/// What a line's columns come to.
struct Sum(Vec<u8>);

impl Sum {
    fn new() -> Self {
        // Most lines fit.
        Self(Vec::with_capacity(512))
    }

    fn add(&mut self, value: ValueRef<'_>) {
        let (tag, bytes): (u8, &[u8]) = match &value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => (1, &number.to_le_bytes()),
            ValueRef::Real(number) => (2, &number.to_le_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        self.0.push(tag);
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    fn value(&self) -> i64 {
        let digest = Digest::of([&self.0]);
        let mut start = [0; 8];
        start.copy_from_slice(&digest.as_bytes()[..8]);
        i64::from_le_bytes(start)
    }
}

/// The columns of `attempts` that [`attempt`] reads, from `row` on; the sum is the last one.
pub(super) const ATTEMPT: &str = "a.row, a.entry, a.repeat, a.attempt, a.backend, a.kind, a.fingerprint, \
     a.model, a.class, a.error, a.http_status, a.request_id, a.usage, a.price, a.cost, a.cost_usd, \
     a.saved_usd, a.latency_us, a.run, a.sum";
/// How many they are.
pub(super) const ATTEMPT_COLUMNS: usize = 20;

/// The prices that lines of the ledger name.
pub(super) type Tariffs = HashMap<String, Arc<Tariff>>;

/// Reads every price that the ledger names.
pub(super) fn tariffs(connection: &Connection) -> Result<Tariffs, Error> {
    let mut query = connection.prepare("SELECT price, source, as_of, terms FROM prices")?;
    let mut records = query.query([])?;
    let mut found = Tariffs::new();
    while let Some(record) = records.next()? {
        let (source, as_of): (String, _) = (record.get(1)?, record.get(2)?);
        let tariff = Tariff::new(json(record, 3)?, source, as_of);
        let id: String = record.get(0)?;
        if tariff.id() != id {
            let what = format!("price {id} of `prices` is damaged or was edited");
            return Err(unreadable(0, &what));
        }
        found.insert(id, Arc::new(tariff));
    }
    Ok(found)
}

/// Notes down prices that lines of the ledger will name.
pub(super) fn put_tariffs<'a>(
    connection: &Connection,
    tariffs: impl IntoIterator<Item = &'a Arc<Tariff>>,
) -> Result<(), Error> {
    let query = "INSERT OR IGNORE INTO prices VALUES (?1, ?2, ?3, ?4)";
    let mut query = connection.prepare(query)?;
    tariffs.into_iter().try_for_each(|tariff| {
        let terms = serde_json::json!(tariff.price).to_string();
        let values = params![tariff.id(), tariff.source, tariff.as_of, terms];
        query.execute(values).map(drop)
    })
}

/// A line of the ledger, and whether its end is known.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) row: i64,
    pub(super) entry: u32,
    pub(super) repeat: u32,
    pub(super) attempt: Attempt,
    pub(super) ended: bool,
}

impl Line {
    /// Which entry and repeat it is of.
    pub(super) fn key(&self) -> (u32, u32) {
        (self.entry, self.repeat)
    }

    /// What it is called, as in [`name`].
    pub(super) fn name(&self) -> String {
        let Self {
            row, entry, repeat, ..
        } = self;
        let number = self.attempt.number;
        format!(
            "the line of attempts with row {row}, entry {entry}, repeat {repeat}, attempt {number}"
        )
    }
}

/// Reads [`ATTEMPT`] from this column on.
pub(super) fn attempt(record: &Record<'_>, from: usize, tariffs: &Tariffs) -> Result<Line, Error> {
    check(record, "attempts", from, from + ATTEMPT_COLUMNS - 1)?;
    let at = |column: usize| from + column;
    let kind = text(record, at(5))?;
    let class = text_if_any(record, at(8))?;
    let usage = text_if_any(record, at(12))?.map(|text| from_json::<Usage>(text, at(12)));
    let tariff = text_if_any(record, at(13))?.map(|id| {
        let missing = || unreadable(at(13), &format!("price {id} is not in `prices`"));
        tariffs.get(id).ok_or_else(missing)
    });
    let cost = text(record, at(14))?;
    let amount = usd(record, at(15))?;
    let latency: Option<u64> = record.get(at(17))?;
    let class = class.map(|name| ErrorClass::from_name(name).ok_or_else(|| unknown(at(8), name)));
    Ok(Line {
        row: record.get(at(0))?,
        entry: record.get(at(1))?,
        repeat: record.get(at(2))?,
        ended: latency.is_some(),
        attempt: Attempt {
            number: record.get(at(3))?,
            backend: Arc::from(text(record, at(4))?),
            kind: AttemptKind::from_name(kind).ok_or_else(|| unknown(at(5), kind))?,
            fingerprint: digest(record, at(6))?,
            model: record.get(at(7))?,
            class: class.transpose()?,
            error: record.get(at(9))?,
            http_status: record.get(at(10))?,
            request_id: record.get(at(11))?,
            usage: usage.transpose()?,
            tariff: tariff.transpose()?.cloned(),
            cost: match (cost, amount) {
                ("known", Some(amount)) => Cost::Known(amount),
                ("unknown", at_most) => Cost::Unknown { at_most },
                ("unpriced", None) => Cost::Unpriced,
                _ => return Err(unknown(at(14), cost)),
            },
            saved: usd(record, at(16))?,
            latency: Duration::from_micros(latency.unwrap_or_default()),
        },
    })
}

/// A cost as the columns `cost` and `cost_usd`.
pub(super) fn cost(cost: Cost) -> (&'static str, Option<String>) {
    let (cost, amount) = match cost {
        Cost::Known(amount) => ("known", Some(amount)),
        Cost::Unknown { at_most } => ("unknown", at_most),
        Cost::Unpriced => ("unpriced", None),
    };
    (cost, amount.map(|amount| amount.to_string()))
}

/// An exact amount, where there is one.
pub(super) fn usd(record: &Record<'_>, column: usize) -> Result<Option<Usd>, Error> {
    let text = text_if_any(record, column)?;
    text.map(|text| text.parse().map_err(|_| unknown(column, text)))
        .transpose()
}

/// A digest from its 16 bytes.
pub(super) fn digest(record: &Record<'_>, column: usize) -> Result<Digest, Error> {
    let bytes = record.get_ref(column)?.as_blob().unwrap_or_default();
    Digest::from_bytes(bytes).ok_or_else(|| unreadable(column, "it is no digest"))
}

/// A column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(record: &Record<'_>, column: usize) -> Result<T, Error> {
    from_json(text(record, column)?, column)
}

fn from_json<T: DeserializeOwned>(text: &str, column: usize) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// The text of a column, as long as the record lasts.
pub(super) fn text<'a>(record: &'a Record<'_>, column: usize) -> Result<&'a str, Error> {
    let value = record.get_ref(column)?;
    value.as_str().map_err(|error| {
        Error::FromSqlConversionFailure(column, value.data_type(), Box::new(error))
    })
}

/// The same of a column that may be empty.
pub(super) fn text_if_any<'a>(
    record: &'a Record<'_>,
    column: usize,
) -> Result<Option<&'a str>, Error> {
    match record.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => text(record, column).map(Some),
    }
}

/// The error of a word that this version does not know.
pub(super) fn unknown(column: usize, text: &str) -> Error {
    unreadable(column, &format!("`{text}` is not known to this version"))
}

/// The error of a fact about the job that is no JSON.
pub(super) fn unknown_fact(key: &str, error: serde_json::Error) -> Error {
    unreadable(
        0,
        &format!("`{key}` of `meta` is not what this version writes: {error}"),
    )
}

fn unreadable(column: usize, message: &str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, message.into())
}
