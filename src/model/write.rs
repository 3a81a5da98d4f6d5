//! What is asked of a vendor to change, and what it answered.

use super::{
    Attribute, AttributeKind, BrevoCompany, BrevoCompanyId, BrevoContactId, BrevoListId, Company, Email, Fields,
    IntercomCompanyId, IntercomContact, IntercomContactId, IntercomTagId, OptIn, ProcessId, Role, Tag, Value, pack,
};
use chrono::{DateTime, Utc};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose turn it is when budget is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// Webhook and incremental work: any budget, at once.
    Live,
    /// Backfill: spread evenly, never the reserved tenth.
    Backfill,
}

/// A contact to make in Brevo. Never sent with `updateEnabled`: a contact that turns out to exist is read and linked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NewContact {
    /// Its address; `None` for a phone-only contact, whose number is in `attributes["SMS"]`.
    pub email: Option<Email>,
    /// The customer's own id.
    pub ext_id: Option<String>,
    /// Attributes to set.
    pub attributes: Fields,
    /// Lists to put it on.
    pub lists: BTreeSet<BrevoListId>,
    /// `true` sends `emailBlacklisted: true`; `false` omits the flag (we never loosen).
    pub email_opted_out: bool,
    /// The same for SMS.
    pub sms_opted_out: bool,
}

/// A change of an existing Brevo contact. What is not named is not touched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContactChange {
    /// Attributes: a value sets, `None` clears.
    pub attributes: BTreeMap<String, Option<Value>>,
    /// A new address. Brevo re-subscribes a blocklisted contact whose address changes, so opt-outs ride along.
    pub email: Option<Email>,
    /// The customer's own id.
    pub ext_id: Option<String>,
    /// Lists to join.
    pub join_lists: BTreeSet<BrevoListId>,
    /// Lists to leave.
    pub leave_lists: BTreeSet<BrevoListId>,
    /// `true` sends `emailBlacklisted: true`; `false` omits the flag.
    pub email_opted_out: bool,
    /// Sends `emailBlacklisted: false`, unless an opt-out is sent. Nothing that was written down can ask for it.
    #[serde(skip)]
    pub email_opted_in: Option<OptIn>,
    /// The same for SMS, which nothing loosens.
    pub sms_opted_out: bool,
}

impl ContactChange {
    /// Changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One row of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cbor(context_bound = "pack::Words")]
pub struct ImportRow {
    /// Its address.
    #[n(0)]
    pub email: Email,
    /// The customer's own id (attribute `EXT_ID`).
    #[n(1)]
    pub ext_id: Option<String>,
    /// Attributes to set. Imports can neither clear nor set `false`.
    #[n(2)]
    #[cbor(with = "pack::by_word")]
    pub attributes: Fields,
}

/// A bulk write (`POST /contacts/import`): asynchronous, at most 8 MB, one set of lists and flags for all rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportBatch {
    /// Its rows.
    pub rows: Vec<ImportRow>,
    /// Lists that every row joins: the technical list and the rows' common lists. Never empty.
    pub lists: BTreeSet<BrevoListId>,
    /// `false` for creations: a row that turns out to exist is left alone, then first-linked.
    pub update_existing: bool,
    /// `true` blocklists every row.
    pub email_opted_out: bool,
}

/// How an import is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// Queued or at work.
    Running,
    /// Over. "Completed" does not mean that every row landed: `reports` name files of rejected rows by reason
    /// (`invalid_emails`, `duplicate_phone_id` …).
    Finished {
        /// Whether the vendor calls it completed (else failed or cancelled).
        completed: bool,
        /// URL of a CSV file per reason.
        reports: BTreeMap<String, String>,
    },
}

/// Something that happened, on its way to Brevo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutgoingEvent {
    /// The outbox key: sent along as property `linkspan_key`, because Brevo has no idempotency key.
    pub key: String,
    /// `[A-Za-z0-9_-]`, at most 255.
    pub name: String,
    /// When it happened.
    pub happened_at: DateTime<Utc>,
    /// Whose event it is.
    pub contact: BrevoContactId,
    /// Flat properties.
    pub properties: BTreeMap<String, serde_json::Value>,
}

/// A field to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeSpec {
    /// UPPER-CASE name.
    pub name: String,
    /// Its type.
    pub kind: AttributeKind,
    /// Labels of a category or options of a multiple choice.
    pub options: Vec<String>,
}

impl AttributeSpec {
    /// As it will be listed once it is made.
    pub fn as_attribute(&self) -> Attribute {
        let options = self.options.iter().map(|option| (option.clone(), option.clone())).collect();
        Attribute { name: self.name.clone(), kind: self.kind.clone(), writable: true, options }
    }
}

/// What an Intercom contact is to have. What is not named is not touched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IntercomChange {
    /// By path (`name`, `phone`, `avatar`, `owner_id`, `signed_up_at`, `last_seen_at`, `custom_attributes.*`): a value
    /// sets, `None` clears.
    pub fields: BTreeMap<String, Option<Value>>,
    /// An address.
    pub email: Option<Email>,
    /// The customer's own id.
    pub external_id: Option<String>,
    /// `true` sends `unsubscribed_from_emails: true`; `false` omits the flag.
    pub email_opted_out: bool,
    /// Sends `unsubscribed_from_emails: false`, unless an opt-out is sent.
    pub email_opted_in: Option<OptIn>,
}

