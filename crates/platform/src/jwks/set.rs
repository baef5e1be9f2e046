//! One published key set over time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authz::Jwks;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::bucket::Bucket;
use super::fetch::{Failure, Fetched, Place, fetch};
use super::report::{JwksState, Said};
use super::{EMBEDDED_HARD_AGE, HARD_AGE, LONGEST_SOFT_AGE, MAX_BACKOFF, SHORTEST_SOFT_AGE, SOFT_AGE, Shared};
use crate::clock::rfc3339;
use crate::log::Log;

/// A clock that was set back by no more than this, as when it is synchronised, makes no age unknown.
const CLOCK_STEP: u64 = 60;

/// A fetch that runs for so much longer than its time limit, by the wall clock, was frozen with its sandbox.
const FROZEN_AFTER: Duration = Duration::from_secs(2);

/// A published key set: what is held of it, and what is being done about it.
pub(crate) struct PublishedSet {
    place: Place,
    shared: Arc<Shared>,
    log: Log,
    state: Mutex<State>,
}

struct State {
    held: Option<Held>,
    flight: Option<Flight>,
    flights: u64,
    bucket: Bucket,
    /// Failures in a row, and the time of the last.
    failures: u32,
    failed_at: Option<u64>,
    said: Said,
}

#[derive(Clone)]
struct Held {
    keys: Arc<Jwks>,
    /// Whether it came with the policies.
    embedded: bool,
    /// When it was asked for; unknown for what came with policies that do not say.
    fetched_at: Option<u64>,
    soft_age: u64,
    hard_age: u64,
}

/// A fetch that is under way.
struct Flight {
    id: u64,
    started_at: u64,
    task: AbortHandle,
    landed: watch::Receiver<()>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Freshness {
    Fresh,
    Stale,
    Expired,
}

/// What a request has to do before it takes the keys.
pub(crate) enum Next {
    /// Nothing.
    Go,
    /// Nothing, but a fetch is under way that should get a chance to go on.
    Underway,
    /// Wait until this ends.
    Wait(watch::Receiver<()>),
}

/// Keys that may be used.
pub(crate) struct Usable {
    pub(crate) keys: Arc<Jwks>,
    /// The times, in seconds since 1970, from and until which they may be.
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Held {
    /// `None` is unknown, which counts as too old.
    fn age(&self, now: u64) -> Option<u64> {
        let fetched_at = self.fetched_at?;
        (now.saturating_add(CLOCK_STEP) >= fetched_at).then(|| now.saturating_sub(fetched_at))
    }

    fn freshness(&self, now: u64) -> Freshness {
        match self.age(now) {
            Some(age) if age < self.soft_age => Freshness::Fresh,
            Some(age) if age < self.hard_age => Freshness::Stale,
            _ => Freshness::Expired,
        }
    }
}

impl State {
    fn freshness(&self, now: u64) -> Freshness {
        self.held.as_ref().map_or(Freshness::Expired, |held| held.freshness(now))
    }

    /// 2, 4, 8, … seconds after a failure. A clock that was set back ends it.
    fn is_backing_off(&self, now: u64) -> bool {
        let since = self.failed_at.and_then(|at| now.checked_sub(at));
        since.is_some_and(|since| since < backoff(self.failures))
    }
}

fn backoff(failures: u32) -> u64 {
    2_u64.saturating_pow(failures).min(MAX_BACKOFF.as_secs())
}

impl PublishedSet {
    /// A set of which `embedded` came with the policies, fetched at that time if it is known.
    pub(super) fn new(place: Place, shared: Arc<Shared>, log: Log) -> Self {
        let bucket = Bucket::full(shared.clock.unix());
        let state =
            State { held: None, flight: None, flights: 0, bucket, failures: 0, failed_at: None, said: Said::default() };
        Self { place, shared, log, state: Mutex::new(state) }
    }

