//! One line of the results, before it has an outcome.

use std::sync::Arc;

use super::Row;

/// A row, asked of one entry of the matrix, for the nth time. Each has exactly one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The row.
    pub row: Arc<Row>,
    /// Which entry of the job's `matrix`, counted from 0; 0 without one.
    pub entry: u32,
    /// Which of the job's `repeat`s, counted from 0.
    pub repeat: u32,
}

impl Item {
    /// The row asked once, without a matrix.
    pub fn of(row: Arc<Row>) -> Self {
        Self {
            row,
            entry: 0,
            repeat: 0,
        }
    }
}
