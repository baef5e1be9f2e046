//! One key of a set: what a JWK says, and what of it is usable.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};

use super::verifier::Verifier;
use super::{Algorithm, KeyKind, KeyOrigin};
use crate::claims::Json;

/// The shortest secret of an `oct` key, in bytes: RFC 7518 §3.2 asks for the size of the hash.
const MIN_SECRET_BYTES: usize = 32;

#[derive(Clone)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    kind: KeyKind,
    /// The JWK's own `alg`: the only one it may be used with.
    pub(super) algorithm: Option<Algorithm>,
    verifier: Verifier,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The material of an `oct` key is a secret.
        f.debug_struct("Key").field("kid", &self.kid).field("kind", &self.kind).finish()
    }
}

impl Key {
    pub(super) fn from_jwk(jwk: &Json) -> Result<Self, &'static str> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member has the wrong type"),
        };
        let bytes = |name: &str| -> Result<Vec<u8>, &'static str> {
            let text = text(name)?.ok_or("a member is missing")?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member is not base64url")
        };
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return Err("its use is not \"sig\"");
        }
        if let Some(operations) = jwk.get("key_ops") {
            let Json::List(operations) = operations else {
                return Err("a member has the wrong type");
            };
            if !operations.iter().any(|operation| operation.as_str() == Some("verify")) {
                return Err("its key_ops lack \"verify\"");
            }
        }
        let algorithm = match text("alg")? {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or("its alg is not one we know")?),
        };
        let (kind, verifier) = match (text("kty")?, text("crv")?) {
            (Some("RSA"), _) => (KeyKind::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
            (Some("EC"), Some("P-256")) => (KeyKind::P256, ec(&bytes("x")?, &bytes("y")?, 32)?),
            (Some("EC"), Some("P-384")) => (KeyKind::P384, ec(&bytes("x")?, &bytes("y")?, 48)?),
            (Some("EC"), Some("P-521")) => (KeyKind::P521, ec(&bytes("x")?, &bytes("y")?, 66)?),
            (Some("OKP"), Some("Ed25519")) => (KeyKind::Ed25519, ed25519(&bytes("x")?)?),
            (Some("oct"), _) => (KeyKind::Secret, secret(&bytes("k")?)?),
            (Some("EC" | "OKP"), _) => return Err("its curve is not one we know"),
            _ => return Err("its kty is not one we know"),
        };
        if algorithm.is_some_and(|algorithm| algorithm.kind() != kind) {
            return Err("its alg does not belong to its kty and crv");
        }
        let kid = text("kid")?.map(str::to_owned);
        Ok(Self { kid, kind, algorithm, verifier })
    }

    /// Envoy's `extractJwk`: what it needs of a key, and no more. Never weaker cryptography, though: the bounds on the
    /// size of an RSA modulus and of a secret are ours.
    pub(super) fn from_jwk_like_envoy(jwk: &Json, origin: KeyOrigin) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Json::as_str);
        let bytes = |name: &str| -> Result<Vec<u8>, &'static str> {
            decode_like_envoy(text(name).ok_or("a member is missing")?).ok_or("a member is not base64url")
        };
        // `GetString`: a `kid` or `alg` of another type, or an empty one, counts as absent.
        let kid = text("kid").filter(|kid| !kid.is_empty()).map(str::to_owned);
        let algorithm = match text("alg").filter(|alg| !alg.is_empty()) {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or("its alg is not one we know")?),
        };
        let (kind, verifier) = match text("kty") {
            Some("RSA") => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                (KeyKind::Rsa, rsa(without_zeros(&n), without_zeros(&e))?)
            }
            Some("EC") => {
                // "If both alg and crv specified, make sure they match"; with neither it is P-256.
                let kind = match (text("crv").filter(|crv| !crv.is_empty()), algorithm) {
                    (Some("P-256"), _) | (None, None | Some(Algorithm::ES256)) => KeyKind::P256,
                    (Some("P-384"), _) | (None, Some(Algorithm::ES384)) => KeyKind::P384,
                    (Some("P-521"), _) | (None, Some(Algorithm::ES512)) => KeyKind::P521,
                    _ => return Err("its curve is not one we know"),
                };
                let size = match kind {
                    KeyKind::P384 => 48,
                    KeyKind::P521 => 66,
                    _ => 32,
                };
                // Envoy reads the coordinates as numbers, of any length.
                let coordinate = |name| -> Result<Vec<u8>, &'static str> {
                    let number = bytes(name)?;
                    let number = without_zeros(&number);
                    let zeros = size - number.len().min(size);
                    Ok([&[0_u8; 66][..zeros], number].concat())
                };
                (kind, ec(&coordinate("x")?, &coordinate("y")?, size)?)
            }
            Some("OKP") if text("crv") == Some("Ed25519") => (KeyKind::Ed25519, ed25519(&bytes("x")?)?),
            // "HS256-512 only with an `oct` key given inline, never from a fetched JWKS", in both modes.
            Some("oct") if origin == KeyOrigin::Inline => (KeyKind::Secret, secret(&bytes("k")?)?),
            Some("oct") => return Err("it is symmetric, and a published key is no secret"),
            Some("OKP") => return Err("its curve is not one we know"),
            _ => return Err("its kty is not one we know"),
        };
        if algorithm.is_some_and(|algorithm| algorithm.kind() != kind) {
            return Err("its alg does not belong to its kty and crv");
        }
        Ok(Self { kid, kind, algorithm, verifier })
    }

    /// The algorithm that Envoy verifies with: "key type chosen by JWK `kty`", the token's `alg` only chooses the hash
    /// (`verify.cc`). `None` where there is none. A public key is never an HMAC's secret, for HMAC needs an `oct` key. Not
    /// copied: a hash that does not belong to the curve (RFC 7518 §3.4).
    pub(super) fn algorithm_like_envoy(&self, token: Algorithm) -> Option<Algorithm> {
        use Algorithm as A;
        let own_hash = |own| match token {
            A::ES256 | A::ES384 | A::ES512 if token != own => None,
            _ => Some(own),
        };
        match self.kind {
            KeyKind::Rsa => (token.kind() == KeyKind::Rsa).then_some(token),
            // "default to SHA256"
            KeyKind::P256 => own_hash(A::ES256),
            KeyKind::P384 => (token == A::ES384).then_some(token),
            KeyKind::P521 => (token == A::ES512).then_some(token),
            KeyKind::Ed25519 => Some(A::EdDSA),
            KeyKind::Secret => Some(match token {
                A::HS384 | A::HS512 => token,
                _ => A::HS256,
            }),
        }
    }

    /// The algorithm is bound to the type of the key and to the key's own `alg`, never the other way
    /// round (RFC 8725 §3.1): a public key cannot become the secret of an HMAC.
    pub(super) fn accepts(&self, algorithm: Algorithm) -> bool {
        algorithm.kind() == self.kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify(algorithm, message, signature)
    }
}

