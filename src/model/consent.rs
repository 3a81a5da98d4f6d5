//! Whether a person may be contacted, and why not.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why a person may not be e-mailed. Kept for people to read, never compared between the vendors: what is compared is
/// one bit, may be contacted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptOutReason {
    /// The person unsubscribed (Intercom `unsubscribed_from_emails`, webhook `contact.unsubscribed`).
    Unsubscribed,
    /// A mail came back for good (Intercom `has_hard_bounced`).
    HardBounced,
    /// The person marked a mail as spam (Intercom `marked_email_as_spam`).
    Spam,
    /// Brevo's `emailBlacklisted`, which does not say why.
    Blocklisted,
}

/// What one side says about contacting a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Reasons not to e-mail; empty means the person may be e-mailed.
    pub email_opt_outs: BTreeSet<OptOutReason>,
    /// Opted out of SMS.
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
