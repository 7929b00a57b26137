//! Rows that ask the same, asked once: the first of them in the order of the job, and the others take over what it
//! has.
//!
//! What was taken over is an outcome of the row's own. It stays when the other row goes.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Error, OptionalExtension, params};

use super::lines::{Line, digest};
use super::read::{End, ROW, ROW_SUM, due_item, row};
use super::{Database, FINAL, StoreError};
use crate::job::OnUnknown;
use crate::words::{
    Attempt, AttemptKind, Columns, Cost, Digest, Due, ErrorClass, Outcome, Status, Usd,
};

/// How many rows are read at once.
const PAGE: u64 = 1024;

/// Rows before which no other asks the same. What could not even be rendered asks nothing.
pub(super) const FIRST: &str = "(r.request = zeroblob(16) OR NOT EXISTS (
    SELECT 1 FROM rows f WHERE f.request = r.request AND f.position >= 0 AND f.position < r.position
))";
/// Who takes over from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The first row of those that ask the same, from any other that runs before have answered.
    Before,
    /// All others, from the first.
    After,
}

/// What a row has that another may take over.
struct Source {
    row: i64,
    id: String,
}

impl Database {
    /// Gives rows what others have that ask the same. `on_shared` is called for each outcome once it is durable.
    pub(in crate::store) fn share(
        &mut self,
        columns: &Arc<Columns>,
        sharing: Sharing,
        mut on_shared: impl FnMut(&Outcome),
    ) -> Result<(), StoreError> {
        let index =
            "CREATE INDEX IF NOT EXISTS rows_by_request_in_order ON rows (request, position)";
        let indexed = self.connection.execute_batch(index);
        indexed.map_err(|source| self.failed("write to", source))?;
        let mut after = -1;
        loop {
            let page = self.shared(columns, sharing, after);
            let (outcomes, last) = page.map_err(|source| self.failed("read", source))?;
            if !outcomes.is_empty() {
                self.write_outcomes(&outcomes)?;
                outcomes.iter().for_each(&mut on_shared);
            }
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// What the next rows after this position take over, and the position of the last of them.
    fn shared(
        &self,
        columns: &Arc<Columns>,
        sharing: Sharing,
        after: i64,
    ) -> Result<(Vec<Outcome>, Option<i64>), Error> {
        let takes = match sharing {
            // A later one has an answer. (CROSS: nothing else can be looked up first.)
            Sharing::Before => format!(
                "{FIRST} AND EXISTS (
                    SELECT 1 FROM rows l CROSS JOIN outcomes o ON o.row = l.row
                    WHERE l.request = r.request AND l.position > r.position AND o.{FINAL}
                )"
            ),
            Sharing::After => format!("NOT {FIRST}"),
        };
        let query = format!(
            "SELECT {ROW}, r.request FROM rows r
             WHERE r.position > ?1 AND r.request != zeroblob(16) AND {takes} AND (
                SELECT count(*) FROM outcomes o JOIN entries e USING (entry)
                WHERE o.row = r.row AND e.position IS NOT NULL AND o.repeat <= ?2 AND {FINAL}
             ) < ?3 ORDER BY r.position LIMIT ?4"
        );
        let items = self.entries.len() as u64 * u64::from(self.repeat);
        let mut query = self.connection.prepare_cached(&query)?;
        let mut records = query.query(params![after, self.repeat, items, PAGE])?;
        let (mut outcomes, mut last) = (Vec::new(), None);
        while let Some(record) = records.next()? {
            let (number, row) = row(record, columns)?;
            let request = digest(record, ROW_SUM + 1)?;
            last = i64::try_from(row.index).ok();
            let row = Arc::new(row);
            let (ends, lines) = (self.ends_of(number)?, self.attempts_of(number)?);
            for (item, key) in self.items(&row) {
                let end = ends.iter().find(|end| end.key() == key);
                let lines = lines.iter().filter(|line| line.key() == key);
                // Whatever became of its own request: it is not sent again.
                if let Some(due) = due_item(item, end, lines, OnUnknown::Resend)
                    && let Some(source) = self.source(sharing, &request, key)?
                {
                    outcomes.extend(self.taken_over(due, key, &source)?);
                }
            }
        }
        Ok((outcomes, last))
    }

    /// The row that others take over from, of those that ask this.
    fn source(
        &self,
        sharing: Sharing,
        request: &Digest,
        (entry, repeat): (u32, u32),
    ) -> Result<Option<Source>, Error> {
        let source = |record: &rusqlite::Row<'_>| {
            let (row, id) = (record.get(0)?, record.get(1)?);
            Ok(Source { row, id })
        };
        match sharing {
            Sharing::After => {
                let first = "SELECT row, id FROM rows WHERE request = ?1 AND position >= 0
                     ORDER BY position LIMIT 1";
                let mut first = self.connection.prepare_cached(first)?;
                first.query_row([request.as_bytes()], source).optional()
            }
            Sharing::Before => {
                let answered = format!(
                    "SELECT r.row, r.id FROM rows r CROSS JOIN outcomes o ON o.row = r.row
                     WHERE r.request = ?1 AND r.position >= 0 AND o.entry = ?2 AND o.repeat = ?3 AND {FINAL}
                     ORDER BY r.position LIMIT 1"
                );
                let mut answered = self.connection.prepare_cached(&answered)?;
                answered
                    .query_row(params![request.as_bytes(), entry, repeat], source)
                    .optional()
            }
        }
    }

