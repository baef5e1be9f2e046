//! What is kept about a family of refresh tokens: one record, whose every change is conditional.

use platform::table::Held;
use serde::{Deserialize, Serialize};

use crate::Inner;
use crate::refusal::Refusal;
use crate::revocations::{self, LINGER_SECONDS, Revoked};
use crate::token::delegation::{Act, MayAct};

/// How often the end of a family is tried when others are faster.
const ATTEMPTS: usize = 8;

/// The record of a family. It holds no token: the current one is a hash, and those before it are all that is not it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    /// The client that may use it.
    pub(crate) client_id: String,
    /// `sub` of its access tokens.
    pub(crate) subject: String,
    pub(crate) scope: Vec<String>,
    pub(crate) audience: Vec<String>,
    /// Whether its access tokens have to be bound to a key, as the subject token was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_bound: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) act: Option<Act>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) may_act: Option<MayAct>,
    /// The `jti`s of the tokens that it comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ancestors: Vec<String>,
    /// The public id of the API key that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<String>,
    /// In seconds since 1970, as the next.
    pub(crate) issued_at: u64,
    pub(crate) expires_at: u64,
    /// SHA-256 of the one token that may be used, in hex.
    pub(super) current: String,
    /// Nothing can be got out of it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) revoked: bool,
    /// When the last of its access tokens ends; absent when it has none, or when they are on the list of revocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) live_until: Option<u64>,
}

impl Family {
    /// Whether nothing comes out of it any more, and what did is on the list of revocations.
    pub(super) fn has_ended(&self) -> bool {
        self.revoked && self.live_until.is_none()
    }
}

/// The family with this public id, unless it has ended.
pub(super) async fn load(issuer: &Inner, id: &str) -> Result<Option<Held<Family>>, Refusal> {
    issuer.families.get(&record_id(id)).await.map_err(unavailable)
}

/// Writes a new family; `false` if there is one of this id.
pub(super) async fn create(issuer: &Inner, id: &str, family: &Family) -> Result<bool, Refusal> {
    issuer.families.create(&record_id(id), family, Some(family.expires_at)).await.map_err(unavailable)
}

/// Writes a changed family over the version that was read; `false` if somebody else was faster.
pub(super) async fn replace(issuer: &Inner, id: &str, family: &Family, version: u64) -> Result<bool, Refusal> {
    issuer.families.replace(&record_id(id), family, Some(family.expires_at), version).await.map_err(unavailable)
}

/// Ends a family: first so that nothing more comes out of it, then by putting what came out on the list of revocations.
/// Whoever is interrupted between the two leaves the rest to the next.
///
/// # Errors
/// 503 when a table does not answer.
pub(super) async fn kill(issuer: &Inner, id: &str) -> Result<(), Refusal> {
    for _ in 0..ATTEMPTS {
        let Some(held) = load(issuer, id).await? else { return Ok(()) };
        let mut family = held.value;
        if !family.revoked {
            family.revoked = true;
            replace(issuer, id, &family, held.version).await?;
            // Read again, for what was written last.
            continue;
        }
        let Some(until) = family.live_until.take() else { return Ok(()) };
        // All its access tokens have the family's id, and so has whatever was exchanged for them. Verifiers accept them
        // for a little longer than they live.
        if issuer.deps.clock.unix() < until + LINGER_SECONDS
            && revocations::take_or_revoke_all(issuer, &family.client_id, 1).await?
        {
            revocations::revoke(issuer, Revoked::Token(id), until).await?;
        }
        replace(issuer, id, &family, held.version).await?;
    }
    Err(Refusal::unavailable("a family of refresh tokens is changed by many at once"))
}

fn record_id(id: &str) -> String {
    format!("refresh#{id}")
}

fn unavailable(error: platform::store::StoreError) -> Refusal {
    Refusal::unavailable(error.to_string())
}
