//! Who the client of a token request is: by a secret (`client_secret_basic`) or by its IAM role.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::secret::Secret;
use platform::table::TableOf;

use crate::Inner;
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::event::{DuplicateHeader, Request};
use crate::form::{Form, decode};
use crate::iam::{Door, RoleArn};
use crate::refusal::Refusal;
use crate::registry::{Registry, is_client_id};

/// The longest Authorization header that is read, in bytes.
const MAX_AUTHORIZATION_BYTES: usize = 4096;
/// The most secrets of a client: one, or two while it is being changed.
const MAX_SECRETS: usize = 2;
const SHA256_BYTES: usize = 32;

/// A client that has proved who it is, and what it may ask for.
#[derive(Debug)]
pub(crate) struct Client {
    /// What is registered about it; for a role of the IAM door, what the registry says.
    pub(crate) record: ClientRecord,
    /// SHA-256 of the certificate that it showed at the mTLS door, by which its tokens are bound (RFC 8705 §3.1).
    pub(crate) certificate: Option<[u8; SHA256_BYTES]>,
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

/// Finds out who the client of a request is.
///
/// # Errors
/// `invalid_client`, `invalid_request` for more than one mechanism, 403 at the IAM door, 503 without the clients table.
pub(crate) async fn authenticate(
    issuer: &Inner,
    request: &Request,
    form: &Form,
    door: &Door,
    _endpoint: Endpoint,
) -> Result<Client, Refusal> {
    match door {
        Door::Public { .. } => by_secret(request, form, &issuer.clients).await,
        Door::Mtls(_) => Err(Refusal::internal("the mTLS door is not built yet")),
        Door::Iam(role) => by_role(request, form, role, &issuer.config.registry),
    }
}

/// The form in which a client's secret is kept: SHA-256 in lower-case hex. Client secrets are made by machines and
/// long, so a slow hash would protect nothing and cost every token request.
pub fn secret_hash(secret: &Secret<String>) -> String {
    crate::hex(digest(&SHA256, secret.expose().as_bytes()).as_ref())
}

/// Authenticates a client of the public door.
async fn by_secret(request: &Request, form: &Form, clients: &TableOf<ClientRecord>) -> Result<Client, Refusal> {
    let header = authorization(request)?;
    refuse_other_mechanisms(form, header.is_some())?;
    let Some(header) = header else {
        return Err(Refusal::invalid_client("no client authentication; use client_secret_basic"));
    };
    let (id, secret) = basic(header).ok_or_else(|| {
        Refusal::invalid_client(
            "the Authorization header is not Basic with the form-encoded client_id and client_secret",
        )
    })?;
    refuse_other_client_id(form, &id)?;
    let presented = digest(&SHA256, secret.expose().as_bytes());
    let record = if is_client_id(&id) {
        let found = clients.get(&id).await;
        found.map_err(|error| Refusal::unavailable(error.to_string()))?.map(|held| held.value)
    } else {
        None
    };
    // An unknown client costs a comparison too, so that the time does not tell which clients exist.
    let hashes = match &record {
        Some(record) => hashes(record, &id)?,
        None => vec![[0; SHA256_BYTES]],
    };
    let matched = matches_any(presented.as_ref(), &hashes);
    match record {
        Some(record)
            if matched
                && record.state == ClientState::Active
                && record.authentication == Authentication::ClientSecret =>
        {
            Ok(Client { record, certificate: None })
        }
        record => {
            // One answer to the caller, whatever was wrong.
            let refusal = Refusal::invalid_client("the client is unknown or its secret is wrong");
            Err(match record {
                None => refusal.with_detail("unknown client"),
                Some(record) if !matched => {
                    refusal.with_detail(format!("wrong secret for the client {}", record.client_id))
                }
                Some(record) if record.state != ClientState::Active => {
                    refusal.with_detail(format!("the client {} is disabled", record.client_id))
                }
                Some(record) => refusal.with_detail(format!("the client {} has another method", record.client_id)),
            })
        }
    }
}

/// The client of a caller whom the IAM door has authenticated.
fn by_role(request: &Request, form: &Form, role: &RoleArn, registry: &Registry) -> Result<Client, Refusal> {
    // The Authorization header holds the AWS signature here, or the query string does; anything else in it, or a
    // client secret in the form, is a second mechanism.
    let second = match request.headers.only("authorization") {
        Ok(Some(value)) => !value.starts_with("AWS4-"),
        Ok(None) => false,
        Err(DuplicateHeader) => true,
    };
    if second {
        return Err(Refusal::invalid_request("the Authorization header is not the AWS signature"));
    }
    refuse_other_mechanisms(form, true)?;
    let registration = registry
        .get(role)
        .ok_or_else(|| Refusal::new(403, "unauthorized_client", "the IAM role is not in the registry"))?;
    refuse_other_client_id(form, &registration.client_id)?;
    let record = ClientRecord {
        authentication: Authentication::Iam,
        scopes: registration.scopes.clone(),
        audiences: registration.audiences.clone(),
        grants: vec!["client_credentials".to_owned()],
        ..ClientRecord::new(&registration.client_id)
    };
    Ok(Client { record, certificate: None })
}

/// The header's value; refuses what the gateway joined from several.
fn authorization(request: &Request) -> Result<Option<&str>, Refusal> {
    let twice = || Refusal::invalid_request("more than one Authorization header");
    let header = request.headers.only("authorization").map_err(|DuplicateHeader| twice())?;
    match header {
        // Payload format 2.0 joins headers of one name with commas. Base64 has none.
        Some(value) if value.contains(',') => Err(twice()),
        header => Ok(header),
    }
}

/// RFC 6749 §2.3: "The client MUST NOT use more than one authentication method in each request." With an assertion
/// among them, RFC 7521 §4.2.1 names `invalid_client`. The ones that are not supported are named when they are alone.
fn refuse_other_mechanisms(form: &Form, authenticated_otherwise: bool) -> Result<(), Refusal> {
    let secret = form.get("client_secret").is_some();
    let assertion = form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some();
    match (assertion, secret) {
        (true, _) if authenticated_otherwise || secret => {
            Err(Refusal::invalid_client("more than one client authentication, a client_assertion among them"))
        }
        (true, _) => Err(Refusal::invalid_client("client_assertion is not supported yet")),
        (false, true) if authenticated_otherwise => {
            Err(Refusal::invalid_request("more than one client authentication"))
        }
        (false, true) => {
            Err(Refusal::invalid_client("client_secret_post is not supported yet; use client_secret_basic"))
        }
        (false, false) => Ok(()),
    }
}

/// Some clients send `client_id` along; it must not name another client.
fn refuse_other_client_id(form: &Form, id: &str) -> Result<(), Refusal> {
    match form.get("client_id") {
        Some(other) if other != id => Err(Refusal::invalid_request("client_id is not the client that authenticates")),
        _ => Ok(()),
    }
}

/// RFC 6749 §2.3.1: "The client identifier is encoded using the 'application/x-www-form-urlencoded' encoding
/// algorithm [...], and the encoded value is used as the username; the client secret is encoded using the same
/// algorithm and used as the password." RFC 7617 §2: split at the first colon.
fn basic(header: &str) -> Option<(String, Secret<String>)> {
    if header.len() > MAX_AUTHORIZATION_BYTES {
        return None;
    }
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim_matches(' ')).ok()?;
    let decoded = Secret::new(String::from_utf8(decoded).ok()?);
    let (id, secret) = decoded.expose().split_once(':')?;
    Some((decode(id)?, Secret::new(decode(secret)?)))
}

