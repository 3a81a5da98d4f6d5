//! An answer that is not a success → what the engine has to know about it.
//!
//! The same code comes with several statuses and the other way round, so the status decides first, then the code, and
//! the words only where nothing else tells cases apart.

use crate::model::{AuthProblem, ErrorKind, SideError, SideName};
use bytes::Bytes;
use serde_json::Value as Json;
use std::time::Duration;

/// The longest message that is kept.
const LONGEST_MESSAGE: usize = 300;

/// What the vendor says when paging by number goes beyond 10,000 companies.
const PAGE_LIMIT: &str = "page limit reached";

/// What an error's body says.
#[derive(Debug, Default)]
struct Said {
    code: Option<String>,
    message: String,
    field: Option<String>,
    request_id: Option<String>,
}

/// Reads `{type: "error.list", request_id, errors: [{code, message, field}]}`, of which every part may be missing.
fn said(body: &[u8]) -> Option<Said> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let text = |json: Option<&Json>| json.and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let errors = json.get("errors").and_then(Json::as_array);
    let first = errors.and_then(|errors| errors.first());
    let part = |key: &str| text(first.and_then(|first| first.get(key)));
    let messages: Vec<&str> = errors
        .into_iter()
        .flatten()
        .filter_map(|error| error.get("message").and_then(Json::as_str))
        .filter(|message| !message.trim().is_empty())
        .take(3)
        .collect();
    Some(Said {
        code: part("code"),
        message: messages.join("; "),
        field: part("field"),
        request_id: text(json.get("request_id")),
    })
}

/// A success that can be read → `Ok`; anything else → an error of the right row. Takes the request for a write: after
/// a 5xx it is then unknown whether it was carried out.
///
/// # Errors
/// Everything that is not a readable success.
pub fn classify(answer: &http::Response<Bytes>, write: bool) -> Result<(), Box<SideError>> {
    let status = answer.status();
    if status.is_success() {
        return readable(answer);
    }
    let said = said(answer.body());
    let html = said.is_none();
    let said = said.unwrap_or_default();
    let code = said.code.as_deref().unwrap_or_default();
    let words = said.message.to_lowercase();
    let mut advice = "";
    let kind = match status.as_u16() {
        401 => ErrorKind::Auth(unauthorized(&words)),
        402 => ErrorKind::Auth(AuthProblem::Plan),
        403 if html => {
            advice = "not Intercom's own answer: a proxy or firewall on the way refuses the request";
            ErrorKind::Unavailable
        }
        403 if code == "api_plan_restricted" || words.contains("active subscription") => {
            ErrorKind::Auth(AuthProblem::Plan)
        }
        403 => ErrorKind::Auth(AuthProblem::MissingScope),
        404 if html => ErrorKind::Unavailable,
        404 => ErrorKind::NotFound,
        410 => ErrorKind::Merged { into: survivor(answer.headers()) },
        409 => ErrorKind::Conflict {
            identifiers: Vec::new(),
            holder: holder(&said.message),
            archived: words.contains("archived"),
        },
        400 if code == "scroll_exists" => ErrorKind::Busy,
        // Only by its words: the code is `bad_request`, as for anything malformed.
        400 if words.contains(PAGE_LIMIT) => ErrorKind::Busy,
        400 | 422 if lost_cursor(&words) => ErrorKind::LostCursor,
        408 => unknown_outcome(write),
        500 if words.contains("restart the scroll") => ErrorKind::LostCursor,
        425 | 429 => ErrorKind::Throttled,
        // A redirect is never followed, because it would carry the token to another host.
        300..=399 => {
            advice = "redirected: check base_url and region";
            ErrorKind::Malformed
        }
        400..=499 if html => ErrorKind::Malformed,
        400..=499 => ErrorKind::Rejected { field: said.field.clone().or_else(|| named_field(&said.message)) },
        // 503, too: what is in front of Intercom gives up on what it may yet carry out.
        _ => unknown_outcome(write),
    };
    let mut message = if said.message.is_empty() {
        match (html, code) {
            (true, _) => format!("status {} without Intercom's error body", status.as_u16()),
            (false, "") => format!("status {} without words", status.as_u16()),
            (false, code) => code.to_owned(),
        }
    } else {
        masked(&said.message)
    };
    if !advice.is_empty() {
        message.push_str(" (");
        message.push_str(advice);
        message.push(')');
    }
    let mut error = SideError::new(SideName::Intercom, kind, message);
    error.status = Some(status.as_u16());
    error.retry_after = match error.kind {
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Ambiguous => {
            retry_after(answer.headers(), error.kind == ErrorKind::Throttled)
        }
        _ => None,
    };
    error.code = said.code;
    error.request_id = said.request_id.or_else(|| header(answer.headers(), "x-request-id").map(str::to_owned));
    Err(error)
}

/// Whether this is the end of the company list that only a scroll goes beyond.
pub(super) fn is_page_limit(error: &SideError) -> bool {
    error.kind == ErrorKind::Busy && error.message.to_lowercase().contains(PAGE_LIMIT)
}

