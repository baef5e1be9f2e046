use crate::meta::Origin;

/// The mesh configuration: `data.mesh` of the ConfigMap `istio`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshConfig {
    /// `rootNamespace`: policies in it reach the whole mesh.
    pub root_namespace: String,
    /// `trustDomain`: the mesh's own.
    pub trust_domain: String,
    /// The ConfigMap that this was read from; absent when these are Istio's defaults.
    pub origin: Option<Origin>,
}

impl Default for MeshConfig {
    /// Istio's defaults: root namespace `istio-system`, trust domain `cluster.local`.
    fn default() -> Self {
        Self { root_namespace: "istio-system".to_owned(), trust_domain: "cluster.local".to_owned(), origin: None }
    }
}
