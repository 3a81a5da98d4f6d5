//! One observation → the views, the dirty marks and the events, in the transaction of the page or webhook that showed
//! it. It does not matter how we learned of a thing, how often, or in which order.

mod opt_outs;

pub(super) use self::opt_outs::{brevo_opt_out_counts, new_opt_out, no_was_told};
use self::opt_outs::{heed_brevo_opt_outs, keep_last_no, keep_opt_outs, note_lifted, remember_opt_out};
use super::unreadable::{self, replaceable};
use super::{Ready, Settings, carry, firms, partings, resubscribe, write_back};
use crate::model::{
    BrevoContact, Company, ContactKey, Conversation, Email, Gone, IntercomContact, IntercomContactId, Observation,
    SideName,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::identity::FirstLink;
use crate::reconcile::person::{self, Base, Flights, LostValue};
use crate::reconcile::transitions::{self, Transition};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::listings::{Conflict, NewFailure};
use crate::store::{Packed, Record, Result, StoreError, Tx};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an observation comes from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) settings: Arc<Settings>,
    pub(super) ready: Arc<Ready>,
    /// The full sweep that shows it, or 0.
    pub(super) sweep: i64,
    /// A read by id decides: of Intercom's, whatever its record time.
    pub(super) authoritative: bool,
    /// Our clock when the read began: only what began late enough settles our writes.
    pub(super) read_began: DateTime<Utc>,
    /// Our clock now.
    pub(super) now: DateTime<Utc>,
    /// How urgent what follows from it is.
    pub(super) dirty: Dirty,
    /// Brevo has been read whole: who a newcomer is can be decided at once.
    pub(super) place: bool,
}

/// What became of an observation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applied {
    pub(super) is_new: bool,
    /// A Brevo contact that is kept exactly as it was shown.
    pub(super) as_shown: bool,
    /// A Brevo contact that nobody was linked to.
    pub(super) is_nobodys: bool,
}

/// An event as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct QueuedEvent {
    pub(super) name: String,
    pub(super) happened_at: DateTime<Utc>,
    pub(super) properties: BTreeMap<String, serde_json::Value>,
}

impl Source {
    /// Applies the observations of a page. One of which something cannot be read (`None`) holds up no other.
    pub(super) fn apply_all(&self, tx: &Tx<'_>, page: &[Observation]) -> Result<Vec<Option<Applied>>> {
        unreadable::sparing_each(tx, self.now, page, |observation| match observation {
            Observation::BrevoContact(contact) => self.brevo_contact(tx, contact),
            other => Ok(Applied { is_new: self.apply(tx, other)?, as_shown: false, is_nobodys: false }),
        })
    }

    /// Applies one observation. `true` if it was new.
    pub(super) fn apply(&self, tx: &Tx<'_>, observation: &Observation) -> Result<bool> {
        match observation {
            Observation::IntercomContact(contact) => self.intercom_contact(tx, contact),
            Observation::IntercomContactGone(id, how) => intercom_contact_gone(tx, id, how, self.now),
            Observation::Company(company) => self.company(tx, company),
            Observation::CompanyGone(id) => {
                tx.set_company_gone(id)?;
                tx.set_firm_gone(id, true)?;
                Ok(tx.mark_company_dirty(id, self.dirty)? > 0)
            }
            Observation::Conversation(conversation) => self.conversation(tx, conversation),
            Observation::ConversationGone(id) => {
                let marked = tx.mark_conversation_dirty(id, self.dirty)?;
                tx.set_conversation_gone(id)?;
                Ok(marked > 0)
            }
            Observation::Tag(tag) => {
                let changed = tx.put_tag(tag)?;
                if changed && self.ready.uses_tags {
                    // Contacts show ids only: whoever carries it was planned without its name, or with the old one.
                    tx.mark_tag_dirty(&tag.id, self.dirty)?;
                }
                Ok(changed)
            }
            Observation::BrevoContact(contact) => Ok(self.brevo_contact(tx, contact)?.is_new),
            Observation::BrevoContactGone(id) => {
                let left = replaceable(tx, tx.brevo_contact(*id))?.0;
                tx.set_brevo_gone(*id)?;
                if let Some(left) = left.as_ref().and_then(|left| left.email.as_ref()) {
                    tx.address_is_free(left)?;
                }
                if let Some(link) = tx.link_by_brevo(*id)? {
                    let told = (&*self.settings, &*self.ready);
                    if !partings::left_brevo(tx, &link, left.as_ref(), told, self.now)? {
                        mark_brevo_gone(tx, &link, self.now)?;
                        self.follow_what_came(tx, link.id)?;
                    }
                }
                Ok(true)
            }
            Observation::BrevoCompany(company) => firms::brevo_company(self, tx, company),
            Observation::BrevoCompanyGone(id) => firms::brevo_company_gone(tx, id, self.now),
            Observation::BrevoList { id, name } => tx.put_list(*id, name).map(|()| false),
        }
    }

