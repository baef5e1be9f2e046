//! An issuer of tokens.

use std::collections::BTreeMap;

use authz::RevokedId;
use authz::revocation::{LIST_TYPE, encode_payload};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::common::real_now;

pub const ISSUER: &str = "https://issuer.example";

/// An issuer of tokens.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    pub fn new() -> Signer {
        Signer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// Its `jti` is the subject.
    pub fn token(&self, subject: &str, seconds: i64) -> String {
        let now = i64::try_from(real_now()).unwrap();
        let (issued, ends) = (now - 700, now + seconds);
        let claims = serde_json::json!({"iss": ISSUER, "sub": subject, "jti": subject, "iat": issued, "exp": ends});
        self.signed("JWT", &claims.to_string())
    }

    /// The list of these revoked tokens, by their `jti`.
    pub fn revocations(&self, revoked: &[&str]) -> String {
        let (now, ids) = (real_now(), revoked.iter().map(|jti| RevokedId::token(jti)));
        let payload = encode_payload(ISSUER, now - 10, now + 3_600, ids, &BTreeMap::new()).unwrap();
        self.signed(LIST_TYPE, &payload)
    }

    fn signed(&self, kind: &str, payload: &str) -> String {
        let header = serde_json::json!({"alg": "ES256", "kid": "k", "typ": kind}).to_string();
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature.as_ref()))
    }

    /// Its key set.
    pub fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..65]));
        let key = serde_json::json!({"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": x, "y": y});
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// A rule with its keys.
    pub fn request_authentication(&self) -> String {
        Signer::rule(&format!("jwks: '{}'", self.jwks()))
    }

    /// A rule for its tokens; `keys` says where the keys are.
    pub fn rule(keys: &str) -> String {
        format!(
            "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: bookinfo}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  jwtRules:
  - issuer: {ISSUER}
    {keys}
    outputClaimToHeaders: [{{header: x-sub, claim: sub}}]
"
        )
    }
}

/// RFC 4648 5, without padding.
fn b64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}
