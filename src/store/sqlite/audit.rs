//! Whether the store is what a runner wrote: every line, and how lines hang together.

use std::collections::BTreeMap;

use rusqlite::Error;

use super::lines::{ATTEMPT, attempt, check};
use super::open::plain;
use super::read::{OUTCOME, OUTCOME_SUM, ROW, ROW_SUM};
use super::{Database, StoreError};
use crate::words::{AttemptKind, Cost, Usd};

/// A table whose lines carry a sum, besides the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The rows of the input.
    Rows,
    /// How they ended.
    Outcomes,
    /// How they ended when the job made another request of them.
    Superseded,
}

/// What the lines of `attempts` come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// How many lines it has.
    pub lines: u64,
    /// What is known to have been paid.
    pub paid: Usd,
    /// What may have been billed on top, at most.
    pub possible: Usd,
    /// What was paid, by backend.
    pub by_backend: BTreeMap<String, Usd>,
    /// What was paid, by model.
    pub by_model: BTreeMap<String, Usd>,
    /// What was paid, by kind of attempt.
    pub by_kind: BTreeMap<AttemptKind, Usd>,
}

/// How lines hang together.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What holds.
    pub holds: &'static str,
    /// Finds where it does not, in words.
    query: &'static str,
}

/// Everything that holds between lines.
pub const RULES: [Rule; 4] = [
    Rule {
        holds: "every outcome and attempt belongs to a row, an entry and a run",
        query: "SELECT 'the line of ' || name || ' with row ' || row || ', entry ' || entry || ', repeat ' || repeat
            || ' belongs to no ' || CASE WHEN no_row THEN 'row' WHEN no_entry THEN 'entry' ELSE 'run' END
         FROM (
            SELECT 'outcomes' AS name, row, entry, repeat, row NOT IN (SELECT row FROM rows) AS no_row,
                entry NOT IN (SELECT entry FROM entries) AS no_entry,
                run NOT IN (SELECT run FROM runs) AS no_run FROM outcomes
            UNION ALL
            SELECT 'superseded', row, entry, repeat, row NOT IN (SELECT row FROM rows),
                entry NOT IN (SELECT entry FROM entries), run NOT IN (SELECT run FROM runs) FROM superseded
            UNION ALL
            SELECT 'attempts', row, entry, repeat, row NOT IN (SELECT row FROM rows),
                entry NOT IN (SELECT entry FROM entries), run NOT IN (SELECT run FROM runs) FROM attempts
         ) WHERE no_row OR no_entry OR no_run",
    },
    Rule {
        holds: "every outcome has the attempt that decided it",
        query: "SELECT 'the line of ' || name || ' with row ' || row || ', entry ' || entry || ', repeat ' || repeat
            || CASE WHEN answered_by IS NULL THEN ' is ' || status || ', but no attempt decided it'
                ELSE ' was decided by attempt ' || answered_by || ', which is not there or has no end' END
         FROM (
            SELECT 'outcomes' AS name, o.row, o.entry, o.repeat, o.status, o.answered_by, a.latency_us
            FROM outcomes o LEFT JOIN attempts a ON a.row = o.row AND a.entry = o.entry
                AND a.repeat = o.repeat AND a.attempt = o.answered_by
            UNION ALL
            SELECT 'superseded', o.row, o.entry, o.repeat, o.status, o.answered_by, a.latency_us
            FROM superseded o LEFT JOIN attempts a ON a.row = o.row AND a.entry = o.entry
                AND a.repeat = o.repeat AND a.attempt = o.answered_by
         ) WHERE latency_us IS NULL
            AND (answered_by IS NOT NULL OR status NOT IN ('failed', 'skipped_budget', 'not_run'))",
    },
    Rule {
        holds: "the attempts of every row are numbered without gaps",
        query: "SELECT 'row ' || row || ', entry ' || entry || ', repeat ' || repeat || ' has ' || count(*)
            || ' attempts, with the numbers ' || min(attempt) || ' to ' || max(attempt)
         FROM attempts GROUP BY row, entry, repeat HAVING max(attempt) <> count(*) OR min(attempt) <> 1",
    },
    Rule {
        holds: "every row of the job has its place",
        query: "SELECT count(position) || ' rows have the places ' || min(position) || ' to ' || max(position)
         FROM rows HAVING min(position) <> 0 OR max(position) <> count(position) - 1
         UNION ALL
         SELECT 'the last run had ' || rows || ' items, but the store has ' || items FROM (
            SELECT rows, (SELECT count(position) FROM rows) * (SELECT count(position) FROM entries)
                * (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'repeat') AS items
            FROM runs ORDER BY run DESC LIMIT 1
         ) WHERE rows <> items",
    },
];

