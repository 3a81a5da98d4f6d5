//! Records as the engine sees them: vendors' wire shapes are turned into these inside the vendors' rooms.

use super::{
    BrevoCompanyId, BrevoContactId, BrevoListId, Consent, ConversationId, Email, IntercomCompanyId, IntercomContactId,
    IntercomTagId, Number, Value, pack,
};
use chrono::{DateTime, Utc};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Field values by dotted path (`name`, `location.country`, `custom_attributes.plan_tier`) or by attribute name
/// (`FIRSTNAME`). An absent key is "no value".
pub type Fields = std::collections::BTreeMap<String, Value>;

/// A set of which a vendor may have shown only a part (Intercom embeds at most ten tags and companies in a contact).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Partial<T: Ord> {
    /// What was shown.
    #[n(0)]
    pub items: BTreeSet<T>,
    /// Whether that is all of it.
    #[n(1)]
    pub complete: bool,
}

/// Intercom's two kinds of contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Signed up.
    #[n(0)]
    User,
    /// Not yet.
    #[n(1)]
    Lead,
}

impl Role {
    /// As Intercom writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Lead => "lead",
        }
    }
}

/// An Intercom contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct IntercomContact {
    /// Intercom's id.
    #[n(0)]
    pub id: IntercomContactId,
    /// The customer's own id (`user_id` of old).
    #[n(1)]
    pub external_id: Option<String>,
    /// User or lead.
    #[n(2)]
    pub role: Role,
    /// The normalised address; `None` when blank or not an address.
    #[n(3)]
    pub email: Option<Email>,
    /// When Intercom made the record.
    #[n(4)]
    #[cbor(with = "pack::millis")]
    pub created_at: DateTime<Utc>,
    /// Intercom's record time. Moves with every visit, not only with edits.
    #[n(5)]
    #[cbor(with = "pack::millis")]
    pub updated_at: DateTime<Utc>,
    /// May the person be contacted.
    #[n(6)]
    pub consent: Consent,
    /// Tags, by id (embedded lists carry no names).
    #[n(7)]
    pub tags: Partial<IntercomTagId>,
    /// Companies, by Intercom's id.
    #[n(8)]
    pub companies: Partial<IntercomCompanyId>,
    /// Every mappable path of the contact's own that has a value; `email`, `phone`, `name`, `role`, `external_id`,
    /// timestamps as [`Value::Instant`], `custom_attributes.*` among them.
    #[n(9)]
    #[cbor(with = "pack::by_word")]
    pub fields: Fields,
}

/// A Brevo contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct BrevoContact {
    /// Brevo's id.
    #[n(0)]
    pub id: BrevoContactId,
    /// The normalised address; `None` for phone-only contacts (`…@mailin-sms.com` is no address).
    #[n(1)]
    pub email: Option<Email>,
    /// The customer's own id, which Brevo shows as attribute `EXT_ID`.
    #[n(2)]
    pub ext_id: Option<String>,
    /// When Brevo made the record.
    #[n(3)]
    #[cbor(with = "pack::millis")]
    pub created_at: DateTime<Utc>,
    /// Brevo's record time. Moves with any touch, list membership included.
    #[n(4)]
    #[cbor(with = "pack::millis")]
    pub modified_at: DateTime<Utc>,
    /// `emailBlacklisted` and `smsBlacklisted`.
    #[n(5)]
    pub consent: Consent,
    /// Lists the contact is on.
    #[n(6)]
    pub lists: BTreeSet<BrevoListId>,
    /// Lists the person left (`listUnsubscribed`). Nobody is put back on one of these.
    #[n(7)]
    pub lists_left: BTreeSet<BrevoListId>,
    /// Attributes under their UPPER-CASE names, untyped ([`Value::from_json`]); EMAIL and EXT_ID are not among them.
    #[n(8)]
    #[cbor(with = "pack::by_word")]
    pub attributes: Fields,
}

/// An Intercom company.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Company {
    /// Intercom's id.
    pub id: IntercomCompanyId,
    /// The customer's own id.
    pub company_id: Option<String>,
    /// Intercom's record time, where shown.
    pub updated_at: Option<DateTime<Utc>>,
    /// When somebody of the company was last active.
    pub last_request_at: Option<DateTime<Utc>>,
    /// Every mappable path, without the `company.` prefix: `name`, `plan` (the plan's name), `size`,
    /// `custom_attributes.*` …
    pub fields: Fields,
}

/// A Brevo company.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrevoCompany {
    /// Brevo's id.
    pub id: BrevoCompanyId,
    /// Brevo's record time, where shown.
    pub modified_at: Option<DateTime<Utc>>,
    /// The contacts that are linked with it.
    pub contacts: BTreeSet<BrevoContactId>,
    /// Attributes under their UPPER-CASE names, untyped ([`Value::from_json`]); NAME among them.
    pub attributes: Fields,
}

