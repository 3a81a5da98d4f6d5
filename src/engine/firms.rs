//! Company objects: each company of Intercom's with one of Brevo's, field by field, and whose contacts belong to it.
//!
//! Brevo's companies have no external id and nothing of them is unique, so that the link table and an attribute of ours
//! tell which is which (docs/decisions/0021). All that is asked about them shares a hundred requests an hour with much
//! else, so that they have a loop of their own, and stop where others' share begins.

mod bulk;
mod prepare;
mod shown;
mod turn;

use super::cycle::stops_everything;
use super::{Connection, EngineError, Progress};
use crate::mapping::{Direction, Expression, Mapping};
use crate::model::{ErrorKind, Priority, Resource, Scope, SideError, SideName, Sides};
use crate::store::firms::{Firm, FirmCounts};
use crate::store::listings::NewFailure;
use crate::store::progress::JobTimes;
use crate::store::{Result as Stored, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shown::subject_of;
use std::sync::Arc;
use std::time::Duration;
use turn::Went;

pub(super) use bulk::reopen_import;
pub(super) use shown::{brevo_company, brevo_company_gone, intercom_company};

/// Companies have so much of the hourly budget that they share with events, imports and webhooks.
const SHARE_OF_BUDGET: (u64, u64) = (6, 10);
/// With so many companies to make, they go by import: then they cost three requests or four.
const BY_IMPORT: u64 = 50;
/// How long a run waits for an import of companies.
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(15);
/// How often it looks whether that is over.
const LOOK: Duration = Duration::from_secs(10);
/// So long companies rest after something that failed for all of them.
const AFTER_FAILURE: TimeDelta = TimeDelta::minutes(15);
/// So long a company waits of which a vendor says nothing that can be understood, or lets us not at it.
const ONE_FAILED: TimeDelta = TimeDelta::minutes(30);
/// With so many that fail in a row it is not they that fail.
const FAILED_IN_A_ROW: u32 = 3;
/// Companies that are looked at in one transaction.
const SOME: usize = 200;

/// Where the turns stand.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The one that had its turn last: an hour's budget may end anywhere, and those behind are not to wait for ever.
    after: i64,
    /// Nothing is tried before, since something failed for all.
    rest_until: Option<DateTime<Utc>>,
}

/// What is known of both accounts, for company objects.
#[derive(Debug, Clone)]
pub struct ReadyFirms {
    /// Their mapping, fitted to the accounts.
    pub mapping: Mapping,
    /// Something travels from Brevo: then a company is read before it is written, lest somebody's edit be lost.
    pub two_way: bool,
    /// Attributes of Brevo's companies that do not exist yet (a dry run makes none).
    pub missing: Vec<String>,
    /// Which are written on each side; `None`: all.
    pub filter: Sides<Option<Expression>>,
}

impl ReadyFirms {
    pub(super) fn new(mapping: Mapping, missing: Vec<String>, filter: Sides<Option<Expression>>) -> Self {
        let two_way = mapping.rules.iter().any(|rule| rule.direction != Direction::IntercomToBrevo);
        Self { mapping, two_way, missing, filter }
    }
}

/// What was done about company objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    /// Made in Brevo, one by one.
    pub made: u64,
    /// Sent there by import.
    pub imported: u64,
    /// Changed in Brevo.
    pub updated: u64,
    /// Whose contacts were linked or taken off.
    pub linked: u64,
    /// Changed in Intercom.
    pub written_back: u64,
    /// Writes that failed, for good or for now.
    pub failed: u64,
    /// Still to be done.
    pub waiting: u64,
}

impl std::ops::AddAssign for Kept {
    fn add_assign(&mut self, more: Self) {
        self.made += more.made;
        self.imported += more.imported;
        self.updated += more.updated;
        self.linked += more.linked;
        self.written_back += more.written_back;
        self.failed += more.failed;
        self.waiting = more.waiting;
    }
}

/// What a run would do about company objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// Companies that would be made in Brevo.
    pub make: u64,
    /// Companies that would be changed there.
    pub update: u64,
    /// Companies whose contacts would be linked or taken off.
    pub link: u64,
    /// Companies that would be changed in Intercom.
    pub update_in_intercom: u64,
    /// Attributes of Brevo's companies that would be made.
    pub new_attributes: Vec<String>,
}

