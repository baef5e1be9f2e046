//! Istio's connection pool limits: what of a cluster is in use, counted over all of its endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The most requests that wait for a connection to a cluster, where the configuration sets no limit.
pub(super) const MAX_PENDING: u32 = 1_024;

/// What of a cluster is in use.
#[derive(Debug, Default)]
pub(super) struct Service {
    connections: AtomicU32,
    requests: AtomicU32,
    pending: AtomicU32,
    /// Told when a connection has become free or has ended.
    freed: Notify,
}

impl Service {
    /// A request, to its answer's end. `None` at the limit; 0 is no limit.
    pub(super) fn begin(self: &Arc<Self>, max_requests: u32) -> Option<Place> {
        enter(&self.requests, max_requests).then(|| Place(Arc::clone(self)))
    }

    /// A request that waits for a connection. `None` at the limit; 0 is [`MAX_PENDING`].
    pub(super) fn queue(self: &Arc<Self>, max_pending: u32) -> Option<Queued> {
        enter(&self.pending, most_pending(max_pending)).then(|| Queued(Arc::clone(self)))
    }

    /// A connection to an endpoint. At the limit there is still one for an endpoint that has none, as in Envoy: its
    /// requests would wait forever.
    pub(super) fn open(self: &Arc<Self>, endpoint: &Arc<AtomicU32>, max_connections: u32) -> Option<Open> {
        let first = endpoint.load(Ordering::Acquire) == 0;
        let max = if first { 0 } else { max_connections };
        if !enter(&self.connections, max) {
            return None;
        }
        endpoint.fetch_add(1, Ordering::AcqRel);
        Some(Open { service: Arc::clone(self), endpoint: Arc::clone(endpoint) })
    }

    /// Waits for the next change; enable it before looking.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Says that a connection may have become free.
    pub(super) fn tell(&self) {
        if self.pending.load(Ordering::Acquire) > 0 {
            self.freed.notify_waiters();
        }
    }
}

/// The limit that holds.
pub(super) fn most_pending(configured: u32) -> u32 {
    if configured == 0 { MAX_PENDING } else { configured }
}

fn enter(count: &AtomicU32, max: u32) -> bool {
    let next = |now: u32| (max == 0 || now < max).then(|| now.saturating_add(1));
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
}

/// One of the requests of a cluster.
#[derive(Debug)]
pub(super) struct Place(Arc<Service>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One of the requests that wait.
#[derive(Debug)]
pub(super) struct Queued(Arc<Service>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One of the connections of a cluster.
#[derive(Debug)]
pub(super) struct Open {
    service: Arc<Service>,
    endpoint: Arc<AtomicU32>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.endpoint.fetch_sub(1, Ordering::AcqRel);
        self.service.connections.fetch_sub(1, Ordering::AcqRel);
        self.service.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_at_its_bound_and_is_given_back() {
        let service = Arc::<Service>::default();
        let first = service.begin(2).unwrap();
        let second = service.begin(2);
        assert!(second.is_some());
        assert!(service.begin(2).is_none());
        drop(first);
        assert!(service.begin(2).is_some());
        let all: Vec<_> = (0..100).map(|_| service.begin(0)).collect();
        assert!(all.iter().all(Option::is_some), "0 is no limit");
        let waiting: Vec<_> = (0..MAX_PENDING).map(|_| service.queue(0)).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(service.queue(0).is_none(), "but for those who wait");
    }

    #[test]
    fn an_endpoint_without_a_connection_always_gets_one() {
        let service = Arc::<Service>::default();
        let (a, b) = (Arc::default(), Arc::default());
        let first = service.open(&a, 1);
        assert!(first.is_some());
        assert!(service.open(&a, 1).is_none());
        assert!(service.open(&b, 1).is_some());
        drop(first);
        assert!(service.open(&a, 1).is_some());
    }
}
