//! Takes webhooks to their receiver, by the vendor's rules for patience and retries.

use super::OutgoingWebhook;
use axum::body::Body;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How a vendor delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRules {
    /// How long the receiver may take.
    pub timeout: Duration,
    /// The waits before each further attempt; when they are used up, the notification is lost.
    pub retries: Vec<Duration>,
    /// Whether an answer of 410 turns the subscription off.
    pub gone_disables: bool,
    /// Whether every answer but a 2xx and a 429 ends it: what was carried is discarded.
    pub refusals_discard: bool,
}

impl DeliveryRules {
    /// Five seconds, one retry after a minute, and 410 disables.
    pub fn intercom() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            retries: vec![Duration::from_secs(60)],
            gone_disables: true,
            refusals_discard: false,
        }
    }

    /// Four retries within half a day, and none at all after a 4xx other than 429 or a 5xx. For how long it waits is not
    /// written anywhere.
    pub fn brevo() -> Self {
        const MINUTE: u64 = 60;
        Self {
            timeout: Duration::from_secs(10),
            retries: [10, 60, 120, 480].map(|minutes| Duration::from_secs(minutes * MINUTE)).into(),
            gone_disables: false,
            refusals_discard: true,
        }
    }
}

/// Where to.
#[derive(Debug, Clone)]
enum Target {
    Url(reqwest::Client, String),
    Router(axum::Router, String),
    /// Each to the address that it is registered with.
    Registered(reqwest::Client),
}

/// What came of the deliveries so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Accepted with a 2xx.
    pub accepted: u64,
    /// Attempts that failed, retried or not.
    pub failed_attempts: u64,
    /// Lost: every attempt failed, or the subscription was off.
    pub lost: u64,
    /// Whether a 410 turned the subscription off.
    pub disabled: bool,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    disabled: CancellationToken,
}

/// Most deliveries that are under way at once, those that wait for their retry included.
const MOST_AT_ONCE: usize = 1_000;

/// Takes webhooks to one receiver. Dropping it stops everything that is under way.
#[derive(Debug)]
pub struct Deliverer {
    target: Target,
    rules: DeliveryRules,
    stop: CancellationToken,
    counts: Arc<Counts>,
    tasks: Mutex<JoinSet<()>>,
}

