//! Token exchange (RFC 8693): an API key or a token of ours for a token that grants no more.
//!
//! What comes out never outlives what came in, has no scope that either the subject token or the requester lacks, and is
//! for targets of the requester's own record alone. A target need not be one of the subject token's: a gateway exchanges
//! a token that is for the gateway for one that is for the service behind it, and its record says which those are.
//!
//! An API key may be exchanged by itself: it is a credential of its client, so nobody else has to authenticate, and the
//! token is what the key grants. A client that authenticates beside the key is the requester like any other, and needs the
//! grant. At the IAM door somebody always does.

use super::claims::{Grant, mint, subject_of};
use super::delegation::{self, Act, MayAct, Standing};
use super::{GrantType, TokenResponse, audience, refresh, scope, unauthorized_client};
use crate::Inner;
use crate::audit::Facts;
use crate::client::ClientRecord;
use crate::client_auth::{self, Client};
use crate::confirmation::confirmation;
use crate::event::{Request, Response};
use crate::form::Form;
use crate::iam::Door;
use crate::refusal::Refusal;

mod api_key;
mod subject;

pub(crate) use api_key::is_key_stopped;
pub(crate) use api_key::pepper;
pub(super) use api_key::{is_usable, record as api_key_record};
pub(super) use subject::Subject;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";
const API_KEY: &str = "urn:causeway:token-type:api-key";

/// What the client wants (RFC 8693 §2.1 `requested_token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requested {
    /// Also what a client gets that does not say.
    AccessToken,
    /// The same token by its other name: ours are JWTs.
    Jwt,
    /// A refresh token, and no access token with it. RFC 8693 §2.2.1 has a refresh token for "offline scenarios", so it
    /// may outlive the subject token: the record of the client says with the grant `refresh_token` that it may do this.
    RefreshToken,
}

impl Requested {
    fn read(issuer: &Inner, form: &Form) -> Result<Self, Refusal> {
        match form.get("requested_token_type") {
            None | Some(ACCESS_TOKEN) => Ok(Self::AccessToken),
            Some(JWT) => Ok(Self::Jwt),
            Some(REFRESH_TOKEN) if issuer.offers.refresh => Ok(Self::RefreshToken),
            Some(_) => Err(Refusal::invalid_request("requested_token_type is not supported")),
        }
    }

    fn token_type(self) -> &'static str {
        match self {
            Self::AccessToken => ACCESS_TOKEN,
            Self::Jwt => JWT,
            Self::RefreshToken => REFRESH_TOKEN,
        }
    }
}

/// Answers the request of a client that has authenticated and may use the grant.
///
/// # Errors
/// RFC 8693 §2.2.2: `invalid_request` "if either the subject_token or actor_token are invalid for any reason, or are
/// unacceptable based on policy"; `invalid_target`; and those of RFC 6749 §5.2.
pub(super) async fn answer(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    client: &Client,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let record = &client.record;
    let requested = Requested::read(issuer, form)?;
    if requested == Requested::RefreshToken && !GrantType::RefreshToken.is_allowed(client) {
        return Err(unauthorized_client(GrantType::RefreshToken));
    }
    let has_actor_token = subject::actor_token(form)?.is_some();
    let subject = Subject::read(issuer, request, form, facts).await?;
    facts.subject = Some(subject.sub.clone());
    if requested == Requested::RefreshToken && !subject.may_begin_family() {
        return Err(Refusal::invalid_request(
            "the subject token comes from a refresh token or an API key: exchange what that came from",
        ));
    }
    if let Some(token) = subject::actor_token(form)? {
        subject::check_actor(issuer, token, &record.client_id).await?;
    }
    let standing =
        Standing { client_id: &subject.client_id, act: subject.act.as_ref(), may_act: subject.may_act.as_ref() };
    let act = delegation::act(&record.client_id, &standing, has_actor_token)
        .map_err(|not_allowed| Refusal::invalid_request(not_allowed.to_string()))?;
    let wanted = Wanted { requested, act, scopes: &record.scopes, audiences: &record.audiences };
    issue(issuer, request, form, client, subject, wanted, facts).await
}

/// Whether this is a request to exchange an API key that brings no other credential.
pub(super) fn is_api_key_alone(issuer: &Inner, request: &Request, form: &Form, door: &Door) -> Result<bool, Refusal> {
    let exchanged = issuer.offers.api_keys
        && form.get("grant_type") == Some(GrantType::TokenExchange.name())
        && form.get("subject_token_type") == Some(API_KEY);
    Ok(exchanged && !client_auth::is_attempted(request, form, door)?)
}

