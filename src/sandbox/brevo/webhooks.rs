//! Webhooks: their registrations, and what Brevo sends. There is no signature, no delivery id, and no order.

use super::directory::Contact;
use super::reply::{Call, Outcome, Reply, flag, text, texts};
use super::state::{Hand, State};
use crate::sandbox::shared::OutgoingWebhook;
use base64::Engine as _;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone)]
struct Registration {
    url: String,
    kind: String,
    channel: String,
    events: Vec<String>,
    description: String,
    batched: bool,
    auth: Option<Value>,
    headers: Vec<(String, String)>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// Registrations, and what waits to be delivered.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    registered: BTreeMap<i64, Registration>,
    last_id: i64,
    out: VecDeque<(String, OutgoingWebhook)>,
    /// By registration: when its window closes, and what is in it.
    batches: BTreeMap<i64, (DateTime<Utc>, Vec<Value>)>,
}

/// `batched: true` gathers five minutes, at most 500 events in one POST.
const WINDOW: TimeDelta = TimeDelta::minutes(5);
const LARGEST_BATCH: usize = 500;

/// The most that waits: nobody may ever take them.
const LONGEST_QUEUE: usize = 100_000;

const KINDS: [&str; 3] = ["marketing", "transactional", "inbound"];
const MARKETING: [&str; 14] = [
    "spam",
    "opened",
    "click",
    "hardBounce",
    "softBounce",
    "unsubscribed",
    "listAddition",
    "delivered",
    "contactUpdated",
    "contactDeleted",
    "uniqueOpened",
    "proxyOpen",
    "uniqueProxyOpen",
    "reply",
];

impl Registration {
    /// A POST to it.
    fn request(&self, body: &Value, topic: &str) -> (String, OutgoingWebhook) {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if let Some(token) = self.auth.as_ref().and_then(|auth| auth.get("token")).and_then(Value::as_str) {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        headers.extend(self.headers.iter().cloned());
        // User and password of an address travel as a header.
        let mut url = self.url.clone();
        if let Some((bare, user, password)) = user_of(&self.url) {
            let code = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            headers.push(("authorization".to_owned(), format!("Basic {code}")));
            url = bare;
        }
        let body = Bytes::from(body.to_string());
        (url.clone(), OutgoingWebhook { url: Some(url), headers, body, topic: topic.to_owned() })
    }

    fn shown(&self, id: i64, state: &State) -> Value {
        let headers: Vec<Value> = self.headers.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let mut shown = json!({
            "id": id,
            "url": self.url,
            "description": self.description,
            "type": self.kind,
            "channel": self.channel,
            "events": self.events,
            "batched": self.batched,
            "headers": headers,
            "createdAt": state.stamp(self.created),
            "modifiedAt": state.stamp(self.modified),
        });
        if let (Some(auth), Some(shown)) = (&self.auth, shown.as_object_mut()) {
            shown.insert("auth".into(), auth.clone());
        }
        shown
    }

    fn read(&mut self, body: &Map<String, Value>) -> Result<(), Reply> {
        if let Some(url) = text(body, "url")? {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Reply::invalid("url is invalid"));
            }
            self.url = url;
        }
        if let Some(events) = texts(body, "events")? {
            if events.is_empty() {
                return Err(Reply::missing("events is empty"));
            }
            if self.kind == "marketing" && events.iter().any(|event| !MARKETING.contains(&event.as_str())) {
                return Err(Reply::invalid("Invalid event for a marketing webhook"));
            }
            self.events = events;
        }
        if let Some(description) = text(body, "description")? {
            self.description = description;
        }
        self.batched = flag(body, "batched")?.unwrap_or(self.batched);
        if let Some(auth) = body.get("auth").filter(|auth| auth.is_object()) {
            self.auth = Some(auth.clone());
        }
        if let Some(Value::Array(headers)) = body.get("headers") {
            let read = |header: &Value| {
                Some((header.get("key")?.as_str()?.to_owned(), header.get("value")?.as_str()?.to_owned()))
            };
            self.headers = headers.iter().filter_map(read).collect();
        }
        Ok(())
    }
}

