//! Webhooks as Brevo has them registered. They are in the budget of a hundred requests an hour.

use super::client::{Ask, BrevoClient, OTHER};
use super::webhook::Auth;
use super::{errors, read, wire};
use crate::http::{Effect, lean};
use crate::model::{ErrorKind, Priority, SideError};
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use url::Url;

/// What a webhook is about. Each kind is listed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Contacts, lists and campaigns.
    Marketing,
    /// Single mails.
    Transactional,
    /// Mails that come in.
    Inbound,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Marketing, Self::Transactional, Self::Inbound];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::Transactional => "transactional",
            Self::Inbound => "inbound",
        }
    }

    /// The events that we act on, and with `activity` those that are only counted. Nothing tells that a contact was made,
    /// or taken off a list.
    pub fn events(self, activity: bool) -> BTreeSet<&'static str> {
        let ours: &[&str] = match self {
            Self::Marketing => &[
                "contactUpdated",
                "contactDeleted",
                "listAddition",
                "unsubscribed",
                "hardBounce",
                "softBounce",
                "spam",
            ],
            Self::Transactional => &["unsubscribed", "hardBounce", "softBounce", "spam"],
            Self::Inbound => return BTreeSet::new(),
        };
        let more: &[&str] = if activity { &["opened", "click", "delivered"] } else { &[] };
        ours.iter().chain(more).copied().collect()
    }
}

/// A webhook as it is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is about.
    pub kind: Kind,
    /// Where it goes to, without user and password.
    pub url: Url,
    /// How Brevo proves that it is its own.
    pub auth: Auth,
    /// Its events, as registrations write them.
    pub events: BTreeSet<&'static str>,
    /// Whether it comes in batches.
    pub batched: bool,
}

/// A webhook as it is registered.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its id.
    pub id: i64,
    /// What it is about.
    pub kind: Kind,
    /// Its events, as registrations write them.
    pub events: BTreeSet<String>,
    /// Whether it comes in batches.
    pub batched: bool,
    /// What somebody wrote about it.
    pub description: String,
    url: SecretString,
    token: Option<SecretString>,
    headers: Vec<(String, SecretString)>,
}

impl Registered {
    fn read(kind: Kind, json: lean::Json<'_>) -> Option<Self> {
        let headers = json.get("headers").into_iter().flat_map(lean::Json::items);
        Some(Self {
            id: wire::whole(json.get("id")?)?,
            kind,
            events: json
                .get("events")
                .filter(|events| events.is_array())?
                .items()
                .filter_map(lean::Json::as_str)
                .map(str::to_owned)
                .collect(),
            batched: json.get("batched").and_then(lean::Json::as_bool).unwrap_or(false),
            description: wire::text(json, "description").unwrap_or_default().to_owned(),
            url: wire::text(json, "url")?.to_owned().into(),
            token: json.get("auth").and_then(|auth| wire::text(auth, "token")).map(|token| token.to_owned().into()),
            headers: headers
                .filter_map(|header| Some((wire::text(header, "key")?, wire::text(header, "value")?)))
                .map(|(key, value)| (key.to_lowercase(), value.to_owned().into()))
                .collect(),
        })
    }

    /// Where it goes to, without user, password and query, which may be secrets.
    pub fn address(&self) -> String {
        Url::parse(self.url.expose_secret())
            .map_or_else(|_| "an address that cannot be read".to_owned(), |url| bare(&url).to_string())
    }

    /// Whether it goes where `url` says.
    pub fn goes_to(&self, url: &Url) -> bool {
        let plain = |url: &Url| bare(url).as_str().trim_end_matches('/').to_owned();
        Url::parse(self.url.expose_secret()).is_ok_and(|own| plain(&own) == plain(url))
    }

    /// In what it differs from what it is to be.
    pub fn differences(&self, wanted: &Wanted) -> Vec<&'static str> {
        let mut differ = Vec::new();
        if self.events.iter().map(String::as_str).collect::<BTreeSet<_>>() != wanted.events {
            differ.push("events");
        }
        if self.batched != wanted.batched {
            differ.push("batched");
        }
        if self.proof() != Proof::of(&wanted.auth, &wanted.url) {
            differ.push("secret");
        }
        differ
    }

    /// Whether a change cannot do: what proves it would be left beside what is to prove it.
    fn proves_otherwise(&self, wanted: &Wanted) -> bool {
        let (own, new) = (self.proof(), Proof::of(&wanted.auth, &wanted.url));
        (own.token.is_some() && new.token.is_none()) || (!own.headers.is_empty() && new.headers.is_empty())
    }

    fn proof(&self) -> Proof {
        let password = Url::parse(self.url.expose_secret()).ok().map(|url| user_and_password(&url)).unwrap_or_default();
        Proof {
            token: self.token.as_ref().map(|token| token.expose_secret().to_owned()),
            headers: self.headers.iter().map(|(key, value)| (key.clone(), value.expose_secret().to_owned())).collect(),
            password,
        }
    }
}

