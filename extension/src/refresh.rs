//! A value that is fetched when it is needed, renewed before it ends and never used after it.
//!
//! Refreshing is driven by requests, since a Lambda is frozen between them: each request looks at the ages on the wall
//! clock. One fetch runs at a time (single flight). While a value is renewed the old one serves; past its end nobody
//! gets it, and requests wait, bounded, for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use platform::BoxFuture;
use platform::clock::{Clock, unix};
use tokio::sync::watch;

/// The pause after the first failed fetch; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Where values come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is fetched; a clone must be cheap.
    type Value: Clone + Send + Sync + 'static;

    /// Fetches the next value. The error is one line without any credential.
    fn fetch(&self) -> BoxFuture<'_, Result<Held<Self::Value>, String>>;
}

/// A value and its times, Unix seconds.
#[derive(Clone)]
pub(crate) struct Held<V> {
    /// The value.
    pub value: V,
    /// From here on a renewal is due.
    pub renew_at: u64,
    /// From here on the value must not be used.
    pub dead_at: u64,
}

/// The current value of one source.
pub(crate) struct Refresh<S: Source> {
    source: S,
    clock: Arc<dyn Clock>,
    state: Mutex<State<S::Value>>,
    /// Counts finished fetches, good or bad.
    finished: watch::Sender<u64>,
}

struct State<V> {
    held: Option<Held<V>>,
    running: bool,
    failures: u32,
    retry_at: SystemTime,
    error: String,
    /// Fetches since the start, good and bad.
    fetched: u64,
    failed: u64,
}

enum Look<V> {
    Usable(V),
    Fetching,
    Pausing(Duration),
}

impl<S: Source> Refresh<S> {
    pub(crate) fn new(source: S, clock: Arc<dyn Clock>) -> Arc<Refresh<S>> {
        let state = State {
            held: None,
            running: false,
            failures: 0,
            retry_at: SystemTime::UNIX_EPOCH,
            error: "not asked for yet".to_owned(),
            fetched: 0,
            failed: 0,
        };
        Arc::new(Refresh { source, clock, state: Mutex::new(state), finished: watch::Sender::new(0) })
    }

    /// Starts a fetch in the background if one is due. Cheap, and never waits.
    pub(crate) fn start_if_due(self: &Arc<Self>) {
        self.look();
    }

    /// The same for a value that somebody has asked for before.
    pub(crate) fn start_if_used(self: &Arc<Self>) {
        if self.lock().held.is_some() {
            self.look();
        }
    }

