//! Contact attributes: which exist, how they are made, and how a value is written in one.

use super::client::{Ask, BrevoClient, CONTACTS, encode, unsupported};
use super::{errors, read, wire};
use crate::http::{Effect, lean};
use crate::model::{
    Answer, Attribute, AttributeKind, AttributeSpec, ErrorKind, Fields, Priority, SideError, SideName, Value,
};
use chrono::{NaiveDate, SecondsFormat};
use http::Method;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

impl BrevoClient {
    pub(super) async fn read_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        let answer = self.send(Ask::get("/contacts/attributes", CONTACTS, Priority::Live)).await?;
        let tree = read::json(&answer)?;
        let rows = tree.root().get("attributes").filter(|rows| rows.is_array());
        let rows = rows.ok_or_else(|| errors::malformed(&answer))?;
        let attributes: Vec<Attribute> = rows.items().filter_map(attribute).collect();
        self.remember_kinds(&attributes);
        Ok(attributes)
    }

    pub(super) async fn create_attribute(
        &self,
        spec: &AttributeSpec,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let category = category(&spec.kind)?;
        let mut body = json!({ "type": spec.kind.name() });
        match spec.kind {
            AttributeKind::Category => {
                let options =
                    spec.options.iter().enumerate().map(|(at, label)| json!({"value": at + 1, "label": label}));
                body["enumeration"] = options.collect();
            }
            AttributeKind::MultipleChoice => body["multiCategoryOptions"] = json!(spec.options),
            _ => {}
        }
        let target = format!("/contacts/attributes/{category}/{}", encode(&spec.name));
        match self.send(Ask::write(Method::POST, target, body, Effect::Idempotent, priority)).await {
            Ok(_) => Ok(Answer::Done),
            // It is there: an earlier attempt's answer was lost, or a person was faster. The next discovery shows its
            // type.
            Err(error) if matches!(error.kind, ErrorKind::Conflict { .. }) || is_taken(&error) => Ok(Answer::Done),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn set_options(
        &self,
        attribute: &Attribute,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let category = category(&attribute.kind)?;
        let body = match attribute.kind {
            AttributeKind::Category => json!({ "enumeration": enumeration(&attribute.options) }),
            AttributeKind::MultipleChoice => {
                json!({ "multiCategoryOptions": attribute.options.iter().map(|(label, _)| label).collect::<Vec<_>>() })
            }
            _ => return Err(unsupported("options for an attribute of this type")),
        };
        let target = format!("/contacts/attributes/{category}/{}", encode(&attribute.name));
        // Not resent unasked: the whole list is replaced, and one that lands late takes away what a newer one has added. The
        // engine has to know of it.
        self.send(Ask::write(Method::PUT, target, body, Effect::Creates, priority)).await?;
        Ok(Answer::Done)
    }
}

fn is_taken(error: &SideError) -> bool {
    let words = error.message.to_lowercase();
    error.status == Some(400) && (words.contains("already") || words.contains("must be unique"))
}

/// Labels with their keys as numbers, the only form that can be written; a label without one gets the next free number.
fn enumeration(options: &[(String, String)]) -> Vec<Json> {
    let keys: Vec<Option<i64>> = options.iter().map(|(_, key)| key.trim().parse().ok()).collect();
    let mut free = keys.iter().flatten().copied().max().unwrap_or(0).max(0);
    let keyed = options.iter().zip(keys).map(|((label, _), key)| {
        let key = key.unwrap_or_else(|| {
            free = free.saturating_add(1);
            free
        });
        json!({ "value": key, "label": label })
    });
    keyed.collect()
}

/// The category of attributes that can be of this type.
fn category(kind: &AttributeKind) -> Result<&'static str, Box<SideError>> {
    match kind {
        AttributeKind::Category => Ok("category"),
        AttributeKind::Other(name) => {
            let words = format!("attributes of type {name} cannot be made or changed through the API");
            Err(SideError::new(SideName::Brevo, ErrorKind::Unsupported, words))
        }
        _ => Ok("normal"),
    }
}

/// An attribute as `GET /contacts/attributes` shows it. Types that came later are kept by name.
fn attribute(row: lean::Json<'_>) -> Option<Attribute> {
    let name = wire::text(row, "name")?.to_owned();
    let category = wire::text(row, "category").unwrap_or("normal");
    let kind = match (category, wire::text(row, "type")) {
        // An enumeration, whatever type it claims ("text", in the vendor's own example).
        ("category", _) | (_, Some("category")) => AttributeKind::Category,
        (_, Some("text")) => AttributeKind::Text,
        (_, Some("float")) => AttributeKind::Float,
        (_, Some("boolean")) => AttributeKind::Boolean,
        (_, Some("date")) => AttributeKind::Date,
        (_, Some("multiple-choice")) => AttributeKind::MultipleChoice,
        (_, Some(other)) => AttributeKind::Other(other.to_owned()),
        (category, None) => AttributeKind::Other(category.to_owned()),
    };
    let array = |key: &str| row.get(key).into_iter().flat_map(lean::Json::items);
    let enumeration = array("enumeration").filter_map(|option| {
        let label = wire::text(option, "label")?.to_owned();
        // `value` is 0 for every key that is no number; `valueStr` has the true one, where it is sent.
        let key = wire::text(option, "valueStr").map(str::to_owned);
        let key = key.or_else(|| option.get("value").and_then(wire::whole).map(|key| key.to_string()))?;
        Some((label, key))
    });
    let choices =
        array("multiCategoryOptions").filter_map(lean::Json::as_str).map(|label| (label.to_owned(), label.to_owned()));
    let writable = matches!(category, "normal" | "category") && !matches!(kind, AttributeKind::Other(_));
    Some(Attribute { name, writable, options: enumeration.chain(choices).collect(), kind })
}

