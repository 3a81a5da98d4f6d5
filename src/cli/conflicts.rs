//! `conflicts`: what was replaced; and `conflicts pick`, which puts it back.

use super::printer::value_in_words;
use super::{CliError, Context, connect, order};
use crate::config::Config;
use crate::engine::{Ended, Order, Pick, Picked};
use crate::model::{SideName, Value};
use crate::store::listings::ListedConflict;
use crate::store::{Owner, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Let the value stand that lost: it is put back where it stood, and travels from there
    Pick {
        /// Its number in the list
        id: i64,
        /// Whose value is to stand
        side: Choice,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Choice {
    Intercom,
    Brevo,
}

impl From<Choice> for SideName {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Intercom => Self::Intercom,
            Choice::Brevo => Self::Brevo,
        }
    }
}

/// A row for programs: values are JSON values, one for each attribute of the rule.
#[derive(Debug, Serialize)]
struct Shown {
    id: i64,
    at: DateTime<Utc>,
    intercom: Option<String>,
    brevo: Option<i64>,
    /// The Intercom company, if it is about one.
    company: Option<String>,
    field: String,
    side: SideName,
    lost: Vec<Json>,
    kept: Vec<Json>,
    rule: String,
    import: Option<i64>,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    if let Some(Command::Pick { id, side }) = &arguments.command {
        return pick(context, Pick { conflict: *id, side: (*side).into() }).await;
    }
    let printer = &context.printer;
    let store = Store::open_read_only(&context.config()?.state.path)?;
    let limit = arguments.limit;
    let conflicts = store.read(move |tx| tx.list_conflicts(None, limit)).await?;
    let rows = conflicts.into_iter().map(|ListedConflict { conflict, intercom, brevo, company }| Shown {
        company,
        id: conflict.id,
        at: conflict.at,
        intercom,
        brevo,
        field: conflict.field,
        side: conflict.side,
        lost: values(&conflict.lost),
        kept: values(&conflict.kept),
        rule: conflict.rule,
        import: conflict.import,
    });
    let rows: Vec<Shown> = rows.collect();
    if printer.is_json() {
        printer.json(&rows);
    } else if rows.is_empty() {
        printer.note("no value was replaced that somebody had not agreed to");
    } else {
        let rows = rows.into_iter().map(|row| {
            let intercom = match (row.company, row.intercom) {
                (Some(id), _) => format!("company {id}"),
                (None, Some(id)) => format!("contact {id}"),
                (None, None) => "contact –".to_owned(),
            };
            let brevo = row.brevo.map(|id| format!("\n(Brevo contact {id})")).unwrap_or_default();
            [
                row.id.to_string(),
                row.at.format("%Y-%m-%d %H:%M").to_string(),
                intercom + &brevo,
                row.field,
                format!("{} (in {})", in_words(&row.lost), row.side),
                in_words(&row.kept),
                row.rule,
            ]
        });
        printer.table(&["#", "when", "record", "field", "replaced", "by", "why"], rows);
    }
    Ok(())
}

async fn pick(context: &Context, pick: Pick) -> Result<(), CliError> {
    let config = context.usable_config()?;
    // Opened for reading first, so that no state is made or migrated here.
    drop(Store::open_read_only(&config.state.path)?);
    let daemon = Owner::holder(&config.state.path).filter(|holder| connect::is_daemon(holder));
    let runs = daemon.is_some();
    let picked = match daemon {
        Some(daemon) => pick_there(context, config, daemon, pick).await?,
        None => connect::open(context, config, "conflicts pick")?.connection.pick(pick).await?,
    };
    match picked {
        Picked::NotDone(why) => Err(CliError::failed(format!("nothing was done: {why}"))),
        Picked::Done { field, side } => {
            let printer = &context.printer;
            if printer.is_json() {
                printer.json(&serde_json::json!({"picked": {"conflict": pick.conflict, "field": field, "side": side}}));
            } else {
                let other = side.other();
                let then = if runs { "the daemon takes it" } else { "the next sync takes it" };
                printer.data(format!("{field}: {side}'s value stands there again; {then} to {other}"));
            }
            Ok(())
        }
    }
}

/// The daemon that has the state does it.
async fn pick_there(context: &Context, config: &Config, daemon: String, pick: Pick) -> Result<Picked, CliError> {
    match order::carry_out(context, config, daemon, &Order::Pick(pick)).await? {
        Ended::Picked(picked) => Ok(picked),
        _ => Err(CliError::failed("the daemon answered something else than was asked; is it another version?")),
    }
}

/// The cells that the state keeps, as plain JSON values.
fn values(cells: &str) -> Vec<Json> {
    match serde_json::from_str::<Vec<Option<Value>>>(cells) {
        Ok(cells) => cells.iter().map(|cell| cell.as_ref().map_or(Json::Null, Value::to_json)).collect(),
        Err(_) => vec![cells.into()],
    }
}

/// As people write them.
fn in_words(values: &[Json]) -> String {
    values.iter().map(value_in_words).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_values_and_are_shown_as_people_write_them() {
        let cells = serde_json::to_string(&[Value::text("Ada"), None, Some(Value::Boolean(true))]).unwrap();
        assert_eq!(values(&cells), [json!("Ada"), Json::Null, json!(true)]);
        assert_eq!(in_words(&values(&cells)), "Ada | – | true");
        assert_eq!(in_words(&[json!(["a", "b"]), json!(1.5)]), "a, b | 1.5");
        assert_eq!(in_words(&values("unreadable")), "unreadable");
    }
}
