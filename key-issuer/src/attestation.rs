//! Who asks for an SVID: the IAM door's own caller, or, at the public door, whoever proves its role by a request to
//! `sts:GetCallerIdentity` that it has signed and the issuer sends.
//!
//! The identity is read from nothing but the bytes that STS returned. What the caller sends chooses neither where they
//! come from nor what is asked for: endpoint, method and body are the issuer's own, and of the caller's headers only
//! those go out that its signature covers and that a closed list names.

mod caller_identity;
mod nonce;
mod proof;
mod response;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::audit::Facts;
use crate::client_auth;
use crate::event::{Request, Response};
use crate::iam::{Door, RoleArn};
use crate::refusal::Refusal;
use crate::registry::Registration;
use crate::{Inner, hex, replay};

pub use caller_identity::{CallerIdentity, CallerIdentityError, Sts};
pub(crate) use proof::{Binding, Proof};

/// Answers a request for a nonce.
pub(crate) async fn nonce(issuer: &Inner, _request: &Request) -> Result<Response, Refusal> {
    if issuer.config.sts_endpoints.is_empty() {
        return Err(not_offered());
    }
    let now = issuer.deps.clock.unix();
    let keys = issuer.signing_keys().await?;
    let (nonce, expires_at) = nonce::new(&keys, issuer.deps.random.as_ref(), now)?;
    let body = json!({
        "nonce": nonce,
        "expires_at": expires_at,
        "server_id": issuer.config.issuer,
        "sts_endpoints": issuer.config.sts_endpoints,
    });
    Ok(Response::private_json(200, body.to_string()))
}

/// The registration of the caller, whichever way it has proven its role.
///
/// # Errors
/// 403 when it has proven none, or one that is not registered; 503 when that cannot be told.
pub(crate) async fn caller<'a>(
    issuer: &'a Inner,
    request: &Request,
    door: &Door,
    proof: Option<&Proof>,
    binding: &Binding,
    facts: &mut Facts,
) -> Result<&'a Registration, Refusal> {
    let (role, unique_id) = match (door, proof) {
        (Door::Iam(role), None) => (role.clone(), None),
        (Door::Iam(_), Some(_)) => {
            return Err(Refusal::invalid_request("the IAM door has proven the caller; a second proof is not taken"));
        }
        (Door::Public, Some(proof)) => {
            let (role, unique_id) = prove(issuer, request, proof, binding).await?;
            facts.role_arn = Some(role.to_string());
            facts.proof = Some("get_caller_identity");
            (role, Some(unique_id))
        }
        (Door::Public | Door::Mtls(_), _) => {
            return Err(Refusal::new(403, "access_denied", "the caller's IAM role is not proven"));
        }
    };
    let registration = issuer
        .config
        .registry
        .get(&role)
        .ok_or_else(|| Refusal::new(403, "access_denied", "the IAM role is not in the registry"))?;
    if let Some(unique_id) = unique_id {
        registration.check_unique_id(Some(&unique_id))?;
    }
    if let Err(seconds) = issuer.svid_rate.take(&role.to_string(), issuer.deps.clock.unix()) {
        let refusal = Refusal::new(429, "temporarily_unavailable", "this role asks for SVIDs too often");
        return Err(refusal.with_header("Retry-After", seconds.to_string()));
    }
    client_auth::iam_role::check_usable(issuer, &registration.client_id).await?;
    facts.spiffe_id = Some(registration.spiffe_id.to_string());
    Ok(registration)
}

fn not_offered() -> Refusal {
    Refusal::new(403, "access_denied", "this issuer takes no signed requests as proofs; use its IAM door")
}

fn invalid(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(403, "invalid_proof", format!("the proof is not accepted: {why}"))
}

/// The role that STS says has signed the proof, and its unique id.
async fn prove(
    issuer: &Inner,
    request: &Request,
    proof: &Proof,
    binding: &Binding,
) -> Result<(RoleArn, String), Refusal> {
    let endpoints = &issuer.config.sts_endpoints;
    let sts = match &issuer.deps.caller_identity {
        Some(sts) if !endpoints.is_empty() => sts,
        _ => return Err(not_offered()),
    };
    let now = issuer.deps.clock.unix();
    let checked = proof.check(endpoints, &issuer.config.issuer, binding, now).map_err(invalid)?;
    let keys = issuer.signing_keys().await?;
    let expires_at = nonce::check(&keys, checked.nonce, now).map_err(invalid)?;
    // What follows costs a table and STS something, and anybody may cause it.
    let source = client_auth::source(request.source_ip.as_deref());
    // Hashed: it is the caller's text. Its own bound comes first, so that what is refused takes nothing from the
    // others.
    let key = format!("{source} {}", hex(digest(&SHA256, checked.access_key.as_bytes()).as_ref()));
    let within = issuer.proof_rate.take(&key, now).and_then(|()| issuer.proof_rate_of_source.take(&source, now));
    if let Err(seconds) = within {
        let refusal = Refusal::new(429, "temporarily_unavailable", "too many proofs from this address");
        return Err(refusal.with_header("Retry-After", seconds.to_string()));
    }
    // A nonce is used up by whatever is shown with it, be it good or bad: STS is asked once for each.
    let fresh = replay::burn(issuer, "nonce", checked.nonce, expires_at).await?
        && replay::burn(issuer, "sigv4", checked.signature, checked.valid_until).await?;
    if !fresh {
        return Err(invalid("it was used before"));
    }
    let bytes = sts.ask(checked.endpoint, &checked.headers, proof::BODY).await.map_err(|error| match error {
        CallerIdentityError::Refused(status) => {
            invalid("STS does not accept the signature").with_detail(format!("STS answered with status {status}"))
        }
        CallerIdentityError::Unavailable(why) => Refusal::unavailable(why),
    })?;
    let identity = response::parse(&bytes)
        .map_err(|why| Refusal::unavailable(format!("the answer of STS is none to GetCallerIdentity: {why}")))?;
    identity.role().map_err(|why| Refusal::new(403, "access_denied", why))
}
