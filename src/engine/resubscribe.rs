//! Opt-ins that travel to the other side: `consent.resubscribe: propagate` (docs/decisions/0020).
//!
//! By default an opt-in stays where it was given. Where the operator lets it travel, whoever is seen to have opted in on one
//! side is put into a queue; both sides are read by id once more, and only if it is proven that the opt-in is newer
//! (`reconcile::resubscribe`) a write leaves that loosens. What is not proven is not carried: it stays in `notices
//! consent_diverges`.

use super::carry::keep_steps;
use super::observe::{base_of, pack_base};
use super::push::{CHUNK, Pushed};
use super::safety::{self, Gate, Pass};
use super::unreadable;
use super::{Connection, EngineError, Ready};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, Consent, ContactChange, ErrorKind, IntercomChange, IntercomContact,
    IntercomContactId, Observation, OptOutReason, Priority, Resource, SideError, SideName, Write,
};
use crate::reconcile::consent::{ConsentBase, MemberStep};
use crate::reconcile::harm::Kind;
use crate::reconcile::resubscribe::{self, ResubscribeViews};
use crate::store::carried::Carried;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::facts::{Channel, OptOutFact};
use crate::store::hints::BrevoOptOut;
use crate::store::links::{Dirty, LinkState};
use crate::store::listings::{Change, NewFailure, OPT_OUT_IN_INTERCOM};
use crate::store::opt_ins::CarriedOptIn;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;

/// When it is looked at again while something else about the person is on its way.
const LATER: TimeDelta = TimeDelta::minutes(1);
/// When a token that may not write is tried again, or what the limits on harm leave no room for.
const LONG_AFTER: TimeDelta = TimeDelta::minutes(30);
/// For so long both sides count as just looked at.
const FRESH: TimeDelta = TimeDelta::seconds(30);
/// After this it stays where it was given.
const MOST_WAIT: TimeDelta = TimeDelta::hours(24);

/// Opt-ins that the limits on harm leave no room for.
const NO_ROOM: &str = "opt_in_waits";

/// One request that loosens.
struct Lift {
    row: CarriedOptIn,
    write: Write,
    subject: String,
    request: String,
}

