//! The tables of `run.db`, and the only folder that names the database.
//!
//! They are documented for users in `docs/store.md`. A line's `sum` is over its other columns (but for
//! those that may change by themselves), so that one that was damaged or edited is noticed when it is read.

mod audit;
mod cache;
mod entries;
mod lines;
mod open;
mod read;
mod register;
mod renew;
mod restate;
mod runs;
mod share;
mod standing;
mod tally;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

use super::StoreError;
use super::files::{ignore_missing, is_own};
use super::watch::Watch;
use crate::job::Durability;
use crate::words::Columns;

use lines::Tariffs;
use write::Numbers;

pub use audit::{Ledger, RULES, Rule, Table};
pub(super) use cache::{CacheFile, Trouble};
pub(super) use open::{is_damage, plain};
pub use read::{FollowUp, Outside, Stored, Wanted};
pub use register::{Asked, Register, Registered};
pub use runs::RunLine;
pub use rusqlite::Error;
pub use share::Sharing;
pub use standing::Standing;
pub use tally::{BackendTally, Tally};
pub(super) use write::is_full;

pub(super) const NAME: &str = "run.db";
/// The fact that tells this store's answers from those of others in a cache.
pub(super) const MARK: &str = "cache_mark";
const PREVIOUS: &str = "run.db.previous";
const WAL: &str = "-wal";
const SHM: &str = "-shm";
/// Raised whenever the tables change.
const FORMAT: &str = "6";
/// Earlier ones lose commits where a checkpoint meets a writer (<https://sqlite.org/wal.html>, section 11).
const LEAST_SQLITE: i32 = 3_051_003;
/// How long a reader may keep the writer waiting, or the other way round.
const BUSY: Duration = Duration::from_secs(60);

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, exit_code INTEGER,
        published TEXT, process INTEGER NOT NULL, version TEXT NOT NULL, rows INTEGER NOT NULL,
        settings TEXT NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        entry INTEGER PRIMARY KEY, position INTEGER UNIQUE, name TEXT NOT NULL,
        follows INTEGER NOT NULL, place INTEGER UNIQUE
    ) STRICT;
    CREATE TABLE rows (
        row INTEGER PRIMARY KEY, position INTEGER UNIQUE, request BLOB NOT NULL,
        key BLOB NOT NULL, content BLOB NOT NULL, id TEXT NOT NULL, cells TEXT NOT NULL,
        sum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE outcomes (
        row INTEGER NOT NULL, entry INTEGER NOT NULL, repeat INTEGER NOT NULL,
        run INTEGER NOT NULL, status TEXT NOT NULL, answer TEXT, finish_reason TEXT, error TEXT,
        answered_by INTEGER, sum INTEGER NOT NULL,
        PRIMARY KEY (row, entry, repeat)
    ) STRICT;
    CREATE TABLE superseded (
        row INTEGER NOT NULL, entry INTEGER NOT NULL, repeat INTEGER NOT NULL,
        run INTEGER NOT NULL, status TEXT NOT NULL, answer TEXT, finish_reason TEXT, error TEXT,
        answered_by INTEGER, sum INTEGER NOT NULL,
        PRIMARY KEY (row, entry, repeat, answered_by)
    ) STRICT;
    CREATE TABLE prices (
        price TEXT PRIMARY KEY, source TEXT NOT NULL, as_of TEXT, terms TEXT NOT NULL
    ) STRICT;
    CREATE TABLE attempts (
        sent_at INTEGER NOT NULL,
        row INTEGER NOT NULL, entry INTEGER NOT NULL, repeat INTEGER NOT NULL,
        attempt INTEGER NOT NULL, backend TEXT NOT NULL, kind TEXT NOT NULL,
        fingerprint BLOB NOT NULL, model TEXT, class TEXT, error TEXT, http_status INTEGER,
        request_id TEXT, usage TEXT, price TEXT, cost TEXT NOT NULL, cost_usd TEXT, saved_usd TEXT,
        latency_us INTEGER,
        run INTEGER NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (row, entry, repeat, attempt)
    ) STRICT, WITHOUT ROWID;";

/// Rows that need not be asked again.
const FINAL: &str = "status NOT IN ('failed', 'skipped_budget', 'not_run')";

/// An open `run.db`.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    durability: Durability,
    watch: Watch,
    /// The number of the run that writes to it; 0 for none.
    run: i64,
    /// The stored number of each entry of the matrix, by its position in the job.
    entries: Vec<u32>,
    /// The stored numbers of what is asked about answers, in their order.
    follow_ups: Vec<u32>,
    /// How often each row is asked of each entry.
    repeat: u32,
    /// Whether it was there before.
    existed: bool,
    /// The prices that lines of the ledger name.
    tariffs: Tariffs,
    numbers: Numbers,
}

