//! Revoked credentials: what is kept about them, and the signed list that verifiers load.

mod budget;
mod by_id;
mod list;
pub(crate) mod origins;

use std::collections::BTreeSet;

use authz::Claims;
use authz::jwt::LEEWAY_SECONDS;
use authz::revocation::lineage;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub(crate) use budget::{revoke_by_holder, take_or_revoke_all};
pub(crate) use by_id::create;
pub(crate) use list::{ListCache, answer};

use crate::refusal::Refusal;
use crate::{Inner, hex};

/// How often a change is tried when others are faster.
const ATTEMPTS: usize = 8;
/// How far the clocks of two environments may be apart, in seconds.
const CLOCKS_DIFFER_SECONDS: u64 = 60;
/// How long an entry is kept after what it revokes has ended, in seconds: verifiers accept a token a little longer, and
/// their clocks may be behind ours.
pub(crate) const LINGER_SECONDS: u64 = LEEWAY_SECONDS + CLOCKS_DIFFER_SECONDS;

/// What is revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Revoked<'a> {
    /// The token with this `jti`, or the tokens of the family of refresh tokens with this public id, and what came out
    /// of them.
    Token(&'a str),
    /// The API key with this public id.
    Key(&'a str),
    /// Every credential of this client.
    Client(&'a str),
    /// The tokens that this client got before the moment, in seconds since 1970.
    ClientBefore(&'a str, u64),
}

impl Revoked<'_> {
    /// The id of its record. Ids of callers are hashed: they are of any length and hold any character.
    fn record_id(self) -> String {
        let (kind, id) = self.parts();
        record_id(kind, &id)
    }

    fn parts(self) -> (Kind, String) {
        match self {
            Self::Token(jti) => (Kind::Token, jti.to_owned()),
            Self::Key(id) => (Kind::Key, id.to_owned()),
            Self::Client(id) => (Kind::Client, id.to_owned()),
            Self::ClientBefore(id, _) => (Kind::Before, id.to_owned()),
        }
    }
}

fn record_id(kind: Kind, id: &str) -> String {
    format!("{}#{}", kind.word(), hex(digest(&SHA256, id.as_bytes()).as_ref()))
}

/// What the id of an entry is the id of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Token,
    Key,
    Client,
    Before,
    /// Nothing is revoked: what a client has spent of its budget.
    Budget,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
            Self::Client => "client",
            Self::Before => "before",
            Self::Budget => "budget",
        }
    }
}

/// A record of the table of revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    kind: Kind,
    /// The `jti`, the key's public id or the client's id.
    id: String,
    /// Until when it is kept, in seconds since 1970.
    until: u64,
    /// The moment of [`Revoked::ClientBefore`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    /// How many tokens of the client went on the list one by one, for a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent: Option<u64>,
}

/// Revokes a token that ends at `expires_at` (seconds since 1970) with all that came out of it: tokens, and refresh
/// tokens with theirs, which may live for longer.
///
/// # Errors
/// As [`revoke`].
pub(crate) async fn revoke_token(issuer: &Inner, jti: &str, expires_at: u64) -> Result<(), Refusal> {
    if issuer.offers.refresh {
        origins::mark(issuer, jti).await?;
    }
    // What was exchanged for it ends with it at the latest, the last token of a family after its own life.
    let longest = if issuer.offers.refresh { issuer.deps.clock.unix() + issuer.config.token_ttl_seconds } else { 0 };
    revoke(issuer, Revoked::Token(jti), expires_at.max(longest)).await
}

/// Puts a credential on the list until `expires_at` (seconds since 1970), when it is worth nothing anyway, and for
/// [`LINGER_SECONDS`] more. Doing it twice is doing it once; the later `expires_at` stays.
///
/// # Errors
/// 503 when the table does not answer; 507 when the list that verifiers load has no room, for a list must not be cut.
pub(crate) async fn revoke(issuer: &Inner, what: Revoked<'_>, expires_at: u64) -> Result<(), Refusal> {
    let id = what.record_id();
    let until = expires_at + LINGER_SECONDS;
    let before = match what {
        Revoked::ClientBefore(_, moment) => Some(moment),
        _ => None,
    };
    for _ in 0..ATTEMPTS {
        let held = issuer.revoked.get(&id).await.map_err(unavailable)?;
        let written = match held {
            None => {
                let (kind, id_of) = what.parts();
                let entry = Entry { kind, id: id_of, until, before, spent: None };
                list::reserve(issuer, &entry).await?;
                issuer.revoked.create(&id, &entry, Some(until)).await
            }
            Some(held) => {
                let entry = Entry {
                    until: held.value.until.max(until),
                    before: held.value.before.max(before),
                    ..held.value.clone()
                };
                if entry == held.value {
                    return Ok(());
                }
                let until = entry.until;
                issuer.revoked.replace(&id, &entry, Some(until), held.version).await
            }
        };
        if written.map_err(unavailable)? {
            return Ok(());
        }
    }
    Err(Refusal::unavailable("a record of the revocations is changed by many at once"))
}

/// Whether exactly this is on the list; for [`Revoked::ClientBefore`], whether what the client got at its moment is.
///
/// # Errors
/// 503 when the table does not answer.
pub(crate) async fn is_listed(issuer: &Inner, what: Revoked<'_>) -> Result<bool, Refusal> {
    let held = issuer.revoked.get(&what.record_id()).await.map_err(unavailable)?;
    Ok(match (held, what) {
        (None, _) => false,
        (Some(held), Revoked::ClientBefore(_, moment)) => held.value.before.is_some_and(|before| moment < before),
        (Some(_), _) => true,
    })
}

/// Whether a token of this issuer is revoked, by the table and not by a list that may be old.
///
/// # Errors
/// 503 when the table does not answer.
pub(crate) async fn is_revoked(issuer: &Inner, claims: &Claims) -> Result<bool, Refusal> {
    // A token that has none of these is no token of ours, and is not vouched for.
    if claims.text("jti").is_none() || claims.client_id().is_none() {
        return Ok(true);
    }
    let issued_at = claims.issued_at().unwrap_or(0);
    let key = claims.text(lineage::API_KEY).map(Revoked::Key);
    for what in lineage::tokens(claims).map(Revoked::Token).chain(key) {
        if is_listed(issuer, what).await? {
            return Ok(true);
        }
    }
    // Most often it is one client in all these parts.
    for client in lineage::clients(claims).collect::<BTreeSet<&str>>() {
        for what in [Revoked::Client(client), Revoked::ClientBefore(client, issued_at)] {
            if is_listed(issuer, what).await? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn unavailable(error: platform::store::StoreError) -> Refusal {
    Refusal::unavailable(error.to_string())
}
