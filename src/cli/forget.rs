//! `forget`: erases somebody from the state, down to a keyed hash of the address.

use super::{CliError, Context, connect, order};
use crate::engine::forget::{Forget, Forgotten, StillThere, forget_in};
use crate::engine::{Ended, Order};
use crate::model::Email;
use crate::store::{Calling, Owner, Store};
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Whoever has this address
    email: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also somebody who is still in Intercom or Brevo: they come back with the next read, as if seen for the first time
    #[arg(long)]
    even_if_there: bool,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let email = Email::parse(&arguments.email)
        .map_err(|error| CliError::failed(format!("the address cannot be used: {error}")))?;
    let config = context.config()?;
    let path = &config.state.path;
    // Opened for reading first, so that no state is made or migrated here.
    drop(Store::open_read_only(path)?);
    if !arguments.yes {
        confirm(context, &email)?;
    }
    let ask = Forget { email, even_if_there: arguments.even_if_there };
    let daemon = Owner::holder(path).filter(|holder| connect::is_daemon(holder));
    let outcome = if let Some(daemon) = daemon {
        let Ended::Forgotten(outcome) = order::carry_out(context, config, daemon, &Order::Forget(ask)).await? else {
            let words = "the daemon answered something else than was asked; is it another version?";
            return Err(CliError::failed(words));
        };
        *outcome
    } else {
        let _owner = connect::own(context, config, "forget")?;
        let store = Store::open(path, Calling::Blocking)?;
        forget_in(&store, &context.doors, ask).await?
    };
    say(context, outcome)
}

/// Asks whoever sits at the terminal. Without one, `--yes` has to say it.
fn confirm(context: &Context, email: &Email) -> Result<(), CliError> {
    if context.printer.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(CliError::Usage("what is forgotten cannot be brought back: say --yes to do it unasked".to_owned()));
    }
    let mut asked = std::io::stderr().lock();
    let failed = |error| CliError::Io { what: "asking".to_owned(), error };
    write!(asked, "Forget {} for good: state, history and logs? Type yes: ", email.as_str()).map_err(failed)?;
    asked.flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    if matches!(answer.trim().to_lowercase().as_str(), "yes" | "y") {
        Ok(())
    } else {
        Err(CliError::failed("nothing was done"))
    }
}

fn listed(there: &[StillThere]) -> String {
    there.iter().map(StillThere::in_words).collect::<Vec<_>>().join(", ")
}

fn say(context: &Context, outcome: Forgotten) -> Result<(), CliError> {
    let printer = &context.printer;
    match outcome {
        Forgotten::Nobody => Err(CliError::failed("the state knows nobody under this address")),
        Forgotten::There(there) => Err(CliError::failed(format!(
            "nothing was done: still there, as far as was read: {}. Delete them there first, and let a sync see it, or \
             they come back with the next read; --even-if-there forgets what is kept here all the same",
            listed(&there)
        ))),
        Forgotten::NotYet(why) => Err(CliError::failed(format!("nothing was done: {why}"))),
        Forgotten::Done { intercom, brevo, rows, opted_out, there, scrubbed } => {
            if printer.is_json() {
                printer.json(&json!({
                    "forgotten": {"intercom": intercom, "brevo": brevo, "rows": rows},
                    "opted_out": opted_out,
                    "still_there": there,
                    "scrubbed": scrubbed.is_ok(),
                    "not_scrubbed": scrubbed.err(),
                }));
                return Ok(());
            }
            let contacts = |count: u64, side: &str| super::printer::counted(count, &format!("{side} contact"));
            printer.data(format!(
                "forgotten: {}, {}, {} in all",
                contacts(intercom, "Intercom"),
                contacts(brevo, "Brevo"),
                super::printer::counted(rows, "row")
            ));
            let out = if opted_out { "opted out of e-mail, and comes back so" } else { "not opted out of e-mail" };
            printer.data(format!("what is left is a keyed hash of the address, which was {out}"));
            if !there.is_empty() {
                printer.note(format!(
                    "still there: {}: delete them there too, or they come back with the next read",
                    listed(&there)
                ));
            }
            match scrubbed {
                Ok(()) => printer
                    .note("the file was built anew: nothing is left in it. Copies and backups are yours to look after"),
                Err(why) => printer.note(format!("old bytes may still be in the file: {why}")),
            }
            Ok(())
        }
    }
}
