//! What is known of a cluster while the extension runs: its endpoints, how they did, and what is in hand.
//!
//! There are two levels of health. A gateway is not the service behind it: answers of 5xx count for the cluster that
//! gave them, and no other. What happens before an answer (no connection, no TLS, a reset, silence) is the endpoint's
//! own, and every cluster that uses the same address hears of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use platform::clock::Clock;
use platform::log::Log;
use traffic::Rules;
use traffic::balance::{Balancer, Member, Now, Request};
use traffic::outlier::{Detector, Observed};
use traffic::retry::Budget;
use traffic::table::{Cluster, Endpoint, Locality};

use crate::random::Draws;
use crate::resolve::Addresses;

/// The most addresses whose failures are remembered.
const MAX_REMEMBERED: usize = 4_096;

/// The most failures in a row that a cluster is told of when it is used for the first time.
const MAX_TOLD: u32 = 64;

/// All clusters of a bundle, each opened when it is first used.
pub(crate) struct Clusters {
    rules: Rules,
    here: Locality,
    labels: Vec<(String, String)>,
    opened: Vec<OnceLock<Option<Arc<ClusterState>>>>,
    ticker: Ticker,
    log: Log,
    /// Failures in a row of an address, whichever cluster met them; an address without any is not here.
    failing: Mutex<HashMap<SocketAddr, u32>>,
    /// How many endpoints were left out since the start.
    ejections: AtomicU64,
}

/// One cluster.
pub(crate) struct ClusterState {
    pub(crate) table: Arc<Cluster>,
    pub(crate) index: u32,
    inner: Mutex<Inner>,
    /// Requests in hand.
    requests: Arc<AtomicU32>,
    /// Of these, second and later tries.
    retries: Arc<AtomicU32>,
    budget: Budget,
}

#[derive(Default)]
struct Inner {
    addresses: Arc<Addresses>,
    members: Vec<Known>,
    balancer: Option<Balancer>,
    detector: Option<Detector>,
}

#[derive(Clone)]
struct Known {
    address: SocketAddr,
    /// `host:port` for people.
    name: Arc<str>,
    active: Arc<AtomicU32>,
}

/// Counts one as long as it lives.
#[derive(Debug)]
pub(crate) struct Count(Arc<AtomicU32>);

impl Count {
    fn one(counter: &Arc<AtomicU32>) -> Count {
        counter.fetch_add(1, Ordering::Relaxed);
        Count(Arc::clone(counter))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places that a request takes under limits until its answer has ended.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<Count>);

impl Held {
    /// With one more.
    pub(crate) fn hold(&mut self, count: Count) {
        self.0.push(count);
    }
}

/// Where a try goes.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) address: SocketAddr,
    pub(crate) name: Arc<str>,
    /// The endpoint's request in hand.
    pub(crate) active: Count,
}

impl Chosen {
    /// An endpoint of no list.
    pub(crate) fn at(address: SocketAddr, name: Arc<str>) -> Chosen {
        Chosen { address, name, active: Count::one(&Arc::default()) }
    }
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) hash: Option<u64>,
    /// Where earlier tries went.
    pub(crate) tried: &'a [SocketAddr],
    /// Rather none of these (`retryIgnorePreviousHosts`).
    pub(crate) avoid: bool,
    /// None of these at all: this request could not be sent there.
    pub(crate) dead: &'a [SocketAddr],
    /// Rather none of their priorities (`retryRemoteLocalities`).
    pub(crate) other_priorities: bool,
}

impl Clusters {
    pub(crate) fn new(
        rules: Rules,
        here: Locality,
        labels: Vec<(String, String)>,
        clock: Arc<dyn Clock>,
        log: Log,
    ) -> Clusters {
        let opened = std::iter::repeat_with(OnceLock::new).take(rules.clusters()).collect();
        Clusters {
            rules,
            here,
            labels,
            opened,
            ticker: Ticker::new(clock),
            log,
            failing: Mutex::default(),
            ejections: AtomicU64::new(0),
        }
    }

