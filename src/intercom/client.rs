//! [`IntercomClient`]: how Intercom is called.

use super::errors::{self, header};
use super::wire;
use crate::doors::Doors;
use crate::http::lean::{Json, Tree};
use crate::http::{Call, Caller, CallerOptions, Effect, Family, GovernorOptions, Learned, Transport, Window};
use crate::model::{
    AccountInfo, Answer, Attribute, BrevoCompany, BrevoCompanyId, Budget, ContactKey, ConversationId, ErrorKind,
    Fetched, Gone, ImportState, IntercomCompanyId, IntercomContactId, Observation, OutgoingEvent, Priority, ProcessId,
    ReadPage, ReadRequest, Related, Side, SideError, SideName, Write,
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Method, header as names};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The app's one budget, which every endpoint spends.
pub(super) const APP: &str = "app";
/// Searches: inside the app's budget, with a ceiling of their own under a plan.
pub(super) const SEARCH: &str = "search";
/// Beginning a company scroll: the same.
pub(super) const SCROLL: &str = "scroll";

/// Intercom counts in windows of ten seconds.
const WINDOW: Duration = Duration::from_secs(10);

/// The published 10,000 a minute, per window; headers correct it with the first answer.
const PUBLISHED: u64 = 1_666;

/// From this version on a merged contact is answered 410 with its survivor; before, a merged contact is a 404 like a
/// deleted one.
const MERGE_PROBE_VERSION: &str = "2.16";

/// How often a read is sent whose answers arrive cut.
const CUT_TRIES: u32 = 3;

/// Intercom's sub-lists of a contact show at most sixty a page.
const SUBLIST_PAGE: u32 = 60;

/// A contact has at most 1,000 companies; more pages than this is an answer that goes round in circles.
const MOST_SUBLIST_PAGES: u32 = 200;

/// Self-imposed ceilings, far below what Intercom publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// 20 requests per 10 seconds.
    Starter,
    /// 50 requests per 10 seconds.
    Pro,
    /// 100 requests per 10 seconds.
    Premium,
}

impl Plan {
    /// Requests per window of ten seconds.
    pub fn per_window(self) -> u64 {
        match self {
            Self::Starter => 20,
            Self::Pro => 50,
            Self::Premium => 100,
        }
    }
}

/// The families, from the plan.
fn families(plan: Option<Plan>) -> Vec<Family> {
    let mut app = vec![Window::published(PUBLISHED, WINDOW)];
    let (mut search, mut scroll) = (Vec::new(), Vec::new());
    if let Some(plan) = plan {
        app.push(Window::ceiling(plan.per_window(), WINDOW));
        search.push(Window::ceiling(1, Duration::from_secs(1)));
        scroll.push(Window::ceiling(1, Duration::from_secs(60)));
    }
    vec![Family::new(APP, app), Family::new(SEARCH, search).within(APP), Family::new(SCROLL, scroll).within(APP)]
}

/// `X-RateLimit-*`, any of which may be missing. The reset is a unix time, so it is read by the vendor's clock.
fn read_headers(headers: &http::HeaderMap, vendor_now: DateTime<Utc>) -> Learned {
    let number = |name: &str| header(headers, name).and_then(|text| text.parse::<u64>().ok());
    let resets_in = number("x-ratelimit-reset")
        .and_then(|reset| i64::try_from(reset).ok())
        .and_then(|reset| u64::try_from(reset.saturating_sub(vendor_now.timestamp())).ok())
        .map(Duration::from_secs);
    Learned { limit: number("x-ratelimit-limit"), remaining: number("x-ratelimit-remaining"), resets_in }
}

/// How to reach a workspace.
#[derive(Debug, Clone)]
pub struct IntercomOptions {
    /// `https://api.intercom.io/`, or another region's.
    pub base_url: url::Url,
    /// The app's access token.
    pub access_token: SecretString,
    /// Sent with every request but the one that asks whether a missing contact was merged.
    pub api_version: String,
    /// The part of each window that is ours, in `(0, 1]`; the rest is left to the workspace's other integrations.
    pub share: f64,
    /// Ceilings; `None`: what the headers say.
    pub plan: Option<Plan>,
}

/// An Intercom workspace.
pub struct IntercomClient {
    options: IntercomOptions,
    caller: Caller,
    pub(super) doors: Doors,
    /// The vendor's clock less ours, by its last answer.
    ahead: Mutex<Option<chrono::TimeDelta>>,
}