    /// How many fetches brought a value, and how many did not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.fetched, state.failed)
    }

    /// The value, if there is one that can be used.
    pub(crate) fn at_hand(self: &Arc<Self>) -> Option<S::Value> {
        match self.look() {
            Look::Usable(value) => Some(value),
            Look::Fetching | Look::Pausing(_) => None,
        }
    }

    /// The value, waiting up to `wait` for one that can be used.
    ///
    /// The error says why the last fetch failed.
    pub(crate) async fn get(self: &Arc<Self>, wait: Duration) -> Result<S::Value, String> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut finished = self.finished.subscribe();
        loop {
            finished.borrow_and_update();
            match self.look() {
                Look::Usable(value) => return Ok(value),
                Look::Fetching => {
                    // The sender is in `self`: this ends by a finished fetch or by the deadline.
                    if tokio::time::timeout_at(deadline, finished.changed()).await.is_err() {
                        return Err(self.why());
                    }
                }
                Look::Pausing(pause) => {
                    let next = tokio::time::Instant::now() + pause;
                    if next >= deadline {
                        tokio::time::sleep_until(deadline).await;
                        return Err(self.why());
                    }
                    tokio::time::sleep_until(next).await;
                }
            }
        }
    }

    fn look(self: &Arc<Self>) -> Look<S::Value> {
        let now = self.clock.now();
        let unix = unix(now);
        let mut state = self.lock();
        let (usable, due) = match &state.held {
            Some(held) if unix < held.dead_at => (Some(held.value.clone()), unix >= held.renew_at),
            _ => (None, true),
        };
        let pause = state.pause(now);
        if due && !state.running && pause.is_zero() {
            state.running = true;
            tokio::spawn(Self::fetch(Arc::clone(self)));
        }
        match (usable, state.running) {
            (Some(value), _) => Look::Usable(value),
            (None, true) => Look::Fetching,
            (None, false) => Look::Pausing(pause),
        }
    }

    async fn fetch(self: Arc<Self>) {
        // Also when the fetch panics: a flight that never lands would ground all others.
        let _landing = Landing(&self);
        let fetched = self.source.fetch().await;
        // As a success it would be fetched again at once, by every request that waits and without a pause.
        let fetched = match fetched {
            Ok(held) if held.dead_at <= self.clock.unix() => Err("what the issuer sent is over already".to_owned()),
            fetched => fetched,
        };
        let now = self.clock.now();
        let mut state = self.lock();
        match fetched {
            Ok(held) => {
                state.held = Some(held);
                state.failures = 0;
                state.fetched += 1;
                state.error.clear();
            }
            Err(error) => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << state.failures.min(10));
                state.failures = state.failures.saturating_add(1);
                state.failed += 1;
                state.retry_at = now + doubled.min(LAST_PAUSE);
                state.error = error;
            }
        }
    }

    fn why(&self) -> String {
        let state = self.lock();
        match state.error.is_empty() || (state.running && state.failures == 0) {
            true => "no answer from the issuer yet".to_owned(),
            false => state.error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S::Value>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> State<V> {
    fn pause(&self, now: SystemTime) -> Duration {
        if self.failures == 0 {
            return Duration::ZERO;
        }
        match self.retry_at.duration_since(now) {
            // Longer than any pause: the clock was set back meanwhile.
            Ok(left) if left > LAST_PAUSE => Duration::ZERO,
            Ok(left) => left,
            Err(_) => Duration::ZERO,
        }
    }
}

struct Landing<'a, S: Source>(&'a Refresh<S>);

impl<S: Source> Drop for Landing<'_, S> {
    fn drop(&mut self) {
        self.0.lock().running = false;
        self.0.finished.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use platform::clock::FixedClock;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers 1, 2, 3, … as often as it has permits; each value is due after half of its life of 100 s.
    struct Counter {
        clock: Arc<FixedClock>,
        permits: Arc<Semaphore>,
        calls: Arc<AtomicU32>,
        broken: Arc<std::sync::atomic::AtomicBool>,
        life: Arc<AtomicU32>,
    }

    impl Source for Counter {
        type Value = u32;

        fn fetch(&self) -> BoxFuture<'_, Result<Held<u32>, String>> {
            Box::pin(async move {
                let value = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
                self.permits.acquire().await.unwrap().forget();
                if self.broken.load(Ordering::SeqCst) {
                    return Err("issuer down".to_owned());
                }
                let now = self.clock.unix();
                let life = u64::from(self.life.load(Ordering::SeqCst));
                Ok(Held { value, renew_at: now + life / 2, dead_at: now + life })
            })
        }
    }

    struct Stage {
        refresh: Arc<Refresh<Counter>>,
        clock: Arc<FixedClock>,
        permits: Arc<Semaphore>,
        calls: Arc<AtomicU32>,
        broken: Arc<std::sync::atomic::AtomicBool>,
        life: Arc<AtomicU32>,
    }

    fn stage(permits: usize) -> Stage {
        let clock = Arc::new(FixedClock::at(1_000));
        let permits = Arc::new(Semaphore::new(permits));
        let (calls, broken, life) = (Arc::default(), Arc::default(), Arc::new(AtomicU32::new(100)));
        let source = Counter {
            clock: Arc::clone(&clock),
            permits: Arc::clone(&permits),
            calls: Arc::clone(&calls),
            broken: Arc::clone(&broken),
            life: Arc::clone(&life),
        };
        let refresh = Refresh::new(source, clock.clone() as Arc<dyn Clock>);
        Stage { refresh, clock, permits, calls, broken, life }
    }

    const WAIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn one_fetch_serves_all_who_wait() {
        let stage = stage(0);
        let (a, b, c) = (stage.refresh.get(WAIT), stage.refresh.get(WAIT), stage.refresh.get(WAIT));
        let release = async { stage.permits.add_permits(1) };
        let (a, b, c, ()) = tokio::join!(a, b, c, release);
        assert_eq!((a, b, c), (Ok(1), Ok(1), Ok(1)));
        assert_eq!(stage.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_value_serves_while_the_new_one_is_fetched_and_not_after_its_end() {
        let stage = stage(1);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        stage.clock.set(1_049);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        tokio::task::yield_now().await;
        assert_eq!(stage.calls.load(Ordering::SeqCst), 1, "not due yet");

        stage.clock.set(1_050);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        tokio::task::yield_now().await;
        assert_eq!(stage.calls.load(Ordering::SeqCst), 2, "due, and fetching");
        stage.clock.set(1_099);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        stage.clock.set(1_100);
        assert!(stage.refresh.get(WAIT).await.is_err(), "dead, and the fetch hangs");
        stage.permits.add_permits(1);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_fetch_waits_for_the_pause() {
        let stage = stage(100);
        stage.broken.store(true, Ordering::SeqCst);
        assert_eq!(stage.refresh.get(WAIT).await, Err("issuer down".to_owned()));
        // The wall clock stands still, so the pause never ends.
        assert_eq!(stage.calls.load(Ordering::SeqCst), 1);
        stage.clock.advance(Duration::from_secs(1));
        assert_eq!(stage.refresh.get(Duration::ZERO).await, Err("issuer down".to_owned()));
        tokio::task::yield_now().await;
        assert_eq!(stage.calls.load(Ordering::SeqCst), 2);
        stage.broken.store(false, Ordering::SeqCst);
        stage.clock.advance(Duration::from_secs(1));
        assert_eq!(stage.refresh.get(WAIT).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_over_when_it_comes_is_a_failure_with_a_pause() {
        let stage = stage(100);
        stage.life.store(0, Ordering::SeqCst);
        assert_eq!(stage.refresh.get(WAIT).await, Err("what the issuer sent is over already".to_owned()));
        // The wall clock stands still, so the pause never ends.
        assert_eq!(stage.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_does_not_prolong_the_pause() {
        let stage = stage(100);
        stage.broken.store(true, Ordering::SeqCst);
        assert!(stage.refresh.get(WAIT).await.is_err());
        stage.broken.store(false, Ordering::SeqCst);
        stage.clock.set(10);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_down_at_the_start_is_asked_until_it_is_back() {
        let stage = stage(100);
        stage.broken.store(true, Ordering::SeqCst);
        for (calls, pause) in [(1, 250), (2, 500), (3, 1_000), (4, 2_000), (5, 4_000), (6, 5_000), (7, 5_000)] {
            assert!(stage.refresh.get(Duration::ZERO).await.is_err());
            tokio::task::yield_now().await;
            assert_eq!(stage.calls.load(Ordering::SeqCst), calls);
            stage.clock.advance(Duration::from_millis(pause - 1));
            assert!(stage.refresh.get(Duration::ZERO).await.is_err());
            tokio::task::yield_now().await;
            assert_eq!(stage.calls.load(Ordering::SeqCst), calls, "the pause of {pause} ms is not over");
            stage.clock.advance(Duration::from_millis(1));
        }
        stage.broken.store(false, Ordering::SeqCst);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(8));
        assert_eq!(stage.refresh.counts(), (1, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_issuer_serves_who_still_waits_and_those_after() {
        let stage = stage(0);
        let slow = async {
            tokio::time::sleep(WAIT * 2).await;
            stage.permits.add_permits(1);
        };
        let (short, long, ()) = tokio::join!(stage.refresh.get(WAIT), stage.refresh.get(WAIT * 3), slow);
        assert_eq!(short, Err("no answer from the issuer yet".to_owned()));
        assert_eq!(long, Ok(1));
        assert_eq!(stage.refresh.get(Duration::ZERO).await, Ok(1));
        assert_eq!(stage.calls.load(Ordering::SeqCst), 1, "who gave up has not asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_down_at_half_life_leaves_the_old_value_until_its_end() {
        let stage = stage(100);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        stage.broken.store(true, Ordering::SeqCst);
        for now in [1_050, 1_060, 1_080, 1_099] {
            stage.clock.set(now);
            assert_eq!(stage.refresh.get(WAIT).await, Ok(1), "at {now}");
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.refresh.counts(), (1, 4), "each was a try to renew");
        stage.clock.set(1_100);
        assert!(stage.refresh.get(WAIT).await.is_err(), "not one second longer");
        stage.clock.advance(LAST_PAUSE);
        stage.broken.store(false, Ordering::SeqCst);
        assert!(stage.refresh.get(WAIT).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_ended_in_a_freeze_is_used_by_nobody() {
        let stage = stage(1);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        // Only the wall clock went on: no timer has run.
        stage.clock.set(1_000 + 86_400);
        let (first, ()) = tokio::join!(stage.refresh.get(WAIT), async { stage.permits.add_permits(1) });
        assert_eq!(first, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_put_right_ends_what_was_fetched_before() {
        let stage = stage(100);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        // It was an hour slow.
        stage.clock.advance(Duration::from_secs(3_600));
        assert_eq!(stage.refresh.get(WAIT).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_has_been_used_is_renewed_ahead() {
        let stage = stage(100);
        stage.refresh.start_if_used();
        tokio::task::yield_now().await;
        assert_eq!(stage.calls.load(Ordering::SeqCst), 0);
        assert_eq!(stage.refresh.get(WAIT).await, Ok(1));
        stage.clock.set(1_050);
        stage.refresh.start_if_used();
        tokio::task::yield_now().await;
        assert_eq!(stage.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_in_time() {
        let stage = stage(0);
        let start = tokio::time::Instant::now();
        assert!(stage.refresh.get(WAIT).await.is_err());
        assert_eq!(start.elapsed(), WAIT);
    }
}
