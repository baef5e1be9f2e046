//! Who the client of a request is. There is one file for each method; here is what they have in common: exactly one
//! credential in a request, one method for each client, and one answer to everything that does not fit.

use crate::Inner;
use crate::certificate::ClientCertificate;
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::client_cache::Age;
use crate::event::Request;
use crate::form::Form;
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::registry::is_client_id;

mod client_secret;
mod client_secret_basic;
mod client_secret_post;
pub(crate) mod distinguished_name;
pub(crate) mod iam_role;
pub(crate) mod private_key_jwt;
mod revoked;
mod self_signed_tls_client_auth;
mod throttle;
pub(crate) mod tls_client_auth;

pub use client_secret::secret_hash;
pub(crate) use revoked::{RevokedClients, is_revoked};
pub(crate) use throttle::{Throttle, Who, source};

use client_secret::Presented;
use private_key_jwt::Assertion;

/// The methods of clients, by their names in RFC 8414 §2 `token_endpoint_auth_methods_supported`; the last two work at
/// the mTLS door alone. The IAM door has no registered name.
pub(crate) const METHODS: [&str; 5] =
    ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"];

/// The algorithms of client assertions (RFC 8414 §2 `token_endpoint_auth_signing_alg_values_supported`). There is no
/// symmetric one among them: `client_secret_jwt` would need the secret itself, and we keep its hash.
pub(crate) const ALGORITHMS: [&str; 10] = ASYMMETRIC;

/// Every asymmetric algorithm that our verifier knows.
pub(crate) const ASYMMETRIC: [&str; 10] =
    ["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// A client that has proved who it is, and what it may ask for.
#[derive(Debug)]
pub(crate) struct Client {
    /// What is registered about it; for a role of the IAM door, what the registry says, too.
    pub(crate) record: ClientRecord,
    /// SHA-256 of the certificate that it showed at the mTLS door, by which its tokens are bound (RFC 8705 §3.1).
    pub(crate) certificate: Option<[u8; 32]>,
}

/// The endpoint at which a client authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7662.
    Introspection,
    /// RFC 7009.
    Revocation,
}

impl Endpoint {
    /// The challenge of a 401.
    fn challenge(self) -> &'static str {
        match self {
            Self::Token => "Basic realm=\"token endpoint\", charset=\"UTF-8\"",
            Self::Introspection => "Basic realm=\"introspection endpoint\", charset=\"UTF-8\"",
            Self::Revocation => "Basic realm=\"revocation endpoint\", charset=\"UTF-8\"",
        }
    }
}

/// Finds out who the client of a request is.
///
/// # Errors
/// - 401 `invalid_client`: no credential or a wrong one; an assertion beside another credential (RFC 7521 §4.2.1);
/// - 400 `invalid_request`: two credentials without an assertion (RFC 6749 §5.2), a `client_id` of somebody else, an
///   assertion of another type;
/// - 403 `unauthorized_client`: a role of the IAM door that the registry does not know;
/// - 429 `temporarily_unavailable`: too many wrong credentials, see [`Throttle`];
/// - 500 and 503: a broken record, no table.
pub(crate) async fn authenticate(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    door: &Door,
    endpoint: Endpoint,
) -> Result<Client, Refusal> {
    let proved = match door {
        Door::Iam(role) => iam_role::authenticate(issuer, request, form, role).await,
        Door::Public => by_credential(issuer, request, form, None).await,
        Door::Mtls(certificate) => by_credential(issuer, request, form, Some(certificate)).await,
    };
    let outcome = match proved {
        Ok(client) => refuse_revoked(issuer, door, client).await,
        Err(refusal) => Err(refusal),
    };
    outcome.map_err(|refusal| match refusal.status {
        401 => refusal.with_header("WWW-Authenticate", endpoint.challenge()),
        _ => refusal,
    })
}

/// A client that is revoked as a whole gets nothing, whatever its record says.
async fn refuse_revoked(issuer: &Inner, door: &Door, client: Client) -> Result<Client, Refusal> {
    if !is_revoked(issuer, &client.record.client_id).await? {
        return Ok(client);
    }
    Err(match door {
        Door::Iam(_) => Refusal::new(403, "unauthorized_client", "the client of this IAM role is revoked"),
        Door::Public | Door::Mtls(_) => refused(Some(&client.record), "is revoked"),
    })
}

