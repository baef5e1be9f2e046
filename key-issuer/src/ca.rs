//! The certificate authority: an intermediate (or a root) in the shape of Istio's secret `cacerts`.

use identity::issued::{self, Order};
use identity::verify::{SpiffeClientVerifier, SpiffeServerVerifier};
use identity::{Leaf, SpiffeId, TrustBundle, TrustDomain};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::secret_cache::malformed_json;

/// How long an SVID lives, in seconds, unless the authority expires before.
pub const SVID_LIFE_SECONDS: u64 = 3600;
/// How long before its issue an SVID is valid, in seconds, as with istiod: clocks differ.
const BACKDATE_SECONDS: u64 = 120;
/// The most certificates of one PEM text.
const MAX_CERTIFICATES: usize = 20;

/// Istio's file names (`security/pkg/pki/ca/ca.go`). `ca-crl.pem` would mean that something is revoked; there is
/// no place for it yet, so it is refused as every other unknown name is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretFile {
    #[serde(rename = "ca-cert.pem")]
    certificate: String,
    #[serde(rename = "ca-key.pem")]
    key: String,
    #[serde(rename = "root-cert.pem")]
    roots: String,
    #[serde(rename = "cert-chain.pem", default)]
    chain: String,
}

/// The authority, ready to sign.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The signing certificate.
    certificate: CertificateDer<'static>,
    /// From the signing certificate up, without the root.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    roots_pem: String,
    bundle: TrustBundle,
    /// When the first certificate of the chain expires, Unix seconds.
    not_after: u64,
    /// The public keys of the authority and of every certificate above it, the roots that are to come or to go
    /// included.
    keys: Vec<Vec<u8>>,
}

/// A subject's public key with the algorithm that belongs to its own type.
///
/// Not rcgen's key of a CSR, which takes the algorithm from the CSR's *signature*: a P-256 key that signed with
/// SHA-384 would come out as a P-384 key.
pub(crate) struct SubjectKey {
    pub(crate) algorithm: &'static SignatureAlgorithm,
    pub(crate) point: Vec<u8>,
}

impl PublicKeyData for SubjectKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// A new SVID, checked.
#[derive(Debug)]
pub(crate) struct Issued {
    /// PEM: the leaf, the intermediates, and as the last element all roots, unflattened, as in Istio's
    /// `IstioCertificateResponse`.
    pub(crate) chain: Vec<String>,
    /// PEM of all roots.
    pub(crate) bundle: String,
    /// The leaf as our own verifier's crate reads it.
    pub(crate) leaf: Leaf,
}

impl Authority {
    /// Reads the secret and proves it by a certificate that it signs for a key made up for this.
    ///
    /// # Errors
    /// Says which member breaks which rule; the text holds nothing of the secret.
    pub(crate) fn from_secret(secret: &str, trust_domain: &TrustDomain, now: u64) -> Result<Self, String> {
        let file: SecretFile = serde_json::from_str(secret).map_err(|error| malformed_json(&error))?;
        let certificates = certificates("ca-cert.pem", &file.certificate)?;
        let [certificate] = certificates.as_slice() else {
            return Err(format!("ca-cert.pem: found {} certificates, expected one", certificates.len()));
        };
        let roots = self::certificates("root-cert.pem", &file.roots)?;
        let bundle = TrustBundle::from_pem(trust_domain.clone(), file.roots.as_bytes())
            .map_err(|error| format!("root-cert.pem: {error}"))?;
        let intermediates = intermediates(certificate, &roots, &file.chain)?;

        let parsed = parse("ca-cert.pem", certificate)?;
        check_authority(&parsed, trust_domain)?;
        let key = PrivateKeyDer::from_pem_slice(file.key.as_bytes())
            .map_err(|_| "ca-key.pem: expected one private key in PEM".to_owned())?;
        let key =
            KeyPair::try_from(&key).map_err(|_| "ca-key.pem: expected an EC, RSA or Ed25519 private key".to_owned())?;
        if parsed.public_key().subject_public_key.data != key.der_bytes() {
            return Err("ca-key.pem is not the key of ca-cert.pem".to_owned());
        }
        let mut not_after = expiry(&parsed);
        let mut keys = vec![key.der_bytes().to_vec()];
        for certificate in intermediates.iter().chain(&roots) {
            let parsed = parse("cert-chain.pem or root-cert.pem", certificate)?;
            keys.push(parsed.public_key().subject_public_key.data.to_vec());
        }
        for certificate in &intermediates {
            not_after = not_after.min(expiry(&parse("cert-chain.pem", certificate)?));
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key)
            .map_err(|error| format!("ca-cert.pem: its subject cannot be copied: {error}"))?;
        let roots_pem = roots.iter().map(|root| pem("CERTIFICATE", root)).collect();
        let authority =
            Self { issuer, certificate: certificate.clone(), intermediates, roots, roots_pem, bundle, not_after, keys };
        authority.prove(trust_domain, now)?;
        Ok(authority)
    }

