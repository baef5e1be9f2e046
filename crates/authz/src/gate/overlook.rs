//! Shadow mode: a denial becomes an allow of a kind of its own, which says what it stands for.
//!
//! What is let through here would have been denied. So it may never look like more than it is:
//! * where only policies denied, or the rate, the caller has been proven, and goes on as if they had allowed;
//! * where a credential was refused or could not be verified, the request goes on as one of nobody: without claims,
//!   without the headers that are made out of claims, and without any credential at the places where the workloads on
//!   its way look for one. A backend that reads a token which it believes to be verified finds none.

use super::{Given, Seal, check_request, gateway_rules, judged, known_host, same_caller};
use crate::authenticate::{self, Authenticated, Caller, KeyContext, Visible};
use crate::claims::Claims;
use crate::compiled::ArchivedApiGateway;
use crate::decision::{Allow, AllowParts, Decision, Deny, Hop};
use crate::hops;
use crate::policies::{Labels, Policies, Workload};
use crate::reason::Reason;
use crate::request::{Request, Target};
use crate::shadow_mode::ShadowMode;

/// The answer under shadow mode to a request whose answer is `deny`: an [`Allow`] that [would deny](Allow::would_deny)
/// where `mode` is on at `now` (seconds since 1970) and covers the request's destination, and else `deny` itself, which is
/// [final](Deny::is_final) then: asked again, this function leaves it as it is.
///
/// `given` is what the decision was made with. Without it nothing is proven, and the request goes on as one of nobody.
///
/// Never overlooked is what cannot be judged at all: a request or a path that cannot be read or could be read in two
/// ways, an API that no document describes, a configuration that contradicts itself, and our own faults. Nor is what the
/// gateway denies by a rule or a provider of its own (DENY, CUSTOM), unless `mode` covers the gateway's workload, too: not to
/// the caller that is proven, and not to nobody, be it that a credential was refused or that there is none.
pub fn overlook(
    policies: &Policies,
    request: &Request,
    target: &Target,
    mode: &ShadowMode,
    given: Option<&Given<'_>>,
    now: u64,
    deny: Deny,
) -> Decision {
    let says = if deny.is_final || !mode.is_on(now) { Says::Never } else { says(deny.reason) };
    let onward = match says {
        Says::Never => Err(String::new()),
        Says::Good | Says::Bad => onward(policies, request, target, mode, given, &deny),
    };
    let Onward { claims, by_api_key, visible, withheld } = match onward {
        Ok(onward) => onward,
        Err(why) => return Decision::Deny(Deny { is_final: true, detail: deny.detail.clone() + &why, ..deny }),
    };
    let parts = AllowParts {
        reason: deny.reason,
        hop: deny.hop,
        policy: deny.policy.clone(),
        claims,
        upstream_path: visible.path,
        upstream_headers: visible.headers,
        claim_headers: visible.made,
        by_api_key,
        shadow: (*deny.shadow).clone(),
        would_deny: Some(Box::new(deny)),
        withheld,
    };
    Decision::Allow(Allow::new(Seal(()), parts))
}

/// What of a request goes on.
#[derive(Default)]
struct Onward {
    claims: Option<Claims>,
    by_api_key: bool,
    visible: Visible,
    /// Names of headers of which something does not.
    withheld: Vec<String>,
}

/// What a denial says about the credentials of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Says {
    /// That they are good, as far as there are any; or nothing, and they can be looked at.
    Good,
    /// That they are not, or that nobody knows.
    Bad,
    /// That the request must not pass under any circumstances.
    Never,
}

