//! Fields and tags that travel from Brevo to Intercom.
//!
//! Like opt-outs (`carry`) they are written beside all else, so that Intercom's troubles and its pace hold up nothing that
//! goes to Brevo. The queue says only for whom something is to be written: what, is planned when its turn comes, and
//! a plan that came to nothing meanwhile sends nothing (docs/decisions/0016).

use super::answers::MOST_TRIES;
use super::cycle::stops_everything;
use super::observe::{Source, base_of, list_refused, pack_base, put_conflicts, subject_of};
use super::people::{self, Names};
use super::place;
use super::push::{AT_ONCE, CHUNK, Pushed};
use super::safety::{self, Aside, Gate, Harm, Pass};
use super::unreadable::{self, replaceable};
use super::{BATCH, Connection, EngineError, Ready};
use crate::mapping::FieldRule;
use crate::model::{
    Answer, BrevoContactId, ContactKey, ErrorKind, Fetched, Fields, IntercomChange, IntercomContact, IntercomContactId,
    IntercomTagId, Observation, Priority, Resource, Scope, SideError, SideName, Tag, Value, Write,
};
use crate::reconcile::harm::Kind;
use crate::reconcile::newest::Span;
use crate::reconcile::person::{self, Flights, PersonPlan, ResolvedList};
use crate::store::contacts::{ContactState, IntercomRow};
use crate::store::links::{Dirty, LinkRow};
use crate::store::listings::{Change, NewFailure};
use crate::store::write_backs::{LONG_UNSEEN, WriteBack};
use crate::store::{Packed, Result as Stored, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

/// For so long a read of Intercom counts as fresh for what is written there.
const FRESH: TimeDelta = TimeDelta::seconds(30);
/// When a token that may not write is tried again.
const NOT_LET_IN: TimeDelta = TimeDelta::minutes(5);
/// When somebody is looked at again who cannot be written for now.
const LATER: TimeDelta = TimeDelta::minutes(1);
/// Who is being written to Brevo right now is looked at again then.
const BUSY: TimeDelta = TimeDelta::seconds(2);

/// A person's part of a plan that is for Intercom, about to leave.
struct Leaving {
    link: i64,
    contact: IntercomContactId,
    /// The Brevo contact whose values it carries.
    brevo: Option<BrevoContactId>,
    plan: PersonPlan,
    /// What was being watched before.
    before: WriteBack,
    /// The tag to give or to take away, from whom.
    tags: Vec<TagStep>,
    /// Something is left for a request of its own, after this one.
    more: bool,
    /// What it does of what is counted.
    harm: Harm,
}

/// One request about a tag.
#[derive(Debug, Clone)]
struct TagStep {
    contact: IntercomContactId,
    name: String,
    tag: Option<IntercomTagId>,
    give: bool,
}

/// What Intercom made of it.
#[derive(Default)]
struct Made {
    requests: u64,
    shown: Option<Box<IntercomContact>>,
    tagged: Vec<(IntercomContactId, Tag, bool)>,
    /// A request about a tag was sent twice, and the first may still land.
    again: bool,
    failed: Option<Box<SideError>>,
}

/// Flights to Intercom as they are kept.
pub(super) fn watched_of(row: &WriteBack) -> Stored<Flights> {
    row.watched.as_ref().map_or(Ok(Flights::default()), |watched| watched.unpack("write_backs.watched"))
}

fn pack(tx: &Tx<'_>, flights: &Flights) -> Stored<Packed> {
    tx.pack("write_backs.watched", flights)
}

/// Puts a person into the queue, or takes them out of it: there is something for Intercom in their plan, or nothing.
pub(super) fn queue(
    tx: &Tx<'_>,
    link: i64,
    contact: &IntercomContactId,
    plan: &PersonPlan,
    sweep: bool,
    now: DateTime<Utc>,
) -> Stored<()> {
    let mut known = tx.write_back(link)?;
    if let Some(other) = known.take_if(|known| known.contact != *contact)
        && plan.writes_back()
        && other.awaits_answer()
        && let Ok(watched) = watched_of(&other)
    {
        // Somebody else speaks for the person by now, and nobody reads any more what became of it: what it may have replaced is
        // kept.
        put_conflicts(tx, link, &person::not_logged_yet(&watched, SideName::Intercom), None, now)?;
    }
    if let Some(row) = known.as_mut().filter(|row| !row.awaits_answer())
        && let Ok(watched) = watched_of(row)
        && let Some(met) = person::as_met(&watched, plan)
    {
        row.watched = Some(pack(tx, &met)?);
        tx.put_write_back(row)?;
    }
    match (known, plan.writes_back()) {
        (known, true) => {
            let row = known.unwrap_or_else(|| WriteBack::new(link, contact.clone()));
            tx.put_write_back(&WriteBack { due: Some(now), sweep: sweep || row.sweep, ..row })
        }
        // What a sweep is to restore no later plan asks for.
        (Some(row), false) if row.sweep && row.due.is_some() => Ok(()),
        (known, false) => {
            // What was held of it is to be cleared no more: while it is, nothing waits for its turn.
            tx.unmark_held(Kind::Blanked.as_str(), SideName::Intercom, link)?;
            known.map_or(Ok(()), |row| tx.put_write_back(&WriteBack { due: None, tries: 0, ..row }))
        }
    }
}

/// When a record came to be what it shows: for fields whose newest value stands.
pub(super) fn note_change(
    tx: &Tx<'_>,
    link: &LinkRow,
    side: SideName,
    record_time: DateTime<Utc>,
    ready: &Ready,
) -> Stored<()> {
    if !ready.weighs_times {
        return Ok(());
    }
    // What a watermark lies behind has been shown: the change came after it.
    let shown_until = tx.watermark(side, Resource::Contacts)?.map(|mark| mark.at);
    let mut span = Span::shown_by(record_time, shown_until);
    if link.dirty == Dirty::No && !is_under_way(tx, link)? {
        // All that had changed before is agreed on by now.
        tx.drop_spans(link.id)?;
    } else if let Some((after, until)) = tx.span(link.id, side)? {
        // An earlier change that has not been carried yet is not told apart from this one.
        span = Span { after, until }.joined(span);
    }
    tx.put_span(link.id, side, (span.after, span.until))
}

/// What has been planned waits for its turn, or nobody knows yet what became of it: it is not agreed on.
fn is_under_way(tx: &Tx<'_>, link: &LinkRow) -> Stored<bool> {
    let to_brevo = link.import.is_some() || (link.flights.is_some() && !link.answered);
    Ok(to_brevo || tx.write_back(link.id)?.is_some_and(|row| row.due.is_some() || row.awaits_answer()))
}

/// A read has shown the contact as it is: what was written to it is settled, if the read began late enough.
pub(super) fn settle(tx: &Tx<'_>, contact: &IntercomContact, source: &Source) -> Stored<()> {
    if !source.ready.writes_back {
        return Ok(());
    }
    let Some(row) = tx.write_back_of(&contact.id)?.filter(|row| row.watched.is_some()) else { return Ok(()) };
    let late_enough = row.verify_after.is_some_and(|after| after <= source.read_began);
    let Some(link) = tx.link(row.link)? else { return tx.drop_write_back(row.link) };
    // What is being agreed on by a write to Brevo is not corrected meanwhile.
    let busy = link.import.is_some() || (link.flights.is_some() && !link.answered);
    // A page may come from an index that lags behind: of an unanswered write only a read by id tells.
    if !late_enough || busy || !(row.answered || source.authoritative) {
        return Ok(());
    }
    let flights = watched_of(&row)?;
    let record = record_of(tx, &row, contact, &flights)?;
    let lists: Vec<ResolvedList<'_>> =
        source.ready.lists.iter().map(|(rule, list)| ResolvedList { rule, list: *list }).collect();
    let base = base_of(&link)?;
    if !source.authoritative && !tags_stand(&flights, &lists, &record) {
        // An old page, or somebody's edit: a read by id tells, at once.
        return tx.put_write_back(&WriteBack { verify_after: Some(source.now - LONG_UNSEEN), ..row });
    }
    let settled = person::settle_intercom(&base, &flights, row.answered, &record, &source.ready.mapping, &lists);
    if !row.answered {
        safety::not_landed_back(tx, (&base, &flights), &record, &source.ready, source.now)?;
    }
    if settled.base != base {
        tx.set_base(link.id, &pack_base(tx, &settled.base)?)?;
    }
    put_conflicts(tx, link.id, &settled.lost, None, source.now)?;
    list_refused(tx, &link, SideName::Intercom, &settled.refused, source.now)?;
    if !row.answered || settled.edited || settled.base != base {
        tx.mark_dirty(link.id, Dirty::Live)?;
    }
    tx.put_write_back(&WriteBack { watched: None, answered: true, verify_after: None, ..row })
}

/// What somebody gave in Intercom after a write of ours had left is replaced by that, which has landed late: it can be looked
/// up.
pub(super) fn note_overrun(
    tx: &Tx<'_>,
    known: Option<&IntercomRow>,
    contact: &IntercomContact,
    source: &Source,
) -> Stored<()> {
    let known = known.filter(|known| source.ready.writes_back && known.contact.fields != contact.fields);
    let Some(known) = known else { return Ok(()) };
    let Some(row) = tx.write_back_of(&contact.id)?.filter(|row| row.watched.is_some()) else { return Ok(()) };
    let mut flights = match watched_of(&row) {
        Err(StoreError::Decode { .. }) => return Ok(()),
        flights => flights?,
    };
    // What stood there before a write that its answer has shown is not known any more: it would be taken for somebody's.
    flights
        .fields
        .retain(|_, writes| writes.intercom.as_ref().is_some_and(|write| write.given || write.before != write.sent));
    let (before, now) = (&known.contact.fields, &contact.fields);
    let shown = |fields: &Fields, rule: &FieldRule| vec![rule.source_value(fields)];
    let mapping = &source.ready.mapping;
    let lost =
        person::overrun(&flights, SideName::Intercom, mapping, |rule| shown(before, rule), |rule| shown(now, rule));
    put_conflicts(tx, row.link, &lost, None, source.now)
}

/// Whether each tag that we gave is there, and each that we took away is not.
fn tags_stand(flights: &Flights, lists: &[ResolvedList<'_>], record: &Fields) -> bool {
    let rule_of = |list| lists.iter().find(|resolved| resolved.list == list).map(|resolved| resolved.rule);
    flights.tags.iter().all(|(list, given)| rule_of(*list).is_none_or(|rule| rule.holds(record) == *given))
}

/// Those of a person's contacts whose tags are the person's.
fn present<'a>(tx: &Tx<'_>, link: i64, members: &'a [IntercomRow]) -> Stored<Vec<&'a IntercomRow>> {
    let live: Vec<&IntercomRow> = members.iter().filter(|member| member.state == ContactState::Live).collect();
    match tx.link(link)? {
        Some(link) => place::present(tx, &link, &live),
        None => Ok(live),
    }
}

/// What the mapping looks at: the contact's fields, and its tags if any were given or taken away.
fn record_of(tx: &Tx<'_>, row: &WriteBack, contact: &IntercomContact, flights: &Flights) -> Stored<Fields> {
    let mut record = contact.fields.clone();
    if flights.tags.is_empty() {
        return Ok(record);
    }
    let names = tx.tags()?;
    let mut tags: BTreeSet<IntercomTagId> = contact.tags.items.iter().cloned().collect();
    let members = tx.members(row.link)?;
    let others = present(tx, row.link, &members)?.into_iter().filter(|member| member.contact.id != contact.id);
    tags.extend(others.flat_map(|member| member.contact.tags.items.iter().cloned()));
    if let Some(tags) = Value::list(tags.iter().filter_map(|tag| names.get(tag).cloned())) {
        record.insert("tags".to_owned(), tags);
    }
    Ok(record)
}

impl Connection {
    /// Settles what is on its way to Intercom, and writes what is due. That Intercom does not let us holds up nothing else:
    /// it is listed, and tried again.
    pub(super) async fn write_back(&self, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        let Some(ready) = self.ready().filter(|ready| ready.writes_back) else { return Ok(pushed) };
        // Whoever is at it goes on until nothing is due.
        let Ok(_writing) = self.writing_back.try_lock() else { return Ok(pushed) };
        self.verify_write_backs(priority, &ready).await?;
        // Whoever would lose a value waits until it is known how many there are.
        let (mut pass, mut aside) = (Pass::Known(Vec::new()), Aside::new());
        let mut done = self.write_back_all(priority, (&mut pass, &mut aside), &mut pushed).await;
        if !aside.is_empty() && matches!(done, Ok(true)) {
            pass = Pass::Decided(self.decide_aside(&aside).await?);
            done = self.write_back_all(priority, (&mut pass, &mut aside), &mut pushed).await;
        }
        if let Pass::Decided(left) = pass {
            self.give_back(left).await?;
            self.count_held().await?;
        }
        done.map(|_| pushed)
    }

    /// Before anything is written to Intercom it is read what has changed there: an edit that neither a poll nor a webhook
    /// has shown would be written over. One read for all that leave now, if the last is not a fresh one. `true`: it was read.
    async fn look_at_intercom(&self, priority: Priority) -> Result<bool, EngineError> {
        let now = self.now();
        let read_at = *self.intercom_read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if read_at.is_some_and(|read_at| now - read_at < FRESH)
            || self.is_held(SideName::Intercom)
            || self.store.read(move |tx| tx.write_backs_due(now, 1)).await?.is_empty()
        {
            return Ok(false);
        }
        let scope = self.next_scope(SideName::Intercom, Resource::Contacts, false).await?;
        if !matches!(scope, Scope::Since(_)) {
            return Ok(false);
        }
        match self.sweep_afresh(SideName::Intercom, Resource::Contacts, scope, priority).await {
            Ok(_) => Ok(true),
            // What cannot be read now can hardly be written now: that tells what is wrong.
            Err(error @ (EngineError::Side(_) | EngineError::Sweep { .. })) => {
                tracing::debug!("Intercom cannot be read before it is written: {}", error.for_log());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what is due; then, what was set aside and has been decided on. `false`: Intercom does not let us, for now.
    async fn write_back_all(
        &self,
        priority: Priority,
        (pass, aside): (&mut Pass, &mut Aside),
        pushed: &mut Pushed,
    ) -> Result<bool, EngineError> {
        let mut rest_until: Option<Instant> = None;
        loop {
            self.go_on()?;
            // As it is told now: after a reload nothing leaves any more that only the old mapping lets travel.
            let Some(ready) = self.ready().filter(|ready| ready.writes_back) else { return Ok(true) };
            if self.is_held(SideName::Intercom) {
                return Ok(false);
            }
            // Where much has changed (by our own writes, above all) a look takes longer than it is fresh: half of the time
            // is for writing.
            let began = Instant::now();
            if rest_until.is_none_or(|until| until <= began) && Box::pin(self.look_at_intercom(priority)).await? {
                rest_until = Some(Instant::now() + began.elapsed());
            }
            let now = self.now();
            // What is planned leaves at once: somebody may edit it while it waits for others.
            let in_hand = if priority == Priority::Live { AT_ONCE } else { CHUNK };
            let due = match pass {
                Pass::Known(_) => self.store.read(move |tx| tx.write_backs_due(now, in_hand)).await?,
                Pass::Decided(_) => {
                    let some: Vec<i64> = aside.keys().take(in_hand).copied().collect();
                    aside.retain(|link, _| !some.contains(link));
                    some
                }
            };
            if due.is_empty() {
                return Ok(true);
            }
            // Nobody is written to both sides at once: each answer changes what was agreed on.
            let claim = self.claim(due.iter().copied());
            let leaving = self.leave(&due, claim.claimed.clone(), &ready, (pass, aside)).await?;
            if leaving.is_empty() {
                continue;
            }
            self.doors.crash.reach("after_write_back_intent");
            let began = self.now();
            let mut answers = futures_util::stream::iter(leaving.into_iter().map(|leaving| async move {
                let made = self.send_back(&leaving, priority).await;
                (leaving, made)
            }))
            .buffer_unordered(AT_ONCE);
            let mut done = Vec::new();
            while let Some(answer) = answers.next().await {
                done.push(answer);
            }
            drop(answers);
            self.doors.crash.reach("after_write_back");
            let fatal = done.iter().find_map(|(_, made)| match &made.failed {
                Some(error) if matches!(error.kind, ErrorKind::Auth(_)) => Some(error.clone()),
                _ => None,
            });
            *pushed += self.record_written_back(done, began, &ready).await?;
            drop(claim);
            if let Some(error) = fatal {
                let error = EngineError::Side(error);
                tracing::error!("Intercom cannot be written: {}{}", error.for_log(), error.arrow_to_remedy());
                if stops_everything(&error) {
                    self.note_refusal(&error).await;
                }
                return Ok(false);
            }
        }
    }

    /// Plans what leaves now. Intent before write.
    async fn leave(
        &self,
        due: &[i64],
        claimed: BTreeSet<i64>,
        ready: &Arc<Ready>,
        (pass, aside): (&mut Pass, &mut Aside),
    ) -> Result<Vec<Leaving>, EngineError> {
        let (now, verify_after, ready, due) = (self.now(), self.late_landing(), Arc::clone(ready), due.to_vec());
        let (bounds, known) = (self.bounds(), pass.clone());
        let (leaving, left, mut more) = self
            .store
            .write(move |tx| {
                let names = Names::read(tx, &ready)?;
                let mut gate = Gate::open(tx, bounds, known, now)?;
                let mut leaving = Vec::new();
                for link in due {
                    let Some(row) = tx.write_back(link)? else { continue };
                    if !claimed.contains(&link) {
                        tx.put_write_back(&WriteBack { due: Some(now + BUSY), ..row })?;
                        continue;
                    }
                    match plan_back(tx, row, &ready, &names, &mut gate, now) {
                        Ok(None) => {}
                        Ok(Some(one)) => {
                            let watched = Some(pack(tx, &one.plan.flights.to_intercom())?);
                            let verify_after = Some(verify_after);
                            let row = WriteBack {
                                due: None,
                                sweep: one.before.sweep && one.more,
                                watched,
                                answered: false,
                                verify_after,
                                ..one.before.clone()
                            };
                            tx.put_write_back(&row)?;
                            leaving.push(one);
                        }
                        // The read that replaces what cannot be read plans the person anew.
                        Err(error) => {
                            unreadable::note(tx, error, now)?;
                            tx.drop_write_back(link)?;
                        }
                    }
                }
                let (left, more, _) = gate.close(tx)?;
                Ok((leaving, left, more))
            })
            .await?;
        *pass = left;
        if matches!(pass, Pass::Known(_)) {
            aside.append(&mut more);
        }
        Ok(leaving)
    }

    async fn send_back(&self, leaving: &Leaving, priority: Priority) -> Made {
        let mut made = Made::default();
        if !leaving.plan.intercom.is_empty() {
            let change = IntercomChange { fields: leaving.plan.intercom.clone(), ..IntercomChange::default() };
            made.requests += 1;
            match self.intercom.write(&Write::UpdateIntercomContact(leaving.contact.clone(), change), priority).await {
                Ok(Answer::IntercomContact(contact, _)) if contact.id == leaving.contact => made.shown = Some(contact),
                Ok(_) => {}
                Err(error) => {
                    made.failed = Some(error);
                    return made;
                }
            }
        }
        for step in &leaving.tags {
            match self.send_tag(step, priority, &mut made).await {
                Ok(Some(tag)) => made.tagged.push((step.contact.clone(), tag, step.give)),
                Ok(None) => {}
                Err(error) => {
                    made.failed = Some(error);
                    return made;
                }
            }
        }
        made
    }

    async fn send_tag(
        &self,
        step: &TagStep,
        priority: Priority,
        made: &mut Made,
    ) -> Result<Option<Tag>, Box<SideError>> {
        let id = match (&step.tag, step.give) {
            (Some(id), _) => id.clone(),
            (None, false) => return Ok(None),
            (None, true) => {
                made.requests += 1;
                let answer = self.intercom.write(&Write::CreateTag(step.name.clone()), priority).await?;
                let Answer::TagCreated(tag) = answer else { return Ok(None) };
                tag.id
            }
        };
        made.requests += 1;
        let (contact, tag) = (step.contact.clone(), id.clone());
        let write = if step.give { Write::TagContact(contact, tag) } else { Write::UntagContact(contact, tag) };
        match self.intercom.write(&write, priority).await {
            Ok(answer) => made.again |= answer.and_again().1,
            // It is not there, and that is what was asked for. (Of a contact that is gone the next read tells.)
            Err(error) if !step.give && error.kind == ErrorKind::NotFound => made.again |= error.earlier_may_land,
            Err(error) => return Err(error),
        }
        Ok(Some(Tag { id, name: step.name.clone() }))
    }

    async fn record_written_back(
        &self,
        done: Vec<(Leaving, Made)>,
        began: DateTime<Utc>,
        ready: &Arc<Ready>,
    ) -> Result<Pushed, EngineError> {
        let (now, verify_after, ready) = (self.now(), self.late_landing(), Arc::clone(ready));
        let source = self.source(0, false, began, Dirty::Live)?;
        Ok(self
            .store
            .write(move |tx| {
                let mut pushed = Pushed::default();
                for (leaving, made) in &done {
                    pushed.requests += made.requests;
                    if let Some(contact) = &made.shown {
                        let known = replaceable(tx, tx.intercom_contact(&contact.id))?.0;
                        // What somebody has given since stands: the answer is older than that.
                        let known = known.filter(|known| known.contact.updated_at <= contact.updated_at);
                        note_overrun(tx, known.as_ref(), contact, &source)?;
                    }
                    if let Some(error) = &made.failed {
                        if safety::did_nothing(error) {
                            leaving.harm.take_back(tx, now)?;
                        }
                        // After a reload by which nothing travels there any more, nothing waits for its turn again.
                        if source.ready.writes_back {
                            pushed.failed += u64::from(refused(tx, leaving, error, &ready, now, verify_after)?);
                        }
                    } else {
                        pushed.written_back += 1;
                        accepted(tx, leaving, made, &ready, verify_after, now)?;
                    }
                    if let Some(contact) = &made.shown {
                        source.apply(tx, &Observation::IntercomContact(contact.clone()))?;
                    }
                    for (contact, tag, given) in &made.tagged {
                        show_tag(tx, contact, tag, *given)?;
                    }
                }
                Ok(pushed)
            })
            .await?)
    }

    /// Reads what has become of writes without an answer, and of those that no poll has shown for long, or where somebody waits
    /// for it.
    async fn verify_write_backs(&self, priority: Priority, ready: &Arc<Ready>) -> Result<(), EngineError> {
        let mut after = 0;
        loop {
            let (now, from, told) = (self.now(), after, Arc::clone(ready));
            let (last, rows) = self
                .store
                .read(move |tx| {
                    let rows = tx.write_backs_to_verify(now, from, BATCH)?;
                    let last = rows.last().map(|row| row.link);
                    let mut left = Vec::new();
                    for row in rows {
                        let long = row.verify_after.is_some_and(|after| after <= now - LONG_UNSEEN);
                        if !row.answered || long || is_in_doubt(tx, &row, &told)? {
                            left.push(row);
                        }
                    }
                    Ok((last, left))
                })
                .await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
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
                        tracing::debug!("what was written to Intercom cannot be verified now: {}", error.for_log());
                        let again = self.now() + LATER;
                        self.store
                            .write(move |tx| match tx.write_back(row.link)?.filter(|now| now.watched.is_some()) {
                                Some(row) => tx.put_write_back(&WriteBack { verify_after: Some(again), ..row }),
                                None => Ok(()),
                            })
                            .await?;
                        return Ok(());
                    }
                };
                let source = self.source(0, true, read_began, Dirty::Live)?;
                self.store
                    .write(move |tx| match &found {
                        Fetched::Found(observation, _) => source.apply(tx, observation).map(drop),
                        Fetched::Gone(how) => {
                            let gone = Observation::IntercomContactGone(row.contact.clone(), how.clone());
                            source.apply(tx, &gone)?;
                            tx.drop_write_back(row.link)?;
                            tx.mark_dirty(row.link, Dirty::Live)
                        }
                    })
                    .await?;
            }
        }
    }
}

/// Whether the contact was last seen to hold what somebody may have given since. Of what cannot be read nobody knows.
fn is_in_doubt(tx: &Tx<'_>, row: &WriteBack, ready: &Ready) -> Stored<bool> {
    let known = match tx.intercom_contact(&row.contact) {
        Err(error) if error.unreadable().is_some() => None,
        known => known?,
    };
    let flights = match watched_of(row) {
        Err(StoreError::Decode { .. }) => return Ok(false),
        flights => flights?,
    };
    Ok(known.is_some_and(|known| {
        let fields = &known.contact.fields;
        person::is_in_doubt(&flights, SideName::Intercom, &ready.mapping, |rule| vec![rule.source_value(fields)])
    }))
}

/// What is to be written for this person now. `None`: nothing (any more), or not now.
fn plan_back(
    tx: &Tx<'_>,
    row: WriteBack,
    ready: &Ready,
    names: &Names,
    gate: &mut Gate,
    now: DateTime<Utc>,
) -> Stored<Option<Leaving>> {
    let link = row.link;
    let Some(person) = people::gather(tx, link, ready, names)? else {
        tx.drop_write_back(link)?;
        return Ok(None);
    };
    if person.waits || person.awaits_answer() {
        // What Brevo made of our last write is not known: what is on its way there is nobody's edit.
        tx.put_write_back(&WriteBack { due: Some(now + LATER), ..row })?;
        return Ok(None);
    }
    let person = if row.sweep { person.in_a_sweep() } else { person };
    let Some((plan, harm)) = gate.judge_back(tx, &person, person.plan_now(ready), ready)? else {
        // Its turn comes once all that is due has been looked at.
        tx.put_write_back(&WriteBack { due: Some(now + LATER), ..row })?;
        return Ok(None);
    };
    if person.primary != row.contact || !plan.writes_back() {
        harm.take_back(tx, now)?;
        // Another contact speaks for the person by now; or somebody has gone back.
        if person.primary == row.contact {
            tx.put_write_back(&WriteBack { due: None, sweep: false, ..row })?;
        } else {
            tx.drop_write_back(link)?;
            tx.mark_dirty(link, Dirty::Live)?;
        }
        return Ok(None);
    }
    // One thing at a time, so that each answer is about one thing: all fields, or a tag.
    let (plan, more) = plan.first_of_back(&person.base, &person.flights);
    let tags = match plan.tags.first_key_value() {
        Some((name, give)) => tag_steps(tx, &row, name, *give, names)?,
        None => Vec::new(),
    };
    let brevo = person.brevo.as_ref().map(|contact| contact.id);
    Ok(Some(Leaving { link, contact: row.contact.clone(), brevo, plan, before: row, tags, more, harm }))
}

/// A tag is given to the primary. Any member's counts as the person's: it is taken from all who carry it.
fn tag_steps(tx: &Tx<'_>, row: &WriteBack, name: &str, give: bool, names: &Names) -> Stored<Vec<TagStep>> {
    let step =
        |contact: &IntercomContactId, tag| TagStep { contact: contact.clone(), name: name.to_owned(), tag, give };
    let tag = names.tag_named(name);
    if give {
        return Ok(vec![step(&row.contact, tag)]);
    }
    let Some(tag) = tag else { return Ok(Vec::new()) };
    let members = tx.members(row.link)?;
    let present = present(tx, row.link, &members)?;
    let carriers = present.into_iter().filter(|member| member.contact.tags.items.contains(&tag));
    Ok(carriers.map(|member| step(&member.contact.id, Some(tag.clone()))).collect())
}

/// Intercom has taken all of it, and perhaps shows what it made of it.
fn accepted(
    tx: &Tx<'_>,
    leaving: &Leaving,
    made: &Made,
    ready: &Ready,
    verify_after: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Stored<()> {
    let Leaving { link: id, plan, .. } = leaving;
    if let Some(link) = tx.link(*id)? {
        // Identity may have given the person another contact in Brevo meanwhile: with that one nothing of this is agreed on, and
        // what Intercom has taken counts as given there.
        if link.brevo_id == leaving.brevo {
            let known = base_of(&link)?;
            let mut base = plan.base_with_intercom(&known);
            if !speaks_for(tx, *id, &leaving.contact)? {
                // Another contact speaks for the person by now: what this one has taken says nothing about its fields.
                base.fields = known.fields;
            }
            tx.set_base(*id, &pack_base(tx, &base)?)?;
        }
        // What was refused before and is taken now.
        let subject = subject_of(tx, &link)?;
        for rule in &plan.back.rules {
            tx.clear_failure(&subject, rule)?;
        }
    }
    if let Some(row) = tx.write_back(*id)? {
        let due = if leaving.more { Some(now) } else { row.due };
        let mut flights = plan.flights.to_intercom().with_losses_logged();
        if made.again {
            let tags = plan.back.lists.iter().filter_map(|(list, tag)| Some((*list, *plan.tags.get(tag)?)));
            flights.repeated_tags.extend(tags);
        }
        let watched = match (&made.shown, row.watched) {
            (_, None) => None,
            (None, Some(_)) => Some(pack(tx, &flights)?),
            (Some(shown), Some(_)) => {
                Some(pack(tx, &person::seen_in_answer(&flights, &plan.back, &shown.fields, &ready.mapping))?)
            }
        };
        let row = WriteBack { watched, ..row };
        tx.put_write_back(&WriteBack { answered: true, verify_after: Some(verify_after), tries: 0, due, ..row })?;
    }
    record(tx, leaving, "accepted", now)
}

/// Whether this contact is the one whose fields are the person's.
fn speaks_for(tx: &Tx<'_>, link: i64, contact: &IntercomContactId) -> Stored<bool> {
    let members = tx.members(link)?;
    let live = || members.iter().filter(|member| member.state == ContactState::Live);
    let primary = live().find(|member| member.is_primary).or(live().next());
    Ok(primary.is_some_and(|primary| primary.contact.id == *contact))
}

/// The history and the conflict log of what was written to Intercom.
fn record(tx: &Tx<'_>, leaving: &Leaving, answer: &str, now: DateTime<Utc>) -> Stored<()> {
    let Leaving { link, contact, plan, .. } = leaving;
    put_conflicts(tx, *link, plan.lost_on(SideName::Intercom), None, now)?;
    let mut fields: BTreeMap<String, String> = plan
        .causes
        .iter()
        .filter(|(rule, _)| plan.back.rules.contains(*rule))
        .map(|(rule, cause)| (rule.clone(), (*cause).to_owned()))
        .collect();
    for (name, give) in &plan.tags {
        let why = if *give { "joined its list in Brevo" } else { "is not on its list in Brevo any more" };
        fields.insert(format!("tag {name}"), why.to_owned());
    }
    tx.put_change(&Change {
        link: Some(*link),
        at: now,
        what: format!("update of contact {contact} in Intercom"),
        fields,
        answer: answer.to_owned(),
        import: None,
        request: Some(match leaving.tags.first() {
            Some(step) => crate::intercom::tag_request_for(&step.contact, step.give),
            None => crate::intercom::request_for(contact),
        }),
    })
}

/// What we hold of a contact's tags, after a tag was given or taken away: the answer does not show the contact.
pub(super) fn show_tag(tx: &Tx<'_>, contact: &IntercomContactId, tag: &Tag, given: bool) -> Stored<()> {
    tx.put_tag(tag)?;
    let known = replaceable(tx, tx.intercom_contact(contact))?.0;
    // Keeping it makes it live: what was found gone since it was written to stays gone.
    let Some(known) = known.filter(|known| known.state == ContactState::Live) else { return Ok(()) };
    let mut contact = known.contact;
    if given {
        contact.tags.items.insert(tag.id.clone());
    } else {
        contact.tags.items.remove(&tag.id);
    }
    tx.set_contact_tags(&contact.id, &contact.tags.items)?;
    tx.put_intercom_contact(&contact, 0)
}

/// Intercom did not take it. `true`: that is a failure of its own, and listed.
fn refused(
    tx: &Tx<'_>,
    leaving: &Leaving,
    error: &SideError,
    ready: &Ready,
    now: DateTime<Utc>,
    verify_after: DateTime<Utc>,
) -> Stored<bool> {
    let (before, tries) = (&leaving.before, leaving.before.tries + 1);
    // What was being watched before is watched as it was.
    let again = |due: Option<DateTime<Utc>>, tries: u32| tx.put_write_back(&WriteBack { due, tries, ..before.clone() });
    let Some(link) = tx.link(leaving.link)? else { return Ok(false) };
    let waits = tx.write_back(link.id)?;
    if waits.as_ref().is_some_and(|row| row.contact != leaving.contact)
        || tx.write_back_of(&leaving.contact)?.is_some_and(|row| row.link != link.id)
    {
        // Another contact speaks for the person by now, or this one is another's: what waits for those is not replaced.
        return Ok(false);
    }
    let subject = subject_of(tx, &link)?;
    let (partly, sure) = (leaving.tags.len() > 1, !error.may_have_landed());
    match &error.kind {
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy if !partly && sure => {
            let wait = error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
            again(Some(now + wait.unwrap_or(TimeDelta::seconds(30))), before.tries)?;
            return Ok(false);
        }
        ErrorKind::Auth(_) if !partly && sure => {
            again(Some(now + NOT_LET_IN), before.tries)?;
            tx.put_failure(&NewFailure::refused(Some(link.id), &subject, "", error), now)?;
            return Ok(true);
        }
        ErrorKind::NotFound | ErrorKind::Merged { .. } if tries < MOST_TRIES => {
            // Deleted, archived or merged: a read by id decides, and whoever takes its place is planned anew.
            tx.want_contact(&leaving.contact)?;
            again(Some(now + LATER), tries)?;
            return Ok(false);
        }
        ErrorKind::Rejected { .. } | ErrorKind::Conflict { .. } if sure => {}
        ErrorKind::NotFound | ErrorKind::Merged { .. } => {}
        // It may have landed, or part of it, or still may: nothing more is decided about it until a read shows that. (One that
        // came while it was being sent once more may have settled it, and the last try may land all the same.)
        _ => {
            let row = waits.unwrap_or_else(|| WriteBack::new(leaving.link, leaving.contact.clone()));
            let watched = Some(pack(tx, &leaving.plan.flights.to_intercom())?);
            let verify_after = Some(verify_after);
            tx.put_write_back(&WriteBack { watched, answered: false, verify_after, tries, ..row })?;
            return Ok(false);
        }
    }
    // One field at fault: the others are written without it, and its trouble is listed.
    let at_fault: Vec<String> = match &error.kind {
        ErrorKind::Rejected { field: Some(field) } => {
            let is = |path: &str| path == field || path.strip_prefix("custom_attributes.") == Some(field);
            let rules = ready.mapping.rules.iter().filter(|rule| is(&rule.source));
            rules.map(|rule| rule.key.clone()).filter(|key| leaving.plan.back.rules.contains(key)).collect()
        }
        _ if leaving.plan.back.rules.len() == 1 => leaving.plan.back.rules.iter().cloned().collect(),
        _ => Vec::new(),
    };
    let mut quarantined = link.quarantined.clone();
    for rule in &at_fault {
        if let Some(write) = leaving.plan.flights.field(SideName::Intercom, rule) {
            quarantined.insert(rule.clone(), person::quarantine_key(&write.sent));
            tx.put_failure(&NewFailure::refused(Some(link.id), &subject, rule, error), now)?;
        }
    }
    if quarantined != link.quarantined {
        tx.set_quarantined(link.id, &quarantined)?;
        again(None, 0)?;
        tx.mark_dirty(link.id, link.dirty.max(Dirty::Live))?;
        return Ok(true);
    }
    let dead = tries >= MOST_TRIES;
    again((!dead).then(|| now + TimeDelta::seconds(5 << tries.min(6))), tries)?;
    tx.put_failure(&NewFailure { dead, ..NewFailure::refused(Some(link.id), &subject, "", error) }, now)?;
    Ok(true)
}

/// Whether anything of the state says that somebody's record of Intercom is being written.
pub(super) fn flights_to_intercom(tx: &Tx<'_>, link: i64, primary: &IntercomContactId) -> Stored<(Flights, bool)> {
    let Some(row) = tx.write_back(link)?.filter(|row| row.contact == *primary) else {
        return Ok((Flights::default(), false));
    };
    let flights = watched_of(&row).map_err(|error: StoreError| error.of(crate::store::Record::Link(link)))?;
    Ok((flights, row.awaits_answer()))
}

/// Spans of both sides, for fields whose newest value stands.
pub(super) fn spans(tx: &Tx<'_>, link: i64) -> Stored<crate::model::Sides<Option<Span>>> {
    let span = |side| Stored::Ok(tx.span(link, side)?.map(|(after, until)| Span { after, until }));
    Ok(crate::model::Sides { intercom: span(SideName::Intercom)?, brevo: span(SideName::Brevo)? })
}
