//! Forgetting somebody, down to a tombstone: a keyed hash of the address with the strictest consent that was seen, so that
//! who was opted out comes back opted out, and who is gone is not made again (docs/decisions/0015).

use super::observe::{base_of, from_json, to_json};
use super::{Connection, Ended, EngineError};
use crate::brevo::webhook::Delivery;
use crate::doors::{Doors, Rng};
use crate::model::{Consent, Email, IntercomContactId, OptOutReason, SideName};
use crate::store::contacts::ContactState;
use crate::store::facts::Channel;
use crate::store::forget::{Erasure, Tombstone, WaitingWebhook};
use crate::store::newcomers::Stage;
use crate::store::orders::OrderRow;
use crate::store::write_backs::WriteBack;
use crate::store::{Result, Store, Tx};
use chrono::{DateTime, Utc};
use hmac::{KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// Where the store keeps the key of the hashes.
const KEY: &str = "tombstone_key";

/// Where the store keeps who was named by webhooks and has not been read.
const NAMED: &str = super::inbox::KEPT;

/// What is left of everybody who was forgotten, as far as it is looked up. There is none before the first.
pub(super) struct Tombstones {
    key: Vec<u8>,
}

impl Tombstones {
    /// `None`: nobody was ever forgotten, so that nobody need be looked up.
    pub(super) fn read(tx: &Tx<'_>) -> Result<Option<Self>> {
        if tx.has_tombstones()? { Self::with_key(tx) } else { Ok(None) }
    }

    fn with_key(tx: &Tx<'_>) -> Result<Option<Self>> {
        let Some(text) = tx.meta(KEY)? else { return Ok(None) };
        Ok(Some(Self { key: from_json("meta", &text)? }))
    }

    /// With the key that is there, or with this new one.
    fn read_or_make(tx: &Tx<'_>, fresh: &[u8; 32]) -> Result<Self> {
        if let Some(known) = Self::with_key(tx)? {
            return Ok(known);
        }
        tx.set_meta(KEY, &to_json("meta", fresh)?)?;
        Ok(Self { key: fresh.to_vec() })
    }

    fn hash(&self, kind: &str, text: &str) -> Vec<u8> {
        // Any length of key will do.
        let Ok(mut mac) = hmac::Hmac::<sha2::Sha256>::new_from_slice(&self.key) else { return Vec::new() };
        mac.update(kind.as_bytes());
        mac.update(b"\0");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    fn of_email(&self, email: &Email) -> Vec<u8> {
        self.hash("email", email.as_str())
    }

    fn of_contact(&self, id: &IntercomContactId) -> Vec<u8> {
        self.hash("intercom contact", id.as_str())
    }

    /// What is left of whoever had this address.
    pub(super) fn at(&self, tx: &Tx<'_>, email: Option<&Email>) -> Result<Option<Tombstone>> {
        email.map_or(Ok(None), |email| tx.tombstone(&self.of_email(email)))
    }

    /// When somebody was forgotten whose contact in Brevo was gone, if all of these are theirs.
    pub(super) fn gone_in_brevo<'a>(
        &self,
        tx: &Tx<'_>,
        contacts: impl Iterator<Item = &'a IntercomContactId>,
    ) -> Result<Option<DateTime<Utc>>> {
        let mut since = None;
        for id in contacts {
            match tx.tombstone(&self.of_contact(id))?.filter(|left| left.gone_in_brevo) {
                Some(left) => since = Some(left.at),
                None => return Ok(None),
            }
        }
        Ok(since)
    }
}

/// Who is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// Whoever has this address.
    pub email: Email,
    /// Even if they are still in Intercom or Brevo.
    pub even_if_there: bool,
}

/// A record that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillThere {
    /// Where.
    pub side: SideName,
    /// Its id.
    pub id: String,
}

