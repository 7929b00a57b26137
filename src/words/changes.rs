//! What a job asks, compared with what its store holds already.

/// How many rows there are of each sort; a row counts once for each entry of the matrix and repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Done, and their request is the same: not asked again.
    pub unchanged: u64,
    /// Done, but the request is another now: asked again.
    pub changed: u64,
    /// Never asked.
    pub new: u64,
    /// In the store, and no longer in the input: kept, and left out of the results.
    pub removed: u64,
    /// Asked by a runner that was killed before the answer came; they may have been billed.
    pub unknown: u64,
    /// Asked without an answer: asked again.
    pub failed: u64,
    /// How many rows of the input the store had never seen (which are among `new`, or take the place of one
    /// that was removed and asked the same).
    pub unseen: u64,
    /// Whether the store was there before.
    pub resumed: bool,
}

impl Changes {
    /// All rows of the job.
    pub fn rows(&self) -> u64 {
        self.unchanged + self.changed + self.new + self.unknown + self.failed
    }

    /// Whether the job or its input is not what the store knows.
    pub fn is_change(&self) -> bool {
        !self.resumed || self.changed > 0 || self.removed > 0 || self.unseen > 0
    }
}
