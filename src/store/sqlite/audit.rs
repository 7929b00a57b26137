//! Whether the store is what a runner wrote: every line, and how lines hang together.

use std::collections::BTreeMap;

use rusqlite::{Error, Row as Record};

use super::lines::{ATTEMPT, ATTEMPT_COLUMNS, Line, attempt, check, unknown};
use super::open::plain;
use super::read::{OUTCOME, OUTCOME_SUM, ROW, ROW_SUM};
use super::{Database, StoreError};
use crate::words::{Attempt, AttemptKind, Benefit, Bill, Cost, Status, Usd};

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
    /// What the usage of the lines comes to at their prices, by class of token.
    pub by_class: Bill,
    /// What was paid, by what it was good for.
    pub by_use: BTreeMap<Benefit, Usd>,
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

    /// Adds up every line of the ledger. Tells of those that are not as they were written, and of those whose cost
    /// is not what their usage comes to at their price.
    pub(in crate::store) fn ledger(
        &self,
        wrong: &mut dyn FnMut(String),
        mispriced: &mut dyn FnMut(String),
    ) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        let mut read = || -> Result<(), Error> {
            let query = format!(
                "SELECT {ATTEMPT}, r.position IS NULL OR (e.position IS NULL AND e.place IS NULL) OR a.repeat > ?1,
                    o.status, o.answered_by IS a.attempt, o.answer IS NOT NULL
                 FROM attempts a LEFT JOIN rows r ON r.row = a.row LEFT JOIN entries e ON e.entry = a.entry
                 LEFT JOIN outcomes o ON o.row = a.row AND o.entry = a.entry AND o.repeat = a.repeat"
            );
            let mut query = self.connection.prepare(&query)?;
            let mut records = query.query([self.repeat])?;
            while let Some(record) = records.next()? {
                ledger.lines += 1;
                match attempt(record, &self.tariffs) {
                    Ok(line) => ledger.add(&line, benefit(record, &line)?, mispriced),
                    Err(error) => wrong(plain(&error)),
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

impl Ledger {
    fn add(&mut self, line: &Line, benefit: Benefit, mispriced: &mut dyn FnMut(String)) {
        let attempt = &line.attempt;
        let paid = match attempt.cost {
            Cost::Known(paid) if line.ended => paid,
            Cost::Unknown {
                at_most: Some(amount),
            } => {
                self.possible += amount;
                return;
            }
            Cost::Unpriced if attempt.tariff.is_some() => {
                let name = line.name();
                mispriced(format!("{name} is unpriced, but it names a price"));
                return;
            }
            _ => return,
        };
        let price = attempt.tariff.as_ref().map(|tariff| &tariff.price);
        let bill = price.and_then(|price| attempt.bill(price));
        let bill = bill.unwrap_or_default();
        if bill.total() != paid {
            let (name, comes_to) = (line.name(), bill.total());
            mispriced(format!(
                "{name} cost ${paid}, but its usage comes to ${comes_to}"
            ));
        }
        self.paid += paid;
        self.by_class += bill;
        let model = attempt.model.as_deref().unwrap_or("(not named)");
        let backend = attempt.backend.to_string();
        *self.by_backend.entry(backend).or_default() += paid;
        *self.by_model.entry(model.to_owned()).or_default() += paid;
        *self.by_kind.entry(attempt.kind).or_default() += paid;
        *self.by_use.entry(benefit).or_default() += paid;
    }
}

/// What the money for a line was good for, by what the tables say of its row.
fn benefit(record: &Record<'_>, line: &Line) -> Result<Benefit, Error> {
    let at = |column: usize| ATTEMPT_COLUMNS + column;
    if record.get(at(0))? {
        return Ok(Benefit::Removed);
    }
    let status: Option<String> = record.get(at(1))?;
    let status = match status {
        Some(name) => Status::from_name(&name).ok_or_else(|| unknown(at(1), &name))?,
        // A row without an outcome has no answer.
        None => Status::NotRun,
    };
    let (decided, answered) = (record.get(at(2))?, record.get(at(3))?);
    let Attempt { kind, class, .. } = &line.attempt;
    Ok(Benefit::of(status, *kind, *class, decided, answered))
}
