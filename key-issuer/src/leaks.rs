//! `POST /v1/leaks`: whoever has found a credential where it should not be shows it, and it is revoked. Showing it is
//! proof enough: who wants to harm its owner would rather use it. The answer is the same whatever was shown, so nobody
//! learns here whether a credential is good.

use std::sync::{Mutex, PoisonError};

use authz::KeyState;
use authz::api_key::{ApiKey, LiveValue};
use serde_json::json;

use crate::admin::Body;
use crate::admin::body::wrong;
use crate::audit::{Change, Facts};
use crate::event::{Request, Response};
use crate::own_token::OwnToken;
use crate::refusal::Refusal;
use crate::{Inner, api_keys, own_token, revocations};

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;
const MAX_URL_BYTES: usize = 1024;
/// Reports in a burst and in each second after it, in each execution environment: each may cost a table read.
const BURST: u64 = 20;
const PER_SECOND: u64 = 5;
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
    if !issuer.leaks.take(issuer.deps.clock.unix()) {
        return Err(
            Refusal::new(429, "slow_down", "too many reports; try again in a second").with_header("Retry-After", "1")
        );
    }
    if let Some((action, id)) = revoke(issuer, credential).await? {
        facts.event = Some("leak_reported");
        let after = (!url.is_empty()).then(|| serde_json::json!({ "url": printable(url) }));
        facts.change = Some(Change { action, id, before: None, after });
    }
    Ok(Response::private_json(202, "{}".to_owned()))
}

/// Revokes what is a live credential of ours, and says what it was.
async fn revoke(issuer: &Inner, credential: &str) -> Result<Option<(&'static str, String)>, Refusal> {
    let (id, done) = if let Ok(key) = ApiKey::parse(credential) {
        if !issuer.deps.tables.api_keys.is_configured() {
            return Ok(None);
        }
        let pepper = issuer.pepper().await?;
        let found = api_keys::table(issuer).get(key.id()).await.map_err(crate::admin::unavailable)?;
        let now = issuer.deps.clock.unix();
        if found.and_then(|held| held.value.live_value(&key, &pepper, now)).is_none() {
            return Ok(None);
        }
        (key.id().to_owned(), revoke_value(issuer, &key).await)
    } else {
        let Some(token) = own_token::read(issuer, credential).await? else { return Ok(None) };
        (token.jti.clone(), revoke_token(issuer, &token).await)
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

/// Where it was found, as one line of plain characters and without what may be a credential in the query.
fn printable(url: &str) -> String {
    let place = url.split(['?', '#']).next().unwrap_or_default();
    place.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

/// A token bucket on the wall clock.
#[derive(Default)]
pub(crate) struct Bucket(Mutex<Option<(u64, u64)>>);

impl Bucket {
    /// Takes one out; `false` when it is empty.
    fn take(&self, now: u64) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = state.unwrap_or((BURST, now));
        let left = left.saturating_add(now.saturating_sub(at).saturating_mul(PER_SECOND)).min(BURST);
        *state = Some((left.saturating_sub(1), now));
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_empties_and_fills() {
        let bucket = Bucket::default();
        let taken = |now| (0..100).filter(|_| bucket.take(now)).count() as u64;
        assert_eq!(taken(10), BURST);
        assert_eq!(taken(11), PER_SECOND);
        // A clock that is set back gives nothing.
        assert_eq!(taken(1), 0);
        assert_eq!(taken(1_000), BURST);
    }

    #[test]
    fn places_of_leaks_are_plain_text() {
        assert_eq!(printable("https://git.example/a\nb?token=x#y"), "https://git.example/a?b");
    }
}
