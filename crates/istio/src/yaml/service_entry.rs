use std::collections::BTreeMap;

use super::check::{distinct, host};
use super::endpoint::endpoint;
use super::export_to::{Exported, export_to};
use super::meta::workload_selector;
use super::nearest::quoted;
use super::port::named_port;
use super::read::{At, Mapping};
use crate::{Location, Meta, Port, Resolution, ServiceEntry};

const LOCATIONS: &[(&str, Location)] =
    &[("MESH_EXTERNAL", Location::MeshExternal), ("MESH_INTERNAL", Location::MeshInternal)];
const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
];
const RESOLUTIONS_NOT_YET: &[&str] = &["DYNAMIC_DNS"];
/// Protocols whose requests or handshakes name the host.
const NAMING_HOSTS: &[&str] = &["GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "TLS"];

pub(super) fn service_entry(meta: Meta, spec: &At<'_>) -> Option<ServiceEntry> {
    spec.mapping(&[], |fields| {
        let hosts = fields.required_list("hosts", |at| host(at, true));
        refuse_addresses(fields);
        let mut target_ports = BTreeMap::new();
        let ports = fields.required_list("ports", |at| service_port(at, &mut target_ports));
        let location = fields.field("location").and_then(|at| at.word(LOCATIONS, &[]));
        let resolution = match fields.field("resolution") {
            None => Some(Resolution::None),
            Some(at) => at.word(RESOLUTIONS, RESOLUTIONS_NOT_YET),
        };
        let read = |at: &At<'_>| at.mapping(&[], |fields| endpoint(fields, resolution, &ports));
        let endpoints = fields.list("endpoints", read).unwrap_or_default();
        let workload_selector = workload_selector(fields);
        let subject_alt_names = fields.strings("subjectAltNames");
        let export_to = export_to(fields, &meta.namespace, Exported::Service);
        let entry = ServiceEntry {
            meta,
            hosts,
            ports,
            target_ports,
            location: location.unwrap_or_default(),
            resolution: resolution?,
            endpoints,
            workload_selector,
            subject_alt_names,
            export_to,
        };
        if fields.clean() {
            check(&entry, fields);
        }
        Some(entry)
    })
}

/// Istio's sidecars also take requests to these addresses as requests to the hosts. A client of ours that named such an
/// address would go past the rules of the host, and with `ALLOW_ANY` out without mutual TLS.
fn refuse_addresses(fields: &mut Mapping<'_>) {
    if let Some(at) = fields.name_of("addresses") {
        at.error(
            "the field `addresses` is not supported yet: requests to these addresses would not be taken as requests to \
             the hosts; leave it out, and let clients use the names of the hosts",
        );
    }
}

fn service_port(at: &At<'_>, target_ports: &mut BTreeMap<u16, u16>) -> Option<Port> {
    at.mapping(&[], |fields| {
        let target = fields.field("targetPort").and_then(|at| at.port());
        let port = named_port(fields)?;
        target_ports.extend(target.map(|target| (port.number, target)));
        Some(port)
    })
}

fn check(entry: &ServiceEntry, fields: &Mapping<'_>) {
    let at = &fields.at;
    for host in &entry.hosts {
        // Istio: "short names (non FQDN) are not allowed".
        if !host.contains('.') {
            at.error(format!("expected fully qualified hosts, found {}", quoted(host)));
        }
    }
    distinct(entry.ports.iter().map(|port| port.number), |number| {
        at.error(format!("the port {number} is given twice"))
    });
    distinct(entry.ports.iter().map(|port| port.name.as_str()), |name| {
        at.error(format!("the port name {} is given twice", quoted(name)))
    });
    // Istio: "only one of WorkloadSelector or Endpoints is allowed in Service Entry".
    if entry.workload_selector.is_some() && fields.has("endpoints") {
        at.error("`workloadSelector` and `endpoints` exclude each other; keep one");
    }
    // Istio: "multiple hosts provided with non-HTTP, non-TLS ports".
    let nameless = entry.ports.iter().find(|port| !NAMING_HOSTS.contains(&port.protocol.as_str()));
    if let Some(port) = nameless
        && entry.hosts.len() > 1
        && entry.resolution != Resolution::None
    {
        at.error(format!(
            "the port {} of protocol {} does not say which of several hosts is meant; expected one host",
            port.number, port.protocol
        ));
    }
    check_resolution(entry, at);
}

fn check_resolution(entry: &ServiceEntry, at: &At<'_>) {
    let endpoints = entry.endpoints.len();
    match entry.resolution {
        // Istio: "no endpoints should be provided for resolution type none", "workloadSelector should not be set when
        // resolution mode is NONE".
        Resolution::None if endpoints > 0 || entry.workload_selector.is_some() => {
            at.error(
                "resolution NONE, which is the default, has no `endpoints` and no `workloadSelector`; say how they are \
                 found",
            );
        }
        // Istio: "endpoints must be provided if service entry resolution mode is static".
        Resolution::Static if endpoints == 0 && entry.workload_selector.is_none() => {
            at.error("resolution STATIC needs `endpoints`");
        }
        // Istio: "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN".
        Resolution::DnsRoundRobin if endpoints > 1 => {
            at.error(format!("resolution DNS_ROUND_ROBIN has one endpoint at most, found {endpoints}"));
        }
        // Istio: "hosts must be FQDN if no endpoints are provided for resolution mode DNS".
        Resolution::Dns | Resolution::DnsRoundRobin if endpoints == 0 && entry.workload_selector.is_none() => {
            for host in entry.hosts.iter().filter(|host| host.contains('*')) {
                at.error(format!(
                    "resolution DNS without `endpoints` looks the hosts up, which {} cannot be",
                    quoted(host)
                ));
            }
        }
        Resolution::None | Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => {}
    }
}
