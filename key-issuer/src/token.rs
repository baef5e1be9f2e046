//! The token endpoint: `client_credentials` (RFC 6749 §4.4) with RFC 9068 access tokens.

use platform::random::Random;
use serde::Serialize;

use crate::audit::Facts;
use crate::client_auth::{self, Client, Endpoint};
use crate::confirmation::{Confirmation, confirmation};
use crate::event::{BodyError, Request, Response};
use crate::form::Form;
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::registry::is_scope_token;
use crate::{Inner, hex};

/// How long before its issue a token is valid, in seconds: clocks of gateways differ.
const BACKDATE_SECONDS: u64 = 5;

/// The claims of RFC 9068 §2.2, and `azp`, which an API key's claims have too. Times are JSON integers.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: Audience<'a>,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: &'a str,
    client_id: &'a str,
    azp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<&'a Confirmation>,
}

/// RFC 7519 §4.1.3: one audience may be a plain string, and every verifier reads that.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

/// Answers a token request.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let form = form(request)?;
    let client = client_auth::authenticate(issuer, request, &form, door, Endpoint::Token).await?;
    facts.client_id = Some(client.record.client_id.clone());
    check_grant(&form, &client)?;
    let scope = scope(&form, &client)?;
    let audience = audience(&form, &client)?;
    let confirmation = confirmation(issuer, request, &client).await?;

    let keys = issuer.signing_keys().await?;
    let key =
        keys.signer(None, issuer.deps.clock.unix()).ok_or_else(|| Refusal::internal("there is no signing key"))?;
    let jti = token_id(issuer.deps.random.as_ref())?;
    let now = issuer.deps.clock.unix();
    let ttl = issuer.config.token_ttl_seconds;
    let claims = Claims {
        iss: &issuer.config.issuer,
        // RFC 9068 §5: no client may choose an id that is another kind of subject, so ids have their own prefix.
        sub: format!("client:{}", client.record.client_id),
        aud: match audience.as_slice() {
            [one] => Audience::One(one),
            several => Audience::Several(several),
        },
        exp: now.saturating_add(ttl),
        iat: now,
        nbf: now.saturating_sub(BACKDATE_SECONDS),
        jti: &jti,
        client_id: &client.record.client_id,
        azp: &client.record.client_id,
        scope: scope.as_deref(),
        cnf: confirmation.as_ref(),
    };
    // RFC 9068 §2.1: "The 'typ' value used SHOULD be 'at+jwt'".
    let token = key.sign_jws("at+jwt", &claims).map_err(Refusal::internal)?;

    facts.event = Some("token_issued");
    facts.kid = Some(key.jwk.kid.clone());
    facts.expires_at = Some(claims.exp);
    facts.jti = Some(jti.clone());
    let body = serde_json::to_string(&TokenResponse {
        access_token: &token,
        token_type: Confirmation::token_type(confirmation.as_ref()),
        expires_in: ttl,
        scope: scope.as_deref(),
    })
    .map_err(|error| Refusal::internal(error.to_string()))?;
    facts.scope = scope;
    facts.audience = audience;
    Ok(Response::private_json(200, body))
}

/// The request's parameters.
fn form(request: &Request) -> Result<Form, Refusal> {
    // RFC 6749 §2.3.1: "The parameters [...] MUST NOT be included in the request URI." Ours has no query at all.
    if !request.query.is_empty() {
        return Err(Refusal::invalid_request("parameters belong in the body, not in the URI"));
    }
    let content_type = request.headers.only("content-type").ok().flatten();
    if !content_type.is_some_and(is_form) {
        return Err(Refusal::invalid_request("the Content-Type is not application/x-www-form-urlencoded in UTF-8"));
    }
    let body = request.body.as_ref().map_err(|error| refuse_body(*error))?;
    Form::parse(body).map_err(|error| Refusal::invalid_request(error.to_string()))
}

/// The refusal of a body that cannot be read.
pub(crate) fn refuse_body(error: BodyError) -> Refusal {
    match error {
        BodyError::TooLarge => Refusal::new(413, "invalid_request", "the body is larger than 64 KiB"),
        BodyError::NotBase64 => Refusal::invalid_request("the body is not base64, as the event says"),
    }
}