/// Somebody opted in on this side: between the last look that showed the opt-out and this one (the times of the record).
/// `gone`: why the record had said no. `by_notice`: since when, if no record but a notice had said it, of which nobody knows
/// what came after it.
pub(super) fn note(
    tx: &Tx<'_>,
    link: i64,
    side: SideName,
    gone: &BTreeSet<OptOutReason>,
    by_notice: Option<DateTime<Utc>>,
    (last_out, shown): (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Stored<()> {
    // A bounce or a complaint that is cleared is nobody's yes.
    if !gone.iter().any(|reason| matches!(reason, OptOutReason::Unsubscribed | OptOutReason::Blocklisted)) {
        return Ok(());
    }
    if tx.opt_in(link, side)?.is_some_and(|row| row.until.is_some()) {
        // That is our own write.
        return Ok(());
    }
    // What a watermark lies behind has been shown: the change came after it. But what is older than that and shows only now
    // had slipped through, and may have been made at any time since the last look.
    let read = tx.watermark(side, Resource::Contacts)?.map(|mark| mark.at).filter(|read| shown > *read);
    let after = by_notice.unwrap_or_else(|| read.map_or(last_out, |read| read.max(last_out)));
    let other = side.other();
    let known = tx.opt_in(link, other)?.filter(|known| known.after >= after || known.until.is_some());
    if known.is_some() {
        return Ok(());
    }
    let row = tx.link(link)?;
    let (email, brevo) = row.map_or((None, None), |row| (row.email, row.brevo_id));
    tx.put_opt_in(&CarriedOptIn { link, side: other, email, brevo, after, since: now, due: now, until: None })
}

/// A write of ours that may have lifted this opt-out has left, and the opt-out is newer than what that was based on. The
/// row stays until the write cannot land any more.
pub(super) fn may_have_lifted(tx: &Tx<'_>, link: i64, side: SideName, opted_out_at: DateTime<Utc>) -> Stored<bool> {
    let row = tx.opt_in(link, side)?;
    Ok(row.is_some_and(|row| row.until.is_some() && opted_out_at > row.after))
}

/// A look at Brevo shows an opt-out that may be newer than the opt-in that is on its way there: a fact like one that a
/// notice told of, so that what a late request lifts is put back.
pub(super) fn keep_newer_in_brevo(tx: &Tx<'_>, link: i64, contact: &BrevoContact) -> Stored<()> {
    let (Some(email), Some(reason)) = (&contact.email, contact.consent.email_opt_outs.first()) else { return Ok(()) };
    if !may_have_lifted(tx, link, SideName::Brevo, contact.modified_at)? {
        return Ok(());
    }
    tx.put_brevo_opt_out(&BrevoOptOut {
        email: email.clone(),
        contact: Some(contact.id),
        reason: *reason,
        at: contact.modified_at,
        source: "a read".to_owned(),
        over_at: None,
    })
}

/// A page that was on its way when an opt-in was written to Brevo may still show the opt-out that it has lifted.
pub(super) fn is_being_lifted(tx: &Tx<'_>, contact: &BrevoContact) -> Stored<bool> {
    let Some(link) = tx.link_by_brevo(contact.id)? else { return Ok(false) };
    let row = tx.opt_in(link.id, SideName::Brevo)?.filter(|row| row.until.is_some());
    Ok(row.is_some_and(|row| contact.modified_at <= row.after))
}

/// The same in Intercom.
pub(super) fn keep_newer_in_intercom(tx: &Tx<'_>, link: i64, contact: &IntercomContact) -> Stored<()> {
    if !contact.consent.email_opted_out() || !may_have_lifted(tx, link, SideName::Intercom, contact.updated_at)? {
        return Ok(());
    }
    let fact = OptOutFact {
        channel: Channel::Email,
        at: contact.updated_at,
        email: contact.email.clone(),
        source: "a read".to_owned(),
        over_at: None,
    };
    tx.put_opt_out(&contact.id, &fact)
}

/// A late request of ours has lifted an opt-out in Intercom: it is put back, like one that is told.
pub(super) fn put_back_in_intercom(
    tx: &Tx<'_>,
    link: i64,
    contact: &IntercomContactId,
    now: DateTime<Utc>,
) -> Stored<()> {
    let Some(brevo) = tx.link(link)?.and_then(|link| link.brevo_id) else { return Ok(()) };
    let row = tx.carried(contact)?.unwrap_or_else(|| Carried::new(contact.clone(), link, brevo));
    tx.put_carried(&Carried { link, brevo, told: true, due: Some(now), tries: 0, ..row })
}

impl Connection {
    /// Carries opt-ins across. How many records were written.
    pub(super) async fn resubscribe(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        // Whoever is at it goes on until nothing is due.
        let Ok(_ours) = self.resubscribing.try_lock() else { return Ok(pushed) };
        if !self.settings().resubscribes {
            // Switched off while one was on its way: what may land is looked after until it cannot any more.
            let now = self.now();
            self.store.write(move |tx| tx.drop_landed_opt_ins(now)).await?;
            return Ok(pushed);
        }
        loop {
            self.go_on()?;
            let now = self.now();
            let due = self.store.read(move |tx| tx.opt_ins_due(now, CHUNK)).await?;
            if due.is_empty() || SideName::BOTH.into_iter().any(|side| self.is_held(side)) {
                return Ok(pushed);
            }
            for row in due {
                self.go_on()?;
                let again = row.clone();
                if self.store.write(move |tx| has_to_wait(tx, &again, now)).await? {
                    continue;
                }
                let began = self.now();
                match self.ask_both(row.link, row.side, priority).await {
                    // They are asked one after the other: who was asked first may have said no while the last was slow.
                    Ok(true) if self.now() - began <= FRESH => {}
                    // Or more have the address in Intercom than a search shows: one of the others may have said no.
                    Ok(_) => {
                        let now = self.now();
                        self.store.write(move |tx| wait_to_ask_again(tx, row, now)).await?;
                        continue;
                    }
                    Err(EngineError::Side(error)) => {
                        tracing::warn!("an opt-in waits to be carried across: {}", error.for_log());
                        let now = self.now();
                        self.store
                            .write(move |tx| {
                                if now - row.since > MOST_WAIT {
                                    return end(tx, &row);
                                }
                                tx.put_opt_in(&CarriedOptIn { due: now + LATER, ..row })
                            })
                            .await?;
                        if error.is_transient() || matches!(error.kind, ErrorKind::Auth(_)) {
                            return Ok(pushed);
                        }
                        // It is about this one.
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                let claim = self.claim([row.link]);
                if claim.claimed.is_empty() {
                    let again = CarriedOptIn { due: self.now() + LATER, ..row };
                    self.store.write(move |tx| tx.put_opt_in(&again)).await?;
                    continue;
                }
                let lifts = self.lifts(row).await?;
                self.doors.crash.reach("after_opt_in_intent");
                for lift in lifts {
                    if self.now() - began > FRESH {
                        // One before it took long. Whoever is left is looked at again when that cannot land any more.
                        break;
                    }
                    let answer = self.side(lift.row.side).write(&lift.write, priority).await;
                    self.doors.crash.reach("after_opt_in");
                    pushed += self.record_lift(lift, answer).await?;
                }
                drop(claim);
            }
        }
    }

    /// What is to be sent for somebody. Intent before write.
    async fn lifts(&self, row: CarriedOptIn) -> Result<Vec<Lift>, EngineError> {
        let (now, until, bounds) = (self.now(), self.late_landing(), self.bounds());
        let ready = self.require_ready()?;
        Ok(self
            .store
            .write(move |tx| {
                let Some(row) = tx.opt_in(row.link, row.side)? else { return Ok(Vec::new()) };
                let lifts = match lifts_of(tx, &row, &ready, now) {
                    Ok(Some(lifts)) => lifts,
                    Ok(None) => return Ok(Vec::new()),
                    Err(error) => {
                        unreadable::note(tx, error, now)?;
                        Vec::new()
                    }
                };
                if lifts.is_empty() {
                    end(tx, &row)?;
                    return Ok(lifts);
                }
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                if row.until.is_none() && !gate.go_by(tx, Kind::OptOuts, lifts.len() as u64)? {
                    // Told of, or nobody would know: it waits for as long as there is no room.
                    let words = format!("an opt-in to be carried to {}: `safety.max_optouts` leaves no room", row.side);
                    tx.put_notice(NO_ROOM, &waiting(&row), Some(&words), now)?;
                    tx.put_opt_in(&CarriedOptIn { due: now + LONG_AFTER, since: now, ..row })?;
                    return Ok(Vec::new());
                }
                tx.clear_notice(NO_ROOM, &waiting(&row))?;
                gate.close(tx)?;
                tx.put_opt_in(&CarriedOptIn { until: Some(until), due: until, ..row })?;
                Ok(lifts)
            })
            .await?)
    }

    async fn record_lift(&self, lift: Lift, answer: Result<Answer, Box<SideError>>) -> Result<Pushed, EngineError> {
        let (began, now) = (self.now(), self.now());
        let source = self.source(0, false, began, Dirty::Live)?;
        Ok(self
            .store
            .write(move |tx| {
                let mut pushed = Pushed { requests: 1, ..Pushed::default() };
                let (row, link) = (&lift.row, lift.row.link);
                match answer {
                    Ok(answer) => {
                        pushed.opted_in += 1;
                        if let Write::UpdateContact(id, _) = &lift.write {
                            opted_in_in_brevo(tx, row, *id, now)?;
                        }
                        if let Answer::IntercomContact(shown, _) = answer {
                            source.apply(tx, &Observation::IntercomContact(shown))?;
                        }
                        tx.clear_failure(&lift.subject, OPT_OUT_IN_INTERCOM)?;
                        tx.mark_dirty(link, Dirty::Live)?;
                        tx.put_change(&Change {
                            link: Some(link),
                            at: now,
                            what: format!("opt-in of {} in {}", lift.subject, row.side),
                            fields: [("consent".to_owned(), format!("opted in in {} since", row.side.other()))].into(),
                            answer: "accepted".to_owned(),
                            import: None,
                            request: Some(lift.request),
                        })?;
                    }
                    // It may have landed, or still may: a read after that tells.
                    Err(error) if !safety::did_nothing(&error) => {}
                    Err(error) => {
                        let passes = matches!(
                            error.kind,
                            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy
                        );
                        let wait = if passes { LATER } else { LONG_AFTER };
                        // `until` stays: another of the person's contacts may have been written without an answer. So it
                        // stays counted, too.
                        if let Some(row) = tx.opt_in(link, row.side)? {
                            tx.put_opt_in(&CarriedOptIn { due: now + wait, ..row })?;
                        }
                        if !passes {
                            pushed.failed += 1;
                            let failure = NewFailure::refused(None, &lift.subject, OPT_OUT_IN_INTERCOM, &error);
                            tx.put_failure(&NewFailure { dead: false, ..failure }, now)?;
                        }
                    }
                }
                Ok(pushed)
            })
            .await?)
    }
}

/// What is on its way to the person, or not decided yet, comes first: a blocklisting that a write of ours has lifted is no
/// opt-in. `true`: put off. Nobody is asked for that.
fn has_to_wait(tx: &Tx<'_>, row: &CarriedOptIn, now: DateTime<Utc>) -> Stored<bool> {
    let Some(link) = tx.link(row.link)?.filter(|link| link.state == LinkState::Active) else { return Ok(false) };
    let base = match base_of(&link) {
        Err(error) if error.unreadable().is_some() => return Ok(false),
        base => base?,
    };
    let undecided = row.side == SideName::Intercom && base.consent.is_some_and(|base| base.brevo_out);
    let answers = link.import.is_some() || (link.flights.is_some() && !link.answered);
    let waits = (answers || undecided || link.dirty == Dirty::Consent) && now - row.since <= MOST_WAIT;
    if waits {
        tx.put_opt_in(&CarriedOptIn { due: now + LATER, ..row.clone() })?;
    }
    Ok(waits)
}

/// Under which an opt-in that waits is listed.
fn waiting(row: &CarriedOptIn) -> String {
    format!("link {}", row.link)
}

/// It is carried, or stays where it was given: it waits for nothing any more.
fn end(tx: &Tx<'_>, row: &CarriedOptIn) -> Stored<()> {
    tx.clear_notice(NO_ROOM, &waiting(row))?;
    tx.end_opt_in(row.link, row.side)
}

/// Not all of the address were just asked, or not all are known yet: it is put off, or given up.
fn wait_to_ask_again(tx: &Tx<'_>, row: CarriedOptIn, now: DateTime<Utc>) -> Stored<()> {
    if now - row.since > MOST_WAIT {
        return end(tx, &row);
    }
    tx.put_opt_in(&CarriedOptIn { due: now + LATER, ..row })
}

/// `None`: not now. Nothing: it is not carried.
fn lifts_of(tx: &Tx<'_>, row: &CarriedOptIn, ready: &Ready, now: DateTime<Utc>) -> Stored<Option<Vec<Lift>>> {
    let none = Ok(Some(Vec::new()));
    let Some(link) = tx.link(row.link)?.filter(|link| link.state == LinkState::Active) else { return none };
    let Some(contact) = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten() else { return none };
    // Consent belongs to the address: without one, nobody else can have said no to it.
    let another = row.email != link.email || row.brevo != link.brevo_id;
    if now - row.since > MOST_WAIT || another || contact.email != link.email || link.email.is_none() {
        return none;
    }
    if has_to_wait(tx, row, now)? {
        return Ok(None);
    }
    if row.side == SideName::Brevo
        && let Some(email) = &link.email
        && tx.has_strangers(email, row.link)?
    {
        // Somebody has come to the address of whom it is not decided yet who they are, or what they want.
        tx.put_opt_in(&CarriedOptIn { due: now + LATER, ..row.clone() })?;
        return Ok(None);
    }
    let members = tx.members(row.link)?;
    let live: Vec<&IntercomRow> = members.iter().filter(|member| member.state == ContactState::Live).collect();
    let standing = tx.brevo_opt_outs(Some(contact.id), link.email.as_ref())?;
    match row.side {
        SideName::Brevo => {
            let mut opted_out_there = false;
            for member in &live {
                let told = tx.opt_outs(&member.contact.id)?;
                opted_out_there |= member.contact.consent.email_opted_out();
                opted_out_there |= told.iter().any(|fact| fact.over_at.is_none() && fact.channel == Channel::Email);
            }
            let mut reasons = contact.consent.email_opt_outs.clone();
            reasons.extend(standing.iter().filter(|fact| fact.over_at.is_none()).map(|fact| fact.reason));
            let by = standing.iter().map(|fact| fact.at).chain([contact.modified_at]).max();
            let proof = resubscribe::decide(ResubscribeViews {
                // Who has another address by now, or none, has said nothing about this one.
                opted_out_there: opted_out_there || !live.iter().any(|member| member.contact.email == link.email),
                opted_in_after: Some(row.after),
                reasons: &reasons,
                opted_out_by: by,
            });
            let write = |opt_in| {
                let change = ContactChange { email_opted_in: Some(opt_in), ..ContactChange::default() };
                Lift {
                    row: row.clone(),
                    write: Write::UpdateContact(contact.id, change),
                    subject: format!("Brevo contact {}", contact.id),
                    request: crate::brevo::request_for(Some(contact.id)),
                }
            };
            Ok(Some(proof.map(write).into_iter().collect()))
        }
        SideName::Intercom if !ready.tells_intercom => none,
        SideName::Intercom => {
            let opted_out_there =
                contact.consent.email_opted_out() || standing.iter().any(|fact| fact.over_at.is_none());
            let mut lifts = Vec::new();
            for member in live.into_iter().filter(|member| member.contact.email == link.email) {
                let id = &member.contact.id;
                let told = tx.opt_outs(id)?.into_iter().map(|fact| fact.at);
                let proof = resubscribe::decide(ResubscribeViews {
                    opted_out_there,
                    opted_in_after: Some(row.after),
                    reasons: &member.contact.consent.email_opt_outs,
                    opted_out_by: told.chain([member.contact.updated_at]).max(),
                });
                lifts.extend(proof.map(|opt_in| lift_in_intercom(row, id, opt_in)));
            }
            Ok(Some(lifts))
        }
    }
}

fn lift_in_intercom(row: &CarriedOptIn, id: &IntercomContactId, opt_in: crate::model::OptIn) -> Lift {
    let change = IntercomChange { email_opted_in: Some(opt_in), ..IntercomChange::default() };
    Lift {
        row: row.clone(),
        write: Write::UpdateIntercomContact(id.clone(), change),
        subject: format!("contact {id}"),
        request: crate::intercom::request_for(id),
    }
}

/// Brevo has taken it: what we hold of the contact says so at once, and what webhooks had told of before it is over. What they
/// told of since is put back.
fn opted_in_in_brevo(tx: &Tx<'_>, row: &CarriedOptIn, id: BrevoContactId, now: DateTime<Utc>) -> Stored<()> {
    let Some(link) = tx.link(row.link)?.filter(|link| link.brevo_id == Some(id)) else { return Ok(()) };
    let mut newer = false;
    for fact in tx.brevo_opt_outs(Some(id), link.email.as_ref())?.iter().filter(|fact| fact.over_at.is_none()) {
        if fact.at > row.after {
            newer = true;
        } else {
            tx.brevo_opt_out_is_over(&fact.email, now)?;
        }
    }
    let mut base = base_of(&link)?;
    base.consent = Some(ConsentBase { intercom_out: false, brevo_out: newer });
    tx.set_base(link.id, &pack_base(tx, &base)?)?;
    // Whoever says no in Brevo after this says something new to each of them.
    let members = tx.members(link.id)?.into_iter().map(|member| (member.contact.id, MemberStep::Forget));
    keep_steps(tx, link.id, id, &members.collect::<Vec<_>>(), now)?;
    if let Some(contact) = tx.brevo_contact(id)? {
        let consent = Consent { email_opt_outs: BTreeSet::new(), ..contact.consent.clone() };
        tx.put_brevo_contact(&BrevoContact { consent, ..contact }, 0, false)?;
    }
    Ok(())
}
