//! Sweeps in pages, and the cursors that continue them.
//!
//! Intercom's cursors are stateless and continue only the very query that issued them, so a cursor of ours carries the
//! query's parameters beside the vendor's: a sweep goes on after a restart exactly as it began.

use super::client::{APP, Ask, IntercomClient, Read, SCROLL, SEARCH, unreadable};
use super::errors::is_page_limit;
use super::wire::{self, Next};
use crate::http::lean;
use crate::model::{
    ContactKey, Cursor, ErrorKind, Fetched, Gone, Observation, Priority, ReadPage, ReadRequest, Resource, Scope,
    SideError, SideName,
};
use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// The most that any search gives.
const SEARCH_PAGE: u32 = 150;

/// How many contacts with one identifier are shown at once: there are seldom two.
const FOUND_PAGE: u32 = 10;

/// So many pages of them are looked at.
const FOUND_PAGES: usize = 20;

/// The most that the company list gives.
const COMPANY_PAGE: u32 = 60;

/// The company list ends here; beyond, only a scroll shows all.
const COMPANY_LIST_CAP: u64 = 10_000;

/// How long to leave a scroll alone that somebody else has open: it dies after a minute without a request.
const SCROLL_IDLE: Duration = Duration::from_secs(60);

/// How far past the vendor's clock a conversation sweep's upper bound lies. The bound only keeps a sweep from chasing
/// what changes meanwhile; it must never lie before the first answer's `Date`, from which the next watermark is made.
const UPPER_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// Where a sweep stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
enum Place {
    /// In a search.
    Search(SearchPlace),
    /// In the company list, by page.
    List {
        /// The scope that began it.
        scope: Scope,
        /// The page to ask for.
        page: u64,
        /// How many companies there are, as the last page said.
        total: Option<u64>,
    },
    /// In a company scroll.
    Scroll {
        /// The scope that began it.
        scope: Scope,
        /// The scroll's name, the same on every page; `None` opens one.
        param: Option<String>,
        /// Companies seen so far in this scroll.
        seen: u64,
        /// How many the first page had: a full one.
        full: u64,
        /// How many the last page had.
        last: u64,
        /// How many companies there are, as the list said.
        total: Option<u64>,
    },
}

/// Where a search stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SearchPlace {
    /// Contacts or conversations.
    resource: Resource,
    /// The scope that began it.
    scope: Scope,
    /// The vendor's cursor.
    after: String,
    /// A conversation search's upper bound, in seconds.
    upper: Option<i64>,
    /// The sort field of the last record seen: what the next page has to follow.
    edge: Option<i64>,
    /// Whether every page so far was in the order asked for.
    ordered: bool,
}

fn lost(why: &str) -> Box<SideError> {
    SideError::new(SideName::Intercom, ErrorKind::LostCursor, why)
}

fn save(place: &Place) -> Result<Cursor, Box<SideError>> {
    serde_json::to_string(place).map(Cursor).map_err(|_| lost("the cursor cannot be kept"))
}

fn load(request: &ReadRequest) -> Result<Option<Place>, Box<SideError>> {
    let Some(Cursor(text)) = &request.cursor else { return Ok(None) };
    let place: Place = serde_json::from_str(text).map_err(|_| lost("the stored cursor is not one of ours"))?;
    let (resource, scope) = match &place {
        Place::Search(place) => (place.resource, place.scope),
        Place::List { scope, .. } | Place::Scroll { scope, .. } => (Resource::Companies, *scope),
    };
    if (resource, scope) == (request.resource, request.scope) {
        Ok(Some(place))
    } else {
        Err(lost("the stored cursor continues another sweep"))
    }
}

/// The field that holds a key, and the key.
fn sought(key: &ContactKey) -> Result<(&'static str, &str), Box<SideError>> {
    match key {
        ContactKey::IntercomExternalId(id) => Ok(("external_id", id.as_str())),
        ContactKey::IntercomEmail(email) => Ok(("email", email.as_str())),
        _ => Err(super::client::unsupported("contact under a key of Brevo's")),
    }
}

