//! Opt-outs that Brevo has and that travel to Intercom, unless `consent.direction` is `intercom_to_brevo`.
//!
//! They have a queue of their own, apart from the links' writes: they go to another vendor, whose troubles hold up nobody
//! else, and each Intercom contact of an address is told once, and by itself. What is kept of that also tells our own
//! write from a person's opt-out when a page or a notice shows it.

use super::answers::{MOST_TRIES, wait_after};
use super::cycle::stops_everything;
use super::forget::{self, Tombstones};
use super::observe::flights_of;
use super::push::{AT_ONCE, CHUNK, Pushed};
use super::safety::{self, Gate, Pass};
use super::unreadable::replaceable;
use super::{BATCH, Connection, EngineError};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, Consent, ContactKey, ErrorKind, Fetched, IntercomChange, IntercomContactId,
    Observation, OptOutReason, Priority, SideError, SideName, Write,
};
use crate::reconcile::consent::{self, ConsentBase, MemberStep, MemberViews};
use crate::reconcile::harm::Kind;
use crate::reconcile::person::Member;
use crate::store::carried::Carried;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::listings::{Change, NewFailure, OPT_OUT_IN_INTERCOM};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::time::Duration;

/// When a token that may not write is tried again.
pub(super) const AFTER_NOT_LET_IN: TimeDelta = TimeDelta::minutes(5);
/// When a contact is tried again that Intercom did not find: a read by id tells what became of it.
const NOT_FOUND: TimeDelta = TimeDelta::minutes(1);

/// The Intercom contacts of a person, as far as consent is concerned, and what they were told.
pub(super) fn members_of<'a>(
    tx: &Tx<'_>,
    brevo: Option<BrevoContactId>,
    live: impl Iterator<Item = &'a IntercomRow>,
) -> Stored<Vec<Member>> {
    let mut members = Vec::new();
    for row in live {
        let (id, out) = (row.contact.id.clone(), row.contact.consent.email_opted_out());
        // What was told about another Brevo contact is another matter.
        let known = tx.carried(&id)?.filter(|known| Some(known.brevo) == brevo);
        let (told, ours) = known.map_or((false, false), |known| (known.told, known.ours));
        let shown = out && tx.opted_out_by_notice(&id, row.contact.updated_at)?.is_none();
        members.push(Member { id, views: MemberViews { out, shown, ours, told } });
    }
    Ok(members)
}

/// Consent belongs to the address: who has the link's in Intercom, has said no there, and is nobody's (who they are cannot be
/// told, or is not decided yet) counts like one of its people, whose consent this is. They themselves are told nothing.
///
/// Who is somebody else's, and has come to the address since, is yet to be placed: perhaps its people have left it, too. Until
/// then nothing is said to a contact that is there; but none is made under the address without that no. Nor without the no of
/// those of its people (`rows`) who are gone: they may be back, and an opted-out address that comes back comes back opted out.
/// `true`: a contact is there, and one that was made would have such a no.
pub(super) fn heed_strangers(
    tx: &Tx<'_>,
    link: &LinkRow,
    rows: &[IntercomRow],
    mut consent: Consent,
) -> Stored<(Consent, Vec<Member>, bool)> {
    let (mut strangers, mut unheard) = (Vec::new(), false);
    let is_to_be_made = link.brevo_id.is_none();
    let had_it = |row: &&IntercomRow| row.state != ContactState::Live && row.contact.email == link.email;
    for row in rows.iter().filter(had_it) {
        if is_to_be_made {
            consent.email_opt_outs.extend(row.contact.consent.email_opt_outs.iter().copied());
        }
        unheard |= !is_to_be_made && row.contact.consent.email_opted_out();
    }
    // What one of them had said last, and Brevo has not been told, is told it though they are gone.
    let last_nos = if is_to_be_made { Vec::new() } else { tx.last_nos(link.id)? };
    for no in last_nos {
        let gone = rows.iter().find(|row| row.contact.id == no.contact);
        // Whoever was merged into another lives on in them, whatever their address is by now.
        if gone.is_some_and(|row| row.state == ContactState::Merged || row.contact.email == link.email) {
            consent.email_opt_outs.extend(no.email.then_some(OptOutReason::Unsubscribed));
            consent.sms_opted_out |= no.sms;
            strangers.push(is_heard(no.contact, no.email));
        }
    }
    // Mostly there is none.
    let email = match &link.email {
        Some(email) if tx.has_strangers(email, link.id)? => email,
        _ => return Ok((consent, strangers, unheard)),
    };
    for id in tx.intercom_ids_by_email(email)? {
        let row = match tx.intercom_contact(&id) {
            // It is read anew, and seen then.
            Err(error) if error.unreadable().is_some() => None,
            row => row?,
        };
        let Some(row) = row.filter(|row| row.link != Some(link.id)) else { continue };
        let is_there = matches!(row.state, ContactState::Live | ContactState::Missing);
        if !is_there || !row.contact.consent.email_opted_out() {
            continue;
        }
        if is_to_be_made || row.link.is_none() {
            consent.email_opt_outs.extend(row.contact.consent.email_opt_outs);
            strangers.push(is_heard(id, true));
        } else {
            unheard = true;
        }
    }
    Ok((consent, strangers, unheard))
}

