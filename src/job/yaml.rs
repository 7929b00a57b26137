//! YAML as a tree in which every node knows its place. The only file that names the YAML crate.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{NonFiniteFloatPolicy, Options, Spanned, UserMessageFormatter};

use super::source::{Source, Span};
use super::{Problem, Problems};

/// The most nodes after aliases are expanded; a job of a hundred backends has a tenth of them.
const MAX_NODES: usize = 10_000;
/// The most nodes that anchors keep and aliases bring.
const MAX_ALIASED: usize = 2_000;
/// The deepest nesting; a job needs five levels.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands; of a list or mapping only the start is certain.
    pub span: Span,
}

/// What YAML can say in a job file.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, exactly as it is written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, every key once.
    Mapping(Vec<(Key, Node)>),
    /// What was refused and reported already; nothing more is said about it.
    Refused,
}

/// The key of a mapping and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// Reads a source. The problems found on the way (duplicate keys) leave a usable tree behind; the
/// error is one that does not.
pub fn parse(source: &Arc<Source>, problems: &mut Vec<Problem>) -> Result<Node, Problems> {
    let raw = serde_yaml::from_str_with_options::<Spanned<Raw>>(&source.text, options());
    match raw {
        Ok(raw) => Ok(Reader { source, problems }.node(raw)),
        Err(error) => Err(syntax_problem(source, &error).into()),
    }
}

fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_recorded_anchor_events: MAX_ALIASED,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
            max_replay_stack_depth: MAX_DEPTH,
        },
        // Duplicates are found below, where both places are known.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn syntax_problem(source: &Arc<Source>, error: &serde_yaml::Error) -> Problem {
    let mut inner = error.without_snippet();
    while let serde_yaml::Error::AliasError { error, .. } = inner {
        inner = error;
    }
    let message = match inner {
        serde_yaml::Error::Budget { .. } | serde_yaml::Error::AliasReplayLimitExceeded { .. } => {
            "the file has too many parts or levels".to_owned()
        }
        serde_yaml::Error::MultipleDocuments { .. } => {
            "a job is one YAML document, and this is the start of a second one".to_owned()
        }
        error => without_place(&error.render_with_formatter(&UserMessageFormatter)).to_owned(),
    };
    let Some(location) = error.location() else {
        return source.span(0, 0).problem(&message);
    };
    let line = (location.line() as usize).saturating_sub(1);
    let line_start = source.text.split_inclusive('\n').take(line).map(str::len);
    let line_start: usize = line_start.sum();
    let text = source.text[line_start..].lines().next().unwrap_or_default();
    let column = (location.column() as usize).saturating_sub(1);
    let start = line_start + text.chars().take(column).map(char::len_utf8).sum::<usize>();
    let problem = source.span(start, start).problem(&message);
    if text.trim_start_matches(' ').starts_with('\t') || message.ends_with("found a tab") {
        problem.help("YAML is indented with spaces, not with tabs")
    } else if message.starts_with("block sequence entries are not allowed")
        || message.starts_with("\"-\" is only valid")
    {
        problem.help(
            "`-` starts an item of a list; where standard input is meant, put it in quotes: \"-\"",
        )
    } else if message.starts_with("mapping values are not allowed") {
        problem.help("a text that contains `: ` needs quotes, or a block after `|`")
    } else if message.starts_with("while scanning a block scalar") {
        problem.help("a text that begins with `>` or `|` needs quotes, such as \">= 0.9\"")
    } else if message.starts_with("illegal placement of ':'") {
        problem.help("is a bracket or a quote above it still open?")
    } else if message.starts_with("the file has too many") {
        problem.help(format!(
            "at most {MAX_NODES} values, {MAX_DEPTH} levels, and {MAX_ALIASED} values brought by aliases"
        ))
    } else if message.starts_with("reference to unknown value") {
        problem.help("`*name` is a copy of what `&name` marks further up; a text that begins with `*` needs quotes")
    } else if message.starts_with("a job is one YAML document") {
        problem.help("remove the `---`, or make it a job file of its own")
    } else {
        problem
    }
}

