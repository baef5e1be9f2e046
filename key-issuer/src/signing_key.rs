//! The keys that sign access tokens, out of one secret.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::secret_cache::malformed_json;

/// The most keys of one secret: the active one, one to come, and a few that verifiers may still need.
const MAX_KEYS: usize = 10;

/// A public key as the JWKS document shows it. There is no field for a private member, so none can be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PublicJwk {
    kty: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    pub(crate) kid: String,
    crv: &'static str,
    x: String,
    y: String,
}

/// One ES256 key pair.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    pub(crate) jwk: PublicJwk,
}

/// All keys of the secret. The first one signs, all are published.
pub(crate) struct SigningKeys(Vec<SigningKey>);

/// `{"keys":[{"kid":…,"alg":"ES256","private_key":PKCS#8 PEM}]}`. A field that is not known here, such as the
/// activation times of a rotation, would change which key signs: it is refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretFile {
    keys: Vec<SecretKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretKey {
    kid: String,
    alg: String,
    private_key: String,
}

impl SigningKeys {
    /// Reads the secret and proves each key by a signature that it makes and verifies.
    ///
    /// # Errors
    /// Says which key (by its place) breaks which rule; the text holds nothing of the secret.
    pub(crate) fn from_secret(secret: &str) -> Result<Self, String> {
        let file: SecretFile = serde_json::from_str(secret).map_err(|error| malformed_json(&error))?;
        if file.keys.is_empty() || file.keys.len() > MAX_KEYS {
            return Err(format!("found {} keys, expected 1 to {MAX_KEYS}", file.keys.len()));
        }
        let mut keys = Vec::with_capacity(file.keys.len());
        let mut kids = BTreeSet::new();
        for (place, entry) in file.keys.iter().enumerate() {
            let key = SigningKey::read(entry).map_err(|why| format!("keys[{place}]: {why}"))?;
            // RFC 7517 §4.5: 'different keys within the JWK Set SHOULD use distinct "kid" values'.
            if !kids.insert(key.jwk.kid.clone()) {
                return Err(format!("keys[{place}]: found a key that is listed twice"));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// The key that signs.
    pub(crate) fn active(&self) -> Option<&SigningKey> {
        self.0.first()
    }

    /// What the JWKS document lists.
    pub(crate) fn public(&self) -> Vec<PublicJwk> {
        self.0.iter().map(|key| key.jwk.clone()).collect()
    }
}

impl SigningKey {
    fn read(entry: &SecretKey) -> Result<Self, String> {
        if entry.alg != "ES256" {
            return Err("found another alg than ES256; no other is supported yet".to_owned());
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(entry.private_key.as_bytes())
            .map_err(|_| "private_key is no PKCS#8 PEM (BEGIN PRIVATE KEY)".to_owned())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|_| "private_key is no P-256 key, which ES256 takes".to_owned())?;
        let jwk = public_jwk(pair.public_key().as_ref()).ok_or("private_key has a public half in an unknown form")?;
        if jwk.kid != entry.kid {
            return Err(format!("kid is not the key's RFC 7638 thumbprint, expected {}", jwk.kid));
        }
        let key = Self { pair, jwk };
        let message = b"causeway signing key self-test";
        let signature = key.sign(message)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key())
            .verify(message, &signature)
            .map_err(|_| "the key does not verify its own signature".to_owned())?;
        Ok(key)
    }

    /// A JWS in compact form (RFC 7515 §7.1) with the header `{"alg":"ES256","kid":…,"typ":TYP}`.
    ///
    /// Signed with aws-lc itself and not through a JWT library, which would parse the key for every token.
    pub(crate) fn sign_jws(&self, typ: &str, claims: &impl Serialize) -> Result<String, String> {
        let header = serde_json::json!({"alg": "ES256", "kid": self.jwk.kid, "typ": typ});
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let mut jws = URL_SAFE_NO_PAD.encode(header.to_string());
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut jws);
        let signature = self.sign(jws.as_bytes())?;
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        Ok(jws)
    }

    /// RFC 7518 §3.4: the signature is R and S, 32 octets each, not DER.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| "the key cannot sign".to_owned())
    }
}

/// The JWK of a P-256 public key in its uncompressed form: `04`, X, Y.
pub(crate) fn public_jwk(point: &[u8]) -> Option<PublicJwk> {
    let (&0x04, coordinates) = point.split_first()? else {
        return None;
    };
    if coordinates.len() != 64 {
        return None;
    }
    let (x, y) = coordinates.split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let kid = thumbprint(&BTreeMap::from([("crv", "P-256"), ("kty", "EC"), ("x", &x), ("y", &y)]))?;
    Some(PublicJwk { kty: "EC", usage: "sig", alg: "ES256", kid, crv: "P-256", x, y })
}

/// RFC 7638 §3: SHA-256 over the JSON object of the required members "with no whitespace or line breaks before or
/// after any syntactic elements and with the required members ordered lexicographically".
fn thumbprint(members: &BTreeMap<&str, &str>) -> Option<String> {
    let json = serde_json::to_vec(members).ok()?;
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &json)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::bootstrap::new_signing_secret;

    #[test]
    fn thumbprints_of_the_standards() {
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        assert_eq!(
            thumbprint(&BTreeMap::from([("e", "AQAB"), ("kty", "RSA"), ("n", n)])).unwrap(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        // RFC 8037 appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(
            thumbprint(&BTreeMap::from([("crv", "Ed25519"), ("kty", "OKP"), ("x", x)])).unwrap(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn the_first_key_signs_and_all_are_published() {
        let first: Value = serde_json::from_str(new_signing_secret().unwrap().expose()).unwrap();
        let second: Value = serde_json::from_str(new_signing_secret().unwrap().expose()).unwrap();
        let both = json!({"keys": [first["keys"][0], second["keys"][0]]}).to_string();
        let keys = SigningKeys::from_secret(&both).unwrap();
        assert_eq!(keys.active().unwrap().jwk.kid, first["keys"][0]["kid"].as_str().unwrap());
        let published: Vec<String> = keys.public().into_iter().map(|jwk| jwk.kid).collect();
        assert_eq!(published, [first["keys"][0]["kid"].as_str().unwrap(), second["keys"][0]["kid"].as_str().unwrap()]);
    }

    #[test]
    fn bad_secrets_are_refused_without_showing_them() {
        let good: Value = serde_json::from_str(new_signing_secret().unwrap().expose()).unwrap();
        let key = &good["keys"][0];
        let with = |member: &str, value: Value| {
            let mut key = key.clone();
            key[member] = value;
            json!({"keys": [key]}).to_string()
        };
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for (secret, named) in [
            ("not json".to_owned(), "JSON"),
            (json!({"keys": []}).to_string(), "found 0 keys"),
            (json!({"keys": vec![key; 11]}).to_string(), "found 11 keys"),
            (json!({"keys": [key, key]}).to_string(), "keys[1]"),
            (with("alg", json!("RS256")), "ES256"),
            (with("kid", json!("mine")), "thumbprint"),
            (with("activate_at", json!(1)), "JSON"),
            (with("private_key", json!("hunter2")), "PKCS#8"),
            (with("private_key", json!({"hunter2": 1})), "JSON"),
            (with("private_key", json!(p384.serialize_pem())), "P-256"),
        ] {
            let error = SigningKeys::from_secret(&secret).err().unwrap();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("MIG"), "{error}");
        }
    }
}
