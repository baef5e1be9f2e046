//! The whole way of one request through the gate, for a person: what was looked at, what matched, what did not.
//!
//! A trace is made by [`explain`](crate::explain) out of the same steps as the decision itself. Credentials are veiled
//! in it: the values of headers and cookies that may hold one are shown as `***`.

use serde::Serialize;

use crate::decision::Hop;
use crate::reason::Reason;

/// The way of one request through the gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trace {
    /// The workloads that were asked, in order. Empty when the request itself was refused.
    pub hops: Vec<HopTrace>,
    /// What the gateway routes, when no route of it takes the request.
    pub unrouted: Option<UnroutedTrace>,
}

/// What a gateway routes, for a person whose request it does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnroutedTrace {
    /// The `ApiGateway` document.
    pub gateway: String,
    /// The host that takes the request, if one does: then it is the path that no route takes.
    pub host: Option<String>,
    /// What the routes look for, such as `host shop.example` or, with a [`host`](Self::host), `prefix /reviews`; at
    /// most [`MAX_ROUTED`].
    pub routed: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// Hosts or paths in an [`UnroutedTrace`], at most.
pub const MAX_ROUTED: usize = 20;

/// What one workload looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HopTrace {
    /// Which of the two hops, or the only one.
    pub hop: Hop,
    /// Namespace of the workload.
    pub namespace: String,
    /// Labels of the workload, as far as they are known.
    pub labels: Vec<(String, String)>,
    /// How the request came here: the `ApiGateway` document, or the host of the route. Absent for a workload that was
    /// named.
    pub via: Option<String>,
    /// The peer that this workload sees, without `spiffe://`; absent for plaintext.
    pub peer: Option<String>,
    /// The path that was judged here, normalised and without its query.
    pub path: String,
    /// The providers of the CUSTOM policies that matched, in the order in which they are asked.
    pub providers: Vec<ProviderTrace>,
    /// The rules of `RequestAuthentication` and `ApiKeyAuthentication`, in the order in which they are asked.
    pub authentication: Vec<CredentialTrace>,
    /// The caller after authentication, `ISSUER/SUBJECT`.
    pub principal: Option<String>,
    /// Every `AuthorizationPolicy` of the root namespace and of the workload's own, in the order in which they are
    /// asked: CUSTOM, AUDIT, DENY, ALLOW. CUSTOM alone when a provider or a credential settled the matter before the
    /// others were asked.
    pub policies: Vec<PolicyTrace>,
    /// What this hop said.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// An extension provider that is asked because a CUSTOM policy matched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderTrace {
    /// Its name.
    pub name: String,
    /// Istio's id of the rule that asks it.
    pub rule: String,
    /// Whether only dry-run policies ask it.
    pub dry_run: bool,
    /// What came of it.
    pub outcome: ProviderOutcome,
}

/// What came of asking a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderOutcome {
    /// It let the request pass.
    Allowed,
    /// It did not.
    Denied,
    /// It is our own adapter, whose answer is the decision itself.
    Adapter,
    /// It could not be had, and its `failOpen` lets the request pass.
    FailedOpen,
    /// It could not be had.
    Failed,
    /// This front asks no providers.
    NotAsked,
    /// The mesh configuration has no such external authorizer.
    Unusable,
    /// The workload has CUSTOM policies of several providers.
    Several,
}

impl ProviderOutcome {
    /// Whether the request goes on.
    pub fn passes(self) -> bool {
        matches!(self, Self::Allowed | Self::Adapter | Self::FailedOpen)
    }
}

/// One rule of a `RequestAuthentication`, or an `ApiKeyAuthentication`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CredentialTrace {
    /// `RequestAuthentication` or `ApiKeyAuthentication`.
    pub kind: String,
    /// Namespace of the document.
    pub namespace: String,
    /// Name of the document.
    pub name: String,
    /// Index in `jwtRules`; 0 for API keys.
    pub rule: usize,
    /// The issuer that it accepts; empty for any.
    pub issuer: String,
    /// Where it looked, such as `header authorization (after "Bearer ")` or `query parameter access_token`.
    pub places: Vec<String>,
    /// How many credentials it found there.
    pub found: usize,
    /// What came of them: `absent` when there were none, `valid`, `refused`, or `not_asked` when an earlier rule had
    /// settled the matter.
    pub outcome: CredentialOutcome,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// One sentence about a refusal, or the `ISSUER/SUBJECT` of a valid credential.
    pub detail: String,
}

/// What came of the credentials that one rule found.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialOutcome {
    /// There were none.
    Absent,
    /// All verified.
    Valid,
    /// One did not.
    Refused,
    /// An earlier rule had settled the matter.
    NotAsked,
}

/// One `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyTrace {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `ALLOW`, `DENY`, `AUDIT` or `CUSTOM`.
    pub action: String,
    /// The provider that a CUSTOM policy asks.
    pub provider: Option<String>,
    /// Whether it is evaluated and reported only.
    pub dry_run: bool,
    /// Whether it applies to the workload.
    pub applies: bool,
    /// Why it does not apply, such as `selector app=ratings, the workload has app=reviews`. Empty when it does.
    pub why_not: String,
    /// Its rules; empty when it does not apply.
    pub rules: Vec<RuleTrace>,
}

/// One rule: `from` and `to` and `when`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleTrace {
    /// Its place in `rules`, which is part of Istio's id.
    pub index: usize,
    /// Whether it matched.
    pub matched: bool,
    /// An ALLOW rule that needs these attributes, which cannot be known here, never matches.
    pub unavailable: Vec<String>,
    /// The sources, of which one must match; empty when the rule has none.
    pub from: Vec<BranchTrace>,
    /// The operations, of which one must match; empty when the rule has none.
    pub to: Vec<BranchTrace>,
    /// The conditions, which must all match.
    pub when: Vec<LeafTrace>,
}

/// One source or one operation: all its leaves must match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BranchTrace {
    /// Whether it matched.
    pub matched: bool,
    /// Its fields that are not empty.
    pub leaves: Vec<LeafTrace>,
}

/// One field of a source, an operation or a condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeafTrace {
    /// Istio's name of the field, such as `principals`, `notPaths`, or of the key with its polarity taken from
    /// [`negated`](Self::negated), such as `request.auth.claims[groups]`.
    pub field: String,
    /// Whether none of the values may match.
    pub negated: bool,
    /// The values as in the policy (principals with the trust domain that they were compared with).
    pub wanted: Vec<String>,
    /// What the request has.
    pub found: Found,
    /// Whether the leaf holds.
    pub matched: bool,
}

/// What a request has where a leaf looked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Nothing: no such header or claim, plaintext, no token.
    Missing,
    /// It cannot be known here. A DENY, AUDIT or CUSTOM rule loses the condition.
    Unavailable,
    /// These values, of which any may match.
    Values(Vec<String>),
    /// Something that no value can match: a claim that is a number, a boolean or an object. Its type.
    WrongType(String),
}
