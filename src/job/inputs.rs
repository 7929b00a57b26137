//! What the job says of its inputs: the files, their form, the rows that are used.

use std::path::PathBuf;

use super::decode::{Decode, need, wrong};
use super::named::named;
use super::read::Job;
use super::resolve::in_range;
use super::schema::{Shapes, text_like};
use super::written::InputKeys;
use super::yaml::{Node, Value};
use super::{Place, Problem};

/// The path that means standard input.
pub const STDIN: &str = "-";

/// What to do where this program was built without Parquet.
pub const NO_PARQUET: &str =
    "build it with `cargo install tokio-prompt-orchestrator --features parquet`";

/// An input as the job names it; the input layer finds the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlan {
    /// The path or glob pattern, joined to the job file's directory.
    pub path: PathBuf,
    /// The path or pattern as it stands in the job file; [`STDIN`] for standard input.
    pub written: String,
    /// Where it stands in the job file.
    pub place: Option<Place>,
    /// The form of its files; without one each file's name says it.
    pub format: Option<InputFormat>,
    /// What stands between the cells of a CSV file, where the job says so.
    pub delimiter: Option<u8>,
    /// What is done about a record that is not UTF-8 text.
    pub on_bad_encoding: OnBadEncoding,
    /// What is done about a record that has not as many cells as the header.
    pub on_ragged: OnRagged,
    /// The column that names a row, and where the job file says so.
    pub id: Option<(String, Option<Place>)>,
    /// Which of its rows are used.
    pub take: Take,
}

impl InputPlan {
    /// Every row of this path or pattern, with all defaults.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            written: path.to_string_lossy().into_owned(),
            path,
            place: None,
            format: None,
            delimiter: None,
            on_bad_encoding: OnBadEncoding::Fail,
            on_ragged: OnRagged::Fail,
            id: None,
            take: Take::All,
        }
    }
}

/// The form of an input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Cells with commas, or another delimiter, between them.
    Csv,
    /// Cells with tabs between them.
    Tsv,
    /// A JSON object on each line.
    Jsonl,
    /// Parquet.
    Parquet,
}

impl InputFormat {
    /// Every form and its name in the job file.
    pub const NAMES: [(&'static str, InputFormat); 4] = [
        ("csv", InputFormat::Csv),
        ("tsv", InputFormat::Tsv),
        ("jsonl", InputFormat::Jsonl),
        ("parquet", InputFormat::Parquet),
    ];

    /// The form that a file's name says it has; CSV if it says nothing.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let name = [".gz", ".zst"]
            .into_iter()
            .find_map(|packed| name.strip_suffix(packed))
            .unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("tsv" | "tab") => Self::Tsv,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("parquet" | "pq") => Self::Parquet,
            _ => Self::Csv,
        }
    }
}

/// What is done about a record that is not UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadEncoding {
    /// Nothing is run.
    #[default]
    Fail,
    /// `\u{fffd}` stands for what cannot be read.
    Replace,
    /// The record is left out.
    Skip,
}

impl OnBadEncoding {
    /// Every way and its name in the job file.
    pub const NAMES: [(&'static str, OnBadEncoding); 3] = [
        ("fail", OnBadEncoding::Fail),
        ("replace", OnBadEncoding::Replace),
        ("skip", OnBadEncoding::Skip),
    ];
}

/// What is done about a record that has not as many cells as the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRagged {
    /// Nothing is run.
    #[default]
    Fail,
    /// The record is left out.
    Skip,
}

