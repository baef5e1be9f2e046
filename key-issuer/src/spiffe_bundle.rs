//! `GET /spiffe-bundle.json`: the trust domain's roots and the keys of its JWT-SVIDs, in SPIFFE's bundle format
//! (SPIFFE Trust Domain and Bundle, section 4). The profile of the endpoint is `https_web`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use crate::event::{Request, Response};
use crate::refusal::Refusal;
use crate::signing_key::{MAX_KEYS, SigningKeys};
use crate::{Algorithm, Inner, jwks};

/// How soon a consumer should come again, in seconds. Istio comes every 30 minutes whatever is said here.
const REFRESH_HINT_SECONDS: u64 = 300;
/// How far apart the sequence numbers of two versions of a secret are: more than there are keys that can retire.
const STEPS_OF_A_VERSION: u64 = 16;
const _: () = assert!((MAX_KEYS as u64) < STEPS_OF_A_VERSION);

/// Answers a request for the bundle.
pub(crate) async fn answer(issuer: &Inner, request: &Request) -> Result<Response, Refusal> {
    let now = issuer.deps.clock.unix();
    let (keys, keys_made_at) = issuer.dated_signing_keys().await?;
    let authority = issuer.dated_authority().await?;
    let mut entries = Vec::new();
    for root in authority.iter().flat_map(|(authority, _)| authority.roots()) {
        entries.push(x509_entry(root).map_err(Refusal::internal)?);
    }
    entries.extend(jwt_entries(&keys, now).map_err(|error| Refusal::internal(error.to_string()))?);
    let authority_made_at = authority.map_or(0, |(_, made_at)| made_at);
    let document = json!({
        "keys": entries,
        "spiffe_sequence": sequence(authority_made_at, keys_made_at, &keys, now),
        "spiffe_refresh_hint": REFRESH_HINT_SECONDS,
    });
    Ok(jwks::conditional(&keys, document.to_string(), request, now))
}

/// "The sequence number [...] MUST be changed whenever the contents of the bundle are updated", and only grows.
///
/// What the bundle holds changes when one of the two secrets gets another version, and when a key retires. The store
/// dates versions, so the sum of the two dates grows with each of them; the number of keys that have retired grows in
/// between. Every environment comes to the same number from the same versions, and one that still holds an older
/// version comes to a smaller one. Putting the label AWSCURRENT back to an older version is the one thing that makes
/// it smaller: to go back, put the older value as a new version.
fn sequence(authority_made_at: u64, keys_made_at: u64, keys: &SigningKeys, now: u64) -> u64 {
    let retired = keys.all().iter().filter(|key| !key.is_published(now)).count();
    let versions = authority_made_at.saturating_add(keys_made_at).saturating_mul(STEPS_OF_A_VERSION);
    versions.saturating_add(u64::try_from(retired).unwrap_or(0))
}

/// "x509-svid" entries: "the x5c parameter MUST be set [...] exactly one element", DER in base64 with padding (RFC 7517
/// §4.7). The kid is left out: nothing refers to it.
fn x509_entry(root: &CertificateDer<'_>) -> Result<Value, String> {
    let Ok(([], certificate)) = X509Certificate::from_der(root) else {
        return Err("a root of the authority cannot be read".to_owned());
    };
    let mut entry = key_members(&certificate).ok_or("a root of the authority has a key of an unknown type")?;
    entry["use"] = json!("x509-svid");
    entry["x5c"] = json!([STANDARD.encode(root)]);
    Ok(entry)
}

/// The members of the certificate's key as a JWK (RFC 7518 §6, RFC 8037 §2).
fn key_members(certificate: &X509Certificate<'_>) -> Option<Value> {
    let spki = certificate.public_key();
    let key: &[u8] = &spki.subject_public_key.data;
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let (_, rsa) = RSAPublicKey::from_der(key).ok()?;
        // Base64urlUInt: without the octet that keeps DER's integers positive.
        let unsigned = |integer: &[u8]| URL_SAFE_NO_PAD.encode(integer.strip_prefix(&[0]).unwrap_or(integer));
        return Some(json!({"kty": "RSA", "n": unsigned(rsa.modulus), "e": unsigned(rsa.exponent)}));
    }
    if *algorithm == OID_SIG_ED25519 {
        return Some(json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key)}));
    }
    if *algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let names = [(OID_EC_P256, "P-256", 32), (OID_NIST_EC_P384, "P-384", 48), (OID_NIST_EC_P521, "P-521", 66)];
    let (_, crv, length) = names.into_iter().find(|(oid, ..)| *oid == curve)?;
    let (x, y) = key.strip_prefix(&[4]).filter(|point| point.len() == 2 * length)?.split_at(length);
    Some(json!({"kty": "EC", "crv": crv, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}))
}

