//! Addresses that somebody changes in Brevo: every Intercom contact that had the old one takes the new one, where
//! `connectors.intercom.direction` lets fields travel that way.
//!
//! The link takes the new address at once, and each contact is then written, after a look at it. Until that is done, what
//! it shows is not taken for a change of address in Intercom.

use super::answers::MOST_TRIES;
use super::carry::AFTER_NOT_LET_IN;
use super::cycle::stops_everything;
use super::observe::{base_of, flights_of, pack_base, put_conflicts, settle_as, subject_of};
use super::place;
use super::push::{CHUNK, Pushed};
use super::write_back;
use super::{Connection, EngineError, Ready, Settings};
use crate::mapping::{Direction, OnConflict};
use crate::model::{
    Answer, ContactKey, Email, ErrorKind, Fetched, IntercomChange, IntercomContact, Observation, Priority, SideError,
    SideName, Sides, Value, Write,
};
use crate::reconcile::fields::FieldBase;
use crate::reconcile::person::{Base, LostValue};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::listings::{Change, NewFailure};
use crate::store::readdresses::Readdress;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};

/// Who is being written to right now is looked at again then.
const BUSY: TimeDelta = TimeDelta::seconds(2);
/// And who cannot be written for now.
const LATER: TimeDelta = TimeDelta::minutes(1);
/// Under which field a refusal is listed.
const FIELD: &str = "email";

/// The contact shows the address that it is to lose: nobody has changed it there.
pub(super) fn is_on_its_way(tx: &Tx<'_>, contact: &IntercomContact, link: &LinkRow) -> Stored<bool> {
    let Some(row) = tx.readdress(&contact.id)? else { return Ok(false) };
    let stands =
        Some(&row.from) == contact.email.as_ref() && Some(&row.to) == link.email.as_ref() && row.link == link.id;
    if !stands {
        // Somebody has been there meanwhile.
        tx.drop_readdress(&contact.id)?;
    }
    Ok(stands)
}

/// What somebody made of the address in Brevo: the one that both agreed on, and the one that stands there.
fn changed_in_brevo(tx: &Tx<'_>, link: &LinkRow) -> Stored<Option<(Email, Email)>> {
    if link.state != LinkState::Active || link.rename_to.is_some() {
        return Ok(None);
    }
    let (Some(brevo), Some(agreed)) = (link.brevo_id, &link.email) else { return Ok(None) };
    let Some(shown) = tx.brevo_contact(brevo)?.and_then(|contact| contact.email) else { return Ok(None) };
    let base = base_of(link)?;
    Ok((shown != *agreed && base.email.as_ref() == Some(agreed)).then(|| (agreed.clone(), shown)))
}

/// Follows an address that was changed in Brevo alone: the link as it is then. `None`: somebody or something else comes
/// first, and it is planned after that.
pub(super) fn follow(tx: &Tx<'_>, link: LinkRow, live: &[&IntercomRow], ready: &Ready) -> Stored<Option<LinkRow>> {
    if ready.addresses.direction == Direction::IntercomToBrevo || !ready.updates.intercom {
        return Ok(Some(link));
    }
    let Some((from, to)) = changed_in_brevo(tx, &link)? else { return Ok(Some(link)) };
    if !live.iter().any(|row| row.contact.email.as_ref() == Some(&from)) {
        return Ok(Some(link));
    }
    if is_busy(&link) || flights_of(&link)?.may_loosen {
        // It may be a late write of ours that shows. An opt-out waits for nothing.
        return Ok(if link.dirty == Dirty::Consent { Some(link) } else { None });
    }
    if let Some(other) = tx.link_by_email(&to)? {
        match changed_in_brevo(tx, &other)? {
            Some((_, others)) if others == from => {
                if is_busy(&other) {
                    return Ok(None);
                }
                swap(tx, &link, &other, ready)?;
                tx.mark_dirty(other.id, Dirty::Live)?;
                return Ok(Some(tx.link(link.id)?.unwrap_or(link)));
            }
            // Chains run from the free end.
            Some(_) => {
                tx.mark_dirty(other.id, Dirty::Live)?;
                return Ok(None);
            }
            None => {
                let words = format!(
                    "its Brevo contact was given an address that is that of link {}: it stays as it is",
                    other.id
                );
                return refuse(tx, link, &words);
            }
        }
    }
    for id in tx.intercom_ids_by_email(&to)? {
        if tx.intercom_contact(&id)?.is_some_and(|row| row.state == ContactState::Live && row.link != Some(link.id)) {
            let words = format!("its Brevo contact was given an address that contact {id} has: it stays as it is");
            return refuse(tx, link, &words);
        }
    }
    take(tx, &link, (&from, &to), live.iter().copied())?;
    Ok(Some(tx.link(link.id)?.unwrap_or(link)))
}

