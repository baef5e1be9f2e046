//! The members of a client that administrators set, and what each of them may be.

use authz::jwk::Algorithm as SignatureAlgorithm;
use authz::{Json, Jwks, KeyOrigin, Mode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::Body;
use crate::admin::body::{to_value, wrong};
use crate::client::{Authentication, CertificateName, ClientRecord};
use crate::client_auth::tls_client_auth;
use crate::refusal::Refusal;
use crate::registry::is_scope_token;
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;

/// The members that `PATCH` takes.
pub(super) const KNOWN: [&str; 15] = [
    "authentication",
    "jwks",
    "assertion_algorithms",
    "assertion_audience",
    "certificate",
    "scopes",
    "audiences",
    "grants",
    "token_algorithm",
    "token_ttl_seconds",
    "dpop_bound_access_tokens",
    "tls_client_certificate_bound_access_tokens",
    "may_act",
    "introspects_all",
    "state",
];

/// And `POST`.
pub(super) const KNOWN_AT_CREATION: [&str; 16] = {
    let mut all = ["client_id"; 16];
    let mut place = 0;
    while place < KNOWN.len() {
        all[place + 1] = KNOWN[place];
        place += 1;
    }
    all
};

/// The grants that a client may have, by their OAuth names.
pub(crate) const GRANTS: [&str; 3] =
    ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token"];

pub(super) const CLIENT_ID_RULE: &str =
    "expected 1 to 128 letters, digits, '-', '_', '.' and '~', and no '.' at the beginning";

const MAX_ENTRIES: usize = 100;
const MAX_SCOPE_BYTES: usize = 128;
const MAX_AUDIENCE_BYTES: usize = 512;
const MAX_NAME_BYTES: usize = 1024;
const MAX_JWKS_KEYS: usize = 20;
const SHORTEST_TTL: u64 = 60;
/// RFC 7518 §6: what only the owner of a key has.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A new client's id stands in paths, so it has the characters that need no encoding there (RFC 3986 §2.3).
pub(super) fn is_new_client_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
}

/// Puts the members of `body` into the record.
///
/// # Errors
/// 400 with the member that is of another type.
pub(super) fn apply(record: &mut ClientRecord, body: &Body) -> Result<(), Refusal> {
    if let Some(word) =
        word(body, "authentication", "client_secret, private_key_jwt, tls_client_auth or self_signed_tls_client_auth")?
    {
        record.authentication = word;
    }
    if let Some(jwks) = body.get("jwks") {
        record.jwks = optional(jwks).map(to_value);
    }
    if let Some(list) = body.list("assertion_algorithms")? {
        record.assertion_algorithms = list;
    }
    if let Some(word) = word(body, "assertion_audience", "issuer_only or issuer_or_token_endpoint")? {
        record.assertion_audience = word;
    }
    if let Some(certificate) = body.get("certificate") {
        record.certificate = optional(certificate).map(certificate_name).transpose()?;
    }
    if let Some(list) = body.list("scopes")? {
        record.scopes = list;
    }
    if let Some(list) = body.list("audiences")? {
        record.audiences = list;
    }
    if let Some(list) = body.list("grants")? {
        record.grants = list;
    }
    if body.is_null("token_algorithm") {
        record.token_algorithm = None;
    } else if let Some(word) = word(body, "token_algorithm", "RS256, ES256 or EdDSA")? {
        record.token_algorithm = Some(word);
    }
    if body.get("token_ttl_seconds").is_some() {
        record.token_ttl_seconds = body.number("token_ttl_seconds")?;
    }
    if let Some(flag) = body.flag("dpop_bound_access_tokens")? {
        record.dpop_bound_access_tokens = flag;
    }
    if let Some(flag) = body.flag("tls_client_certificate_bound_access_tokens")? {
        record.tls_client_certificate_bound_access_tokens = flag;
    }
    if let Some(list) = body.list("may_act")? {
        record.may_act = list;
    }
    if let Some(flag) = body.flag("introspects_all")? {
        record.introspects_all = flag;
    }
    if let Some(word) = word(body, "state", "active or disabled")? {
        record.state = word;
    }
    Ok(())
}