/// Somebody whose no counts for the others of the address, and who is told nothing.
pub(super) fn is_heard(id: IntercomContactId, out: bool) -> Member {
    Member { id, views: MemberViews { out, shown: true, ours: false, told: true } }
}

/// Whether no row of an import may carry what is planned for the contact that is there. A row finds it by its address: if
/// another shows that, theirs is gone, or has another. And where it finds none, it makes one, that knows nothing of a no that
/// counts for whoever is made under the address.
pub(super) fn takes_no_row(
    tx: &Tx<'_>,
    contact: Option<&BrevoContact>,
    tombstones: Option<&Tombstones>,
    unheard: bool,
) -> Stored<bool> {
    let Some((own, email)) = contact.and_then(|contact| Some((contact.id, contact.email.as_ref()?))) else {
        return Ok(false);
    };
    Ok(unheard
        || tx.brevo_ids_by_email(email)?.iter().any(|id| *id != own)
        || tx.brevo_opt_outs(None, Some(email))?.iter().any(|fact| fact.over_at.is_none())
        || forget::opted_out_before(tx, tombstones, Some(email))?.0)
}

/// Keeps what is to be told.
pub(super) fn keep_steps(
    tx: &Tx<'_>,
    link: i64,
    brevo: BrevoContactId,
    steps: &[(IntercomContactId, MemberStep)],
    now: DateTime<Utc>,
) -> Stored<()> {
    for (contact, step) in steps {
        let mut row = tx.carried(contact)?.unwrap_or_else(|| Carried::new(contact.clone(), link, brevo));
        if row.brevo != brevo {
            (row.told, row.ours) = (false, false);
        }
        (row.link, row.brevo) = (link, brevo);
        match step {
            MemberStep::Nothing => continue,
            MemberStep::Tell => (row.told, row.due, row.tries) = (true, Some(now), 0),
            MemberStep::Known => (row.told, row.due) = (true, None),
            MemberStep::Forget => (row.told, row.due) = (false, None),
        }
        keep(tx, &row)?;
    }
    Ok(())
}

fn keep(tx: &Tx<'_>, row: &Carried) -> Stored<()> {
    let matters = row.told || row.ours || row.due.is_some() || row.is_watched();
    if matters { tx.put_carried(row) } else { tx.drop_carried(&row.contact) }
}

