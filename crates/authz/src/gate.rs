//! The one place that answers "allow".

mod gateway_rules;
mod overlook;

pub use overlook::overlook;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use identity::Secret;

use crate::api_key::KeyRecordLookup;
use crate::authenticate::{self, Authenticated, KeyContext, Visible};
use crate::claims::{Claims, Json};
use crate::compiled::{ArchivedApiGateway, Mode};
use crate::custom;
use crate::decision::{Allow, AllowParts, Decision, Deny, Hop, Shadow};
use crate::evaluate::{self, Attributes, Outcome, Verdict};
use crate::grants::Area;
use crate::hops::{self, Route};
use crate::index::Action;
use crate::jwk::KeySets;
use crate::path::{self, NotCanonical};
use crate::policies::{Applicable, Labels, Policies, Workload};
use crate::reason::Reason;
use crate::request::{PathHandling, Request, Target, Unknown, path_only};
use crate::revocation::Revocations;
use crate::trace::{HopTrace, Trace};
use crate::verified::VerifiedTokens;

/// The proof that an [`Allow`] is made here: nobody else can make this value.
pub(crate) struct Seal(());

/// What a request presents, so that a front can fetch records and keys before it asks [`decide`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Credentials {
    /// The API key whose record is needed. Absent when there is none, or a malformed one, which needs no
    /// store to be refused.
    pub api_key: Option<PresentedKey>,
    /// Whether a token stands where a rule looks for one that can be read and says that it is from the rule's issuer. Any
    /// other needs nothing to be refused.
    pub token: bool,
    /// Key sets that presented tokens need, each once.
    pub keys_needed: Vec<KeysNeeded>,
}

impl Credentials {
    /// Whether there is a credential that may be accepted, and so a need for what is known of revoked ones.
    pub fn is_presented(&self) -> bool {
        self.token || self.api_key.is_some()
    }
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
    pub uri: String,
    /// Whether `uri` is the issuer's discovery document, which says where the keys are (OpenID Connect Discovery 1.0,
    /// section 4), and not the key set itself.
    pub discovery: bool,
    /// The key that the token names, so that a front can see whether the set it holds has it.
    pub kid: Option<String>,
}

/// Says what has to be at hand to decide about `request`. Verifies nothing and asks nobody.
pub fn credentials(policies: &Policies, request: &Request, target: &Target) -> Credentials {
    credentials_with(policies, request, target, None)
}

/// As [`credentials`], and does not read a token again that `verified` knows.
pub fn credentials_with(
    policies: &Policies,
    request: &Request,
    target: &Target,
    verified: Option<&VerifiedTokens>,
) -> Credentials {
    // A request that is refused anyway needs nothing.
    let judged = check_request(request).and_then(|()| judged(policies, request));
    let Ok(request) = judged else { return Credentials::default() };
    let mut workloads = Vec::new();
    match target {
        Target::Workload { namespace, labels, .. } => {
            workloads.push(Workload { namespace, labels: Labels::Given(labels) });
        }
        Target::ApiGateway { api_id, stage, domain } => {
            if let Some(gateway) = policies.find_api_gateway(api_id, stage, domain) {
                workloads.push(hops::gateway_workload(gateway));
                if let Some(route) = hops::route(gateway, known_host(&request), &request.path) {
                    workloads.push(route.workload());
                }
            }
        }
    }
    let mut api_key = None;
    let mut token = false;
    let mut keys_needed = BTreeSet::new();
    let headers = authenticate::joined(&request.headers);
    for workload in workloads {
        let applicable = policies.of_workload(workload);
        if api_key.is_none()
            && let Ok(Some(presented)) = authenticate::presented_key(applicable, &headers)
        {
            api_key = Some(PresentedKey {
                id: presented.key.id().to_owned(),
                environment: presented.key.environment().to_owned(),
                fingerprint: crate::api_key::fingerprint(presented.key.text().expose()),
            });
        }
        let needs = authenticate::token_needs(policies, applicable, &headers, &request.path, verified);
        token |= needs.token;
        keys_needed.extend(needs.keys);
    }
    Credentials { api_key, token, keys_needed: keys_needed.into_iter().collect() }
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
    /// What is known of revoked credentials.
    pub revocations: Revocations<'a>,
    /// What the extension providers of CUSTOM policies say, by their names.
    pub providers: Option<&'a BTreeMap<String, ProviderAnswer>>,
    /// Tokens that have been verified before; without it each is verified again.
    pub verified: Option<&'a VerifiedTokens>,
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
    let mut trace = Trace::default();
    let decision = settled(pass_all(policies, request, target, given, Some(&mut trace)));
    (decision, trace)
}

