//! `status`: what the state knows. Reads beside a running daemon and calls nobody.

use super::approve::Held;
use super::progress::{notice_in_words, side_in_words};
use super::{CliError, Context};
use crate::config::{Config, ConsentDirection};
use crate::engine::{
    self, BREVO_WEBHOOK_SEEN, BREVO_WEBHOOK_UNKNOWN_EVENT, BREVO_WEBHOOK_UNREADABLE, WEBHOOK_OTHER_WORKSPACE,
    WEBHOOK_UNKNOWN_TOPIC, WEBHOOK_UNREADABLE,
};
use crate::model::SideName;
use crate::store::firms::FirmCounts;
use crate::store::listings::Counts;
use crate::store::progress::Run;
use crate::store::{Owner, Store, StoreError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Show it again every two seconds, until stopped
    #[arg(long)]
    watch: bool,
}

/// What is not built yet, said instead of kept quiet.
const LATER: [&str; 1] = ["custom events: come with a later version"];

/// Why nobody is connected before the first run.
const NOT_ASKED: &str =
    "not asked yet; `linkspan sync` or `linkspan run` does, `linkspan test` only tries both accounts";

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    connected: bool,
    /// Why it is not connected, and what to do.
    not_connected: Option<String>,
    /// Who does not let us in, and what helps.
    refusals: Vec<Refused>,
    intercom: Option<String>,
    brevo: Option<String>,
    /// Who holds the state: a daemon, or a sync.
    holder: Option<String>,
    /// Whether that is a daemon.
    daemon: bool,
    last_sync: Option<DateTime<Utc>>,
    contacts_synced: u64,
    conversations_synced: u64,
    companies_synced: u64,
    /// Company objects, if they are kept in step.
    company_objects: Option<CompanyObjects>,
    pending: u64,
    verifying: u64,
    /// Contacts that the last full read did not show, still to be asked for one by one.
    to_confirm: u64,
    /// Records and fields that were refused or left out.
    failed: u64,
    /// Of these, what no vendor has seen: left out by ourselves.
    left_out: u64,
    next_run: Option<DateTime<Utc>>,
    next_runs: BTreeMap<String, DateTime<Utc>>,
    api_budget: Vec<Budget>,
    notices: BTreeMap<String, u64>,
    consent_divergences: u64,
    /// Which way opt-outs travel, by the config.
    consent_direction: &'static str,
    opt_outs_to_intercom: u64,
    /// People whom `contacts.filter` leaves out in Brevo.
    left_out_by_filter: u64,
    /// People who are gone on one side, with whom something is to be done on the other.
    deletions_to_follow: u64,
    /// People with other changes on their way to Intercom.
    changes_to_intercom: u64,
    conflicts: u64,
    /// What the limits on harm hold, or have just let go.
    held: Vec<Held>,
    webhook_seen_at: Option<DateTime<Utc>>,
    webhooks_waiting: u64,
    /// Webhooks that named another workspace: kept and not acted on.
    webhooks_other_workspace: u64,
    /// Webhooks of a topic that this version does not know: kept and not acted on.
    webhooks_unknown_topic: u64,
    /// Webhooks of a known topic that name no record: kept and not acted on.
    webhooks_unreadable: u64,
    brevo_webhook_seen_at: Option<DateTime<Utc>>,
    /// People whom Brevo's webhooks named and who have not been read since.
    brevo_webhooks_to_read: u64,
    /// Events of Brevo's that this version does not know: kept and not acted on.
    brevo_webhooks_unknown_event: u64,
    /// What came in Brevo's webhooks and is no event, or names nobody.
    brevo_webhooks_unreadable: u64,
    last_run: Option<Run>,
    /// No run has ended yet.
    #[serde(skip)]
    first_run: bool,
    later: Vec<&'static str>,
}

