//! Opened policies, evaluated in place, and which of them apply to a workload.

use std::fmt;
use std::sync::Arc;

use rkyv::option::ArchivedOption;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use yoke::Yoke;

use crate::compiled::{
    ArchivedApiGateway, ArchivedApiKeyAuthentication, ArchivedAuthorizationPolicy, ArchivedKeySource, ArchivedLabel,
    ArchivedNamespace, ArchivedPathNormalization, ArchivedPolicySet, ArchivedProvider, ArchivedRequestAuthentication,
    Mode, PathNormalization, VERSION,
};

/// The longest section that is opened, in bytes: that of a whole bundle.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Compiled policies, checked once and then evaluated where they lie. Cheap to clone.
#[derive(Clone)]
pub struct Policies {
    set: Yoke<&'static ArchivedPolicySet, Arc<AlignedVec>>,
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
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let set = Yoke::try_attach_to_cart(Arc::new(aligned), |bytes| {
            rkyv::access::<ArchivedPolicySet, rancor::Error>(bytes)
                .map_err(|error| OpenError::Damaged(error.to_string()))
        })?;
        let policies = Self { set };
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

    /// Where the keys of the JWT rules come from.
    pub fn key_sources(&self) -> impl Iterator<Item = KeySourceInfo<'_>> {
        self.set().key_sources.iter().map(KeySourceInfo::from)
    }

    /// The `ApiGateway` document that covers an API: the one that names its id and stage; or, when none
    /// names the id, the only one that names the domain, if it is for this stage.
    pub fn api_gateway(&self, api_id: &str, stage: &str, domain: &str) -> Option<ApiGatewayInfo<'_>> {
        self.find_api_gateway(api_id, stage, domain).map(|gateway| ApiGatewayInfo {
            name: gateway.name.as_str(),
            base_path: gateway.base_path.as_ref().map(|path| path.as_str()),
            environment: gateway.environment.as_str(),
        })
    }

    /// The names, in lower case, of all headers that some rule makes out of claims, each once.
    pub fn output_headers(&self) -> Vec<String> {
        let namespaces = self.set().namespaces.iter();
        let rules = namespaces.flat_map(|n| n.request_authentications.iter()).flat_map(|a| a.rules.iter());
        let mut names: Vec<String> =
            rules.flat_map(|rule| rule.outputs.iter()).map(|output| output.header.as_str().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn find_api_gateway(&self, api_id: &str, stage: &str, domain: &str) -> Option<&ArchivedApiGateway> {
        let gateways = &self.set().api_gateways;
        if gateways.iter().any(|gateway| gateway.api_id == *api_id) {
            return gateways.iter().find(|gateway| gateway.api_id == *api_id && gateway.stage == *stage);
        }
        let domain = domain.to_ascii_lowercase();
        let mut named = gateways.iter().filter(|gateway| gateway.domains.iter().any(|own| own.as_str() == domain));
        match (named.next(), named.next()) {
            // Another stage of the domain may be another environment.
            (Some(gateway), None) if gateway.stage == *stage => Some(gateway),
            _ => None,
        }
    }

    /// What becomes of a path before it is judged.
    pub(crate) fn path_normalization(&self) -> PathNormalization {
        match self.set().path_normalization {
            ArchivedPathNormalization::None => PathNormalization::None,
            ArchivedPathNormalization::Base => PathNormalization::Base,
            ArchivedPathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
            ArchivedPathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
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

    /// Whether an `AuthorizationPolicy` applies to a workload. Where none does everything is allowed: Istio's rule, and
    /// also what comes of a misspelt namespace or label. A front that is told its workload should ask first.
    pub fn is_guarded(&self, namespace: &str, labels: &[(String, String)]) -> bool {
        let applicable = self.of_workload(Workload { namespace, labels: Labels::Given(labels) });
        applicable.deny().chain(applicable.allow()).next().is_some()
    }

    /// The policies of a workload: those of the root namespace and those of its own, without doubling
    /// when it is in the root namespace.
    pub(crate) fn of_workload<'a>(&'a self, workload: Workload<'a>) -> Applicable<'a> {
        let root = self.set().root_namespace.as_str();
        let own = self.namespace(workload.namespace);
        let root = if root == workload.namespace { None } else { self.namespace(root) };
        Applicable { namespaces: [root, own], workload }
    }

    fn namespace(&self, name: &str) -> Option<&ArchivedNamespace> {
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
}

impl<'a> From<&'a ArchivedKeySource> for KeySourceInfo<'a> {
    fn from(source: &'a ArchivedKeySource) -> Self {
        let text = |text: &'a ArchivedOption<rkyv::string::ArchivedString>| text.as_ref().map(|text| text.as_str());
        Self {
            issuer: source.issuer.as_str(),
            jwks_uri: text(&source.jwks_uri),
            document: text(&source.document),
            fingerprint: text(&source.fingerprint),
        }
    }
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

impl Labels<'_> {
    pub(crate) fn to_vec(self) -> Vec<(String, String)> {
        match self {
            Self::Given(labels) => labels.to_vec(),
            Self::Compiled(labels) => {
                labels.iter().map(|label| (label.name.as_str().to_owned(), label.value.as_str().to_owned())).collect()
            }
        }
    }

    fn has(self, name: &str, value: &str) -> bool {
        match self {
            Self::Given(labels) => labels.iter().any(|(n, v)| n == name && v == value),
            Self::Compiled(labels) => {
                labels.iter().any(|label| label.name.as_str() == name && label.value.as_str() == value)
            }
        }
    }

    /// Classic gateways and workloads, which is all that we know, ignore policies with `targetRefs`.
    fn select(self, policy: &ArchivedAuthorizationPolicy) -> bool {
        policy.target_refs.is_empty() && self.are_selected(&policy.selector)
    }

    /// "`selector.matchLabels` must be a subset of workload labels".
    fn are_selected(self, selector: &[ArchivedLabel]) -> bool {
        selector.iter().all(|label| self.has(label.name.as_str(), label.value.as_str()))
    }
}

/// The policies that apply to one workload.
#[derive(Clone, Copy)]
pub(crate) struct Applicable<'a> {
    namespaces: [Option<&'a ArchivedNamespace>; 2],
    workload: Workload<'a>,
}

impl<'a> Applicable<'a> {
    fn namespaces(self) -> impl Iterator<Item = &'a ArchivedNamespace> {
        self.namespaces.into_iter().flatten()
    }

    /// DENY policies, each with its namespace.
    pub(crate) fn deny(self) -> impl Iterator<Item = (&'a str, &'a ArchivedAuthorizationPolicy)> {
        let labels = self.workload.labels;
        self.namespaces().flat_map(move |namespace| {
            let selected = namespace.deny.iter().filter(move |p| labels.select(p));
            selected.map(|policy| (namespace.name.as_str(), policy))
        })
    }

    /// ALLOW policies, each with its namespace.
    pub(crate) fn allow(self) -> impl Iterator<Item = (&'a str, &'a ArchivedAuthorizationPolicy)> {
        let labels = self.workload.labels;
        self.namespaces().flat_map(move |namespace| {
            let selected = namespace.allow.iter().filter(move |p| labels.select(p));
            selected.map(|policy| (namespace.name.as_str(), policy))
        })
    }

    /// CUSTOM policies, each with its namespace.
    pub(crate) fn custom(self) -> impl Iterator<Item = (&'a str, &'a ArchivedAuthorizationPolicy)> {
        let labels = self.workload.labels;
        self.namespaces().flat_map(move |namespace| {
            let selected = namespace.custom.iter().filter(move |p| labels.select(p));
            selected.map(|policy| (namespace.name.as_str(), policy))
        })
    }

    /// `RequestAuthentication`s: those of the root namespace first.
    pub(crate) fn request_authentications(self) -> impl Iterator<Item = &'a ArchivedRequestAuthentication> {
        let labels = self.workload.labels;
        self.namespaces().flat_map(move |namespace| {
            let all = namespace.request_authentications.iter();
            all.filter(move |authentication| {
                authentication.target_refs.is_empty() && labels.are_selected(&authentication.selector)
            })
        })
    }

    /// `ApiKeyAuthentication`s.
    pub(crate) fn api_key_authentications(self) -> impl Iterator<Item = &'a ArchivedApiKeyAuthentication> {
        let labels = self.workload.labels;
        self.namespaces().flat_map(move |namespace| {
            let all = namespace.api_key_authentications.iter();
            all.filter(move |authentication| labels.are_selected(&authentication.selector))
        })
    }
}
