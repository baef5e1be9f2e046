use std::collections::BTreeMap;
use std::net::IpAddr;

use super::check::{distinct, host, is_host};
use super::nearest::quoted;
use super::port::port;
use super::read::{At, Mapping};
use crate::{Endpoint, Location, Meta, Port, Resolution, ServiceEntry};

const SPEC_NOT_YET: &[&str] = &["addresses", "exportTo", "workloadSelector"];
const PORT_NOT_YET: &[&str] = &["targetPort"];
const ENDPOINT_NOT_YET: &[&str] = &["labels", "locality", "network", "serviceAccount", "weight"];
const LOCATIONS: &[(&str, Location)] =
    &[("MESH_EXTERNAL", Location::MeshExternal), ("MESH_INTERNAL", Location::MeshInternal)];
const RESOLUTIONS: &[(&str, Resolution)] = &[("DNS", Resolution::Dns), ("STATIC", Resolution::Static)];
const RESOLUTIONS_NOT_YET: &[&str] = &["DNS_ROUND_ROBIN", "DYNAMIC_DNS", "NONE"];

pub(super) fn service_entry(meta: Meta, spec: &At<'_>) -> Option<ServiceEntry> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let hosts = fields.required_list("hosts", |at| host(at, true));
        let ports = fields.required_list("ports", |at| port(at, PORT_NOT_YET));
        let location = fields.field("location").and_then(|at| at.word(LOCATIONS, &[]));
        // Istio's default is NONE, which is not supported yet.
        let resolution = fields.required("resolution");
        let resolution = resolution.and_then(|at| at.word(RESOLUTIONS, RESOLUTIONS_NOT_YET));
        let read = |at: &At<'_>| endpoint(at, resolution, &ports);
        let endpoints = fields.list("endpoints", read).unwrap_or_default();
        let subject_alt_names = fields.strings("subjectAltNames");
        let entry = ServiceEntry {
            meta,
            hosts,
            ports,
            location: location.unwrap_or_default(),
            resolution: resolution?,
            endpoints,
            subject_alt_names,
            target_ports: BTreeMap::new(),
            workload_selector: None,
            export_to: Vec::new(),
        };
        if fields.clean() {
            check(&entry, fields);
        }
        Some(entry)
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
    if !entry.endpoints.is_empty() {
        return;
    }
    match entry.resolution {
        // Istio: "endpoints must be provided if service entry resolution mode is static".
        Resolution::None => {}
        Resolution::Static => at.error("resolution STATIC needs `endpoints`"),
        // Istio: "hosts must be FQDN if no endpoints are provided for resolution mode DNS".
        Resolution::Dns | Resolution::DnsRoundRobin => {
            for host in entry.hosts.iter().filter(|host| host.contains('*')) {
                at.error(format!(
                    "resolution DNS without `endpoints` looks the hosts up, which {} cannot be",
                    quoted(host)
                ));
            }
        }
    }
}

fn endpoint(at: &At<'_>, resolution: Option<Resolution>, known: &[Port]) -> Option<Endpoint> {
    at.mapping(ENDPOINT_NOT_YET, |fields| {
        let address = fields.required("address").and_then(|at| address(&at, resolution));
        let ports = fields.field("ports").map(|at| endpoint_ports(&at, known));
        Some(Endpoint { address: address?, ports: ports.unwrap_or_default(), weight: 1, ..Endpoint::default() })
    })
}

fn address(at: &At<'_>, resolution: Option<Resolution>) -> Option<String> {
    let text = at.non_empty_string()?;
    let ip = text.parse::<IpAddr>().is_ok();
    // Letters only in the last label, so that a mistyped IP address is no name.
    let name =
        is_host(&text, false) && text.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
    match resolution {
        Some(Resolution::Static) if !ip => {
            at.error(format!(
                "resolution STATIC needs an IP address, found {}; use resolution DNS for a name",
                quoted(&text)
            ));
            None
        }
        _ if !ip && !name => {
            at.error(format!("expected an IP address or a host name, found {}", quoted(&text)));
            None
        }
        _ => Some(text),
    }
}

fn endpoint_ports(at: &At<'_>, known: &[Port]) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for (name, port) in at.entries() {
        // Istio: "endpoint port is not defined by the service entry". With a wrong `ports` of the
        // entry there is an error already.
        if !known.is_empty() && !known.iter().any(|known| known.name == name) {
            port.error(format!("the service entry has no port named {}", quoted(name)));
        }
        if let Some(number) = port.port() {
            ports.insert(name.to_owned(), number);
        }
    }
    ports
}
