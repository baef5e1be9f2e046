//! `POST /oauth2/revoke` (RFC 7009): a client takes its own tokens back.

use authz::ApiKey;

use crate::Inner;
use crate::audit::Facts;
use crate::client_auth::{self, Endpoint};
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::introspection::not_offered;
use crate::own_token;
use crate::refusal::Refusal;
use crate::revocations;
use crate::token::form;
use crate::token::refresh::{self, RefreshToken};

/// Revokes a token of the client: an access token by its `jti`, a refresh token with its whole family. A client that takes
/// back more than its budget loses all its tokens.
///
/// RFC 7009 §2.2: "The authorization server responds with HTTP status code 200 if the token has been revoked successfully
/// or if the client submitted an invalid token."
///
/// # Errors
/// Those of client authentication; 400 `invalid_request` without a token; 400 `unauthorized_client` for a token of another
/// client (§2.1: "the request is refused and the client is informed of the error"); 400 `unsupported_token_type` for an API
/// key; 503 with `Retry-After` when the table does not answer (§2.2.1: "the client must assume the token still exists").
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
    let caller = client_auth::authenticate(issuer, request, &form, door, Endpoint::Revocation).await?.record;
    facts.client_id = Some(caller.client_id.clone());
    // RFC 7009 §2.1: the server "MAY ignore this parameter [the hint], particularly if it is able to detect the token type
    // automatically".
    let token = form.get("token").ok_or_else(|| Refusal::invalid_request("token is missing"))?;
    let anothers = || Refusal::new(400, "unauthorized_client", "the token was issued to another client");
    if let Some(token) = RefreshToken::parse(token) {
        if issuer.offers.refresh && !refresh::revoke(issuer, &token, &caller.client_id).await? {
            return Err(anothers());
        }
    } else if ApiKey::parse(token).is_ok() {
        let description = "API keys are revoked by whoever administers them";
        return Err(Refusal::new(400, "unsupported_token_type", description));
    } else if let Some(token) = own_token::read_to_revoke(issuer, token).await? {
        if token.client_id != caller.client_id {
            return Err(anothers());
        }
        let alone = revocations::revoke_by_holder(issuer, &token).await?;
        facts.jti = Some(token.jti);
        if !alone {
            facts.event = Some("client_tokens_revoked");
            return Ok(done());
        }
    } else {
        return Ok(done());
    }
    facts.event = Some("token_revoked");
    Ok(done())
}

/// RFC 7009 §2.2: "The content of the response body is ignored by the client as all necessary information is conveyed in
/// the response code."
fn done() -> Response {
    Response::private_json(200, "{}".to_owned())
}
