//! The tables of `run.db`, and the only place that names the database.
//!
//! | table | a line is | columns |
//! |---|---|---|
//! | `meta` | a fact about the run | `key`, `value`: `format`, `job`, `columns` (JSON array) |
//! | `outcomes` | the end of a row, asked of an entry, for the nth time | `row` (from 0, input order), `entry` (from 0, as in the job's `matrix`), `repeat` (from 1), `id`, `cells` (JSON array), `status`, `answer`, `finish_reason`, `error`, `answered_by` (the attempt that the answer is from, NULL for the last) |
//! | `attempts` | a request that was made | `row`, `entry`, `repeat`, `attempt` (from 1), `backend`, `model`, `kind`, `class`, `error`, `http_status`, `request_id`, `usage` (JSON), `cost` (`known`, `unknown`, `unpriced`), `cost_usd` (exact decimal; for `unknown` the upper bound), `latency_us` |

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row as Record, params};

use super::StoreError;
use crate::words::{
    Answer, Attempt, AttemptKind, Columns, Cost, Digest, ErrorClass, FinishReason, Item, Outcome,
    Row, Status, Usage, Usd,
};

pub use rusqlite::Error;

const NAME: &str = "run.db";
const PREVIOUS: &str = "run.db.previous";
const WAL: &str = "-wal";
const SHM: &str = "-shm";
/// Raised whenever the tables change.
const FORMAT: &str = "2";

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE outcomes (
        row INTEGER NOT NULL, entry INTEGER NOT NULL, repeat INTEGER NOT NULL, id TEXT NOT NULL,
        cells TEXT NOT NULL, status TEXT NOT NULL, answer TEXT, finish_reason TEXT, error TEXT,
        answered_by INTEGER,
        PRIMARY KEY (row, entry, repeat)
    ) STRICT;
    CREATE TABLE attempts (
        row INTEGER NOT NULL, entry INTEGER NOT NULL, repeat INTEGER NOT NULL,
        attempt INTEGER NOT NULL, backend TEXT NOT NULL, model TEXT,
        kind TEXT NOT NULL, class TEXT, error TEXT, http_status INTEGER, request_id TEXT,
        usage TEXT, cost TEXT NOT NULL, cost_usd TEXT, latency_us INTEGER NOT NULL,
        PRIMARY KEY (row, entry, repeat, attempt)
    ) STRICT, WITHOUT ROWID;";

/// In the order of the keys above, so that one pass over each of the two joins them.
const READ_OUTCOMES: &str = "
    SELECT row, entry, repeat, id, cells, status, answer, finish_reason, error, answered_by
    FROM outcomes ORDER BY row, entry, repeat";
const READ_ATTEMPTS: &str = "
    SELECT row, entry, repeat, backend, model, kind, class, error, http_status, request_id, usage,
        cost, cost_usd, latency_us
    FROM attempts ORDER BY row, entry, repeat, attempt";

