//! `demo`: the whole program against a filled Intercom and Brevo on this machine. Nothing leaves it.
//!
//! | file | shows |
//! |---|---|
//! | `arrived` | what a first full sync brought over, compared with what the two sandboxes really hold |
//! | `edits` | live edits on either side, each followed until it arrives on the other |
//! | `conflict` | a field that was changed on both sides while nothing ran |

mod arrived;
mod conflict;
mod edits;

use super::progress::Stages;
use super::sandbox::{API_KEY, Sandboxes, Setup, start};
use super::{CliError, Context, Printer, connect, signals, sync, webhooks};
use crate::config::Config;
use crate::doors::{Clock, Doors};
use crate::engine::{Connection, Daemon, SyncOptions};
use crate::sandbox::{Deliverer, DeliveryRules};
use crate::server::{BREVO_PATH, INTERCOM_PATH, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// Contacts in Intercom
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = contacts)]
    contacts: usize,
    /// Leave the daemon and both sandboxes up afterwards, to play with
    #[arg(long)]
    keep: bool,
}

fn contacts(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 60..=200_000) => Ok(count),
        _ => Err("expected a number from 60 to 200000".to_owned()),
    }
}

pub(super) const USERS: &str = "Intercom users";
pub(super) const LEADS: &str = "Intercom leads";
pub(super) const ACTIVE: &str = "In conversation";
pub(super) const VIP: &str = "VIP customers";

/// What a newcomer would write, for these two accounts.
fn config(sandboxes: &Sandboxes) -> String {
    let (intercom, brevo) = (sandboxes.intercom_at.base_url(), sandboxes.brevo_url());
    let (token, secret) = (sandboxes.intercom.access_token(), sandboxes.intercom.client_secret());
    format!(
        r#"connectors:
  intercom:
    base_url: {intercom}
    access_token: "{token}"
    client_secret: "{secret}"
    lists:
      all_users: {USERS}
      leads: {LEADS}
      active_conversations: {ACTIVE}
  brevo:
    base_url: {brevo}
    api_key: {API_KEY}
    webhooks:
      secret: demo
field_mapping:
  name:
    to: [FIRSTNAME, LASTNAME]
    transform: split_name
    direction: both
    on_conflict: intercom
  phone: SMS
  role: ROLE
  signed_up_at: SIGNUP_DATE
  last_seen_at: LAST_ACTIVE
  company.name: COMPANY_NAME
  company.plan: COMPANY_PLAN
  custom_attributes.plan_tier:
    to: PLAN_TIER
    direction: both
    on_conflict: brevo
  conversations.open_count: OPEN_CONVERSATIONS
  conversations.last_rating: LAST_RATING
  tags:
    VIP:
      list: {VIP}
      direction: both
state:
  path: linkspan.db
limits:
  brevo:
    import_threshold: 25
"#
    )
}

/// A folder that goes when the demo goes.
struct Folder(PathBuf);

impl Folder {
    fn make(doors: &Doors) -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(format!("linkspan-demo-{:016x}", doors.rng.next_u64()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            builder.mode(0o700);
        }
        builder
            .create(&path)
            .map_err(|error| CliError::Io { what: format!("making the folder {}", path.display()), error })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the system's folder for what may be lost; if it stays, the system removes it.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The daemon and its server, as `run` starts them, with both vendors' webhooks coming in.
struct Live {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    address: std::net::SocketAddr,
}

impl Live {
    async fn start(
        context: &Context,
        connection: &Arc<Connection>,
        config: &Config,
        sandboxes: &Sandboxes,
    ) -> Result<Self, CliError> {
        let listening = |error| CliError::Io { what: "listening for webhooks".to_owned(), error };
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let daemon = Daemon::new(Arc::clone(connection), config.schedule.clone());
        let stopped = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = daemon.run(stopped).await {
                tracing::error!("the daemon stopped: {error}");
            }
        });
        let server = Server::new(Arc::clone(connection), config.intercom.client_secret.clone())
            .with_brevo(connect::webhook_auth(config));
        let stopped = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = server.serve(listener, stopped).await {
                tracing::error!("the webhook receiver stopped: {error}");
            }
        });
        let url = format!("http://{address}{INTERCOM_PATH}");
        let deliverer = Deliverer::to_url(&url, DeliveryRules::intercom(), stop.clone())
            .map_err(|error| CliError::failed(format!("webhooks cannot be delivered: {error}")))?;
        let intercom = sandboxes.intercom.clone();
        tasks.spawn(async move { deliverer.run(|| intercom.next_webhooks()).await });
        // Brevo's are registered through its API, as `webhooks register` does it.
        if let (Some(auth), Ok(url)) =
            (connect::webhook_auth(config), Url::parse(&format!("http://{address}{BREVO_PATH}")))
        {
            webhooks::register_at(config, &connect::brevo(config, &context.doors)?, &url, &auth).await?;
            let deliverer = Deliverer::to_registered(DeliveryRules::brevo(), stop.clone())
                .map_err(|error| CliError::failed(format!("webhooks cannot be delivered: {error}")))?;
            let brevo = sandboxes.brevo.clone();
            tasks.spawn(async move { deliverer.run(|| brevo.next_webhooks()).await });
        }
        Ok(Self { stop, tasks, address })
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), CliError> {
    // A stop on the way drops everything, the folder with the state included. One that `--keep` waits for is no failure.
    let kept = CancellationToken::new();
    tokio::select! {
        done = play(context, arguments, &kept) => done,
        () = async {
            signals::stop_asked().await;
            if kept.is_cancelled() {
                std::future::pending::<()>().await;
            }
        } => Err(CliError::failed("stopped")),
    }
}