/// Brevo shows an opt-out: who has not been told is told, whatever else about the person has to wait.
///
/// `showed_none`: the look before this did not. Unless it may be ours, it is another than the one that they were told
/// of, though no plan has heeded the yes in between.
pub(super) fn carry_at_once(
    tx: &Tx<'_>,
    link: &LinkRow,
    brevo: BrevoContactId,
    (base, showed_none): (Option<ConsentBase>, bool),
    now: DateTime<Utc>,
) -> Stored<()> {
    if link.state != LinkState::Active {
        return Ok(());
    }
    let rows = tx.members(link.id)?;
    let live = rows.iter().filter(|row| row.state == ContactState::Live);
    // Where it cannot be read what is on its way, it may be ours.
    let own = flights_of(link).is_ok_and(|flights| !flights.may_blocklist());
    let anew = showed_none && own;
    let base = base.map(|base| ConsentBase { brevo_out: base.brevo_out && !anew, ..base });
    let steps: Vec<_> = members_of(tx, Some(brevo), live)?
        .into_iter()
        .map(|Member { id, views }| {
            let views = MemberViews { told: views.told && !anew, ..views };
            (id, consent::tell(views, true, own, base))
        })
        .collect();
    keep_steps(tx, link.id, brevo, &steps, now)
}

/// A contact was made in Brevo with the no of its people: who has said one in Intercom knows of it. It may be long until a
/// look shows it again, and a yes that they say in Intercom until then is newer.
pub(super) fn made_with_their_no(
    tx: &Tx<'_>,
    link: i64,
    brevo: BrevoContactId,
    tells_intercom: bool,
    now: DateTime<Utc>,
) -> Stored<()> {
    let is_out = |contact: BrevoContact| contact.consent.email_opted_out();
    if !tells_intercom || !replaceable(tx, tx.brevo_contact(brevo))?.0.is_some_and(is_out) {
        return Ok(());
    }
    let rows = tx.members(link)?;
    let live = rows.iter().filter(|row| row.state == ContactState::Live);
    let members = members_of(tx, Some(brevo), live)?.into_iter();
    let said_so = members.filter(|member| member.views.out && member.views.shown && !member.views.ours);
    let steps: Vec<_> = said_so.map(|member| (member.id, MemberStep::Known)).collect();
    keep_steps(tx, link, brevo, &steps, now)
}

/// A contact shows another consent than before: what counts as known before it. An opt-out that is our own write is no news;
/// a bounce or a complaint is one, whatever the contact had said until then.
///
/// `read_began`: our clock; a notice began before everything.
pub(super) fn known_before(
    tx: &Tx<'_>,
    contact: &IntercomContactId,
    link: i64,
    (before, now): (&Consent, &Consent),
    read_began: DateTime<Utc>,
) -> Stored<Consent> {
    let mut known = before.clone();
    if is_our_doing(tx, contact, link, (before, now), read_began)? {
        known.email_opt_outs.clone_from(&now.email_opt_outs);
    } else if shows_theirs(before, now) {
        known.email_opt_outs.clear();
    }
    Ok(known)
}

/// A contact shows another consent than before. `true`: it is opted out, and that is our own write. Any other opt-out is a
/// person's, and new to the others of the address.
fn is_our_doing(
    tx: &Tx<'_>,
    contact: &IntercomContactId,
    link: i64,
    (before, now): (&Consent, &Consent),
    read_began: DateTime<Utc>,
) -> Stored<bool> {
    let (was_out, is_out) = (before.email_opted_out(), now.email_opted_out());
    let theirs = shows_theirs(before, now);
    if was_out == is_out && !theirs {
        return Ok(false);
    }
    let Some(mut row) = tx.carried(contact)? else {
        if is_out {
            tx.tell_anew(link, contact)?;
        }
        return Ok(false);
    };
    let watched = row.is_watched();
    // After this nothing of ours can land any more.
    let settles = row.until.is_some_and(|until| until <= read_began);
    row.ours = is_out && watched && !theirs;
    if row.ours {
        (row.landed, row.verify) = (true, false);
    } else if is_out {
        tx.tell_anew(link, contact)?;
    } else if watched {
        // Their own opt-in. Should a late write of ours land on it, a read tells that from an opt-out of theirs.
        row.verify = true;
    }
    if settles && row.landed {
        (row.until, row.verify) = (None, false);
    }
    keep(tx, &row)?;
    Ok(row.ours)
}

/// A contact shows a reason not to be mailed, not shown before, that no write of ours makes: a mail came back, or was
/// reported as spam. That is no opt-out of ours, whatever is on its way.
fn shows_theirs(before: &Consent, now: &Consent) -> bool {
    now.email_opt_outs
        .difference(&before.email_opt_outs)
        .any(|reason| matches!(reason, OptOutReason::HardBounced | OptOutReason::Spam))
}