/// Decides about one request. Pure: the same arguments give the same answer.
///
/// Everything that is missing, unknown or in doubt denies.
pub fn decide(policies: &Policies, request: &Request, target: &Target, given: &Given<'_>) -> Decision {
    settled(pass_all(policies, request, target, given, None))
}

/// Whether [`decide`] would allow every request of `area`, which are like `request` but for their paths,
/// and how: one answer for all of them, or none.
pub(crate) fn pass_area(
    policies: &Policies,
    request: &Request,
    target: &Target,
    given: &Given<'_>,
    area: &Area<'_>,
) -> Result<AllowParts, Deny> {
    check_request(request)?;
    let Target::ApiGateway { api_id, stage, domain } = target else {
        return Err(Deny::new(Reason::Internal, Hop::Request, "only an API has areas"));
    };
    let gateway = policies
        .find_api_gateway(api_id, stage, domain)
        .ok_or_else(|| Deny::new(Reason::GatewayUnknown, Hop::Request, "no ApiGateway document"))?;
    Way { policies, request, given, trace: None, area: Some(area) }.pass_two(gateway)
}

fn settled(passed: Result<AllowParts, Deny>) -> Decision {
    match passed {
        Ok(parts) => Decision::Allow(Allow::new(Seal(()), parts)),
        Err(deny) => Decision::Deny(deny),
    }
}

/// Takes the request through every workload on its way.
fn pass_all(
    policies: &Policies,
    request: &Request,
    target: &Target,
    given: &Given<'_>,
    trace: Option<&mut Trace>,
) -> Result<AllowParts, Deny> {
    check_request(request)?;
    let request = judged(policies, request)?;
    let mut way = Way { policies, request: &request, given, trace, area: None };
    match target {
        Target::Workload { namespace, labels, environment } => {
            let workload = Workload { namespace, labels: Labels::Given(labels) };
            let arrival = Arrival::alone(workload, environment.as_deref(), &request);
            let passed = way.pass(&arrival, Visible::of(&request))?;
            Ok(passed.into_parts(Hop::Workload))
        }
        Target::ApiGateway { api_id, stage, domain } => {
            let gateway = policies.find_api_gateway(api_id, stage, domain).ok_or_else(|| {
                let detail = policies.uncovered(api_id, stage, domain).unwrap_or_default();
                Deny::new(Reason::GatewayUnknown, Hop::Request, detail)
            })?;
            way.pass_two(gateway)
        }
    }
}

/// The request with the path that is judged and forwarded.
fn judged<'r>(policies: &Policies, request: &'r Request) -> Result<Cow<'r, Request>, Deny> {
    let refused = |reason, detail: String| Err(Deny::new(reason, Hop::Request, detail));
    match (path::normalize(&request.path, policies.path_normalization()), request.path_handling) {
        (Ok(normal), _) if *normal == request.path => Ok(Cow::Borrowed(request)),
        (Ok(normal), PathHandling::Rewritten) => {
            let path = normal.into_owned();
            Ok(Cow::Owned(Request { path, ..request.clone() }))
        }
        (Ok(_), PathHandling::AsSent) => {
            refused(Reason::PathNotCanonical, "path is not in the normal form, and cannot be rewritten here".to_owned())
        }
        // "%00 -> 400."
        (Err(error), PathHandling::Rewritten) => refused(Reason::PathInvalid, error.to_string()),
        (Err(error), PathHandling::AsSent) => match error {
            NotCanonical::NotAbsolute | NotCanonical::Control | NotCanonical::Unencoded(_) => {
                refused(Reason::PathInvalid, error.to_string())
            }
            _ => refused(Reason::PathNotCanonical, error.to_string()),
        },
    }
}

