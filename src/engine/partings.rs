//! What a deletion on one side leads to on the other: `contacts.on_delete` (docs/decisions/0019).
//!
//! Who is gone is found out elsewhere, by id, and put into a queue (`partings`). Nothing of it goes before all who may
//! be gone have been asked for, so that it is known how many there are; then all go or, where the limits on harm say so,
//! none. Right before anything is written both sides are asked once more: who is back, or not alone, is left alone.

mod alone;

use self::alone::all_are_gone;
use super::answers::MOST_TRIES;
use super::cycle::stops_everything;
use super::filters::takes_part;
use super::inbox::is_refusal;
use super::missing::INDEX_LAG;
use super::observe::{Source, base_of, pack_base, subject_of};
use super::people::Names;
use super::place::{No, keep_no};
use super::push::{AT_ONCE, CHUNK, Pushed};
use super::safety::{self, Gate, Pass};
use super::unreadable::{self, replaceable};
use super::{Connection, EngineError, Ready, Settings};
use crate::config::OnDelete;
use crate::mapping::{Direction, Membership};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, BrevoListId, ContactChange, ErrorKind, Fields, IntercomChange,
    IntercomContactId, Observation, OptOutReason, Priority, SideError, SideName, Tag, Write,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::harm::Kind;
use crate::reconcile::lists::ListBase;
use crate::reconcile::person::Base;
use crate::reconcile::taking_part::Part;
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow, LinkState};
use crate::store::listings::{Change, NewFailure};
use crate::store::partings::Parting;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;

/// How long it is waited for more who may be gone. A contact that cannot be asked for holds up the others no longer.
const MOST_WAIT: TimeDelta = TimeDelta::hours(1);
/// When it is looked again meanwhile, or when somebody cannot be written for now.
const LATER: TimeDelta = TimeDelta::minutes(1);
/// For so long whoever was asked for counts as just asked.
const FRESH: TimeDelta = TimeDelta::seconds(30);
/// When a key or token that may not write is tried again.
const NOT_LET_IN: TimeDelta = TimeDelta::minutes(5);
/// When it is tried again after it has been refused a few times, or could not be asked about.
const REFUSED: TimeDelta = TimeDelta::hours(6);
/// The field under which a refusal is listed.
const FIELD: &str = "on_delete";

/// What is about to be written for somebody.
struct Going {
    row: Parting,
    action: OnDelete,
    steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Clone)]
enum Step {
    Brevo(Box<BrevoContact>, ContactChange),
    BrevoGoes(BrevoContactId),
    Intercom(IntercomContactId, IntercomChange),
    Untag(IntercomContactId, Tag),
    IntercomGoes(IntercomContactId, OnDelete),
}

impl Step {
    fn side(&self) -> SideName {
        match self {
            Self::Brevo(..) | Self::BrevoGoes(_) => SideName::Brevo,
            Self::Intercom(..) | Self::Untag(..) | Self::IntercomGoes(..) => SideName::Intercom,
        }
    }

    fn write(&self) -> Write {
        match self {
            Self::Brevo(contact, change) => Write::UpdateContact(contact.id, change.clone()),
            Self::BrevoGoes(id) => Write::DeleteContact(*id),
            Self::Intercom(id, change) => Write::UpdateIntercomContact(id.clone(), change.clone()),
            Self::Untag(id, tag) => Write::UntagContact(id.clone(), tag.id.clone()),
            Self::IntercomGoes(id, OnDelete::Archive) => Write::ArchiveIntercomContact(id.clone()),
            Self::IntercomGoes(id, _) => Write::DeleteIntercomContact(id.clone()),
        }
    }

    /// As the history names the request.
    fn request(&self) -> String {
        match self {
            Self::Brevo(contact, _) => crate::brevo::request_for(Some(contact.id)),
            Self::BrevoGoes(id) => crate::brevo::deletion_of(*id),
            Self::Intercom(id, _) => crate::intercom::request_for(id),
            Self::Untag(id, _) => crate::intercom::tag_request_for(id, false),
            Self::IntercomGoes(id, action) => crate::intercom::departure_of(id, *action == OnDelete::Archive),
        }
    }

    /// The same with all that tells it from others, for which it was counted.
    fn counted_as(&self) -> String {
        match self {
            Self::Untag(_, tag) => format!("{} {}", self.request(), tag.id),
            _ => self.request(),
        }
    }

