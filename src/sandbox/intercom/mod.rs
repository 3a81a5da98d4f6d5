//! A stateful, seeded Intercom (API 2.11), with the behaviour that hurts clients.
//!
//! Where the vendor's behaviour is known (pages, recordings, connectors' scars) this follows it; the contract tests list
//! where that is not what the official description says. Where nobody outside knows, it takes the side that is harder
//! on a client:
//!
//! | open question | here |
//! |---|---|
//! | Do writes with the own token come back as webhooks? | yes, all of them |
//! | Which topics does a change send? | e-mail, consent and sign-up have their own; `updated` only if something else changed too |
//! | Does `contact.merged` name the lead that is gone? | no |
//! | Is `>` on a conversation's instant inclusive? | no |
//! | Are archived contacts listed or readable? | no: in no list, 404 by id, 409 on create |
//! | May users share an e-mail? | if both have an `external_id`; leads always may |
//! | An attribute that is not defined, or a value that does not fit it | 400 |
//! | In which order is `GET /contacts`? | newest first, so that nobody is skipped by an update |
//! | How does a scroll end? | with an empty page without a `scroll_param`, or with 404 (an option) |
//! | What does a contact without an e-mail show? | null, or for some leads the empty text |

mod answer;
mod attributes;
mod companies;
mod contacts;
mod conversation_view;
mod conversations;
mod frame;
mod hands;
mod misc;
mod options;
mod routes;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod webhooks;
mod world;

pub use hands::{ContactSeed, Glance, HandsError};
pub use options::{IntercomOptions, WebhookGeneration};
pub use world::{Truth, WorldOptions};

use crate::sandbox::{Fault, Knobs, OutgoingWebhook, RequestLog};
use state::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A whole Intercom workspace in memory. Clones share it.
#[derive(Clone)]
pub struct IntercomSandbox(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    knobs: Mutex<Knobs>,
    log: RequestLog,
    webhooks_waiting: Notify,
    access_token: String,
    client_secret: String,
}

impl IntercomSandbox {
    /// An empty workspace.
    pub fn new(options: IntercomOptions) -> Self {
        Self(Arc::new(Inner {
            access_token: options.access_token.clone(),
            client_secret: options.client_secret.clone(),
            state: Mutex::new(State::new(options)),
            knobs: Mutex::new(Knobs::default()),
            log: RequestLog::default(),
            webhooks_waiting: Notify::new(),
        }))
    }

    /// The API, to be served or called in process.
    pub fn router(&self) -> axum::Router {
        axum::Router::new().fallback(frame::handle).with_state(self.clone())
    }

    /// Every request so far.
    pub fn log(&self) -> RequestLog {
        self.0.log.clone()
    }

    /// Turns knobs.
    pub fn knobs(&self, turn: impl FnOnce(&mut Knobs)) {
        turn(&mut self.0.knobs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The next request whose method, path and query (`PUT /contacts/7…`) contain `part` meets this fault.
    pub fn fail(&self, part: &str, fault: Fault) {
        self.knobs(|knobs| knobs.faults.push_back((part.to_owned(), fault)));
    }

    /// The token that is let in.
    pub fn access_token(&self) -> &str {
        &self.0.access_token
    }

    /// What webhooks are signed with.
    pub fn client_secret(&self) -> &str {
        &self.0.client_secret
    }

    /// The workspace's id.
    pub fn app_id(&self) -> String {
        self.lock().options.app_id.clone()
    }

    /// The notifications that wait for delivery, oldest first; they are the caller's now.
    pub fn take_webhooks(&self) -> Vec<OutgoingWebhook> {
        self.lock().outbox.drain(..).collect()
    }

    /// Waits until there are notifications, and takes them.
    pub async fn next_webhooks(&self) -> Vec<OutgoingWebhook> {
        loop {
            let waiting = self.0.webhooks_waiting.notified();
            let webhooks = self.take_webhooks();
            if !webhooks.is_empty() {
                return webhooks;
            }
            waiting.await;
        }
    }

    /// Whether changes queue notifications (they do at first).
    pub fn webhooks_on(&self, on: bool) {
        self.lock().webhooks_on = on;
    }

    /// Sets the form of conversation payloads in notifications.
    pub fn webhook_generation(&self, generation: WebhookGeneration) {
        self.lock().generation = generation;
    }

    /// The whole state, with its clock read.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tick();
        state
    }

    fn announce(&self, state: &State) {
        if !state.outbox.is_empty() {
            self.0.webhooks_waiting.notify_one();
        }
    }
}

impl std::fmt::Debug for IntercomSandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IntercomSandbox")
    }
}
