//! Bulk writes: filled, sent, watched, read back. Dangerous, and worth it (docs/decisions/0004): an import says
//! "completed" with failed rows inside it, drops unknown attributes and `false`, and lands minutes later.

use super::observe::{base_of, flights_of, pack_base, pack_flights, settle_as, settle_now};
use super::people::Planned;
use super::push::{Pushed, hold_apart, record, rename_if_moved};
use super::unreadable::{sparing, sparing_each};
use super::{Connection, EngineError, Ready};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, BrevoListId, ContactChange, ContactKey, Email, ErrorKind, Fetched,
    ImportBatch, ImportRow, ImportState, Observation, Priority, ProcessId, Resource, Scope, SideError, SideName, Write,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::{self, Base};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkRow};
use crate::store::queues::{ImportRowState, ImportStage};
use crate::store::{Packed, Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Brevo takes 10 MB and recommends at most 8; rows are weighed roughly here.
const FULL: usize = 7_000_000;
/// Rows of one import: they are in memory together while its body is made.
const MOST_ROWS: usize = 10_000;
/// Rows that wait in memory, packed, in all imports together: beyond this the fullest is sent early.
const MOST_WAITING: usize = 20_000;
/// Links settled in one transaction.
const BATCH: usize = 500;
/// How long Brevo may take without finishing any import. After that an import that is at work is given up: what landed
/// is read back, and its other rows are planned again. (Brevo promises no time, and processes can stay queued.)
const LONGEST_IMPORT: TimeDelta = TimeDelta::minutes(30);
/// How long a row of an import that was given up may still land, as far as we look after it.
const LANDS_LATE: TimeDelta = TimeDelta::hours(24);
/// The notice about imports that were given up.
const NEVER_ENDED: &str = "import_never_ended";
/// For so long a read of Brevo counts as fresh for update imports that go out together.
const FRESH: TimeDelta = TimeDelta::seconds(30);
/// After this an import is looked at first, then after twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How long an import that is over waits for the others, to be read back with them.
const PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// What all rows of an import have in common. Of those that are sent together, opted-out newcomers go first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    what: What,
    lists: BTreeSet<BrevoListId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    CreateOptedOut,
    Update,
    Create,
}

/// An import, ready to be sent.
pub(super) struct Batch {
    import: i64,
    kind: Kind,
    rows: Vec<(i64, Packed)>,
}

/// Rows on their way into one import. Their intents are in the store already; the rows themselves only here.
struct Bucket {
    import: i64,
    /// Of the import's body, roughly.
    bytes: usize,
    rows: Vec<(i64, Packed)>,
}

/// What was read back of imports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReadBack {
    pub(super) rows: u64,
    /// Of these, rows that had not landed.
    pub(super) lost: u64,
}

impl std::ops::AddAssign for ReadBack {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.lost += more.lost;
    }
}

/// Imports that are being filled: rows of others that are on disk as being filled are in nobody's memory.
pub(super) type Filling = Arc<Mutex<BTreeSet<i64>>>;

/// Imports that somebody is filling. When it goes, they are nobody's, and the next push releases their links.
struct Ours {
    filling: Filling,
    imports: BTreeSet<i64>,
}

impl Ours {
    fn none(filling: &Filling) -> Self {
        Self { filling: Arc::clone(filling), imports: BTreeSet::new() }
    }

    fn begin(&mut self, import: i64) {
        self.imports.insert(import);
        self.filling.lock().unwrap_or_else(PoisonError::into_inner).insert(import);
    }

    fn end(&mut self, import: i64) {
        self.imports.remove(&import);
        self.filling.lock().unwrap_or_else(PoisonError::into_inner).remove(&import);
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for import in &self.imports {
            filling.remove(import);
        }
    }
}

/// Imports that a push is filling.
pub(super) struct Buckets {
    ours: Ours,
    by_kind: BTreeMap<Kind, Bucket>,
    /// When Brevo was read for update imports.
    fresh_at: Option<DateTime<Utc>>,
}

