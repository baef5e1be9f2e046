//! `POST /v1/svid`: a certificate signing request in, an X.509-SVID chain out.
//!
//! The request contributes its public key and the proof that the caller holds the private one. Every name in it is
//! ignored: who the caller is has been proven by IAM, and the registry says what that is in the mesh.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer;

use crate::Inner;
use crate::audit::Facts;
use crate::ca::SubjectKey;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::token::refuse_body;

/// The longest certificate signing request in PEM, in bytes.
pub const MAX_CSR_BYTES: usize = 32 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    csr: String,
}

/// Answers a request for an SVID.
pub(crate) async fn answer(
    issuer: &Inner,
    request: &Request,
    door: &Door,
    facts: &mut Facts,
) -> Result<Response, Refusal> {
    let Door::Iam(role) = door else {
        return Err(Refusal::new(403, "access_denied", "the caller's IAM role is not proven"));
    };
    let registration = issuer
        .config
        .registry
        .get(role)
        .ok_or_else(|| Refusal::new(403, "access_denied", "the IAM role is not in the registry"))?;
    facts.spiffe_id = Some(registration.spiffe_id.to_string());
    let key = subject_key(&csr(request)?)?;
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

/// The PEM text in the body.
fn csr(request: &Request) -> Result<String, Refusal> {
    let content_type = request.headers.only("content-type").ok().flatten().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::invalid_request("the Content-Type is not application/json"));
    }
    let bytes = request.body.as_ref().map_err(|error| refuse_body(*error))?;
    let body: Body = serde_json::from_slice(bytes)
        .map_err(|_| Refusal::invalid_request("the body is not a JSON object with the one member csr"))?;
    if body.csr.len() > MAX_CSR_BYTES {
        return Err(Refusal::new(413, "invalid_csr", "the CSR is larger than 32 KiB"));
    }
    Ok(body.csr)
}

/// The public key of a CSR whose signature proves that the sender holds the private key.
///
/// Not through rcgen, which refuses CSRs with extensions that it does not know, though nothing of them would be
/// used, and panics on a subject with an empty set in it.
fn subject_key(pem: &str) -> Result<SubjectKey, Refusal> {
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
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let point = &spki.subject_public_key.data;
    let algorithm = match curve {
        _ if spki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY => None,
        Some(curve) if curve == OID_EC_P256 && is_uncompressed(point, 32) => Some(&PKCS_ECDSA_P256_SHA256),
        Some(curve) if curve == OID_NIST_EC_P384 && is_uncompressed(point, 48) => Some(&PKCS_ECDSA_P384_SHA384),
        _ => None,
    };
    let algorithm =
        algorithm.ok_or_else(|| invalid_csr("the key is neither P-256 nor P-384; no other is supported"))?;
    request.verify_signature().map_err(|_| invalid_csr("the CSR's signature is not made with its key"))?;
    Ok(SubjectKey { algorithm, point: point.to_vec() })
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
            prop_assert!(subject_key(&text).is_err());
        }

        #[test]
        fn a_cut_csr_is_refused(length in any::<prop::sample::Index>()) {
            let der = der();
            let cut = &der[..length.index(der.len())];
            prop_assert!(subject_key(&crate::ca::pem("CERTIFICATE REQUEST", cut)).is_err());
        }
    }

    #[test]
    fn no_flipped_bit_changes_the_key() {
        let good = der();
        let point = subject_key(&crate::ca::pem("CERTIFICATE REQUEST", &good)).unwrap().point;
        let mut refused = 0;
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[place] ^= 1 << bit;
                match subject_key(&crate::ca::pem("CERTIFICATE REQUEST", &changed)) {
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
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let csr = CertificateParams::default().serialize_request(&pair).unwrap();
            let key = subject_key(&csr.pem().unwrap()).unwrap();
            assert_eq!(key.algorithm, algorithm);
            assert_eq!(key.point, pair.public_key_raw());
        }
    }
}
