//! What the daemon listens with: both vendors' webhooks, and whether it is well.
//!
//! | file | does |
//! |---|---|
//! | `notifications` | one of Intercom's: signed? ours to keep? kept, then acknowledged |
//! | `brevo` | one of Brevo's, or a batch: is it Brevo's? kept, then acknowledged |
//! | `refused` | what the sender is told otherwise |
//! | `body` | request bodies within bounds of size, time and memory |
//! | `complaints` | log lines about refused requests, at most one now and then |
//! | `listen` | connections within bounds, and their end |

mod body;
mod brevo;
mod complaints;
mod listen;
mod notifications;
mod refused;

use crate::brevo::webhook::Auth;
use crate::engine::Connection;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use complaints::Complaints;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Where Intercom sends its notifications.
pub const INTERCOM_PATH: &str = "/webhooks/intercom";

/// Where Brevo sends its webhooks.
pub const BREVO_PATH: &str = "/webhooks/brevo";

/// Notifications in work at once. More are told to come again; Intercom then waits for at least a minute.
const AT_ONCE: usize = 64;
/// Bytes of bodies held at once, by all of them together.
const BYTES_AT_ONCE: usize = 4 * crate::engine::LONGEST_BODY;

/// Receives notifications for one connection.
pub struct Server(Arc<Shared>);

struct Shared {
    connection: Arc<Connection>,
    /// Without it nothing can tell Intercom from anybody else, so nothing is received.
    client_secret: Option<SecretString>,
    /// The same for Brevo.
    brevo_auth: Option<Auth>,
    in_work: Semaphore,
    memory: Semaphore,
    complaints: Complaints,
}

impl Server {
    /// Without a client secret there is no webhook receiver.
    pub fn new(connection: Arc<Connection>, client_secret: Option<SecretString>) -> Self {
        // An empty secret would let anybody sign.
        let client_secret = client_secret.filter(|secret| !secret.expose_secret().is_empty());
        Self(Arc::new(Shared {
            connection,
            client_secret,
            brevo_auth: None,
            in_work: Semaphore::new(AT_ONCE),
            memory: Semaphore::new(BYTES_AT_ONCE),
            complaints: Complaints::default(),
        }))
    }

    /// The same with a receiver of Brevo's webhooks, if there is something by which they can be told from anybody's.
    #[must_use]
    pub fn with_brevo(self, auth: Option<Auth>) -> Self {
        let Self(mut shared) = self;
        // Nobody else has it yet.
        if let Some(shared) = Arc::get_mut(&mut shared) {
            shared.brevo_auth = auth.filter(Auth::is_set);
        }
        Self(shared)
    }

    /// All routes, to be served or called in process.
    pub fn router(&self) -> Router {
        let mut router = Router::new().route("/health", get(health)).route("/ready", get(ready));
        if self.0.client_secret.is_some() {
            // Intercom asks with HEAD before it saves the URL.
            let methods = axum::routing::head(StatusCode::OK).post(notifications::receive);
            router = router.route(INTERCOM_PATH, methods);
        }
        if self.0.brevo_auth.is_some() {
            router = router.route(BREVO_PATH, axum::routing::head(StatusCode::OK).post(brevo::receive));
        }
        router.with_state(Arc::clone(&self.0))
    }

    /// Serves until asked to stop. Requests under way then get a few seconds to end.
    ///
    /// # Errors
    /// If the listener has no address: it is not listening.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let address = listener.local_addr()?;
        if self.0.client_secret.is_some() {
            tracing::info!(%address, "receiving Intercom's webhooks at {INTERCOM_PATH}");
        } else {
            tracing::warn!(
                %address,
                "no Intercom client secret is configured, so webhooks are not received; changes are found by the schedule only. \
                 Set connectors.intercom.client_secret or INTERCOM_CLIENT_SECRET"
            );
        }
        if self.0.brevo_auth.is_some() {
            tracing::info!(%address, "receiving Brevo's webhooks at {BREVO_PATH}");
        } else {
            tracing::warn!(
                %address,
                "no secret for Brevo's webhooks is configured, so they are not received; changes in Brevo are found by the \
                 schedule only. Set connectors.brevo.webhooks.secret or BREVO_WEBHOOK_SECRET"
            );
        }
        listen::serve(self.router(), listener, stop).await;
        Ok(())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("receives_webhooks", &self.0.client_secret.is_some())
            .field("receives_brevo", &self.0.brevo_auth.is_some())
            .finish_non_exhaustive()
    }
}

/// The process is alive.
async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "ok"}))
}

/// Both accounts have been looked at, so work goes on. Webhooks are kept before that, too.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<serde_json::Value>) {
    let ready = shared.connection.ready().is_some();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({"ready": ready})))
}
