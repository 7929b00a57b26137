//! From YAML nodes to typed values, every problem recorded and none of them the end.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::schema::{Shapes, any_of, list_of, text_like};
use super::source::Span;
use super::yaml::{Key, Node, Value};
use super::{Problem, suggest};
use crate::words::{Rate, Usd};

/// A value of the job file and where it stands.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T: Decode> At<T> {
    /// Reads the node, and keeps its place.
    pub fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let value = T::decode(node, problems)?;
        let span = node.span.clone();
        Some(Self { value, span })
    }
}

/// What a node can be read as. `None` means that a problem was recorded.
pub trait Decode: Sized {
    /// Reads the node.
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self>;

    /// What a node looks like that can be read, as JSON Schema.
    fn schema(shapes: &mut Shapes) -> Json;
}

/// The keys of a mapping that were written, readable or not, and where.
#[derive(Debug, Clone, Default)]
pub struct Written(Vec<(&'static str, Span)>, bool);

impl Written {
    /// Where this key stands, if it was written.
    pub fn key(&self, name: &str) -> Option<&Span> {
        let found = self.0.iter().find(|(written, _)| *written == name);
        found.map(|(_, span)| span)
    }

    /// Whether a key was refused, as one that is not known.
    pub fn has_unknown(&self) -> bool {
        self.1
    }

    /// Every key that was written.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Span)> {
        self.0.iter().map(|(name, span)| (*name, span))
    }
}

/// A mapping of the job file.
pub trait Keys {
    /// The keys that were written.
    fn written(&self) -> &Written;
}

/// Records each of these keys that was not written.
pub fn need<K: Keys>(mapping: &At<K>, what: &str, keys: &[&str], problems: &mut Vec<Problem>) {
    for key in keys {
        if mapping.value.written().key(key).is_none() {
            let problem = mapping.span.problem(format!("the {what} has no `{key}`"));
            problems.push(problem.help(format!("add `{key}: ...`")));
        }
    }
}

/// Declares a mapping of the job file: its keys, what each is read as, and nothing else. Every key
/// is optional here; which ones are needed is decided when the plan is made.
macro_rules! keys {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $key_about:literal])* $key:ident: $value:ty,)* }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            $($(#[doc = $key_about])* pub $key: Option<$crate::job::decode::At<$value>>,)*
            /// The keys that were written.
            pub written: $crate::job::decode::Written,
        }

        impl $crate::job::decode::Keys for $name {
            fn written(&self) -> &$crate::job::decode::Written {
                &self.written
            }
        }

        impl $crate::job::decode::Decode for $name {
            fn decode(
                node: &$crate::job::yaml::Node,
                problems: &mut Vec<$crate::job::Problem>,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($key)),*];
                let mut fields = $crate::job::decode::Fields::open(node, KEYS, problems)?;
                Some(Self {
                    $($key: fields.take(stringify!($key)),)*
                    written: fields.close(),
                })
            }

            fn schema(shapes: &mut $crate::job::schema::Shapes) -> serde_json::Value {
                const KEYS: &[$crate::job::schema::Property] = &[$((
                    stringify!($key),
                    concat!($($key_about),*),
                    <$value as $crate::job::decode::Decode>::schema,
                )),*];
                shapes.mapping(stringify!($name), concat!($($about),*), KEYS)
            }
        }
    };
}
pub(super) use keys;

/// A mapping that is being read.
pub struct Fields<'a> {
    entries: &'a [(Key, Node)],
    keys: &'static [&'static str],
    written: Written,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// Starts to read a mapping that may have these keys.
    pub fn open(
        node: &'a Node,
        keys: &'static [&'static str],
        problems: &'a mut Vec<Problem>,
    ) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) => Some(Self {
                entries,
                keys,
                written: Written::default(),
                problems,
            }),
            _ => {
                let example = format!("a mapping with keys such as `{}`", plain(keys[0]));
                wrong(node, &example, problems)
            }
        }
    }

    /// Reads the value of a key.
    pub fn take<T: Decode>(&mut self, key: &'static str) -> Option<At<T>> {
        let name = plain(key);
        let (key, node) = self.entries.iter().find(|(key, _)| key.name == name)?;
        self.written.0.push((name, key.span.clone()));
        if matches!(node.value, Value::Null) {
            let problem = key.span.problem(format!("`{name}` has no value"));
            self.problems
                .push(problem.help("give it one, or remove the line"));
            return None;
        }
        At::decode(node, self.problems)
    }

    /// Ends the reading: whatever is left is unknown.
    pub fn close(mut self) -> Written {
        let keys: Vec<&str> = self.keys.iter().map(|key| plain(key)).collect();
        for (key, _) in self.entries {
            if !keys.contains(&key.name.as_str()) {
                self.written.1 = true;
                let problem = key.span.problem(format!("unknown key `{}`", key.name));
                self.problems
                    .push(suggest::among(problem, &key.name, &keys));
            }
        }
        self.written
    }
}

