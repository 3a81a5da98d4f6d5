//! The network between the engine and the vendors, webhooks on their way, and places to crash at.

use super::model::{Cause, Model};
use super::people::{self, Edit};
use super::story::Story;
use super::world::{BREVO_SECRET, Dice, Plan, Rates};
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use linkspan::doors::{Clock as _, CrashPoints, SimulatedClock};
use linkspan::http::{Transport, TransportError};
use linkspan::sandbox::brevo::BrevoSandbox;
use linkspan::sandbox::intercom::IntercomSandbox;
use linkspan::sandbox::{Fault, OutgoingWebhook};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// How long the client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is there whether or not the daemon runs: vendors, network, chronicle.
pub struct Shared {
    pub clock: Arc<SimulatedClock>,
    start: chrono::DateTime<chrono::Utc>,
    pub intercom: IntercomSandbox,
    pub brevo: BrevoSandbox,
    story: Mutex<Story>,
    model: Mutex<Model>,
    dice: Mutex<Dice>,
    rates: Mutex<Rates>,
    latency: u64,
    /// How many records the vendors give a page.
    page: Option<u64>,
    /// Requests and webhooks on their way: they go on when the daemon dies.
    background: Mutex<JoinSet<()>>,
    receiver: Mutex<Option<axum::Router>>,
    pub crash: Crash,
}

/// The payload of the panic that stands for a power cut.
pub struct PowerCut;

/// Where the power goes next.
#[derive(Default)]
pub struct Crash {
    point: Mutex<Option<(&'static str, u32)>>,
    request: Mutex<Option<(u32, bool)>>,
}

impl Crash {
    pub fn at_point(&self, name: &'static str, nth: u32) {
        *open(&self.point) = Some((name, nth));
    }

    pub fn in_request(&self, nth: u32, after: bool) {
        *open(&self.request) = Some((nth, after));
    }

    pub fn disarm(&self) {
        *open(&self.point) = None;
        *open(&self.request) = None;
    }