/// A request on its way through the workloads.
struct Way<'a> {
    policies: &'a Policies,
    request: &'a Request,
    given: &'a Given<'a>,
    trace: Option<&'a mut Trace>,
    area: Option<&'a Area<'a>>,
}

/// A request at a workload, as that workload sees it. What is `None` from `source_ip` on cannot be known there.
struct Arrival<'a> {
    hop: Hop,
    workload: Workload<'a>,
    /// How it came here.
    via: Option<&'a str>,
    /// Whose API keys are good here.
    environment: Option<&'a str>,
    /// Identity of the direct peer; `None` is plaintext.
    peer: Option<&'a str>,
    source_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    port: Option<u16>,
    sni: Option<&'a str>,
    dynamic_metadata: Option<&'a [(String, Json)]>,
    unknown: Unknown,
    /// The hop before.
    before: Option<&'a Passed>,
    area: Option<&'a Area<'a>>,
}

impl<'a> Arrival<'a> {
    /// At the only workload that is asked.
    fn alone(workload: Workload<'a>, environment: Option<&'a str>, request: &'a Request) -> Self {
        Self {
            hop: Hop::Workload,
            workload,
            via: None,
            environment,
            peer: request.source.principal.as_deref(),
            source_ip: request.source.ip,
            destination_ip: request.destination_ip,
            port: request.destination_port,
            sni: request.sni.as_deref(),
            dynamic_metadata: request.dynamic_metadata.as_deref(),
            unknown: request.unknown,
            before: None,
            area: None,
        }
    }

    /// At the gateway workload that an API plays.
    fn at_gateway(gateway: &'a ArchivedApiGateway, request: &'a Request) -> Self {
        let port = gateway.port.as_ref().map(|port| port.to_native());
        Self {
            hop: Hop::Gateway,
            via: Some(gateway.name.as_str()),
            // API Gateway stands for the workload, whose address is nobody's.
            destination_ip: None,
            // API Gateway's own port is none that a policy of the mesh speaks of.
            port,
            ..Self::alone(hops::gateway_workload(gateway), Some(gateway.environment.as_str()), request)
        }
    }

    /// At the destination. "It sees what it would see in the mesh": the gateway is the peer now, by an address that
    /// nobody knows here, and the connection between the two is not the client's.
    fn at_destination(gateway: &'a ArchivedApiGateway, route: Route<'a>, request: &Request, first: &'a Passed) -> Self {
        Self {
            hop: Hop::Destination,
            workload: route.workload(),
            via: Some(route.host()),
            environment: Some(gateway.environment.as_str()),
            // Where the gateway may speak plaintext: neither its identity nor none can be relied upon.
            peer: (!route.peer_unknown()).then_some(gateway.principal.as_str()),
            source_ip: None,
            destination_ip: None,
            port: route.port(),
            sni: None,
            dynamic_metadata: None,
            unknown: Unknown { principal: route.peer_unknown(), ..request.unknown },
            before: Some(first),
            area: None,
        }
    }

    fn attributes<'v>(
        &'v self,
        request: &'v Request,
        visible: &'v Visible,
        claims: Option<&'v Claims>,
    ) -> Attributes<'v> {
        Attributes {
            method: &request.method,
            scheme: &request.scheme,
            host: &request.host,
            path: &visible.path,
            headers: &visible.headers,
            joined: request.headers_joined,
            principal: self.peer,
            source_ip: self.source_ip,
            // The client stays the client, however many gateways are in between.
            remote_ip: request.source.remote_ip,
            destination_ip: self.destination_ip,
            port: self.port,
            sni: self.sni,
            dynamic_metadata: self.dynamic_metadata,
            unknown: self.unknown,
            claims,
            caller_unknown: false,
            area: self.area,
        }
    }
}