impl IntercomClient {
    /// One page of a sweep.
    pub(super) async fn read_page(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>> {
        let place = load(request)?;
        match (request.resource, place) {
            (Resource::Contacts | Resource::Conversations, None) => self.search(request, None).await,
            (Resource::Contacts | Resource::Conversations, Some(Place::Search(place))) => {
                self.search(request, Some(place)).await
            }
            (Resource::Companies, None) => self.companies(request, 1, None).await,
            (Resource::Companies, Some(Place::List { page, total, .. })) => self.companies(request, page, total).await,
            (Resource::Companies, Some(place @ Place::Scroll { .. })) => self.scroll(request, place).await,
            (Resource::Tags, _) => self.tags(request).await,
            (Resource::Lists, _) => Err(super::client::unsupported("lists")),
            _ => Err(lost("the stored cursor continues another sweep")),
        }
    }

    async fn search(&self, request: &ReadRequest, place: Option<SearchPlace>) -> Result<ReadPage, Box<SideError>> {
        let contacts = request.resource == Resource::Contacts;
        let upper = match &place {
            Some(place) => place.upper,
            None if !contacts && matches!(request.scope, Scope::Since(_)) => Some(self.upper_bound().await?),
            None => None,
        };
        let plan = if contacts { contact_plan(request.scope) } else { conversation_plan(request.scope, upper) };
        let mut pagination = json!({"per_page": SEARCH_PAGE});
        if let Some(place) = &place {
            // In the body: as a query parameter it is ignored, and page 1 comes again.
            pagination["starting_after"] = place.after.as_str().into();
        }
        let order = if plan.descending { "descending" } else { "ascending" };
        let body = json!({
            "query": plan.query,
            "pagination": pagination,
            "sort": {"field": plan.sort, "order": order},
        });
        let path = [if contacts { "contacts" } else { "conversations" }, "search"];
        let ask = Ask {
            method: Method::POST,
            path: &path,
            query: &[],
            body: Some(body),
            family: SEARCH,
            priority: request.priority,
            version: None,
        };
        let gone_on = place.is_some();
        self.ask(ask, |json, server_time| found(request, &plan, place, upper, json, server_time)).await.map_err(
            |mut error| {
                // The same query was accepted without a cursor, so whatever is refused or missing now is the cursor.
                let gone =
                    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Merged { .. } | ErrorKind::Rejected { .. });
                if gone_on && gone {
                    error.kind = ErrorKind::LostCursor;
                }
                error
            },
        )
    }

    /// The one contact with this key.
    pub(super) async fn find_contact(&self, key: &ContactKey, priority: Priority) -> Result<Fetched, Box<SideError>> {
        let (mut found, _) = self.find_contacts(key, priority).await?;
        let one = found.pop();
        if !found.is_empty() {
            let (field, _) = sought(key)?;
            let kind = ErrorKind::Conflict { identifiers: vec![field.to_owned()], holder: None, archived: false };
            return Err(SideError::new(SideName::Intercom, kind, format!("several contacts have this {field}")));
        }
        Ok(match one {
            Some(shown) => Fetched::Found(Box::new(shown), self.vendor_now()),
            None => Fetched::Gone(Gone::Deleted),
        })
    }

