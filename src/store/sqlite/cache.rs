//! The file of answers that jobs share: one table, a line an answer.
//!
//! Whoever can write to the file could have written anything into it. Nothing in it is executed, an entry counts
//! only if its sum is right and it is the one that was looked for, and a file that is something else is left alone.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension, Row as Record, params};

use super::lines::{check, digest, json, put, usd};
use super::open::{has_tables, uri};
use super::write::milliseconds;
use super::{WAL, prepare, private_file};
use crate::store::cache::{CacheEntry, Note};
use crate::store::files::is_denied;
use crate::words::{Digest, FinishReason};

/// Says in the file's header whose it is: "tpoc".
const APPLICATION: i32 = 0x7470_6f63;
/// Raised whenever the table changes.
const FORMAT: i32 = 2;
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

    /// Opens the cache to look and nothing else; `None` where there is none that can be read.
    pub(in crate::store) fn open_to_look(path: &Path) -> Option<Self> {
        let connection = to_read(path).ok()?;
        let is_ours = is_ours(&connection).unwrap_or(false);
        is_ours.then(|| Self {
            connection,
            read_only: Some("it is only looked into".to_owned()),
        })
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
    check(record, "answers", 0, SUM)?;
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
        Err(error) if is_frozen && cannot_be_indexed(&error) => {
            let flags = plain | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(immutable(path), flags)?;
            restrain(&connection)?;
            Ok(connection)
        }
        Err(error) => Err(error),
        Ok(_) => Ok(connection),
    }
}

fn cannot_be_indexed(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// The address of a file that does not change.
fn immutable(path: &Path) -> String {
    format!("{}?immutable=1", uri(path))
}

/// The file may be anybody's: nothing that its schema says is done.
fn restrain(connection: &Connection) -> Result<(), Error> {
    prepare(connection)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Usage;

    const OTHER: i64 = 1;
    const OWN: i64 = 2;

    fn stored(number: u8) -> CacheEntry {
        CacheEntry {
            fingerprint: Digest::of([[number]]),
            text: format!("answer {number}, with a NUL \0 and an emoji 🙂"),
            finish_reason: Some(FinishReason::Stop),
            model: Some("m-2026".to_owned()),
            usage: Some(Usage::new(number.into(), 5)),
            request_id: Some(format!("req-{number}")),
            cost: Some("0.0001".parse().unwrap()),
        }
    }

    fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
        dir.path().join("answers.db")
    }

    fn keep(path: &Path, entries: impl IntoIterator<Item = CacheEntry>) {
        let cache = CacheFile::open(path).unwrap();
        let notes: Vec<Note> = entries.into_iter().map(|e| Note::Keep(e.into())).collect();
        cache.write(&notes, OTHER).unwrap();
    }

    #[test]
    fn what_is_kept_is_found_by_all_but_the_store_that_kept_it() {
        let dir = tempfile::tempdir().unwrap();
        let bare = CacheEntry {
            finish_reason: None,
            model: None,
            usage: None,
            request_id: None,
            cost: None,
            ..stored(2)
        };
        keep(&file(&dir), [stored(1), bare.clone()]);
        let cache = CacheFile::open(&file(&dir)).unwrap();
        for entry in [stored(1), bare] {
            let find = |own| cache.find(&entry.fingerprint, own).unwrap();
            assert_eq!(find(OWN), Some(entry.clone()));
            assert_eq!(find(OTHER), None);
        }
        assert_eq!(cache.find(&stored(3).fingerprint, OWN).unwrap(), None);
        let removed = Note::Remove(stored(1).fingerprint);
        cache.write(&[removed], OTHER).unwrap();
        assert_eq!(cache.find(&stored(1).fingerprint, OWN).unwrap(), None);
    }

    #[test]
    fn no_byte_can_be_flipped_so_that_a_wrong_answer_is_found() {
        let dir = tempfile::tempdir().unwrap();
        keep(&file(&dir), (0..3).map(stored));
        let sound = std::fs::read(file(&dir)).unwrap();
        let (mut found, mut damaged) = (0, 0);
        let flipped = dir.path().join("flipped.db");
        for (position, flip) in (0..sound.len()).zip([0xff_u8, 1, 0x80].into_iter().cycle()) {
            // Most of a page is empty.
            if sound[position] == 0 && position % 61 != 0 {
                continue;
            }
            let mut bytes = sound.clone();
            bytes[position] ^= flip;
            std::fs::write(&flipped, &bytes).unwrap();
            let Ok(cache) = CacheFile::open(&flipped) else {
                continue;
            };
            for entry in (0..3).map(stored) {
                match cache.find(&entry.fingerprint, OWN) {
                    Ok(Some(answer)) => {
                        assert_eq!(answer, entry, "at {position}");
                        found += 1;
                    }
                    Ok(None) | Err(Trouble::Lost(_)) => {}
                    Err(Trouble::Damaged) => damaged += 1,
                }
            }
            drop(cache);
            for log in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(dir.path().join(format!("flipped.db{log}")));
            }
        }
        assert!(found > 500 && damaged > 100, "{found} {damaged}");
    }

    #[test]
    fn one_entry_does_not_pass_for_another() {
        let dir = tempfile::tempdir().unwrap();
        keep(&file(&dir), [stored(1), stored(2)]);
        let cache = Connection::open(file(&dir)).unwrap();
        let change = |statement: &str| cache.execute_batch(statement).unwrap();
        // Each has the other's answer, sum and all.
        change("UPDATE answers SET fingerprint = zeroblob(rowid)");
        for (row, entry) in [(1, stored(2)), (2, stored(1))] {
            let swap = "UPDATE answers SET fingerprint = ?1 WHERE rowid = ?2";
            let fingerprint = entry.fingerprint;
            cache
                .execute(swap, params![fingerprint.as_bytes(), row])
                .unwrap();
        }
        let file = CacheFile::open(&file(&dir)).unwrap();
        for entry in [stored(1), stored(2)] {
            let found = file.find(&entry.fingerprint, OWN);
            assert!(matches!(found, Err(Trouble::Damaged)), "{found:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_read_also_where_no_index_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        keep(&file(&dir), [stored(1)]);
        for address in [file(&dir).display().to_string(), immutable(&file(&dir))] {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(address, flags).unwrap();
            restrain(&connection).unwrap();
            assert!(is_ours(&connection).unwrap());
            let read_only = Some("denied".to_owned());
            let cache = CacheFile {
                connection,
                read_only,
            };
            let found = cache.find(&stored(1).fingerprint, OWN).unwrap();
            assert_eq!(found, Some(stored(1)));
            cache
                .write(&[Note::Keep(stored(2).into())], OTHER)
                .unwrap_err();
        }
        let odd = Path::new("/a b/ü?#%.db");
        assert_eq!(immutable(odd), "file:/a%20b/%C3%BC%3F%23%25.db?immutable=1");
    }

    #[test]
    fn nothing_that_a_schema_says_is_done() {
        let dir = tempfile::tempdir().unwrap();
        keep(&file(&dir), [stored(1)]);
        let harm = "CREATE TABLE harm (done INTEGER);
             CREATE TRIGGER harmful AFTER INSERT ON answers BEGIN INSERT INTO harm VALUES (1); END;";
        let stranger = Connection::open(file(&dir)).unwrap();
        stranger.execute_batch(harm).unwrap();
        keep(&file(&dir), [stored(2)]);
        let count = "SELECT count(*) FROM harm";
        let done: u32 = stranger.query_row(count, [], |r| r.get(0)).unwrap();
        assert_eq!(done, 0);
    }
}
