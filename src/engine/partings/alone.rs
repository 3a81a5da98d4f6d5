//! Whether somebody whom a deletion is about is really gone, and was anybody whose record is ours to write.

use super::super::filters::counts;
use super::super::{Connection, EngineError};
use crate::mapping::Expression;
use crate::model::{BrevoContactId, ContactKey, Email, Fetched, Observation, Priority, SideName, Value};
use crate::reconcile::identity::{self, Member};
use crate::reconcile::{company, figures};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow};
use crate::store::partings::Parting;
use crate::store::{Result as Stored, Tx};
use std::collections::BTreeSet;

/// How far merges are followed: into somebody who was merged in turn.
const MOST_MERGES: usize = 16;

pub(super) fn is_gone(row: &IntercomRow) -> bool {
    matches!(row.state, ContactState::Deleted | ContactState::Archived)
}

/// Deleted or archived, each of them. One that was merged into another lives on there, as long as that one does, and of one
/// that is missing nobody knows yet: a merge is never a deletion.
pub(super) fn all_are_gone(tx: &Tx<'_>, members: &[IntercomRow]) -> Stored<bool> {
    if !members.iter().any(is_gone) {
        return Ok(false);
    }
    for member in members {
        let was_merged = member.state == ContactState::Merged;
        if !is_gone(member) && (!was_merged || !lives_on_in_nobody(tx, member)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whoever a contact was merged into is gone as well.
fn lives_on_in_nobody(tx: &Tx<'_>, merged: &IntercomRow) -> Stored<bool> {
    let mut into = merged.merged_into.clone();
    for _ in 0..MOST_MERGES {
        let Some(id) = into else { return Ok(false) };
        match tx.intercom_contact(&id)? {
            Some(row) if row.state == ContactState::Merged => into = row.merged_into,
            row => return Ok(row.is_some_and(|row| is_gone(&row))),
        }
    }
    Ok(false)
}

/// Whether the filter had left in somebody who is gone in Intercom, by what was last seen of them. Where that cannot be told,
/// they are left alone.
pub(super) fn took_part(
    tx: &Tx<'_>,
    link: &LinkRow,
    members: &[IntercomRow],
    filter: Option<&Expression>,
    counting: Option<&Expression>,
) -> Stored<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let gone: Vec<&IntercomRow> = members.iter().filter(|row| is_gone(row)).collect();
    let of = |row: &&IntercomRow| Member {
        id: row.contact.id.clone(),
        role: row.contact.role,
        created_at: row.contact.created_at,
        primary: row.is_primary,
        live: true,
    };
    let candidates: Vec<Member> = gone.iter().map(of).collect();
    let spoke = identity::primary(&candidates).map(|member| &member.id);
    let Some(spoke) = gone.iter().find(|row| Some(&row.contact.id) == spoke) else { return Ok(false) };
    let mut record = spoke.contact.fields.clone();
    let names = tx.tags()?;
    let tags: BTreeSet<_> = gone.iter().flat_map(|row| &row.contact.tags.items).collect();
    record
        .extend(Value::list(tags.into_iter().filter_map(|tag| names.get(tag).cloned())).map(|it| ("tags".into(), it)));
    let companies = tx.contact_companies(&spoke.contact.id)?;
    let companies: Vec<_> = companies.iter().filter_map(|id| tx.company(id).transpose()).collect::<Stored<Vec<_>>>()?;
    if let Some(picked) = company::pick(&companies, link.company.as_ref()) {
        record.extend(picked.fields.iter().map(|(path, value)| (format!("company.{path}"), value.clone())));
    }
    let (mut conversations, mut seen) = (Vec::new(), BTreeSet::new());
    for row in &gone {
        for conversation in tx.conversations_of(&row.contact.id)? {
            if seen.insert(conversation.id.clone()) && counts(tx, &conversation, counting)? {
                conversations.push(conversation);
            }
        }
    }
    record.extend(figures::figures(&conversations, &spoke.contact.fields));
    Ok(filter.holds(None, &record).unwrap_or(false))
}

/// Whether Brevo has somebody whose contact was deleted there after all: under the address, or as any of those who are still
/// in Intercom. A member whose address is another by now is not who was deleted.
pub(super) fn is_in_brevo(
    tx: &Tx<'_>,
    link: &LinkRow,
    members: &[IntercomRow],
    deleted: BrevoContactId,
) -> Stored<bool> {
    let live = || members.iter().filter(|row| row.state == ContactState::Live);
    if live().any(|row| row.contact.email.is_some() && row.contact.email != link.email) {
        return Ok(true);
    }
    if let Some(email) = &link.email
        && tx.brevo_contact_by_email(email)?.is_some()
    {
        return Ok(true);
    }
    for id in external_ids(tx, members, Some(deleted))? {
        if tx.brevo_contact_by_ext_id(&id)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the customer calls them, on either side.
fn external_ids(tx: &Tx<'_>, members: &[IntercomRow], brevo: Option<BrevoContactId>) -> Stored<BTreeSet<String>> {
    let there = brevo.map(|id| tx.brevo_contact_as_it_was(id)).transpose()?.flatten();
    let ids = members.iter().filter_map(|row| row.contact.external_id.clone());
    // What no path can carry nobody can be made with.
    let usable = |id: &String| !id.trim().is_empty() && !id.chars().all(|c| c == '.');
    Ok(ids.chain(there.and_then(|it| it.ext_id)).filter(usable).collect())
}

impl Connection {
    /// Asks both sides for somebody who is gone on one: by the ids that are known, by address and by what the customer calls
    /// them. `false`: more have the address in Intercom than a search shows.
    pub(super) async fn ask_for_gone(&self, row: &Parting, priority: Priority) -> Result<bool, EngineError> {
        if !self.ask_both(row.link, row.side, priority).await? {
            return Ok(false);
        }
        let (id, side) = (row.link, row.side);
        let (ids, emails, known) = self
            .store
            .read(move |tx| {
                let Some(link) = tx.link(id)? else { return Ok((BTreeSet::new(), BTreeSet::new(), BTreeSet::new())) };
                let members = tx.members(id)?;
                let ids = external_ids(tx, &members, link.brevo_id)?;
                let known: BTreeSet<_> = members.iter().map(|row| row.contact.id.clone()).collect();
                let emails = members.into_iter().filter_map(|row| row.contact.email);
                let emails: BTreeSet<Email> = emails.filter(|email| Some(email) != link.email.as_ref()).collect();
                Ok((ids, emails, known))
            })
            .await?;
        if side == SideName::Intercom {
            for key in ids.into_iter().map(ContactKey::BrevoExtId).chain(emails.into_iter().map(ContactKey::BrevoEmail))
            {
                self.confirm(key, priority).await?;
            }
            return Ok(true);
        }
        for id in ids {
            let read_began = self.now();
            let found = self.intercom.fetch(&ContactKey::IntercomExternalId(id), priority).await?;
            let Fetched::Found(shown, _) = found else { continue };
            let Observation::IntercomContact(contact) = &*shown else { continue };
            // The index may still have those who are gone: they were asked for by id.
            let somebody_else = !known.contains(&contact.id);
            let source = self.source(0, false, read_began, Dirty::Live)?;
            let (link, side) = (row.link, row.side);
            self.store
                .write(move |tx| {
                    source.apply(tx, &shown)?;
                    // The customer has them under another address.
                    if somebody_else { super::end(tx, link, side) } else { Ok(()) }
                })
                .await?;
        }
        Ok(true)
    }
}
