//! What was seen at a vendor, and how it is asked for.

use super::{
    BrevoCompany, BrevoCompanyId, BrevoContact, BrevoContactId, BrevoListId, Company, Conversation, ConversationId,
    IntercomCompanyId, IntercomContact, IntercomContactId, Tag,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a record went away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// Deleted, or unknown to the vendor.
    Deleted,
    /// Archived: may come back.
    Archived,
    /// Merged into another contact.
    Merged {
        /// The survivor, where the vendor named it.
        into: Option<IntercomContactId>,
    },
}

/// One thing seen at a vendor. It does not matter whether a page, a webhook or a read by id showed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// An Intercom contact.
    IntercomContact(Box<IntercomContact>),
    /// An Intercom contact that is no longer there.
    IntercomContactGone(IntercomContactId, Gone),
    /// An Intercom company.
    Company(Box<Company>),
    /// An Intercom company that is no longer there.
    CompanyGone(IntercomCompanyId),
    /// An Intercom conversation.
    Conversation(Box<Conversation>),
    /// An Intercom conversation that is no longer there.
    ConversationGone(ConversationId),
    /// A tag of the workspace.
    Tag(Tag),
    /// A Brevo contact.
    BrevoContact(Box<BrevoContact>),
    /// A Brevo contact that is no longer there.
    BrevoContactGone(BrevoContactId),
    /// A Brevo company.
    BrevoCompany(Box<BrevoCompany>),
    /// A Brevo company that is no longer there.
    BrevoCompanyGone(BrevoCompanyId),
    /// A Brevo list.
    BrevoList {
        /// Its id.
        id: BrevoListId,
        /// Its name.
        name: String,
    },
}

/// What is read in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Contacts (users and leads).
    Contacts,
    /// Companies.
    Companies,
    /// Conversations.
    Conversations,
    /// Tags.
    Tags,
    /// Brevo's lists.
    Lists,
}

impl Resource {
    /// As the command line and the store write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Companies => "companies",
            Self::Conversations => "conversations",
            Self::Tags => "tags",
            Self::Lists => "lists",
        }
    }
}

/// Which records of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of them.
    Full,
    /// Those that changed at or after this instant of the vendor's clock.
    Since(DateTime<Utc>),
    /// Those that were created at or after this instant (`sync --since`).
    CreatedSince(DateTime<Utc>),
}

/// Where a sweep stands. Opaque to all but the vendor's room that made it; durable; only continues the request
/// (resource and scope) that issued it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// One page, please.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    /// Of what.
    pub resource: Resource,
    /// Which records.
    pub scope: Scope,
    /// Where to go on; `None` begins the sweep.
    pub cursor: Option<Cursor>,
    /// The account's timezone: Intercom's contact search counts days in it.
    pub timezone: chrono_tz::Tz,
    /// Backfill waits for budget; incremental work takes it at once.
    pub priority: super::Priority,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadPage {
    /// What it showed.
    pub observations: Vec<Observation>,
    /// Where to go on; `None` ends the sweep.
    pub next: Option<Cursor>,
    /// How many records the whole sweep holds, by the vendor's latest word.
    pub total: Option<u64>,
    /// The vendor's clock when it answered (`Date` header): watermarks are made of these, never of our own clock.
    pub server_time: Option<DateTime<Utc>>,
    /// Whether a page without a new record ends the sweep as failed. False only for the company scroll's last pages.
    pub repeats_are_errors: bool,
}

/// What a read by id or key found.
#[derive(Debug, Clone, PartialEq)]
pub enum Fetched {
    /// The record as it is now, with the vendor's clock when it answered.
    Found(Box<Observation>, Option<DateTime<Utc>>),
    /// It is not there.
    Gone(Gone),
}

/// A contact's sets that Intercom embeds only in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Related {
    /// Tags.
    Tags,
    /// Companies.
    Companies,
}
