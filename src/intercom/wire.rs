//! Intercom's JSON → the model's records.
//!
//! One reader serves REST and webhooks of every API version, so it is lenient: the same field comes as seconds (REST),
//! as ISO text (contact and company webhooks), as text of digits or as `null`; ids come as text or numbers; fields that
//! the description requires are missing in its own examples. What is not understood is left out, never an error; only a
//! record without an id cannot be used.
//!
//! A page's JSON borrows from its body; what a record keeps is copied once, straight into it.

use crate::http::lean::Json;
use crate::model::{
    Company, Consent, Conversation, ConversationId, ConversationState, Email, Fields, IntercomCompanyId,
    IntercomContact, IntercomContactId, IntercomTagId, Number, OptOutReason, Partial, Rating, Role, Sla, Tag, Value,
};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

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

/// How many items Intercom embeds at most. Older versions show neither `total_count` nor `has_more`.
const EMBEDDED: usize = 10;

/// An instant, whichever way it is written: seconds as a whole number, a float or digits, milliseconds by mistake, or
/// ISO text. Floored to the second: REST has no fractions and webhooks do, and the same instant must be one value.
pub fn instant(json: Json<'_>) -> Option<DateTime<Utc>> {
    // Seconds beyond this are past the year 5000: such numbers have been milliseconds.
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    let seconds = match (json.as_number(), json.as_str()) {
        (Some(number), _) => match number.as_i64() {
            Some(whole) => whole,
            None => whole_floor(number.as_f64()?)?,
        },
        (None, Some(text)) => {
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
pub fn text(json: Json<'_>) -> Option<String> {
    match json.as_str() {
        Some(text) => Some(text).filter(|text| !text.trim().is_empty()).map(str::to_owned),
        None => json.as_number().map(ToString::to_string),
    }
}

fn text_of(json: Json<'_>, key: &str) -> Option<String> {
    json.get(key).and_then(text)
}

fn instant_of(json: Json<'_>, key: &str) -> Option<DateTime<Utc>> {
    json.get(key).and_then(instant)
}

fn whole(json: Json<'_>) -> Option<i64> {
    match json.as_number() {
        Some(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole_floor)),
        None => json.as_str()?.trim().parse().ok(),
    }
}

fn flag(json: Json<'_>) -> Option<bool> {
    match json.as_str() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => json.as_bool(),
    }
}

fn object<'t>(json: Json<'t>, what: &'static str) -> Result<Json<'t>, WireError> {
    if json.is_object() { Ok(json) } else { Err(WireError::NotAnObject(what)) }
}

/// An embedded or whole list, under whichever of the keys it is.
fn items_of<'t>(list: Json<'t>, keys: &[&str]) -> Option<Json<'t>> {
    keys.iter().find_map(|key| list.get(key).filter(|items| items.is_array()))
}

/// The id of something that is embedded as an object or as a bare id.
pub fn id_of(json: Json<'_>) -> Option<String> {
    if json.is_object() { text_of(json, "id") } else { text(json) }
}

/// An embedded list of at most ten. A record that does not show the list says nothing about it.
fn partial<T: Ord>(list: Option<Json<'_>>, key: &str, wrap: impl Fn(String) -> T) -> Partial<T> {
    let Some(list) = list.filter(|list| list.is_object()) else {
        return Partial { items: BTreeSet::new(), complete: false };
    };
    let items = items_of(list, &["data", key]).into_iter().flat_map(Json::items);
    let items: BTreeSet<T> = items.filter_map(id_of).map(wrap).collect();
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

/// Fields under way.
#[derive(Default)]
struct Gathered(Fields);

impl Gathered {
    fn set(&mut self, path: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(path.to_owned(), value);
        }
    }

    fn set_under(&mut self, under: &str, name: &str, json: Json<'_>) {
        if let Some(value) = json.to_value() {
            self.0.insert([under, name].concat(), value);
        }
    }

    fn set_custom(&mut self, json: Json<'_>) {
        for (name, json) in json.members() {
            self.set_under("custom_attributes.", name, json);
        }
    }
}

