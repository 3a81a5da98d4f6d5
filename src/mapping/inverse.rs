//! The way back: what a field of Intercom's becomes when somebody edits Brevo's.
//!
//! A rule travels back only if every step of it has a right inverse: of whatever Brevo can hold there, a value can be
//! made that the rule turns into the same again. It need not be the only one. A conversion may lose something (the time
//! of a day, the white space of a name): then the finer value stays where it is until somebody edits the coarser one.

#[cfg(test)]
mod tests;

use super::convert;
use super::paths::SourceKind;
use super::phone;
use super::rule::{FieldRule, ValueType};
use super::transform::Step;
use crate::model::{AttributeKind, Number, Value};
use chrono::{DateTime, NaiveDate, Utc};

/// Why there is no way back, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoWayBack {
    /// What cannot be turned back.
    pub what: String,
    /// What to do, besides letting the field travel one way.
    pub instead: Option<String>,
}

fn none<T>(what: impl Into<String>, instead: Option<&str>) -> Result<T, NoWayBack> {
    Err(NoWayBack { what: what.into(), instead: instead.map(str::to_owned) })
}

/// Whether a rule travels back.
pub(super) fn check(rule: &FieldRule) -> Result<(), NoWayBack> {
    let mut kind = rule.source_kind;
    for (index, step) in rule.steps.iter().enumerate() {
        kind = check_step(step, kind, index + 1 == rule.steps.len())?;
    }
    let splits = rule.steps.last() == Some(&Step::SplitName);
    if rule.targets.len() != if splits { 2 } else { 1 } {
        return none(
            "several attributes hold the one value: nothing tells which of them was edited last",
            Some("give the attribute that people edit a rule of its own"),
        );
    }
    for target in &rule.targets {
        let from = if dated(rule) && kind != SourceKind::Unknown { SourceKind::Instant } else { kind };
        check_target(from, &target.kind, convert::is_phone(&target.attribute), &target.attribute)?;
    }
    Ok(())
}

/// Whether the rule's type makes an instant of whatever comes.
fn dated(rule: &FieldRule) -> bool {
    matches!(rule.value_type, Some(ValueType::Date | ValueType::DateTime))
}

/// The kind that a step gives, if it can be taken back from that.
fn check_step(step: &Step, kind: SourceKind, last: bool) -> Result<SourceKind, NoWayBack> {
    use SourceKind::{Boolean, Date, Instant, List, Number, Text, Unknown};
    let loses = |name: &str| none(format!("`{name}` cannot be undone"), Some("leave the transform out"));
    match (step, kind) {
        (Step::SplitName, Text | Unknown) if last => Ok(Text),
        (Step::Trim | Step::Phone(_), Text | Unknown) | (Step::ToText, Text) => Ok(Text),
        (Step::Number, Text | Number | Unknown) => Ok(Number),
        (Step::Boolean, Boolean | Unknown) => Ok(Boolean),
        (Step::Date, Text | Date | Instant) => Ok(Date),
        (Step::DateTime, Date | Instant) => Ok(Instant),
        (Step::Split(_), Text | Unknown) => Ok(List),
        (Step::Map(table, otherwise), Text | Number | Boolean | Unknown) => {
            if otherwise.is_some() {
                return none("the `\"*\"` of `map` stands for many values", Some("list each of them"));
            }
            let mut values: Vec<String> = table.values().map(|value| value.to_string().to_lowercase()).collect();
            values.sort();
            let twice = values.iter().zip(values.iter().skip(1)).find(|(one, next)| one == next);
            if let Some((twice, _)) = twice {
                return none(
                    format!("`map` gives `{twice}` for more than one value"),
                    Some("give each value a word of its own"),
                );
            }
            Ok(match table.values().next() {
                Some(Value::Number(_)) if table.values().all(|value| matches!(value, Value::Number(_))) => Number,
                Some(Value::Boolean(_)) if table.values().all(|value| matches!(value, Value::Boolean(_))) => Boolean,
                _ => Text,
            })
        }
        (Step::SplitName, _) => loses("split_name"),
        (Step::FirstName, _) => none(
            "`first_name` alone does not make a name again",
            Some("`to: [FIRSTNAME, LASTNAME]` with `transform: split_name`"),
        ),
        (Step::LastName, _) => none(
            "`last_name` alone does not make a name again",
            Some("`to: [FIRSTNAME, LASTNAME]` with `transform: split_name`"),
        ),
        (Step::Expression(_), _) => {
            none("an expression cannot be undone", Some("a `map` can, if no value comes twice"))
        }
        (step, _) => loses(step.name()),
    }
}