    fn counts_down<T: Copy + PartialEq>(armed: &Mutex<Option<(T, u32)>>, here: T) -> bool {
        let mut armed = open(armed);
        match armed.as_mut() {
            Some((what, left)) if *what == here && *left > 1 => {
                *left -= 1;
                false
            }
            Some((what, _)) if *what == here => {
                *armed = None;
                true
            }
            _ => false,
        }
    }
}

/// The door through which the engine meets its crash points.
pub struct CrashDoor(pub Arc<Shared>);

impl CrashPoints for CrashDoor {
    fn reach(&self, name: &'static str) {
        self.0.count(format!("reached {name}"));
        if Crash::counts_down(&self.0.crash.point, name) {
            self.0.count(format!("crash at {name}"));
            let now = self.0.now();
            self.0.model().unclear |= !["after_inbox", "after_page"].contains(&name);
            self.0.model().unsettled.push(now);
            self.0.tell(&format!("### power cut at {name}"));
            std::panic::resume_unwind(Box::new(PowerCut));
        }
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Served(ServerFault),
    Refused,
    LostRequest,
    LostAnswer { at_once: bool },
    Zombie { after: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerFault {
    Throttled(Option<u64>),
    Error(u16),
    ErrorAfter(u16),
    Truncated,
    Html,
    Empty,
}

impl Shared {
    pub fn new(
        plan: &Plan,
        keep: bool,
        clock: Arc<SimulatedClock>,
        sides: (IntercomSandbox, BrevoSandbox),
    ) -> Arc<Self> {
        Arc::new(Self {
            start: clock.now(),
            clock,
            intercom: sides.0,
            brevo: sides.1,
            story: Mutex::new(Story::new(keep)),
            model: Mutex::new(Model::knowing(plan.setting.by_phone, plan.setting.limits, plan.setting.import_delay)),
            dice: Mutex::new(Dice::new(plan.seed, "network")),
            rates: Mutex::new(plan.rates),
            latency: plan.setting.latency,
            page: plan.setting.page,
            background: Mutex::default(),
            receiver: Mutex::default(),
            crash: Crash::default(),
        })
    }

    /// The start in milliseconds.
    pub fn start(&self) -> i64 {
        self.start.timestamp_millis()
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> i64 {
        (self.clock.now() - self.start).num_milliseconds()
    }

    pub fn tell(&self, line: &str) {
        open(&self.story).tell(self.now(), line);
    }

    pub fn count(&self, what: impl Into<String>) {
        open(&self.story).count(what);
    }

    pub fn violate(&self, what: String) {
        open(&self.story).violate(self.now(), what);
    }

    pub fn story(&self) -> MutexGuard<'_, Story> {
        open(&self.story)
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        open(&self.model)
    }

    pub fn heal(&self) {
        *open(&self.rates) = Rates::NONE;
        self.crash.disarm();
    }

    /// Who takes webhooks now: nobody while the daemon is down.
    pub fn receiver(&self, router: Option<axum::Router>) {
        *open(&self.receiver) = router;
    }

    /// Whether anything is still on its way.
    pub fn is_quiet(&self) -> bool {
        let mut background = open(&self.background);
        while background.try_join_next().is_some() {}
        background.is_empty()
    }

    /// What the vendors show now, with whoever changed it.
    fn look(&self, cause: &Cause) {
        let now = self.now();
        let found = open(&self.model).look(cause, &self.intercom, &self.brevo, now);
        for (violation, text) in found {
            if violation {
                self.violate(text);
            } else {
                self.count(text);
            }
        }
    }

    /// A person does something.
    pub fn hand(self: &Arc<Self>, edit: &Edit) {
        self.look(&Cause::Landing);
        let ever = self.model().intercom_ids();
        let Some((text, meaning)) = people::act(edit, &self.intercom, &self.brevo, &ever) else {
            return;
        };
        self.count(format!("edit {}", edit.kind()));
        self.tell(&format!("*** {text}"));
        self.look(&Cause::Hand(meaning));
        self.pump();
    }

    fn fate(&self) -> (Fate, u64, u64) {
        let rates = *open(&self.rates);
        let mut dice = open(&self.dice);
        let mut hits = [false; 9];
        let chances = [
            rates.throttled,
            rates.server_error,
            rates.error_after,
            rates.refused,
            rates.lost_request,
            rates.lost_answer,
            rates.zombie,
            rates.cut_body,
            rates.html,
        ];
        for (hit, chance) in hits.iter_mut().zip(chances) {
            *hit = dice.hits(chance);
        }
        let (some, before, after) = (dice.next(), dice.below(self.latency + 1), dice.below(self.latency + 1));
        let wait = [None, Some(1), Some(7), Some(60)][usize::try_from(some % 4).unwrap_or(0)];
        let status = [500, 502, 503, 504][usize::try_from(some % 4).unwrap_or(0)];
        let fate = match hits.iter().position(|hit| *hit) {
            Some(0) => Fate::Served(ServerFault::Throttled(wait)),
            Some(1) => Fate::Served(ServerFault::Error(status)),
            Some(2) => Fate::Served(ServerFault::ErrorAfter(status)),
            Some(3) => Fate::Refused,
            Some(4) => Fate::LostRequest,
            Some(5) => Fate::LostAnswer { at_once: some % 2 == 0 },
            Some(6) => Fate::Zombie { after: 31_000 + some % 25_000 },
            Some(7) => Fate::Served(ServerFault::Truncated),
            Some(8) => Fate::Served(if some % 2 == 0 { ServerFault::Html } else { ServerFault::Empty }),
            _ => Fate::Answered,
        };
        (fate, before, after)
    }

    /// Whether Intercom has something against what is written now.
    fn rejects(&self) -> bool {
        let rate = open(&self.rates).rejected;
        rate > 0.0 && open(&self.dice).hits(rate)
    }

    /// Registers Brevo's webhooks.
    pub async fn hear_brevo(&self, batched: bool) {
        let events = [
            "spam",
            "hardBounce",
            "unsubscribed",
            "listAddition",
            "contactUpdated",
            "contactDeleted",
            "softBounce",
            "opened",
        ];
        let body = serde_json::json!({
            "url": "https://linkspan.test/webhooks/brevo", "type": "marketing", "events": events, "batched": batched,
            "auth": {"type": "bearer", "token": BREVO_SECRET},
        });
        let request = http::Request::post("/v3/webhooks").header("api-key", self.brevo.api_key());
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
        let Ok(answer) = self.brevo.router().oneshot(request).await;
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Takes the notifications that a change has caused, and sends them on their way.
    pub fn pump(self: &Arc<Self>) {
        let rates = *open(&self.rates);
        let made_at = self.now();
        let brevo = self.brevo.take_webhooks().into_iter().map(|webhook| (true, webhook));
        for (is_brevo, webhook) in
            self.intercom.take_webhooks().into_iter().map(|webhook| (false, webhook)).chain(brevo)
        {
            let count = |what: &str| self.count(format!("{what}{}", if is_brevo { " from Brevo" } else { "" }));
            let (lost, twice, late, first, some) = {
                let mut dice = open(&self.dice);
                (
                    dice.hits(rates.webhook_lost),
                    dice.hits(rates.webhook_twice),
                    dice.hits(rates.webhook_late),
                    dice.hits(rates.webhook_first),
                    dice.next() >> 1,
                )
            };
            if lost {
                count("webhook lost");
                continue;
            }
            let mut delays = vec![if first {
                count("webhook first");
                0
            } else if late {
                count("webhook late");
                60_000 + some % 1_500_000
            } else {
                50 + some % 4_000
            }];
            if twice {
                count("webhook twice");
                delays.push(100 + some % 90_000);
            }
            for delay in delays {
                let (shared, webhook) = (Arc::clone(self), webhook.clone());
                open(&self.background).spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    // Intercom tries once more after a minute, and never again; Brevo after ten minutes, then after an hour, and
                    // twice more.
                    let waits: &[u64] = if is_brevo { &[600, 3_600] } else { &[60] };
                    let mut delivered = shared.deliver(&webhook, is_brevo, made_at).await;
                    for wait in waits {
                        if delivered {
                            return;
                        }
                        tokio::time::sleep(Duration::from_secs(*wait)).await;
                        delivered = shared.deliver(&webhook, is_brevo, made_at).await;
                    }
                    if !delivered {
                        shared.count("webhook undeliverable");
                    }
                });
            }
        }
    }

    async fn deliver(&self, webhook: &OutgoingWebhook, is_brevo: bool, made_at: i64) -> bool {
        let Some(router) = open(&self.receiver).clone() else { return false };
        let path = if is_brevo { linkspan::server::BREVO_PATH } else { linkspan::server::INTERCOM_PATH };
        let mut request = http::Request::post(path);
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(webhook.body.clone())).unwrap();
        let Ok(answer) = router.oneshot(request).await;
        let taken = answer.status().is_success();
        let whose = if is_brevo { " from Brevo" } else { "" };
        self.tell(&format!("<~~ webhook {}{whose} → {}", webhook.topic, answer.status().as_u16()));
        if taken && is_brevo {
            self.count("webhook acknowledged from Brevo");
            self.count(format!("webhook of Brevo's: {}", webhook.topic));
            let now = self.now();
            self.model().acknowledged_from_brevo(&webhook.body, made_at, now);
        } else if taken {
            self.count("webhook acknowledged");
            let now = self.now();
            self.model().acknowledged(&webhook.topic, &webhook.body, made_at, now);
        } else {
            self.count(format!("webhook answered {}", answer.status().as_u16()));
        }
        taken
    }
}

/// One vendor's network.
pub struct Network {
    pub shared: Arc<Shared>,
    pub is_brevo: bool,
    pub router: axum::Router,
}

type Answer = http::Response<Bytes>;

impl Network {
    /// The request arrives at the vendor. Handled at once: nothing comes between.
    async fn arrive(
        shared: &Arc<Shared>,
        is_brevo: bool,
        router: axum::Router,
        request: http::Request<Bytes>,
        fault: Option<ServerFault>,
        left_at: i64,
    ) -> Answer {
        shared.look(&Cause::Landing);
        if let Some(fault) = fault {
            let fault = match fault {
                ServerFault::Throttled(wait) => Fault::Status(429, wait),
                ServerFault::Error(status) => Fault::Status(status, None),
                ServerFault::ErrorAfter(status) => Fault::StatusAfterEffect(status),
                ServerFault::Truncated => Fault::Truncated,
                ServerFault::Html => Fault::Html,
                ServerFault::Empty => Fault::Empty,
            };
            if is_brevo {
                shared.brevo.fail("", fault);
            } else {
                shared.intercom.knobs(|knobs| knobs.faults.push_back((String::new(), fault)));
            }
        }
        let request = match shared.page {
            Some(page) => shorter_pages(request, page),
            None => request,
        };
        let what = format!("{} {}", request.method(), request.uri().path());
        let body = request.body().clone();
        let Ok(answer) = router.oneshot(request.map(Body::from)).await;
        let (parts, answered) = answer.into_parts();
        let bytes = http_body_util::BodyExt::collect(answered).await.map(|body| body.to_bytes()).unwrap_or_default();
        let status = parts.status.as_u16();
        if status == 429 && fault.is_none() {
            shared.count(format!("over the limit ({})", if is_brevo { "Brevo" } else { "Intercom" }));
            let now = shared.now();
            shared.model().over_limit.push(now);
        }
        if is_brevo || writes(&what) {
            let done = match fault {
                None => parts.status.is_success(),
                Some(ServerFault::ErrorAfter(_) | ServerFault::Truncated) => status != 429,
                Some(_) => false,
            };
            let cause = Cause::Ours { left_at, what, body, status, done };
            shared.look(&cause);
        }
        shared.pump();
        http::Response::from_parts(parts, bytes)
    }

