//! Identity: contacts that are new, moved to another address, or went away, are placed into links.

mod behind;
mod moving;

pub(super) use self::behind::{No, keep_no, never_given};
use self::behind::{begin_anew, make_way};
pub(super) use self::moving::{
    Knot, adopt, adopt_present_holder, is_deserted, let_go, may_be_theirs, take_from_deserted, take_over,
    take_what_a_row_made, unknot,
};
use self::moving::{deserted_holder, give_away, leave_group, moved, moves_to};
use super::observe::{base_of, flights_of, new_opt_out, pack_base, settle_as, subject_of};
use super::read_back::before_import;
use super::unreadable::sparing_each;
use super::{Connection, EngineError, Settings, partings};
use crate::config::WithoutEmail;
use crate::model::{
    BrevoContact, BrevoContactId, Consent, Email, IntercomContact, IntercomContactId, OptOutReason, phone_digits,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::identity::{self, Candidate, Candidates, FirstLink, Member};
use crate::reconcile::person::{Base, Flights};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::hints::{BrevoOptOut, FROM_A_GROUP, FROM_A_MERGE};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::{Result, Tx};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Contacts per transaction.
const BATCH: usize = 500;

/// Notices about contacts that could not be placed; cleared when they are.
const PLACING_NOTICES: [&str; 3] = ["without_email", "malformed_email", "identity_conflict"];

/// Notices about contacts that went away or lost their address; cleared when they are back.
const GONE_NOTICES: [&str; 5] =
    ["archived_in_intercom", "missing_in_intercom", "deleted_in_intercom", "email_removed", "identity_conflict"];

/// How a contact that went away is listed.
fn gone_notice(state: ContactState) -> Option<&'static str> {
    match state {
        ContactState::Live | ContactState::Merged => None,
        ContactState::Archived => Some("archived_in_intercom"),
        ContactState::Missing => Some("missing_in_intercom"),
        ContactState::Deleted => Some("deleted_in_intercom"),
    }
}

impl Connection {
    /// Places every contact that waits for it.
    pub(super) async fn place(&self, dirty: Dirty) -> std::result::Result<u64, EngineError> {
        let settings = self.settings();
        let mut placed = 0;
        // Chains wait for one another; each round frees at least one, and what still waits is left for the next cycle.
        let mut waiting: BTreeSet<IntercomContactId> = BTreeSet::new();
        loop {
            let (settings, now) = (Arc::clone(&settings), self.now());
            let known_waiting = waiting.clone();
            let (done, still, all) = self
                .store
                .write(move |tx| {
                    let mut done = 0;
                    let mut still = BTreeSet::new();
                    let ids = tx.unplaced(dirty, BATCH + known_waiting.len())?;
                    let all = ids.len() < BATCH + known_waiting.len();
                    let placed = sparing_each(tx, now, &ids, |(id, urgency)| {
                        // As urgently as it was noted, whoever comes to it first.
                        let placed = place_one(tx, id, &settings, *urgency, now)?;
                        if placed {
                            tx.set_placed(id)?;
                        }
                        Ok(placed)
                    })?;
                    for ((id, _), placed) in ids.into_iter().zip(placed) {
                        // What cannot be read waits, until it has been read anew.
                        if placed == Some(true) {
                            done += 1;
                        } else {
                            still.insert(id);
                        }
                    }
                    Ok((done, still, all))
                })
                .await?;
            placed += done;
            waiting = still;
            if done == 0 && all {
                return Ok(placed);
            }
        }
    }
}

/// Decides who a contact is that was never seen before, while it is at hand.
pub(super) fn place_newcomer(tx: &Tx<'_>, contact: &IntercomContact, settings: &Settings) -> Result<FirstLink> {
    // The survivor of a merge inherits a link; that is not a first link.
    if tx.link_of_merged_into(&contact.id)?.is_some() {
        return Ok(FirstLink::Wait);
    }
    who_is(tx, contact, settings, None)
}

