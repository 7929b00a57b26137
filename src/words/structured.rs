//! The form of an answer in the providers' own words: a JSON schema that is sent with the request.

use serde_json::{Value, json};

use super::Provider;
use super::sampling::claude_version;

/// The only key of the object that stands around an answer where a provider takes nothing but objects.
pub const WRAPPER: &str = "answer";

/// What OpenAI's strict mode does not take
/// (<https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>).
const NOT_STRICT: [&str; 14] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "maxProperties",
    "minProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
];

/// What Anthropic does not take (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs>); it is checked
/// here all the same.
const NOT_ANTHROPIC: [&str; 12] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "$schema",
];

/// A JSON schema of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSchema {
    schema: Value,
}

impl OutputSchema {
    /// This schema.
    pub fn new(schema: Value) -> Self {
        Self { schema }
    }

    /// The schema as it is, for servers that take any.
    pub fn bare(&self) -> &Value {
        &self.schema
    }

    /// The schema of an object: this one, or one with the answer under [`WRAPPER`].
    pub fn object(&self) -> Value {
        match self.is_object() {
            true => self.schema.clone(),
            false => json!({
                "type": "object",
                "properties": { WRAPPER: self.schema },
                "required": [WRAPPER],
                "additionalProperties": false,
            }),
        }
    }

    /// Whether it is the schema of an object.
    pub fn is_object(&self) -> bool {
        self.schema["type"] == "object"
    }

    /// Whether OpenAI can hold the model to it; else it is a hint.
    pub fn is_strict(&self) -> bool {
        is_strict(&self.object())
    }

    /// The schema as Anthropic takes it: without what it does not know, and with objects that say that they are closed.
    /// `None` if nothing would be left of it.
    pub fn for_anthropic(&self) -> Option<Value> {
        let is_any_text = self.schema["type"] == "string" && self.schema.get("enum").is_none();
        (!is_any_text).then(|| reduced(&self.object()))
    }
}

fn is_strict(schema: &Value) -> bool {
    let Value::Object(keys) = schema else {
        return true;
    };
    if NOT_STRICT.iter().any(|key| keys.contains_key(*key)) {
        return false;
    }
    if let Some(Value::Object(properties)) = keys.get("properties") {
        let required = keys.get("required").and_then(Value::as_array);
        let is_required = |name: &String| {
            required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)))
        };
        let closed = keys.get("additionalProperties") == Some(&Value::Bool(false));
        if !closed || !properties.keys().all(is_required) {
            return false;
        }
    } else if keys.get("type") == Some(&json!("object")) {
        return false;
    }
    inside(schema).all(is_strict)
}

fn reduced(schema: &Value) -> Value {
    let Value::Object(keys) = schema else {
        return schema.clone();
    };
    let mut reduced = serde_json::Map::new();
    for (key, value) in keys {
        if NOT_ANTHROPIC.contains(&key.as_str()) {
            continue;
        }
        let value = match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                let named = named
                    .iter()
                    .map(|(name, one)| (name.clone(), self::reduced(one)));
                Value::Object(named.collect())
            }
            ("anyOf" | "allOf", Value::Array(all)) => all.iter().map(self::reduced).collect(),
            ("items", one) => self::reduced(one),
            (_, value) => value.clone(),
        };
        reduced.insert(key.clone(), value);
    }
    if keys.get("type") == Some(&json!("object")) {
        reduced.insert("additionalProperties".to_owned(), json!(false));
    }
    Value::Object(reduced)
}

/// The schemas that stand in a schema.
fn inside(schema: &Value) -> impl Iterator<Item = &Value> {
    let named = ["properties", "$defs", "definitions"].into_iter();
    let named = named.filter_map(|key| schema[key].as_object());
    let listed = schema["anyOf"].as_array().into_iter().flatten();
    let items = schema.get("items").into_iter();
    named
        .flat_map(|all| all.values())
        .chain(listed)
        .chain(items)
}

/// Whether a model takes a JSON schema for its answer. Of a model that nobody knows it is taken for granted.
pub fn takes_schema(provider: Provider, model: Option<&str>) -> bool {
    let model = model.unwrap_or_default();
    match provider {
        Provider::OpenAi => !lacks_schema(model.strip_prefix("ft:").unwrap_or(model)),
        Provider::Anthropic => claude_version(model).is_none_or(|version| {
            version >= (4, 5) || (version == (4, 1) && model.contains("opus"))
        }),
        Provider::LlamaCpp | Provider::Vllm => true,
    }
}

/// OpenAI's models of before August 2024.
fn lacks_schema(model: &str) -> bool {
    let starts = ["gpt-3.5", "gpt-4-", "o1-mini", "o1-preview", "chatgpt-"];
    let exact = ["gpt-4", "gpt-4o-2024-05-13"];
    let parts = ["instruct", "davinci", "babbage"];
    starts.iter().any(|start| model.starts_with(start))
        || exact.contains(&model)
        || parts.iter().any(|part| model.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_no_objects_is_wrapped_and_one_that_is_open_is_not_strict() {
        let label = OutputSchema::new(json!({"type": "string", "enum": ["a", "b"]}));
        assert_eq!(label.object()["properties"]["answer"], *label.bare());
        assert!(label.is_strict());
        let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        assert!(!OutputSchema::new(open.clone()).is_strict());
        let mut closed = open;
        closed["additionalProperties"] = json!(false);
        assert!(!OutputSchema::new(closed.clone()).is_strict());
        closed["required"] = json!(["a"]);
        assert!(OutputSchema::new(closed.clone()).is_strict());
        closed["properties"]["a"] = json!({"oneOf": []});
        assert!(!OutputSchema::new(closed).is_strict());
    }

    #[test]
    fn anthropic_is_sent_what_it_takes() {
        let schema = OutputSchema::new(json!({
            "type": "object",
            "properties": {
                "minimum": {"type": "integer", "minimum": 1},
                "tags": {"type": "array", "items": {"type": "object", "properties": {}}, "minItems": 2},
            },
        }));
        let expected = json!({
            "type": "object",
            "properties": {
                "minimum": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": false}},
            },
            "additionalProperties": false,
        });
        assert_eq!(schema.for_anthropic(), Some(expected));
        let any = OutputSchema::new(json!({"type": "string", "pattern": "^a"}));
        assert_eq!(any.for_anthropic(), None);
    }

    #[test]
    fn a_model_that_takes_no_schema_is_known_by_its_name() {
        for (provider, model, takes) in [
            (Provider::OpenAi, "gpt-4o-mini", true),
            (Provider::OpenAi, "gpt-4o-2024-05-13", false),
            (Provider::OpenAi, "gpt-4", false),
            (Provider::OpenAi, "gpt-4-turbo", false),
            (Provider::OpenAi, "gpt-4.1-nano", true),
            (Provider::OpenAi, "ft:gpt-3.5-turbo-0125:me::1", false),
            (Provider::OpenAi, "llama-3.1-8b", true),
            (Provider::Anthropic, "claude-3-5-haiku-20241022", false),
            (Provider::Anthropic, "claude-sonnet-4-20250514", false),
            (Provider::Anthropic, "claude-opus-4-1-20250805", true),
            (Provider::Anthropic, "claude-sonnet-4-5-20250929", true),
            (Provider::Anthropic, "claude-opus-5", true),
            (Provider::Vllm, "gpt-4", true),
        ] {
            assert_eq!(takes_schema(provider, Some(model)), takes, "{model}");
        }
    }
}
