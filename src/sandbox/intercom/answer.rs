//! Answers and errors in the vendor's shape, and what a request asks for.

use serde_json::{Value, json};

/// An answer before the headers that every answer carries.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

/// What a route gives; an `Err` is an error for the caller, not of the sandbox.
pub(super) type Reply = Result<Answer, Answer>;

/// 200 with JSON.
pub(super) fn ok(body: &Value) -> Answer {
    Answer { status: 200, body: body.to_string().into_bytes(), headers: Vec::new() }
}

/// An error list with one error. The `request_id` is put in by the frame.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"type": "error.list", "request_id": null, "errors": [{"code": code, "message": message}]});
    Answer { status, body: body.to_string().into_bytes(), headers: Vec::new() }
}

pub(super) fn not_found(message: &str) -> Answer {
    error(404, "not_found", message)
}

/// The version that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32);

impl Version {
    pub(super) const DEFAULT: Self = Self(11);
    /// Finding a user by the customer's own id.
    pub(super) const V2_13: Self = Self(13);
    /// 410 for merged contacts, ids of owners as text, checked sort orders.
    pub(super) const V2_16: Self = Self(16);
    /// Contact search to the second.
    pub(super) const V2_17: Self = Self(17);

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "Preview" | "Unstable" => Some(Self(99)),
            _ => text.strip_prefix("2.")?.parse().ok().filter(|minor| *minor <= 17).map(Self),
        }
    }
}

/// No list is longer; also keeps the arithmetic of pages in bounds.
const LAST_PAGE: usize = 1_000_000;

/// One request, read.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Value,
    pub version: Version,
}

impl Asked {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key).and_then(Value::as_str)
    }

    /// `per_page` from the query: 1 up to `most`.
    pub(super) fn per_page(&self, default: usize, most: usize) -> Result<usize, Answer> {
        match self.param("per_page") {
            None => Ok(default),
            Some(text) => checked_per_page(text.parse().ok(), most),
        }
    }

    pub(super) fn page(&self) -> Result<usize, Answer> {
        match self.param("page") {
            None => Ok(1),
            Some(text) => match text.parse() {
                Ok(page @ 1..=LAST_PAGE) => Ok(page),
                _ => Err(error(400, "parameter_invalid", "page is invalid")),
            },
        }
    }
}

pub(super) fn checked_per_page(asked: Option<u64>, most: usize) -> Result<usize, Answer> {
    match asked.and_then(|asked| usize::try_from(asked).ok()) {
        Some(asked) if (1..=most).contains(&asked) => Ok(asked),
        Some(asked) if asked > most => Err(error(400, "parameter_invalid", "Per Page is too big")),
        _ => Err(error(400, "parameter_invalid", "per_page is invalid")),
    }
}

/// Percent-decodes one part of a URL.
pub(super) fn decode(text: &str, plus: bool) -> String {
    let text = if plus { text.replace('+', " ") } else { text.to_owned() };
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}
