//! Membership of one Brevo list, as a three-way merge.
//!
//! Nobody is put back on a list they left (`listUnsubscribed`), nor on one that somebody took them off: list
//! automations mail people, and not mailing is the smaller harm (docs/decisions/0005).

use minicbor::{Decode, Encode};

/// What was agreed on for one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ListBase {
    /// A rule wanted the person on it.
    #[n(0)]
    pub wanted: bool,
    /// The person was on it.
    #[n(1)]
    pub member: bool,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListViews {
    /// A rule wants the person on it now.
    pub wanted: bool,
    /// The person is on it; `None` when there is no contact yet.
    pub member: Option<bool>,
    /// The person left it (`listUnsubscribed`).
    pub left: bool,
    /// What was agreed on last.
    pub base: Option<ListBase>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListStep {
    /// Nothing; remember this.
    Remember(ListBase),
    /// Put on it; once accepted, remember this.
    Join(ListBase),
    /// Take off it; once accepted, remember this.
    Leave(ListBase),
    /// Wanted, but they left or were taken off: not put back, listed. Remember this.
    KeptOff(ListBase),
}

/// Decides about one list.
pub fn decide(views: ListViews) -> ListStep {
    let ListViews { wanted, member, left, base } = views;
    let shown = member.unwrap_or(false);
    let was_wanted = base.is_some_and(|base| base.wanted);
    let remembered = ListBase { wanted, member: shown };
    match (wanted, shown) {
        // They left; or they were wanted before already and are not on it now: a person or the vendor took them off.
        (true, false) if left || was_wanted => ListStep::KeptOff(remembered),
        (true, false) => ListStep::Join(ListBase { wanted, member: true }),
        // No longer wanted, and it was a rule that had put (or found) them there.
        (false, true) if was_wanted => ListStep::Leave(ListBase { wanted, member: false }),
        (true, true) | (false, _) => ListStep::Remember(remembered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(wanted: bool, member: Option<bool>, left: bool, base: Option<(bool, bool)>) -> ListViews {
        ListViews { wanted, member, left, base: base.map(|(wanted, member)| ListBase { wanted, member }) }
    }

    #[test]
    fn a_lead_that_signs_up_moves() {
        assert!(matches!(decide(views(false, Some(true), false, Some((true, true)))), ListStep::Leave(_)));
        assert!(matches!(decide(views(true, Some(false), false, Some((false, false)))), ListStep::Join(_)));
    }

    #[test]
    fn nobody_is_put_back() {
        assert!(matches!(decide(views(true, Some(false), true, None)), ListStep::KeptOff(_)));
        let taken_off = decide(views(true, Some(false), false, Some((true, true))));
        let ListStep::KeptOff(base) = taken_off else { panic!("{taken_off:?}") };
        let later = decide(ListViews { base: Some(base), ..views(true, Some(false), false, None) });
        assert!(matches!(later, ListStep::KeptOff(_)), "not at the next cycle either");
    }

    #[test]
    fn a_reason_that_comes_back_puts_them_on_again_unless_they_left() {
        assert!(matches!(decide(views(true, Some(false), false, Some((false, false)))), ListStep::Join(_)));
        assert!(matches!(decide(views(true, Some(false), true, Some((false, false)))), ListStep::KeptOff(_)));
    }

    #[test]
    fn members_that_no_rule_put_there_stay() {
        assert!(matches!(decide(views(false, Some(true), false, None)), ListStep::Remember(_)));
        assert!(matches!(decide(views(false, Some(true), false, Some((false, true)))), ListStep::Remember(_)));
    }

    #[test]
    fn every_step_settles() {
        for wanted in [false, true] {
            for member in [None, Some(false), Some(true)] {
                for left in [false, true] {
                    for base in
                        [None, Some((false, false)), Some((false, true)), Some((true, false)), Some((true, true))]
                    {
                        let (base, member) = match decide(views(wanted, member, left, base)) {
                            ListStep::Remember(base) | ListStep::KeptOff(base) => (base, member.unwrap_or(false)),
                            ListStep::Join(base) => (base, true),
                            ListStep::Leave(base) => (base, false),
                        };
                        let again = decide(ListViews { wanted, member: Some(member), left, base: Some(base) });
                        assert!(matches!(again, ListStep::Remember(_) | ListStep::KeptOff(_)), "{again:?}");
                    }
                }
            }
        }
    }
}