    /// All contacts with this key. There is no read by address, so it is a search. `false`: it did not show all.
    pub(super) async fn find_contacts(
        &self,
        key: &ContactKey,
        priority: Priority,
    ) -> Result<(Vec<Observation>, bool), Box<SideError>> {
        let (field, value) = sought(key)?;
        let path = ["contacts", "search"];
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..FOUND_PAGES {
            let mut pagination = json!({"per_page": FOUND_PAGE});
            if let Some(after) = &after {
                pagination["starting_after"] = after.as_str().into();
            }
            let ask = Ask {
                method: Method::POST,
                path: &path,
                query: &[],
                body: Some(json!({
                    "query": {"field": field, "operator": "=", "value": value},
                    "pagination": pagination,
                })),
                family: SEARCH,
                priority,
                version: None,
            };
            let read = |json: lean::Json<'_>, _: Option<DateTime<Utc>>| {
                let list = wire::list(json, &["data", "contacts"], "contacts").map_err(|error| unreadable(&error))?;
                let mut shown = Vec::new();
                for item in list.items.items() {
                    let record = wire::contact(item).map_err(|error| unreadable(&error))?;
                    // How exactly the search compares is not described: what is not the very value is somebody else.
                    let same = match field {
                        "email" => record.email.as_ref().is_some_and(|email| email.as_str() == value),
                        _ => record.external_id.as_deref() == Some(value),
                    };
                    if same {
                        shown.push(Observation::IntercomContact(Box::new(record)));
                    }
                }
                Ok((shown, list.next))
            };
            let (shown, next) = self.ask(ask, read).await?;
            found.extend(shown);
            after = match next {
                Next::End => return Ok((found, true)),
                Next::After(next) => Some(next),
                Next::Page(_) | Next::Unsaid => break,
            };
        }
        Ok((found, false))
    }

    /// An upper bound by the vendor's clock; ours may be wrong.
    async fn upper_bound(&self) -> Result<i64, Box<SideError>> {
        let said = match self.vendor_now() {
            None => self.read_account().await?.server_time,
            said => said,
        };
        // No `Date` at all: a day past our own clock is late enough whatever it shows.
        let own = || self.doors.clock.now().checked_add_signed(TimeDelta::days(1));
        let now = said.or_else(own).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Ok(now.timestamp().saturating_add(UPPER_MARGIN.num_seconds()))
    }

    /// The company list. It is sorted by the last visit and has no filter by time, so any scope reads all of it, and it
    /// is never stopped early.
    async fn companies(
        &self,
        request: &ReadRequest,
        page: u64,
        known: Option<u64>,
    ) -> Result<ReadPage, Box<SideError>> {
        let query = [("page", page.to_string()), ("per_page", COMPANY_PAGE.to_string()), ("order", "desc".to_owned())];
        let ask = Ask {
            method: Method::POST,
            path: &["companies", "list"],
            query: &query,
            body: None,
            family: APP,
            priority: request.priority,
            version: None,
        };
        let scroll = |total| Place::Scroll { scope: request.scope, param: None, seen: 0, full: 0, last: 0, total };
        let read = |json: lean::Json<'_>, server_time| {
            let list = wire::list(json, &["data", "companies"], "companies").map_err(|error| unreadable(&error))?;
            if list.total.is_some_and(|total| total > COMPANY_LIST_CAP) {
                return Ok(Err(list.total));
            }
            let more = list.total.is_some_and(|total| total > page.saturating_mul(COMPANY_PAGE.into()));
            let next = match list.next {
                _ if list.items.items().next().is_none() => None,
                Next::End if more => Some(page + 1),
                Next::End => None,
                Next::Page(next) if next > page => Some(next),
                Next::Page(_) => return Err(unreadable(&"a next page that is not further on")),
                Next::After(_) | Next::Unsaid => Some(page + 1),
            };
            Ok(Ok(ReadPage {
                observations: company_observations(list.items)?,
                next: next
                    .map(|page| save(&Place::List { scope: request.scope, page, total: list.total.or(known) }))
                    .transpose()?,
                total: list.total,
                server_time,
                repeats_are_errors: true,
            }))
        };
        match self.ask(ask, read).await {
            Ok(Ok(page)) => Ok(page),
            // More than the list shows.
            Ok(Err(total)) => self.scroll(request, scroll(total)).await,
            Err(error) if is_page_limit(&error) => self.scroll(request, scroll(known)).await,
            Err(error) => Err(error),
        }
    }

    /// A page of the one scroll that a workspace can have open. Its parameter is the same on every page, it ends with an
    /// empty page or a 404, and a minute without a request kills it.
    async fn scroll(&self, request: &ReadRequest, place: Place) -> Result<ReadPage, Box<SideError>> {
        let Place::Scroll { scope, param, seen, full, last, total } = place else {
            return Err(lost("the stored cursor continues another sweep"));
        };
        let query: Vec<(&str, String)> = param.iter().map(|param| ("scroll_param", param.clone())).collect();
        let ask = Ask {
            query: &query,
            family: if param.is_none() { SCROLL } else { APP },
            ..Ask::get(&["companies", "scroll"], request.priority)
        };
        let end = |server_time| ReadPage {
            observations: Vec::new(),
            next: None,
            total,
            server_time,
            repeats_are_errors: false,
        };
        let named = param.clone();
        let read = |json: lean::Json<'_>, server_time| {
            let list = wire::list(json, &["data", "companies"], "companies").map_err(|error| unreadable(&error))?;
            if list.items.items().next().is_none() {
                return Ok(end(server_time));
            }
            let param = list.scroll.or(named).ok_or_else(|| unreadable(&"a scroll without its scroll_param"))?;
            let last = u64::try_from(list.items.items().count()).unwrap_or(u64::MAX);
            let full = if full == 0 { last } else { full };
            let seen = seen.saturating_add(last);
            if total.is_some_and(|total| seen > total.saturating_mul(2).saturating_add(1000)) {
                return Err(unreadable(&"a company scroll that does not end"));
            }
            let place = Place::Scroll { scope, param: Some(param), seen, full, last, total };
            Ok(ReadPage {
                observations: company_observations(list.items)?,
                next: Some(save(&place)?),
                total,
                server_time,
                repeats_are_errors: true,
            })
        };
        self.ask(ask, read).await.or_else(|mut error| match error.kind {
            // After the last page a 404 is the end; in the middle it is a scroll that died.
            ErrorKind::NotFound if param.is_some() => {
                let all = total.is_some_and(|total| seen >= total);
                if all || last < full { Ok(end(None)) } else { Err(lost("the company scroll expired")) }
            }
            // Not set where the caller sees it: only scrolls have to wait, not the whole API.
            ErrorKind::Busy => {
                error.retry_after = Some(SCROLL_IDLE);
                Err(error)
            }
            _ => Err(error),
        })
    }

    /// All tags: one page, never more.
    async fn tags(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>> {
        let read = |json: lean::Json<'_>, server_time| {
            let list = wire::list(json, &["data", "tags"], "tags").map_err(|error| unreadable(&error))?;
            let tags = list.items.items().map(|item| wire::tag(item).map(Observation::Tag));
            let observations = tags.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
            let total = u64::try_from(observations.len()).ok();
            Ok(ReadPage { observations, next: None, total, server_time, repeats_are_errors: true })
        };
        self.ask(Ask::get(&["tags"], request.priority), read).await
    }
}

