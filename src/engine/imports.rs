//! Bulk writes: filled, sent, watched, read back. Dangerous, and worth it (docs/decisions/0004): an import says
//! "completed" with failed rows inside it, drops unknown attributes and `false`, and lands minutes later.

use super::observe::{base_of, flights_of, settle_now, to_json};
use super::people::Planned;
use super::push::{Pushed, hold_apart, is_current, record, rename_if_moved};
use super::{Connection, EngineError, Ready};
use crate::model::{
    Answer, BrevoContact, BrevoContactId, BrevoListId, ContactChange, ContactKey, Email, ErrorKind, ImportBatch,
    ImportRow, ImportState, Priority, Resource, Scope, SideName, Write,
};
use crate::reconcile::consent::ConsentBase;
use crate::reconcile::person::{self, Base};
use crate::store::contacts::ContactState;
use crate::store::links::{Dirty, LinkRow};
use crate::store::queues::{ImportRowState, ImportStage};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Brevo takes 10 MB and recommends at most 8.
const FULL: usize = 7_800_000;
/// All buckets together, with what is remembered of their rows: beyond this the fullest is sent early, so that memory
/// stays flat.
const FULL_TOGETHER: usize = 9_000_000;
/// Links settled in one transaction.
const BATCH: usize = 500;
/// How long an import that is over waits for the others, to be read back with them.
const PATIENCE: TimeDelta = TimeDelta::seconds(60);

/// What all rows of an import have in common, in the order in which they are sent: opted-out newcomers first; then
/// updates, so that the fresh read before them does not show all that was just made; then creations.
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

/// A row that waits for its import. What is heavy of its plan waits as text.
pub(super) struct Filed {
    planned: Planned,
    row: ImportRow,
    base: String,
    flights: String,
}

/// An import, ready to be sent.
pub(super) struct Batch {
    update: bool,
    opted_out: bool,
    lists: BTreeSet<BrevoListId>,
    rows: Vec<Filed>,
}

/// Rows on their way into one import.
#[derive(Default)]
struct Bucket {
    /// Of the import's body.
    bytes: usize,
    /// In memory.
    weight: usize,
    rows: Vec<Filed>,
}

/// Rows sorted by what they have in common.
#[derive(Default)]
pub(super) struct Buckets(BTreeMap<Kind, Bucket>);

impl Buckets {
    /// Files a plan.
    pub(super) fn push(&mut self, mut planned: Planned, ready: &Ready) -> Stored<()> {
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
        let row = ImportRow { email, ext_id: new.ext_id, attributes: new.attributes };
        // An import of existing contacts may lift a blocklisting that it does not know of.
        planned.plan.flights.may_loosen |= what == What::Update;
        let base = to_json("links.base", &std::mem::take(&mut planned.plan.base))?;
        let flights = to_json("links.flights", &std::mem::take(&mut planned.plan.flights))?;
        planned.plan.change.attributes.clear();
        // The row's JSON is a little shorter on the wire than in our own form.
        let bytes = to_json("imports", &row)?.len();
        let bucket = self.0.entry(Kind { what, lists }).or_default();
        bucket.bytes += bytes;
        bucket.weight += bytes + base.len() + flights.len();
        bucket.rows.push(Filed { planned, row, base, flights });
        Ok(())
    }

    /// A bucket that is full, if there is one.
    pub(super) fn take_full(&mut self) -> Option<Batch> {
        let together: usize = self.0.values().map(|bucket| bucket.weight).sum();
        // Where only memory asks for it, creations go: before updates there is a fresh read, and one for all is enough.
        let fullest = self.0.iter().max_by_key(|(kind, bucket)| (kind.what != What::Update, bucket.bytes))?;
        let full = self.0.iter().find(|(_, bucket)| bucket.bytes >= FULL);
        let kind = match full {
            Some((kind, _)) => kind.clone(),
            None if together >= FULL_TOGETHER => fullest.0.clone(),
            None => return None,
        };
        let bucket = self.0.remove(&kind)?;
        Some(batch(kind, bucket))
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) fn take_all(self) -> Vec<Batch> {
        self.0
            .into_iter()
            .filter(|(_, bucket)| !bucket.rows.is_empty())
            .map(|(kind, bucket)| batch(kind, bucket))
            .collect()
    }
}

