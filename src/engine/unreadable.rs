//! Rows of the state that cannot be read back. One such row holds up nobody: what was being done with it is undone, it is
//! logged and listed by its id, and it is read anew at the vendor. What replaces it may be any read that shows the record.
//!
//! What both sides agreed on about a person cannot be read anew: that person is listed and left alone, because planned
//! without it they might be put back on a list that they were taken off. But an opt-out depends on nothing that was agreed
//! on: a new one reaches Brevo all the same.

use super::{Connection, EngineError};
use crate::model::{
    BrevoContactId, Consent, ContactChange, ContactKey, Email, ErrorKind, Fields, IntercomContact, IntercomContactId,
    Partial, Priority, Role, Write,
};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkState};
use crate::store::listings::{Change, NewFailure};
use crate::store::{Record, Result, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;

/// Under which field such a row is listed.
pub const FIELD: &str = "state";
/// How long after a failure that may pass an opt-out is sent again.
const AGAIN: TimeDelta = TimeDelta::seconds(30);

/// Does something with one record. `None`: something of it could not be read; it is undone and listed.
pub(super) fn sparing<T>(tx: &Tx<'_>, now: DateTime<Utc>, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    match tx.attempt(work) {
        Ok(done) => Ok(Some(done)),
        Err(error) => note(tx, error, now).map(|()| None),
    }
}

/// Does something with each of many records: in one go, and one by one only if something cannot be read.
pub(super) fn sparing_each<I, T>(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    items: &[I],
    work: impl Fn(&I) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    match tx.attempt(|| items.iter().map(|item| work(item).map(Some)).collect()) {
        Err(error) if error.unreadable().is_some() => {
            items.iter().map(|item| sparing(tx, now, || work(item))).collect()
        }
        done => done,
    }
}

/// A view that is about to be replaced by what was observed: if it cannot be read, none is known.
/// The flag says whether it was so.
pub(super) fn replaceable<T>(tx: &Tx<'_>, known: Result<Option<T>>) -> Result<(Option<T>, bool)> {
    match known {
        Err(StoreError::Unreadable { record, cause }) => {
            tracing::error!(%record, "the state holds something unreadable, which is replaced: {cause}");
            tx.clear_failure(&record.to_string(), FIELD)?;
            Ok((None, true))
        }
        known => Ok((known?, false)),
    }
}

/// Lists a row that cannot be read, and asks for it anew. Any other error stays one.
pub(super) fn note(tx: &Tx<'_>, error: StoreError, now: DateTime<Utc>) -> Result<()> {
    let StoreError::Unreadable { record, cause } = error else { return Err(error) };
    tracing::error!(%record, "the state holds something unreadable: {cause}");
    let (link, next) = match &record {
        Record::Link(id) => (Some(*id), "the person is left alone"),
        _ => (None, "it is read anew"),
    };
    let message = format!("what the state holds of it cannot be read ({cause}); {next}");
    let subject = record.to_string();
    tx.put_failure(&NewFailure::left_out(link, &subject, FIELD, &message), now)?;
    match record {
        Record::Intercom(id) => tx.ask_for(&ContactKey::Intercom(id)),
        Record::Brevo(id) => tx.ask_for(&ContactKey::Brevo(id)),
        Record::Conversation(id) => tx.want_conversation(&id).map(drop),
        // Each read of companies shows all of them.
        Record::Company(_) => Ok(()),
        Record::Link(id) => {
            tx.leave_import(id)?;
            tx.set_members_placed(id)?;
            tx.drop_intent(id, None, true)?;
            // An opt-out is still owed.
            if tx.link(id)?.is_some_and(|link| link.dirty == Dirty::Consent) { Ok(()) } else { tx.give_up(id) }
        }
    }
}

/// The opt-out of somebody for whom nothing can be planned.
pub(super) struct OwedOptOut {
    pub(super) link: i64,
    contact: BrevoContactId,
    change: ContactChange,
}

/// A new opt-out of a person of whom something cannot be read. Only a new one: whether an old one still stands, or the
/// person has opted in in Brevo since, is among what was agreed on.
pub(super) fn owed_opt_out(tx: &Tx<'_>, link: i64, error: &StoreError) -> Result<Option<OwedOptOut>> {
    let Some(row) = tx.link(link)?.filter(|row| row.state == LinkState::Active && row.dirty == Dirty::Consent) else {
        return Ok(None);
    };
    let (Some(contact), Some(_)) = (row.brevo_id, error.unreadable()) else { return Ok(None) };
    let members = match tx.members(link) {
        // It is read anew, and says then what it said.
        Err(error) if error.unreadable().is_some() => return Ok(None),
        members => members?,
    };
    let live = || members.iter().filter(|row| row.state == ContactState::Live).map(|row| &row.contact.consent);
    let change = ContactChange {
        email_opted_out: live().any(Consent::email_opted_out),
        sms_opted_out: live().any(|consent| consent.sms_opted_out),
        ..ContactChange::default()
    };
    Ok((!change.is_empty()).then_some(OwedOptOut { link, contact, change }))
}

/// A contact that is gone and of which nothing can be read: what takes its place says only that
/// it was there, and under which address.
pub(super) fn stand_in(id: &IntercomContactId, email: Option<Email>) -> IntercomContact {
    IntercomContact {
        id: id.clone(),
        external_id: None,
        role: Role::Lead,
        email,
        created_at: DateTime::<Utc>::default(),
        updated_at: DateTime::<Utc>::default(),
        consent: Consent::default(),
        tags: Partial { items: BTreeSet::new(), complete: true },
        companies: Partial { items: BTreeSet::new(), complete: true },
        fields: Fields::default(),
    }
}

impl Connection {
    /// An error outside a transaction: noted if it is about one row, else it stays one.
    pub(super) async fn spare<T>(
        &self,
        result: std::result::Result<T, EngineError>,
    ) -> std::result::Result<Option<T>, EngineError> {
        match result {
            Err(EngineError::Store(error)) if error.unreadable().is_some() => {
                let now = self.now();
                self.store.write(move |tx| note(tx, error, now)).await?;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Sends the opt-outs of people for whom nothing else is sent. How many were taken.
    pub(super) async fn send_owed_opt_outs(
        &self,
        owed: Vec<OwedOptOut>,
        priority: Priority,
    ) -> std::result::Result<u64, EngineError> {
        let mut taken = 0;
        for OwedOptOut { link, contact, change } in owed {
            let answer = self.brevo.write(&Write::UpdateContact(contact, change), priority).await;
            taken += u64::from(answer.is_ok());
            let now = self.now();
            let (outcome, fatal) = match answer {
                Ok(_) => (Ok(()), None),
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => (Err(true), Some(error)),
                Err(error) => (Err(error.is_transient()), None),
            };
            self.store
                .write(move |tx| match outcome {
                    // It sets a flag, and nothing else: to send it twice changes nothing.
                    Err(true) => tx.postpone(link, now + AGAIN, false),
                    Err(false) => tx.give_up(link),
                    Ok(()) => {
                        tx.give_up(link)?;
                        tx.put_change(&Change {
                            link: Some(link),
                            at: now,
                            what: "update in Brevo".to_owned(),
                            fields: [("consent".to_owned(), "opted out in Intercom".to_owned())].into(),
                            answer: "accepted".to_owned(),
                            import: None,
                            request: Some(crate::brevo::request_for(Some(contact))),
                        })
                    }
                })
                .await?;
            if let Some(error) = fatal {
                return Err(error.into());
            }
        }
        Ok(taken)
    }
}
