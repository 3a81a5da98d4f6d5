//! A request that is refused: what its sender is told, and what the log and the counters say.

use super::Shared;
use super::complaints::Reason;
use crate::model::SideName;
use crate::store::StoreError;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::time::Duration;

/// How long the state may take to keep something.
pub(super) const KEEPING: Duration = Duration::from_secs(2);
/// When what could not be taken may come again. Intercom itself waits for a minute at least, Brevo for ten.
const RETRY_AFTER: &str = "60";

/// A request that is refused.
pub(super) struct Refused {
    reason: Reason,
    status: StatusCode,
    why: String,
    /// It is the vendor's: its topic and id, as far as they are known.
    signed: Option<(String, Option<String>)>,
}

impl Refused {
    pub(super) fn new(reason: Reason, status: StatusCode, why: impl Into<String>) -> Self {
        Self { reason, status, why: why.into(), signed: None }
    }

    /// Of a notification that is the vendor's.
    pub(super) fn of(self, topic: &str, id: Option<String>) -> Self {
        Self { signed: Some((topic.to_owned(), id)), ..self }
    }

    /// To be sent again later.
    pub(super) fn later(reason: Reason, why: impl Into<String>) -> Self {
        Self::new(reason, StatusCode::TOO_MANY_REQUESTS, why)
    }
}

/// What is to be kept before it is acknowledged. A store that cannot now may recover: it is sent again later.
pub(super) async fn kept<T>(keeping: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refused> {
    match tokio::time::timeout(KEEPING, keeping).await {
        Ok(Ok(kept)) => Ok(kept),
        Ok(Err(error)) => Err(Refused::later(Reason::NotKept, error.to_string())),
        Err(_) => Err(Refused::later(Reason::NotKept, "the state did not answer in time")),
    }
}

impl Shared {
    /// Says so, to the sender and (not too often) in the log, without a word of the body. With `log_webhooks` there is a
    /// line of its own for each that is Intercom's; strangers cannot fill the log.
    pub(super) async fn refuse(&self, vendor: SideName, refused: Refused) -> Response {
        let Refused { reason, status, why, signed } = refused;
        if let Some((topic, id)) = signed.filter(|_| self.connection.settings().log_webhooks) {
            tracing::info!(side = vendor.as_str(), %topic, id, outcome = %format!("refused ({}): {why}", status.as_u16()), "webhook");
        }
        if let Some(count) = self.complaints.count(vendor, reason, self.connection.doors().clock.now()) {
            if reason == Reason::NotKept {
                tracing::error!(count, "{vendor}'s webhooks cannot be kept: {why}; it is told to send them again");
            } else {
                tracing::warn!(count, status = status.as_u16(), "{vendor} webhook refused: {why}");
            }
            // Written as rarely as it is logged, so that strangers cannot keep the disk busy; and never after a write
            // has just failed.
            if reason != Reason::NotKept {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                let counted = self.connection.store().write(move |tx| tx.count(reason.counter(vendor), count));
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

pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body's field names, without a value.
pub(super) fn redacted(body: &[u8]) -> String {
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
