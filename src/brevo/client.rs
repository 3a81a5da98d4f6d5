//! [`BrevoClient`]: how requests are built, authenticated, paced and judged.

use super::companies::CompanyAttributes;
use super::errors;
use crate::doors::Doors;
use crate::http::lean::{self, Tree};
use crate::http::{
    Call, Caller, CallerOptions, Effect, Family, GovernorOptions, Learned, RetryPolicy, Transport, Window,
};
use crate::model::{
    AccountInfo, Answer, Attribute, AttributeKind, AuthProblem, BrevoCompany, BrevoCompanyId, Budget, ContactKey,
    ConversationId, ErrorKind, Fetched, ImportState, IntercomCompanyId, IntercomContactId, Observation, OutgoingEvent,
    Priority, ProcessId, ReadPage, ReadRequest, Related, Side, SideError, SideName, Write,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How to reach a Brevo account.
#[derive(Debug, Clone)]
pub struct BrevoOptions {
    /// Where the API is.
    pub base_url: url::Url,
    /// The account's key (`xkeysib-…`). Keys have no scopes: a key opens the whole account.
    pub api_key: SecretString,
    /// Share of the published limits that we take.
    pub share: f64,
    /// `false` lifts the published limits, for a sandbox without limits and for benchmarks.
    pub paced: bool,
}

impl BrevoOptions {
    /// Brevo itself, nine tenths of its limits.
    ///
    /// # Errors
    /// None in practice: the built-in address is one.
    pub fn new(api_key: SecretString) -> Result<Self, url::ParseError> {
        Ok(Self { base_url: url::Url::parse("https://api.brevo.com/v3")?, api_key, share: 0.9, paced: true })
    }
}

/// A Brevo account.
#[derive(Debug)]
pub struct BrevoClient {
    base: String,
    api_key: SecretString,
    /// The part of each budget that is ours.
    share: f64,
    /// How many companies a page is asked for, as far as is known.
    pub(super) companies_a_page: AtomicU64,
    caller: Caller,
    /// The attributes' types, once read: they decide how a value is written.
    kinds: RwLock<BTreeMap<String, AttributeKind>>,
    /// The same of companies, with the names that Brevo made for them.
    company_attributes: RwLock<CompanyAttributes>,
    /// The folder of our lists, once found.
    pub(super) folder: tokio::sync::Mutex<Option<i64>>,
}

/// Everything under `/contacts`: ten a second and 36,000 an hour.
pub(super) const CONTACTS: &str = "contacts";
/// `POST /events`: the same figures, counted apart.
pub(super) const EVENTS: &str = "events";
/// Everything else shares a hundred an hour.
pub(super) const OTHER: &str = "other";
/// Reports of imports lie outside the API.
pub(super) const FILES: &str = "files";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn families(paced: bool) -> Vec<Family> {
    let windows = |windows: &[Window]| if paced { windows.to_vec() } else { Vec::new() };
    let fast = [Window::published(10, SECOND), Window::published(36_000, HOUR)];
    vec![
        Family::new(CONTACTS, windows(&fast)),
        Family::new(EVENTS, windows(&fast)),
        Family::new(OTHER, windows(&[Window::published(100, HOUR)])),
        Family::new(FILES, []).concurrency(2),
    ]
}

/// Brevo's reset is a time that remains, not a point in time.
fn learned(headers: &http::HeaderMap, _: chrono::DateTime<chrono::Utc>) -> Learned {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    Learned {
        limit: number("x-sib-ratelimit-limit"),
        remaining: number("x-sib-ratelimit-remaining"),
        resets_in: number("x-sib-ratelimit-reset").map(Duration::from_secs),
    }
}

/// Everything but what is never special in a path or a query. In a query Brevo takes a bare `+` for a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes one path segment or query value.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// One request to be.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path with query, already encoded.
    pub(super) target: String,
    /// JSON.
    pub(super) body: Option<Bytes>,
    /// What the body is; JSON if nothing else is said.
    pub(super) content_type: Option<String>,
    pub(super) family: &'static str,
    pub(super) effect: Effect,
    pub(super) priority: Priority,
}

/// A request's body.
pub(super) struct Json(pub(super) Bytes);

impl From<serde_json::Value> for Json {
    fn from(json: serde_json::Value) -> Self {
        Self(Bytes::from(json.to_string()))
    }
}

