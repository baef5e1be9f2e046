//! Servers outside of the mesh: a certificate of a known root, and one of the names that are expected.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::GeneralName;

use crate::error::PeerError;
use crate::leaf::parse_certificate;
use crate::tls;

/// Checks the chain, and that the certificate has one of the expected names: Istio's `subjectAltNames` of
/// `tls.mode: SIMPLE`, "A list of alternate names to verify the subject identity in the certificate". The name that
/// was asked for is not compared then.
#[derive(Debug)]
pub(crate) struct NamesVerifier {
    roots: RootCertStore,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl NamesVerifier {
    pub(crate) fn new(roots: RootCertStore, names: Vec<String>) -> NamesVerifier {
        NamesVerifier { roots, names, provider: tls::provider() }
    }

    /// The check itself, outside of a handshake. `now` is Unix seconds.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), PeerError> {
        let refused = |error: webpki::Error| PeerError::Chain(error.to_string());
        let certificate = EndEntityCert::try_from(leaf).map_err(refused)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        let (roots, chain) = (&self.roots.roots, intermediates);
        certificate.verify_for_usage(algorithms, roots, chain, time, usage, None, None).map_err(refused)?;
        match self.names.iter().any(|name| has(leaf, &certificate, name)) {
            true => Ok(()),
            false => Err(PeerError::Names { expected: self.names.clone() }),
        }
    }
}

fn has(leaf: &CertificateDer<'_>, certificate: &EndEntityCert<'_>, name: &str) -> bool {
    if name.contains("://") {
        return has_uri(leaf, name);
    }
    ServerName::try_from(name).is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

fn has_uri(leaf: &CertificateDer<'_>, uri: &str) -> bool {
    let Ok(certificate) = parse_certificate(leaf) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(found) if *found == uri))
}

impl ServerCertVerifier for NamesVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check(end_entity, intermediates, now.as_secs());
        let refuse = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))));
        checked.map(|()| ServerCertVerified::assertion()).map_err(refuse)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::SanType;

    use super::*;
    use crate::testing::{Authority, LIFE, NOW, RATINGS};

    #[test]
    fn one_of_the_names_must_be_there_and_the_chain_must_hold() {
        let authority = Authority::new();
        let (leaf, _) = authority.leaf_with(RATINGS, |params| {
            params.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap()));
            params.subject_alt_names.push(SanType::DnsName("*.b.example".try_into().unwrap()));
            params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        });
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let check = |names: &[&str], now: u64| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            NamesVerifier::new(roots.clone(), names).check(&leaf, &[], now).is_ok()
        };
        for good in [&["a.example"][..], &["x", "A.example"], &["c.b.example"], &["192.0.2.1"], &[RATINGS]] {
            assert!(check(good, NOW), "{good:?}");
        }
        for bad in
            [&["b.example"][..], &["c.c.b.example"], &["192.0.2.2"], &["spiffe://cluster.local/ns/a/sa/b"], &[""]]
        {
            assert!(!check(bad, NOW), "{bad:?}");
        }
        assert!(!check(&["a.example"], NOW + LIFE + 1), "expired");
        let (stranger, _) = Authority::new().leaf(RATINGS);
        let verifier = NamesVerifier::new(roots.clone(), vec![RATINGS.to_owned()]);
        assert!(verifier.check(&stranger, &[], NOW).is_err());
    }
}