    /// The cluster with this index.
    pub(crate) fn get(&self, index: u32) -> Option<&Arc<ClusterState>> {
        let slot = self.opened.get(usize::try_from(index).ok()?)?;
        slot.get_or_init(|| Some(Arc::new(ClusterState::new(self.rules.cluster(index)?, index)))).as_ref()
    }

    /// An endpoint for a request; `None` when no healthy one is left.
    pub(crate) fn choose(
        &self,
        cluster: &ClusterState,
        addresses: &Arc<Addresses>,
        wanted: &Wanted<'_>,
        draws: &mut Draws,
    ) -> Option<Chosen> {
        let now = self.ticker.now();
        let mut inner = cluster.lock();
        if !Arc::ptr_eq(&inner.addresses, addresses) && inner.addresses != *addresses {
            let came = inner.replace(&cluster.table, addresses, &self.here, &self.labels, now);
            self.tell(&mut inner, &came, now);
        }
        inner.choose(wanted, now, draws)
    }

    /// What an answer says of the service behind an endpoint, and that the endpoint itself is well.
    pub(crate) fn answered(&self, cluster: &ClusterState, address: SocketAddr, answer: Observed) {
        let now = self.ticker.now();
        let healed = {
            let mut failing = lock(&self.failing);
            // Most of the time nothing fails.
            !failing.is_empty() && failing.remove(&address).is_some()
        };
        if healed {
            for other in self.opened() {
                other.lock().observe(address, Observed::Connected, now);
            }
        }
        if cluster.table.outlier.is_none() {
            return;
        }
        let mut inner = cluster.lock();
        if !healed {
            inner.observe(address, Observed::Connected, now);
        }
        if let Some(ejected) = inner.observe(address, answer, now) {
            drop(inner);
            self.ejected(cluster, &ejected, &format!("{answer:?}"));
        }
    }

    /// A failure before an answer: every cluster with this address hears of it.
    pub(crate) fn failed(&self, address: SocketAddr, why: &str) {
        let now = self.ticker.now();
        {
            let mut failing = lock(&self.failing);
            if failing.len() < MAX_REMEMBERED || failing.contains_key(&address) {
                let count = failing.entry(address).or_default();
                *count = count.saturating_add(1);
            }
        }
        for cluster in self.opened() {
            let ejected = cluster.lock().observe(address, Observed::LocalOrigin, now);
            if let Some(ejected) = ejected {
                self.ejected(cluster, &ejected, why);
            }
        }
    }

    /// A failure that is not the endpoint's: only this cluster hears of it.
    pub(crate) fn failed_behind(&self, cluster: &ClusterState, address: SocketAddr) {
        let ejected = cluster.lock().observe(address, Observed::LocalOrigin, self.ticker.now());
        if let Some(ejected) = ejected {
            self.ejected(cluster, &ejected, "somebody else answered");
        }
    }

    /// Tells a cluster's new members what others have met at their addresses.
    fn tell(&self, inner: &mut Inner, came: &[SocketAddr], now: Duration) {
        let failing = lock(&self.failing);
        if failing.is_empty() || inner.detector.is_none() {
            return;
        }
        for address in came {
            let failures = failing.get(address).copied().unwrap_or_default();
            for _ in 0..failures.min(MAX_TOLD) {
                inner.observe(*address, Observed::LocalOrigin, now);
            }
        }
    }

    fn opened(&self) -> impl Iterator<Item = &Arc<ClusterState>> {
        self.opened.iter().filter_map(|slot| slot.get()?.as_ref())
    }

    /// How many endpoints were left out since the start.
    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    fn ejected(&self, cluster: &ClusterState, endpoint: &str, why: &str) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.log.write(&serde_json::json!({
            "event": "endpoint_ejected",
            "upstream_cluster": cluster.table.name,
            "upstream_host": endpoint,
            "why": why,
        }));
    }
}

