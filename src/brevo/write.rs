//! Single contacts, list membership, lists, events.

use super::client::{Ask, BrevoClient, CONTACTS, EVENTS, OTHER};
use super::read::LISTS_A_PAGE;
use super::{errors, read, schema, wire};
use crate::http::lean::{self, Tree};
use crate::http::{Effect, earlier_may_land};
use crate::model::{
    Answer, BrevoContactId, BrevoListId, ContactChange, ErrorKind, NewContact, OutgoingEvent, Priority, SideError,
    SideName, Write,
};
use bytes::Bytes;
use chrono::SecondsFormat;
use http::{Method, StatusCode};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

/// The most contacts that one list request takes.
const MEMBERS_A_CALL: usize = 150;

/// The folder that holds the lists we make.
const FOLDER: &str = "Linkspan";

/// The most folders that are looked through for ours.
const MOST_FOLDERS: u64 = 5000;

/// The request that makes a contact, or changes this one, as the history names it.
pub fn request_for(contact: Option<BrevoContactId>) -> String {
    contact.map_or_else(|| "POST /contacts".to_owned(), |id| format!("PUT /contacts/{id}"))
}

/// The request that deletes a contact, for the history.
pub fn deletion_of(contact: BrevoContactId) -> String {
    format!("DELETE /contacts/{contact}")
}

impl BrevoClient {
    pub(super) async fn write_one(&self, write: &Write, priority: Priority) -> Result<Answer, Box<SideError>> {
        match write {
            Write::CreateContact(contact) => self.create_contact(contact, priority).await,
            Write::UpdateContact(id, change) => self.update_contact(*id, change, priority).await,
            Write::Import(batch) => self.start_import(batch, priority).await,
            Write::AddToList(list, contacts) => self.change_list(*list, "add", contacts, priority).await,
            Write::RemoveFromList(list, contacts) => self.change_list(*list, "remove", contacts, priority).await,
            Write::SendEvents(events) => self.send_events(events, priority).await,
            Write::CreateAttribute(spec) => self.create_attribute(spec, priority).await,
            Write::SetAttributeOptions(attribute) => self.set_options(attribute, priority).await,
            Write::CreateList(name) => self.create_list(name, priority).await,
            Write::DeleteContact(id) => {
                let target = format!("/contacts/{id}?identifierType=contact_id");
                let mut ask = Ask::get(target, CONTACTS, priority);
                // Whoever it is of may come back while it waits.
                (ask.method, ask.effect) = (Method::DELETE, Effect::Updates);
                self.send(ask).await?;
                Ok(Answer::Done)
            }
            Write::CreateCompanyAttribute(spec) => self.create_company_attribute(spec, priority).await,
            Write::CreateCompany(company) => self.create_company(company, priority).await,
            Write::ImportCompanies(companies) => self.import_companies(companies, priority).await,
            Write::UpdateCompany(id, change) => self.update_company(id, change, priority).await,
            Write::LinkCompany(id, link, unlink) => self.link_company(id, link, unlink, priority).await,
            Write::CreateIntercomContact(_)
            | Write::DeleteIntercomContact(_)
            | Write::ArchiveIntercomContact(_)
            | Write::UpdateIntercomContact(..)
            | Write::UnarchiveIntercomContact(_)
            | Write::UpdateIntercomCompany(..)
            | Write::TagContact(..)
            | Write::UntagContact(..)
            | Write::CreateTag(_) => {
                let what = "Brevo has no contacts, companies and tags of Intercom's";
                Err(SideError::new(SideName::Brevo, ErrorKind::Unsupported, what))
            }
        }
    }

    async fn create_contact(&self, contact: &NewContact, priority: Priority) -> Result<Answer, Box<SideError>> {
        let attributes = self.with_kinds(|kinds| schema::attributes_to_wire(&contact.attributes, kinds));
        // Said though it is the default: an upsert would overwrite a contact that we have not looked at.
        let mut body = json!({ "updateEnabled": false });
        if let Some(email) = &contact.email {
            body["email"] = email.as_str().into();
        }
        if let Some(ext_id) = &contact.ext_id {
            body["ext_id"] = ext_id.as_str().into();
        }
        if !attributes.is_empty() {
            body["attributes"] = attributes.into();
        }
        if !contact.lists.is_empty() {
            body["listIds"] = json!(contact.lists);
        }
        blocklist(&mut body, contact.email_opted_out, contact.sms_opted_out);
        let answer = self.send(Ask::write(Method::POST, "/contacts", body, Effect::CreatesPerson, priority)).await?;
        Ok(Answer::ContactCreated(BrevoContactId::new(made(&answer, "id")?)))
    }

