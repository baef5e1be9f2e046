//! The IAM door: AWS has authenticated the caller, and the registry says which client its role is.

use super::{Client, broken_record, record, refuse_other_client_id};
use crate::Inner;
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::client_cache::Age;
use crate::event::{DuplicateHeader, Request};
use crate::form::Form;
use crate::iam::RoleArn;
use crate::refusal::Refusal;
use crate::registry::Registration;

/// The client of a caller whom the IAM door has authenticated.
///
/// A record of this `client_id` with the method `iam` adds what the registry cannot say (grants, algorithm, binding,
/// `may_act`, …). Its scopes and audiences replace those of the registry if it lists any. It proves nothing: the role
/// is the only proof, and a record with another method closes the door, for then one name would have two proofs.
pub(super) async fn authenticate(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    role: &RoleArn,
) -> Result<Client, Refusal> {
    refuse_second_mechanism(request, form)?;
    let registration = issuer
        .config
        .registry
        .get(role)
        .ok_or_else(|| Refusal::new(403, "unauthorized_client", "the IAM role is not in the registry"))?;
    refuse_other_client_id(form, &registration.client_id)?;
    let record = settings(registration, record(issuer, &registration.client_id, Age::Any).await?)?;
    Ok(Client { record, certificate: None })
}

/// Refuses whoever has proven a role whose client is disabled or revoked: it gets no SVID, and administrates nothing.
///
/// # Errors
/// 403 `access_denied`; 503 when a table does not answer.
pub(crate) async fn check_usable(issuer: &Inner, client_id: &str) -> Result<(), Refusal> {
    if super::is_disabled(issuer, client_id).await? {
        return Err(Refusal::new(403, "access_denied", "the client of this IAM role is disabled"));
    }
    if super::is_revoked(issuer, client_id).await? {
        return Err(Refusal::new(403, "access_denied", "the client of this IAM role is revoked"));
    }
    Ok(())
}

/// What the client may ask for.
fn settings(registration: &Registration, record: Option<ClientRecord>) -> Result<ClientRecord, Refusal> {
    let id = &registration.client_id;
    let mut record = match record {
        None => ClientRecord {
            authentication: Authentication::Iam,
            grants: vec!["client_credentials".to_owned()],
            ..ClientRecord::new(id)
        },
        Some(record) if record.authentication != Authentication::Iam => {
            return Err(broken_record(id, "the registry gives its name to an IAM role, and its method is not iam"));
        }
        Some(record) if record.state != ClientState::Active => {
            let refusal = Refusal::new(403, "unauthorized_client", "the client of this IAM role is disabled");
            return Err(refusal.with_detail(format!("the client {id} is disabled")));
        }
        Some(record) => record,
    };
    if record.scopes.is_empty() {
        record.scopes.clone_from(&registration.scopes);
    }
    if record.audiences.is_empty() {
        record.audiences.clone_from(&registration.audiences);
    }
    Ok(record)
}

/// The Authorization header holds the AWS signature here, or the query string does; anything else in it, or a secret
/// or an assertion in the form, is a second mechanism (RFC 6749 §2.3, RFC 7521 §4.2.1).
fn refuse_second_mechanism(request: &Request, form: &Form) -> Result<(), Refusal> {
    let second = match request.headers.only("authorization") {
        Ok(Some(value)) => !value.starts_with("AWS4-"),
        Ok(None) => false,
        Err(DuplicateHeader) => true,
    };
    if second {
        return Err(Refusal::invalid_request("the Authorization header is not the AWS signature"));
    }
    if super::private_key_jwt::is_present(form) {
        return Err(Refusal::invalid_client("more than one client authentication, a client_assertion among them"));
    }
    match form.get("client_secret") {
        Some(_) => Err(Refusal::invalid_request("more than one client authentication")),
        None => Ok(()),
    }
}
