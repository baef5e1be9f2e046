//! Subject and actor tokens: access tokens of this issuer, and no others.

use authz::{Claims, Json};

use super::api_key::is_key_stopped;
use super::{ACCESS_TOKEN, Act, JWT, MayAct, subject_of};
use crate::Inner;
use crate::client_auth;
use crate::form::Form;
use crate::own_token::{self, OwnToken, to_value};
use crate::refusal::Refusal;
use crate::revocations;
use crate::token::{ANCESTORS, API_KEY, MAX_ANCESTORS, REFRESH_FAMILY, client_of, scope};

/// Who a new token is about, and all that its subject token, or its API key, allows.
#[derive(Clone, Debug)]
pub(in crate::token) struct Subject {
    pub(in crate::token) sub: String,
    /// The client that holds the subject token.
    pub(in crate::token) client_id: String,
    pub(in crate::token) scope: Vec<String>,
    pub(in crate::token) audience: Vec<String>,
    /// When it ends, in seconds since 1970; an API key need not.
    pub(in crate::token) expires_at: Option<u64>,
    /// Whether it has a `cnf`.
    pub(in crate::token) is_bound: bool,
    pub(in crate::token) act: Option<Act>,
    pub(in crate::token) may_act: Option<MayAct>,
    /// The `jti` of a token.
    pub(in crate::token) jti: Option<String>,
    /// The `jti`s of the tokens that it comes from.
    pub(in crate::token) ancestors: Vec<String>,
    /// The public id of the API key that it is, or comes from.
    pub(in crate::token) api_key: Option<String>,
    /// The public id of the family of refresh tokens that it comes from.
    pub(in crate::token) refresh_family: Option<String>,
}

impl Subject {
    /// The `jti`s of all tokens that one that is made out of it comes from.
    ///
    /// # Errors
    /// 400 when they would be more than [`MAX_ANCESTORS`].
    pub(in crate::token) fn lineage(&self) -> Result<Vec<String>, Refusal> {
        let lineage: Vec<String> = self.ancestors.iter().chain(&self.jti).cloned().collect();
        if lineage.len() > MAX_ANCESTORS {
            let description = format!("the subject token comes from {MAX_ANCESTORS} others: exchange one of those");
            return Err(Refusal::invalid_request(description));
        }
        Ok(lineage)
    }

    /// Whether a family of refresh tokens may begin with it. Each has an end of its own, so that with a token that came
    /// out of a family, or of an API key with an end, both could be outlived by going round once more.
    pub(in crate::token) fn may_begin_family(&self) -> bool {
        let is_token = self.jti.is_some();
        !(is_token && (self.api_key.is_some() || self.refresh_family.is_some()))
    }
}

/// The one answer to a token that is none, has ended, was taken back or is somebody else's; the log learns which.
pub(super) fn refused(which: &str, detail: &str) -> Refusal {
    Refusal::invalid_request(format!("the {which} is not accepted")).with_detail(format!("the {which} {detail}"))
}

/// The subject of an access token.
pub(super) async fn of_token(issuer: &Inner, token: &str) -> Result<Subject, Refusal> {
    let refused = |detail: &str| refused("subject token", detail);
    let token = live(issuer, token, "subject token").await?;
    let OwnToken { claims, jti, client_id, expires_at } = &token;
    let sub = claims.subject().ok_or_else(|| refused("has no sub"))?;
    // The client that the token is about may be another than the one that has it, and both may have been stopped since.
    for client in [client_id.as_str(), client_of(sub).unwrap_or(client_id)] {
        if client_auth::is_disabled(issuer, client).await? {
            return Err(refused("is of a client, or about one, that is disabled"));
        }
    }
    let act = read(claims.get("act")).map_err(|()| refused("has an act of an unknown form"))?;
    let may_act = read(claims.get("may_act")).map_err(|()| refused("has a may_act of an unknown form"))?;
    Ok(Subject {
        sub: sub.to_owned(),
        client_id: client_id.clone(),
        scope: claims.scope().map(scope::tokens).unwrap_or_default(),
        audience: claims.audiences().into_iter().map(str::to_owned).collect(),
        expires_at: Some(*expires_at),
        is_bound: claims.get("cnf").is_some(),
        act,
        may_act,
        jti: Some(jti.clone()),
        ancestors: ancestors(claims).ok_or_else(|| refused("has ancestors of an unknown form"))?,
        api_key: text(claims, API_KEY).map_err(|()| refused("has an api_key of an unknown form"))?,
        refresh_family: text(claims, REFRESH_FAMILY)
            .map_err(|()| refused("has a refresh_family of an unknown form"))?,
    })
}

/// The actor token of the request. RFC 8693 §2.1: `actor_token_type` "is REQUIRED when the actor_token parameter is present
/// in the request but MUST NOT be included otherwise".
pub(super) fn actor_token(form: &Form) -> Result<Option<&str>, Refusal> {
    match (form.get("actor_token"), form.get("actor_token_type")) {
        (None, None) => Ok(None),
        (Some(token), Some(ACCESS_TOKEN | JWT)) => Ok(Some(token)),
        (Some(_), Some(_)) => Err(Refusal::invalid_request("actor_token_type is not supported")),
        (Some(_), None) => Err(Refusal::invalid_request("actor_token_type is missing")),
        (None, Some(_)) => Err(Refusal::invalid_request("actor_token_type without actor_token")),
    }
}

/// An actor token has to be the requester's own, of which it is itself the subject: nobody makes others act.
pub(super) async fn check_actor(issuer: &Inner, token: &str, requester: &str) -> Result<(), Refusal> {
    let token = live(issuer, token, "actor token").await?;
    if token.client_id != requester || token.claims.subject() != Some(&subject_of(requester)) {
        return Err(refused("actor token", "is not the requester's own"));
    }
    Ok(())
}

async fn live(issuer: &Inner, token: &str, which: &str) -> Result<OwnToken, Refusal> {
    let token = own_token::read(issuer, token).await?;
    let token = token.ok_or_else(|| refused(which, "is no live access token of this issuer"))?;
    if revocations::is_revoked(issuer, &token.claims).await? {
        return Err(refused(which, "is revoked"));
    }
    if is_key_stopped(issuer, &token.claims).await? {
        return Err(refused(which, "comes from an API key that may not be used any more"));
    }
    Ok(token)
}

fn ancestors(claims: &Claims) -> Option<Vec<String>> {
    match claims.get(ANCESTORS) {
        None => Some(Vec::new()),
        Some(Json::List(list)) => list.iter().map(|jti| jti.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}

/// A claim that is a text if it is there.
fn text(claims: &Claims, name: &str) -> Result<Option<String>, ()> {
    claims.get(name).map(|claim| claim.as_str().map(str::to_owned).ok_or(())).transpose()
}

fn read<T: serde::de::DeserializeOwned>(claim: Option<&Json>) -> Result<Option<T>, ()> {
    claim.map(|claim| serde_json::from_value(to_value(claim)).map_err(|_| ())).transpose()
}