/// What comes along with a webhook, to be compared. It holds secrets and has no `Debug`.
#[derive(PartialEq)]
struct Proof {
    token: Option<String>,
    headers: BTreeSet<(String, String)>,
    password: String,
}

impl Proof {
    fn of(auth: &Auth, url: &Url) -> Self {
        let mut proof = Self { token: None, headers: BTreeSet::new(), password: String::new() };
        match auth {
            Auth::Bearer(token) => proof.token = Some(token.expose_secret().to_owned()),
            Auth::Header(name, value) => {
                proof.headers.insert((name.as_str().to_owned(), value.expose_secret().to_owned()));
            }
            Auth::Basic(..) => proof.password = user_and_password(&with_password(url, auth)),
        }
        proof
    }
}

fn user_and_password(url: &Url) -> String {
    url.password().map(|password| format!("{}:{password}", url.username())).unwrap_or_default()
}

fn with_password(url: &Url, auth: &Auth) -> Url {
    match auth {
        Auth::Basic(user, password) => with_user(url, user, Some(password.expose_secret())),
        Auth::Bearer(_) | Auth::Header(..) => bare(url),
    }
}

/// Without user, password, query and fragment.
fn bare(url: &Url) -> Url {
    let mut url = with_user(url, "", None);
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// With this user and password. (An address that has no host can have neither; it stays as it is.)
fn with_user(url: &Url, user: &str, password: Option<&str>) -> Url {
    let mut with = url.clone();
    let set = with.set_username(user).and_then(|()| with.set_password(password));
    if set.is_ok() { with } else { url.clone() }
}

/// How what we register is described.
const DESCRIPTION: &str = "Linkspan";

fn body(wanted: &Wanted) -> Map<String, Json> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Json| body.insert(key.to_owned(), value);
    // A user and a password have no place but the address.
    set("url", with_password(&wanted.url, &wanted.auth).as_str().into());
    set("description", DESCRIPTION.into());
    set("events", wanted.events.iter().copied().collect());
    set("batched", wanted.batched.into());
    match &wanted.auth {
        Auth::Bearer(token) => set("auth", json!({"type": "bearer", "token": token.expose_secret()})),
        Auth::Header(name, value) => set("headers", json!([{"key": name.as_str(), "value": value.expose_secret()}])),
        Auth::Basic(..) => None,
    };
    body
}

impl BrevoClient {
    /// The webhooks of a kind. An account without any answers "not found".
    ///
    /// # Errors
    /// Brevo's.
    pub async fn webhooks(&self, kind: Kind) -> Result<Vec<Registered>, Box<SideError>> {
        let target = format!("/webhooks?type={}&sort=asc", kind.as_str());
        let answer = match self.send(Ask::get(target, OTHER, Priority::Live)).await {
            Err(error) if error.kind == ErrorKind::NotFound || error.code.as_deref() == Some("document_not_found") => {
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let tree = read::json(&answer)?;
        let rows = tree.root().get("webhooks").filter(|rows| rows.is_array());
        let rows = rows.ok_or_else(|| errors::malformed(&answer))?;
        Ok(rows.items().filter_map(|row| Registered::read(kind, row)).collect())
    }

    /// Registers a webhook: its id.
    ///
    /// # Errors
    /// Brevo's.
    pub async fn create_webhook(&self, wanted: &Wanted) -> Result<i64, Box<SideError>> {
        let mut body = body(wanted);
        body.insert("type".to_owned(), wanted.kind.as_str().into());
        body.insert("channel".to_owned(), "email".into());
        let ask = Ask::write(Method::POST, "/webhooks", Json::Object(body), Effect::Creates, Priority::Live);
        let answer = self.send(ask.family(OTHER)).await?;
        read::json(&answer)?.root().get("id").and_then(wire::whole).ok_or_else(|| errors::unreadable_success(&answer))
    }

    /// Makes a webhook what it is to be: its id, another one where Brevo cannot change it so. Then the new one is
    /// registered before the old one goes, so that nothing falls between them.
    ///
    /// # Errors
    /// Brevo's.
    pub async fn change_webhook(&self, old: &Registered, wanted: &Wanted) -> Result<i64, Box<SideError>> {
        if !old.proves_otherwise(wanted) {
            let target = format!("/webhooks/{}", old.id);
            let ask = Ask::write(Method::PUT, target, Json::Object(body(wanted)), Effect::Idempotent, Priority::Live);
            match self.send(ask.family(OTHER)).await {
                Ok(_) => return Ok(old.id),
                // The description of changes leaves out two of the events that can be registered.
                Err(error) if matches!(error.kind, ErrorKind::Rejected { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let id = self.create_webhook(wanted).await?;
        self.delete_webhook(old.id).await?;
        Ok(id)
    }

    /// Removes a webhook. One that is not there any more is removed.
    ///
    /// # Errors
    /// Brevo's.
    pub async fn delete_webhook(&self, id: i64) -> Result<(), Box<SideError>> {
        let mut ask = Ask::get(format!("/webhooks/{id}"), OTHER, Priority::Live);
        (ask.method, ask.effect) = (Method::DELETE, Effect::Idempotent);
        match self.send(ask).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    }
}