/// What is made of an answer: of its JSON, which borrows from its body, and of the vendor's clock.
pub(super) type Read<T> = Result<T, Box<SideError>>;

/// One request, before it has headers.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Segments of the path, each escaped on its own.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, String)],
    pub body: Option<serde_json::Value>,
    pub family: &'static str,
    pub priority: Priority,
    /// Another version than the pinned one.
    pub version: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a [&'a str], priority: Priority) -> Self {
        Self { method: Method::GET, path, query: &[], body: None, family: APP, priority, version: None }
    }

    pub(super) fn write(
        method: Method,
        path: &'a [&'a str],
        body: Option<serde_json::Value>,
        priority: Priority,
    ) -> Self {
        Self { method, body, ..Self::get(path, priority) }
    }
}

impl std::fmt::Debug for IntercomClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntercomClient").field("options", &self.options).finish_non_exhaustive()
    }
}

impl IntercomClient {
    /// A client; nothing is sent yet.
    pub fn new(options: IntercomOptions, transport: Arc<dyn Transport>, doors: Doors) -> Self {
        let governor = GovernorOptions {
            families: families(options.plan),
            read_headers,
            share: options.share,
            ..GovernorOptions::default()
        };
        let caller_options = CallerOptions { governor, ..CallerOptions::default() };
        let caller = Caller::new(SideName::Intercom, transport, doors.clone(), caller_options);
        Self { options, caller, doors, ahead: Mutex::default() }
    }

    /// Sends a read and reads its answer, which is parsed once.
    pub(super) async fn ask<T>(
        &self,
        ask: Ask<'_>,
        read: impl FnOnce(Json<'_>, Option<DateTime<Utc>>) -> Read<T>,
    ) -> Read<T> {
        let request = self.request(&ask)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let (family, priority) = (ask.family, ask.priority);
            let call = Call { request: request.clone(), family, priority, effect: Effect::Read };
            let answer = self.caller.call(call, &|answer| errors::classify(answer, false)).await?;
            let server_time = crate::http::server_time(answer.headers());
            self.hear(server_time);
            match Tree::from_slice(answer.body()) {
                Ok(tree) => return read(tree.root(), server_time),
                // A body that was cut shows only here: the caller looks at its first byte, so as not to parse twice.
                Err(_) if tries < CUT_TRIES => tracing::debug!(family, tries, "the answer was cut, will ask again"),
                Err(error) => return Err(Box::new(SideError { attempts: tries, ..*cut(&answer, &error) })),
            }
        }
    }

    /// Sends a write. What is answered with success has been done, whatever the answer looks like: one that cannot be
    /// read says so, and a read tells what stands there now.
    pub(super) async fn send<T>(
        &self,
        ask: Ask<'_>,
        effect: Effect,
        read: impl FnOnce(Json<'_>, Option<DateTime<Utc>>) -> Read<T>,
    ) -> Read<T> {
        Ok(self.send_telling(ask, effect, read).await?.0)
    }

    /// The same, which also tells whether an earlier attempt has met no answer and may still land.
    pub(super) async fn send_telling<T>(
        &self,
        ask: Ask<'_>,
        effect: Effect,
        read: impl FnOnce(Json<'_>, Option<DateTime<Utc>>) -> Read<T>,
    ) -> Read<(T, bool)> {
        let call = Call { request: self.request(&ask)?, family: ask.family, priority: ask.priority, effect };
        let answer = self.caller.call(call, &|answer| errors::classify(answer, true)).await?;
        let server_time = crate::http::server_time(answer.headers());
        self.hear(server_time);
        let tree = Tree::from_slice(answer.body()).map_err(|error| cut(&answer, &error))?;
        Ok((read(tree.root(), server_time)?, crate::http::earlier_may_land(&answer)))
    }

    fn request(&self, ask: &Ask<'_>) -> Result<http::Request<Bytes>, Box<SideError>> {
        let unsendable = |what: &str| SideError::new(SideName::Intercom, ErrorKind::Unsupported, what);
        let mut url = self.options.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| unsendable("base_url is not a URL that paths can be added to"))?
            .pop_if_empty()
            .extend(ask.path);
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(ask.query);
        }
        let body = match &ask.body {
            Some(json) => Bytes::from(json.to_string()),
            None => Bytes::new(),
        };
        let mut token = http::HeaderValue::from_str(&format!("Bearer {}", self.options.access_token.expose_secret()))
            .map_err(|_| {
            SideError::new(
                SideName::Intercom,
                ErrorKind::Auth(crate::model::AuthProblem::BadCredentials),
                "the access token has characters that no token has (a line break?)",
            )
        })?;
        token.set_sensitive(true);
        http::Request::builder()
            .method(ask.method.clone())
            .uri(url.as_str())
            .header(names::AUTHORIZATION, token)
            .header(names::ACCEPT, "application/json")
            .header(names::CONTENT_TYPE, "application/json")
            .header("intercom-version", ask.version.unwrap_or(&self.options.api_version))
            .body(body)
            .map_err(|_| unsendable("base_url or api_version cannot be sent in a request"))
    }