fn is_form(content_type: &str) -> bool {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let utf8 = match parameters.trim().split_once('=') {
        Some((name, value)) => {
            name.trim().eq_ignore_ascii_case("charset") && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        None => parameters.trim().is_empty(),
    };
    media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") && utf8
}

fn check_grant(form: &Form, client: &Client) -> Result<(), Refusal> {
    match form.get("grant_type") {
        None => Err(Refusal::invalid_request("grant_type is missing")),
        Some("client_credentials") if client.record.grants.iter().any(|g| g == "client_credentials") => Ok(()),
        Some("client_credentials") => {
            Err(Refusal::new(400, "unauthorized_client", "the client may not use client_credentials"))
        }
        Some(_) => Err(Refusal::new(400, "unsupported_grant_type", "only client_credentials is supported")),
    }
}

/// The granted scope. RFC 6749 §3.3: an omitted scope is either "a pre-defined default value" (here: all that the
/// client is configured for) or `invalid_scope`; one that is asked for is granted whole or not at all.
fn scope(form: &Form, client: &Client) -> Result<Option<String>, Refusal> {
    let refused = |description: &str| Refusal::new(400, "invalid_scope", description);
    let mut granted: Vec<&str> = Vec::new();
    match form.get("scope") {
        None => granted.extend(client.record.scopes.iter().map(String::as_str)),
        Some(requested) => {
            for token in requested.split(' ') {
                if !is_scope_token(token) {
                    return Err(refused("scope is not a list of scope tokens, one space apart"));
                }
                if !client.record.scopes.iter().any(|allowed| allowed == token) {
                    return Err(refused("the client may not have the requested scope"));
                }
                if !granted.contains(&token) {
                    granted.push(token);
                }
            }
        }
    }
    Ok((!granted.is_empty()).then(|| granted.join(" ")))
}

/// The token's audiences: those asked for by `resource` (RFC 8707) and `audience`, else the client's first. RFC 9068
/// §3: without a `resource` the authorization server "MUST use a default resource indicator in the 'aud' claim".
fn audience(form: &Form, client: &Client) -> Result<Vec<String>, Refusal> {
    let refused = |description: &str| Refusal::new(400, "invalid_target", description);
    if form.all("resource").any(|resource| !is_absolute_uri(resource)) {
        return Err(refused("resource is not an absolute URI without a fragment"));
    }
    let mut granted: Vec<String> = Vec::new();
    for target in form.all("resource").chain(form.all("audience")) {
        if !client.record.audiences.iter().any(|allowed| allowed == target) {
            return Err(refused("the client may not ask for a token for this target"));
        }
        if !granted.iter().any(|g| g == target) {
            granted.push(target.to_owned());
        }
    }
    if granted.is_empty() {
        let default = client.record.audiences.first();
        granted.push(default.ok_or_else(|| refused("the client has no audience"))?.clone());
    }
    Ok(granted)
}

/// RFC 8707 §2: "Its value MUST be an absolute URI [...]. The URI MUST NOT include a fragment component." What is
/// allowed is then compared byte for byte, so the scheme is all that has to be looked at.
fn is_absolute_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !text.contains('#')
}

fn token_id(random: &dyn Random) -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_forms() {
        for (content_type, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
            ("application/x-www-form-urlencoded;charset=\"utf-8\"", true),
            ("application/x-www-form-urlencoded;", true),
            ("application/x-www-form-urlencoded; charset=latin1", false),
            ("application/x-www-form-urlencoded, text/plain", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_form(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn absolute_uris() {
        for (text, expected) in [
            ("https://api.bookinfo.example", true),
            ("urn:bookinfo", true),
            ("bookinfo", false),
            ("https://a#b", false),
            ("//a", false),
            (":a", false),
            ("1a:b", false),
        ] {
            assert_eq!(is_absolute_uri(text), expected, "{text}");
        }
    }
}