fn batch(kind: Kind, bucket: Bucket) -> Batch {
    Batch {
        update: kind.what == What::Update,
        opted_out: kind.what == What::CreateOptedOut,
        lists: kind.lists,
        rows: bucket.rows,
    }
}

impl Connection {
    /// Sends one import. Its links take no other writes until it is read back. `fresh`: Brevo was read just now, for an
    /// import that went before this one without a pause.
    pub(super) async fn send_import(
        &self,
        Batch { update, opted_out, lists, rows: filed }: Batch,
        fresh: &mut bool,
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let creates = !update;
        if !creates && !std::mem::replace(fresh, true) {
            // An import of existing contacts may lift a blocklisting: who opted out since the last read stays out of it.
            let scope = self.next_scope(SideName::Brevo, Resource::Contacts, false).await?;
            self.sweep(SideName::Brevo, Resource::Contacts, scope, priority, &super::Silent).await?;
        }
        let now = self.now();
        let sent = self
            .store
            .write(move |tx| {
                // Plans that something has overtaken since they were made stay behind and are made again.
                let mut current = Vec::new();
                for filed in filed {
                    if is_current(tx, &filed.planned)? {
                        current.push(filed);
                    }
                }
                if current.is_empty() {
                    return Ok(None);
                }
                let import = tx.new_import(creates, current.len(), now)?;
                let mut before = BTreeMap::new();
                let mut rows = Vec::new();
                for Filed { planned, row, base, flights } in current {
                    if let Some(link) = tx.link(planned.link)? {
                        before.insert(link.id, link.base);
                    }
                    tx.put_in_import(planned.link, import, &base, &flights)?;
                    record(tx, &planned, &format!("sent with import {import}"), now)?;
                    rows.push(row);
                }
                let batch = ImportBatch { rows, lists, update_existing: update, email_opted_out: opted_out };
                Ok(Some((import, before, batch)))
            })
            .await?;
        let Some((import, before, batch)) = sent else { return Ok(Pushed::default()) };
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let links: Vec<i64> = before.keys().copied().collect();
        let count = links.len();
        self.doors.crash.reach("after_import_intent");
        let answer = self.brevo.write(&Write::Import(batch), priority).await;
        self.doors.crash.reach("after_import_sent");
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
                            sent_at: now,
                            checked_at: None,
                            reports: BTreeMap::new(),
                        })
                    })
                    .await?;
                Ok(pushed)
            }
            // It may have been queued: the read-back will tell.
            Err(error) if matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Malformed) => {
                tracing::warn!(rows = count, "an import's answer was lost: what landed will be read back");
                pushed.failed = count as u64;
                Ok(pushed)
            }
            other => {
                let transient = matches!(&other, Err(error) if error.is_transient());
                if let Err(error) = &other {
                    tracing::warn!(rows = count, "an import was refused: {error}");
                }
                pushed.failed = count as u64;
                let retry_at = now + TimeDelta::seconds(60);
                self.store
                    .write(move |tx| {
                        for link in &links {
                            tx.leave_import(*link)?;
                            tx.drop_intent(*link, None, true)?;
                            tx.set_base(*link, before.get(link).map_or("{}", String::as_str))?;
                            tx.mark_dirty(*link, Dirty::Backfill)?;
                            // Refused as a whole: one by one from now on, so that one bad row cannot hold up the rest.
                            tx.postpone(*link, if transient { retry_at } else { now }, !transient)?;
                        }
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
        let ids = self.store.read(|tx| tx.urgent_in_imports(BATCH)).await?;
        let claim = self.claim(ids);
        let mut sent = 0;
        for id in claim.claimed.iter().copied() {
            let Some(contact) = self.store.read(move |tx| newly_out(tx, id)).await? else { continue };
            let change = ContactChange { email_opted_out: true, ..ContactChange::default() };
            match self.brevo.write(&Write::UpdateContact(contact, change), priority).await {
                Ok(_) => {
                    sent += 1;
                    self.store
                        .write(move |tx| {
                            let Some(link) = tx.link(id)? else { return Ok(()) };
                            let mut base = base_of(&link)?;
                            base.consent = Some(ConsentBase { intercom_out: true, brevo_out: true });
                            tx.set_base(id, &to_json("links.base", &base)?)
                        })
                        .await?;
                }
                Err(error) if matches!(error.kind, ErrorKind::Auth(_)) => return Err(error.into()),
                // The plan that follows the import brings it again.
                Err(error) => tracing::warn!(link = id, "an opt-out during an import did not get through: {error}"),
            }
        }
        Ok(sent)
    }

    /// Waits for all open imports and reads them back. `wait`: until they are over; else one look.
    pub(super) async fn finish_imports(&self, wait: bool, priority: Priority) -> Result<u64, EngineError> {
        // Short at first, because most imports take seconds; then a minute, because progress comes out of the same 100
        // requests an hour as everything else.
        let mut pause = Duration::from_secs(2);
        let mut read_back = 0;
        loop {
            let open = self.store.read(|tx| tx.open_imports()).await?;
            if open.is_empty() {
                return Ok(read_back);
            }
            let running = open.iter().filter(|import| import.stage == ImportStage::Running).count();
            for import in &open {
                self.check_import(import, running).await?;
            }
            let now = self.now();
            let open = self.store.read(|tx| tx.open_imports()).await?;
            let (over, at_work): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|import| import.stage == ImportStage::ReadingBack);
            // One read for all, but one that is stuck does not hold up the others.
            let waited = |import: &ImportRowState| now - import.checked_at.unwrap_or(import.sent_at) > PATIENCE;
            if !over.is_empty() && (at_work.is_empty() || over.iter().any(waited)) {
                read_back += self.read_back(&over, priority).await?;
                continue;
            }
            if !wait {
                return Ok(read_back);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    /// Whether an import is not over.
    pub(super) async fn has_imports(&self) -> Result<bool, EngineError> {
        Ok(!self.store.read(|tx| tx.open_imports()).await?.is_empty())
    }

    async fn check_import(&self, import: &ImportRowState, running: usize) -> Result<(), EngineError> {
        let now = self.now();
        let mut next = import.clone();
        match (import.stage, import.process) {
            (ImportStage::ReadingBack, _) => return Ok(()),
            (ImportStage::Sending, _) | (ImportStage::Running, None) => {
                // No answer was recorded: once it cannot land any more, what is there is read.
                if now < import.sent_at + TimeDelta::from_std(super::LATE_LANDING * 2).unwrap_or_default() {
                    return Ok(());
                }
                next.stage = ImportStage::ReadingBack;
            }
            (ImportStage::Running, Some(process)) => {
                // Often at first, because most imports take seconds; then one request a minute for all of them.
                let rare = TimeDelta::seconds(60 * i64::try_from(running).unwrap_or(60).clamp(1, 60));
                let pause = ((now - import.sent_at) / 4).clamp(TimeDelta::seconds(2), rare);
                let last = import.checked_at.unwrap_or(import.sent_at);
                if now < last + pause {
                    return Ok(());
                }
                next.checked_at = Some(now);
                match self.brevo.import_state(process).await {
                    Ok(ImportState::Running) => {}
                    Ok(ImportState::Finished { reports, completed }) => {
                        if !completed {
                            tracing::warn!(
                                process = process.get(),
                                "Brevo gave an import up; what landed is read back"
                            );
                        }
                        next.stage = ImportStage::ReadingBack;
                        next.reports = reports;
                    }
                    Err(error) if error.is_transient() => {}
                    Err(error) if error.kind == ErrorKind::NotFound => next.stage = ImportStage::ReadingBack,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.store.write(move |tx| tx.put_import(&next)).await?;
        Ok(())
    }

    /// Reads what the imports left behind, 1,000 contacts a request, and settles every row.
    async fn read_back(&self, open: &[ImportRowState], priority: Priority) -> Result<u64, EngineError> {
        // By Brevo's clock where we have it; by ours, with room for a clock that is off, where the answer was lost.
        let since = open
            .iter()
            .map(|import| import.started_at.unwrap_or(import.sent_at - TimeDelta::minutes(10)))
            .min()
            .unwrap_or_else(|| self.now());
        let since = since - TimeDelta::seconds(2);
        self.sweep(SideName::Brevo, Resource::Contacts, Scope::Since(since), priority, &super::Silent).await?;
        let mut rows = 0;
        for import in open {
            rows += self.settle_import(import, priority).await?;
        }
        Ok(rows)
    }

    async fn settle_import(&self, import: &ImportRowState, priority: Priority) -> Result<u64, EngineError> {
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
                    for link in &links {
                        if !settle_row(tx, link, &state, &ready, now)? {
                            lost.push((link.id, sent_address(link)?));
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
        for (link, email) in missing {
            let found = match email.filter(|_| arrived).map(ContactKey::BrevoEmail) {
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
            self.store
                .write(move |tx| {
                    let Some(row) = tx.link(link)? else { return Ok(()) };
                    if row.import.is_some() && (!found || !settle_row(tx, &row, &state, &ready, now)?) {
                        lose_row(tx, &row, arrived, now)?;
                    }
                    Ok(())
                })
                .await?;
        }
        let (id, process) = (import.id, import.process);
        self.store.write(move |tx| tx.end_import(id)).await?;
        tracing::info!(rows, process = process.map(crate::model::ProcessId::get), "import read back");
        Ok(rows)
    }
}

/// The Brevo contact of a link in an import whose person has opted out in Intercom since.
fn newly_out(tx: &Tx<'_>, id: i64) -> Stored<Option<BrevoContactId>> {
    let Some(link) = tx.link(id)?.filter(|link| link.import.is_some()) else { return Ok(None) };
    let members = tx.members(id)?;
    let out = members.iter().any(|row| row.state == ContactState::Live && row.contact.consent.email_opted_out());
    let base = base_of(&link)?;
    let known = base.consent.is_some_and(|consent| consent.intercom_out || consent.brevo_out);
    Ok(link.brevo_id.filter(|_| out && !known))
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
        tx.set_brevo(link.id, Some(contact.id))?;
        rename_if_moved(tx, link.id, contact.email.as_ref())?;
        // Without Brevo's clock, ours, with room for one that is off.
        let started = import.started_at.unwrap_or(import.sent_at - TimeDelta::minutes(10));
        let existed = contact.created_at < started - TimeDelta::seconds(5);
        if existed {
            // It was there before: the import left it alone, and it is first-linked, not overwritten.
            tx.leave_import(link.id)?;
            tx.settle(link.id, "{}", None)?;
            tx.mark_dirty(link.id, Dirty::Live)?;
            return Ok(true);
        }
    } else if import.started_at.is_some_and(|started| contact.modified_at < started - TimeDelta::seconds(2)) {
        return Ok(false);
    }
    tx.leave_import(link.id)?;
    let answered = import.process.is_some();
    let mut link = LinkRow { import: None, ..link.clone() };
    if !answered {
        // Brevo never said that it had the import, and the row agreed on all of it beforehand: what it was to set is
        // planned again, which writes nothing where it has landed.
        link.base = to_json("links.base", &person::forget_unlanded(&base_of(&link)?, &flights))?;
    }
    let again = settle_now(tx, &link, &flights, answered, &contact, ready, now)?;
    if again {
        tx.mark_dirty(link.id, Dirty::Backfill)?;
    }
    Ok(true)
}

/// The row did not land: what was agreed on for it is forgotten, and it is planned again, on its own.
fn lose_row(tx: &Tx<'_>, link: &LinkRow, arrived: bool, now: DateTime<Utc>) -> Stored<()> {
    let base = base_of(link)?;
    let flights = flights_of(link)?;
    let base = if link.brevo_id.is_none() { Base::default() } else { person::forget_unlanded(&base, &flights) };
    tx.leave_import(link.id)?;
    tx.settle(link.id, &to_json("links.base", &base)?, None)?;
    tx.mark_dirty(link.id, Dirty::Backfill)?;
    // The single request that follows names the field at fault; an import that never arrived says nothing about it.
    tx.postpone(link.id, now, arrived)
}
