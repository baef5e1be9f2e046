//! The rustls verifiers: a peer is who its X.509-SVID says, when the chain leads to a root of the bundle.
//!
//! No name is compared with the certificate: in a mesh the server name (SNI) picks a route, and the SPIFFE ID
//! is the identity (X509-SVID §5). So the expected SPIFFE IDs must be known before the handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::bundle::TrustBundle;
use crate::error::PeerError;
use crate::leaf::{Leaf, parse_certificate};
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::tls;

/// Checks a server: the chain, the profile, the trust domain and that it is one of the expected identities.
#[derive(Debug)]
pub struct SpiffeServerVerifier {
    bundle: TrustBundle,
    expected: Vec<SpiffeId>,
    aliases: bool,
    provider: Arc<CryptoProvider>,
}

impl SpiffeServerVerifier {
    /// A verifier that accepts the identities of `expected` and no other; an empty list accepts nobody.
    pub fn new(bundle: TrustBundle, expected: Vec<SpiffeId>) -> SpiffeServerVerifier {
        SpiffeServerVerifier { bundle, expected, aliases: false, provider: tls::provider() }
    }

    /// The same, where `expected` may have identities of other trust domains that are names of this mesh too, with its
    /// roots. Istio's `trustDomainAliases`: "Any service with the identity `td1/ns/foo/sa/a-service-account`,
    /// `td2/ns/foo/sa/a-service-account`, or `td3/ns/foo/sa/a-service-account` will be treated the same in the Istio
    /// mesh." Which those are is the caller's to say, in `expected`, and nobody else of them is accepted.
    pub fn with_aliases(bundle: TrustBundle, expected: Vec<SpiffeId>) -> SpiffeServerVerifier {
        SpiffeServerVerifier { aliases: true, ..SpiffeServerVerifier::new(bundle, expected) }
    }

    /// The check itself, outside of a handshake. `now` is Unix seconds.
    ///
    /// # Errors
    /// Says which rule the peer breaks.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<SpiffeId, PeerError> {
        let usage = KeyUsage::server_auth();
        let found = check_svid(&self.bundle, &self.provider, leaf, intermediates, usage, now)?;
        let is_expected = self.expected.contains(&found);
        if !(self.aliases && is_expected) {
            check_trust_domain(&self.bundle, &found)?;
        }
        match is_expected {
            true => Ok(found),
            false => Err(PeerError::Unexpected { found, expected: self.expected.clone() }),
        }
    }
}

/// Checks a client: the chain, the profile and the trust domain. Which of the trust domain's workloads may do
/// what is the policy's business: read the identity with [`peer_id`] after the handshake.
#[derive(Debug)]
pub struct SpiffeClientVerifier {
    bundle: TrustBundle,
    aliases: Vec<TrustDomain>,
    provider: Arc<CryptoProvider>,
}

impl SpiffeClientVerifier {
    /// A verifier that accepts every workload of the bundle's trust domain, and nobody without a certificate.
    pub fn new(bundle: TrustBundle) -> SpiffeClientVerifier {
        SpiffeClientVerifier::with_aliases(bundle, Vec::new())
    }

    /// The same, and it accepts the workloads of other trust domains that are names of this mesh too, with its roots:
    /// Istio's `trustDomainAliases`.
    pub fn with_aliases(bundle: TrustBundle, aliases: Vec<TrustDomain>) -> SpiffeClientVerifier {
        SpiffeClientVerifier { bundle, aliases, provider: tls::provider() }
    }

    /// The check itself, outside of a handshake. `now` is Unix seconds.
    ///
    /// # Errors
    /// Says which rule the peer breaks.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<SpiffeId, PeerError> {
        let usage = KeyUsage::client_auth();
        let found = check_svid(&self.bundle, &self.provider, leaf, intermediates, usage, now)?;
        if !self.aliases.iter().any(|alias| alias.as_str() == found.trust_domain()) {
            check_trust_domain(&self.bundle, &found)?;
        }
        Ok(found)
    }
}

/// The identity in the certificates that a connection shows. It is proven only when the connection's
/// configuration is one of [`crate::tls`], whose verifiers ran in the handshake.
pub fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> Option<SpiffeId> {
    let leaf = certificates?.first()?;
    Leaf::parse(leaf).ok().map(|leaf| leaf.id)
}

