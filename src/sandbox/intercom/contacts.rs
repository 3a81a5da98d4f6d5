//! `/contacts`: lists, search, reading, writing, merging.

use super::answer::{Answer, Asked, Reply, Version, checked_per_page, error, not_found};
use super::search::{Dates, Field, Filter, Kind, compile};
use super::state::{Contact, Role, Slot, Standing, State};
use super::view::{Form, contact_bytes};
use super::{attributes, webhooks};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Which index a walk goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Created,
    Updated,
    Seen,
}

/// A place in a walk, as the vendor encodes it: `[sort value in ms, id, page]`. It holds no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub at: i64,
    pub id: u64,
    pub page: u64,
}

impl Cursor {
    pub(super) fn encode(self) -> String {
        BASE64.encode(json!([self.at, self.id, self.page]).to_string())
    }

    pub(super) fn decode(text: &str) -> Result<Self, Answer> {
        let invalid = || error(400, "parameter_invalid", "starting_after cursor is invalid or expired");
        let bytes = BASE64.decode(text).map_err(|_| invalid())?;
        let (at, id, page) = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        Ok(Self { at, id, page })
    }
}

/// `pages` of a cursor list.
pub(super) fn cursor_pages(page: u64, per_page: usize, total: usize, next: Option<Cursor>) -> Value {
    let mut pages =
        json!({"type": "pages", "page": page, "per_page": per_page, "total_pages": total.div_ceil(per_page)});
    if let (Some(next), Some(map)) = (next, pages.as_object_mut()) {
        let next = json!({"page": next.page, "per_page": per_page, "starting_after": next.encode()});
        map.insert("next".to_owned(), next);
    }
    pages
}

/// A page of contacts, written straight into bytes.
pub(super) fn contact_page(state: &State, slots: &[Slot], total: usize, pages: &Value, version: Version) -> Answer {
    let mut body = Vec::with_capacity(64 + slots.len() * 2200);
    body.extend_from_slice(b"{\"type\":\"list\",\"data\":[");
    for (place, slot) in slots.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        if let Some(contact) = state.contact(*slot) {
            contact_bytes(state, contact, Form::Rest(version), &mut body);
        }
    }
    body.extend_from_slice(format!("],\"total_count\":{total},\"pages\":{pages}}}").as_bytes());
    Answer { status: 200, body, headers: Vec::new() }
}

fn one(state: &State, slot: Slot, version: Version) -> Reply {
    let mut body = Vec::with_capacity(2200);
    match state.contact(slot) {
        Some(contact) => contact_bytes(state, contact, Form::Rest(version), &mut body),
        None => return Err(not_found("User Not Found")),
    }
    Ok(Answer { status: 200, body, headers: Vec::new() })
}

pub(super) fn list(state: &State, asked: &Asked) -> Reply {
    let per_page = asked.per_page(50, 150)?;
    let cursor = asked.param("starting_after").map(Cursor::decode).transpose()?;
    let total = state.by_created.len();
    let (slots, next) = walk(state, Order::Created, false, cursor, per_page, (i64::MIN, i64::MAX), &|_| true);
    let page = cursor.map_or(1, |cursor| cursor.page);
    Ok(contact_page(state, &slots, total, &cursor_pages(page, per_page, total, next), asked.version))
}

fn walk(
    state: &State,
    order: Order,
    ascending: bool,
    cursor: Option<Cursor>,
    per_page: usize,
    bounds: (i64, i64),
    wanted: &dyn Fn(&Contact) -> bool,
) -> (Vec<Slot>, Option<Cursor>) {
    let index = match order {
        Order::Created => &state.by_created,
        Order::Updated => &state.by_updated,
        Order::Seen => &state.by_seen,
    };
    let (mut low, mut high) = ((bounds.0, 0), (bounds.1, Slot::MAX));
    if let Some(cursor) = cursor {
        let slot = Slot::try_from(cursor.id).unwrap_or(Slot::MAX);
        if ascending {
            low = low.max(slot.checked_add(1).map_or((cursor.at.saturating_add(1), 0), |next| (cursor.at, next)));
        } else {
            high = high.min(
                slot.checked_sub(1).map_or((cursor.at.saturating_sub(1), Slot::MAX), |before| (cursor.at, before)),
            );
        }
    }
    if low > high {
        return (Vec::new(), None);
    }
    let range = index.range(low..=high);
    let range: Box<dyn Iterator<Item = &(i64, Slot)>> = if ascending { Box::new(range) } else { Box::new(range.rev()) };
    let mut found = range.filter(|(_, slot)| state.contact(*slot).is_some_and(wanted));
    let mut last = None;
    let mut slots = Vec::with_capacity(per_page);
    for place in found.by_ref().take(per_page) {
        last = Some(*place);
        slots.push(place.1);
    }
    let page = cursor.map_or(1, |cursor| cursor.page).saturating_add(1);
    let next = found.next().and(last).map(|(at, slot)| Cursor { at, id: u64::from(slot), page });
    (slots, next)
}