/// Whether a value of this kind can be made of what the attribute holds.
fn check_target(from: SourceKind, to: &AttributeKind, is_phone: bool, attribute: &str) -> Result<(), NoWayBack> {
    use SourceKind::{Boolean, Date, Instant, List, Number, Structure, Text, Unknown};
    let fits = match to {
        _ if is_phone => matches!(from, Text | Unknown),
        AttributeKind::Text => !matches!(from, List | Structure),
        AttributeKind::Float => matches!(from, Number | Text | Unknown),
        AttributeKind::Boolean => matches!(from, Boolean | Number | Unknown),
        AttributeKind::Date => matches!(from, Date | Instant | Text | Unknown),
        AttributeKind::Category => matches!(from, Text | Number | Boolean | Unknown),
        AttributeKind::MultipleChoice => matches!(from, List | Unknown),
        AttributeKind::Other(_) => false,
    };
    if fits {
        return Ok(());
    }
    none(format!("what the {} {attribute} holds cannot be turned back into a {}", to.name(), words(from)), None)
}

fn words(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Text => "text",
        SourceKind::Number => "number",
        SourceKind::Boolean => "yes or no",
        SourceKind::Date => "day",
        SourceKind::Instant => "time",
        SourceKind::List => "set",
        SourceKind::Structure => "structure",
        SourceKind::Unknown => "value",
    }
}

/// The value that the rule turns into these cells. Problems name no values: they are somebody's.
pub(super) fn invert(rule: &FieldRule, cells: &[Option<Value>]) -> Result<Option<Value>, String> {
    let region = rule.default_region.as_deref();
    let mut kinds = vec![rule.source_kind];
    for (index, step) in rule.steps.iter().enumerate() {
        let kind = kinds.last().copied().unwrap_or(rule.source_kind);
        kinds.push(check_step(step, kind, index + 1 == rule.steps.len()).map_err(|error| error.what)?);
    }
    let mut value = if let [target] = rule.targets.as_slice() {
        let before = kinds.last().copied().unwrap_or(rule.source_kind);
        let cell = cells.first().cloned().flatten();
        // In Brevo, absent and `false` are one value.
        let no = (target.kind == AttributeKind::Boolean).then_some(Value::Boolean(false));
        let phone = convert::is_phone(&target.attribute);
        cell.or(no).map(|cell| from_cell(&cell, before, &target.kind, phone, dated(rule))).transpose()?
    } else {
        let parts: Vec<String> = cells.iter().flatten().map(|part| part.to_string().trim().to_owned()).collect();
        Value::text(parts.join(" "))
    };
    for (step, kind) in rule.steps.iter().zip(&kinds).rev() {
        value = value.map(|value| undo(step, value, *kind, region)).transpose()?;
    }
    Ok(value)
}

