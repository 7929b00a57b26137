//! `--set key=value`: a value on top of the job file.

use super::source::{Source, Span};
use super::yaml::{self, Key, Node, Value};
use super::{Problem, Problems};

/// Puts one override, such as `backends.gpt.model=gpt-4o` or `inputs.0.limit=10`, into the tree.
pub fn apply(root: &mut Node, text: &str, problems: &mut Vec<Problem>) {
    let source = Source::new("--set", text);
    let whole = source.span(0, text.len());
    let Some((path, value)) = text.split_once('=') else {
        let problem = whole.problem("`=` is missing");
        problems.push(problem.help("write it like `--set concurrency=8`"));
        return;
    };
    let key = source.span(0, path.len());
    let Some(value) = read(value, &whole, path.len() + 1, problems) else {
        return;
    };
    let mut node = root;
    for name in path.split('.') {
        match child(node, name, &key, problems) {
            Some(found) => node = found,
            None => return,
        }
    }
    *node = value;
}

/// The value as YAML. A text needs no quotes here, whatever it contains.
fn read(text: &str, whole: &Span, start: usize, problems: &mut Vec<Problem>) -> Option<Node> {
    let structured = text.starts_with(['[', '{', '"', '\'']) && !text.starts_with("{{");
    // Spaces keep the places right: the value stands where it stands in the argument.
    let padded = Source::new("--set", format!("{}{text}", " ".repeat(start)));
    let before = problems.len();
    let parsed = yaml::parse(&padded, problems);
    for problem in &mut problems[before..] {
        in_argument(problem, whole);
    }
    match parsed {
        Ok(mut node) if structured || (is_scalar(&node) && problems.len() == before) => {
            locate(&mut node, whole);
            Some(node)
        }
        Err(Problems(mut found)) if structured => {
            found
                .iter_mut()
                .for_each(|problem| in_argument(problem, whole));
            problems.extend(found);
            None
        }
        _ => {
            // What is no YAML is text, and text has no problems.
            problems.truncate(before);
            Some(Node {
                value: Value::Text(text.to_owned()),
                span: whole.source.span(start, whole.end),
            })
        }
    }
}

/// Lets the problem show the argument as the user wrote it.
fn in_argument(problem: &mut Problem, whole: &Span) {
    if let Some(place) = &mut problem.place
        && place.line == 1
    {
        place.source = whole.place().source;
    }
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, Value::List(_) | Value::Mapping(_))
}

/// Lets the nodes point into the argument as the user wrote it.
fn locate(node: &mut Node, whole: &Span) {
    node.span.source = whole.source.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| locate(item, whole)),
        Value::Mapping(entries) => {
            for (key, item) in entries {
                key.span.source = whole.source.clone();
                locate(item, whole);
            }
        }
        _ => {}
    }
}

/// The value under this name, made if it is not there.
fn child<'a>(
    node: &'a mut Node,
    name: &str,
    place: &Span,
    problems: &mut Vec<Problem>,
) -> Option<&'a mut Node> {
    if matches!(node.value, Value::Null) {
        node.value = Value::Mapping(Vec::new());
    }
    match &mut node.value {
        Value::Mapping(entries) => {
            let position = entries.iter().position(|(key, _)| key.name == name);
            let position = position.unwrap_or_else(|| {
                let key = Key {
                    name: name.to_owned(),
                    span: place.clone(),
                };
                let value = Node {
                    value: Value::Null,
                    span: place.clone(),
                };
                entries.push((key, value));
                entries.len() - 1
            });
            Some(&mut entries[position].1)
        }
        Value::List(items) => {
            let length = items.len();
            let item = name
                .parse()
                .ok()
                .and_then(|index: usize| items.get_mut(index));
            if item.is_none() {
                let problem = place.problem(format!("`{name}` is not one of {length} list items"));
                problems.push(problem.help("items are counted from 0"));
            }
            item
        }
        _ => {
            problems.push(place.problem(format!(
                "there is nothing below which `{name}` could be set"
            )));
            None
        }
    }
}
