//! Bulk writes: sent and watched. Dangerous, and worth it (docs/decisions/0004): an import says "completed" with failed
//! rows inside it, drops unknown attributes and `false`, and lands minutes later.

use super::carry::heed_strangers;
use super::filling::{Batch, Kind, What};
use super::observe::{base_of, flights_of, pack_base, pack_flights};
use super::push::Pushed;
use super::read_back::{ReadBack, since};
use super::{BATCH, Connection, EngineError};
use crate::model::{
    Answer, BrevoContactId, Consent, ContactChange, ContactKey, Email, ErrorKind, Fetched, ImportBatch, ImportRow,
    ImportState, Observation, Priority, ProcessId, Resource, SideError, SideName, Write,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::{Base, Flights};
use crate::store::contacts::ContactState;
use crate::store::links::Dirty;
use crate::store::listings::Change;
use crate::store::queues::{ImportRowState, ImportStage};
use crate::store::{Packed, Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Either};
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

/// How long Brevo may take without finishing any import. After that an import that is at work is given up: what landed
/// is read back, and its other rows are planned again. (Brevo promises no time, and processes can stay queued.)
pub(super) const LONGEST_IMPORT: TimeDelta = TimeDelta::minutes(30);
/// For so long a read of Brevo counts as fresh for update imports that go out together.
const FRESH: TimeDelta = TimeDelta::seconds(30);
/// After this an import is looked at first, then after twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How long Brevo takes at most, as far as we wait for it, to land an import of which nobody knows whether it has it.
const QUEUED: TimeDelta = TimeDelta::seconds(150);
/// How long an import that is over waits for the others, to be read back with them.
const PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// What became of an import's request.
struct Sent {
    pushed: Pushed,
    fresh_at: Option<DateTime<Utc>>,
}

/// Imports of newcomers that may be on their way at once.
const AT_ONCE: usize = 2;

/// Sends imports while others are being filled: a few of newcomers at a time, of existing contacts one by one, since they
/// share the read that they go out after. Whoever has one too many waits.
pub(super) struct Sender<'a> {
    connection: &'a Connection,
    priority: Priority,
    on_their_way: FuturesUnordered<BoxFuture<'a, Result<Sent, EngineError>>>,
    /// Those on their way make newcomers.
    creating: bool,
    /// When Brevo was read for update imports.
    fresh_at: Option<DateTime<Utc>>,
    pushed: Pushed,
}

impl<'a> Sender<'a> {
    /// Nothing is on its way yet.
    pub(super) fn new(connection: &'a Connection, priority: Priority) -> Self {
        let on_their_way = FuturesUnordered::new();
        Self { connection, priority, on_their_way, creating: false, fresh_at: None, pushed: Pushed::default() }
    }

    /// Sends this one, as soon as there is room for it.
    pub(super) async fn send(&mut self, batch: Batch) -> Result<(), EngineError> {
        let creates = batch.kind.what != What::Update;
        let room = if creates && self.creating { AT_ONCE } else { 1 };
        while self.on_their_way.len() >= room {
            self.wait_for_one().await?;
        }
        self.creating = creates;
        self.on_their_way.push(Box::pin(self.connection.send_import(batch, self.fresh_at, self.priority)));
        Ok(())
    }

