//! Values between the two sides' types.

use super::paths::SourceKind;
use super::phone;
use super::rule::Target;
use crate::model::{AttributeKind, Number, Value};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

/// Brevo's own attributes that hold a phone number. Each is unique among all contacts, and a malformed number makes
/// Brevo refuse the whole contact, so only E.164 gets there.
pub(crate) const PHONES: &[&str] = &["SMS", "WHATSAPP", "LANDLINE_NUMBER"];

/// Whether the attribute is one of [`PHONES`].
pub(crate) fn is_phone(attribute: &str) -> bool {
    PHONES.contains(&attribute)
}

/// Canonical form of what Intercom holds, by the type that the account declares: a custom attribute of type date
/// arrives as unix seconds, and only its declaration tells it from a number.
pub(crate) fn source(value: &Value, kind: SourceKind) -> Value {
    match kind {
        SourceKind::Date | SourceKind::Instant => instant_of(value),
        _ => value.clone(),
    }
}

/// A value that means an instant as one: unix seconds, or any of the vendors' written forms. Others stay as they are.
pub(crate) fn instant_of(value: &Value) -> Value {
    let instant = match value {
        Value::Number(Number::Whole(seconds)) => DateTime::from_timestamp(*seconds, 0),
        // Some customers' own code writes fractions of seconds.
        Value::Number(Number::Fraction(seconds)) if seconds.abs() < 1e12 => {
            #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
            let whole = seconds.floor() as i64;
            DateTime::from_timestamp(whole, 0)
        }
        Value::Text(text) => parse_instant(text),
        _ => None,
    };
    instant.map_or_else(|| value.clone(), Value::Instant)
}

/// The cell that a value becomes in an attribute of this type.
pub(crate) fn to_cell(
    value: &Value,
    target: &Target,
    region: Option<&str>,
    closed: bool,
) -> Result<Option<Value>, String> {
    if is_phone(&target.attribute) {
        return match value {
            Value::Text(text) => {
                phone::to_e164(text, region).map(|number| Some(Value::Text(number))).map_err(|error| error.to_string())
            }
            Value::Number(Number::Whole(number)) => phone::to_e164(&number.to_string(), region)
                .map(|number| Some(Value::Text(number)))
                .map_err(|error| error.to_string()),
            other => Err(mismatch(other, target)),
        };
    }
    match &target.kind {
        AttributeKind::Text => match value {
            Value::Structure(_) => Err(format!(
                "the source is a structure, and {} holds text: ask for it with `transform: to_text`",
                target.attribute
            )),
            Value::Instant(instant) => Ok(Value::text(rfc3339(instant))),
            other => Ok(Value::text(other.to_string())),
        },
        AttributeKind::Float => match value {
            Value::Number(_) => Ok(Some(value.clone())),
            Value::Text(text) => match text.trim().parse::<f64>().ok().and_then(Number::from_f64) {
                Some(number) => Ok(Some(Value::Number(number))),
                None => Err(mismatch(value, target)),
            },
            Value::Boolean(flag) => Ok(Some(Value::Number(Number::Whole(i64::from(*flag))))),
            Value::Instant(instant) => Ok(Some(Value::Number(Number::Whole(instant.timestamp())))),
            other => Err(mismatch(other, target)),
        },
        AttributeKind::Boolean => {
            boolean(value).map(|flag| Some(Value::Boolean(flag))).ok_or_else(|| mismatch(value, target))
        }
        AttributeKind::Date => match day(value) {
            Some(day) => Ok(Some(Value::Date(day))),
            None => Err(mismatch(value, target)),
        },
        AttributeKind::Category => match value {
            Value::Text(_) | Value::Number(_) | Value::Boolean(_) => {
                option(&value.to_string(), target, closed).map(Value::text)
            }
            other => Err(mismatch(other, target)),
        },
        AttributeKind::MultipleChoice => {
            let items = match value {
                Value::List(items) => items.clone(),
                Value::Text(_) | Value::Number(_) => vec![value.to_string()],
                other => return Err(mismatch(other, target)),
            };
            let labels: Result<Vec<String>, String> = items.iter().map(|item| option(item, target, closed)).collect();
            labels.map(Value::list)
        }
        AttributeKind::Other(_) => Err(mismatch(value, target)),
    }
}

