//! What one call carries, and what it gets.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// One call, taken apart.
pub(super) struct Call {
    pub(super) method: String,
    /// The path below `/v3`, each part decoded.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Scheme and host that we were reached under, for links back to us.
    pub(super) origin: String,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Csv,
    Html,
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) kind: Kind,
    pub(super) body: Bytes,
}

/// An answer, or the refusal that takes its place.
pub(super) type Outcome = Result<Reply, Reply>;

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { status, kind: Kind::Json, body: Bytes::from(body.to_string()) }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, kind: Kind::Json, body: Bytes::new() }
    }

    pub(super) fn html(status: u16, text: &'static str) -> Self {
        Self { status, kind: Kind::Html, body: Bytes::from_static(text.as_bytes()) }
    }

    /// The vendor's error body.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({"code": code, "message": message}))
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::error(400, "invalid_parameter", message)
    }

    pub(super) fn missing(message: &str) -> Self {
        Self::error(400, "missing_parameter", message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::error(404, "document_not_found", message)
    }
}

impl Call {
    /// A part of the path.
    pub(super) fn part(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }

    /// A numeric part of the path.
    pub(super) fn number(&self, index: usize, what: &str) -> Result<i64, Reply> {
        self.part(index).parse().map_err(|_| Reply::invalid(&format!("{what} is invalid")))
    }

    /// The first value of a query parameter.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a repeatable parameter, written `a=1&a=2`, `a[]=1`, or `a=1,2`.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.query
            .iter()
            .filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .flat_map(|(_, value)| value.split(','))
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// A repeatable numeric parameter.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<i64>, Reply> {
        let parse =
            |value: &str| value.trim().parse().map_err(|_| Reply::invalid(&format!("{name} should be integers")));
        self.all(name).into_iter().map(parse).collect()
    }

    /// `limit` and `offset`. Each endpoint has its own default and its own cap.
    pub(super) fn page(&self, default: usize, max: usize) -> Result<(usize, usize), Reply> {
        let read = |name: &str, default: usize| match self.first(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Reply::invalid(&format!("{name} should be a positive integer"))),
        };
        let limit = read("limit", default)?;
        if limit > max {
            return Err(Reply::error(400, "out_of_range", &format!("Limit exceeds max value of {max}")));
        }
        Ok((limit, read("offset", 0)?))
    }

    /// Whether the oldest come first. Brevo's default is the newest first.
    pub(super) fn ascending(&self) -> Result<bool, Reply> {
        match self.first("sort") {
            None | Some("desc") => Ok(false),
            Some("asc") => Ok(true),
            Some(_) => Err(Reply::invalid("Sort should be either asc or desc")),
        }
    }

    /// An instant in a query. An unescaped `+` of an offset arrives as a space and is refused, as at Brevo.
    pub(super) fn instant(&self, name: &str) -> Result<Option<chrono::DateTime<chrono::Utc>>, Reply> {
        let Some(text) = self.first(name) else { return Ok(None) };
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(instant) => Ok(Some(instant.to_utc())),
            Err(_) => Err(Reply::invalid(&format!("Invalid {name}: expected YYYY-MM-DDTHH:mm:ss.SSSZ"))),
        }
    }

    /// The body as an object; no body is an empty one.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Reply> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Reply::invalid("Input must be a JSON object")),
            Err(_) => Err(Reply::invalid("Input is not valid JSON")),
        }
    }
}

/// A text field of a body, with its name in the refusal when it is something else.
pub(super) fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, Reply> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Reply::invalid(&format!("{name} should be a string"))),
    }
}

/// A boolean field of a body.
pub(super) fn flag(body: &Map<String, Value>, name: &str) -> Result<Option<bool>, Reply> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(Reply::invalid(&format!("{name} should be a boolean"))),
    }
}

/// A field that is an array of integers.
pub(super) fn integers(body: &Map<String, Value>, name: &str) -> Result<Option<Vec<i64>>, Reply> {
    let refusal = || Reply::invalid(&format!("{name} should be an array of integers"));
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_i64().ok_or_else(refusal)).collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(refusal()),
    }
}

/// A field that is an array of texts.
pub(super) fn texts(body: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, Reply> {
    let refusal = || Reply::invalid(&format!("{name} should be an array of strings"));
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(refusal))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(refusal()),
    }
}