/// A notice of an opt-out that is older than what is known of a contact that we opted out ourselves: it tells of that.
pub(super) fn is_old_news(tx: &Tx<'_>, row: &IntercomRow, at: DateTime<Utc>) -> Stored<bool> {
    Ok(row.contact.updated_at.timestamp() > at.timestamp()
        && tx.carried(&row.contact.id)?.is_some_and(|carried| carried.told))
}

/// An Intercom contact in lists and history.
fn subject(contact: &IntercomContactId) -> String {
    format!("contact {contact}")
}

impl Connection {
    /// Settles what is on its way to Intercom, and sends what is due.
    pub(super) async fn tell_once(&self, priority: Priority) -> Result<Pushed, EngineError> {
        self.verify_told(priority).await?;
        self.tell_intercom(priority).await
    }

    /// Opt-outs that have come while something else goes to Intercom, which may take hours: they go before the rest of it.
    pub(super) async fn tell_between(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let now = self.now();
        let due = self.store.read(move |tx| Ok(tx.next_carried()?.is_some_and(|next| next <= now))).await?;
        if due { self.tell_once(priority).await } else { Ok(Pushed::default()) }
    }

    /// Opt-outs, then all else that goes to Intercom.
    pub(super) async fn tell_and_write_back(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut told = self.tell_once(priority).await?;
        told += self.create_back(priority).await?;
        told += self.readdress(priority).await?;
        told += self.write_back(priority).await?;
        told += self.resubscribe(priority).await?;
        told += self.part(priority).await?;
        Ok(told)
    }

    /// How long until something is to be told, at most `most`.
    pub(super) async fn until_told(&self, most: Duration) -> Result<Duration, EngineError> {
        let resubscribes = self.settings().resubscribes;
        let next = self
            .store
            .read(move |tx| {
                let opt_in = if resubscribes { tx.next_opt_in()? } else { None };
                let (told, written) = (tx.next_carried()?, tx.next_write_back()?);
                let more = [tx.next_newcomer()?, tx.next_readdress()?, tx.next_parting()?, opt_in];
                Ok(told.into_iter().chain(written).chain(more.into_iter().flatten()).min())
            })
            .await?;
        Ok(next.map_or(most, |at| (at - self.now()).to_std().unwrap_or_default().clamp(Duration::from_secs(1), most)))
    }

    /// Opts out in Intercom whoever has opted out in Brevo. That Intercom does not let us holds up nothing else: it is
    /// listed, and tried again.
    pub(super) async fn tell_intercom(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut told = Pushed::default();
        if !self.settings().tells_intercom {
            return Ok(told);
        }
        // Whoever is at it goes on until nothing is due.
        let Ok(_telling) = self.telling.try_lock() else { return Ok(told) };
        loop {
            self.go_on()?;
            if self.is_held(SideName::Intercom) {
                return Ok(told);
            }
            let rows = self.put_opt_out_intents().await?;
            if rows.is_empty() {
                return Ok(told);
            }
            self.doors.crash.reach("after_opt_out_intent");
            let began = self.now();
            let mut answers = futures_util::stream::iter(rows.into_iter().map(|row| async move {
                let write = Write::UpdateIntercomContact(row.contact.clone(), IntercomChange::opt_out());
                let answer = self.intercom.write(&write, priority).await;
                (row, answer)
            }))
            .buffer_unordered(AT_ONCE);
            let mut done = Vec::new();
            while let Some(answer) = answers.next().await {
                done.push(answer);
            }
            drop(answers);
            self.doors.crash.reach("after_opt_out_write");
            let fatal = done.iter().find_map(|(_, answer)| match answer {
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => Some(error.clone()),
                _ => None,
            });
            told += self.record_told(done, began).await?;
            if let Some(error) = fatal {
                let error = EngineError::Side(error);
                let help = error.arrow_to_remedy();
                tracing::error!("opt-outs cannot be written to Intercom: {}{help}", error.for_log());
                if stops_everything(&error) {
                    self.note_refusal(&error).await;
                }
                return Ok(told);
            }
        }
    }

