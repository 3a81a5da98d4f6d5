//! From a config to a connection: who owns the state, the state, both clients.

use super::{CliError, Context};
use crate::brevo::{BrevoClient, BrevoOptions};
use crate::config::{Config, Plan};
use crate::doors::Doors;
use crate::engine::{Connection, Settings};
use crate::http::{Reqwest, Transport};
use crate::intercom::{self, IntercomClient, IntercomOptions};
use crate::model::Side;
use crate::store::{Calling, Owner, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long a whole exchange may take. The engine's time in which a lost request can still land is reckoned from it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, and the lock that makes the state ours while this lives.
pub(super) struct Connected {
    pub(super) connection: Arc<Connection>,
    pub(super) _owner: Owner,
}

/// Both vendors' clients.
pub(super) struct Clients {
    pub(super) intercom: Arc<dyn Side>,
    pub(super) brevo: Arc<dyn Side>,
}

/// Builds the clients. Nothing is sent yet.
pub(super) fn clients(config: &Config, doors: &Doors) -> Result<Clients, CliError> {
    config.require_credentials()?;
    // `require_credentials` has refused a config without them; a blank one is refused by the vendor.
    let access_token = config.intercom.access_token.clone().unwrap_or_default();
    let api_key = config.brevo.api_key.clone().unwrap_or_default();
    let transport: Arc<dyn Transport> =
        Arc::new(Reqwest::new(TIMEOUT).map_err(|error| CliError::failed(error.to_string()))?);
    let plan = config.limits.intercom.plan.map(|plan| match plan {
        Plan::Starter => intercom::Plan::Starter,
        Plan::Pro => intercom::Plan::Pro,
        Plan::Premium => intercom::Plan::Premium,
    });
    let intercom = IntercomOptions {
        base_url: config.intercom.base_url.clone(),
        access_token,
        api_version: config.intercom.api_version.clone(),
        share: config.limits.intercom.share,
        plan,
    };
    let brevo = BrevoOptions {
        base_url: config.brevo.base_url.clone(),
        api_key,
        share: config.limits.brevo.share,
        paced: true,
    };
    Ok(Clients {
        intercom: Arc::new(IntercomClient::new(intercom, Arc::clone(&transport), doors.clone())),
        brevo: Arc::new(BrevoClient::new(brevo, transport, doors.clone())),
    })
}

/// Takes the state (or names who has it), opens it, and builds the connection. `command` is what others are told.
pub(super) fn open(context: &Context, config: &Config, command: &str) -> Result<Connected, CliError> {
    let clients = clients(config, &context.doors)?;
    let now = context.doors.clock.now().format("%Y-%m-%d %H:%M:%S UTC");
    let who = format!("`linkspan {command}` (process {}, since {now})", std::process::id());
    let owner = Owner::acquire(&config.state.path, &who)?;
    let store = Store::open(&config.state.path, Calling::Blocking)?;
    let settings = Settings::from_config(config);
    let connection = Connection::new(clients.intercom, clients.brevo, store, context.doors.clone(), settings);
    Ok(Connected { connection, _owner: owner })
}
