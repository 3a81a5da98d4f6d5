//! Plans → requests, by the cheapest route that keeps the promises.
//!
//! | route | for |
//! |---|---|
//! | import | from a threshold of pending people on, rows without clears, opt-outs of existing contacts, address or phone changes |
//! | list add/remove, 150 a call | people for whom nothing but a list changes |
//! | one request each | all else |

use super::answers::{Outcome, accept, needs_lookup, refuse};
use super::filling::Buckets;
use super::imports::Sender;
use super::observe::{base_of, pack_base, pack_flights};
use super::people::{self, Draft, Names, Person, Planned};
use super::safety::{self, Aside, Gate, Opening, Pass};
use super::unreadable::OwedOptOut;
use super::{BATCH, Connection, EngineError, Ready};
use crate::model::{
    Answer, BrevoContactId, BrevoListId, ContactChange, ContactKey, ErrorKind, Priority, SideError, Write,
};
use crate::store::links::{Dirty, LinkState, Stretch};
use crate::store::{Result as Stored, StoreError, Tx};
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Single writes whose intents are recorded, sent and answered together.
pub(super) const CHUNK: usize = 24;
/// Single writes under way at once; the governor sets the pace.
pub(super) const AT_ONCE: usize = 8;
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
    /// Intercom contacts opted out there.
    #[serde(default)]
    pub opted_out: u64,
    /// Intercom contacts changed: fields and tags that travel there.
    #[serde(default)]
    pub written_back: u64,
    /// Opt-ins carried to the other side.
    #[serde(default)]
    pub opted_in: u64,
    /// Records written because somebody is gone on the other side.
    #[serde(default)]
    pub parted: u64,
    /// Contacts made in Intercom, or brought back there.
    #[serde(default)]
    pub created_in_intercom: u64,
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
        self.opted_out += more.opted_out;
        self.written_back += more.written_back;
        self.opted_in += more.opted_in;
        self.parted += more.parted;
        self.created_in_intercom += more.created_in_intercom;
        self.failed += more.failed;
        self.requests += more.requests;
    }
}

/// What a push is about.
struct Backlog {
    least: Dirty,
    /// There are enough for imports.
    bulk: bool,
    people: u64,
    priority: Priority,
    opening: Opening,
}

/// A batch of the backlog.
struct Gathered {
    people: Vec<Person>,
    owed: Vec<OwedOptOut>,
    /// The last link that was looked at.
    last: i64,
}