    fn intercom_contact(&self, tx: &Tx<'_>, seen: &IntercomContact) -> Result<bool> {
        let (known, unreadable) = replaceable(tx, tx.intercom_contact(&seen.id))?;
        if unreadable && !self.authoritative {
            // Whether it had been there, and whether this lags behind, cannot be told: a read by id does.
            tx.ask_for(&ContactKey::Intercom(seen.id.clone()))?;
        }
        let mut contact = Cow::Borrowed(seen);
        let link = known.as_ref().and_then(|known| known.link);
        keep_opt_outs(tx, link, &mut contact, self.now)?;
        if let Some(known) = &known {
            if known.state != ContactState::Live && !self.authoritative {
                // A late webhook or a lagging index may still show what is gone: a read by id tells.
                tx.touch_intercom_contact(&seen.id, self.sweep)?;
                tx.want_contact(&seen.id)?;
                return Ok(false);
            }
            let newer = known.contact.updated_at > seen.updated_at;
            if newer && !self.authoritative {
                tx.touch_intercom_contact(&seen.id, self.sweep)?;
                return Ok(false);
            }
            if known.contact.updated_at.timestamp() > seen.updated_at.timestamp() {
                // It was on its way when something newer came, and takes the place of that: the next read shows it again.
                tx.want_contact(&seen.id)?;
            }
            // Ten are embedded at most. What a fetch has completed holds until the record moves on.
            let unmoved = known.contact.updated_at == seen.updated_at && !self.authoritative;
            if !contact.tags.complete && known.contact.tags.complete && unmoved {
                contact.to_mut().tags = known.contact.tags.clone();
            } else if !contact.tags.complete {
                // What was not embedded may still be there: until it is fetched, nothing counts as taken away.
                contact.to_mut().tags.items.extend(known.contact.tags.items.iter().cloned());
            }
            if !contact.companies.complete && known.contact.companies.complete && unmoved {
                contact.to_mut().companies = known.contact.companies.clone();
            } else if !contact.companies.complete {
                contact.to_mut().companies.items.extend(known.contact.companies.items.iter().cloned());
            }
            if known.contact == *contact && known.state == ContactState::Live {
                tx.touch_intercom_contact(&seen.id, self.sweep)?;
                if !contact.tags.complete || !contact.companies.complete {
                    tx.set_wants(
                        &seen.id,
                        !contact.tags.complete && self.ready.uses_tags,
                        !contact.companies.complete && self.ready.uses_companies,
                    )?;
                }
                write_back::settle(tx, &contact, self)?;
                return Ok(false);
            }
        }
        let wants_tags = !contact.tags.complete && self.ready.uses_tags;
        let wants_companies = !contact.companies.complete && self.ready.uses_companies;
        let mut decision = FirstLink::Wait;
        if known.is_none() && !unreadable && self.place {
            decision = super::place::place_newcomer(tx, &contact, &self.settings)?;
        }
        // Who gets a link of their own is kept with it, all others before they are given one.
        let own = match decision {
            FirstLink::Create => Some(super::place::new_link(tx, &contact, None, self.dirty)?),
            FirstLink::LinkTo(brevo) => Some(super::place::new_link(tx, &contact, Some(brevo), self.dirty)?),
            _ => None,
        };
        match own {
            Some(link) => tx.put_newcomer(&contact, self.sweep, link)?,
            None => tx.put_intercom_contact(&contact, self.sweep)?,
        }
        if known.is_some() || unreadable || wants_tags || wants_companies {
            tx.set_wants(&contact.id, wants_tags, wants_companies)?;
        }
        if known.as_ref().is_some_and(|known| known.state != ContactState::Live) {
            tx.drop_last_no(&contact.id)?;
        }
        let (tags, companies) = (&contact.tags.items, &contact.companies.items);
        if known.as_ref().map_or(unreadable || !tags.is_empty(), |known| known.contact.tags.items != *tags) {
            tx.set_contact_tags(&contact.id, tags)?;
        }
        if known
            .as_ref()
            .map_or(unreadable || !companies.is_empty(), |known| known.contact.companies.items != *companies)
        {
            tx.set_contact_companies(&contact.id, companies)?;
        }

        let placed = known.as_ref().is_some_and(|known| {
            known.link.is_some()
                && known.state == ContactState::Live
                && known.contact.email == contact.email
                && known.contact.external_id == contact.external_id
                && known.contact.role == contact.role
                && !super::place::has_another_phone(&known.contact, &contact, &self.settings)
        });
        if own.is_some() || super::place::link_as(tx, &contact, decision, (self.dirty, true), self.now)? {
            if let FirstLink::LinkTo(brevo) = decision {
                super::create_back::may_be_gone(tx, brevo, &self.settings, self.now)?;
            }
            return Ok(true);
        }
        if !placed {
            tx.set_unplaced(&contact.id, self.dirty)?;
            super::place::plan_again_with_their_no(tx, &contact, self.dirty)?;
        }
        if let Some(link) = known.as_ref().and_then(|known| known.link) {
            let before = known.as_ref().map_or(&contact.consent, |known| &known.contact.consent);
            let before = carry::known_before(tx, &contact.id, link, (before, &contact.consent), self.read_began)?;
            if self.settings.resubscribes
                && let Some(known) = known.as_ref().filter(|known| known.contact.consent.email_opted_out())
                && !contact.consent.email_opted_out()
                && known.contact.email == contact.email
                // Who has another address than their person, or none any more, says nothing about it.
                && tx.link(link)?.is_some_and(|link| link.email == contact.email)
            {
                let times = (known.contact.updated_at, contact.updated_at);
                let by_notice = tx.opted_out_by_notice(&contact.id, known.contact.updated_at)?;
                let gone = &known.contact.consent.email_opt_outs;
                resubscribe::note(tx, link, SideName::Intercom, gone, by_notice, times, self.now)?;
            }
            let newly_out = new_opt_out(tx, link, &before, &contact.consent)?;
            if self.ready.weighs_times
                && known.as_ref().is_some_and(|known| known.is_primary)
                && let Some(link) = tx.link(link)?
            {
                write_back::note_change(tx, &link, SideName::Intercom, contact.updated_at, &self.ready)?;
            }
            tx.mark_dirty(link, if newly_out { Dirty::Consent } else { self.dirty })?;
        }
        write_back::note_overrun(tx, known.as_ref(), &contact, self)?;
        write_back::settle(tx, &contact, self)?;
        Ok(true)
    }

