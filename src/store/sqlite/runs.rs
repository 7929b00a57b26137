//! The runs of a job: when each began and ended, and what its reports are made from.

use rusqlite::{Connection, Error, OptionalExtension, params};

use super::{Database, StoreError};

/// A run of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    /// Its number, counted from 1.
    pub number: i64,
    /// When it began, as `2026-11-23T03:41:28Z`.
    pub started: String,
    /// When it ended; `None` for one that was killed, or that has not ended yet.
    pub ended: Option<String>,
    /// The exit code that it ended with.
    pub exit_code: Option<u8>,
    /// When its files were put in their places, by it or by an export; `None` if they are from an earlier run.
    pub published: Option<String>,
    /// The process that ran it.
    pub process: u32,
    /// The version of the program.
    pub version: String,
    /// How many rows the job had, each counted once for each entry of the matrix and repeat.
    pub rows: u64,
    /// What its files are made from besides the store's lines, as JSON.
    pub settings: String,
}

impl Database {
    /// The last run; `None` before the first one.
    pub(in crate::store) fn last_run(&self) -> Result<Option<RunLine>, StoreError> {
        let query =
            "SELECT run, started, ended, exit_code, published, process, version, rows, settings
             FROM runs ORDER BY run DESC LIMIT 1";
        let line = self.connection.query_row(query, [], |record| {
            Ok(RunLine {
                number: record.get(0)?,
                started: record.get(1)?,
                ended: record.get(2)?,
                exit_code: record.get(3)?,
                published: record.get(4)?,
                process: record.get(5)?,
                version: record.get(6)?,
                rows: record.get(7)?,
                settings: record.get(8)?,
            })
        });
        line.optional()
            .map_err(|source| self.failed("read", source))
    }

    /// What is written from now on belongs to the last run.
    pub(in crate::store) fn go_on_with(&mut self, run: &RunLine) {
        self.run = run.number;
    }

    /// Notes down what the run's files are made from.
    pub(in crate::store) fn set_settings(&mut self, settings: &str) -> Result<(), StoreError> {
        let query = "UPDATE runs SET settings = ?1 WHERE run = ?2";
        let set = self.connection.execute(query, params![settings, self.run]);
        set.map(drop)
            .map_err(|source| self.failed("write to", source))
    }

    /// Notes down how the run ended.
    pub(in crate::store) fn end_run(&mut self, exit_code: u8) -> Result<(), StoreError> {
        let query = "UPDATE runs SET ended = ?1, exit_code = ?2 WHERE run = ?3";
        let ended = self
            .connection
            .execute(query, params![now(), exit_code, self.run]);
        ended
            .map(drop)
            .map_err(|source| self.failed("write to", source))
    }

    /// Notes down whether the run's files are in their places.
    pub(in crate::store) fn set_published(&mut self, are: bool) -> Result<(), StoreError> {
        let query = "UPDATE runs SET published = ?1 WHERE run = ?2";
        let now = are.then(now);
        let set = self.connection.execute(query, params![now, self.run]);
        set.map(drop)
            .map_err(|source| self.failed("write to", source))
    }
}

/// Notes down that a run begins. Returns its number.
pub(super) fn begin(connection: &Connection, settings: &str, rows: u64) -> Result<i64, Error> {
    connection.execute(
        "INSERT INTO runs (started, process, version, rows, settings) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            now(),
            std::process::id(),
            env!("CARGO_PKG_VERSION"),
            rows,
            settings
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The time as `2026-11-23T03:41:28Z`, for people.
fn now() -> String {
    let now = jiff::Timestamp::now();
    let second = jiff::Unit::Second;
    now.round(second).unwrap_or(now).to_string()
}