    /// What it is about, in lists.
    fn subject(&self) -> String {
        match self {
            Self::Brevo(contact, _) => format!("Brevo contact {}", contact.id),
            Self::BrevoGoes(id) => format!("Brevo contact {id}"),
            Self::Intercom(id, _) | Self::Untag(id, _) | Self::IntercomGoes(id, _) => format!("contact {id}"),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Brevo(..) => "update in Brevo".to_owned(),
            Self::BrevoGoes(id) => format!("deletion of Brevo contact {id}"),
            Self::Intercom(id, _) => format!("opt-out of contact {id} in Intercom"),
            Self::Untag(id, _) => format!("update of contact {id} in Intercom"),
            Self::IntercomGoes(id, OnDelete::Archive) => format!("archiving of contact {id} in Intercom"),
            Self::IntercomGoes(id, _) => format!("deletion of contact {id} in Intercom"),
        }
    }
}

/// What of this is counted.
pub(super) fn kind_of(action: OnDelete) -> Kind {
    // Whom a deletion takes off lists is gone from them as for good, too.
    if action == OnDelete::Blocklist { Kind::OptOuts } else { Kind::Deletes }
}

/// Nobody of the link's address is left in Intercom: what becomes of its contact in Brevo is to be decided.
pub(super) fn left_intercom(tx: &Tx<'_>, link: i64, settings: &Settings, now: DateTime<Utc>) -> Stored<()> {
    let Some(link) = tx.link(link)? else { return Ok(()) };
    let anew = link.state != LinkState::Left;
    follow_to_brevo(tx, &link, anew, settings, now)
}

