//! What belongs to the mesh, whoever may see it.

use std::collections::BTreeSet;

use super::endpoint;
use super::registry::{Registry, Source};
use crate::table::{Cluster, Tls};

/// The hosts of all services of the mesh and of all clusters that are called by mutual TLS, and what their endpoints are
/// reached at. A `Sidecar` or an `exportTo` hides a service from clients; it does not take it out of the mesh.
pub(super) fn names(registry: &Registry<'_>, clusters: &[Cluster]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for service in registry.services.iter().filter(|service| service.is_internal()) {
        found.insert(service.host.clone());
        if let Source::Entry(entry, workloads) = &service.source {
            let endpoints = endpoint::all(entry, workloads);
            found.extend(endpoints.map(|(endpoint, _)| endpoint.address.to_ascii_lowercase()));
        }
    }
    for cluster in clusters.iter().filter(|cluster| matches!(cluster.tls, Tls::IstioMutual(_))) {
        found.insert(cluster.host.clone());
        found.extend(cluster.endpoints.iter().map(|endpoint| endpoint.address.clone()));
    }
    found.remove("");
    found.into_iter().collect()
}
