//! Notifications on their way out, in the vendor's own shape, signed over the raw bytes.

use super::state::{Contact, Role, Slot, State};
use super::view::{Form, company_webhook, contact_value, tag_basic};
use crate::sandbox::OutgoingWebhook;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;
use std::fmt::Write as _;

/// `sha1=` and the HMAC-SHA1 of `body`, in hexadecimal.
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let mut text = "sha1=".to_owned();
    if let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) {
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
        }
    }
    text
}

/// Queues one notification.
pub(super) fn queue(state: &mut State, topic: &str, item: Value) {
    if !state.webhooks_on {
        return;
    }
    let id = format!("notif_{}", state.uuid());
    push(state, topic, item, Value::from(id), Value::from("pending"));
}

/// The ping has neither id nor status.
pub(super) fn ping(state: &mut State) {
    let item = json!({"type": "ping", "message": "something something interzen"});
    push(state, "ping", item, Value::Null, Value::Null);
}

fn push(state: &mut State, topic: &str, item: Value, id: Value, status: Value) {
    let now = state.now();
    let body = json!({
        "type": "notification_event",
        "app_id": state.options.app_id,
        "data": {"type": "notification_event_data", "item": item},
        "links": {},
        "id": id,
        "topic": topic,
        "delivery_status": status,
        "delivery_attempts": 1,
        "delivered_at": 0,
        "first_sent_at": now,
        "created_at": now,
        "self": null,
    })
    .to_string()
    .into_bytes();
    let headers = vec![
        ("Content-Type".to_owned(), "application/json".to_owned()),
        ("User-Agent".to_owned(), "intercom-parrot-service-client/1.0".to_owned()),
        ("X-Hub-Signature".to_owned(), signature(&state.options.client_secret, &body)),
    ];
    state.queue(OutgoingWebhook { url: None, headers, body: body.into(), topic: topic.to_owned() });
}

fn full(state: &State, slot: Slot) -> Value {
    state.contact(slot).map_or(Value::Null, |contact| contact_value(state, contact, Form::Webhook))
}

fn role_of(state: &State, slot: Slot) -> &'static str {
    state.contact(slot).map_or("user", |contact| contact.role.name())
}

pub(super) fn contact_created(state: &mut State, slot: Slot) {
    let topic = format!("contact.{}.created", role_of(state, slot));
    let item = full(state, slot);
    queue(state, &topic, item);
}

/// What changed decides the topics: e-mail, consent and signing up have their own, all else is `updated`.
pub(super) fn contact_changed(state: &mut State, slot: Slot, before: &Contact) {
    let Some(after) = state.contact(slot).cloned() else { return };
    if before.role == Role::Lead && after.role == Role::User {
        let item = full(state, slot);
        queue(state, "contact.lead.signed_up", item);
    }
    if before.email != after.email && after.email.is_some() {
        let topic = match (after.role, &before.email) {
            (Role::Lead, None) => "contact.lead.added_email",
            _ => "contact.email.updated",
        };
        let item = full(state, slot);
        queue(state, topic, item);
    }
    if before.unsubscribed != after.unsubscribed {
        let (topic, kind) = if after.unsubscribed {
            ("contact.unsubscribed", "contact_unsubscribe")
        } else {
            ("contact.subscribed", "contact_subscribe")
        };
        // An empty list of types stands for e-mail as a whole.
        let item = json!({
            "type": kind,
            "contact": full(state, slot),
            "subscription_types": {"type": "list", "data": []},
            "created_at": state.now(),
        });
        queue(state, topic, item);
    }
    if after.sms_unsubscribed && !before.sms_unsubscribed {
        let item = json!({"type": "contact_unsubscribe", "contact": full(state, slot), "created_at": state.now()});
        queue(state, "contact.unsubscribed_from_sms", item);
    }
    let rest = Contact {
        sms_unsubscribed: before.sms_unsubscribed,
        email: before.email.clone(),
        unsubscribed: before.unsubscribed,
        updated: before.updated,
        role: before.role,
        ..after
    };
    if rest != *before || (before.email.is_some() && state.contact(slot).is_some_and(|now| now.email.is_none())) {
        let topic = format!("contact.{}.updated", role_of(state, slot));
        let item = full(state, slot);
        queue(state, &topic, item);
    }
}

/// The survivor alone, without the id that was lost: so it was captured, whatever the page says.
pub(super) fn contact_merged(state: &mut State, into: Slot) {
    let item = full(state, into);
    queue(state, "contact.merged", item);
}

pub(super) fn tagged(state: &mut State, slot: Slot, tag: &str, on: bool) {
    let verb = if on { "created" } else { "deleted" };
    let topic = format!("contact.{}.tag.{verb}", role_of(state, slot));
    let item = json!({
        "type": "contact_tag",
        "created_at": state.now(),
        "tag": tag_basic(state, tag),
        "contact": full(state, slot),
    });
    queue(state, &topic, item);
}

pub(super) fn company(state: &mut State, id: &str, topic: &str) {
    if let Some(company) = state.companies.get(id) {
        let item = company_webhook(state, company, false);
        queue(state, topic, item);
    }
}

/// Without a `type` at the item's level, as captured.
pub(super) fn attached(state: &mut State, slot: Slot, company: &str, on: bool) {
    let Some(company) = state.companies.get(company) else { return };
    let item = json!({"company": company_webhook(state, company, true), "contact": full(state, slot)});
    queue(state, if on { "company.contact.attached" } else { "company.contact.detached" }, item);
}

/// A conversation with only the parts that triggered it.
pub(super) fn conversation(state: &mut State, id: u64, topic: &str, parts: usize) {
    let Some(conversation) = state.conversations.get(&id) else { return };
    let item = super::conversation_view::webhook(state, conversation, parts);
    queue(state, topic, item);
}