    fn company(&self, tx: &Tx<'_>, company: &Company) -> Result<bool> {
        let (known, unreadable) = replaceable(tx, tx.company(&company.id))?;
        if !self.authoritative && known.as_ref().is_some_and(|known| known.updated_at > company.updated_at) {
            return Ok(false);
        }
        let changed = tx.put_company(company)? || unreadable;
        if changed {
            tx.mark_company_dirty(&company.id, self.dirty)?;
        }
        firms::intercom_company(self, tx, company, changed)?;
        Ok(changed)
    }

    fn conversation(&self, tx: &Tx<'_>, conversation: &Conversation) -> Result<bool> {
        let (known, _) = replaceable(tx, tx.conversation(&conversation.id))?;
        if known.as_ref() == Some(conversation) {
            return Ok(false);
        }
        self.queue_events(tx, known.as_ref(), conversation)?;
        // State older than what is known is ignored, though what happened still counts.
        if known.as_ref().is_some_and(|known| known.updated_at > conversation.updated_at) && !self.authoritative {
            return Ok(false);
        }
        if known.is_some() {
            tx.mark_conversation_dirty(&conversation.id, self.dirty)?;
        }
        tx.put_conversation(conversation)?;
        tx.mark_conversation_dirty(&conversation.id, self.dirty)?;
        Ok(true)
    }

