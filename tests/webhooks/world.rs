//! Both vendors in memory, a connection between them, and the server before it; in one thread under paused time.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hmac::{KeyInit as _, Mac as _};
use linkspan::brevo::webhook::Auth;
use linkspan::brevo::{BrevoClient, BrevoOptions};
use linkspan::config::Config;
use linkspan::doors::{CrashPoints, Doors, NoCrash, SeededRng, SimulatedClock};
use linkspan::engine::{Connection, Daemon, Settings, Silent, SyncOptions};
use linkspan::http::InProcess;
use linkspan::intercom::{IntercomClient, IntercomOptions};
use linkspan::sandbox::OutgoingWebhook;
use linkspan::sandbox::brevo::{self as brevo_sandbox, BrevoSandbox};
use linkspan::sandbox::intercom::{self as intercom_sandbox, IntercomSandbox};
use linkspan::server::Server;
use linkspan::store::Store;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Add as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// After the first read, nothing is read by schedule: what arrives came by webhook.
const CONFIG: &str = r#"
connectors:
  intercom:
    access_token: "${INTERCOM_ACCESS_TOKEN}"
    client_secret: "${INTERCOM_CLIENT_SECRET}"
    log_webhooks: true
    lists:
      all_users: Users
      leads: Leads
      active_conversations: In touch
  brevo:
    api_key: "${BREVO_API_KEY}"
field_mapping:
  email: email
  name: FULLNAME
  tags: INTERCOM_TAGS
  company.name: COMPANY_NAME
  custom_attributes.plan_tier: PLAN_TIER
schedule:
  contacts: { incremental: never, full: never }
  companies: { full: never }
  conversations: { incremental: never, full: never }
  brevo_contacts: { incremental: never, full: never }
"#;

/// What Brevo's webhooks carry as a bearer token.
pub const BREVO_SECRET: &str = "brevo's-secret";

pub struct World {
    pub intercom: IntercomSandbox,
    pub brevo: BrevoSandbox,
    pub connection: Arc<Connection>,
    pub router: axum::Router,
    config: Config,
    doors: Doors,
    daemon: Option<(CancellationToken, JoinSet<()>)>,
}

impl World {
    /// A state in memory.
    pub fn new() -> Self {
        Self::on(Store::in_memory().unwrap())
    }

    pub fn on(store: Store) -> Self {
        Self::with("", store)
    }

    /// With more lines of config.
    pub fn with(more: &str, store: Store) -> Self {
        Self::of(&format!("{CONFIG}{more}"), store, |router| router)
    }

    /// The same, with something before Brevo (until a restart).
    pub fn with_before(more: &str, store: Store, before: impl FnOnce(axum::Router) -> axum::Router) -> Self {
        Self::of(&format!("{CONFIG}{more}"), store, before)
    }

    /// Where what people edit in Brevo is left alone.
    pub fn leaving(more: &str, store: Store) -> Self {
        let text = CONFIG.replace("name: FULLNAME", "name: {to: FULLNAME, on_drift: leave}").add(more);
        Self::of(&text, store, |router| router)
    }

    /// Where people's conversations are counted.
    pub fn figures() -> Self {
        let text = CONFIG.replace("  name: FULLNAME\n", "  name: FULLNAME\n  conversations.total: TALKS\n");
        Self::of(&text, Store::in_memory().unwrap(), |router| router)
    }

    /// Whose API key in Brevo has this name, and is used by nobody else.
    pub fn keyed(name: &str) -> Self {
        let text = CONFIG.replace("  brevo:\n", &format!("  brevo:\n    api_key_name: {name}\n"));
        Self::of(&text, Store::in_memory().unwrap(), |router| router)
    }

    fn of(text: &str, store: Store, before: impl FnOnce(axum::Router) -> axum::Router) -> Self {
        let start: DateTime<Utc> = "2026-03-08T09:30:00Z".parse().unwrap();
        let clock = Arc::new(SimulatedClock::starting_at(start));
        let intercom = IntercomSandbox::new(intercom_sandbox::IntercomOptions {
            clock: clock.clone(),
            ..intercom_sandbox::IntercomOptions::default()
        });
        let brevo = BrevoSandbox::new(brevo_sandbox::BrevoOptions::new(1, clock.clone()));
        let config = parse(&intercom, &brevo, text);
        let doors = Doors { clock, rng: Arc::new(SeededRng::new(1)), crash: Arc::new(NoCrash) };
        let (connection, router) = join(&intercom, before(brevo.router()), &brevo, &config, &doors, store);
        Self { intercom, brevo, connection, router, config, doors, daemon: None }
    }

