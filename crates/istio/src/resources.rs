use crate::{
    ApiGateway, ApiKeyAuthentication, AuthorizationPolicy, DestinationRule, Gateway, MeshConfig, PeerAuthentication,
    RequestAuthentication, Service, ServiceEntry, Sidecar, Skipped, VirtualService, WorkloadEntry,
};

/// Everything that a set of configuration files says, in the order of the files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resources {
    /// `AuthorizationPolicy` documents.
    pub authorization_policies: Vec<AuthorizationPolicy>,
    /// `RequestAuthentication` documents.
    pub request_authentications: Vec<RequestAuthentication>,
    /// `PeerAuthentication` documents.
    pub peer_authentications: Vec<PeerAuthentication>,
    /// `ApiKeyAuthentication` documents.
    pub api_key_authentications: Vec<ApiKeyAuthentication>,
    /// `ApiGateway` documents.
    pub api_gateways: Vec<ApiGateway>,
    /// `Gateway` documents.
    pub gateways: Vec<Gateway>,
    /// `VirtualService` documents.
    pub virtual_services: Vec<VirtualService>,
    /// `DestinationRule` documents.
    pub destination_rules: Vec<DestinationRule>,
    /// `ServiceEntry` documents.
    pub service_entries: Vec<ServiceEntry>,
    /// `Sidecar` documents.
    pub sidecars: Vec<Sidecar>,
    /// `WorkloadEntry` documents.
    pub workload_entries: Vec<WorkloadEntry>,
    /// Kubernetes' `Service` documents.
    pub services: Vec<Service>,
    /// The mesh configuration; Istio's defaults when no file has it.
    pub mesh: MeshConfig,
    /// Documents that were passed over because of their kind.
    pub skipped: Vec<Skipped>,
}
