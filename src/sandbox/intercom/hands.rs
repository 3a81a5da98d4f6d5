//! People's hands: what teammates and contacts do in the apps, without HTTP.
//!
//! Every act moves `updated_at` by the clock and queues the notifications that the vendor would send.

use super::answer::Answer;
use super::state::{AiAgent, Author, Contact, Role, Slot, State};
use super::view::{Form, company_value, contact_value};
use super::{IntercomSandbox, attributes, companies, contacts, conversation_view, conversations, misc, webhooks};
use serde_json::{Map, Value, json};

/// A contact to be made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContactSeed {
    /// A lead; else a user.
    pub lead: bool,
    /// The customer's own id. Leads without one get one made up.
    pub external_id: Option<String>,
    /// E-mail, as typed.
    pub email: Option<String>,
    /// Phone, as typed: nothing checks it.
    pub phone: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Whether opted out of e-mail from the start.
    pub unsubscribed: bool,
    /// When signed up, unix seconds.
    pub signed_up_at: Option<i64>,
    /// Custom attributes; undefined ones are defined on the way.
    pub custom_attributes: Map<String, Value>,
}

/// A contact as its teammates know it, gone ones too: without JSON, for whoever looks at all of them again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// It is neither archived, deleted nor merged away.
    pub live: bool,
    /// A lead; else a user.
    pub lead: bool,
    /// The customer's own id.
    pub external_id: Option<String>,
    /// E-mail, as typed.
    pub email: Option<String>,
    /// Phone, as typed.
    pub phone: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Unsubscribed from e-mail, bounced or marked as spam.
    pub opted_out: bool,
    /// Unsubscribed from text messages.
    pub sms_opted_out: bool,
    /// Custom attributes.
    pub custom_attributes: Map<String, Value>,
    /// The names of its tags.
    pub tags: Vec<String>,
    /// The names of its companies.
    pub companies: Vec<String>,
    /// Whom it was merged into.
    pub merged_into: Option<String>,
}

/// What a hand could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox's Intercom refused: {0}")]
pub struct HandsError(pub String);

impl From<Answer> for HandsError {
    fn from(answer: Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Self(body["errors"][0]["message"].as_str().unwrap_or("unknown").to_owned())
    }
}

type Done<T = ()> = Result<T, HandsError>;

fn live(state: &State, id: &str) -> Done<Slot> {
    state.live(id).ok_or_else(|| HandsError("there is no such contact".to_owned()))
}

fn conversation(state: &State, id: &str) -> Done<u64> {
    let known = id.parse().ok().filter(|id| state.conversations.contains_key(id));
    known.ok_or_else(|| HandsError("there is no such conversation".to_owned()))
}

/// Defines what is missing, with the type that the value suggests.
fn define_missing(state: &mut State, model: &str, values: &Map<String, Value>) -> Result<(), Answer> {
    for (name, value) in values {
        if state.attributes.iter().any(|known| known.id.is_some() && known.model == model && &known.name == name) {
            continue;
        }
        let data_type = match value {
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() => "integer",
            Value::Number(_) => "float",
            _ => "string",
        };
        attributes::define(state, model, name, data_type, Vec::new())?;
    }
    Ok(())
}

