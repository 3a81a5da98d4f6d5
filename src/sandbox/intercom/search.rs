//! The search language: operators, limits, and dates that match by calendar day.

use super::answer::{Answer, error};
use chrono::{DateTime, Days, NaiveTime, TimeZone as _};
use chrono_tz::Tz;
use serde_json::Value;

/// A field's value in one record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field<'a> {
    Null,
    Text(&'a str),
    Number(f64),
    Bool(bool),
    /// Unix milliseconds.
    Date(i64),
    Ids(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Bool,
    Date,
    /// Only `=` and `!=`.
    Tag,
}

/// How exactly dates match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dates {
    /// By calendar day of the workspace's zone (contacts, up to 2.16).
    Days(Tz),
    /// To the second (conversations; contacts from 2.17).
    Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    In,
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    NotContains,
    StartsWith,
    EndsWith,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    /// `[from, to)` in milliseconds; null never matches.
    Within {
        field: String,
        from: i64,
        to: i64,
    },
    Compare {
        field: String,
        op: Op,
        values: Vec<Value>,
    },
}

const MOST_FILTERS: usize = 15;
const MOST_LEVELS: usize = 2;

fn invalid(message: &str) -> Answer {
    error(400, "parameter_invalid", message)
}

/// Reads a query; `kind` says which fields there are.
pub(super) fn compile(query: &Value, dates: Dates, kind: &dyn Fn(&str) -> Option<Kind>) -> Result<Filter, Answer> {
    compile_at(query, dates, kind, 1)
}

fn compile_at(
    query: &Value,
    dates: Dates,
    kind: &dyn Fn(&str) -> Option<Kind>,
    level: usize,
) -> Result<Filter, Answer> {
    let Some(operator) = query.get("operator").and_then(Value::as_str) else {
        return Err(error(400, "parameter_not_found", "query operator not specified"));
    };
    if matches!(operator, "AND" | "OR") {
        let Some(children) = query.get("value").and_then(Value::as_array) else {
            return Err(invalid("value of AND and OR must be an array"));
        };
        if level > MOST_LEVELS {
            return Err(invalid("queries can be nested at most 2 levels deep"));
        }
        if children.is_empty() || children.len() > MOST_FILTERS {
            return Err(invalid("there can be at most 15 filters in an AND or OR group"));
        }
        let filters =
            children.iter().map(|child| compile_at(child, dates, kind, level + 1)).collect::<Result<Vec<_>, _>>()?;
        return Ok(if operator == "AND" { Filter::All(filters) } else { Filter::Any(filters) });
    }
    let Some(field) = query.get("field").and_then(Value::as_str) else {
        return Err(error(400, "parameter_not_found", "query field not specified"));
    };
    let Some(kind) = kind(field) else {
        return Err(error(400, "invalid_field", &format!("Invalid search field '{field}'")));
    };
    let value = query.get("value").unwrap_or(&Value::Null);
    let op = match operator {
        "=" => Op::Equal,
        "!=" => Op::NotEqual,
        "IN" => Op::In,
        "NIN" => Op::NotIn,
        "<" => Op::Less,
        "<=" => Op::LessOrEqual,
        ">" => Op::Greater,
        ">=" => Op::GreaterOrEqual,
        "~" => Op::Contains,
        "!~" => Op::NotContains,
        "^" => Op::StartsWith,
        "$" => Op::EndsWith,
        other => return Err(invalid(&format!("Operator '{other}' is not supported"))),
    };
    if kind == Kind::Date {
        return date(field, op, value, dates);
    }
    let fits = match op {
        Op::Equal | Op::NotEqual => true,
        Op::In | Op::NotIn => kind != Kind::Tag,
        Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual => kind == Kind::Integer,
        Op::Contains | Op::NotContains | Op::StartsWith | Op::EndsWith => kind == Kind::Text,
    };
    if !fits {
        return Err(invalid(&format!("Operator '{operator}' is not supported for field '{field}'")));
    }
    let values = match (op, value) {
        (Op::In | Op::NotIn, Value::Array(values)) => values.clone(),
        (Op::In | Op::NotIn, _) => return Err(invalid("value of IN and NIN must be an array")),
        (_, Value::Array(_) | Value::Object(_)) => return Err(invalid("value must be a string, number or boolean")),
        (_, value) => vec![value.clone()],
    };
    Ok(Filter::Compare { field: field.to_owned(), op, values })
}

fn date(field: &str, op: Op, value: &Value, dates: Dates) -> Result<Filter, Answer> {
    // Timestamps may be sent as a number or as a string.
    let seconds = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    let within = |from, to| Ok(Filter::Within { field: field.to_owned(), from, to });
    let Some(seconds) = seconds else {
        return Err(invalid(&format!("value of '{field}' must be a unix timestamp")));
    };
    // What production answers; the page said 400 once.
    let unsupported = || error(422, "data_invalid", &format!("Operator is not supported for date field '{field}'"));
    let (start, end) = match dates {
        Dates::Days(zone) => day(seconds, zone),
        Dates::Seconds => (seconds.saturating_mul(1000), seconds.saturating_add(1).saturating_mul(1000)),
    };
    let exact = dates == Dates::Seconds;
    match op {
        Op::Equal => within(start, end),
        Op::Greater => within(end, i64::MAX),
        Op::Less => within(i64::MIN, start),
        Op::GreaterOrEqual if exact => within(start, i64::MAX),
        Op::LessOrEqual if exact => within(i64::MIN, end),
        Op::NotEqual if exact => {
            Ok(Filter::Any(vec![within(i64::MIN, start)?, within(end, i64::MAX)?, is_null(field)]))
        }
        _ => Err(unsupported()),
    }
}