    /// Another process on the same vendors: the old one is gone, whatever it was doing.
    pub fn restart(&mut self, store: Store) {
        self.kill();
        let (connection, router) =
            join(&self.intercom, self.brevo.router(), &self.brevo, &self.config, &self.doors, store);
        (self.connection, self.router) = (connection, router);
    }

    /// As [`Self::restart`], with `connectors.intercom.sync` and more lines of config.
    pub fn switch(&mut self, sync: &str, more: &str, store: Store) {
        let text = CONFIG.replace("    log_webhooks: true\n", &format!("    log_webhooks: true\n    sync: {sync}\n"));
        self.config = parse(&self.intercom, &self.brevo, &format!("{text}{more}"));
        self.restart(store);
    }

    /// As [`Self::restart`], and the next process crashes where `crash` says.
    pub fn crash_at(&mut self, crash: Arc<dyn CrashPoints>, store: Store) {
        self.doors.crash = crash;
        self.restart(store);
    }

    /// A full sync, and whatever it led to is forgotten.
    pub async fn sync(&self) {
        // What is new cannot be searched for at once.
        pass(60).await;
        let all = SyncOptions { full: true, ..SyncOptions::default() };
        self.connection.sync(&all, &Silent).await.unwrap();
        self.intercom.take_webhooks();
    }

    /// Starts the daemon.
    pub fn begin(&mut self) {
        let daemon = Daemon::new(Arc::clone(&self.connection), self.config.schedule.clone());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move { daemon.run(stopped).await.unwrap() });
        self.daemon = Some((stop, tasks));
    }

    /// Asks the daemon to stop; how long that takes.
    pub async fn stop(&mut self) -> Duration {
        let (stop, mut tasks) = self.daemon.take().unwrap();
        let began = tokio::time::Instant::now();
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        began.elapsed()
    }

    /// The daemon, once its first scheduled reads are over.
    pub async fn run(&mut self) {
        self.begin();
        pass(600).await;
        self.brevo.log().clear();
        self.intercom.log().clear();
    }

    /// Stops the daemon as a power cut would.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Delivers what Intercom has to say, in its order; every answer is 200.
    pub async fn deliver(&self) -> usize {
        let hooks = self.intercom.take_webhooks();
        for hook in &hooks {
            assert_eq!(self.post(hook).await, StatusCode::OK, "{}", hook.topic);
        }
        hooks.len()
    }

    pub async fn post(&self, hook: &OutgoingWebhook) -> StatusCode {
        let mut request = Request::post("/webhooks/intercom");
        for (name, value) in &hook.headers {
            request = request.header(name, value);
        }
        self.send(request.body(Body::from(hook.body.clone())).unwrap()).await.0
    }

    /// Signs and posts a body.
    pub async fn post_signed(&self, body: impl Into<Bytes>) -> StatusCode {
        let body = body.into();
        let signature = self.sign(&body);
        self.post_with(&[("x-hub-signature", &signature)], body).await
    }

    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> StatusCode {
        let mut request = Request::post("/webhooks/intercom").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.into())).unwrap()).await.0
    }

    /// Registers webhooks in Brevo, as its screens would.
    pub async fn register(&self, kind: &str, events: &[&str], batched: bool) {
        let body = json!({
            "url": "https://linkspan.test/webhooks/brevo", "type": kind, "events": events, "batched": batched,
            "auth": {"type": "bearer", "token": BREVO_SECRET}, "description": "test",
        });
        let request = Request::post("/v3/webhooks")
            .header("api-key", self.brevo.api_key())
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let (status, _, words) = send(&self.brevo.router(), request).await;
        assert_eq!(status, StatusCode::CREATED, "{words}");
    }

    /// Delivers what Brevo has to say, in its order; every answer is 200.
    pub async fn deliver_brevo(&self) -> usize {
        let hooks = self.brevo.take_webhooks();
        for hook in &hooks {
            let headers: Vec<(&str, &str)> = hook.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(self.post_brevo(&headers, hook.body.clone()).await, StatusCode::OK, "{}", hook.topic);
        }
        hooks.len()
    }

    /// Posts a body as Brevo would, with these headers.
    pub async fn post_brevo(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> StatusCode {
        let mut request = Request::post("/webhooks/brevo");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.into())).unwrap()).await.0
    }

    /// Posts a body as Brevo.
    pub async fn as_brevo(&self, body: Value) -> StatusCode {
        let token = format!("Bearer {BREVO_SECRET}");
        self.post_brevo(&[("authorization", &token)], body.to_string()).await
    }

    /// How often Brevo was asked for a single contact.
    pub fn reads_of_brevo(&self) -> usize {
        {
            let all = self.brevo.log().counts();
            all.get(&("GET".to_owned(), "/contacts/{identifier}".to_owned())).map_or(0, |count| count.all)
        }
    }

    /// Brevo's contact as the state knows it, by the address that it shows.
    pub async fn known(&self, email: &str) -> Option<linkspan::model::BrevoContact> {
        let email = linkspan::model::Email::parse(email).unwrap();
        self.connection.store().read(move |tx| tx.brevo_contact_by_email(&email)).await.unwrap()
    }

    /// What webhooks told of opt-outs from this address.
    pub async fn facts(&self, email: &str) -> Vec<linkspan::store::hints::BrevoOptOut> {
        let email = linkspan::model::Email::parse(email).unwrap();
        self.connection.store().read(move |tx| tx.brevo_opt_outs(None, Some(&email))).await.unwrap()
    }

    /// The notices of a kind.
    pub async fn notices(&self, kind: &str) -> usize {
        let kind = kind.to_owned();
        let all = self.connection.store().read(|tx| tx.counts()).await.unwrap().notices;
        usize::try_from(all.get(&kind).copied().unwrap_or(0)).unwrap()
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
        send(&self.router, request).await
    }

    pub fn sign(&self, body: &[u8]) -> String {
        sign(self.intercom.client_secret(), body)
    }

    /// A notification about `item`, as this workspace's app would send it.
    pub fn notification(&self, id: &str, topic: &str, item: Value) -> Value {
        json!({
            "type": "notification_event", "app_id": self.intercom.app_id(), "id": id, "topic": topic,
            "data": {"type": "notification_event_data", "item": item},
            "created_at": self.doors.clock.now().timestamp(),
        })
    }

    pub async fn counter(&self, name: &str) -> i64 {
        let name = name.to_owned();
        self.connection.store().read(move |tx| tx.counter(&name)).await.unwrap()
    }

    /// Whether the person with this address is on the list of this name.
    pub fn is_on(&self, list: &str, email: &str) -> bool {
        let contact = self.brevo.contact_by_email(email).unwrap();
        contact.list_ids.contains(&self.brevo.list_id(list).unwrap())
    }

    pub fn attribute(&self, email: &str, name: &str) -> Value {
        let contact = self.brevo.contact_by_email(email);
        contact.and_then(|contact| contact.attributes.get(name).cloned()).unwrap_or_default()
    }

    /// The bodies of the writes that Brevo got, in order.
    pub fn writes(&self) -> Vec<(String, Value)> {
        let writes = self.brevo.log().writes();
        writes.into_iter().map(|w| (w.template, serde_json::from_slice(&w.body).unwrap_or_default())).collect()
    }
}

