//! When a value changed, as far as can be known.
//!
//! Neither vendor dates its fields. What can be known is an interval: the change happened after the last observation
//! that did not show it, and at or before the first that does. Two intervals that overlap say nothing about which change
//! came first.

use chrono::{DateTime, TimeDelta, Utc};

/// When a change happened: after the one instant, at or before the other. Both are the vendor's: our clock may be minutes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Until then it had not been made; `None`: nobody knows.
    pub after: Option<DateTime<Utc>>,
    /// The latest that it can have been.
    pub until: DateTime<Utc>,
}

impl Span {
    /// Of a change that a record shows. `shown_until`: all that had changed until then had been shown before. The record's
    /// time moves with more than edits of this field, writes of ours among them, so it is never earlier than the change.
    pub fn shown_by(record_time: DateTime<Utc>, shown_until: Option<DateTime<Utc>>) -> Self {
        // Record times are written in whole seconds, cut off: the change may have come until the next one.
        let until = record_time + TimeDelta::milliseconds(999);
        // A clock that ran backwards tells nothing.
        Self { after: shown_until.filter(|after| *after <= until), until }
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

    #[test]
    fn a_change_lies_between_what_was_shown_before_and_the_records_time() {
        let span = Span::shown_by(at(150), Some(at(100)));
        assert_eq!((span.after, span.until), (Some(at(100)), at(150) + TimeDelta::milliseconds(999)));
        assert_eq!(Span::shown_by(at(150), None).after, None);
        assert_eq!(Span::shown_by(at(200), Some(at(300))).after, None, "a clock that ran backwards");
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
