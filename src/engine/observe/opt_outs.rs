//! What an observation says of consent: facts that notices told of, what a changed address or a write of ours may have
//! lifted, and whose yes or no it is that a record shows.

use super::{base_of, flights_of, pack_base};
use crate::engine::resubscribe;
use crate::model::{BrevoContact, Consent, IntercomContact, OptOutReason, SideName};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::Base;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::facts::{Channel, LastNo};
use crate::store::hints::BrevoOptOut;
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::{Result, Tx};
use chrono::{DateTime, Utc};
use std::borrow::Cow;

/// Whether this is a new opt-out in Intercom. Each member's counts when it is made: that another of the same address was
/// out before, and that Brevo's differing from that has been accepted, says nothing about this one.
pub(in crate::engine) fn new_opt_out(tx: &Tx<'_>, link: i64, before: &Consent, now: &Consent) -> Result<bool> {
    let email = now.email_opted_out() && !before.email_opted_out();
    let sms = now.sms_opted_out && !before.sms_opted_out;
    let Some(link) = tx.link(link)?.filter(|_| email || sms) else { return Ok(email || sms) };
    let known = match base_of(&link) {
        // It counts whatever had been agreed on.
        Err(error) if error.unreadable().is_some() => return Ok(true),
        known => known?,
    };
    let mut base = known.clone();
    for (out, consent) in [(email, &mut base.consent), (sms, &mut base.sms)] {
        if let Some(consent) = consent.as_mut().filter(|_| out) {
            consent.intercom_out = false;
        }
    }
    if base != known {
        tx.set_base(link.id, &pack_base(tx, &base)?)?;
    }
    Ok(true)
}

/// Somebody is about to be gone in Intercom who has said no there, and Brevo has not been told, or has not answered: it is
/// told all the same. Of those who are gone, nobody could say afterwards what had been news.
pub(super) fn keep_last_no(tx: &Tx<'_>, leaves: &IntercomRow) -> Result<()> {
    let (contact, consent) = (&leaves.contact.id, &leaves.contact.consent);
    let says_no = consent.email_opted_out() || consent.sms_opted_out;
    let link = leaves.link.filter(|_| says_no && leaves.state == ContactState::Live);
    let Some(link) = link.map(|link| tx.link(link)).transpose()?.flatten() else { return Ok(()) };
    let base = match base_of(&link) {
        // Whether it is news cannot be told any more.
        Err(error) if error.unreadable().is_some() => return Ok(()),
        base => base?,
    };
    // What we wrote there ourselves says nothing that Brevo does not know.
    let ours = tx.carried(contact)?.is_some_and(|carried| carried.ours && Some(carried.brevo) == link.brevo_id);
    let is_news = |agreed: Option<ConsentBase>| agreed.is_none_or(|agreed| !agreed.intercom_out);
    // Nor does what both have agreed on; but a write of ours that is on its way may lift it, and nothing would put it back.
    let stands = base.consent.is_some_and(|agreed| agreed.intercom_out && agreed.brevo_out);
    let on_its_way = link.import.is_some() || (link.flights.is_some() && !link.answered);
    let may_be_lifted = stands && on_its_way && is_alone(tx, link.id, leaves)?;
    let no = LastNo {
        contact: contact.clone(),
        email: consent.email_opted_out() && (may_be_lifted || (!ours && is_news(base.consent))),
        sms: consent.sms_opted_out && is_news(base.sms),
    };
    if no.email || no.sms {
        tx.put_last_no(&no)?;
        tx.mark_dirty(link.id, Dirty::Consent)?;
    }
    Ok(())
}

/// Whether nobody else of the link is in Intercom.
fn is_alone(tx: &Tx<'_>, link: i64, leaves: &IntercomRow) -> Result<bool> {
    let is_other = |row: &IntercomRow| row.state == ContactState::Live && row.contact.id != leaves.contact.id;
    match tx.members(link) {
        Err(error) if error.unreadable().is_some() => Ok(false),
        members => Ok(!members?.iter().any(is_other)),
    }
}

