//! From HTTP to the account and back: routes, keys, limits, faults, the log.

use super::limits::{Budget, Family};
use super::reply::{Call, Kind, Outcome, Reply};
use super::state::State;
use super::{BrevoSandbox, attributes, companies, contacts, events, imports, lists, webhooks};
use crate::sandbox::shared::{Fault, LoggedRequest};
use axum::body::Body;
use percent_encoding::percent_decode_str;
use serde_json::json;

type Handler = fn(&mut State, &Call) -> Outcome;

/// Longest body that is read: an import may have 10 MB, and must be told so when it has more.
const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// Every route: method, template below `/v3`, handler. Fixed parts win over `{}` because they come first.
const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/account", account),
    ("GET", "/contacts", contacts::list),
    ("POST", "/contacts", contacts::create),
    ("POST", "/contacts/import", imports::import),
    ("POST", "/contacts/batch", contacts::batch),
    ("GET", "/contacts/attributes", attributes::list),
    ("POST", "/contacts/attributes/{category}/{name}", attributes::create),
    ("PUT", "/contacts/attributes/{category}/{name}", attributes::update),
    ("DELETE", "/contacts/attributes/{category}/{name}", attributes::delete),
    ("DELETE", "/contacts/attributes/{category}/{name}/{option}", attributes::delete_option),
    ("GET", "/contacts/lists", lists::all),
    ("POST", "/contacts/lists", lists::create),
    ("GET", "/contacts/lists/{listId}", lists::get),
    ("PUT", "/contacts/lists/{listId}", lists::update),
    ("DELETE", "/contacts/lists/{listId}", lists::delete),
    ("GET", "/contacts/lists/{listId}/contacts", lists::contacts),
    ("POST", "/contacts/lists/{listId}/contacts/add", lists::add),
    ("POST", "/contacts/lists/{listId}/contacts/remove", lists::remove),
    ("GET", "/contacts/folders", lists::folders),
    ("POST", "/contacts/folders", lists::create_folder),
    ("GET", "/contacts/folders/{folderId}", lists::get_folder),
    ("PUT", "/contacts/folders/{folderId}", lists::update_folder),
    ("DELETE", "/contacts/folders/{folderId}", lists::delete_folder),
    ("GET", "/contacts/folders/{folderId}/lists", lists::folder_lists),
    ("GET", "/contacts/segments", lists::segments),
    ("GET", "/contacts/{identifier}", contacts::get),
    ("PUT", "/contacts/{identifier}", contacts::update),
    ("DELETE", "/contacts/{identifier}", contacts::delete),
    ("GET", "/processes", imports::list),
    ("GET", "/processes/{processId}", imports::get),
    ("POST", "/events", events::create),
    ("POST", "/events/batch", events::create_batch),
    ("GET", "/events", events::list),
    ("GET", "/companies", companies::list),
    ("POST", "/companies", companies::create),
    ("POST", "/companies/import", companies::import),
    ("PATCH", "/companies/link-unlink/{id}", companies::link),
    ("GET", "/companies/{id}", companies::get),
    ("PATCH", "/companies/{id}", companies::update),
    ("DELETE", "/companies/{id}", companies::delete),
    ("GET", "/crm/attributes/companies", companies::attributes),
    ("POST", "/crm/attributes", companies::create_attribute),
    ("DELETE", "/crm/attributes/{id}", companies::delete_attribute),
    ("GET", "/webhooks", webhooks::list),
    ("POST", "/webhooks", webhooks::create),
    ("GET", "/webhooks/{webhookId}", webhooks::get),
    ("PUT", "/webhooks/{webhookId}", webhooks::update),
    ("DELETE", "/webhooks/{webhookId}", webhooks::delete),
];

fn route(method: &str, path: &[String]) -> Option<(&'static str, Handler)> {
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').skip(1).collect();
        parts.len() == path.len()
            && parts.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given.as_str())
    };
    ROUTES
        .iter()
        .find(|(verb, template, _)| *verb == method && fits(template))
        .map(|(_, template, handler)| (*template, *handler))
}

