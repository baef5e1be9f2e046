//! The compiled form of the policies: what a bundle holds and what is evaluated in place.
//!
//! Everything that needs thought was done by [`compile`](fn@crate::compile): values are patterns, short
//! hosts are full, references are resolved. A list that is empty was absent and restricts nothing, with the
//! one exception that is Istio's: a policy without rules matches nothing.

use rkyv::niche::option_box::ArchivedOptionBox;
use rkyv::with::Niche;
use rkyv::{Archive, Deserialize, Serialize};

use crate::matchers::{
    IpRange, MetadataPattern, NamespaceGlob, PathPattern, Pattern, RequestPrincipal, ServiceAccount, TrustDomain,
};

/// Version of this form. A set of another version is not opened.
pub const VERSION: u32 = 8;

/// How strictly tokens are read.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Debug, Clone, Copy, PartialEq))]
pub enum Mode {
    /// The default: also refuses tokens without `exp`, with `crit` and so on.
    #[default]
    Strict,
    /// Parity with Istio and Envoy: what they accept is accepted, and what they refuse is refused.
    Istio,
}

impl Mode {
    /// The word of the decision log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Istio => "istio",
        }
    }
}

/// All policies of a mesh.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct PolicySet {
    /// [`VERSION`].
    pub version: u32,
    /// How strictly tokens are read.
    pub mode: Mode,
    /// Policies of this namespace reach every workload.
    pub root_namespace: String,
    /// The mesh's own trust domain.
    pub trust_domain: String,
    /// Its other names: peers of these are of the mesh too.
    pub trust_domain_aliases: Vec<String>,
    /// What becomes of a path before it is judged.
    pub path_normalization: PathNormalization,
    /// What CUSTOM policies ask.
    pub providers: Vec<Provider>,
    /// Policies by namespace, sorted by its name.
    pub namespaces: Vec<Namespace>,
    /// Where the keys of the JWT rules come from.
    pub key_sources: Vec<KeySource>,
    /// The APIs of API Gateway.
    pub api_gateways: Vec<ApiGateway>,
}

/// `pathNormalization.normalization` of the mesh.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Debug, Clone, Copy, PartialEq))]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// RFC 3986, section 6.2.2, and backslashes become slashes.
    #[default]
    Base,
    /// As [`Base`](Self::Base), and repeated slashes become one.
    MergeSlashes,
    /// As [`MergeSlashes`](Self::MergeSlashes), after escaped slashes and backslashes were decoded.
    DecodeAndMergeSlashes,
}

/// An extension provider that a CUSTOM policy names.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Whether the mesh configuration has it, and as an external authorizer.
    pub usable: bool,
    /// Whether a request passes when it cannot be had.
    pub fail_open: bool,
    /// The status when it cannot be had.
    pub status_on_error: u16,
    /// Whether it is our own adapter, whose answer is the gate's own.
    pub is_adapter: bool,
}

/// The policies of one namespace.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// `AuthorizationPolicy` with action DENY.
    pub deny: Vec<AuthorizationPolicy>,
    /// `AuthorizationPolicy` with action ALLOW.
    pub allow: Vec<AuthorizationPolicy>,
    /// `AuthorizationPolicy` with action AUDIT.
    pub audit: Vec<AuthorizationPolicy>,
    /// `AuthorizationPolicy` with action CUSTOM.
    pub custom: Vec<AuthorizationPolicy>,
    /// `RequestAuthentication`, sorted by name.
    pub request_authentications: Vec<RequestAuthentication>,
    /// `ApiKeyAuthentication`.
    pub api_key_authentications: Vec<ApiKeyAuthentication>,
    /// `PeerAuthentication`.
    pub peer_authentications: Vec<PeerAuthentication>,
    /// How to find the few policies that a request can match.
    pub index: NamespaceIndex,
}

