//! The job that is written: every block says what it does, and what else could stand there.

use std::path::{Path, PathBuf};

use super::look::Look;
use super::servers::{Found, names};
use super::{Starter, StarterError, seen_from, tame};
use crate::engine::yaml::{cell, comment, scalar, short, verbatim};
use crate::job::{LABEL_COLUMNS, RESULT_COLUMNS, SCORE_COLUMN};
use crate::words::{Provider, Usd};

/// The most tokens of an answer in words.
const WORDS: usize = 256;
/// The most tokens of a label, at least.
const LABEL: usize = 16;

/// A job that is about to be written.
pub(super) struct Draft {
    look: Look,
    /// The job file as it is typed.
    job: String,
    /// The job's name, where that of its file will not do.
    name: Option<String>,
    input: String,
    /// What puts the text that is asked about into the prompt.
    text: String,
    /// What puts the answer that is wanted into a scorer.
    wanted: Option<String>,
    prefix: Option<String>,
    found: Vec<Found>,
    /// What a run will cost, and what it may.
    pub(super) cost: Option<(Usd, Usd)>,
}

impl Draft {
    pub(super) fn new(
        job: &Path,
        input: &Path,
        mut look: Look,
        found: Vec<Found>,
    ) -> Result<Self, StarterError> {
        let cells: Vec<Option<String>> = look
            .columns
            .iter()
            .map(|column| cell(column, &look.columns))
            .collect();
        if cells[look.text].is_none() {
            let first = cells.iter().position(Option::is_some);
            look.text = first.unwrap_or(look.text);
        }
        let wanted = look.wanted.and_then(|at| cells[at].clone());
        let text = cells[look.text].clone().unwrap_or_default();
        Ok(Self {
            prefix: prefix(&look.columns),
            input: seen_from(job, input)?,
            job: shell(job),
            name: name(job),
            look,
            text,
            wanted,
            found,
            cost: None,
        })
    }

    /// Leaves out what may be wrong; whether there was anything to leave out.
    pub(super) fn leave_out(&mut self) -> bool {
        if self.look.id.take().is_some() {
            return true;
        }
        if !self.look.labels.is_empty() {
            self.look.labels.clear();
            return true;
        }
        if std::mem::take(&mut self.look.numbers) {
            return true;
        }
        self.wanted.take().is_some()
    }

    /// Whether anybody who is asked wants money.
    pub(super) fn pays(&self) -> bool {
        let mut found = self.found.iter();
        found.any(|found| found.provider.key_env().is_some())
    }

    /// What is told of the job.
    pub(super) fn told(self, job: PathBuf, input: PathBuf, written: Vec<PathBuf>) -> Starter {
        let column = |at: usize| self.look.columns[at].clone();
        let count = Some(self.look.labels.len()).filter(|count| *count > 0);
        let wanted = self.wanted.and(self.look.wanted);
        let backends = self.found.iter().map(|found| {
            let (name, _, _) = names(found.provider);
            (name.to_owned(), found.model.clone())
        });
        let mut backends: Vec<_> = backends.collect();
        let sends = !backends.is_empty();
        if !sends {
            backends.push(("dry".to_owned(), None));
        }
        Starter {
            job,
            written,
            input,
            rows: self.look.rows,
            text: column(self.look.text),
            id: self.look.id.map(column),
            wanted: wanted.map(|at| (column(at), count)),
            backends,
            sends,
            cost: self.cost,
        }
    }

    /// The job file.
    pub(super) fn yaml(&self) -> String {
        let blocks = [
            self.head(),
            self.inputs(),
            self.prompt(),
            self.answer(),
            self.score(),
            self.backends(),
            self.order(),
            self.money(),
            self.output(),
        ];
        let blocks: Vec<String> = blocks
            .into_iter()
            .filter(|block| !block.is_empty())
            .collect();
        blocks.join("\n")
    }

    fn head(&self) -> String {
        let Self { job, look, .. } = self;
        let columns = look.columns.iter().take(12).map(|column| short(column));
        let columns: Vec<String> = columns.collect();
        let name = self.name.as_ref();
        let name = name.map_or_else(String::new, |name| format!("\nname: {}\n", scalar(name)));
        let more = if look.columns.len() > 12 { ", …" } else { "" };
        format!(
            "# yaml-language-server: $schema=job.schema.json\n\
             # Written by `runner init`, to be changed. With the line above editors complete keys and say what they mean.\n\
             #   runner check {job}       finds what is wrong; sends nothing\n\
             #   runner plan {job}        what a run will ask, take and cost; sends nothing\n\
             #   runner {job} --limit 5   asks the first 5 rows; the same command again goes on\n\
             # Columns of the input: {}{more}\n{name}",
            columns.join(", ")
        )
    }

