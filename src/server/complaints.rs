//! Log lines about refused requests: at most one of a kind in a while, else anybody could fill the log.

use crate::model::SideName;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long one line speaks for all of its kind.
const QUIET: TimeDelta = TimeDelta::seconds(10);

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Not signed, or not with our secret; or without it.
    Signature,
    /// Longer than any notification.
    TooLong,
    /// It did not arrive whole, or not in time.
    Incomplete,
    /// Signed, but no notification.
    Unreadable,
    /// Too many at once.
    Crowded,
    /// It could not be kept.
    NotKept,
}

impl Reason {
    /// The counter in the state.
    pub(super) fn counter(self, vendor: SideName) -> &'static str {
        match (vendor, self) {
            (SideName::Brevo, Self::Signature) => "brevo_webhook_refused_secret",
            (SideName::Brevo, Self::TooLong) => "brevo_webhook_refused_too_long",
            (SideName::Brevo, Self::Incomplete) => "brevo_webhook_refused_incomplete",
            (SideName::Brevo, Self::Unreadable) => "brevo_webhook_refused_unreadable",
            (SideName::Brevo, Self::Crowded) => "brevo_webhook_refused_crowded",
            (SideName::Brevo, Self::NotKept) => "brevo_webhook_refused_not_kept",
            (SideName::Intercom, Self::Signature) => "webhook_refused_signature",
            (SideName::Intercom, Self::TooLong) => "webhook_refused_too_long",
            (SideName::Intercom, Self::Incomplete) => "webhook_refused_incomplete",
            (SideName::Intercom, Self::Unreadable) => "webhook_refused_unreadable",
            (SideName::Intercom, Self::Crowded) => "webhook_refused_crowded",
            (SideName::Intercom, Self::NotKept) => "webhook_refused_not_kept",
        }
    }
}

/// Refused requests that nobody was told of yet.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<(SideName, Reason), Kind>>);

#[derive(Debug, Default)]
struct Kind {
    last: Option<DateTime<Utc>>,
    untold: u64,
}

impl Complaints {
    /// Counts one; how many to tell of now, if it is time to.
    pub(super) fn count(&self, vendor: SideName, reason: Reason, now: DateTime<Utc>) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry((vendor, reason)).or_default();
        kind.untold += 1;
        // A clock that was set back does not silence it.
        let quiet = kind.last.is_some_and(|last| last <= now && now - last < QUIET);
        if quiet {
            return None;
        }
        kind.last = Some(now);
        Some(std::mem::take(&mut kind.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_speaks_for_all_of_its_kind() {
        let complaints = Complaints::default();
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(complaints.count(SideName::Brevo, Reason::Signature, start), Some(1));
        assert_eq!(complaints.count(SideName::Brevo, Reason::Signature, start), None);
        assert_eq!(complaints.count(SideName::Brevo, Reason::Signature, start + TimeDelta::seconds(9)), None);
        assert_eq!(complaints.count(SideName::Brevo, Reason::TooLong, start), Some(1), "each kind by itself");
        assert_eq!(
            complaints.count(SideName::Brevo, Reason::Signature, start + TimeDelta::seconds(10)),
            Some(3),
            "none is forgotten"
        );
        assert_eq!(complaints.count(SideName::Brevo, Reason::Signature, start), Some(1), "the clock was set back");
    }
}
