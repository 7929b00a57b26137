//! What is meant without doubt although it is written otherwise.

use serde_json::Value;

/// Longer texts are searched no further for JSON that stands in them.
const MAX_SEARCHED: usize = 1 << 20;

/// The inside of a code fence, if that is all there is; else the text, without the white space around it.
pub(super) fn unfenced(text: &str) -> &str {
    let text = text.trim_matches(is_space);
    let inside = || {
        let rest = text.strip_prefix("```")?.strip_suffix("```")?;
        if rest.contains("```") {
            return None;
        }
        // The first line names the language, or nothing.
        match rest.split_once('\n') {
            Some((language, inside))
                if language.chars().all(|c| c.is_alphanumeric() || c == ' ') =>
            {
                Some(inside)
            }
            Some(_) => Some(rest),
            None => Some(rest),
        }
    };
    inside().map_or(text, |inside| inside.trim_matches(is_space))
}

/// The text without the quotes or the marks of code and emphasis that stand around all of it.
pub(super) fn unquoted(text: &str) -> &str {
    let pairs = [
        ("\"", "\""),
        ("'", "'"),
        ("`", "`"),
        ("**", "**"),
        ("*", "*"),
        ("“", "”"),
        ("‘", "’"),
    ];
    let mut text = text.trim_matches(is_space);
    while let Some(inside) = pairs.iter().find_map(|(open, close)| {
        let inside = text.strip_prefix(open)?.strip_suffix(close)?;
        (!inside.is_empty()).then_some(inside)
    }) {
        text = inside.trim_matches(is_space);
    }
    text
}

/// The same without the full stop at its end.
pub(super) fn unadorned(text: &str) -> &str {
    let text = unquoted(text);
    unquoted(text.strip_suffix('.').unwrap_or(text))
}

/// What two texts have in common that differ in case and white space alone.
pub(super) fn folded(text: &str) -> String {
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").to_lowercase()
}

/// A number, in digits that every program reads, and its value.
pub(super) fn number(text: &str) -> Option<(String, f64)> {
    let text = text.trim_matches(is_space);
    let text = text.strip_prefix('+').unwrap_or(text);
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_written_so = |c: char| c.is_ascii_digit() || "+-.,eE".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_digit() || "-.".contains(c))
        || !text.chars().all(is_written_so)
    {
        return None;
    }
    let digits = without_groups(text)?;
    let value: f64 = digits.parse().ok()?;
    value.is_finite().then_some((digits, value))
}

/// A number without the commas between its thousands.
fn without_groups(text: &str) -> Option<String> {
    if !text.contains(',') {
        return Some(text.to_owned());
    }
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut groups = whole.trim_start_matches('-').split(',');
    let first = groups
        .next()
        .is_some_and(|first| (1..=3).contains(&first.len()));
    let grouped = first && groups.all(|group| group.len() == 3) && !rest.contains(',');
    grouped.then(|| text.replace(',', ""))
}

/// The JSON object or list in a text, if there is one and nothing but words around it.
pub(super) fn embedded(text: &str) -> Option<(&str, Value)> {
    if text.len() > MAX_SEARCHED {
        return None;
    }
    let (start, close) = text.char_indices().find_map(|(at, c)| match c {
        '{' => Some((at, '}')),
        '[' => Some((at, ']')),
        _ => None,
    })?;
    let end = text.rfind(close)? + 1;
    let json = text.get(start..end)?;
    let value = serde_json::from_str(json).ok()?;
    Some((json, value))
}

/// White space, and what shows as little.
fn is_space(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{feff}' | '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{2060}'
        )
}

/// The number that a text is, else the last one in it.
pub fn last_number(text: &str) -> Option<(String, f64)> {
    if let Some(found) = number(unquoted(text)) {
        return Some(found);
    }
    let is_part = |c: char| c.is_ascii_digit() || "+-.,eE".contains(c);
    let mut words = text.rsplit(|c: char| !is_part(c));
    words.find_map(|word| {
        let word = word.trim_start_matches(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.'));
        let word = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        let whole = number(word);
        // Digits that hang together with other signs: `3-5`, `2024-05-13`.
        let last = || {
            number(
                word.rsplit(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
                    .next()?,
            )
        };
        whole.or_else(last)
    })
}
