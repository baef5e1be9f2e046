//! The one place that answers "allow".

use std::collections::{BTreeMap, BTreeSet};

use identity::Secret;

use crate::api_key::KeyRecordLookup;
use crate::authenticate::{self, Authenticated, KeyContext, Visible};
use crate::decision::{Allow, AllowParts, Decision, Deny, Hop, Shadow};
use crate::evaluate::{self, Attributes, Outcome, Verdict};
use crate::hops;
use crate::jwk::KeySets;
use crate::path;
use crate::policies::{Labels, Policies, Workload};
use crate::reason::Reason;
use crate::request::{Request, Target};
use crate::trace::Trace;

/// The proof that an [`Allow`] is made here: nobody else can make this value.
pub(crate) struct Seal(());

/// What a request presents, so that a front can fetch records and keys before it asks [`decide`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Credentials {
    /// The API key whose record is needed. Absent when there is none, or a malformed one, which needs no
    /// store to be refused.
    pub api_key: Option<PresentedKey>,
    /// Key sets that presented tokens need, each once.
    pub keys_needed: Vec<KeysNeeded>,
}

/// A well-formed API key without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentedKey {
    /// The handle to look the record up by.
    pub id: String,
    /// The environment that the key says it is for.
    pub environment: String,
    /// SHA-256 of the whole key in hex, for caches of answers.
    pub fingerprint: String,
}

/// A published key set that a presented token needs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeysNeeded {
    /// The issuer of the rule.
    pub issuer: String,
    /// Where its keys are published; the name to [`KeySets::insert`] them by.
    pub jwks_uri: String,
    /// The key that the token names, so that a front can see whether the set it holds has it.
    pub kid: Option<String>,
}

/// Says what has to be at hand to decide about `request`. Verifies nothing and asks nobody.
pub fn credentials(policies: &Policies, request: &Request, target: &Target) -> Credentials {
    if !request.is_within_limits() {
        return Credentials::default();
    }
    let mut workloads = Vec::new();
    match target {
        Target::Workload { namespace, labels, .. } => {
            workloads.push(Workload { namespace, labels: Labels::Given(labels) });
        }
        Target::ApiGateway { api_id, stage, domain } => {
            if let Some(gateway) = policies.find_api_gateway(api_id, stage, domain) {
                workloads.push(hops::gateway_workload(gateway));
                if let Some(route) = hops::route(gateway, &request.host, &request.path) {
                    workloads.push(route.workload());
                }
            }
        }
    }
    let mut api_key = None;
    let mut keys_needed = BTreeSet::new();
    for workload in workloads {
        let applicable = policies.of_workload(workload);
        if api_key.is_none()
            && let Ok(Some(presented)) = authenticate::presented_key(applicable, &request.headers)
        {
            api_key = Some(PresentedKey {
                id: presented.key.id().to_owned(),
                environment: presented.key.environment().to_owned(),
                fingerprint: crate::api_key::fingerprint(presented.key.text().expose()),
            });
        }
        keys_needed.extend(authenticate::keys_needed(policies, applicable, request));
    }
    Credentials { api_key, keys_needed: keys_needed.into_iter().collect() }
}

/// What the outside world said: everything that a decision needs beside the policies and the request. What is missing
/// here denies where it is needed.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The key sets at hand.
    pub keys: &'a KeySets,
    /// What the store said about the key that [`credentials`] found; `None` when it found none.
    pub api_key: Option<&'a KeyRecordLookup>,
    /// The secret that API keys are hashed with.
    pub pepper: Option<&'a Secret<Vec<u8>>>,
    /// Ids of revoked tokens (`jti`) and API keys.
    pub revoked: Option<&'a BTreeSet<String>>,
    /// What the extension providers of CUSTOM policies say, by their names.
    pub providers: Option<&'a BTreeMap<String, ProviderAnswer>>,
    /// Seconds since 1970.
    pub now: u64,
}

/// What an extension provider says about a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderAnswer {
    /// It may pass.
    Allow,
    /// It may not.
    Deny,
    /// It could not be had.
    Error,
}

/// Decides, and shows the way to the decision. Slower than [`decide`]: every policy is looked at to its end.
pub fn explain(policies: &Policies, request: &Request, target: &Target, given: &Given<'_>) -> (Decision, Trace) {
    (decide(policies, request, target, given), Trace::default())
}

