//! `POST /v1/svid`: a certificate signing request in, an X.509-SVID chain out.
//!
//! The request contributes its public key and the proof that the caller holds the private one. Every name in it is
//! ignored: who the caller is has been proven by IAM, and the registry says what that is in the mesh.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::Inner;
use crate::attestation::{self, Binding, Proof};
use crate::audit::Facts;
use crate::ca::SubjectKey;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::token::refuse_body;

/// The longest certificate signing request in PEM, in bytes.
pub const MAX_CSR_BYTES: usize = 32 * 1024;
/// The sizes of RSA moduli, in bits. Istio takes no shorter ones (`MinimumRsaKeySize`); longer ones only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The public exponent that everybody uses, 65537 (NIST SP 800-57: small ones are a risk).
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];
/// What a CSR may be signed with. SHA-1 proves nothing any more.
const SIGNATURES: [Oid<'static>; 6] = [
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ED25519,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    csr: String,
    #[serde(default)]
    proof: Option<Proof>,
}

/// Answers a request for an SVID.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let body: Body = json_body(request, "csr and, at the public door, proof")?;
    if body.csr.len() > MAX_CSR_BYTES {
        return Err(Refusal::new(413, "invalid_csr", "the CSR is larger than 32 KiB"));
    }
    let binding = Binding::csr(&body.csr);
    let registration = attestation::caller(issuer, request, door, body.proof.as_ref(), &binding, facts).await?;
    let key = subject_key(&body.csr, issuer.config.svid_ed25519)?;
    let authority = issuer.authority().await?;
    if authority.owns(&key) {
        return Err(invalid_csr("the public key is the certificate authority's own"));
    }
    let mut serial = [0; 16];
    issuer.deps.random.fill(&mut serial).map_err(|error| Refusal::internal(error.to_string()))?;
    let issued = authority
        .issue(&registration.spiffe_id, &key, serial, issuer.deps.clock.unix())
        .map_err(Refusal::unavailable)?;

    facts.event = Some("svid_issued");
    facts.serial = Some(issued.leaf.serial_hex);
    facts.expires_at = Some(issued.leaf.not_after);
    let body = json!({
        "chain": issued.chain,
        "bundle": issued.bundle,
        "spiffe_id": issued.leaf.id.as_str(),
        "expires_at": issued.leaf.not_after,
    });
    Ok(Response::private_json(200, body.to_string()))
}

fn invalid_csr(description: &str) -> Refusal {
    Refusal::new(400, "invalid_csr", description)
}

/// The JSON object in the body; `members` says which it may have.
pub(crate) fn json_body<T: DeserializeOwned>(request: &Request, members: &str) -> Result<T, Refusal> {
    let content_type = request.headers.only("content-type").ok().flatten().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::invalid_request("the Content-Type is not application/json"));
    }
    let bytes = request.body.as_ref().map_err(|error| refuse_body(*error))?;
    // Without what is there: a proof is as good as a credential.
    serde_json::from_slice(bytes)
        .map_err(|_| Refusal::invalid_request(format!("the body is not a JSON object with {members}")))
}

/// The public key of a CSR whose signature proves that the sender holds the private key.
///
/// Not through rcgen, which refuses CSRs with extensions that it does not know, though nothing of them would be
/// used, and panics on a subject with an empty set in it.
fn subject_key(pem: &str, ed25519: bool) -> Result<SubjectKey, Refusal> {
    let mut sections = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
    let der = match (sections.next(), sections.next()) {
        (Some(Ok(der)), None) => der,
        _ => return Err(invalid_csr("csr is not one CERTIFICATE REQUEST in PEM")),
    };
    let request = match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => request,
        _ => return Err(invalid_csr("the CSR is not PKCS#10 in DER")),
    };
    let spki = &request.certification_request_info.subject_pki;
    let algorithm = key_algorithm(spki, ed25519).map_err(invalid_csr)?;
    if !SIGNATURES.contains(&request.signature_algorithm.algorithm) {
        return Err(invalid_csr("the CSR is signed with an algorithm that is not supported"));
    }
    request.verify_signature().map_err(|_| invalid_csr("the CSR's signature is not made with its key"))?;
    Ok(SubjectKey { algorithm, point: spki.subject_public_key.data.to_vec() })
}