/// The indexes of one namespace. Numbers in them are places in its lists.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct NamespaceIndex {
    /// Of [`Namespace::deny`].
    pub deny: PolicyIndex,
    /// Of [`Namespace::allow`].
    pub allow: PolicyIndex,
    /// Of [`Namespace::audit`].
    pub audit: PolicyIndex,
    /// Of [`Namespace::custom`].
    pub custom: PolicyIndex,
    /// Of [`Namespace::request_authentications`].
    pub request_authentications: SelectorIndex,
    /// Of [`Namespace::api_key_authentications`].
    pub api_key_authentications: SelectorIndex,
}

/// The index of the policies of one action.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct PolicyIndex {
    /// Of the policies that are enforced.
    pub enforced: RuleIndex,
    /// Of the policies that are evaluated and reported only.
    pub dry_run: RuleIndex,
}

/// Which rules a request can match. Each rule is in exactly one of the tables and in `always`.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct RuleIndex {
    /// Every rule of the policies, in their order: all other numbers are places in here.
    pub rules: Vec<RuleRef>,
    /// Rules all of whose operations name hosts: lower case, from the last byte to the first.
    pub hosts: TextTable,
    /// Rules all of whose operations name paths.
    pub paths: TextTable,
    /// Rules all of whose sources name principals.
    pub principals: TextTable,
    /// Rules by a label that their policy selects.
    pub labels: SelectorIndex,
    /// Policies, one for each distinct choice of workloads and provider: whether any policy applies is whether one of
    /// these does, and what the policies of a workload ask is what these ask.
    pub policies: SelectorIndex,
}

/// A rule by the places of its policy and its own in it.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RuleRef {
    /// Place of the policy in its list.
    pub policy: u32,
    /// Place of the rule in the policy.
    pub rule: u32,
}

/// Texts, sorted, each with what is looked for under it.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct TextTable {
    /// The texts, no two equal.
    pub entries: Vec<TextEntry>,
}

/// One text of a [`TextTable`].
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct TextEntry {
    /// The text. Reversed text need not be UTF-8.
    pub text: Vec<u8>,
    /// Place of the longest other text that this one begins with.
    pub parent: Option<u32>,
    /// What a value that is equal to the text can match.
    pub exact: Vec<u32>,
    /// What a value that begins with the text can match.
    pub prefix: Vec<u32>,
}

/// Things that are attached to workloads, by one label each.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct SelectorIndex {
    /// Sorted by name and value, no two equal.
    pub labels: Vec<LabelEntry>,
    /// What no label is known of that a workload must have.
    pub always: Vec<u32>,
}

/// What is attached to workloads with one label.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct LabelEntry {
    /// The label.
    pub label: Label,
    /// What is attached, in order.
    pub items: Vec<u32>,
}

/// A label that a workload has, or must have.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// `targetRefs[]`: a resource of the policy's own namespace.
#[derive(Archive, Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TargetRef {
    /// API group; empty for Kubernetes' core group.
    pub group: String,
    /// Kind of the target.
    pub kind: String,
    /// Name of the target.
    pub name: String,
    /// Namespace that it names; absent is the policy's own. A gateway in another one is never attached to.
    pub namespace: Option<String>,
}

/// One `AuthorizationPolicy`. It matches when one of its rules does.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct AuthorizationPolicy {
    /// Its name; the namespace is the one that it stands in.
    pub name: String,
    /// Labels that a workload must have.
    pub selector: Vec<Label>,
    /// Gateway API resources that it is attached to.
    pub target_refs: Vec<TargetRef>,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
    /// Index into [`PolicySet::providers`], for CUSTOM alone.
    pub provider: Option<u32>,
    /// Its rules, in order: the index is part of the rule's id.
    pub rules: Vec<Rule>,
}

/// One rule: `from` and `to` and `when`.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct Rule {
    /// One of these must match.
    pub from: Vec<Source>,
    /// One of these must match.
    pub to: Vec<Operation>,
    /// All of these must match.
    pub when: Vec<Condition>,
    /// The attributes that it looks at and that may be unavailable: a set of the bits in [`needs`].
    pub needs: u16,
}

