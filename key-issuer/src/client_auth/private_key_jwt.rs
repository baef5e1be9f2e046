//! `private_key_jwt`: an assertion that the client signs (RFC 7521 §4.2, RFC 7523 §2.2 and §3, with what
//! draft-ietf-oauth-rfc7523bis says of its audience).

use authz::claims::TOKEN_LIMITS;
use authz::jwt::{UnverifiedJws, read_time};
use authz::{Json, Jwks, KeyOrigin, Mode, Reason};
use serde_json::Value;

use super::{ALGORITHMS, broken_record, refused};
use crate::client::{AssertionAudience, Authentication, ClientRecord, ClientState};
use crate::form::Form;
use crate::refusal::Refusal;
use crate::routes::TOKEN_PATH;
use crate::{Inner, replay};

/// The one type of client assertions.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far a client's clock and ours may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// How long an assertion may live, in seconds. RFC 7523 §3: "The authorization server may reject JWTs with an 'exp'
/// claim value that is unreasonably far in the future". Libraries make them for a minute to an hour; since each is
/// good for one request, an hour is no longer a key than a minute.
const MAX_LIFE_SECONDS: u64 = 3600;

/// The longest `jti`, in bytes.
const MAX_JTI_BYTES: usize = 256;

/// Public keys whose private halves nobody has, one for each kind: a client without keys costs a verification too, so
/// that the time does not tell which clients exist.
const DECOY_KEYS: &str = include_str!("decoy_keys.json");

/// Whether the form has an assertion, or half of one.
pub(super) fn is_present(form: &Form) -> bool {
    form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some()
}

/// A client assertion that was read. Nothing in it is proven.
pub(super) struct Assertion<'f> {
    jws: UnverifiedJws<'f>,
    claims: Json,
    client_id: String,
}

/// An assertion that is right in all but one thing: whether it was used before.
#[derive(Debug, PartialEq, Eq)]
struct Fresh {
    jti: String,
    /// Until when it would be accepted, in seconds since 1970.
    until: u64,
}

impl<'f> Assertion<'f> {
    /// Reads the form. What is refused here is the caller's own text and says nothing about any client.
    pub(super) fn read(form: &'f Form) -> Result<Self, Refusal> {
        let missing = |name: &str| Refusal::invalid_request(format!("{name} is missing"));
        let assertion = form.get("client_assertion").ok_or_else(|| missing("client_assertion"))?;
        let kind = form.get("client_assertion_type").ok_or_else(|| missing("client_assertion_type"))?;
        if kind != ASSERTION_TYPE {
            return Err(Refusal::invalid_request("the only client_assertion_type is that of jwt-bearer"));
        }
        let assertion = Self::parse(assertion).map_err(invalid)?;
        match form.get("client_id") {
            // RFC 7521 §4.2: "If present, the value of the 'client_id' parameter MUST identify the same client as is
            // identified by the client assertion."
            Some(other) if other != assertion.client_id => {
                Err(invalid("client_id is not the client of the assertion".to_owned()))
            }
            _ => Ok(assertion),
        }
    }

    fn parse(text: &'f str) -> Result<Self, String> {
        // At most 8 KiB, three parts, no member twice, no `crit`, no `b64`.
        let jws = UnverifiedJws::parse(text, Mode::Strict).map_err(|refusal| match refusal.reason {
            Reason::TokenAlgorithm => "its alg is not an asymmetric one that we know".to_owned(),
            _ => refusal.detail.replace("token", "assertion"),
        })?;
        check_header(&jws)?;
        let claims = Json::parse(jws.unverified_payload(), TOKEN_LIMITS).map_err(|error| format!("claims: {error}"))?;
        // RFC 7523 §3: "For client authentication, the subject MUST be the 'client_id' of the OAuth client", and the
        // issuer is the client as well, for it has nobody else issue its assertions.
        let (issuer, subject) = (claims.get("iss"), claims.get("sub").and_then(Json::as_str));
        let client_id = match subject {
            Some(subject) if issuer.and_then(Json::as_str) == Some(subject) => subject.to_owned(),
            _ => return Err("iss and sub are not both the client_id".to_owned()),
        };
        Ok(Self { jws, claims, client_id })
    }

