//! Webhooks: kept before they are acknowledged, acted on afterwards. They are hints like any other read; where the
//! payload cannot settle the matter, one coalesced read does.

use super::cycle::stops_everything;
use super::hints;
use super::hydrate::{self, Reads};
use super::observe::{from_json, to_json};
use super::unreadable::{replaceable, sparing};
use super::{Connection, EngineError};
use crate::config::SyncSwitches;
use crate::intercom::webhook::{self, Effect, Notification, OptOut, ToFetch, Topic};
use crate::model::{
    Consent, ContactKey, ConversationId, Gone, IntercomCompanyId, IntercomContactId, Observation, OptOutReason,
    Priority, SideName,
};
use crate::store::carried::Carried;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::facts::{Channel, LastNo, OptOutFact};
use crate::store::links::Dirty;
use crate::store::queues::InboxRow;
use crate::store::{Result as Stored, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// Webhooks handled in one transaction.
const BATCH: usize = 100;

/// Where the store keeps what is named and not read yet.
pub(super) const KEPT: &str = "follow";

/// What became of a webhook at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is on disk.
    Kept,
    /// It was on disk already.
    Repeat,
}

/// What is to be read after a batch of webhooks, each with the last webhook that named it: one that comes while it is being
/// read keeps it named.
#[derive(Default)]
struct Follow {
    /// The webhook that is acted on.
    seq: i64,
    contacts: BTreeMap<IntercomContactId, i64>,
    companies: BTreeMap<IntercomCompanyId, i64>,
    conversations: BTreeMap<ConversationId, i64>,
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

    /// Acts on every webhook that waits, as far as that needs nobody but the store: what they name is noted, and read by
    /// [`Self::read_what_was_named`]. How many that were.
    pub(super) async fn take_in(&self) -> Result<u64, EngineError> {
        let mut handled = 0;
        loop {
            let source = self.source(0, false, self.now(), Dirty::Live)?;
            let log = self.settings().log_webhooks;
            let count = self
                .store
                .write(move |tx| {
                    let rows = tx.open_inbox(BATCH)?;
                    // What an earlier read could not get, and what the other loop is about to read, must not be forgotten.
                    let mut follow = Follow::kept(tx)?;
                    if rows.is_empty() && follow.is_empty() {
                        return Ok(0);
                    }
                    for row in &rows {
                        if row.side == SideName::Brevo {
                            let outcome = sparing(tx, source.now, || hints::act(tx, &source, row))?;
                            let outcome = outcome.unwrap_or_else(|| Ok("the state of it cannot be read".to_owned()));
                            finish(tx, row, None, outcome, (log, source.now))?;
                            continue;
                        }
                        let (id, outcome) = match Notification::parse(&row.body) {
                            Ok(notification) => {
                                follow.seq = row.seq;
                                let outcome = sparing(tx, source.now, || act(tx, &source, &notification, &mut follow))?;
                                let outcome =
                                    outcome.unwrap_or_else(|| Ok("the state of it cannot be read".to_owned()));
                                (notification.id, outcome)
                            }
                            Err(error) => (None, Err(format!("unreadable: {error}; kept and counted"))),
                        };
                        tx.count(&format!("webhook.{}", row.topic), 1)?;
                        if outcome.is_err() {
                            tx.count(WEBHOOK_UNREADABLE, 1)?;
                        }
                        finish(tx, row, id, outcome, (log, source.now))?;
                    }
                    // Those that are known are marked, so that a crash before the read forgets nothing.
                    let mut unknown = BTreeMap::new();
                    for (id, seq) in std::mem::take(&mut follow.contacts) {
                        if !tx.want_contact(&id)? {
                            unknown.insert(id, seq);
                        }
                    }
                    follow.contacts = unknown;
                    let mut unknown = BTreeMap::new();
                    for (id, seq) in std::mem::take(&mut follow.conversations) {
                        if !tx.want_conversation(&id)? {
                            unknown.insert(id, seq);
                        }
                    }
                    follow.conversations = unknown;
                    follow.keep(tx)?;
                    Ok(rows.len())
                })
                .await?;
            self.doors.crash.reach("after_inbox");
            handled += count as u64;
            if count < BATCH {
                return Ok(handled);
            }
        }
    }

