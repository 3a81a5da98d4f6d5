//! One notification: is it Intercom's? Then it is kept, and only then acknowledged.
//!
//! What Intercom makes of an answer decides ours: 2xx is final; 410 disables the subscription at once and is never
//! given; 429 brings the notification back for up to two hours; anything else, or no answer within 5 s, brings it back
//! once, a minute later.

use super::Shared;
use super::body::{self, Unread};
use super::complaints::Reason;
use super::refused::{KEEPING, Refused, announced, redacted};
use crate::engine::{LONGEST_BODY, Received};
use crate::intercom::webhook::{Notification, verify};
use crate::model::SideName;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use std::time::Duration;

/// How long the body may take. Together with [`KEEPING`] it stays below Intercom's 5 s.
const ARRIVING: Duration = Duration::from_millis(2_500);

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
        let too_long = || {
            let why = format!("the body is longer than {LONGEST_BODY} bytes");
            Refused::new(Reason::TooLong, StatusCode::PAYLOAD_TOO_LARGE, why)
        };
        if announced(&parts.headers).is_some_and(|length| length > LONGEST_BODY as u64) {
            body::discard(body).await;
            return Err(too_long());
        }
        let crowded = || Refused::later(Reason::Crowded, "too many notifications at once");
        let _place = self.in_work.try_acquire().map_err(|_| crowded())?;
        let held = match tokio::time::timeout(ARRIVING, body::read(body, LONGEST_BODY, &self.memory)).await {
            Ok(Ok(held)) => held,
            Ok(Err(Unread::TooLong)) => return Err(too_long()),
            Ok(Err(Unread::NoRoom)) => return Err(crowded()),
            Ok(Err(Unread::Broken)) => {
                let why = "the body did not arrive whole";
                return Err(Refused::new(Reason::Incomplete, StatusCode::BAD_REQUEST, why));
            }
            Err(_) => {
                let why = "the body did not arrive in time";
                return Err(Refused::new(Reason::Incomplete, StatusCode::REQUEST_TIMEOUT, why));
            }
        };
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
        let kept = self.connection.receive(id.clone(), topic.clone(), held.bytes.clone());
        match tokio::time::timeout(KEEPING, kept).await {
            // What became of it is logged when it is acted on.
            Ok(Ok(Received::Kept)) => Ok(()),
            Ok(Ok(Received::Repeat)) => {
                if self.connection.settings().log_webhooks {
                    tracing::info!(%topic, id, outcome = "repeated: known already", "webhook");
                }
                Ok(())
            }
            // A store that answers 5xx would be asked once more only; this way it has two hours to recover.
            Ok(Err(error)) => Err(Refused::later(Reason::NotKept, error.to_string()).of(&topic, id)),
            // Should it be kept after all, its repeat is known by its id.
            Err(_) => Err(Refused::later(Reason::NotKept, "the state did not answer in time").of(&topic, id)),
        }
    }
}

/// The one signature. Of two, nobody knows which counts.
fn signature(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("x-hub-signature").iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { first.to_str().ok() }
}
