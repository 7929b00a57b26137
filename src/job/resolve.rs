//! From the job as written to the plan as run: defaults, names, and the rules between keys.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::civil::Date;

use super::answering::AnswerPlan;
use super::backend::positive;
use super::decode::At;
use super::figure::Measured;
use super::inputs::NO_PARQUET;
use super::order::Order;
use super::plan::{
    CachePlan, CsvSafe, LABEL_COLUMNS, MaxFailures, OutputFormat, OutputPlan, PromptPlan,
    RetryPolicy,
};
use super::prompt::Names;
use super::read::Job;
use super::scoring::ScorerPlan;
use super::{
    Backend, Plan, Problem, Problems, answering, backend, gating, order, prompt, scoring, spending,
    suggest,
};
use crate::words::Columns;

const DEFAULT_CONCURRENCY: usize = 64;
const MAX_CONCURRENCY: usize = 65_536;
const MAX_ATTEMPTS: u32 = 100;

/// What the rules may look at besides the job file.
pub struct Surroundings<'a> {
    /// The input's columns; `None` where the input layer could not read them (and said why).
    pub columns: Option<&'a Arc<Columns>>,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The day on which prices are looked up.
    pub today: Date,
    /// Files of prices that come before those of the job.
    pub prices: &'a [PathBuf],
    /// Whether anything may be sent; if not, no key is needed.
    pub sends: bool,
}

impl Surroundings<'_> {
    /// The columns that a template may name; `None` where any name will do: they could not be read, or there is nothing
    /// in the input, and so no row that could miss one.
    pub(super) fn known(&self) -> Option<&Columns> {
        let columns = self.columns.map(Arc::as_ref);
        columns.filter(|columns| !columns.names().is_empty())
    }
}

impl Job {
    /// The job's name: its `name`, else the file's stem.
    pub fn name(&self) -> String {
        let stem = || self.path.file_stem().unwrap_or_default();
        match &self.keys.name {
            Some(name) => name.value.clone(),
            None => stem().to_string_lossy().into_owned(),
        }
    }

    /// Makes the plan, or names everything that is wrong, in the order of the file.
    ///
    /// `found` is what the input layer has to say about [`Job::inputs`]; without `columns` there must
    /// be something in it, for no plan is made.
    pub fn resolve(
        &self,
        surroundings: &Surroundings<'_>,
        found: Vec<Problem>,
    ) -> Result<Plan, Problems> {
        let mut problems = self.problems.clone();
        problems.extend(found);
        let plan = self.plan(surroundings, &mut problems);
        match plan {
            Some(plan) if problems.is_empty() => Ok(plan),
            _ => Err(self.in_file_order(problems)),
        }
    }

    /// Every backend that the job declares, whoever is asked, or everything that is wrong with them.
    pub fn backends(&self, surroundings: &Surroundings<'_>) -> Result<Vec<Backend>, Problems> {
        let mut problems = self.problems.clone();
        let backends = backend::resolve(self, &[], surroundings, &mut problems);
        match problems.is_empty() {
            true => Ok(backends),
            false => Err(self.in_file_order(problems)),
        }
    }

