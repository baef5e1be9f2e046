//! What the gate answers.

use std::fmt;

use crate::claims::Claims;
use crate::reason::Reason;
use crate::request::{Request, Veiled, path_only};

/// The answer to one request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The request may pass.
    Allow(Allow),
    /// The request may not pass.
    Deny(Deny),
}

impl Decision {
    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allow(allow) => allow.reason,
            Self::Deny(deny) => deny.reason,
        }
    }

    /// The status that Envoy would answer with; 200 when allowed.
    pub fn status(&self) -> u16 {
        match self {
            Self::Allow(_) => 200,
            Self::Deny(deny) => deny.status,
        }
    }

    /// Istio's id of the rule that decided, such as `ns[bookinfo]-policy[reviews]-rule[0]`.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::Allow(allow) => allow.policy(),
            Self::Deny(deny) => deny.policy.as_deref(),
        }
    }

    /// The verified caller, `ISSUER/SUBJECT`.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::Allow(allow) => allow.principal(),
            Self::Deny(deny) => deny.principal.as_deref(),
        }
    }

    /// The verified caller's OAuth client.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Allow(allow) => allow.client_id(),
            Self::Deny(deny) => deny.client_id.as_deref(),
        }
    }

    /// What would have been answered without shadow mode, where that let the request pass.
    pub fn would_deny(&self) -> Option<&Deny> {
        match self {
            Self::Allow(allow) => allow.would_deny(),
            Self::Deny(_) => None,
        }
    }

    /// The hop that decided.
    pub fn hop(&self) -> Hop {
        match self {
            Self::Allow(allow) => allow.hop,
            Self::Deny(deny) => deny.hop,
        }
    }

    /// What AUDIT and dry-run policies found.
    pub fn shadow(&self) -> &Shadow {
        match self {
            Self::Allow(allow) => &allow.shadow,
            Self::Deny(deny) => &deny.shadow,
        }
    }
}

/// What policies that do not decide found: Istio's ids of rules. At two hops the first hop that found something counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shadow {
    /// The first AUDIT rule that matched.
    pub audit: Option<String>,
    /// The first rule of a dry-run CUSTOM policy that matched and whose provider would not let the request pass, or of a
    /// dry-run DENY policy that matched: enforced, it would deny.
    pub dry_run_deny: Option<String>,
    /// What the dry-run ALLOW policies would say if they alone were enforced; absent when there are none.
    pub dry_run_allow: Option<DryRunAllow>,
}

impl Shadow {
    /// What was found here, and where nothing was, what `later` found.
    pub(crate) fn or(self, later: Shadow) -> Shadow {
        Shadow {
            audit: self.audit.or(later.audit),
            dry_run_deny: self.dry_run_deny.or(later.dry_run_deny),
            dry_run_allow: self.dry_run_allow.or(later.dry_run_allow),
        }
    }
}

/// What dry-run ALLOW policies would say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DryRunAllow {
    /// This rule matches.
    AllowedBy(String),
    /// None matches.
    Denied,
}

/// A request may pass. Only [`gate::decide`](crate::gate::decide) makes one: the fields are private
/// and there is no constructor outside this crate's gate.
///
/// ```compile_fail,E0451
/// let forged = authz::Allow { reason: authz::Reason::AllowedByPolicy, ..todo!() };
/// ```
#[derive(Clone)]
pub struct Allow {
    reason: Reason,
    hop: Hop,
    policy: Option<String>,
    principal: Option<String>,
    claims: Option<Claims>,
    upstream_path: String,
    upstream_headers: Vec<(String, String)>,
    claim_headers: Vec<String>,
    by_api_key: bool,
    shadow: Shadow,
    would_deny: Option<Box<Deny>>,
    withheld: Vec<String>,
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            hop,
            policy,
            principal,
            claims,
            upstream_path,
            upstream_headers,
            claim_headers,
            by_api_key,
            shadow,
            would_deny,
            withheld,
        } = self;
        f.debug_struct("Allow")
            .field("reason", reason)
            .field("hop", hop)
            .field("policy", policy)
            .field("principal", principal)
            .field("claims", claims)
            // The query may hold a token.
            .field("upstream_path", &path_only(upstream_path))
            .field("upstream_headers", &Veiled(upstream_headers))
            .field("claim_headers", claim_headers)
            .field("by_api_key", by_api_key)
            .field("shadow", shadow)
            .field("would_deny", would_deny)
            .field("withheld", withheld)
            .finish()
    }
}

/// Proof that the caller is the gate: its only constructor is private to that module.
pub(crate) struct AllowParts {
    pub(crate) reason: Reason,
    pub(crate) hop: Hop,
    pub(crate) policy: Option<String>,
    pub(crate) claims: Option<Claims>,
    pub(crate) upstream_path: String,
    pub(crate) upstream_headers: Vec<(String, String)>,
    pub(crate) claim_headers: Vec<String>,
    pub(crate) by_api_key: bool,
    pub(crate) shadow: Shadow,
    /// The denial that shadow mode overlooks.
    pub(crate) would_deny: Option<Box<Deny>>,
    /// Names of headers of which shadow mode takes something out.
    pub(crate) withheld: Vec<String>,
}

impl Allow {
    /// Makes an allow. `_seal` can be made by the gate alone.
    pub(crate) fn new(_seal: crate::gate::Seal, parts: AllowParts) -> Self {
        let AllowParts {
            reason,
            hop,
            policy,
            claims,
            upstream_path,
            upstream_headers,
            claim_headers,
            by_api_key,
            shadow,
            would_deny,
            withheld,
        } = parts;
        let principal = claims.as_ref().and_then(Claims::principal);
        Self {
            reason,
            hop,
            policy,
            principal,
            claims,
            upstream_path,
            upstream_headers,
            claim_headers,
            by_api_key,
            shadow,
            would_deny,
            withheld,
        }
    }