fn says(reason: Reason) -> Says {
    match reason {
        Reason::NoCredential
        | Reason::DeniedByProvider
        | Reason::CustomProviderUnavailable
        | Reason::DeniedByPolicy
        | Reason::DeniedNoMatch
        | Reason::RateLimited
        | Reason::DestinationUnknown => Says::Good,
        Reason::TokenMalformed
        | Reason::TokenRevoked
        | Reason::TokenBinding
        | Reason::TokenRequired
        | Reason::TokenTooLarge
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenIssuerUnknown
        | Reason::TokenAudience
        | Reason::TokenSignature
        | Reason::TokenKeyUnknown
        | Reason::TokenAlgorithm
        | Reason::JwksUnavailable
        | Reason::ApiKeyMalformed
        | Reason::ApiKeyUnknown
        | Reason::ApiKeyRevoked
        | Reason::ApiKeyExpired
        | Reason::ApiKeyEnvironment
        | Reason::ApiKeyUnavailable
        | Reason::ExchangeUnavailable
        | Reason::ExchangeRefused
        | Reason::RevocationsUnavailable
        | Reason::CredentialMismatch => Says::Bad,
        // Nobody knows what these requests are, or what the policies say about them.
        Reason::GatewayUnknown
        | Reason::PathNotCanonical
        | Reason::RequestInvalid
        | Reason::PathInvalid
        | Reason::RequestTooLarge
        | Reason::ConfigurationInvalid
        | Reason::Internal
        // These deny nothing: a denial with such a reason is a fault.
        | Reason::AllowedByPolicy
        | Reason::AllowedNoPolicy => Says::Never,
    }
}

/// What goes on of a request whose denial is overlooked; where it is not, what there is to say of that.
fn onward(
    policies: &Policies,
    request: &Request,
    target: &Target,
    mode: &ShadowMode,
    given: Option<&Given<'_>>,
    deny: &Deny,
) -> Result<Onward, String> {
    let never = || Err(String::new());
    let Ok(request) = check_request(request).and_then(|()| judged(policies, request)) else { return never() };
    let Some(way) = Way::of(policies, &request, target) else { return never() };
    if !mode.covers(way.destination) {
        return never();
    }
    // What the gateway denies by a rule or a provider of its own (addresses, a firewall) it denies for all that is behind
    // it, and has done so before: one service in shadow mode does not lift it.
    let guard = way.gateway.filter(|gateway| !mode.covers(Some(hops::gateway_workload(gateway))));
    let by_rule =
        matches!(deny.reason, Reason::DeniedByPolicy | Reason::DeniedByProvider | Reason::CustomProviderUnavailable);
    if guard.is_some() && deny.hop == Hop::Gateway && (by_rule || deny.policy.is_some()) {
        return Err(kept(deny.policy.as_deref().unwrap_or("a rule of the gateway")));
    }
    if let (Some(given), Says::Good) = (given, says(deny.reason)) {
        match proven(policies, &request, &way, given) {
            Ok(Some(onward)) => return Ok(onward),
            Ok(None) => {}
            Err(reason) if says(reason) == Says::Never => return never(),
            Err(_) => {}
        }
    }
    let Some(onward) = of_nobody(policies, &request, &way) else { return never() };
    // Whoever is not proven may have been refused before the rules of the gateway were asked, or by none of them.
    let providers = given.and_then(|given| given.providers);
    let is_refused = says(deny.reason) == Says::Bad;
    let visible = &onward.visible;
    match guard.and_then(|guard| gateway_rules::denying(policies, guard, &request, visible, providers, is_refused)) {
        Some(rule) => Err(kept(&rule)),
        None => Ok(onward),
    }
}

fn kept(rule: &str) -> String {
    format!("; not overlooked, since {rule} denies it, and the gateway is not in shadow mode")
}

/// The workloads on a request's way.
struct Way<'a> {
    stops: Vec<Workload<'a>>,
    /// The first of them, where it is an API that plays it.
    gateway: Option<&'a ArchivedApiGateway>,
    /// Whose API keys are good there.
    environment: Option<&'a str>,
    /// The last one, unless nothing routes the request to it.
    destination: Option<Workload<'a>>,
}