    /// Keeps the vendor's clock.
    fn hear(&self, server_time: Option<DateTime<Utc>>) {
        if let Some(time) = server_time {
            let ahead = time - self.doors.clock.now();
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
    }

    /// The vendor's clock now, as far as its answers let us know.
    pub(super) fn vendor_now(&self) -> Option<DateTime<Utc>> {
        let ahead = (*self.ahead.lock().unwrap_or_else(PoisonError::into_inner))?;
        self.doors.clock.now().checked_add_signed(ahead)
    }

    /// A record that has just been read.
    fn found(json: Json<'_>, server_time: Option<DateTime<Utc>>, what: &str) -> Read<Fetched> {
        let says = |key: &str| json.get(key).and_then(Json::as_bool) == Some(true);
        if says("deleted") {
            return Ok(Fetched::Gone(Gone::Deleted));
        }
        if says("archived") {
            return Ok(Fetched::Gone(Gone::Archived));
        }
        let observation = match what {
            "contact" => wire::contact(json).map(|record| Observation::IntercomContact(Box::new(record))),
            "company" => wire::company(json).map(|record| Observation::Company(Box::new(record))),
            _ => wire::conversation(json).map(|record| Observation::Conversation(Box::new(record))),
        };
        Ok(Fetched::Found(Box::new(observation.map_err(|error| unreadable(&error))?), server_time))
    }

    async fn fetch_contact(&self, id: &IntercomContactId, priority: Priority) -> Read<Fetched> {
        let path = ["contacts", id.as_str()];
        let read = |json: Json<'_>, server_time| Self::found(json, server_time, "contact");
        match self.ask(Ask::get(&path, priority), read).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => match error.kind {
                ErrorKind::NotFound => {}
                ErrorKind::Merged { into } => return Ok(merged(into)),
                _ => return Err(error),
            },
        }
        let probe = Ask { version: Some(MERGE_PROBE_VERSION), ..Ask::get(&path, priority) };
        match self.ask(probe, read).await {
            Ok(fetched) => Ok(fetched),
            Err(error) => match error.kind {
                ErrorKind::Merged { into } => Ok(merged(into)),
                // A workspace that does not know the version (400) leaves us with the first answer.
                ErrorKind::NotFound | ErrorKind::Rejected { .. } => Ok(Fetched::Gone(Gone::Deleted)),
                _ => Err(error),
            },
        }
    }

    async fn fetch_other(&self, path: &[&str], what: &str, priority: Priority) -> Read<Fetched> {
        match self.ask(Ask::get(path, priority), |json, server_time| Self::found(json, server_time, what)).await {
            Ok(fetched) => Ok(fetched),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Fetched::Gone(Gone::Deleted)),
            Err(error) => Err(error),
        }
    }
}

/// An answer that is not whole. serde_json's words may quote the body, so only the place is given.
fn cut(answer: &http::Response<Bytes>, error: &serde_json::Error) -> Box<SideError> {
    let mut problem = SideError::new(
        SideName::Intercom,
        ErrorKind::Malformed,
        format!("an answer that is not whole JSON (line {}, column {})", error.line(), error.column()),
    );
    problem.status = Some(answer.status().as_u16());
    problem.request_id = header(answer.headers(), "x-request-id").map(str::to_owned);
    problem
}

fn merged(into: Option<String>) -> Fetched {
    Fetched::Gone(Gone::Merged { into: into.map(IntercomContactId::new) })
}

/// An answer that is JSON, but not what was asked for.
pub(super) fn unreadable(what: &dyn std::fmt::Display) -> Box<SideError> {
    SideError::new(SideName::Intercom, ErrorKind::Malformed, format!("the answer holds {what}"))
}

pub(super) fn unsupported(what: &str) -> Box<SideError> {
    SideError::new(SideName::Intercom, ErrorKind::Unsupported, format!("Intercom has no {what}"))
}