fn parse(intercom: &IntercomSandbox, brevo: &BrevoSandbox, text: &str) -> Config {
    let env: BTreeMap<String, String> = [
        ("INTERCOM_ACCESS_TOKEN", intercom.access_token()),
        ("INTERCOM_CLIENT_SECRET", intercom.client_secret()),
        ("BREVO_API_KEY", brevo.api_key()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    match Config::parse(text, Path::new("config.yaml"), &env) {
        Ok(config) => config,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

fn join(
    intercom: &IntercomSandbox,
    before_brevo: axum::Router,
    brevo: &BrevoSandbox,
    config: &Config,
    doors: &Doors,
    store: Store,
) -> (Arc<Connection>, axum::Router) {
    let intercom_options = IntercomOptions {
        base_url: "https://api.intercom.test/".parse().unwrap(),
        access_token: intercom.access_token().to_owned().into(),
        api_version: "2.11".to_owned(),
        share: 0.9,
        plan: None,
    };
    let brevo_options = BrevoOptions::new(brevo.api_key().to_owned().into()).unwrap();
    let intercom_side =
        IntercomClient::new(intercom_options, Arc::new(InProcess::new(intercom.router())), doors.clone());
    let brevo_side = BrevoClient::new(brevo_options, Arc::new(InProcess::new(before_brevo)), doors.clone());
    let settings = Settings::from_config(config);
    let connection = Connection::new(Arc::new(intercom_side), Arc::new(brevo_side), store, doors.clone(), settings);
    let secret = SecretString::from(intercom.client_secret().to_owned());
    let brevo_auth = Some(Auth::Bearer(BREVO_SECRET.to_owned().into()));
    let router = Server::new(Arc::clone(&connection), Some(secret)).with_brevo(brevo_auth).router();
    (connection, router)
}

pub async fn send(router: &axum::Router, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Waits, in paused time, until something holds; how long that took.
pub async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    const STEP: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while !holds() {
        assert!(waited < Duration::from_secs(120), "still not after two minutes: {what}");
        tokio::time::sleep(STEP).await;
        waited += STEP;
    }
    waited
}