impl Ask {
    /// A read of something under `/contacts`.
    pub(super) fn get(target: impl Into<String>, family: &'static str, priority: Priority) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            body: None,
            content_type: None,
            family,
            effect: Effect::Read,
            priority,
        }
    }

    /// A write under `/contacts`.
    pub(super) fn write(
        method: Method,
        target: impl Into<String>,
        body: impl Into<Json>,
        effect: Effect,
        priority: Priority,
    ) -> Self {
        let Json(body) = body.into();
        Self { method, target: target.into(), body: Some(body), content_type: None, family: CONTACTS, effect, priority }
    }

    /// The same in another family.
    pub(super) fn family(mut self, family: &'static str) -> Self {
        self.family = family;
        self
    }
}

impl BrevoClient {
    /// A client for the account that `options` name.
    pub fn new(options: BrevoOptions, transport: Arc<dyn Transport>, doors: Doors) -> Self {
        let governor = GovernorOptions {
            families: families(options.paced),
            read_headers: learned,
            share: options.share,
            ..GovernorOptions::default()
        };
        let caller =
            Caller::new(SideName::Brevo, transport, doors, CallerOptions { governor, retry: RetryPolicy::default() });
        Self {
            base: options.base_url.as_str().trim_end_matches('/').to_owned(),
            api_key: options.api_key,
            share: options.share,
            companies_a_page: AtomicU64::new(super::companies::A_PAGE),
            caller,
            kinds: RwLock::default(),
            company_attributes: RwLock::default(),
            folder: tokio::sync::Mutex::default(),
        }
    }

    /// Sends a request to the API and gives back its successful answer.
    pub(super) async fn send(&self, ask: Ask) -> Result<http::Response<Bytes>, Box<SideError>> {
        let effect = ask.effect;
        self.send_judged(ask, &move |answer| errors::classify(answer, effect)).await
    }

