//! Webhooks: kept before they are acknowledged, acted on afterwards. They are hints like any other read; where the
//! payload cannot settle the matter, one coalesced read does.

use super::observe::to_json;
use super::{Connection, EngineError};
use crate::intercom::webhook::{self, Effect, Notification, OptOut, ToFetch, Topic};
use crate::model::{ConversationId, IntercomCompanyId, IntercomContactId, Observation, OptOutReason, Priority};
use crate::store::links::Dirty;
use crate::store::{Result as Stored, StoreError, Tx};
use std::collections::BTreeSet;

/// Webhooks handled in one transaction.
const BATCH: usize = 100;

/// What became of a webhook at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is on disk.
    Kept,
    /// It was on disk already.
    Repeat,
}

/// What is to be read after a batch of webhooks.
#[derive(Default)]
struct Follow {
    contacts: BTreeSet<IntercomContactId>,
    companies: BTreeSet<IntercomCompanyId>,
    conversations: BTreeSet<ConversationId>,
}

impl Connection {
    /// Keeps a webhook. Only after this returns may it be acknowledged.
    ///
    /// # Errors
    /// If it could not be kept; then the vendor must be made to send it again.
    pub async fn receive(&self, id: Option<String>, topic: String, body: bytes::Bytes) -> Result<Received, StoreError> {
        let now = self.now();
        let new = self
            .store
            .write(move |tx| {
                tx.set_meta("webhook_seen_at", &now.to_rfc3339())?;
                tx.put_inbox(id.as_deref(), &topic, &body, now)
            })
            .await?;
        if new {
            self.bell.notify_one();
        }
        Ok(if new { Received::Kept } else { Received::Repeat })
    }

    /// Acts on every webhook that waits. How many that were.
    pub(super) async fn work_inbox(&self, priority: Priority) -> Result<u64, EngineError> {
        let mut handled = 0;
        loop {
            let source = self.source(0, false, self.now(), Dirty::Live)?;
            let log = self.settings().log_webhooks;
            let (count, follow) = self
                .store
                .write(move |tx| {
                    let rows = tx.open_inbox(BATCH)?;
                    let mut follow = Follow::default();
                    for row in &rows {
                        let outcome = match Notification::parse(&row.body) {
                            Ok(notification) => act(tx, &source, &notification, &mut follow)?,
                            Err(error) => format!("unreadable: {error}"),
                        };
                        tx.count(&format!("webhook.{}", row.topic), 1)?;
                        if log {
                            tracing::info!(topic = %row.topic, seq = row.seq, outcome = %outcome, "webhook");
                        }
                        tx.finish_inbox(row.seq, &outcome, source.now)?;
                    }
                    // Those that are known are marked, so that a crash before the read forgets nothing.
                    let mut unknown = BTreeSet::new();
                    for id in std::mem::take(&mut follow.contacts) {
                        if !tx.want_contact(&id)? {
                            unknown.insert(id);
                        }
                    }
                    follow.contacts = unknown;
                    let mut unknown = BTreeSet::new();
                    for id in std::mem::take(&mut follow.conversations) {
                        if !tx.want_conversation(&id)? {
                            unknown.insert(id);
                        }
                    }
                    follow.conversations = unknown;
                    tx.set_meta("follow", &to_json("meta", &follow.as_lists())?)?;
                    Ok((rows.len(), follow))
                })
                .await?;
            self.doors.crash.reach("after_inbox");
            self.follow(follow, priority).await?;
            handled += count as u64;
            if count < BATCH {
                return Ok(handled);
            }
        }
    }

    async fn follow(&self, follow: Follow, priority: Priority) -> Result<(), EngineError> {
        self.fetch_contacts(follow.contacts, priority).await?;
        for id in &follow.companies {
            self.fetch_company(id, priority).await?;
        }
        for id in &follow.conversations {
            self.fetch_conversation(id, priority).await?;
        }
        self.store.write(|tx| tx.set_meta("follow", "[[],[],[]]")).await?;
        Ok(())
    }

    /// After a start: reads what webhooks had named when the program stopped.
    pub(super) async fn follow_up(&self, priority: Priority) -> Result<(), EngineError> {
        let Some(text) = self.store.read(|tx| tx.meta("follow")).await? else { return Ok(()) };
        let lists: [Vec<String>; 3] = super::observe::from_json("meta", &text)?;
        let [contacts, companies, conversations] = lists;
        self.follow(
            Follow {
                contacts: contacts.into_iter().map(IntercomContactId::new).collect(),
                companies: companies.into_iter().map(IntercomCompanyId::new).collect(),
                conversations: conversations.into_iter().map(ConversationId::new).collect(),
            },
            priority,
        )
        .await
    }
}

