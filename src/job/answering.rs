//! `answer`: what an answer must be, and what is done about one that is not.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::body;
use super::decode::{At, Decode, List, Named, wrong};
use super::read::{Job, read_text};
use super::resolve::in_range;
use super::schema::{Shapes, any_of, text_like};
use super::written::{AnswerKeys, NumberKeys};
use super::yaml::{Node, Value};
use super::{Problem, suggest};
use crate::answer::{Form, Reader};
use crate::words::OutputSchema;

/// How often an answer is asked for again that is not valid.
const DEFAULT_REASK: u32 = 1;
const MAX_REASK: u32 = 10;
const FORMS: [&str; 4] = ["labels", "json_schema", "pattern", "number"];

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerPlan {
    /// Its form.
    pub form: Form,
    /// How often each backend is asked again, with the reason, for an answer that is not valid.
    pub reask: u32,
    /// Whether the form is sent to backends that take one.
    pub structured: bool,
    /// Parts of a JSON answer that have columns of their own: the column, and the JSON pointer to the part.
    pub columns: Vec<(String, String)>,
}

impl AnswerPlan {
    /// What reads the answers.
    pub fn reader(&self) -> Reader {
        Reader::new(self.form.clone()).expect("the form was read when the job was")
    }

    /// The schema that is sent with each request.
    pub(super) fn sent_schema(&self) -> Option<Arc<OutputSchema>> {
        self.structured.then(|| Arc::new(self.reader().schema()))
    }
}

/// A label: a text, or a number or `true` as it is written.
#[derive(Debug, Clone)]
pub struct Label(pub String);

impl Decode for Label {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Text(text) | Value::Number(text) => Some(Self(text.clone())),
            Value::Bool(value) => Some(Self(value.to_string())),
            _ => wrong(node, "a label: a text or a number", problems),
        }
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": ["string", "number", "boolean"] })
    }
}

/// Parts of a JSON answer: the names of its properties, or columns and JSON pointers.
#[derive(Debug, Clone)]
pub struct Parts(pub Vec<(At<String>, String)>);

impl Decode for Parts {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        if let Value::List(_) = &node.value {
            let List(names) = List::<String>::decode(node, problems)?;
            let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let parts = names.into_iter().map(|name| {
                let pointer = pointer(&name.value);
                (name, pointer)
            });
            return Some(Self(parts.collect()));
        }
        let named = Named::<At<String>>::decode(node, problems)?;
        let mut parts = Vec::new();
        for (key, At { value, span }) in named.entries {
            if !value.is_empty() && !value.starts_with('/') {
                let problem = span.problem(format!("`{value}` is no JSON pointer"));
                problems.push(problem.help(format!("begin it with a slash: `/{value}`")));
                continue;
            }
            let name = At {
                value: key.name,
                span: key.span,
            };
            parts.push((name, value));
        }
        Some(Self(parts))
    }

    fn schema(shapes: &mut Shapes) -> Json {
        let pointers = json!({ "type": "object", "additionalProperties": text_like("^(/.*)?$") });
        any_of([List::<String>::schema(shapes), pointers])
    }
}

/// A number: `true`, or its bounds.
#[derive(Debug, Clone)]
pub struct NumberForm(pub NumberKeys);

impl Decode for NumberForm {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Bool(true) => Some(Self(NumberKeys::default())),
            Value::Mapping(_) => NumberKeys::decode(node, problems).map(Self),
            _ => wrong(
                node,
                "`true`, or a mapping with `min`, `max`, `whole`",
                problems,
            ),
        }
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([json!({ "const": true }), NumberKeys::schema(shapes)])
    }
}

/// Reads what the job says of answers; everything that is wrong with it is a problem.
pub fn resolve(job: &Job, problems: &mut Vec<Problem>) -> Option<AnswerPlan> {
    let answer = job.keys.answer.as_ref()?;
    let keys = &answer.value;
    let reask = in_range(keys.reask.as_ref(), "reask", 0..=MAX_REASK, problems);
    let form = form(job, answer, problems);
    let columns = columns(keys, problems);
    let form = form?;
    if let Err(error) = Reader::new(form.clone()) {
        let (what, place) = match &form {
            Form::Pattern(_) => ("the pattern is no regular expression", "pattern"),
            _ => ("the schema is no JSON schema", "json_schema"),
        };
        let place = keys.written.key(place).unwrap_or(&answer.span);
        problems.push(place.problem(format!("{what}: {error}")));
        return None;
    }
    Some(AnswerPlan {
        form,
        reask: reask.unwrap_or(DEFAULT_REASK),
        structured: keys.structured.as_ref().is_none_or(|at| at.value),
        columns,
    })
}

