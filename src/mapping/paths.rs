//! What can be mapped: the paths of the records, by the API version that is pinned.

/// What kind of value stands at a path on the Intercom side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A calendar day, which custom attributes hold as unix seconds.
    Date,
    /// An instant.
    Instant,
    /// A set of texts.
    List,
    /// A nested object or array.
    Structure,
    /// Only the account knows (custom attributes, before discovery).
    Unknown,
}

use SourceKind::{Boolean, Instant, List, Number, Structure, Text};

/// Where tags are seen: those of contacts, of their companies and of their conversations.
pub const TAGS: &[&str] = &["tags", "company.tags", "conversations.last_tags", "conversations.tags"];

/// Paths of a contact itself, as API version 2.11 shows them, and of its tags.
pub const CONTACT: &[(&str, SourceKind)] = &[
    ("id", Text),
    ("external_id", Text),
    ("email", Text),
    ("phone", Text),
    ("formatted_phone", Text),
    ("name", Text),
    ("role", Text),
    ("avatar", Text),
    ("owner_id", Text),
    ("workspace_id", Text),
    ("has_hard_bounced", Boolean),
    ("marked_email_as_spam", Boolean),
    ("unsubscribed_from_emails", Boolean),
    ("unsubscribed_from_sms", Boolean),
    ("sms_consent", Boolean),
    ("created_at", Instant),
    ("updated_at", Instant),
    ("signed_up_at", Instant),
    ("last_seen_at", Instant),
    ("last_replied_at", Instant),
    ("last_contacted_at", Instant),
    ("last_email_opened_at", Instant),
    ("last_email_clicked_at", Instant),
    ("language_override", Text),
    ("browser", Text),
    ("browser_version", Text),
    ("browser_language", Text),
    ("os", Text),
    ("location.country", Text),
    ("location.region", Text),
    ("location.city", Text),
    ("location.country_code", Text),
    ("location.continent_code", Text),
    ("android_app_name", Text),
    ("android_app_version", Text),
    ("android_device", Text),
    ("android_os_version", Text),
    ("android_sdk_version", Text),
    ("android_last_seen_at", Instant),
    ("ios_app_name", Text),
    ("ios_app_version", Text),
    ("ios_device", Text),
    ("ios_os_version", Text),
    ("ios_sdk_version", Text),
    ("ios_last_seen_at", Instant),
    ("utm_campaign", Text),
    ("utm_content", Text),
    ("utm_medium", Text),
    ("utm_source", Text),
    ("utm_term", Text),
    ("referrer", Text),
    ("social_profiles", Structure),
    ("tags", List),
];

/// Paths of the contact's company.
pub const COMPANY: &[(&str, SourceKind)] = &[
    ("company.id", Text),
    ("company.company_id", Text),
    ("company.name", Text),
    ("company.plan", Text),
    ("company.size", Number),
    ("company.website", Text),
    ("company.industry", Text),
    ("company.monthly_spend", Number),
    ("company.session_count", Number),
    ("company.user_count", Number),
    ("company.created_at", Instant),
    ("company.updated_at", Instant),
    ("company.remote_created_at", Instant),
    ("company.last_request_at", Instant),
    ("company.tags", List),
    ("company.segments", List),
];

/// The figures of a contact's conversations. `reconcile::figures` computes exactly these.
pub const CONVERSATIONS: &[(&str, SourceKind)] = &[
    ("conversations.open_count", Number),
    ("conversations.total", Number),
    ("conversations.started_count", Number),
    ("conversations.last_state", Text),
    ("conversations.last_closed_at", Instant),
    ("conversations.last_rating", Number),
    ("conversations.last_remark", Text),
    ("conversations.last_tags", List),
    ("conversations.tags", List),
    ("conversations.last_priority", Text),
    ("conversations.last_sla_name", Text),
    ("conversations.last_sla_status", Text),
    ("conversations.waiting_since", Instant),
    ("conversations.last_channel", Text),
    ("conversations.last_delivered_as", Text),
    ("conversations.last_time_to_first_reply", Number),
    ("conversations.last_ai_participated", Boolean),
    ("conversations.last_ai_resolution", Text),
    ("conversations.last_ai_rating", Number),
    ("conversations.last_replied_at", Instant),
    ("conversations.last_seen_at", Instant),
];

/// Paths that a contact of the pinned version has not, though something else of Intercom's has: they load, with a
/// warning, and write nothing. The second part says who has it.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("session_count", "contacts of API version 1.x and companies (`company.session_count`) have it"),
    ("user_id", "contacts of API version 1.x have it; it is `external_id` now"),
    ("anonymous", "contacts of API version 1.x have it; `role` says it now"),
    ("pseudonym", "leads of API version 1.x have it"),
    ("last_request_at", "contacts of API version 1.x and companies (`company.last_request_at`) have it"),
    ("remote_created_at", "contacts of API version 1.x (now `signed_up_at`) and companies have it"),
    ("user_agent_data", "contacts of API version 1.x have it"),
    ("last_seen_ip", "contacts of API version 1.x have it"),
    ("email_domain", "some descriptions of the API name it, its answers do not show it; use `transform: email_domain`"),
    ("email_verified", "contacts have it from API version 2.16 on"),
    ("enabled_push_messaging", "contacts have it from API version 2.12 on"),
    ("merge_history", "contacts have it from API version 2.16 on"),
    ("monthly_spend", "companies have it (`company.monthly_spend`)"),
    ("user_count", "companies have it (`company.user_count`)"),
    ("industry", "companies have it (`company.industry`)"),
    ("website", "companies have it (`company.website`)"),
    ("size", "companies have it (`company.size`)"),
    ("plan", "companies have it (`company.plan`)"),
    ("company_id", "companies have it (`company.company_id`)"),
    ("waiting_since", "conversations have it (`conversations.waiting_since`)"),
    ("priority", "conversations have it (`conversations.last_priority`)"),
    ("state", "conversations have it (`conversations.last_state`)"),
    ("ai_agent_participated", "conversations have it (`conversations.last_ai_participated`)"),
    ("company.notes", "companies have it from API version 2.16 on"),
];

/// All paths that a record can have, but for custom attributes.
pub fn all() -> impl Iterator<Item = (&'static str, SourceKind)> {
    CONTACT.iter().chain(COMPANY).chain(CONVERSATIONS).copied()
}

/// What is known about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It can be mapped.
    Yes(SourceKind),
    /// Something else has it: these words say what.
    Elsewhere(&'static str),
    /// Nothing of Intercom's has it.
    No {
        /// The most similar path, if one is similar at all.
        nearest: Option<&'static str>,
    },
}

/// Looks a path up.
pub fn lookup(path: &str) -> Known {
    for prefix in ["custom_attributes.", "company.custom_attributes."] {
        if path.strip_prefix(prefix).is_some_and(|name| !name.trim().is_empty()) {
            return Known::Yes(SourceKind::Unknown);
        }
    }
    if let Some((_, kind)) = all().find(|(known, _)| *known == path) {
        return Known::Yes(kind);
    }
    if let Some((_, who)) = ELSEWHERE.iter().find(|(known, _)| *known == path) {
        return Known::Elsewhere(who);
    }
    Known::No { nearest: nearest(path, all().map(|(known, _)| known)) }
}

/// The most similar of the names, if it is similar enough to be what was meant.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(2))
        .min()
        .map(|(_, name)| name)
}

/// Whether reading `path` may read something at or below `prefix`.
pub(crate) fn touches(path: &str, prefix: &str) -> bool {
    let below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    path == prefix || below(path, prefix) || below(prefix, path)
}
