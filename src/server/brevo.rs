//! One webhook of Brevo's, or a batch of them: is it Brevo's? Then it is kept, and only then acknowledged.
//!
//! What Brevo makes of an answer decides ours: 2xx is final, and so is every other 4xx than 429 and every 5xx (what it
//! carried is discarded, a whole batch at once). 429, or no answer, brings it back after 10 minutes, 1, 2 and 8 hours. So
//! whatever may succeed later is answered 429, and only what never will is refused.

use super::Shared;
use super::body::{self, Unread};
use super::complaints::Reason;
use super::refused::{KEEPING, Refused, announced, redacted};
use crate::brevo::webhook::Delivery;
use crate::engine::BREVO_LONGEST_BODY;
use crate::model::SideName;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use std::time::Duration;

/// How long the body may take: for how long Brevo waits is not written anywhere.
const ARRIVING: Duration = Duration::from_millis(2_500);

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
        let too_long = || {
            let why = format!("the body is longer than {BREVO_LONGEST_BODY} bytes");
            Refused::new(Reason::TooLong, StatusCode::PAYLOAD_TOO_LARGE, why).of("none", None)
        };
        if announced(&parts.headers).is_some_and(|length| length > BREVO_LONGEST_BODY as u64) {
            body::discard(body).await;
            return Err(too_long());
        }
        let crowded = || Refused::later(Reason::Crowded, "too many webhooks at once").of("none", None);
        let _place = self.in_work.try_acquire().map_err(|_| crowded())?;
        let held = match tokio::time::timeout(ARRIVING, body::read(body, BREVO_LONGEST_BODY, &self.memory)).await {
            Ok(Ok(held)) => held,
            Ok(Err(Unread::TooLong)) => return Err(too_long()),
            Ok(Err(Unread::NoRoom)) => return Err(crowded()),
            Ok(Err(Unread::Broken)) => {
                return Err(Refused::later(Reason::Incomplete, "the body did not arrive whole").of("none", None));
            }
            Err(_) => {
                return Err(Refused::later(Reason::Incomplete, "the body did not arrive in time").of("none", None));
            }
        };
        let delivery = Delivery::parse(&held.bytes).map_err(|error| {
            let why = format!("the body is no webhook: {error}");
            Refused::new(Reason::Unreadable, StatusCode::BAD_REQUEST, why).of("none", None)
        })?;
        let topic = delivery.topic();
        if tracing::enabled!(tracing::Level::TRACE) && self.connection.settings().log_webhooks {
            tracing::trace!(topic, events = delivery.hints.len(), body = %redacted(&held.bytes), "webhook received");
        }
        drop(delivery);
        let kept = self.connection.receive_from_brevo(topic, held.bytes.clone());
        match tokio::time::timeout(KEEPING, kept).await {
            // What became of it is logged when it is acted on.
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Refused::later(Reason::NotKept, error.to_string()).of(topic, None)),
            // Should it be kept after all, it is acted on twice, which reads somebody once more.
            Err(_) => Err(Refused::later(Reason::NotKept, "the state did not answer in time").of(topic, None)),
        }
    }
}
