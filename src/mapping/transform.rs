//! The steps between a source's value and what Brevo holds.

use super::expression::Expression;
use super::nearest::did_you_mean;
use super::{convert, names, phone};
use crate::model::{AttributeKind, Fields, Number, Value};
use serde_yaml::Value as Yaml;
use std::collections::BTreeMap;

/// The names of all transforms.
pub(crate) const NAMES: &[&str] = &[
    "first_name",
    "last_name",
    "split_name",
    "upper",
    "lower",
    "trim",
    "capitalize",
    "phone",
    "number",
    "round",
    "boolean",
    "date",
    "date_time",
    "to_text",
    "join",
    "split",
    "map",
    "default",
    "truncate",
    "email_domain",
];

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Two cells: first and last name.
    SplitName,
    FirstName,
    LastName,
    Upper,
    Lower,
    Trim,
    Capitalize,
    /// E.164, with a region of the step's own.
    Phone(Option<String>),
    Number,
    /// To so many decimals.
    Round(u32),
    Boolean,
    Date,
    DateTime,
    ToText,
    /// A list as text.
    Join(String),
    /// Text as a list.
    Split(String),
    /// A table of texts; what is not in it becomes the second part, or a problem if there is none.
    Map(BTreeMap<String, Value>, Option<Value>),
    Default(Value),
    /// To so many characters.
    Truncate(usize),
    EmailDomain,
    Expression(Expression),
}

/// Something wrong in a step as written: what, and what to do.
pub(crate) type Wrong = (String, Option<String>);

impl Step {
    /// Reads a step: a transform's name, `{name: argument}`, or an expression.
    pub(crate) fn parse(yaml: &Yaml) -> Result<Self, Wrong> {
        match yaml {
            Yaml::String(text) => {
                let word = text.trim();
                if NAMES.contains(&word) {
                    return Self::named(word, &Yaml::Null);
                }
                let identifier =
                    word.chars().all(|c| c.is_alphanumeric() || c == '_') && word != "value" && word != "record";
                if identifier && !word.is_empty() {
                    return Err((format!("there is no transform `{word}`"), Some(meant(word))));
                }
                Expression::compile(text).map(Self::Expression)
            }
            Yaml::Mapping(entries) => {
                let mut entries = entries.iter();
                match (entries.next(), entries.next()) {
                    (Some((Yaml::String(name), argument)), None) => Self::named(name, argument),
                    _ => Err((
                        "expected one transform with its argument".to_owned(),
                        Some("`{truncate: 50}`".to_owned()),
                    )),
                }
            }
            _ => Err(("expected the name of a transform, or an expression".to_owned(), None)),
        }
    }

