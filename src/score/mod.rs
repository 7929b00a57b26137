//! Layer 3: how good the answers are.
//!
//! What this folder promises: every figure says of how many it is, and has an interval where one can be given; the
//! same rows give the same figures, to the last bit, however often they are reckoned; memory does not grow with the
//! rows.
//!
//! [`Matcher`] and [`Judge`] say what one answer is worth; [`Board`] is what the lines of the results are shown to, row by
//! row; [`Pairs`] is what two runs are compared by.

mod agreement;
mod binomial;
mod board;
mod bootstrap;
mod consensus;
mod gate;
pub mod interval;
mod judge;
mod labels;
mod matrix;
mod paired;
mod ratio;
mod scorer;
mod votes;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trials;

pub use board::{Board, BoardPlan, Judged};
pub use consensus::consensus;
pub use gate::{Figures, Part, judge};
pub use judge::{Judge, Tag};
pub use paired::{Pairs, verdict};
pub use scorer::{Matcher, NOTHING_WANTED, Score};