    /// The outcome of an item that takes over what another row has, if that is anything.
    fn taken_over(
        &self,
        due: Due,
        key: (u32, u32),
        source: &Source,
    ) -> Result<Option<Outcome>, Error> {
        let ends = self.ends_of(source.row)?;
        let Some(end) = ends.iter().find(|end| end.key() == key) else {
            return Ok(None);
        };
        let lines = self.attempts_of(source.row)?;
        let deciding = lines
            .iter()
            .find(|line| line.key() == key && Some(line.attempt.number) == end.answered_by);
        Ok(match (end.status.is_final(), deciding) {
            (true, Some(line)) => Some(copy(due, end, line)),
            // What failed in a run before fails only if it was tried again.
            (false, _) if end.status == Status::Failed && end.run == self.run => {
                failed(due, end, deciding, &source.id)
            }
            _ => None,
        })
    }
}

/// The same end.
fn copy(mut due: Due, end: &End, line: &Line) -> Outcome {
    let number = due.last_number + 1;
    due.attempts.push(spared(number, line));
    Outcome {
        item: due.item,
        status: end.status,
        answer: end.answer.clone(),
        error: None,
        attempts: due.attempts,
        answered_by: None,
    }
}

/// No answer either. `None` where the other row was only given up because the run ended.
fn failed(mut due: Due, end: &End, line: Option<&Line>, id: &str) -> Option<Outcome> {
    let told = |error: Option<&String>| {
        let error = error.map_or("no answer came", String::as_str);
        format!("row {id} asks the same and failed: {error}")
    };
    let Some(line) = line.filter(|_| end.error.is_none()) else {
        return Some(Outcome::unsendable(due.item, told(end.error.as_ref())));
    };
    if line.attempt.class == Some(ErrorClass::Cancelled) {
        return None;
    }
    let attempt = Attempt {
        class: line.attempt.class.or(Some(ErrorClass::Server)),
        error: Some(told(line.attempt.error.as_ref())),
        saved: None,
        ..spared(due.last_number + 1, line)
    };
    due.attempts.push(attempt);
    Some(Outcome {
        status: Status::Failed,
        attempts: due.attempts,
        ..Outcome::not_run(due.item)
    })
}

/// The line of an attempt that did not have to be made, because this one was.
fn spared(number: u32, line: &Line) -> Attempt {
    Attempt {
        number,
        kind: AttemptKind::Duplicate,
        usage: None,
        tariff: None,
        cost: Cost::Known(Usd::ZERO),
        saved: line.attempt.worth(),
        latency: Duration::ZERO,
        ..line.attempt.clone()
    }
}