/// What is on its way, or waits for its answer, is about the contact as it was.
fn is_busy(link: &LinkRow) -> bool {
    link.import.is_some() || (link.flights.is_some() && !link.answered)
}

/// It is listed, and nobody is renamed.
fn refuse(tx: &Tx<'_>, link: LinkRow, words: &str) -> Stored<Option<LinkRow>> {
    let shown = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten();
    let since = shown.map_or_else(DateTime::<Utc>::default, |shown| shown.modified_at);
    tx.put_notice("identity_conflict", &subject_of(tx, &link)?, Some(words), since)?;
    Ok(Some(link))
}

/// The link has the new address from now on, and its contacts are to take it.
fn take<'a>(
    tx: &Tx<'_>,
    link: &LinkRow,
    (from, to): (&Email, &Email),
    live: impl Iterator<Item = &'a IntercomRow>,
) -> Stored<()> {
    tx.set_link_email(link.id, Some(to))?;
    for row in live.filter(|row| row.contact.email.as_ref().is_some_and(|email| email == from)) {
        tx.put_readdress(&Readdress {
            contact: row.contact.id.clone(),
            link: link.id,
            from: from.clone(),
            to: to.clone(),
            due: DateTime::<Utc>::default(),
            tries: 0,
        })?;
    }
    tx.clear_notice("identity_conflict", &subject_of(tx, link)?)
}

/// Somebody has exchanged the addresses of two Brevo contacts: the links are re-pointed, and nobody is renamed. Brevo gives
/// its two-way fields to the new partners, whose values count as unchanged.
fn swap(tx: &Tx<'_>, a: &LinkRow, b: &LinkRow, ready: &Ready) -> Stored<()> {
    tx.swap_brevo(a, b)?;
    for (link, partner) in [(a, b), (b, a)] {
        let (own, theirs) = (base_of(link)?, base_of(partner)?);
        place::take_over(tx, link, &own, &theirs, partner)?;
        let Some(now) = tx.link(link.id)? else { continue };
        let mut base = base_of(&now)?;
        for rule in ready.mapping.rules.iter().filter(|rule| rule.direction != Direction::IntercomToBrevo) {
            match own.fields.get(&rule.key).filter(|field| field.agreed.intercom.iter().any(Option::is_some)) {
                Some(field) => {
                    let agreed = Sides { intercom: field.agreed.intercom.clone(), brevo: Vec::new() };
                    let overrun = Some(SideName::Intercom);
                    let given = FieldBase { rule: field.rule.clone(), agreed, overrun, ..FieldBase::default() };
                    base.fields.insert(rule.key.clone(), given);
                }
                None => drop(base.fields.remove(&rule.key)),
            }
        }
        // Each shows the address of the one whose it is by now.
        base.email.clone_from(&link.email);
        let flights = flights_of(&now)?;
        settle_as(tx, link.id, &base, Some(&flights).filter(|flights| !flights.is_empty()))?;
        tx.clear_notice("identity_conflict", &subject_of(tx, link)?)?;
    }
    Ok(())
}