    fn inputs(&self) -> String {
        let path = scalar(&self.input);
        let id = match self.look.id {
            Some(at) => format!("    id: {} # names a row in results and messages\n", scalar(&self.look.columns[at])),
            None => "    # id: COLUMN # names a row in results and messages; without it: file and record\n".to_owned(),
        };
        let delimiter = self.look.delimiter.map_or_else(String::new, |said| {
            format!("    delimiter: {said} # what stands between the cells\n")
        });
        format!(
            "# Where the rows come from: a path, a pattern such as data/*.csv, or a list of them.\n\
             inputs:\n  - path: {path}\n{delimiter}{id}    # sample: {{ rows: 100, seed: 7 }} # only some of the rows, always the same; or limit: 100\n"
        )
    }

    fn prompt(&self) -> String {
        let task = match self.look.labels.is_empty() {
            true if self.look.numbers => "Answer with a number and nothing else.".to_owned(),
            true if self.wanted.is_some() => {
                "Answer as briefly as you can, and with nothing else.".to_owned()
            }
            true => "Say in one sentence what the text is about.".to_owned(),
            false => {
                let labels: Vec<String> = self
                    .look
                    .labels
                    .iter()
                    .map(|label| verbatim(label))
                    .collect();
                format!(
                    "Answer with one of these labels and nothing else: {}",
                    labels.join(", ")
                )
            }
        };
        format!(
            "# What is asked about each row. {{{{ column }}}} puts a cell in, {{{{ row[\"any name\"] }}}} one with a name of several words.\n\
             prompt:\n  system: |-\n    {task}\n  user: |-\n    {}\n",
            self.text
        )
    }

    fn answer(&self) -> String {
        if self.look.numbers {
            return "# What an answer must be; another one is asked for again, with the reason. Or labels, pattern, json_schema.\n\
                    answer:\n  number: true # or with bounds: { min: 0, max: 100, whole: true }\n"
                .to_owned();
        }
        if self.look.labels.is_empty() {
            return "# What an answer must be; another one is asked for again, with the reason. Or pattern, number, json_schema.\n\
                    # answer:\n#   labels: [positive, negative, neutral]\n"
                .to_owned();
        }
        let labels: Vec<String> = self.look.labels.iter().map(|label| scalar(label)).collect();
        format!(
            "# What an answer must be; another one is asked for again, with the reason. Or pattern, number, json_schema.\n\
             answer:\n  labels: [{}]\n  # abstain: unsure # one more, by which a model says that it cannot tell\n",
            labels.join(", ")
        )
    }

    fn score(&self) -> String {
        let Some(wanted) = &self.wanted else {
            return "# How good the answers are: equals, contains, regex, number, json_path, command, or a model as the judge.\n\
                    # score:\n#   - equals: \"{{ label }}\" # what the answer should be\n"
                .to_owned();
        };
        let (scorer, more) = match (self.look.numbers, self.look.labels.is_empty()) {
            (true, _) => ("number", "\n    # tolerance: 1%"),
            (false, true) => ("equals", "\n    ignore: [case, space, punctuation]"),
            (false, false) => ("equals", ""),
        };
        format!(
            "# How good the answers are: equals, contains, regex, number, json_path, command, or a model as the judge.\n\
             score:\n  - {scorer}: '{}'{more}\n\
             # What a run must come to, for CI; if it does not, the exit code is 7.\n\
             # gate: {{ accuracy: \">= 0.90\" }}\n",
            wanted.replace('\'', "''")
        )
    }

