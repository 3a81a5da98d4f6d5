//! A transport that notes what goes through it, and that breaks when it is told to.

use async_trait::async_trait;
use bytes::Bytes;
use linkspan::http::{InProcess, Transport, TransportError};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// One request that left.
#[derive(Debug, Clone)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// `POST /v3/contacts`, without the query.
    pub line: String,
    /// What was answered; `None` if nothing was.
    pub status: Option<u16>,
    /// How long the body was that went along.
    pub bytes: usize,
}

/// How the way there breaks, once.
#[derive(Debug, Clone, Copy)]
pub enum Break {
    /// The request never leaves.
    NoConnection,
    /// It is carried out, but no answer comes in time.
    NoAnswer,
    /// It is lost on the way, and no answer comes in time.
    Lost,
}

/// See the file.
pub struct Watched {
    inner: InProcess,
    breaks: Mutex<VecDeque<Break>>,
    sent: Mutex<Vec<Sent>>,
}

/// As long as the real transport waits.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Watched {
    pub fn new(router: axum::Router) -> Self {
        Self { inner: InProcess::new(router), breaks: Mutex::default(), sent: Mutex::default() }
    }

    /// What left so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Forgets what left.
    pub fn clear(&self) {
        self.sent.lock().unwrap().clear();
    }

    /// The coming requests break, one each.
    pub fn break_next(&self, breaks: impl IntoIterator<Item = Break>) {
        self.breaks.lock().unwrap().extend(breaks);
    }

    /// The most requests that left within any time of this length.
    pub fn most_within(&self, length: Duration) -> usize {
        let times: Vec<Instant> = self.sent().into_iter().map(|sent| sent.at).collect();
        let within = |from: &Instant| times.iter().filter(|at| **at >= *from && **at < *from + length).count();
        times.iter().map(within).max().unwrap_or(0)
    }

    /// How many were answered with `status`.
    pub fn answered(&self, status: u16) -> usize {
        self.sent().iter().filter(|sent| sent.status == Some(status)).count()
    }
}

#[async_trait]
impl Transport for Watched {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let at = Instant::now();
        let line = format!("{} {}", request.method(), request.uri().path());
        let bytes = request.body().len();
        let broken = self.breaks.lock().unwrap().pop_front();
        let outcome = match broken {
            None => self.inner.send(request).await,
            Some(Break::NoConnection) => Err(TransportError::Connect("connection refused".to_owned())),
            Some(how) => {
                if matches!(how, Break::NoAnswer) {
                    self.inner.send(request).await?;
                }
                tokio::time::sleep(PATIENCE).await;
                Err(TransportError::TimedOut(PATIENCE))
            }
        };
        let status = outcome.as_ref().ok().map(|answer| answer.status().as_u16());
        self.sent.lock().unwrap().push(Sent { at, line, status, bytes });
        outcome
    }
}