/// Plans that imports do not carry.
#[derive(Default)]
struct Settled {
    alone: Vec<Planned>,
    lists: Vec<Planned>,
    owed: Vec<OwedOptOut>,
    /// Whose plans wait until the backlog is planned.
    aside: Aside,
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
        // What was read may have to be told.
        self.tell_bell.notify_one();
        let (backlog, opening) = self.open_safety(least).await?;
        let bulk = backlog >= settings.import_threshold;
        let mut pushed = Pushed::default();
        let opt_outs = self.opt_out_in_imports(priority).await?;
        pushed.updated += opt_outs;
        pushed.requests += opt_outs;
        progress.stage(super::Stage::Writing, 0, Some(backlog as u64));
        let mut sender = Sender::new(self, priority);
        let backlog = Backlog { least, bulk, people: backlog as u64, priority, opening };
        let done = Box::pin(self.push_all(&backlog, &mut sender, &mut pushed, progress)).await;
        // Whatever has happened to the others: what is on its way is answered first.
        let sent = sender.wait().await;
        done?;
        sent?;
        pushed += sender.pushed();
        self.close_safety(&backlog.opening).await?;
        Ok(pushed)
    }

    async fn push_all(
        &self,
        backlog: &Backlog,
        sender: &mut Sender<'_>,
        pushed: &mut Pushed,
        progress: &dyn super::Progress,
    ) -> Result<(), EngineError> {
        let mut buckets = self.buckets();
        let mut linked = true;
        let mut aside = Aside::new();
        for stretch in Stretch::all(backlog.least, backlog.bulk) {
            // Contacts that exist before those that are made: the fresh read before update imports would show all that
            // were just made.
            if linked && !stretch.linked {
                if backlog.bulk {
                    self.push_aside(std::mem::take(&mut aside), backlog, &mut buckets, sender, pushed).await?;
                }
                send_all(self, &mut buckets, sender).await?;
            }
            linked = stretch.linked;
            aside.append(&mut self.push_stretch(stretch, backlog, &mut buckets, sender, pushed, progress).await?);
        }
        self.push_aside(aside, backlog, &mut buckets, sender, pushed).await?;
        send_all(self, &mut buckets, sender).await
    }

    /// Whether somebody's opt-out waits for Brevo.
    pub(super) async fn has_opt_outs(&self) -> Result<bool, EngineError> {
        Ok(self
            .store
            .read(|tx| Ok(tx.count_dirty(Dirty::Consent)? > 0 || !tx.urgent_in_imports(0, 1)?.is_empty()))
            .await?)
    }

    /// Gather, draft, settle, send, batch after batch. While this thread drafts one batch, the state's settles the one
    /// before it and gathers the one after it.
    async fn push_stretch(
        &self,
        stretch: Stretch,
        backlog: &Backlog,
        buckets: &mut Buckets,
        sender: &mut Sender<'_>,
        pushed: &mut Pushed,
        progress: &dyn super::Progress,
    ) -> Result<Aside, EngineError> {
        let (settings, mut ready) = self.require_told()?;
        let Backlog { bulk, priority, .. } = *backlog;
        let mut set_aside = Aside::new();
        let mut gathered = sender.beside(self.gather_batch(stretch, Some(0), Arc::clone(&ready))).await?;
        let mut drafts: Vec<Draft> = Vec::new();
        while gathered.is_some() || !drafts.is_empty() {
            self.go_on()?;
            // After a reload all are marked: planned by the old mapping, they would count as done. The next push plans them.
            if !Arc::ptr_eq(&settings, &self.settings()) {
                break;
            }
            let (people, last) = match gathered {
                None => (Vec::new(), None),
                Some(Gathered { people, mut owed, last }) => {
                    let claim = self.claim(owed.iter().map(|owed| owed.link));
                    owed.retain(|owed| claim.claimed.contains(&owed.link));
                    pushed.updated += self.send_owed_opt_outs(owed, priority).await?;
                    drop(claim);
                    // An opt-out does not wait for options; whoever lacks some gets them afterwards.
                    if !(stretch.linked && stretch.dirty == Dirty::Consent) {
                        ready = sender.beside(self.ensure_options(ready, &people, priority)).await?;
                    }
                    (people, Some(last))
                }
            };
            let claim = self.claim(drafts.iter().map(Draft::link));
            drafts.retain(|draft| claim.claimed.contains(&draft.link()));
            pushed.planned += drafts.len() as u64;
            let mut pass = backlog.opening.pass(stretch.dirty);
            let settling = self.settle_drafts(drafts, bulk, buckets, &mut pass, &ready);
            let gathering = self.gather_batch(stretch, last, Arc::clone(&ready));
            let packer = bulk.then(|| self.store.packer());
            let drafting = async { people.into_iter().map(|person| person.draft(&ready, packer.as_ref())).collect() };
            let all = async { Ok(tokio::join!(settling, gathering, drafting)) };
            let (settled, following, drafted) = sender.beside(all).await?;
            (gathered, drafts) = (following?, drafted);
            let mut settled = settled?;
            set_aside.append(&mut settled.aside);
            self.send_settled(settled, &ready, priority, claim, buckets, sender, pushed).await?;
            progress.stage(super::Stage::Writing, pushed.planned, Some(backlog.people.max(1)));
        }
        Ok(set_aside)
    }

    /// Whoever was set aside is planned once more, now that it is known how many there are.
    async fn push_aside(
        &self,
        aside: Aside,
        backlog: &Backlog,
        buckets: &mut Buckets,
        sender: &mut Sender<'_>,
        pushed: &mut Pushed,
    ) -> Result<(), EngineError> {
        if aside.is_empty() {
            return Ok(());
        }
        let mut pass = Pass::Decided(self.decide_aside(&aside).await?);
        let links: Vec<i64> = aside.into_keys().collect();
        let mut done = Ok(());
        for some in links.chunks(BATCH) {
            done = self.push_decided(some.to_vec(), &mut pass, backlog, buckets, sender, pushed).await;
            if done.is_err() {
                break;
            }
        }
        if let Pass::Decided(left) = pass {
            self.give_back(left).await?;
        }
        done
    }

    async fn push_decided(
        &self,
        links: Vec<i64>,
        pass: &mut Pass,
        backlog: &Backlog,
        buckets: &mut Buckets,
        sender: &mut Sender<'_>,
        pushed: &mut Pushed,
    ) -> Result<(), EngineError> {
        self.go_on()?;
        let (ready, now) = (self.require_ready()?, self.now());
        let claim = self.claim(links);
        let (claimed, mapping) = (claim.claimed.clone(), Arc::clone(&ready));
        let people = self
            .store
            .write_repeatable(move |tx| {
                let names = Names::read(tx, &mapping)?;
                let mut people = Vec::new();
                for link in claimed {
                    match people::gather_to_push(tx, link, &mapping, &names) {
                        // Since it was set aside, something may have happened to it.
                        Ok(person) => people.extend(person.filter(Person::may_be_planned)),
                        Err(error) => drop(leave_alone(tx, link, error, now)?),
                    }
                }
                Ok(people)
            })
            .await?;
        let packer = backlog.bulk.then(|| self.store.packer());
        let drafts = people.into_iter().map(|person| person.draft(&ready, packer.as_ref())).collect();
        let settled = self.settle_drafts(drafts, backlog.bulk, buckets, pass, &ready).await?;
        self.send_settled(settled, &ready, backlog.priority, claim, buckets, sender, pushed).await
    }

    /// Sends what no import carries, and the imports that are full by now.
    #[expect(clippy::too_many_arguments, reason = "what is sent, and all that carries it")]
    async fn send_settled(
        &self,
        settled: Settled,
        ready: &Arc<Ready>,
        priority: Priority,
        mut claim: super::Claim<'_>,
        buckets: &mut Buckets,
        sender: &mut Sender<'_>,
        pushed: &mut Pushed,
    ) -> Result<(), EngineError> {
        let Settled { mut alone, lists, owed, .. } = settled;
        pushed.updated += self.send_owed_opt_outs(owed, priority).await?;
        // Opt-outs ride in single requests and come first of all; then as the store handed them out, the most urgent
        // first.
        alone.sort_by_key(|planned| !planned.plan.change.email_opted_out);
        // Nothing is sent for the others now: an opt-out among them is not to wait for these.
        claim.keep(&alone.iter().chain(&lists).map(|planned| planned.link).collect());
        *pushed += sender.beside(self.send_alone(alone, ready, priority, &mut claim)).await?;
        *pushed += sender.beside(self.send_lists(lists, priority)).await?;
        drop(claim);
        while let Some(batch) = buckets.take_full() {
            sender.send(batch).await?;
        }
        Ok(())
    }

    /// The next of the backlog after this link. `None`: that is all.
    async fn gather_batch(
        &self,
        stretch: Stretch,
        after: Option<i64>,
        ready: Arc<Ready>,
    ) -> Result<Option<Gathered>, EngineError> {
        let Some(after) = after else { return Ok(None) };
        let now = self.now();
        Ok(self
            .store
            .write_repeatable(move |tx| {
                let links = tx.dirty_links(stretch, after, BATCH, now)?;
                let Some(last) = links.last().copied() else { return Ok(None) };
                let names = Names::read(tx, &ready)?;
                let (mut people, mut owed) = (Vec::with_capacity(links.len()), Vec::new());
                for link in links {
                    match people::gather_to_push(tx, link, &ready, &names) {
                        Ok(person) => people.extend(person),
                        Err(error) => owed.extend(leave_alone(tx, link, error, now)?),
                    }
                }
                Ok(Some(Gathered { people, owed, last }))
            })
            .await?)
    }

    /// Drafts become plans, and those that imports carry are filed.
    async fn settle_drafts(
        &self,
        drafts: Vec<Draft>,
        bulk: bool,
        buckets: &mut Buckets,
        pass: &mut Pass,
        ready: &Arc<Ready>,
    ) -> Result<Settled, EngineError> {
        if drafts.is_empty() {
            return Ok(Settled::default());
        }
        let (now, ready) = (self.now(), Arc::clone(ready));
        let mut filing = buckets.begin_filing();
        let (bounds, known) = (self.bounds(), pass.clone());
        let (settled, filing, left, begun) = self
            .store
            // Nothing of it leaves before `put_intents` or `import_leaves` has brought it to the disk.
            .write_repeatable(move |tx| {
                let (mut alone, mut lists, mut owed) = (Vec::new(), Vec::new(), Vec::new());
                let mut gate = Gate::open(tx, bounds, known, now)?;
                for draft in drafts {
                    let link = draft.link();
                    match draft.settle(tx, &ready, &mut gate, now) {
                        Ok(None) => {}
                        Ok(Some(planned)) if only_lists(&planned) => lists.push(planned),
                        Ok(Some(planned)) if bulk && planned.importable => filing.file(tx, planned, &ready, now)?,
                        Ok(Some(planned)) => alone.push(planned),
                        Err(error) => owed.extend(leave_alone(tx, link, error, now)?),
                    }
                }
                let (left, aside, begun) = gate.close(tx)?;
                Ok((Settled { alone, lists, owed, aside }, filing, left, begun))
            })
            .await?;
        *pass = left;
        safety::tell(&begun);
        buckets.end_filing(filing);
        self.tell_bell.notify_one();
        Ok(settled)
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
            self.go_on()?;
            // Who has opted out since is left to whoever sends that: this may take long to come to them.
            let overtaken = self.overtaken_by_opt_outs(&queue).await?;
            queue.retain(|planned| !overtaken.contains(&planned.link));
            claim.release(overtaken);
            // An opt-out that comes meanwhile waits until those that are in hand are answered.
            // An address change leaves as soon as it is looked whether its person has said no: it waits for no other.
            let renames = queue.iter().take(CHUNK).any(|planned| planned.plan.change.email.is_some());
            let in_hand = if renames || priority == Priority::Live { AT_ONCE } else { CHUNK };
            let chunk: Vec<Planned> = queue.drain(..in_hand.min(queue.len())).collect();
            let links: Vec<i64> = chunk.iter().map(|planned| planned.link).collect();
            // Brevo re-subscribes a blocklisted contact whose address changes: the flag is read first, and sent along.
            for contact in chunk.iter().filter(|planned| planned.plan.change.email.is_some()) {
                if let Some(contact) = &contact.brevo {
                    self.look_up(&ContactKey::Brevo(contact.id), priority).await?;
                }
            }
            let chunk = self.put_intents(chunk).await?;
            self.doors.crash.reach("after_intent");
            let mut answers = futures_util::stream::iter(chunk.into_iter().map(|mut planned| async move {
                let write = match &planned.brevo {
                    None => Write::CreateContact(planned.plan.as_new_contact(planned.email.clone())),
                    Some(contact) => Write::UpdateContact(contact.id, planned.plan.change.clone()),
                };
                let outcome = match self.brevo.write(&write, priority).await.map(Answer::and_again) {
                    Ok((Answer::ContactCreated(id), _)) => Outcome::Created(id),
                    Ok((_, again)) => {
                        if again {
                            planned.plan.may_move_lists_again();
                        }
                        Outcome::Updated
                    }
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
        let (now, verify_after) = (self.now(), self.late_landing());
        Ok(self
            .store
            .write(move |tx| {
                let mut left = Vec::with_capacity(all.len());
                for planned in all {
                    if is_current(tx, &planned)? {
                        tx.put_intent(planned.link, &pack_flights(tx, &planned.intent())?, verify_after)?;
                        left.push(planned);
                    } else {
                        planned.is_not_sent(tx, now)?;
                    }
                }
                Ok(left)
            })
            .await?)
    }
    async fn send_lists(&self, all: Vec<Planned>, priority: Priority) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        let mut all = self.put_intents(all).await?;
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
        let mut answered: BTreeMap<i64, Vec<BrevoListId>> = BTreeMap::new();
        let mut unmoved: BTreeMap<i64, Vec<(BrevoListId, bool)>> = BTreeMap::new();
        let mut repeated: BTreeMap<i64, Vec<(BrevoListId, bool)>> = BTreeMap::new();
        for ((list, join), people) in calls {
            for part in people.chunks(LIST_CALL) {
                let ids: Vec<BrevoContactId> = part.iter().map(|(_, contact)| *contact).collect();
                let write = if join { Write::AddToList(list, ids) } else { Write::RemoveFromList(list, ids) };
                pushed.requests += 1;
                match self.brevo.write(&write, priority).await {
                    Ok(answer) => {
                        let (answer, again) = answer.and_again();
                        pushed.listed += part.len() as u64;
                        for (link, _) in part {
                            answered.entry(*link).or_default().push(list);
                            if again {
                                repeated.entry(*link).or_default().push((list, join));
                            }
                        }
                        if let Answer::ListChanged { failed: named, .. } = answer {
                            for (link, _) in part.iter().filter(|(_, contact)| named.contains(contact)) {
                                unmoved.entry(*link).or_default().push((list, join));
                            }
                        }
                    }
                    Err(mut error) => {
                        // It is the list that is not there: that says nothing about the people.
                        if error.kind == ErrorKind::NotFound {
                            error.kind = ErrorKind::Rejected { field: None };
                        }
                        for (link, _) in part {
                            // One that may have landed is waited for, whatever became of the others.
                            if failed.get(link).is_none_or(|earlier| !earlier.may_have_landed()) {
                                failed.insert(*link, error.clone());
                            }
                        }
                    }
                }
            }
        }
        // Who is named as not moved was there already, or cannot be: nothing is on its way, and a look tells which.
        for planned in &mut all {
            planned.plan.flights.repeated.extend(repeated.remove(&planned.link).into_iter().flatten());
            for (list, join) in unmoved.get(&planned.link).into_iter().flatten() {
                planned.plan.flights.lists.remove(list);
                if let Some(agreed) = planned.plan.base.lists.get_mut(list) {
                    agreed.member = !*join;
                }
            }
        }
        let (now, verify_after, ready) = (self.now(), self.late_landing(), self.require_ready()?);
        pushed.failed += failed.len() as u64;
        let fatal = failed.values().find(|error| matches!(error.kind, ErrorKind::Auth(_))).cloned();
        // A part of what was to be done for them has been done: what the rest has come to is looked at like a request
        // without an answer. As if nothing had left, who is not wanted on a list any more would stay on it.
        for (_, error) in failed.iter_mut().filter(|(link, _)| answered.contains_key(*link)) {
            error.kind = ErrorKind::Ambiguous;
        }
        self.store
            .write(move |tx| {
                all.iter().try_for_each(|planned| match failed.get(&planned.link) {
                    None => {
                        if let (true, Some(contact)) = (unmoved.contains_key(&planned.link), &planned.brevo) {
                            tx.ask_for(&ContactKey::Brevo(contact.id))?;
                        }
                        accept(tx, planned, &ready, verify_after, now)
                    }
                    Some(error) => {
                        if let Some(lists) = answered.get(&planned.link) {
                            agree_on(tx, planned, lists)?;
                        }
                        refuse(tx, planned, error, &ready, now, verify_after)
                    }
                })
            })
            .await?;
        fatal.map_or(Ok(pushed), |error| Err(error.into()))
    }
}

async fn send_all(connection: &Connection, buckets: &mut Buckets, sender: &mut Sender<'_>) -> Result<(), EngineError> {
    for batch in buckets.take_all() {
        connection.go_on()?;
        sender.send(batch).await?;
    }
    sender.wait().await
}

/// One row that cannot be read holds up nobody. The read that replaces it marks the link anew.
fn leave_alone(tx: &Tx<'_>, link: i64, error: StoreError, now: DateTime<Utc>) -> Stored<Option<OwedOptOut>> {
    let opt_out = super::unreadable::owed_opt_out(tx, link, &error)?;
    super::unreadable::note(tx, error, now)?;
    tx.give_up(link)?;
    if opt_out.is_some() {
        tx.mark_dirty(link, Dirty::Consent)?;
    }
    Ok(opt_out)
}

/// Of these lists Brevo has answered, whatever became of the others: whoever is taken off one by now is not put on it again.
fn agree_on(tx: &Tx<'_>, planned: &Planned, lists: &[BrevoListId]) -> Stored<()> {
    let before = planned.brevo.as_ref().map(|contact| contact.id);
    let Some(link) = tx.link(planned.link)?.filter(|link| link.brevo_id == before) else { return Ok(()) };
    let mut base = base_of(&link)?;
    let agreed = lists.iter().filter_map(|list| Some((*list, *planned.plan.base.lists.get(list)?)));
    base.lists.extend(agreed);
    tx.set_base(link.id, &pack_base(tx, &base)?)
}

/// Nothing but list memberships changes for a contact that exists.
fn only_lists(planned: &Planned) -> bool {
    let ContactChange {
        attributes,
        email,
        ext_id,
        join_lists,
        leave_lists,
        email_opted_out,
        email_opted_in,
        sms_opted_out,
    } = &planned.plan.change;
    let lists = !join_lists.is_empty() || !leave_lists.is_empty();
    let else_nothing = attributes.is_empty()
        && email.is_none()
        && ext_id.is_none()
        && !email_opted_out
        && email_opted_in.is_none()
        && !sms_opted_out;
    planned.brevo.is_some() && lists && else_nothing
}

/// Nothing has happened to the person since this was planned. For whoever is gone, nothing but an opt-out is.
fn is_current(tx: &Tx<'_>, planned: &Planned) -> Stored<bool> {
    let before = planned.brevo.as_ref().map(|contact| contact.id);
    let may = |state: LinkState| state == LinkState::Active || (state == LinkState::Left && planned.only_opt_out);
    Ok(tx
        .link(planned.link)?
        .is_some_and(|link| link.marks == planned.marks && may(link.state) && link.brevo_id == before))
}