fn kind_of(state: &State, field: &str) -> Option<Kind> {
    if let Some(name) = field.strip_prefix("custom_attributes.") {
        let attribute = state.attributes.iter().find(|a| a.id.is_some() && a.model == "contact" && a.name == name)?;
        return Some(match attribute.data_type.as_str() {
            "date" => Kind::Date,
            "integer" | "float" => Kind::Integer,
            "boolean" => Kind::Bool,
            _ => Kind::Text,
        });
    }
    Some(match field {
        "created_at"
        | "signed_up_at"
        | "updated_at"
        | "last_seen_at"
        | "last_contacted_at"
        | "last_replied_at"
        | "last_email_opened_at"
        | "last_email_clicked_at" => Kind::Date,
        "owner_id" => Kind::Integer,
        "unsubscribed_from_emails" | "marked_email_as_spam" | "has_hard_bounced" => Kind::Bool,
        "tag_id" => Kind::Tag,
        "id" | "role" | "name" | "avatar" | "email" | "email_domain" | "phone" | "formatted_phone" | "external_id"
        | "language_override" | "browser" | "browser_language" | "os" | "location.country" | "location.region"
        | "location.city" | "segment_id" => Kind::Text,
        _ => return None,
    })
}

fn field<'a>(state: &State, contact: &'a Contact, name: &str) -> Field<'a> {
    let text = |value: &'a Option<String>| value.as_deref().map_or(Field::Null, Field::Text);
    let date = |value: Option<i64>| value.map_or(Field::Null, |seconds| Field::Date(seconds.saturating_mul(1000)));
    if let Some(name) = name.strip_prefix("custom_attributes.") {
        let is_date = || kind_of(state, &format!("custom_attributes.{name}")) == Some(Kind::Date);
        return match contact.custom.get(name) {
            Some(Value::String(value)) => Field::Text(value),
            Some(Value::Bool(value)) => Field::Bool(*value),
            Some(Value::Number(value)) if is_date() => date(value.as_i64()),
            Some(Value::Number(value)) => value.as_f64().map_or(Field::Null, Field::Number),
            _ => Field::Null,
        };
    }
    match name {
        "id" => Field::Text(&contact.id),
        "role" => Field::Text(contact.role.name()),
        "name" => text(&contact.name),
        "avatar" => text(&contact.avatar),
        "email" => text(&contact.email),
        "email_domain" => contact
            .email
            .as_deref()
            .and_then(|email| email.rsplit_once('@'))
            .map_or(Field::Null, |(_, host)| Field::Text(host)),
        "phone" | "formatted_phone" => text(&contact.phone),
        "external_id" => text(&contact.external_id),
        "owner_id" => contact.owner_id.map_or(Field::Null, |owner| Field::Number(owner as f64)),
        "created_at" => Field::Date(contact.created),
        "updated_at" => Field::Date(contact.updated),
        "signed_up_at" => date(contact.signed_up),
        "last_seen_at" => date(contact.last_seen),
        "last_contacted_at" => date(contact.last_contacted),
        "last_replied_at" => date(contact.last_replied),
        "last_email_opened_at" => date(contact.last_email_opened),
        "last_email_clicked_at" => date(contact.last_email_clicked),
        "unsubscribed_from_emails" => Field::Bool(contact.unsubscribed),
        "marked_email_as_spam" => Field::Bool(contact.spam),
        "has_hard_bounced" => Field::Bool(contact.bounced),
        "language_override" => text(&contact.language_override),
        "browser" => text(&contact.browser),
        "browser_language" => text(&contact.browser_language),
        "os" => text(&contact.os),
        "location.country" => text(&contact.location.country),
        "location.region" => text(&contact.location.region),
        "location.city" => text(&contact.location.city),
        "tag_id" => Field::Ids(contact.tags.iter().map(|tag| tag.id.clone()).collect()),
        _ => Field::Null,
    }
}