/// How far company objects are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CompanyObjects {
    #[serde(flatten)]
    counts: FirmCounts,
    /// How long what waits will take, at Brevo's hourly budget.
    about_minutes: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    side: SideName,
    message: String,
    help: Option<String>,
    at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Budget {
    side: String,
    family: String,
    limit: u64,
    remaining: u64,
    resets_at: Option<DateTime<Utc>>,
    as_of: DateTime<Utc>,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let config = context.config()?;
    if !arguments.watch {
        return show(context, config).await;
    }
    let clear = context.printer.has_terminal();
    // Heard from the first look on: a Ctrl-C during a look would be nobody's otherwise.
    let mut stop = std::pin::pin!(super::signals::stop_asked());
    loop {
        if clear {
            context.printer.data("\u{1b}[2J\u{1b}[H");
        }
        show(context, config).await?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        if !clear && !context.printer.is_json() {
            context.printer.data("");
        }
    }
}

async fn show(context: &Context, config: &Config) -> Result<(), CliError> {
    let status = gather(config, context.doors.clock.now()).await?.unwrap_or_else(|| {
        context.printer.note(format!(
            "there is no state yet at {}; `linkspan sync` or `linkspan run` makes it",
            config.state.path.display()
        ));
        Status {
            not_connected: Some(NOT_ASKED.to_owned()),
            consent_direction: config.consent.direction.as_str(),
            later: LATER.to_vec(),
            ..Status::default()
        }
    });
    if context.printer.is_json() {
        context.printer.json(&status);
    } else {
        context.printer.pairs(&lines(&status));
    }
    Ok(())
}

/// `None`: there is no state yet.
async fn gather(config: &Config, now: DateTime<Utc>) -> Result<Option<Status>, StoreError> {
    let path = &config.state.path;
    if !path.exists() {
        return Ok(None);
    }
    let store = Store::open_read_only(path)?;
    let (keeps_companies, share) = (config.companies.is_some(), config.limits.brevo.share);
    let mut status = store
        .read(move |tx| {
            let counts = tx.counts()?;
            let runs = tx.runs(100)?;
            let (intercom, brevo) = (tx.meta("intercom")?, tx.meta("brevo")?);
            let (webhooks_waiting, _) = tx.inbox_state()?;
            let budgets = tx.budgets()?;
            let counts_of_firms = tx.firm_counts()?;
            // What was left of it when it was looked at last; an hour later all of it is there again.
            let spare = budgets.iter().find(|(side, budget, _)| side == "brevo" && budget.family == "other");
            let spare = spare.map(|(_, budget, _)| {
                let over = budget.resets_at.is_some_and(|at| at <= now);
                let left = if over { budget.limit } else { budget.remaining };
                let budget = crate::model::Budget { remaining: left, ..budget.clone() }.our_share(share);
                engine::companies_may_use(budget.limit, budget.remaining)
            });
            let company_objects = keeps_companies.then(|| CompanyObjects {
                counts: counts_of_firms,
                about_minutes: engine::company_estimate(&counts_of_firms, spare).map(|time| time.num_minutes()),
            });
            let refusals = engine::refusals(tx)?.into_iter().map(|refusal| Refused {
                side: refusal.error.side,
                message: refusal.error.to_string(),
                help: refusal.error.remedy().map(str::to_owned),
                at: refusal.at,
            });
            let next_runs = tx.jobs()?.into_iter().filter_map(|(job, times)| Some((job, times.next_at?))).collect();
            Ok(Status {
                company_objects,
                held: tx.current_holds(now)?.into_iter().map(Held::from).collect(),
                webhook_seen_at: tx.meta("webhook_seen_at")?.and_then(|text| text.parse().ok()),
                webhooks_waiting,
                webhooks_other_workspace: tx.counter(WEBHOOK_OTHER_WORKSPACE)?.unsigned_abs(),
                webhooks_unknown_topic: tx.counter(WEBHOOK_UNKNOWN_TOPIC)?.unsigned_abs(),
                webhooks_unreadable: tx.counter(WEBHOOK_UNREADABLE)?.unsigned_abs(),
                brevo_webhook_seen_at: tx.meta(BREVO_WEBHOOK_SEEN)?.and_then(|text| text.parse().ok()),
                brevo_webhooks_to_read: tx.count_brevo_hints()?,
                brevo_webhooks_unknown_event: tx.counter(BREVO_WEBHOOK_UNKNOWN_EVENT)?.unsigned_abs(),
                brevo_webhooks_unreadable: tx.counter(BREVO_WEBHOOK_UNREADABLE)?.unsigned_abs(),
                left_out_by_filter: tx.count_apart()?,
                deletions_to_follow: tx.count_partings()?,
                refusals: refusals.collect(),
                first_run: runs.iter().all(|run| run.ended_at.is_none()) && !runs.is_empty(),
                next_runs,
                api_budget: budgets
                    .into_iter()
                    .map(|(side, budget, as_of)| Budget {
                        side,
                        family: budget.family,
                        limit: budget.limit,
                        remaining: budget.remaining,
                        resets_at: budget.resets_at,
                        as_of,
                    })
                    .collect(),
                intercom,
                brevo,
                ..from(counts, &runs)
            })
        })
        .await?;
    status.holder = Owner::holder(path);
    status.consent_direction = config.consent.direction.as_str();
    // The last run that ended tells whether the accounts let us in; while the first is at work, that it could begin.
    let well = match &status.last_run {
        Some(run) => run.outcome.as_deref() != Some("failed"),
        None => status.first_run && status.holder.is_some(),
    };
    status.connected = status.intercom.is_some() && status.brevo.is_some() && status.refusals.is_empty() && well;
    status.not_connected = (!status.connected).then(|| why_not(&status));
    status.daemon = status.holder.as_deref().is_some_and(super::connect::is_daemon);
    // Without a daemon nothing is going to run.
    if !status.daemon {
        status.next_runs.clear();
    }
    status.next_run = status.next_runs.values().min().copied();
    Ok(Some(status))
}

