//! The figures of a run that a gate can look at, and their names.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answering::AnswerPlan;
use super::order::{ESCALATED, Order};
use super::scoring::{ScorerKind, ScorerPlan, Wanted};
use super::yaml::Key;
use super::{Problem, suggest};
use crate::answer::Form;

/// What the answers that count in the end are called among the entries.
pub const FINAL: &str = "final";

/// A figure of a run, or of one entry of its matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// The entry; `None` is all of them together.
    pub entry: Option<String>,
    /// What is looked at.
    pub kind: FigureKind,
}

/// What a gate can look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    /// A figure of the answers, by its name in `scores`.
    Metric(String),
    /// The precision of a label.
    Precision(String),
    /// The recall of a label.
    Recall(String),
    /// The F1 of a label.
    F1(String),
    /// Cohen's kappa, the mean over the pairs of entries.
    Kappa,
    /// Krippendorff's alpha.
    Alpha,
    /// The share of result lines without an answer.
    Failed,
    /// How many result lines have no answer.
    Unanswered,
    /// What is known to have been paid.
    Cost,
    /// The same, shared by the result lines.
    CostPerRow,
    /// The time within which this many percent of the replies came.
    Latency(u8),
}

impl FigureKind {
    /// Whether it is of a sample, so that it has an interval.
    pub fn is_sampled(&self) -> bool {
        !matches!(
            self,
            FigureKind::Kappa
                | FigureKind::Unanswered
                | FigureKind::Cost
                | FigureKind::CostPerRow
                | FigureKind::Latency(_)
        )
    }

    /// Whether more of it is worse.
    pub fn is_burden(&self) -> bool {
        match self {
            FigureKind::Metric(name) => name == "abstained",
            FigureKind::Failed
            | FigureKind::Unanswered
            | FigureKind::Cost
            | FigureKind::CostPerRow
            | FigureKind::Latency(_) => true,
            _ => false,
        }
    }
}

/// What the answers of a job can be measured by.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The names of its scorers, in their order.
    pub scorers: Vec<String>,
    /// Those of them that ask somebody what an answer is worth.
    pub asking: Vec<String>,
    /// Whether it says which label or text each row should have.
    pub has_gold: bool,
    /// The labels, where the job names them.
    pub labels: Option<Vec<String>>,
    /// Whether a model may abstain.
    pub abstains: bool,
    /// The names of the entries of the matrix; one without a matrix.
    pub entries: Vec<Arc<str>>,
    /// How often every row is asked of each.
    pub repeat: u32,
    /// Whether somebody is asked last where the entries disagree.
    pub escalates: bool,
    /// Whether the answers to a row come to something together.
    pub decides: bool,
    /// Whether that is all; if not, what is wrong with the rest is a problem already.
    pub is_whole: bool,
}

/// Which lines a figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Those of all entries of the matrix.
    All,
    /// Those of one.
    Entry,
    /// Those of who is asked where the entries disagree.
    Escalated,
    /// What the answers to each row come to.
    Last,
}

impl Of {
    /// Whether such lines have a figure of this kind, if the job has.
    fn has(self, kind: &FigureKind, measured: &Measured) -> bool {
        let is_one_to_a_row = matches!(self, Of::Escalated | Of::Last);
        match kind {
            FigureKind::Metric(name)
                if ["majority_accuracy", "self_agreement"].contains(&&**name) =>
            {
                !is_one_to_a_row
            }
            // What is said of one answer is not said of what they all come to.
            FigureKind::Metric(name) if self == Of::Last => {
                let scorer = match name.as_str() {
                    "accuracy" | "accuracy_answered" => measured.scorers.first(),
                    _ => Some(name),
                };
                scorer.is_none_or(|scorer| !measured.asking.contains(scorer))
            }
            FigureKind::Cost | FigureKind::CostPerRow | FigureKind::Latency(_) => self != Of::Last,
            _ => true,
        }
    }
}