/// The few contacts that can match, if the query names them by an indexed identifier.
fn candidates(state: &State, filter: &Filter) -> Option<BTreeSet<Slot>> {
    let gather = |values: Vec<String>, find: &dyn Fn(&str) -> Vec<Slot>| values.iter().flat_map(|v| find(v)).collect();
    if let Some(values) = filter.only("email") {
        return Some(gather(values, &|v| {
            state.by_email.get(&v.to_lowercase()).into_iter().flatten().copied().collect()
        }));
    }
    if let Some(values) = filter.only("external_id") {
        return Some(gather(values, &|v| state.by_external.get(v).into_iter().flatten().copied().collect()));
    }
    filter.only("id").map(|values| gather(values, &|v| state.slot_of(v).into_iter().collect()))
}

pub(super) fn search(state: &mut State, asked: &Asked) -> Reply {
    let Some(query) = asked.body.get("query") else {
        return Err(error(400, "parameter_not_found", "query not specified"));
    };
    let dates = if asked.version >= Version::V2_17 { Dates::Seconds } else { Dates::Days(state.options.timezone) };
    let filter = compile(query, dates, &|field| kind_of(state, field))?;
    // Only the body counts: a cursor in the query string is not even looked at, so page 1 comes again.
    let pagination = asked.body.get("pagination").unwrap_or(&Value::Null);
    let per_page = match pagination.get("per_page") {
        None | Some(Value::Null) => 50,
        Some(asked) => checked_per_page(asked.as_u64().or_else(|| asked.as_str()?.parse().ok()), 150)?,
    };
    let cursor = pagination.get("starting_after").and_then(Value::as_str).map(Cursor::decode).transpose()?;
    let sort = asked.body.get("sort").unwrap_or(&Value::Null);
    let order = match sort.get("field").and_then(Value::as_str) {
        // Without a sort it is "last_request_at descending", a field that moves all the time.
        None | Some("last_seen_at" | "last_request_at") => Order::Seen,
        Some("updated_at") => Order::Updated,
        Some(_) => Order::Created,
    };
    let ascending = match sort.get("order").and_then(Value::as_str) {
        Some("ascending") => true,
        Some(other) if other != "descending" && asked.version >= Version::V2_16 => {
            let message = format!("Invalid sort order '{other}'. Must be one of: ascending, descending");
            return Err(error(400, "invalid_sort_order", &message));
        }
        _ => false,
    };
    let key = format!("{}{query}", asked.version.0);
    let cached = state.count_cache.as_ref().filter(|(version, of, _)| *version == state.version && *of == key);
    let counted = cached.map(|(_, _, total)| *total);
    let wanted = |contact: &Contact, slot: Option<Slot>| {
        contact.is_live()
            && (state.lagging_slots.is_empty()
                || !slot.or_else(|| state.slot_of(&contact.id)).is_some_and(|slot| state.lagging_slots.contains(&slot)))
            && filter.matches(&|name| field(state, contact, name))
    };
    let few = candidates(state, &filter);
    let (slots, next, total) = if let Some(few) = few {
        let mut places: Vec<(i64, Slot)> = few
            .into_iter()
            .filter_map(|slot| state.contact(slot).map(|contact| (contact, slot)))
            .filter(|(contact, slot)| wanted(contact, Some(*slot)))
            .map(|(contact, slot)| {
                let at = match order {
                    Order::Created => contact.created,
                    Order::Updated => contact.updated,
                    Order::Seen => contact.last_seen.unwrap_or(0) * 1000,
                };
                (at, slot)
            })
            .collect();
        places.sort_unstable();
        if !ascending {
            places.reverse();
        }
        let total = places.len();
        if let Some(cursor) = cursor {
            let at = (cursor.at, Slot::try_from(cursor.id).unwrap_or(Slot::MAX));
            places.retain(|place| if ascending { *place > at } else { *place < at });
        }
        let page = cursor.map_or(1, |cursor| cursor.page).saturating_add(1);
        let more = places.len() > per_page;
        places.truncate(per_page);
        let last = places.last().filter(|_| more).map(|(at, slot)| Cursor { at: *at, id: u64::from(*slot), page });
        (places.into_iter().map(|(_, slot)| slot).collect::<Vec<_>>(), last, total)
    } else {
        let name = match order {
            Order::Created => "created_at",
            Order::Updated => "updated_at",
            Order::Seen => "last_seen_at",
        };
        let bounds = if order == Order::Seen { (i64::MIN, i64::MAX) } else { filter.bounds(name) };
        let (slots, next) = walk(state, order, ascending, cursor, per_page, bounds, &|contact| wanted(contact, None));
        let total = counted.unwrap_or_else(|| {
            let (from, to) = filter.bounds("updated_at");
            if from >= to {
                return 0;
            }
            let range = state.by_updated.range((from, 0)..(to, Slot::MAX));
            range.filter(|(_, slot)| state.contact(*slot).is_some_and(|contact| wanted(contact, Some(*slot)))).count()
        });
        (slots, next, total)
    };
    state.count_cache = Some((state.version, key, total));
    let page = cursor.map_or(1, |cursor| cursor.page);
    Ok(contact_page(state, &slots, total, &cursor_pages(page, per_page, total, next), asked.version))
}

