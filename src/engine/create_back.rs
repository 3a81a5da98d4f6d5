//! Contacts that Brevo has and Intercom has not: `contacts.create.intercom` (docs/decisions/0018).
//!
//! Intercom knows no upsert and no key that would make a repeat harmless; its search lags some minutes behind, and among
//! leads nothing keeps a second one of an address from being made. So whoever is nobody's in Brevo waits, is looked for
//! under all that they are known by, and is made only then; and a request of which no answer is known is not repeated before
//! a look that begins later than what it made could take to be found.

mod answers;

use super::carry::AFTER_NOT_LET_IN;
use super::cycle::stops_everything;
use super::filters::takes_part;
use super::forget::Tombstones;
use super::observe::{flights_of, mark_brevo_gone, pack_base};
use super::push::{AT_ONCE, CHUNK, Pushed};
use super::safety::{self, Gate, Pass};
use super::unreadable::sparing;
use super::{BATCH, Connection, EngineError, LATE_LANDING, Ready, Settings, partings};
use crate::config::Archived;
use crate::model::{
    BrevoContact, BrevoContactId, Consent, ContactKey, Email, ErrorKind, Fetched, Fields, IntercomChange,
    IntercomContact, IntercomContactId, NewIntercomContact, Observation, Priority, Resource, Role, SideError, SideName,
    Sides, Value, Write,
};
use crate::reconcile::person::{self, Base, Flights, PersonPlan, PersonViews, ResolvedList};
use crate::reconcile::taking_part::Part;
use crate::store::carried::Carried;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::harm::held_until;
use crate::store::links::{Dirty, LinkState};
use crate::store::newcomers::{Newcomer, Stage};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;

/// How long a contact that somebody has just made in Intercom may be missing from its search ("a few minutes").
const INDEX_LAG: TimeDelta = TimeDelta::minutes(5);
/// Somebody is looked at again who cannot be made for now, because of something that passes.
const SOON: TimeDelta = TimeDelta::minutes(1);
/// Something about them is being settled, or will be shown by a read.
const LATER: TimeDelta = TimeDelta::minutes(15);
/// Who is listed is looked at now and then.
const NOW_AND_THEN: TimeDelta = TimeDelta::days(1);
/// Whoever is being written to right now is looked at again then.
const BUSY: TimeDelta = TimeDelta::seconds(2);

/// A Brevo contact that is nobody's was seen, new or changed.
pub(super) fn note(tx: &Tx<'_>, contact: BrevoContactId, settings: &Settings, now: DateTime<Utc>) -> Stored<()> {
    if settings.creates_in_intercom.is_some() { tx.note_newcomer(contact, now + INDEX_LAG) } else { Ok(()) }
}

/// Who is to be made in Intercom, once a config says so.
pub(super) fn switch(tx: &Tx<'_>, makes: Option<Role>, now: DateTime<Utc>) -> Stored<()> {
    const LISTED: &str = "newcomers_noted";
    let noted = tx.meta(LISTED)?.as_deref() == Some("yes");
    match (makes, noted) {
        (None, _) => {
            tx.drop_newcomers()?;
            safety::intercom_may_be_filled_anew(tx)?;
            if noted { tx.set_meta(LISTED, "no") } else { Ok(()) }
        }
        (Some(_), false) => {
            tx.note_all_newcomers(now + INDEX_LAG)?;
            tx.set_meta(LISTED, "yes")
        }
        (Some(_), true) => Ok(()),
    }
}

/// The contact that a request of ours made with this address, or may have made: whatever address it shows in Brevo by now.
pub(super) fn made_for(tx: &Tx<'_>, email: Option<&Email>) -> Stored<Option<BrevoContactId>> {
    let Some(email) = email else { return Ok(None) };
    let Some(row) = tx.newcomer_sent_with(email)? else { return Ok(None) };
    Ok(if tx.link_by_brevo(row.brevo)?.is_none() { Some(row.brevo) } else { None })
}

