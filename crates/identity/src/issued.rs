//! What an authority checks of an X.509-SVID before anybody gets it: clause by clause, on the bytes of the certificate
//! and not on what it was made from.
//!
//! Stricter than [`Leaf`](crate::Leaf), which reads what others issue: whatever a clause leaves open is closed here.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME};

use crate::leaf::{parse_certificate, unix};
use crate::spiffe_id::SpiffeId;

/// How many octets a serial number may have (RFC 5280 §4.1.2.2), the sign octet of our 128 bits included.
const MAX_SERIAL_BYTES: usize = 20;

/// What the certificate was ordered to be.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Whose certificate it is.
    pub id: &'a SpiffeId,
    /// The content of the subject's public key (the BIT STRING of the SubjectPublicKeyInfo).
    pub public_key: &'a [u8],
    /// The first second of its validity, in seconds since 1970.
    pub not_before: u64,
    /// The last second of its validity.
    pub not_after: u64,
}

/// A clause that a certificate breaks. The text names the document and the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Clause {
    /// Not one DER certificate.
    #[error("RFC 5280 4.1: expected one DER certificate")]
    Encoding,
    /// No X.509 version 3.
    #[error("RFC 5280 4.1.2.1: expected version 3")]
    Version,
    /// Zero, negative or too long.
    #[error("RFC 5280 4.1.2.2: expected a positive serial number of at most 20 octets")]
    Serial,
    /// Another issuer than the signer's subject, or none.
    #[error("RFC 5280 4.1.2.4: expected the signer's subject as issuer")]
    Issuer,
    /// Other dates than ordered.
    #[error("RFC 5280 4.1.2.5: expected the ordered validity, within that of the signer")]
    Validity,
    /// A subject: the SPIFFE ID is the only name.
    #[error("X509-SVID 2: expected an empty subject")]
    Subject,
    /// Another key than the one of the request.
    #[error("RFC 5280 4.1.2.7: expected the subject's own public key")]
    Key,
    /// Another name than the SPIFFE ID, or more than one.
    #[error("X509-SVID 2: expected the SPIFFE ID as the one URI name, and no other name")]
    Name,
    /// The SAN is not critical, though the subject is empty.
    #[error("RFC 5280 4.1.2.6: expected a critical subjectAltName beside an empty subject")]
    NameCritical,
    /// No basicConstraints, or cA.
    #[error("X509-SVID 4.1: expected cA=false")]
    BasicConstraints,
    /// keyUsage is absent or not critical, lacks digitalSignature or has what only signers have.
    #[error(
        "X509-SVID 4.3: expected a critical keyUsage of digitalSignature, with keyEncipherment or keyAgreement at most"
    )]
    KeyUsage,
    /// extendedKeyUsage is anything but serverAuth and clientAuth.
    #[error("X509-SVID 4.4: expected serverAuth and clientAuth in extendedKeyUsage, and no other")]
    ExtendedKeyUsage,
    /// No authorityKeyIdentifier, or not that of the signer.
    #[error("RFC 5280 4.2.1.1: expected the signer's subjectKeyIdentifier as authorityKeyIdentifier")]
    AuthorityKeyIdentifier,
    /// No subjectKeyIdentifier.
    #[error("RFC 5280 4.2.1.2: expected one subjectKeyIdentifier")]
    SubjectKeyIdentifier,
    /// An extension that nobody ordered, or one twice.
    #[error("RFC 5280 4.2: expected each of the six extensions of an SVID once, and no other")]
    Extensions,
}

/// Checks a new certificate against its order and its signer's certificate. The signature is the verifiers' to check.
///
/// # Errors
/// The first clause that it breaks.
pub fn check(leaf: &CertificateDer<'_>, signer: &CertificateDer<'_>, order: &Order<'_>) -> Result<(), Clause> {
    let leaf = parse_certificate(leaf).map_err(|_| Clause::Encoding)?;
    let signer = parse_certificate(signer).map_err(|_| Clause::Encoding)?;
    let holds = |holds: bool, clause: Clause| if holds { Ok(()) } else { Err(clause) };
    holds(leaf.version().0 == 2, Clause::Version)?;
    holds(is_positive(leaf.raw_serial()), Clause::Serial)?;
    holds(leaf.issuer().as_raw() == signer.subject().as_raw() && signer.subject().iter().count() > 0, Clause::Issuer)?;
    holds(valid_as_ordered(&leaf, &signer, order), Clause::Validity)?;
    holds(leaf.subject().iter().count() == 0, Clause::Subject)?;
    holds(leaf.public_key().subject_public_key.data.as_ref() == order.public_key, Clause::Key)?;
    check_extensions(&leaf, &signer, order)
}

