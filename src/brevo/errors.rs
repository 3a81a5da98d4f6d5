//! Brevo's answers → [`SideError`]. Statuses and codes are not enough: the same duplicate has come as
//! `duplicate_parameter` and as `invalid_parameter`, and a blocked address and a bad key are both a 401.

use crate::http::{Effect, retry_after};
use crate::model::{AuthProblem, ErrorKind, SideError, SideName};
use bytes::Bytes;
use serde_json::Value as Json;
use std::time::Duration;

/// An error if `answer` is not a success, or is a success that cannot be Brevo's: not whole JSON for a read, and for a
/// write neither that nor one of Brevo's empty answers (201, 202, 204; never 200). A proxy's page says nothing about
/// whether the write was done.
pub(super) fn classify(answer: &http::Response<Bytes>, effect: Effect) -> Result<(), Box<SideError>> {
    let status = answer.status();
    if status.is_success() {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(answer.body()).is_ok();
        let empty = answer.body().is_empty() && status != http::StatusCode::OK;
        return match effect {
            _ if whole => Ok(()),
            Effect::Read => Err(malformed(answer)),
            _ if empty => Ok(()),
            _ => Err(unreadable_success(answer)),
        };
    }
    let body: Option<Json> = serde_json::from_slice(answer.body()).ok().filter(Json::is_object);
    let text = |key: &str| body.as_ref().and_then(|body| body.get(key)).and_then(Json::as_str);
    let code = text("code");
    let words = text("message").or_else(|| text("error")).unwrap_or_default();
    let kind = kind(status.as_u16(), body.as_ref(), code, words, effect);
    let message = match words.is_empty() {
        false => mask(words),
        true if body.is_none() && !answer.body().is_empty() => "an answer that is not Brevo's".to_owned(),
        true => "no reason given".to_owned(),
    };
    let mut error = SideError::new(SideName::Brevo, kind, message);
    error.status = Some(status.as_u16());
    error.code = code.map(|code| bounded(code, 80));
    error.request_id = request_id(answer);
    error.retry_after = retry_after(answer.headers());
    if status == http::StatusCode::TOO_MANY_REQUESTS {
        error.retry_after = error.retry_after.or_else(|| reset(answer));
    }
    Err(error)
}

/// The same for a file that is not JSON.
pub(super) fn classify_file(answer: &http::Response<Bytes>) -> Result<(), Box<SideError>> {
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        // A report lies in a store of files, whose refusals say nothing about our key.
        401 | 403 | 404 | 410 => {
            let words = "the report is not there (any more)";
            let mut error = SideError::new(SideName::Brevo, ErrorKind::NotFound, words);
            error.status = Some(answer.status().as_u16());
            Err(error)
        }
        _ => classify(answer, Effect::Read),
    }
}

/// A success that cannot be read.
pub(super) fn malformed(answer: &http::Response<Bytes>) -> Box<SideError> {
    let words = if answer.body().is_empty() {
        "an empty answer where JSON was due".to_owned()
    } else if answer.body().trim_ascii_start().starts_with(b"<") {
        "an HTML page where JSON was due: is a proxy in between?".to_owned()
    } else {
        format!("an answer of {} bytes that is not what Brevo documents", answer.body().len())
    };
    let mut error = SideError::new(SideName::Brevo, ErrorKind::Malformed, words);
    error.status = Some(answer.status().as_u16());
    error.request_id = request_id(answer);
    error
}

/// A write's success that cannot be read: whether it was done, and what it made, is not known.
pub(super) fn unreadable_success(answer: &http::Response<Bytes>) -> Box<SideError> {
    let mut error = malformed(answer);
    error.kind = ErrorKind::Ambiguous;
    error
}

fn kind(status: u16, body: Option<&Json>, code: Option<&str>, words: &str, effect: Effect) -> ErrorKind {
    let lower = words.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    match status {
        // 425 Too Early: an import is at work on the account.
        425 | 429 => ErrorKind::Throttled,
        _ if code == Some("account_in_process") => ErrorKind::Throttled,
        401 if is_about_ip(&lower) => ErrorKind::Auth(AuthProblem::BlockedIp),
        401 => ErrorKind::Auth(AuthProblem::BadCredentials),
        402 => ErrorKind::Auth(AuthProblem::Plan),
        // The firewall before the API refuses some paths with a page of its own: about the record, not about the key.
        403 if body.is_none() => ErrorKind::Rejected { field: None },
        403 if is_about_ip(&lower) => ErrorKind::Auth(AuthProblem::BlockedIp),
        403 if says(&["plan", "upgrade", "not enabled", "credits"]) => ErrorKind::Auth(AuthProblem::Plan),
        403 => ErrorKind::Auth(AuthProblem::MissingScope),
        // A 404 without Brevo's code is a gateway's (a wrong base address), and proves nothing about a record.
        404 if code.is_some() => ErrorKind::NotFound,
        404 | 300..=399 => ErrorKind::Malformed,
        400 | 409 | 422 => match duplicates(body, code, &lower, status) {
            Some(identifiers) => ErrorKind::Conflict { identifiers, holder: None, archived: false },
            None if code == Some("document_not_found") => ErrorKind::NotFound,
            None if code == Some("not_enough_credits") => ErrorKind::Auth(AuthProblem::Plan),
            None => ErrorKind::Rejected { field: field(words, &lower) },
        },
        408 | 500..=599 if effect == Effect::Read => ErrorKind::Unavailable,
        408 | 500..=599 => ErrorKind::Ambiguous,
        _ => ErrorKind::Rejected { field: field(words, &lower) },
    }
}