fn check_svid(
    bundle: &TrustBundle,
    provider: &CryptoProvider,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    usage: KeyUsage,
    now: u64,
) -> Result<SpiffeId, PeerError> {
    let refused = |error: webpki::Error| PeerError::Chain(explain(error));
    let certificate = EndEntityCert::try_from(leaf).map_err(refused)?;
    let anchors = bundle.anchors(now);
    if anchors.is_empty() {
        return Err(PeerError::Chain(
            "found no root of the bundle that is valid now, expected one (renew the bundle)".into(),
        ));
    }
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let algorithms = provider.signature_verification_algorithms.all;
    let path =
        certificate.verify_for_usage(algorithms, &anchors, intermediates, time, usage, None, None).map_err(refused)?;
    for authority in path.intermediate_certificates() {
        check_may_sign(&authority.der())?;
    }
    Ok(Leaf::parse(leaf)?.id)
}

/// X509-SVID §5: the roots are those of the bundle of the ID's own trust domain.
fn check_trust_domain(bundle: &TrustBundle, found: &SpiffeId) -> Result<(), PeerError> {
    match found.trust_domain() == bundle.trust_domain().as_str() {
        true => Ok(()),
        false => Err(PeerError::TrustDomain { found: found.clone(), expected: bundle.trust_domain().to_string() }),
    }
}

/// RFC 5280 6.1.4 (n): "If a key usage extension is present, verify that the keyCertSign bit is set". webpki takes cA=true
/// to say it all, and a mesh proxy does not.
fn check_may_sign(authority: &CertificateDer<'_>) -> Result<(), PeerError> {
    let certificate = parse_certificate(authority).map_err(PeerError::Chain)?;
    match certificate.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(()),
        _ => Err(PeerError::Chain("found an authority without keyCertSign in its key usage, expected it".into())),
    }
}

fn explain(error: webpki::Error) -> String {
    match error {
        webpki::Error::UnknownIssuer => {
            "found an unknown issuer, expected a chain to a root of the trust bundle".into()
        }
        webpki::Error::CertExpired { not_after, .. } => {
            format!("found a certificate that expired at {} (Unix seconds), expected a valid one", not_after.as_secs())
        }
        webpki::Error::CertNotValidYet { not_before, .. } => format!(
            "found a certificate that is valid from {} (Unix seconds), expected a valid one",
            not_before.as_secs()
        ),
        other => other.to_string(),
    }
}

