//! The account, pages of contacts and lists, and single contacts.

use super::client::{Ask, BrevoClient, CONTACTS, OTHER, encode, unsupported};
use super::{errors, wire};
use crate::http::lean::{Json, Tree};
use crate::http::server_time;
use crate::model::{
    AccountInfo, BrevoListId, ContactKey, Cursor, ErrorKind, Fetched, Gone, Observation, Priority, ReadPage,
    ReadRequest, Resource, Scope, SideError, SideName,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// The most contacts that one page holds.
const CONTACTS_A_PAGE: u64 = 1000;
/// The most lists (and folders) that one page holds.
pub(super) const LISTS_A_PAGE: u64 = 50;

/// Where a sweep stands: Brevo counts from the start.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    offset: u64,
}

/// A successful answer's JSON.
pub(super) fn json(answer: &http::Response<Bytes>) -> Result<Tree<'_>, Box<SideError>> {
    Tree::from_slice(answer.body()).map_err(|_| errors::malformed(answer))
}

impl BrevoClient {
    pub(super) async fn read_account(&self) -> Result<AccountInfo, Box<SideError>> {
        let answer = self.send(Ask::get("/account", OTHER, Priority::Live)).await?;
        let tree = json(&answer)?;
        let account = tree.root();
        let id = account.get("organization_id").and_then(wire::identifier);
        let id = id.ok_or_else(|| errors::malformed(&answer))?;
        let timezone = account.get("dateTimePreferences").and_then(|preferences| wire::text(preferences, "timezone"));
        Ok(AccountInfo {
            id,
            name: wire::text(account, "companyName").map(str::to_owned),
            timezone: timezone.map(str::to_owned),
            region: None,
            server_time: server_time(answer.headers()),
        })
    }