    /// Waits until nothing is on its way. One that failed is told of after the others.
    pub(super) async fn wait(&mut self) -> Result<(), EngineError> {
        let mut failed = None;
        while !self.on_their_way.is_empty() {
            if let Err(error) = self.wait_for_one().await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn wait_for_one(&mut self) -> Result<(), EngineError> {
        match self.on_their_way.next().await {
            Some(sent) => sent.map(|sent| self.note(sent)),
            None => Ok(()),
        }
    }

    /// Does something else meanwhile. An import that failed is told of after it.
    pub(super) async fn beside<T>(
        &mut self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut work = std::pin::pin!(work);
        let mut failed = None;
        while !self.on_their_way.is_empty() {
            match futures_util::future::select(work.as_mut(), self.on_their_way.next()).await {
                Either::Left((done, _)) => return failed.map_or(done, Err),
                Either::Right((sent, _)) => match sent {
                    Some(Ok(sent)) => self.note(sent),
                    Some(Err(error)) => drop(failed.get_or_insert(error)),
                    None => {}
                },
            }
        }
        let done = work.await;
        failed.map_or(done, Err)
    }

    fn note(&mut self, sent: Sent) {
        self.fresh_at = self.fresh_at.max(sent.fresh_at);
        self.pushed += sent.pushed;
    }

    /// What the imports that were sent came to.
    pub(super) fn pushed(&self) -> Pushed {
        self.pushed
    }
}

impl Connection {
    /// Sends one import. Its links take no other writes until it is read back. `fresh_at`: when Brevo was last read for
    /// update imports.
    async fn send_import(
        &self,
        Batch { ours, import, kind: Kind { what, lists }, rows }: Batch,
        mut fresh_at: Option<DateTime<Utc>>,
        priority: Priority,
    ) -> Result<Sent, EngineError> {
        let creates = what != What::Update;
        let is_fresh = |read_at: DateTime<Utc>| self.now() - read_at < FRESH;
        if !creates && !fresh_at.is_some_and(is_fresh) {
            fresh_at = Some(self.now());
            // An import of existing contacts may lift a blocklisting: who opted out since the last read stays out of it.
            let scope = self.next_scope(SideName::Brevo, Resource::Contacts, false).await?;
            self.sweep_afresh(SideName::Brevo, Resource::Contacts, scope, priority).await?;
        }
        let now = self.now();
        let batch = self
            .store
            .write(move |tx| {
                // Plans that something has overtaken since they were made stay behind and are made again.
                let overtaken: BTreeSet<i64> = tx.overtaken_in_import(import)?.into_iter().collect();
                for link in &overtaken {
                    let rows = tx.release_import(import, Some(*link), now, false)?;
                    super::safety::give_back_import(tx, import, rows, now)?;
                }
                let left: Vec<Packed> =
                    rows.into_iter().filter(|(link, _)| !overtaken.contains(link)).map(|(_, row)| row).collect();
                if left.is_empty() {
                    tx.end_import(import)?;
                } else {
                    tx.import_leaves(import, left.len(), now)?;
                }
                Ok(left)
            })
            .await?;
        if batch.is_empty() {
            return Ok(Sent { pushed: Pushed::default(), fresh_at });
        }
        let rows = batch.iter().map(|row| row.unpack("imports")).collect::<Stored<Vec<ImportRow>>>()?;
        drop(batch);
        let email_opted_out = what == What::CreateOptedOut;
        let batch = ImportBatch { rows, lists, update_existing: !creates, email_opted_out };
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let count = batch.rows.len();
        self.doors.crash.reach("after_import_intent");
        let answer = self.brevo.write(&Write::Import(batch), priority).await;
        self.doors.crash.reach("after_import_sent");
        pushed += self.record_import(import, creates, count, now, answer).await?;
        // Until here it was in our hands: the request may have waited for its turn, and nobody was to take it for lost.
        drop(ours);
        Ok(Sent { pushed, fresh_at })
    }

    async fn record_import(
        &self,
        import: i64,
        creates: bool,
        count: usize,
        sent_at: DateTime<Utc>,
        answer: Result<Answer, Box<SideError>>,
    ) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed::default();
        let now = self.now();
        match answer {
            Ok(Answer::ImportStarted(process, started_at)) => {
                pushed.imported = count as u64;
                tracing::info!(rows = count, process = process.get(), creates, "import sent");
                self.store
                    .write(move |tx| {
                        tx.put_import(&ImportRowState {
                            id: import,
                            process: Some(process),
                            stage: ImportStage::Running,
                            creates,
                            rows: count,
                            started_at,
                            sent_at,
                            checked_at: None,
                            reports: BTreeMap::new(),
                            landed_by: None,
                        })
                    })
                    .await?;
                Ok(pushed)
            }
            // It may have been queued: the read-back will tell.
            Err(error) if matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Malformed) => {
                tracing::warn!(rows = count, "an import's answer was lost: what landed will be read back");
                pushed.failed = count as u64;
                // Whatever it waited for before, it has left by now.
                let landed_by = lands_by(now);
                self.store.write(move |tx| tx.import_may_land(import, landed_by)).await?;
                Ok(pushed)
            }
            other => {
                // That we are not let in says nothing about the rows either.
                let about_us = |error: &SideError| matches!(error.kind, ErrorKind::Auth(_));
                let transient = matches!(&other, Err(error) if error.is_transient() || about_us(error));
                if let Err(error) = &other {
                    tracing::warn!(rows = count, "an import was refused: {}", error.for_log());
                }
                pushed.failed = count as u64;
                // Given back when Brevo held us back: they go on when it lets us, and as they are by then.
                let wait = other.as_ref().err().and_then(|error| TimeDelta::from_std(error.retry_after?).ok());
                // Refused as a whole: one by one from now on, so that one bad row cannot hold up the rest.
                let not_before = if transient { now + wait.unwrap_or(TimeDelta::seconds(60)) } else { now };
                self.store
                    .write(move |tx| {
                        let rows = tx.release_import(import, None, not_before, !transient)?;
                        super::safety::give_back_import(tx, import, rows, now)?;
                        tx.end_import(import)
                    })
                    .await?;
                match other {
                    Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => Err(error.into()),
                    _ => Ok(pushed),
                }
            }
        }
    }

