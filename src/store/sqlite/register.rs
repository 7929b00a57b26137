//! The job's rows, compared with those that are stored: who is who, and whose answer still counts.

use std::collections::VecDeque;
use std::sync::Arc;

use rusqlite::{Connection, Error, OptionalExtension, Row as Record, Transaction, params};

use super::entries::{place_entries, place_follow_ups};
use super::lines::{Tariffs, digest, put, put_tariffs, tariffs as read_tariffs};
use super::read::{ROW, row};
use super::{Database, FINAL, StoreError, meta, runs, set_meta};
use crate::words::{Changes, Columns, Digest, Row, Tariff};

/// How many stored rows are looked at together.
const WINDOW: u64 = 1024;

/// The columns that [`known`] reads.
pub(super) const KNOWN: &str = "row, key, content, request, id, position";
const UNPLACED: &str = "(position IS NULL OR position < 0)";

/// What is compared with the store.
#[derive(Debug, Clone)]
pub struct Registered<'a> {
    /// What all requests depend on but for the rows.
    pub asked: Digest,
    /// The names of the input's columns.
    pub columns: &'a Columns,
    /// The names of the matrix's entries.
    pub entries: Vec<Arc<str>>,
    /// What is asked about answers: the names of entries that a row has an item of only where that is so.
    pub follow_ups: Vec<String>,
    /// Whether they are the entries of a matrix, each of which has answers of its own.
    pub is_matrix: bool,
    /// How often each row is asked of each entry.
    pub repeat: u32,
    /// What attempts will be charged by.
    pub tariffs: Vec<Arc<Tariff>>,
}

/// What a row makes the job ask.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// All of it together.
    pub request: Digest,
    /// The fingerprints that an answer may have: by entry (its position), repeat (from 0) and backend.
    pub answers: Vec<(u32, u32, Digest)>,
}

/// A comparison under way. Dropped before its [`commit`](Register::commit), it leaves the store as it was.
pub struct Register<'a> {
    transaction: Transaction<'a>,
    database: Shape<'a>,
    same: bool,
    /// Whether the cells of stored rows stand in the order of the job's columns.
    same_columns: bool,
    entries: Vec<u32>,
    follow_ups: Vec<u32>,
    repeat: u32,
    next: u64,
    /// The stored rows that come next, as long as they come in the order of the job.
    window: VecDeque<Known>,
    in_order: bool,
    /// Whether stored rows are left that have no place yet.
    spare: bool,
    /// The highest number of a row that was there before.
    last_row: i64,
    changes: Changes,
}

/// What of the database changes with the job.
struct Shape<'a> {
    entries: &'a mut Vec<u32>,
    follow_ups: &'a mut Vec<u32>,
    repeat: &'a mut u32,
    run: &'a mut i64,
    tariffs: &'a mut Tariffs,
    path: &'a std::path::Path,
}

/// A stored row.
pub(super) struct Known {
    pub(super) row: i64,
    pub(super) key: Digest,
    pub(super) content: Digest,
    request: Digest,
    id: String,
    /// Negative, or none, where it has no place in the job yet.
    pub(super) position: Option<i64>,
}

impl Database {
    /// Begins to compare the job with what is stored.
    pub(in crate::store) fn register(
        &mut self,
        job: &Registered<'_>,
    ) -> Result<Register<'_>, StoreError> {
        // Rows may come to stand elsewhere.
        self.numbers.clear();
        let path = self.path.as_path();
        let failed = |source| StoreError::database("write to", path, source);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let (same, same_columns) = begin(&transaction, job).map_err(failed)?;
        let last_row = last_row(&transaction).map_err(failed)?;
        let entries = place_entries(&transaction, &job.entries, job.is_matrix).map_err(failed)?;
        let follow_ups = place_follow_ups(&transaction, &job.follow_ups).map_err(failed)?;
        Ok(Register {
            transaction,
            same,
            same_columns,
            entries,
            follow_ups,
            repeat: job.repeat,
            next: 0,
            window: VecDeque::new(),
            in_order: true,
            spare: false,
            last_row,
            changes: Changes {
                resumed: self.existed,
                ..Changes::default()
            },
            database: Shape {
                entries: &mut self.entries,
                follow_ups: &mut self.follow_ups,
                repeat: &mut self.repeat,
                run: &mut self.run,
                tariffs: &mut self.tariffs,
                path,
            },
        })
    }
}

