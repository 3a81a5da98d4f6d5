//! `run`: the schedule, and live work beside it. Two loops share the store: one reads on schedule and pushes what that
//! finds; the other acts on webhooks at once, so that a backfill never delays a person's edit.

use super::cycle::{Silent, Summary, passes, stops_everything};
use super::{Connection, EngineError};
use crate::config::{Every, ScheduleConfig};
use crate::model::{ErrorKind, Priority, Resource, Scope, SideError, SideName};
use crate::store::links::Dirty;
use crate::store::progress::JobTimes;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

/// How long webhooks for one person are gathered before they are acted on.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often opt-outs are looked for while other writes go out.
const OPT_OUTS_LOOK: Duration = Duration::from_millis(500);
/// How long the loops sleep at most when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often unfinished imports are looked after.
const IMPORT_LOOK: Duration = Duration::from_secs(2);
/// How often the store is asked for orders of other commands.
const ORDERS_LOOK: Duration = Duration::from_secs(1);
/// How long after a failure a loop tries again.
const AFTER_FAILURE: Duration = Duration::from_secs(15);

/// One thing that the schedule runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    side: SideName,
    resource: Resource,
    full: bool,
}

impl Job {
    const ALL: [Self; 7] = [
        Self { side: SideName::Brevo, resource: Resource::Contacts, full: true },
        Self { side: SideName::Brevo, resource: Resource::Contacts, full: false },
        Self { side: SideName::Intercom, resource: Resource::Companies, full: true },
        Self { side: SideName::Intercom, resource: Resource::Contacts, full: true },
        Self { side: SideName::Intercom, resource: Resource::Contacts, full: false },
        Self { side: SideName::Intercom, resource: Resource::Conversations, full: true },
        Self { side: SideName::Intercom, resource: Resource::Conversations, full: false },
    ];

    fn name(self) -> String {
        let depth = if self.full { "full" } else { "incremental" };
        format!("{} {} {depth}", self.side.as_str(), self.resource.as_str())
    }

    fn every(self, schedule: &ScheduleConfig) -> &Every {
        let resource = match (self.side, self.resource) {
            (SideName::Brevo, _) => &schedule.brevo_contacts,
            (_, Resource::Companies) => &schedule.companies,
            (_, Resource::Conversations) => &schedule.conversations,
            _ => &schedule.contacts,
        };
        if self.full { &resource.full } else { &resource.incremental }
    }
}

/// The name under which the schedule knows the full read of a resource.
pub(super) fn full_job(side: SideName, resource: Resource) -> String {
    Job { side, resource, full: true }.name()
}

/// A connection left running.
pub struct Daemon {
    connection: Arc<Connection>,
    /// Rung when a run has been ordered.
    ordered: tokio::sync::Notify,
    schedule: std::sync::Mutex<Arc<ScheduleConfig>>,
}

impl Daemon {
    /// A daemon for a connection.
    pub fn new(connection: Arc<Connection>, schedule: ScheduleConfig) -> Self {
        Self { connection, ordered: tokio::sync::Notify::new(), schedule: std::sync::Mutex::new(Arc::new(schedule)) }
    }

    /// Runs until asked to stop. What is in flight is finished; what waits is in the store.
    ///
    /// # Errors
    /// Only what makes going on pointless: the state cannot be used, or the accounts are not the state's.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), EngineError> {
        // What a daemon before this one had begun: whoever placed it was told that it stopped.
        self.connection.abandon_orders().await?;
        let work = async {
            // The first look at the accounts may try for minutes while a vendor is down.
            tokio::select! {
                biased;
                () = self.stop_softly(&stop) => return Ok(()),
                started = self.start(&stop) => started?,
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            let (live, scheduled, telling, firms) = tokio::join!(
                Box::pin(self.live(&stop)),
                Box::pin(self.scheduled(&stop)),
                Box::pin(self.telling(&stop)),
                Box::pin(self.firms(&stop))
            );
            live.and(scheduled).and(telling).and(firms)
        };
        let asked = async {
            stop.cancelled().await;
            self.connection.wind_down();
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            biased;
            () = asked => Ok(()),
            outcome = work => outcome,
            () = self.watch_orders() => Ok(()),
        };
        self.connection.wound_down();
        self.connection.abandon_orders().await?;
        outcome
    }

