//! Workloads that were named on the command line and that no document tells of.

use std::collections::BTreeMap;

use authz::Hop;
use authz::trace::HopTrace;
use istio::Resources;

use super::text;

/// That no document tells of a workload that was named, and which ones its namespace has.
pub(super) fn unknown(resources: Option<&Resources>, hop: &HopTrace) -> Option<String> {
    const MOST: usize = 6;
    let resources = resources.filter(|_| hop.hop == Hop::Workload)?;
    let has = |labels: &BTreeMap<String, String>| {
        let given = |(name, value): (&String, &String)| hop.labels.iter().any(|own| (&own.0, &own.1) == (name, value));
        !labels.is_empty() && labels.iter().all(given)
    };
    let services = || resources.services.iter().filter(|service| service.meta.namespace == hop.namespace);
    let entries = resources.service_entries.iter().flat_map(|entry| {
        let endpoints = entry.endpoints.iter().map(|endpoint| &endpoint.labels);
        let selected = entry.workload_selector.iter().map(|selector| &selector.match_labels);
        let labels = endpoints.chain(selected).chain([&entry.meta.labels]);
        labels.map(|labels| (&entry.meta.namespace, labels))
    });
    let outside = resources.workload_entries.iter().map(|entry| (&entry.meta.namespace, &entry.endpoint.labels));
    let mut entries = entries.chain(outside);
    let mut gateways = resources.api_gateways.iter().map(|api| (&api.workload.namespace, &api.workload.labels));
    let is_own = |(namespace, labels): (&String, _)| *namespace == hop.namespace && has(labels);
    if services().any(|service| has(&service.selector)) || entries.any(is_own) || gateways.any(is_own) {
        return None;
    }
    let mut known: Vec<String> =
        services().flat_map(|service| service.selector.iter().map(|(name, value)| format!("{name}={value}"))).collect();
    known.sort_unstable();
    known.dedup();
    let more = if known.len() > MOST { ", …" } else { "" };
    known.truncate(MOST);
    let namespace = text::plain(&hop.namespace);
    Some(match known.is_empty() {
        true => format!("no Service of the namespace {namespace} is known"),
        false => {
            format!("no Service of {namespace} has these labels (it has {}{more})", text::plain(&known.join(", ")))
        }
    })
}
