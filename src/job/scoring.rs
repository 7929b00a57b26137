//! `score`: how good the answers are, as the job says it. The scorers themselves are `score`'s.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::backend::positive;
use super::decode::{At, Decode, List, Texts, need, percent, percentage, wrong};
use super::named::named;
use super::order::{Names as Backends, Order};
use super::prompt::{Names, template};
use super::read::Job;
use super::schema::{Shapes, any_of};
use super::written::{JudgeKeys, ScorerKeys};
use super::yaml::{Node, Value};
use super::{Problem, suggest};
use crate::answer;

/// How long a program may take for one answer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const KINDS: [&str; 7] = [
    "equals",
    "contains",
    "regex",
    "number",
    "json_path",
    "judge",
    "command",
];

/// What figures of a run are called that are no scorer's, and what else stands in a `gate`.
const RESERVED: [&str; 20] = [
    "abstained",
    "accuracy",
    "accuracy_answered",
    "alpha",
    "answered",
    "baseline",
    "by_entry",
    "confusion",
    "cost_per_row_usd",
    "cost_usd",
    "f1_macro",
    "failed",
    "inconclusive",
    "kappa",
    "labels",
    "majority_accuracy",
    "notes",
    "precision_macro",
    "recall_macro",
    "self_agreement",
];

/// A scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScorerPlan {
    /// What its scores are called; unique in the job.
    pub name: String,
    /// What it does.
    pub kind: ScorerKind,
}

/// What a scorer does. Templates are as they are written; they were compiled once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScorerKind {
    /// Looks at the answer, or at a place in it.
    Match {
        /// The place in a JSON answer; `None` for all of it.
        json_path: Option<String>,
        /// What is wanted there.
        wanted: Wanted,
    },
    /// Asks a model.
    Judge(JudgePlan),
    /// Asks a program.
    Command {
        /// The program and its arguments.
        program: Vec<String>,
        /// How long it may take for one answer.
        timeout: Duration,
    },
}

impl ScorerKind {
    /// Whether somebody has to be asked what an answer is worth.
    pub fn is_asked(&self) -> bool {
        !matches!(self, ScorerKind::Match { .. })
    }
}

/// What is wanted of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It is this text.
    Equals {
        /// The text, a template.
        text: String,
        /// What makes no difference.
        ignore: Vec<Ignore>,
    },
    /// It contains each of these texts.
    Contains {
        /// The texts, templates.
        texts: Vec<String>,
        /// What makes no difference.
        ignore: Vec<Ignore>,
    },
    /// This regular expression, a template, is found in it.
    Regex(String),
    /// It is this number.
    Number {
        /// The number, a template.
        text: String,
        /// By how much it may be off.
        tolerance: Tolerance,
    },
    /// It is there.
    Something,
}

/// A model that says how good an answer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgePlan {
    /// Who is asked, in this order: positions in the plan's backends.
    pub route: Vec<usize>,
    /// Their names.
    pub backends: Vec<String>,
    /// What a good answer is, a template.
    pub rubric: String,
    /// The verdicts and what each is worth, from 0 to 1.
    pub choices: Vec<(String, f64)>,
}

/// What makes no difference between two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ignore {
    /// Upper and lower case.
    Case,
    /// White space at the ends, and how much there is between words.
    Space,
    /// Everything that is neither a letter, a digit nor white space.
    Punctuation,
}

named! {
    Ignore: [
        ("case", Ignore::Case),
        ("space", Ignore::Space),
        ("punctuation", Ignore::Punctuation),
    ],
}

/// By how much a number may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// By so much.
    Absolute(f64),
    /// By this share of the number that is wanted.
    Relative(f64),
}

impl Decode for Tolerance {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = match &node.value {
            Value::Number(text) => text.parse().ok().map(Tolerance::Absolute),
            Value::Text(text) => {
                percent(text).map(|share| Tolerance::Relative(f64::from(share) / 1e6))
            }
            _ => None,
        };
        match found {
            Some(Tolerance::Absolute(most)) if most < 0.0 => {
                wrong(node, "a number of at least 0", problems)
            }
            Some(found) => Some(found),
            None => wrong(node, "a number, or a percentage as in `1%`", problems),
        }
    }

    fn schema(_: &mut Shapes) -> Json {
        any_of([json!({ "type": "number", "minimum": 0 }), percentage()])
    }
}

/// A scorer, or a list of them.
#[derive(Debug, Clone)]
pub struct Scorers(pub Vec<At<ScorerKeys>>);