    /// The client that it names.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The record, if the assertion is of this client, for us, for now, and the first of its id.
    pub(super) async fn prove(
        &self,
        issuer: &Inner,
        record: Option<ClientRecord>,
        now: u64,
    ) -> Result<ClientRecord, Refusal> {
        let (record, fresh) = self.check(issuer, record, now)?;
        // The last check, for an assertion that is refused for something else must not use its id up: whoever could
        // make others send us their assertions for other servers would use up ids of theirs.
        let id = format!("{}\n{}", record.client_id, fresh.jti);
        if !replay::burn(issuer, "client_assertion", &id, fresh.until).await? {
            let detail = format!("the client {} sent an assertion twice", record.client_id);
            return Err(invalid("it was used before".to_owned()).with_detail(detail));
        }
        Ok(record)
    }

    /// Whether it is right by this record in all but one thing: whether it was used before. Nothing is used up.
    pub(super) fn is_right(&self, issuer: &Inner, record: Option<ClientRecord>, now: u64) -> bool {
        self.check(issuer, record, now).is_ok()
    }

    fn check(&self, issuer: &Inner, record: Option<ClientRecord>, now: u64) -> Result<(ClientRecord, Fresh), Refusal> {
        let record = self.check_signature(record)?;
        let audiences = audiences(issuer, record.assertion_audience);
        // From here on the caller has the client's key, and may know what is wrong.
        let fresh = self.check_claims(&audiences, now).map_err(|why| {
            let detail = format!("the client {} sent an assertion: {why}", record.client_id);
            invalid(why).with_detail(detail)
        })?;
        Ok((record, fresh))
    }

    fn check_signature(&self, record: Option<ClientRecord>) -> Result<ClientRecord, Refusal> {
        let usable = record.as_ref().filter(|record| {
            record.state == ClientState::Active && record.authentication == Authentication::PrivateKeyJwt
        });
        let verified = match usable {
            Some(record) => verify(&self.jws, record.jwks.as_ref(), &record.assertion_algorithms)
                .map_err(|why| broken_record(&record.client_id, &why))?,
            None => Err(Reason::TokenKeyUnknown),
        };
        if verified.is_err_and(|reason| reason != Reason::TokenSignature) {
            // Nothing was computed yet, see `DECOY_KEYS`.
            let decoys = Jwks::parse(DECOY_KEYS, KeyOrigin::Fetched).map_err(|e| Refusal::internal(e.to_string()))?;
            let _ = self.jws.verify(&decoys);
        }
        match (record, verified) {
            (None, _) => Err(refused(None, "")),
            (Some(record), Ok(())) => Ok(record),
            (Some(record), _) if record.state != ClientState::Active => Err(refused(Some(&record), "is disabled")),
            (Some(record), _) if record.authentication != Authentication::PrivateKeyJwt => {
                Err(refused(Some(&record), "has another method"))
            }
            (Some(record), Err(reason)) => Err(refused(Some(&record), &format!("sent an assertion: {reason}"))),
        }
    }

