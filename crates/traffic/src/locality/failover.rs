//! Priorities: by place (`applyLocalityFailover`) and by labels (`applyFailoverPriorities`).

use crate::table::{Endpoint, Locality};

/// By region, zone and subzone, and by the region that stands beside ours.
pub(super) fn by_locality(regions: &[(String, String)], from: &Locality, endpoints: &[Endpoint]) -> Vec<u32> {
    let beside = regions.iter().find(|(region, _)| *region == from.region).map(|(_, to)| to);
    let priority = |endpoint: &Endpoint| {
        let to = &endpoint.locality;
        if from.region != to.region {
            // "Update localityLbEndpoints' priority to 4 if failover not match".
            return if beside.is_none_or(|region| *region == to.region) { 3 } else { 4 };
        }
        // "If region/zone/subZone all match, the priority is 0. If region/zone match, the priority is 1. If region
        // matches, the priority is 2."
        match (from.zone == to.zone, from.subzone == to.subzone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    };
    without_gaps(endpoints.iter().map(priority).collect())
}

/// By the number of labels that agree, counted from the first one on.
pub(super) fn by_labels(
    names: &[String],
    from: &Locality,
    labels: &[(String, String)],
    endpoints: &[Endpoint],
) -> Vec<u32> {
    if labels.is_empty() && *from == Locality::default() {
        // Istio does nothing for a proxy without labels.
        return vec![0; endpoints.len()];
    }
    let count = names.len() as u32;
    // "Ignore network": an endpoint of another network stands behind all others, with the same order there.
    let has_network = names.first().is_some_and(|name| name == NETWORK);
    let priority = |endpoint: &Endpoint| {
        let mut behind = 0;
        for (index, name) in names.iter().enumerate() {
            let (key, ours) = wanted(names, name, from, labels);
            if ours == label(&endpoint.locality, &endpoint.labels, key) {
                continue;
            }
            if index == 0 && has_network {
                behind = count;
                continue;
            }
            return behind + count - index as u32;
        }
        behind
    };
    without_gaps(endpoints.iter().map(priority).collect())
}

const NETWORK: &str = "topology.istio.io/network";

/// The key of a label and the value that it must have: that of `KEY=VALUE`, or ours.
fn wanted<'a>(
    names: &'a [String],
    name: &'a str,
    from: &'a Locality,
    labels: &'a [(String, String)],
) -> (&'a str, &'a str) {
    let key = name.split('=').next().unwrap_or_default();
    // A value holds for every mention of its key, and the last one wins.
    let value = names.iter().rev().find_map(|name| match name.split_once('=') {
        Some((other, value)) if other == key && !value.contains('=') => Some(value),
        _ => None,
    });
    (key, value.unwrap_or_else(|| label(from, labels, key)))
}

/// A label, where those of the topology come from the locality (`AugmentLabels`); empty when absent.
fn label<'a>(locality: &'a Locality, labels: &'a [(String, String)], key: &str) -> &'a str {
    let topology = match key {
        "topology.kubernetes.io/region" => locality.region.as_str(),
        "topology.kubernetes.io/zone" => &locality.zone,
        "topology.istio.io/subzone" => &locality.subzone,
        _ => "",
    };
    if !topology.is_empty() {
        return topology;
    }
    labels.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
}

/// "Priorities should range from 0 (highest) to N (lowest) without skipping."
fn without_gaps(priorities: Vec<u32>) -> Vec<u32> {
    let mut distinct = priorities.clone();
    distinct.sort_unstable();
    distinct.dedup();
    priorities.iter().map(|priority| distinct.partition_point(|other| other < priority) as u32).collect()
}
