//! Nonces: made and recognised without a table, used up in one.
//!
//! `base64url(expires_at ‖ 16 random bytes ‖ HMAC-SHA-256 of both)`. The key is derived from a signing key. A new
//! signing key is in the secret long before it signs, and the nonces of all that are in it count, so every environment
//! knows the nonces of every other at any moment of a rotation.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use platform::random::Random;

use crate::refusal::Refusal;
use crate::signing_key::SigningKeys;

/// How long a nonce may be used, in seconds: to fetch it, to sign, to send.
pub(super) const LIFE_SECONDS: u64 = 120;

const TIME_BYTES: usize = 8;
const RANDOM_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
const LABELLED: &[u8] = b"causeway proof nonce v1\0";

/// A nonce, and until when it may be used.
pub(super) fn new(keys: &SigningKeys, random: &dyn Random, now: u64) -> Result<(String, u64), Refusal> {
    let expires_at = now.saturating_add(LIFE_SECONDS);
    let mut bytes = expires_at.to_be_bytes().to_vec();
    let mut unique = [0; RANDOM_BYTES];
    random.fill(&mut unique).map_err(|error| Refusal::internal(error.to_string()))?;
    bytes.extend_from_slice(&unique);
    let signer = keys.signer(None, now).ok_or_else(|| Refusal::unavailable("no signing key is active"))?;
    let tag = signer.tag(&labelled(&bytes));
    bytes.extend_from_slice(&tag);
    Ok((URL_SAFE_NO_PAD.encode(bytes), expires_at))
}

/// Until when the nonce may be used. The text is canonical: no two texts are the same nonce.
///
/// # Errors
/// What is wrong with it, in words for the caller.
pub(super) fn check(keys: &SigningKeys, text: &str, now: u64) -> Result<u64, &'static str> {
    const UNKNOWN: &str = "its nonce is none of this issuer";
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| UNKNOWN)?;
    let (stamped, tag) = bytes.split_at_checked(TIME_BYTES + RANDOM_BYTES).ok_or(UNKNOWN)?;
    if tag.len() != MAC_BYTES || !keys.all().iter().any(|key| key.has_tagged(&labelled(stamped), tag)) {
        return Err(UNKNOWN);
    }
    let expires_at = stamped.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(UNKNOWN)?;
    if expires_at <= now { Err("its nonce has expired") } else { Ok(expires_at) }
}

fn labelled(bytes: &[u8]) -> Vec<u8> {
    [LABELLED, bytes].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::random::SystemRandom;

    use super::*;
    use crate::Algorithm;
    use crate::signing_key::{SecretFile, SecretKey};

    const NOW: u64 = 1_893_456_000;

    fn keys(keys: &[&SecretKey]) -> SigningKeys {
        SigningKeys::from_file(&SecretFile { keys: keys.iter().map(|key| (*key).clone()).collect() }).unwrap()
    }

    #[test]
    fn a_nonce_is_known_to_whoever_has_the_keys_until_it_expires() {
        let old = SecretKey::generate(Algorithm::Es256, None).unwrap();
        let next = SecretKey::generate(Algorithm::Es256, Some(NOW + 3600)).unwrap();
        let stranger = SecretKey::generate(Algorithm::Es256, None).unwrap();
        let (before, rotating, after) = (keys(&[&old]), keys(&[&old, &next]), keys(&[&next]));
        let (nonce, expires_at) = new(&rotating, &SystemRandom, NOW).unwrap();
        assert_eq!(expires_at, NOW + 120);
        for (name, keys, now, expected) in [
            ("at once", &rotating, NOW, Ok(NOW + 120)),
            ("at the end", &rotating, NOW + 119, Ok(NOW + 120)),
            ("too late", &rotating, NOW + 120, Err("its nonce has expired")),
            ("before the rotation", &before, NOW, Ok(NOW + 120)),
            ("without its key", &after, NOW, Err("its nonce is none of this issuer")),
            ("elsewhere", &keys(&[&stranger]), NOW, Err("its nonce is none of this issuer")),
        ] {
            assert_eq!(check(keys, &nonce, now), expected, "{name}");
        }
        // The key that signs next makes nonces that everybody knows who has read the secret once it was there.
        let (later, _) = new(&rotating, &SystemRandom, NOW + 3600).unwrap();
        assert!(check(&after, &later, NOW + 3600).is_ok());
        assert!(check(&before, &later, NOW + 3600).is_err());
    }

    #[test]
    fn no_other_text_is_a_nonce() {
        let keys = keys(&[&SecretKey::generate(Algorithm::Es256, None).unwrap()]);
        let (nonce, _) = new(&keys, &SystemRandom, NOW).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert!(check(&keys, &URL_SAFE_NO_PAD.encode(changed), NOW).is_err(), "byte {place} bit {bit}");
            }
        }
        for place in 0..nonce.len() {
            assert!(check(&keys, &nonce[..place], NOW).is_err());
        }
        for text in [String::new(), format!("{nonce}="), format!("{nonce}A"), format!(" {nonce}"), "é".repeat(40)] {
            assert!(check(&keys, &text, NOW).is_err(), "{text}");
        }
        let (other, _) = new(&keys, &SystemRandom, NOW).unwrap();
        assert_ne!(nonce, other);
    }
}
