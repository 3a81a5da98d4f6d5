//! What became of it: whom a look or a refusal found, and what was made.

use super::super::answers::MOST_TRIES;
use super::super::carry::AFTER_NOT_LET_IN;
use super::super::observe::{Source, pack_base};
use super::super::push::Pushed;
use super::super::safety;
use super::super::unreadable::stand_in;
use super::super::{Connection, EngineError, Ready};
use super::{BUSY, INDEX_LAG, LATER, Making, NOW_AND_THEN, SOON, clear_notices, is_done, is_down, list, subject};
use crate::config::Archived;
use crate::model::{
    Answer, BrevoContactId, ContactKey, ErrorKind, Fetched, IntercomChange, IntercomContact, IntercomContactId,
    Observation, Priority, SideError, Write,
};
use crate::reconcile::person::{self, Base};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkState};
use crate::store::listings::{Change, NewFailure};
use crate::store::newcomers::{Newcomer, Stage};
use crate::store::write_backs::WriteBack;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

impl Connection {
    /// Somebody has its address or external id. Who that is, is decided like of anybody who is seen for the first time:
    /// linked, if they are nobody's and it is theirs.
    pub(super) async fn found(
        &self,
        brevo: BrevoContactId,
        shown: &Observation,
        read_began: DateTime<Utc>,
        by_id: bool,
    ) -> Result<(), EngineError> {
        let Observation::IntercomContact(contact) = shown else { return Ok(()) };
        let source = Source { place: true, ..self.source(0, by_id, read_began, Dirty::Live)? };
        let (id, shown) = (contact.id.clone(), shown.clone());
        self.store.write(move |tx| source.apply(tx, &shown)).await?;
        self.place(Dirty::Live).await?;
        let now = self.now();
        self.store.write(move |tx| conclude(tx, brevo, &id, now)).await?;
        self.bell.notify_one();
        Ok(())
    }

    /// What Intercom said to the request that was to make one.
    pub(super) async fn record_newcomer(
        &self,
        making: Making,
        answer: Result<Answer, Box<SideError>>,
        began: DateTime<Utc>,
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let error = match answer {
            Ok(Answer::IntercomContact(contact, _)) => {
                self.record_made(making, contact, began).await?;
                pushed.created_in_intercom = 1;
                return Ok(pushed);
            }
            // Made, and not shown: it is found by the next look.
            Ok(_) => return Ok(pushed),
            Err(error) => error,
        };
        let (brevo, now, findable) = (making.brevo, self.now(), self.findable());
        let brings_back = self.settings().archived == Archived::Unarchive;
        let words = error.clone();
        let refused = self.store.write(move |tx| not_made(tx, brevo, &words, brings_back, (now, findable))).await?;
        pushed.failed += u64::from(refused);
        if let ErrorKind::Conflict { holder: Some(holder), archived, .. } = &error.kind {
            let holder = IntercomContactId::new(holder.clone());
            pushed += if *archived {
                self.meet_archived(brevo, holder, priority).await?
            } else {
                self.meet_holder(brevo, holder, priority).await?
            };
            return Ok(pushed);
        }
        if matches!(error.kind, ErrorKind::Auth(_)) || is_down(&error) {
            Err(EngineError::Side(error))
        } else {
            Ok(pushed)
        }
    }

    async fn record_made(
        &self,
        making: Making,
        contact: Box<IntercomContact>,
        began: DateTime<Utc>,
    ) -> Result<(), EngineError> {
        let source = Source { place: true, ..self.source(0, false, began, Dirty::Live)? };
        let (brevo, shown) = (making.brevo, contact.clone());
        let (now, verify_after, ready) = (self.now(), self.late_landing(), self.require_ready()?);
        self.store
            .write(move |tx| {
                source.apply(tx, &Observation::IntercomContact(shown))?;
                agree(tx, &making, &contact, &ready, verify_after)?;
                let mut fields: BTreeMap<String, String> =
                    making.plan.back.rules.iter().map(|rule| (rule.clone(), "taken along".to_owned())).collect();
                if making.new.has.email_opted_out {
                    fields.insert("consent".to_owned(), "opted out in Brevo".to_owned());
                }
                tx.put_change(&Change {
                    link: tx.link_by_brevo(brevo)?.map(|link| link.id),
                    at: now,
                    what: format!("new contact {} in Intercom, a {}", contact.id, contact.role.as_str()),
                    fields,
                    answer: "accepted".to_owned(),
                    import: None,
                    request: Some(crate::intercom::CREATE_REQUEST.to_owned()),
                })?;
                let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
                tx.put_newcomer_row(&Newcomer {
                    stage: Stage::Made,
                    contact: Some(contact.id.clone()),
                    due: DateTime::default(),
                    tries: 0,
                    ..row
                })
            })
            .await?;
        self.place(Dirty::Live).await?;
        self.bell.notify_one();
        Ok(())
    }

