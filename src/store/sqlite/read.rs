//! What comes out again: items that are due, and every item's end in the order of the results.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Error, Row as Record, Rows, params};

use super::lines::{
    ATTEMPT, ATTEMPT_COLUMNS, Line, attempt, check, checked, digest, get, json, text, text_if_any,
    unknown,
};
use super::share::FIRST;
use super::{Database, FINAL, StoreError};
use crate::job::OnUnknown;
use crate::words::{
    Answer, Attempt, Columns, Cost, Digest, Due, ErrorClass, FinishReason, Item, Outcome, Row,
    Status,
};

/// The columns that [`row`] reads; the sum is the last one.
pub(super) const ROW: &str = "r.position, r.row, r.key, r.content, r.id, r.cells, r.sum";
pub(super) const ROW_SUM: usize = 6;

/// The columns that [`end`] reads; the sum is the last one.
pub(super) const OUTCOME: &str = "o.row, o.entry, o.repeat, o.run, o.status, o.answer, o.finish_reason, o.error, \
     o.answered_by, o.sum";
pub(super) const OUTCOME_SUM: usize = 9;

/// Which items are due.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What is done about those whose request was sent by a runner that was killed.
    pub on_unknown: OnUnknown,
    /// Of rows that ask the same only the first.
    pub once: bool,
}

/// What may have to be asked about the answers to a row.
#[derive(Debug, Clone)]
pub struct FollowUp {
    /// The entry of its item.
    pub entry: u32,
    /// The repeat of its item.
    pub repeat: u32,
    /// The answer that it is about, if it is about one.
    pub about: Option<String>,
    /// The fingerprints that an answer to it may have.
    pub answers: Vec<Digest>,
}

/// An item's end as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// How it ended, with every attempt whose end is known.
    pub outcome: Outcome,
    /// Attempts on the way there whose end is not known, because a runner was killed: they may have been
    /// billed.
    pub interrupted: Vec<Attempt>,
}

/// An attempt that no line of the results shows: of a row or an entry that is not in the job any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Outside {
    /// The attempt.
    pub attempt: Attempt,
    /// Whether its end is known.
    pub ended: bool,
}

/// A stored outcome, before it is put together with its attempts.
#[derive(Clone)]
pub(super) struct End {
    pub(super) entry: u32,
    pub(super) repeat: u32,
    /// The run in which it ended so.
    pub(super) run: i64,
    pub(super) status: Status,
    pub(super) answer: Option<Answer>,
    pub(super) error: Option<String>,
    pub(super) answered_by: Option<u32>,
}

impl End {
    /// Which entry and repeat it is of.
    pub(super) fn key(&self) -> (u32, u32) {
        (self.entry, self.repeat)
    }
}

impl Database {
    /// The items that are not done of the next rows after this position, at most so many rows; and the
    /// position of the last one, `None` when there are no more.
    pub(in crate::store) fn due(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        wanted: Wanted,
    ) -> Result<(Vec<Due>, Option<u64>), StoreError> {
        self.try_due(columns, after, rows, wanted)
            .map_err(|source| self.failed("read", source))
    }

    fn try_due(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        wanted: Wanted,
    ) -> Result<(Vec<Due>, Option<u64>), Error> {
        let which = if wanted.once { FIRST } else { "true" };
        let query = format!(
            "SELECT {ROW}, EXISTS (SELECT 1 FROM attempts a WHERE a.row = r.row)
             FROM rows r WHERE r.position > ?1 AND (
                SELECT count(*) FROM outcomes o JOIN entries e USING (entry)
                WHERE o.row = r.row AND e.position IS NOT NULL AND o.repeat <= ?2 AND {FINAL}
             ) < ?3 AND {which} ORDER BY r.position LIMIT ?4"
        );
        let items = self.entries.len() as u64 * u64::from(self.repeat);
        let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let mut query = self.connection.prepare_cached(&query)?;
        let mut records = query.query(params![after, self.repeat, items, rows as u64])?;
        let (mut due, mut last) = (Vec::new(), None);
        while let Some(record) = records.next()? {
            let (number, row) = row(record, columns)?;
            last = Some(row.index);
            let row = Arc::new(row);
            let (ends, lines) = match record.get(ROW_SUM + 1)? {
                true => (self.ends_of(number)?, self.attempts_of(number)?),
                false => Default::default(),
            };
            for (item, key) in self.items(&row) {
                let end = ends.iter().find(|end| end.key() == key);
                let lines = lines.iter().filter(|line| line.key() == key);
                due.extend(due_item(item, end, lines, wanted.on_unknown));
            }
        }
        Ok((due, last))
    }

