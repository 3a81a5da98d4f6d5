//! Contacts that Intercom no longer knows by id and of which nothing says why.
//!
//! Up to version 2.15 a merged contact is a 404 like a deleted one, and a workspace that does not know 2.16 cannot be
//! asked which it is. So it is not taken for a deletion before its other identifiers were looked for, and that not before
//! the index of the search has caught up: the wait is a time in the store, and outlasts a restart.

use super::cycle::stops_everything;
use super::inbox::is_refusal;
use super::{Connection, EngineError};
use crate::model::{ContactKey, IntercomContactId, Observation, Priority};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::Dirty;
use crate::store::{Result as Stored, Tx};
use chrono::TimeDelta;

/// How long the search index may lag behind: "a few minutes", says Intercom.
pub(super) const INDEX_LAG: TimeDelta = TimeDelta::minutes(15);
/// When a contact is looked for again under a key that the search does not take. It may not be the key that is wrong, so
/// that is no deletion.
const AFTER_REFUSAL: TimeDelta = TimeDelta::hours(1);
/// When it is looked for again after a failure that may pass.
const AFTER_FAILURE: TimeDelta = TimeDelta::minutes(1);
/// Contacts looked for in one go: each takes up to two searches, which have a budget of their own.
const MOST: usize = 50;

impl Connection {
    /// Looks for what has been missing long enough. How many cases that settled.
    pub(super) async fn look_for_missing(&self, priority: Priority) -> Result<u64, EngineError> {
        let now = self.now();
        let due = self.store.read(move |tx| tx.missing_due(now, MOST)).await?;
        let mut settled = 0;
        for id in due {
            match self.look_for(&id, priority).await {
                Ok(()) => settled += 1,
                Err(EngineError::Store(error)) => self.spare::<()>(Err(error.into())).await.map(drop)?,
                Err(error) if matches!(&error, EngineError::Side(_)) && !stops_everything(&error) => {
                    tracing::warn!("a contact that is missing cannot be looked for yet: {}", error.for_log());
                    // It goes behind the others: it may be this one alone that cannot be looked for.
                    let at = self.now() + if is_refusal(&error) { AFTER_REFUSAL } else { AFTER_FAILURE };
                    self.store.write(move |tx| tx.set_gone_check(&id, at)).await?;
                    if !is_refusal(&error) {
                        return Ok(settled);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    async fn look_for(&self, id: &IntercomContactId, priority: Priority) -> Result<(), EngineError> {
        let lost = id.clone();
        let known = self.store.read(move |tx| tx.intercom_contact(&lost)).await?;
        let Some(lost) = known.filter(|row| row.state == ContactState::Missing) else { return Ok(()) };
        let keys = [
            lost.contact.external_id.clone().map(ContactKey::IntercomExternalId),
            lost.contact.email.clone().map(ContactKey::IntercomEmail),
        ];
        let mut refused = None;
        for key in keys.into_iter().flatten() {
            let read_began = self.now();
            let mut shown = match self.intercom.find_all(&key, priority).await {
                Ok((shown, _)) => shown,
                Err(error) => {
                    let error = EngineError::from(error);
                    if !is_refusal(&error) {
                        return Err(error);
                    }
                    // The other key may still find somebody.
                    refused = Some(error);
                    continue;
                }
            };
            if shown.len() > 1 {
                // Which of them it has become cannot be told. One address is one link, so it goes on with them anyway: they are
                // placed before it is left.
                self.keep_found(shown, read_began).await?;
                self.place(Dirty::Live).await?;
                continue;
            }
            let Some(shown) = shown.pop() else { continue };
            let source = self.source(0, false, read_began, Dirty::Live)?;
            let (lost, by_external_id) = (lost.clone(), matches!(key, ContactKey::IntercomExternalId(_)));
            let found = self
                .store
                .write(move |tx| {
                    let Observation::IntercomContact(contact) = &shown else { return Ok(false) };
                    source.apply(tx, &shown)?;
                    let survives = is_survivor(tx, &lost, &contact.id, by_external_id)?;
                    if survives {
                        tx.set_intercom_state(&lost.contact.id, ContactState::Merged, Some(&contact.id))?;
                        tx.set_unplaced(&lost.contact.id, Dirty::Live)?;
                    }
                    Ok(survives)
                })
                .await?;
            if found {
                return Ok(());
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        // Only now it is a deletion.
        self.store
            .write(move |tx| {
                if tx.intercom_contact(&lost.contact.id)?.is_some_and(|row| row.state == ContactState::Missing) {
                    tx.set_intercom_state(&lost.contact.id, ContactState::Deleted, None)?;
                    tx.set_unplaced(&lost.contact.id, Dirty::Live)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// Whether a contact that shares an identifier with the lost one is what became of it.
///
/// By external id: yes, for that is the customer's own name for one person, and Intercom gives it to one contact at a
/// time. By e-mail: only somebody who is nobody's yet. A member of the lost one's own group is another contact of that
/// address, and the group goes on with it without anybody's having been merged; a member of any other link is a person
/// whom we know already, who at most came to have the address, and who must not be given a second person's history and
/// opt-outs. (A live contact without a link that shares the address would join its group in any case: the address is
/// what makes a group. Calling it the survivor only says why.)
fn is_survivor(tx: &Tx<'_>, lost: &IntercomRow, candidate: &IntercomContactId, by_external_id: bool) -> Stored<bool> {
    let Some(candidate) = tx.intercom_contact(candidate)? else { return Ok(false) };
    if candidate.state != ContactState::Live || candidate.contact.id == lost.contact.id {
        return Ok(false);
    }
    Ok(if by_external_id {
        candidate.contact.external_id == lost.contact.external_id
    } else {
        candidate.link.is_none() && candidate.contact.email == lost.contact.email
    })
}
