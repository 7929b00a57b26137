//! What an item's answer must be, and what is done about one that is not.

use std::fmt;
use std::sync::Arc;

use crate::words::{Completion, Status};

/// Why a text is no answer, and what the model is told to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Why it is none.
    pub reason: String,
    /// What the model is told.
    pub demand: String,
}

/// Whether a text is an answer.
pub type Check = Arc<dyn Fn(&str) -> Result<(), Rejected> + Send + Sync>;

/// What an item's answer must be.
#[derive(Clone, Default)]
pub struct Demand {
    /// Whether a text is one; `None` where any is.
    pub check: Option<Check>,
    /// How often each backend is asked again for one that is not.
    pub reask: u32,
    /// Whether the item is about the answer to another one.
    pub judges: bool,
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reask, judges, .. } = self;
        write!(f, "Demand {{ reask: {reask}, judges: {judges} }}")
    }
}

impl Demand {
    /// The reply, and why it is not valid if it is not. What was cut, refused or filtered is what it is.
    pub(super) fn look_at(&self, mut reply: Completion) -> Completion {
        if let Some(check) = &self.check
            && Status::of(&reply) == Status::Answered
        {
            reply.invalid = check(&reply.text).err().map(|rejected| rejected.reason);
        }
        reply
    }

    /// What a model is told that gave this answer; `None` where it is none that can be mended so.
    pub(super) fn mends(&self, reply: &Completion) -> Option<String> {
        let mends = matches!(Status::of(reply), Status::Invalid | Status::Empty);
        let check = self.check.as_ref().filter(|_| mends)?;
        check(&reply.text).err().map(|rejected| rejected.demand)
    }
}
