//! Plans → requests, by the cheapest route that keeps the promises.
//!
//! | route | for |
//! |---|---|
//! | import | from a threshold of pending people on, rows without clears, opt-outs of existing contacts, address or phone changes |
//! | list add/remove, 150 a call | people for whom nothing but a list changes |
//! | one request each | all else |

use super::imports::Buckets;
use super::inbox::is_refusal;
use super::observe::{mark_brevo_gone, pack_base, pack_flights, settle_as, subject_of, to_json};
use super::people::{self, Names, Planned};
use super::{Connection, EngineError, LATE_LANDING, Ready};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, BrevoListId, ContactKey, Email, ErrorKind, Fetched, Observation, Priority,
    SideError, Write, phone_digits,
};
use crate::reconcile::person::{self, PersonPlan};
use crate::store::links::{Dirty, LinkState, Stretch};
use crate::store::listings::NewFailure;
use crate::store::listings::{Change, Conflict};
use crate::store::{Record, Result as Stored, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Links planned in one transaction.
const BATCH: usize = 500;
/// Single writes whose intents are recorded, sent and answered together.
const CHUNK: usize = 24;
/// Single writes under way at once; the governor sets the pace.
const AT_ONCE: usize = 8;
/// Failed tries after which a record is given up until somebody asks.
const MOST_TRIES: u32 = 3;
/// Brevo's limit for adding to and removing from a list.
const LIST_CALL: usize = 150;

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pushed {
    /// People planned.
    pub planned: u64,
    /// Brevo contacts made.
    pub created: u64,
    /// Brevo contacts changed.
    pub updated: u64,
    /// List memberships changed on their own.
    pub listed: u64,
    /// Rows sent by import.
    pub imported: u64,
    /// Writes that failed for good or for now.
    pub failed: u64,
    /// Write requests sent.
    pub requests: u64,
}

impl std::ops::AddAssign for Pushed {
    fn add_assign(&mut self, more: Self) {
        self.planned += more.planned;
        self.created += more.created;
        self.updated += more.updated;
        self.listed += more.listed;
        self.imported += more.imported;
        self.failed += more.failed;
        self.requests += more.requests;
    }
}

/// Which links a pass over the backlog is about.
struct Part {
    stretch: Stretch,
    bulk: bool,
    backlog: u64,
}

/// What became of one single write.
enum Outcome {
    Created(BrevoContactId),
    Updated,
    Failed(Box<SideError>),
}

impl Connection {
    /// Writes all that is due and at least as urgent as `least`.
    pub(super) async fn push(
        &self,
        least: Dirty,
        priority: Priority,
        progress: &dyn super::Progress,
    ) -> Result<Pushed, EngineError> {
        self.release_abandoned().await?;
        let (settings, _) = self.require_told()?;
        let backlog = self.store.read(move |tx| tx.count_dirty(least)).await?;
        let bulk = backlog >= settings.import_threshold;
        let mut pushed = Pushed::default();
        let opt_outs = self.opt_out_in_imports(priority).await?;
        pushed.updated += opt_outs;
        pushed.requests += opt_outs;
        progress.stage(super::Stage::Writing, 0, Some(backlog as u64));
        let mut buckets = self.buckets();
        let mut linked = true;
        for stretch in Stretch::all(least, bulk) {
            // Contacts that exist before those that are made: the fresh read before update imports would show all that
            // were just made.
            if linked && !stretch.linked {
                pushed += self.send_imports(&mut buckets, priority).await?;
            }
            linked = stretch.linked;
            let part = Part { stretch, bulk, backlog: backlog as u64 };
            self.push_part(&part, &mut buckets, &mut pushed, priority, progress).await?;
        }
        pushed += self.send_imports(&mut buckets, priority).await?;
        Ok(pushed)
    }

    /// Whether somebody's opt-out waits for Brevo.
    pub(super) async fn has_opt_outs(&self) -> Result<bool, EngineError> {
        Ok(self
            .store
            .read(|tx| Ok(tx.count_dirty(Dirty::Consent)? > 0 || !tx.urgent_in_imports(0, 1)?.is_empty()))
            .await?)
    }

    async fn send_imports(&self, buckets: &mut Buckets, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        for batch in buckets.take_all() {
            pushed += self.send_import(batch, buckets, priority).await?;
        }
        Ok(pushed)
    }

    async fn push_part(
        &self,
        part: &Part,
        buckets: &mut Buckets,
        pushed: &mut Pushed,
        priority: Priority,
        progress: &dyn super::Progress,
    ) -> Result<(), EngineError> {
        let mut ready = self.require_ready()?;
        let Part { stretch, bulk, backlog } = *part;
        let mut after = 0;
        loop {
            let now = self.now();
            let ids = self.store.read(move |tx| tx.dirty_links(stretch, after, BATCH, now)).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = *last;
            let mut claim = self.claim(ids);
            let links: Vec<i64> = claim.claimed.iter().copied().collect();
            pushed.planned += links.len() as u64;
            ready = self.ensure_options(ready, &links, priority).await?;
            let planning = Arc::clone(&ready);
            let mut filing = buckets.begin_filing();
            let (mut alone, lists, filing) = self
                .store
                .write(move |tx| {
                    let names = Names::read(tx)?;
                    let (mut alone, mut lists) = (Vec::new(), Vec::new());
                    for link in links {
                        let planned = people::gather(tx, link, &planning, &names)
                            .and_then(|person| person.map_or(Ok(None), |person| person.plan(tx, &planning, bulk, now)));
                        match planned {
                            Ok(None) => {}
                            Ok(Some(planned)) if only_lists(&planned) => lists.push(planned),
                            Ok(Some(planned)) if bulk && planned.importable => {
                                filing.file(tx, planned, &planning, now)?;
                            }
                            Ok(Some(planned)) => alone.push(planned),
                            // One row that cannot be read holds up nobody. The read that replaces it marks the link anew.
                            Err(error) => {
                                super::unreadable::note(tx, error, now)?;
                                tx.give_up(link)?;
                            }
                        }
                    }
                    Ok((alone, lists, filing))
                })
                .await?;
            buckets.end_filing(filing);
            // Opt-outs ride in single requests and come first of all; then as the store handed them out, the most urgent
            // first.
            alone.sort_by_key(|planned| !planned.plan.change.email_opted_out);
            // Nothing is sent for the others now: an opt-out among them is not to wait for these.
            claim.keep(&alone.iter().chain(&lists).map(|planned| planned.link).collect());
            *pushed += self.send_alone(alone, &ready, priority, &mut claim).await?;
            *pushed += self.send_lists(lists, priority).await?;
            drop(claim);
            while let Some(batch) = buckets.take_full() {
                *pushed += self.send_import(batch, buckets, priority).await?;
            }
            progress.stage(super::Stage::Writing, pushed.planned, Some(backlog.max(1)));
        }
    }

    pub(super) fn require_ready(&self) -> Result<Arc<Ready>, EngineError> {
        self.ready().ok_or(EngineError::Stopped)
    }

    async fn send_alone(
        &self,
        all: Vec<Planned>,
        ready: &Arc<Ready>,
        priority: Priority,
        claim: &mut super::Claim<'_>,
    ) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        let mut queue: VecDeque<Planned> = all.into();
        while !queue.is_empty() {
            // Who has opted out since is left to whoever sends that: this may take long to come to them.
            let overtaken = self.overtaken_by_opt_outs(&queue).await?;
            queue.retain(|planned| !overtaken.contains(&planned.link));
            claim.release(overtaken);
            let chunk: Vec<Planned> = queue.drain(..CHUNK.min(queue.len())).collect();
            let links: Vec<i64> = chunk.iter().map(|planned| planned.link).collect();
            // Brevo re-subscribes a blocklisted contact whose address changes: the flag is read first, and sent along.
            for contact in chunk.iter().filter(|planned| planned.plan.change.email.is_some()) {
                if let Some(contact) = &contact.brevo {
                    self.look_up(&ContactKey::Brevo(contact.id), priority).await?;
                }
            }
            let chunk = self.put_intents(chunk).await?;
            self.doors.crash.reach("after_intent");
            let mut answers = futures_util::stream::iter(chunk.into_iter().map(|planned| async move {
                let write = match &planned.brevo {
                    None => Write::CreateContact(planned.plan.as_new_contact(planned.email.clone())),
                    Some(contact) => Write::UpdateContact(contact.id, planned.plan.change.clone()),
                };
                let outcome = match self.brevo.write(&write, priority).await {
                    Ok(Answer::ContactCreated(id)) => Outcome::Created(id),
                    Ok(_) => Outcome::Updated,
                    Err(error) => Outcome::Failed(error),
                };
                (planned, outcome)
            }))
            .buffer_unordered(AT_ONCE);
            let mut done = Vec::new();
            while let Some(answer) = answers.next().await {
                done.push(answer);
            }
            drop(answers);
            self.doors.crash.reach("after_remote_write");
            let lookups =
                done.iter().filter_map(|(planned, outcome)| needs_lookup(planned, outcome)).collect::<Vec<_>>();
            let fatal = done.iter().find_map(|(_, outcome)| match outcome {
                Outcome::Failed(error) if matches!(error.kind, ErrorKind::Auth(_)) => Some(error.clone()),
                _ => None,
            });
            pushed += self.record_alone(done, ready).await?;
            for key in lookups {
                self.look_up(&key, priority).await?;
            }
            claim.release(links);
            if let Some(error) = fatal {
                return Err(error.into());
            }
        }
        Ok(pushed)
    }

    async fn overtaken_by_opt_outs(&self, queue: &VecDeque<Planned>) -> Result<BTreeSet<i64>, EngineError> {
        let planned_at: BTreeMap<i64, i64> = queue.iter().map(|planned| (planned.link, planned.marks)).collect();
        let now = self.now();
        let opt_outs = Stretch { dirty: Dirty::Consent, linked: true };
        Ok(self
            .store
            .read(move |tx| {
                let mut overtaken = BTreeSet::new();
                for link in tx.dirty_links(opt_outs, 0, BATCH, now)? {
                    if let Some(marks) = planned_at.get(&link)
                        && matches!(tx.link(link), Ok(Some(link)) if link.marks != *marks)
                    {
                        overtaken.insert(link);
                    }
                }
                Ok(overtaken)
            })
            .await?)
    }

    /// Intent before write: what each request will set is on disk before it leaves. Plans that something has overtaken
    /// since they were made (an opt-out above all) stay behind and are made again.
    async fn put_intents(&self, all: Vec<Planned>) -> Result<Vec<Planned>, EngineError> {
        let verify_after = self.late_landing();
        Ok(self
            .store
            .write(move |tx| {
                let mut left = Vec::with_capacity(all.len());
                for planned in all {
                    if is_current(tx, &planned)? {
                        tx.put_intent(planned.link, &pack_flights(tx, &planned.plan.flights)?, verify_after)?;
                        left.push(planned);
                    }
                }
                Ok(left)
            })
            .await?)
    }

    async fn record_alone(&self, done: Vec<(Planned, Outcome)>, ready: &Arc<Ready>) -> Result<Pushed, EngineError> {
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
                            tx.put_brevo_contact(&provisional(*id, planned), 0, true)?;
                            if let Some(other) = tx.link_by_brevo(*id)?.filter(|other| other.id != planned.link) {
                                // Identity was faster: the contact was seen and linked before our answer came.
                                hold_apart(tx, planned.link, other.id, now)?;
                                continue;
                            }
                            accept(tx, planned, verify_after, now)?;
                            tx.set_brevo(planned.link, Some(*id))?;
                            rename_if_moved(tx, planned.link, planned.email.as_ref())?;
                        }
                        Outcome::Updated => {
                            pushed.updated += 1;
                            accept(tx, planned, verify_after, now)?;
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
                        link_found(tx, email, contact)?;
                    }
                    Ok(true)
                }
                Fetched::Gone(_) => {
                    if let ContactKey::Brevo(id) = key {
                        source.apply(tx, &Observation::BrevoContactGone(id))?;
                    }
                    Ok(false)
                }
            })
            .await?)
    }

    async fn send_lists(&self, all: Vec<Planned>, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        let all = self.put_intents(all).await?;
        let mut calls: BTreeMap<(BrevoListId, bool), Vec<(i64, BrevoContactId)>> = BTreeMap::new();
        for planned in &all {
            let Some(contact) = &planned.brevo else { continue };
            for list in &planned.plan.change.join_lists {
                calls.entry((*list, true)).or_default().push((planned.link, contact.id));
            }
            for list in &planned.plan.change.leave_lists {
                calls.entry((*list, false)).or_default().push((planned.link, contact.id));
            }
        }
        let mut failed: BTreeMap<i64, Box<SideError>> = BTreeMap::new();
        for ((list, join), people) in calls {
            for part in people.chunks(LIST_CALL) {
                let ids: Vec<BrevoContactId> = part.iter().map(|(_, contact)| *contact).collect();
                let write = if join { Write::AddToList(list, ids) } else { Write::RemoveFromList(list, ids) };
                pushed.requests += 1;
                match self.brevo.write(&write, priority).await {
                    Ok(_) => pushed.listed += part.len() as u64,
                    Err(mut error) => {
                        // It is the list that is not there: that says nothing about the people.
                        if error.kind == ErrorKind::NotFound {
                            error.kind = ErrorKind::Rejected { field: None };
                        }
                        for (link, _) in part {
                            failed.insert(*link, error.clone());
                        }
                    }
                }
            }
        }
        let (now, verify_after, ready) = (self.now(), self.late_landing(), self.require_ready()?);
        pushed.failed += failed.len() as u64;
        let fatal = failed.values().find(|error| matches!(error.kind, ErrorKind::Auth(_))).cloned();
        self.store
            .write(move |tx| {
                all.iter().try_for_each(|planned| match failed.get(&planned.link) {
                    None => accept(tx, planned, verify_after, now),
                    Some(error) => refuse(tx, planned, error, &ready, now, verify_after),
                })
            })
            .await?;
        fatal.map_or(Ok(pushed), |error| Err(error.into()))
    }

    /// Until when a request that times out now may still land.
    pub(super) fn late_landing(&self) -> DateTime<Utc> {
        self.now() + TimeDelta::from_std(LATE_LANDING).unwrap_or_default()
    }

    /// Reads what writes of unknown outcome have left behind, once they cannot land any more.
    pub(super) async fn verify_unanswered(&self, priority: Priority) -> Result<u64, EngineError> {
        let ready = self.require_ready()?;
        let mut verified = 0;
        let mut after = 0;
        loop {
            let now = self.now();
            let ids = self.store.read(move |tx| tx.verifiable(false, now, after, BATCH)).await?;
            let Some(last) = ids.last() else { return Ok(verified) };
            after = *last;
            // A write that is still waiting for its turn is not of unknown outcome yet.
            let claim = self.claim(ids);
            for id in claim.claimed.iter().copied() {
                match self.verify_one(id, priority, &ready).await {
                    Ok(()) => verified += 1,
                    Err(EngineError::Store(error)) => self.spare::<()>(Err(error.into())).await.map(drop)?,
                    // An address that Brevo will not even look for has not landed.
                    Err(error) if is_refusal(&error) => {
                        tracing::warn!(link = id, "a write of unknown outcome cannot be verified: {}", error.for_log());
                        self.store
                            .write(move |tx| {
                                tx.drop_intent(id, None, true)?;
                                tx.mark_dirty(id, Dirty::Live)
                            })
                            .await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn verify_one(&self, id: i64, priority: Priority, ready: &Arc<Ready>) -> Result<(), EngineError> {
        let read_began = self.now();
        let Some((link, key)) = self
            .store
            .write(move |tx| {
                let Some(link) = tx.link(id)?.filter(|link| !link.answered) else { return Ok(None) };
                let Some(flights) = &link.flights else { return Ok(None) };
                let flights: person::Flights =
                    flights.unpack("links.flights").map_err(|error: StoreError| error.of(Record::Link(id)))?;
                // The address that the create was sent with: the person may have another by now.
                let key = match (link.brevo_id, flights.email.as_ref().or(link.email.as_ref())) {
                    (Some(brevo), _) => ContactKey::Brevo(brevo),
                    (None, Some(email)) => ContactKey::BrevoEmail(email.clone()),
                    (None, None) => {
                        let Some(phone) = phone_of(&flights) else {
                            tx.drop_intent(id, None, true)?;
                            return Ok(None);
                        };
                        ContactKey::BrevoPhone(phone)
                    }
                };
                Ok(Some((link, key)))
            })
            .await?
        else {
            return Ok(());
        };
        let found = self.brevo.fetch(&key, priority).await?;
        let (source, ready) = (self.source(0, true, read_began, Dirty::Live)?, Arc::clone(ready));
        self.store
            .write(move |tx| {
                // The claim keeps other writes away, not identity: meanwhile it may have given the person another contact,
                // of which this read says nothing.
                let before = link.brevo_id;
                let Some(link) = tx.link(link.id)? else { return Ok(()) };
                if link.brevo_id != before {
                    return tx.mark_dirty(link.id, Dirty::Live);
                }
                match &found {
                    Fetched::Found(observation, _) => {
                        source.apply(tx, observation)?;
                        if let (None, Observation::BrevoContact(contact)) = (link.brevo_id, &**observation) {
                            if let Some(holder) = tx.link_by_brevo(contact.id)?.filter(|holder| holder.id != link.id) {
                                return hold_apart(tx, link.id, holder.id, source.now);
                            }
                            // Our create did land: it is the person's contact, and what it shows is judged.
                            tx.set_brevo(link.id, Some(contact.id))?;
                            rename_if_moved(tx, link.id, contact.email.as_ref())?;
                            if let Some(link) = tx.link(link.id)?
                                && let Some(flights) = &link.flights
                            {
                                let flights = flights.unpack("links.flights")?;
                                super::observe::settle_now(tx, &link, &flights, false, contact, &ready, source.now)?;
                            }
                        }
                    }
                    Fetched::Gone(_) => match link.brevo_id {
                        Some(_) => mark_brevo_gone(tx, &link, source.now)?,
                        None => tx.drop_intent(link.id, None, true)?,
                    },
                }
                tx.mark_dirty(link.id, Dirty::Live)
            })
            .await?;
        Ok(())
    }
}

fn phone_of(flights: &person::Flights) -> Option<String> {
    flights.fields.iter().find(|(rule, _)| rule.ends_with("-> SMS")).and_then(|(_, write)| {
        let phone = write.sent.first()?.as_ref()?.to_string();
        Some(phone_digits(&phone))
    })
}

/// Nothing but list memberships changes for a contact that exists.
fn only_lists(planned: &Planned) -> bool {
    let PersonPlan { change, .. } = &planned.plan;
    let without_lists =
        crate::model::ContactChange { join_lists: BTreeSet::new(), leave_lists: BTreeSet::new(), ..change.clone() };
    planned.brevo.is_some() && without_lists.is_empty()
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
pub(super) fn accept(tx: &Tx<'_>, planned: &Planned, verify_after: DateTime<Utc>, now: DateTime<Utc>) -> Stored<()> {
    let plan = &planned.plan;
    let before = planned.brevo.as_ref().map(|contact| contact.id);
    let Some(link) = tx.link(planned.link)?.filter(|link| link.brevo_id == before) else {
        // Identity has given the link another contact meanwhile: what this one took says nothing about that one.
        return record(tx, planned, "accepted, but the person is another Brevo contact by now", None, now);
    };
    let mut base = plan.base.clone();
    // An opt-out in Brevo that was seen while this was on its way.
    if let (Some(consent), Some(contact)) = (&mut base.consent, before) {
        consent.brevo_out |= tx.brevo_contact(contact)?.is_some_and(|contact| contact.consent.email_opted_out());
    }
    if planned.ahead {
        tx.accept_opt_out(planned.link, &pack_base(tx, &base)?, &pack_flights(tx, &plan.flights)?, planned.marks)?;
        return record(tx, planned, "accepted, ahead of a write whose outcome is not known yet", None, now);
    }
    tx.accept_write(
        planned.link,
        (&pack_base(tx, &base)?, &pack_flights(tx, &plan.flights)?),
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
    if planned.only_opt_out {
        tx.mark_dirty(planned.link, Dirty::Live)?;
    } else {
        tx.clear_failures(planned.link, &people::still_failing(plan, &link.quarantined))?;
    }
    record(tx, planned, "accepted", None, now)
}

/// The history and the conflict log of a write.
pub(super) fn record(
    tx: &Tx<'_>,
    planned: &Planned,
    answer: &str,
    import: Option<i64>,
    now: DateTime<Utc>,
) -> Stored<()> {
    let plan = &planned.plan;
    for lost in &plan.lost {
        tx.put_conflict(&Conflict {
            link: planned.link,
            field: lost.field.clone(),
            lost: to_json("conflicts", &lost.lost)?,
            kept: to_json("conflicts", &lost.kept)?,
            rule: lost.rule.clone(),
            at: now,
            import,
        })?;
    }
    let what = if planned.brevo.is_none() { "create in Brevo" } else { "update in Brevo" };
    let mut fields: BTreeMap<String, String> =
        plan.causes.iter().map(|(rule, cause)| (rule.clone(), (*cause).to_owned())).collect();
    for (lists, word) in [(&plan.change.join_lists, "joined"), (&plan.change.leave_lists, "left")] {
        for list in lists {
            fields.insert(format!("list {list}"), word.to_owned());
        }
    }
    tx.put_change(&Change {
        link: Some(planned.link),
        at: now,
        what: what.to_owned(),
        fields,
        answer: answer.to_owned(),
        import,
    })
}

/// Nothing has happened to the person since this was planned.
fn is_current(tx: &Tx<'_>, planned: &Planned) -> Stored<bool> {
    let before = planned.brevo.as_ref().map(|contact| contact.id);
    Ok(tx
        .link(planned.link)?
        .is_some_and(|link| link.marks == planned.marks && link.state == LinkState::Active && link.brevo_id == before))
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

/// Two links for one Brevo contact: the one that has it keeps it, the other is listed.
pub(super) fn hold_apart(tx: &Tx<'_>, link: i64, holder: i64, now: DateTime<Utc>) -> Stored<()> {
    let Some(row) = tx.link(link)? else { return Ok(()) };
    let detail = format!("the Brevo contact with its address is link {holder}'s");
    tx.put_notice("identity_conflict", &subject_of(tx, &row)?, Some(&detail), now)?;
    tx.leave_import(link)?;
    settle_as(tx, link, &person::Base::default(), None)?;
    tx.give_up(link)
}

/// What to read before a refused write is planned again.
fn needs_lookup(planned: &Planned, outcome: &Outcome) -> Option<ContactKey> {
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
fn link_found(tx: &Tx<'_>, email: &Email, contact: &BrevoContact) -> Stored<()> {
    let Some(link) = tx.link_by_email(email)? else { return Ok(()) };
    if contact.email.as_ref() != Some(email) || tx.link_by_brevo(contact.id)?.is_some() {
        return Ok(());
    }
    if link.brevo_id.is_none() {
        tx.set_brevo(link.id, Some(contact.id))?;
        settle_as(tx, link.id, &person::Base::default(), None)?;
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
    let Some(link) = tx.link(planned.link)? else { return Ok(()) };
    let subject = subject_of(tx, &link)?;
    // What was being watched before is watched as it was: answered, or of unknown outcome.
    let earlier = || tx.drop_intent(link.id, planned.watched.as_ref(), !planned.ahead);
    match &error.kind {
        // It may have landed or may still land: nothing more is written until a later read shows what became of it.
        ErrorKind::Ambiguous | ErrorKind::Malformed => {
            let flights = pack_flights(tx, &planned.plan.flights)?;
            return tx.put_intent(link.id, &flights, verify_after);
        }
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::LostCursor | ErrorKind::Busy => {
            earlier()?;
            let wait =
                error.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok()).unwrap_or(TimeDelta::seconds(30));
            return tx.postpone(link.id, now + wait, false);
        }
        ErrorKind::Auth(_) | ErrorKind::Unsupported => return earlier(),
        ErrorKind::NotFound | ErrorKind::Merged { .. } | ErrorKind::Conflict { .. } | ErrorKind::Rejected { .. } => {}
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
            if let Some(flight) = planned.plan.flights.fields.get(&rule.key) {
                quarantined.insert(rule.key.clone(), person::quarantine_key(&flight.sent));
                without.push(rule.key.clone());
            }
        }
    }
    let about_email = needs_lookup(planned, &Outcome::Failed(Box::new(error.clone()))).is_some();
    if let Some(new) = &planned.plan.change.email
        && about_email
        && link.tries > 0
    {
        // Somebody who is not to be adopted has the new address: everything else about the person goes on.
        tx.hold_rename(link.id, new)?;
        let detail = "Brevo does not take its new e-mail: another contact has it";
        tx.put_notice("identity_conflict", &subject, Some(detail), now)?;
    }
    if without.is_empty() {
        let tries = link.tries + 1;
        let dead = tries >= MOST_TRIES;
        let failure = NewFailure::refused(Some(link.id), &subject, "", error);
        tx.put_failure(&NewFailure { dead, ..failure }, now)?;
        if dead {
            tx.give_up_at(link.id, planned.marks)?;
            return tx.postpone(link.id, now, true);
        }
        let wait = if about_email { TimeDelta::zero() } else { TimeDelta::seconds(5 << tries.min(6)) };
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