/// An opt-out in Brevo is a fact from when it is seen: what a write of ours that is on its way lifts after that is put
/// back.
///
/// Where nobody is left of the link, no plan sees it, nor an opt-in after it: who gets the contact with another address has it
/// as it was shown last under its own. What the other address has lifted is remembered apart: every later look shows the
/// contact as subscribed, and that is nobody's yes.
pub(super) fn remember_opt_out(
    tx: &Tx<'_>,
    mut link: LinkRow,
    known: Option<&BrevoContact>,
    contact: &BrevoContact,
) -> Result<LinkRow> {
    let out = contact.consent.email_opted_out();
    let on_its_way = link.flights.is_some() || link.import.is_some();
    let left = link.state == LinkState::Left;
    // Without a write on its way, the next plan sees it.
    if !(left || (out && on_its_way)) {
        if !out && known.is_some_and(|known| known.consent.email_opted_out()) {
            let base = base_of(&link)?;
            // It goes by what was agreed on, and under which address.
            let agreed = base.email.is_some() && base.consent.is_some_and(|consent| consent.brevo_out);
            // But one that was put off has agreed on nothing, and another address has lifted it by now.
            if let Some(reason) = lifted_from(&base, known, contact).filter(|_| !agreed) {
                tx.put_brevo_opt_out(&BrevoOptOut::lifted(contact.id, reason, contact.modified_at))?;
            }
        }
        return Ok(link);
    }
    let mut base = base_of(&link)?;
    let before = base.consent;
    if !out {
        let lifted = lifted_from(&base, known, contact);
        if let Some(reason) = lifted {
            tx.put_brevo_opt_out(&BrevoOptOut::lifted(contact.id, reason, contact.modified_at))?;
        }
        if lifted.is_some() || on_its_way || tx.may_land_late(contact.id)? {
            return Ok(link);
        }
    } else if !on_its_way {
        base.consent.get_or_insert(ConsentBase { intercom_out: false, brevo_out: true });
    }
    if let Some(consent) = &mut base.consent {
        consent.brevo_out = out;
    }
    if base.consent != before {
        link.base = pack_base(tx, &base)?;
        tx.set_base(link.id, &link.base)?;
    }
    Ok(link)
}

/// The opt-out that a changed address has lifted from a contact that is shown as subscribed: it stood under another address,
/// and nobody has been seen to say yes since.
fn lifted_from(base: &Base, known: Option<&BrevoContact>, contact: &BrevoContact) -> Option<OptOutReason> {
    let stood = base.consent.is_some_and(|consent| consent.brevo_out).then_some(OptOutReason::Blocklisted);
    let reason = known.and_then(|known| known.consent.email_opt_outs.first().copied());
    let moved = match known {
        Some(known) if known.email != contact.email => true,
        // It was seen under this address, too.
        Some(_) if reason.is_some() => false,
        _ => base.email.is_some() && base.email != contact.email,
    };
    reason.or(stood).filter(|_| moved)
}

/// What a read shows as subscribed although a webhook told of an opt-out that counts: the contact as it is to be taken. (One
/// that shows it, or is as we know it, tells nothing new.)
pub(super) fn heed_brevo_opt_outs(
    tx: &Tx<'_>,
    contact: &BrevoContact,
    known: Option<&BrevoContact>,
) -> Result<Option<BrevoContact>> {
    if contact.consent.email_opted_out() || known == Some(contact) {
        return Ok(None);
    }
    if tx.brevo_opt_outs(Some(contact.id), contact.email.as_ref())?.is_empty() {
        return Ok(None);
    }
    let mut heeded = contact.clone();
    let link = tx.link_by_brevo(contact.id)?;
    Ok(brevo_opt_out_counts(tx, &mut heeded, link.as_ref())?.then_some(heeded))
}

/// Whether somebody who is shown as subscribed counts as opted out, because a webhook told of it: a record that is not
/// newer does not undo that (the same second counts as older). A newer one does, unless a write of ours or a changed
/// address can have lifted it: then the opt-out stays in force, and the next plan puts it back. That also holds of the same
/// second, of which nobody can tell what came first: a no that stands there already is written in vain.
pub(in crate::engine) fn brevo_opt_out_counts(
    tx: &Tx<'_>,
    contact: &mut BrevoContact,
    link: Option<&LinkRow>,
) -> Result<bool> {
    for fact in tx.brevo_opt_outs(Some(contact.id), contact.email.as_ref())? {
        if fact.over_at.is_some() || fact.was_lifted() {
            continue;
        }
        let (said, shown) = (fact.at.timestamp(), contact.modified_at.timestamp());
        // Only what is known to be of this contact does the plan find, too. What somebody brought has never stood here.
        let is_theirs = fact.contact == Some(contact.id);
        if said > shown || (said == shown && !(is_theirs && may_be_lifted(tx, &fact, contact, link)?)) {
            contact.consent.email_opt_outs.extend(Some(fact.reason).filter(|_| !fact.was_brought()));
        } else if said < shown && !may_be_lifted(tx, &fact, contact, link)? {
            tx.brevo_opt_out_is_over(&fact.email, contact.modified_at)?;
        }
    }
    Ok(contact.consent.email_opted_out())
}

