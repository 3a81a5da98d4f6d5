//! The one trait through which the engine knows a vendor.

use super::{
    AccountInfo, Answer, Attribute, BrevoContactId, Budget, Email, Fetched, ImportState, IntercomContactId,
    Observation, OutgoingEvent, Priority, ProcessId, ReadPage, ReadRequest, Related, SideError, Write,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Which vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum SideName {
    /// Support.
    #[n(0)]
    Intercom,
    /// Marketing.
    #[n(1)]
    Brevo,
}

impl SideName {
    /// In lower case, as config and store write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intercom => "intercom",
            Self::Brevo => "brevo",
        }
    }

    /// Both.
    pub const BOTH: [Self; 2] = [Self::Intercom, Self::Brevo];

    /// The other vendor.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Intercom => Self::Brevo,
            Self::Brevo => Self::Intercom,
        }
    }
}

impl fmt::Display for SideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intercom => "Intercom",
            Self::Brevo => "Brevo",
        })
    }
}

/// A contact's key at a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContactKey {
    /// An Intercom contact by id.
    Intercom(IntercomContactId),
    /// An Intercom contact by the customer's own id. By search, whose index lags some minutes behind.
    IntercomExternalId(String),
    /// An Intercom contact by address, by search too. Several may share it: then a fetch of one is a conflict.
    IntercomEmail(Email),
    /// A Brevo contact by id.
    Brevo(BrevoContactId),
    /// A Brevo contact by address.
    BrevoEmail(Email),
    /// A Brevo contact by external id.
    BrevoExtId(String),
    /// A Brevo contact by phone, digits with country code.
    BrevoPhone(String),
}

impl ContactKey {
    /// Whose contact it names.
    pub fn side(&self) -> SideName {
        match self {
            Self::Intercom(_) | Self::IntercomExternalId(_) | Self::IntercomEmail(_) => SideName::Intercom,
            Self::Brevo(_) | Self::BrevoEmail(_) | Self::BrevoExtId(_) | Self::BrevoPhone(_) => SideName::Brevo,
        }
    }
}

/// A vendor, as the engine sees it. Implementations pace themselves (they never exceed their budgets) and retry what
/// can succeed at once; an error that comes out has been retried as often as its [`Priority`] allows.
///
/// What a side does not have (Brevo has no conversations) answers [`super::ErrorKind::Unsupported`].
#[async_trait]
pub trait Side: Send + Sync {
    /// Which vendor this is.
    fn name(&self) -> SideName;

    /// Which account the credentials open.
    async fn account(&self) -> Result<AccountInfo, Box<SideError>>;

    /// The contact fields that exist there.
    async fn attributes(&self) -> Result<Vec<Attribute>, Box<SideError>>;

    /// One page of a sweep.
    async fn read(&self, request: &ReadRequest) -> Result<ReadPage, Box<SideError>>;

    /// How many contacts have changed since then (`total`; `None` where the answer does not say), for the price of one
    /// small request (Brevo), with whichever of them it shows.
    async fn count_changed(&self, since: DateTime<Utc>, priority: Priority) -> Result<ReadPage, Box<SideError>>;

    /// One contact as it is now. A record that is not there is an answer, not an error.
    async fn fetch(&self, key: &ContactKey, priority: Priority) -> Result<Fetched, Box<SideError>>;

    /// All contacts that a search finds by this key, an external id or an address (Intercom). `false`: it did not show all.
    async fn find_all(&self, key: &ContactKey, priority: Priority) -> Result<(Vec<Observation>, bool), Box<SideError>>;

    /// One conversation as it is now (Intercom).
    async fn fetch_conversation(
        &self,
        id: &super::ConversationId,
        priority: Priority,
    ) -> Result<Fetched, Box<SideError>>;

    /// One company as it is now (Intercom).
    async fn fetch_company(&self, id: &super::IntercomCompanyId, priority: Priority)
    -> Result<Fetched, Box<SideError>>;

    /// The company fields that exist there; Intercom's under the paths that a contact's record has (`company.name`).
    async fn company_attributes(&self) -> Result<Vec<Attribute>, Box<SideError>>;

    /// One company as it is now (Brevo).
    async fn fetch_brevo_company(
        &self,
        id: &super::BrevoCompanyId,
        priority: Priority,
    ) -> Result<Fetched, Box<SideError>>;

    /// The companies that stand for this one of Intercom's, by [`super::BrevoCompany::OURS`] (Brevo). It is asked before one
    /// whose making was not answered is made again.
    async fn companies_of(
        &self,
        id: &super::IntercomCompanyId,
        priority: Priority,
    ) -> Result<Vec<super::BrevoCompany>, Box<SideError>>;

    /// All ids of a set that the contact's record embeds only in part.
    async fn related(
        &self,
        contact: &IntercomContactId,
        what: Related,
        priority: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>>;

    /// One change.
    async fn write(&self, write: &Write, priority: Priority) -> Result<Answer, Box<SideError>>;

    /// Which of these events the vendor has already: their keys. It is asked before an event whose answer was lost is
    /// sent again, because neither vendor knows an idempotency key. What the vendor has just taken may not show yet.
    async fn events_held(
        &self,
        events: &[OutgoingEvent],
        priority: Priority,
    ) -> Result<BTreeSet<String>, Box<SideError>>;

    /// How imports are doing, all of them in one request where that is possible. One that the vendor does not know is
    /// missing from the answer.
    async fn import_states(&self, processes: &[ProcessId]) -> Result<BTreeMap<ProcessId, ImportState>, Box<SideError>>;

    /// The rows of one of an import's reports: the first column that looks like an address, per row.
    async fn import_report(&self, url: &str) -> Result<Vec<String>, Box<SideError>>;

    /// What is left of each budget, as the last answers said.
    fn budgets(&self) -> Vec<Budget>;

    /// What is left of the budget that companies share with much else (Brevo). `None`: there is no limit.
    fn company_budget(&self) -> Option<Budget> {
        None
    }

    /// How long the vendor still holds us back, because it said "too many". Nothing that is asked of it now goes out
    /// before.
    fn held_back(&self) -> Option<std::time::Duration> {
        None
    }
}
