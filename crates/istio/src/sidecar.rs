use crate::gateway::Port;
use crate::mesh::OutboundTrafficMode;
use crate::meta::{Meta, WorkloadSelector};

/// `Sidecar`: what workloads may call, and where they find it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sidecar {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `workloadSelector`; absent means every workload of the namespace (of the mesh, in the root namespace).
    pub workload_selector: Option<WorkloadSelector>,
    /// `egress`; empty means that everything that is exported can be called.
    pub egress: Vec<SidecarEgress>,
    /// `outboundTrafficPolicy.mode`; absent means the mesh's.
    pub outbound_traffic_policy: Option<OutboundTrafficMode>,
}

/// `egress[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SidecarEgress {
    /// `port`, whose name may be empty: with one this is a listener of its own, on [`bind`](Self::bind).
    pub port: Option<Port>,
    /// `bind`: a loopback address; absent means 127.0.0.1.
    pub bind: Option<String>,
    /// `hosts`, at least one, each `NAMESPACE/HOST`: the namespace `*` (any), `.` (the own) or `~` (none), and a host
    /// that `*.` may lead or that is `*`.
    pub hosts: Vec<String>,
}