/// The address was changed on both sides, and Brevo's stands: the contact is to take it. `false`: Intercom's stands, or
/// nobody has changed it in Brevo.
pub(super) fn brevo_wins(
    tx: &Tx<'_>,
    row: &IntercomRow,
    link: &LinkRow,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Stored<bool> {
    let defaults = settings.addresses;
    if defaults.direction == Direction::IntercomToBrevo || !settings.updates.intercom || is_busy(link) {
        return Ok(false);
    }
    let Some((_, shown)) = changed_in_brevo(tx, link)? else { return Ok(false) };
    let Some(own) = row.contact.email.clone().filter(|own| *own != shown) else { return Ok(false) };
    let (wins, rule) = match defaults.on_conflict {
        OnConflict::Intercom => (SideName::Intercom, "changed on both sides: Intercom's stands"),
        OnConflict::Brevo => (SideName::Brevo, "changed on both sides: Brevo's stands"),
        OnConflict::Newest => {
            let spans = write_back::spans(tx, link.id)?;
            match (spans.intercom, spans.brevo) {
                (Some(mine), Some(theirs)) if mine.is_later_than(&theirs) => {
                    (SideName::Intercom, "changed on both sides: the newer stands")
                }
                (Some(mine), Some(theirs)) if theirs.is_later_than(&mine) => {
                    (SideName::Brevo, "changed on both sides: the newer stands")
                }
                _ => (
                    defaults.tie.unwrap_or(SideName::Intercom),
                    "changed on both sides, and nobody knows which is newer: a tie",
                ),
            }
        }
    };
    let taken =
        tx.link_by_email(&shown)?.is_some() || tx.intercom_ids_by_email(&shown)?.iter().any(|id| *id != row.contact.id);
    let wins = if taken { SideName::Intercom } else { wins };
    let cells = |email: &Email| vec![Some(Value::Text(email.as_str().to_owned()))];
    let (lost, kept) = if wins == SideName::Brevo { (&own, &shown) } else { (&shown, &own) };
    let side = wins.other();
    let lost = LostValue { field: FIELD.to_owned(), side, lost: cells(lost), kept: cells(kept), rule: rule.to_owned() };
    put_conflicts(tx, link.id, [&lost], None, now)?;
    if wins == SideName::Intercom {
        return Ok(false);
    }
    take(tx, link, (&own, &shown), std::iter::once(row))?;
    Ok(true)
}

impl Connection {
    /// Writes to Intercom the addresses that were changed in Brevo.
    pub(super) async fn readdress(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        // Whoever is at it goes on until nothing is left that was due when they began.
        let Ok(_writing) = self.writing_back.try_lock() else { return Ok(pushed) };
        let now = self.now();
        loop {
            self.go_on()?;
            if self.is_held(SideName::Intercom) {
                return Ok(pushed);
            }
            pushed += self.tell_between(priority).await?;
            let due = self.store.read(move |tx| tx.readdresses_due(now, CHUNK)).await?;
            if due.is_empty() {
                return Ok(pushed);
            }
            for row in due {
                self.go_on()?;
                match self.readdress_one(row, priority).await {
                    Ok(done) => pushed += done,
                    Err(EngineError::Side(error)) => {
                        let error = EngineError::Side(error);
                        let help = error.arrow_to_remedy();
                        tracing::error!("addresses cannot be written to Intercom: {}{help}", error.for_log());
                        if stops_everything(&error) {
                            self.note_refusal(&error).await;
                        }
                        return Ok(pushed);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn readdress_one(&self, row: Readdress, priority: Priority) -> Result<Pushed, EngineError> {
        let claim = self.claim([row.link]);
        if claim.claimed.is_empty() {
            return self.readdress_later(row, BUSY).await;
        }
        // An edit that nothing has shown yet is not written over, and an opt-out rides along.
        let read_began = self.now();
        let found = match self.intercom.fetch(&ContactKey::Intercom(row.contact.clone()), priority).await {
            Ok(found) => found,
            Err(error) => return self.readdress_fails(row, &error).await,
        };
        let source = self.source(0, true, read_began, Dirty::Live)?;
        let (contact, now) = (row.contact.clone(), self.now());
        let shown = self
            .store
            .write(move |tx| {
                match &found {
                    Fetched::Found(shown, _) => source.apply(tx, shown)?,
                    Fetched::Gone(how) => {
                        source.apply(tx, &Observation::IntercomContactGone(contact.clone(), how.clone()))?
                    }
                };
                let Some(row) = tx.readdress(&contact)? else { return Ok(None) };
                let known = tx.intercom_contact(&contact)?.filter(|known| known.state == ContactState::Live);
                let link = tx.link(row.link)?.filter(|link| link.email.as_ref() == Some(&row.to));
                let stands = |known: &IntercomRow| known.contact.email.as_ref() == Some(&row.from);
                let known = known.filter(|known| link.is_some() && stands(known));
                if known.is_none() {
                    // It has it, or somebody has been there.
                    tx.drop_readdress(&contact)?;
                    tx.set_unplaced(&contact, Dirty::Live)?;
                    return Ok(None);
                }
                tx.put_readdress(&Readdress { due: now + LATER, ..row })?;
                Ok(known)
            })
            .await?;
        let Some(shown) = shown else { return Ok(Pushed::default()) };
        let change = IntercomChange {
            email: Some(row.to.clone()),
            email_opted_out: shown.contact.consent.email_opted_out(),
            ..IntercomChange::default()
        };
        let began = self.now();
        let answer = self.intercom.write(&Write::UpdateIntercomContact(row.contact.clone(), change), priority).await;
        let (source, now) = (self.source(0, false, began, Dirty::Live)?, self.now());
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        match answer {
            Ok(answer) => {
                pushed.written_back = 1;
                self.store
                    .write(move |tx| {
                        tx.drop_readdress(&row.contact)?;
                        if let Answer::IntercomContact(shown, _) = &answer
                            && shown.id == row.contact
                        {
                            source.apply(tx, &Observation::IntercomContact(shown.clone()))?;
                        }
                        tx.clear_failure(&format!("contact {}", row.contact), FIELD)?;
                        tx.mark_dirty(row.link, Dirty::Live)?;
                        tx.put_change(&Change {
                            link: Some(row.link),
                            at: now,
                            what: format!("address of contact {} in Intercom", row.contact),
                            fields: [(FIELD.to_owned(), "changed in Brevo".to_owned())].into(),
                            answer: "accepted".to_owned(),
                            import: None,
                            request: Some(crate::intercom::request_for(&row.contact)),
                        })
                    })
                    .await?;
            }
            Err(error) => {
                pushed += self.readdress_fails(row, &error).await?;
            }
        }
        drop(claim);
        self.place(Dirty::Live).await?;
        self.bell.notify_one();
        Ok(pushed)
    }

    async fn readdress_later(&self, row: Readdress, wait: TimeDelta) -> Result<Pushed, EngineError> {
        let due = self.now() + wait;
        self.store
            .write(move |tx| match tx.readdress(&row.contact)? {
                Some(row) => tx.put_readdress(&Readdress { due, ..row }),
                None => Ok(()),
            })
            .await?;
        Ok(Pushed::default())
    }

    /// Intercom did not take it, or could not be asked.
    async fn readdress_fails(&self, row: Readdress, error: &SideError) -> Result<Pushed, EngineError> {
        let tries = row.tries + 1;
        let refused = match &error.kind {
            ErrorKind::Auth(_) => {
                self.readdress_later(row, AFTER_NOT_LET_IN).await?;
                return Err(EngineError::Side(Box::new(error.clone())));
            }
            ErrorKind::Rejected { .. } | ErrorKind::Conflict { .. } => true,
            _ => false,
        };
        if !refused && tries < MOST_TRIES {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(LATER).max(LATER);
            return self.readdress_later(row, wait).await;
        }
        let (now, error) = (self.now(), error.clone());
        self.store
            .write(move |tx| {
                tx.drop_readdress(&row.contact)?;
                let Some(link) = tx.link(row.link)? else { return Ok(()) };
                let subject = format!("contact {}", row.contact);
                tx.put_failure(&NewFailure::refused(None, &subject, FIELD, &error), now)?;
                let others = tx.members(link.id)?.iter().any(|member| {
                    member.state == ContactState::Live
                        && member.contact.id != row.contact
                        && (member.contact.email.as_ref() == Some(&row.to))
                });
                if others {
                    // The others have it: this one has stayed behind, and is another person from now on.
                    return tx.set_unplaced(&row.contact, Dirty::Live);
                }
                if link.email.as_ref() == Some(&row.to) && tx.link_by_email(&row.from)?.is_none() {
                    // Both keep the address that they have.
                    tx.set_link_email(link.id, Some(&row.from))?;
                    let base = Base { email: Some(row.to.clone()), ..base_of(&link)? };
                    tx.set_base(link.id, &pack_base(tx, &base)?)?;
                }
                tx.mark_dirty(link.id, Dirty::Live)
            })
            .await?;
        Ok(Pushed { failed: 1, ..Pushed::default() })
    }
}
