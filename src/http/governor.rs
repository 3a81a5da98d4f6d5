//! [`Governor`]: the pace of one vendor's API.
//!
//! A vendor's room hands over a table of families of endpoints and a function that reads the vendor's headers. The
//! governor keeps, per window, a sliding count of what it let through (so that no alignment of the vendor's own
//! windows can see more than the limit), and what the vendor last said is left (so that other users of the same
//! account count too). It stays below a share of each published limit, keeps a tenth of it for live work, spreads
//! backfill evenly, and holds a whole family back when the vendor says "too many".

use super::window::{Learned, Window, WindowState};
use crate::doors::Clock;
use crate::model::{Budget, Priority};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// A family of endpoints that share a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its name, as [`super::Call::family`] says it.
    pub name: &'static str,
    /// Its windows; none: no pace of its own.
    pub windows: Vec<Window>,
    /// Another family whose budget its requests spend as well (a search ceiling inside the app's one budget). Headers
    /// and holds then count for that family.
    pub within: Option<&'static str>,
    /// Requests under way at once, for live work and backfill each.
    pub concurrency: usize,
}

impl Family {
    /// A family with windows of its own.
    pub fn new(name: &'static str, windows: impl IntoIterator<Item = Window>) -> Self {
        Self { name, windows: windows.into_iter().collect(), within: None, concurrency: 8 }
    }

    /// The same, spending another family's budget as well.
    pub fn within(mut self, family: &'static str) -> Self {
        self.within = Some(family);
        self
    }

    /// The same with another bound on requests under way at once.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }
}

/// Reads a vendor's headers. The instant is the vendor's own (`Date`) where the answer has one, so that a reset given as
/// a time of day survives a clock of ours that is wrong.
pub type ReadHeaders = fn(&http::HeaderMap, DateTime<Utc>) -> Learned;

/// How a vendor's API is paced.
#[derive(Debug, Clone)]
pub struct GovernorOptions {
    /// The table of families.
    pub families: Vec<Family>,
    /// Reads the vendor's headers.
    pub read_headers: ReadHeaders,
    /// Share of each published limit that we take; the rest is for the account's other integrations.
    pub share: f64,
    /// The longest that a vendor can hold us back with one answer, whatever it says.
    pub longest_hold: Duration,
    /// The longest that a call waits for its turn before it is given back as throttled.
    pub longest_wait: Duration,
}

impl Default for GovernorOptions {
    /// No families, thus no pace: for vendors' tables to build upon.
    fn default() -> Self {
        Self {
            families: Vec::new(),
            read_headers: |_, _| Learned::default(),
            share: 0.9,
            longest_hold: Duration::from_secs(600),
            longest_wait: Duration::from_secs(600),
        }
    }
}

/// Live work after a hold is spread like backfill, but never thinner than this.
const WIDEST_LIVE_GAP: Duration = Duration::from_secs(1);

/// One family's state.
#[derive(Debug)]
struct FamilyState {
    windows: Vec<WindowState>,
    held_until: Option<Instant>,
    /// Until when live work, too, goes one by one after a hold.
    recovering_until: Option<Instant>,
    last_backfill: Option<Instant>,
    last_any: Option<Instant>,
    under_way: u64,
}

/// One family's queues. Live and backfill wait apart, so that a slow backfill never stands before live work.
#[derive(Debug)]
struct Gate {
    live: (Semaphore, tokio::sync::Mutex<()>),
    backfill: (Semaphore, tokio::sync::Mutex<()>),
}

/// The pace of one vendor's API.
#[derive(Debug)]
pub struct Governor {
    options: GovernorOptions,
    gates: Vec<Gate>,
    state: Mutex<Vec<FamilyState>>,
}

/// The wait would be longer than [`GovernorOptions::longest_wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLongAWait(pub Duration);

/// A request under way: give it back with the answer's headers, or drop it.
#[derive(Debug)]
pub struct Pass<'a> {
    governor: &'a Governor,
    family: Option<usize>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(family) = self.family {
            let mut state = self.governor.lock();
            for index in self.governor.chain(family) {
                state[index].under_way = state[index].under_way.saturating_sub(1);
            }
        }
    }
}