/// A contact is linked that a request of ours may have made: what that request took along is what both agreed on. So an
/// opt-out that rode in it is no word of Intercom's, and an address given in Brevo since is an edit.
pub(super) fn keep_sent(tx: &Tx<'_>, link: i64, brevo: BrevoContactId, shown: &IntercomContact) -> Stored<()> {
    let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
    if !matches!(row.stage, Stage::Sent | Stage::Unsure) || row.email != shown.email {
        return Ok(());
    }
    if row.opted_out && shown.consent.email_opted_out() && tx.carried(&shown.id)?.is_none() {
        tx.put_carried(&Carried { told: true, ours: true, ..Carried::new(shown.id.clone(), link, brevo) })?;
    }
    let theirs = tx.brevo_contact(brevo)?.and_then(|theirs| theirs.email);
    if row.email.is_some() && theirs != row.email {
        tx.set_base(link, &pack_base(tx, &Base { email: row.email.clone(), ..Base::default() })?)?;
    }
    // Which one it is: somebody else may have the address by the time when its external id is added.
    tx.put_newcomer_row(&Newcomer { contact: Some(shown.id.clone()), ..row })
}

/// Somebody was linked to a Brevo contact: one that a request of ours made, for a contact that was deleted while that was on
/// its way, is as one of whom that is found out right after.
pub(super) fn may_be_gone(tx: &Tx<'_>, brevo: BrevoContactId, settings: &Settings, now: DateTime<Utc>) -> Stored<()> {
    if tx.brevo_contact(brevo)?.is_some() {
        return Ok(());
    }
    let Some(link) = tx.link_by_brevo(brevo)? else { return Ok(()) };
    partings::had_left_brevo(tx, &link, settings, now)?;
    mark_brevo_gone(tx, &link, now)
}

/// How a Brevo contact is named in lists.
fn subject(brevo: BrevoContactId) -> String {
    format!("Brevo contact {brevo}")
}

/// The kinds of notice about them.
const NOTICES: [&str; 4] = ["archived_in_intercom", "deleted_in_intercom", "identity_conflict", "without_email"];

fn clear_notices(tx: &Tx<'_>, brevo: BrevoContactId) -> Stored<()> {
    let subject = subject(brevo);
    NOTICES.iter().try_for_each(|kind| tx.clear_notice(kind, &subject))?;
    tx.clear_failure(&subject, "")
}

/// Nothing is to be done about it any more.
fn is_done(tx: &Tx<'_>, brevo: BrevoContactId) -> Stored<()> {
    clear_notices(tx, brevo)?;
    tx.drop_newcomer(brevo)
}

fn list(tx: &Tx<'_>, row: Newcomer, kind: &str, detail: Option<&str>, now: DateTime<Utc>) -> Stored<()> {
    clear_notices(tx, row.brevo)?;
    tx.put_notice(kind, &subject(row.brevo), detail, now)?;
    tx.put_newcomer_row(&Newcomer {
        stage: Stage::Listed,
        due: now + NOW_AND_THEN,
        email: None,
        opted_out: false,
        tries: 0,
        ..row
    })
}

