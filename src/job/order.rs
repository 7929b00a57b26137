//! Who is asked, in which order, how often: `fallback`, `matrix`, `route`, `repeat` and their like.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::backend::positive;
use super::decode::{At, Decode, List, need, wrong};
use super::named::named;
use super::prompt;
use super::read::Job;
use super::resolve::in_range;
use super::routing::{Entry, FallbackPolicy, Rule};
use super::schema::{Shapes, any_of};
use super::source::Span;
use super::written::RuleKeys;
use super::yaml::{Node, Value};
use super::{Problem, scoring, suggest};
use crate::words::{Columns, Status};

const MAX_REPEAT: u32 = 1_000;
/// The name of the only entry of a job with a `route`, whose backends differ from row to row.
const ROUTE: &str = "route";
/// The name of the entry of those who are asked where the others disagree.
pub const ESCALATED: &str = "escalated";
/// What the answers to a row come to is called so beside the entries.
const FINAL: &str = "final";

/// The order as the job says it, with every name resolved.
pub struct Order {
    /// The names of the backends that any row may be asked of, in the order of their first use.
    pub used: Vec<String>,
    /// What every row is asked of; the positions are those in `used`.
    pub entries: Vec<Entry>,
    /// How often every row is asked of each entry.
    pub repeat: u32,
    /// When the next backend is asked.
    pub fallback: FallbackPolicy,
    /// When a second request is made beside the first.
    pub hedge_after: Option<Duration>,
    /// Who is asked last where the entries disagree.
    pub escalate: Option<Entry>,
}

impl Order {
    /// Whether there are several answers to a row that come to something together. `has_answer`: the job says what an
    /// answer must be.
    pub fn decides(&self, has_answer: bool) -> bool {
        has_answer && (self.entries.len() > 1 || self.repeat > 1)
    }
}

/// One name of a backend, or a list of them.
#[derive(Debug, Clone)]
pub struct Names(pub Vec<At<String>>);

impl Decode for Names {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Text(name) => Some(Self(vec![At {
                value: name.clone(),
                span: node.span.clone(),
            }])),
            Value::List(_) => List::decode(node, problems).map(|List(names)| Self(names)),
            _ => wrong(
                node,
                "the name of a backend as text, or a list of them",
                problems,
            ),
        }
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([String::schema(shapes), List::<String>::schema(shapes)])
    }
}

/// An ending of an attempt that may send a row on to the next backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackOn {
    /// An answer that ended so.
    Status(Status),
    /// A request that the backend refuses.
    RowFatal,
}

