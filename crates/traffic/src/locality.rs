//! Preference of near endpoints: Istio's `pilot/pkg/networking/core/loadbalancer/loadbalancer.go`.

mod distribute;
mod failover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::table::{Endpoint, Locality, LocalityPolicy};

/// Where an endpoint stands among those of its cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// 0 is the first; without gaps.
    pub priority: u32,
    /// Among the endpoints of its priority and locality; 0 gets nothing.
    pub weight: u32,
    /// Where requests are first shared out among localities (Envoy's locality weighted load balancing): the locality,
    /// as any number, and its weight among those of the same priority.
    pub locality: Option<(u32, u32)>,
}

/// The place of each endpoint, for a workload at `from` with `labels`.
pub fn assign(
    policy: &LocalityPolicy,
    from: &Locality,
    labels: &[(String, String)],
    endpoints: &[Endpoint],
) -> Vec<Place> {
    let mut places: Vec<Place> =
        endpoints.iter().map(|endpoint| Place { weight: endpoint.weight.max(1), ..Place::default() }).collect();
    match policy {
        LocalityPolicy::Off => {}
        LocalityPolicy::Failover(regions) => {
            prioritize(&mut places, failover::by_locality(regions, from, endpoints));
            // "Set locality weighted lb config when locality lb is enabled, otherwise it will influence the result of
            // LBPolicy like `least request`": where `failover` itself is given, and not for the default.
            if !regions.is_empty() {
                weigh(&mut places, endpoints);
            }
        }
        LocalityPolicy::FailoverPriority(names) => {
            prioritize(&mut places, failover::by_labels(names, from, labels, endpoints));
            weigh(&mut places, endpoints);
        }
        LocalityPolicy::Distribute(rules) => {
            weigh(&mut places, endpoints);
            distribute::apply(rules, from, endpoints, &mut places);
        }
    }
    places
}

fn prioritize(places: &mut [Place], priorities: Vec<u32>) {
    for (place, priority) in places.iter_mut().zip(priorities) {
        place.priority = priority;
    }
}

/// Lets each locality of a priority weigh as much as its endpoints do.
fn weigh(places: &mut [Place], endpoints: &[Endpoint]) {
    let mut numbers: BTreeMap<&Locality, u32> = BTreeMap::new();
    let mut sums: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut of = Vec::with_capacity(places.len());
    for (place, endpoint) in places.iter().zip(endpoints) {
        let next = numbers.len() as u32;
        let number = *numbers.entry(&endpoint.locality).or_insert(next);
        let sum = sums.entry((place.priority, number)).or_default();
        *sum = sum.saturating_add(place.weight);
        of.push(number);
    }
    for (place, number) in places.iter_mut().zip(of) {
        place.locality = sums.get(&(place.priority, number)).map(|sum| (number, *sum));
    }
}
