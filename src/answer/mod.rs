//! Layer 1: what an answer must be, and whether a text is one.
//!
//! What this folder promises: an answer that passes is one, to the letter: a label of the list in its own spelling, JSON that
//! the schema holds of, a text that the pattern matches, a number. What is meant without doubt is understood
//! (`repair`): code fences, white space, quotes, the case of a label. Everything else is refused with a reason that a
//! model can mend its answer by. No text makes it panic or take long.

mod place;
mod repair;

pub use place::Place;
pub use repair::last_number;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::words::{OutputSchema, WRAPPER};

/// How much of an answer is shown where it is refused, in characters.
const SHOWN: usize = 80;
/// How many mistakes of a JSON answer are named.
const NAMED: usize = 3;
/// A pattern that takes more memory than this is refused.
const PATTERN_BYTES: usize = 1 << 20;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One of these labels.
    Labels {
        /// The labels, each once.
        labels: Vec<String>,
        /// The label by which a model says that it cannot tell; one more than the others.
        abstain: Option<String>,
    },
    /// JSON that this schema holds of.
    JsonSchema(Value),
    /// A text in which this regular expression is found.
    Pattern(String),
    /// A number.
    Number {
        /// The least.
        min: Option<f64>,
        /// The most.
        max: Option<f64>,
        /// Whether it has to be a whole one.
        whole: bool,
    },
}

/// Reads answers of one form.
#[derive(Debug)]
pub struct Reader {
    form: Form,
    check: Check,
}

#[derive(Debug)]
enum Check {
    Labels(Vec<String>),
    Json(Box<jsonschema::Validator>),
    Pattern(regex::Regex),
    Number,
}

impl Reader {
    /// Reads answers of this form; else why there can be none.
    pub fn new(form: Form) -> Result<Self, String> {
        let check = match &form {
            Form::Labels { labels, abstain } => {
                Check::Labels(labels.iter().chain(abstain).cloned().collect())
            }
            Form::JsonSchema(schema) => Check::Json(Box::new(validator(schema)?)),
            Form::Pattern(pattern) => Check::Pattern(expression(pattern)?),
            Form::Number { .. } => Check::Number,
        };
        Ok(Self { form, check })
    }

    /// What it reads.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// The schema of its answers, for a provider that takes one.
    pub fn schema(&self) -> OutputSchema {
        OutputSchema::new(match &self.form {
            Form::Labels { .. } => {
                let Check::Labels(labels) = &self.check else {
                    unreachable!("labels are checked by labels")
                };
                json!({ "type": "string", "enum": labels })
            }
            Form::JsonSchema(schema) => schema.clone(),
            Form::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Form::Number { min, max, whole } => {
                let mut schema = json!({ "type": if *whole { "integer" } else { "number" } });
                for (name, bound) in [("minimum", min), ("maximum", max)] {
                    if let Some(bound) = bound {
                        schema[name] = number(*bound);
                    }
                }
                schema
            }
        })
    }

    /// The answer that a text is, as the job wants it, or why it is none.
    pub fn read(&self, text: &str) -> Result<String, String> {
        let plain = repair::unfenced(text);
        let unwrapped = match &self.form {
            Form::JsonSchema(schema) if schema["type"] == "object" => None,
            _ => unwrapped(plain),
        };
        match &unwrapped {
            Some(inner) => self.read_plain(inner, inner),
            None => self.read_plain(text, plain),
        }
    }

    fn read_plain(&self, text: &str, plain: &str) -> Result<String, String> {
        match &self.check {
            Check::Labels(labels) => read_label(labels, text, plain),
            Check::Json(validator) => read_json(validator, plain),
            Check::Pattern(pattern) => [text, text.trim(), plain, repair::unquoted(plain)]
                .into_iter()
                .find(|candidate| pattern.is_match(candidate))
                .map(str::to_owned)
                .ok_or_else(|| format!("{} does not match `{pattern}`", shown(text))),
            Check::Number => self.read_number(text, plain),
        }
    }

    fn read_number(&self, text: &str, plain: &str) -> Result<String, String> {
        let Form::Number { min, max, whole } = &self.form else {
            unreachable!("numbers are checked by numbers")
        };
        let digits = repair::number(repair::unquoted(plain));
        let Some((digits, value)) = digits else {
            return Err(format!("{} is no number", shown(text)));
        };
        let wrong = match (min, max) {
            (Some(min), _) if value < *min => Some(format!("it must be at least {min}")),
            (_, Some(max)) if value > *max => Some(format!("it must be at most {max}")),
            _ if *whole && value.fract() != 0.0 => Some("it must be a whole number".to_owned()),
            _ => None,
        };
        match wrong {
            Some(wrong) => Err(format!("{} is out of range: {wrong}", shown(text))),
            None => Ok(digits),
        }
    }

    /// The label by which a model says that it cannot tell.
    pub fn abstain(&self) -> Option<&str> {
        match &self.form {
            Form::Labels { abstain, .. } => abstain.as_deref(),
            _ => None,
        }
    }