/// A page of a search.
fn found(
    request: &ReadRequest,
    plan: &SearchPlan,
    place: Option<SearchPlace>,
    upper: Option<i64>,
    json: lean::Json<'_>,
    server_time: Option<DateTime<Utc>>,
) -> Read<ReadPage> {
    let contacts = request.resource == Resource::Contacts;
    let keys: &[&str] = if contacts { &["data", "contacts"] } else { &["conversations", "data"] };
    let list = wire::list(json, keys, request.resource.as_str()).map_err(|error| unreadable(&error))?;

    let (mut edge, mut ordered) = place.as_ref().map_or((None, true), |place| (place.edge, place.ordered));
    let mut observations = Vec::with_capacity(SEARCH_PAGE as usize);
    let mut below = false;
    let mut dropped = false;
    for item in list.items.items() {
        let (observation, created, updated) = if contacts {
            let record = wire::contact(item).map_err(|error| unreadable(&error))?;
            let times = (record.created_at, record.updated_at);
            (Observation::IntercomContact(Box::new(record)), times.0, times.1)
        } else {
            let record = wire::conversation(item).map_err(|error| unreadable(&error))?;
            let times = (record.created_at, record.updated_at);
            (Observation::Conversation(Box::new(record)), times.0, times.1)
        };
        let key = if plan.sort == "updated_at" { updated } else { created }.timestamp();
        ordered &= edge.is_none_or(|edge| if plan.descending { key <= edge } else { key >= edge });
        edge = Some(key);
        // Day-granular filters give the whole day of the watermark.
        let old = match request.scope {
            Scope::Full => false,
            Scope::Since(since) => updated.timestamp() < since.timestamp(),
            Scope::CreatedSince(since) => created.timestamp() < since.timestamp(),
        };
        below |= old;
        if old {
            dropped = true;
        } else {
            observations.push(observation);
        }
    }
    // Newest first and below the watermark: the rest is older still, if the order can be believed.
    let done = plan.descending && below && ordered;
    let next = match list.next {
        _ if done => None,
        Next::End => None,
        Next::After(after) => {
            if place.is_some_and(|place| place.after == after) {
                return Err(unreadable(&"a cursor that repeats"));
            }
            let (resource, scope) = (request.resource, request.scope);
            Some(save(&Place::Search(SearchPlace { resource, scope, after, upper, edge, ordered }))?)
        }
        Next::Page(_) | Next::Unsaid => return Err(unreadable(&"a next page without a cursor")),
    };
    let repeats_are_errors = !(dropped && observations.is_empty());
    Ok(ReadPage { observations, next, total: list.total, server_time, repeats_are_errors })
}

