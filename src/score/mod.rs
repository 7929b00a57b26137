//! Layer 3: how good the answers are.
//!
//! What this folder promises: every figure says of how many it is, and has an interval where one can be given; the
//! same rows give the same figures, to the last bit, however often they are reckoned; memory does not grow with the
//! rows.

mod judge;
mod scorer;

pub use judge::{Judge, Tag};
pub use scorer::Matcher;