/// The message without the position that the YAML crate puts around it: the place says it better.
fn without_place(message: &str) -> &str {
    let message = message.split(" at line ").next().unwrap_or(message);
    message.trim_end_matches('.')
}

/// Turns what the crate read into nodes.
struct Reader<'a> {
    source: &'a Arc<Source>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn span<T>(&self, raw: &Spanned<T>) -> Span {
        // Where an alias or a merge brought the value here, `defined` is where it is written.
        let span = raw.defined.span();
        let start = span.byte_offset().unwrap_or(0) as usize;
        let end = start + span.byte_len().unwrap_or(0) as usize;
        self.source.span(start, end)
    }

    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let span = self.span(&raw);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Number => Value::Number(span.text().trim().to_owned()),
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Raw::Mapping(entries) => match self.entries(entries) {
                Some(entries) => Value::Mapping(entries),
                None => Value::Refused,
            },
        };
        Node { value, span }
    }

    /// The entries of a mapping; none where a key is no name and all the rest would mislead.
    fn entries(&mut self, entries: Vec<(Spanned<Raw>, Spanned<Raw>)>) -> Option<Vec<(Key, Node)>> {
        let mut kept: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let span = self.span(&key);
            let name = match key.value {
                Raw::Text(name) => name,
                Raw::Null | Raw::Bool(_) | Raw::Number => span.text().trim().to_owned(),
                Raw::List(_) | Raw::Mapping(_) => {
                    let problem = span.problem("a key must be a name");
                    let help = "a template needs quotes: \"{{ column }}\"";
                    self.problems.push(problem.help(help));
                    return None;
                }
            };
            match kept.iter().find(|(first, _)| first.name == name) {
                Some((first, _)) => {
                    let line = first.span.place().line;
                    let problem = span.problem(format!("`{name}` is written twice"));
                    let problem = problem.labelled(format!("first on line {line}"));
                    self.problems.push(problem.help("keep one of the two"));
                }
                None => {
                    let value = self.node(value);
                    kept.push((Key { name, span }, value));
                }
            }
        }
        Some(kept)
    }
}

/// What the YAML crate tells about a value.
enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Raw::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut problems = Vec::new();
        let shown = match parse(&Source::new("t", text), &mut problems) {
            Ok(node) => show(&node),
            Err(Problems(problems)) => problems[0].message.clone(),
        };
        let problems: Vec<String> = problems.into_iter().map(|p| p.message).collect();
        assert_eq!(
            format!("{shown}{}", problems.join("; ")),
            expected,
            "{text}"
        );
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text) => format!("#{text}"),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
            }
            Value::Refused => "refused".to_owned(),
            Value::Mapping(entries) => {
                let entry = |(key, node): &(Key, Node)| format!("{}:{}", key.name, show(node));
                format!(
                    "{{{}}}",
                    entries.iter().map(entry).collect::<Vec<_>>().join(",")
                )
            }
        }
    }

    #[test]
    fn scalars_mean_what_they_look_like() {
        check("a: 0.10", "{a:#0.10}");
        check(
            "a: [007, 1_000, no, on, 1e400]",
            r#"{a:["007","1_000","no","on",".inf"]}"#,
        );
        check("a: [true, ~, 0x1F, -3]", "{a:[true,null,#0x1F,#-3]}");
    }

    #[test]
    fn anchors_and_merge_keys_bring_their_values() {
        check("a: &x 1.50\nb: *x", "{a:#1.50,b:#1.50}");
        check(
            "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3",
            "{a:{k:#1,l:#2},b:{l:#3,k:#1}}",
        );
    }

    #[test]
    fn a_key_written_twice_is_a_problem_and_the_first_one_counts() {
        check("a: 1\nb: 2\na: 3", "{a:#1,b:#2}`a` is written twice");
    }

    #[test]
    fn whatever_costs_too_much_is_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..20 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(","));
        }
        let started = std::time::Instant::now();
        for text in [
            bomb,
            "[".repeat(1 << 20),
            "{a: ".repeat(1 << 18),
            "- ".repeat(1 << 19),
            "- a\n".repeat(1 << 18),
        ] {
            assert!(parse(&Source::new("t", text), &mut Vec::new()).is_err());
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }
}
