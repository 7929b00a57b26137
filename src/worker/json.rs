//! JSON as it came: a value that borrows its texts from the bytes of the reply.
//!
//! Of a reply little is kept, so nothing else of it is copied, and no table is made of the names of its objects. What is
//! kept as JSON, such as a stream that is put together, becomes a [`Value`].

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// A value in a reply.
#[derive(Debug, Clone)]
pub(super) enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text; borrowed unless something in it is escaped.
    String(Cow<'a, str>),
    /// A list.
    Array(Vec<Json<'a>>),
    /// Fields as they came: of those with one name the last counts.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

static NULL: Json<'static> = Json::Null;

impl<'a> Json<'a> {
    /// The text that it is.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text that it is, to be kept.
    pub(super) fn to_text(&self) -> Option<String> {
        self.as_str().map(str::to_owned)
    }

    /// The truth value that it is.
    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The count that it is.
    pub(super) fn as_count(&self) -> Option<u64> {
        let Json::Number(number) = self else {
            return None;
        };
        // Some servers write whole numbers as 12.0.
        let whole = |number: f64| {
            let counts = number >= 0.0 && number.fract() == 0.0 && number <= 9e15;
            counts.then_some(number as u64)
        };
        number.as_u64().or_else(|| whole(number.as_f64()?))
    }

    /// The items of the list that it is.
    pub(super) fn as_array(&self) -> Option<&[Json<'a>]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The items of the list that it is, if they are objects, all of them.
    pub(super) fn as_objects(&self) -> Option<&[Json<'a>]> {
        self.as_array()
            .filter(|items| items.iter().all(Json::is_object))
    }

    /// Itself, if it is an object.
    pub(super) fn as_object(&self) -> Option<&Self> {
        Some(self).filter(|json| json.is_object())
    }

    /// Whether it is an object.
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// The names and values of the object that it is, as they came.
    pub(super) fn fields(&self) -> &[(Cow<'a, str>, Json<'a>)] {
        match self {
            Json::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let mut fields = self.fields().iter().rev();
        fields.find(|field| field.0 == name).map(|field| &field.1)
    }

    /// What a JSON pointer (RFC 6901) points to.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Json<'a>> {
        if pointer.is_empty() {
            return Some(self);
        }
        let mut steps = pointer.strip_prefix('/')?.split('/');
        steps.try_fold(self, |found, step| match found {
            Json::Object(_) => found.get(&step.replace("~1", "/").replace("~0", "~")),
            Json::Array(items) => items.get(position(step)?),
            _ => None,
        })
    }

    /// The same, of its own.
    pub(super) fn into_owned(self) -> Json<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Json::Null => Json::Null,
            Json::Bool(value) => Json::Bool(value),
            Json::Number(number) => Json::Number(number),
            Json::String(text) => Json::String(owned(text)),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(fields) => {
                let fields = fields.into_iter();
                Json::Object(
                    fields
                        .map(|(name, value)| (owned(name), value.into_owned()))
                        .collect(),
                )
            }
        }
    }
}

/// A step of a pointer as the position of an item.
fn position(step: &str) -> Option<usize> {
    let odd = step.starts_with('+') || (step.starts_with('0') && step != "0");
    step.parse().ok().filter(|_| !odd)
}

/// The field of this name; `null` where there is none.
impl<'a> Index<&str> for Json<'a> {
    type Output = Json<'a>;

    fn index(&self, name: &str) -> &Json<'a> {
        self.get(name).unwrap_or(&NULL)
    }
}

/// The item at this position; `null` where there is none.
impl<'a> Index<usize> for Json<'a> {
    type Output = Json<'a>;

    fn index(&self, position: usize) -> &Json<'a> {
        let items = self.as_array().unwrap_or_default();
        items.get(position).unwrap_or(&NULL)
    }
}

impl From<&Json<'_>> for Value {
    fn from(json: &Json<'_>) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone().into_owned()),
            Json::Array(items) => items.iter().map(Value::from).collect(),
            Json::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value)))
                .collect(),
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::from(self).fmt(f)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsItCame)
    }
}

struct AsItCame;

