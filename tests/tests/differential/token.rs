//! Tokens for the comparison: a few issuers with keys of every kind, and the ways in which a token can be odd.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// The issuers; each has one key, whose id is `k` and its index. The last one is nobody's: no rule ever names it.
pub const ISSUERS: [&str; 5] =
    ["https://a.example", "https://a.example/x", "issuer-b@x", "https://c.example/", "https://stranger.example"];

/// The keys of [`ISSUERS`]: Ed25519, P-256, a secret, RSA, Ed25519.
pub struct Keys {
    keys: Vec<Key>,
}

enum Key {
    Ed25519(Box<Ed25519KeyPair>),
    P256(Box<EcdsaKeyPair>),
    Secret(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
}

/// What is odd about a token beside its claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Oddity {
    None,
    BadSignature,
    /// Signed with another issuer's key.
    ForeignKey,
    NoKid,
    WrongKid,
    KidNumber,
    AlgNone,
    AlgMissing,
    LeadingDot,
    TrailingDot,
    DoubledDot,
    Padding,
    TwoParts,
    FourParts,
    DuplicateClaim,
    TrailingBytes,
    Crit,
    B64,
    TypNumber,
    NotBase64,
    Empty,
}

/// All of them.
pub const ODDITIES: [Oddity; 21] = [
    Oddity::None,
    Oddity::BadSignature,
    Oddity::ForeignKey,
    Oddity::NoKid,
    Oddity::WrongKid,
    Oddity::KidNumber,
    Oddity::AlgNone,
    Oddity::AlgMissing,
    Oddity::LeadingDot,
    Oddity::TrailingDot,
    Oddity::DoubledDot,
    Oddity::Padding,
    Oddity::TwoParts,
    Oddity::FourParts,
    Oddity::DuplicateClaim,
    Oddity::TrailingBytes,
    Oddity::Crit,
    Oddity::B64,
    Oddity::TypNumber,
    Oddity::NotBase64,
    Oddity::Empty,
];

/// A token to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Index of the issuer whose key signs it.
    pub issuer: usize,
    pub claims: Map<String, Value>,
    pub oddity: Oddity,
}

impl Keys {
    /// Ed25519 and the secret are the same in every run; the others are new, which no verdict depends on.
    pub fn new() -> Self {
        let ed25519 = |byte: u8| Key::Ed25519(Box::new(Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).unwrap()));
        let p256 = Key::P256(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()));
        let rsa = Key::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
        Self { keys: vec![ed25519(1), p256, Key::Secret(vec![7; 32]), rsa, ed25519(2)] }
    }

    /// The key set of an issuer.
    pub fn jwks(&self, issuer: usize) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let kid = format!("k{issuer}");
        let key = match &self.keys[issuer] {
            Key::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(key.public_key().as_ref())})
            }
            Key::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y})
            }
            Key::Secret(secret) => json!({"kty": "oct", "alg": "HS256", "kid": kid, "k": encode(secret)}),
            Key::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "alg": "RS256", "kid": kid, "n": encode(&public.n), "e": encode(&public.e)})
            }
        };
        json!({"keys": [key]}).to_string()
    }

    fn algorithm(&self, issuer: usize) -> &'static str {
        match &self.keys[issuer] {
            Key::Ed25519(_) => "EdDSA",
            Key::P256(_) => "ES256",
            Key::Secret(_) => "HS256",
            Key::Rsa(_) => "RS256",
        }
    }

    fn signature(&self, issuer: usize, message: &[u8]) -> Vec<u8> {
        match &self.keys[issuer] {
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Key::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Key::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The text of a token.
    pub fn text(&self, token: &Token) -> String {
        let issuer = token.issuer;
        let mut header = json!({"alg": self.algorithm(issuer), "kid": format!("k{issuer}"), "typ": "JWT"});
        match token.oddity {
            Oddity::NoKid => drop(header.as_object_mut().unwrap().remove("kid")),
            Oddity::WrongKid => header["kid"] = json!("other"),
            Oddity::KidNumber => header["kid"] = json!(1),
            Oddity::AlgNone => header["alg"] = json!("none"),
            Oddity::AlgMissing => drop(header.as_object_mut().unwrap().remove("alg")),
            Oddity::Crit => header["crit"] = json!(["exp"]),
            Oddity::B64 => header["b64"] = json!(true),
            Oddity::TypNumber => header["typ"] = json!(5),
            _ => {}
        }
        let mut payload = Value::Object(token.claims.clone()).to_string();
        match token.oddity {
            Oddity::DuplicateClaim => payload.insert_str(1, "\"dup\":1,\"dup\":1,"),
            Oddity::TrailingBytes => payload.push('x'),
            _ => {}
        }
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (header, payload) = (encode(&header.to_string()), encode(&payload));
        let message = format!("{header}.{payload}");
        let signer = if token.oddity == Oddity::ForeignKey { (issuer + 1) % self.keys.len() } else { issuer };
        let mut signature = self.signature(signer, message.as_bytes());
        if token.oddity == Oddity::BadSignature {
            signature[0] ^= 1;
        }
        let signature = URL_SAFE_NO_PAD.encode(signature);
        match token.oddity {
            Oddity::LeadingDot => format!(".{message}.{signature}"),
            Oddity::TrailingDot => format!("{message}.{signature}."),
            Oddity::DoubledDot => format!("{header}..{payload}.{signature}"),
            Oddity::Padding => format!("{message}.{signature}=="),
            Oddity::TwoParts => message,
            Oddity::FourParts => format!("{message}.{signature}.{signature}"),
            Oddity::NotBase64 => format!("{header}.{payload}!.{signature}"),
            Oddity::Empty => String::new(),
            _ => format!("{message}.{signature}"),
        }
    }
}
