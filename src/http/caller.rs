//! [`Caller`]: a transport with pace (the governor) and retry around it. Both vendors' clients send through one.

use super::governor::{Governor, GovernorOptions, TooLongAWait};
use super::retry::{Guard, Health, RetryPolicy, jittered, may_resend};
use super::{Learned, Transport, TransportError};
use crate::doors::Doors;
use crate::model::{Budget, ErrorKind, Priority, SideError, SideName};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What resending a request whose outcome is unknown would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: resend.
    Read,
    /// Set the same state again: resend (a PUT of values).
    Idempotent,
    /// The same, of values that were worked out from what both sides showed (or a deletion): resend, but rather give it back
    /// than send it after a long wait, since somebody may have edited the record meanwhile (or be back) and neither vendor can
    /// write "only if unchanged".
    Updates,
    /// The same, of what makes somebody contactable who says no: an opt-in, or a new address. They may have said it since they
    /// were looked at, so that it is resent only where it failed at once, and given back where the vendor holds us back.
    Loosens,
    /// It may make somebody contactable, too, and be done a second time: never resend after an unknown outcome, and else
    /// only where it failed at once.
    LoosensOnce,
    /// Perhaps a second thing: never resend after an unknown outcome; the engine looks first.
    Creates,
    /// The same, of somebody: they may have said no since it was looked, or somebody else may have made them, so that it is
    /// rather given back than sent after a long wait.
    CreatesPerson,
}

/// For so long after it was handed over an [`Effect::Updates`] or [`Effect::CreatesPerson`] may still be sent: of the one, an
/// attempt that times out (30 s), and another at once.
const FRESH: Duration = Duration::from_secs(40);
/// The same of an [`Effect::Loosens`]: no attempt after one that times out.
const JUST_LOOKED: Duration = Duration::from_secs(5);

impl Effect {
    /// How long it may wait to be sent.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::Updates | Self::CreatesPerson => Some(FRESH),
            Self::Loosens | Self::LoosensOnce => Some(JUST_LOOKED),
            Self::Read | Self::Idempotent | Self::Creates => None,
        }
    }

    /// It may make somebody contactable.
    fn loosens(self) -> bool {
        matches!(self, Self::Loosens | Self::LoosensOnce)
    }
}

/// One request with what the caller has to know about it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request, with an absolute URI and its authentication.
    pub request: http::Request<Bytes>,
    /// The family of endpoints whose budget it spends.
    pub family: &'static str,
    /// Whose turn it is.
    pub priority: Priority,
    /// Whether it may be resent.
    pub effect: Effect,
}

/// On an answer: an earlier attempt of the same request has met none.
#[derive(Debug, Clone, Copy)]
struct EarlierMayLand;

/// Whether an earlier attempt of the request that this answers has met no answer that says what became of it: it may still land.
pub fn earlier_may_land<T>(answer: &http::Response<T>) -> bool {
    answer.extensions().get::<EarlierMayLand>().is_some()
}

/// A vendor's reading of an answer: an error if it is not a success, or a success that cannot be read.
pub type Classify<'a> = dyn Fn(&http::Response<Bytes>) -> Result<(), Box<SideError>> + Send + Sync + 'a;

/// How a vendor's requests are paced and retried.
#[derive(Debug, Clone, Default)]
pub struct CallerOptions {
    /// Pace.
    pub governor: GovernorOptions,
    /// Retries.
    pub retry: RetryPolicy,
}

/// Sends requests of one vendor.
pub struct Caller {
    side: SideName,
    transport: Arc<dyn Transport>,
    doors: Doors,
    governor: Governor,
    policy: RetryPolicy,
    guard: Guard,
}

impl Caller {
    /// A caller for `side` over `transport`.
    pub fn new(side: SideName, transport: Arc<dyn Transport>, doors: Doors, options: CallerOptions) -> Self {
        let guard = Guard::new(options.retry.clone());
        Self { side, transport, doors, governor: Governor::new(options.governor), policy: options.retry, guard }
    }

