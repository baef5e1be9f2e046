//! Tokens whose families of refresh tokens have ended with them. Verifiers never see a refresh token, so these marks
//! are kept where the families are, and not in the table that the list is made from: they live for as long as a family
//! can, and every list would read all of them.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::{ATTEMPTS, LINGER_SECONDS, unavailable};
use crate::refusal::Refusal;
use crate::{Inner, hex};

/// Ends the families that come from the token with this `jti`. None of them ends later than one that would begin now,
/// and none begins with a token that is revoked.
///
/// # Errors
/// 503 when the table does not answer.
pub(super) async fn mark(issuer: &Inner, jti: &str) -> Result<(), Refusal> {
    let id = record_id(jti);
    let until = issuer.deps.clock.unix() + issuer.config.refresh_ttl_seconds + LINGER_SECONDS;
    for _ in 0..ATTEMPTS {
        let written = match issuer.used.get(&id).await.map_err(unavailable)? {
            None => issuer.used.create(&id, &json!({}), Some(until)).await,
            // Whoever marked it before may have been interrupted, and a family may have begun since.
            Some(held) => issuer.used.replace(&id, &held.value, Some(until), held.version).await,
        };
        if written.map_err(unavailable)? {
            return Ok(());
        }
    }
    Err(Refusal::unavailable("a token is revoked by many at once"))
}

/// Whether the families that come from the token with this `jti` have ended.
///
/// # Errors
/// As [`mark`].
pub(crate) async fn is_marked(issuer: &Inner, jti: &str) -> Result<bool, Refusal> {
    Ok(issuer.used.get(&record_id(jti)).await.map_err(unavailable)?.is_some())
}

fn record_id(jti: &str) -> String {
    format!("origin#{}", hex(digest(&SHA256, jti.as_bytes()).as_ref()))
}