    /// Reads what webhooks named and the store does not know. What could not be read for now stays named, and holds up
    /// nothing else; what is refused for good is given up, or it would be asked for for ever. What is named once more
    /// meanwhile is read once more: the read may have been answered before that.
    pub(super) async fn read_what_was_named(&self, priority: Priority) -> Result<(), EngineError> {
        let follow = self.store.read(Follow::kept).await?;
        if follow.is_empty() {
            return Ok(());
        }
        let mut done = Follow::default();
        let outcome = self.read_named(follow, &mut done, priority).await;
        self.store
            .write(move |tx| {
                let mut left = Follow::kept(tx)?;
                left.contacts.retain(|id, named| done.contacts.get(id).is_none_or(|read| *read < *named));
                left.companies.retain(|id, named| done.companies.get(id).is_none_or(|read| *read < *named));
                left.conversations.retain(|id, named| done.conversations.get(id).is_none_or(|read| *read < *named));
                left.keep(tx)
            })
            .await?;
        outcome
    }

    async fn read_named(&self, follow: Follow, done: &mut Follow, priority: Priority) -> Result<(), EngineError> {
        let later = self.put_off.at(self.now());
        let mut reads = Reads::default();
        let contacts: Vec<(IntercomContactId, i64)> = follow.contacts.into_iter().collect();
        for (id, seq) in later.in_turn(contacts, |(id, _)| hydrate::contact(id)) {
            let (key, record) = (ContactKey::Intercom(id.clone()), hydrate::contact(&id));
            if !reads.go_on() {
                break;
            }
            let read = unless_refused("contact", self.confirm(key, priority).await.map(drop));
            if reads.note(self, record, read)?.is_some() {
                done.contacts.insert(id, seq);
            }
        }
        let companies: Vec<(IntercomCompanyId, i64)> = follow.companies.into_iter().collect();
        for (id, seq) in later.in_turn(companies, |(id, _)| hydrate::company(id)) {
            let record = hydrate::company(&id);
            if !reads.go_on() {
                break;
            }
            let read = unless_refused("company", self.fetch_company(&id, priority).await);
            if reads.note(self, record, read)?.is_some() {
                done.companies.insert(id, seq);
            }
        }
        let conversations: Vec<(ConversationId, i64)> = follow.conversations.into_iter().collect();
        for (id, seq) in later.in_turn(conversations, |(id, _)| hydrate::conversation(id)) {
            let record = hydrate::conversation(&id);
            if !reads.go_on() {
                break;
            }
            let read = unless_refused("conversation", self.fetch_conversation(&id, priority).await);
            if reads.note(self, record, read)?.is_some() {
                done.conversations.insert(id, seq);
            }
        }
        reads.end(())
    }

    /// After a start: reads what webhooks had named when the program stopped. What cannot be read now stays named, and
    /// is no reason not to start.
    pub(super) async fn follow_up(&self, priority: Priority) -> Result<(), EngineError> {
        match self.read_what_was_named(priority).await {
            Err(EngineError::Side(error)) if error.is_transient() => {
                tracing::warn!("what webhooks had named cannot be read yet: {error}");
                Ok(())
            }
            other => other,
        }
    }
}

/// Says what became of a webhook (`Err`: nothing could be done with it), in the log and beside its row.
fn finish(
    tx: &Tx<'_>,
    row: &InboxRow,
    id: Option<String>,
    outcome: Result<String, String>,
    (log, now): (bool, DateTime<Utc>),
) -> Stored<()> {
    let (unreadable, outcome) = (outcome.is_err(), outcome.unwrap_or_else(|outcome| outcome));
    let (side, topic, seq) = (row.side.as_str(), &row.topic, row.seq);
    if unreadable {
        tracing::warn!(side, %topic, id, seq, outcome = %outcome, "webhook");
    } else if log {
        tracing::info!(side, %topic, id, seq, outcome = %outcome, "webhook");
    }
    tx.finish_inbox(seq, &outcome, now)
}

/// A record that is refused for good (a missing scope, say) is left to the sweeps, which say what is wrong.
pub(super) fn unless_refused(what: &'static str, read: Result<(), EngineError>) -> Result<(), EngineError> {
    match read {
        Err(error) if is_refusal(&error) => {
            tracing::warn!("a {what} that a webhook named cannot be read: {}", error.for_log());
            Ok(())
        }
        other => other,
    }
}

