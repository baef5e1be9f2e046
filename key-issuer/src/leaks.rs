//! `POST /v1/leaks`: whoever has found a credential where it should not be shows it, and it is revoked. Showing it is
//! proof enough: who wants to harm its owner would rather use it. The answer is the same whatever was shown, so nobody
//! learns here whether a credential is good.

use authz::api_key::{ApiKey, LiveValue};
use authz::jwt::UnverifiedJws;
use authz::{KeyState, Mode};
use serde_json::json;

use crate::admin::Body;
use crate::admin::body::wrong;
use crate::audit::{Change, Facts};
use crate::event::{Request, Response};
use crate::own_token::OwnToken;
use crate::refusal::Refusal;
use crate::token::refresh::{self, RefreshToken};
use crate::{Inner, api_keys, client_auth, own_token, revocations};

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;
const MAX_URL_BYTES: usize = 1024;
/// Reports of one source in each second, and ten times as many at once, in each execution environment: each may cost a
/// table read.
pub(crate) const PER_SECOND: u64 = 2;
/// How often a change is tried when others are faster.
const ATTEMPTS: usize = 5;

/// Takes a report.
pub(crate) async fn report(issuer: &Inner, request: &Request, facts: &mut Facts) -> Result<Response, Refusal> {
    let body = Body::read(request, &["credential", "url"])?;
    let credential = body.required("credential")?.trim();
    if credential.len() > MAX_CREDENTIAL_BYTES {
        return Err(wrong("credential", format!("expected at most {MAX_CREDENTIAL_BYTES} bytes")));
    }
    let url = body.text("url")?.unwrap_or_default();
    if url.len() > MAX_URL_BYTES {
        return Err(wrong("url", format!("expected at most {MAX_URL_BYTES} bytes")));
    }
    // What has not the form of a credential costs nothing, and says nothing about one.
    let Some(found) = Found::read(issuer, credential) else { return Ok(accepted()) };
    let source = client_auth::source(request.source_ip.as_deref());
    if let Err(seconds) = issuer.leaks.take(&source, issuer.deps.clock.unix()) {
        return Err(Refusal::new(429, "slow_down", "too many reports from this address; try again later")
            .with_header("Retry-After", seconds.to_string()));
    }
    if let Some((action, id)) = revoke(issuer, found).await? {
        facts.event = Some("leak_reported");
        let after = (!url.is_empty()).then(|| serde_json::json!({ "url": printable(url) }));
        facts.change = Some(Change { action, id, before: None, after });
    }
    Ok(accepted())
}

fn accepted() -> Response {
    Response::private_json(202, "{}".to_owned())
}

/// What has the form of a credential of ours. Nothing of it is proven.
enum Found<'a> {
    Key(ApiKey),
    RefreshToken(RefreshToken),
    /// A JWS, which an access token is.
    Jws(&'a str),
}

impl<'a> Found<'a> {
    fn read(issuer: &Inner, credential: &'a str) -> Option<Self> {
        if let Ok(key) = ApiKey::parse(credential) {
            return issuer.deps.tables.api_keys.is_configured().then_some(Self::Key(key));
        }
        if let Some(token) = RefreshToken::parse(credential) {
            return issuer.offers.refresh.then_some(Self::RefreshToken(token));
        }
        UnverifiedJws::parse(credential, Mode::Strict).is_ok().then_some(Self::Jws(credential))
    }
}

/// Revokes what is a live credential of ours, and says what it was.
async fn revoke(issuer: &Inner, found: Found<'_>) -> Result<Option<(&'static str, String)>, Refusal> {
    let (id, done) = match found {
        Found::Key(key) => {
            let pepper = issuer.pepper().await?;
            let found = api_keys::table(issuer).get(key.id()).await.map_err(crate::admin::unavailable)?;
            let now = issuer.deps.clock.unix();
            if found.and_then(|held| held.value.live_value(&key, &pepper, now)).is_none() {
                return Ok(None);
            }
            (key.id().to_owned(), revoke_value(issuer, &key).await)
        }
        Found::RefreshToken(token) => {
            if !refresh::is_current(issuer, &token).await? {
                return Ok(None);
            }
            let id = token.family().to_owned();
            let ended = refresh::end(issuer, &token).await;
            (id.clone(), ended.map(|()| Some(("refresh_tokens_revoked", id))))
        }
        Found::Jws(text) => {
            let Some(token) = own_token::read_to_revoke(issuer, text).await? else { return Ok(None) };
            (token.jti.clone(), revoke_token(issuer, &token).await)
        }
    };
    Ok(done.unwrap_or_else(|why| {
        // The answer must not tell that there is something to revoke. Whoever reads the log does it by the id.
        let detail = why.detail.unwrap_or(why.description);
        issuer.deps.log.write(&json!({"event": "alarm", "alarm": "leak_not_revoked",
            "ts": issuer.deps.clock.unix(), "id": id, "detail": detail}));
        None
    }))
}

async fn revoke_token(issuer: &Inner, token: &OwnToken) -> Result<Option<(&'static str, String)>, Refusal> {
    Ok(Some(if revocations::revoke_by_holder(issuer, token).await? {
        ("token_revoked", token.jti.clone())
    } else {
        ("client_tokens_revoked", token.client_id.clone())
    }))
}

/// Revokes the key whose current value this is. A value that a rotation has replaced is ended alone: the key was given a
/// new one so that its owner can go on, and whoever finds the old one must not stop that.
async fn revoke_value(issuer: &Inner, key: &ApiKey) -> Result<Option<(&'static str, String)>, Refusal> {
    let id = || key.id().to_owned();
    let pepper = issuer.pepper().await?;
    for _ in 0..ATTEMPTS {
        let found = api_keys::table(issuer).get(key.id()).await.map_err(crate::admin::unavailable)?;
        let Some(held) = found else { return Ok(None) };
        match held.value.live_value(key, &pepper, issuer.deps.clock.unix()) {
            None => return Ok(None),
            Some(LiveValue::Current) => {
                let was_revoked = held.value.state == KeyState::Revoked;
                // A key that is revoked already may not be on the list yet: whoever revoked it may have been interrupted.
                api_keys::revoke_key(issuer, held).await?;
                return Ok((!was_revoked).then(|| ("api_key_revoked", id())));
            }
            Some(LiveValue::Previous) if held.value.state == KeyState::Revoked => return Ok(None),
            Some(LiveValue::Previous) => {
                if api_keys::end_previous_value(issuer, &held).await? {
                    return Ok(Some(("api_key_value_ended", id())));
                }
            }
        }
    }
    Err(Refusal::unavailable("the record of an API key is changed by many at once"))
}

/// Where it was found, as one line of plain characters and without what may be a credential: the query, and what stands
/// before the host (RFC 3986 §3.2.1).
fn printable(url: &str) -> String {
    let place = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = place.split_once("://").map_or(("", place), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let place = format!("{scheme}{}{host}{path}", if scheme.is_empty() { "" } else { "://" });
    place.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_leaks_are_plain_text() {
        for (url, expected) in [
            ("https://git.example/a\nb?token=x#y", "https://git.example/a?b"),
            ("https://user:secret@git.example/a@b", "https://git.example/a@b"),
            ("https://a@user:secret@git.example", "https://git.example"),
            ("user:secret@git.example/a", "git.example/a"),
            ("git.example:a/b", "git.example:a/b"),
            ("", ""),
        ] {
            assert_eq!(printable(url), expected);
        }
    }
}
