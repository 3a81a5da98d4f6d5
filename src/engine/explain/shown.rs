//! What `explain` shows, for programs as it is.

use crate::model::{OptOutReason, SideName, Sides, Value};
use crate::store::about::ImportShown;
use crate::store::listings::{Change, Conflict, Failure, NoticeRow};
use crate::store::{Result, Tx};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// All that the state knows about one person.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// When the state was looked at.
    pub as_of: DateTime<Utc>,
    /// The link; `None`: nobody on the other side is theirs.
    pub link: Option<i64>,
    /// The person's address.
    pub email: Option<String>,
    /// How they are doing, in words.
    pub standing: String,
    /// By what the two sides' records belong together, in words.
    pub matched: Option<String>,
    /// Their contacts in Intercom.
    pub intercom: Vec<SeenInIntercom>,
    /// Their contact in Brevo.
    pub brevo: Option<SeenInBrevo>,
    /// Brevo contacts that show the address and are not theirs.
    pub also_at_the_address: Vec<SeenInBrevo>,
    /// Until when each side's contacts have been read.
    pub read: Sides<Option<ReadUntil>>,
    /// One row a rule.
    pub fields: Vec<FieldShown>,
    /// May they be contacted?
    pub consent: ConsentShown,
    /// Their lists.
    pub lists: Vec<ListShown>,
    /// Lists that would be joined and left now, in words.
    pub lists_to_write: Vec<String>,
    /// What is still to happen, apart from what stands in a place of its own.
    pub waiting: Vec<Waiting>,
    /// Their latest events; those that wait first.
    pub events: Vec<EventShown>,
    /// The unfinished import that holds them.
    pub import: Option<ImportShown>,
    /// What was refused or left out about them.
    pub failures: Vec<Failure>,
    /// What people should know about them.
    pub notices: Vec<NoticeRow>,
    /// Values of theirs that were replaced, the newest first.
    pub conflicts: Vec<ConflictShown>,
    /// What we wrote, the newest first.
    pub changes: Vec<ChangeShown>,
    /// What cannot be said, and why.
    pub unknown: Vec<String>,
}

/// An Intercom contact as last observed.
#[derive(Debug, Clone, Serialize)]
pub struct SeenInIntercom {
    /// Its id.
    pub id: String,
    /// user, lead.
    pub role: String,
    /// It gives (and takes) the fields.
    pub primary: bool,
    /// there, archived, missing, deleted, merged.
    pub state: String,
    /// The survivor of a merge.
    pub merged_into: Option<String>,
    /// What a notice said: archived, deleted.
    pub said_gone: Option<String>,
    /// Its address.
    pub email: Option<String>,
    /// The customer's own id.
    pub external_id: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Intercom's record time of what we know.
    pub changed_at: DateTime<Utc>,
    /// What it says about consent.
    pub consent: OnOneSide,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its companies.
    pub companies: Vec<String>,
    /// How many conversations of theirs are known.
    pub conversations: usize,
}

/// A Brevo contact as last observed.
#[derive(Debug, Clone, Serialize)]
pub struct SeenInBrevo {
    /// Its id.
    pub id: i64,
    /// It is gone, and no more is kept of it.
    pub gone: bool,
    /// We made it, and have not read it since: what is shown is what we sent.
    pub not_read_yet: bool,
    /// Its address.
    pub email: Option<String>,
    /// The customer's own id.
    pub ext_id: Option<String>,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
    /// Brevo's record time of what we know.
    pub changed_at: Option<DateTime<Utc>>,
    /// What it says about consent.
    pub consent: Option<OnOneSide>,
    /// Lists that it is on.
    pub lists: Vec<String>,
    /// Lists that it unsubscribed from.
    pub lists_left: Vec<String>,
}

/// Until when a side's contacts have been read, by the vendor's clock.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ReadUntil {
    /// All changes until then.
    pub changes_until: DateTime<Utc>,
    /// When all of them were last read.
    pub in_full_at: Option<DateTime<Utc>>,
}

/// One rule.
#[derive(Debug, Clone, Serialize)]
pub struct FieldShown {
    /// The rule.
    pub rule: String,
    /// How it is doing: in step, to be written, on its way, refused, held back, not written, nothing yet.
    pub status: String,
    /// Intercom's value.
    pub intercom: Json,
    /// Brevo's values, by attribute.
    pub brevo: BTreeMap<String, Json>,
    /// What both sides agreed on, in each side's own terms; null: nothing yet.
    pub agreed: Option<Sides<Vec<Json>>>,
    /// What a side would not take.
    pub refused: Option<Sides<Option<Vec<Json>>>>,
    /// What is not sent because Brevo refuses it.
    pub held_back: Option<Vec<Json>>,
    /// Our write that no read has settled yet.
    pub in_flight: Sides<Option<FlightShown>>,
    /// What would be written to Brevo now, by attribute; null: cleared.
    pub write: BTreeMap<String, Json>,
    /// What would be written to Intercom now, by path; null: cleared.
    pub write_intercom: BTreeMap<String, Json>,
    /// Why, or why not.
    pub why: String,
    /// What was said when it was refused or left out.
    pub failure: Option<String>,
}

/// A write on its way.
#[derive(Debug, Clone, Serialize)]
pub struct FlightShown {
    /// What it sets.
    pub sent: Vec<Json>,
    /// What stood there before.
    pub before: Vec<Json>,
}

