//! What was answered, read anew: what an answer must be is the job's to say, and it may say something else now.

use rusqlite::{Error, params};

use super::lines::put;
use super::read::{OUTCOME, end};
use super::write::INTO_OUTCOMES;
use super::{Database, StoreError, set_meta};
use crate::words::{Answer, FinishReason, Status};

/// The fact that says by which rule answers were found valid or not.
const RULE: &str = "answer";
/// How many outcomes are looked at in one transaction.
const PAGE: u64 = 1024;

impl Database {
    /// Finds out of every answer anew whether it is a valid one, of as many entries as have lines in the results. `check`
    /// says why it is none, by this rule; nothing is done if that is the rule of the last time. Returns how many are
    /// something else now.
    pub(in crate::store) fn restate(
        &mut self,
        rule: &str,
        entries: usize,
        check: &dyn Fn(&Answer) -> Result<(), String>,
    ) -> Result<u64, StoreError> {
        if self.meta(RULE)?.as_deref() == Some(rule) {
            return Ok(0);
        }
        let entries: Vec<u32> = self
            .entries
            .iter()
            .chain(&self.follow_ups)
            .take(entries)
            .copied()
            .collect();
        let (mut after, mut changed) = ((0, 0, 0), 0);
        loop {
            let page = self.restate_page(&entries, after, check, &mut changed);
            match page.map_err(|source| self.failed("write to", source))? {
                // If this is cut, it begins again.
                Some(last) => after = last,
                None => break,
            }
        }
        let noted = set_meta(&self.connection, RULE, rule);
        noted.map_err(|source| self.failed("write to", source))?;
        Ok(changed)
    }

    fn restate_page(
        &self,
        entries: &[u32],
        after: (i64, u32, u32),
        check: &dyn Fn(&Answer) -> Result<(), String>,
        changed: &mut u64,
    ) -> Result<Option<(i64, u32, u32)>, Error> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut last = None;
        {
            let query = format!(
                "SELECT {OUTCOME} FROM outcomes o WHERE (o.row, o.entry, o.repeat) > (?1, ?2, ?3)
                 ORDER BY o.row, o.entry, o.repeat LIMIT ?4"
            );
            let mut query = transaction.prepare_cached(&query)?;
            let mut write = transaction.prepare_cached(INTO_OUTCOMES)?;
            let mut records = query.query(params![after.0, after.1, after.2, PAGE])?;
            let mut changes = Vec::new();
            while let Some(record) = records.next()? {
                let (row, end): (i64, _) = (record.get(0)?, end(record)?);
                last = Some((row, end.entry, end.repeat));
                let is_read = matches!(end.status, Status::Answered | Status::Invalid);
                let Some(answer) = end
                    .answer
                    .as_ref()
                    .filter(|_| is_read && entries.contains(&end.entry))
                else {
                    continue;
                };
                let (status, error) = match check(answer) {
                    Ok(()) => (Status::Answered, None),
                    Err(reason) => (Status::Invalid, Some(reason)),
                };
                if status != end.status {
                    changes.push((row, end, status, error));
                }
            }
            for (row, end, status, error) in changes {
                *changed += 1;
                let answer = end.answer.as_ref();
                let finish_reason = answer
                    .and_then(|answer| answer.finish_reason.as_ref())
                    .map(FinishReason::as_str);
                put(
                    &mut write,
                    &[],
                    params![
                        row,
                        end.entry,
                        end.repeat,
                        end.run,
                        status.as_str(),
                        answer.map(|answer| &answer.text),
                        finish_reason,
                        error,
                        end.answered_by
                    ],
                )?;
            }
        }
        transaction.commit()?;
        Ok(last)
    }
}