/// The contact of a path, or the error that the version answers for one that is gone.
pub(super) fn find(state: &State, id: &str, version: Version) -> Result<Slot, Answer> {
    let slot = state.slot_of(id).ok_or_else(|| not_found("User Not Found"))?;
    match state.contact(slot).map(|contact| contact.standing) {
        Some(Standing::Live) => Ok(slot),
        Some(Standing::Merged(_)) if version >= Version::V2_16 => {
            let canonical = state.contact(state.canonical(slot)).map_or("", |contact| contact.id.as_str());
            let message = "This contact has been merged. See the 'Link' header for the canonical contact.";
            let mut gone = error(410, "contact_merged", message);
            gone.headers.push(("link", format!("</contacts/{canonical}>; rel=\"canonical\"")));
            Err(gone)
        }
        // Recorded: archived, deleted and (up to 2.15) merged ones all look as if they had never been.
        _ => Err(not_found("User Not Found")),
    }
}

pub(super) fn get(state: &State, asked: &Asked, id: &str) -> Reply {
    one(state, find(state, id, asked.version)?, asked.version)
}

/// A user by the customer's own id; leads are not found this way.
pub(super) fn find_by_external(state: &State, asked: &Asked, external: &str) -> Reply {
    let found = state.by_external.get(external).into_iter().flatten().copied();
    let user =
        |slot: &Slot| state.contact(*slot).is_some_and(|contact| contact.is_live() && contact.role == Role::User);
    one(state, found.into_iter().find(user).ok_or_else(|| not_found("User Not Found"))?, asked.version)
}

/// Puts a request's fields on a contact, or says what is wrong with them. Only what may be written is looked at.
pub(super) fn apply(state: &State, contact: &mut Contact, body: &Value) -> Result<(), Answer> {
    let Some(map) = body.as_object() else { return Err(error(400, "bad_request", "bad request body")) };
    let invalid = |name: &str| error(400, "parameter_invalid", &format!("{name} is invalid"));
    let text = |name: &str, value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(invalid(name)),
    };
    let number = |name: &str, value: &Value| match value {
        Value::Null => Ok(None),
        value => value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(Some).ok_or_else(|| invalid(name)),
    };
    for (name, value) in map {
        match name.as_str() {
            "role" => match value.as_str() {
                Some("user") => contact.role = Role::User,
                Some("lead") if contact.role == Role::User && state.slot_of(&contact.id).is_some() => {
                    return Err(error(400, "client_error", "Contact with user role can't be converted to a lead"));
                }
                Some("lead") => contact.role = Role::Lead,
                _ => return Err(invalid("role")),
            },
            "external_id" => {
                if let Some(external) = text(name, value)? {
                    contact.external_id = Some(external);
                }
            }
            "email" => {
                let email = text(name, value)?;
                if email.as_deref().is_some_and(|email| !email.contains('@') || email.contains(char::is_whitespace)) {
                    return Err(error(400, "parameter_invalid", "email is invalid"));
                }
                contact.email = email;
            }
            "phone" => contact.phone = text(name, value)?,
            "name" => contact.name = text(name, value)?,
            "avatar" => contact.avatar = text(name, value)?,
            "owner_id" => contact.owner_id = number(name, value)?,
            "signed_up_at" => contact.signed_up = number(name, value)?,
            "last_seen_at" => contact.last_seen = number(name, value)?,
            "unsubscribed_from_emails" => match value {
                Value::Bool(choice) => contact.unsubscribed = *choice,
                Value::Null => {}
                _ => return Err(invalid(name)),
            },
            "custom_attributes" => match value {
                Value::Object(values) => {
                    attributes::write_custom(state, "contact", &mut contact.custom, values)?;
                }
                Value::Null => {}
                _ => return Err(invalid(name)),
            },
            _ => {}
        }
    }
    Ok(())
}