/// DER writes integers in two's complement and as short as possible.
fn is_positive(serial: &[u8]) -> bool {
    serial.len() <= MAX_SERIAL_BYTES
        && serial.first().is_some_and(|first| *first < 0x80)
        && serial.iter().any(|b| *b != 0)
}

fn valid_as_ordered(leaf: &X509Certificate<'_>, signer: &X509Certificate<'_>, order: &Order<'_>) -> bool {
    let times = |of: &X509Certificate<'_>| {
        (unix(of.validity().not_before.timestamp()), unix(of.validity().not_after.timestamp()))
    };
    let (from, until) = times(leaf);
    (from, until) == (order.not_before, order.not_after) && from < until && until <= times(signer).1
}

fn check_extensions(leaf: &X509Certificate<'_>, signer: &X509Certificate<'_>, order: &Order<'_>) -> Result<(), Clause> {
    let holds = |holds: bool, clause: Clause| if holds { Ok(()) } else { Err(clause) };
    let critical = |oid| leaf.get_extension_unique(&oid).ok().flatten().is_some_and(|extension| extension.critical);

    let names = leaf.subject_alternative_name().ok().flatten().ok_or(Clause::Name)?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return Err(Clause::Name) };
    holds(*uri == order.id.as_str(), Clause::Name)?;
    holds(critical(OID_X509_EXT_SUBJECT_ALT_NAME), Clause::NameCritical)?;

    let basic = leaf.basic_constraints().ok().flatten().ok_or(Clause::BasicConstraints)?;
    holds(!basic.value.ca && basic.value.path_len_constraint.is_none(), Clause::BasicConstraints)?;

    let usage = leaf.key_usage().ok().flatten().ok_or(Clause::KeyUsage)?.value;
    let others = [
        usage.non_repudiation(),
        usage.data_encipherment(),
        usage.key_cert_sign(),
        usage.crl_sign(),
        usage.encipher_only(),
        usage.decipher_only(),
    ];
    let only = usage.digital_signature() && !others.contains(&true);
    holds(only && critical(OID_X509_EXT_KEY_USAGE), Clause::KeyUsage)?;

    let extended = leaf.extended_key_usage().ok().flatten().ok_or(Clause::ExtendedKeyUsage)?.value;
    let others = [
        extended.any,
        extended.code_signing,
        extended.email_protection,
        extended.time_stamping,
        extended.ocsp_signing,
        !extended.other.is_empty(),
    ];
    holds(extended.server_auth && extended.client_auth && !others.contains(&true), Clause::ExtendedKeyUsage)?;

    let signer_id = subject_key_identifiers(signer);
    let authority: Vec<_> = leaf
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        })
        .collect();
    // A signer without an identifier of its own (an old root) leaves nothing to compare with.
    holds(authority.len() == 1 && (signer_id.is_empty() || signer_id == authority), Clause::AuthorityKeyIdentifier)?;
    holds(subject_key_identifiers(leaf).len() == 1, Clause::SubjectKeyIdentifier)?;
    // All six have been found once, so six in all are these.
    holds(leaf.extensions().len() == 6, Clause::Extensions)
}