#[async_trait]
impl Side for IntercomClient {
    fn name(&self) -> SideName {
        SideName::Intercom
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

    async fn fetch(&self, key: &ContactKey, priority: Priority) -> Result<Fetched, Box<SideError>> {
        match key {
            ContactKey::Intercom(id) => self.fetch_contact(id, priority).await,
            _ => self.find_contact(key, priority).await,
        }
    }

    async fn find_all(&self, key: &ContactKey, priority: Priority) -> Result<(Vec<Observation>, bool), Box<SideError>> {
        self.find_contacts(key, priority).await
    }

    async fn fetch_conversation(&self, id: &ConversationId, priority: Priority) -> Result<Fetched, Box<SideError>> {
        self.fetch_other(&["conversations", id.as_str()], "conversation", priority).await
    }

    async fn fetch_company(&self, id: &IntercomCompanyId, priority: Priority) -> Result<Fetched, Box<SideError>> {
        self.fetch_other(&["companies", id.as_str()], "company", priority).await
    }

    async fn company_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>> {
        self.read_company_attributes().await
    }

    async fn fetch_brevo_company(&self, _: &BrevoCompanyId, _: Priority) -> Result<Fetched, Box<SideError>> {
        Err(unsupported("companies of Brevo's"))
    }

    async fn companies_of(&self, _: &IntercomCompanyId, _: Priority) -> Result<Vec<BrevoCompany>, Box<SideError>> {
        Err(unsupported("companies of Brevo's"))
    }

    async fn related(
        &self,
        contact: &IntercomContactId,
        what: Related,
        priority: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>> {
        let (name, keys) = match what {
            Related::Tags => ("tags", ["data", "tags"]),
            Related::Companies => ("companies", ["data", "companies"]),
        };
        let path = ["contacts", contact.as_str(), name];
        let mut ids = BTreeSet::new();
        // The description gives tags no page parameters: they are sent only once an answer asks for them.
        let mut query = match what {
            Related::Tags => Vec::new(),
            Related::Companies => vec![("page", "1".to_owned()), ("per_page", SUBLIST_PAGE.to_string())],
        };
        for page in 1..=MOST_SUBLIST_PAGES {
            let before = ids.len();
            let ask = Ask { query: &query, ..Ask::get(&path, priority) };
            let (next, total) = self
                .ask(ask, |json, _| {
                    let list = wire::list(json, &keys, name).map_err(|error| unreadable(&error))?;
                    ids.extend(list.items.items().filter_map(wire::id_of));
                    Ok((list.next, list.total))
                })
                .await?;
            let go_on = match next {
                wire::Next::End => return Ok(ids),
                wire::Next::After(after) => ("starting_after", after),
                wire::Next::Page(next) => ("page", next.to_string()),
                wire::Next::Unsaid => ("page", (page + 1).to_string()),
            };
            if ids.len() == before {
                // Some versions point to a next page from the last one; a page without a new id is beyond the end.
                return match total {
                    Some(total) if u64::try_from(ids.len()).is_ok_and(|seen| seen < total) => {
                        Err(unreadable(&format!("pages of {name} that repeat")))
                    }
                    _ => Ok(ids),
                };
            }
            query = vec![go_on, ("per_page", SUBLIST_PAGE.to_string())];
        }
        Err(unreadable(&format!("more pages of {name} than a contact can have")))
    }

    async fn write(&self, write: &Write, priority: Priority) -> Result<Answer, Box<SideError>> {
        self.write_one(write, priority).await
    }

    async fn events_held(&self, _: &[OutgoingEvent], _: Priority) -> Result<BTreeSet<String>, Box<SideError>> {
        Err(unsupported("events of Brevo's"))
    }

    async fn count_changed(&self, _since: DateTime<Utc>, _: Priority) -> Result<ReadPage, Box<SideError>> {
        Err(unsupported("counting Brevo contacts"))
    }

    async fn import_states(
        &self,
        _processes: &[ProcessId],
    ) -> Result<BTreeMap<ProcessId, ImportState>, Box<SideError>> {
        Err(unsupported("imports"))
    }

    async fn import_report(&self, _url: &str) -> Result<Vec<String>, Box<SideError>> {
        Err(unsupported("imports"))
    }

    fn budgets(&self) -> Vec<Budget> {
        self.caller.budgets()
    }

    fn held_back(&self) -> Option<Duration> {
        self.caller.held_back(APP)
    }
}