impl BrevoCompany {
    /// The attribute that holds the id of Intercom's company. Brevo's companies have no external id and nothing of them is
    /// unique, so that this attribute alone tells which is ours.
    pub const OURS: &'static str = "LINKSPAN_INTERCOM_ID";
    /// As people see the attribute in Brevo.
    pub const OURS_LABEL: &'static str = "Linkspan Intercom ID";
    /// The attribute without which Brevo takes no company.
    pub const NAME: &'static str = "NAME";

    /// The company of Intercom's that it stands for.
    pub fn intercom(&self) -> Option<IntercomCompanyId> {
        self.attributes.get(Self::OURS).map(|id| IntercomCompanyId::new(id.to_string().trim()))
    }
}

/// A tag's id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Intercom's id.
    pub id: IntercomTagId,
    /// Its name, as people wrote it.
    pub name: String,
}

/// What a conversation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationState {
    /// Waiting for somebody.
    Open,
    /// Done.
    Closed,
    /// Put off until a time. Intercom still calls it open (`open: true`).
    Snoozed,
}

impl ConversationState {
    /// As Intercom writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Snoozed => "snoozed",
        }
    }
}

/// What the contact thought of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rating {
    /// 1 to 5.
    pub score: u8,
    /// The contact's words.
    pub remark: Option<String>,
}

/// The service level that applies to a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sla {
    /// Its name.
    pub name: Option<String>,
    /// `hit`, `missed`, `cancelled`, `active`, or what Intercom adds later.
    pub status: Option<String>,
}

/// An Intercom conversation, as far as its figures matter. Bodies are never kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Intercom's id.
    pub id: ConversationId,
    /// Who takes part.
    pub contacts: BTreeSet<IntercomContactId>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// Intercom's record time.
    pub updated_at: DateTime<Utc>,
    /// Open, closed or snoozed.
    pub state: ConversationState,
    /// Until when it is snoozed.
    pub snoozed_until: Option<DateTime<Utc>>,
    /// Since when the contact waits for an answer.
    pub waiting_since: Option<DateTime<Utc>>,
    /// `priority`, `not_priority`; from API version 2.16 on `none` … `urgent`.
    pub priority: Option<String>,
    /// `source.type`: `conversation`, `email`, `whatsapp` …
    pub source_type: Option<String>,
    /// `source.delivered_as`: `customer_initiated`, `admin_initiated` …
    pub delivered_as: Option<String>,
    /// Whether a contact wrote the first message.
    pub started_by_contact: bool,
    /// The latest rating.
    pub rating: Option<Rating>,
    /// Tags by name.
    pub tags: BTreeSet<String>,
    /// The service level.
    pub sla: Option<Sla>,
    /// `statistics.last_close_at`, in whole seconds.
    pub last_close_at: Option<DateTime<Utc>>,
    /// `statistics.last_contact_reply_at`.
    pub last_contact_reply_at: Option<DateTime<Utc>>,
    /// `statistics.time_to_admin_reply`, in seconds.
    pub time_to_first_reply: Option<i64>,
    /// `ai_agent_participated`.
    pub ai_participated: Option<bool>,
    /// `ai_agent.resolution_state`, of either generation.
    pub ai_resolution: Option<String>,
    /// `ai_agent.rating`.
    pub ai_rating: Option<u8>,
}

impl Conversation {
    /// What a condition over conversations can read.
    pub const RECORD: [&'static str; 12] = [
        "id",
        "state",
        "priority",
        "channel",
        "delivered_as",
        "tags",
        "sla",
        "rating",
        "created_at",
        "waiting_since",
        "ai_participated",
        "ai_resolution",
    ];

    /// The record of such a condition.
    pub fn record(&self) -> Fields {
        let text = |text: &Option<String>| text.as_deref().and_then(Value::text);
        let whole = |number: u8| Value::Number(Number::Whole(i64::from(number)));
        [
            ("id", Value::text(self.id.as_str())),
            ("state", Value::text(self.state.as_str())),
            ("priority", text(&self.priority)),
            ("channel", text(&self.source_type)),
            ("delivered_as", text(&self.delivered_as)),
            ("tags", Value::list(self.tags.iter().cloned())),
            ("sla", self.sla.as_ref().and_then(|sla| text(&sla.name))),
            ("rating", self.rating.as_ref().map(|rating| whole(rating.score))),
            ("created_at", Some(Value::Instant(self.created_at))),
            ("waiting_since", self.waiting_since.map(Value::Instant)),
            ("ai_participated", self.ai_participated.map(Value::Boolean)),
            ("ai_resolution", text(&self.ai_resolution)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}
