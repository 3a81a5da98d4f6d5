//! Addresses that change: whom a moved contact goes to, what its Brevo contact is renamed to, and who exchanges contacts.

use super::behind::{No, keep_no, leave_to_nobody, make_way};
use super::{
    before_import, carry_consent, carry_opt_out, elect, first_link, hand_on_gone, is_gone_elsewhere, is_moving, join,
    link_consent, take_up_left_behind,
};
use crate::engine::imports::LONGEST_IMPORT;
use crate::engine::observe::{adopt_returned, base_of, flights_of, put_conflicts, settle_as, subject_of};
use crate::engine::read_back::keep_what_a_late_row_put;
use crate::engine::{Ready, Settings};
use crate::model::{BrevoContact, BrevoContactId, Consent, Email, SideName};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::identity::{self, Candidate, Holder, Rename};
use crate::reconcile::person::{Base, handed_over, not_logged_yet};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::{Result, Tx};
use chrono::{DateTime, Utc};

/// A contact whose address is not its link's. `false`: it waits for the holder of the new address.
pub(super) fn moved(
    tx: &Tx<'_>,
    row: &IntercomRow,
    link: &LinkRow,
    settings: &Settings,
    dirty: Dirty,
    now: DateTime<Utc>,
) -> Result<bool> {
    let others_stay = tx.members(link.id)?.iter().any(|member| {
        member.state == ContactState::Live && member.contact.id != row.contact.id && member.contact.email == link.email
    });
    let Some(new) = &row.contact.email else {
        // The address was taken away: the person stays linked, and Brevo keeps the address it has.
        if others_stay {
            return leave_group(tx, row, link, settings, dirty, now);
        }
        tx.put_notice("email_removed", &format!("contact {}", row.contact.id), None, now)?;
        tx.mark_dirty(link.id, dirty)?;
        return Ok(true);
    };
    if let Some(held) = tx.link_by_email(new)? {
        make_way(tx, &held, &row.contact)?;
    }
    if tx.link_by_email(new)?.is_none()
        && let Some(shown) = tx.brevo_contact_by_email(new)?
    {
        take_up_left_behind(tx, new, &shown)?;
    }
    let holder = holder(tx, new, link)?;
    match identity::rename(!others_stay, link.email.as_ref(), &holder) {
        Rename::WaitFor(other) if !others_stay && is_circle(tx, link, other)? => {
            // Three or more exchange their addresses in a circle: it is undone one exchange at a time.
            let Some(other) = tx.link(other)? else { return Ok(true) };
            if rows_cross(tx, link, &other)? {
                return Ok(false);
            }
            swap(tx, link, &other)?;
            tx.mark_dirty(other.id, dirty)?;
        }
        Rename::WaitFor(other) => {
            if is_stuck(tx, other)? {
                let detail = format!("its new e-mail is that of link {other}, which cannot leave it: it waits");
                tx.put_notice("identity_conflict", &format!("contact {}", row.contact.id), Some(&detail), now)?;
                if row.is_primary && others_stay {
                    // It may wait for ever: until then who stays speaks for the address.
                    elect(tx, link.id)?;
                    tx.mark_dirty(link.id, dirty)?;
                }
            }
            return Ok(false);
        }
        Rename::Rename => match crate::engine::readdress::brevo_wins(tx, row, link, settings, now)? {
            None => return Ok(false),
            Some(true) => {}
            Some(false) => {
                tx.set_link_email(link.id, Some(new))?;
                tx.set_rename(link.id, link.brevo_id.is_some().then_some(new))?;
                elect(tx, link.id)?;
                // Whoever could not have it, since this one's contact shows it, is one of them from now on.
                tx.address_is_free(new)?;
            }
        },
        Rename::Adopt(brevo) => {
            if let Some(sent) = may_be_made(link)? {
                tx.put_late_address(link.id, &sent, now + LONGEST_IMPORT)?;
            }
            if !link.answered && link.brevo_id.is_some() && link.import.is_none() {
                // Nobody reads any more what became of a write to the contact that they had: what it may have replaced is kept.
                let lost = not_logged_yet(&flights_of(link)?, SideName::Brevo);
                put_conflicts(tx, link.id, &lost, None, now)?;
            }
            adopt(tx, link, brevo, new)?;
            if link.state == LinkState::BrevoGone {
                // The contact that they had was deleted; the address that they have by now has another.
                tx.set_link_state(link.id, LinkState::Active)?;
            }
        }
        Rename::LeaveGroup => return leave_group(tx, row, link, settings, dirty, now),
        Rename::Conflict(other) => {
            let detail = format!("its new e-mail is that of a Brevo contact that is link {other}'s: nobody is renamed");
            tx.put_notice("identity_conflict", &format!("contact {}", row.contact.id), Some(&detail), now)?;
            elect(tx, link.id)?;
        }
        Rename::Join(other) => {
            let consent = consent_to_take_along(tx, link)?;
            tx.set_member(&row.contact.id, None, false)?;
            if elect(tx, link.id)? {
                hand_on_gone(tx, link, &row.contact.id)?;
            } else {
                if is_gone_elsewhere(link) {
                    tx.set_link_email(link.id, None)?;
                    tx.set_rename(link.id, None)?;
                }
                tx.set_link_state(link.id, LinkState::Left)?;
                tx.give_up(link.id)?;
                tx.clear_notice("brevo_contact_gone", &format!("contact {}", row.contact.id))?;
            }
            join(tx, &row.contact.id, other, dirty, now)?;
            carry_consent(tx, &row.contact.id, consent)?;
            carry_opt_out(tx, &row.contact, consent)?;
            let_go(tx, link.id)?;
        }
        Rename::Swap(other) => {
            let Some(other) = tx.link(other)? else { return Ok(true) };
            if rows_cross(tx, link, &other)? {
                return Ok(false);
            }
            swap(tx, link, &other)?;
            tx.mark_dirty(other.id, dirty)?;
        }
    }
    if let Some(left) = &link.email
        && tx.link_by_email(left)?.is_none()
        && let Some(shown) = tx.brevo_contact_by_email(left)?
        && let Some(follows) = tx.link_by_brevo(shown.id)?.filter(|follows| follows.id != link.id)
    {
        // Somebody's contact was given the address that is left: where addresses travel, they may take it now.
        tx.mark_dirty(follows.id, dirty)?;
    }
    tx.mark_dirty(link.id, dirty)?;
    Ok(true)
}

