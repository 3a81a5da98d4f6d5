//! Bulk writes: filled, sent, watched, read back. Dangerous, and worth it (docs/decisions/0004): an import says
//! "completed" with failed rows inside it, drops unknown attributes and `false`, and lands minutes later.

use super::observe::{from_json, settle_now, subject_of, to_json};
use super::people::Planned;
use super::push::{Pushed, record};
use super::{Connection, EngineError, Ready};
use crate::model::{
    Answer, BrevoContact, BrevoListId, ContactKey, Email, ErrorKind, ImportBatch, ImportRow, ImportState, Priority,
    Resource, Scope, SideName, Write,
};
use crate::reconcile::person::{self, Base, Flights};
use crate::store::links::{Dirty, LinkRow};
use crate::store::queues::{ImportRowState, ImportStage};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Brevo takes 10 MB and recommends at most 8.
const FULL: usize = 7_800_000;
/// All buckets together: beyond this the fullest is sent early.
const FULL_TOGETHER: usize = 24_000_000;
/// Links settled in one transaction.
const BATCH: usize = 500;

/// What all rows of an import have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Existing contacts; `false`: creations.
    update: bool,
    /// Creations of people who have opted out go in imports of their own.
    opted_in: bool,
    lists: BTreeSet<BrevoListId>,
}

/// Rows on their way into one import.
#[derive(Default)]
pub(super) struct Bucket {
    bytes: usize,
    rows: Vec<(Planned, ImportRow)>,
}

/// Rows sorted by what they have in common.
#[derive(Default)]
pub(super) struct Buckets(BTreeMap<Kind, Bucket>);

impl Buckets {
    /// Files a plan. Opted-out newcomers sort first.
    pub(super) fn push(&mut self, planned: Planned, ready: &Ready) -> Stored<()> {
        let new = planned.plan.as_new_contact(planned.email.clone());
        let Some(email) = planned.brevo.as_ref().map_or(new.email, |contact| contact.email.clone()) else {
            return Ok(());
        };
        let mut lists = planned.plan.change.join_lists.clone();
        lists.insert(ready.technical_list);
        let kind = Kind { update: planned.brevo.is_some(), opted_in: !planned.plan.change.email_opted_out, lists };
        let row = ImportRow { email, ext_id: new.ext_id, attributes: new.attributes };
        // The row's JSON is a little shorter on the wire than in our own form.
        let bytes = to_json("imports", &row)?.len();
        let bucket = self.0.entry(kind).or_default();
        bucket.bytes += bytes;
        bucket.rows.push((planned, row));
        Ok(())
    }

    /// A bucket that is full, if there is one.
    pub(super) fn take_full(&mut self) -> Option<(ImportBatch, Vec<Planned>)> {
        let together: usize = self.0.values().map(|bucket| bucket.bytes).sum();
        let fullest = self.0.iter().max_by_key(|(_, bucket)| bucket.bytes)?;
        if fullest.1.bytes < FULL && together < FULL_TOGETHER {
            return None;
        }
        let kind = fullest.0.clone();
        let bucket = self.0.remove(&kind)?;
        Some(batch(kind, bucket))
    }

    /// All that is left.
    pub(super) fn take_all(self) -> Vec<(ImportBatch, Vec<Planned>)> {
        self.0
            .into_iter()
            .filter(|(_, bucket)| !bucket.rows.is_empty())
            .map(|(kind, bucket)| batch(kind, bucket))
            .collect()
    }
}

fn batch(kind: Kind, bucket: Bucket) -> (ImportBatch, Vec<Planned>) {
    let (planned, rows) = bucket.rows.into_iter().unzip();
    let batch = ImportBatch { rows, lists: kind.lists, update_existing: kind.update, email_opted_out: !kind.opted_in };
    (batch, planned)
}