impl Governor {
    /// A governor for a table of families.
    pub fn new(mut options: GovernorOptions) -> Self {
        options.share = if options.share.is_finite() { options.share.clamp(0.01, 1.0) } else { 0.9 };
        let gates = options.families.iter().map(|family| Gate {
            live: (Semaphore::new(family.concurrency.max(1)), tokio::sync::Mutex::new(())),
            backfill: (Semaphore::new(family.concurrency.max(1)), tokio::sync::Mutex::new(())),
        });
        let gates = gates.collect();
        let families = options.families.iter().map(|family| FamilyState {
            windows: family.windows.iter().copied().filter(|w| !w.per.is_zero()).map(WindowState::new).collect(),
            held_until: None,
            recovering_until: None,
            last_backfill: None,
            last_any: None,
            under_way: 0,
        });
        let state = Mutex::new(families.collect());
        Self { options, gates, state }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<FamilyState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.options.families.iter().position(|family| family.name == name)
    }

    /// The family, and the one whose budget it spends as well.
    fn chain(&self, family: usize) -> impl Iterator<Item = usize> + '_ {
        let within = self.options.families[family].within.and_then(|name| self.index(name));
        std::iter::once(family).chain(within.filter(|within| *within != family))
    }

    /// The family for which headers and holds count.
    fn root(&self, family: usize) -> usize {
        self.chain(family).last().unwrap_or(family)
    }

    /// Waits for a turn. A family that the table does not name is not paced.
    ///
    /// # Errors
    /// If the turn would come too late; nothing is spent then.
    pub async fn turn(&self, family: &str, priority: Priority) -> Result<Pass<'_>, TooLongAWait> {
        self.turn_by(family, priority, None).await
    }

    /// Waits for a turn, not beyond this instant if there is one.
    ///
    /// # Errors
    /// If the turn would come too late; nothing is spent then.
    pub async fn turn_by(
        &self,
        family: &str,
        priority: Priority,
        latest: Option<Instant>,
    ) -> Result<Pass<'_>, TooLongAWait> {
        let Some(family) = self.index(family) else {
            return Ok(Pass { governor: self, family: None, _permit: None });
        };
        let gate = match priority {
            Priority::Live => &self.gates[family].live,
            Priority::Backfill => &self.gates[family].backfill,
        };
        let began = Instant::now();
        // The semaphore is never closed, so an error cannot happen; without a permit the queue below still bounds us.
        let permit = gate.0.acquire().await.ok();
        let _first_in_line = gate.1.lock().await;
        loop {
            let now = Instant::now();
            if latest.is_some_and(|latest| now > latest) {
                return Err(TooLongAWait(Duration::ZERO));
            }
            let Some(at) = self.try_take(family, priority, now) else {
                return Ok(Pass { governor: self, family: Some(family), _permit: permit });
            };
            let too_late = latest.is_some_and(|latest| at > latest);
            if too_late || at.saturating_duration_since(began) > self.options.longest_wait {
                return Err(TooLongAWait(at.saturating_duration_since(now)));
            }
            tokio::time::sleep_until(at).await;
        }
    }

    /// Takes the budget, or says when to ask again.
    fn try_take(&self, family: usize, priority: Priority, now: Instant) -> Option<Instant> {
        let share = self.options.share;
        let mut state = self.lock();
        let mut at = None;
        for index in self.chain(family) {
            let family = &mut state[index];
            for window in &mut family.windows {
                window.advance(now);
            }
            at = at.max(family.held_until.filter(|until| *until > now));
            at = at.max(family.windows.iter().filter_map(|window| window.free_at(share, priority)).max());
            let gap = family.windows.iter().map(|window| window.gap(share, now)).max();
            let spread_from = match priority {
                Priority::Backfill => family.last_backfill.zip(gap),
                Priority::Live if family.recovering_until.is_some_and(|until| until > now) => {
                    family.last_any.zip(gap.map(|gap| gap.min(WIDEST_LIVE_GAP)))
                }
                Priority::Live => None,
            };
            at = at.max(spread_from.map(|(last, gap)| last + gap).filter(|next| *next > now));
        }
        if at.is_some() {
            // Never "now": a wait of nothing would spin.
            return at.map(|at| at.max(now + Duration::from_millis(1)));
        }
        for index in self.chain(family) {
            let family = &mut state[index];
            family.windows.iter_mut().for_each(|window| window.take(now));
            family.last_any = Some(now);
            if priority == Priority::Backfill {
                family.last_backfill = Some(now);
            }
            family.under_way += 1;
        }
        None
    }

    /// Learns from an answer's headers. Answers without them (a proxy's, some of Intercom's) teach nothing.
    pub fn learn(&self, pass: &Pass<'_>, headers: &http::HeaderMap, clock: &dyn Clock) -> Learned {
        let at = server_time(headers).unwrap_or_else(|| clock.now());
        let learned = (self.options.read_headers)(headers, at);
        let Some(family) = pass.family.filter(|_| learned != Learned::default()) else { return learned };
        let now = Instant::now();
        let mut state = self.lock();
        let family = &mut state[self.root(family)];
        let others_under_way = family.under_way.saturating_sub(1);
        // Headers do not say which window they speak of (Brevo's contacts have two): the one whose limit is nearest.
        let published = family.windows.iter_mut().filter(|window| window.window.published);
        let nearest = match learned.limit {
            Some(limit) => published.min_by(|a, b| {
                let distance = |w: &WindowState| ((limit.max(1) as f64) / w.window.limit.max(1) as f64).ln().abs();
                distance(a).total_cmp(&distance(b))
            }),
            None => published.min_by_key(|window| window.window.per),
        };
        if let Some(window) = nearest {
            window.advance(now);
            window.learn(learned, now, others_under_way);
        }
        learned
    }

    /// What a vendor can ask for at most.
    pub fn bounded(&self, wait: Duration) -> Duration {
        wait.min(self.options.longest_hold)
    }

    /// Holds the whole family back, as the vendor asks; at least a moment, at most the longest hold.
    pub fn hold(&self, pass: &Pass<'_>, wait: Duration) {
        let Some(family) = pass.family else { return };
        let wait = wait.clamp(Duration::from_millis(100), self.options.longest_hold);
        let until = Instant::now() + wait;
        let mut state = self.lock();
        let family = &mut state[self.root(family)];
        family.held_until = family.held_until.max(Some(until));
        let shortest = family.windows.iter().map(|window| window.window.per).min().unwrap_or_default();
        let recovery = shortest.clamp(Duration::from_secs(1), Duration::from_secs(60));
        family.recovering_until = family.held_until.map(|until| until + recovery);
    }

    /// How long the family is still held back.
    pub fn held_back(&self, family: &str) -> Option<Duration> {
        let family = self.root(self.index(family)?);
        let until = self.lock()[family].held_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// What is left of each family's longest published window.
    pub fn budgets(&self, clock: &dyn Clock) -> Vec<Budget> {
        let now = Instant::now();
        let wall = clock.now();
        let mut state = self.lock();
        let mut budgets = Vec::new();
        for (family, spec) in state.iter_mut().zip(&self.options.families) {
            let longest = family.windows.iter_mut().filter(|window| window.window.published);
            let Some(window) = longest.max_by_key(|window| window.window.per) else { continue };
            window.advance(now);
            let ours = window.window.limit.saturating_sub(window.sent_total);
            let until = window.left.map(|(_, until)| until);
            let until = until.or_else(|| window.sent.front().map(|(begin, _)| *begin + window.window.per));
            budgets.push(Budget {
                family: spec.name.to_owned(),
                limit: window.window.limit,
                remaining: window.left.map_or(ours, |(left, _)| left),
                resets_at: until
                    .and_then(|until| TimeDelta::from_std(until.saturating_duration_since(now)).ok())
                    .and_then(|left| wall.checked_add_signed(left)),
            });
        }
        budgets
    }
}

