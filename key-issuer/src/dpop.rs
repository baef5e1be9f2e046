//! Proof of possession at the token endpoint (RFC 9449).
//!
//! There are no nonces (§8). A proof is accepted for five minutes and once, and the table that remembers used ones is
//! the same for all environments, so a nonce would add one thing: a proof could not be made in advance by somebody who
//! may use the client's key for a while. It would cost every client a second request. A client that sends a `nonce` all
//! the same is not refused.

use authz::jwt::MAX_BYTES;

use crate::event::{DuplicateHeader, Request};
use crate::refusal::Refusal;
use crate::routes::TOKEN_PATH;
use crate::{Inner, client_auth, replay};

mod proof;
mod uri;

/// The algorithms of proofs (RFC 9449 §5.1 `dpop_signing_alg_values_supported`).
pub(crate) const ALGORITHMS: [&str; 10] = client_auth::ASYMMETRIC;

/// The RFC 7638 thumbprint of the key that signed a valid proof in the header `DPoP`; `None` without the header. It
/// uses the proof up.
///
/// # Errors
/// 400 `invalid_dpop_proof`; 503 when it cannot be told whether the proof was used before.
pub(crate) async fn thumbprint(issuer: &Inner, request: &Request) -> Result<Option<String>, Refusal> {
    // RFC 9449 §4.3, check 1: "There is not more than one DPoP HTTP request header field." Payload format 2.0 joins
    // several with commas, of which a compact JWS has none.
    let several = || refused("there is more than one DPoP header");
    let Some(text) = request.headers.only("dpop").map_err(|DuplicateHeader| several())? else { return Ok(None) };
    if text.contains(',') {
        return Err(several());
    }
    if text.len() > MAX_BYTES {
        return Err(refused(format!("it has {} bytes, expected at most {MAX_BYTES}", text.len())));
    }
    let now = issuer.deps.clock.unix();
    let proof = proof::check(text, &request.method, &token_endpoints(issuer, request), now).map_err(refused)?;
    // The key belongs to the id (RFC 9449 §11.1 wants it unique for "the context of the target URI"): nobody can use up
    // the ids of others.
    let id = format!("{}\n{}", proof.jkt, proof.jti);
    if !replay::burn(issuer, "dpop", &id, proof.until).await? {
        return Err(refused("it was used before"));
    }
    Ok(Some(proof.jkt))
}

/// RFC 9449 §5: "If the DPoP proof is invalid, the authorization server issues an error response per Section 5.2 of RFC
/// 6749 with invalid_dpop_proof as the value of the error parameter."
pub(crate) fn refused(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(400, "invalid_dpop_proof", format!("the DPoP proof is not accepted: {why}"))
}

/// Where this token endpoint is, for callers: at the issuer, at the mTLS alias, and, for its callers alone, at the IAM
/// door. What an event says of its host counts only there, where AWS sets both the id and the host that begins with it.
fn token_endpoints(issuer: &Inner, request: &Request) -> Vec<String> {
    let config = &issuer.config;
    let mut endpoints: Vec<String> =
        std::iter::once(&config.issuer).chain(&config.mtls_issuer).map(|host| format!("{host}{TOKEN_PATH}")).collect();
    if let Some(host) = &request.domain_name
        && config.iam_door_ids.contains(&request.api_id)
        && host.strip_prefix(&request.api_id).is_some_and(|rest| rest.starts_with('.'))
    {
        endpoints.push(format!("https://{host}{TOKEN_PATH}"));
    }
    endpoints
}
