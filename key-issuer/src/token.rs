//! The token endpoint (RFC 6749 §3.2): which grant is asked for, and what the answers of all grants have in common.

use serde::Serialize;

use crate::Inner;
use crate::audit::Facts;
use crate::client_auth::{self, Client, Endpoint};
use crate::event::{BodyError, Request, Response};
use crate::form::Form;
use crate::iam::Door;
use crate::offers::Offers;
use crate::refusal::Refusal;

mod audience;
mod claims;
mod client_credentials;
mod delegation;
pub(crate) mod exchange;
pub(crate) mod refresh;
mod scope;

pub(crate) use claims::{ANCESTORS, API_KEY, MAX_ANCESTORS, REFRESH_FAMILY, client_of};

/// A way to get a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantType {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 8693.
    TokenExchange,
    /// RFC 6749 §6.
    RefreshToken,
}

impl GrantType {
    /// All that there are.
    pub(crate) const ALL: [Self; 3] = [Self::ClientCredentials, Self::TokenExchange, Self::RefreshToken];

    /// Its name in requests and in the records of clients.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::RefreshToken => "refresh_token",
        }
    }

    /// Its name in the log.
    fn short_name(self) -> &'static str {
        match self {
            Self::TokenExchange => "token_exchange",
            other => other.name(),
        }
    }

    /// Whether this issuer has it.
    pub(crate) fn is_offered(self, offers: Offers) -> bool {
        match self {
            Self::ClientCredentials => true,
            Self::TokenExchange => offers.exchange,
            Self::RefreshToken => offers.refresh,
        }
    }

    /// The grant that the request names.
    fn of(form: &Form, offers: Offers) -> Result<Self, Refusal> {
        let name = form.get("grant_type").ok_or_else(|| Refusal::invalid_request("grant_type is missing"))?;
        let found = Self::ALL.into_iter().find(|grant| grant.name() == name && grant.is_offered(offers));
        found.ok_or_else(|| {
            let offered: Vec<&str> =
                Self::ALL.into_iter().filter(|grant| grant.is_offered(offers)).map(Self::name).collect();
            Refusal::new(400, "unsupported_grant_type", format!("expected {}", offered.join(" or ")))
        })
    }

    /// Whether the client's record lists it.
    fn is_allowed(self, client: &Client) -> bool {
        client.record.grants.iter().any(|grant| grant == self.name())
    }
}

/// Answers a token request.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let form = form(request)?;
    if exchange::is_api_key_alone(issuer, request, &form, door)? {
        facts.grant = Some(GrantType::TokenExchange.short_name());
        return exchange::answer_api_key_alone(issuer, request, &form, door, facts).await;
    }
    let client = client_auth::authenticate(issuer, request, &form, door, Endpoint::Token).await?;
    facts.client_id = Some(client.record.client_id.clone());
    let grant = GrantType::of(&form, issuer.offers)?;
    facts.grant = Some(grant.short_name());
    if !grant.is_allowed(&client) {
        return Err(unauthorized_client(grant));
    }
    match grant {
        GrantType::ClientCredentials => client_credentials::answer(issuer, request, &form, &client, facts).await,
        GrantType::TokenExchange => exchange::answer(issuer, request, &form, &client, facts).await,
        GrantType::RefreshToken => refresh::answer(issuer, request, &form, &client, facts).await,
    }
}

/// RFC 6749 §5.2: "The authenticated client is not authorized to use this authorization grant type."
fn unauthorized_client(grant: GrantType) -> Refusal {
    Refusal::new(400, "unauthorized_client", format!("the client may not use {}", grant.name()))
}

/// A successful answer (RFC 6749 §5.1, RFC 8693 §2.2.1). No `Debug`: it holds credentials.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    /// Always there, unless the token has none: it is "OPTIONAL, if identical to the scope requested by the client;
    /// otherwise, REQUIRED".
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl<'a> TokenResponse<'a> {
    /// The answer with an access token, which is noted for the log.
    fn of(token: &'a claims::AccessToken, grant: &claims::Grant<'_>, facts: &mut Facts) -> Self {
        facts.event = Some("token_issued");
        facts.kid = Some(token.kid.clone());
        facts.jti = Some(token.jti.clone());
        facts.expires_at = Some(token.expires_at);
        facts.scope = scope::text(&grant.scope);
        facts.audience.clone_from(&grant.audience);
        Self {
            access_token: &token.text,
            issued_token_type: None,
            token_type: token.token_type,
            expires_in: token.expires_in,
            refresh_token: None,
            scope: scope::text(&grant.scope),
        }
    }

    fn send(&self) -> Result<Response, Refusal> {
        let body = serde_json::to_string(self).map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Response::private_json(200, body))
    }
}

/// The request's parameters.
pub(crate) fn form(request: &Request) -> Result<Form, Refusal> {
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
}