/// The contact that stands in the way of a create or an update: the same `external_id`, or for users the same e-mail
/// where one of the two has no `external_id` to tell them apart. Leads may share e-mails.
fn conflict(state: &State, candidate: &Contact, own: Option<Slot>) -> Option<Slot> {
    let taken = |slot: &&Slot| {
        Some(**slot) != own && state.contact(**slot).is_some_and(|other| !matches!(other.standing, Standing::Merged(_)))
    };
    if let Some(external) = &candidate.external_id
        && let Some(slot) = state.by_external.get(external).into_iter().flatten().find(taken)
    {
        return Some(*slot);
    }
    if candidate.role == Role::Lead {
        return None;
    }
    let email = candidate.email.as_deref()?.to_lowercase();
    let same = state.by_email.get(&email)?.iter().filter(taken);
    same.copied().find(|slot| {
        state.contact(*slot).is_some_and(|other| {
            other.role == Role::User && (candidate.external_id.is_none() || other.external_id.is_none())
        })
    })
}

fn conflict_error(state: &State, slot: Slot) -> Answer {
    let Some(contact) = state.contact(slot) else { return error(409, "conflict", "conflict") };
    let which = if contact.is_live() { "A contact" } else { "An archived contact" };
    error(409, "conflict", &format!("{which} matching those details already exists with id={}", contact.id))
}

pub(super) fn create(state: &mut State, asked: &Asked) -> Reply {
    let given = |name: &str| asked.body.get(name).is_some_and(|value| !value.is_null());
    if !given("email") && !given("external_id") && !given("role") {
        return Err(error(400, "parameter_not_found", "email, external_id or role must be specified"));
    }
    let role = match asked.text("role") {
        Some("lead") => Role::Lead,
        _ => Role::User,
    };
    let mut contact = Contact::blank(String::new(), role, state.now_ms);
    apply(state, &mut contact, &asked.body)?;
    if let Some(slot) = conflict(state, &contact, None) {
        return Err(conflict_error(state, slot));
    }
    contact.id = state.object_id(state.now_ms);
    if contact.role == Role::Lead && contact.external_id.is_none() {
        contact.external_id = Some(state.uuid()); // recorded: leads get one of their own
    }
    let slot = state.insert(contact, true);
    webhooks::contact_created(state, slot);
    one(state, slot, asked.version)
}

pub(super) fn update(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let slot = find(state, id, asked.version)?;
    update_slot(state, slot, &asked.body)?;
    one(state, slot, asked.version)
}

/// Applies a patch, moves `updated_at`, tells the webhooks what changed.
pub(super) fn update_slot(state: &mut State, slot: Slot, body: &Value) -> Result<(), Answer> {
    let Some(before) = state.contact(slot).cloned() else { return Err(not_found("User Not Found")) };
    let mut after = before.clone();
    apply(state, &mut after, body)?;
    if (&after.external_id, &after.email) != (&before.external_id, &before.email)
        && let Some(other) = conflict(state, &after, Some(slot))
    {
        return Err(conflict_error(state, other));
    }
    replace(state, slot, before, after);
    Ok(())
}

/// Puts `after` in the place of `before` and queues what webhooks report about the difference.
pub(super) fn replace(state: &mut State, slot: Slot, before: Contact, after: Contact) {
    state.change(slot, |contact| *contact = after);
    webhooks::contact_changed(state, slot, &before);
}

fn minimal(state: &State, slot: Slot, key: &str, value: bool) -> Map<String, Value> {
    let mut map = Map::new();
    if let Some(contact) = state.contact(slot) {
        map.insert("type".to_owned(), "contact".into());
        map.insert("id".to_owned(), contact.id.clone().into());
        map.insert("external_id".to_owned(), contact.external_id.clone().into());
        map.insert(key.to_owned(), value.into());
    }
    map
}