/// An open `run.db`.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Sets the store of the run before aside and makes an empty one.
    pub(super) fn create(dir: &Path, job: &str, columns: &Columns) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        set_aside(dir)?;
        private_file(&path).map_err(|source| StoreError::Io {
            doing: "create",
            path: path.clone(),
            source,
        })?;
        open(&path, job, columns)
            .map(|connection| Self {
                connection,
                path: path.clone(),
            })
            .map_err(|source| StoreError::Database {
                doing: "create",
                path,
                source,
            })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Stores outcomes in one transaction; when it returns they are on disk.
    pub(super) fn insert(&mut self, outcomes: &[Outcome]) -> Result<(), StoreError> {
        insert(&mut self.connection, outcomes).map_err(|source| self.failed("write to", source))
    }

    /// Calls `each` for every outcome, by row, entry and repeat.
    pub(super) fn for_each<E: From<StoreError>>(
        &self,
        columns: &Arc<Columns>,
        mut each: impl FnMut(&Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| E::from(self.failed("read", source));
        let prepare = |query| self.connection.prepare(query).map_err(failed);
        let (mut outcomes, mut attempts) = (prepare(READ_OUTCOMES)?, prepare(READ_ATTEMPTS)?);
        let mut attempts = attempts.query_map([], attempt).map_err(failed)?.peekable();
        let mut outcomes = outcomes.query([]).map_err(failed)?;
        while let Some(record) = outcomes.next().map_err(failed)? {
            let mut outcome = outcome(record, columns).map_err(failed)?;
            let key = key(record).map_err(failed)?;
            while let Some(next) = attempts.next_if(|next| match next {
                Ok((of, _)) => *of <= key,
                Err(_) => true,
            }) {
                let (of, attempt) = next.map_err(failed)?;
                if of == key {
                    outcome.attempts.push(attempt);
                }
            }
            each(&outcome)?;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: Error) -> StoreError {
        StoreError::Database {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

fn open(path: &Path, job: &str, columns: &Columns) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(TABLES)?;
    let columns = serde_json::json!(columns.names()).to_string();
    for (key, value) in [("format", FORMAT), ("job", job), ("columns", &columns)] {
        connection.execute("INSERT INTO meta VALUES (?1, ?2)", [key, value])?;
    }
    Ok(connection)
}

fn insert(connection: &mut Connection, outcomes: &[Outcome]) -> Result<(), Error> {
    let transaction = connection.transaction()?;
    {
        let mut into_outcomes = transaction.prepare_cached(
            "INSERT INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let mut into_attempts = transaction.prepare_cached(
            "INSERT INTO attempts \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        for outcome in outcomes {
            let answer = outcome.answer.as_ref();
            let item = &outcome.item;
            let repeat = u64::from(item.repeat) + 1;
            into_outcomes.execute(params![
                item.row.index,
                item.entry,
                repeat,
                item.row.id,
                serde_json::json!(item.row.cells).to_string(),
                outcome.status.as_str(),
                answer.map(|answer| &answer.text),
                answer
                    .and_then(|answer| answer.finish_reason.as_ref())
                    .map(FinishReason::as_str),
                outcome.error,
                outcome.answered_by.map(|position| position as u64 + 1),
            ])?;
            for (number, attempt) in (1_u64..).zip(&outcome.attempts) {
                let (cost, cost_usd) = match attempt.cost {
                    Cost::Known(amount) => ("known", Some(amount)),
                    Cost::Unknown { at_most } => ("unknown", at_most),
                    Cost::Unpriced => ("unpriced", None),
                };
                into_attempts.execute(params![
                    item.row.index,
                    item.entry,
                    repeat,
                    number,
                    &*attempt.backend,
                    attempt.model,
                    attempt.kind.as_str(),
                    attempt.class.map(ErrorClass::as_str),
                    attempt.error,
                    attempt.http_status,
                    attempt.request_id,
                    attempt
                        .usage
                        .map(|usage| serde_json::json!(usage).to_string()),
                    cost,
                    cost_usd.map(|amount| amount.to_string()),
                    u64::try_from(attempt.latency.as_micros()).unwrap_or(u64::MAX >> 1),
                ])?;
            }
        }
    }
    transaction.commit()
}

/// What an outcome and its attempts have in common: row, entry, repeat.
fn key(record: &Record<'_>) -> Result<(u64, u32, u32), Error> {
    Ok((record.get(0)?, record.get(1)?, record.get(2)?))
}

fn outcome(record: &Record<'_>, columns: &Arc<Columns>) -> Result<Outcome, Error> {
    let (index, entry, repeat) = key(record)?;
    let status: String = record.get(5)?;
    let answer: Option<String> = record.get(6)?;
    let finish_reason: Option<String> = record.get(7)?;
    let answered_by: Option<usize> = record.get(9)?;
    Ok(Outcome {
        item: Item {
            row: Arc::new(Row {
                index,
                id: record.get(3)?,
                columns: Arc::clone(columns),
                cells: json(record, 4)?,
                key: Digest::default(),
            }),
            entry,
            repeat: repeat.checked_sub(1).ok_or_else(|| unknown(2, "0"))?,
        },
        status: Status::from_name(&status).ok_or_else(|| unknown(5, &status))?,
        answer: answer.map(|text| Answer {
            text,
            finish_reason: finish_reason.as_deref().map(FinishReason::from_name),
        }),
        error: record.get(8)?,
        attempts: Vec::new(),
        answered_by: answered_by
            .map(|number| number.checked_sub(1).ok_or_else(|| unknown(9, "0")))
            .transpose()?,
    })
}

fn attempt(record: &Record<'_>) -> Result<((u64, u32, u32), Attempt), Error> {
    let kind: String = record.get(5)?;
    let class: Option<String> = record.get(6)?;
    let usage: Option<String> = record.get(10)?;
    let cost: String = record.get(11)?;
    let amount: Option<String> = record.get(12)?;
    let amount = amount
        .map(|text| text.parse::<Usd>().map_err(|_| unknown(12, &text)))
        .transpose()?;
    let attempt = Attempt {
        backend: Arc::from(record.get::<_, String>(3)?),
        model: record.get(4)?,
        kind: AttemptKind::from_name(&kind).ok_or_else(|| unknown(5, &kind))?,
        class: class
            .map(|name| ErrorClass::from_name(&name).ok_or_else(|| unknown(6, &name)))
            .transpose()?,
        error: record.get(7)?,
        http_status: record.get(8)?,
        request_id: record.get(9)?,
        usage: usage.map(|_| json::<Usage>(record, 10)).transpose()?,
        cost: match (cost.as_str(), amount) {
            ("known", Some(amount)) => Cost::Known(amount),
            ("unknown", at_most) => Cost::Unknown { at_most },
            ("unpriced", None) => Cost::Unpriced,
            _ => return Err(unknown(11, &cost)),
        },
        latency: Duration::from_micros(record.get(13)?),
    };
    Ok((key(record)?, attempt))
}

fn json<T: serde::de::DeserializeOwned>(record: &Record<'_>, column: usize) -> Result<T, Error> {
    let text: String = record.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn unknown(column: usize, text: &str) -> Error {
    let message = format!("`{text}` is not known to this version");
    Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, message.into())
}

/// Renames the store of the run before and its log, which may hold committed rows if that run was
/// killed. The log follows its database: if this is interrupted between the two, the next start finds
/// the log alone and moves it to where the database went.
fn set_aside(dir: &Path) -> Result<(), StoreError> {
    let there = |name: &str| dir.join(name);
    let moves = || -> std::io::Result<()> {
        if there(NAME).try_exists()? {
            ignore_missing(std::fs::remove_file(there(&format!("{PREVIOUS}{WAL}"))))?;
            std::fs::rename(there(NAME), there(PREVIOUS))?;
        }
        let log = format!("{NAME}{WAL}");
        ignore_missing(std::fs::rename(
            there(&log),
            there(&format!("{PREVIOUS}{WAL}")),
        ))?;
        // The index of a log is made anew from the log.
        ignore_missing(std::fs::remove_file(there(&format!("{NAME}{SHM}"))))
    };
    moves().map_err(|source| StoreError::Io {
        doing: "set aside",
        path: there(NAME),
        source,
    })
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an empty file that only its owner can read; SQLite gives its log the same rights.
fn private_file(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