impl Measured {
    /// Of a job with these answers, scorers and entries.
    pub fn of(answer: Option<&AnswerPlan>, scorers: &[ScorerPlan], order: &Order) -> Self {
        let is_gold = |scorer: &ScorerPlan| match &scorer.kind {
            ScorerKind::Match {
                json_path,
                wanted: Wanted::Equals { .. },
            } => Some(json_path.is_none()),
            ScorerKind::Match {
                wanted: Wanted::Number { .. },
                ..
            } => Some(false),
            _ => None,
        };
        let asks = |scorer: &&ScorerPlan| !matches!(scorer.kind, ScorerKind::Match { .. });
        let (labels, abstain) = match answer.map(|answer| &answer.form) {
            Some(Form::Labels { labels, abstain }) => (Some(labels.clone()), abstain.as_ref()),
            _ => (None, None),
        };
        let entries = order.entries.iter();
        Self {
            scorers: scorers.iter().map(|scorer| scorer.name.clone()).collect(),
            asking: {
                let asking = scorers.iter().filter(|scorer| asks(scorer));
                asking.map(|scorer| scorer.name.clone()).collect()
            },
            is_whole: true,
            has_gold: scorers.iter().find_map(is_gold) == Some(true),
            labels,
            abstains: abstain.is_some(),
            entries: entries.map(|entry| Arc::clone(&entry.name)).collect(),
            repeat: order.repeat,
            escalates: order.escalate.is_some(),
            decides: order.decides(answer.is_some()),
        }
    }
}

/// Figures that every job has.
const ALWAYS: [(&str, FigureKind); 7] = [
    ("failed", FigureKind::Failed),
    ("unanswered", FigureKind::Unanswered),
    ("cost_usd", FigureKind::Cost),
    ("cost_per_row_usd", FigureKind::CostPerRow),
    ("latency_ms_p50", FigureKind::Latency(50)),
    ("latency_ms_p90", FigureKind::Latency(90)),
    ("latency_ms_p99", FigureKind::Latency(99)),
];
/// Figures of single labels, as they begin.
const OF_LABELS: [&str; 3] = ["precision.", "recall.", "f1."];

/// Why a name stands for nothing.
enum Refused {
    Unknown,
    /// The job lacks something: what, and how to say it.
    Lacks(&'static str, &'static str),
    /// There is no such label.
    Label(String),
}

/// The figure of this name; what the job cannot have is a problem.
pub fn find(key: &Key, measured: &Measured, problems: &mut Vec<Problem>) -> Option<Figure> {
    let name = key.name.as_str();
    let (entry, of, rest) = match of_entry(name, measured) {
        Some((entry, of, rest)) => (Some(entry), of, rest),
        None => (None, Of::All, name),
    };
    let refused = match kind(rest, of, measured) {
        Ok(kind) => {
            let entry = entry.map(ToString::to_string);
            return Some(Figure { entry, kind });
        }
        // It may be of what could not be read.
        Err(_) if !measured.is_whole => return None,
        Err(refused) => refused,
    };
    let problem = match refused {
        Refused::Lacks(what, how) => {
            let problem = key.span.problem(format!("`{name}` needs {what}"));
            problem.help(how)
        }
        Refused::Label(label) => {
            let labels: Vec<&str> = measured.labels.iter().flatten().map(|l| &**l).collect();
            let problem = key.span.problem(format!("there is no label `{label}`"));
            suggest::among(problem, &label, &labels)
        }
        Refused::Unknown => {
            let known = names(measured);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let problem = key.span.problem(format!("the job has no figure `{name}`"));
            suggest::among(problem, name, &known)
        }
    };
    problems.push(problem);
    None
}

/// The names that figures of some of the lines begin with.
fn parts(measured: &Measured) -> impl Iterator<Item = (&str, Of)> {
    let entries = measured.entries.iter();
    let entries = entries.filter(|_| measured.entries.len() > 1);
    let escalated = measured.escalates.then_some((ESCALATED, Of::Escalated));
    let last = measured.decides.then_some((FINAL, Of::Last));
    let entries = entries.map(|entry| (&**entry, Of::Entry));
    entries.chain(escalated).chain(last)
}

/// The part of the lines that a name begins with, and the rest of the name.
fn of_entry<'a>(name: &'a str, measured: &'a Measured) -> Option<(&'a str, Of, &'a str)> {
    let rest = |part: &str| name.strip_prefix(part)?.strip_prefix('.');
    let found = parts(measured).filter_map(|(part, of)| Some((part, of, rest(part)?)));
    // Of `a` and `a.b` the longer one is meant.
    found.max_by_key(|(part, ..)| part.len())
}

