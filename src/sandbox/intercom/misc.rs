//! `/me`, admins, tags, notes, subscriptions, events.

use super::answer::{Answer, Asked, Reply, error, not_found, ok};
use super::contacts;
use super::state::{AppliedTag, Contact, Note, Slot, State};
use super::view::{tag_applied, tag_basic};
use super::webhooks;
use serde_json::{Value, json};

/// The admin that the token belongs to.
pub(super) const FIRST_ADMIN: i64 = 991_267_486;

/// id, name, e-mail.
pub(super) const ADMINS: [(i64, &str, &str); 3] = [
    (FIRST_ADMIN, "Ada Support", "ada@support.example.com"),
    (991_267_487, "Ben Support", "ben@support.example.com"),
    (991_267_488, "Chloe Support", "chloe@support.example.com"),
];

fn admin_value(id: i64, name: &str, email: &str) -> Value {
    json!({
        "type": "admin", "id": id.to_string(), "name": name, "email": email, "job_title": "Support",
        "away_mode_enabled": false, "away_mode_reassign": false, "has_inbox_seat": true, "team_ids": [],
    })
}

/// An admin by number, the first one if there is none of that number.
pub(super) fn admin_named(id: i64) -> (i64, &'static str, &'static str) {
    ADMINS.into_iter().find(|(own, ..)| *own == id).unwrap_or(ADMINS[0])
}

pub(super) fn me(state: &State) -> Answer {
    let (id, name, email) = ADMINS[0];
    let mut value = admin_value(id, name, email);
    if let Some(map) = value.as_object_mut() {
        map.insert("email_verified".to_owned(), true.into());
        map.insert(
            "avatar".to_owned(),
            json!({"type": "avatar", "image_url": "https://static.example.com/avatars/1.png"}),
        );
        let app = json!({
            "type": "app", "id_code": state.options.app_id, "name": "Sandbox workspace", "created_at": 1_671_465_577,
            "secure": false, "identity_verification": false, "timezone": state.options.timezone.name(), "region": "US",
        });
        map.insert("app".to_owned(), app);
    }
    ok(&value)
}

pub(super) fn admins() -> Answer {
    let admins: Vec<Value> = ADMINS.into_iter().map(|(id, name, email)| admin_value(id, name, email)).collect();
    ok(&json!({"type": "admin.list", "admins": admins}))
}

pub(super) fn admin(id: &str) -> Reply {
    let found = ADMINS.into_iter().find(|(own, ..)| own.to_string() == id);
    let (id, name, email) = found.ok_or_else(|| error(404, "admin_not_found", "Admin not found"))?;
    Ok(ok(&admin_value(id, name, email)))
}

pub(super) fn tags(state: &State) -> Answer {
    let data: Vec<Value> = state.tags.keys().map(|id| tag_basic(state, id)).collect();
    ok(&json!({"type": "list", "data": data}))
}

fn tag_missing() -> Answer {
    not_found("Resource Not Found")
}

pub(super) fn tag(state: &State, id: &str) -> Reply {
    if state.tags.contains_key(id) { Ok(ok(&tag_basic(state, id))) } else { Err(tag_missing()) }
}

