use std::collections::BTreeMap;

use crate::meta::Meta;

/// Kubernetes' `Service` (`v1`), read as a destination. Its host is
/// `NAME.NAMESPACE.svc.cluster.local`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `spec.ports`, at least one.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`, at least one label: the labels that stand for the service's workloads when
    /// policies are selected.
    pub selector: BTreeMap<String, String>,
}

/// `spec.ports[]` of a [`Service`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// `name`; empty when absent, which only a single port may be.
    pub name: String,
    /// `port`, from 1: what clients call.
    pub port: u16,
    /// `protocol`: always `TCP` (the default); the reader refuses others.
    pub protocol: String,
    /// `targetPort`: the port of the workload; absent means `port`.
    pub target_port: Option<TargetPort>,
}

/// `targetPort` of a [`ServicePort`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetPort {
    /// Name of a container port.
    Name(String),
    /// Number, from 1.
    Number(u16),
}