/// `false`: it waits for another.
fn place_one(
    tx: &Tx<'_>,
    id: &IntercomContactId,
    settings: &Settings,
    dirty: Dirty,
    now: DateTime<Utc>,
) -> Result<bool> {
    let Some(mut row) = tx.intercom_contact(id)? else { return Ok(true) };
    if row.state != ContactState::Live {
        gone(tx, &row, settings, dirty, now)?;
        partings::decide_again_for_others(tx, &row, settings, now)?;
        return Ok(true);
    }
    if row.link.is_none()
        && let Some(link) = tx.link_of_merged_into(id)?
    {
        // Known only since after the merge: it is no first link all the same.
        inherit(tx, &row, link, dirty)?;
        let Some(heir) = tx.intercom_contact(id)? else { return Ok(true) };
        row = heir;
    }
    let link = match row.link {
        Some(link) => tx.link(link)?,
        None => None,
    };
    let Some(link) = link else { return first_link(tx, &row.contact, settings, dirty, None, now) };
    for kind in GONE_NOTICES {
        tx.clear_notice(kind, &format!("contact {id}"))?;
    }
    // Whoever is there again has come back, wherever they go from here, and whomever they have to wait for.
    reopen(tx, &link)?;
    if link.state == LinkState::Left && link.brevo_id.is_some() {
        // A plan that was made while it was still a tombstone came to nothing.
        tx.mark_dirty(link.id, dirty)?;
    }
    if link.email == row.contact.email {
        if left_the_phone(tx, &row, &link, settings)? {
            return leave_group(tx, &row, &link, settings, dirty, now);
        }
        elect(tx, link.id)?;
        tx.mark_dirty(link.id, dirty)?;
        return Ok(true);
    }
    if super::readdress::is_on_its_way(tx, &row.contact, &link)? {
        // It is to take the address that its Brevo contact was given: nobody has moved in Intercom.
        elect(tx, link.id)?;
        tx.mark_dirty(link.id, dirty)?;
        return Ok(true);
    }
    let Some(link) = tx.link(link.id)? else { return Ok(true) };
    moved(tx, &row, &link, settings, dirty, now)
}

/// A link whose people had all left has somebody again.
fn reopen(tx: &Tx<'_>, link: &LinkRow) -> Result<()> {
    if link.state == LinkState::Left { tx.set_link_state(link.id, LinkState::Active) } else { Ok(()) }
}

/// `left`: the group that it was of until now; without one, it has had no link before. `false`: it waits for another.
fn first_link(
    tx: &Tx<'_>,
    contact: &IntercomContact,
    settings: &Settings,
    dirty: Dirty,
    left: Option<i64>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let subject = format!("contact {}", contact.id);
    for kind in PLACING_NOTICES {
        tx.clear_notice(kind, &subject)?;
    }
    let decision = who_is(tx, contact, settings, left)?;
    let placed = link_as(tx, contact, decision, (dirty, left.is_none()), now)?;
    if let FirstLink::LinkTo(brevo) = decision {
        super::create_back::may_be_gone(tx, brevo, settings, now)?;
    }
    Ok(placed)
}

