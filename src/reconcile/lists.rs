//! Membership of one Brevo list, as a three-way merge with what Intercom says about it: that a rule wants the person on
//! it, or that they carry the tag that goes with it. Two bits that have changed on both sides since they agreed agree
//! again, so nothing is needed to settle a conflict: only sides that never agreed can contradict each other.
//!
//! Nobody is put back on a list they left (`listUnsubscribed`), nor on one that somebody took them off: list
//! automations mail people, and not mailing is the smaller harm (docs/decisions/0005).

use minicbor::{Decode, Encode};

/// What was agreed on for one list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct ListBase {
    /// A rule wanted the person on it.
    #[n(0)]
    pub wanted: bool,
    /// The person was on it.
    #[n(1)]
    pub member: bool,
}

/// Which side's memberships the other follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Follows {
    /// The list follows the rule: a tag, a role, a condition.
    #[default]
    List,
    /// The tag follows the list.
    Tag,
    /// Each follows the other.
    Both,
}

/// All that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListViews {
    /// Which follows which.
    pub follows: Follows,
    /// A rule wants the person on it now: in Intercom, they carry the tag.
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
    /// Give the tag in Intercom; once accepted, remember this.
    Tag(ListBase),
    /// Take the tag away in Intercom; once accepted, remember this.
    Untag(ListBase),
}

/// Decides about one list.
pub fn decide(views: ListViews) -> ListStep {
    let ListViews { follows, wanted, member, left, base } = views;
    let shown = member.unwrap_or(false);
    let remembered = ListBase { wanted, member: shown };
    if wanted == shown {
        return ListStep::Remember(remembered);
    }
    let before = base.unwrap_or_default();
    let (list_follows, tag_follows) = (follows != Follows::Tag, follows != Follows::List);
    if wanted {
        if tag_follows && before.member && member.is_some() {
            // They were taken off, or left: that travels.
            ListStep::Untag(ListBase { wanted: false, member: shown })
        } else if !list_follows {
            ListStep::Remember(remembered)
        } else if left || before.wanted {
            // They left; or they were wanted before already and are not on it now: a person or the vendor took them off.
            ListStep::KeptOff(remembered)
        } else {
            ListStep::Join(ListBase { wanted, member: true })
        }
    } else if list_follows && before.wanted {
        // No longer wanted, and it was a rule that had put (or found) them there. (Where somebody else put them on it
        // meanwhile, off is the smaller harm.)
        ListStep::Leave(ListBase { wanted, member: false })
    } else if !tag_follows || before.member {
        // Nobody's rule; or a tag that somebody took away, which is not given again.
        ListStep::Remember(remembered)
    } else {
        ListStep::Tag(ListBase { wanted: true, member: shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(wanted: bool, member: Option<bool>, left: bool, base: Option<(bool, bool)>) -> ListViews {
        ListViews {
            follows: Follows::List,
            wanted,
            member,
            left,
            base: base.map(|(wanted, member)| ListBase { wanted, member }),
        }
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

    fn both(wanted: bool, member: bool, left: bool, base: Option<(bool, bool)>) -> ListStep {
        decide(ListViews { follows: Follows::Both, ..views(wanted, Some(member), left, base) })
    }

    #[test]
    fn a_tag_and_a_list_follow_each_other() {
        let agreed = Some((false, false));
        assert!(matches!(both(true, false, false, agreed), ListStep::Join(_)));
        assert!(matches!(both(false, true, false, agreed), ListStep::Tag(_)));
        let agreed = Some((true, true));
        assert!(matches!(both(false, true, false, agreed), ListStep::Leave(_)));
        assert!(matches!(both(true, false, false, agreed), ListStep::Untag(_)), "being taken off travels");
        assert!(matches!(both(true, false, true, agreed), ListStep::Untag(_)), "so does leaving");
        for (wanted, member) in [(true, true), (false, false)] {
            assert!(matches!(both(wanted, member, false, agreed), ListStep::Remember(_)));
        }
    }

    #[test]
    fn at_the_first_link_whoever_has_one_gets_the_other_unless_they_left() {
        assert!(matches!(both(true, false, false, None), ListStep::Join(_)));
        assert!(matches!(both(false, true, false, None), ListStep::Tag(_)));
        let ListStep::KeptOff(base) = both(true, false, true, None) else { panic!("put back") };
        assert!(matches!(both(true, false, true, Some((base.wanted, base.member))), ListStep::KeptOff(_)));
        // A colleague takes the tag away and another puts them on the list.
        assert!(matches!(both(false, true, false, Some((true, false))), ListStep::Leave(_)));
    }

    #[test]
    fn a_tag_that_follows_its_list_moves_nobody_on_the_list() {
        for wanted in [false, true] {
            for member in [None, Some(false), Some(true)] {
                for base in [None, Some((false, false)), Some((false, true)), Some((true, false)), Some((true, true))] {
                    let step = decide(ListViews { follows: Follows::Tag, ..views(wanted, member, false, base) });
                    assert!(!matches!(step, ListStep::Join(_) | ListStep::Leave(_) | ListStep::KeptOff(_)), "{step:?}");
                }
            }
        }
        let follow =
            |wanted, member, base| decide(ListViews { follows: Follows::Tag, ..views(wanted, member, false, base) });
        assert!(matches!(follow(false, Some(true), None), ListStep::Tag(_)));
        assert!(matches!(follow(true, Some(false), Some((true, true))), ListStep::Untag(_)));
        assert!(matches!(follow(false, Some(true), Some((true, true))), ListStep::Remember(_)), "taken away by hand");
        assert!(
            matches!(follow(true, None, Some((true, true))), ListStep::Remember(_)),
            "a contact that is gone left no list"
        );
    }

    #[test]
    fn nobody_is_ever_put_back_on_a_list_they_left() {
        for follows in [Follows::List, Follows::Tag, Follows::Both] {
            for wanted in [false, true] {
                for member in [None, Some(false), Some(true)] {
                    for base in
                        [None, Some((false, false)), Some((false, true)), Some((true, false)), Some((true, true))]
                    {
                        let step = decide(ListViews { follows, ..views(wanted, member, true, base) });
                        assert!(!matches!(step, ListStep::Join(_)), "{follows:?} {wanted} {member:?} {base:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_step_settles() {
        let bases = [None, Some((false, false)), Some((false, true)), Some((true, false)), Some((true, true))];
        for follows in [Follows::List, Follows::Tag, Follows::Both] {
            for wanted in [false, true] {
                for member in [None, Some(false), Some(true)] {
                    for left in [false, true] {
                        for base in bases {
                            let first = ListViews { follows, ..views(wanted, member, left, base) };
                            let (base, wanted, member) = match decide(first) {
                                ListStep::Remember(base) | ListStep::KeptOff(base) => {
                                    (base, wanted, member.unwrap_or(false))
                                }
                                ListStep::Join(base) => (base, wanted, true),
                                ListStep::Leave(base) => (base, wanted, false),
                                ListStep::Tag(base) => (base, true, member.unwrap_or(false)),
                                ListStep::Untag(base) => (base, false, member.unwrap_or(false)),
                            };
                            assert_eq!((base.wanted, base.member), (wanted, member), "base is what stands there");
                            let again =
                                decide(ListViews { follows, wanted, member: Some(member), left, base: Some(base) });
                            assert!(
                                matches!(again, ListStep::Remember(_) | ListStep::KeptOff(_)),
                                "{first:?} and then {again:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