impl Database {
    /// Opens the store of a directory for writing, or makes an empty one where there is none.
    pub(super) fn open(dir: &Path, job: &str, durability: Durability) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        private_file(&path).map_err(|source| StoreError::Io {
            doing: "open",
            path: path.clone(),
            source,
        })?;
        let failed = |source| StoreError::database("open", &path, source);
        let connection = Connection::open(&path).map_err(failed)?;
        check_settings(&connection, &path, durability)?;
        // A runner that was killed early may have left a file without tables.
        let existed = open::has_tables(&connection).map_err(failed)?;
        if existed {
            open::check_format(&connection, &path)?;
            open::check_soundness(&connection, &path)?;
        } else {
            create(&connection, job).map_err(failed)?;
        }
        let mut database = Self::over(connection, path, durability, existed)?;
        database.watch = Watch::over(&database.path).map_err(|source| StoreError::Io {
            doing: "look at",
            path: database.path.clone(),
            source,
        })?;
        Ok(database)
    }

    /// Sets the store of the runs before aside.
    pub(super) fn set_aside(dir: &Path) -> Result<(), StoreError> {
        set_aside(dir)
    }

    fn over(
        connection: Connection,
        path: PathBuf,
        durability: Durability,
        existed: bool,
    ) -> Result<Self, StoreError> {
        let mut database = Self {
            connection,
            path,
            durability,
            watch: Watch::default(),
            run: 0,
            entries: Vec::new(),
            follow_ups: Vec::new(),
            repeat: 1,
            existed,
            tariffs: Tariffs::new(),
            numbers: Numbers::new(),
        };
        database.load_shape()?;
        Ok(database)
    }

    /// Reads what the last registration said of entries and repeats.
    fn load_shape(&mut self) -> Result<(), StoreError> {
        let read = || -> Result<(Vec<u32>, Vec<u32>, u32, Tariffs), Error> {
            let numbers = |column: &str| -> Result<Vec<u32>, Error> {
                let query = format!(
                    "SELECT entry FROM entries WHERE {column} IS NOT NULL ORDER BY {column}"
                );
                let mut query = self.connection.prepare(&query)?;
                let numbers = query.query_map([], |record| record.get(0))?;
                numbers.collect()
            };
            let repeat = meta(&self.connection, "repeat")?;
            let repeat = repeat.and_then(|text| text.parse().ok()).unwrap_or(1);
            let (entries, follow_ups) = (numbers("position")?, numbers("place")?);
            Ok((
                entries,
                follow_ups,
                repeat,
                lines::tariffs(&self.connection)?,
            ))
        };
        (self.entries, self.follow_ups, self.repeat, self.tariffs) =
            read().map_err(|source| self.failed("read", source))?;
        Ok(())
    }

    /// Another connection to the same database, for reading while this one writes.
    pub(super) fn reader(&self) -> Result<Self, StoreError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut reader = Self::open_to_read(dir, false)?;
        reader.run = self.run;
        Ok(reader)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A fact about the job: `job`, `columns`, …
    pub(super) fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        meta(&self.connection, key).map_err(|source| self.failed("read", source))
    }

    /// Makes sure that it is the store of this job.
    pub(super) fn is_of(&self, job: &str) -> Result<(), StoreError> {
        match self.meta("job")? {
            Some(other) if other != job => Err(StoreError::OtherJob {
                dir: self.path.parent().unwrap_or(Path::new(".")).to_owned(),
                job: other,
            }),
            _ => Ok(()),
        }
    }

    /// The names of the job's columns.
    pub(super) fn columns(&self) -> Result<Arc<Columns>, StoreError> {
        let names = self.meta("columns")?.unwrap_or_default();
        let names = serde_json::from_str(&names)
            .map_err(|error| self.failed("read", lines::unknown_fact("columns", error)))?;
        Ok(Arc::new(Columns::new(names)))
    }

    /// What tells the answers of this store from those of others in a cache.
    pub(super) fn mark(&self) -> Result<i64, StoreError> {
        let mark = || -> Result<i64, Error> {
            if let Some(mark) = meta(&self.connection, MARK)?.and_then(|text| text.parse().ok()) {
                return Ok(mark);
            }
            let mark = fastrand::i64(..);
            set_meta(&self.connection, MARK, &mark.to_string())?;
            Ok(mark)
        };
        mark().map_err(|source| self.failed("write to", source))
    }

    fn failed(&self, doing: &'static str, source: Error) -> StoreError {
        StoreError::database(doing, &self.path, source)
    }
}

