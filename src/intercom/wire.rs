//! Intercom's JSON → the model's records.
//!
//! One reader serves REST and webhooks of every API version, so it is lenient: the same field comes as seconds (REST),
//! as ISO text (contact and company webhooks), as text of digits or as `null`; ids come as text or numbers; fields that
//! the description requires are missing in its own examples. What is not understood is left out, never an error; only a
//! record without an id cannot be used.
//!
//! The JSON is taken apart once, by value: a page is parsed into a tree and its strings are moved into the records.

use crate::model::{
    Company, Consent, Conversation, ConversationId, ConversationState, Email, Fields, IntercomCompanyId,
    IntercomContact, IntercomContactId, IntercomTagId, Number, OptOutReason, Partial, Rating, Role, Sla, Tag, Value,
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// An object of the wire.
pub type Object = Map<String, Json>;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not a JSON object.
    #[error("a {0} that is not an object")]
    NotAnObject(&'static str),
    /// Without it, nothing can be said about anybody.
    #[error("a {0} without an id")]
    NoId(&'static str),
    /// Not an empty list, but none: taken for an empty one, it would end a sweep in silence.
    #[error("no list of {0}")]
    NoList(&'static str),
}

/// Fields of a contact that are plain text.
const CONTACT_TEXTS: &[&str] = &[
    "phone",
    "formatted_phone",
    "name",
    "language_override",
    "browser",
    "browser_version",
    "browser_language",
    "os",
    "android_app_name",
    "android_app_version",
    "android_device",
    "android_os_version",
    "android_sdk_version",
    "ios_app_name",
    "ios_app_version",
    "ios_device",
    "ios_os_version",
    "ios_sdk_version",
    "utm_campaign",
    "utm_content",
    "utm_medium",
    "utm_source",
    "utm_term",
    "referrer",
];

/// Fields of a contact that are instants.
const CONTACT_INSTANTS: &[&str] = &[
    "signed_up_at",
    "last_seen_at",
    "last_replied_at",
    "last_contacted_at",
    "last_email_opened_at",
    "last_email_clicked_at",
    "android_last_seen_at",
    "ios_last_seen_at",
];

/// Fields of a contact that are yes or no.
const CONTACT_FLAGS: &[&str] = &[
    "has_hard_bounced",
    "marked_email_as_spam",
    "unsubscribed_from_emails",
    "unsubscribed_from_sms",
    "sms_consent",
    "enabled_push_messaging",
];

/// How many items Intercom embeds at most. Older versions show neither `total_count` nor `has_more`.
const EMBEDDED: usize = 10;

/// An instant, whichever way it is written: seconds as a whole number, a float or digits, milliseconds by mistake, or
/// ISO text. Floored to the second: REST has no fractions and webhooks do, and the same instant must be one value.
pub fn instant(json: &Json) -> Option<DateTime<Utc>> {
    // Seconds beyond this are past the year 5000: such numbers have been milliseconds.
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    let seconds = match json {
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole,
            None => whole_floor(number.as_f64()?)?,
        },
        Json::String(text) => {
            let text = text.trim();
            if let Ok(whole) = text.parse::<i64>() {
                whole
            } else if let Ok(float) = text.parse::<f64>() {
                whole_floor(float)?
            } else {
                iso_seconds(text)?
            }
        }
        _ => return None,
    };
    let seconds =
        if seconds.unsigned_abs() >= MILLISECONDS_FROM.unsigned_abs() { seconds.div_euclid(1000) } else { seconds };
    DateTime::from_timestamp(seconds, 0)
}

fn iso_seconds(text: &str) -> Option<i64> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.timestamp());
    }
    // `2026-01-10 04:22:28 UTC` and the like, as Rails prints them.
    let plain = text.trim_end_matches("UTC").trim_end_matches('Z').trim();
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(plain, format).ok())
        .map(|naive| naive.and_utc().timestamp())
}

fn whole_floor(float: f64) -> Option<i64> {
    match Number::from_f64(float.floor())? {
        Number::Whole(whole) => Some(whole),
        Number::Fraction(_) => None,
    }
}

/// An id or other short text that some versions write as a number. Blank is nothing.
pub fn text(json: Json) -> Option<String> {
    match json {
        Json::String(text) if !text.trim().is_empty() => Some(text),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn take_text(object: &mut Object, key: &str) -> Option<String> {
    object.remove(key).and_then(text)
}

fn take_instant(object: &Object, key: &str) -> Option<DateTime<Utc>> {
    object.get(key).and_then(instant)
}

fn whole(json: &Json) -> Option<i64> {
    match json {
        Json::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole_floor)),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn flag(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(flag) => Some(*flag),
        Json::String(text) if text == "true" => Some(true),
        Json::String(text) if text == "false" => Some(false),
        _ => None,
    }
}

fn object(json: Json, what: &'static str) -> Result<Object, WireError> {
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(WireError::NotAnObject(what)),
    }
}