/// Somebody is gone of whom nothing may be linked, but on whose account the contact in Brevo of others, who had gone before,
/// was left alone: they had their address, or were called the same by the customer. What becomes of it is decided once more.
pub(super) fn decide_again_for_others(
    tx: &Tx<'_>,
    gone: &IntercomRow,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Stored<()> {
    if settings.on_delete.brevo == OnDelete::Keep || !alone::is_gone(gone) {
        return Ok(());
    }
    let (mut links, mut shown) = (BTreeSet::<i64>::new(), Vec::<BrevoContact>::new());
    if let Some(id) = &gone.contact.external_id {
        links.extend(tx.links_of_gone_with_external_id(id)?);
        shown.extend(tx.brevo_contact_by_ext_id(id)?);
    }
    if let Some(email) = &gone.contact.email {
        links.extend(tx.link_by_email(email)?.map(|link| link.id));
        shown.extend(tx.brevo_contact_by_email(email)?);
    }
    for contact in shown {
        links.extend(tx.link_by_brevo(contact.id)?.map(|link| link.id));
    }
    for link in links.into_iter().filter(|link| Some(*link) != gone.link) {
        if let Some(link) = tx.link(link)?.filter(|link| link.state == LinkState::Left) {
            // And not before the search index has forgotten this one, too.
            follow_to_brevo(tx, &link, true, settings, now)?;
        }
    }
    Ok(())
}

/// `anew`: it counts as seen only now that they are gone, whatever was to be done before.
fn follow_to_brevo(tx: &Tx<'_>, link: &LinkRow, anew: bool, settings: &Settings, now: DateTime<Utc>) -> Stored<()> {
    if settings.on_delete.brevo == OnDelete::Keep {
        return Ok(());
    }
    let members = tx.members(link.id)?;
    let (filter, counting) = (settings.filter.brevo.as_ref(), settings.conversation_filter.as_ref());
    // Nothing is written there of somebody whom the filter leaves out.
    if !all_are_gone(tx, &members)? || !alone::took_part(tx, link, &members, filter, counting)? {
        return Ok(());
    }
    let there = link.brevo_id.map(|brevo| tx.brevo_contact(brevo)).transpose()?.flatten();
    // Or it is about to be made.
    if there.is_some() || (link.brevo_id.is_none() && (link.import.is_some() || link.flights.is_some())) {
        tx.begin_parting(link.id, SideName::Brevo, (now, now + INDEX_LAG), anew)?;
    }
    Ok(())
}

/// A row of which nobody knew what became has made a contact after all, and everybody whom it was sent for is gone: it is
/// theirs, also where it comes in the place of one that was deleted, and follows them. It is known by the technical list, on which
/// rows alone put anybody, and by the customer's own id. `false`: it is not so.
pub(super) fn made_late(
    tx: &Tx<'_>,
    link: &LinkRow,
    contact: &BrevoContact,
    (settings, ready): (&Settings, &Ready),
    now: DateTime<Utc>,
) -> Stored<bool> {
    let follows = settings.on_delete.brevo != OnDelete::Keep && link.state == LinkState::Left;
    let on_its_way = link.import.is_some() || (link.flights.is_some() && !link.answered);
    let (Some(email), true) = (&contact.email, follows && !on_its_way) else { return Ok(false) };
    // They may have taken this one up already.
    let another = link.brevo_id.filter(|own| *own != contact.id);
    if let Some(another) = another
        && tx.brevo_contact(another)?.is_some()
    {
        return Ok(false);
    }
    let of_a_row = contact.lists.contains(&ready.technical_list) && tx.whose_late_address(email)?.contains(&link.id);
    if !of_a_row {
        return Ok(false);
    }
    let members = tx.members(link.id)?;
    // A row for somebody who had a contact says nothing of the id.
    let unsaid = link.brevo_id.is_some() && contact.ext_id.is_none();
    let called_so = unsaid || members.iter().any(|row| row.contact.external_id == contact.ext_id);
    if !all_are_gone(tx, &members)? || !called_so {
        return Ok(false);
    }
    if another.is_some() {
        super::place::adopt(tx, link, contact.id, email)?;
    } else {
        tx.set_brevo(link.id, Some(contact.id))?;
    }
    left_intercom(tx, link.id, settings, now)?;
    Ok(true)
}

/// A person's contact in Brevo was deleted there, or was by us. `true`: by us, or they have another, so that it is no news.
/// `shown`: what it was like.
pub(super) fn left_brevo(
    tx: &Tx<'_>,
    link: &LinkRow,
    shown: Option<&BrevoContact>,
    (settings, ready): (&Settings, &Ready),
    now: DateTime<Utc>,
) -> Stored<bool> {
    if tx.parting(link.id, SideName::Brevo)?.is_some_and(|row| has_sent(&row, &[OnDelete::Delete])) {
        deleted_in_brevo(tx, link)?;
        return Ok(true);
    }
    if super::place::take_what_a_row_made(tx, link, shown, ready, now)? {
        return Ok(true);
    }
    let follows = settings.on_delete.intercom != OnDelete::Keep && link.state == LinkState::Active;
    // Nothing is written in Intercom of somebody whom the filter leaves out, or of whom that cannot be told.
    if follows && takes_part(&Fields::new(), shown, ready).0.intercom == Part::Takes {
        tx.begin_parting(link.id, SideName::Intercom, (now, now + INDEX_LAG), true)?;
    }
    Ok(false)
}

/// A person's contact in Brevo had been deleted before they were linked to it. Whether the filter leaves them out is found out
/// before anything is written.
pub(super) fn had_left_brevo(tx: &Tx<'_>, link: &LinkRow, settings: &Settings, now: DateTime<Utc>) -> Stored<()> {
    if settings.on_delete.intercom == OnDelete::Keep || link.state != LinkState::Active {
        return Ok(());
    }
    tx.begin_parting(link.id, SideName::Intercom, (now, now + INDEX_LAG), true)
}

/// That the contact is gone in Intercom may be our own doing.
pub(super) fn is_our_doing(tx: &Tx<'_>, link: i64) -> Stored<bool> {
    let goes = [OnDelete::Archive, OnDelete::Delete];
    Ok(tx.parting(link, SideName::Intercom)?.is_some_and(|row| has_sent(&row, &goes)))
}

/// A request has left that was to do one of these, whatever the config says by now.
fn has_sent(row: &Parting, actions: &[OnDelete]) -> bool {
    row.until.is_some() && actions.iter().any(|action| row.sent.as_deref() == Some(action.as_str()))
}

/// How many of the requests were counted when one left of which nobody heard. Of those that are still to be sent none has
/// landed; others have come to be, where somebody has come to the address since.
fn counted_already(row: &Parting, action: OnDelete, steps: &[Step]) -> u64 {
    if !has_sent(row, &[action]) {
        return 0;
    }
    steps.iter().filter(|step| row.counted.contains(&step.counted_as())).count() as u64
}

/// It is done, or there is nothing to be done any more: that it could not be done is no trouble any more, either.
fn end(tx: &Tx<'_>, link: i64, side: SideName) -> Stored<()> {
    tx.clear_failure_of_link(link, FIELD)?;
    tx.end_parting(link, side)
}

/// We have deleted the Brevo contact: whoever comes back to the address is made anew, opted out if they were.
fn deleted_in_brevo(tx: &Tx<'_>, link: &LinkRow) -> Stored<()> {
    let Some(id) = link.brevo_id else { return Ok(()) };
    let shown = replaceable(tx, tx.brevo_contact(id))?.0;
    let agreed = match base_of(link) {
        Err(error) if error.unreadable().is_some() => Base::default(),
        base => base?,
    };
    let no = No::of(&agreed, &shown.as_ref().map(|contact| contact.consent.clone()).unwrap_or_default());
    tx.set_brevo_gone(id)?;
    if let Some(email) = shown.and_then(|contact| contact.email) {
        tx.address_is_free(&email)?;
    }
    tx.free_phones(link.id)?;
    tx.set_brevo(link.id, None)?;
    tx.set_rename(link.id, None)?;
    keep_no(tx, link.id, no)?;
    tx.forget_failures(link.id)?;
    // Somebody has come back while it was on its way.
    if link.state == LinkState::Active { tx.mark_dirty(link.id, Dirty::Live) } else { Ok(()) }
}

/// What the steps that were answered came to, and the one that failed.
type Came = (Vec<(Step, Option<Answer>)>, Option<(Step, Box<SideError>)>);

impl Connection {
    /// Does on each side what the deletions on the other lead to. How many records were written.
    pub(super) async fn part(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        // Whoever is at it goes on until nothing is due.
        let Ok(_parting) = self.parting.try_lock() else { return Ok(pushed) };
        loop {
            self.go_on()?;
            let due = self.partings_to_do().await?;
            if due.is_empty() {
                return Ok(pushed);
            }
            let mut asked = futures_util::stream::iter(due.into_iter().map(|row| async move {
                let began = self.now();
                let known = self.ask_for_gone(&row, priority).await;
                (row, began, known)
            }))
            .buffer_unordered(AT_ONCE);
            let (mut known, mut fatal) = (Vec::new(), None);
            while let Some((row, began, answer)) = asked.next().await {
                match answer {
                    Ok(true) => known.push((row, began)),
                    Ok(false) => self.cannot_tell(row, None).await?,
                    Err(error @ EngineError::Side(_)) => {
                        let refused = is_refusal(&error);
                        let stops = stops_everything(&error);
                        let EngineError::Side(error) = error else { continue };
                        tracing::warn!("what a deletion leads to waits: {}", error.for_log());
                        if refused {
                            self.cannot_tell(row, Some(error)).await?;
                            continue;
                        }
                        self.put_parting_off(row, LATER).await?;
                        fatal = fatal.or(stops.then_some(EngineError::Side(error)));
                    }
                    Err(error) => return Err(error),
                }
            }
            drop(asked);
            if let Some(error) = fatal {
                self.note_refusal(&error).await;
                return Ok(pushed);
            }
            // They wait for one another: who was asked for first may be back while the last was slow.
            let now = self.now();
            let (known, stale): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, began)| now - *began <= FRESH);
            let claim = self.claim(known.iter().map(|(row, _)| row.link));
            let (claimed, busy): (Vec<_>, Vec<_>) =
                known.into_iter().map(|(row, _)| row).partition(|row| claim.claimed.contains(&row.link));
            for row in busy.into_iter().chain(stale.into_iter().map(|(row, _)| row)) {
                self.put_parting_off(row, LATER).await?;
            }
            let going = self.leave_by(claimed).await?;
            self.doors.crash.reach("after_parting_intent");
            let mut sent = futures_util::stream::iter(going.into_iter().map(|going| async move {
                let done = self.send_parting(&going, priority).await;
                (going, done)
            }))
            .buffer_unordered(AT_ONCE);
            let mut done = Vec::new();
            while let Some(answer) = sent.next().await {
                done.push(answer);
            }
            drop(sent);
            self.doors.crash.reach("after_parting");
            let let_in = done.iter().all(|(_, (_, failed))| {
                !failed.as_ref().is_some_and(|(_, error)| matches!(error.kind, ErrorKind::Auth(_)))
            });
            pushed += self.record_parted(done).await?;
            drop(claim);
            if !let_in {
                return Ok(pushed);
            }
        }
    }

    /// Whose turn it is: all who may be gone are known, and so many may go.
    async fn partings_to_do(&self) -> Result<Vec<Parting>, EngineError> {
        let (now, settings, bounds, ready) = (self.now(), self.settings(), self.bounds(), self.require_ready()?);
        let held: Vec<SideName> = SideName::BOTH.into_iter().filter(|side| self.is_held(*side)).collect();
        let on_delete = settings.on_delete;
        let (next, held_otherwise) = self
            .store
            .read(move |tx| {
                let mut otherwise = false;
                for side in SideName::BOTH {
                    // Where nothing follows any more, nothing is held either.
                    let action = on_delete[side];
                    let kind = if action == OnDelete::Keep { "" } else { kind_of(action).as_str() };
                    otherwise |= tx.are_partings_held_otherwise(side, kind)?;
                }
                Ok((tx.next_parting()?, otherwise))
            })
            .await?;
        if next.is_none_or(|next| next > now) && !held_otherwise {
            return Ok(Vec::new());
        }
        let (due, begun) = self
            .store
            .write(move |tx| {
                tx.drop_void_partings()?;
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                for side in SideName::BOTH {
                    let action = settings.on_delete[side];
                    if action == OnDelete::Keep {
                        tx.drop_partings(side)?;
                    } else if tx.more_may_be_gone(side)? {
                        tx.put_off_partings(side, now, (MOST_WAIT, now + LATER))?;
                    }
                    let kind = kind_of(action);
                    if action != OnDelete::Keep && tx.are_partings_held_otherwise(side, kind.as_str())? {
                        gate.hold_partings_anew(tx, side, kind)?;
                    }
                    if action != OnDelete::Keep && tx.count_partings_to_do(side)? > 0 {
                        gate.judge_partings(tx, side, kind)?;
                    }
                }
                let (_, _, begun) = gate.close(tx)?;
                let names = Names::read(tx, &ready)?;
                // What the state knows already needs no reads.
                loop {
                    let rows = tx.partings_due(now, CHUNK)?;
                    let (none, mut due) = (rows.is_empty(), Vec::new());
                    for row in rows {
                        let action = settings.on_delete[row.side];
                        if row.until.is_some() || looked_at(tx, &row, action, &ready, &names, now)?.is_some() {
                            due.push(row);
                        }
                    }
                    if none || !due.is_empty() {
                        return Ok((due, begun));
                    }
                }
            })
            .await?;
        safety::tell(&begun);
        // A vendor that holds us back keeps nobody waiting for its answer.
        if held.is_empty() { Ok(due) } else { Ok(Vec::new()) }
    }

    async fn put_parting_off(&self, row: Parting, wait: TimeDelta) -> Result<(), EngineError> {
        let due = self.now() + wait;
        Ok(self.store.write(move |tx| tx.put_parting(&Parting { due, ..row })).await?)
    }

    /// Whether they are gone cannot be told: nothing is done, and where that goes on, somebody is told.
    async fn cannot_tell(&self, row: Parting, error: Option<Box<SideError>>) -> Result<(), EngineError> {
        let now = self.now();
        Ok(self
            .store
            .write(move |tx| {
                let tries = row.tries + 1;
                let due = now + REFUSED.min(LATER * (1 << tries.min(9)));
                let (link, side) = (row.link, row.side);
                tx.put_parting(&Parting { due, tries, ..row })?;
                let Some(link) = tx.link(link)?.filter(|_| tries >= MOST_TRIES) else { return Ok(()) };
                let subject = subject_of(tx, &link)?;
                let why =
                    "whether somebody else has the address cannot be told: a search does not show all who have it";
                let failure = match &error {
                    Some(error) => NewFailure::refused(Some(link.id), &subject, FIELD, error),
                    None => NewFailure::left_out(Some(link.id), &subject, FIELD, why),
                };
                tracing::warn!(%side, "what a deletion leads to cannot be decided, and is listed");
                tx.put_failure(&NewFailure { dead: false, ..failure }, now)
            })
            .await?)
    }

    /// What is to be sent, for those for whom something still is. Intent before write.
    async fn leave_by(&self, rows: Vec<Parting>) -> Result<Vec<Going>, EngineError> {
        let (now, until, settings, bounds) = (self.now(), self.late_landing(), self.settings(), self.bounds());
        let ready = self.require_ready()?;
        Ok(self
            .store
            .write(move |tx| {
                let names = Names::read(tx, &ready)?;
                let mut gate = Gate::open(tx, bounds, Pass::Known(Vec::new()), now)?;
                let mut going = Vec::new();
                for row in rows {
                    // Asking may have told what became of it.
                    let Some(row) = tx.parting(row.link, row.side)? else { continue };
                    let action = settings.on_delete[row.side];
                    let Some(steps) = looked_at(tx, &row, action, &ready, &names, now)? else { continue };
                    if steps.is_empty() {
                        if row.until.is_some() {
                            landed(tx, &row, action, now)?;
                        }
                        end(tx, row.link, row.side)?;
                        continue;
                    }
                    let (kind, counted) = (kind_of(action), counted_already(&row, action, &steps));
                    if !gate.go_by(tx, kind, steps.len() as u64 - counted)? {
                        // Who has come to the address since one left is judged with all others, and so is the rest.
                        safety::give_back(tx, kind, counted, now)?;
                        tx.put_parting(&Parting { due: now + LATER, until: None, ..row })?;
                        continue;
                    }
                    let sent = Some(action.as_str().to_owned());
                    let counted = steps.iter().map(Step::counted_as).collect();
                    let row = Parting { until: Some(until), due: until, sent, counted, ..row };
                    tx.put_parting(&row)?;
                    wants_off_lists(tx, row.link, &steps)?;
                    going.push(Going { row, action, steps });
                }
                gate.close(tx)?;
                Ok(going)
            })
            .await?)
    }

    /// Sends them one after the other: those that were done, and the one that was not.
    async fn send_parting(
        &self,
        going: &Going,
        priority: Priority,
    ) -> (Vec<(Step, Option<Answer>)>, Option<(Step, Box<SideError>)>) {
        let mut done = Vec::new();
        for step in &going.steps {
            match self.side(step.side()).write(&step.write(), priority).await {
                Ok(answer) => done.push((step.clone(), Some(answer))),
                // It is not there, and that is what was asked for.
                Err(error)
                    if error.kind == ErrorKind::NotFound && !matches!(step, Step::Brevo(..) | Step::Intercom(..)) =>
                {
                    done.push((step.clone(), None));
                }
                Err(error) => return (done, Some((step.clone(), error))),
            }
        }
        (done, None)
    }

    async fn record_parted(&self, all: Vec<(Going, Came)>) -> Result<Pushed, EngineError> {
        let (began, now) = (self.now(), self.now());
        let source = self.source(0, false, began, Dirty::Live)?;
        let pushed = self
            .store
            .write(move |tx| {
                let mut pushed = Pushed::default();
                for (going, (done, failed)) in &all {
                    let row = &going.row;
                    pushed.requests += (done.len() + usize::from(failed.is_some())) as u64;
                    for (step, answer) in done {
                        pushed.parted += 1;
                        took(tx, row.link, step, answer.as_ref(), &source)?;
                        record(tx, row.link, row.side, going.action.as_str(), Some(step), now)?;
                        tx.clear_failure(&step.subject(), FIELD)?;
                    }
                    match failed {
                        None => end(tx, row.link, row.side)?,
                        Some((step, error)) => {
                            if safety::did_nothing(error) {
                                let left = (going.steps.len() - done.len()) as u64;
                                safety::give_back(tx, kind_of(going.action), left, now)?;
                            }
                            pushed.failed += u64::from(refused(tx, going, step, error, now)?);
                        }
                    }
                }
                Ok(pushed)
            })
            .await?;
        self.count_held().await?;
        Ok(pushed)
    }
}