    /// Sends, waits for budget, retries what can succeed at once.
    ///
    /// # Errors
    /// The last error, with the number of attempts.
    pub async fn call(&self, call: Call, classify: &Classify<'_>) -> Result<http::Response<Bytes>, Box<SideError>> {
        let mut ceilings = self.policy.ceilings();
        let mut attempts = 0;
        let mut last: Option<Box<SideError>> = None;
        let latest = call.effect.patience().map(|patience| Instant::now() + patience);
        loop {
            // What the last attempt met says more than why the next one could not be made.
            let give_up = |error: Box<SideError>| match &last {
                Some(last) => Box::new(SideError { attempts, retry_after: error.retry_after, ..(**last).clone() }),
                None => Box::new(SideError { attempts, ..*error }),
            };
            // Somebody whom it makes contactable may say no until then: they are looked at anew.
            if let Some(wait) = self.governor.held_back(call.family).filter(|_| call.effect.loosens()) {
                return Err(give_up(self.no_budget(call.family, wait)));
            }
            let leave = match self.guard.leave() {
                Ok(leave) => leave,
                Err(wait) => return Err(give_up(self.left_alone(wait))),
            };
            let pass = match self.governor.turn_by(call.family, call.priority, latest).await {
                Ok(pass) => pass,
                Err(TooLongAWait(wait)) => return Err(give_up(self.no_budget(call.family, wait))),
            };
            attempts += 1;
            let mut learned = Learned::default();
            let outcome = match self.transport.send(call.request.clone()).await {
                Ok(answer) => {
                    learned = self.governor.learn(&pass, answer.headers(), &*self.doors.clock);
                    classify(&answer).map(|()| answer)
                }
                Err(error) => Err(self.unanswered(&error, call.effect)),
            };
            leave.report(Health::of(outcome.as_ref().map(|_| ()).map_err(|error| &**error)));
            let mut error = match outcome {
                Ok(mut answer) => {
                    if matches!(&last, Some(earlier) if earlier.kind == ErrorKind::Ambiguous) {
                        answer.extensions_mut().insert(EarlierMayLand);
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            error.attempts = attempts;
            error.retry_after = error.retry_after.map(|wait| self.governor.bounded(wait));
            let delay = jittered(ceilings.next().unwrap_or(self.policy.longest_delay), &*self.doors.rng);
            // A 429 is about the family, not about this request; so is any answer that names a time.
            let family_wide = error.status == Some(429) || error.retry_after.is_some();
            if family_wide {
                self.governor.hold(&pass, error.retry_after.or(learned.resets_in).unwrap_or(delay));
            }
            drop(pass);
            let in_time = family_wide || latest.is_none_or(|latest| Instant::now() + delay <= latest);
            let again = in_time && may_resend(&error, call.effect) && attempts < self.policy.attempts(call.priority);
            if !again || !self.guard.pay() {
                return Err(match last {
                    // A later "unavailable" does not undo that an earlier attempt may have landed.
                    Some(earlier) if earlier.kind == ErrorKind::Ambiguous && error.is_transient() => {
                        Box::new(SideError { attempts, ..*earlier })
                    }
                    earlier => {
                        error.earlier_may_land = earlier.is_some_and(|earlier| earlier.kind == ErrorKind::Ambiguous);
                        error
                    }
                });
            }
            tracing::debug!(side = %self.side, family = call.family, attempts, status = error.status, "will try again");
            if !family_wide {
                tokio::time::sleep(delay).await;
            }
            if !matches!(&last, Some(earlier) if earlier.kind == ErrorKind::Ambiguous) {
                last = Some(error);
            }
        }
    }

    /// What is left of each budget.
    pub fn budgets(&self) -> Vec<Budget> {
        self.governor.budgets(&*self.doors.clock)
    }

    /// How long a family is still held back.
    pub fn held_back(&self, family: &str) -> Option<Duration> {
        self.governor.held_back(family)
    }

    fn unanswered(&self, error: &TransportError, effect: Effect) -> Box<SideError> {
        let kind = match (error, effect) {
            (TransportError::TooLong(_), Effect::Read) => ErrorKind::Malformed,
            (TransportError::Connect(_), _) | (_, Effect::Read) => ErrorKind::Unavailable,
            _ => ErrorKind::Ambiguous,
        };
        SideError::new(self.side, kind, error.to_string())
    }

    fn left_alone(&self, wait: Duration) -> Box<SideError> {
        let words =
            format!("not asked: it failed too often in a row and is left alone for {} s", wait.as_secs().max(1));
        let mut error = SideError::new(self.side, ErrorKind::Unavailable, words);
        error.retry_after = Some(wait);
        error
    }

    fn no_budget(&self, family: &str, wait: Duration) -> Box<SideError> {
        let words = format!("not asked: the budget of {family} requests is spent for {} s", wait.as_secs().max(1));
        let mut error = SideError::new(self.side, ErrorKind::Throttled, words);
        error.retry_after = Some(wait);
        error
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("side", &self.side).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::{NoCrash, SeededRng, SimulatedClock};
    use crate::http::{Family, Window};
    use std::collections::VecDeque;
    use std::sync::Mutex;

    type Step = Result<(u16, &'static [(&'static str, &'static str)]), TransportError>;

    /// Answers what it is told, then 200, and remembers when it was asked.
    #[derive(Default)]
    struct Scripted {
        steps: Mutex<VecDeque<Step>>,
        asked: Mutex<Vec<Instant>>,
    }

    #[async_trait::async_trait]
    impl Transport for Scripted {
        async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
            self.asked.lock().unwrap().push(Instant::now());
            let (status, headers) = self.steps.lock().unwrap().pop_front().unwrap_or(Ok((200, &[])))?;
            let mut answer = http::Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(*name, *value);
            }
            Ok(answer.body(Bytes::new()).unwrap())
        }
    }

    fn classify(answer: &http::Response<Bytes>) -> Result<(), Box<SideError>> {
        let kind = match answer.status().as_u16() {
            200 => return Ok(()),
            202 => ErrorKind::Malformed,
            429 => ErrorKind::Throttled,
            503 => ErrorKind::Unavailable,
            500 => ErrorKind::Ambiguous,
            _ => ErrorKind::Rejected { field: None },
        };
        let mut error = SideError::new(SideName::Brevo, kind, "no");
        error.status = Some(answer.status().as_u16());
        error.retry_after = crate::http::retry_after(answer.headers());
        Err(error)
    }

    fn caller(steps: impl IntoIterator<Item = Step>) -> (Arc<Scripted>, Caller) {
        let transport = Arc::new(Scripted { steps: Mutex::new(steps.into_iter().collect()), ..Scripted::default() });
        let doors = Doors {
            clock: Arc::new(SimulatedClock::starting_at(chrono::DateTime::UNIX_EPOCH)),
            rng: Arc::new(SeededRng::new(1)),
            crash: Arc::new(NoCrash),
        };
        let mut options = CallerOptions::default();
        options.governor.families =
            vec![Family::new("all", [Window::published(1000, Duration::from_secs(1))]), Family::new("rest", [])];
        (transport.clone(), Caller::new(SideName::Brevo, transport, doors, options))
    }

    fn call(effect: Effect) -> Call {
        let request = http::Request::get("https://x.test/").body(Bytes::new()).unwrap();
        Call { request, family: "all", priority: Priority::Live, effect }
    }

    fn timed_out() -> Step {
        Err(TransportError::TimedOut(Duration::from_secs(30)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_succeed_later_is_tried_again() {
        for effect in [Effect::Read, Effect::Idempotent, Effect::Creates] {
            let (transport, caller) = caller([Ok((503, &[][..])), Err(TransportError::Connect("x".into()))]);
            assert_eq!(caller.call(call(effect), &classify).await.unwrap().status(), 200);
            assert_eq!(transport.asked.lock().unwrap().len(), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_resent_only_where_that_changes_nothing() {
        let effects = [(Effect::Read, 2), (Effect::Idempotent, 2), (Effect::Updates, 2), (Effect::Creates, 1)];
        for (effect, asked) in effects {
            let (transport, caller) = caller([timed_out()]);
            let outcome = caller.call(call(effect), &classify).await;
            assert_eq!(transport.asked.lock().unwrap().len(), asked, "{effect:?}");
            if effect == Effect::Creates {
                assert_eq!(outcome.unwrap_err().kind, ErrorKind::Ambiguous);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_stays_unknown_if_the_retries_fail_otherwise() {
        let (_, caller) = caller([timed_out(), Ok((503, &[])), Ok((503, &[])), Ok((503, &[]))]);
        let error = caller.call(call(Effect::Idempotent), &classify).await.unwrap_err();
        assert_eq!((error.kind, error.attempts), (ErrorKind::Ambiguous, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_after_an_unknown_outcome_says_that_the_earlier_may_land() {
        for (step, may_land) in [(timed_out(), true), (Ok((503, &[][..])), false)] {
            let (_, caller) = caller([step]);
            let answer = caller.call(call(Effect::Idempotent), &classify).await.unwrap();
            assert_eq!((answer.status().as_u16(), earlier_may_land(&answer)), (200, may_land));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_after_an_unknown_outcome_is_one_and_says_that_the_earlier_may_land() {
        let (_, caller) = caller([timed_out(), Ok((400, &[])), Ok((503, &[])), Ok((400, &[]))]);
        let error = caller.call(call(Effect::Idempotent), &classify).await.unwrap_err();
        assert_eq!((error.kind.clone(), error.may_have_landed()), (ErrorKind::Rejected { field: None }, true));
        let error = caller.call(call(Effect::Idempotent), &classify).await.unwrap_err();
        assert_eq!((error.kind.clone(), error.may_have_landed()), (ErrorKind::Rejected { field: None }, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_and_an_unreadable_write_is_not_repeated() {
        for (status, effect) in [(400, Effect::Read), (202, Effect::Idempotent)] {
            let (transport, caller) = caller([Ok((status, &[][..]))]);
            assert_eq!(caller.call(call(effect), &classify).await.unwrap_err().attempts, 1);
            assert_eq!(transport.asked.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_and_counted() {
        let (transport, caller) = caller((0..9).map(|_| Ok((503, &[][..]))));
        let error = caller.call(call(Effect::Read), &classify).await.unwrap_err();
        assert_eq!((error.attempts, transport.asked.lock().unwrap().len()), (4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn what_loosens_is_resent_only_at_once() {
        for effect in [Effect::Loosens, Effect::LoosensOnce] {
            let (transport, caller) = caller([Ok((503, &[][..])), Ok((429, &[("retry-after", "2")][..]))]);
            // It failed at once, and is sent once more; then the vendor holds us back, from this and from the next.
            for _ in 0..2 {
                let error = caller.call(call(effect), &classify).await.unwrap_err();
                assert_eq!(transport.asked.lock().unwrap().len(), 2, "{effect:?}");
                assert!(error.retry_after.is_some_and(|left| left <= Duration::from_secs(2)), "{error:?}");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            caller.call(call(effect), &classify).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_worked_out_long_ago_is_given_back() {
        let throttled = |wait| Ok((429, wait));
        for (effect, wait, sent) in [
            (Effect::Updates, &[("retry-after", "17")][..], 2),
            (Effect::Updates, &[("retry-after", "60")][..], 1),
            (Effect::CreatesPerson, &[("retry-after", "17")][..], 2),
            (Effect::CreatesPerson, &[("retry-after", "60")][..], 1),
            (Effect::Idempotent, &[("retry-after", "60")][..], 2),
        ] {
            let (transport, caller) = caller([throttled(wait)]);
            let answer = caller.call(call(effect), &classify).await;
            assert_eq!(transport.asked.lock().unwrap().len(), sent, "{effect:?}");
            match answer {
                Ok(answer) => assert_eq!((answer.status(), sent), (http::StatusCode::OK, 2)),
                Err(error) => {
                    assert_eq!((error.kind.clone(), error.attempts, sent), (ErrorKind::Throttled, 1, 1));
                    assert!(error.retry_after.is_some_and(|left| left > Duration::from_secs(59)), "{error:?}");
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_to_the_second() {
        let (transport, caller) = caller([Ok((429, &[("retry-after", "17")][..]))]);
        caller.call(call(Effect::Creates), &classify).await.unwrap();
        let asked = transport.asked.lock().unwrap();
        assert_eq!((asked[1] - asked[0]).as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_spends_the_retry_budget_then_opens_the_breaker_then_heals() {
        let (transport, caller) = caller((0..40).map(|_| Ok((503, &[][..]))));
        let mut words = String::new();
        for _ in 0..20 {
            words = caller.call(call(Effect::Read), &classify).await.unwrap_err().message;
        }
        assert!(words.contains("left alone"), "{words}");
        let asked = transport.asked.lock().unwrap().len();
        assert_eq!(asked, 10, "twenty calls did not become eighty requests");
        transport.steps.lock().unwrap().clear();
        tokio::time::sleep(Duration::from_secs(5)).await;
        caller.call(call(Effect::Read), &classify).await.unwrap();
        caller.call(call(Effect::Read), &classify).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_closes_the_door_for_longer_and_a_cancelled_one_does_not_jam_it() {
        let (transport, caller) = caller((0..11).map(|_| Ok((503, &[][..]))));
        for _ in 0..5 {
            caller.call(call(Effect::Read), &classify).await.unwrap_err();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        caller.call(call(Effect::Read), &classify).await.unwrap_err();
        assert_eq!(transport.asked.lock().unwrap().len(), 11, "one probe");
        tokio::time::sleep(Duration::from_secs(6)).await;
        caller.call(call(Effect::Read), &classify).await.unwrap_err();
        assert_eq!(transport.asked.lock().unwrap().len(), 11, "still open");
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(caller.guard.leave().unwrap());
        caller.call(call(Effect::Read), &classify).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_successes_the_retry_budget_runs_out() {
        // Throttling never opens the breaker, so only the budget bounds the retries.
        let (transport, caller) = caller((0..200).map(|_| Ok((429, &[][..]))));
        for _ in 0..50 {
            caller.call(call(Effect::Read), &classify).await.unwrap_err();
        }
        assert_eq!(transport.asked.lock().unwrap().len(), 50 + 20);
    }
}