    fn queue_events(&self, tx: &Tx<'_>, known: Option<&Conversation>, now: &Conversation) -> Result<()> {
        let filter = self.settings.conversation_filter.as_ref();
        if !self.settings.sync.events || !super::filters::counts(tx, now, filter)? {
            return Ok(());
        }
        for transition in transitions::transitions(known, now) {
            self.queue_event(tx, &transition, now)?;
        }
        Ok(())
    }

    /// Queues a transition's event for each contact of the conversation, unless it is from before our time or too old.
    fn queue_event(&self, tx: &Tx<'_>, transition: &Transition, conversation: &Conversation) -> Result<()> {
        let happened_at = transition.happened_at.unwrap_or(self.now);
        let oldest = self.now - chrono::TimeDelta::from_std(self.settings.events_max_age).unwrap_or_default();
        if happened_at < self.ready.first_start || happened_at < oldest {
            return Ok(());
        }
        let mut properties = transitions::properties(transition.kind, conversation);
        if !self.settings.sync.tags {
            properties.remove("tags");
        }
        let event = QueuedEvent { name: transition.kind.event_name().to_owned(), happened_at, properties };
        let text = to_json("outbox", &event)?;
        for contact in &conversation.contacts {
            tx.put_outbox(&format!("{}/{contact}", transition.key), contact, &text, self.now)?;
        }
        Ok(())
    }

