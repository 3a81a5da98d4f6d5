//! A field's value in canonical form: what is compared, stored and mapped.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A value in canonical form. "No value" is an absent key or `Option::None`, never a variant: whoever holds a `Value`
/// holds something. Vendors' blanks (`null`, `""`, white space, an empty list) are no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "v")]
pub enum Value {
    /// Text, never blank.
    #[serde(rename = "s")]
    Text(String),
    /// A finite number.
    #[serde(rename = "n")]
    Number(Number),
    /// Yes or no.
    #[serde(rename = "b")]
    Boolean(bool),
    /// A calendar day without a zone.
    #[serde(rename = "d")]
    Date(NaiveDate),
    /// An instant, to the millisecond.
    #[serde(rename = "i")]
    Instant(DateTime<Utc>),
    /// A set of choices, sorted and without repeats.
    #[serde(rename = "l")]
    List(Vec<String>),
    /// A nested object or array, which a mapping turns to text only if asked.
    #[serde(rename = "o")]
    Structure(serde_json::Value),
}

/// A finite number: whole numbers compare exactly, others as floats, and `1.0` is `1`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A whole number.
    Whole(i64),
    /// Any other finite number.
    Fraction(f64),
}

impl Number {
    /// Canonical form of a float; `None` for NaN and the infinities.
    pub fn from_f64(number: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond, floats skip whole numbers
        if !number.is_finite() {
            None
        } else if number.fract() == 0.0 && number.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
            Some(Self::Whole(number as i64))
        } else {
            Some(Self::Fraction(number))
        }
    }

    /// As a float.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Fraction(number) => number,
        }
    }

    /// As JSON.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Self::Whole(number) => number.into(),
            Self::Fraction(number) => number.into(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Fraction(number) => number.fmt(f),
        }
    }
}

impl Value {
    /// Text, or nothing if it is blank. The text is kept as it is, outer white space included: whether a vendor trims
    /// is the vendor's business, and what it made of our write is what we adopt.
    pub fn text(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        if text.trim().is_empty() { None } else { Some(Self::Text(text)) }
    }

    /// A set of choices, or nothing if it is empty.
    pub fn list(items: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut items: Vec<String> = items.into_iter().filter(|item| !item.trim().is_empty()).collect();
        items.sort();
        items.dedup();
        if items.is_empty() { None } else { Some(Self::List(items)) }
    }

    /// Canonical form of plain JSON without knowledge of its type: text stays text, arrays of text become lists, and
    /// anything nested stays a structure.
    pub fn from_json(json: &serde_json::Value) -> Option<Self> {
        use serde_json::Value as Json;
        match json {
            Json::Null => None,
            Json::Bool(flag) => Some(Self::Boolean(*flag)),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Some(Self::Number(Number::Whole(whole))),
                None => number.as_f64().and_then(Number::from_f64).map(Self::Number),
            },
            Json::String(text) => Self::text(text.as_str()),
            Json::Array(items) if items.iter().all(Json::is_string) => {
                Self::list(items.iter().filter_map(Json::as_str).map(str::to_owned))
            }
            Json::Array(items) if items.is_empty() => None,
            Json::Object(fields) if fields.is_empty() => None,
            nested => Some(Self::Structure(nested.clone())),
        }
    }

    /// As plain JSON: dates as `YYYY-MM-DD`, instants as RFC 3339 in UTC with milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => number.to_json(),
            Self::Boolean(flag) => (*flag).into(),
            Self::Date(day) => day.format("%Y-%m-%d").to_string().into(),
            Self::Instant(instant) => instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into(),
            Self::List(items) => items.clone().into(),
            Self::Structure(json) => json.clone(),
        }
    }

    /// The name of its kind, as people read it in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "number",
            Self::Boolean(_) => "boolean",
            Self::Date(_) => "date",
            Self::Instant(_) => "date-time",
            Self::List(_) => "multiple choice",
            Self::Structure(_) => "structure",
        }
    }
}

/// As people read it: text without quotes, lists with commas.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::Date(day) => write!(f, "{}", day.format("%Y-%m-%d")),
            Self::Instant(instant) => f.write_str(&instant.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            Self::List(items) => f.write_str(&items.join(", ")),
            Self::Structure(json) => json.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blanks_are_no_value() {
        for blank in [json!(null), json!(""), json!("  "), json!([]), json!({}), json!([" "])] {
            assert_eq!(Value::from_json(&blank), None, "{blank}");
        }
    }

    #[test]
    fn one_and_one_point_zero_are_one_value() {
        assert_eq!(Value::from_json(&json!(1)), Value::from_json(&json!(1.0)));
        assert_ne!(Value::from_json(&json!(1)), Value::from_json(&json!(1.5)));
    }

    #[test]
    fn a_list_is_a_set() {
        assert_eq!(Value::from_json(&json!(["b", "a", "b"])), Value::list(["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn survives_storage() {
        for json in [json!("x"), json!(3), json!(2.5), json!(true), json!(["a"]), json!({"a": 1})] {
            let value = Value::from_json(&json).unwrap();
            let stored = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), value);
        }
    }
}