    /// What is due of what follows upon the answers to the next rows after this position, at most so many rows; and the
    /// position of the last one, `None` when there are no more. `follows`: what is to be asked about the answers to a
    /// row, which are given as they are stored.
    pub(in crate::store) fn due_follow_ups(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        on_unknown: OnUnknown,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<(Vec<Due>, Option<u64>), StoreError> {
        let read = || -> Result<(Vec<Due>, Option<u64>), Error> {
            let query = format!(
                "SELECT {ROW} FROM rows r WHERE r.position > ?1 ORDER BY r.position LIMIT ?2"
            );
            let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
            let mut query = self.connection.prepare_cached(&query)?;
            let mut records = query.query(params![after, rows as u64])?;
            let (mut due, mut last) = (Vec::new(), None);
            while let Some(record) = records.next()? {
                let (number, row) = row(record, columns)?;
                last = Some(row.index);
                let (ends, lines) = (self.ends_of(number)?, self.attempts_of(number)?);
                due.extend(self.due_after(&Arc::new(row), &ends, &lines, on_unknown, follows));
            }
            Ok((due, last))
        };
        read().map_err(|source| self.failed("read", source))
    }

    fn due_after(
        &self,
        row: &Arc<Row>,
        ends: &[End],
        lines: &[Line],
        on_unknown: OnUnknown,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Vec<Due> {
        let all: Vec<_> = self.items(row).chain(self.follow_ups(row)).collect();
        let end_of = |key| ends.iter().find(|end| end.key() == key);
        let lines_of = |key| lines.iter().filter(move |line| line.key() == key);
        let mut due = Vec::new();
        for FollowUp {
            entry,
            repeat,
            about,
            answers,
        } in follows(&self.all_of(row, ends, lines))
        {
            let mut all = all.iter();
            let found = all.find(|(item, _)| (item.entry, item.repeat) == (entry, repeat));
            let Some((item, key)) = found else {
                continue;
            };
            let end = end_of(*key);
            let decided = |end: &&End| {
                let mut lines = lines_of(*key);
                let line = lines.find(|line| Some(line.attempt.number) == end.answered_by);
                // Who was to say what an answer is worth and did not is asked again.
                let is_said = about.is_none() || end.status == Status::Answered;
                end.status.is_final()
                    && is_said
                    && line.is_some_and(|line| answers.contains(&line.attempt.fingerprint))
            };
            if end.as_ref().is_some_and(decided) {
                continue;
            }
            // An end to another question is none, but what was tried for it is over.
            let is_over = end.is_some_and(|end| end.status.is_final());
            let end = end.filter(|end| !end.status.is_final());
            let found = due_item(item.clone(), end, lines_of(*key), on_unknown);
            due.extend(found.map(|due| Due {
                about,
                ended: if is_over {
                    due.attempts.len()
                } else {
                    due.ended
                },
                ..due
            }));
        }
        due
    }

    /// Everything that is asked of a row, in the order of the results, and where it stands in the tables: entry and
    /// repeat.
    pub(super) fn items(&self, row: &Arc<Row>) -> impl Iterator<Item = (Item, (u32, u32))> {
        let entries = (0..).zip(&self.entries);
        entries.flat_map(move |(position, entry)| {
            (1..=self.repeat).map(move |repeat| {
                let item = Item {
                    row: Arc::clone(row),
                    entry: position,
                    repeat: repeat - 1,
                };
                (item, (*entry, repeat))
            })
        })
    }

    /// Everything that is stored of a row, by its number.
    pub(super) fn stored_of(&self, number: i64, row: &Arc<Row>) -> Result<Vec<Stored>, Error> {
        let (ends, lines) = (self.ends_of(number)?, self.attempts_of(number)?);
        Ok(self.all_of(row, &ends, &lines))
    }

    /// All items of a row in the order of the entries, with what there is of them.
    fn all_of(&self, row: &Arc<Row>, ends: &[End], lines: &[Line]) -> Vec<Stored> {
        let all = self.items(row).chain(self.follow_ups(row));
        all.map(|(item, key)| {
            let end = ends.iter().find(|end| end.key() == key);
            let lines = lines.iter().filter(|line| line.key() == key);
            stored(item, end.cloned(), lines.cloned())
        })
        .collect()
    }

    /// Everything that may be asked about the answers to a row, and where it stands in the tables.
    pub(super) fn follow_ups(&self, row: &Arc<Row>) -> impl Iterator<Item = (Item, (u32, u32))> {
        let first = self.entries.len();
        let follow_ups = (first..).zip(&self.follow_ups);
        follow_ups.flat_map(move |(position, entry)| {
            (1..=self.repeat).map(move |repeat| {
                let item = Item {
                    row: Arc::clone(row),
                    entry: u32::try_from(position).unwrap_or(u32::MAX),
                    repeat: repeat - 1,
                };
                (item, (*entry, repeat))
            })
        })
    }

    pub(super) fn ends_of(&self, row: i64) -> Result<Vec<End>, Error> {
        let query = format!("SELECT {OUTCOME} FROM outcomes o WHERE o.row = ?1");
        let mut query = self.connection.prepare_cached(&query)?;
        let ends = query.query_map([row], end)?;
        ends.collect()
    }

    pub(super) fn attempts_of(&self, row: i64) -> Result<Vec<Line>, Error> {
        let query = format!(
            "SELECT {ATTEMPT} FROM attempts a WHERE a.row = ?1 ORDER BY a.entry, a.repeat, a.attempt"
        );
        let mut query = self.connection.prepare_cached(&query)?;
        let lines = query.query_map([row], |record| attempt(record, &self.tariffs))?;
        lines.collect()
    }

    /// Calls `each` for every row of the job, as [`Lines::for_each_row`](crate::store::Lines::for_each_row) tells, until
    /// it says that it has enough.
    pub(in crate::store) fn for_each_row(
        &self,
        columns: &Arc<Columns>,
        mut each: impl FnMut(Vec<Stored>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let failed = |source| self.failed("read", source);
        // A snapshot: somebody may be writing.
        let snapshot = self.connection.unchecked_transaction().map_err(failed)?;
        let prepare = |query: String| snapshot.prepare(&query).map_err(failed);
        let mut rows = prepare(format!(
            "SELECT {ROW} FROM rows r WHERE r.position >= 0 ORDER BY r.position"
        ))?;
        // CROSS keeps the rows outside: they come in the order of the results, whatever was stored when.
        let mut ends = prepare(format!(
            "SELECT {OUTCOME}, r.position FROM rows r CROSS JOIN outcomes o ON o.row = r.row
             WHERE r.position >= 0 ORDER BY r.position"
        ))?;
        let mut lines = prepare(format!(
            "SELECT {ATTEMPT}, r.position FROM rows r CROSS JOIN attempts a ON a.row = r.row
             WHERE r.position >= 0 ORDER BY r.position, r.row, a.entry, a.repeat, a.attempt"
        ))?;
        let mut rows = rows.query([]).map_err(failed)?;
        let mut ends = Merged::new(ends.query([]).map_err(failed)?, OUTCOME_SUM + 1, end);
        let mut lines = Merged::new(
            lines.query([]).map_err(failed)?,
            ATTEMPT_COLUMNS,
            |record| attempt(record, &self.tariffs),
        );
        while let Some(record) = rows.next().map_err(failed)? {
            let (_, row) = row(record, columns).map_err(failed)?;
            let ends = ends.of(row.index).map_err(failed)?;
            let lines = lines.of(row.index).map_err(failed)?;
            let row = Arc::new(row);
            let mut all = Vec::with_capacity(ends.len());
            for (item, key) in self.items(&row) {
                let end = ends.extract_if(.., |end| end.key() == key).next();
                let lines = lines.extract_if(.., |line| line.key() == key);
                all.push(stored(item, end, lines));
            }
            for (item, key) in self.follow_ups(&row) {
                let end = ends.extract_if(.., |end| end.key() == key).next();
                let mut lines = lines.extract_if(.., |line| line.key() == key).peekable();
                if end.is_some() || lines.peek().is_some() {
                    all.push(stored(item, end, lines));
                }
            }
            if each(all).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` for every attempt that no line of the results shows.
    pub(in crate::store) fn for_each_outside(
        &self,
        mut each: impl FnMut(Outside),
    ) -> Result<(), StoreError> {
        let mut read = || -> Result<(), Error> {
            let query = format!(
                "SELECT {ATTEMPT} FROM attempts a
                 JOIN rows r ON r.row = a.row LEFT JOIN entries e ON e.entry = a.entry
                 WHERE r.position IS NULL OR (e.position IS NULL AND e.place IS NULL) OR a.repeat > ?1
                 ORDER BY a.row, a.entry, a.repeat, a.attempt"
            );
            let mut query = self.connection.prepare(&query)?;
            let mut records = query.query([self.repeat])?;
            while let Some(record) = records.next()? {
                let Line { attempt, ended, .. } = attempt(record, &self.tariffs)?;
                let attempt = match ended {
                    true => attempt,
                    false => interrupted(attempt),
                };
                each(Outside { attempt, ended });
            }
            Ok(())
        };
        read().map_err(|source| self.failed("read", source))
    }
}

/// Records of a second table that come in the order of the rows, taken row by row.
struct Merged<'a, T, R> {
    records: Rows<'a>,
    /// The column that holds the row's position.
    position: usize,
    read: R,
    next: Option<(u64, T)>,
    taken: Vec<T>,
}

impl<'a, T, R: Fn(&Record<'_>) -> Result<T, Error>> Merged<'a, T, R> {
    fn new(records: Rows<'a>, position: usize, read: R) -> Self {
        Self {
            records,
            position,
            read,
            next: None,
            taken: Vec::new(),
        }
    }

    /// Those of the row at this position; positions must be asked for in order.
    fn of(&mut self, position: u64) -> Result<&mut Vec<T>, Error> {
        self.taken.clear();
        loop {
            match self.next.take() {
                Some((at, record)) if at == position => self.taken.push(record),
                Some(later) => {
                    self.next = Some(later);
                    break;
                }
                None => {}
            }
            match self.records.next()? {
                Some(record) => {
                    self.next = Some((record.get(self.position)?, (self.read)(record)?));
                }
                None => break,
            }
        }
        Ok(&mut self.taken)
    }
}

/// The row, and its number in the store.
pub(super) fn row(record: &Record<'_>, columns: &Arc<Columns>) -> Result<(i64, Row), Error> {
    check(record, "rows", 2, ROW_SUM)?;
    let row = Row {
        index: record.get(0)?,
        id: record.get(4)?,
        columns: Arc::clone(columns),
        cells: json(record, 5)?,
        key: digest(record, 2)?,
    };
    Ok((record.get(1)?, row))
}

pub(super) fn end(record: &Record<'_>) -> Result<End, Error> {
    let values: [_; OUTCOME_SUM] = checked(record, "outcomes")?;
    let status = text(&values, 4)?;
    let answer: Option<String> = get(&values, 5)?;
    let finish_reason = text_if_any(&values, 6)?;
    Ok(End {
        entry: get(&values, 1)?,
        repeat: get(&values, 2)?,
        run: get(&values, 3)?,
        status: Status::from_name(status).ok_or_else(|| unknown(4, status))?,
        answer: answer.map(|text| Answer {
            text,
            finish_reason: finish_reason.map(FinishReason::from_name),
        }),
        error: get(&values, 7)?,
        answered_by: get(&values, 8)?,
    })
}

/// An item that must be asked, if so.
pub(super) fn due_item<'a>(
    item: Item,
    end: Option<&End>,
    lines: impl Iterator<Item = &'a Line>,
    on_unknown: OnUnknown,
) -> Option<Due> {
    if end.is_some_and(|end| end.status.is_final()) {
        return None;
    }
    let mut due = Due::new(item);
    let mut unknown = false;
    let ended_with = end.and_then(|end| end.answered_by).unwrap_or(0);
    for line in lines {
        due.last_number = line.attempt.number;
        unknown = !line.ended;
        if !line.ended {
            due.unknown += line.attempt.cost.most().unwrap_or_default();
        }
        if line.ended {
            due.attempts.push(line.attempt.clone());
            if line.attempt.is_reply() {
                due.superseded = due.attempts.len();
            }
            if line.attempt.is_reply() || line.attempt.number <= ended_with {
                due.ended = due.attempts.len();
            }
        }
    }
    (!unknown || on_unknown == OnUnknown::Resend).then_some(due)
}

/// An item's end, put together.
fn stored(item: Item, end: Option<End>, lines: impl Iterator<Item = Line>) -> Stored {
    let (mut attempts, mut cut) = (Vec::new(), Vec::new());
    for line in lines {
        match line.ended {
            true => attempts.push(line.attempt),
            false => cut.push(interrupted(line.attempt)),
        }
    }
    let Some(end) = end else {
        // Nothing better is known of the row than that it was asked.
        attempts.extend(cut);
        attempts.sort_by_key(|attempt| attempt.number);
        // A reply without an outcome is one to a request that the job makes no more.
        let status = match attempts.last() {
            Some(last) if !last.is_reply() => Status::Failed,
            _ => Status::NotRun,
        };
        let outcome = Outcome {
            status,
            attempts,
            ..Outcome::not_run(item)
        };
        return Stored {
            outcome,
            interrupted: Vec::new(),
        };
    };
    let decided = end.answered_by;
    let position = attempts
        .iter()
        .position(|attempt| Some(attempt.number) == decided);
    Stored {
        outcome: Outcome {
            item,
            status: end.status,
            answer: end.answer,
            error: end.error,
            answered_by: position.filter(|position| position + 1 < attempts.len()),
            attempts,
        },
        interrupted: cut,
    }
}

/// The line of an attempt whose runner was killed.
fn interrupted(attempt: Attempt) -> Attempt {
    let error = match attempt.cost {
        Cost::Known(_) => "the runner ended before the answer came",
        Cost::Unknown { .. } | Cost::Unpriced => {
            "the runner ended before the answer came; it may have been billed"
        }
    };
    Attempt {
        class: Some(ErrorClass::Cancelled),
        error: Some(error.to_owned()),
        ..attempt
    }
}