/// The same, of somebody of whom something may not be readable here: they are left alone, and listed.
fn looked_at(
    tx: &Tx<'_>,
    row: &Parting,
    action: OnDelete,
    ready: &Ready,
    names: &Names,
    now: DateTime<Utc>,
) -> Stored<Option<Vec<Step>>> {
    match steps(tx, row, action, ready, names, now) {
        Ok(steps) => Ok(steps),
        Err(error) => {
            unreadable::note(tx, error, now)?;
            tx.end_parting(row.link, row.side).map(|()| None)
        }
    }
}

/// What is to be sent for somebody. `None`: not now, or nothing any more.
fn steps(
    tx: &Tx<'_>,
    row: &Parting,
    action: OnDelete,
    ready: &Ready,
    names: &Names,
    now: DateTime<Utc>,
) -> Stored<Option<Vec<Step>>> {
    let Some(link) = tx.link(row.link)? else { return end(tx, row.link, row.side).map(|()| None) };
    let gone = match row.side {
        SideName::Brevo => link.state == LinkState::Left,
        SideName::Intercom => link.state == LinkState::BrevoGone,
    };
    if row.side == SideName::Brevo && row.until.is_some() && link.brevo_id.is_none() {
        // A read has shown that it landed.
        return Ok(Some(Vec::new()));
    }
    // What is on its way to the contact, or waits for its answer, comes first.
    let on_its_way = link.import.is_some() || (link.flights.is_some() && !link.answered);
    if gone && action != OnDelete::Keep && on_its_way {
        tx.put_parting(&Parting { due: now + LATER, ..row.clone() })?;
        return Ok(None);
    }
    let (Some(brevo), true) = (link.brevo_id, gone && action != OnDelete::Keep) else {
        return end(tx, row.link, row.side).map(|()| None);
    };
    let members = tx.members(row.link)?;
    let shown = tx.brevo_contact(brevo)?;
    if link.email.is_none() && shown.as_ref().is_none_or(|shown| shown.email.is_none()) {
        // Known by a phone, under which nobody can be searched for in Intercom: whether another has it cannot be told.
        return end(tx, row.link, row.side).map(|()| None);
    }
    match row.side {
        SideName::Brevo => {
            let Some(shown) = shown else { return Ok(Some(Vec::new())) };
            // Somebody else has the address by now, or that which the contact shows.
            for email in link.email.iter().chain(&shown.email) {
                if tx.has_address_in_intercom(email)? {
                    return end(tx, row.link, row.side).map(|()| None);
                }
            }
            let (filter, counting) = (ready.filter.brevo.as_ref(), ready.conversation_filter.as_ref());
            if !all_are_gone(tx, &members)? || !alone::took_part(tx, &link, &members, filter, counting)? {
                return end(tx, row.link, row.side).map(|()| None);
            }
            Ok(Some(in_brevo(shown, action, ready)))
        }
        SideName::Intercom => {
            let left = tx.brevo_contact_as_it_was(brevo)?;
            let apart = takes_part(&Fields::new(), left.as_ref(), ready).0.intercom != Part::Takes;
            if apart || shown.is_some() || alone::is_in_brevo(tx, &link, &members, brevo)? {
                return end(tx, row.link, row.side).map(|()| None);
            }
            // Several have come together at an address that the contact never had: whose it was cannot be told.
            let together = members.iter().filter(|member| member.contact.email == link.email).count() > 1;
            if together && super::place::never_given(tx, &link)?.is_some() {
                return end(tx, row.link, row.side).map(|()| None);
            }
            let live = members.iter().filter(|member| member.state == ContactState::Live);
            Ok(Some(live.flat_map(|member| in_intercom(member, action, ready, names)).collect()))
        }
    }
}

