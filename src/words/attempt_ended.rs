//! An attempt that has come to its end, for those who watch a run from the outside.

use std::time::SystemTime;

use super::{Attempt, Completion, Item, Request};

/// A request that was sent, and what came of it. Told once of each, whatever becomes of its row.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AttemptEnded<'a> {
    /// What it was made for.
    pub item: &'a Item,
    /// What was asked.
    pub request: &'a Request,
    /// Its line in the ledger.
    pub attempt: &'a Attempt,
    /// The reply, valid or not; `None` if none came.
    pub reply: Option<&'a Completion>,
    /// When it ended. It began `attempt.latency` before.
    pub ended: SystemTime,
}

impl<'a> AttemptEnded<'a> {
    /// One that has ended at this time.
    pub(crate) fn new(
        item: &'a Item,
        request: &'a Request,
        attempt: &'a Attempt,
        reply: Option<&'a Completion>,
        ended: SystemTime,
    ) -> Self {
        Self {
            item,
            request,
            attempt,
            reply,
            ended,
        }
    }

    /// When it was sent.
    pub fn began(&self) -> SystemTime {
        let began = self.ended.checked_sub(self.attempt.latency);
        began.unwrap_or(self.ended)
    }
}
