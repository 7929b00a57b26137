//! What a run writes: intents, the ends of attempts, outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{CachedStatement, Connection, Error, ErrorCode, params};
use serde::Serialize;

use super::lines::{changed, cost, put};
use super::{Database, StoreError};
use crate::store::journal::{Intent, Record};
use crate::words::{Attempt, ErrorClass, FinishReason, Item, Outcome};

const ROW_AT: &str = "SELECT row FROM rows WHERE position = ?1";
/// An attempt that is about to be made; one that is there already stays as it is.
const INTO_ATTEMPTS: &str = "
    INSERT OR IGNORE INTO attempts (
        sent_at, row, entry, repeat, attempt, backend, kind, fingerprint, model, class, error,
        http_status, request_id, usage, price, cost, cost_usd, saved_usd, latency_us, run, sum
    ) VALUES (
        ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
        ?21
    )";
/// The end of one. The sum is over all of its line, of which the rest is what it was begun with.
const END_ATTEMPT: &str = "
    UPDATE attempts SET
        model = ?9, class = ?10, error = ?11, http_status = ?12, request_id = ?13, usage = ?14,
        cost = ?16, cost_usd = ?17, saved_usd = ?18, latency_us = ?19, sum = ?21
    WHERE row = ?2 AND entry = ?3 AND repeat = ?4 AND attempt = ?5 AND latency_us IS NULL";
pub(super) const INTO_OUTCOMES: &str = "
    INSERT OR REPLACE INTO outcomes (
        row, entry, repeat, run, status, answer, finish_reason, error, answered_by, sum
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

impl Database {
    /// Stores records in one transaction; when it returns they are on disk.
    pub(in crate::store) fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.commit(|lines| {
            records.iter().try_for_each(|record| match record {
                Record::Intent(item, intent, _) => lines.attempt(item, intent, None),
                Record::Ended(item, intent, end) => lines.attempt(item, intent, Some(&end.attempt)),
                Record::HeldBack(item, number, _) => lines.held_back(item, *number),
                Record::Outcome(outcome) => lines.outcome(outcome),
            })
        })
    }

    /// Stores outcomes in one transaction; when it returns they are on disk.
    pub(super) fn write_outcomes(&mut self, outcomes: &[Outcome]) -> Result<(), StoreError> {
        self.commit(|lines| {
            let mut outcomes = outcomes.iter();
            outcomes.try_for_each(|outcome| lines.outcome(outcome))
        })
    }

    fn commit(
        &mut self,
        write: impl FnOnce(&mut Lines<'_>) -> Result<(), Error>,
    ) -> Result<(), StoreError> {
        let numbers = &mut self.numbers;
        let written = || {
            let transaction = self.connection.unchecked_transaction()?;
            write(&mut Lines {
                entries: &self.entries,
                follow_ups: &self.follow_ups,
                run: self.run,
                now: milliseconds(),
                numbers,
                connection: &self.connection,
                row_at: transaction.prepare_cached(ROW_AT)?,
                into_attempts: transaction.prepare_cached(INTO_ATTEMPTS)?,
                end_attempt: transaction.prepare_cached(END_ATTEMPT)?,
                into_outcomes: transaction.prepare_cached(INTO_OUTCOMES)?,
            })?;
            transaction.commit()
        };
        written().map_err(|source| StoreError::database("write to", &self.path, source))?;
        // Before anybody is told that it is durable.
        self.watch.check().map_err(|source| StoreError::Io {
            doing: "write to",
            path: self.path.clone(),
            source,
        })
    }

    /// The same database on a new connection, after a write that found no room.
    pub(in crate::store) fn reopened(mut self) -> Result<Self, StoreError> {
        let opened = Connection::open(&self.path);
        let connection = opened.map_err(|source| self.failed("open", source))?;
        super::check_settings(&connection, &self.path, self.durability)?;
        // What room there is belongs to the log: copying it into the database can wait.
        let set = connection.pragma_update(None, "wal_autocheckpoint", 0);
        set.map_err(|source| self.failed("open", source))?;
        // The old one is closed last, but not as the last: that one copies the log into the database, for which
        // there is no room.
        self.connection = connection;
        Ok(self)
    }
}

/// Whether a write failed for want of room on the disk, and nothing else.
pub(in crate::store) fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Database { source, .. } => {
            source.sqlite_error_code() == Some(ErrorCode::DiskFull)
        }
        _ => false,
    }
}

