//! Webhooks: is one Brevo's, what does it tell, and whom does it name.
//!
//! Pure: no server, no clock. A webhook carries no signature, no delivery id and mostly no contact id, comes out of
//! order, late, twice or never, and shows only what has changed, in one of several shapes. So nothing of its payload is
//! taken for the contact's state: it names people who are to be read. The exception are opt-outs, which are facts with a
//! time, whatever a later read shows.

use super::wire;
use crate::http::lean::{Json, Tree};
use crate::model::{BrevoContactId, Email, OptOutReason};
use base64::Engine as _;
use chrono::{DateTime, Utc};
use hmac::{KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeSet;

/// The longest body that is parsed. A batch holds 500 events at most.
pub const LONGEST_BODY: usize = 8 * 1024 * 1024;

/// How Brevo proves that a webhook is its own. It signs nothing: a secret comes along.
#[derive(Debug, Clone)]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
    /// `Authorization: Basic …`: user and password, from the address that is registered.
    Basic(String, SecretString),
    /// A header of its own.
    Header(HeaderName, SecretString),
}

impl Auth {
    /// Whether it proves anything: an empty secret would let anybody in.
    pub fn is_set(&self) -> bool {
        let (Self::Bearer(secret) | Self::Basic(_, secret) | Self::Header(_, secret)) = self;
        !secret.expose_secret().is_empty()
    }

    /// The header that a webhook of Brevo's has.
    pub fn header(&self) -> HeaderName {
        match self {
            Self::Bearer(_) | Self::Basic(..) => header::AUTHORIZATION,
            Self::Header(name, _) => name.clone(),
        }
    }

    /// Whether these are the headers of a webhook of Brevo's. Compared in constant time; of two, nobody knows which
    /// counts.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(self.header()).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return false };
        if !self.is_set() {
            return false;
        }
        let given = given.as_bytes();
        match self {
            Self::Bearer(token) => credentials(given, b"bearer").is_some_and(|given| same(token, given)),
            Self::Header(_, value) => same(value, given),
            Self::Basic(user, password) => {
                let Some(given) = credentials(given, b"basic") else { return false };
                let Ok(given) = base64::engine::general_purpose::STANDARD.decode(given) else { return false };
                same(&SecretString::from(format!("{user}:{}", password.expose_secret())), &given)
            }
        }
    }
}

/// What follows a scheme, whose case does not matter.
fn credentials<'a>(header: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (given, rest) = header.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ").filter(|_| given.eq_ignore_ascii_case(scheme))?;
    Some(rest.trim_ascii())
}

/// In constant time, whatever the lengths: what is compared are two codes under the same key.
fn same(secret: &SecretString, given: &[u8]) -> bool {
    let secret = secret.expose_secret().as_bytes();
    let code = || hmac::Hmac::<sha1::Sha1>::new_from_slice(secret);
    let (Ok(mut ours), Ok(mut theirs)) = (code(), code()) else { return false };
    ours.update(secret);
    theirs.update(given);
    theirs.verify(&ours.finalize().into_bytes()).is_ok()
}

