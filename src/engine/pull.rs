//! Sweeps: page after page into the store. One page is one transaction: its observations, the dirty marks and the cursor
//! move together or not at all, so a crash loses a page, not a sweep.

use super::observe::Source;
use super::read_back::Landing;
use super::unreadable::sparing_each;
use super::{BATCH, Connection, EngineError, Progress, Stage};
use crate::model::{ErrorKind, Observation, Priority, ReadRequest, Resource, Scope, Side, SideName};
use crate::store::contacts::IntercomRow;
use crate::store::links::Dirty;
use crate::store::progress::{Sweep, Watermark};
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use std::sync::{Arc, PoisonError};

/// What one sweep saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Swept {
    /// Records shown.
    pub rows: u64,
    /// Of these, new or changed.
    pub changed: u64,
    /// Requests.
    pub pages: u64,
    /// When the first of them began, in whichever run.
    #[serde(skip)]
    pub began: Option<DateTime<Utc>>,
}

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.changed += more.changed;
        self.pages += more.pages;
    }
}

/// More pages than twice what the newest total allows end a sweep; so many more are allowed in any case.
const SPARE_PAGES: u64 = 20;

/// Holds that are shorter than this are waited for: most windows are.
const LONG_HOLD: std::time::Duration = std::time::Duration::from_secs(10);
/// How often it is looked whether there is one.
const HOLD_LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether one of these who is opted out has changed in Intercom since it was last read what has changed in Brevo: they may
/// have opted in there before they opted out, and nobody has looked.
pub(super) fn is_ahead_of_brevo(tx: &Tx<'_>, members: &[&IntercomRow]) -> Stored<bool> {
    let contacts = members.iter().map(|row| &row.contact);
    let out = contacts.filter(|contact| contact.consent.email_opted_out() || contact.consent.sms_opted_out);
    let Some(changed) = out.map(|contact| contact.updated_at).max() else { return Ok(false) };
    let (side, resource) = (SideName::Brevo, Resource::Contacts);
    let read = tx.watermark(side, resource)?;
    Ok(read.is_some_and(|read| read.at + Connection::overlap(side, resource) < changed))
}

impl Connection {
    pub(super) fn side(&self, side: SideName) -> &Arc<dyn Side> {
        match side {
            SideName::Intercom => &self.intercom,
            SideName::Brevo => &self.brevo,
        }
    }

    /// Goes on reading until the vendor holds us back for long: then the read is dropped, as if the power had gone. What it
    /// was for waits in the state, and whoever waited for it can do something else. `None`: it was dropped.
    pub(super) async fn unless_held<T>(&self, side: SideName, read: impl Future<Output = T>) -> Option<T> {
        let held = async {
            while !self.is_held(side) {
                tokio::time::sleep(HOLD_LOOK).await;
            }
        };
        tokio::select! {
            biased;
            done = read => Some(done),
            () = held => None,
        }
    }

    /// Whether the vendor holds us back for long.
    pub(super) fn is_held(&self, side: SideName) -> bool {
        self.side(side).held_back().is_some_and(|left| left > LONG_HOLD)
    }

    /// How an observation that is read now is to be taken.
    pub(super) fn source(
        &self,
        sweep: i64,
        authoritative: bool,
        read_began: DateTime<Utc>,
        dirty: Dirty,
    ) -> Result<Source, EngineError> {
        let (settings, ready) = self.require_told()?;
        Ok(Source { settings, ready, sweep, authoritative, read_began, now: self.now(), dirty, place: false })
    }

    /// From where an incremental read starts: the last sweep's start by the vendor's clock, less an overlap longer than
    /// the index lag.
    fn overlap(side: SideName, resource: Resource) -> TimeDelta {
        match (side, resource) {
            (SideName::Intercom, Resource::Contacts) => TimeDelta::minutes(15),
            _ => TimeDelta::minutes(2),
        }
    }

