//! The job as it is written, value by value, and where each stands.

use std::fmt;

use serde_json::Value as Json;

use super::body;
use super::read::Job;
use super::source::{Span, mask};
use super::yaml::{Node, Value};

/// Keys under which everything is one value: it is the model's or the server's.
const WHOLE: [&str; 2] = ["json_schema", "body"];

/// A value of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The way to it, from the top of the job.
    pub path: Vec<Step>,
    /// The value.
    pub value: Json,
    /// Who says so.
    pub from: Origin,
}

/// A step into a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a key of a mapping.
    Key(String),
    /// To an item of a list, counted from 0.
    Item(usize),
}

/// Who says what a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The job file, on this line.
    Line(usize),
    /// `--set`.
    Set,
    /// `--out`.
    Out,
    /// The environment variable of this name.
    Environment(String),
    /// Nobody: that is what it is then.
    Default,
}

impl Setting {
    /// The way to it as `--set` takes it: `backends.gpt.model`, `inputs.0.path`.
    pub fn key(&self) -> String {
        let steps: Vec<String> = self.path.iter().map(ToString::to_string).collect();
        steps.join(".")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Key(name) => f.write_str(name),
            Step::Item(position) => write!(f, "{position}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Line(line) => write!(f, "line {line}"),
            Origin::Set => f.write_str("--set"),
            Origin::Out => f.write_str("--out"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Default => f.write_str("default"),
        }
    }
}

impl Job {
    /// Every value that the job file and `--set` say, in the order of the file.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        collect(&self.root, &self.root.span, &mut Vec::new(), &mut settings);
        settings
    }
}

fn collect(node: &Node, stands: &Span, path: &mut Vec<Step>, settings: &mut Vec<Setting>) {
    let is_whole = matches!(path.last(), Some(Step::Key(name)) if WHOLE.contains(&name.as_str()));
    match &node.value {
        Value::Mapping(entries) if !entries.is_empty() && !is_whole => {
            for (key, node) in entries {
                path.push(Step::Key(key.name.clone()));
                collect(node, &key.span, path, settings);
                path.pop();
            }
        }
        Value::List(items) if items.iter().any(is_mapping) && !is_whole => {
            for (position, node) in items.iter().enumerate() {
                path.push(Step::Item(position));
                collect(node, &node.span, path, settings);
                path.pop();
            }
        }
        _ => {
            let is_set = node.span.source.path == "--set";
            let value = body::json(node, &mut Vec::new()).unwrap_or_default();
            settings.push(Setting {
                path: path.clone(),
                // What a backend is told may hold what looks like a key, in its address for one.
                value: match path.first() {
                    Some(Step::Key(name)) if name == "backends" => masked(value),
                    _ => value,
                },
                from: match is_set {
                    true => Origin::Set,
                    false => Origin::Line(stands.place().line),
                },
            });
        }
    }
}

fn is_mapping(node: &Node) -> bool {
    matches!(node.value, Value::Mapping(_))
}

fn masked(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(mask(&text)),
        Json::Array(items) => items.into_iter().map(masked).collect(),
        Json::Object(entries) => {
            let entries = entries.into_iter();
            Json::Object(entries.map(|(key, value)| (key, masked(value))).collect())
        }
        other => other,
    }
}