/// A hop that let the request pass.
struct Passed {
    policy: Option<String>,
    claims: Option<Claims>,
    /// Whether any credential was presented here.
    presented: bool,
    /// Whether an API key was among them.
    by_key: bool,
    /// What goes on to the next hop. That takes it: copies of all headers would be a tenth of a decision's allocations.
    visible: Visible,
    shadow: Shadow,
}

impl Passed {
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
            by_api_key: self.by_key,
            upstream_path: self.visible.path,
            upstream_headers: self.visible.headers,
            claim_headers: self.visible.made,
            shadow: self.shadow,
            would_deny: None,
            withheld: Vec::new(),
        }
    }

    /// `deny`, with what this hop found out before it.
    fn denied_later(&self, mut deny: Deny) -> Deny {
        *deny.shadow = self.shadow.clone().or(std::mem::take(&mut *deny.shadow));
        if deny.principal.is_none() && deny.client_id.is_none() {
            deny.identify(self.claims.as_ref());
        }
        deny
    }
}

impl<'a> Way<'a> {
    /// The gateway that an API plays, and the destination behind it. Both must allow.
    fn pass_two(&mut self, gateway: &'a ArchivedApiGateway) -> Result<AllowParts, Deny> {
        let request = self.request;
        // Istio's gateway with the mode `MUTUAL` ends the handshake of a client without a certificate. API Gateway does so
        // at a custom domain with mutual TLS, and nowhere else.
        if gateway.mutual_tls && request.client_certificate.is_none() && request.source.principal.is_none() {
            return Err(Deny::new(
                Reason::ConfigurationInvalid,
                Hop::Request,
                format!(
                    "the Gateway of {} lets nobody in without a client certificate (tls.mode MUTUAL), and the event has \
                     none: call the API by a domain with mutual TLS, and switch its other endpoints off",
                    gateway.name
                ),
            ));
        }
        let arrival = Arrival { area: self.area, ..Arrival::at_gateway(gateway, request) };
        let mut first = self.pass(&arrival, Visible::of(request))?;
        let Some(route) = hops::route_of_all(gateway, known_host(request), &first.visible.path, self.area) else {
            if let Some(trace) = &mut self.trace {
                trace.unrouted = Some(hops::unrouted(gateway, known_host(request)));
            }
            return Err(first.denied_later(Deny::new(
                Reason::DestinationUnknown,
                Hop::Gateway,
                format!("no VirtualService of the gateway {} routes this host and path", gateway.name),
            )));
        };
        let visible = std::mem::take(&mut first.visible);
        let arrival = Arrival { area: self.area, ..Arrival::at_destination(gateway, route, request, &first) };
        let second = self.pass(&arrival, visible).map_err(|deny| first.denied_later(deny))?;
        let (one, other) = ((first.claims.as_ref(), first.by_key), (second.claims.as_ref(), second.by_key));
        same_caller(self.policies, one, other).map_err(|deny| first.denied_later(deny))?;
        let reason = match (first.verdict_reason(), second.verdict_reason()) {
            (Reason::AllowedNoPolicy, Reason::AllowedNoPolicy) => Reason::AllowedNoPolicy,
            _ => Reason::AllowedByPolicy,
        };
        let by_api_key = first.by_key || second.by_key;
        let parts = second.into_parts(Hop::Destination);
        Ok(AllowParts {
            reason,
            policy: parts.policy.or(first.policy),
            claims: first.claims.or(parts.claims),
            shadow: first.shadow.or(parts.shadow),
            by_api_key,
            ..parts
        })
    }

