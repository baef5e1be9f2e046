//! Refresh tokens (RFC 6749 §6): given by token exchange alone, to clients whose record lists the grant.
//!
//! Each is used once and answered with the next one (RFC 9700 §4.14.2). The tokens that follow from one exchange are a
//! family, which ends at a fixed time however often it is refreshed. Using a token of a family a second time, at once or
//! later, ends the family and revokes the access tokens that came out of it: two parties hold the token, and it cannot be
//! told which one is the thief. There is no grace for an answer that was lost on its way: the client exchanges anew.
//!
//! A family is bound to its client, which has to authenticate. It is not bound to a DPoP key: RFC 9449 §5, "refresh
//! tokens issued to confidential clients [...] are not bound to the DPoP proof public key because they are already
//! sender-constrained with a different existing mechanism". The access tokens that come out of it are.

use identity::secret::Secret;
use platform::random::Random;

use super::claims::{Grant, mint};
use super::delegation::{Act, MayAct};
use super::exchange::{self, Subject};
use super::{TokenResponse, audience, client_of, scope};
use crate::audit::Facts;
use crate::client::{ClientRecord, ClientState};
use crate::client_auth::{self, Client};
use crate::client_cache::Age;
use crate::confirmation::confirmation;
use crate::event::{Request, Response};
use crate::form::Form;
use crate::refusal::Refusal;
use crate::revocations::{self, Revoked, origins};
use crate::{Inner, hex};

mod family;
mod text;

pub(crate) use family::Family;
use family::{kill, load};
pub(crate) use text::RefreshToken;

/// What a family comes from, beside what it grants.
pub(super) struct Origin {
    /// The public id of the API key.
    api_key: Option<String>,
    /// Whether the subject token was bound to a key.
    is_bound: bool,
}

impl Origin {
    pub(super) fn of(subject: &Subject) -> Self {
        Self { api_key: subject.api_key.clone(), is_bound: subject.is_bound }
    }
}

/// Begins a family with what is granted; its first token and its life in seconds. It may outlive the subject token, and
/// never an API key.
pub(super) async fn issue(
    issuer: &Inner,
    origin: Origin,
    grant: Grant<'_>,
    facts: &mut Facts,
) -> Result<(Secret<String>, u64), Refusal> {
    let now = issuer.deps.clock.unix();
    let end = now.saturating_add(issuer.config.refresh_ttl_seconds);
    let expires_at = match origin.api_key {
        Some(_) => end.min(grant.not_after.unwrap_or(u64::MAX)),
        None => end,
    };
    let token = RefreshToken::generate(&bytes(issuer.deps.random.as_ref())?, &bytes(issuer.deps.random.as_ref())?);
    let family = Family {
        client_id: grant.client.client_id.clone(),
        subject: grant.subject,
        scope: grant.scope,
        audience: grant.audience,
        is_bound: origin.is_bound,
        act: grant.act,
        may_act: grant.may_act,
        ancestors: grant.ancestors,
        api_key: origin.api_key,
        issued_at: now,
        expires_at,
        current: token.hash(),
        revoked: false,
        live_until: None,
    };
    if !family::create(issuer, token.family(), &family).await? {
        return Err(Refusal::internal("two families of refresh tokens have one id"));
    }
    facts.event = Some("refresh_token_issued");
    facts.expires_at = Some(expires_at);
    facts.scope = scope::text(&family.scope);
    facts.audience = family.audience;
    Ok((token.text(), expires_at - now))
}

