//! What a run must come to: thresholds on its figures, and a run that it must not be worse than.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::decode::{At, Decode, need, wrong};
use super::figure::{self, Figure, FigureKind, Measured};
use super::named::named;
use super::read::Job;
use super::resolve::in_range;
use super::schema::{Shapes, any_of, described, text_like};
use super::source::Span;
use super::written::{BaselineKeys, BoundKeys};
use super::yaml::{Key, Node, Value};
use super::{Place, Problem, suggest};
use crate::words::Usd;

/// How much worse than its baseline a run may be where the job does not say. Without any margin no number of rows
/// would show that a run is as good as another.
const NOT_WORSE_THAN: f64 = 0.02;
const CONFIDENCE: f64 = 0.95;
/// Below this an interval says nothing, and above it nothing can be shown.
const CONFIDENCES: std::ops::RangeInclusive<f64> = 0.5..=0.9999;

/// What a run must come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GatePlan {
    /// What is wanted of its figures, in the order of the job.
    pub thresholds: Vec<Threshold>,
    /// The run that it must not be worse than.
    pub baseline: Option<BaselinePlan>,
    /// What a check means that the rows do not suffice for.
    pub inconclusive: Inconclusive,
}

/// What a check means that the rows do not suffice for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// It is told, and the gate is met as far as it goes.
    #[default]
    Pass,
    /// The gate is not met.
    Fail,
}

/// What is wanted of a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The figure as the job writes it.
    pub name: String,
    /// The figure.
    pub figure: Figure,
    /// How it must stand to the limit.
    pub operator: Operator,
    /// The limit.
    pub limit: Limit,
    /// Whether the whole interval of the figure must keep to it, and not only the figure.
    pub surely: bool,
}

/// How a figure must stand to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Not below.
    #[serde(rename = ">=")]
    AtLeast,
    /// Above.
    #[serde(rename = ">")]
    Above,
    /// Not above.
    #[serde(rename = "<=")]
    AtMost,
    /// Below.
    #[serde(rename = "<")]
    Below,
    /// Just so.
    #[serde(rename = "==")]
    Is,
}

impl Operator {
    /// Every operator, those that others begin with last.
    const ALL: [Operator; 5] = [
        Operator::AtLeast,
        Operator::AtMost,
        Operator::Is,
        Operator::Above,
        Operator::Below,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Operator::AtLeast => ">=",
            Operator::Above => ">",
            Operator::AtMost => "<=",
            Operator::Below => "<",
            Operator::Is => "==",
        }
    }
}

/// What a figure is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A share, or another figure of the answers.
    Number(f64),
    /// Money.
    Usd(Usd),
    /// Rows or milliseconds.
    Count(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Number(number) => write!(f, "{number}"),
            Limit::Usd(amount) => write!(f, "{amount}"),
            Limit::Count(count) => write!(f, "{count}"),
        }
    }
}

/// The run that a job must not be worse than.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselinePlan {
    /// Its directory, a file in that, or a baseline file; joined to the job file's directory.
    pub path: PathBuf,
    /// The same as it stands in the job file.
    pub written: String,
    /// Where it stands there.
    #[serde(skip)]
    pub place: Option<Place>,
    /// By how much the mean score may have dropped.
    pub not_worse_than: f64,
    /// How sure that must be.
    pub confidence: f64,
    /// The scorer whose scores are compared; `None` is the first one.
    pub metric: Option<String>,
    /// Which share of the rows may lack a partner, in millionths.
    pub max_missing: u32,
}

impl BaselinePlan {
    /// What is wanted, in words.
    pub fn wanted(&self) -> String {
        let Self {
            written,
            not_worse_than,
            ..
        } = self;
        format!("not worse than {written} by more than {not_worse_than}")
    }
}

/// The gate as written: figures by name, and what is no figure.
#[derive(Debug, Clone)]
pub struct Gate {
    /// What the figures must be.
    pub thresholds: Vec<(Key, Node)>,
    /// The run that this one must not be worse than.
    pub baseline: Option<At<BaselineKeys>>,
    /// What a check means that the rows do not suffice for.
    pub inconclusive: Option<Inconclusive>,
}

