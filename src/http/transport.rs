//! [`Transport`]: the door to the network, over sockets or in process.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::time::Duration;

/// Sends one request and waits for its whole answer. Adds nothing: no retry, no pacing, no authentication.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` (an absolute URI) and returns the whole answer, whatever its status.
    ///
    /// # Errors
    /// Says whether the request can have reached the server.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError>;
}

/// No whole answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request never left: no route, no TLS, no listener. The cause chain is kept, because "connection error"
    /// alone hides a bad certificate or a wrong name.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No answer in time. The server may have acted, and may still act.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke after the request left. The server may have acted.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is longer than we are willing to hold.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// The longest answer that is read. Brevo's 1,000 contacts a page and Intercom's 150 are far below.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Over sockets.
#[derive(Debug, Clone)]
pub struct Reqwest {
    client: reqwest::Client,
    timeout: Duration,
}

impl Reqwest {
    /// A client with a time limit for each whole exchange.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, TransportError> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(10).min(timeout))
            .redirect(reqwest::redirect::Policy::none()) // a redirect would carry the key to another host
            .user_agent(concat!("linkspan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TransportError::Connect(chain(&error)))?;
        Ok(Self { client, timeout })
    }
}

#[async_trait]
impl Transport for Reqwest {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let timeout = self.timeout;
        let classify = |error: reqwest::Error| {
            if error.is_connect() || error.is_builder() {
                TransportError::Connect(chain(&error))
            } else if error.is_timeout() {
                TransportError::TimedOut(timeout)
            } else {
                TransportError::Broken(chain(&error))
            }
        };
        let request = reqwest::Request::try_from(request).map_err(classify)?;
        let answer: http::Response<reqwest::Body> = self.client.execute(request).await.map_err(classify)?.into();
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                TransportError::TooLong(LONGEST_ANSWER)
            } else if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
                TransportError::TimedOut(timeout)
            } else {
                TransportError::Broken(chain(&*error))
            }
        })?;
        Ok(http::Response::from_parts(parts, body.to_bytes()))
    }
}

/// An error with its causes, and without the URL (which may hold an address).
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_connect() => "connection failed".to_owned(),
        Some(error) if error.is_body() => "body cut off".to_owned(),
        Some(_) => "request failed".to_owned(),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// In process: calls an axum router, as the simulation and most tests do.
#[derive(Debug, Clone)]
pub struct InProcess(axum::Router);

impl InProcess {
    /// A transport whose every request is answered by `router`, whatever host it names.
    pub fn new(router: axum::Router) -> Self {
        Self(router)
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        use tower::ServiceExt as _;
        let request = request.map(axum::body::Body::from);
        let answer = match self.0.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| TransportError::Broken(error.to_string()))?;
        Ok(http::Response::from_parts(parts, body.to_bytes()))
    }
}