/// Why a body is no webhook of Brevo's. The body is not repeated: it is personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than anything that Brevo sends.
    #[error("longer than {LONGEST_BODY} bytes")]
    TooLong,
    /// Not JSON, cut, or nested deeper than any payload.
    #[error("not JSON (line {line}, column {column})")]
    NotJson {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// JSON without anything that says which event it is.
    #[error("without an event")]
    NoEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `contact_updated`.
    ContactUpdated,
    /// `contact_deleted`.
    ContactDeleted,
    /// `list_addition`.
    ListAddition,
    /// `unsubscribed`.
    Unsubscribed,
    /// `hard_bounce`.
    HardBounce,
    /// `spam`.
    Spam,
    /// What changes nothing about the contact: `soft_bounce`, `opened`, `click`, `delivered` and their kin, by name.
    Activity(&'static str),
    /// One that we do not know.
    Unknown,
}

/// Names as they are compared (without case, `_`, `-`, `.` and blanks: registrations say `hardBounce`, bodies
/// `hard_bounce`, and `list.addition` has been seen) and what they mean.
const EVENTS: [(&str, Event); 38] = [
    ("contactupdated", Event::ContactUpdated),
    ("contactupdate", Event::ContactUpdated),
    ("contactdeleted", Event::ContactDeleted),
    ("contactdelete", Event::ContactDeleted),
    ("listaddition", Event::ListAddition),
    ("unsubscribed", Event::Unsubscribed),
    ("unsubscribe", Event::Unsubscribed),
    ("hardbounce", Event::HardBounce),
    ("hardbounced", Event::HardBounce),
    ("spam", Event::Spam),
    ("complaint", Event::Spam),
    ("markedasspam", Event::Spam),
    ("softbounce", Event::Activity("soft_bounce")),
    ("softbounced", Event::Activity("soft_bounce")),
    ("opened", Event::Activity("opened")),
    ("open", Event::Activity("opened")),
    ("uniqueopened", Event::Activity("unique_opened")),
    ("firstopening", Event::Activity("unique_opened")),
    ("proxyopen", Event::Activity("proxy_open")),
    ("proxyopened", Event::Activity("proxy_open")),
    ("uniqueproxyopen", Event::Activity("unique_proxy_open")),
    ("uniqueproxyopened", Event::Activity("unique_proxy_open")),
    ("click", Event::Activity("click")),
    ("clicked", Event::Activity("click")),
    ("uniqueclick", Event::Activity("click")),
    ("delivered", Event::Activity("delivered")),
    ("delivery", Event::Activity("delivered")),
    ("request", Event::Activity("request")),
    ("requests", Event::Activity("request")),
    ("sent", Event::Activity("request")),
    ("deferred", Event::Activity("deferred")),
    ("blocked", Event::Activity("blocked")),
    ("invalid", Event::Activity("invalid")),
    ("invalidemail", Event::Activity("invalid")),
    ("error", Event::Activity("error")),
    ("reply", Event::Activity("reply")),
    ("replied", Event::Activity("reply")),
    ("loadedbyproxy", Event::Activity("proxy_open")),
];

impl Event {
    fn parse(name: &str) -> Self {
        let plain = |c: &char| !matches!(c, '_' | '-' | '.' | ' ');
        let name: String = name.chars().filter(plain).flat_map(char::to_lowercase).collect();
        EVENTS.iter().find(|(known, _)| *known == name).map_or(Self::Unknown, |(_, event)| event.clone())
    }

    /// As Brevo's bodies write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ContactUpdated => "contact_updated",
            Self::ContactDeleted => "contact_deleted",
            Self::ListAddition => "list_addition",
            Self::Unsubscribed => "unsubscribed",
            Self::HardBounce => "hard_bounce",
            Self::Spam => "spam",
            Self::Activity(name) => name,
            Self::Unknown => "unknown",
        }
    }
}

/// One event.
#[derive(Clone, PartialEq, Eq)]
pub struct Hint {
    /// What happened.
    pub event: Event,
    /// Whom it names by address: a change of many names many, a change of address both.
    pub emails: BTreeSet<Email>,
    /// Whom it names by id. (`id` itself is the webhook's.)
    pub contacts: BTreeSet<BrevoContactId>,
    /// An opt-out from e-mail, of all whom it names, and why.
    pub opted_out: Option<OptOutReason>,
    /// When it happened, if it says.
    pub at: Option<DateTime<Utc>>,
    /// The API key that made the change; blank if none did.
    pub key_name: Option<String>,
}

/// Without the people, who are personal data.
impl std::fmt::Debug for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hint")
            .field("event", &self.event)
            .field("names", &(self.emails.len() + self.contacts.len()))
            .field("opted_out", &self.opted_out)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// A body: one event, or a batch of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its events, in their order.
    pub hints: Vec<Hint>,
    /// What stood among them and is no event.
    pub unreadable: u64,
    /// It came as a batch.
    pub batched: bool,
}

