//! From words to the lines of the tables and back. A line carries a sum over its columns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Error, Row as Record, Statement, params};
use serde::de::DeserializeOwned;
use twox_hash::XxHash3_64;

use crate::words::{Attempt, AttemptKind, Cost, Digest, ErrorClass, Tariff, Usage, Usd};

/// Binds the columns that have no part in the sum, those that do, and the sum; runs the statement.
pub(super) fn put(
    statement: &mut Statement<'_>,
    free: &[&dyn ToSql],
    summed: &[&dyn ToSql],
) -> Result<(), Error> {
    changed(statement, free, summed).map(drop)
}

/// The same; returns how many lines that changed.
pub(super) fn changed(
    statement: &mut Statement<'_>,
    free: &[&dyn ToSql],
    summed: &[&dyn ToSql],
) -> Result<usize, Error> {
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
    statement.raw_execute()
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
    agree(record, table, sum, &found)
}

/// What the first columns hold, of which the next one holds the sum, if they are as they were stored.
pub(super) fn checked<'a, const N: usize>(
    record: &'a Record<'_>,
    table: &str,
) -> Result<[ValueRef<'a>; N], Error> {
    let mut found = Sum::new();
    let mut values = [ValueRef::Null; N];
    for (column, value) in values.iter_mut().enumerate() {
        *value = record.get_ref(column)?;
        found.add(*value);
    }
    agree(record, table, N, &found)?;
    Ok(values)
}

fn agree(record: &Record<'_>, table: &str, sum: usize, found: &Sum) -> Result<(), Error> {
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

/// What a line's columns come to: it finds damage, not deceit, and is made nine times for each row.
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
        self.0
            .extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn value(&self) -> i64 {
        XxHash3_64::oneshot(&self.0).cast_signed()
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

/// Reads [`ATTEMPT`].
pub(super) fn attempt(record: &Record<'_>, tariffs: &Tariffs) -> Result<Line, Error> {
    let values: [_; ATTEMPT_COLUMNS - 1] = checked(record, "attempts")?;
    let kind = text(&values, 5)?;
    let class = text_if_any(&values, 8)?;
    let class = class.map(|name| ErrorClass::from_name(name).ok_or_else(|| unknown(8, name)));
    let usage = text_if_any(&values, 12)?.map(|text| from_json::<Usage>(text, 12));
    let tariff = text_if_any(&values, 13)?.map(|id| {
        let missing = || unreadable(13, &format!("price {id} is not in `prices`"));
        tariffs.get(id).ok_or_else(missing)
    });
    let cost = text(&values, 14)?;
    let latency: Option<u64> = get(&values, 17)?;
    Ok(Line {
        row: get(&values, 0)?,
        entry: get(&values, 1)?,
        repeat: get(&values, 2)?,
        ended: latency.is_some(),
        attempt: Attempt {
            number: get(&values, 3)?,
            backend: Arc::from(text(&values, 4)?),
            kind: AttemptKind::from_name(kind).ok_or_else(|| unknown(5, kind))?,
            fingerprint: digest(&values, 6)?,
            model: get(&values, 7)?,
            class: class.transpose()?,
            error: get(&values, 9)?,
            http_status: get(&values, 10)?,
            request_id: get(&values, 11)?,
            usage: usage.transpose()?,
            tariff: tariff.transpose()?.cloned(),
            cost: match (cost, usd(&values, 15)?) {
                ("known", Some(amount)) => Cost::Known(amount),
                ("unknown", at_most) => Cost::Unknown { at_most },
                ("unpriced", None) => Cost::Unpriced,
                _ => return Err(unknown(14, cost)),
            },
            saved: usd(&values, 16)?,
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

/// Where columns are read from: a record, or what was taken from one already.
pub(super) trait Values {
    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error>;
}

impl Values for Record<'_> {
    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error> {
        self.get_ref(column)
    }
}

impl<const N: usize> Values for [ValueRef<'_>; N] {
    fn value(&self, column: usize) -> Result<ValueRef<'_>, Error> {
        Ok(self[column])
    }
}

/// A column of any type.
pub(super) fn get<T: FromSql>(values: &impl Values, column: usize) -> Result<T, Error> {
    let value = values.value(column)?;
    T::column_result(value).map_err(|error| other_type(column, value, error))
}

/// The text of a column, as long as the record lasts.
pub(super) fn text(values: &impl Values, column: usize) -> Result<&str, Error> {
    let value = values.value(column)?;
    value
        .as_str()
        .map_err(|error| other_type(column, value, error))
}

/// The same of a column that may be empty.
pub(super) fn text_if_any(values: &impl Values, column: usize) -> Result<Option<&str>, Error> {
    match values.value(column)? {
        ValueRef::Null => Ok(None),
        _ => text(values, column).map(Some),
    }
}

fn other_type(column: usize, value: ValueRef<'_>, error: FromSqlError) -> Error {
    Error::FromSqlConversionFailure(column, value.data_type(), Box::new(error))
}

/// An exact amount, where there is one.
pub(super) fn usd(values: &impl Values, column: usize) -> Result<Option<Usd>, Error> {
    let text = text_if_any(values, column)?;
    text.map(|text| text.parse().map_err(|_| unknown(column, text)))
        .transpose()
}

/// A digest from its 16 bytes.
pub(super) fn digest(values: &impl Values, column: usize) -> Result<Digest, Error> {
    let bytes = values.value(column)?.as_blob().unwrap_or_default();
    Digest::from_bytes(bytes).ok_or_else(|| unreadable(column, "it is no digest"))
}

/// A column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(values: &impl Values, column: usize) -> Result<T, Error> {
    from_json(text(values, column)?, column)
}

fn from_json<T: DeserializeOwned>(text: &str, column: usize) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
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
