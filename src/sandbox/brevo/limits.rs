//! The published rate limits: contacts and POST /events have 10 requests a second and 36,000 an hour each, everything
//! else shares 100 an hour.

use super::BrevoKnobs;
use chrono::{DateTime, Utc};

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Contacts,
    Events,
    Other,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    start: i64,
    used: u32,
}

impl Window {
    /// Room left and milliseconds until it is full again.
    fn room(&mut self, now: i64, length: i64, limit: u32) -> (u32, i64) {
        if now >= self.start + length || now < self.start {
            *self = Self { start: now, used: 0 };
        }
        (limit.saturating_sub(self.used), self.start + length - now)
    }
}

/// What the headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Seconds that remain, not a point in time.
    pub(super) reset: i64,
    pub(super) allowed: bool,
}

/// How much of each window is used.
#[derive(Debug, Default)]
pub(super) struct Limits {
    second: [Window; 2],
    hour: [Window; 3],
}

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600_000;

impl Limits {
    /// Takes one request out of its family's windows. Refused requests do not count.
    pub(super) fn take(&mut self, family: Family, now: DateTime<Utc>, knobs: &BrevoKnobs) -> Option<Budget> {
        if knobs.common.unlimited {
            return None;
        }
        let now = now.timestamp_millis();
        let (index, per_second, per_hour) = match family {
            Family::Contacts => (0, Some(knobs.per_second.or(knobs.common.rate_limit).unwrap_or(10)), 36_000),
            Family::Events => (1, Some(knobs.per_second.or(knobs.common.rate_limit).unwrap_or(10)), 36_000),
            Family::Other => (2, None, knobs.per_hour.or(knobs.common.rate_limit).unwrap_or(100)),
        };
        let hour = self.hour.get_mut(index)?;
        let (hour_room, hour_left) = hour.room(now, HOUR, per_hour);
        let second = self.second.get_mut(index);
        let (limit, room, left) = match (per_second, second) {
            (Some(limit), Some(second)) if hour_room > 0 => {
                let (room, left) = second.room(now, SECOND, limit);
                second.used += u32::from(room > 0);
                (limit, room, left)
            }
            _ => (per_hour, hour_room, hour_left),
        };
        let allowed = room > 0;
        hour.used += u32::from(allowed);
        Some(Budget { limit, remaining: room.saturating_sub(1), reset: (left + 999) / 1_000, allowed })
    }
}
