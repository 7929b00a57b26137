//! A copy of a `results.jsonl` as what a run is compared with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, Read};

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;

use super::MOST;
use crate::engine::graded::Graded;
use crate::words::{Digest, Row};

/// What is read of a line.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    id: String,
    /// In the order of the names, as what a row holds is known by.
    row: BTreeMap<String, String>,
    entry: Option<String>,
    repeat: u64,
    scores: IndexMap<String, Option<f64>>,
}

/// The lines so far.
#[derive(Default)]
struct Lines {
    scorers: Vec<String>,
    entries: IndexSet<String>,
    /// By what names the row.
    rows: IndexMap<String, Means>,
    /// How many rows with the same content there were.
    contents: HashMap<Digest, u64>,
    seen: HashSet<Digest>,
}

/// What the lines of a row add up to.
struct Means {
    key: Digest,
    /// For each entry and scorer the sum of the scores, and how many they are.
    sums: Vec<(f64, u32)>,
}

/// The line, if it is one of results.
pub(super) fn line(bytes: &[u8]) -> Option<Line> {
    serde_json::from_slice(bytes).ok()
}

/// Reads the scores of the lines; an error says why there are none. `rows`: those that they will be compared with, since
/// the lines do not say whether a row is known by its `id` or by its content.
pub(super) fn read(
    first: &Line,
    mut rest: impl BufRead,
    rows: &IndexSet<Digest>,
) -> Result<Graded, String> {
    if first.scores.is_empty() {
        return Err("it has no scores".to_owned());
    }
    let mut lines = Lines {
        scorers: first.scores.keys().cloned().collect(),
        ..Lines::default()
    };
    lines.add(first, rows)?;
    let mut bytes = Vec::new();
    for number in 2_u64.. {
        bytes.clear();
        let read = rest.by_ref().take(MOST).read_until(b'\n', &mut bytes);
        if read.map_err(|error| error.to_string())? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let line = serde_json::from_slice(&bytes);
        let line = line.map_err(|error| error.to_string());
        line.and_then(|line| lines.add(&line, rows))
            .map_err(|why| format!("its line {number} is not as it should be: {why}"))?;
    }
    Ok(lines.graded())
}

impl Lines {
    fn add(&mut self, line: &Line, rows: &IndexSet<Digest>) -> Result<(), String> {
        let name = line.entry.clone().unwrap_or_default();
        let what = [
            line.id.as_bytes(),
            name.as_bytes(),
            &line.repeat.to_le_bytes(),
        ];
        if !self.seen.insert(Digest::of(what)) {
            return Err(format!(
                "the row `{}` is there twice",
                line.id.escape_debug()
            ));
        }
        let (entry, _) = self.entries.insert_full(name);
        if !self.rows.contains_key(&line.id) {
            let key = self.key(line, rows);
            let sums = Vec::new();
            self.rows.insert(line.id.clone(), Means { key, sums });
        }
        let Some(row) = self.rows.get_mut(&line.id) else {
            return Ok(());
        };
        let first = entry * self.scorers.len();
        let needed = first + self.scorers.len();
        if row.sums.len() < needed {
            row.sums.resize(needed, (0.0, 0));
        }
        for (scorer, cell) in self.scorers.iter().zip(&mut row.sums[first..]) {
            if let Some(score) = line.scores.get(scorer).copied().flatten() {
                *cell = (cell.0 + score, cell.1 + 1);
            }
        }
        Ok(())
    }

    /// What the row is known by from run to run.
    fn key(&mut self, line: &Line, rows: &IndexSet<Digest>) -> Digest {
        let content = Digest::of(line.row.values());
        let before = self.contents.entry(content).or_default();
        let by_content = Row::key_of_content(content, *before);
        *before += 1;
        match rows.contains(&by_content) {
            true => by_content,
            false => Row::key_of_id(&line.id),
        }
    }

    /// The means.
    fn graded(self) -> Graded {
        let entries: Vec<String> = self.entries.into_iter().collect();
        let mut graded = Graded::new("", &self.scorers, &entries);
        let cells = entries.len() * self.scorers.len();
        for row in self.rows.into_values() {
            let mean = |at| {
                let (sum, lines): (f64, u32) = row.sums.get(at).copied()?;
                (lines > 0).then(|| sum / f64::from(lines))
            };
            graded.add_scores(row.key, (0..cells).map(mean));
        }
        graded
    }
}
