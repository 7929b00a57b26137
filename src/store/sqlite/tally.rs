//! How far a job is: one pass over each table, whoever writes to it meanwhile.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Row as Record};

use super::lines::unknown;
use super::{Database, StoreError};
use crate::words::{AttemptKind, Status, Usd};

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often the job was run here.
    pub runs: u64,
    /// The rows of the job.
    pub inputs: u64,
    /// The same, each counted once for each entry of the matrix and repeat.
    pub rows: u64,
    /// How many of them ended in each status.
    pub by_status: BTreeMap<Status, u64>,
    /// The same for each entry that items have: those of the matrix, then what is asked about answers.
    pub by_entry: Vec<BTreeMap<Status, u64>>,
    /// What each backend did, in the order of the names; also for rows that are not in the job any more.
    pub by_backend: BTreeMap<String, BackendTally>,
}

/// What a backend did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendTally {
    /// Requests whose end is known.
    pub attempts: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Requests that were not made, because their answer was in the cache or another row had it.
    pub reused: u64,
    /// Attempts of the last run without an end: in flight while it runs.
    pub open: u64,
    /// Attempts of earlier runs without an end.
    pub unknown: u64,
    /// What is known to have been paid.
    pub paid: Usd,
    /// Attempts that used tokens of a model without a known price.
    pub unpriced: u64,
    /// What may have been billed on top, at most.
    pub possible: Usd,
    /// Attempts that may have been billed without any known bound.
    pub unbounded: u64,
}

impl Database {
    /// How far the job is.
    pub(in crate::store) fn tally(&self) -> Result<Tally, StoreError> {
        let read = || -> Result<Tally, Error> {
            // All of it at one moment.
            let snapshot = self.connection.unchecked_transaction()?;
            let number = |query: &str| snapshot.query_row(query, [], |record| record.get(0));
            let inputs: u64 = number("SELECT count(*) FROM rows WHERE position >= 0")?;
            let by_entry = self.statuses(&snapshot)?;
            let mut by_status = BTreeMap::new();
            for (status, rows) in by_entry.iter().take(self.entries.len()).flatten() {
                *by_status.entry(*status).or_default() += rows;
            }
            Ok(Tally {
                runs: number("SELECT count(*) FROM runs")?,
                inputs,
                rows: inputs * self.entries.len() as u64 * u64::from(self.repeat),
                by_status,
                by_entry,
                by_backend: backends(&snapshot)?,
            })
        };
        read().map_err(|source| self.failed("read", source))
    }

    /// Counted here, for SQLite would sort the lines first.
    fn statuses(&self, connection: &Connection) -> Result<Vec<BTreeMap<Status, u64>>, Error> {
        let places = self.entries.iter().chain(&self.follow_ups);
        let places: HashMap<u32, usize> = places.copied().zip(0..).collect();
        let mut found = vec![BTreeMap::new(); places.len()];
        // What is not in the job any more is found by the index of places, and is little as a rule.
        let query = "SELECT status, entry FROM outcomes WHERE repeat <= ?1
             AND row NOT IN (SELECT row FROM rows WHERE position IS NULL)";
        let mut query = connection.prepare(query)?;
        let mut records = query.query([self.repeat])?;
        while let Some(record) = records.next()? {
            let Some(place) = places.get(&record.get(1)?) else {
                continue;
            };
            let name = text(record, 0);
            let status = Status::from_name(name).ok_or_else(|| unknown(0, name))?;
            *found[*place].entry(status).or_default() += 1;
        }
        Ok(found)
    }
}

fn backends(connection: &Connection) -> Result<BTreeMap<String, BackendTally>, Error> {
    let query = "SELECT backend, class IS NOT NULL, latency_us IS NOT NULL,
            run = (SELECT max(run) FROM runs), cost, cost_usd, kind FROM attempts";
    let mut query = connection.prepare(query)?;
    let mut records = query.query([])?;
    let mut found: Vec<(String, BackendTally)> = Vec::new();
    let mut at = 0;
    while let Some(record) = records.next()? {
        let backend = text(record, 0);
        if found.get(at).is_none_or(|(name, _)| name != backend) {
            let known = found.iter().position(|(name, _)| name == backend);
            at = known.unwrap_or_else(|| {
                found.push((backend.to_owned(), BackendTally::default()));
                found.len() - 1
            });
        }
        found[at].1.add(record)?;
    }
    Ok(found.into_iter().collect())
}

impl BackendTally {
    fn add(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let (failed, ended, of_last): (bool, bool, bool) =
            (record.get(1)?, record.get(2)?, record.get(3)?);
        let kind = text(record, 6);
        if AttemptKind::from_name(kind).is_some_and(|kind| !kind.is_request()) {
            // A request that was spared.
            self.reused += 1;
            return Ok(());
        }
        match (ended, of_last) {
            (true, _) => {
                self.attempts += 1;
                self.failed += u64::from(failed);
            }
            (false, true) => self.open += 1,
            (false, false) => self.unknown += 1,
        }
        let amount = match record.get_ref(5)? {
            ValueRef::Text(_) => {
                let amount = text(record, 5);
                Some(amount.parse::<Usd>().map_err(|_| unknown(5, amount))?)
            }
            _ => None,
        };
        match (text(record, 4), amount) {
            // What an attempt would have cost at least that has no end is not known to be paid.
            ("known", Some(paid)) if ended => self.paid += paid,
            ("unknown", Some(at_most)) => self.possible += at_most,
            ("unknown", None) => self.unbounded += 1,
            ("unpriced", None) => self.unpriced += 1,
            _ => {}
        }
        Ok(())
    }
}

/// A column of text; nothing where there is none, which no name is.
fn text<'a>(record: &'a Record<'_>, column: usize) -> &'a str {
    let value = record.get_ref(column).ok();
    value.and_then(|value| value.as_str().ok()).unwrap_or("")
}
