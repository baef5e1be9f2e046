use std::fmt;

use crate::ip_block::IpBlock;
use crate::meta::{Meta, TargetRef, WorkloadSelector};

/// `AuthorizationPolicy`: who may do what to a workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorizationPolicy {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// Workloads of the namespace (in the root namespace: of the mesh) that the policy applies to;
    /// absent means all of them.
    pub selector: Option<WorkloadSelector>,
    /// `targetRefs`, or the single `targetRef`: resources of the Gateway API that the policy is attached to. At most one
    /// of this and `selector` is given.
    pub target_refs: Vec<TargetRef>,
    /// What a matching rule means.
    pub action: Action,
    /// `provider.name`: the extension provider of the mesh configuration that a CUSTOM policy asks. Present exactly when
    /// the action is [`Action::Custom`].
    pub provider: Option<String>,
    /// Whether the annotation `istio.io/dry-run` is true: the policy is evaluated and reported, never enforced.
    pub dry_run: bool,
    /// A request matches the policy when one rule matches. Absent and empty both mean that it never
    /// matches (an ALLOW policy then denies everything); one rule without fields matches everything.
    pub rules: Option<Vec<Rule>>,
}

/// `action` of an [`AuthorizationPolicy`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Action {
    /// `ALLOW`, the default: what matches is allowed, and nothing else is unless another ALLOW
    /// policy matches.
    #[default]
    Allow,
    /// `DENY`: what matches is denied, whatever ALLOW policies say.
    Deny,
    /// `AUDIT`: what matches is written down; the verdict stays.
    Audit,
    /// `CUSTOM`: what matches is allowed only if the policy's provider allows it as well.
    Custom,
}

impl Action {
    /// Istio's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom => "CUSTOM",
        }
    }
}

/// One element of `rules`: matches when `from`, `to` and `when` all match. An absent part matches
/// everything; a part that is present is never empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    /// Where the request comes from; one source must match.
    pub from: Option<Vec<Source>>,
    /// What the request does; one operation must match.
    pub to: Option<Vec<Operation>>,
    /// Further conditions; all must match.
    pub when: Option<Vec<Condition>>,
}

/// `from[].source`: all fields that are not empty must match, each by one of its values (a
/// `not_…` field: by none of its values). At least one field is not empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// `principals`: peer identities, `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    pub principals: Vec<String>,
    /// `notPrincipals`.
    pub not_principals: Vec<String>,
    /// `requestPrincipals`: token identities, `ISSUER/SUBJECT`, split at the last `/`.
    pub request_principals: Vec<String>,
    /// `notRequestPrincipals`.
    pub not_request_principals: Vec<String>,
    /// `namespaces`: namespaces of the peer identity.
    pub namespaces: Vec<String>,
    /// `notNamespaces`.
    pub not_namespaces: Vec<String>,
    /// `serviceAccounts` of the peer identity, `NAMESPACE/NAME` or, in the policy's own namespace, `NAME`.
    pub service_accounts: Vec<String>,
    /// `notServiceAccounts`.
    pub not_service_accounts: Vec<String>,
    /// `trustDomains` of the peer identity.
    pub trust_domains: Vec<String>,
    /// `notTrustDomains`.
    pub not_trust_domains: Vec<String>,
    /// `ipBlocks`: the direct peer's address.
    pub ip_blocks: Vec<IpBlock>,
    /// `notIpBlocks`.
    pub not_ip_blocks: Vec<IpBlock>,
    /// `remoteIpBlocks`: the client's address as trusted proxies tell it.
    pub remote_ip_blocks: Vec<IpBlock>,
    /// `notRemoteIpBlocks`.
    pub not_remote_ip_blocks: Vec<IpBlock>,
}

/// `to[].operation`: all fields that are not empty must match, each by one of its values (a
/// `not_…` field: by none of its values). At least one field is not empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Operation {
    /// `hosts`, compared with the `Host` header or `:authority`, port included, without case.
    pub hosts: Vec<String>,
    /// `notHosts`.
    pub not_hosts: Vec<String>,
    /// `ports` of the destination. Istio writes them as strings; here they are numbers.
    pub ports: Vec<u16>,
    /// `notPorts`.
    pub not_ports: Vec<u16>,
    /// `methods`.
    pub methods: Vec<String>,
    /// `notMethods`.
    pub not_methods: Vec<String>,
    /// `paths`, compared with the path without query and fragment. One with `{*}` or `{**}` is a template.
    pub paths: Vec<String>,
    /// `notPaths`.
    pub not_paths: Vec<String>,
}

/// `when[]`: one of `values` must match if there are any, and none of `not_values`. At least one of
/// the two is not empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub key: ConditionKey,
    /// Values that match. For [`ConditionKey::DestinationPort`] each is a number up to 65535, for the three keys that are
    /// addresses each parses as an [`IpBlock`].
    pub values: Vec<String>,
    /// Values that must not match.
    pub not_values: Vec<String>,
}

/// `when[].key`, understood.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ConditionKey {
    /// `connection.sni`.
    ConnectionSni,
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `experimental.envoy.filters.NAME[KEY]`: dynamic metadata of an Envoy filter.
    EnvoyFilter {
        /// `envoy.filters.NAME`.
        filter: String,
        /// The names from the outermost field inwards, at least one.
        path: Vec<String>,
    },
    /// `remote.ip`.
    RemoteIp,
    /// `request.auth.audiences`: the claim `aud`.
    RequestAuthAudiences,
    /// `request.auth.claims[A][B]…`: the names from the outermost claim inwards, at least one. A
    /// name may itself contain dots and slashes.
    RequestAuthClaims(Vec<String>),
    /// `request.auth.presenter`: the claim `azp`.
    RequestAuthPresenter,
    /// `request.auth.principal`: `ISSUER/SUBJECT`.
    RequestAuthPrincipal,
    /// `request.headers[NAME]`, as written; header names have no case.
    RequestHeader(String),
    /// `source.ip`.
    SourceIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `source.trustDomain`.
    SourceTrustDomain,
}

impl fmt::Display for ConditionKey {
    /// Istio's text of the key, as a document gives it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionSni => "connection.sni",
            Self::DestinationIp => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::EnvoyFilter { filter, path } => return write!(f, "experimental.{filter}[{}]", path.join("][")),
            Self::RemoteIp => "remote.ip",
            Self::RequestAuthAudiences => "request.auth.audiences",
            Self::RequestAuthClaims(names) => return write!(f, "request.auth.claims[{}]", names.join("][")),
            Self::RequestAuthPresenter => "request.auth.presenter",
            Self::RequestAuthPrincipal => "request.auth.principal",
            Self::RequestHeader(name) => return write!(f, "request.headers[{name}]"),
            Self::SourceIp => "source.ip",
            Self::SourceNamespace => "source.namespace",
            Self::SourcePrincipal => "source.principal",
            Self::SourceServiceAccount => "source.serviceAccount",
            Self::SourceTrustDomain => "source.trustDomain",
        })
    }
}
