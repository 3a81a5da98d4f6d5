//! `sync`: one whole run, or what it would do.

use super::progress::{Stages, notice_in_words, resource_named, side_in_words};
use super::{CliError, Context, connect, order};
use crate::config::Config;
use crate::engine::{DryRun, Ended, EngineError, GRACE, Order, Summary, SyncOptions};
use crate::model::Resource;
use crate::store::StoreError;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Read everything, not only what changed since last time
    #[arg(long)]
    full: bool,
    /// Read only what was created since: 2023-01-01, or an instant such as 2023-01-01T12:00:00Z (not with --full)
    #[arg(long, value_name = "DATE", value_parser = instant, conflicts_with = "full")]
    since: Option<DateTime<Utc>>,
    /// Only these, of what the config switches on: contacts, companies, conversations, tags
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = resource)]
    resources: Vec<Resource>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .map_err(|_| "expected a day such as 2023-01-01 or an instant such as 2023-01-01T12:00:00Z".to_owned())
}

fn resource(text: &str) -> Result<Resource, String> {
    resource_named(text.trim())
        .ok_or_else(|| "expected some of contacts, companies, conversations, tags, with commas between".to_owned())
}

/// Nothing was created since a time that is still to come: somebody mistook the year, and would believe that all is read.
fn has_been(since: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), CliError> {
    if since <= now {
        return Ok(());
    }
    let text = |instant: DateTime<Utc>| instant.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    Err(CliError::Usage(format!(
        "invalid value for '--since <DATE>': {} is still to come, so that nothing was created since (it is {} now; a day \
         begins at midnight UTC)",
        text(since),
        text(now)
    )))
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    if let Some(since) = arguments.since {
        has_been(since, context.doors.clock.now())?;
    }
    let config = context.usable_config()?;
    if !config.intercom.enabled {
        return Err(CliError::SwitchedOff("connectors.intercom.enabled is false: there is nothing to sync".to_owned()));
    }
    let options = SyncOptions {
        full: arguments.full,
        since: arguments.since,
        resources: arguments.resources.iter().copied().collect(),
    };
    let connected = if arguments.dry_run {
        connect::open_to_look(context, config)?
    } else {
        match connect::open(context, config, "sync") {
            Err(CliError::Store(StoreError::Owned { holder })) if connect::is_daemon(&holder) => {
                return run_there(context, config, holder, options).await;
            }
            opened => opened?,
        }
    };
    let stages = Stages::new(&context.printer, context.doors.clock.clone());
    let began = context.doors.clock.now();
    if arguments.dry_run {
        let dry = connected.connection.dry_run(&options, &stages).await;
        stages.finish();
        show_dry(context, &dry?);
        return Ok(());
    }
    let mut syncing = std::pin::pin!(connected.connection.sync(&options, &stages));
    let summary = tokio::select! {
        summary = &mut syncing => summary,
        () = super::signals::stop_asked() => {
            // A write that is dropped half-way is one of unknown outcome: those in flight may end, and are recorded.
            connected.connection.wind_down();
            let ended = tokio::time::timeout(GRACE, syncing).await;
            tracing::debug!(in_time = ended.is_ok(), "stopped");
            stages.finish();
            return Err(CliError::failed("stopped; the next `linkspan sync` goes on where this one was"));
        }
    };
    stages.finish();
    let summary = summary?;
    show(context, &summary, context.doors.clock.now() - began);
    verdict(&summary)
}

/// The daemon that has the state does the run: the same run, summary and exit code.
async fn run_there(context: &Context, config: &Config, holder: String, options: SyncOptions) -> Result<(), CliError> {
    let began = context.doors.clock.now();
    let Ended::Synced(summary) = order::carry_out(context, config, holder, &Order::Sync(options)).await? else {
        return Err(CliError::failed("the daemon answered something else than was asked; is it another version?"));
    };
    show(context, &summary, context.doors.clock.now() - began);
    verdict(&summary)
}

/// Refused records are listed and the rest went on, which is a success; a run in which nothing went on is not, nor one
/// that did not see everything it was to read.
fn verdict(summary: &Summary) -> Result<(), CliError> {
    if summary.outcome() == "failed" && summary.written.failed > 0 {
        return Err(EngineError::EverythingFailed(summary.written.failed).into());
    }
    if summary.failed_reads.is_empty() { Ok(()) } else { Err(CliError::failed("not everything could be read")) }
}