impl FallbackOn {
    /// Every one and its name in the job file.
    const NAMES: [(&'static str, FallbackOn); 6] = [
        ("refused", FallbackOn::Status(Status::Refused)),
        ("truncated", FallbackOn::Status(Status::Truncated)),
        ("filtered", FallbackOn::Status(Status::Filtered)),
        ("empty", FallbackOn::Status(Status::Empty)),
        ("invalid", FallbackOn::Status(Status::Invalid)),
        ("row_fatal", FallbackOn::RowFatal),
    ];
}

named! {
    FallbackOn: Self::NAMES,
}

/// Reads the order and names everything that is wrong with it.
pub fn resolve(job: &Job, columns: Option<&Columns>, problems: &mut Vec<Problem>) -> Order {
    let mut backends = Backends {
        known: known(job, problems),
        used: Vec::new(),
        problems,
    };
    let entries = match backends.known.is_empty() {
        // What the order names would be unknown, and only because there is nothing to know.
        true => vec![Entry::always("", &[])],
        false => backends.entries(job, columns),
    };
    let escalate = backends.escalate(job);
    backends.judges(job);
    let Backends { used, .. } = backends;
    let keys = &job.keys;
    let repeat = in_range(keys.repeat.as_ref(), "repeat", 1..=MAX_REPEAT, problems);
    Order {
        used,
        entries,
        repeat: repeat.unwrap_or(1),
        fallback: fallback_policy(job, problems),
        hedge_after: positive(keys.hedge_after.as_ref(), "hedge_after", problems),
        escalate,
    }
}

/// The backends that only judge or decide: without an order of the job's own they are not asked for the rows.
fn spared(job: &Job) -> Vec<&str> {
    let judges = scoring::judges(job);
    let all = judges.chain(&job.keys.escalate);
    all.flat_map(|at| &at.value.0)
        .map(|at| at.value.as_str())
        .collect()
}

/// The names of the job's backends, in the order in which they are written.
fn known(job: &Job, problems: &mut Vec<Problem>) -> Vec<String> {
    let names = match &job.keys.backends {
        Some(backends) => backends.value.names.clone(),
        None => Vec::new(),
    };
    if names.is_empty() {
        let problem = match (&job.keys.backends, job.keys.written.key("backends")) {
            (Some(backends), _) => Some(backends.span.problem("there are no backends")),
            (None, None) => Some(job.start.problem("the job has no `backends`")),
            (None, Some(_)) => None,
        };
        let help = "write at least one: `backends: { dry: { type: echo } }`";
        problems.extend(problem.map(|problem| problem.help(help)));
    }
    names
}

/// The backends while the order is read.
struct Backends<'a> {
    known: Vec<String>,
    used: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl Backends<'_> {
    fn entries(&mut self, job: &Job, columns: Option<&Columns>) -> Vec<Entry> {
        let keys = &job.keys;
        let mut ways = ["fallback", "matrix", "route"]
            .into_iter()
            .filter_map(|way| Some((way, keys.written.key(way)?)));
        if let Some((first, _)) = ways.next() {
            for (other, span) in ways {
                let problem = span.problem(format!("`{first}` and `{other}` exclude each other"));
                self.problems.push(problem.help("keep one of the two"));
            }
        }
        let mut entries = Vec::new();
        if let Some(fallback) = &keys.fallback {
            let help = "remove it to try all in the order in which they are written";
            let names = &fallback.value.0;
            entries.push(self.entry("`fallback`", names, &fallback.span, help));
        }
        if let Some(matrix) = &keys.matrix {
            let place = keys.written.key("matrix").unwrap_or(&matrix.span);
            entries.extend(self.matrix(&matrix.value.0, place));
        }
        if let Some(route) = &keys.route {
            let place = keys.written.key("route").unwrap_or(&route.span);
            entries.push(self.route(&route.value.0, place, columns));
        }
        if entries.is_empty() {
            let spared = spared(job);
            let asked = self
                .known
                .iter()
                .filter(|name| !spared.contains(&name.as_str()));
            self.used = asked.cloned().collect();
            if self.used.is_empty() {
                // Who is the only one does both.
                self.used.clone_from(&self.known);
            }
            let names: Vec<&str> = self.used.iter().map(String::as_str).collect();
            let all: Vec<usize> = (0..names.len()).collect();
            entries.push(Entry::always(&names.join(">"), &all));
        }
        entries
    }

    /// Who is asked last where the entries disagree.
    fn escalate(&mut self, job: &Job) -> Option<Entry> {
        let At {
            value: Names(names),
            span,
        } = job.keys.escalate.as_ref()?;
        if job.keys.written.key("matrix").is_none() {
            let place = job.keys.written.key("escalate").unwrap_or(span);
            let problem =
                place.problem("`escalate` is for rows on which the entries of a `matrix` disagree");
            self.problems
                .push(problem.help("ask several models: `matrix: [a, b]`"));
        }
        if job.keys.written.key("answer").is_none() {
            let place = job.keys.written.key("escalate").unwrap_or(span);
            let problem = place.problem("`escalate` needs an `answer`: free texts never agree");
            self.problems
                .push(problem.help("say what an answer must be: `answer: { labels: [a, b] }`"));
        }
        if self.known.is_empty() {
            return None;
        }
        let entry = self.entry("`escalate`", names, span, "name the backend that decides");
        Some(Entry {
            name: Arc::from(ESCALATED),
            ..entry
        })
    }

    /// The backends that judge are in use too.
    fn judges(&mut self, job: &Job) {
        if self.known.is_empty() {
            return;
        }
        for At {
            value: Names(names),
            span,
        } in scoring::judges(job)
        {
            self.list("`judge`", names, span, "name the backend that judges");
        }
    }

    fn matrix(&mut self, list: &[At<Names>], place: &Span) -> Vec<Entry> {
        if list.is_empty() {
            let problem = place.problem("`matrix` names no backend");
            let help = "write each backend, or list of backends, that every row is asked of";
            self.problems.push(problem.help(help));
        }
        let mut entries: Vec<Entry> = Vec::new();
        for At { value, span } in list {
            let help = "name a backend, or remove the entry";
            let entry = self.entry("the entry", &value.0, span, help);
            if [ESCALATED, FINAL].contains(&&*entry.name) {
                let problem =
                    span.problem(format!("`{}` cannot be an entry of the matrix", entry.name));
                let help = "it is what results call the answers that count in the end; give the backend another name";
                self.problems.push(problem.help(help));
            }
            // By name: results tell the entries apart by it.
            if !entry.name.is_empty() && entries.iter().any(|other| other.name == entry.name) {
                let problem = span.problem(format!("`{}` is in `matrix` twice", entry.name));
                let problem = problem.help("`repeat` asks every row more than once");
                self.problems.push(problem);
            }
            entries.push(entry);
        }
        entries
    }

