//! What became of a write: base, history, conflict log and failures, in one transaction with the vendor's answer.

use super::carry::made_with_their_no;
use super::observe::{Source, base_of, flights_of, pack_base, pack_flights, put_conflicts, subject_of};
use super::people::{self, Planned};
use super::place::{No, keep_no};
use super::push::Pushed;
use super::read_back::before_import;
use super::unreadable::replaceable;
use super::{Connection, EngineError, Ready};
use crate::model::{
    BrevoContact, BrevoContactId, Consent, ContactKey, Email, ErrorKind, Fetched, Observation, Priority, SideError,
    SideName,
};
use crate::reconcile::person::{self, Base, PersonPlan};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkState};
use crate::store::listings::{Change, NewFailure};
use crate::store::{Packed, Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Failed tries after which a record is given up until somebody asks. (An opt-out never is.)
pub(super) const MOST_TRIES: u32 = 3;

/// How long what a vendor goes on refusing waits at most before it is sent again, if it is never given up.
const MOST_WAIT: TimeDelta = TimeDelta::hours(1);

/// How long what a vendor has refused so many times waits: ever longer.
pub(super) fn wait_after(tries: u32) -> TimeDelta {
    TimeDelta::seconds(5 << tries.min(10)).min(MOST_WAIT)
}

/// What became of one single write.
pub(super) enum Outcome {
    Created(BrevoContactId),
    Updated,
    Failed(Box<SideError>),
}

impl Connection {
    pub(super) async fn record_alone(
        &self,
        done: Vec<(Planned, Outcome)>,
        ready: &Arc<Ready>,
    ) -> Result<Pushed, EngineError> {
        let (now, verify_after, ready) = (self.now(), self.late_landing(), Arc::clone(ready));
        Ok(self
            .store
            .write(move |tx| {
                let mut pushed = Pushed::default();
                for (planned, outcome) in &done {
                    pushed.requests += 1;
                    match outcome {
                        Outcome::Created(id) => {
                            pushed.created += 1;
                            // A read that showed it before its answer was recorded knows better than what was sent.
                            let shown = replaceable(tx, tx.brevo_contact(*id))?.0.is_some();
                            if !shown {
                                tx.put_brevo_contact(&provisional(*id, planned), 0, true)?;
                            }
                            let has = tx.link(planned.link)?.and_then(|link| link.brevo_id);
                            if has.is_some_and(|has| has != *id) {
                                // They have exchanged addresses with somebody meanwhile, and have that one's contact. This one
                                // is of whoever has its address by now; what is watched of theirs finds it, too.
                                accept(tx, planned, &ready, verify_after, now)?;
                                let theirs = planned.email.as_ref().map(|email| tx.link_by_email(email)).transpose()?;
                                if let Some(theirs) = theirs.flatten() {
                                    super::place::may_be_theirs(tx, theirs, Dirty::Live)?;
                                }
                                continue;
                            }
                            if let Some(other) = tx.link_by_brevo(*id)?.filter(|other| other.id != planned.link) {
                                // Identity was faster: the contact was seen and linked before our answer came.
                                hold_apart(tx, planned.link, other.id, now)?;
                                continue;
                            }
                            accept(tx, planned, &ready, verify_after, now)?;
                            tx.set_brevo(planned.link, Some(*id))?;
                            if planned.plan.change.email_opted_out {
                                made_with_their_no(tx, planned.link, *id, ready.tells_intercom, now)?;
                            }
                            rename_if_moved(tx, planned.link, planned.email.as_ref())?;
                            if shown {
                                // It was nobody's then: what somebody has made of it since is looked at now.
                                tx.mark_dirty(planned.link, Dirty::Live)?;
                            }
                        }
                        Outcome::Updated => {
                            pushed.updated += 1;
                            accept(tx, planned, &ready, verify_after, now)?;
                        }
                        Outcome::Failed(error) => {
                            pushed.failed += 1;
                            refuse(tx, planned, error, &ready, now, verify_after)?;
                        }
                    }
                }
                Ok(pushed)
            })
            .await?)
    }

    /// Somebody holds an identifier of ours that we had not seen: read the holder, and let identity decide again.
    pub(super) async fn look_up(&self, key: &ContactKey, priority: Priority) -> Result<bool, EngineError> {
        let read_began = self.now();
        let found = self.brevo.fetch(key, priority).await?;
        let source = self.source(0, true, read_began, Dirty::Live)?;
        let key = key.clone();
        Ok(self
            .store
            .write(move |tx| match &found {
                Fetched::Found(observation, _) => {
                    source.apply(tx, observation)?;
                    if let (ContactKey::BrevoEmail(email), Observation::BrevoContact(contact)) = (&key, &**observation)
                    {
                        link_found(tx, email, contact, &source)?;
                    }
                    Ok(true)
                }
                Fetched::Gone(_) => {
                    match &key {
                        ContactKey::Brevo(id) => {
                            source.apply(tx, &Observation::BrevoContactGone(*id))?;
                        }
                        // Whoever showed the address has another by now, or is gone: it is asked for by id which of them.
                        ContactKey::BrevoEmail(email) => {
                            for shown in tx.brevo_ids_by_email(email)? {
                                tx.ask_for(&ContactKey::Brevo(shown))?;
                            }
                        }
                        _ => {}
                    }
                    Ok(false)
                }
            })
            .await?)
    }
}

/// The contact that a create has made, as far as we know it. Any read replaces it.
fn provisional(id: BrevoContactId, planned: &Planned) -> BrevoContact {
    let new = planned.plan.as_new_contact(planned.email.clone());
    let mut consent = crate::model::Consent { sms_opted_out: new.sms_opted_out, ..Default::default() };
    if new.email_opted_out {
        consent.email_opt_outs.insert(crate::model::OptOutReason::Blocklisted);
    }
    BrevoContact {
        id,
        email: new.email,
        ext_id: new.ext_id,
        created_at: DateTime::<Utc>::default(),
        modified_at: DateTime::<Utc>::default(),
        consent,
        lists: new.lists,
        lists_left: BTreeSet::new(),
        attributes: new.attributes,
    }
}

/// The write was accepted: base, history and conflict log, in one transaction with the answer.
pub(super) fn accept(
    tx: &Tx<'_>,
    planned: &Planned,
    ready: &Ready,
    verify_after: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Stored<()> {
    let plan = &planned.plan;
    let before = planned.brevo.as_ref().map(|contact| contact.id);
    let Some(link) = tx.link(planned.link)?.filter(|link| link.brevo_id == before) else {
        // Identity has given the link another contact meanwhile: what this one took says nothing about that one.
        return record(tx, planned, "accepted, but the person is another Brevo contact by now", now);
    };
    let mut base = plan.base.clone();
    // An opt-out in Brevo that was seen while this was on its way.
    if let (Some(consent), Some(contact)) = (&mut base.consent, before) {
        consent.brevo_out |= tx.brevo_contact(contact)?.is_some_and(|contact| contact.consent.email_opted_out());
    }
    // And one in Intercom that was told of meanwhile (`new_opt_out`): this request did not carry it.
    let now_known = base_of(&link)?;
    for (accepted, known, carried) in [
        (&mut base.consent, now_known.consent, plan.change.email_opted_out),
        (&mut base.sms, now_known.sms, plan.change.sms_opted_out),
    ] {
        if let (Some(accepted), Some(known), false) = (accepted, known, carried) {
            accepted.intercom_out &= known.intercom_out;
        }
    }
    // Nor did one that makes a contact carry a no that somebody has brought meanwhile: it is still to be put to that.
    let brought = before.is_none() && is_brought(&now_known, plan);
    if let Some(consent) = base.consent.as_mut().filter(|_| brought) {
        consent.brevo_out = true;
    }
    // Whoever has said so, also if they are gone by now.
    if !may_be_lifted_for_good(tx, planned, before)? {
        tx.last_nos_are_told(planned.link, plan.change.email_opted_out, plan.change.sms_opted_out)?;
    }
    if planned.ahead {
        let written = (&pack_base(tx, &base)?, &pack_flights(tx, &plan.flights)?);
        tx.accept_opt_out(planned.link, written, verify_after, planned.marks)?;
        return record(tx, planned, "accepted, ahead of a write whose outcome is not known yet", now);
    }
    let mut flights = plan.flights.clone().with_losses_logged();
    flights.may_loosen |= brought;
    if before.is_none() && planned.email.is_none() {
        flights = flights.with_number_taken(&ready.mapping);
    }
    // A contact that was made opted out is so since, by a request that was answered and is sent once: nothing of that is on its
    // way, and whoever is subscribed after it has said so.
    flights.opted_out &= before.is_some();
    tx.accept_write(
        planned.link,
        (&pack_base(tx, &base)?, &pack_flights(tx, &flights)?),
        verify_after,
        planned.marks,
        planned.rename_to.as_ref(),
    )?;
    // The address is not watched like a field: what we hold of the contact takes it at once, so that whoever waits for
    // the old address can have it.
    if let (Some(before), Some(email)) = (before, &plan.change.email)
        && let Some(contact) = tx.brevo_contact(before)?
    {
        if let Some(left) = contact.email.as_ref().filter(|left| *left != email) {
            tx.address_is_free(left)?;
        }
        // A rename that had been held up is through.
        tx.clear_notice("identity_conflict", &subject_of(tx, &link)?)?;
        tx.put_brevo_contact(&BrevoContact { email: Some(email.clone()), ..contact }, 0, false)?;
    }
    if planned.only_opt_out && link.state != LinkState::Left {
        tx.mark_dirty(planned.link, Dirty::Live)?;
    } else {
        tx.clear_failures(planned.link, &people::still_failing(plan, &link.quarantined))?;
    }
    record(tx, planned, "accepted", now)
}

/// A no in Brevo that whoever has come to the person since has brought along: the request that was to make them a contact did not
/// carry it. `known`: what is agreed on by now.
fn is_brought(known: &Base, plan: &PersonPlan) -> bool {
    !plan.change.email_opted_out && known.consent.is_some_and(|consent| consent.brevo_out)
}

/// What was written before may still land, and lift the no of people of whom nobody is left. Nothing else would put it back,
/// so it is still to be told, until it is known what became of that.
fn may_be_lifted_for_good(tx: &Tx<'_>, planned: &Planned, contact: Option<BrevoContactId>) -> Stored<bool> {
    let Some(contact) = contact.filter(|_| planned.plan.change.email_opted_out) else { return Ok(false) };
    if !(planned.ahead || tx.may_land_late(contact)?) {
        return Ok(false);
    }
    match tx.members(planned.link) {
        Err(error) if error.unreadable().is_some() => Ok(false),
        members => Ok(members?.iter().all(|row| row.state != ContactState::Live)),
    }
}

/// The history and the conflict log of a write.
pub(super) fn record(tx: &Tx<'_>, planned: &Planned, answer: &str, now: DateTime<Utc>) -> Stored<()> {
    put_conflicts(tx, planned.link, planned.plan.lost_on(SideName::Brevo), None, now)?;
    tx.put_change(&Change {
        link: Some(planned.link),
        at: now,
        what: what_is_done(planned).to_owned(),
        fields: causes(&planned.plan).collect(),
        answer: answer.to_owned(),
        import: None,
        request: Some(crate::brevo::request_for(planned.brevo.as_ref().map(|contact| contact.id))),
    })
}

/// The same of what goes with an import; `causes` are packed already.
pub(super) fn record_in_import(
    tx: &Tx<'_>,
    planned: &Planned,
    import: i64,
    causes: &Packed,
    now: DateTime<Utc>,
) -> Stored<()> {
    put_conflicts(tx, planned.link, planned.plan.lost_on(SideName::Brevo), Some(import), now)?;
    let answer = format!("sent with import {import}");
    tx.put_import_change((planned.link, import), what_is_done(planned), causes, &answer, now)
}

fn what_is_done(planned: &Planned) -> &'static str {
    if planned.brevo.is_none() { "create in Brevo" } else { "update in Brevo" }
}

/// What a plan sets in Brevo, and why.
pub(super) fn causes(plan: &PersonPlan) -> impl Iterator<Item = (String, String)> {
    let fields = plan.causes.iter().map(|(rule, cause)| (rule.clone(), (*cause).to_owned()));
    let lists = [(&plan.change.join_lists, "joined"), (&plan.change.leave_lists, "left")];
    let lists = lists.into_iter().flat_map(|(lists, word)| lists.iter().map(move |list| (list, word)));
    fields.chain(lists.map(|(list, word)| (format!("list {list}"), word.to_owned())))
}

/// A contact that was made with `sent` for a person who has another address by now: renamed next.
pub(super) fn rename_if_moved(tx: &Tx<'_>, link: i64, sent: Option<&Email>) -> Stored<()> {
    let Some(link) = tx.link(link)? else { return Ok(()) };
    if link.email.is_some() && link.email.as_ref() != sent {
        tx.set_rename(link.id, link.email.as_ref())?;
        tx.mark_dirty(link.id, Dirty::Live)?;
    }
    Ok(())
}

/// Two links for one Brevo contact: the one that has it keeps it, the other is listed. If nobody is left of the one by now, the
/// other gets it when it is planned.
pub(super) fn hold_apart(tx: &Tx<'_>, link: i64, holder: i64, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.link(link)? else { return Ok(()) };
    let detail = format!("the Brevo contact with its address is link {holder}'s");
    tx.put_notice("identity_conflict", &subject_of(tx, &row)?, Some(&detail), now)?;
    // Nothing was agreed on; but a no that the person brings is theirs: whoever is made for them once that is over has it.
    let brings = No::of(&before_import(tx, &row)?, &Consent::default());
    tx.leave_import(link)?;
    keep_no(tx, link, brings)?;
    let Some(holder) = tx.link(holder)? else { return tx.give_up(link) };
    let shown = match holder.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose() {
        // It is read anew, which tells. Meanwhile the other answers are recorded all the same.
        Err(error) if error.unreadable().is_some() => None,
        shown => shown?.flatten(),
    };
    // Nor does it hold them up who have gone on to another address meanwhile: they are planned for that one.
    let gone_on = row.email.is_some() && shown.is_some_and(|shown| shown.email != row.email);
    if gone_on || super::place::is_deserted(tx, &holder)? {
        return tx.mark_dirty(link, Dirty::Live);
    }
    tx.give_up(link)
}

/// What to read before a refused write is planned again.
pub(super) fn needs_lookup(planned: &Planned, outcome: &Outcome) -> Option<ContactKey> {
    let Outcome::Failed(error) = outcome else { return None };
    if let (ErrorKind::NotFound | ErrorKind::Merged { .. }, Some(contact)) = (&error.kind, &planned.brevo) {
        // Gone, or was it a list that is not there? Never a deletion before it is confirmed by id.
        return Some(ContactKey::Brevo(contact.id));
    }
    let ErrorKind::Conflict { identifiers, .. } = &error.kind else { return None };
    let about_email = identifiers.is_empty() || identifiers.iter().any(|name| name.eq_ignore_ascii_case("email"));
    let address = match (&planned.brevo, &planned.plan.change.email) {
        (None, _) => planned.email.clone(),
        (Some(_), new) => new.clone(),
    };
    address.filter(|_| about_email).map(ContactKey::BrevoEmail)
}

/// The contact that a create or rename ran into: it is linked if nobody has it and its address is ours.
fn link_found(tx: &Tx<'_>, email: &Email, contact: &BrevoContact, source: &Source) -> Stored<()> {
    let Some(link) = tx.link_by_email(email)? else { return Ok(()) };
    if contact.email.as_ref() != Some(email) || tx.link_by_brevo(contact.id)?.is_some() {
        return Ok(());
    }
    if link.brevo_id.is_none() {
        // What a row on its way is to agree on is not agreed on; a no that its person had brought before is theirs.
        let brings = No::of(&before_import(tx, &link)?, &Consent::default());
        tx.set_brevo(link.id, Some(contact.id))?;
        let made_so =
            |sent: person::Flights| sent.opted_out && !person::shows_nothing_of(&sent, contact, &source.ready.mapping);
        if flights_of(&link).is_ok_and(made_so) {
            // A request without an answer, or a row, has made it with the no of its people.
            made_with_their_no(tx, link.id, contact.id, source.settings.tells_intercom, source.now)?;
        }
        // First-linked, with the stricter consent of both.
        keep_no(tx, link.id, brings)?;
    } else {
        super::place::adopt(tx, &link, contact.id, email)?;
    }
    tx.mark_dirty(link.id, Dirty::Live)
}

/// A write that was not accepted: what is known about it decides what comes next. The rest goes on.
pub(super) fn refuse(
    tx: &Tx<'_>,
    planned: &Planned,
    error: &SideError,
    ready: &Ready,
    now: DateTime<Utc>,
    verify_after: DateTime<Utc>,
) -> Stored<()> {
    was_refused(tx, planned, error, ready, now, verify_after)?;
    // While it was on its way, everybody of the address may have left.
    super::place::let_go(tx, planned.link)
}

fn was_refused(
    tx: &Tx<'_>,
    planned: &Planned,
    error: &SideError,
    ready: &Ready,
    now: DateTime<Utc>,
    verify_after: DateTime<Utc>,
) -> Stored<()> {
    if super::safety::did_nothing(error) {
        planned.harm.take_back(tx, now)?;
    }
    let Some(link) = tx.link(planned.link)? else { return Ok(()) };
    if link.brevo_id != planned.brevo.as_ref().map(|contact| contact.id) {
        // Identity has given the person another contact meanwhile. What is watched by now is about that one: it stays, above
        // all that a no of that one's may have been lifted. Whoever has this one was given what is on its way to it.
        if error.may_have_landed() {
            put_conflicts(tx, link.id, planned.plan.lost_on(SideName::Brevo), None, now)?;
        }
        return tx.mark_dirty(link.id, link.dirty.max(Dirty::Live));
    }
    let subject = subject_of(tx, &link)?;
    // What was being watched before is watched as it was: answered, or of unknown outcome.
    let earlier = || tx.drop_intent(link.id, planned.watched.as_ref(), !planned.ahead);
    match &error.kind {
        // It may have landed, without a no that somebody has brought meanwhile: that is still to be put to what it has made.
        _ if error.may_have_landed()
            && planned.brevo.is_none()
            && base_of(&link).is_ok_and(|known| is_brought(&known, &planned.plan)) =>
        {
            let intent = person::Flights { may_loosen: true, ..planned.intent().into_owned() };
            return tx.put_intent(link.id, &pack_flights(tx, &intent)?, verify_after);
        }
        // It may have landed or may still land: nothing more is written until a later read shows what became of it.
        _ if error.may_have_landed() => {
            let flights = pack_flights(tx, &planned.intent())?;
            return tx.put_intent(link.id, &flights, verify_after);
        }
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy => {
            earlier()?;
            let wait =
                error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(TimeDelta::seconds(30));
            return tx.postpone(link.id, now + wait, false);
        }
        ErrorKind::Auth(_) | ErrorKind::Unsupported => return earlier(),
        _ => {}
    }
    earlier()?;
    // One field at fault: the record is written without it, and the field's trouble is listed.
    let at_fault = culprit(planned, &error.kind);
    let mut quarantined = link.quarantined.clone();
    let mut without = Vec::new();
    for attribute in &at_fault {
        if attribute == "EXT_ID" {
            quarantined.insert("external_id".to_owned(), String::new());
            without.push("external_id".to_owned());
        }
        for rule in
            ready.mapping.rules.iter().filter(|rule| rule.targets.iter().any(|target| target.attribute == *attribute))
        {
            if let Some(flight) = planned.plan.flights.field(SideName::Brevo, &rule.key) {
                quarantined.insert(rule.key.clone(), person::quarantine_key(&flight.sent));
                without.push(rule.key.clone());
            }
        }
    }
    let about_email = needs_lookup(planned, &Outcome::Failed(Box::new(error.clone()))).is_some();
    if let Some(new) = &planned.plan.change.email
        && about_email
        && link.tries > 0
        // Or it is to take another by now, which nobody has refused.
        && link.rename_to.as_ref() == Some(new)
    {
        // Somebody who is not to be adopted has the new address: everything else about the person goes on.
        tx.hold_rename(link.id, new)?;
        let detail = "Brevo does not take its new e-mail: another contact has it";
        tx.put_notice("identity_conflict", &subject, Some(detail), now)?;
    }
    if without.is_empty() {
        let tries = link.tries + 1;
        // It is listed; but a no, which goes alone by now, goes on all the same, ever more rarely: nobody's is given up.
        let dead = tries >= MOST_TRIES && !planned.only_opt_out;
        tx.put_failure(&NewFailure { dead, ..NewFailure::refused(Some(link.id), &subject, "", error) }, now)?;
        if dead {
            tx.give_up_at(link.id, planned.marks)?;
            return tx.postpone(link.id, now, true);
        }
        let wait = if about_email && tries < MOST_TRIES { TimeDelta::zero() } else { wait_after(tries) };
        return tx.postpone(link.id, now + wait, true);
    }
    for rule in &without {
        tx.put_failure(&NewFailure::refused(Some(link.id), &subject, rule, error), now)?;
    }
    tx.set_quarantined(link.id, &quarantined)?;
    tx.mark_dirty(link.id, link.dirty.max(Dirty::Live))
}

/// The attributes that the vendor's words blame, among those that were sent.
fn culprit(planned: &Planned, kind: &ErrorKind) -> Vec<String> {
    let change = &planned.plan.change;
    let sent = |name: &str| change.attributes.contains_key(name) || (name == "EXT_ID" && change.ext_id.is_some());
    let named: Vec<String> = match kind {
        ErrorKind::Conflict { identifiers, .. } => identifiers.iter().map(|name| name.to_uppercase()).collect(),
        ErrorKind::Rejected { field: Some(field) } => vec![field.to_uppercase()],
        _ => Vec::new(),
    };
    let blamed: Vec<String> = named
        .into_iter()
        .map(|name| match name.as_str() {
            "PHONE" | "PHONE_ID" | "SMS_ID" => "SMS".to_owned(),
            "EXTID" | "EXTERNAL_ID" => "EXT_ID".to_owned(),
            _ => name,
        })
        .filter(|name| sent(name))
        .collect();
    // Words that blame nothing: a phone is the most common reason for which Brevo refuses a whole contact.
    if blamed.is_empty() && matches!(kind, ErrorKind::Rejected { field: None }) && sent("SMS") {
        return vec!["SMS".to_owned()];
    }
    blamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_again_and_again_is_sent_ever_more_rarely() {
        assert_eq!([1, 2, 3].map(|tries| wait_after(tries).num_seconds()), [10, 20, 40]);
        assert_eq!(wait_after(u32::MAX), MOST_WAIT);
    }
}