impl Decode for Scorers {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Mapping(_) => At::decode(node, problems).map(|one| Self(vec![one])),
            Value::List(_) => List::decode(node, problems).map(|List(all)| Self(all)),
            _ => wrong(
                node,
                "a scorer such as `{ equals: \"{{ label }}\" }`, or a list of them",
                problems,
            ),
        }
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([
            ScorerKeys::schema(shapes),
            List::<ScorerKeys>::schema(shapes),
        ])
    }
}

/// Reads the job's scorers; everything that is wrong with them is a problem.
pub fn resolve(
    job: &Job,
    names: Names<'_>,
    order: &Order,
    problems: &mut Vec<Problem>,
) -> Vec<ScorerPlan> {
    let Some(At {
        value: Scorers(scorers),
        span,
    }) = &job.keys.score
    else {
        return Vec::new();
    };
    if scorers.is_empty() {
        let problem = span.problem("`score` has no scorer");
        problems.push(problem.help("write at least one: `- { equals: \"{{ label }}\" }`"));
    }
    let mut taken = HashSet::new();
    let mut plans = Vec::new();
    for scorer in scorers {
        let Some((kind, default)) = kind(scorer, names, order, problems) else {
            continue;
        };
        let name = match &scorer.value.name {
            Some(name) => checked_name(name, &taken, problems),
            None => free(default, &taken),
        };
        taken.insert(name.clone());
        plans.push(ScorerPlan { name, kind });
    }
    plans
}

/// The names of the backends that judge, and where they stand.
pub fn judges(job: &Job) -> impl Iterator<Item = &At<Backends>> {
    let scorers = job.keys.score.iter().flat_map(|at| &at.value.0);
    let judges = scorers.filter_map(|scorer| scorer.value.judge.as_ref());
    judges.filter_map(|judge| judge.value.backend.as_ref())
}

fn checked_name(name: &At<String>, taken: &HashSet<String>, problems: &mut Vec<Problem>) -> String {
    let will_do = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if name.value.is_empty() || !name.value.chars().all(will_do) {
        let problem = name
            .span
            .problem("a scorer's name is of letters, digits, `_` and `-`");
        problems.push(problem);
    } else if RESERVED.contains(&name.value.as_str()) {
        let problem = format!("`{}` is the name of another figure", name.value);
        problems.push(name.span.problem(problem));
    } else if taken.contains(&name.value) {
        problems.push(
            name.span
                .problem(format!("there are two scorers `{}`", name.value)),
        );
    }
    name.value.clone()
}

