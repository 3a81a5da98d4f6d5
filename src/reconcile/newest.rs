//! When a value changed, as far as can be known.
//!
//! Neither vendor dates its fields. What can be known is an interval: the change happened after the last observation
//! that did not show it, and at or before the first that does. Two intervals that overlap say nothing about which change
//! came first.

use chrono::{DateTime, TimeDelta, Utc};

/// One look at a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The vendor's clock when it answered.
    pub at: DateTime<Utc>,
    /// The record's own time, unless a write of ours has moved it: then it says nothing about when people edited.
    pub record_time: Option<DateTime<Utc>>,
}

/// When a change happened: after the one instant, at or before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The last look that did not show it; `None`: there was none.
    pub after: Option<DateTime<Utc>>,
    /// The latest that it can have been.
    pub until: DateTime<Utc>,
}

impl Span {
    /// Of a change between two looks. The record's time moves with more than edits of this field, so it is never
    /// earlier than the change; and where no later look moved it, it is earlier than the look.
    pub fn between(without: Option<Look>, with: Look) -> Self {
        // Record times are written in whole seconds, cut off: the change may have come until the next one.
        let by_record = with.record_time.map(|time| time + TimeDelta::milliseconds(999));
        let until = by_record.map_or(with.at, |time| time.min(with.at));
        let after = without.map(|look| look.at);
        // A clock that ran backwards tells nothing.
        Self { after: after.filter(|after| *after <= until), until }
    }

    /// Of the latest of several changes that were not told apart: the first began it, the last ended it.
    #[must_use]
    pub fn joined(self, later: Self) -> Self {
        let after = self.after.zip(later.after).map(|(one, other)| one.min(other));
        Self { after, until: self.until.max(later.until) }
    }

    /// Whether it is certain that this one came after that one.
    pub fn is_later_than(&self, earlier: &Self) -> bool {
        self.after.is_some_and(|after| after >= earlier.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn look(seconds: i64, record: Option<i64>) -> Look {
        Look { at: at(seconds), record_time: record.map(at) }
    }

    #[test]
    fn a_record_time_narrows_the_interval_unless_we_moved_it() {
        let narrow = Span::between(Some(look(100, None)), look(200, Some(150)));
        assert_eq!((narrow.after, narrow.until), (Some(at(100)), at(150) + TimeDelta::milliseconds(999)));
        assert_eq!(Span::between(Some(look(100, None)), look(200, None)).until, at(200));
        assert_eq!(Span::between(None, look(200, Some(150))).after, None);
        assert_eq!(Span::between(Some(look(300, None)), look(200, None)).after, None, "a clock that ran backwards");
    }

    #[test]
    fn only_what_does_not_overlap_is_later() {
        let early = Span { after: Some(at(1)), until: at(5) };
        let late = Span { after: Some(at(5)), until: at(9) };
        assert!(late.is_later_than(&early) && !early.is_later_than(&late));
        let across = Span { after: Some(at(4)), until: at(9) };
        assert!(!across.is_later_than(&early) && !early.is_later_than(&across));
        let unknown = Span { after: None, until: at(9) };
        assert!(!unknown.is_later_than(&early));
        assert_eq!(early.joined(late), Span { after: Some(at(1)), until: at(9) });
        assert_eq!(early.joined(unknown).after, None);
    }
}