    pub(super) async fn read_page(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>> {
        if request.resource == Resource::Companies {
            return self.read_companies(request).await;
        }
        let offset = match &request.cursor {
            None => 0,
            Some(cursor) => {
                serde_json::from_str::<Position>(&cursor.0).map(|position| position.offset).map_err(|_| {
                    SideError::new(SideName::Brevo, ErrorKind::LostCursor, "a cursor that Brevo's room did not make")
                })?
            }
        };
        // Oldest first: what is created meanwhile then comes last, and shifts no page.
        let (target, key) = match request.resource {
            Resource::Contacts => {
                let filter = match request.scope {
                    Scope::Full => String::new(),
                    Scope::Since(instant) => format!("&modifiedSince={}", encode(&since(instant))),
                    Scope::CreatedSince(instant) => format!("&createdSince={}", encode(&since(instant))),
                };
                (format!("/contacts?limit={CONTACTS_A_PAGE}&offset={offset}&sort=asc{filter}"), "contacts")
            }
            Resource::Lists => (format!("/contacts/lists?limit={LISTS_A_PAGE}&offset={offset}&sort=asc"), "lists"),
            other => return Err(unsupported(other.as_str())),
        };
        let read = |answer: &http::Response<Bytes>, json: Json<'_>| {
            let (rows, total) = wire::rows(json, key).ok_or_else(|| errors::malformed(answer))?;
            let end = offset.saturating_add(rows.len() as u64);
            let asked = if request.resource == Resource::Lists { LISTS_A_PAGE } else { CONTACTS_A_PAGE };
            // A page shorter than asked ends the sweep only where the total agrees: the vendor may cap pages lower.
            let more = !rows.is_empty() && total.map_or(rows.len() as u64 >= asked, |total| end < total);
            let observations: Vec<Observation> = rows
                .iter()
                .filter_map(|&row| match request.resource {
                    Resource::Lists => list(row),
                    _ => wire::contact(row).map(|contact| Observation::BrevoContact(Box::new(contact))),
                })
                .collect();
            if observations.len() < rows.len() {
                tracing::warn!(
                    skipped = rows.len() - observations.len(),
                    resource = key,
                    "Brevo sent rows without an id"
                );
            }
            let next = more.then(|| Cursor(format!(r#"{{"offset":{end}}}"#)));
            let server_time = server_time(answer.headers());
            Ok(ReadPage { observations, next, total, server_time, repeats_are_errors: true })
        };
        let page = self.ask(Ask::get(target, CONTACTS, request.priority), read).await?;
        if let Scope::Since(instant) = request.scope {
            let older = |seen: &&Observation| matches!(seen, Observation::BrevoContact(c) if c.modified_at < instant);
            let older = page.observations.iter().filter(older).count();
            if older > 0 {
                // A parameter that Brevo does not know is ignored with a 200, and an increment becomes a full scan.
                tracing::warn!(older, "Brevo sent contacts that did not change since the time asked for");
            }
        }
        Ok(page)
    }

    pub(super) async fn count_contacts(
        &self,
        instant: DateTime<Utc>,
        priority: Priority,
    ) -> Result<ReadPage, Box<SideError>> {
        let target = format!("/contacts?limit=1&offset=0&modifiedSince={}", encode(&since(instant)));
        let answer = self.send(Ask::get(target, CONTACTS, priority)).await?;
        let tree = json(&answer)?;
        let (rows, total) = wire::rows(tree.root(), "contacts").ok_or_else(|| errors::malformed(&answer))?;
        let shown = rows.into_iter().filter_map(wire::contact);
        let observations = shown.map(|contact| Observation::BrevoContact(Box::new(contact))).collect();
        let server_time = server_time(answer.headers());
        Ok(ReadPage { observations, next: None, total, server_time, repeats_are_errors: false })
    }

    pub(super) async fn fetch_contact(&self, key: &ContactKey, priority: Priority) -> Result<Fetched, Box<SideError>> {
        // Always with its type: a numeric external id or a phone would be taken for a contact id.
        let (identifier, kind) = match key {
            ContactKey::Brevo(id) => (id.to_string(), "contact_id"),
            ContactKey::BrevoEmail(email) => (email.as_str().to_owned(), "email_id"),
            ContactKey::BrevoExtId(id) => (id.clone(), "ext_id"),
            ContactKey::BrevoPhone(phone) => (phone.clone(), "phone_id"),
            ContactKey::Intercom(_) | ContactKey::IntercomExternalId(_) | ContactKey::IntercomEmail(_) => {
                return Err(unsupported("Intercom contacts"));
            }
        };
        if identifier.trim().is_empty() || identifier.chars().all(|c| c == '.') {
            // It would change the path instead of naming a contact.
            let kind = ErrorKind::Rejected { field: Some(kind.to_owned()) };
            return Err(SideError::new(SideName::Brevo, kind, "an identifier that no path can carry"));
        }
        let target = format!("/contacts/{}?identifierType={kind}", encode(&identifier));
        let answer = match self.send(Ask::get(target, CONTACTS, priority)).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Fetched::Gone(Gone::Deleted)),
            // What Brevo deems malformed cannot be there. (An id of Brevo's own never is.)
            Err(error) if !matches!(key, ContactKey::Brevo(_)) && is_malformed_identifier(&error) => {
                return Ok(Fetched::Gone(Gone::Deleted));
            }
            Err(error) => return Err(error),
        };
        let contact = wire::contact(json(&answer)?.root()).ok_or_else(|| errors::malformed(&answer))?;
        Ok(Fetched::Found(Box::new(Observation::BrevoContact(Box::new(contact))), server_time(answer.headers())))
    }
}

/// 400 "Invalid email address" and its kin.
fn is_malformed_identifier(error: &SideError) -> bool {
    let words = error.message.to_lowercase();
    error.status == Some(400)
        && words.contains("invalid")
        && ["email", "phone", "sms", "ext_id", "identifier"].iter().any(|name| words.contains(name))
}

fn list(row: Json<'_>) -> Option<Observation> {
    let id = BrevoListId::new(wire::whole(row.get("id")?)?);
    Some(Observation::BrevoList { id, name: row.get("name").and_then(Json::as_str).unwrap_or_default().to_owned() })
}

/// UTC with milliseconds and `Z`: the one form without a `+`, which a query would turn into a space.
pub(super) fn since(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}