impl Connection {
    /// Sends one import. Its links take no other writes until it is read back.
    pub(super) async fn send_import(
        &self,
        (batch, all): (ImportBatch, Vec<Planned>),
        priority: Priority,
    ) -> Result<Pushed, EngineError> {
        let mut pushed = Pushed { requests: 1, ..Pushed::default() };
        let now = self.now();
        let creates = !batch.update_existing;
        let links: Vec<i64> = all.iter().map(|planned| planned.link).collect();
        let count = all.len();
        let (import, before) = self
            .store
            .write(move |tx| {
                let import = tx.new_import(creates, all.len(), now)?;
                let mut before = BTreeMap::new();
                for planned in &all {
                    if let Some(link) = tx.link(planned.link)? {
                        before.insert(link.id, link.base);
                    }
                    let (base, flights) = (&planned.plan.base, &planned.plan.flights);
                    // An import of existing contacts may lift a blocklisting that it does not know of.
                    let flights = Flights { may_loosen: !creates || flights.may_loosen, ..flights.clone() };
                    tx.put_in_import(
                        planned.link,
                        import,
                        &to_json("links.base", base)?,
                        &to_json("links.flights", &flights)?,
                    )?;
                    record(tx, planned, &format!("sent with import {import}"), now)?;
                }
                Ok((import, before))
            })
            .await?;
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

    /// Waits for all open imports and reads them back. `wait`: until they are over; else one look.
    pub(super) async fn finish_imports(&self, wait: bool, priority: Priority) -> Result<u64, EngineError> {
        // Short at first, because most imports take seconds; then a minute, because progress comes out of the same 100
        // requests an hour as everything else.
        let mut pause = Duration::from_secs(2);
        // How long after the last look the next one is due: as long as was slept, or each look would come too early.
        let mut due = pause;
        let mut read_back = 0;
        loop {
            let open = self.store.read(|tx| tx.open_imports()).await?;
            if open.is_empty() {
                return Ok(read_back);
            }
            for import in &open {
                self.check_import(import, due).await?;
            }
            let open = self.store.read(|tx| tx.open_imports()).await?;
            if open.iter().all(|import| import.stage == ImportStage::ReadingBack) {
                read_back += self.read_back(&open, priority).await?;
                continue;
            }
            if !wait {
                return Ok(read_back);
            }
            tokio::time::sleep(pause).await;
            due = pause;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    async fn check_import(&self, import: &ImportRowState, pause: Duration) -> Result<(), EngineError> {
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
                let pause = TimeDelta::from_std(pause).unwrap_or_default();
                let last = import.checked_at.unwrap_or(import.sent_at);
                if now < last + pause.min(TimeDelta::seconds(60)) {
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
        let mut missing: Vec<(i64, Email)> = Vec::new();
        loop {
            let (id, state, ready, now) = (import.id, import.clone(), Arc::clone(&ready), self.now());
            let (count, last, lost) = self
                .store
                .write(move |tx| {
                    let links = tx.links_of_import(id, after, BATCH)?;
                    let mut lost = Vec::new();
                    for link in &links {
                        if !settle_row(tx, link, &state, &ready, now)?
                            && let Some(email) = &link.email
                        {
                            lost.push((link.id, email.clone()));
                        }
                    }
                    Ok((links.len(), links.last().map(|link| link.id), lost))
                })
                .await?;
            missing.extend(lost);
            rows += count as u64;
            let Some(last) = last else { break };
            after = last;
        }
        // A row that the read-back does not show is looked up once, never resent blindly.
        for (link, email) in missing {
            let found = self.look_up(&ContactKey::BrevoEmail(email), priority).await?;
            let (state, ready, now) = (import.clone(), Arc::clone(&ready), self.now());
            self.store
                .write(move |tx| {
                    let Some(row) = tx.link(link)? else { return Ok(()) };
                    if row.import.is_some() && (!found || !settle_row(tx, &row, &state, &ready, now)?) {
                        lose_row(tx, &row, now)?;
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

/// Settles one row of an import against what was read back. `false`: the read-back does not show it.
fn settle_row(tx: &Tx<'_>, link: &LinkRow, import: &ImportRowState, ready: &Ready, now: DateTime<Utc>) -> Stored<bool> {
    let flights: Flights = match &link.flights {
        Some(flights) => from_json("links.flights", flights)?,
        None => Flights::default(),
    };
    let contact: Option<BrevoContact> = match (link.brevo_id, &link.email) {
        (Some(id), _) => tx.brevo_contact(id)?,
        (None, Some(email)) => tx.brevo_contact_by_email(email)?,
        (None, None) => None,
    };
    let Some(contact) = contact else { return Ok(false) };
    if link.brevo_id.is_none() {
        if let Some(holder) = tx.link_by_brevo(contact.id)? {
            let detail = format!("Brevo contact {} has its address, but is link {}'s", contact.id, holder.id);
            tx.put_notice("identity_conflict", &subject_of(tx, link)?, Some(&detail), now)?;
            tx.leave_import(link.id)?;
            tx.settle(link.id, "{}", None)?;
            tx.give_up(link.id)?;
            return Ok(true);
        }
        tx.set_brevo(link.id, Some(contact.id))?;
        let existed = import.started_at.is_some_and(|started| contact.created_at < started - TimeDelta::seconds(5));
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
    let link = LinkRow { import: None, ..link.clone() };
    let again = settle_now(tx, &link, &flights, true, &contact, ready, now)?;
    if again {
        tx.mark_dirty(link.id, Dirty::Backfill)?;
    }
    Ok(true)
}

/// The row did not land: what was agreed on for it is forgotten, and it is planned again, on its own.
fn lose_row(tx: &Tx<'_>, link: &LinkRow, now: DateTime<Utc>) -> Stored<()> {
    let base: Base = from_json("links.base", &link.base)?;
    let flights: Flights = match &link.flights {
        Some(flights) => from_json("links.flights", flights)?,
        None => Flights::default(),
    };
    let base = if link.brevo_id.is_none() { Base::default() } else { person::forget_unlanded(&base, &flights) };
    tx.leave_import(link.id)?;
    tx.settle(link.id, &to_json("links.base", &base)?, None)?;
    tx.mark_dirty(link.id, Dirty::Backfill)?;
    // The single request that follows names the field at fault.
    tx.postpone(link.id, now, true)
}
