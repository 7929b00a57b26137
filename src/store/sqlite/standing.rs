//! What the store has of a job's rows, looked up and not written: what a run would find before it asks.
//!
//! The rules are those of `register`, but for one: a row that nobody knows, and that asks what a row asked that is
//! gone, is new here. To know that it is that row all others would have to be known first.

use std::collections::VecDeque;

use rusqlite::{Connection, Error, OptionalExtension, Transaction, params};

use super::register::{
    Asked, KNOWN, Known, Registered, answer, known, numbers, stored_entries, window,
};
use super::{Database, FINAL, StoreError, meta};
use crate::words::Row;

/// The stored rows by what they are known by: of this connection alone, and on no disk that lasts.
const BY_KEY: &str = "
    CREATE TEMP TABLE by_key AS SELECT key, row FROM main.rows;
    CREATE INDEX temp.by_key_of_row ON by_key (key, row);";

/// What the store has of a job's rows.
pub struct Standing<'a> {
    snapshot: Transaction<'a>,
    path: &'a std::path::Path,
    same: bool,
    entries: Vec<u32>,
    repeat: u32,
    next: u64,
    /// The stored rows that come next, as long as they come in the order of the job.
    window: VecDeque<Known>,
    in_order: bool,
    /// Whether stored rows are left that did not come in order.
    spare: bool,
}

impl Database {
    /// Begins to look up the rows of a job.
    pub(in crate::store) fn standing(
        &self,
        job: &Registered<'_>,
    ) -> Result<Standing<'_>, StoreError> {
        let failed = |source| self.failed("read", source);
        let snapshot = self.connection.unchecked_transaction().map_err(failed)?;
        let asked = meta(&snapshot, "asked").map_err(failed)?;
        let repeat = meta(&snapshot, "repeat").map_err(failed)?;
        let stored = stored_entries(&snapshot).map_err(failed)?;
        Ok(Standing {
            same: asked == Some(job.asked.to_string()) && repeat == Some(job.repeat.to_string()),
            entries: numbers(stored, job.entries, job.is_matrix),
            repeat: job.repeat,
            snapshot,
            path: &self.path,
            next: 0,
            window: VecDeque::new(),
            in_order: true,
            spare: false,
        })
    }
}

impl Standing<'_> {
    /// Whether each item of the job's next row is done, by entry and then by repeat. `asks` says what the row
    /// makes the job ask, where that must be known.
    pub fn of(&mut self, row: &Row, asks: impl FnOnce() -> Asked) -> Result<Vec<bool>, StoreError> {
        let position = self.next;
        self.next += 1;
        let found = self.known(row, position).and_then(|known| match known {
            Some(known) => self.done(&known, row, asks),
            None => Ok(vec![false; self.entries.len() * self.repeat as usize]),
        });
        found.map_err(|source| StoreError::database("read", self.path, source))
    }

    fn done(
        &self,
        known: &Known,
        row: &Row,
        asks: impl FnOnce() -> Asked,
    ) -> Result<Vec<bool>, Error> {
        if self.same && known.position.is_some() && known.content == row.content() {
            let final_ones = final_ones(&self.snapshot, known.row)?;
            return self.each(|(_, entry, repeat)| Ok(final_ones.contains(&(entry, repeat))));
        }
        let asked = asks();
        self.each(|(place, entry, repeat)| {
            let is_asked = |fingerprint| asked.answers.contains(&(place, repeat - 1, fingerprint));
            for table in ["outcomes", "superseded"] {
                let answers = answer(&self.snapshot, table, (known.row, entry, repeat))?;
                if answers.into_iter().any(|(_, found)| is_asked(found)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Asks something of every item of a row: the place and the number of its entry, and its repeat from 1.
    fn each(
        &self,
        is_so: impl Fn((u32, u32, u32)) -> Result<bool, Error>,
    ) -> Result<Vec<bool>, Error> {
        let entries = (0..).zip(&self.entries);
        let items = entries.flat_map(|(place, entry)| {
            (1..=self.repeat).map(move |repeat| (place, *entry, repeat))
        });
        items.map(is_so).collect()
    }

    /// The stored row that this one is.
    fn known(&mut self, row: &Row, position: u64) -> Result<Option<Known>, Error> {
        if self.in_order {
            if self.window.is_empty() {
                self.window = window(&self.snapshot, position)?;
            }
            if let Some(next) = self.window.front()
                && next.key == row.key
            {
                return Ok(self.window.pop_front());
            }
            self.in_order = false;
            self.window.clear();
            self.spare = self.is_any_left(position)?;
            if self.spare {
                self.snapshot.execute_batch(BY_KEY)?;
            }
        }
        if !self.spare {
            return Ok(None);
        }
        let query = format!(
            "SELECT {KNOWN} FROM main.rows WHERE row = (SELECT min(row) FROM by_key WHERE key = ?1)"
        );
        let mut query = self.snapshot.prepare_cached(&query)?;
        query.query_row([row.key.as_bytes()], known).optional()
    }

    fn is_any_left(&self, position: u64) -> Result<bool, Error> {
        let query = "SELECT EXISTS (SELECT 1 FROM rows WHERE position IS NULL OR position >= ?1)";
        self.snapshot
            .query_row(query, [position], |record| record.get(0))
    }
}

/// The entries and repeats of a row that have an end that stays.
fn final_ones(connection: &Connection, row: i64) -> Result<Vec<(u32, u32)>, Error> {
    let query = format!("SELECT entry, repeat FROM outcomes WHERE row = ?1 AND {FINAL}");
    let mut query = connection.prepare_cached(&query)?;
    let found = query.query_map(params![row], |record| Ok((record.get(0)?, record.get(1)?)))?;
    found.collect()
}
