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
use crate::mapping::{Defaults, Direction, OnConflict};
use crate::model::{
    Answer, ContactKey, Email, ErrorKind, Fetched, IntercomChange, IntercomContact, IntercomContactId, Observation,
    Priority, SideError, SideName, Sides, Value, Write,
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
        fall(tx, &row, contact.email.as_ref())?;
    }
    Ok(stands)
}

/// It is not to be written any more. If that is because somebody gave the contact a third address in Intercom, both sides
/// have changed it: Brevo's change is open again, and is weighed against that one.
fn fall(tx: &Tx<'_>, row: &Readdress, shown: Option<&Email>) -> Stored<()> {
    tx.drop_readdress(&row.contact)?;
    let third = shown.is_some_and(|shown| *shown != row.from && *shown != row.to);
    let Some(link) = tx.link(row.link)?.filter(|link| third && link.email.as_ref() == Some(&row.to)) else {
        return Ok(());
    };
    let has_it = |member: &IntercomRow| {
        member.state == ContactState::Live
            && member.contact.id != row.contact
            && member.contact.email.as_ref() == Some(&row.to)
    };
    if link.rename_to.is_some() || tx.link_by_email(&row.from)?.is_some() || tx.members(link.id)?.iter().any(has_it) {
        return Ok(());
    }
    tx.set_link_email(link.id, Some(&row.from))?;
    let base = Base { agreed_email: Some(row.from.clone()), ..base_of(&link)? };
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// What somebody made of the address in Brevo: the one that both agreed on, and the one that stands there.
fn changed_in_brevo(tx: &Tx<'_>, link: &LinkRow) -> Stored<Option<(Email, Email)>> {
    if link.state != LinkState::Active || link.rename_to.is_some() {
        return Ok(None);
    }
    let (Some(brevo), Some(agreed)) = (link.brevo_id, &link.email) else { return Ok(None) };
    let Some(shown) = tx.brevo_contact(brevo)?.and_then(|contact| contact.email) else { return Ok(None) };
    let base = base_of(link)?;
    let both_agreed = [&base.email, &base.agreed_email].contains(&&Some(agreed.clone()));
    let changed = both_agreed && shown != *agreed && base.declined_email.as_ref() != Some(&shown);
    Ok(changed.then(|| (agreed.clone(), shown)))
}

/// A person whose contact is to take an address that they were given in Intercom, and that somebody gives a third one in
/// Brevo before it has it: both sides have changed it. The link as it is then, and whether that cannot be told yet.
fn cross(tx: &Tx<'_>, link: LinkRow, live: &[&IntercomRow], ready: &Ready) -> Stored<(LinkRow, bool)> {
    let (Some(new), Some(brevo)) = (link.rename_to.clone(), link.brevo_id) else { return Ok((link, false)) };
    if is_busy(&link) || link.email.as_ref() != Some(&new) {
        return Ok((link, false));
    }
    let base = base_of(&link)?;
    let Some(contact) = tx.brevo_contact(brevo)? else { return Ok((link, false)) };
    let (Some(agreed), Some(shown)) = (&base.email, &contact.email) else { return Ok((link, false)) };
    if [agreed, &new].contains(&shown) || base.declined_email.as_ref() == Some(shown) {
        return Ok((link, false));
    }
    if may_show_ours(&link)? {
        return Ok((link, true));
    }
    let own: Vec<&IntercomContactId> = live.iter().map(|row| &row.contact.id).collect();
    if weigh(tx, &link, (&new, shown), &own, ready.addresses, contact.modified_at)? == SideName::Brevo {
        tx.set_rename(link.id, None)?;
        take(tx, &link, (&new, shown), live.iter().copied())?;
    }
    Ok((tx.link(link.id)?.unwrap_or(link), false))
}

/// Follows an address that was changed in Brevo alone: the link as it is then, and whether somebody or something else comes
/// first. Then nothing but an opt-out is written for the person, which waits for nothing.
pub(super) fn follow(tx: &Tx<'_>, link: LinkRow, live: &[&IntercomRow], ready: &Ready) -> Stored<(LinkRow, bool)> {
    if ready.addresses.direction == Direction::IntercomToBrevo || !ready.updates.intercom {
        return Ok((link, false));
    }
    if link.rename_to.is_some() {
        return cross(tx, link, live, ready);
    }
    let Some((from, to)) = changed_in_brevo(tx, &link)? else {
        forget_refusal(tx, &link, live)?;
        return Ok((link, false));
    };
    if !live.iter().any(|row| row.contact.email.as_ref() == Some(&from)) {
        return Ok((link, false));
    }
    if may_show_ours(&link)? {
        return Ok((link, true));
    }
    match ahead(tx, &link, &to)? {
        Ahead::Nobody => take(tx, &link, (&from, &to), live.iter().copied())?,
        Ahead::Circle(others) => {
            for other in &others {
                if may_show_ours(other)? {
                    return Ok((link, true));
                }
            }
            // One exchange at a time: each finds another of them the contact that shows their address.
            for other in others {
                let Some(own) = tx.link(link.id)? else { continue };
                swap(tx, &own, &other, ready)?;
                tx.mark_dirty(other.id, Dirty::Live)?;
            }
        }
        Ahead::Leaves(next) => {
            // Chains run from the free end. (Marked once: that also ends a wait.)
            if next.dirty < Dirty::Live {
                tx.mark_dirty(next.id, Dirty::Live)?;
            }
            return Ok((link, true));
        }
        Ahead::Stays(whose) => {
            let words = format!("its Brevo contact was given an address that {whose}: it stays as it is");
            return Ok((refuse(tx, link, from, &words)?, false));
        }
    }
    Ok((tx.link(link.id)?.unwrap_or(link), false))
}

/// Who has an address that somebody is to take.
enum Ahead {
    Nobody,
    /// Somebody who is about to leave it.
    Leaves(Box<LinkRow>),
    /// People whose Brevo contacts were given one another's addresses, in that order, with whoever is to take it as the last.
    Circle(Vec<LinkRow>),
    /// Somebody who is not: in words.
    Stays(String),
}

fn ahead(tx: &Tx<'_>, link: &LinkRow, wanted: &Email) -> Stored<Ahead> {
    const LONGEST: usize = 100;
    let (mut chain, mut wanted) = (Vec::<LinkRow>::new(), wanted.clone());
    // Whether each in the chain can go where they are to go, should it not be a circle.
    let mut stuck = None;
    loop {
        let last = chain.last().map_or(link.id, |last| last.id);
        let Some(held) = tx.link_by_email(&wanted)? else {
            for id in tx.intercom_ids_by_email(&wanted)? {
                let row = tx.intercom_contact(&id)?;
                if row.is_some_and(|row| row.state == ContactState::Live && row.link != Some(last)) {
                    if let Some(leaving) = tx.readdress(&id)?.filter(|row| row.from == wanted)
                        && let Some(holder) = tx.link(leaving.link)?
                    {
                        // It is about to take another.
                        return Ok(Ahead::Leaves(Box::new(holder)));
                    }
                    return Ok(Ahead::Stays(format!("contact {id} has")));
                }
            }
            break;
        };
        if held.id == link.id {
            return Ok(Ahead::Circle(chain));
        }
        if chain.iter().any(|known| known.id == held.id) {
            // They are a circle of their own, and that is undone first.
            break;
        }
        let changed = changed_in_brevo(tx, &held)?.filter(|_| chain.len() < LONGEST);
        let Some((from, to)) = changed else { return Ok(Ahead::Stays(format!("is that of link {}", held.id))) };
        let has = |row: &IntercomRow| row.state == ContactState::Live && row.contact.email.as_ref() == Some(&from);
        if !tx.members(held.id)?.iter().any(has) {
            // Nobody is there to take another.
            stuck = stuck.or(Some(held.id));
        }
        wanted = to;
        chain.push(held);
    }
    Ok(match (stuck, chain.into_iter().next()) {
        (Some(stuck), _) => Ahead::Stays(format!("is that of link {stuck}, or waits for it")),
        (None, Some(next)) => Ahead::Leaves(Box::new(next)),
        (None, None) => Ahead::Nobody,
    })
}

/// What is on its way, or waits for its answer, is about the contact as it was.
fn is_busy(link: &LinkRow) -> bool {
    link.import.is_some() || (link.flights.is_some() && !link.answered)
}

/// What its contact shows may be a late write of ours. (That an opt-out may have been lifted is known for longer than that:
/// until the next plan, which must not wait for itself.)
fn may_show_ours(link: &LinkRow) -> Stored<bool> {
    Ok(is_busy(link) || (!link.is_at_rest() && flights_of(link)?.may_loosen))
}

/// It is listed, and nobody is renamed until that is possible.
fn refuse(tx: &Tx<'_>, link: LinkRow, agreed: Email, words: &str) -> Stored<LinkRow> {
    let shown = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten();
    let since = shown.map_or_else(DateTime::<Utc>::default, |shown| shown.modified_at);
    tx.put_notice("identity_conflict", &subject_of(tx, &link)?, Some(words), since)?;
    let base = base_of(&link)?;
    if base.agreed_email.as_ref() == Some(&agreed) {
        return Ok(link);
    }
    tx.set_base(link.id, &pack_base(tx, &Base { agreed_email: Some(agreed), ..base })?)?;
    Ok(tx.link(link.id)?.unwrap_or(link))
}

/// The contact shows the address again that both had agreed on: what had been made of it is refused no more.
fn forget_refusal(tx: &Tx<'_>, link: &LinkRow, live: &[&IntercomRow]) -> Stored<()> {
    let base = base_of(link)?;
    if base.agreed_email.is_none() || base.agreed_email != link.email {
        return Ok(());
    }
    let shown = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten();
    if shown.is_none_or(|shown| shown.email != link.email) {
        return Ok(());
    }
    tx.clear_notice("identity_conflict", &subject_of(tx, link)?)?;
    live.iter().try_for_each(|row| tx.clear_failure(&format!("contact {}", row.contact.id), FIELD))
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
        let (mut base, mut flights) = (base_of(&now)?, flights_of(&now)?);
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
            // It is what Brevo gives, whoever had written it there: a read that settles that would count it as agreed on.
            flights.fields.remove(&rule.key);
        }
        // Where a tag follows its list, that of the new partner's contact is news to whoever has the tag.
        for (_, list) in ready.lists.iter().filter(|(rule, _)| rule.direction != Direction::IntercomToBrevo) {
            match own.lists.get(list) {
                Some(agreed) => drop(base.lists.insert(*list, *agreed)),
                None => drop(base.lists.remove(list)),
            }
        }
        // Each shows the address of the one whose it is by now.
        base.email.clone_from(&link.email);
        // And a no that it had shown the other address has lifted: that is nobody's yes.
        flights.may_loosen |= base.consent.is_some_and(|consent| consent.brevo_out);
        let watched = Some(&flights).filter(|flights| !flights.is_empty());
        settle_as(tx, link.id, &base, watched)?;
        if watched.is_some() && now.flights.is_some() {
            // Until when, as before.
            tx.watch_like(link.id, &now)?;
        }
        tx.clear_notice("identity_conflict", &subject_of(tx, link)?)?;
    }
    Ok(())
}