fn meta(connection: &Connection, key: &str) -> Result<Option<String>, Error> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    query.query_row([key], |record| record.get(0)).optional()
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), Error> {
    let query = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
    connection
        .prepare_cached(query)?
        .execute([key, value])
        .map(drop)
}

/// What holds for every connection.
fn prepare(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Without it a statement is compiled anew for each value that is bound to it.
    let stable = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
    connection.set_db_config(stable, true).map(drop)
}

/// Makes sure that the promises of the store hold: the linked library is sound and the log really is
/// written ahead.
fn check_settings(
    connection: &Connection,
    path: &Path,
    durability: Durability,
) -> Result<(), StoreError> {
    let linked = rusqlite::version_number();
    if linked < LEAST_SQLITE {
        let version = rusqlite::version().to_owned();
        return Err(StoreError::OldSqlite { version });
    }
    let set = || -> Result<String, Error> {
        prepare(connection)?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Process => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // On macOS a plain fsync does not reach the disk.
        connection.pragma_update(None, "fullfsync", durability == Durability::Full)?;
        let wal = "PRAGMA journal_mode = WAL";
        connection.query_row(wal, [], |record| record.get(0))
    };
    let mode = set().map_err(|source| StoreError::database("open", path, source))?;
    match mode.as_str() {
        "wal" => Ok(()),
        _ => Err(StoreError::NoLog {
            path: path.to_owned(),
            mode,
        }),
    }
}

fn create(connection: &Connection, job: &str) -> Result<(), Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    for (key, value) in [("format", FORMAT), ("job", job)] {
        set_meta(&transaction, key, value)?;
    }
    transaction.commit()
}

/// Renames the store of the runs before and its log, which may hold committed rows if that run was
/// killed. The log follows its database: if this is interrupted between the two, the next start finds
/// the log alone and moves it to where the database went.
fn set_aside(dir: &Path) -> Result<(), StoreError> {
    let there = |name: &str| dir.join(name);
    let moves = || -> std::io::Result<()> {
        if is_bare(dir) {
            // One that asked nobody must not take the place of one that did.
            std::fs::remove_file(there(NAME))?;
            ignore_missing(std::fs::remove_file(there(&format!("{NAME}{WAL}"))))?;
        }
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

/// Whether there is a store, and nobody was asked in it.
fn is_bare(dir: &Path) -> bool {
    let Ok(store) = Database::open_to_read(dir, true) else {
        return false;
    };
    let query = "SELECT NOT EXISTS (SELECT 1 FROM attempts)";
    let bare = store
        .connection
        .query_row(query, [], |record| record.get(0));
    bare.unwrap_or(false)
}

/// Makes an empty file that only its owner can read, unless there is one; SQLite gives its log the same
/// rights.
fn private_file(path: &Path) -> std::io::Result<()> {
    // A planted link would have this process write into another file.
    for suffix in ["", WAL, SHM] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        if std::fs::symlink_metadata(&name).is_ok_and(|found| !is_own(&found)) {
            let error = format!("{} is a link or no regular file; remove it", name.display());
            return Err(std::io::Error::other(error));
        }
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Status;

    #[test]
    fn what_is_durable_in_full_is_synced_at_every_commit() {
        for (durability, level) in [(Durability::Full, 2), (Durability::Process, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let mut store = Database::open(dir.path(), "job", durability).unwrap();
            for _ in 0..2 {
                let of = |name| {
                    store
                        .connection
                        .pragma_query_value(None, name, |v| v.get(0))
                };
                assert_eq!(of("synchronous"), Ok(level));
                assert_eq!(of("fullfsync"), Ok(level - 1));
                store = store.reopened().unwrap();
            }
        }
    }

    #[test]
    fn the_database_and_the_program_mean_the_same_by_done() {
        let database = Connection::open_in_memory().unwrap();
        for status in Status::ALL {
            let query = format!("SELECT {FINAL} FROM (SELECT ?1 AS status)");
            let name = status.as_str();
            let done: bool = database
                .query_row(&query, [name], |line| line.get(0))
                .unwrap();
            assert_eq!(done, status.is_final(), "{name}");
        }
    }
}