    fn said(&self, path: &str, answer: &Answer) {
        let now = self.shared.now();
        if answer.status().is_success() {
            self.shared.model().told(self.is_brevo, path, answer.body(), now);
        } else if answer.status() == http::StatusCode::NOT_FOUND {
            self.shared.model().firms.told_gone(path, now);
            if self.is_brevo {
                self.shared.model().told_gone(path, now);
            }
        }
    }
}

/// Whether a request to Intercom changes something there.
fn writes(what: &str) -> bool {
    !what.starts_with("GET ") && !what.ends_with("/search") && !what.ends_with("/list")
}

/// The same request for fewer records a page: what comes after the first page is read in small worlds, too.
fn shorter_pages(request: http::Request<Bytes>, page: u64) -> http::Request<Bytes> {
    let (mut parts, mut body) = request.into_parts();
    let target = parts.uri.to_string();
    if let Some(shorter) = ["limit=1000&", "per_page=150"].iter().find_map(|asked| {
        let name = asked.split('=').next()?;
        let end = if asked.ends_with('&') { "&" } else { "" };
        target.contains(asked).then(|| target.replace(asked, &format!("{name}={page}{end}")))
    }) {
        parts.uri = shorter.parse().unwrap();
    }
    if parts.uri.path().ends_with("/search")
        && let Ok(mut query) = serde_json::from_slice::<serde_json::Value>(&body)
        && query["pagination"]["per_page"].as_u64().is_some_and(|asked| asked > page)
    {
        query["pagination"]["per_page"] = page.into();
        body = query.to_string().into();
    }
    http::Request::from_parts(parts, body)
}

/// A body for the timeline: short, and one line.
fn shown(body: &Bytes) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    text
}

/// A request whose answer is awaited.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    writes: bool,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.writes {
            self.shared.model().unclear = true;
        }
        if !self.answered {
            let now = self.shared.now();
            self.shared.model().unsettled.push(now);
        }
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: http::Request<Bytes>) -> Result<Answer, TransportError> {
        let shared = &self.shared;
        let left_at = shared.now();
        let (mut fate, before, after) = shared.fate();
        if fate == Fate::Answered && !self.is_brevo && request.method() == http::Method::PUT && shared.rejects() {
            fate = Fate::Served(ServerFault::Error(400));
        }
        let vendor = if self.is_brevo { "Brevo" } else { "Intercom" };
        let path = request.uri().path().to_owned();
        let asked =
            format!("{vendor} {} {}", request.method(), request.uri().path_and_query().map_or("", |p| p.as_str()));
        shared.tell(&format!("--> {asked} {}", shown(request.body())));
        if fate != Fate::Answered {
            let name = format!("{fate:?}");
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            if !self.is_brevo && writes(&format!("{} {path}", request.method())) {
                shared.count(format!("fault of a write to Intercom {name}"));
            }
            shared.count(format!("fault {name}"));
            shared.tell(&format!("    {fate:?}"));
        }
        let to_intercom = !self.is_brevo && writes(&format!("{} {path}", request.method()));
        let writes = self.is_brevo && request.method() != http::Method::GET;
        let throttled = matches!(fate, Fate::Answered | Fate::Served(ServerFault::Throttled(_)));
        shared.model().unclear |= writes && !throttled;
        if self.is_brevo && !writes && path.ends_with("/events") && fate != Fate::Answered {
            shared.model().failed_event_looks += 1;
        }
        // Whoever dies while it waits does not know what became of it.
        let mut waiting = Waiting { shared, writes, answered: !writes && !to_intercom };
        let crash = {
            let mut armed = open(&shared.crash.request);
            match armed.as_mut() {
                Some((left, _)) if *left > 1 => {
                    *left -= 1;
                    None
                }
                Some((_, after)) => {
                    let after = *after;
                    *armed = None;
                    Some(after)
                }
                None => None,
            }
        };
        if crash == Some(false) {
            shared.count("crash before a request");
            shared.tell("### power cut before the request");
            std::panic::resume_unwind(Box::new(PowerCut));
        }
        match fate {
            Fate::Refused => return Err(TransportError::Connect("connection refused".to_owned())),
            Fate::LostRequest => {
                tokio::time::sleep(PATIENCE).await;
                return Err(TransportError::TimedOut(PATIENCE));
            }
            _ => {}
        }
        let fault = if let Fate::Served(fault) = fate { Some(fault) } else { None };
        let delay = if let Fate::Zombie { after } = fate { after } else { before };
        let (answered, answer) = tokio::sync::oneshot::channel();
        let (theirs, is_brevo, router) = (Arc::clone(shared), self.is_brevo, self.router.clone());
        // It lands even if the daemon dies meanwhile.
        open(&shared.background).spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let answer = Self::arrive(&theirs, is_brevo, router, request, fault, left_at).await;
            answered.send(answer).ok();
        });
        if let Fate::Zombie { .. } = fate {
            tokio::time::sleep(PATIENCE).await;
            return Err(TransportError::TimedOut(PATIENCE));
        }
        let Ok(answer) = answer.await else { return Err(TransportError::Broken("gone".to_owned())) };
        if crash == Some(true) {
            shared.count("crash after a request");
            shared.tell("### power cut after the request was carried out");
            std::panic::resume_unwind(Box::new(PowerCut));
        }
        tokio::time::sleep(Duration::from_millis(after)).await;
        if let Fate::LostAnswer { at_once } = fate {
            if at_once {
                return Err(TransportError::Broken("connection reset".to_owned()));
            }
            tokio::time::sleep(PATIENCE).await;
            return Err(TransportError::TimedOut(PATIENCE));
        }
        waiting.writes = false;
        waiting.answered |= fault.is_none();
        shared.tell(&format!("<-- {} to {asked}", answer.status().as_u16()));
        if fault.is_none() {
            self.said(&path, &answer);
        }
        Ok(answer)
    }
}