fn in_brevo(shown: BrevoContact, action: OnDelete, ready: &Ready) -> Vec<Step> {
    let change = match action {
        OnDelete::Delete => return vec![Step::BrevoGoes(shown.id)],
        OnDelete::Unlist => {
            // A list that a tag follows is Brevo's own.
            let ours =
                ready.lists.iter().filter(|(rule, _)| rule.direction != Direction::BrevoToIntercom && !rule.rests);
            let ours: BTreeSet<BrevoListId> = ours.map(|(_, list)| *list).collect();
            let leave_lists = shown.lists.intersection(&ours).copied().collect();
            ContactChange { leave_lists, ..ContactChange::default() }
        }
        OnDelete::Blocklist => {
            ContactChange { email_opted_out: !shown.consent.email_opted_out(), ..ContactChange::default() }
        }
        // Brevo has no archive: the config does not take it.
        OnDelete::Keep | OnDelete::Archive => ContactChange::default(),
    };
    if change.is_empty() { Vec::new() } else { vec![Step::Brevo(Box::new(shown), change)] }
}

fn in_intercom(member: &IntercomRow, action: OnDelete, ready: &Ready, names: &Names) -> Vec<Step> {
    let contact = &member.contact;
    match action {
        OnDelete::Archive | OnDelete::Delete => vec![Step::IntercomGoes(contact.id.clone(), action)],
        OnDelete::Blocklist if !contact.consent.email_opted_out() => {
            vec![Step::Intercom(contact.id.clone(), IntercomChange::opt_out())]
        }
        // A tag that goes with a list is a membership of it.
        OnDelete::Unlist => {
            let tags = ready.lists.iter().filter_map(|(rule, _)| match &rule.membership {
                Membership::Tag(name) if rule.direction != Direction::IntercomToBrevo && !rule.rests => {
                    let id = names.tag_named(name).filter(|id| contact.tags.items.contains(id))?;
                    Some(Step::Untag(contact.id.clone(), Tag { id, name: name.clone() }))
                }
                _ => None,
            });
            tags.collect()
        }
        OnDelete::Keep | OnDelete::Blocklist => Vec::new(),
    }
}

