//! From a config to a connection: who owns the state, the state, both clients.

use super::{CliError, Context};
use crate::brevo::webhook::Auth;
use crate::brevo::{BrevoClient, BrevoOptions};
use crate::config::{Config, Plan, Region, WebhookAuth};
use crate::doors::Doors;
use crate::engine::{Connection, EngineError, Settings};
use crate::http::{Reqwest, Transport};
use crate::intercom::{self, IntercomClient, IntercomOptions};
use crate::model::Side;
use crate::store::{Calling, Owner, Store, StoreError};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long a whole exchange may take. The engine's time in which a lost request can still land is reckoned from it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, and the lock that makes the state ours while this lives (none on a copy).
pub(super) struct Connected {
    pub(super) connection: Arc<Connection>,
    pub(super) _owner: Option<Owner>,
}

/// Both vendors' clients.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) intercom: Arc<dyn Side>,
    pub(super) brevo: Arc<dyn Side>,
}

/// How Brevo's webhooks are told from anybody's, if the config says.
pub(super) fn webhook_auth(config: &Config) -> Option<Auth> {
    Some(match config.brevo.webhooks.auth.clone()? {
        WebhookAuth::Bearer(token) => Auth::Bearer(token),
        WebhookAuth::Basic(user, password) => Auth::Basic(user, password),
        WebhookAuth::Header(name, value) => Auth::Header(name, value),
    })
}

/// Builds the clients. Nothing is sent yet.
pub(super) fn clients(config: &Config, doors: &Doors) -> Result<Clients, CliError> {
    config.require_credentials()?;
    // `require_credentials` has refused a config without them; a blank one is refused by the vendor.
    let access_token = config.intercom.access_token.clone().unwrap_or_default();
    let transport = transport()?;
    let base_url = config.intercom.base_url.clone();
    Ok(Clients {
        intercom: Arc::new(intercom_over(Arc::clone(&transport), config, (base_url, access_token), doors)),
        brevo: Arc::new(brevo_over(transport, config, doors)),
    })
}

fn intercom_over(
    transport: Arc<dyn Transport>,
    config: &Config,
    (base_url, access_token): (Url, SecretString),
    doors: &Doors,
) -> IntercomClient {
    let plan = config.limits.intercom.plan.map(|plan| match plan {
        Plan::Starter => intercom::Plan::Starter,
        Plan::Pro => intercom::Plan::Pro,
        Plan::Premium => intercom::Plan::Premium,
    });
    let options = IntercomOptions {
        base_url,
        access_token,
        api_version: config.intercom.api_version.clone(),
        share: config.limits.intercom.share,
        plan,
    };
    IntercomClient::new(options, transport, doors.clone())
}

/// The other region in which the config's token is known. `None`: in none, or the config names an address of its own.
pub(super) async fn region_that_knows_the_token(config: &Config, doors: &Doors) -> Option<Region> {
    ask_other_regions(&transport().ok()?, config, doors).await
}

async fn ask_other_regions(transport: &Arc<dyn Transport>, config: &Config, doors: &Doors) -> Option<Region> {
    let token = config.intercom.access_token.clone()?;
    if config.intercom.base_url.host_str() != Some(config.intercom.region.host()) {
        return None;
    }
    for region in Region::ALL.into_iter().filter(|region| *region != config.intercom.region) {
        let Ok(base_url) = Url::parse(&format!("https://{}", region.host())) else { continue };
        if intercom_over(Arc::clone(transport), config, (base_url, token.clone()), doors).account().await.is_ok() {
            return Some(region);
        }
    }
    None
}

/// Brevo's client alone, for what only Brevo has.
pub(super) fn brevo(config: &Config, doors: &Doors) -> Result<BrevoClient, CliError> {
    config.require_credentials()?;
    Ok(brevo_over(transport()?, config, doors))
}

fn transport() -> Result<Arc<dyn Transport>, CliError> {
    Ok(Arc::new(Reqwest::new(TIMEOUT).map_err(|error| CliError::failed(error.to_string()))?))
}

fn brevo_over(transport: Arc<dyn Transport>, config: &Config, doors: &Doors) -> BrevoClient {
    let options = BrevoOptions {
        base_url: config.brevo.base_url.clone(),
        api_key: config.brevo.api_key.clone().unwrap_or_default(),
        share: config.limits.brevo.share,
        paced: true,
    };
    BrevoClient::new(options, transport, doors.clone())
}

