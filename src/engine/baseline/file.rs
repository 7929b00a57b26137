//! The file that `runner baseline` writes: the mean score of each row, by its key.

use std::fmt::Write;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::engine::graded::Graded;
use crate::words::{Digest, Usd};

/// Names the form of the file.
pub(super) const SCHEMA: &str = "runner.baseline/1";
/// A baseline file as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    schema: String,
    job: String,
    scorers: Vec<String>,
    entries: Vec<String>,
    cost_usd: Option<Usd>,
    latency_ms: Percentiles,
    /// By the key of the row: for each entry the mean of each scorer.
    scores: IndexMap<String, Vec<Vec<Option<f64>>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Percentiles {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
}

/// The text of a baseline file: a line a row, by key, so that a change of it can be read.
pub(super) fn render(graded: &Graded) -> String {
    let [p50, p90, p99] = graded.latency_ms;
    let stored = Stored {
        schema: SCHEMA.to_owned(),
        job: graded.job.clone(),
        scorers: graded.scorers.clone(),
        entries: graded.entries.clone(),
        cost_usd: graded.cost,
        latency_ms: Percentiles { p50, p90, p99 },
        scores: IndexMap::new(),
    };
    let head = serde_json::json!(stored);
    let fields = head.as_object().into_iter().flatten();
    let mut text = "{\n".to_owned();
    for (name, value) in fields.filter(|(name, _)| *name != "scores") {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  \"{name}\": {value},");
    }
    text.push_str("  \"scores\": {");
    let mut rows: Vec<(String, usize)> = graded
        .rows
        .iter()
        .map(ToString::to_string)
        .zip(0..)
        .collect();
    rows.sort_unstable();
    for (position, (key, row)) in rows.iter().enumerate() {
        let entries = graded.entries.len();
        let of_unit = |entry: usize| -> Vec<Option<f64>> {
            let scorers = 0..graded.scorers.len();
            scorers
                .map(|scorer| graded.score(row * entries + entry, scorer))
                .collect()
        };
        let scores: Vec<_> = (0..entries).map(of_unit).collect();
        let comma = if position == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}\n    \"{key}\": {}",
            serde_json::json!(scores)
        );
    }
    text.push_str("\n  }\n}\n");
    text
}

/// Reads such a file; an error says why it is none.
pub(super) fn read(bytes: &[u8]) -> Result<Graded, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.scorers.is_empty() || stored.entries.is_empty() {
        return Err("it has no scores".to_owned());
    }
    let mut graded = Graded::new(&stored.job, &stored.scorers, &stored.entries);
    let Percentiles { p50, p90, p99 } = stored.latency_ms;
    (graded.cost, graded.latency_ms) = (stored.cost_usd, [p50, p90, p99]);
    for (key, scores) in stored.scores {
        let is_whole = scores.len() == graded.entries.len()
            && scores
                .iter()
                .all(|scores| scores.len() == graded.scorers.len());
        match Digest::from_hex(&key).filter(|_| is_whole) {
            Some(row) => graded.add_scores(row, scores.into_iter().flatten()),
            None => return Err(format!("its line `{key}` is not as it should be")),
        }
    }
    Ok(graded)
}
