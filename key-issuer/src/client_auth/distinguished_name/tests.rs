#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

/// A certificate with these attributes, outermost first.
fn subject(attributes: &[(DnType, DnValue)]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in attributes {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn is_that(text: &str, der: &[u8]) -> bool {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    DistinguishedName::parse(text).unwrap().is_that_of(certificate.subject())
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.to_owned())
}

#[test]
fn examples_of_rfc_4514() {
    let text = |value: &str| Value::Text(value.to_owned());
    let parsed = |name: &str| -> Vec<Vec<(String, Value)>> {
        let DistinguishedName(names) = DistinguishedName::parse(name).unwrap();
        names.into_iter().map(|n| n.into_iter().map(|a| (a.oid, a.value)).collect()).collect()
    };
    let (cn, ou, dc, uid) = ("2.5.4.3", "2.5.4.11", "0.9.2342.19200300.100.1.25", "0.9.2342.19200300.100.1.1");
    let one = |oid: &str, value: Value| vec![(oid.to_owned(), value)];
    let example = || [one(dc, text("net")), one(dc, text("example"))];
    for (name, innermost) in [
        ("UID=jsmith,DC=example,DC=net", vec![one(uid, text("jsmith"))]),
        (
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            vec![vec![(ou.to_owned(), text("Sales")), (cn.to_owned(), text("J.  Smith"))]],
        ),
        (r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#, vec![one(cn, text(r#"James "Jim" Smith, III"#))]),
        (r"CN=Before\0dAfter,DC=example,DC=net", vec![one(cn, text("Before\rAfter"))]),
        ("1.3.6.1.4.1.1466.0=#04024869,DC=example,DC=net", {
            vec![one("1.3.6.1.4.1.1466.0", Value::Der(vec![4, 2, 0x48, 0x69]))]
        }),
    ] {
        let expected: Vec<_> = example().into_iter().chain(innermost).collect();
        assert_eq!(parsed(name), expected, "{name}");
    }
    assert_eq!(parsed(r"CN=Lu\C4\8Di\C4\87"), [one(cn, text("Lučić"))]);
    assert_eq!(parsed(r"CN=\ a\ "), [one(cn, text(" a "))]);
    assert_eq!(parsed(r"CN=\#a=b"), [one(cn, text("#a=b"))]);
    assert_eq!(parsed("CN="), [one(cn, text(""))]);
}

#[test]
fn what_is_not_a_name() {
    for bad in [
        "",
        " ",
        "CN",
        "=a",
        "CN=a,",
        "CN=a,,O=b",
        "CN=a+",
        ",CN=a",
        "CN= a",
        "CN=a ",
        "CN=a ,O=b",
        "CN=a;O=b",
        "CN=\"a\"",
        "CN=<a>",
        "CN=a\\",
        "CN=a\\x",
        "CN=a\\f",
        "CN=\\ff",
        "XX=a",
        "1=a",
        "1.=a",
        "01.2=a",
        "CN=#",
        "CN=#0",
        "CN=#zz",
        "CN =a",
        "CN=a\0",
    ] {
        assert!(DistinguishedName::parse(bad).is_err(), "{bad:?}");
    }
    assert!(DistinguishedName::parse(&format!("CN={}", "a".repeat(MAX_BYTES - 3))).is_ok());
    assert!(DistinguishedName::parse(&format!("CN={}", "a".repeat(MAX_BYTES - 2))).is_err());
}

#[test]
fn names_of_certificates() {
    let shown = subject(&[
        (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
        (DnType::OrganizationName, utf8("Bücher, Ltd.")),
        (DnType::CommonName, DnValue::BmpString("réviews".try_into().unwrap())),
    ]);
    for (name, expected) in [
        (r"CN=réviews,O=Bücher\, Ltd.,C=DE", true),
        (r"2.5.4.3=réviews, O=B\C3\BCcher\2C Ltd., C=DE", true),
        (r"CN=réviews,O=#0c0d42c3bc636865722c204c74642e,C=#13024445", true),
        (r"CN=réviews,O=Bücher\, Ltd.,C=#0c024445", false),
        (r"C=DE,O=Bücher\, Ltd.,CN=réviews", false),
        (r"CN=réviews,O=Bücher\, Ltd.,C=de", false),
        (r"CN=réviews,O=Bücher\, Ltd.", false),
        (r"CN=réviews,O=Bücher\, Ltd.,C=DE,C=DE", false),
        (r"CN=réviews+O=Bücher\, Ltd.,C=DE", false),
        (r"OU=réviews,O=Bücher\, Ltd.,C=DE", false),
        // An attacker's name that reads like another one.
        (r"CN=réviews,O=Bücher,2.5.4.3=Ltd.,C=DE", false),
    ] {
        assert_eq!(is_that(name, &shown), expected, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", likely in "[CNO=,+#\\\\ a0-9.]{0,40}") {
        let _ = DistinguishedName::parse(&text);
        let _ = DistinguishedName::parse(&likely);
    }

    /// Whatever a certificate's names are, their escaped text is the certificate's name, and that of no other.
    #[test]
    fn what_is_escaped_comes_back(first in "\\PC{1,12}", second in "\\PC{1,12}", other in "\\PC{1,12}") {
        let escaped = |text: &str| -> String { text.bytes().map(|b| format!("\\{b:02x}")).collect() };
        let name = |first: &str, second: &str| format!("CN={},O={}", escaped(second), escaped(first));
        let shown = subject(&[(DnType::OrganizationName, utf8(&first)), (DnType::CommonName, utf8(&second))]);
        prop_assert!(is_that(&name(&first, &second), &shown));
        prop_assert_eq!(is_that(&name(&first, &other), &shown), other == second);
    }
}
