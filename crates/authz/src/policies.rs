//! Opened policies, evaluated in place, and which of them apply to a workload.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rkyv::option::ArchivedOption;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use yoke::Yoke;

use crate::compiled::{
    ArchivedApiGateway, ArchivedApiKeyAuthentication, ArchivedAuthorizationPolicy, ArchivedJwtRule, ArchivedKeySource,
    ArchivedLabel, ArchivedNamespace, ArchivedPathNormalization, ArchivedPolicySet, ArchivedProvider,
    ArchivedRequestAuthentication, ArchivedTargetRef, Mode, VERSION,
};
use crate::index::{Action, Table};
use crate::uncovered::Uncovered;

/// The longest section that is opened, in bytes: that of a whole bundle.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Bytes that several own, such as a part of a file that was read.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where compiled policies may begin: they are used where they lie.
const ALIGN: usize = AlignedVec::<16>::ALIGNMENT;

/// Compiled policies, checked once and then evaluated where they lie. Cheap to clone.
#[derive(Clone)]
pub struct Policies {
    set: Yoke<&'static ArchivedPolicySet, SharedBytes>,
    keys_fetched_at: Option<u64>,
}

/// The bytes are not policies that we can use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// More than [`MAX_BYTES`].
    #[error("policies have {0} bytes, expected at most 33554432")]
    TooLarge(usize),
    /// Cut off, damaged, or not policies at all.
    #[error("policies are damaged: {0}; make the bundle again")]
    Damaged(String),
    /// Made by another version of the compiler.
    #[error("policies have the format version {0}, expected {VERSION}; make the bundle again")]
    Version(u32),
    /// A rule names a key source that is not there.
    #[error("policies are damaged: a rule of {0} names keys that are not there; make the bundle again")]
    Keys(String),
}

impl Policies {
    /// Opens what [`compile`](fn@crate::compile) made. Every pointer, length, tag and string in it is
    /// checked here, once.
    ///
    /// # Errors
    /// [`OpenError`] when the bytes are not exactly such policies of this version.
    pub fn open(bytes: &[u8]) -> Result<Self, OpenError> {
        if bytes.len() > MAX_BYTES {
            return Err(OpenError::TooLarge(bytes.len()));
        }
        let mut aligned = AlignedVec::<ALIGN>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self::attach(Arc::new(aligned))
    }

