//! One DPoP proof: the checks of RFC 9449 §4.3, but for those that need the request's headers and the table.

use std::collections::BTreeMap;

use authz::claims::TOKEN_LIMITS;
use authz::jwt::{UnverifiedJws, read_time};
use authz::{Json, Jwks, KeyOrigin, Mode};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ALGORITHMS, uri};

/// How long a proof is accepted, in seconds: for clocks that are behind and connections that are slow.
pub(super) const PAST_SECONDS: u64 = 300;

/// How far a client's clock may be ahead, in seconds.
pub(super) const FUTURE_SECONDS: u64 = 60;

/// The longest `jti`, in bytes.
const MAX_JTI_BYTES: usize = 256;

/// A proof that is right in all but one thing: whether it was used before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The RFC 7638 thumbprint of its key.
    pub(super) jkt: String,
    pub(super) jti: String,
    /// Until when it would be accepted, in seconds since 1970.
    pub(super) until: u64,
}

/// Checks a proof for a request of `method` to one of `endpoints`, at `now`, in seconds since 1970.
///
/// # Errors
/// Says which check failed.
pub(super) fn check(text: &str, method: &str, endpoints: &[String], now: u64) -> Result<Proof, String> {
    // Check 2: "The DPoP HTTP request header field value is a single and well-formed JWT."
    let jws = UnverifiedJws::parse(text, Mode::Strict).map_err(|refusal| refusal.detail.replace("token", "proof"))?;
    // Check 4.
    if jws.unverified_type() != Some("dpop+jwt") {
        return Err("its typ is not dpop+jwt".to_owned());
    }
    // Check 5: "The alg JOSE Header Parameter indicates a registered asymmetric digital signature algorithm".
    if !ALGORITHMS.contains(&jws.unverified_algorithm().name()) {
        return Err("its alg is not an asymmetric one that we know".to_owned());
    }
    // Checks 6 and 7, in one: the set is read as a public one, which has neither private members nor symmetric keys.
    let header = jws.unverified_header();
    let jwk = to_value(header.get("jwk").ok_or("its header has no jwk")?);
    let keys = Jwks::parse(&json!({"keys": [jwk]}).to_string(), KeyOrigin::Fetched)
        .map_err(|error| error.to_string().replace("key set", "jwk"))?;
    if let Some(skipped) = keys.skipped().first() {
        return Err(format!("its jwk cannot be used: {}", skipped.why));
    }
    jws.verify(&keys).map_err(|_| "its signature is not one of its jwk")?;
    let jkt = thumbprint(&jwk).ok_or("its jwk has no thumbprint")?;

    // Check 3: "All required claims per Section 4.2 are contained in the JWT."
    let claims = Json::parse(jws.unverified_payload(), TOKEN_LIMITS).map_err(|error| format!("claims: {error}"))?;
    let text = |name: &str| {
        claims.get(name).and_then(Json::as_str).ok_or_else(|| format!("{name} is missing or not a string"))
    };
    // Check 8.
    if text("htm")? != method {
        return Err(format!("htm is not {method}"));
    }
    // Check 9.
    let htu = uri::normal(text("htu")?).ok_or("htu is no http URI")?;
    if !endpoints.iter().filter_map(|endpoint| uri::normal(endpoint)).any(|endpoint| endpoint == htu) {
        return Err("htu is not the URL of this token endpoint".to_owned());
    }
    // Check 11: "The creation time of the JWT, as determined by either the iat claim or a server managed timestamp via
    // the nonce claim, is within an acceptable window".
    let iat = read_time(&claims, "iat").map_err(|_| "iat is not a time")?.ok_or("iat is missing")?;
    if iat > now.saturating_add(FUTURE_SECONDS) {
        return Err("iat is in the future".to_owned());
    }
    if now > iat.saturating_add(PAST_SECONDS) {
        return Err(format!("iat is more than {PAST_SECONDS} seconds ago"));
    }
    let jti = text("jti")?;
    if !(1..=MAX_JTI_BYTES).contains(&jti.len()) {
        return Err(format!("jti is not 1 to {MAX_JTI_BYTES} bytes long"));
    }
    Ok(Proof { jkt, jti: jti.to_owned(), until: iat.saturating_add(PAST_SECONDS + 1) })
}

/// RFC 7638 §3: SHA-256 over the required members in lexicographic order. The set's parser has seen to it that there is
/// one spelling of each.
fn thumbprint(jwk: &Value) -> Option<String> {
    let required: &[&str] = match jwk.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let members: Option<BTreeMap<&str, &str>> =
        required.iter().map(|name| Some((*name, jwk.get(*name)?.as_str()?))).collect();
    let json = serde_json::to_vec(&members?).ok()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &json)))
}

fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => json!(value),
        Json::Unsigned(value) => json!(value),
        Json::Float(value) => json!(value),
        Json::String(value) => json!(value),
        Json::List(list) => list.iter().map(to_value).collect(),
        Json::Object(members) => members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
    }
}

#[cfg(test)]
mod tests;