/// An address without its user and password, and those.
fn user_of(url: &str) -> Option<(String, String, String)> {
    let mut bare = url::Url::parse(url).ok()?;
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (plain(bare.username()), plain(bare.password()?));
    bare.set_username("").ok()?;
    bare.set_password(None).ok()?;
    Some((bare.into(), user, password))
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    let body = call.object()?;
    let kind = text(&body, "type")?.unwrap_or_else(|| "transactional".into());
    if !KINDS.contains(&kind.as_str()) {
        return Err(Reply::invalid("type is invalid"));
    }
    if state.webhooks.registered.len() >= 40 {
        return Err(Reply::error(400, "out_of_range", "You have reached the maximum of 40 webhooks"));
    }
    let mut made = Registration {
        url: String::new(),
        kind,
        channel: text(&body, "channel")?.unwrap_or_else(|| "email".into()),
        events: Vec::new(),
        description: String::new(),
        batched: false,
        auth: None,
        headers: Vec::new(),
        created: state.now,
        modified: state.now,
    };
    made.read(&body)?;
    if made.url.is_empty() || made.events.is_empty() {
        return Err(Reply::missing("url and events are required"));
    }
    state.webhooks.last_id += 1;
    let id = state.webhooks.last_id;
    state.webhooks.registered.insert(id, made);
    Ok(Reply::json(201, &json!({"id": id})))
}

/// Only one type at a time, transactional unless asked otherwise; and none is a 400, not an empty array.
pub(super) fn list(state: &mut State, call: &Call) -> Outcome {
    let kind = call.first("type").unwrap_or("transactional");
    let mut shown: Vec<Value> = state
        .webhooks
        .registered
        .iter()
        .filter(|(_, webhook)| webhook.kind == kind)
        .map(|(id, webhook)| webhook.shown(*id, state))
        .collect();
    if shown.is_empty() {
        return Err(Reply::error(400, "document_not_found", "Webhooks not found"));
    }
    if !call.ascending()? {
        shown.reverse();
    }
    Ok(Reply::json(200, &json!({"webhooks": shown})))
}

fn named(state: &State, call: &Call) -> Result<i64, Reply> {
    let id = call.number(1, "Webhook id")?;
    if state.webhooks.registered.contains_key(&id) { Ok(id) } else { Err(Reply::not_found("Webhook not found")) }
}

pub(super) fn get(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    let shown = state.webhooks.registered.get(&id).map(|webhook| webhook.shown(id, state));
    Ok(Reply::json(200, &shown.unwrap_or_default()))
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    let body = call.object()?;
    let now = state.now;
    if let Some(webhook) = state.webhooks.registered.get_mut(&id) {
        let mut changed = webhook.clone();
        changed.read(&body)?;
        changed.modified = now;
        *webhook = changed;
    }
    Ok(Reply::empty(204))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = named(state, call)?;
    state.webhooks.registered.remove(&id);
    Ok(Reply::empty(204))
}

impl State {
    pub(super) fn has_deliveries(&self) -> bool {
        !self.webhooks.out.is_empty() || self.webhooks.batches.values().any(|(due, _)| *due <= self.now)
    }

    pub(super) fn take_deliveries(&mut self) -> Vec<(String, OutgoingWebhook)> {
        let due = |(due, _): &(DateTime<Utc>, Vec<Value>)| *due <= self.now;
        let closed: Vec<i64> =
            self.webhooks.batches.iter().filter(|(_, batch)| due(batch)).map(|(id, _)| *id).collect();
        for id in closed {
            let Some((_, bodies)) = self.webhooks.batches.remove(&id) else { continue };
            let Some(webhook) = self.webhooks.registered.get(&id) else { continue };
            let posts = bodies.chunks(LARGEST_BATCH).map(|bodies| webhook.request(&json!(bodies), "batch"));
            self.webhooks.out.extend(posts);
        }
        self.webhooks.out.drain(..).collect()
    }

    /// Queues a body for every marketing webhook that wants `event` (its name in registrations).
    fn fire(&mut self, event: &str, body: impl Fn(i64) -> Value) {
        for (id, webhook) in &self.webhooks.registered {
            if webhook.kind != "marketing" || !webhook.events.iter().any(|wanted| wanted == event) {
                continue;
            }
            let body = body(*id);
            if webhook.batched {
                let (_, bodies) = self.webhooks.batches.entry(*id).or_insert_with(|| (self.now + WINDOW, Vec::new()));
                if bodies.len() < LONGEST_QUEUE {
                    bodies.push(body);
                }
                continue;
            }
            if self.webhooks.out.len() >= LONGEST_QUEUE {
                self.webhooks.out.pop_front();
            }
            let topic = body.get("event").and_then(Value::as_str).unwrap_or(event);
            self.webhooks.out.push_back(webhook.request(&body, topic));
        }
    }