    /// Whoever has it is linked only if they are nobody's: that is decided as if they had been seen for the first time.
    async fn meet_holder(
        &self,
        brevo: BrevoContactId,
        holder: IntercomContactId,
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let read_began = self.now();
        match self.intercom.fetch(&ContactKey::Intercom(holder.clone()), priority).await {
            Ok(Fetched::Found(shown, _)) => self.found(brevo, &shown, read_began, true).await?,
            Ok(Fetched::Gone(_)) => {
                let now = self.now();
                self.store.write(move |tx| nobody_there(tx, brevo, LATER, now)).await?;
            }
            Err(error) => return self.put_off(brevo, error).await,
        }
        Ok(Pushed::default())
    }

    /// `contacts.archived`.
    pub(super) async fn meet_archived(
        &self,
        brevo: BrevoContactId,
        archived: IntercomContactId,
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let now = self.now();
        let mut pushed = Pushed::default();
        match self.settings().archived {
            Archived::Skip => {
                self.store
                    .write(move |tx| {
                        let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
                        let words = format!("contact {archived} in Intercom is its match, and is left archived");
                        list(tx, row, "archived_in_intercom", Some(&words), now)
                    })
                    .await?;
            }
            Archived::Link => {
                self.store.write(move |tx| link_archived(tx, brevo, &archived, now)).await?;
            }
            Archived::Unarchive => {
                let write = Write::UnarchiveIntercomContact(archived.clone());
                pushed.requests += 1;
                match self.intercom.write(&write, priority).await {
                    Ok(_) => {
                        pushed.created_in_intercom += 1;
                        let id = archived.clone();
                        self.store
                            .write(move |tx| {
                                tx.forget_said_gone(&id)?;
                                tx.put_change(&Change {
                                    link: None,
                                    at: now,
                                    what: format!("contact {id} in Intercom brought back, for Brevo contact {brevo}"),
                                    fields: BTreeMap::new(),
                                    answer: "accepted".to_owned(),
                                    import: None,
                                    request: Some(crate::intercom::unarchive_request_for(&id)),
                                })
                            })
                            .await?;
                        pushed += self.meet_holder(brevo, archived, priority).await?;
                    }
                    Err(error) if !is_final(&error) => {
                        // Asked again, it is counted again.
                        if safety::did_nothing(&error) {
                            self.store.write(move |tx| safety::give_back_newcomer(tx, brevo, now)).await?;
                        }
                        return self.put_off(brevo, error).await;
                    }
                    Err(error) => {
                        pushed.failed += 1;
                        self.store
                            .write(move |tx| {
                                if safety::did_nothing(&error) {
                                    safety::give_back_newcomer(tx, brevo, now)?;
                                }
                                let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
                                let words = format!("contact {archived} in Intercom cannot be brought back");
                                list(tx, row, "archived_in_intercom", Some(&words), now)?;
                                let subject = subject(brevo);
                                tx.put_failure(&NewFailure::refused(None, &subject, "", &error), now)
                            })
                            .await?;
                    }
                }
            }
        }
        Ok(pushed)
    }