impl ClusterState {
    /// A cluster that is used by nobody yet.
    pub(crate) fn new(table: Cluster, index: u32) -> ClusterState {
        let inner =
            Inner { detector: table.outlier.clone().map(|settings| Detector::new(settings, 0)), ..Inner::default() };
        let (requests, retries) = (Arc::default(), Arc::default());
        let budget = Budget::new(&table.pool);
        ClusterState { table: Arc::new(table), index, inner: Mutex::new(inner), requests, retries, budget }
    }

    /// A place among the requests in hand; `None` when `maxRequests` are.
    pub(crate) fn enter(&self) -> Option<Count> {
        let limit = self.table.pool.max_requests;
        if limit > 0 && self.requests.load(Ordering::Relaxed) >= limit {
            return None;
        }
        Some(Count::one(&self.requests))
    }

    /// A place among the retries in hand; `None` when `maxRetries` are, or `retryBudget` says so.
    pub(crate) fn retry(&self) -> Option<Count> {
        let (requests, retries) = (self.requests.load(Ordering::Relaxed), self.retries.load(Ordering::Relaxed));
        self.budget.allows(requests, retries).then(|| Count::one(&self.retries))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    /// Takes other endpoints, keeping what is known of those that stay. Gives the addresses that are new.
    fn replace(
        &mut self,
        table: &Cluster,
        addresses: &Arc<Addresses>,
        here: &Locality,
        labels: &[(String, String)],
        now: Duration,
    ) -> Vec<SocketAddr> {
        let endpoints: Vec<Endpoint> = addresses
            .0
            .iter()
            .filter_map(|place| {
                let endpoint = table.endpoints.get(place.endpoint)?;
                Some(Endpoint {
                    address: place.address.ip().to_string(),
                    port: place.address.port(),
                    ..endpoint.clone()
                })
            })
            .collect();
        let assigned = traffic::locality::assign(&table.balance.locality, here, labels, &endpoints);
        let mut members = Vec::with_capacity(endpoints.len());
        for (found, place) in addresses.0.iter().zip(assigned) {
            members.push(Member { key: found.address.to_string(), place, since: now });
        }
        let kept = match &mut self.balancer {
            Some(balancer) => balancer.replace(members),
            None => {
                let kept = vec![None; members.len()];
                let least = table.outlier.as_ref().map_or(0, |outlier| outlier.min_health_percent);
                self.balancer = Some(Balancer::new(&table.balance, members, least));
                kept
            }
        };
        if let Some(detector) = &mut self.detector {
            detector.replace(&kept);
        }
        let old = std::mem::take(&mut self.members);
        let mut came = Vec::new();
        for (found, kept) in addresses.0.iter().zip(kept) {
            let known = kept.and_then(|index| old.get(index)).cloned();
            self.members.push(known.unwrap_or_else(|| {
                came.push(found.address);
                let name = table.endpoints.get(found.endpoint).map_or("", |endpoint| &endpoint.address);
                let name = format!("{name}:{}", found.address.port()).into();
                Known { address: found.address, name, active: Arc::default() }
            }));
        }
        self.addresses = Arc::clone(addresses);
        came
    }

    fn choose(&mut self, wanted: &Wanted<'_>, now: Duration, draws: &mut Draws) -> Option<Chosen> {
        if let Some(detector) = &mut self.detector {
            detector.tick(now);
        }
        let indices = |addresses: &[SocketAddr]| -> Vec<usize> {
            let of = |address: &SocketAddr| self.members.iter().position(|known| known.address == *address);
            addresses.iter().filter_map(of).collect()
        };
        let (tried, dead) = (indices(wanted.tried), indices(wanted.dead));
        let previous = if wanted.avoid { tried.clone() } else { Vec::new() };
        let state = Seen { members: &self.members, detector: self.detector.as_ref(), dead: &dead };
        let previous_priorities = if wanted.other_priorities { tried.as_slice() } else { &[] };
        let request = Request { hash: wanted.hash, previous: &previous, previous_priorities };
        let picked = self.balancer.as_mut()?.pick(&request, &state, now, &mut || draws.next())?;
        // Where all endpoints are used because too few are healthy, a dead one can come out.
        let known = self.members.get(picked).filter(|_| !dead.contains(&picked))?;
        Some(Chosen { address: known.address, name: Arc::clone(&known.name), active: Count::one(&known.active) })
    }

    /// The endpoint's name, if this ejected it.
    fn observe(&mut self, address: SocketAddr, observed: Observed, now: Duration) -> Option<Arc<str>> {
        let detector = self.detector.as_mut()?;
        let index = self.members.iter().position(|known| known.address == address)?;
        let ejected = detector.observe(index, observed, now);
        ejected.then(|| Arc::clone(&self.members[index].name))
    }
}

/// What a balancer asks for.
struct Seen<'a> {
    members: &'a [Known],
    detector: Option<&'a Detector>,
    dead: &'a [usize],
}