/// One endpoint for four things: create, rename, tag companies or contacts, untag companies.
pub(super) fn post_tag(state: &mut State, asked: &Asked) -> Reply {
    let Some(name) = asked.text("name").filter(|name| !name.is_empty()).map(str::to_owned) else {
        return Err(error(400, "parameter_invalid", "invalid tag parameters"));
    };
    if let Some(id) = asked.text("id").map(str::to_owned) {
        let Some(old) = state.tags.insert(id.clone(), name.clone()) else {
            state.tags.remove(&id);
            return Err(tag_missing());
        };
        state.tag_by_name.remove(&old.to_lowercase());
        state.tag_by_name.insert(name.to_lowercase(), id.clone());
        return tag(state, &id);
    }
    let id = state.tag_named(&name);
    for company in asked.body.get("companies").and_then(Value::as_array).into_iter().flatten() {
        let by_id = company.get("id").and_then(Value::as_str).filter(|id| state.companies.contains_key(*id));
        let remote = company.get("company_id").and_then(Value::as_str);
        let found = by_id.or_else(|| state.company_by_remote.get(remote?).map(String::as_str)).map(str::to_owned);
        let Some(found) = found else { return Err(error(404, "company_not_found", "Company Not Found")) };
        let untag = company.get("untag").and_then(Value::as_bool) == Some(true);
        if let Some(company) = state.companies.get_mut(&found) {
            company.tags.retain(|own| *own != id);
            if !untag {
                company.tags.push(id.clone());
            }
        }
    }
    for user in asked.body.get("users").and_then(Value::as_array).into_iter().flatten() {
        let Some(slot) = user.get("id").and_then(Value::as_str).and_then(|id| state.live(id)) else {
            return Err(not_found("User Not Found"));
        };
        put_tag(state, slot, &id);
    }
    tag(state, &id)
}

pub(super) fn delete_tag(state: &mut State, id: &str) -> Reply {
    let Some(name) = state.tags.remove(id) else { return Err(tag_missing()) };
    state.tag_by_name.remove(&name.to_lowercase());
    let holders: Vec<Slot> = (0..)
        .zip(&state.contacts)
        .filter(|(_, contact)| contact.tags.iter().any(|own| own.id == id))
        .map(|(slot, _)| slot)
        .collect();
    for slot in holders {
        state.change(slot, |contact| contact.tags.retain(|own| own.id != id));
    }
    Ok(Answer { status: 200, body: Vec::new(), headers: Vec::new() })
}

/// Tags a contact, unless it is tagged already.
pub(super) fn put_tag(state: &mut State, slot: Slot, id: &str) {
    if state.contact(slot).is_some_and(|contact| contact.tags.iter().any(|own| own.id == id)) {
        return;
    }
    let applied_at = state.now();
    state.change(slot, |contact| contact.tags.push(AppliedTag { id: id.to_owned(), applied_at }));
    webhooks::tagged(state, slot, id, true);
}

pub(super) fn take_tag(state: &mut State, slot: Slot, id: &str) {
    if state.contact(slot).is_some_and(|contact| contact.tags.iter().any(|own| own.id == id)) {
        state.change(slot, |contact| contact.tags.retain(|own| own.id != id));
        webhooks::tagged(state, slot, id, false);
    }
}

pub(super) fn tags_of_contact(state: &State, asked: &Asked, slot: Slot) -> Reply {
    asked.per_page(50, 60)?;
    let tags = state.contact(slot).map_or(&[][..], |contact| &contact.tags);
    let data: Vec<Value> = tags.iter().map(|tag| tag_applied(state, &tag.id, tag.applied_at)).collect();
    Ok(ok(&json!({"type": "list", "data": data})))
}

pub(super) fn attach_tag(state: &mut State, asked: &Asked, slot: Slot) -> Reply {
    let id = body_id(asked).filter(|id| state.tags.contains_key(id)).ok_or_else(tag_missing)?;
    put_tag(state, slot, &id);
    Ok(ok(&tag_applied(state, &id, state.now())))
}

pub(super) fn detach_tag(state: &mut State, slot: Slot, id: &str) -> Reply {
    let applied = state.contact(slot).and_then(|contact| contact.tags.iter().find(|own| own.id == id)).cloned();
    let applied = applied.ok_or_else(tag_missing)?;
    take_tag(state, slot, id);
    Ok(ok(&tag_applied(state, id, applied.applied_at)))
}

