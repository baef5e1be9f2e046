//! The keys that sign what the issuer issues, out of one secret.
//!
//! Several algorithms live side by side, because verifiers differ in what they take, and several keys of one algorithm,
//! because a new key is published long before it signs and an old one long after. `rotation/timing.rs` says how long.

mod file;
mod pair;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use authz::{Jwks, KeyOrigin};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;

pub(crate) use file::{SecretFile, SecretKey};
use pair::{Pair, PublicJwk};

use crate::Algorithm;

/// The most keys of one secret: of each algorithm the one that signs, one to come, and one that verifiers still need.
pub(crate) const MAX_KEYS: usize = 10;
/// The longest life of anything that these keys sign, in seconds. A key signs only if it is published for that long.
pub(crate) const MAX_TOKEN_LIFE_SECONDS: u64 = 3600;

/// One key pair.
pub(crate) struct SigningKey {
    pair: Pair,
    pub(crate) algorithm: Algorithm,
    pub(crate) jwk: PublicJwk,
    /// From when on it signs, in Unix seconds.
    pub(crate) activate_at: u64,
    /// From when on it is published no more, in Unix seconds.
    pub(crate) retire_at: Option<u64>,
    /// Derived from the private key; see [`tag`](Self::tag).
    tagging: hmac::Key,
}

/// All keys of the secret.
pub(crate) struct SigningKeys {
    keys: Vec<SigningKey>,
    /// The published keys as a verifier holds them, and which those are.
    verifying: Mutex<Option<(Vec<bool>, Arc<Jwks>)>>,
}

impl SigningKeys {
    /// Reads the secret and proves each key by a signature that it makes and verifies.
    ///
    /// # Errors
    /// Says which key (by its place) breaks which rule; the text holds nothing of the secret.
    pub(crate) fn from_secret(secret: &str) -> Result<Self, String> {
        Self::from_file(&SecretFile::parse(secret)?)
    }

    /// Proves each key of the file, see [`from_secret`](Self::from_secret).
    ///
    /// # Errors
    /// As there.
    pub(crate) fn from_file(file: &SecretFile) -> Result<Self, String> {
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
        let keys = Self { keys, verifying: Mutex::default() };
        // A verifier of our own reads every key as it is published.
        let published = keys.verifying(0)?;
        match published.skipped().first() {
            Some(skipped) => Err(format!("a key cannot be used by verifiers: {}", skipped.why)),
            None => Ok(keys),
        }
    }

    /// The key that signs with `algorithm` at `now`: of those that are active, and published for as long as a token may
    /// live, the newest. Keys that are equally new count in their order in the secret.
    ///
    /// Without an `algorithm` it is the issuer's default: ES256, or if there is none, that of the first key that signs.
    pub(crate) fn signer(&self, algorithm: Option<Algorithm>, now: u64) -> Option<&SigningKey> {
        let newest = |algorithm: Algorithm| {
            let able = self.keys.iter().rev().filter(|key| key.algorithm == algorithm && key.can_sign(now));
            able.max_by_key(|key| key.activate_at)
        };
        match algorithm {
            Some(algorithm) => newest(algorithm),
            None => newest(Algorithm::Es256).or_else(|| {
                let first = self.keys.iter().find(|key| key.can_sign(now))?;
                newest(first.algorithm)
            }),
        }
    }

    /// What the JWKS document lists at `now`: all keys that are not retired, and those that are not active yet, which
    /// verifiers must know before the first token.
    pub(crate) fn public(&self, now: u64) -> Vec<PublicJwk> {
        self.keys.iter().filter(|key| key.is_published(now)).map(|key| key.jwk.clone()).collect()
    }

    /// The JWKS document at `now`.
    pub(crate) fn document(&self, now: u64) -> Result<String, String> {
        serde_json::to_string(&json!({"keys": self.public(now)})).map_err(|error| error.to_string())
    }

    /// The published keys, to verify what this issuer has signed. They are parsed once, and again when one retires.
    pub(crate) fn verifying(&self, now: u64) -> Result<Arc<Jwks>, String> {
        let published: Vec<bool> = self.keys.iter().map(|key| key.is_published(now)).collect();
        let mut held = self.verifying.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((of, jwks)) if *of == published => Ok(Arc::clone(jwks)),
            _ => {
                let jwks = Jwks::parse(&self.document(now)?, KeyOrigin::Fetched).map_err(|error| error.to_string())?;
                let jwks = Arc::new(jwks);
                *held = Some((published, Arc::clone(&jwks)));
                Ok(jwks)
            }
        }
    }

    /// When a key next begins to sign or leaves the document.
    pub(crate) fn next_change(&self, now: u64) -> Option<u64> {
        let times = self.keys.iter().flat_map(|key| [Some(key.activate_at), key.retire_at]);
        times.flatten().filter(|time| *time > now).min()
    }

    /// All keys, retired ones too, in the order of the secret.
    pub(crate) fn all(&self) -> &[SigningKey] {
        &self.keys
    }
}

impl SigningKey {
    fn read(entry: &SecretKey) -> Result<Self, String> {
        let algorithm = entry.algorithm()?;
        let pair = Pair::from_pem(algorithm, &entry.private_key)?;
        let jwk = pair.jwk()?;
        if jwk.kid != entry.kid {
            return Err(format!("kid is not the key's RFC 7638 thumbprint, expected {}", jwk.kid));
        }
        let activate_at = entry.activate_at.unwrap_or(0);
        if let Some(retire_at) = entry.retire_at
            && retire_at <= activate_at
        {
            return Err(format!("found retire_at {retire_at}, expected a time after activate_at {activate_at}"));
        }
        pair.prove()?;
        let derived = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, entry.private_key.expose().trim().as_bytes()),
            b"causeway tagging key v1",
        );
        let tagging = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Ok(Self { pair, algorithm, jwk, activate_at, retire_at: entry.retire_at, tagging })
    }

    /// Whether the key is in the JWKS document at `now`.
    pub(crate) fn is_published(&self, now: u64) -> bool {
        self.retire_at.is_none_or(|retire_at| retire_at > now)
    }

    /// Whether it is active at `now` and published until the end of what it would sign.
    fn can_sign(&self, now: u64) -> bool {
        self.activate_at <= now && self.is_published(now.saturating_add(MAX_TOKEN_LIFE_SECONDS))
    }

    /// HMAC-SHA-256 with a key derived from this one: marks what the issuer alone has to know again, such as a nonce.
    pub(crate) fn tag(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.tagging, message).as_ref().to_vec()
    }

    /// Whether the tag is this key's, in constant time.
    pub(crate) fn has_tagged(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.tagging, message, tag).is_ok()
    }

    /// A JWS in compact form (RFC 7515 §7.1) with the header `{"alg":…,"kid":…,"typ":TYP}`.
    ///
    /// Signed with aws-lc itself and not through a JWT library, which would parse the key for every token.
    pub(crate) fn sign_jws(&self, typ: &str, claims: &impl Serialize) -> Result<String, String> {
        let header = json!({"alg": self.algorithm.name(), "kid": self.jwk.kid, "typ": typ});
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let mut jws = URL_SAFE_NO_PAD.encode(header.to_string());
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut jws);
        let signature = self.pair.sign(jws.as_bytes())?;
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        Ok(jws)
    }
}

#[cfg(test)]
mod tests;
