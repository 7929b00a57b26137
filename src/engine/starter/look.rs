//! What is in an input: which column is asked about, names a row, or says what the answer should be.

use std::collections::{HashMap, HashSet};

use crate::input::{InputError, Inputs};

/// How many rows are looked at; the others are taken to be like them.
const LOOKED_AT: usize = 20_000;
/// The most labels that a model is expected to tell apart.
const MOST_LABELS: usize = 30;
/// The longest label, in characters.
const LONGEST_LABEL: usize = 60;
/// A value that is a label is there so often, in the mean.
const ROWS_PER_LABEL: usize = 2;
/// Names of columns that are asked about; the ones that are clearer first.
const ASKED: [&str; 16] = [
    "text",
    "question",
    "prompt",
    "input",
    "body",
    "content",
    "message",
    "review",
    "ticket",
    "comment",
    "sentence",
    "passage",
    "document",
    "article",
    "query",
    "description",
];
/// Names of columns that hold the answer, as far as it is known; the ones that are clearer first.
const WANTED: [&str; 18] = [
    "label",
    "labels",
    "expected",
    "expected_answer",
    "expected_output",
    "gold",
    "ground_truth",
    "truth",
    "target",
    "reference",
    "category",
    "class",
    "answer",
    "sentiment",
    "intent",
    "topic",
    "type",
    "tag",
];

/// What was found in an input.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Its columns.
    pub(super) columns: Vec<String>,
    /// What stands between its cells, where a job has to say so.
    pub(super) delimiter: Option<&'static str>,
    /// How many rows it has.
    pub(super) rows: u64,
    /// The column that is asked about.
    pub(super) text: usize,
    /// The column that names a row.
    pub(super) id: Option<usize>,
    /// The column with the answers that are wanted.
    pub(super) wanted: Option<usize>,
    /// The values of that column, the commonest first, if they are labels.
    pub(super) labels: Vec<String>,
    /// Whether they are numbers, and no labels.
    pub(super) numbers: bool,
}

/// Names that stand over labels and nothing else: without labels under them there is nothing to compare with.
const LABELS_ONLY: [&str; 3] = ["label", "labels", "target"];

/// What was seen of a column.
#[derive(Debug, Default)]
struct Column {
    chars: usize,
    blank: usize,
    /// How often each value occurs, of as many as can be labels and one.
    values: HashMap<String, usize>,
    seen: HashSet<u64>,
    repeats: bool,
    has_long: bool,
    /// How many of its cells are no numbers.
    words: usize,
}

impl Look {
    /// Looks at the rows.
    pub(super) fn at(inputs: &Inputs, names: &[String]) -> Result<Self, InputError> {
        let mut columns: Vec<Column> = names.iter().map(|_| Column::default()).collect();
        let mut looked_at = 0;
        for row in inputs.rows().take(LOOKED_AT) {
            looked_at += 1;
            for (column, cell) in columns.iter_mut().zip(&row?.cells) {
                column.see(cell);
            }
        }
        let id = id_of(names, &columns);
        let wanted = wanted_of(names, &columns, looked_at, id);
        let labels = wanted.map(|at| columns[at].labels(looked_at));
        let labels = labels.unwrap_or_default();
        Ok(Self {
            numbers: labels.is_empty() && wanted.is_some_and(|at| columns[at].words == 0),
            columns: names.to_vec(),
            delimiter: None,
            rows: inputs.count(),
            text: text_of(names, &columns, [id, wanted]),
            id,
            wanted,
            labels,
        })
    }
}

impl Column {
    fn see(&mut self, cell: &str) {
        let chars = cell.chars().count();
        self.chars += chars;
        self.has_long |= chars > LONGEST_LABEL || cell.trim() != cell;
        if cell.trim().is_empty() {
            self.blank += 1;
        }
        if !cell.parse::<f64>().is_ok_and(f64::is_finite) {
            self.words += 1;
        }
        self.repeats |= !self.seen.insert(hash(cell));
        if self.values.len() <= MOST_LABELS {
            *self.values.entry(cell.to_owned()).or_default() += 1;
        }
    }

    /// Its values, the commonest first, if they are labels; else none.
    fn labels(&self, rows: usize) -> Vec<String> {
        let count = self.values.len();
        let are_labels = (2..=MOST_LABELS).contains(&count)
            && count * ROWS_PER_LABEL <= rows
            && self.blank == 0
            && !self.has_long;
        if !are_labels {
            return Vec::new();
        }
        let mut labels: Vec<(&String, usize)> =
            self.values.iter().map(|(value, n)| (value, *n)).collect();
        labels.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
        labels.into_iter().map(|(label, _)| label.clone()).collect()
    }
}

fn hash(cell: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    cell.hash(&mut hasher);
    hasher.finish()
}

/// The name as it is compared: `Ticket ID` and `ticket-id` are `ticket_id`.
fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-', '.'], "_")
}

/// The first column whose name says that it names rows, and whose values do.
fn id_of(names: &[String], columns: &[Column]) -> Option<usize> {
    let says_so = |name: &str| {
        let plain = plain(name);
        let is_one = ["id", "uuid", "guid", "key", "uid"].contains(&plain.as_str());
        is_one || plain.ends_with("_id") || plain.starts_with("id_") || name.ends_with("Id")
    };
    let tells = |column: &Column| !column.repeats && column.blank == 0;
    let found = names.iter().zip(columns);
    let mut found = found.map(|(name, column)| says_so(name) && tells(column));
    found.position(|is_id| is_id)
}

/// The column whose name says most clearly that it holds the answers; one that has gaps does not say them.
fn wanted_of(
    names: &[String],
    columns: &[Column],
    rows: usize,
    id: Option<usize>,
) -> Option<usize> {
    if rows == 0 {
        return None;
    }
    let rank = |at: usize| {
        let name = plain(&names[at]);
        let clear = WANTED.iter().position(|wanted| name == *wanted);
        let rank = clear.or_else(|| {
            let ends = |wanted: &&str| name.ends_with(&format!("_{wanted}"));
            WANTED.iter().position(ends).map(|rank| rank + WANTED.len())
        })?;
        // A clear name may stand over answers in words; a name such as `type` only over labels or numbers.
        let in_words = rank < WANTED.iter().position(|name| *name == "category")?;
        let column = &columns[at];
        let are_some = column.words == 0 || !column.labels(rows).is_empty();
        let in_words = in_words && !LABELS_ONLY.contains(&name.as_str());
        let will_do = column.blank == 0 && (in_words || are_some);
        (will_do && Some(at) != id && names.len() > 1).then_some(rank)
    };
    let ranked = (0..names.len()).filter_map(|at| Some((rank(at)?, at)));
    ranked.min().map(|(_, at)| at)
}

/// The column whose name says most clearly that it is asked about, else that with the longest texts.
fn text_of(names: &[String], columns: &[Column], taken: [Option<usize>; 2]) -> usize {
    let left = || (0..columns.len()).filter(|at| !taken.contains(&Some(*at)));
    let named = left().filter_map(|at| {
        let name = plain(&names[at]);
        let rank = ASKED.iter().position(|asked| name == *asked)?;
        // A name over nothing says nothing.
        (columns[at].chars > 0).then_some((rank, at))
    });
    if let Some((_, at)) = named.min() {
        return at;
    }
    // Of equal ones the first.
    left()
        .rev()
        .max_by_key(|at| columns[*at].chars)
        .or(taken[1])
        .or(taken[0])
        .unwrap_or(0)
}