/// Decides who a contact is that has no link. `left`: the group that it was of until now.
fn who_is(tx: &Tx<'_>, contact: &IntercomContact, settings: &Settings, left: Option<i64>) -> Result<FirstLink> {
    let candidate = |found: Option<BrevoContact>| -> Result<Option<Candidate>> {
        let Some(found) = found else { return Ok(None) };
        let link = tx.link_by_brevo(found.id)?;
        let moving = link.as_ref().is_some_and(|link| is_moving(link, found.email.as_ref()));
        Ok(Some(Candidate { contact: found.id, link: link.map(|link| link.id), moving }))
    };
    let (mut group, mut by_email) = (None, None);
    if let Some(email) = &contact.email {
        (group, by_email) = (tx.link_by_email(email)?, tx.brevo_contact_by_email(email)?);
        if let Some(held) = &group
            && make_way(tx, held, contact)?
        {
            group = None;
        }
        if let (None, Some(shown)) = (&group, &by_email)
            && take_up_left_behind(tx, email, shown)?
        {
            group = tx.link_by_email(email)?;
        }
        if let Some(held) = group.as_ref().filter(|held| is_gone_elsewhere(held))
            && moves_to(tx, held)?.is_some_and(|to| to != *email)
        {
            // Who was deleted goes first, and takes the tombstone out of the way.
            return Ok(FirstLink::Wait);
        }
    }
    let phone = phone_of(contact, settings);
    let group = group.map(|link| link.id);
    let shows_it = by_email.as_ref().map(|shown| shown.id);
    let mut by_external_id = match &contact.external_id {
        // A group's contact has the external id of whoever spoke for it, and stays with the rest.
        Some(external_id) => {
            candidate(tx.brevo_contact_by_ext_id(external_id)?)?.filter(|found| left.is_none() || found.link != left)
        }
        None => None,
    };
    let mut deserted = None;
    if let Some(found) = by_external_id.as_mut().filter(|found| contact.email.is_some() && found.link != group) {
        deserted = deserted_holder(tx, found)?;
        if deserted.is_some() {
            found.link = None;
        }
    }
    let decision = identity::first_link(&Candidates {
        group,
        by_external_id,
        by_email: candidate(by_email)?,
        by_phone: match &phone {
            Some(phone) => {
                let found = tx.brevo_contact_by_phone(phone)?;
                let theirs = found.as_ref().map(|found| who_has_its_address(tx, found)).transpose()?.flatten();
                let theirs = theirs.map(|link| link.id);
                candidate(found)?.map(|found| Candidate { link: found.link.or(theirs), ..found })
            }
            None => None,
        },
        identifiable: contact.email.is_some() || phone.is_some(),
    });
    if let (FirstLink::LinkTo(brevo), Some(holder)) = (decision, &deserted) {
        give_away(tx, holder, brevo)?;
    }
    if let (FirstLink::Conflict { other: None, .. } | FirstLink::Wait, None, Some(shown)) = (decision, group, shows_it)
        && let Some(email) = &contact.email
        && let Some(link) = found_by_number(tx, shown, settings)?
    {
        give_address(tx, &link, email)?;
        return Ok(FirstLink::JoinGroup(link.id));
    }
    if decision == FirstLink::Create
        && let Some(brevo) = super::create_back::made_for(tx, contact.email.as_ref())?
    {
        // We made it, or meant to, and its address in Brevo is another by now.
        return Ok(FirstLink::LinkTo(brevo));
    }
    Ok(decision)
}

/// Who is known by the address that a contact shows. Though it is no link's yet, it is theirs: a row that is still to be
/// read back has made it, or what would find it has not come to it.
pub(super) fn who_has_its_address(tx: &Tx<'_>, shown: &BrevoContact) -> Result<Option<LinkRow>> {
    let Some(email) = &shown.email else { return Ok(None) };
    let Some(link) = tx.link_by_email(email)?.filter(|link| link.state == LinkState::Active) else { return Ok(None) };
    let is_here = |row: &IntercomRow| row.state == ContactState::Live && row.contact.email.as_ref() == Some(email);
    Ok(if tx.members(link.id)?.iter().any(is_here) { Some(link) } else { None })
}

/// The link of people without an address who have the contact for nothing but its number, if nothing is on its way to
/// it. It is also of whoever comes with the address that it shows: an address says more than a number, and had they come
/// first, the others would have found them by that number. Whoever's external id it shows has it for more than that.
fn found_by_number(tx: &Tx<'_>, shown: BrevoContactId, settings: &Settings) -> Result<Option<LinkRow>> {
    let is_theirs = |link: &LinkRow| link.state == LinkState::Active && link.email.is_none() && link.is_at_rest();
    let Some(link) = tx.link_by_brevo(shown)?.filter(is_theirs) else { return Ok(None) };
    let Some(shown) = tx.brevo_contact(shown)? else { return Ok(None) };
    let Some(number) = shown.attributes.get("SMS").map(|number| phone_digits(&number.to_string())) else {
        return Ok(None);
    };
    let members = tx.members(link.id)?;
    let mut live = members.iter().filter(|row| row.state == ContactState::Live).peekable();
    let by_number = |row: &IntercomRow| {
        let is_called_so = row.contact.external_id.is_some() && row.contact.external_id == shown.ext_id;
        !is_called_so && phone_of(&row.contact, settings).as_ref() == Some(&number)
    };
    Ok(if live.peek().is_some() && live.all(by_number) { Some(link) } else { None })
}

