//! `POST /oauth2/introspect` (RFC 7662): whether a token is active, by what is known now.

use serde_json::{Map, Value, json};

use crate::Inner;
use crate::audit::Facts;
use crate::client::ClientRecord;
use crate::client_auth::{self, Endpoint};
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::own_token::{self, to_value};
use crate::refusal::Refusal;
use crate::revocations;
use crate::token::refresh::{self, RefreshToken};
use crate::token::{exchange, form};

/// The claims that are told, by the names of RFC 7662 §2.2, RFC 8693 §4 and RFC 7800 §3.1.
const CLAIMS: [&str; 12] =
    ["scope", "client_id", "exp", "iat", "nbf", "sub", "aud", "iss", "jti", "act", "may_act", "cnf"];

/// Answers whether a token is active.
///
/// RFC 7662 §2.2: "If the introspection call is properly authorized but the token is not active, does not exist on this
/// server, or the protected resource is not allowed to introspect this particular token, then the authorization server
/// MUST return an introspection response with the 'active' field set to 'false'. Note that [...] the authorization server
/// SHOULD NOT include any additional information about an inactive token".
///
/// # Errors
/// Those of client authentication; 400 `invalid_request` without a token; 503 when it cannot be told.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    if !issuer.offers.introspection_and_revocation {
        return Err(not_offered());
    }
    let form = form(request)?;
    let caller = client_auth::authenticate(issuer, request, &form, door, Endpoint::Introspection).await?.record;
    facts.client_id = Some(caller.client_id.clone());
    // The hint is not looked at: the two kinds of token tell themselves apart.
    let token = form.get("token").ok_or_else(|| Refusal::invalid_request("token is missing"))?;
    let members = match RefreshToken::parse(token) {
        Some(token) => refresh_token(issuer, &token, &caller).await?,
        None => access_token(issuer, token, &caller).await?,
    };
    let body = members.map_or_else(|| json!({"active": false}), Value::Object);
    Ok(Response::private_json(200, body.to_string()))
}

/// An endpoint that this issuer does not have.
pub(crate) fn not_offered() -> Refusal {
    Refusal::new(404, "not_found", "this issuer keeps no list of revoked tokens, so it has no such endpoint")
}

/// A caller may ask about the tokens that are for its audiences.
async fn access_token(
    issuer: &Inner,
    token: &str,
    caller: &ClientRecord,
) -> Result<Option<Map<String, Value>>, Refusal> {
    let Some(token) = own_token::read(issuer, token).await? else { return Ok(None) };
    let claims = &token.claims;
    let for_caller = claims.audiences().iter().any(|audience| caller.audiences.iter().any(|own| own == audience));
    if !(for_caller || caller.introspects_all)
        || revocations::is_revoked(issuer, claims).await?
        || exchange::is_key_stopped(issuer, claims).await?
    {
        return Ok(None);
    }
    let is_dpop = claims.get("cnf").is_some_and(|cnf| cnf.get("jkt").is_some());
    let mut members = Map::from_iter([
        ("active".to_owned(), json!(true)),
        ("token_type".to_owned(), json!(if is_dpop { "DPoP" } else { "Bearer" })),
    ]);
    for name in CLAIMS {
        if let Some(claim) = claims.get(name) {
            members.insert(name.to_owned(), to_value(claim));
        }
    }
    Ok(Some(members))
}

/// A refresh token is for this server alone, so its own client may ask about it. Asking does not use it up.
async fn refresh_token(
    issuer: &Inner,
    token: &RefreshToken,
    caller: &ClientRecord,
) -> Result<Option<Map<String, Value>>, Refusal> {
    if !issuer.offers.refresh {
        return Ok(None);
    }
    let family = refresh::active(issuer, token).await?;
    let Some(family) = family.filter(|family| caller.introspects_all || family.client_id == caller.client_id) else {
        return Ok(None);
    };
    let members = json!({"active": true, "client_id": family.client_id, "sub": family.subject,
        "iss": issuer.config.issuer, "aud": family.audience, "scope": family.scope.join(" "),
        "iat": family.issued_at, "exp": family.expires_at, "act": family.act, "may_act": family.may_act});
    Ok(match members {
        Value::Object(members) => Some(members.into_iter().filter(|(_, v)| !v.is_null() && v != "").collect()),
        _ => None,
    })
}
