//! Which records are one person. Links are made by id and last; matching happens once, at the first link.

use crate::model::{BrevoContactId, Email, IntercomContactId, Role};
use chrono::{DateTime, Utc};

/// The id of a link: one person, one address, at most one Brevo contact.
pub type LinkId = i64;

/// A Brevo contact that one of a person's identifiers points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which contact.
    pub contact: BrevoContactId,
    /// The link that holds it already.
    pub link: Option<LinkId>,
    /// That link is about to take it to another address.
    pub moving: bool,
}

/// What the identifiers of an Intercom contact without a link point to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Candidates {
    /// A link whose address is the contact's: its group.
    pub group: Option<LinkId>,
    /// By external id ↔ EXT_ID.
    pub by_external_id: Option<Candidate>,
    /// By e-mail.
    pub by_email: Option<Candidate>,
    /// By phone, if asked.
    pub by_phone: Option<Candidate>,
    /// Whether there is anything to create a Brevo contact from (an e-mail; or a phone, if asked).
    pub identifiable: bool,
}

/// What to do with an Intercom contact that has no link yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLink {
    /// Others share its address: one group, one Brevo contact.
    JoinGroup(LinkId),
    /// Brevo has this person: link, under first-link rules.
    LinkTo(BrevoContactId),
    /// Brevo does not have this person.
    Create,
    /// External id and e-mail point to different people: neither is linked, both are listed.
    Conflict {
        /// What the external id points to.
        by_external_id: BrevoContactId,
        /// What the e-mail points to, or the holder's other identity.
        other: Option<BrevoContactId>,
    },
    /// Nothing to find or make anybody by.
    Unidentifiable,
    /// The contact that has the address is about to leave it: it goes first.
    Wait,
}

/// Decides the first link: external id, then e-mail, then phone.
pub fn first_link(candidates: &Candidates) -> FirstLink {
    let Candidates { group, by_external_id, by_email, by_phone, identifiable } = *candidates;
    if let Some(by_id) = by_external_id {
        if let Some(by_email) = by_email
            && by_email.contact != by_id.contact
        {
            return FirstLink::Conflict { by_external_id: by_id.contact, other: Some(by_email.contact) };
        }
        match (by_id.link, group) {
            // The same address: the group's own contact.
            (Some(link), Some(group)) if link == group => return FirstLink::JoinGroup(group),
            // Somebody with another address holds the contact that our external id names: never join two strangers.
            (Some(_), _) => return FirstLink::Conflict { by_external_id: by_id.contact, other: None },
            (None, Some(group)) => return FirstLink::JoinGroup(group),
            (None, None) => return FirstLink::LinkTo(by_id.contact),
        }
    }
    if let Some(group) = group {
        return FirstLink::JoinGroup(group);
    }
    if let Some(held) = by_email {
        return match held.link {
            None => FirstLink::LinkTo(held.contact),
            // Brevo still shows an address that its person has left in Intercom.
            Some(_) if held.moving => FirstLink::Wait,
            // Somebody gave a stranger's contact our address in Brevo: never join two strangers.
            Some(_) => FirstLink::Conflict { by_external_id: held.contact, other: None },
        };
    }
    match by_phone {
        Some(Candidate { link: Some(link), .. }) => FirstLink::JoinGroup(link),
        Some(Candidate { contact, link: None, .. }) => FirstLink::LinkTo(contact),
        None if identifiable => FirstLink::Create,
        None => FirstLink::Unidentifiable,
    }
}

/// A member of a group, as far as the choice of the primary goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which contact.
    pub id: IntercomContactId,
    /// User or lead.
    pub role: Role,
    /// When Intercom made it.
    pub created_at: DateTime<Utc>,
    /// It was the primary so far.
    pub primary: bool,
    /// It is there (not deleted, archived or merged away).
    pub live: bool,
}

/// The member that gives the fields: chosen once (user before lead, then created first) and kept while it is there.
pub fn primary(members: &[Member]) -> Option<&Member> {
    let live = || members.iter().filter(|member| member.live);
    live().find(|member| member.primary).or_else(|| {
        live().min_by(|a, b| {
            let rank = |member: &Member| (member.role == Role::Lead, member.created_at);
            rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id))
        })
    })
}

/// Who has the address that a person moves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Free,
    /// A Brevo contact that is linked to nobody.
    Unlinked(BrevoContactId),
    /// A link whose own address is another and that is not about to change it in Brevo: somebody gave its contact this
    /// address by hand.
    Stranger(LinkId),
    /// Another link.
    Linked {
        /// Which link.
        link: LinkId,
        /// The address that this link itself moves to, if it moves as a whole.
        moves_to: Option<Email>,
    },
}

/// What to do about a changed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Change the Brevo contact's address.
    Rename,
    /// Others stay at the old address: leave the group, with the consent it had, and find or make an own contact.
    LeaveGroup,
    /// An unlinked contact holds the new address: adopt it by first-link rules, with the stricter consent of both.
    Adopt(BrevoContactId),
    /// The holder moves too: it goes first (chains run from the free end).
    WaitFor(LinkId),
    /// The holder moves to our old address: exchange the links, rename nobody.
    Swap(LinkId),
    /// Another group has the new address: join it.
    Join(LinkId),
    /// A stranger's contact has it: nobody is renamed, both are listed.
    Conflict(LinkId),
}

