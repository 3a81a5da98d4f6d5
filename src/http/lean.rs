//! JSON without what says nothing.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Parses an answer, leaving out members that are `null`.
///
/// Half of the members of an Intercom contact are `null`, and to a reader of records a member that is `null` is a member that
/// is not there. A page costs a third less so: most of the time goes into making the tree and taking it apart.
///
/// # Errors
/// If it is not whole JSON.
pub fn from_slice(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body).map(|Lean(json)| json)
}

struct Lean(Value);

impl<'de> Deserialize<'de> for Lean {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(LeanVisitor)
    }
}

struct LeanVisitor;

impl<'de> Visitor<'de> for LeanVisitor {
    type Value = Lean;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Lean, E> {
        Ok(Lean(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Lean, E> {
        Ok(Lean(Value::Number(value.into())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Lean, E> {
        Ok(Lean(Value::Number(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Lean, E> {
        Ok(Lean(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Lean, E> {
        Ok(Lean(Value::String(value.to_owned())))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Lean, E> {
        Ok(Lean(Value::String(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<Lean, E> {
        Ok(Lean(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Lean, A::Error> {
        let mut all = Vec::new();
        while let Some(Lean(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Lean(Value::Array(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Lean, A::Error> {
        let mut all = Map::new();
        while let Some(Name(name)) = members.next_key()? {
            let Lean(value) = members.next_value()?;
            if !value.is_null() {
                all.insert(name.into_owned(), value);
            }
        }
        Ok(Lean(Value::Object(all)))
    }
}

/// A member's name: borrowed from the body, since those of `null` members are never kept.
struct Name<'de>(std::borrow::Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(name.into()))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(name.to_owned().into()))
            }

            fn visit_string<E: Error>(self, name: String) -> Result<Name<'de>, E> {
                Ok(Name(name.into()))
            }
        }
        from.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without_nulls(json: Value) -> Value {
        match json {
            Value::Object(members) => Value::Object(
                members.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
            ),
            Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
            other => other,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}|[\\\\\"\n\u{1F600}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\\u{e9}]{0,4}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_serde_json_reads_but_for_members_that_are_null(json in json()) {
            let body = serde_json::to_vec(&json).unwrap();
            prop_assert_eq!(from_slice(&body).unwrap(), without_nulls(serde_json::from_slice(&body).unwrap()));
        }
    }

    #[test]
    fn what_is_not_whole_or_too_deep_is_an_error() {
        for body in ["", "{", "{\"a\":1", "[1,2", "{\"a\":1}}", &"[".repeat(100_000)] {
            from_slice(body.as_bytes()).unwrap_err();
        }
    }
}
