//! The certificate of a client that somebody else has verified: API Gateway, at a custom domain with mutual TLS.
//!
//! Its profile is the business of whoever verified it; here it is read for what policies and bound tokens need.

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::error::ClientCertificateError;
use crate::leaf::{parse_certificate, unix};
use crate::pem;
use crate::spiffe_id::SpiffeId;

/// The longest PEM text of a client certificate that is read, in bytes.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URI SAN, if there is exactly one and it is the SPIFFE ID of a workload; the certificate has other names
    /// otherwise.
    pub id: Option<SpiffeId>,
    /// SHA-256 of its DER: what RFC 8705 binds tokens to.
    pub sha256: [u8; 32],
}

impl ClientCertificate {
    /// Reads the PEM text of one certificate, and checks its validity at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// It is too large, not exactly one whole certificate, has names that cannot be read, or is not valid at `now`.
    pub fn from_pem(text: &str, now: u64) -> Result<Self, ClientCertificateError> {
        if text.len() > MAX_PEM_BYTES {
            return Err(ClientCertificateError::TooLarge(text.len()));
        }
        let found = pem::certificates(text.as_bytes()).map_err(ClientCertificateError::Encoding)?;
        let [der] = found.as_slice() else { return Err(ClientCertificateError::Several(found.len())) };
        let certificate = parse_certificate(der).map_err(ClientCertificateError::Encoding)?;
        let (not_before, not_after) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        // RFC 5280 section 4.1.2.5: "from notBefore through notAfter, inclusive".
        if now < unix(not_before) {
            return Err(ClientCertificateError::NotYetValid);
        }
        if now > unix(not_after) {
            return Err(ClientCertificateError::Expired);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, der.as_ref()).as_ref());
        Ok(Self { id: spiffe_id(&certificate)?, sha256 })
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<Option<SpiffeId>, ClientCertificateError> {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        Ok(None) => return Ok(None),
        Err(error) => return Err(ClientCertificateError::Encoding(error.to_string())),
    };
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // It might be a second URI.
            GeneralName::Invalid(..) => {
                return Err(ClientCertificateError::Encoding("a subject alternative name".into()));
            }
            _ => {}
        }
    }
    // "Validators encountering an SVID containing more than one URI SAN MUST reject the SVID" (X509-SVID section 2):
    // which of them the client is cannot be told.
    Ok(match uris.as_slice() {
        // "A signing certificate proves no workload" (X509-SVID section 4.1).
        _ if certificate.is_ca() => None,
        [one] => one.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use rcgen::SanType;

    use super::*;
    use crate::testing::{Authority, LIFE, NOW, REVIEWS, SHARED};

    /// PEM with the line length of RFC 7468.
    fn pem(der: &[u8]) -> String {
        let text = base64(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", lines.join("\n"))
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let number =
                chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for at in 0..4 {
                let digit = ALPHABET[usize::try_from(number >> (18 - 6 * at) & 63).unwrap()];
                text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
            }
        }
        text
    }

    #[test]
    fn a_workload_is_known_by_its_spiffe_id_and_its_hash() {
        let (certificate, _) = Authority::new().leaf(REVIEWS);
        for now in [NOW - 60, NOW, NOW + LIFE] {
            let client = ClientCertificate::from_pem(&pem(&certificate), now).unwrap();
            assert_eq!(client.id.unwrap().as_str(), REVIEWS);
            assert_eq!(client.sha256, digest::digest(&digest::SHA256, &certificate).as_ref());
        }
    }

    #[test]
    fn other_names_are_no_spiffe_id() {
        let authority = Authority::new();
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = || SanType::DnsName("a.example".try_into().unwrap());
        for (names, known) in [
            (vec![], false),
            (vec![dns()], false),
            (vec![uri("https://a.example/b")], false),
            (vec![uri("spiffe://Cluster.local/ns/a/sa/b")], false),
            (vec![uri("spiffe://cluster.local")], false),
            (vec![uri(REVIEWS), uri("spiffe://cluster.local/ns/a/sa/admin")], false),
            (vec![uri(REVIEWS), uri(REVIEWS)], false),
            (vec![dns(), uri(REVIEWS)], true),
        ] {
            let (certificate, _) = authority.leaf_with(REVIEWS, |p| p.subject_alt_names = names.clone());
            let client = ClientCertificate::from_pem(&pem(&certificate), NOW).unwrap();
            assert_eq!(client.id.is_some(), known, "{names:?}");
        }
        let (certificate, _) = authority.leaf_with(REVIEWS, |p| {
            p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        });
        assert_eq!(ClientCertificate::from_pem(&pem(&certificate), NOW).unwrap().id, None);
        // A profile that is not an SVID's is whoever verified it to judge.
        let (certificate, _) = authority.leaf_with(REVIEWS, |p| p.key_usages.clear());
        assert!(ClientCertificate::from_pem(&pem(&certificate), NOW).unwrap().id.is_some());
    }

    #[test]
    fn what_is_not_one_valid_certificate_is_refused() {
        let (certificate, _) = Authority::new().leaf(REVIEWS);
        let one = pem(&certificate);
        let is = |text: &str, now| ClientCertificate::from_pem(text, now).unwrap_err();
        assert_eq!(is(&one, NOW - 61), ClientCertificateError::NotYetValid);
        assert_eq!(is(&one, NOW + LIFE + 1), ClientCertificateError::Expired);
        assert_eq!(is(&format!("{one}\n{one}"), NOW), ClientCertificateError::Several(2));
        assert_eq!(
            is(&format!("{one}{}", "\n".repeat(MAX_PEM_BYTES)), NOW),
            ClientCertificateError::TooLarge(one.len() + MAX_PEM_BYTES)
        );
        for text in ["", "CERT_CONTENT", &one[..one.len() / 2], &pem(&certificate[..40])] {
            assert!(matches!(is(text, NOW), ClientCertificateError::Encoding(_)), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_text_makes_the_parser_panic(noise in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
            let _ = ClientCertificate::from_pem(&String::from_utf8_lossy(&noise), NOW);
            let (certificate, _) = SHARED.with(|a| a.leaf(REVIEWS));
            let mut bytes = certificate.as_ref().to_vec();
            let start = at.index(bytes.len());
            for (byte, new) in bytes[start..].iter_mut().zip(noise) {
                *byte = new;
            }
            let _ = ClientCertificate::from_pem(&pem(&bytes), NOW);
        }
    }
}