    /// Adds the external id to what was made.
    pub(super) async fn identify(
        &self,
        brevo: BrevoContactId,
        (link, contact, external_id): (i64, IntercomContactId, String),
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let claim = self.claim([link]);
        if claim.claimed.is_empty() {
            self.wait(brevo, BUSY).await?;
            return Ok(Pushed::default());
        }
        let change = IntercomChange { external_id: Some(external_id.clone()), ..IntercomChange::default() };
        let began = self.now();
        let answer = self.intercom.write(&Write::UpdateIntercomContact(contact.clone(), change), priority).await;
        let (source, now) = (self.source(0, false, began, Dirty::Live)?, self.now());
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let error = match answer {
            Ok(answer) => {
                self.store
                    .write(move |tx| {
                        if let Answer::IntercomContact(shown, _) = &answer
                            && shown.id == contact
                        {
                            source.apply(tx, &Observation::IntercomContact(shown.clone()))?;
                        }
                        tx.put_change(&Change {
                            link: Some(link),
                            at: now,
                            what: format!("external id of contact {contact} in Intercom"),
                            fields: [("external_id".to_owned(), "that of its Brevo contact".to_owned())].into(),
                            answer: "accepted".to_owned(),
                            import: None,
                            request: Some(crate::intercom::request_for(&contact)),
                        })?;
                        is_done(tx, brevo)
                    })
                    .await?;
                drop(claim);
                return Ok(pushed);
            }
            Err(error) if is_final(&error) => error,
            Err(error) => {
                drop(claim);
                return self.put_off(brevo, error).await;
            }
        };
        drop(claim);
        pushed.failed = 1;
        self.store
            .write(move |tx| {
                let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
                let whose = match &error.kind {
                    ErrorKind::Conflict { holder: Some(holder), .. } => format!("contact {holder} in Intercom has it"),
                    _ => "Intercom does not take it".to_owned(),
                };
                let words = format!("contact {contact} was made for it without its external id: {whose}");
                clear_notices(tx, brevo)?;
                tx.put_notice("identity_conflict", &subject(brevo), Some(&words), now)?;
                tx.put_newcomer_row(&Newcomer { due: now + NOW_AND_THEN, ..row })
            })
            .await?;
        Ok(pushed)
    }
}

/// The same would be said again.
fn is_final(error: &SideError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Rejected { .. } | ErrorKind::Conflict { .. } | ErrorKind::NotFound | ErrorKind::Merged { .. }
    )
}

/// Whether it is somebody's by now.
fn conclude(tx: &Tx<'_>, brevo: BrevoContactId, found: &IntercomContactId, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
    if tx.link_by_brevo(brevo)?.is_some() {
        // Was it ours? Then what was left for later is still to come.
        let ours = matches!(row.stage, Stage::Sent | Stage::Unsure);
        return if ours {
            let contact = Some(found.clone());
            tx.put_newcomer_row(&Newcomer { stage: Stage::Made, contact, due: DateTime::default(), tries: 0, ..row })
        } else {
            is_done(tx, brevo)
        };
    }
    if tx.is_unplaced(found)? || row.tries < 1 {
        return tx.put_newcomer_row(&Newcomer { due: now + LATER, tries: row.tries + 1, ..row });
    }
    let words = format!("contact {found} in Intercom has its e-mail or external id, and is somebody else's");
    list(tx, row, "identity_conflict", Some(&words), now)
}

/// Both agree on what the new contact took along, unless somebody was faster to plan it.
fn agree(
    tx: &Tx<'_>,
    making: &Making,
    shown: &IntercomContact,
    ready: &Ready,
    verify_after: DateTime<Utc>,
) -> Stored<()> {
    let plan = &making.plan;
    let Some(link) = tx.link_by_brevo(making.brevo)? else { return Ok(()) };
    let ours = tx.intercom_contact(&shown.id)?.is_some_and(|row| row.link == Some(link.id));
    if !ours || plan.intercom.is_empty() || !link.base.is_empty() || link.flights.is_some() {
        return Ok(());
    }
    tx.set_base(link.id, &pack_base(tx, &plan.base_with_intercom(&Base::default()))?)?;
    let flights = plan.flights.to_intercom();
    let seen = person::seen_in_answer(&flights, &plan.back, &shown.fields, &ready.mapping);
    let row = WriteBack::new(link.id, shown.id.clone());
    let watched = Some(tx.pack("write_backs.watched", &seen)?);
    tx.put_write_back(&WriteBack { watched, answered: true, verify_after: Some(verify_after), ..row })
}