    /// What a model is told whose answer was refused for this reason.
    pub fn demand(&self, reason: &str) -> String {
        let wanted = match (&self.form, &self.check) {
            (_, Check::Labels(labels)) => {
                format!(
                    "Answer with exactly one of these labels, and nothing else: {}",
                    labels.join(", ")
                )
            }
            (Form::JsonSchema(schema), _) => {
                format!(
                    "Answer with JSON that this JSON schema holds of, and nothing else:\n{schema}"
                )
            }
            (Form::Pattern(pattern), _) => {
                format!(
                    "Answer with a text that matches the regular expression {pattern}, and nothing else"
                )
            }
            (Form::Number { whole: true, .. }, _) => {
                "Answer with a whole number, and nothing else".to_owned()
            }
            _ => "Answer with a number, and nothing else".to_owned(),
        };
        format!("Your answer is not valid: {reason}.\n{wanted}.")
    }
}

/// A regular expression that takes neither much memory nor long.
pub fn expression(pattern: &str) -> Result<regex::Regex, String> {
    let built = regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES)
        .build();
    // The parser draws the pattern over several lines, and says what is wrong on the last.
    built.map_err(|error| {
        let text = error.to_string();
        let last = text.trim_end().lines().last().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })
}

fn validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    let options = jsonschema::options();
    // In time that grows with the text alone, whatever the pattern.
    let options = options.with_pattern_options(jsonschema::PatternOptions::regex());
    options.build(schema).map_err(|error| error.to_string())
}

fn read_label(labels: &[String], text: &str, plain: &str) -> Result<String, String> {
    let candidates = [
        text,
        plain,
        repair::unquoted(plain),
        repair::unadorned(plain),
    ];
    for candidate in candidates {
        if let Some(label) = labels.iter().find(|label| **label == candidate.trim()) {
            return Ok(label.clone());
        }
    }
    for candidate in candidates {
        let folded = repair::folded(candidate);
        let mut meant = labels
            .iter()
            .filter(|label| repair::folded(label) == folded);
        if let (Some(label), None) = (meant.next(), meant.next()) {
            return Ok(label.clone());
        }
    }
    Err(format!("{} is not one of the labels", shown(text)))
}

fn read_json(validator: &jsonschema::Validator, plain: &str) -> Result<String, String> {
    let (json, value) = match serde_json::from_str::<Value>(plain) {
        Ok(value) => (plain, value),
        Err(error) => repair::embedded(plain)
            .ok_or_else(|| format!("{} is no JSON: {error}", shown(plain)))?,
    };
    let mut mistakes = validator.iter_errors(&value).map(|mistake| {
        let place = mistake.instance_path().to_string();
        let place = if place.is_empty() {
            "the answer".to_owned()
        } else {
            place
        };
        format!("{place}: {}", shown_to(&mistake.to_string(), 3 * SHOWN))
    });
    let named: Vec<String> = mistakes.by_ref().take(NAMED).collect();
    match named.is_empty() {
        true => Ok(json.to_owned()),
        false => Err(format!(
            "the JSON is not what the schema says: {}",
            named.join("; ")
        )),
    }
}

/// The answer in an object of which it is the only part.
fn unwrapped(plain: &str) -> Option<String> {
    if !plain.starts_with('{') {
        return None;
    }
    let object: serde_json::Map<String, Value> = serde_json::from_str(plain).ok()?;
    match object.get(WRAPPER).filter(|_| object.len() == 1)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A whole number is written as one.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", shown_to(text.trim(), SHOWN))
}

