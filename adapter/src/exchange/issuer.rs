//! The issuer's token endpoint (RFC 8693): an API key as the subject token is its own proof, nobody else authenticates.

use std::time::Duration;

use authz::claims::TOKEN_LIMITS;
use authz::jwt::{UnverifiedJws, read_time};
use authz::{Json, Mode};
use identity::Secret;
use platform::clock::Clock;
use platform::https::{Client, ClientOptions, Exchange, FetchError, Header, Reach, Root, checked_url};
use serde::Deserialize;

use super::cache::{LAST, refresh_at};
use super::{ExchangeConfig, Failure, Outcome, Token};

/// How long one exchange may take. Longer than a request waits: a token that is late serves the next one.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer, in bytes: a token has 8 KiB at most.
const MAX_ANSWER: usize = 16 * 1024;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const SUBJECT_TYPE: &str = "urn:causeway:token-type:api-key";

/// A client of the issuer.
pub(super) struct Issuer {
    client: Client,
    endpoint: String,
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: u64,
}

/// RFC 6749 §5.2.
#[derive(Default, Deserialize)]
struct Error {
    error: Option<String>,
}

impl Issuer {
    pub(super) fn new(config: &ExchangeConfig, reach: Reach, roots: Vec<Root>) -> Result<Self, FetchError> {
        // Kept alive: a pod is never frozen.
        let options = ClientOptions { reach, roots, keep_alive: true, ..ClientOptions::new(TIMEOUT, MAX_ANSWER) };
        Ok(Self { client: Client::with(options)?, endpoint: format!("{}/oauth2/token", config.url) })
    }

    /// A token for an API key of `principal`.
    pub(super) async fn exchange(
        &self,
        key: &Secret<String>,
        audience: Option<&str>,
        principal: &str,
        clock: &dyn Clock,
    ) -> Outcome {
        let unavailable = |why: &dyn std::fmt::Display| Failure::Unavailable(format!("the exchange: {why}"));
        let url = checked_url(&self.endpoint).map_err(|error| unavailable(&error))?;
        let mut form = url.clone();
        form.query_pairs_mut()
            .append_pair("grant_type", GRANT)
            .append_pair("subject_token_type", SUBJECT_TYPE)
            .append_pair("subject_token", key.expose())
            .extend_pairs(audience.map(|audience| ("audience", audience)));
        let body = form.query().unwrap_or_default().as_bytes().to_vec();
        let headers: [Header; 2] = [
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned().into()),
            ("accept".to_owned(), "application/json".to_owned().into()),
        ];
        let asked_at = clock.unix();
        let Exchange { status, body } =
            self.client.exchange("POST", &url, &headers, body).await.map_err(|error| unavailable(&error))?;
        let body = Secret::new(body);
        match status {
            200 => token(body.expose(), principal, asked_at),
            408 | 429 | 500.. => Err(Failure::Unavailable(format!("the issuer answered with status {status}"))),
            _ => {
                let Error { error } = serde_json::from_slice(body.expose()).unwrap_or_default();
                // A word of a closed set (RFC 6749 §5.2), and no text of whoever answers.
                let word = error.filter(|w| w.len() <= 64 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                let word = word.unwrap_or_else(|| "no error code".to_owned());
                Err(Failure::Refused(format!("the issuer refuses the API key with status {status}: {word}")))
            }
        }
    }
}

/// The token of an answer. The mesh verifies it; that it is of the caller who was admitted can be seen here already,
/// and a token of anybody else must not get into a request.
fn token(body: &[u8], principal: &str, asked_at: u64) -> Outcome {
    let wrong = |why: &str| Err(Failure::Refused(format!("the issuer's answer: {why}")));
    // Not what serde says: it quotes the answer.
    let Ok(Answer { access_token, token_type, expires_in }) = serde_json::from_slice(body) else {
        return wrong("it is no token response");
    };
    let access_token = Secret::new(access_token);
    // RFC 6749 §7.1: a client "MUST NOT use an access token if it does not understand the token type". `DPoP` needs a
    // key.
    if !token_type.eq_ignore_ascii_case("Bearer") {
        return wrong("the token is no bearer token");
    }
    let Ok(jws) = UnverifiedJws::parse(access_token.expose(), Mode::Strict) else {
        return wrong("the token is no JWT, or too long");
    };
    let Ok(claims) = Json::parse(jws.unverified_payload(), TOKEN_LIMITS) else {
        return wrong("the token's claims cannot be read");
    };
    let text = |name: &str| claims.get(name).and_then(Json::as_str).unwrap_or_default();
    if format!("{}/{}", text("iss"), text("sub")) != principal {
        return wrong(
            "the token is for another caller than the API key: is CAUSEWAY_ISSUER_URL the issuer of the policies?",
        );
    }
    // Bound to a key or a certificate it is worth nothing in the request of somebody else.
    if claims.get("cnf").is_some() {
        return wrong("the token is bound to a key");
    }
    let said = asked_at.saturating_add(expires_in);
    let expires_at = match read_time(&claims, "exp") {
        Ok(Some(exp)) => exp.min(said),
        _ => return wrong("the token does not say when it ends"),
    };
    if expires_at <= asked_at.saturating_add(LAST) {
        return wrong("the token has ended already: is the clock right?");
    }
    let bearer = Secret::new(format!("Bearer {}", access_token.expose()));
    Ok(std::sync::Arc::new(Token { bearer, expires_at, refresh_at: refresh_at(asked_at, expires_at) }))
}