    /// All roots that the secret lists: while one replaces the other, both.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// True if this is the authority's own key or one above it. A certificate for it would let its holder, or
    /// whoever reads logs of key ids, take the one for the other; nobody asks for one in good faith.
    pub(crate) fn owns(&self, key: &SubjectKey) -> bool {
        self.keys.contains(&key.point)
    }

    /// Signs a certificate of exactly the profile of an X.509-SVID (SPIFFE X509-SVID, section 4) and lets it out only
    /// if it breaks no [clause](identity::issued::Clause) and our own verifiers accept it.
    ///
    /// # Errors
    /// In words for the operator; the caller has no fault in any of them.
    pub(crate) fn issue(&self, id: &SpiffeId, key: &SubjectKey, serial: [u8; 16], now: u64) -> Result<Issued, String> {
        if self.not_after <= now {
            return Err(format!(
                "the certificate authority expired at {} (Unix seconds); renew the secret",
                self.not_after
            ));
        }
        // RFC 5280 §4.1.2.2: "The serial number MUST be a positive integer".
        if serial == [0; 16] {
            return Err("the random number generator gave zeros".to_owned());
        }
        let failed = |error: rcgen::Error| format!("the certificate cannot be made: {error}");
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let order = Order {
            id,
            public_key: &key.point,
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: self.not_after.min(now.saturating_add(SVID_LIFE_SECONDS)),
        };
        params.not_before = instant(order.not_before)?;
        params.not_after = instant(order.not_after)?;
        // An empty subject: rcgen then marks the SAN critical, which X509-SVID §2 and RFC 5280 §4.1.2.6 want.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(failed)?)];
        // Writes cA=FALSE and the subject key identifier; `NoCa` would write neither.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // For RSA key transport, as istiod sets it; it means nothing for other keys.
        if key.algorithm == &PKCS_RSA_SHA256 {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // rcgen leaves it out unless told.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        let leaf = self.check(certificate.der(), &order, now)?;

        let intermediates = self.intermediates.iter();
        let chain = std::iter::once(pem("CERTIFICATE", certificate.der()))
            .chain(intermediates.map(|certificate| pem("CERTIFICATE", certificate)))
            .chain(std::iter::once(self.roots_pem.clone()))
            .collect();
        Ok(Issued { chain, bundle: self.roots_pem.clone(), leaf })
    }

    /// Invariant 6: what a peer of the mesh will check, and each clause, checked before anybody gets it.
    fn check(&self, leaf: &CertificateDer<'_>, order: &Order<'_>, now: u64) -> Result<Leaf, String> {
        issued::check(leaf, &self.certificate, order)
            .map_err(|clause| format!("the new certificate breaks {clause}"))?;
        SpiffeServerVerifier::new(self.bundle.clone(), vec![order.id.clone()])
            .check(leaf, &self.intermediates, now)
            .map_err(|error| format!("our own verifier refuses the new certificate: {error}"))?;
        SpiffeClientVerifier::new(self.bundle.clone())
            .check(leaf, &self.intermediates, now)
            .map_err(|error| format!("our own verifier refuses the new certificate: {error}"))?;
        Leaf::parse(leaf).map_err(|error| error.to_string())
    }

    fn prove(&self, trust_domain: &TrustDomain, now: u64) -> Result<(), String> {
        let probe: SpiffeId = format!("spiffe://{trust_domain}/causeway/self-test")
            .parse()
            .map_err(|error| format!("the trust domain makes no SPIFFE ID: {error}"))?;
        let pair = KeyPair::generate().map_err(|error| format!("no key can be made: {error}"))?;
        let key = SubjectKey { algorithm: pair.algorithm(), point: pair.der_bytes().to_vec() };
        self.issue(&probe, &key, [1; 16], now).map(|_| ())
    }
}

/// The certificates to send between leaf and root. Istio's `cert-chain.pem` starts with `ca-cert.pem` and may end in
/// the root, which a peer must know already; a self-signed authority needs no chain.
fn intermediates(
    certificate: &CertificateDer<'static>,
    roots: &[CertificateDer<'static>],
    chain: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    if chain.trim().is_empty() {
        return if roots.contains(certificate) {
            Ok(Vec::new())
        } else {
            Err("cert-chain.pem: empty, but ca-cert.pem is not one of the roots".to_owned())
        };
    }
    let mut chain = certificates("cert-chain.pem", chain)?;
    if chain.first() != Some(certificate) {
        return Err("cert-chain.pem: expected ca-cert.pem as its first certificate".to_owned());
    }
    chain.retain(|certificate| !roots.contains(certificate));
    Ok(chain)
}

/// X509-SVID §4: what makes a signing certificate.
fn check_authority(certificate: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), String> {
    let wrong = |why: &str| format!("ca-cert.pem: {why}");
    let basic = certificate.basic_constraints().map_err(|error| wrong(&error.to_string()))?;
    if !basic.is_some_and(|basic| basic.value.ca) {
        return Err(wrong("found no certificate authority, expected basicConstraints with cA"));
    }
    let usage = certificate.key_usage().map_err(|error| wrong(&error.to_string()))?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(wrong("found no keyCertSign, which X509-SVID §4.3 requires"));
    }
    let names = certificate.subject_alternative_name().map_err(|error| wrong(&error.to_string()))?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name
            && *uri != format!("spiffe://{trust_domain}")
        {
            return Err(wrong("found a URI name of another trust domain"));
        }
    }
    // rcgen keeps a subject's attributes in a map: a subject that has one twice would be copied wrongly, and a
    // certificate whose issuer is not the authority's subject byte for byte leads nowhere.
    let mut types = Vec::new();
    for rdn in certificate.subject().iter_rdn() {
        let mut attributes = rdn.iter();
        match (attributes.next(), attributes.next()) {
            (Some(one), None) if !types.contains(one.attr_type()) => types.push(one.attr_type().clone()),
            _ => {
                return Err(wrong(
                    "found a subject with an attribute twice or a multi-valued RDN; that is not supported yet",
                ));
            }
        }
    }
    Ok(())
}

fn certificates(member: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .take(MAX_CERTIFICATES + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{member}: expected certificates in PEM"))?;
    if certificates.is_empty() || certificates.len() > MAX_CERTIFICATES {
        return Err(format!("{member}: found {} certificates, expected 1 to {MAX_CERTIFICATES}", certificates.len()));
    }
    Ok(certificates)
}

fn parse<'a>(member: &str, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(format!("{member}: found no X.509 certificate in the PEM text")),
    }
}

fn expiry(certificate: &X509Certificate<'_>) -> u64 {
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
}

fn instant(unix: u64) -> Result<OffsetDateTime, String> {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .ok_or_else(|| "the clock is set to an impossible time".to_owned())
}

/// PEM with lines of 64 characters (RFC 7468 §2).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (place, character) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}