    fn plan(&self, around: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Option<Plan> {
        self.check_inputs(problems);
        let names = Names {
            columns: around.known(),
            also: &[],
        };
        let messages = prompt::resolve(self, names, problems);
        let order = order::resolve(self, around.known(), problems);
        let answer = answering::resolve(self, problems);
        let score = scoring::resolve(self, names, &order, problems);
        let backends = backend::resolve(self, &order.used, around, problems);
        let retry = self.retry(problems);
        let concurrency = in_range(
            self.keys.concurrency.as_ref(),
            "concurrency",
            1..=MAX_CONCURRENCY,
            problems,
        );
        let cache = self.cache(problems);
        let scorers = self
            .keys
            .score
            .as_ref()
            .map_or(0, |score| score.value.0.len());
        let measured = Measured {
            is_whole: scorers == score.len()
                && self.keys.written.key("score").is_some() == self.keys.score.is_some()
                && self.keys.written.key("answer").is_some() == answer.is_some(),
            ..Measured::of(answer.as_ref(), &score, &order)
        };
        let gate = gating::resolve(self, &measured, problems);
        let output = self.output(&order, (answer.as_ref(), &score), around.columns, problems);
        let columns = around.columns?;
        let named = |name: &String| {
            let mut all = backends.iter();
            all.find(|backend| *backend.name == **name).cloned()
        };
        let used: Vec<_> = order.used.iter().filter_map(named).collect();
        let spending = spending::resolve(self, &used, around, problems);
        Some(Plan {
            name: self.name(),
            inputs: self.inputs(),
            columns: Arc::clone(columns),
            prompt: PromptPlan {
                messages,
                schema: answer.as_ref().and_then(answering::AnswerPlan::sent_schema),
            },
            answer,
            score,
            entries: order.entries,
            escalate: order.escalate,
            is_matrix: self.keys.matrix.is_some(),
            backends: used,
            repeat: order.repeat,
            fallback: order.fallback,
            hedge_after: order.hedge_after,
            retry,
            concurrency: concurrency.unwrap_or(DEFAULT_CONCURRENCY),
            max_failures: match &self.keys.max_failures {
                Some(most) => most.value,
                None => MaxFailures::Rows(0),
            },
            spending,
            durability: value(self.keys.durability.as_ref()),
            on_unknown: value(self.keys.on_unknown.as_ref()),
            cache,
            dedupe: value(self.keys.dedupe.as_ref()),
            gate,
            output,
        })
    }

    fn retry(&self, problems: &mut Vec<Problem>) -> RetryPolicy {
        let default = RetryPolicy::default();
        let Some(At { value: keys, span }) = &self.keys.retry else {
            return default;
        };
        let attempts = in_range(
            keys.attempts.as_ref(),
            "attempts",
            1..=MAX_ATTEMPTS,
            problems,
        );
        let initial = keys.initial.as_ref().map(|at| at.value);
        let max = keys.max.as_ref().map(|at| at.value);
        let throttled = keys.max_throttle_wait.as_ref();
        let throttled = positive(throttled, "max_throttle_wait", problems);
        let outage = positive(keys.max_outage.as_ref(), "max_outage", problems);
        let policy = RetryPolicy {
            attempts: attempts.unwrap_or(default.attempts),
            initial: initial.unwrap_or(default.initial.min(max.unwrap_or(default.max))),
            max: max.unwrap_or(default.max.max(initial.unwrap_or(default.initial))),
            max_throttle_wait: throttled.unwrap_or(default.max_throttle_wait),
            max_outage: outage.unwrap_or(default.max_outage),
        };
        if policy.initial > policy.max {
            let place = keys.written.key("initial").unwrap_or(span);
            problems.push(place.problem("`initial` is longer than `max`"));
        }
        policy
    }

    fn cache(&self, problems: &mut Vec<Problem>) -> Option<CachePlan> {
        let At { value, span } = self.keys.cache.as_ref()?;
        if value.trim().is_empty() {
            problems.push(span.problem("the cache has no name"));
            return None;
        }
        let path = self.folder().join(value);
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let problem = span.problem(format!("there is no directory {}", folder.display()));
            problems.push(problem.help("the file is made, its directory is not"));
        } else if path.is_dir() {
            let problem = span.problem(format!("{} is a directory", path.display()));
            problems.push(problem.help("name a file in it, such as `answers.db`"));
        }
        let place = span.place();
        Some(CachePlan { path, place })
    }