fn refuse(error: PeerError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for SpiffeServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now.as_secs()).map(|_| ServerCertVerified::assertion()).map_err(refuse)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for SpiffeClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every peer has one SVID, so hints would only tell strangers the names of our roots.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now.as_secs()).map(|_| ClientCertVerified::assertion()).map_err(refuse)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rcgen::{KeyUsagePurpose, SanType};

    use super::*;
    use crate::LeafError;
    use crate::testing::{Authority, LIFE, NOW, RATINGS, REVIEWS};

    fn ids(texts: &[&str]) -> Vec<SpiffeId> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_expected_server_is_accepted_and_no_other() {
        let authority = Authority::new();
        let verifier = SpiffeServerVerifier::new(authority.bundle(), ids(&[RATINGS]));
        let (ratings, _) = authority.leaf(RATINGS);
        let (reviews, _) = authority.leaf(REVIEWS);
        assert_eq!(verifier.check(&ratings, &[], NOW).unwrap().as_str(), RATINGS);
        let error = verifier.check(&reviews, &[], NOW).unwrap_err();
        assert!(error.is_identity());
        assert_eq!(error, PeerError::Unexpected { found: REVIEWS.parse().unwrap(), expected: ids(&[RATINGS]) });
    }

    #[test]
    fn an_alias_of_the_trust_domain_is_accepted_where_it_is_expected() {
        let authority = Authority::new();
        let alias = "spiffe://alias.example/ns/bookinfo/sa/bookinfo-ratings";
        let (ratings, _) = authority.leaf(alias);
        let (reviews, _) = authority.leaf("spiffe://alias.example/ns/bookinfo/sa/bookinfo-reviews");
        let expected = || ids(&[RATINGS, alias]);
        let verifier = SpiffeServerVerifier::with_aliases(authority.bundle(), expected());
        assert_eq!(verifier.check(&ratings, &[], NOW).unwrap().as_str(), alias);
        let error = verifier.check(&reviews, &[], NOW).unwrap_err();
        assert!(matches!(error, PeerError::TrustDomain { .. }) && error.is_identity());
        let (stranger, _) = Authority::new().leaf(alias);
        assert!(matches!(verifier.check(&stranger, &[], NOW), Err(PeerError::Chain(_))));
        // Only where the caller says so: nobody's own SVID is of an alias.
        let strict = SpiffeServerVerifier::new(authority.bundle(), expected());
        assert!(matches!(strict.check(&ratings, &[], NOW), Err(PeerError::TrustDomain { .. })));
    }

    #[test]
    fn an_empty_list_accepts_nobody() {
        let authority = Authority::new();
        let verifier = SpiffeServerVerifier::new(authority.bundle(), vec![]);
        let (ratings, _) = authority.leaf(RATINGS);
        assert!(verifier.check(&ratings, &[], NOW).is_err());
    }

    #[test]
    fn the_dates_are_exact_to_the_second() {
        let authority = Authority::new();
        let verifier = SpiffeClientVerifier::new(authority.bundle());
        let (leaf, _) = authority.leaf(REVIEWS);
        for (now, good) in [(NOW - 61, false), (NOW - 60, true), (NOW + LIFE, true), (NOW + LIFE + 1, false)] {
            let checked = verifier.check(&leaf, &[], now);
            assert_eq!(checked.is_ok(), good, "{now}: {checked:?}");
            if let Err(error) = checked {
                assert!(!error.is_identity());
            }
        }
    }

    #[test]
    fn another_root_another_trust_domain_and_two_names_are_refused() {
        let authority = Authority::new();
        let verifier = SpiffeClientVerifier::new(authority.bundle());

        let (stranger, _) = Authority::new().leaf(REVIEWS);
        assert!(matches!(verifier.check(&stranger, &[], NOW), Err(PeerError::Chain(_))));

        let (foreign, _) = authority.leaf("spiffe://other.example/ns/bookinfo/sa/bookinfo-reviews");
        assert!(matches!(verifier.check(&foreign, &[], NOW), Err(PeerError::TrustDomain { .. })));

        let aliases = vec!["other.example".parse().unwrap()];
        let aliased = SpiffeClientVerifier::with_aliases(authority.bundle(), aliases);
        assert!(aliased.check(&foreign, &[], NOW).is_ok());
        let (third, _) = authority.leaf("spiffe://third.example/ns/bookinfo/sa/bookinfo-reviews");
        assert!(matches!(aliased.check(&third, &[], NOW), Err(PeerError::TrustDomain { .. })));
        assert!(matches!(aliased.check(&stranger, &[], NOW), Err(PeerError::Chain(_))));

        let (twice, _) = authority.leaf_with(REVIEWS, |p| {
            p.subject_alt_names.push(SanType::URI(RATINGS.try_into().unwrap()));
        });
        let error = verifier.check(&twice, &[], NOW).unwrap_err();
        assert_eq!(error, PeerError::Leaf(LeafError::UriNames(2)));
        assert!(error.is_identity());
    }

    #[test]
    fn a_root_is_no_peer_and_an_expired_root_no_anchor() {
        let authority = Authority::new();
        let verifier = SpiffeClientVerifier::new(authority.bundle());
        let root = authority.certificate.der();
        assert!(verifier.check(root, &[], NOW).is_err());

        let old = Authority::with(|p| p.not_after = crate::testing::at(NOW - 1));
        let (leaf, _) = old.leaf(REVIEWS);
        let verifier = SpiffeClientVerifier::new(old.bundle());
        let error = verifier.check(&leaf, &[], NOW).unwrap_err().to_string();
        assert!(error.contains("root of the bundle"), "{error}");
    }

    #[test]
    fn an_authority_that_may_not_sign_certificates_proves_nobody() {
        let root = Authority::new();
        let verifier = SpiffeClientVerifier::new(root.bundle());
        for (usages, good) in [
            (vec![KeyUsagePurpose::KeyCertSign], true),
            (vec![], true),
            (vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature], false),
        ] {
            let between = root.intermediate_with(|p| p.key_usages = usages.clone());
            let (leaf, _) = between.leaf(REVIEWS);
            let checked = verifier.check(&leaf, &[between.certificate.der().clone()], NOW);
            assert_eq!(checked.is_ok(), good, "{usages:?}: {checked:?}");
        }
    }

    #[test]
    fn peer_id_reads_the_leaf() {
        let (leaf, _) = Authority::new().leaf(REVIEWS);
        assert_eq!(peer_id(Some(&[leaf])).unwrap().as_str(), REVIEWS);
        assert_eq!(peer_id(Some(&[])), None);
        assert_eq!(peer_id(None), None);
    }
}
