//! `sync`: one whole run, or what it would do.

use super::printer::{counted, people, value_in_words};
use super::progress::{Stages, notice_in_words, resource_named, side_in_words};
use super::{CliError, Context, Printer, connect, order};
use crate::config::Config;
use crate::engine::{DryRun, Ended, EngineError, GRACE, Order, Replaced, Summary, SyncOptions};
use crate::model::Resource;
use crate::store::StoreError;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
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
        let dry = dry?;
        show_dry(context, &dry);
        return all_read(&dry.failed_reads);
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
    all_read(&summary.failed_reads)
}

fn all_read(failed: &BTreeMap<String, String>) -> Result<(), CliError> {
    if failed.is_empty() { Ok(()) } else { Err(CliError::failed("not everything could be read")) }
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
    for line in in_words(summary, took, printer.cross()) {
        printer.data(line);
    }
}

/// Line by line.
fn in_words(summary: &Summary, took: TimeDelta, cross: &str) -> Vec<String> {
    let mut lines = vec![format!("Sync {} in {:.1} s", summary.outcome(), took.as_seconds_f64())];
    for (what, swept) in &summary.read {
        let changed =
            if swept.changed == 0 { "nothing new".to_owned() } else { format!("{} new or changed", swept.changed) };
        lines.push(format!("  read     {:24} {:>7}  {changed}", side_in_words(what), swept.rows));
    }
    let (written, companies) = (&summary.written, &summary.companies);
    if written.imported > 0 {
        lines.push(format!(
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
        ("opt-outs in Intercom", written.opted_out),
        ("contacts made in Intercom", written.created_in_intercom),
        ("contacts changed in Intercom", written.written_back),
        ("companies, made in Brevo", companies.made),
        ("companies, imported", companies.imported),
        ("companies, changed in Brevo", companies.updated),
        ("companies' contacts linked", companies.linked),
        ("companies changed, Intercom", companies.written_back),
        ("events", summary.events),
    ] {
        if count > 0 {
            lines.push(format!("  written  {what:24} {count:>7}"));
        }
    }
    if summary.nothing_accepted() {
        lines.push(match written.failed {
            1 => "  written  nothing: the only write was not accepted".to_owned(),
            many => format!("  written  nothing: none of {many} writes was accepted"),
        });
    } else if written.imported
        + written.created
        + written.updated
        + written.listed
        + written.opted_out
        + written.written_back
        + written.created_in_intercom
        + companies.made
        + companies.imported
        + companies.updated
        + companies.linked
        + companies.written_back
        + summary.events
        == 0
    {
        lines.push("  written  nothing: both sides are in step as far as the mapping goes".to_owned());
    }
    for (what, why) in &summary.failed_reads {
        lines.push(format!("  {cross} {}: {why}", side_in_words(what)));
    }
    if !summary.unread.is_empty() {
        let them = summary.unread.join(" and ");
        lines.push(format!(
            "  resting  fields and lists made of Intercom's {them}: not read whole yet; a plain `linkspan sync` or the daemon does"
        ));
    }
    for (what, count, of) in [
        ("refused", summary.failed.saturating_sub(summary.left_out), "by a vendor"),
        ("left out", summary.left_out, "which no vendor has seen"),
    ] {
        if count > 0 {
            let records = if count == 1 { "record or field" } else { "records or fields" };
            lines.push(format!("  {what:8} {count} {records}, {of}; `linkspan failed list` says why"));
        }
    }
    for held in &summary.held {
        let wants = super::approve::wants(&held.kind, held.wanted);
        lines.push(format!("  held     {wants}; `linkspan approve {}` lets them go", held.id));
    }
    if companies.waiting > 0 {
        let them = if companies.waiting == 1 { "company waits" } else { "companies wait" };
        lines.push(format!(
            "  pending  {} {them} for Brevo's hourly budget; `linkspan status` says for how long",
            companies.waiting
        ));
    }
    if summary.pending > 0 {
        let them = if summary.pending == 1 { "it" } else { "them" };
        lines.push(format!("  pending  {}; the next run goes on with {them}", summary.pending));
    }
    lines
}

fn show_dry(context: &Context, dry: &DryRun) {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(dry);
        return;
    }
    for line in dry_in_words(dry, printer.cross()) {
        printer.data(line);
    }
    show_replaced(printer, "Brevo", &dry.replaced);
    show_replaced(printer, "Intercom", &dry.replaced_in_intercom);
    if dry.joins.values().any(|count| *count > 0) {
        printer.note("note: automations that start when somebody joins a list start for these people too");
    }
}

/// What would be lost on this side, with a few examples.
fn show_replaced(printer: &Printer, side: &str, replaced: &BTreeMap<String, Replaced>) {
    let examples = replaced.iter().flat_map(|(rule, replaced)| replaced.examples.iter().map(move |one| (rule, one)));
    let shown = examples.clone().count() as u64;
    if shown == 0 {
        return;
    }
    printer.data("");
    printer.data(format!("What would be replaced in {side}, though nobody had agreed to it:"));
    let in_words = |values: &[Json]| values.iter().map(value_in_words).collect::<Vec<_>>().join(" | ");
    let rows = examples.map(|(rule, one)| {
        let record = format!("contact {}\n(Brevo contact {})", one.intercom, one.brevo);
        [rule.clone(), record, in_words(&one.lost), in_words(&one.kept)]
    });
    printer.table(&["field", "record", "stands there", "would replace it"], rows);
    let more = replaced.values().map(|replaced| replaced.count).sum::<u64>().saturating_sub(shown);
    if more > 0 {
        printer.data(format!("… and {more} more; what a sync replaces is listed by `linkspan conflicts` afterwards"));
    }
}

/// `1 company`, `2 companies`.
fn counted_as(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// New options of an attribute that are named.
const SHOWN_LABELS: usize = 10;

/// Line by line. What would not happen is not said.
fn dry_in_words(dry: &DryRun, cross: &str) -> Vec<String> {
    let mut lines = vec!["Dry run: nothing was written. A sync would".to_owned()];
    let mut line = |what: &str, to: String| lines.push(format!("  {what:13} {to}"));
    let companies = &dry.companies;
    let in_intercom = dry.creates_in_intercom + dry.opt_outs_in_intercom + dry.updates_in_intercom;
    if dry.creates + dry.updates + in_intercom == 0 {
        let in_step =
            if dry.failed_reads.is_empty() { "both sides are in step" } else { "what could be read is in step" };
        line("write", format!("no contact: {in_step} as far as the mapping goes"));
    }
    let contacts = |count| counted(count, "Brevo contact");
    let of_these = |channel: &str, count| match dry.creates + dry.updates {
        1 => format!("of {channel}: this contact"),
        _ => format!("of {channel}: {count} of these contacts"),
    };
    for (what, count, to) in [
        ("create", dry.creates, contacts(dry.creates)),
        ("change", dry.updates, contacts(dry.updates)),
        ("opt out", dry.opt_outs, of_these("e-mail", dry.opt_outs)),
        ("opt out", dry.sms_opt_outs, of_these("SMS", dry.sms_opt_outs)),
        ("create", dry.creates_in_intercom, counted(dry.creates_in_intercom, "Intercom contact")),
        ("change", dry.updates_in_intercom, counted(dry.updates_in_intercom, "Intercom contact")),
        ("opt out", dry.opt_outs_in_intercom, counted(dry.opt_outs_in_intercom, "Intercom contact")),
        ("re-address", dry.renames, contacts(dry.renames)),
        ("follow", dry.on_delete.brevo, format!("{} from Intercom in Brevo", counted(dry.on_delete.brevo, "deletion"))),
        (
            "follow",
            dry.on_delete.intercom,
            format!("{} from Brevo in Intercom", counted(dry.on_delete.intercom, "deletion")),
        ),
        ("make", companies.make, counted_as(companies.make, "Brevo company", "Brevo companies")),
        ("change", companies.update, counted_as(companies.update, "Brevo company", "Brevo companies")),
        ("link", companies.link, counted_as(companies.link, "Brevo company's contacts", "Brevo companies' contacts")),
        (
            "change",
            companies.update_in_intercom,
            counted_as(companies.update_in_intercom, "Intercom company", "Intercom companies"),
        ),
        ("send", dry.events, counted(dry.events, "event")),
    ] {
        if count > 0 {
            line(what, to);
        }
    }
    for name in &dry.new_attributes {
        line("make", format!("the attribute {name}"));
    }
    for name in &companies.new_attributes {
        line("make", format!("the attribute {name} of Brevo's companies"));
    }
    for name in &dry.new_attributes_in_intercom {
        line("make", format!("the attribute {name} in Intercom"));
    }
    for name in &dry.new_lists {
        line("make", format!("the list “{name}”"));
    }
    for (attribute, new) in &dry.new_options {
        let labels: Vec<&str> = new.labels.iter().take(SHOWN_LABELS).map(String::as_str).collect();
        let more = match (new.labels.len() - labels.len(), new.more) {
            (0, _) => String::new(),
            (more, false) => format!(" and {more} more"),
            (more, true) => format!(" and more than {more} more"),
        };
        let options = if new.labels.len() == 1 { "option" } else { "options" };
        line("make", format!("the {options} {}{more} for {attribute}", labels.join(", ")));
    }
    for (list, count) in &dry.joins {
        line("put on list", format!("{list}: {}", people(*count)));
    }
    for (list, count) in &dry.leaves {
        line("take off list", format!("{list}: {}", people(*count)));
    }
    for (attribute, count) in &dry.attributes {
        line("set", format!("{attribute}: {}", counted(*count, "contact")));
    }
    for (path, count) in &dry.fields_in_intercom {
        line("set", format!("{path} in Intercom: {}", counted(*count, "contact")));
    }
    for (word, tags) in [("tag", &dry.tags_given), ("untag", &dry.tags_taken)] {
        for (tag, count) in tags {
            line(word, format!("{tag}: {}", people(*count)));
        }
    }
    for (rule, replaced) in &dry.replaced {
        line("replace", format!("{rule}: {}", counted(replaced.count, "contact")));
    }
    for (rule, replaced) in &dry.replaced_in_intercom {
        line("replace", format!("{rule}, in Intercom: {}", counted(replaced.count, "contact")));
    }
    for (rule, count) in &dry.phones_taken {
        let whose = if *count == 1 { "whose number another contact has" } else { "whose numbers other contacts have" };
        line("leave out", format!("{rule}: {}, {whose} already", people(*count)));
    }
    for (rule, count) in &dry.problems {
        line("not write", format!("{rule}: {}, because what Intercom has does not fit", people(*count)));
    }
    for (kind, count) in &dry.notices {
        line("note", format!("{}: {count}", notice_in_words(kind)));
    }
    for held in &dry.would_hold {
        line(
            "ask first",
            format!(
                "{}, and the limits of `safety` have room for {}; then `linkspan approve` lets them go",
                super::approve::wants(&held.kind, held.wanted),
                held.may
            ),
        );
    }
    if !dry.failed_reads.is_empty() {
        lines.push("Not everything could be read, and what would follow from the rest is not in here:".to_owned());
    }
    for (what, why) in &dry.failed_reads {
        lines.push(format!("  {cross} {}: {why}", side_in_words(what)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{NewOptions, Replaced};

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

    fn some(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
    }

    #[test]
    fn a_dry_run_is_told_in_whole_sentences() {
        let mut dry = DryRun {
            creates: 1,
            opt_outs: 1,
            joins: some(&[("Users", 1)]),
            attributes: some(&[("LASTNAME", 1)]),
            phones_taken: some(&[("phone -> SMS", 1)]),
            notices: some(&[("kept_off_list", 1)]),
            ..DryRun::default()
        };
        let told = |dry: &DryRun| dry_in_words(dry, "✗").join("\n");
        insta::assert_snapshot!(told(&dry));
        dry = DryRun {
            creates: 57,
            updates: 3,
            opt_outs: 4,
            sms_opt_outs: 1,
            opt_outs_in_intercom: 2,
            renames: 2,
            events: 1,
            joins: some(&[("Leads", 20), ("Users", 40)]),
            leaves: some(&[("Leads", 1)]),
            attributes: some(&[("FIRSTNAME", 60), ("ROLE", 1)]),
            problems: some(&[("signed_up_at -> SIGNUP_DATE", 2)]),
            phones_taken: some(&[("phone -> SMS", 3)]),
            new_attributes: vec!["ROLE".to_owned()],
            new_lists: vec!["Users".to_owned()],
            failed_reads: [("intercom companies".to_owned(), "Intercom: busy".to_owned())].into(),
            ..dry
        };
        let replaced = Replaced { count: 3, examples: Vec::new() };
        dry.replaced.insert("name -> FIRSTNAME, LASTNAME".to_owned(), replaced);
        let many: Vec<String> = (10..30).map(|number| number.to_string()).collect();
        for (attribute, labels, more) in [
            ("PLAN", ["VIP".to_owned()].into(), false),
            ("SIZE", many.iter().cloned().collect(), false),
            ("TAGS", many.iter().cloned().collect(), true),
        ] {
            dry.new_options.insert(attribute.to_owned(), NewOptions { labels, more });
        }
        insta::assert_snapshot!(told(&dry));
        insta::assert_snapshot!(told(&DryRun::default()));
    }

    #[test]
    fn a_sync_is_told_in_whole_sentences() {
        let mut summary = Summary { pending: 1, failed: 2, left_out: 1, ..Summary::default() };
        summary.written.failed = 1;
        let told = |summary: &Summary| in_words(summary, TimeDelta::milliseconds(1234), "✗").join("\n");
        insta::assert_snapshot!(told(&summary));
        (summary.written.updated, summary.written.opted_out) = (2, 1);
        (summary.pending, summary.failed, summary.left_out) = (2, 5, 3);
        insta::assert_snapshot!(told(&summary));
        let error = EngineError::EverythingFailed(1).to_string();
        assert!(error.starts_with("the only write failed"), "{error}");
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