/// A value as Brevo takes it in an attribute of this type; without the type, by the value's own. Values of another type
/// than the attribute's are dropped silently there, with a success, so they are brought into shape here.
pub(super) fn to_wire(value: &Value, kind: Option<&AttributeKind>) -> Json {
    let day = |day: NaiveDate| Json::from(day.to_string());
    match (value, kind) {
        (Value::Date(date), _) => day(*date),
        (Value::Instant(instant), Some(AttributeKind::Date)) => day(instant.date_naive()),
        (Value::Instant(instant), _) => instant.to_rfc3339_opts(SecondsFormat::Secs, true).into(),
        (Value::List(items), None | Some(AttributeKind::MultipleChoice)) => json!(items),
        (Value::Text(_) | Value::Number(_), Some(AttributeKind::MultipleChoice)) => json!([value.to_string()]),
        (Value::List(_) | Value::Structure(_), _)
        | (Value::Number(_) | Value::Boolean(_), Some(AttributeKind::Text | AttributeKind::Category)) => {
            value.to_string().into()
        }
        (Value::Boolean(flag), Some(AttributeKind::Float)) => i64::from(*flag).into(),
        (Value::Text(_) | Value::Number(_) | Value::Boolean(_), _) => value.to_json(),
    }
}

/// [`to_wire`], written as it is: an import has tens of thousands, most of them text.
pub(super) struct Wired<'a>(pub(super) &'a Value, pub(super) Option<&'a AttributeKind>);

impl Serialize for Wired<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match (self.0, self.1) {
            (Value::Text(text), kind) if kind != Some(&AttributeKind::MultipleChoice) => to.serialize_str(text),
            (value, kind) => to_wire(value, kind).serialize(to),
        }
    }
}

/// What empties an attribute of this type.
pub(super) fn cleared(kind: Option<&AttributeKind>) -> Json {
    match kind {
        // Absent and `false` are one value, and "" is no boolean.
        Some(AttributeKind::Boolean) => false.into(),
        _ => "".into(),
    }
}

/// Identifiers have fields of their own in requests; as an attribute, EMAIL once made creations fail.
pub(super) fn is_identifier(name: &str) -> bool {
    name.eq_ignore_ascii_case("EMAIL") || name.eq_ignore_ascii_case("EXT_ID")
}

/// Attributes to set.
pub(super) fn attributes_to_wire(fields: &Fields, kinds: &BTreeMap<String, AttributeKind>) -> Map<String, Json> {
    let fields = fields.iter().filter(|(name, _)| !is_identifier(name));
    fields.map(|(name, value)| (name.clone(), to_wire(value, kinds.get(name)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn every_kind_of_attribute_decodes() {
        let rows = json!([{"name":"LASTNAME","category":"normal","type":"text"},
            {"name":"DOB","category":"normal","type":"date"},
            {"name":"GENDER","category":"category","type":"text","enumeration":[{"label":"Men","value":1,"valueStr":"1"},{"label":"en","value":0,"valueStr":"en"},{"label":null}]},
            {"name":"COUNTRY","category":"normal","type":"multiple-choice","multiCategoryOptions":["USA","India"]},
            {"name":"BDO","category":"normal","type":"user"},
            {"name":"BLACKLIST","category":"global","type":"float","calculatedValue":"COUNT[X]"},
            {"name":"ORDER","category":"transactional","type":"id"},
            {"name":"NEW","category":"normal","type":"hologram"}, {"category":"normal"}]);
        let attributes: Vec<_> = lean::Tree::from(&rows).root().items().filter_map(attribute).collect();
        let seen: Vec<_> = attributes.iter().map(|a| (a.name.as_str(), a.kind.name(), a.writable)).collect();
        assert_eq!(
            seen,
            [
                ("LASTNAME", "text", true),
                ("DOB", "date", true),
                ("GENDER", "category", true),
                ("COUNTRY", "multiple-choice", true),
                ("BDO", "user", false),
                ("BLACKLIST", "float", false),
                ("ORDER", "id", false),
                ("NEW", "hologram", false),
            ]
        );
        assert_eq!(attributes[2].options, [("Men".into(), "1".into()), ("en".into(), "en".into())]);
    }

    #[test]
    fn values_take_the_attributes_shape() {
        let instant = Value::Instant(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        assert_eq!(to_wire(&instant, Some(&AttributeKind::Date)), json!("2023-11-14"));
        assert_eq!(to_wire(&instant, Some(&AttributeKind::Text)), json!("2023-11-14T22:13:20Z"));
        let list = Value::list(["b".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(to_wire(&list, Some(&AttributeKind::MultipleChoice)), json!(["a", "b"]));
        assert_eq!(to_wire(&list, Some(&AttributeKind::Text)), json!("a, b"));
        let number = Value::from_json(&json!(3)).unwrap();
        assert_eq!(to_wire(&number, Some(&AttributeKind::Float)), json!(3));
        assert_eq!(to_wire(&number, Some(&AttributeKind::Text)), json!("3"));
        assert_eq!(to_wire(&Value::Boolean(false), Some(&AttributeKind::Boolean)), json!(false));
        assert_eq!(to_wire(&Value::Boolean(true), None), json!(true));
    }

    #[test]
    fn new_labels_get_free_numbers() {
        let options = [("A".into(), "1".into()), ("B".into(), "en".into()), ("C".into(), "7".into())];
        assert_eq!(
            json!(enumeration(&options)),
            json!([{"value":1,"label":"A"},{"value":8,"label":"B"},{"value":7,"label":"C"}])
        );
    }
}