/// A vendor refuses this one record, now and later; it lets us in otherwise.
pub(super) fn is_refusal(error: &EngineError) -> bool {
    matches!(error, EngineError::Side(side) if !side.is_transient()) && !stops_everything(error)
}

impl Follow {
    /// What is named and not read yet.
    fn kept(tx: &Tx<'_>) -> Stored<Self> {
        let Some(text) = tx.meta(KEPT)? else { return Ok(Self::default()) };
        let kept: [BTreeMap<String, i64>; 3] = from_json("meta", &text).or_else(|_| {
            // Earlier versions kept no more than the names.
            let names: [Vec<String>; 3] = from_json("meta", &text)?;
            Ok::<_, StoreError>(names.map(|names| names.into_iter().map(|name| (name, 0)).collect()))
        })?;
        let [contacts, companies, conversations] = kept;
        Ok(Self {
            seq: 0,
            contacts: contacts.into_iter().map(|(id, seq)| (IntercomContactId::new(id), seq)).collect(),
            companies: companies.into_iter().map(|(id, seq)| (IntercomCompanyId::new(id), seq)).collect(),
            conversations: conversations.into_iter().map(|(id, seq)| (ConversationId::new(id), seq)).collect(),
        })
    }

    fn keep(&self, tx: &Tx<'_>) -> Stored<()> {
        let kept: [BTreeMap<String, i64>; 3] = [
            self.contacts.iter().map(|(id, seq)| (id.to_string(), *seq)).collect(),
            self.companies.iter().map(|(id, seq)| (id.to_string(), *seq)).collect(),
            self.conversations.iter().map(|(id, seq)| (id.to_string(), *seq)).collect(),
        ];
        tx.set_meta(KEPT, &to_json("meta", &kept)?)
    }

    fn is_empty(&self) -> bool {
        self.contacts.is_empty() && self.companies.is_empty() && self.conversations.is_empty()
    }
}

/// A notification of this topic that names no record is of another shape than Intercom's.
fn is_about_a_record(topic: &Topic) -> bool {
    !matches!(topic, Topic::Ping | Topic::Unknown(_) | Topic::ConversationPartRedacted)
}