impl OnRagged {
    /// Every way and its name in the job file.
    pub const NAMES: [(&'static str, OnRagged); 2] =
        [("fail", OnRagged::Fail), ("skip", OnRagged::Skip)];
}

named! {
    InputFormat: Self::NAMES,
    OnBadEncoding: Self::NAMES,
    OnRagged: Self::NAMES,
}

/// What stands between the cells of a CSV file: a character, or `tab`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(pub u8);

impl Decode for Delimiter {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let delimiter = match &node.value {
            Value::Text(text) if text == "tab" => Some(b'\t'),
            Value::Text(text) => match text.as_bytes() {
                [b'\t'] => Some(b'\t'),
                [byte] if byte.is_ascii_punctuation() && *byte != b'"' => Some(*byte),
                _ => None,
            },
            _ => None,
        };
        delimiter
            .map(Delimiter)
            .or_else(|| wrong(node, "a text of one sign, such as \";\", or tab", problems))
    }

    fn schema(_: &mut Shapes) -> serde_json::Value {
        text_like("^(tab|\t|[!#-/:-@\\[-`{-~])$")
    }
}

/// Which rows of an input are used. Their order stays that of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Every row.
    All,
    /// The first so many.
    First(u64),
    /// So many rows, drawn without replacement; the same seed draws the same rows.
    Sample {
        /// How many.
        rows: u64,
        /// What the draw depends on.
        seed: u64,
    },
}

impl Job {
    /// The inputs as far as they can be read, whatever else is wrong with the job.
    pub fn inputs(&self) -> Vec<InputPlan> {
        let inputs = self.keys.inputs.iter().flat_map(|inputs| &inputs.value.0);
        let plan = |keys: &InputKeys| {
            let path = keys.path.as_ref()?;
            let id = keys.id.as_ref();
            let bad = keys.on_bad_encoding.as_ref();
            Some(InputPlan {
                path: self.folder().join(&path.value),
                written: path.value.clone(),
                place: Some(path.span.place()),
                format: keys.format.as_ref().map(|format| format.value),
                delimiter: keys.delimiter.as_ref().map(|delimiter| delimiter.value.0),
                on_bad_encoding: bad.map(|on| on.value).unwrap_or_default(),
                on_ragged: keys
                    .on_ragged
                    .as_ref()
                    .map_or(OnRagged::Fail, |on| on.value),
                id: id.map(|id| (id.value.clone(), Some(id.span.place()))),
                take: take(keys),
            })
        };
        inputs.filter_map(|input| plan(&input.keys)).collect()
    }

    /// Finds what is wrong with the inputs, but for what their files say.
    pub(super) fn check_inputs(&self, problems: &mut Vec<Problem>) {
        let Some(inputs) = &self.keys.inputs else {
            if self.keys.written.key("inputs").is_none() {
                let problem = self.start.problem("the job has no `inputs`");
                problems.push(problem.help("name a CSV file: `inputs: rows.csv`"));
            }
            return;
        };
        if inputs.value.0.is_empty() && self.problems.is_empty() {
            let problem = inputs.span.problem("the list of inputs is empty");
            problems.push(problem.help("name a CSV file"));
        }
        let mut reads_stdin = false;
        for input in &inputs.value.0 {
            let keys = &input.keys;
            if keys.path.is_none() && keys.written.key("path").is_none() {
                problems.push(input.span.problem("the input has no `path`"));
            }
            if let Some(path) = keys.path.as_ref().filter(|path| path.value == STDIN)
                && std::mem::replace(&mut reads_stdin, true)
            {
                let problem = path.span.problem("standard input is named twice");
                problems.push(problem.help("it can be read once; keep one `-`"));
            }
            if let (Some(_), Some(sample)) = (keys.written.key("limit"), keys.written.key("sample"))
            {
                let problem = sample.problem("`limit` and `sample` exclude each other");
                problems.push(problem.help("keep one of the two"));
            }
            in_range(keys.limit.as_ref(), "limit", 1..=u64::MAX, problems);
            if let Some(sample) = &keys.sample {
                need(sample, "sample", &["rows"], problems);
                in_range(sample.value.rows.as_ref(), "rows", 1..=u64::MAX, problems);
            }
        }
    }
}

fn take(keys: &InputKeys) -> Take {
    if let Some(sample) = &keys.sample
        && let Some(rows) = &sample.value.rows
    {
        let seed = sample.value.seed.as_ref().map_or(0, |seed| seed.value);
        return Take::Sample {
            rows: rows.value,
            seed,
        };
    }
    match &keys.limit {
        Some(limit) => Take::First(limit.value),
        None => Take::All,
    }
}
