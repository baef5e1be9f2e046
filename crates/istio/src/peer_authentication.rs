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
}

/// `mtls.mode` of a [`PeerAuthentication`]. The reader refuses the other modes for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MtlsMode {
    /// `STRICT`: mutual TLS only.
    Strict,
}