/// The body's `id`, which clients send as text or as a number.
pub(super) fn body_id(asked: &Asked) -> Option<String> {
    match asked.body.get("id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn note_value(state: &State, note: &Note) -> Value {
    let (id, name, email) = ADMINS[0];
    json!({
        "type": "note", "id": note.id, "created_at": note.created,
        "contact": state.contact(note.contact).map(|contact| json!({"type": "contact", "id": contact.id})),
        "author": admin_value(id, name, email),
        "body": note.body,
    })
}

pub(super) fn notes_of_contact(state: &State, asked: &Asked, slot: Slot) -> Reply {
    let (page, per_page) = (asked.page()?, asked.per_page(50, 60)?);
    let ids = state.contact(slot).map_or(&[][..], |contact| &contact.notes);
    let total = ids.len();
    let pages = total.div_ceil(per_page);
    let data: Vec<Value> = ids
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .filter_map(|id| state.notes.get(id))
        .map(|note| note_value(state, note))
        .collect();
    let mut info = json!({"type": "pages", "page": page, "per_page": per_page, "total_pages": pages});
    if page < pages
        && let Some(map) = info.as_object_mut()
    {
        map.insert("next".to_owned(), json!({"page": page + 1, "per_page": per_page}));
    }
    Ok(ok(&json!({"type": "list", "data": data, "total_count": total, "pages": info})))
}

pub(super) fn create_note(state: &mut State, asked: &Asked, slot: Slot) -> Reply {
    let Some(body) = asked.text("body").map(|body| format!("<p>{body}</p>")) else {
        return Err(error(400, "parameter_not_found", "body not specified"));
    };
    let note = Note { id: state.next().to_string(), contact: slot, body, created: state.now() };
    let value = note_value(state, &note);
    state.change(slot, |contact| contact.notes.insert(0, note.id.clone()));
    state.notes.insert(note.id.clone(), note);
    Ok(ok(&value))
}

pub(super) fn note(state: &State, id: &str) -> Reply {
    state.notes.get(id).map(|note| ok(&note_value(state, note))).ok_or_else(tag_missing)
}

/// id, name, consent type.
const SUBSCRIPTIONS: [(&str, &str, &str); 2] = [("93", "Newsletters", "opt_out"), ("94", "Product updates", "opt_in")];

fn subscription_value(id: &str) -> Option<Value> {
    let (id, name, consent) = SUBSCRIPTIONS.into_iter().find(|(own, ..)| *own == id)?;
    let translation = json!({"name": name, "description": "What we write about", "locale": "en"});
    Some(json!({
        "type": "subscription", "id": id, "state": "live", "consent_type": consent,
        "default_translation": translation, "translations": [translation], "content_types": ["email"],
    }))
}

pub(super) fn subscription_types() -> Answer {
    let data: Vec<Value> = SUBSCRIPTIONS.iter().filter_map(|(id, ..)| subscription_value(id)).collect();
    ok(&json!({"type": "list", "data": data}))
}

pub(super) fn subscriptions_of_contact(state: &State, slot: Slot) -> Answer {
    let chosen = state.contact(slot).map_or(&[][..], |contact| &contact.subscriptions);
    let data: Vec<Value> = chosen.iter().filter_map(|(id, _)| subscription_value(id)).collect();
    ok(&json!({"type": "list", "data": data}))
}

pub(super) fn choose_subscription(state: &mut State, asked: &Asked, slot: Slot) -> Reply {
    let id = body_id(asked).unwrap_or_default();
    let value = subscription_value(&id).ok_or_else(tag_missing)?;
    let opted_in = asked.text("consent_type") == Some("opt_in");
    state.change(slot, |contact| {
        contact.subscriptions.retain(|(own, _)| *own != id);
        contact.subscriptions.push((id, opted_in));
    });
    granular(state, slot, opted_in, &value);
    Ok(ok(&value))
}

pub(super) fn drop_subscription(state: &mut State, slot: Slot, id: &str) -> Reply {
    let value = subscription_value(id).ok_or_else(tag_missing)?;
    let choice = state.contact(slot).and_then(|contact| contact.subscriptions.iter().find(|(own, _)| own == id));
    let Some(opted_in) = choice.map(|(_, opted_in)| *opted_in) else { return Err(tag_missing()) };
    state.change(slot, |contact| contact.subscriptions.retain(|(own, _)| own != id));
    granular(state, slot, !opted_in, &value);
    Ok(ok(&value))
}

fn granular(state: &mut State, slot: Slot, opted_in: bool, subscription: &Value) {
    let (topic, kind) = if opted_in {
        ("granular.subscribe", "granular_subscribe")
    } else {
        ("granular.unsubscribe", "granular_unsubscribe")
    };
    let Some(contact) = state.contact(slot) else { return };
    let item = json!({
        "type": kind,
        "contact": super::view::contact_value(state, contact, super::view::Form::Webhook),
        "subscription_types": {"type": "list", "data": [subscription]},
        "created_at": state.now(),
    });
    webhooks::queue(state, topic, item);
}

/// Metadata keys kept per event.
const MOST_METADATA: usize = 10;
/// Events kept, so that a long demo does not fill the memory.
const MOST_EVENTS: usize = 100_000;

/// 202 with an empty body. The same event twice counts once.
pub(super) fn event(state: &mut State, asked: &Asked) -> Reply {
    let Some(name) = asked.text("event_name").filter(|name| !name.is_empty()) else {
        return Err(error(400, "parameter_not_found", "event_name not specified"));
    };
    let Some(created) = asked.body.get("created_at").and_then(Value::as_i64) else {
        return Err(error(400, "parameter_not_found", "created_at not specified"));
    };
    let by_id = asked.text("id").and_then(|id| state.live(id));
    let first_live = |slots: Option<&std::collections::BTreeSet<Slot>>| {
        slots.into_iter().flatten().copied().filter(|slot| state.contact(*slot).is_some_and(Contact::is_live)).collect()
    };
    let by_external: Vec<Slot> = first_live(asked.text("user_id").and_then(|id| state.by_external.get(id)));
    let by_email: Vec<Slot> =
        first_live(asked.text("email").and_then(|email| state.by_email.get(&email.to_lowercase())));
    if by_id.is_none() && by_external.is_empty() && by_email.len() > 1 {
        let message = "Multiple existing users match this email address - must be more specific using user_id";
        return Err(error(409, "conflict", message));
    }
    let Some(slot) = by_id.or(by_external.first().copied()).or(by_email.first().copied()) else {
        return Err(not_found("User Not Found"));
    };
    let metadata: serde_json::Map<String, Value> = asked
        .body
        .get("metadata")
        .and_then(Value::as_object)
        .map(|map| map.iter().take(MOST_METADATA).map(|(key, value)| (key.clone(), value.clone())).collect())
        .unwrap_or_default();
    let (contact_id, external, email) = state
        .contact(slot)
        .map(|contact| (contact.id.clone(), contact.external_id.clone(), contact.email.clone()))
        .unwrap_or_default();
    let known = state.events.iter().any(|event| {
        event["event_name"] == name
            && event["created_at"] == created
            && event["intercom_user_id"] == contact_id.as_str()
    });
    if !known && state.events.len() < MOST_EVENTS {
        let item = json!({
            "type": "event", "event_name": name, "id": null, "intercom_user_id": contact_id, "user_id": external,
            "email": email, "metadata": metadata, "created_at": created, "ext_metadata": null,
        });
        let mut item = item;
        item["id"] = state.uuid().into();
        state.events.push(item.clone());
        webhooks::queue(state, "event.created", item);
    }
    Ok(Answer { status: 202, body: Vec::new(), headers: Vec::new() })
}

pub(super) fn events(state: &State, asked: &Asked) -> Reply {
    let slot = asked
        .param("intercom_user_id")
        .and_then(|id| state.live(id))
        .or_else(|| state.by_external.get(asked.param("user_id")?)?.first().copied())
        .or_else(|| state.by_email.get(&asked.param("email")?.to_lowercase())?.first().copied())
        .ok_or_else(|| not_found("User Not Found"))?;
    let Some(contact) = state.contact(slot) else { return Err(not_found("User Not Found")) };
    let events: Vec<&Value> =
        state.events.iter().filter(|event| event["intercom_user_id"] == contact.id.as_str()).collect();
    Ok(ok(&json!({"type": "event.list", "events": events, "pages": {"next": null}})))
}

/// The live contact of a sub-path.
pub(super) fn of(state: &State, asked: &Asked, id: &str) -> Result<Slot, Answer> {
    contacts::find(state, id, asked.version)
}