    /// As [`open`](Self::open), without a copy, unless the bytes begin where they cannot be used. A Lambda function
    /// starts with this: copying the half megabyte of a thousand policies costs as much as reading it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(bytes: SharedBytes) -> Result<Self, OpenError> {
        let slice = bytes.as_ref().as_ref();
        if slice.len() > MAX_BYTES || slice.as_ptr().align_offset(ALIGN) != 0 {
            return Self::open(slice);
        }
        Self::attach(bytes)
    }

    fn attach(bytes: SharedBytes) -> Result<Self, OpenError> {
        let set = Yoke::try_attach_to_cart(bytes, |bytes| {
            rkyv::access::<ArchivedPolicySet, rancor::Error>(bytes.as_ref())
                .map_err(|error| OpenError::Damaged(error.to_string()))
        })?;
        let policies = Self { set, keys_fetched_at: None };
        let version = policies.set().version.to_native();
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        for namespace in policies.set().namespaces.iter() {
            for authentication in namespace.request_authentications.iter() {
                for rule in authentication.rules.iter() {
                    if policies.key_source(rule.keys.to_native()).is_none() {
                        return Err(OpenError::Keys(authentication.name.as_str().to_owned()));
                    }
                }
            }
        }
        Ok(policies)
    }

    /// Says when the published key sets that came with the policies were fetched, in seconds since 1970.
    #[must_use]
    pub fn with_keys_fetched_at(self, unix: Option<u64>) -> Self {
        Self { keys_fetched_at: unix, ..self }
    }

    /// When the published key sets that came with the policies were fetched, in seconds since 1970, as far as is known.
    pub fn keys_fetched_at(&self) -> Option<u64> {
        self.keys_fetched_at
    }

    /// How strictly tokens are read.
    pub fn mode(&self) -> Mode {
        match self.set().mode {
            crate::compiled::ArchivedMode::Strict => Mode::Strict,
            crate::compiled::ArchivedMode::Istio => Mode::Istio,
        }
    }

    /// The mesh's own trust domain.
    pub fn trust_domain(&self) -> &str {
        self.set().trust_domain.as_str()
    }

    /// The other names of the mesh's trust domain: peers of these are of the mesh too.
    pub fn trust_domain_aliases(&self) -> impl Iterator<Item = &str> {
        self.set().trust_domain_aliases.iter().map(|alias| alias.as_str())
    }

    pub(crate) fn root_namespace(&self) -> &str {
        self.set().root_namespace.as_str()
    }

    /// Where the keys of the JWT rules come from.
    pub fn key_sources(&self) -> impl Iterator<Item = KeySourceInfo<'_>> {
        self.set().key_sources.iter().map(KeySourceInfo::from)
    }

    /// The `ApiGateway` document that covers an API: the one that names its id and stage, and the domain where several do.
    /// That a document names the domain is not enough: by its mappings a domain leads to many APIs, and this one's document
    /// may be missing. None where id and stage are of one environment and the domain is of another.
    pub fn api_gateway(&self, api_id: &str, stage: &str, domain: &str) -> Option<ApiGatewayInfo<'_>> {
        self.find_api_gateway(api_id, stage, domain).map(ApiGatewayInfo::from)
    }

    /// Why no `ApiGateway` document covers an API, in one sentence; nothing where one does.
    pub fn uncovered(&self, api_id: &str, stage: &str, domain: &str) -> Option<String> {
        let is_covered = self.find_api_gateway(api_id, stage, domain).is_some();
        (!is_covered).then(|| Uncovered { policies: self, api_id, stage, domain }.to_string())
    }

    /// The `ApiGateway` documents that answer to `domain`, in any case and without a port; several may share one and
    /// differ in base path, or in API and stage.
    pub fn api_gateways_at(&self, domain: &str) -> impl Iterator<Item = ApiGatewayInfo<'_>> {
        let gateways = self.set().api_gateways.iter();
        gateways.filter(move |gateway| answers_to(gateway, domain)).map(ApiGatewayInfo::from)
    }

    /// All `ApiGateway` documents.
    pub fn api_gateways(&self) -> impl Iterator<Item = ApiGatewayInfo<'_>> {
        self.archived_api_gateways().map(ApiGatewayInfo::from)
    }

    pub(crate) fn archived_api_gateways(&self) -> impl Iterator<Item = &ArchivedApiGateway> {
        self.set().api_gateways.iter()
    }

    /// The names, in lower case, of all headers that some rule makes out of claims, each once.
    pub fn output_headers(&self) -> Vec<String> {
        let namespaces = self.set().namespaces.iter();
        let rules = namespaces.flat_map(|n| n.request_authentications.iter()).flat_map(|a| a.rules.iter());
        let outputs = |rule: &'_ ArchivedJwtRule| -> Vec<String> {
            let claims = rule.outputs.iter().map(|output| output.header.as_str().to_owned());
            claims.chain(rule.payload_header.as_ref().map(|name| name.as_str().to_owned())).collect()
        };
        let mut names: Vec<String> = rules.flat_map(outputs).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names, in lower case, of all headers in which some rule looks for a token, each once; `cookie` among them
    /// where it is a cookie that holds one.
    pub fn token_headers(&self) -> Vec<String> {
        let namespaces = self.set().namespaces.iter();
        let rules = namespaces.flat_map(|n| n.request_authentications.iter()).flat_map(|a| a.rules.iter());
        let places = |rule: &'_ ArchivedJwtRule| -> Vec<String> {
            let headers = rule.headers.iter().map(|header| header.name.as_str().to_owned());
            headers.chain((!rule.cookies.is_empty()).then(|| "cookie".to_owned())).collect()
        };
        let mut names: Vec<String> = rules.flat_map(places).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn find_api_gateway(&self, api_id: &str, stage: &str, domain: &str) -> Option<&ArchivedApiGateway> {
        let gateways = &self.set().api_gateways;
        let mut of_stage =
            gateways.iter().filter(|gateway| gateway.api_id == *api_id).filter(|gateway| gateway.stage == *stage);
        match (of_stage.next()?, of_stage.next()) {
            (only, None) => {
                // The stage says one environment, and the host another: who asks for it is in neither.
                let is_of_another =
                    |other: &ArchivedApiGateway| other.environment != only.environment && answers_to(other, domain);
                let agree = answers_to(only, domain) || is_generated(domain) || !gateways.iter().any(is_of_another);
                agree.then_some(only)
            }
            // Several share the stage, and only the host tells them apart.
            (first, Some(second)) => [first, second].into_iter().chain(of_stage).find(|one| answers_to(one, domain)),
        }
    }

    /// What becomes of a path before it is judged.
    pub fn path_normalization(&self) -> istio::PathNormalization {
        match self.set().path_normalization {
            ArchivedPathNormalization::None => istio::PathNormalization::None,
            ArchivedPathNormalization::Base => istio::PathNormalization::Base,
            ArchivedPathNormalization::MergeSlashes => istio::PathNormalization::MergeSlashes,
            ArchivedPathNormalization::DecodeAndMergeSlashes => istio::PathNormalization::DecodeAndMergeSlashes,
        }
    }

    /// What a CUSTOM policy asks.
    pub(crate) fn provider(&self, index: u32) -> Option<&ArchivedProvider> {
        self.set().providers.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn key_source(&self, index: u32) -> Option<KeySourceInfo<'_>> {
        let index = usize::try_from(index).ok()?;
        self.set().key_sources.get(index).map(KeySourceInfo::from)
    }

    /// Whether an `AuthorizationPolicy` that is enforced applies to a workload. Where none does everything is allowed: Istio's rule, and
    /// also what comes of a misspelt namespace or label. A front that is told its workload should ask first.
    pub fn is_guarded(&self, namespace: &str, labels: &[(String, String)]) -> bool {
        let applicable = self.of_workload(Workload { namespace, labels: Labels::Given(labels) });
        Action::ALL.iter().filter(|action| **action != Action::Audit).any(|action| {
            applicable.namespaces().any(|namespace| {
                let table = Table::of(namespace, *action, false);
                table.any_applies(applicable)
            })
        })
    }

    /// Whether an ALLOW policy is in force for the workload, so that what no policy speaks of is denied to it.
    pub fn is_closed(&self, namespace: &str, labels: &[(String, String)]) -> bool {
        let applicable = self.of_workload(Workload { namespace, labels: Labels::Given(labels) });
        applicable.namespaces().any(|namespace| Table::of(namespace, Action::Allow, false).any_applies(applicable))
    }

    /// The policies of a workload: those of the root namespace and those of its own, without doubling
    /// when it is in the root namespace.
    pub(crate) fn of_workload<'a>(&'a self, workload: Workload<'a>) -> Applicable<'a> {
        let root = self.set().root_namespace.as_str();
        let own = self.namespace(workload.namespace);
        let root = if root == workload.namespace { None } else { self.namespace(root) };
        let gateway = workload.labels.get(GATEWAY_NAME);
        let is_waypoint = gateway.is_some() && workload.labels.has(WAYPOINT.0, WAYPOINT.1);
        Applicable { set: self.set(), namespaces: [root, own], workload, gateway, is_waypoint }
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&ArchivedNamespace> {
        let namespaces = &self.set().namespaces;
        let index = namespaces.binary_search_by(|namespace| namespace.name.as_str().cmp(name)).ok()?;
        namespaces.get(index)
    }

    fn set(&self) -> &ArchivedPolicySet {
        self.set.get()
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies")
            .field("namespaces", &self.set().namespaces.len())
            .field("api_gateways", &self.set().api_gateways.len())
            .finish()
    }
}