/// Applies one notification. What it says of the outcome (`Err`: nothing can be done with it) is for the log and holds
/// nothing personal.
fn act(
    tx: &Tx<'_>,
    source: &super::observe::Source,
    notification: &Notification,
    follow: &mut Follow,
) -> Stored<Result<String, String>> {
    // A notification that names no workspace is taken for ours: old payloads lack the name, and its signature is ours.
    if notification.app_id.as_ref().is_some_and(|app| app.as_str() != source.ready.workspace) {
        tx.count(WEBHOOK_OTHER_WORKSPACE, 1)?;
        return Ok(Ok("of another workspace: changes nothing".to_owned()));
    }
    if let Topic::Unknown(_) = notification.topic {
        tx.count(WEBHOOK_UNKNOWN_TOPIC, 1)?;
        return Ok(Ok("unknown topic: kept and counted".to_owned()));
    }
    let effects = notification.effects();
    if effects.is_empty() && is_about_a_record(&notification.topic) {
        return Ok(Err("unreadable: it names no record; kept and counted".to_owned()));
    }
    let mut applied = 0;
    let mut reads = 0;
    let sync = source.settings.sync;
    let off = is_off(&notification.topic, sync);
    let mut dropped = off;
    if let Some(tag) = notification.tag().filter(|_| sync.tags && !off) {
        applied += u64::from(source.apply(tx, &Observation::Tag(tag))?);
    }
    for effect in effects {
        // An opt-out counts always: the person is in Brevo still, and may be mailed from there.
        if (off || is_effect_off(&effect, sync)) && !matches!(effect, Effect::OptedOut { .. }) {
            dropped = true;
            continue;
        }
        match effect {
            Effect::Observed { observation, at } => {
                match undecided(tx, source, &observation, at)? {
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
            // The read that comes with it decides whether; how is what only this tells.
            Effect::Gone(Observation::IntercomContactGone(id, how)) => match how {
                Gone::Archived => tx.say_gone(&id, false)?,
                Gone::Deleted => tx.say_gone(&id, true)?,
                Gone::Merged { .. } => {}
            },
            // While that read is on its way nothing is made or written for it.
            Effect::Gone(Observation::CompanyGone(id)) => tx.set_firm_gone(&id, true)?,
            Effect::Gone(_) => {}
            Effect::NeedsFetch(fetch) => {
                want(fetch, follow);
                reads += 1;
            }
            Effect::OptedOut { contact, from, at } => {
                let at = at.unwrap_or(source.now);
                applied += u64::from(opted_out(tx, &contact, from, at, notification.topic.as_str())?);
            }
            Effect::Transition { conversation, .. } => {
                // Which event it is, and under which key, is told by the conversation itself: as a poll would show it.
                follow.conversations.insert(conversation, follow.seq);
                reads += 1;
            }
        }
    }
    if dropped && applied + reads == 0 {
        tx.count("webhook_switched_off", 1)?;
        return Ok(Ok("switched off in the config: kept and counted".to_owned()));
    }
    Ok(Ok(format!("{applied} applied, {reads} to read")))
}

/// Whether the config switches off what the topic is about.
fn is_off(topic: &Topic, sync: SyncSwitches) -> bool {
    let name = topic.as_str();
    (name.starts_with("company.") && !sync.companies)
        || (name.starts_with("conversation") && !sync.conversations)
        || (name.contains(".tag.") && !sync.tags)
}

/// Whether the config switches off what this would change or read.
fn is_effect_off(effect: &Effect, sync: SyncSwitches) -> bool {
    match effect {
        Effect::Observed { observation, .. } | Effect::Gone(observation) => match observation {
            Observation::IntercomContact(_) | Observation::IntercomContactGone(..) => !sync.contacts,
            Observation::Company(_) | Observation::CompanyGone(_) => !sync.companies,
            Observation::Conversation(_) | Observation::ConversationGone(_) => !sync.conversations,
            _ => false,
        },
        Effect::NeedsFetch(ToFetch::Contact(_)) | Effect::OptedOut { .. } => !sync.contacts,
        Effect::NeedsFetch(ToFetch::Company(_)) => !sync.companies,
        Effect::NeedsFetch(ToFetch::Conversation(_)) | Effect::Transition { .. } => !sync.conversations,
    }
}

fn want(fetch: ToFetch, follow: &mut Follow) {
    let seq = follow.seq;
    match fetch {
        ToFetch::Contact(id) => {
            follow.contacts.insert(id, seq);
        }
        ToFetch::Company(id) => {
            follow.companies.insert(id, seq);
        }
        ToFetch::Conversation(id) => {
            follow.conversations.insert(id, seq);
        }
    }
}

/// What has to be read because the payload does not settle the matter. Equal to the second, which of the two is newer
/// cannot be told; and about consent, tags and being gone a payload is not believed, since it may be hours old.
fn undecided(
    tx: &Tx<'_>,
    source: &super::observe::Source,
    observation: &Observation,
    at: DateTime<Utc>,
) -> Stored<Option<ToFetch>> {
    Ok(match observation {
        Observation::IntercomContact(shown) => {
            let (known, unreadable) = replaceable(tx, tx.intercom_contact(&shown.id))?;
            if unreadable {
                return Ok(Some(ToFetch::Contact(shown.id.clone())));
            }
            let Some(known) = known else { return Ok(None) };
            let tags = source.ready.uses_tags
                && if shown.tags.complete {
                    shown.tags.items != known.contact.tags.items
                } else {
                    !shown.tags.items.is_subset(&known.contact.tags.items)
                };
            let live = known.state == ContactState::Live;
            let doubtful = if known.contact.updated_at.timestamp() == at.timestamp() {
                known.contact != **shown || !live
            } else {
                // Of a contact that is gone, nothing is taken for granted: an old payload must not bring it back.
                !live || (known.contact.updated_at < at && (shown.consent != known.contact.consent || tags))
            };
            doubtful.then_some(ToFetch::Contact(known.contact.id))
        }
        Observation::Conversation(conversation) => tx
            .conversation(&conversation.id)?
            .filter(|known| known.updated_at.timestamp() == at.timestamp() && *known != **conversation)
            .map(|known| ToFetch::Conversation(known.id)),
        _ => None,
    })
}

/// How far Intercom's clock, which a notice is dated by, may be from ours.
const CLOCKS: TimeDelta = TimeDelta::minutes(10);

/// An opt-out is a fact: it counts at once, before the read that confirms it, and it is kept with its time, so that a
/// read that lags behind it does not lose it (of somebody new, too: the first read will be of a fresh record).
fn opted_out(tx: &Tx<'_>, id: &IntercomContactId, from: OptOut, at: DateTime<Utc>, source: &str) -> Stored<bool> {
    let (known, unreadable) = replaceable(tx, tx.intercom_contact(id))?;
    if unreadable {
        // The read that replaces it heeds the opt-out, which is kept apart.
        tx.ask_for(&ContactKey::Intercom(id.clone()))?;
    }
    let channel = match from {
        OptOut::Email => Channel::Email,
        OptOut::Sms => Channel::Sms,
    };
    let email = known.as_ref().and_then(|row| row.contact.email.clone());
    let told = tx.opt_outs(id)?.iter().any(|fact| fact.channel == channel && fact.at >= at);
    tx.put_opt_out(id, &OptOutFact { channel, at, email, source: source.to_owned(), over_at: None })?;
    let Some(mut row) = known else { return Ok(false) };
    let before = row.contact.consent.clone();
    match from {
        OptOut::Email => drop(row.contact.consent.email_opt_outs.insert(OptOutReason::Unsubscribed)),
        OptOut::Sms => row.contact.consent.sms_opted_out = true,
    }
    if row.contact.consent == before {
        // They are out already: whoever says no after that had said yes in between, which nobody has shown us. It is another
        // no, and newer than what the other side has said since the first one.
        let again = !told && row.state == ContactState::Live && at.timestamp() > row.contact.updated_at.timestamp();
        let Some(link) = row.link.filter(|_| again) else { return Ok(false) };
        if from == OptOut::Email
            && let Some(carried) = tx.carried(id)?.filter(Carried::is_watched)
        {
            // A write of ours that is on its way to them makes such a notice, too; one that cannot land any more does not.
            if carried.until.is_none_or(|until| at <= until + CLOCKS) {
                return Ok(false);
            }
            tx.put_carried(&Carried { until: None, verify: false, ..carried })?;
        }
        let mut yes = before;
        match from {
            OptOut::Email => yes.email_opt_outs.clear(),
            OptOut::Sms => yes.sms_opted_out = false,
        }
        return opted_out_on(tx, &row, link, &yes);
    }
    if from == OptOut::Email && super::carry::is_old_news(tx, &row, at)? {
        return Ok(false);
    }
    tx.put_intercom_contact(&row.contact, 0)?;
    if row.state != ContactState::Live {
        // Keeping it made it live; what is gone stays gone.
        tx.set_intercom_state(id, row.state, row.merged_into.as_ref())?;
        if at.timestamp() >= row.contact.updated_at.timestamp() {
            // Their no is news all the same, unless they were seen to have taken it back.
            tx.put_last_no(&LastNo { contact: id.clone(), email: from == OptOut::Email, sms: from == OptOut::Sms })?;
        }
    }
    match row.link {
        Some(link) => {
            super::place::plan_again_with_their_no(tx, &row.contact, Dirty::Live)?;
            opted_out_on(tx, &row, link, &before)
        }
        None => super::place::mark_whose_address(tx, &row.contact, Some(&before), Dirty::Live).map(|()| true),
    }
}

/// Somebody who is linked has opted out by a notice; `before`: what they had said until then.
fn opted_out_on(tx: &Tx<'_>, row: &IntercomRow, link: i64, before: &Consent) -> Stored<bool> {
    let now = &row.contact.consent;
    // Whenever it was read, a notice settles nothing.
    let before = super::carry::known_before(tx, &row.contact.id, link, (before, now), DateTime::<Utc>::MIN_UTC)?;
    let new = super::observe::new_opt_out(tx, link, &before, now)?;
    tx.mark_dirty(link, if new { Dirty::Consent } else { Dirty::Live })?;
    Ok(true)
}

/// How long a webhook's id is remembered after it was done: Intercom's retries end within two hours.
pub(super) const REMEMBERED_DAYS: i64 = 7;

/// The longest body that is parsed.
pub const LONGEST_BODY: usize = webhook::LONGEST_BODY;
/// Counts the notifications that named another workspace.
pub const WEBHOOK_OTHER_WORKSPACE: &str = "webhook_other_workspace";
/// Counts the notifications of a known topic that name no record.
pub const WEBHOOK_UNREADABLE: &str = "webhook_unreadable";
/// Counts the notifications of a topic that we do not know.
pub const WEBHOOK_UNKNOWN_TOPIC: &str = "webhook_unknown_topic";
