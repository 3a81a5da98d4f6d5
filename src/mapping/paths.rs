//! What can be mapped: the paths of the records, by the API version that is pinned.

use super::nearest::nearest;

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
    No(Meant),
}

/// What was probably meant by a path that nothing has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meant {
    /// The path, if one is near.
    pub path: Option<String>,
    /// What else there is to say.
    pub more: Option<String>,
}

impl Meant {
    fn path(path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), more: None }
    }

    /// In words, for a path that is written after this prefix (`record.` in expressions).
    pub fn in_words(&self, prefix: &str) -> Option<String> {
        let path = self.path.as_ref().map(|path| format!("did you mean `{prefix}{path}`?"));
        let words: Vec<String> = path.into_iter().chain(self.more.clone()).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
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
    Known::No(meant(path))
}

/// What paths of several parts begin with, with what else people call it.
const PREFIXES: &[(&str, &[&str])] = &[
    ("custom_attributes", &["custom_attribute", "custom", "attributes", "custom_data", "custom_fields"]),
    ("company", &["companies", "organisation", "organization", "account"]),
    ("conversations", &["conversation", "chats", "tickets"]),
    ("location", &["location_data", "locations"]),
    // These are the record itself.
    ("", &["contact", "contacts", "user", "users", "lead", "leads", "record"]),
];

/// Whether paths continue below this one, and it is none itself.
pub(super) fn is_prefix(path: &str) -> bool {
    PREFIXES.iter().any(|(prefix, _)| !prefix.is_empty() && *prefix == path)
}

fn meant(path: &str) -> Meant {
    // A path can hold no more than it takes to name one.
    if path.chars().count() > 200 {
        return Meant::default();
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let rest = rest.trim();
    let prefix = prefix_named(first);
    match prefix {
        Some("custom_attributes") if rest.is_empty() => {
            Meant { path: None, more: Some("name one of them: `custom_attributes.plan_tier`, say".to_owned()) }
        }
        Some("custom_attributes") => Meant::path(format!("custom_attributes.{rest}")),
        Some("") => match lookup_near(rest) {
            Some(path) => Meant::path(path),
            None => general(),
        },
        Some("company") => below_company(rest),
        Some(prefix) => below(prefix, rest),
        None => match lookup_near(path) {
            Some(near) => Meant { more: who_has(&near), path: Some(near) },
            None => general(),
        },
    }
}

/// The prefix that a first part names, or nearly names; a path of one part keeps its own meaning (`user_id`).
fn prefix_named(first: &str) -> Option<&'static str> {
    let first = first.trim().to_lowercase();
    if let Some((prefix, _)) =
        PREFIXES.iter().find(|(prefix, others)| *prefix == first || others.contains(&first.as_str()))
    {
        return Some(prefix);
    }
    // Only slips: `company_id` begins like a company, and is another path.
    let slips = |name: &str| strsim::damerau_levenshtein(&first, name) <= name.len() / 5;
    let named = PREFIXES.iter().find(|(prefix, others)| {
        let names = others.iter().filter(|name| name.len() > 6);
        !prefix.is_empty() && (slips(prefix) || names.into_iter().any(|name| slips(name)))
    });
    named.map(|(prefix, _)| *prefix)
}

/// A known path near this one, among all that exist anywhere.
fn lookup_near(path: &str) -> Option<String> {
    if let Known::Yes(_) | Known::Elsewhere(_) = lookup_exact(path) {
        return Some(path.to_owned());
    }
    let names = all().map(|(known, _)| known).chain(ELSEWHERE.iter().map(|(known, _)| *known));
    nearest(path, names).map(str::to_owned)
}

/// The table alone, without guesses.
fn lookup_exact(path: &str) -> Known {
    if let Some((_, kind)) = all().find(|(known, _)| *known == path) {
        return Known::Yes(kind);
    }
    let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == path);
    elsewhere.map_or(Known::No(Meant::default()), |(_, who)| Known::Elsewhere(who))
}

fn who_has(path: &str) -> Option<String> {
    match lookup_exact(path) {
        Known::Elsewhere(who) => Some(format!("It would write nothing: {who}.")),
        _ => None,
    }
}

fn below_company(rest: &str) -> Meant {
    let (second, name) = rest.split_once('.').unwrap_or((rest, ""));
    if prefix_named(second) == Some("custom_attributes") {
        return match name.trim() {
            "" => {
                Meant { path: None, more: Some("name one of them: `company.custom_attributes.tier`, say".to_owned()) }
            }
            name => Meant::path(format!("company.custom_attributes.{name}")),
        };
    }
    let mut meant = below("company", rest);
    if rest.is_empty() {
        meant.path = Some("company.name".to_owned());
    }
    let more = "its own attributes are written `company.custom_attributes.NAME`";
    meant.more = Some(meant.more.map_or_else(|| more.to_owned(), |words| format!("{words}; {more}")));
    meant
}

/// A path below a known prefix: the nearest one, or all of them.
fn below(prefix: &str, rest: &str) -> Meant {
    let names = || all().filter_map(|(known, _)| known.strip_prefix(prefix)?.strip_prefix('.'));
    if let Some(near) = nearest(rest, names()) {
        return Meant::path(format!("{prefix}.{near}"));
    }
    let names: Vec<String> = names().map(|name| format!("`{prefix}.{name}`")).collect();
    Meant { path: None, more: Some(format!("there are {}", names.join(", "))) }
}

fn general() -> Meant {
    let more = "a custom attribute is written `custom_attributes.NAME`, a field of the company `company.NAME`, a figure of \
                the conversations `conversations.NAME`; mappings/README.md lists them";
    Meant { path: None, more: Some(more.to_owned()) }
}

/// Whether reading `path` may read something at or below `prefix`.
pub(crate) fn touches(path: &str, prefix: &str) -> bool {
    let below = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    path == prefix || below(path, prefix) || below(prefix, path)
}