/// The key is right, but Brevo does not know the address we call from.
fn is_about_ip(lower: &str) -> bool {
    lower.contains("not verified")
        || lower.contains("unrecognised ip")
        || lower.split(|c: char| !c.is_alphanumeric()).any(|word| word == "ip" || word == "ips")
}

/// Identifiers that another contact holds; `None` if this is about something else.
fn duplicates(body: Option<&Json>, code: Option<&str>, lower: &str, status: u16) -> Option<Vec<String>> {
    let named = body.and_then(|body| body.pointer("/metadata/duplicate_identifiers")).and_then(Json::as_array);
    let named: Vec<String> =
        named.into_iter().flatten().filter_map(Json::as_str).map(|name| bounded(name, 40)).collect();
    if !named.is_empty() {
        return Some(named);
    }
    let duplicate = code == Some("duplicate_parameter")
        || status == 409
        || lower.contains("already associated")
        || lower.contains("already exist");
    duplicate.then(|| {
        let names = ["email", "SMS", "ext_id", "whatsapp", "landline_number"];
        names.iter().filter(|name| lower.contains(&name.to_lowercase())).map(|name| (*name).to_owned()).collect()
    })
}

/// The field at fault, where the words name exactly one.
fn field(words: &str, lower: &str) -> Option<String> {
    let mut found: Vec<&str> = Vec::new();
    for (word, field) in [
        ("whatsapp", "WHATSAPP"),
        ("landline", "LANDLINE_NUMBER"),
        ("sms", "SMS"),
        ("phone", "SMS"),
        ("mobile", "SMS"),
        ("email", "email"),
        ("ext_id", "ext_id"),
        ("ext id", "ext_id"),
    ] {
        // "whatsapp number" and "landline number" are phones by another name.
        let already = field == "SMS" && !found.is_empty() && found[0] != "email";
        if lower.contains(word) && !already && !found.contains(&field) {
            found.push(field);
        }
    }
    if lower.contains("attribute") {
        let named = words.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).find(|token| {
            token.len() > 1
                && token.starts_with(|c: char| c.is_ascii_uppercase())
                && !token.contains(|c: char| c.is_ascii_lowercase())
        });
        if let Some(named) = named {
            return Some(bounded(named, 80));
        }
    }
    match found.as_slice() {
        [one] => Some((*one).to_owned()),
        _ => None,
    }
}