async fn play(context: &Context, arguments: &Arguments, kept: &CancellationToken) -> Result<(), CliError> {
    let (printer, clock) = (&context.printer, &context.doors.clock);
    let say = |text: &str| {
        if !printer.is_json() {
            printer.data(text);
        }
    };
    let began = clock.now();
    let folder = Folder::make(&context.doors)?;
    let sandboxes = start(&Setup {
        contacts: arguments.contacts,
        seed: 1,
        ports: (0, 0),
        import_delay: Duration::from_secs(1),
        index_lag: Duration::from_secs(3),
    })
    .await?;
    let before = arrived::Before::look(&sandboxes);
    say(&format!(
        "An Intercom with {} contacts, {} companies and {} conversations, and a Brevo with {} contacts, both on this machine.",
        before.truth.contacts, before.truth.companies, before.truth.conversations, before.brevo_contacts,
    ));
    let (config, path) = write_config(&folder.0, &sandboxes)?;
    let connected = connect::open(context, &config, "demo")?;
    let connection = &connected.connection;

    say("\n1. A first full sync");
    let stages = Stages::new(printer, Arc::clone(clock));
    let sync_began = clock.now();
    let options = SyncOptions { full: true, ..SyncOptions::default() };
    let sync = connection.sync(&options, &stages);
    let (summary, first) = Box::pin(with_first_record(sync, &sandboxes, clock.as_ref())).await;
    stages.finish();
    let summary = summary?;
    if !printer.is_json() {
        sync::show(context, &summary, clock.now() - sync_began);
    }
    let first = first.map(|at| ((at - sync_began).as_seconds_f64(), (at - began).as_seconds_f64()));
    if let Some((sync, start)) = first {
        say(&format!("  first record in Brevo after {sync:.1} s ({start:.1} s after this command began)"));
    }

    say("\n2. What arrived, by what the two really hold");
    let rows = before.compare(&sandboxes, &connection.store().read(|tx| tx.counts()).await?);
    let arrived = rows.iter().all(arrived::Row::holds);
    if !printer.is_json() {
        show_rows(printer, &rows);
    }

    say("\n3. Live edits in Intercom, through signed webhooks");
    let live = Live::start(context, connection, &config, &sandboxes).await?;
    let mut edits = edits::in_intercom(&sandboxes, clock.as_ref(), printer).await;
    say("\n4. Live edits in Brevo, through its webhooks");
    edits.extend(edits::in_brevo(&sandboxes, clock.as_ref(), printer).await);
    let edits_arrived = edits.iter().all(|edit| edit.took.is_some());

    say("\n5. While nothing runs, somebody's plan is changed in Intercom and in Brevo; then a sync");
    // The daemon may be in the middle of its own first reads: it stops as on SIGTERM.
    live.stop().await;
    let conflict = conflict::play(connection, &sandboxes, printer).await?;

    say("\n6. One more full sync, now that both are in step");
    let written = || [sandboxes.brevo.log().writes().len(), sandboxes.intercom.log().writes().len()];
    let before_it = written();
    let cycle = connection.sync(&SyncOptions { full: true, ..SyncOptions::default() }, &crate::engine::Silent).await?;
    let after_it = written();
    let [writes, intercom_writes] = [after_it[0] - before_it[0], after_it[1] - before_it[1]];
    let mark = |good: bool| if good { printer.tick() } else { printer.cross() };
    let reads: u64 = cycle.read.values().map(|swept| swept.rows).sum();
    say(&format!(
        "  {} {reads} records read, {writes} writes to Brevo, {intercom_writes} to Intercom",
        mark(writes + intercom_writes == 0)
    ));

    let took = clock.now() - began;
    let good = arrived && edits_arrived && conflict.holds() && writes + intercom_writes == 0;
    if printer.is_json() {
        printer.json(&json!({
            "ok": good,
            "seconds": took.as_seconds_f64(),
            "sync": summary,
            "firstRecord": first.map(|(sync, start)| json!({"secondsOfSync": sync, "secondsSinceStart": start})),
            "arrived": rows,
            "edits": edits,
            "conflict": conflict,
            "nextCycle": {"writes": writes, "intercomWrites": intercom_writes},
        }));
    }
    if arguments.keep {
        kept.cancel();
        keep(context, &sandboxes, connection, &config, &path).await?;
    } else if good {
        say(&format!("\nDone in {:.1} s. `linkspan demo --keep` leaves it up to play with.", took.as_seconds_f64()));
    }
    drop(connected);
    drop(folder);
    if good { Ok(()) } else { Err(CliError::failed("not everything went as it should: see what is marked ✗")) }
}