impl IntercomChange {
    /// Nothing but an opt-out of e-mail.
    pub fn opt_out() -> Self {
        Self { email_opted_out: true, ..Self::default() }
    }

    /// Changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A contact to make in Intercom. Intercom has no upsert: one that matches it is a conflict that names it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIntercomContact {
    /// A lead or a user.
    pub role: Role,
    /// What it is to have.
    pub has: IntercomChange,
}

/// A company to make in Brevo.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NewCompany {
    /// Attributes to set: NAME, without which Brevo takes none, and [`BrevoCompany::OURS`] among them.
    pub attributes: Fields,
    /// The contacts to link with it.
    pub contacts: BTreeSet<BrevoContactId>,
}

/// One request that changes something.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Make a contact.
    CreateContact(NewContact),
    /// Change a contact.
    UpdateContact(BrevoContactId, ContactChange),
    /// Change or make many, in the background.
    Import(ImportBatch),
    /// Put contacts on a list, at most 150.
    AddToList(BrevoListId, Vec<BrevoContactId>),
    /// Take contacts off a list, at most 150.
    RemoveFromList(BrevoListId, Vec<BrevoContactId>),
    /// Send events.
    SendEvents(Vec<OutgoingEvent>),
    /// Make an attribute of contacts.
    CreateAttribute(AttributeSpec),
    /// Give an attribute these options, all of them (category labels, multiple-choice options).
    SetAttributeOptions(Attribute),
    /// Make a list, in a folder of ours, which is made if missing.
    CreateList(String),
    /// Delete a contact.
    DeleteContact(BrevoContactId),
    /// Delete an Intercom contact.
    DeleteIntercomContact(IntercomContactId),
    /// Archive an Intercom contact.
    ArchiveIntercomContact(IntercomContactId),
    /// Make an attribute of Brevo's companies. Brevo makes a name of its own for it, which is to be read back.
    CreateCompanyAttribute(AttributeSpec),
    /// Make a company. Brevo knows no two as one: asked twice, it makes two.
    CreateCompany(NewCompany),
    /// Make many companies, or change many (then each has its id), in the background. An import can neither clear nor take a
    /// contact off.
    ImportCompanies(Vec<(Option<BrevoCompanyId>, NewCompany)>),
    /// Change attributes of a company: a value sets, `None` clears. Never its contacts: that would replace them all.
    UpdateCompany(BrevoCompanyId, BTreeMap<String, Option<Value>>),
    /// Link contacts with a company (first), or take them off it (second).
    LinkCompany(BrevoCompanyId, BTreeSet<BrevoContactId>, BTreeSet<BrevoContactId>),
    /// Change an Intercom company, by path: a value sets, `None` clears.
    UpdateIntercomCompany(IntercomCompanyId, BTreeMap<String, Option<Value>>),
    /// Make an Intercom contact.
    CreateIntercomContact(NewIntercomContact),
    /// Change an Intercom contact.
    UpdateIntercomContact(IntercomContactId, IntercomChange),
    /// Bring an archived Intercom contact back.
    UnarchiveIntercomContact(IntercomContactId),
    /// Put a tag on an Intercom contact.
    TagContact(IntercomContactId, IntercomTagId),
    /// Take a tag off an Intercom contact.
    UntagContact(IntercomContactId, IntercomTagId),
    /// Make a tag in Intercom, or find the one that has this name in any case.
    CreateTag(String),
}

/// What a vendor said to a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Done. Nothing more was said (204).
    Done,
    /// A contact was made.
    ContactCreated(BrevoContactId),
    /// An Intercom contact as it is after it was made or changed, and the vendor's clock when it said so.
    IntercomContact(Box<IntercomContact>, Option<DateTime<Utc>>),
    /// A company was made in Brevo.
    CompanyCreated(BrevoCompanyId),
    /// A Brevo company as it is after it was changed, and the vendor's clock when it said so.
    BrevoCompany(Box<BrevoCompany>, Option<DateTime<Utc>>),
    /// An Intercom company as it is after it was changed, and the vendor's clock when it said so.
    IntercomCompany(Box<Company>, Option<DateTime<Utc>>),
    /// A tag of Intercom's was made, or found under its name.
    TagCreated(Tag),
    /// An import was queued; the vendor's clock when it answered.
    ImportStarted(ProcessId, Option<DateTime<Utc>>),
    /// A list was made.
    ListCreated(BrevoListId),
    /// Ids that are now on (or off) the list; and those that the vendor reports as failed.
    ListChanged {
        /// Accepted.
        done: Vec<BrevoContactId>,
        /// Refused.
        failed: Vec<BrevoContactId>,
    },
    /// Events were queued, but for these (index into the request, the vendor's words).
    EventsAccepted {
        /// Refused.
        failed: Vec<(usize, String)>,
    },
    /// This was answered of lists or a tag to a request that had been sent before, without an answer: that may still land, also
    /// after another that does the opposite.
    Again(Box<Answer>),
}

impl Answer {
    /// The answer, if an earlier attempt `may_land`.
    pub fn after_another(self, may_land: bool) -> Self {
        if may_land { Self::Again(Box::new(self)) } else { self }
    }

    /// What was answered, and whether an earlier attempt may still land.
    pub fn and_again(self) -> (Self, bool) {
        match self {
            Self::Again(answer) => (*answer, true),
            answer => (answer, false),
        }
    }
}