/// The key as it is written in YAML: `type` is a word of Rust too.
pub fn plain(key: &'static str) -> &'static str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// Records that something else was expected.
pub fn wrong<T>(node: &Node, expected: &str, problems: &mut Vec<Problem>) -> Option<T> {
    let shown = node.span.shown();
    let found = match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("`{shown}`"),
        Value::Number(_) => format!("the number `{shown}`"),
        Value::Text(_) => format!("the text `{}`", shown.trim_matches(['"', '\''])),
        Value::List(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Refused => return None,
    };
    let problem = node
        .span
        .problem(format!("expected {expected}, found {found}"));
    problems.push(match advice(node, expected) {
        Some(help) => problem.help(help),
        None => problem,
    });
    None
}

/// What to write instead, where the value shows what was meant.
fn advice(node: &Node, expected: &str) -> Option<String> {
    let shown = node.span.shown();
    let number = |text: &str| {
        let digits = text.replace(['_', ','], "");
        let digits = digits.trim_start_matches('0');
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.to_owned())
    };
    match &node.value {
        Value::Number(text) if expected.contains("duration") => {
            Some(format!("write the unit: {text}s, or {text}ms"))
        }
        Value::Number(text) if expected.contains("USD") || expected.contains("dollars") => text
            .contains(['e', 'E'])
            .then(|| "write it out, without an exponent".to_owned()),
        Value::Number(_) | Value::Bool(_) if expected.contains("text") => {
            Some(format!("put it in quotes: \"{shown}\""))
        }
        Value::Text(_) if expected.starts_with("a list") => Some(format!("write `[{shown}]`")),
        Value::Text(text) if expected.contains("number") => {
            if shown.starts_with(['"', '\'']) && text.parse::<f64>().is_ok() {
                Some("remove the quotes".to_owned())
            } else {
                Some(format!("write {}", number(text)?))
            }
        }
        Value::Text(text) if expected == "true or false" => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => Some("write `true`".to_owned()),
            "no" | "off" | "n" => Some("write `false`".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// One of a few names.
pub fn one_of<T: Copy>(node: &Node, names: &[(&str, T)], problems: &mut Vec<Problem>) -> Option<T> {
    let choices: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let Value::Text(text) = &node.value else {
        return wrong(
            node,
            &format!("one of {}", suggest::list(&choices)),
            problems,
        );
    };
    let found = names.iter().find(|(name, _)| name == text);
    if found.is_none() {
        let problem = node.span.problem(format!("unknown value `{text}`"));
        problems.push(suggest::among(problem, text, &choices));
    }
    found.map(|(_, value)| *value)
}

/// A value, and where it stands.
impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let value = T::decode(node, problems)?;
        let span = node.span.clone();
        Some(Self { value, span })
    }

    fn schema(shapes: &mut Shapes) -> Json {
        T::schema(shapes)
    }
}

/// Whatever it is: its reader makes sense of it.
impl Decode for Node {
    fn decode(node: &Node, _: &mut Vec<Problem>) -> Option<Self> {
        Some(node.clone())
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({})
    }
}

impl Decode for String {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => wrong(node, "a text", problems),
        }
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": "string" })
    }
}

impl Decode for bool {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => wrong(node, "true or false", problems),
        }
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": "boolean" })
    }
}

macro_rules! decode_whole_numbers {
    ($($number:ty),*) => {$(
        impl Decode for $number {
            fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
                let number = match &node.value {
                    Value::Number(text) => text.parse().ok(),
                    _ => None,
                };
                number.or_else(|| wrong(node, "a whole number, such as 3", problems))
            }

            fn schema(_: &mut Shapes) -> Json {
                json!({ "type": "integer", "minimum": 0 })
            }
        }
    )*};
}
decode_whole_numbers!(u32, u64, usize);

impl Decode for f64 {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let number = match &node.value {
            Value::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        number.or_else(|| wrong(node, "a number, such as 0.5", problems))
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": "number" })
    }
}