/// A contact.
///
/// # Errors
/// If it has no id.
pub fn contact(json: Json<'_>) -> Result<IntercomContact, WireError> {
    let (mut id, mut external_id, mut raw_email, mut said_role) = (None, None, None, None);
    let (mut created, mut updated, mut tags, mut companies) = (None, None, None, None);
    let mut consent = Consent::default();
    let mut fields = Gathered::default();
    // Once through all members, because looking each of sixty up costs more than everything else here.
    for (name, json) in object(json, "contact")?.members() {
        match name {
            "id" => id = text(json),
            "external_id" => external_id = text(json),
            "role" => said_role = json.as_str(),
            "email" => raw_email = text(json),
            "created_at" => created = instant(json),
            "updated_at" => updated = instant(json),
            "tags" => tags = Some(json),
            "companies" => companies = Some(json),
            "has_hard_bounced"
            | "marked_email_as_spam"
            | "unsubscribed_from_emails"
            | "unsubscribed_from_sms"
            | "sms_consent"
            | "enabled_push_messaging" => {
                let said = flag(json);
                fields.set(name, said.map(Value::Boolean));
                let reason = match name {
                    _ if said != Some(true) => continue,
                    "unsubscribed_from_emails" => OptOutReason::Unsubscribed,
                    "has_hard_bounced" => OptOutReason::HardBounced,
                    "marked_email_as_spam" => OptOutReason::Spam,
                    _ => {
                        consent.sms_opted_out |= name == "unsubscribed_from_sms";
                        continue;
                    }
                };
                consent.email_opt_outs.insert(reason);
            }
            "signed_up_at"
            | "last_seen_at"
            | "last_replied_at"
            | "last_contacted_at"
            | "last_email_opened_at"
            | "last_email_clicked_at"
            | "android_last_seen_at"
            | "ios_last_seen_at" => {
                fields.set(name, instant(json).map(Value::Instant));
            }
            "phone"
            | "formatted_phone"
            | "name"
            | "language_override"
            | "browser"
            | "browser_version"
            | "browser_language"
            | "os"
            | "android_app_name"
            | "android_app_version"
            | "android_device"
            | "android_os_version"
            | "android_sdk_version"
            | "ios_app_name"
            | "ios_app_version"
            | "ios_device"
            | "ios_os_version"
            | "ios_sdk_version"
            | "utm_campaign"
            | "utm_content"
            | "utm_medium"
            | "utm_source"
            | "utm_term"
            | "referrer" => fields.set(name, text(json).map(Value::Text)),
            // A number up to version 2.15, text from 2.16 on: one value here.
            "owner_id" => fields.set(
                name,
                match whole(json) {
                    Some(number) => Some(Value::Number(Number::Whole(number))),
                    None => json.to_value(),
                },
            ),
            "avatar" => fields.set(name, avatar(json)),
            "location" => {
                for (part, json) in json.members().filter(|(part, _)| *part != "type") {
                    fields.set_under("location.", part, json);
                }
            }
            "social_profiles" if json.is_object() => {
                fields.set(name, items_of(json, &["data", "social_profiles"]).and_then(Json::to_value));
            }
            "custom_attributes" => fields.set_custom(json),
            _ => {}
        }
    }
    let id = id.ok_or(WireError::NoId("contact"))?;
    let role = match said_role {
        Some("user") => Role::User,
        None if external_id.is_some() => Role::User,
        _ => Role::Lead,
    };
    let email = raw_email.as_deref().and_then(|text| Email::parse(text).ok());
    fields.set("id", Some(Value::Text(id.clone())));
    fields.set("role", Value::text(role.as_str()));
    fields.set("external_id", external_id.clone().map(Value::Text));
    // An address that names no mailbox is kept as it stands, so that a person can be shown what is wrong with it.
    fields.set("email", email.as_ref().map(|email| email.as_str().to_owned()).or(raw_email).map(Value::Text));
    fields.set("created_at", created.map(Value::Instant));
    fields.set("updated_at", updated.map(Value::Instant));
    Ok(IntercomContact {
        id: IntercomContactId::new(id),
        external_id,
        role,
        email,
        // Both are "required" there; a record that lacks one is given the other, so that it is at least not newer than
        // it is.
        created_at: created.or(updated).unwrap_or_default(),
        updated_at: updated.or(created).unwrap_or_default(),
        consent,
        tags: partial(tags, "tags", IntercomTagId::new),
        companies: partial(companies, "companies", IntercomCompanyId::new),
        fields: fields.0,
    })
}