/// Whether an opt-out that was told of, and that no read has undone, counts for a person whose contact is shown as subscribed,
/// or who has none: of the contact, or of the address that they come to. So does whoever has agreed on nothing yet with a contact
/// that is there.
///
/// And of the address that the contact had when consent was last seen, if it was not known then whose that was: another one
/// since has lifted it.
pub(in crate::engine) fn no_was_told(
    tx: &Tx<'_>,
    link: &LinkRow,
    base: &Base,
    contact: Option<&BrevoContact>,
) -> Result<bool> {
    let stands = |fact: &BrevoOptOut| fact.over_at.is_none();
    let agreed = contact.is_some() && base.consent.is_some();
    let comes_to = if agreed { link.rename_to.as_ref() } else { link.email.as_ref() };
    if tx.brevo_opt_outs(link.brevo_id, comes_to)?.iter().any(stands) {
        return Ok(true);
    }
    let shows = contact.and_then(|contact| contact.email.as_ref());
    let had = base.email.as_ref().filter(|had| shows.is_some_and(|shows| shows != *had));
    let of_nobody = |fact: &BrevoOptOut| fact.contact.is_none() && !fact.was_brought() && stands(fact);
    Ok(had.is_some() && tx.brevo_opt_outs(None, had)?.iter().any(of_nobody))
}

/// Nobody's contact was blocklisted, and is not under another address: nobody said yes to that, since Brevo re-subscribes
/// whoever's address changes. Nothing is written to whoever is nobody's, so it is remembered for whoever it becomes.
pub(super) fn note_lifted(tx: &Tx<'_>, known: Option<&BrevoContact>, contact: &BrevoContact) -> Result<()> {
    let Some(known) = known.filter(|known| known.email != contact.email) else { return Ok(()) };
    match known.consent.email_opt_outs.first() {
        Some(reason) if !contact.consent.email_opted_out() => {
            tx.put_brevo_opt_out(&BrevoOptOut::lifted(contact.id, *reason, contact.modified_at))
        }
        _ => Ok(()),
    }
}

/// Whether it may be no opt-in of the person's own that the contact shows: Brevo re-subscribes a blocklisted contact
/// whose address changes, and an import may.
fn may_be_lifted(tx: &Tx<'_>, fact: &BrevoOptOut, contact: &BrevoContact, link: Option<&LinkRow>) -> Result<bool> {
    let moved = Some(&fact.email) != contact.email.as_ref();
    let Some(link) = link else {
        return Ok(moved || fact.contact.is_some_and(|then| then != contact.id));
    };
    let base = match base_of(link) {
        Err(error) if error.unreadable().is_some() => Base::default(),
        base => base?,
    };
    let loosens = match flights_of(link) {
        Err(error) if error.unreadable().is_some() => true,
        flights => flights?.may_loosen,
    };
    let moved = base.email.as_ref().map_or(moved, |agreed| Some(agreed) != contact.email.as_ref());
    let lifted = resubscribe::may_have_lifted(tx, link.id, SideName::Brevo, fact.at)?;
    Ok(lifted || loosens || moved || link.import.is_some() || tx.may_land_late(contact.id)?)
}

/// An opt-out that a notice carried is a fact: a read whose record is older (a cache, a lagging index) does not undo it,
/// and neither does one of another address, since a changed address may have lifted it without the person's doing. The
/// same second counts as older. A read that is newer and of the same address decides.
pub(super) fn keep_opt_outs(
    tx: &Tx<'_>,
    link: Option<i64>,
    contact: &mut Cow<'_, IntercomContact>,
    now: DateTime<Utc>,
) -> Result<()> {
    if contact.consent.email_opted_out() {
        tx.opt_out_is_shown(&contact.id, contact.updated_at)?;
    }
    if let Some(link) = link {
        resubscribe::keep_newer_in_intercom(tx, link, contact)?;
    }
    if contact.consent.email_opted_out() && contact.consent.sms_opted_out {
        return Ok(());
    }
    for fact in tx.opt_outs(&contact.id)? {
        let lifted = match (link, fact.channel) {
            (Some(link), Channel::Email) => resubscribe::may_have_lifted(tx, link, SideName::Intercom, fact.at)?,
            _ => false,
        };
        let (said, shown) = (fact.at.timestamp(), contact.updated_at.timestamp());
        let elsewhere = fact.channel == Channel::Email && fact.email.is_some() && fact.email != contact.email;
        let stands = said >= shown || elsewhere;
        match fact.channel {
            Channel::Email if contact.consent.email_opted_out() => {}
            Channel::Sms if contact.consent.sms_opted_out => {}
            _ if fact.over_at.is_some() => {}
            Channel::Email if stands || lifted => {
                // Of the same second nobody can tell what came first: a no that stands there already is written in vain.
                if let Some(link) = link.filter(|_| lifted && said <= shown && !elsewhere) {
                    resubscribe::put_back_in_intercom(tx, link, &contact.id, now)?;
                }
                contact.to_mut().consent.email_opt_outs.insert(OptOutReason::Unsubscribed);
            }
            Channel::Sms if stands => contact.to_mut().consent.sms_opted_out = true,
            channel => tx.opt_out_is_over(&contact.id, channel, contact.updated_at)?,
        }
    }
    Ok(())
}