    /// Looks for orders, for as long as it is let. Quick ones are carried out at once; a run is left to the schedule's
    /// loop, so that no resource is read twice at a time.
    async fn watch_orders(&self) {
        let mut well = true;
        loop {
            tokio::time::sleep(ORDERS_LOOK).await;
            match self.connection.take_quick_orders().await {
                Ok(runs) => {
                    well = true;
                    if runs {
                        self.ordered.notify_one();
                    }
                }
                Err(error) => {
                    // A full disk is told once, not every second.
                    if std::mem::take(&mut well) {
                        report("looking for orders", &error);
                    }
                }
            }
        }
    }

    /// New settings and schedule after a reload. What the old ones had in flight is finished first.
    ///
    /// # Errors
    /// If the new mapping does not fit the account; the old one stays then.
    pub async fn reload(&self, settings: super::Settings, schedule: ScheduleConfig) -> Result<(), EngineError> {
        self.connection.prepare_with(Arc::new(settings)).await?;
        *self.schedule.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(schedule);
        self.connection.bell.notify_one();
        self.take_up_schedule().await
    }

    /// What recurs otherwise than before does not wait for the time that the schedule of before has named.
    async fn take_up_schedule(&self) -> Result<(), EngineError> {
        let schedule = self.schedule();
        let firms = &schedule.brevo_companies;
        let jobs = Job::ALL.iter().map(|job| (job.name(), job.every(&schedule)));
        let jobs = jobs.chain([(super::firms::job(true), &firms.full), (super::firms::job(false), &firms.incremental)]);
        let jobs: Vec<(String, String)> = jobs.map(|(name, every)| (name, format!("{every:?}"))).collect();
        self.connection
            .store
            .write(move |tx| {
                for (name, every) in &jobs {
                    let key = format!("schedule of {name}");
                    let before = tx.meta(&key)?;
                    if before.as_ref() == Some(every) {
                        continue;
                    }
                    tx.set_meta(&key, every)?;
                    let times = tx.job(name)?;
                    if before.is_some() && times.last_began.is_some() {
                        tx.put_job(name, &JobTimes { next_at: None, ..times })?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    fn schedule(&self) -> Arc<ScheduleConfig> {
        Arc::clone(&self.schedule.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Finds out about the accounts, trying again while a vendor is down. Webhooks are kept meanwhile.
    async fn start(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        loop {
            match self.connection.prepare(false).await {
                Ok(_) => break,
                // A refusal of what an earlier attempt may have done (made an attribute, say) may be but its echo.
                Err(EngineError::Side(error)) if error.is_transient() || error.earlier_may_land => {
                    tracing::warn!("not ready yet, trying again in {} s: {error}", AFTER_FAILURE.as_secs());
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.connection.recover().await?;
        self.take_up_schedule().await?;
        self.connection.follow_up(Priority::Live).await
    }

    /// Webhooks, and whatever is more urgent than a sweep.
    async fn live(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        let connection = &self.connection;
        loop {
            // Interest is registered before the store is asked, so that a webhook that comes meanwhile is not missed.
            let rung = connection.bell.notified();
            let outcome = tokio::select! {
                biased;
                () = self.stop_softly(stop) => return Ok(()),
                outcome = self.live_once() => outcome,
            };
            let pause = match outcome {
                Ok(()) => connection.until_due(LONGEST_SLEEP).await.unwrap_or(AFTER_FAILURE),
                Err(error) => {
                    connection.note_refusal(&error).await;
                    report("live work", &error);
                    if matches!(error, EngineError::Stopped) {
                        return Ok(());
                    }
                    AFTER_FAILURE
                }
            };
            if !rest(stop, rung, pause).await {
                return Ok(());
            }
        }
    }

    /// What goes to Intercom, opt-outs first: beside all else, so that neither vendor's troubles delay those of the other.
    async fn telling(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        let connection = &self.connection;
        loop {
            let rung = connection.tell_bell.notified();
            let outcome = tokio::select! {
                biased;
                () = self.stop_softly(stop) => return Ok(()),
                outcome = connection.tell_and_write_back(Priority::Live) => outcome,
            };
            let pause = match outcome {
                Ok(_) => connection.until_told(LONGEST_SLEEP).await.unwrap_or(AFTER_FAILURE),
                Err(EngineError::Stopped) => return Ok(()),
                Err(error) => {
                    report("writing to Intercom", &error);
                    AFTER_FAILURE
                }
            };
            if !rest(stop, rung, pause).await {
                return Ok(());
            }
        }
    }

    /// Company objects: beside all else, because their budget is an hour's.
    async fn firms(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        let connection = &self.connection;
        loop {
            let outcome = tokio::select! {
                biased;
                () = self.stop_softly(stop) => return Ok(()),
                outcome = self.firms_once() => outcome,
            };
            let pause = match outcome {
                Ok(()) => connection.until_firms(LONGEST_SLEEP).await.unwrap_or(AFTER_FAILURE),
                Err(EngineError::Stopped) => return Ok(()),
                Err(error) => {
                    connection.note_refusal(&error).await;
                    report("companies", &error);
                    LONGEST_SLEEP
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn firms_once(&self) -> Result<(), EngineError> {
        let connection = &self.connection;
        if connection.ready_firms().is_none() {
            return Ok(());
        }
        match connection.read_brevo_companies_when_due(&self.schedule()).await {
            // What is known of them is as good as it was.
            Err(error) if !stops_everything(&error) => report("companies", &error),
            read => read?,
        }
        let kept = connection.keep_firms().await?;
        if kept.made + kept.imported + kept.updated + kept.linked + kept.written_back > 0 {
            tracing::info!(
                made = kept.made,
                imported = kept.imported,
                updated = kept.updated,
                linked = kept.linked,
                changed_in_intercom = kept.written_back,
                failed = kept.failed,
                waiting = kept.waiting,
                "companies are kept in step"
            );
        }
        Ok(())
    }

    async fn live_once(&self) -> Result<(), EngineError> {
        let connection = &self.connection;
        connection.take_in().await?;
        let first = self.opt_outs_first().await;
        // Others wait behind these reads: they go on when Intercom lets us.
        let reads = connection.unless_held(SideName::Intercom, self.read_named());
        let (read, beside) = self.with_opt_outs_beside(reads).await;
        let held = read.is_none();
        let read = read.unwrap_or(Ok(()));
        if !connection.knows_brevo().await? {
            return read;
        }
        first.and(beside)?;
        let named = connection.unless_held(SideName::Brevo, connection.read_named_in_brevo(Priority::Live)).await;
        let named = match named {
            Some(Err(error)) if !passes(&error) => return Err(error),
            Some(Ok(false)) => self.hasten().await,
            Some(read) => read.map(drop),
            None => Ok(()),
        };
        connection.place(Dirty::Live).await?;
        if let Err(error) = &read
            && !passes(error)
        {
            // Intercom lets us in no more, and an opt-out that a webhook brought still reaches Brevo.
            connection.push(Dirty::Consent, Priority::Live, &Silent).await?;
            return read;
        }
        let writes = async {
            connection.verify_unanswered(Priority::Live).await?;
            connection.push(Dirty::Live, Priority::Live, &Silent).await
        };
        let (pushed, beside) = self.with_opt_outs_beside(writes).await;
        let pushed = pushed?;
        beside?;
        if pushed.created + pushed.updated + pushed.listed > 0 {
            connection.note_let_in(&[SideName::Brevo]).await?;
        }
        connection.send_events(Priority::Live).await?;
        connection.keep_budgets().await?;
        read.and(named)?;
        if !held && !connection.wanted_conversations().await?.is_empty() {
            connection.bell.notify_one();
        }
        Ok(())
    }

    /// So many were named in Brevo that what has changed there is read page by page, now.
    async fn hasten(&self) -> Result<(), EngineError> {
        let job = Job { side: SideName::Brevo, resource: Resource::Contacts, full: false }.name();
        let now = self.connection.now();
        self.connection
            .store
            .write(move |tx| {
                let times = tx.job(&job)?;
                tx.put_job(&job, &JobTimes { next_at: Some(now), ..times })
            })
            .await?;
        self.ordered.notify_one();
        Ok(())
    }

    /// Reads what webhooks named: a first batch of it, lest an edit wait behind a thousand conversations.
    async fn read_named(&self) -> Result<(), EngineError> {
        let named = self.connection.read_what_was_named(Priority::Live).await;
        if let Err(error) = &named
            && !passes(error)
        {
            return named;
        }
        // A backfill's reads are the other loop's: they must not delay a person's edit.
        let wanted = self.connection.hydrate(Priority::Live, false).await;
        named.and(wanted.map(drop))
    }

    /// Opt-outs that webhooks have brought reach Brevo before anything is read: reads wait for Intercom's budget.
    async fn opt_outs_first(&self) -> Result<(), EngineError> {
        let connection = &self.connection;
        if !connection.has_opt_outs().await? || !connection.knows_brevo().await? {
            return Ok(());
        }
        connection.place(Dirty::Live).await?;
        connection.push(Dirty::Consent, Priority::Live, &Silent).await.map(drop)
    }

    /// The same for those that come while something else goes on that may take minutes: reads wait for Intercom's budget,
    /// and hundreds of single writes for Brevo's. What else the bell was rung for meanwhile is left for the next round.
    async fn with_opt_outs_beside<T>(&self, work: impl Future<Output = T>) -> (T, Result<(), EngineError>) {
        let over = CancellationToken::new();
        let work = async {
            let done = work.await;
            over.cancel();
            done
        };
        let (done, (rung, beside)) = tokio::join!(work, self.opt_outs_beside(&over));
        if rung {
            self.connection.bell.notify_one();
        }
        (done, beside)
    }

    /// Whether the bell was rung until it was over.
    async fn opt_outs_beside(&self, over: &CancellationToken) -> (bool, Result<(), EngineError>) {
        let mut rung = false;
        loop {
            let came = tokio::select! {
                biased;
                () = over.cancelled() => return (rung, Ok(())),
                () = self.connection.bell.notified() => true,
                // Somebody for whom something else is about to be sent is left to us, once that push comes to them.
                () = tokio::time::sleep(OPT_OUTS_LOOK) => false,
            };
            let done = async {
                if came {
                    rung = true;
                    tokio::time::sleep(DEBOUNCE).await;
                    self.connection.take_in().await?;
                }
                self.opt_outs_first().await
            };
            let done = done.await;
            if done.is_err() {
                return (rung, done);
            }
        }
    }

    /// Reads on schedule. One job at a time: a run of a resource never overlaps itself.
    async fn scheduled(&self, stop: &CancellationToken) -> Result<(), EngineError> {
        loop {
            // Somebody waits for what was ordered; and what it reads, the schedule need not read at once.
            let outcome = tokio::select! {
                biased;
                () = self.stop_softly(stop) => return Ok(()),
                outcome = self.connection.carry_out_orders() => outcome,
            };
            if let Err(error) = outcome {
                report("an order", &error);
            }
            let mut next = LONGEST_SLEEP;
            // A full disk or a busy file passes: the schedule goes on then.
            let due = match self.due(&mut next).await {
                Ok(due) => due,
                Err(error) => {
                    report("the schedule", &error);
                    next = AFTER_FAILURE;
                    Vec::new()
                }
            };
            let work = async {
                let mut refused = None;
                for job in &due {
                    match self.run_job(*job).await {
                        // A vendor that does not let us in keeps nothing of the other's from being read.
                        Err(error @ EngineError::Side(_)) => refused = refused.or(Some(error)),
                        done => done?,
                    }
                    if self.connection.has_ordered_run().await? {
                        return Ok(());
                    }
                }
                match refused {
                    Some(error) => Err(error),
                    None => self.push_backlog(!due.is_empty()).await,
                }
            };
            let outcome = tokio::select! {
                biased;
                () = self.stop_softly(stop) => return Ok(()),
                outcome = work => outcome,
            };
            if let Err(error) = outcome {
                self.connection.note_refusal(&error).await;
                report("scheduled work", &error);
                next = AFTER_FAILURE;
            } else if !due.is_empty() {
                next = Duration::ZERO;
            } else if self.connection.has_imports().await.unwrap_or(false) {
                // How often Brevo is asked about them is the imports' own affair.
                next = next.min(IMPORT_LOOK);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.ordered.notified() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// What is in flight gets a few seconds to end; a sweep goes on later where its cursor stands.
    async fn stop_softly(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(super::GRACE).await;
    }

    /// The jobs that are due now; how long until the next.
    async fn due(&self, next: &mut Duration) -> Result<Vec<Job>, EngineError> {
        let connection = &self.connection;
        let (schedule, now) = (self.schedule(), connection.now());
        let taking_part = connection.resources(&std::collections::BTreeSet::new());
        let mut due = Vec::new();
        for job in Job::ALL {
            if job.side == SideName::Intercom && !taking_part.contains(&job.resource) {
                continue;
            }
            let name = job.name();
            let times = connection.store.read(move |tx| tx.job(&name)).await?;
            let at = match (times.last_began, times.next_at) {
                // Never run: a full read comes first, whatever the cron line says; the first incremental one follows.
                (None, _) if job.full => Some(now),
                (_, Some(at)) => Some(at),
                (began, None) => {
                    let chance = connection.doors.rng.unit();
                    let at = job.every(&schedule).next_after(began.unwrap_or(now), schedule.jitter, chance);
                    let (name, kept) = (job.name(), JobTimes { next_at: at, ..times });
                    connection.store.write(move |tx| tx.put_job(&name, &kept)).await?;
                    at
                }
            };
            match at {
                // Overdue after downtime: runs once.
                Some(at) if at <= now => due.push(job),
                Some(at) => *next = (*next).min((at - now).to_std().unwrap_or_default()),
                None => {}
            }
        }
        // A full read makes the incremental one of the same resource superfluous.
        let fulls: Vec<Job> = due.iter().copied().filter(|job| job.full).collect();
        due.retain(|job| job.full || !fulls.iter().any(|full| (full.side, full.resource) == (job.side, job.resource)));
        Ok(due)
    }

    async fn run_job(&self, job: Job) -> Result<(), EngineError> {
        let connection = &self.connection;
        let began = connection.now();
        let name = job.name();
        let kind = name.clone();
        let run = connection.store.write(move |tx| tx.begin_run(&kind, began)).await?;
        let (result, held) = if let Some(result) = connection.unless_held(job.side, self.read(job)).await {
            (result, None)
        } else {
            let (error, left) = held_back(connection, job.side);
            (Err(error), Some(left))
        };
        match &result {
            Ok(_) => connection.note_let_in(&[job.side]).await?,
            Err(error) => connection.note_refusal(error).await,
        }
        let ended = connection.now();
        let (outcome, summary) = match &result {
            Ok(words) => ("ok", words.clone()),
            Err(error) => ("failed", error.to_string()),
        };
        let schedule = self.schedule();
        let chance = connection.doors.rng.unit();
        let next_at = match &result {
            Ok(_) => job.every(&schedule).next_after(began, schedule.jitter, chance),
            Err(_) => Some(ended + TimeDelta::from_std(held.unwrap_or(AFTER_FAILURE)).unwrap_or_default()),
        };
        connection
            .store
            .write(move |tx| {
                tx.end_run(run, outcome, &summary, ended)?;
                tx.put_job(&name, &JobTimes { last_began: Some(began), last_ended: Some(ended), next_at })
            })
            .await?;
        match result {
            Ok(_) => Ok(()),
            Err(error) if stops_everything(&error) => Err(error),
            Err(error) => {
                report("a scheduled read", &error);
                Ok(())
            }
        }
    }

    async fn read(&self, job: Job) -> Result<String, EngineError> {
        let connection = &self.connection;
        let scope = connection.next_scope(job.side, job.resource, job.full).await?;
        if job.side == SideName::Intercom && job.resource == Resource::Contacts {
            let tags = connection.resources(&[Resource::Tags].into());
            for resource in tags {
                connection.sweep(SideName::Intercom, resource, Scope::Full, Priority::Live, &Silent).await?;
            }
        }
        let priority = if matches!(scope, Scope::Full) { Priority::Backfill } else { Priority::Live };
        let swept = connection.sweep(job.side, job.resource, scope, priority, &Silent).await?;
        let (rows, changed) = (swept.rows, swept.changed);
        tracing::debug!(job = %job.name(), rows, changed, "a scheduled read ended");
        if job.full && job.resource == Resource::Contacts {
            connection.store.write(|tx| tx.mark_all_for_sweep()).await?;
        }
        if job.full && job.resource == Resource::Companies {
            connection.store.write(|tx| tx.mark_all_firms()).await?;
        }
        Ok(serde_json::to_string(&swept).unwrap_or_default())
    }

    /// Writes what the reads have found, and what waits from before.
    async fn push_backlog(&self, read: bool) -> Result<(), EngineError> {
        let connection = &self.connection;
        let now = connection.now();
        let work = connection.store.read(move |tx| Ok(tx.has_work()? || !tx.missing_due(now, 1)?.is_empty())).await?;
        // Nothing could be written; and what follows it would wait.
        if connection.is_held(SideName::Brevo) {
            return Ok(());
        }
        if (!read && !work) || !self.connection.knows_brevo().await? {
            return Ok(());
        }
        let mut summary = Summary::default();
        // An import that takes hours must not keep the schedule waiting.
        let settled = connection.settle_everything(&mut summary, Priority::Backfill, false, &Silent).await;
        if let Err(error) = &settled
            && !passes(error)
        {
            return settled;
        }
        if summary.written.requests > 0 {
            let (began, text) = (connection.now(), serde_json::to_string(&summary).unwrap_or_default());
            let outcome = summary.outcome();
            summary.log("what the schedule's reads found is written");
            connection
                .store
                .write(move |tx| {
                    let run = tx.begin_run("push", began)?;
                    tx.end_run(run, outcome, &text, began)
                })
                .await?;
        }
        settled
    }
}

/// That a read was dropped, and for how long it has to wait.
fn held_back(connection: &Connection, side: SideName) -> (EngineError, Duration) {
    let left = connection.side(side).held_back().unwrap_or_default();
    let words = format!("it lets us ask nothing for {} s; the read goes on then", left.as_secs());
    (SideError::new(side, ErrorKind::Throttled, words).into(), left)
}

/// Waits until there may be something to do. `false`: we are to stop.
async fn rest(stop: &CancellationToken, rung: Notified<'_>, longest: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => return false,
        () = rung => tokio::time::sleep(DEBOUNCE).await,
        () = tokio::time::sleep(longest) => {}
    }
    true
}

fn report(what: &str, error: &EngineError) {
    match error {
        EngineError::Stopped => tracing::debug!("{what}: stopped"),
        EngineError::Side(error) if error.is_transient() => {
            tracing::warn!("{what}: {error}; it goes on by itself");
        }
        error => tracing::error!("{what}: {}{}", error.for_log(), error.arrow_to_remedy()),
    }
}
