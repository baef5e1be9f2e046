//! The certificate that a client showed at the mTLS door.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The longest PEM text that is read, in bytes.
const MAX_PEM_BYTES: usize = 16 * 1024;

/// A client's certificate, in DER. API Gateway checked it against the domain's truststore; this type says that it is
/// one whole certificate, valid at the time of the request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate(Vec<u8>);

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} bytes)", self.0.len())
    }
}

impl ClientCertificate {
    /// Reads `requestContext.authentication.clientCert.clientCertPem`; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When it is not exactly one certificate in PEM, is not DER inside, is not valid now, or is not for clients.
    pub(crate) fn from_pem(pem: &str, now: u64) -> Result<Self, &'static str> {
        if pem.len() > MAX_PEM_BYTES {
            return Err("the certificate is larger than 16 KiB");
        }
        let mut sections = CertificateDer::pem_slice_iter(pem.as_bytes());
        // Two would leave open which of them the connection was made with.
        let (Some(Ok(der)), None) = (sections.next(), sections.next()) else {
            return Err("the certificate is not one PEM section CERTIFICATE");
        };
        let certificate = Self(der.as_ref().to_vec());
        // RFC 5280 §4.1.2.5: "the period of time from notBefore through notAfter, inclusive". The gateway has looked
        // at it when the connection was made, which may be a while ago.
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let parsed = certificate.parsed()?;
        let validity = parsed.validity();
        if now < validity.not_before.timestamp() {
            return Err("the certificate is not valid yet");
        }
        if now > validity.not_after.timestamp() {
            return Err("the certificate has expired");
        }
        // RFC 5280 §4.2.1.12: "If the extension is present, then the certificate MUST only be used for one of the
        // purposes indicated." Whoever got a certificate for a server has not got one for a client of that name.
        match parsed.extended_key_usage() {
            Ok(None) => Ok(()),
            Ok(Some(usage)) if usage.value.client_auth || usage.value.any => Ok(()),
            _ => Err("the certificate is not for clients"),
        }?;
        Ok(certificate)
    }

    /// The whole certificate.
    pub(crate) fn der(&self) -> &[u8] {
        &self.0
    }

    /// RFC 8705 §3.1: "SHA-256 hash [...] of the DER encoding of the X.509 certificate".
    pub(crate) fn sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }

    /// Its names and dates.
    ///
    /// # Errors
    /// When it is not DER, or bytes follow it.
    pub(crate) fn parsed(&self) -> Result<X509Certificate<'_>, &'static str> {
        match X509Certificate::from_der(&self.0) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err("the certificate is not X.509 in DER"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const NOT_BEFORE: i64 = 1_000_000;
    const NOT_AFTER: i64 = 2_000_000;

    fn pem() -> String {
        pem_for(&[])
    }

    fn pem_for(purposes: &[rcgen::ExtendedKeyUsagePurpose]) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.extended_key_usages = purposes.to_vec();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOT_BEFORE).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOT_AFTER).unwrap();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn the_period_of_validity_has_both_its_ends() {
        let pem = pem();
        for (now, good) in [
            (0, false),
            (NOT_BEFORE - 1, false),
            (NOT_BEFORE, true),
            (NOT_AFTER, true),
            (NOT_AFTER + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(ClientCertificate::from_pem(&pem, u64::try_from(now).unwrap()).is_ok(), good, "{now}");
        }
        assert!(ClientCertificate::from_pem(&pem, u64::MAX).is_err());
    }

    #[test]
    fn a_certificate_of_a_server_is_none_of_a_client() {
        use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        for (purposes, good) in [
            (vec![], true),
            (vec![ClientAuth], true),
            (vec![ServerAuth, ClientAuth], true),
            (vec![Any], true),
            (vec![ServerAuth], false),
        ] {
            let found = ClientCertificate::from_pem(&pem_for(&purposes), 1_500_000);
            assert_eq!(found.is_ok(), good, "{purposes:?}");
        }
    }

    #[test]
    fn it_is_one_certificate() {
        let (pem, now) = (pem(), 1_500_000);
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let large = format!("{}{pem}", "\n".repeat(MAX_PEM_BYTES));
        for bad in ["", "x", &pem[..pem.len() / 2], &format!("{pem}{pem}"), &key, &large] {
            assert!(ClientCertificate::from_pem(bad, now).is_err(), "{bad}");
        }
        let good = ClientCertificate::from_pem(&pem, now).unwrap();
        assert_eq!(good.sha256().as_slice(), digest(&SHA256, good.der()).as_ref());
        assert!(ClientCertificate([good.der(), &[0]].concat()).parsed().is_err(), "a byte too many");
        assert!(format!("{good:?}").ends_with("bytes)"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn no_text_panics(noise in "\\PC{0,200}", at in any::<prop::sample::Index>()) {
            let _ = ClientCertificate::from_pem(&noise, 0);
            let pem = pem();
            let (start, end) = pem.split_at(at.index(pem.len()));
            let _ = ClientCertificate::from_pem(&format!("{start}{noise}{end}"), 1_500_000);
        }
    }
}