/// What a run did, in words.
pub(super) fn show(context: &Context, summary: &Summary, took: TimeDelta) {
    let printer = &context.printer;
    if printer.is_json() {
        let mut value = json!(summary);
        if let Some(object) = value.as_object_mut() {
            object.insert("outcome".to_owned(), json!(summary.outcome()));
            object.insert("seconds".to_owned(), json!(took.as_seconds_f64()));
        }
        printer.json(&value);
        return;
    }
    printer.data(format!("Sync {} in {:.1} s", summary.outcome(), took.as_seconds_f64()));
    for (what, swept) in &summary.read {
        let changed =
            if swept.changed == 0 { "nothing new".to_owned() } else { format!("{} new or changed", swept.changed) };
        printer.data(format!("  read     {:24} {:>7}  {changed}", side_in_words(what), swept.rows));
    }
    let written = &summary.written;
    if written.imported > 0 {
        printer.data(format!(
            "  written  {:24} {:>7}  {} read back{}",
            "Brevo contacts, imported",
            written.imported,
            summary.read_back,
            if summary.lost > 0 { format!(", {} had not landed", summary.lost) } else { String::new() }
        ));
    }
    for (what, count) in [
        ("Brevo contacts, created", written.created),
        ("Brevo contacts, changed", written.updated),
        ("list memberships", written.listed),
        ("events", summary.events),
    ] {
        if count > 0 {
            printer.data(format!("  written  {what:24} {count:>7}"));
        }
    }
    if summary.nothing_accepted() {
        printer.data(format!("  written  nothing: none of {} writes was accepted", written.failed));
    } else if written.imported + written.created + written.updated + written.listed + summary.events == 0 {
        printer.data("  written  nothing: both sides are in step as far as the mapping goes");
    }
    for (what, why) in &summary.failed_reads {
        printer.data(format!("  {} {}: {why}", printer.cross(), side_in_words(what)));
    }
    for (what, count, of) in [
        ("refused", summary.failed.saturating_sub(summary.left_out), "records or fields, by a vendor"),
        ("left out", summary.left_out, "records or fields, which no vendor has seen"),
    ] {
        if count > 0 {
            printer.data(format!("  {what:8} {count} {of}; `linkspan failed list` says why"));
        }
    }
    if summary.pending > 0 {
        printer.data(format!("  pending  {}; the next run goes on with them", summary.pending));
    }
}

fn show_dry(context: &Context, dry: &DryRun) {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(dry);
        return;
    }
    printer.data("Dry run: nothing was written. A sync would");
    printer.data(format!("  create        {} Brevo contacts", dry.creates));
    printer.data(format!("  change        {} Brevo contacts", dry.updates));
    printer.data(format!("  opt out       {} of them", dry.opt_outs));
    for name in &dry.new_attributes {
        printer.data(format!("  make          the attribute {name}"));
    }
    for name in &dry.new_lists {
        printer.data(format!("  make          the list “{name}”"));
    }
    let section = |title: &str, counts: &BTreeMap<String, u64>| {
        for (what, count) in counts {
            printer.data(format!("  {title:13} {what}: {count}"));
        }
    };
    section("put on list", &dry.joins);
    section("take off list", &dry.leaves);
    section("set", &dry.attributes);
    section("replace", &dry.replaced);
    section("not write", &dry.problems);
    let notices = dry.notices.iter().map(|(kind, count)| (notice_in_words(kind), *count)).collect();
    section("notice", &notices);
    if dry.joins.values().any(|count| *count > 0) {
        printer.note("note: automations that start when somebody joins a list start for these people too");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_every_write_failed_is_a_failed_run() {
        let mut summary = Summary::default();
        verdict(&summary).unwrap();
        summary.written.failed = 3;
        assert!(matches!(verdict(&summary), Err(CliError::Engine(EngineError::EverythingFailed(3)))));
        summary.written.updated = 1;
        verdict(&summary).unwrap();
        summary.failed_reads.insert("intercom companies".to_owned(), "Intercom: busy".to_owned());
        verdict(&summary).unwrap_err();
    }

    #[test]
    fn days_and_instants_are_understood() {
        assert_eq!(instant("2023-01-01").unwrap().to_rfc3339(), "2023-01-01T00:00:00+00:00");
        assert_eq!(instant("2023-01-01T02:00:00+02:00").unwrap().to_rfc3339(), "2023-01-01T00:00:00+00:00");
        instant("yesterday").unwrap_err();
        resource("deals").unwrap_err();
    }

    #[test]
    fn since_lies_in_the_past() {
        let now = instant("2026-11-22T07:00:00Z").unwrap();
        has_been(now, now).unwrap();
        has_been(instant("1970-01-01").unwrap(), now).unwrap();
        let error = has_been(instant("2026-11-23").unwrap(), now).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains("2026-11-23 00:00:00 UTC is still to come"), "{error}");
    }
}
