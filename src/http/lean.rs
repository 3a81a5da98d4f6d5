//! Answers as JSON that borrows from their bodies.

use crate::model::{self, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number};
use std::borrow::Cow;
use std::fmt;

/// A parsed answer, without its members that are `null`.
///
/// A page of records is read once and dropped, so its tree is one row of nodes, each followed by what is in it, and its
/// text stays in the body: a page costs one allocation, where a tree of maps with keys of their own costs a hundred a
/// record. Half of the members of an Intercom contact are `null`, and to a reader of records a member that is `null` is
/// a member that is not there.
#[derive(Debug)]
pub struct Tree<'a>(Vec<Node<'a>>);

#[derive(Debug)]
enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    /// Only text with escapes has to be copied.
    Text(Cow<'a, str>),
    /// How many of the nodes that follow are in it.
    Array(usize),
    /// The same; each member's name is a node before its value's.
    Object(usize),
}

/// Somewhere in a tree: one value, with all that is in it.
#[derive(Debug, Clone, Copy)]
pub struct Json<'t>(&'t [Node<'t>]);

impl<'a> Tree<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// If it is not whole JSON, or nested deeper than any answer.
    pub fn from_slice(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        // A body that is known to be text as a whole need not be looked at string by string.
        match std::str::from_utf8(body) {
            Ok(text) => Self::read(body, serde_json::Deserializer::from_str(text)),
            Err(_) => Self::read(body, serde_json::Deserializer::from_slice(body)),
        }
    }

    fn read<R: serde_json::de::Read<'a>>(
        body: &'a [u8],
        mut from: serde_json::Deserializer<R>,
    ) -> Result<Self, serde_json::Error> {
        // Pages of contacts have a node for every thirteen bytes.
        let mut nodes = Vec::with_capacity(body.len() / 12 + 1);
        Grow(&mut nodes).deserialize(&mut from)?;
        from.end()?;
        Ok(Self(nodes))
    }

    /// Its outermost value.
    pub fn root(&self) -> Json<'_> {
        Json(&self.0)
    }
}

/// A tree that borrows from another kind of tree: notifications are kept, so they own what they show.
impl<'a> From<&'a serde_json::Value> for Tree<'a> {
    fn from(json: &'a serde_json::Value) -> Self {
        let mut nodes = Vec::new();
        if Grow(&mut nodes).deserialize(json).is_err() {
            nodes.clear();
        }
        Self(nodes)
    }
}

impl<'t> Json<'t> {
    /// The first value of a row of nodes, and the rest of the row.
    fn first(row: &'t [Node<'t>]) -> Option<(Self, &'t [Node<'t>])> {
        let inside = match row.first()? {
            Node::Array(inside) | Node::Object(inside) => *inside,
            _ => 0,
        };
        row.split_at_checked(inside + 1).map(|(value, rest)| (Self(value), rest))
    }

    /// What is in it.
    fn inside(self) -> &'t [Node<'t>] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        matches!(self.0, [Node::Object(_), ..])
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        matches!(self.0, [Node::Array(_), ..])
    }

    /// The members of an object; of anything else, none.
    pub fn members(self) -> impl Iterator<Item = (&'t str, Self)> {
        let mut row = if self.is_object() { self.inside() } else { &[] };
        std::iter::from_fn(move || {
            let (Node::Text(name), values) = row.split_first()? else { return None };
            let (value, rest) = Self::first(values)?;
            row = rest;
            Some((&**name, value))
        })
    }

    /// The items of an array; of anything else, none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let mut row = if self.is_array() { self.inside() } else { &[] };
        std::iter::from_fn(move || {
            let (value, rest) = Self::first(row)?;
            row = rest;
            Some(value)
        })
    }

    /// A member of an object; of several with one name, the last.
    pub fn get(self, name: &str) -> Option<Self> {
        self.members().filter(|(its, _)| *its == name).last().map(|(_, value)| value)
    }

    /// Text.
    pub fn as_str(self) -> Option<&'t str> {
        match self.0 {
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Yes or no.
    pub fn as_bool(self) -> Option<bool> {
        match self.0 {
            [Node::Bool(flag)] => Some(*flag),
            _ => None,
        }
    }

    /// A number.
    pub fn as_number(self) -> Option<&'t Number> {
        match self.0 {
            [Node::Number(number)] => Some(number),
            _ => None,
        }
    }

    /// A whole number.
    pub fn as_i64(self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// A copy that is kept.
    pub fn to_json(self) -> serde_json::Value {
        match self.0 {
            [] | [Node::Null, ..] => serde_json::Value::Null,
            [Node::Bool(flag), ..] => (*flag).into(),
            [Node::Number(number), ..] => number.clone().into(),
            [Node::Text(text), ..] => text.as_ref().into(),
            [Node::Array(_), ..] => self.items().map(Self::to_json).collect(),
            [Node::Object(_), ..] => {
                self.members().map(|(name, value)| (name.to_owned(), value.to_json())).collect::<Map<_, _>>().into()
            }
        }
    }

    /// What [`Value::from_json`] makes of it.
    pub fn to_value(self) -> Option<Value> {
        match self.0 {
            [Node::Bool(flag)] => Some(Value::Boolean(*flag)),
            [Node::Number(number)] => match number.as_i64() {
                Some(whole) => Some(Value::Number(model::Number::Whole(whole))),
                None => number.as_f64().and_then(model::Number::from_f64).map(Value::Number),
            },
            [Node::Text(text)] => Value::text(text.as_ref()),
            _ => Value::from_json(&self.to_json()),
        }
    }
}