    /// One workload; a trace of it is kept when the way is traced.
    fn pass(&mut self, arrival: &Arrival<'_>, visible: Visible) -> Result<Passed, Deny> {
        let Some(trace) = self.trace.as_deref_mut() else {
            return stages(self.policies, self.request, self.given, arrival, visible, None);
        };
        let labels = arrival.workload.labels.iter();
        let mut hop = HopTrace {
            hop: arrival.hop,
            namespace: arrival.workload.namespace.to_owned(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            via: arrival.via.map(str::to_owned),
            peer: arrival.peer.map(str::to_owned),
            path: path_only(&visible.path).to_owned(),
            providers: Vec::new(),
            authentication: Vec::new(),
            principal: None,
            policies: Vec::new(),
            allowed: false,
            reason: Reason::Internal,
        };
        let passed = stages(self.policies, self.request, self.given, arrival, visible, Some(&mut hop));
        (hop.allowed, hop.reason) = match &passed {
            Ok(passed) => (true, passed.verdict_reason()),
            Err(deny) => (false, deny.reason),
        };
        trace.hops.push(hop);
        passed
    }
}

/// What both hops know of the caller must be about one.
fn same_caller(
    policies: &Policies,
    (one, first_by_key): (Option<&Claims>, bool),
    (other, second_by_key): (Option<&Claims>, bool),
) -> Result<(), Deny> {
    let (Some(one), Some(other)) = (one, other) else { return Ok(()) };
    // A hop that reads the key alone and one that reads the token alone must not add up to more than either of the
    // two clients may do.
    if first_by_key || second_by_key {
        return authenticate::same_client(one, other)
            .map_err(|refused| Deny::new(refused.reason, Hop::Destination, refused.detail));
    }
    if policies.mode() == Mode::Strict && ["iss", "sub"].iter().any(|name| one.get(name) != other.get(name)) {
        // Nor a token that only the first hop reads and one that only the second does.
        let detail = "the token that the gateway reads and the one that the destination reads name different callers";
        return Err(Deny::new(Reason::CredentialMismatch, Hop::Destination, detail));
    }
    Ok(())
}

/// The stages of Istio's listener, in its order: CUSTOM, then authentication, then AUDIT, DENY and ALLOW.
fn stages(
    policies: &Policies,
    request: &Request,
    given: &Given<'_>,
    arrival: &Arrival<'_>,
    visible: Visible,
    mut trace: Option<&mut HopTrace>,
) -> Result<Passed, Deny> {
    let hop = arrival.hop;
    let applicable = policies.of_workload(arrival.workload);

    // "CUSTOM runs before JWT validation": nobody knows yet who calls.
    let attributes = arrival.attributes(request, &visible, None);
    let asked = custom::ask(policies, applicable, &attributes, given.providers);
    if let Some(trace) = trace.as_deref_mut() {
        trace.providers = asked.providers;
        trace.policies = evaluate::trace(applicable, &attributes, &attributes);
        trace.policies.retain(|policy| policy.action == Action::Custom.as_str());
    }
    let by_custom = Shadow { dry_run_deny: asked.dry_run, ..Shadow::default() };
    if let Some(refused) = asked.refused {
        let mut deny = Deny::new(refused.reason, hop, refused.detail);
        deny.status = refused.status;
        deny.policy = Some(refused.rule);
        *deny.shadow = by_custom;
        return Err(deny);
    }

    let key = KeyContext {
        lookup: given.api_key,
        pepper: given.pepper,
        environment: arrival.environment,
        revocations: given.revocations,
        // The client's at both hops: the token is bound to the client, not to the gateway.
        certificate: request.client_certificate.as_ref(),
        verified: given.verified,
    };
    // What CUSTOM policies saw, for the trace.
    let arrived = trace.is_some().then(|| visible.clone());
    if let Some(trace) = trace.as_deref_mut() {
        trace.authentication =
            authenticate::trace(policies, applicable, &visible, &request.method, given.keys, &key, given.now);
    }
    let Authenticated { claims, presented, by_key, visible, .. } =
        authenticate::authenticate(policies, applicable, visible, &request.method, given.keys, &key, given.now)
            .map_err(|refused| {
                let mut deny = Deny::new(refused.reason, hop, refused.detail);
                *deny.shadow = by_custom.clone();
                deny
            })?;

    let authenticated = arrival.attributes(request, &visible, claims.as_ref());
    let Outcome { verdict, shadow } = evaluate::evaluate(applicable, &authenticated);
    let shadow = by_custom.or(shadow);
    if let (Some(trace), Some(arrived)) = (trace, &arrived) {
        trace.principal = claims.as_ref().and_then(Claims::principal);
        let arriving = arrival.attributes(request, arrived, None);
        trace.policies = evaluate::trace(applicable, &arriving, &authenticated);
    }

    // A peer certificate of the client is a credential; the gateway's own is not the client's.
    let by_certificate = || arrival.peer.is_some() || request.client_certificate.is_some();
    let presented = presented || arrival.before.map_or_else(by_certificate, |before| before.presented);
    let (reason, policy, detail) = match verdict {
        Verdict::AllowedBy(policy) => {
            return Ok(Passed { policy: Some(policy), claims, presented, by_key, visible, shadow });
        }
        Verdict::AllowedNoPolicy => return Ok(Passed { policy: None, claims, presented, by_key, visible, shadow }),
        Verdict::DeniedBy(policy) => {
            let detail = format!("{policy} denies it");
            (Reason::DeniedByPolicy, Some(policy), detail)
        }
        Verdict::DeniedNoMatch => (Reason::DeniedNoMatch, None, "no rule of the ALLOW policies matches".to_owned()),
    };
    let mut deny = if presented || !accepts_credentials(applicable) {
        Deny::new(reason, hop, detail)
    } else {
        // A denial with no credential presented has a reason of its own where one could help; Envoy's status stays 403.
        Deny::new(Reason::NoCredential, hop, format!("no credential was presented, and {detail}"))
    };
    deny.policy = policy;
    *deny.shadow = shadow;
    deny.identify(claims.as_ref());
    Err(deny)
}

/// The host, where it can be known.
fn known_host(request: &Request) -> Option<&str> {
    (!request.unknown.host).then_some(request.host.as_str())
}

/// Whether the workload reads credentials at all: where it does not, none helps.
fn accepts_credentials(applicable: Applicable<'_>) -> bool {
    applicable.request_authentications().next().is_some() || applicable.api_key_authentications().next().is_some()
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Attribute, Peer, UNAVAILABLE_AT_API_GATEWAY};

