use std::time::Duration;

use crate::destination_rule::LocalityLb;
use crate::meta::Origin;
use crate::virtual_service::HttpRetry;

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
    /// `outboundTrafficPolicy.mode`; absent when the document says nothing. Istio's default is `ALLOW_ANY`, the
    /// extension's is `REGISTRY_ONLY`.
    pub outbound_traffic_policy: Option<OutboundTrafficMode>,
    /// `localityLbSetting`.
    pub locality_lb: Option<LocalityLb>,
    /// `defaultHttpRetryPolicy`: for routes that say nothing.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// `connectTimeout`; 10 s when absent.
    pub connect_timeout: Option<Duration>,
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
            outbound_traffic_policy: None,
            locality_lb: None,
            default_http_retry_policy: None,
            connect_timeout: None,
            origin: None,
        }
    }
}

/// `outboundTrafficPolicy.mode`: what becomes of requests to hosts that no document names. The reader refuses
/// `ALLOW_ANY_DYNAMIC_DNS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutboundTrafficMode {
    /// `REGISTRY_ONLY`: refused.
    RegistryOnly,
    /// `ALLOW_ANY`: forwarded as they are.
    AllowAny,
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
