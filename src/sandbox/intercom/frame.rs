//! Around every request: faults, token, version, limits, log, and the headers of every answer.

use super::IntercomSandbox;
use super::answer::{Answer, Asked, Version, decode, error};
use super::routes;
use super::state::State;
use crate::sandbox::{Fault, LoggedRequest};
use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use std::sync::PoisonError;

const LONGEST_BODY: usize = 8 * 1024 * 1024;
/// What the headers say where nothing is limited: a client that goes by them is not slowed down, either.
const NO_LIMIT: u32 = 10_000_000;
/// Limits hold per window of ten seconds.
const WINDOW_SECONDS: i64 = 10;

pub(super) async fn handle(Extract(sandbox): Extract<IntercomSandbox>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return build(413, b"Payload Too Large".to_vec(), "text/plain"),
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let (latency, limit, unlimited, fault) = {
        let mut knobs = sandbox.0.knobs.lock().unwrap_or_else(PoisonError::into_inner);
        // With a blank behind it, so that a part can name a whole path.
        let asked = if knobs.faults.is_empty() { String::new() } else { format!("{} {target} ", parts.method) };
        let place = knobs.faults.iter().position(|(part, _)| asked.contains(part.as_str()));
        let fault = place.and_then(|place| knobs.faults.remove(place)).map(|(_, fault)| fault);
        (knobs.latency, knobs.rate_limit, knobs.unlimited, fault)
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let template = routes::template(path);
    let mut state = sandbox.lock();
    let limit = if unlimited { NO_LIMIT } else { limit.unwrap_or(state.options.rate_limit) };
    let counted = unlimited || count(&mut state, limit);
    let mut html = false;
    let mut answer = match (&fault, counted) {
        (Some(Fault::Status(status, wait)), _) => {
            let mut answer = fault_answer(*status);
            if let Some(seconds) = wait {
                answer.headers.push(("retry-after", seconds.to_string()));
            }
            answer
        }
        (Some(Fault::Html), _) => {
            html = true;
            Answer { status: 200, body: b"<html><body>Bad gateway</body></html>".to_vec(), headers: Vec::new() }
        }
        (_, false) => {
            let message = format!("More than {limit} requests received in {WINDOW_SECONDS} seconds");
            error(429, "rate_limit_exceeded", &message)
        }
        _ => match read(&state, method, path, parts.uri.query(), &parts.headers, &body) {
            Ok(asked) => routes::route(&mut state, &asked).unwrap_or_else(|answer| answer),
            Err(answer) => answer,
        },
    };
    match fault {
        Some(Fault::StatusAfterEffect(status)) => answer = fault_answer(status),
        Some(Fault::Empty) => answer = Answer { status: 200, body: Vec::new(), headers: Vec::new() },
        Some(Fault::Truncated) => answer.body.truncate(answer.body.len() / 2),
        _ => {}
    }
    sandbox.0.log.push(LoggedRequest {
        method: method.to_owned(),
        template: template.to_owned(),
        target,
        body,
        status: answer.status,
        write: routes::is_write(method, template),
    });
    let request_id = state.uuid();
    if answer.status >= 400 {
        put_request_id(&mut answer.body, &request_id);
    }
    let used = if unlimited { 0 } else { state.window.1 };
    let headers = [
        ("x-ratelimit-limit", limit.to_string()),
        ("x-ratelimit-remaining", limit.saturating_sub(used).to_string()),
        ("x-ratelimit-reset", (state.window.0 + WINDOW_SECONDS).to_string()),
        ("x-request-id", request_id),
        ("date", state.now_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
    ];
    sandbox.announce(&state);
    drop(state);
    let mut response =
        build(answer.status, answer.body, if html { "text/html" } else { "application/json; charset=utf-8" });
    for (name, value) in headers.into_iter().chain(answer.headers) {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn build(status: u16, body: Vec<u8>, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Errors carry the id of their request in the place the vendor has it.
fn put_request_id(body: &mut Vec<u8>, id: &str) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(body)
        && let Some(place) = value.get_mut("request_id")
    {
        *place = id.into();
        *body = value.to_string().into_bytes();
    }
}

fn fault_answer(status: u16) -> Answer {
    match status {
        429 => error(429, "rate_limit_exceeded", "Exceeded rate limit"),
        401 => error(401, "unauthorized", "Access Token Invalid"),
        404 => error(404, "not_found", "Resource Not Found"),
        503 => error(503, "service_unavailable", "Service Unavailable"),
        status if status >= 500 => error(status, "server_error", "Server Error"),
        status => error(status, "client_error", "Client Error"),
    }
}

/// Counts a request into its window; `false` if the window is full.
fn count(state: &mut State, limit: u32) -> bool {
    let window = state.now().div_euclid(WINDOW_SECONDS) * WINDOW_SECONDS;
    if state.window.0 != window {
        state.window = (window, 0);
    }
    let fits = state.window.1 < limit;
    state.window.1 = state.window.1.saturating_add(1);
    fits
}

fn read(
    state: &State,
    method: &str,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Asked, Answer> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(state.options.access_token.as_str()) {
        return Err(error(401, "unauthorized", "Access Token Invalid"));
    }
    if let Some(accept) = text("accept")
        && !["application/json", "*/*", "application/*"].iter().any(|kind| accept.contains(kind))
    {
        return Err(error(
            406,
            "media_type_not_acceptable",
            "The Accept header should send a media type of application/json",
        ));
    }
    let version = match text("intercom-version") {
        None => Version::DEFAULT,
        Some(text) => Version::parse(text.trim())
            .ok_or_else(|| error(400, "intercom_version_invalid", "The requested version could not be found"))?,
    };
    let query = query
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect();
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|_| error(400, "bad_request", "The request body is not valid JSON"))?
    };
    Ok(Asked { method: method.to_owned(), path: path.to_owned(), query, body, version })
}