    fn backends(&self) -> String {
        let most = self.max_tokens();
        let mut block =
            "# Who can be asked. Keys stand in the environment, never here.\nbackends:\n"
                .to_owned();
        for Found { provider, model } in &self.found {
            let (name, kind, _) = names(*provider);
            let from = match provider.key_env() {
                Some(variable) => format!("the key is taken from {variable}"),
                None => format!(
                    "at {} where that is set, else {}",
                    provider.url_env(),
                    provider.default_url()
                ),
            };
            block.push_str(&format!("  {name}:\n    type: {kind} # {from}\n"));
            if let Some(model) = model {
                block.push_str(&format!("    model: {}\n", scalar(model)));
            }
            block.push_str(&format!(
                "    max_tokens: {most} # the most of an answer\n    temperature: 0.0\n"
            ));
            if provider.key_env().is_some() {
                block.push_str("    # limits: { requests_per_minute: 500, concurrency: 16 } # what the server says is found without\n");
            }
        }
        block.push_str("  dry:\n    type: echo # no network and no cost: ");
        match self.look.labels.first() {
            Some(label) => block.push_str(&format!(
                "it always says the commonest label\n    reply: {}\n",
                scalar(&verbatim(label))
            )),
            None if self.look.numbers => {
                block.push_str("it always says the same number\n    reply: \"0\"\n");
            }
            None => block.push_str("it gives the prompt back\n"),
        }
        let others = [
            Provider::OpenAi,
            Provider::Anthropic,
            Provider::LlamaCpp,
            Provider::Vllm,
        ];
        for provider in others {
            if self.found.iter().all(|found| found.provider != provider) {
                block.push_str(&other(provider, most));
            }
        }
        block
    }

    fn order(&self) -> String {
        let names: Vec<&str> = self
            .found
            .iter()
            .map(|found| names(found.provider).0)
            .collect();
        let (names, note) = match names.is_empty() {
            true => (
                "dry".to_owned(),
                " # put a model here when the prompts look right",
            ),
            false => (names.join(", "), ""),
        };
        format!(
            "# Who is asked, in this order: the next one where one fails. A backend that is not named here is not asked.\n\
             fallback: [{names}]{note}\n\
             # matrix: [a, b] # instead of fallback: every row is asked of each of them, and the report compares them\n"
        )
    }

    fn money(&self) -> String {
        let budget = match self.cost {
            Some((expected, budget)) => {
                format!("budget: {budget} # about {} is expected", expected.about())
            }
            None => "# budget: 1.00".to_owned(),
        };
        format!(
            "# What all runs of this job may cost together, in US dollars: it is never exceeded.\n{budget}\n\
             # How many rows (or \"1%\") may end without an answer before the exit code is 3.\nmax_failures: 0\n"
        )
    }

    fn output(&self) -> String {
        match &self.prefix {
            None => "# output: { dir: runs/here } # where the results go; without it: runs/, and the name of this file\n".to_owned(),
            Some(prefix) => format!(
                "# The columns that results add are called so because the input has some of the same names.\n\
                 output: {{ prefix: {prefix} }}\n"
            ),
        }
    }

    fn max_tokens(&self) -> usize {
        let longest = self.look.labels.iter().map(String::len).max();
        let words = if self.look.numbers { LABEL } else { WORDS };
        longest.map_or(words, |bytes| bytes.max(LABEL))
    }
}

/// A backend that could be asked, as a comment.
fn other(provider: Provider, most: usize) -> String {
    let (name, kind, model) = names(provider);
    let model = match model {
        "" => String::new(),
        model => format!(" model: {model},"),
    };
    let needs = match provider.key_env() {
        Some(variable) => format!("needs {variable}"),
        None => format!("at {}, or {}", provider.default_url(), provider.url_env()),
    };
    format!(
        "  # {name}: {{ type: {kind},{model} max_tokens: {most}, temperature: 0.0 }} # {needs}\n"
    )
}

/// What stands before the columns that the results add, where the input has some of the same names.
fn prefix(columns: &[String]) -> Option<String> {
    let added = RESULT_COLUMNS.iter().chain(&LABEL_COLUMNS);
    let added: Vec<&str> = added.copied().collect();
    let is_added = |column: &String| {
        added.contains(&column.as_str())
            || column.starts_with("run_")
            || column.starts_with(SCORE_COLUMN)
    };
    columns.iter().any(is_added).then(|| {
        let mut prefix = "result_".to_owned();
        while columns.iter().any(|column| column.starts_with(&prefix)) {
            prefix.push('_');
        }
        prefix
    })
}

/// The name of a job, where that of its file will not do.
fn name(job: &Path) -> Option<String> {
    let stem = job.file_stem().unwrap_or_default().to_string_lossy();
    let tamed = tame(&stem);
    (tamed != stem).then_some(tamed)
}

/// A path as it is typed into a shell, on a line of a comment.
fn shell(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", comment(&path)),
    }
}
