//! The body of a declared backend's requests: YAML whose texts are templates, or one template of JSON.

use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use super::Problem;
use super::decode::wrong;
use super::prompt::{Names, template, use_of};
use super::source::Span;
use super::yaml::{Node, Value};
use crate::template::{Expression, Extras, Template, TemplateError};
use crate::words::Row;

/// What is posted for a row.
#[derive(Debug, Clone)]
pub enum HttpBody {
    /// Written as YAML.
    Tree(BodyPart),
    /// One template, which renders to JSON.
    Text(Template),
}

/// A part of a body that is written as YAML. The names in mappings are no templates.
#[derive(Debug, Clone)]
pub enum BodyPart {
    /// The same for every row.
    Json(Json),
    /// A text with templates in it: stays a text, whatever is put in.
    Text(Template),
    /// A text that is one `{{ expression }}` and nothing else: keeps the type of its value.
    Value(Expression),
    /// A list.
    List(Vec<BodyPart>),
    /// A mapping, in the order of the file.
    Mapping(Vec<(String, BodyPart)>),
}

impl HttpBody {
    /// No body: what stands for one that could not be read.
    pub(super) fn nothing() -> Self {
        HttpBody::Tree(BodyPart::Json(Json::Null))
    }

    /// The body for a row, seen together with further names.
    pub fn render(&self, row: &Arc<Row>, extras: &Extras) -> Result<Json, TemplateError> {
        match self {
            HttpBody::Tree(part) => part.render(row, extras),
            HttpBody::Text(template) => {
                let text = template.render_with(row, extras)?;
                serde_json::from_str(&text).map_err(|error| TemplateError {
                    message: format!(
                        "what it renders to is no JSON: {error} (a text goes in as \
                         `{{{{ prompt | tojson }}}}`, without quotes)"
                    ),
                    line: None,
                    range: None,
                    names_a_column: false,
                })
            }
        }
    }
}

impl BodyPart {
    fn render(&self, row: &Arc<Row>, extras: &Extras) -> Result<Json, TemplateError> {
        match self {
            BodyPart::Json(json) => Ok(json.clone()),
            BodyPart::Text(template) => template.render_with(row, extras).map(Json::String),
            BodyPart::Value(expression) => expression.value(row, extras),
            BodyPart::List(parts) => parts.iter().map(|part| part.render(row, extras)).collect(),
            BodyPart::Mapping(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (name, part) in entries {
                    map.insert(name.clone(), part.render(row, extras)?);
                }
                Ok(Json::Object(map))
            }
        }
    }
}

/// Reads the body of a declared backend.
pub struct Reader<'a> {
    /// The columns, and every further name that a body can see.
    pub names: Names<'a>,
    /// Those of the further names that this backend gives no value.
    pub missing: &'a [&'static str],
}

impl Reader<'_> {
    /// The body; `null` where there is a problem with it.
    pub fn body(&self, node: &Node, problems: &mut Vec<Problem>) -> HttpBody {
        match &node.value {
            Value::Text(text) => {
                let template = self.template(text, &node.span, problems);
                template.map_or_else(HttpBody::nothing, HttpBody::Text)
            }
            Value::List(_) | Value::Mapping(_) => HttpBody::Tree(self.part(node, problems)),
            _ => {
                let expected = "a mapping, a list, or a template that renders to JSON";
                wrong(node, expected, problems).unwrap_or_else(HttpBody::nothing)
            }
        }
    }

    fn part(&self, node: &Node, problems: &mut Vec<Problem>) -> BodyPart {
        match &node.value {
            Value::Null | Value::Refused => BodyPart::Json(Json::Null),
            Value::Bool(value) => BodyPart::Json(Json::Bool(*value)),
            Value::Number(text) => {
                BodyPart::Json(exact(text, node, problems).unwrap_or(Json::Null))
            }
            Value::Text(text) if !text.contains('{') => BodyPart::Json(Json::from(text.as_str())),
            Value::Text(text) => {
                let template = self.template(text, &node.span, problems);
                match (template, Expression::alone(text)) {
                    (None, _) => BodyPart::Json(Json::Null),
                    (Some(_), Some(expression)) => BodyPart::Value(expression),
                    (Some(template), None) => BodyPart::Text(template),
                }
            }
            Value::List(items) => {
                BodyPart::List(items.iter().map(|item| self.part(item, problems)).collect())
            }
            Value::Mapping(entries) => {
                let entries = entries.iter();
                let entry =
                    entries.map(|(key, node)| (key.name.clone(), self.part(node, problems)));
                BodyPart::Mapping(entry.collect())
            }
        }
    }

    fn template(&self, text: &str, span: &Span, problems: &mut Vec<Problem>) -> Option<Template> {
        let template = template(text, span, self.names, problems)?;
        let all = self.names.also.iter().copied();
        let given: Vec<&str> = all.filter(|name| !self.missing.contains(name)).collect();
        let unknown = self
            .names
            .columns
            .map(|columns| template.unknown_names(columns, &given));
        for name in unknown.into_iter().flatten() {
            let problem = use_of(span, &name).problem(format!("the backend has no `{name}`"));
            problems.push(problem.help(format!("give it one: `{name}: ...`")));
        }
        Some(template)
    }
}

/// A node as JSON, nothing in it a template.
pub fn json(node: &Node, problems: &mut Vec<Problem>) -> Option<Json> {
    Some(match &node.value {
        Value::Refused => return None,
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => exact(text, node, problems)?,
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(items) => items
            .iter()
            .map(|item| json(item, problems))
            .collect::<Option<_>>()?,
        Value::Mapping(entries) => {
            let entries = entries.iter();
            let entries =
                entries.map(|(key, node)| Some((key.name.clone(), json(node, problems)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}

/// The number, or the problem that it cannot be held exactly.
fn exact(text: &str, node: &Node, problems: &mut Vec<Problem>) -> Option<Json> {
    let number = number(text);
    if number.is_none() {
        let message = format!("the number {text} cannot be sent exactly");
        let problem = node.span.problem(message);
        problems.push(problem.help("put it in quotes, if a text will do"));
    }
    number
}

/// The number as JSON, if JSON and the program can hold all of it.
fn number(text: &str) -> Option<Json> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Json::from);
        }
    }
    let whole = unsigned.strip_prefix('-').unwrap_or(unsigned);
    match whole.bytes().all(|byte| byte.is_ascii_digit()) {
        true => unsigned
            .parse::<u64>()
            .map(Json::from)
            .or_else(|_| unsigned.parse::<i64>().map(Json::from))
            .ok(),
        false => unsigned
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Json::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_sent_as_it_is_written_or_refused() {
        for (text, json) in [
            ("0", Some("0")),
            ("-3", Some("-3")),
            ("+3", Some("3")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("0.10", Some("0.1")),
            ("1e3", Some("1000.0")),
            (".5", Some("0.5")),
            ("0x1F", Some("31")),
            ("0o17", Some("15")),
            ("1e999", None),
        ] {
            let shown = number(text).map(|json| json.to_string());
            assert_eq!(shown.as_deref(), json, "{text}");
        }
    }
}
