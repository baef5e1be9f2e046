//! `POST /v1/jwt-svid`: a JWT-SVID for a workload that has proven its IAM role.
//!
//! It is no access token, and neither can be taken for the other though one key may sign both: an access token is of
//! the type `at+jwt`, which JWT-SVID §2.3 excludes, and a JWT-SVID has no `iss`, without which no verifier of access
//! tokens finds a key.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::attestation::{self, Binding, Proof};
use crate::audit::Facts;
use crate::client_auth;
use crate::client_cache::Age;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::registry::Registration;
use crate::svid::json_body;
use crate::{Algorithm, Inner};

/// How long a JWT-SVID lives, in seconds. It is a bearer token, and another one is a request away.
pub const JWT_SVID_LIFE_SECONDS: u64 = 300;
/// The most audiences of one JWT-SVID.
pub const MAX_AUDIENCES: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    audience: Vec<String>,
    #[serde(default)]
    proof: Option<Proof>,
}

/// JWT-SVID §3: `sub`, `aud` and `exp` are required.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a [String],
    iat: u64,
    exp: u64,
}

/// Answers a request for a JWT-SVID.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let body: Body = json_body(request, "audience and, at the public door, proof")?;
    let binding = Binding::audiences(&body.audience);
    let registration = attestation::caller(issuer, request, door, body.proof.as_ref(), &binding, facts).await?;
    // What was taken away from the client of the role is taken away from the workload: it is the same one.
    let record = client_auth::record(issuer, &registration.client_id, Age::Any).await?;
    let of_record = record.map(|record| record.audiences).unwrap_or_default();
    check_audiences(&body.audience, registration, &of_record)?;
    let keys = issuer.signing_keys().await?;
    let now = issuer.deps.clock.unix();
    // JWT-SVID §2.1 has no EdDSA.
    let key = keys
        .signer(Some(Algorithm::Es256), now)
        .or_else(|| keys.signer(Some(Algorithm::Rs256), now))
        .ok_or_else(|| Refusal::unavailable("no signing key of ES256 or RS256 is active, which JWT-SVIDs need"))?;
    let exp = now.saturating_add(JWT_SVID_LIFE_SECONDS);
    let sub = registration.spiffe_id.as_str();
    let svid = key.sign_jws("JWT", &Claims { sub, aud: &body.audience, iat: now, exp }).map_err(Refusal::internal)?;

    facts.event = Some("jwt_svid_issued");
    facts.audience.clone_from(&body.audience);
    facts.kid = Some(key.jwk.kid.clone());
    facts.expires_at = Some(exp);
    let body = json!({"svid": svid, "spiffe_id": sub, "expires_at": exp});
    Ok(Response::private_json(200, body.to_string()))
}

/// JWT-SVID §3.2: "The aud claim MUST be present, containing one or more values".
fn check_audiences(audiences: &[String], registration: &Registration, of_record: &[String]) -> Result<(), Refusal> {
    if !(1..=MAX_AUDIENCES).contains(&audiences.len()) {
        return Err(Refusal::invalid_request(format!("audience: expected 1 to {MAX_AUDIENCES} audiences")));
    }
    let allowed = |audience: &String| {
        registration.audiences.contains(audience) && (of_record.is_empty() || of_record.contains(audience))
    };
    if !audiences.iter().all(allowed) {
        return Err(Refusal::new(400, "invalid_target", "audience: one of them is not allowed for this role"));
    }
    let again = |(place, audience): (usize, &String)| audiences.iter().skip(place + 1).any(|other| other == audience);
    if audiences.iter().enumerate().any(again) {
        return Err(Refusal::invalid_request("audience: one of them is listed twice"));
    }
    Ok(())
}
