use std::collections::BTreeMap;

use crate::meta::{Meta, WorkloadSelector};

/// `PeerAuthentication`: whether a workload accepts plaintext. Kept as data: the mesh enforces it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAuthentication {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// Workloads that it applies to; absent means all of its namespace (in the root namespace: of
    /// the mesh).
    pub selector: Option<WorkloadSelector>,
    /// `mtls.mode`.
    pub mode: MtlsMode,
    /// `portLevelMtls`, by the workload's port.
    pub port_level: BTreeMap<u16, MtlsMode>,
}

/// `mtls.mode` of a [`PeerAuthentication`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MtlsMode {
    /// `UNSET`, or absent: what the next wider resource says.
    #[default]
    Unset,
    /// `DISABLE`: plaintext.
    Disable,
    /// `PERMISSIVE`: plaintext or mutual TLS.
    Permissive,
    /// `STRICT`: mutual TLS only.
    Strict,
}