/// What one side says about contacting them.
#[derive(Debug, Clone, Serialize)]
pub struct OnOneSide {
    /// Reasons not to e-mail; empty: may be e-mailed.
    pub email: Vec<OptOutReason>,
    /// Opted out of SMS.
    pub sms_opted_out: bool,
}

/// May they be contacted?
#[derive(Debug, Clone, Serialize)]
pub struct ConsentShown {
    /// What follows from it, in words.
    pub words: Option<String>,
    /// The strictest of their contacts in Intercom.
    pub intercom: Option<OnOneSide>,
    /// Brevo.
    pub brevo: Option<OnOneSide>,
    /// Whether each side was opted out of e-mail when both last agreed.
    pub agreed: Option<Sides<bool>>,
    /// The same for SMS.
    pub agreed_sms: Option<Sides<bool>>,
    /// Opt-outs that webhooks told of.
    pub told: Vec<OptOutShown>,
    /// What became of Brevo's opt-out at each Intercom contact.
    pub carried: Vec<Carrying>,
}

/// An opt-out that a webhook told of.
#[derive(Debug, Clone, Serialize)]
pub struct OptOutShown {
    /// Whose webhook.
    pub side: SideName,
    /// Which contact there.
    pub contact: Option<String>,
    /// email, sms.
    pub channel: String,
    /// Why, where it says.
    pub reason: Option<OptOutReason>,
    /// The address at that time.
    pub email: Option<String>,
    /// Which webhook.
    pub notice: String,
    /// When, by the vendor's clock.
    pub at: DateTime<Utc>,
    /// The record time of a later read that shows it taken back.
    pub taken_back_at: Option<DateTime<Utc>>,
}

/// What became of Brevo's opt-out at one Intercom contact.
#[derive(Debug, Clone, Serialize)]
pub struct Carrying {
    /// Which contact.
    pub contact: String,
    /// It reached it, is on its way, or is to be sent.
    pub told: bool,
    /// When it is to be sent.
    pub due: Option<DateTime<Utc>>,
    /// It waits for `linkspan approve`.
    pub held: bool,
    /// It left without an answer, and may land until then.
    pub may_land_until: Option<DateTime<Utc>>,
    /// That the contact is opted out in Intercom is our doing.
    pub ours: bool,
    /// Refusals in a row.
    pub tries: u32,
}

/// A list.
#[derive(Debug, Clone, Serialize)]
pub struct ListShown {
    /// Its id.
    pub list: i64,
    /// Its name.
    pub name: Option<String>,
    /// The rules that put people on it; empty: none of ours.
    pub rules: Vec<String>,
    /// They are on it; null: there is no contact.
    pub member: Option<bool>,
    /// They unsubscribed from it.
    pub unsubscribed: bool,
    /// They were on it when both sides last agreed.
    pub agreed_member: Option<bool>,
    /// A rule wanted them on it then.
    pub wanted_then: Option<bool>,
    /// Joining (`true`) or leaving is on its way.
    pub in_flight: Option<bool>,
}

/// Something that is still to happen.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// What, in words.
    pub what: String,
    /// Not before.
    pub not_before: Option<DateTime<Utc>>,
    /// Failed tries so far.
    pub tries: Option<u32>,
}

impl Waiting {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), not_before: None, tries: None }
    }
}

/// An event of theirs.
#[derive(Debug, Clone, Serialize)]
pub struct EventShown {
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: Option<String>,
    /// waiting, sending (outcome unknown), sent, dead (given up).
    pub state: String,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// When Brevo took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// Failed tries.
    pub tries: u32,
    /// It is not sent before.
    pub not_before: Option<DateTime<Utc>>,
}

/// A value that another replaced.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictShown {
    /// When.
    pub at: DateTime<Utc>,
    /// Which field.
    pub field: String,
    /// On which side the replaced value stood.
    pub side: SideName,
    /// What was replaced.
    pub lost: Vec<Json>,
    /// By what.
    pub kept: Vec<Json>,
    /// Why.
    pub rule: String,
    /// The import that carried it.
    pub import: Option<i64>,
}

impl From<Conflict> for ConflictShown {
    fn from(conflict: Conflict) -> Self {
        let values = |cells: &str| match serde_json::from_str::<Vec<Option<Value>>>(cells) {
            Ok(cells) => cells.iter().map(|cell| cell.as_ref().map_or(Json::Null, Value::to_json)).collect(),
            Err(_) => vec![cells.into()],
        };
        Self {
            at: conflict.at,
            field: conflict.field,
            side: conflict.side,
            lost: values(&conflict.lost),
            kept: values(&conflict.kept),
            rule: conflict.rule,
            import: conflict.import,
        }
    }
}

/// A write of ours.
#[derive(Debug, Clone, Serialize)]
pub struct ChangeShown {
    /// When it was answered.
    pub at: DateTime<Utc>,
    /// What was done, in words.
    pub what: String,
    /// Rule → why.
    pub causes: BTreeMap<String, String>,
    /// The request that carried it.
    pub request: Option<String>,
    /// What was answered.
    pub answer: String,
    /// The import that carried it.
    pub import: Option<ImportShown>,
}

impl ChangeShown {
    pub(super) fn read(tx: &Tx<'_>, change: Change) -> Result<Self> {
        Ok(Self {
            at: change.at,
            what: change.what,
            causes: change.fields,
            request: change.request,
            answer: change.answer,
            import: change.import.map(|import| tx.import_shown(import)).transpose()?.flatten(),
        })
    }
}