impl Decode for Gate {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            let expected =
                "a mapping from figures to what they must be, such as `accuracy: \">= 0.9\"`";
            return wrong(node, expected, problems);
        };
        let mut gate = Self {
            thresholds: Vec::new(),
            baseline: None,
            inconclusive: None,
        };
        for (key, node) in entries {
            match key.name.as_str() {
                _ if matches!(node.value, Value::Null) => {
                    let problem = key.span.problem(format!("`{}` has no value", key.name));
                    problems.push(problem.help("give it one, or remove the line"));
                }
                "baseline" => gate.baseline = At::decode(node, problems),
                "inconclusive" => gate.inconclusive = Decode::decode(node, problems),
                _ => gate.thresholds.push((key.clone(), node.clone())),
            }
        }
        Some(gate)
    }

    fn schema(shapes: &mut Shapes) -> Json {
        let operators = Operator::ALL.map(Operator::as_str).join("|");
        let threshold = any_of([
            text_like(&format!("^ *({operators})")),
            BoundKeys::schema(shapes),
        ]);
        json!({
            "type": "object",
            "properties": {
                "baseline": described("The run that this one must not be worse than.", BaselineKeys::schema(shapes)),
                "inconclusive": described("What a check means that the rows do not suffice for; default: pass.", Inconclusive::schema(shapes)),
            },
            "additionalProperties": described("What a figure must be, such as `>= 0.90`.", threshold),
        })
    }
}

named! {
    Inconclusive: [("pass", Inconclusive::Pass), ("fail", Inconclusive::Fail)],
}

/// The gate, with every figure found; what the job cannot be measured by is a problem.
pub fn resolve(job: &Job, measured: &Measured, problems: &mut Vec<Problem>) -> Option<GatePlan> {
    let At { value: gate, span } = job.keys.gate.as_ref()?;
    if gate.thresholds.is_empty() && gate.baseline.is_none() {
        let problem = span.problem("the gate asks for nothing");
        problems.push(problem.help("say what a figure must be, such as `cost_usd: \"<= 2.00\"`"));
    }
    let thresholds = gate.thresholds.iter();
    let thresholds = thresholds.filter_map(|(key, node)| threshold(key, node, measured, problems));
    let thresholds = thresholds.collect();
    let baseline = gate.baseline.as_ref();
    Some(GatePlan {
        thresholds,
        baseline: baseline.and_then(|keys| self::baseline(job, keys, measured, problems)),
        inconclusive: gate.inconclusive.unwrap_or_default(),
    })
}

fn threshold(
    key: &Key,
    node: &Node,
    measured: &Measured,
    problems: &mut Vec<Problem>,
) -> Option<Threshold> {
    let figure = figure::find(key, measured, problems)?;
    let kind = &figure.kind;
    let (operator, limit, surely) = match &node.value {
        Value::Text(text) => {
            let (operator, limit) = compared(text, kind, node, problems)?;
            (operator, limit, false)
        }
        Value::Mapping(_) => {
            let keys = BoundKeys::decode(node, problems)?;
            let (operator, limit) = bound(&keys, kind, node, problems)?;
            (operator, limit, true)
        }
        _ => {
            refuse(node, kind, problems);
            return None;
        }
    };
    Some(Threshold {
        name: key.name.clone(),
        operator,
        limit,
        surely,
        figure,
    })
}

/// What a text such as `>= 0.90` says.
fn compared(
    text: &str,
    kind: &FigureKind,
    node: &Node,
    problems: &mut Vec<Problem>,
) -> Option<(Operator, Limit)> {
    let text = text.trim();
    let mut operators = Operator::ALL.into_iter();
    let parts =
        operators.find_map(|operator| Some((operator, text.strip_prefix(operator.as_str())?)));
    let Some((operator, limit)) = parts else {
        refuse(node, kind, problems);
        return None;
    };
    Some((operator, read(limit.trim(), kind, &node.span, problems)?))
}

/// What `{ at_least: 0.9 }` says.
fn bound(
    keys: &BoundKeys,
    kind: &FigureKind,
    node: &Node,
    problems: &mut Vec<Problem>,
) -> Option<(Operator, Limit)> {
    if !kind.is_sampled() {
        let problem = node
            .span
            .problem("this figure has no interval that could keep to a limit");
        problems.push(problem.help(format!("write `{}`", example(kind))));
        return None;
    }
    let (operator, At { value, span }) = match (&keys.at_least, &keys.at_most) {
        (Some(least), None) => (Operator::AtLeast, least),
        (None, Some(most)) => (Operator::AtMost, most),
        (Some(_), Some(most)) => {
            let problem = most
                .span
                .problem("`at_least` and `at_most` exclude each other");
            problems.push(problem.help("keep one of the two"));
            return None;
        }
        (None, None) => {
            if keys.written.iter().next().is_none() && !keys.written.has_unknown() {
                problems.push(
                    node.span
                        .problem("neither `at_least` nor `at_most` is there"),
                );
            }
            return None;
        }
    };
    let text = match &value.value {
        Value::Number(text) | Value::Text(text) => text,
        _ => return wrong(value, "a number, such as 0.9 or 90%", problems),
    };
    Some((operator, read(text, kind, span, problems)?))
}

