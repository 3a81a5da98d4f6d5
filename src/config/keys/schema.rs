//! The JSON Schema of the config, written from the table, so that editors complete and check the file.

use super::values::expected;
use super::{Key, Kind, table::ROOT};
use crate::mapping::{ValueType, expectation};
use serde_json::{Map, Value, json};

/// JSON Schema (draft 2020-12) of a config file.
pub(in super::super) fn schema() -> Value {
    let mut schema = block(ROOT);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Linkspan's config".into();
    schema["patternProperties"] = json!({ "^x-": { "description": "A place for anchors; ignored." } });
    schema["$defs"] = json!({ "mapping": mapping(), "entry": entry(), "list": list() });
    schema
}

/// The mapping language: the inside of `field_mapping`, and a mapping file. The language itself checks more at load.
fn mapping() -> Value {
    let tags = json!({
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": { "list": { "$ref": "#/$defs/list" } },
            "required": ["list"],
            "additionalProperties": false
        }
    });
    let or_entry = |what: Value| json!({ "anyOf": [what, { "$ref": "#/$defs/entry" }] });
    json!({
        "description": "Which Intercom field becomes which Brevo attribute.",
        "anyOf": [
            {
                "type": ["object", "null"],
                "properties": {
                    "field_mapping": { "$ref": "#/$defs/mapping" },
                    "tags": or_entry(tags.clone()),
                    "conversation_tags": or_entry(tags),
                    "lists": {
                        "description": "Lists for those who meet a condition.",
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": { "list": { "$ref": "#/$defs/list" }, "when": { "type": "string" } },
                            "required": ["list", "when"],
                            "additionalProperties": false
                        }
                    },
                    "cases": {
                        "description": "Examples, checked by `linkspan mapping test`.",
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": { "type": "string" },
                                "given": { "type": "object" },
                                "expect": { "type": "object", "additionalProperties": expectation() }
                            },
                            "additionalProperties": false
                        }
                    }
                },
                "additionalProperties": { "$ref": "#/$defs/entry" }
            },
            {
                "type": "array",
                "items": { "type": "object", "properties": { "from": { "type": "string" } }, "required": ["from", "to"] }
            }
        ]
    })
}

fn entry() -> Value {
    let types: Vec<&str> = ValueType::NAMES.iter().map(|(name, _)| *name).collect();
    json!({
        "anyOf": [
            { "description": "The Brevo attribute.", "type": "string" },
            {
                "type": "object",
                "properties": {
                    "to": {
                        "description": "The Brevo attribute, or several for a transform that gives several values.",
                        "type": ["string", "array"],
                        "items": { "type": "string" }
                    },
                    "type": { "description": "The attribute's type, where Intercom's does not tell.", "enum": types },
                    "direction": { "enum": ["intercom_to_brevo"] },
                    "on_clear": {
                        "description": "Whether an emptied field empties the attribute.",
                        "enum": ["keep", "propagate"]
                    },
                    "on_drift": {
                        "description": "What becomes of an edit in Brevo.",
                        "enum": ["restore", "leave"]
                    },
                    "transform": {
                        "description": "What happens to the value on the way, step by step.",
                        "type": ["string", "object", "array"],
                        "items": { "type": ["string", "object"] }
                    },
                    "when": { "description": "Only for records that this expression holds for.", "type": "string" },
                    "options": { "description": "The options of a category or multiple choice.", "type": "array" }
                },
                "required": ["to"],
                "additionalProperties": false
            }
        ]
    })
}

fn list() -> Value {
    json!({ "description": "A Brevo list, by id or by name.", "type": ["integer", "string"] })
}

fn block(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Later(_) | Kind::Never(_)))
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn property(key: &Key) -> Value {
    let mut schema = match &key.kind {
        Kind::Block(keys) => block(keys),
        Kind::Mapping => json!({ "$ref": "#/$defs/mapping" }),
        Kind::Flag => or_reference(json!({ "type": "boolean" })),
        Kind::Choice(choices) => {
            let words: Vec<&str> = choices.iter().map(|choice| choice.word).collect();
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
        | Kind::Name
        | Kind::Condition
        | Kind::Header
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
