//! Shadow mode: a denial becomes an allow of a kind of its own, which says what it stands for.
//!
//! What is let through here would have been denied. So it may never look like more than it is:
//! * where only policies denied, or the rate, the caller has been proven, and goes on as if they had allowed;
//! * where a credential was refused or could not be verified, the request goes on as one of nobody: without claims,
//!   without the headers that are made out of claims, and without any credential at the places where the workloads on
//!   its way look for one. A backend that reads a token which it believes to be verified finds none.

use super::{Given, Seal, check_request, judged, known_host, same_caller};
use crate::authenticate::{self, Authenticated, KeyContext, Visible};
use crate::claims::Claims;
use crate::decision::{Allow, AllowParts, Decision, Deny, Hop};
use crate::hops;
use crate::policies::{Labels, Policies, Workload};
use crate::reason::Reason;
use crate::request::{Request, Target};
use crate::shadow_mode::ShadowMode;

/// The answer under shadow mode to a request whose answer is `deny`: an [`Allow`] that [would deny](Allow::would_deny)
/// where `mode` is on at `now` (seconds since 1970) and covers the request's destination, and else `deny` itself.
///
/// `given` is what the decision was made with. Without it nothing is proven, and the request goes on as one of nobody.
///
/// Never overlooked is what cannot be judged at all: a request or a path that cannot be read or could be read in two
/// ways, an API that no document describes, a configuration that contradicts itself, and our own faults.
pub fn overlook(
    policies: &Policies,
    request: &Request,
    target: &Target,
    mode: &ShadowMode,
    given: Option<&Given<'_>>,
    now: u64,
    deny: Deny,
) -> Decision {
    let onward = match says(deny.reason) {
        _ if !mode.is_on(now) => None,
        Says::Never => None,
        Says::Bad => onward(policies, request, target, mode, None, &deny),
        Says::Good => onward(policies, request, target, mode, given, &deny),
    };
    let Some(Onward { claims, by_api_key, visible }) = onward else { return Decision::Deny(deny) };
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
    };
    Decision::Allow(Allow::new(Seal(()), parts))
}

/// What of a request goes on.
#[derive(Default)]
struct Onward {
    claims: Option<Claims>,
    by_api_key: bool,
    visible: Visible,
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

/// What goes on of a request whose denial is overlooked; nothing where it is not.
fn onward(
    policies: &Policies,
    request: &Request,
    target: &Target,
    mode: &ShadowMode,
    given: Option<&Given<'_>>,
    deny: &Deny,
) -> Option<Onward> {
    check_request(request).ok()?;
    let request = judged(policies, request).ok()?;
    let way = Way::of(policies, &request, target)?;
    if !mode.covers(way.destination) {
        return None;
    }
    // What the gateway denies by a rule or a provider of its own (addresses, a firewall) it denies for all that is behind
    // it, and has done so before: one service in shadow mode does not lift it.
    let by_rule =
        matches!(deny.reason, Reason::DeniedByPolicy | Reason::DeniedByProvider | Reason::CustomProviderUnavailable);
    if by_rule && deny.hop == Hop::Gateway && !mode.covers(way.stops.first().copied()) {
        return None;
    }
    match given.map(|given| proven(policies, &request, &way, given)) {
        // Where nobody is proven, what looks like a credential was not looked at (a CORS preflight) or is none to us.
        Some(Ok(onward)) if onward.claims.is_some() => Some(onward),
        Some(Err(reason)) if says(reason) == Says::Never => None,
        _ => of_nobody(policies, &request, &way),
    }
}

/// The workloads on a request's way.
struct Way<'a> {
    stops: Vec<Workload<'a>>,
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
                Some(Self { stops: vec![workload], environment: environment.as_deref(), destination: Some(workload) })
            }
            Target::ApiGateway { api_id, stage, domain } => {
                let gateway = policies.find_api_gateway(api_id, stage, domain)?;
                let destination = hops::route(gateway, known_host(request), &request.path).map(hops::Route::workload);
                let stops = [Some(hops::gateway_workload(gateway)), destination].into_iter().flatten().collect();
                Some(Self { stops, environment: Some(gateway.environment.as_str()), destination })
            }
        }
    }
}

/// The request as it goes on behind authentication, which must succeed at every workload: as if the policies had
/// allowed.
fn proven(policies: &Policies, request: &Request, way: &Way<'_>, given: &Given<'_>) -> Result<Onward, Reason> {
    let key = KeyContext {
        lookup: given.api_key,
        pepper: given.pepper,
        environment: way.environment,
        revocations: given.revocations,
        certificate: request.client_certificate.as_ref(),
        verified: given.verified,
    };
    let mut onward = Onward { visible: Visible::of(request), ..Onward::default() };
    for stop in &way.stops {
        let (applicable, visible) = (policies.of_workload(*stop), std::mem::take(&mut onward.visible));
        let Authenticated { claims, by_key, visible, .. } =
            authenticate::authenticate(policies, applicable, visible, &request.method, given.keys, &key, given.now)
                .map_err(|refused| refused.reason)?;
        let (one, other) = ((onward.claims.as_ref(), onward.by_api_key), (claims.as_ref(), by_key));
        same_caller(policies, one, other).map_err(|deny| deny.reason)?;
        onward = Onward { claims: onward.claims.or(claims), by_api_key: onward.by_api_key || by_key, visible };
    }
    Ok(onward)
}

/// The request without any credential, and with nothing that says who calls.
fn of_nobody(policies: &Policies, request: &Request, way: &Way<'_>) -> Option<Onward> {
    let mut visible = Visible::of(request);
    let stripped =
        way.stops.iter().all(|stop| authenticate::strip(policies, policies.of_workload(*stop), &mut visible));
    stripped.then(|| Onward { visible, ..Onward::default() })
}
