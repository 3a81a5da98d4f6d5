//! [`Caller`]: a transport with pace (the governor) and retry around it. Both vendors' clients send through one.

use super::{Transport, TransportError};
use crate::doors::Doors;
use crate::model::{ErrorKind, Priority, SideError, SideName};
use bytes::Bytes;
use std::sync::Arc;

/// What resending a request whose outcome is unknown would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: resend.
    Read,
    /// Set the same state again: resend (a PUT of values).
    Idempotent,
    /// Perhaps a second thing: never resend after an unknown outcome; the engine looks first.
    Creates,
}

/// One request with what the caller has to know about it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request, with an absolute URI and its authentication.
    pub request: http::Request<Bytes>,
    /// The family of endpoints whose budget it spends.
    pub family: &'static str,
    /// Whose turn it is.
    pub priority: Priority,
    /// Whether it may be resent.
    pub effect: Effect,
}

/// Sends requests of one vendor.
pub struct Caller {
    side: SideName,
    transport: Arc<dyn Transport>,
    #[expect(dead_code, reason = "pace and retry come next")]
    doors: Doors,
}

impl Caller {
    /// A caller for `side` over `transport`.
    pub fn new(side: SideName, transport: Arc<dyn Transport>, doors: Doors) -> Self {
        Self { side, transport, doors }
    }

    /// Sends, waits for budget, retries what can succeed at once. `classify` is the vendor's: it turns an answer that
    /// is not a success (or a success that cannot be read) into an error.
    ///
    /// # Errors
    /// The last error, with the number of attempts.
    pub async fn call(
        &self,
        call: Call,
        classify: &(dyn Fn(&http::Response<Bytes>) -> Result<(), Box<SideError>> + Send + Sync),
    ) -> Result<http::Response<Bytes>, Box<SideError>> {
        let answer = self.transport.send(call.request).await.map_err(|error| {
            let kind = match error {
                TransportError::Connect(_) => ErrorKind::Unavailable,
                TransportError::TooLong(_) => ErrorKind::Malformed,
                TransportError::TimedOut(_) | TransportError::Broken(_) => ErrorKind::Ambiguous,
            };
            SideError::new(self.side, kind, error.to_string())
        })?;
        classify(&answer)?;
        Ok(answer)
    }
}
