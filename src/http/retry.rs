//! When a request is sent again: a policy, a budget that keeps an outage from doubling the load, and a breaker that
//! keeps a dead API quiet.

use super::Effect;
use crate::doors::Rng;
use crate::model::{ErrorKind, Priority, SideError};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often, and how far apart.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all for live work: it is queued durably anyway, and others wait behind it.
    pub live_attempts: u32,
    /// Attempts in all for backfill.
    pub backfill_attempts: u32,
    /// The first delay's ceiling; it doubles. The delay is drawn evenly from nothing to the ceiling.
    pub first_delay: Duration,
    /// The highest ceiling.
    pub longest_delay: Duration,
    /// What the retry budget holds when full: so many retries may go out of which none helps.
    pub budget: u32,
    /// How many successes pay for one retry.
    pub successes_per_retry: u32,
    /// Failures in a row that open the breaker.
    pub breaker_after: u32,
    /// How long it stays open the first time; it doubles up to the longest.
    pub breaker_open: Duration,
    /// How long it stays open at most.
    pub breaker_longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            live_attempts: 4,
            backfill_attempts: 6,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            budget: 20,
            successes_per_retry: 5,
            breaker_after: 10,
            breaker_open: Duration::from_secs(5),
            breaker_longest: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// Attempts in all.
    pub fn attempts(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Live => self.live_attempts.max(1),
            Priority::Backfill => self.backfill_attempts.max(1),
        }
    }

    /// The ceilings of the delays, without jitter: that comes from the Rng door, so that a seed replays it.
    pub(super) fn ceilings(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.first_delay)
            .with_max_delay(self.longest_delay)
            .without_max_times()
            .build()
    }
}

/// A delay drawn evenly below its ceiling ("full jitter").
pub(super) fn jittered(ceiling: Duration, rng: &dyn Rng) -> Duration {
    ceiling.mul_f64(rng.unit().clamp(0.0, 1.0))
}

/// Whether sending the same request again can help and cannot harm.
pub(super) fn may_resend(error: &SideError, effect: Effect) -> bool {
    match error.kind {
        ErrorKind::Unavailable | ErrorKind::Throttled => true,
        // Unreadable once is often a proxy's passing page; a write that was answered so has perhaps been done.
        ErrorKind::Malformed => effect == Effect::Read,
        ErrorKind::Ambiguous => !matches!(effect, Effect::LoosensOnce | Effect::Creates | Effect::CreatesPerson),
        _ => false,
    }
}

/// What an attempt says about the API's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, if only to refuse.
    Alive,
    /// It did not, or not sensibly.
    Dead,
    /// Throttling says nothing.
    Unsaid,
}

impl Health {
    pub(super) fn of(outcome: Result<(), &SideError>) -> Self {
        match outcome.map_err(|error| &error.kind) {
            Err(ErrorKind::Throttled) => Self::Unsaid,
            Err(ErrorKind::Unavailable | ErrorKind::Ambiguous | ErrorKind::Malformed) => Self::Dead,
            _ => Self::Alive,
        }
    }
}

#[derive(Debug)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Instant, times: u32 },
    HalfOpen { times: u32 },
}

#[derive(Debug)]
struct State {
    /// In units of one success.
    tokens: u32,
    breaker: Breaker,
}

/// The retry budget and the breaker of one side.
#[derive(Debug)]
pub(super) struct Guard {
    policy: RetryPolicy,
    state: Mutex<State>,
}

/// Leave to try once. If it is dropped without a word (the caller was cancelled), a probe counts as not made.
#[derive(Debug)]
pub(super) struct Leave<'a> {
    guard: &'a Guard,
    probe: bool,
}

impl Guard {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        let tokens = policy.budget.saturating_mul(policy.successes_per_retry.max(1));
        Self { policy, state: Mutex::new(State { tokens, breaker: Breaker::Closed { failures: 0 } }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to try, or how long the API is left alone.
    pub(super) fn leave(&self) -> Result<Leave<'_>, Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        match state.breaker {
            Breaker::Closed { .. } => Ok(Leave { guard: self, probe: false }),
            Breaker::Open { until, times } if until <= now => {
                state.breaker = Breaker::HalfOpen { times };
                Ok(Leave { guard: self, probe: true })
            }
            Breaker::Open { until, .. } => Err(until - now),
            // One probe at a time; its outcome decides for all.
            Breaker::HalfOpen { .. } => Err(self.policy.breaker_open),
        }
    }

    /// Pays for a retry; `false` when the budget is spent.
    pub(super) fn pay(&self) -> bool {
        let mut state = self.lock();
        match state.tokens.checked_sub(self.policy.successes_per_retry.max(1)) {
            Some(left) => {
                state.tokens = left;
                true
            }
            None => false,
        }
    }

    fn open(&self, times: u32) -> Breaker {
        let pause = self.policy.breaker_open.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
        Breaker::Open { until: Instant::now() + pause.min(self.policy.breaker_longest), times: times.saturating_add(1) }
    }
}

impl Leave<'_> {
    /// Says how it went.
    pub(super) fn report(mut self, health: Health) {
        let guard = self.guard;
        let probe = std::mem::replace(&mut self.probe, false);
        let mut state = guard.lock();
        match health {
            Health::Alive => {
                let full = guard.policy.budget.saturating_mul(guard.policy.successes_per_retry.max(1));
                state.tokens = state.tokens.saturating_add(1).min(full);
                if probe || matches!(state.breaker, Breaker::Closed { .. }) {
                    state.breaker = Breaker::Closed { failures: 0 };
                }
            }
            Health::Dead => match state.breaker {
                Breaker::HalfOpen { times } if probe => state.breaker = guard.open(times),
                Breaker::Closed { failures } if failures + 1 >= guard.policy.breaker_after.max(1) => {
                    state.breaker = guard.open(0);
                }
                Breaker::Closed { failures } => state.breaker = Breaker::Closed { failures: failures + 1 },
                // Stragglers that left before it opened say nothing new.
                Breaker::Open { .. } | Breaker::HalfOpen { .. } => {}
            },
            // "Too many requests" is a sign of life.
            Health::Unsaid if probe => state.breaker = Breaker::Closed { failures: 0 },
            Health::Unsaid => {}
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.probe {
            let mut state = self.guard.lock();
            if let Breaker::HalfOpen { times } = state.breaker {
                state.breaker = Breaker::Open { until: Instant::now(), times };
            }
        }
    }
}