    /// Intent before write. As they were before.
    async fn put_opt_out_intents(&self) -> Result<Vec<Carried>, EngineError> {
        let (now, until, bounds) = (self.now(), self.late_landing(), self.bounds());
        let (rows, begun) = self
            .store
            .write(move |tx| {
                let mut rows = Vec::new();
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                gate.judge_told(tx)?;
                for row in tx.carried_due(now, CHUNK)? {
                    let known = replaceable(tx, tx.intercom_contact(&row.contact))?.0;
                    let there = known.is_none_or(|known| known.state == ContactState::Live);
                    // Who has said no in Brevo has said it, also if their contact was deleted there since.
                    let current = tx
                        .link(row.link)?
                        .is_some_and(|link| link.state != LinkState::Left && link.brevo_id == Some(row.brevo));
                    if !there || !current {
                        // Whose contact it is by now, and what stands in Brevo for that one, is planned by itself.
                        keep(tx, &Carried { due: None, told: false, ..row })?;
                        continue;
                    }
                    let until = Some(until);
                    gate.tell(tx, row.contact.as_str())?;
                    tx.put_carried(&Carried { due: None, until, landed: false, verify: true, ..row.clone() })?;
                    rows.push(row);
                }
                let (_, _, begun) = gate.close(tx)?;
                Ok((rows, begun))
            })
            .await?;
        safety::tell(&begun);
        Ok(rows)
    }

    async fn record_told(
        &self,
        done: Vec<(Carried, Result<Answer, Box<SideError>>)>,
        began: DateTime<Utc>,
    ) -> Result<Pushed, EngineError> {
        let (now, until) = (self.now(), self.late_landing());
        let source = self.source(0, false, began, Dirty::Live)?;
        Ok(self
            .store
            .write(move |tx| {
                let mut told = Pushed::default();
                for (before, answer) in &done {
                    told.requests += 1;
                    let id = &before.contact;
                    let Some(row) = tx.carried(id)? else { continue };
                    let answer = match answer {
                        Ok(answer) => answer,
                        Err(error) => {
                            if safety::did_nothing(error) && !tx.is_told_by_notice(id.as_str())? {
                                safety::give_back(tx, Kind::OptOuts, 1, now)?;
                            }
                            told.failed += u64::from(not_told(tx, before, &row, error, now, until)?);
                            continue;
                        }
                    };
                    told.opted_out += 1;
                    tx.put_carried(&Carried { until: Some(until), landed: true, verify: false, tries: 0, ..row })?;
                    if let Answer::IntercomContact(contact, _) = answer
                        && contact.id == *id
                    {
                        source.apply(tx, &Observation::IntercomContact(contact.clone()))?;
                    }
                    let out = |row: IntercomRow| row.contact.consent.email_opted_out();
                    let shows_it = replaceable(tx, tx.intercom_contact(id))?.0.is_some_and(out);
                    if let Some(row) = tx.carried(id)?.filter(|_| !shows_it) {
                        tx.put_carried(&Carried { verify: true, ..row })?;
                    }
                    tx.clear_failure(&subject(id), OPT_OUT_IN_INTERCOM)?;
                    tx.put_change(&Change {
                        link: Some(before.link),
                        at: now,
                        what: format!("opt-out of contact {id} in Intercom"),
                        fields: [("consent".to_owned(), "opted out in Brevo".to_owned())].into(),
                        answer: "accepted".to_owned(),
                        import: None,
                        request: Some(crate::intercom::request_for(id)),
                    })?;
                }
                Ok(told)
            })
            .await?)
    }

