//! Single contacts: create, read, change, delete.

use super::attributes::{self, Reader, Taken};
use super::directory::{Contact, Key};
use super::reply::{Call, Kind, Outcome, Reply, flag, integers, text};
use super::state::{Hand, State};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a write asks for, read and checked, before anything is done.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// A new address.
    pub(super) email: Option<String>,
    /// Values to set, or to clear.
    pub(super) values: BTreeMap<String, Option<Value>>,
    pub(super) email_blacklisted: Option<bool>,
    pub(super) sms_blacklisted: Option<bool>,
    pub(super) link: Vec<i64>,
    pub(super) unlink: Vec<i64>,
}

impl Change {
    /// The unique keys that it sets.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Key, &str)> {
        let email = self.email.iter().map(|email| (Key::Email, email.as_str()));
        let others = Key::ATTRIBUTES
            .into_iter()
            .filter_map(|key| Some((key, self.values.get(key.attribute())?.as_ref()?.as_str()?)));
        email.chain(others)
    }
}

impl State {
    /// Reads the attributes of a write into `change`. An import drops silently what a single write refuses.
    pub(super) fn read_attributes(
        &self,
        values: &Map<String, Value>,
        reader: Reader,
        change: &mut Change,
    ) -> Result<(), Reply> {
        for (name, value) in values {
            let name = name.to_uppercase();
            if name == "EMAIL" {
                let address = value.as_str().and_then(attributes::email);
                change.email = Some(address.ok_or_else(|| Reply::invalid("Invalid email address"))?);
                continue;
            }
            if let Some(key) = Key::of_attribute(&name) {
                match read_key(key, value) {
                    Some(value) => _ = change.values.insert(name, value),
                    None if reader == Reader::Import => {}
                    // One bad number rejects the whole contact.
                    None if key == Key::ExtId => return Err(Reply::invalid("Invalid ext_id")),
                    None => return Err(Reply::invalid("Invalid phone number")),
                }
                continue;
            }
            let Some(attribute) = self.attribute(&name) else {
                if reader == Reader::Api && self.knobs.refuse_unknown_attributes {
                    return Err(Reply::invalid(&format!("Attribute {name} does not exist in your account")));
                }
                continue;
            };
            match attribute.take(value, reader, self.knobs.text_limit) {
                Taken::Set(value) => _ = change.values.insert(name, Some(value)),
                Taken::Clear => _ = change.values.insert(name, None),
                Taken::Dropped => {}
            }
        }
        Ok(())
    }

    /// Reads the body of POST or PUT.
    fn read_change(&self, body: &Map<String, Value>) -> Result<Change, Reply> {
        let mut change = Change {
            email_blacklisted: flag(body, "emailBlacklisted")?,
            sms_blacklisted: flag(body, "smsBlacklisted")?,
            link: integers(body, "listIds")?.unwrap_or_default(),
            unlink: integers(body, "unlinkListIds")?.unwrap_or_default(),
            ..Change::default()
        };
        if change.link.iter().any(|id| !self.lists.has(*id)) {
            return Err(Reply::invalid("List does not exist"));
        }
        match body.get("attributes") {
            None | Some(Value::Null) => {}
            // PHP clients send an empty map as an empty array.
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(Value::Object(values)) => self.read_attributes(values, Reader::Api, &mut change)?,
            Some(_) => return Err(Reply::invalid("attributes should be an object")),
        }
        if let Some(ext_id) = text(body, "ext_id")? {
            let value = (!ext_id.is_empty()).then(|| json!(ext_id));
            change.values.insert("EXT_ID".into(), value);
        }
        Ok(change)
    }

    /// The keys of `change` that other contacts hold.
    pub(super) fn conflicts(&self, change: &Change, own: Option<i64>) -> Vec<Key> {
        let taken = |(key, value): &(Key, &str)| self.contacts.find(*key, value).is_some_and(|id| Some(id) != own);
        change.keys().filter(taken).map(|(key, _)| key).collect()
    }

    fn refuse_conflicts(&self, verb: &str, change: &Change, own: Option<i64>) -> Result<(), Reply> {
        let conflicts = self.conflicts(change, own);
        let Some(first) = conflicts.first() else { return Ok(()) };
        let code = if self.knobs.duplicates_as_invalid { "invalid_parameter" } else { "duplicate_parameter" };
        let names: Vec<&str> = conflicts.iter().map(|key| key.identifier()).collect();
        let message =
            format!("Unable to {verb} contact, {} is already associated with another Contact", first.identifier());
        Err(Reply::json(400, &json!({"code": code, "message": message, "metadata": {"duplicate_identifiers": names}})))
    }