/// Why it is not connected, and what to do.
fn why_not(status: &Status) -> String {
    let refusing: Vec<String> = status.refusals.iter().map(|refused| refused.side.to_string()).collect();
    match (&status.last_run, &status.holder) {
        _ if !refusing.is_empty() => format!("not let in by {}", refusing.join(" and ")),
        (Some(Run { outcome, .. }), _) if outcome.as_deref() == Some("failed") => {
            "the last run failed, see there; `linkspan test` tries both accounts".to_owned()
        }
        (_, Some(holder)) => format!("not asked yet; {holder} is about to"),
        (None, None) if status.first_run => {
            "the first run was cut off before it ended; `linkspan sync` or `linkspan run` goes on with it".to_owned()
        }
        _ => NOT_ASKED.to_owned(),
    }
}

fn from(counts: Counts, runs: &[Run]) -> Status {
    let worked = |run: &&Run| matches!(run.outcome.as_deref(), Some("ok" | "partial"));
    let last_run = runs.iter().find(|run| run.ended_at.is_some()).cloned().map(|run| Run {
        // A run's own summary is for `sync`; here it only counts when it went wrong.
        summary: run.summary.filter(|_| matches!(run.outcome.as_deref(), Some("failed" | "refused"))),
        ..run
    });
    Status {
        last_sync: runs.iter().filter(worked).filter_map(|run| run.ended_at).max(),
        contacts_synced: counts.contacts_synced,
        conversations_synced: counts.conversations_synced,
        companies_synced: counts.companies_synced,
        pending: counts.pending,
        verifying: counts.verifying,
        to_confirm: counts.to_confirm,
        failed: counts.failed,
        left_out: counts.left_out,
        consent_divergences: counts.notices.get("consent_diverges").copied().unwrap_or(0),
        opt_outs_to_intercom: counts.opt_outs_to_intercom,
        changes_to_intercom: counts.changes_to_intercom,
        notices: counts.notices,
        conflicts: counts.conflicts,
        last_run,
        later: LATER.to_vec(),
        ..Status::default()
    }
}

