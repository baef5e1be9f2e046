//! Istio's resources as plain Rust types, and a strict reader of their YAML.
//!
//! The types carry Istio's field names in snake case and keep the difference between an absent and
//! an empty field where Istio's semantics depend on it. They hold what the documents say and
//! nothing more: this crate evaluates no policy, resolves no route and does no I/O. What the mesh
//! makes of a path before either is [`path`].
//!
//! With the feature `yaml`, [`parse`] turns the text of configuration files into [`Resources`].
//! Nothing is dropped in silence: a field or a kind of Istio that is not supported yet, an unknown
//! field and a value of the wrong type are each a [`ConfigError`] with file, line, column and path,
//! and one run reports all of them. Kinds that belong to neither Istio nor Causeway are listed in
//! [`Resources::skipped`].

mod authorization_policy;
mod causeway;
mod destination_rule;
mod error;
mod export_to;
mod gateway;
mod host;
mod ip_block;
mod mesh;
mod meta;
pub mod path;
mod peer_authentication;
mod percent;
mod request_authentication;
mod resources;
mod service;
mod service_entry;
mod sidecar;
mod virtual_service;
#[cfg(feature = "yaml")]
mod yaml;

pub use authorization_policy::{Action, AuthorizationPolicy, Condition, ConditionKey, Operation, Rule, Source};
pub use causeway::{ApiGateway, ApiGatewayWorkload, ApiKeyAuthentication};
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, DestinationRule, Distribute, H2UpgradePolicy, HashKey,
    HashTable, LoadBalancer, LoadBalancerPolicy, LocalityLb, OutlierDetection, RetryBudget, Subset, TcpKeepalive,
    TrafficPolicy, Warmup,
};
pub use error::ConfigError;
pub use export_to::{ExportTo, is_visible};
pub use gateway::{Gateway, Port, Server, ServerTls, ServerTlsMode};
pub use host::full_host;
pub use ip_block::{InvalidIpBlock, IpBlock};
pub use mesh::{ExtensionProvider, ExternalAuthorizer, MeshConfig, OutboundTrafficMode, PathNormalization};
pub use meta::{Meta, Origin, Skipped, TargetRef, WorkloadSelector};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use percent::Percent;
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, Presence, RequestAuthentication};
pub use resources::Resources;
pub use service::{Service, ServicePort, TargetPort};
pub use service_entry::{Endpoint, Location, Resolution, ServiceEntry, WorkloadEntry};
pub use sidecar::{Sidecar, SidecarEgress};
pub use virtual_service::{
    AbortStatus, Destination, FaultAbort, FaultDelay, HeaderChanges, HeaderOperations, HttpAction, HttpDirectResponse,
    HttpFault, HttpMatch, HttpMirror, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, HttpRouteDestination,
    RedirectPort, RegexRewrite, StringMatch, VirtualService,
};
#[cfg(feature = "yaml")]
pub use yaml::{MAX_DEPTH, MAX_ERRORS, MAX_FILE_BYTES, ParseOptions, SourceFile, ignorable_kinds, parse, parse_with};
