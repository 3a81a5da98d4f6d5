//! People's hands: what happens in Brevo's own screens and in people's mailboxes, without HTTP; and a look at what is
//! really there.

use super::BrevoSandbox;
use super::attributes;
use super::contacts::Change;
use super::directory::{Contact, Key};
use super::events::ReceivedEvent;
use super::state::{Hand, State};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A contact that somebody made by hand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContactSeed {
    /// The address.
    pub email: Option<String>,
    /// The phone, with its country code.
    pub phone: Option<String>,
    /// The outer id.
    pub ext_id: Option<String>,
    /// Values by attribute name. They are stored as given.
    pub attributes: BTreeMap<String, Value>,
    /// Lists that it is on.
    pub list_ids: Vec<i64>,
    /// Lists that it left.
    pub list_unsubscribed: Vec<i64>,
    /// No e-mail campaigns.
    pub email_blacklisted: bool,
}

impl State {
    fn by_email(&self, email: &str) -> Option<i64> {
        self.contacts.find(Key::Email, &attributes::email(email)?)
    }

    /// `None` when one of its unique keys is taken.
    pub(super) fn plant(&mut self, seed: ContactSeed) -> Option<i64> {
        let upper = |(name, value): (String, Value)| (name.to_uppercase(), Some(value));
        let mut values: BTreeMap<String, Option<Value>> = seed.attributes.into_iter().map(upper).collect();
        if let Some(phone) = seed.phone.as_deref().and_then(attributes::phone) {
            values.insert("SMS".into(), Some(json!(phone)));
        }
        if let Some(ext_id) = seed.ext_id {
            values.insert("EXT_ID".into(), Some(json!(ext_id)));
        }
        let change = Change {
            email: seed.email.as_deref().and_then(attributes::email),
            values,
            email_blacklisted: Some(seed.email_blacklisted),
            link: seed.list_ids.into_iter().filter(|id| self.lists.has(*id)).collect(),
            ..Change::default()
        };
        if change.keys().next().is_none() || !self.conflicts(&change, None).is_empty() {
            return None;
        }
        let id = self.create_contact(change, Hand::Person);
        if !seed.list_unsubscribed.is_empty() {
            self.contacts.change(id, self.now, |contact| contact.list_unsubscribed.extend(seed.list_unsubscribed));
        }
        Some(id)
    }

    fn by_hand(&mut self, email: &str, change: Change) -> bool {
        let Some(id) = self.by_email(email) else { return false };
        if !self.conflicts(&change, Some(id)).is_empty() {
            return false;
        }
        self.apply(id, change, Hand::Person);
        true
    }

    /// A blocklisting that a campaign's mail led to.
    fn by_campaign(&mut self, email: &str, event: &str, name: &str, reason: Option<&str>) -> bool {
        let Some(id) = self.by_email(email) else { return false };
        self.apply(id, Change { email_blacklisted: Some(true), ..Change::default() }, Hand::Person);
        let Some(contact) = self.contacts.get(id).cloned() else { return false };
        self.fire_campaign(event, name, &contact, reason);
        true
    }
}

impl BrevoSandbox {
    /// Makes a contact by hand; `None` when a unique key is taken or missing.
    pub fn create_contact(&self, seed: ContactSeed) -> Option<i64> {
        self.with(|state| state.plant(seed))
    }

    /// Edits values by hand; `null` clears. False when nobody has that address or a unique key is taken.
    pub fn edit_attributes(&self, email: &str, values: &[(&str, Value)]) -> bool {
        let value = |value: &Value| (!value.is_null()).then(|| value.clone());
        let values = values.iter().map(|(name, given)| (name.to_uppercase(), value(given))).collect();
        self.with(|state| state.by_hand(email, Change { values, ..Change::default() }))
    }

    /// The person unsubscribes from everything, from a campaign's mail.
    pub fn unsubscribe(&self, email: &str) -> bool {
        self.with(|state| state.by_campaign(email, "unsubscribed", "unsubscribed", None))
    }

    /// Somebody blocklists the contact in Brevo's screens.
    pub fn blocklist(&self, email: &str) -> bool {
        self.with(|state| state.by_hand(email, Change { email_blacklisted: Some(true), ..Change::default() }))
    }

    /// The person subscribes again.
    pub fn resubscribe(&self, email: &str) -> bool {
        self.with(|state| state.by_hand(email, Change { email_blacklisted: Some(false), ..Change::default() }))
    }

    /// The person leaves one list by its own hand.
    pub fn leave_list(&self, email: &str, list: i64) -> bool {
        self.with(|state| {
            if !state.by_hand(email, Change { unlink: vec![list], ..Change::default() }) {
                return false;
            }
            if let Some(id) = state.by_email(email) {
                let now = state.now;
                state.contacts.change(id, now, |contact| _ = contact.list_unsubscribed.insert(list));
            }
            true
        })
    }