/// Attributes that may be unavailable, as bits of [`Rule::needs`].
pub mod needs {
    /// The direct peer's address.
    pub const SOURCE_IP: u16 = 1;
    /// The client's address.
    pub const REMOTE_IP: u16 = 1 << 1;
    /// The workload's address.
    pub const DESTINATION_IP: u16 = 1 << 2;
    /// The workload's port.
    pub const PORT: u16 = 1 << 3;
    /// The server name of the TLS connection.
    pub const SNI: u16 = 1 << 4;
    /// Dynamic metadata of Envoy's filters.
    pub const DYNAMIC_METADATA: u16 = 1 << 5;
    /// The host.
    pub const HOST: u16 = 1 << 6;
    /// The headers, and the query.
    pub const HEADERS: u16 = 1 << 7;
    /// The peer's identity.
    pub const PRINCIPAL: u16 = 1 << 8;

    /// What a condition on the header `name` (lower case) needs.
    pub fn of_header(name: &str) -> u16 {
        match name {
            ":method" | ":scheme" => 0,
            // Envoy keeps `Host` as `:authority`.
            ":authority" | "host" => HOST,
            // `:path` is among these: it has the query.
            _ => HEADERS,
        }
    }
}

/// Values of which one must match, and values of which none may.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct Values<T> {
    /// One of these must match.
    pub values: Vec<T>,
    /// None of these may match.
    pub not_values: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { values: Vec::new(), not_values: Vec::new() }
    }
}

impl<T> Values<T> {
    /// These as a field; nothing where there are none.
    pub(crate) fn into_field(self) -> Field<T> {
        (!self.values.is_empty() || !self.not_values.is_empty()).then(|| Box::new(self))
    }
}

/// A field of a source or an operation. Most are absent, and an absent one takes 4 bytes and no check of two lists: the
/// policies of a thousand documents are a fifth smaller for it, and are checked in three quarters of the instructions,
/// which is time of every start of a function.
pub type Field<T> = Option<Box<Values<T>>>;

/// As [`Field`], in place.
pub type ArchivedField<T> = ArchivedOptionBox<ArchivedValues<T>>;

/// Texts.
pub type Patterns = Values<Pattern>;
/// Paths.
pub type Paths = Values<PathPattern>;
/// Request principals.
pub type RequestPrincipals = Values<RequestPrincipal>;
/// Namespaces of the peer.
pub type Namespaces = Values<NamespaceGlob>;
/// Service accounts of the peer.
pub type ServiceAccounts = Values<ServiceAccount>;
/// Trust domains of the peer.
pub type TrustDomains = Values<TrustDomain>;
/// Addresses.
pub type IpBlocks = Values<IpRange>;
/// Ports of the destination.
pub type Ports = Values<u16>;

/// `from[].source`: all parts that are there must match.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct Source {
    /// `principals`, under the mesh's trust domain and its aliases.
    #[rkyv(with = Niche)]
    pub principals: Field<Pattern>,
    /// `requestPrincipals`.
    #[rkyv(with = Niche)]
    pub request_principals: Field<RequestPrincipal>,
    /// `namespaces`.
    #[rkyv(with = Niche)]
    pub namespaces: Field<NamespaceGlob>,
    /// `serviceAccounts`.
    #[rkyv(with = Niche)]
    pub service_accounts: Field<ServiceAccount>,
    /// `trustDomains`, with the aliases of the mesh's own.
    #[rkyv(with = Niche)]
    pub trust_domains: Field<TrustDomain>,
    /// `ipBlocks`.
    #[rkyv(with = Niche)]
    pub ip_blocks: Field<IpRange>,
    /// `remoteIpBlocks`.
    #[rkyv(with = Niche)]
    pub remote_ip_blocks: Field<IpRange>,
}