/// What stood before a step, if this came out.
fn undo(step: &Step, value: Value, kind: SourceKind, region: Option<&str>) -> Result<Value, String> {
    Ok(match step {
        Step::Phone(own) => {
            let number =
                phone::to_e164(&value.to_string(), own.as_deref().or(region)).map_err(|error| error.to_string())?;
            Value::Text(number)
        }
        Step::Number if kind == SourceKind::Text => Value::Text(value.to_string()),
        Step::Date | Step::DateTime => {
            from_instant(&convert::instant_of(&midnight(value)), kind, matches!(step, Step::Date))?
        }
        Step::Split(separator) => match value {
            Value::List(items) => {
                if items.iter().any(|item| item.contains(separator.as_str()) || item.trim() != item) {
                    return Err("an option holds what separates them".to_owned());
                }
                let joined = items.join(if separator == "," { ", " } else { separator });
                Value::text(joined).ok_or("the options are blank")?
            }
            other => other,
        },
        Step::Map(table, _) => {
            let text = value.to_string();
            let found = table.iter().find(|(_, made)| made.to_string() == text).or_else(|| {
                table.iter().find(|(_, made)| made.to_string().to_lowercase() == text.trim().to_lowercase())
            });
            let Some((key, _)) = found else { return Err("nothing in the `map` table gives this value".to_owned()) };
            of_kind(key, kind).ok_or("a key of the `map` table is not what the field holds")?
        }
        _ => value,
    })
}

/// A value of this kind, from what an attribute holds.
fn from_cell(
    cell: &Value,
    kind: SourceKind,
    target: &AttributeKind,
    is_phone: bool,
    dated: bool,
) -> Result<Value, String> {
    let wrong = || format!("what Brevo holds is no {}", words(kind));
    if is_phone {
        return Ok(Value::Text(cell.to_string()));
    }
    if dated || matches!(kind, SourceKind::Date | SourceKind::Instant) {
        return from_instant(&convert::instant_of(&midnight(cell.clone())), kind, *target == AttributeKind::Date);
    }
    match (kind, cell) {
        (SourceKind::Text, Value::Date(day)) => Ok(Value::Text(day.format("%Y-%m-%d").to_string())),
        (SourceKind::Unknown, Value::Date(_)) => Ok(midnight(cell.clone())),
        (SourceKind::Unknown, _) | (SourceKind::List, Value::List(_)) => Ok(cell.clone()),
        (SourceKind::Number, Value::Boolean(flag)) => Ok(Value::Number(Number::Whole(i64::from(*flag)))),
        (SourceKind::Text | SourceKind::Number | SourceKind::Boolean, Value::List(_) | Value::Structure(_)) => {
            Err(wrong())
        }
        (SourceKind::Text | SourceKind::Number | SourceKind::Boolean, cell) => {
            of_kind(&cell.to_string(), kind).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// Text read as a value of this kind.
fn of_kind(text: &str, kind: SourceKind) -> Option<Value> {
    match kind {
        SourceKind::Number => {
            let text = text.trim();
            let whole = text.parse().ok().map(Number::Whole);
            whole.or_else(|| text.parse().ok().and_then(Number::from_f64)).map(Value::Number)
        }
        SourceKind::Boolean => convert::boolean(&Value::Text(text.to_owned())).map(Value::Boolean),
        _ => Value::text(text),
    }
}

/// The first instant of a day. Other values stay as they are.
fn midnight(value: Value) -> Value {
    match value {
        Value::Date(day) => start_of(day).map_or(value, Value::Instant),
        other => other,
    }
}

fn start_of(day: NaiveDate) -> Option<DateTime<Utc>> {
    day.and_hms_opt(0, 0, 0).map(|start| start.and_utc())
}

/// An instant as a field of this kind holds it.
fn from_instant(value: &Value, kind: SourceKind, day: bool) -> Result<Value, String> {
    let Value::Instant(instant) = value else { return Err("what Brevo holds is no date".to_owned()) };
    Ok(match kind {
        SourceKind::Number => Value::Number(Number::Whole(instant.timestamp())),
        SourceKind::Text if day => Value::Text(instant.date_naive().format("%Y-%m-%d").to_string()),
        SourceKind::Text => Value::Text(convert::rfc3339(instant)),
        _ => Value::Instant(*instant),
    })
}
