//! Text that a person wrote, places in it, and what of it must never be shown again.

use std::fmt;
use std::sync::Arc;

use super::{Place, Problem};

/// A file (or the text of a `--set`) that the job was read from.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// How the user would name it.
    pub path: String,
    /// What it says.
    pub text: String,
    /// The same text, byte for byte as long, with everything that looks like a secret masked.
    masked: String,
}

impl fmt::Debug for Source {
    /// Only the name: the text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl Source {
    /// A source with this text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        Arc::new(Self {
            path: path.into(),
            masked: mask(&text),
            text,
        })
    }

    /// The part between two byte positions.
    pub fn span(self: &Arc<Self>, start: usize, end: usize) -> Span {
        Span {
            source: Arc::clone(self),
            start,
            end,
        }
    }
}

/// A part of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where it was read.
    pub source: Arc<Source>,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// What stands there, secrets included: for reading, never for showing.
    pub fn text(&self) -> &str {
        self.source
            .text
            .get(self.start..self.end)
            .unwrap_or_default()
    }

    /// The first line of what stands there, for people.
    pub fn shown(&self) -> &str {
        let text = self.source.masked.get(self.start..self.end);
        text.and_then(|text| text.lines().next())
            .unwrap_or_default()
    }

    /// The place for a problem: the part of the span that is on its first line.
    pub fn place(&self) -> Place {
        let text = &self.source.masked;
        let start = text.floor_char_boundary(self.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = text.floor_char_boundary(self.end).clamp(start, line_end);
        Place {
            path: self.source.path.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].trim_end().chars().count().max(1),
            source: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }

    /// A problem at this place. Whatever looks like a secret in the message is masked.
    pub fn problem(&self, message: impl AsRef<str>) -> Problem {
        Problem::new(mask(message.as_ref())).at(self.place())
    }
}

/// Keys whose value is a secret, whatever stands before them (`openai_api_key`).
const SECRET_KEYS: [&str; 13] = [
    "api_key",
    "apikey",
    "api-key",
    "password",
    "secret",
    "access_token",
    "api_token",
    "auth_token",
    "authorization",
    // Headers.
    "-key",
    "-token",
    "-auth",
    "cookie",
];

/// Whether a value under this key is a secret.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| key.ends_with(secret))
}

/// Whether this value is a key of a provider.
pub fn is_secret_value(value: &str) -> bool {
    value.trim_start().starts_with("sk-")
}

/// The text with everything that looks like a secret turned into stars, as long as before.
///
/// Four things do: a word that starts with `sk-`, what stands before the `@` of a URL and after its
/// `?`, and the value after a key that names a secret.
pub fn mask(text: &str) -> String {
    let mut masked = text.to_owned();
    for (start, end) in secrets(text) {
        let stars = "*".repeat(end - start);
        masked.replace_range(start..end, &stars);
    }
    masked
}

fn secrets(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let until = |from: usize, stop: &dyn Fn(char) -> bool| {
        text[from..].find(stop).map_or(text.len(), |at| from + at)
    };
    for (start, _) in text.match_indices("sk-") {
        let inside_a_word = text[..start].ends_with(|c: char| c.is_alphanumeric());
        let end = until(start, &|c| {
            !(c.is_ascii_alphanumeric() || "-_.".contains(c))
        });
        if !inside_a_word && end - start > 6 {
            found.push((start, end));
        }
    }
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let end = until(start, &|c| c.is_whitespace() || "\"'`,".contains(c));
        if let Some(length) = text[start..end].rfind('@') {
            found.push((start, start + length));
        }
        if let Some(length) = text[start..end].find('?') {
            found.push((start + length + 1, end));
        }
    }
    let lower = text.to_ascii_lowercase();
    for key in SECRET_KEYS {
        for (at, _) in lower.match_indices(key) {
            found.extend(secret_value(text, at + key.len()));
        }
    }
    found
}

/// The value after a key that ends here: `key: value`, `"key": "value"`, `key=value`.
fn secret_value(text: &str, key_end: usize) -> Option<(usize, usize)> {
    let rest = text[key_end..].trim_start_matches(['"', '\'']);
    let rest = rest.trim_start_matches(' ').strip_prefix([':', '='])?;
    let value = rest.trim_start_matches(' ');
    let start = text.len() - value.len();
    let length = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].find(quote).map_or(value.len(), |at| at + 2),
        _ => {
            let end = value.find(['\n', ',', '}']).unwrap_or(value.len());
            value[..end].trim_end().len()
        }
    };
    Some((start, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_looks_like_a_secret_is_masked_and_nothing_else() {
        for (text, expected) in [
            ("api_key: abc, model: x", "api_key: ***, model: x"),
            ("\"api_key\": \"a,b\" # no", "\"api_key\": ***** # no"),
            ("a.openai_api_key=geheim", "a.openai_api_key=******"),
            ("api_key_env: OPENAI_API_KEY", "api_key_env: OPENAI_API_KEY"),
            ("model: sk-proj-1234", "model: ************"),
            ("a task-oriented risk-averse", "a task-oriented risk-averse"),
            ("url: http://me:pw@host/v1", "url: http://*****@host/v1"),
            ("max_token: 5", "max_token: 5"),
            ("{ api_key: abc }", "{ api_key: *** }"),
            ("tokens_per_minute: 5", "tokens_per_minute: 5"),
            ("{ X-Auth-Token: abc, a: b }", "{ X-Auth-Token: ***, a: b }"),
            ("subscription-key: abc", "subscription-key: ***"),
            ("url: http://host/v1?a=1 b", "url: http://host/v1?*** b"),
        ] {
            assert_eq!(mask(text), expected);
        }
        assert_eq!(mask("password: né").len(), "password: né".len());
    }

    #[test]
    fn a_place_counts_characters_and_ends_with_its_line() {
        let source = Source::new("job.yaml", "a: 1\r\né: \"x\ny\"\n");
        let place = source.span(10, 15).place();
        assert_eq!((place.line, place.column, place.width), (2, 4, 2));
        assert_eq!(place.source, "é: \"x");
    }
}
