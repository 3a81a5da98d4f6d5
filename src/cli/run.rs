//! `run`: the daemon. The engine works, the server listens, and signals stop or reload.

use super::{CliError, Context, connect, signals};
use crate::config::{Config, WebhookAuth};
use crate::engine::{Daemon, EngineError, Settings};
use crate::server::Server;
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From being asked to stop to being gone. What is not done by then is in the store.
const LONGEST_STOP: Duration = Duration::from_secs(9);

pub(super) async fn run(context: &Context) -> Result<(), CliError> {
    let config = context.usable_config()?;
    if !config.intercom.enabled {
        return Err(CliError::SwitchedOff("connectors.intercom.enabled is false: there is nothing to run".to_owned()));
    }
    // Handlers first: a signal that comes during the start stops it in order, too.
    let mut hangups = signals::Hangups::listen();
    let mut stop_asked = std::pin::pin!(signals::stop_asked());
    let connected = connect::open(context, config, "run")?;
    let connection = &connected.connection;
    let listener = TcpListener::bind(config.server.listen).await.map_err(|error| CliError::Io {
        what: format!("listening on {} (server.listen)", config.server.listen),
        error,
    })?;
    // Nothing is accepted for a state of other accounts. While a vendor is down, that cannot be seen, and webhooks are
    // kept all the same: the state says whose it is, a notification of another workspace changes nothing, and the
    // daemon's own start looks again before anything is acted on. A state that nobody has used yet is of no other pair.
    tokio::select! {
        biased;
        () = &mut stop_asked => return Ok(()),
        looked = connect::check_pair(connection) => looked?,
    }
    let stop = CancellationToken::new();
    let daemon = std::sync::Arc::new(Daemon::new(std::sync::Arc::clone(connection), config.schedule.clone()));
    let server = Server::new(std::sync::Arc::clone(connection), config.intercom.client_secret.clone())
        .with_brevo(connect::webhook_auth(config));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state = %config.state.path.display(), "started");

    let mut tasks: JoinSet<Result<(), CliError>> = JoinSet::new();
    let (running, stopped) = (std::sync::Arc::clone(&daemon), stop.clone());
    tasks.spawn(async move { Ok(running.run(stopped).await?) });
    let stopped = stop.clone();
    tasks.spawn(async move {
        server
            .serve(listener, stopped)
            .await
            .map_err(|error| CliError::Io { what: "receiving webhooks".to_owned(), error })
    });

    let outcome = {
        let mut running = Running { started: config, in_force: in_force(config) };
        loop {
            tokio::select! {
                () = &mut stop_asked => {
                    tracing::info!("asked to stop: finishing what is in flight");
                    break Ok(());
                }
                // Whichever ends by itself has failed: the other is of no use alone.
                Some(ended) = tasks.join_next() => break flat(ended),
                () = hangups.next() => reload(context, &daemon, &mut running).await,
            }
        }
    };
    stop.cancel();
    let rest = async {
        let mut outcome = outcome;
        while let Some(ended) = tasks.join_next().await {
            outcome = outcome.and(flat(ended));
        }
        outcome
    };
    let outcome = tokio::time::timeout(LONGEST_STOP, rest).await.unwrap_or_else(|_| {
        tracing::warn!("some work did not end in time; it is in the state and goes on at the next start");
        Ok(())
    });
    tracing::info!("stopped");
    outcome
}

fn flat(ended: Result<Result<(), CliError>, tokio::task::JoinError>) -> Result<(), CliError> {
    match ended {
        Ok(Err(CliError::Engine(EngineError::Stopped))) => Ok(()),
        Ok(result) => result,
        Err(_) => Err(CliError::failed("a part of the daemon broke off; start it again, nothing is lost")),
    }
}

/// What a new config is compared with: not the file as it was last read, but what is in force.
struct Running<'a> {
    /// What is fixed until the next start.
    started: &'a Config,
    /// The rest, which a reload swaps.
    in_force: String,
}

/// All that a reload swaps, for comparison only. No secret is in it.
fn in_force(config: &Config) -> String {
    format!("{:?} {:?}", Settings::from_config(config), config.schedule)
}

/// A new config, if it can be used; else the old one stays, and the log says why.
async fn reload(context: &Context, daemon: &Daemon, running: &mut Running<'_>) {
    let new = match Config::load(&context.config_path, &context.environment) {
        Ok(new) => new,
        Err(errors) => {
            tracing::error!(errors = errors.len(), "the new config is not used, the old one stays: {errors}");
            return;
        }
    };
    for warning in &new.warnings {
        tracing::warn!("{warning}");
    }
    let at_restart = needs_restart(running.started, &new);
    for key in &at_restart {
        tracing::warn!(key, "`{key}` has changed, which takes effect at the next start only");
    }
    let next = in_force(&new);
    // The same config is fitted to the accounts anew, too: an attribute or a list may have changed there.
    match daemon.reload(Settings::from_config(&new), new.schedule.clone()).await {
        Ok(()) if next != running.in_force => {
            tracing::info!("config and mapping reloaded");
            running.in_force = next;
        }
        Ok(()) if at_restart.is_empty() => {
            tracing::info!("config and mapping are unchanged; both accounts were looked at again");
        }
        Ok(()) => tracing::info!("all else is unchanged; both accounts were looked at again"),
        Err(error) => tracing::error!("the new config is not used, the old one stays: {error}"),
    }
}

/// Whether Brevo's webhooks are told from anybody's in another way.
fn webhooks_differ(old: &Config, new: &Config) -> bool {
    use WebhookAuth::{Basic, Bearer, Header};
    let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
    match (&old.brevo.webhooks.auth, &new.brevo.webhooks.auth) {
        (None, None) => false,
        (Some(Bearer(a)), Some(Bearer(b))) => !same(a, b),
        (Some(Basic(user, a)), Some(Basic(other, b))) => user != other || !same(a, b),
        (Some(Header(name, a)), Some(Header(other, b))) => name != other || !same(a, b),
        _ => true,
    }
}

/// What is fixed when the daemon starts.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differ = |a: &Option<SecretString>, b: &Option<SecretString>| {
        a.as_ref().map(|secret| secret.expose_secret()) != b.as_ref().map(|secret| secret.expose_secret())
    };
    let (a, b) = (&old.intercom, &new.intercom);
    [
        ("connectors.intercom.enabled", a.enabled != b.enabled),
        ("connectors.intercom.access_token", differ(&a.access_token, &b.access_token)),
        ("connectors.intercom.client_secret", differ(&a.client_secret, &b.client_secret)),
        ("connectors.intercom.base_url", a.base_url != b.base_url),
        ("connectors.intercom.api_version", a.api_version != b.api_version),
        ("connectors.intercom.log_level", (a.log_level, a.debug) != (b.log_level, b.debug)),
        ("connectors.brevo.api_key", differ(&old.brevo.api_key, &new.brevo.api_key)),
        ("connectors.brevo.base_url", old.brevo.base_url != new.brevo.base_url),
        ("connectors.brevo.webhooks", webhooks_differ(old, new)),
        ("server.listen", old.server.listen != new.server.listen),
        ("state.path", old.state != new.state),
        ("limits.intercom", old.limits.intercom != new.limits.intercom),
        ("limits.brevo.share", (old.limits.brevo.share - new.limits.brevo.share).abs() > f64::EPSILON),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
