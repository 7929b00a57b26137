//! The file of answers that jobs share: one table, a line an answer.
//!
//! Whoever can write to the file could have written anything into it. Nothing in it is executed, an entry counts
//! only if its sum is right and it is the one that was looked for, and a file that is something else is left alone.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension, Row as Record, params};

use super::lines::{check, digest, json, put, usd};
use super::write::milliseconds;
use super::{WAL, has_tables, private_file};
use crate::store::cache::{CacheEntry, Note};
use crate::words::{Digest, FinishReason};

/// Says in the file's header whose it is: "tpoc".
const APPLICATION: i32 = 0x7470_6f63;
/// Raised whenever the table changes.
const FORMAT: i32 = 1;
/// How long another runner may keep this one waiting.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE answers (
        fingerprint BLOB NOT NULL UNIQUE, text TEXT NOT NULL, finish_reason TEXT, model TEXT,
        usage TEXT, request_id TEXT, cost_usd TEXT, stored_at INTEGER NOT NULL,
        store INTEGER NOT NULL, format INTEGER NOT NULL, sum INTEGER NOT NULL
    ) STRICT;";
const FIND: &str = "
    SELECT fingerprint, text, finish_reason, model, usage, request_id, cost_usd, stored_at, store, format, sum
    FROM answers WHERE fingerprint = ?1";
const SUM: usize = 10;
const KEEP: &str = "
    INSERT OR REPLACE INTO answers (
        fingerprint, text, finish_reason, model, usage, request_id, cost_usd, stored_at, store, format, sum
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Why there is no answer although one may be there.
#[derive(Debug)]
pub(in crate::store) enum Trouble {
    /// The entry is not what was stored.
    Damaged,
    /// The file cannot be used.
    Lost(String),
}

/// An open cache.
pub(in crate::store) struct CacheFile {
    connection: Connection,
    /// Whether nothing can be added to it, and why.
    read_only: Option<String>,
}

impl CacheFile {
    /// Opens the cache, or makes an empty one that only its owner can read.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("cannot open {}: {why}", path.display());
        let read_only = match private_file(path) {
            Ok(()) => None,
            Err(error) if path.is_file() && is_denied(&error) => Some(failed(&error)),
            Err(error) => return Err(failed(&error)),
        };
        let opened = match read_only {
            None => to_write(path),
            Some(_) => to_read(path),
        };
        let connection = opened.map_err(|error| failed(&error))?;
        match is_ours(&connection).map_err(|error| failed(&error))? {
            true => Ok(Self {
                connection,
                read_only,
            }),
            false => Err(format!(
                "{} is no cache, or one of another version of this program",
                path.display()
            )),
        }
    }

    /// Why nothing can be added, if so.
    pub(in crate::store) fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }

    /// The answer to this request, unless it was put here by this store.
    pub(in crate::store) fn find(
        &self,
        fingerprint: &Digest,
        own: i64,
    ) -> Result<Option<CacheEntry>, Trouble> {
        let find = || {
            let mut query = self.connection.prepare_cached(FIND)?;
            let found = query.query_row([fingerprint.as_bytes()], |record| entry(record, own));
            found.optional()
        };
        match find() {
            Ok(Some((entry, others))) if entry.fingerprint == *fingerprint => {
                Ok(others.then_some(entry))
            }
            Ok(Some(_)) => Err(Trouble::Damaged),
            Ok(None) => Ok(None),
            Err(error) if error.sqlite_error_code().is_none() => Err(Trouble::Damaged),
            Err(error) => Err(Trouble::Lost(error.to_string())),
        }
    }

    /// Does what the notes say, in one transaction.
    pub(in crate::store) fn write(&self, notes: &[Note], own: i64) -> Result<(), String> {
        let written = || -> Result<(), Error> {
            let transaction = self.connection.unchecked_transaction()?;
            for note in notes {
                match note {
                    Note::Keep(entry) => keep(&transaction, entry, own)?,
                    Note::Remove(fingerprint) => {
                        let remove = "DELETE FROM answers WHERE fingerprint = ?1";
                        let mut remove = transaction.prepare_cached(remove)?;
                        remove.execute([fingerprint.as_bytes()])?;
                    }
                }
            }
            transaction.commit()
        };
        written().map_err(|error| error.to_string())
    }
}

/// The entry, and whether another store put it here.
fn entry(record: &Record<'_>, own: i64) -> Result<(CacheEntry, bool), Error> {
    check(record, 0, SUM)?;
    let finish_reason: Option<String> = record.get(2)?;
    let usage: Option<String> = record.get(4)?;
    let entry = CacheEntry {
        fingerprint: digest(record, 0)?,
        text: record.get(1)?,
        finish_reason: finish_reason.as_deref().map(FinishReason::from_name),
        model: record.get(3)?,
        usage: usage.map(|_| json(record, 4)).transpose()?,
        request_id: record.get(5)?,
        cost: usd(record, 6)?,
    };
    let (store, format): (i64, i32) = (record.get(8)?, record.get(9)?);
    Ok((entry, store != own && format == FORMAT))
}

fn keep(connection: &Connection, entry: &CacheEntry, own: i64) -> Result<(), Error> {
    put(
        &mut *connection.prepare_cached(KEEP)?,
        &[],
        params![
            entry.fingerprint.as_bytes(),
            entry.text,
            entry.finish_reason.as_ref().map(FinishReason::as_str),
            entry.model,
            entry
                .usage
                .map(|usage| serde_json::json!(usage).to_string()),
            entry.request_id,
            entry.cost.map(|cost| cost.to_string()),
            milliseconds(),
            own,
            FORMAT,
        ],
    )
}

fn to_write(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    restrain(&connection)?;
    if !is_ours(&connection)? && !has_tables(&connection)? {
        create(&connection)?;
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Several runners may make the same file at once: one of them finds that it is there.
fn create(connection: &Connection) -> Result<(), Error> {
    let begin = rusqlite::TransactionBehavior::Immediate;
    let transaction = rusqlite::Transaction::new_unchecked(connection, begin)?;
    if !has_tables(&transaction)? {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()?;
    // Readers and a writer at once; where the file system cannot do that, one after the other will do.
    let log = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
    match log {
        // Another runner is just doing it.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
        other => other,
    }
}

/// A file that cannot be written to. One that nobody writes to needs neither locks nor an index of its log, which
/// could not be made beside it.
fn to_read(path: &Path) -> Result<Connection, Error> {
    let plain = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, plain)?;
    restrain(&connection)?;
    let mut log = path.as_os_str().to_owned();
    log.push(WAL);
    let is_frozen = !Path::new(&log).exists();
    match is_ours(&connection) {
        Err(error) if is_frozen && error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            let flags = plain | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(immutable(path), flags)?;
            restrain(&connection)?;
            Ok(connection)
        }
        Err(error) => Err(error),
        Ok(_) => Ok(connection),
    }
}

/// The address of a file that does not change.
fn immutable(path: &Path) -> String {
    let mut address = "file:".to_owned();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address + "?immutable=1"
}

/// The file may be anybody's: nothing that its schema says is done.
fn restrain(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY)?;
    for (config, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        connection.set_db_config(config, value)?;
    }
    connection.pragma_update(None, "cell_size_check", true)
}

fn is_ours(connection: &Connection) -> Result<bool, Error> {
    let number = |pragma: &str| -> Result<i32, Error> {
        connection.pragma_query_value(None, pragma, |record| record.get(0))
    };
    Ok(number("application_id")? == APPLICATION && number("user_version")? == FORMAT)
}

/// Whether the system does not let this user write.
fn is_denied(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}