    /// Why: [`Reason::AllowedByPolicy`] or [`Reason::AllowedNoPolicy`]; under shadow mode why it would be denied.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The last hop that was asked.
    pub fn hop(&self) -> Hop {
        self.hop
    }

    /// Istio's id of the ALLOW rule that matched; the destination's where both hops have one. Under shadow mode that of
    /// the rule that would have denied.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The verified caller, `ISSUER/SUBJECT`; absent when the request carried no credential.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// The verified caller's OAuth client: the claim `client_id`, or else `azp`.
    pub fn client_id(&self) -> Option<&str> {
        self.claims.as_ref().and_then(Claims::client_id)
    }

    /// The verified claims of the token, or those that the API key stands for. They are the ones
    /// that the first hop saw.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Path and query as the upstream gets them: the path in its normal form where the front rewrites it, a query
    /// parameter that held a token taken out where it must not be forwarded.
    pub fn upstream_path(&self) -> &str {
        &self.upstream_path
    }

    /// The complete set of headers that the upstream gets: names in lower case, what must not be
    /// forwarded taken out, the configured claim headers put in (and nobody else's).
    pub fn upstream_headers(&self) -> &[(String, String)] {
        &self.upstream_headers
    }

    /// Those of [`upstream_headers`](Self::upstream_headers) that a rule made out of verified claims. A
    /// header of the client has no part in them, whatever its name.
    pub fn claim_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let made = self.upstream_headers.iter().filter(|(name, _)| self.claim_headers.contains(name));
        made.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What AUDIT and dry-run policies found.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// What would have been answered without [shadow mode](crate::shadow_mode): this is no allow of the policies then,
    /// but their denial, overlooked. It vouches for what was proven before the denial and for nothing else: where a
    /// credential was refused, there are no claims, no claim headers and no credentials among the
    /// [`upstream_headers`](Self::upstream_headers).
    pub fn would_deny(&self) -> Option<&Deny> {
        self.would_deny.as_deref()
    }

    /// Names, in lower case, of the headers of which shadow mode takes something out, since nobody has verified what is in
    /// them. Nothing behind Causeway verifies it either: it must not reach the upstream under any circumstances.
    pub fn withheld(&self) -> &[String] {
        &self.withheld
    }

    /// Whether an API key was presented, and proven.
    pub fn by_api_key(&self) -> bool {
        self.by_api_key
    }

    /// What an intermediary has to change in `request` so that the upstream gets
    /// [`upstream_headers`](Self::upstream_headers).
    pub fn header_changes(&self, request: &Request) -> HeaderChanges {
        let lines = |headers: &[(String, String)], name: &str| -> Vec<String> {
            headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
        };
        let mut changes = HeaderChanges::default();
        for (name, _) in &request.headers {
            let gone = !self.upstream_headers.iter().any(|(n, _)| n == name);
            if gone && !changes.remove.contains(name) {
                changes.remove.push(name.clone());
            }
        }
        for (name, value) in &self.upstream_headers {
            if lines(&request.headers, name) != lines(&self.upstream_headers, name) {
                changes.set.push((name.clone(), value.clone()));
            }
        }
        changes
    }
}

/// The difference between the headers of a request and those that its upstream must get.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderChanges {
    /// Names, in lower case, of headers to take out.
    pub remove: Vec<String>,
    /// Headers to set, replacing what is there.
    pub set: Vec<(String, String)>,
}

/// A request may not pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deny {
    /// Why.
    pub reason: Reason,
    /// The status that Envoy would answer with.
    pub status: u16,
    /// Istio's id of the DENY or CUSTOM rule that matched.
    pub policy: Option<String>,
    /// The caller, `ISSUER/SUBJECT`, as far as it was verified before the denial.
    pub principal: Option<String>,
    /// The caller's OAuth client, as far as it was verified before the denial.
    pub client_id: Option<String>,
    /// One sentence for the operator's log. It never holds a credential, and is not for the client.
    pub detail: String,
    /// The hop that denied.
    pub hop: Hop,
    /// What AUDIT and dry-run policies found.
    pub shadow: Box<Shadow>,
    /// Whether shadow mode was asked, and leaves it a denial: it is not asked again, by those who know less of it.
    pub is_final: bool,
}

impl Deny {
    /// A denial with the status that belongs to `reason`, without a policy and a principal.
    pub fn new(reason: Reason, hop: Hop, detail: impl Into<String>) -> Self {
        Self {
            reason,
            status: reason.status(),
            policy: None,
            principal: None,
            client_id: None,
            detail: detail.into(),
            hop,
            shadow: Box::default(),
            is_final: false,
        }
    }
}

impl Deny {
    /// Says who was denied, as far as that is verified.
    pub(crate) fn identify(&mut self, claims: Option<&Claims>) {
        self.principal = claims.and_then(Claims::principal);
        self.client_id = claims.and_then(|claims| claims.client_id().map(str::to_owned));
    }
}

impl From<Deny> for Decision {
    fn from(deny: Deny) -> Self {
        Self::Deny(deny)
    }
}

/// Whose policies decided.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hop {
    /// Nobody's: the request itself was refused before any workload was looked at.
    Request,
    /// The gateway workload that an API plays (the first of two hops).
    Gateway,
    /// The destination behind the gateway (the second of two hops).
    Destination,
    /// The only workload that was asked.
    Workload,
}

impl Hop {
    /// The word of the decision log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Gateway => "gateway",
            Self::Destination => "destination",
            Self::Workload => "workload",
        }
    }
}

impl serde::Serialize for Hop {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