/// One transaction's share of filling: what it files goes into the buckets only if it commits.
pub(super) struct Filing {
    ours: Ours,
    known: BTreeMap<Kind, i64>,
    filed: Vec<(Kind, i64, usize, (i64, Packed))>,
}

impl Filing {
    /// Files a plan: its intent into the store, its row into the import that takes rows of its kind.
    pub(super) fn file(&mut self, tx: &Tx<'_>, mut planned: Planned, ready: &Ready, now: DateTime<Utc>) -> Stored<()> {
        let new = planned.plan.as_new_contact(planned.email.clone());
        let Some(email) = planned.brevo.as_ref().map_or(new.email, |contact| contact.email.clone()) else {
            return Ok(());
        };
        let mut lists = planned.plan.change.join_lists.clone();
        lists.insert(ready.technical_list);
        let what = match (&planned.brevo, planned.plan.change.email_opted_out) {
            (Some(_), _) => What::Update,
            (None, true) => What::CreateOptedOut,
            (None, false) => What::Create,
        };
        let kind = Kind { what, lists };
        let import = if let Some(import) = self.known.get(&kind) {
            *import
        } else {
            let import = tx.new_import(what != What::Update, now)?;
            // Before the commit: after it, another push might take it for abandoned.
            self.ours.begin(import);
            self.known.insert(kind.clone(), import);
            import
        };
        // An import of existing contacts may lift a blocklisting that it does not know of.
        planned.plan.flights.may_loosen |= what == What::Update;
        let (base, flights) = (pack_base(tx, &planned.plan.base)?, pack_flights(tx, &planned.plan.flights)?);
        tx.put_in_import(planned.link, import, &base, &flights)?;
        record(tx, &planned, &format!("sent with import {import}"), Some(import), now)?;
        let row = ImportRow { email, ext_id: new.ext_id, attributes: new.attributes };
        let packed = tx.pack("imports", &row)?;
        // Names and quotes come on top of what is packed.
        let bytes = packed.len() + 60 + row.attributes.keys().map(|name| name.len() + 6).sum::<usize>();
        self.filed.push((kind, import, bytes, (planned.link, packed)));
        Ok(())
    }
}

impl Buckets {
    /// Before a transaction that files rows.
    pub(super) fn begin_filing(&self) -> Filing {
        let known = self.by_kind.iter().map(|(kind, bucket)| (kind.clone(), bucket.import)).collect();
        Filing { ours: Ours::none(&self.ours.filling), known, filed: Vec::new() }
    }

    /// After it has committed.
    pub(super) fn end_filing(&mut self, mut filing: Filing) {
        self.ours.imports.append(&mut filing.ours.imports);
        for (kind, import, bytes, row) in filing.filed {
            let bucket = self.by_kind.entry(kind).or_insert_with(|| Bucket { import, bytes: 0, rows: Vec::new() });
            bucket.bytes += bytes;
            bucket.rows.push(row);
        }
    }

    /// A bucket that is full, if there is one.
    pub(super) fn take_full(&mut self) -> Option<Batch> {
        let is_full = |bucket: &Bucket| bucket.bytes >= FULL || bucket.rows.len() >= MOST_ROWS;
        let full = self.by_kind.iter().find(|(_, bucket)| is_full(bucket)).map(|(kind, _)| kind.clone());
        let together: usize = self.by_kind.values().map(|bucket| bucket.rows.len()).sum();
        let fullest = || self.by_kind.iter().max_by_key(|(_, bucket)| bucket.rows.len()).map(|(kind, _)| kind.clone());
        let kind = full.or_else(|| (together >= MOST_WAITING).then(fullest).flatten())?;
        self.take(kind)
    }

    /// All that is left, in order.
    pub(super) fn take_all(&mut self) -> Vec<Batch> {
        let kinds: Vec<Kind> = self.by_kind.keys().cloned().collect();
        kinds.into_iter().filter_map(|kind| self.take(kind)).collect()
    }

    fn take(&mut self, kind: Kind) -> Option<Batch> {
        let Bucket { import, rows, .. } = self.by_kind.remove(&kind)?;
        Some(Batch { import, kind, rows })
    }
}

