//! Layer 3: how good the answers are.
//!
//! What this folder promises: every figure says of how many it is, and has an interval where one can be given; the
//! same rows give the same figures, to the last bit, however often they are reckoned; memory does not grow with the
//! rows.
//!
//! [`Board`] is what the lines of the results are shown to, row by row; [`Pairs`] is what two runs are compared by.

// Nothing above asks for it yet.
#![allow(dead_code, unused_imports)]

mod agreement;
mod binomial;
mod board;
mod bootstrap;
mod gate;
pub mod interval;
mod labels;
mod matrix;
mod paired;
mod ratio;
mod votes;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trials;

pub use board::{Board, BoardPlan, Judged};
pub use gate::{Figures, Part, judge};
pub use paired::{Pairs, verdict};