/// `{type: "avatar", image_url}` in answers, a bare URL in some webhooks.
fn avatar(json: Json<'_>) -> Option<Value> {
    match json.as_str() {
        Some(url) => Value::text(url),
        None => text_of(json, "image_url").map(Value::Text),
    }
}

/// A company.
///
/// # Errors
/// If it has no id.
pub fn company(json: Json<'_>) -> Result<Company, WireError> {
    let json = object(json, "company")?;
    let id = text_of(json, "id").ok_or(WireError::NoId("company"))?;
    let company_id = text_of(json, "company_id");
    let mut fields = Gathered::default();
    fields.set("id", Some(Value::Text(id.clone())));
    fields.set("company_id", company_id.clone().map(Value::Text));
    for path in ["name", "website", "industry"] {
        fields.set(path, text_of(json, path).map(Value::Text));
    }
    for path in ["size", "monthly_spend", "session_count", "user_count"] {
        fields.set(path, json.get(path).and_then(Json::to_value));
    }
    for path in ["remote_created_at", "created_at", "updated_at", "last_request_at"] {
        fields.set(path, instant_of(json, path).map(Value::Instant));
    }
    // `{}`, `{type, id, name}`, `null`, and bare text in what old integrations wrote.
    let plan = json.get("plan");
    let plan = plan.and_then(|plan| plan.as_str().map(str::to_owned).or_else(|| text_of(plan, "name")));
    fields.set("plan", plan.and_then(Value::text));
    if let Some(custom) = json.get("custom_attributes") {
        fields.set_custom(custom);
    }
    Ok(Company {
        id: IntercomCompanyId::new(id),
        company_id,
        updated_at: instant_of(json, "updated_at"),
        last_request_at: instant_of(json, "last_request_at"),
        fields: fields.0,
    })
}

/// A tag.
///
/// # Errors
/// If it has no id.
pub fn tag(json: Json<'_>) -> Result<Tag, WireError> {
    let json = object(json, "tag")?;
    let id = text_of(json, "id").ok_or(WireError::NoId("tag"))?;
    Ok(Tag { id: IntercomTagId::new(id), name: text_of(json, "name").unwrap_or_default() })
}

fn small(json: Json<'_>) -> Option<u8> {
    whole(json).and_then(|number| u8::try_from(number).ok()).filter(|score| (1..=5).contains(score))
}

/// What the contact thought of a conversation; asked for and not yet answered is nothing.
pub fn rating(json: Json<'_>) -> Option<Rating> {
    let score = json.get("rating").and_then(small)?;
    Some(Rating { score, remark: text_of(json, "remark") })
}

