//! Events: queued, never changed, and doubled when sent twice.

use super::attributes::{self, Reader};
use super::contacts::Change;
use super::directory::Key;
use super::reply::{Call, Outcome, Reply};
use super::state::{Hand, State};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use serde_json::{Map, Value, json};

/// An event that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEvent {
    /// Whose it is; `None` when the identifiers find nobody.
    pub contact_id: Option<i64>,
    /// Its name.
    pub name: String,
    /// When it happened.
    pub date: DateTime<Utc>,
    /// When it was taken.
    pub received_at: DateTime<Utc>,
    /// The identifiers as sent.
    pub identifiers: Map<String, Value>,
    /// Its properties as sent.
    pub properties: Map<String, Value>,
    /// The contact's values as sent.
    pub contact_properties: Map<String, Value>,
}

fn is_word(text: &str) -> bool {
    (1..=255).contains(&text.chars().count()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn object(event: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, String> {
    match event.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(format!("{name} should be an object")),
    }
}

impl State {
    /// Reads one event, or says what is wrong with it.
    fn read_event(&self, event: &Value) -> Result<ReceivedEvent, String> {
        let Value::Object(event) = event else { return Err("event should be an object".into()) };
        let name = event.get("event_name").and_then(Value::as_str).ok_or("undefined event_name")?;
        if !is_word(name) {
            return Err("event_name should be alphanumeric with - and _, at most 255 characters".into());
        }
        let identifiers = object(event, "identifiers")?;
        if identifiers.values().all(|value| value.is_null() || value.as_str() == Some("")) {
            return Err("Please pass at least one identifier or contact id".into());
        }
        let date = match event.get("event_date") {
            None | Some(Value::Null) => self.now,
            Some(value) => value
                .as_str()
                .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
                .ok_or("event_date should be RFC 3339")?
                .to_utc(),
        };
        let properties = object(event, "event_properties")?;
        if properties.keys().any(|key| !is_word(key)) {
            return Err("event_properties holds an invalid key".into());
        }
        if Value::Object(properties.clone()).to_string().len() > 50 * 1024 {
            return Err("event_properties exceeds 50 KB".into());
        }
        Ok(ReceivedEvent {
            contact_id: self.identify_event(&identifiers),
            name: name.to_owned(),
            date,
            received_at: self.now,
            identifiers,
            properties,
            contact_properties: object(event, "contact_properties")?,
        })
    }

    /// `contact_id` wins over all others.
    fn identify_event(&self, identifiers: &Map<String, Value>) -> Option<i64> {
        if let Some(id) = identifiers.get("contact_id").and_then(Value::as_i64) {
            return self.contacts.get(id).map(|contact| contact.id);
        }
        let text = |name: &str| identifiers.get(name).and_then(Value::as_str);
        let phone = |name: &str| text(name).and_then(attributes::phone);
        text("email_id")
            .and_then(attributes::email)
            .and_then(|email| self.contacts.find(Key::Email, &email))
            .or_else(|| self.contacts.find(Key::ExtId, text("ext_id")?))
            .or_else(|| self.contacts.find(Key::Sms, &phone("phone_id")?))
            .or_else(|| self.contacts.find(Key::Whatsapp, &phone("whatsapp_id")?))
            .or_else(|| self.contacts.find(Key::Landline, &phone("landline_number_id")?))
    }

    fn take_event(&mut self, event: ReceivedEvent) {
        if let Some(id) = event.contact_id {
            let mut change = Change::default();
            let read = self.read_attributes(&event.contact_properties, Reader::Import, &mut change);
            change.email = None;
            if read.is_ok() && !change.values.is_empty() && self.conflicts(&change, Some(id)).is_empty() {
                self.apply(id, change, Hand::Api);
            }
        }
        self.events.push(event);
    }
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let event = Value::Object(call.object()?);
    let event = state.read_event(&event).map_err(|message| Reply::invalid(&message))?;
    state.take_event(event);
    Ok(Reply::empty(204))
}

pub(super) fn create_batch(state: &mut State, call: &Call) -> Outcome {
    // A bare array was taken until April 2026.
    let body = call.object()?;
    let Some(Value::Array(items)) = body.get("events") else {
        return Err(Reply::invalid("events is missing"));
    };
    let mut failures: Vec<(String, Vec<usize>)> = Vec::new();
    let mut good = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match state.read_event(item) {
            Ok(event) => good.push(event),
            Err(message) => match failures.iter_mut().find(|(known, _)| *known == message) {
                Some((_, indexes)) => indexes.push(index),
                None => failures.push((message, vec![index])),
            },
        }
    }
    let taken = good.len();
    for event in good {
        state.take_event(event);
    }
    if failures.is_empty() && taken > 0 {
        let message = "Batch accepted. Valid events have been added to the processing queue.";
        return Ok(Reply::json(202, &json!({"message": message, "count": taken})));
    }
    let errors: Vec<Value> =
        failures.iter().map(|(message, indexes)| json!({"eventIndex": indexes, "message": message})).collect();
    let (status, word) = if taken > 0 { (207, "partiallyQueued") } else { (400, "failed") };
    let body = json!({
        "status": word,
        "total_events": items.len(),
        "successful_events": taken,
        "failed_events": items.len() - taken,
        "errors": errors,
    });
    Ok(Reply::json(status, &body))
}

fn bound(call: &Call, name: &str, end_of_day: bool) -> Result<Option<DateTime<Utc>>, Reply> {
    let Some(text) = call.first(name) else { return Ok(None) };
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let midnight = date.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
        return Ok(Some(if end_of_day { midnight + TimeDelta::days(1) } else { midnight }));
    }
    call.instant(name)
}

pub(super) fn list(state: &mut State, call: &Call) -> Outcome {
    let (limit, offset) = call.page(100, 10_000)?;
    let (start, end) = (bound(call, "startDate", false)?, bound(call, "endDate", true)?);
    if start.is_some() != end.is_some() {
        return Err(Reply::invalid("startDate and endDate must be used together"));
    }
    let start = start.unwrap_or(state.now - TimeDelta::days(183));
    let (contacts, names) = (call.numbers("contact_id")?, call.all("event_name"));
    let mut found: Vec<&ReceivedEvent> = state
        .events
        .iter()
        .filter(|event| {
            event.date >= start
                && end.is_none_or(|end| event.date <= end)
                && event.contact_id.is_some_and(|id| contacts.is_empty() || contacts.contains(&id))
                && (names.is_empty() || names.contains(&event.name.as_str()))
        })
        .collect();
    found.sort_by_key(|event| std::cmp::Reverse(event.date));
    let shown: Vec<Value> = found
        .iter()
        .skip(offset)
        .take(limit)
        .map(|event| {
            json!({
                "contact_id": event.contact_id,
                "event_date": event.date.to_rfc3339_opts(SecondsFormat::Secs, true),
                "event_name": event.name,
                "source": "api",
                "event_properties": event.properties,
                "contact_properties": event.contact_properties,
            })
        })
        .collect();
    Ok(Reply::json(200, &json!({"events": shown, "count": found.len()})))
}