fn form(job: &Job, answer: &At<AnswerKeys>, problems: &mut Vec<Problem>) -> Option<Form> {
    let keys = &answer.value;
    let mut written = FORMS
        .iter()
        .filter_map(|form| Some((form, keys.written.key(form)?)));
    match (written.next(), written.next()) {
        (None, _) => {
            let problem = answer.span.problem("the answer has no form");
            problems.push(problem.help(format!("say one of {}", suggest::list(&FORMS))));
        }
        (Some((first, _)), Some((second, span))) => {
            let problem = span.problem(format!("`{first}` and `{second}` exclude each other"));
            problems.push(problem.help("keep one of the two"));
            return None;
        }
        _ => {}
    }
    let abstain = keys.abstain.as_ref();
    if let (Some(abstain), None) = (abstain, &keys.labels) {
        let problem = abstain
            .span
            .problem("`abstain` is one more label, and there are no `labels`");
        problems.push(problem);
    }
    if let Some(labels) = &keys.labels {
        return labels_of(labels, abstain, problems);
    }
    if let Some(schema) = &keys.json_schema {
        return schema_of(job, schema, problems).map(Form::JsonSchema);
    }
    if let Some(pattern) = &keys.pattern {
        return Some(Form::Pattern(pattern.value.clone()));
    }
    let NumberForm(number) = &keys.number.as_ref()?.value;
    let bound = |at: &Option<At<f64>>| at.as_ref().map(|at| at.value);
    let (min, max) = (bound(&number.min), bound(&number.max));
    if let (Some(min), Some(max), Some(place)) = (min, max, number.written.key("min"))
        && min > max
    {
        problems.push(place.problem("`min` is greater than `max`"));
    }
    let whole = number.whole.as_ref().is_some_and(|at| at.value);
    Some(Form::Number { min, max, whole })
}

fn labels_of(
    list: &At<List<Label>>,
    abstain: Option<&At<Label>>,
    problems: &mut Vec<Problem>,
) -> Option<Form> {
    if list.value.0.is_empty() {
        let problem = list.span.problem("`labels` names no label");
        problems.push(problem.help("name at least one: `labels: [yes, no]`"));
    }
    let mut seen = HashSet::new();
    for At {
        value: Label(label),
        span,
    } in list.value.0.iter().chain(abstain)
    {
        if label.trim().is_empty() || label.trim() != label {
            problems.push(span.problem("a label is a text without white space around it"));
        } else if !seen.insert(label) {
            problems.push(span.problem(format!("the label `{label}` is named twice")));
        }
    }
    let labels = list.value.0.iter().map(|at| at.value.0.clone());
    Some(Form::Labels {
        labels: labels.collect(),
        abstain: abstain.map(|at| at.value.0.clone()),
    })
}

/// The schema: as it is written, or in the file that is named.
fn schema_of(job: &Job, schema: &At<Node>, problems: &mut Vec<Problem>) -> Option<Json> {
    let Value::Text(path) = &schema.value.value else {
        return match schema.value.value {
            Value::Mapping(_) => body::json(&schema.value, problems),
            _ => wrong(
                &schema.value,
                "a JSON schema, or the path of a file with one",
                problems,
            ),
        };
    };
    let path = job.folder().join(path);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(found) => {
            problems.extend(found.0);
            return None;
        }
    };
    match serde_json::from_str(&text) {
        Ok(json) => Some(json),
        Err(error) => {
            let problem = format!("{} is no JSON: {error}", path.display());
            problems.push(schema.span.problem(problem));
            None
        }
    }
}

fn columns(keys: &AnswerKeys, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
    let Some(At {
        value: Parts(parts),
        ..
    }) = &keys.columns
    else {
        return Vec::new();
    };
    if let (Some(place), None) = (keys.written.key("columns"), &keys.json_schema) {
        let problem = place.problem("`columns` are parts of a JSON answer");
        problems.push(problem.help("say what it is: `json_schema: { type: object }`"));
    }
    let mut seen = HashSet::new();
    for (name, _) in parts {
        if name.value.trim().is_empty() {
            problems.push(name.span.problem("the column has no name"));
        } else if !seen.insert(&name.value) {
            let problem = format!("the column `{}` is named twice", name.value);
            problems.push(name.span.problem(problem));
        }
    }
    let parts = parts.iter();
    parts
        .map(|(name, pointer)| (name.value.clone(), pointer.clone()))
        .collect()
}
