//! Declared ids: a column that names each row, unique over the job.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::job::{Place, Problem};
use crate::words::Columns;

use super::scan::MAX_PROBLEMS;
use super::scanned::Scanned;

/// The ids seen so far, as 8 bytes each; freed when the scan ends.
#[derive(Debug, Default)]
pub(super) struct Ids {
    hashes: Vec<u64>,
    files: Vec<(Scanned, usize)>,
}

impl Ids {
    /// Takes note of an id.
    pub(super) fn add(&mut self, id: &str) {
        self.hashes.push(hash(id));
    }

    /// Takes note of a file whose ids were added, and of the column they stand in.
    pub(super) fn add_file(&mut self, file: Scanned, column: usize) {
        self.files.push((file, column));
    }

    /// A problem for each id that occurs twice, naming both places. Reads the files again, and only
    /// if two hashes are equal.
    pub(super) fn problems(mut self, problems: &mut Vec<Problem>) {
        self.hashes.sort_unstable();
        let repeated: HashSet<u64> = self
            .hashes
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        if repeated.is_empty() {
            return;
        }
        // Where each of them stands first. What is shown of it is looked up when it is shown.
        let mut first: HashMap<String, (&Scanned, csv::Position)> = HashMap::new();
        let mut more = 0;
        for (file, column) in &self.files {
            for (position, id) in file.column(*column) {
                if !repeated.contains(&hash(&id)) {
                    continue;
                }
                let Some((earlier, at)) = first.get(&id) else {
                    first.insert(id, (file, position));
                    continue;
                };
                more += 1;
                if more <= MAX_PROBLEMS {
                    let earlier = earlier.named(at);
                    let message = format!("the id `{}` occurs twice", id.escape_debug());
                    let problem = match file.found.has_lines() {
                        true => Problem::new(message)
                            .at(file.place(&position))
                            .labelled("again here"),
                        false => {
                            Problem::new(format!("{message}, again in {}", file.named(&position)))
                        }
                    };
                    problems.push(problem.help(format!(
                        "it names the row at {earlier} too; an id must be unique over the job"
                    )));
                }
            }
        }
        if more > MAX_PROBLEMS {
            problems.push(Problem::new(format!(
                "{} more ids occur twice",
                more - MAX_PROBLEMS
            )));
        }
    }
}

/// The problem of an id column that does not exist.
pub(super) fn unknown(name: &str, place: Option<Place>, columns: &Columns) -> Problem {
    let problem = Problem::new(format!("the input has no column `{name}`"))
        .help(format!("its columns are {}", columns.names().join(", ")));
    match place {
        Some(place) => problem.at(place),
        None => problem,
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