/// Base64url as Envoy reads it (absl's `WebSafeBase64Unescape`): ASCII white space is skipped, padding may be left out but
/// is right where it stands, and stray trailing bits are ignored.
pub(crate) fn decode_like_envoy(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '\t'..='\r')).collect();
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    (padding == 0 || (bare.len() + padding).is_multiple_of(4)).then(|| ENGINE.decode(bare).ok()).flatten()
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Verifier, &'static str> {
    let bits = match n {
        // RFC 7518 §6.3.1.1: no leading zero octets.
        [] | [0, ..] => return Err("its modulus is not minimal"),
        [first, rest @ ..] => rest.len() * 8 + 8 - first.leading_zeros() as usize,
    };
    if !(2048..=8192).contains(&bits) {
        return Err("its modulus is not 2048 to 8192 bits long");
    }
    // Envoy: "RSA e must be 3 or 65537".
    if e != [3] && e != [1, 0, 1] {
        return Err("its exponent is neither 3 nor 65537");
    }
    Ok(Verifier::rsa(n, e))
}

fn ec(x: &[u8], y: &[u8], size: usize) -> Result<Verifier, &'static str> {
    // RFC 7518 §6.2.1.2: "The length of this octet string MUST be the full size of a coordinate".
    if x.len() != size || y.len() != size {
        return Err("its coordinates have the wrong length");
    }
    // SEC 1 §2.3.3: an uncompressed point.
    let mut point = Vec::with_capacity(1 + 2 * size);
    point.push(4);
    point.extend_from_slice(x);
    point.extend_from_slice(y);
    let algorithm = match size {
        66 => Algorithm::ES512,
        48 => Algorithm::ES384,
        _ => Algorithm::ES256,
    };
    Ok(Verifier::public(algorithm, point))
}

fn ed25519(x: &[u8]) -> Result<Verifier, &'static str> {
    if x.len() != 32 {
        return Err("its public key has the wrong length");
    }
    Ok(Verifier::public(Algorithm::EdDSA, x.to_vec()))
}

fn secret(k: &[u8]) -> Result<Verifier, &'static str> {
    if k.len() < MIN_SECRET_BYTES {
        return Err("its secret is shorter than 32 bytes");
    }
    Ok(Verifier::Secret(k.to_vec()))
}