/// The vendor's clock when it answered.
pub fn server_time(headers: &http::HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    DateTime::parse_from_rfc2822(text.trim()).ok().map(|time| time.to_utc())
}

/// `Retry-After`, in seconds or as a date.
pub fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?.to_utc();
    (at - server_time(headers)?).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::SystemClock;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn headers(pairs: &[(&'static str, &str)]) -> http::HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn read(headers: &http::HeaderMap, _: DateTime<Utc>) -> Learned {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let resets_in = number("reset").map(Duration::from_secs);
        Learned { limit: number("limit"), remaining: number("remaining"), resets_in }
    }

    fn governor(families: Vec<Family>) -> Arc<Governor> {
        Arc::new(Governor::new(GovernorOptions { families, read_headers: read, ..GovernorOptions::default() }))
    }

    /// Lets `count` requests through as fast as it goes and says when each went, in milliseconds.
    async fn times(governor: &Governor, family: &str, priority: Priority, count: usize) -> Vec<u128> {
        let begin = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            let _pass = governor.turn(family, priority).await.unwrap();
            times.push(begin.elapsed().as_millis());
        }
        times
    }

    fn most_within(times: &[u128], millis: u128) -> usize {
        times.iter().map(|a| times.iter().filter(|b| (*a..*a + millis).contains(b)).count()).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_our_share_however_it_is_cut() {
        let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
        let live = times(&governor, "contacts", Priority::Live, 60).await;
        assert_eq!(live[8], 0, "live work goes at once: {live:?}");
        assert_eq!(most_within(&live, 1000), 9, "{live:?}");
        assert!(live[59] < 6500, "and is not slower than need be: {live:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn backfill_is_spread_and_leaves_a_tenth_to_live_work() {
        let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
        let backfill = times(&governor, "contacts", Priority::Backfill, 33).await;
        assert!(backfill.windows(2).all(|pair| pair[1] - pair[0] >= 125), "{backfill:?}");
        assert_eq!(times(&governor, "contacts", Priority::Live, 1).await, [0], "the reserve is there at once");
    }

    #[tokio::test(start_paused = true)]
    async fn live_work_overtakes_a_waiting_backfill() {
        let governor = governor(vec![Family::new("other", [Window::published(100, HOUR)])]);
        times(&governor, "other", Priority::Backfill, 1).await;
        let slow = Arc::clone(&governor);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { times(&slow, "other", Priority::Backfill, 1).await[0] });
        tokio::task::yield_now().await;
        assert_eq!(times(&governor, "other", Priority::Live, 3).await, [0, 0, 0]);
        let waited = tasks.join_next().await.unwrap().unwrap();
        assert!((40_000..60_000).contains(&waited), "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_hour_is_said_instead_of_waited_for() {
        let governor = governor(vec![Family::new("other", [Window::published(100, HOUR)])]);
        times(&governor, "other", Priority::Live, 90).await;
        let TooLongAWait(wait) = governor.turn("other", Priority::Live).await.unwrap_err();
        assert!(wait > Duration::from_secs(3500) && wait <= HOUR + HOUR / 50, "{wait:?}");
        tokio::time::sleep(wait).await;
        assert_eq!(times(&governor, "other", Priority::Live, 90).await[89], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_used_is_waited_for() {
        let governor = governor(vec![Family::new("app", [Window::published(100, SECOND * 10)])]);
        let pass = governor.turn("app", Priority::Live).await.unwrap();
        let said = headers(&[("limit", "100"), ("remaining", "10"), ("reset", "4")]);
        governor.learn(&pass, &said, &SystemClock);
        drop(pass);
        assert_eq!(times(&governor, "app", Priority::Live, 1).await, [4000], "the last tenth is the others'");
        assert_eq!(governor.budgets(&SystemClock)[0].limit, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_in_whole_seconds_does_not_slow_a_window_of_one_second() {
        let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
        let begin = Instant::now();
        for _ in 0..80 {
            let pass = governor.turn("contacts", Priority::Backfill).await.unwrap();
            // As the vendor counts: a window of its own, from the first request on, its rest rounded up.
            let remaining = 9 - u64::from(begin.elapsed().subsec_millis()) * 8 / 1000;
            let said = headers(&[("limit", "10"), ("remaining", &remaining.to_string()), ("reset", "1")]);
            governor.learn(&pass, &said, &SystemClock);
        }
        assert!(begin.elapsed() < SECOND * 12, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_limit_is_used_and_absurd_headers_are_survived() {
        let governor =
            governor(vec![Family::new("contacts", [Window::published(10, SECOND), Window::published(36_000, HOUR)])]);
        for (limit, remaining, reset) in
            [("0", "0", "99999999999"), ("18446744073709551615", "5", "0"), ("-1", "x", "")]
        {
            let pass = governor.turn("contacts", Priority::Live).await.unwrap();
            governor.learn(
                &pass,
                &headers(&[("limit", limit), ("remaining", remaining), ("reset", reset)]),
                &SystemClock,
            );
        }
        tokio::time::sleep(SECOND * 2).await;
        let pass = governor.turn("contacts", Priority::Live).await.unwrap();
        governor.learn(&pass, &headers(&[("limit", "20"), ("remaining", "19"), ("reset", "1")]), &SystemClock);
        drop(pass);
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!(most_within(&times(&governor, "contacts", Priority::Live, 40).await, 1000), 18);
        assert_eq!(governor.budgets(&SystemClock)[0].limit, 36_000, "the hour is another window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_the_whole_familys_and_ends_without_a_stampede() {
        let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
        let pass = governor.turn("contacts", Priority::Live).await.unwrap();
        governor.hold(&pass, Duration::from_secs(30));
        drop(pass);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let governor = Arc::clone(&governor);
            tasks.spawn(async move { times(&governor, "contacts", Priority::Live, 1).await[0] });
        }
        let mut after = tasks.join_all().await;
        after.sort_unstable();
        assert_eq!(after[0], 30_000);
        assert!(after.windows(2).all(|pair| pair[1] - pair[0] >= 100), "one by one: {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_bounded_whatever_the_vendor_says() {
        let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
        let pass = governor.turn("contacts", Priority::Live).await.unwrap();
        governor.hold(&pass, Duration::MAX);
        drop(pass);
        assert_eq!(times(&governor, "contacts", Priority::Live, 1).await, [600_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ceiling_holds_inside_the_familys_budget() {
        let families = vec![
            Family::new("app", [Window::published(166, SECOND * 10), Window::ceiling(20, SECOND * 10)]),
            Family::new("search", [Window::ceiling(1, SECOND)]).within("app"),
        ];
        let governor = governor(families);
        let search = times(&governor, "search", Priority::Live, 5).await;
        assert!(search.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{search:?}");
        let pass = governor.turn("search", Priority::Live).await.unwrap();
        governor.hold(&pass, SECOND * 5);
        drop(pass);
        assert_eq!(times(&governor, "app", Priority::Live, 1).await, [5000], "a search's 429 holds the app back");
    }

    #[test]
    fn retry_after_comes_in_seconds_or_as_a_date() {
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(SECOND * 7));
        let date =
            headers(&[("date", "Sat, 21 Nov 2026 10:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 10:01:00 GMT")]);
        assert_eq!(retry_after(&date), Some(SECOND * 60));
        for absurd in ["-5", "NaN", "soon", "1e400", ""] {
            assert_eq!(retry_after(&headers(&[("retry-after", absurd)])), None, "{absurd}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        /// Whatever headers say and whenever requests come, no window sees more than its limit, and nobody waits for ever.
        #[test]
        fn no_header_breaks_the_limit_or_the_flow(
            steps in proptest::collection::vec((0..700_u64, proptest::option::of(0..15_u64), 0..4_000_u64, proptest::bool::ANY), 1..80),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let governor = governor(vec![Family::new("contacts", [Window::published(10, SECOND)])]);
                let begin = Instant::now();
                let mut sent = Vec::new();
                for (pause, remaining, reset, live) in steps {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    let priority = if live { Priority::Live } else { Priority::Backfill };
                    let asked = Instant::now();
                    let pass = governor.turn("contacts", priority).await.unwrap();
                    assert!(asked.elapsed() < SECOND * 5, "{:?}", asked.elapsed());
                    sent.push(begin.elapsed().as_millis());
                    if let Some(remaining) = remaining {
                        let said = [("remaining", remaining.to_string()), ("reset", reset.to_string())];
                        governor.learn(&pass, &headers(&[(said[0].0, &said[0].1), (said[1].0, &said[1].1)]), &SystemClock);
                    }
                }
                assert!(most_within(&sent, 1000) <= 9, "{sent:?}");
            });
        }
    }
}