/// Adds one value to the end of a row.
struct Grow<'r, 'a>(&'r mut Vec<Node<'a>>);

impl<'a> DeserializeSeed<'a> for Grow<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Grow<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.push(Node::Bool(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.push(Node::Number(value.into()));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.push(Node::Number(value.into()));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push(Number::from_f64(value).map_or(Node::Null, Node::Number));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<(), E> {
        self.0.push(Node::Text(text.into()));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push(Node::Text(text.to_owned().into()));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.push(Node::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let at = self.0.len();
        self.0.push(Node::Array(0));
        while items.next_element_seed(Grow(self.0))?.is_some() {}
        let inside = self.0.len() - at - 1;
        if let Some(node) = self.0.get_mut(at) {
            *node = Node::Array(inside);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        let at = self.0.len();
        self.0.push(Node::Object(0));
        while members.next_key_seed(Grow(self.0))?.is_some() {
            let value = self.0.len();
            members.next_value_seed(Grow(self.0))?;
            if matches!(self.0.get(value..), Some([Node::Null])) {
                self.0.truncate(value - 1);
            }
        }
        let inside = self.0.len() - at - 1;
        if let Some(node) = self.0.get_mut(at) {
            *node = Node::Object(inside);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value as Plain, json};

    fn without_nulls(json: Plain) -> Plain {
        match json {
            Plain::Object(members) => Plain::Object(
                members.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
            ),
            Plain::Array(items) => Plain::Array(items.into_iter().map(without_nulls).collect()),
            other => other,
        }
    }

    fn any_json() -> impl Strategy<Value = Plain> {
        let leaf = prop_oneof![
            Just(Plain::Null),
            any::<bool>().prop_map(Plain::from),
            any::<i64>().prop_map(Plain::from),
            any::<u64>().prop_map(Plain::from),
            any::<f64>().prop_map(Plain::from),
            "\\PC{0,12}|[\\\\\"\n\u{1F600}]{0,4}".prop_map(Plain::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Plain::from),
                prop::collection::btree_map("[a-z\"\\\\\u{e9}]{0,4}", inner, 0..6)
                    .prop_map(|members| Plain::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_serde_json_reads_but_for_members_that_are_null(json in any_json()) {
            let body = serde_json::to_vec(&json).unwrap();
            let plain = without_nulls(serde_json::from_slice(&body).unwrap());
            let tree = Tree::from_slice(&body).unwrap();
            prop_assert_eq!(tree.root().to_value(), Value::from_json(&plain));
            prop_assert_eq!(tree.root().to_json(), plain.clone());
            prop_assert_eq!(Tree::from(&plain).root().to_json(), plain);
        }
    }

    #[test]
    fn what_is_in_it_is_found() {
        let body = br#"{"a":[[],{"b":"x","n":null},null,-7],"a\"":1,"c":"y","c":true,"d":["n",null]}"#;
        let tree = Tree::from_slice(body).unwrap();
        let root = tree.root();
        assert_eq!(root.members().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "a\"", "c", "c", "d"]);
        assert_eq!(root.get("c").and_then(Json::as_bool), Some(true), "of two, the last, as a map would have it");
        let items: Vec<_> = root.get("a").unwrap().items().collect();
        assert_eq!((items.len(), items[3].as_i64(), items[0].is_array()), (4, Some(-7), true));
        assert_eq!(items[1].get("b").and_then(Json::as_str), Some("x"));
        assert_eq!(items[1].get("n").is_none(), items[1].is_object());
        assert_eq!(root.get("d").unwrap().to_json(), json!(["n", null]), "only members can be left out");
        assert_eq!((items[3].members().count(), root.items().count(), root.as_str()), (0, 0, None));
    }

    #[test]
    fn what_is_not_whole_or_too_deep_is_an_error() {
        for body in ["", "{", "{\"a\":1", "[1,2", "{\"a\":1}}", &"[".repeat(100_000)] {
            Tree::from_slice(body.as_bytes()).unwrap_err();
        }
        Tree::from_slice(b"\"\xff\"").unwrap_err();
    }
}