    fn route(&mut self, list: &[At<RuleKeys>], place: &Span, columns: Option<&Columns>) -> Entry {
        if list.is_empty() {
            let problem = place.problem("`route` has no rule");
            let help = "write at least one: `- { when: \"tier == 'premium'\", to: [a, b] }`";
            self.problems.push(problem.help(help));
        }
        let mut all_taken = false;
        let mut rules = Vec::new();
        for rule in list {
            let written = &rule.value.written;
            if all_taken {
                let place = written.key("when").or(written.key("to"));
                let problem = place
                    .unwrap_or(&rule.span)
                    .problem("the rule is never reached");
                let help = "a rule before it has no `when` and takes every row; put that one last";
                self.problems.push(problem.help(help));
            }
            all_taken |= written.key("when").is_none();
            need(rule, "rule", &["to"], self.problems);
            let when = rule.value.when.as_ref().and_then(|when| {
                prompt::condition(&when.value, &when.span, columns, self.problems)
            });
            let to = rule.value.to.as_ref().map_or(Vec::new(), |to| {
                self.list("`to`", &to.value.0, &to.span, "name at least one backend")
            });
            rules.push(Rule { when, to });
        }
        Entry {
            name: Arc::from(ROUTE),
            rules,
        }
    }

    fn entry(&mut self, what: &str, names: &[At<String>], place: &Span, help: &str) -> Entry {
        let to = self.list(what, names, place, help);
        let names: Vec<&str> = to.iter().map(|at| self.used[*at].as_str()).collect();
        Entry::always(&names.join(">"), &to)
    }

    /// The positions of a list's backends among those in use, each once.
    fn list(&mut self, what: &str, names: &[At<String>], place: &Span, help: &str) -> Vec<usize> {
        if names.is_empty() {
            let problem = place.problem(format!("{what} names no backend"));
            self.problems.push(problem.help(help));
        }
        let mut list = Vec::new();
        for At { value, span } in names {
            let Some(position) = self.position(value) else {
                let candidates: Vec<&str> = self.known.iter().map(String::as_str).collect();
                let problem = span.problem(format!("there is no backend `{value}`"));
                self.problems
                    .push(suggest::among(problem, value, &candidates));
                continue;
            };
            if list.contains(&position) {
                let problem = span.problem(format!("`{value}` is in {what} twice"));
                let problem = problem.help("each backend is tried once; `retry` repeats");
                self.problems.push(problem);
                continue;
            }
            list.push(position);
        }
        list
    }

    /// Where a backend stands among those in use, which it is from now on.
    fn position(&mut self, name: &str) -> Option<usize> {
        if let Some(position) = self.used.iter().position(|used| used == name) {
            return Some(position);
        }
        let name = self.known.iter().find(|known| *known == name)?;
        self.used.push(name.clone());
        Some(self.used.len() - 1)
    }
}

fn fallback_policy(job: &Job, problems: &mut Vec<Problem>) -> FallbackPolicy {
    let after = job.keys.fallback_after.as_ref();
    let mut policy = FallbackPolicy {
        after: positive(after, "fallback_after", problems),
        ..FallbackPolicy::default()
    };
    let Some(list) = &job.keys.fallback_on else {
        return policy;
    };
    if list.value.0.is_empty() {
        let place = job.keys.written.key("fallback_on").unwrap_or(&list.span);
        let problem = place.problem("`fallback_on` names nothing");
        let names = FallbackOn::NAMES.map(|(name, _)| name);
        problems.push(problem.help(suggest::there_are(&names)));
    }
    for (position, At { value, span }) in list.value.0.iter().enumerate() {
        let mut before = list.value.0[..position].iter();
        if before.any(|other| other.value == *value) {
            let name = span.shown().trim_matches(['"', '\'']);
            problems.push(span.problem(format!("`{name}` is named twice")));
        }
        let statuses: &[Status] = match value {
            FallbackOn::RowFatal => {
                policy.on_row_fatal = true;
                continue;
            }
            // An answer of nothing but white space is no valid one either.
            FallbackOn::Status(Status::Invalid) => &[Status::Invalid, Status::Empty],
            FallbackOn::Status(status) => &[*status],
        };
        for status in statuses {
            if !policy.on.contains(status) {
                policy.on.push(*status);
            }
        }
    }
    policy
}
