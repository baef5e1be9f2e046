use std::collections::BTreeMap;

use crate::export_to::ExportTo;
use crate::gateway::Port;
use crate::meta::{Meta, WorkloadSelector};

/// `ServiceEntry`: a host that the registry would not know otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceEntry {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `hosts`, at least one, fully qualified; `*.` may lead one.
    pub hosts: Vec<String>,
    /// `ports`, at least one, with distinct numbers and names.
    pub ports: Vec<Port>,
    /// `ports[].targetPort`, by the port's number: where endpoints listen that say nothing themselves.
    pub target_ports: BTreeMap<u16, u16>,
    /// `location`; Istio's default is `MESH_EXTERNAL`.
    pub location: Location,
    /// `resolution`; Istio's default is `NONE`.
    pub resolution: Resolution,
    /// `endpoints`: with `STATIC` at least one (or a selector); with `DNS` none means the hosts themselves; with
    /// `NONE` none.
    pub endpoints: Vec<Endpoint>,
    /// `workloadSelector`: the `WorkloadEntry` documents that are its endpoints. Excludes `endpoints`.
    pub workload_selector: Option<WorkloadSelector>,
    /// `subjectAltNames`: identities that the server may have, such as
    /// `spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings`.
    pub subject_alt_names: Vec<String>,
    /// `exportTo`: who sees it; empty means everybody.
    pub export_to: Vec<ExportTo>,
}

/// `location` of a [`ServiceEntry`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Location {
    /// `MESH_EXTERNAL`: outside the mesh; no mutual TLS by itself.
    #[default]
    MeshExternal,
    /// `MESH_INTERNAL`: part of the mesh.
    MeshInternal,
}

/// `resolution` of a [`ServiceEntry`]. The reader refuses `DYNAMIC_DNS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resolution {
    /// `NONE`: to the address that the client named.
    #[default]
    None,
    /// `DNS`: endpoints are names that are looked up; every address of a name is an endpoint.
    Dns,
    /// `DNS_ROUND_ROBIN`: only the first address of a name is used, for as long as it is the first.
    DnsRoundRobin,
    /// `STATIC`: endpoints are addresses.
    Static,
}

/// `endpoints[]`, and the `spec` of a [`WorkloadEntry`]: where a service is reached.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoint {
    /// `address`: an IP address with `STATIC`, an address or a DNS name with `DNS`.
    pub address: String,
    /// `ports`: port name of the service → port of this endpoint; a name that is missing here has
    /// the service's own target port or number.
    pub ports: BTreeMap<String, u16>,
    /// `labels`; of a [`WorkloadEntry`] with those of its metadata, which win.
    pub labels: BTreeMap<String, String>,
    /// `locality`: `REGION/ZONE/SUBZONE`, the later parts may be missing; empty when absent.
    pub locality: String,
    /// `weight`; 1 when absent or 0, and so at least 1.
    pub weight: u32,
    /// `network`; empty when absent.
    pub network: String,
    /// `serviceAccount`: with the namespace and the trust domain the identity of the endpoint.
    pub service_account: Option<String>,
}

/// `WorkloadEntry`: a workload outside of Kubernetes, for services that select it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkloadEntry {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// Its `spec`, with the labels of its metadata among its labels.
    pub endpoint: Endpoint,
}