/// The sync, and when Brevo had the first record of it, by Brevo's own count: one that was changed there, or a new one.
async fn with_first_record<T>(
    sync: impl Future<Output = T>,
    sandboxes: &Sandboxes,
    clock: &dyn Clock,
) -> (T, Option<chrono::DateTime<chrono::Utc>>) {
    const LOOK: Duration = Duration::from_millis(10);
    let before = sandboxes.brevo.contact_count();
    let changed = ("PUT".to_owned(), "/contacts/{identifier}".to_owned());
    let has_one = || {
        let counts = sandboxes.brevo.log().counts();
        sandboxes.brevo.contact_count() > before || counts.get(&changed).is_some_and(|count| count.writes > 0)
    };
    let first = async {
        while !has_one() {
            tokio::time::sleep(LOOK).await;
        }
        clock.now()
    };
    let (mut sync, mut first) = (std::pin::pin!(sync), std::pin::pin!(first));
    tokio::select! {
        biased;
        done = &mut sync => {
            let late = has_one().then(|| clock.now());
            (done, late)
        }
        at = &mut first => (sync.await, Some(at)),
    }
}

fn write_config(folder: &Path, sandboxes: &Sandboxes) -> Result<(Config, PathBuf), CliError> {
    let path = folder.join("config.yaml");
    std::fs::write(&path, config(sandboxes))
        .map_err(|error| CliError::Io { what: format!("writing {}", path.display()), error })?;
    Ok((Config::load(&path, &BTreeMap::new())?, path))
}

fn show_rows(printer: &Printer, rows: &[arrived::Row]) {
    let cells = rows.iter().map(|row| {
        let mark = if row.holds() { "✓" } else { "✗" };
        [row.what.to_owned(), row.intercom.to_string(), row.arrived.to_string(), row.note(), mark.to_owned()]
    });
    printer.table(&["", "expected", "arrived", "", ""], cells);
}

async fn keep(
    context: &Context,
    sandboxes: &Sandboxes,
    connection: &Arc<Connection>,
    config: &Config,
    path: &Path,
) -> Result<(), CliError> {
    let asked_to_stop = signals::stop_asked();
    let live = Live::start(context, connection, config, sandboxes).await?;
    let (intercom, brevo) = (sandboxes.intercom_at.base_url(), sandboxes.brevo_url());
    let webhooks = format!("http://{}{INTERCOM_PATH}", live.address);
    if context.printer.is_json() {
        context.printer.json(&json!({
            "config": path, "webhooks": webhooks,
            "intercom": {"base_url": intercom, "access_token": sandboxes.intercom.access_token()},
            "brevo": {"base_url": brevo, "api_key": API_KEY},
        }));
    } else {
        let token = sandboxes.intercom.access_token();
        let some = sandboxes.intercom.contact_ids().into_iter().next().unwrap_or_default();
        let email = sandboxes.intercom.contact(&some).and_then(|contact| contact["email"].as_str().map(str::to_owned));
        let email = email.unwrap_or_default();
        context.printer.data(format!(
            "\nThe daemon is up until Ctrl-C.\n  its status       linkspan status -c {path}\n  Intercom's API   {intercom}   Brevo's API   \
             {brevo}\n  webhooks         {webhooks}\nRename somebody in Intercom, and look at them in Brevo:\n  curl -X PUT -H \
             'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{\"name\": \"Grace Hopper\"}}' \
             {intercom}/contacts/{some}\n  curl -H 'api-key: {API_KEY}' {brevo}/contacts/{email}",
            path = path.display(),
        ));
    }
    asked_to_stop.await;
    live.stop().await;
    Ok(())
}

/// A text of a record, if it is not empty.
fn text<'a>(record: &'a Value, key: &str) -> Option<&'a str> {
    record.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// Milliseconds since `from`.
fn since(clock: &dyn Clock, from: chrono::DateTime<chrono::Utc>) -> u64 {
    u64::try_from((clock.now() - from).num_milliseconds()).unwrap_or(0)
}