    /// The scope of the next read: what changed since the last, or everything.
    pub(super) async fn next_scope(
        &self,
        side: SideName,
        resource: Resource,
        full: bool,
    ) -> Result<Scope, EngineError> {
        let known = self.store.read(move |tx| tx.watermark(side, resource)).await?;
        Ok(match known {
            Some(Watermark { at, full_at: Some(_) }) if !full => Scope::Since(at),
            _ => Scope::Full,
        })
    }

    /// Before Brevo was read whole once, nobody is linked or made there: they may exist.
    pub(super) async fn knows_brevo(&self) -> Result<bool, EngineError> {
        let known = self.store.read(|tx| tx.watermark(SideName::Brevo, Resource::Contacts)).await?;
        Ok(known.is_some_and(|known| known.full_at.is_some()))
    }

    /// Reads a whole sweep, going on where an interrupted one of the same kind stopped.
    pub(super) async fn sweep(
        &self,
        side: SideName,
        resource: Resource,
        scope: Scope,
        priority: Priority,
        progress: &dyn Progress,
    ) -> Result<Swept, EngineError> {
        self.sweep_from(side, resource, scope, Some(progress), None, priority).await
    }

    /// Reads a whole sweep from its first page on, whatever another one has read already: pages are in the order of
    /// creation, so one that goes on half-way does not show who has opted out since on the pages before.
    pub(super) async fn sweep_afresh(
        &self,
        side: SideName,
        resource: Resource,
        scope: Scope,
        priority: Priority,
    ) -> Result<Swept, EngineError> {
        self.sweep_from(side, resource, scope, None, None, priority).await
    }

    /// Reads afresh what imports have changed, and settles their rows with the pages that show them.
    pub(super) async fn sweep_imports(
        &self,
        since: DateTime<Utc>,
        imports: &mut Landing,
        priority: Priority,
    ) -> Result<(), EngineError> {
        let scope = Scope::Since(since);
        self.sweep_from(SideName::Brevo, Resource::Contacts, scope, None, Some(imports), priority).await.map(drop)
    }

