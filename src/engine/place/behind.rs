//! Links that were left behind on an address which their contact in Brevo never had.

use super::link_consent;
use crate::model::{IntercomContact, OptOutReason};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::hints::BrevoOptOut;
use crate::store::links::{LinkRow, LinkState};
use crate::store::{Result, Tx};

/// Somebody comes to the address of a link that nobody is left of. If its Brevo contact was never given that address, it
/// says nothing about whoever comes: the contact is somebody else's, and where it is gone, nothing of this address was
/// deleted. So the link goes back to the address that the contact shows, or, if it is gone, has none. But an opt-out of
/// whoever had the address stays with it: consent belongs to the address.
///
/// `false`: it is not so, and whoever comes is one of the link's people.
pub(super) fn make_way(tx: &Tx<'_>, held: &LinkRow, comes: &IntercomContact) -> Result<bool> {
    let (Some(email), Some(brevo)) = (&held.email, held.brevo_id) else { return Ok(false) };
    // A rename that is on its way may still give it the address.
    let on_its_way = held.import.is_some() || (held.flights.is_some() && !held.answered);
    if held.state == LinkState::Active || held.rename_to.as_ref() != Some(email) || on_its_way {
        return Ok(false);
    }
    let Some(left) = tx.brevo_contact_as_it_was(brevo)?.filter(|left| left.email.as_ref() != Some(email)) else {
        return Ok(false);
    };
    let members = tx.members(held.id)?;
    // Who is missing may turn out to have been merged into whoever comes.
    let is_here = |row: &IntercomRow| matches!(row.state, ContactState::Live | ContactState::Missing);
    // By what the customer calls them they are the same person, who was made in Intercom once more.
    let is_theirs = |id: Option<&String>| id.is_some() && id == comes.external_id.as_ref();
    let same = is_theirs(left.ext_id.as_ref())
        || members.iter().any(|row| row.contact.id == comes.id || is_theirs(row.contact.external_id.as_ref()));
    if same || members.iter().any(is_here) {
        return Ok(false);
    }
    if left.consent.email_opted_out() || link_consent(held)?.is_some_and(|consent| consent.brevo_out) {
        let reason = left.consent.email_opt_outs.first().copied().unwrap_or(OptOutReason::Blocklisted);
        tx.put_brevo_opt_out(&BrevoOptOut {
            email: email.clone(),
            contact: None,
            reason,
            at: left.modified_at,
            source: "a contact that was left behind".to_owned(),
            over_at: None,
        })?;
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