    /// Sends a read whose answer is long, and reads it where it is judged, so that it is parsed once: a success that is
    /// not whole JSON has to be asked for again.
    pub(super) async fn ask<T: Send>(
        &self,
        ask: Ask,
        read: impl Fn(&http::Response<Bytes>, lean::Json<'_>) -> Result<T, Box<SideError>> + Send + Sync,
    ) -> Result<T, Box<SideError>> {
        let made = Mutex::new(None);
        let judge = |answer: &http::Response<Bytes>| match Tree::from_slice(answer.body()) {
            Ok(tree) if answer.status().is_success() => {
                *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(read(answer, tree.root()));
                Ok(())
            }
            _ => errors::classify(answer, Effect::Read),
        };
        let answer = self.send_judged(ask, &judge).await?;
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.unwrap_or_else(|| Err(errors::malformed(&answer)))
    }

    /// [`Self::send`] with a judgement of the answer of the caller's own.
    pub(super) async fn send_judged(
        &self,
        ask: Ask,
        classify: &crate::http::Classify<'_>,
    ) -> Result<http::Response<Bytes>, Box<SideError>> {
        let uri = format!("{}{}", self.base, ask.target);
        self.send_to(&uri, ask, true, classify).await
    }

    /// Fetches a file that an answer named. The key goes along only to the API's own origin.
    pub(super) async fn download(&self, url: &url::Url) -> Result<Bytes, Box<SideError>> {
        let ours = url::Url::parse(&self.base).is_ok_and(|base| base.origin() == url.origin());
        let ask = Ask::get("", FILES, Priority::Live);
        let classify = |answer: &http::Response<Bytes>| errors::classify_file(answer);
        Ok(self.send_to(url.as_str(), ask, ours, &classify).await?.into_body())
    }

    async fn send_to(
        &self,
        uri: &str,
        ask: Ask,
        with_key: bool,
        classify: &crate::http::Classify<'_>,
    ) -> Result<http::Response<Bytes>, Box<SideError>> {
        let mut request = http::Request::builder().method(ask.method).uri(uri);
        if with_key {
            let Ok(mut key) = HeaderValue::from_str(self.api_key.expose_secret().trim()) else {
                let words = "the API key holds characters that no key has: copy it again from Brevo's settings";
                return Err(SideError::new(SideName::Brevo, ErrorKind::Auth(AuthProblem::BadCredentials), words));
            };
            key.set_sensitive(true);
            request = request.header("api-key", key).header(http::header::ACCEPT, "application/json");
        }
        let body = match ask.body {
            Some(json) => {
                let kind = ask.content_type.as_deref().unwrap_or("application/json");
                request = request.header(http::header::CONTENT_TYPE, kind);
                json
            }
            None => Bytes::new(),
        };
        let request = request.body(body).map_err(|error| {
            SideError::new(SideName::Brevo, ErrorKind::Unsupported, format!("cannot build the request: {error}"))
        })?;
        let call = Call { request, family: ask.family, priority: ask.priority, effect: ask.effect };
        self.caller.call(call, classify).await
    }

    /// Remembers the attributes' types.
    pub(super) fn remember_kinds(&self, attributes: &[Attribute]) {
        let kinds = attributes.iter().map(|attribute| (attribute.name.clone(), attribute.kind.clone())).collect();
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
    }

    /// Looks at the attributes' types, which may not have been read yet.
    pub(super) fn with_kinds<T>(&self, look: impl FnOnce(&BTreeMap<String, AttributeKind>) -> T) -> T {
        look(&self.kinds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers the companies' attributes.
    pub(super) fn remember_company_attributes(&self, attributes: CompanyAttributes) {
        *self.company_attributes.write().unwrap_or_else(PoisonError::into_inner) = attributes;
    }

    /// Looks at the companies' attributes, which may not have been read yet.
    pub(super) fn with_company_attributes<T>(&self, look: impl FnOnce(&CompanyAttributes) -> T) -> T {
        look(&self.company_attributes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Brevo has no such thing.
pub(super) fn unsupported(what: &str) -> Box<SideError> {
    SideError::new(SideName::Brevo, ErrorKind::Unsupported, format!("Brevo has no {what}"))
}

#[async_trait::async_trait]
impl Side for BrevoClient {
    fn name(&self) -> SideName {
        SideName::Brevo
    }

    async fn account(&self) -> Result<AccountInfo, Box<SideError>> {
        self.read_account().await
    }

    async fn attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        self.read_attributes().await
    }

    async fn read(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>> {
        self.read_page(request).await
    }

    async fn count_changed(&self, since: DateTime<Utc>, priority: Priority) -> Result<ReadPage, Box<SideError>> {
        self.count_contacts(since, priority).await
    }

    async fn fetch(&self, key: &ContactKey, priority: Priority) -> Result<Fetched, Box<SideError>> {
        self.fetch_contact(key, priority).await
    }

    async fn find_all(&self, _: &ContactKey, _: Priority) -> Result<(Vec<Observation>, bool), Box<SideError>> {
        Err(unsupported("search for contacts"))
    }

    async fn fetch_conversation(&self, _: &ConversationId, _: Priority) -> Result<Fetched, Box<SideError>> {
        Err(unsupported("Intercom conversations"))
    }

    async fn fetch_company(&self, _: &IntercomCompanyId, _: Priority) -> Result<Fetched, Box<SideError>> {
        Err(unsupported("Intercom companies"))
    }

    async fn company_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        self.read_company_attributes().await
    }

    async fn fetch_brevo_company(&self, id: &BrevoCompanyId, priority: Priority) -> Result<Fetched, Box<SideError>> {
        self.fetch_company_by_id(id, priority).await
    }

    async fn companies_of(
        &self,
        id: &IntercomCompanyId,
        priority: Priority,
    ) -> Result<Vec<BrevoCompany>, Box<SideError>> {
        self.find_companies_of(id, priority).await
    }

    async fn related(
        &self,
        _: &IntercomContactId,
        _: Related,
        _: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>> {
        Err(unsupported("Intercom contacts"))
    }

    async fn write(&self, write: &Write, priority: Priority) -> Result<Answer, Box<SideError>> {
        self.write_one(write, priority).await
    }

    async fn events_held(
        &self,
        events: &[OutgoingEvent],
        priority: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>> {
        self.read_events_held(events, priority).await
    }

    async fn import_states(&self, processes: &[ProcessId]) -> Result<BTreeMap<ProcessId, ImportState>, Box<SideError>> {
        self.read_import_states(processes).await
    }

    async fn import_report(&self, url: &str) -> Result<Vec<String>, Box<SideError>> {
        self.read_import_report(url).await
    }

    fn budgets(&self) -> Vec<Budget> {
        self.caller.budgets()
    }

    fn company_budget(&self) -> Option<Budget> {
        let budget = self.caller.budgets().into_iter().find(|budget| budget.family == OTHER)?;
        let held = self.caller.held_back(OTHER).is_some();
        Some(if held { Budget { remaining: 0, ..budget } } else { budget.our_share(self.share) })
    }

    fn held_back(&self) -> Option<Duration> {
        self.caller.held_back(CONTACTS)
    }
}