    fn brevo_contact(&self, tx: &Tx<'_>, contact: &BrevoContact) -> Result<Applied> {
        let (known, _) = replaceable(tx, tx.brevo_contact(contact.id))?;
        // Also of a read by id, which was on its way when that came: any touch moves Brevo's time of a record.
        if known.as_ref().is_some_and(|known| known.modified_at > contact.modified_at) {
            tx.touch_brevo_contact(contact.id, self.sweep)?;
            return Ok(Applied { is_new: false, as_shown: false, is_nobodys: false });
        }
        if contact.consent.email_opted_out() {
            let was_out = known.as_ref().is_some_and(|known| known.consent.email_opted_out());
            if self.settings.resubscribes
                && !was_out
                && !self.authoritative
                && resubscribe::is_being_lifted(tx, contact)?
            {
                tx.touch_brevo_contact(contact.id, self.sweep)?;
                return Ok(Applied { is_new: false, as_shown: false, is_nobodys: false });
            }
            tx.brevo_opt_out_is_shown(contact.id, contact.email.as_ref(), contact.modified_at)?;
        }
        let heeded = heed_brevo_opt_outs(tx, contact, known.as_ref())?;
        let contact = heeded.as_ref().unwrap_or(contact);
        let changed = known.as_ref() != Some(contact);
        let mut applied = Applied { is_new: changed, as_shown: heeded.is_none(), is_nobodys: false };
        if changed || self.sweep > 0 {
            tx.put_brevo_contact(contact, self.sweep, false)?;
        }
        super::read_back::note_lists(tx, known.as_ref(), contact, &self.ready)?;
        let address_before = known.as_ref().and_then(|known| known.email.as_ref());
        if contact.email.as_ref() != address_before {
            if let Some(left) = address_before {
                tx.address_is_free(left)?;
            }
            // An address is one contact's: whoever showed it before is gone, or shows another by now.
            if let Some(email) = &contact.email {
                for other in tx.brevo_ids_by_email(email)?.into_iter().filter(|other| *other != contact.id) {
                    tx.ask_for(&ContactKey::Brevo(other))?;
                }
            }
        }
        let Some(mut link) = tx.link_by_brevo(contact.id)? else {
            note_lifted(tx, known.as_ref(), contact)?;
            if known.is_none() {
                super::verify::note_lifted_unseen(tx, contact, self)?;
            }
            // The person of this address may have a contact that shows another by now.
            let mut taken = false;
            if let Some(email) = contact.email.as_ref().filter(|_| changed)
                && let Some(link) = tx.link_by_email(email)?
            {
                let told = (&*self.settings, &*self.ready);
                let comes = link.brevo_id.is_none() && link.state == LinkState::Active;
                if comes && link.is_at_rest() {
                    // Perhaps nobody makes them one: a filter leaves them out, a limit holds them, or Brevo has refused it.
                    let theirs = link.id;
                    taken = super::place::may_be_theirs(tx, link, self.dirty)? == Some(contact.id);
                    if taken {
                        super::read_back::keep_what_a_late_row_put(tx, theirs, contact, &self.ready)?;
                    }
                } else if link.brevo_id.is_some() {
                    if self.made_by_a_row(tx, &link, contact, email)? {
                        taken = true;
                    } else if adopt_returned(tx, &link)? {
                        taken = tx.link_by_brevo(contact.id)?.is_some();
                        self.follow_what_came(tx, link.id)?;
                    } else if partings::made_late(tx, &link, contact, told, self.now)? {
                        taken = true;
                    } else {
                        tx.mark_dirty(link.id, self.dirty)?;
                    }
                } else {
                    taken = partings::made_late(tx, &link, contact, told, self.now)?;
                }
            }
            if changed && !taken {
                super::create_back::note(tx, contact.id, &self.settings, self.now)?;
            }
            applied.is_nobodys = !taken;
            return Ok(applied);
        };
        if changed && self.is_anothers_now(tx, &link, known.as_ref(), contact)? {
            return Ok(applied);
        }
        if link.state == LinkState::BrevoGone {
            // It was not gone after all.
            let state = state_in_intercom(tx, link.id)?;
            tx.set_link_state(link.id, state)?;
            tx.clear_notice("brevo_contact_gone", &subject_of(tx, &link)?)?;
            tx.mark_dirty(link.id, self.dirty)?;
            link.state = state;
            if state == LinkState::Left {
                // But they are, and it follows them as it would have.
                partings::left_intercom(tx, link.id, &self.settings, self.now)?;
            }
        }
        let id = link.id;
        if changed && known.is_some() {
            write_back::note_change(tx, &link, SideName::Brevo, contact.modified_at, &self.ready)?;
            super::verify::note_overrun(tx, &link, known.as_ref(), contact, self)?;
        }
        if self.settings.resubscribes
            && self.settings.tells_intercom
            && let Some(known) = known.as_ref().filter(|known| known.consent.email_opted_out())
            && !contact.consent.email_opted_out()
            && known.email == contact.email
        {
            let times = (known.modified_at, contact.modified_at);
            let by_notice = tx.brevo_opted_out_by_notice(contact.id, contact.email.as_ref(), known.modified_at)?;
            let gone = &known.consent.email_opt_outs;
            resubscribe::note(tx, id, SideName::Brevo, gone, by_notice, times, self.now)?;
        }
        if contact.consent.email_opted_out() {
            resubscribe::keep_newer_in_brevo(tx, id, contact)?;
        }
        if self.settings.tells_intercom && contact.consent.email_opted_out() {
            match base_of(&link) {
                Ok(base) => {
                    // A no is news after a look that showed none, even if nothing has been agreed on yet.
                    let showed_none = known.as_ref().is_some_and(|known| !known.consent.email_opted_out());
                    let before = base.consent_with_contact(link.dirty >= Dirty::Live);
                    let before = before.or(showed_none.then_some(ConsentBase::NEITHER));
                    carry::carry_at_once(tx, &link, contact.id, (before, showed_none), self.now)?;
                }
                Err(error) => unreadable::note(tx, error, self.now)?,
            }
        }
        let is_left = link.state == LinkState::Left && link.verify_after.is_some();
        let settled =
            remember_opt_out(tx, link, known.as_ref(), contact).and_then(|link| self.settle(tx, &link, contact));
        let settled = match settled {
            // What is shown is kept, even if what was agreed on cannot be read.
            Err(error) => unreadable::note(tx, error, self.now).map(|()| None)?,
            Ok(settled) => Some(settled),
        };
        if settled.is_some_and(|settled| settled || changed) {
            tx.mark_dirty(id, self.dirty)?;
        }
        if is_left {
            super::place::let_go(tx, id)?;
        }
        Ok(applied)
    }

