//! Which endpoint a request goes to: Envoy's load balancers, with its priority levels.

use std::time::Duration;

use crate::table::Balance;

/// An endpoint as a balancer sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What hash tables place it by: `address:port`.
    pub key: String,
    /// From [`crate::locality::assign`].
    pub priority: u32,
    /// From [`crate::locality::assign`]; 0 gets nothing.
    pub weight: u32,
    /// When it came, for the slow start.
    pub since: Duration,
}

/// What changes between two choices.
pub trait Now {
    /// Whether the endpoint may be used.
    fn is_healthy(&self, member: usize) -> bool;
    /// Its requests in hand.
    fn active(&self, member: usize) -> u32;
}

/// What a choice depends on besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Of what [`crate::table::BalancePolicy::Hash`] names.
    pub hash: Option<u64>,
    /// Endpoints that earlier tries went to; they are taken only when five draws give nothing else.
    pub previous: &'a [usize],
    /// Whether priorities of earlier tries are left out (`retryRemoteLocalities`).
    pub other_priorities: bool,
}

/// The endpoints of one cluster and a load balancer.
#[derive(Debug)]
pub struct Balancer;

impl Balancer {
    /// For these endpoints; `min_health_percent` is Istio's `minHealthPercent` (Envoy's panic threshold).
    pub fn new(_settings: &Balance, _members: Vec<Member>, _min_health_percent: u32) -> Balancer {
        Balancer
    }

    /// The endpoint for a request; `None` when there is no healthy one. `random` gives any numbers.
    pub fn pick(
        &mut self,
        _request: &Request<'_>,
        _state: &dyn Now,
        _now: Duration,
        _random: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        None
    }
}