    fn named(name: &str, argument: &Yaml) -> Result<Self, Wrong> {
        let plain = |step: Self| match argument {
            Yaml::Null | Yaml::Bool(true) => Ok(step),
            _ => Err((format!("`{name}` takes no argument"), None)),
        };
        let wants = |what: &str, example: &str| {
            Err((format!("`{name}` wants {what}"), Some(format!("`{{{name}: {example}}}`"))))
        };
        match name {
            "first_name" => plain(Self::FirstName),
            "last_name" => plain(Self::LastName),
            "split_name" => plain(Self::SplitName),
            "upper" => plain(Self::Upper),
            "lower" => plain(Self::Lower),
            "trim" => plain(Self::Trim),
            "capitalize" => plain(Self::Capitalize),
            "number" => plain(Self::Number),
            "boolean" => plain(Self::Boolean),
            "date" => plain(Self::Date),
            "date_time" => plain(Self::DateTime),
            "to_text" => plain(Self::ToText),
            "email_domain" => plain(Self::EmailDomain),
            "phone" => match argument {
                Yaml::Null => Ok(Self::Phone(None)),
                Yaml::String(region) if phone::is_region(region) => Ok(Self::Phone(Some(region.clone()))),
                _ => wants("a region known to the phone book, in two capital letters", "NO"),
            },
            "round" => match argument {
                Yaml::Null => Ok(Self::Round(0)),
                other => {
                    match other.as_u64().and_then(|digits| u32::try_from(digits).ok()).filter(|digits| *digits <= 12) {
                        Some(digits) => Ok(Self::Round(digits)),
                        None => wants("a number of decimals, at most 12", "2"),
                    }
                }
            },
            "truncate" => {
                match argument.as_u64().and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0) {
                    Some(length) => Ok(Self::Truncate(length)),
                    None => wants("a number of characters", "50"),
                }
            }
            "join" => match argument {
                Yaml::Null => Ok(Self::Join(", ".to_owned())),
                Yaml::String(separator) => Ok(Self::Join(separator.clone())),
                _ => wants("a separator", "\"; \""),
            },
            "split" => match argument {
                Yaml::Null => Ok(Self::Split(",".to_owned())),
                Yaml::String(separator) if !separator.is_empty() => Ok(Self::Split(separator.clone())),
                _ => wants("a separator", "\";\""),
            },
            "default" => match scalar(argument) {
                Some(value) => Ok(Self::Default(value)),
                None => wants("a value", "unknown"),
            },
            "map" => {
                let Yaml::Mapping(entries) = argument else {
                    return wants("a table", "{gold: VIP, silver: Regular}");
                };
                let (mut table, mut otherwise) = (BTreeMap::new(), None);
                for (key, value) in entries {
                    let (Some(key), Some(value)) = (scalar(key), scalar(value)) else {
                        return wants("a table of plain values", "{gold: VIP, silver: Regular}");
                    };
                    match key.to_string() {
                        key if key == "*" => otherwise = Some(value),
                        key => drop(table.insert(key, value)),
                    }
                }
                Ok(Self::Map(table, otherwise))
            }
            other => Err((format!("there is no transform `{other}`"), Some(meant(other)))),
        }
    }

    /// As it is written.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::SplitName => "split_name",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Upper => "upper",
            Self::Lower => "lower",
            Self::Trim => "trim",
            Self::Capitalize => "capitalize",
            Self::Phone(_) => "phone",
            Self::Number => "number",
            Self::Round(_) => "round",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "date_time",
            Self::ToText => "to_text",
            Self::Join(_) => "join",
            Self::Split(_) => "split",
            Self::Map(..) => "map",
            Self::Default(_) => "default",
            Self::Truncate(_) => "truncate",
            Self::EmailDomain => "email_domain",
            Self::Expression(_) => "an expression",
        }
    }

    /// The type of attribute that holds what this step gives, if the step decides it.
    pub(crate) fn gives(&self) -> Gives {
        match self {
            Self::Truncate(_) | Self::Default(_) => Gives::Same,
            Self::Number | Self::Round(_) => Gives::Kind(AttributeKind::Float),
            Self::Boolean => Gives::Kind(AttributeKind::Boolean),
            Self::Date => Gives::Kind(AttributeKind::Date),
            Self::Split(_) => Gives::Kind(AttributeKind::MultipleChoice),
            Self::Map(table, otherwise) => {
                let values = || table.values().chain(otherwise);
                if values().all(|value| matches!(value, Value::Number(_))) {
                    Gives::Kind(AttributeKind::Float)
                } else if values().all(|value| matches!(value, Value::Boolean(_))) {
                    Gives::Kind(AttributeKind::Boolean)
                } else {
                    Gives::Kind(AttributeKind::Text)
                }
            }
            Self::Expression(_) => Gives::Anything,
            _ => Gives::Kind(AttributeKind::Text),
        }
    }

    /// Runs the step. Where there is no value, only `default` and expressions that read the record have something to
    /// say: `none` in capitals is nobody's name.
    pub(crate) fn apply(
        &self,
        value: Option<Value>,
        record: &Fields,
        region: Option<&str>,
    ) -> Result<Option<Value>, String> {
        let Some(value) = value else {
            return match self {
                Self::Default(value) => Ok(Some(value.clone())),
                Self::Expression(expression) if expression.reads_record() => expression.evaluate(None, record),
                _ => Ok(None),
            };
        };
        let text = |value: &Value| match value {
            Value::List(_) | Value::Structure(_) => Err(format!("expected text, found a {}", value.kind())),
            other => Ok(other.to_string()),
        };
        Ok(match self {
            Self::SplitName | Self::FirstName => names::split(&text(&value)?).0.and_then(Value::text),
            Self::LastName => names::split(&text(&value)?).1.and_then(Value::text),
            Self::Upper => Value::text(text(&value)?.to_uppercase()),
            Self::Lower => Value::text(text(&value)?.to_lowercase()),
            Self::Trim => Value::text(text(&value)?.trim()),
            Self::Capitalize => {
                let text = text(&value)?;
                let mut characters = text.chars();
                let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
                Value::text(first + characters.as_str())
            }
            Self::Phone(own) => {
                let number =
                    phone::to_e164(&text(&value)?, own.as_deref().or(region)).map_err(|error| error.to_string())?;
                Value::text(number)
            }
            Self::Number => Some(Value::Number(number(&value)?)),
            Self::Round(digits) => {
                let factor = 10_f64.powi(i32::try_from(*digits).unwrap_or(0));
                let rounded = (number(&value)?.as_f64() * factor).round() / factor;
                Number::from_f64(rounded).map(Value::Number)
            }
            Self::Boolean => match convert::boolean(&value) {
                Some(flag) => Some(Value::Boolean(flag)),
                None => return Err("expected something that says yes or no".to_owned()),
            },
            Self::Date => match convert::day(&convert::instant_of(&value)) {
                Some(day) => Some(Value::Date(day)),
                None => return Err("expected a date".to_owned()),
            },
            Self::DateTime => match convert::instant_of(&value) {
                Value::Instant(instant) => Value::text(convert::rfc3339(&instant)),
                _ => return Err("expected a date with a time".to_owned()),
            },
            Self::ToText => match &value {
                Value::Instant(instant) => Value::text(convert::rfc3339(instant)),
                other => Value::text(other.to_string()),
            },
            Self::Join(separator) => match &value {
                Value::List(items) => Value::text(items.join(separator)),
                other => Value::text(text(other)?),
            },
            Self::Split(separator) => match value {
                Value::List(_) => Some(value),
                other => Value::list(text(&other)?.split(separator.as_str()).map(|item| item.trim().to_owned())),
            },
            Self::Map(table, otherwise) => match table.get(&text(&value)?).or(otherwise.as_ref()) {
                Some(value) => Some(value.clone()),
                None => return Err("the value is not in the `map` table".to_owned()),
            },
            Self::Default(_) => Some(value),
            Self::Truncate(length) => Value::text(text(&value)?.chars().take(*length).collect::<String>()),
            Self::EmailDomain => match text(&value)?.trim().rsplit_once('@') {
                Some((_, domain)) => Value::text(domain.to_lowercase()),
                None => return Err("expected an e-mail address".to_owned()),
            },
            Self::Expression(expression) => expression.evaluate(Some(&value), record)?,
        })
    }
}

/// What was probably meant by a transform that does not exist.
fn meant(word: &str) -> String {
    did_you_mean(word, NAMES.iter().copied())
        .unwrap_or_else(|| format!("known are {}; or write an expression of `value`", NAMES.join(", ")))
}

/// What is known of a step's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gives {
    /// Whatever went in.
    Same,
    /// Always this.
    Kind(AttributeKind),
    /// Only running it tells.
    Anything,
}

fn number(value: &Value) -> Result<Number, String> {
    let found = match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok().and_then(Number::from_f64),
        Value::Boolean(flag) => Some(Number::Whole(i64::from(*flag))),
        Value::Instant(instant) => Some(Number::Whole(instant.timestamp())),
        _ => None,
    };
    found.ok_or_else(|| format!("expected a number, found {}", value.kind()))
}

fn scalar(yaml: &Yaml) -> Option<Value> {
    match yaml {
        Yaml::String(text) => Value::text(text.as_str()),
        Yaml::Bool(flag) => Some(Value::Boolean(*flag)),
        Yaml::Number(number) => match number.as_i64() {
            Some(whole) => Some(Value::Number(Number::Whole(whole))),
            None => number.as_f64().and_then(Number::from_f64).map(Value::Number),
        },
        _ => None,
    }
}