fn subject_key_identifiers<'a>(of: &'a X509Certificate<'_>) -> Vec<&'a [u8]> {
    let extensions = of.extensions().iter();
    let ids = extensions.filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
        SanType, SerialNumber,
    };

    use super::*;
    use crate::testing::{Authority, LIFE, NOW, RATINGS, REVIEWS, at};

    fn checked(change: impl FnOnce(&mut CertificateParams)) -> Result<(), Clause> {
        let authority = Authority::new();
        let (leaf, _) = authority.leaf_with(REVIEWS, |params| {
            params.use_authority_key_identifier_extension = true;
            change(params);
        });
        against(&leaf, authority.certificate.der(), REVIEWS, None)
    }

    fn against(
        leaf: &CertificateDer<'_>,
        signer: &CertificateDer<'_>,
        id: &str,
        key: Option<&[u8]>,
    ) -> Result<(), Clause> {
        let own = parse_certificate(leaf).unwrap().public_key().subject_public_key.data.to_vec();
        let (id, public_key) = (id.parse().unwrap(), key.unwrap_or(&own));
        check(leaf, signer, &Order { id: &id, public_key, not_before: NOW - 60, not_after: NOW + LIFE })
    }

    #[test]
    fn a_certificate_as_ordered_passes() {
        assert_eq!(checked(|_| ()), Ok(()));
        assert_eq!(checked(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), Ok(()));
        assert_eq!(checked(|p| p.serial_number = Some(SerialNumber::from_slice(&[0xff; 16]))), Ok(()));
    }

    #[test]
    fn each_clause_is_named_by_what_breaks_it() {
        type Change = fn(&mut CertificateParams);
        let cases: &[(&str, Change, Clause)] = &[
            ("zero", |p| p.serial_number = Some(SerialNumber::from_slice(&[0; 16])), Clause::Serial),
            ("a long serial", |p| p.serial_number = Some(SerialNumber::from_slice(&[1; 21])), Clause::Serial),
            ("begins later", |p| p.not_before = at(NOW), Clause::Validity),
            ("lives longer", |p| p.not_after = at(NOW + LIFE + 1), Clause::Validity),
            ("a name", |p| p.distinguished_name.push(DnType::CommonName, "x"), Clause::Subject),
            ("no SAN", |p| p.subject_alt_names.clear(), Clause::Name),
            ("another id", |p| p.subject_alt_names = vec![SanType::URI(RATINGS.try_into().unwrap())], Clause::Name),
            ("two ids", |p| p.subject_alt_names.push(SanType::URI(RATINGS.try_into().unwrap())), Clause::Name),
            (
                "a DNS name",
                |p| p.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap())),
                Clause::Name,
            ),
            ("no basicConstraints", |p| p.is_ca = IsCa::NoCa, Clause::BasicConstraints),
            ("an authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), Clause::BasicConstraints),
            ("no keyUsage", |p| p.key_usages.clear(), Clause::KeyUsage),
            ("no signatures", |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement], Clause::KeyUsage),
            ("keyCertSign", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), Clause::KeyUsage),
            ("cRLSign", |p| p.key_usages.push(KeyUsagePurpose::CrlSign), Clause::KeyUsage),
            ("contentCommitment", |p| p.key_usages.push(KeyUsagePurpose::ContentCommitment), Clause::KeyUsage),
            ("no EKU", |p| p.extended_key_usages.clear(), Clause::ExtendedKeyUsage),
            (
                "server only",
                |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
                Clause::ExtendedKeyUsage,
            ),
            ("any", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any), Clause::ExtendedKeyUsage),
            ("code", |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning), Clause::ExtendedKeyUsage),
            ("no AKI", |p| p.use_authority_key_identifier_extension = false, Clause::AuthorityKeyIdentifier),
            (
                "one more",
                |p| {
                    p.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9, 1], vec![5, 0])]
                },
                Clause::Extensions,
            ),
        ];
        for (name, change, clause) in cases {
            assert_eq!(checked(change), Err(*clause), "{name}");
        }
    }

    #[test]
    fn another_signer_another_name_and_another_key_are_found() {
        let (authority, other) =
            (Authority::new(), Authority::with(|p| p.distinguished_name.push(DnType::CommonName, "o")));
        let (leaf, _) = authority.leaf_with(REVIEWS, |p| p.use_authority_key_identifier_extension = true);
        let signer = authority.certificate.der();
        assert_eq!(against(&leaf, signer, REVIEWS, None), Ok(()));
        assert_eq!(against(&leaf, signer, RATINGS, None), Err(Clause::Name));
        assert_eq!(against(&leaf, signer, REVIEWS, Some(b"another")), Err(Clause::Key));
        assert_eq!(against(&leaf, other.certificate.der(), REVIEWS, None), Err(Clause::Issuer));
        let twin = Authority::new();
        assert_eq!(against(&leaf, twin.certificate.der(), REVIEWS, None), Err(Clause::AuthorityKeyIdentifier));
        let short = Authority::with(|p| p.not_after = at(NOW + LIFE - 1));
        let (leaf, _) = short.leaf_with(REVIEWS, |p| p.use_authority_key_identifier_extension = true);
        assert_eq!(against(&leaf, short.certificate.der(), REVIEWS, None), Err(Clause::Validity));
        let order = Order { id: &REVIEWS.parse().unwrap(), public_key: b"", not_before: 0, not_after: 1 };
        assert_eq!(check(&CertificateDer::from(vec![1, 2]), signer, &order), Err(Clause::Encoding));
    }

    #[test]
    fn a_name_that_is_not_critical_is_found() {
        // Beside a subject the SAN is not critical; the subject is what is reported, so look at the SAN alone.
        let authority = Authority::new();
        let (leaf, _) = authority.leaf_with(REVIEWS, |p| p.distinguished_name.push(DnType::CommonName, "x"));
        let (leaf, signer) =
            (parse_certificate(&leaf).unwrap(), parse_certificate(authority.certificate.der()).unwrap());
        let order = Order { id: &REVIEWS.parse().unwrap(), public_key: b"", not_before: 0, not_after: 0 };
        assert_eq!(check_extensions(&leaf, &signer, &order), Err(Clause::NameCritical));
    }
}