/// "jwt-svid" entries: "the kid parameter MUST be set". Keys to come are in it before they sign.
fn jwt_entries(keys: &SigningKeys, now: u64) -> Result<Vec<Value>, serde_json::Error> {
    let usable = keys.all().iter().filter(|key| key.is_published(now) && key.algorithm != Algorithm::EdDsa);
    usable
        .map(|key| {
            let mut entry = serde_json::to_value(&key.jwk)?;
            entry["use"] = json!("jwt-svid");
            Ok(entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::signing_key::{SecretFile, SecretKey};

    const NOW: u64 = 1_893_456_000;

    #[test]
    fn roots_of_every_type_have_their_members() {
        for (algorithm, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, vec!["crv", "kty", "use", "x", "x5c", "y"]),
            (&rcgen::PKCS_ECDSA_P384_SHA384, vec!["crv", "kty", "use", "x", "x5c", "y"]),
            (&rcgen::PKCS_ECDSA_P521_SHA512, vec!["crv", "kty", "use", "x", "x5c", "y"]),
            (&rcgen::PKCS_ED25519, vec!["crv", "kty", "use", "x", "x5c"]),
            (&rcgen::PKCS_RSA_SHA256, vec!["e", "kty", "n", "use", "x5c"]),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let root = CertificateParams::default().self_signed(&key).unwrap();
            let entry = x509_entry(root.der()).unwrap();
            let mut members: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
            members.sort_unstable();
            assert_eq!(members, expected, "{algorithm:?}");
        }
    }

    #[test]
    fn whatever_changes_makes_the_sequence_grow() {
        let keep = SecretKey::generate(Algorithm::Es256, None).unwrap();
        let retires = SecretKey { retire_at: Some(NOW + 100), ..SecretKey::generate(Algorithm::Rs256, None).unwrap() };
        let keys = |keys: &[&SecretKey]| {
            SigningKeys::from_file(&SecretFile { keys: keys.iter().map(|key| (*key).clone()).collect() }).unwrap()
        };
        let (before, after) = (keys(&[&keep, &retires]), keys(&[&keep]));
        let numbers = [
            sequence(1000, 2000, &before, NOW),
            // A key retires.
            sequence(1000, 2000, &before, NOW + 100),
            // A second later somebody takes it out of the secret.
            sequence(1000, 2001, &after, NOW + 101),
            // Another authority.
            sequence(1001, 2001, &after, NOW + 102),
        ];
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(sequence(1000, 2000, &before, NOW), sequence(1000, 2000, &before, NOW + 99));
        // Of two secrets that change, an environment that knows one change only is behind one that knows both.
        assert!(sequence(1001, 2000, &before, NOW) < sequence(1001, 2001, &after, NOW));
        assert!(sequence(1000, 2001, &after, NOW) < sequence(1001, 2001, &after, NOW));
        // A JSON number that every reader holds exactly.
        assert!(sequence(4_000_000_000, 4_000_000_000, &before, NOW) < 1 << 53);
    }

    #[test]
    fn keys_that_no_jwt_svid_may_have_are_left_out() {
        let made = Algorithm::ALL.map(|algorithm| SecretKey::generate(algorithm, None).unwrap());
        let keys = SigningKeys::from_file(&SecretFile { keys: made.to_vec() }).unwrap();
        let entries = jwt_entries(&keys, NOW).unwrap();
        let algorithms: Vec<&str> = entries.iter().map(|entry| entry["alg"].as_str().unwrap()).collect();
        assert_eq!(algorithms, ["ES256", "RS256"]);
        assert!(entries.iter().all(|entry| entry["use"] == "jwt-svid" && entry["kid"].is_string()));
        assert!(entries.iter().all(|entry| entry.get("d").is_none()));
    }
}