/// Refuses a client that would become one of the IAM door.
///
/// # Errors
/// 400 with the member.
pub(super) fn refuse_iam(record: &ClientRecord) -> Result<(), Refusal> {
    match record.authentication {
        Authentication::Iam => Err(wrong(
            "authentication",
            "clients of the IAM door are in the registry of roles (CAUSEWAY_REGISTRY), not in this table",
        )),
        _ => Ok(()),
    }
}

/// Checks a change of the client of an IAM role. With another method the role's door would be closed, and without
/// scopes or audiences of its own the client would have all of the registry's.
///
/// # Errors
/// 400 with the member and the rule.
pub(super) fn check_of_role(record: &ClientRecord, body: &Body) -> Result<(), Refusal> {
    if body.get("authentication").is_some() && record.authentication != Authentication::Iam {
        return Err(wrong("authentication", "expected iam: this is the client of an IAM role (CAUSEWAY_REGISTRY)"));
    }
    for (name, list) in [("scopes", &record.scopes), ("audiences", &record.audiences)] {
        if body.get(name).is_some() && list.is_empty() {
            let rule = "expected at least one: without any, those of the registry count; disable the client instead";
            return Err(wrong(name, rule));
        }
    }
    Ok(())
}

/// Checks the record as a whole.
///
/// # Errors
/// 400 with the member and the rule.
pub(super) fn validate(record: &ClientRecord) -> Result<(), Refusal> {
    scopes(&record.scopes)?;
    audiences(&record.audiences)?;
    each("grants", &record.grants, |grant| {
        (!GRANTS.contains(&grant)).then(|| format!("expected some of {}", GRANTS.join(", ")))
    })?;
    each("may_act", &record.may_act, |id| {
        (!crate::registry::is_client_id(id)).then(|| "expected client ids of 1 to 128 bytes".to_owned())
    })?;
    each("assertion_algorithms", &record.assertion_algorithms, |name| {
        let asymmetric = SignatureAlgorithm::from_name(name).is_some() && !name.starts_with("HS");
        (!asymmetric).then(|| "expected names of asymmetric signature algorithms, such as ES256".to_owned())
    })?;
    if record.token_ttl_seconds.is_some_and(|ttl| !(SHORTEST_TTL..=MAX_TOKEN_LIFE_SECONDS).contains(&ttl)) {
        return Err(wrong("token_ttl_seconds", format!("expected {SHORTEST_TTL} to {MAX_TOKEN_LIFE_SECONDS} seconds")));
    }
    // A member that the method never looks at is a mistake about what the client is.
    let needs_jwks =
        matches!(record.authentication, Authentication::PrivateKeyJwt | Authentication::SelfSignedTlsClientAuth);
    match (&record.jwks, needs_jwks) {
        (None, true) => return Err(wrong("jwks", "is missing; this authentication needs the client's public keys")),
        (Some(_), false) => return Err(wrong("jwks", "expected none with this authentication")),
        (Some(jwks), true) => check_jwks(jwks, record.authentication)?,
        (None, false) => {}
    }
    match (&record.certificate, record.authentication) {
        (None, Authentication::TlsClientAuth) => {
            Err(wrong("certificate", "is missing; expected exactly one name, such as {'san_dns': 'a.example'}"))
        }
        (Some(name), Authentication::TlsClientAuth) => check_name(name),
        (Some(_), _) => Err(wrong("certificate", "expected none with this authentication")),
        (None, _) => Ok(()),
    }?;
    match (!record.assertion_algorithms.is_empty(), record.authentication) {
        (true, authentication) if authentication != Authentication::PrivateKeyJwt => {
            Err(wrong("assertion_algorithms", "expected none with this authentication"))
        }
        _ => Ok(()),
    }
}

/// Scopes by their grammar.
pub(crate) fn scopes(scopes: &[String]) -> Result<(), Refusal> {
    each("scopes", scopes, |scope| {
        let fits = is_scope_token(scope) && scope.len() <= MAX_SCOPE_BYTES;
        (!fits).then(|| "expected scope tokens (RFC 6749 section 3.3) of at most 128 bytes".to_owned())
    })
}