/// The one credential of a request, read and not yet believed.
enum Credential<'f> {
    Secret(Presented),
    Assertion(Box<Assertion<'f>>),
    /// The certificate of the connection, for this `client_id`.
    Certificate(&'f str),
}

impl<'f> Credential<'f> {
    /// Finds it. A certificate counts when nothing else does: with another credential it only binds the tokens.
    fn find(request: &Request, form: &'f Form, at_mtls_door: bool) -> Result<Self, Refusal> {
        let header = client_secret_basic::authorization(request)?;
        let (secret, assertion) = (form.get("client_secret"), private_key_jwt::is_present(form));
        match (header, secret, assertion) {
            (None, None, true) => Ok(Self::Assertion(Box::new(Assertion::read(form)?))),
            // RFC 6749 §5.2 has `invalid_request` for what "utilizes more than one mechanism for authenticating the
            // client", RFC 7521 §4.2.1 has `invalid_client` where one of them is an assertion.
            (_, _, true) => {
                Err(Refusal::invalid_client("more than one client authentication, a client_assertion among them"))
            }
            (Some(_), Some(_), false) => Err(Refusal::invalid_request("more than one client authentication")),
            (Some(header), None, false) => client_secret_basic::read(header, form).map(Self::Secret),
            (None, Some(secret), false) => client_secret_post::read(secret, form).map(Self::Secret),
            (None, None, false) => match form.get("client_id") {
                // RFC 8705 §2: "the client MUST include the client_id parameter".
                Some(client_id) if at_mtls_door => Ok(Self::Certificate(client_id)),
                _ if at_mtls_door => Err(Refusal::invalid_client("no client authentication; client_id is missing")),
                _ => Err(Refusal::invalid_client("no client authentication")),
            },
        }
    }

    /// The record, if the credential is of its client.
    async fn prove(
        &self,
        issuer: &Inner,
        record: Option<ClientRecord>,
        certificate: Option<&ClientCertificate>,
        now: u64,
    ) -> Result<ClientRecord, Refusal> {
        match self {
            Self::Secret(presented) => presented.prove(record),
            Self::Assertion(assertion) => assertion.prove(issuer, record, now).await,
            Self::Certificate(_) => match certificate {
                Some(certificate) => prove_by_certificate(record, certificate, issuer.config.mtls_client_auth),
                None => Err(Refusal::invalid_client("no client authentication")),
            },
        }
    }

    /// Whether the credential is right by what was last known of its client. Nothing is read, used up or told.
    fn is_right_by_memory(&self, issuer: &Inner, certificate: Option<&ClientCertificate>, now: u64) -> bool {
        let record = issuer.clients.last_known(self.client_id());
        match self {
            Self::Secret(presented) => presented.prove(record).is_ok(),
            Self::Assertion(assertion) => assertion.is_right(issuer, record, now),
            Self::Certificate(_) => certificate.is_some_and(|certificate| {
                prove_by_certificate(record, certificate, issuer.config.mtls_client_auth).is_ok()
            }),
        }
    }

    fn client_id(&self) -> &str {
        match self {
            Self::Secret(presented) => &presented.client_id,
            Self::Assertion(assertion) => assertion.client_id(),
            Self::Certificate(client_id) => client_id,
        }
    }
}

/// A client of the public or the mTLS door.
async fn by_credential(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    certificate: Option<&ClientCertificate>,
) -> Result<Client, Refusal> {
    let now = issuer.deps.clock.unix();
    let credential = Credential::find(request, form, certificate.is_some())?;
    let who = Who::new(credential.client_id(), request.source_ip.as_deref());
    if let Err(seconds) = issuer.throttle.check(&who, now)
        // Many callers may share an address, and one of them must not lock out the others: a credential that is right
        // by what is remembered is worth a look at the table. Every other one is told the same, and the table is left
        // alone.
        && !credential.is_right_by_memory(issuer, certificate, now)
    {
        return Err(too_many(seconds));
    }
    let remembered = issuer.clients.remembers(credential.client_id(), now);
    let record = record(issuer, credential.client_id(), Age::Any).await?;
    let mut proved = credential.prove(issuer, record, certificate, now).await;
    // A credential that does not fit what is remembered may be newer than that.
    if remembered && proved.as_ref().is_err_and(|refusal| refusal.status == 401) {
        let record = self::record(issuer, credential.client_id(), Age::New).await?;
        proved = credential.prove(issuer, record, certificate, now).await;
    }
    match proved {
        Ok(record) => Ok(Client { record, certificate: certificate.map(ClientCertificate::sha256) }),
        Err(refusal) => {
            if refusal.status == 401 {
                issuer.throttle.failed(&who, now);
            }
            Err(refusal)
        }
    }
}

/// RFC 8705 §2: by the name in a certificate of an authority, or by a certificate that is registered itself; `method`
/// is the one of the two that the door takes. API Gateway has one truststore for both, and does not say which
/// certificate of it a client's comes from: where clients' own certificates are in it, their owners sign whatever name
/// they like.
fn prove_by_certificate(
    record: Option<ClientRecord>,
    certificate: &ClientCertificate,
    method: Authentication,
) -> Result<ClientRecord, Refusal> {
    let Some(record) = record else { return Err(refused(None, "")) };
    if record.state != ClientState::Active {
        return Err(refused(Some(&record), "is disabled"));
    }
    if record.authentication != method {
        return Err(refused(Some(&record), "has another method than the door (CAUSEWAY_MTLS_CLIENT_AUTH)"));
    }
    let fits = match method {
        Authentication::TlsClientAuth => tls_client_auth::fits(&record, certificate)?,
        Authentication::SelfSignedTlsClientAuth => self_signed_tls_client_auth::fits(&record, certificate)?,
        _ => return Err(refused(Some(&record), "has another method")),
    };
    if fits { Ok(record) } else { Err(refused(Some(&record), "showed another certificate than its own")) }
}

/// The answer to whoever has to come again in so many seconds. RFC 6585 §4. RFC 6749 has no code for it; the registered
/// word with the nearest meaning stands in the body.
pub(crate) fn too_many(seconds: u64) -> Refusal {
    Refusal::new(429, "temporarily_unavailable", "too many wrong credentials; try again later")
        .with_header("Retry-After", seconds.to_string())
}

/// The record of a client, if there is one.
pub(crate) async fn record(issuer: &Inner, client_id: &str, age: Age) -> Result<Option<ClientRecord>, Refusal> {
    if !is_client_id(client_id) {
        return Ok(None);
    }
    let found = issuer.clients.get(client_id, issuer.deps.clock.unix(), age).await;
    match found.map_err(|error| Refusal::unavailable(error.to_string()))? {
        Some(record) if record.client_id != client_id => Err(broken_record(client_id, "it names another client")),
        found => Ok(found),
    }
}

/// Whether a client is disabled by now, as far as is remembered. There need not be a record: the registry of IAM roles
/// and the table of API keys have clients too.
pub(crate) async fn is_disabled(issuer: &Inner, client_id: &str) -> Result<bool, Refusal> {
    let record = record(issuer, client_id, Age::Any).await?;
    Ok(record.is_some_and(|record| record.state != ClientState::Active))
}

/// Whether the request has a credential of a client in it, good or bad.
pub(crate) fn is_attempted(request: &Request, form: &Form, door: &Door) -> Result<bool, Refusal> {
    Ok(match door {
        Door::Iam(_) => true,
        Door::Mtls(_) if form.get("client_id").is_some() => true,
        Door::Public | Door::Mtls(_) => {
            client_secret_basic::authorization(request)?.is_some()
                || form.get("client_secret").is_some()
                || private_key_jwt::is_present(form)
        }
    })
}

/// One answer to a client that is unknown, disabled, has another method or a wrong credential. The log learns which.
fn refused(record: Option<&ClientRecord>, why: &str) -> Refusal {
    let refusal = Refusal::invalid_client("the client is unknown or its credential is wrong");
    refusal.with_detail(match record {
        None => "unknown client".to_owned(),
        Some(record) => format!("the client {} {why}", record.client_id),
    })
}

/// A record that breaks its own form authenticates nobody, and is ours to mend.
fn broken_record(client_id: &str, why: &str) -> Refusal {
    Refusal::internal(format!("the record of the client {client_id}: {why}"))
}

/// Some clients send `client_id` along; it must not name another client.
fn refuse_other_client_id(form: &Form, client_id: &str) -> Result<(), Refusal> {
    match form.get("client_id") {
        Some(other) if other != client_id => {
            Err(Refusal::invalid_request("client_id is not the client that authenticates"))
        }
        _ => Ok(()),
    }
}
