//! The JSON Schema of the job file, made of the types that read it.
//!
//! Each [`Decode`] says beside how it reads a value what the value looks like, and the `keys!` tables hand over their
//! keys and what is said about each; so there is no second list of keys that could differ from the first. A crate that
//! derives schemas goes by how a type is deserialized, and these are not: nodes of YAML are read by hand, for the sake
//! of places and suggestions.
//!
//! The schema tells the shape: names, types, the values of which there are a few. What goes together, what is needed,
//! and what is in range, `runner check` knows.

use serde_json::{Map, Value as Json, json};

use super::decode::Decode;
use super::written::JobKeys;

/// The JSON Schema of the job file (draft 2020-12).
///
/// ```
/// let schema = tokio_prompt_orchestrator::job::schema();
/// assert_eq!(schema["properties"]["concurrency"]["type"], "integer");
/// ```
pub fn schema() -> Json {
    let mut shapes = Shapes::default();
    JobKeys::schema(&mut shapes);
    let mut root = Map::new();
    root.insert("$schema".to_owned(), DRAFT.into());
    root.insert("title".to_owned(), "A job of runner".into());
    let job = shapes.0.shift_remove("Job");
    root.extend(
        job.and_then(|job| job.as_object().cloned())
            .unwrap_or_default(),
    );
    root.insert("$defs".to_owned(), Json::Object(shapes.0));
    Json::Object(root)
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The mappings that were met, by name.
#[derive(Debug, Default)]
pub struct Shapes(Map<String, Json>);

/// A key of a mapping: its name, what is said about it, and its shape.
pub type Property = (&'static str, &'static str, fn(&mut Shapes) -> Json);

impl Shapes {
    /// The mapping with these keys and no others.
    pub fn mapping(&mut self, name: &str, about: &str, keys: &[Property]) -> Json {
        let name = name.strip_suffix("Keys").unwrap_or(name);
        if !self.0.contains_key(name) {
            // Before its keys, which come after it.
            self.0.insert(name.to_owned(), Json::Null);
            let properties = keys.iter().map(|(key, about, shape)| {
                let shape = described(about, shape(self));
                (super::decode::plain(key).to_owned(), shape)
            });
            let properties: Map<_, _> = properties.collect();
            let shape = json!({
                "type": "object",
                "properties": properties,
                "additionalProperties": false,
            });
            self.0.insert(name.to_owned(), described(about, shape));
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }
}

/// The shape, and what it is.
pub fn described(about: &str, shape: Json) -> Json {
    let mut described = Map::new();
    described.insert("description".to_owned(), plain_text(about).into());
    if let Json::Object(shape) = shape {
        described.extend(shape);
    }
    Json::Object(described)
}

/// One of these shapes.
pub fn any_of(shapes: impl IntoIterator<Item = Json>) -> Json {
    json!({ "anyOf": shapes.into_iter().collect::<Vec<_>>() })
}

/// One of these names.
pub fn one_of<T>(names: &[(&str, T)]) -> Json {
    let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    json!({ "enum": names })
}

/// A text of this form.
pub fn text_like(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}

/// A list of these.
pub fn list_of(item: Json) -> Json {
    json!({ "type": "array", "items": item })
}

/// A comment of the source as editors show it: without its marks.
fn plain_text(about: &str) -> String {
    about.trim().replace('*', "")
}