impl Database {
    /// Tells of everything that SQLite finds wrong with the file, as far as it goes.
    pub(in crate::store) fn integrity(
        &self,
        wrong: &mut dyn FnMut(String),
    ) -> Result<(), StoreError> {
        self.find("PRAGMA integrity_check(20)", &mut |found| {
            if found != "ok" {
                wrong(found);
            }
        })
    }

    /// Tells of every line of a table that is not as it was written. Returns how many it has.
    pub(in crate::store) fn check_lines(
        &self,
        table: Table,
        wrong: &mut dyn FnMut(String),
    ) -> Result<u64, StoreError> {
        let (name, columns, alias, from, sum) = match table {
            Table::Rows => ("rows", ROW, "r", 2, ROW_SUM),
            Table::Outcomes => ("outcomes", OUTCOME, "o", 0, OUTCOME_SUM),
            Table::Superseded => ("superseded", OUTCOME, "o", 0, OUTCOME_SUM),
        };
        let mut read = || -> Result<u64, Error> {
            let query = format!("SELECT {columns} FROM {name} {alias}");
            let mut query = self.connection.prepare(&query)?;
            let (mut records, mut lines) = (query.query([])?, 0);
            while let Some(record) = records.next()? {
                lines += 1;
                if let Err(error) = check(record, name, from, sum) {
                    wrong(plain(&error));
                }
            }
            Ok(lines)
        };
        read().map_err(|source| self.failed("read", source))
    }

    /// Adds up every line of the ledger; tells of those that are not as they were written.
    pub(in crate::store) fn ledger(
        &self,
        wrong: &mut dyn FnMut(String),
    ) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        let mut read = || -> Result<(), Error> {
            let query = format!("SELECT {ATTEMPT} FROM attempts a");
            let mut query = self.connection.prepare(&query)?;
            let mut records = query.query([])?;
            while let Some(record) = records.next()? {
                ledger.lines += 1;
                let line = match attempt(record, 0, &self.tariffs) {
                    Ok(line) => line,
                    Err(error) => {
                        wrong(plain(&error));
                        continue;
                    }
                };
                let (attempt, add) = (line.attempt, |sum: &mut Usd, paid: Usd| *sum += paid);
                match attempt.cost {
                    Cost::Known(paid) if line.ended => {
                        add(&mut ledger.paid, paid);
                        let model = attempt.model.unwrap_or_else(|| "(not named)".to_owned());
                        let backend = attempt.backend.to_string();
                        add(ledger.by_backend.entry(backend).or_default(), paid);
                        add(ledger.by_model.entry(model).or_default(), paid);
                        add(ledger.by_kind.entry(attempt.kind).or_default(), paid);
                    }
                    Cost::Unknown {
                        at_most: Some(amount),
                    } => ledger.possible += amount,
                    _ => {}
                }
            }
            Ok(())
        };
        read().map_err(|source| self.failed("read", source))?;
        Ok(ledger)
    }

    /// Tells of every line that breaks a rule.
    pub(in crate::store) fn check_rule(
        &self,
        rule: &Rule,
        wrong: &mut dyn FnMut(String),
    ) -> Result<(), StoreError> {
        self.find(rule.query, wrong)
    }

    fn find(&self, query: &str, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
        let mut read = || -> Result<(), Error> {
            let mut query = self.connection.prepare(query)?;
            let mut records = query.query([])?;
            while let Some(record) = records.next()? {
                wrong(record.get(0)?);
            }
            Ok(())
        };
        read().map_err(|source| self.failed("read", source))
    }
}