    /// Reads what has become of writes without an answer, and of opt-ins on which a late write may have landed.
    async fn verify_told(&self, priority: Priority) -> Result<(), EngineError> {
        let Ok(_telling) = self.telling.try_lock() else { return Ok(()) };
        let mut after = String::new();
        loop {
            let now = self.now();
            let from = after.clone();
            let rows = self.store.read(move |tx| tx.carried_to_verify(now, &from, BATCH)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            last.contact.as_str().clone_into(&mut after);
            for row in rows {
                self.go_on()?;
                if self.is_held(SideName::Intercom) {
                    return Ok(());
                }
                let read_began = self.now();
                let found = match self.intercom.fetch(&ContactKey::Intercom(row.contact.clone()), priority).await {
                    Ok(found) => found,
                    // It is tried again; whoever reads Intercom tells what is wrong.
                    Err(error) => {
                        tracing::debug!("an opt-out in Intercom cannot be verified for now: {}", error.for_log());
                        let again = self.now() + NOT_FOUND;
                        self.store.write(move |tx| put_off(tx, &row.contact, again)).await?;
                        return Ok(());
                    }
                };
                let source = self.source(0, true, read_began, Dirty::Live)?;
                self.store
                    .write(move |tx| {
                        match &found {
                            Fetched::Found(observation, _) => source.apply(tx, observation)?,
                            Fetched::Gone(how) => {
                                let gone = Observation::IntercomContactGone(row.contact.clone(), how.clone());
                                source.apply(tx, &gone)?
                            }
                        };
                        settle(tx, &row.contact, source.now)
                    })
                    .await?;
            }
        }
    }
}

fn put_off(tx: &Tx<'_>, contact: &IntercomContactId, until: DateTime<Utc>) -> Stored<()> {
    match tx.carried(contact)? {
        Some(row) => tx.put_carried(&Carried { until: Some(until), ..row }),
        None => Ok(()),
    }
}

/// A read that began late enough has shown the contact.
fn settle(tx: &Tx<'_>, contact: &IntercomContactId, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.carried(contact)?.filter(Carried::is_watched) else { return Ok(()) };
    let known = replaceable(tx, tx.intercom_contact(contact))?.0;
    let Some(known) = known.filter(|known| known.state == ContactState::Live) else { return tx.drop_carried(contact) };
    let out = known.contact.consent.email_opted_out();
    // Nothing has landed, and nothing can any more: it is sent again.
    let due = (row.told && !out && !row.landed).then_some(now);
    if due.is_some() && !tx.is_told_by_notice(contact.as_str())? {
        safety::give_back(tx, Kind::OptOuts, 1, now)?;
    }
    keep(tx, &Carried { due, until: None, verify: false, ..row })
}

/// Intercom did not take it. `true`: that is a failure of its own, and listed.
fn not_told(
    tx: &Tx<'_>,
    before: &Carried,
    row: &Carried,
    error: &SideError,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Stored<bool> {
    let (id, tries) = (&before.contact, before.tries + 1);
    // What was being watched before is watched as it was; that it has become another's, or nobody's, meanwhile stands.
    let again = |due: Option<DateTime<Utc>>, tries: u32| {
        let Carried { until, landed, verify, .. } = *before;
        keep(tx, &Carried { due: due.filter(|_| row.told), until, landed, verify, tries, ..row.clone() })
    };
    let list = || {
        let subject = subject(id);
        let failure = NewFailure::refused(None, &subject, OPT_OUT_IN_INTERCOM, error);
        tx.put_failure(&NewFailure { dead: false, ..failure }, now)
    };
    match &error.kind {
        // It may have landed, or still may.
        _ if error.may_have_landed() => {
            tx.put_carried(&Carried { until: Some(until), ..row.clone() })?;
            Ok(false)
        }
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy => {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
            again(Some(now + wait.unwrap_or(TimeDelta::seconds(30))), before.tries)?;
            Ok(false)
        }
        ErrorKind::Auth(_) => {
            again(Some(now + AFTER_NOT_LET_IN), before.tries)?;
            list()?;
            Ok(true)
        }
        ErrorKind::NotFound | ErrorKind::Merged { .. } if tries < MOST_TRIES => {
            // Deleted, archived or merged: a read by id decides, and whoever takes its place is told.
            tx.want_contact(id)?;
            again(Some(now + NOT_FOUND), tries)?;
            Ok(false)
        }
        _ => {
            // It is listed, and goes on all the same, ever more rarely: nobody's no is given up.
            again(Some(now + wait_after(tries)), tries)?;
            list()?;
            Ok(true)
        }
    }
}
