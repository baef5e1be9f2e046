//! `distribute`: shares of the requests for localities (`applyLocalityWeights`).

use std::collections::BTreeMap;

use super::Place;
use crate::table::{Endpoint, Locality};

/// Gives the localities that the first rule for `from` names their weights, and the endpoints of all others nothing.
/// Without such a rule everything stays.
pub(super) fn apply(
    rules: &[(String, Vec<(String, u32)>)],
    from: &Locality,
    endpoints: &[Endpoint],
    places: &mut [Place],
) {
    let Some((_, to)) = rules.iter().find(|(rule, _)| matches(from, rule)) else { return };
    // "In case wildcard dest matching multi groups of endpoints the load balancing weight for a locality is divided by
    // the sum of the weights of all localities".
    let rule_of = |endpoint: &Endpoint| to.iter().position(|(rule, _)| matches(&endpoint.locality, rule));
    let mut totals: BTreeMap<usize, BTreeMap<u32, u32>> = BTreeMap::new();
    for (place, endpoint) in places.iter().zip(endpoints) {
        if let (Some(rule), Some((locality, weight))) = (rule_of(endpoint), place.locality) {
            totals.entry(rule).or_default().insert(locality, weight);
        }
    }
    for (place, endpoint) in places.iter_mut().zip(endpoints) {
        let rule = rule_of(endpoint);
        let weight = rule.and_then(|rule| to.get(rule)).map_or(0, |(_, weight)| u64::from(*weight));
        let total: u64 = rule
            .and_then(|rule| totals.get(&rule))
            .map_or(0, |weights| weights.values().map(|weight| u64::from(*weight)).sum());
        place.locality = place.locality.map(|(locality, original)| {
            let weight = (u64::from(original) * weight).checked_next_multiple_of(total).unwrap_or(0);
            (locality, u32::try_from(weight.checked_div(total).unwrap_or(0)).unwrap_or(u32::MAX))
        });
        if place.locality.is_none_or(|(_, weight)| weight == 0) {
            // "Remove groups of endpoints in a locality that miss matched".
            place.weight = 0;
        }
    }
}

/// Istio's `LocalityMatch`: `*` stands for anything, and what a rule leaves out does too.
fn matches(locality: &Locality, rule: &str) -> bool {
    let mut parts = rule.split('/');
    let region = parts.next().unwrap_or_default();
    let zone = parts.next().unwrap_or_default();
    let subzone = parts.next().unwrap_or_default();
    (region == "*" || region == locality.region)
        && (zone == "*" || zone.is_empty() || zone == locality.zone)
        && (subzone == "*" || subzone.is_empty() || subzone == locality.subzone)
}
