//! A trust store of Java: PKCS #12 (RFC 7292) with certificates alone, without a password.
//!
//! There is nothing secret in it, so nothing is encrypted, and there is no MAC: Java reads such a store without a
//! password (JDK-8076190, in Java 8 since 8u301 and in 11 since 11.0.12), which is how it reads
//! `javax.net.ssl.trustStore` where no password is given.

use rustls_pki_types::CertificateDer;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag, construct_der};

/// RFC 7292 4.1: `data` of PKCS #7.
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
/// RFC 7292 4.2: `certBag`.
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
/// RFC 7292 4.2.3: `x509Certificate`.
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
/// RFC 2985 5.5.1: `friendlyName`, Java's alias.
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
/// Oracle's mark of a certificate that is trusted: without it Java passes the certificate over.
const TRUSTED_KEY_USAGE: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
/// RFC 5280 4.2.1.12: `anyExtendedKeyUsage`.
const ANY_USAGE: &[u64] = &[2, 5, 29, 37, 0];

/// The store of these certificates.
pub(super) fn of(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let bags = construct_der(|writer| {
        writer.write_sequence_of(|writer| {
            for (number, certificate) in certificates.iter().enumerate() {
                bag(writer.next(), certificate, &format!("causeway-{number}"));
            }
        });
    });
    let safes = construct_der(|writer| writer.write_sequence_of(|writer| data(writer.next(), &bags)));
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &safes);
        });
    })
}

fn data(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(DATA));
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
    });
}

fn bag(writer: DERWriter<'_>, certificate: &[u8], alias: &str) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(CERTIFICATE_BAG));
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_oid(&oid(X509));
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            attribute(writer.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(alias));
            attribute(writer.next(), TRUSTED_KEY_USAGE, |writer| writer.write_oid(&oid(ANY_USAGE)));
        });
    });
}

fn attribute(writer: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(name));
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}

fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_store_of_version_3_without_a_mac() {
        let store = of(&[CertificateDer::from(vec![0x30, 0]), CertificateDer::from(vec![0x30, 1, 5])]);
        yasna::parse_der(&store, |reader| {
            reader.read_sequence(|reader| {
                assert_eq!(reader.next().read_u8()?, 3);
                reader.next().read_sequence(|reader| {
                    assert_eq!(reader.next().read_oid()?, oid(DATA));
                    reader.next().read_tagged(Tag::context(0), |reader| reader.read_bytes())
                })
            })
        })
        .unwrap();
        for part in [
            &[0x30, 0][..],
            &[0x30, 1, 5],
            "causeway-1".encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>().as_slice(),
        ] {
            assert!(store.windows(part.len()).any(|window| window == part));
        }
    }
}