    /// All that can be checked without a table.
    fn check_claims(&self, audiences: &[String], now: u64) -> Result<Fresh, String> {
        let audience = match self.claims.get("aud") {
            Some(Json::String(one)) => Some(one),
            // draft-ietf-oauth-rfc7523bis: it must be the only value. An assertion that is for others as well could be
            // sent to us by one of them.
            Some(Json::List(list)) => match list.as_slice() {
                [Json::String(one)] => Some(one),
                _ => None,
            },
            _ => None,
        };
        if !audience.is_some_and(|audience| audiences.contains(audience)) {
            return Err(format!("aud is not {} alone", audiences.join(" or ")));
        }
        let time = |name: &str| read_time(&self.claims, name).map_err(|_| format!("{name} is not a time"));
        let exp = time("exp")?.ok_or("exp is missing")?;
        if now > exp.saturating_add(LEEWAY_SECONDS) {
            return Err("it has expired".to_owned());
        }
        if exp > now.saturating_add(MAX_LIFE_SECONDS + LEEWAY_SECONDS) {
            return Err(format!("exp is more than {MAX_LIFE_SECONDS} seconds ahead"));
        }
        if time("nbf")?.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY_SECONDS)) {
            return Err("it is not valid yet".to_owned());
        }
        if let Some(iat) = time("iat")? {
            if iat > now.saturating_add(LEEWAY_SECONDS) {
                return Err("iat is in the future".to_owned());
            }
            // RFC 7523 §3: "The authorization server may reject JWTs with an 'iat' claim value that is unreasonably far
            // in the past".
            if now > iat.saturating_add(MAX_LIFE_SECONDS + LEEWAY_SECONDS) {
                return Err(format!("iat is more than {MAX_LIFE_SECONDS} seconds ago"));
            }
        }
        match self.claims.get("jti").and_then(Json::as_str) {
            Some(jti) if (1..=MAX_JTI_BYTES).contains(&jti.len()) => {
                Ok(Fresh { jti: jti.to_owned(), until: exp.saturating_add(LEEWAY_SECONDS + 1) })
            }
            _ => Err(format!("jti is not a string of 1 to {MAX_JTI_BYTES} bytes")),
        }
    }
}

/// What `aud` may be, compared byte for byte.
fn audiences(issuer: &Inner, policy: AssertionAudience) -> Vec<String> {
    let config = &issuer.config;
    let mut audiences = vec![config.issuer.clone()];
    if policy == AssertionAudience::IssuerOrTokenEndpoint {
        let hosts = std::iter::once(&config.issuer).chain(&config.mtls_issuer);
        audiences.extend(hosts.map(|host| format!("{host}{TOKEN_PATH}")));
    }
    audiences
}

/// What of the header is wrong whoever the client is.
fn check_header(jws: &UnverifiedJws<'_>) -> Result<(), String> {
    // Keys are the registered ones alone, never one that the assertion brings along or points to.
    let header = jws.unverified_header();
    if let Some(name) = ["jku", "x5u", "jwk"].into_iter().find(|name| header.get(name).is_some()) {
        return Err(format!("its header has \"{name}\""));
    }
    if !ALGORITHMS.contains(&jws.unverified_algorithm().name()) {
        return Err("its alg is not an asymmetric one that we know".to_owned());
    }
    // RFC 8725 §3.11; the type is that of draft-ietf-oauth-rfc7523bis. Clients of today send none or `JWT`; what has
    // another type was signed for something else.
    let typ = jws.unverified_type().unwrap_or("JWT");
    if !["JWT", "client-authentication+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)) {
        return Err("its typ is another one than client-authentication+jwt".to_owned());
    }
    Ok(())
}

/// Verifies the signature with a client's keys and the algorithms that are registered for it; none registered allows
/// every asymmetric one.
///
/// # Errors
/// What is wrong with the keys; inside, why the signature is not accepted.
fn verify(jws: &UnverifiedJws<'_>, jwks: Option<&Value>, registered: &[String]) -> Result<Result<(), Reason>, String> {
    let keys = jwks.ok_or("it has no jwks")?.to_string();
    // As a fetched set: a symmetric key in it is no public key.
    let keys = Jwks::parse(&keys, KeyOrigin::Fetched).map_err(|error| error.to_string())?;
    if !registered.is_empty() && !registered.iter().any(|name| name == jws.unverified_algorithm().name()) {
        return Ok(Err(Reason::TokenAlgorithm));
    }
    Ok(jws.verify(&keys).map(|_| ()).map_err(|refusal| refusal.reason))
}

/// RFC 7521 §4.2.1: "the value of the 'error' parameter MUST be the 'invalid_client' error code".
fn invalid(why: String) -> Refusal {
    Refusal::invalid_client(format!("the client_assertion is not accepted: {why}"))
}

#[cfg(test)]
mod tests;