/// Reads a limit in the unit of its figure.
fn read(text: &str, kind: &FigureKind, span: &Span, problems: &mut Vec<Problem>) -> Option<Limit> {
    let (limit, expected) = match kind {
        FigureKind::Cost | FigureKind::CostPerRow => {
            let amount = text.parse().ok().filter(|amount| *amount >= Usd::ZERO);
            (
                amount.map(Limit::Usd),
                "US dollars with at most 15 decimal places, such as 2.00",
            )
        }
        FigureKind::Unanswered => (
            text.parse().ok().map(Limit::Count),
            "a number of rows, such as 3",
        ),
        FigureKind::Latency(_) => (
            text.parse().ok().map(Limit::Count),
            "a whole number of milliseconds, such as 800",
        ),
        _ => (
            number(text).map(Limit::Number),
            "a share, such as 0.9 or 90%",
        ),
    };
    let Some(limit) = limit else {
        problems.push(span.problem(format!("expected {expected}, found `{text}`")));
        return None;
    };
    let least = match kind {
        FigureKind::Kappa | FigureKind::Alpha => -1.0,
        _ => 0.0,
    };
    if let Limit::Number(number) = limit
        && !(least..=1.0).contains(&number)
    {
        let problem = span.problem(format!("this figure is never outside of {least} to 1"));
        problems.push(match number {
            number if number > 1.0 && number <= 100.0 => {
                problem.help(format!("did you mean `{number}%`?"))
            }
            _ => problem,
        });
        return None;
    }
    Some(limit)
}

/// A decimal number or a percentage.
fn number(text: &str) -> Option<f64> {
    let is_decimal =
        |text: &str| !text.contains(|c: char| !c.is_ascii_digit() && !"+-.".contains(c));
    let read = |text: &str| text.parse().ok().filter(|_| is_decimal(text));
    match text.strip_suffix('%') {
        Some(percent) => read(percent.trim_end()).map(|percent: f64| percent / 100.0),
        None => read(text),
    }
}

fn refuse(node: &Node, kind: &FigureKind, problems: &mut Vec<Problem>) {
    let shown = node.span.shown().trim_matches(['"', '\'']);
    let before = problems.len();
    wrong::<()>(node, "a comparison in quotes", problems);
    let help = match &node.value {
        Value::Number(_) | Value::Text(_)
            if read(shown, kind, &node.span, &mut Vec::new()).is_some() =>
        {
            let operator = if kind.is_burden() { "<=" } else { ">=" };
            format!("write `\"{operator} {shown}\"`")
        }
        _ => format!(
            "write `{}`; there are `>=`, `>`, `<=`, `<` and `==`",
            example(kind)
        ),
    };
    if let Some(problem) = problems.get_mut(before) {
        problem.help = Some(help);
    }
}

fn example(kind: &FigureKind) -> &'static str {
    match kind {
        FigureKind::Cost => "\"<= 2.00\"",
        FigureKind::CostPerRow => "\"<= 0.001\"",
        FigureKind::Latency(_) => "\"<= 800\"",
        FigureKind::Unanswered => "\"<= 3\"",
        FigureKind::Failed => "\"<= 1%\"",
        FigureKind::Kappa | FigureKind::Alpha => "\">= 0.6\"",
        _ => "\">= 0.9\"",
    }
}

fn baseline(
    job: &Job,
    keys: &At<BaselineKeys>,
    measured: &Measured,
    problems: &mut Vec<Problem>,
) -> Option<BaselinePlan> {
    need(keys, "baseline", &["path"], problems);
    let At { value: keys, span } = keys;
    if measured.scorers.is_empty() && measured.is_whole {
        let problem =
            span.problem("`baseline` needs a `score`: without one no run is better than another");
        problems.push(
            problem.help("say what a right answer is: `score: [{ equals: \"{{ column }}\" }]`"),
        );
    }
    let margin = in_range(
        keys.not_worse_than.as_ref(),
        "not_worse_than",
        0.0..=1.0,
        problems,
    );
    let confidence = in_range(
        keys.confidence.as_ref(),
        "confidence",
        CONFIDENCES,
        problems,
    );
    let metric = keys.metric.as_ref();
    if let Some(At { value, span }) = metric
        && measured.is_whole
        && !measured.scorers.contains(value)
    {
        let scorers: Vec<&str> = measured.scorers.iter().map(String::as_str).collect();
        let problem = span.problem(format!("there is no scorer `{value}`"));
        problems.push(suggest::among(problem, value, &scorers));
    }
    let path = keys.path.as_ref()?;
    if path.value.trim().is_empty() {
        problems.push(path.span.problem("the baseline has no path"));
        return None;
    }
    Some(BaselinePlan {
        path: job.folder().join(&path.value),
        written: path.value.clone(),
        place: Some(path.span.place()),
        not_worse_than: margin.unwrap_or(NOT_WORSE_THAN),
        confidence: confidence.unwrap_or(CONFIDENCE),
        metric: metric.map(|at| at.value.clone()),
        max_missing: keys.max_missing.as_ref().map_or(0, |share| share.value.0),
    })
}