fn free(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

fn kind(
    scorer: &At<ScorerKeys>,
    names: Names<'_>,
    order: &Order,
    problems: &mut Vec<Problem>,
) -> Option<(ScorerKind, &'static str)> {
    let At { value: keys, span } = scorer;
    let mut written = KINDS.iter().filter(|kind| **kind != "json_path");
    let written: Vec<&'static str> = written
        .by_ref()
        .copied()
        .filter(|kind| keys.written.key(kind).is_some())
        .collect();
    if let [first, second, ..] = written[..] {
        let place = keys.written.key(second).unwrap_or(span);
        let problem = place.problem(format!("`{first}` and `{second}` are two scorers"));
        problems.push(problem.help("write each as an item of its own"));
        return None;
    }
    let path = json_path(keys, problems);
    let only = |key: &str, with: &[&str], problems: &mut Vec<Problem>| {
        let fits = written.iter().any(|kind| with.contains(kind));
        if let (Some(place), false) = (keys.written.key(key), fits) {
            let problem = place.problem(format!("`{key}` has no use here"));
            problems.push(problem.help(format!("it goes with {}", suggest::list(with))));
        }
    };
    only("tolerance", &["number"], problems);
    only("ignore", &["equals", "contains"], problems);
    only("timeout", &["command"], problems);
    if written
        .first()
        .is_some_and(|kind| ["judge", "command"].contains(kind))
    {
        only(
            "json_path",
            &["equals", "contains", "regex", "number"],
            problems,
        );
    }
    let Some(kind) = written.first().copied() else {
        if keys.written.key("json_path").is_some() {
            let wanted = Wanted::Something;
            return Some((
                ScorerKind::Match {
                    json_path: path,
                    wanted,
                },
                "json_path",
            ));
        }
        let is_told = problems.iter().any(|p| p.place == Some(span.place()));
        let is_empty = keys.written.iter().next().is_none();
        if !keys.written.has_unknown() && (is_empty || !is_told) {
            let problem = span.problem("the scorer does nothing");
            problems.push(problem.help(format!("say one of {}", suggest::list(&KINDS))));
        }
        return None;
    };
    let ignore = match &keys.ignore {
        Some(At {
            value: List(all), ..
        }) => all.iter().map(|at| at.value).collect(),
        None => vec![Ignore::Space],
    };
    let mut text = |at: &At<String>| {
        template(&at.value, &at.span, names, problems);
        at.value.clone()
    };
    let wanted = match kind {
        "equals" => Wanted::Equals {
            text: text(keys.equals.as_ref()?),
            ignore,
        },
        "contains" => {
            let At {
                value: Texts(texts),
                span,
            } = keys.contains.as_ref()?;
            let texts: Vec<String> = texts.iter().map(text).collect();
            if texts.is_empty() {
                problems.push(span.problem("`contains` names no text"));
            }
            Wanted::Contains { texts, ignore }
        }
        "regex" => {
            let at = keys.regex.as_ref()?;
            let pattern = text(at);
            let is_constant = !["{{", "{%", "{#"].iter().any(|mark| pattern.contains(mark));
            if is_constant && let Err(error) = answer::expression(&pattern) {
                problems.push(
                    at.span
                        .problem(format!("the pattern is no regular expression: {error}")),
                );
            }
            Wanted::Regex(pattern)
        }
        "number" => {
            let tolerance = keys.tolerance.as_ref();
            let tolerance = tolerance.map_or(Tolerance::Absolute(0.0), |at| at.value);
            Wanted::Number {
                text: text(keys.number.as_ref()?),
                tolerance,
            }
        }
        "judge" => {
            return judge(keys.judge.as_ref()?, names, order, problems)
                .map(|plan| (ScorerKind::Judge(plan), kind));
        }
        _ => {
            let At {
                value: Texts(program),
                span,
            } = keys.command.as_ref()?;
            if program.iter().all(|part| part.value.trim().is_empty()) {
                problems.push(span.problem("`command` names no program"));
            }
            let timeout = positive(keys.timeout.as_ref(), "timeout", problems);
            let program = program.iter().map(|part| part.value.clone()).collect();
            let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
            return Some((ScorerKind::Command { program, timeout }, kind));
        }
    };
    Some((
        ScorerKind::Match {
            json_path: path,
            wanted,
        },
        kind,
    ))
}

fn json_path(keys: &ScorerKeys, problems: &mut Vec<Problem>) -> Option<String> {
    let At { value, span } = keys.json_path.as_ref()?;
    if let Err(error) = answer::Place::parse(value) {
        let problem = span.problem(format!("`{value}` is no place in JSON: {error}"));
        problems
            .push(problem.help("write a JSON path as `$.label`, or a JSON pointer as `/label`"));
    }
    Some(value.clone())
}

fn judge(
    judge: &At<JudgeKeys>,
    names: Names<'_>,
    order: &Order,
    problems: &mut Vec<Problem>,
) -> Option<JudgePlan> {
    let keys = &judge.value;
    need(judge, "judge", &["backend", "rubric"], problems);
    let (backend, rubric) = (keys.backend.as_ref()?, keys.rubric.as_ref()?);
    template(&rubric.value, &rubric.span, names, problems);
    if rubric.value.trim().is_empty() {
        problems.push(rubric.span.problem("the rubric says nothing"));
    }
    let choices = match &keys.choices {
        None => vec![("pass".to_owned(), 1.0), ("fail".to_owned(), 0.0)],
        Some(at) => {
            for (key, worth) in &at.value.entries {
                if !(0.0..=1.0).contains(worth) {
                    problems.push(
                        key.span
                            .problem(format!("`{}` must be worth from 0 to 1", key.name)),
                    );
                }
            }
            if at.value.names.len() < 2 {
                let problem = at.span.problem("a judge needs at least two `choices`");
                problems.push(problem.help(
                    "write each verdict and what it is worth: `{ good: 1, fair: 0.5, bad: 0 }`",
                ));
            }
            let entries = at.value.entries.iter();
            entries
                .map(|(key, worth)| (key.name.clone(), *worth))
                .collect()
        }
    };
    let backends: Vec<String> = backend.value.0.iter().map(|at| at.value.clone()).collect();
    let position = |name: &String| order.used.iter().position(|used| used == name);
    Some(JudgePlan {
        route: backends.iter().filter_map(position).collect(),
        backends,
        rubric: rubric.value.clone(),
        choices,
    })
}
