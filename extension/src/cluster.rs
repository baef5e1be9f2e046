//! What is known of a cluster while the extension runs: its endpoints, how they did, and what is in hand.
//!
//! There are two levels of health. A gateway is not the service behind it: answers of 5xx count for the cluster that
//! gave them, and no other. What happens before an answer (no connection, no TLS, a reset, silence) is the endpoint's
//! own, and every cluster that uses the same address hears of it.

mod members;
mod ticker;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use platform::clock::Clock;
use platform::log::Log;
use traffic::Rules;
use traffic::outlier::Observed;
use traffic::retry::Budget;
use traffic::table::{Cluster, Locality};

use crate::random::Draws;
use crate::resolve::Addresses;
use members::Members;
pub(crate) use members::{Chosen, Wanted};
use ticker::Ticker;

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
    members: Mutex<Members>,
    /// Requests in hand.
    requests: Arc<AtomicU32>,
    /// Of these, second and later tries.
    retries: Arc<AtomicU32>,
    budget: Budget,
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
        let mut members = cluster.lock();
        if !members.are_of(addresses) {
            let came = members.replace(&cluster.table, addresses, &self.here, &self.labels, now);
            self.tell(&mut members, &came, now);
        }
        members.choose(wanted, now, draws)
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
        let mut members = cluster.lock();
        if !healed {
            members.observe(address, Observed::Connected, now);
        }
        if let Some(ejected) = members.observe(address, answer, now) {
            drop(members);
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
    fn tell(&self, members: &mut Members, came: &[SocketAddr], now: Duration) {
        let failing = lock(&self.failing);
        if failing.is_empty() || !members.are_watched() {
            return;
        }
        for address in came {
            let failures = failing.get(address).copied().unwrap_or_default();
            for _ in 0..failures.min(MAX_TOLD) {
                members.observe(*address, Observed::LocalOrigin, now);
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

/// The index of the cluster of hosts that nobody has named, which is in no table.
pub(crate) const PASSTHROUGH: u32 = u32::MAX;

impl ClusterState {
    /// Whether this is for a host that the operator has not named.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.index == PASSTHROUGH
    }

    /// A cluster that is used by nobody yet.
    pub(crate) fn new(table: Cluster, index: u32) -> ClusterState {
        let members = Mutex::new(Members::new(table.outlier.as_ref()));
        let (requests, retries) = (Arc::default(), Arc::default());
        let budget = Budget::new(&table.pool);
        ClusterState { table: Arc::new(table), index, members, requests, retries, budget }
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

    fn lock(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use traffic::table::Pool;

    use super::*;

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