/// Decides about a changed address. `alone`: no other live member has the old address.
pub fn rename(alone: bool, old: Option<&Email>, holder: &Holder) -> Rename {
    match holder {
        Holder::Stranger(link) => Rename::Conflict(*link),
        Holder::Linked { link, moves_to: Some(moves_to) } if alone && Some(moves_to) == old => Rename::Swap(*link),
        Holder::Linked { link, moves_to: Some(_) } => Rename::WaitFor(*link),
        Holder::Linked { link, moves_to: None } => Rename::Join(*link),
        _ if !alone => Rename::LeaveGroup,
        Holder::Unlinked(contact) => Rename::Adopt(*contact),
        Holder::Free => Rename::Rename,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the fields of `Candidates` want it")]
    fn at(contact: i64, link: Option<LinkId>) -> Option<Candidate> {
        Some(Candidate { contact: BrevoContactId::new(contact), link, moving: false })
    }

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    #[test]
    fn external_id_then_email_then_phone() {
        let all = Candidates { by_email: at(2, None), by_phone: at(3, None), identifiable: true, ..Default::default() };
        assert_eq!(first_link(&all), FirstLink::LinkTo(BrevoContactId::new(2)));
        let phone = Candidates { by_email: None, ..all };
        assert_eq!(first_link(&phone), FirstLink::LinkTo(BrevoContactId::new(3)));
        let by_id = Candidates { by_external_id: at(2, None), ..all };
        assert_eq!(first_link(&by_id), FirstLink::LinkTo(BrevoContactId::new(2)));
        assert_eq!(first_link(&Candidates { identifiable: true, ..Default::default() }), FirstLink::Create);
        assert_eq!(first_link(&Candidates::default()), FirstLink::Unidentifiable);
    }

    #[test]
    fn identifiers_that_point_to_different_people_link_nobody() {
        let both = Candidates { by_external_id: at(1, None), by_email: at(2, None), ..Default::default() };
        assert!(matches!(first_link(&both), FirstLink::Conflict { .. }));
        let held = Candidates { by_external_id: at(1, Some(9)), identifiable: true, ..Default::default() };
        assert!(matches!(first_link(&held), FirstLink::Conflict { .. }), "never join two strangers");
        let by_email = Candidates { by_email: at(1, Some(9)), identifiable: true, ..Default::default() };
        assert!(matches!(first_link(&by_email), FirstLink::Conflict { .. }), "nor by an address that Brevo shows");
        let moving = by_email.by_email.map(|held| Candidate { moving: true, ..held });
        assert_eq!(first_link(&Candidates { by_email: moving, ..by_email }), FirstLink::Wait);
    }

    #[test]
    fn one_address_is_one_group() {
        let grouped = Candidates { group: Some(4), by_email: at(1, Some(4)), identifiable: true, ..Default::default() };
        assert_eq!(first_link(&grouped), FirstLink::JoinGroup(4));
    }

    #[test]
    fn the_primary_is_a_user_then_the_eldest_and_is_kept() {
        let member = |id: &str, role, created, primary, live| Member {
            id: IntercomContactId::new(id),
            role,
            created_at: DateTime::from_timestamp(created, 0).unwrap(),
            primary,
            live,
        };
        let mut members = vec![
            member("lead", Role::Lead, 1, false, true),
            member("young", Role::User, 9, false, true),
            member("old", Role::User, 5, false, true),
        ];
        assert_eq!(primary(&members).unwrap().id.as_str(), "old");
        members[0].primary = true;
        assert_eq!(primary(&members).unwrap().id.as_str(), "lead", "chosen once");
        members[0].live = false;
        assert_eq!(primary(&members).unwrap().id.as_str(), "old", "until it is gone");
    }

    #[test]
    fn renames_never_link_blindly() {
        let (old, other) = (email("a@x.com"), email("c@x.com"));
        assert_eq!(rename(true, Some(&old), &Holder::Free), Rename::Rename);
        assert_eq!(rename(false, Some(&old), &Holder::Free), Rename::LeaveGroup);
        let unlinked = BrevoContactId::new(7);
        assert_eq!(rename(true, Some(&old), &Holder::Unlinked(unlinked)), Rename::Adopt(unlinked));
        let swap = Holder::Linked { link: 2, moves_to: Some(old.clone()) };
        assert_eq!(rename(true, Some(&old), &swap), Rename::Swap(2));
        let chain = Holder::Linked { link: 2, moves_to: Some(other) };
        assert_eq!(rename(true, Some(&old), &chain), Rename::WaitFor(2));
        assert_eq!(rename(true, Some(&old), &Holder::Linked { link: 2, moves_to: None }), Rename::Join(2));
        assert_eq!(rename(true, Some(&old), &Holder::Stranger(2)), Rename::Conflict(2));
    }
}