/// Where the keys of a JWT rule come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeySourceInfo<'a> {
    /// The issuer; empty for a rule that accepts any.
    pub issuer: &'a str,
    /// Where the keys are published; absent when they are inline only.
    pub jwks_uri: Option<&'a str>,
    /// The key set that came with the policies.
    pub document: Option<&'a str>,
    /// SHA-256 of [`document`](Self::document) in hex.
    pub(crate) fingerprint: Option<&'a str>,
    /// The issuer's discovery document, which says where the keys are published, when the rule names no place. It is also
    /// the name to [`KeySets::insert`](crate::KeySets::insert) the keys by that were found with it.
    pub discovery: Option<&'a str>,
    /// How long fetching the keys may take.
    pub timeout: Duration,
}

impl<'a> From<&'a ArchivedKeySource> for KeySourceInfo<'a> {
    fn from(source: &'a ArchivedKeySource) -> Self {
        let text = |text: &'a ArchivedOption<rkyv::string::ArchivedString>| text.as_ref().map(|text| text.as_str());
        Self {
            issuer: source.issuer.as_str(),
            jwks_uri: text(&source.jwks_uri),
            document: text(&source.document),
            fingerprint: text(&source.fingerprint),
            discovery: text(&source.discovery),
            timeout: Duration::from_millis(source.timeout_milliseconds.to_native()),
        }
    }
}

