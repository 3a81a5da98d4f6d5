//! Whether a person may be contacted, and why not.

use chrono::{DateTime, TimeDelta, Utc};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why a person may not be e-mailed. Kept for people to read, never compared between the vendors: what is compared is
/// one bit, may be contacted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum OptOutReason {
    /// The person unsubscribed (Intercom `unsubscribed_from_emails`, webhook `contact.unsubscribed`).
    #[n(0)]
    Unsubscribed,
    /// A mail came back for good (Intercom `has_hard_bounced`).
    #[n(1)]
    HardBounced,
    /// The person marked a mail as spam (Intercom `marked_email_as_spam`).
    #[n(2)]
    Spam,
    /// Brevo's `emailBlacklisted`, which does not say why.
    #[n(3)]
    Blocklisted,
}

/// Two vendors' clocks may differ by as much, and nobody will notice.
const CLOCKS: TimeDelta = TimeDelta::minutes(1);

/// Somebody has opted in after they had opted out elsewhere. The only way to ask for a write that loosens: there is no such
/// value without the two times, in this order, and only one rule makes any (`reconcile::resubscribe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptIn {
    opted_out_by: DateTime<Utc>,
    opted_in_after: DateTime<Utc>,
}

impl OptIn {
    /// The proof: the opt-out was made at that time at the latest, the opt-in after this one.
    pub fn prove(opted_out_by: DateTime<Utc>, opted_in_after: DateTime<Utc>) -> Option<Self> {
        let newer = opted_in_after.signed_duration_since(opted_out_by) >= CLOCKS;
        newer.then_some(Self { opted_out_by, opted_in_after })
    }
}

/// What one side says about contacting a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Consent {
    /// Reasons not to e-mail; empty means the person may be e-mailed.
    #[n(0)]
    pub email_opt_outs: BTreeSet<OptOutReason>,
    /// Opted out of SMS.
    #[n(1)]
    pub sms_opted_out: bool,
}

impl Consent {
    /// May not be e-mailed.
    pub fn email_opted_out(&self) -> bool {
        !self.email_opt_outs.is_empty()
    }

    /// The stricter of both, per channel.
    pub fn stricter(&self, other: &Self) -> Self {
        Self {
            email_opt_outs: self.email_opt_outs.union(&other.email_opt_outs).copied().collect(),
            sms_opted_out: self.sms_opted_out || other.sms_opted_out,
        }
    }
}