/// Decides about one request. Pure: the same arguments give the same answer.
///
/// Everything that is missing, unknown or in doubt denies.
pub fn decide(policies: &Policies, request: &Request, target: &Target, given: &Given<'_>) -> Decision {
    match try_decide(policies, request, target, given) {
        Ok(parts) => Decision::Allow(Allow::new(Seal(()), parts)),
        Err(deny) => Decision::Deny(deny),
    }
}

fn try_decide(policies: &Policies, request: &Request, target: &Target, given: &Given<'_>) -> Result<AllowParts, Deny> {
    let Given { keys, api_key, pepper, revoked, now, .. } = *given;
    check_request(request)?;
    let asked = Asked { policies, keys, joined: request.headers_joined, now };
    let client = Seen {
        method: &request.method,
        scheme: &request.scheme,
        host: &request.host,
        principal: request.source.principal.as_deref(),
    };
    let arriving = Visible::of(request);
    match target {
        Target::Workload { namespace, labels, environment } => {
            let workload = Workload { namespace, labels: Labels::Given(labels) };
            let key = KeyContext { lookup: api_key, pepper, environment: environment.as_deref(), revoked };
            let passed =
                asked.pass(Hop::Workload, workload, &client, request.destination_port, arriving, &key, None)?;
            Ok(passed.into_parts(Hop::Workload))
        }
        Target::ApiGateway { api_id, stage, domain } => {
            let gateway = policies.find_api_gateway(api_id, stage, domain).ok_or_else(|| {
                Deny::new(
                    Reason::GatewayUnknown,
                    Hop::Request,
                    format!("no ApiGateway document covers the API {api_id}, stage {stage}, domain {domain}"),
                )
            })?;
            let key = KeyContext { lookup: api_key, pepper, environment: Some(gateway.environment.as_str()), revoked };
            let port = gateway.port.as_ref().map(|port| port.to_native());
            let first = asked.pass(
                Hop::Gateway,
                hops::gateway_workload(gateway),
                &client,
                port.or(request.destination_port),
                arriving,
                &key,
                None,
            )?;
            let Some(route) = hops::route(gateway, &request.host, &first.visible.path) else {
                let mut deny = Deny::new(
                    Reason::DestinationUnknown,
                    Hop::Gateway,
                    format!("no VirtualService of the gateway {} routes this host and path", gateway.name),
                );
                deny.principal = first.principal();
                deny.client_id = first.client_id();
                return Err(deny);
            };
            // "It sees what it would see in the mesh": the gateway is the peer now.
            let peer = Seen { principal: Some(gateway.principal.as_str()), ..client };
            let second = asked.pass(
                Hop::Destination,
                route.workload(),
                &peer,
                route.port(),
                first.visible.clone(),
                &key,
                Some(&first),
            )?;
            // A hop that reads the key alone and one that reads the token alone must not add up to more than
            // either of the two clients may do.
            if let (Some(one), Some(other)) = (&first.claims, &second.claims)
                && (first.by_key || second.by_key)
            {
                authenticate::same_client(one, other).map_err(|refused| {
                    let mut deny = Deny::new(refused.reason, Hop::Destination, refused.detail);
                    deny.principal = first.principal();
                    deny.client_id = first.client_id();
                    deny
                })?;
            }
            Ok(AllowParts {
                reason: match (first.verdict_reason(), second.verdict_reason()) {
                    (Reason::AllowedNoPolicy, Reason::AllowedNoPolicy) => Reason::AllowedNoPolicy,
                    _ => Reason::AllowedByPolicy,
                },
                hop: Hop::Destination,
                policy: second.policy.or(first.policy),
                claims: first.claims.or(second.claims),
                upstream_headers: second.visible.headers,
                claim_headers: second.visible.made,
                shadow: Shadow::default(),
            })
        }
    }
}

/// What both hops have in common.
struct Asked<'a> {
    policies: &'a Policies,
    keys: &'a KeySets,
    joined: bool,
    now: u64,
}

/// What a hop sees of the request that authentication does not change.
#[derive(Clone, Copy)]
struct Seen<'a> {
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    principal: Option<&'a str>,
}

/// A hop that let the request pass.
struct Passed {
    policy: Option<String>,
    claims: Option<crate::claims::Claims>,
    /// Whether any credential was presented here.
    presented: bool,
    /// Whether an API key was among them.
    by_key: bool,
    /// What goes on to the next hop.
    visible: Visible,
}

impl Passed {
    fn principal(&self) -> Option<String> {
        self.claims.as_ref().and_then(crate::claims::Claims::principal)
    }