/// Others stay: somebody goes, with the consent that they had, and the Brevo contact stays with the rest. `false`: it waits for
/// the holder of its new address.
pub(super) fn leave_group(
    tx: &Tx<'_>,
    row: &IntercomRow,
    link: &LinkRow,
    settings: &Settings,
    dirty: Dirty,
    now: DateTime<Utc>,
) -> Result<bool> {
    tx.set_member(&row.contact.id, None, false)?;
    elect(tx, link.id)?;
    hand_on_gone(tx, link, &row.contact.id)?;
    tx.mark_dirty(link.id, dirty)?;
    let consent = consent_to_take_along(tx, link)?;
    if !first_link(tx, &row.contact, settings, dirty, Some(link.id), now)? {
        // It waits: until then it stays where it is, and its consent with it.
        tx.set_member(&row.contact.id, Some(link.id), false)?;
        elect(tx, link.id)?;
        return Ok(false);
    }
    // By their phone they may be one of the same again, of whom all is known.
    let goes = tx.intercom_contact(&row.contact.id)?.is_none_or(|now| now.link != Some(link.id));
    if goes {
        carry_consent(tx, &row.contact.id, consent)?;
        carry_opt_out(tx, &row.contact, consent)?;
    }
    Ok(true)
}

/// What was agreed on with the Brevo contact of those whom somebody leaves, and a no that it shows and no plan has seen yet.
fn consent_to_take_along(tx: &Tx<'_>, link: &LinkRow) -> Result<Option<ConsentBase>> {
    let agreed = link_consent(link)?;
    let shown = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten();
    if !shown.is_some_and(|contact| contact.consent.email_opted_out()) {
        return Ok(agreed);
    }
    let none = ConsentBase { intercom_out: false, brevo_out: false };
    Ok(Some(ConsentBase { brevo_out: true, ..agreed.unwrap_or(none) }))
}