/// A conversation. Bodies are dropped here.
///
/// # Errors
/// If it has no id.
pub fn conversation(json: Json<'_>) -> Result<Conversation, WireError> {
    let json = object(json, "conversation")?;
    let id = text_of(json, "id").ok_or(WireError::NoId("conversation"))?;
    let created = instant_of(json, "created_at");
    let updated = instant_of(json, "updated_at");
    let state = match json.get("state").and_then(Json::as_str) {
        Some("closed") => ConversationState::Closed,
        Some("snoozed") => ConversationState::Snoozed,
        Some("open") => ConversationState::Open,
        _ if json.get("open").and_then(flag) == Some(false) => ConversationState::Closed,
        _ => ConversationState::Open,
    };
    // Bare in some webhooks.
    let bare = |list: &Json<'_>| list.is_array();
    let contacts = json.get("contacts");
    let contacts = contacts.filter(bare).or_else(|| items_of(contacts?, &["contacts", "data"]));
    let source = json.get("source");
    let delivered_as = source.and_then(|source| text_of(source, "delivered_as"));
    let author = source.and_then(|source| source.get("author")).and_then(|author| text_of(author, "type"));
    let started_by_contact = match author.as_deref() {
        Some(author) => matches!(author, "user" | "lead" | "contact" | "visitor"),
        None => delivered_as.as_deref() == Some("customer_initiated"),
    };
    let tags = json.get("tags").and_then(|tags| items_of(tags, &["tags", "data"]));
    let sla = json.get("sla_applied").filter(|sla| sla.members().next().is_some());
    let statistics = json.get("statistics");
    let agent = json.get("ai_agent");
    Ok(Conversation {
        id: ConversationId::new(id),
        contacts: contacts.into_iter().flat_map(Json::items).filter_map(id_of).map(IntercomContactId::new).collect(),
        created_at: created.or(updated).unwrap_or_default(),
        updated_at: updated.or(created).unwrap_or_default(),
        state,
        snoozed_until: instant_of(json, "snoozed_until"),
        waiting_since: instant_of(json, "waiting_since"),
        priority: text_of(json, "priority"),
        source_type: source.and_then(|source| text_of(source, "type")),
        delivered_as,
        started_by_contact,
        rating: json.get("conversation_rating").and_then(rating),
        tags: tags.into_iter().flat_map(Json::items).filter_map(|tag| text_of(tag, "name")).collect(),
        sla: sla.map(|sla| Sla { name: text_of(sla, "sla_name"), status: text_of(sla, "sla_status") }),
        last_close_at: statistics.and_then(|statistics| instant_of(statistics, "last_close_at")),
        last_contact_reply_at: statistics.and_then(|statistics| instant_of(statistics, "last_contact_reply_at")),
        time_to_first_reply: statistics.and_then(|statistics| statistics.get("time_to_admin_reply")).and_then(whole),
        ai_participated: json.get("ai_agent_participated").and_then(flag),
        ai_resolution: agent.and_then(|agent| text_of(agent, "resolution_state")),
        ai_rating: agent.and_then(|agent| agent.get("rating")).and_then(small),
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
pub struct List<'t> {
    /// Its records: an array.
    pub items: Json<'t>,
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
pub fn list<'t>(json: Json<'t>, keys: &[&str], what: &'static str) -> Result<List<'t>, WireError> {
    let json = object(json, what)?;
    let items = items_of(json, keys).ok_or(WireError::NoList(what))?;
    let pages = json.get("pages");
    let count = |json: Option<Json<'_>>| json.and_then(whole).and_then(|number| u64::try_from(number).ok());
    let page = count(pages.and_then(|pages| pages.get("page")));
    let last = count(pages.and_then(|pages| pages.get("total_pages")));
    let next = pages.and_then(|pages| pages.get("next"));
    let next = match (next, next.and_then(Json::as_str)) {
        (None, _) => Next::End,
        // A URL. Only its query is used: a URL from an answer is never followed, because the token would go along.
        (Some(_), Some(url)) => {
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
        (Some(next), None) => match text_of(next, "starting_after") {
            Some(after) => Next::After(after),
            None => count(next.get("page")).map_or(Next::Unsaid, Next::Page),
        },
    };
    Ok(List { items, total: count(json.get("total_count")), next, scroll: text_of(json, "scroll_param") })
}

#[cfg(test)]
mod tests;
