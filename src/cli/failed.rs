//! `failed`: what a vendor refused.

use super::{CliError, Context, connect, order};
use crate::config::Config;
use crate::engine::{Ended, Order};
use crate::store::{Calling, Owner, Store};
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
                let store = Store::open(path, Calling::Blocking)?;
                store.write(move |tx| tx.retry_failures(id)).await? as u64
            };
            say_retried(context, links, *id, holder)
        }
    }
}

async fn list(context: &Context, store: &Store, limit: usize) -> Result<(), CliError> {
    let printer = &context.printer;
    let (failures, all) = store.read(move |tx| Ok((tx.failures(limit)?, tx.counts()?.failed))).await?;
    if printer.is_json() {
        printer.json(&failures);
        return Ok(());
    }
    if failures.is_empty() {
        printer.note("nothing was refused");
        return Ok(());
    }
    let rows = failures.iter().map(|failure| {
        [
            failure.id.to_string(),
            failure.subject.clone(),
            if failure.field.is_empty() { "(whole record)".to_owned() } else { failure.field.clone() },
            failure.status.map(|status| format!("{status} ")).unwrap_or_default() + &failure.message,
            failure.tries.to_string(),
            failure.last_at.format("%Y-%m-%d %H:%M").to_string(),
        ]
    });
    printer.table(&["#", "record", "field", "why", "tries", "last"], rows);
    if all > failures.len() as u64 {
        printer.note(format!("{} of {all} shown; --limit shows more", failures.len()));
    }
    Ok(())
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
