//! One line of the results, before it has an outcome.

use std::sync::Arc;

use super::{Attempt, Row, Usd};

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

/// An item that has to be asked, and what was tried before in this run directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The item.
    pub item: Item,
    /// Every attempt so far whose end is known, in order.
    pub attempts: Vec<Attempt>,
    /// The highest number of an attempt so far, known end or not; 0 without any.
    pub last_number: u32,
    /// How many of the attempts belong to a request that was answered, and that the job makes no more.
    pub superseded: usize,
    /// How many of them belong to ways that came to their end; the others to one that was cut.
    pub ended: usize,
    /// What attempts may have cost whose end is not known, as far as there is a bound.
    pub unknown: Usd,
    /// The answer that it is about, if it is about one.
    pub about: Option<String>,
}

impl Due {
    /// An item that was never asked.
    pub fn new(item: Item) -> Self {
        Self {
            item,
            attempts: Vec::new(),
            last_number: 0,
            superseded: 0,
            ended: 0,
            unknown: Usd::ZERO,
            about: None,
        }
    }
}