/// Whether `domain` is one that API Gateway generates for an API. All stages have the same, and are told apart by the path.
pub(crate) fn is_generated(domain: &str) -> bool {
    domain.contains(".execute-api.")
}

/// Whether `domain`, in any case, is one of the gateway's.
fn answers_to(gateway: &ArchivedApiGateway, domain: &str) -> bool {
    gateway.domains.iter().any(|own| own.as_str().eq_ignore_ascii_case(domain))
}

/// What a front needs to know of an `ApiGateway` document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiGatewayInfo<'a> {
    /// `NAMESPACE/NAME`.
    pub name: &'a str,
    /// Path in front of the API's own paths, which the front takes off before it asks the gate.
    pub base_path: Option<&'a str>,
    /// The environment that it serves.
    pub environment: &'a str,
    /// Id of the API.
    pub api_id: &'a str,
    /// Stage of the API.
    pub stage: &'a str,
}

impl<'a> From<&'a ArchivedApiGateway> for ApiGatewayInfo<'a> {
    fn from(gateway: &'a ArchivedApiGateway) -> Self {
        Self {
            name: gateway.name.as_str(),
            base_path: gateway.base_path.as_ref().map(|path| path.as_str()),
            environment: gateway.environment.as_str(),
            api_id: gateway.api_id.as_str(),
            stage: gateway.stage.as_str(),
        }
    }
}

/// The workload whose policies are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Workload<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: Labels<'a>,
}

/// Labels of a workload, from a request or from the compiled policies.
#[derive(Clone, Copy)]
pub(crate) enum Labels<'a> {
    Given(&'a [(String, String)]),
    Compiled(&'a [ArchivedLabel]),
}

impl<'a> Labels<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (given, compiled) = match self {
            Self::Given(labels) => (labels, &[][..]),
            Self::Compiled(labels) => (&[][..], labels),
        };
        let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        given.chain(compiled.iter().map(|label| (label.name.as_str(), label.value.as_str())))
    }

    fn has(self, name: &str, value: &str) -> bool {
        self.iter().any(|(n, v)| n == name && v == value)
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// The label that says which Gateway of the Gateway API a workload is an instance of.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The label, and its value, that Istio puts on the waypoints that it makes.
const WAYPOINT: (&str, &str) = ("gateway.istio.io/managed", "istio.io-mesh-controller");

/// Group of the Gateway API.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The class of waypoints.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// Whether a target of this group and kind is a Gateway of the Gateway API.
pub(crate) fn is_gateway(group: &str, kind: &str) -> bool {
    group == GATEWAY_GROUP && kind == "Gateway"
}

/// Why a policy does not apply to a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WhyNot<'a> {
    /// A label of the selector is missing, or has another value.
    Selector { name: &'a str, wanted: &'a str, found: Option<&'a str> },
    /// It has targetRefs, and the workload is neither a gateway of the Gateway API nor a waypoint.
    NoGateway,
    /// It has targetRefs, and none of them is this gateway.
    OtherTarget { gateway: &'a str },
    /// It has no targetRefs, and the workload is a waypoint.
    Waypoint,
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selector { name, wanted, found: Some(found) } => {
                write!(f, "selector {name}={wanted}, the workload has {name}={found}")
            }
            Self::Selector { name, wanted, found: None } => {
                write!(f, "selector {name}={wanted}, the workload has no label {name}")
            }
            Self::NoGateway => f.write_str("targetRefs, and the workload is no gateway of the Gateway API"),
            Self::OtherTarget { gateway } => write!(f, "targetRefs, none of which is this gateway, {gateway}"),
            Self::Waypoint => f.write_str("no targetRefs, and a waypoint follows nothing else"),
        }
    }
}

/// The policies that apply to one workload.
#[derive(Clone, Copy)]
pub(crate) struct Applicable<'a> {
    set: &'a ArchivedPolicySet,
    namespaces: [Option<&'a ArchivedNamespace>; 2],
    workload: Workload<'a>,
    /// The Gateway of the Gateway API that the workload is an instance of.
    gateway: Option<&'a str>,
    is_waypoint: bool,
}