/// Links what stays archived. Nobody of the address is there: the person is as one who was archived after they were linked.
fn link_archived(tx: &Tx<'_>, brevo: BrevoContactId, archived: &IntercomContactId, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
    let Some(contact) = tx.brevo_contact(brevo)? else { return is_done(tx, brevo) };
    let known = tx.intercom_contact(archived)?;
    let link = known.as_ref().and_then(|known| known.link).map(|link| tx.link(link)).transpose()?.flatten();
    if known.as_ref().is_some_and(|known| known.state == ContactState::Live) {
        // A read by id tells.
        tx.want_contact(archived)?;
        return tx.put_newcomer_row(&Newcomer { due: now + SOON, ..row });
    }
    if link.as_ref().is_some_and(|link| link.brevo_id.is_some()) {
        let words = format!("contact {archived} in Intercom has its address, is archived, and was somebody else's");
        return list(tx, row, "identity_conflict", Some(&words), now);
    }
    if known.is_none() {
        tx.put_intercom_contact(&stand_in(archived, contact.email.clone()), 0)?;
        tx.set_intercom_state(archived, ContactState::Archived, None)?;
    }
    // While Intercom was asked, somebody may have been linked; then that is decided anew.
    let of_address = contact.email.as_ref().map(|email| tx.link_by_email(email)).transpose()?.flatten();
    if tx.link_by_brevo(brevo)?.is_some()
        || of_address.is_some_and(|other| link.as_ref().is_none_or(|l| l.id != other.id))
    {
        return tx.put_newcomer_row(&Newcomer { due: now + SOON, ..row });
    }
    // The state may know it under an address that it has shared with others, who have kept it.
    let mut own = link.filter(|link| link.email == contact.email);
    if let Some(link) = &own
        && tx.members(link.id)?.iter().any(|member| member.state == ContactState::Live)
    {
        own = None;
    }
    let link = match own {
        Some(link) => {
            tx.set_brevo(link.id, Some(brevo))?;
            link.id
        }
        None => tx.new_link(contact.email.as_ref(), Some(brevo), Dirty::No)?,
    };
    tx.set_member(archived, Some(link), true)?;
    tx.set_link_state(link, LinkState::Left)?;
    tx.give_up(link)?;
    is_done(tx, brevo)?;
    tx.put_notice("archived_in_intercom", &format!("contact {archived}"), None, now)
}

/// Intercom says that somebody has it, and shows nobody who has.
fn nobody_there(tx: &Tx<'_>, brevo: BrevoContactId, wait: TimeDelta, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
    let tries = row.tries + 1;
    if tries < MOST_TRIES {
        return tx.put_newcomer_row(&Newcomer { due: now + wait, tries, ..row });
    }
    let words = "Intercom says that a contact has its e-mail or external id, and shows none that has";
    list(tx, row, "identity_conflict", Some(words), now)
}

/// Nobody was made, or nobody knows. `true`: that is a failure of its own, and listed.
fn not_made(
    tx: &Tx<'_>,
    brevo: BrevoContactId,
    error: &SideError,
    brings_back: bool,
    (now, findable): (DateTime<Utc>, DateTime<Utc>),
) -> Stored<bool> {
    let Some(row) = tx.newcomer(brevo)? else { return Ok(false) };
    let subject = subject(brevo);
    if !safety::did_nothing(error) {
        tx.put_newcomer_row(&Newcomer { stage: Stage::Unsure, due: findable, ..row })?;
        return Ok(false);
    }
    // Bringing an archived one back counts in its place.
    if !(brings_back && matches!(error.kind, ErrorKind::Conflict { archived: true, .. })) {
        safety::give_back_newcomer(tx, row.brevo, now)?;
    }
    let row = Newcomer { stage: Stage::Waiting, email: None, opted_out: false, ..row };
    let tries = row.tries + 1;
    let (due, tries, listed) = match &error.kind {
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy => {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
            (now + wait.unwrap_or(TimeDelta::seconds(30)), row.tries, false)
        }
        ErrorKind::Auth(_) => (now + AFTER_NOT_LET_IN, row.tries, true),
        // Who, it does not say.
        ErrorKind::Conflict { holder: None, .. } => {
            tx.put_newcomer_row(&row)?;
            return nobody_there(tx, brevo, INDEX_LAG, now).map(|()| false);
        }
        // Whoever has it is looked at now.
        ErrorKind::Conflict { .. } => (now + INDEX_LAG, row.tries, false),
        // Without its fields it may be taken.
        _ if tries == 1 => (DateTime::default(), tries, false),
        _ if tries < MOST_TRIES => (now + TimeDelta::seconds(5 << tries.min(6)), tries, true),
        _ => (now + NOW_AND_THEN, tries, true),
    };
    if listed {
        let dead = tries >= MOST_TRIES;
        tx.put_failure(&NewFailure { dead, ..NewFailure::refused(None, &subject, "", error) }, now)?;
    }
    tx.put_newcomer_row(&Newcomer { due, tries, ..row })?;
    Ok(listed)
}
