//! One notification: is it Intercom's? Then it is kept, and only then acknowledged.
//!
//! What Intercom makes of an answer decides ours: 2xx is final; 410 disables the subscription at once and is never
//! given; 429 brings the notification back for up to two hours; anything else, or no answer within 5 s, brings it back
//! once, a minute later.

use super::Shared;
use super::body::{self, Unread};
use super::complaints::Reason;
use super::refused::{Refused, kept, redacted};
use crate::engine::{LONGEST_BODY, Received};
use crate::intercom::webhook::{Notification, verify};
use crate::model::SideName;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;

pub(super) async fn receive(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    match shared.receive(request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => shared.refuse(SideName::Intercom, refused).await,
    }
}

impl Shared {
    async fn receive(&self, request: Request<Body>) -> Result<(), Refused> {
        let (parts, body) = request.into_parts();
        let Some(signature) = signature(&parts.headers) else {
            body::discard(body).await;
            return Err(Refused::new(Reason::Signature, StatusCode::UNAUTHORIZED, "X-Hub-Signature is missing"));
        };
        let arrived = self.arrived(&parts.headers, body, LONGEST_BODY).await;
        let (_place, held) = arrived.map_err(|unread| match unread {
            Unread::TooLong => {
                let why = format!("the body is longer than {LONGEST_BODY} bytes");
                Refused::new(Reason::TooLong, StatusCode::PAYLOAD_TOO_LARGE, why)
            }
            Unread::NoRoom => Refused::later(Reason::Crowded, "too many notifications at once"),
            Unread::Broken => {
                Refused::new(Reason::Incomplete, StatusCode::BAD_REQUEST, "the body did not arrive whole")
            }
            Unread::Late => {
                Refused::new(Reason::Incomplete, StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
            }
        })?;
        if !self.client_secret.as_ref().is_some_and(|secret| verify(secret, &held.bytes, signature)) {
            let why = "X-Hub-Signature does not fit the body and the client secret";
            return Err(Refused::new(Reason::Signature, StatusCode::UNAUTHORIZED, why));
        }
        let notification = Notification::parse(&held.bytes).map_err(|error| {
            let why = format!("the body is no notification: {error}");
            Refused::new(Reason::Unreadable, StatusCode::BAD_REQUEST, why).of("none", None)
        })?;
        let topic = notification.topic.as_str().to_owned();
        if tracing::enabled!(tracing::Level::TRACE) && self.connection.settings().log_webhooks {
            tracing::trace!(topic, id = notification.id, body = %redacted(&held.bytes), "webhook received");
        }
        let id = notification.id;
        // What becomes of it is logged when it is acted on. After a 5xx it would come once more only; this way the state
        // has two hours to recover, and should it be kept though we were told too late, its repeat is known by its id.
        let keeping = self.connection.receive(id.clone(), topic.clone(), held.bytes.clone());
        let received = kept(keeping).await.map_err(|refused| refused.of(&topic, id.clone()))?;
        if received == Received::Repeat && self.connection.settings().log_webhooks {
            tracing::info!(%topic, id, outcome = "repeated: known already", "webhook");
        }
        Ok(())
    }
}

/// The one signature. Of two, nobody knows which counts.
fn signature(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("x-hub-signature").iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { first.to_str().ok() }
}
