//! What both vendors' doubles share: a log of requests, faults, and webhooks on their way out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request that the sandbox got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// `GET`, `POST` …
    pub method: String,
    /// The path's template: `/contacts/{id}`.
    pub template: String,
    /// The path as sent, with its query.
    pub target: String,
    /// The body as sent.
    pub body: bytes::Bytes,
    /// The status that was answered.
    pub status: u16,
    /// Whether it is a write: it may change something there (searches by POST are reads).
    pub write: bool,
}

/// Every request, in order.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Vec<LoggedRequest>>>);

impl RequestLog {
    /// Keeps one.
    pub fn push(&self, request: LoggedRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// All so far.
    pub fn all(&self) -> Vec<LoggedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many so far.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// None so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Only the writes.
    pub fn writes(&self) -> Vec<LoggedRequest> {
        self.all().into_iter().filter(|request| request.write).collect()
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Something that goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status with the vendor's own error body, and perhaps `Retry-After` in seconds; nothing is done.
    Status(u16, Option<u64>),
    /// The request is carried out, but this status is answered.
    StatusAfterEffect(u16),
    /// A 200 that is a proxy's HTML page.
    Html,
    /// A 200 with an empty body.
    Empty,
    /// The answer's body is cut in the middle; the request is carried out.
    Truncated,
}

/// What can be turned while it runs.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// How long each answer takes.
    pub latency: Duration,
    /// Requests allowed per window; `None`: the vendor's published figures.
    pub rate_limit: Option<u32>,
    /// Do not limit at all (benchmarks).
    pub unlimited: bool,
    /// Faults for the coming requests, each with a part of the path that it waits for (`""`: any).
    pub faults: VecDeque<(String, Fault)>,
}

/// A webhook that the sandbox wants delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// Header names and values (signature, authorization …).
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte what the signature covers.
    pub body: bytes::Bytes,
    /// The topic or event name, for people.
    pub topic: String,
}