impl Register<'_> {
    /// Whether no rows were stored before.
    pub fn is_first(&self) -> bool {
        self.last_row == 0
    }

    /// Adds the job's next row. `asks` says what it makes the job ask, where that must be known.
    pub fn row(&mut self, row: &Row, asks: impl FnOnce() -> Asked) -> Result<(), StoreError> {
        let position = self.next;
        self.next += 1;
        let added = self.add(row, position, asks);
        added.map_err(|source| StoreError::database("write to", self.database.path, source))
    }

    /// Adds the job's next row where none were stored before, given all that it makes the job ask.
    pub fn new_row(&mut self, row: &Row, request: &Digest) -> Result<(), StoreError> {
        let position = self.next;
        self.next += 1;
        let added = self.insert(row, &row.content(), position, request);
        added.map_err(|source| StoreError::database("write to", self.database.path, source))
    }

    /// Counts how the job and the store differ, once every row was added. `asks` says what a row makes the job
    /// ask.
    pub fn changes(
        &mut self,
        columns: &Arc<Columns>,
        asks: impl Fn(&Arc<Row>) -> Asked,
    ) -> Result<Changes, StoreError> {
        let counted = self.take_over(columns, asks).and_then(|()| self.finish());
        counted.map_err(|source| StoreError::database("write to", self.database.path, source))
    }

    /// Makes it so, and notes down that a run begins, whose files are made from these settings: both or
    /// neither, so that what is stored always fits the last run.
    pub fn commit(self, settings: &str) -> Result<(), StoreError> {
        let Shape {
            entries,
            follow_ups,
            repeat,
            run,
            tariffs,
            path,
        } = self.database;
        let failed = |source| StoreError::database("write to", path, source);
        let begun =
            runs::begin(&self.transaction, settings, self.changes.rows()).map_err(failed)?;
        let named = read_tariffs(&self.transaction).map_err(failed)?;
        self.transaction.commit().map_err(failed)?;
        (*entries, *follow_ups) = (self.entries, self.follow_ups);
        (*repeat, *run) = (self.repeat, begun);
        *tariffs = named;
        Ok(())
    }

    fn add(&mut self, row: &Row, position: u64, asks: impl FnOnce() -> Asked) -> Result<(), Error> {
        let content = row.content();
        if let Some(known) = self.known(row, position)? {
            let is_same = known.content == content && known.key == row.key;
            // The cells of a row that was left out for a while may stand in another order.
            let in_order = self.same_columns && known.position.is_some();
            if !is_same || !in_order || known.id != row.id {
                update_line(&self.transaction, known.row, row, content)?;
            }
            self.place(&known, position)?;
            return match is_same && self.was_checked(&known) {
                true => Ok(()),
                false => self.check(&known, &asks()),
            };
        }
        self.insert(row, &content, position, &asks().request)
    }

    fn insert(
        &mut self,
        row: &Row,
        content: &Digest,
        position: u64,
        request: &Digest,
    ) -> Result<(), Error> {
        self.changes.unseen += 1;
        let into_rows = "INSERT INTO rows (position, request, key, content, id, cells, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        put(
            &mut *self.transaction.prepare_cached(into_rows)?,
            params![position, request.as_bytes()],
            params![row.key.as_bytes(), content.as_bytes(), row.id, cells(row)],
        )
    }

    /// Whether the row was in the job when its answers were last compared with what is asked now. One that was
    /// not then may have answers to something else.
    fn was_checked(&self, known: &Known) -> bool {
        self.same && known.position.is_some()
    }

    /// Rows that nobody knows may ask what one asked that is gone: then they are that row, which differs in what
    /// is not asked. Found out last, when every row that is known has its place.
    fn take_over(
        &mut self,
        columns: &Arc<Columns>,
        asks: impl Fn(&Arc<Row>) -> Asked,
    ) -> Result<(), Error> {
        if self.in_order {
            self.leave_order(self.next)?;
        }
        let mut after = self.last_row;
        while self.spare {
            let page = new_rows(&self.transaction, after)?;
            let Some((last, _, _)) = page.last() else {
                break;
            };
            after = *last;
            for (new, position, request) in page {
                let Some(known) = self.find("request", &request)? else {
                    continue;
                };
                replace_line(&self.transaction, known.row, new)?;
                self.place(&known, position)?;
                if !self.was_checked(&known) {
                    let row = Arc::new(row_of(&self.transaction, known.row, columns)?);
                    self.check(&known, &asks(&row))?;
                }
            }
        }
        Ok(())
    }

    /// The stored row that this one is.
    fn known(&mut self, row: &Row, position: u64) -> Result<Option<Known>, Error> {
        if self.in_order {
            if self.window.is_empty() {
                self.window = window(&self.transaction, position)?;
            }
            if let Some(next) = self.window.front()
                && next.key == row.key
            {
                return Ok(self.window.pop_front());
            }
            self.leave_order(position)?;
        }
        self.find("key", &row.key)
    }

    /// From this position on the stored rows are looked for one by one.
    fn leave_order(&mut self, position: u64) -> Result<(), Error> {
        self.in_order = false;
        self.window.clear();
        let transaction = &self.transaction;
        transaction.execute(
            "UPDATE rows SET position = -1 - position WHERE position >= ?1",
            [position],
        )?;
        let query = format!("SELECT EXISTS (SELECT 1 FROM rows WHERE {UNPLACED})");
        self.spare = transaction.query_row(&query, [], |record| record.get(0))?;
        if self.spare {
            transaction.execute_batch(
                // Only of those without a place: many rows may ask the same.
                &format!(
                    "CREATE INDEX IF NOT EXISTS rows_by_key ON rows (key) WHERE {UNPLACED};
                     CREATE INDEX IF NOT EXISTS unplaced_by_request ON rows (request) WHERE {UNPLACED};"
                ),
            )?;
        }
        Ok(())
    }

    /// A stored row without a place whose column holds this.
    fn find(&self, column: &str, value: &Digest) -> Result<Option<Known>, Error> {
        if !self.spare {
            return Ok(None);
        }
        let query = format!(
            "SELECT {KNOWN} FROM rows WHERE {column} = ?1 AND {UNPLACED} ORDER BY row LIMIT 1"
        );
        let mut query = self.transaction.prepare_cached(&query)?;
        query.query_row([value.as_bytes()], known).optional()
    }

    fn place(&self, known: &Known, position: u64) -> Result<(), Error> {
        if known.position == i64::try_from(position).ok() {
            return Ok(());
        }
        let query = "UPDATE rows SET position = ?1 WHERE row = ?2";
        let mut query = self.transaction.prepare_cached(query)?;
        query.execute(params![position, known.row]).map(drop)
    }

    /// Finds out whether the row's answers are answers to what is asked now; sets aside those that are not
    /// and takes back those that are again.
    fn check(&mut self, known: &Known, asked: &Asked) -> Result<(), Error> {
        if known.request != asked.request {
            let query = "UPDATE rows SET request = ?1 WHERE row = ?2";
            let mut query = self.transaction.prepare_cached(query)?;
            query.execute(params![asked.request.as_bytes(), known.row])?;
        } else if self.was_checked(known) {
            return Ok(());
        }
        for (position, entry) in (0..).zip(&self.entries) {
            for repeat in 0..self.repeat {
                let is_asked = |fingerprint: &Digest| {
                    asked.answers.contains(&(position, repeat, *fingerprint))
                };
                let item = (known.row, *entry, repeat + 1);
                let stale = match answer(&self.transaction, "outcomes", item)?.first() {
                    Some((_, fingerprint)) if is_asked(fingerprint) => continue,
                    Some((number, _)) => {
                        shift(&self.transaction, "outcomes", "superseded", item, *number)?;
                        true
                    }
                    None => false,
                };
                let earlier = answer(&self.transaction, "superseded", item)?;
                match earlier
                    .iter()
                    .find(|(_, fingerprint)| is_asked(fingerprint))
                {
                    Some((number, _)) => {
                        shift(&self.transaction, "superseded", "outcomes", item, *number)?;
                    }
                    None => self.changes.changed += u64::from(stale),
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Changes, Error> {
        let transaction = &self.transaction;
        let removed = "UPDATE rows SET position = NULL WHERE position < 0";
        self.changes.removed = transaction.execute(removed, [])? as u64;
        let count = |which: &str| {
            let query = format!(
                "SELECT count(*) FROM outcomes o JOIN rows r USING (row) JOIN entries e USING (entry)
                 WHERE r.position IS NOT NULL AND e.position IS NOT NULL AND o.repeat <= ?1 AND {which}"
            );
            transaction.query_row(&query, [self.repeat], |record| record.get::<_, u64>(0))
        };
        self.changes.unchanged = count(FINAL)?;
        let failed = count(&format!("NOT ({FINAL})"))?;
        // Those whose last attempt has no end; a failed one may be among them, asked again and cut.
        let cut = format!(
            "SELECT count(*), count(o.row) FROM attempts a
             JOIN rows r USING (row) JOIN entries e USING (entry)
             LEFT JOIN outcomes o ON o.row = a.row AND o.entry = a.entry AND o.repeat = a.repeat
             WHERE a.latency_us IS NULL AND r.position IS NOT NULL AND e.position IS NOT NULL
               AND a.repeat <= ?1 AND (o.row IS NULL OR NOT ({FINAL})) AND a.attempt = (
                 SELECT max(attempt) FROM attempts
                 WHERE row = a.row AND entry = a.entry AND repeat = a.repeat
               )"
        );
        let (unknown, were_failed): (u64, u64) =
            transaction.query_row(&cut, [self.repeat], |record| {
                Ok((record.get(0)?, record.get(1)?))
            })?;
        self.changes.unknown = unknown;
        self.changes.failed = failed - were_failed;
        let all = self.next * self.entries.len() as u64 * u64::from(self.repeat);
        let others = self.changes.rows();
        self.changes.new = all.saturating_sub(others);
        Ok(self.changes)
    }
}

/// Notes down what the job asks. Whether that is what it asked the last time, and of the same columns in the
/// same order.
fn begin(connection: &Connection, job: &Registered<'_>) -> Result<(bool, bool), Error> {
    let asked = job.asked.to_string();
    let repeat = job.repeat.to_string();
    let same = meta(connection, "asked")?.as_deref() == Some(&asked)
        && meta(connection, "repeat")?.as_deref() == Some(&repeat);
    put_tariffs(connection, &job.tariffs)?;
    let columns = serde_json::json!(job.columns.names()).to_string();
    let same_columns = meta(connection, "columns")?.as_deref() == Some(&columns);
    for (key, value) in [
        ("asked", &asked),
        ("columns", &columns),
        ("repeat", &repeat),
    ] {
        if meta(connection, key)?.as_deref() != Some(value) {
            set_meta(connection, key, value)?;
        }
    }
    Ok((same, same_columns))
}

/// The highest number of a row so far.
fn last_row(connection: &Connection) -> Result<i64, Error> {
    let query = "SELECT ifnull(max(row), 0) FROM rows";
    connection.query_row(query, [], |record| record.get(0))
}

/// The next rows after this number: number, position, and what they ask.
fn new_rows(connection: &Connection, after: i64) -> Result<Vec<(i64, u64, Digest)>, Error> {
    let query = "SELECT row, position, request FROM rows WHERE row > ?1 ORDER BY row LIMIT ?2";
    let mut query = connection.prepare_cached(query)?;
    let rows = query.query_map(params![after, WINDOW], |record| {
        Ok((record.get(0)?, record.get(1)?, digest(record, 2)?))
    })?;
    rows.collect()
}

/// Puts a row in the line of another one.
fn replace_line(connection: &Connection, number: i64, new: i64) -> Result<(), Error> {
    let copy =
        "UPDATE rows SET key = new.key, content = new.content, id = new.id, cells = new.cells,
            sum = new.sum
        FROM (SELECT * FROM rows WHERE row = ?2) AS new WHERE rows.row = ?1";
    let mut copy = connection.prepare_cached(copy)?;
    copy.execute([number, new])?;
    let delete = "DELETE FROM rows WHERE row = ?1";
    connection.prepare_cached(delete)?.execute([new]).map(drop)
}

fn row_of(connection: &Connection, number: i64, columns: &Arc<Columns>) -> Result<Row, Error> {
    let query = format!("SELECT {ROW} FROM rows r WHERE r.row = ?1");
    let mut query = connection.prepare_cached(&query)?;
    query.query_row([number], |record| Ok(row(record, columns)?.1))
}

/// The next stored rows from this position on.
pub(super) fn window(connection: &Connection, position: u64) -> Result<VecDeque<Known>, Error> {
    let query = format!("SELECT {KNOWN} FROM rows WHERE position >= ?1 ORDER BY position LIMIT ?2");
    let mut query = connection.prepare_cached(&query)?;
    let rows = query.query_map([position, WINDOW], known)?;
    rows.collect()
}

pub(super) fn known(record: &Record<'_>) -> Result<Known, Error> {
    Ok(Known {
        row: record.get(0)?,
        key: digest(record, 1)?,
        content: digest(record, 2)?,
        request: digest(record, 3)?,
        id: record.get(4)?,
        position: record.get(5)?,
    })
}

fn update_line(
    connection: &Connection,
    number: i64,
    row: &Row,
    content: Digest,
) -> Result<(), Error> {
    let query =
        "UPDATE rows SET key = ?2, content = ?3, id = ?4, cells = ?5, sum = ?6 WHERE row = ?1";
    put(
        &mut *connection.prepare_cached(query)?,
        params![number],
        params![row.key.as_bytes(), content.as_bytes(), row.id, cells(row)],
    )
}

fn cells(row: &Row) -> String {
    serde_json::to_string(&row.cells).expect("texts are JSON")
}

/// The final answers to an item in one of the two tables: by which attempt, and to which request.
pub(super) fn answer(
    connection: &Connection,
    table: &str,
    (row, entry, repeat): (i64, u32, u32),
) -> Result<Vec<(u32, Digest)>, Error> {
    let query = format!(
        "SELECT o.answered_by, a.fingerprint FROM {table} o JOIN attempts a
         ON a.row = o.row AND a.entry = o.entry AND a.repeat = o.repeat AND a.attempt = o.answered_by
         WHERE o.row = ?1 AND o.entry = ?2 AND o.repeat = ?3 AND o.{FINAL}"
    );
    let mut query = connection.prepare_cached(&query)?;
    let answers = query.query_map(params![row, entry, repeat], |record| {
        Ok((record.get(0)?, digest(record, 1)?))
    })?;
    answers.collect()
}

/// Moves an answer from one table to the other.
pub(super) fn shift(
    connection: &Connection,
    from: &str,
    to: &str,
    (row, entry, repeat): (i64, u32, u32),
    answered_by: u32,
) -> Result<(), Error> {
    let item = "row = ?1 AND entry = ?2 AND repeat = ?3 AND answered_by = ?4";
    let copy = format!("INSERT OR REPLACE INTO {to} SELECT * FROM {from} WHERE {item}");
    let delete = format!("DELETE FROM {from} WHERE {item}");
    for query in [copy, delete] {
        let mut query = connection.prepare_cached(&query)?;
        query.execute(params![row, entry, repeat, answered_by])?;
    }
    Ok(())
}
