//! Writes of unknown outcome: nothing more is written for their people until a read that began after the time in which
//! the request could still land shows what became of it.

use super::answers::{hold_apart, rename_if_moved};
use super::cycle::passes;
use super::inbox::is_refusal;
use super::observe::{Source, base_of, flights_of, put_conflicts, settle_now};
use super::place::who_has_its_address;
use super::read_back::{began, sent_address};
use super::safety::give_back;
use super::{BATCH, Connection, EngineError, LATE_LANDING, Ready};
use crate::model::{
    BrevoContact, BrevoContactId, ContactKey, Email, Fetched, Observation, OptOutReason, Priority, Resource, Scope,
    SideName, Value, phone_digits,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::harm::Kind;
use crate::reconcile::person::{self, Base, Flights};
use crate::store::hints::BrevoOptOut;
use crate::store::links::{Dirty, LinkRow};
use crate::store::newcomers::Stage;
use crate::store::queues::ImportRowState;
use crate::store::write_backs::{LONG_UNSEEN, SETTLES_NOW};
use crate::store::{Record, Result as Stored, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;

/// What is shown for the first time and is older than this was made by none of the requests that are waited for.
const LATELY: TimeDelta = TimeDelta::days(1);
/// Contacts read in one turn of which no poll has shown anything for long: nobody waits for them.
const MOST_UNSEEN: usize = 20;
/// Failed reads in a row after which it is taken for Brevo's trouble, not the contacts'.
const FAILED_IN_A_ROW: u32 = 3;

impl Connection {
    /// Until when a request that times out now may still land.
    pub(super) fn late_landing(&self) -> DateTime<Utc> {
        self.now() + TimeDelta::from_std(LATE_LANDING).unwrap_or_default()
    }

    /// Reads what writes of unknown outcome have left behind, once they cannot land any more.
    pub(super) async fn verify_unanswered(&self, priority: Priority) -> Result<u64, EngineError> {
        let ready = self.require_ready()?;
        let (mut verified, mut in_a_row) = (0, 0);
        let mut after = 0;
        loop {
            let now = self.now();
            let ids = self.store.read(move |tx| tx.verifiable(false, now, after, BATCH)).await?;
            let Some(last) = ids.last() else { break };
            after = *last;
            for id in ids {
                // A write that is still waiting for its turn is not of unknown outcome yet. One at a time: an opt-out of the
                // others does not wait for these reads.
                let claim = self.claim([id]);
                if claim.claimed.is_empty() {
                    continue;
                }
                match self.verify_one(id, priority, &ready).await {
                    Ok(()) => (verified, in_a_row) = (verified + 1, 0),
                    Err(EngineError::Store(error)) => self.spare::<()>(Err(error.into())).await.map(drop)?,
                    // An address that Brevo will not even look for has not landed.
                    Err(error) if is_refusal(&error) => {
                        tracing::warn!(link = id, "a write of unknown outcome cannot be verified: {}", error.for_log());
                        self.store
                            .write(move |tx| {
                                tx.drop_intent(id, None, true)?;
                                tx.mark_dirty(id, Dirty::Live)
                            })
                            .await?;
                    }
                    // One that cannot be read for now holds up nobody else: it is tried again with the next look.
                    Err(error) if passes(&error) && in_a_row + 1 < FAILED_IN_A_ROW => {
                        in_a_row += 1;
                        tracing::debug!(link = id, "a write cannot be verified now: {}", error.for_log());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Box::pin(self.verify_unseen(priority, &ready)).await?;
        Ok(verified)
    }

    /// Reads what answered writes have left behind where nothing has shown that. A poll shows it, so that a read of its own is
    /// worth it only where somebody may have given something since, which waits for it, and where no poll has come for long.
    async fn verify_unseen(&self, priority: Priority, ready: &Arc<Ready>) -> Result<(), EngineError> {
        let (now, ready) = (self.now(), Arc::clone(ready));
        let unseen = self
            .store
            .read(move |tx| {
                let long = tx.unsettled(DateTime::<Utc>::default(), now - LONG_UNSEEN, MOST_UNSEEN)?;
                let long = long.into_iter().map(|id| (id, false));
                let lately = tx.unsettled(now - SETTLES_NOW, now, BATCH)?.into_iter().map(|id| (id, true));
                let mut unseen = Vec::new();
                for (id, in_doubt) in long.chain(lately) {
                    let contact = match to_look_at(tx, id, in_doubt, &ready) {
                        Err(error) if error.unreadable().is_some() => None,
                        contact => contact?,
                    };
                    if contact.is_some() || !in_doubt {
                        unseen.push((id, contact));
                    }
                }
                Ok(unseen)
            })
            .await?;
        for (id, contact) in unseen {
            self.go_on()?;
            if self.is_held(SideName::Brevo) {
                break;
            }
            let read = match contact {
                Some(contact) => self.confirm(ContactKey::Brevo(contact), priority).await,
                None => Ok(false),
            };
            // Whatever became of it: others come first.
            let later = self.now() - SETTLES_NOW;
            self.store.write(move |tx| tx.look_later(id, later)).await?;
            match read {
                // It is tried again; whoever else reads Brevo tells what is wrong.
                Err(EngineError::Side(error)) => {
                    tracing::debug!(link = id, "what was written cannot be verified now: {}", error.for_log());
                    break;
                }
                read => self.spare(read).await.map(drop)?,
            }
        }
        Ok(())
    }

    async fn verify_one(&self, id: i64, priority: Priority, ready: &Arc<Ready>) -> Result<(), EngineError> {
        let read_began = self.now();
        let Some((link, key, made_out, given)) = self
            .store
            .write(move |tx| {
                // Since it was found it may have been settled, and something else have left.
                let waits = |link: &LinkRow| link.import.is_none() && !link.answered;
                let due = |link: &LinkRow| waits(link) && link.verify_after.is_some_and(|after| after <= read_began);
                let Some(link) = tx.link(id)?.filter(due) else { return Ok(None) };
                let Some(flights) = &link.flights else { return Ok(None) };
                let flights: Flights =
                    flights.unpack("links.flights").map_err(|error: StoreError| error.of(Record::Link(id)))?;
                // The address that the create was sent with: the person may have another by now.
                let key = match (link.brevo_id, flights.email.as_ref().or(link.email.as_ref())) {
                    (Some(brevo), _) => ContactKey::Brevo(brevo),
                    (None, Some(email)) => ContactKey::BrevoEmail(email.clone()),
                    (None, None) => {
                        let Some(phone) = phone_of(&flights) else {
                            tx.drop_intent(id, None, true)?;
                            return Ok(None);
                        };
                        ContactKey::BrevoPhone(phone)
                    }
                };
                let made_out = link.brevo_id.is_none() && flights.opted_out;
                let by_address = link.brevo_id.is_none() && flights.email.is_some();
                let given = if by_address { id_to_give(tx, &link)? } else { None };
                Ok(Some((link, key, made_out, given)))
            })
            .await?
        else {
            return Ok(());
        };
        let mut found = self.brevo.fetch(&key, priority).await?;
        if made_out
            && matches!(found, Fetched::Gone(_))
            && let scope @ Scope::Since(_) = self.next_scope(SideName::Brevo, Resource::Contacts, false).await?
        {
            // It may have been made all the same, and been given another address since, which has lifted the opt-out: that is
            // looked for as long as it is known what the request was to set (`note_lifted_unseen`).
            Box::pin(self.sweep_afresh(SideName::Brevo, Resource::Contacts, scope, priority)).await?;
        }
        let given = given.filter(|_| matches!(found, Fetched::Gone(_)));
        if let Some(ext_id) = given
            && let Some(made) = self.made_and_readdressed(id, ext_id, priority, ready).await?
        {
            found = made;
        }
        let (source, ready) = (self.source(0, true, read_began, Dirty::Live)?, Arc::clone(ready));
        self.store
            .write(move |tx| {
                // The claim keeps other writes away, not identity: meanwhile it may have given the person another contact,
                // of which this read says nothing.
                let before = link.brevo_id;
                let Some(link) = tx.link(link.id)? else { return Ok(()) };
                if link.brevo_id != before {
                    return tx.mark_dirty(link.id, Dirty::Live);
                }
                match &found {
                    Fetched::Found(observation, _) => {
                        source.apply(tx, observation)?;
                        if let (None, Observation::BrevoContact(contact)) = (link.brevo_id, &**observation) {
                            let holder = match tx.link_by_brevo(contact.id)? {
                                // Of somebody without an address: one that shows another person's was not made by this
                                // request, though it has the number.
                                None if flights_of(&link)?.email.is_none() => who_has_its_address(tx, contact)?,
                                holder => holder,
                            };
                            if let Some(holder) = holder.filter(|holder| holder.id != link.id) {
                                if link.email != contact.email {
                                    // It is of whoever has come to the address since: this one has another.
                                    tx.drop_intent(link.id, None, true)?;
                                    return tx.mark_dirty(link.id, Dirty::Live);
                                }
                                return hold_apart(tx, link.id, holder.id, source.now);
                            }
                            // Our create did land: it is the person's contact, and what it shows is judged.
                            tx.set_brevo(link.id, Some(contact.id))?;
                            // What somebody else gave it is an edit in Brevo, and nobody has moved in Intercom.
                            let made_with = flights_of(&link)?.email.or_else(|| contact.email.clone());
                            if link.email != contact.email {
                                rename_if_moved(tx, link.id, made_with.as_ref())?;
                            }
                            if let Some(link) = tx.link(link.id)?
                                && let Some(flights) = &link.flights
                            {
                                let flights: Flights = flights.unpack("links.flights")?;
                                let mut base = agreed_by_making(tx, base_of(&link)?, &flights, contact, &ready)?;
                                if made_with != contact.email {
                                    // So is what Brevo has lifted with the one that it was made with.
                                    base.email = made_with;
                                }
                                settle_now(tx, &link, (&base, &flights), false, contact, &ready, source.now)?;
                            }
                        }
                    }
                    Fetched::Gone(_) => {
                        if let Some(gone) = link.brevo_id {
                            // As whoever finds it gone: that may be our doing, and may lead to something in Intercom.
                            source.apply(tx, &Observation::BrevoContactGone(gone))?;
                        } else {
                            give_back(tx, Kind::Creates, 1, source.now)?;
                            tx.drop_intent(link.id, None, true)?;
                        }
                    }
                }
                tx.mark_dirty(link.id, Dirty::Live)
            })
            .await?;
        Ok(())
    }

    /// What a request without an answer has made, if nobody has the address with which it left: somebody may have given the
    /// contact another since, and by the person's external id it is found all the same. `None`: there is none.
    async fn made_and_readdressed(
        &self,
        link: i64,
        ext_id: String,
        priority: Priority,
        ready: &Arc<Ready>,
    ) -> Result<Option<Fetched>, EngineError> {
        let found = match self.brevo.fetch(&ContactKey::BrevoExtId(ext_id), priority).await {
            Ok(found) => found,
            Err(error) => {
                let error = EngineError::Side(error);
                // One that Brevo will not even look for it has given to nobody.
                return if is_refusal(&error) { Ok(None) } else { Err(error) };
            }
        };
        let Fetched::Found(observation, _) = &found else { return Ok(None) };
        let Observation::BrevoContact(contact) = &**observation else { return Ok(None) };
        let (contact, ready, now) = (contact.clone(), Arc::clone(ready), self.now());
        let made = self
            .store
            .read(move |tx| match tx.link(link)? {
                Some(link) => has_made(tx, &link, &contact, &ready, now),
                None => Ok(false),
            })
            .await?;
        Ok(made.then_some(found))
    }
}

/// The external id that a request was to give to the contact that it makes for a person.
fn id_to_give(tx: &Tx<'_>, link: &LinkRow) -> Stored<Option<String>> {
    if link.quarantined.contains_key("external_id") {
        return Ok(None);
    }
    let members = match tx.members(link.id) {
        Err(error) if error.unreadable().is_some() => return Ok(None),
        members => members?,
    };
    Ok(members.into_iter().find(|member| member.is_primary).and_then(|primary| primary.contact.external_id))
}

/// Whether a contact with the person's external id is what their request has made, under another address by now: it is new, and
/// shows something of what that was to set; and it is nobody's. Nobody is about to be made for it, or was left with another in
/// its place; and if somebody comes with the address that it shows, it is theirs.
fn has_made(tx: &Tx<'_>, link: &LinkRow, contact: &BrevoContact, ready: &Ready, now: DateTime<Utc>) -> Stored<bool> {
    let flights = match flights_of(link) {
        Err(error) if error.unreadable().is_some() => return Ok(false),
        flights => flights?,
    };
    if contact.created_at < now - LATELY || person::shows_nothing_of(&flights, contact, &ready.mapping) {
        return Ok(false);
    }
    let is_free = |stage: Stage| matches!(stage, Stage::Waiting | Stage::Listed);
    if tx.link_by_brevo(contact.id)?.is_some()
        || tx.newcomer(contact.id)?.is_some_and(|newcomer| !is_free(newcomer.stage))
    {
        return Ok(false);
    }
    Ok(who_has_its_address(tx, contact)?.is_none_or(|theirs| theirs.id == link.id))
}

/// What is agreed on with a contact that a request without an answer has made: of consent the same as if it had been
/// answered. It was made subscribed, since nobody of the address had said no by then. So whoever says no on either side
/// has said so since: that is news to the other, and nothing that both had when they met.
///
/// Not where the request carried a no, nor where a row made the contact, which may have; and a no that waits for whoever
/// is found under the address has to find that nothing was agreed on.
fn agreed_by_making(
    tx: &Tx<'_>,
    mut base: Base,
    flights: &Flights,
    contact: &BrevoContact,
    ready: &Ready,
) -> Stored<Base> {
    if flights.opted_out || contact.lists.contains(&ready.technical_list) {
        return Ok(base);
    }
    // As it is kept: a notice may count that is newer than this read.
    let is_out = tx.brevo_contact(contact.id)?.is_some_and(|kept| kept.consent.email_opted_out());
    let facts = tx.brevo_opt_outs(Some(contact.id), contact.email.as_ref())?;
    if is_out || facts.iter().all(|fact| fact.over_at.is_some()) {
        base.consent.get_or_insert(ConsentBase::NEITHER);
    }
    Ok(base)
}

/// The contact that an answered write was for, if it is to be read; `in_doubt`: only if what is known of it is in doubt.
fn to_look_at(tx: &Tx<'_>, id: i64, in_doubt: bool, ready: &Ready) -> Stored<Option<BrevoContactId>> {
    let Some(link) = tx.link(id)? else { return Ok(None) };
    let Some(brevo) = link.brevo_id else { return Ok(None) };
    if !in_doubt {
        return Ok(Some(brevo));
    }
    let Some(known) = tx.brevo_contact(brevo)? else { return Ok(None) };
    let (flights, shown) = (flights_of(&link)?, &known.attributes);
    let doubtful = person::is_in_doubt(&flights, SideName::Brevo, &ready.mapping, |rule| rule.observed(shown));
    Ok(doubtful.then_some(brevo))
}

/// What somebody gave in Brevo after a write of ours had left is replaced by that, which has landed late: it can be looked up.
pub(super) fn note_overrun(
    tx: &Tx<'_>,
    link: &LinkRow,
    known: Option<&BrevoContact>,
    contact: &BrevoContact,
    source: &Source,
) -> Stored<()> {
    let Some(known) = known.filter(|known| known.attributes != contact.attributes) else { return Ok(()) };
    let flights = match flights_of(link) {
        Err(error) if error.unreadable().is_some() => return Ok(()),
        flights => flights?,
    };
    let (before, now) = (&known.attributes, &contact.attributes);
    let mapping = &source.ready.mapping;
    let lost = person::overrun(
        &flights,
        SideName::Brevo,
        mapping,
        |rule| person::with_nos(rule, before),
        |rule| rule.observed(now),
    );
    put_conflicts(tx, link.id, &lost, None, source.now)
}

/// Nobody's contact that is shown for the first time may be what a request made whose answer was lost, and have been given
/// another address since. If the request had made it opted out, the changed address has lifted that, and nobody has said
/// yes: it is remembered for whoever the contact becomes. It is known by all else that the request set. (Of what a row of an
/// import has made, `may_be_of_a_row` decides.)
///
/// One that is as another request was to make it is that one's, though many set the same: its answer may be here, and not
/// recorded yet.
pub(super) fn note_lifted_unseen(tx: &Tx<'_>, contact: &BrevoContact, source: &Source) -> Stored<()> {
    if contact.consent.email_opted_out() {
        return Ok(());
    }
    let lifted = BrevoOptOut::lifted(contact.id, OptOutReason::Blocklisted, contact.modified_at);
    // Nothing but a row puts anybody on the technical list.
    if contact.lists.contains(&source.ready.technical_list) {
        return if may_be_of_a_row(tx, contact, &source.ready)? { tx.put_brevo_opt_out(&lifted) } else { Ok(()) };
    }
    if contact.created_at < source.now - LATELY {
        return Ok(());
    }
    let mut waited = Vec::new();
    for id in tx.verifiable(false, source.now + LATELY, 0, BATCH)? {
        let Some(link) = tx.link(id)?.filter(|link| link.brevo_id.is_none()) else { continue };
        match flights_of(&link) {
            Err(error) if error.unreadable().is_some() => {}
            flights => waited.push((link, flights?)),
        }
    }
    if !waited.iter().any(|(_, flights)| flights.opted_out) {
        return Ok(());
    }
    let expected = is_expected(tx, contact, &waited, source.now)?;
    for (link, flights) in waited {
        if !flights.opted_out || flights.email == contact.email || !may_be_of(tx, contact, &link, expected)? {
            continue;
        }
        let rest = Flights { opted_out: false, may_loosen: false, ..flights };
        let tells = !rest.fields.is_empty() || !rest.lists.is_empty();
        // With the customer's own id it is theirs, whatever has been edited besides.
        if contact.ext_id.is_some() || (tells && person::landed_as_sent(&rest, contact, &source.ready.mapping)) {
            return tx.put_brevo_opt_out(&lifted);
        }
    }
    Ok(())
}

/// What a row of an import was to set, but for consent, and under which address.
struct SentRow {
    sent: Flights,
    opted_out: bool,
    email: Option<Email>,
}

impl SentRow {
    /// `None`: it cannot be read, which is no proof of anything.
    fn of(link: &LinkRow) -> Stored<Option<Self>> {
        let read = || -> Stored<Self> {
            let flights = flights_of(link)?;
            let email = match &flights.email {
                Some(email) => Some(email.clone()),
                None => sent_address(link, &base_of(link)?),
            };
            let opted_out = flights.opted_out;
            Ok(Self { sent: Flights { opted_out: false, may_loosen: false, ..flights }, opted_out, email })
        };
        match read() {
            Err(error) if error.unreadable().is_some() => Ok(None),
            row => row.map(Some),
        }
    }

    /// It was sent with the address that the contact shows.
    fn is_of_its_address(&self, contact: &BrevoContact) -> bool {
        self.email.is_some() && self.email == contact.email
    }

    /// The contact shows something of what it was to set.
    fn is_seen_in(&self, contact: &BrevoContact, ready: &Ready) -> bool {
        !person::shows_nothing_of(&self.sent, contact, &ready.mapping)
    }

    /// The contact shows just what it was to set, and nothing else that is mapped.
    fn is_just(&self, contact: &BrevoContact, ready: &Ready) -> bool {
        let is_unset = |cell: &Option<Value>| matches!(cell, None | Some(Value::Boolean(false)));
        person::landed_as_sent(&self.sent, contact, &ready.mapping)
            && ready.mapping.rules.iter().all(|rule| {
                self.sent.fields.contains_key(&rule.key) || rule.observed(&contact.attributes).iter().all(is_unset)
            })
    }
}

/// Whether a contact on the technical list that is shown for the first time, and as subscribed, may be what a row has made
/// opted out that is not read back yet. If no row was sent with the address that it shows, somebody has given it that, and any
/// row may have made it that is no younger, whatever has been edited besides. If one of those was to make somebody opted out,
/// it counts as that one's, unless it shows just what another row was to set, and not what this one was: a no too many can be
/// taken back, and one that is lost cannot.
fn may_be_of_a_row(tx: &Tx<'_>, contact: &BrevoContact, ready: &Ready) -> Stored<bool> {
    let known = contact.email.as_ref().map(|email| tx.link_by_email(email)).transpose()?.flatten();
    // Asked first: most are what the row of their address has made.
    if let Some(link) = known.filter(|link| link.import.is_some())
        && SentRow::of(&link)?.is_some_and(|row| row.is_of_its_address(contact) && row.is_seen_in(contact, ready))
    {
        return Ok(false);
    }
    if let Some(email) = &contact.email
        && !tx.whose_late_address(email)?.is_empty()
    {
        return Ok(false);
    }
    let may_have_made = |import: &ImportRowState| import.creates && contact.created_at >= began(import);
    let open = tx.open_imports()?;
    if !open.iter().any(may_have_made) {
        return Ok(false);
    }
    let (mut may_be, mut just_so, mut just_another) = (false, false, false);
    for import in &open {
        let may_have_made = may_have_made(import);
        let mut after = 0;
        loop {
            let links = tx.links_of_import(import.id, after, BATCH)?;
            let Some(last) = links.last() else { break };
            after = last.id;
            for link in &links {
                let Some(row) = SentRow::of(link)? else { continue };
                if row.is_of_its_address(contact) {
                    if row.is_seen_in(contact, ready) {
                        return Ok(false);
                    }
                    // Somebody else has made it, and this row has put it on the list.
                    just_another = true;
                } else if may_have_made && link.brevo_id.is_none() {
                    if row.opted_out {
                        let may_be_theirs = may_be_of(tx, contact, link, false)?;
                        if may_be_theirs && contact.ext_id.is_some() {
                            // With the customer's own id it is, whatever other rows were to set.
                            return Ok(true);
                        }
                        may_be |= may_be_theirs;
                        just_so |= may_be_theirs && row.is_just(contact, ready);
                    } else {
                        just_another |= row.is_just(contact, ready);
                    }
                }
            }
        }
    }
    Ok(may_be && (just_so || !just_another))
}

/// Whether a request that is waited for, or a row, was to make a contact with just this address, or this phone and none.
fn is_expected(tx: &Tx<'_>, contact: &BrevoContact, waited: &[(LinkRow, Flights)], now: DateTime<Utc>) -> Stored<bool> {
    let phone = contact.attributes.get("SMS").map(|phone| phone_digits(&phone.to_string()));
    let made_so = |flights: &Flights| match &flights.email {
        Some(email) => contact.email.as_ref() == Some(email),
        None => phone.is_some() && phone_of(flights) == phone,
    };
    if waited.iter().any(|(_, flights)| made_so(flights)) {
        return Ok(true);
    }
    let Some(email) = &contact.email else { return Ok(false) };
    let in_a_row = tx.link_by_email(email)?.is_some_and(|link| link.brevo_id.is_none() && link.import.is_some());
    Ok(in_a_row || tx.late_address_until(email, now)?.is_some())
}

/// Whether a contact may be what was made for the person, whatever address it shows: it has their external id; or none, if
/// they have none, or it could not be given to them. `for_sure`: only by that id.
pub(super) fn may_be_of(tx: &Tx<'_>, contact: &BrevoContact, link: &LinkRow, for_sure: bool) -> Stored<bool> {
    let members = match tx.members(link.id) {
        Err(error) if error.unreadable().is_some() => return Ok(false),
        members => members?,
    };
    if contact.ext_id.is_some() {
        return Ok(members.iter().any(|member| member.contact.external_id == contact.ext_id));
    }
    let primary = members.into_iter().find(|member| member.is_primary);
    let Some(id) = primary.and_then(|primary| primary.contact.external_id) else { return Ok(!for_sure) };
    let not_given = link.quarantined.contains_key("external_id") || tx.brevo_contact_by_ext_id(&id)?.is_some();
    Ok(!for_sure && not_given)
}

fn phone_of(flights: &Flights) -> Option<String> {
    flights.fields.iter().find(|(rule, _)| rule.ends_with("-> SMS")).and_then(|(_, writes)| {
        let phone = writes.brevo.as_ref()?.sent.first()?.as_ref()?.to_string();
        Some(phone_digits(&phone))
    })
}
