//! `failed`: what a vendor refused, and what we left out because it could not have gone well.

use super::{CliError, Context, connect, order};
use crate::config::Config;
use crate::engine::{Ended, Order, UNREADABLE_FIELD};
use crate::model::SideName;
use crate::store::listings::Failure;
use crate::store::{Calling, Owner, Store};
use serde::Serialize;
use serde_json::json;

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Show them, newest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try them again: all, or the one with this number
    Retry {
        /// Its number in the list
        id: Option<i64>,
    },
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let config = context.config()?;
    let path = &config.state.path;
    match command {
        Command::List { limit } => list(context, &Store::open_read_only(path)?, *limit).await,
        Command::Retry { id } => {
            // Opened for reading first, so that no state is made or migrated here.
            drop(Store::open_read_only(path)?);
            let holder = Owner::holder(path);
            let links = if let Some(daemon) = holder.clone().filter(|holder| connect::is_daemon(holder)) {
                retry_there(context, config, daemon, *id).await?
            } else {
                let id = *id;
                let clients = connect::clients(config, &context.doors)?;
                let store = Store::open(path, Calling::Blocking)?;
                let connection = connect::connection(context, config, clients, store);
                // The state of another pair of accounts is not touched.
                connect::check_pair(&connection).await?;
                connection.store().write(move |tx| tx.retry_failures(id)).await? as u64
            };
            say_retried(context, links, *id, holder)
        }
    }
}

async fn list(context: &Context, store: &Store, limit: usize) -> Result<(), CliError> {
    let printer = &context.printer;
    let (failures, all) = store.read(move |tx| Ok((tx.failures(limit)?, tx.counts()?.failed))).await?;
    if printer.is_json() {
        let shown: Vec<Shown<'_>> =
            failures.iter().map(|failure| Shown { failure, help: what_helps(failure) }).collect();
        printer.json(&shown);
        return Ok(());
    }
    if failures.is_empty() {
        printer.note("nothing was refused or left out");
        return Ok(());
    }
    let rows = failures.iter().map(|failure| {
        let brevo = failure.brevo.map(|id| format!("Brevo contact {id}"));
        let brevo = brevo.filter(|brevo| *brevo != failure.subject).map(|brevo| format!("\n({brevo})"));
        [
            failure.id.to_string(),
            failure.subject.clone() + &brevo.unwrap_or_default(),
            if failure.field.is_empty() { "(whole record)".to_owned() } else { failure.field.clone() },
            format!("{}\n→ {}", what_happened(failure), what_helps(failure)),
            failure.tries.to_string(),
            failure.last_at.format("%Y-%m-%d %H:%M").to_string(),
        ]
    });
    printer.table(&["#", "record", "field", "what happened", "tries", "last"], rows);
    if all > failures.len() as u64 {
        printer.note(format!("{} of {all} shown; --limit shows more", failures.len()));
    }
    Ok(())
}

/// A row for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    /// What to do about it.
    help: String,
}

/// Who said no, and in which words. What no vendor has seen is not called refused.
fn what_happened(failure: &Failure) -> String {
    let status = failure.status.map(|status| format!(" ({status})")).unwrap_or_default();
    match failure.refused_by {
        Some(side) => format!("refused by {side}: {}{status}", failure.message),
        None => format!("left out by us: {}", failure.message),
    }
}

/// What to do about it.
fn what_helps(failure: &Failure) -> String {
    let retry = format!("`linkspan failed retry {}`", failure.id);
    let phone = failure.field.ends_with("-> SMS");
    match (failure.refused_by, failure.field.as_str()) {
        (Some(SideName::Intercom), field) if field.contains(" -> ") => format!(
            "a value corrected in Brevo, or another rule in the mapping, is written by itself; if it was Intercom's \
             attribute that changed, {retry}"
        ),
        (Some(SideName::Intercom), _) => format!(
            "look whether the app's permissions in Intercom cover it (`linkspan test`); the next full read asks for it \
             again, or {retry}"
        ),
        (None, UNREADABLE_FIELD) => {
            "tell us of it if it stays: it is read anew by itself where a vendor shows it".to_owned()
        }
        (_, "") if failure.subject.starts_with("event ") => {
            format!("only this event is not in Brevo; {retry} sends it again")
        }
        (Some(SideName::Brevo), "") if !failure.dead => "nothing yet: it is tried again by itself".to_owned(),
        (Some(SideName::Brevo), "") => format!("correct the record in Intercom, then {retry}"),
        _ if phone => format!(
            "a corrected number in Intercom is written by itself; if another contact has it and should not, take it off \
             there, then {retry}"
        ),
        _ => format!(
            "a value corrected in Intercom, or another rule in the mapping, is written by itself; if it was Brevo's \
             attribute that changed, {retry}"
        ),
    }
}

/// The daemon that has the state looks after it at once.
async fn retry_there(context: &Context, config: &Config, holder: String, id: Option<i64>) -> Result<u64, CliError> {
    match order::carry_out(context, config, holder, &Order::Retry(id)).await? {
        Ended::Retried(links) => Ok(links),
        _ => Err(CliError::failed("the daemon answered something else than was asked; is it another version?")),
    }
}

fn say_retried(context: &Context, links: u64, id: Option<i64>, holder: Option<String>) -> Result<(), CliError> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&json!({"retried": links, "holder": holder}));
        return Ok(());
    }
    match (links, id) {
        (0, Some(id)) => {
            return Err(CliError::failed(format!(
                "there is nothing to retry under {id}; `linkspan failed list` shows the numbers"
            )));
        }
        (0, None) => printer.note("nothing to retry"),
        (links, _) => {
            let records = if links == 1 { "1 record is".to_owned() } else { format!("{links} records are") };
            // The order lies in the store, where whoever works next finds it.
            let who = holder.map_or_else(
                || "the next `linkspan sync` or `run`".to_owned(),
                |holder| if connect::is_daemon(&holder) { format!("{holder}, now") } else { holder },
            );
            printer.data(format!("{records} tried again by {who}"));
        }
    }
    Ok(())
}
