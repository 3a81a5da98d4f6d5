//! One webhook of Brevo's, or a batch of them: is it Brevo's? Then it is kept, and only then acknowledged.
//!
//! What Brevo makes of an answer decides ours: 2xx is final, and so is every other 4xx than 429 and every 5xx (what it
//! carried is discarded, a whole batch at once). 429, or no answer, brings it back after 10 minutes, 1, 2 and 8 hours. So
//! whatever may succeed later is answered 429, and only what never will is refused.

use super::Shared;
use super::body::{self, Unread};
use super::complaints::Reason;
use super::refused::{Refused, kept, redacted};
use crate::brevo::webhook::Delivery;
use crate::engine::BREVO_LONGEST_BODY;
use crate::model::SideName;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;

pub(super) async fn receive(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    match shared.receive_brevo(request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => shared.refuse(SideName::Brevo, refused).await,
    }
}

impl Shared {
    async fn receive_brevo(&self, request: Request<Body>) -> Result<(), Refused> {
        let (parts, body) = request.into_parts();
        // Before a byte of the body is read: nothing of it is part of the proof.
        if let Some(auth) = self.brevo_auth.as_ref().filter(|auth| !auth.admits(&parts.headers)) {
            body::discard(body).await;
            let why = format!("the header {} does not carry the configured secret", auth.header());
            return Err(Refused::new(Reason::Signature, StatusCode::UNAUTHORIZED, why));
        }
        let arrived = self.arrived(&parts.headers, body, BREVO_LONGEST_BODY).await;
        let (_place, held) = arrived.map_err(|unread| {
            let refused = match unread {
                Unread::TooLong => {
                    let why = format!("the body is longer than {BREVO_LONGEST_BODY} bytes");
                    Refused::new(Reason::TooLong, StatusCode::PAYLOAD_TOO_LARGE, why)
                }
                Unread::NoRoom => Refused::later(Reason::Crowded, "too many webhooks at once"),
                Unread::Broken => Refused::later(Reason::Incomplete, "the body did not arrive whole"),
                Unread::Late => Refused::later(Reason::Incomplete, "the body did not arrive in time"),
            };
            refused.of("none", None)
        })?;
        let delivery = Delivery::parse(&held.bytes).map_err(|error| {
            let why = format!("the body is no webhook: {error}");
            Refused::new(Reason::Unreadable, StatusCode::BAD_REQUEST, why).of("none", None)
        })?;
        let topic = delivery.topic();
        if tracing::enabled!(tracing::Level::TRACE) && self.connection.settings().log_webhooks {
            tracing::trace!(topic, events = delivery.hints.len(), body = %redacted(&held.bytes), "webhook received");
        }
        drop(delivery);
        // What becomes of it is logged when it is acted on. Should it be kept though we were told too late, it is acted
        // on twice, which reads somebody once more.
        let keeping = self.connection.receive_from_brevo(topic, held.bytes.clone());
        kept(keeping).await.map_err(|refused| refused.of(topic, None))
    }
}