    fn client_id(&self) -> Option<String> {
        self.claims.as_ref().and_then(|claims| claims.client_id().map(str::to_owned))
    }

    fn verdict_reason(&self) -> Reason {
        match self.policy {
            Some(_) => Reason::AllowedByPolicy,
            None => Reason::AllowedNoPolicy,
        }
    }

    fn into_parts(self, hop: Hop) -> AllowParts {
        AllowParts {
            reason: self.verdict_reason(),
            hop,
            policy: self.policy,
            claims: self.claims,
            upstream_headers: self.visible.headers,
            claim_headers: self.visible.made,
            shadow: Shadow::default(),
        }
    }
}

impl Asked<'_> {
    /// One hop: authentication, then DENY, then ALLOW.
    #[allow(clippy::too_many_arguments)]
    fn pass(
        &self,
        hop: Hop,
        workload: Workload<'_>,
        seen: &Seen<'_>,
        port: Option<u16>,
        visible: Visible,
        key: &KeyContext<'_>,
        before: Option<&Passed>,
    ) -> Result<Passed, Deny> {
        let applicable = self.policies.of_workload(workload);
        let Authenticated { claims, presented, by_key, visible } =
            authenticate::authenticate(self.policies, applicable, visible, seen.method, self.keys, key, self.now)
                .map_err(|refused| {
                    let mut deny = Deny::new(refused.reason, hop, refused.detail);
                    deny.principal = before.and_then(Passed::principal);
                    deny.client_id = before.and_then(Passed::client_id);
                    deny
                })?;
        let Outcome { verdict, shadow: _ } = evaluate::evaluate(
            applicable,
            &Attributes {
                method: seen.method,
                scheme: seen.scheme,
                host: seen.host,
                path: &visible.path,
                headers: &visible.headers,
                joined: self.joined,
                principal: seen.principal,
                source_ip: None,
                remote_ip: None,
                destination_ip: None,
                port,
                sni: None,
                dynamic_metadata: None,
                claims: claims.as_ref(),
            },
        );
        // A peer certificate of the client is a credential; the gateway's own is not the client's.
        let presented = presented
            || before.is_some_and(|before| before.presented)
            || (before.is_none() && seen.principal.is_some());
        let passed = |policy| Passed { policy, claims: claims.clone(), presented, by_key, visible };
        let (reason, policy, detail) = match verdict {
            Verdict::AllowedBy(policy) => return Ok(passed(Some(policy))),
            Verdict::AllowedNoPolicy => return Ok(passed(None)),
            Verdict::DeniedBy(policy) => {
                let detail = format!("{policy} denies it");
                (Reason::DeniedByPolicy, Some(policy), detail)
            }
            Verdict::DeniedNoMatch => (Reason::DeniedNoMatch, None, "no rule of the ALLOW policies matches".to_owned()),
        };
        let mut deny = if presented {
            Deny::new(reason, hop, detail)
        } else {
            // A denial with no credential presented has a reason of its own; Envoy's status stays 403.
            Deny::new(Reason::NoCredential, hop, format!("no credential was presented, and {detail}"))
        };
        deny.policy = policy;
        let claims = claims.as_ref().or(before.and_then(|before| before.claims.as_ref()));
        deny.principal = claims.and_then(crate::claims::Claims::principal);
        deny.client_id = claims.and_then(|claims| claims.client_id().map(str::to_owned));
        Err(deny)
    }
}

fn check_request(request: &Request) -> Result<(), Deny> {
    let refused = |reason, detail: &str| Err(Deny::new(reason, Hop::Request, detail));
    if !request.is_within_limits() {
        return refused(Reason::RequestTooLarge, "more than 100 headers, or more than 64 KiB of them");
    }
    if request.method.is_empty() {
        return refused(Reason::Internal, "the front gave no method");
    }
    if request.source.principal.as_deref() == Some("") {
        return refused(Reason::Internal, "the front gave an empty peer principal");
    }
    if request.headers.iter().any(|(name, _)| name.bytes().any(|b| b.is_ascii_uppercase())) {
        return refused(Reason::Internal, "the front gave a header name that is not in lower case");
    }
    path::normalized(&request.path).map_err(|error| {
        let reason = match error {
            path::NotCanonical::NotAbsolute | path::NotCanonical::Control | path::NotCanonical::Unencoded(_) => {
                Reason::PathInvalid
            }
            _ => Reason::PathNotCanonical,
        };
        Deny::new(reason, Hop::Request, error.to_string())
    })
}
