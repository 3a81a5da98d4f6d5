//! Each trap, through the router.

mod frame;
mod notifications;
mod records;
mod searching;

use super::*;

use crate::doors::Clock;
use crate::sandbox::Fault;
use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tower::ServiceExt as _;

/// A clock that tests set by hand.
struct HandClock(Mutex<DateTime<Utc>>);

impl HandClock {
    fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(text.parse().unwrap())))
    }

    fn forward(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    clock: Arc<HandClock>,
    sandbox: IntercomSandbox,
}

struct Got {
    status: u16,
    headers: axum::http::HeaderMap,
    raw: Vec<u8>,
    body: Value,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut IntercomOptions)) -> Self {
        let clock = HandClock::at("2026-03-10T20:00:00Z");
        let mut options = IntercomOptions { clock: clock.clone(), ..IntercomOptions::default() };
        set(&mut options);
        let sandbox = IntercomSandbox::new(options);
        sandbox.knobs(|knobs| knobs.unlimited = true);
        Self { clock, sandbox }
    }

    async fn ask(&self, method: &str, target: &str, body: Value, headers: &[(&str, &str)]) -> Got {
        let mut request = axum::http::Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.sandbox.access_token()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.sandbox.router().oneshot(request.body(Body::from(bytes)).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let raw = body.collect().await.unwrap().to_bytes().to_vec();
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        Got { status: parts.status.as_u16(), headers: parts.headers, raw, body }
    }

    async fn get(&self, target: &str) -> Got {
        self.ask("GET", target, Value::Null, &[]).await
    }

    async fn post(&self, target: &str, body: Value) -> Got {
        self.ask("POST", target, body, &[]).await
    }

    async fn search(&self, query: Value) -> Got {
        self.post("/contacts/search", json!({"query": query})).await
    }

    fn contact(&self, email: &str) -> String {
        self.sandbox.create_contact(ContactSeed {
            external_id: Some(format!("ext-{email}")),
            email: Some(email.to_owned()),
            ..ContactSeed::default()
        })
    }

    fn topics(&self) -> Vec<String> {
        self.sandbox.take_webhooks().into_iter().map(|webhook| webhook.topic).collect()
    }

    fn items(&self) -> Vec<(String, Value)> {
        let open = |webhook: OutgoingWebhook| {
            let body: Value = serde_json::from_slice(&webhook.body).unwrap();
            (webhook.topic, body["data"]["item"].clone())
        };
        self.sandbox.take_webhooks().into_iter().map(open).collect()
    }
}

fn code(got: &Got) -> &str {
    got.body["errors"][0]["code"].as_str().unwrap_or_default()
}

fn ids(got: &Got) -> Vec<String> {
    got.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}