/// A 200 whose body is empty or a proxy's page has occurred; only JSON is a success.
fn readable(answer: &http::Response<Bytes>) -> Result<(), Box<SideError>> {
    let first = answer.body().iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) || matches!(answer.status().as_u16(), 202 | 204) {
        return Ok(());
    }
    let message = match first {
        None => "an empty answer where JSON was due",
        Some(_) => "an answer that is not JSON (a proxy's page?)",
    };
    let mut error = SideError::new(SideName::Intercom, ErrorKind::Malformed, message);
    error.status = Some(answer.status().as_u16());
    error.request_id = header(answer.headers(), "x-request-id").map(str::to_owned);
    Err(error)
}

fn unknown_outcome(write: bool) -> ErrorKind {
    if write { ErrorKind::Ambiguous } else { ErrorKind::Unavailable }
}

/// Intercom answers 401 both for a bad token and, on some hosts, for a good one of another region's workspace; only
/// rarely does it say so. Where it does not, the remedy names both.
fn unauthorized(words: &str) -> AuthProblem {
    if words.contains("region") { AuthProblem::WrongRegion } else { AuthProblem::BadCredentials }
}

/// A cursor lives only as long as the vendor likes, and says so only in words.
fn lost_cursor(words: &str) -> bool {
    ["starting_after", "starting after", "cursor", "scroll_param", "scroll param"]
        .iter()
        .any(|word| words.contains(word))
}

/// The id in "A contact matching those details already exists with id=5da6f18e3d7cf967e4582d05": it is nowhere else.
fn holder(message: &str) -> Option<String> {
    let (_, rest) = message.rsplit_once("id=")?;
    let id: String = rest.chars().take_while(char::is_ascii_hexdigit).take(64).collect();
    (!id.is_empty()).then_some(id)
}

/// The survivor in `Link: </contacts/{id}>; rel="canonical"`.
fn survivor(headers: &http::HeaderMap) -> Option<String> {
    headers.get_all(http::header::LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|link| {
        link.split(',').find_map(|link| {
            let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
            if rest.contains("rel=") && !rest.contains("canonical") {
                return None;
            }
            let id = target.rsplit_once("/contacts/")?.1;
            let id: String = id.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
            (!id.is_empty()).then_some(id)
        })
    })
}

/// A field that the message quotes ("bad 'test' parameter").
fn named_field(message: &str) -> Option<String> {
    let (_, rest) = message.split_once('\'')?;
    let (name, _) = rest.split_once('\'')?;
    let plain = !name.is_empty()
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ' '));
    plain.then(|| name.to_owned())
}

pub(super) fn header<'h>(headers: &'h http::HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `Retry-After` where given; else, when throttled, the time until `X-RateLimit-Reset`, both ends by the vendor's clock.
fn retry_after(headers: &http::HeaderMap, throttled: bool) -> Option<Duration> {
    if let Some(wait) = crate::http::retry_after(headers) {
        return Some(wait);
    }
    if !throttled {
        return None;
    }
    let reset: i64 = header(headers, "x-ratelimit-reset")?.parse().ok()?;
    let left = reset.saturating_sub(crate::http::server_time(headers)?.timestamp());
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// The vendor's words without addresses and numbers of people, and bounded. A run of digits counts as one number even
/// with what people put between digits (`+33 6 12-34-56-78`); Intercom's own ids (24 hex digits) tell nothing about a
/// person and stay, because its support asks for them.
pub(super) fn masked(message: &str) -> String {
    const LONGEST_NUMBER: usize = 6;
    let mut out = String::new();
    let mut number: Vec<&str> = Vec::new();
    let mut digits = 0;
    let flush = |out: &mut String, number: &mut Vec<&str>, digits: &mut usize| {
        if *digits > LONGEST_NUMBER {
            out.push_str(" [number]");
        } else {
            for word in number.iter() {
                out.push(' ');
                out.push_str(word);
            }
        }
        number.clear();
        *digits = 0;
    };
    for word in message.split_whitespace() {
        let count = word.chars().filter(char::is_ascii_digit).count();
        let numeric = count > 0 && !word.contains('@') && word.chars().all(|c| !c.is_alphabetic());
        if numeric {
            number.push(word);
            digits += count;
            continue;
        }
        flush(&mut out, &mut number, &mut digits);
        out.push(' ');
        if word.contains('@') {
            out.push_str("[address]");
        } else if count > LONGEST_NUMBER && !is_hex_id(word) {
            out.push_str("[number]");
        } else {
            out.extend(word.chars().filter(|c| !c.is_control()));
        }
        if out.len() > LONGEST_MESSAGE {
            break;
        }
    }
    flush(&mut out, &mut number, &mut digits);
    let out = out.trim_start();
    match out.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", out.get(..end).unwrap_or_default()),
        None => out.to_owned(),
    }
}

/// An id of Intercom's own (24 hex digits), which tells nothing about a person and helps its support.
fn is_hex_id(word: &str) -> bool {
    let word = word.trim_start_matches("id=").trim_end_matches(['.', ',', ')']);
    word.len() == 24 && word.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