fn kind(name: &str, of: Of, measured: &Measured) -> Result<FigureKind, Refused> {
    let found = kind_of(name, of != Of::All, measured)?;
    match of.has(&found, measured) {
        true => Ok(found),
        false => Err(Refused::Unknown),
    }
}

fn kind_of(name: &str, of_entry: bool, measured: &Measured) -> Result<FigureKind, Refused> {
    if let Some((_, kind)) = ALWAYS.iter().find(|(always, _)| *always == name) {
        return Ok(kind.clone());
    }
    let metric = || FigureKind::Metric(name.to_owned());
    let several = measured.entries.len() > 1 && !of_entry;
    match name {
        "answered" => Ok(metric()),
        "abstained" if measured.abstains => Ok(metric()),
        "abstained" => Err(Refused::Lacks(
            "an answer that may abstain",
            "name the label that stands for it: `answer: { labels: [...], abstain: unsure }`",
        )),
        "accuracy" | "accuracy_answered" if !measured.scorers.is_empty() => Ok(metric()),
        "accuracy" | "accuracy_answered" => Err(Refused::Lacks(
            "a `score`",
            "say what a right answer is: `score: [{ equals: \"{{ column }}\" }]`",
        )),
        "precision_macro" | "recall_macro" | "f1_macro" => needs_gold(measured).map(|()| metric()),
        "majority_accuracy" | "self_agreement" if measured.repeat < 2 => Err(Refused::Lacks(
            "several answers to each row",
            "ask every row more than once: `repeat: 3`",
        )),
        "majority_accuracy" => needs_gold(measured).map(|()| metric()),
        "self_agreement" => Ok(metric()),
        "kappa" if several => Ok(FigureKind::Kappa),
        "alpha" if several || (measured.repeat > 1 && !of_entry) => Ok(FigureKind::Alpha),
        "kappa" | "alpha" if !of_entry => Err(Refused::Lacks(
            "several entries to compare",
            "ask every row of several backends: `matrix: [a, b]`",
        )),
        name if measured.scorers.iter().any(|scorer| scorer == name) => Ok(metric()),
        name => of_label(name, measured),
    }
}

fn needs_gold(measured: &Measured) -> Result<(), Refused> {
    match measured.has_gold {
        true => Ok(()),
        false => Err(Refused::Lacks(
            "the answer that each row should have",
            "say where it stands: `score: [{ equals: \"{{ column }}\" }]`",
        )),
    }
}

fn of_label(name: &str, measured: &Measured) -> Result<FigureKind, Refused> {
    let parts = OF_LABELS
        .iter()
        .find_map(|part| Some((*part, name.strip_prefix(part)?)));
    let Some((part, label)) = parts else {
        return Err(Refused::Unknown);
    };
    needs_gold(measured)?;
    let label = label.to_owned();
    if measured
        .labels
        .as_ref()
        .is_some_and(|labels| !labels.contains(&label))
    {
        return Err(Refused::Label(label));
    }
    Ok(match part {
        "precision." => FigureKind::Precision(label),
        "recall." => FigureKind::Recall(label),
        _ => FigureKind::F1(label),
    })
}

/// Everything that the job has, for a suggestion.
fn names(measured: &Measured) -> Vec<String> {
    const OTHERS: [&str; 10] = [
        "accuracy",
        "accuracy_answered",
        "answered",
        "abstained",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "majority_accuracy",
        "self_agreement",
        "alpha",
    ];
    let others = OTHERS.iter().copied().chain(["kappa"]);
    let has = |name: &&str| kind(name, Of::All, measured).is_ok();
    let mut names: Vec<String> = others.filter(has).map(str::to_owned).collect();
    names.extend(measured.scorers.iter().cloned());
    names.extend(ALWAYS.iter().map(|(name, _)| (*name).to_owned()));
    if measured.has_gold {
        for label in measured.labels.iter().flatten() {
            names.extend(OF_LABELS.iter().map(|part| format!("{part}{label}")));
        }
    }
    let of_all = names.clone();
    for (part, of) in parts(measured) {
        let of_part = of_all
            .iter()
            .filter(|name| kind(name, of, measured).is_ok());
        names.extend(of_part.map(|name| format!("{part}.{name}")));
    }
    names
}