    async fn update_contact(
        &self,
        id: BrevoContactId,
        change: &ContactChange,
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        if change.is_empty() {
            return Ok(Answer::Done);
        }
        let mut attributes: Map<String, Json> = self.with_kinds(|kinds| {
            let named = change.attributes.iter().filter(|(name, _)| !schema::is_identifier(name));
            let wired = named.map(|(name, value)| {
                let kind = kinds.get(name);
                (
                    name.clone(),
                    value.as_ref().map_or_else(|| schema::cleared(kind), |value| schema::to_wire(value, kind)),
                )
            });
            wired.collect()
        });
        if let Some(email) = &change.email {
            attributes.insert("EMAIL".to_owned(), email.as_str().into());
        }
        let mut body = json!({});
        if !attributes.is_empty() {
            body["attributes"] = attributes.into();
        }
        if let Some(ext_id) = &change.ext_id {
            body["ext_id"] = ext_id.as_str().into();
        }
        if !change.join_lists.is_empty() {
            body["listIds"] = json!(change.join_lists);
        }
        if !change.leave_lists.is_empty() {
            body["unlinkListIds"] = json!(change.leave_lists);
        }
        // In the same request as a new address, which would else re-subscribe the person.
        blocklist(&mut body, change.email_opted_out, change.sms_opted_out);
        if change.email_opted_in.is_some() && !change.email_opted_out {
            body["emailBlacklisted"] = false.into();
        }
        let loosens = !change.email_opted_out && (change.email.is_some() || change.email_opted_in.is_some());
        let effect = if loosens { Effect::Loosens } else { Effect::Updates };
        let target = format!("/contacts/{id}?identifierType=contact_id");
        let answer = self.send(Ask::write(Method::PUT, target, body, effect, priority)).await?;
        let lists = !change.join_lists.is_empty() || !change.leave_lists.is_empty();
        Ok(Answer::Done.after_another(lists && earlier_may_land(&answer)))
    }

