//! Contacts and companies as JSON: unix seconds over REST, ISO text with milliseconds in webhooks.

use super::answer::Version;
use super::state::{Company, Contact, Location, State};
use chrono::{DateTime, SecondsFormat};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// What is embedded at most; the rest is behind the list's `url`.
pub(super) const MOST_EMBEDDED: usize = 10;

/// Where a record is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Rest(Version),
    Webhook,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stamp {
    Seconds(i64),
    Iso(i64),
}

/// An instant (milliseconds) as ISO text the way webhooks write it.
pub(super) fn iso(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, false)
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Seconds(seconds) => serializer.serialize_i64(*seconds),
            Self::Iso(millis) => serializer.serialize_str(&iso(*millis)),
        }
    }
}

impl Form {
    fn millis(self, at: i64) -> Stamp {
        match self {
            Self::Rest(_) => Stamp::Seconds(at.div_euclid(1000)),
            Self::Webhook => Stamp::Iso(at),
        }
    }

    fn seconds(self, at: Option<i64>) -> Option<Stamp> {
        at.map(|at| self.millis(at.saturating_mul(1000)))
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    r#type: &'static str,
    id: &'a str,
    url: String,
}

#[derive(Serialize)]
struct Embedded<'a> {
    r#type: &'static str,
    data: Vec<Entry<'a>>,
    url: String,
    total_count: usize,
    has_more: bool,
}

fn embedded<'a>(
    contact: &Contact,
    kind: &'static str,
    under: &str,
    list: &str,
    ids: impl ExactSizeIterator<Item = &'a str>,
) -> Embedded<'a> {
    let total_count = ids.len();
    Embedded {
        r#type: "list",
        data: ids.take(MOST_EMBEDDED).map(|id| Entry { r#type: kind, id, url: format!("/{under}/{id}") }).collect(),
        url: format!("/contacts/{}/{list}", contact.id),
        total_count,
        has_more: total_count > MOST_EMBEDDED,
    }
}

#[derive(Serialize)]
struct Avatar<'a> {
    r#type: &'static str,
    image_url: &'a str,
}

