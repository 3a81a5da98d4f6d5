//! An opt-in that travels to the other side: the only thing of ours that ever loosens, and only with proof.

use crate::model::{OptIn, OptOutReason};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What is known of an opt-out that an opt-in on the other side may lift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResubscribeViews<'a> {
    /// Somebody of the address is opted out where the opt-in was given.
    pub opted_out_there: bool,
    /// Since when the opt-in was given: until then an opt-out was still seen there.
    pub opted_in_after: Option<DateTime<Utc>>,
    /// Why the record that is to be loosened says no.
    pub reasons: &'a BTreeSet<OptOutReason>,
    /// It has said so since then at the latest: nothing about it has changed since.
    pub opted_out_by: Option<DateTime<Utc>>,
}

/// The opt-in, if it may be carried across.
pub fn decide(views: ResubscribeViews<'_>) -> Option<OptIn> {
    let ResubscribeViews { opted_out_there, opted_in_after, reasons, opted_out_by } = views;
    // An address that bounces, or somebody who complained, is not a matter of what they want now.
    let theirs = |reason: &OptOutReason| matches!(reason, OptOutReason::Unsubscribed | OptOutReason::Blocklisted);
    if opted_out_there || reasons.is_empty() || !reasons.iter().all(theirs) {
        return None;
    }
    OptIn::prove(opted_out_by?, opted_in_after?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::<Utc>::default() + TimeDelta::seconds(second)
    }

    fn reasons(all: &[OptOutReason]) -> BTreeSet<OptOutReason> {
        all.iter().copied().collect()
    }

    fn views(reasons: &BTreeSet<OptOutReason>, out: i64, back: i64) -> ResubscribeViews<'_> {
        ResubscribeViews {
            opted_out_there: false,
            opted_in_after: Some(at(back)),
            reasons,
            opted_out_by: Some(at(out)),
        }
    }

    #[test]
    fn only_a_newer_opt_in_of_somebody_who_had_opted_out_is_carried() {
        use OptOutReason::{Blocklisted, HardBounced, Spam, Unsubscribed};
        let theirs = reasons(&[Unsubscribed, Blocklisted]);
        assert!(decide(views(&theirs, 0, 3_600)).is_some());
        assert!(decide(views(&theirs, 3_600, 0)).is_none(), "the opt-out is newer");
        assert!(decide(views(&theirs, 0, 30)).is_none(), "two vendors' clocks do not tell");
        assert!(decide(ResubscribeViews { opted_in_after: None, ..views(&theirs, 0, 0) }).is_none());
        assert!(decide(ResubscribeViews { opted_out_by: None, ..views(&theirs, 0, 3_600) }).is_none());
        assert!(decide(ResubscribeViews { opted_out_there: true, ..views(&theirs, 0, 3_600) }).is_none());
        for other in [HardBounced, Spam] {
            assert!(decide(views(&reasons(&[Unsubscribed, other]), 0, 3_600)).is_none());
        }
        assert!(decide(views(&reasons(&[]), 0, 3_600)).is_none(), "there is nothing to lift");
    }

    proptest! {
        /// Whatever is known: nothing is ever lifted by an opt-in that is not newer, and what is lifted says so.
        #[test]
        fn never_without_proof(
            out in proptest::option::of(-100_000_i64..100_000), back in proptest::option::of(-100_000_i64..100_000),
            there: bool, unsubscribed: bool, spam: bool,
        ) {
            let mut all = BTreeSet::new();
            if unsubscribed { all.insert(OptOutReason::Unsubscribed); }
            if spam { all.insert(OptOutReason::Spam); }
            let proof = decide(ResubscribeViews {
                opted_out_there: there, opted_in_after: back.map(at), reasons: &all, opted_out_by: out.map(at),
            });
            if proof.is_some() {
                prop_assert!(!there && unsubscribed && !spam);
                prop_assert!(out.unwrap() + 60 <= back.unwrap());
            }
        }
    }
}