fn company_observations(items: lean::Json<'_>) -> Read<Vec<Observation>> {
    let companies = items.items().map(|item| wire::company(item).map(|record| Observation::Company(Box::new(record))));
    companies.collect::<Result<_, _>>().map_err(|error| unreadable(&error))
}

/// A search's filter and order.
struct SearchPlan {
    query: Json,
    sort: &'static str,
    descending: bool,
}

fn single(field: &str, operator: &str, value: i64) -> Json {
    json!({"field": field, "operator": operator, "value": value})
}

/// Contacts are filtered by calendar day of the workspace's timezone: `>` begins with the day *after* the given
/// instant's, so the day itself is asked for beside it. Sorting uses the full instant.
fn contact_plan(scope: Scope) -> SearchPlan {
    let from = |field: &str, since: DateTime<Utc>| {
        let since = since.timestamp();
        json!({"operator": "OR", "value": [single(field, ">", since), single(field, "=", since)]})
    };
    match scope {
        // By a field that does not move: whoever changes meanwhile keeps their place.
        Scope::Full => SearchPlan { query: single("created_at", ">", 0), sort: "created_at", descending: false },
        Scope::CreatedSince(since) => {
            SearchPlan { query: from("created_at", since), sort: "created_at", descending: false }
        }
        // Newest first, so that the sweep can stop at the watermark instead of paging through its whole day. Whoever
        // changes meanwhile moves to the front, past us: the next sweep begins before this one did, and sees them.
        Scope::Since(since) => SearchPlan { query: from("updated_at", since), sort: "updated_at", descending: true },
    }
}

/// Conversations are filtered to the second. Whether `>` includes its own second is not certain, so the bounds lie one
/// second further out.
fn conversation_plan(scope: Scope, upper: Option<i64>) -> SearchPlan {
    let after = |instant: DateTime<Utc>| instant.timestamp().saturating_sub(1);
    let query = match scope {
        Scope::Full => single("created_at", ">", 0),
        Scope::CreatedSince(since) => single("created_at", ">", after(since)),
        Scope::Since(since) => match upper {
            Some(upper) => json!({"operator": "AND", "value": [
                single("updated_at", ">", after(since)),
                single("updated_at", "<", upper.saturating_add(1)),
            ]}),
            None => single("updated_at", ">", after(since)),
        },
    };
    SearchPlan { query, sort: "created_at", descending: false }
}

#[cfg(test)]
mod tests;