/// The record's hashes as bytes. A record that breaks its own form authenticates nobody.
fn hashes(record: &ClientRecord, id: &str) -> Result<Vec<[u8; SHA256_BYTES]>, Refusal> {
    let malformed = |why: &str| Refusal::internal(format!("the record of the client {id}: {why}"));
    if record.client_id != id {
        return Err(malformed("it names another client"));
    }
    if record.secret_hashes.is_empty() || record.secret_hashes.len() > MAX_SECRETS {
        return Err(malformed("expected one or two secret hashes"));
    }
    record
        .secret_hashes
        .iter()
        .map(|hash| crate::unhex(hash).ok_or_else(|| malformed("a secret hash is not 64 hexadecimal digits")))
        .collect()
}

/// Compares with every hash, in constant time each.
fn matches_any(presented: &[u8], hashes: &[[u8; SHA256_BYTES]]) -> bool {
    hashes.iter().fold(false, |matched, hash| verify_slices_are_equal(presented, hash).is_ok() | matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: &str, secret: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
    }

    #[test]
    fn both_halves_are_form_decoded() {
        for (id, secret, expected) in [
            ("reader", "s3cret", Some(("reader", "s3cret"))),
            ("a%2Bb", "c%25d", Some(("a+b", "c%d"))),
            ("a+b", "c+d", Some(("a b", "c d"))),
            ("a%3Ab", "c:d%3Ae", Some(("a:b", "c:d:e"))),
            ("caf%C3%A9", "%E2%82%AC", Some(("café", "€"))),
            ("café", "€", Some(("café", "€"))),
            ("a", "", Some(("a", ""))),
            ("", "b", Some(("", "b"))),
            ("a", "100%", None),
            ("a%zz", "b", None),
            ("a", "%FF", None),
        ] {
            let parsed = basic(&header(id, secret));
            let parsed = parsed.as_ref().map(|(id, s)| (id.as_str(), s.expose().as_str()));
            assert_eq!(parsed, expected, "{id}:{secret}");
        }
    }

    #[test]
    fn headers_that_are_not_basic() {
        let good = STANDARD.encode("a:b");
        for header in [
            String::new(),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            format!("Bearer {good}"),
            format!("Basic{good}"),
            format!("Basic {good}x"),
            format!("Basic {}", STANDARD.encode("no colon")),
            format!("Basic {}", STANDARD.encode([0xff, b':', b'a'])),
            format!("Basic {}", STANDARD.encode(format!("a:{}", "b".repeat(MAX_AUTHORIZATION_BYTES)))),
        ] {
            assert!(basic(&header).is_none(), "{header}");
        }
        assert!(basic(&format!("bASIC {good}")).is_some(), "the scheme has no case");
    }

    #[test]
    fn every_hash_is_compared() {
        let (a, b) = ([1; 32], [2; 32]);
        assert!(matches_any(&a, &[a, b]));
        assert!(matches_any(&b, &[a, b]));
        assert!(!matches_any(&[3; 32], &[a, b]));
        assert!(!matches_any(&a[..31], &[a, b]));
        assert!(!matches_any(&a, &[]));
    }
}
