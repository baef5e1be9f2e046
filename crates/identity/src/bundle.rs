//! The roots that a trust domain's certificates lead to.

use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::error::BundleError;
use crate::leaf::{parse_certificate, unix};
use crate::pem;
use crate::spiffe_id::TrustDomain;

/// The roots of one trust domain. Roots of other trust domains never mix with these: an SVID is believed
/// only when it leads to a root of its own trust domain's bundle (X509-SVID §5).
#[derive(Clone, Debug)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Vec<Root>,
}

#[derive(Clone, Debug)]
struct Root {
    anchor: TrustAnchor<'static>,
    not_before: u64,
    not_after: u64,
}

impl TrustBundle {
    /// Reads the roots out of PEM text: one or more `CERTIFICATE` sections.
    ///
    /// # Errors
    /// When the text has no certificate, or one that cannot be a root: no CA, without keyCertSign, or with
    /// another trust domain's SPIFFE ID.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<TrustBundle, BundleError> {
        let certificates = pem::certificates(text).map_err(BundleError::Pem)?;
        let mut roots = Vec::with_capacity(certificates.len());
        for (place, certificate) in certificates.iter().enumerate() {
            let root = Root::parse(certificate, &trust_domain)
                .map_err(|reason| BundleError::Root { index: place + 1, reason })?;
            roots.push(root);
        }
        Ok(TrustBundle { trust_domain, roots })
    }

    /// Whose roots these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots that are valid at `now` (Unix seconds). webpki does not look at a root's dates, and a mesh
    /// proxy does: a root that has expired proves nothing.
    pub(crate) fn anchors(&self, now: u64) -> Vec<TrustAnchor<'static>> {
        let valid = |root: &&Root| root.not_before <= now && now <= root.not_after;
        let roots = self.roots.iter().filter(valid);
        roots.map(|root| root.anchor.clone()).collect()
    }
}

impl Root {
    fn parse(der: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<Root, String> {
        let certificate = parse_certificate(der)?;
        match certificate.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => {}
            _ => return Err("found no CA certificate, expected cA=true".into()),
        }
        match certificate.key_usage() {
            // X509-SVID §4.3: a signing certificate "MUST set keyCertSign".
            Ok(Some(usage)) if usage.value.key_cert_sign() => {}
            _ => return Err("found no keyCertSign in the key usage, expected it".into()),
        }
        check_names(&certificate, trust_domain)?;
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|error| error.to_string())?;
        Ok(Root {
            anchor: anchor.to_owned(),
            not_before: unix(certificate.validity().not_before.timestamp()),
            not_after: unix(certificate.validity().not_after.timestamp()),
        })
    }
}

/// A root may name its trust domain, and then it must be this one: `spiffe://<trust domain>`, without a path.
fn check_names(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
    trust_domain: &TrustDomain,
) -> Result<(), String> {
    let Some(names) = certificate.subject_alternative_name().map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let own = format!("spiffe://{trust_domain}");
    for name in &names.value.general_names {
        if let x509_parser::extensions::GeneralName::URI(uri) = name
            && uri.starts_with("spiffe://")
            && *uri != own
        {
            return Err(format!("found the name {uri:?}, expected {own:?} or none"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rcgen::{KeyUsagePurpose, SanType};

    use super::*;
    use crate::testing::{Authority, NOW, REVIEWS, at};

    fn bundle(pem: &str) -> Result<TrustBundle, BundleError> {
        TrustBundle::from_pem("cluster.local".parse().unwrap(), pem.as_bytes())
    }

    #[test]
    fn several_roots_make_one_bundle() {
        let pem = Authority::new().certificate.pem() + &Authority::new().certificate.pem();
        let bundle = bundle(&pem).unwrap();
        assert_eq!(bundle.anchors(NOW).len(), 2);
        assert_eq!(bundle.trust_domain().as_str(), "cluster.local");
    }

    #[test]
    fn an_expired_root_is_no_anchor() {
        let authority = Authority::with(|p| p.not_after = at(NOW - 1));
        assert_eq!(authority.bundle().anchors(NOW).len(), 0);
        assert_eq!(authority.bundle().anchors(NOW - 1).len(), 1);
    }

    #[test]
    fn what_cannot_be_a_root_is_refused() {
        let leaf = Authority::new().leaf(REVIEWS).0;
        let leaf = Root::parse(&leaf, &"cluster.local".parse().unwrap());
        assert!(leaf.unwrap_err().contains("cA=true"));

        let no_sign = Authority::with(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]);
        let found = bundle(&no_sign.certificate.pem()).unwrap_err().to_string();
        assert!(found.contains("certificate 1") && found.contains("keyCertSign"), "{found}");

        let other = Authority::with(|p| {
            p.subject_alt_names = vec![SanType::URI("spiffe://other.example".try_into().unwrap())];
        });
        let found = bundle(&other.certificate.pem()).unwrap_err().to_string();
        assert!(found.contains("spiffe://other.example"), "{found}");
    }

    #[test]
    fn a_root_may_name_its_own_trust_domain() {
        let own = Authority::with(|p| {
            p.subject_alt_names = vec![SanType::URI("spiffe://cluster.local".try_into().unwrap())];
        });
        assert!(bundle(&own.certificate.pem()).is_ok());
    }

    #[test]
    fn text_without_a_certificate_is_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(bundle(text), Err(BundleError::Pem(_))), "{text:?}");
        }
        let huge = "x".repeat(256 * 1024 + 1);
        assert!(matches!(bundle(&huge), Err(BundleError::Pem(_))));
    }
}
