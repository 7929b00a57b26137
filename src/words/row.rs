//! One input record and the names of its cells.

use std::collections::HashMap;
use std::sync::Arc;

use super::Digest;

/// The header of the input: column names in file order, unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
    positions: HashMap<String, usize>,
    /// The positions in the order of the names.
    by_name: Vec<usize>,
}

impl Columns {
    /// Columns with these names. If a name occurs twice the first one is found by
    /// [`Columns::position`]; the input layer refuses such a header.
    pub fn new(names: Vec<String>) -> Self {
        let mut positions = HashMap::with_capacity(names.len());
        for (position, name) in names.iter().enumerate() {
            positions.entry(name.clone()).or_insert(position);
        }
        let mut by_name: Vec<usize> = (0..names.len()).collect();
        by_name.sort_by_key(|position| &names[*position]);
        Self {
            names,
            positions,
            by_name,
        }
    }

    /// The names, in file order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the column of this name stands, counted from 0.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// What these cells hold, given by position. The same in whatever order the columns stand.
    pub fn content<C: AsRef<[u8]>>(&self, cell: impl Fn(usize) -> C) -> Digest {
        Digest::of(self.by_name.iter().map(|position| cell(*position)))
    }
}

/// One input record: where it came from, and its cells as text, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the job, counted from 0 over all inputs after `limit` and `sample`.
    pub index: u64,
    /// What names it: the declared id column's cell, else `file:record` with the record counted from 1.
    pub id: String,
    /// The header that names the cells.
    pub columns: Arc<Columns>,
    /// As many as there are columns.
    pub cells: Vec<String>,
    /// What the row is known by from run to run, wherever it stands: its declared id, else its content
    /// and how many rows before it have the same.
    pub key: Digest,
}

impl Row {
    /// The key of a row that declares its id.
    pub fn key_of_id(id: &str) -> Digest {
        Digest::of(["id", id])
    }

    /// The key of a row without a declared id: its content, and how many rows before it have the same.
    pub fn key_of_content(content: Digest, occurrence: u64) -> Digest {
        Digest::of([&b"content"[..], content.as_ref(), &occurrence.to_le_bytes()])
    }

    /// What its cells hold, in whatever order the columns stand.
    pub fn content(&self) -> Digest {
        self.columns.content(|position| &self.cells[position])
    }

    /// The cell of this column.
    pub fn get(&self, column: &str) -> Option<&str> {
        let position = self.columns.position(column)?;
        self.cells.get(position).map(String::as_str)
    }
}