/// What came of it. Nothing of it names the person, but for the ids of records that are still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forgotten {
    /// Nothing is kept under this address.
    Nobody,
    /// They are still there: nothing was done.
    There(Vec<StillThere>),
    /// Something is on its way that would bring them back: nothing was done. Why, and until when, in words.
    NotYet(String),
    /// It is done.
    Done {
        /// Intercom contacts.
        intercom: u64,
        /// Brevo contacts.
        brevo: u64,
        /// Rows that were taken out, all in all.
        rows: u64,
        /// The tombstone says that they were opted out of e-mail.
        opted_out: bool,
        /// Records that are still there, and bring them back with the next read.
        there: Vec<StillThere>,
        /// The file was built anew: no byte is left. Otherwise why not.
        scrubbed: std::result::Result<(), String>,
    },
}

/// Who the address is, all of them.
struct Found {
    who: Erasure,
    left: Tombstone,
    there: Vec<StillThere>,
    not_yet: Option<String>,
    /// What of the person's is kept although no contact is.
    traces: bool,
}

/// The links of whoever has this address: nobody may be writing to them meanwhile.
fn links_of(tx: &Tx<'_>, email: &Email) -> Result<BTreeSet<i64>> {
    let mut links: BTreeSet<i64> = tx.link_by_email(email)?.map(|link| link.id).into_iter().collect();
    for id in tx.intercom_ids_by_email(email)? {
        links.extend(tx.intercom_contact(&id)?.and_then(|row| row.link));
    }
    for id in tx.brevo_ids_by_email(email)? {
        links.extend(tx.link_by_brevo(id)?.map(|link| link.id));
    }
    Ok(links)
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn find(tx: &Tx<'_>, email: &Email, now: DateTime<Utc>) -> Result<Found> {
    let mut who = Erasure { links: links_of(tx, email)?, emails: [email.clone()].into(), ..Erasure::default() };
    who.intercom.extend(tx.intercom_ids_by_email(email)?);
    who.brevo.extend(tx.brevo_ids_by_email(email)?);
    let (mut consent, mut not_yet) = (Consent::default(), None);
    let mut out_by_agreement = (false, false);
    for id in &who.links {
        let Some(link) = tx.link(*id)? else { continue };
        if link.email.as_ref().is_some_and(|other| other != email) {
            not_yet = Some(format!(
                "a contact that shows this address is another person's by what was agreed on (link {id}; `linkspan \
                 explain link:{id}` shows them): correct the address there first, and let the next read see it"
            ));
        }
        if let Some(import) = link.import {
            not_yet =
                Some(format!("import {import} holds them and has not been read back yet: try again in some minutes"));
        }
        if let (Some(_), false, Some(until)) = (&link.flights, link.answered, link.verify_after)
            && until > now
        {
            let until = time(until);
            not_yet =
                Some(format!("a write to them left without an answer, and may land until {until}: try again then"));
        }
        if let Some(until) = tx.write_back(*id)?.filter(WriteBack::awaits_answer).and_then(|row| row.verify_after)
            && until > now
        {
            let until = time(until);
            not_yet =
                Some(format!("a write to Intercom left without an answer, and may land until {until}: try again then"));
        }
        for side in SideName::BOTH {
            let opt_in = tx.opt_in(*id, side)?.and_then(|row| row.until);
            let parting = tx.parting(*id, side)?.and_then(|row| row.until);
            for (what, until) in [("an opt-in that was carried", opt_in), ("what a deletion led to", parting)] {
                if let Some(until) = until.filter(|until| *until > now) {
                    let until = time(until);
                    not_yet = Some(format!(
                        "{what} to {side} left without a read of what became of it, and may land until {until}: try again \
                         then"
                    ));
                }
            }
        }
        who.intercom.extend(tx.members(*id)?.into_iter().map(|row| row.contact.id));
        who.brevo.extend(link.brevo_id);
        let base = base_of(&link)?;
        out_by_agreement.0 |= base.consent.is_some_and(|agreed| agreed.intercom_out || agreed.brevo_out);
        out_by_agreement.1 |= base.sms.is_some_and(|agreed| agreed.intercom_out || agreed.brevo_out);
    }
    let mut lost = Vec::new();
    for id in &who.intercom {
        for merged in tx.merged_into(id)? {
            let link = tx.intercom_contact(&merged)?.and_then(|row| row.link);
            if link.is_none_or(|link| who.links.contains(&link)) {
                lost.push(merged);
            }
        }
    }
    who.intercom.extend(lost);
    let mut there = Vec::new();
    let mut addresses = BTreeSet::new();
    for id in &who.intercom {
        let Some(row) = tx.intercom_contact(id)? else { continue };
        consent = consent.stricter(&row.contact.consent);
        addresses.extend(row.contact.email);
        match row.state {
            ContactState::Live | ContactState::Archived => {
                there.push(StillThere { side: SideName::Intercom, id: id.to_string() });
            }
            ContactState::Missing => {
                not_yet = Some(format!(
                    "Intercom contact {id} was not found there, and is looked for under its other identifiers for some \
                     minutes: it may have been merged. Try again after the next sync"
                ));
            }
            ContactState::Deleted | ContactState::Merged => {}
        }
        for fact in tx.opt_outs(id)?.into_iter().filter(|fact| fact.over_at.is_none()) {
            match fact.channel {
                Channel::Email => drop(consent.email_opt_outs.insert(OptOutReason::Unsubscribed)),
                Channel::Sms => consent.sms_opted_out = true,
            }
        }
    }
    let mut gone_in_brevo = false;
    for id in &who.brevo {
        if let Some(row) = tx.newcomer(*id)?.filter(|row| matches!(row.stage, Stage::Sent | Stage::Unsure)) {
            let until = time(row.due);
            not_yet = Some(format!(
                "a request that makes them in Intercom left without an answer, and is looked after at {until}: try again \
                 then"
            ));
        }
        match tx.brevo_contact(*id)? {
            Some(contact) => {
                consent = consent.stricter(&contact.consent);
                addresses.extend(contact.email);
                there.push(StillThere { side: SideName::Brevo, id: id.to_string() });
            }
            None => gone_in_brevo = true,
        }
    }
    // An address that somebody else has by now is theirs.
    for address in addresses {
        if tx.link_by_email(&address)?.is_none_or(|link| who.links.contains(&link.id)) {
            who.emails.insert(address);
        }
    }
    let mut traces = !who.links.is_empty() || !who.intercom.is_empty() || !who.brevo.is_empty();
    for address in &who.emails {
        let told = tx.brevo_opt_outs(None, Some(address))?;
        traces |= !told.is_empty() || tx.is_named_by_brevo(Some(address), None)?;
        for fact in told.into_iter().filter(|fact| fact.over_at.is_none()) {
            consent.email_opt_outs.insert(fact.reason);
        }
    }
    let left = Tombstone {
        email_out: consent.email_opted_out() || out_by_agreement.0,
        sms_out: consent.sms_opted_out || out_by_agreement.1,
        gone_in_brevo,
        at: now,
    };
    Ok(Found { who, left, there, not_yet, traces })
}

/// Forgets, in this transaction. What is deleted is to be overwritten, and the file built anew after it.
fn forget(tx: &Tx<'_>, ask: &Forget, fresh_key: &[u8; 32], now: DateTime<Utc>) -> Result<Forgotten> {
    let mut found = find(tx, &ask.email, now)?;
    let words: Vec<String> = (found.who.emails.iter().map(|email| email.as_str().to_lowercase()))
        .chain(found.who.intercom.iter().map(|id| id.as_str().to_lowercase()))
        .collect();
    let webhooks = tx.waiting_webhooks(&words)?;
    if !found.traces && webhooks.is_empty() {
        return Ok(Forgotten::Nobody);
    }
    if !ask.even_if_there && !found.there.is_empty() {
        return Ok(Forgotten::There(found.there));
    }
    if let Some(why) = found.not_yet {
        return Ok(Forgotten::NotYet(why));
    }
    for webhook in &webhooks {
        found.left.email_out |= says_opted_out(webhook, &found.who);
        take_out(tx, webhook, &words, now)?;
    }
    let tombstones = Tombstones::read_or_make(tx, fresh_key)?;
    for email in &found.who.emails {
        tx.put_tombstone(&tombstones.of_email(email), Tombstone { gone_in_brevo: false, ..found.left })?;
    }
    if found.left.gone_in_brevo {
        let left = Tombstone { email_out: false, sms_out: false, ..found.left };
        for id in &found.who.intercom {
            tx.put_tombstone(&tombstones.of_contact(id), left)?;
        }
    }
    unname(tx, &found.who)?;
    let mut shown = BTreeSet::new();
    for id in &found.who.brevo {
        shown.extend(tx.brevo_contact(*id)?.and_then(|contact| contact.email));
    }
    let rows = tx.erase(&found.who)?;
    for email in &shown {
        // Of somebody else, by whose address theirs was known.
        tx.address_is_free(email)?;
    }
    Ok(Forgotten::Done {
        intercom: found.who.intercom.len() as u64,
        brevo: found.who.brevo.len() as u64,
        rows,
        opted_out: found.left.email_out,
        there: found.there,
        scrubbed: Err("the file has not been built anew yet".to_owned()),
    })
}

/// Whether a webhook that was not acted on tells of an opt-out of theirs.
fn says_opted_out(webhook: &WaitingWebhook, who: &Erasure) -> bool {
    match webhook.side {
        SideName::Intercom => webhook.topic.contains("unsubscribed"),
        SideName::Brevo => Delivery::parse(&webhook.body).is_ok_and(|delivery| {
            let theirs = |email: &Email| who.emails.contains(email);
            delivery.hints.iter().any(|hint| hint.opted_out.is_some() && hint.emails.iter().any(theirs))
        }),
    }
}

/// Takes somebody out of a webhook that was not acted on. A batch goes on without them; what else Intercom would tell of
/// in the same notification, the next read shows.
fn take_out(tx: &Tx<'_>, webhook: &WaitingWebhook, words: &[String], now: DateTime<Utc>) -> Result<()> {
    if let Ok(Json::Array(mut events)) = serde_json::from_slice(&webhook.body) {
        events.retain(|event| {
            let text = event.to_string().to_lowercase();
            !words.iter().any(|word| text.contains(word.as_str()))
        });
        let rest = to_json("inbox", &events)?;
        // An address may be written in a way that only a parser understands.
        if !events.is_empty() && !words.iter().any(|word| rest.to_lowercase().contains(word.as_str())) {
            return tx.put_webhook_body(webhook.seq, rest.as_bytes());
        }
    }
    tx.finish_inbox(webhook.seq, "forgotten", now)
}

/// Nobody reads them because a webhook named them.
fn unname(tx: &Tx<'_>, who: &Erasure) -> Result<()> {
    let Some(text) = tx.meta(NAMED)? else { return Ok(()) };
    let mut named: Json = from_json("meta", &text)?;
    let stays = |id: &str| !who.intercom.contains(&IntercomContactId::new(id));
    match named.get_mut(0) {
        Some(Json::Object(contacts)) => contacts.retain(|id, _| stays(id)),
        // As earlier versions kept them.
        Some(Json::Array(contacts)) => contacts.retain(|id| id.as_str().is_none_or(stays)),
        _ => {}
    }
    tx.set_meta(NAMED, &to_json("meta", &named)?)
}

fn fresh_key(rng: &dyn Rng) -> [u8; 32] {
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    key
}

/// After the transaction: no byte is left in the file.
async fn scrub(store: &Store, outcome: Forgotten) -> Forgotten {
    let Forgotten::Done { intercom, brevo, rows, opted_out, there, .. } = outcome else {
        // The address that was asked for is in the log at most.
        if let Err(error) = store.empty_log().await {
            tracing::debug!("the state's log could not be emptied: {error}");
        }
        return outcome;
    };
    let scrubbed = match store.scrub().await {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("somebody is reading the state; old pages stay in its log until the next checkpoint".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    Forgotten::Done { intercom, brevo, rows, opted_out, there, scrubbed }
}

/// Forgets somebody in a state that nobody else has: for commands.
///
/// # Errors
/// If the state cannot be read or written; nothing was done then.
pub async fn forget_in(store: &Store, doors: &Doors, ask: Forget) -> std::result::Result<Forgotten, EngineError> {
    let (key, now) = (fresh_key(&*doors.rng), doors.clock.now());
    let outcome = store.write_erasing(move |tx| forget(tx, &ask, &key, now)).await?;
    Ok(scrub(store, outcome).await)
}

impl Connection {
    /// Carries out an order to forget somebody. While anything is being written to them, it stays open: it is looked at
    /// again in a second.
    pub(super) async fn forget_as_ordered(&self, row: &OrderRow, ask: Forget) -> std::result::Result<(), EngineError> {
        // Whoever holds one of these is writing to somebody: they are let go of within seconds.
        let (Ok(_telling), Ok(_events)) = (self.telling.try_lock(), self.events.try_lock()) else { return Ok(()) };
        let Ok(_writing) = self.writing_back.try_lock() else { return Ok(()) };
        let email = ask.email.clone();
        let links = self.store.read(move |tx| links_of(tx, &email)).await?;
        let claim = self.claim(links.iter().copied());
        if claim.claimed.len() < links.len() {
            return Ok(());
        }
        let (id, key, now) = (row.id, fresh_key(&*self.doors.rng), self.now());
        let outcome = self
            .store
            .write_erasing(move |tx| {
                if !tx.take_order(id, now)? {
                    return Ok(None);
                }
                tx.erase_ask(id)?;
                forget(tx, &ask, &key, now).map(Some)
            })
            .await?;
        let Some(outcome) = outcome else { return Ok(()) };
        drop(claim);
        if matches!(outcome, Forgotten::Done { .. }) {
            tracing::info!(order = id, "somebody is forgotten, as ordered; the state is built anew");
        }
        let outcome = scrub(&self.store, outcome).await;
        let (result, now) = (to_json("orders", &Ended::Forgotten(Box::new(outcome)))?, self.now());
        self.store.write(move |tx| tx.finish_order(id, None, &result, now)).await?;
        Ok(())
    }
}

/// Opt-outs that are left of whoever had an address; for whoever is about to be made or renamed with it.
pub(super) fn opted_out_before(
    tx: &Tx<'_>,
    tombstones: Option<&Tombstones>,
    address: Option<&Email>,
) -> Result<(bool, bool)> {
    let left = tombstones.map_or(Ok(None), |tombstones| tombstones.at(tx, address))?;
    Ok(left.map_or((false, false), |left| (left.email_out, left.sms_out)))
}

impl StillThere {
    /// `Intercom contact 42`.
    pub fn in_words(&self) -> String {
        format!("{} contact {}", self.side, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_needs_the_key_and_tells_addresses_from_ids() {
        let (a, b) = (Tombstones { key: vec![1; 32] }, Tombstones { key: vec![2; 32] });
        let email = Email::parse("ann@x.example").unwrap();
        assert_eq!(a.of_email(&email).len(), 32);
        assert_ne!(a.of_email(&email), b.of_email(&email));
        assert_ne!(a.of_email(&email), a.of_contact(&IntercomContactId::new("ann@x.example")));
    }

    #[test]
    fn an_order_survives_the_store() {
        let ask = Forget { email: Email::parse("ann@x.example").unwrap(), even_if_there: true };
        let text = to_json("orders", &super::super::Order::Forget(ask.clone())).unwrap();
        assert_eq!(from_json::<super::super::Order>("orders", &text).unwrap(), super::super::Order::Forget(ask));
    }
}