#[derive(Serialize)]
struct Place<'a> {
    r#type: &'static str,
    country: Option<&'a str>,
    region: Option<&'a str>,
    city: Option<&'a str>,
    country_code: Option<&'a str>,
    continent_code: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(location: &'a Location) -> Self {
        Self {
            r#type: "location",
            country: location.country.as_deref(),
            region: location.region.as_deref(),
            city: location.city.as_deref(),
            country_code: location.country_code.as_deref(),
            continent_code: location.continent_code.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Profiles {
    r#type: &'static str,
    data: [u8; 0],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Owner {
    Number(i64),
    Text(String),
}

#[derive(Serialize)]
struct View<'a> {
    r#type: &'static str,
    id: &'a str,
    workspace_id: &'a str,
    external_id: Option<&'a str>,
    role: &'static str,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    formatted_phone: Option<&'a str>,
    name: Option<&'a str>,
    avatar: Option<Avatar<'a>>,
    owner_id: Option<Owner>,
    social_profiles: Profiles,
    has_hard_bounced: bool,
    marked_email_as_spam: bool,
    unsubscribed_from_emails: bool,
    created_at: Stamp,
    updated_at: Stamp,
    signed_up_at: Option<Stamp>,
    last_seen_at: Option<Stamp>,
    last_replied_at: Option<Stamp>,
    last_contacted_at: Option<Stamp>,
    last_email_opened_at: Option<Stamp>,
    last_email_clicked_at: Option<Stamp>,
    language_override: Option<&'a str>,
    browser: Option<&'a str>,
    browser_version: Option<&'a str>,
    browser_language: Option<&'a str>,
    os: Option<&'a str>,
    location: Place<'a>,
    android_app_name: (),
    android_app_version: (),
    android_device: (),
    android_os_version: (),
    android_sdk_version: (),
    android_last_seen_at: (),
    ios_app_name: (),
    ios_app_version: (),
    ios_device: (),
    ios_os_version: (),
    ios_sdk_version: (),
    ios_last_seen_at: (),
    custom_attributes: &'a Map<String, Value>,
    tags: Embedded<'a>,
    notes: Embedded<'a>,
    companies: Embedded<'a>,
    opted_out_subscription_types: Embedded<'a>,
    opted_in_subscription_types: Embedded<'a>,
    utm_campaign: (),
    utm_content: (),
    utm_medium: (),
    utm_source: (),
    utm_term: (),
    referrer: (),
    sms_consent: bool,
    unsubscribed_from_sms: bool,
}

/// A contact's JSON, written without an intermediate tree: whole pages of them are served.
pub(super) fn contact_bytes(state: &State, contact: &Contact, form: Form, out: &mut Vec<u8>) {
    let chosen = |opted_in: bool| {
        contact
            .subscriptions
            .iter()
            .filter(|(_, choice)| *choice == opted_in)
            .map(|(id, _)| id.as_str())
            .collect::<Vec<_>>()
    };
    // A phone that can be read as a number also shows in E.164; the raw text stays what somebody typed.
    let formatted = contact.phone.as_deref().filter(|phone| {
        phone
            .strip_prefix('+')
            .is_some_and(|digits| digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let view = View {
        r#type: "contact",
        id: &contact.id,
        workspace_id: &state.options.app_id,
        external_id: contact.external_id.as_deref(),
        role: contact.role.name(),
        email: contact.email.as_deref(),
        phone: contact.phone.as_deref(),
        formatted_phone: formatted,
        name: contact.name.as_deref(),
        avatar: contact.avatar.as_deref().map(|image_url| Avatar { r#type: "avatar", image_url }),
        owner_id: contact.owner_id.map(|owner| match form {
            Form::Rest(version) if version >= Version::V2_16 => Owner::Text(owner.to_string()),
            _ => Owner::Number(owner),
        }),
        social_profiles: Profiles { r#type: "list", data: [] },
        has_hard_bounced: contact.bounced,
        marked_email_as_spam: contact.spam,
        unsubscribed_from_emails: contact.unsubscribed,
        created_at: form.millis(contact.created),
        updated_at: form.millis(contact.updated),
        signed_up_at: form.seconds(contact.signed_up),
        last_seen_at: form.seconds(contact.last_seen),
        last_replied_at: form.seconds(contact.last_replied),
        last_contacted_at: form.seconds(contact.last_contacted),
        last_email_opened_at: form.seconds(contact.last_email_opened),
        last_email_clicked_at: form.seconds(contact.last_email_clicked),
        language_override: contact.language_override.as_deref(),
        browser: contact.browser.as_deref(),
        browser_version: contact.browser_version.as_deref(),
        browser_language: contact.browser_language.as_deref(),
        os: contact.os.as_deref(),
        location: Place::of(&contact.location),
        android_app_name: (),
        android_app_version: (),
        android_device: (),
        android_os_version: (),
        android_sdk_version: (),
        android_last_seen_at: (),
        ios_app_name: (),
        ios_app_version: (),
        ios_device: (),
        ios_os_version: (),
        ios_sdk_version: (),
        ios_last_seen_at: (),
        custom_attributes: &contact.custom,
        tags: embedded(contact, "tag", "tags", "tags", contact.tags.iter().map(|tag| tag.id.as_str())),
        notes: embedded(contact, "note", "notes", "notes", contact.notes.iter().map(String::as_str)),
        companies: embedded(contact, "company", "companies", "companies", contact.companies.iter().map(String::as_str)),
        opted_out_subscription_types: embedded(
            contact,
            "subscription",
            "subscription_types",
            "subscriptions",
            chosen(false).into_iter(),
        ),
        opted_in_subscription_types: embedded(
            contact,
            "subscription",
            "subscription_types",
            "subscriptions",
            chosen(true).into_iter(),
        ),
        utm_campaign: (),
        utm_content: (),
        utm_medium: (),
        utm_source: (),
        utm_term: (),
        referrer: (),
        sms_consent: false,
        unsubscribed_from_sms: contact.sms_unsubscribed,
    };
    if serde_json::to_writer(&mut *out, &view).is_err() {
        out.extend_from_slice(b"null");
    }
}

/// A contact's JSON as a tree, for webhooks.
pub(super) fn contact_value(state: &State, contact: &Contact, form: Form) -> Value {
    let mut bytes = Vec::with_capacity(2048);
    contact_bytes(state, contact, form, &mut bytes);
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// A company over REST.
pub(super) fn company_value(state: &State, company: &Company) -> Value {
    let mut value = json!({
        "type": "company",
        "company_id": company.remote_id,
        "id": company.id,
        "app_id": state.options.app_id,
        "name": company.name,
        "remote_created_at": company.remote_created,
        "created_at": company.created.div_euclid(1000),
        "updated_at": company.updated.div_euclid(1000),
        "last_request_at": company.last_request,
        "monthly_spend": company.monthly_spend,
        "session_count": company.session_count,
        "user_count": members(state, company),
        "tags": {"type": "tag.list", "tags": company.tags.iter().map(|id| tag_basic(state, id)).collect::<Vec<_>>()},
        "segments": {"type": "segment.list", "segments": []},
        "plan": plan(state, company),
        "custom_attributes": company.custom,
    });
    // Unset ones are absent, not null.
    if let Some(map) = value.as_object_mut() {
        if let Some(size) = company.size {
            map.insert("size".to_owned(), size.into());
        }
        if let Some(website) = &company.website {
            map.insert("website".to_owned(), website.clone().into());
        }
        if let Some(industry) = &company.industry {
            map.insert("industry".to_owned(), industry.clone().into());
        }
    }
    value
}

fn plan(state: &State, company: &Company) -> Value {
    match &company.plan {
        None => json!({}),
        Some(name) => {
            let id = state.plans.get(name).copied().unwrap_or(0).to_string();
            json!({"type": "plan", "id": id, "name": name})
        }
    }
}

/// Only contacts that are there count: a company without any is not listed.
pub(super) fn members(state: &State, company: &Company) -> usize {
    company.members.iter().filter(|slot| state.contact(**slot).is_some_and(Contact::is_live)).count()
}

/// A company in a webhook: ISO times, `tag_ids` in place of tags, no segments, plan null.
pub(super) fn company_webhook(state: &State, company: &Company, attached: bool) -> Value {
    let mut value = json!({
        "type": "company",
        "id": company.id,
        "name": company.name,
        "app_id": state.options.app_id,
        "plan": null,
        "company_id": company.remote_id,
        "remote_created_at": company.remote_created.map(|at| iso(at.saturating_mul(1000))),
        "created_at": iso(company.created),
        "updated_at": iso(company.updated),
        "last_request_at": company.last_request.map(|at| iso(at.saturating_mul(1000))),
        "size": company.size,
        "website": company.website,
        "industry": company.industry,
        "monthly_spend": company.monthly_spend,
        "session_count": company.session_count,
        "user_count": members(state, company),
        "custom_attributes": company.custom,
        "tag_ids": company.tags,
    });
    if attached && let Some(map) = value.as_object_mut() {
        map.remove("plan");
        map.insert("plan_id".to_owned(), company.plan.as_ref().and_then(|name| state.plans.get(name)).copied().into());
    }
    value
}

/// `{type, id, name}`.
pub(super) fn tag_basic(state: &State, id: &str) -> Value {
    json!({"type": "tag", "id": id, "name": state.tags.get(id).map_or("", String::as_str)})
}

/// A tag as applied to something.
pub(super) fn tag_applied(state: &State, id: &str, applied_at: i64) -> Value {
    let admin = super::misc::FIRST_ADMIN.to_string();
    json!({
        "type": "tag",
        "id": id,
        "name": state.tags.get(id).map_or("", String::as_str),
        "applied_at": applied_at,
        "applied_by": {"type": "admin", "id": admin},
    })
}
