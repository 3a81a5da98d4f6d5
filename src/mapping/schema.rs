//! The mapping language as JSON Schema, for editors.

use super::rule::ValueType;
use super::{Direction, paths, transform};
use serde_json::{Value, json};

/// JSON Schema (draft 2020-12) of a mapping: of a config's `field_mapping`, and of a mapping file.
pub fn schema() -> Value {
    let types: Vec<&str> = ValueType::NAMES.iter().map(|(name, _)| *name).collect();
    let directions: Vec<&str> = Direction::NAMES.iter().map(|(name, _)| *name).collect();
    let attribute = json!({
        "type": "string", "description": "A Brevo attribute", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 100
    });
    let step = json!({
        "description": "A transform's name, a transform with its argument, or an expression of `value` and `record`",
        "anyOf": [
            {"enum": transform::NAMES},
            {"type": "string"},
            {"type": "object", "propertyNames": {"enum": transform::NAMES}, "minProperties": 1, "maxProperties": 1}
        ]
    });
    let settings = json!({
        "to": {"anyOf": [attribute, {"type": "array", "items": attribute, "minItems": 1}]},
        "type": {"enum": types, "description": "The type of the attribute"},
        "direction": {"enum": directions, "description": "Which way the value travels"},
        "on_conflict": {
            "enum": ["newest", "intercom", "brevo"], "default": "newest",
            "description": "Whose value stands where both sides changed a field that travels both ways"
        },
        "tie": {"enum": ["intercom", "brevo"], "description": "Who wins where nobody can tell which change is newer"},
        "on_clear": {"enum": ["keep", "propagate"], "description": "What a source without value does", "default": "keep"},
        "on_drift": {
            "enum": ["restore", "leave"], "description": "What an edit of the attribute in Brevo does", "default": "restore"
        },
        "transform": {"anyOf": [step, {"type": "array", "items": step}]},
        "when": {"type": "string", "description": "An expression of `value` and `record`: the rule applies where it holds"},
        "options": {
            "type": "array", "items": {"type": ["string", "number", "boolean"], "maxLength": 200}, "minItems": 1,
            "description": "All options of a category or multiple choice"
        }
    });
    let long = json!({"type": "object", "properties": settings, "required": ["to"], "additionalProperties": false});
    let entry = json!({"anyOf": [attribute, long]});
    let mut listed = long.clone();
    if let Some(properties) = listed.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("from".to_owned(), json!({"type": "string", "description": "A path of Intercom's"}));
    }
    let list = json!({"type": ["integer", "string"], "description": "A Brevo list, by id or by name"});
    let tags = json!({
        "type": "object",
        "additionalProperties": {
            "type": "object", "properties": {"list": list, "direction": {"enum": directions}}, "required": ["list"],
            "additionalProperties": false
        }
    });
    // Names by enumeration, entries once: spelled out under each path, the schema would be a megabyte.
    let custom = json!({"pattern": "^(company\\.)?custom_attributes\\..+$"});
    let mut names: Vec<&str> = paths::all().map(|(path, _)| path).collect();
    names.extend(paths::ELSEWHERE.iter().map(|(path, _)| *path));
    let sequence = json!({"type": "array", "items": listed});
    let tagged = json!({"anyOf": [entry, tags]});
    let fields = json!({
        "type": "object", "propertyNames": {"anyOf": [{"enum": names}, custom]},
        "properties": {"tags": tagged}, "additionalProperties": entry
    });
    names.extend(["field_mapping", "conversation_tags", "lists", "cases"]);
    let mut file = serde_json::Map::new();
    file.insert("tags".to_owned(), tagged);
    file.insert("field_mapping".to_owned(), json!({"anyOf": [fields, sequence, {"type": "null"}]}));
    file.insert("conversation_tags".to_owned(), tags);
    file.insert(
        "lists".to_owned(),
        json!({"type": "array", "items": {
            "type": "object", "properties": {"list": list, "when": {"type": "string"}},
            "required": ["list", "when"], "additionalProperties": false
        }}),
    );
    let expected = expectation();
    file.insert(
        "cases".to_owned(),
        json!({"type": "array", "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "given": {"type": "object"}, "expect": {"type": "object", "additionalProperties": expected}},
            "required": ["given", "expect"], "additionalProperties": false
        }}),
    );
    json!({"anyOf": [
        {
            "type": "object", "propertyNames": {"anyOf": [{"enum": names}, custom]},
            "properties": file, "additionalProperties": entry
        },
        sequence,
        {"type": "null"}
    ]})
}

/// JSON Schema of what a case expects of an attribute.
pub fn expectation() -> Value {
    json!({
        "description": "The value, null for none; or a problem, where the field cannot be mapped",
        "anyOf": [
            {"type": ["string", "number", "boolean", "null", "array"]},
            {
                "type": "object",
                "properties": {"problem": {"type": "string", "minLength": 1, "description": "Words of the reason"}},
                "required": ["problem"], "additionalProperties": false
            }
        ]
    })
}