/// What the lines of one transaction have in common.
struct Lines<'a> {
    entries: &'a [u32],
    follow_ups: &'a [u32],
    run: i64,
    now: i64,
    numbers: &'a mut Numbers,
    connection: &'a Connection,
    row_at: CachedStatement<'a>,
    into_attempts: CachedStatement<'a>,
    end_attempt: CachedStatement<'a>,
    into_outcomes: CachedStatement<'a>,
}

/// The numbers of the rows that are being asked, by their positions: looked up once on a row's way.
pub(super) type Numbers = HashMap<u64, i64>;

impl Lines<'_> {
    /// Where an item stands in the tables: row, entry, repeat (from 1).
    fn key(&mut self, item: &Item) -> Result<(i64, u32, u32), Error> {
        let row = match self.numbers.get(&item.row.index) {
            Some(row) => *row,
            None => {
                let number = |record: &rusqlite::Row<'_>| record.get(0);
                let row = self.row_at.query_row([item.row.index], number)?;
                self.numbers.insert(item.row.index, row);
                row
            }
        };
        let mut entries = self.entries.iter().chain(self.follow_ups);
        let entry = entries.nth(item.entry as usize);
        let entry = entry.copied().unwrap_or(item.entry);
        Ok((row, entry, item.repeat + 1))
    }

    fn attempt(
        &mut self,
        item: &Item,
        intent: &Intent,
        end: Option<&Attempt>,
    ) -> Result<(), Error> {
        let (row, entry, repeat) = self.key(item)?;
        let (cost, cost_usd) = cost(end.map_or(intent.reserved, |end| end.cost));
        let latency = end.map(|end| i64::try_from(end.latency.as_micros()).unwrap_or(i64::MAX));
        let usage = end.and_then(|end| end.usage);
        let usage = usage.map(|usage| written(&usage)).transpose()?;
        let saved = end.and_then(|end| end.saved);
        let saved = saved.map(|saved| saved.to_string());
        let (now, run) = (self.now, self.run);
        let store = |statement: &mut CachedStatement<'_>| {
            let line = params![
                row,
                entry,
                repeat,
                intent.number,
                &*intent.backend,
                intent.kind.as_str(),
                intent.fingerprint.as_bytes(),
                end.and_then(|end| end.model.as_ref()),
                end.and_then(|end| end.class).map(ErrorClass::as_str),
                end.and_then(|end| end.error.as_ref()),
                end.and_then(|end| end.http_status),
                end.and_then(|end| end.request_id.as_ref()),
                usage,
                intent.tariff.as_ref().map(|tariff| tariff.id()),
                cost,
                cost_usd,
                saved,
                latency,
                run,
            ];
            changed(statement, params![now], line)
        };
        // As a rule its intent is there; what is not sent to anybody has none.
        if end.is_some() && store(&mut self.end_attempt)? > 0 {
            return Ok(());
        }
        store(&mut self.into_attempts).map(drop)
    }

    /// An attempt that was not made after all has no line.
    fn held_back(&mut self, item: &Item, number: u32) -> Result<(), Error> {
        let (row, entry, repeat) = self.key(item)?;
        let delete = "DELETE FROM attempts
             WHERE row = ?1 AND entry = ?2 AND repeat = ?3 AND attempt = ?4 AND latency_us IS NULL";
        let mut delete = self.connection.prepare_cached(delete)?;
        delete
            .execute(params![row, entry, repeat, number])
            .map(drop)
    }

    fn outcome(&mut self, outcome: &Outcome) -> Result<(), Error> {
        // Together with the outcome: what was not sent has no end of its own that could be known before.
        if let Some(spared) = outcome.attempts.last().filter(|a| !a.kind.is_request()) {
            let intent = Intent {
                number: spared.number,
                backend: Arc::clone(&spared.backend),
                kind: spared.kind,
                fingerprint: spared.fingerprint,
                tariff: spared.tariff.clone(),
                reserved: spared.cost,
            };
            self.attempt(&outcome.item, &intent, Some(spared))?;
        }
        let (row, entry, repeat) = self.key(&outcome.item)?;
        self.numbers.remove(&outcome.item.row.index);
        let answer = outcome.answer.as_ref();
        let reason = answer.and_then(|answer| answer.finish_reason.as_ref());
        put(
            &mut self.into_outcomes,
            &[],
            params![
                row,
                entry,
                repeat,
                self.run,
                outcome.status.as_str(),
                answer.map(|answer| &answer.text),
                reason.map(FinishReason::as_str),
                outcome.error,
                outcome.deciding().map(|attempt| attempt.number),
            ],
        )
    }
}

/// A value as JSON.
fn written(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

/// The time, for people: how long something took is not measured with it.
pub(super) fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