/// Which of Brevo's limits a call falls under.
fn family(method: &str, path: &[String]) -> Family {
    match (method, path.first().map(String::as_str), path.len()) {
        (_, Some("contacts"), _) => Family::Contacts,
        ("POST", Some("events"), 1) => Family::Events,
        _ => Family::Other,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every handler has this shape")]
fn account(state: &mut State, _: &Call) -> Outcome {
    let options = &state.options;
    let timezone = match options.utc_offset_minutes {
        0 => "UTC".to_owned(),
        60 | 120 => "Europe/Paris".to_owned(),
        // These zones count westwards.
        minutes => format!("Etc/GMT{:+}", -(minutes / 60)),
    };
    let body = json!({
        "organization_id": options.organization_id,
        "user_id": 1,
        "enterprise": false,
        "companyName": "Sandbox",
        "email": options.owner_email,
        "firstName": "Sam",
        "lastName": "Sandbox",
        "address": {"street": "1 rue du Bac", "city": "Paris", "zipCode": "75007", "country": "France"},
        "dateTimePreferences": {"timezone": timezone, "timeFormat": "24h", "dateFormat": "dd-mm-yyyy"},
        "plan": [{"type": "free", "credits": 300, "creditsType": "sendLimit"}],
        "planVerticals": [],
        "relay": {"enabled": false, "data": {"userName": options.owner_email, "relay": "smtp-relay.brevo.com", "port": 587}},
        "marketingAutomation": {"enabled": true, "key": "sandbox"},
    });
    Ok(Reply::json(200, &body))
}

/// Taken apart before the account is opened.
struct Incoming {
    call: Call,
    /// The path and query as sent.
    target: String,
    api_key: Option<String>,
    /// Below `/v3`, or one of the reports beside it.
    is_api: bool,
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

async fn take_apart(request: axum::extract::Request) -> Result<Incoming, Reply> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LONGEST_BODY)
        .await
        .map_err(|_| Reply::error(413, "bad_request", "Request entity too large"))?;
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authority = head.uri.authority().map(ToString::to_string).or_else(|| header("host"));
    let scheme = head.uri.scheme_str().unwrap_or("http");
    let mut path: Vec<String> = head.uri.path().split('/').skip(1).map(decoded).collect();
    let is_api = path.first().is_some_and(|first| first == "v3");
    if is_api {
        path.remove(0);
    }
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let origin = format!("{scheme}://{}", authority.unwrap_or_else(|| "api.brevo.com".into()));
    Ok(Incoming {
        call: Call { method: head.method.to_string(), path, query, body, origin },
        target: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        api_key: header("api-key"),
        is_api,
    })
}

/// What the account says to a call, with the budget for the headers.
struct Answer {
    reply: Reply,
    budget: Option<Budget>,
    retry_after: Option<u64>,
}

impl Answer {
    fn plain(reply: Reply) -> Self {
        Self { reply, budget: None, retry_after: None }
    }
}

impl State {
    fn refuse_key(&self, key: Option<&str>) -> Result<(), Reply> {
        let refusal = |message: &str| Err(Reply::error(401, "unauthorized", message));
        match key {
            None => refusal("authentication not found in headers"),
            Some(key) if key != self.options.api_key => refusal("Key not found"),
            Some(_) if self.knobs.ip_blocked => refusal(
                "We have detected you are using an unrecognised IP address 203.0.113.7. If you performed this action \
                 make sure to add the new IP address in this link: https://app.brevo.com/security/authorised_ips",
            ),
            Some(_) => Ok(()),
        }
    }

    fn take_fault(&mut self, method: &str, target: &str) -> Option<Fault> {
        let request = format!("{method} {target}");
        let index = self.knobs.common.faults.iter().position(|(part, _)| request.contains(part.as_str()))?;
        self.knobs.common.faults.remove(index).map(|(_, fault)| fault)
    }

    /// One call from key to answer.
    fn answer(&mut self, incoming: &Incoming) -> Answer {
        let call = &incoming.call;
        if !incoming.is_api {
            let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
            return Answer::plain(match (call.method.as_str(), path.as_slice()) {
                ("GET", ["import-reports", id, file]) => imports::report(self, id, file),
                _ => Reply::not_found("Unable to find the requested resource"),
            });
        }
        // Cloudflare, in front of Brevo, takes such paths for backup files that somebody snoops for.
        if call.method == "DELETE"
            && let Some(last) = call.path.last().map(|last| last.to_lowercase())
            && [".old", ".back", ".tar", ".zip"].iter().any(|end| last.ends_with(end))
        {
            return Answer::plain(Reply::html(
                403,
                "<html><head><title>Attention Required! | Cloudflare</title></head></html>",
            ));
        }
        if let Err(reply) = self.refuse_key(incoming.api_key.as_deref()) {
            return Answer::plain(reply);
        }
        let (now, family) = (self.now, family(&call.method, &call.path));
        let budget = self.limits.take(family, now, &self.knobs);
        if budget.is_some_and(|budget| !budget.allowed) {
            let reply = Reply::error(429, "too_many_requests", "Too many requests have been sent, please slow down");
            return Answer { reply, budget, retry_after: None };
        }
        let fault = self.take_fault(&incoming.call.method, &incoming.target);
        match fault {
            Some(Fault::Status(status, retry_after)) => {
                return Answer { reply: fault_reply(status), budget, retry_after };
            }
            Some(Fault::Html) => {
                let reply = Reply::html(200, "<html><body>Please log in to the network</body></html>");
                return Answer { reply, budget, retry_after: None };
            }
            Some(Fault::Empty) => return Answer { reply: Reply::empty(200), budget, retry_after: None },
            Some(Fault::StatusAfterEffect(_) | Fault::Truncated) | None => {}
        }
        let outcome = match route(&call.method, &call.path) {
            Some((_, handler)) => handler(self, call),
            None => Err(Reply::not_found("Unable to find the requested resource")),
        };
        let mut reply = outcome.unwrap_or_else(|refusal| refusal);
        match fault {
            Some(Fault::StatusAfterEffect(status)) => reply = fault_reply(status),
            Some(Fault::Truncated) => reply.body.truncate(reply.body.len() / 2),
            _ => {}
        }
        Answer { reply, budget, retry_after: None }
    }
}

fn fault_reply(status: u16) -> Reply {
    let code = match status {
        401 => "unauthorized",
        403 => "permission_denied",
        404 => "document_not_found",
        425 => "account_in_process",
        429 => "too_many_requests",
        500.. => "internal_error",
        _ => "bad_request",
    };
    Reply::error(status, code, "The sandbox was told to fail")
}

/// Serves one request.
pub(super) async fn serve(
    axum::extract::State(sandbox): axum::extract::State<BrevoSandbox>,
    request: axum::extract::Request,
) -> axum::response::Response {
    let latency = sandbox.knobs(|knobs| knobs.common.latency);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let incoming = match take_apart(request).await {
        Ok(incoming) => incoming,
        Err(reply) => return respond(&sandbox, Answer::plain(reply), 0),
    };
    let answer = sandbox.with(|state| state.answer(&incoming));
    let Incoming { call, target, is_api, .. } = incoming;
    let template =
        if is_api { route(&call.method, &call.path).map_or("", |(template, _)| template) } else { "/import-reports" };
    sandbox.0.log.push(LoggedRequest {
        write: call.method != "GET" && call.method != "HEAD",
        method: call.method,
        template: template.to_owned(),
        target,
        body: call.body,
        status: answer.reply.status,
    });
    let number = sandbox.0.log.len();
    respond(&sandbox, answer, number)
}

fn respond(sandbox: &BrevoSandbox, answer: Answer, number: usize) -> axum::response::Response {
    let date = sandbox.0.options.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let Answer { reply, budget, retry_after } = answer;
    let mut response = axum::http::Response::builder()
        .status(reply.status)
        .header("date", date)
        .header("sib-request-id", format!("sandbox-{number}"));
    if let Some(budget) = budget {
        response = response
            .header("x-sib-ratelimit-limit", budget.limit)
            .header("x-sib-ratelimit-remaining", budget.remaining)
            .header("x-sib-ratelimit-reset", budget.reset);
    }
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    if !reply.body.is_empty() {
        let kind = match reply.kind {
            Kind::Json => "application/json",
            Kind::Csv => "text/csv",
            Kind::Html => "text/html",
        };
        response = response.header("content-type", kind);
    }
    response.body(Body::from(reply.body)).unwrap_or_default()
}