/// Answers a refresh request.
///
/// # Errors
/// RFC 6749 §5.2 `invalid_grant`: the refresh token "is invalid, expired, revoked, [...] or was issued to another client".
pub(super) async fn answer(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    client: &Client,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let text = form.get("refresh_token").ok_or_else(|| Refusal::invalid_request("refresh_token is missing"))?;
    let presented = RefreshToken::parse(text).ok_or_else(|| refused("has not the form of one"))?;
    let held = load(issuer, presented.family()).await?.ok_or_else(|| refused("is of an unknown family"))?;
    let (mut family, version, record) = (held.value, held.version, &client.record);
    if family.client_id != record.client_id {
        return Err(refused(&format!("is of the client {}", family.client_id)));
    }
    facts.subject = Some(family.subject.clone());
    if family.revoked || !presented.has_hash(&family.current) {
        return Err(reused(issuer, &presented).await);
    }
    if let Some(why) = withdrawn(issuer, presented.family(), &family, Age::New).await? {
        // For good: what was withdrawn may be forgotten before the family ends.
        kill(issuer, presented.family()).await?;
        return Err(refused(why));
    }

    // What the client has lost since is not granted, nor what the API key has that the family comes from.
    let mut scopes: Vec<String> = scope::common(&family.scope, &record.scopes).into_iter().map(str::to_owned).collect();
    let mut may_ask: Vec<String> = family.audience.clone();
    may_ask.retain(|audience| record.audiences.contains(audience));
    let mut not_after = family.expires_at;
    if let Some(id) = &family.api_key {
        let key = exchange::api_key_record(issuer, id).await?;
        let key = key.ok_or_else(|| refused("comes from an API key that is not valid any more"))?;
        let of_key = scope::tokens(&key.scope);
        scopes.retain(|scope| of_key.contains(scope));
        may_ask.retain(|audience| key.audiences.contains(audience));
        not_after = not_after.min(key.expires_at.unwrap_or(u64::MAX));
    }
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let mut grant = Grant {
        subject: family.subject.clone(),
        client: record,
        // RFC 6749 §6: the scope "MUST NOT include any scope not originally granted by the resource owner, and if omitted
        // is treated as equal to the scope originally granted".
        scope: scope::granted(form, &scopes)?,
        audience: audience::granted(form, &may_ask, &may_ask, "invalid_target")?,
        not_after: Some(not_after),
        confirmation: None,
        act: family.act.clone(),
        may_act: may_act_of(issuer, &family, record).await?,
        ancestors: family.ancestors.clone(),
        api_key: family.api_key.clone(),
        refresh_family: Some(presented.family().to_owned()),
    };
    grant.confirmation = confirmation(issuer, request, client).await?;
    if family.is_bound && grant.confirmation.is_none() {
        return Err(exchange::unbound());
    }

    // Made before the write, so that its end is on the record before the token is, and handed over after it.
    let token = mint(issuer, &grant).await?;
    let next = RefreshToken::next(presented.family(), &bytes(issuer.deps.random.as_ref())?);
    family.current = next.hash();
    family.live_until = family.live_until.max(Some(token.expires_at));
    if !family::replace(issuer, presented.family(), &family, version).await? {
        // Somebody else has used the same token in the meantime.
        return Err(reused(issuer, &presented).await);
    }
    let next = next.text();
    let mut response = TokenResponse::of(&token, &grant, facts);
    response.refresh_token = Some(next.expose());
    response.send()
}

/// Who may act for the subject of a family, by the record of the subject's client as it is now: a family lives for long, and
/// whoever was struck out of the record meanwhile is not named any more.
async fn may_act_of(issuer: &Inner, family: &Family, record: &ClientRecord) -> Result<Option<MayAct>, Refusal> {
    match client_of(&family.subject) {
        Some(owner) if owner != record.client_id => {
            let owner = client_auth::record(issuer, owner, Age::Any).await?;
            Ok(owner.and_then(|owner| MayAct::of_clients(&owner.may_act)))
        }
        _ => Ok(MayAct::of_clients(&record.may_act)),
    }
}

/// The family of a refresh token that could be used now; uses nothing up.
pub(crate) async fn active(issuer: &Inner, presented: &RefreshToken) -> Result<Option<Family>, Refusal> {
    let Some(held) = load(issuer, presented.family()).await? else { return Ok(None) };
    let family = held.value;
    let usable = !family.revoked && presented.has_hash(&family.current);
    Ok((usable && withdrawn(issuer, presented.family(), &family, Age::Any).await?.is_none()).then_some(family))
}