fn is_null(field: &str) -> Filter {
    Filter::Compare { field: field.to_owned(), op: Op::Equal, values: vec![Value::Null] }
}

/// The calendar day in `zone` that holds `seconds`, as `[start, end)` in milliseconds.
pub(super) fn day(seconds: i64, zone: Tz) -> (i64, i64) {
    let Some(instant) = DateTime::from_timestamp(seconds, 0) else { return (i64::MAX, i64::MAX) };
    let date = instant.with_timezone(&zone).date_naive();
    let start_of = |date: chrono::NaiveDate| {
        let midnight = date.and_time(NaiveTime::MIN);
        // Where the clock jumps over midnight the day begins an hour later.
        (0..4)
            .find_map(|hours| zone.from_local_datetime(&(midnight + chrono::TimeDelta::hours(hours))).earliest())
            .map_or(i64::MAX, |start| start.timestamp_millis())
    };
    let next = date.checked_add_days(Days::new(1)).map_or(i64::MAX, start_of);
    (start_of(date), next)
}

impl Filter {
    /// Whether a record matches; `get` reads its fields.
    pub(super) fn matches<'a>(&self, get: &dyn Fn(&str) -> Field<'a>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(get)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(get)),
            Self::Within { field, from, to } => {
                matches!(get(field), Field::Date(at) if *from <= at && at < *to)
            }
            Self::Compare { field, op, values } => compare(&get(field), *op, values),
        }
    }

    /// Bounds `[from, to)` on one date field that every match lies in.
    pub(super) fn bounds(&self, name: &str) -> (i64, i64) {
        const FREE: (i64, i64) = (i64::MIN, i64::MAX);
        match self {
            Self::Within { field, from, to } if field == name => (*from, *to),
            Self::All(filters) => filters
                .iter()
                .map(|filter| filter.bounds(name))
                .fold(FREE, |(from, to), (f, t)| (from.max(f), to.min(t))),
            Self::Any(filters) => filters
                .iter()
                .map(|filter| filter.bounds(name))
                .reduce(|(from, to), (f, t)| (from.min(f), to.max(t)))
                .unwrap_or(FREE),
            _ => FREE,
        }
    }

    /// If only records with one of these values in `name` can match: the values.
    pub(super) fn only(&self, name: &str) -> Option<Vec<String>> {
        match self {
            Self::Compare { field, op: Op::Equal | Op::In, values } if field == name => {
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
            }
            Self::All(filters) => filters.iter().find_map(|filter| filter.only(name)),
            Self::Any(filters) => {
                let parts = filters.iter().map(|filter| filter.only(name)).collect::<Option<Vec<_>>>()?;
                Some(parts.concat())
            }
            _ => None,
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn equals(field: &Field<'_>, value: &Value) -> bool {
    match field {
        Field::Null => value.is_null() || value.as_str() == Some(""),
        Field::Text(text) => !value.is_null() && text.to_lowercase() == text_of(value).to_lowercase(),
        Field::Number(number) => value
            .as_f64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .is_some_and(|v: f64| (v - number).abs() < 1e-9),
        Field::Bool(truth) => {
            value.as_bool() == Some(*truth) || value.as_str() == Some(if *truth { "true" } else { "false" })
        }
        Field::Date(at) => value.as_i64() == Some(at.div_euclid(1000)),
        Field::Ids(ids) => {
            let wanted = text_of(value);
            if value.is_null() { ids.is_empty() } else { ids.contains(&wanted) }
        }
    }
}

fn compare(field: &Field<'_>, op: Op, values: &[Value]) -> bool {
    let first = values.first().unwrap_or(&Value::Null);
    let number = |wanted: fn(f64, f64) -> bool| match field {
        Field::Number(number) => first
            .as_f64()
            .or_else(|| first.as_str().and_then(|text| text.parse().ok()))
            .is_some_and(|value| wanted(*number, value)),
        _ => false,
    };
    let text = |wanted: fn(&str, &str) -> bool| match field {
        Field::Text(text) => wanted(&text.to_lowercase(), &text_of(first).to_lowercase()),
        _ => false,
    };
    match op {
        Op::Equal => equals(field, first),
        Op::NotEqual => !equals(field, first),
        Op::In => values.iter().any(|value| equals(field, value)),
        Op::NotIn => !values.iter().any(|value| equals(field, value)),
        Op::Less => number(|a, b| a < b),
        Op::LessOrEqual => number(|a, b| a <= b),
        Op::Greater => number(|a, b| a > b),
        Op::GreaterOrEqual => number(|a, b| a >= b),
        Op::Contains => text(|a, b| a.contains(b)),
        Op::NotContains => !text(|a, b| a.contains(b)),
        Op::StartsWith => text(|a, b| a.starts_with(b)),
        Op::EndsWith => text(|a, b| a.ends_with(b)),
    }
}