fn company_objects(companies: &CompanyObjects) -> String {
    let FirmCounts { all, linked, to_make, waiting, in_import } = companies.counts;
    let parts = [(to_make, "to be made"), (in_import, "in an import"), (waiting, "with changes on the way")];
    let parts: Vec<String> = std::iter::once(format!("{linked} of {all} in Brevo"))
        .chain(parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")))
        .collect();
    let time = match companies.about_minutes {
        None => String::new(),
        Some(0) => "; at once, as far as Brevo's hourly budget goes".to_owned(),
        Some(minutes @ ..120) => format!("; about {minutes} min at Brevo's hourly budget"),
        Some(minutes) => format!("; about {} h at Brevo's hourly budget", minutes.div_euclid(60) + 1),
    };
    parts.join(", ") + &time
}

fn consent(status: &Status) -> String {
    let way = if status.consent_direction == ConsentDirection::Both.as_str() {
        "opt-outs travel both ways"
    } else {
        "opt-outs travel from Intercom to Brevo only"
    };
    let differ = format!("{way}; {} differ between the sides", status.consent_divergences);
    match status.opt_outs_to_intercom {
        0 => differ,
        on_their_way => format!("{differ}, {on_their_way} on the way to Intercom"),
    }
}

fn lines(status: &Status) -> Vec<(&'static str, String)> {
    let at = |instant: Option<DateTime<Utc>>| {
        instant.map_or_else(|| "never".to_owned(), |instant| instant.format("%Y-%m-%d %H:%M:%S UTC").to_string())
    };
    let pair = match (&status.intercom, &status.brevo) {
        (Some(intercom), Some(brevo)) => format!(" (Intercom {intercom}, Brevo {brevo})"),
        _ => String::new(),
    };
    let connected = match &status.not_connected {
        None => format!("yes{pair}"),
        Some(why) => format!("no{pair}: {why}"),
    };
    let mut lines = vec![("connected", connected)];
    for refused in &status.refusals {
        lines.push(("", format!("{} ({})", refused.message, at(Some(refused.at)))));
        lines.extend(refused.help.iter().map(|help| ("", format!("→ {help}"))));
    }
    lines.extend([
        ("in use by", status.holder.clone().unwrap_or_else(|| "nobody: no daemon runs".to_owned())),
        ("lastSync", at(status.last_sync)),
        ("contactsSynced", status.contacts_synced.to_string()),
        ("conversationsSynced", status.conversations_synced.to_string()),
        ("companiesSynced", status.companies_synced.to_string()),
        ("pending", status.pending.to_string()),
        ("failed", failed(status)),
        ("consent", consent(status)),
        ("conflicts", status.conflicts.to_string()),
        ("webhooks", format!("last seen {}, {} waiting", at(status.webhook_seen_at), status.webhooks_waiting)),
    ]);
    for (count, words) in [
        (status.webhooks_other_workspace, "of another workspace: check where its app's webhooks point to"),
        (
            status.webhooks_unknown_topic,
            "of an unknown topic: choose only topics of contacts, companies and conversations",
        ),
        (
            status.webhooks_unreadable,
            "that name no record: what they were about arrives with the schedule; does a proxy change bodies?",
        ),
        (
            status.brevo_webhooks_unknown_event,
            "from Brevo of an unknown event: `linkspan webhooks register` chooses ours",
        ),
        (
            status.brevo_webhooks_unreadable,
            "from Brevo that name nobody: what they were about arrives with the schedule",
        ),
    ] {
        if count > 0 {
            lines.push(("", format!("{count} {words}")));
        }
    }
    if status.brevo_webhook_seen_at.is_some() || status.brevo_webhooks_to_read > 0 {
        let (seen, named) = (at(status.brevo_webhook_seen_at), status.brevo_webhooks_to_read);
        lines.push(("Brevo's webhooks", format!("last seen {seen}, {named} people to read")));
    }
    if status.left_out_by_filter > 0 {
        lines.push(("filter", format!("{} people take no part (contacts.filter)", status.left_out_by_filter)));
    }
    if status.deletions_to_follow > 0 {
        lines.push(("deletions", format!("{} to be followed on the other side", status.deletions_to_follow)));
    }
    if let Some(companies) = &status.company_objects {
        lines.push(("company objects", company_objects(companies)));
    }
    if status.changes_to_intercom > 0 {
        lines.push(("to Intercom", format!("{} people with changes on the way", status.changes_to_intercom)));
    }
    for held in &status.held {
        lines.push((if held.is_approved() { "approved" } else { "held" }, held.in_words()));
    }
    if status.verifying > 0 {
        lines.push(("verifying", format!("{} writes without an answer", status.verifying)));
    }
    if status.to_confirm > 0 {
        let words = "contacts that a full read did not show, still to be asked for one by one";
        lines.push(("to confirm", format!("{} {words}", status.to_confirm)));
    }
    if let Some(Run { kind, summary: Some(why), .. }) = &status.last_run {
        lines.push(("last run", format!("{} failed: {why}", side_in_words(kind))));
    }
    if status.next_runs.is_empty() {
        lines.push(("next run", "none is planned: no daemon runs".to_owned()));
    }
    let mut next: Vec<(&String, &DateTime<Utc>)> = status.next_runs.iter().collect();
    next.sort_by_key(|(_, at)| **at);
    for (place, (job, due)) in next.into_iter().enumerate() {
        lines.push((if place == 0 { "next run" } else { "" }, format!("{}  {}", at(Some(*due)), side_in_words(job))));
    }
    for (place, budget) in status.api_budget.iter().enumerate() {
        let text = format!(
            "{} of {} left  {} ({})",
            budget.remaining,
            budget.limit,
            side_in_words(&format!("{} {}", budget.side, budget.family)),
            budget.as_of.format("%H:%M:%S"),
        );
        lines.push((if place == 0 { "API budget" } else { "" }, text));
    }
    if status.api_budget.is_empty() {
        lines.push(("API budget", "not known yet".to_owned()));
    }
    for (place, (kind, count)) in status.notices.iter().enumerate() {
        lines.push((if place == 0 { "notices" } else { "" }, format!("{count:>5}  {}", notice_in_words(kind))));
    }
    if !status.notices.is_empty() {
        lines.push(("", "→ `linkspan notices` lists them".to_owned()));
    }
    for (place, words) in status.later.iter().enumerate() {
        lines.push((if place == 0 { "not yet" } else { "" }, (*words).to_owned()));
    }
    lines
}

/// How much of it a vendor refused, and how much we left out ourselves.
fn failed(status: &Status) -> String {
    match (status.failed.saturating_sub(status.left_out), status.left_out) {
        (0, 0) => "0".to_owned(),
        (refused, left_out) => format!(
            "{} ({refused} refused by a vendor, {left_out} left out by us); `linkspan failed list`",
            status.failed
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Calling;

    #[tokio::test]
    async fn a_first_run_at_work_is_connected_and_one_that_nobody_is_at_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let text = format!("connectors: {{}}\nstate: {{path: {}}}\n", path.display());
        let config = Config::parse(&text, &folder.path().join("config.yaml"), &BTreeMap::new()).unwrap();
        let store = Store::open(&path, Calling::Inline).unwrap();
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let run = store
            .write(move |tx| {
                tx.claim_pair("a", "b")?;
                tx.begin_run("brevo contacts full", now)
            })
            .await
            .unwrap();
        let status = gather(&config, DateTime::default()).await.unwrap().unwrap();
        assert!(!status.connected, "cut off");
        let line = &lines(&status)[0].1;
        assert!(
            line.starts_with("no (Intercom a, Brevo b): the first run was cut off before it ended; `linkspan"),
            "{line}"
        );
        let owner = Owner::acquire(&path, "`linkspan run` (process 1)").unwrap();
        assert!(gather(&config, DateTime::default()).await.unwrap().unwrap().connected);
        store.write(move |tx| tx.end_run(run, "failed", "no", now)).await.unwrap();
        let status = gather(&config, DateTime::default()).await.unwrap().unwrap();
        assert!(!status.connected);
        let why = status.not_connected.as_deref().unwrap();
        assert!(why.starts_with("the last run failed, see there"), "{why}");
        assert!(lines(&status).iter().any(|(name, why)| *name == "last run" && why.ends_with("failed: no")));
        drop(owner);
    }

    /// A vendor that refused us and lets us in again, and no run since; or a daemon that has only just begun.
    #[tokio::test]
    async fn what_is_not_asked_yet_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let text = format!("connectors: {{}}\nstate: {{path: {}}}\n", path.display());
        let config = Config::parse(&text, &folder.path().join("config.yaml"), &BTreeMap::new()).unwrap();
        let store = Store::open(&path, Calling::Inline).unwrap();
        let why = async || gather(&config, DateTime::default()).await.unwrap().unwrap().not_connected.unwrap();
        assert_eq!(why().await, NOT_ASKED);
        let refused = crate::engine::Refusal {
            error: crate::model::SideError::new(
                SideName::Brevo,
                crate::model::ErrorKind::Auth(crate::model::AuthProblem::BadCredentials),
                "no",
            ),
            at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        };
        let refused = serde_json::to_string(&refused).unwrap();
        store
            .write(move |tx| {
                tx.claim_pair("a", "b")?;
                tx.set_meta("refused.brevo", &refused)
            })
            .await
            .unwrap();
        assert_eq!(why().await, "not let in by Brevo");
        store.write(|tx| tx.set_meta("refused.brevo", "")).await.unwrap();
        assert_eq!(why().await, NOT_ASKED);
        let owner = Owner::acquire(&path, "`linkspan run` (process 1)").unwrap();
        assert_eq!(why().await, "not asked yet; `linkspan run` (process 1) is about to");
        drop(owner);
    }

    #[tokio::test]
    async fn webhooks_that_nobody_acted_on_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let text = format!("connectors: {{}}\nstate: {{path: {}}}\n", path.display());
        let config = Config::parse(&text, &folder.path().join("config.yaml"), &BTreeMap::new()).unwrap();
        let store = Store::open(&path, Calling::Inline).unwrap();
        let counts = |tx: &crate::store::Tx<'_>| {
            tx.count(WEBHOOK_OTHER_WORKSPACE, 2)?;
            tx.count(WEBHOOK_UNKNOWN_TOPIC, 3)?;
            tx.count(BREVO_WEBHOOK_UNKNOWN_EVENT, 5)?;
            tx.count(BREVO_WEBHOOK_UNREADABLE, 6)?;
            tx.count(WEBHOOK_UNREADABLE, 4)
        };
        store.write(counts).await.unwrap();
        let status = gather(&config, DateTime::default()).await.unwrap().unwrap();
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!((&json["webhooksOtherWorkspace"], &json["webhooksUnknownTopic"]), (&2.into(), &3.into()));
        let lines = lines(&status);
        assert!(lines.iter().any(|(_, line)| line.starts_with("2 of another workspace")), "{lines:?}");
        assert!(lines.iter().any(|(_, line)| line.starts_with("3 of an unknown topic")), "{lines:?}");
        assert_eq!((&json["brevoWebhooksUnknownEvent"], &json["brevoWebhooksUnreadable"]), (&5.into(), &6.into()));
        assert!(lines.iter().any(|(_, line)| line.starts_with("5 from Brevo of an unknown event")), "{lines:?}");
        assert_eq!(json["webhooksUnreadable"], 4);
        assert!(lines.iter().any(|(_, line)| line.starts_with("4 that name no record")), "{lines:?}");
    }
}
