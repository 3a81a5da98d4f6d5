//! All contacts, and the indexes that find them.

use chrono::{DateTime, FixedOffset, Utc};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is unique across contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Email,
    Sms,
    Whatsapp,
    Landline,
    ExtId,
}

impl Key {
    /// The keys that are attributes.
    pub(super) const ATTRIBUTES: [Self; 4] = [Self::Sms, Self::Whatsapp, Self::Landline, Self::ExtId];

    /// The attribute's name.
    pub(super) fn attribute(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Sms => "SMS",
            Self::Whatsapp => "WHATSAPP",
            Self::Landline => "LANDLINE_NUMBER",
            Self::ExtId => "EXT_ID",
        }
    }

    /// The name in `metadata.duplicate_identifiers` and in the message. Only `email` was ever seen in public.
    pub(super) fn identifier(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::ExtId => "ext_id",
            other => other.attribute(),
        }
    }

    pub(super) fn of_attribute(name: &str) -> Option<Self> {
        Self::ATTRIBUTES.into_iter().find(|key| key.attribute() == name)
    }
}

/// A contact as it really stands: tests compare with this.
#[derive(Debug, Clone, PartialEq)]
pub struct Contact {
    /// Brevo's id.
    pub id: i64,
    /// The address; phone-only contacts have a made-up one.
    pub email: Option<String>,
    /// Values by upper-case name, SMS and EXT_ID among them.
    pub attributes: BTreeMap<String, Value>,
    /// No e-mail campaigns.
    pub email_blacklisted: bool,
    /// No SMS campaigns.
    pub sms_blacklisted: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When anything touched it last.
    pub modified_at: DateTime<Utc>,
    /// The lists it is on.
    pub list_ids: BTreeSet<i64>,
    /// The lists it left by its own hand.
    pub list_unsubscribed: BTreeSet<i64>,
}

impl Contact {
    /// The value of a unique key.
    pub(super) fn key(&self, key: Key) -> Option<&str> {
        match key {
            Key::Email => self.email.as_deref(),
            other => self.attributes.get(other.attribute()).and_then(Value::as_str),
        }
    }

    /// As the API shows it: as live accounts do, or as the description says.
    pub(super) fn shown(&self, zone: FixedOffset, described: bool) -> Shown<'_> {
        Shown {
            id: self.id,
            email: self.email.as_deref(),
            email_blacklisted: self.email_blacklisted,
            sms_blacklisted: self.sms_blacklisted,
            whatsapp_blacklisted: false,
            created_at: stamp(self.created_at, zone),
            modified_at: stamp(self.modified_at, zone),
            attributes: &self.attributes,
            list_ids: &self.list_ids,
            list_unsubscribed: (described || !self.list_unsubscribed.is_empty()).then_some(&self.list_unsubscribed),
            subscriptions: Nothing {},
        }
    }
}

/// A contact on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    email_blacklisted: bool,
    sms_blacklisted: bool,
    whatsapp_blacklisted: bool,
    created_at: String,
    modified_at: String,
    attributes: &'a BTreeMap<String, Value>,
    list_ids: &'a BTreeSet<i64>,
    /// Accounts seen live show null, not an empty array, for those who never left a list.
    list_unsubscribed: Option<&'a BTreeSet<i64>>,
    subscriptions: Nothing,
}

#[derive(Serialize)]
struct Nothing {}

/// Milliseconds and the account's offset, never `Z`: what live accounts answer, whatever the description says.
pub(super) fn stamp(instant: DateTime<Utc>, zone: FixedOffset) -> String {
    instant.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// Contacts by id, by each unique key, and by their time of change.
#[derive(Debug, Default)]
pub(super) struct Directory {
    by_id: BTreeMap<i64, Contact>,
    unique: BTreeMap<(Key, String), i64>,
    modified: BTreeSet<(i64, i64)>,
    last_id: i64,
}

impl Directory {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: i64) -> Option<&Contact> {
        self.by_id.get(&id)
    }

    pub(super) fn find(&self, key: Key, value: &str) -> Option<i64> {
        self.unique.get(&(key, value.to_owned())).copied()
    }

    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = i64> {
        self.by_id.keys().copied()
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Contact> {
        self.by_id.values()
    }

    /// New contacts get ids beyond this.
    pub(super) fn count_on_from(&mut self, id: i64) {
        self.last_id = self.last_id.max(id);
    }

    /// A new, empty contact.
    pub(super) fn create(&mut self, now: DateTime<Utc>) -> i64 {
        self.last_id += 1;
        let contact = Contact {
            id: self.last_id,
            email: None,
            attributes: BTreeMap::new(),
            email_blacklisted: false,
            sms_blacklisted: false,
            created_at: now,
            modified_at: now,
            list_ids: BTreeSet::new(),
            list_unsubscribed: BTreeSet::new(),
        };
        self.modified.insert((now.timestamp_millis(), self.last_id));
        self.by_id.insert(self.last_id, contact);
        self.last_id
    }

    /// Changes a contact and keeps the indexes true. Any touch moves `modifiedAt`, a change of lists too.
    pub(super) fn change(&mut self, id: i64, now: DateTime<Utc>, change: impl FnOnce(&mut Contact)) {
        let Some(contact) = self.by_id.get_mut(&id) else { return };
        let keys = [Key::Email, Key::Sms, Key::Whatsapp, Key::Landline, Key::ExtId];
        let before = keys.map(|key| contact.key(key).map(str::to_owned));
        self.modified.remove(&(contact.modified_at.timestamp_millis(), id));
        change(contact);
        contact.modified_at = now;
        self.modified.insert((now.timestamp_millis(), id));
        for (key, before) in keys.into_iter().zip(before) {
            let after = contact.key(key);
            if before.as_deref() == after {
                continue;
            }
            if let Some(before) = before {
                self.unique.remove(&(key, before));
            }
            if let Some(after) = after {
                self.unique.insert((key, after.to_owned()), id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: i64) -> Option<Contact> {
        let contact = self.by_id.remove(&id)?;
        self.modified.remove(&(contact.modified_at.timestamp_millis(), id));
        for key in [Key::Email, Key::Sms, Key::Whatsapp, Key::Landline, Key::ExtId] {
            if let Some(value) = contact.key(key) {
                self.unique.remove(&(key, value.to_owned()));
            }
        }
        Some(contact)
    }

    /// Who changed at or after that instant, in order of creation. Brevo cannot sort by change.
    pub(super) fn modified_since(&self, since: DateTime<Utc>) -> Vec<i64> {
        let whole = since.timestamp_subsec_nanos().is_multiple_of(1_000_000);
        let from = since.timestamp_millis().saturating_add(i64::from(!whole));
        let mut ids: Vec<i64> = self.modified.range((from, i64::MIN)..).map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