impl Now for Seen<'_> {
    fn is_healthy(&self, member: usize) -> bool {
        !self.dead.contains(&member) && !self.detector.is_some_and(|detector| detector.is_ejected(member))
    }

    fn version(&self) -> Option<u64> {
        // Who is dead is another matter for each request.
        self.dead.is_empty().then(|| self.detector.map_or(0, Detector::version))
    }

    fn active(&self, member: usize) -> u32 {
        self.members.get(member).map_or(0, |known| known.active.load(Ordering::Relaxed))
    }
}

/// Time since the start. Wall clock, so that an ejection ends while the environment is frozen; a clock that is set back
/// stands still instead.
struct Ticker {
    clock: Arc<dyn Clock>,
    last: Mutex<(SystemTime, Duration)>,
}

impl Ticker {
    fn new(clock: Arc<dyn Clock>) -> Ticker {
        let now = clock.now();
        Ticker { clock, last: Mutex::new((now, Duration::ZERO)) }
    }

    fn now(&self) -> Duration {
        let now = self.clock.now();
        let mut last = lock(&self.last);
        let passed = now.duration_since(last.0).unwrap_or_default();
        *last = (now, last.1.saturating_add(passed));
        last.1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use platform::clock::FixedClock;
    use traffic::table::Pool;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let clock = Arc::new(FixedClock::at(1_000));
        let ticker = Ticker::new(clock.clone() as Arc<dyn Clock>);
        clock.advance(Duration::from_secs(5));
        assert_eq!(ticker.now(), Duration::from_secs(5));
        clock.set(10);
        assert_eq!(ticker.now(), Duration::from_secs(5));
        clock.advance(Duration::from_secs(1));
        assert_eq!(ticker.now(), Duration::from_secs(6));
    }

    fn state(pool: Pool) -> ClusterState {
        ClusterState::new(Cluster { pool, ..Cluster::default() }, 0)
    }

    #[test]
    fn limits_hold_at_their_bound_and_one_past_it() {
        let cluster = state(Pool { max_requests: 2, max_retries: 1, ..Pool::default() });
        let held: Vec<Count> = (0..2).map(|_| cluster.enter().unwrap()).collect();
        assert!(cluster.enter().is_none());
        drop(held);
        assert!(cluster.enter().is_some());
        let retry = cluster.retry().unwrap();
        assert!(cluster.retry().is_none());
        drop(retry);
        assert!(cluster.retry().is_some());
        let unlimited = state(Pool::default());
        let _held: Vec<Count> =
            (0..100).map(|_| unlimited.enter().unwrap()).chain((0..100).map(|_| unlimited.retry().unwrap())).collect();
    }

    #[test]
    fn a_budget_is_a_share_of_the_requests_in_hand() {
        // Of 20 %, and at least 3, as Envoy has it.
        let cluster = state(Pool { max_retries: 1, retry_budget: Some((200_000, 3)), ..Pool::default() });
        for (requests, allowed) in [(1, 3), (15, 3), (20, 4), (49, 9), (50, 10)] {
            let _requests: Vec<Count> = (0..requests).map(|_| cluster.enter().unwrap()).collect();
            let retries: Vec<Count> = std::iter::from_fn(|| cluster.retry()).take(100).collect();
            assert_eq!(retries.len(), allowed, "{requests} requests");
        }
    }
}