    /// Makes a contact of a change that was checked.
    pub(super) fn create_contact(&mut self, change: Change, hand: Hand) -> i64 {
        let id = self.contacts.create(self.now);
        self.apply(id, change, hand);
        id
    }

    /// Carries out a change that was checked, and fires its webhooks.
    pub(super) fn apply(&mut self, id: i64, change: Change, hand: Hand) {
        let Some(before) = self.contacts.get(id).cloned() else { return };
        let is_new = before.email.is_none() && before.attributes.is_empty();
        let added: Vec<i64> = change.link.iter().copied().filter(|list| !before.list_ids.contains(list)).collect();
        let removed: Vec<i64> = change.unlink.iter().copied().filter(|list| before.list_ids.contains(list)).collect();
        let readdressed =
            change.email.as_ref().is_some_and(|email| before.email.as_ref().is_some_and(|old| old != email));
        let fields: BTreeMap<String, Option<Value>> = change
            .values
            .iter()
            .filter(|(name, value)| before.attributes.get(*name) != value.as_ref())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.contacts.change(id, self.now, |contact| {
            if let Some(email) = change.email {
                // A blocklisting belongs to the address: with a new one the contact is subscribed again, unless the
                // same write says otherwise.
                contact.email_blacklisted &= !readdressed;
                contact.email = Some(email);
            }
            for (name, value) in change.values {
                match value {
                    Some(value) => _ = contact.attributes.insert(name, value),
                    None => _ = contact.attributes.remove(&name),
                }
            }
            if contact.email.is_none()
                && let Some(number) = contact.attributes.get("SMS").and_then(Value::as_str)
            {
                contact.email = Some(format!("{number}@mailin-sms.com"));
            }
            contact.email_blacklisted = change.email_blacklisted.unwrap_or(contact.email_blacklisted);
            contact.sms_blacklisted = change.sms_blacklisted.unwrap_or(contact.sms_blacklisted);
            for list in &added {
                contact.list_ids.insert(*list);
                // Brevo lets anybody put people back on a list that they left.
                contact.list_unsubscribed.remove(list);
            }
            for list in &removed {
                contact.list_ids.remove(list);
            }
        });
        for list in &added {
            self.lists.join(*list, id);
        }
        for list in &removed {
            self.lists.leave(*list, id);
        }
        self.fire_change(&before, id, is_new, &fields, &added, hand);
    }

    /// Takes a contact away.
    pub(super) fn delete_contact(&mut self, id: i64) {
        let Some(contact) = self.contacts.remove(id) else { return };
        for list in &contact.list_ids {
            self.lists.leave(*list, id);
        }
        self.crm.forget_contact(id);
        self.fire_deleted(&contact);
    }

    /// The contact that a path names.
    pub(super) fn identify(&self, call: &Call) -> Result<i64, Reply> {
        let value = call.part(1);
        let absent = || Reply::not_found("Contact does not exist");
        let by_email = || {
            let address = attributes::email(value).ok_or_else(|| Reply::invalid("Invalid email address"))?;
            self.contacts.find(Key::Email, &address).ok_or_else(absent)
        };
        let by_id = || value.parse().ok().filter(|id| self.contacts.get(*id).is_some());
        let by_number = |key: Key| {
            let number = attributes::phone(value).ok_or_else(|| Reply::invalid("Invalid phone number"))?;
            self.contacts.find(key, &number).ok_or_else(absent)
        };
        match call.first("identifierType") {
            Some("email_id") => by_email(),
            Some("contact_id") => match value.parse::<i64>() {
                Ok(id) if self.contacts.get(id).is_some() => Ok(id),
                Ok(_) => Err(absent()),
                Err(_) => Err(Reply::invalid("Invalid contact id")),
            },
            Some("ext_id") => self.contacts.find(Key::ExtId, value).ok_or_else(absent),
            Some("phone_id") => by_number(Key::Sms),
            Some("whatsapp_id") => by_number(Key::Whatsapp),
            Some("landline_number_id") => by_number(Key::Landline),
            Some(_) => Err(Reply::invalid("Invalid identifierType")),
            // Without a type a number is a contact id, even where an ext_id or a phone was meant; only GET also tries SMS.
            None if value.contains('@') => by_email(),
            None if call.method == "GET" => {
                let by_sms = || attributes::phone(value).and_then(|number| self.contacts.find(Key::Sms, &number));
                by_id().or_else(by_sms).ok_or_else(absent)
            }
            None if value.bytes().all(|byte| byte.is_ascii_digit()) => by_id().ok_or_else(absent),
            None => Err(Reply::invalid("Invalid email address")),
        }
    }