/// The algorithm of the key's own type, for the keys that get certificates.
fn key_algorithm(spki: &SubjectPublicKeyInfo<'_>, ed25519: bool) -> Result<&'static SignatureAlgorithm, &'static str> {
    let key = &spki.subject_public_key.data;
    let named = &spki.algorithm.algorithm;
    if *named == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 && is_uncompressed(key, 32) => Ok(&PKCS_ECDSA_P256_SHA256),
            Some(curve) if curve == OID_NIST_EC_P384 && is_uncompressed(key, 48) => Ok(&PKCS_ECDSA_P384_SHA384),
            _ => Err("the EC key is not an uncompressed point of P-256 or P-384"),
        };
    }
    if *named == OID_PKCS1_RSAENCRYPTION {
        return match RSAPublicKey::from_der(key) {
            Ok(([], rsa)) if RSA_BITS.contains(&bits(rsa.modulus)) && rsa.exponent == RSA_EXPONENT => {
                Ok(&PKCS_RSA_SHA256)
            }
            _ => Err("the RSA key has not 2048 to 4096 bits, or an exponent other than 65537"),
        };
    }
    if *named == OID_SIG_ED25519 && key.len() == 32 {
        return match ed25519 {
            true => Ok(&PKCS_ED25519),
            false => Err("Ed25519 is off here (CAUSEWAY_SVID_ED25519): mesh proxies do not take it"),
        };
    }
    Err("the key is neither EC, RSA nor Ed25519; no other is supported")
}

/// The length of a positive integer in DER.
fn bits(integer: &[u8]) -> usize {
    let magnitude = integer.strip_prefix(&[0]).unwrap_or(integer);
    magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize)
}

/// SEC 1 §2.3.3: `04`, X, Y. That the point is on the curve is part of verifying the signature with it.
fn is_uncompressed(point: &[u8], coordinate_bytes: usize) -> bool {
    point.len() == 1 + 2 * coordinate_bytes && point[0] == 0x04
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn der() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["a.example".to_owned()]).unwrap().serialize_request(&key).unwrap().der().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            prop_assert!(subject_key(&text, true).is_err());
        }

        #[test]
        fn a_cut_csr_is_refused(length in any::<prop::sample::Index>()) {
            let der = der();
            let cut = &der[..length.index(der.len())];
            prop_assert!(subject_key(&crate::ca::pem("CERTIFICATE REQUEST", cut), true).is_err());
        }
    }

    #[test]
    fn no_flipped_bit_changes_the_key() {
        let good = der();
        let point = subject_key(&crate::ca::pem("CERTIFICATE REQUEST", &good), true).unwrap().point;
        let mut refused = 0;
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[place] ^= 1 << bit;
                match subject_key(&crate::ca::pem("CERTIFICATE REQUEST", &changed), true) {
                    // The parser is lax about a few bits outside of the signed part. They mean nothing.
                    Ok(key) => assert_eq!(key.point, point, "byte {place} bit {bit}"),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > good.len() * 7, "{refused} of {} refused", good.len() * 8);
    }

    #[test]
    fn the_key_keeps_its_own_type_whatever_signed_with_it() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256, &PKCS_ED25519] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let csr = CertificateParams::default().serialize_request(&pair).unwrap();
            let key = subject_key(&csr.pem().unwrap(), true).unwrap();
            assert_eq!(key.algorithm, algorithm);
            assert_eq!(key.point, pair.public_key_raw());
        }
    }

    #[test]
    fn lengths_of_integers() {
        for (integer, expected) in [(&[][..], 0), (&[0], 0), (&[1], 1), (&[0, 0x80], 8), (&[0x7f, 0], 15)] {
            assert_eq!(bits(integer), expected, "{integer:?}");
        }
    }

    #[test]
    fn ed25519_is_for_those_who_ask_for_it() {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let csr = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        assert!(subject_key(&csr, true).is_ok());
        let refusal = subject_key(&csr, false).err().unwrap();
        assert!(refusal.description.contains("CAUSEWAY_SVID_ED25519"), "{refusal:?}");
    }
}