/// Audiences: any text that is one line.
pub(crate) fn audiences(audiences: &[String]) -> Result<(), Refusal> {
    each("audiences", audiences, |audience| {
        let fits = (1..=MAX_AUDIENCE_BYTES).contains(&audience.len()) && !audience.chars().any(char::is_control);
        (!fits).then(|| "expected texts of 1 to 512 bytes without control characters".to_owned())
    })
}

fn each(name: &str, list: &[String], rule: impl Fn(&str) -> Option<String>) -> Result<(), Refusal> {
    if list.len() > MAX_ENTRIES {
        return Err(wrong(name, format!("expected at most {MAX_ENTRIES} entries")));
    }
    for (place, entry) in list.iter().enumerate() {
        if let Some(why) = rule(entry) {
            return Err(wrong(&format!("{name}[{place}]"), why));
        }
        if list.iter().take(place).any(|earlier| earlier == entry) {
            return Err(wrong(&format!("{name}[{place}]"), "is there twice"));
        }
    }
    Ok(())
}

fn optional(json: &Json) -> Option<&Json> {
    (*json != Json::Null).then_some(json)
}

/// One of a closed set of words, as serde spells them.
fn word<T: DeserializeOwned>(body: &Body, name: &str, expected: &str) -> Result<Option<T>, Refusal> {
    let wrong = || wrong(name, format!("expected {expected}"));
    match body.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => serde_json::from_value(Value::String(text.clone())).map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

/// RFC 8705 §2.1.2: "A client using the 'tls_client_auth' authentication method MUST use exactly one of the below metadata
/// parameters".
fn certificate_name(json: &Json) -> Result<CertificateName, Refusal> {
    serde_json::from_value(to_value(json)).map_err(|_| {
        wrong("certificate", "expected exactly one of subject_dn, san_dns, san_uri, san_ip and san_email, a text")
    })
}

fn check_name(name: &CertificateName) -> Result<(), Refusal> {
    let (kind, text) = match name {
        CertificateName::SubjectDn(text) => ("subject_dn", text),
        CertificateName::SanDns(text) => ("san_dns", text),
        CertificateName::SanUri(text) => ("san_uri", text),
        CertificateName::SanIp(text) => ("san_ip", text),
        CertificateName::SanEmail(text) => ("san_email", text),
    };
    let at = format!("certificate.{kind}");
    if !(1..=MAX_NAME_BYTES).contains(&text.len()) || text.chars().any(char::is_control) {
        return Err(wrong(&at, "expected a text of 1 to 1024 bytes without control characters"));
    }
    // What a request of the client would be refused for is refused now.
    tls_client_auth::check(name).map_err(|why| wrong(&at, why))
}

fn check_jwks(jwks: &Value, authentication: Authentication) -> Result<(), Refusal> {
    let keys = jwks.get("keys").and_then(Value::as_array).filter(|keys| (1..=MAX_JWKS_KEYS).contains(&keys.len()));
    let keys = keys.ok_or_else(|| wrong("jwks", format!("expected a JWK set with 1 to {MAX_JWKS_KEYS} keys")))?;
    for (place, key) in keys.iter().enumerate() {
        if let Some(name) = PRIVATE_MEMBERS.iter().find(|name| key.get(name).is_some()) {
            return Err(wrong(
                &format!("jwks.keys[{place}]"),
                format!("holds the private member {name}; this key is known now, make a new one"),
            ));
        }
        let certificates = key.get("x5c").and_then(Value::as_array).is_some_and(|chain| !chain.is_empty());
        if authentication == Authentication::SelfSignedTlsClientAuth && !certificates {
            return Err(wrong(&format!("jwks.keys[{place}].x5c"), "is missing; expected the client's certificate"));
        }
    }
    let read =
        Jwks::parse_as(&jwks.to_string(), KeyOrigin::Fetched, Mode::Strict).map_err(|error| wrong("jwks", error))?;
    match read.skipped().first() {
        Some(_) => Err(wrong("jwks", "has a key of a type or algorithm that is not supported")),
        None => Ok(()),
    }
}