fn shown_to(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[&str]) -> Reader {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Reader::new(Form::Labels {
            labels,
            abstain: Some("unsure".to_owned()),
        })
        .unwrap()
    }

    #[test]
    fn a_label_is_understood_where_it_is_meant_without_doubt() {
        let reader = labels(&["billing", "Bug report", "other"]);
        for text in [
            "billing",
            " billing\n",
            "Billing",
            "BILLING.",
            "\"billing\"",
            "`billing`",
            "**billing**",
            "```\nbilling\n```",
            "```json\n\"billing\"\n```",
            "{\"answer\": \"billing\"}",
            "'Billing'",
        ] {
            assert_eq!(reader.read(text).as_deref(), Ok("billing"), "{text}");
        }
        assert_eq!(reader.read("bug  REPORT").as_deref(), Ok("Bug report"));
        assert_eq!(reader.read("Unsure").as_deref(), Ok("unsure"));
        for text in [
            "",
            "billing or other",
            "bill",
            "It is billing",
            "{\"label\": \"billing\"}",
            "bug",
        ] {
            assert!(reader.read(text).is_err(), "{text}");
        }
        // Which of two is meant that differ in their case alone is what it says.
        let reader = labels(&["A", "a"]);
        assert_eq!(reader.read("a").as_deref(), Ok("a"));
        assert_eq!(labels(&["Á", "x"]).read("á").as_deref(), Ok("Á"));
    }

    #[test]
    fn json_is_checked_by_its_schema_and_found_in_what_stands_around_it() {
        let schema = json!({
            "type": "object",
            "properties": { "label": { "enum": ["a", "b"] }, "sure": { "type": "number", "maximum": 1 } },
            "required": ["label"],
            "additionalProperties": false,
        });
        let reader = Reader::new(Form::JsonSchema(schema)).unwrap();
        for text in [
            r#"{"label": "a"}"#,
            "```json\n{\"label\": \"a\"}\n```",
            "Here it is: {\"label\": \"a\"} as you asked.",
            "Sure!\n```\n{\"label\": \"a\"}\n```\nAnything else?",
        ] {
            assert_eq!(
                reader.read(text).as_deref(),
                Ok(r#"{"label": "a"}"#),
                "{text}"
            );
        }
        let why = reader.read(r#"{"label": "c", "sure": 2}"#).unwrap_err();
        assert!(why.contains("/label") && why.contains("/sure"), "{why}");
        for text in [
            "",
            "a",
            "{\"label\": \"a\"",
            "{} {\"label\": \"a\"}",
            "[{\"label\": \"a\"}]",
        ] {
            assert!(reader.read(text).is_err(), "{text}");
        }
        // What is no object may stand in one.
        let reader = Reader::new(Form::JsonSchema(json!({ "type": "array" }))).unwrap();
        assert_eq!(reader.read("{\"answer\": [1]}").as_deref(), Ok("[1]"));
    }

    #[test]
    fn numbers_and_patterns_are_read_as_they_are_written() {
        let number = |min, max, whole| Reader::new(Form::Number { min, max, whole }).unwrap();
        let any = number(None, None, false);
        for (text, read) in [
            ("42", "42"),
            (" -1.5\n", "-1.5"),
            ("1,234.5", "1234.5"),
            ("`7`", "7"),
            ("{\"answer\": 3}", "3"),
            ("1e3", "1e3"),
            ("7.", "7"),
            ("+4", "4"),
        ] {
            assert_eq!(any.read(text).as_deref(), Ok(read), "{text}");
        }
        for text in [
            "", "about 3", "1,23", "NaN", "inf", "3 apples", "1-2", "0x10", "1e999",
        ] {
            assert!(any.read(text).is_err(), "{text}");
        }
        let some = number(Some(1.0), Some(5.0), true);
        assert_eq!(some.read("5").as_deref(), Ok("5"));
        for text in ["0", "6", "2.5"] {
            assert!(some.read(text).is_err(), "{text}");
        }
        let pattern = Reader::new(Form::Pattern("^[A-D]$".to_owned())).unwrap();
        for text in ["B", " B\n", "```\nB\n```", "\"B\"", "{\"answer\":\"B\"}"] {
            assert_eq!(pattern.read(text).as_deref(), Ok("B"), "{text}");
        }
        assert!(pattern.read("AB").is_err() && pattern.read("b").is_err());
    }

    #[test]
    fn what_cannot_be_a_form_is_refused_and_no_answer_takes_long() {
        assert!(Reader::new(Form::Pattern("(".to_owned())).is_err());
        assert!(Reader::new(Form::Pattern("\\w{1000}{1000}".to_owned())).is_err());
        assert!(Reader::new(Form::JsonSchema(json!({ "type": "strin" }))).is_err());
        // The schema is not fetched from anywhere.
        assert!(Reader::new(Form::JsonSchema(json!({ "$ref": "http://localhost/x" }))).is_err());
        let deep = "[".repeat(200_000);
        let schema = json!({ "type": "string", "pattern": "^(a+)+$" });
        let reader = Reader::new(Form::JsonSchema(schema)).unwrap();
        assert!(reader.read(&deep).is_err());
        assert!(reader.read(&"{ ".repeat(200_000)).is_err());
        assert!(
            reader
                .read(&format!("\"{}!\"", "a".repeat(100_000)))
                .is_err()
        );
    }

    #[test]
    fn every_form_has_a_schema_that_its_answers_keep_and_a_demand_that_says_what_is_wanted() {
        let forms = [
            (
                Form::Labels {
                    labels: vec!["a".to_owned()],
                    abstain: None,
                },
                json!("a"),
                "a",
            ),
            (
                Form::Number {
                    min: Some(0.0),
                    max: Some(1.5),
                    whole: false,
                },
                json!(1),
                "number",
            ),
            (Form::Pattern("^x".to_owned()), json!("xy"), "^x"),
            (
                Form::JsonSchema(json!({ "type": "array" })),
                json!([1]),
                "array",
            ),
        ];
        for (form, answer, word) in forms {
            let reader = Reader::new(form).unwrap();
            let schema = reader.schema();
            assert!(jsonschema::is_valid(schema.bare(), &answer), "{schema:?}");
            assert!(jsonschema::is_valid(
                &schema.object(),
                &json!({ "answer": answer })
            ));
            let demand = reader.demand("it is wrong");
            assert!(
                demand.contains("it is wrong") && demand.contains(word),
                "{demand}"
            );
        }
    }
}