/// `to[].operation`: all parts that are there must match.
#[derive(Archive, Clone, Debug, Default, Deserialize, Serialize)]
pub struct Operation {
    /// `hosts`.
    #[rkyv(with = Niche)]
    pub hosts: Field<Pattern>,
    /// `ports`.
    #[rkyv(with = Niche)]
    pub ports: Field<u16>,
    /// `methods`.
    #[rkyv(with = Niche)]
    pub methods: Field<Pattern>,
    /// `paths`.
    #[rkyv(with = Niche)]
    pub paths: Field<PathPattern>,
}

/// `when[]`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub enum Condition {
    /// `request.headers[NAME]`.
    Header(HeaderCondition),
    /// `request.auth.claims[A][B]…`, `request.auth.audiences` and `request.auth.presenter`.
    Claim(ClaimCondition),
    /// `request.auth.principal`.
    RequestPrincipal(RequestPrincipals),
    /// `source.principal`.
    Principal(Patterns),
    /// `source.namespace`.
    Namespace(Namespaces),
    /// `destination.port`.
    Port(Ports),
    /// `source.serviceAccount`.
    ServiceAccount(ServiceAccounts),
    /// `source.trustDomain`.
    TrustDomain(TrustDomains),
    /// `source.ip`.
    SourceIp(IpBlocks),
    /// `remote.ip`.
    RemoteIp(IpBlocks),
    /// `destination.ip`.
    DestinationIp(IpBlocks),
    /// `connection.sni`.
    Sni(Patterns),
    /// `experimental.envoy.filters.NAME[KEY]`.
    /// In a box, since the others are smaller.
    Metadata(Box<MetadataCondition>),
}

/// A condition on dynamic metadata of an Envoy filter.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct MetadataCondition {
    /// Name of the filter.
    pub filter: String,
    /// The names from the outermost field inwards; at least one.
    pub path: Vec<String>,
    /// What it must be.
    pub patterns: Values<MetadataPattern>,
}

/// A condition on a header.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct HeaderCondition {
    /// The name in lower case; may be a pseudo-header such as `:method`.
    pub name: String,
    /// What it must be.
    pub patterns: Patterns,
}

/// A condition on a claim.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct ClaimCondition {
    /// The names from the outermost claim inwards; at least one.
    pub path: Vec<String>,
    /// What it must be.
    pub patterns: Patterns,
}

/// One `RequestAuthentication`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct RequestAuthentication {
    /// Its name.
    pub name: String,
    /// Labels that a workload must have.
    pub selector: Vec<Label>,
    /// Gateway API resources that it is attached to.
    pub target_refs: Vec<TargetRef>,
    /// Its rules, in order.
    pub rules: Vec<JwtRule>,
}

/// One rule of a `RequestAuthentication`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct JwtRule {
    /// The exact `iss`; empty accepts any.
    pub issuer: String,
    /// Accepted audiences in normal form; empty accepts any.
    pub audiences: Vec<String>,
    /// Index into [`PolicySet::key_sources`].
    pub keys: u32,
    /// Whether the destination sees the token.
    pub forward_original_token: bool,
    /// Headers that hold a token, in Envoy's order, each once.
    pub headers: Vec<TokenHeader>,
    /// Query parameters that hold a token, in Envoy's order, each once.
    pub parameters: Vec<String>,
    /// Cookies that hold a token, in Envoy's order, each once.
    pub cookies: Vec<String>,
    /// Header, in lower case, in which the destination gets the token's payload.
    pub payload_header: Option<String>,
    /// Claims that the destination gets as headers.
    pub outputs: Vec<ClaimToHeader>,
    /// Claims that are lists of words, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
    /// Whether a request without a token is refused (strict mode alone).
    pub required: bool,
}

/// A header that holds a token.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct TokenHeader {
    /// Its name in lower case.
    pub name: String,
    /// Text in front of the token; may be empty.
    pub prefix: String,
}

/// A claim that the destination gets as a header.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct ClaimToHeader {
    /// Name of the header in lower case.
    pub header: String,
    /// The names from the outermost claim inwards.
    pub path: Vec<String>,
}