    /// Somebody puts the contact on a list.
    pub fn add_to_list(&self, email: &str, list: i64) -> bool {
        self.with(|state| {
            state.lists.has(list) && state.by_hand(email, Change { link: vec![list], ..Change::default() })
        })
    }

    /// Somebody takes the contact off a list: it did not leave by itself.
    pub fn remove_from_list(&self, email: &str, list: i64) -> bool {
        self.with(|state| state.by_hand(email, Change { unlink: vec![list], ..Change::default() }))
    }

    /// Somebody changes the address (and a blocklisting goes with the old one).
    pub fn change_email(&self, email: &str, new: &str) -> bool {
        let Some(new) = attributes::email(new) else { return false };
        self.with(|state| state.by_hand(email, Change { email: Some(new), ..Change::default() }))
    }

    /// Somebody deletes the contact.
    pub fn delete(&self, email: &str) -> bool {
        self.with(|state| {
            let Some(id) = state.by_email(email) else { return false };
            state.delete_contact(id);
            true
        })
    }

    /// A campaign's mail bounces for good, which blocklists.
    pub fn hard_bounce(&self, email: &str) -> bool {
        self.with(|state| state.by_campaign(email, "hardBounce", "hard_bounce", Some("mailbox does not exist")))
    }

    /// The person reports a campaign's mail as spam, which blocklists.
    pub fn spam(&self, email: &str) -> bool {
        self.with(|state| state.by_campaign(email, "spam", "spam", None))
    }

    /// Makes a list in the first folder; the same name gives the same list.
    pub fn create_list(&self, name: &str) -> i64 {
        self.with(|state| {
            let now = state.now;
            state.lists.by_name(name).unwrap_or_else(|| state.lists.create(name, 1, now))
        })
    }

    /// Makes sure that a list with this id is there, for configs that name lists by id.
    pub fn ensure_list(&self, id: i64, name: &str) {
        self.with(|state| state.lists.insert(id, name, state.now));
    }

    /// Makes a normal attribute; false when the name is taken.
    pub fn create_attribute(&self, name: &str, kind: &str) -> bool {
        self.with(|state| state.add_attribute(name, kind, Vec::new()))
    }

    /// Makes a multiple-choice attribute; false when the name is taken.
    pub fn create_multiple_choice(&self, name: &str, options: &[&str]) -> bool {
        let options = options.iter().map(ToString::to_string).collect();
        self.with(|state| state.add_attribute(name, "multiple-choice", options))
    }

    /// Replaces the options of a multiple-choice attribute, as somebody in Brevo would; false when there is none.
    pub fn set_options(&self, name: &str, options: &[&str]) -> bool {
        self.with(|state| {
            let found = state.attributes.iter_mut().find(|attribute| attribute.name.eq_ignore_ascii_case(name));
            let Some(found) = found else { return false };
            found.options = options.iter().map(ToString::to_string).collect();
            true
        })
    }

    /// How long imports take from now on; those that are on their way keep their time.
    pub fn imports_take(&self, delay: std::time::Duration) {
        self.with(|state| state.options.import_delay = delay);
    }

    /// The contact that has this address.
    pub fn contact_by_email(&self, email: &str) -> Option<Contact> {
        self.with(|state| state.contacts.get(state.by_email(email)?).cloned())
    }

    /// The contact with this id.
    pub fn contact(&self, id: i64) -> Option<Contact> {
        self.with(|state| state.contacts.get(id).cloned())
    }

    /// All contacts, in order of creation.
    pub fn contacts(&self) -> Vec<Contact> {
        self.with(|state| state.contacts.all().cloned().collect())
    }

    /// How many contacts there are.
    pub fn contact_count(&self) -> usize {
        self.with(|state| state.contacts.len())
    }

    /// Who is on a list.
    pub fn list_members(&self, list: i64) -> BTreeSet<i64> {
        self.with(|state| state.lists.get(list).map(|list| list.members.clone()).unwrap_or_default())
    }

    /// The list of this name.
    pub fn list_id(&self, name: &str) -> Option<i64> {
        self.with(|state| state.lists.by_name(name))
    }

    /// Every event that was taken, in order of arrival.
    pub fn events(&self) -> Vec<ReceivedEvent> {
        self.with(|state| state.events.clone())
    }

    /// Name and type of every attribute that contacts carry.
    pub fn attribute_types(&self) -> BTreeMap<String, String> {
        self.with(|state| {
            let writable = state.attributes.iter().filter(|attribute| attribute.is_writable());
            writable.map(|attribute| (attribute.name.clone(), attribute.shown_type().to_owned())).collect()
        })
    }

    /// Every unfinished import lands now, if its time has come; returns what the clock shows.
    pub fn settle(&self) -> DateTime<Utc> {
        self.with(|state| state.now)
    }
}
