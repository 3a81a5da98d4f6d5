//! A whole run: read both sides, place, push, read back, until nothing is left to do.

use super::pull::Swept;
use super::push::Pushed;
use super::{Connection, EngineError};
use crate::model::{Priority, Resource, Scope, SideName};
use crate::store::StoreError;
use crate::store::links::Dirty;
use crate::store::progress::JobTimes;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a run is busy with, for progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Finding out about the accounts.
    Preparing,
    /// Reading a side's resource.
    Reading(SideName, Resource),
    /// Reading what pages show only in part.
    Completing,
    /// Deciding who is who.
    Placing,
    /// Writing to Brevo.
    Writing,
    /// Waiting for imports and reading them back.
    ReadingBack,
    /// An import's answer was lost: waiting until it cannot land any more.
    AwaitingLanding(DateTime<Utc>),
    /// Brevo is at an import: waiting for its end, until then at most.
    AwaitingImport(DateTime<Utc>),
    /// Sending events.
    Events,
}

/// Told how far a run is.
pub trait Progress: Send + Sync {
    /// `done` of `total` (where known) of a stage.
    fn stage(&self, stage: Stage, done: u64, total: Option<u64>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _stage: Stage, _done: u64, _total: Option<u64>) {}
}

/// What `sync` is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SyncOptions {
    /// Read everything, not only what changed.
    pub full: bool,
    /// Read only what was created at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Which of Intercom's resources; empty: all that the config switches on.
    pub resources: BTreeSet<Resource>,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What was read, by side and resource.
    pub read: BTreeMap<String, Swept>,
    /// What was written.
    pub written: Pushed,
    /// Rows of imports that were read back.
    pub read_back: u64,
    /// Of these, rows that had not landed: they went again, on their own.
    #[serde(default)]
    pub lost: u64,
    /// Events accepted.
    pub events: u64,
    /// Resources that could not be read, and why. The others went on.
    pub failed_reads: BTreeMap<String, String>,
    /// Left to do: people that wait for another try, or a write whose outcome is being verified.
    pub pending: u64,
    /// Records and fields that are refused or left out.
    pub failed: u64,
    /// Of these, what no vendor has seen: left out by ourselves.
    #[serde(default)]
    pub left_out: u64,
    /// Company objects.
    #[serde(default)]
    pub companies: super::Kept,
    /// What the limits on harm hold.
    #[serde(default)]
    pub held: Vec<super::Held>,
    /// Resources of Intercom's that have never been read whole: what fields and lists are made of them rests.
    #[serde(default)]
    pub unread: Vec<String>,
}

impl Summary {
    /// Something was written, and none of it was taken.
    pub fn nothing_accepted(&self) -> bool {
        let Pushed { created, updated, listed, imported, opted_out, written_back, created_in_intercom, failed, .. } =
            self.written;
        let intercom = opted_out + written_back + created_in_intercom + self.written.opted_in + self.written.parted;
        failed > 0 && created + updated + listed + intercom + imported.saturating_sub(self.lost) + self.events == 0
    }

    /// `ok`, `partial` (something could not be read or written), `failed` (nothing could).
    pub fn outcome(&self) -> &'static str {
        let nothing_read = !self.failed_reads.is_empty() && self.read.is_empty();
        if self.nothing_accepted() || nothing_read {
            "failed"
        } else if !self.failed_reads.is_empty() || self.written.failed > 0 || self.companies.failed > 0 {
            "partial"
        } else {
            "ok"
        }
    }

    /// For a daemon's log: how it ended, in numbers.
    pub(super) fn log(&self, what: &str) {
        let Pushed { created, updated, listed, imported, opted_out, written_back, created_in_intercom, failed, .. } =
            self.written;
        tracing::info!(
            outcome = self.outcome(),
            read = self.read.values().map(|swept| swept.rows).sum::<u64>(),
            created,
            updated,
            listed,
            imported,
            opted_out_in_intercom = opted_out,
            changed_in_intercom = written_back,
            created_in_intercom,
            events = self.events,
            failed,
            pending = self.pending,
            "{what}"
        );
    }
}

/// What was read whole, and when that began.
type WholeRead = (SideName, Resource, DateTime<Utc>);

