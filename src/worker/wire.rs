//! Tolerant JSON: a paid answer is never lost to a parser.

use serde::Serialize;

use super::json::Json;

/// Room for most requests.
const MOST: usize = 1024;

/// A request body in the making: an object that is written field by field. What is `None` is not sent.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// With this field, which it has not had yet.
    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        if self.0.is_empty() {
            self.0.reserve(MOST);
            self.0.push(b'{');
        } else {
            self.0.push(b',');
        }
        let written = serde_json::to_writer(&mut self.0, name).and_then(|()| {
            self.0.push(b':');
            serde_json::to_writer(&mut self.0, &value)
        });
        written.expect("what a request holds is JSON");
        self
    }

    /// With this field, if there is a value.
    pub(super) fn maybe(self, name: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With the seed, if there is one, raised by the repeat: repeats differ, and each can be had again.
    pub(super) fn seed(self, seed: Option<u64>, repeat: u32) -> Self {
        // Servers hold it in 64 signed bits: what is raised beyond them begins again at 0.
        let most = i64::MAX.unsigned_abs();
        let raised = seed.map(|seed| match seed.wrapping_add(u64::from(repeat)) {
            raised if seed <= most => raised & most,
            raised => raised,
        });
        self.maybe("seed", raised)
    }

    /// With this list, unless it is empty.
    pub(super) fn list(self, name: &str, values: &[String]) -> Self {
        self.maybe(name, (!values.is_empty()).then_some(values))
    }

    /// The body.
    pub(super) fn json(mut self) -> Vec<u8> {
        self.0
            .extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        self.0
    }
}

/// Parses a reply. What is not quite JSON is mended first: a byte order mark, invalid UTF-8, lone
/// surrogates, raw control characters in strings, `NaN` and `Infinity`.
pub(super) fn parse(body: &[u8]) -> Result<Json<'_>, serde_json::Error> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).or_else(|error| {
        let text = String::from_utf8_lossy(body);
        let mended = mended(&text);
        let json: Result<Json<'_>, _> = serde_json::from_str(&mended);
        json.map(Json::into_owned).map_err(|_| error)
    })
}

fn mended(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        let mut width = character.len_utf8();
        match character {
            '"' => {
                in_string = !in_string;
                out.push('"');
            }
            '\\' if in_string => {
                let (escape, taken) = mended_escape(rest);
                out.push_str(escape);
                width = taken;
            }
            control if in_string && control < ' ' => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            _ => {
                let constant = ["NaN", "Infinity", "-Infinity"]
                    .into_iter()
                    .find(|constant| !in_string && rest.starts_with(constant));
                match constant {
                    Some(constant) => {
                        out.push_str("null");
                        width = constant.len();
                    }
                    None => out.push(character),
                }
            }
        }
        rest = &rest[width..];
    }
    out
}

/// The escape at the start of the text as it may stand, and how many bytes it took.
fn mended_escape(text: &str) -> (&str, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    match unit(0) {
        Some(0xd800..=0xdbff) if matches!(unit(6), Some(0xdc00..=0xdfff)) => (&text[..12], 12),
        Some(0xd800..=0xdfff) => ("\\ufffd", 6),
        Some(_) => (&text[..6], 6),
        None => {
            let width = text.chars().take(2).map(char::len_utf8).sum();
            (&text[..width], width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_quite_json_is_mended() {
        for (body, text) in [
            (&br#"["a"]"#[..], "a"),
            (b"\xef\xbb\xbf[\"a\"]", "a"),
            (br#"["a\ud835b"]"#, "a\u{fffd}b"),
            (
                br#"["a\udc00\ud835\ud835\udc00b"]"#,
                "a\u{fffd}\u{fffd}\u{1d400}b",
            ),
            (br#"["a\ud835"]"#, "a\u{fffd}"),
            (b"[\"a\xffb\"]", "a\u{fffd}b"),
            (b"[\"a\nb\x01\"]", "a\nb\u{1}"),
            (
                br#"["\ud835 \" NaN \\", NaN, -Infinity, {"x": Infinity}]"#,
                "\u{fffd} \" NaN \\",
            ),
            (br#"["a\u0000b"]"#, "a\0b"),
        ] {
            assert_eq!(parse(body).unwrap()[0].as_str(), Some(text));
        }
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        for body in [
            &b""[..],
            b"{",
            b"<html>",
            br#"{"a": "\q"}"#,
            b"\\",
            br#""\"#,
            br#""\u12"#,
        ] {
            assert!(parse(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
