//! Layer 3: how good the answers are.
//!
//! What this folder promises: every figure says of how many it is, and has an interval where one can be given; the
//! same rows give the same figures, to the last bit, however often they are reckoned; memory does not grow with the
//! rows.

mod gate;

pub use gate::{Figures, Part, judge};