    /// A contact that is nobody's has the address of a row of ours that is on its way, and is no older than that: the one
    /// that the row was sent for is gone, or has another address by now, and the row has made this one. So it is the
    /// person's, with what the row put into it. `false`: it is not so.
    fn made_by_a_row(&self, tx: &Tx<'_>, link: &LinkRow, contact: &BrevoContact, email: &Email) -> Result<bool> {
        let Some(import) = link.import else { return Ok(false) };
        if base_of(link)?.email.as_ref() != Some(email) {
            return Ok(false);
        }
        let sent = tx.open_imports()?.into_iter().find(|sent| sent.id == import);
        if sent.is_none_or(|sent| contact.created_at < super::read_back::began(&sent)) {
            return Ok(false);
        }
        let made = person::made_by_row(&flights_of(link)?, contact, &self.ready.mapping);
        if link.state == LinkState::BrevoGone {
            if !adopt_returned(tx, link)? {
                return Ok(false);
            }
        } else {
            super::place::adopt(tx, link, contact.id, email)?;
            tx.mark_dirty(link.id, self.dirty)?;
        }
        let Some(link) = tx.link(link.id)?.filter(|link| link.brevo_id == Some(contact.id)) else { return Ok(true) };
        if link.state == LinkState::Left {
            // Nobody is left of whoever it was made for.
            partings::left_intercom(tx, link.id, &self.settings, self.now)?;
        }
        let base = Base { fields: made.fields, lists: made.lists, ..base_of(&link)? };
        tx.set_base(link.id, &pack_base(tx, &base)?)?;
        Ok(true)
    }

    /// The link has come by another contact in the place of one that is gone. If nobody is left of it, that follows them
    /// where a row of theirs has made it: what somebody made by hand does not.
    fn follow_what_came(&self, tx: &Tx<'_>, link: i64) -> Result<()> {
        let Some(link) = tx.link(link)?.filter(|link| link.state == LinkState::Left) else { return Ok(()) };
        if let Some(there) = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten() {
            partings::made_late(tx, &link, &there, (&*self.settings, &*self.ready), self.now)?;
        }
        Ok(())
    }

    /// Nobody is left of the link, and its contact shows an address by which somebody else is known, since somebody changed
    /// it by hand. `true`: it has become theirs.
    fn is_anothers_now(
        &self,
        tx: &Tx<'_>,
        link: &LinkRow,
        known: Option<&BrevoContact>,
        contact: &BrevoContact,
    ) -> Result<bool> {
        let Some(email) = contact.email.as_ref().filter(|email| link.email.as_ref() != Some(email)) else {
            return Ok(false);
        };
        let Some(theirs) = tx.link_by_email(email)?.filter(|theirs| theirs.id != link.id) else { return Ok(false) };
        if !super::place::is_deserted(tx, link)? || super::place::is_deserted(tx, &theirs)? {
            return Ok(false);
        }
        note_lifted(tx, known, contact)?;
        if adopt_returned(tx, &theirs)? {
            return Ok(true);
        }
        Ok(super::place::may_be_theirs(tx, theirs, self.dirty)? == Some(contact.id))
    }

    /// Settles a link's writes on their way, if this read began late enough to be sure of them.
    pub(super) fn settle(&self, tx: &Tx<'_>, link: &LinkRow, contact: &BrevoContact) -> Result<bool> {
        let Some(flights) = &link.flights else { return Ok(false) };
        let late_enough = link.verify_after.is_some_and(|after| after <= self.read_began);
        // It began after the answer: what it shows to have been taken was not refused, and whoever goes back has edited it.
        let after_answer =
            link.answered && link.verify_after.is_some_and(|after| after <= self.read_began + super::LATE_LANDING);
        if link.import.is_some() || !(late_enough || after_answer) {
            return Ok(false);
        }
        let flights: Flights =
            flights.unpack("links.flights").map_err(|error: StoreError| error.of(Record::Link(link.id)))?;
        if !late_enough {
            let mut seen = person::seen_in_brevos_answer(&flights, &contact.attributes, &self.ready.mapping);
            // So has an opt-out: who is subscribed after that has said so, unless something may have lifted it.
            seen.opted_out &= !contact.consent.email_opted_out();
            // And where it does not show, whoever is blocklisted after that has said so, until we say it once more.
            seen.seen_subscribed = seen.opted_out;
            if seen != flights {
                tx.watch_as(link.id, &pack_flights(tx, &seen)?)?;
            }
            return Ok(false);
        }
        settle_now(tx, link, (&base_of(link)?, &flights), link.answered, contact, &self.ready, self.now)
    }
}