impl<'a> Applicable<'a> {
    /// The root namespace, then the workload's own.
    pub(crate) fn namespaces(self) -> impl Iterator<Item = &'a ArchivedNamespace> {
        self.namespaces.into_iter().flatten()
    }

    pub(crate) fn labels(self) -> Labels<'a> {
        self.workload.labels
    }

    pub(crate) fn set(self) -> &'a ArchivedPolicySet {
        self.set
    }

    /// Why a policy of `namespace` does not apply to the workload: Istio's `ShouldAttachPolicy`.
    pub(crate) fn why_not(
        self,
        namespace: &str,
        selector: &'a [ArchivedLabel],
        targets: &[ArchivedTargetRef],
    ) -> Option<WhyNot<'a>> {
        let Some(gateway) = self.gateway else {
            // "if targetRef is specified, ignore the policy altogether"
            return if targets.is_empty() { self.not_selected(selector) } else { Some(WhyNot::NoGateway) };
        };
        if targets.is_empty() {
            // "gateways require the feature flag for selector-based policy" (it is on by default); "waypoints never
            // use selector".
            return if self.is_waypoint { Some(WhyNot::Waypoint) } else { self.not_selected(selector) };
        }
        let attached = targets.iter().any(|target| {
            let (group, kind, name) = (target.group.as_str(), target.kind.as_str(), target.name.as_str());
            // Services and ServiceEntries: a waypoint asks for the one that the request is for, which is not known here.
            let class = self.is_waypoint
                && namespace == self.set.root_namespace.as_str()
                && (group, kind, name) == (GATEWAY_GROUP, "GatewayClass", WAYPOINT_CLASS);
            let near = namespace == self.workload.namespace
                && target.namespace.as_ref().is_none_or(|named| named.as_str() == self.workload.namespace);
            class || (near && is_gateway(group, kind) && self.workload.labels.has(GATEWAY_NAME, name))
        });
        (!attached).then_some(WhyNot::OtherTarget { gateway })
    }

    /// "`selector.matchLabels` must be a subset of workload labels".
    fn not_selected(self, selector: &'a [ArchivedLabel]) -> Option<WhyNot<'a>> {
        let labels = self.workload.labels;
        let missing = selector.iter().find(|label| !labels.has(label.name.as_str(), label.value.as_str()))?;
        let (name, wanted) = (missing.name.as_str(), missing.value.as_str());
        Some(WhyNot::Selector { name, wanted, found: labels.get(name) })
    }

    /// Whether a policy of `namespace` applies to the workload.
    pub(crate) fn applies(self, namespace: &str, policy: &'a ArchivedAuthorizationPolicy) -> bool {
        self.why_not(namespace, &policy.selector, &policy.target_refs).is_none()
    }

    /// `RequestAuthentication`s: those of the root namespace first.
    pub(crate) fn request_authentications(self) -> impl Iterator<Item = &'a ArchivedRequestAuthentication> {
        self.namespaces().flat_map(move |namespace| {
            let all = &namespace.request_authentications;
            let found = namespace.index.request_authentications.find(self.labels());
            found.into_iter().filter_map(|at| all.get(usize::try_from(at).ok()?)).filter(move |authentication| {
                self.why_not(&namespace.name, &authentication.selector, &authentication.target_refs).is_none()
            })
        })
    }

    /// `ApiKeyAuthentication`s.
    pub(crate) fn api_key_authentications(self) -> impl Iterator<Item = &'a ArchivedApiKeyAuthentication> {
        self.namespaces().flat_map(move |namespace| {
            let all = &namespace.api_key_authentications;
            let found = namespace.index.api_key_authentications.find(self.labels());
            let found = found.into_iter().filter_map(|at| all.get(usize::try_from(at).ok()?));
            found.filter(move |authentication| self.not_selected(&authentication.selector).is_none())
        })
    }

    /// As [`request_authentications`](Self::request_authentications), each with its namespace.
    pub(crate) fn named_request_authentications(
        self,
    ) -> impl Iterator<Item = (&'a str, &'a ArchivedRequestAuthentication)> {
        self.namespaces().flat_map(move |namespace| {
            let one = Applicable { namespaces: [Some(namespace), None], ..self };
            one.request_authentications().map(|authentication| (namespace.name.as_str(), authentication))
        })
    }

    /// As [`api_key_authentications`](Self::api_key_authentications), each with its namespace.
    pub(crate) fn named_api_key_authentications(
        self,
    ) -> impl Iterator<Item = (&'a str, &'a ArchivedApiKeyAuthentication)> {
        self.namespaces().flat_map(move |namespace| {
            let one = Applicable { namespaces: [Some(namespace), None], ..self };
            one.api_key_authentications().map(|authentication| (namespace.name.as_str(), authentication))
        })
    }
}
