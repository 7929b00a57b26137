//! Opening a store to read it, whoever writes to it, and wherever it lies.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::{Database, FORMAT, NAME, StoreError, WAL, meta, prepare};
use crate::job::Durability;
use crate::store::lock;

impl Database {
    /// Opens the store of a directory for reading only, whoever writes to it; nobody, if `is_alone`.
    pub(in crate::store) fn open_to_read(dir: &Path, is_alone: bool) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            // A file where the directory should be has none in it either.
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(StoreError::Io {
                    doing: "read",
                    path,
                    source: error,
                });
            }
            _ => {
                return Err(StoreError::NoRun {
                    dir: dir.to_owned(),
                });
            }
        }
        let opened = open(dir, &path, "");
        if !opened.as_ref().is_err_and(is_closed) || (!is_alone && lock::look(dir)?.is_some()) {
            return opened;
        }
        // SQLite wants to write beside what it reads, for the sake of those who write at the same time. Nobody
        // does; if the log is empty too, the database alone is all there is.
        let log = dir.join(format!("{NAME}{WAL}"));
        match std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            false => open(dir, &path, "?immutable=1"),
            true => Err(StoreError::Unsettled { path }),
        }
    }
}

fn open(dir: &Path, path: &Path, how: &str) -> Result<Database, StoreError> {
    let failed = |source| StoreError::database("open", path, source);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match how {
        "" => Connection::open_with_flags(path, flags),
        how => {
            flags |= OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("{}{how}", uri(path)), flags)
        }
    };
    let connection = connection.map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    if !has_tables(&connection).map_err(failed)? {
        // A runner that was killed early may have left a file without tables.
        return Err(StoreError::NoRun {
            dir: dir.to_owned(),
        });
    }
    check_format(&connection, path)?;
    Database::over(connection, path.to_owned(), Durability::Full, true)
}

/// The path as a URI.
pub(super) fn uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Whether a database cannot be opened because something cannot be written.
fn is_closed(error: &StoreError) -> bool {
    let StoreError::Database { source, .. } = error else {
        return false;
    };
    matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// Whether an error says that the file, or a line in it, is not as it was written.
pub(in crate::store) fn is_damage(error: &Error) -> bool {
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

/// What an error says, without where in its answer SQLite found it.
pub(in crate::store) fn plain(error: &Error) -> String {
    match error {
        Error::FromSqlConversionFailure(_, _, why) => why.to_string(),
        error => error.to_string(),
    }
}

/// Whether this version can read the tables.
pub(super) fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::database("read", path, source);
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'";
    let ours: u32 = connection
        .query_row(ours, [], |record| record.get(0))
        .map_err(failed)?;
    if ours == 0 {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
        });
    }
    match meta(connection, "format").map_err(failed)? {
        Some(format) if format == FORMAT => Ok(()),
        other => Err(StoreError::Format {
            path: path.to_owned(),
            format: other.unwrap_or_else(|| "unknown".to_owned()),
            ours: FORMAT,
        }),
    }
}

/// Refuses a database whose pages do not fit together: a row that cannot be found by its key would be
/// taken for one that was never asked. (What stands in the lines has sums of its own.) It takes a second or
/// two for a million rows.
pub(super) fn check_soundness(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = connection.query_row("PRAGMA integrity_check(1)", [], |record| record.get(0));
    let found: String = found.map_err(|source| StoreError::database("check", path, source))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged {
            path: path.to_owned(),
            why: found,
        }),
    }
}

pub(super) fn has_tables(connection: &Connection) -> Result<bool, Error> {
    let query = "SELECT count(*) FROM sqlite_schema";
    let tables: u32 = connection.query_row(query, [], |record| record.get(0))?;
    Ok(tables > 0)
}