/// Takes the state (or names who has it), opens it, and builds the connection. `command` is what others are told.
pub(super) fn open(context: &Context, config: &Config, command: &str) -> Result<Connected, CliError> {
    let clients = clients(config, &context.doors)?;
    let owner = own(context, config, command)?;
    let store = Store::open(&config.state.path, Calling::Blocking)?;
    Ok(Connected { connection: connection(context, config, clients, store), _owner: Some(owner) })
}

/// The same for finding out what would happen: on a passing copy of the state, so that nothing of what is read for
/// that stays behind (cursors and watermarks above all), and nobody has to let go of the state.
pub(super) fn open_to_look(context: &Context, config: &Config) -> Result<Connected, CliError> {
    let clients = clients(config, &context.doors)?;
    let store = copy(config)?;
    if let Some(holder) = Owner::holder(&config.state.path) {
        context.printer.note(format!("the state is in use by {holder}; this looks at a copy of it"));
    }
    Ok(Connected { connection: connection(context, config, clients, store), _owner: None })
}

/// Whether the accounts are those that the state is of, as far as they say so soon: vendors that are down hold up nobody,
/// and webhooks wait for less than the 5 s that Intercom waits for an answer.
pub(super) async fn check_pair(connection: &Connection) -> Result<(), EngineError> {
    const LOOK: Duration = Duration::from_secs(3);
    tokio::time::timeout(LOOK, connection.check_pair()).await.unwrap_or(Ok(()))
}

/// The commands that hold a state, follow its schedule and take orders.
const DAEMONS: [&str; 2] = ["`linkspan run`", "`linkspan demo`"];

/// Whether a state's holder is a daemon.
pub(super) fn is_daemon(holder: &str) -> bool {
    DAEMONS.iter().any(|name| holder.contains(name))
}

/// The state as it is now, for as long as this lives; an empty one where there is none.
pub(super) fn copy(config: &Config) -> Result<Store, StoreError> {
    let path = &config.state.path;
    if path.exists() { Store::copy_of(path) } else { Store::passing() }
}

/// Takes the state, or names who has it. `command` is what others are told.
pub(super) fn own(context: &Context, config: &Config, command: &str) -> Result<Owner, StoreError> {
    let now = context.doors.clock.now().format("%Y-%m-%d %H:%M:%S UTC");
    let who = format!("`linkspan {command}` (process {}, since {now})", std::process::id());
    Owner::acquire(&config.state.path, &who)
}

pub(super) fn connection(context: &Context, config: &Config, clients: Clients, store: Store) -> Arc<Connection> {
    let settings = Settings::from_config(config);
    Connection::new(clients.intercom, clients.brevo, store, context.doors.clone(), settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::Doors;
    use crate::http::{InProcess, TransportError};
    use crate::sandbox::intercom::{IntercomOptions as DoubleOptions, IntercomSandbox};
    use bytes::Bytes;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// Knows the workspace at one host, and refuses its token at all others.
    struct Regions {
        home: &'static str,
        there: InProcess,
        elsewhere: InProcess,
    }

    #[async_trait::async_trait]
    impl Transport for Regions {
        async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
            let at_home = request.uri().host() == Some(self.home);
            if at_home { self.there.send(request).await } else { self.elsewhere.send(request).await }
        }
    }

    #[tokio::test]
    async fn the_region_that_a_token_is_of_is_found() {
        let doors = Doors::system();
        let double = || IntercomSandbox::new(DoubleOptions { clock: doors.clock.clone(), ..DoubleOptions::default() });
        let workspace = double();
        let ask = async |home, region: &str, token: &str| {
            let stranger = axum::Router::new().fallback(|| async { http::StatusCode::UNAUTHORIZED });
            let (there, elsewhere) = (InProcess::new(workspace.router()), InProcess::new(stranger));
            let transport: Arc<dyn Transport> = Arc::new(Regions { home, there, elsewhere });
            let text = format!("connectors: {{intercom: {{access_token: \"{token}\", region: {region}}}}}");
            let config = Config::parse(&text, Path::new("x.yaml"), &BTreeMap::new()).unwrap();
            ask_other_regions(&transport, &config, &doors).await
        };
        let token = workspace.access_token();
        assert_eq!(ask("api.au.intercom.io", "us", token).await, Some(Region::Au));
        assert_eq!(ask("api.intercom.io", "eu", token).await, Some(Region::Us));
        assert_eq!(ask("api.eu.intercom.io", "eu", token).await, None, "it was asked already");
        assert_eq!(ask("api.eu.intercom.io", "us", "another").await, None);
    }
}