impl<'de> Visitor<'de> for AsItCame {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        // A name is read as a text is: as a `Cow` it would be copied.
        while let Some((Json::String(name), value)) = object.next_entry()? {
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::wire::parse;
    use super::*;

    /// What the usual reader makes of these bytes, and what this one makes of them.
    fn both(body: &[u8]) -> [Option<Value>; 2] {
        let read: Result<Json<'_>, _> = serde_json::from_slice(body);
        let usual = serde_json::from_slice(body).ok();
        [usual, read.ok().map(|json| Value::from(&json))]
    }

    #[test]
    fn json_is_what_the_usual_reader_makes_of_it() {
        for body in [
            r#" [null, true, false, "", "a", [], {}, [[{"a": [{}]}]]] "#,
            r#"{"a": 1, "b": 2, "a": {"c": 3, "c": null}, "a": 4}"#,
            r#"{"a\n": "\"\\\/\b\f\n\r\t\u00e9\ud834\udd1e", "\u0061": "é𝄞"}"#,
            "[0, -0, -0.0, 1.0, 1e2, 0.1, 18446744073709551615, 18446744073709551616, -9223372036854775808]",
            "[-9223372036854775809, 123456789012345678901234567890, 1e308, 5e-324, 1e-400]",
            r#"{"$serde_json::private::Number": "1"}"#,
            // Neither is JSON.
            "1e400",
            r#"["\ud834"]"#,
            "[\"a\nb\"]",
            "[1,]",
            r#"{"a": 1,}"#,
            r#"{1: 2}"#,
            "[] []",
            "nul",
        ] {
            let [usual, read] = both(body.as_bytes());
            assert_eq!(read, usual, "{body}");
        }
        for depth in [1, 126, 127, 128, 129, 100_000] {
            let body = "[".repeat(depth) + &"]".repeat(depth);
            let [usual, read] = both(body.as_bytes());
            assert_eq!(read, usual, "{depth}");
            assert_eq!(read.is_some(), depth < 128, "{depth}");
        }
    }

    #[test]
    fn recorded_replies_and_what_chance_makes_of_them_are_read_as_ever() {
        let mut random = fastrand::Rng::with_seed(11);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replies");
        let folders = fs::read_dir(root).unwrap();
        let folders = folders.map(|folder| folder.unwrap().path());
        for folder in folders.filter(|path| path.is_dir()) {
            for file in fs::read_dir(folder).unwrap() {
                let recorded = fs::read(file.unwrap().path()).unwrap();
                for _ in 0..20 {
                    let mut body = recorded.clone();
                    for _ in 0..random.usize(..3) {
                        let at = random.usize(..body.len());
                        body[at] = *random.choice(b"\"\\{}[],:0e.-nu \xff").unwrap();
                    }
                    let [usual, read] = both(&body);
                    assert_eq!(read, usual, "{}", String::from_utf8_lossy(&body));
                }
            }
        }
    }

    #[test]
    fn of_fields_with_one_name_the_last_counts() {
        let json = parse(br#"{"a": 1, "b": 2, "\u0061": "x", "a": {"c": true}}"#).unwrap();
        assert_eq!(json["a"]["c"].as_bool(), Some(true));
        assert_eq!(json["b"].as_count(), Some(2));
        assert_eq!(json.to_string(), r#"{"a":{"c":true},"b":2}"#);
        assert_eq!(json.pointer("/a/c").and_then(Json::as_bool), Some(true));
    }

    #[test]
    fn a_text_is_copied_only_if_something_in_it_is_escaped() {
        let json = parse(br#"{"plain": "plain", "a\tb": "a\tb"}"#).unwrap();
        let copied = |text: &Cow<'_, str>| matches!(text, Cow::Owned(_));
        let copied = json.fields().iter().map(|(name, value)| match value {
            Json::String(text) => (copied(name), copied(text)),
            other => panic!("{other} is no text"),
        });
        assert_eq!(copied.collect::<Vec<_>>(), [(false, false), (true, true)]);
        assert_eq!(json["a\tb"].as_str(), Some("a\tb"));
    }

    #[test]
    fn a_pointer_points_where_it_always_does() {
        let body = r#"{"a": [1, {"b/c": 2, "~": 3, "": {"": 4}}], "0": 5, "a/b": 6, "é": 7}"#;
        let (json, usual): (_, Value) = (
            parse(body.as_bytes()).unwrap(),
            serde_json::from_str(body).unwrap(),
        );
        for pointer in [
            "",
            "/",
            "a",
            "/a",
            "/a/0",
            "/a/1/b~1c",
            "/a/1/~0",
            "/a/1//",
            "/a/1/",
            "/a/2",
            "/a/-",
            "/a/00",
            "/a/01",
            "/a/+1",
            "/a/-1",
            "/a/0/x",
            "/0",
            "/0/0",
            "/a~1b",
            "/é",
            "/a/1e0",
            "/a/99999999999999999999",
            "/~01",
            "/a/1/~",
        ] {
            let found = json.pointer(pointer).map(Value::from);
            assert_eq!(found.as_ref(), usual.pointer(pointer), "{pointer}");
        }
    }

    #[test]
    fn a_count_is_read_or_left_out() {
        for (json, n) in [
            (r#"{"n": 3}"#, Some(3)),
            (r#"{"n": 3.0}"#, Some(3)),
            (r#"{"n": 3.5}"#, None),
            (r#"{"n": -3}"#, None),
            (r#"{"n": 1e300}"#, None),
            (r#"{"n": "3"}"#, None),
            (r#"{"n": null}"#, None),
            ("{}", None),
        ] {
            assert_eq!(parse(json.as_bytes()).unwrap()["n"].as_count(), n, "{json}");
        }
    }
}