fn holder(tx: &Tx<'_>, email: &Email, own: &LinkRow) -> Result<Holder> {
    let held = match tx.link_by_email(email)? {
        Some(link) => Some(link),
        None => match tx.brevo_contact_by_email(email)? {
            None => return Ok(Holder::Free),
            // Brevo's contact has the new address already (somebody was faster, or our own write is seen): no rename.
            Some(contact) if Some(contact.id) == own.brevo_id => return Ok(Holder::Free),
            Some(contact) => match tx.link_by_brevo(contact.id)? {
                None => return Ok(Holder::Unlinked(contact.id)),
                Some(link) if is_moving(&link, Some(email)) => {
                    return Ok(Holder::Linked { link: link.id, moves_to: link.email });
                }
                Some(link) => return Ok(Holder::Stranger(link.id)),
            },
        },
    };
    let Some(held) = held else { return Ok(Holder::Free) };
    let moves_to = moves_to(tx, &held)?.filter(|to| to != email);
    Ok(Holder::Linked { link: held.id, moves_to })
}

/// The address with which a request or an import that is on its way may make the person a contact. Should they have another
/// by then, it is one that they left: nobody is made for it.
fn may_be_made(link: &LinkRow) -> Result<Option<Email>> {
    if link.brevo_id.is_some() || (link.import.is_none() && link.flights.is_none()) {
        return Ok(None);
    }
    let sent = flights_of(link)?.email;
    Ok(if sent.is_some() { sent } else { base_of(link)?.email })
}

/// Where a link moves as a whole: nobody of it has its address any more, and somebody has another.
pub(super) fn moves_to(tx: &Tx<'_>, link: &LinkRow) -> Result<Option<Email>> {
    let members = tx.members(link.id)?;
    let live: Vec<&IntercomRow> = members.iter().filter(|member| member.state == ContactState::Live).collect();
    let stays = live.iter().any(|member| member.contact.email == link.email);
    Ok(if stays { None } else { live.iter().find_map(|member| member.contact.email.clone()) })
}