/// The items of an embedded or whole list, under whichever of the keys they are.
pub fn take_items(list: &mut Object, keys: &[&str]) -> Vec<Json> {
    keys.iter()
        .find_map(|key| match list.remove(*key) {
            Some(Json::Array(items)) => Some(items),
            _ => None,
        })
        .unwrap_or_default()
}

/// The id of something that is embedded as an object or as a bare id.
pub fn id_of(json: Json) -> Option<String> {
    match json {
        Json::Object(mut object) => take_text(&mut object, "id"),
        other => text(other),
    }
}

/// An embedded list of at most ten. A record that does not show the list says nothing about it.
fn partial<T: Ord>(list: Option<Json>, key: &str, wrap: impl Fn(String) -> T) -> Partial<T> {
    let Some(Json::Object(mut list)) = list else {
        return Partial { items: BTreeSet::new(), complete: false };
    };
    let items: BTreeSet<T> = take_items(&mut list, &["data", key]).into_iter().filter_map(id_of).map(wrap).collect();
    let more = list.get("has_more").and_then(flag);
    let total = list.get("total_count").and_then(whole).and_then(|total| usize::try_from(total).ok());
    let complete = match (more, total) {
        (Some(true), _) => false,
        (_, Some(total)) => total <= items.len(),
        (Some(false), None) => true,
        (None, None) => items.len() < EMBEDDED,
    };
    Partial { items, complete }
}

fn custom_attributes(object: &mut Object, fields: &mut Fields) {
    if let Some(Json::Object(custom)) = object.remove("custom_attributes") {
        for (name, json) in custom {
            if let Some(value) = value(json) {
                fields.insert(format!("custom_attributes.{name}"), value);
            }
        }
    }
}

/// [`Value::from_json`], but text is moved.
fn value(json: Json) -> Option<Value> {
    match json {
        Json::String(text) => Value::text(text),
        other => Value::from_json(&other),
    }
}

/// A contact.
///
/// # Errors
/// If it has no id.
pub fn contact(json: Json) -> Result<IntercomContact, WireError> {
    let mut object = object(json, "contact")?;
    let id = take_text(&mut object, "id").ok_or(WireError::NoId("contact"))?;
    let external_id = take_text(&mut object, "external_id");
    let role = match object.get("role").and_then(Json::as_str) {
        Some("user") => Role::User,
        None if external_id.is_some() => Role::User,
        _ => Role::Lead,
    };
    let raw_email = take_text(&mut object, "email");
    let email = raw_email.as_deref().and_then(|text| Email::parse(text).ok());
    // Both are "required" there; a record that lacks one is given the other, so that it is at least not newer than it is.
    let created = take_instant(&object, "created_at");
    let updated = take_instant(&object, "updated_at");
    let created_at = created.or(updated).unwrap_or_default();
    let updated_at = updated.or(created).unwrap_or_default();

    let mut fields = Fields::new();
    let mut set = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(path.to_owned(), value);
        }
    };
    set("id", Value::text(id.as_str()));
    set("role", Value::text(role.as_str()));
    set("external_id", external_id.clone().and_then(Value::text));
    // An address that names no mailbox is kept as it stands, so that a person can be shown what is wrong with it.
    set("email", email.as_ref().map(|email| email.as_str().to_owned()).or(raw_email).and_then(Value::text));
    set("created_at", created.map(Value::Instant));
    set("updated_at", updated.map(Value::Instant));
    for path in CONTACT_TEXTS {
        set(path, take_text(&mut object, path).and_then(Value::text));
    }
    for path in CONTACT_INSTANTS {
        set(path, take_instant(&object, path).map(Value::Instant));
    }
    for path in CONTACT_FLAGS {
        set(path, object.get(*path).and_then(flag).map(Value::Boolean));
    }
    // A number up to version 2.15, text from 2.16 on: one value here.
    set(
        "owner_id",
        object.remove("owner_id").and_then(|owner| match whole(&owner) {
            Some(number) => Some(Value::Number(Number::Whole(number))),
            None => value(owner),
        }),
    );
    set("avatar", object.remove("avatar").and_then(avatar));
    if let Some(Json::Object(location)) = object.remove("location") {
        for (key, json) in location {
            if key != "type" {
                set(&format!("location.{key}"), value(json));
            }
        }
    }
    if let Some(Json::Object(mut profiles)) = object.remove("social_profiles") {
        let profiles = take_items(&mut profiles, &["data", "social_profiles"]);
        set("social_profiles", Value::from_json(&Json::Array(profiles)));
    }
    custom_attributes(&mut object, &mut fields);

    let says = |key: &str| object.get(key).and_then(flag) == Some(true);
    let consent = Consent {
        email_opt_outs: [
            ("unsubscribed_from_emails", OptOutReason::Unsubscribed),
            ("has_hard_bounced", OptOutReason::HardBounced),
            ("marked_email_as_spam", OptOutReason::Spam),
        ]
        .into_iter()
        .filter_map(|(key, reason)| says(key).then_some(reason))
        .collect(),
        sms_opted_out: says("unsubscribed_from_sms"),
    };
    Ok(IntercomContact {
        id: IntercomContactId::new(id),
        external_id,
        role,
        email,
        created_at,
        updated_at,
        consent,
        tags: partial(object.remove("tags"), "tags", IntercomTagId::new),
        companies: partial(object.remove("companies"), "companies", IntercomCompanyId::new),
        fields,
    })
}

