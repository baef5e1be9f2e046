//! Where a service is reached.

use std::net::IpAddr;

use istio::{Resolution, ServiceEntry, WorkloadEntry};

use super::hostname;
use super::labels::{Labels, listed, selects};
use super::registry::Port;
use crate::table::{self, Endpoint, Locality};

/// Labels that Istio adds to endpoints, for `failoverPriority`.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
const NETWORK: &str = "topology.istio.io/network";

/// The labels of a workload: "we will merge labels from metadata with spec, with precedence to the metadata".
pub(super) fn labels_of(workload: &WorkloadEntry) -> Labels {
    let mut labels = workload.endpoint.labels.clone();
    labels.extend(workload.meta.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels
}

/// Every endpoint of an entry with its labels, in order.
pub(super) fn all<'a>(
    entry: &'a ServiceEntry,
    workloads: &[&'a WorkloadEntry],
) -> impl Iterator<Item = (&'a istio::Endpoint, Labels)> {
    let own = entry.endpoints.iter().map(|endpoint| (endpoint, endpoint.labels.clone()));
    let selected = workloads.iter().map(|workload| (&workload.endpoint, labels_of(workload)));
    own.chain(selected.collect::<Vec<_>>())
}

/// How the addresses of an entry are found.
pub(super) fn resolution(entry: &ServiceEntry) -> table::Resolution {
    match entry.resolution {
        Resolution::None => table::Resolution::Original,
        Resolution::Dns => table::Resolution::StrictDns,
        Resolution::DnsRoundRobin => table::Resolution::LogicalDns,
        Resolution::Static => table::Resolution::Static,
    }
}

/// The endpoints of a host at a port that have the labels of a subset.
pub(super) fn endpoints(
    entry: &ServiceEntry,
    workloads: &[&WorkloadEntry],
    host: &str,
    port: &Port,
    subset: &Labels,
) -> Result<Vec<Endpoint>, String> {
    let has_any = !entry.endpoints.is_empty() || entry.workload_selector.is_some();
    match (entry.resolution, has_any) {
        (Resolution::None, true) => {
            return Err("spec.endpoints: found some with resolution NONE, expected STATIC or DNS".to_owned());
        }
        (Resolution::None, false) if !entry.target_ports.is_empty() => {
            return Err(
                "spec.ports: targetPort is not supported with resolution NONE, expected DNS or STATIC".to_owned()
            );
        }
        (Resolution::None, false) => return Ok(Vec::new()),
        (Resolution::Static, false) => {
            return Err("spec.endpoints: found none, expected at least one with resolution STATIC".to_owned());
        }
        (Resolution::Dns | Resolution::DnsRoundRobin, false) if hostname::wildcard(host).is_some() => {
            return Err(format!(
                "spec.endpoints: found none for {host}, expected some: a wildcard cannot be looked up"
            ));
        }
        // "If no endpoints are specified, the proxy will resolve the DNS address specified in the hosts field".
        (Resolution::Dns | Resolution::DnsRoundRobin, false) => {
            let own = Endpoint { address: host.to_owned(), port: port.target, weight: 1, ..Endpoint::default() };
            return Ok(if subset.is_empty() { vec![own] } else { Vec::new() });
        }
        (_, true) => {}
    }
    let mut found = Vec::new();
    for (endpoint, labels) in all(entry, workloads) {
        let checked = checked(entry.resolution, endpoint, labels, port)?;
        if selects(subset, &checked.labels.iter().cloned().collect()) {
            found.push(checked);
        }
    }
    if entry.resolution == Resolution::DnsRoundRobin && found.len() > 1 {
        return Err("spec.endpoints: found several, expected at most one with resolution DNS_ROUND_ROBIN".to_owned());
    }
    Ok(found)
}

fn checked(
    resolution: Resolution,
    endpoint: &istio::Endpoint,
    mut labels: Labels,
    port: &Port,
) -> Result<Endpoint, String> {
    let address = endpoint.address.to_ascii_lowercase();
    let is_address = address.parse::<IpAddr>().is_ok();
    if resolution == Resolution::Static && !is_address {
        let found = &endpoint.address;
        return Err(format!("spec.endpoints: found {found:?}, expected an IP address with resolution STATIC"));
    }
    if !is_address && !hostname::is_dns_name(&address) {
        let found = &endpoint.address;
        return Err(format!("spec.endpoints: found the address {found:?}, expected an IP address or a DNS name"));
    }
    let locality = locality(&endpoint.locality, &labels);
    for (label, value) in TOPOLOGY.iter().zip([&locality.region, &locality.zone, &locality.subzone]) {
        if !value.is_empty() {
            labels.insert((*label).to_owned(), value.clone());
        }
    }
    if !endpoint.network.is_empty() {
        labels.insert(NETWORK.to_owned(), endpoint.network.clone());
    }
    Ok(Endpoint {
        address,
        // "we.ports > se.port.targetPort > se.port.number".
        port: endpoint.ports.get(&port.name).copied().unwrap_or(port.target),
        weight: endpoint.weight.max(1),
        locality,
        labels: listed(&labels),
    })
}

/// `REGION/ZONE/SUBZONE`, or of the label `istio-locality`, in which dots may stand for slashes.
fn locality(said: &str, labels: &Labels) -> Locality {
    let label = labels.get("istio-locality").map_or("", String::as_str);
    let text = match (said.is_empty(), label.contains('/')) {
        (false, _) => said.to_owned(),
        (true, true) => label.to_owned(),
        (true, false) => label.replace('.', "/"),
    };
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}