    fn output(
        &self,
        order: &Order,
        (answer, score): (Option<&AnswerPlan>, &[ScorerPlan]),
        columns: Option<&Arc<Columns>>,
        problems: &mut Vec<Problem>,
    ) -> OutputPlan {
        let keys = self.keys.output.as_ref().map(|output| &output.value);
        let formats = keys.and_then(|keys| keys.formats.as_ref());
        let prefix = keys.and_then(|keys| keys.prefix.as_ref());
        let plan = OutputPlan {
            dir: match keys.and_then(|keys| keys.dir.as_ref()) {
                Some(dir) => PathBuf::from(&dir.value),
                None => PathBuf::from("runs").join(self.folder_name(problems)),
            },
            formats: match formats {
                Some(formats) => formats.value.0.iter().map(|format| format.value).collect(),
                None => vec![OutputFormat::Csv, OutputFormat::Jsonl],
            },
            prefix: prefix
                .map(|prefix| prefix.value.clone())
                .unwrap_or_default(),
            entries: {
                let entries = order.entries.iter().chain(&order.escalate);
                entries.map(|entry| Arc::clone(&entry.name)).collect()
            },
            repeat: order.repeat,
            parts: {
                let columns = answer.iter().flat_map(|answer| &answer.columns);
                columns.map(|(name, _)| name.clone()).collect()
            },
            decides: order.decides(answer.is_some()),
            scorers: score.iter().map(|scorer| scorer.name.clone()).collect(),
            csv_safe: keys
                .and_then(|keys| keys.csv_safe.as_ref())
                .map_or(CsvSafe::Prefix, |safe| safe.value),
        };
        if let Some(dir) = keys.and_then(|keys| keys.dir.as_ref())
            && dir.value.trim().is_empty()
        {
            problems.push(dir.span.problem("the output directory has no name"));
        }
        for (position, format) in formats
            .iter()
            .flat_map(|list| list.value.0.iter())
            .enumerate()
        {
            if plan.formats[..position].contains(&format.value) {
                problems.push(format.span.problem("the format is named twice"));
            }
            if format.value == OutputFormat::Parquet && cfg!(not(feature = "parquet")) {
                let problem = format.span.problem("this runner cannot write Parquet");
                problems.push(problem.help(NO_PARQUET));
            }
        }
        if formats.is_some_and(|formats| formats.value.0.is_empty()) {
            let place = keys.and_then(|keys| keys.written.key("formats"));
            let problem = place.map(|place| place.problem("`formats` names no format"));
            problems.extend(
                problem.map(|problem| problem.help("there are `csv`, `jsonl` and `parquet`")),
            );
        }
        let clash = |name: &String| columns.is_some_and(|all| all.position(name).is_some());
        let mut added = plan.result_columns();
        if plan.decides {
            added.extend(LABEL_COLUMNS.map(|column| format!("{}{column}", plan.prefix)));
        }
        let clashes: Vec<String> = added.into_iter().filter(clash).collect();
        if !clashes.is_empty() {
            let clashes: Vec<&str> = clashes.iter().map(String::as_str).collect();
            let (noun, added) = match clashes.len() {
                1 => ("a column", "one"),
                _ => ("columns", "them"),
            };
            let names = suggest::list(&clashes);
            let message = format!("the input has {noun} {names}, and the results add {added} too");
            let input = self
                .keys
                .inputs
                .as_ref()
                .and_then(|inputs| inputs.value.0.first());
            let problem = match (prefix, input.and_then(|input| input.keys.path.as_ref())) {
                (Some(prefix), _) => prefix.span.problem(message),
                (None, Some(path)) => path.span.problem(message),
                (None, None) => Problem::new(message),
            };
            let help = "give the added columns a prefix: `output: { prefix: result_ }`";
            problems.push(problem.help(help));
        }
        plan
    }

    /// The job's name as the name of a folder.
    fn folder_name(&self, problems: &mut Vec<Problem>) -> String {
        let name = self.name();
        let safe = !name.is_empty()
            && name.len() <= 100
            && !name.starts_with(['.', ' '])
            && !name.ends_with(['.', ' '])
            && !name.contains(|c: char| c.is_control() || "/\\:*?\"<>|".contains(c));
        if !safe {
            let message = format!("the name {name:?} cannot be the name of a folder");
            let problem = match &self.keys.name {
                Some(at) => at.span.problem(message),
                None => Problem::new(message),
            };
            problems.push(
                problem.help("choose another `name`, or say where with `output: { dir: ... }`"),
            );
        }
        name
    }

    fn in_file_order(&self, mut problems: Vec<Problem>) -> Problems {
        let file = self.path.display().to_string();
        problems.sort_by_key(|problem| match &problem.place {
            Some(place) if place.path == file => (0, String::new(), place.line, place.column),
            Some(place) => (1, place.path.clone(), place.line, place.column),
            None => (2, String::new(), 0, 0),
        });
        problems.dedup();
        Problems(problems)
    }
}

/// What was written, or the default.
fn value<T: Copy + Default>(written: Option<&At<T>>) -> T {
    written.map(|at| at.value).unwrap_or_default()
}

/// The value, if it was written; one outside of the range is a problem.
pub fn in_range<T: PartialOrd + Copy + std::fmt::Display>(
    written: Option<&At<T>>,
    name: &str,
    range: std::ops::RangeInclusive<T>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let At { value, span } = written?;
    if !range.contains(value) {
        let (least, most) = (range.start(), range.end());
        let problem = match *value < *least {
            true => span.problem(format!("`{name}` must be at least {least}")),
            false => span.problem(format!("`{name}` must be at most {most}")),
        };
        problems.push(problem);
    }
    Some(*value)
}