/// Where keys come from.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeySource {
    /// The issuer of the rule.
    pub issuer: String,
    /// Where they are published; absent means that [`document`](Self::document) is all there is.
    pub jwks_uri: Option<String>,
    /// The key set itself: the inline one, or what was published when the bundle was made.
    pub document: Option<String>,
    /// SHA-256 of [`document`](Self::document) in hex: the name that its keys are held under.
    pub fingerprint: Option<String>,
    /// The issuer's discovery document, which says where the keys are, when the rule does not.
    pub discovery: Option<String>,
    /// How long fetching them may take, in milliseconds.
    pub timeout_milliseconds: u64,
}

/// One `ApiKeyAuthentication`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct ApiKeyAuthentication {
    /// Its name.
    pub name: String,
    /// Labels that a workload must have.
    pub selector: Vec<Label>,
    /// `iss` of the claims that a key stands for.
    pub issuer: String,
    /// The header that holds the key, in lower case.
    pub header_name: String,
    /// Whether the destination sees the key.
    pub forward_original_key: bool,
}

/// One `PeerAuthentication`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct PeerAuthentication {
    /// Labels that a workload must have; without any it is for all of its namespace, or of the mesh.
    pub selector: Vec<Label>,
    /// `mtls.mode`; absent inherits.
    pub mode: Option<PeerMode>,
    /// `portLevelMtls`, sorted by port; absent inherits.
    pub ports: Vec<PortMode>,
}

/// One port of `portLevelMtls`.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Serialize)]
pub struct PortMode {
    /// The workload's port.
    pub port: u16,
    /// Its mode.
    pub mode: Option<PeerMode>,
}

/// What a workload asks of who connects to it. The stricter one is the greater one.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[rkyv(derive(Debug, Clone, Copy, PartialEq))]
pub enum PeerMode {
    /// `DISABLE`: plaintext.
    Disable,
    /// `PERMISSIVE`: plaintext or mutual TLS.
    Permissive,
    /// `STRICT`: mutual TLS alone.
    Strict,
}

/// One `ApiGateway`, with the routes of the Istio gateway that it plays.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct ApiGateway {
    /// `NAMESPACE/NAME` of the document.
    pub name: String,
    /// Id of the API.
    pub api_id: String,
    /// Stage of the API.
    pub stage: String,
    /// Hosts that the API answers to, in lower case.
    pub domains: Vec<String>,
    /// Path in front of the API's own paths.
    pub base_path: Option<String>,
    /// The environment that it serves.
    pub environment: String,
    /// Namespace of the gateway workload.
    pub namespace: String,
    /// Labels of the gateway workload.
    pub labels: Vec<Label>,
    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT` of the gateway workload: the peer that the
    /// destination sees.
    pub principal: String,
    /// Port of the gateway workload; unknown when its servers leave a choice.
    pub port: Option<u16>,
    /// Whether its servers let nobody in without a client certificate.
    pub mutual_tls: bool,
    /// Its routes, no two for one host.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The routes for one host.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct VirtualHost {
    /// In lower case: a host, `*.SUFFIX`, or `*`.
    pub host: String,
    /// The first route that matches is taken.
    pub routes: Vec<Route>,
}

/// One `http[]` of a `VirtualService`.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct Route {
    /// One of these must match; empty matches every request.
    pub matches: Vec<UriMatch>,
    /// Where the request goes.
    pub destination: Destination,
}

/// `match[]` of a route.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub enum UriMatch {
    /// Every path.
    Any,
    /// The path is equal.
    Exact(String),
    /// The path begins with this text.
    Prefix(String),
}

/// The workload behind a route.
#[derive(Archive, Clone, Debug, Deserialize, Serialize)]
pub struct Destination {
    /// Its fully qualified host.
    pub host: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Vec<Label>,
    /// The port of the workload; absent when the documents do not say which.
    pub port: Option<u16>,
    /// Whether the gateway may speak plaintext to it, so that it may not see the gateway's identity.
    pub peer_unknown: bool,
}