/// The address was changed on both sides: whether Brevo's stands, and the contact is to take it. `Some(false)`: Intercom's
/// stands, or nobody has changed it in Brevo. `None`: that cannot be told yet.
pub(super) fn brevo_wins(
    tx: &Tx<'_>,
    row: &IntercomRow,
    link: &LinkRow,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Stored<Option<bool>> {
    let defaults = settings.addresses;
    if defaults.direction == Direction::IntercomToBrevo || !settings.updates.intercom {
        keep_replaced(tx, row, link, now)?;
        return Ok(Some(false));
    }
    let Some((_, shown)) = changed_in_brevo(tx, link)? else { return Ok(Some(false)) };
    let Some(own) = row.contact.email.clone().filter(|own| *own != shown) else { return Ok(Some(false)) };
    if may_show_ours(link)? {
        return Ok(None);
    }
    if weigh(tx, link, (&own, &shown), &[&row.contact.id], defaults, now)? == SideName::Intercom {
        return Ok(Some(false));
    }
    take(tx, link, (&own, &shown), std::iter::once(row))?;
    Ok(Some(true))
}

/// Intercom alone gives the address. What somebody had made of it in Brevo is about to be replaced, and can be looked up.
fn keep_replaced(tx: &Tx<'_>, row: &IntercomRow, link: &LinkRow, now: DateTime<Utc>) -> Stored<()> {
    let (Some(own), Some(brevo)) = (&row.contact.email, link.brevo_id) else { return Ok(()) };
    if is_busy(link) || link.rename_to.is_some() {
        // It may show an address that it is still to lose.
        return Ok(());
    }
    let Some(contact) = tx.brevo_contact(brevo)? else { return Ok(()) };
    let theirs = contact.email.as_ref().filter(|shown| *shown != own && Some(*shown) != link.email.as_ref());
    let Some(shown) = theirs else { return Ok(()) };
    if flights_of(link)?.renamed_late(&contact) {
        return Ok(());
    }
    let rule = "changed in Brevo, where it is not to be changed: Intercom's stands";
    put_conflicts(tx, link.id, [&lost_address((shown, own), SideName::Brevo, rule)], None, now)
}

/// An address that another takes the place of.
fn lost_address((lost, kept): (&Email, &Email), side: SideName, rule: &str) -> LostValue {
    let cells = |email: &Email| vec![Some(Value::Text(email.as_str().to_owned()))];
    LostValue { field: FIELD.to_owned(), side, lost: cells(lost), kept: cells(kept), rule: rule.to_owned() }
}

/// Whose address stands, Intercom's (`own`) or the one that Brevo shows. The other is kept in the conflict log.
fn weigh(
    tx: &Tx<'_>,
    link: &LinkRow,
    (own, shown): (&Email, &Email),
    contacts: &[&IntercomContactId],
    defaults: Defaults,
    now: DateTime<Utc>,
) -> Stored<SideName> {
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
    let mut taken = tx.link_by_email(shown)?.is_some();
    for id in tx.intercom_ids_by_email(shown)?.iter().filter(|id| !contacts.contains(id)) {
        // Who was merged or is gone keeps nobody from having it.
        taken |= tx.intercom_contact(id)?.is_some_and(|row| row.state == ContactState::Live);
    }
    let wins = if taken { SideName::Intercom } else { wins };
    let lost = if wins == SideName::Brevo { (own, shown) } else { (shown, own) };
    put_conflicts(tx, link.id, [&lost_address(lost, wins.other(), rule)], None, now)?;
    if wins == SideName::Intercom {
        // Decided once.
        let base = Base { declined_email: Some(shown.clone()), ..base_of(link)? };
        tx.set_base(link.id, &pack_base(tx, &base)?)?;
    }
    Ok(wins)
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
            let tries = row.tries;
            return self.readdress_later(row, BUSY, tries).await;
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
                    let shown = tx.intercom_contact(&contact)?.and_then(|known| known.contact.email);
                    fall(tx, &row, shown.as_ref())?;
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
                        if let Some(next) = tx.brevo_contact_by_email(&row.from)?
                            && let Some(next) = tx.link_by_brevo(next.id)?
                        {
                            // Whoever waits for the address that is free now.
                            tx.mark_dirty(next.id, Dirty::Live)?;
                        }
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

    async fn readdress_later(&self, row: Readdress, wait: TimeDelta, tries: u32) -> Result<Pushed, EngineError> {
        let due = self.now() + wait;
        self.store
            .write(move |tx| match tx.readdress(&row.contact)? {
                Some(row) => tx.put_readdress(&Readdress { due, tries, ..row }),
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
                let tries = row.tries;
                self.readdress_later(row, AFTER_NOT_LET_IN, tries).await?;
                return Err(EngineError::Side(Box::new(error.clone())));
            }
            ErrorKind::Rejected { .. } | ErrorKind::Conflict { .. } => true,
            _ => false,
        };
        // Nothing was done, and it says nothing about this contact: an outage is no refusal.
        let passes = matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Busy);
        if passes || (!refused && tries < MOST_TRIES) {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(LATER).max(LATER);
            let tries = if passes { row.tries } else { tries };
            return self.readdress_later(row, wait, tries).await;
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
                    let (agreed_email, declined_email) = (Some(row.from.clone()), Some(row.to.clone()));
                    let base = Base { email: Some(row.to), agreed_email, declined_email, ..base_of(&link)? };
                    tx.set_base(link.id, &pack_base(tx, &base)?)?;
                }
                tx.mark_dirty(link.id, Dirty::Live)
            })
            .await?;
        Ok(Pushed { failed: 1, ..Pushed::default() })
    }
}