    /// Whether anybody listens: an import of 20,000 rows should not write bodies for nobody.
    fn is_heard(&self) -> bool {
        !self.webhooks.registered.is_empty()
    }

    fn local_date(&self) -> String {
        self.now.with_timezone(&self.zone).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Fires what a change is worth: `contact_updated` in its three shapes, and `list_addition`. Nothing says that a
    /// contact was created.
    pub(super) fn fire_change(
        &mut self,
        before: &Contact,
        id: i64,
        is_new: bool,
        fields: &BTreeMap<String, Option<Value>>,
        added: &[i64],
        hand: Hand,
    ) {
        if !self.is_heard() || (hand == Hand::Import && !self.knobs.import_webhooks) {
            return;
        }
        let Some(after) = self.contacts.get(id).cloned() else { return };
        let Some(email) = after.email.clone() else { return };
        let key_name = if hand == Hand::Api { self.options.api_key_name.clone() } else { String::new() };
        let (date, ts) = (self.local_date(), self.now.timestamp());
        let readdressed = before.email.as_ref().is_some_and(|old| *old != email);
        if !is_new && (!fields.is_empty() || readdressed) {
            let mut attributes: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or(json!("")))).collect();
            if readdressed {
                attributes.insert("EMAIL".into(), json!(email));
            }
            // The address is the one it was known by until now.
            let known = before.email.clone().unwrap_or_else(|| email.clone());
            self.fire("contactUpdated", |webhook| {
                json!({
                    "id": webhook, "event": "contact_updated", "email": known, "date": date, "ts": ts,
                    "content": [{"email": known, "attributes": attributes}], "api_key_name": key_name,
                })
            });
        }
        if !is_new && before.email_blacklisted != after.email_blacklisted {
            // `emailBlacklist` here, `emailBlacklisted` everywhere else.
            self.fire("contactUpdated", |webhook| {
                json!({
                    "id": webhook, "event": "contact_updated", "email": email, "date": date, "ts": ts,
                    "content": [{"email": email, "emailBlacklist": after.email_blacklisted}],
                    "api_key_name": key_name,
                })
            });
        }
        if !added.is_empty() {
            if !is_new {
                // For lists the content is an object and there is no address outside it.
                self.fire("contactUpdated", |webhook| {
                    json!({
                        "id": webhook, "event": "contact_updated", "date": date, "ts": ts,
                        "content": {"emails": [email], "link_list_ids": added}, "api_key_name": key_name,
                    })
                });
            }
            self.fire("listAddition", |webhook| {
                json!({
                    "id": webhook.to_string(), "event": "list_addition", "email": email, "key": key_name,
                    "list_id": added, "date": date, "ts": ts, "api_key_name": key_name,
                })
            });
        }
    }

    /// A deletion is told by address only: no contact id, no name of a key.
    pub(super) fn fire_deleted(&mut self, contact: &Contact) {
        if !self.is_heard() {
            return;
        }
        let (date, ts) = (self.local_date(), self.now.timestamp());
        self.fire("contactDeleted", |webhook| {
            json!({
                "id": webhook, "event": "contact_deleted", "email": contact.email, "key": "",
                "list_id": contact.list_ids, "date": date, "ts": ts,
            })
        });
    }

    /// What a campaign's mail leads to: `unsubscribed`, `spam`, `hardBounce`.
    pub(super) fn fire_campaign(&mut self, event: &str, name: &str, contact: &Contact, reason: Option<&str>) {
        if !self.is_heard() {
            return;
        }
        let (date, ts) = (self.local_date(), self.now.timestamp());
        self.fire(event, |webhook| {
            let mut body = json!({
                "id": webhook, "camp_id": 1, "email": contact.email, "campaign name": "Newsletter",
                "date_sent": date, "date_event": date, "event": name, "tag": "", "segment_ids": [],
                "ts_sent": ts, "ts_event": ts, "ts": ts,
            });
            if let Some(body) = body.as_object_mut() {
                if let Some(reason) = reason {
                    body.insert("reason".into(), json!(reason));
                }
                if name == "unsubscribed" {
                    body.insert("list_id".into(), json!(contact.list_ids));
                }
            }
            body
        });
    }
}
