//! What was said of answers that are not there any more, or would be asked otherwise now, is set aside; what was said of
//! those that are comes back.

use std::sync::Arc;

use rusqlite::{Error, params};

use super::entries::FOLLOW_UPS_FROM;
use super::read::{ROW, row};
use super::register::{answer, shift};
use super::{Database, FollowUp, StoreError, Stored};
use crate::words::{Columns, Row};

/// How many rows are looked at in one transaction.
const PAGE: u64 = 1024;

impl Database {
    /// Sets aside what followed upon answers that it does not belong to any more, and takes back what does again. `follows`:
    /// what may follow upon the answers to a row.
    pub(in crate::store) fn renew(
        &self,
        columns: &Arc<Columns>,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<(), StoreError> {
        let mut after = Some(-1);
        while let Some(position) = after {
            let page = self.renew_page(columns, position, follows);
            after = page.map_err(|source| self.failed("write to", source))?;
        }
        Ok(())
    }

    /// The position of the last row that was looked at; `None` when there are no more.
    fn renew_page(
        &self,
        columns: &Arc<Columns>,
        after: i64,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<Option<i64>, Error> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut last = None;
        {
            let of = |table| {
                format!(
                    "SELECT 1 FROM {table} o WHERE o.row = r.row AND o.entry >= {FOLLOW_UPS_FROM}"
                )
            };
            let query = format!(
                "SELECT {ROW} FROM rows r WHERE r.position > ?1 AND (EXISTS ({}) OR EXISTS ({}))
                 ORDER BY r.position LIMIT ?2",
                of("outcomes"),
                of("superseded")
            );
            let mut query = transaction.prepare_cached(&query)?;
            let mut records = query.query(params![after, PAGE])?;
            let mut rows = Vec::new();
            while let Some(record) = records.next()? {
                rows.push(row(record, columns)?);
            }
            for (number, row) in rows {
                last = i64::try_from(row.index).ok();
                self.renew_row(number, &Arc::new(row), follows)?;
            }
        }
        transaction.commit()?;
        Ok(last)
    }

    fn renew_row(
        &self,
        number: i64,
        row: &Arc<Row>,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<(), Error> {
        let wanted = follows(&self.stored_of(number, row)?);
        for (item, (entry, repeat)) in self.follow_ups(row) {
            let place =
                |wanted: &&FollowUp| (wanted.entry, wanted.repeat) == (item.entry, item.repeat);
            let wanted = wanted.iter().find(place);
            let is_asked = |digest| wanted.is_some_and(|wanted| wanted.answers.contains(digest));
            let key = (number, entry, repeat);
            let present = answer(&self.connection, "outcomes", key)?;
            if let Some((attempt, digest)) = present.first() {
                if is_asked(digest) {
                    continue;
                }
                shift(&self.connection, "outcomes", "superseded", key, *attempt)?;
            }
            let earlier = answer(&self.connection, "superseded", key)?;
            if let Some((attempt, _)) = earlier.iter().find(|(_, digest)| is_asked(digest)) {
                shift(&self.connection, "superseded", "outcomes", key, *attempt)?;
            }
        }
        Ok(())
    }
}