impl Connection {
    /// Nothing waits yet.
    pub(super) fn buckets(&self) -> Buckets {
        Buckets { ours: Ours::none(&self.filling), by_kind: BTreeMap::new(), fresh_at: None }
    }

    /// Imports whose rows were in the memory of a push that did not come to its end, or of an earlier process: nothing of
    /// them was sent, and their links are planned again.
    pub(super) async fn release_abandoned(&self) -> Result<(), EngineError> {
        let mut abandoned = self.store.read(|tx| tx.filling_imports()).await?;
        {
            let filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
            abandoned.retain(|import| !filling.contains(import));
        }
        if abandoned.is_empty() {
            return Ok(());
        }
        let now = self.now();
        self.store
            .write(move |tx| {
                // One that has left since then is no longer being filled.
                for import in tx.filling_imports()?.into_iter().filter(|import| abandoned.contains(import)) {
                    tx.release_import(import, None, now, false)?;
                    tx.end_import(import)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Sends one import. Its links take no other writes until it is read back.
    pub(super) async fn send_import(
        &self,
        Batch { import, kind: Kind { what, lists }, rows }: Batch,
        buckets: &mut Buckets,
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let creates = what != What::Update;
        let is_fresh = |read_at: DateTime<Utc>| self.now() - read_at < FRESH;
        if !creates && !buckets.fresh_at.is_some_and(is_fresh) {
            buckets.fresh_at = Some(self.now());
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
                    tx.release_import(import, Some(*link), now, false)?;
                }
                let rows = rows
                    .iter()
                    .filter(|(link, _)| !overtaken.contains(link))
                    .map(|(_, row)| row.unpack("imports"))
                    .collect::<Stored<Vec<ImportRow>>>()?;
                if rows.is_empty() {
                    tx.end_import(import)?;
                    return Ok(None);
                }
                tx.import_leaves(import, rows.len(), now)?;
                let email_opted_out = what == What::CreateOptedOut;
                Ok(Some(ImportBatch { rows, lists, update_existing: !creates, email_opted_out }))
            })
            .await?;
        let Some(batch) = batch else {
            buckets.ours.end(import);
            return Ok(Pushed::default());
        };
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let count = batch.rows.len();
        self.doors.crash.reach("after_import_intent");
        let answer = self.brevo.write(&Write::Import(batch), priority).await;
        self.doors.crash.reach("after_import_sent");
        let recorded = self.record_import(import, creates, count, now, answer).await;
        // Until here it was in our hands: the request may have waited for its turn, and nobody was to take it for lost.
        buckets.ours.end(import);
        pushed += recorded?;
        Ok(pushed)
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
                // Refused as a whole: one by one from now on, so that one bad row cannot hold up the rest.
                let not_before = if transient { now + TimeDelta::seconds(60) } else { now };
                self.store
                    .write(move |tx| {
                        tx.release_import(import, None, not_before, !transient)?;
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
        let Some(newly) = self.spare(newly).await?.flatten() else {
            self.store.write(move |tx| tx.no_opt_out(id)).await?;
            return Ok(false);
        };
        let contact = match (newly.contact, newly.address) {
            (Some(contact), _) => contact,
            // The import may have made it by now.
            (None, Some(address)) => match self.brevo.fetch(&ContactKey::BrevoEmail(address), priority).await {
                Ok(Fetched::Found(found, _)) => match *found {
                    Observation::BrevoContact(contact) => contact.id,
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
        let change = ContactChange {
            email_opted_out: newly.email_out,
            sms_opted_out: newly.sms_out,
            ..ContactChange::default()
        };
        match self.brevo.write(&Write::UpdateContact(contact, change), priority).await {
            Ok(_) => {
                self.store
                    .write(move |tx| {
                        let Some(link) = tx.link(id)? else { return Ok(()) };
                        let mut base = base_of(&link)?;
                        let out = Some(ConsentBase { intercom_out: true, brevo_out: true });
                        if newly.email_out {
                            base.consent = out;
                        }
                        if newly.sms_out {
                            base.sms = out;
                        }
                        tx.set_base(id, &pack_base(tx, &base)?)?;
                        tx.no_opt_out(id)
                    })
                    .await?;
                Ok(true)
            }
            Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => Err(error.into()),
            // Tried again, and the plan that follows the import brings it too.
            Err(error) => {
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
        match self.brevo.count_changed(since, priority).await {
            Ok(count) => Ok(count.is_none_or(|count| count >= rows)),
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

    /// Reads what the imports left behind, 1,000 contacts a request, and settles every row.
    async fn read_back(&self, open: &[ImportRowState], priority: Priority) -> Result<ReadBack, EngineError> {
        let since = open.iter().map(since).min().unwrap_or_else(|| self.now());
        self.sweep_afresh(SideName::Brevo, Resource::Contacts, Scope::Since(since), priority).await?;
        let mut read_back = ReadBack::default();
        for import in open {
            read_back += self.settle_import(import, priority).await?;
        }
        Ok(read_back)
    }

    /// The addresses that Brevo's own reports call rejected: of these there is nothing to look up. A report that cannot be
    /// had costs a look-up a row, no more.
    async fn rejected(&self, import: &ImportRowState) -> BTreeSet<Email> {
        let mut rejected = BTreeSet::new();
        for (reason, url) in &import.reports {
            match self.brevo.import_report(url).await {
                Ok(rows) => rejected.extend(rows.iter().filter_map(|row| Email::parse(row).ok())),
                Err(error) => tracing::debug!(import = import.id, reason, "no report: {error}"),
            }
        }
        rejected
    }

    async fn settle_import(&self, import: &ImportRowState, priority: Priority) -> Result<ReadBack, EngineError> {
        let ready = self.require_ready()?;
        let mut rows = 0;
        let mut after = 0;
        let mut missing: Vec<(i64, Option<Email>)> = Vec::new();
        let mut landed = 0_u64;
        loop {
            let (id, state, ready, now) = (import.id, import.clone(), Arc::clone(&ready), self.now());
            let (count, last, lost) = self
                .store
                .write(move |tx| {
                    let links = tx.links_of_import(id, after, BATCH)?;
                    let mut lost = Vec::new();
                    let settled = sparing_each(tx, now, &links, |link| {
                        let landed = settle_row(tx, link, &state, &ready, now)?;
                        Ok((landed, if landed { None } else { sent_address(link)? }))
                    })?;
                    for (link, settled) in links.iter().zip(settled) {
                        match settled {
                            Some((true, _)) => {}
                            Some((false, address)) => lost.push((link.id, address)),
                            // What cannot be read is no proof that it landed.
                            None => lost.push((link.id, None)),
                        }
                    }
                    Ok((links.len(), links.last().map(|link| link.id), lost))
                })
                .await?;
            landed += (count - lost.len()) as u64;
            missing.extend(lost);
            rows += count as u64;
            let Some(last) = last else { break };
            after = last;
        }
        // A row that the read-back does not show is looked up once, never resent blindly.
        // Where Brevo never said that it had the import, and the read-back shows nothing of it, it never arrived.
        let arrived = import.process.is_some() || landed > 0;
        let given_up = import.stage == ImportStage::GivenUp;
        let missed = missing.len();
        let mut lost = 0;
        let rejected = if missing.is_empty() { BTreeSet::new() } else { self.rejected(import).await };
        for (link, email) in missing {
            // An import that Brevo did not finish may have left out thousands: the read-back has shown what landed.
            let email = email.filter(|email| arrived && !given_up && !rejected.contains(email));
            let found = match email.map(ContactKey::BrevoEmail) {
                None => false,
                Some(key) => match self.look_up(&key, priority).await {
                    Ok(found) => found,
                    // An address that Brevo will not even look for has not landed.
                    Err(EngineError::Side(error))
                        if !error.is_transient() && !matches!(error.kind, ErrorKind::Auth(_)) =>
                    {
                        false
                    }
                    Err(error) => return Err(error),
                },
            };
            let (state, ready, now) = (import.clone(), Arc::clone(&ready), self.now());
            lost += self
                .store
                .write(move |tx| {
                    let settled = sparing(tx, now, || {
                        let Some(row) = tx.link(link)? else { return Ok(0) };
                        let has_left = row.import.is_none() || (found && settle_row(tx, &row, &state, &ready, now)?);
                        if !has_left {
                            lose_row(tx, &row, arrived, now)?;
                            if given_up && !state.creates {
                                tx.put_late_row(link, now + LANDS_LATE)?;
                            }
                        }
                        Ok(u64::from(!has_left))
                    })?;
                    // Nobody stays in an import that is over.
                    if settled.is_none() {
                        tx.leave_import(link)?;
                    }
                    Ok(settled.unwrap_or(0))
                })
                .await?;
        }
        let (id, process, now) = (import.id, import.process, self.now());
        self.store
            .write(move |tx| {
                if given_up {
                    let process = process.map_or_else(|| "unknown".to_owned(), |process| process.get().to_string());
                    let detail =
                        format!("Brevo's process {process} came to no end; {missed} of {rows} rows had not landed");
                    tx.put_notice(NEVER_ENDED, &format!("import {id}"), Some(&detail), now)?;
                } else if process.is_some() {
                    // Brevo finishes imports again.
                    for (_, subject, _) in tx.notices(Some(NEVER_ENDED), 1_000)? {
                        tx.clear_notice(NEVER_ENDED, &subject)?;
                    }
                }
                tx.end_import(id)
            })
            .await?;
        tracing::info!(rows, process = process.map(ProcessId::get), "import read back");
        Ok(ReadBack { rows, lost })
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

/// Until when an import may land whose request was on its way at this time: Brevo queues it behind others.
pub(super) fn lands_by(on_its_way_at: DateTime<Utc>) -> DateTime<Utc> {
    on_its_way_at + TimeDelta::from_std(super::LATE_LANDING * 2).unwrap_or_default()
}

/// From when on what an import did shows: by Brevo's clock where we have it; by ours, with room for one that is off,
/// where the answer was lost.
fn since(import: &ImportRowState) -> DateTime<Utc> {
    import.started_at.unwrap_or(import.sent_at - TimeDelta::minutes(10)) - TimeDelta::seconds(2)
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
    let base = base_of(&link)?;
    let known = |base: Option<ConsentBase>| base.is_some_and(|consent| consent.intercom_out || consent.brevo_out);
    let email_out = live().any(|row| row.contact.consent.email_opted_out()) && !known(base.consent);
    let sms_out = live().any(|row| row.contact.consent.sms_opted_out) && !known(base.sms);
    let address = sent_address(&link)?;
    Ok((email_out || sms_out).then_some(NewlyOut { contact: link.brevo_id, address, email_out, sms_out }))
}

/// The address that a row was sent with. The person may have moved to another meanwhile.
fn sent_address(link: &LinkRow) -> Stored<Option<Email>> {
    let base = base_of(link)?;
    Ok(base.email.or_else(|| link.email.clone()))
}

/// Settles one row of an import against what was read back. `false`: the read-back does not show it.
fn settle_row(tx: &Tx<'_>, link: &LinkRow, import: &ImportRowState, ready: &Ready, now: DateTime<Utc>) -> Stored<bool> {
    let flights = flights_of(link)?;
    let contact: Option<BrevoContact> = match (link.brevo_id, &sent_address(link)?) {
        (Some(id), _) => tx.brevo_contact(id)?,
        (None, Some(email)) => tx.brevo_contact_by_email(email)?,
        (None, None) => None,
    };
    let Some(contact) = contact else { return Ok(false) };
    if link.brevo_id.is_none() {
        if let Some(holder) = tx.link_by_brevo(contact.id)? {
            hold_apart(tx, link.id, holder.id, now)?;
            return Ok(true);
        }
        tx.leave_import_for(link.id, contact.id)?;
        if link.email != contact.email {
            rename_if_moved(tx, link.id, contact.email.as_ref())?;
        }
        // Without Brevo's clock, ours, with room for one that is off.
        let started = import.started_at.unwrap_or(import.sent_at - TimeDelta::minutes(10));
        let existed = contact.created_at < started - TimeDelta::seconds(5);
        if existed {
            // It was there before: the import left it alone, and it is first-linked, not overwritten.
            settle_as(tx, link.id, &Base::default(), None)?;
            tx.mark_dirty(link.id, Dirty::Live)?;
            return Ok(true);
        }
    } else if import.started_at.is_some_and(|started| contact.modified_at < started - TimeDelta::seconds(2)) {
        return Ok(false);
    } else if import.stage == ImportStage::GivenUp && !has_landed(&base_of(link)?, &flights, &contact, ready) {
        // Somebody else has changed the contact; our row has not landed, which is no refusal.
        return Ok(false);
    } else {
        tx.leave_import(link.id)?;
    }
    let answered = import.process.is_some();
    let mut link = LinkRow { import: None, ..link.clone() };
    if !answered {
        // Brevo never said that it had the import, and the row agreed on all of it beforehand: what it was to set is
        // planned again, which writes nothing where it has landed.
        link.base = pack_base(tx, &person::forget_unlanded(&base_of(&link)?, &flights))?;
    }
    let again = settle_now(tx, &link, &flights, answered, &contact, ready, now)?;
    if again {
        tx.mark_dirty(link.id, Dirty::Backfill)?;
    }
    Ok(true)
}

/// Whether Brevo shows what the row was to set.
fn has_landed(base: &Base, flights: &person::Flights, contact: &BrevoContact, ready: &Ready) -> bool {
    let joined = flights.lists.iter().all(|(list, joined)| contact.lists.contains(list) == *joined);
    joined && person::settle(base, flights, true, contact, &ready.mapping).refused.is_empty()
}

/// The row did not land: what was agreed on for it is forgotten, and it is planned again, on its own.
fn lose_row(tx: &Tx<'_>, link: &LinkRow, arrived: bool, now: DateTime<Utc>) -> Stored<()> {
    let base = base_of(link)?;
    let flights = flights_of(link)?;
    let base = if link.brevo_id.is_none() { Base::default() } else { person::forget_unlanded(&base, &flights) };
    tx.leave_import(link.id)?;
    settle_as(tx, link.id, &base, None)?;
    tx.mark_dirty(link.id, Dirty::Backfill)?;
    // The single request that follows names the field at fault; an import that never arrived says nothing about it.
    tx.postpone(link.id, now, arrived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// Buckets with one row of this weight each, of `rows` rows.
    async fn filled(rows: usize, bytes: usize) -> Buckets {
        let packed = Store::in_memory().unwrap().write(|tx| tx.pack("imports", &0_u8)).await.unwrap();
        let filling = Filling::default();
        let mut buckets = Buckets { ours: Ours::none(&filling), by_kind: BTreeMap::new(), fresh_at: None };
        let mut filing = buckets.begin_filing();
        filing.ours.begin(7);
        let kind = Kind { what: What::Create, lists: BTreeSet::new() };
        for row in 0..rows {
            filing.filed.push((kind.clone(), 7, bytes, (i64::try_from(row).unwrap(), packed.clone())));
        }
        buckets.end_filing(filing);
        assert_eq!(filling.lock().unwrap().len(), 1, "still being filled");
        buckets
    }

    #[tokio::test]
    async fn an_import_is_full_by_weight_or_by_rows() {
        assert!(filled(10, 1_000).await.take_full().is_none());
        assert_eq!(filled(700, 10_000).await.take_full().unwrap().rows.len(), 700);
        assert_eq!(filled(MOST_ROWS, 1).await.take_full().unwrap().rows.len(), MOST_ROWS);
        assert_eq!(filled(10, 1_000).await.take_all().len(), 1);
    }

    #[tokio::test]
    async fn what_is_not_committed_is_nobodys() {
        let buckets = filled(1, 1).await;
        let filling = Arc::clone(&buckets.ours.filling);
        let mut filing = buckets.begin_filing();
        filing.ours.begin(8);
        drop(filing);
        assert_eq!(*filling.lock().unwrap(), BTreeSet::from([7]));
        drop(buckets);
        assert!(filling.lock().unwrap().is_empty());
    }
}