/// Whether this is the one token of a live family that may be used, whoever shows it; or of one whose end was begun and is
/// not on the list yet.
pub(crate) async fn is_current(issuer: &Inner, presented: &RefreshToken) -> Result<bool, Refusal> {
    let held = load(issuer, presented.family()).await?;
    Ok(held.is_some_and(|held| !held.value.has_ended() && presented.has_hash(&held.value.current)))
}

/// Ends the family of a token.
pub(crate) async fn end(issuer: &Inner, presented: &RefreshToken) -> Result<(), Refusal> {
    kill(issuer, presented.family()).await
}

/// Ends the family of any of its tokens, if it is this client's; `false` if it is another's. One that there is not has
/// ended.
pub(crate) async fn revoke(issuer: &Inner, presented: &RefreshToken, client_id: &str) -> Result<bool, Refusal> {
    match load(issuer, presented.family()).await? {
        Some(held) if held.value.client_id != client_id => Ok(false),
        Some(_) => kill(issuer, presented.family()).await.map(|()| true),
        None => Ok(true),
    }
}

/// Ends the family of a token that was used twice. What went wrong with that is told instead.
async fn reused(issuer: &Inner, presented: &RefreshToken) -> Refusal {
    match kill(issuer, presented.family()).await {
        Ok(()) => refused("was used before: its family is revoked"),
        Err(refusal) => refusal,
    }
}

/// Why a family may not be used any more, although nobody has ended it. `age` is that of a record that speaks against it.
async fn withdrawn(issuer: &Inner, id: &str, family: &Family, age: Age) -> Result<Option<&'static str>, Refusal> {
    let owner = client_of(&family.subject).unwrap_or(&family.client_id);
    // Those who had a hand in it count as they do for an access token, of which verifiers look at `act`.
    let actors = family.act.iter().flat_map(Act::subjects).filter_map(client_of);
    for client in [owner, family.client_id.as_str()].into_iter().chain(actors) {
        for what in [Revoked::Client(client), Revoked::ClientBefore(client, family.issued_at)] {
            if revocations::is_listed(issuer, what).await? {
                return Ok(Some("is of a client, or about one, that is revoked"));
            }
        }
    }
    if owner != family.client_id {
        // A family lives for long, so the consent of its subject is asked for anew.
        let consents = |record: Option<ClientRecord>| {
            record
                .is_some_and(|record| record.state == ClientState::Active && record.may_act.contains(&family.client_id))
        };
        if !consents(client_auth::record(issuer, owner, Age::Any).await?)
            && (age == Age::Any || !consents(client_auth::record(issuer, owner, age).await?))
        {
            return Ok(Some("is about a client that is disabled, or lets this one act no more"));
        }
    }
    // Its own id too: that is what an administrator has who ends it.
    for jti in family.ancestors.iter().map(String::as_str).chain([id]) {
        if revocations::is_listed(issuer, Revoked::Token(jti)).await? || origins::is_marked(issuer, jti).await? {
            return Ok(Some("comes from a token that is revoked"));
        }
    }
    if let Some(id) = &family.api_key {
        let now = issuer.deps.clock.unix();
        let record = exchange::api_key_record(issuer, id).await?;
        let usable = record.is_some_and(|record| exchange::is_usable(&record, now));
        if !usable || revocations::is_listed(issuer, Revoked::Key(id)).await? {
            return Ok(Some("comes from an API key that is not valid any more"));
        }
    }
    Ok(None)
}

/// The one answer to a refresh token that is not accepted; the log learns why.
fn refused(why: &str) -> Refusal {
    Refusal::new(400, "invalid_grant", "the refresh token is not accepted")
        .with_detail(format!("the refresh token {why}"))
}

fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(bytes)
}
