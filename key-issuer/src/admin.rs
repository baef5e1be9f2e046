//! What administrators do: clients, API keys, revocations. The same policies as everywhere say who may.

mod access;
pub(crate) mod body;
mod query;

use serde_json::Value;

pub(crate) use access::Access;
pub use access::Administration;
pub(crate) use body::Body;
pub(crate) use query::{Paging, precondition};

use crate::Inner;
use crate::audit::{Change, Facts};
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::routes::Admin;
use crate::{api_keys, clients_admin, leaks, revocations, rotation};

/// An administrator, once the policies have let the request pass.
#[derive(Clone, Debug)]
pub(crate) struct Administrator {
    /// `ISSUER/SUBJECT` of the token, or the SPIFFE ID of the IAM role.
    pub(crate) principal: String,
}

/// Answers a request of an administrator.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    admin: Admin,
    id: Option<&str>,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    // Whoever has a credential in hand may report it: it proves what it is about.
    if admin == Admin::Leaks {
        return leaks::report(issuer, request, facts).await;
    }
    let who = issuer.access.check(issuer, request, door, facts).await?;
    needs_table(issuer, admin)?;
    let id = id.unwrap_or_default();
    let call = Call { issuer, request, who, facts };
    match (admin, request.method.as_str()) {
        (Admin::Clients, "GET") => clients_admin::list(&call).await,
        (Admin::Clients, _) => clients_admin::create(call).await,
        (Admin::Client, "GET") => clients_admin::read(&call, id).await,
        (Admin::Client, "PATCH") => clients_admin::change(call, id).await,
        (Admin::Client, _) => clients_admin::delete(call, id).await,
        (Admin::ClientSecrets, _) => clients_admin::add_secret(call, id).await,
        (Admin::ApiKeys, "GET") => api_keys::list(&call).await,
        (Admin::ApiKeys, _) => api_keys::create(call).await,
        (Admin::ApiKey, "GET") => api_keys::read(&call, id).await,
        (Admin::ApiKey, "PATCH") => api_keys::change(call, id).await,
        (Admin::ApiKey, _) => api_keys::delete(call, id).await,
        (Admin::ApiKeyRotate, _) => api_keys::rotate(call, id).await,
        (Admin::ApiKeyRevoke, _) => api_keys::revoke(call, id).await,
        (Admin::Revocations, _) => revocations::create(call).await,
        (Admin::SigningKeys, _) => {
            let status = rotation::status(issuer.signing_keys().await?.as_ref(), issuer.deps.clock.unix());
            Ok(Response::private_json(200, status.to_string()))
        }
        (Admin::Leaks, _) => Err(Refusal::internal("a leak report came this far")),
    }
}

/// An administrator is told which part is not there; nobody else is.
fn needs_table(issuer: &Inner, admin: Admin) -> Result<(), Refusal> {
    let tables = &issuer.deps.tables;
    let missing = match admin {
        Admin::ApiKeys | Admin::ApiKey | Admin::ApiKeyRotate | Admin::ApiKeyRevoke => {
            (!tables.api_keys.is_configured()).then_some("CAUSEWAY_API_KEYS_TABLE")
        }
        Admin::Revocations => (!tables.revocations.is_configured()).then_some("CAUSEWAY_REVOCATIONS_TABLE"),
        Admin::Clients | Admin::Client | Admin::ClientSecrets | Admin::Leaks | Admin::SigningKeys => None,
    };
    match missing {
        Some(name) => Err(Refusal::new(501, "not_configured", format!("{name} is not set"))),
        None => Ok(()),
    }
}

/// A request of an administrator, on its way.
pub(crate) struct Call<'a> {
    pub(crate) issuer: &'a Inner,
    pub(crate) request: &'a Request,
    pub(crate) who: Administrator,
    facts: &'a mut Facts,
}

impl Call<'_> {
    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.issuer.deps.clock.unix()
    }

    /// The members of the request's JSON body, of which only those of `known` are allowed.
    pub(crate) fn body(&self, known: &[&str]) -> Result<Body, Refusal> {
        Body::read(self.request, known)
    }

    /// Puts a change into the audit log that is made before the whole of it, and stays if the rest is refused.
    pub(crate) fn begun(&mut self, action: &'static str, id: &str, before: Option<Value>, after: Option<Value>) {
        self.facts.change = Some(Change { action, id: id.to_owned(), before, after });
    }

    /// Puts the change into the audit log. `before` and `after` are what the administrator is shown, and hold no secret.
    pub(crate) fn changed(self, action: &'static str, id: &str, before: Option<Value>, after: Option<Value>) {
        self.facts.event = Some("admin_change");
        self.facts.change = Some(Change { action, id: id.to_owned(), before, after });
    }
}

/// The ETag of a record: its version, and when it was made. Versions begin anew when a record is deleted and made again
/// under the same id, and a change that was meant for the first one must not fit the second.
pub(crate) fn etag(created_at: Option<u64>, version: u64) -> String {
    match created_at {
        Some(created_at) => format!("\"{created_at}.{version}\""),
        None => format!("\"{version}\""),
    }
}

/// An answer with the ETag of its record.
pub(crate) fn versioned(status: u16, body: &Value, etag: String) -> Response {
    let mut response = Response::private_json(status, body.to_string());
    response.headers.push(("ETag", etag));
    response
}

/// Nothing to say.
pub(crate) fn no_content() -> Response {
    let mut response = Response::private_json(204, String::new());
    response.headers.retain(|(name, _)| *name != "Content-Type");
    response
}

/// 404 of a record.
pub(crate) fn not_found(what: &str) -> Refusal {
    Refusal::new(404, "not_found", format!("there is no such {what}"))
}

/// Somebody else has changed the record in the meantime.
pub(crate) fn outrun() -> Refusal {
    Refusal::new(409, "conflict", "the record was changed by somebody else at the same time; read it again and retry")
}

/// A table that does not answer.
pub(crate) fn unavailable(error: platform::store::StoreError) -> Refusal {
    Refusal::unavailable(error.to_string())
}