    const BOOKINFO: [&str; 4] = [
        include_str!("../../../examples/bookinfo/access.yaml"),
        include_str!("../../../examples/bookinfo/gateway.yaml"),
        include_str!("../../../examples/bookinfo/routes.yaml"),
        include_str!("../../../examples/bookinfo/services.yaml"),
    ];

    fn bookinfo() -> Policies {
        let file = |text: &&str| istio::SourceFile { name: "x.yaml".to_owned(), text: (*text).to_owned() };
        let files: Vec<_> = BOOKINFO.iter().map(file).collect();
        let resources = istio::parse(&files).unwrap();
        Policies::open(&crate::compile(&resources, &crate::CompileOptions::default()).unwrap().section).unwrap()
    }

    /// A front that knows everything.
    fn request() -> Request {
        Request {
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            host: "api.bookinfo.example".to_owned(),
            path: "/productpage".to_owned(),
            source: Peer {
                ip: "10.0.0.1".parse().ok(),
                remote_ip: "203.0.113.7".parse().ok(),
                principal: Some("cluster.local/ns/ns1/sa/a".to_owned()),
            },
            destination_ip: "10.0.0.2".parse().ok(),
            destination_port: Some(1234),
            sni: Some("api.bookinfo.example".to_owned()),
            client_certificate: None,
            dynamic_metadata: Some(Vec::new()),
            ..Request::default()
        }
    }