impl Decode for Duration {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let duration = match &node.value {
            Value::Text(text) if text.starts_with(|c: char| c.is_ascii_digit()) => text
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|duration| Duration::try_from(duration).ok()),
            _ => None,
        };
        duration.or_else(|| wrong(node, "a duration, such as 500ms, 30s or 2m", problems))
    }

    fn schema(_: &mut Shapes) -> Json {
        // A digit, and some unit at the end: there are more ways to write one than anybody lists.
        text_like("^[0-9].*[a-z]$")
    }
}

impl Decode for Rate {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let rate = match &node.value {
            // The source text, never a float: 0.15 is exactly 0.15.
            Value::Number(text) => text.parse().ok(),
            _ => None,
        };
        let expected = "USD per million tokens with at most 9 decimal places, such as 0.15";
        rate.or_else(|| wrong(node, expected, problems))
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": "number", "minimum": 0 })
    }
}

impl Decode for Usd {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let amount = match &node.value {
            Value::Number(text) => text.parse().ok().filter(|amount| *amount >= Usd::ZERO),
            _ => None,
        };
        let expected = "US dollars with at most 15 decimal places, such as 5 or 0.002";
        amount.or_else(|| wrong(node, expected, problems))
    }

    fn schema(_: &mut Shapes) -> Json {
        json!({ "type": "number", "minimum": 0 })
    }
}

/// A share of a whole, in millionths: `0.1` or `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl Decode for Share {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let share = match &node.value {
            Value::Number(text) => per_million(text, 1_000_000),
            Value::Text(text) => percent(text),
            _ => None,
        };
        share
            .map(Share)
            .or_else(|| wrong(node, "a share, such as 0.1 or 10%", problems))
    }

    fn schema(_: &mut Shapes) -> Json {
        any_of([
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            percentage(),
        ])
    }
}

/// What [`percent`] reads, as JSON Schema.
pub fn percentage() -> Json {
    text_like("^(100([.]0+)?|[0-9]{1,2}([.][0-9]+)?) *%$")
}

/// The millionths in a percentage such as `1%` or `0.5%`.
pub fn percent(text: &str) -> Option<u32> {
    per_million(text.strip_suffix('%')?.trim_end(), 10_000)
}

/// The millionths in a decimal number of parts that are each this many millionths; at most all.
fn per_million(text: &str, part: u32) -> Option<u32> {
    let share = text.parse::<f64>().ok()? * f64::from(part);
    let whole = share.round();
    // What is finer than a millionth would be lost.
    let exact = (share - whole).abs() < 1e-6;
    (exact && (0.0..=1_000_000.0).contains(&whole)).then_some(whole as u32)
}

/// A list.
#[derive(Debug, Clone)]
pub struct List<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for List<T> {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return wrong(node, "a list, such as [a, b]", problems);
        };
        let read: Vec<At<T>> = items
            .iter()
            .filter_map(|item| At::decode(item, problems))
            .collect();
        // A list that lost an item would say something else than the job does.
        (read.len() == items.len()).then_some(Self(read))
    }

    fn schema(shapes: &mut Shapes) -> Json {
        list_of(T::schema(shapes))
    }
}

/// One text or a list of them.
#[derive(Debug, Clone)]
pub struct Texts(pub Vec<At<String>>);

impl Decode for Texts {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(vec![At {
                value: text.clone(),
                span: node.span.clone(),
            }])),
            Value::List(_) => List::decode(node, problems).map(|List(items)| Self(items)),
            _ => wrong(node, "a text or a list of texts", problems),
        }
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([String::schema(shapes), List::<String>::schema(shapes)])
    }
}

/// A mapping whose keys are names that the job chooses.
#[derive(Debug, Clone)]
pub struct Named<T> {
    /// What could be read.
    pub entries: Vec<(Key, T)>,
    /// Every name, also of what could not be read.
    pub names: Vec<String>,
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            return wrong(node, "a mapping from names to values", problems);
        };
        let names = entries.iter().map(|(key, _)| key.name.clone()).collect();
        let read = entries.iter().filter_map(|(key, node)| {
            let value = T::decode(node, problems)?;
            Some((key.clone(), value))
        });
        Some(Self {
            entries: read.collect(),
            names,
        })
    }

    fn schema(shapes: &mut Shapes) -> Json {
        json!({ "type": "object", "additionalProperties": T::schema(shapes) })
    }
}
