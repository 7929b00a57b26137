//! Layer 2: the input files. Paths and patterns → rows, streamed.
//!
//! What this folder promises: every file is read at least twice and never held. [`Inputs::scan`] reads all of it
//! before anything is spent and finds every problem at once (encoding, ragged records, headers, ids);
//! [`Inputs::rows`] reads it again, record by record, in order. A file that changes in between is an
//! error, not a different result. What a row is known by does not depend on where it stands. Cells are the
//! bytes of the file, unquoted and otherwise untouched.
//!
//! The way of a file, one source file a step: `files` (which files) → `origin` (its bytes, unpacked) → `header` (its
//! columns) → `records` (CSV by `bytes`, `json_lines`, `parquet_file`) → `scan` (what is wrong) → `scanned` (rows).

mod bytes;
mod contents;
mod files;
#[cfg(feature = "parquet")]
mod guard;
mod header;
mod ids;
mod json_lines;
mod origin;
#[cfg(feature = "parquet")]
mod parquet_file;
#[cfg(feature = "parquet")]
mod parquet_text;
mod records;
mod scan;
mod scanned;
mod take;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::job::{InputPlan, Problem};
use crate::words::{Columns, Row};

use contents::{Contents, Repeated};
use ids::Ids;
use records::Mended;
use scan::{Scanning, Told};
use scanned::Scanned;
use take::Selection;

/// The inputs of a job, scanned and found sound.
#[derive(Debug)]
pub struct Inputs {
    columns: Arc<Columns>,
    entries: Vec<Entry>,
    rows: u64,
    repeated: Repeated,
    first: Option<Arc<Row>>,
    /// Which files have nothing in them, and why.
    empty: Vec<String>,
}

/// One entry of `inputs`: its files and which of their records are used.
#[derive(Debug)]
struct Entry {
    files: Vec<Scanned>,
    id: Option<usize>,
    selection: Selection,
}

/// Why the rows cannot be read on. Nothing of this is found in a file that a scan found sound, unless
/// the file changed.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file is not what it was when it was scanned.
    #[error("{path} changed while it was read; run the job again")]
    Changed {
        /// The file.
        path: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl Inputs {
    /// Reads all inputs once. Returns what was found sound, the columns where a header could be read
    /// even if other things are wrong, and adds every problem to `problems`.
    pub fn scan(
        plans: &[InputPlan],
        problems: &mut Vec<Problem>,
    ) -> (Option<Self>, Option<Arc<Columns>>) {
        let before = problems.len();
        let mut scan = Scan::default();
        for plan in plans {
            scan.entry(plan, problems);
        }
        let columns = scan.columns.clone();
        scan.ids.problems(problems);
        let is_sound = problems.len() == before;
        // Nothing at all names no columns, and has no row that could miss one.
        let columns = columns.or_else(|| {
            (is_sound && !scan.empty.is_empty()).then(|| Arc::new(Columns::new(Vec::new())))
        });
        let inputs = match (&columns, is_sound) {
            (Some(columns), true) => {
                let mut inputs = Self {
                    empty: scan.empty,
                    columns: Arc::clone(columns),
                    rows: scan
                        .entries
                        .iter()
                        .map(|entry| entry.selection.rows())
                        .sum(),
                    entries: scan.entries,
                    repeated: scan.contents.repeated(),
                    first: None,
                };
                let first = inputs.rows().next().and_then(Result::ok);
                inputs.first = first.map(Arc::new);
                Some(inputs)
            }
            _ => None,
        };
        (inputs, columns)
    }

    /// How many rows will be read.
    pub fn count(&self) -> u64 {
        self.rows
    }

    /// The first row, to try a template on.
    pub fn first(&self) -> Option<&Arc<Row>> {
        self.first.as_ref()
    }

    /// The files that have a name, and what messages call them.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        let files = self.entries.iter().flat_map(|entry| &entry.files);
        files.filter_map(Scanned::path_and_name)
    }

    /// What people should know before the rows are used: records that are left out or changed, files without any.
    pub fn notices(&self) -> Vec<String> {
        let files = self.entries.iter().flat_map(|entry| &entry.files);
        let files: Vec<(&str, Mended)> = files
            .map(|file| (file.found.name.as_str(), file.mended))
            .collect();
        let mut notices: Vec<String> = files
            .iter()
            .flat_map(|(name, mended)| mended.notices(name))
            .collect();
        let mut without = self.empty.clone();
        if self.rows == 0 {
            let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
            match names.len() {
                0 => {}
                1 => without.push(format!("{} has a header and no rows", names[0])),
                _ => without.push(format!("{} have a header and no rows", names.join(", "))),
            }
            without = vec![format!("0 rows: {}", without.join(", "))];
        }
        notices.extend(without);
        notices
    }

    /// Uses at most the first so many rows.
    pub fn truncate(&mut self, rows: u64) {
        self.rows = self.rows.min(rows);
    }

    /// The error that a file is not what it was when it was scanned, if so.
    pub fn changed(&self) -> Option<InputError> {
        self.entries
            .iter()
            .flat_map(|entry| &entry.files)
            .find_map(Scanned::changed)
    }

    /// The rows, in order, each time from the first. Ends after the first error.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, InputError>> + Send + '_ {
        let mut index = 0;
        let mut occurrences = self.repeated.count();
        let mut failed = false;
        self.entries
            .iter()
            .flat_map(|entry| entry.rows(&self.columns).map(|row| (row, entry.id)))
            .map(move |(row, id)| {
                let mut row = row?;
                row.index = index;
                index += 1;
                row.key = match id {
                    Some(column) => Row::key_of_id(&row.cells[column]),
                    None => {
                        let content = row.content();
                        Row::key_of_content(content, occurrences.before(content))
                    }
                };
                Ok(row)
            })
            .take_while(move |row| !std::mem::replace(&mut failed, row.is_err()))
            .take(usize::try_from(self.rows).unwrap_or(usize::MAX))
    }
}