    /// A contact in an unfinished import takes consent writes only, but those at once. What the import lifts when it
    /// lands later is put back at its read-back.
    pub(super) async fn opt_out_in_imports(&self, priority: Priority) -> Result<u64, EngineError> {
        let mut sent = 0;
        let mut after = 0;
        loop {
            let ids = self.store.read(move |tx| tx.urgent_in_imports(after, BATCH)).await?;
            let Some(last) = ids.last() else { return Ok(sent) };
            after = *last;
            let claim = self.claim(ids);
            for id in claim.claimed.iter().copied() {
                sent += u64::from(self.opt_out_in_import(id, priority).await?);
            }
        }
    }

    async fn opt_out_in_import(&self, id: i64, priority: Priority) -> Result<bool, EngineError> {
        let newly = self.store.read(move |tx| newly_out(tx, id)).await.map_err(EngineError::from);
        let Some(mut newly) = self.spare(newly).await?.flatten() else {
            self.store.write(move |tx| tx.no_opt_out(id)).await?;
            return Ok(false);
        };
        let mut shown_on = BTreeSet::new();
        let sent_to = newly.address.clone().filter(|_| newly.contact.is_none());
        let contact = match (newly.contact, newly.address) {
            (Some(contact), _) => contact,
            // The import may have made it by now.
            (None, Some(address)) => match self.brevo.fetch(&ContactKey::BrevoEmail(address), priority).await {
                Ok(Fetched::Found(found, _)) => match *found {
                    Observation::BrevoContact(contact) => {
                        shown_on = contact.lists;
                        contact.id
                    }
                    _ => return Ok(false),
                },
                Ok(Fetched::Gone(_)) => return Ok(false),
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(
                        link = id,
                        "whether an import has made somebody who opted out is unknown: {}",
                        error.for_log()
                    );
                    return Ok(false);
                }
            },
            (None, None) => return Ok(false),
        };
        if let Some(sent_to) = sent_to {
            let theirs = self.store.read(move |tx| may_say_no(tx, id, &sent_to, contact)).await;
            if self.spare(theirs.map_err(EngineError::from)).await? == Some(false) {
                return Ok(false);
            }
        }
        // What a notice told of goes, though the limits leave no room for the rest.
        let new = crate::reconcile::harm::NewOptOuts { email: newly.email_out, sms: newly.sms_out };
        let Some((goes, harm)) = self.may_opt_out_beside_import(id, new).await? else { return Ok(false) };
        (newly.email_out, newly.sms_out) = (goes.email, goes.sms);
        let change = ContactChange {
            email_opted_out: newly.email_out,
            sms_opted_out: newly.sms_out,
            ..ContactChange::default()
        };
        match self.brevo.write(&Write::UpdateContact(contact, change), priority).await {
            Ok(_) => {
                let (now, verify_after) = (self.now(), self.late_landing());
                self.store
                    .write(move |tx| {
                        let Some(link) = tx.link(id)? else { return Ok(()) };
                        if link.brevo_id.is_some_and(|other| other != contact) {
                            // Identity has given the person another contact meanwhile, and that one has heard of nothing.
                            return Ok(());
                        }
                        let mut base = match base_of(&link) {
                            Err(error) if error.unreadable().is_some() => return tx.no_opt_out(id),
                            base => base?,
                        };
                        let out = Some(ConsentBase { intercom_out: true, brevo_out: true });
                        if newly.email_out {
                            base.consent = out;
                        }
                        if newly.sms_out {
                            base.sms = out;
                        }
                        // Looks that began before this show the contact as subscribed: that is nobody's opt-in.
                        let watched = match flights_of(&link) {
                            Err(error) if error.unreadable().is_some() => None,
                            flights => {
                                let flights = flights?;
                                Some(Flights {
                                    opted_out: newly.email_out || flights.opted_out,
                                    seen_subscribed: flights.seen_subscribed && !newly.email_out,
                                    ..flights
                                })
                            }
                        };
                        let base = pack_base(tx, &base)?;
                        match watched {
                            // The row has landed meanwhile, and was read back.
                            Some(flights) if link.import.is_none() && link.flights.is_none() => {
                                let flights = pack_flights(tx, &flights)?;
                                // It was no plan: what is marked stays marked.
                                tx.accept_write(id, (&base, &flights), verify_after, NO_PLAN, None)?;
                            }
                            Some(mut flights) => {
                                tx.set_base(id, &base)?;
                                if link.import.is_some() {
                                    // The row has put it on these lists: who takes it off after this means it, though what
                                    // became of the import is known only later.
                                    flights.lists.retain(|list, joined| !(*joined && shown_on.contains(list)));
                                }
                                tx.drop_intent(id, Some(&pack_flights(tx, &flights)?), link.answered)?;
                            }
                            None => tx.set_base(id, &base)?,
                        }
                        tx.put_change(&Change {
                            link: Some(id),
                            at: now,
                            what: "update in Brevo".to_owned(),
                            fields: [("consent".to_owned(), "opted out in Intercom, during an import".to_owned())]
                                .into(),
                            answer: "accepted".to_owned(),
                            import: None,
                            request: Some(crate::brevo::request_for(Some(contact))),
                        })?;
                        tx.no_opt_out(id)
                    })
                    .await?;
                Ok(true)
            }
            Err(error) => {
                // Sent again, it is counted again.
                if super::safety::did_nothing(&error) {
                    let now = self.now();
                    let is_gone = error.kind == ErrorKind::NotFound;
                    self.store
                        .write(move |tx| {
                            if is_gone {
                                // A read by id decides whether it is: no further row is to look for it by its address.
                                tx.ask_for(&ContactKey::Brevo(contact))?;
                            }
                            harm.take_back(tx, now)
                        })
                        .await?;
                }
                if matches!(error.kind, ErrorKind::Auth(_)) {
                    return Err(error.into());
                }
                // Tried again, and the plan that follows the import brings it too.
                tracing::warn!(link = id, "an opt-out during an import did not get through: {}", error.for_log());
                Ok(false)
            }
        }
    }

    /// Waits for all open imports and reads them back. `wait`: until they are over; else one look.
    pub(super) async fn finish_imports(
        &self,
        wait: bool,
        priority: Priority,
        progress: &dyn super::Progress,
    ) -> Result<ReadBack, EngineError> {
        let mut pause = FIRST_LOOK;
        let mut read_back = ReadBack::default();
        loop {
            let open = self.store.read(|tx| tx.open_imports()).await?;
            if open.is_empty() {
                return Ok(read_back);
            }
            self.check_imports(&open, priority).await?;
            let now = self.now();
            let open = self.store.read(|tx| tx.open_imports()).await?;
            let (over, at_work): (Vec<_>, Vec<_>) = open.into_iter().partition(|import| import.stage.is_over());
            // One read for all, but one that is stuck does not hold up the others.
            let waited = |import: &ImportRowState| now - import.checked_at.unwrap_or(import.sent_at) > PATIENCE;
            if !over.is_empty() && (at_work.is_empty() || over.iter().any(waited)) {
                progress.stage(super::Stage::ReadingBack, 0, None);
                read_back += self.read_back(&over, priority).await?;
                continue;
            }
            if !wait {
                return Ok(read_back);
            }
            self.say_what_is_awaited(&at_work, progress).await?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    /// Nobody should look at a silent terminal for minutes.
    async fn say_what_is_awaited(
        &self,
        at_work: &[ImportRowState],
        progress: &dyn super::Progress,
    ) -> Result<(), EngineError> {
        // Most imports take seconds: those need no explanation.
        const SHORT: TimeDelta = TimeDelta::seconds(10);
        let lost = at_work.iter().filter(|import| is_lost(import)).map(landed_by).max();
        let running = at_work.iter().filter(|import| !is_lost(import)).map(|import| import.sent_at).max();
        match (lost, running) {
            (Some(until), _) => progress.stage(super::Stage::AwaitingLanding(until), 0, None),
            (None, Some(sent_at)) if self.now() - sent_at > SHORT => {
                let until = self.given_up_at(sent_at).await?;
                progress.stage(super::Stage::AwaitingImport(until), 0, None);
            }
            _ => {}
        }
        Ok(())
    }

    /// When an import is given up. They queue behind one another: one that ends gives all others time.
    async fn given_up_at(&self, sent_at: DateTime<Utc>) -> Result<DateTime<Utc>, EngineError> {
        let last_end = self.store.read(|tx| tx.last_import_end()).await?;
        Ok(last_end.map_or(sent_at, |end| end.max(sent_at)) + LONGEST_IMPORT)
    }

    /// Whether an import is not over.
    pub(super) async fn has_imports(&self) -> Result<bool, EngineError> {
        Ok(!self.store.read(|tx| tx.open_imports()).await?.is_empty())
    }

    /// Notes which imports are over. How far they are is asked of the contacts, of which there may be ten requests a
    /// second: how many have changed since. Whether they are over only the processes say, which share 100 requests an hour
    /// with everything else: they are asked, all in one, when everything seems to have landed, and seldom otherwise.
    async fn check_imports(&self, open: &[ImportRowState], priority: Priority) -> Result<(), EngineError> {
        let now = self.now();
        let in_hand = self.filling.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // No answer was recorded: once it cannot land any more, what is there is read.
        let mut changed: Vec<ImportRowState> = open
            .iter()
            .filter(|import| is_lost(import) && !import.stage.is_over())
            .filter(|import| !in_hand.contains(&import.id) && now >= landed_by(import))
            .map(|import| ImportRowState { stage: ImportStage::ReadingBack, ..import.clone() })
            .collect();
        let running: Vec<&ImportRowState> =
            open.iter().filter(|import| import.stage == ImportStage::Running && !is_lost(import)).collect();
        if let Some(eldest) = running.iter().map(|import| import.sent_at).min() {
            let last = running.iter().filter_map(|import| import.checked_at).max();
            // Once more after as long as they have taken so far; a minute at most.
            let pause = ((now - eldest) / 2).clamp(TimeDelta::seconds(2), TimeDelta::minutes(1));
            let due = match last {
                Some(last) => now - last >= pause,
                None => now - eldest >= TimeDelta::seconds(10) || self.seem_landed(&running, priority).await?,
            };
            if due {
                changed.extend(self.ask_processes(&running).await?);
            }
        }
        if !changed.is_empty() {
            self.store.write(move |tx| changed.iter().try_for_each(|import| tx.put_import(import))).await?;
        }
        Ok(())
    }

    /// Brevo has not finished it in all the time that it is given.
    async fn is_endless(&self, import: &ImportRowState) -> Result<bool, EngineError> {
        Ok(self.now() >= self.given_up_at(import.sent_at).await?)
    }

    /// Those that are given up, though Brevo cannot be asked about them.
    async fn give_up_endless(&self, running: &[&ImportRowState]) -> Result<Vec<ImportRowState>, EngineError> {
        let mut endless = Vec::new();
        for import in running {
            if self.is_endless(import).await? {
                endless.push(given_up(import));
            }
        }
        Ok(endless)
    }

    /// As many contacts have changed since the first of them was sent as they have rows.
    async fn seem_landed(&self, running: &[&ImportRowState], priority: Priority) -> Result<bool, EngineError> {
        let Some(since) = running.iter().map(|import| since(import)).min() else { return Ok(true) };
        let rows: u64 = running.iter().map(|import| import.rows as u64).sum();
        let read_began = self.now();
        match self.brevo.count_changed(since, priority).await {
            Ok(page) => {
                // An opt-out that was seen counts, whatever it was read for: what a row lifts after this is put back. All
                // else is for the read-back, which knows the rows.
                let source = self.source(0, false, read_began, Dirty::Live)?;
                let mut seen = page.observations;
                seen.retain(|observation| match observation {
                    Observation::BrevoContact(contact) => contact.consent.email_opted_out(),
                    _ => false,
                });
                self.store
                    .write(move |tx| source.apply_all(tx, &seen).map(|_| page.total))
                    .await
                    .map(|count| count.is_none_or(|count| count >= rows))
                    .map_err(EngineError::from)
            }
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn ask_processes(&self, running: &[&ImportRowState]) -> Result<Vec<ImportRowState>, EngineError> {
        let processes: Vec<ProcessId> = running.iter().filter_map(|import| import.process).collect();
        let states = match self.brevo.import_states(&processes).await {
            Ok(states) => states,
            Err(error) if error.is_transient() => return self.give_up_endless(running).await,
            Err(error) => return Err(error.into()),
        };
        let now = self.now();
        let mut asked = Vec::new();
        for import in running {
            let mut next = ImportRowState { checked_at: Some(now), ..(*import).clone() };
            match import.process.and_then(|process| states.get(&process)) {
                Some(ImportState::Running) => {
                    if self.is_endless(import).await? {
                        next = given_up(import);
                    }
                }
                Some(ImportState::Finished { reports, completed }) => {
                    if !completed {
                        tracing::warn!(import = import.id, "Brevo gave an import up; what landed is read back");
                    }
                    next.stage = ImportStage::ReadingBack;
                    next.reports.clone_from(reports);
                }
                // Brevo does not know it (any more).
                None => next.stage = ImportStage::ReadingBack,
            }
            asked.push(next);
        }
        Ok(asked)
    }
}

/// An import that Brevo does not finish. What landed is read back, the rest is written singly.
fn given_up(import: &ImportRowState) -> ImportRowState {
    let process = import.process.map(ProcessId::get);
    tracing::warn!(import = import.id, process, rows = import.rows, "Brevo does not finish an import: it is given up");
    // Only those that Brevo finished were looked at for their end.
    ImportRowState { stage: ImportStage::GivenUp, checked_at: None, ..import.clone() }
}

/// No answer to the import's request was recorded.
fn is_lost(import: &ImportRowState) -> bool {
    import.process.is_none()
}

/// When a lost import can no longer land.
fn landed_by(import: &ImportRowState) -> DateTime<Utc> {
    import.landed_by.unwrap_or_else(|| lands_by(import.sent_at))
}

/// Until when an import may land whose request was on its way at this time: that may arrive late, and then Brevo queues it
/// behind others.
pub(super) fn lands_by(on_its_way_at: DateTime<Utc>) -> DateTime<Utc> {
    on_its_way_at + TimeDelta::from_std(super::LATE_LANDING).unwrap_or_default() + QUEUED
}

/// No link has ever been marked so often.
const NO_PLAN: i64 = -1;

/// Whether the no of somebody whose row was sent with this address is one for the contact that has it by now. Not if they have
/// gone on to another, and it is somebody else's who has come to this one: the row has made nobody.
fn may_say_no(tx: &Tx<'_>, link: i64, sent_to: &Email, contact: BrevoContactId) -> Stored<bool> {
    let has_gone_on = tx.link(link)?.is_none_or(|link| link.email.as_ref() != Some(sent_to));
    Ok(!has_gone_on || tx.link_by_brevo(contact)?.is_none_or(|holder| holder.id == link))
}

/// An opt-out in Intercom that came after its person's row was planned.
struct NewlyOut {
    contact: Option<BrevoContactId>,
    /// Where the import may have made the contact.
    address: Option<Email>,
    email_out: bool,
    sms_out: bool,
}

fn newly_out(tx: &Tx<'_>, id: i64) -> Stored<Option<NewlyOut>> {
    let Some(link) = tx.link(id)?.filter(|link| link.import.is_some()) else { return Ok(None) };
    let members = tx.members(id)?;
    let live = || members.iter().filter(|row| row.state == ContactState::Live);
    let base = match base_of(&link) {
        // An opt-out counts whatever had been agreed on.
        Err(error) if error.unreadable().is_some() => Base::default(),
        base => base?,
    };
    let known = |base: Option<ConsentBase>| base.is_some_and(|consent| consent.intercom_out || consent.brevo_out);
    let (strangers, ..) = heed_strangers(tx, &link, &members, Consent::default())?;
    let out = strangers.email_opted_out() || live().any(|row| row.contact.consent.email_opted_out());
    let email_out = out && !known(base.consent);
    let sms_out = strangers.sms_opted_out || live().any(|row| row.contact.consent.sms_opted_out);
    let sms_out = sms_out && !known(base.sms);
    let address = base.email.or_else(|| link.email.clone());
    Ok((email_out || sms_out).then_some(NewlyOut { contact: link.brevo_id, address, email_out, sms_out }))
}
