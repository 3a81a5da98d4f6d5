//! The JSON Schema of the config, written from the table, so that editors complete and check the file.

use super::values::expected;
use super::{Key, Kind, table::ROOT};
use serde_json::{Map, Value, json};

/// JSON Schema (draft 2020-12) of a config file.
pub(in super::super) fn schema(mapping: &Value) -> Value {
    let mut schema = block(ROOT, mapping);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Linkspan's config".into();
    schema["patternProperties"] = json!({ "^x-": { "description": "A place for anchors; ignored." } });
    schema
}

fn block(keys: &[Key], mapping: &Value) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Later(_) | Kind::Never(_)))
        .map(|key| (key.name.to_owned(), property(key, mapping)))
        .collect();
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn property(key: &Key, mapping: &Value) -> Value {
    let mut schema = match &key.kind {
        Kind::Block(keys) => block(keys, mapping),
        Kind::Mapping => mapping.clone(),
        Kind::Flag => or_reference(json!({ "type": "boolean" })),
        Kind::Choice(choices) => {
            let words: Vec<&str> = choices.iter().filter(|choice| choice.works).map(|choice| choice.word).collect();
            or_reference(json!({ "enum": words }))
        }
        Kind::Count(from, to) => or_reference(json!({ "type": "integer", "minimum": from, "maximum": to })),
        Kind::Share { zero: true } => or_reference(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Share { zero: false } => or_reference(json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 })),
        Kind::List => json!({ "type": ["integer", "string", "null"] }),
        Kind::ApiVersion => json!({ "type": ["string", "number", "null"] }),
        Kind::MappingFiles => {
            json!({ "type": ["array", "string", "null"], "items": { "type": "string" } })
        }
        Kind::Secret
        | Kind::Duration
        | Kind::Every
        | Kind::Timezone
        | Kind::Country
        | Kind::Url
        | Kind::Address
        | Kind::Path => json!({ "type": ["string", "null"] }),
        Kind::Later(_) | Kind::Never(_) => json!(false),
    };
    if let Some(schema) = schema.as_object_mut() {
        let mut description = key.doc.to_owned();
        if !matches!(key.kind, Kind::Block(_) | Kind::Mapping | Kind::MappingFiles) {
            description = format!("{description} Expected: {}.", expected(&key.kind));
        }
        schema.insert("description".to_owned(), description.into());
        if let Some(default) = key.default {
            let default = serde_yaml::from_str::<Value>(default).unwrap_or_else(|_| default.into());
            schema.insert("default".to_owned(), default);
        }
    }
    schema
}

/// Anything but text may also come from the environment, or be left blank.
fn or_reference(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "string", "pattern": "\\$\\{" }, { "type": "null" }] })
}
