//! One notification: is it Intercom's? Then it is kept, and only then acknowledged.
//!
//! What Intercom makes of an answer decides ours: 2xx is final; 410 disables the subscription at once and is never
//! given; 429 brings the notification back for up to two hours; anything else, or no answer within 5 s, brings it back
//! once, a minute later.

use super::Shared;
use super::body::{self, Unread};
use super::complaints::Reason;
use crate::engine::{LONGEST_BODY, Received};
use crate::intercom::webhook::{Notification, verify};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use std::time::Duration;

/// How long the body may take. Together with [`KEEPING`] it stays below Intercom's 5 s.
const ARRIVING: Duration = Duration::from_millis(2_500);
/// How long the state may take to keep it.
const KEEPING: Duration = Duration::from_secs(2);
/// When a notification that could not be taken may come again. Intercom itself waits for a minute at least.
const RETRY_AFTER: &str = "60";

/// A request that is refused.
struct Refused {
    reason: Reason,
    status: StatusCode,
    why: String,
    /// It is Intercom's: its topic and id, as far as they are known.
    signed: Option<(String, Option<String>)>,
}

impl Refused {
    fn new(reason: Reason, status: StatusCode, why: impl Into<String>) -> Self {
        Self { reason, status, why: why.into(), signed: None }
    }

    /// Of a notification that is Intercom's.
    fn of(self, topic: &str, id: Option<String>) -> Self {
        Self { signed: Some((topic.to_owned(), id)), ..self }
    }

    /// To be sent again later.
    fn later(reason: Reason, why: impl Into<String>) -> Self {
        Self::new(reason, StatusCode::TOO_MANY_REQUESTS, why)
    }
}

pub(super) async fn receive(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    match shared.receive(request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => shared.refuse(refused).await,
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

    /// Says so, to the sender and (not too often) in the log, without a word of the body. With `log_webhooks` there is a
    /// line of its own for each that is Intercom's; strangers cannot fill the log.
    async fn refuse(&self, refused: Refused) -> Response {
        let Refused { reason, status, why, signed } = refused;
        if let Some((topic, id)) = signed.filter(|_| self.connection.settings().log_webhooks) {
            tracing::info!(%topic, id, outcome = %format!("refused ({}): {why}", status.as_u16()), "webhook");
        }
        if let Some(count) = self.complaints.count(reason, self.connection.doors().clock.now()) {
            if reason == Reason::NotKept {
                tracing::error!(count, "webhooks cannot be kept: {why}; Intercom is told to send them again");
            } else {
                tracing::warn!(count, status = status.as_u16(), "webhook refused: {why}");
            }
            // Written as rarely as it is logged, so that strangers cannot keep the disk busy; and never after a write
            // has just failed.
            if reason != Reason::NotKept {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let counted = self.connection.store().write(move |tx| tx.count(reason.counter(), count));
                if !matches!(tokio::time::timeout(KEEPING, counted).await, Ok(Ok(()))) {
                    tracing::debug!("a refused webhook was not counted");
                }
            }
        }
        let mut answer = (status, why + "\n").into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
        }
        answer
    }
}

/// The one signature. Of two, nobody knows which counts.
fn signature(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("x-hub-signature").iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { first.to_str().ok() }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body's field names, without a value.
fn redacted(body: &[u8]) -> String {
    serde_json::from_slice(body).map(|json| blank(json).to_string()).unwrap_or_default()
}

/// As deep as `serde_json` reads (128 levels), so the recursion ends.
fn blank(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match json {
        Json::Object(fields) => {
            // The customer's own words may stand in the names of custom attributes; those are no personal data.
            Json::Object(fields.into_iter().map(|(name, value)| (name, blank(value))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(blank).collect()),
        Json::Null => Json::Null,
        Json::Bool(_) => "boolean".into(),
        Json::Number(_) => "number".into(),
        Json::String(_) => "text".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redacted_body_shows_names_and_no_values() {
        let body = br#"{"data":{"item":{"email":"a@b.example","tags":["vip",7,true,null]}}}"#;
        let shown = redacted(body);
        assert_eq!(shown, r#"{"data":{"item":{"email":"text","tags":["text","number","boolean",null]}}}"#);
        assert_eq!(redacted(b"{"), "");
    }
}
