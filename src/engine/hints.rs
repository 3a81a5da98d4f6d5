//! Brevo's webhooks acted on: whom they name is read, once however often named; opt-outs count at once.

use super::hydrate::Reads;
use super::inbox::unless_refused;
use super::observe::{Source, base_of, brevo_opt_out_counts, pack_base};
use super::pull::short;
use super::unreadable::replaceable;
use super::{Connection, EngineError};
use crate::brevo::webhook::{self, Delivery, Event, Hint};
use crate::model::{BrevoContact, ContactKey, Email, OptOutReason, Priority};
use crate::reconcile::consent::ConsentBase;
use crate::store::hints::{BrevoHint, BrevoName, BrevoOptOut};
use crate::store::links::Dirty;
use crate::store::queues::InboxRow;
use crate::store::{Result as Stored, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

/// People read in one go.
const BATCH: usize = 100;
/// From so many named people on, one read of all that has changed is cheaper, a thousand a request: an import of
/// 100,000 contacts by hand may bring as many webhooks.
const MANY: u64 = 300;
/// How far Brevo's clock, which a webhook is dated by, may be ahead of ours.
const CLOCKS: TimeDelta = TimeDelta::minutes(10);

/// The longest body of Brevo's that is parsed.
pub const BREVO_LONGEST_BODY: usize = webhook::LONGEST_BODY;
/// Counts Brevo's events that we do not know.
pub const BREVO_WEBHOOK_UNKNOWN_EVENT: &str = "brevo_webhook_unknown_event";
/// Counts what stood in Brevo's webhooks and was no event, or named nobody.
pub const BREVO_WEBHOOK_UNREADABLE: &str = "brevo_webhook_unreadable";
/// Counts Brevo's events of changes that we made ourselves.
pub const BREVO_WEBHOOK_OURS: &str = "brevo_webhook_ours";
/// Where the store keeps when Brevo's last webhook came.
pub const BREVO_WEBHOOK_SEEN: &str = "brevo_webhook_seen_at";

impl Connection {
    /// Keeps a webhook of Brevo's, a whole batch in one transaction. Only after this returns may it be acknowledged. It
    /// carries nothing by which a repeat could be known: two that are equal may be two changes.
    ///
    /// # Errors
    /// If it could not be kept; then Brevo must be made to send it again.
    pub async fn receive_from_brevo(&self, topic: &'static str, body: bytes::Bytes) -> Result<(), StoreError> {
        let now = self.now();
        self.store
            .write(move |tx| {
                tx.set_meta(BREVO_WEBHOOK_SEEN, &now.to_rfc3339())?;
                tx.put_brevo_inbox(topic, &body, now)
            })
            .await?;
        self.bell.notify_one();
        Ok(())
    }

    /// Reads whom webhooks of Brevo's named, each once. Who cannot be read for now stays named and holds up nobody else;
    /// who is refused for good is left to the sweeps. `false`: they are too many to be read one by one.
    pub(super) async fn read_named_in_brevo(&self, priority: Priority) -> Result<bool, EngineError> {
        let _turn = self.naming.lock().await;
        let (hints, all) = self.store.read(|tx| Ok((tx.brevo_hints(BATCH)?, tx.count_brevo_hints()?))).await?;
        if hints.is_empty() {
            return Ok(true);
        }
        let later = self.put_off.at(self.now());
        let mut reads = Reads::default();
        for hint in later.in_turn(hints, |hint| put_off_name(&hint.name)) {
            // A deletion shows in no read of what has changed.
            if all > MANY && !hint.gone {
                continue;
            }
            if !reads.go_on() {
                break;
            }
            let read = self.read_hint(&hint, priority).await;
            if reads.note(self, put_off_name(&hint.name), read)?.is_some() {
                self.store.write(move |tx| tx.brevo_hint_was_read(&hint)).await?;
            }
        }
        reads.end(all <= MANY)
    }

    /// Reads whoever a name may stand for: the contact that we know under it, by its id, since what a webhook names may
    /// have another address by now; else whoever has the address.
    async fn read_hint(&self, hint: &BrevoHint, priority: Priority) -> Result<(), EngineError> {
        let name = hint.name.clone();
        for key in self.store.read(move |tx| known_under(tx, &name)).await? {
            unless_refused("Brevo contact", self.confirm(key, priority).await.map(drop))?;
        }
        let BrevoName::Email(email) = &hint.name else { return Ok(()) };
        let address = email.clone();
        let shown = self.store.read(move |tx| holds(tx, &address)).await?;
        if shown || hint.gone {
            // Whoever has a deleted contact's address now is another contact, which other webhooks and reads show.
            return Ok(());
        }
        let key = ContactKey::BrevoEmail(email.clone());
        unless_refused("Brevo contact", self.confirm(key, priority).await.map(drop))
    }
}

fn put_off_name(name: &BrevoName) -> String {
    match name {
        // For the log at debug level: no address.
        BrevoName::Email(email) => format!("Brevo address {}", short(Sha256::new_with_prefix(email.as_str()))),
        BrevoName::Id(id) => format!("Brevo contact {id}"),
    }
}

/// The contacts that we know under a name: those that show it, and the one of the person whose address it is.
fn known_under(tx: &Tx<'_>, name: &BrevoName) -> Stored<Vec<ContactKey>> {
    let email = match name {
        BrevoName::Id(id) => return Ok(vec![ContactKey::Brevo(*id)]),
        BrevoName::Email(email) => email,
    };
    let mut ids: Vec<_> = tx.brevo_ids_by_email(email)?;
    if let Some(linked) = tx.link_by_email(email)?.and_then(|link| link.brevo_id)
        && !ids.contains(&linked)
    {
        ids.push(linked);
    }
    Ok(ids.into_iter().map(ContactKey::Brevo).collect())
}

fn holds(tx: &Tx<'_>, email: &Email) -> Stored<bool> {
    Ok(!tx.brevo_ids_by_email(email)?.is_empty())
}

/// Applies a body. What it says of the outcome (`Err`: nothing can be done with it) is for the log and holds nothing
/// personal.
pub(super) fn act(tx: &Tx<'_>, source: &Source, row: &InboxRow) -> Stored<Result<String, String>> {
    let delivery = match Delivery::parse(&row.body) {
        Ok(delivery) => delivery,
        Err(error) => {
            tx.count(BREVO_WEBHOOK_UNREADABLE, 1)?;
            return Ok(Err(format!("unreadable: {error}; kept and counted")));
        }
    };
    let (mut named, mut facts, mut idle, mut unreadable) = (0, 0, 0, delivery.unreadable);
    for hint in &delivery.hints {
        tx.count(&format!("brevo_webhook.{}", hint.event.as_str()), 1)?;
        match &hint.event {
            Event::Unknown => {
                tx.count(BREVO_WEBHOOK_UNKNOWN_EVENT, 1)?;
                idle += 1;
                continue;
            }
            // What happened to a mail changes nothing about the contact.
            Event::Activity(_) => {
                idle += 1;
                continue;
            }
            _ => {}
        }
        if hint.emails.is_empty() && hint.contacts.is_empty() {
            unreadable += 1;
            continue;
        }
        if let Some(reason) = hint.opted_out {
            facts += opted_out(tx, source, hint, reason, row.received_at)?;
        }
        // A change that our own key made is known; but what it says of consent counts, whoever said it.
        let ours = hint.key_name.as_deref().is_some_and(|name| Some(name) == source.settings.brevo_key_name.as_deref());
        if ours && hint.opted_out.is_none() && matches!(hint.event, Event::ContactUpdated | Event::ListAddition) {
            tx.count(BREVO_WEBHOOK_OURS, 1)?;
            idle += 1;
            continue;
        }
        let gone = hint.event == Event::ContactDeleted;
        let emails = hint.emails.iter().cloned().map(BrevoName::Email);
        for name in hint.contacts.iter().copied().map(BrevoName::Id).chain(emails) {
            tx.put_brevo_hint(&BrevoHint { name, seq: row.seq, gone }, source.now)?;
            named += 1;
        }
    }
    if unreadable > 0 {
        tx.count(BREVO_WEBHOOK_UNREADABLE, i64::try_from(unreadable).unwrap_or(i64::MAX))?;
    }
    let words = format!("{named} to read, {facts} opt-outs, {idle} counted only, {unreadable} unreadable");
    Ok(if named + facts + idle == 0 { Err(format!("{words}; kept and counted")) } else { Ok(words) })
}

/// An opt-out is a fact: it counts at once, before the read that confirms it, and it is kept with its time, so that a
/// read that lags behind it does not lose it, and neither does a contact that we have never seen. How many are new.
fn opted_out(
    tx: &Tx<'_>,
    source: &Source,
    hint: &Hint,
    reason: OptOutReason,
    received_at: DateTime<Utc>,
) -> Stored<u64> {
    // A time that will not come for long would hold until then. But it is compared with the times of records, which are by
    // Brevo's clock, too: by ours, should that be slow, an opt-out would be older than what it was said after.
    let at = hint.at.map_or(received_at, |at| at.min(received_at + CLOCKS));
    let mut new = 0;
    let mut known: Vec<_> = hint.contacts.iter().copied().collect();
    let mut emails = hint.emails.clone();
    for id in &hint.contacts {
        let (contact, _) = replaceable(tx, tx.brevo_contact(*id))?;
        emails.extend(contact.and_then(|contact| contact.email));
    }
    for email in &emails {
        let holders = tx.brevo_ids_by_email(email)?;
        let fact = BrevoOptOut {
            email: email.clone(),
            contact: holders.first().copied(),
            reason,
            at,
            source: hint.event.as_str().to_owned(),
            over_at: None,
        };
        tx.put_brevo_opt_out(&fact)?;
        known.extend(holders);
    }
    known.sort_unstable();
    known.dedup();
    for id in known {
        let (contact, unreadable) = replaceable(tx, tx.brevo_contact(id))?;
        let Some(mut contact) = contact else {
            if unreadable {
                tx.ask_for(&ContactKey::Brevo(id))?;
            }
            continue;
        };
        let link = tx.link_by_brevo(id)?;
        if contact.consent.email_opted_out() {
            continue;
        }
        let is_newer = brevo_opt_out_counts(tx, &mut contact, link.as_ref())?;
        if is_newer {
            tx.put_brevo_contact(&contact, 0, false)?;
        } else if !is_in_force(tx, &contact)? {
            continue;
        }
        new += 1;
        let Some(link) = link else { continue };
        let base = match base_of(&link) {
            Err(error) if error.unreadable().is_some() => None,
            base => Some(base?),
        };
        if source.settings.tells_intercom {
            // It showed none: this is news, even if nothing has been agreed on yet.
            let before = base.as_ref().map(|base| base.consent_with_contact(true).unwrap_or(ConsentBase::NEITHER));
            super::carry::carry_at_once(tx, &link, id, (before, is_newer), source.now)?;
        }
        // What a write of ours that is on its way lifts after this is put back.
        if let Some(mut base) = base
            && let Some(consent) = base.consent.as_mut().filter(|consent| !consent.brevo_out)
        {
            consent.brevo_out = true;
            tx.set_base(link.id, &pack_base(tx, &base)?)?;
        }
        tx.mark_dirty(link.id, source.dirty.max(Dirty::Live))?;
    }
    Ok(new)
}

/// Whether an opt-out counts that a write of ours has perhaps lifted by now: the contact is as it was shown, subscribed, and
/// the next plan puts the opt-out back.
fn is_in_force(tx: &Tx<'_>, contact: &BrevoContact) -> Stored<bool> {
    let facts = tx.brevo_opt_outs(Some(contact.id), contact.email.as_ref())?;
    Ok(facts.iter().any(|fact| fact.over_at.is_none() && !fact.was_lifted()))
}
