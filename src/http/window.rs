//! One window of a budget: a sliding count of what we sent, and what the vendor says is left.

use crate::model::{Priority, share_of};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// So many requests in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Requests.
    pub limit: u64,
    /// Duration.
    pub per: Duration,
    /// `true`: the vendor's figure, which headers correct and of which we take a share. `false`: our own ceiling, which
    /// holds as it is.
    pub published: bool,
}

impl Window {
    /// A vendor's figure: where it begins, before any answer; headers correct it.
    pub const fn published(limit: u64, per: Duration) -> Self {
        Self { limit, per, published: true }
    }

    /// A ceiling of our own, which no header moves.
    pub const fn ceiling(limit: u64, per: Duration) -> Self {
        Self { limit, per, published: false }
    }
}

/// What an answer's headers say about the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Learned {
    /// Requests allowed in the window.
    pub limit: Option<u64>,
    /// Requests left in it.
    pub remaining: Option<u64>,
    /// Until the window starts anew.
    pub resets_in: Option<Duration>,
}

/// A limit beyond this is a misread header.
const LARGEST_LIMIT: u64 = 100_000_000;

/// Into how many slots a window's sliding count is cut: its memory is bounded whatever the limit.
const SLOTS: u32 = 50;

/// The shortest window over which what is left is spread.
const SHORTEST_TO_STRETCH: Duration = Duration::from_secs(10);

/// One window's state.
#[derive(Debug)]
pub(super) struct WindowState {
    pub(super) window: Window,
    /// Begin of a slot and how many requests went out in it.
    pub(super) sent: VecDeque<(Instant, u64)>,
    pub(super) sent_total: u64,
    /// What the vendor says is left, less what we sent since; and when that ceases to hold.
    pub(super) left: Option<(u64, Instant)>,
}

impl WindowState {
    pub(super) fn new(window: Window) -> Self {
        Self { window, sent: VecDeque::new(), sent_total: 0, left: None }
    }

    fn slot(&self) -> Duration {
        self.window.per / SLOTS
    }

    /// Forgets what has slid out, and rolls the vendor's window over.
    pub(super) fn advance(&mut self, now: Instant) {
        let keep = self.window.per + self.slot(); // a slot is out when its last request is
        while let Some(&(begin, count)) = self.sent.front() {
            if now.saturating_duration_since(begin) < keep {
                break;
            }
            self.sent_total -= count;
            self.sent.pop_front();
        }
        if let Some((_, until)) = self.left
            && until <= now
        {
            // A new window is taken as full until an answer says less; our own count bounds us meanwhile.
            self.left = Some((self.window.limit, now + self.window.per));
        }
    }

    fn usable(&self, share: f64) -> u64 {
        if !self.window.published {
            return self.window.limit.max(1);
        }
        share_of(self.window.limit, share).max(1)
    }

    /// What live work has for itself: a tenth, rounded up, unless there is only one.
    fn reserve(&self, share: f64) -> u64 {
        let usable = self.usable(share);
        if usable < 2 { 0 } else { usable.div_ceil(10) }
    }

    /// How far apart requests are when spread evenly.
    pub(super) fn gap(&self, share: f64, now: Instant) -> Duration {
        let usable = self.usable(share) - self.reserve(share);
        let even = self.window.per.div_f64(usable.max(1) as f64);
        match self.left {
            // Others use the budget too: what is left has to last. (In a short window it is over before that matters,
            // and resets in whole seconds are too coarse to reckon with.)
            Some((left, until)) if self.window.per >= SHORTEST_TO_STRETCH => {
                let others = self.window.limit - self.usable(share).min(self.window.limit);
                let ours = left.saturating_sub(others + self.reserve(share));
                even.max(until.saturating_duration_since(now).div_f64(ours.max(1) as f64).min(self.window.per))
            }
            _ => even,
        }
    }

    /// When the next request may go by this window alone; `None`: now.
    pub(super) fn free_at(&self, share: f64, priority: Priority) -> Option<Instant> {
        let reserve = match priority {
            Priority::Live => 0,
            Priority::Backfill => self.reserve(share),
        };
        let usable = self.usable(share);
        if let Some((left, until)) = self.left {
            let others = self.window.limit - usable.min(self.window.limit);
            // With a limit of one, "the others' share" would be all of it.
            if left <= (others + reserve).min(self.window.limit.saturating_sub(1)) {
                return Some(until);
            }
        }
        if self.sent_total < usable - reserve.min(usable - 1) {
            return None;
        }
        // The oldest slots that must slide out.
        let mut excess = self.sent_total - (usable - reserve.min(usable - 1)) + 1;
        for &(begin, count) in &self.sent {
            if excess <= count {
                return Some(begin + self.window.per + self.slot());
            }
            excess -= count;
        }
        None
    }

    pub(super) fn take(&mut self, now: Instant) {
        match self.sent.back_mut() {
            Some((begin, count)) if now.saturating_duration_since(*begin) < self.window.per / SLOTS => *count += 1,
            _ => self.sent.push_back((now, 1)),
        }
        self.sent_total += 1;
        if let Some((left, _)) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    pub(super) fn learn(&mut self, learned: Learned, now: Instant, others_under_way: u64) {
        if let Some(limit) = learned.limit.filter(|limit| (1..=LARGEST_LIMIT).contains(limit)) {
            self.window.limit = limit;
        }
        if let Some(remaining) = learned.remaining {
            let remaining = remaining.min(self.window.limit);
            let until = now + learned.resets_in.unwrap_or(self.window.per).min(self.window.per);
            self.left = Some(match self.left {
                // Ours already counts what is under way; the vendor's counts what others sent. Resets come in whole
                // seconds, rounded up: taken as they come they would push a one-second window ahead of us for ever.
                Some((left, earlier)) => (left.min(remaining), until.min(earlier)),
                None => (remaining.saturating_sub(others_under_way), until),
            });
        }
    }
}