impl Delivery {
    /// Parses a body. Nesting beyond what `serde_json` allows (128 levels) is refused. A batch is taken as long as one
    /// event of it can be read: Brevo discards what is refused, all of it.
    ///
    /// # Errors
    /// Says why `body` holds no event, without repeating any of it.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        if body.len() > LONGEST_BODY {
            return Err(ParseError::TooLong);
        }
        let tree = Tree::from_slice(body)
            .map_err(|error| ParseError::NotJson { line: error.line(), column: error.column() })?;
        let json = tree.root();
        // What a batch looks like is nowhere shown: an array is likely, the array in an object possible.
        let batch = if json.is_array() { Some(json) } else { json.get("events").filter(|events| events.is_array()) };
        let batch = batch.filter(|_| json.get("event").is_none());
        let (all, hints): (usize, Vec<Hint>) = match batch {
            Some(items) => (items.items().count(), items.items().filter_map(hint).collect()),
            None => (1, hint(json).into_iter().collect()),
        };
        let batched = batch.is_some();
        if hints.is_empty() {
            return Err(ParseError::NoEvent);
        }
        Ok(Self { unreadable: (all - hints.len()) as u64, hints, batched })
    }

    /// What it is about, in one word.
    pub fn topic(&self) -> &'static str {
        match &*self.hints {
            [one] if !self.batched => one.event.as_str(),
            _ => "batch",
        }
    }
}

fn hint(json: Json<'_>) -> Option<Hint> {
    const LONGEST_NAME: usize = 200;
    let name = wire::text(json, "event").filter(|name| name.len() <= LONGEST_NAME)?;
    let event = Event::parse(name);
    let mut named = Named::default();
    named.read(json);
    // One change, or for lists, and for whatever else names several at once, several.
    let content = json.get("content");
    let alone = content.filter(|content| content.is_object());
    let changes =
        alone.into_iter().chain(content.into_iter().flat_map(Json::items)).filter(|change| change.is_object());
    let blocklisted = changes.fold(false, |out, change| {
        named.read(change);
        out | blocklists(change)
    });
    let opted_out = match event {
        Event::Unsubscribed => Some(OptOutReason::Unsubscribed),
        Event::HardBounce => Some(OptOutReason::HardBounced),
        Event::Spam => Some(OptOutReason::Spam),
        Event::ContactUpdated if blocklisted => Some(OptOutReason::Blocklisted),
        _ => None,
    };
    Some(Hint {
        event,
        emails: named.emails,
        contacts: named.contacts,
        opted_out,
        at: ["ts_event", "ts"].into_iter().find_map(|key| epoch(json.get(key)?)),
        key_name: wire::text(json, "api_key_name").map(|name| name.trim().to_owned()),
    })
}

/// `emailBlacklist` here, `emailBlacklisted` in the API.
fn blocklists(change: Json<'_>) -> bool {
    let says = |key| change.get(key).and_then(Json::as_bool) == Some(true);
    ["emailBlacklist", "emailBlacklisted"].into_iter().any(says)
}

/// Seconds, by the documentation; thousandths are told apart by their size.
fn epoch(json: Json<'_>) -> Option<DateTime<Utc>> {
    const LAST_SECOND: i64 = 100_000_000_000;
    match wire::whole(json)? {
        at @ 1..LAST_SECOND => DateTime::from_timestamp(at, 0),
        at if at >= LAST_SECOND => DateTime::from_timestamp_millis(at),
        _ => None,
    }
}

#[derive(Default)]
struct Named {
    emails: BTreeSet<Email>,
    contacts: BTreeSet<BrevoContactId>,
}

impl Named {
    fn read(&mut self, json: Json<'_>) {
        for (key, value) in json.members() {
            match &*key.to_ascii_lowercase() {
                "email" => value.as_str().into_iter().for_each(|email| self.email(email)),
                "contact_id" | "contactid" => {
                    self.contacts.extend(wire::whole(value).filter(|id| *id > 0).map(BrevoContactId::new));
                }
                // The new address; the one outside is the old one.
                "attributes" => {
                    for (name, value) in value.members() {
                        if let (true, Some(email)) = (name.eq_ignore_ascii_case("EMAIL"), value.as_str()) {
                            self.email(email);
                        }
                    }
                }
                _ => {}
            }
            if ["email", "emails"].iter().any(|name| key.eq_ignore_ascii_case(name)) {
                value.items().filter_map(Json::as_str).for_each(|email| self.email(email));
            }
        }
    }

    fn email(&mut self, email: &str) {
        self.emails.extend(Email::parse(email));
    }
}