/// Whether the links that wait for one another from `next` on come back to `link`.
fn is_circle(tx: &Tx<'_>, link: &LinkRow, next: i64) -> Result<bool> {
    const LONGEST: usize = 100;
    let mut next = next;
    for _ in 0..LONGEST {
        let Some(there) = tx.link(next)? else { return Ok(false) };
        let Some(to) = moves_to(tx, &there)? else { return Ok(false) };
        match tx.link_by_email(&to)? {
            Some(held) if held.id == link.id => return Ok(true),
            Some(held) if held.id != there.id => next = held.id,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Whether whoever is to go first, from `next` on, goes nowhere: a stranger's contact shows the address that they have.
fn is_stuck(tx: &Tx<'_>, next: i64) -> Result<bool> {
    const LONGEST: usize = 100;
    let mut next = next;
    for _ in 0..LONGEST {
        let Some(there) = tx.link(next)? else { return Ok(false) };
        let Some(to) = moves_to(tx, &there)? else { return Ok(false) };
        match holder(tx, &to, &there)? {
            Holder::Stranger(_) => return Ok(true),
            Holder::Linked { link, moves_to: Some(_) } if link != there.id => next = link,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// An unlinked contact holds the person's address, seen before a rename or run into by it: it becomes the person's, by
/// first-link rules, with the stricter consent of both. The contact that the person had is left alone.
pub(in crate::engine) fn adopt(tx: &Tx<'_>, link: &LinkRow, brevo: BrevoContactId, email: &Email) -> Result<()> {
    // What was agreed on with the old contact says nothing about the new one, but an opt-out does: Brevo's goes along,
    // and Intercom's is news to the new contact.
    let no = their_no(tx, link)?;
    adopt_as(tx, link, brevo, email, no)
}

/// What the person had said no to in Brevo: by what was agreed on with the contact that they had and, where that is gone, by
/// what it showed last: no plan may have seen that.
fn their_no(tx: &Tx<'_>, link: &LinkRow) -> Result<No> {
    let gone = match link.brevo_id {
        Some(left) if tx.brevo_contact(left)?.is_none() => match tx.brevo_contact_as_it_was(left) {
            Err(error) if error.unreadable().is_some() => None,
            gone => gone?,
        },
        _ => None,
    };
    Ok(No::of(&base_of(link)?, &gone.map(|gone| gone.consent).unwrap_or_default()))
}

/// `no`: what somebody whose contact it was, or the person, had said no to in Brevo.
fn adopt_as(tx: &Tx<'_>, link: &LinkRow, brevo: BrevoContactId, email: &Email, no: No) -> Result<()> {
    let left = link.brevo_id.filter(|left| *left != brevo);
    if let Some(left) = left {
        leave_to_nobody(tx, link, left)?;
    }
    tx.set_brevo(link.id, Some(brevo))?;
    tx.set_link_email(link.id, Some(email))?;
    tx.set_rename(link.id, None)?;
    keep_no(tx, link.id, no)?;
    // That another had the contact with their address is over, and so is that theirs is gone.
    for over in ["identity_conflict", "brevo_contact_gone"] {
        tx.clear_notice(over, &subject_of(tx, link)?)?;
    }
    left.map_or(Ok(()), |left| offer(tx, left))
}

/// Nobody is left of the link: they have other addresses by now, or are gone. And nothing is on its way.
pub(in crate::engine) fn is_deserted(tx: &Tx<'_>, link: &LinkRow) -> Result<bool> {
    Ok(link.is_at_rest() && (link.state == LinkState::Left || tx.members(link.id)?.is_empty()))
}

/// Nobody may be left of the link any more: then its contact is for whoever is known by the address that it shows.
pub(in crate::engine) fn let_go(tx: &Tx<'_>, link: i64) -> Result<()> {
    let Some(link) = tx.link(link)? else { return Ok(()) };
    match link.brevo_id {
        Some(brevo) if is_deserted(tx, &link)? => offer(tx, brevo),
        _ => Ok(()),
    }
}

/// A contact is nobody's, or of a link that nobody is left of. It may show another person's address, since somebody gave
/// it that by hand: then they have been waiting for it, and nothing of their own will tell that it can be theirs now.
fn offer(tx: &Tx<'_>, brevo: BrevoContactId) -> Result<()> {
    let shown = match tx.brevo_contact(brevo) {
        // Whoever reads it anew sees whose it is.
        Err(error) if error.unreadable().is_some() => None,
        shown => shown?,
    };
    let Some(email) = shown.and_then(|contact| contact.email) else { return Ok(()) };
    if let Some(theirs) = tx.link_by_email(&email)? {
        if theirs.brevo_id == Some(brevo) || adopt_returned(tx, &theirs)? {
            return Ok(());
        }
        if theirs.brevo_id.is_none() {
            may_be_theirs(tx, theirs, Dirty::Live)?;
        }
    }
    tx.address_is_free(&email)
}

/// A link that nobody is left of has the contact that shows the person's address: it becomes theirs, with the stricter consent
/// of both. `false`: somebody is left of it, or something is on its way.
pub(in crate::engine) fn take_from_deserted(
    tx: &Tx<'_>,
    link: &LinkRow,
    holder: &LinkRow,
    brevo: BrevoContactId,
    email: &Email,
) -> Result<bool> {
    if !is_deserted(tx, holder)? {
        return Ok(false);
    }
    let mut no = their_no(tx, link)?;
    // Of text messages it shows itself what holds: nobody has looked at its people's yes since they left.
    no.email |= link_consent(holder)?.is_some_and(|consent| consent.brevo_out);
    without_contact(tx, holder)?;
    adopt_as(tx, link, brevo, email, no)?;
    Ok(true)
}

/// The contact that a person took up where they came to its address is gone: perhaps it was gone by then, and never theirs. But
/// a row of theirs, which was on its way when they came, has made one under the address that they had, and nobody else has that:
/// it is theirs, and is given the address that they have. (Left alone, it would be one too many as soon as they had another.)
/// `shown`: what the one that is gone was like. `false`: it is not so.
pub(in crate::engine) fn take_what_a_row_made(
    tx: &Tx<'_>,
    link: &LinkRow,
    shown: Option<&BrevoContact>,
    ready: &Ready,
    now: DateTime<Utc>,
) -> Result<bool> {
    let waits_for_nothing = link.state == LinkState::Active && link.import.is_none();
    let Some(email) = link.email.as_ref().filter(|_| waits_for_nothing) else { return Ok(false) };
    let Some((sent, _)) = tx.late_address_of(link.id, Some(email), now)? else { return Ok(false) };
    let Some(made) = tx.brevo_contact_by_email(&sent)? else { return Ok(false) };
    // Nothing but a row puts anybody on the technical list.
    let of_a_row = made.lists.contains(&ready.technical_list);
    if !of_a_row || tx.link_by_brevo(made.id)?.is_some() || tx.link_by_email(&sent)?.is_some() {
        return Ok(false);
    }
    let base = match base_of(link) {
        Err(error) if error.unreadable().is_some() => return Ok(false),
        base => base?,
    };
    let no = No::of(&base, &shown.map(|gone| gone.consent.clone()).unwrap_or_default());
    adopt_as(tx, link, made.id, email, no)?;
    tx.set_rename(link.id, Some(email))?;
    keep_what_a_late_row_put(tx, link.id, &made, ready)?;
    tx.mark_dirty(link.id, Dirty::Consent)?;
    Ok(true)
}

/// The link that has the contact which is called what the customer calls somebody, if everybody has left it for another
/// address: they may have shared another's meanwhile, and it is theirs again, like any that is nobody's. But who was deleted
/// is still of the link, and who is known by the address that the contact shows comes first.
pub(super) fn deserted_holder(tx: &Tx<'_>, found: &Candidate) -> Result<Option<LinkRow>> {
    let Some(holder) = found.link.map(|link| tx.link(link)).transpose()?.flatten() else { return Ok(None) };
    if !is_deserted(tx, &holder)? || !tx.members(holder.id)?.is_empty() {
        return Ok(None);
    }
    let shown = tx.brevo_contact(found.contact)?.and_then(|contact| contact.email);
    let known = shown.map(|email| tx.link_by_email(&email)).transpose()?.flatten();
    Ok(if known.is_some_and(|known| known.id != holder.id) { None } else { Some(holder) })
}

/// Nobody is left of the link, and its contact becomes another's. Who comes to the link is made anew.
pub(super) fn give_away(tx: &Tx<'_>, holder: &LinkRow, brevo: BrevoContactId) -> Result<()> {
    leave_to_nobody(tx, holder, brevo)?;
    tx.set_rename(holder.id, None)?;
    without_contact(tx, holder)
}

/// The link's Brevo contact is somebody else's from now on, and whoever comes back to the link is made anew. What was agreed
/// on with the old contact says nothing about the new one: compared with that, all that it does not show would count as
/// cleared. What stays is an opt-out.
fn without_contact(tx: &Tx<'_>, link: &LinkRow) -> Result<()> {
    let no = No::of(&base_of(link)?, &Consent::default());
    tx.free_phones(link.id)?;
    tx.set_brevo(link.id, None)?;
    keep_no(tx, link.id, no)
}

/// Somebody gave the person's Brevo contact another address by hand, and a contact that is nobody's (or of a link that
/// nobody is left of) shows the person's: by it they are known in Intercom, and an opt-out there is one of that address.
/// So that one becomes theirs. The link as it is afterwards.
///
/// Whoever has no contact takes it, too, as the request that makes them one would find it: they need not be somebody for whom
/// one would be made, and opt-outs travel all the same.
pub(in crate::engine) fn adopt_present_holder(tx: &Tx<'_>, link: LinkRow) -> Result<LinkRow> {
    let Some(email) = &link.email else { return Ok(link) };
    // What is on its way, or waits for its answer, is about the contact that the person has.
    if link.import.is_some() || (link.flights.is_some() && !link.answered) {
        return Ok(link);
    }
    if let Some(own) = link.brevo_id {
        // Of one that is gone, nobody knows where it would be by now.
        let Some(shown) = tx.brevo_contact(own)? else { return Ok(link) };
        if shown.email.as_ref() == Some(email) {
            return Ok(link);
        }
    }
    let Some(holder) = tx.brevo_contact_by_email(email)? else { return Ok(link) };
    if link.brevo_id == Some(holder.id) {
        return Ok(link);
    }
    match tx.link_by_brevo(holder.id)? {
        None if link.brevo_id.is_some() => adopt(tx, &link, holder.id, email)?,
        None => {
            // First-linked. A no that they bring stays, and what shows the contact as subscribed is nobody's yes.
            let brings = match base_of(&link) {
                Err(error) if error.unreadable().is_some() => No::default(),
                base => No::of(&base?, &Consent::default()),
            };
            tx.set_brevo(link.id, Some(holder.id))?;
            keep_no(tx, link.id, brings)?;
        }
        Some(deserted) if take_from_deserted(tx, &link, &deserted, holder.id, email)? => {}
        _ => return Ok(link),
    }
    Ok(tx.link(link.id)?.unwrap_or(link))
}

/// A contact that shows the person's address may be theirs by now. Whoever has none takes it at once: while the limits hold
/// those who are to be made, nobody plans for them, and an opt-out would wait for that. Whose contact was given another address
/// takes this one as soon as nothing is on its way. The contact that they have then.
pub(in crate::engine) fn may_be_theirs(tx: &Tx<'_>, theirs: LinkRow, dirty: Dirty) -> Result<Option<BrevoContactId>> {
    tx.mark_dirty(theirs.id, dirty)?;
    let is_here = |row: &IntercomRow| row.state == ContactState::Live && row.contact.email == theirs.email;
    let comes = theirs.brevo_id.is_none() && theirs.state == LinkState::Active;
    if !comes || !tx.members(theirs.id)?.iter().any(is_here) {
        return Ok(theirs.brevo_id);
    }
    Ok(adopt_present_holder(tx, theirs)?.brevo_id)
}

/// A row of the one has left, and one of the other has not. What is on its way to the one's contact goes along with that only
/// once the other's has left, too, or stays behind: unwatched, it would pass for an edit when it lands. Both come soon.
fn rows_cross(tx: &Tx<'_>, a: &LinkRow, b: &LinkRow) -> Result<bool> {
    let (Some(of_a), Some(of_b)) = (a.import, b.import) else { return Ok(false) };
    let filling = tx.filling_imports()?;
    Ok(filling.contains(&of_a) != filling.contains(&of_b))
}

/// Two people exchanged addresses: the links are re-pointed and nobody is renamed. Each side's fields go to the new
/// partner, whose values count as unchanged.
fn swap(tx: &Tx<'_>, a: &LinkRow, b: &LinkRow) -> Result<()> {
    let held_up = |link: &LinkRow| -> Result<Option<Email>> {
        let held = tx.link_waits(link.id)?.and_then(|waits| waits.rename_held);
        Ok(held.filter(|held| link.email.as_ref() == Some(held)))
    };
    let (held_of_a, held_of_b) = (held_up(a)?, held_up(b)?);
    tx.set_link_email(a.id, None)?;
    tx.set_link_email(b.id, a.email.as_ref())?;
    tx.set_link_email(a.id, b.email.as_ref())?;
    tx.swap_brevo(a, b)?;
    // A row that is on its way lands on the Brevo contact, whoever that is by now: nothing else is written there before.
    // (One that has not left yet is overtaken, and stays behind.)
    let filling = tx.filling_imports()?;
    let stays_behind = |link: &LinkRow| link.import.is_some_and(|import| filling.contains(&import));
    let go_along = !stays_behind(a) && !stays_behind(b);
    if go_along {
        tx.swap_imports(a, b)?;
    }
    // What an import was to set is watched with that alone: without it, nobody would ever see it landed. And of a row that
    // stays behind nothing has been agreed on.
    let as_it_is = |link: &LinkRow| -> Result<(LinkRow, Base)> {
        let base = if stays_behind(link) { before_import(tx, link)? } else { base_of(link)? };
        let mut was = link.clone();
        if link.import.is_some() && !go_along {
            (was.flights, was.answered, was.verify_after) = (None, true, None);
        }
        Ok((was, base))
    };
    let ((was_a, base_a), (was_b, base_b)) = (as_it_is(a)?, as_it_is(b)?);
    for (link, own, (partner, theirs), held) in
        [(a, &base_a, (&was_b, &base_b), held_of_b), (b, &base_b, (&was_a, &base_a), held_of_a)]
    {
        take_over(tx, link, own, theirs, partner)?;
        // A contact that was still to be given the address goes on to be given it, also if another one shows that and holds it
        // up: it shows neither of the two.
        tx.set_rename(link.id, partner.rename_to.as_ref().or(held.as_ref()))?;
        if is_gone_elsewhere(partner) {
            // Whom that was of has the other contact now, and this one's person was never deleted.
            if let Some(link) = tx.link(link.id)? {
                without_contact(tx, &link)?;
            }
            tx.set_rename(link.id, None)?;
        }
        if link.state == LinkState::BrevoGone && partner.state != LinkState::BrevoGone {
            tx.clear_notice("brevo_contact_gone", &subject_of(tx, link)?)?;
            tx.set_link_state(link.id, LinkState::Active)?;
        }
    }
    Ok(())
}

/// What became of people whose Brevo contacts show one another's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Knot {
    /// There is none.
    None,
    /// One of them is in the middle of a write.
    Busy,
    /// They have exchanged their contacts.
    Undone,
}

/// A person's Brevo contact is to take an address that another's shows, and that one is to take this one's, perhaps by way
/// of more people: none of them could ever be renamed. It comes about when people exchange their addresses while the
/// import that makes them is on its way: nobody knew then that there would be contacts to exchange.
pub(in crate::engine) fn unknot(tx: &Tx<'_>, id: i64) -> Result<Knot> {
    const LONGEST: usize = 100;
    let mut circle: Vec<LinkRow> = Vec::new();
    let mut next = id;
    loop {
        let Some(link) = tx.link(next)? else { return Ok(Knot::None) };
        let shown = link.brevo_id.map(|contact| tx.brevo_contact(contact)).transpose()?.flatten();
        let (Some(wanted), Some(shown)) = (&link.email, shown.and_then(|contact| contact.email)) else {
            return Ok(Knot::None);
        };
        let Some(holder) = tx.brevo_contact_by_email(wanted)? else { return Ok(Knot::None) };
        let Some(holder) = tx.link_by_brevo(holder.id)? else { return Ok(Knot::None) };
        if *wanted == shown || link.state != LinkState::Active || circle.len() == LONGEST {
            return Ok(Knot::None);
        }
        next = holder.id;
        circle.push(link);
        if next == id {
            break;
        }
        if circle.iter().any(|link| link.id == next) {
            return Ok(Knot::None);
        }
    }
    if circle.iter().any(|link| link.import.is_some() || (link.flights.is_some() && !link.answered)) {
        return Ok(Knot::Busy);
    }
    for link in &circle {
        tx.set_brevo(link.id, None)?;
    }
    for (at, link) in circle.iter().enumerate() {
        let before = &circle[(at + 1) % circle.len()];
        let (own, theirs) = (base_of(link)?, base_of(before)?);
        tx.set_brevo(link.id, before.brevo_id)?;
        take_over(tx, link, &own, &theirs, before)?;
        tx.set_rename(link.id, None)?;
        tx.mark_dirty(link.id, Dirty::Live)?;
    }
    Ok(Knot::Undone)
}

/// What is agreed on with a Brevo contact that was another's: its fields are given anew, and of its lists stays known on which
/// our rules had put it, so that whom they do not want there leaves them. Consent stays with the address, and whoever comes
/// brings the opt-out that they had: the stricter of both. Under which address the contact had it stays known, too: another one
/// by the next plan may have lifted it.
///
/// What is on its way to the contact, or has not been read back yet, is watched on: what we last saw of the contact is from
/// before that.
pub(in crate::engine) fn take_over(
    tx: &Tx<'_>,
    link: &LinkRow,
    own: &Base,
    theirs: &Base,
    before: &LinkRow,
) -> Result<()> {
    let brings = own.consent.is_some_and(|consent| consent.brevo_out);
    let consent = match (own.consent, theirs.consent) {
        (Some(own), Some(theirs)) => Some(ConsentBase {
            intercom_out: own.intercom_out && theirs.intercom_out && !brings,
            brevo_out: theirs.brevo_out || brings,
        }),
        // With the contact nothing has been agreed on: an opt-out in Intercom is news to it.
        (Some(_), None) => brings.then_some(ConsentBase { intercom_out: false, brevo_out: true }),
        // And so it is where the one who comes had agreed on nothing yet.
        (None, theirs) => theirs.map(|theirs| ConsentBase { intercom_out: false, ..theirs }),
    };
    // The same of text messages: whoever said no to them keeps their phone.
    let brings_sms_no = own.sms.is_some_and(|sms| sms.brevo_out);
    let no = ConsentBase { intercom_out: false, brevo_out: true };
    let sms = if brings_sms_no { Some(no) } else { theirs.sms };
    let mut flights = flights_of(before)?;
    flights.may_loosen |= brings;
    flights.brings_sms_no |= brings_sms_no;
    // What Brevo alone gives it had given to whoever spoke for the others.
    let (fields, lists, spoke) = (handed_over(theirs), theirs.lists.clone(), theirs.spoke.clone());
    let base = Base { consent, sms, email: theirs.email.clone(), fields, lists, spoke, ..Base::default() };
    settle_as(tx, link.id, &base, Some(&flights).filter(|flights| !flights.is_empty()))?;
    if before.flights.is_some() { tx.watch_like(link.id, before) } else { Ok(()) }
}