    /// Takes what came with policies, unless something newer is held.
    pub(super) fn embed(&self, keys: Arc<Jwks>, fetched_at: Option<u64>) {
        let mut state = self.state();
        if state.held.as_ref().is_none_or(|held| held.embedded || held.fetched_at < fetched_at) {
            let (soft_age, hard_age) = (SOFT_AGE.as_secs(), EMBEDDED_HARD_AGE.as_secs());
            state.held = Some(Held { keys, embedded: true, fetched_at, soft_age, hard_age });
            self.shared.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Looks at ages, starts a fetch if one is due, and says whether to wait for it: for keys that are too old, and for
    /// a key that is not there.
    pub(crate) fn prepare(self: &Arc<Self>, kid: Option<&str>) -> Next {
        let now = self.shared.clock.unix();
        let mut state = self.state();
        let freshness = state.freshness(now);
        let lacks_key = |held: &Held| kid.is_some_and(|kid| !held.keys.has_kid(kid));
        let unknown_key = state.held.as_ref().is_some_and(lacks_key);
        let wait = freshness == Freshness::Expired || unknown_key;
        if freshness == Freshness::Fresh && !unknown_key {
            return Next::Go;
        }
        let limit = (self.place.timeout + FROZEN_AFTER).as_secs();
        if let Some(flight) = &state.flight {
            let running = now.checked_sub(flight.started_at).is_some_and(|since| since <= limit);
            if running && !flight.task.is_finished() {
                return if wait { Next::Wait(flight.landed.clone()) } else { Next::Underway };
            }
            // It was frozen with the sandbox, or its runtime is gone: its connection is dead, though it may look alive.
            flight.task.abort();
            state.flight = None;
        }
        if state.is_backing_off(now) {
            return Next::Go;
        }
        if freshness == Freshness::Fresh && !state.bucket.take(now) {
            self.report(&mut state, JwksState::Penalised, None);
            return Next::Go;
        }
        let landed = self.start(&mut state, now);
        if wait { Next::Wait(landed) } else { Next::Underway }
    }

    /// Says how it is about the keys that a request got.
    pub(crate) fn conclude(&self) {
        let mut state = self.state();
        match state.freshness(self.shared.clock.unix()) {
            Freshness::Fresh => {}
            Freshness::Stale if state.failures == 0 => {}
            Freshness::Stale => self.report(&mut state, JwksState::Stale, None),
            Freshness::Expired => self.report(&mut state, JwksState::Expired, None),
        }
    }

    /// The keys, unless they are too old.
    pub(crate) fn usable(&self, now: u64) -> Option<Usable> {
        let state = self.state();
        let held = state.held.as_ref().filter(|held| held.freshness(now) != Freshness::Expired)?;
        let fetched_at = held.fetched_at?;
        let until = fetched_at.saturating_add(held.hard_age);
        Some(Usable { keys: held.keys.clone(), from: fetched_at.saturating_sub(CLOCK_STEP), until })
    }

    /// Starts a fetch, which goes on whenever the runtime does, within this request or a later one.
    fn start(self: &Arc<Self>, state: &mut State, now: u64) -> watch::Receiver<()> {
        state.flights += 1;
        let id = state.flights;
        let (landing, landed) = watch::channel(());
        let task = tokio::spawn(self.clone().fly(id, landing)).abort_handle();
        state.flight = Some(Flight { id, started_at: now, task, landed: landed.clone() });
        landed
    }

    /// Waiting requests go on when `_landing` is dropped, however this ends.
    async fn fly(self: Arc<Self>, id: u64, _landing: watch::Sender<()>) {
        loop {
            let started_at = self.shared.clock.unix();
            let outcome = match self.shared.client() {
                Ok(client) => fetch(client, &self.place).await,
                Err(error) => Err(error.into()),
            };
            let took = self.shared.clock.unix().checked_sub(started_at);
            let frozen = took.is_none_or(|took| took > (self.place.timeout + FROZEN_AFTER).as_secs());
            let mut state = self.state();
            let Some(flight) = state.flight.as_mut().filter(|flight| flight.id == id) else {
                // Given up meanwhile; another one may be under way.
                return;
            };
            if outcome.is_err() && frozen {
                // That the connection died while the sandbox was frozen says nothing about the issuer.
                flight.started_at = self.shared.clock.unix();
                continue;
            }
            state.flight = None;
            match outcome {
                Ok(fetched) => self.accept(&mut state, fetched, started_at),
                Err(failure) => self.refuse(&mut state, &failure),
            }
            return;
        }
    }

    /// Ages count from the moment of asking: the answer may have been waiting in a frozen sandbox.
    fn accept(&self, state: &mut State, fetched: Fetched, asked_at: u64) {
        let Fetched { keys, max_age } = fetched;
        let before = state.held.take();
        let same = before.as_ref().map(|held| held.keys.clone()).filter(|k| k.fingerprint() == keys.fingerprint());
        let outcome = match (&before, &same) {
            (None, _) => JwksState::Fetched,
            (Some(_), Some(_)) => JwksState::Unchanged,
            (Some(_), None) => JwksState::Refreshed,
        };
        if same.is_none() {
            state.bucket.refill(self.shared.clock.unix());
        }
        let soft_age = max_age.map_or(SOFT_AGE.as_secs(), |seconds| {
            seconds.clamp(SHORTEST_SOFT_AGE.as_secs(), LONGEST_SOFT_AGE.as_secs())
        });
        state.held = Some(Held {
            keys: same.unwrap_or_else(|| Arc::new(keys)),
            embedded: false,
            fetched_at: Some(asked_at),
            soft_age,
            hard_age: HARD_AGE.as_secs(),
        });
        (state.failures, state.failed_at) = (0, None);
        self.shared.changes.fetch_add(1, Ordering::Release);
        self.report(state, outcome, None);
    }

    fn refuse(&self, state: &mut State, failure: &Failure) {
        state.failures = state.failures.saturating_add(1);
        state.failed_at = Some(self.shared.clock.unix());
        let outcome = if failure.is_poison() { JwksState::Poisoned } else { JwksState::Failed };
        self.report(state, outcome, Some(failure));
    }

    fn report(&self, state: &mut State, what: JwksState, failure: Option<&Failure>) {
        let now = self.shared.clock.unix();
        self.shared.counters.add(what);
        if !state.said.due(what, now) {
            return;
        }
        let held = state.held.as_ref();
        self.log.write(&json!({
            "ts": rfc3339(self.shared.clock.now()),
            "event": "jwks",
            "state": what.name(),
            "issuer": self.place.issuer,
            "url": self.place.uri,
            "age_s": held.and_then(|held| held.age(now)),
            "keys": held.map(|held| held.keys.len()),
            "skipped": held.map(|held| held.keys.skipped().len()),
            "error": failure.map(ToString::to_string),
            "retry_in_s": failure.map(|_| backoff(state.failures)),
        }));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
