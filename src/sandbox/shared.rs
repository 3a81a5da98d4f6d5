//! What both vendors' doubles share: a log of requests, faults, and webhooks on their way out.

use std::collections::{BTreeMap, VecDeque};
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

/// The requests that came, newest last. It is bounded, so that a sandbox can be left running: beyond
/// [`RequestLog::MOST_REQUESTS`] the oldest are dropped, beyond [`RequestLog::MOST_BODY_BYTES`] the oldest bodies are
/// emptied. The counts stay exact whatever was dropped.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<LoggedRequest>,
    /// How many of the oldest have lost their bodies.
    emptied: usize,
    /// Bytes in the bodies of all others.
    body_bytes: usize,
    without_bodies: bool,
    /// All and the writes, by method and template, dropped ones included.
    counts: BTreeMap<(String, String), Count>,
}

/// How often something was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// In all.
    pub all: usize,
    /// As a write.
    pub writes: usize,
}

impl Kept {
    fn empty_oldest_body(&mut self) -> bool {
        let Some(oldest) = self.requests.get_mut(self.emptied) else { return false };
        self.body_bytes = self.body_bytes.saturating_sub(oldest.body.len());
        oldest.body = bytes::Bytes::new();
        self.emptied += 1;
        true
    }

    fn push(&mut self, mut request: LoggedRequest) {
        let count = self.counts.entry((request.method.clone(), request.template.clone())).or_default();
        count.all += 1;
        count.writes += usize::from(request.write);
        if self.without_bodies {
            request.body = bytes::Bytes::new();
        }
        self.body_bytes += request.body.len();
        self.requests.push_back(request);
        while self.body_bytes > RequestLog::MOST_BODY_BYTES && self.empty_oldest_body() {}
        while self.requests.len() > RequestLog::MOST_REQUESTS {
            if self.emptied == 0 {
                self.empty_oldest_body();
            }
            self.requests.pop_front();
            self.emptied -= 1;
        }
    }
}

impl RequestLog {
    /// The most requests that are kept.
    pub const MOST_REQUESTS: usize = 100_000;

    /// The most bytes of bodies that are kept.
    pub const MOST_BODY_BYTES: usize = 64 * 1024 * 1024;

    fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps one.
    pub fn push(&self, request: LoggedRequest) {
        self.with(|kept| kept.push(request));
    }

    /// Whether the bodies of coming requests are kept (they are at first). Turning it off drops those that are there.
    pub fn keep_bodies(&self, keep: bool) {
        self.with(|kept| {
            kept.without_bodies = !keep;
            while !keep && kept.empty_oldest_body() {}
        });
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<LoggedRequest> {
        self.with(|kept| kept.requests.iter().cloned().collect())
    }

    /// How many came, dropped ones included.
    pub fn len(&self) -> usize {
        self.with(|kept| kept.counts.values().map(|count| count.all).sum())
    }

    /// None so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Only the writes, of those that are kept.
    pub fn writes(&self) -> Vec<LoggedRequest> {
        self.with(|kept| kept.requests.iter().filter(|request| request.write).cloned().collect())
    }

    /// How many writes came, dropped ones included.
    pub fn write_count(&self) -> usize {
        self.with(|kept| kept.counts.values().map(|count| count.writes).sum())
    }

    /// How many came by method and template, dropped ones included.
    pub fn counts(&self) -> BTreeMap<(String, String), Count> {
        self.with(|kept| kept.counts.clone())
    }

    /// Forgets all, counts too.
    pub fn clear(&self) {
        self.with(|kept| *kept = Kept { without_bodies: kept.without_bodies, ..Kept::default() });
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
    /// Faults for the coming requests, each with a part of `METHOD /path` that it waits for (`""`: any).
    pub faults: VecDeque<(String, Fault)>,
}

/// A webhook that the sandbox wants delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// Where it goes, if its registration says so (Brevo's do).
    pub url: Option<String>,
    /// Header names and values (signature, authorization …).
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte what the signature covers.
    pub body: bytes::Bytes,
    /// The topic or event name, for people.
    pub topic: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, body: &'static [u8]) -> LoggedRequest {
        LoggedRequest {
            method: method.to_owned(),
            template: "/contacts".to_owned(),
            target: "/contacts".to_owned(),
            body: bytes::Bytes::from_static(body),
            status: 200,
            write: method != "GET",
        }
    }

    #[test]
    fn a_long_log_drops_its_oldest_and_counts_on() {
        let log = RequestLog::default();
        log.push(request("POST", b"first"));
        for _ in 0..RequestLog::MOST_REQUESTS {
            log.push(request("GET", b""));
        }
        assert_eq!((log.all().len(), log.writes().len()), (RequestLog::MOST_REQUESTS, 0));
        assert_eq!((log.len(), log.write_count()), (RequestLog::MOST_REQUESTS + 1, 1));
        let post = ("POST".to_owned(), "/contacts".to_owned());
        assert_eq!(log.counts().get(&post), Some(&Count { all: 1, writes: 1 }));
        assert_eq!(log.with(|kept| (kept.emptied, kept.body_bytes)), (0, 0));
        log.clear();
        assert!(log.is_empty() && log.all().is_empty() && log.counts().is_empty());
    }

    #[test]
    fn many_bytes_empty_the_oldest_bodies_only() {
        static HALF: [u8; RequestLog::MOST_BODY_BYTES / 2] = [b'x'; RequestLog::MOST_BODY_BYTES / 2];
        let log = RequestLog::default();
        for _ in 0..3 {
            log.push(request("POST", &HALF));
        }
        let lengths: Vec<usize> = log.all().iter().map(|request| request.body.len()).collect();
        assert_eq!(lengths, [0, HALF.len(), HALF.len()]);
        log.keep_bodies(false);
        log.push(request("POST", b"more"));
        assert!(log.all().iter().all(|request| request.body.is_empty()));
        assert_eq!((log.writes().len(), log.with(|kept| kept.body_bytes)), (4, 0));
    }
}
