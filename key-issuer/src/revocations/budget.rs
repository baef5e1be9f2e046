//! How many tokens of one client go on the list one by one. The list is everybody's, and a client can get and take back as
//! many tokens as it likes: beyond its budget one entry ends all the tokens that it has.

use super::{ATTEMPTS, Entry, Kind, LINGER_SECONDS, Revoked, record_id, revoke, revoke_token, unavailable};
use crate::Inner;
use crate::own_token::OwnToken;
use crate::refusal::Refusal;
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;

/// Tokens of a client in [`WINDOW_SECONDS`].
pub(crate) const MAX_TOKENS: u64 = 1_000;
/// The longest life of an entry, so that a client has never more than twice its budget on the list.
const WINDOW_SECONDS: u64 = MAX_TOKEN_LIFE_SECONDS + LINGER_SECONDS;

/// Revokes a token at the request of its holder; `false` if all tokens of its client are revoked instead, because its
/// budget is spent. A token that is revoked already costs nothing.
///
/// # Errors
/// As [`revoke`].
pub(crate) async fn revoke_by_holder(issuer: &Inner, token: &OwnToken) -> Result<bool, Refusal> {
    if super::is_revoked(issuer, &token.claims).await? {
        return Ok(true);
    }
    let within = take_or_revoke_all(issuer, &token.client_id, 1).await?;
    if within {
        revoke_token(issuer, &token.jti, token.expires_at).await?;
    }
    Ok(within)
}

/// Takes so many tokens out of a client's budget; `false` if all its tokens are revoked instead, because it is spent.
///
/// # Errors
/// As [`revoke`].
pub(crate) async fn take_or_revoke_all(issuer: &Inner, client_id: &str, tokens: u64) -> Result<bool, Refusal> {
    if take(issuer, client_id, tokens).await? {
        return Ok(true);
    }
    // Those of this very second are meant, too.
    let moment = issuer.deps.clock.unix() + 1;
    let longest = MAX_TOKEN_LIFE_SECONDS.max(issuer.config.refresh_ttl_seconds);
    revoke(issuer, Revoked::ClientBefore(client_id, moment), moment + longest).await?;
    Ok(false)
}

async fn take(issuer: &Inner, client_id: &str, tokens: u64) -> Result<bool, Refusal> {
    let id = record_id(Kind::Budget, client_id);
    for _ in 0..ATTEMPTS {
        let held = issuer.revoked.get(&id).await.map_err(unavailable)?;
        let spent = held.as_ref().and_then(|held| held.value.spent).unwrap_or(0) + tokens;
        if spent > MAX_TOKENS {
            return Ok(false);
        }
        let written = match held {
            None => {
                let until = issuer.deps.clock.unix() + WINDOW_SECONDS;
                let id_of = client_id.to_owned();
                let entry = Entry { kind: Kind::Budget, id: id_of, until, before: None, spent: Some(spent) };
                issuer.revoked.create(&id, &entry, Some(until)).await
            }
            Some(held) => {
                let until = held.value.until;
                let entry = Entry { spent: Some(spent), ..held.value };
                issuer.revoked.replace(&id, &entry, Some(until), held.version).await
            }
        };
        if written.map_err(unavailable)? {
            return Ok(true);
        }
    }
    Err(Refusal::unavailable("the tokens of a client are revoked by many at once"))
}
