//! The profile of an X.509-SVID's leaf certificate.
//!
//! Says what a certificate claims, not whether anybody should believe it: the signature chain is
//! [`crate::verify`]'s job.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_EXT_KEY_USAGE;
use x509_parser::prelude::FromDer;

use crate::error::LeafError;
use crate::spiffe_id::SpiffeId;

/// A leaf certificate with the profile of an X.509-SVID. Who signed it has not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The one URI SAN.
    pub id: SpiffeId,
    /// First second of validity, Unix time.
    pub not_before: u64,
    /// Last second of validity, Unix time.
    pub not_after: u64,
    /// The serial number in lower-case hexadecimal.
    pub serial_hex: String,
}

impl Leaf {
    /// Reads a certificate and checks the profile: exactly one URI SAN that is a workload's SPIFFE ID,
    /// no CA, critical key usage with digitalSignature and without keyCertSign and cRLSign, extended key
    /// usage absent or with both serverAuth and clientAuth.
    ///
    /// # Errors
    /// Names the first rule that the certificate breaks.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Leaf, LeafError> {
        let certificate = parse_certificate(der).map_err(LeafError::Encoding)?;
        let id = spiffe_id(&certificate)?;
        check_is_no_ca(&certificate)?;
        check_key_usage(&certificate)?;
        check_extended_key_usage(&certificate)?;
        let validity = certificate.validity();
        Ok(Leaf {
            id,
            not_before: unix(validity.not_before.timestamp()),
            not_after: unix(validity.not_after.timestamp()),
            serial_hex: hex(certificate.raw_serial()),
        })
    }
}

/// One whole DER certificate and nothing after it.
pub(crate) fn parse_certificate<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes too many", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn unix(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        Ok(None) => return Err(LeafError::UriNames(0)),
        Err(error) => return Err(LeafError::Encoding(error.to_string())),
    };
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // A name that cannot be read might be a second URI: refuse rather than skip.
            GeneralName::Invalid(..) => {
                return Err(LeafError::Encoding("a subject alternative name".into()));
            }
            // "An X.509 SVID MAY contain any number of other SAN field types, including DNS SANs" (§2).
            _ => {}
        }
    }
    match uris.as_slice() {
        [one] => Ok(one.parse()?),
        // "Validators encountering an SVID containing more than one URI SAN MUST reject the SVID" (§2).
        several => Err(LeafError::UriNames(several.len())),
    }
}

fn check_is_no_ca(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => Err(LeafError::CertificateAuthority),
        Ok(_) => Ok(()),
        Err(error) => Err(LeafError::Encoding(error.to_string())),
    }
}

fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let critical = certificate
        .get_extension_unique(&OID_X509_EXT_KEY_USAGE)
        .map_err(|error| LeafError::Encoding(error.to_string()))?
        .is_some_and(|extension| extension.critical);
    let usage = match certificate.key_usage() {
        Ok(Some(usage)) if critical => usage.value,
        Ok(_) => return Err(LeafError::KeyUsageMissing),
        Err(error) => return Err(LeafError::Encoding(error.to_string())),
    };
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(LeafError::SigningKeyUsage);
    }
    match usage.digital_signature() {
        true => Ok(()),
        false => Err(LeafError::NoDigitalSignature),
    }
}

fn check_extended_key_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.server_auth && usage.value.client_auth => Ok(()),
        Ok(Some(_)) => Err(LeafError::ExtendedKeyUsage),
        Err(error) => Err(LeafError::Encoding(error.to_string())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

    use super::*;
    use crate::testing::{Authority, LIFE, NOW, REVIEWS};

    #[test]
    fn a_good_leaf_says_who_it_is_and_for_how_long() {
        let (certificate, _) = Authority::new().leaf(REVIEWS);
        let leaf = Leaf::parse(&certificate).unwrap();
        assert_eq!(leaf.id.as_str(), REVIEWS);
        assert_eq!(leaf.not_before, NOW - 60);
        assert_eq!(leaf.not_after, NOW + LIFE);
        assert!(!leaf.serial_hex.is_empty());
    }

    #[test]
    fn each_rule_of_the_profile_is_checked() {
        type Change = fn(&mut rcgen::CertificateParams);
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let table: [(&str, Change, LeafError); 10] = [
            ("no SAN", |p| p.subject_alt_names.clear(), LeafError::UriNames(0)),
            (
                "only a DNS name",
                |p| p.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())],
                LeafError::UriNames(0),
            ),
            (
                "two URI names",
                |p| {
                    let second = "spiffe://cluster.local/ns/bookinfo/sa/admin";
                    p.subject_alt_names.push(SanType::URI(second.try_into().unwrap()));
                },
                LeafError::UriNames(2),
            ),
            (
                "a trust domain instead of a workload",
                |p| p.subject_alt_names = vec![SanType::URI("spiffe://td".try_into().unwrap())],
                LeafError::Id(crate::SpiffeIdError::NoPath),
            ),
            (
                "another scheme",
                |p| p.subject_alt_names = vec![SanType::URI("https://td/a".try_into().unwrap())],
                LeafError::Id(crate::SpiffeIdError::Scheme),
            ),
            ("a CA", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), LeafError::CertificateAuthority),
            ("no key usage", |p| p.key_usages.clear(), LeafError::KeyUsageMissing),
            ("keyCertSign", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), LeafError::SigningKeyUsage),
            (
                "no digitalSignature",
                |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
                LeafError::NoDigitalSignature,
            ),
            (
                "clientAuth alone",
                |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
                LeafError::ExtendedKeyUsage,
            ),
        ];
        let authority = Authority::new();
        for (name, change, expected) in table {
            let (certificate, _) = authority.leaf_with(REVIEWS, change);
            assert_eq!(Leaf::parse(&certificate), Err(expected), "{name}");
        }
        // What the standard allows besides: DNS names, and no extended key usage at all.
        let (certificate, _) = authority.leaf_with(REVIEWS, |p| {
            p.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap()), uri(REVIEWS)];
            p.extended_key_usages.clear();
        });
        assert!(Leaf::parse(&certificate).is_ok());
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let (certificate, _) = Authority::new().leaf(REVIEWS);
        let mut bytes = certificate.as_ref().to_vec();
        bytes.push(0);
        assert!(matches!(Leaf::parse(&CertificateDer::from(bytes)), Err(LeafError::Encoding(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_bytes_make_the_parser_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let _ = Leaf::parse(&CertificateDer::from(noise.clone()));
            let (certificate, _) = crate::testing::SHARED.with(|a| a.leaf(REVIEWS));
            let mut bytes = certificate.as_ref().to_vec();
            let start = at.index(bytes.len());
            for (byte, new) in bytes[start..].iter_mut().zip(noise) {
                *byte = new;
            }
            let _ = Leaf::parse(&CertificateDer::from(bytes));
        }
    }
}
