//! `approve`: lets go what the limits on harm hold.

use super::printer::counted;
use super::{CliError, Context, connect, order};
use crate::engine::{self, Approved, Ended, Order};
use crate::reconcile::harm::Kind;
use crate::store::harm::{Hold, HoldState};
use crate::store::{Calling, Owner, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// The number of what is held, as `status` shows it. Without it, what is held is listed
    id: Option<i64>,
    /// Show what is held, and let nothing go
    #[arg(long, conflicts_with = "id")]
    list: bool,
}

/// A hold as people and programs are shown it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    pub(super) id: i64,
    kind: String,
    since: DateTime<Utc>,
    /// How many want to be written.
    wanted: u64,
    /// How many could have gone without asking when it began.
    room: u64,
    /// Somebody let it go: how many more may, and for how long.
    approved: Option<Left>,
}

#[derive(Debug, Clone, Serialize)]
struct Left {
    left: u64,
    until: DateTime<Utc>,
}

impl From<Hold> for Held {
    fn from(hold: Hold) -> Self {
        let approved = hold.until.filter(|_| hold.state == HoldState::Approved);
        let approved = approved.map(|until| Left { left: hold.left, until });
        Self { id: hold.id, kind: hold.kind, since: hold.since, wanted: hold.wanted, room: hold.may, approved }
    }
}

impl Held {
    /// Somebody has let it go.
    pub(super) fn is_approved(&self) -> bool {
        self.approved.is_some()
    }

    /// In one line.
    pub(super) fn in_words(&self) -> String {
        let Self { id, wanted, room, .. } = self;
        match &self.approved {
            Some(Left { left, until }) => {
                format!("#{id} was approved: {left} more may go until {}", until.format("%Y-%m-%d %H:%M UTC"))
            }
            None => format!(
                "{}, more than the limits have room for ({room}); `linkspan approve {id}` lets them go",
                wants(&self.kind, *wanted)
            ),
        }
    }
}

/// What a hold wants to do, in words.
pub(super) fn wants(kind: &str, count: u64) -> String {
    match Kind::parse(kind) {
        Some(kind) => engine::wants(kind, count),
        None => counted(count, kind),
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    let config = context.config()?;
    let path = &config.state.path;
    // Opened for reading first, so that no state is made or migrated here.
    let store = Store::open_read_only(path)?;
    let now = context.doors.clock.now();
    let Some(id) = arguments.id.filter(|_| !arguments.list) else { return list(context, &store, now).await };
    drop(store);
    let approved = if let Some(daemon) = Owner::holder(path).filter(|holder| connect::is_daemon(holder)) {
        match order::carry_out(context, config, daemon, &Order::Approve(id)).await? {
            Ended::Approved(approved) => approved,
            _ => {
                return Err(CliError::failed(
                    "the daemon answered something else than was asked; is it another version?",
                ));
            }
        }
    } else {
        let _owner = connect::own(context, config, "approve")?;
        let store = Store::open(path, Calling::Blocking)?;
        store.write(move |tx| engine::approve_in(tx, id, now)).await?
    };
    say(context, id, &approved)
}

async fn list(context: &Context, store: &Store, now: DateTime<Utc>) -> Result<(), CliError> {
    let printer = &context.printer;
    let held: Vec<Held> = store.read(move |tx| tx.current_holds(now)).await?.into_iter().map(Held::from).collect();
    if printer.is_json() {
        printer.json(&held);
        return Ok(());
    }
    if held.is_empty() {
        printer.note("nothing is held");
        return Ok(());
    }
    let rows = held.into_iter().map(|held| {
        let how = match &held.approved {
            Some(_) => held.in_words(),
            None => format!("held: the limits had room for {}", held.room),
        };
        let wants = wants(&held.kind, held.wanted);
        [held.id.to_string(), wants, how, held.since.format("%Y-%m-%d %H:%M").to_string()]
    });
    printer.table(&["#", "what", "how it stands", "since"], rows);
    Ok(())
}

fn say(context: &Context, id: i64, approved: &Approved) -> Result<(), CliError> {
    let printer = &context.printer;
    match approved {
        Approved::NotHeld => {
            Err(CliError::failed(format!("nothing is held under {id}; `linkspan approve --list` shows the numbers")))
        }
        approved if printer.is_json() => {
            printer.json(approved);
            Ok(())
        }
        Approved::Done { kind, wanted, may, until, .. } => {
            printer.data(format!("approved: {}", wants(kind, *wanted)));
            printer.note(format!(
                "up to {may} may go until {}, with those that come meanwhile; the daemon does it now, else the next \
                 `linkspan sync`",
                until.format("%Y-%m-%d %H:%M UTC")
            ));
            Ok(())
        }
    }
}