/// Somebody comes with the address that the link's contact shows: it is the link's from now on. For their fields that is
/// a first link: nothing is blanked, and what is replaced is logged. What was agreed on about lists and consent stays.
fn give_address(tx: &Tx<'_>, link: &LinkRow, email: &Email) -> Result<()> {
    let base = Base { fields: BTreeMap::new(), ..base_of(link)? };
    tx.set_link_email(link.id, Some(email))?;
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// The number that somebody without an address is known by.
fn phone_of(contact: &IntercomContact, settings: &Settings) -> Option<String> {
    let (WithoutEmail::ByPhone, None, Some(phone)) =
        (settings.without_email, &contact.email, contact.fields.get("phone"))
    else {
        return None;
    };
    let phone = phone.to_string();
    // As it will be written: Brevo shows every number with its country code, people leave it out at home.
    let whole = crate::mapping::to_e164(&phone, settings.phone_region.as_deref());
    Some(phone_digits(&whole.unwrap_or(phone))).filter(|digits| digits.len() >= 7)
}

/// Whether somebody who is known by their phone alone has another by now.
pub(super) fn has_another_phone(before: &IntercomContact, now: &IntercomContact, settings: &Settings) -> bool {
    phone_of(before, settings) != phone_of(now, settings)
}

/// Whether nothing but a number makes somebody one person with others, and it is another by now: they part as do those
/// who leave an address. Whoever speaks for the others has the number, or else it is the one that Brevo's contact shows.
fn left_the_phone(tx: &Tx<'_>, row: &IntercomRow, link: &LinkRow, settings: &Settings) -> Result<bool> {
    if settings.without_email != WithoutEmail::ByPhone || link.email.is_some() || row.contact.email.is_some() {
        return Ok(false);
    }
    let mine = phone_of(&row.contact, settings);
    let members = tx.members(link.id)?;
    let mut others = members.iter().filter(|other| {
        other.state == ContactState::Live && other.contact.id != row.contact.id && other.contact.email.is_none()
    });
    if row.is_primary {
        let shown = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten();
        let shown = shown.and_then(|contact| Some(phone_digits(&contact.attributes.get("SMS")?.to_string())));
        return Ok(shown.is_some() && mine != shown && others.any(|other| phone_of(&other.contact, settings) == shown));
    }
    Ok(others.find(|other| other.is_primary).is_some_and(|primary| phone_of(&primary.contact, settings) != mine))
}

/// Makes the link of somebody who is to have one of their own.
pub(super) fn new_link(
    tx: &Tx<'_>,
    contact: &IntercomContact,
    brevo: Option<BrevoContactId>,
    dirty: Dirty,
) -> Result<i64> {
    // Asked before anybody is linked to it.
    let made_for = super::create_back::made_for(tx, contact.email.as_ref())?;
    let link = tx.new_link(contact.email.as_ref(), brevo, dirty)?;
    if let Some(brevo) = brevo {
        super::create_back::keep_sent(tx, link, brevo, contact)?;
        let theirs = tx.brevo_contact(brevo)?.and_then(|theirs| theirs.email);
        let ours = made_for == Some(brevo);
        if contact.email.is_some() && theirs != contact.email && !ours {
            // Found by external id under another address: Intercom's is the one that counts.
            tx.set_rename(link, contact.email.as_ref())?;
        }
    }
    Ok(link)
}

/// Carries out what was decided for a contact that is in the state. `newcomer`: it has had no link before. `false`: it
/// waits for another.
pub(super) fn link_as(
    tx: &Tx<'_>,
    contact: &IntercomContact,
    decision: FirstLink,
    (dirty, newcomer): (Dirty, bool),
    now: DateTime<Utc>,
) -> Result<bool> {
    match decision {
        FirstLink::Wait => return Ok(false),
        FirstLink::JoinGroup(link) => {
            join(tx, &contact.id, link, dirty, now)?;
            // Somebody new who is opted out: that an earlier opt-out was answered by an opt-in in Brevo says nothing about
            // this one.
            if newcomer && new_opt_out(tx, link, &Consent::default(), &contact.consent)? {
                tx.mark_dirty(link, Dirty::Consent)?;
            }
        }
        FirstLink::LinkTo(brevo) => {
            let link = new_link(tx, contact, Some(brevo), dirty)?;
            tx.set_member(&contact.id, Some(link), true)?;
        }
        FirstLink::Create => {
            let link = new_link(tx, contact, None, dirty)?;
            tx.set_member(&contact.id, Some(link), true)?;
        }
        FirstLink::Conflict { by_external_id, other } => {
            let detail = match other {
                Some(other) => format!(
                    "its external id is that of Brevo contact {by_external_id}, its e-mail that of {other}: neither is linked"
                ),
                None => {
                    format!("Brevo contact {by_external_id} has its external id or its e-mail, but is somebody else's")
                }
            };
            tx.put_notice("identity_conflict", &format!("contact {}", contact.id), Some(&detail), now)?;
            mark_whose_address(tx, contact, None, dirty)?;
        }
        FirstLink::Unidentifiable => {
            let kind = if contact.fields.contains_key("email") { "malformed_email" } else { "without_email" };
            tx.put_notice(kind, &format!("contact {}", contact.id), None, now)?;
        }
    }
    Ok(true)
}

/// Somebody who is nobody's shows something new: what they say about consent counts for whoever has their address. `before`:
/// what they had said until then, where that is another. A no counts when it is made, though another of the address had said
/// one before.
pub(super) fn mark_whose_address(
    tx: &Tx<'_>,
    contact: &IntercomContact,
    before: Option<&Consent>,
    dirty: Dirty,
) -> Result<()> {
    let Some(email) = &contact.email else { return Ok(()) };
    let Some(link) = tx.link_by_email(email)?.filter(|link| link.state == LinkState::Active) else { return Ok(()) };
    if let Some(before) = before {
        // Text messages are their own matter.
        let now = Consent { sms_opted_out: before.sms_opted_out, ..contact.consent.clone() };
        new_opt_out(tx, link.id, before, &now)?;
    }
    let urgent = link.brevo_id.is_some() && contact.consent.email_opted_out();
    tx.mark_dirty(link.id, if urgent { Dirty::Consent } else { dirty })
}

/// Somebody who has said no comes to an address, and it is to be decided who they are. A contact that is about to be made under
/// it, or that a row of an import might make, and was planned without that no, is planned again.
pub(super) fn plan_again_with_their_no(tx: &Tx<'_>, contact: &IntercomContact, dirty: Dirty) -> Result<()> {
    let Some(email) = contact.email.as_ref().filter(|_| contact.consent.email_opted_out()) else { return Ok(()) };
    let may_be_made = |link: &LinkRow| link.brevo_id.is_none() || link.import.is_some();
    match tx.link_by_email(email)?.filter(|link| link.state == LinkState::Active && may_be_made(link)) {
        Some(link) => tx.mark_dirty(link.id, dirty),
        None => Ok(()),
    }
}

/// Whoever a contact is to be made for has left the address, and has another: it is made under that, once it is decided
/// whose that is.
pub(super) fn is_made_elsewhere(link: &LinkRow, live: &[&IntercomRow]) -> bool {
    let is_here = |row: &&IntercomRow| row.contact.email == link.email;
    link.brevo_id.is_none() && !live.iter().any(is_here) && live.iter().any(|row| row.contact.email.is_some())
}

/// Whose tags and conversations are the person's: while somebody has the address, not those of whoever has left it and cannot
/// go elsewhere yet. But who is still to take it, since their Brevo contact was given it, has not left it; who has none is
/// one of them by their phone; and whoever speaks for them does that with all that they have.
pub(super) fn present<'a>(tx: &Tx<'_>, link: &LinkRow, live: &[&'a IntercomRow]) -> Result<Vec<&'a IntercomRow>> {
    let is_here = |row: &IntercomRow| row.contact.email == link.email;
    if !live.iter().copied().any(is_here) {
        return Ok(live.to_vec());
    }
    let mut present = Vec::new();
    for &row in live {
        let is_theirs = is_here(row) || row.is_primary || row.contact.email.is_none();
        if is_theirs || tx.readdress(&row.contact.id)?.is_some_and(|to_take| to_take.link == link.id) {
            present.push(row);
        }
    }
    Ok(present)
}

/// Brevo shows an address that the link has left: the rename is on its way, or about to be.
fn is_moving(link: &LinkRow, shown: Option<&Email>) -> bool {
    link.email.as_ref() != shown && (link.rename_to.is_some() || link.flights.is_some())
}

/// Everybody of a link has gone elsewhere before its Brevo contact was given the address that they had meanwhile: nobody
/// will rename it any more, and it is the contact of the address that it shows. So is one that nobody is left of, and that
/// somebody gave another address by hand: for whoever comes to that, it is a first link, but for an opt-out in Brevo.
/// `false`: it is not so.
fn take_up_left_behind(tx: &Tx<'_>, email: &Email, shown: &BrevoContact) -> Result<bool> {
    let Some(link) = tx.link_by_brevo(shown.id)? else { return Ok(false) };
    let left_behind = link.state == LinkState::Left && link.rename_to.is_some() && link.is_at_rest();
    if left_behind {
        tx.set_link_email(link.id, Some(email))?;
        tx.set_rename(link.id, None)?;
        return Ok(true);
    }
    let deserted = link.email.as_ref() != Some(email) && is_deserted(tx, &link)?;
    if deserted {
        adopt(tx, &link, shown.id, email)?;
    }
    Ok(deserted)
}

/// The person's contact was deleted in Brevo and never showed the address that they have by now. Nothing of that address
/// was deleted there: it is no tombstone for whoever comes to it after them.
fn is_gone_elsewhere(link: &LinkRow) -> bool {
    link.state == LinkState::BrevoGone && link.rename_to.is_some() && link.rename_to == link.email
}

fn join(tx: &Tx<'_>, contact: &IntercomContactId, link: i64, dirty: Dirty, now: DateTime<Utc>) -> Result<()> {
    begin_anew(tx, link, contact)?;
    let tombstone = tx.link(link)?.filter(|link| link.state == LinkState::BrevoGone);
    let listed_as = tombstone.as_ref().map(|link| subject_of(tx, link)).transpose()?;
    tx.set_member(contact, Some(link), false)?;
    if let Some(link) = tx.link(link)? {
        reopen(tx, &link)?;
        let newcomer = tx.intercom_contact(contact)?;
        if link.email.is_some() && newcomer.is_some_and(|row| row.contact.email == link.email) {
            // Somebody whose address was taken away kept the link as long as nobody else had the address: now it is
            // another person's.
            for member in tx.members(link.id)? {
                if member.state == ContactState::Live && member.contact.email.is_none() {
                    tx.set_member(&member.contact.id, None, false)?;
                    tx.set_unplaced(&member.contact.id, dirty)?;
                }
            }
        }
    }
    elect(tx, link)?;
    if let (Some(tombstone), Some(listed_as)) = (tombstone, listed_as) {
        // Everybody had left the address, or is gone from Intercom, or has lost it just now: it is this one's.
        let subject = subject_of(tx, &tombstone)?;
        if subject != listed_as {
            tx.clear_notice("brevo_contact_gone", &listed_as)?;
            tx.put_notice("brevo_contact_gone", &subject, None, now)?;
        }
    }
    tx.mark_dirty(link, dirty)
}

/// Chooses the member that gives the fields. `false`: nobody is left.
fn elect(tx: &Tx<'_>, link: i64) -> Result<bool> {
    let rows = tx.members(link)?;
    // Chosen once: but while nothing has been agreed on yet, members that the first read shows later still count.
    let known = tx.link(link)?;
    let gone = known.as_ref().filter(|link| link.state == LinkState::BrevoGone);
    let listed_as = gone.map(|link| subject_of(tx, link)).transpose()?;
    let fresh = known.as_ref().is_some_and(|link| link.base.is_empty() && link.flights.is_none());
    // Who has left the address and cannot go elsewhere yet does not speak for those who have it.
    let here = |row: &IntercomRow| {
        row.state == ContactState::Live && known.as_ref().is_some_and(|link| link.email == row.contact.email)
    };
    let anybody_here = rows.iter().any(here);
    let members: Vec<Member> = rows
        .iter()
        .map(|row| Member {
            id: row.contact.id.clone(),
            role: row.contact.role,
            created_at: row.contact.created_at,
            primary: row.is_primary && !fresh,
            live: row.state == ContactState::Live && (!anybody_here || here(row)),
        })
        .collect();
    let chosen = identity::primary(&members).map(|member| member.id.clone());
    for row in &rows {
        let is_primary = Some(&row.contact.id) == chosen.as_ref();
        if row.is_primary != is_primary {
            tx.set_member(&row.contact.id, Some(link), is_primary)?;
            if is_primary {
                // What the Brevo contact cannot be given is this one's trouble now.
                tx.refile_failures(link, &format!("contact {}", row.contact.id))?;
            }
        }
    }
    if let (Some(gone), Some(listed_as)) = (gone, listed_as) {
        tx.refile_notice("brevo_contact_gone", &listed_as, &subject_of(tx, gone)?)?;
    }
    Ok(chosen.is_some())
}

/// Who was listed for a Brevo contact that is gone does not speak for its person any more: whoever does is listed.
fn hand_on_gone(tx: &Tx<'_>, link: &LinkRow, from: &IntercomContactId) -> Result<()> {
    if link.state != LinkState::BrevoGone {
        return Ok(());
    }
    tx.refile_notice("brevo_contact_gone", &format!("contact {from}"), &subject_of(tx, link)?)
}

/// A contact that was deleted, archived or merged away. What that leads to in Brevo is done elsewhere (`partings`).
fn gone(tx: &Tx<'_>, row: &IntercomRow, settings: &Settings, dirty: Dirty, now: DateTime<Utc>) -> Result<()> {
    let Some(link) = row.link else { return Ok(()) };
    let survivor = row.merged_into.as_ref().map(|id| tx.intercom_contact(id)).transpose()?.flatten();
    if let Some(survivor) = &survivor
        && row.state == ContactState::Merged
        && survivor.state == ContactState::Live
        && survivor.link != Some(link)
    {
        inherit(tx, survivor, link, dirty)?;
    }
    let subject = format!("contact {}", row.contact.id);
    for state in [ContactState::Archived, ContactState::Missing, ContactState::Deleted] {
        if let Some(kind) = gone_notice(state).filter(|_| state != row.state) {
            tx.clear_notice(kind, &subject)?;
        }
    }
    // What they had said no to is still to be told.
    let owes_no = !tx.last_nos(link)?.is_empty();
    if elect(tx, link)? {
        if let Some(link) = tx.link(link)? {
            hand_on_gone(tx, &link, &row.contact.id)?;
        }
        return tx.mark_dirty(link, if owes_no { Dirty::Consent } else { dirty });
    }
    // While it is merely missing, nothing is decided: the link waits for whoever it turns out to be.
    if row.state != ContactState::Missing {
        partings::left_intercom(tx, link, settings, now)?;
        tx.set_link_state(link, LinkState::Left)?;
        // But whoever it was merged into inherits it, once they are known.
        if row.state != ContactState::Merged || survivor.is_some() {
            let_go(tx, link)?;
        }
    }
    tx.give_up(link)?;
    if owes_no {
        tx.mark_dirty(link, Dirty::Consent)?;
    }
    let ours = partings::is_our_doing(tx, link)?;
    match gone_notice(row.state).filter(|_| !ours) {
        Some(kind) => tx.put_notice(kind, &subject, None, now),
        None => Ok(()),
    }
}

/// The survivor of a merge inherits the link and its base, unless it has one with a Brevo contact of its own. It is no
/// first link.
fn inherit(tx: &Tx<'_>, survivor: &IntercomRow, link: i64, dirty: Dirty) -> Result<()> {
    let own = survivor.link.map(|own| tx.link(own)).transpose()?.flatten();
    if own.as_ref().is_some_and(|own| own.brevo_id.is_some()) {
        return Ok(());
    }
    if let Some(own) = &own {
        // A link that was never written: nothing is lost with it.
        tx.set_link_email(own.id, None)?;
        tx.set_link_state(own.id, LinkState::Left)?;
        tx.give_up(own.id)?;
    }
    if let Some(link) = tx.link(link)? {
        reopen(tx, &link)?;
    }
    // Whoever shares the survivor's address goes along: the contact is to be given that, and what they say of it counts.
    let others = own.as_ref().map(|own| tx.members(own.id)).transpose()?.unwrap_or_default();
    let others = others.iter().filter(|row| row.state == ContactState::Live && row.contact.id != survivor.contact.id);
    let agreed = own.as_ref().map(link_consent).transpose()?.flatten();
    let brings = own.as_ref().map(|own| before_import(tx, own)).transpose()?.and_then(|own| own.consent);
    for row in others.chain([survivor]) {
        tx.set_member(&row.contact.id, Some(link), false)?;
        tx.set_unplaced(&row.contact.id, dirty)?;
        if own.is_some() {
            carry_opt_out(tx, &row.contact, agreed)?;
        }
    }
    if let Some(email) = own.and_then(|own| own.email)
        && brings.is_some_and(|brings| brings.brevo_out)
    {
        // A no that they had said in Brevo, and that no contact there has got yet, stays with their address.
        let (reason, at) = (OptOutReason::Blocklisted, survivor.contact.updated_at);
        tx.put_brevo_opt_out(&BrevoOptOut::brought(email, reason, at, FROM_A_MERGE))?;
    }
    tx.mark_dirty(link, dirty)
}

fn link_consent(link: &LinkRow) -> Result<Option<ConsentBase>> {
    Ok(base_of(link)?.consent)
}

/// And with an opt-out that is in force, or that has not been sent yet: what the people of the new address have agreed on
/// with Brevo says nothing about it.
fn carry_opt_out(tx: &Tx<'_>, contact: &IntercomContact, left: Option<ConsentBase>) -> Result<()> {
    let accepted = left.is_some_and(|consent| consent.intercom_out && !consent.brevo_out);
    if accepted || !contact.consent.email_opted_out() {
        return Ok(());
    }
    let Some(link) = tx.intercom_contact(&contact.id)?.and_then(|row| row.link) else { return Ok(()) };
    if new_opt_out(tx, link, &Consent::default(), &contact.consent)? {
        tx.mark_dirty(link, Dirty::Consent)?;
    }
    Ok(())
}

/// A member that leaves an address leaves with the consent it had.
fn carry_consent(tx: &Tx<'_>, contact: &IntercomContactId, consent: Option<ConsentBase>) -> Result<()> {
    if !consent.is_some_and(|consent| consent.brevo_out) {
        return Ok(());
    }
    let Some(row) = tx.intercom_contact(contact)? else { return Ok(()) };
    let Some(link) = row.link else {
        // They are nobody's, and it is in Brevo alone: it stays with their address, for whoever is made with that. But of those
        // who have agreed on something with a contact under it, it says nothing: as if they were joined.
        let Some(email) = row.contact.email else { return Ok(()) };
        let theirs = tx.link_by_email(&email)?;
        if let Some(theirs) = theirs.filter(|link| link.state == LinkState::Active && link.brevo_id.is_some())
            && link_consent(&theirs)?.is_some()
        {
            return Ok(());
        }
        let (reason, at) = (OptOutReason::Blocklisted, row.contact.updated_at);
        return tx.put_brevo_opt_out(&BrevoOptOut::brought(email, reason, at, FROM_A_GROUP));
    };
    let Some(link) = tx.link(link)? else { return Ok(()) };
    let mut base = base_of(&link)?;
    if base.consent.is_none() {
        base.consent = consent;
        let flights = Flights { may_loosen: true, ..flights_of(&link)? };
        settle_as(tx, link.id, &base, Some(&flights))?;
        if link.flights.is_some() {
            // What is on its way, perhaps to make them a contact, is watched as it was.
            tx.watch_like(link.id, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NOTICE_KINDS;
    use crate::reconcile::person::Notice;

    #[test]
    fn every_kind_of_notice_can_be_asked_for() {
        let sources = [
            include_str!("place.rs"),
            include_str!("place/moving.rs"),
            include_str!("people.rs"),
            include_str!("observe.rs"),
            include_str!("push.rs"),
        ];
        let literal = concat!("put_", "notice(\"");
        let written =
            sources.iter().flat_map(|source| source.split(literal).skip(1)).filter_map(|rest| rest.split('"').next());
        let kinds = written.chain(PLACING_NOTICES).chain(GONE_NOTICES).chain(Notice::KINDS);
        for kind in kinds {
            assert!(NOTICE_KINDS.contains(&kind), "{kind}");
        }
    }
}