/// Whether somebody is to be made in Intercom, as far as the state knows.
#[derive(Debug)]
enum Turn {
    /// There is nothing (more) to be done.
    Done,
    /// Their external id is to be added to this contact, if it has another.
    Identify(i64, IntercomContactId, String),
    /// Looked at again later.
    Wait(TimeDelta),
    /// It is what somebody was on the way to when they got another contact: nobody is made for it.
    Alone,
    /// They cannot be made.
    List(&'static str, String),
    /// An archived contact is their match.
    Archived(IntercomContactId),
    /// They are in nobody's way.
    Make(Box<BrevoContact>),
    /// Whoever it was is gone: nobody is made, but a request may have.
    Find,
}

fn turn_of(tx: &Tx<'_>, row: &Newcomer, settings: &Settings) -> Stored<Turn> {
    let turn = turn_by_state(tx, row, settings)?;
    // A request may have made somebody: with what it carried, they are looked for before that is forgotten.
    let may_be_there = row.stage == Stage::Unsure && row.email.is_some() && tx.link_by_brevo(row.brevo)?.is_none();
    Ok(match turn {
        Turn::List(..) | Turn::Alone | Turn::Done if may_be_there => Turn::Find,
        turn => turn,
    })
}

fn turn_by_state(tx: &Tx<'_>, row: &Newcomer, settings: &Settings) -> Stored<Turn> {
    if row.stage == Stage::Alone {
        return Ok(Turn::Done);
    }
    let contact = tx.brevo_contact(row.brevo)?;
    if let Some(link) = tx.link_by_brevo(row.brevo)? {
        // One that it was given since is that of whoever it was linked to, or somebody else's.
        let ext_id = contact.and_then(|contact| contact.ext_id).filter(|ext_id| row.ext_id.as_ref() == Some(ext_id));
        let Some(ext_id) = ext_id else { return Ok(Turn::Done) };
        return Ok(match made_by(tx, row, link.id, &ext_id)? {
            Some(made) => Turn::Identify(link.id, made, ext_id),
            None => Turn::Done,
        });
    }
    if row.stage == Stage::Made {
        // It is there; whose it is waits for another, or is listed.
        let made = row.contact.as_ref().map(|made| tx.intercom_contact(made)).transpose()?.flatten();
        let there = made.is_some_and(|made| made.state == ContactState::Live);
        return Ok(if there { Turn::Wait(LATER) } else { Turn::Done });
    }
    let Some(contact) = contact else { return Ok(if row.email.is_some() { Turn::Find } else { Turn::Done }) };
    if settings.creates_in_intercom.is_none() {
        return Ok(if row.email.is_some() { Turn::Find } else { Turn::Done });
    }
    let Some(email) = &contact.email else {
        if let Some(turn) = turn_of_gone(tx, &contact)? {
            return Ok(turn);
        }
        if is_being_made(tx, row, &contact)? {
            return Ok(Turn::Wait(SOON));
        }
        let none = "it has neither an e-mail address nor an external id by which Intercom could know it";
        let made = contact.ext_id.is_some();
        return Ok(if made { Turn::Make(Box::new(contact)) } else { Turn::List("without_email", none.to_owned()) });
    };
    if let Some(forgotten) = Tombstones::read(tx)?
        && forgotten.at(tx, Some(email))?.is_some()
    {
        // Somebody asked for that.
        return Ok(Turn::Done);
    }
    for link in tx.whose_late_address(email)? {
        let Some(link) = tx.link(link)? else { continue };
        match link.brevo_id {
            Some(has) if has != contact.id => return Ok(Turn::Alone),
            // They have moved, and are still looked for under this address: it may be what was made for them.
            None if link.state == LinkState::Active => return Ok(Turn::Wait(SOON)),
            _ => {}
        }
    }
    if let Some(link) = tx.link_by_email(email)? {
        let gone = "somebody of its address was deleted in Intercom, and is not made there again";
        return Ok(match link.state {
            LinkState::Left => match known_as(tx, email, ContactState::Archived)? {
                Some(archived) => Turn::Archived(archived),
                None => Turn::List("deleted_in_intercom", gone.to_owned()),
            },
            // It is about to be linked, or to be found by the request that would make one in Brevo.
            LinkState::Active | LinkState::BrevoGone => Turn::Wait(LATER),
        });
    }
    if is_being_made(tx, row, &contact)? {
        return Ok(Turn::Wait(SOON));
    }
    if let Some(id) = known_as(tx, email, ContactState::Live)? {
        let words = format!("contact {id} in Intercom has its address, and is not linked to it");
        return Ok(if tx.is_unplaced(&id)? { Turn::Wait(SOON) } else { Turn::List("identity_conflict", words) });
    }
    if known_as(tx, email, ContactState::Missing)?.is_some() {
        return Ok(Turn::Wait(LATER));
    }
    if let Some(turn) = turn_of_gone(tx, &contact)? {
        return Ok(turn);
    }
    Ok(match known_as(tx, email, ContactState::Archived)? {
        Some(archived) => Turn::Archived(archived),
        None => Turn::Make(Box::new(contact)),
    })
}

/// Whether a request of which no answer is known was to make somebody with this address: in Brevo, for somebody who has another
/// by now (what it made is theirs), or in Intercom, for a Brevo contact that has (what it made may not be found yet). Or it was to
/// make this very contact, with their external id, and somebody has given it another address since.
fn is_being_made(tx: &Tx<'_>, row: &Newcomer, contact: &BrevoContact) -> Stored<bool> {
    if let Some(email) = &contact.email
        && waits_for_another(tx, row, email)?
    {
        return Ok(true);
    }
    for id in tx.verifiable(false, held_until(), 0, BATCH)? {
        let Some(link) = tx.link(id)?.filter(|link| link.brevo_id.is_none()) else { continue };
        let sent = match flights_of(&link) {
            Err(error) if error.unreadable().is_some() => continue,
            flights => flights?.email,
        };
        let of_its_address = sent.is_some() && sent == contact.email;
        if of_its_address || (contact.ext_id.is_some() && super::verify::may_be_of(tx, contact, &link, true)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether another Brevo contact, which has another address by now, may have been made in Intercom with this one. Those who have
/// exchanged their addresses meanwhile, two or more, do not wait for one another: nobody would be looked for any more.
fn waits_for_another(tx: &Tx<'_>, row: &Newcomer, email: &Email) -> Stored<bool> {
    const LONGEST: usize = 100;
    let sent_with = |email: &Email| -> Stored<Option<Newcomer>> {
        let sent = tx.newcomer_sent_with(email)?;
        Ok(sent.filter(|other| matches!(other.stage, Stage::Sent | Stage::Unsure)))
    };
    let Some(mut other) = sent_with(email)?.filter(|other| other.brevo != row.brevo) else { return Ok(false) };
    for _ in 0..LONGEST {
        // Whoever has none, or one that nobody was made with, goes first.
        let Some(has) = tx.brevo_contact(other.brevo)?.and_then(|contact| contact.email) else { return Ok(true) };
        match sent_with(&has)? {
            Some(next) if next.brevo == row.brevo => return Ok(false),
            Some(next) if next.brevo != other.brevo => other = next,
            _ => return Ok(true),
        }
    }
    Ok(true)
}

/// A contact with the external id of somebody who is gone in Intercom is theirs, whatever address it has been given: they are
/// not made again under that. `None`: nobody who is gone had it.
fn turn_of_gone(tx: &Tx<'_>, contact: &BrevoContact) -> Stored<Option<Turn>> {
    let Some(ext_id) = &contact.ext_id else { return Ok(None) };
    let Some(gone) = tx.gone_with_external_id(ext_id)? else { return Ok(None) };
    let id = gone.contact.id;
    let link = gone.link.map(|link| tx.link(link)).transpose()?.flatten();
    if link.is_some_and(|link| link.brevo_id.is_some()) {
        let words = format!("contact {id} had its external id in Intercom, is gone, and has another contact in Brevo");
        return Ok(Some(Turn::List("identity_conflict", words)));
    }
    Ok(Some(match gone.state {
        ContactState::Archived => Turn::Archived(id),
        ContactState::Missing => Turn::Wait(LATER),
        ContactState::Merged => {
            let words = format!("contact {id} had its external id in Intercom, and was merged into another");
            Turn::List("identity_conflict", words)
        }
        ContactState::Deleted | ContactState::Live => {
            let words = format!("contact {id} had its external id, was deleted in Intercom, and is not made again");
            Turn::List("deleted_in_intercom", words)
        }
    }))
}

/// What a request of ours has made for a person, if it may still be given their external id: it has none of its own, and
/// nobody else of theirs has it, nor had anybody who is gone.
fn made_by(tx: &Tx<'_>, row: &Newcomer, link: i64, ext_id: &str) -> Stored<Option<IntercomContactId>> {
    let made = |member: &IntercomRow| match (&row.contact, &row.email) {
        (Some(made), _) => member.contact.id == *made,
        // No answer named it.
        (None, Some(email)) => row.stage == Stage::Unsure && member.contact.email.as_ref() == Some(email),
        (None, None) => false,
    };
    let members = tx.members(link)?;
    let taken = members.iter().any(|member| member.contact.external_id.as_deref() == Some(ext_id));
    if taken || tx.gone_with_external_id(ext_id)?.is_some() {
        return Ok(None);
    }
    let made = members.iter().find(|member| member.state == ContactState::Live && made(member));
    // A lead is given one by Intercom.
    let is_uuid = |id: &str| id.len() == 36 && id.bytes().filter(|byte| *byte == b'-').count() == 4;
    let free = |member: &&IntercomRow| match &member.contact.external_id {
        None => true,
        Some(own) => member.contact.role == Role::Lead && is_uuid(own),
    };
    Ok(made.filter(free).map(|member| member.contact.id.clone()))
}

/// An Intercom contact that the state knows with this address.
fn known_as(tx: &Tx<'_>, email: &Email, state: ContactState) -> Stored<Option<IntercomContactId>> {
    for id in tx.intercom_ids_by_email(email)? {
        if tx.intercom_contact(&id)?.is_some_and(|row| row.state == state) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// A contact that is about to be made.
struct Making {
    brevo: BrevoContactId,
    new: NewIntercomContact,
    plan: PersonPlan,
}

/// What is asked of Intercom next.
enum Asked {
    Nothing,
    Make(Box<Making>),
    Archived(IntercomContactId),
}

/// The contact with all that travels to Intercom. Nothing is known there yet, so that it is what a first link would fill.
fn making(tx: &Tx<'_>, contact: &BrevoContact, role: Role, bare: bool, ready: &Ready) -> Stored<Making> {
    let mut record = Fields::new();
    record.insert("role".to_owned(), Value::Text(role.as_str().to_owned()));
    record.extend(contact.email.as_ref().map(|email| ("email".to_owned(), Value::Text(email.as_str().to_owned()))));
    let (base, flights, consent, none) = (Base::default(), Flights::default(), Consent::default(), BTreeMap::new());
    let views = PersonViews {
        record: &record,
        email: contact.email.as_ref(),
        external_id: None,
        consent: &consent,
        members: &[],
        tells: false,
        brevo: Some(contact),
        base: &base,
        flights: &flights,
        waits_for_intercom: false,
        rename_to: None,
        quarantined: &none,
        changed: Sides::default(),
        sweep: false,
        brevo_may_be_old: false,
        part: Sides::default(),
        part_problem: None,
    };
    let lists: Vec<ResolvedList<'_>> =
        ready.lists.iter().map(|(rule, list)| ResolvedList { rule, list: *list }).collect();
    let mut plan = person::plan(&views, &ready.mapping, &lists);
    // Tags are given once there is somebody to give them to.
    plan.tags.clear();
    plan.back.lists.clear();
    plan.flights.tags.clear();
    plan.intercom.retain(|_, value| value.is_some());
    if bare {
        // Something of it was refused: what it is, the write that follows tells.
        plan.intercom.clear();
    }
    // What a notice told of counts before any read shows it.
    let told = tx.brevo_opt_outs(Some(contact.id), contact.email.as_ref())?;
    let out = contact.consent.email_opted_out() || told.iter().any(|fact| fact.over_at.is_none());
    let has = IntercomChange {
        fields: plan.intercom.clone(),
        // With an address Intercom takes a new external id for a new person, even if somebody has that address. So it
        // comes after.
        external_id: contact.ext_id.clone().filter(|_| contact.email.is_none()),
        email: contact.email.clone(),
        email_opted_out: out,
        email_opted_in: None,
    };
    Ok(Making { brevo: contact.id, new: NewIntercomContact { role, has }, plan })
}

/// Whether `contacts.filter.brevo_to_intercom` lets it be made: it is looked at again when it changes.
fn may_take_part(contact: &BrevoContact, ready: &Ready) -> bool {
    takes_part(&Fields::new(), Some(contact), ready).0.intercom == Part::Takes
}

/// Who would be made by a run, and how, as far as the state knows: for a dry run.
pub(super) struct Rehearsed {
    pub(super) opted_out: bool,
    pub(super) fields: Vec<String>,
}

/// Whether this one would be made.
pub(super) fn rehearse(
    tx: &Tx<'_>,
    brevo: BrevoContactId,
    settings: &Settings,
    ready: &Ready,
) -> Stored<Option<Rehearsed>> {
    let (Some(row), Some(role)) = (tx.newcomer(brevo)?, settings.creates_in_intercom) else { return Ok(None) };
    let Turn::Make(contact) = turn_of(tx, &row, settings)? else { return Ok(None) };
    if !may_take_part(&contact, ready) {
        return Ok(None);
    }
    let has = making(tx, &contact, role, false, ready)?.new.has;
    Ok(Some(Rehearsed { opted_out: has.email_opted_out, fields: has.fields.into_keys().collect() }))
}

impl Connection {
    /// Makes in Intercom whom Brevo alone has, as far as it is their turn. That Intercom does not let us holds up nothing
    /// else: it is listed, and tried again.
    pub(super) async fn create_back(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        // Whoever is at it goes on until nothing is left that was due when they began.
        let Ok(_making) = self.making.try_lock() else { return Ok(pushed) };
        let now = self.now();
        loop {
            self.go_on()?;
            if self.is_held(SideName::Intercom) || self.is_held(SideName::Brevo) {
                return Ok(pushed);
            }
            pushed += self.tell_between(priority).await?;
            let (due, filled) = self
                .store
                .read(move |tx| {
                    // Before both were read whole, nobody is known not to be there.
                    for side in SideName::BOTH {
                        let read = tx.watermark(side, Resource::Contacts)?;
                        if read.is_none_or(|read| read.full_at.is_none()) {
                            return Ok((Vec::new(), false));
                        }
                    }
                    Ok((tx.newcomers_due(now, CHUNK)?, safety::intercom_has_been_filled(tx)?))
                })
                .await?;
            if due.is_empty() {
                if filled {
                    self.store.write(safety::intercom_is_filled).await?;
                }
                return Ok(pushed);
            }
            let mut turns =
                futures_util::stream::iter(due.into_iter().map(|brevo| self.take_newcomers_turn(brevo, priority)))
                    .buffer_unordered(AT_ONCE);
            let (mut fatal, mut down, mut through) = (None, None, false);
            while let Some(done) = turns.next().await {
                match done {
                    Ok(done) => {
                        pushed += done;
                        through = true;
                    }
                    Err(EngineError::Side(error)) if is_down(&error) => down = Some(error),
                    Err(error) => fatal = Some(error),
                }
            }
            drop(turns);
            match fatal {
                None => {}
                Some(EngineError::Side(error)) => {
                    let error = EngineError::Side(error);
                    let help = error.arrow_to_remedy();
                    tracing::error!("contacts cannot be made in Intercom: {}{help}", error.for_log());
                    if stops_everything(&error) {
                        self.note_refusal(&error).await;
                    }
                    // Nor are the others let in.
                    let until = self.now() + AFTER_NOT_LET_IN;
                    self.store.write(move |tx| tx.put_off_newcomers(now, until)).await?;
                    return Ok(pushed);
                }
                Some(error) => return Err(error),
            }
            if let Some(error) = down {
                if !through {
                    // Each of them would find out the same.
                    let until = self.now() + wait_of(&error);
                    self.store.write(move |tx| tx.put_off_newcomers(now, until)).await?;
                }
                return Ok(pushed);
            }
        }
    }

    /// One Brevo contact. Whatever becomes of it, its next turn is later, or there is none.
    async fn take_newcomers_turn(&self, brevo: BrevoContactId, priority: Priority) -> Result<Pushed, EngineError> {
        let Some(turn) = self.begin_turn(brevo).await? else { return Ok(Pushed::default()) };
        match turn {
            Turn::Identify(link, contact, ext_id) => {
                return self.identify(brevo, (link, contact, ext_id), priority).await;
            }
            Turn::Archived(_) | Turn::Make(_) => {
                // Consent, address and whether it is there at all, from just before.
                let read_began = self.now();
                match self.brevo.fetch(&ContactKey::Brevo(brevo), priority).await {
                    Ok(found) => self.take_for_true(brevo, found, read_began).await?,
                    Err(error) => return self.put_off(brevo, error).await,
                }
            }
            Turn::Done | Turn::Alone | Turn::Wait(_) | Turn::List(..) | Turn::Find => {}
        }
        for key in self.keys_of(brevo).await? {
            let read_began = self.now();
            match self.intercom.find_all(&key, priority).await {
                Ok((shown, all)) => match (shown.as_slice(), all) {
                    ([], true) => {}
                    ([one], true) => {
                        self.found(brevo, one, read_began, false).await?;
                        return Ok(Pushed::default());
                    }
                    // Several have it: whose it is by then is looked at again.
                    _ => {
                        self.keep_found(shown, read_began).await?;
                        self.place(Dirty::Live).await?;
                        self.wait(brevo, LATER).await?;
                        return Ok(Pushed::default());
                    }
                },
                // It is not even an id that could be looked for: then nobody has it.
                Err(error)
                    if matches!(error.kind, ErrorKind::Rejected { .. })
                        && matches!(key, ContactKey::IntercomExternalId(_)) => {}
                Err(error) if matches!(error.kind, ErrorKind::Rejected { .. }) => {
                    return self.cannot_look(brevo, &error).await;
                }
                Err(error) => return self.put_off(brevo, error).await,
            }
        }
        match self.put_newcomer_intent(brevo).await? {
            Asked::Nothing => Ok(Pushed::default()),
            Asked::Archived(archived) => self.meet_archived(brevo, archived, priority).await,
            Asked::Make(making) => {
                self.doors.crash.reach("after_newcomer_intent");
                let began = self.now();
                let write = Write::CreateIntercomContact(making.new.clone());
                let answer = self.intercom.write(&write, priority).await;
                self.doors.crash.reach("after_newcomer_sent");
                self.record_newcomer(*making, answer, began, priority).await
            }
        }
    }

    /// What is to be done, if it is more than the state can do by itself.
    async fn begin_turn(&self, brevo: BrevoContactId) -> Result<Option<Turn>, EngineError> {
        let (now, settings) = (self.now(), self.settings());
        let findable = self.findable();
        let turn = self
            .store
            .write(move |tx| {
                sparing(tx, now, || {
                    let Some(row) = tx.newcomer(brevo)? else { return Ok(Turn::Done) };
                    if row.stage == Stage::Sent {
                        // Whoever sent it is not there any more. When exactly it left, nobody knows.
                        tx.put_newcomer_row(&Newcomer { stage: Stage::Unsure, due: findable, ..row })?;
                        return Ok(Turn::Wait(TimeDelta::zero()));
                    }
                    let turn = turn_of(tx, &row, &settings)?;
                    settle(tx, row, &turn, now)?;
                    Ok(turn)
                })
            })
            .await?;
        if turn.is_none() {
            // What cannot be read is read anew.
            self.wait(brevo, LATER).await?;
        }
        Ok(turn.filter(|turn| !matches!(turn, Turn::Done | Turn::Alone | Turn::Wait(_) | Turn::List(..))))
    }

    /// When whatever a request makes that leaves now is found by a search.
    fn findable(&self) -> DateTime<Utc> {
        self.now() + TimeDelta::from_std(LATE_LANDING).unwrap_or_default() + INDEX_LAG
    }

    /// A read of a Brevo contact by its id.
    async fn take_for_true(
        &self,
        brevo: BrevoContactId,
        found: Fetched,
        read_began: DateTime<Utc>,
    ) -> Result<(), EngineError> {
        let source = self.source(0, true, read_began, Dirty::Live)?;
        self.store
            .write(move |tx| match &found {
                Fetched::Found(shown, _) => source.apply(tx, shown).map(drop),
                Fetched::Gone(_) => source.apply(tx, &Observation::BrevoContactGone(brevo)).map(drop),
            })
            .await?;
        Ok(())
    }

    /// Under what it is looked for.
    async fn keys_of(&self, brevo: BrevoContactId) -> Result<Vec<ContactKey>, EngineError> {
        Ok(self
            .store
            .read(move |tx| {
                let Some(row) = tx.newcomer(brevo)? else { return Ok(Vec::new()) };
                let contact = tx.brevo_contact(brevo)?;
                let (email, ext_id) = contact.map_or((None, None), |contact| (contact.email, contact.ext_id));
                let sent = row.email.filter(|sent| email.as_ref() != Some(sent));
                let emails = sent.into_iter().chain(email).map(ContactKey::IntercomEmail);
                Ok(ext_id.map(ContactKey::IntercomExternalId).into_iter().chain(emails).collect())
            })
            .await?)
    }

    /// Intent before write: nothing was found, and still nothing is known.
    async fn put_newcomer_intent(&self, brevo: BrevoContactId) -> Result<Asked, EngineError> {
        let (now, bounds, findable) = (self.now(), self.bounds(), self.findable());
        let (settings, ready) = self.require_told()?;
        let (asked, begun) = self
            .store
            .write(move |tx| {
                let Some(mut row) = tx.newcomer(brevo)? else { return Ok((Asked::Nothing, Vec::new())) };
                if row.stage == Stage::Unsure {
                    // It never landed.
                    safety::give_back_newcomer(tx, brevo, now)?;
                    row = Newcomer { stage: Stage::Waiting, email: None, opted_out: false, ..row };
                    tx.put_newcomer_row(&row)?;
                }
                let turn = turn_of(tx, &row, &settings)?;
                settle(tx, row.clone(), &turn, now)?;
                let left_out = match &turn {
                    Turn::Make(contact) => !may_take_part(contact, &ready),
                    // Nor is somebody brought back there.
                    Turn::Archived(_) if settings.archived == Archived::Unarchive => {
                        tx.brevo_contact(brevo)?.is_some_and(|contact| !may_take_part(&contact, &ready))
                    }
                    _ => false,
                };
                if left_out {
                    tx.put_newcomer_row(&Newcomer { stage: Stage::Listed, due: now + NOW_AND_THEN, ..row })?;
                    return Ok((Asked::Nothing, Vec::new()));
                }
                let brings_back = settings.archived == Archived::Unarchive;
                let (Turn::Make(_) | Turn::Archived(_), Some(role)) = (&turn, settings.creates_in_intercom) else {
                    return Ok((Asked::Nothing, Vec::new()));
                };
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                let counts = brings_back || matches!(turn, Turn::Make(_));
                let may = !counts || gate.makes_newcomer(tx, brevo)?;
                let asked = match turn {
                    _ if !may => {
                        tx.put_newcomer_row(&Newcomer { stage: Stage::Waiting, due: held_until(), ..row })?;
                        Asked::Nothing
                    }
                    Turn::Make(contact) => {
                        let making = making(tx, &contact, role, row.tries > 0, &ready)?;
                        let (email, opted_out) = (contact.email.clone(), making.new.has.email_opted_out);
                        let (stage, ext_id) = (Stage::Sent, contact.ext_id.clone());
                        let sent = Newcomer { stage, due: findable, email, opted_out, contact: None, ext_id, ..row };
                        tx.put_newcomer_row(&sent)?;
                        Asked::Make(Box::new(making))
                    }
                    Turn::Archived(id) => {
                        tx.put_newcomer_row(&Newcomer { due: now + LATER, ..row })?;
                        Asked::Archived(id)
                    }
                    _ => Asked::Nothing,
                };
                let (_, _, begun) = gate.close(tx)?;
                Ok((asked, begun))
            })
            .await?;
        safety::tell(&begun);
        Ok(asked)
    }

    async fn wait(&self, brevo: BrevoContactId, wait: TimeDelta) -> Result<(), EngineError> {
        let due = self.now() + wait;
        self.store
            .write(move |tx| match tx.newcomer(brevo)? {
                Some(row) => tx.put_newcomer_row(&Newcomer { due, ..row }),
                None => Ok(()),
            })
            .await?;
        Ok(())
    }

    /// Intercom takes its address for none that could be looked for. It may have somebody of it all the same.
    async fn cannot_look(&self, brevo: BrevoContactId, error: &SideError) -> Result<Pushed, EngineError> {
        let now = self.now();
        tracing::debug!("a contact that is to be made in Intercom cannot be looked for: {}", error.for_log());
        self.store
            .write(move |tx| {
                let Some(row) = tx.newcomer(brevo)? else { return Ok(()) };
                let words =
                    "Intercom does not look for its address, so that nobody knows whether somebody has it there";
                if row.stage != Stage::Unsure {
                    return list(tx, row, "identity_conflict", Some(words), now);
                }
                tx.put_notice("identity_conflict", &subject(brevo), Some(words), now)?;
                tx.put_newcomer_row(&Newcomer { due: now + NOW_AND_THEN, ..row })
            })
            .await?;
        Ok(Pushed::default())
    }

    /// It could not even be looked for.
    async fn put_off(&self, brevo: BrevoContactId, error: Box<SideError>) -> Result<Pushed, EngineError> {
        let fatal = matches!(error.kind, ErrorKind::Auth(_));
        self.wait(brevo, if fatal { AFTER_NOT_LET_IN } else { wait_of(&error) }).await?;
        tracing::debug!("a contact that is to be made in Intercom cannot be looked for now: {}", error.for_log());
        if fatal || is_down(&error) { Err(EngineError::Side(error)) } else { Ok(Pushed::default()) }
    }
}

/// Others would hear the same now.
fn is_down(error: &SideError) -> bool {
    matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unavailable)
}

/// After how long it is tried again.
fn wait_of(error: &SideError) -> TimeDelta {
    error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(SOON).max(SOON)
}

/// Keeps what follows from a turn. What is to be asked of a vendor is kept when it is asked; until then it is put off, so
/// that whatever goes wrong, somebody else has their turn.
fn settle(tx: &Tx<'_>, row: Newcomer, turn: &Turn, now: DateTime<Utc>) -> Stored<()> {
    match turn {
        Turn::Done => is_done(tx, row.brevo),
        Turn::Alone => {
            clear_notices(tx, row.brevo)?;
            tx.leave_alone(row.brevo)
        }
        Turn::Wait(wait) => tx.put_newcomer_row(&Newcomer { due: now + *wait, ..row }),
        Turn::List(kind, detail) => list(tx, row, kind, Some(detail), now),
        // Somebody was made for whom nobody is left.
        Turn::Find if row.stage == Stage::Waiting => is_done(tx, row.brevo),
        Turn::Identify(..) | Turn::Archived(_) | Turn::Make(_) | Turn::Find => {
            let stage = if row.stage == Stage::Listed { Stage::Waiting } else { row.stage };
            tx.put_newcomer_row(&Newcomer { stage, due: now + SOON, ..row })
        }
    }
}