fn reset(answer: &http::Response<Bytes>) -> Option<Duration> {
    let text = answer.headers().get("x-sib-ratelimit-reset")?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn request_id(answer: &http::Response<Bytes>) -> Option<String> {
    let header = answer.headers().get("sib-request-id").or_else(|| answer.headers().get("cf-ray"))?;
    header.to_str().ok().map(|id| bounded(id, 80))
}

fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// A vendor's words without e-mail addresses and long numbers, bounded. They end up in logs and on screens.
pub(super) fn mask(words: &str) -> String {
    let in_address = |c: char| c.is_alphanumeric() || "._%+-'@".contains(c);
    let in_number = |c: char| c.is_ascii_digit() || " +-.()/".contains(c);
    let words = bounded(words, 2000);
    let mut masked = String::with_capacity(words.len());
    let mut rest = words.as_str();
    while let Some(first) = rest.chars().next() {
        let address = &rest[..rest.find(|c| !in_address(c)).unwrap_or(rest.len())];
        if address.contains('@') {
            masked.push_str("[address]");
            rest = &rest[address.len()..];
            continue;
        }
        let number = rest[..rest.find(|c| !in_number(c)).unwrap_or(rest.len())].trim_end();
        if (first.is_ascii_digit() || first == '+') && number.chars().filter(char::is_ascii_digit).count() >= 6 {
            masked.push_str("[number]");
            rest = &rest[number.len()..];
            continue;
        }
        let step = if address.is_empty() || first.is_ascii_digit() || first == '+' {
            first.len_utf8()
        } else {
            // Up to the next digit, where a number may begin.
            address.find(|c: char| c.is_ascii_digit() || c == '+').unwrap_or(address.len()).max(first.len_utf8())
        };
        masked.push_str(&rest[..step]);
        rest = &rest[step..];
    }
    bounded(&masked, 300)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(status: u16, body: impl Into<String>, effect: Effect) -> SideError {
        let answer = http::Response::builder().status(status).body(Bytes::from(body.into())).unwrap();
        *classify(&answer, effect).unwrap_err()
    }

    fn kind_of(status: u16, body: &Json) -> ErrorKind {
        judged(status, body.to_string(), Effect::Idempotent).kind
    }

    #[test]
    fn a_duplicate_is_a_duplicate_whatever_its_code() {
        for code in ["duplicate_parameter", "invalid_parameter"] {
            let body = json!({"code": code, "message": "Unable to create contact, email is already associated with another Contact",
                "metadata": {"duplicate_identifiers": ["email"]}});
            let ErrorKind::Conflict { identifiers, .. } = kind_of(400, &body) else { panic!("{code}") };
            assert_eq!(identifiers, ["email"]);
        }
        let bare = json!({"code": "invalid_parameter", "message": "Unable to update contact, SMS is already associated with another Contact"});
        let ErrorKind::Conflict { identifiers, .. } = kind_of(400, &bare) else { panic!() };
        assert_eq!(identifiers, ["SMS"]);
        let old = json!({"code": "invalid_parameter", "message": "Contact already exist"});
        assert!(matches!(kind_of(400, &old), ErrorKind::Conflict { identifiers, .. } if identifiers.is_empty()));
        let list = json!({"code": "invalid_parameter", "message": "Contact already in list and/or does not exist"});
        assert!(matches!(kind_of(400, &list), ErrorKind::Rejected { .. }));
    }

    #[test]
    fn a_bad_key_and_a_blocked_address_are_told_apart() {
        let key = json!({"code": "unauthorized", "message": "Key not found"});
        assert_eq!(kind_of(401, &key), ErrorKind::Auth(AuthProblem::BadCredentials));
        let missing = json!({"code": "unauthorized", "message": "authentication not found in headers"});
        assert_eq!(kind_of(401, &missing), ErrorKind::Auth(AuthProblem::BadCredentials));
        for words in ["We have detected you are using an unrecognised IP address 1.2.3.4.", "IP not authorized"] {
            let body = json!({"code": "unauthorized", "message": words});
            assert_eq!(kind_of(401, &body), ErrorKind::Auth(AuthProblem::BlockedIp), "{words}");
        }
    }

    #[test]
    fn the_words_name_the_field() {
        let rejected = |words: &str| match kind_of(400, &json!({"code": "invalid_parameter", "message": words})) {
            ErrorKind::Rejected { field } => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(rejected("Invalid phone number").as_deref(), Some("SMS"));
        assert_eq!(rejected("Invalid WHATSAPP number").as_deref(), Some("WHATSAPP"));
        assert_eq!(rejected("Invalid email address").as_deref(), Some("email"));
        assert_eq!(rejected("Attribute PLAN_TIER does not exist").as_deref(), Some("PLAN_TIER"));
        assert_eq!(rejected("could not find any valid email or SMS or Contact ID in the file"), None);
        assert_eq!(rejected("something else"), None);
    }

    #[test]
    fn what_is_unknown_after_a_write_is_plainly_unavailable_after_a_read() {
        for status in [500, 502, 503, 504, 408] {
            assert_eq!(judged(status, "<html>", Effect::Read).kind, ErrorKind::Unavailable);
            assert_eq!(judged(status, "", Effect::Creates).kind, ErrorKind::Ambiguous);
            assert_eq!(judged(status, "", Effect::Idempotent).kind, ErrorKind::Ambiguous);
        }
    }

    #[test]
    fn a_gateways_404_is_no_proof_that_a_record_is_gone() {
        let ours = json!({"code": "document_not_found", "message": "Contact does not exist"});
        assert_eq!(kind_of(404, &ours), ErrorKind::NotFound);
        assert_eq!(judged(404, "<html>not found</html>", Effect::Read).kind, ErrorKind::Malformed);
        assert_eq!(kind_of(404, &json!({"message": "no Route matched"})), ErrorKind::Malformed);
    }

    #[test]
    fn too_early_and_too_many_are_throttled_with_the_time_to_wait() {
        assert_eq!(kind_of(425, &json!({"code": "account_in_process", "message": "wait"})), ErrorKind::Throttled);
        let answer = http::Response::builder().status(429).header("x-sib-ratelimit-reset", "12");
        let error = classify(&answer.body(Bytes::new()).unwrap(), Effect::Creates).unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(12))));
    }

    #[test]
    fn a_success_that_is_not_json_is_no_success_of_a_read() {
        for body in ["", "<html></html>", r#"{"contacts":[{"id":1"#] {
            assert_eq!(judged(200, body, Effect::Read).kind, ErrorKind::Malformed, "{body}");
        }
        let empty = http::Response::builder().status(204).body(Bytes::new()).unwrap();
        assert!(classify(&empty, Effect::Idempotent).is_ok());
    }

    #[test]
    fn words_carry_no_addresses_or_numbers() {
        assert_eq!(mask("jane.o'neil+x@example.com is taken"), "[address] is taken");
        assert_eq!(mask("Invalid number +33 6 12 34 56 78."), "Invalid number [number]");
        assert_eq!(mask("error 404 in row 12"), "error 404 in row 12");
        assert_eq!(mask("x33612345678y"), "x[number]y");
        assert_eq!(mask(&"é".repeat(5000)).chars().count(), 300);
    }
}