/// Answers the request of whoever holds an API key. What it may have is what the key grants.
///
/// # Errors
/// As [`answer`].
pub(super) async fn answer_api_key_alone(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let requested = Requested::read(issuer, form)?;
    if requested == Requested::RefreshToken {
        // A refresh token is bound to a client that authenticates whenever it is used.
        return Err(unauthorized_client(GrantType::RefreshToken));
    }
    if subject::actor_token(form)?.is_some() {
        return Err(Refusal::invalid_request(
            "nobody acts for an API key alone: authenticate, or leave actor_token out",
        ));
    }
    let subject = Subject::read(issuer, request, form, facts).await?;
    if form.get("client_id").is_some_and(|id| id != subject.client_id) {
        return Err(Refusal::invalid_request("client_id is not the client of the API key"));
    }
    facts.client_id = Some(subject.client_id.clone());
    facts.subject = Some(subject.sub.clone());
    let record = api_key::client(issuer, &subject.client_id).await?;
    let record = record.unwrap_or_else(|| ClientRecord::new(&subject.client_id));
    let certificate = match door {
        Door::Mtls(certificate) => Some(certificate.sha256()),
        Door::Public | Door::Iam(_) => None,
    };
    let client = Client { record, certificate };
    let (scopes, audiences) = (subject.scope.clone(), subject.audience.clone());
    let wanted = Wanted { requested, act: None, scopes: &scopes, audiences: &audiences };
    issue(issuer, request, form, &client, subject, wanted, facts).await
}

/// What the requester gets, once it may.
struct Wanted<'a> {
    requested: Requested,
    act: Option<Act>,
    /// The requester's own.
    scopes: &'a [String],
    /// The requester's own.
    audiences: &'a [String],
}

async fn issue(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    client: &Client,
    subject: Subject,
    wanted: Wanted<'_>,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let default = audience::inherited(&subject.audience, wanted.audiences);
    let mut grant = Grant {
        scope: scope::granted(form, &scope::common(&subject.scope, wanted.scopes))?,
        audience: audience::granted(form, wanted.audiences, &default, "invalid_request")?,
        subject: subject.sub.clone(),
        client: &client.record,
        not_after: subject.expires_at,
        confirmation: None,
        act: wanted.act,
        may_act: subject.may_act.clone(),
        ancestors: subject.lineage()?,
        api_key: subject.api_key.clone(),
        refresh_family: subject.refresh_family.clone(),
    };
    grant.confirmation = confirmation(issuer, request, client).await?;
    if subject.is_bound && grant.confirmation.is_none() {
        return Err(unbound());
    }
    if wanted.requested == Requested::RefreshToken {
        let (text, expires_in) = refresh::issue(issuer, refresh::Origin::of(&subject), grant, facts).await?;
        let scope = facts.scope.clone();
        // RFC 8693 §2.2.1: "If the issued token is not an access token or usable as an access token, then the token_type
        // value 'N_A' is used".
        return TokenResponse {
            access_token: text.expose(),
            issued_token_type: Some(REFRESH_TOKEN),
            token_type: "N_A",
            expires_in,
            refresh_token: None,
            scope,
        }
        .send();
    }
    let token = mint(issuer, &grant).await?;
    let mut response = TokenResponse::of(&token, &grant, facts);
    response.issued_token_type = Some(wanted.requested.token_type());
    response.send()
}

/// A token that only the holder of a key could use must not become one that everybody can.
pub(super) fn unbound() -> Refusal {
    Refusal::invalid_request(
        "the subject token is bound to a key: show a DPoP proof or a client certificate of your own",
    )
}

impl Subject {
    /// The subject of the request, valid now and not taken back.
    async fn read(issuer: &Inner, request: &Request, form: &Form, facts: &mut Facts) -> Result<Self, Refusal> {
        let missing = |name: &str| Refusal::invalid_request(format!("{name} is missing"));
        let token = form.get("subject_token").ok_or_else(|| missing("subject_token"))?;
        let subject = match form.get("subject_token_type").ok_or_else(|| missing("subject_token_type"))? {
            ACCESS_TOKEN | JWT => subject::of_token(issuer, token).await,
            API_KEY if issuer.offers.api_keys => api_key::subject(issuer, request, token).await,
            _ => Err(Refusal::invalid_request("subject_token_type is not supported")),
        }?;
        facts.api_key.clone_from(&subject.api_key);
        Ok(subject)
    }
}
