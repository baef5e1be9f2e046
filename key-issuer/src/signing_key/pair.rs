//! Key pairs: made, read, and used.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::secret::Secret;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use crate::Algorithm;
use crate::ca::pem;

/// RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used". A longer one than this signs too slowly.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A public key as the JWKS document shows it. There is no field for a private member, so none can be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PublicJwk {
    #[serde(flatten)]
    members: Members,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: Algorithm,
    pub(crate) kid: String,
}

/// The members that RFC 7638 §3.2 and RFC 8037 §2 require of each type of key, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kty")]
enum Members {
    #[serde(rename = "EC")]
    Ec { crv: &'static str, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "OKP")]
    Okp { crv: &'static str, x: String },
}

/// A private key, parsed once.
pub(crate) enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(rsa::KeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Pair {
    /// A new key. It comes from aws-lc's own generator and from nowhere else: a source of randomness that is passed in
    /// could be a predictable one.
    ///
    /// # Errors
    /// When the generator fails.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<(Self, Secret<String>), String> {
        let failed = |_| "the key generator failed".to_owned();
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::Es256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
                Secret::new(document.map_err(failed)?.as_ref().to_vec())
            }
            Algorithm::Rs256 => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                Secret::new(pair.as_der().map_err(failed)?.as_ref().to_vec())
            }
            Algorithm::EdDsa => {
                Secret::new(Ed25519KeyPair::generate_pkcs8v1(&random).map_err(failed)?.as_ref().to_vec())
            }
        };
        let text = Secret::new(pem("PRIVATE KEY", pkcs8.expose()));
        Ok((Self::from_pkcs8(algorithm, pkcs8.expose())?, text))
    }

    /// Reads a PKCS#8 key in PEM.
    ///
    /// # Errors
    /// Says what is wrong with it and nothing of what is in it.
    pub(crate) fn from_pem(algorithm: Algorithm, text: &Secret<String>) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.expose().as_bytes())
            .map_err(|_| "private_key is no PKCS#8 PEM (BEGIN PRIVATE KEY)".to_owned())?;
        Self::from_pkcs8(algorithm, der.secret_pkcs8_der())
    }

    fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, String> {
        match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                .map(Self::Es256)
                .map_err(|_| "private_key is no P-256 key, which ES256 takes".to_owned()),
            Algorithm::Rs256 => rsa::KeyPair::from_pkcs8(pkcs8)
                .ok()
                .filter(|pair| RSA_BYTES.contains(&pair.public_modulus_len()))
                .map(Self::Rs256)
                .ok_or_else(|| "private_key is no RSA key of 2048 to 4096 bits, which RS256 takes".to_owned()),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8)
                .map(Self::EdDsa)
                .map_err(|_| "private_key is no Ed25519 key, which EdDSA takes".to_owned()),
        }
    }

    /// The signature as a JWS has it. RFC 7518 §3.4: for ES256 it is R and S, 32 octets each, not DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "the key cannot sign".to_owned();
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(failed),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::EdDsa(pair) => pair.try_sign(message).map(|s| s.as_ref().to_vec()).map_err(failed),
        }
    }

    /// Makes a signature and verifies it.
    pub(crate) fn prove(&self) -> Result<(), String> {
        let (algorithm, public): (&'static dyn VerificationAlgorithm, &[u8]) = match self {
            Self::Es256(pair) => (&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Self::Rs256(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
            Self::EdDsa(pair) => (&ED25519, pair.public_key().as_ref()),
        };
        let message = b"causeway signing key self-test";
        UnparsedPublicKey::new(algorithm, public)
            .verify(message, &self.sign(message)?)
            .map_err(|_| "the key does not verify its own signature".to_owned())
    }

    /// The public half, named by its thumbprint.
    pub(crate) fn jwk(&self) -> Result<PublicJwk, String> {
        let (alg, members) = match self {
            Self::Es256(pair) => (Algorithm::Es256, ec_members(pair.public_key().as_ref())),
            Self::Rs256(pair) => (Algorithm::Rs256, rsa_members(pair.public_key().as_ref())),
            Self::EdDsa(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                (Algorithm::EdDsa, Some(Members::Okp { crv: "Ed25519", x }))
            }
        };
        let members = members.ok_or("private_key has a public half in an unknown form")?;
        let kid = members.thumbprint()?;
        Ok(PublicJwk { members, usage: "sig", alg, kid })
    }
}

/// A P-256 public key in its uncompressed form: `04`, X, Y.
fn ec_members(point: &[u8]) -> Option<Members> {
    let (&0x04, coordinates) = point.split_first()? else {
        return None;
    };
    let (x, y) = coordinates.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
    Some(Members::Ec { crv: "P-256", x: URL_SAFE_NO_PAD.encode(x), y: URL_SAFE_NO_PAD.encode(y) })
}

/// PKCS#1's RSAPublicKey. RFC 7518 §2: a Base64urlUInt is "the minimum number of octets", where DER has a zero in
/// front of a number whose first bit is set.
fn rsa_members(pkcs1: &[u8]) -> Option<Members> {
    let (rest, key) = RSAPublicKey::from_der(pkcs1).ok()?;
    let unsigned = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
    };
    if !rest.is_empty() {
        return None;
    }
    Some(Members::Rsa { n: unsigned(key.modulus)?, e: unsigned(key.exponent)? })
}