    async fn change_list(
        &self,
        list: BrevoListId,
        verb: &str,
        contacts: &[BrevoContactId],
        priority: Priority,
    ) -> Result<Answer, Box<SideError>> {
        let (mut done, mut failed, mut again) = (Vec::new(), Vec::new(), false);
        for contacts in contacts.chunks(MEMBERS_A_CALL) {
            let target = format!("/contacts/lists/{list}/contacts/{verb}");
            // Who has left the list, or was taken off it, while this waited is not put on it again.
            let ask = Ask::write(Method::POST, target, json!({ "ids": contacts }), Effect::Updates, priority);
            match self.send(ask).await {
                Ok(answer) => {
                    again |= earlier_may_land(&answer);
                    let refused = refused(&answer);
                    let (bad, good): (Vec<_>, Vec<_>) = contacts.iter().copied().partition(|id| refused.contains(id));
                    done.extend(good);
                    failed.extend(bad);
                }
                // "Contact already in list and/or does not exist": membership is as wanted. Which contacts do not exist
                // shows in the next read.
                Err(error) if error.status == Some(400) && error.message.to_lowercase().contains("already") => {
                    again |= error.earlier_may_land;
                    done.extend_from_slice(contacts);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Answer::ListChanged { done, failed }.after_another(again))
    }

    async fn create_list(&self, name: &str, priority: Priority) -> Result<Answer, Box<SideError>> {
        let mut folder = self.folder.lock().await;
        let id = match *folder {
            Some(id) => id,
            None => self.find_or_make_folder(priority).await?,
        };
        let body = json!({ "name": name, "folderId": id });
        let made_list =
            match self.send(Ask::write(Method::POST, "/contacts/lists", body, Effect::Creates, priority)).await {
                Ok(answer) => made(&answer, "id"),
                Err(error) => Err(error),
            };
        // A folder that somebody deleted meanwhile is looked for anew the next time.
        *folder = made_list.is_ok().then_some(id);
        Ok(Answer::ListCreated(BrevoListId::new(made_list?)))
    }

    async fn find_or_make_folder(&self, priority: Priority) -> Result<i64, Box<SideError>> {
        let mut offset = 0;
        while offset < MOST_FOLDERS {
            let target = format!("/contacts/folders?limit={LISTS_A_PAGE}&offset={offset}&sort=asc");
            let answer = self.send(Ask::get(target, CONTACTS, priority)).await?;
            let tree = read::json(&answer)?;
            let (rows, total) = wire::rows(tree.root(), "folders").ok_or_else(|| errors::malformed(&answer))?;
            let ours =
                rows.iter().find(|row| wire::text(**row, "name").is_some_and(|name| name.eq_ignore_ascii_case(FOLDER)));
            if let Some(id) = ours.and_then(|row| row.get("id")).and_then(wire::whole) {
                return Ok(id);
            }
            offset += rows.len() as u64;
            if rows.is_empty() || total.map_or((rows.len() as u64) < LISTS_A_PAGE, |total| offset >= total) {
                break;
            }
        }
        let body = json!({ "name": FOLDER });
        let answer = self.send(Ask::write(Method::POST, "/contacts/folders", body, Effect::Creates, priority)).await?;
        made(&answer, "id")
    }

    async fn send_events(&self, events: &[OutgoingEvent], priority: Priority) -> Result<Answer, Box<SideError>> {
        match events {
            [] => Ok(Answer::EventsAccepted { failed: Vec::new() }),
            // One alone goes where ten a second may go; a batch shares the hundred an hour.
            [one] => {
                let ask = Ask::write(Method::POST, "/events", event(one), Effect::Creates, priority).family(EVENTS);
                match self.send(ask).await {
                    Ok(_) => Ok(Answer::EventsAccepted { failed: Vec::new() }),
                    Err(error) if matches!(error.kind, ErrorKind::Rejected { .. }) => {
                        Ok(Answer::EventsAccepted { failed: vec![(0, error.message.clone())] })
                    }
                    Err(error) => Err(error),
                }
            }
            many => {
                let body = json!({ "events": many.iter().map(event).collect::<Vec<_>>() });
                let ask = Ask::write(Method::POST, "/events/batch", body, Effect::Creates, priority).family(OTHER);
                // A batch of which nothing is good is a 400 with the same body as a mixed answer.
                let judge = move |answer: &http::Response<Bytes>| match failures(answer, usize::MAX) {
                    Some(_) if answer.status() == StatusCode::BAD_REQUEST => Ok(()),
                    _ => errors::classify(answer, Effect::Creates),
                };
                let answer = self.send_judged(ask, &judge).await?;
                if answer.status() == StatusCode::ACCEPTED {
                    return Ok(Answer::EventsAccepted { failed: Vec::new() });
                }
                let failed = failures(&answer, many.len()).ok_or_else(|| errors::unreadable_success(&answer))?;
                Ok(Answer::EventsAccepted { failed })
            }
        }
    }
}

/// Opt-outs ride along. What is not said stays as it is: nothing of ours may re-subscribe anybody by the way.
fn blocklist(body: &mut Json, email: bool, sms: bool) {
    if email {
        body["emailBlacklisted"] = true.into();
    }
    if sms {
        body["smsBlacklisted"] = true.into();
    }
}

/// The id of what a write made. Without it the write has still been done.
pub(super) fn made(answer: &http::Response<Bytes>, key: &str) -> Result<i64, Box<SideError>> {
    let body = Tree::from_slice(answer.body()).ok();
    let id = body.as_ref().and_then(|body| body.root().get(key)).and_then(wire::whole);
    id.ok_or_else(|| errors::unreadable_success(answer))
}

/// The failures of a list request; the vendor's examples show them with and without the outer `contacts`.
fn refused(answer: &http::Response<Bytes>) -> BTreeSet<BrevoContactId> {
    let Ok(body) = Tree::from_slice(answer.body()) else { return BTreeSet::new() };
    let inner = body.root().get("contacts").unwrap_or(body.root());
    let failure = inner.get("failure");
    failure.into_iter().flat_map(lean::Json::items).filter_map(wire::whole).map(BrevoContactId::new).collect()
}

/// An event as both endpoints take it.
fn event(event: &OutgoingEvent) -> Json {
    let properties = event.properties.iter().filter(|(_, value)| !value.is_null());
    let mut properties: Map<String, Json> = properties.map(|(name, value)| (name.clone(), value.clone())).collect();
    // Brevo has no idempotency key: a repeat is found by ours.
    properties.insert("linkspan_key".to_owned(), event.key.as_str().into());
    json!({
        "event_name": event.name,
        "event_date": event.happened_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "identifiers": { "contact_id": event.contact },
        "event_properties": properties,
    })
}

/// The events that a batch's mixed answer refuses, with the vendor's words; `None` if it does not say which.
fn failures(answer: &http::Response<Bytes>, sent: usize) -> Option<Vec<(usize, String)>> {
    let body = Tree::from_slice(answer.body()).ok()?;
    let mut failed = Vec::new();
    for error in body.root().get("errors").filter(|errors| errors.is_array())?.items() {
        let words = errors::mask(error.get("message").and_then(lean::Json::as_str).unwrap_or("no reason given"));
        let named = error.get("eventIndex")?;
        // One by itself, or several.
        let alone = Some(named).filter(|named| !named.is_array());
        for index in alone
            .into_iter()
            .chain(named.items())
            .filter_map(wire::whole)
            .filter_map(|index| usize::try_from(index).ok())
        {
            if index < sent {
                failed.push((index, words.clone()));
            }
        }
    }
    Some(failed)
}
