//! Links that were left behind on an address which their contact in Brevo never had.

use super::{is_gone_elsewhere, link_consent};
use crate::engine::observe::{base_of, flights_of, settle_as, subject_of};
use crate::model::{BrevoContact, BrevoContactId, Consent, IntercomContact, IntercomContactId, OptOutReason};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::{Base, Flights};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::hints::{BrevoOptOut, FROM_ONE_LEFT_BEHIND};
use crate::store::links::{LinkRow, LinkState};
use crate::store::{Result, Tx};

/// The contact in Brevo, as it was last seen, of a link whose address it was never given. `None`: it has the address, or a
/// rename that is on its way may still give it that.
pub(in crate::engine) fn never_given(tx: &Tx<'_>, held: &LinkRow) -> Result<Option<BrevoContact>> {
    let (Some(email), Some(brevo)) = (&held.email, held.brevo_id) else { return Ok(None) };
    let on_its_way = held.import.is_some() || (held.flights.is_some() && !held.answered);
    if held.rename_to.as_ref() != Some(email) || on_its_way {
        return Ok(None);
    }
    Ok(tx.brevo_contact_as_it_was(brevo)?.filter(|left| left.email.as_ref() != Some(email)))
}

/// By id, or by what the customer calls them, whoever comes is somebody of the link (made in Intercom once more).
fn is_of(members: &[IntercomRow], left: &BrevoContact, comes: &IntercomContact) -> bool {
    let is_theirs = |id: Option<&String>| id.is_some() && id == comes.external_id.as_ref();
    is_theirs(left.ext_id.as_ref())
        || members.iter().any(|row| row.contact.id == comes.id || is_theirs(row.contact.external_id.as_ref()))
}

/// Somebody comes to the address of a link that nobody is left of. If its Brevo contact was never given that address, it
/// says nothing about whoever comes: the contact is somebody else's, and where it is gone, nothing of this address was
/// deleted. So the link goes back to the address that the contact shows, or, if it is gone, has none. But an opt-out of
/// whoever had the address stays with it: consent belongs to the address.
///
/// `false`: it is not so, and whoever comes is one of the link's people.
pub(super) fn make_way(tx: &Tx<'_>, held: &LinkRow, comes: &IntercomContact) -> Result<bool> {
    let (Some(email), Some(brevo)) = (&held.email, held.brevo_id) else { return Ok(false) };
    if held.state == LinkState::Active {
        return Ok(false);
    }
    let Some(left) = never_given(tx, held)? else { return Ok(false) };
    let members = tx.members(held.id)?;
    let is_here = |row: &IntercomRow| match row.state {
        // Whose address was taken away has left this one, and takes along that their contact is gone.
        ContactState::Live => held.state != LinkState::BrevoGone || row.contact.email.is_some(),
        // Who is missing may turn out to have been merged into whoever comes.
        ContactState::Missing => true,
        ContactState::Archived | ContactState::Deleted | ContactState::Merged => false,
    };
    if is_of(&members, &left, comes) || members.iter().any(is_here) {
        return Ok(false);
    }
    if left.consent.email_opted_out() || link_consent(held)?.is_some_and(|consent| consent.brevo_out) {
        let reason = left.consent.email_opt_outs.first().copied().unwrap_or(OptOutReason::Blocklisted);
        tx.put_brevo_opt_out(&BrevoOptOut::brought(email.clone(), reason, left.modified_at, FROM_ONE_LEFT_BEHIND))?;
    }
    let mut back = None;
    if tx.brevo_contact(brevo)?.is_some()
        && let Some(shown) = &left.email
        && tx.link_by_email(shown)?.is_none()
    {
        back = Some(shown);
    }
    tx.set_link_email(held.id, back)?;
    tx.set_rename(held.id, None)?;
    Ok(true)
}

/// Somebody comes to share the address of somebody whose Brevo contact was deleted, and was never given that address.
/// From now on the two are one person, and nothing of that address was deleted in Brevo: whoever comes is not gone there,
/// and nobody is sent away for it. So they have no contact yet, as if whoever came last had been here first. What stays
/// is an opt-out.
pub(super) fn begin_anew(tx: &Tx<'_>, link: i64, comes: &IntercomContactId) -> Result<()> {
    let Some(held) = tx.link(link)?.filter(is_gone_elsewhere) else { return Ok(()) };
    let (Some(left), Some(comes)) = (never_given(tx, &held)?, tx.intercom_contact(comes)?) else { return Ok(()) };
    let members = tx.members(held.id)?;
    let shares = members.iter().any(|row| row.state == ContactState::Live && row.contact.email == held.email);
    if !shares || is_of(&members, &left, &comes.contact) || tx.brevo_contact(left.id)?.is_some() {
        return Ok(());
    }
    let no = No::of(&base_of(&held)?, &left.consent);
    tx.clear_notice("brevo_contact_gone", &subject_of(tx, &held)?)?;
    // If it is there after all, it was this person's: nobody is made for it.
    tx.leave_alone(left.id)?;
    tx.free_phones(held.id)?;
    tx.set_brevo(held.id, None)?;
    tx.set_rename(held.id, None)?;
    keep_no(tx, held.id, no)?;
    tx.forget_failures(held.id)?;
    tx.set_link_state(held.id, LinkState::Active)
}

/// What a person had said no to in Brevo, by what was agreed on with a contact that is left behind, or that it showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct No {
    pub(in crate::engine) email: bool,
    pub(in crate::engine) sms: bool,
}

impl No {
    /// By what was agreed on with it, and by what it showed last.
    pub(in crate::engine) fn of(agreed: &Base, shown: &Consent) -> Self {
        let agreed_on = |base: Option<ConsentBase>| base.is_some_and(|base| base.brevo_out);
        Self {
            email: shown.email_opted_out() || agreed_on(agreed.consent),
            sms: shown.sms_opted_out || agreed_on(agreed.sms),
        }
    }
}

/// A link has left its Brevo contact behind: what was agreed on with that says nothing about the next one. But a no does,
/// and what shows that one as subscribed is nobody's yes; while an opt-out in Intercom is news to it.
pub(in crate::engine) fn keep_no(tx: &Tx<'_>, link: i64, no: No) -> Result<()> {
    let kept = |no: bool| no.then_some(ConsentBase { intercom_out: false, brevo_out: true });
    let base = Base { consent: kept(no.email), sms: kept(no.sms), ..Base::default() };
    let flights = Flights { may_loosen: no.email, brings_sms_no: no.sms, ..Flights::default() };
    settle_as(tx, link, &base, Some(&flights).filter(|flights| !flights.is_empty()))
}

/// A person gets another Brevo contact, and the one that they had is nobody's from now on. If its opt-out was to be put back,
/// since a changed address or a write of ours may have lifted it, nobody plans that any more: it is remembered for whoever
/// the contact becomes.
pub(super) fn leave_to_nobody(tx: &Tx<'_>, link: &LinkRow, left: BrevoContactId) -> Result<()> {
    // It was this person's: nobody is made for it.
    tx.leave_alone(left)?;
    let Some(left) = tx.brevo_contact(left)? else { return Ok(()) };
    let base = base_of(link)?;
    if left.consent.email_opted_out() || !base.consent.is_some_and(|consent| consent.brevo_out) {
        return Ok(());
    }
    let moved = base.email.is_some() && base.email != left.email;
    if moved || flights_of(link)?.may_loosen || tx.may_land_late(left.id)? {
        tx.put_brevo_opt_out(&BrevoOptOut::lifted(left.id, OptOutReason::Blocklisted, left.modified_at))?;
    }
    Ok(())
}
