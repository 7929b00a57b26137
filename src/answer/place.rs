//! A place in a JSON answer.

use serde_json::Value;
use serde_json_path::JsonPath;

/// A place in JSON: a JSON path (RFC 9535), or a JSON pointer (RFC 6901).
#[derive(Debug, Clone)]
pub enum Place {
    /// `$.label`
    Path(Box<JsonPath>),
    /// `/label`
    Pointer(String),
}

impl Place {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.starts_with('/') || text.is_empty() {
            true => Ok(Place::Pointer(text.to_owned())),
            false => match JsonPath::parse(text) {
                Ok(path) => Ok(Place::Path(Box::new(path))),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// What is there, as a text: a text is itself, everything else is JSON. Of several the first.
    pub fn find(&self, json: &Value) -> Option<String> {
        let found = match self {
            Place::Pointer(pointer) => json.pointer(pointer),
            Place::Path(path) => path.query(json).first(),
        };
        found.map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_and_pointers_find_texts_as_they_are_and_all_else_as_json() {
        let answer = json!({ "a": [{ "b": "x" }, { "b": 2 }], "c/d": null });
        for (place, found) in [
            ("$.a[0].b", Some("x")),
            ("$..b", Some("x")),
            ("/a/1/b", Some("2")),
            ("/c~1d", Some("null")),
            ("$.a[?@.b == 2]", Some("{\"b\":2}")),
            ("$.z", None),
            ("/a/7", None),
        ] {
            assert_eq!(
                Place::parse(place).unwrap().find(&answer).as_deref(),
                found,
                "{place}"
            );
        }
        assert!(Place::parse("label").is_err() && Place::parse("$.[").is_err());
    }
}