    #[test]
    fn what_each_hop_is_told() {
        let policies = bookinfo();
        let gateway = policies.find_api_gateway("bookinfo", "$default", "").unwrap();
        let request = request();
        let visible = Visible::of(&request);
        let shadow = Shadow::default();
        let first =
            Passed { policy: None, claims: None, presented: false, by_key: false, visible: visible.clone(), shadow };
        let route = hops::route(gateway, Some(&request.host), &request.path).unwrap();
        let workload = Workload { namespace: "ns1", labels: Labels::Given(&[]) };
        let alone = Arrival::alone(workload, None, &request);
        let (one, two) =
            (Arrival::at_gateway(gateway, &request), Arrival::at_destination(gateway, route, &request, &first));
        let [alone, one, two] = [&alone, &one, &two].map(|arrival| arrival.attributes(&request, &visible, None));

        let Peer { ip, remote_ip, principal } = &request.source;
        assert_eq!((alone.source_ip, alone.remote_ip, alone.destination_ip), (*ip, *remote_ip, request.destination_ip));
        assert_eq!((alone.port, alone.sni), (Some(1234), request.sni.as_deref()));
        assert!(alone.dynamic_metadata.is_some());
        assert_eq!((one.source_ip, one.remote_ip, one.destination_ip), (*ip, *remote_ip, None));
        assert_eq!((two.source_ip, two.remote_ip, two.destination_ip), (None, *remote_ip, None));
        assert_eq!(alone.principal, principal.as_deref());
        assert_eq!(one.principal, principal.as_deref());
        assert_eq!(two.principal, Some("cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"));
        // The documents' ports: the gateway's server, and what productpage listens on.
        assert_eq!((one.port, two.port), (Some(443), Some(9080)));
        for seen in [alone, one, two] {
            assert_eq!((seen.method, seen.scheme), ("GET", "https"));
            assert_eq!((seen.host, seen.path), ("api.bookinfo.example", "/productpage"));
        }
    }

    #[test]
    fn what_is_said_to_be_unavailable_at_api_gateway_is() {
        let policies = bookinfo();
        let gateway = policies.find_api_gateway("bookinfo", "$default", "").unwrap();
        // The authorizer knows of the client's connection its address alone.
        let request = Request { destination_ip: None, sni: None, dynamic_metadata: None, ..request() };
        let visible = Visible::of(&request);
        let shadow = Shadow::default();
        let first =
            Passed { policy: None, claims: None, presented: false, by_key: false, visible: visible.clone(), shadow };
        let route = hops::route(gateway, Some(&request.host), &request.path).unwrap();
        for arrival in
            [Arrival::at_gateway(gateway, &request), Arrival::at_destination(gateway, route, &request, &first)]
        {
            let seen = arrival.attributes(&request, &visible, None);
            let missing = |attribute: Attribute| match attribute {
                Attribute::SourceIp => seen.source_ip.is_none(),
                Attribute::RemoteIp => seen.remote_ip.is_none(),
                Attribute::DestinationIp => seen.destination_ip.is_none(),
                Attribute::DestinationPort => seen.port.is_none(),
                Attribute::Sni => seen.sni.is_none(),
                Attribute::DynamicMetadata => seen.dynamic_metadata.is_none(),
                Attribute::Host => seen.unknown.host,
                Attribute::Headers => seen.unknown.headers,
                Attribute::SourcePrincipal => seen.unknown.principal,
            };
            let found: Vec<_> = Attribute::ALL.iter().copied().filter(|attribute| missing(*attribute)).collect();
            let said = UNAVAILABLE_AT_API_GATEWAY.iter().find(|(hop, _)| *hop == arrival.hop);
            assert_eq!(said.map(|(_, attributes)| attributes.to_vec()), Some(found), "{}", arrival.hop);
        }
    }
}
