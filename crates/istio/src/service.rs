use std::collections::BTreeMap;

use crate::export_to::ExportTo;
use crate::meta::Meta;

/// Annotation of a [`Service`]: `exportTo`, with commas between the words.
pub(crate) const EXPORT_TO: &str = "networking.istio.io/exportTo";

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

impl Service {
    /// Who sees it, by its annotation `networking.istio.io/exportTo`; empty means everybody.
    pub fn export_to(&self) -> Vec<ExportTo> {
        let words = self.meta.annotations.get(EXPORT_TO).map(String::as_str).unwrap_or_default();
        if words.is_empty() {
            return Vec::new();
        }
        let word = |word: &str| match word.trim() {
            "*" => ExportTo::All,
            "." => ExportTo::Own,
            "~" => ExportTo::Nobody,
            name => ExportTo::Namespace(name.to_owned()),
        };
        words.split(',').map(word).collect()
    }
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
    /// `appProtocol`: where Istio looks for the port's protocol, and at `name` without it.
    pub app_protocol: Option<String>,
}

/// `targetPort` of a [`ServicePort`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetPort {
    /// Name of a container port.
    Name(String),
    /// Number, from 1.
    Number(u16),
}