/// How long a request may take from being handed over to landing: it waits for its turn as often as it is tried, each
/// time ten minutes at most, and lands within four.
const LONGEST_WAY: chrono::TimeDelta = chrono::TimeDelta::minutes(45);
/// Rounds of planning and pushing in one run; a person that needs more waits for the next.
const MOST_ROUNDS: usize = 12;

/// The state belongs to other accounts, or to a newer program.
fn is_of_others(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(StoreError::OtherPair { .. } | StoreError::Newer { .. }))
}

impl Connection {
    /// One whole run. A resource that cannot be read does not keep the others from it.
    ///
    /// # Errors
    /// If an account does not let us in, the state cannot be written, or nothing at all could be done.
    pub async fn sync(&self, options: &SyncOptions, progress: &dyn Progress) -> Result<Summary, EngineError> {
        let result = self.run_once(options, progress).await;
        // Nothing of ours is in flight any more: the next start has nothing to wait for.
        if !result.as_ref().is_err_and(is_of_others) {
            self.store.write(|tx| tx.set_meta("at_work", "no")).await?;
        }
        result
    }

    /// One whole run, noted among the runs. Others may be at work beside it.
    pub(super) async fn run_once(
        &self,
        options: &SyncOptions,
        progress: &dyn Progress,
    ) -> Result<Summary, EngineError> {
        let kind = match options {
            SyncOptions { full: true, .. } => "sync --full",
            SyncOptions { since: Some(_), .. } => "sync --since",
            _ => "sync",
        };
        let began = self.now();
        progress.stage(Stage::Preparing, 0, None);
        let prepared = if self.ready().is_none() { self.prepare(false).await.map(drop) } else { Ok(()) };
        let prepared = match prepared {
            // The state of another pair of accounts is not touched, not even to note that we tried.
            Err(error) if is_of_others(&error) => return Err(error),
            prepared => prepared,
        };
        let run = self.store.write(move |tx| tx.begin_run(kind, began)).await?;
        let result = match prepared {
            Ok(()) => self.sync_inner(options, progress).await,
            Err(error) => Err(error),
        };
        let (outcome, text) = match &result {
            // The accounts let us in: that is not the run's failure.
            Ok(summary) if summary.nothing_accepted() => {
                ("refused", EngineError::EverythingFailed(summary.written.failed).to_string())
            }
            Ok(summary) => (summary.outcome(), serde_json::to_string(summary).unwrap_or_default()),
            Err(error) => ("failed", error.to_string()),
        };
        match &result {
            Err(error) => self.note_refusal(error).await,
            Ok(summary) => {
                for side in [SideName::Intercom, SideName::Brevo] {
                    if summary.read.keys().any(|read| read.starts_with(side.as_str())) {
                        self.note_let_in(&[side]).await?;
                    }
                }
            }
        }
        let ended = self.now();
        self.store.write(move |tx| tx.end_run(run, outcome, &text, ended)).await?;
        result
    }

    async fn sync_inner(&self, options: &SyncOptions, progress: &dyn Progress) -> Result<Summary, EngineError> {
        self.recover().await?;
        let mut summary = Summary::default();
        let whole = self.read_all(options, &mut summary, progress).await?;
        self.note_whole(whole).await?;
        if options.full {
            // In a sweep, drift is restored.
            self.store.write(|tx| tx.mark_all_for_sweep().and_then(|_| tx.mark_all_firms())).await?;
        }
        self.settle_everything(&mut summary, Priority::Backfill, true, progress).await?;
        // Who belongs to a company is linked once they exist in Brevo.
        summary.companies = self.keep_firms_in_a_run().await?;
        self.count(&mut summary).await?;
        Ok(summary)
    }

