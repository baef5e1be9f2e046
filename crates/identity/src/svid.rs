//! An X.509-SVID of our own: chain and private key.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroize;

use crate::error::SvidError;
use crate::leaf::{Leaf, parse_certificate};
use crate::pem;
use crate::spiffe_id::SpiffeId;

/// Our X.509-SVID: the leaf has the profile and the private key is the leaf's. Whether a peer would believe
/// it is what [`crate::store::Store::publish`] finds out before anybody uses it.
///
/// The private key is held by the TLS library alone, which erases it on drop; there is no way to read it.
#[derive(Clone)]
pub struct Svid {
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Makes an SVID from PEM text: the chain (leaf first) and its private key, which may be in the same text.
    ///
    /// # Errors
    /// When a text cannot be read, the leaf does not have the profile or the key is not the leaf's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Svid, SvidError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| SvidError::Key)?;
        Svid::from_chain_and_key(chain, key)
    }

    /// Makes an SVID from a chain in PEM text (leaf first) and a private key that never was text.
    ///
    /// # Errors
    /// As [`Svid::from_pem`].
    pub fn from_chain_and_key(chain: &[u8], key: PrivateKeyDer<'static>) -> Result<Svid, SvidError> {
        let chain = pem::certificates(chain).map_err(SvidError::Pem)?;
        Svid::from_der(chain, key)
    }

    /// Makes an SVID from DER: the chain (leaf first) and its private key. A self-signed certificate after the
    /// leaf is the root, which a peer must know already: it is not sent.
    ///
    /// # Errors
    /// When the leaf does not have the profile or the key is not the leaf's.
    pub fn from_der(
        mut chain: Vec<CertificateDer<'static>>,
        mut key: PrivateKeyDer<'static>,
    ) -> Result<Svid, SvidError> {
        // By reference, so that our copy of the key can be erased as soon as the TLS library has its own.
        let loaded = any_supported_type(&key).map_err(|_| SvidError::Key);
        key.zeroize();
        let first = chain.first().ok_or_else(|| SvidError::Pem("found no certificate, expected the leaf".into()))?;
        let leaf = Leaf::parse(first)?;
        let mut place = 0;
        chain.retain(|certificate| {
            place += 1;
            place == 1 || !is_root(certificate)
        });
        let certified = CertifiedKey::new(chain, loaded?);
        certified.keys_match().map_err(|_| SvidError::KeyMismatch)?;
        Ok(Svid { leaf, certified: Arc::new(certified) })
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// First second of validity, Unix time.
    pub fn not_before(&self) -> u64 {
        self.leaf.not_before
    }

    /// Last second of validity, Unix time.
    pub fn not_after(&self) -> u64 {
        self.leaf.not_after
    }

    /// The leaf's serial number in lower-case hexadecimal.
    pub fn serial_hex(&self) -> &str {
        &self.leaf.serial_hex
    }

    /// The chain that a peer gets: leaf first, root not included.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.leaf.id)
            .field("serial", &self.leaf.serial_hex)
            .field("not_after", &self.leaf.not_after)
            .finish_non_exhaustive()
    }
}

/// A root signs itself. An intermediate authority may well carry the root's name, and then the key identifiers differ.
fn is_root(certificate: &CertificateDer<'_>) -> bool {
    let Ok(certificate) = parse_certificate(certificate) else { return false };
    let (mut own_key, mut signing_key) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => own_key = Some(key.0),
            ParsedExtension::AuthorityKeyIdentifier(key) => {
                signing_key = key.key_identifier.as_ref().map(|key| key.0);
            }
            _ => {}
        }
    }
    let same_name = certificate.issuer().as_raw() == certificate.subject().as_raw();
    same_name && signing_key.is_none_or(|key| own_key == Some(key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::LeafError;
    use crate::testing::{Authority, LIFE, NOW, RATINGS, REVIEWS};

    #[test]
    fn the_root_is_not_sent() {
        let authority = Authority::new();
        let (leaf, key) = authority.leaf(REVIEWS);
        let chain = vec![leaf, authority.certificate.der().clone()];
        let svid = Svid::from_der(chain, key).unwrap();
        assert_eq!(svid.chain().len(), 1);
        assert_eq!(svid.id().as_str(), REVIEWS);
        assert_eq!((svid.not_before(), svid.not_after()), (NOW - 60, NOW + LIFE));
    }

    #[test]
    fn an_intermediate_with_the_roots_name_is_sent() {
        let root = Authority::new();
        let between = root.intermediate();
        let (leaf, key) = between.leaf(REVIEWS);
        let chain = vec![leaf, between.certificate.der().clone(), root.certificate.der().clone()];
        let svid = Svid::from_der(chain, key).unwrap();
        assert_eq!(svid.chain()[1..], [between.certificate.der().clone()]);
        assert!(crate::Store::new().publish(svid, root.bundle(), NOW).is_ok());
    }

    #[test]
    fn the_key_must_be_the_leafs() {
        let authority = Authority::new();
        let (leaf, _) = authority.leaf(REVIEWS);
        let (_, other_key) = authority.leaf(RATINGS);
        assert!(matches!(Svid::from_der(vec![leaf], other_key), Err(SvidError::KeyMismatch)));
    }

    #[test]
    fn a_bad_leaf_a_bad_key_and_no_leaf_are_refused() {
        let authority = Authority::new();
        let (_, key) = authority.leaf(REVIEWS);
        let root = authority.certificate.der().clone();
        assert!(matches!(Svid::from_der(vec![root], key.clone_key()), Err(SvidError::Leaf(LeafError::UriNames(0)))));
        assert!(matches!(Svid::from_der(vec![], key), Err(SvidError::Pem(_))));
        let pem = authority.certificate.pem();
        assert!(matches!(Svid::from_pem(pem.as_bytes(), b"no key"), Err(SvidError::Key)));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", Authority::new().svid(REVIEWS));
        assert!(shown.contains(REVIEWS) && !shown.contains("key"), "{shown}");
    }
}