fn minimal_answer(map: Map<String, Value>) -> Answer {
    super::answer::ok(&Value::Object(map))
}

pub(super) fn delete(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let slot = find(state, id, asked.version)?;
    remove(state, slot);
    Ok(minimal_answer(minimal(state, slot, "deleted", true)))
}

/// Deletes for good; the row stays as what `POST /contacts` will call an archived contact.
pub(super) fn remove(state: &mut State, slot: Slot) {
    state.change(slot, |contact| {
        contact.standing = Standing::Deleted;
        contact.blocked_restore = Some("User has been marked for permanent deletion and is not restorable.");
    });
    let item = minimal(state, slot, "deleted", true);
    webhooks::queue(state, "contact.deleted", Value::Object(item));
}

pub(super) fn archive(state: &mut State, asked: &Asked, id: &str) -> Reply {
    let slot = find(state, id, asked.version)?;
    put_away(state, slot);
    Ok(minimal_answer(minimal(state, slot, "archived", true)))
}

pub(super) fn put_away(state: &mut State, slot: Slot) {
    state.change(slot, |contact| contact.standing = Standing::Archived);
    let item = minimal(state, slot, "archived", true);
    webhooks::queue(state, "contact.archived", Value::Object(item));
}

pub(super) fn unarchive(state: &mut State, id: &str) -> Reply {
    let slot = state.slot_of(id).ok_or_else(|| not_found("User Not Found"))?;
    if let Some(reason) = state.contact(slot).and_then(|contact| contact.blocked_restore) {
        return Err(error(400, "bad_request", reason));
    }
    state.change(slot, |contact| contact.standing = Standing::Live);
    let item = minimal(state, slot, "archived", false);
    webhooks::queue(state, "contact.unarchive", Value::Object(item.clone()));
    Ok(minimal_answer(item))
}

pub(super) fn merge(state: &mut State, asked: &Asked) -> Reply {
    let (Some(from), Some(into)) = (asked.text("from"), asked.text("into")) else {
        return Err(error(400, "parameter_not_found", "from and into must be specified"));
    };
    let (from, into) = (find(state, from, asked.version)?, find(state, into, asked.version)?);
    merge_slots(state, from, into)?;
    one(state, into, asked.version)
}

/// Only a lead goes into a user.
pub(super) fn merge_slots(state: &mut State, from: Slot, into: Slot) -> Result<(), Answer> {
    let (Some(lead), Some(user)) = (state.contact(from).cloned(), state.contact(into)) else {
        return Err(not_found("User Not Found"));
    };
    if lead.role != Role::Lead || user.role != Role::User || from == into {
        return Err(error(400, "parameter_invalid", "from must be a lead and into must be a user"));
    }
    state.change(from, |contact| {
        contact.standing = Standing::Merged(into);
        contact.blocked_restore = Some("User has been merged and is not restorable.");
    });
    state.change(into, |user| {
        user.phone = user.phone.take().or(lead.phone);
        user.name = user.name.take().or(lead.name);
        user.email = user.email.take().or(lead.email);
        for tag in lead.tags {
            if user.tags.iter().all(|own| own.id != tag.id) {
                user.tags.push(tag);
            }
        }
        for company in &lead.companies {
            if !user.companies.contains(company) {
                user.companies.push(company.clone());
            }
        }
        for (name, value) in lead.custom {
            user.custom.entry(name).or_insert(value);
        }
        user.last_seen = user.last_seen.max(lead.last_seen);
        user.last_replied = user.last_replied.max(lead.last_replied);
    });
    for company in &lead.companies {
        if let Some(company) = state.companies.get_mut(company) {
            company.members.remove(&from);
            company.members.insert(into);
        }
    }
    for id in state.conversations_of.remove(&from).unwrap_or_default() {
        state.conversations_of.entry(into).or_default().insert(id);
        if let Some(conversation) = state.conversations.get_mut(&id) {
            conversation.contacts.retain(|slot| *slot != into);
            for slot in &mut conversation.contacts {
                if *slot == from {
                    *slot = into;
                }
            }
            if conversation.contacts.is_empty() {
                conversation.contacts.push(into);
            }
        }
    }
    webhooks::contact_merged(state, into);
    Ok(())
}
