//! Keys of clients, and what they sign.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key pair for one algorithm.
pub struct TestKey {
    pub algorithm: &'static str,
    /// The public key, without `kid`, `use` and `alg`.
    pub jwk: Value,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed(Ed25519KeyPair),
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    pub fn new(algorithm: &'static str) -> Self {
        let (curve, kind) = match algorithm {
            "ES256" => ("P-256", &sig::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ("P-384", &sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => ("P-521", &sig::ECDSA_P521_SHA512_FIXED_SIGNING),
            "EdDSA" => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())});
                return Self { algorithm, jwk, pair: Pair::Ed(pair) };
            }
            _ => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                // RSAPublicKey of RFC 8017: SEQUENCE { INTEGER 00 n, INTEGER 010001 }.
                let der = pair.public_key().as_ref();
                assert_eq!((der.len(), &der[265..]), (270, [2, 3, 1, 0, 1].as_slice()));
                let jwk = json!({"kty": "RSA", "n": encode(&der[9..265]), "e": "AQAB"});
                return Self { algorithm, jwk, pair: Pair::Rsa(Box::new(pair)) };
            }
        };
        let pair = EcdsaKeyPair::generate(kind).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
        Self { algorithm, jwk, pair: Pair::Ec(pair) }
    }

    /// The key set of a client with this key.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.jwk]})
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &dyn sig::RsaEncoding = match self.algorithm {
                    "RS256" => &sig::RSA_PKCS1_SHA256,
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    "PS512" => &sig::RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A compact JWS with exactly this header.
    pub fn jws(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A client assertion.
    pub fn assertion(&self, claims: &Value) -> String {
        self.jws(&json!({"alg": self.algorithm}), claims)
    }

    /// A DPoP proof.
    pub fn proof(&self, claims: &Value) -> String {
        self.jws(&json!({"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk}), claims)
    }
}

/// `base` with one member set, or taken out if `value` is null.
pub fn with(base: &Value, member: &str, value: Value) -> Value {
    let mut changed = base.clone();
    if value.is_null() {
        changed.as_object_mut().unwrap().remove(member);
    } else {
        changed[member] = value;
    }
    changed
}
