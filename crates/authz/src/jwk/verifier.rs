//! What one key verifies signatures with.
//!
//! aws-lc-rs is called here without jsonwebtoken between: that one builds the key from its bytes on every verification,
//! decodes the signature a second time, and has no ES512. Measured with `make bench`: a whole decision by an ES256 token
//! took 90 µs through jsonwebtoken, where aws-lc-rs' verification with a key that is parsed once takes 57 µs; most of the
//! difference is the parsing of the point.
//!
//! A key is parsed when it is first needed, not when its set is read: a set that comes with the policies is read while a
//! Lambda function starts, and may have a hundred keys.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};

use super::Algorithm;

/// The material of a key. Never printed: that of an `oct` key is a secret.
#[derive(Clone)]
pub(super) enum Verifier {
    /// Modulus and exponent, both without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8>, parsed: Box<[Parsed; 6]> },
    /// A point or an Ed25519 key, with the one algorithm that it is for.
    Public { algorithm: Algorithm, bytes: Vec<u8>, parsed: Parsed },
    /// The secret of an HMAC.
    Secret(Vec<u8>),
}

/// A key, parsed once; `None` inside when it is no key, such as a point that is not on its curve. It belongs to one
/// algorithm.
type Parsed = OnceLock<Option<ParsedPublicKey>>;

impl Verifier {
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        Self::Rsa { n: n.to_vec(), e: e.to_vec(), parsed: Box::default() }
    }

    /// A key of `algorithm`, which is of elliptic curves.
    pub(super) fn public(algorithm: Algorithm, bytes: Vec<u8>) -> Self {
        Self::Public { algorithm, bytes, parsed: Parsed::new() }
    }

    /// Whether `signature` is this key's over `message`. An algorithm that is not for the key verifies nothing.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let parsed = match self {
            Self::Rsa { n, e, parsed } => {
                let Some((slot, parameters)) = rsa_parameters(algorithm) else { return false };
                let Some(parsed) = parsed.get(slot) else { return false };
                parsed.get_or_init(|| RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok())
            }
            Self::Public { algorithm: own, bytes, parsed } => match public_algorithm(algorithm) {
                Some(named) if *own == algorithm => parsed.get_or_init(|| ParsedPublicKey::new(named, bytes).ok()),
                _ => return false,
            },
            Self::Secret(secret) => {
                let Some(algorithm) = hmac_algorithm(algorithm) else { return false };
                return hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok();
            }
        };
        parsed.as_ref().is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

/// The place of the parsed key, and what it is parsed for.
fn rsa_parameters(algorithm: Algorithm) -> Option<(usize, &'static RsaParameters)> {
    Some(match algorithm {
        Algorithm::RS256 => (0, &RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => (1, &RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => (2, &RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => (3, &RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => (4, &RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => (5, &RSA_PSS_2048_8192_SHA512),
        _ => return None,
    })
}

fn public_algorithm(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::ES512 => &ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDSA => &ED25519,
        _ => return None,
    })
}

fn hmac_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        Algorithm::HS256 => hmac::HMAC_SHA256,
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}
