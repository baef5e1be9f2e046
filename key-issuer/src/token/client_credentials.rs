//! `client_credentials` (RFC 6749 §4.4).

use super::claims::{Grant, mint, subject_of};
use super::delegation::MayAct;
use super::{TokenResponse, audience, scope};
use crate::Inner;
use crate::audit::Facts;
use crate::client_auth::Client;
use crate::confirmation::confirmation;
use crate::event::{Request, Response};
use crate::form::Form;
use crate::refusal::Refusal;

/// A token for the client itself. No refresh token: RFC 6749 §4.4.3, "A refresh token SHOULD NOT be included."
pub(super) async fn answer(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    client: &Client,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let record = &client.record;
    let may_have: Vec<&str> = record.scopes.iter().map(String::as_str).collect();
    let default = record.audiences.get(..1).unwrap_or_default();
    let mut grant = Grant {
        subject: subject_of(&record.client_id),
        client: record,
        scope: scope::granted(form, &may_have)?,
        audience: audience::granted(form, &record.audiences, default, "invalid_target")?,
        not_after: None,
        confirmation: None,
        act: None,
        may_act: MayAct::of_clients(&record.may_act),
        ancestors: Vec::new(),
        api_key: None,
        refresh_family: None,
    };
    grant.confirmation = confirmation(issuer, request, client).await?;
    let token = mint(issuer, &grant).await?;
    TokenResponse::of(&token, &grant, facts).send()
}