    /// Answers 425 while the knob says so.
    fn refuse_too_early(&mut self) -> Result<(), Reply> {
        if self.knobs.too_early == 0 {
            return Ok(());
        }
        self.knobs.too_early -= 1;
        Err(Reply::error(425, "account_in_process", "Contact is being processed, please try again later"))
    }

    /// A page of contacts, by id.
    pub(super) fn page_of(&self, ids: &[i64], count: usize) -> Reply {
        let mut body = Vec::with_capacity(ids.len() * 512 + 64);
        body.extend_from_slice(br#"{"contacts":["#);
        let mut first = true;
        for contact in ids.iter().filter_map(|id| self.contacts.get(*id)) {
            if !std::mem::take(&mut first) {
                body.push(b',');
            }
            if serde_json::to_writer(&mut body, &contact.shown(self.zone, self.knobs.described_list_unsubscribed))
                .is_err()
            {
                return Reply::error(500, "internal_error", "A contact cannot be shown");
            }
        }
        body.extend_from_slice(format!(r#"],"count":{count}}}"#).as_bytes());
        Reply { status: 200, kind: Kind::Json, body: Bytes::from(body) }
    }
}

/// The value of a unique key: cleared, set, or (`None`) not taken.
#[expect(clippy::option_option, reason = "the inner one is what a change holds: a value, or that it is cleared")]
fn read_key(key: Key, value: &Value) -> Option<Option<Value>> {
    let text = match value {
        Value::Null => return Some(None),
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if text.is_empty() {
        return Some(None);
    }
    let taken = if key == Key::ExtId { Some(text) } else { attributes::phone(&text) };
    taken.map(|text| Some(Value::String(text)))
}

pub(super) fn create(state: &mut State, call: &Call) -> Outcome {
    state.refuse_too_early()?;
    let body = call.object()?;
    let mut change = state.read_change(&body)?;
    // An address among the attributes was taken for somebody else's: "Contact already exist".
    let among_attributes = change.email.take();
    change.email = match text(&body, "email")?.filter(|email| !email.is_empty()) {
        Some(email) => Some(attributes::email(&email).ok_or_else(|| Reply::invalid("Invalid email address"))?),
        None => None,
    };
    if among_attributes.is_some() && among_attributes != change.email {
        return Err(Reply::invalid("Contact already exist"));
    }
    let update = flag(&body, "updateEnabled")?.unwrap_or(false);
    let keys: Vec<(Key, String)> = change.keys().map(|(key, value)| (key, value.to_owned())).collect();
    if !keys.iter().any(|(key, _)| matches!(key, Key::Email | Key::ExtId | Key::Sms)) {
        return Err(Reply::missing("At least one of email, ext_id or SMS is required"));
    }
    // With an address, the address decides; else the first key that finds somebody.
    let find = |(key, value): &(Key, String)| state.contacts.find(*key, value);
    let existing = match &change.email {
        Some(email) => state.contacts.find(Key::Email, email),
        None => keys.iter().find_map(find),
    };
    match existing {
        Some(id) if update => {
            state.refuse_conflicts("update", &change, Some(id))?;
            state.apply(id, change, Hand::Api);
            Ok(Reply::empty(204))
        }
        _ => {
            state.refuse_conflicts("create", &change, None)?;
            let id = state.create_contact(change, Hand::Api);
            Ok(Reply::json(201, &json!({"id": id})))
        }
    }
}

pub(super) fn update(state: &mut State, call: &Call) -> Outcome {
    state.refuse_too_early()?;
    let id = state.identify(call)?;
    let change = state.read_change(&call.object()?)?;
    state.refuse_conflicts("update", &change, Some(id))?;
    state.apply(id, change, Hand::Api);
    Ok(Reply::empty(204))
}

pub(super) fn delete(state: &mut State, call: &Call) -> Outcome {
    let id = state.identify(call)?;
    let owner = state.options.owner_email.to_lowercase();
    if state.contacts.get(id).and_then(|contact| contact.email.as_deref()) == Some(owner.as_str()) {
        return Err(Reply::error(
            405,
            "method_not_allowed",
            "You are not allowed to delete the registered email contact",
        ));
    }
    state.delete_contact(id);
    Ok(Reply::empty(204))
}

pub(super) fn get(state: &mut State, call: &Call) -> Outcome {
    let id = state.identify(call)?;
    let Some(contact) = state.contacts.get(id) else { return Err(Reply::not_found("Contact does not exist")) };
    let mut shown =
        serde_json::to_value(contact.shown(state.zone, state.knobs.described_list_unsubscribed)).unwrap_or_default();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("statistics".into(), json!({}));
    }
    Ok(Reply::json(200, &shown))
}

pub(super) fn list(state: &mut State, call: &Call) -> Outcome {
    let (limit, offset) = call.page(50, 1_000)?;
    let ascending = call.ascending()?;
    let (modified, created) = (call.instant("modifiedSince")?, call.instant("createdSince")?);
    let (ids, lists) = (call.numbers("ids")?, call.numbers("listIds")?);
    let segment = call.first("segmentId");
    if ids.len() > 20 {
        return Err(Reply::error(400, "out_of_range", "ids holds more than 20 values"));
    }
    if segment.is_some() {
        let message = if lists.is_empty() { "Segment does not exist" } else { "Use either listIds or segmentId" };
        return Err(Reply::invalid(message));
    }
    let filter = call.first("filter").map(|text| Filter::read(text, state)).transpose()?;
    let fits = |contact: &Contact| {
        // Both are inclusive: the one that sits exactly on the cursor comes again.
        modified.is_none_or(|since| contact.modified_at >= since)
            && created.is_none_or(|since| contact.created_at >= since)
            && (ids.is_empty() || ids.contains(&contact.id))
            && (lists.is_empty() || lists.iter().any(|list| contact.list_ids.contains(list)))
            && filter.as_ref().is_none_or(|filter| filter.fits(contact))
    };
    let is_plain = created.is_none() && ids.is_empty() && lists.is_empty() && filter.is_none();
    let mut found: Vec<i64> = if let Some(since) = modified {
        let ids = state.contacts.modified_since(since);
        if is_plain { ids } else { ids.into_iter().filter(|id| state.contacts.get(*id).is_some_and(fits)).collect() }
    } else if is_plain {
        state.contacts.ids().collect()
    } else {
        state.contacts.all().filter(|contact| fits(contact)).map(|contact| contact.id).collect()
    };
    if !ascending {
        found.reverse();
    }
    let page: Vec<i64> = found.iter().skip(offset).take(limit).copied().collect();
    Ok(state.page_of(&page, found.len()))
}

/// `equals(ATTRIBUTE,"value")`, the only filter there is.
struct Filter {
    name: String,
    wanted: Vec<String>,
}

impl Filter {
    fn read(text: &str, state: &State) -> Result<Self, Reply> {
        let refusal = || Reply::invalid("Invalid filter: expected equals(ATTRIBUTE,\"value\")");
        let inner = text.trim().strip_prefix("equals(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(refusal)?;
        let (name, value) = inner.split_once(',').ok_or_else(refusal)?;
        let (name, value) = (name.trim().to_uppercase(), value.trim().trim_matches('"').to_owned());
        let Some(attribute) = state.attribute(&name) else {
            return Err(Reply::invalid("Invalid filter: unknown attribute"));
        };
        // Categories may be asked for by label.
        let id = attribute.enumeration.iter().find(|(_, label)| *label == value).map(|(id, _)| id.to_string());
        Ok(Self { name, wanted: [Some(value), id].into_iter().flatten().collect() })
    }

    fn fits(&self, contact: &Contact) -> bool {
        let is_wanted = |text: &str| self.wanted.iter().any(|wanted| wanted == text);
        match contact.attributes.get(&self.name) {
            Some(Value::String(text)) => is_wanted(text),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).any(is_wanted),
            Some(other) => is_wanted(&other.to_string()),
            None => false,
        }
    }
}

/// Dead since 2026-10-30. How it answers since then was not seen; it must not be built on.
pub(super) fn batch(_: &mut State, _: &Call) -> Outcome {
    Err(Reply::error(410, "method_not_allowed", "This endpoint is deprecated, use /contacts/import instead"))
}