/// Canonical form of what Brevo holds in an attribute of this type.
pub(crate) fn observed(value: &Value, target: &Target) -> Option<Value> {
    if is_phone(&target.attribute) {
        return phone::observed(&value.to_string()).map(Value::Text);
    }
    match &target.kind {
        AttributeKind::Text => match value {
            Value::Instant(instant) => Value::text(rfc3339(instant)),
            Value::Structure(_) => Some(value.clone()),
            other => Value::text(other.to_string()),
        },
        AttributeKind::Float => match value {
            Value::Text(text) => {
                Some(text.trim().parse().ok().and_then(Number::from_f64).map_or_else(|| value.clone(), Value::Number))
            }
            other => Some(other.clone()),
        },
        AttributeKind::Boolean => match boolean(value) {
            Some(flag) => yes(flag),
            None => Some(value.clone()),
        },
        AttributeKind::Date => Some(day(value).map_or_else(|| value.clone(), Value::Date)),
        AttributeKind::Category => {
            let text = value.to_string();
            let label = choice(&text, target)
                .or_else(|| target.options.iter().find(|(_, key)| *key == text).map(|(label, _)| label.clone()));
            Value::text(label.unwrap_or(text))
        }
        AttributeKind::MultipleChoice => match value {
            Value::List(items) => {
                Value::list(items.iter().map(|item| choice(item, target).unwrap_or_else(|| item.clone())))
            }
            Value::Structure(_) => Some(value.clone()),
            other => {
                let text = other.to_string();
                Value::list([choice(&text, target).unwrap_or(text)])
            }
        },
        AttributeKind::Other(_) => Some(value.clone()),
    }
}

/// The label as the account writes it, if the account has it.
pub(crate) fn choice(text: &str, target: &Target) -> Option<String> {
    let labels = || target.options.iter().map(|(label, _)| label);
    labels()
        .find(|label| *label == text)
        .or_else(|| labels().find(|label| label.trim().to_lowercase() == text.trim().to_lowercase()))
        .cloned()
}

/// The option to write. Where the operator did not list the options, new ones may come (a new tag, say): they are
/// added to the attribute before they are written.
fn option(text: &str, target: &Target, closed: bool) -> Result<String, String> {
    match choice(text, target) {
        Some(label) => Ok(label),
        None if text.chars().count() > 200 => {
            Err(format!("an option of {} is longer than 200 characters", target.attribute))
        }
        None if closed => Err(format!("a value is not among the options of {}", target.attribute)),
        None => Ok(text.to_owned()),
    }
}

/// For a boolean in Brevo, absent and `false` are one canonical value.
fn yes(flag: bool) -> Option<Value> {
    flag.then_some(Value::Boolean(true))
}

/// A value as yes or no.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(flag) => Some(*flag),
        Value::Number(Number::Whole(0)) => Some(false),
        Value::Number(Number::Whole(1)) => Some(true),
        Value::Text(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "1" => Some(true),
            "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The calendar day of a value, in UTC.
pub(crate) fn day(value: &Value) -> Option<NaiveDate> {
    let day = match value {
        Value::Date(day) => Some(*day),
        Value::Instant(instant) => Some(instant.date_naive()),
        Value::Text(text) => {
            let text = text.trim();
            NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().or_else(|| parse_instant(text).map(|at| at.date_naive()))
        }
        _ => None,
    };
    day.filter(|day| (0..=9999).contains(&chrono::Datelike::year(day)))
}

/// An instant in any of the vendors' written forms.
pub(crate) fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.with_timezone(&Utc))
        .ok()
        .or_else(|| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok().map(|at| at.and_utc()))
        .or_else(|| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc()))
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|at| at.and_utc()))
}

/// An instant as text.
pub(crate) fn rfc3339(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn mismatch(value: &Value, target: &Target) -> String {
    format!("a value of type {} cannot become the {} that {} holds", value.kind(), target.kind.name(), target.attribute)
}
