//! Access tokens of this issuer, read back.

use authz::jwt::{Expectation, LEEWAY_SECONDS, UnverifiedJws, UnverifiedToken};
use authz::{Claims, Json, Mode};
use serde_json::Value;

use crate::Inner;
use crate::refusal::Refusal;

/// A token of this issuer, proven by its signature. Whether it is for the one who shows it is the caller's to check.
#[derive(Clone, Debug)]
pub(crate) struct OwnToken {
    pub(crate) claims: Claims,
    pub(crate) jti: String,
    pub(crate) client_id: String,
    pub(crate) expires_at: u64,
}

/// Verifies an access token of this issuer: type `at+jwt`, signature, `iss`, `exp`, `nbf`. Not that it is unrevoked.
/// `None` for everything that is no live token of ours.
///
/// There is no leeway: the clock that wrote the times is ours, and `nbf` is a little before the issue.
///
/// # Errors
/// When the keys cannot be had.
pub(crate) async fn read(issuer: &Inner, token: &str) -> Result<Option<OwnToken>, Refusal> {
    read_within(issuer, token, 0).await
}

/// The same of a token that verifiers may accept still, for whoever takes it back: they let clocks be behind.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_to_revoke(issuer: &Inner, token: &str) -> Result<Option<OwnToken>, Refusal> {
    read_within(issuer, token, LEEWAY_SECONDS + 1).await
}

async fn read_within(issuer: &Inner, token: &str, leeway: u64) -> Result<Option<OwnToken>, Refusal> {
    // The type comes first: what else we sign with these keys (JWT-SVIDs, lists) is no access token (RFC 8725 §3.11).
    let Ok(jws) = UnverifiedJws::parse(token, Mode::Strict) else { return Ok(None) };
    if !jws.unverified_type().is_some_and(is_access_token_type) {
        return Ok(None);
    }
    let Ok(token) = UnverifiedToken::parse(token, Mode::Strict) else { return Ok(None) };
    let now = issuer.deps.clock.unix();
    let keys = issuer.signing_keys().await?.verifying(now).map_err(Refusal::internal)?;
    let expected = Expectation { issuer: &issuer.config.issuer, audiences: &[], keys: Some(&keys) };
    let Ok(claims) = token.verify(&expected, now) else { return Ok(None) };
    Ok(live(claims, now, leeway))
}

/// RFC 9068 §4: 'The "typ" header value [...] MUST be "at+jwt" or "application/at+jwt"'. RFC 7515 §4.1.9: media types
/// have no case.
fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

/// The token, if it has all that each of ours has and is valid at `now`, or was so `leeway` seconds ago at most.
fn live(claims: Claims, now: u64, leeway: u64) -> Option<OwnToken> {
    let expires_at = unsigned(&claims, "exp").filter(|exp| now < exp.saturating_add(leeway))?;
    unsigned(&claims, "nbf").filter(|nbf| *nbf <= now.saturating_add(leeway))?;
    unsigned(&claims, "iat")?;
    claims.subject().filter(|sub| !sub.is_empty())?;
    let jti = claims.text("jti").filter(|jti| !jti.is_empty())?.to_owned();
    let client_id = claims.text("client_id").filter(|id| !id.is_empty())?.to_owned();
    Some(OwnToken { claims, jti, client_id, expires_at })
}

fn unsigned(claims: &Claims, name: &str) -> Option<u64> {
    match claims.get(name) {
        Some(Json::Unsigned(number)) => Some(*number),
        _ => None,
    }
}

/// A claim as a value that can be written out again.
pub(crate) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Unsigned(number) => Value::from(*number),
        Json::Float(number) => Value::from(*number),
        Json::String(text) => Value::String(text.clone()),
        Json::List(list) => Value::Array(list.iter().map(to_value).collect()),
        Json::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use authz::claims::TOKEN_LIMITS;
    use serde_json::json;

    use super::*;

    #[test]
    fn types_of_access_tokens() {
        for (typ, expected) in [
            ("at+jwt", true),
            ("AT+JWT", true),
            ("application/at+jwt", true),
            ("JWT", false),
            ("dpop+jwt", false),
            ("", false),
            ("at+jwt ", false),
        ] {
            assert_eq!(is_access_token_type(typ), expected, "{typ}");
        }
    }

    #[test]
    fn claims_come_back_as_they_were() {
        let value = json!({"a": [1, "x", null, true, {"b": 1.5}], "c": u64::MAX});
        let read = Json::parse(value.to_string().as_bytes(), TOKEN_LIMITS).unwrap();
        assert_eq!(to_value(&read), value);
    }
}