    /// After a start: if the last run did not end by itself, writes that had left without an answer may still land for a
    /// while. A run that ended has waited for its answers: counting anew at each start would put the verifying read off
    /// for ever. Once a process.
    pub(super) async fn recover(&self) -> Result<(), EngineError> {
        if self.recovered.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Ok(());
        }
        let verify_after = self.late_landing();
        let now = self.now();
        let landed_by = super::imports::lands_by(now);
        let reopened = self
            .store
            .write(move |tx| {
                let cut_off = tx.meta("at_work")?.as_deref() == Some("yes");
                tx.set_meta("at_work", "yes")?;
                if !cut_off {
                    return Ok(0);
                }
                tx.reopen_unanswered_imports(landed_by, LONGEST_WAY)?;
                super::firms::reopen_import(tx, now)?;
                Ok(tx.reopen_unanswered(verify_after)?
                    + tx.reopen_unanswered_events(verify_after)?
                    + tx.reopen_carried(verify_after)?
                    + tx.reopen_write_backs(verify_after)?
                    + tx.reopen_partings(verify_after)?
                    + tx.reopen_opt_ins(verify_after)?
                    + tx.reopen_firms(verify_after)?)
            })
            .await?;
        if reopened > 0 {
            tracing::info!(reopened, "writes without an answer from before: verified once they cannot land any more");
        }
        Ok(())
    }

    async fn count(&self, summary: &mut Summary) -> Result<(), EngineError> {
        let now = self.now();
        let ready = self.require_ready()?;
        let (counts, holds, newcomers, unread) = self
            .store
            .read(move |tx| {
                let unread = super::unread::unread(tx, &ready)?;
                Ok((tx.counts()?, tx.current_holds(now)?, tx.count_newcomers()?, unread))
            })
            .await?;
        summary.unread = unread.into_iter().map(|(resource, _)| resource.as_str().to_owned()).collect();
        let open = holds.into_iter().filter(|hold| hold.state == crate::store::harm::HoldState::Open);
        summary.held = open.map(|hold| super::Held { id: hold.id, kind: hold.kind, wanted: hold.wanted }).collect();
        summary.pending = counts.pending + newcomers;
        summary.failed = counts.failed;
        summary.left_out = counts.left_out;
        Ok(())
    }

    /// Intercom's resources that take part, in the order in which they are read: what a contact's plan needs first.
    pub(super) fn resources(&self, asked: &BTreeSet<Resource>) -> Vec<Resource> {
        let told = self.told.load();
        let (sync, ready) = (told.settings.sync, told.ready.as_ref());
        let uses_tags = ready.is_some_and(|ready| ready.uses_tags);
        let uses_companies = ready.is_some_and(|ready| ready.uses_companies);
        [
            (Resource::Tags, sync.tags && uses_tags),
            (Resource::Companies, sync.companies && uses_companies),
            (Resource::Contacts, sync.contacts),
            (Resource::Conversations, sync.conversations),
        ]
        .into_iter()
        .filter(|(resource, on)| *on && (asked.is_empty() || asked.contains(resource)))
        .map(|(resource, _)| resource)
        .collect()
    }

    pub(super) async fn read_all(
        &self,
        options: &SyncOptions,
        summary: &mut Summary,
        progress: &dyn Progress,
    ) -> Result<Vec<WholeRead>, EngineError> {
        let mut whole = Vec::new();
        // Brevo first: who exists there decides who is made.
        let began = self.now();
        let scope = self.next_scope(SideName::Brevo, Resource::Contacts, options.full).await?;
        let swept = self.sweep(SideName::Brevo, Resource::Contacts, scope, Priority::Backfill, progress).await?;
        summary.read.insert("brevo contacts".to_owned(), swept);
        if scope == Scope::Full {
            whole.push((SideName::Brevo, Resource::Contacts, began));
        }
        if self.ready_firms().is_some() {
            let read = self.read_brevo_companies(options.full, progress).await;
            self.note_failed_read("brevo companies", read, &mut summary.failed_reads)?;
        }
        for resource in self.resources(&options.resources) {
            let scope = match options.since {
                Some(since) if resource != Resource::Tags => Scope::CreatedSince(since),
                _ => self.next_scope(SideName::Intercom, resource, options.full).await?,
            };
            let began = self.now();
            let name = format!("intercom {}", resource.as_str());
            match self.sweep(SideName::Intercom, resource, scope, Priority::Backfill, progress).await {
                Ok(swept) => {
                    *summary.read.entry(name).or_default() += swept;
                    if scope == Scope::Full {
                        whole.push((SideName::Intercom, resource, began));
                    }
                }
                Err(error) => self.note_failed_read(&name, Err::<(), _>(error), &mut summary.failed_reads)?,
            }
        }
        Ok(whole)
    }

    /// What cannot be read keeps nothing else from being read; unless nothing can be.
    #[expect(clippy::unused_self, reason = "reads like the steps around it")]
    fn note_failed_read<T>(
        &self,
        name: &str,
        read: Result<T, EngineError>,
        failed: &mut BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        match read {
            Ok(_) => Ok(()),
            Err(error) if stops_everything(&error) => Err(error),
            Err(error) => {
                let words = format!("{error}{}", error.arrow_to_remedy());
                tracing::warn!(resource = name, "could not be read: {words}");
                failed.insert(name.to_owned(), words);
                Ok(())
            }
        }
    }

    /// The schedule knows what was read whole: a daemon that starts after a `sync` need not read it all again at once.
    async fn note_whole(&self, whole: Vec<WholeRead>) -> Result<(), EngineError> {
        let ended = self.now();
        self.store
            .write(move |tx| {
                for (side, resource, began) in &whole {
                    let times = JobTimes { last_began: Some(*began), last_ended: Some(ended), next_at: None };
                    tx.put_job(&super::daemon::full_job(*side, *resource), &times)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Plans and writes until nothing is left that can be done now. That Intercom could not show something for now keeps
    /// nothing else from being done; it is told at the end.
    pub(super) async fn settle_everything(
        &self,
        summary: &mut Summary,
        priority: Priority,
        wait: bool,
        progress: &dyn Progress,
    ) -> Result<(), EngineError> {
        // A daemon has other things to do than to wait for Intercom; a run that somebody started has not.
        let mut held = !wait && self.is_held(SideName::Intercom);
        let asked = async {
            self.confirm_some(wait, priority).await?;
            self.look_for_missing(priority).await
        };
        held |= !self.unless_held_if(!wait, asked).await?;
        let mut unread = None;
        for _ in 0..MOST_ROUNDS {
            self.take_in().await?;
            progress.stage(Stage::Completing, 0, None);
            if unread.is_none() && !held {
                let reads = async {
                    let named = self.read_what_was_named(Priority::Live).await;
                    let wanted = match &named {
                        Err(error) if !passes(error) => Ok(0),
                        _ => self.hydrate(priority, true).await,
                    };
                    named.and(wanted)
                };
                match self.unless_held_if(!wait, reads).await {
                    Ok(done) => held |= !done,
                    Err(error) if passes(&error) => unread = Some(error),
                    Err(error) => return Err(error),
                }
            }
            if unread.is_none() {
                match self.read_named_in_brevo(priority).await {
                    Err(error) if passes(&error) => unread = Some(error),
                    named => drop(named?),
                }
            }
            progress.stage(Stage::Placing, 0, None);
            self.place(Dirty::Backfill).await?;
            self.verify_unanswered(priority).await?;
            let mut told = Pushed::default();
            if wait {
                told += self.tell_once(priority).await?;
            }
            let pushed = self.push(Dirty::Backfill, priority, progress).await?;
            if wait {
                told += self.tell_intercom(priority).await?;
                told += self.create_back(priority).await?;
                told += self.readdress(priority).await?;
                told += self.write_back(priority).await?;
                told += self.resubscribe(priority).await?;
                told += self.part(priority).await?;
            }
            summary.written += pushed;
            summary.written += told;
            if self.has_imports().await? {
                progress.stage(Stage::ReadingBack, 0, None);
            }
            let read_back = self.finish_imports(wait, priority, progress).await?;
            summary.read_back += read_back.rows;
            summary.lost += read_back.lost;
            if pushed.planned == 0
                && read_back.rows == 0
                && told.opted_out + told.written_back + told.parted + told.opted_in + told.created_in_intercom == 0
                && !(wait && self.sits_out_a_hold().await?)
            {
                break;
            }
        }
        progress.stage(Stage::Events, 0, None);
        summary.events += self.send_events(priority).await?;
        self.prune().await?;
        unread.map_or(Ok(()), Err)
    }

    /// What a vendor that holds us back has put off goes on when it lets us: a run that somebody started waits for that.
    /// `false`: there is nothing to wait for.
    async fn sits_out_a_hold(&self) -> Result<bool, EngineError> {
        let left = SideName::BOTH.into_iter().filter_map(|side| self.side(side).held_back()).max();
        let now = self.now();
        let Some(left) = left else { return Ok(false) };
        if !self.store.read(move |tx| tx.has_put_off(now)).await? {
            return Ok(false);
        }
        tokio::time::sleep(left).await;
        self.go_on()?;
        Ok(true)
    }

    /// Reads of Intercom, dropped if it holds us back for long and `may_drop`. `false`: they were.
    async fn unless_held_if<T>(
        &self,
        may_drop: bool,
        reads: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<bool, EngineError> {
        if !may_drop {
            return reads.await.map(|_| true);
        }
        self.unless_held(SideName::Intercom, reads).await.transpose().map(|done| done.is_some())
    }

    /// Forgets what nobody needs any more.
    async fn prune(&self) -> Result<(), EngineError> {
        let now = self.now();
        let inbox = now - chrono::TimeDelta::days(super::inbox::REMEMBERED_DAYS);
        let changes = now - chrono::TimeDelta::days(90);
        self.store
            .write(move |tx| {
                tx.prune_inbox(inbox)?;
                tx.prune_late_rows(now)?;
                tx.prune_outbox(changes)?;
                tx.prune_spans(now - chrono::TimeDelta::days(2))?;
                super::safety::prune(tx, now)?;
                tx.prune_changes(changes).map(drop)
            })
            .await?;
        Ok(())
    }

    /// What would be written for one person, and why. Reads only the state.
    ///
    /// # Errors
    /// If the state cannot be read, or [`Self::prepare`] has not run.
    pub async fn preview(&self, email: Option<crate::model::Email>) -> Result<Vec<super::Preview>, EngineError> {
        const MOST: usize = 5;
        let ready = self.require_ready()?;
        Ok(self
            .store
            .write(move |tx| {
                let links = match &email {
                    Some(email) => tx.link_by_email(email)?.map(|link| link.id).into_iter().collect(),
                    None => tx.some_links(MOST)?,
                };
                let names = super::people::Names::read(tx, &ready)?;
                let mut previews = Vec::new();
                for link in links {
                    previews.extend(match super::people::gather_to_show(tx, link, &ready, &names)? {
                        Some(person) => Some(person.preview(tx, &ready)?),
                        None => super::preview::show_left(tx, link, &ready)?,
                    });
                }
                Ok(previews)
            })
            .await?)
    }

    /// How long until something that waits is due, at most `most`.
    pub(super) async fn until_due(&self, most: Duration) -> Result<Duration, EngineError> {
        let next = self.store.read(|tx| tx.next_due()).await?;
        Ok(next.map_or(most, |at| (at - self.now()).to_std().unwrap_or_default().clamp(Duration::from_secs(1), most)))
    }
}

/// An error after which there is no point in going on with the run.
pub(super) fn stops_everything(error: &EngineError) -> bool {
    match error {
        EngineError::Side(error) => matches!(error.kind, crate::model::ErrorKind::Auth(problem)
            if problem != crate::model::AuthProblem::MissingScope && problem != crate::model::AuthProblem::Plan),
        EngineError::Sweep { .. } => false,
        _ => true,
    }
}

/// An error of a vendor that may be over soon without anybody's help.
pub(super) fn passes(error: &EngineError) -> bool {
    matches!(error, EngineError::Side(error) if error.is_transient())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_which_nothing_was_accepted_has_failed_whatever_was_sent() {
        let written = |imported, created, failed| Pushed { created, imported, failed, ..Pushed::default() };
        let outcome = |written, lost| Summary { written, lost, ..Summary::default() }.outcome();
        assert_eq!(outcome(written(0, 0, 0), 0), "ok");
        assert_eq!(outcome(written(0, 0, 3), 0), "failed");
        assert_eq!(outcome(written(8, 0, 8), 8), "failed", "an import of which nothing landed is no success");
        assert_eq!(outcome(written(8, 0, 1), 1), "partial");
        assert_eq!(outcome(written(8, 1, 7), 8), "partial");
    }
}
