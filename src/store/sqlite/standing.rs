//! What the store has of a job's rows, looked up and not written: what a run would find before it asks.
//!
//! The rules are those of `register`. What that writes into the tables stands here in one of this connection's own.

use std::collections::VecDeque;

use rusqlite::{Connection, Error, OptionalExtension, Transaction, params};

use super::entries::{numbers, stored_entries};
use super::register::{Asked, KNOWN, Known, Registered, answer, known, window};
use super::{Database, FINAL, StoreError, meta};
use crate::words::{Digest, Row};

/// The stored rows that did not come in order, and whether they were found since: on no disk that lasts.
const OTHERS: &str = "
    CREATE TEMP TABLE others AS
        SELECT key, request, row, 0 AS found FROM main.rows WHERE position IS NULL OR position >= ?1";
const INDICES: &str = "
    CREATE INDEX temp.others_by_key ON others (key);
    CREATE INDEX temp.others_by_request ON others (request, row) WHERE NOT found;";

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
    /// From which row on they do not.
    left_order: Option<u64>,
    /// Whether stored rows are left that did not come in order.
    spare: bool,
    /// Whether a row came that nobody knows.
    strangers: bool,
    /// Whether all rows came before: then a row that nobody knows may be one that is gone.
    again: bool,
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
            entries: numbers(stored, &job.entries, job.is_matrix),
            repeat: job.repeat,
            snapshot,
            path: &self.path,
            next: 0,
            window: VecDeque::new(),
            in_order: true,
            left_order: None,
            spare: false,
            strangers: false,
            again: false,
        })
    }
}

impl Standing<'_> {
    /// Whether each item of the job's next row is done, by entry and then by repeat. `asks` says what the row
    /// makes the job ask, where that must be known.
    pub fn of(&mut self, row: &Row, asks: impl Fn() -> Asked) -> Result<Vec<bool>, StoreError> {
        let position = self.next;
        self.next += 1;
        let found = self
            .known(row, position, &asks)
            .and_then(|known| match known {
                Some(known) => self.done(&known, row, asks),
                None => Ok(vec![false; self.entries.len() * self.repeat as usize]),
            });
        found.map_err(|source| StoreError::database("read", self.path, source))
    }

    fn done(&self, known: &Known, row: &Row, asks: impl Fn() -> Asked) -> Result<Vec<bool>, Error> {
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

    /// Whether more is known if all rows come once more. A row that nobody knows may ask what one asked that is gone:
    /// then it is that row, which differs in what is not asked. Which ones are gone is known when all have come.
    pub fn look_again(&mut self) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM others WHERE NOT found)";
        let mut is_worth_it = self.strangers && self.spare && !self.again;
        if is_worth_it {
            let found = self.snapshot.query_row(query, [], |record| record.get(0));
            is_worth_it =
                found.map_err(|source| StoreError::database("read", self.path, source))?;
        }
        (self.again, self.next, self.in_order) = (true, 0, true);
        self.window.clear();
        Ok(is_worth_it)
    }

    /// The stored row that this one is.
    fn known(
        &mut self,
        row: &Row,
        position: u64,
        asks: impl Fn() -> Asked,
    ) -> Result<Option<Known>, Error> {
        if self.in_order && self.left_order != Some(position) {
            if self.window.is_empty() {
                self.window = window(&self.snapshot, position)?;
            }
            if let Some(next) = self.window.front()
                && next.key == row.key
            {
                return Ok(self.window.pop_front());
            }
        }
        self.in_order = false;
        if self.left_order.is_none() {
            self.leave_order(position)?;
        }
        if !self.spare {
            return Ok(None);
        }
        let mut found = self.find("key = ?1", row.key)?;
        if found.is_none() && self.again {
            found = self.find("request = ?1 AND NOT found", asks().request)?;
        }
        self.strangers |= found.is_none();
        Ok(found)
    }

    /// From this row on the stored rows are looked for one by one.
    fn leave_order(&mut self, position: u64) -> Result<(), Error> {
        self.left_order = Some(position);
        self.window.clear();
        let query = "SELECT EXISTS (SELECT 1 FROM rows WHERE position IS NULL OR position >= ?1)";
        let is_any = |record: &rusqlite::Row<'_>| record.get(0);
        self.spare = self.snapshot.query_row(query, [position], is_any)?;
        if self.spare {
            self.snapshot.execute(OTHERS, [position])?;
            self.snapshot.execute_batch(INDICES)?;
        }
        Ok(())
    }

    /// A stored row that did not come in order and that this holds of.
    fn find(&self, which: &str, value: Digest) -> Result<Option<Known>, Error> {
        let query = format!(
            "SELECT {KNOWN} FROM main.rows WHERE row = (SELECT min(row) FROM others WHERE {which})"
        );
        let mut query = self.snapshot.prepare_cached(&query)?;
        let found = query.query_row([value.as_bytes()], known).optional()?;
        if let Some(known) = &found {
            let query = "UPDATE others SET found = 1 WHERE key = ?1";
            let mut query = self.snapshot.prepare_cached(query)?;
            query.execute([known.key.as_bytes()])?;
        }
        Ok(found)
    }
}

/// The entries and repeats of a row that have an end that stays.
fn final_ones(connection: &Connection, row: i64) -> Result<Vec<(u32, u32)>, Error> {
    let query = format!("SELECT entry, repeat FROM outcomes WHERE row = ?1 AND {FINAL}");
    let mut query = connection.prepare_cached(&query)?;
    let found = query.query_map(params![row], |record| Ok((record.get(0)?, record.get(1)?)))?;
    found.collect()
}