/// How long Brevo's hourly budget makes these companies wait, if nothing else is added. `None`: nothing waits.
pub fn estimate(counts: &FirmCounts, spare: Option<u64>) -> Option<TimeDelta> {
    let to_make = if counts.to_make > BY_IMPORT { 4 } else { counts.to_make };
    let requests = to_make + counts.waiting + u64::from(counts.in_import > 0) * 3;
    let beyond = requests.saturating_sub(spare.unwrap_or(0));
    let (some, all) = SHARE_OF_BUDGET;
    let minutes = beyond.saturating_mul(60 * all).div_ceil(100 * some);
    (requests > 0).then(|| TimeDelta::minutes(i64::try_from(minutes).unwrap_or(i64::MAX / 1_000_000)))
}

/// How much of a budget companies may still use.
pub fn spare_of(limit: u64, remaining: u64) -> u64 {
    let (some, all) = SHARE_OF_BUDGET;
    remaining.saturating_sub(limit.saturating_mul(all - some) / all)
}

/// Why a read of companies ends before its last page.
pub(super) fn no_budget() -> Box<SideError> {
    SideError::new(SideName::Brevo, ErrorKind::Throttled, "companies have used their part of the hour's budget")
}

/// The name under which the schedule knows the reads of Brevo's companies.
pub(super) fn job(full: bool) -> String {
    format!("brevo companies {}", if full { "full" } else { "incremental" })
}

/// Company objects are switched off: nothing of theirs is planned to be read.
pub(super) fn no_more_reads(tx: &Tx<'_>) -> Stored<()> {
    for name in [job(true), job(false)] {
        let times = tx.job(&name)?;
        if times.next_at.is_some() {
            tx.put_job(&name, &JobTimes { next_at: None, ..times })?;
        }
    }
    Ok(())
}

impl Connection {
    /// Whether something may be asked about companies now.
    pub(super) fn may_ask_about_companies(&self) -> bool {
        self.brevo.company_budget().is_none_or(|budget| spare_of(budget.limit, budget.remaining) > 0)
    }

    /// Company objects are kept in step.
    pub(super) fn ready_firms(&self) -> Option<(Arc<super::Ready>, ReadyFirms)> {
        let ready = self.ready()?;
        let firms = ready.firms.clone()?;
        Some((ready, firms))
    }

    async fn knows_brevo_companies(&self) -> Result<bool, EngineError> {
        let known = self.store.read(|tx| tx.watermark(SideName::Brevo, Resource::Companies)).await?;
        Ok(known.is_some_and(|known| known.full_at.is_some()))
    }

    /// Reads Brevo's companies, as far as the budget goes: the next time goes on where it stood. When that read began, once
    /// it has come to its end.
    pub(super) async fn read_brevo_companies(
        &self,
        full: bool,
        progress: &dyn Progress,
    ) -> Result<Option<DateTime<Utc>>, EngineError> {
        if !self.may_ask_about_companies() {
            return Ok(None);
        }
        let (side, resource) = (SideName::Brevo, Resource::Companies);
        let began = self.now();
        // What the budget has interrupted is read to its end first: a read of changes would take its place.
        let open = self.store.read(move |tx| tx.sweep(side, resource)).await?;
        let full = full || open.is_some_and(|sweep| sweep.scope == Scope::Full && sweep.cursor.is_some());
        let scope = self.next_scope(side, resource, full).await?;
        let read_began = match self.sweep(side, resource, scope, Priority::Live, progress).await {
            Ok(swept) => swept.began.unwrap_or(began),
            Err(EngineError::Side(error)) if error.kind == ErrorKind::Throttled => return Ok(None),
            Err(error) => return Err(error),
        };
        self.settle_unshown_firms(read_began).await?;
        let ended = self.now();
        self.store
            .write(move |tx| {
                let times = JobTimes { last_began: Some(began), last_ended: Some(ended), next_at: None };
                if scope == Scope::Full {
                    tx.put_job(&job(true), &times)?;
                }
                tx.put_job(&job(false), &times)
            })
            .await?;
        Ok(Some(read_began))
    }