    /// With `progress` it goes on where another stopped, and leaves its cursor for the next.
    async fn sweep_from(
        &self,
        side: SideName,
        resource: Resource,
        scope: Scope,
        progress: Option<&dyn Progress>,
        mut imports: Option<&mut Landing>,
        priority: Priority,
    ) -> Result<Swept, EngineError> {
        let (resumes, progress) = (progress.is_some(), progress.unwrap_or(&super::Silent));
        let ready = self.require_ready()?;
        let began = self.now();
        let full = !matches!(scope, Scope::Since(_));
        // A read of less than what has changed since the last one (the read-back of an import, `--since`) moves no
        // watermark, and what it does not show may be stale.
        let known = self.store.read(move |tx| tx.watermark(side, resource)).await?;
        let covers = match scope {
            Scope::Full => true,
            Scope::Since(since) => known.is_some_and(|known| since <= known.at),
            Scope::CreatedSince(_) => false,
        };
        let place = side == SideName::Intercom && resource == Resource::Contacts && self.knows_brevo().await?;
        let stage = Stage::Reading(side, resource);
        let mut sweep = self
            .store
            .write(move |tx| {
                if resumes
                    && let Some(sweep) = tx.sweep(side, resource)?
                    && sweep.scope == scope
                    && sweep.cursor.is_some()
                    // A cursor is not kept for days.
                    && began - sweep.began_at < TimeDelta::hours(12)
                {
                    return Ok(sweep);
                }
                Ok(Sweep {
                    scope,
                    cursor: None,
                    started_at: None,
                    began_at: began,
                    number: tx.next_sweep_number()?,
                    pages: 0,
                    rows: 0,
                    total: None,
                    last_page: None,
                })
            })
            .await?;
        let number = if full { sweep.number } else { 0 };
        let dirty = if full { Dirty::Backfill } else { Dirty::Live };
        let give_up = |why: &str| EngineError::Sweep { side, resource: resource.as_str(), why: why.to_owned() };
        let mut swept = Swept { began: Some(sweep.began_at), ..Swept::default() };
        progress.stage(stage, sweep.rows, sweep.total);
        let request = |cursor| ReadRequest { resource, scope, cursor, timezone: ready.timezone, priority };
        let mut next = self.side(side).read(&request(sweep.cursor.clone())).await;
        loop {
            let page = match next {
                Ok(page) => page,
                Err(error) => {
                    if error.kind == ErrorKind::LostCursor {
                        // The vendor no longer knows it: the sweep starts again at the next run.
                        self.forget_sweep(side, resource, resumes).await?;
                    }
                    return Err(error.into());
                }
            };
            let print = fingerprint(&page.observations);
            if !page.observations.is_empty()
                && page.repeats_are_errors
                && sweep.last_page.as_ref() == Some(&print)
                && page.next.is_some()
            {
                self.forget_sweep(side, resource, resumes).await?;
                return Err(give_up("the same page came twice"));
            }
            if page.next.is_some() && page.next == sweep.cursor && page.repeats_are_errors {
                self.forget_sweep(side, resource, resumes).await?;
                return Err(give_up("the same cursor came twice"));
            }
            let rows = page.observations.len() as u64;
            sweep.started_at = sweep.started_at.or(page.server_time);
            sweep.pages += 1;
            sweep.rows += rows;
            sweep.total = page.total.or(sweep.total);
            sweep.last_page = Some(print);
            sweep.cursor.clone_from(&page.next);
            if let Some(total) = sweep.total
                && sweep.rows > total.saturating_mul(2) + 1_000
                && sweep.pages > SPARE_PAGES
            {
                self.forget_sweep(side, resource, resumes).await?;
                return Err(give_up("more pages came than twice the total allows"));
            }
            let source = Source { place, ..self.source(number, false, sweep.began_at, dirty)? };
            let last = page.next.is_none();
            let kept = sweep.clone();
            // While a page is being kept, the next one is on its way.
            let ahead = async {
                match &page.next {
                    Some(_) if !self.may_read_on(side, resource) => Some(Err(super::firms::no_budget())),
                    Some(cursor) => Some(self.side(side).read(&request(Some(cursor.clone()))).await),
                    None => None,
                }
            };
            // Freed where it was made: the thread of the state is the busier one.
            let observations = Arc::new(page.observations);
            let shown = Arc::clone(&observations);
            let settling = imports.as_ref().map(|imports| imports.of_page());
            // Without a power loss it is kept; with one, the page is read again.
            let keep = self.store.write_repeatable(move |tx| {
                let applied = source.apply_all(tx, &shown)?;
                let changed = applied.iter().flatten().filter(|applied| applied.is_new).count() as u64;
                let landed = settling.map(|settling| settling.settle(tx, &source, &shown, &applied)).transpose()?;
                if last {
                    if resumes {
                        tx.end_sweep(side, resource)?;
                    }
                    if kept.scope == Scope::Full && resource == Resource::Contacts {
                        // What it did not show is no deletion before it was asked for by id (`confirm`).
                        tx.ask_for_unseen(side, number)?;
                    }
                    if covers && side == SideName::Brevo && resource == Resource::Contacts {
                        tx.brevo_hints_were_read(kept.began_at)?;
                    }
                    // By the vendor's clock; where it sent none, nothing is assumed and the next read is full.
                    if let Some(started) = kept.started_at.filter(|_| covers) {
                        let watermark = started - Self::overlap(side, resource);
                        let complete = matches!(kept.scope, Scope::Full);
                        let first = complete && known.is_none_or(|known| known.full_at.is_none());
                        if first && side == SideName::Intercom && super::unread::is_beside(resource) {
                            // What is made of it has rested so far.
                            tx.mark_all(Dirty::Backfill)?;
                        }
                        tx.set_watermark(side, resource, watermark, complete.then_some(started))?;
                    }
                } else if resumes {
                    tx.put_sweep(side, resource, &kept)?;
                }
                Ok((changed, landed))
            });
            let (kept, ahead) = tokio::join!(keep, ahead);
            let (changed, landed) = kept?;
            drop(observations);
            if let (Some(imports), Some(landed)) = (&mut imports, landed) {
                imports.note(&landed);
            }
            swept.changed += changed;
            swept.pages += 1;
            swept.rows += rows;
            progress.stage(stage, sweep.rows, sweep.total);
            self.doors.crash.reach("after_page");
            let Some(ahead) = ahead else { break };
            next = ahead;
            // The next run goes on where this cursor stands.
            self.go_on()?;
        }
        if side == SideName::Brevo && resource == Resource::Contacts && covers && !full {
            self.settle_unshown(sweep.began_at).await?;
        }
        if side == SideName::Intercom && resource == Resource::Contacts && covers {
            *self.intercom_read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweep.began_at);
        }
        self.keep_budgets().await?;
        Ok(swept)
    }

    /// Whether another page may be asked for. Companies in Brevo leave others their part of the budget: what is read of
    /// them goes on in the next hour, at the cursor that is kept.
    fn may_read_on(&self, side: SideName, resource: Resource) -> bool {
        (side, resource) != (SideName::Brevo, Resource::Companies) || self.may_ask_about_companies()
    }

    async fn forget_sweep(&self, side: SideName, resource: Resource, resumes: bool) -> Result<(), EngineError> {
        if resumes {
            self.store.write(move |tx| tx.end_sweep(side, resource)).await?;
        }
        Ok(())
    }

    /// Contacts that a Brevo read did not show have not been touched since its start: what we hold of them is fresh, and
    /// settles writes that cannot land any more.
    async fn settle_unshown(&self, read_began: DateTime<Utc>) -> Result<(), EngineError> {
        let mut after = 0;
        loop {
            let source = self.source(0, false, read_began, Dirty::Live)?;
            let last = self
                .store
                .write(move |tx| {
                    let ids = tx.verifiable(true, read_began, after, BATCH)?;
                    sparing_each(tx, source.now, &ids, |id| {
                        let Some(link) = tx.link(*id)? else { return Ok(()) };
                        let Some(contact) = link.brevo_id.map(|id| tx.brevo_contact(id)).transpose()?.flatten() else {
                            return Ok(());
                        };
                        // Made by us and never shown yet: wait for a read that shows it.
                        let provisional = contact.modified_at == DateTime::<Utc>::default();
                        if !provisional && source.settle(tx, &link, &contact)? {
                            tx.mark_dirty(*id, Dirty::Live)?;
                        }
                        Ok(())
                    })?;
                    Ok(ids.last().copied())
                })
                .await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
        }
    }

    /// Keeps what is left of both budgets, for `status`.
    pub(super) async fn keep_budgets(&self) -> Result<(), EngineError> {
        let (intercom, brevo, now) = (self.intercom.budgets(), self.brevo.budgets(), self.now());
        self.store
            .write(move |tx| {
                tx.put_budgets(SideName::Intercom, &intercom, now)?;
                tx.put_budgets(SideName::Brevo, &brevo, now)
            })
            .await?;
        Ok(())
    }
}

/// Names a page by the records that it shows.
fn fingerprint(observations: &[Observation]) -> String {
    let mut hash = Sha256::new();
    for observation in observations {
        let (kind, id) = match observation {
            Observation::IntercomContact(contact) => ("ic", contact.id.to_string()),
            Observation::IntercomContactGone(id, _) => ("ig", id.to_string()),
            Observation::Company(company) => ("co", company.id.to_string()),
            Observation::CompanyGone(id) => ("cg", id.to_string()),
            Observation::Conversation(conversation) => ("cv", conversation.id.to_string()),
            Observation::ConversationGone(id) => ("vg", id.to_string()),
            Observation::Tag(tag) => ("tg", tag.id.to_string()),
            Observation::BrevoContact(contact) => ("bc", contact.id.to_string()),
            Observation::BrevoContactGone(id) => ("bg", id.to_string()),
            Observation::BrevoCompany(company) => ("bo", company.id.to_string()),
            Observation::BrevoCompanyGone(id) => ("bx", id.to_string()),
            Observation::BrevoList { id, .. } => ("bl", id.to_string()),
        };
        hash.update(kind);
        hash.update(id);
        hash.update("\n");
    }
    short(hash)
}

/// Sixteen digits that stand for what was hashed.
pub(super) fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}