impl<'a> Way<'a> {
    fn of(policies: &'a Policies, request: &Request, target: &'a Target) -> Option<Self> {
        match target {
            Target::Workload { namespace, labels, environment } => {
                let workload = Workload { namespace, labels: Labels::Given(labels) };
                let (environment, destination) = (environment.as_deref(), Some(workload));
                Some(Self { stops: vec![workload], gateway: None, environment, destination })
            }
            Target::ApiGateway { api_id, stage, domain } => {
                let gateway = policies.find_api_gateway(api_id, stage, domain)?;
                let destination = hops::route(gateway, known_host(request), &request.path).map(hops::Route::workload);
                let stops = [Some(hops::gateway_workload(gateway)), destination].into_iter().flatten().collect();
                let environment = Some(gateway.environment.as_str());
                Some(Self { stops, gateway: Some(gateway), environment, destination })
            }
        }
    }
}

/// The request as it goes on behind authentication, which must succeed at every workload: as if the policies had
/// allowed, but without what looks like a credential and was not verified (the tokens of a CORS preflight, `bearer` for
/// `Bearer`). `None` is nobody's, or one that cannot be sent on without such.
fn proven(policies: &Policies, request: &Request, way: &Way<'_>, given: &Given<'_>) -> Result<Option<Onward>, Reason> {
    let key = KeyContext {
        lookup: given.api_key,
        pepper: given.pepper,
        environment: way.environment,
        revocations: given.revocations,
        certificate: request.client_certificate.as_ref(),
        verified: given.verified,
    };
    let mut onward = Onward { visible: Visible::of(request), ..Onward::default() };
    let mut verified: Vec<String> = Vec::new();
    for stop in &way.stops {
        let (applicable, visible) = (policies.of_workload(*stop), std::mem::take(&mut onward.visible));
        let Authenticated { claims, by_key, tokens, visible, .. } =
            authenticate::authenticate(policies, applicable, visible, &request.method, given.keys, &key, given.now)
                .map_err(|refused| refused.reason)?;
        let (one, other) = ((onward.claims.as_ref(), onward.by_api_key), (claims.as_ref(), by_key));
        same_caller(policies, one, other).map_err(|deny| deny.reason)?;
        verified.extend(tokens);
        let (claims, by_api_key) = (onward.claims.or(claims), onward.by_api_key || by_key);
        onward = Onward { claims, by_api_key, visible, withheld: Vec::new() };
    }
    let path = onward.visible.path.clone();
    let stripped = strip(policies, way, &mut onward, Caller::Proven(&verified));
    // Authentication takes all parameters of a token's name out, those too that it did not look at. The adapter cannot:
    // the service gets the query as it was sent.
    let mut sent = Onward { visible: Visible::of(request), ..Onward::default() };
    let sent_path = sent.visible.path.clone();
    for stop in &way.stops {
        let _ =
            authenticate::strip(policies, policies.of_workload(*stop), &mut sent.visible, Caller::Proven(&verified));
    }
    if sent.visible.path != sent_path {
        return Ok(None);
    }
    // Not every front can take a parameter out: what cannot be told from one that was verified is nobody's.
    Ok((stripped && onward.visible.path == path && onward.claims.is_some()).then_some(onward))
}

/// The request without any credential, and with nothing that says who calls.
fn of_nobody(policies: &Policies, request: &Request, way: &Way<'_>) -> Option<Onward> {
    let mut onward = Onward { visible: Visible::of(request), ..Onward::default() };
    strip(policies, way, &mut onward, Caller::Nobody).then_some(onward)
}

/// Whether the request can be sent on without what is not the caller's.
fn strip(policies: &Policies, way: &Way<'_>, onward: &mut Onward, caller: Caller<'_>) -> bool {
    way.stops.iter().all(|stop| {
        let taken = authenticate::strip(policies, policies.of_workload(*stop), &mut onward.visible, caller);
        taken.map(|taken| onward.withheld.extend(taken)).is_some()
    })
}