/// Settles a link's writes against what Brevo shows. `true` if something is to be planned again.
pub(super) fn settle_now(
    tx: &Tx<'_>,
    link: &LinkRow,
    (base, flights): (&Base, &Flights),
    answered: bool,
    contact: &BrevoContact,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut settled = person::settle(base, flights, answered, contact, &ready.mapping);
    if link.import.is_none() {
        settled.edited |= person::lists_have_moved(&mut settled.base, flights, contact, answered);
    }
    if !answered {
        super::safety::not_landed(tx, (base, flights), contact, ready, now)?;
    }
    let left = Some(&settled.flights).filter(|left| !left.is_empty());
    settle_as(tx, link.id, &settled.base, left)?;
    put_conflicts(tx, link.id, &settled.lost, None, now)?;
    list_refused(tx, link, SideName::Brevo, &settled.refused, now)?;
    if link.state == LinkState::Active && link.rename_to.is_none() && flights.renamed_late(contact) {
        // The address that it is to have by now is written again.
        tx.set_rename(link.id, link.email.as_ref())?;
    }
    Ok(!answered || flights.more || settled.edited || settled.base != *base || !settled.flights.is_empty())
}

/// Lists what a side accepted and did not take.
pub(super) fn list_refused(
    tx: &Tx<'_>,
    link: &LinkRow,
    side: SideName,
    rules: &[String],
    now: DateTime<Utc>,
) -> Result<()> {
    for rule in rules {
        let message = "it accepted the request, but kept the old value; it is not sent again until the source, the \
                       mapping or the attribute changes";
        let subject = subject_of(tx, link)?;
        let failure = NewFailure::left_out(Some(link.id), &subject, rule, message);
        tx.put_failure(&NewFailure { refused_by: Some(side), ..failure }, now)?;
    }
    Ok(())
}

/// This is what both sides agree on now, and what is still on its way.
pub(super) fn settle_as(tx: &Tx<'_>, link: i64, base: &Base, flights: Option<&Flights>) -> Result<()> {
    let flights = flights.map(|flights| pack_flights(tx, flights)).transpose()?;
    tx.settle(link, &pack_base(tx, base)?, flights.as_ref())
}

/// Base as a link keeps it.
pub(super) fn pack_base(tx: &Tx<'_>, base: &Base) -> Result<Packed> {
    tx.pack("links.base", base)
}

/// Writes on their way as a link keeps them.
pub(super) fn pack_flights(tx: &Tx<'_>, flights: &Flights) -> Result<Packed> {
    // What goes to Intercom is kept apart.
    tx.pack("links.flights", &*flights.to_brevo())
}

/// What both sides agreed on about a link's person.
pub(super) fn base_of(link: &LinkRow) -> Result<Base> {
    if link.base.is_empty() {
        return Ok(Base::default());
    }
    link.base.unpack("links.base").map_err(|error| error.of(Record::Link(link.id)))
}

/// A link's writes on their way; empty if there are none.
pub(super) fn flights_of(link: &LinkRow) -> Result<Flights> {
    let flights = link.flights.as_ref().map_or(Ok(Flights::default()), |flights| flights.unpack("links.flights"));
    flights.map_err(|error| error.of(Record::Link(link.id)))
}

/// How a person is named in lists: by the Intercom id of the primary, never by address.
pub(super) fn subject_of(tx: &Tx<'_>, link: &LinkRow) -> Result<String> {
    let members = tx.members(link.id)?;
    let primary = members.iter().find(|member| member.is_primary).or(members.first());
    Ok(match (primary, link.brevo_id) {
        (Some(member), _) => format!("contact {}", member.contact.id),
        (None, Some(brevo)) => format!("Brevo contact {brevo}"),
        (None, None) => format!("link {}", link.id),
    })
}

