//! `tls_client_auth`: a certificate of an authority in the domain's truststore, by one name in it (RFC 8705 §2.1).

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;

use super::broken_record;
use super::distinguished_name::DistinguishedName;
use crate::certificate::ClientCertificate;
use crate::client::{CertificateName, ClientRecord};
use crate::refusal::Refusal;

/// Whether the certificate has the client's name.
pub(super) fn fits(record: &ClientRecord, certificate: &ClientCertificate) -> Result<bool, Refusal> {
    let broken = |why: String| broken_record(&record.client_id, &why);
    let name = record.certificate.as_ref().ok_or_else(|| broken("it has no name of a certificate".to_owned()))?;
    check(name).map_err(broken)?;
    Ok(has(certificate, name))
}

/// Whether a client may be registered with this name.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check(name: &CertificateName) -> Result<(), String> {
    match name {
        CertificateName::SubjectDn(dn) => DistinguishedName::parse(dn).map(|_| ()),
        CertificateName::SanIp(ip) => {
            ip.parse::<IpAddr>().map(|_| ()).map_err(|_| "certificate.san_ip is no IP address".to_owned())
        }
        CertificateName::SanDns(text) | CertificateName::SanUri(text) | CertificateName::SanEmail(text) => {
            // IA5String (RFC 5280 §4.2.1.6).
            let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            if good { Ok(()) } else { Err("the name in certificate is not printable ASCII".to_owned()) }
        }
    }
}

/// Names are compared exactly: a name that would only look the same to somebody is another one. DNS names have no case
/// (RFC 5280 §7.2). A wildcard in a certificate is no pattern: it is a name of servers.
fn has(certificate: &ClientCertificate, name: &CertificateName) -> bool {
    let Ok(parsed) = certificate.parsed() else { return false };
    if let CertificateName::SubjectDn(dn) = name {
        return DistinguishedName::parse(dn).is_ok_and(|dn| dn.is_that_of(parsed.subject()));
    }
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return false };
    let names = &extension.value.general_names;
    // A name that cannot be read makes all of them doubtful.
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return false;
    }
    names.iter().any(|found| match (name, found) {
        (CertificateName::SanDns(name), GeneralName::DNSName(found)) => name.eq_ignore_ascii_case(found),
        (CertificateName::SanUri(name), GeneralName::URI(found)) => name == found,
        (CertificateName::SanEmail(name), GeneralName::RFC822Name(found)) => name == found,
        // RFC 8705 §2.1.2: the two are compared in binary, for an IPv6 address has many spellings (RFC 5952 §8).
        (CertificateName::SanIp(name), GeneralName::IPAddress(found)) => match name.parse() {
            Ok(IpAddr::V4(ip)) => ip.octets() == *found,
            Ok(IpAddr::V6(ip)) => ip.octets() == *found,
            Err(_) => false,
        },
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        ClientCertificate::from_pem(&pem, 1_893_456_000).unwrap()
    }

    #[test]
    fn one_name_is_looked_for_and_only_among_its_kind() {
        use CertificateName as N;
        let shown = certificate(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Bookinfo");
            params.distinguished_name.push(DnType::CommonName, "reviews");
            params.subject_alt_names = vec![
                SanType::DnsName("Reviews.bookinfo.example".try_into().unwrap()),
                SanType::DnsName("*.wild.example".try_into().unwrap()),
                SanType::URI("spiffe://cluster.local/ns/bookinfo/sa/reviews".try_into().unwrap()),
                SanType::Rfc822Name("ops@bookinfo.example".try_into().unwrap()),
                SanType::IpAddress("192.0.2.1".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
        });
        let text = str::to_owned;
        for (name, expected) in [
            (N::SubjectDn(text("CN=reviews,O=Bookinfo")), true),
            (N::SubjectDn(text("cn=reviews, o=Bookinfo")), true),
            (N::SubjectDn(text("O=Bookinfo,CN=reviews")), false),
            (N::SubjectDn(text("CN=Reviews,O=Bookinfo")), false),
            (N::SubjectDn(text("CN=reviews")), false),
            (N::SubjectDn(text("O=Bookinfo")), false),
            (N::SubjectDn(text("CN=reviews+O=Bookinfo")), false),
            (N::SanDns(text("reviews.bookinfo.example")), true),
            (N::SanDns(text("reviews.bookinfo.example.")), false),
            (N::SanDns(text("bookinfo.example")), false),
            (N::SanDns(text("a.wild.example")), false),
            (N::SanDns(text("192.0.2.1")), false),
            (N::SanDns(text("reviews")), false),
            (N::SanUri(text("spiffe://cluster.local/ns/bookinfo/sa/reviews")), true),
            (N::SanUri(text("spiffe://cluster.local/ns/bookinfo/sa/Reviews")), false),
            (N::SanUri(text("reviews.bookinfo.example")), false),
            (N::SanEmail(text("ops@bookinfo.example")), true),
            (N::SanEmail(text("Ops@bookinfo.example")), false),
            (N::SanIp(text("192.0.2.1")), true),
            (N::SanIp(text("192.0.2.2")), false),
            (N::SanIp(text("::ffff:192.0.2.1")), false),
            (N::SanIp(text("2001:db8::1")), true),
            (N::SanIp(text("2001:0db8:0000:0000:0000:0000:0000:0001")), true),
            (N::SanIp(text("2001:db8::2")), false),
        ] {
            assert_eq!(has(&shown, &name), expected, "{name:?}");
        }
        let bare = certificate(|params| params.distinguished_name.push(DnType::CommonName, "reviews.bookinfo.example"));
        assert!(!has(&bare, &N::SanDns(text("reviews.bookinfo.example"))), "the CN is no DNS name");
    }

    #[test]
    fn names_that_cannot_be_registered() {
        use CertificateName as N;
        for bad in [
            N::SubjectDn(String::new()),
            N::SubjectDn("reviews".to_owned()),
            N::SanDns(String::new()),
            N::SanUri("spiffe://a b".to_owned()),
            N::SanEmail("é@bookinfo.example".to_owned()),
            N::SanIp("192.0.2".to_owned()),
            N::SanIp("192.0.2.0/24".to_owned()),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