    /// The same, where the schedule says that it is time.
    pub(super) async fn read_brevo_companies_when_due(
        &self,
        schedule: &crate::config::ScheduleConfig,
    ) -> Result<(), EngineError> {
        let now = self.now();
        for (full, every) in [(true, &schedule.brevo_companies.full), (false, &schedule.brevo_companies.incremental)] {
            let name = job(full);
            let times = self.store.read(move |tx| tx.job(&name)).await?;
            let at = match (times.last_began, times.next_at) {
                (None, _) if full => Some(now),
                (_, Some(at)) => Some(at),
                (began, None) => {
                    let at = every.next_after(began.unwrap_or(now), schedule.jitter, self.doors.rng.unit());
                    let (name, times) = (job(full), JobTimes { next_at: at, ..times });
                    self.store.write(move |tx| tx.put_job(&name, &times)).await?;
                    at
                }
            };
            if at.is_some_and(|at| at <= now) {
                self.read_brevo_companies(full, &super::Silent).await?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// In a run that somebody waits for: all that can be done now, and the end of an import.
    pub(super) async fn keep_firms_in_a_run(&self) -> Result<Kept, EngineError> {
        let mut kept = Kept::default();
        let until = self.now() + LONGEST_WAIT;
        loop {
            kept += self.keep_firms().await?;
            // (One whose answer is lost nobody waits for.)
            let import = self.store.read(|tx| tx.company_import()).await?;
            let soon = import.is_some_and(|import| import.landed_at.is_none_or(|landed| landed <= until));
            if !soon || self.now() >= until || !self.may_ask_about_companies() {
                return Ok(kept);
            }
            self.go_on()?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All that can be done now about company objects.
    pub(super) async fn keep_firms(&self) -> Result<Kept, EngineError> {
        let mut kept = Kept::default();
        if self.ready_firms().is_none() {
            return Ok(kept);
        }
        // Whoever is at it goes on until nothing more can be done.
        let Ok(mut round) = self.keeping_firms.try_lock() else { return Ok(kept) };
        // What exists there decides what is made.
        if !self.knows_brevo_companies().await? && self.read_brevo_companies(true, &super::Silent).await?.is_none() {
            return self.waiting_firms(kept).await;
        }
        self.store.write(|tx| tx.add_firms()).await?;
        round.rest_until = None;
        // One that fails is not to keep the others from what they can do.
        let mut on = self.went_on(self.watch_company_import().await, &mut round)?;
        on = on && self.went_on(self.look_up_firms().await, &mut round)?;
        on = on && self.went_on(self.verify_firms().await, &mut round)?;
        on = on && self.went_on(self.look_at_edited().await, &mut round)?;
        if on {
            let imported = self.import_firms(&mut kept.failed).await.map(|count| kept.imported += count);
            on = self.went_on(imported, &mut round)?;
        }
        if on {
            let done = self.take_turns(&mut kept, &mut round.after).await;
            self.went_on(done, &mut round)?;
        }
        self.keep_budgets().await?;
        self.waiting_firms(kept).await
    }

    /// Whether there is any point in going on. What fails for all of them is not tried again at once.
    fn went_on(&self, done: Result<(), EngineError>, round: &mut Round) -> Result<bool, EngineError> {
        match done {
            Ok(()) => Ok(true),
            Err(EngineError::Side(error)) if error.kind == ErrorKind::Throttled => Ok(false),
            Err(error) if stops_everything(&error) => Err(error),
            Err(error) => {
                tracing::warn!("companies cannot be kept in step now: {}{}", error.for_log(), error.arrow_to_remedy());
                round.rest_until = Some(self.now() + AFTER_FAILURE);
                Ok(true)
            }
        }
    }

    /// A vendor's answer about one company that is no reason to leave the others: it is listed, and comes later. `None`: it
    /// is such a reason.
    pub(super) async fn pass_over(
        &self,
        firm: &Firm,
        error: EngineError,
        in_a_row: &mut u32,
        put_off: impl FnOnce(Firm, DateTime<Utc>) -> Firm + Send + 'static,
    ) -> Result<(), EngineError> {
        let EngineError::Side(error) = error else { return Err(error) };
        *in_a_row += 1;
        let all = error.kind == ErrorKind::Throttled || *in_a_row >= FAILED_IN_A_ROW;
        let all = all || stops_everything(&EngineError::Side(error.clone()));
        let (id, now, listed) = (firm.id, self.now(), error.clone());
        let subject = subject_of(&firm.intercom);
        if error.kind != ErrorKind::Throttled {
            self.store
                .write(move |tx| {
                    let Some(firm) = tx.firm(id)? else { return Ok(()) };
                    tx.put_failure(
                        &NewFailure { dead: false, ..NewFailure::refused(None, &subject, "", &listed) },
                        now,
                    )?;
                    tx.put_firm(&put_off(firm, now + ONE_FAILED))
                })
                .await?;
        }
        if all { Err(EngineError::Side(error)) } else { Ok(()) }
    }

    async fn waiting_firms(&self, kept: Kept) -> Result<Kept, EngineError> {
        let counts = self.store.read(|tx| tx.firm_counts()).await?;
        Ok(Kept { waiting: counts.to_make + counts.waiting + counts.in_import, ..kept })
    }

    /// One company after the other, one request at a time, while there is budget.
    async fn take_turns(&self, kept: &mut Kept, after: &mut i64) -> Result<(), EngineError> {
        let (mut from, mut in_a_row) = (*after, 0);
        let mut whole = from == 0;
        loop {
            // As it is told now: a round takes hours, and after a reload who is looked at by the old mapping counts as done.
            let Some((_, ready)) = self.ready_firms() else { return Ok(()) };
            let now = self.now();
            // For most, nothing is to be written: that is found out for many at once.
            let (last, due) = self.store.write(move |tx| turn::due(tx, from, &ready, now)).await?;
            let Some(last) = last else {
                *after = 0;
                if whole {
                    return Ok(());
                }
                // It began where the last one ended: once round.
                (from, whole) = (0, true);
                continue;
            };
            from = last;
            for firm in due {
                self.go_on()?;
                loop {
                    match self.take_turn(firm, kept).await {
                        // There may be more of the same company: its contacts after its fields, say.
                        Ok(Went::On) => in_a_row = 0,
                        Ok(Went::Done) => break,
                        Ok(Went::NoBudget) => return Ok(()),
                        Err(error) => {
                            let Some(row) = self.store.read(move |tx| tx.firm(firm)).await? else { return Err(error) };
                            self.pass_over(&row, error, &mut in_a_row, |firm, at| Firm { due: Some(at), ..firm })
                                .await?;
                            break;
                        }
                    }
                }
                *after = firm;
            }
        }
    }

    /// What a run would do.
    pub(super) async fn rehearse_firms(&self) -> Result<Rehearsal, EngineError> {
        let Some((_, ready)) = self.ready_firms() else { return Ok(Rehearsal::default()) };
        let mut would = Rehearsal { new_attributes: ready.missing.clone(), ..Rehearsal::default() };
        self.store.write(|tx| tx.add_firms()).await?;
        let mut after = 0;
        loop {
            let (from, now, ready) = (after, self.now(), ready.clone());
            let (last, more) = self.store.read(move |tx| turn::rehearse(tx, from, &ready, now)).await?;
            let Some(last) = last else { return Ok(would) };
            after = last;
            would.make += more.make;
            would.update += more.update;
            would.link += more.link;
            would.update_in_intercom += more.update_in_intercom;
        }
    }

    /// How long a loop of their own may rest.
    pub(super) async fn until_firms(&self, longest: Duration) -> Result<Duration, EngineError> {
        if self.ready_firms().is_none() || !self.may_ask_about_companies() {
            return Ok(longest);
        }
        let rest_until = self.keeping_firms.try_lock().ok().and_then(|round| round.rest_until);
        let next: Option<DateTime<Utc>> = self.store.read(|tx| tx.next_firm()).await?;
        let next = next.map(|next| rest_until.map_or(next, |until| next.max(until)));
        let left = next.map_or(longest, |next| (next - self.now()).to_std().unwrap_or_default());
        // What is due and could not be done is not tried all the time.
        Ok(left.clamp(Duration::from_secs(5).min(longest), longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_beyond_the_budget_takes_its_hours() {
        let counts = |to_make, waiting, in_import| FirmCounts { to_make, waiting, in_import, ..FirmCounts::default() };
        assert_eq!(estimate(&counts(0, 0, 0), None), None);
        assert_eq!(estimate(&counts(30, 40, 0), Some(10)), Some(TimeDelta::hours(1)));
        assert_eq!(estimate(&counts(30, 0, 0), Some(60)), Some(TimeDelta::zero()));
        assert_eq!(estimate(&counts(30_000, 0, 0), None), Some(TimeDelta::minutes(4)), "by import");
        assert_eq!((spare_of(100, 100), spare_of(100, 40), spare_of(100, 0)), (60, 0, 0));
    }
}
