//! What a vendor says about the account itself.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which account the credentials open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Intercom's `app.id_code`, Brevo's `organization_id`: names the account for ever.
    pub id: String,
    /// The account's name, for people.
    pub name: Option<String>,
    /// IANA name of the account's timezone. Intercom's contact search counts days in it.
    pub timezone: Option<String>,
    /// `US`, `EU`, `AU`, where the vendor says.
    pub region: Option<String>,
    /// The vendor's clock when it answered (`Date` header).
    pub server_time: Option<DateTime<Utc>>,
}

/// The type of a Brevo contact attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeKind {
    /// Any text.
    Text,
    /// A number.
    Float,
    /// Yes or no. Absent and `false` are one canonical value.
    Boolean,
    /// A calendar day.
    Date,
    /// One of an enumeration.
    Category,
    /// Any of a set of options.
    MultipleChoice,
    /// An id, a user of the account, or a type that came later: read, never written.
    Other(String),
}

impl AttributeKind {
    /// As people and Brevo write it.
    pub fn name(&self) -> &str {
        match self {
            Self::Text => "text",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Category => "category",
            Self::MultipleChoice => "multiple-choice",
            Self::Other(name) => name,
        }
    }
}

/// A field that exists in the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Brevo: UPPER-CASE name. Intercom: dotted path.
    pub name: String,
    /// Its type.
    pub kind: AttributeKind,
    /// Whether the API may write it (calculated, global and transactional attributes may not be).
    pub writable: bool,
    /// Labels of a category's enumeration with their stored keys, or the options of a multiple choice (label = key).
    pub options: Vec<(String, String)>,
}

/// What we may use of so many requests, where `share` (0 to 1) is ours. Rounded down.
pub fn share_of(limit: u64, share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of requests, which are fewer than 2^53"
    )]
    let usable = (limit as f64 * share.clamp(0.0, 1.0)) as u64;
    usable.min(limit)
}

/// How much of an API's budget is left, as its last answer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The family of endpoints that shares this budget (`contacts`, `search`, `other` …).
    pub family: String,
    /// Requests allowed in the window.
    pub limit: u64,
    /// Requests left in it.
    pub remaining: u64,
    /// When the window starts anew.
    pub resets_at: Option<DateTime<Utc>>,
}

impl Budget {
    /// The same of our share: the rest is for the account's other integrations.
    pub fn our_share(self, share: f64) -> Self {
        let usable = share_of(self.limit, share);
        Self { limit: usable, remaining: self.remaining.saturating_sub(self.limit - usable), ..self }
    }
}