/// `{type: "avatar", image_url}` in answers, a bare URL in some webhooks.
fn avatar(json: Json) -> Option<Value> {
    match json {
        Json::Object(mut avatar) => take_text(&mut avatar, "image_url").and_then(Value::text),
        Json::String(url) => Value::text(url),
        _ => None,
    }
}

/// A company.
///
/// # Errors
/// If it has no id.
pub fn company(json: Json) -> Result<Company, WireError> {
    let mut object = object(json, "company")?;
    let id = take_text(&mut object, "id").ok_or(WireError::NoId("company"))?;
    let company_id = take_text(&mut object, "company_id");
    let mut fields = Fields::new();
    let mut set = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(path.to_owned(), value);
        }
    };
    set("id", Value::text(id.as_str()));
    set("company_id", company_id.clone().and_then(Value::text));
    for path in ["name", "website", "industry"] {
        set(path, take_text(&mut object, path).and_then(Value::text));
    }
    for path in ["size", "monthly_spend", "session_count", "user_count"] {
        set(path, object.remove(path).and_then(value));
    }
    for path in ["remote_created_at", "created_at", "updated_at", "last_request_at"] {
        set(path, take_instant(&object, path).map(Value::Instant));
    }
    // `{}`, `{type, id, name}`, `null`, and bare text in what old integrations wrote.
    set(
        "plan",
        match object.remove("plan") {
            Some(Json::Object(mut plan)) => take_text(&mut plan, "name").and_then(Value::text),
            Some(Json::String(name)) => Value::text(name),
            _ => None,
        },
    );
    custom_attributes(&mut object, &mut fields);
    Ok(Company {
        id: IntercomCompanyId::new(id),
        company_id,
        updated_at: take_instant(&object, "updated_at"),
        last_request_at: take_instant(&object, "last_request_at"),
        fields,
    })
}

/// A tag.
///
/// # Errors
/// If it has no id.
pub fn tag(json: Json) -> Result<Tag, WireError> {
    let mut object = object(json, "tag")?;
    let id = take_text(&mut object, "id").ok_or(WireError::NoId("tag"))?;
    Ok(Tag { id: IntercomTagId::new(id), name: take_text(&mut object, "name").unwrap_or_default() })
}

fn small(json: &Json) -> Option<u8> {
    whole(json).and_then(|number| u8::try_from(number).ok()).filter(|score| (1..=5).contains(score))
}

/// What the contact thought of a conversation; asked for and not yet answered is nothing.
pub fn rating(json: Json) -> Option<Rating> {
    let Json::Object(mut rating) = json else { return None };
    let score = rating.get("rating").and_then(small)?;
    Some(Rating { score, remark: take_text(&mut rating, "remark") })
}