impl IntercomSandbox {
    /// Runs an act under the lock and wakes who waits for notifications.
    fn act<T>(&self, act: impl FnOnce(&mut State) -> Done<T>) -> Done<T> {
        let mut state = self.lock();
        let result = act(&mut state);
        self.announce(&state);
        result
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Contact)) -> Done {
        self.act(|state| {
            let slot = live(state, id)?;
            let Some(before) = state.contact(slot).cloned() else { return Ok(()) };
            let mut after = before.clone();
            change(&mut after);
            contacts::replace(state, slot, before, after);
            Ok(())
        })
    }

    /// A new contact; its id. Unlike over the API, nothing is refused: the vendor's own apps make duplicates too.
    pub fn create_contact(&self, seed: ContactSeed) -> String {
        let mut state = self.lock();
        // An attribute that cannot be defined is still on the contact: people see it, searches do not find it.
        define_missing(&mut state, "contact", &seed.custom_attributes).ok();
        let now = state.now_ms;
        let id = state.object_id(now);
        let role = if seed.lead { Role::Lead } else { Role::User };
        let external_id = seed.external_id.or_else(|| seed.lead.then(|| state.uuid()));
        let contact = Contact {
            external_id,
            email: seed.email,
            phone: seed.phone,
            name: seed.name,
            unsubscribed: seed.unsubscribed,
            signed_up: seed.signed_up_at,
            custom: seed.custom_attributes,
            ..Contact::blank(id.clone(), role, now)
        };
        let slot = state.insert(contact, true);
        webhooks::contact_created(&mut state, slot);
        self.announce(&state);
        id
    }

    /// Writes fields as `PUT /contacts/{id}` takes them; unknown custom attributes are defined on the way.
    pub fn edit_contact(&self, id: &str, patch: &Value) -> Done {
        self.act(|state| {
            let slot = live(state, id)?;
            if let Some(values) = patch.get("custom_attributes").and_then(Value::as_object) {
                define_missing(state, "contact", values)?;
            }
            Ok(contacts::update_slot(state, slot, patch)?)
        })
    }

    /// Changes, adds or (`None`) removes the e-mail.
    pub fn set_email(&self, id: &str, email: Option<&str>) -> Done {
        self.change(id, |contact| contact.email = email.map(str::to_owned))
    }

    /// The contact opts out of all e-mail.
    pub fn unsubscribe(&self, id: &str) -> Done {
        self.change(id, |contact| contact.unsubscribed = true)
    }

    /// The contact opts out of text messages.
    pub fn unsubscribe_from_sms(&self, id: &str) -> Done {
        self.change(id, |contact| contact.sms_unsubscribed = true)
    }

    /// The contact opts in again.
    pub fn resubscribe(&self, id: &str) -> Done {
        self.change(id, |contact| contact.unsubscribed = false)
    }

    /// An e-mail bounced for good.
    pub fn mark_bounced(&self, id: &str) -> Done {
        self.change(id, |contact| contact.bounced = true)
    }

    /// The address takes e-mail again.
    pub fn clear_bounce(&self, id: &str) -> Done {
        self.change(id, |contact| contact.bounced = false)
    }

    /// The contact called an e-mail spam.
    pub fn mark_spam(&self, id: &str) -> Done {
        self.change(id, |contact| contact.spam = true)
    }

    /// The contact is seen in the messenger now; its companies are active too.
    pub fn touch_last_seen(&self, id: &str) -> Done {
        let now = self.lock().now();
        self.change(id, |contact| contact.last_seen = Some(now))?;
        self.act(|state| {
            let slot = live(state, id)?;
            for company in state.contact(slot).map(|contact| contact.companies.clone()).unwrap_or_default() {
                let now_ms = state.now_ms;
                if let Some(company) = state.companies.get_mut(&company) {
                    company.last_request = Some(now);
                    company.updated = now_ms;
                }
            }
            Ok(())
        })
    }

    /// Tags a contact, making the tag if it is new; the tag's id.
    pub fn tag(&self, id: &str, name: &str) -> Done<String> {
        self.act(|state| {
            let slot = live(state, id)?;
            let tag = state.tag_named(name);
            misc::put_tag(state, slot, &tag);
            Ok(tag)
        })
    }

    /// Takes a tag off a contact.
    pub fn untag(&self, id: &str, name: &str) -> Done {
        self.act(|state| {
            let slot = live(state, id)?;
            let tag = state.tag_named(name);
            misc::take_tag(state, slot, &tag);
            Ok(())
        })
    }

    /// Archives a contact.
    pub fn archive(&self, id: &str) -> Done {
        self.act(|state| {
            let slot = live(state, id)?;
            contacts::put_away(state, slot);
            Ok(())
        })
    }

    /// Brings an archived contact back.
    pub fn unarchive(&self, id: &str) -> Done {
        self.act(|state| Ok(contacts::unarchive(state, id).map(drop)?))
    }

    /// Deletes a contact for good.
    pub fn delete(&self, id: &str) -> Done {
        self.act(|state| {
            let slot = live(state, id)?;
            contacts::remove(state, slot);
            Ok(())
        })
    }

    /// Merges a lead into a user.
    pub fn merge(&self, lead: &str, user: &str) -> Done {
        self.act(|state| {
            let (from, into) = (live(state, lead)?, live(state, user)?);
            Ok(contacts::merge_slots(state, from, into)?)
        })
    }

    /// A lead signs up and becomes a user.
    pub fn sign_up(&self, id: &str, external_id: &str) -> Done {
        let now = self.lock().now();
        self.change(id, |contact| {
            contact.role = Role::User;
            contact.external_id = Some(external_id.to_owned());
            contact.signed_up = Some(now);
        })
    }

    /// A new company from fields as `POST /companies` takes them; its Intercom id.
    pub fn create_company(&self, fields: &Value) -> Done<String> {
        self.act(|state| {
            if let Some(values) = fields.get("custom_attributes").and_then(Value::as_object) {
                define_missing(state, "company", values)?;
            }
            Ok(companies::upsert(state, fields)?)
        })
    }

    /// Changes a company's fields.
    pub fn edit_company(&self, id: &str, fields: &Value) -> Done {
        self.act(|state| {
            if let Some(values) = fields.get("custom_attributes").and_then(Value::as_object) {
                define_missing(state, "company", values)?;
            }
            Ok(companies::edit(state, id, fields)?)
        })
    }

    /// Deletes a company.
    pub fn delete_company(&self, id: &str) -> Done {
        self.act(|state| Ok(companies::delete(state, id).map(drop)?))
    }

    /// Puts a contact into a company.
    pub fn attach_company(&self, contact: &str, company: &str) -> Done {
        self.act(|state| {
            let slot = live(state, contact)?;
            Ok(companies::attach(state, slot, company).map(drop)?)
        })
    }

    /// Takes a contact out of a company.
    pub fn detach_company(&self, contact: &str, company: &str) -> Done {
        self.act(|state| {
            let slot = live(state, contact)?;
            Ok(companies::detach(state, slot, company).map(drop)?)
        })
    }

    /// The contact writes in; the conversation's id.
    pub fn open_conversation(&self, contact: &str, body: &str) -> Done<String> {
        self.act(|state| {
            let slot = live(state, contact)?;
            Ok(conversations::open(state, slot, body, Author::Contact(slot), "conversation").to_string())
        })
    }

    /// The contact answers.
    pub fn reply(&self, id: &str, body: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            let slot = state.conversations.get(&id).and_then(|found| found.contacts.first().copied());
            let slot = slot.ok_or_else(|| HandsError("the conversation has no contact".to_owned()))?;
            conversations::reply(state, id, Author::Contact(slot), body, false);
            Ok(())
        })
    }

    /// A teammate answers.
    pub fn admin_reply(&self, id: &str, body: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            conversations::reply(state, id, Author::Admin(misc::FIRST_ADMIN), body, false);
            Ok(())
        })
    }

    /// The AI agent answers, and this is how it ended: `assumed_resolution`, `routed_to_team` …
    pub fn ai_reply(&self, id: &str, body: &str, resolution: Option<&'static str>) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            state.change_conversation(id, |found| {
                found.ai_agent = Some(AiAgent { resolution, answer: Some("ai_answer"), rating: None });
            });
            conversations::reply(state, id, Author::Bot, body, false);
            Ok(())
        })
    }

    /// A teammate closes it.
    pub fn close_conversation(&self, id: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            conversations::close(state, id, misc::FIRST_ADMIN, None);
            Ok(())
        })
    }

    /// A teammate opens it again.
    pub fn reopen(&self, id: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            conversations::reopen(state, id, misc::FIRST_ADMIN);
            Ok(())
        })
    }

    /// A teammate snoozes it until an instant (unix seconds).
    pub fn snooze(&self, id: &str, until: i64) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            conversations::snooze(state, id, misc::FIRST_ADMIN, until);
            Ok(())
        })
    }

    /// The contact rates it from 1 to 5.
    pub fn rate(&self, id: &str, score: i64, remark: Option<&str>) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            conversations::rate(state, id, score, remark);
            Ok(())
        })
    }

    /// A teammate tags a conversation. No topic reports it.
    pub fn tag_conversation(&self, id: &str, name: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            let tag = state.tag_named(name);
            conversations::put_tag(state, id, &tag);
            Ok(())
        })
    }

    /// A teammate adds a contact to a conversation.
    pub fn join_conversation(&self, id: &str, contact: &str) -> Done {
        self.act(|state| {
            let (id, slot) = (conversation(state, id)?, live(state, contact)?);
            state.change_conversation(id, |found| {
                if !found.contacts.contains(&slot) {
                    found.contacts.push(slot);
                }
            });
            state.conversations_of.entry(slot).or_default().insert(id);
            webhooks::conversation(state, id, "conversation.contact.attached", 0);
            Ok(())
        })
    }

    /// A teammate takes a contact out of a conversation.
    pub fn leave_conversation(&self, id: &str, contact: &str) -> Done {
        self.act(|state| {
            let (id, slot) = (conversation(state, id)?, live(state, contact)?);
            state.change_conversation(id, |found| found.contacts.retain(|other| *other != slot));
            if let Some(ids) = state.conversations_of.get_mut(&slot) {
                ids.remove(&id);
            }
            webhooks::conversation(state, id, "conversation.contact.detached", 0);
            Ok(())
        })
    }

    /// A teammate sets or lifts the priority.
    pub fn prioritise(&self, id: &str, priority: bool) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            state.change_conversation(id, |found| found.priority = priority);
            webhooks::conversation(state, id, "conversation.priority.updated", 0);
            Ok(())
        })
    }

    /// A service-level agreement applies: its name and `hit`, `missed`, `cancelled` or `active`. No topic reports it.
    pub fn apply_sla(&self, id: &str, name: &'static str, status: &'static str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            state.change_conversation(id, |found| found.sla = Some((name, status)));
            Ok(())
        })
    }

    /// Deletes a conversation. The notification is minimal and names the id in a field of its own.
    pub fn delete_conversation(&self, id: &str) -> Done {
        self.act(|state| {
            let id = conversation(state, id)?;
            if let Some(gone) = state.conversations.remove(&id) {
                state.conversations_by_updated.remove(&(gone.updated, id));
                for slot in gone.contacts {
                    if let Some(ids) = state.conversations_of.get_mut(&slot) {
                        ids.remove(&id);
                    }
                }
            }
            let item = json!({"type": "conversation", "conversation_id": id.to_string()});
            webhooks::queue(state, "conversation.deleted", item);
            Ok(())
        })
    }

    /// Defines a custom attribute (`model` is `contact` or `company`).
    pub fn define_attribute(&self, model: &str, name: &str, data_type: &str, options: &[&str]) -> Done {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        self.act(|state| Ok(attributes::define(state, model, name, data_type, options).map(drop)?))
    }

    /// Intercom pings the receiver.
    pub fn ping(&self) {
        let mut state = self.lock();
        webhooks::ping(&mut state);
        self.announce(&state);
    }

    /// A contact as the API would show it now, gone ones too; for tests to compare with.
    pub fn contact(&self, id: &str) -> Option<Value> {
        let state = self.lock();
        let contact = state.contact(state.slot_of(id)?)?;
        Some(contact_value(&state, contact, Form::Rest(super::answer::Version::DEFAULT)))
    }

    /// A contact at a glance.
    pub fn glance(&self, id: &str) -> Option<Glance> {
        let state = self.lock();
        let slot = state.slot_of(id)?;
        let contact = state.contact(slot)?;
        let into = state.canonical(slot);
        let companies = contact.companies.iter().filter_map(|id| state.companies.get(id));
        Some(Glance {
            live: contact.is_live(),
            lead: contact.role == Role::Lead,
            external_id: contact.external_id.clone(),
            email: contact.email.clone(),
            phone: contact.phone.clone(),
            name: contact.name.clone(),
            opted_out: contact.unsubscribed || contact.bounced || contact.spam,
            sms_opted_out: contact.sms_unsubscribed,
            custom_attributes: contact.custom.clone(),
            tags: contact.tags.iter().filter_map(|tag| state.tags.get(&tag.id).cloned()).collect(),
            companies: companies.filter_map(|company| company.name.clone()).collect(),
            merged_into: state.contact(into).filter(|_| into != slot).map(|survivor| survivor.id.clone()),
        })
    }

    /// Whom a contact was merged into.
    pub fn merged_into(&self, id: &str) -> Option<String> {
        let state = self.lock();
        let slot = state.slot_of(id)?;
        let into = state.canonical(slot);
        if into == slot { None } else { state.contact(into).map(|contact| contact.id.clone()) }
    }

    /// The names of a contact's tags, all of them.
    pub fn contact_tags(&self, id: &str) -> Vec<String> {
        let state = self.lock();
        let contact = state.slot_of(id).and_then(|slot| state.contact(slot));
        let tags = contact.map(|contact| contact.tags.as_slice()).unwrap_or_default();
        tags.iter().filter_map(|tag| state.tags.get(&tag.id).cloned()).collect()
    }

    /// The Intercom ids of a contact's companies, all of them.
    pub fn contact_companies(&self, id: &str) -> Vec<String> {
        let state = self.lock();
        let contact = state.slot_of(id).and_then(|slot| state.contact(slot));
        contact.map(|contact| contact.companies.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    /// A conversation as the API would show it now, for tests to compare with.
    pub fn conversation(&self, id: &str) -> Option<Value> {
        let state = self.lock();
        let found = state.conversations.get(&id.parse().ok()?)?;
        Some(conversation_view::full(&state, found, false))
    }

    /// A company as the API would show it now, for tests to compare with.
    pub fn company(&self, id: &str) -> Option<Value> {
        let state = self.lock();
        state.companies.get(id).map(|company| company_value(&state, company))
    }

    /// The ids of all contacts that are there, in order of creation.
    pub fn contact_ids(&self) -> Vec<String> {
        let state = self.lock();
        state.contacts.iter().filter(|contact| contact.is_live()).map(|contact| contact.id.clone()).collect()
    }

    /// The ids of all conversations, in order of creation.
    pub fn conversation_ids(&self) -> Vec<String> {
        self.lock().conversations.keys().map(u64::to_string).collect()
    }

    /// The Intercom ids of all companies.
    pub fn company_ids(&self) -> Vec<String> {
        self.lock().companies.keys().cloned().collect()
    }
}