impl Members {
    /// RFC 7638 §3: SHA-256 over the JSON object of the required members "with no whitespace or line breaks before or
    /// after any syntactic elements and with the required members ordered lexicographically".
    fn thumbprint(&self) -> Result<String, String> {
        let unwritable = |error: serde_json::Error| error.to_string();
        let members = serde_json::to_value(self).map_err(unwritable)?;
        let ordered: BTreeMap<String, String> = serde_json::from_value(members).map_err(unwritable)?;
        let json = serde_json::to_vec(&ordered).map_err(unwritable)?;
        Ok(URL_SAFE_NO_PAD.encode(digest(&SHA256, &json)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn thumbprints_of_the_standards() {
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa = Members::Rsa { n: n.to_owned(), e: "AQAB".to_owned() };
        assert_eq!(rsa.thumbprint().unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037 appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned();
        let okp = Members::Okp { crv: "Ed25519", x };
        assert_eq!(okp.thumbprint().unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// RFC 8037 appendices A.1 to A.4: a deterministic signature, so the bytes are the standard's.
    #[test]
    fn the_jws_of_rfc_8037() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let mut pkcs8 =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        pkcs8.extend(seed);
        let pair = Pair::from_pem(Algorithm::EdDsa, &Secret::new(pem("PRIVATE KEY", &pkcs8))).unwrap();
        assert_eq!(pair.jwk().unwrap().kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        assert_eq!(
            URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).unwrap()),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn new_keys_of_each_algorithm_are_read_back_and_prove_themselves() {
        for algorithm in Algorithm::ALL {
            let (pair, text) = Pair::generate(algorithm).unwrap();
            pair.prove().unwrap();
            let read = Pair::from_pem(algorithm, &text).unwrap();
            assert_eq!(read.jwk(), pair.jwk());
            let shown = serde_json::to_value(pair.jwk().unwrap()).unwrap();
            let members: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match algorithm {
                Algorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                Algorithm::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
                Algorithm::EdDsa => &["alg", "crv", "kid", "kty", "use", "x"],
            };
            assert_eq!(members, expected);
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(Pair::from_pem(other, &text).is_err(), "{other:?} takes a key of {algorithm:?}");
            }
        }
    }

    #[test]
    fn public_halves_in_another_form_are_refused() {
        assert!(ec_members(&[4; 65]).is_some() && rsa_members(&[0x30, 0x06, 2, 1, 3, 2, 1, 3]).is_some());
        for point in [&[4; 64][..], &[4; 66], &[2; 33], &[]] {
            assert!(ec_members(point).is_none());
        }
        assert!(rsa_members(&[0x30, 0x06, 2, 1, 3, 2, 1, 3, 0]).is_none());
        assert!(rsa_members(&[]).is_none());
    }
}