impl Follow {
    fn as_lists(&self) -> [Vec<String>; 3] {
        [
            self.contacts.iter().map(ToString::to_string).collect(),
            self.companies.iter().map(ToString::to_string).collect(),
            self.conversations.iter().map(ToString::to_string).collect(),
        ]
    }
}

/// Applies one notification. What it says of the outcome is for the log and holds nothing personal.
fn act(
    tx: &Tx<'_>,
    source: &super::observe::Source,
    notification: &Notification,
    follow: &mut Follow,
) -> Stored<String> {
    // A notification that names no workspace is taken for ours: old payloads lack the name, and its signature is ours.
    if notification.app_id.as_ref().is_some_and(|app| app.as_str() != source.ready.workspace) {
        tx.count("webhook_other_workspace", 1)?;
        return Ok("of another workspace: changes nothing".to_owned());
    }
    if let Topic::Unknown(_) = notification.topic {
        tx.count("webhook_unknown_topic", 1)?;
        return Ok("unknown topic: kept and counted".to_owned());
    }
    let mut applied = 0;
    let mut reads = 0;
    for effect in notification.effects() {
        match effect {
            Effect::Observed { observation, at } => {
                // Equal to the second, the payload does not decide: which of the two is newer cannot be told.
                match tie(tx, &observation, at)? {
                    Some(fetch) => {
                        want(fetch, follow);
                        reads += 1;
                        if let Observation::Conversation(_) = observation {
                            // What it reports still counts.
                            source.apply(tx, &observation)?;
                        }
                    }
                    None => applied += u64::from(source.apply(tx, &observation)?),
                }
            }
            // The read that comes with it decides.
            Effect::Gone(_) => {}
            Effect::NeedsFetch(fetch) => {
                want(fetch, follow);
                reads += 1;
            }
            Effect::OptedOut { contact, from, at: _ } => {
                applied += u64::from(opted_out(tx, &contact, from)?);
            }
            Effect::Transition { conversation, .. } => {
                // Which event it is, and under which key, is told by the conversation itself: as a poll would show it.
                follow.conversations.insert(conversation);
                reads += 1;
            }
        }
    }
    Ok(format!("{applied} applied, {reads} to read"))
}

fn want(fetch: ToFetch, follow: &mut Follow) {
    match fetch {
        ToFetch::Contact(id) => drop(follow.contacts.insert(id)),
        ToFetch::Company(id) => drop(follow.companies.insert(id)),
        ToFetch::Conversation(id) => drop(follow.conversations.insert(id)),
    }
}

/// A record whose known time is the same second: the payload cannot be ordered against what is known.
fn tie(tx: &Tx<'_>, observation: &Observation, at: chrono::DateTime<chrono::Utc>) -> Stored<Option<ToFetch>> {
    Ok(match observation {
        Observation::IntercomContact(contact) => tx
            .intercom_contact(&contact.id)?
            .filter(|known| known.contact.updated_at.timestamp() == at.timestamp() && known.contact != **contact)
            .map(|known| ToFetch::Contact(known.contact.id)),
        Observation::Conversation(conversation) => tx
            .conversation(&conversation.id)?
            .filter(|known| known.updated_at.timestamp() == at.timestamp() && *known != **conversation)
            .map(|known| ToFetch::Conversation(known.id)),
        _ => None,
    })
}

/// An opt-out is a fact: it counts at once, before the read that confirms it.
fn opted_out(tx: &Tx<'_>, id: &IntercomContactId, from: OptOut) -> Stored<bool> {
    let Some(mut row) = tx.intercom_contact(id)? else { return Ok(false) };
    let before = row.contact.consent.clone();
    match from {
        OptOut::Email => drop(row.contact.consent.email_opt_outs.insert(OptOutReason::Unsubscribed)),
        OptOut::Sms => row.contact.consent.sms_opted_out = true,
    }
    if row.contact.consent == before {
        return Ok(false);
    }
    tx.put_intercom_contact(&row.contact, 0)?;
    if let Some(link) = row.link {
        tx.mark_dirty(link, Dirty::Consent)?;
    }
    Ok(true)
}

/// How long a webhook's id is remembered after it was done: Intercom's retries end within two hours.
pub(super) const REMEMBERED_DAYS: i64 = 7;

/// The longest body that is parsed.
pub const LONGEST_BODY: usize = webhook::LONGEST_BODY;