/// Taken off lists is whoever is about to leave them: whether or not the answer comes, whoever comes back joins them again,
/// by their rule.
fn wants_off_lists(tx: &Tx<'_>, link: i64, steps: &[Step]) -> Stored<()> {
    let changes = steps.iter().filter_map(|step| if let Step::Brevo(_, change) = step { Some(change) } else { None });
    let lists: BTreeSet<BrevoListId> = changes.flat_map(|change| &change.leave_lists).copied().collect();
    let Some(link) = tx.link(link)?.filter(|_| !lists.is_empty()) else { return Ok(()) };
    let mut base = base_of(&link)?;
    base.lists.extend(lists.into_iter().map(|list| (list, ListBase::default())));
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// A read shows that what had left without an answer has landed.
fn landed(tx: &Tx<'_>, row: &Parting, action: OnDelete, now: DateTime<Utc>) -> Stored<()> {
    if row.side == SideName::Brevo
        && has_sent(row, &[OnDelete::Blocklist])
        && let Some(link) = tx.link(row.link)?
        && let Some(brevo) = link.brevo_id
        && tx.brevo_contact(brevo)?.is_some_and(|shown| shown.consent.email_opted_out())
    {
        let mut base = base_of(&link)?;
        base.consent.get_or_insert(ConsentBase { intercom_out: false, brevo_out: true }).brevo_out = true;
        tx.set_base(link.id, &pack_base(tx, &base)?)?;
    }
    record(tx, row.link, row.side, row.sent.as_deref().unwrap_or(action.as_str()), None, now)
}

/// A vendor has taken it: what we know of the record is as we made it, until a read shows it.
fn took(tx: &Tx<'_>, link: i64, step: &Step, answer: Option<&Answer>, source: &Source) -> Stored<()> {
    let Some(link) = tx.link(link)? else { return Ok(()) };
    match step {
        Step::BrevoGoes(id) => {
            if link.brevo_id == Some(*id) {
                deleted_in_brevo(tx, &link)?;
            }
        }
        Step::Brevo(contact, change) => {
            let mut base = base_of(&link)?;
            // A read may have shown it once more since it was asked for.
            let known = replaceable(tx, tx.brevo_contact(contact.id))?.0;
            let mut shown = known.unwrap_or_else(|| (**contact).clone());
            for list in &change.leave_lists {
                shown.lists.remove(list);
            }
            if change.email_opted_out {
                base.consent.get_or_insert(ConsentBase { intercom_out: false, brevo_out: true }).brevo_out = true;
                shown.consent.email_opt_outs.insert(OptOutReason::Blocklisted);
            }
            tx.set_base(link.id, &pack_base(tx, &base)?)?;
            tx.put_brevo_contact(&shown, 0, false)?;
        }
        Step::Intercom(id, _) => {
            if let Some(Answer::IntercomContact(shown, _)) = answer
                && shown.id == *id
            {
                source.apply(tx, &Observation::IntercomContact(shown.clone()))?;
            }
        }
        Step::Untag(id, tag) => super::write_back::show_tag(tx, id, tag, false)?,
        Step::IntercomGoes(id, action) => {
            let deleted = *action == OnDelete::Delete;
            tx.say_gone(id, deleted)?;
            let state = if deleted { ContactState::Deleted } else { ContactState::Archived };
            tx.set_intercom_state(id, state, None)?;
            tx.set_placed(id)?;
            tx.drop_carried(id)?;
            if all_are_gone(tx, &tx.members(link.id)?)? {
                // Gone on both sides: nobody has to look after that.
                tx.clear_notice("brevo_contact_gone", &subject_of(tx, &link)?)?;
                tx.drop_write_back(link.id)?;
                tx.set_link_state(link.id, LinkState::Left)?;
                tx.give_up(link.id)?;
            }
        }
    }
    Ok(())
}

/// The history: what was done, and because of what. `step`: `None` if a read has told that it landed.
fn record(tx: &Tx<'_>, link: i64, side: SideName, action: &str, step: Option<&Step>, now: DateTime<Utc>) -> Stored<()> {
    let cause = format!("on_delete: {action} (gone in {})", side.other());
    tx.put_change(&Change {
        link: Some(link),
        at: now,
        what: step.map_or_else(|| format!("{action} in {side}"), Step::in_words),
        fields: [(FIELD.to_owned(), cause)].into(),
        answer: if step.is_some() { "accepted" } else { "no answer; a read shows that it landed" }.to_owned(),
        import: None,
        request: step.map(Step::request),
    })
}

/// The vendor did not take it. `true`: that is a failure of its own, and listed.
fn refused(tx: &Tx<'_>, going: &Going, step: &Step, error: &SideError, now: DateTime<Utc>) -> Stored<bool> {
    let row = &going.row;
    let again =
        |wait: TimeDelta, tries: u32| tx.put_parting(&Parting { due: now + wait, tries, until: None, ..row.clone() });
    let list = || {
        let subject = step.subject();
        tx.put_failure(&NewFailure { dead: false, ..NewFailure::refused(Some(row.link), &subject, FIELD, error) }, now)
    };
    match &error.kind {
        // It may have landed, or still may: a read after that tells.
        _ if error.may_have_landed() => Ok(false),
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy => {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
            again(wait.unwrap_or(TimeDelta::seconds(30)), row.tries)?;
            Ok(false)
        }
        ErrorKind::NotFound | ErrorKind::Merged { .. } => again(LATER, row.tries).map(|()| false),
        ErrorKind::Auth(_) => {
            again(NOT_LET_IN, row.tries)?;
            list().map(|()| true)
        }
        _ => {
            let tries = row.tries + 1;
            again(if tries >= MOST_TRIES { REFUSED } else { TimeDelta::seconds(5 << tries.min(6)) }, tries)?;
            list().map(|()| true)
        }
    }
}