impl Deliverer {
    /// Posts to a URL over sockets. `stop` ends it.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn to_url(url: &str, rules: DeliveryRules, stop: CancellationToken) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self::new(Target::Url(client, url.to_owned()), rules, stop))
    }

    /// Posts each over sockets to the address that comes with it. `stop` ends it.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn to_registered(rules: DeliveryRules, stop: CancellationToken) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self::new(Target::Registered(client), rules, stop))
    }

    /// Calls a router in process at `path`. `stop` ends it.
    pub fn to_router(router: axum::Router, path: &str, rules: DeliveryRules, stop: CancellationToken) -> Self {
        Self::new(Target::Router(router, path.to_owned()), rules, stop)
    }

    fn new(target: Target, rules: DeliveryRules, stop: CancellationToken) -> Self {
        Self { target, rules, stop, counts: Arc::default(), tasks: Mutex::default() }
    }

    /// What came of it so far.
    pub fn deliveries(&self) -> Deliveries {
        Deliveries {
            accepted: self.counts.accepted.load(Ordering::Relaxed),
            failed_attempts: self.counts.failed.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
            disabled: self.counts.disabled.is_cancelled(),
        }
    }

    /// One attempt: the status that was answered, if any.
    pub async fn attempt(&self, webhook: &OutgoingWebhook) -> Option<u16> {
        attempt(&self.target, self.rules.timeout, webhook).await
    }

    /// Delivers in the background, retries included. Nothing is promised about order, as with the vendors.
    pub fn deliver(&self, webhooks: impl IntoIterator<Item = OutgoingWebhook>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        for webhook in webhooks {
            if tasks.len() >= MOST_AT_ONCE || self.stop.is_cancelled() {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let (target, rules) = (self.target.clone(), self.rules.clone());
            let (stop, counts) = (self.stop.clone(), Arc::clone(&self.counts));
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = with_retries(&target, &rules, &counts, &webhook) => {}
                }
            });
        }
    }

    /// Delivers what `next` gives until it is stopped.
    pub async fn run<F, W>(&self, mut next: F)
    where
        F: FnMut() -> W,
        W: Future<Output = Vec<OutgoingWebhook>>,
    {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                webhooks = next() => self.deliver(webhooks),
            }
        }
    }

    /// Waits until nothing is under way.
    pub async fn idle(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

async fn with_retries(target: &Target, rules: &DeliveryRules, counts: &Counts, webhook: &OutgoingWebhook) {
    for wait in std::iter::once(Duration::ZERO).chain(rules.retries.iter().copied()) {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if counts.disabled.is_cancelled() {
            break;
        }
        let status = attempt(target, rules.timeout, webhook).await;
        if status.is_some_and(|status| (200..300).contains(&status)) {
            counts.accepted.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.failed.fetch_add(1, Ordering::Relaxed);
        if status == Some(410) && rules.gone_disables {
            counts.disabled.cancel();
        }
        if rules.refusals_discard && status.is_some_and(|status| status >= 400 && status != 429) {
            break;
        }
    }
    counts.lost.fetch_add(1, Ordering::Relaxed);
}

async fn attempt(target: &Target, timeout: Duration, webhook: &OutgoingWebhook) -> Option<u16> {
    let sent = async {
        match target {
            Target::Url(client, url) => post(client, url, webhook).await,
            Target::Registered(client) => post(client, webhook.url.as_deref()?, webhook).await,
            Target::Router(router, path) => {
                let mut request = http::Request::post(path);
                for (name, value) in &webhook.headers {
                    request = request.header(name, value);
                }
                let request = request.body(Body::from(webhook.body.clone())).ok()?;
                match router.clone().oneshot(request).await {
                    Ok(answer) => Some(answer.status().as_u16()),
                    Err(never) => match never {},
                }
            }
        }
    };
    tokio::time::timeout(timeout, sent).await.ok().flatten()
}

async fn post(client: &reqwest::Client, url: &str, webhook: &OutgoingWebhook) -> Option<u16> {
    let mut request = client.post(url).body(webhook.body.clone());
    for (name, value) in &webhook.headers {
        request = request.header(name, value);
    }
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn webhook() -> OutgoingWebhook {
        let headers = vec![("X-Hub-Signature".to_owned(), "sha1=00".to_owned())];
        OutgoingWebhook { url: None, headers, body: "{}".into(), topic: "ping".to_owned() }
    }

    fn answering(statuses: Vec<StatusCode>) -> axum::Router {
        let left = Arc::new(Mutex::new(statuses));
        axum::Router::new().fallback(move || {
            let left = Arc::clone(&left);
            async move { left.lock().unwrap().pop().unwrap_or(StatusCode::OK) }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_retry_after_a_minute_and_then_it_is_lost() {
        let deliver = async |statuses| {
            let deliverer =
                Deliverer::to_router(answering(statuses), "/hook", DeliveryRules::intercom(), CancellationToken::new());
            let start = later();
            deliverer.deliver([webhook()]);
            deliverer.idle().await;
            (deliverer.deliveries(), later() - start)
        };
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        let (once, took) = deliver(vec![error]).await;
        assert_eq!((once.accepted, once.failed_attempts, once.lost), (1, 1, 0));
        assert!(took >= Duration::from_secs(60));
        let (twice, _) = deliver(vec![error, error]).await;
        assert_eq!((twice.accepted, twice.failed_attempts, twice.lost), (0, 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn brevo_comes_back_after_a_429_and_never_after_a_refusal() {
        for (status, accepted) in [(429, 1), (503, 0), (401, 0), (410, 0)] {
            let router = answering(vec![StatusCode::from_u16(status).unwrap()]);
            let deliverer = Deliverer::to_router(router, "/hook", DeliveryRules::brevo(), CancellationToken::new());
            deliverer.deliver([webhook()]);
            deliverer.idle().await;
            assert_eq!(deliverer.deliveries().accepted, accepted, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gone_turns_the_subscription_off() {
        let router = answering(vec![StatusCode::GONE]);
        let deliverer = Deliverer::to_router(router, "/hook", DeliveryRules::intercom(), CancellationToken::new());
        deliverer.deliver([webhook()]);
        deliverer.idle().await;
        deliverer.deliver([webhook()]);
        deliverer.idle().await;
        let after = deliverer.deliveries();
        assert!(after.disabled);
        assert_eq!((after.accepted, after.lost), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_told() {
        let stop = CancellationToken::new();
        let router = answering(vec![StatusCode::BAD_GATEWAY]);
        let deliverer = Deliverer::to_router(router, "/hook", DeliveryRules::intercom(), stop.clone());
        deliverer.deliver([webhook()]);
        stop.cancel();
        deliverer.idle().await;
        assert_eq!(deliverer.deliveries().accepted, 0);
    }

    fn later() -> tokio::time::Instant {
        tokio::time::Instant::now()
    }
}
