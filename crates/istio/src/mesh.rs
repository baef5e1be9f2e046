use crate::meta::Origin;

/// The mesh configuration: `data.mesh` of the ConfigMap `istio`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshConfig {
    /// `rootNamespace`: policies in it reach the whole mesh.
    pub root_namespace: String,
    /// `trustDomain`: the mesh's own.
    pub trust_domain: String,
    /// `trustDomainAliases`: other names of it, which principals are matched under as well.
    pub trust_domain_aliases: Vec<String>,
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// `extensionProviders`: what CUSTOM policies may name.
    pub extension_providers: Vec<ExtensionProvider>,
    /// The ConfigMap that this was read from; absent when these are Istio's defaults.
    pub origin: Option<Origin>,
}

impl Default for MeshConfig {
    /// Istio's defaults: root namespace `istio-system`, trust domain `cluster.local`.
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            path_normalization: PathNormalization::default(),
            extension_providers: Vec::new(),
            origin: None,
        }
    }
}

/// `pathNormalization.normalization`: what becomes of a path before policies and the upstream see it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathNormalization {
    /// `NONE`: nothing.
    None,
    /// `BASE`, also `DEFAULT` and absent: RFC 3986, section 6.2.2, and backslashes become slashes.
    #[default]
    Base,
    /// `MERGE_SLASHES`: as BASE, and repeated slashes become one.
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: as MERGE_SLASHES, after escaped slashes and backslashes were decoded.
    DecodeAndMergeSlashes,
}

/// `extensionProviders[]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExtensionProvider {
    /// `name`, no two equal.
    pub name: String,
    /// `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`; absent for a provider of another kind (tracing, logging), which no
    /// CUSTOM policy can use.
    pub authorizer: Option<ExternalAuthorizer>,
    /// Whether it is our own adapter: the ConfigMap's annotation `causeway.dev/adapter-providers`, a list of names
    /// with commas between them, has its name.
    pub is_adapter: bool,
}

/// An external authorizer of the mesh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalAuthorizer {
    /// `failOpen`: whether a request passes when the authorizer cannot be had.
    pub fail_open: bool,
    /// `statusOnError`: the status when it cannot be had; 403 when absent.
    pub status_on_error: u16,
}