fn intercom_contact_gone(tx: &Tx<'_>, id: &IntercomContactId, how: &Gone, now: DateTime<Utc>) -> Result<bool> {
    let (known, unreadable) = replaceable(tx, tx.intercom_contact(id))?;
    if unreadable {
        tx.put_intercom_contact(&unreadable::stand_in(id, tx.intercom_email(id)?), 0)?;
        return intercom_contact_gone(tx, id, how, now);
    }
    let Some(known) = known else { return Ok(false) };
    let (state, into) = match (how, tx.said_gone(id)?) {
        (Gone::Merged { into }, _) => (ContactState::Merged, into.as_ref()),
        (Gone::Archived, _) => (ContactState::Archived, None),
        // An archived contact is a 404 like a deleted one: only the notice told them apart.
        (Gone::Deleted, Some(said)) => (said, None),
        (Gone::Deleted, None) if known.state == ContactState::Live => (ContactState::Missing, None),
        // What was found out about it stands.
        (Gone::Deleted, None) => return Ok(false),
    };
    if known.state == state && known.merged_into.as_ref() == into {
        return Ok(false);
    }
    keep_last_no(tx, &known)?;
    tx.set_intercom_state(id, state, into)?;
    tx.drop_carried(id)?;
    if let Some(row) = tx.write_back_of(id)? {
        tx.drop_write_back(row.link)?;
    }
    if state == ContactState::Missing {
        tx.set_gone_check(id, now + super::missing::INDEX_LAG)?;
    }
    tx.set_unplaced(id, Dirty::Live)?;
    Ok(true)
}

/// A linked Brevo contact is gone: counted and listed, never made again.
pub(super) fn mark_brevo_gone(tx: &Tx<'_>, link: &LinkRow, now: DateTime<Utc>) -> Result<()> {
    tx.set_link_state(link.id, LinkState::BrevoGone)?;
    if link.import.is_none() {
        tx.settle(link.id, &link.base, None)?;
    }
    // A row that is on its way may make a contact: what it was to set tells what of that is ours.
    tx.give_up(link.id)?;
    tx.forget_failures(link.id)?;
    tx.put_notice("brevo_contact_gone", &subject_of(tx, link)?, None, now)?;
    if let Some(gone) = tx.link(link.id)? {
        adopt_returned(tx, &gone)?;
    }
    Ok(())
}

/// We make nothing again that is gone. But somebody may have, by hand; or a row of an import was on its way when the
/// contact was deleted. Then the address has a contact, which is the person's like any that is found by its address.
/// `false`: it has none.
pub(super) fn adopt_returned(tx: &Tx<'_>, link: &LinkRow) -> Result<bool> {
    let Some(email) = link.email.as_ref().filter(|_| link.state == LinkState::BrevoGone) else { return Ok(false) };
    let Some(there) = tx.brevo_contact_by_email(email)? else { return Ok(false) };
    if link.brevo_id.is_none() {
        return Ok(false);
    }
    match tx.link_by_brevo(there.id)? {
        None => super::place::adopt(tx, link, there.id, email)?,
        Some(holder) if super::place::take_from_deserted(tx, link, &holder, there.id, email)? => {}
        Some(_) => return Ok(false),
    }
    tx.clear_notice("brevo_contact_gone", &subject_of(tx, link)?)?;
    let state = state_in_intercom(tx, link.id)?;
    tx.set_link_state(link.id, state)?;
    if state == LinkState::Left {
        // What was to follow them was the one that is gone. Whether this one does is decided by how it came about.
        tx.end_parting(link.id, SideName::Brevo)?;
    }
    tx.mark_dirty(link.id, Dirty::Consent)?;
    Ok(true)
}

/// How a link is doing that has a contact in Brevo again. They may have gone in Intercom before that one did, or since: then
/// nobody is there who would be planned for, and what follows from that goes by the state. Who is merely missing is waited for.
fn state_in_intercom(tx: &Tx<'_>, link: i64) -> Result<LinkState> {
    let is_here = |row: &IntercomRow| matches!(row.state, ContactState::Live | ContactState::Missing);
    Ok(if tx.members(link)?.iter().any(is_here) { LinkState::Active } else { LinkState::Left })
}

/// Values that are replaced although nobody had agreed to that.
pub(super) fn put_conflicts<'a>(
    tx: &Tx<'_>,
    link: i64,
    lost: impl IntoIterator<Item = &'a LostValue>,
    import: Option<i64>,
    now: DateTime<Utc>,
) -> Result<()> {
    lost.into_iter().try_for_each(|lost| {
        tx.put_conflict(&Conflict {
            id: 0,
            link,
            field: lost.field.clone(),
            side: lost.side,
            lost: to_json("conflicts", &lost.lost)?,
            kept: to_json("conflicts", &lost.kept)?,
            rule: lost.rule.clone(),
            at: now,
            import,
        })
    })
}

pub(super) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Decode { what, cause: error.to_string() })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Decode { what, cause: error.to_string() })
}