/// A conversation. Bodies are dropped here.
///
/// # Errors
/// If it has no id.
pub fn conversation(json: Json) -> Result<Conversation, WireError> {
    let mut object = object(json, "conversation")?;
    let id = take_text(&mut object, "id").ok_or(WireError::NoId("conversation"))?;
    let created = take_instant(&object, "created_at");
    let updated = take_instant(&object, "updated_at");
    let state = match object.get("state").and_then(Json::as_str) {
        Some("closed") => ConversationState::Closed,
        Some("snoozed") => ConversationState::Snoozed,
        Some("open") => ConversationState::Open,
        _ if object.get("open").and_then(flag) == Some(false) => ConversationState::Closed,
        _ => ConversationState::Open,
    };
    let contacts = match object.remove("contacts") {
        Some(Json::Object(mut list)) => take_items(&mut list, &["contacts", "data"]),
        Some(Json::Array(items)) => items,
        _ => Vec::new(),
    };
    let (mut source_type, mut delivered_as, mut author_type) = (None, None, None);
    if let Some(Json::Object(mut source)) = object.remove("source") {
        source_type = take_text(&mut source, "type");
        delivered_as = take_text(&mut source, "delivered_as");
        if let Some(Json::Object(mut author)) = source.remove("author") {
            author_type = take_text(&mut author, "type");
        }
    }
    let started_by_contact = match author_type.as_deref() {
        Some(author) => matches!(author, "user" | "lead" | "contact" | "visitor"),
        None => delivered_as.as_deref() == Some("customer_initiated"),
    };
    let tags = match object.remove("tags") {
        Some(Json::Object(mut list)) => take_items(&mut list, &["tags", "data"]),
        _ => Vec::new(),
    };
    let sla = match object.remove("sla_applied") {
        Some(Json::Object(mut sla)) if !sla.is_empty() => {
            Some(Sla { name: take_text(&mut sla, "sla_name"), status: take_text(&mut sla, "sla_status") })
        }
        _ => None,
    };
    let statistics = match object.remove("statistics") {
        Some(Json::Object(statistics)) => statistics,
        _ => Object::new(),
    };
    let mut agent = match object.remove("ai_agent") {
        Some(Json::Object(agent)) => agent,
        _ => Object::new(),
    };
    Ok(Conversation {
        id: ConversationId::new(id),
        contacts: contacts.into_iter().filter_map(id_of).map(IntercomContactId::new).collect(),
        created_at: created.or(updated).unwrap_or_default(),
        updated_at: updated.or(created).unwrap_or_default(),
        state,
        snoozed_until: take_instant(&object, "snoozed_until"),
        waiting_since: take_instant(&object, "waiting_since"),
        priority: take_text(&mut object, "priority"),
        source_type,
        delivered_as,
        started_by_contact,
        rating: object.remove("conversation_rating").and_then(rating),
        tags: tags
            .into_iter()
            .filter_map(|tag| match tag {
                Json::Object(mut tag) => take_text(&mut tag, "name"),
                _ => None,
            })
            .collect(),
        sla,
        last_close_at: take_instant(&statistics, "last_close_at"),
        last_contact_reply_at: take_instant(&statistics, "last_contact_reply_at"),
        time_to_first_reply: statistics.get("time_to_admin_reply").and_then(whole),
        ai_participated: object.get("ai_agent_participated").and_then(flag),
        ai_resolution: take_text(&mut agent, "resolution_state"),
        ai_rating: agent.get("rating").and_then(small),
    })
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nowhere: this was the last page.
    End,
    /// At an opaque cursor.
    After(String),
    /// At a page by number.
    Page(u64),
    /// Further, but it does not say where.
    Unsaid,
}

/// One page of a list, before its records are read.
#[derive(Debug, Clone)]
pub struct List {
    /// Its records.
    pub items: Vec<Json>,
    /// How many the whole list has, where shown. A scroll shows none.
    pub total: Option<u64>,
    /// Where it goes on.
    pub next: Next,
    /// The scroll's name.
    pub scroll: Option<String>,
}

/// Takes a list's envelope apart. `pages.next` is an object on cursor lists and a URL on others, and live endpoints have
/// been seen to disagree with the description about which they are; on the last page it is `null` or absent.
///
/// # Errors
/// If there is no list in it.
pub fn list(json: Json, keys: &[&str], what: &'static str) -> Result<List, WireError> {
    let mut object = object(json, what)?;
    if !keys.iter().any(|key| object.get(*key).is_some_and(Json::is_array)) {
        return Err(WireError::NoList(what));
    }
    let pages = match object.remove("pages") {
        Some(Json::Object(pages)) => pages,
        _ => Object::new(),
    };
    let count = |json: Option<&Json>| json.and_then(whole).and_then(|number| u64::try_from(number).ok());
    let page = count(pages.get("page"));
    let last = count(pages.get("total_pages"));
    let next = match pages.get("next") {
        None | Some(Json::Null) => Next::End,
        Some(Json::Object(next)) => match next.get("starting_after").cloned().and_then(text) {
            Some(after) => Next::After(after),
            None => count(next.get("page")).map_or(Next::Unsaid, Next::Page),
        },
        // A URL. Only its query is used: a URL from an answer is never followed, because the token would go along.
        Some(Json::String(url)) => {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let pair = |name: &str| {
                url::form_urlencoded::parse(query.as_bytes())
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.into_owned())
            };
            match (pair("starting_after"), pair("page").and_then(|page| page.parse().ok()), page, last) {
                (Some(after), ..) => Next::After(after),
                (None, Some(page), ..) => Next::Page(page),
                (None, None, Some(page), Some(last)) if page < last => Next::Page(page + 1),
                (None, None, Some(_), Some(_)) => Next::End,
                _ => Next::Unsaid,
            }
        }
        Some(_) => Next::Unsaid,
    };
    Ok(List {
        total: count(object.get("total_count")),
        scroll: take_text(&mut object, "scroll_param"),
        items: take_items(&mut object, keys),
        next,
    })
}

#[cfg(test)]
mod tests;