impl Entry {
    fn rows<'a>(
        &'a self,
        columns: &'a Arc<Columns>,
    ) -> impl Iterator<Item = Result<Row, InputError>> + Send + 'a {
        let mut chosen = self.selection.choose();
        self.files
            .iter()
            .flat_map(move |file| file.rows(columns, self.id))
            .take(self.selection.records())
            .filter(move |row| row.is_err() || chosen.next().unwrap_or(false))
    }
}

/// What a scan has found so far.
#[derive(Debug, Default)]
struct Scan {
    columns: Option<Arc<Columns>>,
    entries: Vec<Entry>,
    ids: Ids,
    contents: Contents,
    empty: Vec<String>,
}

impl Scan {
    fn entry(&mut self, plan: &InputPlan, problems: &mut Vec<Problem>) {
        let paths = match files::find(plan) {
            Ok(paths) => paths,
            Err(problem) => return problems.push(problem),
        };
        let mut files = Vec::with_capacity(paths.len());
        let mut records = 0;
        let mut id = None;
        for path in paths {
            let left = Selection::left(plan.take, records);
            if left == 0 {
                break;
            }
            if let Some(why) = path.nothing() {
                self.empty.push(format!("{} {why}", path.name));
                continue;
            }
            let Some(open) = Scanning::open(path, self.columns.as_ref(), problems) else {
                continue;
            };
            let columns = self
                .columns
                .get_or_insert_with(|| Arc::clone(open.columns()));
            if let Some((name, place)) = &plan.id {
                match columns.position(name) {
                    Some(position) => id = Some(position),
                    None => {
                        problems.push(ids::unknown(name, place.clone(), columns));
                        continue;
                    }
                }
            }
            let told = match id {
                Some(column) => Told::ById(column, &mut self.ids),
                None => Told::ByContent(&mut self.contents),
            };
            let (file, found) = open.scan(left, told, problems);
            records += found;
            files.push(file);
        }
        self.entries.push(Entry {
            files,
            id,
            selection: Selection::of(plan.take, records),
        });
    }
}
