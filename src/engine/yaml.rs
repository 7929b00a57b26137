//! Texts of which nobody knows what they hold, written into YAML and into templates.

use serde_json::Value as Json;

use crate::words::steers;

/// Words that YAML, or somebody who knows an older YAML, takes for something else than text.
const NO_TEXT: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
/// Names that a template does not take for a column.
const NO_COLUMN: [&str; 14] = [
    "true", "false", "none", "True", "False", "None", "not", "in", "is", "and", "or", "if", "else",
    "loop",
];

/// A text as a value of YAML.
pub(super) fn scalar(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || "_/".contains(c))
        || text.starts_with("../")
        || text.starts_with("./");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    let is_plain = begins && text.chars().all(plain) && !is_word(text);
    match is_plain || is_duration(text) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn is_word(text: &str) -> bool {
    NO_TEXT.contains(&text.to_ascii_lowercase().as_str())
}

/// Whether it is a number with a unit of time, which is no number.
fn is_duration(text: &str) -> bool {
    let units = text.trim_start_matches(|c: char| c.is_ascii_digit());
    units.len() < text.len() && ["ms", "s", "m", "h"].contains(&units)
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if steers(character) || is_noncharacter(character) => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// What YAML has no place for but as an escape.
fn is_noncharacter(character: char) -> bool {
    matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// A value on one line.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Json::Object(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            let entries: Vec<String> = entries.collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text of several lines as a block, which is indented so far; `None` if it has to be quoted.
pub(super) fn block(text: &str, indent: usize) -> Option<(&'static str, String)> {
    let (mark, inside) = match text.strip_suffix('\n') {
        Some(inside) => ("|", inside),
        None => ("|-", text),
    };
    let shows = |c: char| c == '\n' || !(steers(c) || is_noncharacter(c));
    let is_plain = inside.contains('\n')
        && inside.chars().all(shows)
        && !inside.starts_with([' ', '\n'])
        && !inside.ends_with('\n');
    let lines = inside.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("{:indent$}{line}\n", ""),
    });
    is_plain.then(|| (mark, lines.collect()))
}

/// What puts the cell of a column into a text; `None` where a template has no way to say it.
pub(super) fn cell(column: &str, columns: &[String]) -> Option<String> {
    let begins = column.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if begins && column.chars().all(is_name) && !NO_COLUMN.contains(&column) {
        return Some(format!("{{{{ {column} }}}}"));
    }
    // A column of that name hides the row itself.
    let is_hidden = columns.iter().any(|column| column == "row");
    (!is_hidden).then(|| format!("{{{{ row[{}] }}}}", literal(column)))
}

/// A text that stands in a template as it is.
pub(super) fn verbatim(text: &str) -> String {
    match text.contains('{') || text.chars().any(steers) {
        true => format!("{{{{ {} }}}}", literal(text)),
        false => text.to_owned(),
    }
}

/// A text in quotes, as templates read it.
fn literal(text: &str) -> String {
    let mut literal = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            _ if steers(character) || is_noncharacter(character) => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    literal.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => literal.push(character),
        }
    }
    literal.push('"');
    literal
}

/// A text in a comment: on its line.
pub(super) fn comment(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match steers(character) || is_noncharacter(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// The beginning of a text in a comment.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 60;
    let shown: String = text.chars().take(MOST).collect();
    match text.chars().nth(MOST) {
        Some(_) => comment(&shown) + "…",
        None => comment(&shown),
    }
}
