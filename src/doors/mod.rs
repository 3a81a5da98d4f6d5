//! What the program is handed from outside, so that a run can be replayed: wall time, randomness, and named places to
//! crash at. (The network's door is [`crate::http::Transport`], the database's is how [`crate::store::Store`] is called.)
//!
//! Monotonic time and sleeping are tokio's, which tests pause.

use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, PoisonError};

/// Wall time.
pub trait Clock: Send + Sync + 'static {
    /// Now, by our own clock. Never compared with a vendor's instants: those come from `Date` headers.
    fn now(&self) -> DateTime<Utc>;
}

/// Randomness, for jitter and ids.
pub trait Rng: Send + Sync + 'static {
    /// Sixty-four random bits.
    fn next_u64(&self) -> u64;

    /// A float in `[0, 1)`.
    fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time comes in")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// The machine's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::disallowed_methods, reason = "the one place where randomness comes in")]
    fn next_u64(&self) -> u64 {
        use rand::Rng as _;
        rand::rng().next_u64()
    }
}

/// A clock that follows tokio's, so that paused time carries wall time along: `start` plus what has passed since.
#[derive(Debug, Clone, Copy)]
pub struct SimulatedClock {
    start: DateTime<Utc>,
    origin: tokio::time::Instant,
}

impl SimulatedClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        let origin = tokio::time::Instant::now();
        Self { start, origin }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + chrono::TimeDelta::from_std(self.origin.elapsed()).unwrap_or(chrono::TimeDelta::MAX)
    }
}

/// Randomness from a seed: the same seed, the same run.
#[derive(Debug)]
pub struct SeededRng(Mutex<rand_chacha::ChaCha8Rng>);

impl SeededRng {
    /// A generator that always gives the same numbers for `seed`.
    pub fn new(seed: u64) -> Self {
        use rand_chacha::rand_core::SeedableRng as _;
        Self(Mutex::new(rand_chacha::ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        use rand_chacha::rand_core::Rng as _;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}

/// A UUID of version 7 (time-ordered) from the doors' time and randomness.
pub fn uuid_v7(clock: &dyn Clock, rng: &dyn Rng) -> String {
    let millis = u64::try_from(clock.now().timestamp_millis()).unwrap_or(0) & 0xffff_ffff_ffff;
    let (high, low) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        high & 0xfff,
        0x8000 | (high >> 16) & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}

/// A place in the code where a test may make the process stop as if its power had gone.
pub trait CrashPoints: Send + Sync + 'static {
    /// Called at the named place. A test's implementation may never return.
    fn reach(&self, name: &'static str);
}

/// Production: nothing happens at crash points.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCrash;

impl CrashPoints for NoCrash {
    fn reach(&self, _name: &'static str) {}
}

/// All doors in one hand.
#[derive(Clone)]
pub struct Doors {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Places to crash at.
    pub crash: Arc<dyn CrashPoints>,
}

impl Doors {
    /// The machine's own.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng), crash: Arc::new(NoCrash) }
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let (a, b) = (SeededRng::new(7), SeededRng::new(7));
        assert_eq!((0..4).map(|_| a.next_u64()).collect::<Vec<_>>(), (0..4).map(|_| b.next_u64()).collect::<Vec<_>>());
        assert!((0..1000).map(|_| a.unit()).all(|unit| (0.0..1.0).contains(&unit)));
    }

    #[test]
    fn uuids_sort_by_time_and_name_their_version() {
        let id = uuid_v7(&SystemClock, &SeededRng::new(1));
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'7');
    }
}
